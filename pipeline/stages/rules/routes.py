"""Which payment integration clients (PICs) may carry a payment, in which order: routing, and failover after it. Pure.

What is offered comes from the ``route`` rule that applies, by priority, cost or split, else from the tenant's ``pic`` and
``failover``. What a PIC does not take, or may not keep, is left out of it. A repeat gets the same order: the place of a payment
in a split comes from its tenant and id alone.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from hashlib import blake2b
from itertools import accumulate
from typing import TYPE_CHECKING, Final

import msgspec

from pipeline.stages.rules.facts import Facts
from pipeline.stages.rules.fees import fee_minor
from schemas.tenant_rules import TenantRules

if TYPE_CHECKING:
    from pipeline.stages.rules.rule_book import Ready, RuleBook

_POINT_BITS: Final = 64


class RouteView(msgspec.Struct, frozen=True, kw_only=True):
    """One PIC of a decision: its ``place`` in the order from 1, 0 when it is left out, and why."""

    pic: str
    place: int
    why: str


class Split:
    """Weights of PICs: each is the first for its share of the payments, and the others follow by weight, the heaviest first.

    A weight of 0 is never the first. Equal weights are ordered by name: the order of a mapping does not count.
    """

    __slots__ = ("_ends", "_orders", "weights")

    def __init__(self, weights: Mapping[str, int]) -> None:
        self.weights = weights
        ranked = sorted(weights, key=lambda pic: (-weights[pic], pic))
        shared = sorted(pic for pic in weights if weights[pic] > 0)
        self._ends = list(accumulate(weights[pic] for pic in shared))
        self._orders = [(pic, *(other for other in ranked if other != pic)) for pic in shared]

    @property
    def whole(self) -> int:
        """All weights together."""
        return self._ends[-1]

    def order(self, tenant: str, payment_id: str) -> Sequence[str]:
        """The PICs for a payment, the first one by its place in the split."""
        # Not CRC-32, which Kafka's partitions come from: one partition's payments would all be in one part of the split.
        digest = blake2b(f"{tenant}|{payment_id}".encode(), digest_size=_POINT_BITS // 8).digest()
        point = int.from_bytes(digest, "big") * self._ends[-1] >> _POINT_BITS
        return self._orders[bisect_right(self._ends, point)]


def order_routes(
    facts: Facts, rules: TenantRules, book: RuleBook, residency: Ready | None, route: Ready | None
) -> list[str]:
    """The PICs that may carry the payment, the preferred one first; ``residency`` and ``route`` are the rules that apply."""
    offered = _offered(facts, rules, book, residency, route)
    if residency is None and not rules.pics:
        return list(offered)
    return [pic for pic in offered if not _left_out(pic, facts, rules, book, residency)]


def explain_routes(
    facts: Facts, rules: TenantRules, book: RuleBook, residency: Ready | None, route: Ready | None
) -> list[RouteView]:
    """Every PIC that :func:`order_routes` looks at: those that may carry the payment in their order, then those left out."""
    carry: list[RouteView] = []
    others: list[RouteView] = []
    for at, pic in enumerate(_offered(facts, rules, book, residency, route)):
        if left_out := _left_out(pic, facts, rules, book, residency):
            others.append(RouteView(pic=pic, place=0, why=left_out))
        else:
            why = _why(at, pic, facts, rules, route)
            carry.append(RouteView(pic=pic, place=len(carry) + 1, why=why))
    return carry + others


def _offered(
    facts: Facts, rules: TenantRules, book: RuleBook, residency: Ready | None, route: Ready | None
) -> Sequence[str]:
    if route is None:
        own = [rules.pic, *rules.failover]
        return own if residency is None else [*own, *(pic for pic in book.routes if pic not in own)]
    if route.split is not None:
        return route.split.order(rules.tenant, facts.payment_id)
    offered: list[str] = route.terms.pics
    if route.terms.by == "cost":  # Of equal costs the one named before: sorting keeps their order.
        return sorted(offered, key=lambda pic: _cost_minor(pic, facts, rules))
    return offered


def _cost_minor(pic: str, facts: Facts, rules: TenantRules) -> int:
    cost = rules.pics[pic].cost
    assert cost is not None  # Checked with the rule.
    return fee_minor(facts.amount_minor, facts.currency, cost)


def _left_out(pic: str, facts: Facts, rules: TenantRules, book: RuleBook, residency: Ready | None) -> str:
    """Why ``pic`` does not carry the payment; empty when it may. One of which it is not said where it keeps payments may."""
    takes = rules.pics.get(pic)
    if takes is not None:
        if takes.methods and facts.method not in takes.methods:
            return f"does not take method {facts.method or '(none)'}"
        if takes.currencies and facts.currency not in takes.currencies:
            return f"does not take currency {facts.currency}"
    if residency is not None:
        within = residency.terms.within
        if any(country not in within for country in book.routes.get(pic, ())):
            return f"keeps payments outside of rule {residency.id}"
    return ""


def _why(at: int, pic: str, facts: Facts, rules: TenantRules, route: Ready | None) -> str:
    """Why ``pic`` is offered at place ``at``, from 0."""
    if route is None:
        if pic == rules.pic:
            return "the tenant's pic"
        return "the tenant's failover" if pic in rules.failover else "named in the tenant's routes"
    if route.split is not None:
        weight = f"weight {route.split.weights[pic]} of {route.split.whole}"
        return f"rule {route.id}: the payment is in its share, {weight}" if at == 0 else f"rule {route.id}: {weight}"
    if route.terms.by == "cost":
        return f"rule {route.id}: costs {_cost_minor(pic, facts, rules)} {facts.currency} (minor units)"
    return f"rule {route.id}: priority {at + 1}"
