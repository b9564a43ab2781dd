"""pipeline/stages/ofac_score.py."""

from __future__ import annotations

import pytest

from pipeline.stages.ofac_score import ofac_score


@pytest.mark.parametrize(
    ("query", "listed", "score"),
    [
        ("VLADIMIR PUTIN", "PUTIN, Vladimir Vladimirovich", 100),  # each word asked for is there
        ("vladimir putin", "PUTIN, Vladimir", 100),
        ("J.P. MORGAN", "MORGAN HUERTA, Jose Arnoldo", 100),  # J and P are passed over
        ("Z", "ALBARRAQ Z", 100),  # unless there is nothing else
        ("MARTHA", "MARHTA", 96),  # Winkler's own example, 0.9611
        ("DWAYNE", "DUANE", 84),  # and 0.84
        ("GEORGE BUSH", "AL XYLON, George", 50),  # one of two words, the other not alike at all
        ("O'BRIEN", "OBRIEN", 100),
        ("", "PUTIN", 0),
        ("Владимир", "PUTIN", 0),  # the portal knows Latin letters only
    ],
)
def test_scores_worked_out_by_hand(query: str, listed: str, score: int) -> None:
    """The mean over the words asked for, or the whole as written where that is more."""
    assert ofac_score(query, listed) == score
