"""Which rule wins: layers, places, dates, replacement by id; and which rules are looked at."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.stages.localization import Accepted, Rejected, localize
from pipeline.stages.rules.facts import Facts
from pipeline.stages.rules.filters import FilterError, in_force_ms, plain_postcode, plain_region, postcode_filter
from pipeline.stages.rules.periods import period_of
from pipeline.stages.rules.rule_book import RuleBook
from schemas.business_rules import DenyTerms, Edition, FeeRules, LimitTerms, RouteTerms, Rule
from schemas.localities import LocaleTerms, ResidencyTerms
from schemas.tenant_rules import TenantRules

DAY_MS = 24 * 60 * 60 * 1000
#: 2026-11-27T10:00:00Z.
AT_MS = 1_795_773_600_000


def fee(rule_id: str, percent_bp: int, **named: Any) -> Rule:
    """A rule that can be told from others by its fee: of 10 000 minor units it is ``percent_bp``."""
    return Rule(id=rule_id, fee=FeeRules(percent_bp=percent_bp), **named)


def a_payment(**named: Any) -> Facts:
    fields: dict[str, Any] = {
        "amount_minor": 10_000,
        "currency": "EUR",
        "method": "card",
        "country": "ES",
        "region": "ES-CN",
        "postcode": "35 001",
        "received_at_ms": AT_MS,
    }
    return Facts(**(fields | named))


def decided(
    own: list[Rule],
    inherited: list[Rule] | None = None,
    *,
    groups: dict[str, list[str]] | None = None,
    routes: dict[str, list[str]] | None = None,
    **named: Any,
) -> Accepted | Rejected:
    """What a tenant with these rules decides."""
    editions = [] if inherited is None else [Edition(edition="eu-2026-11", groups=groups or {}, rules=inherited)]
    rules = TenantRules(tenant="t1", pic="simulator", currencies=["EUR", "CHF"])
    return localize(a_payment(**named), rules, RuleBook(own, groups or {}, editions, routes or {}))


def won(own: list[Rule], inherited: list[Rule] | None = None, **named: Any) -> int:
    """The fee in basis points: which rule won."""
    answer = decided(own, inherited, **named)
    assert isinstance(answer, Accepted)
    return answer.fee_minor


SPECIFIC = [
    fee("postcode", 1, country=["ES"], postcode=["35*", "38*"]),
    fee("region", 2, country=["ES"], region=["CN"]),
    fee("country", 3, country=["PT", "ES"]),
    fee("group", 4, country=["IBERIA"]),
    fee("anywhere", 5, method=["card"], when="amount_minor > 0"),
    fee("default", 6),
]
GROUPS = {"IBERIA": ["ES", "PT"]}


@pytest.mark.parametrize("left", range(len(SPECIFIC)))
def test_the_more_specific_place_wins(left: int) -> None:
    """Whatever the order in the file; each rule wins when those before it are gone."""
    rules = SPECIFIC[left:]
    assert won(rules, groups=GROUPS) == won(rules[::-1], groups=GROUPS) == left + 1


def test_the_tenants_own_rule_wins_over_a_more_specific_inherited_one() -> None:
    """And a later base set over an earlier one."""
    assert won([fee("mine", 9)], SPECIFIC, groups=GROUPS) == 9
    first = Edition(edition="a", rules=[fee("a", 1, postcode=["35*"])])
    second = Edition(edition="b", rules=[fee("b", 2)])
    rules = TenantRules(tenant="t1", pic="simulator", currencies=["EUR"])
    answer = localize(a_payment(), rules, RuleBook([], {}, [first, second], {}))
    assert isinstance(answer, Accepted)
    assert answer.fee_minor == 2


def test_an_inherited_rule_that_is_replaced_keeps_its_rank() -> None:
    """So a tenant changes a country's rate and the exceptions of its islands stay."""
    assert won([fee("country", 33, country=["ES"])], SPECIFIC, groups=GROUPS) == 1
    assert won([fee("country", 33, country=["ES"])], SPECIFIC, groups=GROUPS, postcode="28001", region="MD") == 33


def test_an_inherited_rule_can_be_taken_out() -> None:
    """With ``off``, and only that one."""
    off = [Rule(id="postcode", off=True), Rule(id="region", off=True)]
    assert won(off, SPECIFIC, groups=GROUPS) == 3


def test_the_later_beginning_wins_then_the_later_place() -> None:
    """Periods of one rate need no end."""
    periods = [fee("new", 2, since="2026-01-01"), fee("old", 1, since="2014-01-01"), fee("always", 3)]
    assert won(periods) == 2
    assert won(periods, received_at_ms=AT_MS - 400 * DAY_MS) == 1
    assert won([fee("a", 1), fee("b", 2)]) == 2


@pytest.mark.parametrize(
    ("received", "won_by"),
    [
        ("2026-06-30T21:59:59.999Z", 1),
        ("2026-06-30T22:00:00Z", 2),
        ("2026-12-31T22:59:59.999Z", 2),
        ("2026-12-31T23:00:00Z", 1),
    ],
)
def test_days_begin_and_end_at_midnight_of_the_zone(received: str, won_by: int) -> None:
    """From 2026-07-01 until 2026-12-31 in Madrid: two hours before UTC in summer, one in winter."""
    rules = [fee("before", 1), fee("half", 2, since="2026-07-01", until="2026-12-31", zone="Europe/Madrid")]
    at_ms = round(datetime.fromisoformat(received).timestamp() * 1000)
    assert won(rules, received_at_ms=at_ms) == won_by


@pytest.mark.parametrize(
    ("named", "won_by"),
    [
        ({}, 2),
        ({"method": "wallet"}, 1),
        ({"currency": "CHF"}, 1),
        ({"country": "PT"}, 1),
        ({"amount_minor": 10_000, "channel": "pos"}, 1),
    ],
)
def test_every_filter_and_the_condition_must_hold(named: dict[str, Any], won_by: int) -> None:
    """One that does not hold is enough."""
    narrow = fee("narrow", 2, country=["ES"], method=["card"], currency=["EUR"], when='channel != "pos"')
    assert won([fee("else", 1), narrow], **named) == won_by


def test_all_limits_and_denials_apply() -> None:
    """The strictest wins, whichever file it is in."""
    limits = [Rule(id="wide", limit=LimitTerms(max_minor={"EUR": 20_000}))]
    strict = [Rule(id="strict", country=["ES"], limit=LimitTerms(max_minor={"EUR": 9_999}))]
    for answer in (decided(limits, strict), decided(strict, limits)):
        assert isinstance(answer, Rejected)
        assert (answer.reason, answer.rule) == ("amount_above_rule_limit", "strict")
    denied = decided([Rule(id="no", when="amount_minor == 10000", deny=DenyTerms(why="not here"))])
    assert denied == Rejected("denied_by_rule", "not here (rule no)", "no")  # type: ignore[arg-type]


def test_a_condition_that_fails_does_not_apply_or_rejects() -> None:
    """As the rule says; it is told either way."""
    when = 'metadata["none"] == ""'
    skipped = decided([Rule(id="skip", when=when, deny=DenyTerms(why="x"))])
    assert isinstance(skipped, Accepted)
    assert skipped.failed == ("skip",)
    rejected = decided([Rule(id="strict", when=when, on_error="reject", fee=FeeRules())])
    assert isinstance(rejected, Rejected)
    assert (rejected.reason, rejected.rule, rejected.failed) == ("rule_failed", "strict", ("strict",))


def test_routes_within_a_residency_carry_the_payment() -> None:
    """A route that keeps payments elsewhere does not; one that does not say is not judged."""
    within = Rule(id="eea", residency=ResidencyTerms(within=["IBERIA", "DE"]))
    abroad = decided([within], groups=GROUPS, routes={"simulator": ["US"]})
    assert isinstance(abroad, Rejected)
    assert (abroad.reason, abroad.rule) == ("route_not_allowed", "eea")
    other = decided([within], groups=GROUPS, routes={"simulator": ["US"], "local": ["ES"], "half": ["ES", "US"]})
    assert isinstance(other, Accepted)
    assert other.terms is not None
    assert (other.pic, other.terms.routes) == ("local", ["local"])
    unknown = decided([within], groups=GROUPS)
    assert isinstance(unknown, Accepted)
    assert unknown.pic == "simulator"
    chosen = decided(
        [within, Rule(id="r", route=RouteTerms(pics=["half", "local"]))], groups=GROUPS, routes={"half": ["US"]}
    )
    assert isinstance(chosen, Accepted)
    assert chosen.pic == "local"


def test_the_rules_that_applied_are_named() -> None:
    """In the order of their effects; what was not needed is not named."""
    rules = [
        Rule(id="l", locale=LocaleTerms(offered=["es-ES", "en"])),
        fee("f", 1),
        fee("not-reached", 2, country=["PT"]),
        Rule(id="max", limit=LimitTerms(max_minor={"EUR": 10_000})),
    ]
    answer = decided(rules, locale="en-GB")
    assert isinstance(answer, Accepted)
    assert answer.terms is not None
    assert (answer.terms.rules, answer.terms.locale) == (["max", "f", "l"], "en")


@pytest.mark.parametrize(
    ("pattern", "postcode", "fits"),
    [
        ("35*", "35 001", True),
        ("35*", "ES-35001", True),
        ("35*", "13500", False),
        ("7????", "71234", True),
        ("7????", "7123", False),
        ("7????", "712345", False),
        ("BT*", "bt1 1aa", True),
        ("20150..20199", "20150", True),
        ("20150..20199", "F-20199", True),
        ("20150..20199", "20200", False),
        ("20150..20199", "2015", False),
        ("1?0*", "1215", False),
        ("1?0*", "12045", True),
        ("27498", "D-27498", True),
        ("*", "", True),
    ],
)
def test_postcode_patterns(pattern: str, postcode: str, fits: bool) -> None:
    """Spaces, hyphens, case and the country before a code do not matter."""
    assert postcode_filter([pattern])(plain_postcode(postcode)) is fits


@pytest.mark.parametrize("pattern", ["", "35.*", "*35", "(a)", "1..22", "22..11", "1" * 13, "3**"])
def test_what_is_no_postcode_pattern(pattern: str) -> None:
    """Refused, with words."""
    with pytest.raises(FilterError):
        postcode_filter([pattern])


def test_a_british_postcode_is_not_taken_for_a_country() -> None:
    """``G1 1AA`` is in Glasgow."""
    assert plain_postcode("G1-1AA") == plain_postcode("g1 1aa") == "G11AA"


def test_regions_are_compared_without_their_country() -> None:
    """ISO 3166-2 writes ES-CN."""
    assert plain_region("es-cn") == plain_region(" CN ") == "CN"


@pytest.mark.parametrize(
    ("since", "until", "zone"),
    [("2026-02-30", "", "UTC"), ("26-01-01", "", "UTC"), ("2026-02-01", "2026-01-31", "UTC"), ("", "", "Mars/Base")],
)
def test_dates_that_are_none_are_refused(since: str, until: str, zone: str) -> None:
    """Also a name that is no zone, and an end before the beginning."""
    with pytest.raises(FilterError):
        in_force_ms(since, until, zone)


@given(st.integers(0, 4 * 10**12), st.integers(0, 40 * DAY_MS), st.sampled_from(["day", "week", "month"]))
def test_later_periods_have_higher_numbers(at_ms: int, more_ms: int, per: Any) -> None:
    """So a counter knows which is the newer one."""
    assert period_of(at_ms, per, "Europe/Berlin") <= period_of(at_ms + more_ms, per, "Europe/Berlin")


def test_periods_change_at_midnight_of_the_zone() -> None:
    """2026-11-30 is a Monday; in Tokyo it begins at 15:00 UTC of the day before, and December nine hours before Greenwich."""
    monday_ms = round(datetime.fromisoformat("2026-11-29T15:00:00Z").timestamp() * 1000)
    assert period_of(monday_ms, "week", "Asia/Tokyo") == period_of(monday_ms - 1, "week", "Asia/Tokyo") + 7
    assert period_of(monday_ms, "day", "Asia/Tokyo") == period_of(monday_ms - 1, "day", "Asia/Tokyo") + 1
    december_ms = round(datetime.fromisoformat("2026-11-30T15:00:00Z").timestamp() * 1000)
    assert period_of(december_ms, "month", "Asia/Tokyo") == period_of(december_ms - 1, "month", "Asia/Tokyo") + 1


def test_one_book_answers_for_every_day() -> None:
    """Plans are kept, each for the span of days in which the same rules are in force: in whatever order payments come."""
    rules = TenantRules(tenant="t1", pic="simulator", currencies=["EUR"])
    book = RuleBook([fee("old", 1), fee("new", 2, since="2026-01-01"), fee("gone", 3, until="2019-12-31")], {}, [], {})
    days = {"2019-06-01": 3, "2025-12-31": 1, "2026-01-01": 2, "2020-01-01": 1, "2019-12-31": 3}
    for day, percent_bp in days.items():
        at_ms = round(datetime.fromisoformat(f"{day}T00:00:00Z").timestamp() * 1000)
        answer = localize(a_payment(received_at_ms=at_ms), rules, book)
        assert isinstance(answer, Accepted)
        assert answer.fee_minor == percent_bp, day
