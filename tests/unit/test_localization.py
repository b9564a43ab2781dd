"""Localization: which payments a tenant takes, and the fee."""

from __future__ import annotations

from fractions import Fraction
from math import floor
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from connectors.tenants.book import rule_book
from pipeline.stages.localization import Accepted, Rejected, localize
from pipeline.stages.rules.facts import Facts
from pipeline.stages.rules.fees import fee_minor
from schemas.reasons import Reason
from schemas.tenant_rules import FeeRules, MethodRules, TenantRules
from tests.builders import NOON_MS

RULES = TenantRules(
    tenant="t1",
    pic="simulator",
    currencies=["EUR", "JPY"],
    countries=["DE", "JP"],
    methods={
        "card": MethodRules(min_minor={"EUR": 100}, max_minor={"EUR": 5_000}),
        "wallet": MethodRules(),
    },
    fee=FeeRules(percent_bp=150, fixed_minor={"EUR": 25}),
)


def a_payment(**named: Any) -> Facts:
    """A payment that is accepted but for what is named."""
    fields: dict[str, Any] = {
        "amount_minor": 1_000,
        "currency": "EUR",
        "country": "DE",
        "method": "card",
        "received_at_ms": NOON_MS,
    }
    return Facts(**(fields | named))


def decided(**named: Any) -> Accepted | Rejected:
    """What is decided of a payment that is accepted but for what is named."""
    rules: TenantRules = named.pop("rules", RULES)
    return localize(a_payment(**named), rules, rule_book(rules))


def test_an_accepted_payment_has_the_tenants_fee_and_pic() -> None:
    """1.5 % of 10.00 EUR and 0.25 EUR are 0.40 EUR."""
    assert decided() == Accepted(fee_minor=40, pic="simulator")


@pytest.mark.parametrize(
    ("named", "reason", "detail"),
    [
        ({"currency": "USD"}, Reason.CURRENCY_NOT_ALLOWED, "currency USD is not among EUR, JPY"),
        ({"country": "FR"}, Reason.COUNTRY_NOT_ALLOWED, "country FR is not among DE, JP"),
        ({"country": ""}, Reason.COUNTRY_NOT_ALLOWED, "country (none) is not among DE, JP"),
        ({"method": "cash"}, Reason.METHOD_NOT_ALLOWED, "method cash is not among card, wallet"),
        (
            {"amount_minor": 99},
            Reason.AMOUNT_BELOW_METHOD_LIMIT,
            "amount 99 EUR is below the minimum 100 for card (minor units)",
        ),
        (
            {"amount_minor": 5_001},
            Reason.AMOUNT_ABOVE_METHOD_LIMIT,
            "amount 5001 EUR is above the maximum 5000 for card (minor units)",
        ),
        (
            {"amount_minor": 24, "method": "wallet"},
            Reason.FEE_ABOVE_AMOUNT,
            "fee 25 EUR is above the amount 24 (minor units)",
        ),
    ],
)
def test_each_check_has_its_reason_and_names_both_values(named: dict[str, Any], reason: Reason, detail: str) -> None:
    """A rejection says which rule it was, the tenant's limit and the payment's value."""
    assert decided(**named) == Rejected(reason, detail)


def test_the_first_check_that_fails_decides() -> None:
    """Currency before country before method before amount."""
    wrong: dict[str, Any] = {"currency": "USD", "country": "FR", "method": "cash", "amount_minor": 1}
    reasons = []
    for name, right in (("currency", "EUR"), ("country", "DE"), ("method", "card")):
        reasons.append(decided(**wrong).reason)  # type: ignore[union-attr]
        wrong[name] = right
    reasons.append(decided(**wrong).reason)  # type: ignore[union-attr]
    assert reasons == [
        Reason.CURRENCY_NOT_ALLOWED,
        Reason.COUNTRY_NOT_ALLOWED,
        Reason.METHOD_NOT_ALLOWED,
        Reason.AMOUNT_BELOW_METHOD_LIMIT,
    ]


@pytest.mark.parametrize("amount_minor", [100, 5_000])
def test_a_limit_itself_is_allowed(amount_minor: int) -> None:
    """Minimum and maximum are part of what a method takes."""
    assert isinstance(decided(amount_minor=amount_minor), Accepted)


def test_a_fee_that_equals_the_amount_is_allowed() -> None:
    """25 of 25 is not above; 1.5 % of 25 rounds to 0."""
    assert decided(amount_minor=25, method="wallet") == Accepted(25, "simulator")


def test_a_currency_without_limit_or_fixed_fee_has_none() -> None:
    """Limits and fixed fees are per currency: 1.5 % of 1 000 000 JPY is 15 000 JPY."""
    assert decided(amount_minor=1_000_000, currency="JPY", country="JP") == Accepted(15_000, "simulator")


def test_no_countries_means_all() -> None:
    """An empty list of countries allows every country."""
    rules = TenantRules(tenant="t1", pic="simulator", currencies=["EUR"])
    assert decided(rules=rules, country="AQ") == Accepted(0, "simulator")


def test_a_long_list_of_allowed_values_is_counted() -> None:
    """A detail stays short."""
    rules = TenantRules(tenant="t1", pic="simulator", currencies=["EUR"], countries=[f"A{c}" for c in "ABCDEFGHIJK"])
    assert decided(rules=rules) == Rejected(
        Reason.COUNTRY_NOT_ALLOWED, "country DE is not among the 11 that are allowed"
    )


@pytest.mark.parametrize(
    ("amount_minor", "percent_bp", "fee"), [(1, 5_000, 1), (333, 150, 5), (300, 150, 5), (299, 150, 4)]
)
def test_half_a_minor_unit_is_rounded_up(amount_minor: int, percent_bp: int, fee: int) -> None:
    """0.5 -> 1, 4.995 -> 5, 4.5 -> 5, 4.485 -> 4."""
    assert fee_minor(amount_minor, "EUR", FeeRules(percent_bp=percent_bp)) == fee


@given(st.integers(1, 10**13), st.integers(0, 10_000), st.integers(0, 10**6))
def test_the_fee_is_exact_for_every_amount(amount_minor: int, percent_bp: int, fixed_minor: int) -> None:
    """The same as with fractions, rounded half up: no float is involved."""
    exact = floor(Fraction(amount_minor * percent_bp, 10_000) + Fraction(1, 2)) + fixed_minor
    assert fee_minor(amount_minor, "EUR", FeeRules(percent_bp=percent_bp, fixed_minor={"EUR": fixed_minor})) == exact
