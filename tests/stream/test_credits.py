"""Money that comes in for a payer: settlement tells of it, the payer stage counts it, the payee stage sees it pass on."""

from __future__ import annotations

import msgspec
import pytest

from pipeline import topics
from pipeline.stages.attempts import Attempts
from pipeline.stages.features import PAYER_FEATURES
from pipeline.stages.fraud_library import FAST_IN_OUT
from pipeline.stages.profiles import HOUR_MS
from schemas.identity import partition_of, payer_key
from schemas.records import (
    PaymentCompleted,
    PaymentCredited,
    PaymentLocalized,
    PaymentProfiled,
    PaymentQueued,
    PaymentScored,
)
from schemas.tenant_rules import FraudRules, RuleTuning, TenantRules
from tables import attempts, profiles
from tests.simulation.world import NOW_MS, PARTITIONS
from tests.stream.events import KEY, PAYEE, a_fact, an_answer, carried_at_first
from tests.stream.shell import RULES, Shell, written_to

#: The tenant names the rule.
WATCHED: TenantRules = msgspec.structs.replace(
    RULES, fraud=FraudRules(refer_at=1.0, decline_at=1.0, rules={FAST_IN_OUT: RuleTuning()})
)
OFF: TenantRules = msgspec.structs.replace(
    RULES, fraud=FraudRules(refer_at=1.0, decline_at=1.0, rules={FAST_IN_OUT: RuleTuning(enabled=False)})
)
MULE = payer_key("t1", "mule")


def a_credit(payment_id: str = "p1", amount_minor: int = 1000, hours_ago: int = 2) -> PaymentCredited:
    """Money that came in for the mule."""
    return PaymentCredited(
        tenant="t1",
        payment_id=payment_id,
        creditor_id="mule",
        amount_minor=amount_minor,
        currency="EUR",
        requested_at_ms=NOW_MS - hours_ago * HOUR_MS,
    )


@pytest.mark.parametrize(
    ("rules", "terminal_id", "outcome", "told"),
    [
        (WATCHED, "", "paid", True),
        (WATCHED, "term-1", "paid", False),
        (WATCHED, "", "declined", False),
        (WATCHED, "", "pending", False),
        (RULES, "", "paid", False),
        (OFF, "", "paid", False),
    ],
)
def test_settlement_tells_of_what_was_paid_to_an_account(
    rules: TenantRules, terminal_id: str, outcome: str, told: bool
) -> None:
    """Under the key that the payee has as a payer, once; not of shops, and not for a tenant that does not name the rule."""
    shell = Shell("dispatch", rules)
    shell.give(topics.SCORED.name, a_fact(PaymentScored, terminal_id=terminal_id, creditor_id="mule"), KEY)
    shell.run()
    for _ in range(2):
        shell.give(topics.ANSWERED.name, an_answer(outcome=outcome), KEY)
        shell.run()
    shell.again()
    credited = a_credit(amount_minor=1250, hours_ago=0)
    assert shell.out(topics.CREDITED.name, PaymentCredited) == ([(MULE, credited)] if told else [])


def test_an_early_answer_is_told_too() -> None:
    """After a crash the answer may be read before what led to it: the payment is then settled by the scored record."""
    shell = Shell("dispatch", WATCHED)
    shell.give(topics.ANSWERED.name, an_answer(), KEY)
    shell.run()
    assert topics.CREDITED.name not in written_to(shell)
    shell.give(topics.SCORED.name, a_fact(PaymentScored, terminal_id="", creditor_id="mule"), KEY)
    shell.run()
    assert [key for key, _ in shell.out(topics.CREDITED.name, PaymentCredited)] == [MULE]
    assert len(shell.out(topics.COMPLETED.name, PaymentCompleted)) == 1


def test_a_payment_that_was_queued_before_an_update_is_told_too() -> None:
    """Its row holds fields of the first schema."""
    shell = Shell("dispatch", WATCHED)
    queued = a_fact(PaymentQueued, terminal_id="", creditor_id="mule")
    row = Attempts(state="queued", attempt=1, pic="simulator", received_at_ms=NOW_MS, queued=carried_at_first(queued))
    shell.world.disks[attempts.NAME, partition_of(KEY, PARTITIONS)].rows[KEY] = msgspec.msgpack.encode(row)
    shell.give(topics.ANSWERED.name, an_answer(), KEY)
    shell.run()
    assert shell.letters() == []
    assert [key for key, _ in shell.out(topics.CREDITED.name, PaymentCredited)] == [MULE]


def test_the_payer_stage_counts_what_came_in_once_a_payment() -> None:
    """Whatever is repeated, by whichever record of settlement; the payer's next payment says what came in and went on."""
    shell = Shell("payer")
    for payment_id in ("a", "b", "a"):
        shell.give(topics.CREDITED.name, a_credit(payment_id), MULE)
    shell.run()
    shell.again()
    assert sum(amount for _, amount in shell.rows(profiles.PAYERS, profiles.PAYER_ROW)[MULE].credits.values()) == 2000
    shell.give(topics.LOCALIZED.name, a_fact(PaymentLocalized, debtor_id="mule", amount_minor=1500), MULE)
    shell.run()
    ((_, event),) = shell.out(topics.PROFILED.name, PaymentProfiled)
    facts = dict(zip(PAYER_FEATURES, event.payer_features, strict=True))
    assert (facts["credited_1d"], facts["passed_on_1d"]) == (2000, 1500)


@pytest.mark.parametrize("value", [None, b"garbage"])
def test_what_is_no_credit_is_a_dead_letter(value: bytes | None) -> None:
    """And the next one counts."""
    shell = Shell("payer")
    shell.give(topics.CREDITED.name, value, MULE)
    shell.give(topics.CREDITED.name, a_credit(), MULE)
    shell.run()
    assert [letter.stage for letter in shell.letters()] == ["credits"]
    assert len(shell.rows(profiles.PAYERS, profiles.PAYER_ROW)[MULE].credits) == 1


@pytest.mark.parametrize(("rules", "hits"), [(WATCHED, [FAST_IN_OUT]), (RULES, []), (OFF, [])])
def test_the_rule_fires_where_the_tenant_names_it(rules: TenantRules, hits: list[str]) -> None:
    """1,500.00 came in, 1,400.00 went on."""
    facts = dict.fromkeys(PAYER_FEATURES, 0) | {"credited_1d": 150_000, "passed_on_1d": 140_000}
    shell = Shell("payee", rules)
    shell.give(topics.PROFILED.name, a_fact(PaymentProfiled, payer_features=list(facts.values())), PAYEE)
    shell.run()
    ((_, event),) = shell.out(topics.SCORED.name, PaymentScored)
    assert [hit.rule for hit in event.rule_hits] == hits
