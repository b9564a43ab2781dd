"""Fees: exact integers, tiers, least and most."""

from __future__ import annotations

from fractions import Fraction
from math import floor

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.stages.rules.fees import fee_minor
from schemas.business_rules import FeeRules, Tier
from schemas.money import rounded

TIERS = {
    "EUR": [
        Tier(percent_bp=200, fixed_minor=10),
        Tier(above_minor=10_000, percent_bp=150, fixed_minor=5),
        Tier(above_minor=100_000, percent_bp=100),
    ]
}


@pytest.mark.parametrize(
    ("amount_minor", "whole", "part"),
    [
        (0, 10, 10),
        (10_000, 210, 210),  # A bound belongs to the tier below it.
        (10_001, 155, 205),  # 150.015 -> 150, + 5; 200 + 0.015 -> 200, + 5.
        (100_000, 1_505, 1_555),  # 200 + 90 000 at 1.5 % = 1 550, + 5.
        (200_000, 2_000, 2_550),  # 200 + 1 350 + 1 000.
    ],
)
def test_tiers_count_for_the_whole_amount_or_for_their_part(amount_minor: int, whole: int, part: int) -> None:
    """Worked out by hand."""
    assert fee_minor(amount_minor, "EUR", FeeRules(tiers=TIERS)) == whole
    assert fee_minor(amount_minor, "EUR", FeeRules(tiers=TIERS, tiers_apply="part")) == part


def test_another_currency_has_the_flat_rate() -> None:
    """Tiers are for the currencies that they name."""
    assert fee_minor(10_000, "CHF", FeeRules(percent_bp=100, fixed_minor={"CHF": 3}, tiers=TIERS)) == 103


@pytest.mark.parametrize(("amount_minor", "fee"), [(100, 30), (10_000, 150), (100_000, 500)])
def test_the_least_and_the_most_apply_last(amount_minor: int, fee: int) -> None:
    """1.5 % of 1.00 is 0.02, at least 0.30; of 1 000.00 it is 15.00, at most 5.00."""
    assert (
        fee_minor(amount_minor, "EUR", FeeRules(percent_bp=150, min_minor={"EUR": 30}, cap_minor={"EUR": 500})) == fee
    )


@pytest.mark.parametrize(
    ("how", "results"),
    [("half_up", [0, 1, 2, 2, 3]), ("half_even", [0, 0, 2, 2, 2]), ("down", [0, 0, 1, 1, 2]), ("up", [1, 1, 2, 2, 3])],
)
def test_how_halves_are_rounded(how: str, results: list[int]) -> None:
    """1/4, 1/2, 3/2, 7/4, 5/2."""
    numbers = [(1, 4), (1, 2), (3, 2), (7, 4), (5, 2)]
    assert [rounded(numerator, denominator, how) for numerator, denominator in numbers] == results


def test_another_word_is_refused() -> None:
    """Nothing is rounded by accident."""
    with pytest.raises(ValueError, match="half_up"):
        rounded(1, 2, "bankers")


_tiers = st.lists(
    st.tuples(st.integers(1, 10**9), st.integers(0, 10_000), st.integers(0, 10**6)),
    max_size=6,
    unique_by=lambda tier: tier[0],
)


@given(st.integers(0, 10**13), _tiers, st.booleans(), st.sampled_from(["half_up", "down", "up", "half_even"]))
def test_tiers_are_exact(amount_minor: int, drawn: list[tuple[int, int, int]], part: bool, how: str) -> None:
    """As with fractions, the whole sum rounded once: at most one unit from it, and never a float."""
    tiers = [Tier(percent_bp=250, fixed_minor=1)]
    tiers += [Tier(above_minor=above, percent_bp=bp, fixed_minor=fixed) for above, bp, fixed in sorted(drawn)]
    bounds = [tier.above_minor for tier in tiers[1:]] + [amount_minor]
    inside = [tier for tier in tiers if amount_minor > tier.above_minor] or tiers[:1]
    if part:
        exact = sum(
            (Fraction((min(amount_minor, bound) - tier.above_minor) * tier.percent_bp, 10_000))
            for tier, bound in zip(inside, [*bounds[: len(inside) - 1], amount_minor], strict=True)
        )
    else:
        exact = Fraction(amount_minor * inside[-1].percent_bp, 10_000)
    rules = FeeRules(tiers={"EUR": tiers}, tiers_apply="part" if part else "whole", rounding=how)  # type: ignore[arg-type]
    share = fee_minor(amount_minor, "EUR", rules) - inside[-1].fixed_minor
    assert abs(share - exact) < 1
    if how == "half_up":
        assert share == floor(exact + Fraction(1, 2))


@given(st.integers(0, 10**13), st.integers(0, 10**13), _tiers)
def test_with_parts_more_never_costs_less(one: int, other: int, drawn: list[tuple[int, int, int]]) -> None:
    """The share of tiers that count for their part grows with the amount; whole tiers may not."""
    tiers = [Tier(percent_bp=250), *(Tier(above_minor=above, percent_bp=bp) for above, bp, _ in sorted(drawn))]
    rules = FeeRules(tiers={"EUR": tiers}, tiers_apply="part")
    low, high = sorted((one, other))
    assert fee_minor(low, "EUR", rules) <= fee_minor(high, "EUR", rules)


@given(st.integers(0, 10**13), st.integers(0, 10_000), st.integers(0, 10**6), st.integers(0, 10**6))
def test_a_fee_is_between_its_least_and_its_most(amount_minor: int, percent_bp: int, low: int, more: int) -> None:
    """Whatever the amount."""
    rules = FeeRules(percent_bp=percent_bp, min_minor={"EUR": low}, cap_minor={"EUR": low + more})
    assert low <= fee_minor(amount_minor, "EUR", rules) <= low + more
