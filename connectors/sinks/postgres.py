"""The audit database in PostgreSQL, through psycopg 3.

Events are copied, in binary, into their table: what a pipeline of single INSERTs costs more than twice. What needs more than
that, payments' states and batches with repeats, goes through temporary tables, which live in the session: nothing is left
behind.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from datetime import date
from typing import Any, ClassVar, Final, LiteralString, NoReturn

import psycopg
from psycopg import errors, sql

from connectors.proofs.appending import Growth, leaf_of
from connectors.proofs.trees import TreeId
from connectors.sinks.copying import HEADER, TRAILER, PackedRows, types_of
from connectors.sinks.database import (
    ARCHIVE,
    ARCHIVED_LEAVES,
    BUSY,
    EVENT_COLUMNS,
    KEY_COLUMNS,
    LEAVES_OF_ARCHIVE,
    MARKS,
    REMOVED,
    STATE_COLUMNS,
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
    migration_hashes,
    missing_tables,
    parts_of,
    read_offsets,
    shown_url,
    store_offsets,
    taken_key,
    upsert_sql,
)
from connectors.sinks.leaves import EARLIER, HEAD, forest_of, grown, grown_by_rows, in_parts, store_growth
from connectors.sinks.months import DAY_MS, first_ms, month_of, next_month
from connectors.sinks.rows import EventRow, PaymentState

#: Advisory lock of the sink: the first eight bytes of "ptr-audit-sink", big endian.
LOCK_KEY = int.from_bytes(b"ptr-audi", "big")
_LOCK_KEYS: Final[dict[Purpose, int]] = {"sink": LOCK_KEY, "archive": int.from_bytes(b"ptr-arch", "big")}
CONNECT_TIMEOUT_S = 5
#: No batch takes this long; a server that is silent for longer is away.
STATEMENT_TIMEOUT_S = 120
#: Counting and moving rows of a month takes longer.
ARCHIVE_TIMEOUT_S = 3600
#: The sink waits no longer for readers of the table of other months than this: its rows go there then.
MONTH_LOCK_S = 2
#: `ptr audit archive` waits for readers of the month, and the sink meanwhile for it.
REMOVE_LOCK_S = 10
#: Rows that one statement removes.
REMOVE_ROWS = 50_000
#: Both ends notice within about half a minute that the other is gone; the server then frees the sink's lock.
KEEPALIVE = {"keepalives_idle": 10, "keepalives_interval": 5, "keepalives_count": 3, "tcp_user_timeout": 30_000}
_SINK_SETTINGS = (
    # A crash of the server can take back the last transactions, each whole and with its offsets; they are read again.
    "SET synchronous_commit = off",
    "SET tcp_keepalives_idle = 10",
    "SET tcp_keepalives_interval = 5",
    "SET tcp_keepalives_count = 3",
    "SET tcp_user_timeout = 30000",
)

#: SQLSTATE classes and codes that can pass by themselves.
_MAY_PASS = ("08", "40", "53", "55", "57", "58")
#: Parts of libpq's messages (it gives no code) that waiting does not help.
_HOPELESS = ("authentication failed", "no password supplied", "does not exist", "no pg_hba.conf entry")

_COPY_EVENTS = f"COPY payment_events ({EVENT_COLUMNS}, leaf_index) FROM STDIN (FORMAT binary)".encode()
_COPY_INCOMING = f"COPY incoming_events ({EVENT_COLUMNS}, leaf_index) FROM STDIN (FORMAT binary)".encode()
_COPY_STATES = f"COPY incoming_states ({STATE_COLUMNS}) FROM STDIN (FORMAT binary)".encode()
#: The key that keeps repeats out, in a table that is not divided into months and keeps archived events' keys.
_EVENT_KEY = "audit_event_keys_pkey"
_COPY_EVENT_KEYS = b"COPY audit_event_keys (tenant, payment_id, event_id, shard, leaf_index) FROM STDIN (FORMAT binary)"
#: Of incoming events, whose leaf_index is their place among them here, those that are not there yet: the first of each.
_NEW_EVENTS = (
    b"SELECT DISTINCT ON (tenant, payment_id, event_id) leaf_index FROM incoming_events i WHERE NOT EXISTS"
    b" (SELECT * FROM audit_event_keys k WHERE (k.tenant, k.payment_id, k.event_id) = (i.tenant, i.payment_id, i.event_id))"
    b" ORDER BY tenant, payment_id, event_id, leaf_index"
)
_KEYS_OF_EARLIER = (
    b"UPDATE audit_event_keys k SET leaf_index = e.leaf_index FROM payment_events e"
    b" WHERE (k.tenant, k.payment_id, k.event_id) = (e.tenant, e.payment_id, e.event_id)"
)
_COPY_TILES = b"COPY audit_tiles (tenant, shard, level, number, hashes) FROM STDIN (FORMAT binary)"
_TILE_TYPES = ["text", "int8", "int8", "int8", "bytea"]
_KEY_TYPES = ("int8", "text", "text", "bytea", "bytea", "text", "int8")
_INSERT_KEYS = (
    f"INSERT INTO privacy_keys ({KEY_COLUMNS})"  # noqa: S608
    f" SELECT * FROM unnest({', '.join(f'%b::{kind}[]' for kind in _KEY_TYPES)}) ON CONFLICT DO NOTHING"
).encode()
_UPSERT_PAYMENTS = upsert_sql(f"SELECT {STATE_COLUMNS} FROM incoming_states").encode()  # noqa: S608
#: Of the role that a sink connects as, by tables.
_WRITER_RIGHTS: dict[LiteralString, LiteralString] = {
    "audit_archives, audit_archived_leaves, privacy_marks": "SELECT",
    "FUNCTION payment_events_month(BIGINT)": "EXECUTE",
    "payment_events, audit_event_keys, audit_tiles, privacy_keys": "SELECT, INSERT",
    "payments, sink_offsets, audit_trees, audit_heads": "SELECT, INSERT, UPDATE",
    "_yoyo_migration": "SELECT",
}
_RECORDED_AT_MS = EventRow._fields.index("recorded_at_ms")
_TYPES: Final[dict[type, str]] = {str: "text", int: "int8", float: "float8"}
#: The columns' types, which a binary COPY does not convert.
_STATE_TYPES = [_TYPES[kind] for kind in types_of(PaymentState)]


def _archived_of(tenant: str, payment: str, event: str = "") -> str:
    of_event = f" AND k.event_id = {event}" if event else ""
    return (
        "SELECT k.shard, k.leaf_index FROM audit_event_keys k JOIN audit_archived_leaves l ON l.tenant = k.tenant"  # noqa: S608
        " AND l.shard = k.shard AND k.leaf_index BETWEEN l.first_leaf AND l.last_leaf"
        " JOIN audit_archives a ON a.file = l.file AND a.is_removed = 1"
        f" WHERE k.tenant = {tenant} AND k.payment_id = {payment}{of_event}"
    )


class PostgresDatabase:
    """See :class:`connectors.sinks.database.Database`."""

    has_server: ClassVar[bool] = True
    takes_packed: ClassVar[bool] = True
    own_checks: ClassVar[dict[str, str]] = {
        "keys of events that are neither here nor archived": (
            "SELECT k.tenant, k.payment_id FROM audit_event_keys k LEFT JOIN payment_events e ON e.tenant = k.tenant"
            ' AND e."partition" = k.shard AND e.leaf_index = k.leaf_index AND e.payment_id = k.payment_id'
            " AND e.event_id = k.event_id WHERE e.tenant IS NULL AND NOT EXISTS (SELECT * FROM audit_archived_leaves l"
            " WHERE l.tenant = k.tenant AND l.shard = k.shard AND k.leaf_index BETWEEN l.first_leaf AND l.last_leaf)"
        )
    }
    archived_of: ClassVar[str] = _archived_of("?", "?")
    archived_event_of: ClassVar[str] = _archived_of("?", "?", "?")
    stored_columns: ClassVar[str] = EVENT_COLUMNS
    number_check: ClassVar[str] = "NULL"
    holds_bytes: ClassVar[str] = "position(?::bytea IN avro) > 0"

    def __init__(self, url: str, *, create: bool) -> None:
        self.shown = shown_url(url)
        self._url = url
        self._has_incoming = False
        self._forest = forest_of(self)
        #: Months whose table was asked for, by their first day.
        self._months: set[date] = set()
        #: From when to before when rows surely are of these months.
        self._known_ms = range(0)
        with self._translated():
            self._connection = self._connect()
        try:
            with self._translated():
                self._connection.execute(f"SET statement_timeout = '{STATEMENT_TIMEOUT_S}s'".encode())
                if create:
                    for statement in _SINK_SETTINGS:
                        self._connection.execute(statement.encode())
                else:
                    self._connection.execute(b"SET default_transaction_read_only = on")
        except BaseException:
            self._connection.close()
            raise

    def lock(self, purpose: Purpose = "sink") -> None:
        """Take the session's advisory lock; the server frees it with the connection."""
        if not self.query("SELECT pg_try_advisory_lock(?)", (_LOCK_KEYS[purpose],))[0][0]:
            raise DatabaseBusyError(f"{self.shown}: {BUSY[purpose]}")
        if purpose == "archive":
            is_owner = "SELECT pg_has_role(relowner, 'USAGE') FROM pg_class WHERE oid = to_regclass('payment_events')"
            if self.query(is_owner) == [(False,)]:
                raise DatabaseError(
                    f"{self.shown}: only the owner of the audit tables can remove rows; this is another role. Name the owner"
                    " in --database or PTR_DATABASE"
                )
            with self._translated():
                self._connection.execute(f"SET statement_timeout = '{ARCHIVE_TIMEOUT_S}s'".encode())

    def migrate(self) -> None:
        """Bring the tables up to date. Where they are, nothing is done that a role without other rights could not do."""
        if self._is_up_to_date():
            self._add_earlier_rows()
            return
        from yoyo.backends.core.postgresql import PostgresqlPsycopgBackend
        from yoyo.connections import parse_uri

        connect = self._connect

        class Backend(PostgresqlPsycopgBackend):  # type: ignore[misc]
            """yoyo's own does not read every URL that libpq reads."""

            def connect(self, dburi: object) -> psycopg.Connection[Any]:
                return connect()

        with self._translated():
            apply_migrations(Backend(parse_uri("postgresql+psycopg:///"), "_yoyo_migration"), "postgresql", self.shown)
            self._add_earlier_rows()

    def _is_up_to_date(self) -> bool:
        if not self.query("SELECT to_regclass('_yoyo_migration') IS NOT NULL")[0][0]:
            return False
        applied = self.query("SELECT migration_hash FROM _yoyo_migration")
        return {found for (found,) in applied} == migration_hashes("postgresql")

    def grant_writer(self, role: str) -> None:
        """Grant what :data:`_WRITER_RIGHTS` says, and take back everything else; only the owner can."""
        name = sql.Identifier(role)
        with self._translated(), self._connection.transaction():
            for tables, rights in _WRITER_RIGHTS.items():
                self._connection.execute(sql.SQL("REVOKE ALL ON {} FROM {}").format(sql.SQL(tables), name))
                self._connection.execute(sql.SQL("GRANT {} ON {} TO {}").format(sql.SQL(rights), sql.SQL(tables), name))

    def _add_earlier_rows(self) -> None:
        """Rows of before there were trees become their first leaves, in the order of Kafka's times."""
        if not self.query(EARLIER)[0][0]:
            return
        place = b"UPDATE payment_events SET leaf_index = %s WHERE tenant = %s AND payment_id = %s AND event_id = %s"
        try:
            with self._connection.transaction(), self._connection.cursor() as cursor:
                cursor.execute(b"ALTER TABLE payment_events DISABLE TRIGGER payment_events_no_update")
                with self._connection.cursor("ptr_earlier") as earlier:
                    earlier.execute(
                        f"SELECT {self.stored_columns} FROM payment_events"  # noqa: S608
                        " ORDER BY recorded_at_ms, tenant, payment_id, event_id".encode()
                    )
                    for rows in in_parts(iter(earlier)):
                        growth = grown_by_rows(self._forest, rows, self.shown)
                        cursor.executemany(
                            place, [(leaf, *row[:3]) for leaf, row in zip(growth.leaf_indexes, rows, strict=True)]
                        )
                        self._store_growth(cursor, growth)
                        self._forest.keep(growth)
                cursor.execute(_KEYS_OF_EARLIER)
                cursor.execute(b"ALTER TABLE payment_events ENABLE TRIGGER payment_events_no_update")
        except BaseException:
            self._forest = forest_of(self)
            raise

    def offsets(self) -> dict[Partition, int]:
        """The next offset to read, per topic and partition."""
        return read_offsets(self)

    def write(self, batch: Batch) -> int:
        """Write ``batch``: all or nothing."""
        rows = batch.events if isinstance(batch.events, PackedRows) else PackedRows.of(list(batch.events))
        leaves = batch.leaves if batch.leaves is not None else [leaf_of(row) for row in batch.events]
        with self._translated():
            self._make_incoming()
            self._make_months(rows)
            with self._connection.transaction(), self._connection.cursor() as cursor:
                store_offsets(batch, lambda sql, values: cursor.execute(_percent(sql), values).rowcount, self.shown)
                self._insert_keys(cursor, batch.keys)
                growth = self._insert(cursor, rows, leaves)
                self._store_growth(cursor, growth)
                if batch.states:
                    _copy(cursor, _COPY_STATES, _STATE_TYPES, batch.states)
                    cursor.execute(_UPSERT_PAYMENTS)
        self._forest.keep(growth)
        return len(growth.leaf_indexes)

    def write_heads(self, heads: Sequence[StoredHead]) -> None:
        """Keep ``heads``, and sync the log, which holds all commits before."""
        with self._translated(), self._connection.transaction(), self._connection.cursor() as cursor:
            cursor.execute(b"SET LOCAL synchronous_commit = on")
            cursor.executemany(_percent(HEAD), heads)

    def add_keys(self, rows: Sequence[tuple[object, ...]]) -> int:
        """Add to ``privacy_keys``, in one statement: a third of the time of single ones."""
        columns = [list(column) for column in zip(*rows, strict=True)]
        with self._translated(), self._connection.transaction(), self._connection.cursor() as cursor:
            cursor.execute(_INSERT_KEYS, columns)
            return cursor.rowcount

    def keep_marks(self, rows: Sequence[tuple[object, ...]]) -> None:
        """Add to ``privacy_marks``."""
        with self._translated(), self._connection.transaction(), self._connection.cursor() as cursor:
            cursor.executemany(_percent(MARKS), rows)

    def change_keys(self, sql: str, rows: Sequence[tuple[object, ...]]) -> int:
        """Change ``privacy_keys``. The server's log and old versions of rows are its own: see docs/operations.md."""
        with self._translated(), self._connection.transaction(), self._connection.cursor() as cursor:
            cursor.execute(b"SET LOCAL synchronous_commit = on")
            cursor.executemany(_percent(sql), rows)
            return cursor.rowcount

    def _insert_keys(self, cursor: psycopg.Cursor[Any], rows: Sequence[tuple[object, ...]]) -> None:
        if rows:
            cursor.execute(_INSERT_KEYS, [list(column) for column in zip(*rows, strict=True)])
            if cursor.rowcount != len(rows):
                raise taken_key(self.shown)

    def _insert(self, cursor: psycopg.Cursor[Any], rows: PackedRows, leaves: Sequence[bytes]) -> Growth:
        """Insert the events that are not there yet, as leaves.

        Repeats are rare: all are copied into the table, and only where one is refused, the new ones are found and copied anew.
        """
        growth = grown(self._forest, rows.trees, leaves, self.shown)
        try:
            with self._connection.transaction():
                self._copy_events(cursor, rows, growth)
        except errors.UniqueViolation as error:
            if error.diag.constraint_name != _EVENT_KEY:
                raise
            _copy_packed(cursor, _COPY_INCOMING, rows.placed(range(len(rows)))[0])
            new = sorted(place for (place,) in cursor.execute(_NEW_EVENTS))
            events = list(rows)
            rows = PackedRows.of([events[place] for place in new])
            growth = grown(self._forest, rows.trees, [leaves[place] for place in new], self.shown)
            self._copy_events(cursor, rows, growth)
        return growth

    @staticmethod
    def _copy_events(cursor: psycopg.Cursor[Any], rows: PackedRows, growth: Growth) -> None:
        if not len(rows):
            return
        events, keys = rows.placed(growth.leaf_indexes)
        _copy_packed(cursor, _COPY_EVENT_KEYS, keys)
        _copy_packed(cursor, _COPY_EVENTS, events)

    def _make_months(self, rows: PackedRows) -> None:
        """Have tables made for the months of ``rows``, and for the next one, so that none is made while it is waited for.

        In transactions of their own, and without waiting long: rows of a month that has no table have a place too.
        """
        if not len(rows) or (rows.first_ms in self._known_ms and rows.last_ms in self._known_ms):
            return
        days = {row[_RECORDED_AT_MS] // DAY_MS for row in rows}
        for month in sorted({month_of(day * DAY_MS) for day in days} - self._months):
            for made in (month, next_month(month)):
                with suppress(errors.LockNotAvailable), self._connection.transaction():
                    self._connection.execute(f"SET LOCAL lock_timeout = '{MONTH_LOCK_S}s'".encode())
                    self._connection.execute(b"SELECT payment_events_month(%s)", (first_ms(made),))
            self._months.add(month)
            self._known_ms = range(first_ms(month), first_ms(next_month(month)))

    def _store_growth(self, cursor: psycopg.Cursor[Any], growth: Growth) -> None:
        store_growth(growth, lambda sql, values: cursor.execute(_percent(sql), values).rowcount, self.shown)
        if growth.tiles:
            _copy(cursor, _COPY_TILES, _TILE_TYPES, growth.tiles)

    def write_archives(self, archives: Sequence[Archive], leaves: Mapping[str, Sequence[ArchivedLeaves]]) -> None:
        """Keep what files hold, and sync the log."""
        with self._translated(), self._connection.transaction(), self._connection.cursor() as cursor:
            cursor.execute(b"SET LOCAL synchronous_commit = on")
            cursor.executemany(_percent(ARCHIVE), archives)
            cursor.executemany(_percent(ARCHIVED_LEAVES), [(*one, file) for file in leaves for one in leaves[file]])

    def remove_archived(self, archives: Sequence[Archive], said: Callable[[int], None]) -> None:
        """In one transaction. A month's table is dropped when most of it goes; what stays is put into the table of other
        months. Else, and there, rows are deleted.
        """
        name = f"payment_events_{archives[0].month.replace('-', '_')}"
        with self._translated(), self._connection.transaction(), self._connection.cursor() as cursor:
            cursor.execute(f"SET LOCAL lock_timeout = '{REMOVE_LOCK_S}s'".encode())
            leaves = [
                ArchivedLeaves(*row)
                for archive in archives
                for row in cursor.execute(_percent(LEAVES_OF_ARCHIVE), (archive.file,)).fetchall()
            ]
            archived = sum(archive.events for archive in archives)
            if cursor.execute(b"SELECT to_regclass(%s) IS NOT NULL", (name,)).fetchone() == (True,):
                removed = self._remove_from_month(cursor, sql.Identifier(name), leaves, archived)
            else:
                removed = self._delete(cursor, sql.Identifier("payment_events_other"), leaves)
            if removed != archived:
                raise DatabaseError(
                    f"{self.shown}: {archived} rows of {archives[0].month} were archived, but {removed} would be removed:"
                    " nothing was. `ptr audit verify --database` tells what was changed"
                )
            cursor.executemany(_percent(REMOVED), [(archive.file,) for archive in archives])
        said(archived)

    def _remove_from_month(
        self, cursor: psycopg.Cursor[Any], month: sql.Identifier, leaves: Sequence[ArchivedLeaves], archived: int
    ) -> int:
        """Remove ``leaves``, so many rows, from the table ``month``; gives how many that were."""

        def count(statement: LiteralString, values: Sequence[object] = ()) -> int:
            return cursor.execute(sql.SQL(statement).format(month), values).rowcount

        # Only rows of this month wait while it is counted.
        cursor.execute(sql.SQL("LOCK TABLE {} IN SHARE ROW EXCLUSIVE MODE").format(month))
        rows = (cursor.execute(sql.SQL("SELECT count(*) FROM {}").format(month)).fetchone() or (0,))[0]
        if rows > 2 * archived or rows < archived:
            return self._delete(cursor, month, leaves)
        cursor.execute(sql.SQL("ALTER TABLE payment_events DETACH PARTITION {}").format(month))
        kept = 0
        gap = (
            'INSERT INTO payment_events SELECT * FROM {} WHERE tenant = %s AND "partition" = %s AND leaf_index > %s'
            " AND leaf_index < %s"
        )
        trees: dict[TreeId, int] = {}
        for one in leaves:
            kept += count(gap, (one.tenant, one.shard, trees.get(one[:2], -1), one.first))
            trees[one[:2]] = one.last
        for tree, last in trees.items():
            kept += count(gap, (*tree, last, 1 << 62))
        if kept < rows - archived:
            tenants, shards = [tenant for tenant, _ in trees], [shard for _, shard in trees]
            kept += count(
                'INSERT INTO payment_events SELECT * FROM {} WHERE leaf_index IS NULL OR (tenant, "partition") NOT IN'
                " (SELECT * FROM unnest(%s::text[], %s::bigint[]))",
                (tenants, shards),
            )
        cursor.execute(sql.SQL("DROP TABLE {}").format(month))
        return int(rows - kept)

    @staticmethod
    def _delete(cursor: psycopg.Cursor[Any], table: sql.Identifier, leaves: Sequence[ArchivedLeaves]) -> int:
        cursor.execute(sql.SQL("ALTER TABLE {} DISABLE TRIGGER payment_events_no_update").format(table))
        delete = sql.SQL('DELETE FROM {} WHERE tenant = %s AND "partition" = %s AND leaf_index BETWEEN %s AND %s')
        deleted = 0
        for one in leaves:
            for part in parts_of(one, REMOVE_ROWS):
                deleted += cursor.execute(delete.format(table), part).rowcount
        cursor.execute(sql.SQL("ALTER TABLE {} ENABLE TRIGGER payment_events_no_update").format(table))
        return deleted

    @staticmethod
    def is_archived(payment: str) -> str:
        """By tenant and payment id."""
        return f"EXISTS ({_archived_of(f'{payment}.tenant', f'{payment}.payment_id')})"

    @staticmethod
    def events_of(events: str) -> str:
        """By tenant and payment id."""
        return f"{events}.tenant = ? AND {events}.payment_id = ?"

    @staticmethod
    def same_payment(one: str, other: str) -> str:
        """By tenant and payment id."""
        return f"{one}.tenant = {other}.tenant AND {one}.payment_id = {other}.payment_id"

    @staticmethod
    def tells_of(event: str, payment: str) -> str:
        """By tenant and payment id."""
        return f"{event}.tenant = {payment}.tenant AND {event}.payment_id = {payment}.payment_id"

    @staticmethod
    def is_about(event: str, payment: str) -> str:
        """By tenant and payment id."""
        return f"{event}.tenant = {payment}.tenant AND {event}.payment_id = {payment}.payment_id"

    def query(self, sql: str, parameters: Sequence[object] = ()) -> list[tuple[Any, ...]]:
        """Rows of a SELECT; ``sql`` holds no other question mark or percent sign."""
        with self._translated():
            return self._connection.execute(_percent(sql), parameters).fetchall()

    def stream(self, sql: str, parameters: Sequence[object] = ()) -> Generator[tuple[Any, ...]]:
        """Rows of a SELECT, some at a time, by a cursor of the server."""
        with (
            self._translated(),
            self._connection.transaction(),
            self._connection.cursor("ptr_stream") as cursor,
        ):
            cursor.itersize = STREAM_ROWS
            cursor.execute(_percent(sql), parameters)
            yield from cursor

    @contextmanager
    def snapshot(self) -> Iterator[None]:
        """A transaction. Locked before it is read: a month's table that is dropped is gone for earlier snapshots too."""
        with self._translated(), self._connection.transaction():
            self._connection.execute(b"SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
            self._connection.execute(b"LOCK TABLE ONLY payment_events IN ACCESS SHARE MODE")
            yield

    def close(self) -> None:
        """Close, and with it unlock."""
        with suppress(psycopg.Error):
            self._connection.close()

    def _connect(self) -> psycopg.Connection[Any]:
        parameters: dict[str, Any] = {"connect_timeout": CONNECT_TIMEOUT_S, **KEEPALIVE}
        return psycopg.connect(self._url, autocommit=True, application_name="ptr-audit-sink", **parameters)

    def _make_incoming(self) -> None:
        if not self._has_incoming:
            for name, like in (("incoming_events", "payment_events"), ("incoming_states", "payments")):
                self._connection.execute(f"CREATE TEMPORARY TABLE {name} (LIKE {like}) ON COMMIT DELETE ROWS".encode())
            self._has_incoming = True

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except psycopg.Error as error:
            self._raise(error)

    def _raise(self, error: psycopg.Error) -> NoReturn:
        # Only the primary message: DETAIL repeats values. Messages of libpq name host, port and user, no password.
        said = error.diag.message_primary or str(error).strip().splitlines()[0]
        if isinstance(error, psycopg.ProgrammingError) and error.sqlstate is None:
            raise DatabaseError(f"{self.shown}: not a connection URL that PostgreSQL's library understands") from None
        if isinstance(error, errors.UndefinedTable):
            raise missing_tables(self.shown) from None
        state = error.sqlstate
        passes = isinstance(error, psycopg.OperationalError | psycopg.InterfaceError) if state is None else None
        if passes is None:
            passes = (state or "").startswith(_MAY_PASS)
        elif any(part in str(error) for part in _HOPELESS):
            passes = False
        raise (DatabaseAwayError if passes else DatabaseError)(f"{self.shown}: {said}") from None


def _percent(sql: str) -> bytes:
    return sql.replace("?", "%s").encode()


def _copy_packed(cursor: psycopg.Cursor[Any], sql: bytes, rows: bytes) -> None:
    with cursor.copy(sql) as copy:
        copy.write(HEADER)
        copy.write(rows)
        copy.write(TRAILER)


def _copy(cursor: psycopg.Cursor[Any], sql: bytes, types: list[str], rows: Iterable[tuple[Any, ...]]) -> None:
    with cursor.copy(sql) as copy:
        copy.set_types(types)
        write = copy.write_row
        for row in rows:
            write(row)
