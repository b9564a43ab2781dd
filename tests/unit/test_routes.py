"""Which PICs may carry a payment, in which order: priority, cost, split, failover, and what a PIC is not for."""

from __future__ import annotations

from collections import Counter
from typing import Any
from zlib import crc32

import pytest
from hypothesis import given
from hypothesis import strategies as st

from connectors.tenants.book import rule_book
from pipeline.stages.localization import Accepted, Rejected, localize
from pipeline.stages.rules.explain import explain, explain_order
from pipeline.stages.rules.facts import Facts
from pipeline.stages.rules.routes import Split
from schemas.business_rules import FeeRules, RouteTerms, Rule
from schemas.localities import ResidencyTerms
from schemas.tenant_rules import PicRules, TenantRules

#: 2026-11-27T10:00:00Z.
AT_MS = 1_795_773_600_000


def a_payment(**named: Any) -> Facts:
    fields: dict[str, Any] = {
        "amount_minor": 10_000,
        "currency": "EUR",
        "method": "card",
        "country": "DE",
        "received_at_ms": AT_MS,
        "payment_id": "p1",
    }
    return Facts(**(fields | named))


def a_tenant(**named: Any) -> TenantRules:
    fields: dict[str, Any] = {"tenant": "t1", "pic": "a", "currencies": ["EUR", "CHF"]}
    return TenantRules(**(fields | named))


def decided(rules: TenantRules, **named: Any) -> Accepted | Rejected:
    return localize(a_payment(**named), rules, rule_book(rules))


def routed(rules: TenantRules, **named: Any) -> list[str]:
    """The PICs in their order; the first of them is the payment's."""
    answer = decided(rules, **named)
    assert isinstance(answer, Accepted)
    assert answer.terms is not None
    assert answer.pic == answer.terms.routes[0]
    return answer.terms.routes


def told(rules: TenantRules, **named: Any) -> list[tuple[int, str, str]]:
    """Place, PIC and why, as they are explained."""
    facts, book = a_payment(**named), rule_book(rules)
    views = explain_order(facts, rules, book, localize(facts, rules, book))
    return [(view.place, view.pic, view.why) for view in views]


def route(**terms: Any) -> Rule:
    return Rule(id="r", route=RouteTerms(**terms))


def cost(percent_bp: int, fixed_minor: int = 0) -> PicRules:
    return PicRules(cost=FeeRules(percent_bp=percent_bp, fixed_minor={"EUR": fixed_minor, "CHF": 0}))


# -- a tenant that says nothing, and failover ---------------------------------------------------------------------------


def test_a_plain_tenant_has_no_terms() -> None:
    """Its events are what they were."""
    answer = decided(a_tenant())
    assert answer == Accepted(0, "a", None)


def test_failover_follows_the_pic_without_any_rule() -> None:
    """In the order written; what is to be paid is the amount."""
    answer = decided(a_tenant(failover=["c", "b"]))
    assert isinstance(answer, Accepted)
    assert answer.terms is not None
    assert (answer.pic, answer.terms.routes, answer.terms.payable_minor) == ("a", ["a", "c", "b"], 10_000)


def test_failover_follows_the_pic_beside_rules_of_another_kind() -> None:
    """A fee says nothing of routes; a route says all of it."""
    rules = a_tenant(failover=["b"], rules=[Rule(id="f", fee=FeeRules(percent_bp=1))])
    assert routed(rules) == ["a", "b"]
    assert routed(a_tenant(failover=["b"], rules=[route(pics=["c"])])) == ["c"]
    assert told(rules) == [(1, "a", "the tenant's pic"), (2, "b", "the tenant's failover")]


def test_within_a_residency_failover_comes_before_others_that_keep_payments_there() -> None:
    rules = a_tenant(
        failover=["c", "d"],
        routes={"a": ["DE"], "b": ["DE"], "c": ["US"], "d": ["DE"]},
        rules=[Rule(id="de", residency=ResidencyTerms(within=["DE"]))],
    )
    assert routed(rules) == ["a", "d", "b"]
    assert told(rules) == [
        (1, "a", "the tenant's pic"),
        (2, "d", "the tenant's failover"),
        (3, "b", "named in the tenant's routes"),
        (0, "c", "keeps payments outside of rule de"),
    ]


# -- what a PIC is for ----------------------------------------------------------------------------------------------------


def test_a_pic_carries_only_what_it_is_for() -> None:
    """By method and by currency; one that is not named carries everything."""
    pics = {"a": PicRules(methods=["card"]), "b": PicRules(currencies=["CHF"])}
    rules = a_tenant(failover=["b", "c"], pics=pics)
    assert routed(rules) == ["a", "c"]
    assert routed(rules, currency="CHF") == ["a", "b", "c"]
    assert routed(rules, method="wallet", currency="CHF") == ["b", "c"]
    assert routed(rules, method="wallet") == ["c"]
    by_rule = a_tenant(pics=pics, rules=[route(pics=["b", "a"])])
    assert routed(by_rule) == ["a"]
    assert told(by_rule) == [(1, "a", "rule r: priority 2"), (0, "b", "does not take currency EUR")]


@pytest.mark.parametrize(
    ("rules", "rule"),
    [([], ""), ([route(pics=["a"])], "r"), ([Rule(id="de", residency=ResidencyTerms(within=["DE"]))], "de")],
)
def test_a_payment_that_nobody_carries_is_rejected(rules: list[Rule], rule: str) -> None:
    """The rule is named where one decided who carries it; it is told of every PIC why it does not."""
    tenant = a_tenant(pics={"a": PicRules(methods=["card"])}, rules=rules)
    answer = decided(tenant, method="wallet")
    assert isinstance(answer, Rejected)
    assert (answer.reason, answer.rule) == ("route_not_allowed", rule)
    assert answer.detail.startswith("no route of the tenant takes wallet in EUR")
    assert told(tenant, method="wallet") == [(0, "a", "does not take method wallet")]


def test_rules_after_the_routes_were_not_reached() -> None:
    """Where no rule rejected, but the tenant's own terms: those before it applied."""
    own = [Rule(id="f", fee=FeeRules(percent_bp=1)), Rule(id="w", allow_currencies=["EUR"])]
    after = Rule(id="d", method=["wallet"], payer_limit={"max_count": 1})  # type: ignore[arg-type]
    tenant = a_tenant(pics={"a": PicRules(methods=["card"])}, rules=[*own, after])
    facts, book = a_payment(method="wallet"), rule_book(tenant)
    views = {view.rule: view.what for view in explain(facts, book, localize(facts, tenant, book))}
    assert views == {"f": "applied", "w": "applied", "d": "not_reached"}


def test_no_routes_are_told_of_a_payment_that_never_came_to_them() -> None:
    assert told(a_tenant(failover=["b"]), currency="JPY") == []


# -- cost -------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("amount_minor", "order", "costs"),
    [
        (1_000, ["a", "c", "b"], [15, 50, 89]),  # 1.5 %; 50 at any amount; 0.9 % and 80
        (5_000, ["c", "a", "b"], [50, 75, 125]),
        (100_000, ["c", "b", "a"], [50, 980, 1_500]),
    ],
)
def test_the_cheapest_for_this_payment_is_the_first(amount_minor: int, order: list[str], costs: list[int]) -> None:
    rules = a_tenant(
        pics={"a": cost(150), "b": cost(90, 80), "c": cost(0, 50)}, rules=[route(pics=["a", "b", "c"], by="cost")]
    )
    assert routed(rules, amount_minor=amount_minor) == order
    whys = [f"rule r: costs {each} EUR (minor units)" for each in costs]
    assert told(rules, amount_minor=amount_minor) == list(zip([1, 2, 3], order, whys, strict=True))


def test_of_equal_costs_the_one_written_before_is_the_first() -> None:
    pics = {name: cost(100) for name in "abc"}
    assert routed(a_tenant(pics=pics, rules=[route(pics=["c", "a", "b"], by="cost")])) == ["c", "a", "b"]


def test_by_priority_costs_do_not_count() -> None:
    rules = a_tenant(pics={"a": cost(1), "b": cost(2)}, rules=[route(pics=["b", "a"])])
    assert routed(rules) == ["b", "a"]


# -- split --------------------------------------------------------------------------------------------------------------------


def test_a_split_gives_each_its_share_and_the_rest_by_weight() -> None:
    """Of 20,000 payments 70, 20 and 10 of 100 within 1 %; what has weight 0 is never the first, and the last."""
    rules = a_tenant(rules=[route(split={"a": 10, "b": 70, "none": 0, "c": 20})])
    book = rule_book(rules)
    orders: Counter[tuple[str, ...]] = Counter()
    for number in range(20_000):
        answer = localize(a_payment(payment_id=f"order-{number}"), rules, book)
        assert isinstance(answer, Accepted)
        assert answer.terms is not None
        orders[tuple(answer.terms.routes)] += 1
    assert set(orders) == {("b", "c", "a", "none"), ("c", "b", "a", "none"), ("a", "b", "c", "none")}
    for first, share in (("b", 0.7), ("c", 0.2), ("a", 0.1)):
        assert sum(n for order, n in orders.items() if order[0] == first) / 20_000 == pytest.approx(share, abs=0.01)


def test_a_split_is_the_same_however_its_weights_are_written() -> None:
    """A document's keys are sorted and a file's are not: the same payment goes the same way, also after a repeat."""
    one, other = Split({"b": 1, "a": 1, "c": 3}), Split({"c": 3, "a": 1, "b": 1})
    ids = [f"p{n}" for n in range(500)]
    assert [one.order("t", each) for each in ids] == [other.order("t", each) for each in ids]
    assert len({one.order("t", each)[0] for each in ids}) == 3
    assert [one.order("t", each) for each in ids] != [one.order("u", each) for each in ids]


def test_a_split_keeps_payments_where_they_were_when_weights_are_scaled() -> None:
    small, large = Split({"a": 7, "b": 3}), Split({"a": 700, "b": 300})
    assert all(small.order("t", f"p{n}") == large.order("t", f"p{n}") for n in range(500))


def test_a_split_is_even_within_each_partition() -> None:
    """A payment's partition is CRC-32 of the same text: all of one partition's payments must not be in one part."""
    split = Split({"a": 1, "b": 1})
    for partition in range(4):
        ids = [f"p{n}" for n in range(8_000) if crc32(f"t|p{n}".encode()) % 4 == partition]
        assert sum(split.order("t", each)[0] == "a" for each in ids) / len(ids) == pytest.approx(0.5, abs=0.05)


@given(st.dictionaries(st.sampled_from("abcdef"), st.integers(0, 1_000), min_size=1), st.text(max_size=40))
def test_every_split_orders_all_of_its_pics_once(weights: dict[str, int], payment_id: str) -> None:
    """The first one has a weight, the others are in order of theirs."""
    weights["z"] = 1
    first, *others = Split(weights).order("t", payment_id)
    assert weights[first] > 0
    assert sorted([first, *others]) == sorted(weights)
    assert [weights[pic] for pic in others] == sorted((weights[pic] for pic in others), reverse=True)


def test_a_split_is_explained() -> None:
    """Whoever is the first is so by its share."""
    rules = a_tenant(rules=[route(split={"a": 70, "b": 30})])
    (first, second) = told(rules)
    assert first[2] == f"rule r: the payment is in its share, weight {70 if first[1] == 'a' else 30} of 100"
    assert second[2] == f"rule r: weight {70 if second[1] == 'a' else 30} of 100"
    assert [first[1], second[1]] == routed(rules)
