"""Dispatch and settlement: the state machine of one payment. Pure: all that it knows is an argument, time included.

The row (:class:`Attempts`) is the only writer of outcomes, so a payment has one outcome: whatever decides first ends
it, and everything that comes later is a repeat, a conflict, or nothing.

    (nothing) --route: passed----> queued --settle: pending--> pending --settle: pending--> pending ...
      |  |                         ^ |                            |
      |  +--route: referred--> referred                           |
      |                          |   |                            |
      +--route/end: ended -------+---+--settle: paid, declined----+--------------------> ended

A referred payment waits for a review (:mod:`pipeline.stages.reviews`), whose word alone leads on from there.

A PIC is asked again for ever, because only its explicit word is a success or a failure; what grows is the delay. An
ask after the first carries the same attempt, hence the same idempotency key, and whoever serves it looks up first:
found, that is the answer; not found, the PIC never got the attempt, and it is sent again under the same key. So "not
found" needs no state of its own: it is one more pending answer. No second attempt is ever made: it could be a second
payment.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import msgspec

from schemas.reasons import REVIEWED, Outcome, Reason
from schemas.records import PaymentAnswered, PaymentCompleted, PaymentEnded

REFERRED: Final = "referred"
QUEUED: Final = "queued"
PENDING: Final = "pending"
ENDED: Final = "ended"

#: A PIC's own reason is shown only when it looks like one: snake_case, bounded, so that no free text gets in.
_PIC_REASON = re.compile(r"[a-z][a-z0-9_]{0,63}\Z")

#: What fraud's answers end a payment with, and the reason where the answer gives none.
_FRAUD_ENDS: Final[Mapping[str, Reason]] = {Outcome.DECLINED: Reason.FRAUD_SCORE_HIGH}
#: What reviews call themselves in the events that they send.
REVIEWS: Final = "reviews"

#: The payment goes on, and the payer is to prove who they are.
CHALLENGED: Final = "challenged"
_FRAUD_PASSES: Final = ("approved", CHALLENGED)


class EarlyAnswer(msgspec.Struct, array_like=True, frozen=True):
    """What a PIC answered to the first ask, kept until the row is where it was."""

    attempt: int
    ask: int
    outcome: str
    reason: str
    pic_reference: str
    answered_at_ms: int


class Attempts(msgspec.Struct, array_like=True):
    """A payment's row: where it stands, and once ended all that answers a repeat. Never changed in place here."""

    #: The engine's; decisions carry it over as it is.
    version: int = 0
    #: "" before anything is decided, then ``referred`` (waits for a person), ``queued``, ``pending`` (asked again), ``ended``.
    state: str = ""
    attempt: int = 0
    #: The ask of ``attempt`` whose answer is waited for.
    ask: int = 0
    outcome: str = ""
    reason: str = ""
    stage: str = ""
    detail: str = ""
    rule_version: int = 0
    requested_at_ms: int = 0
    received_at_ms: int = 0
    amount_minor: int = 0
    currency: str = ""
    fee_minor: int = 0
    score: float = 0.0
    pic: str = ""
    pic_reference: str = ""
    trace_id: str = ""
    #: The fields of a ``PaymentQueued`` from ``sca`` on, Avro, to queue a look-up; empty once ended.
    queued: bytes = b""
    #: A repeat arrived while the payment was in flight; its completion answers both.
    asked_again: bool = False
    #: An answer that came before the row knew of its ask (see :func:`settle`); empty otherwise.
    early: EarlyAnswer | None = None
    #: Which schema ``queued`` is of, as :meth:`schemas.codec.Codec.carried_as` names it; empty: of the first.
    queued_as: str = ""
    #: Fraud wants the payer to prove who they are: told to the PIC with every ask.
    challenge: bool = False


@dataclass(frozen=True, slots=True)
class Queue:
    """Queue the first ask of attempt 1, on the PIC's queue topic. ``carried`` follows the fields of :meth:`head`."""

    row: Attempts
    carried: bytes

    def head(self) -> dict[str, int | bool]:
        """The fields of the ``PaymentQueued`` before the carried ones."""
        return _head(self.row, not_before_ms=0)


@dataclass(frozen=True, slots=True)
class AskAgain:
    """Queue the row's ask on the PIC's retry topic number ``tier``, not to be served before ``not_before_ms``."""

    row: Attempts
    carried: bytes
    not_before_ms: int
    tier: int

    def head(self) -> dict[str, int | bool]:
        """The fields of the ``PaymentQueued`` before the carried ones."""
        return _head(self.row, not_before_ms=self.not_before_ms)


@dataclass(frozen=True, slots=True)
class End:
    """The payment has its outcome: the only place where one comes from.

    ``carried`` is what its row carried, of the schema ``carried_as``; empty when it was never queued.
    """

    row: Attempts
    completed: PaymentCompleted
    carried: bytes = b""
    carried_as: str = ""


@dataclass(frozen=True, slots=True)
class AnswerAgain:
    """The same outcome under the same event id, marked as a repeat. The row stays as it is."""

    row: Attempts
    completed: PaymentCompleted


@dataclass(frozen=True, slots=True)
class RefuseConflict:
    """Another request under the same id: refused under an event id of its own. The row, None too, stays as it is."""

    row: Attempts | None
    completed: PaymentCompleted


@dataclass(frozen=True, slots=True)
class Review:
    """The payment waits: its event goes to the reviews as it came; or a repeat of its request, which they answer."""

    row: Attempts


@dataclass(frozen=True, slots=True)
class Ignore:
    """Nothing to send. ``row`` is the given one, or one that notes the first repeat in flight or an early answer."""

    row: Attempts | None


def route(
    row: Attempts | None,
    scored: Mapping[str, Any],
    carried: bytes,
    *,
    pics: Collection[str],
    delays_s: Sequence[int] = (1,),
    carried_as: str = "",
) -> Queue | AskAgain | End | Review | Ignore:
    """What follows from fraud's answer, or a review's.

    ``scored`` holds the fields of a ``PaymentScored`` but ``request`` and the facts; ``carried`` its Avro bytes from
    ``sca`` on, of the schema ``carried_as``; ``pics`` the PICs that have a plugin. A payment that has a state has been
    here: a repeat. Where the answer came early (:func:`settle`), it is settled at once, with ``delays_s``: the intent is
    in the queue already. Raises :class:`ValueError` for an outcome that fraud does not have.
    """
    row = row or Attempts()
    outcome: str = scored["outcome"]
    if row.state and not (row.state == REFERRED and scored["reason"] in REVIEWED):
        return Ignore(row)
    known = msgspec.structs.replace(
        row,
        rule_version=scored["rule_version"],
        requested_at_ms=scored["requested_at_ms"],
        received_at_ms=scored["received_at_ms"],
        amount_minor=scored["amount_minor"],
        currency=scored["currency"],
        fee_minor=scored["fee_minor"],
        score=scored["score"],
        pic=scored["pic"],
        trace_id=scored["trace_id"],
    )
    tenant, payment_id = scored["tenant"], scored["payment_id"]
    if outcome == Outcome.REFERRED:
        return Review(msgspec.structs.replace(known, state=REFERRED))
    if outcome in _FRAUD_ENDS:
        reason = scored["reason"] or _FRAUD_ENDS[outcome]
        return _end(tenant, payment_id, known, Outcome(outcome), reason, "payee", _signs(scored))
    if outcome not in _FRAUD_PASSES:
        raise ValueError(
            f"payment {tenant}|{payment_id}: scored outcome {outcome!r} is none of approved, challenged, declined, referred"
        )
    if scored["pic"] not in pics:
        return _end(tenant, payment_id, known, Outcome.REFUSED, Reason.UNKNOWN_PIC, "dispatch", f"pic={scored['pic']}")
    queued = msgspec.structs.replace(
        known,
        state=QUEUED,
        attempt=1,
        ask=0,
        queued=carried,
        queued_as=carried_as,
        early=None,
        challenge=outcome == CHALLENGED,
    )
    if row.early is not None:
        return _settle(tenant, payment_id, queued, row.early, delays_s)
    return Queue(queued, carried)


def end(row: Attempts | None, ended: PaymentEnded) -> End | AnswerAgain | RefuseConflict | Review | Ignore:
    """What follows from a stage that ended a payment, or from a request that repeats or contradicts one.

    Raises :class:`ValueError` for a kind of request that does not exist, an outcome that no stage before dispatch may
    give, and a conflict without the id of its request.
    """
    match ended.request_kind:
        case "first":
            return _end_first(row or Attempts(), ended)
        case "repeat":
            return _repeat(row or Attempts(), ended)
        case "conflict":
            return RefuseConflict(row, _refusal(ended))
    raise ValueError(f"payment {ended.tenant}|{ended.payment_id}: request kind {ended.request_kind!r} is unknown")


def settle(row: Attempts | None, answer: PaymentAnswered, *, delays_s: Sequence[int]) -> End | AskAgain | Ignore:
    """What follows from a PIC's answer. Only the answer to the ask that the row waits for counts.

    ``delays_s`` are the delays of the retry topics in order; the last one repeats. An outcome that is neither ``paid``
    nor ``declined``, whatever it is, is an unknown answer.

    After a crash the row may be older than the intent it wrote, and the answer to that intent may be read before the
    record that led to it is repeated. Such an answer is kept in the row, and :func:`route` settles it.
    """
    known = row or Attempts()
    told = EarlyAnswer(
        answer.attempt, answer.ask, answer.outcome, answer.reason, answer.pic_reference, answer.answered_at_ms
    )
    if known.state in ("", REFERRED) and known.early is None and (answer.attempt, answer.ask) == (1, 0):
        return Ignore(msgspec.structs.replace(known, early=told))
    if known.state not in (QUEUED, PENDING) or (answer.attempt, answer.ask) != (known.attempt, known.ask):
        return Ignore(row)
    return _settle(answer.tenant, answer.payment_id, known, told, delays_s)


def _signs(scored: Mapping[str, Any]) -> str:
    """What spoke against the payment: rules, then features that raised the model's score, strongest first."""
    raised = [effect.feature for effect in scored["effects"] if effect.effect > 0]
    return ",".join([*scored["score_reasons"], *raised])


def _settle(
    tenant: str, payment_id: str, row: Attempts, answer: EarlyAnswer, delays_s: Sequence[int]
) -> End | AskAgain:
    answered = msgspec.structs.replace(row, pic_reference=answer.pic_reference or row.pic_reference)
    match answer.outcome:
        case Outcome.PAID:
            return _end(tenant, payment_id, answered, Outcome.PAID, "", "plugin", "")
        case Outcome.DECLINED:
            given = answer.reason if answer.reason != Reason.PIC_DECLINED and _PIC_REASON.match(answer.reason) else ""
            return _end(tenant, payment_id, answered, Outcome.DECLINED, Reason.PIC_DECLINED, "plugin", given)
        case _:
            tier = min(row.ask, len(delays_s) - 1)
            waiting = msgspec.structs.replace(answered, state=PENDING, ask=row.ask + 1)
            return AskAgain(waiting, row.queued, answer.answered_at_ms + 1000 * delays_s[tier], tier)


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
    )


def _end_first(row: Attempts, ended: PaymentEnded) -> End | Ignore:
    if row.state and not (row.state == REFERRED and ended.stage == REVIEWS):
        return Ignore(row)
    outcome = Outcome(ended.outcome)
    if outcome is Outcome.PAID:
        raise ValueError(f"payment {ended.tenant}|{ended.payment_id}: {ended.stage} cannot end it as paid")
    known = msgspec.structs.replace(
        row,
        rule_version=ended.rule_version,
        requested_at_ms=ended.requested_at_ms,
        received_at_ms=ended.received_at_ms,
        amount_minor=ended.amount_minor,
        currency=ended.currency,
        trace_id=ended.trace_id,
    )
    return _end(ended.tenant, ended.payment_id, known, outcome, ended.reason, ended.stage, ended.detail)


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
    )


def _end(tenant: str, payment_id: str, row: Attempts, outcome: Outcome, reason: str, stage: str, detail: str) -> End:
    """End ``row`` once and for all; what was needed to ask again goes."""
    final = msgspec.structs.replace(
        row,
        state=ENDED,
        outcome=outcome.value,
        reason=str(reason),
        stage=stage,
        detail=detail,
        queued=b"",
        queued_as="",
        early=None,
    )
    return End(final, completed_fields(tenant, payment_id, final), row.queued, row.queued_as)


def _head(row: Attempts, *, not_before_ms: int) -> dict[str, int | bool]:
    return {
        "attempt": row.attempt,
        "ask": row.ask,
        "not_before_ms": not_before_ms,
        "rule_version": row.rule_version,
        "challenge": row.challenge,
    }
