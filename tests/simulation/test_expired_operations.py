"""Kills while operations wait for payments that come late or never, drawn by hypothesis, against the real runners and shells.

The world's clock is far behind the machine's, so what waits in ``operations.delayed.v1`` may be posted at any time: as by a
worker whose clock is ahead. Only the broker's times decide.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Sequence

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from connectors.pic.ledger import MemoryLedger
from pipeline import topics
from pipeline.stages.attempts import ENDED, Attempts
from pipeline.stages.life import PAYMENT_WAIT_MS
from schemas.identity import attempt_id, payment_key
from schemas.records import OperationRequested, PaymentParked, PaymentUpdated
from tables import attempts
from tests.builders import a_request
from tests.simulation.test_exactness import CODEC, POINTS, rows_of, world_and_ledger
from tests.simulation.world import World

PAYMENTS = 3
#: What is told of an operation whose payment did not come in time.
NOT_KNOWN = ("refused", "payment_not_known")
#: What happens, to which payment, and how long after what happened before.
Happening = tuple[str, int, int]
Move = tuple[int, int, str | None, float, bool, bool]
happenings = st.tuples(
    st.sampled_from(("ask", "ask", "pay")),
    st.integers(0, PAYMENTS - 1),
    st.sampled_from((0, 1, PAYMENT_WAIT_MS - 1, PAYMENT_WAIT_MS)),
)
moves = st.tuples(
    st.integers(0, 9),
    st.integers(1, 3),
    st.sampled_from((None, None, *POINTS)),
    st.floats(0, 0.99),
    st.booleans(),
    st.booleans(),
)


class Run:
    """A whole pipeline, and what was asked of it."""

    def __init__(self) -> None:
        self.world, self.ledger = world_and_ledger()
        self.paid: set[int] = set()
        #: By payment, when its refund was asked for first.
        self.asked: dict[int, int] = {}

    def happen(self, what: str, number: int, after_ms: int) -> None:
        broker = self.world.broker
        broker.now_ms += after_ms
        key = payment_key("t1", f"p{number}")
        if what == "ask":
            self.asked.setdefault(number, broker.now_ms)
            operation = OperationRequested(
                tenant="t1",
                payment_id=f"p{number}",
                operation_id="back",
                kind="refund",
                amount_minor=0,
                currency="EUR",
                requested_at_ms=1,
            )
            broker.append(topics.OPERATIONS.name, CODEC.encode(operation), key)
        elif number not in self.paid:
            self.paid.add(number)
            request = a_request(
                tenant="t1", payment_id=f"p{number}", debtor_id=f"d{number}", requested_at_ms=broker.now_ms
            )
            broker.append(topics.REQUESTED.name, CODEC.encode(request), key)

    async def finish(self) -> None:
        """Everything that waits comes to its end; whoever was not told asks again, after the time is over."""
        await self.world.settle()
        self.world.broker.now_ms += PAYMENT_WAIT_MS
        for number in self.asked:
            self.happen("ask", number, 0)
        await self.world.settle()

    def check(self) -> None:
        """Each operation has one end in its row, which alone was told; what was refused was not done, or a person was told."""
        said: dict[int, set[tuple[str, str]]] = defaultdict(set)
        for record in self.world.broker.all(topics.UPDATED.name):
            event = CODEC.decode(record.value or b"", PaymentUpdated)
            if event.operation_id:
                said[int(event.payment_id[1:])].add((event.outcome, event.reason))
        parked = {
            CODEC.decode(record.value or b"", PaymentParked).payment_id
            for record in self.world.broker.all(topics.PARKED.name)
        }
        rows = rows_of(self.world, attempts.NAME, Attempts)
        assert set(said) == set(self.asked)
        for number in self.asked:
            called = self.ledger.entries().get(attempt_id("t1", f"p{number}", 1, "back"))
            (operation,) = rows[payment_key("t1", f"p{number}")].life.operations
            end = (operation.outcome, operation.reason)
            assert operation.state == ENDED
            assert said[number] == {end}
            if end == ("succeeded", ""):
                assert number in self.paid
                assert called is not None
                assert called.calls == 1
            else:
                assert end == NOT_KNOWN
                assert called is None or f"p{number}" in parked
        assert not self.world.broker.all(topics.DEAD_LETTERS.name)


async def run(walk: Sequence[Happening | Move]) -> Run:
    found = Run()
    names = list(found.world.processes)
    for each in walk:
        if isinstance(each[0], str):
            found.happen(*each)  # type: ignore[arg-type]
        else:
            group, take, point, share, checkpoint, record = each  # type: ignore[misc]
            crash_at = None if point is None else (point, share)
            await found.world.step(names[group % len(names)], take, crash_at, checkpoint, record)
    await found.finish()
    return found


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow], print_blob=True)
@given(walk=st.lists(st.one_of(happenings, moves, moves), max_size=60))
def test_whatever_dies_an_operation_that_waited_has_one_end(walk: list[Happening | Move]) -> None:
    """Kills at any step of any stage, payments that come before, after or never, the end of the wait posted at any time."""
    asyncio.run(run(walk)).check()


@pytest.mark.parametrize(
    ("name", "point"),
    [("dispatch", point) for point in POINTS] + [("delay", point) for point in POINTS if point != "store"],
)
def test_the_end_of_a_wait_dies_at_every_point(name: str, point: str) -> None:
    """Killed with the operations in hand, and with their ends in hand; a payment that comes after that changes nothing."""

    async def walk() -> Run:
        found, crash_at = Run(), (point, 0.9)
        for number in range(PAYMENTS):
            found.happen("ask", number, 0)
        dispatch = crash_at if name == "dispatch" else None
        await found.world.step("dispatch", 2, None, True, False)
        await found.world.step("dispatch", 2, dispatch, True, True)
        await found.world.step("dispatch")
        found.world.broker.now_ms += PAYMENT_WAIT_MS
        await found.world.step("delay", 2, crash_at if name == "delay" else None)
        await found.world.step("delay")
        await found.world.step("dispatch", 2, None, True, False)
        await found.world.step("dispatch", 2, dispatch, True, True)
        await found.world.settle()
        found.happen("pay", 0, 0)
        await found.finish()
        return found

    found = asyncio.run(walk())
    assert found.world.kills >= 1
    found.check()
    assert not any(_called(found.ledger, number) for number in range(PAYMENTS))


def test_nothing_is_told_before_the_row_that_says_so_is_durable() -> None:
    """The end of a wait comes twice in one cycle, whose outputs are published and whose rows are not; then the payment is read
    first."""

    async def walk() -> Run:
        found = Run()
        found.happen("ask", 0, 0)
        await found.world.step("dispatch")
        broker = found.world.broker
        broker.now_ms += PAYMENT_WAIT_MS
        (asked,) = broker.all(topics.OPERATIONS.name)
        for _ in range(2):
            broker.append(topics.OPERATIONS_EXPIRED.name, asked.value, asked.key)
        await found.world.step("dispatch", crash_at=("delivered", 0))
        assert found.world.kills == 1
        found.happen("pay", 0, 0)
        for name in 5 * [each for each in found.world.processes if each != "dispatch"]:
            await found.world.step(name)
        await found.finish()
        return found

    found = asyncio.run(walk())
    found.check()
    assert _called(found.ledger, 0)


def test_without_a_kill_a_late_payment_is_not_refunded_and_an_early_one_is() -> None:
    """Refused by the broker's time alone: what is posted too early ends nothing, and then its client asks again."""

    async def paid_after(wait_ms: int) -> Run:
        found = Run()
        found.happen("ask", 0, 0)
        found.happen("ask", 1, 0)
        await found.world.step("dispatch")
        found.world.broker.now_ms += wait_ms
        await _expire(found.world)
        found.happen("pay", 0, 0)
        await found.finish()
        found.check()
        assert not _called(found.ledger, 1)
        return found

    assert _called(asyncio.run(paid_after(PAYMENT_WAIT_MS - 1)).ledger, 0)
    assert not _called(asyncio.run(paid_after(PAYMENT_WAIT_MS)).ledger, 0)


def _called(ledger: MemoryLedger, number: int) -> bool:
    return attempt_id("t1", f"p{number}", 1, "back") in ledger.entries()


async def _expire(world: World) -> None:
    for _ in range(2):
        await world.step("delay")
        await world.step("dispatch")
