"""``ptr rules``: check, test and explain business rules."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, BinaryIO

import click

from connectors.rules.backtest import backtest, backtest_lines, shadow_report
from connectors.rules.cases import CaseResult, read_cases, run_cases
from connectors.rules.editions import edition, edition_text, editions
from connectors.rules.recorded import (
    NotRecordedError,
    RecordedDecision,
    recorded_decision,
    recorded_decisions,
    recorded_rules,
    repeats,
)
from connectors.sinks.database import Database, DatabaseError, open_database
from connectors.tenants.book import rule_book
from connectors.tenants.document import TenantFileError, check_edition, is_edition
from connectors.tenants.rule_checks import COST_MAX, known_groups, rule_cost
from pipeline.commands.shared import codec_of, json_option, print_json, read_text, reader_of, settings_with, tenants_in
from pipeline.stages.localization import localize
from pipeline.stages.rules.explain import RuleView, explain, explain_order
from pipeline.stages.rules.facts import facts_of
from pipeline.stages.rules.filters import FilterError, in_force_ms
from pipeline.stages.rules.routes import RouteView
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
@click.option("--routes", "with_routes", is_flag=True, help="Tell of every case which PICs would carry it, and why.")
@json_option
def test(file: BinaryIO, cases: tuple[BinaryIO, ...], with_routes: bool, as_json: bool) -> None:
    """Decide the payments in CASES by the tenants in FILE, and compare with what is expected. Ends with 1 when one differs.

    Of a case that differs it is told which PICs would carry the payment, in which order, and why.

    \b
    Examples:
      ptr rules test docs/tenants-example.yaml docs/tenants-example.cases.yaml
      ptr rules test tenants.yaml cases.yaml --routes
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
            [
                {"file": name, "line": r.line, "case": r.case, "differences": r.differences, "routes": r.routes}
                for name, r in results
            ]
        )
    else:
        for name, result in results if with_routes else wrong:
            click.echo(f"{name}:{result.line}: {result.case}")
            for told in (*result.differences, *_order_lines(result.routes)):
                click.echo(f"    {told}")
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


_database = click.option(
    "--database", metavar="URL", help="Audit database (default: PTR_DATABASE, or sqlite:///var/audit.db)."
)


@rules.command("explain")
@click.argument("tenant")
@click.argument("payment")
@_database
@click.option("--all", "everything", is_flag=True, help="Name the rules that a filter kept away, too.")
@json_option
def explain_(tenant: str, payment: str, database: str | None, everything: bool, as_json: bool) -> None:
    """Tell which rules were looked at for PAYMENT of TENANT, which applied, and why, from the audit tables.

    The decision is made again from the recorded version of the tenant's configuration, and compared with the recorded event,
    byte for byte. Ends with 1 when it does not come out the same.

    \b
    Examples:
      ptr rules explain aurora pay_000001
      ptr rules explain aurora pay_000001 --all --json
    """
    with _opened(database) as opened:
        try:
            recorded = recorded_decision(opened, tenant, payment, reader_of(opened, settings_with()))
            configured = recorded_rules(opened, tenant, recorded.version)
        except NotRecordedError as error:
            raise click.ClickException(str(error)) from None
    book = rule_book(configured)
    facts = facts_of(recorded.request, recorded.received_at_ms)
    decision = localize(facts, configured, book)
    shadow = None if book.shadow is None else localize(facts, configured, book.shadow)
    same = repeats(recorded, decision, shadow, codec_of(settings_with()))
    views = [view for view in explain(facts, book, decision) if everything or view.what != "filtered"]
    order = explain_order(facts, configured, book, decision)
    if as_json:
        print_json(
            {
                "tenant": tenant,
                "payment_id": payment,
                "version": recorded.version,
                "inherits": configured.inherits,
                "repeated": same,
                "localized": {k: v for k, v in recorded.localized.items() if k in _SHOWN},
                "payer": {k: v for k, v in (recorded.profiled or {}).items() if k in _SHOWN},
                "rules": views,
                "routes": order,
            }
        )
    else:
        _tell(tenant, payment, recorded, configured, views, hidden=not everything)
        for line in _order_lines(order):
            click.echo(line)
        click.echo(f"decided again from version {recorded.version}: {'the same' if same else 'NOT THE SAME'}")
    if not same:
        raise SystemExit(1)


@rules.command("backtest")
@click.argument("file", type=click.File("rb"))
@_database
@click.option("--since", metavar="DATE", help="Payments recorded from this day on, YYYY-MM-DD in UTC (default: all).")
@json_option
def backtest_(file: BinaryIO, database: str | None, since: str | None, as_json: bool) -> None:
    """Decide the recorded payments of FILE's tenants again by the rules in FILE: what would have changed, in counts and money.

    Payments are read from the audit tables one after the other, in the order in which they were decided. Counters of payers
    begin at nothing.

    \b
    Examples:
      ptr rules backtest tenants.yaml
      ptr rules backtest tenants.yaml --since 2026-11-01 --json
    """
    tenants = _tenants(*read_text(file))
    since_ms = _since_ms(since)
    with _opened(database) as opened:
        reader = reader_of(opened, settings_with())
        reports = {
            each.tenant: backtest(recorded_decisions(opened, each.tenant, since_ms, reader), each) for each in tenants
        }
    if as_json:
        print_json(reports)
        return
    for tenant, report in reports.items():
        for line in backtest_lines(tenant, report):
            click.echo(line)


@rules.command("shadow")
@click.argument("tenant")
@_database
@click.option("--since", metavar="DATE", help="Payments recorded from this day on, YYYY-MM-DD in UTC (default: all).")
@json_option
def shadow_(tenant: str, database: str | None, since: str | None, as_json: bool) -> None:
    """Tell where the shadow rules of TENANT would have decided otherwise, from the audit tables: counts, money and examples.

    \b
    Examples:
      ptr rules shadow acme
      ptr rules shadow acme --since 2026-11-01 --json
    """
    with _opened(database) as opened:
        reader = reader_of(opened, settings_with())
        report = shadow_report(recorded_decisions(opened, tenant, _since_ms(since), reader))
    if as_json:
        print_json(report)
        return
    for line in backtest_lines(tenant, report):
        click.echo(line)


_SHOWN = frozenset(
    [
        "outcome",
        "reason",
        "fee_minor",
        "pic",
        "terms",
        "checks",
        "sca",
        "sca_basis",
        "failed",
        "shadow",
        "amount_minor",
        "currency",
    ]
)


@contextmanager
def _opened(url: str | None) -> Iterator[Database]:
    try:
        opened = open_database(settings_with(database=url).database)
        try:
            yield opened
        finally:
            opened.close()
    except DatabaseError as error:
        raise click.ClickException(str(error)) from None


def _since_ms(since: str | None) -> int:
    if since is None:
        return 0
    try:
        return in_force_ms(since, "", "UTC")[0]
    except FilterError as error:
        raise click.ClickException(f"--since: {error}") from None


def _tell(
    tenant: str,
    payment: str,
    recorded: RecordedDecision,
    configured: TenantRules,
    views: list[RuleView],
    *,
    hidden: bool,
) -> None:
    localized, profiled = recorded.localized, recorded.profiled or {}
    reason = f" ({localized['reason']})" if localized["reason"] else ""
    inherits = f", inherits {', '.join(configured.inherits)}" if configured.inherits else ""
    click.echo(f"{tenant} {payment}: {localized['outcome']}{reason} by version {recorded.version}{inherits}")
    click.echo(f"  fee {localized['fee_minor']} {localized['currency']} (minor units), pic {localized['pic']}")
    for name, value in (localized.get("terms") or {}).items():
        if value and name != "rules":
            click.echo(f"  {name} {', '.join(value) if isinstance(value, list) else value}")
    if profiled.get("outcome") == "rejected":
        click.echo(f"  rejected by the payer stage: {profiled['reason']}")
    elif profiled.get("sca"):
        click.echo(f"  sca {profiled['sca']} {profiled.get('sca_basis', '')}".rstrip())
    click.echo("rules that were looked at:" if hidden else "rules:")
    for view in views:
        why = f": {view.why}" if view.why else ""
        source = f"  [{view.source}]" if view.source and view.what in ("applied", "rejected") else ""
        click.echo(f"  {view.effect:<16} {view.rule:<32} {view.what}{why}{source}")


def _order_lines(order: Sequence[RouteView]) -> Iterator[str]:
    """PICs with their places and why; what there was no choice of is not told."""
    if len(order) < 2 and all(view.place for view in order):
        return
    yield "routes:"
    for view in order:
        yield f"  {view.place or '-'} {view.pic:<32} {view.why}"


def _tenants(text: str, name: str) -> list[TenantRules]:
    try:
        return tenants_in(text, name, settings_with())
    except TenantFileError as error:
        raise click.ClickException(f"{name} has {error.count}:\n{error}") from None


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
