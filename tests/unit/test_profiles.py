"""Profiles: hourly buckets, windows over them, labels; compared with the Fraud Detection Handbook's own features."""

from __future__ import annotations

from bisect import bisect_left
from collections import defaultdict
from pathlib import Path

import msgspec
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.stages import profiles
from pipeline.stages.profiles import (
    CHARGEBACKS_MAX,
    HOUR_MS,
    PAYEE_FEATURES,
    PAYEE_KEEP_HOURS,
    PAYER_FEATURES,
    PAYER_KEEP_HOURS,
    TERMINALS_MAX,
    Profile,
    add_chargeback,
    add_payment,
    payee_features,
    payer_features,
)

HANDBOOK = Path(__file__).resolve().parents[3] / "shared" / "data" / "fdh"
#: Some hour; the numbers below are relative to it.
NOW = 480_000
NOW_MS = NOW * HOUR_MS + 1_234_567


def at(hours_ago: int) -> int:
    """A time within the hour that is ``hours_ago`` before now."""
    return NOW_MS - hours_ago * HOUR_MS


def payer(profile: Profile, at_ms: int = NOW_MS) -> dict[str, int]:
    """Payer's features by name."""
    return dict(zip(PAYER_FEATURES, payer_features(profile, at_ms), strict=True))


def payee(profile: Profile, at_ms: int = NOW_MS) -> dict[str, int]:
    """Payee's features by name."""
    return dict(zip(PAYEE_FEATURES, payee_features(profile, at_ms), strict=True))


def test_an_empty_row_has_no_numbers() -> None:
    """Everything is 0, for payers and payees."""
    assert payer_features(Profile(), NOW_MS) == [0] * 9
    assert payee_features(Profile(), NOW_MS) == [0] * 10


@pytest.mark.parametrize(
    ("hours_ago", "within"),
    [
        (0, {"count_1d", "count_7d", "count_30d"}),
        (23, {"count_1d", "count_7d", "count_30d"}),
        (24, {"count_7d", "count_30d"}),
        (167, {"count_7d", "count_30d"}),
        (168, {"count_30d"}),
        (719, {"count_30d"}),
        (720, set()),
    ],
)
def test_a_payers_window_is_the_current_hour_and_those_before(hours_ago: int, within: set[str]) -> None:
    """24, 168 and 720 clock hours, the current one among them; amounts and terminals have the same windows."""
    profile = Profile()
    add_payment(profile, at(hours_ago), 250, "t", PAYER_KEEP_HOURS)
    found = payer(profile)
    for days in ("1d", "7d", "30d"):
        inside = f"count_{days}" in within
        assert found[f"count_{days}"] == inside
        assert found[f"amount_{days}"] == 250 * inside
        assert found[f"terminals_{days}"] == inside


@pytest.mark.parametrize(
    ("hours_ago", "expected"),
    [
        (0, "count_1h count_1d count_7d count_30d"),
        (1, "count_1h count_1d count_7d count_30d"),
        (2, "count_1d count_7d count_30d"),
        (24, "count_7d count_30d"),
        (168, "count_30d count_30d_delayed"),
        (719, "count_30d count_30d_delayed"),
        (720, "count_30d_delayed"),
        (887, "count_30d_delayed"),
        (888, ""),
    ],
)
def test_a_payees_windows_and_their_labels(hours_ago: int, expected: str) -> None:
    """As for payers, with the current and the previous hour, and 30 days that ended a week ago."""
    profile = Profile()
    add_payment(profile, at(hours_ago), 250, keep_hours=PAYEE_KEEP_HOURS)
    assert add_chargeback(profile, "p1", at(hours_ago))
    found = payee(profile)
    assert " ".join(name for name in PAYEE_FEATURES if name.startswith("count") and found[name]) == expected
    for days in ("7d", "30d", "30d_delayed"):
        assert found[f"chargebacks_{days}"] == found[f"count_{days}"]
    for days in ("1d", "30d"):
        assert found[f"amount_{days}"] == 250 * found[f"count_{days}"]


def test_a_late_payment_goes_into_its_own_hour_and_sees_the_past_only() -> None:
    """Its features are those of its own time: what came later does not count."""
    profile = Profile()
    add_payment(profile, at(30), 1, "a")
    add_payment(profile, at(0), 10, "b")
    add_payment(profile, at(20), 100, "a")
    assert profile.hours == [NOW - 30, NOW - 20, NOW]
    assert (profile.counts, profile.amounts) == ([1, 1, 1], [1, 100, 10])
    assert payer(profile, at(20))["count_1d"] == 2
    assert payer(profile, at(20))["amount_1d"] == 101
    assert payer(profile, at(0))["amount_1d"] == 110
    assert payer(profile, at(0))["terminals_1d"] == 2
    assert profile.terminals == {"a": NOW - 20, "b": NOW}


def test_what_is_too_old_is_dropped_and_not_counted() -> None:
    """A payment 720 hours before the newest one changes nothing, one of 719 hours does."""
    profile = Profile()
    add_payment(profile, at(5), 1, "old", 720)
    add_chargeback(profile, "p-old", at(5), 720)
    add_payment(profile, at(-715), 2, "new", 720)
    assert (profile.hours, profile.terminals, profile.charged_back) == ([NOW + 715], {"new": NOW + 715}, {})
    assert (profile.counts, profile.amounts, profile.chargebacks) == ([1], [2], [0])
    before = msgspec.msgpack.encode(profile)
    assert not add_payment(profile, at(5), 1, "old", 720)
    assert not add_chargeback(profile, "p-old", at(5), 720)
    assert msgspec.msgpack.encode(profile) == before
    assert add_payment(profile, at(4), 1, "old", 720)
    assert profile.hours == [NOW - 4, NOW + 715]


def test_a_chargeback_counts_once() -> None:
    """Posted twice, the second one changes nothing, and says so."""
    profile = Profile()
    add_payment(profile, at(10), 500, keep_hours=PAYEE_KEEP_HOURS)
    assert add_chargeback(profile, "p1", at(10))
    before = msgspec.msgpack.encode(profile)
    assert not add_chargeback(profile, "p1", at(10))
    assert msgspec.msgpack.encode(profile) == before
    assert payee(profile)["chargebacks_7d"] == 1


def test_an_empty_terminal_is_none() -> None:
    """A payment without terminal is counted and names none."""
    profile = Profile()
    add_payment(profile, NOW_MS, 1, "")
    assert profile.terminals == {}
    assert payer(profile)["count_1d"] == 1


def test_terminals_are_bounded_and_the_oldest_go() -> None:
    """The 513th terminal drives out the one that was used longest ago, by name where hours are equal."""
    profile = Profile()
    for number in reversed(range(TERMINALS_MAX + 1)):
        add_payment(profile, at(2 if number == 300 else 1), 1, f"t{number:03}")
    assert len(profile.terminals) == TERMINALS_MAX
    assert "t300" not in profile.terminals
    add_payment(profile, at(0), 1, "another")
    assert "t000" not in profile.terminals
    assert payer(profile)["terminals_1d"] == TERMINALS_MAX


def test_chargebacks_are_bounded_and_the_oldest_go() -> None:
    """The count and the ids that are remembered stay the same number; the payments are all counted."""
    profile = Profile()
    for number in range(CHARGEBACKS_MAX):
        assert add_chargeback(profile, f"p{number:04}", at(1 if number else 2))
    assert add_chargeback(profile, "p-oldest", at(3))
    assert "p-oldest" not in profile.charged_back
    assert add_chargeback(profile, "p-new", at(0))
    assert "p0000" not in profile.charged_back
    assert payee(profile)["chargebacks_7d"] == CHARGEBACKS_MAX == len(profile.charged_back)
    assert sum(profile.chargebacks) == CHARGEBACKS_MAX


def test_a_row_survives_its_encoding() -> None:
    """MessagePack and back, the engine's fields among them; an engine's empty row is a new profile."""
    profile = Profile(version=7, seen={0: 12, 3: 99})
    add_payment(profile, NOW_MS, 1, "t")
    add_chargeback(profile, "p", NOW_MS)
    content = msgspec.msgpack.encode(profile)
    assert msgspec.msgpack.decode(content, type=Profile) == profile
    assert msgspec.msgpack.decode(content)[:2] == [7, {0: 12, 3: 99}]
    assert msgspec.msgpack.decode(msgspec.msgpack.encode([]), type=Profile) == Profile()


def test_rows_share_nothing() -> None:
    """Two new rows are two rows."""
    one, other = Profile(), Profile()
    add_payment(one, NOW_MS, 1, "t")
    add_chargeback(one, "p", NOW_MS)
    one.seen[0] = 1
    assert other == Profile(0, {}, [], [], [], [], {}, {})


Event = tuple[str, int, int, str]
#: Few hours, terminals and payments, so that they meet; a horizon that some of the hours are beyond.
KEEP = 30
payments = st.tuples(st.just("payment"), st.integers(0, 80), st.integers(1, 1000), st.sampled_from(["", *"abcdefgh"]))
#: The hour of a payment is part of what it is: its chargebacks all name the same one.
labels = st.integers(0, 80).map(lambda hour: ("chargeback", hour, 0, f"p{hour}"))
events = st.lists(st.one_of(payments, labels), max_size=60)


def apply(events: list[Event]) -> Profile:
    """A row that was given ``events`` in this order."""
    profile = Profile()
    for kind, hour, amount_minor, name in events:
        if kind == "payment":
            add_payment(profile, hour * HOUR_MS, amount_minor, name, KEEP)
        else:
            add_chargeback(profile, name, hour * HOUR_MS, KEEP)
    return profile


@settings(max_examples=300, deadline=None)
@given(events, st.randoms(use_true_random=False), st.sampled_from([2, 5, 512]))
def test_a_row_does_not_depend_on_the_order_of_events(events: list[Event], random: object, limit: int) -> None:
    """Any order of the same events gives the same row, late and too old ones and limits included."""
    shuffled = list(events)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(profiles, "TERMINALS_MAX", limit)
        patch.setattr(profiles, "CHARGEBACKS_MAX", limit)
        assert apply(shuffled) == apply(events)


@settings(max_examples=200, deadline=None)
@given(events)
def test_buckets_hold_exactly_the_events_within_the_horizon(events: list[Event]) -> None:
    """Counted by hand over the list of events: counts, amounts, terminals, labels, in ascending hours."""
    profile = apply(events)
    newest = max((hour for _, hour, _, _ in events), default=0)
    kept = [event for event in events if event[1] > newest - KEEP]
    hours = sorted({hour for _, hour, _, _ in kept})
    paid = [event for event in kept if event[0] == "payment"]
    assert profile.hours == hours
    assert profile.counts == [sum(1 for event in paid if event[1] == hour) for hour in hours]
    assert profile.amounts == [sum(event[2] for event in paid if event[1] == hour) for hour in hours]
    labelled = {event[3]: event[1] for event in kept if event[0] == "chargeback"}
    assert profile.charged_back == labelled
    assert profile.chargebacks == [sum(1 for other in labelled.values() if other == hour) for hour in hours]
    assert profile.terminals == {
        name: max(event[1] for event in paid if event[3] == name) for name in {event[3] for event in paid} - {""}
    }


# The handbook's windows end at the second of the payment, ours begin at a full hour: what lies between is looked up.

EPOCH_S = 1_522_540_800  # 2018-04-01, TX_TIME_SECONDS 0
DAY_S = 86_400


def rows_of(name: str, column: str, numbers: list[int]) -> list[dict[str, object]]:
    """The handbook's rows about these customers or terminals, in order of time; skips where it is not there."""
    path = HANDBOOK / name
    if not path.exists():
        pytest.skip(f"shared/data/fdh/{name} is not there")
    table = pq.read_table(path, filters=pc.field(column).isin(numbers))
    return table.sort_by("TX_TIME_SECONDS").to_pylist()


def between(times: list[int], after: int, before: int) -> int:
    """How many of the sorted ``times`` are in (after, before)."""
    return max(0, bisect_left(times, before) - bisect_left(times, after + 1))


def test_a_payers_counts_are_the_handbooks() -> None:
    """Counts over 1, 7 and 30 days of 150 customers are the handbook's, but for what its window has before ours."""
    customers = list(range(100, 250))
    wanted = {
        row["TRANSACTION_ID"]: row for row in rows_of("features_2018-08-08_to_14.parquet", "CUSTOMER_ID", customers)
    }
    rows: dict[int, Profile] = defaultdict(Profile)
    times: dict[int, list[int]] = defaultdict(list)
    compared = 0
    for row in rows_of("transactions.parquet", "CUSTOMER_ID", customers):
        customer, seconds = int(row["CUSTOMER_ID"]), int(row["TX_TIME_SECONDS"])  # type: ignore[call-overload]
        times[customer].append(seconds)
        at_ms = (EPOCH_S + seconds) * 1000
        amount_minor = round(float(row["TX_AMOUNT"]) * 100)  # type: ignore[arg-type]
        add_payment(rows[customer], at_ms, amount_minor, str(row["TERMINAL_ID"]))
        theirs = wanted.get(row["TRANSACTION_ID"])
        if theirs is None:
            continue
        found = payer(rows[customer], at_ms)
        hour_began = seconds // 3600 * 3600
        for days in (1, 7, 30):
            ours_begins = hour_began - (24 * days - 1) * 3600
            missing = between(times[customer], seconds - days * DAY_S, ours_begins)
            assert found[f"count_{days}d"] + missing == theirs[f"CUSTOMER_ID_NB_TX_{days}DAY_WINDOW"]
            if not missing:
                mean = theirs[f"CUSTOMER_ID_AVG_AMOUNT_{days}DAY_WINDOW"]
                assert found[f"amount_{days}d"] / 100 / found[f"count_{days}d"] == pytest.approx(mean)
        compared += 1
    assert compared > 1_000


def test_a_payees_delayed_counts_and_labels_are_the_handbooks() -> None:
    """30 days that ended a week ago, for 100 terminals with frauds: payments and frauds are those of the handbook."""
    features = "features_2018-08-08_to_14.parquet"
    terminals = sorted({int(row["TERMINAL_ID"]) for row in rows_of(features, "TX_FRAUD", [1])})[:100]  # type: ignore[call-overload]
    wanted = {row["TRANSACTION_ID"]: row for row in rows_of(features, "TERMINAL_ID", terminals)}
    rows: dict[int, Profile] = defaultdict(Profile)
    times: dict[int, list[int]] = defaultdict(list)
    frauds: dict[int, list[int]] = defaultdict(list)
    compared = labelled = 0
    for row in rows_of("transactions.parquet", "TERMINAL_ID", terminals):
        terminal, seconds = int(row["TERMINAL_ID"]), int(row["TX_TIME_SECONDS"])  # type: ignore[call-overload]
        at_ms = (EPOCH_S + seconds) * 1000
        times[terminal].append(seconds)
        add_payment(rows[terminal], at_ms, 1, keep_hours=PAYEE_KEEP_HOURS)
        if row["TX_FRAUD"]:
            frauds[terminal].append(seconds)
            add_chargeback(rows[terminal], str(row["TRANSACTION_ID"]), at_ms)
        theirs = wanted.get(row["TRANSACTION_ID"])
        if theirs is None:
            continue
        found = payee(rows[terminal], at_ms)
        hour_began = seconds // 3600 * 3600
        count = theirs["TERMINAL_ID_NB_TX_30DAY_WINDOW"]
        fraud_count = round(float(count) * float(theirs["TERMINAL_ID_RISK_30DAY_WINDOW"]))  # type: ignore[arg-type]
        for name, of, expected in (("count", times, count), ("chargebacks", frauds, fraud_count)):
            # Before ours begins, and after theirs has ended, within the hour a week ago.
            missing = between(of[terminal], seconds - 37 * DAY_S, hour_began - 887 * 3600)
            more = between(of[terminal], seconds - 7 * DAY_S, hour_began - 167 * 3600)
            assert found[f"{name}_30d_delayed"] + missing - more == expected
        compared += 1
        labelled += fraud_count > 0
    assert compared > 500
    assert labelled > 100
