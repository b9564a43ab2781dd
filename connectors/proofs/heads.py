"""Heads that leave the database: signed, and appended to a file that can be kept elsewhere."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from itertools import pairwise
from pathlib import Path

from connectors.proofs.keys import is_signature
from connectors.proofs.verifier import Head, ProofError, PublicKey, split_notes

_DASH = "\N{EM DASH} ".encode()
#: More than a note takes: what a torn write can leave is looked for in so much of the file's end.
_TAIL_BYTES = 64 * 1024


class HeadsFileError(Exception):
    """The file of heads cannot be used; the text names it."""


class HeadsFile:
    """A file of signed heads, each ended by an empty line. It is only appended to."""

    def __init__(self, path: Path, say: Callable[[str], None] = lambda line: None) -> None:
        """Open ``path``, or make it. What a loss of power left of a last head is cut off, and told with ``say``.

        Raises :class:`HeadsFileError`.
        """
        self._path = path
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o644)
            size = os.fstat(self._file).st_size
            tail = os.pread(self._file, _TAIL_BYTES, max(size - _TAIL_BYTES, 0))
            torn = len(tail) - _end_of_notes(tail)
            if torn:
                say(f"{path} ended in the middle of a head: its last {torn} bytes are cut off")
                os.ftruncate(self._file, size - torn)
        except OSError as error:
            raise HeadsFileError(f"cannot write {path}: {error.strerror}") from None

    def append(self, notes: Iterable[str]) -> None:
        """Append ``notes``, and return when they are on the disk. Raises :class:`HeadsFileError`."""
        data = memoryview("".join(f"{note}\n" for note in notes).encode())
        try:
            while data:
                data = data[os.write(self._file, data) :]
            os.fsync(self._file)
        except OSError as error:
            raise HeadsFileError(f"cannot write {self._path}: {error.strerror}") from None

    def close(self) -> None:
        """Close the file."""
        os.close(self._file)


def _end_of_notes(tail: bytes) -> int:
    """Where the last whole head ends in the end of a file."""
    at = len(tail)
    while (at := tail.rfind(b"\n\n", 0, at)) >= 0:
        if tail[:at].rpartition(b"\n")[2].startswith(_DASH):
            return at + 2
    return 0


def read_heads(path: Path, key: PublicKey, *, of_tree_max: int | None = None) -> list[Head]:
    """The heads in the file ``path``, each signed by ``key``, in the order of their sizes; of equal ones the first.

    With ``of_tree_max`` no more of one tree: the newest, and others from the first on at equal distances; of what is left out
    nothing is checked but that no head contradicts another, for a signature takes as long as a few rows. Raises
    :class:`HeadsFileError` for a file that is cut or no file of heads, and for one signed by another key, or with two roots for
    one size of a tree.
    """
    try:
        notes: Iterable[str] = dict.fromkeys(split_notes(path.read_text()))
        if of_tree_max is not None:
            notes = _spread(notes, of_tree_max)
        heads = {key.open(note, is_signature) for note in notes}
    except (OSError, UnicodeDecodeError) as error:
        raise HeadsFileError(f"cannot read {path}: {getattr(error, 'strerror', None) or 'it is no text'}") from None
    except ProofError as error:
        raise HeadsFileError(f"{path}: {error}") from None
    if not heads:
        raise HeadsFileError(f"{path} holds no head")
    ordered = sorted(heads)
    for one, other in pairwise(ordered):
        if one[:2] == other[:2]:
            raise HeadsFileError(f"{path}: two heads of {one.origin} at {one.size} differ: the log was told twice")
    return ordered


def _spread(notes: Iterable[str], of_tree_max: int) -> Iterator[str]:
    """Of each tree so many notes, the first and the last among them; and all that contradict each other."""
    of_trees: dict[str, list[tuple[int, str, str]]] = {}
    for note in notes:
        origin, size, root = [*note.split("\n", 3), "", ""][:3]
        of_trees.setdefault(origin, []).append((int(size) if size.isdecimal() else -1, root, note))
    for found in of_trees.values():
        found.sort()
        last = len(found) - 1
        chosen = set(range(last + 1))
        if last >= of_tree_max:
            chosen = {place * last // (of_tree_max - 1) for place in range(of_tree_max)}
        for at, (one, other) in enumerate(pairwise(found)):
            if one[0] == other[0] and one[1] != other[1]:
                chosen |= {at, at + 1}
        yield from (found[at][2] for at in sorted(chosen))
