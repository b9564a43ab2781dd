"""The embedded broker: it serves clients, makes topics, and never outlives the process that started it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pyarrow as pa
from click.testing import CliRunner
from confluent_kafka import Consumer, Producer, TopicPartition
from pyarrow import parquet

from connectors.broker import admin
from connectors.broker.embedded import EmbeddedBroker, touch_topics
from pipeline.commands.submit import submit
from pipeline.commands.topics import topics as topics_command
from pipeline.topics import REQUESTED, TENANTS, all_topics

ROOT = Path(__file__).resolve().parents[2]
WAIT_S = 30.0


def _is_running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


def _wait_until_ended(pid: int) -> None:
    deadline = time.monotonic() + WAIT_S
    while _is_running(pid):
        assert time.monotonic() < deadline, f"process {pid} lives on"
        time.sleep(0.05)


def _read(address: str, topic: str, number: int) -> list[bytes | None]:
    consumer = Consumer({"bootstrap.servers": address, "group.id": "g"})
    try:
        consumer.assign([TopicPartition(topic, partition, 0) for partition in range(4)])
        found: list[bytes | None] = []
        deadline = time.monotonic() + WAIT_S
        while len(found) < number:
            assert time.monotonic() < deadline, f"{len(found)} of {number} records came"
            found += [message.value() for message in consumer.consume(number, timeout=0.2)]
        return found
    finally:
        consumer.close()


def test_serves_clients_and_ends_with_the_block() -> None:
    """Records that one client posts another reads; after the block the child is gone."""
    with EmbeddedBroker() as broker:
        pid = broker.pid
        producer = Producer({"bootstrap.servers": broker.address, "enable.idempotence": True})
        for n in range(100):
            producer.produce("t", f"{n}", f"{n}")
        assert producer.flush(10) == 0
        assert sorted(map(bytes.decode, filter(None, _read(broker.address, "t", 100)))) == sorted(map(str, range(100)))
    assert not _is_running(pid)


def test_touched_topics_are_there_with_four_partitions() -> None:
    """Topics exist once they were asked for, with the four partitions that the mock cluster gives to each."""
    with EmbeddedBroker() as broker:
        names = [topic.name for topic in all_topics(["simulator"])]
        touch_topics(broker.address, names)
        shown = admin.metadata(admin.client(broker.address)).topics
        assert {name: len(topic.partitions) for name, topic in shown.items()} == dict.fromkeys(names, 4)


def test_dies_with_its_parent_even_when_that_is_killed() -> None:
    """SIGKILL to the program that started it ends the broker: no stray processes."""
    program = "import time; from connectors.broker.embedded import EmbeddedBroker as B; print(B().pid, flush=True); "
    parent = subprocess.Popen([sys.executable, "-c", program + "time.sleep(60)"], cwd=ROOT, stdout=subprocess.PIPE)
    pid = 0
    try:
        assert parent.stdout is not None
        pid = int(parent.stdout.readline())
        assert _is_running(pid)
        parent.send_signal(signal.SIGKILL)
        parent.wait()
        _wait_until_ended(pid)
    finally:
        parent.kill()
        parent.wait()
        if parent.stdout is not None:
            parent.stdout.close()
        if pid and _is_running(pid):
            os.kill(pid, signal.SIGKILL)


def test_topics_apply_says_that_the_broker_is_embedded() -> None:
    """On the embedded broker topics are touched, settings and partition numbers are not demanded, and it says so."""
    with EmbeddedBroker() as broker:
        client = admin.client(broker.address)
        first = admin.apply(client, [REQUESTED, TENANTS], partitions=6, replication=3)
        assert (first.embedded, [d.topic for d in first.done], first.left) == (True, [REQUESTED.name, TENANTS.name], [])
        assert admin.apply(client, [REQUESTED, TENANTS], partitions=6, replication=3).done == []
        result = CliRunner().invoke(topics_command, ["apply", "--broker", broker.address])
        assert result.exit_code == 0, result.output
        assert "This is the embedded broker" in result.stdout


def test_submit_posts_to_the_embedded_broker(tmp_path: Path) -> None:
    """`ptr submit` needs no topics made before: the embedded broker makes the one that it posts to."""
    party = {"id": "a", "name": "A", "country": "DE"}
    request = {
        "tenant": "acme",
        "payment_id": "p1",
        "amount_minor": 1,
        "currency": "EUR",
        "debtor": party,
        "creditor": party,
        "instrument": {"kind": "card", "token": "t"},
        "locality": {"country": "DE"},
        "requested_at_ms": 1764000000000,
    }
    file = tmp_path / "p.jsonl"
    file.write_text(json.dumps(request) + "\n")
    with EmbeddedBroker() as broker:
        result = CliRunner().invoke(submit, [str(file), "--broker", broker.address, "--json"])
        assert result.exit_code == 0, result.output
        assert json.loads(result.stdout)["delivered"] == 1
        assert len(_read(broker.address, REQUESTED.name, 1)) == 1


def test_submit_of_a_damaged_file_counts_what_was_posted(tmp_path: Path) -> None:
    """A file that cannot be read to its end: what was read is posted and counted, and the error names the file."""
    file = tmp_path / "p.parquet"
    parquet.write_table(pa.table({"N": list(range(10_000))}), file, row_group_size=5_000, use_dictionary=False)
    second = parquet.ParquetFile(file).metadata.row_group(1).column(0).data_page_offset
    with file.open("r+b") as damaged:
        damaged.seek(second)
        damaged.write(b"\xff" * 200)
    constants = ["tenant:=acme", "amount_minor:=1", "currency:=EUR", "requested_at_ms:=1764000000000"]
    constants += [f"{p}.{name}:=x" for p in ("debtor", "creditor") for name in ("id", "name", "country")]
    constants += ["instrument.kind:=card", "instrument.token:=t", "locality.country:=DE"]
    rules = [option for rule in ["payment_id=N", *constants] for option in ("--map", rule)]
    with EmbeddedBroker() as broker:
        result = CliRunner().invoke(submit, [str(file), "--broker", broker.address, "--json", *rules])
    assert result.exit_code == 1, result.output
    assert "p.parquet cannot be read" in result.stderr
    counts = json.loads(result.stdout)
    assert (counts["read"], counts["delivered"]) == (5_000, 5_000)
