"""The library of fraud rules: each fires above its limit and under its conditions only, and says so in words."""

from __future__ import annotations

import hashlib

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.stages.features import PAYEE_FEATURES, PAYER_FEATURES, complete_payee, complete_payer
from pipeline.stages.fraud_library import FAST_IN_OUT, LIBRARY, LIBRARY_VERSION, needs_credits
from pipeline.stages.fraud_rules import AT, VALUES, Family, Hit, Ruleset, describe, ruleset, score_of, values_of
from schemas.tenant_rules import FraudRules, RuleTuning

#: What a tenant must name to switch it on.
NAMED = {name: RuleTuning() for name, rule in LIBRARY.items() if rule.opt_in}
#: Every rule as the library has it.
DEFAULTS = Ruleset(NAMED, LIBRARY)
DAY_S = 86_400
#: What differs from the payment of :func:`values`, by name.
Named = dict[str, float]


def values(**named: float) -> list[float]:
    """A dull payment of 30.00, for a payer and a payee of whom nothing stands out, but for what is named."""
    dull: Named = dict.fromkeys(VALUES, 0.0)
    dull |= {"amount_minor": 3_000, "payer_since_last_s": -1, "amount_to_mean": 1.0}
    dull |= {f"payer_count_{window}": 2.0 for window in ("1d", "7d")} | {"payer_count_30d": 20}
    dull |= {"payee_count_1d": 3, "payee_count_7d": 20, "payee_count_30d": 90, "payee_count_30d_delayed": 90}
    dull |= {"payer_amount_1d": 6_000, "payer_amount_7d": 9_000, "payee_amount_1d": 9_000, "payee_amount_30d": 270_000}
    assert named.keys() <= dull.keys(), named.keys() - dull.keys()
    return list((dull | named).values())


def fired(given: list[float], rules: Ruleset = DEFAULTS) -> dict[str, Hit]:
    """Hits by rule."""
    return {hit.rule: hit for hit in rules.hits(given)}


#: Per rule: a payment at its limit and one above it, and what it weighs there, worked out by hand as
#: ``ceiling - (ceiling - weight) * limit / value``.
CASES: dict[str, tuple[Named, Named, float]] = {
    "payer_velocity_1h": ({"payer_count_1h": 6}, {"payer_count_1h": 12}, 0.7),
    "payer_velocity_1d": ({"payer_count_1d": 20}, {"payer_count_1d": 40}, 0.7),
    "payer_velocity_7d": ({"payer_count_7d": 80}, {"payer_count_7d": 160}, 0.6),
    "payer_amount_1d": ({"payer_amount_1d": 1_000_000}, {"payer_amount_1d": 2_000_000}, 0.425),
    # 10 today after 23 in 23 days is 10 times one a day; 20 is 20 times.
    "payer_rise_1d": (
        {"payer_count_1d": 10, "payer_count_7d": 10, "payer_count_30d": 33},
        {"payer_count_1d": 20, "payer_count_7d": 20, "payer_count_30d": 43},
        0.425,
    ),
    "payee_burst_1h": ({"payee_count_1h": 200}, {"payee_count_1h": 800}, 0.85),
    "payee_velocity_1d": (
        {"payee_count_1d": 2_000, "payee_count_30d": 60_000},
        {"payee_count_1d": 4_000, "payee_count_30d": 60_000},
        0.55,
    ),
    # 40 today after 115 in 23 days is 8 times 5 a day; 80 is 16 times.
    "payee_rise_1d": (
        {"payee_count_1d": 40, "payee_count_7d": 40, "payee_count_30d": 155},
        {"payee_count_1d": 80, "payee_count_7d": 80, "payee_count_30d": 195},
        0.425,
    ),
    "payee_amount_rise_1d": (
        {"payee_count_1d": 10, "payee_count_7d": 10, "payee_amount_1d": 10_000, "payee_amount_30d": 39_000},
        {"payee_count_1d": 10, "payee_count_7d": 10, "payee_amount_1d": 20_000, "payee_amount_30d": 49_000},
        0.425,
    ),
    "card_testing_1d": (
        {"payer_count_1d": 8, "payer_amount_1d": 1_600},
        {"payer_count_1d": 16, "payer_amount_1d": 3_200},
        0.75,
    ),
    "small_amounts_1h": ({"payer_small_1h": 4}, {"payer_small_1h": 8}, 0.65),
    "probe_then_purchase_1h": (
        {"payer_small_1h": 2, "amount_to_mean": 3},
        {"payer_small_1h": 2, "amount_to_mean": 6},
        0.7,
    ),
    "many_cards_small_1d": (
        {"payee_cards_1d": 30, "payee_count_1d": 30, "payee_amount_1d": 6_000},
        {"payee_cards_1d": 60, "payee_count_1d": 60, "payee_amount_1d": 12_000},
        0.7,
    ),
    "payee_small_amounts_1h": ({"payee_small_1h": 60}, {"payee_small_1h": 120}, 0.6),
    "amount_unusual_30d": ({"amount_to_mean": 10}, {"amount_to_mean": 20}, 0.7),
    # ceiling 0.8: 0.8 - 0.45 / 2.
    "amount_outlier_30d": (
        {"payer_amount_z_milli": 4_000, "payer_count_30d": 10},
        {"payer_amount_z_milli": 8_000, "payer_count_30d": 10},
        0.575,
    ),
    "amount_high": ({"amount_minor": 1_000_000}, {"amount_minor": 2_000_000}, 0.4),
    "amount_round": ({"amount_minor": 50_000}, {"amount_minor": 60_000}, 0.1),
    "structuring_7d": (
        {"amount_minor": 950_000, "payer_amount_7d": 1_000_000},
        {"amount_minor": 950_000, "payer_amount_7d": 2_000_000},
        0.47,
    ),
    "night_high_amount": ({"night": 1, "amount_to_mean": 4}, {"night": 1, "amount_to_mean": 8}, 0.425),
    "first_payee_high_amount": (
        {"payer_payee_new": 1, "amount_to_mean": 4},
        {"payer_payee_new": 1, "amount_to_mean": 8},
        0.47,
    ),
    "new_payer_high_amount": (
        {"payer_count_30d": 1, "amount_minor": 200_000},
        {"payer_count_30d": 1, "amount_minor": 400_000},
        0.375,
    ),
    "payer_wakes_high_amount": (
        {"payer_since_last_s": 30 * DAY_S, "amount_minor": 50_000},
        {"payer_since_last_s": 60 * DAY_S, "amount_minor": 50_000},
        0.4,
    ),
    "country_mismatch": ({}, {"payer_country_mismatch": 1}, 0.1),
    "country_new_high_amount": (
        {"payer_country_new": 1, "amount_to_mean": 3},
        {"payer_country_new": 1, "amount_to_mean": 6},
        0.55,
    ),
    "country_changed_soon": (
        {"payer_country_changed": 1, "payer_since_last_s": 3_601},
        {"payer_country_changed": 1, "payer_since_last_s": 3_600},
        0.4,
    ),
    "payee_chargebacks_7d": (
        {"payee_count_7d": 40, "payee_chargebacks_7d": 2},
        {"payee_count_7d": 40, "payee_chargebacks_7d": 4},
        0.725,
    ),
    "payee_chargebacks_30d": (
        {"payee_count_30d": 20, "payee_chargebacks_30d": 1},
        {"payee_count_30d": 20, "payee_chargebacks_30d": 2},
        0.645,
    ),
    "payee_chargebacks_delayed": (
        {"payee_count_30d_delayed": 40, "payee_chargebacks_30d_delayed": 4},
        {"payee_count_30d_delayed": 40, "payee_chargebacks_30d_delayed": 8},
        0.595,
    ),
    # 9 of 300 is three times 1 of 100; 18 of 300 is six times.
    "payee_chargebacks_rise": (
        {
            "payee_count_7d": 300,
            "payee_chargebacks_7d": 9,
            "payee_count_30d_delayed": 100,
            "payee_chargebacks_30d_delayed": 1,
        },
        {
            "payee_count_7d": 300,
            "payee_chargebacks_7d": 18,
            "payee_count_30d_delayed": 100,
            "payee_chargebacks_30d_delayed": 1,
        },
        0.6,
    ),
    "payee_cards_1d": ({"payee_cards_1d": 400}, {"payee_cards_1d": 800}, 0.425),
    "payer_terminals_1d": ({"payer_terminals_1d": 10}, {"payer_terminals_1d": 20}, 0.7),
    "payer_terminals_7d": ({"payer_terminals_7d": 40}, {"payer_terminals_7d": 80}, 0.5),
    "payer_cards_1d": ({"payer_cards_1d": 3}, {"payer_cards_1d": 6}, 0.65),
    "payer_cards_7d": ({"payer_cards_7d": 5}, {"payer_cards_7d": 10}, 0.5),
    "payee_new_payers_1d": (
        {"payee_new_payers_1d": 90, "payee_count_1d": 100},
        {"payee_new_payers_1d": 100, "payee_count_1d": 100},
        0.2,
    ),
    "payee_new_payers_amount_1d": (
        {"payee_amount_1d": 2_000_000, "payee_new_payers_1d": 10, "payee_count_1d": 12},
        {"payee_amount_1d": 4_000_000, "payee_new_payers_1d": 10, "payee_count_1d": 12},
        0.47,
    ),
    "payee_without_past_1d": (
        {"payee_count_1d": 40, "payee_count_30d": 40},
        {"payee_count_1d": 80, "payee_count_30d": 80},
        0.375,
    ),
    # ceiling 0.59: 0.59 - 0.19 / 2.
    "fast_in_out_1d": (
        {"payer_passed_on_1d": 100_000, "payer_credited_1d": 110_000},
        {"payer_passed_on_1d": 200_000, "payer_credited_1d": 220_000},
        0.495,
    ),
}
by_rule = pytest.mark.parametrize("name", LIBRARY)

#: A payment above the limit that one condition stops, by rule and condition.
STOPPED: dict[tuple[str, str], Named] = {
    ("payer_rise_1d", "too few"): {"payer_count_1d": 7, "payer_count_7d": 7, "payer_count_30d": 12},
    ("payer_rise_1d", "too little past"): {"payer_count_1d": 20, "payer_count_7d": 20, "payer_count_30d": 24},
    ("payee_rise_1d", "too few"): {"payee_count_1d": 29, "payee_count_7d": 29, "payee_count_30d": 49},
    ("payee_rise_1d", "too little past"): {"payee_count_1d": 80, "payee_count_7d": 80, "payee_count_30d": 99},
    ("payee_amount_rise_1d", "too few"): {"payee_count_1d": 9, "payee_amount_1d": 99_000, "payee_amount_30d": 99_001},
    ("payee_amount_rise_1d", "too little past"): {
        "payee_count_1d": 10,
        "payee_count_7d": 71,
        "payee_amount_1d": 99_000,
        "payee_amount_30d": 99_001,
    },
    ("card_testing_1d", "usual amounts"): {"payer_count_1d": 16, "payer_amount_1d": 3_201},
    ("probe_then_purchase_1h", "one small payment"): {"payer_small_1h": 1, "amount_to_mean": 6},
    ("many_cards_small_1d", "usual amounts"): {
        "payee_cards_1d": 60,
        "payee_count_1d": 60,
        "payee_amount_1d": 12_001,
    },
    ("amount_outlier_30d", "too little history"): {"payer_amount_z_milli": 8_000, "payer_count_30d": 9},
    ("amount_round", "odd"): {"amount_minor": 60_001},
    ("structuring_7d", "above the limit"): {"amount_minor": 1_000_001, "payer_amount_7d": 2_000_001},
    ("structuring_7d", "far below the limit"): {"amount_minor": 899_999, "payer_amount_7d": 2_000_000},
    ("night_high_amount", "day"): {"amount_to_mean": 8},
    ("first_payee_high_amount", "known payee"): {"amount_to_mean": 8},
    ("new_payer_high_amount", "known payer"): {"payer_count_30d": 2, "amount_minor": 400_000},
    ("payer_wakes_high_amount", "small"): {"payer_since_last_s": 60 * DAY_S, "amount_minor": 49_999},
    ("country_new_high_amount", "known country"): {"amount_to_mean": 6},
    ("country_changed_soon", "same country"): {"payer_since_last_s": 10},
    ("country_changed_soon", "no payment before"): {"payer_country_changed": 1, "payer_since_last_s": -1},
    ("payee_chargebacks_7d", "one chargeback"): {"payee_count_7d": 20, "payee_chargebacks_7d": 1},
    ("payee_chargebacks_7d", "too few"): {"payee_count_7d": 19, "payee_chargebacks_7d": 19},
    ("payee_chargebacks_30d", "too few"): {"payee_count_30d": 19, "payee_chargebacks_30d": 19},
    ("payee_chargebacks_delayed", "too few"): {"payee_count_30d_delayed": 19, "payee_chargebacks_30d_delayed": 19},
    ("payee_chargebacks_delayed", "one"): {"payee_count_30d_delayed": 20, "payee_chargebacks_30d_delayed": 1},
    ("payee_chargebacks_rise", "two chargebacks"): {
        "payee_count_7d": 20,
        "payee_chargebacks_7d": 2,
        "payee_count_30d_delayed": 900,
        "payee_chargebacks_30d_delayed": 1,
    },
    ("payee_chargebacks_rise", "none before"): {"payee_count_7d": 300, "payee_chargebacks_7d": 18},
    ("payee_new_payers_1d", "few"): {"payee_new_payers_1d": 19, "payee_count_1d": 19},
    ("payee_new_payers_1d", "a new payee"): {
        "payee_new_payers_1d": 100,
        "payee_count_1d": 100,
        "payee_count_30d_delayed": 19,
    },
    ("payee_new_payers_amount_1d", "known payers"): {
        "payee_amount_1d": 4_000_000,
        "payee_new_payers_1d": 10,
        "payee_count_1d": 13,
    },
    ("payee_new_payers_amount_1d", "few"): {
        "payee_amount_1d": 4_000_000,
        "payee_new_payers_1d": 9,
        "payee_count_1d": 9,
    },
    ("payee_without_past_1d", "a past"): {"payee_count_1d": 80, "payee_count_30d": 81},
    ("fast_in_out_1d", "more of it stays"): {"payer_passed_on_1d": 200_000, "payer_credited_1d": 250_001},
}


def test_a_dull_payment_is_not_suspicious() -> None:
    """No rule fires, and there is no score."""
    assert DEFAULTS.hits(values()) == ()
    assert score_of((), LIBRARY) == 0.0


def test_there_are_enough_rules_and_each_has_its_case() -> None:
    """At least 25; a rule without a line in the tables above would not be tested."""
    assert len(LIBRARY) >= 25
    assert list(CASES) == list(LIBRARY)
    conditional = {name for name, rule in LIBRARY.items() if rule.conditions or rule.measure or len(rule.flags) > 1}
    conditional |= {name for name, rule in LIBRARY.items() if rule.flags and rule.limit}
    assert {name for name, _ in STOPPED} == conditional


@by_rule
def test_a_rule_fires_above_its_limit_and_not_at_it(name: str) -> None:
    """At the limit it is silent; at a multiple it weighs what the formula says."""
    quiet, loud, weight = CASES[name]
    assert name not in fired(values(**quiet))
    assert fired(values(**loud))[name].weight == pytest.approx(weight)


@pytest.mark.parametrize(("name", "why"), STOPPED)
def test_a_rule_does_not_fire_without_its_conditions(name: str, why: str) -> None:
    """Each condition stops it, however far above the limit the value is."""
    assert name not in fired(values(**STOPPED[name, why]))


@by_rule
def test_a_rule_can_be_switched_off(name: str) -> None:
    """What is disabled does not fire; the others do as before."""
    loud = values(**CASES[name][1])
    off = Ruleset(NAMED | {name: RuleTuning(enabled=False)}, LIBRARY)
    assert name not in off.names
    assert len(off.names) == len(LIBRARY) - 1
    assert fired(loud, off) == {rule: hit for rule, hit in fired(loud).items() if rule != name}


def test_what_costs_something_is_switched_on_by_naming_it() -> None:
    """With or without thresholds; a tenant that does not name it, or switches it off, needs no credits either."""
    assert [name for name, rule in LIBRARY.items() if rule.opt_in] == [FAST_IN_OUT]
    loud = values(**CASES[FAST_IN_OUT][1])
    for rules, on in (
        (FraudRules(), False),
        (FraudRules(rules={"amount_high": RuleTuning()}), False),
        (FraudRules(rules={FAST_IN_OUT: RuleTuning(enabled=False)}), False),
        (FraudRules(rules={FAST_IN_OUT: RuleTuning()}), True),
        (FraudRules(rules={FAST_IN_OUT: RuleTuning(thresholds={"share_bp_min": 9_000})}), True),
    ):
        assert (FAST_IN_OUT in fired(loud, ruleset(rules, LIBRARY))) is on
        assert needs_credits(rules) is on


@by_rule
def test_a_tenants_weight_holds(name: str) -> None:
    """A weight of 0 says nothing of a rule that does not grow; 1 is certain; in between it is what it is at the limit."""
    _quiet, loud, _ = CASES[name]
    certain = fired(values(**loud), Ruleset({name: RuleTuning(weight=1.0)}, LIBRARY))[name]
    assert certain.weight == 1.0
    tuned = fired(values(**loud), Ruleset({name: RuleTuning(weight=0.05)}, LIBRARY))[name]
    assert tuned.weight < fired(values(**loud))[name].weight
    if LIBRARY[name].limit is None or LIBRARY[name].ceiling == LIBRARY[name].weight:
        assert tuned.weight == 0.05


@by_rule
def test_every_threshold_moves_the_rule(name: str) -> None:
    """Set to the strictest, each threshold alone stops the loud case or lets the quiet one fire: none is without effect."""
    quiet, loud, _ = CASES[name]
    for threshold in LIBRARY[name].thresholds():
        changed = []
        for value in (0.0, threshold.high):
            tuned = Ruleset({name: RuleTuning(thresholds={threshold.name: value})}, LIBRARY)
            changed.append((name in fired(values(**quiet), tuned)) or (name not in fired(values(**loud), tuned)))
        assert any(changed), threshold.name


@by_rule
@given(times=st.lists(st.floats(1.0, 1_000.0), min_size=2, max_size=2))
def test_a_rule_is_monotone(name: str, times: list[float]) -> None:
    """The further above the limit, the more it weighs, up to its ceiling; never less than its weight."""
    rule = LIBRARY[name]
    if not rule.value or rule.measure is not None:
        return
    loud = CASES[name][1]
    weights = []
    for factor in sorted(times):
        weights.append(fired(values(**(loud | {rule.value: loud[rule.value] * factor})))[name].weight)
    assert rule.weight <= weights[0] <= weights[1] <= rule.ceiling


@by_rule
def test_a_rule_speaks_to_people(name: str) -> None:
    """Its sentence holds the value and the limit as people write them, and its meaning is a sentence."""
    rule, hit = LIBRARY[name], fired(values(**CASES[name][1]))[name]
    said = describe(rule, hit.value, hit.limit, "EUR")
    assert "{" not in said
    assert ("{value}" in rule.says) == (rule.limit is not None)
    assert not said.endswith(".")
    assert rule.about.endswith(".")
    for threshold in rule.thresholds():
        assert threshold.about
        assert threshold.name.endswith(("_max", "_min"))
        assert 0 < threshold.default <= threshold.high


@pytest.mark.parametrize(
    ("name", "value", "limit", "said"),
    [
        ("payer_velocity_1h", 7.0, 5.0, "7 payments of this payer in one hour, usual limit 5"),
        ("amount_unusual_30d", 12.25, 10.0, "12.2 times this payer's mean amount of 30 days, usual limit 10"),
        ("amount_high", 1_234_567.0, 1_000_000.0, "an amount of 12345.67 EUR, usual limit 10000.00 EUR"),
        (
            "payee_chargebacks_30d",
            1234.0,
            500.0,
            "12.3 % of this payee's payments of 30 days are charged back, usual limit 5 %",
        ),
        ("payer_wakes_high_amount", 45.5, 30.0, "45.5 days after this payer's last payment, usual limit 30"),
        ("country_mismatch", 1.0, 0.0, "not in the payer's own country"),
    ],
)
def test_what_is_said(name: str, value: float, limit: float, said: str) -> None:
    """Counts whole, amounts in their currency, shares in percent."""
    assert describe(LIBRARY[name], value, limit, "EUR") == said


def test_no_rule_refers_alone_at_its_limit_and_two_families_may() -> None:
    """What the library promises about its weights and the default thresholds."""
    refer_at = FraudRules().refer_at
    assert max(rule.weight for rule in LIBRARY.values()) < refer_at
    assert refer_at <= 1 - (1 - 0.4) * (1 - 0.4)
    honest = ("amount_high", "amount_round", "country_mismatch", "country_changed_soon", "new_payer_high_amount")
    honest += ("payer_amount_1d", "payer_rise_1d", "payee_rise_1d", "night_high_amount", "payer_wakes_high_amount")
    honest += ("fast_in_out_1d",)
    assert all(LIBRARY[name].ceiling < refer_at for name in honest)
    assert all(rule.weight <= rule.ceiling <= 1 for rule in LIBRARY.values())


def test_the_strongest_of_a_family_speaks_for_it() -> None:
    """Two rules of one family are one sign, of two families two: 1 - 0.3 * 0.15 = 0.955."""
    same = DEFAULTS.hits(values(payer_count_1h=12, payer_count_1d=40, payer_count_30d=900, payer_amount_1d=90_000))
    assert [hit.rule for hit in same] == ["payer_velocity_1d", "payer_velocity_1h"]
    assert score_of(same, LIBRARY) == pytest.approx(0.7)
    apart = DEFAULTS.hits(values(payer_terminals_1d=20, payee_count_1h=800))
    assert [hit.rule for hit in apart] == ["payee_burst_1h", "payer_terminals_1d"]
    assert score_of(apart, LIBRARY) == pytest.approx(0.955)


def test_a_snoozed_rule_is_told_and_weighs_nothing() -> None:
    """It is among the hits, marked, last; and another of its family then speaks."""
    loud = values(payer_count_1h=12, payer_count_1d=40, payer_count_30d=900, payer_amount_1d=90_000)
    hits = DEFAULTS.hits(loud, frozenset({"payer_velocity_1d"}))
    assert [(hit.rule, hit.snoozed) for hit in hits] == [("payer_velocity_1h", False), ("payer_velocity_1d", True)]
    assert hits[1] == Hit("payer_velocity_1d", 40.0, 20.0, 0.0, True)
    assert score_of(hits, LIBRARY) == pytest.approx(0.7)
    every = DEFAULTS.hits(loud, frozenset({"payer_velocity_1d", "payer_velocity_1h"}))
    assert score_of(every, LIBRARY) == 0.0


def test_a_limit_of_nothing_is_at_the_ceiling_at_once() -> None:
    """Above a limit of 0 there is no "just above"."""
    strict = Ruleset({"payee_burst_1h": RuleTuning(thresholds={"count_max": 0})}, LIBRARY)
    assert fired(values(payee_count_1h=1), strict)["payee_burst_1h"].weight == 1.0


numbers = st.integers(0, 10**9)


@given(
    st.lists(numbers, min_size=len(PAYER_FEATURES), max_size=len(PAYER_FEATURES)),
    st.lists(numbers, min_size=len(PAYEE_FEATURES), max_size=len(PAYEE_FEATURES)),
    st.integers(1, 10**13),
    st.integers(0, 2 * 10**12),
    st.sets(st.sampled_from(list(LIBRARY))),
)
def test_the_score_is_within_0_and_1_and_repeatable(
    payer: list[int], payee: list[int], amount_minor: int, at_ms: int, snoozed: set[str]
) -> None:
    """Whatever the numbers are, also absurd ones; snoozing never raises a score."""
    given_values = values_of(payer, payee, amount_minor, at_ms)
    assert len(given_values) == len(VALUES)
    hits = DEFAULTS.hits(given_values)
    score = score_of(hits, LIBRARY)
    assert 0.0 <= score <= 1.0
    assert DEFAULTS.hits(values_of(list(payer), list(payee), amount_minor, at_ms)) == hits
    assert {hit.rule for hit in DEFAULTS.hits(given_values, snoozed)} == {hit.rule for hit in hits}
    assert score_of(DEFAULTS.hits(given_values, snoozed), LIBRARY) <= score + 1e-12


def test_values_are_in_their_places() -> None:
    """Facts under their side's name, then the payment: night is UTC, the mean is that of the payer's others."""
    payer = [0] * len(PAYER_FEATURES)
    payer[PAYER_FEATURES.index("count_30d")] = 6
    payer[PAYER_FEATURES.index("amount_30d")] = 6_000
    payee = list(range(len(PAYEE_FEATURES)))
    found = dict(zip(VALUES, values_of(payer, payee, 1_000, 6 * 3_600_000 + 3_599_999), strict=True))
    # 1 000 against the mean of five others that are 5 000 together.
    assert (found["amount_minor"], found["night"], found["amount_to_mean"]) == (1_000, 1, 1.0)
    assert found["payee_count_1d"] == 1
    later = values_of(payer, payee, 1_000, 7 * 3_600_000)
    assert later[AT["night"]] == 0
    payer[PAYER_FEATURES.index("count_30d")] = 5
    assert values_of(payer, payee, 3_000, 0)[AT["amount_to_mean"]] == 0.0


def test_facts_of_an_earlier_set_fire_nothing_that_they_do_not_say() -> None:
    """Events of set 1 hold 9 and 10 facts, and are completed with the unknown."""
    old = values_of(complete_payer([1] * 9), complete_payee([1] * 10), 1_000, 0)
    assert len(old) == len(VALUES)
    assert old[AT["payer_since_last_s"]] == -1
    assert DEFAULTS.hits(old) == ()


def test_a_version_of_rules_is_made_once() -> None:
    """By the identity of the tenant's rules, not by their value."""
    rules = FraudRules()
    assert ruleset(rules, LIBRARY) is ruleset(rules, LIBRARY)
    assert ruleset(FraudRules(), LIBRARY) is not ruleset(FraudRules(), LIBRARY)


def test_a_changed_library_has_another_version() -> None:
    """Whoever changes a rule, a weight or a default raises LIBRARY_VERSION, and then the digest here."""
    told = [
        (r.name, r.family, r.value, r.weight, r.ceiling, r.flags, [(t.name, t.default) for t in r.thresholds()])
        for r in LIBRARY.values()
    ]
    digest = hashlib.sha256(msgspec.json.encode(told)).hexdigest()[:16]
    assert (LIBRARY_VERSION, digest) == (2, "8c482c5409686524")


def test_every_family_has_a_rule() -> None:
    """No family is empty."""
    assert {rule.family for rule in LIBRARY.values()} == set(Family)
