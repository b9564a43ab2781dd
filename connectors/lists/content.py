"""What a reader of a list gives: its entries, in an order of their own, and what it could not use."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import date
from typing import Final

from connectors.lists.countries import country_code
from pipeline.stages.watchlist import ListEntry

#: "Circa 1966" may be this many years off, either way; sources do not say how many they mean.
CIRCA_YEARS: Final = 2
_DAY: Final = re.compile(r"\d{4}(-\d\d(-\d\d)?)?", re.ASCII)


@dataclass(frozen=True, slots=True)
class ListContent:
    """One sanctions list, read whole."""

    list: str
    #: By entry id, so that a file in another order is the same list.
    entries: tuple[ListEntry, ...]
    #: When the source made it, epoch milliseconds; None where the file does not say.
    source_at_ms: int | None
    #: Names of countries that are not known, and how often they stand in the list: kept out, never guessed.
    unknown_countries: dict[str, int] = field(default_factory=dict)
    #: Birth dates in no known form: kept out.
    unread_dates: int = 0


class Facts:
    """Collects birth dates and countries of entries, and counts what cannot be used::

    facts = Facts()
    facts.country("7", "Burma")
    facts.birth_date("7", "1966")
    facts.countries("7") == ("MM",)
    """

    def __init__(self) -> None:
        self.unknown_countries: Counter[str] = Counter()
        self.unread_dates = 0
        self._countries: dict[str, set[str]] = {}
        self._dates: dict[str, set[str]] = {}

    def country(self, entry_id: str, name: str) -> None:
        """``name`` is a country by what the list says of it; one that is not known is counted."""
        code = country_code(name)
        if code is None:
            self.unknown_countries[name] += 1
        else:
            self._countries.setdefault(entry_id, set()).add(code)

    def place(self, entry_id: str, text: str) -> None:
        """``text`` is a place, which may or may not end with a country; another end is no mistake of the list."""
        code = country_code(text.rpartition(",")[2])
        if code is not None:
            self._countries.setdefault(entry_id, set()).add(code)

    def birth_date(self, entry_id: str, read: str | None) -> None:
        """A date in the form of ``ListEntry.birth_dates``; None: one that cannot be read."""
        if read is None:
            self.unread_dates += 1
        else:
            self._dates.setdefault(entry_id, set()).add(read)

    def countries(self, entry_id: str) -> tuple[str, ...]:
        """Codes of one entry, sorted."""
        return tuple(sorted(self._countries.get(entry_id, ())))

    def birth_dates(self, entry_id: str) -> tuple[str, ...]:
        """Dates of one entry, sorted."""
        return tuple(sorted(self._dates.get(entry_id, ())))

    def content(self, list_id: str, entries: Iterable[ListEntry], source_at_ms: int | None) -> ListContent:
        """The list with what was counted."""
        in_order = sorted(entries, key=lambda entry: (len(entry.entry_id), entry.entry_id))
        return ListContent(
            list_id, tuple(in_order), source_at_ms, dict(sorted(self.unknown_countries.items())), self.unread_dates
        )


def years(first: int, last: int, *, circa: bool = False) -> str | None:
    """A range of years, or one year, in the form of ``ListEntry.birth_dates``; None when it ends before it begins."""
    if first > last:
        return None
    if circa:
        first, last = first - CIRCA_YEARS, last + CIRCA_YEARS
    return f"{first:04}" if first == last else f"{first:04}/{last:04}"


def day(text: str) -> str | None:
    """``YYYY``, ``YYYY-MM`` or ``YYYY-MM-DD`` as it is; None when it is none of these, or no day of the calendar."""
    if not _DAY.fullmatch(text):
        return None
    try:
        date.fromisoformat(text + "-01-01"[: 10 - len(text)] if len(text) < 10 else text)
    except ValueError:
        return None
    return text
