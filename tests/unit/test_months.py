"""Months of the audit tables, and what is said of files."""

from __future__ import annotations

from datetime import date

import pytest

from connectors.sinks.archive_files import LEAF, name_of_file, runs_of
from connectors.sinks.archives import in_words
from connectors.sinks.database import ArchivedLeaves, parts_of
from connectors.sinks.months import first_ms, month_of, name_of_month, next_month


@pytest.mark.parametrize(
    ("at_ms", "month"),
    [
        (1_769_903_999_999, date(2026, 1, 1)),  # 2026-01-31T23:59:59.999Z
        (1_769_904_000_000, date(2026, 2, 1)),
        (0, date(1970, 1, 1)),
        (-1, date(1970, 1, 1)),
        ((1 << 63) - 1, date(9998, 12, 1)),
    ],
)
def test_a_time_is_of_a_month_of_utc(at_ms: int, month: date) -> None:
    """To the millisecond; what no calendar holds is of the first or the last month."""
    assert month_of(at_ms) == month


def test_months_follow_each_other() -> None:
    """Over the year's end, both ways."""
    assert next_month(date(2025, 12, 1)) == date(2026, 1, 1)
    assert next_month(date(2026, 1, 1), -1) == date(2025, 12, 1)
    assert next_month(date(2026, 11, 1), -12) == date(2025, 11, 1)
    assert first_ms(date(2026, 2, 1)) == 1_769_904_000_000
    assert name_of_month(date(2026, 2, 1)) == "2026-02"


def test_runs_are_leaves_without_gaps() -> None:
    """Each with its first and its last."""
    rows = [(None,) * LEAF + (leaf,) for leaf in (3, 4, 5, 9, 11, 12)]
    assert list(runs_of(rows)) == [(3, 5), (9, 9), (11, 12)]
    assert list(runs_of([])) == []


def test_leaves_are_removed_in_parts() -> None:
    """All of them, none twice."""
    parts = list(parts_of(ArchivedLeaves("acme", 1, 10, 19), 4))
    assert [(part.first, part.last) for part in parts] == [(10, 13), (14, 17), (18, 19)]


@pytest.mark.parametrize(
    ("tenant", "number", "name"),
    [
        ("acme", 1, "acme/2026-01.parquet"),
        ("acme", 2, "acme/2026-01.2.parquet"),
        ("", 1, "-/2026-01.parquet"),
        ("../etc", 1, "_..%2Fetc/2026-01.parquet"),
        ("..", 1, "_../2026-01.parquet"),
    ],
)
def test_a_file_is_under_the_folder_whatever_a_row_holds(tenant: str, number: int, name: str) -> None:
    """A tenant's name is a folder's; what is none does not lead out."""
    assert name_of_file(tenant, "2026-01", number) == name


def test_files_are_named_with_how_many_events() -> None:
    """One or many."""
    assert in_words({"a/2026-01.parquet": 1}) == "archived: 1 event in a/2026-01.parquet"
    assert (
        in_words({"a/1.parquet": 1200, "a/2.parquet": 1}) == "archived: 1,200 events in a/1.parquet, 1 in a/2.parquet"
    )
