"""Calendar periods of limits: days, weeks and months of a place, numbered. Pure."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from functools import lru_cache
from typing import Literal
from zoneinfo import ZoneInfo

_HOUR_MS = 60 * 60 * 1000
_QUARTER_MS = _HOUR_MS // 4


def period_of(at_ms: int, per: Literal["day", "week", "month"], zone: str) -> int:
    """A number of the calendar period of ``zone`` in which ``at_ms`` is; the next period has a higher one.

    Days: proleptic ordinal (:meth:`datetime.date.toordinal`). Weeks: that of their Monday. Months: months since year 0.
    """
    # Time zones change at quarters of an hour, so one answer serves fifteen minutes.
    return _period(at_ms // _QUARTER_MS, per, zone)


@lru_cache(maxsize=4096)
def _period(quarter: int, per: str, zone: str) -> int:
    local = _local_day(quarter, zone)
    if per == "day":
        return local.toordinal()
    if per == "week":
        return (local - timedelta(days=local.weekday())).toordinal()
    return local.year * 12 + local.month - 1


def _local_day(quarter: int, zone: str) -> date:
    return datetime.fromtimestamp(quarter * _QUARTER_MS // 1000, UTC).astimezone(ZoneInfo(zone)).date()
