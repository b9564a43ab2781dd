"""``ptr report``: the figures of days, from the audit tables alone."""

from __future__ import annotations

import io
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Final, Protocol

import click
import msgspec
from rich.console import Console
from rich.table import Table

from connectors.sinks import report_events
from connectors.sinks.database import Database, DatabaseError, open_database
from pipeline.commands.fraud_report import report as fraud_report
from pipeline.commands.shared import settings_with
from pipeline.reports.events import Asked, Days, Event, UnknownZoneError
from pipeline.reports.money import Fees, Settlement
from pipeline.reports.payments import Declines, Latency, Queues
from pipeline.reports.sheet import Sheet
from pipeline.reports.sheet_files import csv_of, write_parquet
from pipeline.reports.sheet_page import UnknownLanguageError, Writing, html_of, left_columns
from schemas.identity import TENANT_PATTERN

_DAY_MS: Final = 24 * 60 * 60 * 1000
#: What a report is of when nobody says otherwise.
WINDOW_DAYS: Final = 28
#: A row a day is kept in memory: ten years of them are some thousand.
DAYS_MAX: Final = 3_660
#: So many events between two lines of progress.
_TOLD_EVERY: Final = 100_000
FORMATS: Final = ("table", "csv", "parquet", "json", "html")


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
    "latency": (Latency, Latency.stages, "How long payments took to their outcome."),
}


@click.group()
def report() -> None:
    """Figures by tenant and day, from the audit tables. Amounts agree with these to the smallest unit.

    \b
    Examples:
      ptr report settlement --tenant aurora --from 2026-11-01 --to 2026-12-01
      ptr report fees --format csv --output fees.csv
      ptr report declines --format html --locale de-AT --timezone Europe/Vienna --output declines.html
      ptr report latency --format json
      ptr report fraud --format html --output fraud.html
    """


def _command(name: str) -> click.Command:
    make, stages, about = REPORTS[name]

    @click.command(
        name, help=about, epilog=f"Example: ptr report {name} --tenant aurora --format html --output {name}.html"
    )
    @click.option("--database", metavar="URL", help="Audit database (default: PTR_DATABASE).")
    @click.option("--tenant", default="", help="Only this tenant (default: all).")
    @click.option("--from", "from_", metavar="YYYY-MM-DD", help=f"First day (default: {WINDOW_DAYS} days before --to).")
    @click.option("--to", metavar="YYYY-MM-DD", help="The day after the last (default: tomorrow).")
    @click.option("--timezone", default="UTC", show_default=True, metavar="ZONE", help="Whose days, as Europe/Vienna.")
    @click.option("--locale", default="", metavar="LOCALE", help="How numbers and dates are written, as de-AT.")
    @click.option("--format", "shape", type=click.Choice(FORMATS), default="table", show_default=True)
    @click.option("--output", type=click.Path(path_type=Path, dir_okay=False), help="Write it here, not to the screen.")
    def command(
        database: str | None,
        tenant: str,
        from_: str | None,
        to: str | None,
        timezone: str,
        locale: str,
        shape: str,
        output: Path | None,
    ) -> None:
        if tenant and not TENANT_PATTERN.match(tenant):
            raise click.UsageError("--tenant is not a tenant's id")
        if shape == "parquet" and output is None and sys.stdout.isatty():
            raise click.UsageError("Parquet is not for a screen: say where with --output FILE")
        try:
            days, writing = Days(timezone), Writing(locale)
        except (UnknownZoneError, UnknownLanguageError) as error:
            raise click.UsageError(str(error)) from None
        from_ms, until_ms = _range(days, from_, to)
        tally = make(days)
        try:
            opened = open_database(settings_with(database=database).database)
            try:
                for event in _told(_read(opened, stages, tenant, from_ms, until_ms)):
                    tally.add(event)
            finally:
                opened.close()
        except DatabaseError as error:
            raise click.ClickException(str(error)) from None
        sheet = tally.sheet()
        about = {
            "report": name,
            "tenant": tenant,
            "from": days.of(from_ms),
            "until": days.of(until_ms),
            "timezone": days.zone,
        }
        made = _made(sheet, about, shape, writing, width=None if output is None else 220)
        if output is None:
            sys.stdout.buffer.write(made)
            sys.stdout.buffer.flush()
            return
        try:
            output.write_bytes(made)
        except OSError as error:
            raise click.ClickException(f"{output} cannot be written: {error.strerror}") from None
        click.echo(f"{output} holds the {name} report, {len(sheet.rows):,} rows")

    return command


def _range(days: Days, from_: str | None, to: str | None) -> tuple[int, int]:
    tomorrow_ms = days.begin_ms(days.of(int(time.time() * 1000) + _DAY_MS))
    until_ms = _begin_ms(days, to) if to else tomorrow_ms
    from_ms = _begin_ms(days, from_) if from_ else until_ms - WINDOW_DAYS * _DAY_MS
    if not from_ms < until_ms <= from_ms + DAYS_MAX * _DAY_MS:
        raise click.UsageError(f"--from must be before --to, and at most {DAYS_MAX} days before it")
    return from_ms, until_ms


def _begin_ms(days: Days, text: str) -> int:
    try:
        return days.begin_ms(text)
    except (ValueError, OverflowError):
        raise click.UsageError(f"{text!r} is no day: write YYYY-MM-DD") from None


def _read(
    database: Database, stages: tuple[str, ...] | None, tenant: str, from_ms: int, until_ms: int
) -> Iterable[Event | Asked]:
    if stages is None:
        return report_events.asks(database, tenant=tenant, from_ms=from_ms, until_ms=until_ms)
    return report_events.events(database, stages, tenant=tenant, from_ms=from_ms, until_ms=until_ms)


def _told(events: Iterable[Event | Asked]) -> Iterable[Event | Asked]:
    """``events``, with a line of progress now and then, for a person."""
    shown = sys.stderr.isatty()
    number = 0
    for number, event in enumerate(events, 1):
        if shown and number % _TOLD_EVERY == 0:
            click.echo(f"\r{number:,} events read", err=True, nl=False)
        yield event
    if shown and number >= _TOLD_EVERY:
        click.echo("", err=True)


def _made(sheet: Sheet, about: dict[str, str], shape: str, writing: Writing, width: int | None) -> bytes:
    whose = f"{about['tenant'] or 'All tenants'}, {about['from']} to before {about['until']} ({about['timezone']})"
    match shape:
        case "csv":
            return csv_of(sheet).encode()
        case "parquet":
            file = io.BytesIO()
            write_parquet(sheet, file)
            return file.getvalue()
        case "json":
            data = {"about": about, "rows": sheet.records(sheet.rows), "totals": sheet.records(sheet.totals)}
            return msgspec.json.format(msgspec.json.encode(data)) + b"\n"
        case "html":
            return html_of(sheet, whose, writing).encode()
    return _text(sheet, whose, writing, width).encode()


def _text(sheet: Sheet, about: str, writing: Writing, width: int | None) -> str:
    file = io.StringIO()
    console = Console(file=file, markup=False, highlight=False, width=width or Console().width)
    console.print(f"{sheet.title}. {about}", soft_wrap=True)
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


for _name in REPORTS:
    report.add_command(_command(_name))
report.add_command(fraud_report, "fraud")
