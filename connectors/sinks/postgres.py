"""The audit database in PostgreSQL, through psycopg 3.

Rows are copied into temporary tables and inserted from there in one statement: as measured by
tests/benchmark/bench_sink.py, a COPY costs half of what a pipeline of single INSERTs costs. Temporary tables live in
the session, so nothing is left behind.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any, NoReturn

import psycopg
from psycopg import errors

from connectors.sinks.database import (
    EVENT_COLUMNS,
    STATE_COLUMNS,
    Batch,
    DatabaseAwayError,
    DatabaseBusyError,
    DatabaseError,
    Partition,
    apply_migrations,
    check_offset,
    coordinates_taken,
    missing_tables,
    shown_url,
    upsert_sql,
)

#: Advisory lock of the sink: the first eight bytes of "ptr-audit-sink", big endian.
LOCK_KEY = int.from_bytes(b"ptr-audi", "big")
CONNECT_TIMEOUT_S = 5
#: No batch takes this long; a server that is silent for longer is away.
STATEMENT_TIMEOUT_S = 120
#: Both ends notice within about half a minute that the other is gone; the server then frees the sink's lock.
KEEPALIVE = {"keepalives_idle": 10, "keepalives_interval": 5, "keepalives_count": 3, "tcp_user_timeout": 30_000}
_SERVER_KEEPALIVE = (
    "SET tcp_keepalives_idle = 10",
    "SET tcp_keepalives_interval = 5",
    "SET tcp_keepalives_count = 3",
    "SET tcp_user_timeout = 30000",
)

#: SQLSTATE classes and codes that can pass by themselves.
_MAY_PASS = ("08", "40", "53", "55", "57", "58")
#: Parts of libpq's messages (it gives no code) that waiting does not help.
_HOPELESS = ("authentication failed", "no password supplied", "does not exist", "no pg_hba.conf entry")

_COPY_EVENTS = f"COPY incoming_events ({EVENT_COLUMNS}) FROM STDIN".encode()
_COPY_STATES = f"COPY incoming_states ({STATE_COLUMNS}) FROM STDIN".encode()
_INSERT_EVENTS = (
    f"INSERT INTO payment_events ({EVENT_COLUMNS}) SELECT {EVENT_COLUMNS} FROM incoming_events"  # noqa: S608
    " ON CONFLICT (tenant, payment_id, event_id) DO NOTHING"
).encode()
_UPSERT_PAYMENTS = upsert_sql(f"SELECT {STATE_COLUMNS} FROM incoming_states").encode()  # noqa: S608


class PostgresDatabase:
    """See :class:`connectors.sinks.database.Database`."""

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
                    for statement in _SERVER_KEEPALIVE:
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
        rows = self.query('SELECT topic, "partition", next_offset FROM sink_offsets')
        return {(topic, partition): next_offset for topic, partition, next_offset in rows}

    def write(self, batch: Batch) -> int:
        """Write ``batch``: all or nothing."""
        with self._translated():
            self._make_incoming()
            with self._connection.transaction(), self._connection.cursor() as cursor:
                self._store_offsets(cursor, batch)
                inserted = 0
                if batch.events:
                    with cursor.copy(_COPY_EVENTS) as copy:
                        for event in batch.events:
                            copy.write_row(event)
                    inserted = cursor.execute(_INSERT_EVENTS).rowcount
                if batch.states:
                    with cursor.copy(_COPY_STATES) as copy:
                        for state in batch.states:
                            copy.write_row(state)
                    cursor.execute(_UPSERT_PAYMENTS)
        return inserted

    def query(self, sql: str, parameters: Sequence[object] = ()) -> list[tuple[Any, ...]]:
        """Rows of a SELECT; ``sql`` holds no other question mark or percent sign."""
        with self._translated():
            return self._connection.execute(sql.replace("?", "%s").encode(), parameters).fetchall()

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

    def _store_offsets(self, cursor: psycopg.Cursor[Any], batch: Batch) -> None:
        for (topic, partition), (expected, next_offset) in batch.offsets.items():
            if expected is None:
                insert = b"INSERT INTO sink_offsets VALUES (%s, %s, %s) ON CONFLICT DO NOTHING"
                changed = cursor.execute(insert, (topic, partition, next_offset)).rowcount
            else:
                update = (
                    b"UPDATE sink_offsets SET next_offset = %s"
                    b' WHERE topic = %s AND "partition" = %s AND next_offset = %s'
                )
                changed = cursor.execute(update, (next_offset, topic, partition, expected)).rowcount
            check_offset(topic, partition, expected, changed, self.shown)

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
        if isinstance(error, errors.UniqueViolation) and error.diag.table_name == "payment_events":
            raise coordinates_taken(self.shown) from None
        state = error.sqlstate
        passes = isinstance(error, psycopg.OperationalError | psycopg.InterfaceError) if state is None else None
        if passes is None:
            passes = (state or "").startswith(_MAY_PASS)
        elif any(part in str(error) for part in _HOPELESS):
            passes = False
        raise (DatabaseAwayError if passes else DatabaseError)(f"{self.shown}: {said}") from None
