"""The tax rates of the base rules, compared with somebody else's, entry by entry."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from connectors.rules.editions import edition
from pipeline.stages.localities.tax import tax_of
from pipeline.stages.rules.facts import Facts
from pipeline.stages.rules.filters import postcode_filter
from pipeline.stages.rules.rule_book import RuleBook
from schemas.localities import TaxTerms
from tests.rule_times import noon_ms

RATES = Path(__file__).parents[3] / "shared/data/vat/eu-vat-rates.json"
#: The base rules have no older rates.
FIRST = "2015-01-01"
#: Rates of a place or a period: the standard one, then the others, descending, in basis points.
Rates = tuple[int, tuple[int, ...]]


@cache
def book(name: str) -> RuleBook:
    return RuleBook([], {}, [edition(name)], {})


def terms_of(name: str, country: str, at: str | int, postcode: str = "") -> TaxTerms | None:
    """The tax that the base rules have there, at noon of a day or at an instant."""
    at_ms = noon_ms(at) if isinstance(at, str) else at
    facts = Facts(
        amount_minor=1, currency="EUR", method="card", country=country, received_at_ms=at_ms, postcode=postcode
    )
    rules = book(name).plan(country, "card", "EUR", at_ms).tax
    return next((rule.terms for rule in rules if rule.applies(facts, [])), None)


def ours(country: str, day: str, postcode: str = "") -> Rates:
    """Value added tax of the Union: another tax than it, in a place outside its area, is 0."""
    terms = terms_of("gb-2026-11" if country == "GB" else "eu-2026-11", country, day, postcode)
    assert terms is not None, f"{country} has no tax on {day}"
    if terms.kind != "vat":
        return 0, ()
    others = {bp for category, bp in terms.rates_bp.items() if category not in ("standard", "zero")}
    return terms.rates_bp["standard"], tuple(sorted(others, reverse=True))


def theirs(periods: list[dict[str, Any]], day: str, postcode: str = "") -> Rates:
    """The file's rates: the period that began last, and its exception for the postcode."""
    period = max((period for period in periods if period["effective_from"] <= day), key=lambda p: p["effective_from"])
    rates = {round(rate * 100) for name, rate in period["rates"].items() if name != "standard"}
    standard = period["rates"]["standard"]
    for exception in period.get("exceptions", ()):
        if postcode and re.fullmatch(exception["postcode"], postcode):
            return round(exception["standard"] * 100), ()
    return round(standard * 100), tuple(sorted(rates, reverse=True))


@cache
def every_code(digits: int) -> tuple[str, ...]:
    return tuple(f"{number:0{digits}}" for number in range(10**digits))


def postcodes(fits: Any, digits: int) -> list[str]:
    """First, middle and last postcode that fits."""
    found = [code for code in every_code(digits) if fits(code)]
    return sorted({found[0], found[len(found) // 2], found[-1]}) if found else []


def places(country: str, periods: list[dict[str, Any]]) -> dict[str, str]:
    """Postcodes with rates of their own, ours and theirs, and what the place is called."""
    digits = {"AT": 4, "DK": 4, "PT": 4}.get(country, 5)
    named: dict[str, str] = {}
    for period in periods:
        for exception in period.get("exceptions", ()):
            # Portugal's patterns are of seven digits, or of at least four.
            matches = re.compile(exception["postcode"]).fullmatch
            named |= dict.fromkeys(postcodes(matches, digits), exception["name"])
    for rule in edition("eu-2026-11").rules:
        if rule.tax is not None and rule.postcode and country in rule.country:
            fits = postcode_filter(rule.postcode)
            for code in postcodes(fits, digits):
                named.setdefault(code, rule.id)
    return named


def differences(items: dict[str, list[dict[str, Any]]]) -> Iterator[tuple[str, str, str, Any, Any]]:
    """Country, place, since when, our rates, their rates; one entry while both stay the same."""
    ends = {rule.since for name in ("eu-2026-11", "gb-2026-11") for rule in edition(name).rules if rule.tax is not None}
    for country, periods in sorted(items.items()):
        days = sorted(day for day in ends | {FIRST} | {p["effective_from"] for p in periods} if day >= FIRST)
        for place, code in [("", ""), *((name, code) for code, name in sorted(places(country, periods).items()))]:
            before = None
            for day in days:
                mine, other = ours(country, day, code), theirs(periods, day, code)
                if code:
                    mine, other = (mine[0], ()), (other[0], ())  # They have no other rates of exceptions.
                if mine != other and (mine, other) != before:
                    yield country, place, day, mine, other
                before = (mine, other)


#: Where the file says otherwise: country, place, since when -> why the base rules are right.
REASONS = {
    ("AT", "", "2026-07-01"): "4.9 % for staple foods since July 2026; the file is older",
    ("AT", "Jungholz", FIRST): "19 % there is older than 2016, when the file begins to have it",
    ("AT", "Mittelberg", FIRST): "19 % there is older than 2016, when the file begins to have it",
    ("CY", "", "2023-07-23"): "3 % since July 2023 is missing",
    ("DK", "dk-greenland", FIRST): "Greenland is not in the Union; Danish postcodes 39xx are there",
    ("ES", "es-ceuta", FIRST): "Ceuta has more postcodes (51xxx) than the file lists",
    ("ES", "es-melilla", FIRST): "Melilla has more postcodes (52xxx) than the file lists",
    ("FI", "", "2026-01-01"): "13.5 % for 14 % since January 2026; the file is older",
    ("FR", "Guadeloupe", FIRST): "97150 is Saint-Martin, which left Guadeloupe in 2007",
    ("FR", "fr-saint-barthelemy-saint-martin", FIRST): "97133 is Saint-Barthelemy, which left Guadeloupe in 2007",
    ("FR", "fr-pacific-and-saint-pierre", FIRST): "outside the Union",
    ("GR", "", "2015-07-20"): "6 % since Law 4334/2015; the file has it from 2016",
    ("GR", "", "2016-01-01"): "13 %, not 13.5 %: Law 4334/2015 left it as it was",
    ("GR", "Mount Athos", FIRST): "Mount Athos was never in the area; the file begins in June 2016",
    ("GR", "gr-mount-athos", FIRST): "Dafni, 63087, is on Mount Athos too",
    ("GR", "gr-mount-athos", "2016-06-01"): "Dafni, 63087, is on Mount Athos too",
    ("GR", "gr-aegean-islands-2026", "2026-01-01"): "30 % less on the islands since 2026 is missing",
    ("IT", "", FIRST): "5 % was introduced in 2016",
    ("LT", "", "2026-01-01"): "12 % for 9 % since January 2026; the file is older",
    ("LU", "", FIRST): "since 2015 the rates are 17, 14, 8 and 3 %: there is no rate of 12 %",
    ("LU", "", "2016-01-01"): "the intermediate rate was 14 % until 2022, not 13 %",
    ("LV", "", FIRST): "5 % was introduced in 2018",
    ("MT", "", "2024-01-01"): "12 % since 2024 is missing",
    ("PT", "Azores", "2021-07-01"): "16 % since July 2021; the file still has 18 %",
    ("SI", "", FIRST): "5 % was introduced in 2020",
    ("SK", "", "2023-01-01"): "5 % for social housing in 2023 and 2024 is missing",
}


FRANCE = {"standard": 2000, "reduced": 1000, "second_reduced": 550, "super_reduced": 210}
ANTILLES = {"standard": 850, "reduced": 210, "second_reduced": 210, "super_reduced": 175}


@pytest.fixture(scope="module")
def items() -> dict[str, list[dict[str, Any]]]:
    if not RATES.exists():
        pytest.skip("../shared/data/vat/eu-vat-rates.json is not there")
    rates: dict[str, list[dict[str, Any]]] = json.loads(RATES.read_text("utf-8"))["items"]
    return rates


def test_every_difference_from_the_file_has_its_reason(items: dict[str, list[dict[str, Any]]]) -> None:
    """Each country, each period since 2015, each place with rates of its own, on both sides."""
    assert set(items) == {*edition("eu-2026-11").groups["EU27"], "GB"}
    found = {(country, place, day): (mine, other) for country, place, day, mine, other in differences(items)}
    assert found.keys() == REASONS.keys(), {key: found.get(key) for key in found.keys() ^ REASONS.keys()}


@pytest.mark.parametrize(
    ("name", "country", "day", "postcode", "kind", "rates_bp"),
    [
        ("eu-2026-11", "DE", "2020-06-30", "", "vat", {"standard": 1900, "reduced": 700}),
        ("eu-2026-11", "DE", "2020-07-01", "", "vat", {"standard": 1600, "reduced": 500}),
        ("eu-2026-11", "DE", "2020-12-31", "", "vat", {"standard": 1600, "reduced": 500}),
        ("eu-2026-11", "DE", "2021-01-01", "", "vat", {"standard": 1900, "reduced": 700}),
        ("eu-2026-11", "ES", "2026-11-27", "38001", "igic", {"standard": 700, "reduced": 300, "increased": 950}),
        ("eu-2026-11", "ES", "2019-05-01", "35001", "igic", {"standard": 650, "reduced": 300, "increased": 950}),
        ("eu-2026-11", "DE", "2026-11-27", "78266", "vat_ch", {"standard": 810, "reduced": 380, "second_reduced": 260}),
        ("eu-2026-11", "MC", "2026-11-27", "98000", "vat", FRANCE),
        ("eu-2026-11", "FI", "2026-11-27", "22100", "vat", {"standard": 2550, "reduced": 1350, "second_reduced": 1000}),
        ("eu-2026-11", "AX", "2026-11-27", "22100", "vat", {"standard": 2550, "reduced": 1350, "second_reduced": 1000}),
        ("eu-2026-11", "PT", "2026-11-27", "9000-100", "vat", {"standard": 2200, "reduced": 1200, "second_reduced": 400}),
        ("eu-2026-11", "RE", "2026-11-27", "97400", "vat", ANTILLES),
        ("gb-2026-11", "GB", "2026-11-27", "SW1A 1AA", "vat", {"standard": 2000, "reduced": 500, "zero": 0}),
        ("gb-2026-11", "GB", "2026-11-27", "BT1 5GS", "vat", {"standard": 2000, "reduced": 500, "zero": 0}),
        ("gb-2026-11", "IM", "2026-11-27", "IM1 1AA", "vat", {"standard": 2000, "reduced": 500, "zero": 0}),
        ("gb-2026-11", "GB", "2026-11-27", "JE2 3AB", "gst", {"standard": 500, "zero": 0}),
        ("gb-2026-11", "GB", "2026-11-27", "GY1 1WR", "vat", {"standard": 0}),
        ("ch-2026-11", "CH", "2023-12-31", "8001", "vat", {"standard": 770, "lodging": 370, "reduced": 250}),
        ("ch-2026-11", "CH", "2024-01-01", "8001", "vat", {"standard": 810, "lodging": 380, "reduced": 260}),
        ("ch-2026-11", "LI", "2026-11-27", "9490", "vat", {"standard": 810, "lodging": 380, "reduced": 260}),
        ("ch-2026-11", "CH", "2026-11-27", "7563", "vat", {"standard": 0, "services": 810, "lodging": 380}),
        ("jp-2026-11", "JP", "2019-09-30", "100-0001", "consumption_tax", {"standard": 800}),
        ("jp-2026-11", "JP", "2019-10-01", "100-0001", "consumption_tax", {"standard": 1000, "reduced": 800}),
        ("us-2026-11", "US", "2026-11-27", "10001", "sales_tax", {"standard": 0}),
    ],
)  # fmt: skip
def test_rates_by_day_and_place(
    name: str, country: str, day: str, postcode: str, kind: str, rates_bp: dict[str, int]
) -> None:
    """What the laws say, around the days on which they changed, and in the places that they leave out."""
    terms = terms_of(name, country, day, postcode)
    assert terms is not None
    assert (terms.kind, terms.rates_bp) == (kind, rates_bp)


def test_a_day_begins_at_midnight_of_the_place() -> None:
    """Germany's 16 % began at 22:00 UTC of 30 June 2020, Japan's 10 % at 15:00 UTC of 30 September 2019."""
    for name, country, midnight_ms, before, after in (
        ("eu-2026-11", "DE", noon_ms("2020-06-30") + 10 * 3_600_000, 1900, 1600),
        ("jp-2026-11", "JP", noon_ms("2019-09-30") + 3 * 3_600_000, 800, 1000),
    ):
        for at_ms, standard in ((midnight_ms - 1, before), (midnight_ms, after)):
            terms = terms_of(name, country, at_ms)
            assert terms is not None and terms.rates_bp["standard"] == standard


@pytest.mark.parametrize(
    ("name", "country", "amount_minor", "category", "net_minor", "tax_minor"),
    [
        ("eu-2026-11", "DE", 11_900, "", 10_000, 1_900),
        ("eu-2026-11", "HU", 127_000, "", 100_000, 27_000),
        ("eu-2026-11", "FI", 12_550, "", 10_000, 2_550),
        ("eu-2026-11", "FR", 1_055, "second_reduced", 1_000, 55),
        ("ch-2026-11", "CH", 10_260, "reduced", 10_000, 260),
        ("jp-2026-11", "JP", 108, "reduced", 100, 8),
        ("jp-2026-11", "JP", 109, "standard", 100, 9),  # 9.9 yen: the fraction is dropped
        ("us-2026-11", "US", 999, "", 999, 0),
    ],
)
def test_what_a_price_contains(
    name: str, country: str, amount_minor: int, category: str, net_minor: int, tax_minor: int
) -> None:
    terms = terms_of(name, country, "2026-11-27")
    assert terms is not None
    tax = tax_of(amount_minor, category, terms)
    assert (tax.net_minor, tax.tax_minor) == (net_minor, tax_minor)
