"""The payee stage with snoozed rules, and what it takes for a label."""

from __future__ import annotations

import msgspec

from pipeline import topics
from pipeline.stages.fraud_library import LIBRARY_VERSION
from pipeline.stages.profiles import HOUR_MS
from schemas.records import PaymentProfiled, PaymentScored, RuleHit, RuleSnoozed
from schemas.tenant_rules import FraudRules, RuleTuning
from tables import profiles
from tests.simulation.world import NOW_MS
from tests.stream.events import PAYEE, a_chargeback, a_fact
from tests.stream.shell import RULES, Shell


def test_a_snoozed_rule_is_recorded_and_weighs_nothing() -> None:
    """For that payer only, for payments received while it is in force; the event says what fired and that it was snoozed."""
    strict = FraudRules(rules={"payee_burst_1h": RuleTuning(weight=1.0, thresholds={"count_max": 0})})
    shell = Shell("payee", rules=msgspec.structs.replace(RULES, fraud=strict))
    snooze = RuleSnoozed(
        tenant="t1",
        debtor_id="d1",
        rule="payee_burst_1h",
        until_ms=NOW_MS + HOUR_MS,
        by="mo",
        reason="a fair",
        decided_at_ms=NOW_MS,
    )
    assert shell.snoozes.take(snooze, NOW_MS)
    at = {"d1": NOW_MS + 10_000, "d2": NOW_MS + 10_000, "d3": NOW_MS}
    for offset, (debtor_id, received_at_ms) in enumerate(at.items()):
        whose = {"d3": "d1"}.get(debtor_id, debtor_id)
        event = a_fact(PaymentProfiled, sender_offset=offset, debtor_id=whose, received_at_ms=received_at_ms)
        shell.give(topics.PROFILED.name, event, PAYEE)
    shell.run()
    events = [event for _, event in shell.out(topics.SCORED.name, PaymentScored)]
    # d1 is snoozed, d2 is somebody else, and d1's other payment was received before the snooze was in force.
    assert [event.outcome for event in events] == ["approved", "declined", "declined"]
    assert [event.rule_hits for event in events] == [
        [RuleHit(rule="payee_burst_1h", value=count, limit=0.0, weight=0.0 if snoozed else 1.0, snoozed=snoozed)]
        for count, snoozed in ((1.0, True), (2.0, False), (3.0, False))
    ]
    assert [event.score_reasons for event in events] == [[], ["payee_burst_1h"], ["payee_burst_1h"]]
    assert {event.rule_library for event in events} == {LIBRARY_VERSION}


def test_only_fraud_is_a_label() -> None:
    """A refund for fraud counts as a chargeback does, and a dispute about goods does not."""
    shell = Shell("payee")
    for number, (kind, reason) in enumerate(
        [("refund", "fraud"), ("chargeback", "10.4"), ("chargeback", "not_received"), ("refund", "returned")]
    ):
        shell.give(topics.CHARGEBACKS.name, a_chargeback(payment_id=f"p{number}", kind=kind, reason=reason), PAYEE)
    shell.run()
    row = shell.rows(profiles.PAYEES, profiles.PAYEE_ROW)[PAYEE]
    assert sorted(row.charged_back) == ["p0", "p1"]


def test_a_kind_that_is_none_is_a_dead_letter() -> None:
    """Nothing is guessed: it is neither dropped nor taken for a chargeback."""
    shell = Shell("payee")
    shell.give(topics.CHARGEBACKS.name, a_chargeback(kind="wish"), PAYEE)
    shell.run()
    assert [letter.error for letter in shell.letters()] == ["unreadable_value"]
    assert PAYEE not in shell.rows(profiles.PAYEES, profiles.PAYEE_ROW)
