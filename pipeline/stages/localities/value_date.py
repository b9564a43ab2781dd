"""Value date: the business day on which money that is paid now counts. Pure: the instant is an argument.

A day of a place is not a day of UTC, and a cut-off of 17:00 is another instant in winter than in summer. Both are worked
out once per day and kept, so a payment costs a look-up and a comparison.
"""

from __future__ import annotations

from datetime import UTC, date, datetime, time, timedelta
from zoneinfo import ZoneInfo

from pipeline.stages.localities.closed_days import CALENDARS, Calendar
from schemas.localities import ValueDateTerms

_DAY_MS = 24 * 60 * 60 * 1000
_DAY = timedelta(days=1)
#: Days of receipt that are kept; payments come in the order of time, so few are needed.
DAYS_KEPT = 64
#: Business days that a rule may add.
DAYS_MAX = 30


class UnknownCalendarError(ValueError):
    """There is no such calendar. The text names it and those that there are."""


class ValueDates:
    """The value dates of one rule. Holds nothing but what follows from its terms."""

    def __init__(self, terms: ValueDateTerms) -> None:
        """Raises :class:`UnknownCalendarError`, and ValueError for a cut-off that is no time or too many days."""
        calendar = CALENDARS.get(terms.calendar)
        if calendar is None:
            raise UnknownCalendarError(f"calendar {terms.calendar[:40]!r} is not among {', '.join(CALENDARS)}")
        if not 0 <= terms.days <= DAYS_MAX:
            raise ValueError(f"days {terms.days} is not from 0 to {DAYS_MAX}")
        self._calendar = calendar
        self._cut_off = time.fromisoformat(terms.cut_off)
        if self._cut_off.tzinfo is not None:
            raise ValueError("cut_off is a local time, without a zone")
        self._days = terms.days
        self._zone = ZoneInfo(calendar.zone)
        self._kept: dict[int, tuple[tuple[int, str], ...]] = {}

    def of(self, at_ms: int) -> str:
        """The value date (``YYYY-MM-DD``) of a payment received at ``at_ms``; empty outside the calendar's years."""
        day = at_ms // _DAY_MS
        spans = self._kept.get(day)
        if spans is None:
            if len(self._kept) >= DAYS_KEPT:
                self._kept.clear()
            spans = self._kept[day] = self._spans(day)
        for until_ms, value_date in spans:
            if at_ms < until_ms:
                return value_date
        raise AssertionError("the last span ends after the day")

    def _spans(self, day: int) -> tuple[tuple[int, str], ...]:
        """For one day of UTC: until which instant (exclusive) each value date holds, in order of time."""
        start = datetime.fromtimestamp(day * _DAY_MS // 1000, UTC)
        local = start.astimezone(self._zone).date() - _DAY
        spans: list[tuple[int, str]] = []
        end_ms = (day + 1) * _DAY_MS
        while not spans or spans[-1][0] < end_ms:
            cut_off = datetime.combine(local, self._cut_off, self._zone)
            spans.append((round(cut_off.timestamp() * 1000), self._value_date(local)))
            local += _DAY
        return tuple(span for span in spans if span[0] > day * _DAY_MS)

    def _value_date(self, local: date) -> str:
        """The value date of what is received on ``local`` before the cut-off."""
        calendar = self._calendar
        left = self._days
        while True:
            if not calendar.knows(local):
                return ""
            if calendar.is_open(local):
                if left == 0:
                    return local.isoformat()
                left -= 1
            local += _DAY


def is_business_day(calendar: Calendar, day: date) -> bool:
    """Whether the system of ``calendar`` settles on ``day``; False outside its years."""
    return calendar.knows(day) and calendar.is_open(day)
