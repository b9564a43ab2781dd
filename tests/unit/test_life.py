"""Statuses, the moves between them, and limits, one at a time. Orders and crashes: tests/simulation/test_operations.py."""

from __future__ import annotations

from typing import Any, cast

import msgspec
import pytest

from pipeline.stages.asking import Ask, Means, Park, Reconsider, Tell, Told
from pipeline.stages.attempts import Attempts, Life, Operation, keep
from pipeline.stages.life import (
    HELD,
    MOVES,
    PAYMENT_WAIT_MS,
    RefusedError,
    Status,
    advance,
    amount_to_ask,
    applied,
    expire,
    request,
    settle,
    standing,
)
from schemas.records import OperationRequested

MEANS = Means(pics=frozenset({"a"}), several_captures=frozenset(), delays_s=(1, 5))
CAPTURE = OperationRequested(
    tenant="t", payment_id="p", operation_id="op", kind="capture", currency="EUR", requested_at_ms=1
)


def life(status: str = "authorized", authorized: int = 100, captured: int = 0, refunded: int = 0) -> Life:
    return Life(status=status, authorized_minor=authorized, captured_minor=captured, refunded_minor=refunded)


def operation(kind: str, amount: int = 0, currency: str = "EUR") -> Operation:
    return Operation(
        operation_id="op", kind=kind, amount_minor=amount, currency=currency, requested_at_ms=1, received_at_ms=1
    )


def test_the_table_of_moves_is_closed_and_comes_to_an_end() -> None:
    """Every status is in it, every move leads to one, and no way leads back but from the payer's action."""
    assert set(MOVES) == set(Status)
    assert {to for moves in MOVES.values() for to in moves} <= set(Status)
    ends = {status for status, moves in MOVES.items() if not moves}
    assert ends == {Status.SUCCEEDED, Status.FAILED, Status.CANCELLED, Status.EXPIRED}
    back = {(a, b) for a in MOVES for b in MOVES[a] if a in MOVES[b]}
    assert back == {
        (Status.PROCESSING, Status.REQUIRES_ACTION),
        (Status.REQUIRES_ACTION, Status.PROCESSING),
    }


@pytest.mark.parametrize(
    ("row", "status", "amounts"),
    [
        ({}, "processing", (0, 0)),
        ({"state": "pending", "action_url": "https://pic.example/x"}, "requires_action", (0, 0)),
        ({"state": "parked"}, "processing", (0, 0)),
        ({"state": "ended", "outcome": "paid"}, "succeeded", (100, 100)),
        ({"state": "ended", "outcome": "authorized"}, "authorized", (100, 0)),
        ({"state": "ended", "outcome": "declined"}, "failed", (0, 0)),
        ({"state": "ended", "outcome": "declined", "detail": "action_expired"}, "expired", (0, 0)),
        ({"state": "ended", "outcome": "blocked"}, "failed", (0, 0)),
    ],
)
def test_a_row_says_where_its_payment_stands(row: dict[str, Any], status: str, amounts: tuple[int, int]) -> None:
    stands = standing(Attempts(amount_minor=100, **row))
    assert (stands.status, (stands.authorized_minor, stands.captured_minor)) == (status, amounts)


@pytest.mark.parametrize(
    ("before", "asked", "amount"),
    [
        (life(), operation("capture"), 100),
        (life(), operation("capture", 100), 100),
        (life("partially_captured", captured=60), operation("capture"), 40),
        (life("partially_captured", captured=60), operation("void"), 40),
        (life(), operation("void", 100), 100),
        (life("succeeded", captured=100, refunded=99), operation("refund"), 1),
        (life("partially_captured", captured=60), operation("refund", 60), 60),
    ],
)
def test_what_is_within_the_limits_is_asked_for(before: Life, asked: Operation, amount: int) -> None:
    assert amount_to_ask(before, asked, "EUR") == amount


@pytest.mark.parametrize(
    ("before", "asked", "reason"),
    [
        (life(), operation("capture", 101), "amount_above_authorized"),
        (life("partially_captured", captured=60), operation("capture", 41), "amount_above_authorized"),
        (life("succeeded", captured=100), operation("capture"), "nothing_to_capture"),
        (life("succeeded", captured=100), operation("void"), "nothing_to_void"),
        (life("cancelled", authorized=0), operation("capture"), "nothing_to_capture"),
        (life(), operation("void", 99), "void_in_part"),
        (life(), operation("refund"), "nothing_to_refund"),
        (life("succeeded", captured=100, refunded=40), operation("refund", 61), "amount_above_captured"),
        (life("succeeded", captured=100, refunded=100), operation("refund"), "nothing_to_refund"),
        (life(), operation("capture", currency="USD"), "currency_differs"),
        (life("failed", authorized=0), operation("refund"), "nothing_to_refund"),
    ],
)
def test_what_is_beyond_them_is_not(before: Life, asked: Operation, reason: str) -> None:
    with pytest.raises(RefusedError) as refused:
        amount_to_ask(before, asked, "EUR")
    assert refused.value.reason == reason


@pytest.mark.parametrize(
    ("before", "kind", "amount", "several", "after"),
    [
        (life(), "capture", 100, True, life("succeeded", 100, 100)),
        (life(), "capture", 60, True, life("partially_captured", 100, 60)),
        (life("partially_captured", captured=60), "capture", 40, True, life("succeeded", 100, 100)),
        # A PIC that takes one capture lets go of the rest.
        (life(), "capture", 60, False, life("succeeded", 60, 60)),
        (life(), "void", 100, True, life("cancelled", 0)),
        (life("partially_captured", captured=60), "void", 40, True, life("succeeded", 60, 60)),
        (life("succeeded", captured=100), "refund", 30, True, life("succeeded", 100, 100, 30)),
    ],
)
def test_what_an_operation_changes(before: Life, kind: str, amount: int, several: bool, after: Life) -> None:
    assert applied(before, kind, amount, several_captures=several) == after


@pytest.mark.parametrize("status", sorted(set(Status) - HELD - {Status.SUCCEEDED}))
def test_a_move_that_there_is_not_is_an_error(status: Status) -> None:
    """Limits keep it from being asked for; should an answer come all the same, nothing is changed quietly."""
    with pytest.raises(ValueError, match="no payment moves"):
        applied(life(status), "capture", 60, several_captures=True)


def waiting() -> Attempts:
    """A capture that came at 1,000 for a payment that nobody knows."""
    row, steps = request(Attempts(), CAPTURE, 1_000, MEANS)
    assert steps == ()
    return row


def expired(row: Attempts, at_ms: int = 1_000 + PAYMENT_WAIT_MS, *, durable: bool = True) -> Any:
    return expire(row, CAPTURE, at_ms, MEANS, is_durable=durable)


def overdue() -> Attempts:
    """The capture waited as long as it may, and nobody was told."""
    row, steps = expired(waiting())
    assert steps == (Reconsider(),)
    return cast(Attempts, row)


def test_an_operation_waits_for_its_payment_as_long_as_it_may() -> None:
    """What becomes of it is told when that is durable."""
    assert expired(waiting(), 1_000 + PAYMENT_WAIT_MS - 1) is None
    row = overdue()
    assert expired(row, durable=False) == (row, (Reconsider(),))
    row, (step,) = expired(row, 1_002 + PAYMENT_WAIT_MS)
    assert isinstance(step, Tell)
    assert (step.updated.outcome, step.updated.reason) == ("refused", "payment_not_known")
    assert step.updated.occurred_at_ms == 1_002 + PAYMENT_WAIT_MS
    assert expired(row, 1_003 + PAYMENT_WAIT_MS) is None


def test_a_client_that_asks_again_after_that_is_told() -> None:
    """Not at once: the row is not durable yet."""
    assert request(waiting(), CAPTURE, 999 + PAYMENT_WAIT_MS, MEANS)[1] == ()
    row, steps = request(waiting(), CAPTURE, 1_000 + PAYMENT_WAIT_MS, MEANS)
    assert steps == (Reconsider(),)
    _, (step,) = expired(row)
    assert (step.updated.reason, step.updated.repeat) == ("payment_not_known", False)


def test_what_is_overdue_is_not_begun_and_keeps_others_waiting() -> None:
    """Its payment came between the two steps: the refusal was decided, and after it the next one begins."""
    row, _ = request(overdue(), msgspec.structs.replace(CAPTURE, operation_id="next"), 2_000, MEANS)
    row = known(row)
    assert advance("t", "p", row, MEANS) == (row, ())
    row, (refusal, begun) = expired(row)
    assert (refusal.updated.operation_id, refusal.updated.reason) == ("op", "payment_not_known")
    assert (begun.queued.operation_id, begun.queued.attempt) == ("next", 1)


def test_a_refusal_says_nothing_of_a_payment_that_comes_after_it() -> None:
    """It can be captured."""
    row, _ = expired(overdue())
    _, (begun,) = request(known(row), msgspec.structs.replace(CAPTURE, operation_id="next"), 2_000, MEANS)
    assert isinstance(begun, Ask)
    assert (begun.queued.operation_id, begun.queued.amount_minor) == ("next", 100)


def known(row: Attempts) -> Attempts:
    """The row of an authorized payment."""
    return Attempts(
        state="ended", outcome="authorized", currency="EUR", amount_minor=100, attempt=1, pic="one", life=row.life
    )


@pytest.mark.parametrize("state", ["referred", "queued", "pending", "parked", "ended"])
def test_of_a_payment_that_is_known_nothing_expires(state: str) -> None:
    row = waiting()
    row = Attempts(state=state, currency="EUR", life=row.life)
    assert expired(row) is None


def told(**named: Any) -> Told:
    fields = {"attempt": 1, "ask": 0, "outcome": "paid", "reason": "", "pic_reference": "r", "answered_at_ms": 2}
    return Told(**(fields | {"operation_id": "op"} | named))


def test_what_was_begun_before_a_crash_does_not_expire() -> None:
    """Its answer is there, so its payment is, and is read again. Also where the answer comes between the two steps."""
    assert expired(keep(waiting(), told())) is None
    row, steps = expired(keep(overdue(), told()))
    assert (steps, row.life.operations[0].state) == ((), "")
    row, steps = expired(keep(known(overdue()), told()))
    assert [step.updated.outcome for step in steps] == ["succeeded"]


def test_that_it_was_done_after_all_is_for_a_person() -> None:
    """A crash between its beginning and its end had the records read again in another order."""
    settled = settle("t", "p", expired(overdue())[0], told(), MEANS)
    assert settled is not None
    (step,) = settled[1]
    assert isinstance(step, Park)
    assert step.parked.reason == "contradiction"
