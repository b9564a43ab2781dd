"""Fraud rules: what a rule is, how a tenant tunes it, and how those that fire make a score. Pure.

A rule compares one value with one limit, under conditions; :mod:`pipeline.stages.fraud_library` holds them all, as data.
One whose value is above its limit weighs ``ceiling - (ceiling - weight) * limit / value``: its weight just above the limit,
nearing its ceiling the further above (at once when the limit is 0). A rule without a limit fires by its conditions alone
and has one weight.

Rules of one family see the same thing from several sides, so the strongest of a family speaks for it, and the score is
``1 - (1 - w1) * (1 - w2) * ...`` over the families: within 0 and 1, raised by every family, lowered by none. A snoozed rule
is said to have fired, and weighs nothing.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final, NamedTuple

from pipeline.stages.features import PAYEE, PAYEE_FEATURES, PAYER, PAYER_FEATURES
from pipeline.stages.profiles import HOUR_MS
from pipeline.stages.windows import DAY_HOURS
from schemas.money import UnknownCurrencyError, format_amount
from schemas.tenant_rules import FraudRules, RuleTuning

#: A mean of fewer payments than this says nothing about a payer.
MEAN_PAYMENTS_MIN: Final = 5
#: 0:00 to 6:59, as the Fraud Detection Handbook has it (hour <= 6).
NIGHT_HOUR_MAX: Final = 6
SECONDS_OF_HOUR: Final = 60 * 60
SECONDS_OF_DAY: Final = DAY_HOURS * SECONDS_OF_HOUR

#: What a rule may look at, by place: the facts of payer and payee (pipeline/stages/features.py) under their side's name,
#: then the payment itself.
VALUES: Final[tuple[str, ...]] = (
    *(f"payer_{name}" for name in PAYER_FEATURES),
    *(f"payee_{name}" for name in PAYEE_FEATURES),
    "amount_minor",
    "night",
    #: The amount against the mean of the payer's others of 30 days; 0 while there are fewer than MEAN_PAYMENTS_MIN.
    "amount_to_mean",
)
#: What each is, in words.
ABOUT: Final[dict[str, str]] = {
    **{f"payer_{feature.name}": feature.about for feature in PAYER},
    **{f"payee_{feature.name}": feature.about for feature in PAYEE},
    "amount_minor": "the payment's amount in minor units",
}
#: The place of each value.
AT: Final[dict[str, int]] = {name: at for at, name in enumerate(VALUES)}

_COUNT_30D = PAYER_FEATURES.index("count_30d")
_AMOUNT_30D = PAYER_FEATURES.index("amount_30d")

Values = Sequence[float]
Thresholds = Mapping[str, float]
#: The value that is compared with the limit; 0 or less when there is none.
Measure = Callable[[Values, Thresholds], float]


class Family(StrEnum):
    """What a rule is a sign of."""

    PAYER_VELOCITY = "payer velocity"
    PAYEE_VELOCITY = "payee velocity"
    CARD_TESTING = "card testing"
    AMOUNT = "amount"
    GEOGRAPHY = "geography"
    TERMINAL = "compromised terminal"
    SPREAD = "stolen card"
    MULE = "mule account"


@dataclass(frozen=True, slots=True)
class Threshold:
    """A number that a tenant may set, within 0 and ``high``. Its name ends in its unit, before ``_max`` or ``_min``."""

    name: str
    default: float
    high: float
    about: str


@dataclass(frozen=True, slots=True)
class Condition:
    """A value of :data:`VALUES` must be at least the threshold, or ``at_most`` it. ``scale`` values are one of its unit."""

    value: str
    threshold: Threshold
    at_most: bool = False
    scale: float = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """One rule, as data."""

    name: str
    family: Family
    #: What it is a sign of, for those who tune it.
    about: str
    #: What is said of a payment, with ``{value}`` and ``{limit}``.
    says: str
    weight: float
    #: What it weighs far above its limit; ``weight`` itself when it does not grow.
    ceiling: float
    #: One of :data:`VALUES`, ``scale`` of which are one of the limit's unit; empty when ``measure`` makes the value, or
    #: when flags and conditions are all. With ``measure``, a value that it never exceeds.
    value: str = ""
    scale: float = 1.0
    measure: Measure | None = None
    limit: Threshold | None = None
    #: What ``measure`` needs besides.
    settings: tuple[Threshold, ...] = ()
    conditions: tuple[Condition, ...] = ()
    #: Values that must be 1.
    flags: tuple[str, ...] = ()
    #: Switched on only where a tenant names it: what it looks at costs something that other payments need not pay.
    opt_in: bool = False

    def thresholds(self) -> tuple[Threshold, ...]:
        """All that a tenant may set, the limit first."""
        limit = (self.limit,) if self.limit else ()
        return *limit, *self.settings, *(condition.threshold for condition in self.conditions)

    def is_on(self, tuned: Mapping[str, RuleTuning]) -> bool:
        """Whether it is switched on for a tenant that has ``tuned`` so."""
        tuning = tuned.get(self.name)
        return not self.opt_in if tuning is None else tuning.enabled


class Hit(NamedTuple):
    """A rule that fired. ``weight`` is what it adds, 0 when it is snoozed."""

    rule: str
    value: float
    limit: float
    weight: float
    snoozed: bool = False


def values_of(payer: Sequence[int], payee: Sequence[int], amount_minor: int, requested_at_ms: int) -> list[float]:
    """What :data:`VALUES` names. ``payer`` and ``payee`` are complete facts once the payment itself is counted."""
    # The payment itself is among those of the last 30 days: the mean is that of the others.
    others, rest = payer[_COUNT_30D] - 1, payer[_AMOUNT_30D] - amount_minor
    to_mean = amount_minor * others / rest if others >= MEAN_PAYMENTS_MIN and rest > 0 else 0.0
    night = requested_at_ms // HOUR_MS % DAY_HOURS <= NIGHT_HOUR_MAX
    return [*payer, *payee, amount_minor, night, to_mean]


class Ruleset:
    """The rules of one version of a tenant's configuration, ready to be asked."""

    __slots__ = ("_groups", "names")

    def __init__(self, tuned: Mapping[str, RuleTuning], library: Mapping[str, Rule]) -> None:
        checks = [_Check(rule, tuned.get(name, _UNTUNED)) for name, rule in library.items() if rule.is_on(tuned)]
        by_trigger: dict[int, list[_Check]] = {}
        for check in checks:
            by_trigger.setdefault(check.trigger_at, []).append(check)
        # What must be above what for some rules to be looked at: nearly all payments pass by nearly all rules here.
        self._groups = tuple((at, min(c.above for c in group), tuple(group)) for at, group in by_trigger.items())
        #: The rules that are switched on.
        self.names = tuple(check.name for check in checks)

    def hits(self, values: Values, snoozed: Collection[str] = ()) -> tuple[Hit, ...]:
        """The rules that fire, strongest first; ``snoozed`` names those that weigh nothing. ``values`` as VALUES says."""
        found: list[Hit] | None = None
        for at, above, checks in self._groups:
            value = values[at]
            if value > above:
                for check in checks:
                    if value > check.above and (hit := check.hit(values)) is not None:
                        if hit.rule in snoozed:
                            hit = Hit(hit.rule, hit.value, hit.limit, 0.0, True)
                        if found is None:
                            found = []
                        found.append(hit)
        if found is None:
            return ()
        found.sort(key=_strongest_first)
        return tuple(found)


class _Check:
    """One rule with a tenant's thresholds in place."""

    __slots__ = (
        "above",
        "ceiling",
        "flags",
        "limit",
        "lows",
        "measure",
        "name",
        "scale",
        "thresholds",
        "tops",
        "trigger_at",
        "value_at",
        "weight",
    )

    def __init__(self, rule: Rule, tuning: RuleTuning) -> None:
        self.name = rule.name
        self.weight = rule.weight if tuning.weight is None else tuning.weight
        # A rule that does not grow has the tenant's weight, and one whose weight is above the ceiling grows no more.
        self.ceiling = max(rule.ceiling, self.weight) if rule.ceiling > rule.weight else self.weight
        self.thresholds = {each.name: tuning.thresholds.get(each.name, each.default) for each in rule.thresholds()}
        self.limit = self.thresholds[rule.limit.name] if rule.limit else 0.0
        self.measure, self.scale = rule.measure, rule.scale
        self.value_at = AT[rule.value] if rule.value else -1
        self.flags = tuple(AT[name] for name in rule.flags)
        bounds = [(each, AT[each.value], self.thresholds[each.threshold.name] * each.scale) for each in rule.conditions]
        self.lows = tuple((at, bound) for each, at, bound in bounds if not each.at_most)
        self.tops = tuple((at, bound) for each, at, bound in bounds if each.at_most)
        # One comparison that must hold for the rule to fire; the rarest that there is.
        if self.value_at >= 0:
            self.trigger_at, self.above = self.value_at, self.limit * self.scale
        elif self.flags:
            self.trigger_at, self.above = self.flags[0], 0.0
        else:
            self.trigger_at, self.above = self.lows[0][0], math.nextafter(self.lows[0][1], -math.inf)

    def hit(self, values: Values) -> Hit | None:
        """What it says of ``values``; None when it does not fire."""
        for at in self.flags:
            if not values[at]:
                return None
        for at, low in self.lows:
            if values[at] < low:
                return None
        for at, top in self.tops:
            if not 0 <= values[at] <= top:
                return None
        if self.measure is not None:
            value = self.measure(values, self.thresholds)
        elif self.value_at >= 0:
            value = values[self.value_at] / self.scale
        else:
            return Hit(self.name, 1.0, 0.0, self.weight)
        if value <= self.limit:
            return None
        weight = self.ceiling - (self.ceiling - self.weight) * self.limit / value
        return Hit(self.name, value, self.limit, weight)


_UNTUNED = RuleTuning()


def score_of(hits: Sequence[Hit], library: Mapping[str, Rule]) -> float:
    """The score of rules that fired, 0 to 1: no hit is 0. ``hits`` are strongest first."""
    unlikely = 1.0
    families: list[Family] = []
    for hit in hits:
        family = library[hit.rule].family
        if family not in families:
            families.append(family)
            unlikely *= 1.0 - hit.weight
    return 1.0 - unlikely


def describe(rule: Rule, value: float, limit: float, currency: str) -> str:
    """What a person reads: "7 payments in one hour, usual limit 5". Amounts in ``currency``."""
    unit = rule.limit.name if rule.limit else ""
    return rule.says.format(value=shown(value, unit, currency), limit=shown(limit, unit, currency))


def shown(value: float, unit: str, currency: str = "") -> str:
    """``value`` in the unit that a threshold's name ends in; minor units where ``currency`` is not known."""
    if "_minor_" in unit:
        try:
            return format_amount(round(value), currency)
        except UnknownCurrencyError:
            return f"{round(value):,} minor units"
    if "_bp_" in unit:
        return f"{value / 100:.3g} %"
    return f"{value:,.0f}" if value == int(value) else f"{value:,.1f}"


def _strongest_first(hit: Hit) -> tuple[float, str]:
    return -hit.weight, hit.rule


#: By the identity of a tenant's rules: a version's rules are one object for as long as it is in force.
_RULESETS: dict[int, tuple[FraudRules, Ruleset]] = {}
#: Versions in force at once are one per tenant; more than this and all are made anew.
_RULESETS_MAX: Final = 4096


def ruleset(rules: FraudRules, library: Mapping[str, Rule]) -> Ruleset:
    """The rules of one version, made once."""
    known = _RULESETS.get(id(rules))
    if known is not None and known[0] is rules:
        return known[1]
    if len(_RULESETS) >= _RULESETS_MAX:
        _RULESETS.clear()
    made = Ruleset(rules.rules, library)
    _RULESETS[id(rules)] = rules, made
    return made
