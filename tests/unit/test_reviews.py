"""pipeline/stages/reviews.py."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from pipeline.stages.reviews import (
    Answer,
    Approved,
    Known,
    Open,
    Rejected,
    Reviews,
    answered_event,
    decide,
    due_of,
    ended_event,
    ignored_event,
    mistake_in,
    open_reviews,
    opened_event,
    refer,
    resumed_event,
)
from schemas.limits import BY_CHARS_MAX, TEXT_CHARS_MAX
from schemas.reasons import Error, Reason
from schemas.records import ListEvidence, PaymentScored, PaymentScreened, ReviewDecided
from schemas.tenant_rules import ReviewRules
from tests.stream.events import a_fact

HOUR_MS = 3_600_000
OPENED_MS = 1_000_000
DUE_MS = OPENED_MS + 2 * HOUR_MS
RULES = ReviewRules(hours=2.0, at_expiry="reject")
EVENT = b"event"


def waiting(stage: str = "screening", row: Reviews | None = None, at_ms: int = OPENED_MS, **rules: Any) -> Reviews:
    """A row with an open review."""
    given = msgspec.structs.replace(RULES, **rules)
    found = refer(row or Reviews(), stage, EVENT, at_ms=at_ms, rules=given)
    assert isinstance(found, Open)
    return found.row


def word(decision: str = "approve", stage: str = "screening", **named: str) -> ReviewDecided:
    fields: dict[str, Any] = {"by": "rita", "reason": "looked", "tenant": "t1", "payment_id": "p1"} | named
    if decision == "expired":
        fields |= {"by": "", "reason": ""}
        stage = ""
    return ReviewDecided(stage=stage, decision=decision, decided_at_ms=0, **fields)


def test_a_referral_opens_one_review_per_stage() -> None:
    """Due after the tenant's hours; the same stage again is a repeat; the row's due time is that of the first open one."""
    row = waiting()
    assert (row.due_at_ms, open_reviews(row)[0].event) == (DUE_MS, EVENT)
    assert refer(row, "screening", b"again", at_ms=OPENED_MS + 1, rules=RULES) == Known()
    both = waiting("payee", row, OPENED_MS + 5)
    assert [review.stage for review in open_reviews(both)] == ["screening", "payee"]
    assert both.due_at_ms == DUE_MS
    assert due_of(msgspec.msgpack.encode(both)) == DUE_MS
    assert due_of(msgspec.msgpack.encode(Reviews())) == 0
    assert row.reviews != both.reviews, "the row was changed in place"


@pytest.mark.parametrize(
    ("decision", "kind", "reason"),
    [
        ("approve", Approved, Reason.REVIEW_APPROVED),
        ("reject", Rejected, Reason.REVIEW_REJECTED),
    ],
)
def test_a_persons_first_word_in_time_ends_the_review(decision: str, kind: type, reason: Reason) -> None:
    """The last moment before it is due counts; the row forgets the event and remembers who."""
    row = waiting()
    answer = decide(row, word(decision), at_ms=DUE_MS - 1, offset=7)
    assert [type(ended) for ended in answer.ended] == [kind]
    assert (answer.ended[0].reason, answer.ended[0].review.event, answer.ignored) == (reason, EVENT, "")
    (review,) = answer.row.reviews
    assert (review.event, review.by, review.decision, review.decided_at_ms) == (b"", "rita", decision, DUE_MS - 1)
    assert (answer.row.due_at_ms, answer.row.decided_offset) == (0, 7)
    assert open_reviews(row), "the given row was changed in place"


@pytest.mark.parametrize(("at_expiry", "kind"), [("approve", Approved), ("reject", Rejected)])
def test_from_its_due_time_on_the_configured_answer_applies(at_expiry: str, kind: type) -> None:
    """A worker's word is enough, and nobody is named."""
    answer = decide(waiting(at_expiry=at_expiry), word("expired"), at_ms=DUE_MS, offset=0)
    assert [(type(ended), ended.reason) for ended in answer.ended] == [(kind, Reason.REVIEW_EXPIRED)]
    assert (answer.row.reviews[0].decision, answer.row.reviews[0].by) == ("expired", "")


def test_a_person_who_comes_too_late_is_told_so_and_time_has_decided() -> None:
    """Approval at the due time: the review ends by the configured answer, the word itself is ignored."""
    answer = decide(waiting(), word("approve"), at_ms=DUE_MS, offset=3)
    assert [type(ended) for ended in answer.ended] == [Rejected]
    assert answer.ignored == "too_late"
    assert answer.row.reviews[0].by == ""


def test_a_worker_with_a_clock_ahead_ends_nothing() -> None:
    """Before its time, by the broker's clock, expiry is nothing, however often."""
    row = waiting()
    assert decide(row, word("expired"), at_ms=DUE_MS - 1, offset=0) == Answer(row)


def test_later_words_change_nothing() -> None:
    """A second word is answered as already decided; the record that decided, read again, is not answered at all."""
    row = decide(waiting(), word("reject"), at_ms=OPENED_MS + 1, offset=4).row
    assert decide(row, word("approve"), at_ms=OPENED_MS + 2, offset=5) == Answer(row, (), "already_decided")
    assert decide(row, word("reject"), at_ms=OPENED_MS + 1, offset=4) == Answer(row)
    assert decide(row, word("expired"), at_ms=DUE_MS + 1, offset=6) == Answer(row)


def test_no_review_of_that_stage_is_no_decision() -> None:
    """Neither for a payment that nobody referred nor for the other stage: nothing is approved ahead."""
    assert decide(Reviews(), word(), at_ms=1, offset=0) == Answer(Reviews(), (), "no_review")
    row = waiting()
    assert decide(row, word(stage="payee"), at_ms=OPENED_MS, offset=0) == Answer(row, (), "no_review")


def test_two_reviews_of_a_payment_one_after_the_other() -> None:
    """Screening's, then fraud's: each is decided by itself, and the first one's answer stays."""
    row = decide(waiting(), word("approve"), at_ms=OPENED_MS + 1, offset=0).row
    row = waiting("payee", row, OPENED_MS + 10)
    answer = decide(row, word("reject", "payee"), at_ms=OPENED_MS + 20, offset=1)
    assert [(type(ended), ended.review.stage) for ended in answer.ended] == [(Rejected, "payee")]
    assert [review.result for review in answer.row.reviews] == ["approved", "rejected"]


def test_events_say_what_happened_and_no_name() -> None:
    """The names in screening's evidence are in none of the reviews' events; ids are derived and do not change."""
    evidence = ListEvidence(
        party="debtor", list="un", entry_id="9", score=0.92, algorithm="a", party_name="ada secret", listed_name="X Y"
    )
    screened = a_fact(PaymentScreened, outcome="referred", reason="party_resembles_listed", evidence=evidence)
    row = waiting()
    opened = opened_event(row.reviews[0], screened)
    assert (opened.event_id, opened.reason) == ("t1|p1|review|screening", "party_resembles_listed")
    assert (opened.opened_at_ms, opened.due_at_ms, opened.at_expiry) == (OPENED_MS, DUE_MS, "reject")
    assert opened.detail == "debtor resembles un 9 0.9200"
    repeated = opened_event(row.reviews[0], screened, repeat=True)
    assert msgspec.structs.replace(repeated, repeat=False) == opened
    ended = decide(row, word("reject"), at_ms=OPENED_MS + 1, offset=0).ended[0]
    told = answered_event(word("reject"), ended, at_ms=OPENED_MS + 1, trace_id="t")
    assert (told.event_id, told.result, told.by, told.reason) == (
        "t1|p1|review|screening|ended",
        "rejected",
        "rita",
        "looked",
    )
    late = decide(row, word("approve"), at_ms=DUE_MS, offset=0)
    told = answered_event(word("approve"), late.ended[0], at_ms=DUE_MS, trace_id="t")
    assert (told.decision, told.by, told.reason) == ("expired", "", "")
    ignored = ignored_event(word(), "too_late", at_ms=1, partition=2, offset=3)
    assert (ignored.event_id, ignored.result, ignored.ignored) == ("t1|p1|review|ignored|2|3", "ignored", "too_late")
    for event in (opened, told, ignored):
        assert "secret" not in repr(event)


def test_what_goes_on_is_the_event_itself_cleared_and_sent_by_the_decision() -> None:
    """All fields as they were but outcome, reason and sender; its sender is no partition of the stage that referred it."""
    screened = a_fact(PaymentScreened, outcome="referred", reason="party_resembles_listed")
    resumed = resumed_event(screened, Reason.REVIEW_APPROVED, partition=3, offset=9)
    assert (resumed.sender_partition, resumed.sender_offset) == (1_000_003, 9)
    assert (resumed.outcome, resumed.reason) == ("clear", "review_approved")
    kept = {name: getattr(screened, name) for name in ("sender_partition", "sender_offset", "outcome", "reason")}
    assert msgspec.structs.replace(resumed, **kept) == screened
    scored = a_fact(PaymentScored, outcome="referred", reason="fraud_score_raised")
    assert resumed_event(scored, Reason.REVIEW_EXPIRED, partition=0, offset=0).outcome == "approved"


def test_what_ends_says_who_referred_it() -> None:
    """Blocked after screening, declined after fraud, with the review's reason."""
    screened = a_fact(PaymentScreened, outcome="referred", reason="party_resembles_listed")
    scored = a_fact(PaymentScored, outcome="referred", reason="fraud_score_raised")
    ended = ended_event(screened, Reason.REVIEW_REJECTED, partition=0, offset=0)
    assert (ended.outcome, ended.reason, ended.stage) == ("blocked", "review_rejected", "reviews")
    assert ended.detail == "screening: party_resembles_listed"
    assert ended_event(scored, Reason.REVIEW_EXPIRED, partition=0, offset=0).outcome == "declined"


@pytest.mark.parametrize(
    ("named", "error"),
    [
        ({"tenant": "T 1"}, Error.NO_PAYMENT_ID),
        ({"payment_id": "a|b"}, Error.NO_PAYMENT_ID),
        ({"payment_id": "4111111111111111"}, Error.CARD_NUMBER_IN_ID),
        ({"decision": "maybe"}, Error.INVALID_DECISION),
        ({"stage": "localization"}, Error.INVALID_DECISION),
        ({"stage": ""}, Error.INVALID_DECISION),
        ({"by": ""}, Error.INVALID_DECISION),
        ({"by": " "}, Error.INVALID_DECISION),
        ({"reason": ""}, Error.INVALID_DECISION),
        ({"reason": "two\nlines"}, Error.INVALID_DECISION),
        ({"by": "x" * (BY_CHARS_MAX + 1)}, Error.INVALID_DECISION),
        ({"reason": "x" * (TEXT_CHARS_MAX + 1)}, Error.INVALID_DECISION),
        ({"reason": "card 4111 1111 1111 1111"}, Error.CARD_NUMBER_IN_TEXT),
        ({"decision": "expired", "stage": "", "by": "rita", "reason": ""}, Error.INVALID_DECISION),
    ],
)
def test_decisions_come_from_outside_and_are_checked(named: dict[str, str], error: Error) -> None:
    """Ids, words and bounds; no card number in any text, and the mistake repeats no content."""
    given = msgspec.structs.replace(word(), **named)
    found = mistake_in(given)
    assert found is not None
    assert found[0] == error
    assert "4111" not in found[1]


def test_what_is_right_is_taken() -> None:
    """At the bounds, and a worker's word."""
    for given in (word(), word("expired"), word(by="x" * BY_CHARS_MAX, reason="y" * TEXT_CHARS_MAX)):
        assert mistake_in(given) is None
