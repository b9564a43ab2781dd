"""Posts records as an operator's command does, and waits until the broker has them."""

from __future__ import annotations

from confluent_kafka import KafkaException, Message, Producer

from connectors.broker import embedded
from connectors.broker.trouble import Trouble
from pipeline.settings import BrokerAccess, client_config

CONNECT_TIMEOUT_S = 10.0
DELIVERY_TIMEOUT_S = 20.0


class PostError(RuntimeError):
    """The broker does not answer, has not the topic, or did not take the record; the text says what to do."""


class RecordPoster:
    """Posts records to one topic, each to the partition of its key (CRC-32, as everywhere)::

        poster = RecordPoster(broker, topic)
        poster.post(value, key)
        poster.finish()

    All of it raises :class:`PostError`. What is posted and not finished may be delivered or not.
    """

    def __init__(self, broker: BrokerAccess | str, topic: str) -> None:
        self._topic = topic
        self._failures: list[str] = []
        trouble = Trouble()
        config = {"enable.idempotence": True, "acks": "all", "partitioner": "consistent", "log_level": 0}
        config |= {"message.timeout.ms": int(DELIVERY_TIMEOUT_S * 1000), "error_cb": trouble}
        self._producer = Producer(client_config(broker, config))
        try:
            # All topics: asking for one by name would make it where the broker allows that, with its own partitions.
            cluster = self._producer.list_topics(timeout=CONNECT_TIMEOUT_S)
        except KafkaException:
            self._producer.poll(0)
            raise PostError(trouble.unanswered(broker, CONNECT_TIMEOUT_S)) from None
        if topic not in cluster.topics and not embedded.is_embedded(cluster.cluster_id):
            raise PostError(f"the broker at {broker} has no topic {topic}: make the topics with `ptr topics apply`")

    def post(self, value: bytes, key: bytes) -> None:
        """Hand a record over; it waits while too many are under way."""
        while True:  # bounded: what is under way is delivered or fails within the delivery time-out, which makes room
            try:
                self._producer.produce(self._topic, value, key, on_delivery=self._delivered)
                break
            except BufferError:
                self._producer.poll(0.1)
        self._producer.poll(0)
        if self._failures:
            self.finish()

    def finish(self) -> None:
        """Wait until the broker has everything."""
        if self._producer.flush(DELIVERY_TIMEOUT_S + 1) or self._failures:
            why = "; ".join(self._failures[:3]) or "no answer"
            raise PostError(f"{self._topic}: the record was not delivered ({why}): post it again")

    def _delivered(self, error: object, _: Message) -> None:
        if error is not None:
            self._failures.append(str(error))


def post_one(broker: BrokerAccess | str, topic: str, value: bytes, key: bytes) -> None:
    """Post one record. Raises :class:`PostError`."""
    poster = RecordPoster(broker, topic)
    poster.post(value, key)
    poster.finish()
