"""Strong customer authentication: when it is needed, and what uses an exemption up."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.stages.localities.sca import (
    NO_COUNTERS,
    WHOLE_PPM,
    Assessed,
    Counted,
    Exempt,
    OutOfScope,
    Required,
    ScaCounters,
    assess,
    settle,
)
from schemas.localities import CounterTerms, ScaTerms

LOW_VALUE = CounterTerms(single_minor={"EUR": 3_000, "SEK": 33_000}, cumulative_minor={"EUR": 10_000, "SEK": 110_000})
CONTACTLESS = CounterTerms(single_minor={"EUR": 5_000}, cumulative_minor={"EUR": 15_000})
TERMS = ScaTerms(
    within=["DE", "FR", "SE"],
    low_value=LOW_VALUE,
    contactless=CONTACTLESS,
    exemptions=["unattended_transport", "trusted_payee", "recurring", "own_account", "corporate_process"],
)


def assessed(**named: Any) -> Assessed:
    """The answer for 100.00 EUR, paid by card on the web from Germany to France, but for what is named."""
    fields: dict[str, Any] = {
        "amount_minor": 10_000,
        "currency": "EUR",
        "payer_country": "DE",
        "payee_country": "FR",
        "method": "card",
        "channel": "ecommerce",
        "flags": frozenset(named.pop("flags", ())),
        "terms": TERMS,
    }
    return assess(**(fields | named))


def low(amount_minor: int, counters: ScaCounters, **named: Any) -> tuple[bool, ScaCounters]:
    """Whether a low-value payment is exempt, and the counters after it."""
    answer, after = settle(assessed(amount_minor=amount_minor, **named), counters)
    return isinstance(answer, Exempt), after


def test_a_payment_on_the_web_within_the_area_needs_it() -> None:
    assert assessed() == Required()
    assert assessed(method="bank_account") == Required()
    assert assessed(method="wallet", channel="") == Required()


@pytest.mark.parametrize(
    ("named", "why"),
    [
        ({"terms": ScaTerms()}, "no_law_here"),
        ({"method": "cash", "channel": "pos"}, "not_electronic"),
        ({"channel": "moto"}, "not_electronic"),
        ({"flags": ["merchant_initiated"]}, "payee_initiated"),
        ({"channel": "recurring"}, "payee_initiated"),
        ({"payer_country": "US"}, "one_leg_outside"),
        ({"payee_country": "US"}, "one_leg_outside"),
    ],
)
def test_what_the_law_does_not_reach(named: dict[str, Any], why: str) -> None:
    """No law, no electronic payment, not the payer's doing, one leg outside."""
    assert assessed(**named) == OutOfScope(why)


def test_the_first_of_a_series_needs_it() -> None:
    """A subscription is agreed upon with the payer present."""
    assert assessed(channel="recurring", flags=["series_first"]) == Required()


@pytest.mark.parametrize(
    ("named", "article"),
    [
        ({"channel": "pos", "flags": ["unattended"]}, 12),
        ({"flags": ["trusted_payee"]}, 13),
        ({"flags": ["series_following"]}, 14),
        ({"method": "bank_account", "flags": ["own_account"]}, 15),
        ({"flags": ["corporate"]}, 17),
    ],
)
def test_an_exemption_names_its_article_and_holds_only_where_it_is_used(named: dict[str, Any], article: int) -> None:
    """Whatever the amount; and not for a tenant that leaves the exemption out."""
    assert assessed(**named, amount_minor=1_000_000) == Exempt(article)
    without = ScaTerms(within=TERMS.within, low_value=LOW_VALUE)
    assert assessed(**named, amount_minor=1_000_000, terms=without) == Required()


def test_exemptions_for_one_kind_of_payment_do_not_cover_another() -> None:
    """Unattended on the web, own account by card: no exemption."""
    assert assessed(flags=["unattended"]) == Required()
    assert assessed(flags=["own_account"]) == Required()


@pytest.mark.parametrize(("amount_minor", "is_counted"), [(3_000, True), (3_001, False)])
def test_up_to_30_euros_are_low_value(amount_minor: int, is_counted: bool) -> None:
    """Article 16(a): does not exceed EUR 30."""
    assert isinstance(assessed(amount_minor=amount_minor), Counted) is is_counted


def test_contactless_is_at_a_terminal_up_to_50_euros_and_chip_and_pin_is_not() -> None:
    """Article 11(a); without contact the low-value exemption is not for terminals either."""
    contactless = {"channel": "pos", "flags": ["contactless"]}
    assert isinstance(assessed(**contactless, amount_minor=5_000), Counted)
    assert assessed(**contactless, amount_minor=5_001) == Required()
    assert assessed(channel="pos", amount_minor=100) == Required()
    assert assessed(flags=["contactless"], amount_minor=4_000) == Required()


def test_a_currency_without_a_stated_amount_has_no_exemption() -> None:
    assert assessed(currency="PLN", amount_minor=1) == Required()


def test_the_sixth_in_a_row_needs_it_and_begins_anew() -> None:
    """Article 16(c): five consecutive payments."""
    counters, answers = NO_COUNTERS, []
    for _ in range(7):
        exempt, counters = low(100, counters)
        answers.append(exempt)
    assert answers == [True] * 5 + [False, True]
    assert counters.low_value_count == 1


def test_the_sum_of_100_euros_is_a_limit_too() -> None:
    """Article 16(b): three times 30.00 and 10.00 are 100.00; a cent more is not exempt, and the sum begins anew."""
    counters = NO_COUNTERS
    for amount_minor in (3_000, 3_000, 3_000, 1_000):
        exempt, counters = low(amount_minor, counters)
        assert exempt
    assert counters == ScaCounters(low_value_count=4, low_value_ppm=WHOLE_PPM)
    assert low(1, counters) == (False, NO_COUNTERS)


def test_who_counts_one_thing_only_is_not_held_to_the_other() -> None:
    """The payer's bank chooses the sum or the number."""
    by_count = ScaTerms(within=["DE", "FR"], low_value=CounterTerms(single_minor={"EUR": 3_000}, counter="count"))
    counters = NO_COUNTERS
    for _ in range(5):
        exempt, counters = low(3_000, counters, terms=by_count)
        assert exempt  # 150.00 EUR in all
    assert low(3_000, counters, terms=by_count)[0] is False
    amount = CounterTerms(single_minor={"EUR": 3_000}, cumulative_minor={"EUR": 10_000}, counter="amount")
    by_amount = ScaTerms(within=["DE", "FR"], low_value=amount)
    counters = NO_COUNTERS
    for _ in range(100):
        exempt, counters = low(100, counters, terms=by_amount)
        assert exempt
    assert low(100, counters, terms=by_amount)[0] is False


def test_currencies_add_up_without_a_rate() -> None:
    """300.00 of 1,100.00 SEK and 30.00 of 100.00 EUR: 57.3 % of the limit, rounded up to a millionth."""
    _, counters = low(30_000, NO_COUNTERS, currency="SEK")
    _, counters = low(3_000, counters)
    assert counters == ScaCounters(low_value_count=2, low_value_ppm=572_728)


def test_shares_that_do_not_divide_add_up_to_the_limit_exactly() -> None:
    """Three times 25 and 10 pounds are 85 pounds; with a penny more they are not."""
    pounds = CounterTerms(single_minor={"GBP": 2_500}, cumulative_minor={"GBP": 8_500})
    terms = ScaTerms(within=["DE", "FR"], low_value=pounds)
    for last_minor, is_exempt in ((1_000, True), (1_001, False)):
        counters = NO_COUNTERS
        for amount_minor in (2_500, 2_500, 2_500):
            _, counters = low(amount_minor, counters, currency="GBP", terms=terms)
        assert low(last_minor, counters, currency="GBP", terms=terms)[0] is is_exempt


def test_one_payment_above_the_whole_sum_is_not_exempt_by_the_smallest_unit() -> None:
    """Half a millionth of the limit too much, where one payment may be as large."""
    large = CounterTerms(single_minor={"EUR": 3_000_000}, cumulative_minor={"EUR": 2_000_000})
    terms = ScaTerms(within=["DE", "FR"], low_value=large)
    assert low(2_000_000, NO_COUNTERS, terms=terms)[0] is True
    assert low(2_000_001, NO_COUNTERS, terms=terms)[0] is False


def test_contactless_and_remote_are_counted_apart_and_begin_anew_together() -> None:
    """Each article has its own limits; one authentication of the payer is one."""
    _, counters = low(1_000, NO_COUNTERS)
    _, counters = low(1_500, counters, channel="pos", flags=["contactless"])
    assert counters == ScaCounters(1, 100_000, 1, 100_000)
    assert settle(assessed(), counters) == (Required(), NO_COUNTERS)


def test_what_needs_no_counter_changes_none() -> None:
    """An exemption by another article and a payment out of scope use nothing up."""
    used = ScaCounters(3, 500_000, 2, 10)
    for answer in (assessed(flags=["trusted_payee"]), assessed(channel="moto")):
        assert settle(answer, used) == (answer, used)


@given(
    amounts=st.lists(st.integers(1, 4_000), max_size=40),
    counter=st.sampled_from(["amount", "count", "both"]),
    limit_minor=st.integers(3_000, 30_000),
)
def test_authentication_is_asked_when_a_limit_is_passed_and_not_before(
    amounts: list[int], counter: str, limit_minor: int
) -> None:
    """Whatever comes: between two authentications at most five payments, and at most the sum, to the cent."""
    low_value = CounterTerms(single_minor={"EUR": 3_000}, cumulative_minor={"EUR": limit_minor}, counter=counter)  # type: ignore[arg-type]
    terms = ScaTerms(within=["DE", "FR"], low_value=low_value)
    counters, run = NO_COUNTERS, []
    for amount_minor in amounts:
        exempt, counters = low(amount_minor, counters, terms=terms)
        with_it = [*run, amount_minor]
        few, little = len(with_it) <= 5, sum(with_it) <= limit_minor
        assert exempt == (amount_minor <= 3_000 and {"amount": little, "count": few, "both": few and little}[counter])
        run = with_it if exempt else []
