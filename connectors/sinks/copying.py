"""Rows of events as PostgreSQL's COPY takes them in binary: packed by the process that makes rows, and passed on as they are.

A row is the number of its values (two bytes), then each value's length (four bytes; -1 for NULL) and bytes; numbers are big
endian. Source: PostgreSQL's documentation of COPY, "Binary Format". What is packed lacks one value, the leaf's index, which
comes last and is known only when the row is written.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from typing import Any, Final, get_args, get_type_hints

import msgspec

from connectors.proofs.appending import trees_of
from connectors.proofs.verifier import SHARD
from connectors.sinks.rows import Columns, EventRow

try:
    from connectors.sinks import native_copying
except ImportError:  # Not compiled here.
    native_copying = None  # type: ignore[assignment]

#: Whether rows are packed by compiled code.
COMPILED: Final = native_copying is not None

#: Before the first row, and after the last one.
HEADER: Final = b"PGCOPY\n\xff\r\n\x00" + bytes(8)
TRAILER: Final = b"\xff\xff"
_KINDS: Final = {str: b"t", int: b"i", bytes: b"b"}


def types_of(row: type[tuple[Any, ...]]) -> list[type]:
    """Of the columns of a row with names."""
    # The first part of an ``int | None``, or the whole.
    return [(*get_args(hint), hint)[0] for hint in get_type_hints(row).values()]


#: Of the columns: text, int8 and bytea.
KINDS: Final = b"".join(_KINDS[kind] for kind in types_of(EventRow))
#: Columns that an event is told by, the first ones.
KEYS: Final = 3
_RECORDED_AT_MS: Final = EventRow._fields.index("recorded_at_ms")
_COUNT, _LENGTH, _INT8, _INT4 = struct.Struct(">H"), struct.Struct(">i"), struct.Struct(">iq"), struct.Struct(">ii")
_NULL: Final = _LENGTH.pack(-1)
_TEXT, _INT = b"ti"


def pack(rows: Sequence[Columns], kinds: bytes) -> bytes:
    """``rows`` of values of ``kinds``, for one value more."""
    parts: list[bytes] = []
    for row in rows:
        parts.append(_COUNT.pack(len(kinds) + 1))
        for value, kind in zip(row, kinds, strict=True):
            if value is None:
                parts.append(_NULL)
            elif kind == _INT:
                if not -(1 << 63) <= value < 1 << 63:
                    raise OverflowError("a number of more than 64 bits")
                parts.append(_INT8.pack(8, value))
            else:
                data = value.encode() if kind == _TEXT else value
                if not isinstance(data, bytes):
                    raise TypeError("bytes are expected")
                parts += (_LENGTH.pack(len(data)), data)
    return b"".join(parts)


def unpack(data: bytes, kinds: bytes) -> list[Columns]:
    """The rows that were packed."""
    rows, at = list[Columns](), 0
    while at < len(data):
        at += _COUNT.size
        row: list[Any] = []
        for kind in kinds:
            (size,) = _LENGTH.unpack_from(data, at)
            at += _LENGTH.size
            value = None if size < 0 else data[at : at + size]
            if value is not None:
                row.append(
                    value.decode() if kind == _TEXT else int.from_bytes(value, signed=True) if kind == _INT else value
                )
            else:
                row.append(None)
            at += max(size, 0)
        rows.append(tuple(row))
    return rows


def place(data: bytes, columns: int, keys: int, shard: int, leaf_indexes: Sequence[int]) -> tuple[bytes, bytes]:
    """Packed rows of so many ``columns`` with the value that they lack; and of each its first ``keys`` values, the one at
    ``shard`` in four bytes, and that value. Raises ``ValueError`` unless there are as many rows."""
    rows, ids, at = list[bytes](), list[bytes](), 0
    for leaf in leaf_indexes:
        if at == len(data):
            raise ValueError("fewer rows than leaves")
        start = at + _COUNT.size
        behind = _skipped(data, start, keys)
        number_at = _skipped(data, behind, shard - keys)
        end = _skipped(data, number_at, columns - shard)
        index = _INT8.pack(8, leaf)
        number = _INT8.unpack_from(data, number_at)[1]
        ids += (_COUNT.pack(keys + 2), data[start:behind], _INT4.pack(4, number), index)
        rows += (data[at:end], index)
        at = end
    if at != len(data):
        raise ValueError("more rows than leaves")
    return b"".join(rows), b"".join(ids)


def _skipped(data: bytes, at: int, values: int) -> int:
    for _ in range(values):
        at += _LENGTH.size + max(_LENGTH.unpack_from(data, at)[0], 0)
    return at


_pack, _unpack, _place = (
    (native_copying.pack, native_copying.unpack, native_copying.place) if COMPILED else (pack, unpack, place)
)


class PackedRows(msgspec.Struct, frozen=True):
    """Rows of events, which are made plain again only for who looks at them."""

    #: Tenant and shard, and how many of the next rows are theirs.
    trees: list[tuple[str, int, int]]
    #: The least and the greatest time of recording; epoch milliseconds.
    first_ms: int
    last_ms: int
    #: See :func:`pack`.
    data: bytes

    @classmethod
    def of(cls, rows: Sequence[Columns]) -> PackedRows:
        """``rows``, packed. Raises ``TypeError``, ``ValueError`` or ``OverflowError`` for what no row holds."""
        times = [row[_RECORDED_AT_MS] for row in rows]
        return cls(trees_of(rows), min(times, default=0), max(times, default=0), _pack(rows, KINDS))

    def __len__(self) -> int:
        return sum(rows for *_, rows in self.trees)

    def __iter__(self) -> Iterator[Columns]:
        return iter(_unpack(self.data, KINDS))

    def placed(self, leaf_indexes: Sequence[int]) -> tuple[bytes, bytes]:
        """The rows with their leaves' indexes, and their keys: the first columns, the shard (int4) and the leaf's index."""
        return _place(self.data, len(KINDS), KEYS, SHARD, leaf_indexes)
