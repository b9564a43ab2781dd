"""Cash rounding, surcharges and languages of a place."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.stages.localities.cash import round_cash
from pipeline.stages.localities.locale import locale_for
from pipeline.stages.localities.surcharge import surcharge_allowed_minor
from schemas.limits import AMOUNT_MINOR_MAX
from schemas.localities import CashRoundingTerms, LocaleTerms, SurchargeTerms

FIVE = CashRoundingTerms(step_minor=5)


@pytest.mark.parametrize(
    ("step_minor", "amount_minor", "cash_minor"),
    [
        # Finland, Act 890/2000: 1, 2, 6 and 7 cents down, 3, 4, 8 and 9 up.
        *[(5, 1_000 + cents, 1_000 + to) for cents, to in enumerate([0, 0, 0, 5, 5, 5, 5, 5, 10, 10, 10])],
        # Sweden, Act 1970:1028: up to 49 ore down, from 50 up.
        (100, 1_049, 1_000),
        (100, 1_050, 1_100),
        (100, 1_099, 1_100),
        # Denmark: to the nearest 50 ore; 24 down, 25 to 50, 74 to 50, 75 up.
        (50, 1_024, 1_000),
        (50, 1_025, 1_050),
        (50, 1_074, 1_050),
        (50, 1_075, 1_100),
        # Hungary, Act III of 2008: 0.01 to 2.49 to 0, 2.50 to 4.99 to 5, 5.01 to 7.49 to 5, 7.50 to 9.99 to 10.
        (500, 100_249, 100_000),
        (500, 100_250, 100_500),
        (500, 100_749, 100_500),
        (500, 100_750, 101_000),
        # Switzerland, 0.05: 7.5 centimes do not exist, 7 is 5, 8 is 10.
        (5, 1_987, 1_985),
        (5, 1_988, 1_990),
    ],
)
def test_cash_is_rounded_as_the_law_says(step_minor: int, amount_minor: int, cash_minor: int) -> None:
    """The examples of the laws."""
    assert round_cash(amount_minor, CashRoundingTerms(step_minor=step_minor)) == cash_minor


def test_where_nothing_is_free_two_cents_are_five() -> None:
    """Slovakia: an amount of 1 or 2 cents is 5; nothing stays nothing."""
    terms = CashRoundingTerms(step_minor=5, least_minor=5)
    assert [round_cash(cents, terms) for cents in (0, 1, 2, 3, 7, 8)] == [0, 5, 5, 5, 5, 10]
    assert round_cash(2, FIVE) == 0


@given(amount_minor=st.integers(0, AMOUNT_MINOR_MAX), step=st.sampled_from([1, 5, 50, 100, 500]))
def test_cash_is_the_nearest_multiple(amount_minor: int, step: int) -> None:
    cash_minor = round_cash(amount_minor, CashRoundingTerms(step_minor=step))
    assert cash_minor % step == 0
    assert -step < 2 * (amount_minor - cash_minor) < step or 2 * (cash_minor - amount_minor) == step
    assert round_cash(cash_minor, CashRoundingTerms(step_minor=step)) == cash_minor


def test_a_banned_surcharge_is_nothing_at_all() -> None:
    assert surcharge_allowed_minor(10_000, "consumer", SurchargeTerms()) == 0


def test_a_capped_surcharge_is_a_share_of_the_price_without_it() -> None:
    """2 % on 100.00 USD is 2.00 in 102.00; the fraction of a cent stays with the payer."""
    colorado = SurchargeTerms(max_bp=200)
    assert surcharge_allowed_minor(10_200, "", colorado) == 200
    assert surcharge_allowed_minor(10_199, "", colorado) == 199


def test_terms_for_some_cards_say_nothing_about_others() -> None:
    """Commercial cards are outside article 62(4) of Directive (EU) 2015/2366."""
    consumer = SurchargeTerms(card_categories=["consumer"])
    assert surcharge_allowed_minor(10_000, "", consumer) == 0
    assert surcharge_allowed_minor(10_000, "consumer", consumer) == 0
    assert surcharge_allowed_minor(10_000, "commercial", consumer) is None


@given(price_minor=st.integers(0, AMOUNT_MINOR_MAX), max_bp=st.integers(0, 1_000))
def test_a_surcharge_at_the_cap_is_allowed_and_one_more_is_not(price_minor: int, max_bp: int) -> None:
    terms = SurchargeTerms(max_bp=max_bp)
    most = price_minor * max_bp // 10_000
    assert surcharge_allowed_minor(price_minor + most, "", terms) == most
    assert surcharge_allowed_minor(price_minor + most + 1, "", terms) in (most, most + 1)  # the price may be 1 higher
    over = surcharge_allowed_minor(price_minor + most + 1, "", terms)
    assert over is not None and 10_000 * over <= (price_minor + most + 1 - over) * max_bp


@pytest.mark.parametrize(
    ("asked", "given_back"),
    [
        ("", "de-CH"),
        ("fr-CH", "fr-CH"),
        ("FR_ch", "fr-CH"),
        ("fr", "fr-CH"),
        ("fr-CA", "fr-CH"),
        ("it-Latn-IT", "it-CH"),
        ("en-GB", "en"),
        ("rm", "de-CH"),
        ("x" * 200, "de-CH"),
        ("-", "de-CH"),
        ("\x00<script>", "de-CH"),
        ("d", "de-CH"),
    ],
)
def test_the_language_is_one_that_is_offered(asked: str, given_back: str) -> None:
    """Itself, its language, or the first: never what was asked for, which comes from outside."""
    assert locale_for(asked, LocaleTerms(offered=["de-CH", "fr-CH", "it-CH", "en"])) == given_back
