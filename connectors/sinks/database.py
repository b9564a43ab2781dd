"""The audit database: what the sink needs of one, and which one a URL names."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import unquote, urlsplit

from connectors.sinks.rows import EventRow, PaymentState

EVENT_COLUMNS = ", ".join(f'"{name}"' for name in EventRow._fields)
STATE_COLUMNS = ", ".join(f'"{name}"' for name in PaymentState._fields)

Partition = tuple[str, int]


class DatabaseError(Exception):
    """The audit database cannot be used as it is; waiting does not help. The text names it without its password."""


class DatabaseAwayError(DatabaseError):
    """The audit database does not answer, is locked or full: may pass."""


class DatabaseBusyError(DatabaseError):
    """Another sink writes to this database."""


@dataclass(slots=True)
class Batch:
    """What goes into one transaction."""

    events: list[EventRow] = field(default_factory=list)
    states: list[PaymentState] = field(default_factory=list)
    #: By topic and partition: the offset that must be stored now (None: none), and the next one to read.
    offsets: dict[Partition, tuple[int | None, int]] = field(default_factory=dict)


class Database(Protocol):
    """An open audit database; :func:`open_database` gives one. Not for use by several threads at once."""

    #: The URL without password.
    shown: str

    def lock(self) -> None:
        """Become the only sink of this database, until closed. Raises :class:`DatabaseBusyError`."""

    def migrate(self) -> None:
        """Bring the tables up to date; only under the lock."""

    def offsets(self) -> dict[Partition, int]:
        """The next offset to read, per topic and partition."""

    def write(self, batch: Batch) -> int:
        """Write ``batch`` in one transaction and give how many events were new; the others were there already.

        Raises :class:`DatabaseBusyError` when the stored offsets are not the expected ones, :class:`DatabaseAwayError`
        when it may or may not have been written (ask :meth:`offsets` after opening again), :class:`DatabaseError` when
        it cannot be written; then nothing was.
        """

    def query(self, sql: str, parameters: Sequence[object] = ()) -> list[tuple[Any, ...]]:
        """Rows of a SELECT whose parameters are written ``?``."""

    def close(self) -> None:
        """Close; never raises."""


def open_database(url: str, *, create: bool = False) -> Database:
    """Open the database that ``url`` names: ``sqlite:///FILE`` or ``postgresql://USER@HOST/DB``.

    ``create`` makes a missing SQLite file; without it a missing file or missing tables are an error. Raises
    :class:`DatabaseAwayError` when it cannot be reached, :class:`DatabaseError` when it cannot be used.
    """
    scheme = url.split(":", 1)[0]
    if scheme == "sqlite":
        from connectors.sinks.sqlite import SqliteDatabase

        return SqliteDatabase(sqlite_path(url), create=create)
    if scheme in {"postgresql", "postgres"}:
        from connectors.sinks.postgres import PostgresDatabase

        return PostgresDatabase(url, create=create)
    raise DatabaseError("the audit database must be sqlite:///FILE or postgresql://USER@HOST/DB")


def sqlite_path(url: str) -> Path:
    """``sqlite:///FILE`` is relative, ``sqlite:////FILE`` absolute. Raises :class:`DatabaseError`."""
    prefix, path = "sqlite:///", url.split("?", 1)[0]
    if not path.startswith(prefix) or not path[len(prefix) :].strip("/"):
        raise DatabaseError("an SQLite database is sqlite:///FILE, or sqlite:////FILE for an absolute path")
    return Path(unquote(path[len(prefix) :]))


def shown_url(url: str) -> str:
    """``url`` without password and parameters, for messages."""
    try:
        parts = urlsplit(url)
        at = parts.netloc.rpartition("@")
        user = at[0].split(":", 1)[0]
        return f"{parts.scheme}://{user + '@' if user else ''}{at[2]}{parts.path}"
    except ValueError:
        return url.split(":", 1)[0] + "://..."


def upsert_sql(values: str) -> str:
    """``INSERT INTO payments ... <values>``: the later event speaks, an earlier one only fills what is open."""
    sets = ", ".join(
        f'"{name}" = CASE WHEN excluded.last_sequence > payments.last_sequence'
        f' THEN COALESCE(excluded."{name}", payments."{name}") ELSE COALESCE(payments."{name}", excluded."{name}") END'
        for name in PaymentState._fields
        if name not in {"tenant", "payment_id"}
    )
    return (
        f"INSERT INTO payments ({STATE_COLUMNS}) {values} ON CONFLICT (tenant, payment_id) DO UPDATE SET {sets}"
        " WHERE excluded.last_sequence > payments.last_sequence"
        " OR (payments.amount_minor IS NULL AND excluded.amount_minor IS NOT NULL)"
        " OR (payments.score IS NULL AND excluded.score IS NOT NULL)"
    )


def check_offset(topic: str, partition: int, expected: int | None, changed: int, shown: str) -> None:
    """Raise :class:`DatabaseBusyError` unless exactly one row of ``sink_offsets`` was written."""
    if changed != 1:
        raise DatabaseBusyError(
            f"{shown}: the stored offset of {topic}/{partition} is not {'absent' if expected is None else expected} as"
            " this sink left it: another sink writes to this database. Stop the other one; this one wrote nothing"
            " of this batch."
        )


def coordinates_taken(shown: str) -> DatabaseError:
    """Rows of other events are already kept under the coordinates of new ones."""
    return DatabaseError(
        f"{shown}: the coordinates (topic, partition, offset) of a new event belong to another event: the topic was"
        " deleted and made again, or the broker is another one. Keep this database as it is and start a new one."
    )


def missing_tables(shown: str) -> DatabaseError:
    """The database is there, the audit tables are not."""
    return DatabaseError(f"{shown} has no audit tables: has `ptr audit-sink` ever run with this database?")


def too_new(shown: str) -> DatabaseError:
    """The database was brought up to date by a newer program."""
    return DatabaseError(f"{shown} was brought up to date by a newer version of this program: run that version")


def apply_migrations(backend: Any, name: str, shown: str) -> None:
    """Apply the migrations of ``migrations/<name>`` that are missing; the caller holds the sink's lock."""
    import yoyo

    migrations = yoyo.read_migrations(str(Path(__file__).parent / "migrations" / name))
    with backend:
        backend.init_database()
        # The sink's own lock is held: a lock that is still there is of a process that was killed.
        backend.break_lock()
        applied = set(backend.get_applied_migration_hashes())
        if applied - {migration.hash for migration in migrations}:
            raise too_new(shown)
        with backend.lock():
            backend.apply_migrations(backend.to_apply(migrations))
