"""The audit tables in SQLite: numbered payments, whatever comes first, and databases of before they had numbers."""

from __future__ import annotations

import random
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import yoyo

from connectors.rules import recorded
from connectors.sinks import judged
from connectors.sinks import sqlite as sqlite_module
from connectors.sinks.database import EVENT_COLUMNS, STATE_COLUMNS, Batch, Database, DatabaseError, open_database
from connectors.sinks.rows import Columns, Mapper, PaymentState, state_of
from connectors.sinks.story import count_check, story
from pipeline import topics
from schemas.codec import Codec
from schemas.records import ChargebackReceived, DeadLetter, PaymentCompleted, Record, ReviewAnswered, TenantConfigured
from tests.benchmark.bench_sink import records_of

CODEC = Codec()
MAPPER = Mapper(CODEC)
MIGRATIONS = Path(sqlite_module.__file__).parent / "migrations" / "sqlite"
EVENTS = f"SELECT {EVENT_COLUMNS} FROM payment_events ORDER BY rowid"
STATES = f"SELECT {STATE_COLUMNS} FROM payments ORDER BY tenant, payment_id"


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    """A new, migrated database."""
    with closing(open_database(f"sqlite:///{tmp_path}/audit.db", create=True)) as opened:
        opened.migrate()
        yield opened


def paid(number: int) -> list[tuple[str, Record]]:
    return records_of(number, random.Random(number))


def ids(number: int) -> tuple[str, str]:
    completed = paid(number)[-1][1]
    assert isinstance(completed, PaymentCompleted)
    return completed.tenant, completed.payment_id


def asides(number: int) -> list[tuple[str, Record]]:
    """Records that name the payment and do not tell its state."""
    tenant, payment_id = ids(number)
    told: dict[str, Any] = {"tenant": tenant, "payment_id": payment_id, "currency": "EUR"}
    times = {"requested_at_ms": 1, "received_at_ms": 2, "amount_minor": 3, "rule_version": 1}
    conflict = {"event_id": "refused/1", "outcome": "refused", "reason": "conflicting_request", "stage": "screening"}
    return [
        (
            topics.CHARGEBACKS.name,
            ChargebackReceived(creditor_id="c", amount_minor=1, paid_at_ms=1, charged_back_at_ms=2, **told),
        ),
        (
            topics.DEAD_LETTERS.name,
            DeadLetter(
                topic="t",
                partition=0,
                offset=number,
                stage="dispatch",
                error="not_avro",
                key=f"{tenant}|{payment_id}".encode(),
                value_length=0,
            ),
        ),
        (topics.COMPLETED.name, PaymentCompleted(**told, **times, **conflict)),
        *(
            (
                topics.REVIEWS_ANSWERED.name,
                ReviewAnswered(
                    event_id=f"ignored/{stage}",
                    tenant=tenant,
                    payment_id=payment_id,
                    stage=stage,
                    decision="approve",
                    result="ignored",
                    ignored="no_review",
                    decided_at_ms=1,
                ),
            )
            for stage in ("screening", "payee")
        ),
    ]


class Writer:
    """Writes records as the sink does, at the next offsets of one partition."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self._next = 0

    def __call__(self, records: list[tuple[str, Record]]) -> int:
        rows = [
            MAPPER.columns(topic, 0, self._next + place, 1000 + self._next + place, CODEC.encode(record))
            for place, (topic, record) in enumerate(records)
        ]
        offsets = {("t", 0): (self._next or None, self._next + len(rows))}
        self._next += len(rows)
        return self.database.write(Batch(rows, states(rows), offsets))


def states(rows: list[Columns]) -> list[PaymentState]:
    by_payment: dict[Any, list[Columns]] = {}
    for row in rows:
        by_payment.setdefault(row[:2], []).append(row)
    return [state for some in by_payment.values() if (state := state_of(some, MAPPER.record_of)) is not None]


def anomalies(database: Database) -> list[str]:
    return [anomaly.what for anomaly in count_check(database).anomalies]


@pytest.mark.parametrize("seed", range(5))
def test_every_order_gives_every_event_once(database: Database, seed: int) -> None:
    """Stages, outcomes, chargebacks before their payment and after it, in batches of any size, each of them twice."""
    rng = random.Random(seed)
    records = [record for number in range(6) for record in paid(number) + asides(number)]
    records += [(topics.TENANTS.name, TenantConfigured(tenant="shop-1", version=1, document="{}", document_hash="a"))]
    twice = records * 2
    rng.shuffle(twice)
    write, new = Writer(database), 0
    while twice:
        size = rng.randrange(1, 20)
        some, twice = twice[:size], twice[size:]
        new += write(some)
    assert new == len(records) == 73
    assert database.query("SELECT COUNT(*) FROM payment_events WHERE payment_number IS NULL") == [(5 * 6 + 1,)]
    for number in range(6):
        found = story(database, *ids(number))
        stages = ["screening", "localization", "payer", "payee", "dispatch", "plugin", "settlement"]
        assert sorted(event.stage for event in found.events) == sorted(
            [*stages, "chargeback", "dispatch", "settlement", "reviews", "reviews"]
        )
        assert found.payment is not None
        assert found.payment.outcome == "paid"
    assert anomalies(database) == []


def test_numbers_are_found_again_after_a_restart_and_when_forgotten(
    database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A new process knows no number, an old one not those of long ago: a repeat is a repeat all the same."""
    monkeypatch.setattr(sqlite_module, "NUMBERS_MAX", 2)
    write = Writer(database)
    everything = [record for number in range(8) for record in paid(number)]
    assert write(everything) == 56
    assert write(everything[::-1]) == 0
    assert write(paid(8)[:1]) == 1
    with closing(open_database(f"sqlite:///{tmp_path}/audit.db", create=True)) as again:
        write.database = again
        assert write(everything) == 0
        assert write(paid(8)) == 6
        assert write(paid(8)[-1:]) == 0
        assert anomalies(again) == []


def test_a_batch_that_was_taken_back_leaves_no_number(database: Database) -> None:
    """Its numbers go to others; nobody's event may come under them."""
    write = Writer(database)
    write(paid(0))
    bad = [MAPPER.columns(topic, 0, 50, 1, CODEC.encode(record)) for topic, record in paid(1)]
    broken = (*bad[0][:4], None, *bad[0][5:])
    with pytest.raises(DatabaseError, match="stage"):
        database.write(Batch([*bad, broken], states(bad), {("other", 0): (None, 1)}))
    assert write(paid(2)) == 7
    assert write(paid(1)) == 7
    assert anomalies(database) == []


def test_an_event_without_its_payments_state_is_not_written(database: Database) -> None:
    """It could not be told from its repeat: the batch is refused, by the ids and no more."""
    rows = [MAPPER.columns(topic, 0, 0, 1, CODEC.encode(record)) for topic, record in paid(1)]
    with pytest.raises(DatabaseError, match="without its state"):
        database.write(Batch(rows, [], {("t", 0): (None, 7)}))
    assert database.query("SELECT COUNT(*) FROM payment_events") == [(0,)]


@pytest.mark.parametrize(
    "statement",
    [
        "DELETE FROM payments",
        "UPDATE payments SET number = number + 100",
        "UPDATE payments SET payment_id = 'other'",
        "UPDATE payment_events SET payment_number = 7",
        "DELETE FROM payment_events",
    ],
)
def test_numbers_cannot_be_changed(database: Database, tmp_path: Path, statement: str) -> None:
    """Whoever tries with plain SQL is told why."""
    Writer(database)(paid(0))
    before = database.query(STATES), database.query(EVENTS)
    with (
        closing(sqlite3.connect(tmp_path / "audit.db")) as other,
        pytest.raises(sqlite3.IntegrityError, match=r"append-only|by number"),
    ):
        other.execute(statement)
    assert (database.query(STATES), database.query(EVENTS)) == before


def test_an_event_under_another_payments_number_is_told(database: Database, tmp_path: Path) -> None:
    """Somebody who takes the triggers away and moves an event to another payment is found out."""
    Writer(database)(paid(0) + paid(1))
    with closing(sqlite3.connect(tmp_path / "audit.db", isolation_level=None)) as other:
        other.execute("DROP TRIGGER payment_events_no_update")
        other.execute(
            "UPDATE payment_events SET payment_number = 1, event_id = 'x' WHERE payment_number = 2 AND stage = 'payer'"
        )
    assert "events under the number of another payment" in anomalies(database)


def test_what_is_asked_of_a_payment_is_found_by_index(database: Database) -> None:
    """One payment's story and decision read no whole table; what is about all payments reads it once, not once for each."""
    of_all = "l.tenant = ?1 AND l.recorded_at_ms > ?2"
    for sql, read in (
        (f"SELECT 1 FROM payment_events WHERE {database.events_of('payment_events')}", 0),
        (recorded._decisions(database, database.events_of("l")), 0),
        (recorded._decisions(database, of_all), 0),
        (
            "SELECT 1 FROM payments p WHERE ?1 < ?2 AND NOT EXISTS (SELECT 1 FROM payment_events e"
            f" WHERE {database.tells_of('e', 'p')} AND e.stage = 'payer')",
            1,
        ),
        (
            "SELECT 1 FROM payment_events o WHERE o.stage = 'reviews' AND o.recorded_at_ms > ?1 AND ?2 > 0 AND NOT EXISTS"
            f" (SELECT 1 FROM payment_events e WHERE {database.same_payment('e', 'o')} AND e.event_id = o.event_id)",
            0,
        ),
    ):
        plan = [step for *_, step in database.query(f"EXPLAIN QUERY PLAN {sql}", ("t", "p"))]
        assert sum("SCAN" in step or "AUTOMATIC" in step for step in plan) == read, plan


def test_a_page_of_judged_payments_reads_no_more_than_a_page(database: Database) -> None:
    """It begins where the last one ended and reads its own events only: all pages together read the tables once."""
    ids = ("t", "p", "t", "q", "u", "r")
    for sql, parameters, scanned in (
        (judged._PAGE, ("t", "p", "~", 0, 9, 100), []),
        (judged._events_sql(database, 3), ids, ["SCAN 3 CONSTANT ROWS", "SCAN w"]),
    ):
        plan = [step for *_, step in database.query(f"EXPLAIN QUERY PLAN {sql}", parameters)]
        assert any(step.startswith("SEARCH") for step in plan), plan
        assert [step for step in plan if "SCAN" in step or "AUTOMATIC" in step] == scanned, plan


def test_databases_of_the_first_version_are_brought_up_to_date(tmp_path: Path) -> None:
    """Every row and state stays as it was, in its order; stories are whole; a repeat of what is old is a repeat."""
    first = tmp_path / "first"
    first.mkdir()
    for name in ("0001_audit_tables.sql", "0002_reviews.sql"):
        (first / name).write_text((MIGRATIONS / name).read_text())
    backend = yoyo.get_backend(f"sqlite:///{tmp_path}/audit.db")
    with backend.lock():
        backend.apply_migrations(backend.to_apply(yoyo.read_migrations(str(first))))
    records = [record for number in range(9) for record in paid(number) + asides(number)]
    records += [*asides(50), *paid(51)[:3]]
    records += [(topics.TENANTS.name, TenantConfigured(tenant="shop-1", version=1, document="{}", document_hash="a"))]
    rows = [MAPPER.columns(topic, 0, at, 1000 + at, CODEC.encode(record)) for at, (topic, record) in enumerate(records)]
    rows.append(MAPPER.columns(topics.SCORED.name, 0, 900, 5, b"junk"))
    marks = ", ".join("?" * len(rows[0]))
    with closing(sqlite3.connect(tmp_path / "audit.db")) as old, old:
        old.executemany(f"INSERT INTO payment_events ({EVENT_COLUMNS}) VALUES ({marks})", rows)
        all_states = sorted(states(rows))
        marks = ", ".join("?" * len(all_states[0]))
        old.executemany(f"INSERT INTO payments ({STATE_COLUMNS}) VALUES ({marks})", all_states)
        old.execute("INSERT INTO sink_offsets VALUES ('t', 0, 500)")
    with closing(open_database(f"sqlite:///{tmp_path}/audit.db", create=True)) as database:
        database.migrate()
        assert database.query(EVENTS) == rows
        assert database.query(STATES) == all_states
        assert database.offsets() == {("t", 0): 500}
        numbered = "SELECT COUNT(*), COUNT(payment_number) FROM payment_events"
        assert database.query(numbered) == [(len(rows), 9 * 7 + 3)]
        assert anomalies(database) == []
        assert len(story(database, *ids(3)).events) == 12
        write = Writer(database)
        write._next = 500
        assert write(records) == 0
        assert write(paid(51)) == 4
        with pytest.raises(DatabaseError, match="append-only"):
            database.query("DELETE FROM payment_events")
