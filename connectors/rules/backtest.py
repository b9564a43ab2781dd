"""What other rules would have changed: in counts and money, one recorded decision after the other. Memory does not grow with
them, but for the payers' counters, which are bounded."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable
from typing import Any, Final

import msgspec

from connectors.rules.recorded import RecordedDecision
from connectors.tenants.book import rule_book
from pipeline.stages.payer_checks import NO_USE, PayerUse
from pipeline.stages.rules.facts import facts_of
from pipeline.stages.rules.trial import Trial, try_payment
from schemas.money import format_amount, is_currency
from schemas.reasons import Outcome
from schemas.records import PaymentTerms
from schemas.tenant_rules import TenantRules

#: Payers whose counters are kept; of more, those who did not pay for the longest time begin anew.
PAYERS_MAX: Final = 200_000
#: Payments that are named of each kind of change.
EXAMPLES_MAX: Final = 5
#: Kinds of change that are told apart: more than this many reasons and rules are counted as "other".
KINDS_MAX: Final = 500
_TERMS: Final = PaymentTerms(payable_minor=0)


class Change(msgspec.Struct):
    """Payments that changed in one way: how many, their amounts per currency, and some of them."""

    count: int = 0
    amount_minor: dict[str, int] = {}
    examples: list[str] = []

    def add(self, payment_id: str, amount_minor: int, currency: str) -> None:
        """Count one more."""
        self.count += 1
        self.amount_minor[currency] = self.amount_minor.get(currency, 0) + amount_minor
        if len(self.examples) < EXAMPLES_MAX:
            self.examples.append(payment_id)


class Money(msgspec.Struct):
    """A sum before and after, in minor units, of the payments that are accepted then."""

    before_minor: int = 0
    after_minor: int = 0


class Backtest(msgspec.Struct):
    """What came out."""

    payments: int = 0
    unchanged: int = 0
    #: By what changed: ``fee``, ``sca exempt -> required``, ``accepted -> rejected (payer_limit_reached, rule two-a-day)``.
    changes: dict[str, Change] = {}
    #: By currency.
    fees: dict[str, Money] = {}
    taxes: dict[str, Money] = {}
    #: Payers whose counters were forgotten while they may still have counted: above zero, limits may be off.
    payers_forgotten: int = 0
    #: Conditions that could not be evaluated, by rule.
    failed: dict[str, int] = {}


def backtest(decisions: Iterable[RecordedDecision], rules: TenantRules) -> Backtest:
    """Decide every recorded payment again, by ``rules`` and with counters that begin at nothing, and tell the differences."""
    report, book = Backtest(), rule_book(rules)
    payers: OrderedDict[str, PayerUse] = OrderedDict()
    for recorded in decisions:
        request = recorded.request
        payer = request.debtor.id
        trial, use = try_payment(facts_of(request, recorded.received_at_ms), rules, book, payers.pop(payer, NO_USE))
        if use is not NO_USE:
            payers[payer] = use
            if len(payers) > PAYERS_MAX:
                payers.popitem(last=False)
                report.payers_forgotten += 1
        _compare(report, recorded, trial)
    return report


def shadow_report(decisions: Iterable[RecordedDecision]) -> Backtest:
    """The differences of shadow rules that localization recorded. Sums are of the payments that differ."""
    report = Backtest()
    for recorded in decisions:
        report.payments += 1
        shadow, localized = recorded.localized.get("shadow"), recorded.localized
        if shadow is None:
            report.unchanged += 1
            continue
        request = recorded.request
        fees = report.fees.setdefault(request.currency, Money())
        fees.before_minor += localized["fee_minor"]
        fees.after_minor += shadow["fee_minor"]
        taxes = report.taxes.setdefault(request.currency, Money())
        taxes.before_minor += (localized.get("terms") or {}).get("tax_minor", 0)
        taxes.after_minor += shadow["tax_minor"]
        if "outcome" in shadow["differs"] or "reason" in shadow["differs"]:
            kinds = [f"{_spoken(localized)} -> {_spoken(shadow)}"]
        else:
            kinds = shadow["differs"]
        for kind in kinds:
            report.changes.setdefault(kind, Change()).add(request.payment_id, request.amount_minor, request.currency)
    return report


def backtest_lines(tenant: str, report: Backtest) -> Iterable[str]:
    """A report in words."""
    yield f"{tenant}: {report.payments:,} payments, {report.unchanged:,} of them unchanged"
    for kind, change in sorted(report.changes.items(), key=lambda item: -item[1].count):
        sums = ", ".join(_amount(minor, currency) for currency, minor in sorted(change.amount_minor.items()))
        yield f"  {change.count:,} {kind}: {sums}; such as {', '.join(change.examples)}"
    for what, by_currency in (("fees", report.fees), ("tax", report.taxes)):
        for currency, money in sorted(by_currency.items()):
            if money.before_minor != money.after_minor:
                yield f"  {what}: {_amount(money.before_minor, currency)} -> {_amount(money.after_minor, currency)}"
    for rule, count in sorted(report.failed.items()):
        yield f"  {count:,} times the condition of rule {rule} could not be evaluated"
    if report.payers_forgotten:
        yield f"  counters of {report.payers_forgotten:,} payers were forgotten: limits of payers may be off"


def _amount(amount_minor: int, currency: str) -> str:
    return format_amount(amount_minor, currency) if is_currency(currency) else f"{amount_minor} minor units"


def _compare(report: Backtest, recorded: RecordedDecision, trial: Trial) -> None:
    request = recorded.request
    amount_minor, currency = request.amount_minor, request.currency
    before, after = _before(recorded), _after(trial)
    for decision in (before, after):  # Without terms it is the amount that is paid, by the tenant's route.
        decision["payable"] = decision["payable"] or amount_minor
        decision["routes"] = decision["routes"] or [decision["pic"]]
    report.payments += 1
    for rule in trial.failed:
        report.failed[rule] = report.failed.get(rule, 0) + 1
    for sums, name in ((report.fees, "fee"), (report.taxes, "tax")):
        money = sums.setdefault(currency, Money())
        money.before_minor += before[name]
        money.after_minor += after[name]
    kinds = list(_kinds(before, after, trial))
    if not kinds:
        report.unchanged += 1
    for kind in kinds:
        if kind not in report.changes and len(report.changes) >= KINDS_MAX:
            kind = "other"
        report.changes.setdefault(kind, Change()).add(request.payment_id, amount_minor, currency)


def _kinds(before: dict[str, Any], after: dict[str, Any], trial: Trial) -> Iterable[str]:
    """Names of all that changed. Of a payment whose outcome changed, only that is told: the rest follows from it."""
    if before["outcome"] != after["outcome"] or before["reason"] != after["reason"]:
        rule = f", rule {trial.rejected_by}" if trial.rejected_by else ""
        yield f"{_spoken(before)} -> {_spoken(after, rule)}"
        return
    if after["outcome"] == Outcome.REJECTED.value:
        return
    for name in ("fee", "tax", "payable", "value_date", "locale", "pic", "routes"):
        if before[name] != after[name]:
            yield name
    if before["sca"] != after["sca"]:
        yield f"sca {before['sca'] or 'none'} -> {after['sca'] or 'none'}"


def _spoken(decision: dict[str, Any], rule: str = "") -> str:
    return f"{decision['outcome']} ({decision['reason']}{rule})" if decision["reason"] else str(decision["outcome"])


def _before(recorded: RecordedDecision) -> dict[str, Any]:
    localized, profiled = recorded.localized, recorded.profiled or {}
    terms = _TERMS if localized.get("terms") is None else msgspec.convert(localized["terms"], PaymentTerms)
    ended = next((event for event in (localized, profiled) if event.get("outcome") == Outcome.REJECTED.value), None)
    if ended is not None:
        return _values(Outcome.REJECTED.value, ended["reason"], 0, "", _TERMS, "")
    return _values("accepted", "", localized["fee_minor"], localized["pic"], terms, profiled.get("sca", ""))


def _after(trial: Trial) -> dict[str, Any]:
    terms = trial.terms or _TERMS
    return _values(trial.outcome, trial.reason, trial.fee_minor, trial.pic, terms, trial.sca)


def _values(outcome: str, reason: str, fee_minor: int, pic: str, terms: PaymentTerms, sca: str) -> dict[str, Any]:
    return {
        "outcome": outcome,
        "reason": reason,
        "fee": fee_minor,
        "tax": terms.tax_minor,
        "payable": terms.payable_minor,
        "value_date": terms.value_date,
        "locale": terms.locale,
        "pic": pic,
        "routes": terms.routes,
        "sca": sca,
    }
