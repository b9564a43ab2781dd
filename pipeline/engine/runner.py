"""The cycle: take what waits, decide, publish, wait for the broker, then record.

Per group, with N the current cycle:

1. publish the rows that the cycles before N changed to the changelog, decide N and publish its outputs, and wait until the
   broker has all of them;
2. store the rows of those cycles in RocksDB with their changelog offset, in one write;
3. acknowledge the batches of those cycles.

A crash before 1 has ended repeats N and what came before it: their outputs may be in the topics twice, and the readers'
fences drop the second. A crash between 1 and 3 repeats the cycles before N, whose rows say so. Outputs are always durable
before the row that says "done", and the row before the offset. A large cycle records the one before it; after small ones
the rows wait for each other, for each publication costs the broker a request per partition (:data:`ROWS_LINGER_S`).

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
from pipeline.engine.records import UNREADABLE_BATCH
from pipeline.engine.rows import Rows, Store
from pipeline.engine.stage import Abandoned, Group, RawRecord, Stage, T, Work
from schemas.codec import Codec, UndecodableError
from schemas.identity import partition_of
from schemas.reasons import Error

#: Batches taken at most in one cycle; without a limit a cycle after an outage takes half a million records.
CYCLE_BATCHES_MAX = 12
#: Records a small cycle: below it the next one waits a little, so that trickles do not cost a core.
SMALL_CYCLE_RECORDS = 100
SMALL_CYCLE_PAUSE_S = 0.003
#: A group whose records may wait for hours reads no more of a partition while it holds this many; a few seconds' work.
READ_AHEAD_RECORDS = 2_000
#: Rows of small cycles are published together after this, or when this many records wait for it.
ROWS_LINGER_S = 0.2
ROWS_LINGER_RECORDS = 500
#: How often the changelog's end is asked for; recovery after a kill reads what came later.
CHECKPOINT_INTERVAL_S = 5.0
#: While the first source is behind, this long between two looks.
HELD_PAUSE_S = 0.02
#: How often due times are looked at.
ALARMS_INTERVAL_S = 0.5
#: A rebalance or a stop waits this long for the cycle under way.
DRAIN_TIMEOUT_S = 6.0
#: Small batches of one partition are handled together up to this many records where partitions are handled side by side: one
#: after the other each would wait for its own answers, and no other group's records would be answered meanwhile.
TOGETHER_RECORDS_MAX = 256
#: How often a handler that waits looks whether it still has to.
WAIT_PAUSE_S = 0.2
#: Between two steps of background work when nothing else is to do: it takes a fraction of a core, never all of it.
BACKGROUND_PAUSE_S = 0.005
#: How often an idle group looks whether there is background work.
BACKGROUND_LOOK_S = 1.0
REPOSTED = "ptr-reposted"


class Output(Protocol):
    """Where the runner publishes (:class:`pipeline.engine.output.KafkaOutput`)."""

    produce: Callable[..., None]

    async def delivered(self) -> None: ...

    async def ends(self, partitions: Iterable[tuple[str, int]]) -> dict[tuple[str, int], int]: ...

    async def begins(self, partitions: Iterable[tuple[str, int]]) -> dict[tuple[str, int], int]: ...


class Batch(Protocol):
    """Records of one partition and how to acknowledge them."""

    topic: str
    partition: int
    records: Sequence[RawRecord]
    #: Offset of the record before the first one, as read; None right after the position was set.
    previous: int | None

    def ack(self) -> None: ...


class _Step:
    """A step of background work, among the batches whose rows are recorded together."""

    records: Sequence[RawRecord] = ()

    def ack(self) -> None:
        """Nothing to acknowledge: the row that holds its place is recorded."""


class _Work:
    """What a handler sees: the rows of one partition and the way out (:class:`pipeline.engine.stage.Work`)."""

    rows: Rows[Any]

    def __init__(self, runner: Runner, stage: Stage) -> None:
        self._runner = runner
        self._stage = stage
        self.partitions = runner.partitions
        self.taken_at_ms = 0
        self.emit: Callable[[str, bytes, bytes], None] = runner.output.produce

    def attempt(self, handle: Callable[[Any, Work], T], record: RawRecord) -> T | None:
        try:
            return handle(record, self)
        except UndecodableError as error:
            self.dead_letter(record, error.error, error.detail)
        except OSError:
            raise  # Infrastructure (a registry, a disk) ends the process; the record is repeated.
        except Exception as error:
            # A mistake of ours in one decision: the record is kept for a retry, and everybody else goes on.
            self.dead_letter(record, Error.STAGE_FAILED, f"{type(error).__name__} at {_where(error)}")
        return None

    def dead_letter(self, record: RawRecord, error: str, detail: str) -> None:
        runner = self._runner
        if record.value is None and any(name == UNREADABLE_BATCH for name, _ in record.headers):
            detail = "stands for a compressed batch that is damaged or inflates to too much; it ends at this offset"
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

    async def record(self) -> None:
        runner = self._runner
        await runner.output.delivered()
        await runner.lease.hold()
        self.rows.publish(runner.output)  # Stored, and published once more, when their cycle is recorded.
        await runner.output.delivered()

    async def hold(self) -> None:
        await self._runner.lease.hold()
        self._runner.progress_at = time.monotonic()

    async def until(self, at_ms: int) -> None:
        while (wait_s := at_ms / 1000 - time.time()) > 0:
            await self._wait(min(wait_s, WAIT_PAUSE_S))

    async def wait_while(self, held: Callable[[], bool]) -> None:
        while held():
            await self._wait(WAIT_PAUSE_S)

    async def _wait(self, seconds: float) -> None:
        if self._runner.draining:
            raise Abandoned
        self._runner.progress_at = time.monotonic()
        await asyncio.sleep(seconds)


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
        handed_over: Callable[[str, int], tuple[int, int | None]] = lambda topic, partition: (0, None),
        read_on: Callable[[str, int, bool], None] = lambda topic, partition, on: None,
    ) -> None:
        """``handed_over`` tells of a source partition the next offset to come, and the last one that came; ``read_on`` has it
        read no more, or on."""
        self.group = group
        self.output = output
        self.lease = lease
        self.codec = codec
        self.metrics = metrics
        self.partitions = partitions
        self.dead_letter_topic = dead_letter_topic
        #: For each source partition the log's end when it was assigned: records before it may have been called.
        self.owned_from: dict[tuple[str, int], int] = {}
        #: Partitions of the table that this worker owns, for background work.
        self.partitions_owned: tuple[int, ...] = ()
        self.draining = False
        #: Monotonic time of the last sign of progress, for the watchdog: a cycle ended, or a handler waits or goes on.
        self.progress_at = time.monotonic()
        self._store_of = store_of
        self._fail = fail
        self._handed_over = handed_over
        self._read_on = read_on
        #: Source partitions of which no more is read for now.
        self._read_no_more: set[tuple[str, int]] = set()
        #: By partition, up to where the group's first source is handled before its others.
        self._held_until: dict[int, int] = {}
        self._waiting: list[Batch] = []
        self._last: dict[tuple[str, int], int] = {}
        self._wake = asyncio.Event()
        self._room = asyncio.Event()
        self._room.set()
        self._rows: dict[int, Rows[Any]] = {}
        #: What was decided and delivered, and is not recorded yet.
        self._before: list[Batch | _Step] = []
        self._before_records = 0
        self._before_at = 0.0
        self._stages = {stage.source: stage for stage in group.stages}
        self._work = {stage.source: _Work(self, stage) for stage in group.stages}
        self._background_work = _Work(self, group.stages[0])
        #: Whether the last cycle did background work.
        self._in_background = False
        self._checkpoint_at = time.monotonic() + CHECKPOINT_INTERVAL_S
        self._task: asyncio.Task[None] | None = None
        self._alarms_task: asyncio.Task[None] | None = None
        self._idle = asyncio.Event()
        self._idle.set()

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
        if len(self._waiting) >= CYCLE_BATCHES_MAX and not self._held_until:
            self._room.clear()
        if self.group.waits and _records_of(self._waiting) >= READ_AHEAD_RECORDS:
            self._read_no_more.add(source)
            self._read_on(*source, False)

    async def room(self) -> None:
        """Return when another batch may be added."""
        await self._room.wait()

    @property
    def busy(self) -> bool:
        """Whether something was taken and is not acknowledged yet."""
        return bool(self._waiting or self._before or not self._idle.is_set())

    def rows(self, partition: int) -> Rows[Any]:
        """The rows of an assigned partition."""
        rows = self._rows.get(partition)
        if rows is None:
            table = self.group.table
            assert table is not None
            store = self._store_of(partition)
            rows = self._rows[partition] = Rows(store, partition, table.changelog, table.row_type, table.rows_kept_max)
        return rows

    # -- the loop -----------------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Start the loop. Any exception in it ends the process: a runner that died silently would stall everything."""
        if self._task is None:
            loop = asyncio.get_running_loop()
            self._task = loop.create_task(self._run())
            self._task.add_done_callback(self._ended)
            if self.group.alarms is not None:
                self._alarms_task = loop.create_task(self._look_at_alarms())
                self._alarms_task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled():
            error = task.exception()
            self._fail(f"{self.group.name}: {type(error).__name__}: {error}")

    async def _run(self) -> None:
        while True:
            if not self._waiting or self._holds_all():
                await self._rest()
            self._idle.clear()
            taken = self._take()
            if taken or self._before or self._may_work_in_background():
                await self.step(taken, record=self._due())
            if taken and _records_of(taken) < SMALL_CYCLE_RECORDS:
                await asyncio.sleep(SMALL_CYCLE_PAUSE_S)

    def _may_work_in_background(self) -> bool:
        # Without partitions there is no lease either: a worker may wait longer than a session for its first ones.
        return self.group.background is not None and bool(self.partitions_owned) and not self.draining

    def _due(self) -> bool:
        """Whether the rows of earlier cycles are to be recorded now."""
        waited_s = time.monotonic() - self._before_at
        return self.draining or self._before_records >= ROWS_LINGER_RECORDS or waited_s >= ROWS_LINGER_S

    async def _rest(self) -> None:
        """Until something arrives or the rows of earlier cycles have waited long enough."""
        self._wake.clear()
        if self._waiting and not self._before and not self.draining:
            await asyncio.sleep(HELD_PAUSE_S)
            return
        if not self._before:
            self._idle.set()
        elif self.draining:
            return
        waits_s = [] if not self._before else [self._before_at + ROWS_LINGER_S - time.monotonic()]
        if self._may_work_in_background():
            waits_s.append(BACKGROUND_PAUSE_S if self._in_background else BACKGROUND_LOOK_S)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(min(waits_s, default=None)):
                await self._wake.wait()

    def _take(self) -> list[Batch]:
        if self._held_until and self._waiting:
            self._release()
            takeable = [batch for batch in self._waiting if not self._holds(batch)]
            self._waiting = takeable + [batch for batch in self._waiting if self._holds(batch)]
            taken = takeable[:CYCLE_BATCHES_MAX]
        else:
            taken = self._waiting[:CYCLE_BATCHES_MAX]
        if self.group.waits:
            while len(taken) > 1 and _records_of(taken) > READ_AHEAD_RECORDS:
                taken.pop()
        del self._waiting[: len(taken)]
        if len(self._waiting) < CYCLE_BATCHES_MAX:
            self._room.set()
        if self._read_no_more and _records_of(self._waiting) < READ_AHEAD_RECORDS:
            for source in self._read_no_more:
                self._read_on(*source, True)
            self._read_no_more.clear()
        return taken

    def _holds(self, batch: Batch) -> bool:
        return batch.partition in self._held_until and batch.topic != self.group.first

    def _holds_all(self) -> bool:
        if self._held_until:
            self._release()
        return all(self._holds(batch) for batch in self._waiting)

    def _release(self) -> None:
        """Hold no longer what waits for a first source all of which has come."""
        first = self.group.first
        for partition, end in list(self._held_until.items()):
            following, last = self._handed_over(first, partition)
            if following >= end and last == self._last.get((first, partition)):
                del self._held_until[partition]
                # Of what was held, the first source comes first.
                self._waiting.sort(key=lambda batch: batch.topic != first)

    async def step(self, taken: list[Batch], *, record: bool) -> None:
        """One cycle, recording what came before it if told to; the module's docstring says in which order and why."""
        recording: list[Rows[Any]] = []
        record = record and bool(self._before)
        if record:
            await self.lease.hold()
            recording = [rows for rows in self._rows.values() if rows.publish(self.output)]
        done: list[Batch | _Step] = []
        try:
            await self._decide(taken, done)
            done += await self._step_background()
        except Abandoned:
            pass  # What is not done is not acknowledged; the next owner begins there.
        await self.lease.hold()
        await self.output.delivered()
        if record:
            ends = await self._ends_when_due(recording)
            await self.lease.hold()
            for rows in recording:
                rows.store(ends.get((rows.changelog, rows.partition)))
            self._acknowledge()
        if done:
            if not self._before:
                self._before_at = time.monotonic()
            self._before += done
            self._before_records += _records_of(done)
            if self.group.table is None:
                self._acknowledge()  # There are no rows to come first.
        self.progress_at = time.monotonic()

    def _acknowledge(self) -> None:
        for batch in self._before:
            batch.ack()
        self._before, self._before_records = [], 0

    async def _decide(self, taken: Sequence[Batch], done: list[Batch | _Step]) -> None:
        """Decide ``taken`` and add to ``done`` each batch that is. What is not begun when partitions are to be given away
        is left to their next owner: raises :class:`Abandoned`."""
        if not self.group.side_by_side:
            await self._decide_in_turn([[batch] for batch in taken], done)
            return
        by_partition: dict[int, list[Batch]] = {}
        for batch in taken:
            by_partition.setdefault(batch.partition, []).append(batch)
        # All of them end before anything is said of one.
        ended = await asyncio.gather(
            *(self._decide_in_turn(_together(batches), done) for batches in by_partition.values()),
            return_exceptions=True,
        )
        for error in sorted((each for each in ended if each is not None), key=lambda each: isinstance(each, Abandoned)):
            raise error

    async def _decide_in_turn(self, taken: Iterable[Sequence[Batch]], done: list[Batch | _Step]) -> None:
        for batches in taken:
            batch = batches[0]
            records = batch.records if len(batches) == 1 else [record for each in batches for record in each.records]
            await asyncio.sleep(0)  # Other groups' cycles and the web get their turn.
            if self.draining:
                raise Abandoned
            await self.lease.hold()
            stage, work = self._stages[batch.topic], self._work[batch.topic]
            if self.group.side_by_side:
                work = _Work(self, stage)
            if self.group.table is not None:
                work.rows = self.rows(batch.partition)
            work.taken_at_ms = int(time.time() * 1000)
            started, cpu = time.perf_counter(), time.thread_time()
            if stage.handle_batch is not None:
                await stage.handle_batch(records, work)
            else:
                assert stage.handle is not None
                for record in records:
                    work.attempt(stage.handle, record)
            self.metrics.handled(stage.name, len(records), time.perf_counter() - started, time.thread_time() - cpu)
            done += batches

    async def _step_background(self) -> list[_Step]:
        """A step of background work in each partition."""
        background, work, steps = self.group.background, self._background_work, list[_Step]()
        if background is None:
            return steps
        for partition in self.partitions_owned:
            if self.draining:
                break
            await self.lease.hold()
            work.rows = self.rows(partition)
            if await background.step(work):
                steps.append(_Step())
                await asyncio.sleep(0)
        self._in_background = bool(steps)
        return steps

    async def _ends_when_due(self, recording: list[Rows[Any]]) -> dict[tuple[str, int], int]:
        # Exact only now: what was published is delivered, and it is what is about to be stored.
        if not recording or time.monotonic() < self._checkpoint_at:
            return {}
        self._checkpoint_at = time.monotonic() + CHECKPOINT_INTERVAL_S
        return await self.output.ends((rows.changelog, rows.partition) for rows in recording)

    # -- due times ----------------------------------------------------------------------------------------------------

    async def _look_at_alarms(self) -> None:
        while True:
            await asyncio.sleep(ALARMS_INTERVAL_S)
            self.ring(int(time.time() * 1000))

    def ring(self, now_ms: int) -> None:
        """Post the records of rows that are due; while this worker surely owns them, to spare others the repeats."""
        alarms = self.group.alarms
        if alarms is None or self.draining or not self.lease.fresh():
            return
        for topic, value, key in alarms.ring(now_ms):
            self.output.produce(topic, value, key)
        self.metrics.waiting(len(alarms), alarms.overdue)

    def recover_alarms(self, partitions: Iterable[int]) -> None:
        """Read the due times of the stored rows of all assigned partitions; before :meth:`resume`."""
        if self.group.alarms is not None:
            self.group.alarms.recover(item for partition in partitions for item in self._store_of(partition).items())

    # -- giving partitions away ---------------------------------------------------------------------------------------

    async def drain(self) -> None:
        """Finish what was begun, acknowledge it, forget the rest. Afterwards nothing of this runner is in flight.

        Raises :class:`TimeoutError` when the cycle does not end in time; the process must then end.
        """
        self.draining = True
        self._waiting.clear()
        self._read_no_more.clear()  # Whoever gets the partitions reads them from what was acknowledged.
        self._room.set()
        if self._before:
            self._wake.set()
        async with asyncio.timeout(DRAIN_TIMEOUT_S):
            self._checkpoint_at = 0.0
            await self._idle.wait()
        self._rows.clear()
        self.partitions_owned = ()

    def resume(
        self,
        owned_from: dict[tuple[str, int], int],
        held_until: dict[int, int] | None = None,
        partitions: Iterable[int] = (),
    ) -> None:
        """Partitions were assigned and recovered. ``held_until`` are the ends of the group's first source, by partition;
        ``partitions`` those of its table.
        """
        self.partitions_owned = tuple(sorted(partitions))
        self._rows.clear()
        self._held_until = dict(held_until or {})
        self._last.clear()
        self.owned_from = owned_from
        self.progress_at = time.monotonic()
        self.draining = False
        if self.group.background is not None:
            self._wake.set()


def _records_of(batches: Iterable[Batch | _Step]) -> int:
    return sum(len(batch.records) for batch in batches)


def _together(batches: Iterable[Batch]) -> list[list[Batch]]:
    """One partition's batches, in their order: small ones that follow each other in one topic together."""
    found: list[list[Batch]] = []
    for batch in batches:
        last = found[-1] if found else []
        if last and last[0].topic == batch.topic and _records_of([*last, batch]) <= TOGETHER_RECORDS_MAX:
            last.append(batch)
        else:
            found.append([batch])
    return found


def _where(error: BaseException) -> str:
    """File and line of an error in our code, without its text (which may hold content)."""
    traceback = error.__traceback__
    while traceback is not None and traceback.tb_next is not None:
        traceback = traceback.tb_next
    if traceback is None:
        return "unknown"
    return f"{traceback.tb_frame.f_code.co_name}:{traceback.tb_lineno}"
