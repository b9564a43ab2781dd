"""Publishing in one Kafka transaction under a fixed transactional id: whoever begins later fences who began before."""

from __future__ import annotations

from contextlib import suppress
from typing import Any, Final

from confluent_kafka import KafkaError, KafkaException, Producer

from connectors.broker import embedded
from connectors.broker.trouble import Trouble
from pipeline.settings import BrokerAccess, client_config

#: A publisher that died holds readers up for this long at most.
TRANSACTION_TIMEOUT_MS: Final = 15_000
_FENCED: Final = (KafkaError._FENCED, KafkaError.PRODUCER_FENCED, KafkaError.INVALID_PRODUCER_EPOCH)


class PublishError(RuntimeError):
    """Nothing was published, unless the message says that this is unknown; it says why and what to do."""


def id_for(usual_id: str, topic: str, usual_topic: str) -> str:
    """The transactional id for ``topic``: publishers of different topics (tests have their own) do not fence each other."""
    return usual_id if topic == usual_topic else f"{usual_id}-{topic}"


def no_topic(brokers: BrokerAccess | str, topic: str) -> PublishError:
    """What is said where ``topic`` does not exist."""
    return PublishError(f"{brokers} has no topic {topic}: make it with 'ptr topics apply'")


def open_producer(
    brokers: BrokerAccess | str, transactional_id: str, topic: str, *, compression: str, timeout_s: float
) -> Any:
    """A producer that may begin transactions for ``topic``; who had the same id before may not any more.

    Raises :class:`PublishError` when the broker gives it no place within ``timeout_s``.
    """
    trouble = Trouble()
    config = {
        "transactional.id": transactional_id,
        "transaction.timeout.ms": TRANSACTION_TIMEOUT_MS,
        "compression.type": compression,
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


def failed(producer: Any, error: KafkaException, *, rival: str, unknown: str, timeout_s: float) -> PublishError:
    """Why a transaction failed; it is ended if it can be.

    ``rival`` says what somebody else did at the same time, ``unknown`` how to find out whether it was published.
    """
    why = error.args[0]
    if why.code() in _FENCED:
        return PublishError(f"somebody else {rival} at the same time, so nothing was published here: try again")
    if why.txn_requires_abort() or why.code() == KafkaError._TIMED_OUT:
        # Where this fails too, the broker ends the transaction after TRANSACTION_TIMEOUT_MS.
        with suppress(KafkaException):
            producer.abort_transaction(timeout_s)
        return PublishError(f"nothing was published: {why.str()}")
    return PublishError(f"whether it was published is unknown: {why.str()}. {unknown}")
