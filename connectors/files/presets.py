"""Mappings of well-known files, as rules (:mod:`connectors.files.mapping`)."""

from __future__ import annotations

PRESETS: dict[str, tuple[str, ...]] = {
    # The Fraud Detection Handbook's simulated card transactions ("simulated-data-raw"). Amounts have no currency there,
    # customers and terminals are numbers without names or places.
    "fdh": (
        "tenant:=fdh",
        "payment_id=TRANSACTION_ID",
        "amount_minor=TX_AMOUNT*100",
        "currency:=EUR",
        "debtor.id=CUSTOMER_ID",
        "debtor.name:=customer {CUSTOMER_ID}",
        "debtor.country:=DE",
        "creditor.id=TERMINAL_ID",
        "creditor.name:=terminal {TERMINAL_ID}",
        "creditor.country:=DE",
        "terminal_id=TERMINAL_ID",
        "channel:=pos",
        "instrument.kind:=card",
        "instrument.token:=tok_{CUSTOMER_ID}",
        "locality.country:=DE",
        "requested_at_ms=TX_DATETIME",
    ),
}
