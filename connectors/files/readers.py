"""Rows of JSON Lines, CSV and Parquet files, in batches: memory stays flat however large the file is.

A row that cannot be read is refused and the rest goes on. Rows are counted from 1: lines of text files, rows
of Parquet.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Any, BinaryIO

import msgspec

from connectors.files.mapping import Columns, Refused, Why

ROWS_PER_BATCH = 5_000
#: A PTR has some hundred bytes, and a table's row not many more; a longer line is no line.
LINE_BYTES_MAX = 1 << 20


class FileError(ValueError):
    """The file cannot be read as what it should be; the text says why."""


@dataclass(slots=True)
class Batch:
    """Consecutive rows, by column. ``rows`` says where each is in its file; ``refused`` are not among them."""

    rows: Sequence[int]
    columns: Columns
    refused: list[Refused] = field(default_factory=list)


def _check_columns(path: Path, wanted: Sequence[str], there: Sequence[str]) -> None:
    if lacking := [name for name in wanted if name not in there]:
        raise FileError(f"{path} has no column {', '.join(lacking)}; it has {', '.join(map(str, there))}")
    if twice := [name for name in wanted if list(there).count(name) > 1]:
        raise FileError(f"{path} has more than one column {', '.join(twice)}")


def lines(file: BinaryIO, offset: int, limit: int | None) -> Iterator[tuple[int, bytes | Refused]]:
    """Lines that are not blank, with their number, after the first ``offset`` of them and at most ``limit``."""
    number = taken = 0
    while limit is None or taken < offset + limit:
        line = file.readline(LINE_BYTES_MAX)
        if not line:
            return
        number += 1
        is_too_long = len(line) == LINE_BYTES_MAX and not line.endswith(b"\n")
        while is_too_long and (more := file.readline(LINE_BYTES_MAX)):
            if more.endswith(b"\n"):
                break
        if not line.strip():
            continue
        taken += 1
        if taken > offset:
            yield number, Refused(number, "", Why.LINE_TOO_LONG) if is_too_long else line


def json_columns(path: Path, wanted: Sequence[str], offset: int = 0, limit: int | None = None) -> Iterator[Batch]:
    """Objects of a JSON Lines file as columns. A name with dots reaches into objects; what is absent is None."""
    decoder = msgspec.json.Decoder(dict[str, Any], float_hook=_decimal)
    ways = [name.split(".") for name in wanted]
    with path.open("rb") as file:
        numbers: list[int] = []
        objects: list[dict[str, Any]] = []
        refused: list[Refused] = []
        for number, line in lines(file, offset, limit):
            if isinstance(line, Refused):
                refused.append(line)
            else:
                try:
                    objects.append(decoder.decode(line))
                    numbers.append(number)
                except (msgspec.DecodeError, UnicodeDecodeError, InvalidOperation, RecursionError):
                    refused.append(Refused(number, "", Why.NOT_JSON))
            if len(numbers) + len(refused) >= ROWS_PER_BATCH:
                yield Batch(numbers, _by_column(objects, wanted, ways), refused)
                numbers, objects, refused = [], [], []
        if numbers or refused:
            yield Batch(numbers, _by_column(objects, wanted, ways), refused)


def _decimal(text: str) -> Decimal:
    return Decimal(text)


def _by_column(objects: list[dict[str, Any]], names: Sequence[str], ways: list[list[str]]) -> Columns:
    return {
        name: [o[name] if name in o else _reach(o, way) for o in objects] for name, way in zip(names, ways, strict=True)
    }


def _reach(value: Any, way: list[str]) -> Any:
    for name in way:
        if not isinstance(value, dict):
            return None
        value = value.get(name)
    return value


def csv_columns(path: Path, wanted: Sequence[str], offset: int = 0, limit: int | None = None) -> Iterator[Batch]:
    """Rows of a CSV file (RFC 4180: commas, double quotes, UTF-8) with a header line, as columns of text."""
    # Bytes that are not UTF-8 become stand-ins, which the mapping refuses in the field where they are.
    with path.open(encoding="utf-8-sig", errors="surrogateescape", newline="") as file:
        reader = csv.reader(file)
        try:
            header = next(reader, [])
        except csv.Error as error:
            raise FileError(f"{path} has no header line: {error}") from None
        _check_columns(path, wanted, header)
        at = [(name, header.index(name)) for name in wanted]
        numbers: list[int] = []
        cells: list[list[str]] = []
        refused: list[Refused] = []
        for number, row in _csv_rows(reader, offset, limit):
            if isinstance(row, Refused):
                refused.append(row)
            elif len(row) != len(header):
                refused.append(Refused(number, "", Why.WRONG_COLUMNS))
            else:
                numbers.append(number)
                cells.append(row)
            if len(numbers) + len(refused) >= ROWS_PER_BATCH:
                yield Batch(numbers, {name: [row[i] for row in cells] for name, i in at}, refused)
                numbers, cells, refused = [], [], []
        if numbers or refused:
            yield Batch(numbers, {name: [row[i] for row in cells] for name, i in at}, refused)


def _csv_rows(reader: Any, offset: int, limit: int | None) -> Iterator[tuple[int, list[str] | Refused]]:
    """Rows that are not blank, with the line on which each begins."""
    taken = 0
    while limit is None or taken < offset + limit:
        number = reader.line_num + 1
        row: list[str] | Refused
        try:
            row = next(reader)
        except StopIteration:
            return
        except csv.Error:
            row = Refused(number, "", Why.NOT_CSV)
        if row == []:
            continue
        taken += 1
        if taken > offset:
            yield number, row


def parquet_rows(path: Path) -> int:
    """How many rows a Parquet file has, from its footer."""
    return int(_open_parquet(path).metadata.num_rows)


def _open_parquet(path: Path) -> Any:
    from pyarrow import ArrowException, parquet

    try:
        # Without pre-buffering a row group is read in pages and not as a whole.
        return parquet.ParquetFile(path, pre_buffer=False, buffer_size=1 << 16)
    except ArrowException as error:
        raise FileError(f"{path} is not a Parquet file: {error}") from None


def parquet_columns(path: Path, wanted: Sequence[str], offset: int = 0, limit: int | None = None) -> Iterator[Batch]:
    """Rows of a Parquet file as columns of Python values; times of day and dates come as epoch milliseconds."""
    import pyarrow as pa

    file = _open_parquet(path)
    _check_columns(path, wanted, file.schema_arrow.names)
    start, end = offset, min(file.metadata.num_rows, offset + limit) if limit is not None else file.metadata.num_rows
    groups: list[int] = []
    first = at = 0
    for group in range(file.metadata.num_row_groups):
        rows = file.metadata.row_group(group).num_rows
        if at + rows > start and at < end:
            first = first if groups else at
            groups.append(group)
        at += rows
    if not groups:
        return
    at = first
    try:
        # A mapping of constants reads no column, but must know how many rows there are.
        columns = list(wanted) or file.schema_arrow.names[:1]
        for batch in file.iter_batches(ROWS_PER_BATCH, row_groups=groups, columns=columns, use_threads=False):
            skip, stop = max(start - at, 0), min(end - at, batch.num_rows)
            if stop <= 0:
                return
            if skip < stop:
                part = batch.slice(skip, stop - skip)
                values: Columns = {name: _values(pa, part.column(name)) for name in wanted}
                yield Batch(range(at + skip + 1, at + stop + 1), values)
            at += batch.num_rows
    except pa.ArrowException as error:
        raise FileError(f"{path} cannot be read near row {at + 1}: {error}") from None
    finally:
        with suppress(Exception):
            file.close()


def _values(pa: Any, column: Any) -> list[object]:
    if pa.types.is_timestamp(column.type) or pa.types.is_date(column.type):
        column = column.cast(pa.timestamp("ms"), safe=False).cast(pa.int64())
    values: list[object] = column.to_pylist()
    return values
