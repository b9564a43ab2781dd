"""``ptr privacy``: erase a person, give out what is stored of one, and keep the keys that make it possible."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import asdict
from pathlib import Path
from secrets import token_hex
from typing import TYPE_CHECKING, Final

import click

from connectors.broker.desk import DeskError
from connectors.broker.one import PostError
from connectors.erasures.topic import hand_in
from connectors.privacy.envelope import SealError
from connectors.privacy.masters import MasterKeyError, MasterKeys, make_master
from connectors.privacy.persons import Person, Persons, UnknownPartyError
from connectors.privacy.vault import Vault, is_in_use, masters_in_use
from connectors.registry import RegistryError
from connectors.sinks.archives import ArchiveFileError, must_be_named
from connectors.sinks.database import Database, DatabaseError, open_database, shown_url
from connectors.sinks.story import iso
from pipeline.commands.audit_shared import archived_rows
from pipeline.commands.shared import (
    archive_option,
    broker_option,
    codec_of,
    json_option,
    masters_of,
    print_json,
    settings_with,
    user_name,
)
from pipeline.settings import Settings
from pipeline.stages.parties import mistake_in
from schemas.codec import UndecodableError
from schemas.records import ErasureRequested

if TYPE_CHECKING:
    from connectors.sinks.archive_files import ArchivedRows

#: Where a person is erased.
AUDIT: Final = "audit"
KNOWN: Final = "known"
#: What became of the table of known parties.
ERASED: Final = "erased"
NOT_KNOWN: Final = "not_known"
WAITING: Final = "waiting"
FAILED: Final = "failed"
LEFT: Final = "left"
_KNOWN: Final = {
    ERASED: "erased",
    NOT_KNOWN: "the party is not in it",
    WAITING: "NOT yet: no worker of the stage parties has answered; it is erased when one runs",
    FAILED: "NOT erased",
    LEFT: "left as it is",
}
#: It was posted, and no worker answered in time.
UNANSWERED: Final = 3

database_option = click.option(
    "--database", metavar="URL", help="Audit database (default: PTR_DATABASE, or sqlite:///var/audit.db)."
)


@click.group()
def privacy() -> None:
    """Erase a person, give out what is stored of one, keep the keys.

    Personal data in the audit tables is sealed with a key per person, which a master key wraps. Erasing a person destroys the
    key, so that proofs still hold and reports still count, and removes the person from the table of known parties.
    docs/operations.md says what else holds personal data, and for how long.

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
@click.option(
    "--only",
    type=click.Choice([AUDIT, KNOWN]),
    help="Only in the audit tables, or only in the table of known parties: then the erasure is not complete.",
)
@database_option
@broker_option
@archive_option
@json_option
def erase(
    tenant: str,
    party: str,
    yes: bool,
    by: str | None,
    only: str | None,
    database: str | None,
    broker: str | None,
    archive_folder: Path | None,
    as_json: bool,
) -> None:
    """Erase PARTY of TENANT: destroy the key of all that the audit tables hold, and remove it from the known parties.

    It cannot be undone. Amounts, outcomes and reasons of the payments stay, and so do their proofs; nothing tells any more
    whose they were. What comes later of the same party gets a new key, and can be erased again; the party is known again when
    it pays later than three seconds after this. Backups hold the key for as long as you keep them. Files of ptr audit archive
    need not be changed, but are read: name their folder with --archive.

    Ends with code 1 when something was not done, and says what; with 3 when no worker of the stage parties answered in 15
    seconds: then it is done when one runs. The same command again does what is left. docs/operations.md says what else
    holds data of a person.

    \b
    Examples:
      ptr privacy erase acme customer-17
      ptr privacy erase acme customer-17 --yes --by dpo@example.com --json
      ptr privacy erase acme customer-17 --only audit
    """
    settings = settings_with(database=database, broker=broker)
    requested = ErasureRequested(
        tenant=tenant,
        party_id=party,
        erasure_id=token_hex(8),
        by=by or user_name(),
        requested_at_ms=int(time.time() * 1000),
    )
    if mistake := mistake_in(requested):
        raise click.UsageError(mistake[1])
    person, found = _found(settings, requested, archive_folder, only)
    if not yes:
        where = {None: "", AUDIT: " in the audit tables only", KNOWN: " in the table of known parties only"}[only]
        click.confirm(f"{found}. Erase it{where}? It cannot be undone", abort=True, err=True)
    destroyed = _destroyed(settings, requested, person)
    known, why = (LEFT, "") if only == AUDIT else _forgotten(settings, requested)
    nothing = person is None and known == NOT_KNOWN
    if as_json:
        counts = {"payments": person.payments, "events": person.events} if person else {"payments": 0, "events": 0}
        print_json({"tenant": tenant, **counts, "keys": destroyed, "known_parties": known})
    elif not nothing:
        click.echo(f"{found}: erased" if person else found)
        click.echo(f"table of known parties: {_KNOWN[known]}", err=known in (FAILED, WAITING))
    if known == FAILED:
        raise click.ClickException(
            f"NOT complete: the table of known parties and its changelog still hold the name. {why}. Run the same command again"
        )
    if nothing:
        raise click.ClickException(
            f"nothing was erased: {found}, and the table of known parties does not have it. Is the id right?"
        )
    if known == WAITING:
        sys.exit(UNANSWERED)


def _found(
    settings: Settings, requested: ErasureRequested, archive_folder: Path | None, only: str | None
) -> tuple[Person | None, str]:
    """What the audit tables hold of the party, None when nothing or nobody asked; and that in words."""
    tenant, party = requested.tenant, requested.party_id
    if only == KNOWN:
        return None, f"what the audit tables hold of party {party} of {tenant} is left"
    masters = _masters(settings)
    with _errors(settings.database):
        open_database(settings.database).close()  # A missing database is not made here.
    with _errors(settings.database), closing(open_database(settings.database, create=True)) as opened:
        try:
            with _archived(opened, archive_folder, tenant) as archived:
                person = Persons(opened, masters, codec_of(settings), archived, keep=True).find(tenant, party)
        except UnknownPartyError as error:
            if only == AUDIT:
                raise
            return None, str(error)
    return person, f"{person.events:,} events of {person.payments:,} payments hold data of party {party} of {tenant}"


def _destroyed(settings: Settings, requested: ErasureRequested, person: Person | None) -> int:
    """Destroy the person's keys; gives how many there were."""
    if person is None:
        return 0
    masters = _masters(settings)
    with _errors(settings.database), closing(open_database(settings.database, create=True)) as opened:
        destroyed = Persons(opened, masters, codec_of(settings)).erase(person, requested.by)
    if not destroyed:
        raise click.ClickException(
            f"party {requested.party_id} of {requested.tenant} was erased by somebody else meanwhile"
        )
    return destroyed


def _forgotten(settings: Settings, requested: ErasureRequested) -> tuple[str, str]:
    """Have the party removed from the table of known parties: what became of that, and why it failed."""
    try:
        answer = hand_in(settings.access, codec_of(settings), requested)
    except (DeskError, PostError, RegistryError) as error:
        return FAILED, str(error)
    if answer is None:
        return WAITING, ""
    return (ERASED if answer.found else NOT_KNOWN), ""


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
        raise click.ClickException(
            "no master key: name it in PTR_PRIVACY_MASTER_KEY_FILE, as for the audit sink. (Where nothing was ever sealed,"
            " `ptr privacy erase --only known` removes somebody from the table of known parties)"
        )
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
