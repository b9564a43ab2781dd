"""Faust's RocksDB store, for batches: fast recovery, small caches, databases closed when they are given away."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import rocksdict
from faust.stores import STORES
from faust.stores import rocksdb as faust_rocksdb
from faust.types import TP

from pipeline.engine.rows import newest

#: Per partition. Faust's default is a 2 GiB block cache per partition.
ROCKSDB_OPTIONS = {
    "block_cache_size": 8 << 20,
    "write_buffer_size": 8 << 20,
    "max_write_buffer_number": 2,
    "bloom_filter_size": 10,
    "max_open_files": 256,
}


class PartitionStore:
    """One partition's database as the runner sees it (:class:`pipeline.engine.rows.Store`)."""

    def __init__(self, database: Any, offset_key: bytes) -> None:
        self._database = database
        self._offset_key = offset_key
        self.get = database.get

    def keys_after(self, key: bytes, count: int) -> list[bytes]:
        """The next ``count`` keys after ``key``, in order; fewer at the end."""
        found: list[bytes] = []
        cursor = self._database.iter()
        cursor.seek(key + b"\0")
        while len(found) < count and cursor.valid():
            each: bytes = cursor.key()
            if each != self._offset_key:
                found.append(each)
            cursor.next()
        return found

    def items(self) -> Iterator[tuple[bytes, bytes]]:
        """Every row by key."""
        return ((key, row) for key, row in self._database.items() if key != self._offset_key)

    def write(self, rows: Mapping[bytes, bytes | None], changelog_offset: int | None) -> None:
        """One WriteBatch, so that rows and offset are stored together or not at all."""
        batch = rocksdict.WriteBatch(raw_mode=True)
        for key, row in rows.items():
            if row is None:
                batch.delete(key)
            else:
                batch.put(key, row)
        if changelog_offset is not None:
            batch.put(self._offset_key, str(changelog_offset).encode())
        self._database.write(batch)


class Store(faust_rocksdb.Store):
    """``rocksdb://`` for tables whose changelogs arrive in batches."""

    def partition(self, partition: int) -> PartitionStore:
        """The database of one assigned partition."""
        return PartitionStore(self._db_for_partition(partition), self.offset_key)

    def apply_changelog_batch(
        self, batch: Iterable[Any], to_key: Callable[[Any], Any], to_value: Callable[[Any], Any]
    ) -> None:
        """Recovery: each event holds a list of changelog records of one partition."""
        for event in batch:
            records = event.message.value
            database = self._db_for_partition(event.message.partition)
            keys = list({record.key for record in records})
            stored = dict(zip(keys, database.get(keys), strict=True))
            write = rocksdict.WriteBatch(raw_mode=True)
            for key, value in newest(((record.key, record.value) for record in records), stored).items():
                if value is None:
                    write.delete(key)
                else:
                    write.put(key, value)
            write.put(self.offset_key, str(records[-1].offset).encode())
            database.write(write)

    def revoke_partitions(self, table: Any, tps: set[TP]) -> None:
        """Close what is given away: an open database keeps its lock."""
        for tp in tps:
            if tp.topic in table.changelog_topic.topics and (database := self._dbs.pop(tp.partition, None)) is not None:
                database.close()

    async def stop(self) -> None:
        """Close everything."""
        for database in self._dbs.values():
            database.close()
        self._dbs.clear()


STORES.aliases["payrocks"] = f"{__name__}:Store"
