"""Operations and news through the real shells: what is queued, what is told, what is for a person, once."""

from __future__ import annotations

import asyncio
from typing import Any, cast

import pytest

from agents.dispatch import CLOCKS_APART_MAX_MS, make_delay
from pipeline import topics
from pipeline.stages.attempts import Attempts
from pipeline.stages.life import PAYMENT_WAIT_MS
from schemas.identity import payment_key
from schemas.records import (
    OperationRequested,
    PaymentAnswered,
    PaymentCompleted,
    PaymentNotified,
    PaymentParked,
    PaymentQueued,
    PaymentScored,
    PaymentUpdated,
)
from tables import attempts
from tests.simulation.world import NOW_MS, Record
from tests.stream.events import a_fact, an_answer
from tests.stream.shell import Shell, written_to

KEY = payment_key("t1", "p1")
QUEUE = topics.queue("simulator").name


def an_operation(kind: str = "capture", **named: Any) -> OperationRequested:
    """Of all that is left, unless told."""
    fields: dict[str, Any] = {
        "tenant": "t1",
        "payment_id": "p1",
        "operation_id": "op-1",
        "kind": kind,
        "currency": "EUR",
        "requested_at_ms": NOW_MS,
    }
    return OperationRequested(**(fields | named))


def news(**named: Any) -> PaymentNotified:
    """The PIC says that the payment is paid."""
    fields: dict[str, Any] = {
        "event_id": "evt-1",
        "source": "pic",
        "pic": "simulator",
        "tenant": "t1",
        "payment_id": "p1",
        "attempt": 1,
        "outcome": "paid",
        "pic_reference": "sim-9",
        "occurred_at_ms": NOW_MS,
    }
    return PaymentNotified(**(fields | named))


def authorized(**named: Any) -> Shell:
    """Dispatch with one authorized payment of 12.50."""
    shell = Shell("dispatch")
    shell.give(topics.SCORED.name, a_fact(PaymentScored, outcome="approved", kind="authorize", **named), KEY)
    shell.run()
    shell.give(topics.ANSWERED.name, an_answer(), KEY)
    shell.run()
    return shell


def updates(shell: Shell) -> list[PaymentUpdated]:
    return [event for _, event in shell.out(topics.UPDATED.name, PaymentUpdated)]


def test_an_authorization_is_captured_once_and_under_its_own_key() -> None:
    shell = authorized()
    ((_, completed),) = shell.out(topics.COMPLETED.name, PaymentCompleted)
    assert completed.outcome == "authorized"
    for _ in range(3):
        shell.give(topics.OPERATIONS.name, an_operation(amount_minor=250), KEY)
    shell.run()
    _, intent = (event for _, event in shell.out(QUEUE, PaymentQueued))
    assert (intent.kind, intent.operation_id, intent.amount_minor, intent.original_reference, intent.token) == (
        "capture",
        "op-1",
        250,
        "sim-1",
        "tok_1",
    )
    shell.give(topics.ANSWERED.name, an_answer(operation_id="op-1", pic_reference="sim-2"), KEY)
    shell.run()
    (told,) = updates(shell)
    assert (told.outcome, told.status, told.authorized_minor, told.captured_minor, told.pic_reference) == (
        "succeeded",
        "partially_captured",
        1250,
        250,
        "sim-2",
    )
    shell.give(topics.OPERATIONS.name, an_operation(amount_minor=250), KEY)
    shell.run()
    assert [(event.event_id, event.repeat) for event in updates(shell)] == [
        (told.event_id, False),
        (told.event_id, True),
    ]


def test_the_plugin_gets_what_an_operation_is_about() -> None:
    """The simulated PIC authorizes, captures in two parts, refuses a third, and refunds: through its queue alone."""
    shell = Shell("plugin")
    shell.give(QUEUE, a_fact(PaymentQueued, kind="authorize", amount_minor=100), KEY)
    shell.run()
    ((_, first),) = shell.out(topics.ANSWERED.name, PaymentAnswered)
    asked = [("capture", "a", 60), ("capture", "b", 40), ("capture", "c", 1), ("refund", "d", 100)]
    for number, (kind, name, amount) in enumerate(asked):
        queued = a_fact(
            PaymentQueued,
            kind=kind,
            operation_id=name,
            amount_minor=amount,
            original_reference=first.pic_reference,
            sender_offset=number + 1,
        )
        shell.give(QUEUE, queued, KEY)
        shell.give(QUEUE, queued, KEY)  # after a crash of dispatch: once is enough
        shell.run()
    answers = [(event.operation_id, event.outcome) for _, event in shell.out(topics.ANSWERED.name, PaymentAnswered)][1:]
    assert answers == [("a", "paid"), ("b", "paid"), ("c", "declined"), ("d", "paid")]


def test_limits_are_refused_without_a_call_and_say_what_they_are() -> None:
    shell = authorized()
    shell.give(topics.OPERATIONS.name, an_operation(amount_minor=1251), KEY)
    shell.give(topics.OPERATIONS.name, an_operation("refund", operation_id="op-2"), KEY)
    shell.give(topics.OPERATIONS.name, an_operation(operation_id="op-3", currency="USD"), KEY)
    shell.run()
    assert [(event.outcome, event.reason) for event in updates(shell)] == [
        ("refused", "amount_above_authorized"),
        ("refused", "nothing_to_refund"),
        ("refused", "currency_differs"),
    ]
    assert updates(shell)[0].detail == "status=authorized authorized=1250 captured=0 refunded=0"
    assert len(shell.out(QUEUE, PaymentQueued)) == 1


def test_another_operation_under_one_id_is_refused_and_the_first_goes_on() -> None:
    shell = authorized()
    shell.give(topics.OPERATIONS.name, an_operation(amount_minor=250), KEY)
    shell.give(topics.OPERATIONS.name, an_operation(amount_minor=300), KEY)
    shell.run()
    (refused,) = updates(shell)
    assert (refused.outcome, refused.reason) == ("refused", "conflicting_request")
    shell.give(topics.ANSWERED.name, an_answer(operation_id="op-1"), KEY)
    shell.run()
    _, done = updates(shell)
    assert (done.outcome, done.captured_minor) == ("succeeded", 250)
    assert done.event_id != refused.event_id


def test_an_operation_waits_for_its_payment() -> None:
    """A client that does not wait for the authorization is not punished: the capture follows it."""
    shell = Shell("dispatch")
    shell.give(topics.OPERATIONS.name, an_operation(), KEY)
    shell.run()
    # The clock of this machine is years ahead of this broker's: what it posts ends nothing.
    assert written_to(shell, [topics.OPERATIONS.name]) == {
        topics.OPERATIONS_DELAYED.name,
        topics.OPERATIONS_EXPIRED.name,
    }
    shell.give(topics.SCORED.name, a_fact(PaymentScored, outcome="approved", kind="authorize"), KEY)
    shell.give(topics.ANSWERED.name, an_answer(), KEY)
    shell.run()
    assert [event.kind for _, event in shell.out(QUEUE, PaymentQueued)] == ["authorize", "capture"]


def test_an_operation_whose_payment_never_comes_is_refused_once() -> None:
    """When four days are over by the broker's clock; told once more only to a client that asks again."""
    shell = Shell("dispatch")
    shell.give(topics.OPERATIONS.name, an_operation(amount_minor=250), KEY)
    shell.run()
    shell.world.broker.now_ms += PAYMENT_WAIT_MS
    ((key, expired),) = shell.out(topics.OPERATIONS_EXPIRED.name, OperationRequested)
    assert (key, expired) == (KEY, an_operation(amount_minor=250))
    for _ in range(3):
        shell.give(topics.OPERATIONS_EXPIRED.name, expired, key)
    shell.run()
    (refused,) = updates(shell)
    assert (refused.outcome, refused.reason, refused.amount_minor) == ("refused", "payment_not_known", 250)
    shell.again()
    assert {event.event_id for event in updates(shell)} == {refused.event_id}
    shell.give(topics.SCORED.name, a_fact(PaymentScored, outcome="approved", kind="authorize"), KEY)
    shell.give(topics.ANSWERED.name, an_answer(), KEY)
    shell.give(topics.OPERATIONS.name, an_operation(amount_minor=250), KEY)
    shell.run()
    assert [event.kind for _, event in shell.out(QUEUE, PaymentQueued)] == ["authorize"]
    assert (updates(shell)[-1].reason, updates(shell)[-1].repeat) == ("payment_not_known", True)


def test_what_waits_for_its_payment_is_looked_at_when_its_time_is_over() -> None:
    """Not before: the time of the broker's record, four days, and what clocks may be apart."""
    waits_until_ms: list[int] = []
    emitted: list[tuple[str, bytes, bytes]] = []

    class Waiting:
        async def until(self, at_ms: int) -> None:
            assert not emitted
            waits_until_ms.append(at_ms)

        def emit(self, topic: str, value: bytes, key: bytes) -> None:
            emitted.append((topic, value, key))

    (stage,) = make_delay().stages
    record: Any = Record(topics.OPERATIONS_DELAYED.name, 0, 0, NOW_MS, KEY, b"as it came")
    assert stage.handle_batch is not None
    work: Any = Waiting()
    asyncio.run(cast(Any, stage.handle_batch([record], work)))
    assert waits_until_ms == [NOW_MS + PAYMENT_WAIT_MS + CLOCKS_APART_MAX_MS]
    assert emitted == [(topics.OPERATIONS_EXPIRED.name, b"as it came", KEY)]


@pytest.mark.parametrize(
    ("value", "error"),
    [
        (b"", "empty_value"),
        (b"junk", "not_avro"),
        (b"x" * 70_000, "value_too_large"),
        (an_operation(operation_id="a b"), "no_operation_id"),
        (an_operation(operation_id="4111111111111111"), "no_operation_id"),
        (an_operation(tenant="NO"), "no_payment_id"),
    ],
)
def test_a_bad_operation_is_a_dead_letter_and_the_next_counts(value: Any, error: str) -> None:
    shell = authorized()
    shell.give(topics.OPERATIONS.name, value, KEY)
    shell.give(topics.OPERATIONS.name, an_operation(operation_id="good"), KEY)
    shell.run()
    assert [letter.error for letter in shell.letters()] == [error]
    assert [event.operation_id for _, event in shell.out(QUEUE, PaymentQueued)] == ["", "good"]


def test_an_operation_under_another_tenants_key_reaches_its_own_payment_only() -> None:
    shell = authorized()
    shell.give(topics.OPERATIONS.name, an_operation(tenant="t2"), KEY)
    shell.run()
    assert shell.reposted("operations") == 1
    assert len(shell.out(QUEUE, PaymentQueued)) == 1
    assert set(shell.rows(attempts.NAME, Attempts)) == {KEY, payment_key("t2", "p1")}


def test_a_challenge_is_told_once_and_resumed_by_news() -> None:
    shell = Shell("dispatch")
    shell.give(topics.SCORED.name, a_fact(PaymentScored, outcome="approved"), KEY)
    shell.give(topics.ANSWERED.name, an_answer(outcome="requires_action", action_url="https://pic.example/3ds"), KEY)
    shell.give(
        topics.ANSWERED.name, an_answer(ask=1, outcome="requires_action", action_url="https://pic.example/3ds"), KEY
    )
    shell.run()
    (told,) = updates(shell)
    assert (told.outcome, told.status, told.action_url) == (
        "requires_action",
        "requires_action",
        "https://pic.example/3ds",
    )
    shell.give(topics.NOTIFIED.name, news(), KEY)
    shell.give(topics.NOTIFIED.name, news(), KEY)
    shell.run()
    ((_, completed),) = shell.out(topics.COMPLETED.name, PaymentCompleted)
    assert (completed.outcome, completed.pic_reference) == ("paid", "sim-9")


@pytest.mark.parametrize(
    ("fields", "heard"),
    [
        ({}, True),
        ({"attempt": 2}, False),
        ({"pic": "other"}, False),
        ({"source": "statement"}, True),
        ({"source": "person", "who": "ada"}, False),  # an ask is under way
    ],
)
def test_news_are_heard_about_the_attempt_that_is_waited_for(fields: dict[str, Any], heard: bool) -> None:
    shell = Shell("dispatch")
    shell.give(topics.SCORED.name, a_fact(PaymentScored, outcome="approved"), KEY)
    shell.give(topics.ANSWERED.name, an_answer(outcome="pending"), KEY)
    shell.give(topics.NOTIFIED.name, news(**fields), KEY)
    shell.run()
    assert [event.outcome for _, event in shell.out(topics.COMPLETED.name, PaymentCompleted)] == ["paid"] * heard


@pytest.mark.parametrize(
    ("word", "outcome", "intents"), [("paid", "paid", 1), ("declined", "declined", 1), ("unsent", None, 1)]
)
def test_what_nobody_can_know_waits_for_a_person(word: str, outcome: str | None, intents: int) -> None:
    """Parked: nobody asks any more. A person says what became of it, or that it is to be sent again."""
    shell = Shell("dispatch")
    shell.give(topics.SCORED.name, a_fact(PaymentScored, outcome="approved"), KEY)
    shell.give(topics.ANSWERED.name, an_answer(outcome="unknowable"), KEY)
    shell.run()
    ((_, parked),) = shell.out(topics.PARKED.name, PaymentParked)
    assert (parked.reason, parked.pic, parked.attempt, parked.amount_minor) == ("unknowable", "simulator", 1, 1250)
    assert shell.rows(attempts.NAME, Attempts)[KEY].state == "parked"
    shell.give(topics.NOTIFIED.name, news(source="person", who="ada", outcome=word), KEY)
    shell.run()
    ended = [event.outcome for _, event in shell.out(topics.COMPLETED.name, PaymentCompleted)]
    assert ended == ([] if outcome is None else [outcome])
    assert len(shell.out(QUEUE, PaymentQueued)) == intents
    again = shell.out(topics.retries("simulator")[0].name, PaymentQueued)
    assert [(event.attempt, event.ask, event.unsent) for _, event in again] == (
        [(1, 1, True)] if outcome is None else []
    )


@pytest.mark.parametrize(
    "fields",
    [
        {"source": "rumour"},
        {"outcome": "unsent"},
        {"source": "person"},
        {"who": "ada"},
        {"attempt": 0},
        {"pic": "No PIC"},
        {"retry": "maybe"},
        {"source": "person", "who": "ada", "why": "card 4111 1111 1111 1111"},
        {"event_id": ""},
    ],
)
def test_news_that_cannot_be_used_are_dead_letters(fields: dict[str, Any]) -> None:
    shell = Shell("dispatch")
    shell.give(topics.SCORED.name, a_fact(PaymentScored, outcome="approved"), KEY)
    shell.give(topics.NOTIFIED.name, news(**fields), KEY)
    shell.run()
    assert [letter.error for letter in shell.letters()] == ["invalid_news"]
    assert topics.COMPLETED.name not in written_to(shell)


@pytest.mark.parametrize(
    ("first", "then"),
    [
        ("declined", news()),
        ("paid", news(outcome="declined", reason="other")),
    ],
)
def test_a_pic_that_takes_back_its_word_is_for_a_person(first: str, then: PaymentNotified) -> None:
    shell = Shell("dispatch")
    shell.give(topics.SCORED.name, a_fact(PaymentScored, outcome="approved"), KEY)
    shell.give(topics.ANSWERED.name, an_answer(outcome=first), KEY)
    shell.run()
    shell.give(topics.NOTIFIED.name, then, KEY)
    shell.run()
    ((_, parked),) = shell.out(topics.PARKED.name, PaymentParked)
    assert parked.reason == "contradiction"
    assert [event.outcome for _, event in shell.out(topics.COMPLETED.name, PaymentCompleted)] == [first]


def test_a_lapsed_authorization_has_expired() -> None:
    shell = authorized()
    shell.give(topics.NOTIFIED.name, news(outcome="declined", reason="authorization_expired"), KEY)
    shell.give(topics.OPERATIONS.name, an_operation(), KEY)
    shell.run()
    assert [(event.outcome, event.status, event.reason) for event in updates(shell)] == [
        ("expired", "expired", "authorization_expired"),
        ("refused", "expired", "nothing_to_capture"),
    ]
