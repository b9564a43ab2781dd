"""The days of a report: what is asked for, what it is when nobody says, and how many there may be."""

from __future__ import annotations

import click
import pytest

from pipeline.commands.shared import day_ms, report_range

TOMORROW_MS = day_ms("2026-11-29")


@pytest.mark.parametrize(
    ("from_", "to", "first", "until"),
    [
        (None, None, "2026-11-01", "2026-11-29"),
        (None, "2026-03-01", "2026-02-01", "2026-03-01"),
        ("2026-11-28", None, "2026-11-28", "2026-11-29"),
        ("2016-01-01", "2026-01-08", "2016-01-01", "2026-01-08"),
    ],
)
def test_days_that_are_not_said_are_the_last_28(from_: str | None, to: str | None, first: str, until: str) -> None:
    """Up to tomorrow; and 3,660 days are not too many."""
    found = report_range(from_, to, tomorrow_ms=TOMORROW_MS, begin_ms=day_ms)
    assert found == (day_ms(first), day_ms(until))


@pytest.mark.parametrize(
    ("from_", "to"), [("2026-01-01", "2026-01-01"), ("2026-01-02", "2026-01-01"), ("2016-01-01", "2026-01-09")]
)
def test_days_out_of_order_and_too_many_are_refused(from_: str, to: str) -> None:
    """No day at all, backwards, and a day more than 3,660."""
    with pytest.raises(click.UsageError, match="at most 3660 days before it"):
        report_range(from_, to, tomorrow_ms=TOMORROW_MS, begin_ms=day_ms)
