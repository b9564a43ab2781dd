"""Writes versions of tenants' configurations to ``tenants.configured.v1``.

Numbers follow one another although several people may publish at once: publishing is one Kafka transaction under one
transactional id, begun before the topic is read. Whoever begins later fences the earlier one, whose transaction then
fails as a whole. So two different documents never get the same number, and a crash midway publishes nothing.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

from confluent_kafka import KafkaException

from connectors.broker.follow import TopicReadError, read_to_end
from connectors.broker.transaction import PublishError, failed, id_for, no_topic, open_producer
from connectors.tenants.book import TenantBook
from connectors.tenants.document import document_hash, document_of
from connectors.tenants.reader import take
from pipeline.settings import BrokerAccess
from pipeline.topics import TENANTS
from schemas.codec import Codec, UndecodableError
from schemas.records import TenantConfigured
from schemas.tenant_rules import TenantRules

TRANSACTIONAL_ID = "ptr-tenants-publish"
#: Longest wait for the broker in each step.
TIMEOUT_S = 15.0
#: Records have their timestamps when they are written and are seen when the transaction is committed. Together with
#: the commit this stays below EFFECTIVE_DELAY_MS, after which the version is in force.
COMMIT_WITHIN_S = 0.5
ATTEMPTS_MAX = 3


@dataclass(frozen=True, slots=True)
class Change:
    """What publishing does for one tenant: ``version`` is the new one, or the latest one when nothing changed."""

    rules: TenantRules
    version: int
    unchanged: bool


@dataclass(frozen=True, slots=True)
class Contents:
    """The topic, read to its end."""

    book: TenantBook
    #: Highest number and its document's hash per tenant, also of versions that the book refuses: numbers are not used
    #: twice.
    latest: dict[str, tuple[int, str]]
    #: Whether the topic exists.
    exists: bool

    def change(self, rules: TenantRules) -> Change:
        """What publishing ``rules`` would do."""
        version, latest_hash = self.latest.get(rules.tenant, (0, ""))
        unchanged = latest_hash == document_hash(document_of(rules))
        return Change(rules, version if unchanged else version + 1, unchanged)


def read_all(
    brokers: BrokerAccess | str, codec: Codec, topic: str = TENANTS.name, timeout_s: float = TIMEOUT_S
) -> Contents:
    """Read ``topic`` to its end. Raises :class:`PublishError` when the broker does not give it within ``timeout_s``."""
    book, latest = TenantBook(), dict[str, tuple[int, str]]()

    def take_in(message: Any) -> None:
        take(book, codec, message)
        _note_latest(latest, codec, message)

    try:
        exists = read_to_end(brokers, topic, take_in, timeout_s)
    except TopicReadError as error:
        raise PublishError(str(error)) from error
    return Contents(book, latest, exists)


def publish(
    brokers: BrokerAccess | str, codec: Codec, rules: list[TenantRules], topic: str = TENANTS.name
) -> list[tuple[str, int]]:
    """Publish the next version of each tenant whose configuration changed, all or none; gives (tenant, version).

    A tenant whose latest version is the same document is left out. Returns when the broker has everything.
    Raises :class:`PublishError`; then nothing was published, unless it says that this is unknown.
    """
    transactional_id = id_for(TRANSACTIONAL_ID, topic, TENANTS.name)
    producer = open_producer(brokers, transactional_id, topic, compression="none", timeout_s=TIMEOUT_S)
    contents = read_all(brokers, codec, topic)
    if not contents.exists:
        raise no_topic(brokers, topic)
    changes = [change for change in map(contents.change, rules) if not change.unchanged]
    if changes:
        _write(producer, codec, changes, topic)
    return [(change.rules.tenant, change.version) for change in changes]


def _write(producer: Any, codec: Codec, changes: list[Change], topic: str) -> None:
    """Write all of ``changes`` in one transaction that is committed soon after the records have their timestamps."""
    for _ in range(ATTEMPTS_MAX):
        try:
            producer.begin_transaction()
            began_s = time.monotonic()
            for change in changes:
                tenant, document = change.rules.tenant, document_of(change.rules)
                record = TenantConfigured(
                    tenant=tenant, version=change.version, document=document, document_hash=document_hash(document)
                )
                producer.produce(topic, codec.encode(record), f"{tenant}|{change.version}".encode())
            producer.flush(TIMEOUT_S)
            if time.monotonic() - began_s > COMMIT_WITHIN_S:
                producer.abort_transaction(TIMEOUT_S)
                continue
            producer.commit_transaction(TIMEOUT_S)
        except KafkaException as error:
            unknown = "'ptr tenants list' tells; applying again does no harm."
            raise failed(producer, error, rival="published", unknown=unknown, timeout_s=TIMEOUT_S) from error
        return
    raise PublishError(
        f"nothing was published: the broker takes longer than {COMMIT_WITHIN_S:g} s, so that workers "
        "might not have them when they are in force. Try again when it is less busy."
    )


def _note_latest(latest: dict[str, tuple[int, str]], codec: Codec, message: Any) -> None:
    try:
        record = codec.decode(message.value() or b"", TenantConfigured)
    except UndecodableError:
        return
    if record.version > latest.get(record.tenant, (0, ""))[0]:
        latest[record.tenant] = record.version, record.document_hash
