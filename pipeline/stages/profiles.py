"""Profiles: what payers and payees did lately, in hourly buckets. Pure: rows in, numbers out.

A window of ``d`` days at time ``t`` is the clock hour of ``t`` and the ``24 * d - 1`` hours before it; ``1h`` is the
clock hour of ``t`` and the one before. Later hours do not count, so a late payment sees what was known of the past.
Hours are UTC hours since 1970. Amounts are summed in minor units irrespective of the currency.

A row depends on the set of events it was given and not on their order: an event goes into the bucket of its own hour,
everything ``keep_hours`` or more before the newest hour is dropped (an event that old is not counted), and where a
limit forgets something it forgets the oldest.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right

import msgspec

from pipeline.stages.payer_checks import PayerUse

HOUR_MS = 60 * 60 * 1000
DAY_HOURS = 24
WEEK_HOURS = 7 * DAY_HOURS
MONTH_HOURS = 30 * DAY_HOURS
#: What a payer's row keeps: the longest window.
PAYER_KEEP_HOURS = MONTH_HOURS
#: What a payee's row keeps: 30 days that ended a week ago, when most chargebacks of them are known.
PAYEE_KEEP_HOURS = MONTH_HOURS + WEEK_HOURS
#: Terminals of one payer that are remembered: bounds the row (40 KiB). More is an attack or not a person.
TERMINALS_MAX = 512
#: Chargebacks of one payee that are counted: bounds the row (80 KiB). At this many the share is beyond doubt.
CHARGEBACKS_MAX = 1024

#: What :func:`payer_features` gives, in order.
PAYER_FEATURES: tuple[str, ...] = (
    "count_1d",
    "amount_1d",
    "count_7d",
    "amount_7d",
    "count_30d",
    "amount_30d",
    "terminals_1d",
    "terminals_7d",
    "terminals_30d",
)
#: What :func:`payee_features` gives, in order. ``_delayed`` windows end a week earlier, when labels have arrived.
PAYEE_FEATURES: tuple[str, ...] = (
    "count_1h",
    "count_1d",
    "count_7d",
    "count_30d",
    "amount_1d",
    "amount_30d",
    "chargebacks_7d",
    "chargebacks_30d",
    "count_30d_delayed",
    "chargebacks_30d_delayed",
)


class Profile(msgspec.Struct, array_like=True, gc=False):
    """One payer's or payee's row. ``hours`` ascend; ``counts``, ``amounts`` and ``chargebacks`` are parallel."""

    #: Generation that wrote the row; the engine's.
    version: int = 0
    #: The fence, per sender partition the last offset applied; the engine's.
    seen: dict[int, int] = {}
    hours: list[int] = []
    counts: list[int] = []
    amounts: list[int] = []
    #: Charged-back payments by the hour in which they were paid.
    chargebacks: list[int] = []
    #: Payers: terminal to the last hour in which it was used.
    terminals: dict[str, int] = {}
    #: Payees: charged-back payment to the hour in which it was paid.
    charged_back: dict[str, int] = {}
    #: Payers: counters of limits and of authentication (:mod:`pipeline.stages.payer_checks`).
    use: PayerUse | None = None


def add_payment(
    profile: Profile, requested_at_ms: int, amount_minor: int, terminal_id: str = "", keep_hours: int = PAYER_KEEP_HOURS
) -> bool:
    """Count a payment; False when it is too old to count. Payees give no ``terminal_id``."""
    hour = requested_at_ms // HOUR_MS
    at = _bucket(profile, hour, keep_hours)
    if at is None:
        return False
    profile.counts[at] += 1
    profile.amounts[at] += amount_minor
    if terminal_id:
        terminals = profile.terminals
        if terminals.get(terminal_id, -1) < hour:
            terminals[terminal_id] = hour
            if len(terminals) > TERMINALS_MAX:
                del terminals[_oldest(terminals)]
    return True


def add_chargeback(profile: Profile, payment_id: str, paid_at_ms: int, keep_hours: int = PAYEE_KEEP_HOURS) -> bool:
    """Label a payment as charged back; False, and nothing changes, when it is too old or labelled already.

    ``paid_at_ms`` is when the payment was requested: the label counts in that hour. The caller has made sure that it
    is not in the future, for it would age everything that is kept.
    """
    hour = paid_at_ms // HOUR_MS
    if payment_id in profile.charged_back:
        return False
    at = _bucket(profile, hour, keep_hours)
    if at is None:
        return False
    charged_back = profile.charged_back
    charged_back[payment_id] = hour
    profile.chargebacks[at] += 1
    if len(charged_back) > CHARGEBACKS_MAX:
        gone = charged_back.pop(_oldest(charged_back))
        profile.chargebacks[bisect_left(profile.hours, gone)] -= 1
    return True


def payer_features(profile: Profile, at_ms: int) -> list[int]:
    """The numbers that :data:`PAYER_FEATURES` names, at event time ``at_ms``.

    A terminal counts in each window that holds its last use, or a later one.
    """
    hour = at_ms // HOUR_MS
    hours, counts, amounts = profile.hours, profile.counts, profile.amounts
    end = bisect_right(hours, hour)
    day = bisect_right(hours, hour - DAY_HOURS, 0, end)
    week = bisect_right(hours, hour - WEEK_HOURS, 0, day)
    month = bisect_right(hours, hour - MONTH_HOURS, 0, week)
    count_1d, amount_1d = sum(counts[day:end]), sum(amounts[day:end])
    count_7d, amount_7d = count_1d + sum(counts[week:day]), amount_1d + sum(amounts[week:day])
    last_used = sorted(profile.terminals.values())
    known = len(last_used)
    return [
        count_1d,
        amount_1d,
        count_7d,
        amount_7d,
        count_7d + sum(counts[month:week]),
        amount_7d + sum(amounts[month:week]),
        known - bisect_right(last_used, hour - DAY_HOURS),
        known - bisect_right(last_used, hour - WEEK_HOURS),
        known - bisect_right(last_used, hour - MONTH_HOURS),
    ]


def payee_features(profile: Profile, at_ms: int) -> list[int]:
    """The numbers that :data:`PAYEE_FEATURES` names, at event time ``at_ms``."""
    hour = at_ms // HOUR_MS
    hours, counts, amounts = profile.hours, profile.counts, profile.amounts
    end = bisect_right(hours, hour)
    previous = bisect_right(hours, hour - 2, 0, end)
    day = bisect_right(hours, hour - DAY_HOURS, 0, previous)
    week = bisect_right(hours, hour - WEEK_HOURS, 0, day)
    month = bisect_right(hours, hour - MONTH_HOURS, 0, week)
    delayed = bisect_right(hours, hour - MONTH_HOURS - WEEK_HOURS, 0, month)
    count_1h = sum(counts[previous:end])
    count_1d = count_1h + sum(counts[day:previous])
    count_8d_to_30d = sum(counts[month:week])
    count_7d = count_1d + sum(counts[week:day])
    amount_1d = sum(amounts[day:end])
    chargebacks_7d = chargebacks_8d_to_30d = chargebacks_31d_to_37d = 0
    if profile.charged_back:
        chargebacks = profile.chargebacks
        chargebacks_7d = sum(chargebacks[week:end])
        chargebacks_8d_to_30d = sum(chargebacks[month:week])
        chargebacks_31d_to_37d = sum(chargebacks[delayed:month])
    return [
        count_1h,
        count_1d,
        count_7d,
        count_7d + count_8d_to_30d,
        amount_1d,
        amount_1d + sum(amounts[month:day]),
        chargebacks_7d,
        chargebacks_7d + chargebacks_8d_to_30d,
        count_8d_to_30d + sum(counts[delayed:month]),
        chargebacks_8d_to_30d + chargebacks_31d_to_37d,
    ]


def _bucket(profile: Profile, hour: int, keep_hours: int) -> int | None:
    """Index of the bucket of ``hour``, made if need be; None when the hour is no longer kept."""
    hours = profile.hours
    if not hours:
        _insert(profile, 0, hour)
        return 0
    newest = hours[-1]
    if hour == newest:
        return len(hours) - 1
    if hour > newest:
        _insert(profile, len(hours), hour)
        _forget(profile, hour - keep_hours)
        return len(hours) - 1
    if hour <= newest - keep_hours:
        return None
    at = bisect_left(hours, hour)
    if hours[at] != hour:
        _insert(profile, at, hour)
    return at


def _insert(profile: Profile, at: int, hour: int) -> None:
    profile.hours.insert(at, hour)
    profile.counts.insert(at, 0)
    profile.amounts.insert(at, 0)
    profile.chargebacks.insert(at, 0)


def _forget(profile: Profile, last_hour: int) -> None:
    """Drop everything up to and with ``last_hour``."""
    hours = profile.hours
    if hours[0] <= last_hour:
        gone = bisect_right(hours, last_hour)
        del hours[:gone], profile.counts[:gone], profile.amounts[:gone], profile.chargebacks[:gone]
    if profile.terminals and min(profile.terminals.values()) <= last_hour:
        profile.terminals = {terminal: hour for terminal, hour in profile.terminals.items() if hour > last_hour}
    if profile.charged_back and min(profile.charged_back.values()) <= last_hour:
        profile.charged_back = {payment: hour for payment, hour in profile.charged_back.items() if hour > last_hour}


def _oldest(last_hours: dict[str, int]) -> str:
    """The entry of the lowest hour; among equals the lowest name, so that it does not depend on the order of events."""
    return min(zip(last_hours.values(), last_hours, strict=True))[1]
