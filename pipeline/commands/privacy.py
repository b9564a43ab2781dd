"""``ptr privacy``: erase a person, give out what is stored of one, and keep the keys that make it possible."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from connectors.privacy.envelope import SealError
from connectors.privacy.masters import MasterKeyError, MasterKeys, make_master
from connectors.privacy.persons import Persons, UnknownPartyError
from connectors.privacy.vault import Vault, is_in_use, masters_in_use
from connectors.sinks.archives import ArchiveFileError, must_be_named
from connectors.sinks.database import Database, DatabaseError, open_database, shown_url
from connectors.sinks.story import iso
from pipeline.commands.audit_shared import archived_rows
from pipeline.commands.shared import (
    archive_option,
    codec_of,
    json_option,
    masters_of,
    print_json,
    settings_with,
    user_name,
)
from pipeline.settings import Settings
from schemas.codec import UndecodableError

if TYPE_CHECKING:
    from connectors.sinks.archive_files import ArchivedRows

database_option = click.option(
    "--database", metavar="URL", help="Audit database (default: PTR_DATABASE, or sqlite:///var/audit.db)."
)


@click.group()
def privacy() -> None:
    """Erase a person, give out what is stored of one, keep the keys.

    Personal data in the audit tables is sealed with a key per person, which a master key wraps. Erasing a person destroys the
    key: proofs still hold, and reports still count. docs/operations.md says what else holds personal data, and for how long.

    \b
    Examples:
      ptr privacy keygen secrets/privacy.key
      ptr privacy export acme customer-17
      ptr privacy erase acme customer-17
      ptr privacy rotate
      ptr privacy status
    """


@privacy.command()
@click.argument("file", type=click.Path(path_type=Path))
@json_option
def keygen(file: Path, as_json: bool) -> None:
    """Make a master key in FILE: name it in PTR_PRIVACY_MASTER_KEY_FILE of the audit sink.

    Without it nobody can read what is sealed: keep a copy where the database's backups are not. No file is overwritten.

    \b
    Examples:
      ptr privacy keygen secrets/privacy.key
    """
    with _errors(""):
        name = make_master(file)
    if as_json:
        print_json({"file": str(file), "master": name})
    else:
        click.echo(f"master key {name} is in {file}")


@privacy.command()
@click.argument("tenant")
@click.argument("party")
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.option("--by", help="Who decided it, for the record (default: this user).")
@database_option
@archive_option
@json_option
def erase(
    tenant: str,
    party: str,
    yes: bool,
    by: str | None,
    database: str | None,
    archive_folder: Path | None,
    as_json: bool,
) -> None:
    """Erase PARTY of TENANT from the audit tables: destroy the key of all that is stored of this person.

    It cannot be undone. Amounts, outcomes and reasons of the payments stay, and so do their proofs; nothing tells any more
    whose they were. What comes later of the same party gets a new key, and can be erased again. Backups hold the key for as
    long as you keep them. Files of ptr audit archive need not be changed, but are read: name their folder with --archive.

    \b
    Examples:
      ptr privacy erase acme customer-17
      ptr privacy erase acme customer-17 --yes --by dpo@example.com --json
    """
    settings = settings_with(database=database)
    masters = _masters(settings)
    with _errors(settings.database):
        with closing(open_database(settings.database)) as opened:  # A missing database is not made here.
            with _archived(opened, archive_folder, tenant) as archived:
                person = Persons(opened, masters, codec_of(settings), archived).find(tenant, party)
        said = f"{person.events:,} events of {person.payments:,} payments hold data of party {party} of {tenant}"
        if not yes:
            click.confirm(f"{said}. Erase it? It cannot be undone", abort=True, err=True)
        with closing(open_database(settings.database, create=True)) as opened:
            destroyed = Persons(opened, masters, codec_of(settings)).erase(person, by or user_name())
    if not destroyed:
        raise click.ClickException(f"party {party} of {tenant} was erased by somebody else meanwhile")
    if as_json:
        print_json({"tenant": tenant, "payments": person.payments, "events": person.events, "keys": destroyed})
    else:
        click.echo(f"{said}: erased")


@privacy.command()
@click.argument("tenant")
@click.argument("party")
@database_option
@archive_option
@json_option
def export(tenant: str, party: str, database: str | None, archive_folder: Path | None, as_json: bool) -> None:
    """Print all that the audit tables hold of PARTY of TENANT, by payment and event: personal data.

    \b
    Examples:
      ptr privacy export acme customer-17
      ptr privacy export acme customer-17 --json > customer-17.json
    """
    settings = settings_with(database=database)
    masters = _masters(settings)
    with (
        _errors(settings.database),
        closing(open_database(settings.database)) as opened,
        _archived(opened, archive_folder, tenant) as archived,
    ):
        persons = Persons(opened, masters, codec_of(settings), archived)
        events = list(persons.events(tenant, persons.find(tenant, party)))
    if as_json:
        print_json({"tenant": tenant, "party": party, "events": [asdict(event) for event in events]})
        return
    for event in events:
        of_payment = f"payment {event.payment_id}" if event.payment_id else "of no payment"
        click.echo(f"{iso(event.recorded_at_ms)}  {of_payment}  {event.event_id}")
        for path, value in event.fields.items():
            click.echo(f"    {path}: {value}")


@privacy.command()
@database_option
@json_option
def rotate(database: str | None, as_json: bool) -> None:
    """Wrap every key by the first master key of PTR_PRIVACY_MASTER_KEY_FILE; the others are needed until it has ended.

    Put the new key's line above the old one in that file, start the sink anew, run this, and take the old line out. It may
    be ended at any time, and goes on where it was; nothing that is sealed is touched.

    \b
    Examples:
      ptr privacy keygen secrets/privacy-2027.key
      cat secrets/privacy-2027.key secrets/privacy.key > secrets/both.key
      export PTR_PRIVACY_MASTER_KEY_FILE=secrets/both.key
      ptr privacy rotate
    """
    settings = settings_with(database=database)
    masters = _masters(settings)
    with _errors(settings.database):
        open_database(settings.database).close()  # A missing database is not made here.
        with closing(open_database(settings.database, create=True)) as opened:
            done = Vault(opened, masters).rotate(lambda so_far: click.echo(f"{so_far:,} keys", err=True))
    if as_json:
        print_json({"rewrapped": done, "master": masters.current})
    else:
        click.echo(f"{done:,} keys were wrapped anew; all are under master key {masters.current}")


@privacy.command()
@database_option
@json_option
def status(database: str | None, as_json: bool) -> None:
    """Print how many keys there are, by the master key that wraps them, and how many were erased. Needs no master key.

    \b
    Examples:
      ptr privacy status
    """
    settings = settings_with(database=database)
    with _errors(settings.database), closing(open_database(settings.database)) as opened:
        sealed, counts, erased = is_in_use(opened), *masters_in_use(opened)
    if as_json:
        print_json({"sealed": sealed, "keys": counts, "erased": erased})
        return
    click.echo("new rows are sealed" if sealed else "rows are stored as they come: there was never a master key")
    for master, count in counts.items():
        click.echo(f"{count:,} keys under master key {master}")
    click.echo(f"{erased:,} keys erased")


def _masters(settings: Settings) -> MasterKeys:
    masters = masters_of(settings)
    if masters is None:
        raise click.ClickException("no master key: name it in PTR_PRIVACY_MASTER_KEY_FILE, as for the audit sink")
    return masters


@contextmanager
def _archived(database: Database, folder: Path | None, tenant: str) -> Iterator[ArchivedRows | None]:
    """The tenant's archived rows: without them not all of a person would be found. Raises :class:`ArchiveFileError`."""
    if folder is None:
        must_be_named(database, tenant)
    with archived_rows(database, folder, tenant) as archived:
        yield archived


@contextmanager
def _errors(database: str) -> Iterator[None]:
    where = f"{shown_url(database)}: " if database else ""
    try:
        yield
    except (DatabaseError, ArchiveFileError) as error:
        raise click.ClickException(str(error)) from None
    except (MasterKeyError, SealError, UndecodableError, UnknownPartyError) as error:
        raise click.ClickException(f"{where}{error}") from None
