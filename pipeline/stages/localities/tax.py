"""Tax: how much of an amount is tax. Exact integers; net and tax always add up to the amount."""

from __future__ import annotations

import msgspec

from schemas.localities import STANDARD, TaxTerms

#: Basis points of the whole: 10 000 are 100 %.
WHOLE_BP = 10_000


class Tax(msgspec.Struct, frozen=True):
    """``net_minor + tax_minor`` is what is paid (inclusive) or what is to be paid (exclusive), in minor units."""

    net_minor: int
    tax_minor: int
    rate_bp: int


def tax_of(amount_minor: int, category: str, terms: TaxTerms) -> Tax:
    """Split ``amount_minor`` (not negative) under ``terms``. A category without a rate of its own has the standard rate.

    Inclusive: tax = amount * rate / (1 + rate), rounded once for the whole payment (Directive 2006/112/EC leaves the
    method to the Member States: C-484/06 Ahold). Exclusive: tax = amount * rate, on top of the amount.
    """
    rates = terms.rates_bp
    rate_bp = rates.get(category)
    if rate_bp is None:
        rate_bp = rates[STANDARD]
    whole = WHOLE_BP + rate_bp if terms.inclusive else WHOLE_BP
    share = amount_minor * rate_bp
    tax_minor = share // whole if terms.rounding == "down" else (2 * share + whole) // (2 * whole)
    return Tax(amount_minor - tax_minor if terms.inclusive else amount_minor, tax_minor, rate_bp)
