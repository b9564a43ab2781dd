"""The recount takes further asks that a crash leaves for what they are, and nothing else."""

from __future__ import annotations

from pipeline.bench.recount import _asked_again


def rows(*events: str) -> set[tuple[str, str, str]]:
    return {("bench0", "p1", event) for event in events}


def test_whole_asks_in_order_are_what_a_crash_leaves() -> None:
    found = rows("dispatch/1.1", "plugin/1.1", "dispatch/1.2", "plugin/1.2")
    assert _asked_again(found) == found


def test_anything_else_is_a_mistake() -> None:
    for events in (
        ["dispatch/1.1"],  # never answered
        ["plugin/1.1"],  # never queued
        ["dispatch/1.2", "plugin/1.2"],  # a hole
        ["dispatch/2.0", "plugin/2.0"],  # another attempt
        ["dispatch/1.0", "plugin/1.0"],
        ["payer"],
    ):
        assert _asked_again(rows(*events)) == set(), events
