"""Strong customer authentication: must the payer prove who they are, twice?

Directive (EU) 2015/2366, article 97, with the exemptions of Delegated Regulation (EU) 2018/389, articles 11 to 17; the
same articles with its own amounts in the United Kingdom. Pure, in two steps: :func:`assess` needs no state,
:func:`settle` needs what the payer has used up since the last authentication.

The payer's bank decides in the end, and counts what it sees elsewhere too: an exemption is what is asked of it. Article 18
(risk analysis) is not here: it needs the score of a later stage and the fraud rate of the acquirer.
"""

from __future__ import annotations

from typing import Final, Literal

import msgspec

from schemas.localities import CounterTerms, ScaTerms

Flag = Literal[
    "contactless",
    "unattended",
    "merchant_initiated",
    "series_first",
    "series_following",
    "trusted_payee",
    "own_account",
    "corporate",
]
#: Parts of a whole limit: sums are kept in millionths of the limit, so that currencies add up without a rate.
WHOLE_PPM: Final = 1_000_000
#: Counters are never more than these: rows stay small whatever the terms say.
COUNT_MAX: Final = 1_000_000
USED_PPM_MAX: Final = 2 * WHOLE_PPM


class OutOfScope(msgspec.Struct, frozen=True):
    """The law does not ask for it here; ``why`` is stable and safe to show."""

    why: str


class Required(msgspec.Struct, frozen=True):
    """The payer has to be authenticated."""


class Exempt(msgspec.Struct, frozen=True):
    """It may be left out under ``article`` of (EU) 2018/389."""

    article: int


class Counted(msgspec.Struct, frozen=True):
    """It may be left out while the payer's counters allow: ``share_ppm`` is this payment's part of the limit."""

    article: int
    share_ppm: int
    count: int
    counter: str


class ScaCounters(msgspec.Struct, frozen=True):
    """What a payer has used of each limit since the last authentication: payments, and millionths of the summed limit."""

    low_value_count: int = 0
    low_value_ppm: int = 0
    contactless_count: int = 0
    contactless_ppm: int = 0


Assessed = OutOfScope | Required | Exempt | Counted
Settled = OutOfScope | Required | Exempt

LOW_VALUE_ARTICLE: Final = 16
CONTACTLESS_ARTICLE: Final = 11
NO_COUNTERS: Final = ScaCounters()
_REQUIRED: Final = Required()
_NOT_ELECTRONIC: Final = OutOfScope("not_electronic")
_PAYEE_INITIATED: Final = OutOfScope("payee_initiated")
_ONE_LEG: Final = OutOfScope("one_leg_outside")
_NO_LAW: Final = OutOfScope("no_law_here")


def assess(
    *,
    amount_minor: int,
    currency: str,
    payer_country: str,
    payee_country: str,
    method: str,
    channel: str,
    flags: frozenset[Flag],
    terms: ScaTerms,
) -> Assessed:
    """Decide as far as it goes without counters. The first line that fits decides; scope before exemptions.

    ``channel`` is ``pos`` for a payment at a terminal, ``moto`` for mail and telephone orders; all others are remote.
    """
    if not terms.within:
        return _NO_LAW
    if method == "cash" or channel == "moto":
        return _NOT_ELECTRONIC  # Directive (EU) 2015/2366, recital 95: not initiated electronically by the payer.
    if "merchant_initiated" in flags or (channel == "recurring" and "series_first" not in flags):
        return _PAYEE_INITIATED  # Article 97(1)(b) asks it of the payer's actions: EBA Q&A 2018_4031.
    within = terms.within
    if payer_country not in within or (payee_country != payer_country and payee_country not in within):
        return _ONE_LEG
    exempt = _exempt(method, channel, flags, terms)
    if exempt is not None:
        return exempt
    if channel == "pos":
        counter, article = terms.contactless if "contactless" in flags else None, CONTACTLESS_ARTICLE
    else:
        counter, article = terms.low_value, LOW_VALUE_ARTICLE
    return _REQUIRED if counter is None else _counted(amount_minor, currency, counter, article)


def settle(assessed: Assessed, counters: ScaCounters) -> tuple[Settled, ScaCounters]:
    """The answer, and what the payer has used up after this payment. An authentication sets all to nothing.

    This payment counts: the sum with it must not exceed the limit, and it is at most the fifth. The letter of the
    articles counts what was before it only; the stricter reading is right under both.
    """
    if isinstance(assessed, Required):
        return assessed, NO_COUNTERS
    if not isinstance(assessed, Counted):
        return assessed, counters
    low_value = assessed.article == LOW_VALUE_ARTICLE
    count = 1 + (counters.low_value_count if low_value else counters.contactless_count)
    used_ppm = assessed.share_ppm + (counters.low_value_ppm if low_value else counters.contactless_ppm)
    too_many = assessed.counter != "amount" and count > assessed.count
    # A share is rounded up to a millionth, so a sum of ``count`` shares is less than ``count`` millionths too high. That is
    # less than a cent of 100 euros for fewer than 100 payments.
    too_much = assessed.counter != "count" and used_ppm - count >= WHOLE_PPM
    if too_many or too_much:
        return _REQUIRED, NO_COUNTERS
    count, used_ppm = min(count, COUNT_MAX), min(used_ppm, USED_PPM_MAX)
    if low_value:
        after = ScaCounters(count, used_ppm, counters.contactless_count, counters.contactless_ppm)
    else:
        after = ScaCounters(counters.low_value_count, counters.low_value_ppm, count, used_ppm)
    return Exempt(assessed.article), after


def _exempt(method: str, channel: str, flags: frozenset[Flag], terms: ScaTerms) -> Exempt | None:
    """The exemptions that need no counter, as far as ``terms`` use them."""
    if not flags or not terms.exemptions:
        return None
    used = terms.exemptions
    if channel == "pos" and "unattended" in flags and "unattended_transport" in used:
        return Exempt(12)
    if "trusted_payee" in flags and "trusted_payee" in used:
        return Exempt(13)
    if "series_following" in flags and "recurring" in used:
        return Exempt(14)
    if method == "bank_account" and "own_account" in flags and "own_account" in used:
        return Exempt(15)
    if "corporate" in flags and "corporate_process" in used:
        return Exempt(17)
    return None


def _counted(amount_minor: int, currency: str, terms: CounterTerms, article: int) -> Assessed:
    single = terms.single_minor.get(currency)
    if single is None or amount_minor > single:
        return _REQUIRED
    limit = terms.cumulative_minor.get(currency)
    if limit is None:
        # No sum is stated in this currency: only the number can be counted.
        return Counted(article, 0, terms.count, "count") if terms.counter != "amount" else _REQUIRED
    return Counted(article, -(-amount_minor * WHOLE_PPM // limit), terms.count, terms.counter)
