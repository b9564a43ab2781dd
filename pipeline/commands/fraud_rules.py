"""``ptr fraud rules``: which fraud rules there are, and how a tenant has tuned them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import click

from connectors.broker.transaction import PublishError
from connectors.registry import RegistryError
from connectors.tenants.publish import read_all
from pipeline.commands.shared import broker_option, codec_of, json_option, print_json, settings_with
from pipeline.stages.fraud_library import LIBRARY
from pipeline.stages.fraud_rules import Rule
from schemas.tenant_rules import RuleTuning


@click.command("rules")
@click.option("--tenant", default="", help="As this tenant's latest configuration has them; the defaults without it.")
@broker_option
@json_option
def rules(tenant: str, broker: str | None, as_json: bool) -> None:
    """List the fraud rules with their weights and thresholds. docs/fraud.md says what each means and how to tune it.

    \b
    Examples:
      ptr fraud rules
      ptr fraud rules --tenant aurora --json
    """
    tuned = _tuning(tenant, broker) if tenant else {}
    found = [_data(rule, tuned) for rule in LIBRARY.values()]
    if as_json:
        print_json(found)
        return
    rows = [("RULE", "WEIGHT", "THRESHOLDS", "")]
    rows += [
        (
            each["rule"],
            f"{each['weight']:g}" if each["enabled"] else "off",
            " ".join(f"{name}={value:.10g}" for name, value in each["thresholds"].items()),
            "tuned" if each["tuned"] else "",
        )
        for each in found
    ]
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for row in rows:
        click.echo("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


def _tuning(tenant: str, broker: str | None) -> Mapping[str, RuleTuning]:
    loaded = settings_with(broker=broker)
    try:
        versions = read_all(loaded.access, codec_of(loaded)).book.versions(tenant)
    except (PublishError, RegistryError) as error:
        raise click.ClickException(str(error)) from None
    if not versions:
        raise click.ClickException(f"There is no tenant {tenant}; 'ptr tenants list' names those that there are.")
    return versions[-1].rules.fraud.rules


def _data(rule: Rule, tuned: Mapping[str, RuleTuning]) -> dict[str, Any]:
    tuning = tuned.get(rule.name, RuleTuning())
    return {
        "rule": rule.name,
        "family": rule.family.value,
        "about": rule.about,
        "enabled": rule.is_on(tuned),
        "weight": rule.weight if tuning.weight is None else tuning.weight,
        "thresholds": {each.name: tuning.thresholds.get(each.name, each.default) for each in rule.thresholds()},
        "tuned": rule.name in tuned,
    }
