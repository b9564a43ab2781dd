"""schemas/money.py."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

from schemas.money import (
    MINOR_UNITS,
    UnknownCurrencyError,
    format_amount,
    is_currency,
    minor_units,
    numeric_code,
)

CODES = Path(__file__).parents[3] / "shared/data/iso4217/codes-all.csv"


def test_active_currencies_are_those_of_iso_4217() -> None:
    """Every active code that has a minor unit is known with that minor unit, and no other code is."""
    if not CODES.exists():
        pytest.skip("../shared/data/iso4217/codes-all.csv is not there")
    with CODES.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    published = {
        row["AlphabeticCode"]: int(row["MinorUnit"])
        for row in rows
        if row["AlphabeticCode"] and not row["WithdrawalDate"] and row["MinorUnit"].isdigit()
    }
    assert published == MINOR_UNITS


@pytest.mark.parametrize(("currency", "units"), [("EUR", 2), ("JPY", 0), ("KWD", 3), ("CLF", 4), ("ISK", 0)])
def test_minor_units(currency: str, units: int) -> None:
    """Two decimals are usual, not certain."""
    assert is_currency(currency)
    assert minor_units(currency) == units


@pytest.mark.parametrize("code", ["", "eur", "EU", "EURO", "XXX", "XTS", "XAU", "DEM", "HRK", " EUR", "٤EU"])
def test_codes_that_nothing_can_be_paid_in(code: str) -> None:
    """Withdrawn codes, metals, test codes and misspellings are unknown, and the error does not repeat them."""
    assert not is_currency(code)
    with pytest.raises(UnknownCurrencyError) as caught:
        minor_units(code)
    assert not code.strip() or code not in str(caught.value)


@pytest.mark.parametrize(
    ("amount_minor", "currency", "text"),
    [
        (1234, "EUR", "12.34 EUR"),
        (5, "EUR", "0.05 EUR"),
        (-5, "EUR", "-0.05 EUR"),
        (-1234, "EUR", "-12.34 EUR"),
        (0, "EUR", "0.00 EUR"),
        (1200, "JPY", "1200 JPY"),
        (-7, "JPY", "-7 JPY"),
        (1234, "KWD", "1.234 KWD"),
        (12345, "UYW", "1.2345 UYW"),
        (9_007_199_254_740_993, "USD", "90071992547409.93 USD"),
    ],
)
def test_amounts_are_shown_exactly(amount_minor: int, currency: str, text: str) -> None:
    """Decimals as the currency has them; no floating point on the way (2^53 + 1 keeps its last cent)."""
    assert format_amount(amount_minor, currency) == text


def test_numeric_codes_are_those_of_iso_4217() -> None:
    """Three digits, leading zeros and all, for every currency that can be paid in."""
    if not CODES.exists():
        pytest.skip("../shared/data/iso4217/codes-all.csv is not there")
    with CODES.open(encoding="utf-8", newline="") as file:
        rows = [
            row for row in csv.DictReader(file) if row["AlphabeticCode"] in MINOR_UNITS and not row["WithdrawalDate"]
        ]
    assert {row["AlphabeticCode"]: row["NumericCode"].zfill(3) for row in rows} == {
        currency: numeric_code(currency) for currency in MINOR_UNITS
    }
    with pytest.raises(UnknownCurrencyError):
        numeric_code("XXX")
