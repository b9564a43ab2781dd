"""Leaves that leave the database: the hash of every row, in files that can be kept elsewhere beside the signed heads.

A signed root tells that a row is wrong, not which one. Leaves that give the signed root are those that were signed, wherever
they come from: so these files need neither signature nor trust, and whoever kept them can name the row.

A folder holds numbered files, each a sequence of records: some leaves of one tree, one after the other. A file begins with
the last leaf of each tree so far and an empty record, so that a writer needs the newest one only; older ones can be moved
away. Files are only appended to. What a loss of power left of a last record stays, and another file is begun.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import BinaryIO, Final, NamedTuple
from zlib import crc32

from connectors.proofs.trees import TreeId
from connectors.proofs.verifier import HASH_BYTES

SUFFIX: Final = ".leaves"
#: The setting by which no leaves are kept.
NO_FOLDER: Final = "none"
#: A file that is so large is not appended to any more: two million rows, a size that is quickly copied.
FILE_BYTES: Final = 64 << 20
#: Leaves of one record at most, 128 KiB.
RECORD_LEAVES_MAX: Final = 4096
#: Magic, length of the tenant's name, shard, number of the first leaf, number of leaves; then CRC-32 of these, name and leaves.
_HEADER: Final = struct.Struct(">2sHIQH")
_SUM: Final = struct.Struct(">I")
_MAGIC: Final = b"lf"
#: After the last leaves of all trees: an empty record of this tree, which no database has.
_BEGUN: Final[TreeId] = ("\x00", 0)


class LeafLogError(Exception):
    """The folder of leaves cannot be used; the text names it."""


class Stretch(NamedTuple):
    """Leaves ``start`` and following of a tree, their hashes one after the other."""

    tree_id: TreeId
    start: int
    hashes: bytes


def folder_of(setting: str, heads_file: Path | None) -> Path | None:
    """The folder that ``PTR_AUDIT_LEAVES_DIR`` names, by default the one beside the file of heads; None for none."""
    if setting:
        return None if setting == NO_FOLDER else Path(setting)
    return None if heads_file is None else heads_file.with_name(heads_file.name + SUFFIX)


class LeafLog:
    """Appends leaves to the files of a folder."""

    def __init__(self, folder: Path, say: Callable[[str], None] = lambda line: None) -> None:
        """Find out what is in ``folder``, which is made when it is missing. Raises :class:`LeafLogError`."""
        self.folder = folder
        self._last: dict[TreeId, tuple[int, bytes]] = {}
        self._file = -1
        self._bytes = 0
        try:
            folder.mkdir(parents=True, exist_ok=True)
            files = _files(folder)
            self._number = int(files[-1].stem) if files else 0
            torn = self._load(files)
            if torn:
                say(f"{files[-1]} ends in the middle of a record, {torn} bytes: another file is begun")
            if files and not torn and files[-1].stat().st_size < FILE_BYTES:
                self._open(files[-1])
            else:
                self._begin()
        except OSError as error:
            raise self._failed(error) from None

    def size(self, tree_id: TreeId) -> int:
        """How many leaves of a tree were appended."""
        return self._last[tree_id][0] if tree_id in self._last else 0

    def last(self, tree_id: TreeId) -> bytes | None:
        """The last leaf of a tree; None when there is none."""
        return self._last[tree_id][1] if tree_id in self._last else None

    def append(self, stretches: Sequence[Stretch]) -> None:
        """Append ``stretches``, each the next leaves of its tree, and return when they are on the disk.

        Raises :class:`LeafLogError`.
        """
        parts: list[bytes] = []
        last: dict[TreeId, tuple[int, bytes]] = {}
        for tree_id, start, hashes in stretches:
            assert start == (last[tree_id][0] if tree_id in last else self.size(tree_id))
            parts += _records(tree_id, start, hashes)
            last[tree_id] = (start + len(hashes) // HASH_BYTES, hashes[-HASH_BYTES:])
        try:
            if self._bytes >= FILE_BYTES:
                os.close(self._file)
                self._begin()
            self._write(parts)
        except OSError as error:
            raise self._failed(error) from None
        self._last |= last

    def close(self) -> None:
        """Close the file."""
        os.close(self._file)

    def _load(self, files: Sequence[Path]) -> int:
        """Read back from the newest file that was begun; gives how many bytes of the last one are no whole record."""
        torn = 0
        for at in reversed(range(len(files))):
            self._last.clear()
            is_begun = False
            for file in files[at:]:
                with file.open("rb") as opened:
                    end = 0
                    for record in _read(opened):
                        end = opened.tell()
                        is_begun |= record.tree_id == _BEGUN
                        if record.hashes:
                            size = record.start + len(record.hashes) // HASH_BYTES
                            self._last[record.tree_id] = (size, record.hashes[-HASH_BYTES:])
                    torn = file.stat().st_size - end
            if is_begun:
                break
        return torn

    def _begin(self) -> None:
        """Begin another file, with what the next writer has to know."""
        self._number += 1
        self._open(self.folder / f"{self._number:08}{SUFFIX}")
        parts = [part for tree_id, (size, leaf) in self._last.items() for part in _records(tree_id, size - 1, leaf)]
        self._write([*parts, *_records(_BEGUN, 0, b"")])

    def _open(self, file: Path) -> None:
        self._file = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o644)
        self._bytes = os.fstat(self._file).st_size

    def _write(self, parts: list[bytes]) -> None:
        data = memoryview(b"".join(parts))
        self._bytes += len(data)
        while data:
            data = data[os.write(self._file, data) :]
        os.fsync(self._file)

    def _failed(self, error: OSError) -> LeafLogError:
        return LeafLogError(f"cannot write {error.filename or self.folder}: {error.strerror}")


def kept_leaves(folder: Path, tree_id: TreeId, start: int, end: int) -> Iterator[list[bytes]]:
    """Leaves of a tree from ``start`` to before ``end``, some at a time, as far as the files in ``folder`` have them.

    Nothing is believed of them: see whether they give a signed root. Raises :class:`LeafLogError` for what cannot be read.
    """
    at = start
    try:
        for file in _files(folder):
            with file.open("rb") as opened:
                for record in _read(opened, tree_id):
                    hashes = [
                        record.hashes[place : place + HASH_BYTES] for place in range(0, len(record.hashes), HASH_BYTES)
                    ]
                    found = hashes[at - record.start : end - record.start] if record.start <= at else []
                    if found:
                        yield found
                        at += len(found)
                    if at >= end:
                        return
    except OSError as error:
        raise LeafLogError(f"cannot read {error.filename or folder}: {error.strerror}") from None


def _records(tree_id: TreeId, start: int, hashes: bytes) -> Iterator[bytes]:
    """The bytes of one or more records, in pieces."""
    tenant, width = tree_id[0].encode(), RECORD_LEAVES_MAX * HASH_BYTES
    for at in range(0, max(len(hashes), 1), width):
        part = hashes[at : at + width]
        head = _HEADER.pack(_MAGIC, len(tenant), tree_id[1], start + at // HASH_BYTES, len(part) // HASH_BYTES) + tenant
        yield head
        yield part
        yield _SUM.pack(crc32(part, crc32(head)))


def _read(file: BinaryIO, only: TreeId | None = None) -> Iterator[Stretch]:
    """The whole records of a file, or those of one tree; ends where one is not whole."""
    while len(head := file.read(_HEADER.size)) == _HEADER.size:
        magic, length, shard, start, count = _HEADER.unpack(head)
        tenant = file.read(length)
        if magic != _MAGIC or count > RECORD_LEAVES_MAX:
            return
        try:
            tree_id = (tenant.decode(), shard)
        except UnicodeDecodeError:
            return
        if only is not None and tree_id != only:
            file.seek(count * HASH_BYTES + _SUM.size, os.SEEK_CUR)
            continue
        hashes, told = file.read(count * HASH_BYTES), file.read(_SUM.size)
        if told != _SUM.pack(crc32(hashes, crc32(tenant, crc32(head)))):
            return
        yield Stretch(tree_id, start, hashes)


def _files(folder: Path) -> list[Path]:
    return sorted(file for file in folder.glob(f"*{SUFFIX}") if file.stem.isascii() and file.stem.isdigit())
