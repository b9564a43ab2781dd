"""Profiles: hourly buckets, windows over them, labels; compared with the Fraud Detection Handbook's own features."""

from __future__ import annotations

from bisect import bisect_left
from collections import defaultdict
from pathlib import Path
from typing import Any

import msgspec
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.stages import profiles
from pipeline.stages.features import PAYEE_FEATURES, PAYER_FEATURES
from pipeline.stages.profiles import (
    CARDS_MAX,
    CHARGEBACKS_MAX,
    CREDITS_KEEP_HOURS,
    CREDITS_MAX,
    HOUR_MS,
    PAYEE_KEEP_HOURS,
    PAYER_WINDOWS,
    SMALL_AMOUNT_MINOR,
    TERMINALS_MAX,
    PayeeProfile,
    PayerProfile,
    add_chargeback,
    add_credit,
    add_payee_payment,
    add_payer_payment,
    log_of,
    payee_features,
    payer_windows,
    tag_of,
)
from pipeline.stages.windows import DAY_HOURS

HANDBOOK = Path(__file__).resolve().parents[3] / "shared" / "data" / "fdh"
#: Some hour; the numbers below are relative to it.
NOW = 480_000
NOW_MS = NOW * HOUR_MS + 1_234_567


def at(hours_ago: int) -> int:
    """A time within the hour that is ``hours_ago`` before now."""
    return NOW_MS - hours_ago * HOUR_MS


def payer(profile: PayerProfile, at_ms: int = NOW_MS) -> dict[str, int]:
    """Payer's facts by name, but for those about one payment."""
    return dict(zip(PAYER_FEATURES[:PAYER_WINDOWS], payer_windows(profile, at_ms), strict=True))


def pay(
    profile: PayerProfile, at_ms: int, amount_minor: int = 1000, terminal: str = "t", **more: Any
) -> dict[str, int]:
    """Count a payment of the payer; its facts by name."""
    facts = add_payer_payment(profile, at_ms, amount_minor, terminal=terminal, **more)
    return dict(zip(PAYER_FEATURES, facts, strict=True))


def payee(profile: PayeeProfile, at_ms: int = NOW_MS) -> dict[str, int]:
    """Payee's features by name."""
    return dict(zip(PAYEE_FEATURES, payee_features(profile, at_ms), strict=True))


def test_an_empty_row_has_no_numbers() -> None:
    """Everything is 0, for payers and payees."""
    assert payer_windows(PayerProfile(), NOW_MS) == [0] * PAYER_WINDOWS
    assert payee_features(PayeeProfile(), NOW_MS) == [0] * len(PAYEE_FEATURES)


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
    profile = PayerProfile()
    pay(profile, at(hours_ago), 250)
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
        (167, "count_7d count_30d"),
        (168, "count_30d count_30d_delayed count_1d_delayed count_7d_delayed"),
        (191, "count_30d count_30d_delayed count_1d_delayed count_7d_delayed"),
        (192, "count_30d count_30d_delayed count_7d_delayed"),
        (335, "count_30d count_30d_delayed count_7d_delayed"),
        (336, "count_30d count_30d_delayed"),
        (719, "count_30d count_30d_delayed"),
        (720, "count_30d_delayed"),
        (887, "count_30d_delayed"),
        (888, ""),
    ],
)
def test_a_payees_windows_and_their_labels(hours_ago: int, expected: str) -> None:
    """As for payers, with the current and the previous hour, and 30 days that ended a week ago."""
    profile = PayeeProfile()
    add_payee_payment(profile, at(hours_ago), 250)
    assert add_chargeback(profile, "p1", at(hours_ago))
    found = payee(profile)
    assert " ".join(name for name in PAYEE_FEATURES if name.startswith("count") and found[name]) == expected
    for days in ("7d", "30d", "1d_delayed", "7d_delayed", "30d_delayed"):
        assert found[f"chargebacks_{days}"] == found[f"count_{days}"]
    for days in ("1d", "30d"):
        assert found[f"amount_{days}"] == 250 * found[f"count_{days}"]


def test_a_late_payment_goes_into_its_own_hour_and_sees_the_past_only() -> None:
    """Its features are those of its own time: what came later does not count."""
    profile = PayerProfile()
    pay(profile, at(30), 1, "a")
    pay(profile, at(0), 10, "b")
    late = pay(profile, at(20), 100, "a")
    assert profile.hours == [NOW - 30, NOW - 20, NOW]
    assert (profile.counts, profile.amounts) == ([1, 1, 1], [1, 100, 10])
    assert (late["count_1d"], late["amount_1d"]) == (2, 101)
    assert late["since_last_s"] == -1  # The one before it is not known any more.
    assert payer(profile, at(0))["amount_1d"] == 110
    assert payer(profile, at(0))["terminals_1d"] == 2
    assert profile.terminals == {"a": NOW - 20, "b": NOW}


def test_what_is_too_old_is_dropped_and_not_counted() -> None:
    """A payment 720 hours before the newest one is not counted, one of 719 hours is."""
    profile = PayerProfile()
    pay(profile, at(5), 1, "old", card="c-old", country="DE")
    pay(profile, at(-715), 2, "new", country="FR")
    assert (profile.hours, profile.counts, profile.amounts, profile.cards) == ([NOW + 715], [1], [2], {})
    assert pay(profile, at(5), 1, "old")["count_30d"] == 0
    assert (profile.hours, profile.counts) == ([NOW + 715], [1])
    assert payer(profile, at(-715))["terminals_30d"] == 1
    assert pay(profile, at(4), 1, "old")["count_30d"] == 1
    assert profile.hours == [NOW - 4, NOW + 715]


def test_a_payees_old_payments_and_labels_are_dropped() -> None:
    """888 hours before the newest one neither counts any more."""
    profile = PayeeProfile()
    add_payee_payment(profile, at(5), 1, card="c", new_payer=True)
    add_chargeback(profile, "p-old", at(5))
    add_payee_payment(profile, at(5 - PAYEE_KEEP_HOURS), 2, card="d")
    assert (profile.hours, profile.charged_back, profile.chargebacks) == ([NOW - 5 + PAYEE_KEEP_HOURS], {}, [0])
    assert (profile.counts, profile.amounts, profile.new_payers, list(profile.cards)) == ([1], [2], [0], ["d"])
    assert not add_payee_payment(profile, at(5), 1)
    assert not add_chargeback(profile, "p-old", at(5))


def test_a_chargeback_counts_once() -> None:
    """Posted twice, the second one changes nothing, and says so."""
    profile = PayeeProfile()
    add_payee_payment(profile, at(10), 500)
    assert add_chargeback(profile, "p1", at(10))
    before = msgspec.msgpack.encode(profile)
    assert not add_chargeback(profile, "p1", at(10))
    assert msgspec.msgpack.encode(profile) == before
    assert payee(profile)["chargebacks_7d"] == 1


def test_what_has_no_name_is_not_counted_as_different() -> None:
    """A payment without terminal, card or country is counted, names none and is suspected of nothing."""
    profile = PayerProfile()
    pay(profile, at(1), terminal="t", card="c", country="DE", home="DE")
    facts = pay(profile, NOW_MS, terminal="")
    assert (profile.terminals, profile.cards, profile.countries) == ({"t": NOW - 1}, {"c": NOW - 1}, {"DE": NOW - 1})
    assert facts["count_1d"] == 2
    for name in ("payee_new", "country_mismatch", "country_changed", "country_new"):
        assert facts[name] == 0


def test_terminals_are_bounded_and_the_oldest_are_not_counted() -> None:
    """However many there were, the number of different ones ends at the limit, and so does what is kept, about."""
    profile = PayerProfile()
    for number in range(3 * TERMINALS_MAX):
        pay(profile, at(2 if number < TERMINALS_MAX else 1), 1, f"t{number:04}")
    assert payer(profile)["terminals_1d"] == TERMINALS_MAX
    assert len(profile.terminals) <= TERMINALS_MAX * 5 // 4
    assert not any(hour == NOW - 2 for hour in sorted(profile.terminals.values())[-TERMINALS_MAX:])


def test_cards_are_bounded_and_kept_for_a_week() -> None:
    """At a payee: at most the limit is told; after 7 days a card is as good as new."""
    profile = PayeeProfile()
    for number in range(2 * CARDS_MAX):
        add_payee_payment(profile, at(30), 1, card=f"c{number}")
    assert payee(profile, at(30))["cards_1d"] == CARDS_MAX
    add_payee_payment(profile, at(0), 1, card="again")
    assert (payee(profile)["cards_1d"], payee(profile)["cards_7d"]) == (1, CARDS_MAX)
    add_payee_payment(profile, at(-8 * DAY_HOURS), 1, card="later")
    assert list(profile.cards) == ["later"]


def test_chargebacks_are_bounded_and_the_oldest_go() -> None:
    """The count and the ids that are remembered stay the same number; the payments are all counted."""
    profile = PayeeProfile()
    for number in range(CHARGEBACKS_MAX):
        assert add_chargeback(profile, f"p{number:04}", at(1 if number else 2))
    assert add_chargeback(profile, "p-oldest", at(3))
    assert "p-oldest" not in profile.charged_back
    assert add_chargeback(profile, "p-new", at(0))
    assert "p0000" not in profile.charged_back
    assert payee(profile)["chargebacks_7d"] == CHARGEBACKS_MAX == len(profile.charged_back)
    assert sum(profile.chargebacks) == CHARGEBACKS_MAX


# -- money that came in for a payer -----------------------------------------------------------------------------------


def credit(profile: PayerProfile, hours_ago: int, amount_minor: int, name: str = "") -> bool:
    """Money came in."""
    return add_credit(profile, name or f"{hours_ago} {amount_minor}", at(hours_ago), amount_minor)


def in_and_out(facts: dict[str, int]) -> tuple[int, int]:
    """What came in within a day, and what of it was paid on."""
    return facts["credited_1d"], facts["passed_on_1d"]


def test_what_came_in_is_paid_on_first() -> None:
    """By hand: 1,000 come in, 800 go out, 500 come in, 900 are asked for: 700 are left of 1,500, and all of them go."""
    profile = PayerProfile()
    assert credit(profile, 3, 1000)
    assert in_and_out(pay(profile, at(2), 800)) == (1000, 800)
    assert credit(profile, 1, 500)
    assert in_and_out(pay(profile, at(0), 900)) == (1500, 1500)
    assert in_and_out(pay(profile, at(0), 5000)) == (1500, 1500)


def test_what_was_paid_before_it_came_in_was_not_passed_on() -> None:
    """Only what is paid in or after the hour in which it came in; in that hour the order is not known."""
    profile = PayerProfile()
    assert in_and_out(pay(profile, at(5), 900)) == (0, 0)
    credit(profile, 4, 1000)
    assert in_and_out(pay(profile, at(4), 100)) == (1000, 100)
    assert in_and_out(pay(profile, at(4), 250)) == (1000, 350)


@pytest.mark.parametrize(("hours_ago", "within"), [(0, True), (23, True), (24, False), (-1, False)])
def test_what_came_in_counts_for_a_day(hours_ago: int, within: bool) -> None:
    """The current clock hour and the 23 before it, and no later one."""
    profile = PayerProfile()
    credit(profile, hours_ago, 1000)
    assert in_and_out(pay(profile, NOW_MS, 600)) == ((1000, 600) if within else (0, 0))


def test_a_payment_comes_in_once() -> None:
    """Told again it changes nothing, in whichever hour."""
    profile = PayerProfile()
    assert credit(profile, 3, 1000, "p1")
    before = msgspec.msgpack.encode(profile)
    assert not credit(profile, 3, 1000, "p1")
    assert msgspec.msgpack.encode(profile) == before


def test_what_came_in_is_bounded() -> None:
    """By time and by number, the oldest go; and a row that does not change says so."""
    profile = PayerProfile()
    for number in range(CREDITS_MAX):
        assert credit(profile, 2, 1, f"p{number:03}")
    assert not credit(profile, 3, 1, "older")
    assert credit(profile, 1, 1, "newer")
    assert len(profile.credits) == CREDITS_MAX
    assert "p000" not in profile.credits
    assert len(msgspec.msgpack.encode(profile)) < 3 << 10
    assert credit(profile, 1 - CREDITS_KEEP_HOURS, 1, "later")
    assert list(profile.credits) == ["later"]
    assert not credit(profile, 1, 1, "too old")


# -- what is known of one payment -------------------------------------------------------------------------------------


def test_the_time_since_the_last_payment() -> None:
    """Seconds; nothing for the first one and for one that comes late. It outlives the 30 days."""
    profile = PayerProfile()
    assert pay(profile, NOW_MS)["since_last_s"] == -1
    assert pay(profile, NOW_MS + 90_500)["since_last_s"] == 90
    assert pay(profile, NOW_MS + 1_000)["since_last_s"] == -1
    assert pay(profile, at(-40 * DAY_HOURS))["since_last_s"] == 40 * 86_400 - 91


def test_a_payee_is_new_after_30_days_without_a_payment() -> None:
    """The first payment at a terminal, and one after 720 hours; another terminal makes no difference."""
    profile = PayerProfile()
    assert pay(profile, at(0), terminal="a")["payee_new"] == 1
    assert pay(profile, at(0), terminal="a")["payee_new"] == 0
    assert pay(profile, at(-1), terminal="b")["payee_new"] == 1
    assert pay(profile, at(-719), terminal="a")["payee_new"] == 0
    assert pay(profile, at(-719 - 720), terminal="a")["payee_new"] == 1


def test_countries() -> None:
    """Another than the payer's own; another than before; one in which the payer, who paid elsewhere, did not pay lately."""
    profile = PayerProfile()

    def found(hours_ago: int, country: str, home: str = "DE") -> tuple[int, int, int]:
        facts = pay(profile, at(hours_ago), country=country, home=home)
        return facts["country_mismatch"], facts["country_changed"], facts["country_new"]

    assert found(100, "DE") == (0, 0, 0)
    assert found(90, "FR") == (1, 1, 1)
    assert found(80, "FR") == (1, 0, 0)
    assert found(70, "DE") == (0, 1, 0)
    assert found(60, "DE", "") == (0, 0, 0)
    # After 30 days nothing is known to differ from, but where the payer was last.
    assert found(60 - 721, "IT") == (1, 1, 0)


def test_small_payments_are_counted() -> None:
    """At most 5.00 of a currency with two decimals, at payer and payee, in two clock hours and in a day."""
    of_payer, of_payee = PayerProfile(), PayeeProfile()
    for hours_ago, amount_minor in (
        (3, SMALL_AMOUNT_MINOR),
        (1, 1),
        (0, SMALL_AMOUNT_MINOR),
        (0, SMALL_AMOUNT_MINOR + 1),
    ):
        pay(of_payer, at(hours_ago), amount_minor)
        add_payee_payment(of_payee, at(hours_ago), amount_minor)
    for found in (payer(of_payer), payee(of_payee)):
        assert (found["small_1h"], found["small_1d"], found["count_1h"], found["count_1d"]) == (2, 3, 3, 4)


def test_new_payers_are_counted_where_they_pay() -> None:
    """Payments whose payer was new at this payee, in a day and in 7 days."""
    profile = PayeeProfile()
    for hours_ago, new in ((100, True), (50, False), (23, True), (0, True), (0, False)):
        add_payee_payment(profile, at(hours_ago), 1, new_payer=new)
    assert (payee(profile)["new_payers_1d"], payee(profile)["new_payers_7d"]) == (2, 3)


def test_an_amount_deviates_from_what_is_usual() -> None:
    """By hand: logarithms to base 2 in 64ths; four payments of 16, 16, 64 and 64 have mean 5 and deviation 1 (doublings)."""
    profile = PayerProfile()
    for number, amount_minor in enumerate((16, 16, 64, 64)):
        assert pay(profile, at(10 - number), amount_minor)["amount_z_milli"] == 0 or number == 3
    assert pay(profile, at(5), 32)["amount_z_milli"] == 0
    profile = PayerProfile()
    for number, amount_minor in enumerate((16, 16, 64, 64)):
        pay(profile, at(10 - number), amount_minor)
    assert pay(profile, at(5), 256)["amount_z_milli"] == 3000
    # Always the same: the deviation is taken as a tenth of a doubling, and what is told ends at 20.
    profile = PayerProfile()
    for number in range(5):
        pay(profile, at(10 - number), 100)
    assert pay(profile, at(0), 200)["amount_z_milli"] == 10_000
    assert pay(profile, at(0), 10**9)["amount_z_milli"] == 20_000


def test_the_payers_cards() -> None:
    """Different instruments in a day and in 7 days."""
    profile = PayerProfile()
    for hours_ago, card in ((100, "a"), (90, "b"), (5, "b"), (0, "c")):
        pay(profile, at(hours_ago), card=card)
    assert (payer(profile)["cards_1d"], payer(profile)["cards_7d"]) == (2, 3)


def test_tags_are_short_and_tell_names_apart() -> None:
    """Eight characters, the same for the same name, and no part of it."""
    tags = {tag_of(f"tok_{number}".encode()) for number in range(20_000)}
    assert len(tags) == 20_000
    assert {len(tag) for tag in tags} == {8}


def test_logarithms() -> None:
    """64 steps a doubling, from 1 on; what is no amount has none."""
    assert [log_of(amount) for amount in (0, 1, 2, 4, 1024)] == [0, 1, 65, 129, 641]


def test_a_row_of_an_earlier_version_goes_on() -> None:
    """Stored with the first eight fields: what is new begins at zero, what was counted stays; no deviation is made up."""
    stored = msgspec.msgpack.encode([5, {0: 1}, [NOW - 2, NOW - 1], [3, 2], [30, 20], [0, 0], {"term": NOW - 1}, {}])
    row = msgspec.msgpack.decode(stored, type=PayerProfile)
    facts = pay(row, NOW_MS, 10)
    assert (facts["count_1d"], facts["amount_1d"], facts["terminals_1d"]) == (6, 60, 2)
    assert (facts["small_1d"], facts["amount_z_milli"], facts["since_last_s"]) == (1, 0, -1)
    assert (row.smalls, row.logs) == ([0, 0, 1], [0, 0, log_of(10)])
    stored = msgspec.msgpack.encode([5, {0: 1}, [NOW - 2, NOW - 1], [3, 2], [30, 20], [1, 0], {}, {"p": NOW - 2}])
    other = msgspec.msgpack.decode(stored, type=PayeeProfile)
    add_payee_payment(other, NOW_MS, 10, new_payer=True)
    assert (payee(other)["count_1d"], payee(other)["chargebacks_7d"], payee(other)["new_payers_1d"]) == (6, 1, 1)


@pytest.mark.parametrize("kind", [PayerProfile, PayeeProfile])
def test_a_row_survives_its_encoding(kind: type[PayerProfile] | type[PayeeProfile]) -> None:
    """MessagePack and back, the engine's fields among them; an engine's empty row is a new profile."""
    profile = kind(version=7, seen={0: 12, 3: 99})
    if isinstance(profile, PayerProfile):
        pay(profile, NOW_MS, 1, "t", card="c", country="DE", home="FR")
        credit(profile, 1, 100)
    else:
        add_payee_payment(profile, NOW_MS, 1, card="c", new_payer=True)
        add_chargeback(profile, "p", NOW_MS)
    content = msgspec.msgpack.encode(profile)
    assert msgspec.msgpack.decode(content, type=kind) == profile
    assert msgspec.msgpack.decode(content)[:2] == [7, {0: 12, 3: 99}]
    assert msgspec.msgpack.decode(msgspec.msgpack.encode([]), type=kind) == kind()


def test_rows_share_nothing() -> None:
    """Two new rows are two rows."""
    one, other = PayerProfile(), PayerProfile()
    pay(one, NOW_MS, 1, "t", card="c", country="DE")
    credit(one, 1, 100)
    assert other == PayerProfile()
    third, fourth = PayeeProfile(), PayeeProfile()
    add_payee_payment(third, NOW_MS, 1, card="c")
    add_chargeback(third, "p", NOW_MS)
    assert fourth == PayeeProfile()


Event = tuple[str, int, int, str]
#: Few hours, terminals and payments, so that they meet; a horizon that some of the hours are beyond.
KEEP = 30
payments = st.tuples(st.just("payment"), st.integers(0, 80), st.integers(1, 1000), st.sampled_from(["", *"abcdefgh"]))
#: The hour of a payment is part of what it is: its chargebacks all name the same one.
labels = st.integers(0, 80).map(lambda hour: ("chargeback", hour, 0, f"p{hour}"))
#: So are the hour and the amount of money that came in.
credits = st.tuples(st.integers(0, 80), st.integers(1, 3)).map(lambda of: ("credit", *of, f"{of[0]}-{of[1]}"))
events = st.lists(st.one_of(payments, labels), max_size=60)
events_and_credits = st.lists(st.one_of(payments, labels, credits), max_size=60)


def apply(events: list[Event], row: PayerProfile | PayeeProfile) -> PayerProfile | PayeeProfile:
    """``row`` after it was given ``events`` in this order."""
    for kind, hour, amount_minor, name in events:
        at_ms = hour * HOUR_MS + len(name)
        if isinstance(row, PayerProfile):
            if kind == "payment":
                country = name.upper()
                pay(row, at_ms, amount_minor, name, card=name, country=country, home="A", keep_hours=KEEP)
            elif kind == "credit":
                add_credit(row, name, at_ms, amount_minor)
        elif kind == "payment":
            add_payee_payment(row, at_ms, amount_minor, card=name, new_payer=amount_minor % 2 == 0, keep_hours=KEEP)
        elif kind == "chargeback":
            add_chargeback(row, name, at_ms, KEEP)
    return row


def told(row: PayerProfile | PayeeProfile, limit: int) -> object:
    """All that a row tells: what it remembers beyond a limit is told by nothing."""
    for names in (row.terminals, row.cards, *([row.countries] if isinstance(row, PayerProfile) else [])):
        newest = sorted((hour, name) for name, hour in names.items())[-limit:]
        names.clear()
        names.update((name, hour) for hour, name in newest)
    return row


@settings(max_examples=300, deadline=None)
@given(events_and_credits, st.randoms(use_true_random=False), st.sampled_from([2, 5, 512]), st.booleans())
def test_a_row_does_not_depend_on_the_order_of_events(
    events: list[Event], random: object, limit: int, of_payer: bool
) -> None:
    """Any order of the same events gives the same row, late and too old ones and limits included."""
    kind = PayerProfile if of_payer else PayeeProfile
    shuffled = list(events)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    with pytest.MonkeyPatch.context() as patch:
        for name in ("TERMINALS_MAX", "CHARGEBACKS_MAX", "CARDS_MAX", "COUNTRIES_MAX", "CREDITS_MAX"):
            patch.setattr(profiles, name, limit)
        one, other = apply(shuffled, kind()), apply(events, kind())
        at_ms = max((hour for _, hour, _, _ in events), default=0) * HOUR_MS
        if isinstance(one, PayerProfile) and isinstance(other, PayerProfile):
            assert payer_windows(one, at_ms) == payer_windows(other, at_ms)
            last = pay(one, at_ms, 7), pay(other, at_ms, 7)
            assert in_and_out(last[0]) == in_and_out(last[1])
        elif isinstance(one, PayeeProfile) and isinstance(other, PayeeProfile):
            assert payee_features(one, at_ms) == payee_features(other, at_ms)
        assert told(one, limit) == told(other, limit)


@settings(max_examples=200, deadline=None)
@given(events)
def test_buckets_hold_exactly_the_events_within_the_horizon(events: list[Event]) -> None:
    """Counted by hand over the list of events: counts, amounts, terminals, labels, in ascending hours."""
    profile = apply(events, PayeeProfile())
    assert isinstance(profile, PayeeProfile)
    newest = max((hour for _, hour, _, _ in events), default=0)
    kept = [event for event in events if event[1] > newest - KEEP]
    hours = sorted({hour for _, hour, _, _ in kept})
    paid = [event for event in kept if event[0] == "payment"]
    assert profile.hours == hours
    assert profile.counts == [sum(1 for event in paid if event[1] == hour) for hour in hours]
    assert profile.amounts == [sum(event[2] for event in paid if event[1] == hour) for hour in hours]
    assert profile.new_payers == [sum(1 for event in paid if event[1] == hour and event[2] % 2 == 0) for hour in hours]
    labelled = {event[3]: event[1] for event in kept if event[0] == "chargeback"}
    assert profile.charged_back == labelled
    assert profile.chargebacks == [sum(1 for other in labelled.values() if other == hour) for hour in hours]
    payments = [event for event in events if event[0] == "payment"]
    row = apply(payments, PayerProfile())
    assert isinstance(row, PayerProfile)
    newest = max((hour for _, hour, _, _ in payments), default=0)
    # Names are forgotten at midnight: those of the hours since then, and of the horizon before it.
    midnight = newest - newest % DAY_HOURS
    used = {name: max(event[1] for event in payments if event[3] == name) for name in {e[3] for e in payments} - {""}}
    assert row.terminals == {name: hour for name, hour in used.items() if hour > midnight - KEEP}


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
    rows: dict[int, PayerProfile] = defaultdict(PayerProfile)
    times: dict[int, list[int]] = defaultdict(list)
    compared = 0
    for row in rows_of("transactions.parquet", "CUSTOMER_ID", customers):
        customer, seconds = int(row["CUSTOMER_ID"]), int(row["TX_TIME_SECONDS"])  # type: ignore[call-overload]
        times[customer].append(seconds)
        at_ms = (EPOCH_S + seconds) * 1000
        amount_minor = round(float(row["TX_AMOUNT"]) * 100)  # type: ignore[arg-type]
        found = pay(rows[customer], at_ms, amount_minor, str(row["TERMINAL_ID"]))
        theirs = wanted.get(row["TRANSACTION_ID"])
        if theirs is None:
            continue
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
    """1, 7 and 30 days that ended a week ago, for 100 terminals with frauds: payments and frauds are those of the handbook."""
    features = "features_2018-08-08_to_14.parquet"
    terminals = sorted({int(row["TERMINAL_ID"]) for row in rows_of(features, "TX_FRAUD", [1])})[:100]  # type: ignore[call-overload]
    wanted = {row["TRANSACTION_ID"]: row for row in rows_of(features, "TERMINAL_ID", terminals)}
    rows: dict[int, PayeeProfile] = defaultdict(PayeeProfile)
    times: dict[int, list[int]] = defaultdict(list)
    frauds: dict[int, list[int]] = defaultdict(list)
    compared = labelled = 0
    for row in rows_of("transactions.parquet", "TERMINAL_ID", terminals):
        terminal, seconds = int(row["TERMINAL_ID"]), int(row["TX_TIME_SECONDS"])  # type: ignore[call-overload]
        at_ms = (EPOCH_S + seconds) * 1000
        times[terminal].append(seconds)
        add_payee_payment(rows[terminal], at_ms, 1)
        if row["TX_FRAUD"]:
            frauds[terminal].append(seconds)
            add_chargeback(rows[terminal], str(row["TRANSACTION_ID"]), at_ms)
        theirs = wanted.get(row["TRANSACTION_ID"])
        if theirs is None:
            continue
        found = payee(rows[terminal], at_ms)
        hour_began = seconds // 3600 * 3600
        for days in (1, 7, 30):
            count = theirs[f"TERMINAL_ID_NB_TX_{days}DAY_WINDOW"]
            fraud_count = round(float(count) * float(theirs[f"TERMINAL_ID_RISK_{days}DAY_WINDOW"]))  # type: ignore[arg-type]
            for name, of, expected in (("count", times, count), ("chargebacks", frauds, fraud_count)):
                # Before ours begins, and after theirs has ended, within the hour a week ago.
                missing = between(of[terminal], seconds - (7 + days) * DAY_S, hour_began - (167 + 24 * days) * 3600)
                more = between(of[terminal], seconds - 7 * DAY_S, hour_began - 167 * 3600)
                assert found[f"{name}_{days}d_delayed"] + missing - more == expected
        compared += 1
        labelled += fraud_count > 0
    assert compared > 500
    assert labelled > 100
