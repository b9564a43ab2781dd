"""What is wrong with rules is told where it is; what is right is bounded."""

from __future__ import annotations

import time
from pathlib import Path

import msgspec
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from connectors.rules.cases import read_cases, run_cases
from connectors.tenants.book import rule_book
from connectors.tenants.document import TenantFileError, check_edition, document_of, parse_tenants, place_in
from connectors.tenants.rule_checks import RULES_MAX, tenant_rule_mistakes
from pipeline.bench.rules import AT_MS, hostile, hostile_payment
from pipeline.stages.localization import Accepted, localize
from pipeline.stages.rules.facts import facts_of
from schemas.business_rules import Rule
from schemas.tenant_rules import TenantRules

ROOT = Path(__file__).parents[2]
HEAD = "tenant: acme\npic: simulator\ncurrencies: [EUR]\n"


def refused(text: str) -> list[str]:
    """Why the rules in ``text`` are refused, from line and column on."""
    with pytest.raises(TenantFileError) as caught:
        parse_tenants(HEAD + text, "t.yaml", pics=("simulator",))
    return [mistake.removeprefix("t.yaml:") for mistake in caught.value.mistakes]


def rule(text: str) -> str:
    """A file with one rule, ``a``, whose fields begin on line 6."""
    return "rules:\n- id: a\n" + "".join(f"  {line}\n" for line in text.splitlines())


@pytest.mark.parametrize(
    ("text", "mistake"),
    [
        ('when: amount_minor > "x"\ndeny: {why: x}', "6:22: rules[0].when: a: found no matching overload"),
        ('when: "country == \\"DE\\" && foo"\ndeny: {why: x}', "6:31: rules[0].when: a: undeclared reference to 'foo'"),
        ("when: 'country == ''DE'' && foo'\ndeny: {why: x}", "6:31: rules[0].when: a: undeclared reference to 'foo'"),
        ("when: |\n  country == 'DE'\n    && foo\ndeny: {why: x}", "8:10: rules[0].when: a: undeclared reference"),
        ("when: >\n  country == 'DE'\n  && foo\ndeny: {why: x}", "8:8: rules[0].when: a: undeclared reference"),
        ("when: country\n  == 5\ndeny: {why: x}", "7:5: rules[0].when: a: found no matching overload"),
        ("country: [XX]\ndeny: {why: x}", "6: rules[0].country[0]: a: must be an ISO 3166-1 code"),
        ("postcode: ['3(']\ndeny: {why: x}", "6: rules[0].postcode[0]: a: a postcode pattern is"),
        ("from: 2026-02-30\ndeny: {why: x}", "6: rules[0].from: a: a day is written YYYY-MM-DD"),
        ("from: 2026-02-01\nuntil: 2026-01-01\ndeny: {why: x}", "7: rules[0].until: a: until is before from"),
        ("zone: Mars\ndeny: {why: x}", "6: rules[0].zone: a: is not the name of a time zone"),
        ("method: [Card]\ndeny: {why: x}", "6: rules[0].method[0]: a: must be the name of a method"),
        ("currency: [EURO]\ndeny: {why: x}", "6: rules[0].currency[0]: a: must be an ISO 4217 code"),
        ("source: nowhere", "5: rules[0]: a: has no effect; there are"),
        ("deny: {why: x}\nfee: {percent_bp: 1}", "7: rules[0].fee: a: has the effect deny already"),
        ("deny: {why: ''}", "6: rules[0].deny.why: a: must be 1 to 100 characters"),
        ("fee: {percent_bp: 10001}", "6: rules[0].fee.percent_bp: a: must be between 0 and 10000"),
        ("fee: {cap_minor: {EUR: 1}, min_minor: {EUR: 2}}", "6: rules[0].fee.cap_minor.EUR: a: must be at least"),
        ("fee: {tiers: {EUR: [{above_minor: 5}]}}", "6: rules[0].fee.tiers.EUR[0].above_minor: a: must be 0"),
        ("fee: {tiers: {EUR: [{}, {}]}}", "6: rules[0].fee.tiers.EUR[1].above_minor: a: must be above 0"),
        ("fee: {tiers_apply: some}", "6: rules[0].fee.tiers_apply: must be one of whole, part, is 'some'"),
        ("limit: {max_minor: {EUR: -1}}", "6: rules[0].limit.max_minor.EUR: a: must be between 0 and"),
        ("payer_limit: {per: year, max_count: 1}", "6: rules[0].payer_limit.per: must be one of day, week, month"),
        ("payer_limit: {}", "6: rules[0].payer_limit: a: must have max_count or max_minor"),
        ("tax: {rates_bp: {reduced: 1}}", "6: rules[0].tax.rates_bp: a: must have a rate for standard"),
        ("value_date: {calendar: t2-1999, cut_off: '17:00'}", "6: rules[0].value_date: a: calendar 't2-1999' is not"),
        ("locale: {offered: [german]}", "6: rules[0].locale.offered[0]: a: must be a language tag"),
        ("residency: {within: [EEA]}", "6: rules[0].residency.within[0]: a: must be an ISO 3166-1 code"),
        ("off: true", "6: rules[0].off: a: no inherited rule has this id"),
        ("off: 1\ndeny: {why: x}", "6: rules[0].off: must be true or false"),
        ("deny: {why: x}\nwhere: DE", "7: rules[0].where: unknown field; did you mean when?"),
    ],
)
def test_each_mistake_is_told_with_its_place(text: str, mistake: str) -> None:
    """Line, and column in a condition, whatever way it is written in YAML; the path; the rule; what is wrong."""
    (told,) = refused(rule(text))
    assert told.startswith(mistake), told


def test_mistakes_around_rules() -> None:
    """Ids, groups, editions and routes."""
    assert refused("rules:\n- {id: a, deny: {why: x}}\n- {id: a, deny: {why: x}}\n") == [
        "6: rules[1].id: a is a rule already, at rules[0]"
    ]
    assert refused("groups: {alps: [AT], DE: [DE]}\n")[0].startswith("4: groups.alps: a group's name must be")
    assert refused("inherits: [eu-1999-01]\n")[0].startswith("4: inherits[0]: must be one of ")
    assert refused("routes: {simulator: [ZZ]}\n")[0].startswith("4: routes.simulator[0]: must be an ISO 3166-1")
    assert refused("shadow: {rules: [{id: a, when: x, deny: {why: x}}]}\n")[0].startswith(
        "4:32: shadow.rules[0].when: a:"
    )


def test_base_rules_cite_their_source() -> None:
    """And are told as tenants' rules are."""
    with pytest.raises(TenantFileError, match=r"e.yaml:2: rules\[0\].source: a: is missing"):
        check_edition("edition: eu-2026-11\nrules: [{id: a, deny: {why: x}}]\n", "e.yaml")


def test_the_number_of_rules_and_their_cost_are_limited() -> None:
    """Together they bound what a payment of the tenant can cost."""
    many = [Rule(id=f"r{n}", when="amount_minor > 1", fee=None, off=False) for n in range(RULES_MAX + 1)]
    tenant = TenantRules(tenant="t1", pic="simulator", currencies=["EUR"], rules=many)
    assert [mistake.text for mistake in tenant_rule_mistakes(tenant)] == ["must be at most 200, are 201"]
    costly = "\n".join(f"- {{id: r{n}, when: 'country.matches(\"(abc?){{9}}\")', deny: {{why: x}}}}" for n in range(20))
    assert any("cost" in text and "at most 12000" in text for text in refused("rules:\n" + costly))


@pytest.mark.parametrize(("name", "rules"), list(hostile()), ids=[name for name, _ in hostile()])
def test_the_worst_rules_that_are_taken_cost_little(name: str, rules: TenantRules) -> None:
    """A hostile tenant's payment takes a millisecond or so of a worker (`ptr bench rules`); never what stops others."""
    facts, book = facts_of(hostile_payment(), AT_MS), rule_book(rules)
    best_s = 1.0
    for _ in range(5):
        began = time.perf_counter()
        assert isinstance(localize(facts, rules, book), Accepted)
        best_s = min(best_s, time.perf_counter() - began)
    assert best_s < 0.02, name


_LINES = st.lists(st.text(st.sampled_from("ab ='\""), min_size=1, max_size=12), min_size=1, max_size=4)


@given(_LINES, st.sampled_from(["|", ">", "'", '"']), st.data())
def test_places_are_found_in_every_style(lines: list[str], style: str, data: st.DataObject) -> None:
    """The character at an offset of the value is the one at the place in the file, however the text is quoted and folded."""
    words = " ".join(lines).split() or ["x"]
    value = " ".join(words)
    text = yaml.dump({"when": value}, default_style=style, width=12, default_flow_style=False)
    node = yaml.compose(text).value[0][1]
    offset = data.draw(st.sampled_from([at for at, character in enumerate(node.value) if not character.isspace()]))
    line, column = place_in(text, node, offset)
    found = text.splitlines()[line - 1][column - 1]
    assert found == node.value[offset] or (found, style) == ("\\", '"')


def test_cases_are_decided_and_compared() -> None:
    """The example of the documents: what comes out as expected, and what does not."""
    tenants = parse_tenants(
        HEAD + rule("payer_limit: {max_count: 2}") + "fee: {percent_bp: 100}\n", "t.yaml", pics=("simulator",)
    )
    text = """
- case: third of a day
  at: 2026-11-27T10:00:00Z
  given:
    - {amount_minor: 100, currency: EUR, country: DE}
    - {amount_minor: 100, currency: EUR, country: DE}
  payment: {amount_minor: 100, currency: EUR, country: DE}
  expect: {outcome: rejected, reason: payer_limit_reached, rejected_by: a}
- case: wrong
  at: 2026-11-27T10:00:00Z
  payment: {amount_minor: 100, currency: EUR, country: DE}
  expect: {fee_minor: 2, applied: [b], not_applied: [a]}
"""
    right, wrong = run_cases(tenants, read_cases(text, "c.yaml"), "c.yaml")
    assert right.differences == ()
    assert (wrong.line, wrong.differences) == (
        9,
        ("fee_minor is 1, expected 2", "rule b did not apply", "rule a applied"),
    )


@pytest.mark.parametrize(
    ("text", "mistake"),
    [
        ("[]", "c.yaml:1: the file holds no case"),
        (
            "- {case: a, at: today, payment: {amount_minor: 1, currency: EUR, country: DE}, expect: {}}",
            "must be a time",
        ),
        (
            "- {case: a, at: '2026-11-27T10:00:00Z', payment: {amount_minor: 1}, expect: {}}",
            "payment.currency: is missing",
        ),
        (
            "- {case: a, at: '2026-11-27T10:00:00Z', expect: {fee_mino: 1}}",
            "expect.fee_mino: unknown field; did you mean fee_minor?",
        ),
    ],
)
def test_mistakes_in_cases(text: str, mistake: str) -> None:
    """As in tenants' files."""
    with pytest.raises(TenantFileError, match=mistake.replace("?", r"\?")):
        read_cases(text, "c.yaml")


def test_a_document_depends_on_its_rules_only() -> None:
    """A default that is written out is the same as one that is not, also after a document was read."""
    short = parse_tenants(HEAD + rule("payer_limit: {max_count: 2}"), "t.yaml", pics=("simulator",))
    long = parse_tenants(
        HEAD + rule("payer_limit: {per: day, max_count: 2}\nwhen: ''\ncountry: []"), "t.yaml", pics=("simulator",)
    )
    document = document_of(short[0])
    assert document_of(long[0]) == document
    assert document_of(msgspec.json.decode(document, type=TenantRules)) == document
    assert '"rules":[{"id":"a","payer_limit":{"max_count":2}}]' in document
