"""Profiles: what payers and payees did lately, in hourly buckets. Pure: rows in, numbers out.

A window of ``d`` days at time ``t`` is the clock hour of ``t`` and the ``24 * d - 1`` hours before it; ``1h`` is the
clock hour of ``t`` and the one before. Later hours do not count, so a late payment sees what was known of the past.
Hours are UTC hours since 1970. Amounts are summed in minor units irrespective of the currency.

A row depends on the set of events it was given and not on their order: an event goes into the bucket of its own hour,
everything ``keep_hours`` or more before the newest hour is dropped (an event that old is not counted), and where a
limit forgets something it forgets the oldest.

What the numbers are called and mean is in pipeline.stages.features.
"""

from __future__ import annotations

from binascii import b2a_base64
from bisect import bisect_left, bisect_right
from functools import lru_cache
from hashlib import blake2b
from math import log2, sqrt
from typing import Final

import msgspec

from pipeline.stages.features import PAYER_FEATURES
from pipeline.stages.payer_checks import PayerUse
from pipeline.stages.windows import (
    DAY_HOURS,
    MONTH_HOURS,
    WEEK_HOURS,
    fast_payee_facts,
    fast_payer_facts,
    payer_facts,
)

try:
    from pipeline.stages import native_windows
except ImportError:  # Not compiled here.
    native_windows = None  # type: ignore[assignment]

HOUR_MS = 60 * 60 * 1000
#: What a payer's row keeps: the longest window.
PAYER_KEEP_HOURS = MONTH_HOURS
#: What a payee's row keeps: 30 days that ended a week ago, when most chargebacks of them are known.
PAYEE_KEEP_HOURS = MONTH_HOURS + WEEK_HOURS
#: Terminals of one payer that are remembered: bounds the row (8 KiB). More is an attack or not a person.
TERMINALS_MAX = 512
#: Chargebacks of one payee that are counted: bounds the row (80 KiB). At this many the share is beyond doubt.
CHARGEBACKS_MAX = 1024
#: Cards of one payer or payee that are counted: bounds the row (8 KiB). A busy payee always has as many.
CARDS_MAX = 512
#: Countries in which one payer paid that are remembered.
COUNTRIES_MAX = 32
#: Payments to one payer that are remembered: bounds the row (3 KiB). Who is paid more often in two days is a shop.
CREDITS_MAX = 128
#: How long they are: a day, and another one for payments that come late.
CREDITS_KEEP_HOURS = 2 * DAY_HOURS
#: A small payment is at most this much: what somebody tries a stolen card with. Of the currency's minor unit, whatever
#: that is worth: 5 euros, 500 yen.
SMALL_AMOUNT_MINOR: Final = 500
#: Amounts are compared by their logarithm to base 2, in steps of this part.
LOG_STEPS: Final = 64
#: Payments from which a standard deviation is taken; of fewer it says nothing.
DEVIATION_PAYMENTS_MIN: Final = 3
#: A payer who always pays the same deviates by at least a tenth of a doubling (7 percent).
DEVIATION_MIN: Final = LOG_STEPS / 10
#: Thousandths of a standard deviation that are told at most, either way.
Z_MILLI_MAX: Final = 20_000

#: Tags that are remembered: those of the terminals and cards that pay most, in 3 MB.
TAGS_CACHED: Final = 16_384

#: How many of :data:`PAYER_FEATURES` the row alone gives; the rest are about one payment.
PAYER_WINDOWS: Final = PAYER_FEATURES.index("since_last_s")
_COUNT_30D: Final = PAYER_FEATURES.index("count_30d")
#: The last two facts of nearly every payer.
_NO_CREDITS: Final = (0, 0)


class Profile(msgspec.Struct, array_like=True, gc=False):
    """What rows of payers and payees have in common. ``hours`` ascend; the other lists are parallel to it.

    Fields are only ever appended, in both rows: a stored row of an earlier version lacks the last ones.
    """

    #: Generation that wrote the row; the engine's.
    version: int = 0
    #: The fence, per sender partition the last offset applied; the engine's.
    seen: dict[int, int] = {}
    hours: list[int] = []
    counts: list[int] = []
    amounts: list[int] = []
    #: Payees: charged-back payments by the hour in which they were paid.
    chargebacks: list[int] = []
    #: Payers: the tag of each terminal to the last hour in which it was used.
    terminals: dict[str, int] = {}
    #: Payees: charged-back payment to the hour in which it was paid.
    charged_back: dict[str, int] = {}
    #: Payers: counters of limits and of authentication (:mod:`pipeline.stages.payer_checks`).
    use: PayerUse | None = None
    #: Small payments.
    smalls: list[int] = []
    #: The tag of each card to the last hour in which it was used; a week back.
    cards: dict[str, int] = {}


class PayerProfile(Profile, array_like=True, gc=False):
    """One payer's row."""

    #: Sums of the amounts' logarithms, and of their squares (:func:`log_of`).
    logs: list[int] = []
    squares: list[int] = []
    #: Country to the last hour in which a payment took place there.
    countries: dict[str, int] = {}
    #: The latest payment: when it was requested, and where it took place.
    last_ms: int = -1
    last_country: str = ""
    #: Payments to this payer: the tag of each to the hour for which it counts, and its amount.
    credits: dict[str, tuple[int, int]] = {}


class PayeeProfile(Profile, array_like=True, gc=False):
    """One payee's row."""

    #: Payments of payers who were new here (the fact ``payee_new``).
    new_payers: list[int] = []


def short_of(name: bytes) -> str:
    """A short name: 48 bits of a hash, so that rows are small and hold no token."""
    return b2a_base64(blake2b(name, digest_size=6).digest(), newline=False).decode()


#: The same for terminals and cards, which come again and again.
tag_of = lru_cache(TAGS_CACHED)(short_of)


def log_of(amount_minor: int) -> int:
    """The amount's logarithm in steps of :data:`LOG_STEPS`, and one; 0 for what is no amount."""
    return 1 + round(LOG_STEPS * log2(amount_minor)) if amount_minor > 0 else 0


def add_payer_payment(
    profile: PayerProfile,
    at_ms: int,
    amount_minor: int,
    *,
    terminal: str,
    card: str = "",
    country: str = "",
    home: str = "",
    keep_hours: int = PAYER_KEEP_HOURS,
) -> list[int]:
    """Count a payment and give the payer's facts (``PAYER_FEATURES``) with it.

    ``terminal`` and ``card`` are tags (:func:`tag_of`); an empty one counts in no number of different ones. ``country``
    is where the payment takes place, ``home`` the payer's own; an empty one is unknown and mismatches nothing. A payment
    that is too old to be kept is not counted.
    """
    if _COUNTER is not None:
        facts = _COUNTER.add_payer_payment(profile, at_ms, amount_minor, terminal, card, country, home, keep_hours)
        if facts is not None:
            return facts
    return count_at_payer(profile, at_ms, amount_minor, terminal, card, country, home, keep_hours)


def count_at_payer(
    profile: PayerProfile,
    at_ms: int,
    amount_minor: int,
    terminal: str,
    card: str,
    country: str,
    home: str,
    keep_hours: int,
) -> list[int]:
    """:func:`add_payer_payment`, the reference."""
    hour = at_ms // HOUR_MS
    month = hour - MONTH_HOURS
    logarithm = log_of(amount_minor)
    last_ms, last_country = profile.last_ms, profile.last_country
    terminals, countries = profile.terminals, profile.countries
    # Against what the payer did before: to be looked at before this payment is counted.
    since_last_s = (at_ms - last_ms) // 1000 if 0 <= last_ms <= at_ms else -1
    new = int(terminals.get(terminal, month) <= month) if terminal else 0
    mismatch = int(country != home) if country and home else 0
    changed = int(country != last_country) if country and last_country else 0
    country_new = 0
    if country and countries and countries.get(country, month) <= month:
        country_new = int(max(countries.values()) > month)
    columns = counts, amounts, smalls, logs, squares = _payer_columns(profile)
    at = _bucket(profile, columns, hour, keep_hours)
    if at is not None:
        counts[at] += 1
        amounts[at] += amount_minor
        logs[at] += logarithm
        squares[at] += logarithm * logarithm
        if amount_minor <= SMALL_AMOUNT_MINOR:
            smalls[at] += 1
        if (at_ms, country) > (last_ms, last_country):
            profile.last_ms, profile.last_country = at_ms, country
    midnight = _midnight(profile.hours[-1])
    if hour > midnight - keep_hours:
        if terminal:
            _use(profile.terminals, terminal, hour, TERMINALS_MAX)
        if country:
            _use(profile.countries, country, hour, COUNTRIES_MAX)
        if card and hour > midnight - min(WEEK_HOURS, keep_hours):
            _use(profile.cards, card, hour, CARDS_MAX)
    facts, logs_30d, squares_30d = _payer_windows(profile, hour)
    facts += (
        since_last_s,
        0 if at is None else _z_milli(logs_30d, squares_30d, logarithm, facts[_COUNT_30D] - 1),
        new,
        mismatch,
        changed,
        country_new,
        *(_passed_on(profile, hour) if profile.credits else _NO_CREDITS),
    )
    return facts


def add_credit(profile: PayerProfile, payment: str, at_ms: int, amount_minor: int) -> bool:
    """Count money that came in for a payer, a payment being counted once; False, and nothing changes, when it was, or is too
    old.

    ``payment`` is its short name (:func:`short_of`), ``at_ms`` when it was asked for: the money counts in that hour.
    """
    hour, credits = at_ms // HOUR_MS, profile.credits
    if payment in credits:
        return False
    newest = max([each for each, _ in credits.values()], default=hour)
    if hour <= newest - CREDITS_KEEP_HOURS:
        return False
    credits[payment] = hour, amount_minor
    for gone in [name for name, (each, _) in credits.items() if each <= hour - CREDITS_KEEP_HOURS]:
        del credits[gone]
    if len(credits) > CREDITS_MAX:
        oldest = min(zip(credits.values(), credits, strict=True))[1]
        del credits[oldest]
        return oldest != payment
    return True


def add_payee_payment(
    profile: PayeeProfile,
    at_ms: int,
    amount_minor: int,
    *,
    card: str = "",
    new_payer: bool = False,
    keep_hours: int = PAYEE_KEEP_HOURS,
) -> bool:
    """Count a payment; False when it is too old to count. ``card`` is a tag, ``new_payer`` the payer's ``payee_new``."""
    if _COUNTER is not None:
        counted = _COUNTER.add_payee_payment(profile, at_ms, amount_minor, card, new_payer, keep_hours)
        if counted is not None:
            return counted
    return count_at_payee(profile, at_ms, amount_minor, card, new_payer, keep_hours)


def count_at_payee(
    profile: PayeeProfile, at_ms: int, amount_minor: int, card: str, new_payer: bool, keep_hours: int
) -> bool:
    """:func:`add_payee_payment`, the reference."""
    hour = at_ms // HOUR_MS
    columns = counts, amounts, smalls, _, new_payers = _payee_columns(profile)
    at = _bucket(profile, columns, hour, keep_hours)
    if card and hour > _midnight(profile.hours[-1]) - min(WEEK_HOURS, keep_hours):
        _use(profile.cards, card, hour, CARDS_MAX)
    if at is None:
        return False
    counts[at] += 1
    amounts[at] += amount_minor
    if amount_minor <= SMALL_AMOUNT_MINOR:
        smalls[at] += 1
    if new_payer:
        new_payers[at] += 1
    return True


def add_chargeback(profile: PayeeProfile, payment_id: str, paid_at_ms: int, keep_hours: int = PAYEE_KEEP_HOURS) -> bool:
    """Label a payment as charged back; False, and nothing changes, when it is too old or labelled already.

    ``paid_at_ms`` is when the payment was requested: the label counts in that hour. The caller has made sure that it
    is not in the future, for it would age everything that is kept.
    """
    hour = paid_at_ms // HOUR_MS
    if payment_id in profile.charged_back:
        return False
    at = _bucket(profile, _payee_columns(profile), hour, keep_hours)
    if at is None:
        return False
    charged_back = profile.charged_back
    charged_back[payment_id] = hour
    profile.chargebacks[at] += 1
    if len(charged_back) > CHARGEBACKS_MAX:
        gone = charged_back.pop(_oldest(charged_back))
        profile.chargebacks[bisect_left(profile.hours, gone)] -= 1
    return True


def payer_windows(profile: PayerProfile, at_ms: int) -> list[int]:
    """The first :data:`PAYER_WINDOWS` facts of a payer, at event time ``at_ms``.

    A terminal or card counts in each window that holds its last use, or a later one.
    """
    return _payer_windows(profile, at_ms // HOUR_MS)[0]


def payee_features(profile: PayeeProfile, at_ms: int) -> list[int]:
    """The facts of a payee (``PAYEE_FEATURES``) at event time ``at_ms``."""
    return fast_payee_facts(
        profile.hours,
        profile.counts,
        profile.amounts,
        profile.smalls,
        profile.chargebacks,
        profile.new_payers,
        profile.cards,
        at_ms // HOUR_MS,
        CARDS_MAX,
    )


def _payer_windows(profile: PayerProfile, hour: int) -> tuple[list[int], int | None, int]:
    """See :func:`pipeline.stages.windows.payer_facts`."""
    return fast_payer_facts(
        profile.hours,
        profile.counts,
        profile.amounts,
        profile.smalls,
        profile.logs,
        profile.squares,
        profile.terminals,
        profile.cards,
        hour,
        TERMINALS_MAX,
        CARDS_MAX,
    )


def _passed_on(profile: PayerProfile, hour: int) -> tuple[int, int]:
    """Money that came in for the payer in the day up to ``hour``, and what of it was paid on since.

    What comes in is paid on first: an amount of an hour takes from what came in until the end of that hour and was not taken
    before. Within an hour the order is not known.
    """
    came: dict[int, int] = {}
    for at, amount in profile.credits.values():
        if hour - DAY_HOURS < at <= hour:
            came[at] = came.get(at, 0) + amount
    if not came:
        return 0, 0
    begin, end = bisect_left(profile.hours, min(came)), bisect_right(profile.hours, hour)
    went = dict(zip(profile.hours[begin:end], profile.amounts[begin:end], strict=True))
    held = 0
    for at in sorted(came.keys() | went.keys()):
        held += came.get(at, 0)
        held -= min(held, went.get(at, 0))
    credited = sum(came.values())
    return credited, credited - held


def _z_milli(logs: int | None, squares: int, logarithm: int, earlier: int) -> int:
    """Thousandths of a standard deviation above the logarithms' mean of the ``earlier`` payments, of which ``logs`` and
    ``squares`` are the sums with this one; None: of a row of an earlier version, whose payments have no logarithms."""
    if earlier < DEVIATION_PAYMENTS_MIN or logs is None:
        return 0
    total = logs - logarithm
    spread = earlier * (squares - logarithm * logarithm) - total * total
    deviation = max(sqrt(max(spread, 0)) / earlier, DEVIATION_MIN)
    return max(-Z_MILLI_MAX, min(Z_MILLI_MAX, round(1000 * (logarithm - total / earlier) / deviation)))


def _midnight(hour: int) -> int:
    """The first hour of the day of ``hour``. Names are forgotten once a day: looking for the oldest takes its time."""
    return hour - hour % DAY_HOURS


def _use(last_hours: dict[str, int], name: str, hour: int, limit: int) -> None:
    """``name`` was used in ``hour``. Now and then the oldest beyond ``limit`` are forgotten; none of them is counted."""
    if last_hours.get(name, -1) < hour:
        last_hours[name] = hour
        if len(last_hours) > limit + limit // 4:
            newest = sorted(zip(last_hours.values(), last_hours, strict=True))[-limit:]
            last_hours.clear()
            last_hours.update((name, hour) for hour, name in newest)


#: Lists that are parallel to ``hours``.
_Columns = tuple[list[int], list[int], list[int], list[int], list[int]]


def _payer_columns(profile: PayerProfile) -> _Columns:
    return profile.counts, profile.amounts, profile.smalls, profile.logs, profile.squares


def _payee_columns(profile: PayeeProfile) -> _Columns:
    return profile.counts, profile.amounts, profile.smalls, profile.chargebacks, profile.new_payers


def _bucket(profile: Profile, columns: _Columns, hour: int, keep_hours: int) -> int | None:
    """Index of the bucket of ``hour``, made if need be; None when the hour is no longer kept."""
    hours = profile.hours
    length = len(hours)
    if len(columns[-1]) != length:
        for column in columns:  # A row of an earlier version lacks some.
            column.extend([0] * (length - len(column)))
    if not length:
        _insert(hours, columns, 0, hour)
        return 0
    newest = hours[-1]
    if hour == newest:
        return length - 1
    if hour > newest:
        hours.append(hour)
        for column in columns:
            column.append(0)
        _forget(profile, columns, newest, keep_hours)
        return len(hours) - 1
    if hour <= newest - keep_hours:
        return None
    at = bisect_left(hours, hour)
    if hours[at] != hour:
        _insert(hours, columns, at, hour)
    return at


def _insert(hours: list[int], columns: _Columns, at: int, hour: int) -> None:
    hours.insert(at, hour)
    for column in columns:
        column.insert(at, 0)


def _forget(profile: Profile, columns: _Columns, newest_before: int, keep_hours: int) -> None:
    """Drop what is too old, ``hours`` having a new last one."""
    hours = profile.hours
    newest = hours[-1]
    if hours[0] <= newest - keep_hours:
        gone = bisect_right(hours, newest - keep_hours)
        del hours[:gone]
        for column in columns:
            del column[:gone]
    if profile.charged_back:
        _drop(profile.charged_back, newest - keep_hours)
    midnight = _midnight(newest)
    if midnight > newest_before:
        _drop(profile.terminals, midnight - keep_hours)
        _drop(profile.cards, midnight - min(WEEK_HOURS, keep_hours))
        if isinstance(profile, PayerProfile):
            _drop(profile.countries, midnight - keep_hours)


def _drop(last_hours: dict[str, int], last_hour: int) -> None:
    """Forget what is not later than ``last_hour``."""
    for name in [name for name, hour in last_hours.items() if hour <= last_hour]:
        del last_hours[name]


def _oldest(last_hours: dict[str, int]) -> str:
    """The entry of the lowest hour; among equals the lowest name, so that it does not depend on the order of events."""
    return min(zip(last_hours.values(), last_hours, strict=True))[1]


def counter() -> native_windows.Counter:
    """What counts the usual payment in compiled code, with the limits of this module."""
    return native_windows.Counter(
        terminals_max=TERMINALS_MAX,
        cards_max=CARDS_MAX,
        countries_max=COUNTRIES_MAX,
        small_max=SMALL_AMOUNT_MINOR,
        log_steps=LOG_STEPS,
        earlier_min=DEVIATION_PAYMENTS_MIN,
        deviation_min=DEVIATION_MIN,
        z_max=Z_MILLI_MAX,
        payer_facts=payer_facts,
        z_milli=_z_milli,
    )


_COUNTER: Final = None if native_windows is None else counter()
