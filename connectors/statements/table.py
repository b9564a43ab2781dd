"""A payment service provider's balance file: CSV with a header line, by rules that say which column is what.

``FIELD=COLUMN`` names a column; ``FIELD:=TEXT`` is a constant. Fields:

=================== ==========================================================================================
``attempt_id``      our idempotency key, as the provider gives it back; may be given twice, the surer column first
``end_to_end_id``   the bank's name of it
``pic_reference``   the provider's own id
``amount``          in the currency's major unit (12.34); or ``amount_minor``, a whole number
``currency``        ISO 4217, in any case
``kind``            what a line is, in the words of :class:`Words`; without it a negative amount is a refund
``at``              when it happened
=================== ==========================================================================================
"""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import BinaryIO, Final, TypeAlias

from connectors.statements.lines import AMOUNT_MINOR_MAX, LINE_BYTES_MAX, Lines, Other, StatementError, span_of
from pipeline.stages.reconciliation import KEYS, Line, Movement, Says, Span
from schemas.money import MINOR_UNITS

FIELDS: Final = (*KEYS, "amount", "amount_minor", "currency", "kind", "at")
#: What the words of a ``kind`` column may mean.
MEANINGS: Final[dict[str, tuple[Movement, Says]]] = {
    "payment": ("payment", "paid"),
    "refund": ("refund", "paid"),
    "returned": ("payment", "returned"),
    "refund_returned": ("refund", "returned"),
    "correction": ("payment", "correction"),
    "declined": ("payment", "declined"),
    "pending": ("payment", "pending"),
}
#: More columns than any export has.
COLUMNS_MAX: Final = 1_000
_AMOUNT: Final = re.compile(r"[+-]?[0-9]{1,18}(?:\.[0-9]{1,18})?\Z")
_WHOLE: Final = re.compile(r"[+-]?[0-9]{1,18}\Z")


class RuleError(ValueError):
    """A rule is wrong, or one is lacking; the text names it."""


@dataclass(frozen=True, slots=True)
class Rule:
    """Where a field's value comes from: a column, or a constant."""

    field: str
    column: str = ""
    constant: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """How to read the files of one provider."""

    rules: tuple[Rule, ...]
    #: From a word of the ``kind`` column, in lower case, to one of :data:`MEANINGS`; other words are about no attempt.
    words: Mapping[str, str] = field(default_factory=dict)
    #: By meaning: rules that take the place of those of the same fields.
    instead: Mapping[str, tuple[Rule, ...]] = field(default_factory=dict)
    #: Columns that may be absent.
    optional: frozenset[str] = frozenset()

    def columns(self) -> list[str]:
        """The columns that it reads."""
        rules = [*self.rules, *(rule for some in self.instead.values() for rule in some)]
        return list(dict.fromkeys(rule.column for rule in rules if rule.column))


def parse_rule(text: str) -> Rule:
    """``FIELD=COLUMN`` or ``FIELD:=TEXT``. Raises :class:`RuleError`."""
    name, sign, source = text.partition("=")
    is_constant = name.endswith(":")
    name = name.removesuffix(":").strip()
    if not sign or not source:
        raise RuleError(f"{text!r} is no rule: write FIELD=COLUMN, or FIELD:=TEXT for a constant")
    if name not in FIELDS:
        raise RuleError(f"{text!r}: a line has no field {name}; it has {', '.join(FIELDS)}")
    return Rule(name, constant=source) if is_constant else Rule(name, source)


def parse_word(text: str) -> tuple[str, str]:
    """``WORD=MEANING``, of a ``kind`` column. Raises :class:`RuleError`."""
    word, _, meaning = text.rpartition("=")
    if not word or meaning not in MEANINGS:
        raise RuleError(f"{text!r} is no meaning: write WORD=MEANING with one of {', '.join(MEANINGS)}")
    return word.strip().lower(), meaning


def table_of(rules: Sequence[str], words: Sequence[str]) -> Table:
    """A table by rules as a person writes them. Raises :class:`RuleError`."""
    parsed = tuple(map(parse_rule, rules))
    named = {rule.field for rule in parsed}
    if named.isdisjoint(KEYS):
        raise RuleError(f"no rule names an attempt: give one of {', '.join(KEYS)}")
    if len(named & {"amount", "amount_minor"}) != 1 or "currency" not in named:
        raise RuleError("give rules for currency, and for either amount or amount_minor")
    if words and "kind" not in named:
        raise RuleError("words are of a kind column: give a rule for kind")
    return Table(rules=parsed, words=dict(map(parse_word, words)) or {each: each for each in MEANINGS})


def read(file: BinaryIO, table: Table) -> Lines:
    """Lines of a CSV file (RFC 4180, UTF-8). Raises :class:`StatementError`, also after lines were given: then none counts."""
    reader = csv.reader(source := _Rows(file), strict=True)
    header = _next(reader, source)
    if header is None:
        raise StatementError("", "the file is empty")
    at = _places(header, table)
    row_of = _Lines(table, at)
    while True:
        source.begin()
        number = reader.line_num + 1
        row = _next(reader, source)
        if row is None:
            return
        if not row:
            continue
        if len(row) != len(header):
            raise StatementError(f"line {number}", f"{len(row)} columns where the header has {len(header)}")
        yield row_of(number, row)


def header_of(file: BinaryIO) -> list[str]:
    """The names in the header line. Raises :class:`StatementError`."""
    reader = csv.reader(source := _Rows(file), strict=True)
    return _next(reader, source) or []


def _next(reader: Iterator[list[str]], source: _Rows) -> list[str] | None:
    try:
        return next(reader, None)
    except csv.Error:
        raise StatementError(
            f"line {source.number}", "not CSV: a quote that is not closed, or a field too long"
        ) from None


class _Rows:
    """Lines of text, with a limit on what one row may take."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._taken = 0
        self.number = 0

    def begin(self) -> None:
        """A row begins."""
        self._taken = 0

    def __iter__(self) -> _Rows:
        return self

    def __next__(self) -> str:
        line = self._file.readline(LINE_BYTES_MAX + 1)
        if not line:
            raise StopIteration
        self.number += 1
        self._taken += len(line)
        if self._taken > LINE_BYTES_MAX:
            raise StatementError(f"line {self.number}", f"a row of more than {LINE_BYTES_MAX} bytes")
        try:
            text = line.decode("utf-8-sig" if self.number == 1 else "utf-8")
        except UnicodeDecodeError:
            raise StatementError(f"line {self.number}", "not UTF-8") from None
        if "\0" in text:
            raise StatementError(f"line {self.number}", "a NUL, which no text has")
        return text


def _places(header: list[str], table: Table) -> dict[str, int]:
    if len(header) > COLUMNS_MAX:
        raise StatementError("line 1", f"more than {COLUMNS_MAX} columns")
    wanted = table.columns()
    if lacking := [name for name in wanted if name not in header and name not in table.optional]:
        raise StatementError("line 1", f"no column {', '.join(lacking)}")
    if twice := [name for name in wanted if header.count(name) > 1]:
        raise StatementError("line 1", f"more than one column {', '.join(twice)}")
    return {name: header.index(name) for name in wanted if name in header}


#: By field, those of one field in their order.
_Rules: TypeAlias = Mapping[str, Sequence[Rule]]


def _minor(text: str, currency: str, where: str, *, is_whole: bool) -> int:
    units = MINOR_UNITS.get(currency)
    if units is None:
        raise StatementError(where, "a currency that is none of ISO 4217")
    if is_whole:
        if not _WHOLE.match(text):
            raise StatementError(where, "an amount that is no whole number of minor units")
        return _fits(int(text), where)
    if not _AMOUNT.match(text):
        raise StatementError(where, "an amount that is no number such as 12.34")
    minor = Decimal(text).scaleb(units)
    if minor != int(minor):
        raise StatementError(where, "an amount with more decimals than its currency has")
    return _fits(int(minor), where)


def _fits(amount_minor: int, where: str) -> int:
    if abs(amount_minor) > AMOUNT_MINOR_MAX:
        raise StatementError(where, "an amount that is too large")
    return amount_minor


class _Lines:
    """Makes lines of rows."""

    def __init__(self, table: Table, at: Mapping[str, int]) -> None:
        self._table = table
        self._at = at
        self._kind = next((rule for rule in table.rules if rule.field == "kind"), None)
        #: By meaning ("" without a kind column): the rules of each field.
        self._rules = {meaning: self._by_field(table.instead.get(meaning, ())) for meaning in ("", *MEANINGS)}

    def __call__(self, number: int, row: list[str]) -> Line | Other:
        meaning = ""
        if self._kind is not None:
            word = self._value(self._kind, row).lower()
            meaning = self._table.words.get(word, "")
            if not meaning:
                return Other(number, self._span(number, self._rules[""], row))
        rules = self._rules[meaning]
        currency, amount_minor = self._money(rules, row, f"line {number}")
        movement, says = MEANINGS[meaning or ("refund" if amount_minor < 0 else "payment")]
        keys = [(name, value) for name in KEYS for rule in rules.get(name, ()) if (value := self._value(rule, row))]
        return Line(
            row=number,
            movement=movement,
            says=says,
            amount_minor=amount_minor if says == "correction" else abs(amount_minor),
            currency=currency,
            keys=tuple(keys),
            at=self._span(number, rules, row),
        )

    def _money(self, rules: _Rules, row: list[str], where: str) -> tuple[str, int]:
        """The first amount that is given, in the currency whose rule has the same place."""
        for name in ("amount_minor", "amount"):
            for place, rule in enumerate(rules.get(name, ())):
                if text := self._value(rule, row):
                    currencies = rules["currency"]
                    currency = self._value(currencies[min(place, len(currencies) - 1)], row).upper()
                    return currency, _minor(text, currency, where, is_whole=name == "amount_minor")
        raise StatementError(where, "no amount")

    def _span(self, number: int, rules: _Rules, row: list[str]) -> Span | None:
        text = self._first(rules.get("at", ()), row)
        span = span_of(text) if text else None
        if text and span is None:
            raise StatementError(f"line {number}", "a time that is none")
        return span

    def _first(self, rules: Sequence[Rule], row: list[str]) -> str:
        """The first of the rules' values that is not empty."""
        return next((value for rule in rules if (value := self._value(rule, row))), "")

    def _value(self, rule: Rule, row: list[str]) -> str:
        if not rule.column:
            return rule.constant
        at = self._at.get(rule.column)
        return "" if at is None else row[at].strip()

    def _by_field(self, instead: Sequence[Rule]) -> _Rules:
        replaced = {rule.field for rule in instead}
        rules: dict[str, list[Rule]] = {}
        for rule in (*instead, *(rule for rule in self._table.rules if rule.field not in replaced)):
            rules.setdefault(rule.field, []).append(rule)
        return rules
