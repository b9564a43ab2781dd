"""Which parties were erased, and until when what they did counts as before it: what screening asks."""

from __future__ import annotations

from typing import Final

from pipeline.stages.parties import ERASURE_DELAY_MS

#: Erased parties that a worker holds, the latest: some 15 MB. More in a topic's seven days is no work of people; of those that
#: are let go the table is told when this worker restarts, or when something about them changes.
ERASED_MAX: Final = 100_000


class ErasureBook:
    """One thread takes in, any thread asks. Hashes only: no ids are kept."""

    def __init__(self) -> None:
        self._until: dict[int, int] = {}

    def until_ms(self, tenant: str, party_id: str) -> int:
        """Payments received before it are of before the party's last erasure; 0: it was not erased, as far as is known."""
        return self._until.get(hash((tenant, party_id)), 0) if self._until else 0

    def take(self, tenant: str, party_id: str, timestamp_ms: int) -> None:
        """Take in an erasure that the broker received at ``timestamp_ms``."""
        who = hash((tenant, party_id))
        self._until[who] = max(self._until.pop(who, 0), timestamp_ms + ERASURE_DELAY_MS)
        if len(self._until) > ERASED_MAX:
            del self._until[next(iter(self._until))]
