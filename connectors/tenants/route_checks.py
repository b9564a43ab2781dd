"""What a tenant's routes must satisfy: every PIC that a payment may be routed to is there, and can do it. Pure."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Final

from connectors.pic.base import Abilities
from connectors.tenants.checks import suggestion
from connectors.tenants.names import shown
from connectors.tenants.rule_checks import RuleMistake, fee_mistakes, shown_id
from schemas.business_rules import Rule
from schemas.identity import PIC_PATTERN
from schemas.money import is_currency
from schemas.tenant_rules import PicRules, TenantRules

#: More payment integration clients than any tenant has.
PICS_MAX: Final = 20

_UNKNOWN: Final[Mapping[str, Abilities]] = MappingProxyType({})
_ALL: Final = PicRules()


def route_mistakes(
    rules: TenantRules, *, pics: Collection[str] | None = None, abilities: Mapping[str, Abilities] = _UNKNOWN
) -> Iterator[RuleMistake]:
    """Every mistake in what ``rules`` say of PICs, but for the form of single rules.

    ``pics`` are those that have a plugin; None takes any name. ``abilities`` are what plugins can do; one that is not there is
    not judged by them.
    """
    yield from _said_of_pics(rules, abilities)
    yield from _failover(rules)
    for path, pic, rule in _uses(rules):
        before = "" if rule is None else f"{shown_id(rule)}: "
        # Of "pic" it is told with the fields beside it, of what is no name with the rule's.
        if pics is not None and pic not in pics and path != "pic" and PIC_PATTERN.match(pic):
            there = ", ".join(sorted(pics)) or "(no PIC is set up)"
            yield RuleMistake(path, f"{before}must be one of {there}, is {shown(pic)}")
        for what in _cannot(pic, rule, rules, abilities.get(pic)):
            yield RuleMistake(path, before + what)
        by_cost = rule is not None and rule.route is not None and rule.route.by == "cost" and not rule.route.split
        if by_cost and rules.pics.get(pic, _ALL).cost is None:
            yield RuleMistake(path, f"{before}{pic} has no cost to compare: write it in pics.{pic}.cost")


def _uses(rules: TenantRules) -> Iterator[tuple[str, str, Rule | None]]:
    """Where payments may be routed: path, PIC, and the rule."""
    yield "pic", rules.pic, None
    for at, pic in enumerate(rules.failover):
        yield f"failover[{at}]", pic, None
    for path, of_set in (("", rules.rules), ("shadow.", rules.shadow.rules if rules.shadow else [])):
        for at, rule in enumerate(of_set):
            if rule.route is not None:
                route = f"{path}rules[{at}].route"
                yield from ((f"{route}.pics[{n}]", pic, rule) for n, pic in enumerate(rule.route.pics))
                yield from ((f"{route}.split.{pic}", pic, rule) for pic in rule.route.split)


def _failover(rules: TenantRules) -> Iterator[RuleMistake]:
    if len(rules.failover) > PICS_MAX:
        yield RuleMistake("failover", f"must be at most {PICS_MAX}, are {len(rules.failover)}")
    for at, pic in enumerate(rules.failover):
        if not PIC_PATTERN.match(pic):
            text = f"must be the name of a payment integration client, is {shown(pic)}"
            yield RuleMistake(f"failover[{at}]", text)
        if pic == rules.pic:
            yield RuleMistake(f"failover[{at}]", f"{pic} is the tenant's pic, which is tried first")
        elif pic in rules.failover[:at]:
            yield RuleMistake(f"failover[{at}]", f"{shown(pic)} is named twice")


def _said_of_pics(rules: TenantRules, abilities: Mapping[str, Abilities]) -> Iterator[RuleMistake]:
    if len(rules.pics) > PICS_MAX:
        yield RuleMistake("pics", f"must be at most {PICS_MAX}, are {len(rules.pics)}")
    used = {pic for _, pic, _ in _uses(rules)} | rules.routes.keys()
    for pic, said in rules.pics.items():
        path = f"pics.{pic}"
        if pic not in used:
            yield RuleMistake(path, f"no payment is routed to it; {suggestion(pic, sorted(used))}")
        can = abilities.get(pic)
        for name, values, taken, able in (
            ("methods", said.methods, rules.methods, can.methods if can else ()),
            ("currencies", said.currencies, rules.currencies, can.currencies if can else ()),
        ):
            for at, value in enumerate(values):
                if value not in taken:
                    yield RuleMistake(
                        f"{path}.{name}[{at}]", f"is none of the tenant's {name}; {suggestion(value, taken)}"
                    )
                elif able and value not in able:
                    yield RuleMistake(f"{path}.{name}[{at}]", f"{pic} cannot do {value}: {_does(able)}")
        if said.cost is not None:
            yield from _cost(f"{path}.cost", said, rules.currencies)


def _cost(path: str, said: PicRules, taken: Sequence[str]) -> Iterator[RuleMistake]:
    cost = said.cost
    assert cost is not None
    for mistake in fee_mistakes(cost):
        yield RuleMistake(f"{path}.{mistake.path}", mistake.text)
    for name, amounts in (("fixed_minor", cost.fixed_minor), ("min_minor", cost.min_minor), ("tiers", cost.tiers)):
        for currency in amounts:
            if is_currency(currency) and currency not in taken:
                yield RuleMistake(f"{path}.{name}.{currency}", "must be under one of the tenant's currencies")
    # What is left out counts as nothing, and would win every comparison.
    missing = [code for code in said.currencies or taken if code not in cost.fixed_minor and code not in cost.tiers]
    if cost.fixed_minor and missing:
        text = f"must name {', '.join(missing)} too: what is left out costs nothing; write 0 where that is so"
        yield RuleMistake(f"{path}.fixed_minor", text)


def _cannot(pic: str, rule: Rule | None, rules: TenantRules, can: Abilities | None) -> Iterator[str]:
    """What ``pic`` is asked for by ``rule``, or without one by the tenant, and cannot do.

    Without a filter of the rule all that the tenant takes comes; then what ``pics`` keeps away from the PIC is no mistake.
    """
    said = rules.pics.get(pic, _ALL)
    for name, named, taken, kept, able in (
        ("methods", rule.method if rule else [], rules.methods, said.methods, can.methods if can else ()),
        ("currencies", rule.currency if rule else [], rules.currencies, said.currencies, can.currencies if can else ()),
    ):
        asked = named or list(taken)
        if any(value not in taken for value in kept):
            continue  # Told where it is written.
        refused = [value for value in asked if kept and value not in kept]
        if refused and (named or len(refused) == len(asked)):
            yield f"{pic} does not take {', '.join(refused)}: pics.{pic}.{name} has {', '.join(kept)} only"
        unable = [value for value in asked if able and value not in able and not kept]
        if unable:
            where = f"pics.{pic}.{name}" + (f", or the rule's {name.rstrip('s')}" if rule and name == "methods" else "")
            hint = "" if named else f"; say in {where} what it is for"
            yield f"{pic} cannot do {', '.join(unable)}: {_does(able)}{hint}"


def _does(able: Collection[str]) -> str:
    return f"its plugin does {', '.join(sorted(able))}"
