"""The life of a payment: its statuses, the moves between them, and the limits of what may follow its outcome. Pure.

The names are those of Stripe's PaymentIntents and Kill Bill's transactions where they have one. Captures, voids and refunds
are operations with ids of their own. Of one payment one operation is under way at a time; the others wait in its row, in the
order in which they came, so that each limit is decided against amounts that are certain.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Any, Final

import msgspec

from pipeline.stages.asking import UNKNOWABLE, Again, Ask, Means, Park, Reconsider, Step, Tell, Told, follow, told_of
from pipeline.stages.attempts import (
    ENDED,
    OVERDUE,
    PARKED,
    PENDING,
    QUEUED,
    Attempts,
    Life,
    Operation,
    keep,
    kept,
    waiting_for,
)
from schemas.card_numbers import holds_card_number
from schemas.identity import ID_PATTERN
from schemas.limits import AMOUNT_MINOR_MAX
from schemas.money import is_currency
from schemas.reasons import Outcome, Reason
from schemas.records import OperationRequested, PaymentNotified, PaymentParked, PaymentQueued, PaymentUpdated

#: Operations of one payment, ended ones too.
OPERATIONS_MAX: Final = 100
#: How long an operation waits for a payment that is not known, by the broker's clock: a day more than a payment that screening
#: referred waits for a person where the tenant says nothing else. Nothing was asked for, so the client may come again.
PAYMENT_WAIT_MS: Final = 4 * 24 * 60 * 60 * 1000
CAPTURE, VOID, REFUND = "capture", "void", "refund"
#: A PIC's reasons for a decline that say: it is too late.
LAPSED: Final = ("authorization_expired", "action_expired")
#: What the end of an operation is called in ``payments.updated.v1``.
SUCCEEDED, DECLINED, REFUSED, EXPIRED = "succeeded", "declined", "refused", "expired"


class Status(StrEnum):
    """Where a payment stands."""

    PROCESSING = "processing"
    REQUIRES_ACTION = "requires_action"
    AUTHORIZED = "authorized"
    PARTIALLY_CAPTURED = "partially_captured"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"
    EXPIRED = "expired"


_ENDS_OF_PROCESSING = frozenset({Status.AUTHORIZED, Status.SUCCEEDED, Status.FAILED, Status.EXPIRED})
#: Every move there is. Refunds move amounts, not the status; what let go of a rest of an authorization has succeeded.
MOVES: Final[Mapping[Status, frozenset[Status]]] = {
    Status.PROCESSING: _ENDS_OF_PROCESSING | {Status.REQUIRES_ACTION},
    Status.REQUIRES_ACTION: _ENDS_OF_PROCESSING | {Status.PROCESSING},
    Status.AUTHORIZED: frozenset({Status.PARTIALLY_CAPTURED, Status.SUCCEEDED, Status.CANCELLED, Status.EXPIRED}),
    Status.PARTIALLY_CAPTURED: frozenset({Status.SUCCEEDED}),
    Status.SUCCEEDED: frozenset(),
    Status.FAILED: frozenset(),
    Status.CANCELLED: frozenset(),
    Status.EXPIRED: frozenset(),
}
#: Statuses in which something is held at the PIC.
HELD: Final = frozenset({Status.AUTHORIZED, Status.PARTIALLY_CAPTURED})


def standing(row: Attempts) -> Life:
    """Status and amounts of a payment, and its operations."""
    life = row.life or Life()
    if life.status:
        return life
    if row.state != ENDED:
        return msgspec.structs.replace(life, status=Status.REQUIRES_ACTION if row.action_url else Status.PROCESSING)
    match row.outcome:
        case Outcome.PAID:
            amount = row.amount_minor
            return msgspec.structs.replace(
                life, status=Status.SUCCEEDED, authorized_minor=amount, captured_minor=amount
            )
        case Outcome.AUTHORIZED:
            return msgspec.structs.replace(life, status=Status.AUTHORIZED, authorized_minor=row.amount_minor)
    return msgspec.structs.replace(life, status=Status.EXPIRED if row.detail in LAPSED else Status.FAILED)


# -- limits ------------------------------------------------------------------------------------------------------------


class RefusedError(Exception):
    """The operation is not asked for; ``reason`` and the text, the detail, are safe to show."""

    def __init__(self, reason: Reason, detail: str = "") -> None:
        super().__init__(detail)
        self.reason = reason


def amount_to_ask(life: Life, operation: Operation, currency: str) -> int:
    """How much the PIC is asked for. Raises :class:`RefusedError` for what is beyond the payment's limits."""
    status = life.status
    if operation.currency != currency:
        raise RefusedError(Reason.CURRENCY_DIFFERS, f"currency={currency}")
    amounts = f"status={status} authorized={life.authorized_minor} captured={life.captured_minor}"
    amounts += f" refunded={life.refunded_minor}"
    if operation.kind == REFUND:
        left, nothing, above = life.captured_minor - life.refunded_minor, "nothing_to_refund", "amount_above_captured"
    else:
        left = life.authorized_minor - life.captured_minor if status in HELD else 0
        nothing, above = f"nothing_to_{operation.kind}", "amount_above_authorized"
    if left <= 0:
        raise RefusedError(Reason(nothing), amounts)
    asked = operation.amount_minor or left
    if asked > left:
        raise RefusedError(Reason(above), amounts)
    if operation.kind == VOID and asked != left:
        raise RefusedError(Reason.VOID_IN_PART, amounts)
    return asked


def applied(life: Life, kind: str, amount_minor: int, *, several_captures: bool) -> Life:
    """What a successful operation changes. Raises :class:`ValueError` for a move that there is not."""
    captured = life.captured_minor
    match kind:
        case "capture":
            captured += amount_minor
            whole = captured == life.authorized_minor or not several_captures
            return _moved(
                life,
                Status.SUCCEEDED if whole else Status.PARTIALLY_CAPTURED,
                captured_minor=captured,
                # A PIC that takes one capture lets go of the rest with it.
                authorized_minor=captured if whole else life.authorized_minor,
            )
        case "void":
            return _moved(life, Status.SUCCEEDED if captured else Status.CANCELLED, authorized_minor=captured)
    return msgspec.structs.replace(life, refunded_minor=life.refunded_minor + amount_minor)


def _moved(life: Life, status: Status, **amounts: int) -> Life:
    if status != life.status and status not in MOVES[Status(life.status)]:
        raise ValueError(f"no payment moves from {life.status} to {status}")
    return msgspec.structs.replace(life, status=status, **amounts)


# -- what arrives ------------------------------------------------------------------------------------------------------

_Followed = tuple[Attempts, tuple[Step, ...]]


def request(
    row: Attempts,
    operation: OperationRequested,
    received_at_ms: int,
    means: Means,
    trace: tuple[str, str] = ("", ""),
) -> _Followed:
    """A client asks for an operation; ``trace``: trace id and context of whoever asks, both empty without.

    The same id with the same content is the same operation: answered again once it has ended. With other content it is
    refused. An operation of a payment that has no outcome yet, or is not known yet, waits for it; for one that is not known
    only so long (:func:`expire`).
    """
    tenant, payment_id = operation.tenant, operation.payment_id
    life = row.life or Life()
    wanted = Operation(
        operation_id=operation.operation_id,
        kind=operation.kind,
        amount_minor=operation.amount_minor,
        currency=operation.currency,
        requested_at_ms=operation.requested_at_ms,
        received_at_ms=received_at_ms,
        trace_id=trace[0],
        trace_context=trace[1],
    )
    known = next((one for one in life.operations if one.operation_id == operation.operation_id), None)
    if known is not None:
        same = (known.kind, known.amount_minor, known.currency) == (wanted.kind, wanted.amount_minor, wanted.currency)
        if not same:
            return row, (_refuse(tenant, payment_id, row, wanted, Reason.CONFLICTING_REQUEST),)
        if known.state == ENDED:
            return row, (_ended(tenant, payment_id, row, known, repeat=True),)
        return expire(row, operation, received_at_ms, means, is_durable=False) or (row, ())
    mistake = _mistake(operation)
    if mistake is not None:
        return row, (_refuse(tenant, payment_id, row, wanted, *mistake),)
    if len(life.operations) >= OPERATIONS_MAX:
        return row, (_refuse(tenant, payment_id, row, wanted, Reason.TOO_MANY_OPERATIONS, f"max={OPERATIONS_MAX}"),)
    waiting = msgspec.structs.replace(life, operations=(*life.operations, wanted))
    return advance(tenant, payment_id, msgspec.structs.replace(row, life=waiting), means)


def waits_for_payment(row: Attempts) -> bool:
    """Whether nothing is known yet of the payment that the row's operations are about."""
    return not row.state


def expire(
    row: Attempts, operation: OperationRequested, at_ms: int, means: Means, *, is_durable: bool
) -> _Followed | None:
    """Refuse an operation that waited for its payment as long as it may; None when it does not wait for that, or not so long.

    ``at_ms`` is the broker's time of the record that says so, ``is_durable``: of ``row``. In two steps: a row that is durable
    says first that it is overdue, so that a payment that is read before this record after a crash does not begin it; then it is
    told. An answer that is kept for it says that it was begun: its payment is known, and read again.
    """
    tenant, payment_id = operation.tenant, operation.payment_id
    waiting = _operation(row, operation.operation_id)
    if waiting is None or waiting.state not in ("", OVERDUE):
        return None
    is_begun = any(told.operation_id == waiting.operation_id for told in row.earlier)
    if waiting.state == OVERDUE:
        if not is_durable:
            return row, (Reconsider(),)
        if is_begun:
            return advance(tenant, payment_id, _with(row, msgspec.structs.replace(waiting, state="")), means)
        row, step = _end(tenant, payment_id, row, waiting, REFUSED, Reason.PAYMENT_NOT_KNOWN, "", at_ms)
        row, more = advance(tenant, payment_id, row, means)
        return row, (step, *more)
    if is_begun or not waits_for_payment(row) or at_ms - waiting.received_at_ms < PAYMENT_WAIT_MS:
        return None
    return _with(row, msgspec.structs.replace(waiting, state=OVERDUE)), (Reconsider(),)


def advance(tenant: str, payment_id: str, row: Attempts, means: Means) -> _Followed:
    """Begin what waits, now that the payment, or the operation before, may have ended."""
    steps: list[Step] = []
    while row.state == ENDED and row.life is not None:
        life = standing(row)
        waiting = next((one for one in life.operations if one.state != ENDED), None)
        if waiting is None or waiting.state:
            break
        try:
            asked = amount_to_ask(life, waiting, row.currency)
        except RefusedError as refused:
            row, step = _end(tenant, payment_id, row, waiting, REFUSED, refused.reason, str(refused))
            steps.append(step)
            continue
        begun = msgspec.structs.replace(waiting, state=QUEUED, attempt=1, ask=0, asked_minor=asked)
        row = _with(row, begun)
        told = kept(row, begun.operation_id, 1, 0)
        if told is None:
            steps.append(Ask(_intent(tenant, payment_id, row, begun)))
            break
        row, more = _follow(tenant, payment_id, row, begun, told, means)
        steps += more
    return row, tuple(steps)


def settle(tenant: str, payment_id: str, row: Attempts, told: Told, means: Means) -> _Followed | None:
    """A PIC's answer to an operation's ask; None when it changes nothing. One to an ask that is not known yet is kept."""
    operation = _operation(row, told.operation_id)
    at = (told.attempt, told.ask)
    if operation is None or (operation.state != ENDED and at > (operation.attempt, operation.ask)):
        return keep(row, told), ()
    if operation.state in (QUEUED, PENDING) and at == (operation.attempt, operation.ask):
        return _follow_and_advance(tenant, payment_id, row, operation, told, means)
    return _contradiction(tenant, payment_id, row, operation, told)


def notified(tenant: str, payment_id: str, row: Attempts, news: PaymentNotified, means: Means) -> _Followed | None:
    """News of an operation that no call brought; None when they change nothing."""
    operation = _operation(row, news.operation_id)
    if operation is None:
        return None
    told = told_of(news, operation.ask)
    if operation.state in waiting_for(news) and news.attempt == operation.attempt:
        if news.outcome not in (Outcome.PAID, Outcome.DECLINED, "unsent"):
            return None
        return _follow_and_advance(tenant, payment_id, row, operation, told, means)
    return _contradiction(tenant, payment_id, row, operation, told)


def lapse(tenant: str, payment_id: str, row: Attempts, told: Told) -> _Followed | None:
    """The PIC let go of an authorization by itself; None when that is not what is told, or nothing is held."""
    life = standing(row)
    if told.outcome != Outcome.DECLINED or life.status not in HELD:
        return None
    row = msgspec.structs.replace(row, life=_lapsed(life))
    step = Tell(
        updated(
            tenant,
            payment_id,
            row,
            event_id=f"{tenant}|{payment_id}|{told.attempt}|lapsed",
            outcome=EXPIRED,
            reason=told.reason,
            occurred_at_ms=told.answered_at_ms,
        )
    )
    return row, (step,)


def _lapsed(life: Life) -> Life:
    captured = life.captured_minor
    return _moved(life, Status.SUCCEEDED if captured else Status.EXPIRED, authorized_minor=captured)


# -- one operation -----------------------------------------------------------------------------------------------------


def _follow_and_advance(
    tenant: str, payment_id: str, row: Attempts, operation: Operation, told: Told, means: Means
) -> _Followed:
    row, steps = _follow(tenant, payment_id, row, operation, told, means)
    row, more = advance(tenant, payment_id, row, means)
    return row, (*steps, *more)


def _follow(tenant: str, payment_id: str, row: Attempts, operation: Operation, told: Told, means: Means) -> _Followed:
    operation = msgspec.structs.replace(operation, pic_reference=told.pic_reference or operation.pic_reference)
    # Only the PIC that holds the money can do it: there are no others.
    match follow(told, others=False, delays_s=means.delays_s):
        case "done":
            several = row.pic in means.several_captures
            life = applied(standing(row), operation.kind, operation.asked_minor, several_captures=several)
            row = msgspec.structs.replace(row, life=life)
            row, step = _end(tenant, payment_id, row, operation, SUCCEEDED, "", "", told.answered_at_ms)
            return row, (step,)
        case "failed":
            if told.reason in LAPSED and standing(row).status in HELD:
                row = msgspec.structs.replace(row, life=_lapsed(standing(row)))
            reason, at_ms = Reason.PIC_DECLINED, told.answered_at_ms
            row, step = _end(tenant, payment_id, row, operation, DECLINED, reason, told.reason, at_ms)
            return row, (step,)
        case "parked":
            reason_parked = UNKNOWABLE if told.outcome == UNKNOWABLE else "unknown_for_long"
            row = _with(row, msgspec.structs.replace(operation, state=PARKED))
            return row, (parked(tenant, payment_id, row, told, reason_parked, operation),)
        case Again() as again:
            waiting = msgspec.structs.replace(operation, state=PENDING, attempt=again.attempt, ask=again.ask)
            row = _with(row, waiting)
            early = kept(row, waiting.operation_id, waiting.attempt, waiting.ask)
            if early is not None:
                return _follow(tenant, payment_id, row, waiting, early, means)
            assert again.tier is not None
            not_before_ms = told.answered_at_ms + 1000 * means.delays_s[again.tier]
            intent = _intent(tenant, payment_id, row, waiting, not_before_ms, unsent=again.unsent)
            return row, (Ask(intent, again.tier),)


def _operation(row: Attempts, operation_id: str) -> Operation | None:
    operations = row.life.operations if row.life is not None else ()
    return next((one for one in operations if one.operation_id == operation_id), None)


def _with(row: Attempts, operation: Operation) -> Attempts:
    """The row with ``operation`` in the place of the one with its id."""
    # While there is no outcome nothing is kept of where the payment stands: what comes says that.
    life = standing(row) if row.state == ENDED else row.life or Life()
    operations = tuple(operation if one.operation_id == operation.operation_id else one for one in life.operations)
    return msgspec.structs.replace(row, life=msgspec.structs.replace(life, operations=operations))


def _end(
    tenant: str,
    payment_id: str,
    row: Attempts,
    operation: Operation,
    outcome: str,
    reason: str,
    detail: str,
    ended_at_ms: int = 0,
) -> tuple[Attempts, Tell]:
    ended = msgspec.structs.replace(
        operation,
        state=ENDED,
        outcome=outcome,
        reason=str(reason),
        detail=detail,
        ended_at_ms=ended_at_ms or operation.received_at_ms,
    )
    row = _with(row, ended)
    if row.earlier:
        left = tuple(told for told in row.earlier if told.operation_id != operation.operation_id)
        row = msgspec.structs.replace(row, earlier=left)
    return row, _ended(tenant, payment_id, row, ended)


def _intent(
    tenant: str,
    payment_id: str,
    row: Attempts,
    operation: Operation,
    not_before_ms: int = 0,
    *,
    unsent: bool = False,
) -> PaymentQueued:
    """What is queued for the PIC; the shell fills in who sends it."""
    return PaymentQueued(
        sender_partition=0,
        sender_offset=0,
        attempt=operation.attempt,
        ask=operation.ask,
        not_before_ms=not_before_ms,
        operation_id=operation.operation_id,
        original_reference=row.pic_reference,
        unsent=unsent,
        rule_version=row.rule_version,
        fee_minor=0,
        pic=row.pic,
        requested_at_ms=operation.requested_at_ms,
        amount_minor=operation.asked_minor,
        tenant=tenant,
        payment_id=payment_id,
        creditor_id="",
        currency=operation.currency,
        debtor_id="",
        country="",
        method=row.method,
        token=row.token,
        kind=operation.kind,
        received_at_ms=operation.received_at_ms,
        trace_id=operation.trace_id or row.trace_id,
        trace_context=operation.trace_context,
        request=b"",
    )


# -- what is told ------------------------------------------------------------------------------------------------------


def updated(
    tenant: str,
    payment_id: str,
    row: Attempts,
    *,
    event_id: str,
    outcome: str,
    reason: str,
    occurred_at_ms: int,
) -> PaymentUpdated:
    """A step of the payment itself."""
    return _update(
        tenant,
        payment_id,
        row,
        event_id=event_id,
        kind=row.kind,
        outcome=outcome,
        reason=reason,
        amount_minor=row.amount_minor,
        currency=row.currency,
        action_url=row.action_url,
        pic_reference=row.pic_reference,
        attempts=row.attempt,
        occurred_at_ms=occurred_at_ms,
        trace_id=row.trace_id,
        trace_context=row.trace_context,
    )


def _ended(tenant: str, payment_id: str, row: Attempts, operation: Operation, *, repeat: bool = False) -> Tell:
    return Tell(
        _update(
            tenant,
            payment_id,
            row,
            event_id=f"{tenant}|{payment_id}|{operation.operation_id}|ended",
            operation_id=operation.operation_id,
            kind=operation.kind,
            outcome=operation.outcome,
            reason=operation.reason,
            detail=operation.detail,
            amount_minor=operation.asked_minor or operation.amount_minor,
            currency=operation.currency,
            pic_reference=operation.pic_reference,
            attempts=operation.attempt,
            occurred_at_ms=operation.ended_at_ms,
            repeat=repeat,
            trace_id=operation.trace_id or row.trace_id,
            trace_context=operation.trace_context,
        )
    )


def _update(tenant: str, payment_id: str, row: Attempts, **step: Any) -> PaymentUpdated:
    """A step, and where the payment stands with it."""
    life = standing(row)
    return PaymentUpdated(
        tenant=tenant,
        payment_id=payment_id,
        status=life.status,
        authorized_minor=life.authorized_minor,
        captured_minor=life.captured_minor,
        refunded_minor=life.refunded_minor,
        pic=row.pic,
        **step,
    )


def _refuse(
    tenant: str, payment_id: str, row: Attempts, operation: Operation, reason: Reason, detail: str = ""
) -> Tell:
    """Refuse what must not be kept: under an event id of its own, so that the operation of that id keeps its end."""
    told = _ended(
        tenant,
        payment_id,
        row,
        msgspec.structs.replace(
            operation, outcome=REFUSED, reason=reason.value, detail=detail, ended_at_ms=operation.received_at_ms
        ),
    )
    content = f"{operation.kind}.{operation.amount_minor}.{operation.currency}"
    event_id = f"{tenant}|{payment_id}|{operation.operation_id}|refused|{content}"
    return Tell(msgspec.structs.replace(told.updated, event_id=event_id))


def parked(
    tenant: str, payment_id: str, row: Attempts, told: Told, reason: str, operation: Operation | None = None
) -> Park:
    """Something for a person: about the payment, or about one of its operations."""
    about = f"{operation.operation_id}|{told.attempt}" if operation else str(told.attempt)
    stands = (operation.outcome or operation.state) if operation else (row.outcome or row.state)
    return Park(
        PaymentParked(
            event_id=f"{tenant}|{payment_id}|{about}|{reason}",
            tenant=tenant,
            payment_id=payment_id,
            operation_id=operation.operation_id if operation else "",
            kind=operation.kind if operation else row.kind,
            attempt=told.attempt,
            pic=row.pic,
            reason=reason,
            detail=f"{stands}, told {told.outcome}",
            amount_minor=operation.asked_minor if operation else row.amount_minor,
            currency=row.currency,
            pic_reference=told.pic_reference or (operation.pic_reference if operation else row.pic_reference),
            parked_at_ms=told.answered_at_ms,
            trace_id=(operation.trace_id if operation else "") or row.trace_id,
            trace_context=operation.trace_context if operation else row.trace_context,
        )
    )


def _contradiction(tenant: str, payment_id: str, row: Attempts, operation: Operation, told: Told) -> _Followed | None:
    """A person is told when the PIC says another thing than it said before."""
    said = (
        {Outcome.PAID: SUCCEEDED, Outcome.DECLINED: DECLINED}.get(Outcome(told.outcome))
        if told.outcome in _SURE
        else None
    )
    ended_otherwise = (
        operation.state == ENDED and told.attempt == operation.attempt and said not in (None, operation.outcome)
    )
    earlier_done = told.attempt < operation.attempt and told.outcome == Outcome.PAID
    # Begun before a crash, and after it refused in another order of records.
    refused_but_done = operation.state == ENDED and told.attempt > operation.attempt and told.outcome == Outcome.PAID
    if not (ended_otherwise or earlier_done or refused_but_done):
        return None
    return row, (parked(tenant, payment_id, row, told, "contradiction", operation),)


_SURE: Final = (Outcome.PAID.value, Outcome.DECLINED.value)


# -- requests ----------------------------------------------------------------------------------------------------------


def _mistake(operation: OperationRequested) -> tuple[Reason, str] | None:
    """Why an operation cannot be asked for by anybody. The ids of tenant and payment are the shell's to check: without them
    nobody can be answered."""
    amount = operation.amount_minor
    checks = (
        (operation.kind in (CAPTURE, VOID, REFUND), Reason.UNSUPPORTED_KIND, "kind"),
        (is_currency(operation.currency), Reason.UNKNOWN_CURRENCY, "currency"),
        (amount >= 0, Reason.AMOUNT_NOT_POSITIVE, "amount_minor"),
        (amount <= AMOUNT_MINOR_MAX, Reason.AMOUNT_ABOVE_LIMIT, "amount_minor"),
    )
    return next(((reason, field) for fits, reason, field in checks if not fits), None)


def has_valid_id(operation: OperationRequested) -> bool:
    """Whether the operation's id can be kept and shown."""
    return ID_PATTERN.match(operation.operation_id) is not None and not holds_card_number(operation.operation_id)
