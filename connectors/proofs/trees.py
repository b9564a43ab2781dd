"""A growing Merkle tree (RFC 6962) in tiles: what an append needs, and proofs from what is stored.

A tile holds :data:`TILE_WIDTH` hashes. Those of level 0 are leaves; those of level n are the roots of whole tiles of level
n - 1. A whole tile never changes: it is inserted, and no more. What is not whole yet, one *open* tile a level, is in the
tree's row. So an append of any number of leaves writes one row, and a row a whole tile.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from hashlib import sha256

from connectors.proofs.verifier import EMPTY_ROOT, HASH_BYTES, node_hash

TILE_HEIGHT = 6
#: Small enough that a tree's row is: 2 KiB a level at most.
TILE_WIDTH = 1 << TILE_HEIGHT
TILE_BYTES = TILE_WIDTH * HASH_BYTES

#: Tree by tenant and shard.
TreeId = tuple[str, int]
#: Gives a whole tile by level and number.
ReadTile = Callable[[int, int], bytes]


class TreeDamagedError(Exception):
    """What is stored of a tree cannot be: the text says what."""


@dataclass(slots=True)
class Tree:
    """A tree that grows: its size, and the hashes of its open tiles, level 0 first."""

    size: int = 0
    open: list[list[bytes]] = field(default_factory=list)

    @classmethod
    def load(cls, size: int, stored: bytes) -> Tree:
        """The tree whose row says this. Raises :class:`TreeDamagedError`."""
        tree, at, whole = cls(size), 0, size
        while whole:
            whole, width = divmod(whole, TILE_WIDTH)
            tree.open.append([stored[at + HASH_BYTES * i : at + HASH_BYTES * (i + 1)] for i in range(width)])
            at += HASH_BYTES * width
        if at != len(stored):
            raise TreeDamagedError(f"the open tiles of a tree of {size} leaves are {len(stored)} bytes, not {at}")
        return tree

    def stored(self) -> bytes:
        """The open tiles, for :meth:`load`."""
        return b"".join(b"".join(level) for level in self.open)

    def copy(self) -> Tree:
        """Another tree of the same leaves."""
        return Tree(self.size, [list(level) for level in self.open])

    def append(self, leaves: Sequence[bytes]) -> list[tuple[int, int, bytes]]:
        """Append hashes of leaves; gives the tiles that became whole: level, number, hashes."""
        whole: list[tuple[int, int, bytes]] = []
        self._append(0, self.size, leaves, whole)
        self.size += len(leaves)
        return whole

    def _append(self, level: int, before: int, hashes: Sequence[bytes], whole: list[tuple[int, int, bytes]]) -> None:
        """``before``: how many hashes of this level there were, those in whole tiles too."""
        if level == len(self.open):
            self.open.append([])
        tile, number = [*self.open[level], *hashes], before // TILE_WIDTH
        roots: list[bytes] = []
        for start in range(0, len(tile) - TILE_WIDTH + 1, TILE_WIDTH):
            part = tile[start : start + TILE_WIDTH]
            whole.append((level, number + len(roots), b"".join(part)))
            roots.append(subtree_root(part))
        self.open[level] = tile[len(roots) * TILE_WIDTH :]
        if roots:
            self._append(level + 1, number, roots, whole)

    def root(self, more: Sequence[bytes] = ()) -> bytes:
        """The root, with ``more`` leaves as if they were appended."""
        if more:
            tree = self.copy()
            tree.append(more)
            return tree.root()
        if not self.size:
            return EMPTY_ROOT
        subtrees = []
        for level in reversed(self.open):
            start = 0
            for bit in reversed(range(TILE_HEIGHT)):
                if len(level) >> bit & 1:
                    subtrees.append(subtree_root(level[start : start + (1 << bit)]))
                    start += 1 << bit
        root = subtrees.pop()
        while subtrees:
            root = node_hash(subtrees.pop(), root)
        return root


def subtree_root(hashes: Sequence[bytes]) -> bytes:
    """The root over a power of two hashes."""
    while len(hashes) > 1:
        hashes = [
            sha256(b"\x01" + left + right).digest() for left, right in zip(hashes[::2], hashes[1::2], strict=True)
        ]
    return hashes[0]


class Prover:
    """Makes proofs about the first ``n`` leaves of ``tree``, for any ``n`` up to its size."""

    def __init__(self, tree: Tree, read_tile: ReadTile) -> None:
        self._tree = tree
        self._read_tile = read_tile
        self._tiles: dict[tuple[int, int], list[bytes]] = {}

    @property
    def size(self) -> int:
        """How many leaves the tree has."""
        return self._tree.size

    def inclusion(self, index: int, size: int) -> list[bytes]:
        """The proof that leaf ``index`` is among the first ``size``; RFC 6962, 2.1.1."""
        assert 0 <= index < size <= self._tree.size
        proof: list[bytes] = []
        start, end = 0, size
        while end - start > 1:
            middle = start + _split(end - start)
            if index < middle:
                proof.append(self.root(middle, end))
                end = middle
            else:
                proof.append(self.root(start, middle))
                start = middle
        return proof[::-1]

    def consistency(self, old_size: int, size: int) -> list[bytes]:
        """The proof that the first ``old_size`` leaves are the first of the first ``size``; RFC 6962, 2.1.2."""
        assert 0 < old_size <= size <= self._tree.size
        proof: list[bytes] = []
        start, end = 0, size
        while old_size != end:
            middle = start + _split(end - start)
            if old_size <= middle:
                proof.append(self.root(middle, end))
                end = middle
            else:
                proof.append(self.root(start, middle))
                start = middle
        if start:
            proof.append(self.root(start, end))
        return proof[::-1]

    def root(self, start: int, end: int) -> bytes:
        """The root over the leaves from ``start`` to before ``end``, which are a subtree of RFC 6962."""
        size = end - start
        if size & (size - 1) == 0:
            return self._whole(size.bit_length() - 1, start)
        middle = start + _split(size)
        return node_hash(self.root(start, middle), self.root(middle, end))

    def _whole(self, height: int, start: int) -> bytes:
        """The root of 2 ** ``height`` leaves from ``start``."""
        level, bit = divmod(height, TILE_HEIGHT)
        number, at = divmod(start >> level * TILE_HEIGHT, TILE_WIDTH)
        tile = self._tiles.get((level, number))
        if tile is None:
            tile = self._tiles[level, number] = self._tile(level, number)
        return subtree_root(tile[at : at + (1 << bit)])

    def _tile(self, level: int, number: int) -> list[bytes]:
        if number == self._tree.size >> (level + 1) * TILE_HEIGHT:
            return self._tree.open[level]
        return hashes_of(self._read_tile(level, number))


def hashes_of(tile: bytes) -> list[bytes]:
    """The hashes of a whole tile. Raises :class:`TreeDamagedError`."""
    if len(tile) != TILE_BYTES:
        raise TreeDamagedError(f"a tile is {len(tile)} bytes, not {TILE_BYTES}")
    return [tile[at : at + HASH_BYTES] for at in range(0, TILE_BYTES, HASH_BYTES)]


def _split(size: int) -> int:
    """The largest power of two below ``size``."""
    return 1 << (size - 1).bit_length() - 1
