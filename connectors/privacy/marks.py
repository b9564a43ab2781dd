"""Which keys sealed something in which stretch of a tree, so that a person's rows are found without reading all of a tenant's.

A stretch is :data:`STRETCH_LEAVES` leaves of a tree, beginning at a multiple of that. Rows never change, so what was once read
of a whole stretch is true for ever: whoever looks for a person keeps it, and the next one reads only the stretches that the
key may be in, and what is new. The audit sink has nothing to do with it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Final

from connectors.privacy.envelope import is_sealed, parsed
from connectors.privacy.reading import READ_COLUMNS
from connectors.sinks.database import Database

#: A query's worth of rows, half a megabyte of values.
STRETCH_LEAVES: Final = 1_024
#: Of a key's id, which is random: that one of a thousand others has the same is one chance in four million.
MARK_BYTES: Final = 4
#: Marks that are read at a time, some 2 MB, and at most kept in one transaction.
STRETCHES_AT_ONCE: Final = 1_024

#: Payment and event id, stage and time of a row, and what :class:`~connectors.privacy.reading.RowReader` reads.
COLUMNS: Final = f"payment_id, event_id, stage, recorded_at_ms, {READ_COLUMNS.format('e')}"
_TREES: Final = "SELECT shard, size FROM audit_trees WHERE tenant = ? ORDER BY shard"
_MARKS: Final = (
    "SELECT stretch, marks FROM privacy_marks WHERE tenant = ? AND shard = ? AND stretch >= ? AND stretch < ?"
)
_STRETCH: Final = 'tenant = ? AND "partition" = ? AND leaf_index BETWEEN ? AND ?'
#: Of before there were trees: none, once the sink has brought the database up to date.
_UNPROVEN: Final = "tenant = ? AND leaf_index IS NULL"


def rows_sealed_by(
    database: Database, tenant: str, key_ids: Sequence[bytes], *, keep: bool
) -> Iterator[tuple[Any, ...]]:
    """:data:`COLUMNS` of the tenant's rows that one of ``key_ids`` sealed something of, each once. ``keep`` marks of what was
    read for it: ``database`` must be open for writing. Raises what ``database`` raises.
    """
    wanted = {_mark_of(key_id) for key_id in key_ids}
    holds = " OR ".join([database.holds_bytes] * len(key_ids))
    found = f"SELECT {COLUMNS} FROM payment_events e WHERE {{}} AND ({holds})"  # noqa: S608
    yield from database.query(found.format(_UNPROVEN), (tenant, *key_ids))
    for shard, size in database.query(_TREES, (tenant,)):
        whole, stretches = size // STRETCH_LEAVES, -(-size // STRETCH_LEAVES)
        for first in range(0, stretches, STRETCHES_AT_ONCE):
            last = min(first + STRETCHES_AT_ONCE, stretches)
            known = {number: bytes(marks) for number, marks in database.query(_MARKS, (tenant, shard, first, last))}
            new: list[tuple[object, ...]] = []
            for number in range(first, last):
                at = (tenant, shard, number * STRETCH_LEAVES, (number + 1) * STRETCH_LEAVES - 1)
                marks = known.get(number)
                if marks is None and keep and number < whole:
                    marks = _marks_in(database, at)
                    new.append((tenant, shard, number, marks))
                if marks is None or not wanted.isdisjoint(memoryview(marks).cast("I")):
                    yield from database.query(found.format(_STRETCH), (*at, *key_ids))
            if new:
                database.keep_marks(new)


def _mark_of(key_id: bytes) -> int:
    return memoryview(key_id[-MARK_BYTES:]).cast("I")[0]


def _marks_in(database: Database, at: tuple[object, ...]) -> bytes:
    values = database.query(f"SELECT avro FROM payment_events WHERE {_STRETCH} AND avro IS NOT NULL", at)  # noqa: S608
    ids = {
        key_id
        for (avro,) in values
        if is_sealed(value := bytes(avro))
        for seal in parsed(value).seals
        for key_id in seal.key_ids
    }
    return b"".join(sorted(key_id[-MARK_BYTES:] for key_id in ids))
