"""Movements of stock: what may be posted, and what each kind does."""

from __future__ import annotations

from typing import Any

import pytest

from pipeline.stages.inventory import KINDS, figures_mistake_in, mistake_in
from pipeline.stages.outside import is_gs1_number
from schemas.records import StockMoved
from tests.builders import NOON_MS

#: Everybody's example of a card number (Visa's test number).
CARD_NUMBER = "4111111111111111"


def a_movement(**named: Any) -> StockMoved:
    """Ten units came in, at a known cost."""
    fields: dict[str, Any] = {
        "tenant": "acme",
        "movement_id": "mv-1",
        "sku": "tea-250",
        "location": "vienna",
        "kind": "received",
        "quantity": 10,
        "unit_cost_minor": 250,
        "currency": "EUR",
        "moved_at_ms": NOON_MS,
    }
    return StockMoved(**(fields | named))


def test_what_holds_together_may_be_posted() -> None:
    """Every kind; without a cost, a location, an order or a payment; below zero where goods may leave."""
    for kind in KINDS:
        assert mistake_in(a_movement(kind=kind)) is None, kind
    assert mistake_in(a_movement(unit_cost_minor=0, currency="", location="", quantity=1)) is None
    assert mistake_in(a_movement(unit_cost_minor=0)) is None, "what cost nothing"
    assert mistake_in(a_movement(kind="adjusted", quantity=-3)) is None
    assert mistake_in(a_movement(kind="transferred", quantity=-3, payment_id="p1", order_reference="o 1")) is None


@pytest.mark.parametrize(
    ("changed", "field"),
    [
        ({"tenant": "Acme"}, "tenant"),
        ({"movement_id": ""}, "movement_id"),
        ({"movement_id": "a|b"}, "movement_id"),
        ({"sku": "green tea"}, "sku"),
        ({"sku": "x" * 81}, "sku"),
        ({"location": "a b"}, "location"),
        ({"payment_id": "a|b"}, "payment_id"),
        ({"order_reference": "x" * 201}, "order_reference"),
        ({"order_reference": f"card {CARD_NUMBER}"}, "order_reference"),
        ({"sku": CARD_NUMBER}, "sku"),
        ({"moved_at_ms": NOON_MS // 1000}, "moved_at_ms"),
        ({"trace_id": "ada"}, "trace_id"),
        ({"kind": "stolen"}, "kind"),
        ({"quantity": 0}, "quantity"),
        ({"quantity": -1}, "quantity"),
        ({"kind": "adjusted", "quantity": 0}, "quantity"),
        ({"quantity": 10**9 + 1, "unit_cost_minor": 0}, "quantity"),
        ({"kind": "adjusted", "quantity": -(10**9) - 1, "unit_cost_minor": 0}, "quantity"),
        ({"currency": "eur"}, "currency"),
        ({"currency": ""}, "unit_cost_minor"),
        ({"unit_cost_minor": -1}, "unit_cost_minor"),
        ({"unit_cost_minor": 10**12 + 1}, "unit_cost_minor"),
    ],
)
def test_a_mistake_names_its_field_and_no_value(changed: dict[str, Any], field: str) -> None:
    """The first one, in words that do not repeat what the field holds."""
    movement = a_movement(**changed)
    mistake = mistake_in(movement)
    assert mistake is not None
    assert mistake.field == field
    for value in changed.values():
        assert not value or str(value) not in str(mistake).split()


def test_figures_are_judged_without_what_may_be_sealed() -> None:
    """In the audit tables personal fields are empty, and ids were looked at when the row was made."""
    assert figures_mistake_in(a_movement(tenant="", movement_id="", order_reference="")) is None
    assert figures_mistake_in(a_movement(kind="")) is not None


def test_numbers_of_gs1_are_no_card_numbers() -> None:
    """One in ten passes the cards' check too; what is a card's stays one."""
    # A GTIN-13 and a GLN, one on a real article, one that also passes Luhn's check, and the same as a GTIN-14.
    for number in ("4012345123456", "4012345000009", "4006381333931", "4000000000105", "04000000000105"):
        assert is_gs1_number(number), number
        assert mistake_in(a_movement(sku=number, location=number)) is None, number
    # Another last digit; Diners Club's test number, and one of theirs that passes both checks; a card number of 16 digits;
    # letters; digits of another script.
    for number in ("4012345123457", "30569309025904", "36000000000081", CARD_NUMBER, "tea", "٤٠١٢٣٤٥١٢٣٤٥٦"):
        assert not is_gs1_number(number), number
    assert mistake_in(a_movement(sku="36000000000081")) == ("sku", "holds a card number")
    assert mistake_in(a_movement(movement_id="4000000000105")) == ("movement_id", "holds a card number")
