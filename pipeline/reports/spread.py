"""Percentiles of many times in little memory. Pure."""

from __future__ import annotations

from math import log
from typing import Final

#: Neighbouring buckets differ by so much; a percentile is off by at most half of it.
STEP: Final = 0.02
_BASE: Final = log(1 + STEP)


class Spread:
    """A histogram with buckets that grow by :data:`STEP`: some hundred for milliseconds to days."""

    __slots__ = ("_buckets", "count", "max_ms")

    def __init__(self) -> None:
        self._buckets: dict[int, int] = {}
        self.count = 0
        self.max_ms = 0

    def add(self, ms: int) -> None:
        """One time in milliseconds; what clocks make negative is 0."""
        ms = max(ms, 0)
        bucket = round(log(ms) / _BASE) + 1 if ms else 0
        self._buckets[bucket] = self._buckets.get(bucket, 0) + 1
        self.count += 1
        self.max_ms = max(self.max_ms, ms)

    def merge(self, other: Spread) -> None:
        """Add all of ``other``."""
        for bucket, count in other._buckets.items():
            self._buckets[bucket] = self._buckets.get(bucket, 0) + count
        self.count += other.count
        self.max_ms = max(self.max_ms, other.max_ms)

    def at(self, share: float) -> int | None:
        """The time that ``share`` (0 to 1) of all are not above, within half of :data:`STEP`; None of nothing."""
        wanted, seen = share * self.count, 0
        for bucket in sorted(self._buckets):
            seen += self._buckets[bucket]
            if seen >= wanted:
                return min(round((1 + STEP) ** (bucket - 1)), self.max_ms) if bucket else 0
        return None
