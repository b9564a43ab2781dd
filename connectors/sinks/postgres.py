"""The audit database in PostgreSQL, through psycopg 3.

Rows are copied, in binary, into temporary tables and inserted from there in one statement: that costs half of what a
pipeline of single INSERTs costs. Temporary tables live in the session, so nothing is left behind.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any, ClassVar, NoReturn, get_args, get_type_hints

import psycopg
from psycopg import errors

from connectors.sinks.database import (
    EVENT_COLUMNS,
    STATE_COLUMNS,
    STREAM_ROWS,
    Batch,
    DatabaseAwayError,
    DatabaseBusyError,
    DatabaseError,
    Partition,
    apply_migrations,
    insert_sql,
    missing_tables,
    read_offsets,
    shown_url,
    store_offsets,
    upsert_sql,
)
from connectors.sinks.rows import EventRow, PaymentState

#: Advisory lock of the sink: the first eight bytes of "ptr-audit-sink", big endian.
LOCK_KEY = int.from_bytes(b"ptr-audi", "big")
CONNECT_TIMEOUT_S = 5
#: No batch takes this long; a server that is silent for longer is away.
STATEMENT_TIMEOUT_S = 120
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

_COPY_EVENTS = f"COPY incoming_events ({EVENT_COLUMNS}) FROM STDIN (FORMAT binary)".encode()
_COPY_STATES = f"COPY incoming_states ({STATE_COLUMNS}) FROM STDIN (FORMAT binary)".encode()
_INSERT_EVENTS = insert_sql(f"SELECT {EVENT_COLUMNS} FROM incoming_events").encode()  # noqa: S608
_UPSERT_PAYMENTS = upsert_sql(f"SELECT {STATE_COLUMNS} FROM incoming_states").encode()  # noqa: S608
_TYPES: dict[object, str] = {str: "text", int: "int8", float: "float8", bytes: "bytea"}


def _types(row: type[EventRow] | type[PaymentState]) -> list[str]:
    """The columns' types, which a binary COPY does not convert; JSON travels as text."""
    # The first part of an ``int | None``, or the whole.
    return [_TYPES[(*get_args(hint), hint)[0]] for hint in get_type_hints(row).values()]


_EVENT_TYPES, _STATE_TYPES = _types(EventRow), _types(PaymentState)


class PostgresDatabase:
    """See :class:`connectors.sinks.database.Database`."""

    own_checks: ClassVar[dict[str, str]] = {}

    def __init__(self, url: str, *, create: bool) -> None:
        self.shown = shown_url(url)
        self._url = url
        self._has_incoming = False
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

    def lock(self) -> None:
        """Take the session's advisory lock; the server frees it with the connection."""
        if not self.query("SELECT pg_try_advisory_lock(?)", (LOCK_KEY,))[0][0]:
            raise DatabaseBusyError(f"{self.shown}: another sink writes to this database")

    def migrate(self) -> None:
        """Bring the tables up to date."""
        from yoyo.backends.core.postgresql import PostgresqlPsycopgBackend
        from yoyo.connections import parse_uri

        connect = self._connect

        class Backend(PostgresqlPsycopgBackend):  # type: ignore[misc]
            """yoyo's own does not read every URL that libpq reads."""

            def connect(self, dburi: object) -> psycopg.Connection[Any]:
                return connect()

        with self._translated():
            apply_migrations(Backend(parse_uri("postgresql+psycopg:///"), "_yoyo_migration"), "postgresql", self.shown)

    def offsets(self) -> dict[Partition, int]:
        """The next offset to read, per topic and partition."""
        return read_offsets(self)

    def write(self, batch: Batch) -> int:
        """Write ``batch``: all or nothing."""
        with self._translated():
            self._make_incoming()
            with self._connection.transaction(), self._connection.cursor() as cursor:
                store_offsets(batch, lambda sql, values: cursor.execute(_percent(sql), values).rowcount, self.shown)
                inserted = 0
                if batch.events:
                    _copy(cursor, _COPY_EVENTS, _EVENT_TYPES, batch.events)
                    inserted = cursor.execute(_INSERT_EVENTS).rowcount
                if batch.states:
                    _copy(cursor, _COPY_STATES, _STATE_TYPES, batch.states)
                    cursor.execute(_UPSERT_PAYMENTS)
        return inserted

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


def _copy(cursor: psycopg.Cursor[Any], sql: bytes, types: list[str], rows: Sequence[tuple[Any, ...]]) -> None:
    with cursor.copy(sql) as copy:
        copy.set_types(types)
        write = copy.write_row
        for row in rows:
            write(row)
