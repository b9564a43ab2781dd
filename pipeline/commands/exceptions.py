"""``ptr exceptions``: a tenant's word that a party is not the listed one."""

from __future__ import annotations

from typing import Any

import click
import msgspec
from rich.console import Console
from rich.table import Table

from connectors.broker.follow import TopicReadError
from connectors.broker.one import PostError
from connectors.exceptions.evidence import granted_from
from connectors.exceptions.publish import ExceptionError, now_ms, publish, read
from connectors.registry import RegistryError
from connectors.sinks.database import DatabaseError, open_database
from connectors.sinks.reviews import screened_of
from connectors.sinks.story import iso
from pipeline.commands.shared import (
    broker_option,
    codec_of,
    json_option,
    print_json,
    reader_of,
    settings_with,
)
from pipeline.settings import Settings
from pipeline.stages.exceptions import DAYS_MAX
from schemas.codec import Codec
from schemas.records import ExceptionGranted

DAYS = 365

_TROUBLE = (ExceptionError, TopicReadError, PostError, DatabaseError, RegistryError)


@click.group()
def exceptions() -> None:
    """Except a tenant's party from one entry of a sanctions list that it is like and is not.

    An exception is for one tenant, one listed entry and one party under its name, until a day. When the entry's content
    or the party's name changes, it is void. Workers heed it after a second, without a restart.

    \b
    Examples:
      ptr exceptions add aurora pay_000001 --by rita --reason 'passport seen: another birth date'
      ptr exceptions list --tenant aurora
      ptr exceptions remove aurora ofac 36 d-1 --by rita --reason 'moved to a sanctioned country'
    """


@exceptions.command("add")
@click.argument("tenant")
@click.argument("payment")
@click.option("--by", required=True, help="Who grants it: a user or an address.")
@click.option("--reason", required=True, help="Why, in a sentence without personal data.")
@click.option("--days", type=click.IntRange(1, DAYS_MAX), default=DAYS, show_default=True, help="For so many days.")
@broker_option
@click.option("--database", metavar="URL", help="Audit database (default: PTR_DATABASE, or sqlite:///var/audit.db).")
@json_option
def add(
    tenant: str,
    payment: str,
    by: str,
    reason: str,
    days: int,
    broker: str | None,
    database: str | None,
    as_json: bool,
) -> None:
    """Except the party of PAYMENT that screening found to be like somebody listed, from that entry.

    What screening saw is read from the audit tables: which party, which entry, with which content. Payments received from
    a second later on are screened without that match; whatever else the party is like still counts.

    \b
    Examples:
      ptr exceptions add aurora pay_000001 --by rita --reason 'passport seen: another birth date'
      ptr exceptions add aurora pay_000001 --by rita --reason 'known customer' --days 30
    """
    settings = settings_with(broker=broker, database=database)
    try:
        granted = remember(settings, codec_of(settings), tenant, payment, by=by, reason=reason, days=days)
    except _TROUBLE as error:
        raise click.ClickException(str(error)) from None
    if as_json:
        print_json(granted)
    else:
        click.echo(told(granted))


def remember(
    settings: Settings, codec: Codec, tenant: str, payment: str, *, by: str, reason: str, days: int
) -> ExceptionGranted:
    """Grant the exception of a payment's match; raises what :func:`publish` and the database raise."""
    opened = open_database(settings.database)
    try:
        screened = screened_of(opened, tenant, payment, reader_of(opened, settings))
    finally:
        opened.close()
    granted = granted_from(screened, tenant=tenant, days=days, by=by, reason=reason, at_ms=now_ms())
    publish(settings.access, codec, granted)
    return granted


def told(granted: ExceptionGranted) -> str:
    """What was granted, in a line."""
    return (
        f"{granted.tenant}: party {granted.party_id} is excepted from {granted.list} {granted.entry_id}"
        f" until {iso(granted.until_ms)}"
    )


@exceptions.command("list")
@click.option("--tenant", help="Only this tenant's.")
@click.option("--all", "everything", is_flag=True, help="Also those that were withdrawn or are over.")
@broker_option
@json_option
def list_exceptions(tenant: str | None, everything: bool, broker: str | None, as_json: bool) -> None:
    """List the exceptions that hold, with who granted them, why and until when. Whether the entry still has the content
    that it had is known to screening alone.

    \b
    Examples:
      ptr exceptions list
      ptr exceptions list --tenant aurora --all --json
    """
    settings = settings_with(broker=broker)
    try:
        book = read(settings.access, codec_of(settings))
    except _TROUBLE as error:
        raise click.ClickException(str(error)) from None
    now = now_ms()
    found = [g for g in book.newest(tenant or "") if everything or not (g.revoked or g.until_ms <= now)]
    if as_json:
        print_json([msgspec.to_builtins(granted) for granted in found])
        return
    if not found:
        click.echo("no exception holds")
        return
    table = Table(box=None, pad_edge=False)
    for heading in ("tenant", "list", "entry", "party", "granted", "until", "by", "reason", "state"):
        table.add_column(heading, overflow="fold")
    for g in found:
        state = "withdrawn" if g.revoked else "over" if g.until_ms <= now else "holds"
        times = (iso(g.granted_at_ms), iso(g.until_ms))
        table.add_row(g.tenant, g.list, g.entry_id, g.party_id, *times, g.by, g.reason, state)
    Console(markup=False, highlight=False).print(table)


@exceptions.command("remove")
@click.argument("tenant")
@click.argument("list_id", metavar="LIST")
@click.argument("entry")
@click.argument("party")
@click.option("--by", required=True, help="Who withdraws it.")
@click.option("--reason", required=True, help="Why, in a sentence without personal data.")
@broker_option
@json_option
def remove(**given: Any) -> None:
    """Withdraw the exception of PARTY from ENTRY of LIST, as `ptr exceptions list` shows them.

    \b
    Examples:
      ptr exceptions remove aurora ofac 36 d-1 --by rita --reason 'granted in error'
    """
    settings = settings_with(broker=given["broker"])
    codec = codec_of(settings)
    try:
        book = read(settings.access, codec)
        wanted = (given["tenant"], given["list_id"], given["entry"], given["party"])
        found = [g for g in book.newest(given["tenant"]) if (g.tenant, g.list, g.entry_id, g.party_id) == wanted]
        if not found or found[0].revoked:
            raise ExceptionError("there is no such exception: `ptr exceptions list` shows those that hold")
        revoked = msgspec.structs.replace(
            found[0], by=given["by"], reason=given["reason"], granted_at_ms=now_ms(), revoked=True
        )
        publish(settings.access, codec, revoked)
    except _TROUBLE as error:
        raise click.ClickException(str(error)) from None
    if given["as_json"]:
        print_json(revoked)
    else:
        click.echo(
            f"{revoked.tenant}: party {revoked.party_id} is screened against {revoked.list} {revoked.entry_id} again"
        )
