"""Publishing in Kafka transactions under a fixed transactional id: whoever begins later fences who began before."""

from __future__ import annotations

import time
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final, Generic, Protocol, TypeVar

from confluent_kafka import KafkaError, KafkaException, Producer

from connectors.broker import embedded
from connectors.broker.follow import TopicReadError, read_to_end
from connectors.broker.trouble import Trouble
from pipeline.settings import BrokerAccess, client_config
from schemas.codec import Codec
from schemas.records import Record

#: A publisher that died holds readers up for this long at most.
TRANSACTION_TIMEOUT_MS: Final = 15_000
ATTEMPTS_MAX: Final = 3
#: All records in one partition, whatever the topic has: parts come before their head.
PARTITION: Final = 0
_FENCED: Final = (KafkaError._FENCED, KafkaError.PRODUCER_FENCED, KafkaError.INVALID_PRODUCER_EPOCH)


class PublishError(RuntimeError):
    """Nothing was published, unless the message says that this is unknown; it says why and what to do."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Publisher:
    """What is particular to those who publish to one topic."""

    topic: str
    transactional_id: str
    #: What somebody else did at the same time, and how to find out whether something was published.
    rival: str
    unknown: str
    compression: str = "lz4"
    #: Longest wait for the broker in each step.
    timeout_s: float = 30.0
    #: Records have their timestamps when they are written and are seen when the transaction is committed. What is left until
    #: they are in force is for workers to make ready what they say.
    commit_within_s: float = 2.0


class Contents(Protocol):
    """A topic, read to its end; ``exists`` says whether it is there."""

    exists: bool

    def take(self, codec: Codec, message: Any) -> None:
        """Take in a record."""


C = TypeVar("C", bound=Contents)


def read_contents(contents: C, brokers: BrokerAccess | str, codec: Codec, topic: str, timeout_s: float) -> C:
    """Read ``topic`` to its end into ``contents``. Raises :class:`PublishError` when that takes longer than ``timeout_s``."""
    try:
        contents.exists = read_to_end(brokers, topic, lambda message: contents.take(codec, message), timeout_s)
    except TopicReadError as error:
        raise PublishError(str(error)) from error
    return contents


class Publishing(Generic[C]):
    """One change of a topic: ``before`` is what it holds, read after everybody who began earlier was fenced::

        publishing = Publishing(PUBLISHER, Contents(), brokers, codec, topic)
        publishing.write([(key, record)])

    Topics other than the publisher's (tests have their own) do not fence each other. Raises :class:`PublishError`, as all
    methods but :meth:`remove` do.
    """

    def __init__(
        self, publisher: Publisher, contents: C, brokers: BrokerAccess | str, codec: Codec, topic: str
    ) -> None:
        self._publisher, self._codec, self._topic = publisher, codec, topic
        self._producer = _open_producer(publisher, brokers, topic)
        self.before = read_contents(contents, brokers, codec, topic, publisher.timeout_s)
        if not self.before.exists:
            raise PublishError(f"{brokers} has no topic {topic}: make it with 'ptr topics apply'")

    def write(self, records: Iterable[tuple[bytes, Record]], *, parts: Iterable[tuple[bytes, Record]] = ()) -> None:
        """Write ``parts``, then ``records`` (with their keys), all or nothing; returns when the broker has them.

        The transaction is committed soon after the records have their timestamps, or is not. Without records there is none.
        """
        timeout_s, within_s = self._publisher.timeout_s, self._publisher.commit_within_s
        first, last = self._encoded(parts), self._encoded(records)
        if not last:
            return
        for _ in range(ATTEMPTS_MAX):
            try:
                self._producer.begin_transaction()
                self._produce(first)
                began_s = time.monotonic()
                self._produce(last)
                if time.monotonic() - began_s > within_s:
                    self._producer.abort_transaction(timeout_s)
                    continue
                self._producer.commit_transaction(timeout_s)
            except KafkaException as error:
                raise self._failed(error) from error
            return
        raise PublishError(
            f"nothing was published: the broker takes longer than {within_s:g} s, so that workers might not have it "
            "when it is in force. Try again when it is less busy."
        )

    def remove(self, keys: Iterable[bytes]) -> None:
        """Write tombstones. What is new is in force already: what is left over when this fails, the next one removes."""
        keys = list(keys)
        if not keys:
            return
        try:
            self._producer.begin_transaction()
            for key in keys:
                self._producer.produce(self._topic, None, key, PARTITION)
            self._producer.commit_transaction(self._publisher.timeout_s)
        except KafkaException:
            with suppress(KafkaException):
                self._producer.abort_transaction(self._publisher.timeout_s)

    def _encoded(self, records: Iterable[tuple[bytes, Record]]) -> list[tuple[bytes, bytes]]:
        return [(key, self._codec.encode(record)) for key, record in records]

    def _produce(self, records: list[tuple[bytes, bytes]]) -> None:
        for key, value in records:
            self._producer.produce(self._topic, value, key, PARTITION)
        _flush(self._producer, self._publisher.timeout_s)

    def _failed(self, error: KafkaException) -> PublishError:
        """Why a transaction failed; it is ended if it can be."""
        why = error.args[0]
        if why.code() in _FENCED:
            rival = self._publisher.rival
            return PublishError(f"somebody else {rival} at the same time, so nothing was published here: try again")
        if why.txn_requires_abort() or why.code() == KafkaError._TIMED_OUT:
            # Where this fails too, the broker ends the transaction after TRANSACTION_TIMEOUT_MS.
            with suppress(KafkaException):
                self._producer.abort_transaction(self._publisher.timeout_s)
            return PublishError(f"nothing was published: {why.str()}")
        return PublishError(f"whether it was published is unknown: {why.str()}. {self._publisher.unknown}")


def _open_producer(publisher: Publisher, brokers: BrokerAccess | str, topic: str) -> Any:
    """A producer that may begin transactions for ``topic``; who had the same id before may not any more."""
    usual, timeout_s = publisher.transactional_id, publisher.timeout_s
    trouble = Trouble()
    config = {
        "transactional.id": usual if topic == publisher.topic else f"{usual}-{topic}",
        "transaction.timeout.ms": TRANSACTION_TIMEOUT_MS,
        "compression.type": publisher.compression,
        "allow.auto.create.topics": False,
        "error_cb": trouble,
        "log_level": 0,
    }
    producer = Producer(client_config(brokers, config))
    try:
        producer.init_transactions(timeout_s)
    except KafkaException as error:
        producer.poll(0)
        if trouble.refusal:
            raise PublishError(f"nothing was published: {trouble.unanswered(brokers, timeout_s)}") from error
        raise PublishError(
            f"{brokers} does not begin a transaction: {error.args[0].str()}. Check that the broker is up and that "
            "--broker names it; a single broker needs transaction.state.log.replication.factor and .min.isr of 1."
        ) from error
    if embedded.is_embedded(producer.list_topics(timeout=timeout_s).cluster_id):
        embedded.touch_topics(brokers, [topic])
    return producer


def _flush(producer: Any, timeout_s: float) -> None:
    if producer.flush(timeout_s):
        raise KafkaException(KafkaError(KafkaError._TIMED_OUT, f"the broker did not take it within {timeout_s:g} s"))
