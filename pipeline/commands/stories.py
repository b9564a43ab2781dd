"""One payment's story, found in the audit tables for a command, or an error in words."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

import click

from connectors.sinks.archives import NAME_FOLDER, ArchiveFileError, in_words
from connectors.sinks.database import Database, DatabaseError, open_database, shown_url
from connectors.sinks.story import Story, story
from pipeline.commands.shared import reader_of, settings_with

database_option = click.option(
    "--database", metavar="URL", help="Audit database (default: PTR_DATABASE, or sqlite:///var/audit.db)."
)


def found_story(tenant: str, payment: str, database: str | None, archive: Path | None) -> Story:
    """The story of ``payment`` of ``tenant``, with what is in files in the folder ``archive``. Raises ``click.ClickException``
    when there is none, or a file cannot be used.
    """
    chosen = settings_with(database=database)
    try:
        with closing(open_database(chosen.database)) as opened, opened.snapshot():
            found = story(opened, tenant, payment, reader_of(opened, chosen), archive)
            others = [] if found.found else _others(opened, payment)
    except (DatabaseError, ArchiveFileError) as error:
        raise click.ClickException(str(error)) from None
    if not found.found:
        raise click.ClickException(_not_there(tenant, payment, shown_url(chosen.database), others))
    return found


def _others(database: Database, payment: str) -> list[str]:
    rows = database.query("SELECT tenant FROM payments WHERE payment_id = ? ORDER BY tenant LIMIT 5", (payment,))
    return [row[0] for row in rows]


def _not_there(tenant: str, payment: str, database: str, others: list[str]) -> str:
    if others:
        return f"{database} has no payment {payment} of {tenant}; {', '.join(others)} has one with this id."
    return (
        f"{database} has no payment {payment} of {tenant}. Is the id right, letter by letter? A payment that was posted"
        " a moment ago is there once the sink has read it: see what `ptr audit-sink` says is waiting."
    )


def not_told(found: Story) -> str:
    """A sentence that says which of its events are in files and not among those that were read; empty: none are."""
    return f"{in_words(found.archived)}; they are not among these: {NAME_FOLDER}" if found.archived else ""
