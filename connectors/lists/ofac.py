"""OFAC's Specially Designated Nationals list (US Treasury): ``sdn.csv`` and ``alt.csv`` as published.

The format (OFAC, "SDN data formats"): comma-separated without a header, CRLF, text in quotes, ``-0-`` (with a space)
for an empty field, and a Ctrl-Z alone as the last line. Both files in one folder, of the same day.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from connectors.lists.errors import ListError
from pipeline.stages.screening import ListEntry

LIST: Final = "ofac"
_SDN_COLUMNS: Final = 12
_ALT_COLUMNS: Final = 5
_EMPTY: Final = "-0-"
_END: Final = "\x1a"
_KINDS: Final = {
    "individual": "person",
    "vessel": "vessel",
    "aircraft": "aircraft",
    _EMPTY: "organisation",  # OFAC: "entity" is the default and not written.
}
_ALIAS_KINDS: Final = {"aka", "fka", "nka"}


def load(folder: str | Path) -> list[ListEntry]:
    """The entries of the list in ``folder``, each with its aliases; ``entry_id`` is OFAC's ``ent_num``.

    Raises :class:`ListError`, naming file and line, when a file is missing, cut off or not of this format.
    """
    sdn, alt = Path(folder) / "sdn.csv", Path(folder) / "alt.csv"
    names: dict[str, list[str]] = {}
    kinds: dict[str, str] = {}
    for line, (number, name, kind, *_) in _rows(sdn, _SDN_COLUMNS):
        if number in names:
            raise ListError(sdn, line, "the same entity number twice")
        if kind not in _KINDS:
            raise ListError(sdn, line, "the type is none of individual, vessel, aircraft or -0-")
        names[number] = [name]
        kinds[number] = _KINDS[kind]
    for line, (number, _, alias_kind, name, _) in _rows(alt, _ALT_COLUMNS):
        if number not in names:
            raise ListError(
                alt, line, f"an alias of an entity that {sdn.name} does not have (files of different days?)"
            )
        if alias_kind not in _ALIAS_KINDS:
            raise ListError(alt, line, "the kind of alias is none of aka, fka, nka")
        names[number].append(name)
    return [
        ListEntry(list=LIST, entry_id=number, kind=kinds[number], names=tuple(dict.fromkeys(found)))
        for number, found in names.items()
    ]


def _rows(file: Path, columns: int) -> Iterator[tuple[int, list[str]]]:
    """The rows of ``file`` with their line numbers, fields stripped. A file without Ctrl-Z at its end was cut off."""
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
                fields = [field.strip() for field in row]
                if not (fields[0].isascii() and fields[0].isdecimal()):
                    raise ListError(file, line, "the entity number is not a number")
                if columns == _SDN_COLUMNS and fields[1] in ("", _EMPTY):
                    raise ListError(file, line, "an entity without a name")
                if columns == _ALT_COLUMNS and fields[3] in ("", _EMPTY):
                    raise ListError(file, line, "an alias without a name")
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
