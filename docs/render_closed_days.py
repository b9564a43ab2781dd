"""Writes pipeline/stages/localities/closed_days.py with the ``holidays`` package, which the program itself does not need:

    uv run --isolated --no-project --with holidays==0.109 python docs/render_closed_days.py

Closing days are written down, so that a new release of a package cannot move a value date that was decided. A calendar that
is published is never changed: run this with a new edition, and keep the calendars that are there.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date, timedelta
from pathlib import Path

from holidays import country_holidays, financial_holidays  # type: ignore[import-not-found,unused-ignore]

EDITION = "2026"
YEARS = range(2015, 2036)
TARGET = Path(__file__).resolve().parents[1] / "pipeline" / "stages" / "localities" / "closed_days.py"
SATURDAY = 5

HEAD = '''"""Closing days of settlement systems, written down. Made by ``docs/render_closed_days.py`` with holidays 0.109.

The tests compare it with the rules and lists that the operators publish. Never change a calendar that a rule may name: a
decision of the past would come out differently. A new edition is a new name.

Days after the last published list follow from the law as it is in 2026: a king's funeral or a new holiday is in the next
edition. Saturdays and Sundays are closed everywhere and not listed.
"""

from __future__ import annotations

from datetime import date
from typing import Final


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


_ALL: Final = (
'''
TAIL = """)
#: Every calendar by the name that rules use.
CALENDARS: Final[dict[str, Calendar]] = {calendar.name: calendar for calendar in _ALL}
"""


def easter(year: int) -> date:
    """Easter Sunday: Good Friday of TARGET, two days later."""
    (friday,) = (day for day, name in financial_holidays("ECB", years=year).items() if name == "Good Friday")
    return friday + timedelta(days=2)


def named(country: str, year: int, *categories: str, subdiv: str | None = None) -> Iterator[date]:
    for day, name in country_holidays(country, subdiv=subdiv, years=year, categories=categories or None).items():
        if any("from 2pm" not in part for part in name.split("; ")):  # Half days are open days.
            yield day


def target(year: int) -> Iterator[date]:
    yield from financial_holidays("ECB", years=year)


def england(year: int) -> Iterator[date]:
    yield from named("GB", year, subdiv="ENG")


def fedwire(year: int) -> Iterator[date]:
    yield from financial_holidays("FED", years=year)


def zurich(year: int) -> Iterator[date]:
    sunday = easter(year)
    for month, day in ((1, 1), (1, 2), (5, 1), (8, 1), (12, 25), (12, 26)):
        yield date(year, month, day)
    for days in (-2, 1, 39, 50):  # Good Friday, Easter Monday, Ascension, Whit Monday
        yield sunday + timedelta(days=days)


def japan(year: int) -> Iterator[date]:
    yield from named("JP", year, "public", "bank")


def sweden(year: int) -> Iterator[date]:
    yield from named("SE", year, "public", "bank")


def denmark(year: int) -> Iterator[date]:
    yield from named("DK", year, "public")
    yield easter(year) + timedelta(days=40)  # the day after Ascension
    for month, day in ((6, 5), (12, 24), (12, 31)):
        yield date(year, month, day)


def norway(year: int) -> Iterator[date]:
    yield from named("NO", year)


def poland(year: int) -> Iterator[date]:
    yield from named("PL", year, "public")


def czechia(year: int) -> Iterator[date]:
    yield from named("CZ", year, "public")


def hungary(year: int) -> Iterator[date]:
    yield from named("HU", year, "public")


def romania(year: int) -> Iterator[date]:
    yield from named("RO", year, "public")


CALENDARS = (
    (
        "t2",
        "Europe/Berlin",
        "ECB, T2 closing days: long-term calendar of 14 December 2000, OJ and ecb.europa.eu",
        target,
    ),
    ("chaps", "Europe/London", "Bank holidays of England and Wales: Banking and Financial Dealings Act 1971", england),
    (
        "fedwire",
        "America/New_York",
        "Federal Reserve Banks, holiday schedule (a Saturday's holiday is not moved)",
        fedwire,
    ),
    ("sic", "Europe/Zurich", "SIX Interbank Clearing, bank holidays in Zurich", zurich),
    ("boj", "Asia/Tokyo", "Bank of Japan, holidays: Banking Act, article 15; Enforcement Order, article 5", japan),
    ("rix", "Europe/Stockholm", "Sveriges Riksbank, RIX closing days", sweden),
    ("dk-banks", "Europe/Copenhagen", "Danmarks Nationalbank, bank closing days", denmark),
    ("nbo", "Europe/Oslo", "Norges Bank, NBO: public holidays", norway),
    ("sorbnet", "Europe/Warsaw", "Act on days off of 18 January 1951 (NBP, SORBNET3)", poland),
    ("certis", "Europe/Prague", "Act 245/2000 on public holidays (CNB, CERTIS)", czechia),
    (
        "viber",
        "Europe/Budapest",
        "Labour Code (I of 2012), section 102; Saturdays worked instead stay closed (MNB, VIBER)",
        hungary,
    ),
    ("regis", "Europe/Bucharest", "Labour Code (53/2003), article 139 (BNR, ReGIS)", romania),
)


def render() -> str:
    """The module's whole text."""
    parts = [HEAD]
    for name, zone, source, days_of in CALENDARS:
        parts.append("    Calendar(\n")
        parts.append(f'        "{name}-{EDITION}",\n        "{zone}",\n        "{source}",\n        """\n')
        for year in YEARS:
            days = sorted({day for day in days_of(year) if day.weekday() < SATURDAY and day.year == year})
            parts.append(f"        {year}: {' '.join(f'{day:%m%d}' for day in days)}\n")
        parts.append('        """,\n    ),\n')
    return "".join([*parts, TAIL])


if __name__ == "__main__":
    TARGET.write_text(render(), encoding="utf-8")
