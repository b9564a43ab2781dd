"""Writes versions of sanctions lists to ``lists.updated.v1``.

Parts and head are one Kafka transaction under one transactional id, the head last: whoever begins later fences the
earlier one, and a crash midway publishes nothing. Readers do not lean on that: a version without its head, or with a part
missing, is never taken up. Older versions than the one before are removed in a second transaction; a crash in between
leaves them until the next import.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Final

from connectors.broker.transaction import Publisher, Publishing, read_contents
from connectors.lists.version import ListVersion, UnusableListError, content_of, entries_of, head_key, part_key
from pipeline.settings import BrokerAccess
from pipeline.stages.watchlist import ListEntry
from pipeline.topics import LISTS
from schemas.codec import Codec, UndecodableError
from schemas.records import ListPart, ListUpdated

PUBLISHER: Final = Publisher(
    topic=LISTS.name,
    transactional_id="ptr-lists-publish",
    rival="imported a list",
    unknown="'ptr lists list' tells; importing again does no harm.",
)
#: The one in force and the one before it, for ``ptr lists diff``.
VERSIONS_KEPT: Final = 2


@dataclass(slots=True)
class Contents:
    """The topic, read to its end."""

    #: By list and version, the latest written last.
    heads: dict[tuple[str, str], ListUpdated] = field(default_factory=dict)
    parts: dict[tuple[str, str], dict[int, bytes]] = field(default_factory=dict)
    #: Whether the topic exists.
    exists: bool = True

    def lists(self) -> list[str]:
        """Every list of which there is a version."""
        return sorted({list_id for list_id, _ in self.heads})

    def versions(self, list_id: str) -> list[ListUpdated]:
        """The versions of a list that can be used, the latest last: that one is in force, as workers see it."""
        return [head for (each, _), head in self.heads.items() if each == list_id and not self.fault(head)]

    def fault(self, head: ListUpdated) -> str:
        """Why a version cannot be used; empty when it can."""
        try:
            self.entries(head)
        except UnusableListError as error:
            return str(error)
        return ""

    def entries(self, head: ListUpdated) -> tuple[ListEntry, ...]:
        """The entries of a version. Raises ``UnusableListError`` when it is incomplete or damaged."""
        return entries_of(head, content_of(head, self.parts.get((head.list, head.version), {})))

    def take(self, codec: Codec, message: Any) -> None:
        """Take in a record; what is neither part nor head is nobody's list."""
        if message.value() is None:
            list_id, _, rest = (message.key() or b"").decode(errors="replace").partition("|")
            version, _, part = rest.partition("|")
            if not part:
                self.heads.pop((list_id, version), None)
            elif part.isdecimal():
                self.parts.get((list_id, version), {}).pop(int(part), None)
            return
        with suppress(UndecodableError):
            if codec.record_of(message.value()) is ListPart:
                found = codec.decode(message.value(), ListPart)
                self.parts.setdefault((found.list, found.version), {})[found.part] = found.content
            else:
                head = codec.decode(message.value(), ListUpdated)
                self.heads.pop((head.list, head.version), None)
                self.heads[head.list, head.version] = head


def read_all(
    brokers: BrokerAccess | str, codec: Codec, topic: str = LISTS.name, timeout_s: float = PUBLISHER.timeout_s
) -> Contents:
    """Read ``topic`` to its end. Raises :class:`PublishError` when the broker does not give it within ``timeout_s``."""
    return read_contents(Contents(), brokers, codec, topic, timeout_s)


def publish(brokers: BrokerAccess | str, codec: Codec, version: ListVersion, topic: str = LISTS.name) -> bool:
    """Put ``version`` in force and remove what is older than the one before it; returns when the broker has all of it.

    False when the same content is in force already: then only its head is written, with its new dates.
    Raises :class:`PublishError`; then nothing was published, unless it says that this is unknown.
    """
    publishing = Publishing(PUBLISHER, Contents(), brokers, codec, topic)
    before, head = publishing.before, version.head
    kept = [each.version for each in before.versions(head.list)]
    same = kept[-1:] == [head.version]
    parts = [] if same else [(part_key(part.list, part.version, part.part), part) for part in version.parts()]
    publishing.write([(head_key(head.list, head.version), head)], parts=parts)
    kept = [each for each in kept if each != head.version] + [head.version]
    publishing.remove(_old_keys(before, head.list, set(kept[-VERSIONS_KEPT:])))
    return not same


def _old_keys(before: Contents, list_id: str, kept: set[str]) -> list[bytes]:
    """Keys of all versions of a list but ``kept``, also of parts that never got a head."""
    old = {version for each, version in (*before.heads, *before.parts) if each == list_id} - kept
    keys = [head_key(list_id, version) for version in sorted(old) if (list_id, version) in before.heads]
    keys += [part_key(list_id, v, part) for v in sorted(old) for part in sorted(before.parts.get((list_id, v), {}))]
    return keys
