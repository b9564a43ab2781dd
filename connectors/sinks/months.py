"""Months in UTC, as the audit tables are divided: a month is its first day."""

from __future__ import annotations

from datetime import UTC, date, datetime
from typing import Final

DAY_MS: Final = 24 * 60 * 60 * 1000
#: Times after it, and before 1970, are taken to be of the last and the first month.
_LAST_MS: Final = int(datetime(9998, 12, 1, tzinfo=UTC).timestamp()) * 1000


def month_of(at_ms: int) -> date:
    """The month of a time."""
    return datetime.fromtimestamp(min(max(at_ms, 0), _LAST_MS) / 1000, UTC).date().replace(day=1)


def next_month(month: date, months: int = 1) -> date:
    """The month that comes so many after ``month``; negative: before."""
    year, zero_based = divmod(month.year * 12 + month.month - 1 + months, 12)
    return date(year, zero_based + 1, 1)


def first_ms(month: date) -> int:
    """When ``month`` begins."""
    return int(datetime(month.year, month.month, 1, tzinfo=UTC).timestamp()) * 1000


def name_of_month(month: date) -> str:
    """YYYY-MM."""
    return f"{month:%Y-%m}"
