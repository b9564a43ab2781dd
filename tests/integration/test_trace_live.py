"""One payment through the whole pipeline on a real Kafka: its caller's trace reaches a collector as linked spans, `ptr trace`
draws it from the tables alone, and `ptr events tail` shows what is in the topics since a time."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from itertools import pairwise
from pathlib import Path

import pytest
from confluent_kafka import Producer

from connectors.broker import admin
from connectors.broker.local import LocalKafka
from connectors.broker.tail import Tail
from connectors.tenants.publish import publish
from pipeline import topics
from pipeline.rig import Rig
from pipeline.topics import Topic
from schemas.codec import Codec
from schemas.identity import payment_key
from schemas.tenant_rules import FraudRules, TenantRules
from schemas.trace_context import span_id, trace_id_of
from tests.builders import a_request
from tests.collector import a_collector, attributes_of
from tests.integration.kafka import unique
from tests.integration.live import TIMEOUT_S, a_load, pipeline, until

pytestmark = pytest.mark.kafka

TENANT = "acme"
TRACE, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
STEPS = [
    "screening",
    "localization",
    "payer",
    "payee",
    "dispatch",
    "queue simulator",
    "call simulator",
    "plugin",
    "settlement",
]


def post(rig: Rig, payment_id: str, *headers: tuple[str, bytes]) -> None:
    producer = Producer({"bootstrap.servers": rig.broker, "linger.ms": 0})
    request = a_request(tenant=TENANT, payment_id=payment_id, requested_at_ms=int(time.time() * 1000))
    key = payment_key(TENANT, payment_id)
    producer.produce(topics.REQUESTED.name, Codec().encode(request), key, headers=list(headers))
    assert producer.flush(30) == 0


def test_a_callers_trace_goes_to_the_collector_and_is_drawn(kafka: LocalKafka, tmp_path: Path) -> None:
    """A span for each stage, for the queue and for the call, each under the one before, under the caller's; a payment whose
    traceparent is invalid has a trace of its own; the batch's span links to both."""
    with (
        a_collector() as collector,
        pipeline(
            kafka.address, tmp_path, a_load(1), PTR_TRACE_SHARE="1", OTEL_EXPORTER_OTLP_ENDPOINT=collector.url
        ) as rig,
    ):
        fraud = FraudRules(refer_at=1.0, decline_at=1.0)
        publish(rig.access, Codec(), [TenantRules(tenant=TENANT, pic="simulator", currencies=["EUR"], fraud=fraud)])
        rig.worker("all")
        rig.audit_sink()
        rig.wait_ready()
        post(rig, "p1", ("traceparent", f"00-{TRACE}-{PARENT}-01".encode()), ("tracestate", b"rojo=1"))
        post(rig, "p2", ("traceparent", b"00-nonsense"))
        payments = {"p1": (TRACE, PARENT), "p2": (trace_id_of(TENANT, "p2"), "")}
        until(
            "spans of both came",
            lambda: {t for t, _ in payments.values()} <= {s.trace_id.hex() for s in collector.spans},
        )
        for payment_id, (trace_id, parent_id) in payments.items():
            spans = [span for span in collector.spans if span.trace_id.hex() == trace_id]
            assert without_waits([span.name for span in spans]) == ["payment", *STEPS]
            ids = [span.span_id.hex() for span in spans]
            assert [span.parent_span_id.hex() for span in spans] == [parent_id, *ids[:-1]]
            assert span_id(TENANT, payment_id, "call/1.0") in ids
            assert {attributes_of(span)["ptr.payment_id"] for span in spans} == {payment_id}
            assert all(a.end_time_unix_nano <= b.end_time_unix_nano for a, b in pairwise(spans[1:]))
            assert spans[-1].end_time_unix_nano == spans[0].end_time_unix_nano
        links = {
            link.trace_id.hex() for span in collector.spans if span.name == "audit sink batch" for link in span.links
        }
        assert links == {trace_id for trace_id, _ in payments.values()}
        assert b"Lovelace" not in collector.raw and b"tok_1" not in collector.raw

        drawn = ptr(rig, "trace", TENANT, "p1", "--json")
        assert drawn.returncode == 0, drawn.stderr
        [part] = json.loads(drawn.stdout)["parts"]
        assert part["trace_id"] == TRACE
        steps = [f"wait for {step['name']}" if step["kind"] == "wait" else step["name"] for step in part["steps"]]
        assert without_waits(steps) == [name.split()[-1] for name in STEPS]
        assert 0 < part["waited_ms"] < part["took_ms"]
        assert sum(total["took_ms"] for total in part["totals"]) == part["took_ms"]
        assert ptr(rig, "trace", TENANT, "nobody").returncode == 1

        shown = tail_of(rig, "--since", "1h", "--tenant", TENANT, "--stage", "settlement", "--json", lines=2)
        assert sorted(json.loads(line)["payment_id"] for line in shown) == ["p1", "p2"]


def without_waits(names: list[str]) -> list[str]:
    """``names`` without the waits for stages, each of which comes before its stage; some take no millisecond, most do."""
    waits = [(name, following) for name, following in pairwise(names) if name.startswith("wait for ")]
    assert all(name == f"wait for {following}" for name, following in waits)
    assert len(waits) >= 3, names
    return [name for name in names if not name.startswith("wait for ")]


def ptr(rig: Rig, *words: str) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"PTR_BROKER": rig.broker, "PTR_DATABASE": rig.database}
    command = [sys.executable, "-m", "pipeline.cli", *words]
    return subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT_S, check=False, env=environment)


def tail_of(rig: Rig, *options: str, lines: int) -> list[str]:
    """The first lines of ``ptr events tail``, which is then ended by SIGTERM, and ends well."""
    command = [sys.executable, "-m", "pipeline.cli", "events", "tail", "--broker", rig.broker, *options]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        watch = threading.Timer(TIMEOUT_S, process.kill)
        watch.start()
        assert process.stdout is not None
        found = [process.stdout.readline() for _ in range(lines)]
        process.terminate()
        assert process.wait(TIMEOUT_S) == 0
        watch.cancel()
    return found


def test_what_was_not_committed_is_not_shown(kafka: LocalKafka) -> None:
    """Of two transactions the aborted one's records are passed over, and the other's come."""
    topic = unique("tail")
    admin.apply(admin.client(kafka.address), [Topic(topic, "")], 1, 1)
    producer = Producer({"bootstrap.servers": kafka.address, "transactional.id": topic})
    producer.init_transactions(30)
    for value, end in ((b"aborted", producer.abort_transaction), (b"committed", producer.commit_transaction)):
        producer.begin_transaction()
        producer.produce(topic, value, b"k", 0)
        producer.flush(30)
        end(30)
    came: list[bytes | None] = []
    with Tail(kafka.address, [topic], since_ms=0) as log:

        def has_come() -> bool:
            came.extend(message.value() for message in log.read(0.2))
            return bool(came)

        until("a record came", has_come, timeout_s=30)
        came.extend(message.value() for message in log.read(0.5))
    assert came == [b"committed"]
