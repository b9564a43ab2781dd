"""Features: facts of any set are completed, the model's matrix is made of them by name."""

from __future__ import annotations

from datetime import UTC, datetime

import numpy as np
import pytest

from pipeline.stages.features import (
    MODEL_FEATURES,
    PAYEE,
    PAYEE_FEATURES,
    PAYER,
    PAYER_FEATURES,
    complete_payee,
    complete_payer,
    matrix,
)

#: 2018-08-11 was a Saturday.
SATURDAY_MS = int(datetime(2018, 8, 11, 6, 59, tzinfo=UTC).timestamp() * 1000)
HOUR_MS = 3_600_000


def one(
    payer: dict[str, int], payee: dict[str, int], amount_minor: int = 1000, at_ms: int = SATURDAY_MS
) -> dict[str, float]:
    """The model's features of one payment by name."""
    facts = [[payer.get(name, 0) for name in PAYER_FEATURES]], [[payee.get(name, 0) for name in PAYEE_FEATURES]]
    return dict(zip(MODEL_FEATURES, matrix(*facts, [amount_minor], [at_ms])[0].tolist(), strict=True))


def test_names_are_told_apart() -> None:
    """No name twice on one side; every feature says what it is and in which unit."""
    for names in (PAYER_FEATURES, PAYEE_FEATURES, MODEL_FEATURES):
        assert len(set(names)) == len(names)
    assert all(feature.about and feature.unit for feature in (*PAYER, *PAYEE))


def test_the_first_facts_never_move() -> None:
    """Events of feature set 1 are read by place."""
    assert PAYER_FEATURES[:9] == (
        "count_1d", "amount_1d", "count_7d", "amount_7d", "count_30d", "amount_30d", "terminals_1d", "terminals_7d",
        "terminals_30d",
    )  # fmt: skip
    assert PAYEE_FEATURES[:10] == (
        "count_1h", "count_1d", "count_7d", "count_30d", "amount_1d", "amount_30d", "chargebacks_7d", "chargebacks_30d",
        "count_30d_delayed", "chargebacks_30d_delayed",
    )  # fmt: skip


def test_facts_of_an_earlier_set_are_completed() -> None:
    """What they do not say is unknown: no time since the last payment, zero elsewhere."""
    completed = complete_payer([1] * 9)
    assert len(completed) == len(PAYER)
    assert dict(zip(PAYER_FEATURES, completed, strict=True))["since_last_s"] == -1
    assert complete_payee([1] * 10) == [1] * 10 + [0] * (len(PAYEE) - 10)
    # And of a later one.
    assert complete_payer(list(range(len(PAYER) + 2))) == list(range(len(PAYER)))
    whole = list(range(len(PAYER)))
    assert complete_payer(whole) is whole


def test_means_shares_and_ratios() -> None:
    """By hand; the payment itself is one of its payer's and payee's 30 days, and the others are what it is compared with."""
    found = one(
        {"count_30d": 5, "amount_30d": 3000, "count_7d": 2, "amount_7d": 1500, "amount_z_milli": -1500},
        {"count_7d": 8, "new_payers_7d": 2, "count_30d_delayed": 20, "chargebacks_30d_delayed": 3, "count_30d": 3,
         "amount_30d": 1400, "chargebacks_30d": 1},
    )  # fmt: skip
    assert found["payer_mean_30d"] == 600
    assert found["payer_mean_7d"] == 750
    assert found["payer_mean_1d"] == 0
    assert found["amount_to_mean_30d"] == pytest.approx(1000 / (2000 / 4))
    assert found["amount_to_payee_mean"] == pytest.approx(1000 / (400 / 2))
    assert found["amount_z"] == -1.5
    assert found["payee_new_share_7d"] == 0.25
    assert found["payee_risk_30d_delayed"] == pytest.approx(0.15)
    assert found["payee_risk_30d"] == pytest.approx(1 / 3)


def test_without_others_the_amount_is_usual() -> None:
    """A first payment is compared with nothing."""
    found = one({"count_30d": 1, "amount_30d": 1000}, {"count_30d": 1, "amount_30d": 1000})
    assert (found["amount_to_mean_30d"], found["amount_to_payee_mean"]) == (1, 1)


@pytest.mark.parametrize(
    ("hours", "weekend", "night"),
    [(0, 1, 1), (1, 1, 0), (-7, 0, 0), (-6, 1, 1), (41, 1, 0), (42, 0, 1)],
)
def test_weekend_and_night(hours: int, weekend: int, night: int) -> None:
    """As the handbook: weekday >= 5, hour <= 6; here in UTC. From Saturday 6:59."""
    found = one({}, {}, at_ms=SATURDAY_MS + hours * HOUR_MS)
    assert (found["weekend"], found["night"]) == (weekend, night)


def test_a_row_does_not_depend_on_the_others() -> None:
    """A batch gives bit for bit what each payment alone gives."""
    chance = np.random.default_rng(1)
    payer, payee = chance.integers(0, 1000, (50, len(PAYER))), chance.integers(0, 1000, (50, len(PAYEE)))
    amounts, times = chance.integers(1, 10**9, 50), SATURDAY_MS + chance.integers(0, 10**10, 50)
    together = matrix(payer, payee, amounts, times)
    for at in range(50):
        assert matrix(payer[at : at + 1], payee[at : at + 1], amounts[at : at + 1], times[at : at + 1]).tobytes() == (
            together[at : at + 1].tobytes()
        )
