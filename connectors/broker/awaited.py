"""Posts records from an event loop and waits, for each, until the broker has it on all replicas in sync."""

from __future__ import annotations

import asyncio
import threading
from contextlib import suppress
from typing import Final

from confluent_kafka import KafkaException, Message, Producer

from connectors.broker import embedded
from connectors.broker.one import CONNECT_TIMEOUT_S, PostError
from connectors.broker.trouble import Trouble
from pipeline.settings import BrokerAccess, client_config

#: Less than what senders of notifications wait for an answer (Stripe: 20 s or so); then it is theirs to send again.
DELIVERY_TIMEOUT_S: Final = 8.0
_POLL_S: Final = 0.1


class AwaitedPoster:
    """A producer for one topic. :meth:`post` from one event loop; the rest blocks."""

    def __init__(self, broker: BrokerAccess | str, topic: str, delivery_timeout_s: float = DELIVERY_TIMEOUT_S) -> None:
        self._broker, self._topic = broker, topic
        self._timeout_s = delivery_timeout_s
        self._trouble = Trouble()
        config = {
            "enable.idempotence": True,
            "acks": "all",
            # CRC-32, as schemas.identity.partition_of.
            "partitioner": "consistent",
            "linger.ms": 5,
            "message.timeout.ms": int(delivery_timeout_s * 1000),
            "error_cb": self._trouble,
            "log_level": 0,
        }
        self._producer = Producer(client_config(broker, config))
        self._stopped = threading.Event()
        self._poller = threading.Thread(target=self._poll, name="delivered", daemon=True)

    def start(self) -> None:
        """Make sure that the broker answers and has the topic. Raises :class:`PostError`."""
        if why := self.trouble(CONNECT_TIMEOUT_S):
            raise PostError(why)
        self._poller.start()

    def trouble(self, timeout_s: float) -> str:
        """Why nothing could be posted now; empty when it could."""
        try:
            # All topics: asking for one by name would make it where the broker allows that, with its own partitions.
            cluster = self._producer.list_topics(timeout=timeout_s)
        except KafkaException:
            self._producer.poll(0)
            return self._trouble.unanswered(self._broker, timeout_s)
        if self._topic in cluster.topics:
            return ""
        if embedded.is_embedded(cluster.cluster_id):
            with suppress(embedded.EmbeddedBrokerError):
                embedded.touch_topics(self._broker, [self._topic])
                return ""
        return f"the broker at {self._broker} has no topic {self._topic}: make the topics with `ptr topics apply`"

    async def post(self, value: bytes, key: bytes) -> None:
        """Return when the broker has it. Raises :class:`PostError`: it may have it or not, so post it again."""
        loop = asyncio.get_running_loop()
        done: asyncio.Future[str] = loop.create_future()

        def settle(why: str) -> None:
            if not done.done():
                done.set_result(why)

        def delivered(error: object, _: Message) -> None:
            with suppress(RuntimeError):  # the loop is closed: nobody waits
                loop.call_soon_threadsafe(settle, "" if error is None else str(error))

        try:
            self._producer.produce(self._topic, value, key, on_delivery=delivered)
        except (BufferError, KafkaException) as error:
            raise PostError(f"{self._topic}: the record was not taken ({type(error).__name__})") from None
        # librdkafka's own time-out comes first; this one is for the case that it does not.
        try:
            why = await asyncio.wait_for(done, self._timeout_s + 2)
        except TimeoutError:
            why = "no answer"
        if why:
            raise PostError(f"{self._topic}: the record was not delivered ({why})")

    def close(self) -> None:
        """Wait for what is under way, then let go."""
        self._producer.flush(self._timeout_s)
        self._stopped.set()
        if self._poller.is_alive():
            self._poller.join(5)

    def _poll(self) -> None:
        while not self._stopped.is_set():
            self._producer.poll(_POLL_S)
