"""Localization: does the tenant take this payment here, and on which terms?  Pure: no Kafka, no clock.

The tenant's own lists, limits and fee come first, then its business rules (docs/rules.md). All that needs what the payer did
before is left to the payer stage (:mod:`pipeline.stages.payer_checks`), with what it has to check.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Final

import msgspec

from pipeline.stages.localities.cash import round_cash
from pipeline.stages.localities.locale import locale_for
from pipeline.stages.localities.sca import Counted, Exempt, Flag, OutOfScope, Required, assess
from pipeline.stages.localities.surcharge import surcharge_allowed_minor
from pipeline.stages.localities.tax import tax_of
from pipeline.stages.rules.facts import Facts
from pipeline.stages.rules.fees import fee_minor
from pipeline.stages.rules.periods import period_of
from pipeline.stages.rules.routes import order_routes
from pipeline.stages.rules.rule_book import Plan, Ready, RuleBook, RuleFailed
from schemas import localities
from schemas.limits import AMOUNT_MINOR_MAX
from schemas.reasons import Reason
from schemas.records import PayerChecks, PayerLimit, PaymentTerms
from schemas.tenant_rules import TenantRules

#: More allowed values than this are counted in a detail instead of listed.
LISTED_MAX = 10
#: The method that cash rounding is for.
CASH: Final = "cash"
_AMOUNT_CHARS_MAX: Final = len(str(AMOUNT_MINOR_MAX))


class Accepted(msgspec.Struct, frozen=True):
    """The tenant takes the payment; ``fee_minor`` is the tenant's fee in the payment's currency.

    ``terms`` is None when no rule had anything to say, ``checks`` when nothing is left to the payer stage; ``failed`` names the
    rules whose conditions could not be evaluated.
    """

    fee_minor: int
    pic: str
    terms: PaymentTerms | None = None
    checks: PayerChecks | None = None
    failed: tuple[str, ...] = ()


class Rejected(msgspec.Struct, frozen=True):
    """The tenant does not take the payment; ``detail`` names the limit and the value, and no person; ``rule`` the rule, where
    one decided."""

    reason: Reason
    detail: str
    rule: str = ""
    failed: tuple[str, ...] = ()


def localize(facts: Facts, rules: TenantRules, book: RuleBook) -> Accepted | Rejected:
    """Decide whether the payment may go on under the tenant's ``rules``, of which ``book`` holds the business rules, and on
    which terms. The first check that fails decides.

    A limit is part of what is allowed: an amount that equals the minimum, the maximum or the fee is accepted.
    """
    rejected = _checked(facts, rules)
    if rejected is not None:
        return rejected
    plan = book.plan(facts.country, facts.method, facts.currency, facts.received_at_ms)
    if plan.empty:
        fee = fee_minor(facts.amount_minor, facts.currency, rules.fee)
        if fee > facts.amount_minor:
            return _fee_above_amount(facts, fee, "")
        return _by_default(facts, rules, book, fee) if rules.failover or rules.pics else Accepted(fee, rules.pic)
    failed: list[str] = []
    try:
        answer = _by_rules(facts, rules, book, plan, failed)
    except RuleFailed as error:
        answer = Rejected(Reason.RULE_FAILED, f"rule {error.rule_id} could not be evaluated", error.rule_id)
    return msgspec.structs.replace(answer, failed=tuple(failed)) if failed else answer


def _checked(facts: Facts, rules: TenantRules) -> Rejected | None:
    """What the tenant's own lists and limits say."""
    amount_minor, currency, country, method = facts.amount_minor, facts.currency, facts.country, facts.method
    if currency not in rules.currencies:
        return Rejected(Reason.CURRENCY_NOT_ALLOWED, f"currency {currency} is not {_among(rules.currencies)}")
    if rules.countries and country not in rules.countries:
        return Rejected(Reason.COUNTRY_NOT_ALLOWED, f"country {country or '(none)'} is not {_among(rules.countries)}")
    limits = rules.methods.get(method)
    if limits is None:
        return Rejected(Reason.METHOD_NOT_ALLOWED, f"method {method or '(none)'} is not {_among(rules.methods)}")
    if (least := limits.min_minor.get(currency)) is not None and amount_minor < least:
        return Rejected(
            Reason.AMOUNT_BELOW_METHOD_LIMIT, _bounds(amount_minor, currency, "below", "minimum", least, method)
        )
    if (most := limits.max_minor.get(currency)) is not None and amount_minor > most:
        return Rejected(
            Reason.AMOUNT_ABOVE_METHOD_LIMIT, _bounds(amount_minor, currency, "above", "maximum", most, method)
        )
    return None


def _by_default(facts: Facts, rules: TenantRules, book: RuleBook, fee: int) -> Accepted | Rejected:
    """Without a rule, what the tenant says of its payment integration clients."""
    routes = order_routes(facts, rules, book, None, None)
    if not routes:
        return _no_route(facts, None, None)
    return Accepted(fee, routes[0], PaymentTerms(payable_minor=facts.amount_minor, routes=routes))


def _by_rules(facts: Facts, rules: TenantRules, book: RuleBook, plan: Plan, failed: list[str]) -> Accepted | Rejected:
    applied: list[str] = []
    rejected = (
        _not_allowed(_first(plan.allow_currencies, facts, applied, failed), facts.currency, "currency")
        or _not_allowed(_first(plan.allow_methods, facts, applied, failed), facts.method, "method")
        or _denied(_all(plan.deny, facts, applied, failed))
        or _beyond(facts, _all(plan.limit, facts, applied, failed))
        or _surcharged(facts, _first(plan.surcharge, facts, applied, failed))
    )
    if rejected is not None:
        return rejected
    payable_minor = facts.amount_minor
    if facts.method == CASH and (rule := _first(plan.cash_rounding, facts, applied, failed)) is not None:
        payable_minor = round_cash(payable_minor, rule.terms)
    fee_rule = _first(plan.fee, facts, applied, failed)
    fee_terms, fee_by = (rules.fee, "") if fee_rule is None else (fee_rule.terms, fee_rule.id)
    fee = fee_minor(facts.amount_minor, facts.currency, fee_terms)
    if fee > facts.amount_minor:
        return _fee_above_amount(facts, fee, fee_by)
    tax_minor, tax_rate_bp, tax_kind = 0, 0, ""
    if (rule := _first(plan.tax, facts, applied, failed)) is not None:
        tax = tax_of(facts.amount_minor, facts.metadata.get(localities.TAX_CATEGORY, localities.STANDARD), rule.terms)
        tax_minor, tax_rate_bp, tax_kind = tax.tax_minor, tax.rate_bp, rule.terms.kind
    residency = _first(plan.residency, facts, applied, failed)
    route = _first(plan.route, facts, applied, failed)
    routes = order_routes(facts, rules, book, residency, route)
    if not routes:
        return _no_route(facts, residency, route)
    value_date = locale = ""
    if (rule := _first(plan.value_date, facts, applied, failed)) is not None and rule.value_dates is not None:
        value_date = rule.value_dates.of(facts.received_at_ms)
    sca_rule = _first(plan.sca, facts, applied, failed)
    limit_rules = _all(plan.payer_limit, facts, applied, failed)
    checks = None if sca_rule is None and not limit_rules else _checks(facts, sca_rule, limit_rules)
    if (rule := _first(plan.locale, facts, applied, failed)) is not None:
        locale = locale_for(facts.locale, rule.terms)
    terms = PaymentTerms(
        payable_minor=payable_minor,
        tax_minor=tax_minor,
        tax_rate_bp=tax_rate_bp,
        tax_kind=tax_kind,
        value_date=value_date,
        locale=locale,
        routes=routes,
        rules=applied,
    )
    return Accepted(fee, routes[0], terms, checks)


def _first(candidates: Sequence[Ready], facts: Facts, applied: list[str], failed: list[str]) -> Ready | None:
    """The first of ``candidates`` that applies, noted in ``applied``."""
    for rule in candidates:
        if rule.sure or rule.applies(facts, failed):
            applied.append(rule.id)
            return rule
    return None


def _all(candidates: Sequence[Ready], facts: Facts, applied: list[str], failed: list[str]) -> Sequence[Ready]:
    """All of ``candidates`` that apply, noted in ``applied``."""
    if not candidates:
        return ()
    found = [rule for rule in candidates if rule.sure or rule.applies(facts, failed)]
    for rule in found:
        applied.append(rule.id)
    return found


def _fee_above_amount(facts: Facts, fee: int, rule: str) -> Rejected:
    by = f", rule {rule}" if rule else ""
    detail = f"fee {fee} {facts.currency} is above the amount {facts.amount_minor} (minor units{by})"
    return Rejected(Reason.FEE_ABOVE_AMOUNT, detail, rule)


_NOT_ALLOWED: Final = {"currency": Reason.CURRENCY_NOT_ALLOWED, "method": Reason.METHOD_NOT_ALLOWED}


def _not_allowed(rule: Ready | None, value: str, what: str) -> Rejected | None:
    if rule is None or value in rule.terms:
        return None
    return Rejected(
        _NOT_ALLOWED[what], f"{what} {value or '(none)'} is not {_among(rule.terms)} (rule {rule.id})", rule.id
    )


def _denied(rules: Sequence[Ready]) -> Rejected | None:
    if not rules:
        return None
    return Rejected(Reason.DENIED_BY_RULE, f"{rules[0].terms.why} (rule {rules[0].id})", rules[0].id)


def _beyond(facts: Facts, rules: Sequence[Ready]) -> Rejected | None:
    amount_minor, currency = facts.amount_minor, facts.currency
    for rule in rules:
        terms, name = rule.terms, f"rule {rule.id}"
        if (least := terms.min_minor.get(currency)) is not None and amount_minor < least:
            detail = _bounds(amount_minor, currency, "below", "minimum", least, name)
            return Rejected(Reason.AMOUNT_BELOW_RULE_LIMIT, detail, rule.id)
        if (most := terms.max_minor.get(currency)) is not None and amount_minor > most:
            detail = _bounds(amount_minor, currency, "above", "maximum", most, name)
            return Rejected(Reason.AMOUNT_ABOVE_RULE_LIMIT, detail, rule.id)
    return None


def _surcharged(facts: Facts, rule: Ready | None) -> Rejected | None:
    stated = facts.metadata.get(localities.SURCHARGE_MINOR, "")
    if rule is None or not stated:
        return None
    category = facts.metadata.get(localities.CARD_CATEGORY, "")
    most = surcharge_allowed_minor(facts.amount_minor, category, rule.terms)
    if most is None:
        return None
    if not (stated.isascii() and stated.isdigit() and len(stated) <= _AMOUNT_CHARS_MAX):
        detail = f"the surcharge is not a whole number of minor units (rule {rule.id})"
        return Rejected(Reason.SURCHARGE_NOT_ALLOWED, detail, rule.id)
    surcharge_minor = int(stated)
    if surcharge_minor <= most:
        return None
    detail = f"surcharge {surcharge_minor} {facts.currency} is above {most} (minor units, rule {rule.id})"
    return Rejected(Reason.SURCHARGE_NOT_ALLOWED, detail, rule.id)


def _no_route(facts: Facts, residency: Ready | None, route: Ready | None) -> Rejected:
    deciding = residency or route
    within = "" if deciding is None else f" within rule {deciding.id}"
    detail = f"no route of the tenant takes {facts.method} in {facts.currency}{within}"
    return Rejected(Reason.ROUTE_NOT_ALLOWED, detail, "" if deciding is None else deciding.id)


def _checks(facts: Facts, sca_rule: Ready | None, limit_rules: Sequence[Ready]) -> PayerChecks:
    """What the payer stage has to check."""
    limits = [
        PayerLimit(
            rule=rule.id,
            period=period_of(facts.received_at_ms, rule.terms.per, rule.rule.zone),
            max_count=rule.terms.max_count,
            max_minor=rule.terms.max_minor.get(facts.currency, 0),
        )
        for rule in limit_rules
    ]
    if sca_rule is None:
        return PayerChecks(limits=limits)
    assessed = assess(
        amount_minor=facts.amount_minor,
        currency=facts.currency,
        payer_country=facts.debtor_country,
        payee_country=facts.creditor_country,
        method=facts.method,
        channel=facts.channel,
        flags=_flags(facts),
        terms=sca_rule.terms,
    )
    match assessed:
        case OutOfScope(why):
            return PayerChecks(limits=limits, sca="out_of_scope", sca_basis=why)
        case Required():
            return PayerChecks(limits=limits, sca="required")
        case Exempt(article):
            return PayerChecks(limits=limits, sca="exempt", sca_basis=f"article_{article}")
        case Counted(article, share_ppm, count, counter):
            return PayerChecks(
                limits=limits,
                sca="counted",
                sca_basis=f"article_{article}",
                sca_share_ppm=share_ppm,
                sca_count=count,
                sca_counter=counter,
            )


#: What a client says in ``metadata``, and the flags of it.
_FLAGS: Final[tuple[tuple[str, str, Flag], ...]] = (
    (localities.CONTACTLESS, "true", "contactless"),
    (localities.UNATTENDED, "true", "unattended"),
    (localities.MERCHANT_INITIATED, "true", "merchant_initiated"),
    (localities.SERIES, "first", "series_first"),
    (localities.SERIES, "following", "series_following"),
    (localities.TRUSTED_PAYEE, "true", "trusted_payee"),
    (localities.OWN_ACCOUNT, "true", "own_account"),
    (localities.CORPORATE, "true", "corporate"),
)
_NO_FLAGS: Final[frozenset[Flag]] = frozenset()


def _flags(facts: Facts) -> frozenset[Flag]:
    metadata = facts.metadata
    if not metadata:
        return _NO_FLAGS
    return frozenset([flag for key, value, flag in _FLAGS if metadata.get(key) == value])


def _bounds(amount_minor: int, currency: str, side: str, bound: str, limit: int, method: str) -> str:
    return f"amount {amount_minor} {currency} is {side} the {bound} {limit} for {method} (minor units)"


def _among(allowed: Collection[str]) -> str:
    if len(allowed) > LISTED_MAX:
        return f"among the {len(allowed)} that are allowed"
    return f"among {', '.join(allowed)}"
