"""Goods and invoices from a file, and from a plain Avro client, through a real Kafka and the audit sink to the reports."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import closing
from io import BytesIO
from pathlib import Path
from typing import Any

import fastavro
import msgspec
import pytest
from click.testing import CliRunner
from confluent_kafka import Producer

from connectors.broker import admin
from connectors.broker.local import LocalKafka
from connectors.privacy.masters import MasterKeys
from connectors.sinks.database import open_database
from connectors.sinks.sink import AuditSink
from pipeline import topics
from pipeline.cli import main
from schemas.codec import Codec
from schemas.identity import invoice_key, partition_of, stock_key
from tests.integration import postgres as pg
from tests.integration.kafka import ends, records, unique
from tests.unit.test_inventory import a_movement
from tests.unit.test_invoices import a_change

pytestmark = [pytest.mark.kafka, pytest.mark.postgres]
TOPICS = (topics.INVENTORY, topics.INVOICES)
PARTITIONS = 3
SCHEMAS = Path(__file__).parents[2] / "schemas" / "avro"


@pytest.fixture
def broker(kafka: LocalKafka) -> str:
    """The shared broker, with both topics."""
    admin.apply(admin.client(kafka.address), TOPICS, PARTITIONS, 1)
    return kafka.address


@pytest.fixture(params=["sqlite", "sealed", "postgresql"])
def audited(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[str, MasterKeys | None]]:
    """The URL of a new database of each kind, and the keys of a sink that seals what is personal."""
    if request.param != "postgresql":
        yield f"sqlite:///{tmp_path}/audit.db", MasterKeys([bytes(range(32))]) if request.param == "sealed" else None
        return
    if reason := pg.available():
        pytest.skip(reason)
    with pg.postgres() as running:
        yield running.url, None


def ptr(*words: str) -> str:
    """What a command says; it must succeed."""
    done = CliRunner().invoke(main, words)
    assert done.exit_code == 0, done.output
    return done.stdout


def as_anybody(broker: str, topic: str, schema_file: str, key: str, record: dict[str, Any]) -> None:
    """Post with nothing of this project but the schema's file, as README tells."""
    schema = fastavro.schema.load_schema(SCHEMAS / schema_file)
    fingerprint = fastavro.schema.fingerprint(fastavro.schema.to_parsing_canonical_form(schema), "CRC-64-AVRO")
    fastavro.schemaless_writer(body := BytesIO(), schema, record)
    producer = Producer({"bootstrap.servers": broker})
    producer.produce(topic, b"\xc3\x01" + bytes.fromhex(fingerprint) + body.getvalue(), key)
    assert producer.flush(30) == 0


def test_what_is_posted_is_audited_once_and_reported(
    broker: str, audited: tuple[str, MasterKeys | None], tmp_path: Path
) -> None:
    """By each way in, with repeats; by hand what the reports must say, in any database, sealed or not."""
    url, masters = audited
    tenant = unique("acme")
    about: dict[str, Any] = {"tenant": tenant}
    movements = [
        a_movement(**about, movement_id="1", quantity=40),
        a_movement(**about, movement_id="2", kind="reserved", quantity=3, payment_id="p1", order_reference="Ada's"),
        a_movement(**about, movement_id="3", kind="released", quantity=3, payment_id="p1"),
        a_movement(**about, movement_id="4", kind="sold", quantity=3, payment_id="p1"),
        a_movement(**about, movement_id="5", kind="returned", quantity=2, payment_id="p1"),
        a_movement(**about, movement_id="6", kind="restocked", quantity=1, payment_id="p1"),
    ]
    changes = [
        a_change(**about, debtor_id="ada"),
        a_change(**about, debtor_id="ada", event_id="2", status="partly_paid", amount_minor=5_000, payment_id="p1"),
        a_change(**about, invoice_id="2026-18", due_date="2099-01-01"),
    ]
    for command, posted in (("inventory", movements), ("invoices", changes)):
        file = tmp_path / f"{command}.jsonl"
        file.write_bytes(b"".join(msgspec.json.encode(each) + b"\n" for each in posted))
        for _ in range(2):
            told = json.loads(ptr(command, "post", str(file), "--broker", broker, "--json"))
            assert (told["read"], told["posted"], told["refused"]) == (len(posted), len(posted), 0)
    plain = {"movement_id": "7", "sku": "tea-250", "kind": "stolen", "quantity": 1, "moved_at_ms": 1_764_000_000_000}
    as_anybody(broker, topics.INVENTORY.name, "stock_moved.avsc", f"{tenant}|tea-250", about | plain)

    keys = [invoice_key(tenant, "2026-17"), invoice_key(tenant, "2026-18"), stock_key(tenant, "tea-250")]
    for topic, wanted in ((topics.INVENTORY.name, keys[2:]), (topics.INVOICES.name, keys[:2])):
        ours = [message for message in records(broker, topic) if tenant.encode() in (message.value() or b"")]
        assert sorted({message.key() for message in ours}) == wanted
        for message in ours:
            assert message.partition() == partition_of(message.key(), len(ends(broker, topic)))

    names = [topic.name for topic in TOPICS]
    sink = AuditSink(url, broker, names, Codec(), once=True, say=lambda _: None, masters=masters)
    sink.run(threading.Event())
    with closing(open_database(url)) as database:
        rows = database.query(
            "SELECT event_id, outcome, payload FROM payment_events WHERE tenant = ? AND payment_id = 'p1' ORDER BY event_id",
            (tenant,),
        )
        assert database.query("SELECT COUNT(*) FROM payments")[0][0] == 0, "they tell no payment's state"
    assert [row[:2] for row in rows] == [
        ("inventory/2", "reserved"),
        ("inventory/3", "released"),
        ("inventory/4", "sold"),
        ("inventory/5", "returned"),
        ("inventory/6", "restocked"),
        ("invoice/2026-17|2", "partly_paid"),
    ]
    assert any("ada" in str(row).lower() for row in rows) == (masters is None)

    asked = ("--database", url, "--tenant", tenant, "--format", "json")
    stock = json.loads(ptr("report", "inventory", *asked))
    [row] = stock["rows"]
    busy = {name: value for name, value in row.items() if value}
    assert busy == {
        "tenant": tenant,
        "sku": "tea-250",
        "location": "vienna",
        "currency": "EUR",
        "received": 40,
        "reserved": 3,
        "released": 3,
        "sold": 3,
        "returned": 2,
        "restocked": 1,
        "stock_change": 38,
        "value_minor": 38 * 250,
    }
    assert stock["about"]["missing"].startswith("1 record that does not hold together is not in the figures: 1: kind")
    billed = json.loads(ptr("report", "invoices", *asked))
    [total] = billed["totals"]
    assert {name: total[name] for name in ("issued", "gross_minor", "paid_minor", "open_minor")} == {
        "issued": 2,
        "gross_minor": 24_000,
        "paid_minor": 5_000,
        "open_minor": 19_000,
    }
    shown = json.loads(ptr("show", tenant, "p1", "--database", url, "--json"))
    details = [event["detail"] for event in shown["events"]]
    assert details[0] == "3 of tea-250, at vienna"
    assert "order 2026-17, amount 5000" in details
