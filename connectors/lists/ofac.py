"""OFAC's Specially Designated Nationals list (US Treasury): ``sdn.csv``, ``alt.csv`` and ``add.csv`` as published.

The format (OFAC, "SDN data formats"): comma-separated without a header, CRLF, text in quotes, ``-0-`` (with a space)
for an empty field, and a Ctrl-Z alone as the last line. The three files in one folder, of the same day. What has no
column of its own stands in the remarks (connectors/lists/ofac_remarks.py).
"""

from __future__ import annotations

import csv
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from connectors.lists.content import Facts, ListContent
from connectors.lists.errors import ListError
from connectors.lists.ofac_remarks import read_remarks
from pipeline.stages.memory import no_collections
from pipeline.stages.watchlist import ListEntry

LIST: Final = "ofac"
FILES: Final = ("sdn.csv", "alt.csv", "add.csv")
_COLUMNS: Final = {"sdn.csv": 12, "alt.csv": 5, "add.csv": 6}
#: The field that a row is nothing without.
_NEEDED: Final = {"sdn.csv": (1, "an entity"), "alt.csv": (3, "an alias")}
_FLAG: Final = 9
_EMPTY: Final = "-0-"
_END: Final = "\x1a"
_KINDS: Final = {
    "individual": "person",
    "vessel": "vessel",
    "aircraft": "aircraft",
    _EMPTY: "organisation",  # OFAC: "entity" is the default and not written.
}
_ALIAS_KINDS: Final = {"aka", "fka", "nka"}
#: Said where a country is not known: nothing that could be looked up.
_NO_COUNTRY: Final = frozenset({"", _EMPTY, "undetermined", "None Identified"})


def load(folder: str | Path) -> list[ListEntry]:
    """The entries of :func:`read`."""
    return list(read(folder).entries)


@no_collections()
def read(folder: str | Path) -> ListContent:
    """The list in ``folder``; ``entry_id`` is OFAC's ``ent_num``. The files do not say of which day they are.

    Weak aliases are those that the remarks name ("a.k.a. 'BNC'"): OFAC keeps them there, apart from ``alt.csv``.
    Countries are those of nationality, citizenship, birth, address and flag; former flags do not count.
    Raises :class:`ListError`, naming file and line, when a file is missing, cut off or not of this format.
    """
    sdn, alt, add = (Path(folder) / name for name in FILES)
    facts = Facts()
    kinds: dict[str, str] = {}
    names: dict[str, list[str]] = {}
    weak_names: dict[str, list[str]] = {}
    for line, row in _rows(sdn):
        number, name, kind, remarks = row[0], row[1], row[2], row[-1]
        if number in names:
            raise ListError(sdn, line, "the same entity number twice")
        if kind not in _KINDS:
            raise ListError(sdn, line, "the type is none of individual, vessel, aircraft or -0-")
        names[number], kinds[number] = [name], _KINDS[kind]
        weak_names[number] = [] if remarks == _EMPTY else read_remarks(number, remarks, facts)
        if row[_FLAG] not in _NO_COUNTRY:
            facts.country(number, row[_FLAG])
    for line, (number, _, alias_kind, name, remarks) in _rows(alt):
        if number not in names:
            raise ListError(alt, line, "an alias of an entity that sdn.csv does not have (files of different days?)")
        if alias_kind not in _ALIAS_KINDS:
            raise ListError(alt, line, "the kind of alias is none of aka, fka, nka")
        (weak_names if "weak" in remarks.casefold() else names)[number].append(name)
    for line, (number, _, _, _, country, _) in _rows(add):
        if number not in names:
            raise ListError(add, line, "an address of an entity that sdn.csv does not have (files of different days?)")
        if country not in _NO_COUNTRY:
            facts.country(number, country)
    entries = (
        ListEntry(
            list=LIST,
            entry_id=number,
            kind=kinds[number],
            names=tuple(dict.fromkeys(strong)),
            weak_names=tuple(name for name in dict.fromkeys(weak_names[number]) if name not in strong),
            birth_dates=facts.birth_dates(number),
            countries=facts.countries(number),
        )
        for number, strong in names.items()
    )
    return facts.content(LIST, entries, source_at_ms=None)


def _rows(file: Path) -> Iterator[tuple[int, list[str]]]:
    """The rows of ``file`` with their line numbers, fields stripped. A file without Ctrl-Z at its end was cut off."""
    columns = _COLUMNS[file.name]
    needed, what = _NEEDED.get(file.name, (0, ""))
    line = 0
    try:
        with file.open(encoding="utf-8", newline="") as stream:
            reader = csv.reader(stream, strict=True)
            ended = False
            for row in reader:
                line = reader.line_num
                if ended:
                    raise ListError(file, line, "something follows the Ctrl-Z that ends the list")
                if row == [_END]:
                    ended = True
                    continue
                if len(row) != columns:
                    raise ListError(file, line, f"{len(row)} fields instead of {columns}")
                fields = list(map(str.strip, row))
                if not (fields[0].isascii() and fields[0].isdecimal()):
                    raise ListError(file, line, "the entity number is not a number")
                if fields[needed] in ("", _EMPTY):
                    raise ListError(file, line, f"{what} without a name")
                yield line, fields
    except OSError as error:
        raise ListError(file, 0, f"cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise ListError(file, line + 1, "not UTF-8") from error
    except csv.Error as error:
        raise ListError(file, line + 1, f"not CSV: {error}") from error
    if not ended:
        raise ListError(file, line, "the list is cut off: it does not end with Ctrl-Z")
    if line <= 1:
        raise ListError(file, line, "the list is empty")
