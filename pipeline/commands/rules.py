"""``ptr rules``: check, test and explain business rules."""

from __future__ import annotations

import json
from typing import Any, BinaryIO

import click

from connectors.rules.cases import CaseResult, read_cases, run_cases
from connectors.rules.editions import edition, edition_text, editions
from connectors.tenants.document import TenantFileError, check_edition, is_edition, parse_tenants
from connectors.tenants.rule_checks import COST_MAX, known_groups, rule_cost
from pipeline.commands.shared import json_option, print_json, read_text, settings_with
from schemas.business_rules import Edition
from schemas.tenant_rules import TenantRules


@click.group()
def rules() -> None:
    """Check, test and explain business rules.

    Rules are part of a tenant's file, which `ptr tenants apply` puts in force; docs/rules.md says what they mean.

    \b
    Examples:
      ptr rules check tenants.yaml
      ptr rules test tenants.yaml cases.yaml
      ptr rules editions
    """


@rules.command()
@click.argument("file", type=click.File("rb"))
@json_option
def check(file: BinaryIO, as_json: bool) -> None:
    """Check the rules of FILE (YAML, - for standard input): types, conditions, places, dates, and what they cost.

    FILE holds tenants, or a base rule set. Every mistake is told with its line, a mistake in a condition with its column too.

    \b
    Examples:
      ptr rules check docs/tenants-example.yaml
      ptr rules check tenants.yaml --json
    """
    text, name = read_text(file)
    report = (
        [_of_edition(check_edition(text, name))] if is_edition(text) else [_of(each) for each in _tenants(text, name)]
    )
    if as_json:
        print_json(report)
        return
    for each in report:
        click.echo(
            f"{each['name']}: {each['rules']} rules, cost {each['cost']} of {COST_MAX}"
            + (
                f"; inherits {', '.join(each['inherits'])} ({each['inherited_rules']} rules)"
                if each["inherits"]
                else ""
            )
        )


@rules.command()
@click.argument("file", type=click.File("rb"))
@click.argument("cases", type=click.File("rb"), nargs=-1, required=True)
@json_option
def test(file: BinaryIO, cases: tuple[BinaryIO, ...], as_json: bool) -> None:
    """Decide the payments in CASES by the tenants in FILE, and compare with what is expected. Ends with 1 when one differs.

    \b
    Examples:
      ptr rules test docs/tenants-example.yaml docs/tenants-example.cases.yaml
      ptr rules test tenants.yaml cases.yaml --json
    """
    tenants = _tenants(*read_text(file))
    results: list[tuple[str, CaseResult]] = []
    for each in cases:
        text, name = read_text(each)
        try:
            results += [(name, result) for result in run_cases(tenants, read_cases(text, name), name)]
        except TenantFileError as error:
            raise click.ClickException(str(error)) from None
    wrong = [(name, result) for name, result in results if result.differences]
    if as_json:
        print_json(
            [{"file": name, "line": r.line, "case": r.case, "differences": r.differences} for name, r in results]
        )
    else:
        for name, result in wrong:
            click.echo(f"{name}:{result.line}: {result.case}")
            for difference in result.differences:
                click.echo(f"    {difference}")
        click.echo(f"{len(results)} cases, {len(wrong)} of them differ")
    if wrong:
        raise SystemExit(1)


@rules.command("editions")
@click.argument("name", required=False)
@json_option
def editions_(name: str | None, as_json: bool) -> None:
    """List the base rule sets that tenants may inherit, or show the one called NAME.

    \b
    Examples:
      ptr rules editions
      ptr rules editions eu-2026-11
    """
    if name is not None:
        if name not in editions():
            raise click.ClickException(f"There is no base rule set {name}; there are {', '.join(editions())}.")
        click.echo(edition_text(name), nl=False)
        return
    report = [_of_edition(edition(each)) for each in editions()]
    if as_json:
        print_json(report)
        return
    for each in report:
        click.echo(f"{each['name']}: {each['rules']} rules")


def _tenants(text: str, name: str) -> list[TenantRules]:
    try:
        return parse_tenants(text, name, pics=settings_with().pics)
    except TenantFileError as error:
        count = len(error.mistakes)
        what = "a mistake" if count == 1 else f"{count} mistakes"
        raise click.ClickException(f"{name} has {what}:\n{error}") from None


def _of(tenant: TenantRules) -> dict[str, Any]:
    groups = known_groups(tenant.inherits, tenant.groups)
    return {
        "name": tenant.tenant,
        "rules": len(tenant.rules),
        "cost": sum(rule_cost(rule, groups) for rule in tenant.rules),
        "inherits": tenant.inherits,
        "inherited_rules": sum(len(edition(name).rules) for name in tenant.inherits),
    }


def _of_edition(checked: Edition) -> dict[str, Any]:
    cost = sum(rule_cost(rule, checked.groups) for rule in checked.rules)
    return {"name": checked.edition, "rules": len(checked.rules), "cost": cost, "inherits": [], "inherited_rules": 0}
