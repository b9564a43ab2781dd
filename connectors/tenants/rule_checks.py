"""What business rules must satisfy beyond their types. Pure; for files (document.py) and records (book.py)."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from connectors.rules.editions import edition, editions
from connectors.tenants.names import METHOD_PATTERN, countries, shown
from pipeline.stages.localities.value_date import ValueDates
from pipeline.stages.rules.conditions import ConditionError, compile_condition, is_group_name
from pipeline.stages.rules.filters import FilterError, in_force_ms, postcode_filter
from schemas.business_rules import EFFECTS, Edition, FeeRules, RouteTerms, Rule
from schemas.identity import PIC_PATTERN
from schemas.limits import AMOUNT_MINOR_MAX, TEXT_CHARS_MAX
from schemas.localities import STANDARD, CounterTerms
from schemas.money import is_currency
from schemas.tenant_rules import TenantRules

#: More rules of its own than any tenant has; with the next two it bounds what one payment of a tenant can cost.
RULES_MAX = 200
#: What evaluating all conditions of a tenant may cost, in nodes (pipeline.stages.rules.conditions).
COST_MAX = 12_000
#: Items of a filter or a group.
ITEMS_MAX = 250
GROUPS_MAX = 50
INHERITED_MAX = 20
TIERS_MAX = 20
WEIGHT_MAX = 1_000
WHOLE_BP = 10_000
COUNT_MAX = 1_000_000
REGION_CHARS_MAX = 40
WHY_CHARS_MAX = 100

_ID = re.compile(r"[a-z0-9][a-z0-9_.-]{0,59}\Z")
_LOCALE = re.compile(r"[a-z]{2,3}(-[A-Za-z0-9]{2,8}){0,3}\Z")
_CATEGORY = re.compile(r"[a-z][a-z0-9_]{0,39}\Z")

Groups = Mapping[str, Sequence[str]]


@dataclass(frozen=True, slots=True)
class RuleMistake:
    """A mistake at ``path``; ``offset`` is its place in the text there, in characters, where it is known."""

    path: str
    text: str
    offset: int | None = None


def tenant_rule_mistakes(rules: TenantRules) -> Iterator[RuleMistake]:
    """Every mistake in the business rules of a tenant."""
    yield from _rule_set("", rules.inherits, rules.groups, rules.rules)
    if rules.shadow is not None:
        yield from _rule_set("shadow.", rules.shadow.inherits, rules.shadow.groups, rules.shadow.rules)
    for pic, where in rules.routes.items():
        if not PIC_PATTERN.match(pic):
            yield RuleMistake(f"routes.{pic}", "must be under the name of a payment integration client")
        yield from _places(f"routes.{pic}", where, known_groups(rules.inherits, rules.groups))


def edition_mistakes(edition: Edition) -> Iterator[RuleMistake]:
    """Every mistake in a base rule set; its rules cite their sources."""
    yield from _groups("", edition.groups)
    yield from _rules("", edition.rules, edition.groups, ids=None)
    for at, rule in enumerate(edition.rules):
        if not rule.source:
            yield RuleMistake(f"rules[{at}].source", f"{rule.id}: is missing: a base rule cites its source")


def known_groups(inherits: Sequence[str], own: Groups) -> dict[str, tuple[str, ...]]:
    """The groups that a tenant's own rules may name: those of its base rule sets, and its own over them."""
    groups: dict[str, tuple[str, ...]] = {}
    for name in inherits:
        if name in editions():
            groups |= {group: tuple(codes) for group, codes in edition(name).groups.items()}
    return groups | {group: tuple(codes) for group, codes in own.items()}


def _rule_set(before: str, inherits: Sequence[str], groups: Groups, rules: Sequence[Rule]) -> Iterator[RuleMistake]:
    if len(inherits) > INHERITED_MAX:
        yield RuleMistake(f"{before}inherits", f"must be at most {INHERITED_MAX}, are {len(inherits)}")
    inherited: set[str] = set()
    for at, name in enumerate(inherits):
        if name in inherits[:at]:
            yield RuleMistake(f"{before}inherits[{at}]", f"{shown(name)} is named twice")
        elif name not in editions():
            there = ", ".join(editions()) or "(none)"
            yield RuleMistake(f"{before}inherits[{at}]", f"must be one of {there}, is {shown(name)}")
        else:
            inherited |= {rule.id for rule in edition(name).rules}
    yield from _groups(before, groups)
    yield from _rules(before, rules, known_groups(inherits, groups), ids=inherited)


def _groups(before: str, groups: Groups) -> Iterator[RuleMistake]:
    if len(groups) > GROUPS_MAX:
        yield RuleMistake(f"{before}groups", f"must be at most {GROUPS_MAX}, are {len(groups)}")
    for name, codes in groups.items():
        path = f"{before}groups.{name}"
        if not is_group_name(name) or name in countries():
            text = "a group's name must be 2 to 30 of A-Z, 0-9 and '_', beginning with a letter, and no country's code"
            yield RuleMistake(path, text)
        yield from _places(path, codes, {})


def _rules(before: str, rules: Sequence[Rule], groups: Groups, ids: set[str] | None) -> Iterator[RuleMistake]:
    if ids is not None and len(rules) > RULES_MAX:
        yield RuleMistake(f"{before}rules", f"must be at most {RULES_MAX}, are {len(rules)}")
        return
    first_at: dict[str, int] = {}
    cost = 0
    for at, rule in enumerate(rules):
        path = f"{before}rules[{at}]"
        if not _ID.match(rule.id):
            yield RuleMistake(f"{path}.id", f"must be 1 to 60 of a-z, 0-9, '.', '-' and '_', is {shown(rule.id)}")
        elif rule.id in first_at:
            yield RuleMistake(f"{path}.id", f"{rule.id} is a rule already, at rules[{first_at[rule.id]}]")
        first_at.setdefault(rule.id, at)
        for mistake in _rule(path, rule, groups, ids):
            yield RuleMistake(mistake.path, f"{shown_id(rule)}: {mistake.text}", mistake.offset)
        cost += rule_cost(rule, groups)
    if ids is not None and cost > COST_MAX:
        yield RuleMistake(f"{before}rules", f"conditions cost {cost} together, at most {COST_MAX} is taken")


def shown_id(rule: Rule) -> str:
    """A rule's id, for a message."""
    return rule.id if _ID.match(rule.id) else shown(rule.id)


def rule_cost(rule: Rule, groups: Groups) -> int:
    """What evaluating the rule's filters and condition may cost; 0 for a condition that is not taken."""
    if rule.off:
        return 0
    patterns = 3 * len(rule.postcode)
    try:
        return patterns + (_condition(rule, groups).cost if rule.when else 0)
    except ConditionError:
        return patterns


def _condition(rule: Rule, groups: Groups) -> Any:
    return compile_condition(rule.when, {name: tuple(codes) for name, codes in groups.items()})


def _rule(path: str, rule: Rule, groups: Groups, ids: set[str] | None) -> Iterator[RuleMistake]:
    effects = rule.effects()
    if rule.off:
        if ids is None or rule.id not in ids:
            yield RuleMistake(f"{path}.off", "no inherited rule has this id")
        if effects or rule.when:
            yield RuleMistake(f"{path}.off", "a rule that is off has nothing but its id, source and off")
        return
    if not effects:
        yield RuleMistake(path, f"has no effect; there are {', '.join(EFFECTS)}")
    if len(effects) > 1:
        yield RuleMistake(f"{path}.{effects[1][0]}", f"has the effect {effects[0][0]} already: make it two rules")
    if len(rule.source) > TEXT_CHARS_MAX:
        yield RuleMistake(f"{path}.source", f"must be at most {TEXT_CHARS_MAX} characters")
    yield from _filters(path, rule, groups)
    if rule.when:
        try:
            _condition(rule, groups)
        except ConditionError as error:
            yield RuleMistake(f"{path}.when", error.text, error.offset)
    for name, terms in effects:
        for mistake in _EFFECTS[name](terms, groups):
            yield RuleMistake(f"{path}.{name}{'.' if mistake.path else ''}{mistake.path}", mistake.text)


def _filters(path: str, rule: Rule, groups: Groups) -> Iterator[RuleMistake]:
    for name in ("country", "region", "postcode", "method", "currency"):
        values = getattr(rule, name)
        if len(values) > ITEMS_MAX:
            yield RuleMistake(f"{path}.{name}", f"must be at most {ITEMS_MAX}, are {len(values)}")
    yield from _places(f"{path}.country", rule.country, groups)
    for at, region in enumerate(rule.region):
        if not 1 <= len(region.strip()) <= REGION_CHARS_MAX:
            yield RuleMistake(f"{path}.region[{at}]", f"must be 1 to {REGION_CHARS_MAX} characters")
    for at, pattern in enumerate(rule.postcode):
        try:
            postcode_filter([pattern])
        except FilterError as error:
            yield RuleMistake(f"{path}.postcode[{at}]", f"{error}, is {shown(pattern)}")
    yield from _each_method(f"{path}.method", rule.method)
    yield from _each_currency(f"{path}.currency", rule.currency)
    for name, since, until in (("from", rule.since, ""), ("until", "", rule.until)):
        try:
            in_force_ms(since, until, "UTC")
        except FilterError as error:
            yield RuleMistake(f"{path}.{name}", f"{error}, is {shown(since or until)}")
            return
    try:
        in_force_ms("", "", rule.zone)
    except FilterError as error:
        yield RuleMistake(f"{path}.zone", f"{error}, is {shown(rule.zone)}")
        return
    try:
        in_force_ms(rule.since, rule.until, rule.zone)
    except FilterError as error:
        yield RuleMistake(f"{path}.until", str(error))


def _places(path: str, values: Sequence[str], groups: Groups) -> Iterator[RuleMistake]:
    for at, value in enumerate(values):
        if value not in countries() and value not in groups:
            there = f", or one of {', '.join(groups)}" if groups else ""
            yield RuleMistake(f"{path}[{at}]", f"must be an ISO 3166-1 code of two capitals{there}, is {shown(value)}")


def _each_method(path: str, methods: Sequence[str]) -> Iterator[RuleMistake]:
    for at, method in enumerate(methods):
        if not METHOD_PATTERN.match(method):
            yield RuleMistake(f"{path}[{at}]", f"must be the name of a method, is {shown(method)}")


def _each_currency(path: str, currencies: Sequence[str]) -> Iterator[RuleMistake]:
    for at, currency in enumerate(currencies):
        if not is_currency(currency):
            yield RuleMistake(f"{path}[{at}]", f"must be an ISO 4217 code in capitals, is {shown(currency)}")


# -- Effects: paths are within the effect -----------------------------------------------------------------------------


def amount_mistakes(path: str, amounts: Mapping[str, int], least: int = 0) -> Iterator[RuleMistake]:
    """Every mistake in amounts per currency."""
    for currency, amount in amounts.items():
        if not is_currency(currency):
            yield RuleMistake(f"{path}.{currency}", "must be under an ISO 4217 code in capitals")
        if not least <= amount <= AMOUNT_MINOR_MAX:
            text = f"must be between {least} and {AMOUNT_MINOR_MAX} minor units, is {shown(amount)}"
            yield RuleMistake(f"{path}.{currency}", text)


def _between(path: str, value: int, least: int, most: int, unit: str = "") -> Iterator[RuleMistake]:
    if not least <= value <= most:
        yield RuleMistake(path, f"must be between {least} and {most}{unit}, is {shown(value)}")


def _deny(terms: Any, groups: Groups) -> Iterator[RuleMistake]:
    if not 1 <= len(terms.why) <= WHY_CHARS_MAX:
        yield RuleMistake("why", f"must be 1 to {WHY_CHARS_MAX} characters")


def _allow_methods(terms: Any, groups: Groups) -> Iterator[RuleMistake]:
    if not terms:
        yield RuleMistake("", "must name at least one method")
    yield from _each_method("", terms)


def _allow_currencies(terms: Any, groups: Groups) -> Iterator[RuleMistake]:
    if not terms:
        yield RuleMistake("", "must name at least one currency")
    yield from _each_currency("", terms)


def _limit(terms: Any, groups: Groups) -> Iterator[RuleMistake]:
    if not terms.min_minor and not terms.max_minor:
        yield RuleMistake("", "must have min_minor or max_minor")
    yield from amount_mistakes("min_minor", terms.min_minor)
    yield from amount_mistakes("max_minor", terms.max_minor)
    yield from _ordered(terms.min_minor, terms.max_minor, "max_minor", "min_minor")


def _ordered(low: Mapping[str, int], high: Mapping[str, int], name: str, than: str) -> Iterator[RuleMistake]:
    for currency in low.keys() & high.keys():
        if high[currency] < low[currency]:
            text = f"must be at least {than} ({low[currency]}), is {shown(high[currency])}"
            yield RuleMistake(f"{name}.{currency}", text)


def _payer_limit(terms: Any, groups: Groups) -> Iterator[RuleMistake]:
    if not terms.max_count and not terms.max_minor:
        yield RuleMistake("", "must have max_count or max_minor")
    yield from _between("max_count", terms.max_count, 0, COUNT_MAX)
    yield from amount_mistakes("max_minor", terms.max_minor)


def fee_mistakes(terms: FeeRules, groups: Groups = MappingProxyType({})) -> Iterator[RuleMistake]:
    """Every mistake in a fee; paths are within it."""
    yield from _between("percent_bp", terms.percent_bp, 0, WHOLE_BP, " basis points")
    for name in ("fixed_minor", "min_minor", "cap_minor"):
        yield from amount_mistakes(name, getattr(terms, name))
    yield from _ordered(terms.min_minor, terms.cap_minor, "cap_minor", "min_minor")
    yield from _each_currency("tiers", list(terms.tiers))
    for currency, tiers in terms.tiers.items():
        if not 1 <= len(tiers) <= TIERS_MAX:
            yield RuleMistake(f"tiers.{currency}", f"must be 1 to {TIERS_MAX} tiers, are {len(tiers)}")
        before = -1
        for at, tier in enumerate(tiers):
            path = f"tiers.{currency}[{at}]"
            if at == 0 and tier.above_minor != 0:
                yield RuleMistake(f"{path}.above_minor", f"must be 0 in the first tier, is {shown(tier.above_minor)}")
            elif not before < tier.above_minor <= AMOUNT_MINOR_MAX:
                yield RuleMistake(f"{path}.above_minor", f"must be above {before}, is {shown(tier.above_minor)}")
            before = tier.above_minor
            yield from _between(f"{path}.percent_bp", tier.percent_bp, 0, WHOLE_BP, " basis points")
            yield from _between(f"{path}.fixed_minor", tier.fixed_minor, 0, AMOUNT_MINOR_MAX, " minor units")


def _tax(terms: Any, groups: Groups) -> Iterator[RuleMistake]:
    if STANDARD not in terms.rates_bp:
        yield RuleMistake("rates_bp", f"must have a rate for {STANDARD}")
    for category, rate_bp in terms.rates_bp.items():
        if not _CATEGORY.match(category):
            yield RuleMistake(f"rates_bp.{category}", "must be under 1 to 40 of a-z, 0-9 and '_'")
        yield from _between(f"rates_bp.{category}", rate_bp, 0, WHOLE_BP, " basis points")


def _sca(terms: Any, groups: Groups) -> Iterator[RuleMistake]:
    yield from _places("within", terms.within, groups)
    for name in ("low_value", "contactless"):
        counter: CounterTerms | None = getattr(terms, name)
        if counter is not None:
            yield from amount_mistakes(f"{name}.single_minor", counter.single_minor)
            yield from amount_mistakes(f"{name}.cumulative_minor", counter.cumulative_minor, least=1)
            yield from _between(f"{name}.count", counter.count, 0, COUNT_MAX)


def _surcharge(terms: Any, groups: Groups) -> Iterator[RuleMistake]:
    yield from _between("max_bp", terms.max_bp, 0, WHOLE_BP, " basis points")
    for at, category in enumerate(terms.card_categories):
        if category and not _CATEGORY.match(category):  # Empty: a payment that names none.
            yield RuleMistake(f"card_categories[{at}]", "must be at most 40 of a-z, 0-9 and '_'")


def _value_date(terms: Any, groups: Groups) -> Iterator[RuleMistake]:
    try:
        ValueDates(terms)
    except ValueError as error:
        yield RuleMistake("", str(error))


def _cash_rounding(terms: Any, groups: Groups) -> Iterator[RuleMistake]:
    yield from _between("step_minor", terms.step_minor, 1, 1_000_000, " minor units")
    yield from _between("least_minor", terms.least_minor, 0, 1_000_000, " minor units")


def _residency(terms: Any, groups: Groups) -> Iterator[RuleMistake]:
    if not terms.within:
        yield RuleMistake("within", "must name at least one country or group")
    yield from _places("within", terms.within, groups)


def _route(terms: Any, groups: Groups) -> Iterator[RuleMistake]:
    if not terms.pics and not terms.split:
        yield RuleMistake("pics", "must name at least one payment integration client")
    if terms.split:
        yield from _split(terms)
    for at, pic in enumerate(terms.pics):
        if not PIC_PATTERN.match(pic):
            yield RuleMistake(f"pics[{at}]", f"must be the name of a payment integration client, is {shown(pic)}")


def _split(terms: RouteTerms) -> Iterator[RuleMistake]:
    if terms.pics:
        yield RuleMistake("split", "cannot stand beside pics: a PIC of weight 0 is never the first")
    if terms.by == "cost":
        yield RuleMistake("by", "is for pics: a split goes by its weights")
    for pic, weight in terms.split.items():
        if not PIC_PATTERN.match(pic):
            yield RuleMistake(f"split.{pic}", "must be under the name of a payment integration client")
        yield from _between(f"split.{pic}", weight, 0, WEIGHT_MAX)
    if not any(terms.split.values()):
        yield RuleMistake("split", "must have a weight above 0")


def _locale(terms: Any, groups: Groups) -> Iterator[RuleMistake]:
    if not terms.offered:
        yield RuleMistake("offered", "must name at least one language")
    for at, tag in enumerate(terms.offered):
        if not _LOCALE.match(tag):
            yield RuleMistake(f"offered[{at}]", f"must be a language tag such as de-AT, is {shown(tag)}")


_EFFECTS: dict[str, Any] = {
    "deny": _deny,
    "allow_methods": _allow_methods,
    "allow_currencies": _allow_currencies,
    "limit": _limit,
    "payer_limit": _payer_limit,
    "fee": fee_mistakes,
    "tax": _tax,
    "sca": _sca,
    "surcharge": _surcharge,
    "value_date": _value_date,
    "cash_rounding": _cash_rounding,
    "residency": _residency,
    "route": _route,
    "locale": _locale,
}
