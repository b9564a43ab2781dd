"""Stripe's balance files: the report "balance change from activity" (itemized), and the dashboard's export of balance
transactions. Both are in the currency of the account; what the payer paid is in the customer-facing columns.

With a partial capture Stripe lists the whole authorization and a reversal of the rest
(docs.stripe.com/reports/reporting-categories). A dispute is no change of the payment: chargebacks have a topic of their own.
"""

from __future__ import annotations

from typing import Final

from connectors.pic.stripe.mapping import CAPTURED_BY, MADE_BY
from connectors.statements.table import Rule, Table

_WORDS: Final = {
    "charge": "payment",
    "payment": "payment",
    "refund": "refund",
    "payment_refund": "refund",
    "partial_capture_reversal": "correction",
    "charge_failure": "returned",
    "payment_failure_refund": "returned",
    "refund_failure": "refund_returned",
}

REPORT: Final = Table(
    rules=(
        Rule("attempt_id", f"payment_metadata[{CAPTURED_BY}]"),
        Rule("attempt_id", f"payment_metadata[{MADE_BY}]"),
        Rule("pic_reference", "payment_intent_id"),
        Rule("amount", "customer_facing_amount"),
        Rule("amount", "gross"),
        Rule("currency", "customer_facing_currency"),
        Rule("currency", "currency"),
        Rule("kind", "reporting_category"),
        Rule("at", "created_utc"),
    ),
    words=_WORDS,
    instead={
        # What the payment was made by is not what gives it back.
        meaning: (
            Rule("attempt_id", f"refund_metadata[{MADE_BY}]"),
            Rule("pic_reference", "refund_id"),
            Rule("pic_reference", "source_id"),
        )
        for meaning in ("refund", "refund_returned")
    },
    optional=frozenset(
        {
            f"payment_metadata[{CAPTURED_BY}]",
            f"payment_metadata[{MADE_BY}]",
            f"refund_metadata[{MADE_BY}]",
            "customer_facing_amount",
            "customer_facing_currency",
            "refund_id",
            "source_id",
        }
    ),
)

#: The reversal of a partial capture is a refund like any other there: with partial captures take the report.
EXPORT: Final = Table(
    rules=(
        Rule("attempt_id", f"{CAPTURED_BY} (metadata)"),
        Rule("attempt_id", f"{MADE_BY} (metadata)"),
        # Of a refund its own id; of a payment that of its charge, which is not known here.
        Rule("pic_reference", "Source"),
        Rule("amount", "Customer Facing Amount"),
        Rule("amount", "Amount"),
        Rule("currency", "Customer Facing Currency"),
        Rule("currency", "Currency"),
        Rule("kind", "Type"),
        Rule("at", "Created (UTC)"),
    ),
    words=_WORDS,
    optional=frozenset(
        {
            f"{CAPTURED_BY} (metadata)",
            f"{MADE_BY} (metadata)",
            "Customer Facing Amount",
            "Customer Facing Currency",
        }
    ),
)


def table_of(header: list[str]) -> Table | None:
    """The one that has these columns; None when it is neither."""
    for table in (REPORT, EXPORT):
        if set(table.columns()) - table.optional <= set(header):
            return table
    return None
