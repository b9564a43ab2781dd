"""The report of stock: what moved, by article and place. Pure. What the kinds mean: ``pipeline/stages/inventory.py``."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

import msgspec

from pipeline.reports.apart import NO_IDS, Apart
from pipeline.reports.events import Days, Event
from pipeline.reports.sheet import Chart, Column, Row, Sheet
from pipeline.stages.inventory import KINDS, NAME, figures_mistake_in
from schemas.records import StockMoved

_moved = msgspec.json.Decoder(StockMoved).decode


@dataclass(slots=True)
class _Stock:
    """What moved of one article at one location."""

    #: Units by kind.
    units: Counter[str] = field(default_factory=Counter)
    #: Units that came into the stock or left it, and whose cost was not told.
    without_cost: int = 0
    #: What the others changed the stock by, at cost, by currency.
    value_minor: Counter[str] = field(default_factory=Counter)

    def add(self, moved: StockMoved) -> None:
        self.units[moved.kind] += moved.quantity
        into = KINDS[moved.kind].stock * moved.quantity
        if moved.currency:
            self.value_minor[moved.currency] += into * moved.unit_cost_minor
        else:
            self.without_cost += abs(into)

    def merge(self, other: _Stock) -> None:
        self.units.update(other.units)
        self.without_cost += other.without_cost
        self.value_minor.update(other.value_minor)

    def rows(self, key: Row) -> Iterator[Row]:
        """One row; where costs are in several currencies one for each, units in the first only, so that sums are right."""
        stock = sum(KINDS[kind].stock * units for kind, units in self.units.items())
        reserved = sum(KINDS[kind].reserved * units for kind, units in self.units.items())
        units: Row = (*(self.units[kind] for kind in KINDS), stock, reserved, self.without_cost)
        for currency in sorted(self.value_minor) or [""]:
            yield (*key, currency, *units, self.value_minor[currency] if currency else None)
            units = (0,) * len(units)


class Inventory:
    """Movements of stock by tenant, SKU and location. Give it the events of :attr:`stages`, in any order."""

    stages: Final = (NAME,)
    columns: Final = (
        Column("tenant"),
        Column("sku", heading="SKU"),
        Column("location"),
        Column("currency"),
        *(Column(kind, "count") for kind in KINDS),
        Column("stock_change", "count", "change of stock"),
        Column("reserved_change", "count", "change of reserved"),
        Column("without_cost", "count"),
        Column("value_minor", "minor", "value at cost"),
    )

    def __init__(self, days: Days) -> None:
        self._found: dict[tuple[str, str, str], _Stock] = {}
        self._apart = Apart()

    def add(self, event: Event) -> None:
        """Count one event."""
        moved = _moved(event.payload)
        mistake = figures_mistake_in(moved) if event.tenant else NO_IDS
        if mistake is not None:
            self._apart.add(mistake)
            return
        key = (event.tenant, moved.sku, moved.location)
        stock = self._found.get(key)
        if stock is None:
            stock = self._found[key] = _Stock()
        stock.add(moved)

    def sheet(self) -> Sheet:
        """What was found, a row for each key and currency of cost."""
        total = _Stock()
        for stock in self._found.values():
            total.merge(stock)
        return Sheet(
            NAME,
            "Inventory",
            self.columns,
            [row for key in sorted(self._found) for row in self._found[key].rows(key)],
            list(total.rows(("total", None, None))) if self._found else [],
            [
                Chart("Sold, in units", ("sold",), kind="bars", names=("sku", "location")),
                Chart("Received, in units", ("received",), kind="bars", names=("sku", "location")),
            ],
            "Changes of stock and of what is reserved are those of the time of the report: from the first movement on they are "
            "what is there. What came back counts in the stock when it is restocked. Value at cost is that of the change of "
            "stock; units that moved without a cost are told beside it.",
            self._apart.said(),
        )
