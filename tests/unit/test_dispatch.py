"""The payment's state machine, one decision at a time."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from pipeline.stages.asking import Means, Park
from pipeline.stages.attempts import Attempts
from pipeline.stages.dispatch import (
    ROUTE_READS,
    AnswerAgain,
    AskAgain,
    End,
    Ignore,
    Queue,
    RefuseConflict,
    Steps,
    completed_fields,
    completed_id,
    end,
    refused_id,
    route,
    settle,
)
from schemas.codec import Codec
from schemas.records import (
    FeatureEffect,
    PaymentAnswered,
    PaymentCompleted,
    PaymentEnded,
    PaymentQueued,
    PaymentScored,
    PaymentTerms,
)

MEANS = Means(pics=("simulator",), delays_s=(1, 5, 30))
CARRIED = b"carried"
#: Of the fields before the carried ones, those that are as in a plain payment.
HEAD = {"rule_version": 3, "challenge": False, "operation_id": "", "original_reference": "", "unsent": False}


def scored(**fields: Any) -> dict[str, Any]:
    """The fields that the shell reads of a ``PaymentScored``; an approved one unless told."""
    return {
        "sender_partition": 0,
        "sender_offset": 7,
        "rule_version": 3,
        "outcome": "approved",
        "reason": "",
        "score": 0.25,
        "score_reasons": [],
        "effects": [],
        "fee_minor": 30,
        "pic": "simulator",
        "requested_at_ms": 1_000,
        "amount_minor": 1_250,
        "tenant": "aurora",
        "payment_id": "p1",
        "currency": "EUR",
        "received_at_ms": 1_100,
        "trace_id": "0af7651916cd43dd8448eb211c80319c",
        "trace_context": "00f067aa0ba902b7-01;rojo=1",
        "terms": None,
        "kind": "payment",
        "method": "card",
        "token": "tok_1",
    } | fields


def ended(**fields: Any) -> PaymentEnded:
    """A blocked first request unless told."""
    valid: dict[str, Any] = {
        "sender_partition": 0,
        "sender_offset": 7,
        "rule_version": 3,
        "outcome": "blocked",
        "reason": "party_on_sanctions_list",
        "stage": "screening",
        "request_kind": "first",
        "request_id": "r1",
        "requested_at_ms": 1_000,
        "amount_minor": 1_250,
        "currency": "EUR",
        "detail": "debtor",
        "tenant": "aurora",
        "payment_id": "p1",
        "received_at_ms": 1_100,
        "trace_id": "t",
    }
    return PaymentEnded(**(valid | fields))


def answer(**fields: Any) -> PaymentAnswered:
    """Paid, to the first ask, unless told."""
    valid: dict[str, Any] = {
        "attempt": 1,
        "ask": 0,
        "outcome": "paid",
        "pic_reference": "ref-1",
        "answered_at_ms": 50_000,
        "called": True,
        "pic": "simulator",
        "tenant": "aurora",
        "payment_id": "p1",
    }
    return PaymentAnswered(**(valid | fields))


def queued_row() -> Attempts:
    decision = route(None, scored(), CARRIED, means=MEANS)
    assert isinstance(decision, Queue)
    return decision.row


def pending_row(ask: int) -> Attempts:
    row = queued_row()
    for n in range(ask):
        decision = settle(row, answer(ask=n, outcome="pending", pic_reference=""), means=MEANS)
        assert isinstance(decision, AskAgain)
        row = decision.row
    return row


def paid_row() -> Attempts:
    decision = settle(queued_row(), answer(), means=MEANS)
    assert isinstance(decision, End)
    return decision.row


PAID = PaymentCompleted(
    event_id="aurora|p1|completed",
    tenant="aurora",
    payment_id="p1",
    outcome="paid",
    reason="",
    stage="plugin",
    detail="",
    rule_version=3,
    requested_at_ms=1_000,
    received_at_ms=1_100,
    amount_minor=1_250,
    currency="EUR",
    fee_minor=30,
    score=0.25,
    pic="simulator",
    pic_reference="ref-1",
    attempts=1,
    repeat=False,
    trace_id="0af7651916cd43dd8448eb211c80319c",
    trace_context="00f067aa0ba902b7-01;rojo=1",
)


def test_an_approved_payment_is_queued_once_as_the_first_ask_of_the_first_attempt() -> None:
    """Approved: attempt 1, ask 0, at once, with the carried bytes; the row waits for that answer."""
    decision = route(None, scored(), CARRIED, means=MEANS)
    assert isinstance(decision, Queue)
    assert decision.head() == {"attempt": 1, "ask": 0, "not_before_ms": 0} | HEAD
    assert decision.carried == CARRIED
    assert (decision.row.state, decision.row.attempt, decision.row.ask) == ("queued", 1, 0)
    assert decision.row.queued == CARRIED
    again = route(decision.row, scored(), CARRIED, means=MEANS)
    assert isinstance(again, Ignore)
    assert again.row is decision.row


def test_the_queued_event_is_built_from_head_and_carried_bytes() -> None:
    """What the shell reads of a real ``PaymentScored`` is enough to write a real ``PaymentQueued``."""
    codec = Codec()
    fields = scored() | {"payee_features": [1, 2], "payer_features": [3], "creditor_id": "c1", "terminal_id": "t1"}
    fields |= {"debtor_id": "d1", "country": "DE", "method": "card", "token": "tok_1", "request": b"\x01body"}
    data, carried = codec.carrying_reader(PaymentScored, "fee_minor", ROUTE_READS)(
        codec.encode(PaymentScored(**fields))
    )
    decision = route(None, data, carried, means=MEANS)
    assert isinstance(decision, Queue)
    value = codec.carrying_writer(PaymentQueued, "fee_minor", PaymentScored)(
        decision.head() | {"sender_partition": 0, "sender_offset": 7}, decision.carried
    )
    queued = codec.decode(value, PaymentQueued)
    assert (queued.attempt, queued.ask, queued.not_before_ms, queued.rule_version) == (1, 0, 0, 3)
    assert (queued.tenant, queued.payment_id, queued.fee_minor, queued.pic) == ("aurora", "p1", 30, "simulator")
    assert queued.request == b"\x01body"


@pytest.mark.parametrize(
    ("fields", "outcome", "reason", "stage", "detail"),
    [
        ({"outcome": "declined", "reason": "fraud_score_high"}, "declined", "fraud_score_high", "payee", ""),
        ({"outcome": "declined"}, "declined", "fraud_score_high", "payee", ""),
        (
            {"outcome": "declined", "reason": "fraud_score_high", "score_reasons": ["a", "b"]},
            "declined",
            "fraud_score_high",
            "payee",
            "a,b",
        ),
        ({"pic": "other"}, "refused", "unknown_pic", "dispatch", "pic=other"),
        ({"outcome": "declined", "pic": "other"}, "declined", "fraud_score_high", "payee", ""),
    ],
)
def test_what_is_not_approved_or_has_no_plugin_ends(
    fields: dict[str, Any], outcome: str, reason: str, stage: str, detail: str
) -> None:
    """Fraud's word comes first, then the PIC; nothing is kept for asking, and no attempt was made."""
    decision = route(None, scored(**fields), CARRIED, means=MEANS)
    assert isinstance(decision, End)
    done = decision.completed
    assert (done.outcome, done.reason, done.stage, done.detail) == (outcome, reason, stage, detail)
    assert (done.event_id, done.attempts, done.repeat) == ("aurora|p1|completed", 0, False)
    assert (decision.row.state, decision.row.queued) == ("ended", b"")


def test_what_the_model_said_is_in_the_detail() -> None:
    """Rules first, then the features that raised the score; one that lowered it speaks for the payment."""
    effects = [
        FeatureEffect(feature="amount_z", value=9.0, usual=0.0, effect=0.4),
        FeatureEffect(feature="night", value=0.0, usual=1.0, effect=-0.1),
    ]
    decision = route(None, scored(outcome="declined", score_reasons=["a"], effects=effects), CARRIED, means=MEANS)
    assert isinstance(decision, End)
    assert decision.completed.detail == "a,amount_z"


def test_a_challenged_payment_goes_on_and_every_ask_says_so() -> None:
    """Queued as an approved one, with the challenge; after an unknown answer the next ask has it too."""
    decision = route(None, scored(outcome="challenged", reason="fraud_score_notable"), CARRIED, means=MEANS)
    assert isinstance(decision, Queue)
    assert (decision.row.state, decision.head()["challenge"]) == ("queued", True)
    again = settle(decision.row, answer(outcome="pending"), means=MEANS)
    assert isinstance(again, AskAgain)
    assert again.head()["challenge"] is True


def test_an_outcome_that_fraud_does_not_have_is_an_error() -> None:
    """It names the payment and the value, and nothing is decided."""
    with pytest.raises(ValueError, match=r"aurora\|p1.*'maybe'"):
        route(None, scored(outcome="maybe"), CARRIED, means=MEANS)


def test_a_first_request_that_ended_early_ends_the_payment() -> None:
    """Outcome, reason, stage and detail are those of the stage."""
    decision = end(None, ended(), means=MEANS)
    assert isinstance(decision, End)
    done = decision.completed
    assert (done.outcome, done.reason, done.stage, done.detail) == (
        "blocked",
        "party_on_sanctions_list",
        "screening",
        "debtor",
    )
    assert (done.amount_minor, done.currency, done.rule_version, done.trace_id) == (1_250, "EUR", 3, "t")
    assert isinstance(end(decision.row, ended(), means=MEANS), Ignore)
    assert isinstance(end(queued_row(), ended(), means=MEANS), Ignore)


@pytest.mark.parametrize("outcome", ["paid", "accepted", ""])
def test_no_early_stage_can_end_a_payment_as_paid_or_as_nothing(outcome: str) -> None:
    """Only a PIC says paid; only an outcome is an outcome."""
    with pytest.raises(ValueError, match=r"paid|is not a valid Outcome"):
        end(None, ended(outcome=outcome), means=MEANS)


def test_a_repeat_of_an_ended_payment_gets_the_same_answer() -> None:
    """All the same, event id included, but for the mark."""
    decision = end(paid_row(), ended(request_kind="repeat", outcome="", reason=""), means=MEANS)
    assert isinstance(decision, AnswerAgain)
    assert decision.completed == msgspec.structs.replace(PAID, repeat=True)


def test_a_repeat_in_flight_is_noted_and_answered_by_the_completion() -> None:
    """Before routing, queued or pending: nothing is sent, the row notes it once, and the payment goes on."""
    repeat = ended(request_kind="repeat", outcome="", reason="")
    for row in (None, queued_row(), pending_row(2)):
        decision = end(row, repeat, means=MEANS)
        assert isinstance(decision, Ignore)
        assert decision.row is not None
        assert decision.row.asked_again
        assert decision.row.state == (row.state if row else "")
        second = end(decision.row, repeat, means=MEANS)
        assert isinstance(second, Ignore)
        assert second.row is decision.row
    assert isinstance(route(Attempts(asked_again=True), scored(), CARRIED, means=MEANS), Queue)


def test_a_conflicting_request_is_refused_and_changes_nothing() -> None:
    """It has an event id of its own, from the request's hash; the payment's outcome stays."""
    row = paid_row()
    conflict = ended(request_kind="conflict", outcome="refused", amount_minor=9, detail="amount_minor", request_id="r2")
    decision = end(row, conflict, means=MEANS)
    assert isinstance(decision, RefuseConflict)
    assert decision.row is row
    done = decision.completed
    assert done.event_id == "aurora|p1|refused|r2"
    assert (done.outcome, done.reason, done.detail) == ("refused", "conflicting_request", "amount_minor")
    assert (done.amount_minor, done.pic_reference, done.attempts) == (9, "", 0)
    unrouted = end(None, conflict, means=MEANS)
    assert isinstance(unrouted, RefuseConflict)
    assert unrouted.row is None


@pytest.mark.parametrize("fields", [{"request_kind": "conflict", "request_id": ""}, {"request_kind": "third"}])
def test_a_conflict_without_id_or_an_unknown_kind_is_an_error(fields: dict[str, str]) -> None:
    """Two conflicts without ids would share one event id."""
    with pytest.raises(ValueError, match=r"aurora\|p1"):
        end(None, ended(**fields), means=MEANS)


def test_a_paid_answer_ends_the_payment() -> None:
    """Every field of the completion, by hand."""
    decision = settle(queued_row(), answer(), means=MEANS)
    assert isinstance(decision, End)
    assert decision.completed == PAID
    assert (decision.row.state, decision.row.queued) == ("ended", b"")


@pytest.mark.parametrize(
    ("given", "detail"),
    [("insufficient_funds", "insufficient_funds"), ("pic_declined", ""), ("", ""), ("Mr X has no money", "")],
)
def test_a_decline_keeps_the_pics_own_reason_only_when_it_is_one(given: str, detail: str) -> None:
    """The stable reason is ``pic_declined``; free text of a PIC goes nowhere."""
    decision = settle(pending_row(1), answer(ask=1, outcome="declined", reason=given), means=MEANS)
    assert isinstance(decision, End)
    done = decision.completed
    assert (done.outcome, done.reason, done.stage, done.detail) == ("declined", "pic_declined", "plugin", detail)


@pytest.mark.parametrize(
    ("ask", "tier", "not_before_ms"), [(0, 0, 51_000), (1, 1, 55_000), (2, 2, 80_000), (3, 2, 80_000), (9, 2, 80_000)]
)
def test_an_unknown_answer_is_asked_for_again_after_1_5_30_30_seconds(ask: int, tier: int, not_before_ms: int) -> None:
    """Answered at 50 s: the same attempt, the next ask, on the topic of its delay, with the same carried bytes."""
    unknown = answer(ask=ask, outcome="pending", reason="pic_answer_unknown", pic_reference="")
    decision = settle(pending_row(ask), unknown, means=MEANS)
    assert isinstance(decision, AskAgain)
    assert (decision.tier, decision.not_before_ms, decision.carried) == (tier, not_before_ms, CARRIED)
    assert (
        decision.head()
        == {
            "attempt": 1,
            "ask": ask + 1,
            "not_before_ms": not_before_ms,
        }
        | HEAD
    )
    assert (decision.row.state, decision.row.ask) == ("pending", ask + 1)


@pytest.mark.parametrize("outcome", ["pending", "not_found", "error", ""])
def test_whatever_is_not_an_explicit_word_is_pending(outcome: str) -> None:
    """An unknown answer is never a success and never a failure."""
    assert isinstance(settle(queued_row(), answer(outcome=outcome), means=MEANS), AskAgain)


@pytest.mark.parametrize(("attempt", "ask", "outcome"), [(1, 1, "paid"), (1, 0, "declined"), (0, 2, "declined")])
def test_an_answer_to_an_earlier_ask_changes_nothing(attempt: int, ask: int, outcome: str) -> None:
    """The row waits for attempt 1, ask 2. An earlier *attempt* that says paid is another matter: see contradictions."""
    row = pending_row(2)
    decision = settle(row, answer(attempt=attempt, ask=ask, outcome=outcome), means=MEANS)
    assert isinstance(decision, Ignore)
    assert decision.row is row


def test_an_answer_to_a_later_ask_is_kept_and_settles_the_payment_when_the_row_is_there() -> None:
    """After a crash the row waits for ask 1; the answer to ask 2, queued before the crash, is read first."""
    kept = settle(pending_row(1), answer(ask=2), means=MEANS)
    assert isinstance(kept, Ignore)
    assert kept.row is not None
    assert (kept.row.state, kept.row.ask) == ("pending", 1)
    decision = settle(kept.row, answer(ask=1, outcome="pending"), means=MEANS)
    assert isinstance(decision, End)
    assert decision.completed == PAID
    assert decision.row.earlier == ()


def test_any_answer_that_agrees_to_an_ended_payment_is_nothing() -> None:
    for told in (answer(), answer(ask=7), answer(outcome="pending"), answer(attempt=2, outcome="declined")):
        row = paid_row()
        decision = settle(row, told, means=MEANS)
        assert isinstance(decision, Ignore)
        assert decision.row is row


def early_row(**fields: Any) -> Attempts:
    decision = settle(None, answer(**fields), means=MEANS)
    assert isinstance(decision, Ignore)
    assert decision.row is not None
    return decision.row


def test_an_answer_before_its_row_is_kept_and_settles_the_payment_when_it_is_routed() -> None:
    """After a crash: the first early answer counts, nothing is queued a second time, and the end is the usual one."""
    row = early_row()
    assert row.state == ""
    second = settle(row, answer(outcome="declined"), means=MEANS)
    assert isinstance(second, Ignore)
    assert second.row is row
    decision = route(row, scored(), CARRIED, means=MEANS)
    assert isinstance(decision, End)
    assert decision.completed == PAID
    assert decision.row == paid_row()


def test_an_early_unknown_answer_is_asked_for_again() -> None:
    """Answered at 50 s: ask 1 at 51 s, with the carried bytes of the record that is routed."""
    row = early_row(outcome="pending", pic_reference="")
    decision = route(row, scored(), CARRIED, means=MEANS)
    assert isinstance(decision, AskAgain)
    assert decision.head() == {"attempt": 1, "ask": 1, "not_before_ms": 51_000} | HEAD
    assert (decision.row.state, decision.row.queued) == ("pending", CARRIED)


def test_an_early_answer_does_not_overrule_an_earlier_stage() -> None:
    """What fraud or screening ended stays ended as they said, and the answer is not kept."""
    for decision in (
        route(early_row(), scored(outcome="declined"), CARRIED, means=MEANS),
        end(early_row(), ended(outcome="declined"), means=MEANS),
    ):
        assert isinstance(decision, End)
        assert (decision.completed.outcome, decision.row.early) == ("declined", None)


def test_there_is_no_completion_before_the_end() -> None:
    """Asking for one is a mistake of the caller."""
    with pytest.raises(ValueError, match="'queued'"):
        completed_fields("aurora", "p1", queued_row())


def test_a_row_survives_storage_and_keeps_the_engines_version_first() -> None:
    """MessagePack array, the version its first element; decisions carry it over."""
    row = msgspec.structs.replace(queued_row(), version=42)
    decision = settle(row, answer(), means=MEANS)
    assert isinstance(decision, End)
    stored = msgspec.msgpack.encode(decision.row)
    assert msgspec.msgpack.decode(stored)[:2] == [42, "ended"]
    assert msgspec.msgpack.decode(stored, type=Attempts) == decision.row


def test_event_ids_are_derived() -> None:
    """As readers are told."""
    assert completed_id("aurora", "p1") == "aurora|p1|completed"
    assert refused_id("aurora", "p1", "r2") == "aurora|p1|refused|r2"


# -- other routes ------------------------------------------------------------------------------------------------------

TWO = Means(
    pics=("simulator", "other"),
    delays_s=(1, 5, 30),
    carried_as="now",
    with_pic=lambda carried, carried_as, pic: carried + f"|{carried_as}|{pic}".encode(),
)


def routed(*routes: str) -> Attempts:
    terms = PaymentTerms(payable_minor=1_250, routes=list(routes))
    decision = route(None, scored(terms=terms), CARRIED, means=TWO)
    assert isinstance(decision, Queue)
    return decision.row


def test_routes_without_a_plugin_are_left_out() -> None:
    """Of the routes those that this worker has are tried, in their order; the first one that there is carries it."""
    row = routed("simulator", "gone", "other")
    assert (row.pic, row.routes) == ("simulator", ("other",))
    first = route(None, scored(pic="gone", terms=PaymentTerms(payable_minor=1, routes=["other"])), CARRIED, means=TWO)
    assert isinstance(first, Queue)
    assert (first.row.pic, first.row.routes) == ("other", ())


@pytest.mark.parametrize(
    "fields",
    [{"outcome": "unsent"}, {"outcome": "declined", "retry": "elsewhere"}, {"outcome": "declined", "retry": "here"}],
)
def test_what_was_surely_not_done_goes_to_the_next_route_as_another_attempt(fields: dict[str, str]) -> None:
    """Its own idempotency key, on that PIC's queue, with what it carried rewritten for it; then there is nowhere to go."""
    decision = settle(routed("simulator", "other"), answer(**fields), means=TWO)
    assert isinstance(decision, Queue)
    assert (decision.row.pic, decision.row.attempt, decision.row.ask, decision.row.routes) == ("other", 2, 0, ())
    assert decision.carried == decision.row.queued == CARRIED + b"|now|other"
    assert decision.head()["attempt"] == 2
    last = settle(decision.row, answer(attempt=2, outcome="declined", retry="elsewhere"), means=TWO)
    assert isinstance(last, End)
    assert (last.completed.outcome, last.completed.pic, last.completed.attempts) == ("declined", "other", 2)


def test_an_unknown_answer_stays_where_it_is() -> None:
    decision = settle(routed("simulator", "other"), answer(outcome="pending"), means=TWO)
    assert isinstance(decision, AskAgain)
    assert (decision.row.pic, decision.row.attempt, decision.row.routes) == ("simulator", 1, ("other",))


@pytest.mark.parametrize("told", [answer(outcome="paid"), answer(outcome="paid", ask=3)])
def test_an_earlier_attempt_that_was_paid_after_all_is_for_a_person(told: PaymentAnswered) -> None:
    """It is at another PIC by now: money may move twice. The payment itself goes on."""
    row = routed("simulator", "other")
    moved = settle(row, answer(outcome="unsent"), means=TWO)
    assert isinstance(moved, Queue)
    decision = settle(moved.row, told, means=TWO)
    assert isinstance(decision, Steps)
    assert decision.row is moved.row
    (step,) = decision.also
    assert isinstance(step, Park)
    assert (step.parked.reason, step.parked.attempt) == ("contradiction", 1)
