"""What comes from outside ends payments: a notification, and a statement, on a real Kafka with a worker and a sink."""

from __future__ import annotations

import http.client
import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from confluent_kafka import Producer

from connectors.broker.local import LocalKafka
from connectors.pic.ledger import SqliteLedger
from pipeline import topics
from schemas.codec import Codec
from schemas.identity import payment_key
from schemas.records import PaymentCompleted, PaymentNotified, PaymentRequested
from tests.builders import a_request
from tests.integration.kafka import records
from tests.integration.live import a_load, until, working
from tests.notices import SECRET, simulator_notice

pytestmark = pytest.mark.kafka

CODEC = Codec()


@contextmanager
def notifications_endpoint(address: str, ledger: Path) -> Iterator[str]:
    """``ptr notifications`` as an operator starts it; gives the address of the simulator's."""
    environment = os.environ | {
        "PTR_BROKER": address,
        "PTR_PICS": "simulator",
        "PTR_SIMULATOR_LEDGER": str(ledger),
        "PTR_PIC_SIMULATOR_NOTIFICATION_SECRET": SECRET,
    }
    process = subprocess.Popen(
        [sys.executable, "-m", "pipeline.cli", "notifications", "--port", "0"],
        env=environment,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr is not None
    try:
        line = process.stderr.readline()
        found = re.search(r"http://127\.0\.0\.1:(\d+)/notifications/simulator", line)
        assert found, line
        yield found[1]
        process.terminate()
        assert process.wait(30) == 0
    finally:
        process.kill()
        process.wait()
        process.stderr.close()


def post(address: str, *requests: PaymentRequested) -> None:
    producer = Producer({"bootstrap.servers": address})
    for request in requests:
        key = payment_key(request.tenant, request.payment_id)
        producer.produce(topics.REQUESTED.name, CODEC.encode(request), key)
    assert producer.flush(30) == 0


def outcomes(address: str) -> dict[str, list[PaymentCompleted]]:
    found: dict[str, list[PaymentCompleted]] = {}
    for message in records(address, topics.COMPLETED.name):
        record = CODEC.decode(message.value(), PaymentCompleted)
        found.setdefault(record.payment_id, []).append(record)
    return found


def a_payment(payment_id: str, token: str) -> PaymentRequested:
    return a_request(tenant="bench0", payment_id=payment_id, token=token, requested_at_ms=int(time.time() * 1000))


def test_a_pending_payment_is_paid_by_news_from_outside(kafka: LocalKafka, tmp_path: Path) -> None:
    """The PIC answers nothing: a notification pays one, a statement that ``ptr reconcile --publish`` reads another, whatever
    comes twice; a forged one nothing. What reconciles afterwards matches."""
    load = a_load(1)
    names = ("told", "stated", "forged")
    with working(kafka.address, tmp_path, load, "worker") as (rig, (worker,)):
        ledger = tmp_path / "pic.db"
        post(kafka.address, *(a_payment(name, "tok_never") for name in names))
        until("all are asked for", lambda: rig.count(topics.ANSWERED.name) >= len(names))
        assert outcomes(kafka.address) == {}
        with notifications_endpoint(kafka.address, ledger) as port:
            for attempt, secret, status in (("forged", "wrong", 401), ("told", SECRET, 200), ("told", SECRET, 200)):
                body, headers = simulator_notice(
                    f"bench0|{attempt}|1", "succeeded", int(time.time()), secret=secret, pic_reference="sim-told"
                )
                connection = http.client.HTTPConnection("127.0.0.1", int(port), timeout=30)
                connection.request("POST", "/notifications/simulator", body, headers)
                assert connection.getresponse().status == status
                connection.close()
        until("the one that was told of is paid", lambda: "told" in outcomes(kafka.address))
        until(
            "the sink knows both",
            # The one that was told of is paid and not in this statement.
            lambda: (
                reconcile(worker.environment, tmp_path, "stated")["found"] == {"status_differs": 1, "missing_there": 1}
            ),
            pause_s=0.5,
        )
        assert reconcile(worker.environment, tmp_path, "stated", "--publish")["published"] == 1
        until("the one that was stated is paid", lambda: "stated" in outcomes(kafka.address))
        for name, reference in (("told", "sim-told"), ("stated", "ref-stated")):
            (completed,) = outcomes(kafka.address)[name]
            assert (completed.outcome, completed.pic, completed.pic_reference) == ("paid", "simulator", reference)
        assert "forged" not in outcomes(kafka.address)
        until(
            "the sink has both",
            lambda: reconcile(worker.environment, tmp_path, "told", "stated")["found"] == {"matched": 2},
            pause_s=0.5,
        )
        entries = SqliteLedger(ledger).entries()
        # The PIC itself said nothing of it: what paid them came from outside.
        assert {entries[f"bench0|{name}|1"].outcome for name in ("told", "stated")} == {"never"}
    told = [CODEC.decode(message.value(), PaymentNotified) for message in records(kafka.address, topics.NOTIFIED.name)]
    assert sorted((each.source, each.payment_id) for each in told) == [
        ("pic", "told"),
        ("pic", "told"),
        ("statement", "stated"),
    ]


def reconcile(environment: dict[str, str], folder: Path, *words: str) -> dict[str, object]:
    """What ``ptr reconcile`` says of a statement of today that has these payments."""
    day = time.strftime("%Y-%m-%d", time.gmtime())
    payments = [word for word in words if not word.startswith("--")]
    rows = [f"bench0|{payment}|1,ref-{payment},12.50,EUR,{day}" for payment in payments]
    statement = folder / "statement.csv"
    statement.write_text("\n".join(["Ref,Own,Gross,Cur,When", *rows]) + "\n")
    rules = ("attempt_id=Ref", "pic_reference=Own", "amount=Gross", "currency=Cur", "at=When")
    done = subprocess.run(
        [sys.executable, "-m", "pipeline.cli", "reconcile", str(statement), "--pic", "simulator", "--json"]
        + [option for rule in rules for option in ("--map", rule)]
        + [word for word in words if word.startswith("--")],
        env=os.environ | environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode in (0, 1), done.stderr
    return json.loads(done.stdout)  # type: ignore[no-any-return]
