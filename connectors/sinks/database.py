"""The audit database: what the sink needs of one, and which one a URL names."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Final, Literal, NamedTuple, Protocol
from urllib.parse import unquote, urlsplit

from connectors.sinks.copying import PackedRows
from connectors.sinks.rows import Columns, EventRow, PaymentState

if TYPE_CHECKING:
    from connectors.sinks.postgres import PostgresDatabase
    from connectors.sinks.sqlite import SqliteDatabase

EVENT_COLUMNS = ", ".join(f'"{name}"' for name in EventRow._fields)
STATE_COLUMNS = ", ".join(f'"{name}"' for name in PaymentState._fields)
#: Of a key that is not erased.
KEY_COLUMNS = "key_id, tenant, kind, subject, wrapped, master, created_at_ms"
#: Parameters are written ``?``, as in :meth:`Database.query`.
_READ_OFFSETS = 'SELECT topic, "partition", next_offset FROM sink_offsets'
_FIRST_OFFSET = 'INSERT INTO sink_offsets (next_offset, topic, "partition") VALUES (?, ?, ?) ON CONFLICT DO NOTHING'
_NEXT_OFFSET = 'UPDATE sink_offsets SET next_offset = ? WHERE topic = ? AND "partition" = ? AND next_offset = ?'

#: Rows that :meth:`Database.stream` holds at a time.
STREAM_ROWS = 500
#: How long another writer is waited for before a migration.
MIGRATION_LOCK_S = 10.0

Partition = tuple[str, int]
#: What only one process at a time does with a database: to whom it says so when another does.
Purpose = Literal["sink", "archive"]
BUSY: Final[dict[Purpose, str]] = {
    "sink": "another sink writes to this database",
    "archive": "another `ptr audit archive` is at work on this database",
}


class DatabaseError(Exception):
    """The audit database cannot be used as it is; waiting does not help. The text names it without its password."""


class DatabaseAwayError(DatabaseError):
    """The audit database does not answer, is locked or full: may pass."""


class DatabaseBusyError(DatabaseError):
    """Another sink writes to this database."""


@dataclass(slots=True)
class Batch:
    """What goes into one transaction."""

    #: Columns of :class:`EventRow`.
    events: Sequence[Columns] | PackedRows = field(default_factory=list)
    states: list[PaymentState] = field(default_factory=list)
    #: By topic and partition: the offset that must be stored now (None: none), and the next one to read.
    offsets: dict[Partition, tuple[int | None, int]] = field(default_factory=dict)
    #: The hash of each event's leaf; None: :meth:`Database.write` hashes.
    leaves: list[bytes] | None = None
    #: Rows of :data:`KEY_COLUMNS` that are new: of persons whose events these are.
    keys: list[tuple[Any, ...]] = field(default_factory=list)


class ArchivedLeaves(NamedTuple):
    """Leaves of a tree that are in one file, without gaps; both ends are in it."""

    tenant: str
    shard: int
    first: int
    last: int


class Archive(NamedTuple):
    """A row of ``audit_archives``: a file that rows were moved to."""

    #: Under the folder of archives.
    file: str
    sha256: str
    tenant: str
    #: YYYY-MM.
    month: str
    events: int
    #: Whether its rows are out of ``payment_events``.
    is_removed: int = 0


class StoredHead(NamedTuple):
    """A row of ``audit_heads``: the signed head of a tree at a size."""

    tenant: str
    shard: int
    size: int
    note: str


class Database(Protocol):
    """An open audit database; :func:`open_database` gives one. Not for use by several threads at once."""

    #: The URL without password.
    shown: str
    #: Whether another process does the work of :meth:`write`, so that it leaves this one time for something else.
    has_server: ClassVar[bool]
    #: Whether :meth:`write` takes events as :class:`PackedRows` in less time than as they are.
    takes_packed: ClassVar[bool]
    #: Checks of what only this kind of database has: the name, and a SELECT of tenant and payment id of what is wrong.
    own_checks: ClassVar[dict[str, str]]
    #: The columns of :class:`EventRow` in a SELECT, as they are stored: what a leaf covers.
    stored_columns: ClassVar[str]
    #: In a SELECT from ``payment_events``: 1 for a row under the number of its payment, 0 of another, -1 of none; NULL where
    #: there are no numbers.
    number_check: ClassVar[str]

    #: SELECT of shard and leaf of a payment's events whose rows were moved out of here. With two parameters, tenant and
    #: payment id.
    archived_of: ClassVar[str]
    #: The same of one event; with its event id as the third parameter.
    archived_event_of: ClassVar[str]

    def lock(self, purpose: Purpose = "sink") -> None:
        """Become the only one that does this with this database, until closed. Raises :class:`DatabaseBusyError`."""

    def migrate(self) -> None:
        """Bring the tables up to date; only under the lock."""

    def grant_writer(self, role: str) -> None:
        """Let ``role`` do what a sink does, and no more: events and tiles it may only insert and read. Raises
        :class:`DatabaseError`, also where a database has no roles.
        """

    def offsets(self) -> dict[Partition, int]:
        """The next offset to read, per topic and partition."""

    def write(self, batch: Batch) -> int:
        """Write ``batch``, its keys and the leaves of its events in one transaction; gives how many events were new, the others
        were there already.

        Raises :class:`DatabaseBusyError` when the stored offsets are not the expected ones, :class:`DatabaseAwayError`
        when it may or may not have been written (ask :meth:`offsets` after opening again) or the id or subject of a key is
        there already, :class:`DatabaseError` when it cannot be written; then nothing was.
        """

    #: In a SELECT: whether ``avro`` holds the bytes that are a parameter. By reading every row.
    holds_bytes: ClassVar[str]

    # Conditions in SQL that find by an index, which differs; they take names of tables in the query.

    @staticmethod
    def events_of(events: str) -> str:
        """``events``, of ``payment_events``, are a payment's. With two parameters, tenant and payment id."""

    @staticmethod
    def same_payment(one: str, other: str) -> str:
        """Two of ``payment_events``, which tell their payments' states, are of one payment."""

    @staticmethod
    def tells_of(event: str, payment: str) -> str:
        """``event``, of ``payment_events``, tells the state of ``payment``, of ``payments``."""

    @staticmethod
    def is_about(event: str, payment: str) -> str:
        """``event``, of ``payment_events``, is under the ids of ``payment``, of ``payments``, whatever it tells."""

    @staticmethod
    def is_archived(payment: str) -> str:
        """Some event of ``payment``, of ``payments``, is archived."""

    def remove_archived(self, archives: Sequence[Archive], said: Callable[[int], None]) -> None:
        """Remove the rows of ``archives``, all of one month, that :meth:`write_archives` told, for good: only for the
        tables' owner. ``said`` takes how many are gone. Raises as :meth:`write` does; once more then does the rest.
        """

    def write_archives(self, archives: Sequence[Archive], leaves: Mapping[str, Sequence[ArchivedLeaves]]) -> None:
        """Keep what files hold, ``leaves`` by file; when this returns, it outlasts a loss of power."""

    def write_heads(self, heads: Sequence[StoredHead]) -> None:
        """Keep signed heads in place of the trees' earlier ones. When this returns, they and all that was written before
        them outlast a loss of power: only then may a head leave this host. Raises as :meth:`write` does.
        """

    def add_keys(self, rows: Sequence[tuple[object, ...]]) -> int:
        """Add ``rows`` of :data:`KEY_COLUMNS` to ``privacy_keys`` in one transaction, but for those whose id or subject is
        there; gives how many were added. Events that are written later are not kept by a loss of power without them.
        Raises as :meth:`write` does.
        """

    def keep_marks(self, rows: Sequence[tuple[object, ...]]) -> None:
        """Add ``rows`` to ``privacy_marks``, but for those that are there (connectors/privacy/marks.py). Raises as
        :meth:`write` does."""

    def change_keys(self, sql: str, rows: Sequence[tuple[object, ...]]) -> int:
        """Run ``sql``, an UPDATE of ``privacy_keys``, with each of ``rows`` in one transaction that outlasts a loss of power
        when this returns; gives how many changed. Of what was removed nothing stays in the database's own files, as far
        as its kind can see to that. Raises as :meth:`write` does.
        """

    def query(self, sql: str, parameters: Sequence[object] = ()) -> list[tuple[Any, ...]]:
        """Rows of a SELECT whose parameters are written ``?``."""

    def stream(self, sql: str, parameters: Sequence[object] = ()) -> Generator[tuple[Any, ...]]:
        """The same, some rows at a time: for a SELECT whose rows do not fit into memory. One at a time; nothing is written
        until it is read or closed."""

    def snapshot(self) -> AbstractContextManager[None]:
        """Until it ends, all that is read is as it was at its beginning, so that no row is in the database and in a file, or in
        neither; `ptr audit archive` may have to wait for its end."""

    def close(self) -> None:
        """Close; never raises."""


def open_database(url: str, *, create: bool = False) -> Database:
    """Open the database that ``url`` names: ``sqlite:///FILE`` or ``postgresql://USER@HOST/DB``.

    ``create`` makes a missing SQLite file; without it a missing file or missing tables are an error. Raises
    :class:`DatabaseAwayError` when it cannot be reached, :class:`DatabaseError` when it cannot be used.
    """
    return kind_of(url)(url, create=create)


def kind_of(url: str) -> type[SqliteDatabase | PostgresDatabase]:
    """What :func:`open_database` opens. Raises :class:`DatabaseError`."""
    scheme = url.split(":", 1)[0]
    if scheme == "sqlite":
        from connectors.sinks.sqlite import SqliteDatabase

        return SqliteDatabase
    if scheme in {"postgresql", "postgres"}:
        from connectors.sinks.postgres import PostgresDatabase

        return PostgresDatabase
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


def wanted(payments: int) -> str:
    """``WITH wanted(tenant, payment_id)``, so many payments, whose ids are the first parameters.

    Joined, each is looked up by its key. From one key to another PostgreSQL expects a third of all rows, and reads all.
    """
    return f"WITH wanted(tenant, payment_id) AS (VALUES {', '.join(['(?, ?)'] * payments)})"


def read_offsets(database: Database) -> dict[Partition, int]:
    """See :meth:`Database.offsets`."""
    return {(topic, partition): next_offset for topic, partition, next_offset in database.query(_READ_OFFSETS)}


def store_offsets(batch: Batch, change: Callable[[str, tuple[object, ...]], int], shown: str) -> None:
    """Store the offsets of ``batch`` with ``change``, which gives how many rows a statement wrote.

    Raises :class:`DatabaseBusyError` when a stored offset is not the expected one.
    """
    for (topic, partition), (expected, next_offset) in batch.offsets.items():
        if expected is None:
            changed = change(_FIRST_OFFSET, (next_offset, topic, partition))
        else:
            changed = change(_NEXT_OFFSET, (next_offset, topic, partition, expected))
        if changed != 1:
            raise DatabaseBusyError(
                f"{shown}: the stored offset of {topic}/{partition} is not {'absent' if expected is None else expected}"
                " as this sink left it: another sink writes to this database. Stop the other one; this one wrote"
                " nothing of this batch."
            )


MARKS: Final = "INSERT INTO privacy_marks (tenant, shard, stretch, marks) VALUES (?, ?, ?, ?) ON CONFLICT DO NOTHING"


def taken_key(shown: str) -> DatabaseAwayError:
    """A key of the batch met another one: the same records get other keys."""
    return DatabaseAwayError(f"{shown}: a new key has the id or the subject of another")


ARCHIVE: Final = (
    "INSERT INTO audit_archives (file, sha256, tenant, month, events, is_removed) VALUES (?, ?, ?, ?, ?, ?)"
)
ARCHIVED_LEAVES: Final = (
    "INSERT INTO audit_archived_leaves (tenant, shard, first_leaf, last_leaf, file) VALUES (?, ?, ?, ?, ?)"
)
LEAVES_OF_ARCHIVE: Final = (
    "SELECT tenant, shard, first_leaf, last_leaf FROM audit_archived_leaves WHERE file = ?"
    " ORDER BY tenant, shard, first_leaf"
)
REMOVED: Final = "UPDATE audit_archives SET is_removed = 1 WHERE file = ?"


def parts_of(leaves: ArchivedLeaves, leaves_max: int) -> Iterator[ArchivedLeaves]:
    """``leaves`` in parts of at most ``leaves_max``."""
    for first in range(leaves.first, leaves.last + 1, leaves_max):
        yield leaves._replace(first=first, last=min(first + leaves_max - 1, leaves.last))


def missing_tables(shown: str) -> DatabaseError:
    """The database is there, the audit tables are not."""
    return DatabaseError(f"{shown} has no audit tables: has `ptr audit-sink` ever run with this database?")


def too_new(shown: str) -> DatabaseError:
    """The database was brought up to date by a newer program."""
    return DatabaseError(f"{shown} was brought up to date by a newer version of this program: run that version")


def migration_hashes(name: str) -> set[str]:
    """What yoyo calls the migrations of ``migrations/<name>``."""
    import yoyo

    return {migration.hash for migration in yoyo.read_migrations(str(Path(__file__).parent / "migrations" / name))}


def apply_migrations(backend: Any, name: str, shown: str) -> None:
    """Apply the migrations of ``migrations/<name>`` that are missing; the caller holds the sink's lock.

    Raises :class:`DatabaseAwayError` when another writer holds the database, :class:`DatabaseError` when it is too new.
    """
    import yoyo
    from yoyo.exceptions import LockTimeout

    migrations = yoyo.read_migrations(str(Path(__file__).parent / "migrations" / name))
    try:
        with backend:
            backend.init_database()
            # The sink's own lock is held: a lock that is still there is of a process that was killed.
            backend.break_lock()
            applied = set(backend.get_applied_migration_hashes())
            if applied - {migration.hash for migration in migrations}:
                raise too_new(shown)
            if missing := backend.to_apply(migrations):
                with backend.lock(MIGRATION_LOCK_S):
                    backend.apply_migrations(missing)
    except LockTimeout:
        # Another writer came between; yoyo takes every error of its INSERT for another migration.
        raise DatabaseAwayError(f"{shown}: somebody else's transaction holds the database") from None
