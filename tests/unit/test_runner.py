"""The cycle: in which order things are published, stored and acknowledged, and what ends the process."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from pipeline.engine import runner as runner_module
from pipeline.engine.lease import Lease, LeaseLostError
from pipeline.engine.metrics import GroupMetrics, Metrics
from pipeline.engine.rows import Row
from pipeline.engine.runner import TOGETHER_RECORDS_MAX, WAIT_PAUSE_S, Runner
from pipeline.engine.stage import Abandoned, Group, HandleBatch, RawRecord, Stage, Table, Work
from schemas.codec import Codec, UndecodableError
from schemas.reasons import Error
from schemas.records import DeadLetter
from tests.simulation.world import Record

CODEC = Codec()
LETTERS = "letters"


@dataclass
class Batch:
    """Records of one partition."""

    journal: list[str]
    records: Sequence[RawRecord]
    topic: str = "in"
    partition: int = 0
    previous: int | None = None

    def ack(self) -> None:
        self.journal.append(f"ack {self.records[-1].offset}")


class Journal:
    """Output and store that write down what is done to them, in order."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.values: list[bytes] = []

    def produce(self, topic: str, value: bytes, key: bytes, partition: int = -1, headers: Any = ()) -> None:
        self.lines.append(f"produce {topic} {key.decode()}")
        self.values.append(value)

    async def delivered(self) -> None:
        self.lines.append("delivered")

    async def ends(self, partitions: Iterable[tuple[str, int]]) -> dict[tuple[str, int], int]:
        return {tp: 9 for tp in partitions}

    def get(self, key: bytes) -> bytes | None:
        return None

    def write(self, rows: dict[bytes, bytes], changelog_offset: int | None) -> None:
        self.lines.append("store " + ",".join(key.decode() for key in rows))


def a_runner(
    handle: Callable[[Any, Work], None],
    journal: Journal,
    *,
    table: bool = True,
    failures: list[str] | None = None,
    lease: Lease | None = None,
    handle_batch: HandleBatch | None = None,
    side_by_side: bool = False,
) -> Runner:
    group = Group(
        name="g",
        stages=(Stage(name="s", source="in", handle=handle, handle_batch=handle_batch),),
        table=Table(name="t", changelog="changes", row_type=Row) if table else None,
        side_by_side=side_by_side,
    )
    return Runner(
        group,
        output=journal,  # type: ignore[arg-type]
        store_of=lambda partition: journal,  # type: ignore[arg-type,return-value]
        lease=lease or Lease(3600.0),
        codec=CODEC,
        metrics=GroupMetrics(Metrics(CollectorRegistry()), ("s",)),
        partitions=1,
        dead_letter_topic=LETTERS,
        fail=(failures if failures is not None else []).append,
    )


def records(*offsets: int, value: bytes = b"v") -> list[Any]:
    return [Record("in", 0, offset, 0, b"k%d" % offset, value) for offset in offsets]


def count(record: RawRecord, work: Work) -> None:
    """A decision: one row and one event a record."""
    assert record.key is not None
    work.rows.save(record.key, work.rows.get(record.key))
    work.emit("out", b"event", record.key)


def test_published_then_delivered_then_stored_then_acknowledged() -> None:
    """Outputs of a cycle are durable before the row that says done, its changelog before the row, the row before the offset."""
    journal = Journal()
    runner = a_runner(count, journal)

    async def cycles() -> None:
        await runner.step([Batch(journal.lines, records(0))], record=True)
        journal.lines.append("-- second")
        await runner.step([Batch(journal.lines, records(1))], record=True)
        journal.lines.append("-- third")
        await runner.step([], record=True)

    asyncio.run(cycles())
    assert journal.lines == [
        "produce out k0",
        "delivered",
        "-- second",
        "produce changes k0",
        "produce out k1",
        "delivered",
        "store k0",
        "ack 0",
        "-- third",
        "produce changes k1",
        "delivered",
        "store k1",
        "ack 1",
    ]


def test_rows_of_small_cycles_are_recorded_together() -> None:
    """One changelog record per key for all of them, and nothing is acknowledged before."""
    journal = Journal()
    runner = a_runner(count, journal)

    async def cycles() -> None:
        await runner.step([Batch(journal.lines, records(0))], record=False)
        await runner.step([Batch(journal.lines, [*records(1), *records(0)])], record=False)
        assert not any(line.startswith(("produce changes", "store", "ack")) for line in journal.lines)
        journal.lines.clear()
        await runner.step([], record=True)

    asyncio.run(cycles())
    changes = ["produce changes k0", "produce changes k1"]
    assert (sorted(journal.lines[:2]), journal.lines[2]) == (changes, "delivered")
    assert journal.lines[3] in ("store k0,k1", "store k1,k0")
    assert journal.lines[4:] == ["ack 0", "ack 0"]


def test_without_a_table_a_batch_is_acknowledged_when_its_outputs_are_delivered() -> None:
    """There is no row to wait for."""
    journal = Journal()
    runner = a_runner(lambda record, work: work.emit("out", b"event", record.key), journal, table=False)
    asyncio.run(runner.step([Batch(journal.lines, records(0, 1))], record=True))
    assert journal.lines == ["produce out k0", "produce out k1", "delivered", "ack 1"]


def test_a_decision_that_fails_is_a_dead_letter_and_the_batch_goes_on() -> None:
    """With the place in the code and not the text of the error, which may hold content; the others are handled."""
    journal = Journal()

    def handle(record: RawRecord, work: Work) -> None:
        if record.offset == 1:
            raise KeyError("somebody's secret")
        count(record, work)

    asyncio.run(a_runner(handle, journal).step([Batch(journal.lines, records(0, 1, 2))], record=True))
    assert journal.lines[:3] == ["produce out k0", f"produce {LETTERS} k1", "produce out k2"]
    letter = CODEC.decode(journal.values[1], DeadLetter)
    assert (letter.error, letter.stage, letter.offset, letter.value) == ("stage_failed", "s", 1, b"v")
    assert letter.detail.startswith("KeyError at handle:")
    assert "secret" not in letter.detail


def test_bytes_that_cannot_be_read_say_why() -> None:
    """The decoder's own error is the letter's."""
    journal = Journal()

    def handle(record: RawRecord, work: Work) -> None:
        raise UndecodableError(Error.NOT_AVRO, "no header")

    asyncio.run(a_runner(handle, journal).step([Batch(journal.lines, records(0))], record=True))
    letter = CODEC.decode(journal.values[0], DeadLetter)
    assert (letter.error, letter.detail) == ("not_avro", "no header")


@pytest.mark.parametrize("error", [ConnectionError("registry"), OSError(28, "No space left on device")])
def test_infrastructure_ends_the_process(error: OSError) -> None:
    """A registry that is away or a full disk is not the record's fault: nothing is given up, nothing acknowledged."""
    journal, failures = Journal(), list[str]()

    def handle(record: RawRecord, work: Work) -> None:
        raise error

    async def run() -> None:
        runner = a_runner(handle, journal, failures=failures)
        runner.start()
        runner.add(Batch(journal.lines, records(0)))
        async with asyncio.timeout(10):
            while not failures:
                await asyncio.sleep(0.01)

    asyncio.run(run())
    assert len(failures) == 1
    assert failures[0].startswith(f"g: {type(error).__name__}")
    assert journal.lines == []


def test_a_store_that_fails_acknowledges_nothing() -> None:
    """The offset stays where it was, so that a restart begins before the rows that were not stored."""

    class Full(Journal):
        def write(self, rows: dict[bytes, bytes], changelog_offset: int | None) -> None:
            raise OSError(28, "No space left on device")

    journal = Full()
    runner = a_runner(count, journal)

    async def cycles() -> None:
        await runner.step([Batch(journal.lines, records(0))], record=True)
        await runner.step([], record=True)

    with pytest.raises(OSError, match="No space"):
        asyncio.run(cycles())
    assert not any(line.startswith("ack") for line in journal.lines)


def test_a_batch_that_went_missing_ends_the_process() -> None:
    """Acknowledging what follows would commit past it; what follows is not even taken."""
    journal, failures = Journal(), list[str]()

    async def run() -> Runner:
        runner = a_runner(count, journal, failures=failures)
        runner.add(Batch(journal.lines, records(0, 1)))
        runner.add(Batch(journal.lines, records(2), previous=1))
        runner.add(Batch(journal.lines, records(7), previous=6))
        return runner

    runner = asyncio.run(run())
    assert failures == ["in partition 0: records before offset 6 went missing"]
    assert [batch.records[-1].offset for batch in runner._waiting] == [1, 2]


def test_a_lost_lease_publishes_nothing() -> None:
    """Neither outputs nor rows: somebody else may own the partitions."""
    now = [0.0]
    lease = Lease(10.0, clock=lambda: now[0])
    journal = Journal()
    runner = a_runner(count, journal, lease=lease)
    asyncio.run(runner.step([Batch(journal.lines, records(0))], record=True))
    journal.lines.clear()
    now[0] = 100.0
    with pytest.raises(LeaseLostError):
        asyncio.run(runner.step([Batch(journal.lines, records(1))], record=True))
    assert journal.lines == []


def test_after_draining_nothing_is_in_flight() -> None:
    """What was begun is stored and acknowledged; what arrives later is not taken until partitions are assigned anew."""
    journal = Journal()

    async def run() -> Runner:
        runner = a_runner(count, journal)
        runner.start()
        runner.add(Batch(journal.lines, records(0)))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        while runner._waiting:
            await asyncio.sleep(0)
        await runner.drain()
        runner.add(Batch(journal.lines, records(1)))
        assert not runner.busy
        runner.resume({})
        assert runner._task is not None
        runner._task.cancel()
        return runner

    asyncio.run(run())
    assert journal.lines[-2:] == ["store k0", "ack 0"]


def test_background_work_goes_on_without_records_and_stops_for_a_drain() -> None:
    """Its outputs are delivered before its rows are published; a drain records what was done and starts nothing more."""
    journal = Journal()
    steps = 0

    class Steps:
        async def step(self, work: Work) -> bool:
            nonlocal steps
            if steps < 3 or steps > 3:
                steps += 1
                work.emit("out", b"", f"step{steps}".encode())
                work.rows.save(b"progress", work.rows.get(b"progress"))
                return True
            return False

    async def run() -> None:
        nonlocal steps
        runner = a_runner(count, journal)
        runner.group = replace(runner.group, background=Steps())
        runner.start()
        runner.resume({}, partitions=[0])
        async with asyncio.timeout(10):
            while "store progress" not in journal.lines:
                await asyncio.sleep(0.01)
        assert steps == 3
        steps = 4  # There is always more.
        runner.resume({}, partitions=[0])
        async with asyncio.timeout(10):
            while steps < 6:
                await asyncio.sleep(0.001)
            await runner.drain()
        done = steps
        assert journal.lines[-1] == "store progress"
        await asyncio.sleep(0.05)
        assert steps == done
        assert not runner.busy
        assert runner._task is not None
        runner._task.cancel()

    asyncio.run(run())
    assert journal.lines.index("produce out step3") < journal.lines.index("produce changes progress")


@pytest.mark.parametrize("drained", [False, True], ids=["not assigned yet", "given away"])
def test_background_work_without_partitions_needs_no_lease(drained: bool) -> None:
    """A worker may wait for its partitions longer than a session lasts: nothing of its own is at stake then."""
    journal, failures, now = Journal(), list[str](), [0.0]
    lease = Lease(10.0, clock=lambda: now[0])

    class Steps:
        async def step(self, work: Work) -> bool:
            return False

    async def run() -> None:
        runner = a_runner(count, journal, failures=failures, lease=lease)
        runner.group = replace(runner.group, background=Steps())
        runner.start()
        await asyncio.sleep(0)
        if drained:
            runner.resume({}, partitions=[0])
            await runner.drain()
        now[0] = 60.0
        runner._wake.set()
        await asyncio.sleep(0.05)
        assert lease.lost()
        assert failures == []
        lease.begin()
        runner.resume({}, partitions=[0])
        await asyncio.sleep(0.05)
        assert runner._task is not None
        assert not runner._task.done()
        runner._task.cancel()

    asyncio.run(run())


def test_the_first_source_is_handled_before_the_others_of_its_partition() -> None:
    """What was there of it when the partition was assigned; after that, as things come. Other partitions do not wait."""
    handled: list[tuple[str, int, int]] = []
    come: dict[int, tuple[int, int | None]] = {0: (0, None), 1: (0, None)}

    def handle(record: Any, work: Work) -> None:
        handled.append((record.topic, record.partition, record.offset))

    def batch(topic: str, partition: int, *offsets: int) -> Any:
        return Batch([], [Record(topic, partition, offset, 0, b"k", b"v") for offset in offsets], topic, partition)

    async def run() -> None:
        stages = (Stage(name="a", source="opens", handle=handle), Stage(name="b", source="decides", handle=handle))
        group = Group(name="g", stages=stages, first="opens")
        runner = Runner(
            group,
            output=Journal(),  # type: ignore[arg-type]
            store_of=lambda partition: Journal(),  # type: ignore[arg-type,return-value]
            lease=Lease(3600.0),
            codec=CODEC,
            metrics=GroupMetrics(Metrics(CollectorRegistry()), ("a", "b")),
            partitions=2,
            dead_letter_topic=LETTERS,
            fail=pytest.fail,
            handed_over=lambda topic, partition: come[partition],
        )
        runner.resume({}, {0: 2})
        runner.add(batch("decides", 0, 7))
        runner.add(batch("decides", 1, 5))
        runner.start()
        await asyncio.sleep(0.05)
        assert handled == [("decides", 1, 5)]
        runner.add(batch("opens", 0, 0))
        come[0] = (1, 0)
        await asyncio.sleep(0.05)
        assert handled[1:] == [("opens", 0, 0)]
        come[0] = (2, 1)  # Handed to the streams, and not come here yet.
        await asyncio.sleep(0.05)
        assert len(handled) == 2
        runner.add(batch("opens", 0, 1))
        await asyncio.sleep(0.05)
        assert handled[2:] == [("opens", 0, 1), ("decides", 0, 7)]
        await runner.drain()
        assert runner._task is not None
        runner._task.cancel()

    asyncio.run(run())


def test_a_partition_is_given_away_while_it_waits_for_its_first_source() -> None:
    """What is held is let go of and not acknowledged; draining does not wait for it."""
    journal = Journal()

    async def run() -> None:
        runner = a_runner(count, journal)
        object.__setattr__(runner.group, "first", "opens")
        runner.resume({}, {0: 2})
        runner.start()
        runner.add(Batch(journal.lines, records(0)))
        await asyncio.sleep(0.05)
        async with asyncio.timeout(1.0):
            await runner.drain()
        assert not runner.busy
        assert runner._task is not None
        runner._task.cancel()

    asyncio.run(run())
    assert journal.lines == []


# -- stages that wait for others --------------------------------------------------------------------------------------


def test_partitions_side_by_side_and_each_in_its_order() -> None:
    """Two partitions wait at once, each with rows of its own; what is too much for one batch begins when that has ended."""
    journal, began = Journal(), list[str]()
    both = asyncio.Event()

    async def wait(records: Sequence[RawRecord], work: Work) -> None:
        name = f"{records[0].partition}:{records[0].offset}"
        began.append(name)
        if {"0:0", "1:0"} <= set(began):
            both.set()
        await asyncio.wait_for(both.wait(), 5.0)
        assert work.rows.partition == records[0].partition
        work.rows.save(b"row", work.rows.get(b"row"))
        work.emit("out", b"event", name.encode())

    runner = a_runner(count, journal, handle_batch=wait, side_by_side=True)
    batches = [
        Batch(
            journal.lines, [replace(record, partition=partition) for record in records(*offsets)], partition=partition
        )
        for partition in (0, 1)
        for offsets in (range(TOGETHER_RECORDS_MAX), (TOGETHER_RECORDS_MAX,))
    ]
    asyncio.run(runner.step(batches, record=True))
    assert sorted(began[:2]) == ["0:0", "1:0"]
    assert sorted(began[2:]) == [f"0:{TOGETHER_RECORDS_MAX}", f"1:{TOGETHER_RECORDS_MAX}"]
    assert journal.lines[-1] == "delivered"


def test_small_batches_of_a_partition_wait_together() -> None:
    """Three of them cost one wait, in their order, and each is acknowledged."""
    journal, handled = Journal(), list[list[int]]()

    async def handle(records: Sequence[RawRecord], work: Work) -> None:
        handled.append([record.offset for record in records])

    async def life(side_by_side: bool) -> None:
        runner = a_runner(count, journal, handle_batch=handle, side_by_side=side_by_side, table=False)
        await runner.step([Batch(journal.lines, records(*offsets)) for offsets in ([0, 1], [2], [3, 4])], record=True)

    asyncio.run(life(side_by_side=True))
    assert handled == [[0, 1, 2, 3, 4]]
    assert [line for line in journal.lines if line.startswith("ack")] == ["ack 1", "ack 2", "ack 4"]
    handled.clear()
    asyncio.run(life(side_by_side=False))
    assert handled == [[0, 1], [2], [3, 4]]


@pytest.mark.parametrize("side_by_side", [False, True])
def test_a_long_cycle_ends_with_its_batch_when_partitions_go(side_by_side: bool) -> None:
    """What is done is recorded and acknowledged, what is not begun is left to the next owner."""
    journal, size = Journal(), TOGETHER_RECORDS_MAX

    async def slow(records: Sequence[RawRecord], work: Work) -> None:
        await asyncio.sleep(0.05)
        work.rows.save(b"row", work.rows.get(b"row"))

    runner = a_runner(count, journal, handle_batch=slow, side_by_side=side_by_side)

    async def life() -> None:
        runner.start()
        for first in range(0, 10 * size, size):
            runner.add(
                Batch(journal.lines, records(*range(first, first + size)), previous=first - 1 if first else None)
            )
        await asyncio.sleep(0.12)
        await runner.drain()

    asyncio.run(life())
    acknowledged = [line for line in journal.lines if line.startswith("ack")]
    assert acknowledged == [f"ack {(number + 1) * size - 1}" for number in range(len(acknowledged))]
    assert 1 <= len(acknowledged) <= 4
    assert not runner.busy


def test_a_failure_is_not_hidden_by_partitions_that_go() -> None:
    """Of two partitions side by side one was abandoned, one failed: the process ends by the failure."""
    journal = Journal()

    async def end(records: Sequence[RawRecord], work: Work) -> None:
        raise Abandoned if records[0].partition == 0 else LeaseLostError("x")

    runner = a_runner(count, journal, handle_batch=end, side_by_side=True)
    batches = [
        Batch(journal.lines, [replace(record, partition=p) for record in records(0)], partition=p) for p in (0, 1)
    ]
    with pytest.raises(LeaseLostError):
        asyncio.run(runner.step(batches, record=True))


# -- groups that wait -------------------------------------------------------------------------------------------------


def a_waiting_runner(
    journal: Journal, handle: Callable[[Any, Work], Any], asked: list[tuple[str, int, bool]]
) -> Runner:
    """A runner of a group that may wait; ``asked`` gets what it has read no more, and on."""
    return Runner(
        Group(name="g", stages=(Stage(name="s", source="in", handle_batch=handle),), waits=True),
        output=journal,  # type: ignore[arg-type]
        store_of=lambda partition: journal,  # type: ignore[arg-type,return-value]
        lease=Lease(3600.0),
        codec=CODEC,
        metrics=GroupMetrics(Metrics(CollectorRegistry()), ("s",)),
        partitions=1,
        dead_letter_topic=LETTERS,
        fail=[].append,
        read_on=lambda topic, partition, on: asked.append((topic, partition, on)),
    )


def test_a_handler_waits_while_it_must_and_that_is_no_stall() -> None:
    """It goes on soon after; all the while there is progress for the watchdog to see."""
    held = [True]

    async def handle(batch: Sequence[Any], work: Work) -> None:
        await work.wait_while(lambda: held[0])
        work.emit("out", b"event", b"k")

    async def run() -> None:
        journal = Journal()
        runner = a_waiting_runner(journal, handle, [])
        task = asyncio.create_task(runner.step([Batch(journal.lines, records(0))], record=True))
        await asyncio.sleep(0)
        runner.progress_at = 0.0
        await asyncio.sleep(2.5 * WAIT_PAUSE_S)
        assert runner.progress_at > 0.0
        assert not task.done() and journal.lines == []
        held[0] = False
        await asyncio.wait_for(task, 2.5 * WAIT_PAUSE_S)
        assert journal.lines == ["produce out k", "delivered", "ack 0"]

    asyncio.run(run())


def test_a_partition_is_given_away_while_a_handler_waits() -> None:
    """The drain ends at once, nothing is acknowledged, and the runner goes on with what comes afterwards."""
    held = [True]

    async def handle(batch: Sequence[Any], work: Work) -> None:
        await work.wait_while(lambda: held[0])

    async def run() -> None:
        journal = Journal()
        runner = a_waiting_runner(journal, handle, [])
        runner.start()
        runner.add(Batch(journal.lines, records(0)))
        await asyncio.sleep(0.05)
        await asyncio.wait_for(runner.drain(), 3 * WAIT_PAUSE_S)
        assert "ack 0" not in journal.lines
        held[0] = False
        runner.resume({})
        runner.add(Batch(journal.lines, records(0)))
        while "ack 0" not in journal.lines:
            await asyncio.sleep(0.01)
        assert runner._task is not None
        runner._task.cancel()

    asyncio.run(asyncio.wait_for(run(), 5.0))


def test_little_is_read_ahead_of_what_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    """A partition is read no more when enough of it is held, and on when that was taken; a cycle takes no more than that."""
    monkeypatch.setattr(runner_module, "READ_AHEAD_RECORDS", 4)

    async def handle(batch: Sequence[Any], work: Work) -> None:
        pass

    journal, asked = Journal(), list[tuple[str, int, bool]]()
    runner = a_waiting_runner(journal, handle, asked)
    runner.add(Batch(journal.lines, records(0, 1, 2)))
    assert asked == []
    runner.add(Batch(journal.lines, records(0, 1), partition=1))
    assert asked == [("in", 1, False)]
    runner.add(Batch(journal.lines, records(3), previous=2))
    assert asked == [("in", 1, False), ("in", 0, False)]
    assert [len(batch.records) for batch in runner._take()] == [3]
    assert sorted(asked[2:]) == [("in", 0, True), ("in", 1, True)]
    assert [len(batch.records) for batch in runner._take()] == [2, 1]
    # However large a batch is, it is taken.
    runner.add(Batch(journal.lines, records(4, 5, 6, 7, 8, 9), previous=3))
    assert [len(batch.records) for batch in runner._take()] == [6]
