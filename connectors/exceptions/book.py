"""Every exception that was read, and which of them is in force at a time."""

from __future__ import annotations

import logging
from typing import Final

from connectors.timeline import Timeline, added, in_force
from pipeline.stages.exceptions import mistake_in
from schemas.records import ExceptionGranted

log = logging.getLogger(__name__)

#: In force this long after its record's timestamp: by then every worker has read it, and a repeat decides as before.
EFFECTIVE_DELAY_MS: Final = 1_000
#: Words about one party and entry that are kept, the newest last: for payments that were received before the last ones.
KEPT_MAX: Final = 4

_Key = tuple[str, str, str, str]


class ExceptionBook:
    """One thread applies, any thread asks: what they see is replaced, never changed."""

    def __init__(self) -> None:
        #: By tenant, list, entry and party.
        self._words: dict[_Key, Timeline[ExceptionGranted]] = {}
        #: Records that hold no exception, and were ignored.
        self.refused = 0

    def in_force(self, tenant: str, list_id: str, entry_id: str, party_id: str, at_ms: int) -> ExceptionGranted | None:
        """The last word in force at event time ``at_ms``; it may be revoked, over, or about another name or content."""
        return in_force(self._words.get((tenant, list_id, entry_id, party_id), ()), at_ms, None)

    def apply(self, granted: ExceptionGranted, timestamp_ms: int) -> bool:
        """Take in a word; False when it cannot be one: ignored, logged and counted, screening goes on without it."""
        if mistake := mistake_in(granted):
            self.refuse(f"of tenant {granted.tenant!r}" if mistake[1] != "tenant is not a valid id" else "", mistake[1])
            return False
        key = (granted.tenant, granted.list, granted.entry_id, granted.party_id)
        self._words[key] = added(self._words.get(key, ()), granted, timestamp_ms, EFFECTIVE_DELAY_MS)[-KEPT_MAX:]
        return True

    def refuse(self, which: str, why: str) -> None:
        """Count and log a record that holds no exception."""
        self.refused += 1
        log.error("an exception %s is ignored: %s", which, why)

    def newest(self, tenant: str = "") -> list[ExceptionGranted]:
        """The last word on each party and entry, of one tenant where it is given, sorted by key."""
        return [words[-1][1] for key, words in sorted(self._words.items()) if tenant in ("", key[0])]
