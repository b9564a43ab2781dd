"""A world without Kafka: logs, committed offsets, disks and a clock, in which the real runners run and can be killed anywhere.

What survives a kill is what survives it in production: records that the broker has (in order per producer and partition, so
always a prefix of what was produced), rows that were written to a disk, offsets that were committed.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from prometheus_client import CollectorRegistry

from pipeline.engine.lease import Lease
from pipeline.engine.metrics import GroupMetrics, Metrics
from pipeline.engine.rows import newest
from pipeline.engine.runner import Runner
from pipeline.engine.stage import Group
from schemas.codec import Codec
from schemas.identity import partition_of

PARTITIONS = 2
NOW_MS = 1_760_000_000_000


class Crash(BaseException):
    """The process was killed here."""


@dataclass(frozen=True, slots=True)
class Record:
    topic: str
    partition: int
    offset: int
    timestamp: int
    key: bytes | None
    value: bytes | None
    headers: Sequence[tuple[str, bytes]] = ()


class Broker:
    """Topics as lists of records per partition."""

    def __init__(self) -> None:
        #: Its clock: every record is stamped with it, as LogAppendTime does.
        self.now_ms = NOW_MS
        self.logs: dict[tuple[str, int], list[Record]] = defaultdict(list)

    def append(
        self, topic: str, value: bytes | None, key: bytes | None, partition: int = -1, headers: Any = ()
    ) -> Record:
        if partition < 0:
            partition = partition_of(key or b"", PARTITIONS)
        log = self.logs[topic, partition]
        record = Record(topic, partition, len(log), self.now_ms, key, value, tuple(headers))
        log.append(record)
        return record

    def all(self, topic: str) -> list[Record]:
        return [record for partition in range(PARTITIONS) for record in self.logs[topic, partition]]


@dataclass
class Disk:
    """One partition's rows and the changelog offset they include; it survives kills."""

    rows: dict[bytes, bytes] = field(default_factory=dict)
    offset: int = -1

    def get(self, key: bytes) -> bytes | None:
        return self.rows.get(key)

    def write(self, rows: Mapping[bytes, bytes | None]) -> None:
        for key, row in rows.items():
            if row is None:
                self.rows.pop(key, None)
            else:
                self.rows[key] = row


class Process:
    """One worker process of one group: a real runner between a broker and disks. ``step`` may raise :class:`Crash`."""

    def __init__(self, world: World, group: Group) -> None:
        self.world = world
        self.group = group
        self.pending: list[tuple[Any, ...]] = []
        self.position: dict[tuple[str, int], int] = {}
        self.last: dict[tuple[str, int], int] = {}
        self.crash_at: tuple[str, float] | None = None
        table = group.table
        if table is not None:
            for partition in range(PARTITIONS):
                self._recover(table.changelog, world.disks[table.name, partition], partition)
        self.runner = Runner(
            group,
            output=self,  # type: ignore[arg-type]
            store_of=self._store_of,
            lease=Lease(3600.0),
            codec=world.codec,
            metrics=GroupMetrics(world.metrics, tuple(stage.name for stage in group.stages)),
            partitions=PARTITIONS,
            dead_letter_topic="payments.dead-letter.v1",
            fail=world.fail,
            handed_over=lambda topic, at: (self.position[topic, at], self.last.get((topic, at))),
        )
        for stage in group.stages:
            for partition in range(PARTITIONS):
                tp = (stage.source, partition)
                self.position[tp] = world.committed.get((group.name, *tp), 0)
        if table is not None:
            self.runner.recover_alarms(range(PARTITIONS))
        ends = {tp: len(world.broker.logs[tp]) for tp in self.position}
        self.runner.resume(
            ends, {tp[1]: end for tp, end in ends.items() if tp[0] == group.first and end}, range(PARTITIONS)
        )

    def _recover(self, changelog: str, disk: Disk, partition: int) -> None:
        later = self.world.broker.logs[changelog, partition][disk.offset + 1 :]
        keys = {record.key for record in later}
        written = newest(((record.key, record.value) for record in later), {key: disk.get(key) for key in keys})
        disk.write(written)
        disk.offset += len(later)

    def _store_of(self, partition: int) -> Any:
        process, disk = self, self.world.disks[self.group.table.name, partition]  # type: ignore[union-attr]

        class Store:
            get = staticmethod(disk.get)
            items = staticmethod(lambda: list(disk.rows.items()))

            @staticmethod
            def keys_after(key: bytes, count: int) -> list[bytes]:
                return sorted(each for each in disk.rows if each > key)[:count]

            @staticmethod
            def write(rows: Mapping[bytes, bytes | None], changelog_offset: int | None) -> None:
                process.maybe_crash("store")
                disk.write(rows)
                if changelog_offset is not None:
                    disk.offset = changelog_offset

        return Store()

    # -- the output ---------------------------------------------------------------------------------------------------

    def produce(
        self, topic: str, value: bytes | None, key: bytes | None, partition: int = -1, headers: Any = ()
    ) -> None:
        self.pending.append((topic, value, key, partition, headers))

    async def delivered(self) -> None:
        crash = self.crash_at is not None and self.crash_at[0] == "deliver"
        # Killed while sending: of each partition the broker has a prefix, cut elsewhere for each partition.
        share = self.crash_at[1] if self.crash_at is not None else 1.0
        by_partition: dict[tuple[str, int], list[tuple[Any, ...]]] = defaultdict(list)
        for topic, value, key, partition, headers in self.pending:
            to = partition if partition >= 0 else partition_of(key or b"", PARTITIONS)
            by_partition[topic, to].append((topic, value, key, to, headers))
        self.pending.clear()
        for number, records in enumerate(by_partition.values()):
            kept = len(records)
            if crash:
                kept = int(kept * ((share * (1 + 0.37 * number)) % 1.0))
            for record in records[:kept]:
                self.world.broker.append(*record)
        if crash:
            raise Crash
        self.maybe_crash("delivered")

    async def begins(self, partitions: Iterable[tuple[str, int]]) -> dict[tuple[str, int], int]:
        return dict.fromkeys(partitions, 0)

    async def ends(self, partitions: Iterable[tuple[str, int]]) -> dict[tuple[str, int], int]:
        return {tp: len(self.world.broker.logs[tp]) for tp in partitions}

    def maybe_crash(self, point: str) -> None:
        if self.crash_at is not None and self.crash_at[0] == point:
            self.crash_at = None
            raise Crash

    # -- a cycle ------------------------------------------------------------------------------------------------------

    def lag(self) -> int:
        return sum(len(self.world.broker.logs[tp]) - at for tp, at in self.position.items())

    async def step(self, take: int, crash_at: tuple[str, float] | None, checkpoint: bool, record: bool) -> None:
        """One cycle over at most ``take`` records of each partition; ``record`` what came before it, or let it wait."""
        self.crash_at = crash_at
        if checkpoint:
            self.runner._checkpoint_at = 0.0
        for tp, at in self.position.items():
            records = self.world.broker.logs[tp][at : at + take]
            if records:
                self.runner.add(_Batch(self, tp, records, self.last.get(tp)))  # type: ignore[arg-type]
                self.position[tp], self.last[tp] = at + len(records), records[-1].offset
        self.runner.ring(self.world.broker.now_ms + self.world.clock_ahead_ms)
        await self.runner.step(self.runner._take(), record=record)
        self.maybe_crash("end")


@dataclass
class _Batch:
    process: Process
    tp: tuple[str, int]
    records: list[Record]
    previous: int | None = None

    @property
    def topic(self) -> str:
        return self.tp[0]

    @property
    def partition(self) -> int:
        return self.tp[1]

    def ack(self) -> None:
        self.process.maybe_crash("ack")
        self.process.world.committed[(self.process.group.name, *self.tp)] = self.records[-1].offset + 1


class World:
    """Broker, disks, committed offsets, and one process per group."""

    def __init__(self, groups: Callable[[], Sequence[Group]], codec: Codec) -> None:
        self.codec = codec
        self.metrics = Metrics(CollectorRegistry())
        self.broker = Broker()
        self.disks: dict[tuple[str, int], Disk] = defaultdict(Disk)
        self.committed: dict[tuple[Any, ...], int] = {}
        self._groups = groups
        self.kills = 0
        #: How far the clocks of workers are ahead of the broker's.
        self.clock_ahead_ms = 0
        self.processes = {group.name: Process(self, group) for group in groups()}

    def fail(self, message: str) -> None:
        raise AssertionError(message)

    def kill(self, name: str) -> None:
        """The process dies with everything in its memory; another one starts."""
        self.kills += 1
        group = next(group for group in self._groups() if group.name == name)
        self.processes[name] = Process(self, group)

    async def step(
        self,
        name: str,
        take: int = 1000,
        crash_at: tuple[str, float] | None = None,
        checkpoint: bool = False,
        record: bool = True,
    ) -> None:
        """One cycle of one process; a crash in it kills and restarts it."""
        try:
            await self.processes[name].step(take, crash_at, checkpoint, record)
        except Crash:
            self.kill(name)

    async def settle(self) -> None:
        """Cycles until nothing waits anywhere, bounded."""
        for _ in range(300):
            for name in self.processes:
                await self.step(name)
            if not any(
                process.lag() or process.runner._waiting or process.runner._before
                for process in self.processes.values()
            ):
                return
            await asyncio.sleep(0)
        raise AssertionError("the pipeline does not come to rest")
