"""What the database says of files that its rows were moved to. Reading the files: :mod:`connectors.sinks.archive_files`."""

from __future__ import annotations

from collections import Counter
from typing import Final

from connectors.proofs.trees import TreeId
from connectors.sinks.database import Archive, Database
from connectors.sinks.months import month_of, name_of_month

#: A message names no more files than this.
FILES_NAMED: Final = 3
_FILE: Final = (
    "SELECT file FROM audit_archived_leaves WHERE tenant = ? AND shard = ? AND first_leaf <= ? AND last_leaf >= ?"
)


class ArchiveFileError(Exception):
    """A file of archived rows cannot be written or used; the text names it and says what to do."""


def archives_of(database: Database, tenant: str | None = None) -> list[Archive]:
    """What ``audit_archives`` lists, of one tenant or of all, month by month."""
    condition, values = ("", ()) if tenant is None else (" WHERE tenant = ?", (tenant,))
    rows = database.query(
        f"SELECT file, sha256, tenant, month, events, is_removed FROM audit_archives{condition} ORDER BY month, file",  # noqa: S608
        values,
    )
    return [Archive(*row) for row in rows]


def archived_leaves(database: Database, tenant: str, payment_id: str) -> list[tuple[int, int]]:
    """Shard and leaf of each event of the payment whose row is in a file, and no longer in the database."""
    return sorted((shard, leaf) for shard, leaf in database.query(database.archived_of, (tenant, payment_id)))


def files_of(database: Database, tenant: str, leaves: list[tuple[int, int]]) -> dict[str, int]:
    """How many of ``leaves``, as shard and leaf, are in which file."""
    found: Counter[str] = Counter()
    for shard, leaf in leaves:
        found.update(file for (file,) in database.query(_FILE, (tenant, shard, leaf, leaf)))
    return dict(sorted(found.items()))


def in_words(files: dict[str, int]) -> str:
    """``archived: 3 events in acme/2026-01.parquet, 1 in acme/2026-02.parquet``."""
    first, *others = [(f"{events:,}", f"in {file}") for file, events in files.items()]
    noun = "event" if first[0] == "1" else "events"
    return ", ".join([f"archived: {first[0]} {noun} {first[1]}", *(" ".join(other) for other in others)])


def not_here(database: Database, tenant: str, from_ms: int, until_ms: int) -> str:
    """A sentence that says which events of [from_ms, until_ms), of one tenant or (empty) of all, are archived; empty: none."""
    first, last = (name_of_month(month_of(at_ms)) for at_ms in (from_ms, until_ms - 1))
    archives = [archive for archive in archives_of(database, tenant or None) if first <= archive.month <= last]
    if not archives:
        return ""
    named = ", ".join(archive.file for archive in archives[:FILES_NAMED])
    others = f" and {len(archives) - FILES_NAMED} other files" if len(archives) > FILES_NAMED else ""
    months = sorted({archive.month for archive in archives})
    return (
        f"{sum(archive.events for archive in archives):,} events of {months[0]}"
        f"{f' to {months[-1]}' if len(months) > 1 else ''} are archived and not counted: they are in {named}{others}."
    )


def must_be_named(database: Database, tenant: str | None = None) -> None:
    """Raise :class:`ArchiveFileError` when rows, of one tenant or of any, are in files and nobody said where these are."""
    if archives := archives_of(database, tenant):
        one, events = archives[0], sum(archive.events for archive in archives)
        others = f" and {len(archives) - 1} other files" if len(archives) > 1 else ""
        raise ArchiveFileError(
            f"{events:,} events of {database.shown} are archived, in {one.file} ({one.tenant or 'no tenant'}, {one.month})"
            f"{others}: name the folder with --archive DIR"
        )


def whose(tree_id: TreeId) -> str:
    """A tree, in words."""
    return f"{tree_id[0] or 'no tenant'}, shard {tree_id[1]}"
