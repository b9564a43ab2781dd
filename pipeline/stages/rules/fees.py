"""Fees, exactly: integers and one rounding. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from schemas.business_rules import FeeRules, Tier
from schemas.money import WHOLE_BP, rounded


def fee_minor(amount_minor: int, currency: str, terms: FeeRules) -> int:
    """The fee for ``amount_minor`` (not negative), in minor units of ``currency``.

    The share is summed in basis points and rounded once; then the fixed part is added, then the least and the most apply.
    """
    tiers = terms.tiers.get(currency) if terms.tiers else None
    if tiers:
        share_bp, fixed_minor = _tiered(amount_minor, tiers, part=terms.tiers_apply == "part")
    else:
        share_bp, fixed_minor = amount_minor * terms.percent_bp, terms.fixed_minor.get(currency, 0)
    fee = rounded(share_bp, WHOLE_BP, terms.rounding) + fixed_minor
    if terms.min_minor:
        fee = max(fee, terms.min_minor.get(currency, 0))
    if terms.cap_minor:
        fee = min(fee, terms.cap_minor.get(currency, fee))
    return fee


def _tiered(amount_minor: int, tiers: Sequence[Tier], *, part: bool) -> tuple[int, int]:
    """The share in minor units times basis points, and the fixed part, of the tier in which the amount lies: above its
    bound, up to and with the next one."""
    share_bp = 0
    current = tiers[0]
    for tier in tiers[1:]:
        if amount_minor <= tier.above_minor:
            break
        share_bp += (tier.above_minor - current.above_minor) * current.percent_bp
        current = tier
    if not part:
        return amount_minor * current.percent_bp, current.fixed_minor
    return share_bp + (amount_minor - current.above_minor) * current.percent_bp, current.fixed_minor
