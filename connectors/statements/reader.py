"""A statement of any kind as lines: which kind it is, is seen from its beginning."""

from __future__ import annotations

from pathlib import Path
from typing import BinaryIO, Final, Literal, TypeAlias

from connectors.statements import camt, stripe, table
from connectors.statements.lines import Lines, StatementError

Format: TypeAlias = Literal["auto", "camt", "stripe", "csv"]
FORMATS: Final[tuple[Format, ...]] = ("auto", "camt", "stripe", "csv")


def read(path: Path, kind: Format, rules: table.Table | None) -> Lines:
    """The lines of ``path``, with ``rules`` for the columns of a CSV file that is not Stripe's.

    Raises :class:`StatementError`, also after lines were given: then none counts.
    """
    try:
        with path.open("rb") as file:
            yield from _lines(file, kind, rules)
    except OSError as error:
        raise StatementError("", f"it cannot be read: {error.strerror}") from None


def _lines(file: BinaryIO, kind: Format, rules: table.Table | None) -> Lines:
    beginning = file.read(64)
    file.seek(0)
    if rules is not None:
        return table.read(file, rules)
    if kind == "camt" or (kind == "auto" and beginning.removeprefix(b"\xef\xbb\xbf").lstrip()[:1] == b"<"):
        return camt.read(file)
    found = stripe.table_of(table.header_of(file))
    file.seek(0)
    if found is None:
        raise StatementError(
            "line 1",
            "neither XML nor one of Stripe's balance files, the report and the export: name the columns with --map",
        )
    return table.read(file, found)
