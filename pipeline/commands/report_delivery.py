"""``ptr report deliver``: reports of whole days, weeks and months, as files and by mail, each once."""

from __future__ import annotations

import os
import signal
import threading
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import click

from connectors import mail
from connectors.sinks.archives import ArchiveFileError
from connectors.sinks.database import DatabaseError
from pipeline.commands.report_making import sheet_of, whose, written
from pipeline.commands.shared import settings_with
from pipeline.reports.events import Days
from pipeline.reports.schedule import (
    FILE_CHARS_MAX,
    Period,
    Schedule,
    Scheduled,
    ScheduleError,
    last_due,
    next_due,
    parse,
)
from pipeline.reports.sheet_page import Writing

#: What could not be delivered is tried again so soon.
RETRY_S: Final = 300.0
_ENDINGS: Final = {"table": "txt"}
_NAME_FOLDER: Final = "name the folder in the schedule, as archive: DIR"


@click.command()
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False, exists=True))
@click.option("--database", metavar="URL", help="Audit database (default: PTR_DATABASE).")
@click.option("--once", is_flag=True, help="Deliver what is due and end, for cron; exit code 1 when something was not.")
def deliver(file: Path, database: str | None, once: bool) -> None:
    """Deliver the reports of FILE when they are due, until ended; at the start, what is due and not delivered.

    A report is delivered once: its file in the folder says so, and NAME.mailed beside it that its mail was taken. A mail that
    was taken right before a crash comes again, with the same Message-ID.

    \b
    FILE is YAML:
      folder: /var/lib/ptr/reports
      archive: /mnt/archive             # where ptr audit archive moved events; left out: these are not counted
      mail: {host: smtp.example.org, sender: reports@example.org, user: reports, password_file: /run/secrets/smtp}
      reports:
        - name: aurora-settlement
          report: settlement            # fees, declines, queues, inventory, invoices, latency
          tenant: aurora                # left out: all tenants
          every: day                    # week: on Monday; month: on the first
          at: "06:00"
          timezone: Europe/Vienna
          locale: de-AT
          format: html                  # csv, parquet, json, table
          mail_to: [finance@aurora.example]

    \b
    Examples:
      ptr report deliver reports.yaml
      ptr report deliver reports.yaml --once
    """
    with file.open(encoding="utf-8", errors="replace") as text:
        try:
            schedule = parse(text.read(FILE_CHARS_MAX + 1), str(file))
        except ScheduleError as error:
            raise click.ClickException(str(error)) from None
    url = settings_with(database=database).database
    ended = threading.Event()
    if not once:
        for ending in (signal.SIGINT, signal.SIGTERM):
            signal.signal(ending, lambda *_: ended.set())
    while not ended.is_set():
        failed = [scheduled.name for scheduled in schedule.reports if not _deliver(schedule, scheduled, url)]
        if once:
            raise SystemExit(1 if failed else 0)
        now = datetime.now(UTC)
        due = min(next_due(scheduled, now) for scheduled in schedule.reports)
        click.echo(f"the next report is due on {due:%Y-%m-%d at %H:%M} ({due.tzinfo})")
        wait_s = max((due - now).total_seconds(), 1.0)
        ended.wait(min(wait_s, RETRY_S) if failed else wait_s)
    click.echo("ended; what is due is delivered at the next start")


def _deliver(schedule: Schedule, scheduled: Scheduled, url: str) -> bool:
    """Deliver the last period's report, unless it is; whether it is now."""
    period = last_due(scheduled, datetime.now(UTC))
    ending = _ENDINGS.get(scheduled.format, scheduled.format)
    path = Path(schedule.folder) / f"{scheduled.name}-{period.first}.{ending}"
    mailed = path.with_name(path.name + ".mailed")
    try:
        if not path.exists():
            _write(path, _content(schedule, scheduled, period, url))
            click.echo(f"{path} is there")
        if scheduled.mail_to and not mailed.exists():
            _mail(schedule, scheduled, period, path)
            _write(mailed, b"")
            click.echo(f"{path.name} is mailed to {len(scheduled.mail_to)}")
    except (DatabaseError, ArchiveFileError, mail.MailError) as error:
        click.echo(f"{scheduled.name}: {error}", err=True)
        return False
    except OSError as error:
        click.echo(f"{scheduled.name}: {error.filename or path} cannot be used: {error.strerror}", err=True)
        return False
    return True


def _content(schedule: Schedule, scheduled: Scheduled, period: Period, url: str) -> bytes:
    days = Days(scheduled.timezone)
    first, until = str(period.first), str(period.until)
    sheet = sheet_of(
        scheduled.report,
        url,
        tenant=scheduled.tenant,
        days=days,
        from_ms=days.begin_ms(first),
        until_ms=days.begin_ms(until),
        archive=Path(schedule.archive) if schedule.archive else None,
        then=_NAME_FOLDER,
    )
    if sheet.missing:
        click.echo(f"{scheduled.name}: {sheet.missing}", err=True)
    return written(sheet, _about(scheduled, period), scheduled.format, Writing(scheduled.locale))


def _about(scheduled: Scheduled, period: Period) -> dict[str, str]:
    return {
        "report": scheduled.report,
        "tenant": scheduled.tenant,
        "from": str(period.first),
        "until": str(period.until),
        "timezone": scheduled.timezone,
    }


def _write(path: Path, content: bytes) -> None:
    """Whole or not at all, and durable: that it is there says that it was delivered."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with part.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
    finally:
        with suppress(OSError):
            part.unlink()


def _mail(schedule: Schedule, scheduled: Scheduled, period: Period, path: Path) -> None:
    server = schedule.mail
    assert server is not None
    domain = server.sender.rsplit("@", 1)[1]
    message = mail.with_file(
        sender=server.sender,
        to=scheduled.mail_to,
        subject=f"{scheduled.report} {period.first}: {scheduled.name}",
        text=f"The {scheduled.report} report of {whose(_about(scheduled, period))} is attached.\n",
        file=path.name,
        content=path.read_bytes(),
        message_id=f"<{path.name}@{domain}>",
    )
    mail.send(server, message)
