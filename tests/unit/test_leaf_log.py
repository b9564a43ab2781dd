"""Leaves that are kept outside the database: what was appended is read back, whatever a crash left or was moved away."""

from __future__ import annotations

import os
import random
from pathlib import Path

import pytest

from connectors.proofs import leaf_log
from connectors.proofs.leaf_log import LeafLog, LeafLogError, Stretch, folder_of, kept_leaves
from connectors.proofs.trees import TreeId

SHOP: TreeId = ("shop", 3)
NONE: TreeId = ("", 0)


def leaf(number: int) -> bytes:
    return number.to_bytes(32, "big")


def grow(log: LeafLog, tree_id: TreeId, count: int) -> None:
    start = log.size(tree_id)
    log.append([Stretch(tree_id, start, b"".join(leaf(number) for number in range(start, start + count)))])


def kept(folder: Path, tree_id: TreeId, start: int, end: int) -> list[bytes]:
    return [each for part in kept_leaves(folder, tree_id, start, end) for each in part]


def test_what_was_appended_is_read_back_from_anywhere_to_anywhere(tmp_path: Path) -> None:
    """Of several trees, some appended at once, some more than a record holds."""
    log, rng = LeafLog(tmp_path), random.Random(1)
    log.append([Stretch(SHOP, 0, leaf(0)), Stretch(NONE, 0, leaf(0)), Stretch(SHOP, 1, leaf(1) + leaf(2))])
    for count in (1, 70, leaf_log.RECORD_LEAVES_MAX + 5, 3):
        grow(log, SHOP, count)
        grow(log, NONE, 2)
    log.close()
    size = 3 + 1 + 70 + leaf_log.RECORD_LEAVES_MAX + 5 + 3
    assert (log.size(SHOP), log.size(NONE), log.last(NONE)) == (size, 9, leaf(8))
    for _ in range(50):
        start, end = sorted(rng.sample(range(size + 1), 2))
        assert kept(tmp_path, SHOP, start, end) == [leaf(number) for number in range(start, end)]
    assert kept(tmp_path, SHOP, 0, size + 9) == [leaf(number) for number in range(size)]
    assert kept(tmp_path, ("nobody", 3), 0, 9) == []


def test_whatever_a_crash_left_the_next_writer_knows_what_is_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Cut anywhere, or zeros from there on: nothing is read that was not written, and what follows is whole."""
    monkeypatch.setattr(os, "fsync", lambda file: None)
    whole = tmp_path / "whole"
    log = LeafLog(whole)
    sizes = []
    for count in (3, 2):
        grow(log, SHOP, count)
        sizes.append((whole / "00000001.leaves").stat().st_size)
    log.close()
    data = (whole / "00000001.leaves").read_bytes()
    for cut in [*range(0, sizes[0], 7), *range(sizes[0], len(data) + 1)]:
        for rest in {b"", bytes(len(data) - cut)}:
            folder = tmp_path / f"{cut}-{len(rest)}"
            folder.mkdir()
            (folder / "00000001.leaves").write_bytes(data[:cut] + rest)
            said: list[str] = []
            log = LeafLog(folder, said.append)
            expected = 5 if data[:cut] + rest == data else 3 if cut >= sizes[0] else 0
            assert log.size(SHOP) == expected, (cut, rest)
            assert log.last(SHOP) == (leaf(expected - 1) if expected else None)
            grow(log, SHOP, 9 - expected)
            log.close()
            assert kept(folder, SHOP, 0, 9) == [leaf(number) for number in range(9)], (cut, rest)
            assert LeafLog(folder).size(SHOP) == 9


def test_a_torn_file_stays_as_it_is_and_is_told(tmp_path: Path) -> None:
    log = LeafLog(tmp_path)
    grow(log, SHOP, 3)
    log.close()
    file = tmp_path / "00000001.leaves"
    torn = file.read_bytes()[:-5]
    file.write_bytes(torn)
    said: list[str] = []
    LeafLog(tmp_path, said.append).close()
    assert file.read_bytes() == torn
    assert "ends in the middle of a record" in said[0]
    assert (tmp_path / "00000002.leaves").exists()


def test_full_files_can_be_moved_away(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A writer needs the newest one only, also for trees that did not grow in it; a check reads all, put together again."""
    monkeypatch.setattr(leaf_log, "FILE_BYTES", 500)
    log = LeafLog(tmp_path / "here")
    grow(log, NONE, 1)
    for _ in range(20):
        grow(log, SHOP, 5)
    log.close()
    files = sorted((tmp_path / "here").iterdir())
    assert len(files) > 4
    assert max(file.stat().st_size for file in files) < 1000
    away = tmp_path / "away"
    away.mkdir()
    for file in files[:-1]:
        file.rename(away / file.name)
    log = LeafLog(tmp_path / "here")
    assert (log.size(SHOP), log.size(NONE), log.last(NONE)) == (100, 1, leaf(0))
    grow(log, SHOP, 1)
    log.close()
    assert kept(away, SHOP, 0, 101)[-1] != leaf(100)
    for file in (tmp_path / "here").iterdir():
        file.rename(away / file.name)
    assert kept(away, SHOP, 0, 101) == [leaf(number) for number in range(101)]


def test_a_file_that_was_begun_and_torn_is_no_beginning(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A crash while a file is begun, at every byte: what the file before it tells counts."""
    monkeypatch.setattr(os, "fsync", lambda file: None)
    monkeypatch.setattr(leaf_log, "FILE_BYTES", 500)
    log = LeafLog(tmp_path)
    grow(log, NONE, 1)
    for _ in range(4):
        grow(log, SHOP, 5)
    log.close()
    second = tmp_path / "00000002.leaves"
    data = second.read_bytes()
    # The last leaves of two trees and the empty record; five leaves more come after them.
    begun = len(data) - (5 * 32 + 18 + 4 + 4)
    size = LeafLog(tmp_path).size(SHOP)
    for cut in range(begun):
        for file in tmp_path.glob("0000000[3-9]*"):
            file.unlink()
        second.write_bytes(data[:cut])
        log = LeafLog(tmp_path)
        assert (log.size(SHOP), log.size(NONE)) == (size - 5, 1), cut
        log.close()


def test_what_cannot_be_used_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(LeafLogError, match="cannot write "):
        LeafLog(tmp_path / "file")
    (tmp_path / "00000001.leaves").mkdir()
    with pytest.raises(LeafLogError, match="Is a directory"):
        kept(tmp_path, SHOP, 0, 1)


def test_after_a_full_disk_the_next_writer_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was written by halves is not read, and nothing counts as appended that was not."""
    log = LeafLog(tmp_path)
    grow(log, SHOP, 3)
    write = os.write

    def half(file: int, data: memoryview) -> int:
        if len(data) < 100:
            raise OSError(28, "No space left on device")
        return write(file, data[: len(data) // 2])

    with monkeypatch.context() as patched:
        patched.setattr(os, "write", half)
        with pytest.raises(LeafLogError, match="No space left on device"):
            grow(log, SHOP, 9)
    assert log.size(SHOP) == 3
    log.close()
    log = LeafLog(tmp_path)
    assert log.size(SHOP) == 3
    grow(log, SHOP, 2)
    log.close()
    assert kept(tmp_path, SHOP, 0, 9) == [leaf(number) for number in range(5)]


def test_leaves_are_kept_beside_the_heads_unless_said_otherwise() -> None:
    assert folder_of("", Path("/kept/heads.txt")) == Path("/kept/heads.txt.leaves")
    assert folder_of("/other", Path("/kept/heads.txt")) == Path("/other")
    assert folder_of("none", Path("/kept/heads.txt")) is None
    assert folder_of("", None) is None
