"""The real broker: it starts, stops, crashes and comes back; topics are made on it; its clients agree on partitions."""

from __future__ import annotations

import json
import os
import random
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from click.testing import CliRunner
from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient, NewTopic

from connectors.broker import admin
from connectors.broker.local import LocalKafka, LocalKafkaError
from pipeline.commands.kafka import kafka as kafka_command
from pipeline.commands.topics import topics as topics_command
from pipeline.topics import Topic
from schemas.identity import partition_of, payment_key
from tests.integration.kafka import a_kafka_of_its_own, records, require_kafka, unique

pytestmark = pytest.mark.kafka


@pytest.fixture
def own_kafka(tmp_path: Path) -> Iterator[LocalKafka]:
    """A broker that this test may stop and kill."""
    with a_kafka_of_its_own(tmp_path / "own-kafka") as broker:
        yield broker


def _produce(address: str, topic: str, items: list[tuple[bytes, bytes]]) -> None:
    producer = Producer({"bootstrap.servers": address, "enable.idempotence": True})
    for key, value in items:
        producer.produce(topic, value, key)
    assert producer.flush(30) == 0


def _has_ended(pid: int) -> bool:
    """Also when nobody has waited for it yet."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] == "Z"
    except FileNotFoundError:
        return True


def test_keeps_its_data_and_address_over_a_stop_and_a_crash(own_kafka: LocalKafka) -> None:
    """What was acknowledged is there after a clean stop and after SIGKILL, at the same address."""
    own_kafka.start()
    address, first_pid = own_kafka.address, own_kafka.pid
    admin.apply(admin.client(address), [Topic("kept", "")], partitions=1, replication=1)
    _produce(address, "kept", [(b"k", b"before the stop")])
    own_kafka.stop()
    assert _has_ended(first_pid)
    assert own_kafka.pid == 0
    own_kafka.start()
    assert own_kafka.address == address
    _produce(address, "kept", [(b"k", b"before the crash")])
    second_pid = own_kafka.pid
    own_kafka.kill()
    assert _has_ended(second_pid)
    own_kafka.start()
    assert own_kafka.address == address
    assert [message.value() for message in records(address, "kept")] == [b"before the stop", b"before the crash"]


def test_a_crash_that_nobody_saw_is_noticed(own_kafka: LocalKafka) -> None:
    """A broker killed from outside does not count as running, and another process starts it again."""
    own_kafka.start()
    os.kill(own_kafka.pid, signal.SIGKILL)
    assert own_kafka._wait_until_gone(json.loads((own_kafka.datadir / "kafka.json").read_text())["pid"], 10)
    assert own_kafka.pid == 0
    other = LocalKafka(own_kafka.datadir).start()
    assert other.pid != 0
    assert other.address == own_kafka.address


def test_never_signals_a_process_that_is_not_the_broker_of_this_folder(tmp_path: Path) -> None:
    """A recorded process id that now belongs to another program is left alone, also by stop and kill."""
    stranger = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)", "kafka.Kafka"])
    try:
        state = {"pid": stranger.pid, "port": 1, "controller_port": 2, "cluster_id": "x"}
        (tmp_path / "kafka.json").write_text(json.dumps(state))
        broker = LocalKafka(tmp_path)
        assert broker.pid == 0
        broker.stop()
        broker.kill()
        assert stranger.poll() is None
    finally:
        stranger.kill()
        stranger.wait()


def test_says_which_port_is_taken(tmp_path: Path) -> None:
    """A taken port is an error that names it, before anything is started."""
    require_kafka()
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(LocalKafkaError, match=f"port {port} is taken by another program"):
            LocalKafka(tmp_path, port).start()


def test_a_broker_that_cannot_start_says_why(own_kafka: LocalKafka) -> None:
    """When Kafka ends instead of answering, the error holds the last lines of its log, and nothing is left running."""
    own_kafka.start()
    own_kafka.stop()
    meta = own_kafka.datadir / "data" / "meta.properties"
    meta.write_text(meta.read_text().replace("node.id=1", "node.id=7"))
    with pytest.raises(LocalKafkaError, match=r"(?s)Kafka ended with code 1.*node") as raised:
        own_kafka.start()
    assert "7" in str(raised.value)
    assert own_kafka.pid == 0


def test_commands_up_status_down(tmp_path: Path) -> None:
    """`ptr kafka up`, `status` and `down` work from processes that know only the folder; each may be repeated."""
    require_kafka()
    folder = ["--datadir", str(tmp_path / "k")]
    runner = CliRunner()
    broker = LocalKafka(tmp_path / "k")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    try:
        assert runner.invoke(kafka_command, ["status", *folder]).exit_code == 1
        up = runner.invoke(kafka_command, ["up", "--port", str(port), *folder])
        assert up.exit_code == 0, up.output
        assert f"127.0.0.1:{port}" in up.stdout
        again = runner.invoke(kafka_command, ["up", "--port", str(port), *folder])
        assert again.exit_code == 0, again.output
        assert "runs already" in again.stdout
        status = runner.invoke(kafka_command, ["status", "--json", *folder])
        assert json.loads(status.stdout)["address"] == f"127.0.0.1:{port}"
        pid = json.loads(status.stdout)["pid"]
        assert runner.invoke(kafka_command, ["down", *folder]).exit_code == 0
        assert _has_ended(pid)
        assert runner.invoke(kafka_command, ["down", *folder]).exit_code == 0
        assert runner.invoke(kafka_command, ["status", *folder]).exit_code == 1
    finally:
        broker.kill()


# -- topics


def _topic(partitions: int | None = None, **config: str) -> Topic:
    return Topic(unique("topic"), "", partitions, {k.replace("_", "."): v for k, v in config.items()})


def _setting(client: AdminClient, topic: str, name: str) -> str:
    return admin._settings(client, [topic])[topic][name]


def test_apply_creates_what_is_missing_once(kafka: LocalKafka) -> None:
    """Missing topics get their partitions, replication and settings; a second call finds nothing to do."""
    client = admin.client(kafka.address)
    topics = [_topic(retention_ms="86400000"), _topic(partitions=1, cleanup_policy="compact")]
    applied = admin.apply(client, topics, partitions=3, replication=1)
    assert [(d.topic, d.kind) for d in applied.done] == [(t.name, admin.Kind.MISSING) for t in topics]
    assert applied.left == []
    shown = admin.metadata(client).topics
    assert [len(shown[topic.name].partitions) for topic in topics] == [3, 1]
    assert _setting(client, topics[0].name, "retention.ms") == "86400000"
    assert _setting(client, topics[1].name, "cleanup.policy") == "compact"
    assert admin.apply(client, topics, partitions=3, replication=1) == admin.Applied([], [])


def test_apply_corrects_settings_and_leaves_other_settings_alone(kafka: LocalKafka) -> None:
    """A setting that differs is set; one that the pipeline does not name stays as somebody set it."""
    client = admin.client(kafka.address)
    topic = _topic(retention_ms="86400000")
    new = NewTopic(topic.name, 2, 1, config={"retention.ms": "1000", "max.message.bytes": "2000000"})
    client.create_topics([new])[topic.name].result(10)
    applied = admin.apply(client, [topic], partitions=2, replication=1)
    assert [str(d) for d in applied.done] == [f"{topic.name}: retention.ms is 1000, wanted 86400000"]
    assert _setting(client, topic.name, "retention.ms") == "86400000"
    assert _setting(client, topic.name, "max.message.bytes") == "2000000"


def test_apply_never_changes_partitions_or_replication(kafka: LocalKafka) -> None:
    """Other numbers for a topic that exists are reported, nothing is changed: keys would move away from their state."""
    client = admin.client(kafka.address)
    topic = _topic()
    admin.apply(client, [topic], partitions=2, replication=1)
    applied = admin.apply(client, [topic], partitions=4, replication=2)
    assert applied.done == []
    assert [(d.kind, d.found, d.wanted) for d in applied.left] == [
        (admin.Kind.PARTITIONS, "2", "4"),
        (admin.Kind.REPLICATION, "1", "2"),
    ]
    assert len(admin.metadata(client).topics[topic.name].partitions) == 2


def test_two_may_apply_at_once(kafka: LocalKafka) -> None:
    """Four administrators at the same time: none fails, all topics are there, each was created by exactly one."""
    topics = [_topic(retention_ms="86400000") for _ in range(6)]
    with ThreadPoolExecutor(4) as pool:
        applied = list(
            pool.map(lambda _: admin.apply(admin.client(kafka.address), topics, partitions=2, replication=1), range(4))
        )
    assert all(one.left == [] for one in applied)
    created = [d.topic for one in applied for d in one.done if d.kind is admin.Kind.MISSING]
    assert sorted(created) == sorted(topic.name for topic in topics)


def test_more_copies_than_brokers_is_an_error_that_says_so(kafka: LocalKafka) -> None:
    """What the broker refuses is raised with its reason, naming the topic."""
    topic = _topic()
    with pytest.raises(admin.AdminError, match=f"cannot create {topic.name}: .*[Rr]eplication"):
        admin.apply(admin.client(kafka.address), [topic], partitions=1, replication=3)


def test_commands_apply_and_list(own_kafka: LocalKafka) -> None:
    """`ptr topics apply` makes what `list` then finds in order; other partition numbers end it with code 1."""
    broker = ["--broker", own_kafka.start().address]
    runner = CliRunner()
    dry = runner.invoke(topics_command, ["apply", "--dry-run", "--json", *broker])
    assert dry.exit_code == 0, dry.output
    wanted = json.loads(dry.stdout)["topics"]
    assert len(json.loads(dry.stdout)["done"]) == wanted
    assert json.loads(runner.invoke(topics_command, ["apply", "--json", *broker]).stdout)["left"] == []
    listed = json.loads(runner.invoke(topics_command, ["list", "--json", *broker]).stdout)
    assert len(listed) == wanted
    assert all(row["differences"] == [] and row["partitions"] in (1, 4) for row in listed)
    again = runner.invoke(topics_command, ["apply", *broker])
    assert (again.exit_code, again.stdout) == (0, f"All {wanted} topics are as they should be.\n")
    other = runner.invoke(topics_command, ["apply", "--partitions", "5", *broker])
    assert other.exit_code == 1
    assert "NOT CHANGED  payments.requested.v1: partitions is 4, wanted 5" in other.stderr


# -- partitions


@pytest.mark.parametrize("partitions", [1, 4, 7])
def test_plain_clients_agree_on_the_partition_of_a_key(kafka: LocalKafka, partitions: int) -> None:
    """librdkafka's default partitioner puts every key where ``partition_of`` says, so that no PTR is re-posted."""
    topic = Topic(unique("keys"), "")
    admin.apply(admin.client(kafka.address), [topic], partitions, replication=1)
    chosen = random.Random(20261123)
    letters = "abcXYZ0189-_.:/äß漢"
    keys = [payment_key("acme", "".join(chosen.choices(letters, k=chosen.randint(1, 40)))) for _ in range(3000)]
    keys += [chosen.randbytes(chosen.randint(1, 60)) for _ in range(1000)]
    _produce(kafka.address, topic.name, [(key, b"") for key in keys])
    found = records(kafka.address, topic.name)
    assert sorted(message.key() for message in found) == sorted(keys)
    assert [m for m in found if m.partition() != partition_of(m.key(), partitions)] == []
