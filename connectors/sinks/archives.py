"""What the database says of files that its rows were moved to. Reading the files: :mod:`connectors.sinks.archive_files`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Container, Iterable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final

from connectors.proofs.trees import TreeId
from connectors.sinks.database import Archive, Database
from connectors.sinks.months import month_of, name_of_month

if TYPE_CHECKING:
    from connectors.sinks.archive_files import ArchivedRows

#: A message names no more files than this.
FILES_NAMED: Final = 3
#: What a command's message asks for.
NAME_FOLDER: Final = "name the folder with --archive DIR"
_FILE: Final = (
    "SELECT file FROM audit_archived_leaves WHERE tenant = ? AND shard = ? AND first_leaf <= ? AND last_leaf >= ?"
)
#: How many rows of a file are in the database still.
_STILL_HERE: Final = (
    "SELECT COUNT(*) FROM audit_archived_leaves l JOIN payment_events e ON e.tenant = l.tenant"
    ' AND e."partition" = l.shard AND e.leaf_index BETWEEN l.first_leaf AND l.last_leaf WHERE l.file = ?'
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


def in_months(from_ms: int, until_ms: int) -> Callable[[Archive], bool]:
    """Whether an archive may hold events of [from_ms, until_ms)."""
    first, last = (name_of_month(month_of(at_ms)) for at_ms in (from_ms, until_ms - 1))
    return lambda archive: first <= archive.month <= last


def in_files(files: Container[str]) -> Callable[[Archive], bool]:
    """Whether an archive is one of ``files``."""
    return lambda archive: archive.file in files


@contextmanager
def checked_rows(
    database: Database, folder: Path, tenant: str | None, wanted: Callable[[Archive], bool]
) -> Iterator[ArchivedRows]:
    """The archived rows of ``database`` in the files that are ``wanted``, of one tenant or of all. Before a file is read, its
    SHA-256 must be the listed one. Raises :class:`ArchiveFileError`.
    """
    # Imported only here: reading Parquet takes a moment to load.
    from connectors.sinks.archive_files import ArchivedRows

    with closing(ArchivedRows(database, folder, tenant, wanted=wanted, is_checked=True)) as archived:
        yield archived


def archived_leaves(database: Database, tenant: str, payment_id: str) -> list[tuple[int, int]]:
    """Shard and leaf of each event of the payment whose row is in a file, and no longer in the database."""
    return sorted((shard, leaf) for shard, leaf in database.query(database.archived_of, (tenant, payment_id)))


def files_of(database: Database, tenant: str, leaves: Iterable[tuple[int, int]]) -> dict[str, int]:
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


def not_here(database: Database, tenant: str, from_ms: int, until_ms: int, then: str = NAME_FOLDER) -> str:
    """A sentence that says which events of the months of [from_ms, until_ms), of one tenant or (empty) of all, are archived,
    and what to do ``then``; empty: none are.
    """
    found = list(filter(in_months(from_ms, until_ms), archives_of(database, tenant or None)))
    # An archiving that did not end leaves rows here.
    gone = {each: each.events - (0 if each.is_removed else _still_here(database, each.file)) for each in found}
    archives = [archive for archive, events in gone.items() if events]
    if not archives:
        return ""
    months = sorted({archive.month for archive in archives})
    return (
        f"{sum(gone.values()):,} events of {months[0]}{f' to {months[-1]}' if len(months) > 1 else ''} are archived and not"
        f" counted: they are in {_named([archive.file for archive in archives])}; {then}."
    )


def asks_not_here(files: dict[str, int], then: str = NAME_FOLDER) -> str:
    """A sentence that says how many asks are not counted because their intents are in ``files``; empty: none."""
    if not files:
        return ""
    asks = sum(files.values())
    return (
        f"{asks:,} {'ask is' if asks == 1 else 'asks are'} not counted: the intents are archived, in {_named(list(files))};"
        f" {then}."
    )


def _still_here(database: Database, file: str) -> int:
    return int(database.query(_STILL_HERE, (file,))[0][0])


def _named(files: list[str]) -> str:
    others = f" and {len(files) - FILES_NAMED} other files" if len(files) > FILES_NAMED else ""
    return ", ".join(files[:FILES_NAMED]) + others


def must_be_named(database: Database, tenant: str | None = None) -> None:
    """Raise :class:`ArchiveFileError` when rows, of one tenant or of any, are in files and nobody said where these are."""
    if archives := archives_of(database, tenant):
        one, events = archives[0], sum(archive.events for archive in archives)
        others = f" and {len(archives) - 1} other files" if len(archives) > 1 else ""
        raise ArchiveFileError(
            f"{events:,} events of {database.shown} are archived, in {one.file} ({one.tenant or 'no tenant'}, {one.month})"
            f"{others}: {NAME_FOLDER}"
        )


def whose(tree_id: TreeId) -> str:
    """A tree, in words."""
    return f"{tree_id[0] or 'no tenant'}, shard {tree_id[1]}"
