"""PTRs out of a file of any kind: reading and mapping put together."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, TypeVar

import msgspec

from connectors.files import readers
from connectors.files.mapping import Mapping, Refused, Why
from connectors.files.readers import FileError
from schemas.records import Instrument, Locality, Party, PaymentRequested, Record

T = TypeVar("T", bound=Record)
FORMATS = ("jsonl", "csv", "parquet")
_SUFFIXES = {".jsonl": "jsonl", ".ndjson": "jsonl", ".csv": "csv", ".parquet": "parquet"}

Item = PaymentRequested | Refused


@dataclass(frozen=True, slots=True)
class Items:
    """Consecutive rows of a file: where each is, and the PTR that it became or why it did not."""

    rows: Sequence[int]
    items: Sequence[Item]


def format_of(path: Path) -> str:
    """One of :data:`FORMATS`, from the file's suffix; raises :class:`FileError` for others."""
    try:
        return _SUFFIXES[path.suffix.lower()]
    except KeyError:
        raise FileError(f"{path} does not end in {', '.join(_SUFFIXES)}") from None


def count(path: Path, file_format: str) -> int | None:
    """How many rows the file has, where that is known without reading it."""
    return readers.parquet_rows(path) if file_format == "parquet" else None


def read(
    path: Path, file_format: str, mapping: Mapping | None, *, offset: int = 0, limit: int | None = None
) -> Iterator[Items]:
    """The rows of ``path`` after the first ``offset`` and at most ``limit``, in order.

    Without a mapping the file must be JSON Lines of PTRs, in the shape of ``payment_requested.avsc``. Raises
    :class:`FileError` when the file cannot be read at all.
    """
    try:
        if mapping is None:
            if file_format != "jsonl":
                raise FileError(f"a {file_format} file needs a mapping of its columns")
            yield from _requests(path, offset, limit)
            return
        columns = {
            "jsonl": readers.json_columns,
            "csv": readers.csv_columns,
            "parquet": readers.parquet_columns,
        }[file_format]
        for batch in columns(path, mapping.columns, offset, limit):
            items: list[Item] = list(mapping.requests(batch.rows, batch.columns))
            if batch.refused:
                rows = [*batch.rows, *(refused.row for refused in batch.refused)]
                in_order = sorted(zip(rows, [*items, *batch.refused], strict=True), key=lambda pair: pair[0])
                yield Items([row for row, _ in in_order], [item for _, item in in_order])
            else:
                yield Items(batch.rows, items)
    except OSError as error:
        raise FileError(f"{path} cannot be read: {error.strerror or error}") from None


# The same records, but what they do not know is a mistake: a misspelt optional field would be lost without a word.
class _Party(Party, frozen=True, kw_only=True, forbid_unknown_fields=True):
    pass


class _Instrument(Instrument, frozen=True, kw_only=True, forbid_unknown_fields=True):
    pass


class _Locality(Locality, frozen=True, kw_only=True, forbid_unknown_fields=True):
    pass


class _Request(PaymentRequested, frozen=True, kw_only=True, forbid_unknown_fields=True):
    debtor: _Party
    creditor: _Party
    instrument: _Instrument
    locality: _Locality


def _requests(path: Path, offset: int, limit: int | None) -> Iterator[Items]:
    with path.open("rb") as file:
        rows: list[int] = []
        items: list[Item] = []
        for number, item in json_records(file, _Request, offset, limit):
            rows.append(number)
            items.append(item)
            if len(rows) >= readers.ROWS_PER_BATCH:
                yield Items(rows, items)
                rows, items = [], []
        if rows:
            yield Items(rows, items)


def json_records(
    file: BinaryIO, record: type[T], offset: int = 0, limit: int | None = None
) -> Iterator[tuple[int, T | Refused]]:
    """Each line of a JSON Lines file that is not blank: its number, and the ``record`` in it or why there is none."""
    decode = msgspec.json.Decoder(record).decode
    for number, line in readers.lines(file, offset, limit):
        yield number, line if isinstance(line, Refused) else _decode(decode, number, line)


_AT = re.compile(r" - at `\$\.?([^`]*)`\Z")
_NAMED = re.compile(r"missing required field `([^`]*)`")


def _decode(decode: Callable[[bytes], T], number: int, line: bytes) -> T | Refused:
    try:
        return decode(line)
    except msgspec.ValidationError as error:
        return _refusal(number, str(error))
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return Refused(number, "", Why.NOT_JSON)


def _refusal(number: int, text: str) -> Refused:
    """Where and why, from msgspec's text. Names that only the file knows are left out: they are content."""
    at = _AT.search(text)
    where = at[1] if at else ""
    if missing := _NAMED.search(text):
        return Refused(number, f"{where}.{missing[1]}".lstrip("."), Why.MISSING)
    if "unknown field" in text:
        return Refused(number, where, Why.UNKNOWN_FIELD)
    return Refused(number, where, Why.WRONG_TYPE)
