"""A payment's life on a real Kafka, by the commands that a user types; the counts are the PIC's."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import msgspec
import pytest
from confluent_kafka import Producer

from connectors.broker.local import LocalKafka
from connectors.pic.ledger import Entry, SqliteLedger
from connectors.tenants.publish import publish
from pipeline import topics
from pipeline.bench.recount import read_all
from pipeline.rig import Rig
from schemas.codec import Codec
from schemas.identity import payment_key
from schemas.records import OperationRequested, PaymentCompleted, PaymentUpdated
from schemas.tenant_rules import FraudRules, TenantRules
from tests.builders import a_request
from tests.integration.live import TIMEOUT_S, a_load, pipeline, until

pytestmark = pytest.mark.kafka

CODEC = Codec()
TENANT = "acme"


def ptr(rig: Rig, *words: str) -> subprocess.CompletedProcess[str]:
    """``ptr ...`` as a user runs it."""
    return subprocess.run(
        [sys.executable, "-m", "pipeline.cli", *words],
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
        env=os.environ | {"PTR_BROKER": rig.broker, "PTR_DATABASE": rig.database},
    )


def operate(rig: Rig, kind: str, payment: str, name: str, *more: str) -> tuple[int, dict[str, Any]]:
    """Exit code and answer of ``ptr operations``."""
    words = ["operations", kind, TENANT, payment, "--id", name, "--currency", "EUR", "--wait", "60", "--json", *more]
    done = ptr(rig, *words)
    assert done.stdout, done.stderr
    return done.returncode, json.loads(done.stdout)["answer"]


def post(rig: Rig, topic: str, *records: Any) -> None:
    producer = Producer({"bootstrap.servers": rig.broker, "linger.ms": 0, "partitioner": "consistent"})
    for record in records:
        producer.produce(topic, CODEC.encode(record), payment_key(record.tenant, record.payment_id))
    assert producer.flush(30) == 0


def authorization(payment: str, amount_minor: int = 5000) -> Any:
    made = a_request(
        tenant=TENANT, payment_id=payment, amount_minor=amount_minor, requested_at_ms=int(time.time() * 1000)
    )
    return msgspec.structs.replace(made, kind="authorize")


def events(rig: Rig, topic: str, record: type[Any]) -> list[Any]:
    decode = CODEC.decoder(record)
    return [decode(message.value()) for message in read_all(rig.broker, topic)]


def entries(rig: Rig) -> dict[str, Entry]:
    ledger = SqliteLedger(rig.folder / "pic.db")
    try:
        return ledger.entries()
    finally:
        ledger.close()


def prepare(rig: Rig) -> None:
    # One payer pays them all: fraud is not what is looked at here.
    fraud = FraudRules(refer_at=1.0, decline_at=1.0)
    publish(rig.access, CODEC, [TenantRules(tenant=TENANT, pic="simulator", currencies=["EUR"], fraud=fraud)])


def test_an_authorization_is_captured_in_parts_and_refunded(kafka: LocalKafka, tmp_path: Path) -> None:
    """Amounts and status after each step, a limit that is refused, a repeat that is the same; and the story tells it."""
    with pipeline(kafka.address, tmp_path, a_load(1)) as rig:
        prepare(rig)
        rig.worker("all")
        rig.audit_sink()
        rig.wait_ready()
        post(rig, topics.REQUESTED.name, authorization("p1"))
        code, first = operate(rig, "capture", "p1", "cap-1", "--amount", "20")
        assert (code, first["outcome"], first["status"], first["captured_minor"]) == (
            0,
            "succeeded",
            "partially_captured",
            2000,
        )
        code, again = operate(rig, "capture", "p1", "cap-1", "--amount", "20")
        assert (code, again["event_id"], again["repeat"]) == (0, first["event_id"], True)
        code, above = operate(rig, "capture", "p1", "cap-2", "--amount", "30.01")
        assert (code, above["reason"]) == (1, "amount_above_authorized")
        code, rest = operate(rig, "capture", "p1", "cap-3")
        assert (code, rest["amount_minor"], rest["status"]) == (0, 3000, "succeeded")
        code, back = operate(rig, "refund", "p1", "ref-1", "--amount", "49.99")
        assert (code, back["refunded_minor"], back["status"]) == (0, 4999, "succeeded")
        done = {name: (entry.kind, entry.amount_minor, entry.calls) for name, entry in entries(rig).items()}
        assert done == {
            "acme|p1|1": ("authorize", 5000, 1),
            "acme|p1|cap-1|1": ("capture", 2000, 1),
            "acme|p1|cap-3|1": ("capture", 3000, 1),
            "acme|p1|ref-1|1": ("refund", 4999, 1),
        }
        until("the story is whole", lambda: "refunded 49.99 EUR" in ptr(rig, "show", TENANT, "p1").stdout, pause_s=0.5)
        assert "stands at succeeded: authorized 50.00 EUR" in ptr(rig, "show", TENANT, "p1").stdout


def test_a_mistake_is_answered_in_a_line(tmp_path: Path) -> None:
    """Before anything is posted: a usage error names the option; no traceback."""
    for words, named in (
        (["capture", "NO", "p1", "--id", "x", "--currency", "EUR"], "TENANT"),
        (["capture", "acme", "p1", "--id", "a b", "--currency", "EUR"], "--id"),
        (["capture", "acme", "p1", "--id", "x", "--currency", "XYZ", "--amount", "1"], "--currency"),
        (["refund", "acme", "p1", "--id", "x", "--currency", "JPY", "--amount", "1.5"], "decimals"),
        (["void", "acme", "p1", "--id", "x", "--currency", "EUR", "--amount", "-1"], "--amount"),
        (["void", "acme", "p1", "--id", "x", "--currency", "EUR", "--amount", "many"], "--amount"),
        (["void", "acme", "p1", "--id", "x"], "--currency"),
    ):
        done = subprocess.run(
            [sys.executable, "-m", "pipeline.cli", "operations", *words],
            capture_output=True,
            text=True,
            timeout=TIMEOUT_S,
            check=False,
            cwd=tmp_path,
        )
        assert done.returncode == 2, done.stderr
        assert named in done.stderr
        assert "Traceback" not in done.stderr


def test_operations_are_done_once_though_workers_are_killed(kafka: LocalKafka, tmp_path: Path) -> None:
    """Authorizations with two captures and a refund each, posted at once and twice, three kills: each is done once."""
    payments = [f"p{number}" for number in range(60)]
    asked = [("a", "capture", 1500), ("b", "capture", 3500), ("c", "refund", 2000)]
    operations = [
        OperationRequested(
            tenant=TENANT,
            payment_id=payment,
            operation_id=name,
            kind=kind,
            amount_minor=amount,
            currency="EUR",
            requested_at_ms=1,
        )
        for payment in payments
        for name, kind, amount in asked
    ]
    with pipeline(kafka.address, tmp_path, a_load(1)) as rig:
        prepare(rig)
        worker = rig.worker("all")
        rig.wait_ready()

        def ended() -> set[tuple[str, str]]:
            return {(e.payment_id, e.operation_id) for e in events(rig, topics.UPDATED.name, PaymentUpdated)}

        for part in range(3):
            chosen = payments[part * 20 : part * 20 + 20]
            post(rig, topics.REQUESTED.name, *[authorization(payment) for payment in chosen])
            of_these = [one for one in operations if one.payment_id in chosen]
            post(rig, topics.OPERATIONS.name, *of_these, *of_these)
            until("some of it is done", lambda part=part: len(ended()) > part * 60 + 5, pause_s=0.1)  # type: ignore[misc]
            worker.kill()
            worker.start()
        rig.wait_ready()
        until("all of it is done", lambda: len(ended()) == len(operations), pause_s=0.5)
        told = events(rig, topics.UPDATED.name, PaymentUpdated)
        assert {event.outcome for event in told} == {"succeeded"}
        completed = {e.payment_id: e.outcome for e in events(rig, topics.COMPLETED.name, PaymentCompleted)}
        assert completed == dict.fromkeys(payments, "authorized")
        ledger = entries(rig)
        assert {name for name, entry in ledger.items() if entry.done} == {
            *(f"acme|{payment}|1" for payment in payments),
            *(f"acme|{payment}|{name}|1" for payment in payments for name, _, _ in asked),
        }
        assert sum(entry.amount_minor for entry in ledger.values() if entry.kind == "capture") == 60 * 5000
