"""``ptr audit archive``: move past months of audit rows into files."""

from __future__ import annotations

import time
from contextlib import closing
from datetime import UTC, date, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from connectors.proofs.heads import read_heads
from connectors.proofs.verifier import Head, PublicKey
from connectors.sinks.database import Database, DatabaseAwayError, open_database
from connectors.sinks.months import month_of, name_of_month, next_month
from connectors.sinks.verifying import kept_in
from pipeline.commands.audit_shared import (
    PROGRESS_S,
    database_option,
    errors_in_words,
    key_of,
    key_option,
    opened_with,
)
from pipeline.commands.shared import day_ms, json_option, print_json, settings_with
from pipeline.settings import Settings

if TYPE_CHECKING:
    from connectors.sinks.archiving import Part, Progress


_AGAIN: Final = "No row was removed that is not in a file; once this has passed, the same command does the rest"


@click.command()
@click.option(
    "--to",
    "folder",
    required=True,
    metavar="DIR",
    type=click.Path(path_type=Path, file_okay=False),
    help="Where the files go, one a tenant and month.",
)
@click.option("--before", metavar="YYYY-MM-DD", help="Archive the months that ended by this day, UTC.")
@click.option(
    "--months",
    type=click.IntRange(0, 1200),
    help="Keep so many whole months before this one (default: PTR_AUDIT_KEEP_MONTHS, or 12).",
)
@click.option("--tenant", help="Of one tenant (default: all).")
@click.option("--dry-run", is_flag=True, help="Only say what would go.")
@click.option(
    "--heads",
    "heads_file",
    type=click.Path(path_type=Path),
    help="Signed heads that were kept, to check with too (default: PTR_AUDIT_HEADS_FILE).",
)
@database_option
@key_option
@json_option
def archive(
    folder: Path,
    before: str | None,
    months: int | None,
    tenant: str | None,
    dry_run: bool,
    heads_file: Path | None,
    database: str | None,
    key_file: Path | None,
    as_json: bool,
) -> None:
    """Move whole past months of events into Parquet files, and out of the database.

    A file is read back, and each of its rows is found under a signed head, before a row is removed. Killed at any moment, the
    same command once more does the rest. What stays in the database: the trees, so that proofs hold; where each payment
    stands; events of payments that go on, and of none (rules, controls). Copy DIR as you copy the database; it holds whole
    rows, personal data too. Must be run by the tables' owner; the sink may go on.

    \b
    Examples:
      ptr audit archive --to /mnt/archive --dry-run
      ptr audit archive --to /mnt/archive
      ptr audit archive --to /mnt/archive --before 2026-01-01 --tenant acme
    """
    settings = settings_with(database=database, audit_keep_months=months)
    until = _until(before, months, settings.audit_keep_months)
    with errors_in_words():
        key = key_of(key_file, settings)
        chosen = heads_file or (Path(settings.audit_heads_file) if settings.audit_heads_file else None)
        with opened_with(settings) as reader:
            heads = [
                *(read_heads(chosen, key) if chosen is not None and chosen.exists() else []),
                *kept_in(reader, key),
            ]
            if dry_run:
                _show_plan(reader, until, tenant, as_json)
                return
        _archive(settings, folder, key, heads, until, tenant, as_json)


def _until(before: str | None, months: int | None, keep_months: int) -> date:
    """The month before which all goes. Raises ``click.UsageError`` for one that is not over."""
    this = datetime.now(UTC).date().replace(day=1)
    if before is None:
        return next_month(this, -keep_months)
    if months is not None:
        raise click.UsageError("give either --before or --months")
    until = month_of(day_ms(before))
    if day_ms(before) > day_ms(f"{this:%Y-%m-%d}"):
        raise click.UsageError(
            f"--before {before}: only months that are over can be archived, and {name_of_month(this)} is not. The latest day"
            f" is {this:%Y-%m-%d}"
        )
    return until


def _archive(
    settings: Settings,
    folder: Path,
    key: PublicKey,
    heads: list[Head],
    until: date,
    tenant: str | None,
    as_json: bool,
) -> None:
    # Imported only here: writing Parquet takes a moment to load.
    from connectors.sinks.archiving import Archiving, by_month, plan

    with closing(open_database(settings.database, create=True)) as owner:
        owner.lock("archive")
        archiving = Archiving(owner, folder, key, heads, _Said())
        try:
            archiving.finish()
            for month, parts in by_month(plan(owner, until, tenant)):
                click.echo(f"{name_of_month(month)}: {sum(part.events for part in parts):,} events", err=True)
                archiving.month(parts)
        except OSError as error:
            raise click.ClickException(
                f"cannot write {error.filename or folder}: {error.strerror or error}. {_AGAIN}"
            ) from None
        except DatabaseAwayError as error:
            raise click.ClickException(f"{error}. {_AGAIN}") from None
    _show(archiving.progress, until, as_json)


class _Said:
    """Says now and then how far it is."""

    def __init__(self) -> None:
        self._at = time.monotonic()

    def __call__(self, progress: Progress) -> None:
        if time.monotonic() - self._at >= PROGRESS_S:
            self._at = time.monotonic()
            click.echo(
                f"{progress.written:,} rows written, {progress.verified:,} checked, {progress.removed:,} removed",
                err=True,
            )


def _show_plan(reader: Database, until: date, tenant: str | None, as_json: bool) -> None:
    from connectors.sinks.archiving import plan

    parts = plan(reader, until, tenant)
    if as_json:
        print_json({"before": f"{until}", "parts": [_told(part) for part in parts]})
        return
    for part in parts:
        click.echo(f"{name_of_month(part.month)}  {part.tenant or 'no tenant'}  {part.events:,} events")
    events = sum(part.events for part in parts)
    click.echo(f"{events:,} events of before {until} would be archived" if events else _nothing(until))


def _told(part: Part) -> dict[str, Any]:
    return {"month": name_of_month(part.month), "tenant": part.tenant, "events": part.events}


def _show(progress: Progress, until: date, as_json: bool) -> None:
    if as_json:
        files = [
            {"file": one.file, "sha256": one.sha256, "tenant": one.tenant, "month": one.month, "events": one.events}
            for one in progress.archives
        ]
        print_json({"before": f"{until}", "removed": progress.removed, "files": files})
        return
    for one in progress.archives:
        click.echo(f"{one.file}  {one.events:,} events  sha256 {one.sha256}")
    click.echo(
        f"{progress.removed:,} events of before {until} were checked and moved"
        if progress.archives
        else _nothing(until)
    )


def _nothing(until: date) -> str:
    return f"there is nothing of before {until} to archive"
