"""`ptr audit archive`: past months go into files, proofs hold, nothing is lost; in SQLite and in PostgreSQL."""

from __future__ import annotations

import json
import multiprocessing
import os
import random
import shutil
import signal
import time
import tracemalloc
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import psycopg
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yoyo
from click.testing import CliRunner, Result

from connectors.proofs.heads import HeadsFile, read_heads
from connectors.proofs.keys import make_key, read_public, read_signer
from connectors.sinks import archive_files, archiving
from connectors.sinks import database as database_module
from connectors.sinks.archive_files import ArchivedRows
from connectors.sinks.archives import ArchiveFileError, archives_of
from connectors.sinks.archiving import Archiving, by_month, plan
from connectors.sinks.database import EVENT_COLUMNS, STATE_COLUMNS, Batch, DatabaseBusyError, open_database
from connectors.sinks.months import first_ms, next_month
from connectors.sinks.rows import Columns
from connectors.sinks.signing import HeadSigner
from connectors.sinks.story import count_check
from connectors.sinks.verifying import verify_database
from pipeline import topics
from pipeline.cli import main
from pipeline.commands import audit_proofs
from schemas.records import TenantConfigured
from tests.benchmark.bench_sink import records_of
from tests.integration import postgres as pg
from tests.integration.test_audit_proofs import counted
from tests.integration.test_sqlite_audit import CODEC, MAPPER, ids, states
from tests.unit.test_inventory import a_movement
from tests.unit.test_invoices import a_change

MIGRATIONS = Path(database_module.__file__).parent / "migrations" / "postgresql"
LOG = "audit.example.com"
JANUARY, FEBRUARY, MARCH = date(2024, 1, 1), date(2024, 2, 1), date(2024, 3, 1)
#: Statements that write, and steps with files, that a run takes at least until it records what it wrote; and how often it is
#: killed in them, and in removing.
RECORDED_BY, KILLS = 50, 6


@pytest.fixture(scope="module")
def server() -> Iterator[pg.Postgres]:
    if why_not := pg.available():
        pytest.fail(f"{why_not}; or leave these tests out with -m 'not postgres'")
    with pg.postgres() as running:
        yield running


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.postgres)])
def log(request: pytest.FixtureRequest, tmp_path: Path) -> Log:
    """A database of each kind with 12 payments of January, 12 of February and 2 of March, and its kept heads."""
    is_sqlite = request.param == "sqlite"
    made = Log(
        f"sqlite:///{tmp_path}/audit.db" if is_sqlite else new_database(request.getfixturevalue("server")), tmp_path
    )
    made.grow(12, first_ms(JANUARY))
    made.grow(12, first_ms(FEBRUARY))
    made.grow(2, first_ms(MARCH))
    return made


def new_database(server: pg.Postgres) -> str:
    name = f"d{random.randrange(1 << 60)}"
    with closing(psycopg.connect(server.url, autocommit=True)) as connection:
        connection.execute(f"CREATE DATABASE {name}".encode())
    return f"{server.url.rsplit('/', 1)[0]}/{name}"


def rows_of(number: int, first_offset: int, at_ms: int) -> list[Columns]:
    """The seven rows of a payment, in two shards."""
    return [
        MAPPER.columns(topic, place % 2, first_offset + place, at_ms + place, CODEC.encode(record))
        for place, (topic, record) in enumerate(records_of(number, random.Random(number)))
    ]


@pytest.mark.postgres
def test_a_table_of_before_there_were_months_is_moved_over(server: pg.Postgres, tmp_path: Path) -> None:
    """Rows, leaves, rights and guards stay; repeats are repeats; rows of any month have a place."""
    url = new_database(server)
    before = tmp_path / "before"
    before.mkdir()
    for migration in sorted(MIGRATIONS.glob("*.sql")):
        if migration.name < "0006":
            shutil.copy(migration, before)
    backend = yoyo.get_backend(url.replace("postgresql://", "postgresql+psycopg://"))
    with backend.lock():
        backend.apply_migrations(backend.to_apply(yoyo.read_migrations(str(before))))
    backend.connection.close()
    months = [first_ms(month) for month in (date(1999, 5, 1), JANUARY, FEBRUARY, MARCH, date(2999, 1, 1))]
    rows = [row for number, at_ms in enumerate(months) for row in rows_of(number, 7 * number, at_ms)]
    with closing(psycopg.connect(url, autocommit=True)) as connection:
        cursor = connection.cursor()
        marks = ", ".join(["%s"] * len(rows[0]))
        cursor.executemany(f"INSERT INTO payment_events ({EVENT_COLUMNS}) VALUES ({marks})".encode(), rows)
        marks = ", ".join(["%s"] * len(states(rows)[0]))
        cursor.executemany(f"INSERT INTO payments ({STATE_COLUMNS}) VALUES ({marks})".encode(), states(rows))
        connection.execute("CREATE ROLE sink_before LOGIN PASSWORD 'w'")
        connection.execute("CREATE ROLE \"Reads only\" LOGIN PASSWORD 'w'")
        connection.execute("GRANT SELECT, INSERT ON payment_events, audit_tiles TO sink_before")
        connection.execute(
            "GRANT SELECT, INSERT, UPDATE ON payments, sink_offsets, audit_trees, audit_heads TO sink_before"
        )
        connection.execute("GRANT SELECT ON _yoyo_migration TO sink_before")
        connection.execute('GRANT SELECT ON payment_events TO "Reads only"')
    with closing(open_database(url, create=True)) as database:
        database.migrate()
        assert verify_database(database, []).rows == len(rows)
        assert sorted(database.query(f"SELECT {database.stored_columns} FROM payment_events"), key=repr) == sorted(
            rows, key=repr
        )
        # In which table they are.
        tables = dict(database.query("SELECT tableoid::regclass::text, count(*) FROM payment_events GROUP BY 1"))
        assert tables == {
            "payment_events_other": 14,
            **{f"payment_events_2024_0{month}": 7 for month in (1, 2, 3)},
        }
        assert count_check(database).anomalies == []
    writer = url.replace(f"postgres:{server.password}@", "sink_before:w@")
    with closing(open_database(writer, create=True)) as database:
        database.lock()
        database.migrate()
        again = [(*row[:11], row[11] + 90, first_ms(date(2025, 7, 1)), *row[13:]) for row in rows]
        assert database.write(Batch(again, states(rows), {("t", 0): (None, 1)})) == 0
        for number, month in enumerate((date(2001, 1, 1), date(2025, 7, 1), date(5000, 1, 1)), 10):
            more = rows_of(number, 100 + 7 * number, first_ms(month))
            assert database.write(Batch(more, states(more), {})) == 7
        assert database.query('SELECT DISTINCT tableoid::regclass::text FROM payment_events WHERE "offset" > 106') == [
            ("payment_events_2025_07",),
            ("payment_events_other",),
        ]
        assert database.query("SELECT to_regclass('payment_events_2025_08') IS NOT NULL") == [(True,)]
    reader = url.replace(f"postgres:{server.password}@", "Reads%20only:w@")
    with closing(psycopg.connect(reader, autocommit=True)) as connection:
        assert connection.execute("SELECT count(*) FROM payment_events").fetchone() == (len(rows) + 21,)
        for statement in (
            "SELECT payment_events_month(0)",
            "INSERT INTO audit_event_keys VALUES ('a', 'b', 'c', 0, 0)",
        ):
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                connection.execute(statement.encode())
    with closing(psycopg.connect(url, autocommit=True)) as connection:
        for table in ("payment_events", "payment_events_other", "payment_events_2024_01", "payment_events_2025_07"):
            for statement in ("DELETE FROM {}", "UPDATE {} SET reason = 'x'", "TRUNCATE {}"):
                with pytest.raises(psycopg.errors.RestrictViolation):
                    connection.execute(statement.format(table).encode())


class Log:
    """A database with signed heads, what somebody keeps elsewhere, and a folder of archives."""

    def __init__(self, url: str, folder: Path) -> None:
        self.url, self.to = url, folder / "archive"
        self.key, self.heads = folder / "audit.key", folder / "heads.txt"
        make_key(self.key, LOG)
        self.payments = 0

    def grow(self, payments: int, at_ms: int) -> None:
        numbers = range(self.payments, self.payments + payments)
        self.write([row for number in numbers for row in rows_of(number, 7 * number, at_ms + 1000 * number)])
        self.payments += payments

    def write(self, rows: list[Columns]) -> int:
        """Gives how many were new; their trees are signed."""
        with closing(open_database(self.url, create=True)) as database:
            database.migrate()
            written = database.write(Batch(rows, states(rows), {}))
            signing = HeadSigner(read_signer(self.key), 0, HeadsFile(self.heads), None)
            signing.sign(database)
            signing.close()
        return written

    def ptr(self, *arguments: str, group: str = "audit") -> Result:
        environment = {
            "PTR_DATABASE": self.url,
            "PTR_AUDIT_KEY_FILE": str(self.key),
            "PTR_AUDIT_HEADS_FILE": str(self.heads),
        }
        return CliRunner().invoke(main, [group, *arguments], env=environment)

    def archive(self, before: str = "2024-03-01", *arguments: str) -> Any:
        done = self.ptr("archive", "--to", str(self.to), "--before", before, "--json", *arguments)
        assert done.exit_code == 0, done.output
        return json.loads(done.stdout)

    def query(self, sql: str, *values: object) -> list[tuple[Any, ...]]:
        with closing(open_database(self.url)) as database:
            return database.query(sql, values)

    def events(self) -> int:
        return int(self.query("SELECT COUNT(*) FROM payment_events")[0][0])

    def verified(self) -> Result:
        archive = ["--archive", str(self.to)] if self.to.exists() else []
        return self.ptr("verify", "--database", self.url, *archive)

    def as_owner(self, *statements: str) -> None:
        """What somebody with all rights, and without triggers, does."""
        with closing(open_database(self.url, create=True)) as database:
            connection: Any = database._connection  # type: ignore[attr-defined]
            if self.url.startswith("sqlite"):
                for (name,) in connection.execute("SELECT name FROM sqlite_schema WHERE type = 'trigger'").fetchall():
                    connection.execute(f"DROP TRIGGER {name}")
            else:
                connection.execute("SET session_replication_role = replica")
            for statement in statements:
                connection.execute(statement)


def refused(result: Result, *words: str) -> None:
    assert result.exit_code != 0, result.output
    for word in words:
        assert word in result.output, result.output


def test_months_go_into_files_and_everything_still_holds(log: Log) -> None:
    """Rows to the byte, every proof, a repeat is a repeat, late rows of the month go into a file of their own."""
    with closing(open_database(log.url)) as database:
        columns = f"SELECT {database.stored_columns}, leaf_index FROM payment_events WHERE recorded_at_ms < ?"
        before = sorted(database.query(columns, (first_ms(MARCH),)), key=repr)
    planned = json.loads(
        log.ptr("archive", "--to", str(log.to), "--before", "2024-03-01", "--dry-run", "--json").stdout
    )
    assert sum(part["events"] for part in planned["parts"]) == 7 * 24
    assert "182 events of before " in log.ptr("archive", "--to", str(log.to), "--dry-run").output
    nothing = log.ptr("archive", "--to", str(log.to), "--dry-run", "--months", "1200")
    assert nothing.output.startswith("there is nothing of before 19"), nothing.output
    assert not log.to.exists()
    done = log.archive()
    assert (done["removed"], len(done["files"]), log.events()) == (7 * 24, 10, 14)
    assert [file["file"] for file in done["files"]][:2] == ["shop-0/2024-01.parquet", "shop-1/2024-01.parquet"]
    files = [pq.read_table(log.to / file["file"]).to_pylist() for file in done["files"]]
    assert sorted((tuple(row.values()) for file in files for row in file), key=repr) == before
    assert (log.to / done["files"][0]["file"]).stat().st_mode & 0o777 == 0o600
    found = log.verified()
    assert found.exit_code == 0, found.output
    assert f"{7 * 26:,} rows in 10 trees" in found.output
    assert log.archive()["removed"] == 0

    tenant, payment = ids(3)
    refused(log.ptr("prove", tenant, payment), "7 events in shop-3/2024-01.parquet", "--archive DIR")
    proven = log.ptr("prove", tenant, payment, "--archive", str(log.to))
    bundle = log.to / "bundle.json"
    bundle.write_text(proven.stdout)
    checked = log.ptr("verify", str(bundle))
    assert (checked.exit_code, "7 rows of payment " in checked.output) == (0, True), checked.output
    assert log.ptr("prove", *ids(25)).exit_code == 0

    again = rows_of(3, 7 * 3, first_ms(JANUARY) + 3000) + rows_of(20, 7 * 20, first_ms(FEBRUARY) + 3000)
    assert log.write(again) == 0
    moved = [(*row[:11], row[11] + 5000, first_ms(MARCH) + 5, *row[13:]) for row in again]
    assert log.write(moved) == 0
    log.grow(1, first_ms(JANUARY))
    assert log.events() == 21
    assert log.verified().exit_code == 0
    late = log.archive()
    assert [(file["file"], file["events"]) for file in late["files"]] == [("shop-1/2024-01.2.parquet", 7)]
    assert log.verified().exit_code == 0


def test_a_repeat_at_the_months_border_is_a_repeat(log: Log) -> None:
    """The same event in another month, by another timestamp; in one batch, too."""
    border = first_ms(date(2024, 4, 1))
    rows = rows_of(40, 0, border - 3)
    assert {row[12] < border for row in rows} == {True, False}
    other = [(*row[:11], row[11] + 100, 2 * border - row[12], *row[13:]) for row in rows]
    assert log.write(rows + other) == 7
    assert log.write(other[::-1] + rows_of(41, 50, border - 3)) == 7
    assert log.query("SELECT COUNT(*) FROM payment_events WHERE recorded_at_ms >= ?", border - 10) == [(14,)]
    assert log.verified().exit_code == 0


def test_what_is_of_no_payment_or_of_one_that_goes_on_stays(log: Log) -> None:
    """Rules in force, and payments without an outcome, until they have one; then they go into another file."""
    rules = TenantConfigured(tenant="shop-1", version=1, document="{}", document_hash="a")
    going = rows_of(50, 500, first_ms(JANUARY))
    log.write([MAPPER.columns(topics.TENANTS.name, 0, 400, first_ms(JANUARY), CODEC.encode(rules)), *going[:3]])
    log.grow(5, first_ms(JANUARY))
    assert log.archive()["removed"] == 7 * 29
    assert log.events() == 14 + 4
    assert log.verified().exit_code == 0
    log.write(going[3:])
    assert [(file["file"], file["events"]) for file in log.archive()["files"]] == [("shop-0/2024-01.2.parquet", 7)]
    assert log.events() == 14 + 1
    assert log.verified().exit_code == 0
    assert log.query("SELECT COUNT(*) FROM payments") == [(32,)]


def test_goods_and_invoices_of_no_payment_go_too(log: Log) -> None:
    """There may be as many as payments; a repeat of what went is still known as one."""
    told = [
        (topics.INVENTORY.name, a_movement(tenant="shop-1")),
        (topics.INVOICES.name, a_change(tenant="shop-1")),
        (topics.INVENTORY.name, a_movement(tenant="shop-1", movement_id="2", payment_id="p1")),
    ]
    rows = [
        MAPPER.columns(topic, 0, 400 + place, first_ms(JANUARY), CODEC.encode(record))
        for place, (topic, record) in enumerate(told)
    ]
    assert log.write(rows) == 3
    assert log.archive()["removed"] == 7 * 24 + 3
    assert log.verified().exit_code == 0
    again = [(*row[:11], row[11] + 100, first_ms(MARCH), *row[13:]) for row in rows]
    assert log.write(again) == 0
    assert log.events() == 14


def test_one_tenants_rows_can_go_alone(log: Log) -> None:
    """The others' stay where they are."""
    done = log.archive("2024-02-01", "--tenant", "shop-2")
    assert [file["file"] for file in done["files"]] == ["shop-2/2024-01.parquet"]
    assert log.events() == 7 * 26 - done["removed"]
    assert log.verified().exit_code == 0
    assert log.archive()["removed"] == 7 * 24 - done["removed"]
    assert log.verified().exit_code == 0


def test_files_that_are_missing_cut_or_changed_are_told(log: Log, monkeypatch: pytest.MonkeyPatch) -> None:
    """By name, and by the first wrong row."""
    monkeypatch.setattr(archive_files, "GROUP_ROWS", 5)
    name = log.archive()["files"][0]["file"]
    path, whole = log.to / name, (log.to / name).read_bytes()
    refused(log.ptr("verify", "--database", log.url), f"in {name} (shop-0, 2024-01)", "9 other files", "--archive DIR")

    path.unlink()
    refused(log.verified(), name, "is not there: bring it back")
    path.write_bytes(whole[:-20])
    refused(log.verified(), name, "cut")
    shutil.copy(log.to / "shop-1/2024-01.parquet", path)
    refused(log.verified(), name, "is not the file that was archived", "of another database?")

    # Damage in the pages of the second group of five.
    path.write_bytes(whole)
    metadata = pq.ParquetFile(path).metadata
    at = metadata.row_group(1).column(13)
    start = at.dictionary_page_offset or at.data_page_offset
    path.write_bytes(whole[:start] + bytes(at.total_compressed_size) + whole[start + at.total_compressed_size :])
    refused(log.verified(), "WRONG ROW shop-0, shard 0, leaves 5 to 9", f"{name} is damaged")

    # One value, written properly.
    table = pq.read_table(_write(path, whole))
    reasons = table.column("reason").to_pylist()
    reasons[6] = "forged"
    changed = table.set_column(table.schema.get_field_index("reason"), "reason", [reasons]).cast(table.schema)
    with pq.ParquetWriter(path, table.schema) as rewriter:
        first = 0
        for number in range(metadata.num_row_groups):
            rows = metadata.row_group(number).num_rows
            rewriter.write_table(changed.slice(first, rows))
            first += rows
    leaf, event = table.column("leaf_index")[6], table.column("event_id")[6]
    refused(log.verified(), f"shard {table.column('partition')[6]}, leaf {leaf} (payment ", f"event {event}")
    _write(path, whole)
    assert log.verified().exit_code == 0


@pytest.mark.parametrize("seed", range(2))
def test_any_bit_of_a_file_may_turn_and_no_row_is_silently_another(tmp_path: Path, seed: int) -> None:
    """It is told, or the rows are what they were: not all that a file says of itself is of rows."""
    log, rng = Log(f"sqlite:///{tmp_path}/audit.db", tmp_path), random.Random(seed)
    log.grow(6, first_ms(JANUARY))
    path = log.to / log.archive("2024-02-01")["files"][0]["file"]
    whole, heads = path.read_bytes(), read_heads(log.heads, read_public(Path(f"{log.key}.pub")))
    rows, ends = pq.read_table(path).to_pylist(), set()
    with closing(open_database(log.url)) as database:
        for trial in range(20):
            # Its end, which says where everything is, as often as the rest.
            at = rng.randrange(len(whole)) if trial % 2 else -rng.randrange(1, 5000)
            changed = bytearray(whole)
            changed[at] ^= 1 << rng.randrange(8)
            path.write_bytes(changed)
            try:
                with closing(ArchivedRows(database, log.to)) as archived:
                    is_told = bool(verify_database(database, heads, archived=archived).findings)
            except ArchiveFileError:
                is_told = True
            assert is_told or pq.read_table(path).to_pylist() == rows
            ends.add(is_told)
    assert ends == {True, False}


def _write(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


def test_what_cannot_be_archived_is_told_and_nothing_is_removed(log: Log, monkeypatch: pytest.MonkeyPatch) -> None:
    """A month that is not over, unsigned rows, a changed row, another log's file, a folder that is none, a full disk."""
    this = datetime.now(UTC).date()
    refused(
        log.ptr("archive", "--to", str(log.to), "--before", f"{next_month(this.replace(day=1))}"), "is not. The latest"
    )
    refused(log.ptr("archive", "--to", str(log.to), "--before", "soon"), "write YYYY-MM-DD")
    file = log.to.with_name("file")
    file.write_text("")
    refused(log.ptr("archive", "--to", str(file), "--before", "2024-03-01"), "file")
    refused(log.ptr("archive", "--to", str(file / "x"), "--before", "2024-03-01"), "cannot write", "No row was removed")

    unsigned = rows_of(60, 600, first_ms(JANUARY))
    with closing(open_database(log.url, create=True)) as database:
        database.write(Batch(unsigned, states(unsigned), {}))
    refused(log.ptr("archive", "--to", str(log.to), "--before", "2024-02-01"), "under no signed head", "ptr audit-sink")
    log.grow(1, first_ms(MARCH))

    other = log.to / "shop-0" / "2024-01.parquet"
    other.parent.mkdir(parents=True, exist_ok=True)
    writer = archive_files.ArchiveWriter(other, {"tenant": "shop-0", "month": "2024-01", "key": "another+key"})
    writer.close()
    refused(
        log.ptr("archive", "--to", str(log.to), "--before", "2024-02-01"), "another database", "name another folder"
    )
    other.unlink()

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(archive_files.os, "fsync", full)
    refused(log.ptr("archive", "--to", str(log.to), "--before", "2024-02-01"), "No space left", "No row was removed")
    monkeypatch.undo()
    assert [path for path in log.to.rglob("*") if path.is_file()] == []

    log.as_owner("UPDATE payment_events SET reason = 'x' WHERE tenant = 'shop-3' AND stage = 'payer'")
    refused(
        log.ptr("archive", "--to", str(log.to), "--before", "2024-02-01"), "not the one that was signed", "event payer"
    )
    assert log.query("SELECT COUNT(*) FROM audit_archives") == [(0,)]
    assert log.events() == 7 * 28


def test_what_is_read_elsewhere_says_that_events_are_archived(log: Log) -> None:
    """`ptr show` names the file of a payment's events, a report the files of its months; counts still agree."""
    log.archive("2024-02-01")
    shown = log.ptr(*ids(3), group="show")
    assert shown.exit_code == 0, shown.output
    assert "archived: 7 events in shop-3/2024-01.parquet" in shown.output
    assert json.loads(log.ptr(*ids(3), "--json", group="show").stdout)["archived"] == {"shop-3/2024-01.parquet": 7}
    assert "archived" not in log.ptr(*ids(20), group="show").output
    times = "--from", "2024-01-15", "--to", "2024-02-20"
    reported = log.ptr("fees", *times, group="report")
    assert "84 events of 2024-01 are archived and not counted: they are in shop-0/2024-01" in reported.output
    assert "and 2 other files" in reported.output
    reported = log.ptr("fees", *times, "--tenant", "shop-3", "--format", "json", group="report")
    assert json.loads(reported.stdout)["about"]["missing"] == (
        "14 events of 2024-01 are archived and not counted: they are in shop-3/2024-01.parquet; name the folder with"
        " --archive DIR."
    )
    assert "archived" not in log.ptr("fees", "--from", "2024-02-01", "--to", "2024-03-20", group="report").output
    with closing(open_database(log.url)) as database:
        assert count_check(database).anomalies == []


def append_until_told(url: str, stop: Any) -> None:
    with closing(open_database(url, create=True)) as database:
        number = 1000
        while not stop.is_set():
            rows = rows_of(number, 7 * number, first_ms(MARCH))
            assert database.write(Batch(rows, states(rows), {})) == 7
            number += 1


def test_a_sink_writes_on_while_months_are_archived(log: Log, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the connection, the trees and the months that it knows: nothing of either is lost."""
    monkeypatch.setattr("connectors.sinks.sqlite.REMOVE_ROWS", 4)
    context = multiprocessing.get_context("fork")
    stop = context.Event()
    sink = context.Process(target=append_until_told, args=(log.url, stop))
    sink.start()
    while log.events() < 7 * 30:
        time.sleep(0.01)
    assert log.archive()["removed"] == 7 * 24
    after = log.events()
    while log.events() < after + 7 * 3:
        time.sleep(0.01)
    stop.set()
    sink.join(60)
    assert sink.exitcode == 0
    assert log.verified().exit_code == 0


@pytest.mark.postgres
def test_a_month_whose_table_cannot_be_made_has_a_place_all_the_same(
    server: pg.Postgres, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While somebody reads, its rows go to the table of other months, and are archived from there; a month's own table is
    dropped when its readers have ended."""
    monkeypatch.setattr("connectors.sinks.postgres.MONTH_LOCK_S", 0.1)
    monkeypatch.setattr("connectors.sinks.postgres.REMOVE_LOCK_S", 0.1)
    log = Log(new_database(server), tmp_path)
    log.grow(3, first_ms(FEBRUARY))
    tables = "SELECT tableoid::regclass::text, count(*) FROM payment_events GROUP BY 1 ORDER BY 1"
    with closing(psycopg.connect(log.url)) as reading:
        reading.execute("SELECT count(*) FROM payment_events")
        log.grow(3, first_ms(JANUARY))
        assert log.query(tables) == [("payment_events_2024_02", 21), ("payment_events_other", 21)]
        assert log.archive("2024-02-01")["removed"] == 21
        refused(log.ptr("archive", "--to", str(log.to), "--before", "2024-03-01"), "lock timeout", "does the rest")
        assert log.query(tables) == [("payment_events_2024_02", 21)]
        assert log.verified().exit_code == 0
    with (
        closing(psycopg.connect(log.url, autocommit=True)) as connection,
        pytest.raises(psycopg.errors.RestrictViolation),
    ):
        connection.execute("DELETE FROM payment_events")
    assert log.archive("2024-03-01")["removed"] == 21
    assert log.query("SELECT to_regclass('payment_events_2024_02') IS NULL") == [(True,)]
    assert log.verified().exit_code == 0


@pytest.mark.postgres
def test_only_the_tables_owner_archives(server: pg.Postgres, tmp_path: Path) -> None:
    """The role of the sink is told so before anything is written."""
    log = Log(new_database(server), tmp_path)
    log.grow(1, first_ms(JANUARY))
    with closing(psycopg.connect(log.url, autocommit=True)) as connection:
        connection.execute("CREATE ROLE sink_only LOGIN PASSWORD 'w'")
    made = log.ptr("migrate", "--writer", "sink_only")
    assert made.exit_code == 0, made.output
    log.url = log.url.replace(f"postgres:{server.password}@", "sink_only:w@")
    refused(log.ptr("archive", "--to", str(log.to), "--before", "2024-02-01"), "only the owner", "Name the owner")
    assert not log.to.exists()


def test_a_check_that_a_run_came_between_is_no_alarm(log: Log, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows that moved while it read are not taken for removed ones."""
    checked = audit_proofs.verify_database

    def meanwhile(*arguments: Any, **named: Any) -> Any:
        log.archive("2024-02-01")
        return checked(*arguments, **named)

    monkeypatch.setattr(audit_proofs, "verify_database", meanwhile)
    refused(log.ptr("verify", "--database", log.url), "months were archived while this check ran")


def test_a_months_rows_are_found_by_index(log: Log) -> None:
    """A file's rows are read by their leaves, a plan by their times: no other month is."""
    if not log.url.startswith("sqlite"):
        return
    with closing(open_database(log.url)) as database:
        page = archiving._ROWS.format(database.stored_columns)
        plan_of = archiving._PLAN.format("")
        for sql, parameters, index in (
            (
                page,
                ("shop-0", 0, 0, 9, 0, 9, 9),
                "payment_events_leaves (tenant=? AND partition=? AND leaf_index>? AND",
            ),
            (plan_of, (1, 0, 9), "payment_events_times (recorded_at_ms>? AND recorded_at_ms<?)"),
        ):
            steps = [step for *_, step in database.query(f"EXPLAIN QUERY PLAN {sql}", parameters)]
            assert index in steps[0], steps


def archive_until_killed(url: str, key: Path, heads: Path, to: Path, step: int) -> None:
    """Killed just before the ``step``-th statement that writes, or step with a file."""
    left = step

    def count(*_: object) -> None:
        nonlocal left
        left -= 1
        if not left:
            os.kill(os.getpid(), signal.SIGKILL)

    public = read_public(Path(f"{key}.pub"))
    database = open_database(url, create=True)
    for _ in range(500):
        try:
            database.lock("archive")
            break
        except DatabaseBusyError:  # the server has not noticed yet that the one before is gone
            time.sleep(0.02)
    for name in ("fsync", "open", "fdopen"):
        setattr(os, name, counted(getattr(os, name), count))
    Path.replace = counted(Path.replace, count)  # type: ignore[method-assign]
    if url.startswith("sqlite"):
        database._connection.set_trace_callback(  # type: ignore[attr-defined]
            lambda sql: None if sql.startswith("SELECT") else count()
        )
    else:
        execute = psycopg.Cursor.execute
        counting = counted(execute, count)
        psycopg.Cursor.execute = lambda self, sql, *more, **named: (  # type: ignore[method-assign]
            execute if isinstance(sql, bytes) and sql.startswith(b"SELECT") else counting
        )(self, sql, *more, **named)
    run = Archiving(database, to, public, read_heads(heads, public))
    run.finish()
    for _, parts in by_month(plan(database, FEBRUARY)):
        run.month(parts)


def test_killed_at_any_moment_no_row_is_lost_and_the_next_run_ends(log: Log, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each time every row is in the database or in a file that is recorded; in the end all that should go is gone."""
    public = read_public(Path(f"{log.key}.pub"))
    monkeypatch.setattr("connectors.sinks.sqlite.REMOVE_ROWS", 4)
    rng = random.Random(7)
    writing = [*sorted(rng.sample(range(1, RECORDED_BY), KILLS)), *range(RECORDED_BY, 4 * RECORDED_BY, 2)]
    removing = [*rng.sample(range(1, 15), KILLS), 1 << 30]
    ends, gone = [-signal.SIGKILL], list[int]()
    while ends[-1] == -signal.SIGKILL:
        # Once a month is recorded, what is left is to remove.
        step = removing.pop(0) if 0 in gone else writing.pop(0)
        process = multiprocessing.get_context("fork").Process(
            target=archive_until_killed, args=(log.url, log.key, log.heads, log.to, step)
        )
        process.start()
        process.join(60)
        ends.append(process.exitcode)
        with closing(open_database(log.url)) as database:
            log.to.mkdir(exist_ok=True)
            with closing(ArchivedRows(database, log.to)) as archived:
                state = verify_database(database, read_heads(log.heads, public), archived=archived)
            assert (state.findings, state.rows) == ([], 7 * 26)
            gone = [archive.is_removed for archive in archives_of(database)]
    assert ends[-1] == 0
    assert len(removing) < KILLS - 1
    assert len(ends) > 2 * KILLS
    assert gone == [1] * 5
    assert log.events() == 7 * 14
    assert sorted(path.name for path in log.to.rglob("*.*")) == ["2024-01.parquet"] * 5


def test_a_run_that_did_not_end_needs_its_files(log: Log, monkeypatch: pytest.MonkeyPatch) -> None:
    """As it wrote them: what is pending is told, and done when they are back."""
    monkeypatch.setattr(Archiving, "_remove", lambda self, archives: None)
    log.archive("2024-02-01")
    monkeypatch.undo()
    assert log.events() == 7 * 26
    assert log.verified().exit_code == 0
    elsewhere = log.to.with_name("elsewhere")
    refused(log.ptr("archive", "--to", str(elsewhere), "--before", "2024-02-01"), "did not end", "is not in")
    path = log.to / "shop-1/2024-01.parquet"
    whole = path.read_bytes()
    path.write_bytes(whole + b"x")
    refused(log.ptr("archive", "--to", str(log.to), "--before", "2024-02-01"), "is not as an earlier run")
    path.write_bytes(whole)
    assert log.archive("2024-02-01")["removed"] == 7 * 12
    assert log.events() == 7 * 14


def test_memory_does_not_grow_with_the_month(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Four times the rows, the same peak: they are written, read back and removed some at a time."""
    monkeypatch.setattr(archive_files, "GROUP_ROWS", 64)
    monkeypatch.setattr("connectors.sinks.archiving.STREAM_ROWS", 64)
    monkeypatch.setattr("connectors.sinks.sqlite.REMOVE_ROWS", 64)
    peaks = []
    for payments in (100, 400):
        folder = tmp_path / f"{payments}"
        folder.mkdir()
        log = Log(f"sqlite:///{folder}/audit.db", folder)
        log.write(
            [row for number in range(payments) for row in rows_of(number, 7 * number, first_ms(JANUARY) + number)]
        )
        public = read_public(Path(f"{log.key}.pub"))
        with closing(open_database(log.url, create=True)) as database:
            run = Archiving(database, log.to, public, read_heads(log.heads, public))
            tracemalloc.start()
            run.month(plan(database, FEBRUARY))
            python = tracemalloc.get_traced_memory()[1]
            tracemalloc.stop()
        assert run.progress.removed == 7 * payments
        peaks.append((python, pa.default_memory_pool().max_memory()))
    (python, arrow), (python_of_more, arrow_of_more) = peaks
    assert python_of_more < 1.5 * python
    assert arrow_of_more < 1.5 * arrow
