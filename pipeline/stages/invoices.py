"""Changes of invoices, as an invoicing program tells them: which kinds and statuses there are, and what holds together. Pure.

Terms are those of the European standard EN 16931-1 (BT and BG are its business terms and groups), which UBL 2.1 and CII write.

Kinds, with their code of UNTDID 1001 where it has one: ``pre_order`` (325, pro forma: nothing is owed yet), ``pre_payment``
(386), ``order`` (380), ``pos_payment`` (paid at the counter), ``invoice_service_first``, ``invoice_service_recurring`` and
``invoice_service_terms`` (the first, a later and an agreed instalment of a service).

Statuses say what happened, and each change says its own amount, never a running total: so sums are right in any order.

* ``issued``: the invoice was sent; the amount is its gross total (BT-112).
* ``partly_paid`` (BT-113): something is left (BT-115). ``paid``: nothing is; the amount is what was paid now.
* ``refunded``: what was paid was given back.
* ``credited``: a credit note (UNTDID 1001: 381), with tax, of all or a part.
* ``cancelled``: the invoice is void; the amount is what of it was open.
* ``written_off``: what is open will not come.

Nothing happens when an invoice becomes overdue: that follows from its due date and from what is open.
"""

from __future__ import annotations

from datetime import date
from typing import Final

from pipeline.stages.outside import (
    Mistake,
    amount_mistake,
    card_number_in,
    currency_mistake,
    first_mistake,
    id_mistake,
    tenant_mistake,
    time_mistake,
    trace_mistake,
    word_mistake,
)
from schemas.limits import AMOUNT_MINOR_MAX
from schemas.records import InvoiceChanged

#: What the audit tables name as the stage of a change.
NAME: Final = "invoices"

KINDS: Final = (
    "pre_order",
    "pre_payment",
    "order",
    "pos_payment",
    "invoice_service_first",
    "invoice_service_recurring",
    "invoice_service_terms",
)
#: 1,000 %: above any tax.
RATE_PPM_MAX: Final = 10_000_000
ISSUED: Final = "issued"
#: Status to how often its amount is added to what is open.
STATUSES: Final[dict[str, int]] = {
    ISSUED: 1,
    "partly_paid": -1,
    "paid": -1,
    "refunded": 1,
    "credited": -1,
    "cancelled": -1,
    "written_off": -1,
}


def mistake_in(change: InvoiceChanged) -> Mistake | None:
    """The first mistake in ``change``, None when it may be posted."""
    return first_mistake(
        tenant_mistake(change.tenant),
        id_mistake("invoice_id", change.invoice_id),
        id_mistake("event_id", change.event_id),
        id_mistake("payment_id", change.payment_id, may_be_empty=True),
        id_mistake("debtor_id", change.debtor_id, may_be_empty=True),
        time_mistake("changed_at_ms", change.changed_at_ms),
        trace_mistake(change.trace_id),
        card_number_in(change),
        figures_mistake_in(change),
    )


def figures_mistake_in(change: InvoiceChanged) -> Mistake | None:
    """Why the figures of ``change`` cannot be added to others, None when they can."""
    return first_mistake(
        word_mistake("kind", change.kind, KINDS),
        word_mistake("status", change.status, STATUSES),
        currency_mistake("currency", change.currency),
        amount_mistake("net_minor", change.net_minor),
        amount_mistake("tax_minor", change.tax_minor),
        amount_mistake("gross_minor", change.gross_minor),
        amount_mistake("amount_minor", change.amount_minor, least=0 if change.status == ISSUED else 1),
        _totals_mistake(change),
        _due_date_mistake(change.due_date),
    )


def _totals_mistake(change: InvoiceChanged) -> Mistake | None:
    if change.gross_minor != change.net_minor + change.tax_minor:
        return Mistake("gross_minor", "is not net_minor and tax_minor together")
    if change.status == ISSUED and change.amount_minor != change.gross_minor:
        return Mistake("amount_minor", "of what is issued is not gross_minor")
    if not change.taxes:
        return None
    for part in change.taxes:
        if not 0 <= part.rate_ppm <= RATE_PPM_MAX:
            return Mistake("taxes", f"has a rate below zero or above {RATE_PPM_MAX}")
        if amount_mistake("net_minor", part.net_minor) or amount_mistake("tax_minor", part.tax_minor):
            return Mistake("taxes", f"has an amount below zero or above {AMOUNT_MINOR_MAX}")
    if sum(part.net_minor for part in change.taxes) != change.net_minor:
        return Mistake("taxes", "has other net amounts than net_minor together")
    if sum(part.tax_minor for part in change.taxes) != change.tax_minor:
        return Mistake("taxes", "has other taxes than tax_minor together")
    return None


def _due_date_mistake(due_date: str) -> Mistake | None:
    try:
        if not due_date or date.fromisoformat(due_date).isoformat() == due_date:
            return None
    except ValueError:
        pass
    return Mistake("due_date", "is not a day as 2026-12-31")
