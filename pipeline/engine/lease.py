"""The lease: may this process still publish?

A worker that was stopped (SIGSTOP, a long pause, a lost network) may have lost its partitions without knowing. It holds a
lease that each successful heartbeat renews, counted from when the heartbeat was *sent*, and publishes only while the lease
is fresh. Lease plus the producer's delivery time-out stay below the session time-out, so that whatever a former owner had
in hand is gone before the next owner begins (docs/decisions/0004-zombies.md).
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

#: Shares of the session time-out; together below 1.
LEASE_SHARE = 0.4
DELIVERY_SHARE = 0.5


class LeaseLostError(RuntimeError):
    """No heartbeat was answered for a whole session: somebody else may own our partitions."""


class Lease:
    """Fresh for ``LEASE_SHARE`` of the session time-out after the last answered heartbeat was sent."""

    def __init__(self, session_timeout_s: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._session_s = session_timeout_s
        self._lease_s = session_timeout_s * LEASE_SHARE
        self._clock = clock
        self._renewed_at = clock()
        self._broken = False

    def renew(self, sent_at: float) -> None:
        """An answered heartbeat was sent at ``sent_at`` (monotonic seconds)."""
        if self.lost():
            self._broken = True  # A new membership: whoever still holds work of the old one must not go on.
        self._renewed_at = max(self._renewed_at, sent_at)

    def begin(self) -> None:
        """Partitions were assigned and nobody holds work of an earlier membership."""
        self._broken = False
        self._renewed_at = max(self._renewed_at, self._clock())

    def fresh(self) -> bool:
        """May we publish now?"""
        return not self._broken and self._clock() - self._renewed_at < self._lease_s

    def lost(self) -> bool:
        """Is a whole session over?"""
        return self._broken or self._clock() - self._renewed_at > self._session_s

    async def hold(self) -> None:
        """Return when the lease is fresh; raise :class:`LeaseLostError` when a session went by."""
        while not self.fresh():
            if self.lost():
                raise LeaseLostError(
                    f"no heartbeat was answered for a whole session ({self._session_s:g} s): "
                    "another worker may own these partitions"
                )
            await asyncio.sleep(0.05)
