"""The United Nations Security Council consolidated list: the XML file as published (schema ``sc-sanctions.xsd``)."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from connectors.lists.content import Facts, ListContent, day, years
from connectors.lists.errors import ListError
from connectors.lists.un_file import Entry, read_file
from pipeline.stages.watchlist import ListEntry

LIST: Final = "un"
_NAME_PARTS: Final = ("FIRST_NAME", "SECOND_NAME", "THIRD_NAME", "FOURTH_NAME")
_NUMBER: Final = "REFERENCE_NUMBER"
_WEAK_QUALITY: Final = "Low"
#: Said where a country is not known: nothing that could be looked up.
_NO_COUNTRY: Final = frozenset({"", "na"})

# One alias field may hold several names and remarks: "A; B", "a) A b) B", "A (birth name)", "A, born 1 Jan. 1953".
_BETWEEN_NAMES: Final = re.compile(r";|\b[a-z]\)")
_IN_BRACKETS: Final = re.compile(r"\(([^()]*)\)?")
_REMARK: Final = re.compile(r",? born .*", re.DOTALL)


def load(file: str | Path) -> list[ListEntry]:
    """The entries of :func:`read`."""
    return list(read(file).entries)


def read(file: str | Path) -> ListContent:
    """The list in ``file``; ``entry_id`` is the UN's reference.

    Names are aliases and original scripts too, those of quality "Low" weak. Countries are those of nationality, birth
    and addresses. Raises :class:`ListError`, naming file and line, when the file is missing, cut off or not of this
    format.
    """
    file = Path(file)
    found = read_file(file)
    facts = Facts()
    entries: dict[str, ListEntry] = {}
    for raw in found.entries:
        entry = _entry(file, raw, facts)
        if entry.entry_id in entries:
            raise ListError(file, raw.line, "the same reference number twice")
        entries[entry.entry_id] = entry
    return facts.content(LIST, entries.values(), _made_at_ms(file, found.made_at))


def _entry(file: Path, raw: Entry, facts: Facts) -> ListEntry:
    numbers = [number for number in raw.texts(_NUMBER) if number]
    if len(numbers) != 1:
        raise ListError(file, raw.line, f"an entry with {len(numbers)} reference numbers instead of one")
    (number,) = numbers
    names = list(_names_in(" ".join(part for tag in _NAME_PARTS for part in raw.texts(tag) if part)))
    weak_names: list[str] = []
    for alias in raw.groups("INDIVIDUAL_ALIAS", "ENTITY_ALIAS"):
        (weak_names if alias.get("QUALITY") == _WEAK_QUALITY else names).extend(_names_in(alias.get("ALIAS_NAME", "")))
        if text := alias.get("DATE_OF_BIRTH", ""):
            facts.birth_date(number, day(text))
    for text in raw.texts("NAME_ORIGINAL_SCRIPT"):
        names += _names_in(text)
    if not names:
        raise ListError(file, raw.line, "an entry without a name")
    for born in raw.groups("INDIVIDUAL_DATE_OF_BIRTH"):
        if any(born.get(tag) for tag in ("DATE", "YEAR", "FROM_YEAR", "TO_YEAR")):
            facts.birth_date(number, _birth_date(born))
    for nationality in raw.values("NATIONALITY", "VALUE"):
        if nationality not in _NO_COUNTRY:
            facts.country(number, nationality)
    for tag in ("INDIVIDUAL_ADDRESS", "ENTITY_ADDRESS", "INDIVIDUAL_PLACE_OF_BIRTH"):
        for country in raw.values(tag, "COUNTRY"):
            if country not in _NO_COUNTRY:
                facts.country(number, country)
    return ListEntry(
        list=LIST,
        entry_id=number,
        kind=raw.kind,
        names=tuple(dict.fromkeys(names)),
        weak_names=tuple(name for name in dict.fromkeys(weak_names) if name not in names),
        birth_dates=facts.birth_dates(number),
        countries=facts.countries(number),
    )


def _birth_date(born: dict[str, str]) -> str | None:
    circa = born.get("TYPE_OF_DATE") == "APPROXIMATELY"
    exact = day(born.get("DATE") or born.get("YEAR") or "")
    if exact is not None:
        return years(int(exact[:4]), int(exact[:4]), circa=True) if circa else exact
    first, last = (born.get(tag, "") for tag in ("FROM_YEAR", "TO_YEAR"))
    return years(int(first), int(last), circa=circa) if day(first) and day(last) and len(first + last) == 8 else None


def _made_at_ms(file: Path, text: str) -> int | None:
    """The attribute ``dateGenerated`` of the root; None when there is none."""
    if not text:
        return None
    try:
        made_at = datetime.fromisoformat(text)
    except ValueError as error:
        raise ListError(file, 0, "dateGenerated is not a time") from error
    return int((made_at if made_at.tzinfo else made_at.replace(tzinfo=UTC)).timestamp() * 1000)


def _names_in(text: str) -> Iterator[str]:
    """The names in one field; what stands in brackets is one only when it is the name in another script."""
    for part in _BETWEEN_NAMES.split(_IN_BRACKETS.sub(" ", text)):
        name = " ".join(_REMARK.sub("", part).split())
        if name:
            yield name
    for found in _IN_BRACKETS.finditer(text):
        if not found[1].isascii() and any(character > "\u024f" for character in found[1]):
            yield found[1].strip()
