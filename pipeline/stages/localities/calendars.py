"""A settlement system's calendar: on which days payments are settled. Which days those are: closed_days.py."""

from __future__ import annotations

from datetime import date


class Calendar:
    """When one settlement system is open: on days from Monday to Friday in its years, but for its closing days."""

    __slots__ = ("_closed", "first_year", "last_year", "name", "source", "zone")

    def __init__(self, name: str, zone: str, source: str, days: str) -> None:
        """``days``: a line per year, ``2026: 0101 0403``."""
        self.name = name
        #: IANA name of the time zone in which its days and cut-offs are.
        self.zone = zone
        self.source = source
        closed: set[date] = set()
        years: list[int] = []
        for line in days.strip().splitlines():
            year, _, months = line.strip().partition(":")
            years.append(int(year))
            closed.update(date.fromisoformat(f"{year}{day}") for day in months.split())
        self.first_year, self.last_year = min(years), max(years)
        self._closed = frozenset(closed)

    def knows(self, day: date) -> bool:
        """Whether ``day`` is in its years."""
        return self.first_year <= day.year <= self.last_year

    def is_open(self, day: date) -> bool:
        """Whether payments are settled on ``day``."""
        return day.weekday() < 5 and day not in self._closed

    def closed_in(self, year: int) -> list[date]:
        """Its closing days of ``year`` from Monday to Friday, in order."""
        return sorted(day for day in self._closed if day.year == year)
