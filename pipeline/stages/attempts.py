"""A payment's row: where it stands, what is asked about, and what followed its outcome."""

from __future__ import annotations

from typing import Final

import msgspec

from pipeline.stages.asking import UNSENT, Told
from schemas.records import PaymentNotified

REFERRED: Final = "referred"
QUEUED: Final = "queued"
PENDING: Final = "pending"
PARKED: Final = "parked"
OVERDUE: Final = "overdue"
ENDED: Final = "ended"


class Operation(msgspec.Struct, array_like=True, frozen=True, kw_only=True):
    """A capture, void or refund."""

    operation_id: str
    kind: str
    #: As asked for; 0: all that is left.
    amount_minor: int
    currency: str
    requested_at_ms: int
    received_at_ms: int
    #: Of whoever asked for it; empty: it belongs to the payment's trace.
    trace_id: str = ""
    #: "" while it waits for its turn, then as of a payment; ``overdue``: it waited too long, and nobody was told yet.
    state: str = ""
    attempt: int = 0
    ask: int = 0
    #: What the PIC is asked for.
    asked_minor: int = 0
    outcome: str = ""
    reason: str = ""
    detail: str = ""
    pic_reference: str = ""
    ended_at_ms: int = 0
    trace_context: str = ""


class Life(msgspec.Struct, array_like=True, frozen=True, kw_only=True):
    """What followed a payment's outcome, or waits for it."""

    #: A :class:`pipeline.stages.life.Status`; "" while nothing followed: the row's outcome says it.
    status: str = ""
    authorized_minor: int = 0
    captured_minor: int = 0
    refunded_minor: int = 0
    #: In the order in which they came.
    operations: tuple[Operation, ...] = ()


class Attempts(msgspec.Struct, array_like=True):
    """A payment's row. Never changed in place by decisions."""

    #: The engine's; decisions carry it over as it is.
    version: int = 0
    #: "" before anything is decided, then ``referred`` (waits for a person), ``queued``, ``pending`` (asked again), ``parked``
    #: (nobody asks, a person is told), ``ended``.
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
    #: The fields of a ``PaymentQueued`` from ``sca`` on, Avro, to queue another ask; empty once ended.
    queued: bytes = b""
    #: A repeat arrived while the payment was in flight; its completion answers both.
    asked_again: bool = False
    #: As ``earlier``, of rows that earlier programs wrote: the answer to the first ask.
    early: Told | None = None
    #: Which schema ``queued`` is of, as :meth:`schemas.codec.Codec.carried_as` names it; empty: of the first.
    queued_as: str = ""
    #: Fraud wants the payer to prove who they are: told to the PIC with every ask.
    challenge: bool = False
    #: Answers to asks that the row does not know of yet, of its operations too.
    earlier: tuple[Told, ...] = ()
    #: ``payment`` or ``authorize``.
    kind: str = "payment"
    #: The instrument, for what may follow the outcome.
    method: str = ""
    token: str = ""
    #: PICs that it may still go to, in this order.
    routes: tuple[str, ...] = ()
    #: Where the payer is to go, while that is waited for.
    action_url: str = ""
    life: Life | None = None
    #: As in events.
    trace_context: str = ""


#: Answers that are kept at most for asks to come: more than a crash can leave behind.
EARLIER_MAX: Final = 64


def keep(row: Attempts, told: Told) -> Attempts:
    """The row with an answer to an ask that it does not know yet. Of two answers to one ask the first counts.

    Raises :class:`ValueError` when there are too many.
    """
    if kept(row, told.operation_id, told.attempt, told.ask) is not None:
        return row
    if len(row.earlier) >= EARLIER_MAX:
        raise ValueError(f"more than {EARLIER_MAX} answers to asks that were never made")
    return msgspec.structs.replace(row, earlier=(*row.earlier, told))


def kept(row: Attempts, operation_id: str = "", attempt: int = 0, ask: int = 0) -> Told | None:
    """The kept answer to an ask, by default to the one that the row waits for."""
    if row.early is None and not row.earlier:
        return None
    at = (operation_id, attempt or row.attempt, ask if attempt else row.ask)
    of_earlier_programs = () if row.early is None else (row.early,)
    return next(
        (told for told in (*of_earlier_programs, *row.earlier) if (told.operation_id, told.attempt, told.ask) == at),
        None,
    )


def waiting_for(news: PaymentNotified) -> tuple[str, ...]:
    """States in which ``news`` may be the answer that is waited for; a person's only where nobody asks any more."""
    if news.source == "person":
        return (PARKED,)
    return () if news.outcome == UNSENT else (QUEUED, PENDING, PARKED)
