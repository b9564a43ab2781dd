"""From the audit database to a report's bytes: what ``ptr report`` and its schedule share."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any, Final, Protocol

import msgspec
from rich.console import Console
from rich.table import Table

from connectors.sinks.archives import NAME_FOLDER, asks_not_here, not_here
from connectors.sinks.asks import Asks
from connectors.sinks.database import Database, open_database
from connectors.sinks.report_events import events
from pipeline.reports.events import Asked, Days, Event
from pipeline.reports.inventory import Inventory
from pipeline.reports.invoices import Invoices
from pipeline.reports.money import Fees, Settlement
from pipeline.reports.payments import Declines, Latency, Queues
from pipeline.reports.sheet import Sheet
from pipeline.reports.sheet_files import csv_of, write_parquet
from pipeline.reports.sheet_page import Writing, html_of, left_columns

FORMATS: Final = ("table", "csv", "parquet", "json", "html")
#: Of a text table in a file.
FILE_WIDTH: Final = 220


class _Tally(Protocol):
    def add(self, event: Any) -> None: ...

    def sheet(self) -> Sheet: ...


#: Report to what makes it, the stages whose events it reads (None: asks), and a line about it.
REPORTS: Final[dict[str, tuple[Callable[[Days], _Tally], tuple[str, ...] | None, str]]] = {
    "settlement": (
        Settlement,
        Settlement.stages,
        "Money that moved: paid, captured, refunded, charged back, fees, net.",
    ),
    "fees": (Fees, Fees.stages, "Fees of payments that went through."),
    "declines": (Declines, Declines.stages, "Why payments did not go through."),
    "queues": (Queues, None, "What PICs were asked and said, and how long that took."),
    "inventory": (Inventory, Inventory.stages, "Goods that moved, by article and location."),
    "invoices": (Invoices, Invoices.stages, "What was invoiced, and what became of it."),
    "latency": (Latency, Latency.stages, "How long payments took to their outcome."),
}

Events = Iterable[Event | Asked]


def sheet_of(
    name: str,
    database_url: str,
    *,
    tenant: str,
    days: Days,
    from_ms: int,
    until_ms: int,
    archive: Path | None = None,
    then: str = NAME_FOLDER,
    told: Callable[[Events], Events] = lambda events: events,
) -> Sheet:
    """The report ``name`` of what was recorded in [from_ms, until_ms); ``told`` may look at the events that pass.

    Events that were moved to files are read from the folder ``archive``. Without one they are not counted: the sheet's
    ``missing`` says so, and what to do ``then``. Raises :class:`~connectors.sinks.database.DatabaseError` and
    :class:`~connectors.sinks.archives.ArchiveFileError`.
    """
    make, stages, _ = REPORTS[name]
    tally = make(days.until(until_ms))
    with closing(open_database(database_url)) as database, database.snapshot():
        between = {"from_ms": from_ms, "until_ms": until_ms}
        read = _read(database, stages, tenant=tenant, archive=archive, **between)
        for event in told(read):
            tally.add(event)
        missing = [] if archive is not None else [not_here(database, tenant, **between, then=then)]
    if isinstance(read, Asks):
        missing.append(asks_not_here(read.elsewhere, then))
    sheet = tally.sheet()
    return replace(sheet, missing=" ".join(filter(None, (*missing, sheet.missing))))


def _read(
    database: Database,
    stages: tuple[str, ...] | None,
    *,
    tenant: str,
    from_ms: int,
    until_ms: int,
    archive: Path | None,
) -> Events:
    if stages is None:
        return Asks(database, tenant=tenant, from_ms=from_ms, until_ms=until_ms, archive=archive)
    return events(database, stages, tenant=tenant, from_ms=from_ms, until_ms=until_ms, archive=archive)


def written(sheet: Sheet, about: dict[str, str], shape: str, writing: Writing, width: int | None = FILE_WIDTH) -> bytes:
    """``sheet`` in one of :data:`FORMATS`. ``about``: report, tenant, from, until, timezone; ``width`` of a table in
    characters, None: the terminal's."""
    match shape:
        case "csv":
            return csv_of(sheet).encode()
        case "parquet":
            file = io.BytesIO()
            write_parquet(sheet, file)
            return file.getvalue()
        case "json":
            told = {"missing": sheet.missing} if sheet.missing else {}
            data = {"about": about | told, "rows": sheet.records(sheet.rows), "totals": sheet.records(sheet.totals)}
            return msgspec.json.format(msgspec.json.encode(data)) + b"\n"
        case "html":
            return html_of(sheet, whose(about), writing).encode()
    return _text(sheet, whose(about), writing, width).encode()


def whose(about: dict[str, str]) -> str:
    """A line: of whom, and of when."""
    return f"{about['tenant'] or 'All tenants'}, {about['from']} to before {about['until']} ({about['timezone']})"


def _text(sheet: Sheet, about: str, writing: Writing, width: int | None) -> str:
    file = io.StringIO()
    console = Console(file=file, markup=False, highlight=False, width=width or Console().width)
    console.print(f"{sheet.title}. {about}", soft_wrap=True)
    if sheet.missing:
        console.print(sheet.missing, soft_wrap=True)
    if not sheet.rows:
        console.print("Nothing was recorded then.")
        return file.getvalue()
    # A column in which nothing happened says nothing.
    every = [*sheet.rows, *sheet.totals]
    shown = [at for at in range(len(sheet.columns)) if any(row[at] not in (None, "", 0) for row in every)]
    table, left = Table(box=None, pad_edge=False), left_columns(sheet)
    for at in shown:
        table.add_column(sheet.columns[at].title, justify="left" if at < left else "right", overflow="fold")
    for number, row in enumerate(every):
        if number == len(sheet.rows):
            table.add_section()
        cells = writing.row(sheet, row)
        table.add_row(*(cells[at] for at in shown))
    console.print(table)
    console.print(sheet.notes, soft_wrap=True)
    return file.getvalue()
