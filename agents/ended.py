"""How a stage after screening ends a payment: one event, read by settlement, which alone writes outcomes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from pipeline.engine.stage import RawRecord
from schemas.reasons import Outcome
from schemas.records import PaymentEnded

#: What :func:`ended_of` reads of the event.
READS: Final = (
    "requested_at_ms",
    "amount_minor",
    "currency",
    "tenant",
    "payment_id",
    "received_at_ms",
    "trace_id",
    "trace_context",
)


def ended_of(
    event: Mapping[str, Any], record: RawRecord, stage: str, outcome: Outcome, reason: str, detail: str, version: int
) -> PaymentEnded:
    """The end of the payment that ``event`` is about."""
    return PaymentEnded(
        sender_partition=record.partition,
        sender_offset=record.offset,
        rule_version=version,
        outcome=outcome.value,
        reason=reason,
        stage=stage,
        request_kind="first",
        requested_at_ms=event["requested_at_ms"],
        amount_minor=event["amount_minor"],
        currency=event["currency"],
        detail=detail,
        tenant=event["tenant"],
        payment_id=event["payment_id"],
        received_at_ms=event["received_at_ms"],
        trace_id=event["trace_id"],
        trace_context=event["trace_context"],
    )
