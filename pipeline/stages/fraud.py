"""Fraud: how likely is it that somebody else pays here?  Pure: all it knows are the features of payer and payee.

Named rules look at one thing each. A rule whose value is above the tenant's limit weighs ``1 - (1 - base) * limit /
value``: its base weight just above the limit, more the further above, never more than 1 (a limit of 0 weighs 1 at
once). The score is ``1 - (1 - w1) * (1 - w2) * ...``, so it is within 0 and 1, no rule lowers it, and several weak
signs make a strong one.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import msgspec

from pipeline.stages.profiles import PAYEE_FEATURES, PAYER_FEATURES
from schemas.reasons import Reason
from schemas.tenant_rules import FraudRules

#: A mean of fewer payments than this says nothing about a payer.
MEAN_PAYMENTS_MIN = 5
#: A share of fewer payments than this says nothing about a payee.
SHARE_PAYMENTS_MIN = 20

#: The rules and their base weights. With the default thresholds (0.6 and 0.8) no rule refers alone at its limit,
#: and two do.
PAYER_VELOCITY, PAYER_VELOCITY_BASE = "payer_velocity_1d", 0.4
AMOUNT_UNUSUAL, AMOUNT_UNUSUAL_BASE = "amount_unusual_30d", 0.4
PAYER_TERMINALS, PAYER_TERMINALS_BASE = "payer_terminals_1d", 0.4
PAYEE_BURST, PAYEE_BURST_BASE = "payee_burst_1h", 0.4
PAYEE_CHARGEBACKS, PAYEE_CHARGEBACKS_BASE = "payee_chargebacks_30d", 0.5
CARD_TESTING, CARD_TESTING_BASE = "card_testing_1d", 0.5

_COUNT_1D = PAYER_FEATURES.index("count_1d")
_AMOUNT_1D = PAYER_FEATURES.index("amount_1d")
_COUNT_30D = PAYER_FEATURES.index("count_30d")
_AMOUNT_30D = PAYER_FEATURES.index("amount_30d")
_TERMINALS_1D = PAYER_FEATURES.index("terminals_1d")
_PAYEE_COUNT_1H = PAYEE_FEATURES.index("count_1h")
_PAYEE_COUNT_30D = PAYEE_FEATURES.index("count_30d")
_PAYEE_CHARGEBACKS_30D = PAYEE_FEATURES.index("chargebacks_30d")


class _Assessment(msgspec.Struct, frozen=True):
    """``score`` is within 0 and 1; ``reasons`` are the names of the rules that raised it, strongest first."""

    score: float
    reasons: tuple[str, ...] = ()


class Approved(_Assessment, frozen=True):
    """Below the tenant's ``refer_at``: the payment goes on."""


class Referred(_Assessment, frozen=True):
    """At or above the tenant's ``refer_at``: a person decides."""

    reason: ClassVar[Reason] = Reason.FRAUD_SCORE_RAISED


class Declined(_Assessment, frozen=True):
    """At or above the tenant's ``decline_at``: the payment ends."""

    reason: ClassVar[Reason] = Reason.FRAUD_SCORE_HIGH


def assess(
    payer: Sequence[int], payee: Sequence[int], amount_minor: int, rules: FraudRules
) -> Approved | Referred | Declined:
    """Score a payment of ``amount_minor`` from its payer's and payee's features.

    ``payer`` and ``payee`` are what ``payer_features`` and ``payee_features`` (pipeline/stages/profiles.py) give once
    the payment itself is counted. Deterministic: the same numbers give the same score, bit for bit.
    """
    found: list[tuple[float, str]] = []
    count_1d = payer[_COUNT_1D]
    if count_1d > rules.payer_count_1d_max:
        found.append((_weight(PAYER_VELOCITY_BASE, count_1d, rules.payer_count_1d_max), PAYER_VELOCITY))
    # The payment itself is among those of the last 30 days: the mean is that of the others.
    earlier = payer[_COUNT_30D] - 1
    if earlier >= MEAN_PAYMENTS_MIN:
        usual = rules.amount_to_mean_max * (payer[_AMOUNT_30D] - amount_minor)
        if amount_minor * earlier > usual >= 0:
            found.append((_weight(AMOUNT_UNUSUAL_BASE, amount_minor * earlier, usual), AMOUNT_UNUSUAL))
    terminals = payer[_TERMINALS_1D]
    if terminals > rules.payer_terminals_1d_max:
        found.append((_weight(PAYER_TERMINALS_BASE, terminals, rules.payer_terminals_1d_max), PAYER_TERMINALS))
    small = payer[_AMOUNT_1D] <= rules.card_testing_mean_minor_max * count_1d
    if small and count_1d > rules.card_testing_count_1d_max:
        found.append((_weight(CARD_TESTING_BASE, count_1d, rules.card_testing_count_1d_max), CARD_TESTING))
    count_1h = payee[_PAYEE_COUNT_1H]
    if count_1h > rules.payee_count_1h_max:
        found.append((_weight(PAYEE_BURST_BASE, count_1h, rules.payee_count_1h_max), PAYEE_BURST))
    chargebacks = payee[_PAYEE_CHARGEBACKS_30D]
    if chargebacks:
        payments = payee[_PAYEE_COUNT_30D]
        allowed = rules.payee_chargeback_bp_max * payments
        if payments >= SHARE_PAYMENTS_MIN and chargebacks * 10_000 > allowed:
            found.append((_weight(PAYEE_CHARGEBACKS_BASE, chargebacks * 10_000, allowed), PAYEE_CHARGEBACKS))
    if not found:
        return Approved(0.0)
    found.sort(key=_strongest_first)
    unlikely = 1.0
    for weight, _ in found:
        unlikely *= 1.0 - weight
    score = 1.0 - unlikely
    reasons = tuple(name for _, name in found)
    if score >= rules.decline_at:
        return Declined(score, reasons)
    if score >= rules.refer_at:
        return Referred(score, reasons)
    return Approved(score, reasons)


def _weight(base: float, value: float, limit: float) -> float:
    """``base`` at the limit, 1 far above it; ``value`` is above ``limit``, which is not negative."""
    return 1.0 - (1.0 - base) * limit / value


def _strongest_first(found: tuple[float, str]) -> tuple[float, str]:
    return -found[0], found[1]
