"""pipeline/engine/alarms.py."""

from __future__ import annotations

from itertools import pairwise

from pipeline.engine.alarms import AGAIN_MS, AGAIN_MS_MAX, RUNG_MAX, Alarms, Posting


def posting(key: bytes, now_ms: int) -> Posting:
    return "topic", b"%d" % now_ms, key


def alarms() -> Alarms:
    return Alarms(due_of=int, post=posting)


def keys(rung: list[Posting]) -> list[bytes]:
    return [key for _, _, key in rung]


def test_rung_when_due_and_not_before() -> None:
    """At its time exactly, in order of time; the record is made with the time of ringing."""
    waiting = alarms()
    waiting.set(b"b", 200)
    waiting.set(b"a", 100)
    assert waiting.ring(99) == []
    assert waiting.ring(100) == [("topic", b"100", b"a")]
    assert keys(waiting.ring(200)) == [b"b"]
    assert (len(waiting), waiting.overdue) == (2, 2)


def test_rung_again_with_growing_pauses_until_it_is_handled() -> None:
    """A record that was judged too early, or lost its row's update, is posted again; a handled one is not."""
    waiting = alarms()
    waiting.set(b"a", 1)
    times = [now for now in range(0, 200_000, 500) if waiting.ring(now)]
    gaps = [later - earlier for earlier, later in pairwise(times)]
    assert gaps[0] == AGAIN_MS
    assert gaps == sorted(gaps)
    assert gaps[-1] == AGAIN_MS_MAX
    waiting.set(b"a", 0)
    assert waiting.ring(10**9) == []
    assert (len(waiting), waiting.overdue) == (0, 0)


def test_another_time_replaces_the_one_before() -> None:
    """The next review of a payment is due at its own time, and the same time set again changes nothing."""
    waiting = alarms()
    waiting.set(b"a", 100)
    waiting.set(b"a", 300)
    assert waiting.ring(250) == []
    assert keys(waiting.ring(300)) == [b"a"]
    waiting.set(b"a", 300)
    assert waiting.ring(301) == []


def test_recovery_forgets_what_was_and_reads_what_is_stored() -> None:
    """Rows of partitions that went to others are not rung; rows without a due time neither."""
    waiting = alarms()
    waiting.set(b"gone", 1)
    waiting.recover([(b"a", b"5"), (b"none", b"0"), (b"b", b"3")])
    assert keys(waiting.ring(10)) == [b"b", b"a"]
    assert len(waiting) == 2


def test_a_backlog_comes_in_portions() -> None:
    """After an outage no more than so many records at a time."""
    waiting = alarms()
    waiting.recover((b"%d" % n, b"1") for n in range(RUNG_MAX + 10))
    assert [len(waiting.ring(1)), len(waiting.ring(1)), len(waiting.ring(1))] == [RUNG_MAX, 10, 0]
