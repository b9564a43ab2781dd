"""Fraud: named rules, their weights, the score, the tenant's thresholds."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.stages import fraud
from pipeline.stages.fraud import Approved, Declined, Referred, assess
from pipeline.stages.profiles import PAYEE_FEATURES, PAYER_FEATURES
from schemas.reasons import Reason
from schemas.tenant_rules import FraudRules

RULES = FraudRules()


def payer(**named: int) -> list[int]:
    """Features of a payer with this payment of 1 000 as the first one, but for what is named."""
    usual = {name: 1 if "count" in name or "terminals" in name else 1_000 for name in PAYER_FEATURES}
    assert named.keys() <= usual.keys()
    return list((usual | named).values())


def payee(**named: int) -> list[int]:
    """Features of a payee with this payment as the only one, but for what is named."""
    usual = {name: 0 if "chargebacks" in name or "delayed" in name else 1 for name in PAYEE_FEATURES}
    assert named.keys() <= usual.keys()
    return list((usual | named).values())


def test_an_unknown_payer_at_an_unknown_payee_is_approved() -> None:
    """Nothing is known, nothing is held against anybody."""
    assert assess(payer(), payee(), 1_000, RULES) == Approved(0.0, ())


@pytest.mark.parametrize(
    ("name", "quiet", "loud", "score"),
    [
        # Base weight 0.4 at the limit of 20; at 40 it is 1 - 0.6 * 20 / 40.
        (
            "payer_velocity_1d",
            (payer(count_1d=20, amount_1d=99_999), payee()),
            (payer(count_1d=40, amount_1d=99_999), payee()),
            0.7,
        ),
        # Limit 5 terminals; 10 are twice that.
        ("payer_terminals_1d", (payer(terminals_1d=5), payee()), (payer(terminals_1d=10), payee()), 0.7),
        # Limit 200 in two clock hours; 800 are four times that: 1 - 0.6 / 4.
        ("payee_burst_1h", (payer(), payee(count_1h=200)), (payer(), payee(count_1h=800)), 0.85),
        # Limit 5 %; 2 of 20 are 10 %: 1 - 0.5 / 2.
        (
            "payee_chargebacks_30d",
            (payer(), payee(count_30d=20, chargebacks_30d=1)),
            (payer(), payee(count_30d=20, chargebacks_30d=2)),
            0.75,
        ),
        # Limit 8 payments of 2.00 on average; 16 are twice that.
        (
            "card_testing_1d",
            (payer(count_1d=8, amount_1d=800), payee()),
            (payer(count_1d=16, amount_1d=3_200), payee()),
            0.75,
        ),
        # Limit 100 times the mean; 1 000 is 100 times the mean of five others of 10, and 200 times that of five of 5.
        (
            "amount_unusual_30d",
            (payer(count_30d=6, amount_30d=1_050), payee()),
            (payer(count_30d=6, amount_30d=1_025), payee()),
            0.7,
        ),
    ],
)
def test_a_rule_fires_above_its_limit_and_weighs_more_far_above(
    name: str, quiet: tuple[list[int], list[int]], loud: tuple[list[int], list[int]], score: float
) -> None:
    """At the limit a rule is silent; at a multiple of it, it weighs what the formula says."""
    rules = RULES if name != "amount_unusual_30d" else FraudRules(amount_to_mean_max=100.0)
    assert assess(*quiet, 1_000, rules) == Approved(0.0, ())
    answer = assess(*loud, 1_000, rules)
    assert answer.reasons == (name,)
    assert answer.score == pytest.approx(score)


def test_the_mean_needs_five_earlier_payments() -> None:
    """Four others say nothing about what is usual, five do."""
    assert assess(payer(count_30d=5, amount_30d=1_004), payee(), 1_000, RULES).reasons == ()
    assert assess(payer(count_30d=6, amount_30d=1_005), payee(), 1_000, RULES).reasons == ("amount_unusual_30d",)


def test_the_share_of_chargebacks_needs_twenty_payments() -> None:
    """19 of 19 say nothing yet."""
    assert assess(payer(), payee(count_30d=19, chargebacks_30d=19), 1_000, RULES).reasons == ()
    assert assess(payer(), payee(count_30d=20, chargebacks_30d=19), 1_000, RULES).reasons == ("payee_chargebacks_30d",)


def test_many_payments_of_usual_amounts_are_no_card_testing() -> None:
    """16 payments of 2.01 on average are above the mean that card testing has."""
    assert assess(payer(count_1d=16, amount_1d=3_216), payee(), 1_000, RULES).reasons == ()


def test_two_weak_signs_make_a_strong_one_and_the_strongest_comes_first() -> None:
    """Weights 0.7 and 0.85: 1 - 0.3 * 0.15 = 0.955."""
    answer = assess(payer(terminals_1d=10), payee(count_1h=800), 1_000, RULES)
    assert isinstance(answer, Declined)
    assert answer.score == pytest.approx(0.955)
    assert answer.reasons == ("payee_burst_1h", "payer_terminals_1d")


def test_the_tenants_thresholds_decide() -> None:
    """Equal to a threshold is enough, and each answer has its reason."""
    loud = payer(terminals_1d=10), payee()
    score = assess(*loud, 1_000, RULES).score
    assert isinstance(assess(*loud, 1_000, FraudRules(refer_at=score + 0.01, decline_at=1.0)), Approved)
    referred = assess(*loud, 1_000, FraudRules(refer_at=score, decline_at=1.0))
    assert isinstance(referred, Referred)
    assert referred.reason is Reason.FRAUD_SCORE_RAISED
    declined = assess(*loud, 1_000, FraudRules(refer_at=0.1, decline_at=score))
    assert isinstance(declined, Declined)
    assert declined.reason is Reason.FRAUD_SCORE_HIGH


def test_a_limit_of_nothing_is_certain() -> None:
    """Above a limit of 0 a rule weighs 1, whatever else there is."""
    assert assess(payer(), payee(), 1_000, FraudRules(payee_count_1h_max=0)) == Declined(1.0, ("payee_burst_1h",))


counts = st.integers(0, 10**9)


@given(
    st.lists(counts, min_size=len(PAYER_FEATURES), max_size=len(PAYER_FEATURES)),
    st.lists(counts, min_size=len(PAYEE_FEATURES), max_size=len(PAYEE_FEATURES)),
    st.integers(1, 10**13),
    st.integers(0, 100),
)
def test_the_score_is_within_0_and_1_and_repeatable(
    payer_features: list[int], payee_features: list[int], amount_minor: int, limit: int
) -> None:
    """Whatever the numbers are, also absurd ones; the same numbers give the same answer."""
    rules = FraudRules(payer_count_1d_max=limit, payer_terminals_1d_max=limit, payee_count_1h_max=limit)
    answer = assess(payer_features, payee_features, amount_minor, rules)
    assert 0.0 <= answer.score <= 1.0
    assert (answer.score > 0) == bool(answer.reasons)
    assert assess(list(payer_features), list(payee_features), amount_minor, rules) == answer
    assert len(answer.reasons) == len(set(answer.reasons)) <= 6


def test_the_bases_do_not_refer_alone_and_do_in_pairs() -> None:
    """What the module promises about its default weights and thresholds."""
    bases = sorted(value for name, value in vars(fraud).items() if name.endswith("_BASE"))
    assert len(bases) == 6
    assert bases[-1] < RULES.refer_at
    assert 1 - (1 - bases[0]) * (1 - bases[1]) >= RULES.refer_at
