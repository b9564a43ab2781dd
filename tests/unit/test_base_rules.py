"""The base rules: what a tenant has from the first minute that names nothing but its country and its currency."""

from __future__ import annotations

from functools import cache
from itertools import combinations
from typing import Any

import pytest

from connectors.rules.editions import edition, editions
from connectors.tenants.document import parse_tenants
from pipeline.stages.localization import Accepted, Rejected, localize
from pipeline.stages.payer_checks import NO_USE, PayerUse, Within, check_payer
from pipeline.stages.rules.facts import Facts
from pipeline.stages.rules.filters import in_force_ms
from pipeline.stages.rules.rule_book import Ready, RuleBook
from schemas.business_rules import ALL_APPLY
from schemas.reasons import Reason
from schemas.tenant_rules import TenantRules
from tests.rule_times import noon_ms

#: A Friday.
TODAY = noon_ms("2026-11-27")

#: Country: base rules, currency, 100.00 with the standard tax on it (1,000.00 of smaller units), that tax, the value date of
#: noon UTC, the language, and whether a card on the web needs authentication.
COUNTRIES: dict[str, tuple[str, str, int, int, str, str, str]] = {
    "AT": ("eu-2026-11", "EUR", 12_000, 2_000, "2026-11-27", "de-AT", "required"),
    "BE": ("eu-2026-11", "EUR", 12_100, 2_100, "2026-11-27", "nl-BE", "required"),
    "BG": ("eu-2026-11", "EUR", 12_000, 2_000, "2026-11-27", "bg-BG", "required"),
    "CY": ("eu-2026-11", "EUR", 11_900, 1_900, "2026-11-27", "el-CY", "required"),
    "CZ": ("eu-2026-11", "CZK", 121_000, 21_000, "2026-11-27", "cs-CZ", "required"),
    "DE": ("eu-2026-11", "EUR", 11_900, 1_900, "2026-11-27", "de-DE", "required"),
    "DK": ("eu-2026-11", "DKK", 125_000, 25_000, "2026-11-27", "da-DK", "required"),
    "EE": ("eu-2026-11", "EUR", 12_400, 2_400, "2026-11-27", "et-EE", "required"),
    "ES": ("eu-2026-11", "EUR", 12_100, 2_100, "2026-11-27", "es-ES", "required"),
    "FI": ("eu-2026-11", "EUR", 12_550, 2_550, "2026-11-27", "fi-FI", "required"),
    "FR": ("eu-2026-11", "EUR", 12_000, 2_000, "2026-11-27", "fr-FR", "required"),
    "GR": ("eu-2026-11", "EUR", 12_400, 2_400, "2026-11-27", "el-GR", "required"),
    "HR": ("eu-2026-11", "EUR", 12_500, 2_500, "2026-11-27", "hr-HR", "required"),
    "HU": ("eu-2026-11", "HUF", 12_700_000, 2_700_000, "2026-11-27", "hu-HU", "required"),
    "IE": ("eu-2026-11", "EUR", 12_300, 2_300, "2026-11-27", "en-IE", "required"),
    "IT": ("eu-2026-11", "EUR", 12_200, 2_200, "2026-11-27", "it-IT", "required"),
    "LT": ("eu-2026-11", "EUR", 12_100, 2_100, "2026-11-27", "lt-LT", "required"),
    "LU": ("eu-2026-11", "EUR", 11_700, 1_700, "2026-11-27", "fr-LU", "required"),
    "LV": ("eu-2026-11", "EUR", 12_100, 2_100, "2026-11-27", "lv-LV", "required"),
    "MT": ("eu-2026-11", "EUR", 11_800, 1_800, "2026-11-27", "mt-MT", "required"),
    "NL": ("eu-2026-11", "EUR", 12_100, 2_100, "2026-11-27", "nl-NL", "required"),
    "PL": ("eu-2026-11", "PLN", 123_000, 23_000, "2026-11-27", "pl-PL", "required"),
    "PT": ("eu-2026-11", "EUR", 12_300, 2_300, "2026-11-27", "pt-PT", "required"),
    "RO": ("eu-2026-11", "RON", 121_000, 21_000, "2026-11-27", "ro-RO", "required"),
    "SE": ("eu-2026-11", "SEK", 125_000, 25_000, "2026-11-27", "sv-SE", "required"),
    "SI": ("eu-2026-11", "EUR", 12_200, 2_200, "2026-11-27", "sl-SI", "required"),
    "SK": ("eu-2026-11", "EUR", 12_300, 2_300, "2026-11-27", "sk-SK", "required"),
    "GB": ("gb-2026-11", "GBP", 12_000, 2_000, "2026-11-27", "en-GB", "required"),
    "CH": ("ch-2026-11", "CHF", 10_810, 810, "2026-11-27", "de-CH", ""),
    "US": ("us-2026-11", "USD", 10_000, 0, "2026-11-27", "en-US", ""),
    "JP": ("jp-2026-11", "JPY", 11_000, 1_000, "2026-11-30", "ja-JP", "required"),
}


@cache
def a_new_tenant(country: str) -> tuple[TenantRules, RuleBook]:
    """From the file that its owner would write."""
    name, currency, *_ = COUNTRIES[country]
    text = f"""
tenant: new
pic: simulator
currencies: [{currency}]
countries: [{country}]
inherits: [{name}]
methods: {{card: {{}}, bank_account: {{}}, wallet: {{}}, cash: {{}}}}
"""
    (rules,) = parse_tenants(text, "new.yaml", pics=["simulator"])
    return rules, RuleBook(rules.rules, rules.groups, [edition(name) for name in rules.inherits], rules.routes)


def decided(country: str, use: PayerUse = NO_USE, **named: Any) -> tuple[Accepted | Rejected, Within | None]:
    """What localization and the payer stage decide of a card payment on the web."""
    rules, book = a_new_tenant(country)
    fields: dict[str, Any] = {
        "amount_minor": COUNTRIES[country][2],
        "currency": COUNTRIES[country][1],
        "method": "card",
        "channel": "ecommerce",
        "country": country,
        "debtor_country": country,
        "creditor_country": country,
        "received_at_ms": TODAY,
    }
    facts = Facts(**(fields | named))
    answer = localize(facts, rules, book)
    if isinstance(answer, Rejected) or answer.checks is None:
        return answer, None
    checked = check_payer(answer.checks, use, amount_minor=facts.amount_minor, currency=facts.currency)
    assert isinstance(checked, Within)
    return answer, checked


def test_every_member_of_the_union_and_the_other_four_are_there() -> None:
    assert COUNTRIES.keys() == {*edition("eu-2026-11").groups["EU27"], "GB", "CH", "US", "JP"}
    assert {name for name, *_ in COUNTRIES.values()} <= set(editions())


@pytest.mark.parametrize("country", COUNTRIES)
def test_a_card_on_the_web(country: str) -> None:
    """Accepted, with tax, value date, language and authentication, each from a rule of the place."""
    _, _, amount_minor, tax_minor, value_date, locale, sca = COUNTRIES[country]
    answer, checked = decided(country)
    assert isinstance(answer, Accepted) and answer.terms is not None and answer.failed == ()
    terms = answer.terms
    assert (terms.tax_minor, terms.value_date, terms.locale) == (tax_minor, value_date, locale)
    assert (terms.payable_minor, answer.pic) == (amount_minor, "simulator")
    assert ("" if checked is None else checked.sca) == sca


@pytest.mark.parametrize("country", COUNTRIES)
@pytest.mark.parametrize("method", ["card", "bank_account", "wallet", "cash"])
def test_every_method_is_taken_in_the_currency_of_the_place(country: str, method: str) -> None:
    """For an ordinary amount; cash to the coins that there are, at most half the smallest of them away."""
    channel = "pos" if method == "cash" else "ecommerce"
    answer, _ = decided(country, method=method, channel=channel, amount_minor=12_34)
    assert isinstance(answer, Accepted) and answer.terms is not None
    if method != "cash":
        assert answer.terms.payable_minor == 12_34
    steps = {"CZ": 100, "DK": 50, "HU": 500, "SE": 100}
    steps |= dict.fromkeys(["BE", "EE", "FI", "IE", "IT", "LT", "NL", "SK", "CH"], 5)
    if method == "cash":
        step = steps.get(country, 1)
        assert answer.terms.payable_minor % step == 0
        assert abs(answer.terms.payable_minor - 12_34) * 2 <= step


@pytest.mark.parametrize("country", COUNTRIES)
def test_what_is_no_instrument_and_what_the_place_cannot_carry_is_rejected(country: str) -> None:
    """An unknown instrument by the tenant's own list; a card's surcharge by law or by contract, in the US above the cap."""
    answer, _ = decided(country, method="crypto")
    assert isinstance(answer, Rejected) and answer.reason is Reason.METHOD_NOT_ALLOWED
    answer, _ = decided(country, metadata={"surcharge_minor": str(COUNTRIES[country][2] // 10)})
    assert isinstance(answer, Rejected) and answer.reason is Reason.SURCHARGE_NOT_ALLOWED


@pytest.mark.parametrize("country", [code for code, row in COUNTRIES.items() if row[6] and code != "JP"])
def test_five_small_payments_go_without_authentication_and_the_sixth_does_not(country: str) -> None:
    """Article 16, in each currency."""
    use, answers = NO_USE, []
    for _ in range(7):
        _, checked = decided(country, use, amount_minor=100)
        assert checked is not None
        answers.append(checked.sca)
        use = checked.use
    assert answers == ["exempt"] * 5 + ["required", "exempt"]


@pytest.mark.parametrize("country", COUNTRIES)
def test_the_place_of_a_route_is_looked_at(country: str) -> None:
    """Personal data of people of the place do not go where its law does not protect them; the US has no such law."""
    rules, book = a_new_tenant(country)
    there = RuleBook(rules.rules, rules.groups, [edition(name) for name in rules.inherits], {"simulator": ["RU"]})
    facts = Facts(
        amount_minor=1_000, currency=COUNTRIES[country][1], method="card", country=country, received_at_ms=TODAY
    )
    assert isinstance(localize(facts, rules, book), Accepted)
    answer = localize(facts, rules, there)
    if country == "US":
        assert isinstance(answer, Accepted)
    else:
        assert isinstance(answer, Rejected) and answer.reason is Reason.ROUTE_NOT_ALLOWED


@pytest.mark.parametrize(
    ("country", "route", "day", "may"),
    [
        ("DE", "GB", "2026-11-27", True),
        ("DE", "JP", "2026-11-27", True),
        ("DE", "BR", "2026-11-27", True),
        ("DE", "BR", "2026-01-26", False),  # The decision on Brazil is of 27 January 2026.
        ("DE", "US", "2026-11-27", False),
        ("GB", "DE", "2026-11-27", True),
        ("GB", "US", "2026-11-27", False),
        ("CH", "NO", "2026-11-27", True),
        ("CH", "JP", "2026-11-27", False),
        ("JP", "DE", "2026-11-27", True),
        ("JP", "CH", "2026-11-27", False),
    ],
)
def test_where_personal_data_may_go(country: str, route: str, day: str, may: bool) -> None:
    """By the adequacy decisions of the place."""
    rules, _ = a_new_tenant(country)
    book = RuleBook([], {}, [edition(name) for name in rules.inherits], {"simulator": [route]})
    currency = COUNTRIES[country][1]
    facts = Facts(amount_minor=1_000, currency=currency, method="card", country=country, received_at_ms=noon_ms(day))
    assert isinstance(localize(facts, rules, book), Accepted) is may


def overlap(one: Ready, other: Ready) -> bool:
    """Whether a payment may pass the indexed filters of both and neither begins later."""

    def common(first: frozenset[str] | None, second: frozenset[str] | None) -> bool:
        return first is None or second is None or bool(first & second)

    return (
        common(one.countries, other.countries)
        and common(one.methods, other.methods)
        and common(one.currencies, other.currencies)
        and common(one.regions, other.regions)
    )


@pytest.mark.parametrize("name", [name for name in editions() if name.endswith("-2026-11")])
def test_no_rule_wins_only_because_of_its_place_in_the_file(name: str) -> None:
    """Of two rules with one effect that may fit the same payment, one is more specific or begins later."""
    ready = RuleBook([], {}, [edition(name)], {}).rules
    digits = range(10_000)
    for one, other in combinations(ready, 2):
        if one.effect != other.effect or one.effect in ALL_APPLY or one.rank[:3] != other.rank[:3]:
            continue
        if not overlap(one, other):
            continue
        first, second = one.postcode, other.postcode
        assert first is not None and second is not None, f"{one.id} and {other.id}"
        both = [code for number in digits for code in (f"{number:04}", f"{number * 10:05}", f"{number * 10 + 3:05}")
                if first(code) and second(code)]  # fmt: skip
        assert not both, f"{one.id} and {other.id} at {both[:3]}"


@pytest.mark.parametrize("name", [name for name in editions() if name.endswith("-2026-11")])
def test_every_rule_of_a_period_has_the_midnight_of_its_place(name: str) -> None:
    """A rule that begins or ends on a day says in which zone that day begins."""
    for rule in edition(name).rules:
        if rule.since or rule.until:
            assert rule.zone != "UTC", rule.id
            in_force_ms(rule.since, rule.until, rule.zone)
