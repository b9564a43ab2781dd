"""Models in the payee stage: their scores count by the tenant's thresholds, and what happens when they fail."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from connectors.models.book import CHALLENGER, CHAMPION, EFFECTIVE_DELAY_MS
from connectors.models.topic import records_of
from pipeline import topics
from pipeline.stages.features import FEATURE_SET, PAYEE_FEATURES, PAYER_FEATURES, matrix
from schemas.records import ModelPromoted, PaymentProfiled, PaymentScored
from schemas.tenant_rules import FraudRules
from tests.models import SlowModel, a_model
from tests.simulation.world import NOW_MS
from tests.stream.events import PAYEE, a_fact
from tests.stream.shell import CODEC, RULES, Shell

#: NOW_MS is 8:53 UTC; seven hours before it is night.
NIGHT_MS = NOW_MS - 7 * 3_600_000


def a_profiled(number: int, amount_minor: int, **named: Any) -> PaymentProfiled:
    """A payment on its way to the payee stage: at night, so that the model suspects a large amount."""
    fields: dict[str, Any] = {
        "sender_offset": number,
        "feature_set": FEATURE_SET,
        "payer_features": [1 if name == "count_1d" else 0 for name in PAYER_FEATURES],
        "requested_at_ms": NIGHT_MS,
        "amount_minor": amount_minor,
        "payment_id": f"p{number}",
        "token": f"tok_{number}",
    }
    return a_fact(PaymentProfiled, **(fields | named))  # type: ignore[no-any-return]


def a_shell(fraud: FraudRules, **more: Any) -> Shell:
    return Shell("payee", msgspec.structs.replace(RULES, fraud=fraud), **more)


def publish(shell: Shell, seed: int = 0, role: str = CHAMPION, *, parts: bool = True) -> str:
    """Put a model in force before everything that is scored."""
    trained = a_model(seed)
    contents, head = records_of(trained.model, trained.content, 0)
    for part in contents if parts else []:
        shell.models.take_part(part)
    shell.models.take_head(head)
    promoted = ModelPromoted(role=role, version=head.version, by="x", promoted_at_ms=0)
    shell.models.take_promotion(promoted, NOW_MS - EFFECTIVE_DELAY_MS - 1)
    shell.models.take_up()
    return head.version


def scored(shell: Shell, *amounts: int, **named: Any) -> list[PaymentScored]:
    """What becomes of payments of these amounts."""
    for number, amount_minor in enumerate(amounts):
        shell.give(topics.PROFILED.name, a_profiled(number, amount_minor, **named), PAYEE)
    shell.run()
    return [event for _, event in shell.out(topics.SCORED.name, PaymentScored)]


@pytest.mark.parametrize(
    ("thresholds", "outcome", "reason"),
    [
        ({"refer_at": 0.95, "decline_at": 0.99}, "approved", ""),
        ({"challenge_at": 0.5, "refer_at": 0.95, "decline_at": 0.99}, "challenged", "fraud_score_notable"),
        ({"refer_at": 0.5, "decline_at": 0.99}, "referred", "fraud_score_raised"),
        ({"refer_at": 0.1, "decline_at": 0.5}, "declined", "fraud_score_high"),
    ],
)
def test_the_champions_score_counts(thresholds: dict[str, float], outcome: str, reason: str) -> None:
    """By the tenant's thresholds; the event says which model, what it said, and which features moved it."""
    shell = a_shell(FraudRules(**thresholds))
    version = publish(shell)
    (event,) = scored(shell, 950)
    assert (event.outcome, event.reason, event.model, event.model_failure) == (outcome, reason, version, "")
    facts = matrix([event.payer_features], [event.payee_features], [950], [NIGHT_MS])
    model = a_model().model
    assert event.model_score == float(model.score(model.rows(facts))[0])
    assert event.score == pytest.approx(1 - (1 - event.rule_score) * (1 - event.model_score))
    assert [effect.feature for effect in event.effects][:1] == ([] if outcome == "approved" else ["amount"])


def test_who_is_not_suspicious_goes_on() -> None:
    """In one batch with one who is: each has its own score."""
    shell = a_shell(FraudRules(refer_at=0.5, decline_at=0.99))
    publish(shell)
    events = scored(shell, 950, 100, 200)
    assert [event.outcome for event in events] == ["referred", "approved", "approved"]
    assert [event.payment_id for event in events] == ["p0", "p1", "p2"]
    assert [event.payee_features[0] for event in events] == [1, 2, 3]


def test_a_challenger_has_no_effect_and_is_recorded() -> None:
    """Alone, and beside a champion."""
    shell = a_shell(FraudRules(refer_at=0.5, decline_at=0.5))
    challenger = publish(shell, 1, CHALLENGER)
    (event,) = scored(shell, 950)
    assert (event.outcome, event.model, event.model_score) == ("approved", "", 0.0)
    assert (event.challenger, event.challenger_score > 0.5) == (challenger, True)
    shell = a_shell(FraudRules(refer_at=0.5, decline_at=0.99))
    champion = publish(shell)
    publish(shell, 1, CHALLENGER)
    (event,) = scored(shell, 950)
    assert (event.model, event.challenger, event.outcome) == (champion, challenger, "referred")
    assert event.model_score != event.challenger_score


@pytest.mark.parametrize(
    ("answer", "outcome", "reason"),
    [
        ("open", "approved", ""),
        ("closed", "declined", "fraud_model_unavailable"),
        ("review", "referred", "fraud_model_unavailable"),
    ],
)
@pytest.mark.parametrize("failure", ["unusable", "slow"])
def test_the_tenants_answer_when_the_model_fails(failure: str, answer: str, outcome: str, reason: str) -> None:
    """It cannot be loaded, or there is no time for it: open, closed or review, and the event says why."""
    shell = a_shell(
        FraudRules(refer_at=0.99, decline_at=0.99, model_failure=answer),
        model_timeout_s=0.05 if failure == "slow" else 10.0,
    )
    if failure == "slow":
        shell.models._load = SlowModel
    version = publish(shell, parts=failure != "unusable")
    (event,) = scored(shell, 950)
    assert (event.outcome, event.reason) == (outcome, reason)
    assert (event.model, event.model_failure, event.model_score) == (version, failure, 0.0)
    champion = shell.models.in_force(NOW_MS).champion
    if isinstance(champion, SlowModel):
        champion.go.set()


def test_the_model_in_force_when_the_payment_was_received_scores_it() -> None:
    """Whatever came into force since: two payments of one batch may have different models."""
    shell = a_shell(FraudRules(refer_at=0.99, decline_at=0.99))
    one = publish(shell)
    trained = a_model(1)
    parts, head = records_of(trained.model, trained.content, 0)
    for part in parts:
        shell.models.take_part(part)
    shell.models.take_head(head)
    shell.models.take_promotion(ModelPromoted(role=CHAMPION, version=head.version, by="x", promoted_at_ms=0), NOW_MS)
    shell.models.take_up()
    for number, at_ms in enumerate((NOW_MS, NOW_MS + EFFECTIVE_DELAY_MS, NOW_MS)):
        shell.give(topics.PROFILED.name, a_profiled(number, 950, received_at_ms=at_ms), PAYEE)
    shell.run()
    assert [event.model for _, event in shell.out(topics.SCORED.name, PaymentScored)] == [one, head.version, one]


def test_what_the_payer_stage_found_new_is_counted_at_the_payee() -> None:
    """The payee's row counts payments of payers who were new there, and their cards."""
    shell = a_shell(FraudRules(refer_at=0.99, decline_at=0.99))
    new = [1 if name == "payee_new" else 0 for name in PAYER_FEATURES]
    for number, facts in enumerate((new, [0] * len(PAYER_FEATURES), new)):
        shell.give(
            topics.PROFILED.name, a_profiled(number, 950, payer_features=facts, token=f"tok_{number % 2}"), PAYEE
        )
    shell.run()
    *_, last = [event for _, event in shell.out(topics.SCORED.name, PaymentScored)]
    found = dict(zip(PAYEE_FEATURES, last.payee_features, strict=True))
    assert (found["new_payers_1d"], found["cards_1d"], found["count_1d"]) == (2, 2, 3)


def test_a_bad_record_is_a_dead_letter_and_the_batch_goes_on() -> None:
    """Garbage among payments; a repeat is counted once."""
    shell = a_shell(FraudRules(refer_at=0.5, decline_at=0.99))
    publish(shell)
    shell.give(topics.PROFILED.name, b"garbage", PAYEE)
    shell.give(topics.PROFILED.name, a_profiled(0, 950), PAYEE)
    shell.give(topics.PROFILED.name, a_profiled(1, 950, tenant="unknown"), PAYEE)
    shell.give(topics.PROFILED.name, a_profiled(0, 950), PAYEE)
    shell.run()
    events = [event for _, event in shell.out(topics.SCORED.name, PaymentScored)]
    assert [event.payment_id for event in events] == ["p0"]
    assert [letter.error for letter in shell.letters()] == ["not_avro", "stage_failed"]


def test_an_event_of_an_earlier_program_is_scored() -> None:
    """With the nine facts that it holds."""
    shell = a_shell(FraudRules(refer_at=0.5, decline_at=0.99))
    publish(shell)
    (event,) = scored(shell, 950, payer_features=[1] + [0] * 8, feature_set=1)
    assert (event.outcome, event.feature_set) == ("referred", 1)
    assert CODEC.decode(CODEC.encode(event), PaymentScored) == event
