"""Events as reports read them. Pure."""

from __future__ import annotations

from copy import copy
from datetime import UTC, datetime, tzinfo
from functools import lru_cache
from typing import Final, NamedTuple
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

_HOUR_MS: Final = 60 * 60 * 1000


class Event(NamedTuple):
    """A row of ``payment_events`` that has a payload."""

    tenant: str
    payment_id: str
    stage: str
    outcome: str
    reason: str
    recorded_at_ms: int
    #: JSON of the record.
    payload: str


class Asked(NamedTuple):
    """An intent and its answer."""

    queued_at_ms: int
    answered_at_ms: int
    #: The answer's.
    outcome: str
    pic: str
    #: The how-manieth ask of the attempt, from 0.
    ask: int


class UnknownZoneError(ValueError):
    """No time zone of the IANA database."""


class Days:
    """Days of one time zone, written YYYY-MM-DD."""

    def __init__(self, zone: str = "UTC") -> None:
        """Raises :class:`UnknownZoneError`."""
        self.zone = zone
        #: The day after the last one, for figures that depend on it; empty: not told.
        self.end = ""
        try:
            self._zone: tzinfo = UTC if zone == "UTC" else ZoneInfo(zone)
        except (ZoneInfoNotFoundError, ValueError, OSError):
            raise UnknownZoneError(f"{zone!r} is no time zone: write one as Europe/Vienna, or UTC") from None
        # Zones differ by quarters of an hour, so a quarter of an hour is in one day.
        self._of_quarter = lru_cache(maxsize=8192)(self._day_of_quarter)

    def until(self, at_ms: int) -> Days:
        """The same days, which end at ``at_ms``."""
        days = copy(self)
        days.end = self.of(at_ms)
        return days

    def of(self, at_ms: int) -> str:
        """The day of a time (epoch milliseconds)."""
        return self._of_quarter(at_ms // (_HOUR_MS // 4))

    def begin_ms(self, day: str) -> int:
        """When ``day`` begins. Raises ValueError."""
        return int(datetime.strptime(day, "%Y-%m-%d").replace(tzinfo=self._zone).timestamp() * 1000)

    def _day_of_quarter(self, quarter: int) -> str:
        at_s = quarter * _HOUR_MS // 4 / 1000
        return datetime.fromtimestamp(at_s, self._zone).strftime("%Y-%m-%d")
