"""What the engine counts, per batch and never per event: names, labels and meaning are in docs/operations.md."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import partial

from prometheus_client import REGISTRY, CollectorRegistry, Counter, Gauge, Histogram

from connectors.pic.breaker import State
from schemas.records import ListUpdated


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
        self.waiting = Gauge("ptr_waiting_rows", "Rows that wait for their time", ["table"], registry=registry)
        self.overdue = Gauge("ptr_overdue_rows", "Of them, those whose time has come", ["table"], registry=registry)
        self.ready = Gauge("ptr_ready", "1 when partitions are assigned and recovered", registry=registry)
        self.list_info = Gauge("ptr_list_info", "1 for the version in use", ["list", "version"], registry=registry)
        self.list_entries = Gauge("ptr_list_entries", "Entries of the list", ["list"], registry=registry)
        self.list_age = Gauge("ptr_list_age_seconds", "Time since its source made it", ["list"], registry=registry)
        self.list_stale = Gauge("ptr_list_stale", "1 when it is older than its limit", ["list"], registry=registry)
        self.rescreened = Counter("ptr_parties_rescreened", "Known parties screened again", registry=registry)
        self.flagged = Counter("ptr_parties_flagged", "Known parties like a new entry", ["list"], registry=registry)
        self.rescreening_failed = Counter(
            "ptr_rescreening_failures", "Known parties that could not be screened again", ["error"], registry=registry
        )
        self.rescreening = Gauge(
            "ptr_rescreening_partitions", "Partitions whose parties are being screened again", registry=registry
        )
        self.rescreening_step = Histogram(
            "ptr_rescreening_step_seconds",
            "Time that a step of rescreening holds everything else up",
            buckets=(0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.5),
            registry=registry,
        )
        self.rules_failed = Counter("ptr_rules_failed", "Conditions not evaluated", ["tenant"], registry=registry)
        self.rules_shadowed = Counter(
            "ptr_rules_shadowed", "Payments that shadow rules decided too", ["tenant", "result"], registry=registry
        )
        self.lists_refused = Counter("ptr_lists_refused", "Versions not taken up", ["list"], registry=registry)
        self.model_info = Gauge(
            "ptr_fraud_model_info", "1 for the model in each role", ["role", "version"], registry=registry
        )
        self.models_refused = Counter("ptr_fraud_models_refused", "Models that cannot be used", registry=registry)
        self.model_rows = Counter("ptr_fraud_model_rows", "Rows scored by models", registry=registry)
        self.model_seconds = Counter("ptr_fraud_model_seconds", "Wall time in models", registry=registry)
        self.unscored = Counter("ptr_fraud_unscored", "Rows that a model gave no score", ["why"], registry=registry)
        self.snoozes_ignored = Counter(
            "ptr_fraud_snoozes_ignored", "Snoozed rules without effect", ["why"], registry=registry
        )
        self.notifications = Counter(
            "ptr_notifications", "Notifications of PICs, and what became of them", ["pic", "result"], registry=registry
        )
        self.notification_seconds = Histogram(
            "ptr_notification_seconds",
            "From a notification's receipt until Kafka has it",
            buckets=(0.01, 0.05, 0.1, 0.5, 1, 5, 10),
            registry=registry,
        )
        self.pic_in_flight = Gauge("ptr_pic_in_flight", "Calls not answered yet", ["pic"], registry=registry)
        self.pic_breaker_state = Gauge(
            "ptr_pic_breaker_state", "0 closed, 1 half open, 2 open", ["pic"], registry=registry
        )
        self.pic_paused = Gauge("ptr_pic_paused", "1 while nothing is called there", ["pic"], registry=registry)
        self.pic_calls = Counter(
            "ptr_pic_calls", "Calls by what became of them", ["pic", "call", "outcome"], registry=registry
        )
        self.pic_seconds = Histogram(
            "ptr_pic_call_seconds",
            "Time until a PIC answered, or did not",
            ["pic"],
            buckets=(0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0),
            registry=registry,
        )


class GroupMetrics:
    """The metrics of one runner, labels looked up once; ``table`` is the group's, or empty."""

    def __init__(self, metrics: Metrics, stages: tuple[str, ...], table: str = "") -> None:
        self._metrics = metrics
        self._table = table
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

    def waiting(self, rows: int, overdue: int) -> None:
        """So many rows of the table wait for their time, and of so many it has come."""
        self._metrics.waiting.labels(self._table).set(rows)
        self._metrics.overdue.labels(self._table).set(overdue)

    def reposted(self, stage: str) -> None:
        """A record was posted again under the right key."""
        self._metrics.reposted.labels(stage).inc()


class RescreeningMetrics:
    """How rescreening goes (agents/parties.py)."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics
        self._under_way: set[int] = set()

    def stepped(self, partition: int, parties: int, seconds: float, *, finished: bool) -> None:
        """A step looked at so many parties of a partition, and was the last one or not."""
        self._metrics.rescreened.inc(parties)
        self._metrics.rescreening_step.observe(seconds)
        (self._under_way.discard if finished else self._under_way.add)(partition)
        self._metrics.rescreening.set(len(self._under_way))

    def flagged(self, list_id: str) -> None:
        """A known party is like somebody on this list."""
        self._metrics.flagged.labels(list_id).inc()

    def failed(self, error: str) -> None:
        """A party could not be screened."""
        self._metrics.rescreening_failed.labels(error).inc()


class ListMetrics:
    """What becomes of sanctions lists: told by a ListBook (connectors/lists/book.py), in the thread that reads."""

    def __init__(self, metrics: Metrics, age_limit_s: Callable[[str], int]) -> None:
        self._metrics = metrics
        self._age_limit_s = age_limit_s

    def without_topic(self, name: str, version: str, entries: int) -> None:
        """What is in use until a list of the topic is: the sample, or files."""
        self._metrics.list_info.labels(name, version).set(1)
        self._metrics.list_entries.labels(name).set(entries)

    def in_force(self, heads: Sequence[ListUpdated]) -> None:
        """These versions are in use, and no other."""
        metrics = self._metrics
        metrics.list_info.clear()
        metrics.list_entries.clear()
        for head in heads:
            metrics.list_info.labels(head.list, head.version).set(1)
            metrics.list_entries.labels(head.list).set(head.entries)
            if head.entries == 0:  # Out of use: it does not grow stale.
                for gauge in (metrics.list_age, metrics.list_stale):
                    with suppress(KeyError):
                        gauge.remove(head.list)
                continue
            # Asked when somebody looks: a list grows old without anything happening.
            metrics.list_age.labels(head.list).set_function(partial(_age_s, head.source_at_ms))
            metrics.list_stale.labels(head.list).set_function(
                partial(_is_older, head.source_at_ms, self._age_limit_s(head.list))
            )

    def refused(self, list_id: str) -> None:
        """A version is not taken up."""
        self._metrics.lists_refused.labels(list_id).inc()


class ModelMetrics:
    """What becomes of fraud models, and how they run: told by a ModelBook and a Scorer (connectors/models)."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics

    def in_force(self, champion: str, challenger: str) -> None:
        """These versions were promoted last."""
        self._metrics.model_info.clear()
        for role, version in (("champion", champion), ("challenger", challenger)):
            if version:
                self._metrics.model_info.labels(role, version).set(1)

    def refused(self) -> None:
        """A model cannot be used."""
        self._metrics.models_refused.inc()

    def scored(self, rows: int, seconds: float) -> None:
        """So many rows took so long."""
        self._metrics.model_rows.inc(rows)
        self._metrics.model_seconds.inc(seconds)

    def failed(self, why: str, rows: int) -> None:
        """So many rows got no score."""
        self._metrics.unscored.labels(why).inc(rows)


class SnoozeMetrics:
    """What becomes of snoozed fraud rules: told by a SnoozeBook (connectors/snoozes/book.py), in the thread that reads."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics

    def ignored(self, why: str) -> None:
        """A snooze has no effect."""
        self._metrics.snoozes_ignored.labels(why).inc()


#: What ``ptr_pic_breaker_state`` says.
BREAKER_STATES: dict[State, int] = {"closed": 0, "half_open": 1, "open": 2}


class PicMetrics:
    """How calls to one PIC go (:class:`connectors.pic.watched.CallsWatch`), and whether it is ``paused``."""

    def __init__(self, metrics: Metrics, pic: str, paused: Callable[[], bool]) -> None:
        self._metrics = metrics
        self._pic = pic
        self._seconds = metrics.pic_seconds.labels(pic)
        metrics.pic_paused.labels(pic).set_function(paused)

    def follow(self, in_flight: Callable[[], int], breaker: Callable[[], State]) -> None:
        """Where to ask how many calls are in flight, and what the breaker does; asked when somebody looks."""
        self._metrics.pic_in_flight.labels(self._pic).set_function(in_flight)
        self._metrics.pic_breaker_state.labels(self._pic).set_function(lambda: BREAKER_STATES[breaker()])

    def answered(self, call: str, outcomes: Mapping[str, int]) -> None:
        """A batch ended."""
        for outcome, calls in outcomes.items():
            self._metrics.pic_calls.labels(self._pic, call, outcome).inc(calls)

    def took(self, seconds: float) -> None:
        """A call was made and took so long."""
        self._seconds.observe(seconds)


class RuleMetrics:
    """What becomes of business rules (:class:`agents.context.RulesWatch`): told only by payments that it concerns."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics

    def failed(self, tenant: str) -> None:
        """A condition could not be evaluated."""
        self._metrics.rules_failed.labels(tenant).inc()

    def shadowed(self, tenant: str, *, differs: bool) -> None:
        """Shadow rules decided a payment too."""
        self._metrics.rules_shadowed.labels(tenant, "differs" if differs else "same").inc()


def _age_s(source_at_ms: int) -> float:
    return time.time() - source_at_ms / 1000


def _is_older(source_at_ms: int, limit_s: int) -> float:
    return float(_age_s(source_at_ms) > limit_s)
