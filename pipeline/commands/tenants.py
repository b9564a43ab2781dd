"""``ptr tenants``: write and read tenants' configurations."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any, BinaryIO, NoReturn

import click
import yaml

from connectors.broker.transaction import PublishError
from connectors.registry import RegistryError
from connectors.tenants.book import ALWAYS_MS, EFFECTIVE_DELAY_MS, Version
from connectors.tenants.document import TenantFileError, data_of
from connectors.tenants.publish import Change, Contents, publish, read_all
from pipeline.commands.shared import broker_option, codec_of, json_option, read_text, settings_with, tenants_in
from pipeline.settings import Settings
from pipeline.topics import TENANTS


@click.group()
def tenants() -> None:
    """Configure tenants: rules, fees, limits, thresholds.

    Each change is a new version. Payments are decided by the version in force when they were received, so a change
    never touches a payment that is on its way, and the version that decided is in every event.

    \b
    Examples:
      ptr tenants apply tenants.yaml
      ptr tenants list
    """


@tenants.command()
@click.argument("file", type=click.File("rb"))
@broker_option
@click.option("--dry-run", is_flag=True, help="Say what would happen, and change nothing.")
@json_option
def apply(file: BinaryIO, broker: str | None, dry_run: bool, as_json: bool) -> None:
    """Put the configurations in FILE (YAML, - for standard input) in force.

    A file with a mistake is refused whole. A tenant whose configuration did not change gets no new version.

    \b
    Examples:
      ptr tenants apply tenants.yaml --dry-run
      ptr tenants apply tenants.yaml
      ptr tenants show acme | sed 's/percent_bp: 150/percent_bp: 140/' | ptr tenants apply -
    """
    loaded = settings_with(broker=broker)
    text, name = read_text(file)
    try:
        rules = tenants_in(text, name, loaded)
    except TenantFileError as error:
        raise click.ClickException(f"{name} has {error.count}, so nothing was applied:\n{error}") from None
    before = _read(loaded)
    if not before.exists and dry_run:
        click.echo(f"{loaded.broker} has no topic {TENANTS.name} yet: make it with 'ptr topics apply'", err=True)
    changes = [before.change(each) for each in rules]
    if not dry_run:
        try:
            written = dict(publish(loaded.access, codec_of(loaded), rules))
        except (PublishError, RegistryError) as error:
            _fail(str(error))
        after = _read(loaded)
        changes = [
            Change(each, written.get(each.tenant) or after.latest[each.tenant][0], each.tenant not in written)
            for each in rules
        ]
        report = [_changed(change, after) for change in changes]
    else:
        report = [_planned(change) for change in changes]
    if as_json:
        click.echo(json.dumps([data for data, _ in report], indent=2))
        return
    for _, line in report:
        click.echo(line)


@tenants.command("list")
@broker_option
@json_option
def list_(broker: str | None, as_json: bool) -> None:
    """List the tenants with their latest versions.

    \b
    Examples:
      ptr tenants list
      ptr tenants list --json
    """
    loaded = settings_with(broker=broker)
    book = _read(loaded).book
    latest = [book.versions(tenant)[-1] for tenant in book.tenants()]
    if as_json:
        click.echo(json.dumps([_summary(version) for version in latest], indent=2))
        return
    if not latest:
        click.echo("No tenant is configured. Begin with 'ptr tenants apply FILE'.", err=True)
        return
    rows = [("TENANT", "VERSION", "PIC", "CURRENCIES", "WRITTEN", "IN FORCE FROM")]
    rows += [
        (
            version.rules.tenant,
            str(version.number),
            version.rules.pic,
            ",".join(version.rules.currencies),
            _time(version.written_at_ms),
            _time(version.in_force_at_ms),
        )
        for version in latest
    ]
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for row in rows:
        click.echo("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


@tenants.command()
@click.argument("tenant")
@click.option("--version", "number", type=click.IntRange(min=1), help="Which version; the latest one by default.")
@broker_option
@json_option
def show(tenant: str, number: int | None, broker: str | None, as_json: bool) -> None:
    """Show a version of TENANT's configuration, as YAML that `ptr tenants apply` takes.

    \b
    Examples:
      ptr tenants show acme
      ptr tenants show acme --version 2 --json
    """
    versions = _read(settings_with(broker=broker)).book.versions(tenant)
    if not versions:
        _fail(f"There is no tenant {tenant}; 'ptr tenants list' names those that there are.")
    found = [version for version in versions if number in (None, version.number)]
    if not found:
        _fail(f"{tenant} has no version {number}; it has {', '.join(str(version.number) for version in versions)}.")
    version = found[-1]
    rules = data_of(version.rules)
    if as_json:
        click.echo(json.dumps({**_summary(version), "rules": rules}, indent=2))
        return
    click.echo(f"# {tenant}, version {version.number}: {_in_force(version.in_force_at_ms)}")
    click.echo(yaml.safe_dump(rules, sort_keys=False, default_flow_style=None), nl=False)


def _read(loaded: Settings) -> Contents:
    try:
        return read_all(loaded.access, codec_of(loaded))
    except (PublishError, RegistryError) as error:
        _fail(str(error))


def _planned(change: Change) -> tuple[dict[str, Any], str]:
    tenant = change.rules.tenant
    data = {"tenant": tenant, "version": change.version, "change": "unchanged" if change.unchanged else "would_apply"}
    if change.unchanged:
        return data, f"{tenant}: unchanged, version {change.version} stays"
    when = f"{EFFECTIVE_DELAY_MS / 1000:g} s after it is written" if change.version > 1 else "for every payment"
    return data, f"{tenant}: would get version {change.version}, in force {when}"


def _changed(change: Change, after: Contents) -> tuple[dict[str, Any], str]:
    tenant = change.rules.tenant
    found = [version for version in after.book.versions(tenant) if version.number == change.version]
    if not found:
        _fail(f"{tenant}: version {change.version} was written and cannot be read back; 'ptr tenants list' tells more.")
    version = found[0]
    data = {**_summary(version), "change": "unchanged" if change.unchanged else "applied"}
    if change.unchanged:
        return data, f"{tenant}: unchanged, version {version.number} stays"
    return data, f"{tenant}: version {version.number} written, {_in_force(version.in_force_at_ms)}"


def _summary(version: Version) -> dict[str, Any]:
    return {
        "tenant": version.rules.tenant,
        "version": version.number,
        "pic": version.rules.pic,
        "currencies": version.rules.currencies,
        "written_at_ms": version.written_at_ms,
        "in_force_at_ms": None if version.in_force_at_ms == ALWAYS_MS else version.in_force_at_ms,
        "document_hash": version.document_hash,
    }


def _in_force(at_ms: int) -> str:
    if at_ms == ALWAYS_MS:
        return "in force for every payment until a later version"
    return f"in force for payments received from {_time(at_ms)} on"


def _time(at_ms: int) -> str:
    if at_ms == ALWAYS_MS:
        return "always"
    return datetime.fromtimestamp(at_ms / 1000, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _fail(message: str) -> NoReturn:
    raise click.ClickException(message)
