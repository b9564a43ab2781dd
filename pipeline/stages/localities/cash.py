"""Cash: what is paid when the smallest coins are no longer used."""

from __future__ import annotations

from schemas.localities import CashRoundingTerms


def round_cash(amount_minor: int, terms: CashRoundingTerms) -> int:
    """The amount to pay in cash for ``amount_minor`` (not negative): the nearest multiple of the step, a half up.

    That is what every law here says in its own words: Sweden's 1970:1028, 50 ore up; Hungary's III of 2008, 2.50 up;
    Finland's 890/2000, 3 and 4 cents up. ``least_minor`` is for laws under which a price above zero costs something
    (Slovakia: 1 and 2 cents are 5).
    """
    step = terms.step_minor
    rounded = (2 * amount_minor + step) // (2 * step) * step
    return max(rounded, terms.least_minor) if amount_minor > 0 else rounded
