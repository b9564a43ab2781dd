"""A tenant's business rules, ready to be asked: which rules can matter to a payment, in the order in which they win. Pure.

What the order is and why: docs/rules.md. The work is done once per version: rules are ranked and conditions compiled. A
:class:`Plan` is made once per country, method, currency and span of days, so that a payment only meets rules that its place,
its instrument and its day allow.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import msgspec

from pipeline.stages.localities.value_date import ValueDates
from pipeline.stages.rules.conditions import FAILURES, Condition, compile_condition
from pipeline.stages.rules.facts import Facts
from pipeline.stages.rules.filters import in_force_ms, plain_region, postcode_filter
from pipeline.stages.rules.routes import Split
from schemas.business_rules import ALL_APPLY, EFFECTS, Edition, Rule
from schemas.localities import ResidencyTerms, ScaTerms

#: Plans that are kept; more are made anew. A tenant's payments have some ten combinations.
PLANS_MAX: Final = 512

Groups = Mapping[str, tuple[str, ...]]


class RuleFailed(Exception):
    """A condition could not be evaluated, and its rule says ``on_error: reject``."""

    def __init__(self, rule_id: str) -> None:
        super().__init__(rule_id)
        self.rule_id = rule_id


class Ready:
    """One rule, compiled. ``rank`` sorts rules: the smallest wins."""

    __slots__ = (
        "countries",
        "currencies",
        "effect",
        "from_ms",
        "id",
        "layer",
        "methods",
        "place",
        "postcode",
        "rank",
        "regions",
        "reject_on_error",
        "rule",
        "split",
        "sure",
        "terms",
        "test",
        "until_ms",
        "value_dates",
    )

    def __init__(self, rule: Rule, groups: Groups, layer: int, place: int) -> None:
        self.rule = rule
        self.id = rule.id
        ((self.effect, terms),) = rule.effects()
        self.terms: Any = _ready_terms(terms, groups)
        self.countries = _countries(rule.country, groups)
        self.methods = frozenset(rule.method) or None
        self.currencies = frozenset(rule.currency) or None
        self.regions = frozenset(map(plain_region, rule.region)) or None
        self.postcode: Callable[[str], bool] | None = postcode_filter(rule.postcode) if rule.postcode else None
        self.from_ms, self.until_ms = in_force_ms(rule.since, rule.until, rule.zone)
        self.test: Condition | None = compile_condition(rule.when, groups).test if rule.when else None
        self.reject_on_error = rule.on_error == "reject"
        #: Of a ``value_date`` rule.
        self.value_dates = ValueDates(terms) if self.effect == "value_date" else None
        #: Of a ``route`` rule with weights.
        self.split = Split(terms.split) if self.effect == "route" and terms.split else None
        #: Whether a payment that a plan holds it for is one that it applies to.
        self.sure = self.regions is None and self.postcode is None and self.test is None
        #: Where it stands: 0 are the tenant's own rules, then the base rule sets, the strongest first; and its place there.
        self.layer, self.place = layer, place
        self.rank = (layer, _vagueness(rule, groups), -self.from_ms, -place)

    def fits_place(self, facts: Facts) -> bool:
        """Whether region and postcode fit."""
        if self.regions is not None and facts.plain_region not in self.regions:
            return False
        return self.postcode is None or self.postcode(facts.plain_postcode)

    def applies(self, facts: Facts, failed: list[str]) -> bool:
        """Whether it applies, all that a plan asks being true. A failing condition does not, and is noted in ``failed``;
        raises :class:`RuleFailed` where the rule says so."""
        if self.sure:
            return True
        if not self.fits_place(facts):
            return False
        test = self.test
        if test is None:
            return True
        try:
            return test(facts)
        except FAILURES:
            failed.append(self.id)
            if self.reject_on_error:
                raise RuleFailed(self.id) from None
            return False


def _rank(rule: Ready) -> Any:
    return rule.rank


def _groups_of(groups: Mapping[str, Sequence[str]]) -> Groups:
    return {name: tuple(codes) for name, codes in groups.items()}


#: Rules of base rule sets, by name and layer, with the set that they were made of: every version of every tenant shares them.
_editions: dict[tuple[str, int], tuple[Edition, tuple[Ready, ...]]] = {}


def _ready_edition(edition: Edition, layer: int) -> tuple[Ready, ...]:
    known = _editions.get((edition.edition, layer))
    if known is not None and known[0] is edition:
        return known[1]
    groups = _groups_of(edition.groups)
    ready = tuple(Ready(rule, groups, layer, place) for place, rule in enumerate(edition.rules))
    _editions[edition.edition, layer] = edition, ready
    return ready


def _countries(places: Sequence[str], groups: Groups) -> frozenset[str] | None:
    if not places:
        return None
    return frozenset(code for place in places for code in groups.get(place, (place,)))


def _ready_terms(terms: Any, groups: Groups) -> Any:
    """Terms with groups written out, and what can be worked out beforehand."""
    if isinstance(terms, ScaTerms | ResidencyTerms):
        return msgspec.structs.replace(terms, within=sorted(_countries(terms.within, groups) or ()))
    return terms


def _vagueness(rule: Rule, groups: Groups) -> tuple[int, int]:
    """How little specific a rule is."""
    if rule.postcode:
        place = 0
    elif rule.region:
        place = 1
    elif not rule.country:
        place = 4
    else:
        place = 3 if any(code in groups for code in rule.country) else 2
    return place, -(bool(rule.method) + bool(rule.currency) + bool(rule.when))


class Plan:
    """The rules that can matter to payments of one kind: by effect, best first, each effect an attribute."""

    __slots__ = ("empty", *EFFECTS)

    allow_currencies: tuple[Ready, ...]
    allow_methods: tuple[Ready, ...]
    deny: tuple[Ready, ...]
    limit: tuple[Ready, ...]
    surcharge: tuple[Ready, ...]
    cash_rounding: tuple[Ready, ...]
    fee: tuple[Ready, ...]
    tax: tuple[Ready, ...]
    residency: tuple[Ready, ...]
    route: tuple[Ready, ...]
    value_date: tuple[Ready, ...]
    sca: tuple[Ready, ...]
    payer_limit: tuple[Ready, ...]
    locale: tuple[Ready, ...]

    def __init__(self, rules: Sequence[Ready]) -> None:
        #: Whether there is no rule at all.
        self.empty = not rules
        for effect in EFFECTS:
            ranked = [rule for rule in rules if rule.effect == effect]
            if effect not in ALL_APPLY:  # What comes after one that surely applies is never looked at.
                end = next((at for at, rule in enumerate(ranked, 1) if rule.sure), len(ranked))
                ranked = ranked[:end]
            setattr(self, effect, tuple(ranked))


_NOTHING: Final = Plan(())


class RuleBook:
    """All business rules of one version of a tenant, inherited ones among them."""

    __slots__ = (
        "_boundaries",
        "_currencies",
        "_methods",
        "_named",
        "_plans",
        "_ranked",
        "routes",
        "shadow",
        "value_dates",
    )

    def __init__(
        self,
        own: Sequence[Rule],
        own_groups: Mapping[str, Sequence[str]],
        inherited: Sequence[Edition],
        routes: Mapping[str, Sequence[str]],
        shadow: RuleBook | None = None,
    ) -> None:
        """``inherited`` are the base rule sets, the strongest last. Expects rules without mistakes."""
        #: Rules that run beside these, without effect.
        self.shadow = shadow
        groups: dict[str, tuple[str, ...]] = {}
        for edition in inherited:
            groups.update(_groups_of(edition.groups))
        groups.update(_groups_of(own_groups))
        rules: dict[str, Ready] = {}
        for layer, edition in enumerate(reversed(inherited), 1):
            for inherited_rule in _ready_edition(edition, layer):
                rules.setdefault(inherited_rule.id, inherited_rule)
        for place, rule in enumerate(own):
            replaced = rules.pop(rule.id, None)
            if not rule.off:
                layer, at = (0, place) if replaced is None else (replaced.layer, replaced.place)
                rules[rule.id] = Ready(rule, groups, layer, at)
        ready = rules.values()
        self._ranked = sorted(ready, key=_rank)
        self._named = frozenset(code for rule in ready for code in rule.countries or ())
        self._methods = frozenset(name for rule in ready for name in rule.methods or ())
        self._currencies = frozenset(code for rule in ready for code in rule.currencies or ())
        #: Instants at which a rule begins or ends, ascending.
        self._boundaries = sorted({instant for rule in ready for instant in (rule.from_ms, rule.until_ms)})
        self._plans: dict[tuple[str, str, str, int], Plan] = {}
        #: Countries in which a payment integration client keeps payments.
        self.routes = {pic: _countries(places, groups) or frozenset() for pic, places in routes.items()}

    @property
    def empty(self) -> bool:
        """Whether there is no rule, and no shadow."""
        return not self._ranked and self.shadow is None

    @property
    def rules(self) -> Sequence[Ready]:
        """Every rule, best first."""
        return self._ranked

    def plan(self, country: str, method: str, currency: str, at_ms: int) -> Plan:
        """The rules for payments of this kind that are received at ``at_ms``."""
        if not self._ranked:
            return _NOTHING
        key = (
            country if country in self._named else "",
            method if method in self._methods else "",
            currency if currency in self._currencies else "",
            bisect_right(self._boundaries, at_ms),
        )
        plan = self._plans.get(key)
        if plan is None:
            fitting = [rule for rule in self._ranked if misfit(rule, country, method, currency, at_ms) == ""]
            plan = Plan(fitting)
            if len(self._plans) >= PLANS_MAX:
                self._plans.clear()
            self._plans[key] = plan
        return plan


def misfit(rule: Ready, country: str, method: str, currency: str, at_ms: int) -> str:
    """Which filter of a plan keeps ``rule`` from a payment; empty when none does."""
    if rule.countries is not None and country not in rule.countries:
        return "country"
    if rule.methods is not None and method not in rule.methods:
        return "method"
    if rule.currencies is not None and currency not in rule.currencies:
        return "currency"
    if at_ms < rule.from_ms:
        return "from"
    return "until" if at_ms >= rule.until_ms else ""
