"""Files that months of audit rows are moved to: Parquet, one a tenant and month, under the columns' own names.

Rows are as they are stored, to the byte, each with its leaf, in the order of shards and leaves. A row group is of one shard. So
a row is found by its leaf without reading the others, and any tool that reads Parquet can recompute the leaves.
"""

from __future__ import annotations

import hashlib
import os
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from itertools import accumulate, islice
from pathlib import Path
from typing import Any, BinaryIO, Final
from urllib.parse import quote

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from connectors.proofs.trees import TreeId
from connectors.proofs.verifier import COLUMNS, NO_TENANT, SHARD
from connectors.sinks.archives import ArchiveFileError, archives_of, whose
from connectors.sinks.database import Archive, Database
from schemas.identity import TENANT_PATTERN

#: What a file says of itself.
FORMAT: Final = "payment-pipeline audit archive 1"
#: Rows and bytes of a row group: what is in memory at a time.
GROUP_ROWS: Final = 4_096
GROUP_BYTES: Final = 16 << 20
#: Row groups that are kept decoded: a page of a check takes parts of two.
GROUPS_KEPT: Final = 4
#: Files that are open at a time: a tree's leaves go from month to month.
FILES_OPEN: Final = 4
_NUMBERS: Final = frozenset({"sequence", "rule_version", "partition", "offset", "recorded_at_ms"})
_TYPES: Final = {"avro": pa.binary()} | dict.fromkeys(_NUMBERS, pa.int64())
SCHEMA: Final = pa.schema([(name, _TYPES.get(name, pa.string())) for name in COLUMNS] + [("leaf_index", pa.int64())])
LEAF: Final = len(COLUMNS)
_RECORDED_AT_MS: Final = COLUMNS.index("recorded_at_ms")
_EVER_MS: Final = range(-(1 << 62), 1 << 62)
#: Leaves of a group whose rows are in the database still.
_STILL_HERE: Final = (
    'SELECT leaf_index FROM payment_events WHERE tenant = ? AND "partition" = ? AND leaf_index BETWEEN ? AND ?'
)
#: A row as in the file: :data:`COLUMNS` and the leaf.
Row = tuple[Any, ...]


class DamagedRowsError(ArchiveFileError):
    """Rows of a file cannot be read: those of a row group."""

    def __init__(self, name: str, first: int, last: int) -> None:
        super().__init__(f"{name} is damaged: these rows cannot be read. Bring the file back from a copy")
        self.first, self.last = first, last


@dataclass(frozen=True, slots=True)
class Group:
    """A row group: which leaves of which shard it holds, perhaps not all between, and from when to when they were recorded."""

    number: int
    shard: int
    first: int
    last: int
    first_ms: int
    last_ms: int


def name_of_file(tenant: str, month: str, number: int) -> str:
    """What the file is called under the folder of archives; ``number`` counts a month's files from 1."""
    # No tenant's name needs quoting; a row that somebody else wrote may hold anything.
    folder = NO_TENANT if not tenant else tenant if TENANT_PATTERN.match(tenant) else "_" + quote(tenant, safe="")
    return f"{folder}/{month}{f'.{number}' if number > 1 else ''}.parquet"


class ArchiveWriter:
    """Writes the file ``path``, which must not be there. ``about``: what it says of itself. Raises OSError."""

    def __init__(self, path: Path, about: dict[str, str]) -> None:
        # It holds personal data: for its owner only.
        self._file = os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600), "wb")
        schema = SCHEMA.with_metadata({"format": FORMAT, **about})
        self._writer = pq.ParquetWriter(self._file, schema, compression="zstd", use_dictionary=_dictionaries())
        self._rows: list[Row] = []
        self._bytes = 0

    def add(self, row: Row) -> None:
        """Append a row; of a shard they come in the order of leaves."""
        if self._rows and (
            row[SHARD] != self._rows[0][SHARD] or len(self._rows) >= GROUP_ROWS or self._bytes >= GROUP_BYTES
        ):
            self._flush()
        self._rows.append(row)
        self._bytes += sum(len(value) for value in row if isinstance(value, str | bytes))

    def close(self) -> None:
        """Write what is left; when this returns, the file is on the disk."""
        self._flush()
        self._writer.close()
        self._file.flush()
        os.fsync(self._file.fileno())
        self._file.close()

    def abandon(self) -> None:
        """Close without finishing."""
        self._file.close()

    def _flush(self) -> None:
        if self._rows:
            columns = [
                pa.array(column, field.type)
                for column, field in zip(zip(*self._rows, strict=True), SCHEMA, strict=True)
            ]
            self._writer.write_table(
                pa.Table.from_arrays(columns, schema=self._writer.schema), row_group_size=len(self._rows)
            )
        self._rows, self._bytes = [], 0


def _dictionaries() -> list[str]:
    """Columns whose values come again and again."""
    return ["tenant", "stage", "outcome", "reason", "rule_version", "topic", "partition", "event_id"]


class ArchiveFile:
    """A file of archived rows. ``name`` is for messages. Raises :class:`ArchiveFileError` for what is none.

    With ``sha256``, in hexadecimal, the file's bytes must have it when rows are read.
    """

    def __init__(self, path: Path, name: str, sha256: str = "") -> None:
        self.name = name
        self._path = path
        self._sha256 = sha256
        self._file: pq.ParquetFile | None = None
        self._source: BinaryIO | None = None
        try:
            file = pq.ParquetFile(path)
            about = file.schema_arrow.metadata or {}
            self.about = {key.decode(): value.decode() for key, value in about.items()}
            if self.about.get("format") != FORMAT or not file.schema_arrow.equals(SCHEMA):
                raise ArchiveFileError(f"{name} is no file of archived audit rows")
            #: How many rows it says it holds.
            self.rows: int = file.metadata.num_rows
            self.groups = [_group(file.metadata.row_group(at), at) for at in range(file.metadata.num_row_groups)]
            file.close()
        except (OSError, pa.ArrowException, UnicodeDecodeError, AttributeError, TypeError):
            raise ArchiveFileError(
                f"{name} cannot be read: it is cut or damaged at its end, or is no Parquet file. Bring it back from a copy"
            ) from None

    def read(self, group: Group) -> list[Row]:
        """The rows of ``group``. Raises :class:`DamagedRowsError`."""
        with self._errors(group):
            table = self._opened().read_row_group(group.number, use_threads=False)
            return list(zip(*(column.to_pylist() for column in table.columns), strict=True))

    def chosen(
        self, group: Group, columns: Sequence[str], among: Mapping[str, Sequence[object]], times_ms: range
    ) -> list[Row]:
        """``columns`` and the leaf of the rows of ``group`` that were recorded in ``times_ms`` and whose values, by column, are
        ``among`` those given. Raises :class:`DamagedRowsError`.
        """
        with self._errors(group):
            looked_at = self._opened().read_row_group(
                group.number, columns=["recorded_at_ms", *among], use_threads=False
            )
            at_ms = looked_at.column("recorded_at_ms")
            mask = pc.and_(pc.greater_equal(at_ms, times_ms.start), pc.less(at_ms, times_ms.stop))
            for name, values in among.items():
                mask = pc.and_(mask, pc.is_in(looked_at.column(name), value_set=pa.array(values)))
            if not pc.any(mask).as_py():
                return []
            names = [*columns, "leaf_index"]
            table = (
                self._opened()
                .read_row_group(group.number, columns=[*dict.fromkeys(names)], use_threads=False)
                .filter(mask)
            )
            return list(zip(*(table.column(name).to_pylist() for name in names), strict=True))

    def close(self) -> None:
        """Close the file; reading opens it again."""
        self._file = None
        if self._source is not None:
            self._source.close()
            self._source = None

    def _opened(self) -> pq.ParquetFile:
        if self._file is None:
            self.close()
            # What is hashed is what is read, whatever becomes of the name.
            self._source = self._path.open("rb")
            if self._sha256 and hashlib.file_digest(self._source, "sha256").hexdigest() != self._sha256:
                raise ArchiveFileError(
                    f"{self._path} is not as it was archived: its SHA-256 is not the one that the database lists. It was"
                    " changed, or is of another log: bring it back from a copy. `ptr audit verify --archive` tells which rows"
                    " are wrong"
                )
            self._file = pq.ParquetFile(self._source)
        return self._file

    @contextmanager
    def _errors(self, group: Group) -> Iterator[None]:
        try:
            yield
        except (OSError, pa.ArrowException, UnicodeDecodeError, ValueError):
            raise DamagedRowsError(self.name, group.first, group.last) from None


def _group(group: Any, number: int) -> Group:
    shard, leaf, at_ms = (group.column(at).statistics for at in (SHARD, LEAF, _RECORDED_AT_MS))
    bounds = (shard.min, leaf.min, leaf.max, at_ms.min, at_ms.max)
    if not all(type(bound) is int for bound in bounds):
        raise TypeError("shards, leaves and times are numbers")
    return Group(number, *bounds)


class ArchivedRows:
    """The archived rows of ``database``, in the files under ``folder`` that are ``wanted``; of one tenant, or of all.

    With ``is_checked`` a file's SHA-256 must be the one that the database lists; without it each row is to be checked by its
    leaf. Raises :class:`ArchiveFileError` when a file is missing, cut, or another one than was archived.
    """

    def __init__(
        self,
        database: Database,
        folder: Path,
        tenant: str | None = None,
        *,
        wanted: Callable[[Archive], bool] = lambda archive: True,
        is_checked: bool = False,
    ) -> None:
        self._database = database
        self._groups: dict[TreeId, list[tuple[Group, ArchiveFile]]] = {}
        self._files: list[tuple[Archive, ArchiveFile]] = []
        archives = list(filter(wanted, archives_of(database, tenant)))
        if missing := [archive for archive in archives if not (folder / archive.file).is_file()]:
            one = missing[0]
            others = f", nor are {len(missing) - 1} others" if len(missing) > 1 else ""
            raise ArchiveFileError(
                f"{folder / one.file}, which holds {one.events:,} events of {one.tenant or 'no tenant'} of {one.month}, is not"
                f" there{others}: bring it back, or name the folder where it is with --archive"
            )
        for archive in archives:
            file = ArchiveFile(folder / archive.file, archive.file, archive.sha256 if is_checked else "")
            if (file.about.get("tenant"), file.about.get("month"), file.rows) != (
                archive.tenant,
                archive.month,
                archive.events,
            ):
                raise ArchiveFileError(
                    f"{folder / archive.file} is not the file that was archived: it says that it holds {file.rows:,} events of"
                    f" {file.about.get('tenant') or 'no tenant'} of {file.about.get('month')}, and {archive.events:,} of"
                    f" {archive.tenant or 'no tenant'} of {archive.month} were. Is it of another database?"
                )
            self._files.append((archive, file))
            for group in file.groups:
                self._groups.setdefault((archive.tenant, group.shard), []).append((group, file))
        #: Of each tree, the last leaf of any group up to each.
        self._last: dict[TreeId, list[int]] = {}
        for tree_id, groups in self._groups.items():
            groups.sort(key=lambda each: each[0].first)
            self._last[tree_id] = list(accumulate((group.last for group, _ in groups), max))
        self._open: list[ArchiveFile] = []
        self._read = lru_cache(maxsize=GROUPS_KEPT)(self._read_group)

    def _read_group(self, file: ArchiveFile, group: Group) -> list[Row]:
        if file not in self._open:
            if len(self._open) == FILES_OPEN:
                self._open.pop(0).close()
            self._open.append(file)
        return file.read(group)

    def trees(self) -> Iterator[TreeId]:
        """Trees of which rows are archived."""
        yield from self._groups

    def page(self, tree_id: TreeId, first: int, end: int) -> tuple[list[Row], DamagedRowsError | None]:
        """Rows on the leaves from ``first`` to before ``end``, in their order; or those before the first that cannot be read,
        and what is wrong with it."""
        found: list[Row] = []
        damaged: DamagedRowsError | None = None
        for group, file in self._from(tree_id, first):
            if group.first >= (end if damaged is None else damaged.first):
                break
            try:
                found += [row for row in self._read(file, group) if first <= row[LEAF] < end]
            except DamagedRowsError as error:
                damaged = DamagedRowsError(file.name, max(error.first, first), error.last)
        before = end if damaged is None else damaged.first
        return sorted((row for row in found if row[LEAF] < before), key=lambda row: int(row[LEAF])), damaged

    def first_from(self, tree_id: TreeId, leaf: int) -> int | None:
        """The first leaf from ``leaf`` on that may be in a file; None when there is none."""
        return next((max(group.first, leaf) for group, _ in self._from(tree_id, leaf)), None)

    def _from(self, tree_id: TreeId, leaf: int) -> Iterator[tuple[Group, ArchiveFile]]:
        """Groups of leaves from ``leaf`` on, by their first ones."""
        groups = self._groups.get(tree_id, [])
        start = bisect_left(self._last.get(tree_id, []), leaf)
        return (each for each in islice(groups, start, None) if each[0].last >= leaf)

    def row(self, tree_id: TreeId, leaf: int) -> Row:
        """The row on ``leaf``. Raises :class:`ArchiveFileError` and :class:`DamagedRowsError`."""
        rows, damaged = self.page(tree_id, leaf, leaf + 1)
        if damaged is not None:
            raise damaged
        if rows:
            return rows[0]
        raise _no_row(tree_id, leaf)

    def on_leaves(self, columns: Sequence[str], tree_id: TreeId, leaves: Sequence[int]) -> Iterator[Row]:
        """``columns`` and the leaf of the rows on ``leaves``, which are in their order; a row group is read once. Raises
        :class:`ArchiveFileError`.
        """
        left = set(leaves)
        for group, file in self._from(tree_id, leaves[0]):
            if group.first > leaves[-1]:
                break
            if here := leaves[bisect_left(leaves, group.first) : bisect_right(leaves, group.last)]:
                for row in file.chosen(group, columns, {"leaf_index": here}, _EVER_MS):
                    left.discard(row[-1])
                    yield row
        if left:
            raise _no_row(tree_id, min(left))

    def all(self) -> Iterator[Row]:
        """Every row, tree by tree; some may be in the database still. Raises :class:`DamagedRowsError`."""
        for groups in self._groups.values():
            for group, file in groups:
                yield from self._read(file, group)

    def chosen(
        self, columns: Sequence[str], among: Mapping[str, Sequence[str]], *, from_ms: int, until_ms: int
    ) -> Iterator[Row]:
        """``columns`` of the rows that were recorded in [from_ms, until_ms), whose values, by column, are ``among`` those
        given, and that are no longer in the database; file by file, a row group at a time. Raises :class:`ArchiveFileError`.
        """
        times_ms = range(from_ms, until_ms)
        for archive, file in self._files:
            for group in file.groups:
                if group.last_ms < from_ms or group.first_ms >= until_ms:
                    continue
                rows = file.chosen(group, columns, among, times_ms)
                # An archiving that did not end leaves rows in both.
                here = set() if archive.is_removed or not rows else self._still_here(archive, group)
                yield from (row[:-1] for row in rows if row[-1] not in here)
            file.close()

    def _still_here(self, archive: Archive, group: Group) -> set[int]:
        found = self._database.query(_STILL_HERE, (archive.tenant, group.shard, group.first, group.last))
        return {leaf for (leaf,) in found}

    def close(self) -> None:
        """Close the files."""
        for _, file in self._files:
            file.close()


def _no_row(tree_id: TreeId, leaf: int) -> ArchiveFileError:
    return ArchiveFileError(
        f"leaf {leaf} of {whose(tree_id)} was archived, and no file holds it:"
        " `ptr audit verify --archive` tells what was changed"
    )


def runs_of(rows: Sequence[Row]) -> Iterator[tuple[int, int]]:
    """Leaves of ``rows``, which are in their order, as first and last of each run without gaps."""
    first = last = None
    for row in rows:
        leaf = row[LEAF]
        if last is not None and leaf == last + 1:
            last = leaf
            continue
        if first is not None and last is not None:
            yield first, last
        first = last = leaf
    if first is not None and last is not None:
        yield first, last
