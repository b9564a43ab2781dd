"""Business rules through the real shells: what localization passes on, the payer stage ends, and dispatch queues."""

from __future__ import annotations

import msgspec
import pytest
from prometheus_client import CollectorRegistry

from pipeline import topics
from pipeline.engine.metrics import Metrics, RuleMetrics
from pipeline.stages.attempts import Attempts
from pipeline.stages.profiles import Profile
from schemas.business_rules import DenyTerms, FeeRules, LimitTerms, PayerLimitTerms, RouteTerms, Rule, ShadowRules
from schemas.codec import encode_request
from schemas.identity import partition_of, payee_key, payer_key
from schemas.localities import CounterTerms, ScaTerms, TaxTerms
from schemas.records import (
    PaymentEnded,
    PaymentLocalized,
    PaymentProfiled,
    PaymentQueued,
    PaymentScored,
    PaymentScreened,
    PaymentTerms,
)
from schemas.tenant_rules import TenantRules
from tables import attempts, profiles
from tests.builders import a_request
from tests.simulation.world import PARTITIONS
from tests.stream.events import KEY, a_fact, an_answer, carried_at_first
from tests.stream.shell import RULES as PLAIN
from tests.stream.shell import Shell

LOW_VALUE = CounterTerms(single_minor={"EUR": 3000}, cumulative_minor={"EUR": 10_000})
RULES: TenantRules = msgspec.structs.replace(
    PLAIN,
    rules=[
        Rule(id="vat", country=["DE"], tax=TaxTerms(rates_bp={"standard": 1900})),
        Rule(id="fee", when='metadata["plan"] == "gold"', fee=FeeRules(percent_bp=100)),
        Rule(id="sca", sca=ScaTerms(within=["DE"], low_value=LOW_VALUE)),
        Rule(id="two-a-day", payer_limit=PayerLimitTerms(max_count=2)),
    ],
    shadow=ShadowRules(rules=[Rule(id="max", limit=LimitTerms(max_minor={"EUR": 2_000}))]),
)
TERMS = PaymentTerms(
    payable_minor=1250,
    tax_minor=200,
    tax_rate_bp=1900,
    tax_kind="vat",
    routes=["simulator"],
    rules=["vat", "sca", "two-a-day"],
)


def localized(**named: object) -> PaymentLocalized:
    """What localization says of one payment."""
    shell = Shell("localization", RULES)
    request = a_request(channel="web", **named)
    fact = a_fact(PaymentScreened, amount_minor=request.amount_minor, request=encode_request(request))
    shell.give(topics.SCREENED.name, fact, KEY)
    shell.run()
    ((_, event),) = shell.out(topics.LOCALIZED.name, PaymentLocalized)
    assert isinstance(event, PaymentLocalized)
    return event


def test_localization_passes_terms_and_checks_on() -> None:
    """12.50 EUR contain 2.00 of 19 %; a failed condition is named, and does not apply."""
    event = localized()
    assert (event.terms, event.failed, event.fee_minor) == (TERMS, ["fee"], 0)
    assert event.checks is not None
    assert (event.checks.sca, event.checks.sca_share_ppm) == ("counted", 125_000)
    assert [(limit.rule, limit.max_count) for limit in event.checks.limits] == [("two-a-day", 2)]
    assert localized(metadata={"plan": "gold"}).fee_minor == 13


def test_failover_and_splits_reach_the_event() -> None:
    """Without any rule too, which is otherwise decided without the PTR; a plain tenant's event has no terms."""

    def event(rules: TenantRules, payment_id: str = "p1") -> PaymentLocalized:
        shell = Shell("localization", rules)
        request = encode_request(a_request(payment_id=payment_id))
        shell.give(topics.SCREENED.name, a_fact(PaymentScreened, payment_id=payment_id, request=request), KEY)
        shell.run()
        ((_, made),) = shell.out(topics.LOCALIZED.name, PaymentLocalized)
        assert isinstance(made, PaymentLocalized)
        return made

    plain = TenantRules(tenant="t1", pic="simulator", currencies=["EUR"])
    assert event(plain).terms is None
    failover = event(msgspec.structs.replace(plain, failover=["simulator-2"]))
    assert (failover.pic, failover.terms) == (
        "simulator",
        PaymentTerms(payable_minor=1250, routes=["simulator", "simulator-2"]),
    )
    split = msgspec.structs.replace(plain, rules=[Rule(id="s", route=RouteTerms(split={"a": 1, "b": 1}))])
    firsts = {event(split, f"p{number}").pic for number in range(20)}
    assert firsts == {"a", "b"}


def test_shadow_rules_change_nothing_and_are_told_where_they_differ() -> None:
    """Also that they have no tax, no limit of the payer and no authentication."""
    event = localized(amount_minor=2_500)
    assert event.outcome == "accepted"
    assert event.shadow is not None
    assert (event.shadow.outcome, event.shadow.reason) == ("rejected", "amount_above_rule_limit")
    assert "outcome" in event.shadow.differs
    same = msgspec.structs.replace(RULES, shadow=ShadowRules(rules=RULES.rules))
    shell = Shell("localization", same)
    shell.give(topics.SCREENED.name, a_fact(PaymentScreened), KEY)
    shell.run()
    ((_, equal),) = shell.out(topics.LOCALIZED.name, PaymentLocalized)
    assert equal.shadow is None


def test_the_payer_stage_ends_what_is_above_a_limit_and_counts_once() -> None:
    """The third of a day is rejected, under the payment's key; a crash repeats nothing."""
    shell, key = Shell("payer", RULES), payer_key("t1", "d1")
    checks = localized().checks
    for offset in (1, 2, 3):
        fact = a_fact(PaymentLocalized, sender_offset=offset, payment_id=f"p{offset}", checks=checks, terms=TERMS)
        shell.give(topics.LOCALIZED.name, fact, key)
    shell.run()
    shell.again()
    passed = [event for _, event in shell.out(topics.PROFILED.name, PaymentProfiled)]
    assert [(event.outcome, event.sca, event.sca_basis) for event in passed] == [
        ("profiled", "exempt", "article_16"),
        ("profiled", "exempt", "article_16"),
        ("rejected", "", ""),
    ]
    assert [event.terms for event in passed] == [TERMS] * 3
    ((at, ended),) = shell.out(topics.ENDED.name, PaymentEnded)
    assert (at, ended.outcome, ended.reason, ended.stage) == (b"t1|p3", "rejected", "payer_limit_reached", "payer")
    assert (ended.currency, ended.amount_minor, ended.rule_version) == ("EUR", 1250, 1)
    row = shell.rows(profiles.PAYERS, Profile)[key]
    assert row.use.limits["two-a-day"][-1].count == 2


def test_payee_leaves_alone_what_the_payer_stage_ended() -> None:
    """Nothing comes out, and nothing is counted."""
    shell = Shell("payee", RULES)
    shell.give(topics.PROFILED.name, a_fact(PaymentProfiled, outcome="rejected"), payee_key("t1", "c1", "term-1"))
    shell.run()
    assert shell.out(topics.SCORED.name, PaymentScored) == []


def test_terms_and_authentication_reach_the_pic() -> None:
    """As they were decided, on the queue."""
    shell = Shell("dispatch", RULES)
    fact = a_fact(PaymentScored, sca="exempt", sca_basis="article_16", terms=TERMS)
    shell.give(topics.SCORED.name, fact, KEY)
    shell.run()
    ((_, queued),) = shell.out(topics.queue("simulator").name, PaymentQueued)
    assert (queued.terms, queued.sca, queued.sca_basis) == (TERMS, "exempt", "article_16")


@pytest.mark.parametrize(
    ("rule", "reason", "detail"),
    [
        (Rule(id="no", deny=DenyTerms(why="closed today")), "denied_by_rule", "closed today (rule no)"),
        (
            Rule(id="no", fee=FeeRules(fixed_minor={"EUR": 1251})),
            "fee_above_amount",
            "fee 1251 EUR is above the amount 1250 (minor units, rule no)",
        ),
    ],
)
def test_a_rejected_payment_ends_with_its_rule(rule: Rule, reason: str, detail: str) -> None:
    """Its detail names the rule, and so does the event of localization."""
    shell = Shell("localization", msgspec.structs.replace(PLAIN, rules=[rule]))
    shell.give(topics.SCREENED.name, a_fact(PaymentScreened), KEY)
    shell.run()
    ((_, ended),) = shell.out(topics.ENDED.name, PaymentEnded)
    assert (ended.reason, ended.detail) == (reason, detail)
    ((_, event),) = shell.out(topics.LOCALIZED.name, PaymentLocalized)
    assert (event.outcome, event.reason, event.rejected_by) == ("rejected", reason, "no")


def test_what_the_tenants_own_lists_reject_was_rejected_by_no_rule() -> None:
    """Although there are rules, and one of them would have rejected it too."""
    rules = [Rule(id="no", deny=DenyTerms(why="closed today"))]
    shell = Shell("localization", msgspec.structs.replace(PLAIN, currencies=["CHF"], rules=rules))
    shell.give(topics.SCREENED.name, a_fact(PaymentScreened), KEY)
    shell.run()
    ((_, event),) = shell.out(topics.LOCALIZED.name, PaymentLocalized)
    assert (event.outcome, event.reason, event.rejected_by) == ("rejected", "currency_not_allowed", "")


def test_a_payment_that_was_queued_before_an_update_is_asked_again_after_it() -> None:
    """Its row holds fields of the first schema, which knew no terms and no authentication: they get their defaults."""
    fact = a_fact(PaymentQueued)
    shell = Shell("dispatch", RULES)
    row = Attempts(state="queued", attempt=1, pic="simulator", queued=carried_at_first(fact))
    shell.world.disks[attempts.NAME, partition_of(KEY, PARTITIONS)].rows[KEY] = msgspec.msgpack.encode(row)
    shell.give(topics.ANSWERED.name, an_answer(outcome="pending", pic_reference=""), KEY)
    shell.run()
    assert shell.letters() == []
    ((_, again),) = shell.out(topics.retries("simulator")[0].name, PaymentQueued)
    assert (again.ask, again.terms, again.sca, again.request) == (1, None, "", fact.request)
    assert (again.fee_minor, again.token) == (fact.fee_minor, fact.token)


def test_what_becomes_of_rules_is_counted() -> None:
    """Per tenant: a condition that failed, and whether shadow rules differ."""
    metrics = Metrics(CollectorRegistry())
    shell = Shell("localization", RULES, rules_watch=RuleMetrics(metrics))
    for amount_minor in (1_250, 2_500):
        request = a_request(amount_minor=amount_minor)
        fact = a_fact(PaymentScreened, amount_minor=amount_minor, request=encode_request(request))
        shell.give(topics.SCREENED.name, fact, KEY)
    shell.run()
    assert metrics.rules_failed.labels("t1")._value.get() == 2
    assert metrics.rules_shadowed.labels("t1", "differs")._value.get() == 2
    assert metrics.rules_shadowed.labels("t1", "same")._value.get() == 0


def test_a_tenant_without_rules_is_decided_from_the_event_alone() -> None:
    """Its PTR is not read again: here it is unreadable, and passed on as it is."""
    shell = Shell("localization")
    shell.give(topics.SCREENED.name, a_fact(PaymentScreened, request=b"\xff"), KEY)
    shell.run()
    ((_, event),) = shell.out(topics.LOCALIZED.name, PaymentLocalized)
    assert (event.outcome, event.terms, event.checks, event.request) == ("accepted", None, None, b"\xff")
