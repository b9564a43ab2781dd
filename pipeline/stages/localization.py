"""Localization: does the tenant take this payment here, and for which fee?  Pure: no Kafka, no clock."""

from __future__ import annotations

from collections.abc import Collection

import msgspec

from schemas.reasons import Reason
from schemas.tenant_rules import FeeRules, TenantRules

#: Basis points of the whole: 10 000 are 100 %.
WHOLE_BP = 10_000
#: More allowed values than this are counted in a detail instead of listed.
LISTED_MAX = 10


class Accepted(msgspec.Struct, frozen=True):
    """The tenant takes the payment; ``fee_minor`` is the tenant's fee in the payment's currency."""

    fee_minor: int
    pic: str


class Rejected(msgspec.Struct, frozen=True):
    """The tenant does not take the payment; ``detail`` names the limit and the value, and no person."""

    reason: Reason
    detail: str


def localize(*, amount_minor: int, currency: str, country: str, method: str, rules: TenantRules) -> Accepted | Rejected:
    """Decide whether the payment may go on under the tenant's ``rules``. The first check that fails decides.

    ``amount_minor`` is in minor units of ``currency``. A limit is part of what is allowed: an amount that equals the
    minimum, the maximum or the fee is accepted.
    """
    if currency not in rules.currencies:
        return Rejected(Reason.CURRENCY_NOT_ALLOWED, f"currency {currency} is not {_among(rules.currencies)}")
    if rules.countries and country not in rules.countries:
        return Rejected(Reason.COUNTRY_NOT_ALLOWED, f"country {country or '(none)'} is not {_among(rules.countries)}")
    limits = rules.methods.get(method)
    if limits is None:
        return Rejected(Reason.METHOD_NOT_ALLOWED, f"method {method or '(none)'} is not {_among(rules.methods)}")
    if (least := limits.min_minor.get(currency)) is not None and amount_minor < least:
        return Rejected(
            Reason.AMOUNT_BELOW_METHOD_LIMIT, _bounds(amount_minor, currency, "below", "minimum", least, method)
        )
    if (most := limits.max_minor.get(currency)) is not None and amount_minor > most:
        return Rejected(
            Reason.AMOUNT_ABOVE_METHOD_LIMIT, _bounds(amount_minor, currency, "above", "maximum", most, method)
        )
    fee = fee_minor(amount_minor, currency, rules.fee)
    if fee > amount_minor:
        return Rejected(
            Reason.FEE_ABOVE_AMOUNT, f"fee {fee} {currency} is above the amount {amount_minor} (minor units)"
        )
    return Accepted(fee, rules.pic)


def fee_minor(amount_minor: int, currency: str, fee: FeeRules) -> int:
    """The fee in minor units of ``currency``: the fixed part and the share, the share rounded half up, exactly."""
    share = (amount_minor * fee.percent_bp + WHOLE_BP // 2) // WHOLE_BP
    return share + fee.fixed_minor.get(currency, 0)


def _bounds(amount_minor: int, currency: str, side: str, bound: str, limit: int, method: str) -> str:
    return f"amount {amount_minor} {currency} is {side} the {bound} {limit} for {method} (minor units)"


def _among(allowed: Collection[str]) -> str:
    if len(allowed) > LISTED_MAX:
        return f"among the {len(allowed)} that are allowed"
    return f"among {', '.join(allowed)}"
