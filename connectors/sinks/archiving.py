"""Moves past months of audit rows into files, and never loses one: a row is in the database until a file that holds it was
read back and found to be under a signed head. Killed anywhere, the next run does the rest.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import date
from itertools import count, groupby
from pathlib import Path
from typing import Final

from connectors.proofs.appending import leaf_of
from connectors.proofs.trees import TILE_WIDTH, Prover, TreeDamagedError, TreeId
from connectors.proofs.verifier import SHARD, TENANT, Head, ProofError, PublicKey, tree_of, verify_inclusion
from connectors.sinks.archive_files import (
    LEAF,
    ArchiveFile,
    ArchiveWriter,
    DamagedRowsError,
    Row,
    name_of_file,
    runs_of,
)
from connectors.sinks.archives import ArchiveFileError, archives_of, whose
from connectors.sinks.database import STREAM_ROWS, Archive, ArchivedLeaves, Database
from connectors.sinks.months import DAY_MS, first_ms, month_of, name_of_month, next_month
from connectors.sinks.proving import UnprovenError, prover_of
from connectors.sinks.verifying import name_of
from pipeline.stages import inventory, invoices

#: What stays: rows of no payment, which say what rules and controls were in force, and those of payments that go on. Goods and
#: invoices of no payment go: they may be as many as payments. Rows without a time are of no month.
_GOES: Final = (
    f"e.leaf_index IS NOT NULL AND (e.payment_id <> '' OR e.stage IN ('{inventory.NAME}', '{invoices.NAME}'))"  # noqa: S608
    " AND NOT EXISTS (SELECT 1 FROM payments p WHERE p.tenant = e.tenant AND p.payment_id = e.payment_id AND p.outcome IS NULL)"
    " AND e.recorded_at_ms >= ? AND e.recorded_at_ms < ?"
)
_PLAN: Final = (
    'SELECT e.tenant, e."partition", e.recorded_at_ms / ?, COUNT(*), MIN(e.leaf_index), MAX(e.leaf_index)'  # noqa: S608
    f" FROM payment_events e WHERE {_GOES}{{}} GROUP BY 1, 2, 3"
)
_ROWS: Final = (
    "SELECT {}, leaf_index FROM payment_events e"  # noqa: S608
    f' WHERE e.tenant = ? AND e."partition" = ? AND e.leaf_index BETWEEN ? AND ? AND {_GOES} ORDER BY e.leaf_index LIMIT ?'
)


@dataclass(slots=True)
class Part:
    """Rows of one tenant and month that can go into a file."""

    month: date
    tenant: str
    events: int = 0
    #: By shard, the first and the last leaf; others may be between.
    shards: dict[int, tuple[int, int]] = field(default_factory=dict)


@dataclass(slots=True)
class Progress:
    """What is done of an archiving."""

    written: int = 0
    verified: int = 0
    removed: int = 0
    archives: list[Archive] = field(default_factory=list)


def plan(database: Database, before: date, tenant: str | None = None) -> list[Part]:
    """What can be archived of the months before ``before``, month by month. Reads all rows of these months."""
    condition, values = ("", ()) if tenant is None else (" AND e.tenant = ?", (tenant,))
    parts: dict[tuple[date, str], Part] = {}
    rows = database.query(_PLAN.format(condition), (DAY_MS, 0, first_ms(before), *values))
    for name, shard, day, events, first, last in rows:
        month = month_of(day * DAY_MS)
        part = parts.setdefault((month, name), Part(month, name))
        part.events += events
        known = part.shards.get(shard, (first, last))
        part.shards[shard] = (min(first, known[0]), max(last, known[1]))
    return [parts[key] for key in sorted(parts)]


class Archiving:
    """Archives months of ``database``, opened by the tables' owner and locked for it, into files under ``folder``.

    ``heads``: signed by ``key``; of each tree the largest counts. ``said``
    comes after each step. Everything raises :class:`ArchiveFileError`, ``DatabaseError``, :class:`UnprovenError` or OSError.
    """

    def __init__(
        self,
        database: Database,
        folder: Path,
        key: PublicKey,
        heads: Sequence[Head],
        said: Callable[[Progress], None] = lambda progress: None,
    ) -> None:
        self._database = database
        self._folder = folder
        self._key = key
        self._heads: dict[TreeId, Head] = {}
        for head in heads:
            known = self._heads.get(tree_of(head.origin))
            if known is None or known.size < head.size:
                self._heads[tree_of(head.origin)] = head
        self._said = said
        self.progress = Progress()

    def finish(self) -> None:
        """Do what an earlier run left: its files are whole, and its rows are still, or partly, in the database."""
        pending = [archive for archive in archives_of(self._database) if not archive.is_removed]
        for _, archives in groupby(pending, key=lambda archive: archive.month):
            of_month = list(archives)
            for archive in of_month:
                path = self._folder / archive.file
                if not path.is_file():
                    raise ArchiveFileError(
                        f"an earlier run wrote {archive.file} and did not end: it is not in {self._folder}. Name the folder"
                        " where it is; its rows are in it or in the database"
                    )
                if _sha256(path) != archive.sha256:
                    raise ArchiveFileError(
                        f"{path} is not as an earlier run, which did not end, wrote it: bring it back from a copy"
                    )
            self._remove(of_month)

    def month(self, parts: Sequence[Part]) -> None:
        """Write, check and remove ``parts``, all of one month."""
        archives: list[Archive] = []
        leaves: dict[str, list[ArchivedLeaves]] = {}
        for part in parts:
            archive, runs = self._write(part)
            archives.append(archive)
            leaves[archive.file] = runs
        self._database.write_archives(archives, leaves)
        self._remove(archives)

    def _remove(self, archives: Sequence[Archive]) -> None:
        def removed(rows: int) -> None:
            self.progress.removed += rows
            self._said(self.progress)

        self._database.remove_archived(archives, removed)
        self.progress.archives += archives

    def _write(self, part: Part) -> tuple[Archive, list[ArchivedLeaves]]:
        """A whole file of ``part``, under its name, on the disk, and checked."""
        month = name_of_month(part.month)
        name = self._free_name(part.tenant, month)
        path = self._folder / name
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        unfinished = path.with_name(path.name + ".part")
        unfinished.unlink(missing_ok=True)
        try:
            self._write_rows(part, unfinished)
            runs, events = self._check(unfinished, name, part)
            archive = Archive(name, _sha256(unfinished), part.tenant, month, events)
            unfinished.replace(path)
        except BaseException:
            with suppress(OSError):
                unfinished.unlink(missing_ok=True)
            raise
        for folder in (path.parent, self._folder, self._folder.absolute().parent):
            _sync(folder)
        return archive, runs

    def _free_name(self, tenant: str, month: str) -> str:
        taken = {archive.file for archive in archives_of(self._database, tenant)}
        name = next(name for number in count(1) if (name := name_of_file(tenant, month, number)) not in taken)
        path = self._folder / name
        if path.exists():
            # A run that did not end wrote it, and all its rows are still here; or it is somebody else's.
            about = ArchiveFile(path, str(path)).about
            if (about.get("key"), about.get("tenant"), about.get("month")) != (str(self._key), tenant, month):
                raise ArchiveFileError(
                    f"{path} is there already, and is of another database ({about.get('key')}): name another folder"
                )
        return name

    def _write_rows(self, part: Part, path: Path) -> None:
        month, key = name_of_month(part.month), str(self._key)
        writer = ArchiveWriter(path, {"tenant": part.tenant, "month": month, "key": key})
        try:
            for row in self._rows_of(part):
                try:
                    writer.add(row)
                except (TypeError, ValueError):
                    raise UnprovenError(
                        f"a row holds what no row holds ({name_of(row)}): it was changed, and nothing is archived."
                        " `ptr audit verify --database` tells more"
                    ) from None
                self.progress.written += 1
                if not self.progress.written % TILE_WIDTH:
                    self._said(self.progress)
            writer.close()
        except BaseException:
            writer.abandon()
            raise

    def _rows_of(self, part: Part) -> Iterator[Row]:
        """A page a query: a statement that lasts as long as the month keeps old versions of pages and rows alive."""
        sql = _ROWS.format(self._database.stored_columns)
        from_ms, until_ms = first_ms(part.month), first_ms(next_month(part.month))
        for shard, (first, last) in sorted(part.shards.items()):
            while rows := self._database.query(sql, (part.tenant, shard, first, last, from_ms, until_ms, STREAM_ROWS)):
                yield from rows
                first = rows[-1][LEAF] + 1

    def _check(self, path: Path, name: str, part: Part) -> tuple[list[ArchivedLeaves], int]:
        """Read the file again: each row must be under a signed head. Gives the leaves that it holds, and how many."""
        file = ArchiveFile(path, name)
        runs: list[ArchivedLeaves] = []
        last: dict[int, int] = {}
        try:
            for group in file.groups:
                rows = file.read(group)
                if rows[0][LEAF] <= last.get(group.shard, -1):
                    raise ArchiveFileError(f"{name} was not written as it should be: rows are in no order")
                last[group.shard] = rows[-1][LEAF]
                self._check_rows((part.tenant, group.shard), rows)
                for first, end in runs_of(rows):
                    before = runs[-1] if runs else None
                    if before is not None and before.shard == group.shard and before.last + 1 == first:
                        runs[-1] = before._replace(last=end)
                    else:
                        runs.append(ArchivedLeaves(part.tenant, group.shard, first, end))
                self.progress.verified += len(rows)
                self._said(self.progress)
        except DamagedRowsError:
            raise ArchiveFileError(
                f"{name} was written and cannot be read back: is the disk all right? Nothing was removed"
            ) from None
        finally:
            file.close()
        return runs, file.rows

    def _check_rows(self, tree_id: TreeId, rows: Sequence[Row]) -> None:
        head = self._heads.get(tree_id)
        size = head.size if head else 0
        if head is None or rows[-1][LEAF] >= size:
            raise UnprovenError(
                f"{whose(tree_id)}: leaf {rows[-1][LEAF]} is under no signed head, the last is at {size}: nothing of"
                " this month is archived. Run `ptr audit-sink` with the key: it signs every few seconds"
            )
        # Anew for each row group: it keeps the tiles that it read.
        prover = prover_of(self._database, tree_id)
        if prover.size < size:
            raise UnprovenError(
                f"{whose(tree_id)}: the tree holds {prover.size} leaves, and a head of {size} was signed"
            )
        for tile, of_tile in groupby(rows, key=lambda row: int(row[LEAF]) // TILE_WIDTH):
            wrong = _first_wrong(prover, head, tree_id, list(of_tile))
            if wrong is not None:
                raise UnprovenError(
                    f"{whose(tree_id)}, tile {tile}: a row is not the one that was signed ({name_of(wrong)}):"
                    " nothing of this month is archived. `ptr audit verify --database` tells what was changed"
                )


def _first_wrong(prover: Prover, head: Head, tree_id: TreeId, rows: Sequence[Row]) -> Row | None:
    """The first of ``rows``, all of one tile, that is not under ``head``."""
    for place, row in enumerate(rows):
        leaf = row[LEAF]
        try:
            hashed = leaf_of(row[:LEAF])
            # The path of the first is made from all leaves of the tile: it proves these too.
            if place == 0:
                verify_inclusion(leaf, head.size, hashed, prover.inclusion(leaf, head.size), head.root)
            if (row[TENANT], row[SHARD]) != tree_id or hashed != prover.root(leaf, leaf + 1):
                return row
        except (ProofError, TreeDamagedError, LookupError):
            return row
    return None


def by_month(parts: Sequence[Part]) -> Iterator[tuple[date, list[Part]]]:
    """``parts``, which are in their order, of each month."""
    for month, of_month in groupby(parts, key=lambda part: part.month):
        yield month, list(of_month)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _sync(folder: Path) -> None:
    """A name in ``folder`` outlasts a loss of power."""
    opened = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(opened)
    finally:
        os.close(opened)
