"""A call, and what Stripe's API says of it."""

from __future__ import annotations

from typing import Any

from connectors.pic.base import Call

CALL = Call(
    attempt_id="acme|p-1|1",
    tenant="acme",
    payment_id="p-1",
    amount_minor=1_234,
    currency="EUR",
    token="pm_1",
    method="card",
)
#: Of a payment that succeeded.
INTENT: dict[str, Any] = {
    "id": "pi_1",
    "object": "payment_intent",
    "status": "succeeded",
    "amount": 1_234,
    "amount_received": 1_234,
    "currency": "eur",
    "capture_method": "automatic",
    "metadata": {"attempt_id": "acme|p-1|1"},
}
#: Of its refund.
REFUND: dict[str, Any] = {
    "id": "re_1",
    "object": "refund",
    "status": "succeeded",
    "amount": 1_234,
    "currency": "eur",
    "payment_intent": "pi_1",
    "metadata": {"attempt_id": "acme|p-1|1"},
}
