"""What follows from an answer: the table of pipeline/stages/asking.py, line by line."""

from __future__ import annotations

from typing import Any

import pytest

from pipeline.stages.asking import ASKS_MAX, ATTEMPTS_HERE_MAX, Again, Told, follow
from pipeline.topics import RETRY_DELAYS_S

DELAYS_S = (1, 5, 30, 300, 1800)
DAY_S = 24 * 60 * 60


def told(outcome: str, attempt: int = 1, ask: int = 0, **named: Any) -> Told:
    return Told(attempt, ask, outcome, "", "", 1_000, **named)


@pytest.mark.parametrize("others", [True, False])
@pytest.mark.parametrize(("outcome", "verdict"), [("paid", "done"), ("declined", "failed"), ("unknowable", "parked")])
def test_explicit_words_end_it(outcome: str, verdict: str, others: bool) -> None:
    """A decline says itself that something else may be tried; without that it is final."""
    assert follow(told(outcome), others=others, delays_s=DELAYS_S) == verdict


@pytest.mark.parametrize(
    "answer", [told("declined", retry="here"), told("declined", retry="elsewhere"), told("unsent")]
)
def test_what_was_surely_not_done_goes_to_the_next_pic(answer: Told) -> None:
    """As a new attempt, at once, and its first ask."""
    assert follow(answer, others=True, delays_s=DELAYS_S) == Again(2, 0, None, elsewhere=True)


@pytest.mark.parametrize("outcome", ["pending", "requires_action", "", "succeeded", "error"])
@pytest.mark.parametrize("others", [True, False])
def test_an_unknown_answer_never_goes_elsewhere(outcome: str, others: bool) -> None:
    """The same attempt is asked about, on the delay of its ask; the last delay repeats."""
    for ask in range(12):
        again = follow(told(outcome, ask=ask), others=others, delays_s=DELAYS_S)
        assert again == Again(1, ask + 1, min(ask, 4)), ask


def test_without_another_pic_a_decline_elsewhere_is_final_and_not_now_is_tried_three_times() -> None:
    assert follow(told("declined", retry="elsewhere"), others=False, delays_s=DELAYS_S) == "failed"
    tried = [follow(told("declined", attempt, retry="here"), others=False, delays_s=DELAYS_S) for attempt in (1, 2, 3)]
    assert tried == [Again(2, 0, 1, unsent=True), Again(3, 0, 2, unsent=True), "failed"]
    assert ATTEMPTS_HERE_MAX == 3


def test_what_was_never_sent_is_tried_every_five_minutes_at_least() -> None:
    """It stays unsent: whoever serves it need not ask first."""
    tiers = [follow(told("unsent", ask=ask), others=False, delays_s=DELAYS_S) for ask in range(6)]
    assert tiers == [Again(1, ask + 1, min(ask, 3), unsent=True) for ask in range(6)]


@pytest.mark.parametrize(("outcome", "unsent"), [("unsent", True), ("pending", False)])
def test_after_a_crash_it_stays_at_its_pic_and_is_asked_for_soon(outcome: str, unsent: bool) -> None:
    """However often that happened: a restart is no reason to wait for hours."""
    for ask in (0, 20):
        again = follow(told(outcome, ask=ask, retry="here"), others=True, delays_s=DELAYS_S)
        assert again == Again(1, ask + 1, 0, unsent=unsent)


@pytest.mark.parametrize(("retry_after_ms", "tier"), [(0, 0), (1_000, 0), (1_001, 1), (60_000, 3), (10**9, 4)])
@pytest.mark.parametrize("outcome", ["pending", "unsent"])
def test_a_pic_is_left_alone_for_as_long_as_it_wants(outcome: str, retry_after_ms: int, tier: int) -> None:
    again = follow(told(outcome, retry_after_ms=retry_after_ms), others=False, delays_s=DELAYS_S)
    assert isinstance(again, Again)
    assert again.tier == tier


@pytest.mark.parametrize("outcome", ["pending", "unsent", "requires_action"])
def test_after_a_week_a_person_is_told(outcome: str) -> None:
    """With the delays of the program; one ask before that it still goes on."""
    asked = range(ASKS_MAX)
    assert 6 * DAY_S < sum(RETRY_DELAYS_S[min(ask, len(RETRY_DELAYS_S) - 1)] for ask in asked) < 8 * DAY_S
    assert isinstance(follow(told(outcome, ask=ASKS_MAX - 2), others=False, delays_s=RETRY_DELAYS_S), Again)
    assert follow(told(outcome, ask=ASKS_MAX - 1), others=False, delays_s=RETRY_DELAYS_S) == "parked"
