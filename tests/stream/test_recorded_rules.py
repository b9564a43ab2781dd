"""Recorded decisions: explained, made again byte for byte, and backtested against other rules."""

from __future__ import annotations

import json
from io import BytesIO
from pathlib import Path

import fastavro
import msgspec
import pytest
from click.testing import CliRunner

from connectors.rules.recorded import recorded_decision, repeats
from connectors.sinks.database import Batch, open_database
from connectors.sinks.rows import Mapper, state_of
from connectors.tenants.book import rule_book
from connectors.tenants.document import document_hash, document_of
from pipeline import topics
from pipeline.cli import main
from pipeline.stages.localization import Rejected, localize
from pipeline.stages.rules.facts import facts_of
from schemas.business_rules import DenyTerms, FeeRules, LimitTerms, PayerLimitTerms, Rule, ShadowRules
from schemas.codec import SINGLE_OBJECT, earlier_schemas, encode_request, fingerprint_of
from schemas.reasons import Reason
from schemas.records import PaymentLocalized, PaymentScreened, TenantConfigured
from schemas.tenant_rules import PicRules, TenantRules
from tests.builders import a_request
from tests.simulation.world import NOW_MS
from tests.stream.events import a_fact
from tests.stream.shell import CODEC, Shell

RULES = TenantRules(
    tenant="t1",
    pic="simulator",
    failover=["simulator-2"],
    pics={"simulator-2": PicRules(methods=["wallet"])},
    currencies=["EUR"],
    inherits=["eu-2026-11"],
    rules=[
        Rule(id="gold", when='meta("plan") == "gold"', source="price list", fee=FeeRules(percent_bp=100)),
        Rule(id="closed", country=["FR"], deny=DenyTerms(why="closed in France")),
        Rule(id="later", since="2099-01-01", fee=FeeRules(percent_bp=9_000)),
    ],
    shadow=ShadowRules(rules=[Rule(id="max", limit=LimitTerms(max_minor={"EUR": 1_500}))]),
)
#: Six payments: amount, plan, country.
PAYMENTS = [
    (1000, "", "DE"),
    (2000, "gold", "DE"),
    (1000, "", "FR"),
    (3000, "", "DE"),
    (1000, "gold", "DE"),
    (500, "", "DE"),
]


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> str:
    """An audit database of what localization and the payer stage made of the payments."""
    folder: Path = tmp_path_factory.mktemp("audit")
    url = f"sqlite:///{folder}/audit.db"
    shell = Shell("localization", RULES)
    screened = []
    for number, (amount_minor, plan, country) in enumerate(PAYMENTS):
        request = a_request(
            payment_id=f"p{number}",
            amount_minor=amount_minor,
            country=country,
            channel="web",
            metadata={"plan": plan} if plan else {},
            requested_at_ms=NOW_MS,
        )
        fact = a_fact(
            PaymentScreened,
            sender_offset=number,
            payment_id=f"p{number}",
            amount_minor=amount_minor,
            country=country,
            received_at_ms=NOW_MS + number,
            request=encode_request(request),
        )
        screened.append(shell.give(topics.SCREENED.name, fact, f"t1|p{number}".encode()))
    shell.run()
    payer = Shell("payer", RULES)
    localized = shell.world.broker.all(topics.LOCALIZED.name)
    for kept in localized:
        payer.give(topics.LOCALIZED.name, kept.value, kept.key)
    payer.run()
    document = document_of(RULES)
    configured = TenantConfigured(tenant="t1", version=1, document=document, document_hash=document_hash(document))
    records = [(topics.TENANTS.name, 0, 0, NOW_MS, CODEC.encode(configured))]
    for topic, log in (
        (topics.SCREENED.name, screened),
        (topics.LOCALIZED.name, localized),
        (topics.PROFILED.name, payer.world.broker.all(topics.PROFILED.name)),
    ):
        records += [(topic, kept.partition, kept.offset, NOW_MS + at, kept.value) for at, kept in enumerate(log)]
    opened = open_database(url, create=True)
    opened.lock()
    opened.migrate()
    mapper = Mapper(CODEC)
    rows = [mapper.columns(*record) for record in records]
    opened.write(Batch(rows, [state for row in rows if (state := state_of([row], mapper.record_of)) is not None]))
    opened.close()
    return url


def run(*arguments: str) -> tuple[int, str]:
    result = CliRunner(env={"PTR_PICS": "simulator,simulator-2"}).invoke(main, ["rules", *arguments])
    return result.exit_code, result.output


@pytest.mark.parametrize("number", range(len(PAYMENTS)))
def test_a_recorded_decision_is_repeated_byte_for_byte(database: str, number: int) -> None:
    """From the recorded version of the configuration and the recorded PTR, base rules among them."""
    code, shown = run("explain", "t1", f"p{number}", "--database", database, "--json")
    told = json.loads(shown)
    assert (code, told["repeated"], told["version"]) == (0, True, 1)
    if told["localized"]["outcome"] == "accepted":
        assert _applied(database, f"p{number}") == told["localized"]["terms"]["rules"]


def test_an_explanation_says_which_rules_applied_and_why_others_did_not(database: str) -> None:
    """In words; rules that a filter keeps away only when they are asked for."""
    code, shown = run("explain", "t1", "p1", "--database", database)
    assert code == 0
    lines = {line.split()[1]: line for line in shown.splitlines() if line.startswith("  fee  ") or " tax " in line}
    assert "applied  [price list]" in lines["gold"]
    assert "later" not in lines
    assert "decided again from version 1: the same" in shown
    assert "cash-rounding" not in shown  # Those of other countries are filtered; it is not paid in cash anyway.
    _, everything = run("explain", "t1", "p1", "--database", database, "--all")
    assert any("later" in line and "filtered: from" in line for line in everything.splitlines())
    _, rejected = run("explain", "t1", "p2", "--database", database)
    assert "rejected (denied_by_rule)" in rejected
    assert any("closed" in line and line.rstrip().endswith("rejected") for line in rejected.splitlines())
    _, other = run("explain", "t1", "p0", "--database", database)
    assert any("gold" in line and "false" in line for line in other.splitlines())


def test_an_explanation_says_who_may_carry_the_payment_and_why(database: str) -> None:
    """The order of PICs after the rules; nothing of a payment that was rejected before."""
    _, shown = run("explain", "t1", "p1", "--database", database)
    at = shown.splitlines().index("routes:")
    assert [line.split(maxsplit=2) for line in shown.splitlines()[at + 1 : at + 3]] == [
        ["1", "simulator", "the tenant's pic"],
        ["-", "simulator-2", "does not take method card"],
    ]
    told = json.loads(run("explain", "t1", "p1", "--database", database, "--json")[1])
    assert told["routes"][0] == {"pic": "simulator", "place": 1, "why": "the tenant's pic"}
    assert told["localized"]["terms"]["routes"] == ["simulator"]
    assert "routes:" not in run("explain", "t1", "p2", "--database", database)[1]


def test_a_decision_that_comes_out_otherwise_is_told(database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """With code 1: here by a fee of another version of the code."""
    monkeypatch.setattr("pipeline.stages.localization.fee_minor", lambda *arguments: 99)
    code, shown = run("explain", "t1", "p0", "--database", database)
    assert code == 1
    assert "NOT THE SAME" in shown


def test_another_rule_with_the_same_reason_is_another_decision(database: str) -> None:
    """Where the event says which rule rejected; one of an earlier schema does not, and is still repeated."""
    opened = open_database(database)
    recorded = recorded_decision(opened, "t1", "p2")
    opened.close()
    facts, book = facts_of(recorded.request, recorded.received_at_ms), rule_book(RULES)
    decision = localize(facts, RULES, book)
    shadow = localize(facts, RULES, book.shadow) if book.shadow else None
    assert isinstance(decision, Rejected)
    assert decision.rule == "closed"
    other = msgspec.structs.replace(decision, rule="open")
    assert repeats(recorded, decision, shadow, CODEC)
    assert not repeats(recorded, other, shadow, CODEC)
    assert recorded.avro is not None
    data = msgspec.to_builtins(CODEC.decode(recorded.avro, PaymentLocalized), builtin_types=(bytes,))
    earlier = earlier_schemas(PaymentLocalized)[2]
    fastavro.schemaless_writer(body := BytesIO(), fastavro.parse_schema(earlier), data)
    old = msgspec.structs.replace(
        recorded,
        avro=SINGLE_OBJECT + fingerprint_of(earlier) + body.getvalue(),
        localized=recorded.localized | {"rejected_by": ""},
    )
    assert repeats(old, decision, shadow, CODEC)
    assert not repeats(old, msgspec.structs.replace(decision, reason=Reason.RULE_FAILED), shadow, CODEC)
    without_bytes = msgspec.structs.replace(old, avro=None)
    assert repeats(without_bytes, decision, shadow, CODEC)


def test_a_story_names_the_rules_that_decided(database: str) -> None:
    """Those that applied, or the one that rejected, as they were recorded; in the table and in JSON."""
    for payment, rules, words in (
        ("p1", _applied(database, "p1"), "pic simulator, rules"),
        ("p2", ["closed"], "rejected by rule"),
    ):
        table = CliRunner().invoke(main, ["show", "t1", payment, "--database", database], env={"COLUMNS": "400"})
        assert f"{words} {', '.join(rules)}" in table.output
        told = CliRunner().invoke(main, ["show", "t1", payment, "--database", database, "--json"])
        assert {event["stage"]: event["rules"] for event in json.loads(told.output)["events"] if event["rules"]} == {
            "localization": rules
        }


def _applied(database: str, payment: str) -> list[str]:
    views = json.loads(run("explain", "t1", payment, "--database", database, "--json")[1])["rules"]
    return [view["rule"] for view in views if view["what"] == "applied"]


def test_what_is_not_recorded_is_said(database: str) -> None:
    """In words."""
    code, shown = run("explain", "t1", "p99", "--database", database)
    assert code == 1
    assert "no payment p99 of t1" in shown


def test_the_same_rules_change_nothing(database: str, tmp_path: Path) -> None:
    """A backtest of what was in force finds no difference, counters of authentication among them."""
    file = tmp_path / "same.yaml"
    file.write_text(msgspec.json.encode(RULES).decode())
    code, shown = run("backtest", str(file), "--database", database)
    assert (code, shown) == (0, "t1: 6 payments, 6 of them unchanged\n")


def test_a_backtest_counts_what_other_rules_would_have_changed(database: str, tmp_path: Path) -> None:
    """Two a day, France open, gold for 2 %: outcomes with their money, and fees before and after."""
    other = msgspec.structs.replace(
        RULES,
        rules=[
            Rule(id="gold", when='meta("plan") == "gold"', fee=FeeRules(percent_bp=200)),
            Rule(id="three", payer_limit=PayerLimitTerms(max_count=3)),
        ],
    )
    file = tmp_path / "other.yaml"
    file.write_text(msgspec.json.encode(other).decode())
    code, shown = run("backtest", str(file), "--database", database, "--json")
    assert code == 0
    report = json.loads(shown)["t1"]
    limited = report["changes"]["accepted -> rejected (payer_limit_reached, rule three)"]
    assert (limited["count"], limited["amount_minor"], limited["examples"]) == (3, {"EUR": 4_500}, ["p3", "p4", "p5"])
    assert report["changes"]["rejected (denied_by_rule) -> accepted"]["amount_minor"] == {"EUR": 1_000}
    assert report["changes"]["fee"]["examples"] == ["p1"]
    assert report["fees"]["EUR"] == {"before_minor": 20 + 10, "after_minor": 40}
    assert (report["payments"], report["unchanged"], report["payers_forgotten"]) == (6, 1, 0)


def test_differences_of_shadow_rules_are_listed(database: str) -> None:
    """By kind, with money and examples; the event of each holds what the shadow decided."""
    code, shown = run("shadow", "t1", "--database", database)
    assert code == 0
    (line,) = (line for line in shown.splitlines() if "amount_above_rule_limit" in line)
    assert line.strip() == "2 accepted -> rejected (amount_above_rule_limit): 50.00 EUR; such as p1, p3"


def test_a_since_leaves_out_what_is_older(database: str, tmp_path: Path) -> None:
    """By the time at which it was recorded."""
    assert run("shadow", "t1", "--database", database, "--since", "2199-01-01")[1] == (
        "t1: 0 payments, 0 of them unchanged\n"
    )
    assert run("shadow", "t1", "--database", database, "--since", "yesterday")[0] == 1
