"""Events between two stages, for tests of shells: defaults of every field, so that a test names only what matters."""

from __future__ import annotations

from io import BytesIO
from typing import Any

import fastavro
import msgspec

from pipeline.stages.profiles import HOUR_MS
from schemas.codec import earlier_schemas, encode_request
from schemas.identity import payee_key, payment_key
from schemas.records import (
    ChargebackReceived,
    PaymentAnswered,
    PaymentLocalized,
    PaymentProfiled,
    PaymentQueued,
    PaymentScored,
    PaymentScreened,
)
from tests.builders import a_request
from tests.simulation.world import NOW_MS

#: Of the payment that they are about, and of its payee.
KEY = payment_key("t1", "p1")
PAYEE = payee_key("t1", "c1", "term-1")
_OUTCOMES: dict[type[Any], str] = {
    PaymentScreened: "clear",
    PaymentLocalized: "accepted",
    PaymentProfiled: "profiled",
    PaymentScored: "approved",
}


def a_fact(record: type[Any], **named: Any) -> Any:
    """An event of the payment's way, of this kind."""
    fields: dict[str, Any] = {
        "sender_partition": 0,
        "sender_offset": 0,
        "rule_version": 1,
        "outcome": _OUTCOMES.get(record, "x"),
        "fee_minor": 7,
        "pic": "simulator",
        "payer_features": [0] * 9,
        "payee_features": [0] * 10,
        "score": 0.0,
        "score_reasons": [],
        "attempt": 1,
        "ask": 0,
        "not_before_ms": 0,
        "requested_at_ms": NOW_MS,
        "amount_minor": 1250,
        "tenant": "t1",
        "payment_id": "p1",
        "creditor_id": "c1",
        "terminal_id": "term-1",
        "currency": "EUR",
        "debtor_id": "d1",
        "country": "DE",
        "method": "card",
        "token": "tok_1",
        "received_at_ms": NOW_MS,
        "trace_id": "0af7651916cd43dd8448eb211c80319c",
        "request": encode_request(a_request(requested_at_ms=NOW_MS)),
    }
    return record(**{name: value for name, value in (fields | named).items() if name in record.__struct_fields__})


def an_answer(**named: Any) -> PaymentAnswered:
    """The PIC's answer to the first ask: paid."""
    fields: dict[str, Any] = {
        "attempt": 1,
        "ask": 0,
        "outcome": "paid",
        "pic_reference": "sim-1",
        "answered_at_ms": NOW_MS,
        "called": True,
        "pic": "simulator",
        "tenant": "t1",
        "payment_id": "p1",
    }
    return PaymentAnswered(**(fields | named))


def a_chargeback(**named: Any) -> ChargebackReceived:
    """A payment of an hour ago is disputed as fraud."""
    fields: dict[str, Any] = {
        "tenant": "t1",
        "payment_id": "p1",
        "creditor_id": "c1",
        "terminal_id": "term-1",
        "amount_minor": 1250,
        "currency": "EUR",
        "paid_at_ms": NOW_MS - HOUR_MS,
        "charged_back_at_ms": NOW_MS,
    }
    return ChargebackReceived(**(fields | named))


def carried_at_first(queued: PaymentQueued) -> bytes:
    """What the row of a payment carried when it was queued by the first program: the intent's fields after the version of
    the configuration, by the first schema."""
    first = earlier_schemas(PaymentQueued)[0]
    names = [field["name"] for field in first["fields"]]
    carried = first | {"fields": first["fields"][names.index("rule_version") + 1 :]}
    out = BytesIO()
    fastavro.schemaless_writer(out, carried, msgspec.to_builtins(queued, builtin_types=(bytes,)))
    return out.getvalue()
