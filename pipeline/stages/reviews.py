"""Reviews: a referred payment waits until a person decides, or until its time is over. Pure: all that it knows is an
argument, and time is the broker's.

A review opens when a stage refers a payment, once per payment and stage. The first decision that counts ends it:

* a person's, when the broker received it before the review was due;
* from then on, whoever writes, the answer that the tenant configured for this case. Something must be written, for nothing
  happens without a record: the worker that owns the row posts ``expired`` when the time has come.

Approved, the payment's event goes on from the stage that referred it; rejected, the payment ends.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import msgspec

from schemas.card_numbers import holds_card_number
from schemas.identity import ID_PATTERN, TENANT_PATTERN, review_sender
from schemas.limits import BY_CHARS_MAX, TEXT_CHARS_MAX
from schemas.reasons import Error, Outcome, Reason
from schemas.records import (
    PaymentEnded,
    PaymentScored,
    PaymentScreened,
    ReviewAnswered,
    ReviewDecided,
    ReviewOpened,
)
from schemas.tenant_rules import ReviewRules

APPROVE: Final = "approve"
REJECT: Final = "reject"
EXPIRED: Final = "expired"
DECISIONS: Final = frozenset({APPROVE, REJECT, EXPIRED})

APPROVED: Final = "approved"
REJECTED: Final = "rejected"
IGNORED: Final = "ignored"

#: Why a decision changed nothing.
NO_REVIEW: Final = "no_review"
ALREADY_DECIDED: Final = "already_decided"
TOO_LATE: Final = "too_late"

SCREENING: Final = "screening"
PAYEE: Final = "payee"
#: What ends events and rows name as their stage.
NAME: Final = "reviews"

_HOUR_MS: Final = 60 * 60 * 1000

#: The events of payments that are referred.
Referred = PaymentScreened | PaymentScored


class Review(msgspec.Struct, array_like=True, frozen=True):
    """One review of one payment. Times are the broker's."""

    stage: str
    opened_at_ms: int
    due_at_ms: int
    #: The tenant's answer when nobody decides in time.
    at_expiry: str
    #: The referred event, Avro as it came; empty once the review has ended.
    event: bytes
    #: ``approved`` or ``rejected``, and by which decision of whom; empty while it is open.
    result: str = ""
    decision: str = ""
    by: str = ""
    decided_at_ms: int = 0


class Reviews(msgspec.Struct, array_like=True):
    """A payment's row. Never changed in place here."""

    #: The engine's; decisions carry it over as it is.
    version: int = 0
    #: When the first open review is due; 0 when none is open. Second, so that it is read without the rest.
    due_at_ms: int = 0
    #: Offset of the last decision that ended a review, in the row's own partition: a repeat of it is known.
    decided_offset: int = -1
    #: In the order in which they opened; at most one per stage.
    reviews: list[Review] = []


class _Due(msgspec.Struct, array_like=True):
    version: int = 0
    due_at_ms: int = 0


_decode_due = msgspec.msgpack.Decoder(_Due).decode


def due_of(row: bytes) -> int:
    """When the first open review of an encoded row is due, epoch ms; 0 when none is open."""
    return _decode_due(row).due_at_ms


@dataclass(frozen=True, slots=True)
class Open:
    """A review begins."""

    row: Reviews
    review: Review


@dataclass(frozen=True, slots=True)
class Known:
    """This stage's review of the payment was opened before: a repeat."""


@dataclass(frozen=True, slots=True)
class Approved:
    """The payment goes on. ``review`` is as it was, with its event."""

    review: Review
    decision: str
    reason: Reason


@dataclass(frozen=True, slots=True)
class Rejected:
    """The payment ends. ``review`` is as it was, with its event."""

    review: Review
    decision: str
    reason: Reason


@dataclass(frozen=True, slots=True)
class Answer:
    """What follows from one decision: the reviews that it ended, and why it was ignored itself (empty when it was not)."""

    row: Reviews
    ended: tuple[Approved | Rejected, ...] = ()
    ignored: str = ""


def mistake_in(decided: ReviewDecided) -> tuple[Error, str] | None:
    """Why a decision cannot be one, whatever it is about; None when it can. Decisions come from outside."""
    if not TENANT_PATTERN.match(decided.tenant) or not ID_PATTERN.match(decided.payment_id):
        return Error.NO_PAYMENT_ID, "tenant or payment_id is not a valid id"
    if holds_card_number(decided.tenant) or holds_card_number(decided.payment_id):
        return Error.CARD_NUMBER_IN_ID, "tenant or payment_id"
    if decided.decision not in DECISIONS:
        return Error.INVALID_DECISION, "decision is none of approve, reject, expired"
    if decided.decision == EXPIRED:
        texts = {"stage": 0, "by": 0, "reason": 0}
    else:
        texts = {"by": BY_CHARS_MAX, "reason": TEXT_CHARS_MAX}
        if decided.stage not in (SCREENING, PAYEE):
            return Error.INVALID_DECISION, "stage is neither screening nor payee"
    for field, chars_max in texts.items():
        text: str = getattr(decided, field)
        if len(text) > chars_max:
            return Error.INVALID_DECISION, f"{field} has {len(text)} characters, at most {chars_max}"
        if chars_max and (not text.strip() or not text.isprintable()):
            return Error.INVALID_DECISION, f"{field} is empty or not printable"
        if holds_card_number(text):
            return Error.CARD_NUMBER_IN_TEXT, field
    return None


def refer(row: Reviews, stage: str, event: bytes, *, at_ms: int, rules: ReviewRules) -> Open | Known:
    """What follows from a stage that referred the payment at ``at_ms``; ``event`` is its event as it came."""
    if any(review.stage == stage for review in row.reviews):
        return Known()
    due_at_ms = at_ms + round(rules.hours * _HOUR_MS)
    review = Review(stage, at_ms, due_at_ms, rules.at_expiry, event)
    return Open(_with(row, [*row.reviews, review]), review)


def open_reviews(row: Reviews) -> list[Review]:
    """The reviews that wait, in the order in which they opened."""
    return [review for review in row.reviews if not review.result]


def decide(row: Reviews, decided: ReviewDecided, *, at_ms: int, offset: int) -> Answer:
    """What follows from a decision that the broker received at ``at_ms``, at ``offset`` of the row's partition."""
    if offset <= row.decided_offset:
        return Answer(row)
    # Whatever is written from its due time on ends a review by the configured answer.
    ended = [_expire(review) for review in open_reviews(row) if review.due_at_ms <= at_ms]
    ignored = ""
    if decided.decision != EXPIRED:
        mine = next((review for review in row.reviews if review.stage == decided.stage), None)
        if mine is None:
            ignored = NO_REVIEW
        elif mine.result:
            ignored = ALREADY_DECIDED
        elif mine.due_at_ms <= at_ms:
            ignored = TOO_LATE
        elif decided.decision == APPROVE:
            ended.append(Approved(mine, APPROVE, Reason.REVIEW_APPROVED))
        else:
            ended.append(Rejected(mine, REJECT, Reason.REVIEW_REJECTED))
    if not ended:
        return Answer(row, (), ignored)
    results = {each.review.stage: _closed(each, decided, at_ms) for each in ended}
    changed = _with(row, [results.get(review.stage, review) for review in row.reviews])
    return Answer(msgspec.structs.replace(changed, decided_offset=offset), tuple(ended), ignored)


def _expire(review: Review) -> Approved | Rejected:
    kind = Approved if review.at_expiry == APPROVE else Rejected
    return kind(review, EXPIRED, Reason.REVIEW_EXPIRED)


def _closed(ended: Approved | Rejected, decided: ReviewDecided, at_ms: int) -> Review:
    return msgspec.structs.replace(
        ended.review,
        event=b"",
        result=APPROVED if isinstance(ended, Approved) else REJECTED,
        decision=ended.decision,
        by=decided.by if ended.decision == decided.decision else "",
        decided_at_ms=at_ms,
    )


def _with(row: Reviews, reviews: list[Review]) -> Reviews:
    due = [review.due_at_ms for review in reviews if not review.result]
    return msgspec.structs.replace(row, reviews=reviews, due_at_ms=min(due, default=0))


# -- events -----------------------------------------------------------------------------------------------------------


def stage_of(event: Referred) -> str:
    """The stage that referred the payment."""
    return SCREENING if isinstance(event, PaymentScreened) else PAYEE


def opened_event(review: Review, event: Referred, *, repeat: bool = False) -> ReviewOpened:
    """That the payment waits; the same each time but for ``repeat``."""
    return ReviewOpened(
        event_id=f"{event.tenant}|{event.payment_id}|review|{review.stage}",
        tenant=event.tenant,
        payment_id=event.payment_id,
        stage=review.stage,
        reason=event.reason or Reason.FRAUD_SCORE_RAISED,
        detail=_detail(event),
        rule_version=event.rule_version,
        requested_at_ms=event.requested_at_ms,
        received_at_ms=event.received_at_ms,
        amount_minor=event.amount_minor,
        currency=event.currency,
        opened_at_ms=review.opened_at_ms,
        due_at_ms=review.due_at_ms,
        at_expiry=review.at_expiry,
        repeat=repeat,
        trace_id=event.trace_id,
        trace_context=event.trace_context,
    )


def _detail(event: Referred) -> str:
    # Names stay in the event of screening: who may see personal data reads it there.
    if isinstance(event, PaymentScored):
        return ",".join(event.score_reasons)
    found = event.evidence
    return f"{found.party} resembles {found.list} {found.entry_id} {found.score:.4f}" if found is not None else ""


def resumed_event(event: Referred, reason: Reason, *, partition: int, offset: int) -> Referred:
    """The event with which the payment goes on: as it was, cleared, and sent by the record of the decision."""
    return msgspec.structs.replace(
        event,
        sender_partition=review_sender(partition),
        sender_offset=offset,
        outcome="clear" if isinstance(event, PaymentScreened) else "approved",
        reason=reason.value,
    )


def ended_event(event: Referred, reason: Reason, *, partition: int, offset: int) -> PaymentEnded:
    """The end of a payment that was not approved: blocked where screening referred it, declined where fraud did."""
    outcome = Outcome.BLOCKED if isinstance(event, PaymentScreened) else Outcome.DECLINED
    return PaymentEnded(
        sender_partition=review_sender(partition),
        sender_offset=offset,
        rule_version=event.rule_version,
        outcome=outcome.value,
        reason=reason.value,
        stage=NAME,
        request_kind="first",
        requested_at_ms=event.requested_at_ms,
        amount_minor=event.amount_minor,
        currency=event.currency,
        detail=f"{stage_of(event)}: {event.reason}",
        tenant=event.tenant,
        payment_id=event.payment_id,
        received_at_ms=event.received_at_ms,
        trace_id=event.trace_id,
        trace_context=event.trace_context,
    )


def answered_event(decided: ReviewDecided, ended: Approved | Rejected, *, at_ms: int, trace_id: str) -> ReviewAnswered:
    """How a review ended. Who and why are the decider's, unless its time was over."""
    given = ended.decision == decided.decision
    stage = ended.review.stage
    return ReviewAnswered(
        event_id=f"{decided.tenant}|{decided.payment_id}|review|{stage}|ended",
        tenant=decided.tenant,
        payment_id=decided.payment_id,
        stage=stage,
        decision=ended.decision,
        result=APPROVED if isinstance(ended, Approved) else REJECTED,
        by=decided.by if given else "",
        reason=decided.reason if given else "",
        decided_at_ms=at_ms,
        trace_id=trace_id,
    )


def ignored_event(decided: ReviewDecided, why: str, *, at_ms: int, partition: int, offset: int) -> ReviewAnswered:
    """That a decision changed nothing, and why."""
    return ReviewAnswered(
        event_id=f"{decided.tenant}|{decided.payment_id}|review|ignored|{partition}|{offset}",
        tenant=decided.tenant,
        payment_id=decided.payment_id,
        stage=decided.stage,
        decision=decided.decision,
        result=IGNORED,
        ignored=why,
        by=decided.by,
        reason=decided.reason,
        decided_at_ms=at_ms,
    )
