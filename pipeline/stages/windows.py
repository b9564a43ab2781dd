"""What is in the windows of a profile: sums over its hourly buckets, and names by when they were last used. Pure.

``hours`` ascend; the other lists are parallel to it, and may end early in a row of an earlier version. Windows are those of
:mod:`pipeline.stages.profiles`. Where it could be compiled, :mod:`pipeline.stages.native_windows` gives the same in one pass.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable
from typing import Final, ParamSpec, TypeVar

try:
    from pipeline.stages import native_windows
except ImportError:  # Not compiled here.
    native_windows = None  # type: ignore[assignment]

#: Whether the windows are looked at by compiled code.
COMPILED: Final = native_windows is not None

P = ParamSpec("P")
R = TypeVar("R")

DAY_HOURS: Final = 24
WEEK_HOURS: Final = 7 * DAY_HOURS
MONTH_HOURS: Final = 30 * DAY_HOURS


def payer_facts(
    hours: list[int],
    counts: list[int],
    amounts: list[int],
    smalls: list[int],
    logs: list[int],
    squares: list[int],
    terminals: dict[str, int],
    cards: dict[str, int],
    hour: int,
    terminals_max: int,
    cards_max: int,
) -> tuple[list[int], int | None, int]:
    """The first facts of a payer at ``hour`` (:data:`pipeline.stages.features.PAYER`), and the sums of ``logs`` and of
    ``squares`` over 30 days, the first None where some are missing.

    A terminal or card counts in each window that holds its last use, or a later one.
    """
    end = bisect_right(hours, hour)
    previous = bisect_right(hours, hour - 2, 0, end)
    day = bisect_right(hours, hour - DAY_HOURS, 0, previous)
    week = bisect_right(hours, hour - WEEK_HOURS, 0, day)
    month = bisect_right(hours, hour - MONTH_HOURS, 0, week)
    count_1d, amount_1d = sum(counts[day:end]), sum(amounts[day:end])
    count_7d, amount_7d = count_1d + sum(counts[week:day]), amount_1d + sum(amounts[week:day])
    facts = [
        count_1d,
        amount_1d,
        count_7d,
        amount_7d,
        count_7d + sum(counts[month:week]),
        amount_7d + sum(amounts[month:week]),
        _used_after(terminals, hour - DAY_HOURS, terminals_max),
        _used_after(terminals, hour - WEEK_HOURS, terminals_max),
        _used_after(terminals, hour - MONTH_HOURS, terminals_max),
        sum(counts[previous:end]),
        sum(smalls[previous:end]),
        sum(smalls[day:end]),
        _used_after(cards, hour - DAY_HOURS, cards_max),
        _used_after(cards, hour - WEEK_HOURS, cards_max),
    ]
    logs_30d = logs[month:end]
    return facts, None if 0 in logs_30d else sum(logs_30d), sum(squares[month:end])


def payee_facts(
    hours: list[int],
    counts: list[int],
    amounts: list[int],
    smalls: list[int],
    chargebacks: list[int],
    new_payers: list[int],
    cards: dict[str, int],
    hour: int,
    cards_max: int,
) -> list[int]:
    """The facts of a payee at ``hour`` (:data:`pipeline.stages.features.PAYEE`)."""
    end = bisect_right(hours, hour)
    previous = bisect_right(hours, hour - 2, 0, end)
    day = bisect_right(hours, hour - DAY_HOURS, 0, previous)
    week = bisect_right(hours, hour - WEEK_HOURS, 0, day)
    delayed_day = bisect_right(hours, hour - WEEK_HOURS - DAY_HOURS, 0, week)
    delayed_week = bisect_right(hours, hour - 2 * WEEK_HOURS, 0, delayed_day)
    month = bisect_right(hours, hour - MONTH_HOURS, 0, delayed_week)
    delayed_month = bisect_right(hours, hour - MONTH_HOURS - WEEK_HOURS, 0, month)
    return [
        sum(counts[previous:end]),
        sum(counts[day:end]),
        sum(counts[week:end]),
        sum(counts[month:end]),
        sum(amounts[day:end]),
        sum(amounts[month:end]),
        sum(chargebacks[week:end]),
        sum(chargebacks[month:end]),
        sum(counts[delayed_month:week]),
        sum(chargebacks[delayed_month:week]),
        sum(counts[delayed_day:week]),
        sum(chargebacks[delayed_day:week]),
        sum(counts[delayed_week:week]),
        sum(chargebacks[delayed_week:week]),
        _used_after(cards, hour - DAY_HOURS, cards_max),
        _used_after(cards, hour - WEEK_HOURS, cards_max),
        sum(new_payers[day:end]),
        sum(new_payers[week:end]),
        sum(smalls[previous:end]),
        sum(smalls[day:end]),
    ]


def _used_after(last_hours: dict[str, int], hour: int, at_most: int) -> int:
    """How many of the ``at_most`` names that were used last were used after ``hour``."""
    return min(sum([last > hour for last in last_hours.values()]), at_most)


def _or_reference(compiled: Callable[P, R], reference: Callable[P, R]) -> Callable[P, R]:
    def facts(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return compiled(*args, **kwargs)
        except OverflowError:  # Sums of more than 64 bits are Python's.
            return reference(*args, **kwargs)

    return facts


#: The same, by compiled code where there is some.
fast_payer_facts = payer_facts if native_windows is None else _or_reference(native_windows.payer_facts, payer_facts)
fast_payee_facts = payee_facts if native_windows is None else _or_reference(native_windows.payee_facts, payee_facts)
