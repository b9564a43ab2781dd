"""``fraud.snoozed.v1``: which fraud rules are switched off for whom. Followed by workers, read whole and written by people.

One record a payer and rule: the latest counts, and ending a snooze early is a record too, so that it says who and why.
"""

from __future__ import annotations

import time
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Final

from connectors.broker.books import BookReader, place_of, timestamp_ms_of
from connectors.broker.transaction import Publisher, PublishError, Publishing, read_contents
from connectors.snoozes.book import SnoozeBook, fault
from pipeline.settings import BrokerAccess
from pipeline.topics import SNOOZES
from schemas.codec import Codec, UndecodableError
from schemas.identity import SEPARATOR
from schemas.records import RuleSnoozed

PUBLISHER: Final = Publisher(
    topic=SNOOZES.name,
    transactional_id="ptr-snoozes-publish",
    rival="changed the snoozes",
    unknown="'ptr fraud snooze list' tells; doing it again does no harm.",
)
#: What a tenant may have in force at once: more is a rule that should be tuned. Of ten tenants a worker holds all.
PER_TENANT_MAX: Final = 10_000


def snooze_key(tenant: str, debtor_id: str, rule: str) -> bytes:
    """Key of a record: the latest of a payer and rule counts."""
    return SEPARATOR.join((tenant, debtor_id, rule)).encode()


class SnoozeReader(BookReader[SnoozeBook]):
    """Keeps a book of snoozes up to date."""

    def take(self, message: Any) -> None:
        """Put what ``message`` holds into the book; what is no snooze is refused there."""
        where = place_of(message)
        if message.value() is None:
            parts = (message.key() or b"").decode(errors="replace").split(SEPARATOR)
            if len(parts) == 3:
                self.book.forget(*parts)
            return
        try:
            record = self.codec.decode(message.value(), RuleSnoozed)
        except UndecodableError as error:
            self.book.refuse(where, str(error))
            return
        if (timestamp_ms := timestamp_ms_of(message)) is None:
            self.book.refuse(where, "a record without a timestamp")
        elif message.key() != snooze_key(record.tenant, record.debtor_id, record.rule):
            # Compaction goes by keys: under another one it would hide or outlive what it replaces.
            self.book.refuse(where, "a record under another key than its own")
        else:
            self.book.take(record, timestamp_ms)

    def tidy(self, now_ms: int) -> None:
        """Let go of what was over long ago."""
        self.book.tidy(now_ms)


@dataclass(slots=True)
class Contents:
    """The topic, read to its end: the latest record of each payer and rule, and when it was written."""

    latest: dict[bytes, tuple[RuleSnoozed, int]] = field(default_factory=dict)
    exists: bool = True

    def in_force(self, now_ms: int, tenant: str = "") -> list[tuple[RuleSnoozed, int]]:
        """Those that are not over, of one tenant or of all, the soonest to end first."""
        found = [each for each in self.latest.values() if each[0].until_ms > now_ms and tenant in ("", each[0].tenant)]
        return sorted(found, key=lambda each: (each[0].until_ms, each[0].tenant, each[0].debtor_id, each[0].rule))

    def take(self, codec: Codec, message: Any) -> None:
        """Take in a record; what is no snooze is nobody's."""
        key = message.key() or b""
        self.latest.pop(key, None)
        if message.value() is not None:
            with suppress(UndecodableError):
                record = codec.decode(message.value(), RuleSnoozed)
                if not fault(record) and key == snooze_key(record.tenant, record.debtor_id, record.rule):
                    self.latest[key] = record, message.timestamp()[1]


def read_all(brokers: BrokerAccess | str, codec: Codec, topic: str = SNOOZES.name) -> Contents:
    """Read ``topic`` to its end. Raises :class:`PublishError` when the broker does not give it in time."""
    return read_contents(Contents(), brokers, codec, topic, PUBLISHER.timeout_s)


def publish(brokers: BrokerAccess | str, codec: Codec, record: RuleSnoozed, topic: str = SNOOZES.name) -> None:
    """Write a snooze, or the end of one; returns when the broker has it.

    Raises :class:`PublishError`, also for a record that workers would refuse, or the end of what is not in force; then
    nothing was published, unless it says that this is unknown.
    """
    if why := fault(record):
        raise PublishError(f"nothing was published: {why}")
    publishing = Publishing(PUBLISHER, Contents(), brokers, codec, topic)
    before = publishing.before
    now_ms = int(time.time() * 1000)
    key = snooze_key(record.tenant, record.debtor_id, record.rule)
    known = before.latest.get(key)
    in_force = known is not None and known[0].until_ms > now_ms
    if record.until_ms <= now_ms and not in_force:
        raise PublishError("nothing was published: that rule is not snoozed for that payer")
    if not in_force and len(before.in_force(now_ms, record.tenant)) >= PER_TENANT_MAX:
        raise PublishError(
            f"nothing was published: {record.tenant} has {PER_TENANT_MAX} snoozes in force. Tune the rules instead "
            "(fraud.rules in its configuration), or remove some."
        )
    publishing.write([(key, record)])
