"""Surcharge: may the payee ask for more because of how it is paid?"""

from __future__ import annotations

from schemas.localities import SurchargeTerms

WHOLE_BP = 10_000
#: The category of a card of which the client tells none.
UNTOLD = "consumer"


def surcharge_allowed_minor(amount_minor: int, card_category: str, terms: SurchargeTerms) -> int | None:
    """The most that may be in ``amount_minor`` as a surcharge, in minor units, rounded down; None: no limit by ``terms``.

    ``amount_minor`` is what is paid with the surcharge in it, so the share is of the price without it:
    s <= (amount - s) * max_bp / 10 000.
    """
    if terms.card_categories and (card_category or UNTOLD) not in terms.card_categories:
        return None
    return amount_minor * terms.max_bp // (WHOLE_BP + terms.max_bp)
