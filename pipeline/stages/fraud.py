"""Fraud: how likely is it that somebody else pays here?  Pure: all it knows are the facts about payer and payee.

Named rules (pipeline/stages/fraud_library.py) look at one thing each; those that fire make a score
(pipeline/stages/fraud_rules.py). A model (pipeline/stages/fraud_model.py), where one is in force, makes another. Together
they are ``1 - (1 - rules) * (1 - model)``: two signs that are taken as independent, so neither lowers what the other says.
The tenant's thresholds make the answer.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

import msgspec

from pipeline.stages.fraud_library import LIBRARY
from pipeline.stages.fraud_rules import Hit, ruleset, score_of, values_of
from schemas.reasons import Reason
from schemas.tenant_rules import FraudRules


class _Assessment(msgspec.Struct, frozen=True):
    """``score`` is within 0 and 1; ``hits`` are the rules that fired, strongest first, and ``rule_score`` what they say."""

    score: float
    hits: tuple[Hit, ...] = ()
    rule_score: float = 0.0
    reason: Reason | None = None

    @property
    def reasons(self) -> tuple[str, ...]:
        """Names of the rules that raised the score, strongest first."""
        return tuple([hit.rule for hit in self.hits if not hit.snoozed])


class Approved(_Assessment, frozen=True):
    """Below the tenant's ``challenge_at``: the payment goes on."""


class Challenged(_Assessment, frozen=True):
    """At or above ``challenge_at``: the payment goes on, and the payer is to prove who they are."""


class Referred(_Assessment, frozen=True):
    """At or above the tenant's ``refer_at``, or the tenant wants a person where the model fails: a person decides."""


class Declined(_Assessment, frozen=True):
    """At or above the tenant's ``decline_at``, or the tenant wants no payment where the model fails: the payment ends."""


_UNSUSPICIOUS = Approved(0.0)


def assess(
    payer: Sequence[int],
    payee: Sequence[int],
    amount_minor: int,
    requested_at_ms: int,
    rules: FraudRules,
    snoozed: Collection[str] = (),
    *,
    model_score: float | None = None,
    model_failed: bool = False,
) -> Approved | Challenged | Referred | Declined:
    """Score a payment of ``amount_minor`` from the facts about its payer and payee.

    ``payer`` and ``payee`` are the complete facts (pipeline/stages/features.py) once the payment itself is counted;
    ``snoozed`` are the rules that are snoozed for this payer. ``model_score`` is the champion's, None where there is none;
    ``model_failed`` says that there is one and it gave no score: then the tenant's ``model_failure`` applies, and the rules'
    answer where that is stricter. Deterministic: the same numbers give the same score, bit for bit.
    """
    hits = ruleset(rules, LIBRARY).hits(values_of(payer, payee, amount_minor, requested_at_ms), snoozed)
    if not hits and not model_score and not model_failed:
        return _UNSUSPICIOUS
    rule_score = score_of(hits, LIBRARY) if hits else 0.0
    score = 1.0 - (1.0 - rule_score) * (1.0 - model_score) if model_score else rule_score
    if score >= rules.decline_at:
        return Declined(score, hits, rule_score, Reason.FRAUD_SCORE_HIGH)
    if model_failed and rules.model_failure == "closed":
        return Declined(score, hits, rule_score, Reason.FRAUD_MODEL_UNAVAILABLE)
    if score >= rules.refer_at:
        return Referred(score, hits, rule_score, Reason.FRAUD_SCORE_RAISED)
    if model_failed and rules.model_failure == "review":
        return Referred(score, hits, rule_score, Reason.FRAUD_MODEL_UNAVAILABLE)
    if rules.challenge_at is not None and score >= rules.challenge_at:
        return Challenged(score, hits, rule_score, Reason.FRAUD_SCORE_NOTABLE)
    return Approved(score, hits, rule_score)
