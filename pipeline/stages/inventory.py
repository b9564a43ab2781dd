"""Movements of stock, as a warehouse or an ERP tells them: which kinds there are, and what each does to the stock. Pure.

Two figures follow from movements, both sums, in any order: *stock*, what is there to be sold, reserved or not, and *reserved*,
what of it is set aside for orders. In brackets the business steps of GS1's Core Business Vocabulary (CBV 2.0) where it has one
(its ``reserving`` is about identifiers, not about goods):

* ``received`` (receiving): goods came from a supplier.
* ``reserved``: goods were set aside for an order. ``released``: that ended, they were sold or are free again.
* ``sold`` (retail_selling, shipping): goods left for a customer; a reservation for them is released by a movement of its own.
* ``returned`` (the disposition returned): a customer sent goods back, which are not for sale yet.
* ``restocked`` (stocking): what came back is for sale again.
* ``written_off`` (destroying): goods of the stock were lost or destroyed. What came back and is not fit for sale was not in the
  stock: it is just not restocked.
* ``adjusted`` (cycle_counting, stock_taking): a count found more, or below zero fewer.
* ``transferred``: goods came from another location, or below zero left for one: two movements.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from pipeline.stages.outside import (
    Mistake,
    amount_mistake,
    card_number_in,
    currency_mistake,
    first_mistake,
    id_mistake,
    tenant_mistake,
    text_mistake,
    time_mistake,
    trace_mistake,
    word_mistake,
)
from schemas.limits import AMOUNT_MINOR_MAX, QUANTITY_MAX
from schemas.records import StockMoved

#: What the audit tables name as the stage of a movement.
NAME: Final = "inventory"


class Effect(NamedTuple):
    """How often a movement's quantity is added to the stock and to what is reserved."""

    stock: int
    reserved: int = 0
    #: The quantity may be below zero.
    is_signed: bool = False


KINDS: Final[dict[str, Effect]] = {
    "received": Effect(1),
    "reserved": Effect(0, 1),
    "released": Effect(0, -1),
    "sold": Effect(-1),
    "returned": Effect(0),
    "restocked": Effect(1),
    "written_off": Effect(-1),
    "adjusted": Effect(1, is_signed=True),
    "transferred": Effect(1, is_signed=True),
}


def mistake_in(movement: StockMoved) -> Mistake | None:
    """The first mistake in ``movement``, None when it may be posted."""
    return first_mistake(
        tenant_mistake(movement.tenant),
        id_mistake("movement_id", movement.movement_id),
        id_mistake("sku", movement.sku),
        id_mistake("location", movement.location, may_be_empty=True),
        id_mistake("payment_id", movement.payment_id, may_be_empty=True),
        text_mistake("order_reference", movement.order_reference),
        time_mistake("moved_at_ms", movement.moved_at_ms),
        trace_mistake(movement.trace_id),
        card_number_in(movement),
        figures_mistake_in(movement),
    )


def figures_mistake_in(movement: StockMoved) -> Mistake | None:
    """Why the figures of ``movement`` cannot be added to others, None when they can."""
    effect = KINDS.get(movement.kind)
    if effect is None:
        return word_mistake("kind", movement.kind, KINDS)
    if movement.quantity == 0 or (movement.quantity < 0 and not effect.is_signed):
        return Mistake("quantity", "is zero" if movement.quantity == 0 else "is below zero where none may be")
    if abs(movement.quantity) > QUANTITY_MAX:
        return Mistake("quantity", f"is beyond {QUANTITY_MAX}")
    if not movement.currency:
        return Mistake("unit_cost_minor", "has no currency") if movement.unit_cost_minor else None
    mistake = currency_mistake("currency", movement.currency) or amount_mistake(
        "unit_cost_minor", movement.unit_cost_minor
    )
    if mistake is None and abs(movement.quantity) * movement.unit_cost_minor > AMOUNT_MINOR_MAX:
        return Mistake("unit_cost_minor", f"of the whole quantity is above {AMOUNT_MINOR_MAX}")
    return mistake
