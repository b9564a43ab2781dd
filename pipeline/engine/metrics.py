"""What the engine counts, per batch and never per event: names, labels and meaning are in docs/operations.md."""

from __future__ import annotations

from prometheus_client import REGISTRY, CollectorRegistry, Counter, Gauge, Histogram


class Metrics:
    """The metrics of one worker."""

    def __init__(self, registry: CollectorRegistry = REGISTRY) -> None:
        self.records = Counter("ptr_records", "Records handled", ["stage"], registry=registry)
        self.seconds = Counter("ptr_stage_seconds", "Wall time in handlers", ["stage"], registry=registry)
        self.cpu_seconds = Counter("ptr_stage_cpu_seconds", "CPU time in handlers", ["stage"], registry=registry)
        self.dead = Counter("ptr_dead_letters", "Records given up", ["stage", "error"], registry=registry)
        self.reposted = Counter(
            "ptr_reposted", "Records posted again under the right key", ["stage"], registry=registry
        )
        self.batch_records = Histogram(
            "ptr_batch_records", "Records in a batch", ["stage"], buckets=(1, 4, 16, 64, 256, 1000), registry=registry
        )
        self.lag = Gauge("ptr_lag_records", "Records not yet committed", ["topic"], registry=registry)
        self.ready = Gauge("ptr_ready", "1 when partitions are assigned and recovered", registry=registry)


class GroupMetrics:
    """The metrics of one runner, labels looked up once."""

    def __init__(self, metrics: Metrics, stages: tuple[str, ...]) -> None:
        self._metrics = metrics
        self._of = {
            name: (
                metrics.records.labels(name),
                metrics.seconds.labels(name),
                metrics.cpu_seconds.labels(name),
                metrics.batch_records.labels(name),
            )
            for name in stages
        }

    def handled(self, stage: str, records: int, seconds: float, cpu_seconds: float) -> None:
        """A batch was handled."""
        count, wall, cpu, size = self._of[stage]
        count.inc(records)
        wall.inc(seconds)
        cpu.inc(cpu_seconds)
        size.observe(records)

    def dead_letters(self, stage: str, error: str) -> None:
        """A record was given up."""
        self._metrics.dead.labels(stage, error).inc()

    def reposted(self, stage: str) -> None:
        """A record was posted again under the right key."""
        self._metrics.reposted.labels(stage).inc()
