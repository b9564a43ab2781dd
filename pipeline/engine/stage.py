"""What a shell declares: stages, and the groups of stages that share a table and so a cycle."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

from pipeline.engine.alarms import Alarms
from pipeline.engine.rows import Rows

T = TypeVar("T")


class RawRecord(Protocol):
    """A record as the consumer gives it (:class:`pipeline.engine.records.Record`)."""

    topic: str
    partition: int
    offset: int
    #: Epoch milliseconds: the broker's where the topic says LogAppendTime, else the producer's.
    timestamp: int
    key: bytes | None
    value: bytes | None
    headers: Sequence[tuple[str, bytes]]


class Work(Protocol):
    """What a handler may do. Decide first; then change rows and emit, so that a failed decision leaves nothing behind."""

    #: Rows of the record's partition, of the group's table.
    rows: Rows[Any]
    #: Number of partitions of the record's topic.
    partitions: int
    #: When the batch of the record was taken, epoch milliseconds: before it waited in its topic.
    taken_at_ms: int

    def emit(self, topic: str, value: bytes, key: bytes) -> None:
        """Publish; durable before the record is acknowledged. Never an event of a repeat."""

    def attempt(self, handle: Callable[[Any, Work], T], record: RawRecord) -> T | None:
        """``handle(record, self)`` for one record of a batch; None when it failed and the record is a dead letter."""

    def dead_letter(self, record: RawRecord, error: str, detail: str) -> None:
        """Give up on a record: it goes to the dead letters as it came."""

    def repost(self, record: RawRecord, key: bytes) -> None:
        """The record came under the wrong key or partition: post it again under ``key``, counted."""

    def maybe_called(self, record: RawRecord) -> bool:
        """Whether an earlier owner of the partition may have handled this record without acknowledging it."""

    async def record(self) -> None:
        """Return when what was emitted so far, and then the rows saved so far, are durable: before what must not be begun
        unless it is known. Call it before a row is changed that is not to be recorded yet."""

    async def hold(self) -> None:
        """Wait until this worker surely owns its partitions; before anything that cannot be fenced."""

    def holds(self) -> bool:
        """Whether it surely owns them right now."""

    async def until(self, at_ms: int) -> None:
        """Wait until ``at_ms`` (epoch milliseconds); raises :class:`Abandoned` when the partition is given away first."""

    async def wait_while(self, held: Callable[[], bool]) -> None:
        """Wait as long as ``held()``; raises :class:`Abandoned` when the partition is given away first. No row
        may say yet that what waits was handled: rows are kept whatever became of their batch."""


class Abandoned(Exception):
    """The partition is being given away while a handler waits: nothing was done, nothing is acknowledged."""


Handle = Callable[[Any, Work], None]
HandleBatch = Callable[[Sequence[Any], Work], Awaitable[None]]


class Background(Protocol):
    """Work on the rows of a table that no record asks for, done in short steps between the cycles of its group."""

    async def step(self, work: Work) -> bool:
        """Do a little for the partition of ``work.rows``, some milliseconds of it at once; whether anything was done.

        What it emits and saves is durable as in a handler: outputs before rows. After a crash a step is repeated.
        """


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """One stage: which topic, and what is done with each record, or with a whole batch where calls leave the process."""

    name: str
    source: str
    handle: Handle | None = None
    handle_batch: HandleBatch | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """A table of the engine: rows by key, one changelog topic."""

    name: str
    changelog: str
    row_type: type[Any]
    #: Rows of one partition that are kept decoded; many only where the same ones come again and again.
    rows_kept_max: int = 2_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """Stages that share a table share a cycle, a cache and a producer; a stage without a table stands alone."""

    name: str
    stages: tuple[Stage, ...]
    table: Table | None = None
    #: What goes through the rows beside the records; only with a table.
    background: Background | None = None
    #: Records may wait in it on purpose or long for an answer: few are read ahead, the rest stay in Kafka, and lag is no sign
    #: of a stall while a handler waits or goes on. Such groups without a table share one producer.
    waits: bool = False
    #: Its partitions are handled side by side, and small batches of one partition together, for it waits for others most of the
    #: time; times of partitions add up in the metrics.
    side_by_side: bool = False
    #: A source of which, after partitions were assigned, all that was there is handled before the group's other sources of
    #: the same partition: what these say rests on it.
    first: str = ""
    #: Due times of the table's rows, and what is posted when one has come.
    alarms: Alarms | None = None
