"""Changes of invoices: what may be posted."""

from __future__ import annotations

from typing import Any

import pytest

from pipeline.stages.invoices import KINDS, STATUSES, figures_mistake_in, mistake_in
from schemas.records import InvoiceChanged, TaxSubtotal
from tests.builders import NOON_MS

#: Everybody's example of a card number (Visa's test number).
CARD_NUMBER = "4111111111111111"


def a_change(**named: Any) -> InvoiceChanged:
    """An invoice of 100 euros and 20 of tax was issued."""
    fields: dict[str, Any] = {
        "tenant": "acme",
        "invoice_id": "2026-17",
        "event_id": "1",
        "kind": "order",
        "status": "issued",
        "currency": "EUR",
        "net_minor": 10_000,
        "tax_minor": 2_000,
        "gross_minor": 12_000,
        "amount_minor": 12_000,
        "due_date": "2026-12-31",
        "debtor_id": "ada",
        "changed_at_ms": NOON_MS,
    }
    return InvoiceChanged(**(fields | named))


def taxes(*parts: tuple[int, int, int]) -> list[TaxSubtotal]:
    """Rate in millionths, net and tax, by part."""
    return [TaxSubtotal(rate_ppm=rate, net_minor=net, tax_minor=tax) for rate, net, tax in parts]


def test_what_holds_together_may_be_posted() -> None:
    """Every kind and status; without due date, debtor and payment; by rate; an invoice of nothing."""
    for kind in KINDS:
        assert mistake_in(a_change(kind=kind)) is None, kind
    for status in STATUSES:
        assert mistake_in(a_change(status=status)) is None, status
    assert mistake_in(a_change(status="paid", amount_minor=20_000)) is None, "more than was asked for"
    assert mistake_in(a_change(due_date="", debtor_id="", payment_id="")) is None
    assert mistake_in(a_change(taxes=taxes((200_000, 7_000, 1_400), (88_750, 3_000, 600)))) is None
    assert mistake_in(a_change(net_minor=0, tax_minor=0, gross_minor=0, amount_minor=0)) is None


@pytest.mark.parametrize(
    ("changed", "field"),
    [
        ({"tenant": "Acme"}, "tenant"),
        ({"invoice_id": "2026|17"}, "invoice_id"),
        ({"event_id": ""}, "event_id"),
        ({"payment_id": "a b"}, "payment_id"),
        ({"debtor_id": "Ada Lovelace"}, "debtor_id"),
        ({"debtor_id": CARD_NUMBER}, "debtor_id"),
        ({"changed_at_ms": 0}, "changed_at_ms"),
        ({"trace_id": "ada"}, "trace_id"),
        ({"kind": "gift"}, "kind"),
        ({"status": "lost"}, "status"),
        ({"currency": "XXX"}, "currency"),
        ({"net_minor": -1, "gross_minor": 1_999, "amount_minor": 1_999}, "net_minor"),
        ({"tax_minor": -1, "gross_minor": 9_999, "amount_minor": 9_999}, "tax_minor"),
        ({"gross_minor": 12_001}, "gross_minor"),
        ({"amount_minor": 11_999}, "amount_minor"),
        ({"status": "paid", "amount_minor": 0}, "amount_minor"),
        ({"status": "credited", "amount_minor": -5}, "amount_minor"),
        ({"status": "paid", "amount_minor": 10**13 + 1}, "amount_minor"),
        ({"net_minor": 10**13 + 1}, "net_minor"),
        ({"taxes": taxes((200_000, 9_999, 2_000))}, "taxes"),
        ({"taxes": taxes((200_000, 10_000, 1_999))}, "taxes"),
        ({"taxes": taxes((-1, 10_000, 2_000))}, "taxes"),
        ({"taxes": taxes((10_000_001, 10_000, 2_000))}, "taxes"),
        ({"taxes": taxes((0, 10_001, 2_000), (0, -1, 0))}, "taxes"),
        ({"taxes": taxes((0, 10_000, 2_001), (0, 0, -1))}, "taxes"),
        ({"due_date": "31.12.2026"}, "due_date"),
        ({"due_date": "2026-02-30"}, "due_date"),
        ({"due_date": "20261231"}, "due_date"),
    ],
)
def test_a_mistake_names_its_field_and_no_value(changed: dict[str, Any], field: str) -> None:
    """The first one, in words that do not repeat what the field holds."""
    mistake = mistake_in(a_change(**changed))
    assert mistake is not None
    assert mistake.field == field
    for value in changed.values():
        assert not isinstance(value, str) or not value or value not in str(mistake).split()


def test_figures_are_judged_without_what_may_be_sealed() -> None:
    """In the audit tables the debtor is empty, and ids were looked at when the row was made."""
    assert figures_mistake_in(a_change(debtor_id="", invoice_id="", event_id="")) is None
    assert figures_mistake_in(a_change(status="")) is not None
