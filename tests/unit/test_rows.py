"""Rows between cycles: read through a cache, published, stored; and what recovery keeps."""

from __future__ import annotations

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

    def get(self, key: bytes) -> bytes | None:
        return self.rows.get(key)

    def keys_after(self, key: bytes, count: int) -> list[bytes]:
        return sorted(each for each in self.rows if each > key)[:count]

    def write(self, rows: dict[bytes, bytes], changelog_offset: int | None) -> None:
        self.rows.update(rows)
        self.offset = changelog_offset if changelog_offset is not None else self.offset

    def produce(self, topic: str, value: bytes, key: bytes, partition: int = -1) -> None:
        self.published.append((topic, key, partition))


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
