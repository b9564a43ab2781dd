"""Rows between cycles: read through a cache, published, stored; and what recovery keeps."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec
import pytest

from pipeline.engine.rows import Row, Rows, newest, version_of


class Counter(Row, array_like=True):
    count: int = 0


class Disk:
    """A store, and a changelog, that remember."""

    def __init__(self) -> None:
        self.rows: dict[bytes, bytes] = {}
        self.offset: int | None = None
        self.published: list[tuple[str, bytes, int]] = []
        self.values: list[bytes | None] = []

    def get(self, key: bytes) -> bytes | None:
        return self.rows.get(key)

    def keys_after(self, key: bytes, count: int) -> list[bytes]:
        return sorted(each for each in self.rows if each > key)[:count]

    def write(self, rows: Mapping[bytes, bytes | None], changelog_offset: int | None) -> None:
        for key, row in rows.items():
            if row is None:
                self.rows.pop(key, None)
            else:
                self.rows[key] = row
        self.offset = changelog_offset if changelog_offset is not None else self.offset

    def produce(self, topic: str, value: bytes | None, key: bytes, partition: int = -1) -> None:
        self.published.append((topic, key, partition))
        self.values.append(value)


def a_table(disk: Disk, kept_max: int = 100) -> Rows[Counter]:
    return Rows(disk, 3, "changes", Counter, kept_max)


def add(rows: Rows[Counter], key: bytes) -> None:
    row = rows.get(key)
    row.count += 1
    rows.save(key, row)


def encoded(version: int, count: int = 0) -> bytes:
    return msgspec.msgpack.encode(Counter(version=version, count=count))


def test_a_row_is_stored_as_it_was_published() -> None:
    """Publishing freezes it and names its own partition; storing notes the changelog's last offset."""
    disk = Disk()
    rows = a_table(disk)
    add(rows, b"a")
    rows.publish(disk)
    add(rows, b"a")
    rows.store(changelog_end=8)
    assert disk.published == [("changes", b"a", 3)]
    assert disk.rows == {b"a": encoded(1, 1)}
    assert disk.offset == 7
    assert rows.get(b"a").count == 2


def test_one_changelog_record_per_key_and_cycle() -> None:
    """However often a row changed."""
    disk = Disk()
    rows = a_table(disk)
    for _ in range(5):
        add(rows, b"a")
    assert rows.publish(disk)
    assert len(disk.published) == 1
    rows.store(None)
    assert (disk.rows[b"a"], disk.offset) == (encoded(5, 5), None)


def test_the_cache_is_emptied_but_for_what_is_not_stored_yet() -> None:
    """A changed row that was forgotten before it is stored would be read back as it was before."""
    disk = Disk()
    disk.rows = {b"k%d" % n: encoded(1, 10) for n in range(9)}
    rows = a_table(disk, kept_max=3)
    for n in range(9):
        rows.get(b"k%d" % n)
    rows.publish(disk)
    add(rows, b"k0")
    rows.store(None)
    assert set(rows._cache) == {b"k0"}
    assert rows.get(b"k0").count == 11
    assert rows.get(b"k5").count == 10


def test_what_changes_while_earlier_rows_are_under_way_is_kept() -> None:
    """Every increment of thirty cycles arrives, with a cache of one row."""
    disk = Disk()
    rows = a_table(disk, kept_max=1)
    for cycle in range(30):
        rows.publish(disk)
        add(rows, b"k%d" % (cycle % 4))
        add(rows, b"always")
        rows.store(None)
    rows.publish(disk)
    rows.store(None)
    counts = {key: msgspec.msgpack.decode(row, type=Counter).count for key, row in disk.rows.items()}
    assert counts == {b"always": 30, b"k0": 8, b"k1": 8, b"k2": 7, b"k3": 7}


def test_peek_shows_the_row_as_it_is_and_caches_nothing() -> None:
    """A view sees what is not stored yet, and does not fill the memory."""
    disk = Disk()
    disk.rows = {b"old": encoded(4, 4)}
    rows = a_table(disk)
    add(rows, b"new")
    new, old = rows.peek(b"new"), rows.peek(b"old")
    assert (new and new.count, old and old.count, rows.peek(b"none")) == (1, 4, None)
    assert set(rows._cache) == {b"new"}


def test_every_applied_record_raises_the_version() -> None:
    """It counts what a row has seen."""
    disk = Disk()
    rows = a_table(disk)
    for _ in range(3):
        add(rows, b"a")
    rows.publish(disk)
    rows.store(None)
    assert version_of(disk.rows[b"a"]) == 3


@pytest.mark.parametrize(
    ("stored", "changes", "expected"),
    [
        ({}, [(b"a", 1), (b"a", 2)], {b"a": 2}),
        # A former owner's row, written late, has seen less.
        ({}, [(b"a", 5), (b"a", 3)], {b"a": 5}),
        ({b"a": 4}, [(b"a", 3)], {}),
        ({b"a": 4}, [(b"a", 4)], {b"a": 4}),
        ({b"a": 4}, [(b"a", 9), (b"b", 1)], {b"a": 9, b"b": 1}),
    ],
)
def test_recovery_keeps_the_row_that_has_seen_most(
    stored: dict[bytes, int], changes: list[tuple[bytes, int]], expected: dict[bytes, int]
) -> None:
    """The highest version wins; of equal ones the later."""
    there: dict[bytes, bytes | None] = {key: encoded(version) for key, version in stored.items()}
    written = newest([(key, encoded(version)) for key, version in changes], there)
    assert {key: version_of(row) for key, row in written.items() if row is not None} == expected


def test_of_equal_versions_the_later_one_wins() -> None:
    """Also with other content."""
    assert newest([(b"a", encoded(2, 1)), (b"a", encoded(2, 7))], {b"a": encoded(2, 0)}) == {b"a": encoded(2, 7)}


def test_a_deletion_deletes_and_a_later_row_comes_back() -> None:
    """None in a changelog is a deletion."""
    assert newest([(b"a", None)], {b"a": encoded(9)}) == {b"a": None}
    assert newest([(b"a", None), (b"a", encoded(1))], {b"a": encoded(9)}) == {b"a": encoded(1)}


def test_rows_are_published_in_the_order_of_their_last_change() -> None:
    """A kill leaves the first of them: a row that says how far others are must not be ahead of them."""
    disk = Disk()
    rows = a_table(disk)
    for key in (b"progress", b"b", b"a", b"progress"):
        add(rows, key)
    rows.publish(disk)
    assert [key for _, key, _ in disk.published] == [b"b", b"a", b"progress"]


def test_keys_after_a_key_are_those_of_all_rows() -> None:
    """Stored, published and only changed, in order; what lies beyond the last stored one asked for comes with the next."""
    disk = Disk()
    disk.rows = {b"a": encoded(1), b"c": encoded(1), b"f": encoded(1)}
    rows = a_table(disk)
    add(rows, b"d")
    rows.publish(disk)
    add(rows, b"b")
    add(rows, b"z")
    add(rows, b"c")
    assert rows.keys_after(b"", 2) == ([b"a", b"b", b"c"], False)
    assert rows.keys_after(b"c", 2) == ([b"d", b"f", b"z"], True)
    assert rows.keys_after(b"z", 2) == ([], True)


def test_a_removed_row_is_gone_at_once_and_a_tombstone_is_published() -> None:
    """For readers and views, before it is published, stored and after; whoever only looks does not bring it back."""
    disk = Disk()
    disk.rows = {b"a": encoded(7, 7), b"b": encoded(1, 1)}
    rows = a_table(disk)
    rows.get(b"a")
    rows.remove(b"a")
    for step in (lambda: None, lambda: rows.publish(disk), lambda: rows.store(None)):
        step()
        assert rows.peek(b"a") is None
        assert rows.get(b"a") == Counter()
    assert (disk.published, disk.values) == ([("changes", b"a", 3)], [None])
    assert disk.rows == {b"b": encoded(1, 1)}
    assert not rows.publish(disk)


def test_a_row_that_comes_back_is_published_after_its_tombstone() -> None:
    """In the same cycle it takes its place; after a tombstone that is not stored yet, and removed once more, too."""
    disk = Disk()
    disk.rows = {b"a": encoded(7, 7)}
    rows = a_table(disk, kept_max=0)
    rows.remove(b"a")
    add(rows, b"a")
    rows.publish(disk)
    rows.remove(b"a")
    rows.store(None)
    assert (disk.rows, rows.get(b"a")) == ({b"a": encoded(1, 1)}, Counter())
    rows.publish(disk)
    add(rows, b"a")
    rows.store(None)
    assert (disk.rows, rows.get(b"a").count) == ({}, 1)
    rows.publish(disk)
    rows.store(None)
    assert disk.values == [encoded(1, 1), None, encoded(1, 1)]
    assert disk.rows == {b"a": encoded(1, 1)}
