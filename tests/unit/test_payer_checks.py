"""Limits per payer and counters of authentication."""

from __future__ import annotations

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from pipeline.stages.localities.sca import ScaCounters
from pipeline.stages.payer_checks import (
    LIMITS_MAX,
    NO_USE,
    PERIODS_KEPT,
    LimitReached,
    PayerUse,
    Within,
    check_payer,
)
from schemas.records import PayerChecks, PayerLimit


def pay(use: PayerUse, *limits: PayerLimit, amount_minor: int = 100, currency: str = "EUR") -> Within | LimitReached:
    return check_payer(PayerChecks(limits=list(limits)), use, amount_minor=amount_minor, currency=currency)


def used(use: PayerUse, *limits: PayerLimit, amount_minor: int = 100, currency: str = "EUR") -> PayerUse:
    answer = pay(use, *limits, amount_minor=amount_minor, currency=currency)
    assert isinstance(answer, Within)
    return answer.use


def test_a_count_is_reached_after_as_many_payments() -> None:
    """Two a day: the third is rejected, the next day's first is not."""
    limit = PayerLimit(rule="two", period=10, max_count=2)
    use = used(used(NO_USE, limit), limit)
    reached = pay(use, limit)
    assert isinstance(reached, LimitReached)
    assert (reached.reason, reached.rule) == ("payer_limit_reached", "two")
    assert reached.detail == "payment 3 of the payer is above the 2 of rule two"
    assert isinstance(pay(use, msgspec.structs.replace(limit, period=11)), Within)


def test_a_sum_is_per_currency_and_a_limit_itself_is_allowed() -> None:
    """100 and 50 of EUR reach 150, and CHF count apart."""
    limit = PayerLimit(rule="sum", period=1, max_minor=150)
    use = used(used(used(NO_USE, limit), limit, amount_minor=50), limit, amount_minor=150, currency="CHF")
    assert isinstance(pay(use, limit, amount_minor=1), LimitReached)


def test_a_rejected_payment_counts_for_nothing() -> None:
    """Not for the limit that it reached, and not for the one before it."""
    first = PayerLimit(rule="first", period=1, max_count=5)
    second = PayerLimit(rule="second", period=1, max_count=1)
    use = used(NO_USE, first, second)
    assert isinstance(pay(use, first, second), LimitReached)
    assert use.limits["first"][0].count == 1


def test_a_payment_that_comes_late_counts_in_its_own_period() -> None:
    """The period before is kept; one before that is not known any more, and lets pass."""
    limits = [PayerLimit(rule="r", period=period, max_count=1) for period in (1, 2, 3)]
    use = used(used(NO_USE, limits[0]), limits[1])
    assert isinstance(pay(use, limits[0]), LimitReached)
    use = used(use, limits[2])
    assert used(use, limits[0]) == use
    assert [period.period for period in use.limits["r"]] == [2, 3]


@given(st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 9), st.integers(1, 50)), max_size=60))
def test_counters_never_pass_their_limit(payments: list[tuple[str, int, int]]) -> None:
    """Whatever comes in which order: what is kept is within the limit, and little."""
    use = NO_USE
    for rule, period, amount_minor in payments:
        answer = pay(use, PayerLimit(rule=rule, period=period, max_count=3, max_minor=100), amount_minor=amount_minor)
        use = answer.use if isinstance(answer, Within) else use
    for periods in use.limits.values():
        assert len(periods) <= PERIODS_KEPT
        assert [used.period for used in periods] == sorted({used.period for used in periods})
        assert all(used.count <= 3 and used.sums_minor["EUR"] <= 100 for used in periods)


def test_a_row_stays_small() -> None:
    """The limit whose period is the oldest is forgotten."""
    use = NO_USE
    for number in range(LIMITS_MAX + 5):
        use = used(use, PayerLimit(rule=f"r{number}", period=number, max_count=1))
    assert len(use.limits) == LIMITS_MAX
    assert "r4" not in use.limits
    assert "r5" in use.limits


def counted(share_ppm: int = 250_000) -> PayerChecks:
    return PayerChecks(sca="counted", sca_basis="article_16", sca_share_ppm=share_ppm, sca_count=5, sca_counter="both")


def test_low_value_is_exempt_until_the_counters_are_used_up() -> None:
    """Four times a quarter of the limit; the fifth would pass it and needs authentication, which begins anew."""
    use, answers = NO_USE, []
    for _ in range(6):
        answer = check_payer(counted(), use, amount_minor=1, currency="EUR")
        assert isinstance(answer, Within)
        answers.append((answer.sca, answer.sca_basis))
        use = answer.use
    assert answers == [("exempt", "article_16")] * 4 + [("required", "")] + [("exempt", "article_16")]


def test_any_authentication_begins_the_counters_anew() -> None:
    """Also one of a payment that is no small one."""
    use = PayerUse(sca=ScaCounters(low_value_count=5, low_value_ppm=999_999))
    answer = check_payer(PayerChecks(sca="required"), use, amount_minor=1, currency="EUR")
    assert isinstance(answer, Within)
    assert (answer.sca, answer.use.sca) == ("required", None)


def test_out_of_scope_leaves_the_counters() -> None:
    """It is neither an exemption nor an authentication."""
    use = PayerUse(sca=ScaCounters(low_value_count=2))
    answer = check_payer(
        PayerChecks(sca="out_of_scope", sca_basis="one_leg_outside"), use, amount_minor=1, currency="EUR"
    )
    assert answer == Within(use, "out_of_scope", "one_leg_outside")


def test_a_row_is_read_as_it_was_written() -> None:
    """The counters are part of the row in RocksDB and its changelog."""
    use = used(NO_USE, PayerLimit(rule="r", period=3, max_count=9, max_minor=500))
    use = PayerUse(use.limits, ScaCounters(low_value_count=2))
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(use), type=PayerUse, strict=False) == use
