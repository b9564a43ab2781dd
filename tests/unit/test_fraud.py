"""Fraud: rules that fire make a score, the tenant's thresholds the answer."""

from __future__ import annotations

import pytest

from pipeline.stages.features import PAYEE_FEATURES, PAYER_FEATURES
from pipeline.stages.fraud import Approved, Declined, Referred, assess
from pipeline.stages.fraud_rules import Hit
from schemas.reasons import Reason
from schemas.tenant_rules import FraudRules, RuleTuning
from tests.builders import NOON_MS

RULES = FraudRules()


def payer(**named: int) -> list[int]:
    """Facts about a payer of whom nothing is known but this payment of 1 000, and what is named."""
    usual = dict.fromkeys(PAYER_FEATURES, 0) | {"since_last_s": -1, "count_30d": 1, "amount_30d": 1_000}
    assert named.keys() <= usual.keys()
    return list((usual | named).values())


def payee(**named: int) -> list[int]:
    """Facts about a payee with this payment as the only one, but for what is named."""
    usual = dict.fromkeys(PAYEE_FEATURES, 0) | {"count_30d": 1}
    assert named.keys() <= usual.keys()
    return list((usual | named).values())


#: Twice as many terminals as usual: 1 - 0.6 / 2.
LOUD = payer(terminals_1d=20), payee(), 1_000, NOON_MS


def test_an_unknown_payer_at_an_unknown_payee_is_approved() -> None:
    """Nothing is known, nothing is held against anybody."""
    assert assess(payer(), payee(), 1_000, NOON_MS, RULES) == Approved(0.0)


def test_what_was_found_is_told() -> None:
    """Rules with what they saw and what is usual, strongest first: 1 - 0.3 * 0.15 = 0.955."""
    answer = assess(payer(terminals_1d=20), payee(count_1h=800), 1_000, NOON_MS, RULES)
    assert isinstance(answer, Declined)
    assert answer.score == pytest.approx(0.955)
    assert answer.reasons == ("payee_burst_1h", "payer_terminals_1d")
    assert answer.hits[1] == Hit("payer_terminals_1d", 20, 10, pytest.approx(0.7))


def test_the_tenants_thresholds_decide() -> None:
    """Equal to a threshold is enough, and each answer has its reason."""
    score = assess(*LOUD, RULES).score
    assert isinstance(assess(*LOUD, FraudRules(refer_at=score + 0.01, decline_at=1.0)), Approved)
    referred = assess(*LOUD, FraudRules(refer_at=score, decline_at=1.0))
    assert isinstance(referred, Referred)
    assert referred.reason is Reason.FRAUD_SCORE_RAISED
    declined = assess(*LOUD, FraudRules(refer_at=0.1, decline_at=score))
    assert isinstance(declined, Declined)
    assert declined.reason is Reason.FRAUD_SCORE_HIGH


def test_a_tenant_tunes_its_rules() -> None:
    """Another limit, another weight, or not at all."""
    more = FraudRules(rules={"payer_terminals_1d": RuleTuning(thresholds={"terminals_max": 20})})
    assert assess(*LOUD, more) == Approved(0.0)
    light = FraudRules(rules={"payer_terminals_1d": RuleTuning(weight=0.0)})
    assert assess(*LOUD, light).score == pytest.approx(0.5)
    off = FraudRules(rules={"payer_terminals_1d": RuleTuning(enabled=False)})
    assert assess(*LOUD, off) == Approved(0.0)


def test_a_snoozed_rule_changes_nothing_and_is_told() -> None:
    """The payment is approved, and its event says what would have been."""
    answer = assess(*LOUD, RULES, {"payer_terminals_1d"})
    assert isinstance(answer, Approved)
    assert (answer.score, answer.reasons) == (0.0, ())
    assert answer.hits == (Hit("payer_terminals_1d", 20, 10, 0.0, True),)
