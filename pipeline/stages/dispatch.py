"""Dispatch and settlement: the state machine of one payment. Pure: all that it knows is an argument, time included.

The row (:class:`Attempts`) is the only writer of outcomes, so a payment has one outcome: whatever decides first ends
it, and everything that comes later is a repeat, a conflict, or nothing.

    (nothing) --route: passed----> queued --settle: pending--> pending --settle: pending--> pending ...
      |  |                         ^ |  ^                        | |
      |  +--route: referred--> referred +------ next attempt ----+ +--unknowable, or for too long--> parked
      |                          |   |                           |                                     |
      +--route/end: ended -------+---+--settle: paid, declined---+---------------------notified--------+--> ended

A referred payment waits for a review (:mod:`pipeline.stages.reviews`), whose word alone leads on from there. What an answer
leads to is one table (:mod:`pipeline.stages.asking`); what may follow an outcome is in :mod:`pipeline.stages.life`.

An ask after the first carries the same attempt, hence the same idempotency key, and whoever serves it looks up first:
found, that is the answer; not found, the PIC never got the attempt, and it is sent again under the same key. Another attempt
is made only after an explicit no or where nothing was sent, never after an unknown answer: it could be a second payment.

An answer may be read before the record that led to its ask is repeated after a crash: the row, older than the intent that it
wrote, does not know the ask yet. Such an answer is kept in the row and settles it when it gets there
(docs/decisions/0006-early-answers.md).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from hashlib import blake2b
from typing import Any, Final

import msgspec

from pipeline.stages import life
from pipeline.stages.asking import (
    REQUIRES_ACTION,
    UNKNOWABLE,
    Again,
    Means,
    Step,
    Tell,
    Told,
    follow,
    told_by,
    told_of,
)
from pipeline.stages.attempts import (
    ENDED,
    PARKED,
    PENDING,
    QUEUED,
    REFERRED,
    Attempts,
    keep,
    kept,
    waiting_for,
)
from schemas.reasons import REVIEWED, Outcome, Reason
from schemas.records import (
    OperationRequested,
    PaymentAnswered,
    PaymentCompleted,
    PaymentEnded,
    PaymentNotified,
)

#: A PIC's own reason is shown only when it looks like one: snake_case, bounded, so that no free text gets in.
_PIC_REASON = re.compile(r"[a-z][a-z0-9_]{0,63}\Z")

#: What fraud's answers end a payment with, and the reason where the answer gives none.
_FRAUD_ENDS: Final[Mapping[str, Reason]] = {Outcome.DECLINED: Reason.FRAUD_SCORE_HIGH}
#: What reviews call themselves in the events that they send.
REVIEWS: Final = "reviews"

#: The payment goes on, and the payer is to prove who they are.
CHALLENGED: Final = "challenged"
_FRAUD_PASSES: Final = ("approved", CHALLENGED)


class Queue(msgspec.Struct, frozen=True, gc=False):
    """Queue the first ask of an attempt, on the queue of the row's PIC. ``carried`` follows the fields of :meth:`head`."""

    row: Attempts
    carried: bytes

    def head(self) -> dict[str, int | bool | str]:
        """The fields of the ``PaymentQueued`` before the carried ones."""
        return _head(self.row, not_before_ms=0)


class AskAgain(msgspec.Struct, frozen=True, gc=False):
    """Queue the row's ask on the PIC's retry topic number ``tier``, not to be served before ``not_before_ms``."""

    row: Attempts
    carried: bytes
    not_before_ms: int
    tier: int
    #: Nothing was ever sent under this attempt.
    unsent: bool = False
    also: tuple[Step, ...] = ()

    def head(self) -> dict[str, int | bool | str]:
        """The fields of the ``PaymentQueued`` before the carried ones."""
        return _head(self.row, not_before_ms=self.not_before_ms, unsent=self.unsent)


class End(msgspec.Struct, frozen=True, gc=False):
    """The payment has its outcome: the only place where one comes from.

    ``carried`` is what its row carried, of the schema ``carried_as``; empty when it was never queued. ``also`` is what begins,
    or is refused, because of it.
    """

    row: Attempts
    completed: PaymentCompleted
    carried: bytes = b""
    carried_as: str = ""
    also: tuple[Step, ...] = ()


class Steps(msgspec.Struct, frozen=True, gc=False):
    """No outcome, and no ask of the payment itself."""

    row: Attempts
    also: tuple[Step, ...]


class AnswerAgain(msgspec.Struct, frozen=True, gc=False):
    """The same outcome under the same event id, marked as a repeat. The row stays as it is."""

    row: Attempts
    completed: PaymentCompleted


class RefuseConflict(msgspec.Struct, frozen=True, gc=False):
    """Another request under the same id: refused under an event id of its own. The row, None too, stays as it is."""

    row: Attempts | None
    completed: PaymentCompleted


class Review(msgspec.Struct, frozen=True, gc=False):
    """The payment waits: its event goes to the reviews as it came; or a repeat of its request, which they answer."""

    row: Attempts


class Ignore(msgspec.Struct, frozen=True, gc=False):
    """Nothing to send. ``row`` is the given one, or one that notes the first repeat in flight or an early answer."""

    row: Attempts | None


#: What :func:`route` reads of a ``PaymentScored``.
ROUTE_READS: Final = (
    *("rule_version", "outcome", "reason", "score", "score_reasons", "effects", "fee_minor", "pic", "terms"),
    *("requested_at_ms", "amount_minor", "tenant", "payment_id", "currency", "method", "token", "kind"),
    *("received_at_ms", "trace_id", "trace_context"),
)


def route(
    row: Attempts | None, scored: Mapping[str, Any], carried: bytes, *, means: Means
) -> Queue | AskAgain | End | Steps | Review | Ignore:
    """What follows from fraud's answer, or a review's.

    ``scored`` holds the fields of a ``PaymentScored`` but ``request``; ``carried`` its Avro bytes from ``sca`` on. A payment
    that has a state has been here: a repeat. Where the answer came early (:func:`settle`), it is settled at once: the intent
    is in the queue already. Raises :class:`ValueError` for an outcome that fraud does not have.
    """
    row = row or Attempts()
    outcome: str = scored["outcome"]
    if row.state and not (row.state == REFERRED and scored["reason"] in REVIEWED):
        return Ignore(row)
    pic, others = _pics_of(scored, means)
    tenant, payment_id = scored["tenant"], scored["payment_id"]
    passes = outcome in _FRAUD_PASSES and pic in means.pics
    known = msgspec.structs.replace(
        row,
        rule_version=scored["rule_version"],
        requested_at_ms=scored["requested_at_ms"],
        received_at_ms=scored["received_at_ms"],
        amount_minor=scored["amount_minor"],
        currency=scored["currency"],
        fee_minor=scored["fee_minor"],
        score=scored["score"],
        pic=pic,
        trace_id=scored["trace_id"],
        trace_context=scored["trace_context"],
        kind=scored["kind"],
        method=scored["method"],
        token=scored["token"],
        routes=others,
        **(_queued(carried, means, outcome) if passes else {}),
    )
    if passes:
        told = kept(known)
        return Queue(known, carried) if told is None else _settle(tenant, payment_id, known, told, means)
    if outcome == Outcome.REFERRED:
        return Review(msgspec.structs.replace(known, state=REFERRED))
    if outcome in _FRAUD_ENDS:
        reason = scored["reason"] or _FRAUD_ENDS[outcome]
        return _end(tenant, payment_id, known, Outcome(outcome), reason, "payee", _signs(scored), means)
    if outcome not in _FRAUD_PASSES:
        raise ValueError(
            f"payment {tenant}|{payment_id}: scored outcome {outcome!r} is none of approved, challenged, declined, referred"
        )
    return _end(tenant, payment_id, known, Outcome.REFUSED, Reason.UNKNOWN_PIC, "dispatch", f"pic={pic}", means)


def _pics_of(scored: Mapping[str, Any], means: Means) -> tuple[str, tuple[str, ...]]:
    """The PIC to go to, and those that it may go to after it: those that have a plugin, if any has one."""
    pic, terms = scored["pic"], scored["terms"]
    if terms is None:
        return pic, ()
    wanted = dict.fromkeys((pic, *terms.routes))
    first, *others = [each for each in wanted if each in means.pics] or [pic]
    return first, tuple(others)


def _queued(carried: bytes, means: Means, outcome: str) -> dict[str, Any]:
    """What the row of a payment says that goes on."""
    return {
        "state": QUEUED,
        "attempt": 1,
        "ask": 0,
        "queued": carried,
        "queued_as": means.carried_as,
        "challenge": outcome == CHALLENGED,
    }


def end(
    row: Attempts | None, ended: PaymentEnded, *, means: Means
) -> End | AnswerAgain | RefuseConflict | Review | Ignore:
    """What follows from a stage that ended a payment, or from a request that repeats or contradicts one.

    Raises :class:`ValueError` for a kind of request that does not exist, an outcome that no stage before dispatch may
    give, and a conflict without the id of its request.
    """
    match ended.request_kind:
        case "first":
            return _end_first(row or Attempts(), ended, means)
        case "repeat":
            return _repeat(row or Attempts(), ended)
        case "conflict":
            return RefuseConflict(row, _refusal(ended))
    raise ValueError(f"payment {ended.tenant}|{ended.payment_id}: request kind {ended.request_kind!r} is unknown")


def settle(row: Attempts | None, answer: PaymentAnswered, *, means: Means) -> Queue | AskAgain | End | Steps | Ignore:
    """What follows from a PIC's answer. Only the answer to the ask that the row waits for counts; one to a later ask is kept
    until the row is there. That a PIC says paid where the row says otherwise is for a person."""
    known = row or Attempts()
    told = told_by(answer)
    tenant, payment_id = answer.tenant, answer.payment_id
    if told.operation_id:
        return _of_operation(known, life.settle(tenant, payment_id, known, told, means))
    at, waits_for = (told.attempt, told.ask), (known.attempt, known.ask)
    if known.state in (QUEUED, PENDING) and at == waits_for:
        return _settle(tenant, payment_id, known, told, means)
    if _contradicts(known, told):
        return Steps(known, (life.parked(tenant, payment_id, known, told, "contradiction"),))
    if known.state == ENDED or at <= waits_for:
        return Ignore(row)
    return Ignore(keep(known, told))


def notified(row: Attempts | None, news: PaymentNotified, *, means: Means) -> Queue | AskAgain | End | Steps | Ignore:
    """What follows from news that no call brought: they are the answer to whatever ask is waited for.

    A person is heard only about what is parked: elsewhere an ask is under way that could still do what the person says was
    never done. Only a person may say ``unsent``. A PIC is heard only about what it carries.
    """
    known = row or Attempts()
    if news.pic != known.pic and (news.operation_id or news.attempt == known.attempt):
        return Ignore(row)
    tenant, payment_id = news.tenant, news.payment_id
    if news.operation_id:
        return _of_operation(known, life.notified(tenant, payment_id, known, news, means))
    told = told_of(news, known.ask)
    if known.state in waiting_for(news) and news.attempt == known.attempt:
        if news.outcome != REQUIRES_ACTION:
            return _settle(tenant, payment_id, known, told, means)
        also = _action(tenant, payment_id, known, told)
        return Steps(msgspec.structs.replace(known, action_url=told.action_url), also) if also else Ignore(row)
    if known.state == ENDED and known.outcome == Outcome.AUTHORIZED and news.attempt == known.attempt:
        lapsed = life.lapse(tenant, payment_id, known, told)
        if lapsed is not None:
            return Steps(*lapsed)
    if _contradicts(known, told):
        return Steps(known, (life.parked(tenant, payment_id, known, told, "contradiction"),))
    return Ignore(row)


def operate(
    row: Attempts | None,
    operation: OperationRequested,
    *,
    received_at_ms: int,
    means: Means,
    trace: tuple[str, str] = ("", ""),
) -> Steps:
    """What follows from a request to capture, void or refund: :func:`pipeline.stages.life.request`."""
    return Steps(*life.request(row or Attempts(), operation, received_at_ms, means, trace))


def expire(
    row: Attempts | None, operation: OperationRequested, *, at_ms: int, means: Means, is_durable: bool
) -> Steps | Ignore:
    """What follows from an operation's time to wait for its payment being over: :func:`pipeline.stages.life.expire`."""
    followed = life.expire(row or Attempts(), operation, at_ms, means, is_durable=is_durable)
    return Ignore(row) if followed is None else Steps(*followed)


def _of_operation(row: Attempts, followed: tuple[Attempts, tuple[Step, ...]] | None) -> Steps | Ignore:
    return Ignore(row) if followed is None else Steps(*followed)


def _contradicts(row: Attempts, told: Told) -> bool:
    """Whether a PIC says what cannot be: paid, by an attempt that ended otherwise, or no longer paid."""
    if told.outcome == Outcome.PAID:
        done_by_it = told.attempt == row.attempt and row.outcome in (Outcome.PAID, Outcome.AUTHORIZED)
        return told.attempt < row.attempt or (row.state == ENDED and row.attempt > 0 and not done_by_it)
    return (
        told.outcome == Outcome.DECLINED
        and row.state == ENDED
        and told.attempt == row.attempt
        and row.outcome == Outcome.PAID
    )


def _signs(scored: Mapping[str, Any]) -> str:
    """What spoke against the payment: rules, then features that raised the model's score, strongest first."""
    raised = [effect.feature for effect in scored["effects"] if effect.effect > 0]
    return ",".join([*scored["score_reasons"], *raised])


def _settle(tenant: str, payment_id: str, row: Attempts, told: Told, means: Means) -> Queue | AskAgain | End | Steps:
    reference = told.pic_reference or row.pic_reference
    match follow(told, others=bool(row.routes), delays_s=means.delays_s):
        case "done":
            outcome = Outcome.PAID if row.kind == "payment" else Outcome.AUTHORIZED
            return _end(tenant, payment_id, row, outcome, "", "plugin", "", means, reference)
        case "failed":
            given = told.reason if told.reason != Reason.PIC_DECLINED and _PIC_REASON.match(told.reason) else ""
            return _end(
                tenant, payment_id, row, Outcome.DECLINED, Reason.PIC_DECLINED, "plugin", given, means, reference
            )
        case "parked":
            reason = UNKNOWABLE if told.outcome == UNKNOWABLE else "unknown_for_long"
            waits = msgspec.structs.replace(row, state=PARKED, pic_reference=reference)
            return Steps(waits, (life.parked(tenant, payment_id, waits, told, reason),))
        case Again() as again:
            answered = msgspec.structs.replace(row, pic_reference=reference)
            return _again(tenant, payment_id, answered, told, again, means)


def _again(
    tenant: str, payment_id: str, row: Attempts, told: Told, again: Again, means: Means
) -> Queue | AskAgain | End | Steps:
    if again.elsewhere:
        pic, *left = row.routes
        moved = msgspec.structs.replace(
            row,
            state=QUEUED,
            attempt=again.attempt,
            ask=again.ask,
            pic=pic,
            pic_reference="",
            routes=tuple(left),
            action_url="",
            queued=means.with_pic(row.queued, row.queued_as, pic),
            queued_as=means.carried_as,
        )
        early = kept(moved)
        return Queue(moved, moved.queued) if early is None else _settle(tenant, payment_id, moved, early, means)
    also = _action(tenant, payment_id, row, told)
    waiting = msgspec.structs.replace(
        row,
        state=PENDING,
        attempt=again.attempt,
        ask=again.ask,
        action_url=told.action_url if told.outcome == REQUIRES_ACTION else row.action_url,
    )
    assert again.tier is not None
    early = kept(waiting)
    if early is not None:
        return _settle(tenant, payment_id, waiting, early, means)
    not_before_ms = told.answered_at_ms + 1000 * means.delays_s[again.tier]
    return AskAgain(waiting, row.queued, not_before_ms, again.tier, again.unsent, also)


def _action(tenant: str, payment_id: str, row: Attempts, told: Told) -> tuple[Step, ...]:
    """Tell where the payer is to go, once."""
    if told.outcome != REQUIRES_ACTION or told.action_url == row.action_url:
        return ()
    return (
        Tell(
            life.updated(
                tenant,
                payment_id,
                msgspec.structs.replace(row, action_url=told.action_url),
                event_id=f"{tenant}|{payment_id}|{told.attempt}|{REQUIRES_ACTION}|{_hash(told.action_url)}",
                outcome=REQUIRES_ACTION,
                reason=told.reason,
                occurred_at_ms=told.answered_at_ms,
            )
        ),
    )


def _hash(text: str) -> str:
    return blake2b(text.encode(), digest_size=8).hexdigest()


def completed_id(tenant: str, payment_id: str) -> str:
    """Event id of a payment's outcome, the same whenever it is told again."""
    return f"{tenant}|{payment_id}|completed"


def refused_id(tenant: str, payment_id: str, request_id: str) -> str:
    """Event id of the refusal of a conflicting request."""
    return f"{tenant}|{payment_id}|refused|{request_id}"


def completed_fields(tenant: str, payment_id: str, row: Attempts, *, repeat: bool = False) -> PaymentCompleted:
    """The outcome of an ended row as an event; raises :class:`ValueError` when the row has not ended."""
    if row.state != ENDED:
        raise ValueError(f"payment {tenant}|{payment_id}: state is {row.state!r}, there is no outcome yet")
    return PaymentCompleted(
        event_id=completed_id(tenant, payment_id),
        tenant=tenant,
        payment_id=payment_id,
        outcome=row.outcome,
        reason=row.reason,
        stage=row.stage,
        detail=row.detail,
        rule_version=row.rule_version,
        requested_at_ms=row.requested_at_ms,
        received_at_ms=row.received_at_ms,
        amount_minor=row.amount_minor,
        currency=row.currency,
        fee_minor=row.fee_minor,
        score=row.score,
        pic=row.pic,
        pic_reference=row.pic_reference,
        attempts=row.attempt,
        repeat=repeat,
        trace_id=row.trace_id,
        trace_context=row.trace_context,
    )


def _end_first(row: Attempts, ended: PaymentEnded, means: Means) -> End | Ignore:
    if row.state and not (row.state == REFERRED and ended.stage == REVIEWS):
        return Ignore(row)
    outcome = Outcome(ended.outcome)
    if outcome in (Outcome.PAID, Outcome.AUTHORIZED):
        raise ValueError(f"payment {ended.tenant}|{ended.payment_id}: {ended.stage} cannot end it as {outcome}")
    known = msgspec.structs.replace(
        row,
        rule_version=ended.rule_version,
        requested_at_ms=ended.requested_at_ms,
        received_at_ms=ended.received_at_ms,
        amount_minor=ended.amount_minor,
        currency=ended.currency,
        trace_id=ended.trace_id,
        trace_context=ended.trace_context,
    )
    return _end(ended.tenant, ended.payment_id, known, outcome, ended.reason, ended.stage, ended.detail, means)


def _repeat(row: Attempts, ended: PaymentEnded) -> AnswerAgain | Review | Ignore:
    if row.state == ENDED:
        return AnswerAgain(row, completed_fields(ended.tenant, ended.payment_id, row, repeat=True))
    noted = row if row.asked_again else msgspec.structs.replace(row, asked_again=True)
    # What screening referred has no state here until its review is over; the reviews know whether it is.
    if row.state == REFERRED or (not row.state and ended.outcome == Outcome.REFERRED):
        return Review(noted)
    return Ignore(noted)


def _refusal(ended: PaymentEnded) -> PaymentCompleted:
    if not ended.request_id:
        raise ValueError(f"payment {ended.tenant}|{ended.payment_id}: a conflict without the id of its request")
    return PaymentCompleted(
        event_id=refused_id(ended.tenant, ended.payment_id, ended.request_id),
        tenant=ended.tenant,
        payment_id=ended.payment_id,
        outcome=Outcome.REFUSED.value,
        reason=Reason.CONFLICTING_REQUEST.value,
        stage=ended.stage,
        detail=ended.detail,
        rule_version=ended.rule_version,
        requested_at_ms=ended.requested_at_ms,
        received_at_ms=ended.received_at_ms,
        amount_minor=ended.amount_minor,
        currency=ended.currency,
        trace_id=ended.trace_id,
        trace_context=ended.trace_context,
    )


def _end(
    tenant: str,
    payment_id: str,
    row: Attempts,
    outcome: Outcome,
    reason: str,
    stage: str,
    detail: str,
    means: Means,
    pic_reference: str = "",
) -> End:
    """End ``row`` once and for all; what was needed to ask again goes, and what waited for the outcome gets its turn.

    ``pic_reference`` is what the PIC calls it; without one the row's stays.
    """
    final = msgspec.structs.replace(
        row,
        state=ENDED,
        outcome=outcome.value,
        reason=str(reason),
        stage=stage,
        detail=detail,
        pic_reference=pic_reference or row.pic_reference,
        queued=b"",
        queued_as="",
        early=None,
        routes=(),
        action_url="",
    )
    if row.earlier:
        final = msgspec.structs.replace(final, earlier=tuple(told for told in row.earlier if told.operation_id))
    also: tuple[Step, ...] = ()
    completed = completed_fields(tenant, payment_id, final)
    if final.life is not None:
        final, also = life.advance(tenant, payment_id, final, means)
    return End(final, completed, row.queued, row.queued_as, also)


def _head(row: Attempts, *, not_before_ms: int, unsent: bool = False) -> dict[str, int | bool | str]:
    return {
        "attempt": row.attempt,
        "ask": row.ask,
        "not_before_ms": not_before_ms,
        "rule_version": row.rule_version,
        "challenge": row.challenge,
        "operation_id": "",
        "original_reference": "",
        "unsent": unsent,
    }
