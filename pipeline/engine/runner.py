"""The cycle: take what waits, decide, publish, wait for the broker, then record.

Per group, with N the current cycle:

1. publish the rows of cycle N-1 to the changelog and the outputs of cycle N, and wait until the broker has them;
2. store the rows of N-1 in RocksDB with their changelog offset, in one write;
3. acknowledge the batches of N-1.

A crash before 1 has ended repeats N and N-1: their outputs may be in the topics twice, and the readers' fences drop the
second. A crash between 1 and 3 repeats N-1, whose rows say so. Outputs are always durable before the row that says "done",
and the row before the offset.

The runner knows no Faust: it is given its output, stores, lease and metrics, and runs in the simulation as it is.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Protocol

from pipeline.engine.dead_letters import dead_letter
from pipeline.engine.lease import Lease
from pipeline.engine.metrics import GroupMetrics
from pipeline.engine.rows import Rows, Store
from pipeline.engine.stage import Abandoned, Group, RawRecord, Stage
from schemas.codec import Codec, UndecodableError
from schemas.identity import partition_of
from schemas.reasons import Error

#: Batches taken at most in one cycle; without a limit a cycle after an outage takes half a million records.
CYCLE_BATCHES_MAX = 24
#: Records a small cycle: below it the next one waits a little, so that trickles do not cost a core.
SMALL_CYCLE_RECORDS = 16
SMALL_CYCLE_PAUSE_S = 0.002
#: Rows of a cycle are published with the next cycle, or after this.
ROWS_LINGER_S = 0.05
#: How often the changelog's end is asked for; recovery after a kill reads what came later.
CHECKPOINT_INTERVAL_S = 5.0
#: A rebalance or a stop waits this long for the cycle under way.
DRAIN_TIMEOUT_S = 6.0
REPOSTED = "ptr-reposted"


class Output(Protocol):
    """Where the runner publishes (:class:`pipeline.engine.output.KafkaOutput`)."""

    produce: Callable[..., None]

    async def delivered(self) -> None: ...

    async def ends(self, partitions: Iterable[tuple[str, int]]) -> dict[tuple[str, int], int]: ...


class Batch(Protocol):
    """Records of one partition and how to acknowledge them."""

    topic: str
    partition: int
    records: Sequence[RawRecord]
    #: Offset of the record before the first one, as read; None right after the position was set.
    previous: int | None

    def ack(self) -> None: ...


class _Work:
    """What a handler sees: the rows of one partition and the way out (:class:`pipeline.engine.stage.Work`)."""

    rows: Rows[Any]

    def __init__(self, runner: Runner, stage: Stage) -> None:
        self._runner = runner
        self._stage = stage
        self.partitions = runner.partitions
        self.emit: Callable[[str, bytes, bytes], None] = runner.output.produce

    def dead_letter(self, record: RawRecord, error: str, detail: str) -> None:
        runner = self._runner
        letter, key = dead_letter(record, self._stage.name, error, detail, runner.codec)
        runner.output.produce(runner.dead_letter_topic, letter, key)
        runner.metrics.dead_letters(self._stage.name, error)

    def repost(self, record: RawRecord, key: bytes) -> None:
        if any(name == REPOSTED for name, _ in record.headers):
            self.dead_letter(record, Error.WRONG_PARTITION_TWICE, f"partition {record.partition} of {self.partitions}")
            return
        headers = [*record.headers, (REPOSTED, f"{record.partition}:{record.offset}".encode())]
        self._runner.output.produce(
            record.topic, record.value, key, partition_of(key, self.partitions), headers=headers
        )
        self._runner.metrics.reposted(self._stage.name)

    def maybe_called(self, record: RawRecord) -> bool:
        return record.offset < self._runner.owned_from.get((record.topic, record.partition), 0)

    def holds(self) -> bool:
        return self._runner.lease.fresh()

    async def hold(self) -> None:
        await self._runner.lease.hold()

    async def until(self, at_ms: int) -> None:
        while (wait_s := at_ms / 1000 - time.time()) > 0:
            if self._runner.draining:
                raise Abandoned
            await asyncio.sleep(min(wait_s, 0.2))


class Runner:
    """Runs one group. ``add`` what arrives; ``start`` the loop; ``drain`` before partitions are given away."""

    def __init__(
        self,
        group: Group,
        *,
        output: Output,
        store_of: Callable[[int], Store],
        lease: Lease,
        codec: Codec,
        metrics: GroupMetrics,
        partitions: int,
        dead_letter_topic: str,
        fail: Callable[[str], None],
    ) -> None:
        self.group = group
        self.output = output
        self.lease = lease
        self.codec = codec
        self.metrics = metrics
        self.partitions = partitions
        self.dead_letter_topic = dead_letter_topic
        #: For each source partition the log's end when it was assigned: records before it may have been called.
        self.owned_from: dict[tuple[str, int], int] = {}
        self.draining = False
        #: Monotonic time of the last sign of progress, for the watchdog.
        self.progress_at = time.monotonic()
        self._store_of = store_of
        self._fail = fail
        self._waiting: list[Batch] = []
        self._last: dict[tuple[str, int], int] = {}
        self._wake = asyncio.Event()
        self._room = asyncio.Event()
        self._room.set()
        self._rows: dict[int, Rows[Any]] = {}
        self._before: list[Batch] = []
        self._before_rows: list[Rows[Any]] = []
        self._stages = {stage.source: stage for stage in group.stages}
        self._work = {stage.source: _Work(self, stage) for stage in group.stages}
        self._checkpoint_at = time.monotonic() + CHECKPOINT_INTERVAL_S
        self._task: asyncio.Task[None] | None = None
        self._idle = asyncio.Event()
        self._idle.set()
        self._in_flight: set[asyncio.Task[None]] = set()
        self._last_parallel: asyncio.Task[None] | None = None

    # -- taking -------------------------------------------------------------------------------------------------------

    def add(self, batch: Batch) -> None:
        """A batch arrived."""
        if self.draining:
            return  # It is fetched again by whoever owns the partition then.
        source = (batch.topic, batch.partition)
        if batch.previous is not None and batch.previous != self._last.get(source):
            # Acknowledging what follows would commit past it.
            self._fail(
                f"{batch.topic} partition {batch.partition}: records before offset {batch.previous} went missing"
            )
            return
        self._last[source] = batch.records[-1].offset
        self._waiting.append(batch)
        self._wake.set()
        if len(self._waiting) >= CYCLE_BATCHES_MAX:
            self._room.clear()

    async def room(self) -> None:
        """Return when another batch may be added."""
        await self._room.wait()

    @property
    def busy(self) -> bool:
        """Whether something was taken and is not acknowledged yet."""
        return bool(self._waiting or self._before or self._in_flight or not self._idle.is_set())

    def rows(self, partition: int) -> Rows[Any]:
        """The rows of an assigned partition."""
        rows = self._rows.get(partition)
        if rows is None:
            table = self.group.table
            assert table is not None
            rows = self._rows[partition] = Rows(self._store_of(partition), partition, table.changelog, table.row_type)
        return rows

    # -- the loop -----------------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Start the loop. Any exception in it ends the process: a runner that died silently would stall everything."""
        if self._task is None:
            self._task = asyncio.get_running_loop().create_task(self._run())
            self._task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled():
            error = task.exception()
            self._fail(f"{self.group.name}: {type(error).__name__}: {error}")

    async def _run(self) -> None:
        while True:
            if not self._waiting:
                await self._rest()
            self._idle.clear()
            taken = self._take()
            if self.group.parallel > 1:
                await self._start_parallel(taken)
                continue
            await self.step(taken)
            if taken and sum(len(batch.records) for batch in taken) < SMALL_CYCLE_RECORDS:
                await asyncio.sleep(SMALL_CYCLE_PAUSE_S)

    async def _rest(self) -> None:
        """Until something arrives; rows of the last cycle wait a moment for company, for each flush holds up the next."""
        self._wake.clear()
        if not self._before:
            self._idle.set()
            await self._wake.wait()
        elif not self.draining:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(ROWS_LINGER_S):
                    await self._wake.wait()

    def _take(self) -> list[Batch]:
        taken = self._waiting[:CYCLE_BATCHES_MAX]
        del self._waiting[: len(taken)]
        if len(self._waiting) < CYCLE_BATCHES_MAX:
            self._room.set()
        return taken

    async def step(self, taken: list[Batch]) -> None:
        """One cycle: the module's docstring says in which order and why."""
        try:
            touched = await self._decide(taken)
        except Abandoned:
            return  # Nothing was recorded or acknowledged; the next owner begins there.
        await self.lease.hold()
        for rows in self._before_rows:
            rows.publish(self.output)
        await self.output.delivered()
        ends = await self._ends_when_due()
        await self.lease.hold()
        for rows in self._before_rows:
            rows.store(ends.get((rows.changelog, rows.partition)))
        for batch in self._before:
            batch.ack()
        for rows in touched:
            rows.seal()
        self._before, self._before_rows = taken, touched
        if not touched:
            # Without rows nothing has to be published first: the outputs are durable, so acknowledge at once.
            for batch in self._before:
                batch.ack()
            self._before = []
        self.progress_at = time.monotonic()

    async def _decide(self, taken: list[Batch]) -> list[Rows[Any]]:
        touched: dict[int, Rows[Any]] = {}
        for batch in taken:
            await asyncio.sleep(0)  # Other groups' cycles and the web get their turn.
            await self.lease.hold()
            stage, work = self._stages[batch.topic], self._work[batch.topic]
            if self.group.table is not None:
                work.rows = touched[batch.partition] = self.rows(batch.partition)
            started, cpu = time.perf_counter(), time.thread_time()
            if stage.handle_batch is not None:
                await stage.handle_batch(batch.records, work)
            else:
                assert stage.handle is not None
                self._handle_each(stage, work, batch.records)
            self.metrics.handled(
                stage.name, len(batch.records), time.perf_counter() - started, time.thread_time() - cpu
            )
        return list(touched.values())

    def _handle_each(self, stage: Stage, work: _Work, records: Sequence[RawRecord]) -> None:
        handle = stage.handle
        assert handle is not None
        for record in records:
            try:
                handle(record, work)
            except UndecodableError as error:
                work.dead_letter(record, error.error, error.detail)
            except OSError:
                raise  # Infrastructure (a registry, a disk) ends the process; the record is repeated.
            except Exception as error:
                # A mistake of ours in one decision: the record is kept for a retry, and everybody else goes on.
                work.dead_letter(record, Error.STAGE_FAILED, f"{type(error).__name__} at {_where(error)}")

    async def _ends_when_due(self) -> dict[tuple[str, int], int]:
        # Exact only now: what was published is delivered, and it is what is about to be stored.
        if not self._before_rows or time.monotonic() < self._checkpoint_at:
            return {}
        self._checkpoint_at = time.monotonic() + CHECKPOINT_INTERVAL_S
        return await self.output.ends((rows.changelog, rows.partition) for rows in self._before_rows)

    # -- several cycles at once, without a table ----------------------------------------------------------------------

    async def _start_parallel(self, taken: list[Batch]) -> None:
        loop = asyncio.get_running_loop()
        for batch in taken:
            task = loop.create_task(self._parallel_step(batch, self._last_parallel))
            self._last_parallel = task
            self._in_flight.add(task)
            task.add_done_callback(self._parallel_ended)
            while len(self._in_flight) >= self.group.parallel:
                await asyncio.wait(self._in_flight, return_when=asyncio.FIRST_COMPLETED)
        self.progress_at = time.monotonic()

    def _parallel_ended(self, task: asyncio.Task[None]) -> None:
        self._in_flight.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self._fail(f"{self.group.name}: {type(error).__name__}: {error}")

    async def _parallel_step(self, batch: Batch, earlier: asyncio.Task[None] | None) -> None:
        try:
            await self._decide([batch])
        except Abandoned:
            self._abandon()
            return
        await self.lease.hold()
        await self.output.delivered()
        if earlier is not None:
            # Batches are acknowledged in their order: the highest acknowledged offset is what is committed.
            await asyncio.wait([earlier])
        if not self._abandoned:
            batch.ack()
            self.progress_at = time.monotonic()

    _abandoned = False

    def _abandon(self) -> None:
        self._abandoned = True

    # -- giving partitions away ---------------------------------------------------------------------------------------

    async def drain(self) -> None:
        """Finish what was begun, acknowledge it, forget the rest. Afterwards nothing of this runner is in flight.

        Raises :class:`TimeoutError` when the cycle does not end in time; the process must then end.
        """
        self.draining = True
        self._waiting.clear()
        self._room.set()
        if self._before:
            self._wake.set()
        async with asyncio.timeout(DRAIN_TIMEOUT_S):
            self._checkpoint_at = 0.0
            if self._in_flight:
                await asyncio.wait(self._in_flight)
            await self._idle.wait()
        self._rows.clear()

    def resume(self, owned_from: dict[tuple[str, int], int]) -> None:
        """Partitions were assigned and recovered."""
        self._rows.clear()
        self._last.clear()
        self._abandoned = False
        self._last_parallel = None
        self.owned_from = owned_from
        self.progress_at = time.monotonic()
        self.draining = False


def _where(error: BaseException) -> str:
    """File and line of an error in our code, without its text (which may hold content)."""
    traceback = error.__traceback__
    while traceback is not None and traceback.tb_next is not None:
        traceback = traceback.tb_next
    if traceback is None:
        return "unknown"
    return f"{traceback.tb_frame.f_code.co_name}:{traceback.tb_lineno}"
