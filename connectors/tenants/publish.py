"""Writes versions of tenants' configurations to ``tenants.configured.v1``.

Numbers follow one another although several people may publish at once: publishing is one Kafka transaction under one
transactional id, begun before the topic is read. Whoever begins later fences the earlier one, whose transaction then
fails as a whole. So two different documents never get the same number, and a crash midway publishes nothing.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Final

from connectors.broker.transaction import Publisher, Publishing, read_contents
from connectors.tenants.book import TenantBook
from connectors.tenants.document import document_hash, document_of
from connectors.tenants.reader import take
from pipeline.settings import BrokerAccess
from pipeline.topics import TENANTS
from schemas.codec import Codec, UndecodableError
from schemas.records import TenantConfigured
from schemas.tenant_rules import TenantRules

PUBLISHER: Final = Publisher(
    topic=TENANTS.name,
    transactional_id="ptr-tenants-publish",
    rival="published",
    unknown="'ptr tenants list' tells; applying again does no harm.",
    compression="none",
    timeout_s=15.0,
    # Together with the commit below EFFECTIVE_DELAY_MS, after which the version is in force.
    commit_within_s=0.5,
)


@dataclass(frozen=True, slots=True)
class Change:
    """What publishing does for one tenant: ``version`` is the new one, or the latest one when nothing changed."""

    rules: TenantRules
    version: int
    unchanged: bool


@dataclass(slots=True)
class Contents:
    """The topic, read to its end."""

    book: TenantBook = field(default_factory=TenantBook)
    #: Highest number and its document's hash per tenant, also of versions that the book refuses: numbers are not used
    #: twice.
    latest: dict[str, tuple[int, str]] = field(default_factory=dict)
    #: Whether the topic exists.
    exists: bool = True

    def take(self, codec: Codec, message: Any) -> None:
        """Take in a record."""
        take(self.book, codec, message)
        with suppress(UndecodableError):
            record = codec.decode(message.value() or b"", TenantConfigured)
            if record.version > self.latest.get(record.tenant, (0, ""))[0]:
                self.latest[record.tenant] = record.version, record.document_hash

    def change(self, rules: TenantRules) -> Change:
        """What publishing ``rules`` would do."""
        version, latest_hash = self.latest.get(rules.tenant, (0, ""))
        unchanged = latest_hash == document_hash(document_of(rules))
        return Change(rules, version if unchanged else version + 1, unchanged)


def read_all(
    brokers: BrokerAccess | str, codec: Codec, topic: str = TENANTS.name, timeout_s: float = PUBLISHER.timeout_s
) -> Contents:
    """Read ``topic`` to its end. Raises :class:`PublishError` when the broker does not give it within ``timeout_s``."""
    return read_contents(Contents(), brokers, codec, topic, timeout_s)


def publish(
    brokers: BrokerAccess | str, codec: Codec, rules: list[TenantRules], topic: str = TENANTS.name
) -> list[tuple[str, int]]:
    """Publish the next version of each tenant whose configuration changed, all or none; gives (tenant, version).

    A tenant whose latest version is the same document is left out. Returns when the broker has everything.
    Raises :class:`PublishError`; then nothing was published, unless it says that this is unknown.
    """
    publishing = Publishing(PUBLISHER, Contents(), brokers, codec, topic)
    changes = [change for change in map(publishing.before.change, rules) if not change.unchanged]
    publishing.write([_record(change) for change in changes])
    return [(change.rules.tenant, change.version) for change in changes]


def _record(change: Change) -> tuple[bytes, TenantConfigured]:
    tenant, document = change.rules.tenant, document_of(change.rules)
    record = TenantConfigured(
        tenant=tenant, version=change.version, document=document, document_hash=document_hash(document)
    )
    return f"{tenant}|{change.version}".encode(), record
