"""The rows of one table partition: read through a cache, published to the changelog and stored once per cycle.

A row is a :class:`Row`: MessagePack of a struct whose first field, ``version``, counts the records applied to it. Of two
rows for one key, the one with the higher version has seen more and wins in recovery (docs/decisions/0003-row-versions.md).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Generic, Protocol, TypeVar

import msgspec


class Row(msgspec.Struct, array_like=True):
    """Base of every row; the version comes first so that recovery reads nothing else."""

    version: int = 0


R = TypeVar("R", bound=Any)
_encode = msgspec.msgpack.encode
_decode_version = msgspec.msgpack.Decoder(Row).decode


def version_of(stored: bytes) -> int:
    """The version of an encoded row."""
    return _decode_version(stored).version


class Store(Protocol):
    """Where the rows of one partition live (RocksDB; a dict in the simulation)."""

    def get(self, key: bytes) -> bytes | None:
        """The stored row."""

    def keys_after(self, key: bytes, count: int) -> list[bytes]:
        """The next ``count`` stored keys after ``key``, in order; fewer at the end."""

    def items(self) -> Iterable[tuple[bytes, bytes]]:
        """Every stored row by key; reads all of them."""

    def write(self, rows: Mapping[bytes, bytes | None], changelog_offset: int | None) -> None:
        """Store rows (None: remove it) and, when known, the offset of the last changelog record they include, in one step."""


class Changelog(Protocol):
    """What publishes rows: ``produce(topic, value, key, partition)``."""

    def produce(self, topic: str, value: bytes | None, key: bytes, partition: int = -1) -> None: ...


class Rows(Generic[R]):
    """The rows of one partition of one table, for one runner. A crash loses the cache and nothing else."""

    def __init__(self, store: Store, partition: int, changelog: str, row_type: type[R], kept_max: int) -> None:
        """``kept_max``: rows that are kept decoded between cycles."""
        self.partition = partition
        self._kept_max = kept_max
        self.changelog = changelog
        self._store = store
        self._new: Callable[[], R] = row_type
        self._decode: Callable[[bytes], R] = msgspec.msgpack.Decoder(row_type, strict=False).decode
        self._cache: dict[bytes, R] = {}
        #: Keys of rows that are not published yet, the one saved last at the end.
        self._changed: dict[bytes, None] = {}
        self._published: dict[bytes, bytes | None] = {}
        #: Keys of rows that were removed, until the store knows it.
        self._removed: set[bytes] = set()

    def get(self, key: bytes) -> R:
        """The row of ``key``, a new one when there is none. Change it, then :meth:`save` it."""
        row = self._cache.get(key)
        if row is not None:
            return row
        stored = self._stored(key)
        row = self._new() if stored is None else self._decode(stored)
        self._cache[key] = row
        return row

    def _stored(self, key: bytes) -> bytes | None:
        return None if key in self._removed else self._store.get(key)

    def save(self, key: bytes, row: R) -> None:
        """``row`` is the row of ``key`` from now on; once per applied record."""
        row.version += 1
        self._cache[key] = row
        self._removed.discard(key)
        self._changed.pop(key, None)
        self._changed[key] = None

    def remove(self, key: bytes) -> None:
        """There is no row of ``key`` from now on: a tombstone in the changelog.

        With the row its version is gone: whoever may make a row of this key again begins it with a higher one, or a former
        owner's late row, or what an old disk holds, would win over it (docs/decisions/0051-erased-everywhere.md).
        """
        self._cache.pop(key, None)
        self._removed.add(key)
        self._changed.pop(key, None)
        self._changed[key] = None

    def peek(self, key: bytes) -> R | None:
        """The row as it is now, None when there is none; nothing is cached."""
        row = self._cache.get(key)
        if row is not None and not row.version:
            return None  # It was asked for, and never saved.
        if row is None and (stored := self._stored(key)) is not None:
            row = self._decode(stored)
        return row

    def is_stored(self, key: bytes) -> bool:
        """Whether the row is as it is stored, so that no crash takes anything of it back."""
        return key not in self._changed and key not in self._published

    def keys_after(self, key: bytes, count: int) -> tuple[list[bytes], bool]:
        """At least the next ``count`` keys after ``key``, in order, also of rows that are not stored yet; and whether those
        are all. A row that was just removed may be among them."""
        stored = self._store.keys_after(key, count)
        last = len(stored) < count
        waiting = [each for each in {**self._changed, **self._published} if each > key and (last or each <= stored[-1])]
        return sorted({*stored, *waiting}), last

    def publish(self, changelog: Changelog) -> bool:
        """Queue every changed row for the changelog, as it is now, one record per key; tell whether there was any.

        In the order in which they were last saved: after a kill the changelog has the first of them, so that a row that tells
        how far others are is never ahead of them.
        What they say must be durable already. :meth:`store` them when the changelog has them, before publishing again.
        """
        cache, topic, partition, removed = self._cache, self.changelog, self.partition, self._removed
        self._published |= {key: None if key in removed else _encode(cache[key]) for key in self._changed}
        self._changed.clear()
        for key, row in self._published.items():
            changelog.produce(topic, row, key, partition)
        return bool(self._published)

    def store(self, changelog_end: int | None) -> None:
        """Store what was published; ``changelog_end`` is the changelog's end offset when known to include just that."""
        self._store.write(self._published, None if changelog_end is None else changelog_end - 1)
        self._published = {}
        self._removed &= self._changed.keys()
        if len(self._cache) > self._kept_max:
            # What is not stored yet must stay readable.
            self._cache = {key: self._cache[key] for key in self._changed if key not in self._removed}


def newest(rows: Iterable[tuple[bytes, bytes | None]], stored: dict[bytes, bytes | None]) -> dict[bytes, bytes | None]:
    """What recovery has to write: for each key the row with the highest version, later ones winning a tie.

    ``rows`` are changelog records in their order (None deletes), ``stored`` what is there now for these keys.
    """
    versions = {key: version_of(value) for key, value in stored.items() if value is not None}
    result: dict[bytes, bytes | None] = {}
    for key, value in rows:
        version = -1 if value is None else version_of(value)
        if value is None or version >= versions.get(key, -1):
            versions[key] = version
            result[key] = value
    return result
