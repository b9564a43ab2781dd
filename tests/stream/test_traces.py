"""The caller's trace through the real shells: from the request's headers to every event, every PIC call and what follows."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest

from connectors.pic.base import Abilities, Answer, Call, Plugin
from connectors.pic.calls import OneByOne
from pipeline import topics
from pipeline.stages.attempts import Attempts
from schemas.identity import payer_key
from schemas.records import (
    OperationRequested,
    PaymentAnswered,
    PaymentCompleted,
    PaymentEnded,
    PaymentLocalized,
    PaymentProfiled,
    PaymentQueued,
    PaymentScored,
    PaymentScreened,
    PaymentUpdated,
)
from tables import attempts
from tests.builders import a_request
from tests.simulation.world import NOW_MS
from tests.stream.events import KEY, PAYEE, a_fact, an_answer
from tests.stream.shell import CODEC, LISTED, Shell

TRACE, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
CONTEXT = f"{PARENT}-01;rojo=1"
HEADERS = [("traceparent", f"00-{TRACE}-{PARENT}-01".encode()), ("tracestate", b"rojo=1")]
QUEUE = topics.queue("simulator").name


def context_of(shell: Shell, topic: str, record: type[Any]) -> set[tuple[str, str]]:
    return {(event.trace_id, event.trace_context) for _, event in shell.out(topic, record)}


@pytest.mark.parametrize("name", ["Ada Lovelace", LISTED])
def test_screening_takes_it_from_the_requests_headers(name: str) -> None:
    """Into the event that goes on, and into the one that ends the payment."""
    shell = Shell("screening")
    request = a_request(requested_at_ms=NOW_MS, debtor_name=name)
    shell.world.broker.append(topics.REQUESTED.name, CODEC.encode(request), KEY, headers=HEADERS)
    shell.run()
    assert context_of(shell, topics.SCREENED.name, PaymentScreened) == {(TRACE, CONTEXT)}
    ended = {(TRACE, CONTEXT)} if name == LISTED else set()
    assert context_of(shell, topics.ENDED.name, PaymentEnded) == ended


#: Of each stage in the middle: its name, what it reads under which key, what it writes.
FLOW = [
    ("localization", topics.SCREENED.name, PaymentScreened, KEY, topics.LOCALIZED.name, PaymentLocalized),
    ("payer", topics.LOCALIZED.name, PaymentLocalized, payer_key("t1", "d1"), topics.PROFILED.name, PaymentProfiled),
    ("payee", topics.PROFILED.name, PaymentProfiled, PAYEE, topics.SCORED.name, PaymentScored),
    ("dispatch", topics.SCORED.name, PaymentScored, KEY, QUEUE, PaymentQueued),
]


@pytest.mark.parametrize(("stage", "source", "reads", "key", "target", "writes"), FLOW)
def test_every_stage_passes_it_on(stage: str, source: str, reads: Any, key: bytes, target: str, writes: Any) -> None:
    """Unread, with the other fields that are carried."""
    shell = Shell(stage)
    shell.give(source, a_fact(reads, trace_context=CONTEXT), key)
    shell.run()
    assert context_of(shell, target, writes) == {(TRACE, CONTEXT)}


def taken(events: list[tuple[bytes | None, Any]], since_ms: int) -> list[int]:
    """When the stages say that they took what these came of, checked to be from ``since_ms`` to now."""
    times = [event.taken_at_ms for _, event in events]
    assert all(since_ms <= at_ms <= time.time() * 1000 for at_ms in times), times
    return times


@pytest.mark.parametrize(("stage", "source", "reads", "key", "target", "writes"), FLOW)
def test_every_stage_says_when_it_took_its_batch(
    stage: str, source: str, reads: Any, key: bytes, target: str, writes: Any
) -> None:
    """Its own time, not the one that it was given; one for all of a batch."""
    shell, since_ms = Shell(stage), int(time.time() * 1000)
    for offset in range(2):
        fact = a_fact(reads, taken_at_ms=7, payment_id=f"p{offset}", sender_offset=offset + 1)
        shell.give(source, fact, f"t1|p{offset}".encode() if key == KEY else key, 0)
    shell.run()
    times = taken(shell.out(target, writes), since_ms)
    assert len(times) == 2
    assert len(set(times)) == 1


def test_the_first_and_the_last_stage_say_it_too() -> None:
    """Screening, settlement of an answer, and the ask that follows a lost one."""
    since_ms = int(time.time() * 1000)
    shell = Shell("screening")
    shell.ask(a_request(requested_at_ms=NOW_MS))
    shell.run()
    assert len(taken(shell.out(topics.SCREENED.name, PaymentScreened), since_ms)) == 1
    shell = Shell("dispatch")
    shell.give(topics.SCORED.name, a_fact(PaymentScored, outcome="approved"), KEY)
    shell.run()
    shell.give(topics.ANSWERED.name, an_answer(outcome="pending"), KEY)
    shell.run()
    shell.give(topics.ANSWERED.name, an_answer(ask=1), KEY)
    shell.run()
    assert len(taken(shell.out(topics.retries("simulator")[0].name, PaymentQueued), since_ms)) == 1
    assert len(taken(shell.out(topics.COMPLETED.name, PaymentCompleted), since_ms)) == 1


def test_the_outcome_and_what_follows_have_it_too() -> None:
    """It is in the payment's row; an operation is of its payment's trace, or of its own caller's."""
    shell = Shell("dispatch")
    shell.give(
        topics.SCORED.name, a_fact(PaymentScored, outcome="approved", kind="authorize", trace_context=CONTEXT), KEY
    )
    shell.run()
    shell.give(topics.ANSWERED.name, an_answer(), KEY)
    shell.run()
    assert context_of(shell, topics.COMPLETED.name, PaymentCompleted) == {(TRACE, CONTEXT)}
    [row] = shell.rows(attempts.NAME, Attempts).values()
    assert (row.trace_id, row.trace_context) == (TRACE, CONTEXT)
    for operation_id, headers in (("op-1", []), ("op-2", [("traceparent", f"00-{'1' * 32}-{'2' * 16}-00".encode())])):
        operation = OperationRequested(
            tenant="t1", payment_id="p1", operation_id=operation_id, kind="void", currency="EUR", requested_at_ms=NOW_MS
        )
        shell.world.broker.append(topics.OPERATIONS.name, CODEC.encode(operation), KEY, headers=headers)
        shell.run()
    shell.give(topics.ANSWERED.name, an_answer(operation_id="op-1"), KEY)
    shell.run()
    queued = {
        (event.operation_id, event.trace_id) for _, event in shell.out(QUEUE, PaymentQueued) if event.operation_id
    }
    assert queued == {("op-1", TRACE)}
    told = {
        (event.operation_id, event.trace_id, event.trace_context)
        for _, event in shell.out(topics.UPDATED.name, PaymentUpdated)
    }
    assert told == {("op-1", TRACE, ""), ("op-2", "1" * 32, "2" * 16 + "-00")}


class Slow(Plugin):
    """Takes 30 ms for payments whose token says so, and notes the headers that it would send."""

    abilities = Abilities(deduplicates=True)

    def __init__(self) -> None:
        self.headers: list[dict[str, str]] = []

    async def authorize(self, call: Call) -> Answer:
        self.headers.append(call.trace_headers())
        await asyncio.sleep(0.03 if call.token == "slow" else 0)
        return Answer("succeeded", pic_reference="r")


def test_a_pic_is_told_and_each_call_has_its_own_time() -> None:
    """Two calls of one batch: the quick one does not get the slow one's time; both say when they were made."""
    plugin = Slow()
    shell = Shell("plugin")
    one_by_one = OneByOne("simulator", plugin, timeout_s=5.0)
    shell.pic.perform = one_by_one.perform  # type: ignore[method-assign]
    before_ms = int(time.time() * 1000)
    for payment_id, token in (("p1", "slow"), ("p2", "quick")):
        fact = a_fact(
            PaymentQueued, payment_id=payment_id, token=token, trace_context=CONTEXT, sender_offset=int(payment_id[1])
        )
        shell.give(QUEUE, fact, f"t1|{payment_id}".encode(), 0)
    shell.run()
    answers = {event.payment_id: event for _, event in shell.out(topics.ANSWERED.name, PaymentAnswered)}
    assert answers["p1"].call_ms >= 29
    assert answers["p2"].call_ms < 25
    for answer in answers.values():
        assert before_ms - 5 <= answer.called_at_ms <= time.time() * 1000
    assert [each["traceparent"][3:35] for each in plugin.headers] == [TRACE, TRACE]
    assert [each["tracestate"] for each in plugin.headers] == ["rojo=1"] * 2


def test_a_pic_that_takes_whole_batches_has_the_batchs_time() -> None:
    """And what was answered without a call has none."""
    shell = Shell("plugin")
    before_ms = int(time.time() * 1000)
    shell.give(QUEUE, a_fact(PaymentQueued), KEY)
    shell.run()
    [(_, answer)] = shell.out(topics.ANSWERED.name, PaymentAnswered)
    assert before_ms <= answer.called_at_ms <= time.time() * 1000
    assert answer.call_ms < 1000
