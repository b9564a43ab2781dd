"""Due times of rows, in the memory of the worker that owns them: who is due is posted a record, again and again until the
row says that it was handled.

Nothing is decided here. The posted record goes through a topic like any other, and the stage that reads it judges by the
record's broker time. So a clock that is wrong posts too early or too late and ends nothing too early, and a repeat is harmless.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from heapq import heappop, heappush
from typing import Final

#: A row that is still there after its record was posted is posted again after this, then after twice as long, and so on.
AGAIN_MS: Final = 1_000
AGAIN_MS_MAX: Final = 60_000
#: Records posted at a time, so that what waited during an outage comes in portions.
RUNG_MAX: Final = 500

#: Topic, value and key of a record to post.
Posting = tuple[str, bytes, bytes]


class Alarms:
    """One per group. ``due_of`` reads the due time (epoch ms, 0 for none) from an encoded row; ``post`` makes the record for
    the row of a key, given the time (epoch ms)."""

    def __init__(self, *, due_of: Callable[[bytes], int], post: Callable[[bytes, int], Posting]) -> None:
        self._due_of = due_of
        self._post = post
        #: By key: when it is due, when it is rung next, and the delay after that.
        self._waiting: dict[bytes, tuple[int, int, int]] = {}
        self._heap: list[tuple[int, bytes]] = []
        self._rung: set[bytes] = set()

    def __len__(self) -> int:
        """How many rows have a due time."""
        return len(self._waiting)

    @property
    def overdue(self) -> int:
        """How many of them were posted and are still there."""
        return len(self._rung)

    def recover(self, rows: Iterable[tuple[bytes, bytes]]) -> None:
        """Forget everything; ``rows`` are those of all partitions owned now, as they are stored."""
        due = {key: due_ms for key, row in rows if (due_ms := self._due_of(row))}
        # Replaced, not changed: this runs in a thread.
        self._waiting = {key: (due_ms, due_ms, AGAIN_MS) for key, due_ms in due.items()}
        self._heap = sorted((due_ms, key) for key, due_ms in due.items())
        self._rung = set()

    def set(self, key: bytes, due_ms: int) -> None:
        """The row of ``key`` is due at ``due_ms``; 0: it is not any more."""
        if key in self._waiting and self._waiting[key][0] == due_ms:
            return
        self._rung.discard(key)
        if not due_ms:
            self._waiting.pop(key, None)
        else:
            self._waiting[key] = due_ms, due_ms, AGAIN_MS
            heappush(self._heap, (due_ms, key))

    def ring(self, now_ms: int) -> list[Posting]:
        """What is to be posted at ``now_ms``."""
        rung: list[Posting] = []
        while self._heap and self._heap[0][0] <= now_ms and len(rung) < RUNG_MAX:
            at_ms, key = heappop(self._heap)
            waiting = self._waiting.get(key)
            if waiting is None or waiting[1] != at_ms:
                continue  # It was handled, or is due at another time.
            due_ms, _, delay_ms = waiting
            self._waiting[key] = due_ms, now_ms + delay_ms, min(2 * delay_ms, AGAIN_MS_MAX)
            heappush(self._heap, (now_ms + delay_ms, key))
            self._rung.add(key)
            rung.append(self._post(key, now_ms))
        return rung
