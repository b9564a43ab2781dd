"""The audit sink against real databases and a real Kafka: killed, cut off, given junk; every row once all the same."""

from __future__ import annotations

import json
import os
import random
import resource
import signal
import sqlite3
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import psycopg
import pytest
from click.testing import CliRunner
from confluent_kafka import Consumer, KafkaException, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic
from yoyo.backends.base import DatabaseBackend

from connectors.proofs.heads import HeadsFile, read_heads
from connectors.proofs.keys import Signer
from connectors.proofs.leaf_log import LeafLog, kept_leaves
from connectors.proofs.trees import Tree
from connectors.proofs.verifier import tree_of
from connectors.sinks import sink as sink_module
from connectors.sinks.database import (
    STATE_COLUMNS,
    STREAM_ROWS,
    Batch,
    Database,
    DatabaseAwayError,
    DatabaseBusyError,
    DatabaseError,
    open_database,
)
from connectors.sinks.rows import EventRow, Mapper, payment_state
from connectors.sinks.signing import HeadSigner, HeadsTopic
from connectors.sinks.sink import AuditSink, SinkError
from connectors.sinks.story import count_check, outcome_counts, story
from connectors.sinks.verifying import verify_database
from pipeline import topics
from pipeline.commands.show import show
from pipeline.topics import COMPLETED
from schemas.codec import Codec
from schemas.records import PaymentCompleted, Record
from tests.benchmark.bench_sink import records_of
from tests.integration import postgres as pg
from tests.integration.kafka import a_kafka_of_its_own, unique

pytestmark = [pytest.mark.kafka, pytest.mark.postgres]
CODEC = Codec()
PARTITIONS = 2
DEADLINE_S = 90.0
ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def server() -> Iterator[pg.Postgres]:
    """A PostgreSQL for this module."""
    if reason := pg.available():
        (pytest.fail if os.environ.get("CI") else pytest.skip)(reason)
    with pg.postgres() as running:
        yield running


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A Kafka for this module."""
    with a_kafka_of_its_own(tmp_path_factory.mktemp("kafka")) as kafka:
        kafka.start()
        yield kafka.address


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A new database of each kind."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/audit #1.db".replace("#", "%23")
    return a_postgres_database(request.getfixturevalue("server"))


@pytest.fixture
def database(url: str) -> Iterator[Database]:
    """A new, migrated database of each kind."""
    opened = open_database(url, create=True)
    try:
        opened.lock()
        opened.migrate()
        yield opened
    finally:
        opened.close()


def a_postgres_database(server: pg.Postgres) -> str:
    """URL of a new database."""
    name = unique("d").replace("-", "_")
    with closing(psycopg.connect(server.url, autocommit=True)) as connection:
        connection.execute(f"CREATE DATABASE {name}".encode())
    return server.url.removesuffix("postgres") + name


def make_topics(broker: str, names: list[str], partitions: int = PARTITIONS) -> None:
    admin = AdminClient({"bootstrap.servers": broker})
    for made in admin.create_topics([NewTopic(name, partitions, 1) for name in names]).values():
        made.result(30)
    wait_until(lambda: set(names) <= set(admin.list_topics(timeout=10).topics))


def post(broker: str, messages: list[tuple[str, int, bytes | None]]) -> None:
    """Produce (topic, partition, value) in this order."""
    producer = Producer({"bootstrap.servers": broker, "linger.ms": 5})
    for at, (topic, partition, value) in enumerate(messages):
        producer.produce(topic, value, b"key", partition)
        if at % 5000 == 4999:
            producer.flush(30)
    assert producer.flush(30) == 0


def a_stream(prefix: str, payments: int) -> list[tuple[str, int, bytes | None]]:
    """Seven events of each payment; of every tenth payment each event twice, as after a crash of a stage."""
    rng = random.Random(5)
    return [
        (prefix + topic, number % PARTITIONS, CODEC.encode(record))
        for number in range(payments)
        for topic, record in records_of(number, rng)
        for _ in range(2 if number % 10 == 0 else 1)
    ]


def topics_of(stream: list[tuple[str, int, bytes | None]]) -> list[str]:
    return sorted({topic for topic, _, _ in stream})


def run_once(url: str, broker: str, names: list[str], **options: Any) -> tuple[AuditSink, list[str]]:
    said: list[str] = []
    sink = AuditSink(url, broker, names, CODEC, once=True, say=said.append, **options)
    sink.run(threading.Event())
    return sink, said


@contextmanager
def running(url: str, broker: str, names: list[str], **options: Any) -> Iterator[tuple[AuditSink, list[str]]]:
    """A sink in a thread, stopped at the end; what it raised is raised here."""
    said: list[str] = []
    raised: list[BaseException] = []
    stop = threading.Event()
    sink = AuditSink(url, broker, names, CODEC, say=said.append, **options)

    def run() -> None:
        try:
            sink.run(stop)
        except BaseException as error:
            raised.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield sink, said
    finally:
        stop.set()
        thread.join(DEADLINE_S)
    assert not thread.is_alive()
    if raised:
        raise raised[0]


def wait_until(what: Any, why: Any = "") -> None:
    until = time.monotonic() + DEADLINE_S
    while not what():
        assert time.monotonic() < until, f"waited {DEADLINE_S} s in vain {why}"
        time.sleep(0.02)


def rows(url: str, sql: str) -> list[tuple[Any, ...]]:
    with closing(open_database(url)) as opened:
        return opened.query(sql)


def check_exact(url: str, stream: list[tuple[str, int, bytes | None]], payments: int) -> None:
    """Every event once, every payment with its outcome, every record of Kafka accounted for."""
    with closing(open_database(url)) as opened:
        assert opened.query("SELECT COUNT(*) FROM payment_events") == [(7 * payments,)]
        assert opened.query("SELECT COUNT(DISTINCT avro) FROM payment_events") == [(7 * payments,)]
        assert sum(opened.offsets().values()) == len(stream)
        found = count_check(opened)
        assert (found.payments, found.without_outcome, found.unreadable, found.gaps) == (payments, 0, 0, 0)
        assert found.anomalies == []
        assert sum(count for *_, count in outcome_counts(opened)) == payments


# The database


def a_batch(number: int, first_offset: int, expected: int | None = None) -> Batch:
    """The seven events of one payment, all in one partition of one topic."""
    batch, mapper = Batch(), Mapper(CODEC)
    for place, (_, record) in enumerate(records_of(number, random.Random(number))):
        row = mapper.row("t", 0, first_offset + place, 1000 + place, CODEC.encode(record))
        batch.events.append(row)
        if isinstance(record, PaymentCompleted):
            state = payment_state(row, record)
            assert state is not None
            batch.states.append(state)
    batch.offsets["t", 0] = (expected, first_offset + 7)
    return batch


def everything(database: Database) -> list[list[tuple[Any, ...]]]:
    tables = ("payment_events", "payments", "sink_offsets")
    columns = {"payment_events": 'event_id, "offset", recorded_at_ms, avro, CAST(payload AS TEXT)'}
    return [database.query(f"SELECT {columns.get(table, '*')} FROM {table} ORDER BY 1, 2") for table in tables]


def test_the_same_batch_again_changes_nothing(database: Database) -> None:
    """Once the offsets are stored, delivering a batch again is refused whole; as new offsets, every event is known."""
    first = a_batch(1, 0)
    assert database.write(first) == 7
    before = everything(database)
    with pytest.raises(DatabaseBusyError, match="t/0 is not absent"):
        database.write(first)
    assert everything(database) == before
    first.offsets["t", 0] = (7, 7)
    assert database.write(first) == 0
    assert everything(database) == before


def test_rows_are_streamed_in_order_and_a_stream_can_be_left(database: Database) -> None:
    """More of them than are held at a time; after a stream that was not read to its end the database answers as before."""
    payments = 2 * STREAM_ROWS // 7 + 9
    for number in range(payments):
        database.write(a_batch(number, 7 * number, 7 * number or None))
    sql = 'SELECT payment_id, event_id FROM payment_events WHERE tenant <> ? ORDER BY "offset"'
    rows = database.query(sql, ("",))
    assert len(rows) == 7 * payments > 2 * STREAM_ROWS
    assert list(database.stream(sql, ("",))) == rows
    left = database.stream(sql, ("",))
    assert next(left) == rows[0]
    left.close()
    assert database.query(sql, ("",)) == rows


def test_of_two_events_with_one_id_the_first_wins(database: Database) -> None:
    """In one batch or in two: the row keeps the coordinates and bytes of the first."""
    batch, second = a_batch(1, 0), a_batch(1, 7, expected=14)
    batch.events += [EventRow._make(event)._replace(avro=b"second") for event in second.events]
    batch.offsets["t", 0] = (None, 14)
    assert database.write(batch) == 7
    second.events = [(*event[:11], event[11] + 7, *event[12:]) for event in second.events]
    second.offsets["t", 0] = (14, 21)
    assert database.write(second) == 0
    assert database.query('SELECT COUNT(*), MAX("offset") FROM payment_events WHERE avro <> ?', (b"second",)) == [
        (7, 6)
    ]


def test_a_batch_is_written_whole_or_not_at_all(database: Database) -> None:
    """A state that no table takes, after events and offsets were written, takes them back with it."""
    database.write(a_batch(1, 0))
    before = everything(database)
    batch = a_batch(2, 7, expected=7)
    batch.states = [batch.states[0]._replace(stage=None)]  # type: ignore[arg-type]
    with pytest.raises(DatabaseError, match="stage"):
        database.write(batch)
    assert everything(database) == before
    assert database.write(a_batch(2, 7, expected=7)) == 7


def test_rows_cannot_be_changed_or_deleted(url: str, database: Database) -> None:
    """Whoever tries with plain SQL is told that the table is append-only."""
    database.write(a_batch(1, 0))
    before = everything(database)
    statements = ["UPDATE payment_events SET reason = 'x'", "DELETE FROM payment_events"]
    if url.startswith("sqlite"):
        with closing(sqlite3.connect(url.removeprefix("sqlite:///").replace("%23", "#"))) as connection:
            for statement in statements:
                with pytest.raises(sqlite3.IntegrityError, match="append-only"):
                    connection.execute(statement)
    else:
        with closing(psycopg.connect(url, autocommit=True)) as server:
            for statement in [*statements, "TRUNCATE payment_events"]:
                with pytest.raises(psycopg.errors.RestrictViolation, match="append-only"):
                    server.execute(statement.encode())
    assert everything(database) == before


def test_a_later_event_is_not_overtaken_by_an_earlier_one(database: Database) -> None:
    """Topics are read independently: in every order of arrival the furthest event speaks, and the end is the same."""
    rng = random.Random(3)
    states, offset = [], 0
    for number in (1, 2, 3, 4, 5):
        found: list[tuple[Any, ...]] = []
        furthest = (0, "")
        mapper, events = Mapper(CODEC), list(enumerate(records_of(7, random.Random(1))))
        rng.shuffle(events)
        for place, (_, record) in events:
            row = mapper.row(f"t{number}", 0, place, 1000 + place, CODEC.encode(record))
            row = row._replace(payment_id=f"p{number}")
            state = payment_state(row, record)
            assert state is not None
            database.write(Batch([row], [state], {("t", 0): (offset or None, offset + 1)}))
            offset += 1
            sql = f"SELECT {STATE_COLUMNS} FROM payments WHERE payment_id = ?"
            found = database.query(sql, (f"p{number}",))
            furthest = max(furthest, (row.sequence, row.outcome))
            assert (found[0][-2], found[0][2]) == furthest
        states.append(found[0][2:-3])
    assert states == [states[0]] * 5
    assert states[0][:2] == ("paid", "paid")


def test_one_sink_per_database(url: str, database: Database) -> None:
    """A second one is refused at once; after the first is closed it may."""
    with closing(open_database(url, create=True)) as second:
        with pytest.raises(DatabaseBusyError, match="another sink"):
            second.lock()
        database.close()
        wait_until(lambda: _locks(second))


def _locks(database: Database) -> bool:
    try:
        database.lock()
    except DatabaseBusyError:
        return False
    return True


def test_migrating_again_changes_nothing_and_a_newer_database_is_refused(url: str, database: Database) -> None:
    """A database that a newer program brought up to date is left alone."""
    database.write(a_batch(1, 0))
    before = everything(database)
    database.migrate()
    assert everything(database) == before
    insert = "INSERT INTO _yoyo_migration (migration_hash, migration_id) VALUES ('future', '9999_future')"
    if url.startswith("sqlite"):
        with closing(sqlite3.connect(url.removeprefix("sqlite:///").replace("%23", "#"))) as connection, connection:
            connection.execute(insert)
    else:
        with closing(psycopg.connect(url, autocommit=True)) as server:
            server.execute(insert.encode())
    with pytest.raises(DatabaseError, match="newer version"):
        database.migrate()


def test_a_database_that_is_not_there_is_said_so(server: pg.Postgres, tmp_path: Path) -> None:
    """Missing file, missing tables, no server, wrong password: each its own message, no password in any."""
    with pytest.raises(DatabaseError, match="no such file"):
        open_database(f"sqlite:///{tmp_path}/none.db")
    (tmp_path / "empty.db").touch()
    with closing(open_database(f"sqlite:///{tmp_path}/empty.db")) as empty:
        with pytest.raises(DatabaseError, match="has no audit tables"):
            story(empty, "t", "p")
    (tmp_path / "text.db").write_text("not a database " * 1000)
    with pytest.raises(DatabaseError, match="not a database"):
        open_database(f"sqlite:///{tmp_path}/text.db", create=True)
    with closing(open_database(a_postgres_database(server))) as bare:
        with pytest.raises(DatabaseError, match="has no audit tables"):
            story(bare, "t", "p")
    with pytest.raises(DatabaseAwayError) as away:
        open_database("postgresql://postgres:s3cret@127.0.0.1:1/postgres")
    with pytest.raises(DatabaseError, match="authentication failed") as wrong:
        open_database(f"postgresql://postgres:s3cret@127.0.0.1:{server.port}/postgres")
    assert not isinstance(wrong.value, DatabaseAwayError)
    with pytest.raises(DatabaseError, match="not a connection URL") as unclear:
        open_database("postgresql://postgres:s3cret@h/d?nonsense=s3cret")
    for caught in (away, wrong, unclear):
        assert "s3cret" not in str(caught.value)


# The sink


def test_a_stream_is_read_exactly(url: str, broker: str) -> None:
    """Events that come twice are one row; reading again finds nothing new."""
    stream = a_stream(unique() + "-", 400)
    names = topics_of(stream)
    make_topics(broker, names)
    post(broker, stream)
    sink, said = run_once(url, broker, names)
    assert (sink.status.events, sink.status.repeated, sink.status.lag) == (2800, 280, 0)
    assert said == []
    check_exact(url, stream, 400)
    again, _ = run_once(url, broker, names)
    assert (again.status.events, again.status.transactions) == (0, 0)


def test_signed_heads_reach_the_file_and_the_topic(url: str, broker: str, tmp_path: Path) -> None:
    """When the sink ends, the heads in both cover every row; the next sink hands the last ones out again, and signs no more."""
    stream = a_stream(unique() + "-", 4)
    names = topics_of(stream)
    heads_topic, signer, said = unique("heads"), Signer("audit.example.com", bytes(32)), list[str]()
    make_topics(broker, names)
    make_topics(broker, [heads_topic], 1)
    post(broker, stream)
    for _ in range(2):
        signing = HeadSigner(
            signer, 3600, HeadsFile(tmp_path / "heads.txt"), HeadsTopic(broker, said.append, topic=heads_topic)
        )
        sink, _ = run_once(url, broker, names, signer=signing)
        signing.close()
    assert sink.status.heads == 0
    kept = read_heads(tmp_path / "heads.txt", signer.public)
    with closing(open_database(url)) as opened:
        state = verify_database(opened, kept)
    assert (state.findings, state.rows, state.unsigned, said) == ([], 28, 0, [])
    consumer = Consumer({"bootstrap.servers": broker, "group.id": "heads", "auto.offset.reset": "earliest"})
    with closing(consumer):
        consumer.assign([TopicPartition(heads_topic, 0, 0)])
        found = consumer.consume(2 * len(kept), 20)
    assert sorted({signer.public.open(one.value().decode()) for one in found}) == kept
    assert all(one.value().startswith(one.key() + b"\n") for one in found)
    assert len(found) == 2 * len(kept)


def test_heads_and_leaves_are_kept_after_each_batch(url: str, broker: str, tmp_path: Path) -> None:
    """While that is cheap: when the sink tells of a batch, the heads in the file cover it, and the leaves are beside."""
    stream = a_stream(unique() + "-", 10)
    names = topics_of(stream)
    make_topics(broker, names)
    post(broker, stream)
    signer, file = Signer("audit.example.com", bytes(32)), tmp_path / "heads.txt"
    signing = HeadSigner(signer, 3600, HeadsFile(file), None, LeafLog(tmp_path / "leaves"), clock=lambda: 0.0)
    covered = list[int]()
    totals = list[int]()

    def cover() -> int:
        newest = {head.origin: head.size for head in read_heads(file, signer.public)} if file.read_text() else {}
        return sum(newest.values())

    def count(batch: Batch, took_s: float) -> None:
        covered.append(cover())
        totals.append(sink.status.events)

    sink = AuditSink(url, broker, names, CODEC, once=True, signer=signing, batch_rows_max=8, on_written=count)
    sink.run(threading.Event())
    signing.close()
    assert len(covered) > 4
    assert covered == totals
    assert cover() == totals[-1] == 70
    kept = {tree_of(head.origin): head for head in read_heads(file, signer.public)}
    for tree_id, head in kept.items():
        tree = Tree()
        for part in kept_leaves(tmp_path / "leaves", tree_id, 0, head.size):
            tree.append(part)
        assert tree.root() == head.root


def test_outcomes_are_read_first_and_change_nothing(
    url: str, broker: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same rows of ``payments`` as in any order, with transactions that fail or whose end is not known."""
    prefix = unique() + "-"
    stream = a_stream(prefix, 400)
    names = topics_of(stream)
    make_topics(broker, names)
    post(broker, stream)
    plain = f"sqlite:///{tmp_path}/plain.db"
    run_once(plain, broker, names)  # these topics' outcomes are not known as such: all topics are read alike
    writes = 0

    def opened(*arguments: Any, **options: Any) -> Database:
        database = open_database(*arguments, **options)
        write = database.write

        def written(batch: Batch) -> int:
            nonlocal writes
            writes += 1
            if writes == 5:
                write(batch)
            if writes in (2, 5, 8):
                raise DatabaseAwayError("away")
            return write(batch)

        monkeypatch.setattr(database, "write", written)
        return database

    monkeypatch.setattr(sink_module, "open_database", opened)
    monkeypatch.setattr(sink_module, "COMPLETED", replace(COMPLETED, name=prefix + COMPLETED.name))
    _, said = run_once(url, broker, names, batch_rows_max=300)
    assert sum("trying again" in line for line in said) == 3
    check_exact(url, stream, 400)
    states = f"SELECT {STATE_COLUMNS} FROM payments ORDER BY tenant, payment_id"
    assert rows(url, states) == rows(plain, states)


RUNNER = """
import sys, threading
from connectors.sinks.sink import AuditSink
from schemas.codec import Codec
url, broker, *names = sys.argv[1:]
AuditSink(url, broker, names, Codec(), batch_rows_max=150, apart=True).run(threading.Event())
"""


@pytest.mark.chaos
def test_killed_in_the_middle_nothing_is_lost_or_doubled(url: str, broker: str) -> None:
    """Six kill -9 of a sink process while it writes; then every event is there once."""
    payments = 3000
    stream = a_stream(unique() + "-", payments)
    names = topics_of(stream)
    make_topics(broker, names)
    post(broker, stream)
    run_once(url, broker, [])  # the tables
    kills, lived = 0, []
    for part in range(1, 7):
        process = subprocess.Popen([sys.executable, "-c", RUNNER, url, broker, *names], cwd=ROOT)
        try:
            goal = part * len(stream) // 8
            wait_until(
                lambda goal=goal, process=process: sum(_offsets(url).values()) >= goal or process.poll() is not None
            )
            assert process.poll() is None, "the sink ended by itself"
        finally:
            process.kill()
            process.wait(30)
        kills += 1
        lived.append(sum(_offsets(url).values()))
    assert kills == 6
    assert 0 < lived[0] < len(stream)
    run_once(url, broker, names)
    check_exact(url, stream, payments)


def _offsets(url: str) -> dict[tuple[str, int], int]:
    with closing(open_database(url)) as opened:
        return opened.offsets()


@pytest.mark.chaos
def test_postgresql_is_stopped_and_started_again(server: pg.Postgres, broker: str) -> None:
    """Stopped in order for a minute, then crashed, while rows are written: the sink waits, says so, goes on."""
    url = a_postgres_database(server)
    payments = 3000
    stream = a_stream(unique() + "-", payments)
    names = topics_of(stream)
    make_topics(broker, names)
    post(broker, stream)
    with running(url, broker, names, batch_rows_max=150) as (sink, said):
        for mode, goal, away_s in (("fast", 2000, 60.0), ("immediate", 9000, 1.0)):
            wait_until(lambda goal=goal: sink.status.events + sink.status.repeated >= goal)
            server.stop(mode)
            try:
                before = len(said)
                wait_until(lambda before=before: any("trying again" in line for line in said[before:]), said)
                time.sleep(away_s)
            finally:
                server.start()
        wait_until(lambda: sum(_offsets(url).values()) >= len(stream), said)
    check_exact(url, stream, payments)
    assert any("is back" in line for line in said)
    assert server.password not in "".join(said)


def test_a_database_that_stays_away_ends_the_sink(broker: str) -> None:
    """After the time given it gives up, and says that nothing is lost."""
    with pytest.raises(SinkError, match=r"gave up after 1 s\. Nothing is lost") as caught:
        run_once("postgresql://postgres:s3cret@127.0.0.1:1/postgres", broker, [], give_up_after_s=1.0)
    assert "s3cret" not in str(caught.value)


def test_a_locked_sqlite_file_is_waited_for(tmp_path: Path, broker: str) -> None:
    """Somebody else's transaction (a backup) delays the sink, and that is all."""
    url = f"sqlite:///{tmp_path}/audit.db"
    stream = a_stream(unique() + "-", 20)
    names = topics_of(stream)
    make_topics(broker, names)
    run_once(url, broker, names)
    with closing(sqlite3.connect(tmp_path / "audit.db", isolation_level=None)) as other:
        with running(url, broker, names) as (_, said):
            wait_until(lambda: _lock_is_held(tmp_path / "audit.db-sink"))
            other.execute("BEGIN IMMEDIATE")
            post(broker, stream)
            wait_until(lambda: any("locked" in line for line in said), said)
            other.execute("ROLLBACK")
            wait_until(lambda: sum(_offsets(url).values()) >= len(stream), said)
    check_exact(url, stream, 20)


def test_a_writer_that_comes_between_a_migrations_steps_is_waited_for(tmp_path: Path, monkeypatch: Any) -> None:
    """It says that the database is away, which the sink waits out, and afterwards the tables are made."""
    monkeypatch.setattr("connectors.sinks.database.MIGRATION_LOCK_S", 0.1)
    monkeypatch.setattr("connectors.sinks.sqlite.BUSY_TIMEOUT_S", 0.1)
    url = f"sqlite:///{tmp_path}/audit.db"
    with closing(open_database(url, create=True)) as database:
        with closing(sqlite3.connect(tmp_path / "audit.db", isolation_level=None)) as other:
            read = DatabaseBackend.get_applied_migration_hashes

            def read_then_lock(backend: DatabaseBackend) -> Any:
                found = read(backend)
                if not other.in_transaction:
                    other.execute("BEGIN IMMEDIATE")
                return found

            with monkeypatch.context() as between:
                between.setattr(DatabaseBackend, "get_applied_migration_hashes", read_then_lock)
                with pytest.raises(DatabaseAwayError, match="somebody else's transaction"):
                    database.migrate()
        database.migrate()
        assert database.query("SELECT count(*) FROM payments") == [(0,)]


def _lock_is_held(path: Path) -> bool:
    import fcntl

    with path.open("r+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            return True
    return False


def test_a_second_sink_ends_with_a_message_and_the_first_goes_on(url: str, broker: str, monkeypatch: Any) -> None:
    """The second does not double anything: it never writes."""
    monkeypatch.setattr("connectors.sinks.sink.LOCK_WAIT_S", 0.5)
    stream = a_stream(unique() + "-", 50)
    names = topics_of(stream)
    make_topics(broker, names)
    with running(url, broker, names) as (first, _):
        post(broker, stream)
        wait_until(lambda: first.status.transactions > 0)
        with pytest.raises(SinkError, match="One sink per database"):
            run_once(url, broker, names)
        wait_until(lambda: first.status.events == 350)
    check_exact(url, stream, 50)


def test_offsets_that_another_wrote_end_the_sink(url: str, broker: str) -> None:
    """Should the lock fail (a network file system), the stored offsets still show that somebody else writes."""
    stream = a_stream(unique() + "-", 20)
    names = topics_of(stream)
    make_topics(broker, names)
    post(broker, stream)
    with pytest.raises(DatabaseBusyError, match="another sink writes to this database"):
        _run_beside_a_stranger(url, broker, names, stream)


def _run_beside_a_stranger(
    url: str, broker: str, names: list[str], stream: list[tuple[str, int, bytes | None]]
) -> None:
    with running(url, broker, names) as (sink, _):
        wait_until(lambda: sink.status.events == 140)
        _write_past_the_lock(url)
        post(broker, stream)
        wait_until(lambda: sink._database is None)


def _write_past_the_lock(url: str) -> None:
    statement = "UPDATE sink_offsets SET next_offset = next_offset + 1"
    if url.startswith("sqlite"):
        with closing(sqlite3.connect(url.removeprefix("sqlite:///").replace("%23", "#"))) as connection, connection:
            connection.execute(statement)
    else:
        with closing(psycopg.connect(url, autocommit=True)) as server:
            server.execute(statement.encode())


def test_undecodable_values_become_rows(url: str, broker: str) -> None:
    """Junk, a tombstone, a foreign schema between good records: all are rows, and the good ones are read."""
    name = unique()
    make_topics(broker, [name], 1)
    good = [CODEC.encode(record) for _, record in records_of(1, random.Random(1))]
    values: list[bytes | None] = [b"junk", good[0], None, b"\xc3\x01" + bytes(8), good[1][:-9], good[2]]
    post(broker, [(name, 0, value) for value in values])
    sink, _ = run_once(url, broker, [name])
    assert (sink.status.events, sink.status.unreadable, sink.status.unsealed) == (6, 4, 6)
    found = rows(url, 'SELECT "offset", stage, reason, avro FROM payment_events ORDER BY 1')
    assert found == [
        (0, "audit", "not_avro", b"junk"),
        (1, "screening", "", good[0]),
        (2, "audit", "empty_value", None),
        (3, "audit", "unknown_schema", b"\xc3\x01" + bytes(8)),
        (4, "audit", "unreadable_value", good[1][:-9]),
        (5, "payer", "", good[2]),
    ]


def test_topics_that_come_later_are_found(url: str, broker: str, monkeypatch: Any) -> None:
    """A topic that does not exist yet is waited for, and said; then it is read from its start."""
    monkeypatch.setattr("connectors.sinks.sink.METADATA_MISSING_S", 0.2)
    stream = a_stream(unique() + "-", 10)
    names = topics_of(stream)
    make_topics(broker, names[:1])
    with running(url, broker, names) as (sink, said):
        wait_until(lambda: any("do not exist yet" in line for line in said))
        make_topics(broker, names[1:])
        post(broker, stream)
        wait_until(lambda: sink.status.events + sink.status.repeated == len(stream))
    check_exact(url, stream, 10)


def test_records_that_expired_unread_are_an_error_line_and_a_row(url: str, broker: str) -> None:
    """The gap is said with its ends and kept as a row; then reading goes on at what is there."""
    name = unique()
    make_topics(broker, [name], 1)
    value = CODEC.encode(records_of(1, random.Random(1))[0][1])
    post(broker, [(name, 0, value)])
    run_once(url, broker, [name])
    post(broker, [(name, 0, b"never seen %d" % n) for n in range(9)])
    post(broker, [(name, 0, b"seen")])
    admin = AdminClient({"bootstrap.servers": broker})
    for deleted in admin.delete_records([TopicPartition(name, 0, 10)]).values():
        deleted.result(30)
    sink, said = run_once(url, broker, [name])
    assert [line for line in said if line.startswith("ERROR")] == [
        f"ERROR {name}/0: records 1 to 9 (9) expired before they were audited; going on at 10"
    ]
    assert sink.status.expired == 9
    found = rows(
        url, "SELECT \"offset\", outcome, CAST(payload AS TEXT) FROM payment_events WHERE stage = 'audit' ORDER BY 1"
    )
    assert found == [(1, "expired", '{"first_missing":1,"next_offset":10}'), (10, "unreadable", None)]
    with closing(open_database(url)) as opened:
        assert count_check(opened).gaps == 1
    again, silent = run_once(url, broker, [name])
    assert (again.status.expired, silent) == (0, [])


def test_a_topic_that_was_made_again_ends_the_sink(url: str, broker: str) -> None:
    """Offsets that the topic never reached: going on would take new records for old ones."""
    name = unique()
    make_topics(broker, [name], 1)
    post(broker, [(name, 0, b"one"), (name, 0, b"two")])
    run_once(url, broker, [name])
    admin = AdminClient({"bootstrap.servers": broker})
    admin.delete_topics([name])[name].result(30)
    wait_until(lambda: name not in admin.list_topics(timeout=10).topics)
    wait_until(lambda: _made(broker, name))
    with pytest.raises(SinkError, match="deleted and made again"):
        run_once(url, broker, [name])


def _made(broker: str, name: str) -> bool:
    try:
        make_topics(broker, [name], 1)
    except KafkaException:  # still being deleted
        return False
    return True


def test_no_kafka_is_waited_for_and_with_once_given_up(url: str) -> None:
    """A broker that is away is said; without --once for as long as it takes, stopping at once when told to."""
    with pytest.raises(SinkError, match="does not answer"):
        run_once(url, "127.0.0.1:1", ["t"], give_up_after_s=0.1)
    with running(url, "127.0.0.1:1", ["t"]) as (_, said):
        wait_until(lambda: any("waiting" in line for line in said))


# The story


def a_story(database: Database) -> tuple[str, str]:
    """One payment, one conflicting request, one chargeback-less other payment without outcome."""
    mapper, batch = Mapper(CODEC), Batch()
    records: list[Record] = [record for _, record in records_of(1, random.Random(1))]
    ids = records[0].tenant, records[0].payment_id  # type: ignore[attr-defined]
    last = records[-1]
    assert isinstance(last, PaymentCompleted)
    fields = {name: getattr(last, name) for name in last.__struct_fields__}
    records.append(
        PaymentCompleted(**fields | {"event_id": "x", "outcome": "refused", "reason": "conflicting_request"})
    )
    records.append(records_of(2, random.Random(2))[0][1])
    for offset, record in enumerate(records):
        row = mapper.row("t", 0, offset, 5000 + 10 * offset, CODEC.encode(record))
        state = payment_state(row, record)
        batch.events.append(row)
        batch.states = [*[s for s in batch.states if state is None or s[:2] != state[:2]], *([state] if state else [])]
    batch.offsets["t", 0] = (None, len(records))
    database.write(batch)
    return ids


def test_a_story_is_told_in_order(database: Database) -> None:
    """Every event with its time since the one before; the refusal of the other request last, and without effect."""
    tenant, payment_id = a_story(database)
    told = story(database, tenant, payment_id)
    stages = ["screening", "localization", "payer", "payee", "dispatch", "plugin", "settlement", "settlement"]
    assert [event.stage for event in told.events] == stages
    assert [event.since_previous_ms for event in told.events] == [None] + [10] * 7
    assert told.events[-1].reason == "conflicting_request"
    assert told.payment is not None
    assert (told.payment.outcome, told.payment.completed_at_ms) == ("paid", 5060)
    assert not story(database, tenant, "nobody's").found


def test_counts_and_what_is_wrong_with_them(database: Database) -> None:
    """A second outcome, an event that is missing, an outcome that the payment does not show: each is found."""
    tenant, payment_id = a_story(database)
    assert outcome_counts(database) == [(tenant, "paid", "", 1)]
    clean = count_check(database)
    assert (clean.payments, clean.events, clean.without_outcome, clean.anomalies) == (2, 9, 1, [])
    mapper, batch = Mapper(CODEC), Batch()
    completed = records_of(1, random.Random(1))[-1][1]
    assert isinstance(completed, PaymentCompleted)
    fields = {name: getattr(completed, name) for name in completed.__struct_fields__}
    for offset, named in enumerate(({"event_id": "again"}, {"payment_id": "unseen"})):
        record = PaymentCompleted(**fields | named)
        batch.events.append(mapper.row("t", 1, offset, 1, CODEC.encode(record)))
    record = PaymentCompleted(**fields | {"payment_id": "no-event"})
    state = payment_state(mapper.row("t", 1, 5, 1, CODEC.encode(record)), record)
    assert state is not None
    batch.states += [state, state._replace(payment_id="unseen", outcome=None)]
    batch.events.append(EventRow._make(batch.events[0])._replace(event_id="again, from the same place"))
    database.write(batch)
    found = {anomaly.what: anomaly.examples for anomaly in count_check(database).anomalies}
    assert found["events under coordinates that another event has"] == [(tenant, payment_id)]
    assert found["payments with more than one outcome"] == [(tenant, payment_id)]
    assert found["outcomes that the payment's row does not show"] == [(tenant, "unseen")]
    assert found["payments with an outcome that no event gave"] == [(tenant, "no-event")]
    assert found["paid without an event of plugin"] == [(tenant, "no-event")]


def test_show_prints_the_story(url: str, database: Database) -> None:
    """As a table, as JSON, and with code 1 and a way out when there is no such payment."""
    tenant, payment_id = a_story(database)
    runner = CliRunner()
    shown = runner.invoke(show, [tenant, payment_id, "--database", url], env={"COLUMNS": "200"})
    assert shown.exit_code == 0, shown.output
    for part in (
        f"{tenant} {payment_id}  paid",
        "EUR",
        "t/0/4",
        "conflicting_request",
        "attempt 1, ask 0, pic simulator",
    ):
        assert part in shown.output
    assert "Somebody" not in shown.output
    data = json.loads(runner.invoke(show, [tenant, payment_id, "--database", url, "--json"]).stdout)
    assert data["payment"]["outcome"] == "paid"
    assert [event["offset"] for event in data["events"]] == list(range(8))
    missing = runner.invoke(show, [tenant, "nobody's", "--database", url])
    assert (missing.exit_code, "no payment nobody's" in missing.output) == (1, True)
    elsewhere = runner.invoke(show, ["other", payment_id, "--database", url])
    assert f"{tenant} has one with this id" in elsewhere.output


# The command


def ptr(*arguments: str, **options: Any) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", "from pipeline.commands.audit import audit_sink; audit_sink()", *arguments]
    pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen(command, cwd=ROOT, **pipes, **options)


@pytest.fixture(scope="module")
def audited_broker(broker: str) -> str:
    """The module's Kafka with the pipeline's own topics and 30 payments in them."""
    make_topics(broker, [topic.name for topic in topics.audited(["simulator"]) if topic is not topics.TENANTS])
    make_topics(broker, [topics.TENANTS.name], 1)
    post(broker, a_stream("", 30))
    return broker


def test_the_command_reads_to_the_end(url: str, audited_broker: str) -> None:
    """--once --json prints only JSON on stdout, and no password anywhere."""
    process = ptr("--once", "--json", "--database", url, "--broker", audited_broker)
    out, err = process.communicate(timeout=DEADLINE_S)
    assert process.returncode == 0, err
    counts = json.loads(out)
    assert (counts["events"], counts["repeated"], counts["lag"]) == (210, 21, 0)
    check_exact(url, a_stream("", 30), 30)
    secret = url.split("@")[0].rpartition(":")[2]
    assert not url.startswith("postgresql") or secret not in out + err


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_the_command_stops_when_told(number: int, tmp_path: Path, audited_broker: str) -> None:
    """SIGTERM and Ctrl-C end it in order, with code 0 and the counts."""
    url = f"sqlite:///{tmp_path}/audit.db"
    process = ptr("--database", url, "--broker", audited_broker)
    try:
        wait_until(lambda: (tmp_path / "audit.db").exists() and _has_read(url, 231))
        process.send_signal(number)
        out, err = process.communicate(timeout=DEADLINE_S)
    finally:
        process.kill()
        process.wait(30)
    assert process.returncode == 0, err
    assert out.startswith("210 events, 21 repeated")
    assert "Traceback" not in err


def test_the_command_serves_its_counts(tmp_path: Path, audited_broker: str) -> None:
    """On a free port, with the token: what was stored without a master key is a metric."""
    url = f"sqlite:///{tmp_path}/audit.db"
    process = ptr(
        "--database", url, "--broker", audited_broker, "--port", "0", env=os.environ | {"PTR_WEB_TOKEN": "secret"}
    )
    try:
        assert process.stderr is not None
        lines = iter(process.stderr.readline, "")
        page = next(line.strip() for line in lines if line.startswith("http://127.0.0.1:"))
        asked = urllib.request.Request(page, headers={"Authorization": "Bearer secret"})

        def counts() -> list[str]:
            with urllib.request.urlopen(asked, timeout=10) as reply:
                return [line for line in reply.read().decode().splitlines() if line.startswith("ptr_audit_")]

        wait_until(lambda: "ptr_audit_unsealed_total 210.0" in counts(), "for what was stored readable")
        assert {"ptr_audit_events_total 210.0", "ptr_audit_repeated_total 21.0"} <= set(counts())
        process.send_signal(signal.SIGTERM)
        _, err = process.communicate(timeout=DEADLINE_S)
    finally:
        process.kill()
        process.wait(30)
    assert (process.returncode, "Traceback" in err) == (0, False), err


def _has_read(url: str, records: int) -> bool:
    try:
        return sum(_offsets(url).values()) >= records
    except DatabaseError:
        return False


def test_a_full_disk_is_said_and_loses_nothing(tmp_path: Path, audited_broker: str) -> None:
    """The file may not grow: the command waits, gives up with a message, and a later one writes everything."""
    url = f"sqlite:///{tmp_path}/audit.db"
    run_once(url, audited_broker, [])

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000))

    process = ptr("--database", url, "--broker", audited_broker, "--give-up-after", "1", preexec_fn=limit)
    try:
        _, err = process.communicate(timeout=DEADLINE_S)
    finally:
        process.kill()
        process.wait(30)
    assert process.returncode == 1, err
    assert "Traceback" not in err
    assert "Nothing is lost" in err
    assert_trees_agree(url)
    run_once(url, audited_broker, topics_of(a_stream("", 1)))
    check_exact(url, a_stream("", 30), 30)
    assert_trees_agree(url)


def assert_trees_agree(url: str) -> None:
    """The tree tables are those of the rows."""
    with closing(open_database(url)) as opened:
        assert verify_database(opened, []).findings == []
