"""Inputs for tests: valid by default, name only what matters."""

from __future__ import annotations

from typing import Any

from schemas.records import Instrument, Locality, Party, PaymentRequested

NOON_MS = 1_760_000_000_000


def a_request(**named: Any) -> PaymentRequested:
    """A PTR that every stage accepts under :func:`some_rules`. Fields of nested records are named ``debtor_id``,
    ``creditor_name``, ``token``, ``method``, ``country``."""
    fields: dict[str, Any] = {
        "tenant": "t1",
        "payment_id": "p1",
        "amount_minor": 1250,
        "currency": "EUR",
        "terminal_id": "term-1",
        "channel": "pos",
        "order_reference": "order-1",
        "requested_at_ms": NOON_MS,
        "debtor": Party(
            id=named.pop("debtor_id", "d1"),
            name=named.pop("debtor_name", "Ada Lovelace"),
            country=named.pop("debtor_country", "DE"),
        ),
        "creditor": Party(
            id=named.pop("creditor_id", "c1"),
            name=named.pop("creditor_name", "Corner Shop"),
            country=named.pop("creditor_country", "DE"),
        ),
        "instrument": Instrument(kind=named.pop("method", "card"), token=named.pop("token", "tok_1")),
        "locality": Locality(country=named.pop("country", "DE"), postcode="10115"),
    }
    return PaymentRequested(**(fields | named))
