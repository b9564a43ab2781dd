"""The report of invoices: what was issued, and what became of it. Pure. What the words mean: ``pipeline/stages/invoices.py``.

Amounts of two currencies are never added, nor those of two kinds: what was ordered may be on a pro-forma invoice too.
"""

from __future__ import annotations

from collections import Counter
from typing import Final

import msgspec

from pipeline.reports.apart import NO_IDS, Apart
from pipeline.reports.events import Days, Event
from pipeline.reports.sheet import Chart, Column, Row, Sheet
from pipeline.stages.invoices import ISSUED, NAME, STATUSES, figures_mistake_in
from schemas.records import InvoiceChanged

_changed = msgspec.json.Decoder(InvoiceChanged).decode

#: Tenant, day, kind, currency.
_Key = tuple[str, str, str, str]
#: Statuses that are columns of their own, and those that one column has together.
_COLUMN_OF: Final = {status: f"{status}_minor" for status in STATUSES if status != ISSUED} | {
    "partly_paid": "paid_minor"
}
_SUMS: Final = (
    "issued",
    "net_minor",
    "tax_minor",
    "gross_minor",
    *dict.fromkeys(_COLUMN_OF.values()),
    "open_minor",
    "overdue_minor",
)
_HEADINGS: Final = {
    "open_minor": "change of open",
    "overdue_minor": "of it overdue",
    "written_off_minor": "written off",
}


class Invoices:
    """Changes of invoices by tenant, day, kind and currency. Give it the events of :attr:`stages`, in any order."""

    stages: Final = (NAME,)
    columns: Final = (
        Column("tenant"),
        Column("day"),
        Column("kind"),
        Column("currency"),
        *(Column(name, "minor" if name.endswith("_minor") else "count", _HEADINGS.get(name, "")) for name in _SUMS),
    )

    def __init__(self, days: Days) -> None:
        self._days = days
        self._found: dict[_Key, Counter[str]] = {}
        self._apart = Apart()

    def add(self, event: Event) -> None:
        """Count one event."""
        changed = _changed(event.payload)
        mistake = figures_mistake_in(changed) if event.tenant else NO_IDS
        if mistake is not None:
            self._apart.add(mistake)
            return
        key = (event.tenant, self._days.of(event.recorded_at_ms), changed.kind, changed.currency)
        sums = self._found.get(key)
        if sums is None:
            sums = self._found[key] = Counter()
        if changed.status == ISSUED:
            sums["issued"] += 1
            sums["net_minor"] += changed.net_minor
            sums["tax_minor"] += changed.tax_minor
            sums["gross_minor"] += changed.gross_minor
        else:
            sums[_COLUMN_OF[changed.status]] += changed.amount_minor
        opened_minor = STATUSES[changed.status] * changed.amount_minor
        sums["open_minor"] += opened_minor
        # Each change has the invoice's due date, so this needs no memory of invoices.
        if changed.due_date and changed.due_date < self._days.end:
            sums["overdue_minor"] += opened_minor

    def sheet(self) -> Sheet:
        """What was found, a row for each key."""
        totals: dict[tuple[str, str], Counter[str]] = {}
        for (_, _, kind, currency), sums in self._found.items():
            totals.setdefault((kind, currency), Counter()).update(sums)
        return Sheet(
            NAME,
            "Invoices",
            self.columns,
            [(*key, *_row(self._found[key])) for key in sorted(self._found)],
            [("total", None, *key, *_row(totals[key])) for key in sorted(totals)],
            [
                Chart("Issued by day", ("gross_minor",), each="currency", by="kind"),
                Chart("Paid by day", ("paid_minor",), each="currency", by="kind"),
            ],
            "What was issued, with tax, and given back makes more open; what was paid, credited, cancelled or written off "
            "makes less. The change of open is that of the time of the report: from the first invoice on it is what is open. "
            "Overdue is the part of it that was due before the end of the time.",
            self._apart.said(),
        )


def _row(sums: Counter[str]) -> Row:
    return tuple(sums[name] for name in _SUMS)
