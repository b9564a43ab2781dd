"""A real Kafka for tests: one per session, started when the first test asks for it and stopped at the end."""

from __future__ import annotations

import os
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition

from connectors.broker.local import LocalKafka, available

CONSUME_TIMEOUT_S = 60.0


def require_kafka() -> None:
    """Skip the test where no Kafka can run; in CI that is a failure, so that nobody takes a skip for a pass."""
    if reason := available():
        if os.environ.get("CI"):
            pytest.fail(f"no Kafka for the tests: {reason}")
        pytest.skip(f"no Kafka for the tests: {reason}")


@pytest.fixture(scope="session")
def kafka(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalKafka]:
    """A broker on free ports that the whole session shares: name topics with :func:`unique`."""
    require_kafka()
    broker = LocalKafka(tmp_path_factory.mktemp("kafka"))
    try:
        yield broker.start()
    finally:
        broker.stop()


@contextmanager
def a_kafka_of_its_own(folder: Path) -> Iterator[LocalKafka]:
    """A broker for one test, not started, to be stopped and killed at will; ended afterwards in any case."""
    require_kafka()
    broker = LocalKafka(folder)
    try:
        yield broker
    finally:
        broker.kill()


def unique(prefix: str = "t") -> str:
    """A name that no other test has: for topics, groups and tenants."""
    return f"{prefix}-{uuid.uuid4().hex[:10]}"


def ends(address: str, topic: str) -> dict[int, int]:
    """The offset after the last record, by partition."""
    consumer = Consumer({"bootstrap.servers": address, "group.id": unique("ends")})
    try:
        partitions = consumer.list_topics(topic, timeout=10).topics[topic].partitions
        return {p: _end(consumer, TopicPartition(topic, p)) for p in partitions}
    finally:
        consumer.close()


def _end(consumer: Consumer, partition: TopicPartition) -> int:
    deadline = time.monotonic() + CONSUME_TIMEOUT_S
    while True:
        try:
            return int(consumer.get_watermark_offsets(partition, timeout=10)[1])
        except KafkaException as error:
            # A partition that was just made has no leader for a moment.
            if error.args[0].code() != KafkaError.NOT_LEADER_FOR_PARTITION or time.monotonic() > deadline:
                raise
            time.sleep(0.1)


def records(address: str, topic: str, start: dict[int, int] | None = None) -> list[Message]:
    """Every record of ``topic`` from ``start`` (offsets by partition, default the beginning) to the present end."""
    until = ends(address, topic)
    start = start or {}
    consumer = Consumer({"bootstrap.servers": address, "group.id": unique("reads"), "enable.auto.commit": False})
    found: list[Message] = []
    try:
        missing = {p: end for p, end in until.items() if end > start.get(p, 0)}
        consumer.assign([TopicPartition(topic, p, start.get(p, 0)) for p in missing])
        deadline = time.monotonic() + CONSUME_TIMEOUT_S
        while missing:
            assert time.monotonic() < deadline, f"{topic} was not read to its end in {CONSUME_TIMEOUT_S:g} s"
            for message in consumer.consume(1000, timeout=0.5):
                assert message.error() is None, message.error()
                if message.offset() < until[message.partition()]:
                    found.append(message)
                if message.offset() + 1 >= until[message.partition()]:
                    missing.pop(message.partition(), None)
        return found
    finally:
        consumer.close()
