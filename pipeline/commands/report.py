"""``ptr report``: the figures of days, from the audit tables alone."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable
from functools import partial
from pathlib import Path
from typing import Final

import click

from connectors.sinks.archives import ArchiveFileError
from connectors.sinks.database import DatabaseError
from pipeline.commands.fraud_report import report as fraud_report
from pipeline.commands.report_delivery import deliver
from pipeline.commands.report_making import FILE_WIDTH, FORMATS, REPORTS, Events, sheet_of, written
from pipeline.commands.shared import DAY_MS, archive_option, report_days_options, report_range, settings_with
from pipeline.reports.events import Asked, Days, Event, UnknownZoneError
from pipeline.reports.sheet_page import UnknownLanguageError, Writing
from schemas.identity import TENANT_PATTERN

#: So many events between two lines of progress.
_TOLD_EVERY: Final = 100_000


@click.group()
def report() -> None:
    """Figures by tenant and day, from the audit tables. Amounts agree with these to the smallest unit.

    \b
    Examples:
      ptr report settlement --tenant aurora --from 2026-11-01 --to 2026-12-01
      ptr report fees --format csv --output fees.csv
      ptr report declines --format html --locale de-AT --timezone Europe/Vienna --output declines.html
      ptr report latency --format json
      ptr report inventory --tenant aurora           goods that moved; also invoices
      ptr report fraud --format html --output fraud.html
      ptr report settlement --from 2025-01-01 --to 2026-01-01 --archive /mnt/archive
      ptr report deliver reports.yaml            again and again, as files and by mail
    """


def _command(name: str) -> click.Command:
    *_, about = REPORTS[name]

    examples = f"""\b
    Examples:
      ptr report {name} --tenant aurora --from 2026-11-01 --to 2026-12-01
      ptr report {name} --from 2025-01-01 --to 2026-01-01 --archive /mnt/archive
      ptr report {name} --format html --locale de-AT --timezone Europe/Vienna --output {name}.html
      ptr report {name} --format json"""

    @click.command(name, help=f"{about}\n\n{examples}")
    @click.option("--database", metavar="URL", help="Audit database (default: PTR_DATABASE).")
    @click.option("--tenant", default="", help="Only this tenant (default: all).")
    @report_days_options
    @archive_option
    @click.option("--timezone", default="UTC", show_default=True, metavar="ZONE", help="Whose days, as Europe/Vienna.")
    @click.option("--locale", default="", metavar="LOCALE", help="How numbers and dates are written, as de-AT.")
    @click.option("--format", "shape", type=click.Choice(FORMATS), default="table", show_default=True)
    @click.option("--output", type=click.Path(path_type=Path, dir_okay=False), help="Write it here, not to the screen.")
    def command(
        database: str | None,
        tenant: str,
        from_: str | None,
        to: str | None,
        archive_folder: Path | None,
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
        try:
            sheet = sheet_of(
                name,
                settings_with(database=database).database,
                tenant=tenant,
                days=days,
                from_ms=from_ms,
                until_ms=until_ms,
                archive=archive_folder,
                told=_told,
            )
        except (DatabaseError, ArchiveFileError) as error:
            raise click.ClickException(str(error)) from None
        if sheet.missing and (shape != "table" or output is not None):
            click.echo(sheet.missing, err=True)
        about = {
            "report": name,
            "tenant": tenant,
            "from": days.of(from_ms),
            "until": days.of(until_ms),
            "timezone": days.zone,
        }
        made = written(sheet, about, shape, writing, width=None if output is None else FILE_WIDTH)
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
    tomorrow_ms = days.begin_ms(days.of(int(time.time() * 1000) + DAY_MS))
    return report_range(from_, to, tomorrow_ms=tomorrow_ms, begin_ms=partial(_begin_ms, days))


def _begin_ms(days: Days, text: str) -> int:
    try:
        return days.begin_ms(text)
    except (ValueError, OverflowError):
        raise click.UsageError(f"{text!r} is no day: write YYYY-MM-DD") from None


def _told(events: Events) -> Iterable[Event | Asked]:
    """``events``, with a line of progress now and then, for a person."""
    shown = sys.stderr.isatty()
    number = 0
    for number, event in enumerate(events, 1):
        if shown and number % _TOLD_EVERY == 0:
            click.echo(f"\r{number:,} events read", err=True, nl=False)
        yield event
    if shown and number >= _TOLD_EVERY:
        click.echo("", err=True)


for _name in REPORTS:
    report.add_command(_command(_name))
report.add_command(fraud_report, "fraud")
report.add_command(deliver)
