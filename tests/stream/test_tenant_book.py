"""Tenants' configurations over a broker: published once each, read whole, followed; and the commands of a user."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

from connectors.broker.follow import TopicReadError
from connectors.broker.local import LocalKafka
from connectors.broker.transaction import PublishError
from connectors.tenants.book import ALWAYS_MS, TenantBook
from connectors.tenants.document import document_hash, document_of
from connectors.tenants.publish import publish, read_all
from connectors.tenants.reader import TenantReader
from pipeline.commands.tenants import tenants
from pipeline.topics import TENANTS
from schemas.codec import Codec
from schemas.records import TenantConfigured
from schemas.tenant_rules import FeeRules, TenantRules
from tests.integration.kafka import kafka, unique
from tests.stream.broker import WAIT_S, following, put, wait_until

__all__ = ["kafka"]

ROOT = Path(__file__).resolve().parents[2]
CODEC = Codec()
#: Nothing listens here: the port is reserved (RFC 6335, tcpmux) and closed.
NOWHERE = "127.0.0.1:1"


@pytest.fixture
def start(broker: str) -> Iterator[Callable[[TenantBook], TenantReader]]:
    """Starts readers, which are stopped at the end."""
    readers: list[TenantReader] = []

    def start(book: TenantBook) -> TenantReader:
        reader = TenantReader(broker, TENANTS.name, CODEC, book)
        readers.append(reader)
        reader.start()
        return reader

    yield start
    for reader in readers:
        reader.stop()
        assert reader.failure is None


def some_rules(tenant: str, percent_bp: int = 0) -> TenantRules:
    """A valid configuration."""
    return TenantRules(tenant=tenant, pic="simulator", currencies=["EUR"], fee=FeeRules(percent_bp=percent_bp))


def numbers(book: TenantBook) -> dict[str, list[int]]:
    """Version numbers by tenant."""
    return {tenant: [version.number for version in book.versions(tenant)] for tenant in book.tenants()}


def keys(broker: str) -> set[bytes]:
    """The keys of all records in the topic."""
    consumer = Consumer({"bootstrap.servers": broker, "group.id": "keys", "enable.partition.eof": True, "log_level": 0})
    try:
        partitions = consumer.list_topics(TENANTS.name, timeout=WAIT_S).topics[TENANTS.name].partitions
        consumer.assign([TopicPartition(TENANTS.name, partition, 0) for partition in partitions])
        found: set[bytes] = set()
        behind, deadline_s = len(partitions), time.monotonic() + WAIT_S
        while behind:
            assert time.monotonic() < deadline_s
            message = consumer.poll(1.0)
            if message is not None and message.error() is None:
                found.add(message.key())
            elif message is not None:
                behind -= 1
        return found
    finally:
        consumer.close()


def test_what_was_published_is_read_whole(broker: str, start: Callable[[TenantBook], TenantReader]) -> None:
    """Once caught up, the book holds every version of every tenant: no record may meet an empty book."""
    assert publish(broker, CODEC, [some_rules("one"), some_rules("two")]) == [("one", 1), ("two", 1)]
    assert publish(broker, CODEC, [some_rules("two", 5)]) == [("two", 2)]
    book = TenantBook()
    start(book).wait_caught_up(WAIT_S)
    assert numbers(book) == {"one": [1], "two": [1, 2]}
    assert book.versions("two")[1].rules == some_rules("two", 5)
    assert keys(broker) == {b"one|1", b"two|1", b"two|2"}


def test_a_topic_that_is_not_there_is_an_empty_book_that_fills(
    broker: str, start: Callable[[TenantBook], TenantReader]
) -> None:
    """A reader may start before the first tenant is configured, and follows from then on."""
    book = TenantBook()
    start(book).wait_caught_up(WAIT_S)
    assert book.tenants() == []
    publish(broker, CODEC, [some_rules("one")])
    wait_until(lambda: numbers(book) == {"one": [1]})
    publish(broker, CODEC, [some_rules("one", 7)])
    wait_until(lambda: numbers(book) == {"one": [1, 2]})
    written_at_ms = book.versions("one")[1].written_at_ms
    assert book.versions("one")[1].in_force_at_ms == written_at_ms + 1000
    assert abs(time.time() * 1000 - written_at_ms) < WAIT_S * 1000


def test_what_did_not_change_gets_no_new_version(broker: str) -> None:
    """The same file again publishes nothing; of two tenants only the changed one; going back is a change."""
    one, two = some_rules("one"), some_rules("two")
    assert publish(broker, CODEC, [one, two]) == [("one", 1), ("two", 1)]
    assert publish(broker, CODEC, [one, two]) == []
    assert publish(broker, CODEC, [one, some_rules("two", 9)]) == [("two", 2)]
    assert publish(broker, CODEC, [one, two]) == [("two", 3)]
    assert len(keys(broker)) == 4


def test_what_somebody_else_wrote_stops_nobody(broker: str, start: Callable[[TenantBook], TenantReader]) -> None:
    """Records that are no configuration are counted and skipped, and their version numbers are not used again."""
    publish(broker, CODEC, [some_rules("one")])
    bad = document_of(some_rules("one", 99_999))
    record = TenantConfigured(tenant="one", version=2, document=bad, document_hash=document_hash(bad))
    put(broker, TENANTS.name, (b"one|2", CODEC.encode(record)), (b"one|3", b"no Avro"), (b"one|4", None))
    book = TenantBook()
    start(book).wait_caught_up(WAIT_S)
    assert numbers(book) == {"one": [1]}
    assert book.refused == 3
    assert publish(broker, CODEC, [some_rules("one", 1)]) == [("one", 3)]
    wait_until(lambda: numbers(book) == {"one": [1, 3]})


@pytest.mark.kafka
def test_two_publishers_never_use_a_number_twice(kafka: LocalKafka) -> None:
    """Four publish at once: each that was told a number has it alone, each that was refused wrote nothing.

    Needs a real broker: the embedded one does not fence.
    """
    topic = _a_topic(kafka.address)
    begun = threading.Barrier(4)

    def publish_one(percent_bp: int) -> list[tuple[str, int]]:
        begun.wait(WAIT_S)
        try:
            return publish(kafka.address, CODEC, [some_rules("one", percent_bp), some_rules("two", percent_bp)], topic)
        except PublishError:
            return []

    published: dict[tuple[str, int], int] = {}
    with ThreadPoolExecutor(4) as pool:
        for turn in range(5):
            values = range(4 * turn + 1, 4 * turn + 5)
            for value, changes in zip(values, pool.map(publish_one, values), strict=True):
                for change in changes:
                    assert change not in published
                    published[change] = value
    book = read_all(kafka.address, CODEC, topic).book
    found = {(tenant, v.number): v.rules.fee.percent_bp for tenant in book.tenants() for v in book.versions(tenant)}
    assert found == published
    assert numbers(book) == {tenant: list(range(1, len(published) // 2 + 1)) for tenant in ("one", "two")}
    assert published


@pytest.mark.kafka
def test_a_version_counts_from_the_brokers_time(kafka: LocalKafka) -> None:
    """A running reader has it before it is in force, and it is in force a second after the broker wrote it."""
    topic = _a_topic(kafka.address)
    book = TenantBook()
    with following(TenantReader(kafka.address, topic, CODEC, book)):
        publish(kafka.address, CODEC, [some_rules("one")], topic)
        publish(kafka.address, CODEC, [some_rules("one", 1)], topic)
        wait_until(lambda: numbers(book) == {"one": [1, 2]})
    first, second = book.versions("one")
    assert first.in_force_at_ms == ALWAYS_MS
    assert second.in_force_at_ms == second.written_at_ms + 1000


@pytest.mark.kafka
def test_a_broker_that_is_slow_publishes_nothing(kafka: LocalKafka, monkeypatch: pytest.MonkeyPatch) -> None:
    """What workers might see after it is in force is taken back: configurations have half a second.

    Needs a real broker: the embedded one takes nothing back.
    """
    topic = _a_topic(kafka.address)

    def slow(producer: Producer, timeout_s: float) -> None:
        time.sleep(0.6)
        assert producer.flush(timeout_s) == 0

    with monkeypatch.context() as patched:
        patched.setattr("connectors.broker.transaction._flush", slow)
        with pytest.raises(PublishError, match=r"nothing was published: the broker takes longer than 0\.5 s"):
            publish(kafka.address, CODEC, [some_rules("one")], topic)
    assert not read_all(kafka.address, CODEC, topic).latest
    assert publish(kafka.address, CODEC, [some_rules("one")], topic) == [("one", 1)]


def _a_topic(address: str) -> str:
    """A topic of its own, made as the pipeline makes it."""
    topic = unique("tenants")
    client = AdminClient({"bootstrap.servers": address})
    client.create_topics([NewTopic(topic, 1, 1, config=TENANTS.config)])[topic].result(WAIT_S)
    return topic


def test_a_broker_that_is_not_there_is_told() -> None:
    """Reading and publishing say which broker, what happened and what to check; nothing hangs."""
    reader = TenantReader(NOWHERE, TENANTS.name, CODEC, TenantBook())
    reader.start()
    try:
        with pytest.raises(TopicReadError, match=r"from 127\.0\.0\.1:1.*PTR_BROKER"):
            reader.wait_caught_up(0.5)
    finally:
        reader.stop()
    with pytest.raises(PublishError, match=r"127\.0\.0\.1:1.*--broker"):
        read_all(NOWHERE, CODEC, timeout_s=0.5)


def test_the_end_of_the_thread_is_seen(broker: str) -> None:
    """A topic's name that no broker takes ends it: the callback is called, ``failure`` is set, waiting raises."""
    heard: list[BaseException] = []
    reader = TenantReader(broker, TENANTS.name, _Broken(), TenantBook(), on_failure=heard.append)
    publish(broker, CODEC, [some_rules("one")])
    reader.start()
    try:
        with pytest.raises(TopicReadError, match="the codec broke"):
            reader.wait_caught_up(WAIT_S)
    finally:
        reader.stop()
    assert isinstance(reader.failure, RuntimeError)
    assert heard == [reader.failure]


class _Broken(Codec):
    """A codec with a defect."""

    def decode(self, value: bytes, record: object) -> object:  # type: ignore[override]
        raise RuntimeError("the codec broke")


def run(broker: str, *arguments: str, text: str | None = None) -> Result:
    """`ptr tenants ARGUMENTS`."""
    return CliRunner().invoke(tenants, [arguments[0], *arguments[1:], "--broker", broker], input=text)


def test_a_user_applies_lists_and_shows(broker: str, tmp_path: Path) -> None:
    """From a file to versions, with what is in force when; what is shown can be applied again."""
    example = str(ROOT / "docs" / "tenants-example.yaml")
    planned = run(broker, "apply", example, "--dry-run")
    assert planned.exit_code == 0, planned.output
    assert planned.stdout.splitlines() == [
        "acme: would get version 1, in force for every payment",
        "kiosk: would get version 1, in force for every payment",
    ]
    listed = run(broker, "list", "--json")
    assert json.loads(listed.stdout) == []
    applied = run(broker, "apply", example)
    assert applied.exit_code == 0, applied.output
    assert applied.stdout == (
        "acme: version 1 written, in force for every payment until a later version\n"
        "kiosk: version 1 written, in force for every payment until a later version\n"
    )
    assert "acme: unchanged, version 1 stays\n" in run(broker, "apply", example).stdout

    shown = run(broker, "show", "acme").stdout
    assert "unchanged" in run(broker, "apply", "-", text=shown).stdout
    changed = run(broker, "apply", "-", "--json", text=shown.replace("percent_bp: 150", "percent_bp: 140"))
    (data,) = json.loads(changed.stdout)
    assert (data["tenant"], data["version"], data["change"]) == ("acme", 2, "applied")
    assert data["in_force_at_ms"] == data["written_at_ms"] + 1000

    by_tenant = {data["tenant"]: data for data in json.loads(run(broker, "list", "--json").stdout)}
    assert {tenant: data["version"] for tenant, data in by_tenant.items()} == {"acme": 2, "kiosk": 1}
    assert by_tenant["kiosk"]["in_force_at_ms"] is None
    table = run(broker, "list").stdout.splitlines()
    assert table[0].split() == ["TENANT", "VERSION", "PIC", "CURRENCIES", "WRITTEN", "IN", "FORCE", "FROM"]
    assert [line.split()[:4] for line in table[1:]] == [
        ["acme", "2", "simulator", "EUR,NOK"],
        ["kiosk", "1", "simulator", "JPY"],
    ]
    assert (
        json.loads(run(broker, "show", "acme", "--version", "1", "--json").stdout)["rules"]["fee"]["percent_bp"] == 150
    )


@pytest.mark.parametrize(
    ("arguments", "text", "told"),
    [
        (
            ("apply", "-"),
            "tenant: acme\npic: other\n",
            ["2 mistakes", "nothing was applied", "<stdin>:2: pic: must be one of"],
        ),
        (("apply", "-"), "tenant: \xff", ["<stdin>"]),
        (("show", "nobody"), None, ["There is no tenant nobody"]),
    ],
)
def test_a_users_mistakes_are_told(broker: str, arguments: tuple[str, ...], text: str | None, told: list[str]) -> None:
    """Exit code 1 and what to do, without a traceback, and nothing is published."""
    result = run(broker, *arguments, text=text)
    assert result.exit_code == 1
    assert result.stderr.startswith("Error: ")
    for part in told:
        assert part in result.stderr
    assert not read_all(broker, CODEC).latest


def test_a_version_that_is_not_there_is_told(broker: str) -> None:
    """With the versions that there are."""
    publish(broker, CODEC, [some_rules("one")])
    result = run(broker, "show", "one", "--version", "7")
    assert result.exit_code == 1
    assert "one has no version 7; it has 1." in result.stderr
