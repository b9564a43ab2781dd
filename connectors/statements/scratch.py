"""Where a statement and our attempts meet: a database on disk that is gone with the process, so memory does not grow with them.

It holds ids, amounts and times, no names.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from itertools import groupby, islice
from types import TracebackType
from typing import Any, Final

import msgspec

from connectors.pic.iso20022.transfers import end_to_end_id
from connectors.statements.lines import Other
from pipeline.stages.reconciliation import Attempt, Finding, Line, MissingHere, Span, judge

#: Pages of it that are kept in memory.
CACHE_KIB: Final = 32 * 1024
#: Rows that are read or written at a time.
ROWS: Final = 1_000

_SCHEMA: Final = """
CREATE TABLE lines (number INTEGER PRIMARY KEY, line BLOB NOT NULL);
CREATE TABLE attempts (number INTEGER PRIMARY KEY, attempt BLOB NOT NULL);
CREATE TABLE names (name TEXT NOT NULL, movement TEXT NOT NULL, amount_minor INTEGER NOT NULL, attempt INTEGER NOT NULL);
CREATE TABLE pairs (attempt INTEGER NOT NULL, line INTEGER NOT NULL);
"""
#: Of several attempts under one name (captures of one payment) the one with the line's amount.
_FIND: Final = "SELECT attempt FROM names WHERE name = ? AND movement = ? ORDER BY amount_minor <> ?, attempt LIMIT 1"
_PAIRED: Final = (
    "SELECT a.number, a.attempt, l.line FROM attempts a LEFT JOIN pairs p ON p.attempt = a.number"
    " LEFT JOIN lines l ON l.number = p.line ORDER BY a.number, p.line"
)


@dataclass(slots=True)
class Counts:
    """What a statement holds."""

    lines: int = 0
    #: About no attempt: fees, payouts, money that comes in.
    others: int = 0
    from_ms: int = 0
    until_ms: int = 0

    def period(self) -> Span | None:
        """From the first time in it to the last; None when it tells no time."""
        return Span(self.from_ms, self.until_ms) if self.until_ms else None


def names_of(attempt: Attempt) -> list[str]:
    """Every name that a line may call it by, as in :attr:`Line.keys`."""
    names = [f"attempt_id={attempt.name}", f"end_to_end_id={end_to_end_id(attempt.name)}"]
    return [*names, f"pic_reference={attempt.pic_reference}"] if attempt.pic_reference else names


class Scratch:
    """First :meth:`take_lines`, then :meth:`take_attempts`, then :meth:`findings`."""

    def __init__(self) -> None:
        # An empty name is SQLite's word for a file of its own, deleted when it is closed.
        self._database = sqlite3.connect("", isolation_level=None)
        for pragma in ("journal_mode = OFF", "synchronous = OFF", f"cache_size = -{CACHE_KIB}", "temp_store = FILE"):
            self._database.execute(f"PRAGMA {pragma}")
        self._database.executescript(_SCHEMA)

    def __enter__(self) -> Scratch:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        with suppress(sqlite3.Error):
            self._database.close()

    def take_lines(self, lines: Iterable[Line | Other]) -> Counts:
        """Keep the lines of a statement."""
        counts = Counts()

        def rows() -> Iterator[tuple[int, bytes]]:
            for line in lines:
                counts.lines += 1
                if line.at is not None:
                    counts.from_ms = min(line.at.from_ms, counts.from_ms or line.at.from_ms)
                    counts.until_ms = max(line.at.until_ms, counts.until_ms)
                if isinstance(line, Other):
                    counts.others += 1
                else:
                    yield counts.lines, _encode(line)

        self._insert("INSERT INTO lines VALUES (?, ?)", rows())
        return counts

    def take_attempts(self, attempts: Iterable[Attempt]) -> int:
        """Keep attempts under all of their names; gives how many they are."""
        number = 0
        named: list[tuple[str, str, int, int]] = []

        def rows() -> Iterator[tuple[int, bytes]]:
            nonlocal number
            for attempt in attempts:
                number += 1
                named.extend((name, attempt.movement, attempt.amount_minor, number) for name in names_of(attempt))
                yield number, _encode(attempt)

        source = rows()
        self._database.execute("BEGIN")
        while some := list(islice(source, ROWS)):
            self._database.executemany("INSERT INTO attempts VALUES (?, ?)", some)
            self._database.executemany("INSERT INTO names VALUES (?, ?, ?, ?)", named)
            named.clear()
        self._database.execute("COMMIT")
        self._database.execute("CREATE INDEX by_name ON names (name, movement)")
        return number

    def findings(self, period: Span) -> Iterator[list[Finding]]:
        """What lines and attempts make together, attempt by attempt; then the lines that name none, in order."""
        yield from self._unknown()
        self._database.execute("CREATE INDEX by_attempt ON pairs (attempt, line)")
        for _, rows in groupby(self._rows(_PAIRED), key=lambda row: row[0]):
            found = [(attempt, line) for _, attempt, line in rows]
            attempt = _decode_attempt(found[0][0])
            lines = [_decode_line(line) for _, line in found if line is not None]
            if made := judge(attempt, lines, period):
                yield made

    def _unknown(self) -> Iterator[list[Finding]]:
        """Pair every line with its attempt; those without one are found here."""
        pairs: list[tuple[int, int]] = []
        for number, content in self._rows("SELECT number, line FROM lines ORDER BY number"):
            line = _decode_line(content)
            attempt = self._find(line)
            if attempt is None:
                yield [MissingHere(line)]
                continue
            pairs.append((attempt, number))
            if len(pairs) >= ROWS:
                self._insert("INSERT INTO pairs VALUES (?, ?)", pairs)
                pairs = []
        self._insert("INSERT INTO pairs VALUES (?, ?)", pairs)

    def _find(self, line: Line) -> int | None:
        for kind, value in line.keys:
            found: tuple[int] | None = self._database.execute(
                _FIND, (f"{kind}={value}", line.movement, line.amount_minor)
            ).fetchone()
            if found is not None:
                return found[0]
        return None

    def _rows(self, sql: str) -> Iterator[tuple[Any, ...]]:
        cursor = self._database.execute(sql)
        while rows := cursor.fetchmany(ROWS):
            yield from rows

    def _insert(self, sql: str, rows: Iterable[tuple[Any, ...]]) -> None:
        self._database.execute("BEGIN")
        self._database.executemany(sql, rows)
        self._database.execute("COMMIT")


_encode = msgspec.msgpack.Encoder().encode
_decode_line = msgspec.msgpack.Decoder(Line).decode
_decode_attempt = msgspec.msgpack.Decoder(Attempt).decode
