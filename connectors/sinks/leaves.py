"""The trees of an audit database: how both kinds of database store them, and bring earlier rows into them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from typing import Any

from connectors.proofs.appending import Forest, Growth, TreeRun, leaf_of, trees_of
from connectors.proofs.trees import TreeDamagedError, TreeId
from connectors.sinks.database import Database, DatabaseBusyError, DatabaseError

#: Parameters are written ``?``, as in :meth:`Database.query`.
TREE = "SELECT size, open_tiles FROM audit_trees WHERE tenant = ? AND shard = ?"
FIRST_TREE = (
    "INSERT INTO audit_trees (size, open_tiles, tenant, shard) VALUES (?, ?, ?, ?)"
    " ON CONFLICT (tenant, shard) DO NOTHING"
)
NEXT_TREE = "UPDATE audit_trees SET size = ?, open_tiles = ? WHERE tenant = ? AND shard = ? AND size = ?"
TILES = (
    "SELECT number, hashes FROM audit_tiles WHERE tenant = ? AND shard = ? AND level = ? AND number >= ? AND number < ?"
)
TILE = "INSERT INTO audit_tiles (tenant, shard, level, number, hashes) VALUES (?, ?, ?, ?, ?)"
HEAD = (
    "INSERT INTO audit_heads (tenant, shard, size, note) VALUES (?, ?, ?, ?)"
    " ON CONFLICT (tenant, shard) DO UPDATE SET size = excluded.size, note = excluded.note"
)
#: Whether there are rows of before there were trees. Later ones without a leaf are somebody else's, and told by a check.
EARLIER = (
    "SELECT EXISTS (SELECT * FROM payment_events WHERE leaf_index IS NULL) AND NOT EXISTS (SELECT * FROM audit_trees)"
)
#: Rows of before there were trees that are brought into them at a time.
EARLIER_ROWS = 5_000


def forest_of(database: Database) -> Forest:
    """The trees of ``database``. Raises :class:`DatabaseError` when what is stored of a tree is damaged."""

    def load(tree_id: TreeId) -> tuple[int, bytes] | None:
        found = database.query(TREE, tree_id)
        return (found[0][0], found[0][1]) if found else None

    return Forest(load)


def store_growth(growth: Growth, change: Callable[[str, tuple[object, ...]], int], shown: str) -> None:
    """Store what ``growth`` changes with ``change``, which gives how many rows a statement wrote; tiles are left out.

    Raises :class:`DatabaseBusyError` when a stored tree is not the one that grew.
    """
    for (tenant, shard), (before, tree) in growth.trees.items():
        values: tuple[object, ...] = (tree.size, tree.stored(), tenant, shard)
        changed = change(FIRST_TREE, values) if before is None else change(NEXT_TREE, (*values, before))
        if changed != 1:
            raise DatabaseBusyError(
                f"{shown}: the tree of {tenant or 'no tenant'}, shard {shard} is not {before or 0} leaves as this sink left"
                " it: another sink writes to this database. Stop the other one; this one wrote nothing of this batch."
            )


def grown(forest: Forest, trees: Sequence[TreeRun], hashes: Sequence[bytes], shown: str) -> Growth:
    """:meth:`Forest.grown_by`, its errors in words."""
    try:
        return forest.grown_by(trees, hashes)
    except TreeDamagedError as error:
        raise DatabaseError(f"{shown}: {error}: was it changed? See `ptr audit verify`") from None


def grown_by_rows(forest: Forest, rows: Sequence[tuple[Any, ...]], shown: str) -> Growth:
    """The same, by rows whose leaves are not hashed yet."""
    return grown(forest, trees_of(rows), [leaf_of(row) for row in rows], shown)


def in_parts(rows: Iterator[tuple[Any, ...]]) -> Iterator[list[tuple[Any, ...]]]:
    """``rows``, some at a time."""
    while part := list(islice(rows, EARLIER_ROWS)):
        yield part
