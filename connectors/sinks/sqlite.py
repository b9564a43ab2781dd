"""The audit database in an SQLite file: for one host, no server.

WAL with ``synchronous=NORMAL``: a loss of power can take back the last transactions, but each whole, with its offsets;
the sink then reads them again from Kafka. So FULL (a sync per commit) would buy nothing.

Payments have numbers, and an event that tells its payment's state has its payment's number: the index that keeps
repeats out is by number and event id, so it grows at its end (docs/decisions/0028-numbered-payments.md).
"""

from __future__ import annotations

import fcntl
import os
import sqlite3
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from itertools import compress, islice
from typing import Any, ClassVar, NoReturn

from connectors.proofs.appending import Growth, trees_of
from connectors.sinks.database import (
    ARCHIVE,
    ARCHIVED_LEAVES,
    BUSY,
    EVENT_COLUMNS,
    KEY_COLUMNS,
    LEAVES_OF_ARCHIVE,
    MARKS,
    REMOVED,
    STREAM_ROWS,
    Archive,
    ArchivedLeaves,
    Batch,
    DatabaseAwayError,
    DatabaseBusyError,
    DatabaseError,
    Partition,
    Purpose,
    StoredHead,
    apply_migrations,
    missing_tables,
    parts_of,
    read_offsets,
    sqlite_path,
    store_offsets,
    taken_key,
    upsert_sql,
)
from connectors.sinks.leaves import EARLIER, HEAD, TILE, forest_of, grown, grown_by_rows, in_parts, store_growth
from connectors.sinks.rows import Columns, EventRow, PaymentState, tells_state

#: How long a statement waits for another process (a reader that checkpoints, a backup).
BUSY_TIMEOUT_S = 5.0
#: Pages of the indexes that are kept; keys come in no order.
CACHE_KIB = 64 * 1024
#: Larger than SQLite's 4 KiB: a row takes about 1 KiB, and a quarter fewer microseconds so (measured).
PAGE_BYTES = 16 * 1024
#: Checkpoint after 128 MiB, a few batches: pages of an index that several of them change are copied once.
CHECKPOINT_PAGES = (128 << 20) // PAGE_BYTES

#: What the driver says of text that is none.
_NOT_UTF_8 = "Could not decode to UTF-8"
_MAY_PASS = frozenset(
    {
        sqlite3.SQLITE_BUSY,
        sqlite3.SQLITE_LOCKED,
        sqlite3.SQLITE_FULL,
        sqlite3.SQLITE_IOERR,
        sqlite3.SQLITE_CANTOPEN,
        sqlite3.SQLITE_READONLY,
        sqlite3.SQLITE_PERM,
        sqlite3.SQLITE_PROTOCOL,
    }
)


def _marks(columns: int) -> str:
    return f"VALUES ({', '.join('?' * columns)})"


_INSERT_EVENT = (
    f"INSERT INTO payment_events ({EVENT_COLUMNS}, payment_number, leaf_index) {_marks(len(EventRow._fields) + 2)}"
)
#: What is there already, by these keys, is left as it is. They are named: two rows on one leaf are an error.
_INSERT_NEW_EVENT = (
    f"{_INSERT_EVENT} ON CONFLICT (payment_number, event_id) DO NOTHING"
    " ON CONFLICT (tenant, payment_id, event_id) WHERE payment_number IS NULL DO NOTHING"
)
_INSERT_KEY = f"INSERT INTO privacy_keys ({KEY_COLUMNS}) {_marks(7)} ON CONFLICT DO NOTHING"
_UPSERT_PAYMENT = upsert_sql(_marks(len(PaymentState._fields)))
#: No payment after it has an archived event: what comes is nearly always of those, and need not be looked for.
_LAST_ARCHIVED = (
    "SELECT COALESCE(MAX(payment_number), 0), EXISTS (SELECT * FROM archived_other_events) FROM archived_events"
)
_IS_ARCHIVED = "SELECT EXISTS (SELECT * FROM archived_events WHERE payment_number = ? AND event_id = ?)"
_IS_OTHER_ARCHIVED = (
    "SELECT EXISTS (SELECT * FROM archived_other_events WHERE tenant = ? AND payment_id = ? AND event_id = ?)"
)
#: Rows that one transaction removes: the sink waits no longer for it.
REMOVE_ROWS = 5_000
_LEAVES = 'tenant = ? AND "partition" = ? AND leaf_index BETWEEN ? AND ?'
_ARCHIVE_KEYS = (
    f'INSERT INTO archived_events SELECT payment_number, event_id, "partition", leaf_index FROM payment_events WHERE {_LEAVES}'  # noqa: S608
    " AND payment_number IS NOT NULL"
)
_ARCHIVE_OTHER_KEYS = (
    'INSERT INTO archived_other_events SELECT tenant, payment_id, event_id, "partition", leaf_index FROM payment_events'  # noqa: S608
    f" WHERE {_LEAVES} AND payment_number IS NULL"
)
_REMOVE = f"DELETE FROM payment_events WHERE {_LEAVES}"  # noqa: S608
_LAST_NUMBER = "SELECT COALESCE(MAX(number), 0) FROM payments"
_NUMBERS_AFTER = "SELECT tenant, payment_id, number FROM payments WHERE number > ?"
_NUMBER = "SELECT number FROM payments WHERE tenant = ? AND payment_id = ?"
#: Numbers that are remembered (about 250 bytes each), the latest.
NUMBERS_MAX = 200_000


def _with_numbers(
    events: Sequence[Columns], numbers: Sequence[int | None], leaf_indexes: Sequence[int | None]
) -> list[Columns]:
    """``events`` with the numbers of their payments and their leaves, as rows."""
    rows: list[Columns] = []
    for event, number, leaf in zip(events, numbers, leaf_indexes, strict=True):
        # Spelled out, which takes half of what slices take. The driver looks for an adapter of every bytes, at a
        # fifth of the statement's price; a bytearray it takes as it is.
        a, b, c, d, e, f, g, h, i, j, k, o, p, avro, payload = event
        kept = None if avro is None else bytearray(avro)
        rows.append((a, b, c, d, e, f, g, h, i, j, k, o, p, kept, payload, number, leaf))
    return rows


def _archived_of(tenant: str, payment: str, event: str = "") -> str:
    of_event = f" AND event_id = {event}" if event else ""
    return (
        "SELECT shard, leaf_index FROM archived_events WHERE payment_number ="  # noqa: S608
        f" (SELECT number FROM payments n WHERE n.tenant = {tenant} AND n.payment_id = {payment}){of_event} UNION ALL"
        f" SELECT shard, leaf_index FROM archived_other_events WHERE tenant = {tenant} AND payment_id = {payment}{of_event}"
    )


class SqliteDatabase:
    """See :class:`connectors.sinks.database.Database`."""

    has_server: ClassVar[bool] = False
    takes_packed: ClassVar[bool] = False
    own_checks: ClassVar[dict[str, str]] = {
        "events under the number of another payment": (
            "SELECT e.tenant, e.payment_id FROM payment_events e LEFT JOIN payments p ON p.number = e.payment_number"
            " WHERE e.payment_number IS NOT NULL AND (e.tenant, e.payment_id) IS NOT (p.tenant, p.payment_id)"
        )
    }
    archived_of: ClassVar[str] = _archived_of("?1", "?2")
    archived_event_of: ClassVar[str] = _archived_of("?1", "?2", "?3")
    stored_columns: ClassVar[str] = EVENT_COLUMNS
    holds_bytes: ClassVar[str] = "instr(avro, ?) > 0"
    number_check: ClassVar[str] = (
        "CASE WHEN payment_number IS NULL THEN -1 ELSE EXISTS (SELECT * FROM payments p WHERE p.number = payment_number"
        " AND p.tenant = payment_events.tenant AND p.payment_id = payment_events.payment_id) END"
    )

    def __init__(self, url: str, *, create: bool) -> None:
        path = sqlite_path(url)
        self.shown = f"sqlite:///{path}"
        self._path = path
        self._lock_file: int | None = None
        #: Of payments in the database, for certain, the oldest first.
        self._numbers: dict[tuple[str, str], int] = {}
        self._forest = forest_of(self)
        if not create and not path.exists():
            raise DatabaseError(f"{self.shown}: there is no such file; `ptr audit-sink` makes it")
        with self._translated():
            if create:
                path.parent.mkdir(parents=True, exist_ok=True)
                # It holds names: for its owner only. The files beside it get the same mode from SQLite.
                os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
            self._connection = sqlite3.connect(
                path, timeout=BUSY_TIMEOUT_S, isolation_level=None, check_same_thread=False
            )
        try:
            with self._translated():
                if create:
                    self._connection.execute(f"PRAGMA page_size = {PAGE_BYTES}")
                    self._connection.execute("PRAGMA journal_mode = WAL")
                    self._connection.execute("PRAGMA synchronous = NORMAL")
                    self._connection.execute(f"PRAGMA cache_size = -{CACHE_KIB}")
                    self._connection.execute(f"PRAGMA wal_autocheckpoint = {CHECKPOINT_PAGES}")
                else:
                    self._connection.execute("PRAGMA query_only = ON")
        except BaseException:
            self._connection.close()
            raise

    def lock(self, purpose: Purpose = "sink") -> None:
        """Lock ``FILE-sink``; the system frees it when this process ends, however it ends."""
        with self._translated():
            file = os.open(f"{self._path}-{purpose}", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(file)
            raise DatabaseBusyError(f"{self.shown}: {BUSY[purpose]}") from None
        self._lock_file = file

    def migrate(self) -> None:
        """Bring the tables up to date."""
        from yoyo.backends.core.sqlite3 import SQLiteBackend
        from yoyo.connections import parse_uri

        path = self._path

        class Backend(SQLiteBackend):  # type: ignore[misc]
            """yoyo's own puts the path into a URI unquoted."""

            def connect(self, dburi: object) -> sqlite3.Connection:
                return sqlite3.connect(
                    path, timeout=BUSY_TIMEOUT_S, isolation_level=None, detect_types=sqlite3.PARSE_DECLTYPES
                )

        with self._translated():
            apply_migrations(Backend(parse_uri("sqlite:///audit"), "_yoyo_migration"), "sqlite", self.shown)
            self._add_earlier_rows()

    def grant_writer(self, role: str) -> None:
        """Not possible."""
        raise DatabaseError(f"{self.shown}: an SQLite file has no roles; its mode says who may write")

    def _add_earlier_rows(self) -> None:
        """Rows of before there were trees become their first leaves, in the order in which they came."""
        execute = self._connection.execute
        if not self.query(EARLIER)[0][0]:
            return
        try:
            with self._transaction():
                (trigger,) = execute("SELECT sql FROM sqlite_schema WHERE name = 'payment_events_no_update'").fetchone()
                execute("DROP TRIGGER payment_events_no_update")
                # By a list of their places: rows are not changed while they are read.
                places = [place for (place,) in execute("SELECT rowid FROM payment_events ORDER BY rowid")]
                select = f"SELECT {EVENT_COLUMNS} FROM payment_events WHERE rowid = ?"  # noqa: S608
                for part in in_parts(zip(places, strict=True)):
                    rows = [execute(select, place).fetchone() for place in part]
                    growth = grown_by_rows(self._forest, rows, self.shown)
                    placed = [(leaf, *place) for leaf, place in zip(growth.leaf_indexes, part, strict=True)]
                    self._connection.executemany("UPDATE payment_events SET leaf_index = ? WHERE rowid = ?", placed)
                    self._store_growth(growth)
                    self._forest.keep(growth)
                execute(trigger)
        except BaseException:
            self._forest = forest_of(self)
            raise

    def offsets(self) -> dict[Partition, int]:
        """The next offset to read, per topic and partition."""
        return read_offsets(self)

    def write(self, batch: Batch) -> int:
        """Write ``batch``: all or nothing.

        Repeats are rare: only when one is refused, the new events are found, and written from the beginning without gaps. (A
        savepoint for that would cost more than the rows: a copy of every page.)
        """
        events = list(batch.events)
        with self._translated():
            try:
                return self._write(batch, events)
            except sqlite3.IntegrityError as error:
                if error.sqlite_errorcode != sqlite3.SQLITE_CONSTRAINT_UNIQUE:
                    raise
            return self._write(batch, self._new_events(batch, events))

    def _write(self, batch: Batch, events: Sequence[Columns]) -> int:
        with self._transaction() as execute:
            store_offsets(batch, lambda sql, values: execute(sql, values).rowcount, self.shown)
            if batch.keys and self._connection.executemany(_INSERT_KEY, batch.keys).rowcount != len(batch.keys):
                raise taken_key(self.shown)
            new = self._write_states(batch)
            numbers = self._numbers_of(events, new)
            events, numbers = self._unarchived(events, numbers)
            if batch.leaves is not None and len(events) == len(batch.events):
                growth = grown(self._forest, trees_of(events), batch.leaves, self.shown)
            else:
                growth = grown_by_rows(self._forest, events, self.shown)
            self._connection.executemany(_INSERT_EVENT, _with_numbers(events, numbers, growth.leaf_indexes))
            self._store_growth(growth)
        self._remember(new)
        self._forest.keep(growth)
        return len(events)

    def _new_events(self, batch: Batch, events: list[Columns]) -> list[Columns]:
        """Those of ``events`` that are not there yet, the first of each."""
        with self._transaction(keep=False) as execute:
            numbers = self._numbers_of(events, self._write_states(batch))
            rows = _with_numbers(events, numbers, [None] * len(events))
            is_new = [execute(_INSERT_NEW_EVENT, row).rowcount == 1 for row in rows]
        return list(compress(events, is_new))

    def _write_states(self, batch: Batch) -> dict[tuple[str, str], int]:
        """Gives the numbers of payments that are new."""
        execute = self._connection.execute
        (last,) = execute(_LAST_NUMBER).fetchone()
        self._connection.executemany(_UPSERT_PAYMENT, batch.states)
        return {(tenant, payment): number for tenant, payment, number in execute(_NUMBERS_AFTER, (last,))}

    @contextmanager
    def _transaction(self, *, keep: bool = True) -> Iterator[Callable[..., sqlite3.Cursor]]:
        """A transaction, committed at the end when ``keep``."""
        execute = self._connection.execute
        execute("BEGIN IMMEDIATE")
        try:
            yield execute
            execute("COMMIT" if keep else "ROLLBACK")
        except BaseException:
            with suppress(sqlite3.Error):
                execute("ROLLBACK")
            raise

    def write_heads(self, heads: Sequence[StoredHead]) -> None:
        """Keep ``heads``, and sync the log, which holds all commits before."""
        with self._synced():
            self._connection.executemany(HEAD, heads)

    def write_archives(self, archives: Sequence[Archive], leaves: Mapping[str, Sequence[ArchivedLeaves]]) -> None:
        """Keep what files hold, and sync the log."""
        with self._synced():
            self._connection.executemany(ARCHIVE, archives)
            self._connection.executemany(ARCHIVED_LEAVES, [(*one, file) for file in leaves for one in leaves[file]])

    @contextmanager
    def _synced(self) -> Iterator[None]:
        """A transaction; when it ends, it and all commits before are on the disk."""
        execute = self._connection.execute
        with self._translated():
            execute("PRAGMA synchronous = FULL")
            try:
                with self._transaction():
                    yield
            finally:
                execute("PRAGMA synchronous = NORMAL")

    def remove_archived(self, archives: Sequence[Archive], said: Callable[[int], None]) -> None:
        """Some rows a transaction, so that the sink need not wait long: their keys are kept, and the trigger that keeps rows
        is gone in it only."""
        execute = self._connection.execute
        for archive in archives:
            with self._translated():
                leaves = [ArchivedLeaves(*row) for row in execute(LEAVES_OF_ARCHIVE, (archive.file,))]
            for part in (part for one in leaves for part in parts_of(one, REMOVE_ROWS)):
                with self._translated(), self._transaction():
                    (guard,) = execute(
                        "SELECT sql FROM sqlite_schema WHERE name = 'payment_events_no_delete'"
                    ).fetchone()
                    execute("DROP TRIGGER payment_events_no_delete")
                    execute(_ARCHIVE_KEYS, part)
                    execute(_ARCHIVE_OTHER_KEYS, part)
                    removed = execute(_REMOVE, part).rowcount
                    execute(guard)
                said(removed)
            with self._translated(), self._transaction():
                execute(REMOVED, (archive.file,))

    def add_keys(self, rows: Sequence[tuple[object, ...]]) -> int:
        """Add to ``privacy_keys``."""
        with self._translated(), self._transaction():
            return self._connection.executemany(_INSERT_KEY, rows).rowcount

    def keep_marks(self, rows: Sequence[tuple[object, ...]]) -> None:
        """Add to ``privacy_marks``."""
        with self._translated(), self._transaction():
            self._connection.executemany(MARKS, rows)

    def change_keys(self, sql: str, rows: Sequence[tuple[object, ...]]) -> int:
        """Change ``privacy_keys``; what is overwritten is overwritten in the file and its log too."""
        execute = self._connection.execute
        with self._translated():
            execute("PRAGMA synchronous = FULL")
            execute("PRAGMA secure_delete = ON")
            try:
                with self._transaction():
                    changed = self._connection.executemany(sql, rows).rowcount
                execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
            finally:
                execute("PRAGMA secure_delete = OFF")
                execute("PRAGMA synchronous = NORMAL")
        return changed

    def _store_growth(self, growth: Growth) -> None:
        store_growth(growth, lambda sql, values: self._connection.execute(sql, values).rowcount, self.shown)
        self._connection.executemany(TILE, growth.tiles)

    def _numbers_of(self, events: Sequence[Columns], new: dict[tuple[str, str], int]) -> list[int | None]:
        """The numbers of the payments whose state ``events`` tell; those that are looked up come into ``new``."""
        known = self._numbers
        numbers: list[int | None] = []
        for event in events:
            number = None
            if tells_state(event):
                payment = event[:2]
                number = new.get(payment) or known.get(payment)
                if number is None:
                    number = new[payment] = self._number_of(payment)
            numbers.append(number)
        return numbers

    def _unarchived(
        self, events: Sequence[Columns], numbers: list[int | None]
    ) -> tuple[Sequence[Columns], list[int | None]]:
        """Those whose rows are not in a file: a repeat of what is archived is a repeat."""
        execute = self._connection.execute
        last, has_others = execute(_LAST_ARCHIVED).fetchone()
        if not last and not has_others:
            return events, numbers

        def is_new(event: Columns, number: int | None) -> bool:
            if number is None:
                return not has_others or execute(_IS_OTHER_ARCHIVED, event[:3]).fetchone() == (0,)
            return bool(number > last) or execute(_IS_ARCHIVED, (number, event[2])).fetchone() == (0,)

        new = list(map(is_new, events, numbers))
        return list(compress(events, new)), list(compress(numbers, new))

    def _number_of(self, payment: tuple[str, str]) -> int:
        found: tuple[int] | None = self._connection.execute(_NUMBER, payment).fetchone()
        if found is None:  # its state is written before or with its first event
            raise DatabaseError(f"{self.shown}: events of payment {payment[1]} of {payment[0]} without its state")
        return found[0]

    def _remember(self, new: dict[tuple[str, str], int]) -> None:
        numbers = self._numbers
        numbers.update(new)
        for payment in list(islice(numbers, max(len(numbers) - NUMBERS_MAX, 0))):
            del numbers[payment]

    @staticmethod
    def is_archived(payment: str) -> str:
        """By the payment's number; what has none by tenant and payment id."""
        return f"EXISTS ({_archived_of(f'{payment}.tenant', f'{payment}.payment_id')})"

    @staticmethod
    def events_of(events: str) -> str:
        """By the payment's number; what has none by tenant and payment id."""
        return (
            f"({events}.payment_number = (SELECT number FROM payments WHERE tenant = ?1 AND payment_id = ?2)"  # noqa: S608
            f" OR ({events}.payment_number IS NULL AND {events}.tenant = ?1 AND {events}.payment_id = ?2))"
        )

    @staticmethod
    def same_payment(one: str, other: str) -> str:
        """By the payment's number."""
        return f"{one}.payment_number = {other}.payment_number"

    @staticmethod
    def tells_of(event: str, payment: str) -> str:
        """By the payment's number."""
        return f"{event}.payment_number = {payment}.number"

    @staticmethod
    def is_about(event: str, payment: str) -> str:
        """By the payment's number; what has none by tenant and payment id."""
        return (
            f"({event}.payment_number = {payment}.number OR ({event}.payment_number IS NULL"
            f" AND {event}.tenant = {payment}.tenant AND {event}.payment_id = {payment}.payment_id))"
        )

    def query(self, sql: str, parameters: Sequence[object] = ()) -> list[tuple[Any, ...]]:
        """Rows of a SELECT."""
        with self._translated():
            try:
                return self._connection.execute(sql, parameters).fetchall()
            except sqlite3.OperationalError as error:
                if _NOT_UTF_8 not in str(error):
                    raise
                # Only somebody else writes such text: it is read all the same, so that it can be told.
                self._connection.text_factory = lambda data: data.decode("utf-8", "surrogateescape")
                try:
                    return self._connection.execute(sql, parameters).fetchall()
                finally:
                    self._connection.text_factory = str

    def stream(self, sql: str, parameters: Sequence[object] = ()) -> Generator[tuple[Any, ...]]:
        """Rows of a SELECT, some at a time."""
        with self._translated():
            cursor = self._connection.execute(sql, parameters)
            while rows := cursor.fetchmany(STREAM_ROWS):
                yield from rows

    @contextmanager
    def snapshot(self) -> Iterator[None]:
        """A transaction: what it reads first says of when."""
        execute = self._connection.execute
        with self._translated():
            execute("BEGIN")
            execute("SELECT 1 FROM sqlite_schema LIMIT 1").fetchall()
        try:
            yield
        finally:
            with suppress(sqlite3.Error):
                execute("ROLLBACK")

    def close(self) -> None:
        """Close and unlock."""
        with suppress(sqlite3.Error):
            self._connection.close()
        if self._lock_file is not None:
            os.close(self._lock_file)
            self._lock_file = None

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except (sqlite3.Error, OSError) as error:
            self._raise(error)

    def _raise(self, error: sqlite3.Error | OSError) -> NoReturn:
        if isinstance(error, OSError):
            raise DatabaseAwayError(f"{self.shown}: {error.strerror}") from None
        code = getattr(error, "sqlite_errorcode", None)
        if code is not None and code & 0xFF in _MAY_PASS:
            raise DatabaseAwayError(f"{self.shown}: {error}") from None
        if "no such table" in str(error):
            raise missing_tables(self.shown) from None
        raise DatabaseError(f"{self.shown}: {error}") from None
