"""Cases of business rules: payments with what is expected of them, in YAML beside the rules (docs/rules.md). Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime

import msgspec

from connectors.tenants.book import rule_book
from connectors.tenants.document import TenantFileError, read_records
from pipeline.stages.localization import localize
from pipeline.stages.payer_checks import NO_USE
from pipeline.stages.rules.explain import explain_order
from pipeline.stages.rules.facts import Facts
from pipeline.stages.rules.routes import RouteView
from pipeline.stages.rules.rule_book import RuleBook
from pipeline.stages.rules.trial import Trial, try_payment
from schemas.tenant_rules import TenantRules


class CasePayment(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A payment; both parties are in its country unless they say otherwise."""

    amount_minor: int
    currency: str
    country: str
    #: Decides the place in a split of a route.
    payment_id: str = "payment"
    method: str = "card"
    channel: str = "web"
    region: str = ""
    postcode: str = ""
    locale: str = ""
    terminal_id: str = ""
    debtor_id: str = "payer"
    debtor_country: str | None = None
    debtor_registered: bool = False
    creditor_id: str = "payee"
    creditor_country: str | None = None
    creditor_registered: bool = False
    metadata: dict[str, str] = {}


class Expected(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is expected; what is left out is not compared."""

    outcome: str | None = None
    reason: str | None = None
    rejected_by: str | None = None
    fee_minor: int | None = None
    pic: str | None = None
    sca: str | None = None
    sca_basis: str | None = None
    payable_minor: int | None = None
    tax_minor: int | None = None
    tax_rate_bp: int | None = None
    tax_kind: str | None = None
    value_date: str | None = None
    locale: str | None = None
    routes: list[str] | None = None
    #: Rules that are among those that applied, and rules that are not.
    applied: list[str] | None = None
    not_applied: list[str] | None = None


class Case(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One case: after the payments ``given``, all of one payer, ``payment`` is decided as ``expect`` says."""

    case: str
    tenant: str = ""
    #: Time of receipt, ISO 8601 with a zone.
    at: str
    given: list[CasePayment] = []
    payment: CasePayment
    expect: Expected


class CaseResult(msgspec.Struct, frozen=True, kw_only=True):
    """How a case came out; ``differences`` is empty when it came out as expected."""

    case: str
    line: int
    differences: tuple[str, ...]
    trial: Trial
    #: Which PICs would carry it, in which order, and why.
    routes: tuple[RouteView, ...]


def read_cases(text: str, source: str) -> list[tuple[int, Case]]:
    """The cases in ``text`` with their lines. Raises :class:`TenantFileError` with every mistake."""
    cases = read_records(text, source, Case)
    found = []
    seen: dict[str, int] = {}
    for line, case in cases:
        if case.case in seen:
            found.append(f"{source}:{line}: case: {case.case!r} is there already, at line {seen[case.case]}")
        seen.setdefault(case.case, line)
        if not _is_time(case.at):
            found.append(f"{source}:{line}: at: must be a time with a zone such as 2026-11-27T10:00:00Z")
    if not cases:
        found.append(f"{source}:1: the file holds no case")
    if found:
        raise TenantFileError(found)
    return cases


def run_cases(tenants: Sequence[TenantRules], cases: Sequence[tuple[int, Case]], source: str) -> list[CaseResult]:
    """Decide every case. Raises :class:`TenantFileError` for a case whose tenant is not among ``tenants``."""
    books = {rules.tenant: (rules, rule_book(rules)) for rules in tenants}
    results = []
    for line, case in cases:
        name = case.tenant or (tenants[0].tenant if len(tenants) == 1 else "")
        if name not in books:
            there = ", ".join(books)
            raise TenantFileError([f"{source}:{line}: tenant: must be one of {there}, is {name or 'left out'}"])
        trial, routes = _run(case, *books[name])
        differences = tuple(_differences(case.expect, trial))
        results.append(CaseResult(case=case.case, line=line, differences=differences, trial=trial, routes=routes))
    return results


def facts_of_case(payment: CasePayment, at_ms: int) -> Facts:
    """The facts of a case's payment that is received at ``at_ms``."""
    values = {
        "debtor_country": payment.country if payment.debtor_country is None else payment.debtor_country,
        "creditor_country": payment.country if payment.creditor_country is None else payment.creditor_country,
    }
    return Facts(**(msgspec.structs.asdict(payment) | values), received_at_ms=at_ms, requested_at_ms=at_ms)


def _run(case: Case, rules: TenantRules, book: RuleBook) -> tuple[Trial, tuple[RouteView, ...]]:
    at_ms = round(datetime.fromisoformat(case.at).timestamp() * 1000)
    use = NO_USE
    for earlier in case.given:
        _, use = try_payment(facts_of_case(earlier, at_ms), rules, book, use)
    facts = facts_of_case(case.payment, at_ms)
    trial, _ = try_payment(facts, rules, book, use)
    return trial, tuple(explain_order(facts, rules, book, localize(facts, rules, book)))


def _differences(expect: Expected, trial: Trial) -> list[str]:
    got: Mapping[str, object] = _flat(trial)
    wanted = {name: value for name, value in msgspec.structs.asdict(expect).items() if value is not None}
    applied = [] if trial.terms is None else trial.terms.rules
    missing = [rule for rule in wanted.pop("applied", []) if rule not in applied and rule != trial.rejected_by]
    unwanted = [rule for rule in wanted.pop("not_applied", []) if rule in applied or rule == trial.rejected_by]
    found = [f"{name} is {got[name]!r}, expected {value!r}" for name, value in wanted.items() if got[name] != value]
    found += [f"rule {rule} did not apply" for rule in missing]
    found += [f"rule {rule} applied" for rule in unwanted]
    if found and trial.detail:
        found.append(f"({trial.reason}: {trial.detail})")
    return found


def _flat(trial: Trial) -> dict[str, object]:
    values = msgspec.structs.asdict(trial)
    terms = values.pop("terms")
    empty = {
        "payable_minor": 0,
        "tax_minor": 0,
        "tax_rate_bp": 0,
        "tax_kind": "",
        "value_date": "",
        "locale": "",
        "routes": [],
    }
    return values | empty | ({} if terms is None else msgspec.structs.asdict(terms))


def _is_time(text: str) -> bool:
    try:
        return datetime.fromisoformat(text).tzinfo is not None
    except ValueError:
        return False
