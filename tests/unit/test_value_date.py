"""Value date: calendars against what their operators publish, cut-offs in local time."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.stages.localities.closed_days import CALENDARS
from pipeline.stages.localities.value_date import DAYS_KEPT, DAYS_MAX, UnknownCalendarError, ValueDates, is_business_day
from schemas.localities import ValueDateTerms

EUR = ValueDateTerms(calendar="t2-2026", cut_off="17:00")

#: What the operators published, Mondays to Fridays only.
PUBLISHED = {
    # European Central Bank, "TARGET closing days".
    "t2-2026": {
        2022: "0415 0418 1226",
        2023: "0407 0410 0501 1225 1226",
        2024: "0101 0329 0401 0501 1225 1226",
        2025: "0101 0418 0421 0501 1225 1226",
        2026: "0101 0403 0406 0501 1225",
    },
    # gov.uk, "UK bank holidays", England and Wales; with the jubilee, the state funeral, the coronation.
    "chaps-2026": {
        2020: "0101 0410 0413 0508 0525 0831 1225 1228",
        2022: "0103 0415 0418 0502 0602 0603 0829 0919 1226 1227",
        2023: "0102 0407 0410 0501 0508 0529 0828 1225 1226",
        2025: "0101 0418 0421 0505 0526 0825 1225 1226",
        2026: "0101 0403 0406 0504 0525 0831 1225 1228",
        2027: "0101 0326 0329 0503 0531 0830 1227 1228",
    },
    # Federal Reserve Bank Services, "Holiday schedules": on a Saturday the banks are open the Friday before.
    "fedwire-2026": {
        2023: "0102 0116 0220 0529 0619 0704 0904 1009 1123 1225",
        2024: "0101 0115 0219 0527 0619 0704 0902 1014 1111 1128 1225",
        2025: "0101 0120 0217 0526 0619 0704 0901 1013 1111 1127 1225",
        2026: "0101 0119 0216 0525 0619 0907 1012 1111 1126 1225",
        2027: "0101 0118 0215 0531 0705 0906 1011 1111 1125",
    },
    # Cabinet Office of Japan, national holidays, with 2 and 3 January and 31 December.
    "boj-2026": {
        2024: "0101 0102 0103 0108 0212 0223 0320 0429 0503 0506 0715 0812 0916 0923 1014 1104 1231",
        2025: "0101 0102 0103 0113 0211 0224 0320 0429 0505 0506 0721 0811 0915 0923 1013 1103 1124 1231",
        2026: "0101 0102 0112 0211 0223 0320 0429 0504 0505 0506 0720 0811 0921 0922 0923 1012 1103 1123 1231",
    },
    # Danmarks Nationalbank, "Banklukkedage".
    "dk-banks-2026": {
        2026: "0101 0402 0403 0406 0514 0515 0525 0605 1224 1225 1231",
        2027: "0101 0325 0326 0329 0506 0507 0517 1224 1231",
    },
    # Bank holidays in Zurich.
    "sic-2026": {
        2024: "0101 0102 0329 0401 0501 0509 0520 0801 1225 1226",
        2025: "0101 0102 0418 0421 0501 0529 0609 0801 1225 1226",
    },
    # Sveriges Riksbank: eves of midsummer, Christmas and New Year too, but no half days.
    "rix-2026": {
        2024: "0101 0329 0401 0501 0509 0606 0621 1224 1225 1226 1231",
        2025: "0101 0106 0418 0421 0501 0529 0606 0620 1224 1225 1226 1231",
    },
    # Public holidays of Norway; 17 May 2025 is a Saturday.
    "nbo-2026": {
        2024: "0101 0328 0329 0401 0501 0509 0517 0520 1225 1226",
        2025: "0101 0417 0418 0421 0501 0529 0609 1225 1226",
    },
    # Christmas Eve is a holiday in Poland since 2025.
    "sorbnet-2026": {
        2024: "0101 0401 0501 0503 0530 0815 1101 1111 1225 1226",
        2025: "0101 0106 0421 0501 0619 0815 1111 1224 1225 1226",
    },
    "certis-2026": {2025: "0101 0418 0421 0501 0508 1028 1117 1224 1225 1226"},
    # With the bridging days of 2025 (2 May, 24 October).
    "viber-2026": {2025: "0101 0418 0421 0501 0502 0609 0820 1023 1024 1224 1225 1226"},
    # Orthodox Easter; 6 and 7 January since 2024.
    "regis-2026": {2025: "0101 0102 0106 0107 0124 0418 0421 0501 0609 0815 1201 1225 1226"},
}


def ms(text: str, zone: str) -> int:
    return round(datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(zone)).timestamp() * 1000)


@pytest.mark.parametrize(("name", "year"), [(name, year) for name, years in PUBLISHED.items() for year in years])
def test_a_calendar_has_the_closing_days_that_its_operator_published(name: str, year: int) -> None:
    """Day by day, for several years of each system."""
    assert [f"{day:%m%d}" for day in CALENDARS[name].closed_in(year)] == PUBLISHED[name][year].split()


def test_every_calendar_is_compared_with_something_published() -> None:
    assert PUBLISHED.keys() == CALENDARS.keys()


def easter(year: int) -> date:
    """Easter Sunday by the method of Meeus, Jones and Butcher."""
    a, (b, c) = year % 19, divmod(year, 100)
    d, e = divmod(b, 4)
    h = (19 * a + b - d - (b - (b + 8) // 25 + 1) // 3 + 15) % 30
    i, k = divmod(c, 4)
    rest = (32 + 2 * e + 2 * i - h - k) % 7
    m = (a + 11 * h + 22 * rest) // 451
    month, day = divmod(h + rest - 7 * m + 114, 31)
    return date(year, month, day + 1)


@pytest.mark.parametrize("year", range(2015, 2036))
def test_t2_is_closed_as_its_long_term_calendar_says(year: int) -> None:
    """New Year, Good Friday, Easter Monday, 1 May, 25 and 26 December, in every year."""
    sunday = easter(year)
    days = [date(year, 1, 1), sunday - timedelta(2), sunday + timedelta(1), date(year, 5, 1)]
    days += [date(year, 12, 25), date(year, 12, 26)]
    assert CALENDARS["t2-2026"].closed_in(year) == [day for day in days if day.weekday() < 5]


def test_calendars_cover_their_years_and_zones() -> None:
    for calendar in CALENDARS.values():
        assert (calendar.first_year, calendar.last_year) == (2015, 2035)
        ZoneInfo(calendar.zone)
        for year in range(2015, 2036):
            assert 3 <= len(calendar.closed_in(year)) <= 25
            assert all(day.weekday() < 5 for day in calendar.closed_in(year))


@pytest.mark.parametrize(
    ("at", "value_date"),
    [
        ("2026-11-27T16:59:59.999", "2026-11-27"),  # Friday before the cut-off
        ("2026-11-27T17:00:00", "2026-11-30"),  # and at it: Monday
        ("2026-11-28T09:00:00", "2026-11-30"),  # Saturday
        ("2026-11-29T23:59:59", "2026-11-30"),
        ("2026-11-30T00:00:00", "2026-11-30"),
        ("2026-04-02T16:59:00", "2026-04-02"),  # Maundy Thursday
        ("2026-04-02T17:00:00", "2026-04-07"),  # after it: over Easter to Tuesday
        ("2026-12-24T17:00:00", "2026-12-28"),
        ("2026-12-31T17:00:00", "2027-01-04"),
        ("2026-03-27T16:59:00", "2026-03-27"),  # clocks go forward on 29 March
        ("2026-03-30T16:59:59", "2026-03-30"),
        ("2026-03-30T17:00:00", "2026-03-31"),
        ("2026-10-23T17:00:00", "2026-10-26"),  # and back on 25 October
        ("2026-10-26T16:59:59", "2026-10-26"),
        ("2026-10-26T17:00:00", "2026-10-27"),
    ],
)
def test_the_cut_off_is_local_and_days_off_are_left_out(at: str, value_date: str) -> None:
    """In Frankfurt's time, in winter and in summer."""
    assert ValueDates(EUR).of(ms(at, "Europe/Berlin")) == value_date


def test_the_same_instant_has_another_day_elsewhere() -> None:
    """Friday, 2026-11-27, 15:10 UTC: 16:10 in Frankfurt, 10:10 in New York, Saturday 00:10 in Tokyo."""
    at_ms = ms("2026-11-27T15:10:00", "UTC")
    days = {name: ValueDates(ValueDateTerms(calendar=name, cut_off="15:30")).of(at_ms) for name in CALENDARS}
    assert days["t2-2026"] == "2026-11-30"
    assert days["fedwire-2026"] == "2026-11-27"
    assert days["boj-2026"] == "2026-11-30"
    assert days["chaps-2026"] == "2026-11-27"


def test_an_evening_in_new_york_is_still_that_day() -> None:
    """Monday, 21:00 in New York is Tuesday, 02:00 UTC; at 23:00 the next day begins."""
    dates = ValueDates(ValueDateTerms(calendar="fedwire-2026", cut_off="23:00"))
    assert dates.of(ms("2026-11-24T02:00:00", "UTC")) == "2026-11-23"
    assert dates.of(ms("2026-11-24T04:00:00", "UTC")) == "2026-11-24"


def test_more_business_days_are_counted_from_the_first() -> None:
    """Two business days after Wednesday, 30 December 2026 are Monday, 4 January."""
    dates = ValueDates(ValueDateTerms(calendar="t2-2026", cut_off="17:00", days=2))
    assert dates.of(ms("2026-12-30T12:00:00", "Europe/Berlin")) == "2027-01-04"
    assert dates.of(ms("2026-12-30T18:00:00", "Europe/Berlin")) == "2027-01-05"


def test_outside_the_years_of_the_calendar_there_is_no_value_date() -> None:
    """A guess would be taken for a fact."""
    assert ValueDates(EUR).of(ms("2036-01-02T12:00:00", "Europe/Berlin")) == ""
    assert ValueDates(EUR).of(ms("2014-12-31T12:00:00", "Europe/Berlin")) == ""
    assert ValueDates(EUR).of(ms("2035-12-31T17:00:00", "Europe/Berlin")) == ""
    assert ValueDates(EUR).of(ms("2035-12-31T16:59:00", "Europe/Berlin")) == "2035-12-31"


@pytest.mark.parametrize(
    "terms",
    [
        ValueDateTerms(calendar="t2-2026", cut_off="25:00"),
        ValueDateTerms(calendar="t2-2026", cut_off="soon"),
        ValueDateTerms(calendar="t2-2026", cut_off="17:00+01:00"),
        ValueDateTerms(calendar="t2-2026", cut_off="17:00", days=-1),
        ValueDateTerms(calendar="t2-2026", cut_off="17:00", days=DAYS_MAX + 1),
    ],
)
def test_terms_without_sense_are_refused(terms: ValueDateTerms) -> None:
    with pytest.raises(ValueError):
        ValueDates(terms)


def test_an_unknown_calendar_is_named_with_those_that_there_are() -> None:
    with pytest.raises(UnknownCalendarError, match=r"'lunar' is not among t2-2026, chaps-2026"):
        ValueDates(ValueDateTerms(calendar="lunar", cut_off="17:00"))


@given(
    at_ms=st.integers(ms("2015-01-02T00:00", "UTC"), ms("2035-12-01T00:00", "UTC")),
    name=st.sampled_from(sorted(CALENDARS)),
    cut_off=st.sampled_from(["00:00", "00:30", "02:30", "13:00", "17:40", "23:59"]),
    days=st.integers(0, 3),
)
def test_the_kept_answer_is_the_one_worked_out_afresh(at_ms: int, name: str, cut_off: str, days: int) -> None:
    """Against the definition, written down once more: the local day, the next one from the cut-off, then business days."""
    calendar = CALENDARS[name]
    local = datetime.fromtimestamp(at_ms / 1000, UTC).astimezone(ZoneInfo(calendar.zone))
    cut = datetime.combine(local.date(), datetime.strptime(cut_off, "%H:%M").time(), ZoneInfo(calendar.zone))
    day = local.date() if at_ms < round(cut.timestamp() * 1000) else local.date() + timedelta(1)
    left = days
    while not is_business_day(calendar, day) or left:
        left -= is_business_day(calendar, day)
        day += timedelta(1)
    dates = ValueDates(ValueDateTerms(calendar=name, cut_off=cut_off, days=days))
    assert dates.of(at_ms) == day.isoformat()
    assert dates.of(at_ms) == day.isoformat()


def test_more_days_than_are_kept_come_out_as_before() -> None:
    """Twice as many days as are kept, forth and back."""
    dates = ValueDates(EUR)
    start = ms("2026-01-01T10:00:00", "UTC")
    days = [start + day * 86_400_000 for day in range(2 * DAYS_KEPT)]
    there = [dates.of(at_ms) for at_ms in days]
    assert there == [dates.of(at_ms) for at_ms in reversed(days)][::-1]
    assert there[:5] == ["2026-01-02", "2026-01-02", "2026-01-05", "2026-01-05", "2026-01-05"]
