"""pipeline/stages/support.py."""

from __future__ import annotations

import pytest

from pipeline.stages.support import Support, weigh


@pytest.mark.parametrize(
    ("ours", "listed", "score", "reason"),
    [
        ("1970-01-31", "1970-01-31", 0.93, "birth_date_agrees"),
        ("1970-01-31", "1970-02-01", 0.885, "birth_day_differs"),
        ("1970-01", "1970-02-01", 0.885, "birth_day_differs"),
        ("1970-01", "1970-01-09", 0.915, "birth_year_agrees"),
        ("1970", "1970-02-01", 0.915, "birth_year_agrees"),
        ("1970-02-01", "1968/1972", 0.915, "birth_year_agrees"),
        ("1971", "1970", 0.9, "birth_year_near"),
        ("1973-05-05", "1968/1972", 0.9, "birth_year_near"),
        ("1972", "1970", 0.82, "birth_date_differs"),
        ("1990-01-31", "1970-01-31", 0.82, "birth_date_differs"),
        ("1960", "1968/1972", 0.82, "birth_date_differs"),
    ],
)
def test_birth_dates(ours: str, listed: str, score: float, reason: str) -> None:
    """An agreeing date raises 0.90 by 0.03 (a day) or 0.015 (a year); another year takes 0.08; a year apart is nothing."""
    assert weigh(0.9, Support(ours), birth_dates=(listed,)) == (pytest.approx(score), (reason,))


def test_of_several_listed_dates_the_best_counts() -> None:
    """Lists name all dates that somebody has used."""
    assert weigh(0.9, Support("1970"), birth_dates=("1950", "1970", "1990"))[1] == ("birth_year_agrees",)


def test_countries() -> None:
    """A shared country raises by 0.005, none in common takes 0.015; capitals do not matter."""
    assert weigh(0.9, Support(countries=("ru",)), countries=("DE", "RU")) == (0.905, ("country_agrees",))
    assert weigh(0.9, Support(countries=("FR",)), countries=("DE", "RU")) == (0.885, ("country_differs",))


@pytest.mark.parametrize("support", [Support(), Support("", ("FR",)), Support("1970")])
def test_what_one_side_does_not_say_changes_nothing(support: Support) -> None:
    """Unknown is neither for nor against."""
    assert weigh(0.9, support) == (0.9, ())


def test_nonsense_is_unknown() -> None:
    """A date that is none is no evidence."""
    assert weigh(0.9, Support("unknown"), birth_dates=("1970",)) == (0.9, ())
    assert weigh(0.9, Support("1970"), birth_dates=("circa",)) == (0.9, ())


def test_no_evidence_makes_two_names_one() -> None:
    """What agrees raises no other name to 1, and what differs brings the same name below what blocks, not below review."""
    assert weigh(0.99, Support("1970-01-31", ("RU",)), birth_dates=("1970-01-31",), countries=("RU",))[0] < 1
    assert weigh(1.0, Support("1970", ("RU",)), birth_dates=("1970",), countries=("RU",))[0] == 1
    assert 0.9 <= weigh(1.0, Support("1950", ("FR",)), birth_dates=("1970",), countries=("RU",))[0] < 1
