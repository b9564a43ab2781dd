"""A mistake in what a tenant says of PICs is told where it is: names, costs, weights, and what a PIC cannot do."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from connectors.pic.base import Abilities
from connectors.tenants.book import TenantBook
from connectors.tenants.document import TenantFileError, document_hash, document_of, parse_tenants
from connectors.tenants.route_checks import route_mistakes
from pipeline.cli import main
from schemas.records import TenantConfigured
from schemas.tenant_rules import TenantRules

HEAD = "tenant: acme\npic: any\ncurrencies: [EUR, CHF]\nmethods: {card: {}, wallet: {}}\n"
PICS = ("any", "cards", "banks")
ABILITIES = {
    "any": Abilities(),
    "cards": Abilities(methods=frozenset({"card"})),
    "banks": Abilities(methods=frozenset({"bank_account"}), currencies=frozenset({"EUR"})),
}
COSTS = "pics:\n  any: {cost: {percent_bp: 1}}\n  cards: {methods: [card], cost: {percent_bp: 2}}\n"


def parsed(text: str) -> TenantRules:
    (rules,) = parse_tenants(HEAD + text, "t.yaml", pics=PICS, abilities=ABILITIES)
    return rules


def refused(text: str) -> list[str]:
    """Why a file is refused, from the line on; ``text`` begins on line 5."""
    with pytest.raises(TenantFileError) as caught:
        parsed(text)
    return [mistake.removeprefix("t.yaml:") for mistake in caught.value.mistakes]


def rule(text: str) -> str:
    """A file with one rule, ``r``, whose fields begin on line 7."""
    return "rules:\n- id: r\n" + "".join(f"  {line}\n" for line in text.splitlines())


@pytest.mark.parametrize(
    ("text", "mistake"),
    [
        # Names.
        ("failover: [cads]\n", "5: failover[0]: must be one of any, banks, cards, is 'cads'"),
        ("failover: [any]\n", "5: failover[0]: any is the tenant's pic, which is tried first"),
        (
            "pics: {cards: {methods: [card]}}\nfailover: [cards, cards]\n",
            "6: failover[1]: 'cards' is named twice",
        ),
        ("failover: ['a|b']\n", "5: failover[0]: must be the name of a payment integration client, is 'a|b'"),
        (rule("route: {pics: [any, nobody]}"), "7: rules[0].route.pics[1]: r: must be one of any, banks, cards, is"),
        (rule("route:\n  split:\n    any: 1\n    nix: 2"), "10: rules[0].route.split.nix: r: must be one of"),
        ("pics:\n  cads: {methods: [card]}\n", "6: pics.cads: no payment is routed to it; there are any"),
        # Weights.
        (rule("route: {}"), "7: rules[0].route.pics: r: must name at least one payment integration client"),
        (rule("route: {split: {any: 0}}"), "7: rules[0].route.split: r: must have a weight above 0"),
        (rule("route: {split: {any: 1001}}"), "7: rules[0].route.split.any: r: must be between 0 and 1000, is 1001"),
        (rule("route: {split: {any: -1}}"), "7: rules[0].route.split.any: r: must be between 0 and 1000, is -1"),
        (rule("route: {pics: [any], split: {any: 1}}"), "7: rules[0].route.split: r: cannot stand beside pics"),
        (rule("route: {by: cost, split: {any: 1}}"), "7: rules[0].route.by: r: is for pics"),
        (rule("route: {by: price, pics: [any]}"), "7: rules[0].route.by: must be one of priority, cost, is 'price'"),
        # Costs.
        (
            rule("method: [card]\nroute:\n  by: cost\n  pics: [any, cards]")
            + COSTS.replace(", cost: {percent_bp: 2}", ""),
            "10: rules[0].route.pics[1]: r: cards has no cost to compare: write it in pics.cards.cost",
        ),
        ("pics:\n  any:\n    cost: {percent_bp: 10001}\n", "7: pics.any.cost.percent_bp: must be between 0 and 10000"),
        ("pics:\n  any:\n    cost: {fixed_minor: {EUR: 1}}\n", "7: pics.any.cost.fixed_minor: must name CHF too"),
        (
            "pics:\n  any:\n    cost: {fixed_minor: {EUR: 1, CHF: 1, JPY: 1}}\n",
            "7: pics.any.cost.fixed_minor.JPY: must be under one of the tenant's currencies",
        ),
        # What a PIC is for, and can do.
        (
            "pics: {any: {methods: [crad]}}\n",
            "5: pics.any.methods[0]: is none of the tenant's methods; did you mean card?",
        ),
        ("pics: {any: {currencies: [JPY]}}\n", "5: pics.any.currencies[0]: is none of the tenant's currencies"),
        (
            "failover: [cards]\npics: {cards: {methods: [card, wallet]}}\n",
            "6: pics.cards.methods[1]: cards cannot do wallet: its plugin does card",
        ),
        (
            "failover: [cards]\n",
            "5: failover[0]: cards cannot do wallet: its plugin does card; say in pics.cards.methods what it is for",
        ),
        (
            rule("method: [card, wallet]\nroute: {pics: [any, cards]}"),
            "8: rules[0].route.pics[1]: r: cards cannot do wallet: its plugin does card",
        ),
        (
            rule("route: {split: {cards: 1}}"),
            "7: rules[0].route.split.cards: r: cards cannot do wallet: its plugin does card; say in pics.cards.methods,"
            " or the rule's method what it is for",
        ),
        (
            rule("method: [wallet]\nroute: {pics: [cards]}") + "pics: {cards: {methods: [card]}}\n",
            "8: rules[0].route.pics[0]: r: cards does not take wallet: pics.cards.methods has card only",
        ),
        (
            rule("method: [bank_account]\ncurrency: [CHF]\nroute: {pics: [banks]}"),
            "9: rules[0].route.pics[0]: r: banks cannot do CHF: its plugin does EUR",
        ),
        (
            "shadow:\n  rules:\n  - id: s\n    method: [wallet]\n    route: {pics: [cards]}\n",
            "9: shadow.rules[0].route.pics[0]: s: cards cannot do wallet: its plugin does card",
        ),
    ],
)
def test_each_mistake_is_told_with_its_line_and_field(text: str, mistake: str) -> None:
    """And it is the only one."""
    (found,) = refused(text)
    assert found.startswith(mistake), found


def test_the_pic_of_the_tenant_is_judged_too() -> None:
    text = (HEAD + "failover: [any]\n").replace("pic: any", "pic: cards")
    with pytest.raises(TenantFileError) as caught:
        parse_tenants(text, "t.yaml", pics=PICS, abilities=ABILITIES)
    assert caught.value.mistakes == (
        "t.yaml:2: pic: cards cannot do wallet: its plugin does card; say in pics.cards.methods what it is for",
    )


@pytest.mark.parametrize(
    "text",
    [
        "failover: [cards]\npics: {cards: {methods: [card]}}\n",
        rule("method: [card]\nroute: {split: {any: 70, cards: 30}}"),
        rule("method: [card]\nroute: {pics: [any, cards], by: cost}") + COSTS,
        rule("method: [bank_account]\ncurrency: [EUR]\nroute: {pics: [banks]}"),
        rule("route: {pics: [any, cards]}") + "pics: {cards: {methods: [card]}}\n",
        "failover: [cards]\npics: {cards: {methods: [card], currencies: [EUR], cost: {fixed_minor: {EUR: 1}}}}\n",
    ],
)
def test_what_a_pic_is_for_may_be_said_by_the_tenant_or_by_the_rule(text: str) -> None:
    parsed(text)


def test_what_a_plugin_can_do_is_not_judged_where_it_is_not_known() -> None:
    """On a host without a PIC's secrets."""
    parse_tenants(HEAD + "failover: [cards]\n", "t.yaml", pics=PICS)


def test_a_file_that_could_not_be_read_is_not_judged_by_what_is_left_of_it() -> None:
    """One mistake, and none that hangs on it."""
    assert refused("pics: {cards: {methods: card}}\nfailover: [cards]\n") == [
        "5: pics.cards.methods: must be a list, is 'card'"
    ]


def test_a_record_is_judged_by_itself() -> None:
    """Any PIC's name is taken, for workers differ; a route by cost without a cost is not: it could not be decided."""
    book, names = TenantBook(), iter((1, 2))

    def applied(rules: TenantRules) -> bool:
        document = document_of(rules)
        record = TenantConfigured(
            tenant="acme", version=next(names), document=document, document_hash=document_hash(document)
        )
        return book.apply(record, 0)

    good = parsed(rule("method: [card]\nroute: {pics: [any, cards], by: cost}") + COSTS)
    assert applied(good)
    assert not applied(TenantRules(tenant="acme", pic="x", currencies=["EUR"], rules=good.rules))
    assert book.refused == 1


def test_documents_of_earlier_programs_have_no_mistake_in_their_routes() -> None:
    """Neither field is in them; both have a default."""
    rules = TenantRules(tenant="acme", pic="simulator", currencies=["EUR"], routes={"simulator": ["DE"]})
    assert list(route_mistakes(rules)) == []


# -- commands ---------------------------------------------------------------------------------------------------------


def ptr(*words: str, **settings: str) -> tuple[int, str]:
    """Exit code and output of `ptr rules`."""
    result = CliRunner(env=settings).invoke(main, ["rules", *words], prog_name="ptr")
    return result.exit_code, result.output


def test_a_file_is_checked_by_what_the_plugins_here_can_do(tmp_path: Path) -> None:
    """By their own word, made with the settings of this environment; one that cannot be made is told and not judged."""
    file = tmp_path / "tenants.yaml"
    file.write_text("tenant: acme\npic: simulator\ncurrencies: [EUR]\nfailover: [stripe]\n")
    code, said = ptr("check", str(file), PTR_PICS="simulator,stripe", PTR_PIC_STRIPE_API_KEY="sk_test_x")
    assert code == 1
    assert "tenants.yaml:4: failover[0]: stripe cannot do bank_account, wallet: its plugin does card" in said
    assert "sk_test_x" not in said
    code, said = ptr("check", str(file), PTR_PICS="simulator,stripe")
    assert code == 0
    assert (
        "routes to stripe are not checked by what it can do: PIC stripe: PTR_PIC_STRIPE_API_KEY_FILE is missing" in said
    )
    code, said = ptr("check", str(file), PTR_PICS="simulator")
    assert (code, "4: failover[0]: must be one of simulator, is 'stripe'" in said) == (1, True)


def test_cases_tell_the_order_and_why() -> None:
    """Of all with --routes, otherwise of those that differ; in JSON always."""
    docs = Path(__file__).parents[2] / "docs"
    files = (str(docs / "routing-example.yaml"), str(docs / "routing-example.cases.yaml"))
    pics = "stripe,iso8583,iso20022"
    code, said = ptr("test", *files, "--routes", PTR_PICS=pics)
    assert code == 0
    lines = [line.split(maxsplit=2) for line in said.splitlines()]
    assert ["1", "iso8583", "rule cards-by-cost: costs 265 EUR (minor units)"] in lines
    assert ["-", "iso20022", "does not take currency CHF"] in lines
    code, said = ptr("test", *files, PTR_PICS=pics)
    assert (code, said.splitlines()[-1], "costs" in said) == (0, "8 cases, 0 of them differ", False)
    _, said = ptr("test", *files, "--json", PTR_PICS=pics)
    cases = json.loads(said[said.index("[") :])
    assert cases[1]["routes"][0] == {
        "pic": "iso8583",
        "place": 1,
        "why": "rule cards-by-cost: costs 265 EUR (minor units)",
    }
