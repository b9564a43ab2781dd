"""Reads ``parties.flagged.v1``: which known parties new versions of sanctions lists name."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from connectors.broker.follow import TopicReadError, read_to_end
from pipeline.settings import BrokerAccess
from pipeline.topics import PARTIES_FLAGGED
from schemas.codec import Codec, UndecodableError
from schemas.records import PartyFlagged

#: Longest wait for the broker.
TIMEOUT_S: Final = 30.0


class HitsError(RuntimeError):
    """The hits cannot be read; the message says why."""


@dataclass(frozen=True, slots=True)
class Hit:
    """A party that was flagged, and when (epoch milliseconds)."""

    flagged_at_ms: int
    event: PartyFlagged


def read_hits(
    brokers: BrokerAccess | str, codec: Codec, *, tenant: str = "", list_id: str = "", timeout_s: float = TIMEOUT_S
) -> list[Hit]:
    """Every hit that the topic has, of one tenant and list where they are named, oldest first.

    Each once: a worker that was killed may have published one twice. Raises :class:`HitsError`.
    """
    found: dict[tuple[str, ...], Hit] = {}

    def take(message: Any) -> None:
        try:
            event = codec.decode(message.value() or b"", PartyFlagged)
        except UndecodableError:
            return  # Nobody's hit; the audit sink keeps it as what it is.
        if (tenant and event.tenant != tenant) or (list_id and event.list != list_id):
            return
        key = event.tenant, event.party_id, event.list, event.version, event.entry_id
        found.setdefault(key, Hit(message.timestamp()[1], event))

    try:
        exists = read_to_end(brokers, PARTIES_FLAGGED.name, take, timeout_s)
    except TopicReadError as error:
        raise HitsError(str(error)) from error
    if not exists:
        raise HitsError(f"{brokers} has no topic {PARTIES_FLAGGED.name} yet: make it with 'ptr topics apply'")
    return sorted(found.values(), key=lambda hit: hit.flagged_at_ms)
