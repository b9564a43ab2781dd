"""Posts PTRs to Kafka as any client would: keyed by payment, partitioned by librdkafka's default, idempotently.

Posting the same PTR again is safe: the pipeline answers a repeat with the same answer.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from confluent_kafka import KafkaError, KafkaException, Message, Producer

from connectors.broker import embedded
from connectors.broker.trouble import Trouble
from pipeline.settings import BrokerAccess, client_config
from pipeline.topics import REQUESTED
from schemas.codec import Codec
from schemas.identity import payment_key
from schemas.limits import VALUE_BYTES_MAX
from schemas.records import PaymentRequested

CONNECT_TIMEOUT_S = 10.0
#: A broker that is restarted is back before this; what it has not taken by then has failed.
DELIVERY_TIMEOUT_S = 60.0
#: How long to wait for what is under way after the user said stop.
ABANDON_AFTER_S = 10.0
#: What waits in memory; at some 400 bytes a PTR about two seconds of work.
QUEUE_KBYTES_MAX = 32 * 1024


class UnreachableError(RuntimeError):
    """The broker does not answer or has no topic for PTRs; the text says what to do."""


class TooLargeError(ValueError):
    """A PTR whose encoding is larger than the pipeline reads."""


def _never() -> bool:
    return False


class RequestPoster:
    """Posts PTRs and counts what becomes of them. Not thread-safe."""

    def __init__(
        self,
        broker: BrokerAccess | str,
        topic: str = REQUESTED.name,
        codec: Codec | None = None,
        delivery_timeout_s: float = DELIVERY_TIMEOUT_S,
    ) -> None:
        self._broker, self._topic = broker, topic
        self._delivery_timeout_s = delivery_timeout_s
        self._encode = (codec or Codec()).encoder(PaymentRequested)
        self._trouble = Trouble()
        config = {
            "enable.idempotence": True,
            "acks": "all",
            "compression.type": "lz4",
            "linger.ms": 25,
            "batch.size": 256 * 1024,
            "queue.buffering.max.kbytes": QUEUE_KBYTES_MAX,
            "message.timeout.ms": int(delivery_timeout_s * 1000),
            # A callback in Python for each message would cost as much as the posting.
            "delivery.report.only.error": True,
            "on_delivery": self._on_delivery,
            "error_cb": self._trouble,
            "log_level": 0,
        }
        self._producer = Producer(client_config(broker, config))
        #: PTRs handed to the client.
        self.posted = 0
        #: PTRs of which the broker did not say that it has them (it may).
        self.failed = 0
        #: Kafka's text for the first failure; it holds nothing of a PTR.
        self.failure = ""

    @property
    def delivered(self) -> int:
        """PTRs that the broker has, on all replicas in sync."""
        return self.posted - self.failed - self.waiting

    @property
    def waiting(self) -> int:
        """PTRs that are under way."""
        return len(self._producer)

    def check(self) -> None:
        """Make sure that somebody answers and the topic is there, within 10 s. Raises :class:`UnreachableError`."""
        try:
            # All topics: asking for one by name would make it where the broker allows that, with its own partitions.
            cluster = self._producer.list_topics(timeout=CONNECT_TIMEOUT_S)
            if self._topic not in cluster.topics and embedded.is_embedded(cluster.cluster_id):
                embedded.touch_topics(self._broker, [self._topic])
                return
        except (KafkaException, embedded.EmbeddedBrokerError):
            self._producer.poll(0)
            raise UnreachableError(self._trouble.unanswered(self._broker, CONNECT_TIMEOUT_S)) from None
        if self._topic not in cluster.topics:
            raise UnreachableError(
                f"the broker at {self._broker} has no topic {self._topic}: make the topics with `ptr topics apply`"
            )

    def post(self, request: PaymentRequested, stop: Callable[[], bool] = _never) -> bool:
        """Hand one PTR to the client; it waits while too many are under way. False: not posted, because of ``stop()``.

        Raises :class:`TooLargeError`, and :class:`OverflowError` for a number that is no Avro long; then nothing
        was posted.
        """
        value = self._encode(request)
        if len(value) > VALUE_BYTES_MAX:
            raise TooLargeError
        key = payment_key(request.tenant, request.payment_id)
        produce, topic = self._producer.produce, self._topic
        # Bounded: what is under way is delivered or fails within the delivery time-out, which makes room.
        while True:
            try:
                produce(topic, value, key)
            except BufferError:
                if stop():
                    return False
                self._producer.poll(0.1)
            except KafkaException as error:
                self.posted += 1
                self._fail(error.args[0])
                return True
            else:
                self.posted += 1
                return True

    def serve(self, seconds: float = 0.0) -> None:
        """Hear of failures, for at most so long."""
        self._producer.poll(seconds)

    def flush(self, stop: Callable[[], bool] = _never) -> None:
        """Wait until everything is delivered or has failed; after ``stop()`` give up on the rest in 10 s.

        What is given up counts as failed.
        """
        deadline = time.monotonic() + self._delivery_timeout_s + ABANDON_AFTER_S
        is_stopping = False
        while self._producer.flush(0.2):
            if stop() and not is_stopping:
                is_stopping = True
                deadline = min(deadline, time.monotonic() + ABANDON_AFTER_S)
            if time.monotonic() > deadline:
                self._producer.purge()
                self._producer.flush(1.0)
                return

    def _on_delivery(self, error: KafkaError | None, _: Message) -> None:
        if error is not None:
            self._fail(error)

    def _fail(self, error: KafkaError) -> None:
        self.failed += 1
        self.failure = self.failure or str(error.str())
