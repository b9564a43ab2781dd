"""Reads ``tenants.configured.v1`` whole at start and follows it, in a thread of its own."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from typing import Any

from confluent_kafka import (
    OFFSET_BEGINNING,
    TIMESTAMP_NOT_AVAILABLE,
    Consumer,
    KafkaError,
    KafkaException,
    TopicPartition,
)

from connectors.broker.trouble import Trouble
from connectors.tenants.book import TenantBook
from pipeline.settings import BrokerAccess, client_config
from schemas.codec import Codec, UndecodableError
from schemas.records import TenantConfigured

log = logging.getLogger(__name__)

#: The thread wakes this often when nothing comes, to see whether it is to stop.
POLL_S = 0.5
FETCH_WAIT_MS = 200
#: While the topic does not exist, the broker is asked this often.
LOOK_AGAIN_S = 1.0
#: Longest wait for an answer to such a question.
METADATA_TIMEOUT_S = 1.0


class TenantReadError(RuntimeError):
    """Tenants' configurations cannot be read; the message says why and what to do."""


def consumer_config(brokers: BrokerAccess | str, **more: Any) -> dict[str, Any]:
    """Settings of a consumer that reads the topic alone, without a group; librdkafka wants a name for one still."""
    config = {
        "group.id": "ptr-tenants-unused",
        "enable.auto.commit": False,
        "enable.auto.offset.store": False,
        "enable.partition.eof": True,
        "auto.offset.reset": "earliest",
        "allow.auto.create.topics": False,
        "isolation.level": "read_committed",
        # An idle fetch is answered after this long. A new record ends it at once, but not at the embedded broker, and
        # the end of the topic is only learnt from such an answer.
        "fetch.wait.max.ms": FETCH_WAIT_MS,
        # Otherwise librdkafka keeps 64 MB in hand for a topic that is some KiB.
        "queued.max.messages.kbytes": 4096,
    }
    return client_config(brokers, config | more)


def partitions_of(consumer: Any, topic: str, timeout_s: float) -> list[int]:
    """Partitions of ``topic``; empty when it does not exist. Raises KafkaException, also while it has no leader."""
    found = consumer.list_topics(topic, timeout=timeout_s).topics[topic]
    if found.error is None:
        return sorted(found.partitions)
    if found.error.code() == KafkaError.UNKNOWN_TOPIC_OR_PART:
        return []
    raise KafkaException(found.error)


def take(book: TenantBook, codec: Codec, message: Any) -> bool:
    """Put the version that ``message`` holds into ``book``; what holds none is refused there."""
    where = f"(record {message.topic()}[{message.partition()}]@{message.offset()})"
    if message.value() is None:
        book.refuse(where, 0, "a record without a value")
        return False
    try:
        record = codec.decode(message.value(), TenantConfigured)
    except UndecodableError as error:
        book.refuse(where, 0, str(error))
        return False
    kind, timestamp_ms = message.timestamp()
    if kind == TIMESTAMP_NOT_AVAILABLE:
        book.refuse(record.tenant, record.version, "a record without a timestamp")
        return False
    return book.apply(record, timestamp_ms)


class TenantReader:
    """Keeps ``book`` up to date::

        reader = TenantReader(brokers, TENANTS.name, codec, book, on_failure=stop_the_worker)
        reader.start()
        reader.wait_caught_up(30)
        ...
        reader.stop()

    Records that were committed are read (``read_committed``), from the beginning, on every start. A topic that does
    not exist is an empty one, and looked for every second. When the thread ends by an error, :attr:`failure` holds it
    and ``on_failure`` is called with it, in that thread: a worker that goes on would decide by outdated rules.
    """

    def __init__(
        self,
        brokers: BrokerAccess | str,
        topic: str,
        codec: Codec,
        book: TenantBook,
        on_failure: Callable[[BaseException], None] | None = None,
    ) -> None:
        self._brokers = brokers
        self._topic = topic
        self._codec = codec
        self._book = book
        self._on_failure = on_failure
        self._caught_up = threading.Event()
        self._stopping = threading.Event()
        self._trouble = Trouble()
        self._failure: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="tenant-reader", daemon=True)

    @property
    def failure(self) -> BaseException | None:
        """What ended the thread; None while it runs, or after :meth:`stop`."""
        return self._failure

    def start(self) -> None:
        """Begin to read, from the beginning."""
        self._thread.start()

    def wait_caught_up(self, timeout_s: float) -> None:
        """Wait until everything that was in the topic is in the book.

        Raises :class:`TenantReadError` when that takes longer than ``timeout_s`` or the thread has failed.
        """
        done = self._caught_up.wait(timeout_s)
        if self._failure is not None:
            raise TenantReadError(
                f"reading {self._topic} from {self._brokers} failed: {self._failure}"
            ) from self._failure
        if not done:
            if self._trouble.refusal:
                raise TenantReadError(self._trouble.unanswered(self._brokers, timeout_s))
            why = f": {self._trouble.last}" if self._trouble.last else ""
            raise TenantReadError(
                f"{self._topic} was not read to its end within {timeout_s:g} s from {self._brokers}{why}. "
                "Check that the broker is up and that PTR_BROKER names it."
            )

    def stop(self) -> None:
        """End the thread, within about a second."""
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join()

    def _run(self) -> None:
        try:
            consumer = Consumer(consumer_config(self._brokers, error_cb=self._trouble, log_level=0))
            try:
                while not self._stopping.is_set():
                    self._follow(consumer)
            finally:
                consumer.close()
        except BaseException as error:
            # Nobody above would see it: a thread's exception goes to a hook and the process lives on.
            log.critical("reading %s failed, rules are no longer up to date: %s", self._topic, error)
            self._failure = error
            self._caught_up.set()
            if self._on_failure is not None:
                self._on_failure(error)

    def _follow(self, consumer: Any) -> None:
        """Find the topic, read it, and go on reading; returns to be called again when the topic is not there."""
        try:
            partitions = partitions_of(consumer, self._topic, METADATA_TIMEOUT_S)
        except KafkaException as error:
            _raise_unless_passing(error.args[0])
            consumer.poll(0)  # What the client heard meanwhile says more than that nobody answered.
            if not self._trouble.last:
                self._trouble(error.args[0])
            self._stopping.wait(LOOK_AGAIN_S)
            return
        if not partitions:
            self._caught_up.set()
            self._stopping.wait(LOOK_AGAIN_S)
            return
        consumer.assign([TopicPartition(self._topic, partition, OFFSET_BEGINNING) for partition in partitions])
        behind = set(partitions)
        while not self._stopping.is_set():
            message = consumer.poll(POLL_S)
            if message is None:
                continue
            trouble = message.error()
            if trouble is None:
                take(self._book, self._codec, message)
            elif trouble.code() == KafkaError._PARTITION_EOF:
                behind.discard(message.partition())
                if not behind:
                    self._caught_up.set()
            elif trouble.code() in (
                KafkaError.UNKNOWN_TOPIC_OR_PART,
                KafkaError._UNKNOWN_TOPIC,
                KafkaError._UNKNOWN_PARTITION,
            ):
                log.error("%s has gone; looking for it", self._topic)
                consumer.unassign()
                return
            else:
                _raise_unless_passing(trouble)
                self._trouble(trouble)


def _raise_unless_passing(error: Any) -> None:
    """Raise what does not pass by waiting."""
    lasting = (
        KafkaError.TOPIC_AUTHORIZATION_FAILED,
        KafkaError.CLUSTER_AUTHORIZATION_FAILED,
        KafkaError.SASL_AUTHENTICATION_FAILED,
        KafkaError._AUTHENTICATION,
        KafkaError.TOPIC_EXCEPTION,
    )
    if error.fatal() or error.code() in lasting:
        raise KafkaException(error)
