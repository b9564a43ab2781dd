"""Proofs from an audit database: a payment's rows under a signed head, and that a tree only grew since a head."""

from __future__ import annotations

import base64
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from connectors.proofs.appending import leaf_of
from connectors.proofs.trees import Prover, Tree, TreeDamagedError, TreeId
from connectors.proofs.verifier import (
    AVRO,
    BUNDLE_FORMAT,
    COLUMNS,
    SHARD,
    TENANT,
    Head,
    ProofError,
    parse_note,
    tree_of,
    verify_consistency,
    verify_inclusion,
)
from connectors.sinks.archives import NAME_FOLDER, ArchiveFileError, archived_leaves, files_of, in_words
from connectors.sinks.database import Database
from connectors.sinks.leaves import TREE

if TYPE_CHECKING:
    from connectors.sinks.archive_files import ArchivedRows

#: Where the leaf is in a row that has one.
LEAF = len(COLUMNS)
_STORY = [COLUMNS.index(name) for name in ("sequence", "recorded_at_ms", "topic", "partition", "offset")]
_TILE = "SELECT hashes FROM audit_tiles WHERE tenant = ? AND shard = ? AND level = ? AND number = ?"
_HEAD = "SELECT note FROM audit_heads WHERE tenant = ? AND shard = ?"


class UnprovenError(Exception):
    """Something cannot be proven; the text says what and why."""


class UnknownPaymentError(UnprovenError):
    """The audit tables hold no row of the payment."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Growth:
    """That the tree of ``old`` grew to that of ``new``: the proof of RFC 6962, hashes in base64."""

    origin: str
    old_size: int
    old_root: str
    size: int
    root: str
    proof: list[str]


def signed_heads(database: Database, tenant: str | None = None) -> list[str]:
    """The last signed head of each tree, or of each of ``tenant``, as notes."""
    condition, values = ("", ()) if tenant is None else (" WHERE tenant = ?", (tenant,))
    rows = database.query(f"SELECT note FROM audit_heads{condition} ORDER BY tenant, shard", values)  # noqa: S608
    return [note for (note,) in rows]


def rows_of(
    database: Database, tenant: str, payment_id: str, archived: ArchivedRows | None = None
) -> list[tuple[Any, ...]]:
    """Every row of the payment, in the order of its story: its columns, and its leaf.

    Raises :class:`~connectors.sinks.archives.ArchiveFileError` when rows are in files and ``archived`` is None, or a file
    cannot be read.
    """
    rows, elsewhere = rows_here(database, tenant, payment_id)
    if elsewhere:
        if archived is None:
            files = in_words(files_of(database, tenant, elsewhere))
            raise ArchiveFileError(f"payment {payment_id} of {tenant} is {files}: {NAME_FOLDER}")
        rows += [archived.row((tenant, shard), leaf) for shard, leaf in elsewhere]
    return sorted(rows, key=place_in_story)


def rows_here(database: Database, tenant: str, payment_id: str) -> tuple[list[tuple[Any, ...]], list[tuple[int, int]]]:
    """The payment's rows in the database, their columns and leaf, in no order; and shard and leaf of those that are not."""
    rows = database.query(
        f"SELECT {database.stored_columns}, leaf_index FROM payment_events e WHERE {database.events_of('e')}",  # noqa: S608
        (tenant, payment_id),
    )
    # A row that was moved between the two queries is in both.
    here = {(row[SHARD], row[LEAF]) for row in rows}
    return rows, [place for place in archived_leaves(database, tenant, payment_id) if place not in here]


def place_in_story(row: tuple[Any, ...]) -> tuple[Any, ...]:
    """What the rows of a payment are ordered by."""
    return tuple(row[at] for at in _STORY)


def bundle_of(database: Database, tenant: str, payment_id: str, archived: ArchivedRows | None = None) -> dict[str, Any]:
    """Every row of the payment with its proof: what the verifier takes, as JSON.

    Raises :class:`UnknownPaymentError`, and :class:`UnprovenError` when a row is under no signed head yet, or rows and tree
    do not agree; and as :func:`rows_of`.
    """
    rows = rows_of(database, tenant, payment_id, archived)
    if not rows:
        raise UnknownPaymentError(f"{database.shown} holds no event of payment {payment_id} of {tenant}")
    shards = sorted({row[SHARD] for row in rows})
    notes = {shard: _note(database, (tenant, shard)) for shard in shards}
    heads = {shard: parse_note(note)[0] for shard, note in notes.items()}
    provers = {shard: prover_of(database, (tenant, shard)) for shard in shards}
    items = [_item(row, heads[row[SHARD]], provers[row[SHARD]], shards.index(row[SHARD])) for row in rows]
    return {
        "format": BUNDLE_FORMAT,
        "tenant": tenant,
        "payment_id": payment_id,
        "columns": COLUMNS,
        "heads": [notes[shard] for shard in shards],
        "rows": items,
    }


def _item(row: tuple[Any, ...], head: Head, prover: Prover, head_number: int) -> dict[str, Any]:
    columns, leaf = list(row[:LEAF]), row[LEAF]
    if leaf is None or leaf >= head.size:
        raise UnprovenError(
            f"rows of this payment are newer than the last signed head of {head.origin}, at {head.size}: is `ptr audit-sink`"
            " running with its key? It signs every few seconds"
        )
    try:
        proof = prover.inclusion(leaf, head.size)
        verify_inclusion(leaf, head.size, leaf_of(columns), proof, head.root)
    except (ProofError, TreeDamagedError, TypeError, ValueError) as error:
        raise UnprovenError(
            f"rows and tree of {columns[TENANT] or 'no tenant'} do not agree ({error}): something was changed. `ptr audit"
            " verify --database` tells what"
        ) from None
    if columns[AVRO] is not None:
        columns[AVRO] = base64.b64encode(columns[AVRO]).decode()
    return {"head": head_number, "leaf_index": leaf, "proof": [_text(step) for step in proof], "row": columns}


def growth_of(database: Database, old: Head, new: Head) -> Growth:
    """The proof that the tree of ``old`` became that of ``new`` by appending only. Raises :class:`UnprovenError`."""
    if new.size < old.size:
        raise UnprovenError(
            f"{old.origin}: the old head is at {old.size}, the new one at {new.size}: it is from the future"
        )
    prover = prover_of(database, tree_of(old.origin))
    if prover.size < new.size:
        raise UnprovenError(
            f"{old.origin}: the head at {new.size} is from the future: {database.shown} holds {prover.size} rows of it"
        )
    try:
        proof = prover.consistency(old.size, new.size)
        verify_consistency(old.size, new.size, old.root, new.root, proof)
    except (ProofError, TreeDamagedError) as error:
        raise UnprovenError(f"{old.origin}: {error}: the log was rewritten between the two heads") from None
    return Growth(
        origin=old.origin,
        old_size=old.size,
        old_root=_text(old.root),
        size=new.size,
        root=_text(new.root),
        proof=[_text(step) for step in proof],
    )


def prover_of(database: Database, tree_id: TreeId) -> Prover:
    """Proofs from the tree tables of ``database``. Raises :class:`UnprovenError` when they are damaged."""

    def read_tile(level: int, number: int) -> bytes:
        found = database.query(_TILE, (*tree_id, level, number))
        if not found:
            raise TreeDamagedError(f"tile {number} of level {level} is missing")
        return bytes(found[0][0])

    found = database.query(TREE, tree_id)
    try:
        return Prover(Tree.load(*found[0]) if found else Tree(), read_tile)
    except TreeDamagedError as error:
        raise UnprovenError(f"{database.shown}: {error}: was it changed?") from None


def _note(database: Database, tree_id: TreeId) -> str:
    found = database.query(_HEAD, tree_id)
    if not found:
        raise UnprovenError(
            f"{database.shown} holds no signed head of {tree_id[0] or 'no tenant'}, shard {tree_id[1]}: run `ptr audit-sink`"
            " with PTR_AUDIT_KEY_FILE (see `ptr audit keygen`)"
        )
    return str(found[0][0])


def _text(value: bytes) -> str:
    return base64.b64encode(value).decode()
