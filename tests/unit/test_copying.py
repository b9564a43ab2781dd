"""Rows as PostgreSQL's COPY takes them: compiled and in Python the same, and as the driver writes them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from psycopg.adapt import Transformer
from psycopg.pq import Format

from connectors.proofs.verifier import SHARD
from connectors.sinks import copying
from connectors.sinks.copying import KEYS, KINDS, PackedRows, pack, place, unpack
from connectors.sinks.rows import Columns, EventRow

if copying.COMPILED:
    from connectors.sinks import native_copying as native

WAYS = ["python", "compiled"] if copying.COMPILED else ["python"]
PACKS = {"python": pack, "compiled": native.pack if copying.COMPILED else pack}
UNPACKS = {"python": unpack, "compiled": native.unpack if copying.COMPILED else unpack}
PLACES = {"python": place, "compiled": native.place if copying.COMPILED else place}

_INTS = st.integers(-(1 << 63), (1 << 63) - 1)
_SHARDS = st.integers(0, 100_000)
_VALUES = {ord("t"): st.text(), ord("i"): _INTS, ord("b"): st.binary(max_size=300)}
_NULLABLE = {name for name in ("rule_version", "trace_id", "avro", "payload")}
_ROWS = st.lists(
    st.tuples(
        *(
            _SHARDS if name == "partition" else (st.none() | _VALUES[kind] if name in _NULLABLE else _VALUES[kind])
            for name, kind in zip(EventRow._fields, KINDS, strict=True)
        )
    ),
    max_size=6,
)
ROW = EventRow("shop", "p", "screening", 10, "screening", "passed", "", 3, None, "t", 2, 7, 1000, b"\x00\xff", "{}")


def written(types: list[str], rows: list[tuple[object, ...]]) -> bytes:
    """What the driver writes of ``rows``."""
    transformer = Transformer()
    oids = [transformer.adapters.types[name].oid for name in types]
    transformer.set_dumper_types(oids, Format.BINARY)
    found = b""
    for row in rows:
        found += len(row).to_bytes(2, "big")
        for value in transformer.dump_sequence(row, [Format.BINARY] * len(row)):  # type: ignore[arg-type]
            found += b"\xff\xff\xff\xff" if value is None else len(value).to_bytes(4, "big") + bytes(value)
    return found


@pytest.mark.parametrize("way", WAYS)
@given(rows=_ROWS, first=st.integers(0, 1 << 40))
def test_rows_are_what_the_driver_writes(way: str, rows: list[Columns], first: int) -> None:
    """With their leaves, and their keys; and read again they are the same."""
    leaves = range(first, first + len(rows))
    packed = PACKS[way](rows, KINDS)
    assert UNPACKS[way](packed, KINDS) == rows
    events, keys = PLACES[way](packed, len(KINDS), KEYS, SHARD, leaves)
    names = {ord("t"): "text", ord("i"): "int8", ord("b"): "bytea"}
    types = [*(names[kind] for kind in KINDS), "int8"]
    assert events == written(types, [(*row, leaf) for row, leaf in zip(rows, leaves, strict=True)])
    told = [(*row[:KEYS], row[SHARD], leaf) for row, leaf in zip(rows, leaves, strict=True)]
    assert keys == written(["text", "text", "text", "int4", "int8"], told)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(
    ("wrong", "error"),
    [
        (ROW._replace(offset=1 << 63), OverflowError),
        (ROW._replace(sequence=-(1 << 63) - 1), OverflowError),
        (ROW._replace(reason="\ud800"), UnicodeEncodeError),
        (ROW._replace(avro="text"), TypeError),
        (ROW[:-1], ValueError),
        ((*ROW, 1), ValueError),
    ],
)
def test_what_no_row_holds_is_refused(way: str, wrong: Columns, error: type[Exception]) -> None:
    """Before anything of it goes to the server."""
    with pytest.raises(error):
        PACKS[way]([ROW, wrong], KINDS)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("leaves", [[0], [0, 1, 2]])
def test_as_many_leaves_as_rows(way: str, leaves: list[int]) -> None:
    """No row without its leaf, no leaf without its row."""
    packed = PACKS[way]([ROW, ROW], KINDS)
    with pytest.raises(ValueError, match="rows than leaves"):
        PLACES[way](packed, len(KINDS), KEYS, SHARD, leaves)


def test_packed_rows_tell_their_trees_and_times() -> None:
    """What is asked of them without making them plain."""
    rows = [ROW, ROW._replace(recorded_at_ms=400), ROW._replace(partition=3), ROW._replace(recorded_at_ms=1400)]
    packed = PackedRows.of(rows)
    assert packed.trees == [("shop", 2, 2), ("shop", 3, 1), ("shop", 2, 1)]
    assert (packed.first_ms, packed.last_ms, len(packed), list(packed)) == (400, 1400, 4, rows)
    nothing = PackedRows.of([])
    assert (len(nothing), list(nothing), nothing.placed([])) == (0, [], (b"", b""))
