"""What was in force from when on, in event time: for workers that must decide a repeat as they decided the first time. Pure."""

from __future__ import annotations

from typing import TypeVar

T = TypeVar("T")

#: From when on (epoch milliseconds), and what; oldest first.
Timeline = tuple[tuple[int, T], ...]


def added(timeline: Timeline[T], what: T, timestamp_ms: int, delay_ms: int) -> Timeline[T]:
    """``timeline`` with ``what``, in force ``delay_ms`` after its record's timestamp: by then every worker has read it.

    Never before the one that it replaces, even if clocks of brokers differ.
    """
    from_ms = max(timestamp_ms + delay_ms, timeline[-1][0] if timeline else 0)
    return (*timeline, (from_ms, what))


def in_force(timeline: Timeline[T], at_ms: int, before: T) -> T:
    """What is in force at ``at_ms``; ``before`` the first one, that."""
    for from_ms, what in reversed(timeline):
        if at_ms >= from_ms:
            return what
    return before
