"""Fraud: how likely is it that somebody else pays here?  Pure: all it knows are the facts about payer and payee.

Named rules (pipeline/stages/fraud_library.py) look at one thing each; those that fire make the score
(pipeline/stages/fraud_rules.py), and the tenant's thresholds make the answer.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import ClassVar

import msgspec

from pipeline.stages.fraud_library import LIBRARY
from pipeline.stages.fraud_rules import Hit, ruleset, score_of, values_of
from schemas.reasons import Reason
from schemas.tenant_rules import FraudRules


class _Assessment(msgspec.Struct, frozen=True):
    """``score`` is within 0 and 1; ``hits`` are the rules that fired, strongest first."""

    score: float
    hits: tuple[Hit, ...] = ()

    @property
    def reasons(self) -> tuple[str, ...]:
        """Names of the rules that raised the score, strongest first."""
        return tuple([hit.rule for hit in self.hits if not hit.snoozed])


class Approved(_Assessment, frozen=True):
    """Below the tenant's ``refer_at``: the payment goes on."""


class Referred(_Assessment, frozen=True):
    """At or above the tenant's ``refer_at``: a person decides."""

    reason: ClassVar[Reason] = Reason.FRAUD_SCORE_RAISED


class Declined(_Assessment, frozen=True):
    """At or above the tenant's ``decline_at``: the payment ends."""

    reason: ClassVar[Reason] = Reason.FRAUD_SCORE_HIGH


_UNSUSPICIOUS = Approved(0.0)


def assess(
    payer: Sequence[int],
    payee: Sequence[int],
    amount_minor: int,
    requested_at_ms: int,
    rules: FraudRules,
    snoozed: Collection[str] = (),
) -> Approved | Referred | Declined:
    """Score a payment of ``amount_minor`` from the facts about its payer and payee.

    ``payer`` and ``payee`` are what ``payer_features`` and ``payee_features`` (pipeline/stages/profiles.py) give once
    the payment itself is counted; ``snoozed`` are the rules that are snoozed for this payer. Deterministic: the same
    numbers give the same score, bit for bit.
    """
    hits = ruleset(rules, LIBRARY).hits(values_of(payer, payee, amount_minor, requested_at_ms), snoozed)
    if not hits:
        return _UNSUSPICIOUS
    score = score_of(hits, LIBRARY)
    if score >= rules.decline_at:
        return Declined(score, hits)
    if score >= rules.refer_at:
        return Referred(score, hits)
    return Approved(score, hits)
