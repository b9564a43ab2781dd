"""Tax: the split of an amount, exact to the minor unit."""

from __future__ import annotations

from fractions import Fraction
from math import floor

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.stages.localities.tax import Tax, tax_of
from schemas.limits import AMOUNT_MINOR_MAX
from schemas.localities import TaxTerms

GERMANY = TaxTerms(rates_bp={"standard": 1900, "reduced": 700})

amounts = st.integers(0, AMOUNT_MINOR_MAX)
rates = st.integers(0, 5_000)


@pytest.mark.parametrize(
    ("amount_minor", "category", "tax"),
    [
        (11_900, "standard", Tax(10_000, 1_900, 1900)),
        (10_700, "reduced", Tax(10_000, 700, 700)),
        (10_700, "unheard_of", Tax(8_992, 1_708, 1900)),  # 1708.40: what is not named is taxed in full
        (1, "standard", Tax(1, 0, 1900)),  # 0.16
        (4, "standard", Tax(3, 1, 1900)),  # 0.64
        (0, "standard", Tax(0, 0, 1900)),
    ],
)
def test_a_price_contains_its_tax(amount_minor: int, category: str, tax: Tax) -> None:
    """119.00 EUR are 100.00 and 19 % of it."""
    assert tax_of(amount_minor, category, GERMANY) == tax


def test_a_rate_with_decimals_is_exact() -> None:
    """Finland's 25.5 %: 125.50 EUR are 100.00 and 25.50. France's 2.1 %: 102.10 are 100.00 and 2.10."""
    assert tax_of(12_550, "standard", TaxTerms(rates_bp={"standard": 2550})) == Tax(10_000, 2_550, 2550)
    assert tax_of(10_210, "super_reduced", TaxTerms(rates_bp={"standard": 2000, "super_reduced": 210})).tax_minor == 210


def test_a_half_goes_up_and_a_fraction_down_where_the_terms_say_so() -> None:
    """Of 33 JPY with 10 % in it 3 are tax; of 28 JPY 2.54: 3 to the nearest, 2 where fractions are dropped.
    On 5 cents net, 10 % are half a cent."""
    half_up, down = TaxTerms(rates_bp={"standard": 1000}), TaxTerms(rates_bp={"standard": 1000}, rounding="down")
    assert tax_of(33, "standard", half_up).tax_minor == tax_of(33, "standard", down).tax_minor == 3
    assert (tax_of(28, "standard", half_up).tax_minor, tax_of(28, "standard", down).tax_minor) == (3, 2)
    on_top = TaxTerms(rates_bp={"standard": 1000}, inclusive=False)
    assert tax_of(5, "standard", on_top) == Tax(5, 1, 1000)
    assert tax_of(4, "standard", on_top) == Tax(4, 0, 1000)


@given(amount_minor=amounts, rate_bp=rates, rounding=st.sampled_from(["half_up", "down"]))
def test_net_and_tax_are_the_amount(amount_minor: int, rate_bp: int, rounding: str) -> None:
    """To the minor unit, and the tax is within one unit of the fraction that it is."""
    terms = TaxTerms(rates_bp={"standard": rate_bp}, rounding=rounding)  # type: ignore[arg-type]
    tax = tax_of(amount_minor, "standard", terms)
    assert tax.net_minor + tax.tax_minor == amount_minor
    assert tax.net_minor >= 0 and tax.tax_minor >= 0
    exact = Fraction(amount_minor * rate_bp, 10_000 + rate_bp)
    assert tax.tax_minor == (floor(exact + Fraction(1, 2)) if rounding == "half_up" else floor(exact))


@given(net_minor=st.integers(0, AMOUNT_MINOR_MAX // 2), rate_bp=rates)
def test_tax_on_top_is_the_tax_in_the_sum(net_minor: int, rate_bp: int) -> None:
    """A price made of net and tax is split into the same net and tax again: a cashier and a book agree."""
    on_top = tax_of(net_minor, "standard", TaxTerms(rates_bp={"standard": rate_bp}, inclusive=False))
    inside = tax_of(net_minor + on_top.tax_minor, "standard", TaxTerms(rates_bp={"standard": rate_bp}))
    assert (inside.net_minor, inside.tax_minor) == (net_minor, on_top.tax_minor)


@given(amount_minor=amounts, more=st.integers(0, 1_000), rate_bp=rates)
def test_more_is_never_taxed_less(amount_minor: int, more: int, rate_bp: int) -> None:
    terms = TaxTerms(rates_bp={"standard": rate_bp})
    assert tax_of(amount_minor, "", terms).tax_minor <= tax_of(amount_minor + more, "", terms).tax_minor
