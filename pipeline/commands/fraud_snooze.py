"""``ptr fraud snooze``: switch a fraud rule off for one payer until a time, and say who and why."""

from __future__ import annotations

import re
import time
from datetime import UTC, datetime
from typing import Any, NoReturn

import click

from connectors.broker.transaction import PublishError
from connectors.registry import RegistryError
from connectors.snoozes.book import DAYS_MAX, EFFECTIVE_DELAY_MS
from connectors.snoozes.topic import Contents, publish, read_all
from connectors.tenants.checks import suggestion
from pipeline.commands.shared import DAY_MS, broker_option, codec_of, json_option, print_json, settings_with
from pipeline.settings import Settings
from pipeline.stages.fraud_library import LIBRARY
from pipeline.topics import SNOOZES
from schemas.records import RuleSnoozed

_tenant = click.option("--tenant", required=True, help="Whose payer.")
_payer = click.option("--payer", required=True, metavar="ID", help="The payer: the debtor's id in PTRs.")
_rule = click.option("--rule", required=True, metavar="NAME", help="The rule, as docs/fraud.md names it.")
_by = click.option("--by", required=True, metavar="WHO", help="Who decides that: an id or an address at work.")
_reason = click.option("--reason", required=True, metavar="TEXT", help="Why, in a sentence.")


@click.group()
def snooze() -> None:
    """Switch a fraud rule off for one payer, until a time.

    The rule still fires and is recorded with each payment, marked as snoozed, and weighs nothing. Who, why and until when
    are in the audit tables.

    \b
    Examples:
      ptr fraud snooze add --tenant aurora --payer payer-1 --rule payer_velocity_1d --by mo --reason "team" --until 7d
      ptr fraud snooze list --tenant aurora
    """


@snooze.command()
@_tenant
@_payer
@_rule
@_by
@_reason
@click.option(
    "--until",
    required=True,
    metavar="WHEN",
    help=f"7d, 12h, or a day or time in UTC: 2026-12-24, 2026-12-24T18:00. At most {DAYS_MAX} days from now.",
)
@broker_option
@json_option
def add(
    tenant: str, payer: str, rule: str, by: str, reason: str, until: str, broker: str | None, as_json: bool
) -> None:
    """Snooze a rule for a payer; another time for a rule that is snoozed replaces the one before.

    \b
    Examples:
      ptr fraud snooze add --tenant aurora --payer payer-1 --rule payer_velocity_1d --by mo --reason "team" --until 7d
    """
    now_ms = int(time.time() * 1000)
    until_ms = _time_of(until, now_ms)
    _write(settings_with(broker=broker), _record(tenant, payer, rule, until_ms, by, reason, now_ms), as_json)


@snooze.command("remove")
@_tenant
@_payer
@_rule
@_by
@_reason
@broker_option
@json_option
def remove(tenant: str, payer: str, rule: str, by: str, reason: str, broker: str | None, as_json: bool) -> None:
    """End a snooze before its time.

    \b
    Examples:
      ptr fraud snooze remove --tenant aurora --payer payer-1 --rule payer_velocity_1d --by mo --reason "left the team"
    """
    now_ms = int(time.time() * 1000)
    _write(settings_with(broker=broker), _record(tenant, payer, rule, now_ms, by, reason, now_ms), as_json)


@snooze.command("list")
@click.option("--tenant", default="", help="Only this tenant's.")
@click.option("--all", "everything", is_flag=True, help="Also those that are over.")
@broker_option
@json_option
def list_(tenant: str, everything: bool, broker: str | None, as_json: bool) -> None:
    """List what is snoozed, the soonest to end first.

    \b
    Examples:
      ptr fraud snooze list
      ptr fraud snooze list --tenant aurora --all --json
    """
    now_ms = int(time.time() * 1000)
    found = _read(settings_with(broker=broker)).in_force(0 if everything else now_ms, tenant)
    if as_json:
        print_json([_data(record, written_ms, now_ms) for record, written_ms in found])
        return
    if not found:
        click.echo("Nothing is snoozed.", err=True)
        return
    rows = [("TENANT", "PAYER", "RULE", "UNTIL", "BY", "REASON")]
    rows += [(r.tenant, r.debtor_id, r.rule, _shown(r.until_ms, now_ms), r.by, r.reason) for r, _ in found]
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for row in rows:
        click.echo("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


def _record(tenant: str, payer: str, rule: str, until_ms: int, by: str, reason: str, now_ms: int) -> RuleSnoozed:
    if rule not in LIBRARY:
        _fail(f"there is no rule {rule}; {suggestion(rule, LIBRARY)}")
    return RuleSnoozed(
        tenant=tenant, debtor_id=payer, rule=rule, until_ms=until_ms, by=by, reason=reason, decided_at_ms=now_ms
    )


def _write(loaded: Settings, record: RuleSnoozed, as_json: bool) -> None:
    try:
        publish(loaded.access, codec_of(loaded), record)
    except (PublishError, RegistryError) as error:
        _fail(str(error))
    if as_json:
        print_json(_data(record, record.decided_at_ms, record.decided_at_ms))
        return
    whom = f"{record.rule} for {record.debtor_id} of {record.tenant}"
    when = f"for payments received from {EFFECTIVE_DELAY_MS / 1000:g} s from now on"
    if record.until_ms <= record.decided_at_ms:
        click.echo(f"{whom} is no longer snoozed, {when}")
    else:
        click.echo(f"{whom} is snoozed until {_iso(record.until_ms)}, {when}")


def _read(loaded: Settings) -> Contents:
    try:
        contents = read_all(loaded.access, codec_of(loaded))
    except (PublishError, RegistryError) as error:
        _fail(str(error))
    if not contents.exists:
        click.echo(f"{loaded.broker} has no topic {SNOOZES.name} yet: make it with 'ptr topics apply'", err=True)
    return contents


def _data(record: RuleSnoozed, written_ms: int, now_ms: int) -> dict[str, Any]:
    return {
        "tenant": record.tenant,
        "payer": record.debtor_id,
        "rule": record.rule,
        "until": _iso(record.until_ms),
        "in_force": record.until_ms > now_ms,
        "by": record.by,
        "reason": record.reason,
        "written": _iso(written_ms),
    }


def _time_of(text: str, now_ms: int) -> int:
    """``7d``, ``12h``, a date or a time in UTC, as epoch milliseconds within the days that are allowed."""
    relative = re.fullmatch(r"([1-9][0-9]{0,3})([dh])", text)
    if relative:
        until_ms = now_ms + int(relative[1]) * (DAY_MS if relative[2] == "d" else DAY_MS // 24)
    else:
        try:
            at = datetime.fromisoformat(text)
        except ValueError:
            raise click.BadParameter(
                f"{text!r} is neither 7d or 12h nor a day or time such as 2026-12-24T18:00", param_hint="--until"
            ) from None
        until_ms = int((at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp() * 1000)
    if not now_ms < until_ms <= now_ms + DAYS_MAX * DAY_MS:
        raise click.BadParameter(
            f"must be after now and within {DAYS_MAX} days, is {_iso(until_ms)}; for longer, switch the rule off or tune it "
            "in the tenant's configuration",
            param_hint="--until",
        )
    return until_ms


def _shown(until_ms: int, now_ms: int) -> str:
    return _iso(until_ms) + ("" if until_ms > now_ms else " (over)")


def _iso(at_ms: int) -> str:
    return datetime.fromtimestamp(at_ms / 1000, UTC).isoformat(timespec="seconds").replace("+00:00", "Z")


def _fail(message: str) -> NoReturn:
    raise click.ClickException(message)
