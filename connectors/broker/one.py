"""Posts one record, as an operator's command does, and waits until the broker has it."""

from __future__ import annotations

from confluent_kafka import KafkaException, Message, Producer

from connectors.broker import embedded
from connectors.broker.trouble import Trouble
from pipeline.settings import BrokerAccess, client_config

CONNECT_TIMEOUT_S = 10.0
DELIVERY_TIMEOUT_S = 20.0


class PostError(RuntimeError):
    """The broker does not answer, has not the topic, or did not take the record; the text says what to do."""


def post_one(broker: BrokerAccess | str, topic: str, value: bytes, key: bytes) -> None:
    """Post it to the partition of its key (CRC-32, as everywhere). Raises :class:`PostError`."""
    failures: list[str] = []

    def delivered(error: object, _: Message) -> None:
        if error is not None:
            failures.append(str(error))

    trouble = Trouble()
    config = {"enable.idempotence": True, "acks": "all", "partitioner": "consistent", "log_level": 0}
    config |= {"message.timeout.ms": int(DELIVERY_TIMEOUT_S * 1000), "error_cb": trouble}
    producer = Producer(client_config(broker, config))
    try:
        # All topics: asking for one by name would make it where the broker allows that, with its own partitions.
        cluster = producer.list_topics(timeout=CONNECT_TIMEOUT_S)
    except KafkaException:
        producer.poll(0)
        raise PostError(trouble.unanswered(broker, CONNECT_TIMEOUT_S)) from None
    if topic not in cluster.topics and not embedded.is_embedded(cluster.cluster_id):
        raise PostError(f"the broker at {broker} has no topic {topic}: make the topics with `ptr topics apply`")
    producer.produce(topic, value, key, on_delivery=delivered)
    if producer.flush(DELIVERY_TIMEOUT_S + 1) or failures:
        raise PostError(f"{topic}: the record was not delivered ({'; '.join(failures) or 'no answer'}): post it again")
