"""Features of a payment for fraud: the one list of their names, what they mean and their units. Pure.

Two kinds. *Facts* are whole numbers that the tables' rows give (pipeline.stages.profiles) and that travel in
``payments.profiled.v1`` and ``payments.scored.v1``, by place: new ones are appended, none is ever moved or removed, and
``feature_set`` in the event says how many there were (:data:`FEATURE_SET`). *Model features* are what a model reads: made
of facts by :func:`matrix`, by name, so that a model lists the ones it was trained on.

Windows are hourly buckets: ``d`` days at time ``t`` are the clock hour (UTC) of ``t`` and the ``24 d - 1`` before it, ``1h``
is the clock hour of ``t`` and the one before. ``_delayed`` windows end seven days earlier, when most labels have come. They
are the Fraud Detection Handbook's windows (chapter 3, baseline feature transformation) but for the first and last hour.
The payment itself is counted in every window that holds it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

try:
    from pipeline.stages import native_windows
except ImportError:  # Not compiled here.
    native_windows = None  # type: ignore[assignment]

#: Of facts: raised when one is appended. Events of set 1 hold the first 9 payer's and 10 payee's facts, those of set 2 all
#: but the payer's last 2.
FEATURE_SET: Final = 3


@dataclass(frozen=True, slots=True)
class Feature:
    """One number: its name, its unit, and what it is, as a person reads it."""

    name: str
    unit: str
    about: str
    #: What an event of an earlier feature set is taken to have said.
    unknown: int = 0


#: The payer's facts (``payer_features`` in events), key tenant and debtor.
PAYER: Final[tuple[Feature, ...]] = (
    Feature("count_1d", "payments", "payments of this payer in a day"),
    Feature("amount_1d", "minor units", "their amounts together"),
    Feature("count_7d", "payments", "payments of this payer in 7 days"),
    Feature("amount_7d", "minor units", "their amounts together"),
    Feature("count_30d", "payments", "payments of this payer in 30 days"),
    Feature("amount_30d", "minor units", "their amounts together"),
    Feature("terminals_1d", "terminals", "different terminals (payees, where there is none) of this payer in a day"),
    Feature("terminals_7d", "terminals", "the same in 7 days"),
    Feature("terminals_30d", "terminals", "the same in 30 days"),
    # Feature set 2.
    Feature("count_1h", "payments", "payments of this payer in the current and the previous clock hour"),
    Feature("small_1h", "payments", "of these, payments of at most SMALL_AMOUNT_MINOR"),
    Feature("small_1d", "payments", "payments of at most SMALL_AMOUNT_MINOR in a day"),
    Feature("cards_1d", "cards", "different instruments (tokens) of this payer in a day"),
    Feature("cards_7d", "cards", "the same in 7 days"),
    Feature("since_last_s", "seconds", "since this payer's latest payment before; -1 when none is known", unknown=-1),
    Feature("amount_z_milli", "1/1000", "standard deviations of the amount's logarithm above the payer's last 30 days"),
    Feature("payee_new", "0 or 1", "the payer did not pay at this terminal in the 30 days before"),
    Feature("country_mismatch", "0 or 1", "the payment takes place in another country than the payer's own"),
    Feature("country_changed", "0 or 1", "the payer's latest payment before took place in another country"),
    Feature("country_new", "0 or 1", "the payer has payments in the 30 days before, and none in this country"),
    # Feature set 3. Known of tenants only that switched the rule on that reads them.
    Feature("credited_1d", "minor units", "money that came in for this payer, as a payee without a terminal, in a day"),
    Feature(
        "passed_on_1d", "minor units", "of it, what the payer asked to pay on in or after the hour in which it came in"
    ),
)

#: The payee's facts (``payee_features`` in events), key tenant, creditor and terminal.
PAYEE: Final[tuple[Feature, ...]] = (
    Feature("count_1h", "payments", "payments at this payee in the current and the previous clock hour"),
    Feature("count_1d", "payments", "payments at this payee in a day"),
    Feature("count_7d", "payments", "the same in 7 days"),
    Feature("count_30d", "payments", "the same in 30 days"),
    Feature("amount_1d", "minor units", "their amounts together, in a day"),
    Feature("amount_30d", "minor units", "their amounts together, in 30 days"),
    Feature("chargebacks_7d", "payments", "payments of the last 7 days that are charged back already"),
    Feature("chargebacks_30d", "payments", "payments of the last 30 days that are charged back already"),
    Feature("count_30d_delayed", "payments", "payments in the 30 days that ended 7 days ago"),
    Feature("chargebacks_30d_delayed", "payments", "of these, payments that are charged back"),
    # Feature set 2.
    Feature("count_1d_delayed", "payments", "payments in the day that ended 7 days ago"),
    Feature("chargebacks_1d_delayed", "payments", "of these, payments that are charged back"),
    Feature("count_7d_delayed", "payments", "payments in the 7 days that ended 7 days ago"),
    Feature("chargebacks_7d_delayed", "payments", "of these, payments that are charged back"),
    Feature("cards_1d", "cards", "different instruments (tokens) at this payee in a day, at most CARDS_MAX"),
    Feature("cards_7d", "cards", "the same in 7 days"),
    Feature("new_payers_1d", "payments", "payments in a day whose payer was new here (payee_new)"),
    Feature("new_payers_7d", "payments", "the same in 7 days"),
    Feature("small_1h", "payments", "payments of at most SMALL_AMOUNT_MINOR in this and the previous clock hour"),
    Feature("small_1d", "payments", "the same in a day"),
)

#: Names of facts, by place.
PAYER_FEATURES: Final[tuple[str, ...]] = tuple(feature.name for feature in PAYER)
PAYEE_FEATURES: Final[tuple[str, ...]] = tuple(feature.name for feature in PAYEE)

#: What a model may read, in the order of :func:`matrix`'s columns.
MODEL: Final[tuple[Feature, ...]] = (
    Feature("amount", "minor units", "the payment's amount"),
    Feature("weekend", "0 or 1", "Saturday or Sunday, UTC"),
    Feature("night", "0 or 1", "from 0:00 to 6:59, UTC"),
    Feature("payer_count_1d", "payments", "payments of this payer in a day"),
    Feature("payer_mean_1d", "minor units", "their mean amount"),
    Feature("payer_count_7d", "payments", "payments of this payer in 7 days"),
    Feature("payer_mean_7d", "minor units", "their mean amount"),
    Feature("payer_count_30d", "payments", "payments of this payer in 30 days"),
    Feature("payer_mean_30d", "minor units", "their mean amount"),
    Feature("payee_count_1d_delayed", "payments", "payments at this payee in the day that ended 7 days ago"),
    Feature("payee_risk_1d_delayed", "share", "the share of them that is charged back"),
    Feature("payee_count_7d_delayed", "payments", "payments at this payee in the 7 days that ended 7 days ago"),
    Feature("payee_risk_7d_delayed", "share", "the share of them that is charged back"),
    Feature("payee_count_30d_delayed", "payments", "payments at this payee in the 30 days that ended 7 days ago"),
    Feature("payee_risk_30d_delayed", "share", "the share of them that is charged back"),
    # Beyond the handbook.
    Feature("payer_count_1h", "payments", "payments of this payer in this and the previous clock hour"),
    Feature("payer_small_1h", "payments", "of these, small ones"),
    Feature("payer_terminals_1d", "terminals", "different terminals of this payer in a day"),
    Feature("payer_terminals_7d", "terminals", "different terminals of this payer in 7 days"),
    Feature("payer_cards_7d", "cards", "different instruments of this payer in 7 days"),
    Feature("since_last_s", "seconds", "since the payer's latest payment before; -1 when none is known"),
    Feature(
        "amount_to_mean_30d", "times", "the amount against the mean of the payer's others in 30 days; 1 without any"
    ),
    Feature("amount_z", "deviations", "standard deviations of the amount's logarithm above the payer's last 30 days"),
    Feature("payee_new", "0 or 1", "the payer did not pay at this terminal in the 30 days before"),
    Feature("country_mismatch", "0 or 1", "another country than the payer's own"),
    Feature("country_changed", "0 or 1", "another country than the payer's payment before"),
    Feature("country_new", "0 or 1", "a country in which the payer did not pay in the 30 days before"),
    Feature("payee_count_1h", "payments", "payments at this payee in this and the previous clock hour"),
    Feature("payee_count_1d", "payments", "payments at this payee in a day"),
    Feature("payee_cards_1d", "cards", "different instruments at this payee in a day"),
    Feature("payee_cards_7d", "cards", "different instruments at this payee in 7 days"),
    Feature("payee_new_share_7d", "share", "the share of new payers in the payee's payments of 7 days"),
    Feature("payee_small_1h", "payments", "small payments at this payee in this and the previous clock hour"),
    Feature(
        "amount_to_payee_mean", "times", "the amount against the mean of the payee's others in 30 days; 1 without any"
    ),
    # Labels as they arrive: newer than seven days, so no part of the handbook's protocol.
    Feature("payee_risk_30d", "share", "the share of the payee's payments of 30 days that is charged back already"),
)
MODEL_FEATURES: Final[tuple[str, ...]] = tuple(feature.name for feature in MODEL)
#: The handbook's own, which come first.
HANDBOOK_FEATURES: Final = MODEL_FEATURES[: MODEL_FEATURES.index("payer_count_1h")]

_DAY_MS: Final = 24 * 60 * 60 * 1000
_HOUR_MS: Final = 60 * 60 * 1000
#: 1970-01-01 was a Thursday; Monday is 0.
_FIRST_WEEKDAY: Final = 3
_SATURDAY: Final = 5
_NIGHT_LAST_HOUR: Final = 6

_AT_PAYER: Final = {name: at for at, name in enumerate(PAYER_FEATURES)}
_AT_PAYEE: Final = {name: at for at, name in enumerate(PAYEE_FEATURES)}
_UNKNOWN_PAYER: Final = [feature.unknown for feature in PAYER]
_UNKNOWN_PAYEE: Final = [feature.unknown for feature in PAYEE]


def complete_payer(facts: Sequence[int]) -> Sequence[int]:
    """A payer's facts of any feature set: those that it lacks are unknown, those of a later program are left out."""
    return facts if len(facts) == len(PAYER) else [*facts[: len(PAYER)], *_UNKNOWN_PAYER[len(facts) :]]


def complete_payee(facts: Sequence[int]) -> Sequence[int]:
    """A payee's facts of any feature set: those that it lacks are unknown, those of a later program are left out."""
    return facts if len(facts) == len(PAYEE) else [*facts[: len(PAYEE)], *_UNKNOWN_PAYEE[len(facts) :]]


def matrix(
    payer: Sequence[Sequence[int]] | NDArray[np.int64],
    payee: Sequence[Sequence[int]] | NDArray[np.int64],
    amount_minor: Sequence[int] | NDArray[np.int64],
    at_ms: Sequence[int] | NDArray[np.int64],
) -> NDArray[np.float32]:
    """The model's features of n payments: n rows, a column for each of :data:`MODEL_FEATURES`.

    ``payer`` and ``payee`` hold a row of complete facts for each payment. A payment's row does not depend on the others.
    """
    of_payer, of_payee = _floats(payer, len(PAYER)).T, _floats(payee, len(PAYEE)).T
    amount = np.asarray(amount_minor, dtype=np.float64)
    times = np.asarray(at_ms, dtype=np.int64)

    def paid(name: str) -> Any:
        return of_payer[_AT_PAYER[name]]

    def got(name: str) -> Any:
        return of_payee[_AT_PAYEE[name]]

    columns = {
        "amount": amount,
        "weekend": (times // _DAY_MS + _FIRST_WEEKDAY) % 7 >= _SATURDAY,
        "night": times // _HOUR_MS % 24 <= _NIGHT_LAST_HOUR,
        "payer_count_1h": paid("count_1h"),
        "payer_small_1h": paid("small_1h"),
        "payer_terminals_1d": paid("terminals_1d"),
        "payer_terminals_7d": paid("terminals_7d"),
        "payer_cards_7d": paid("cards_7d"),
        "since_last_s": paid("since_last_s"),
        "amount_to_mean_30d": _to_others(amount, paid("count_30d"), paid("amount_30d")),
        "amount_z": paid("amount_z_milli") / 1000,
        "payee_new": paid("payee_new"),
        "country_mismatch": paid("country_mismatch"),
        "country_changed": paid("country_changed"),
        "country_new": paid("country_new"),
        "payee_count_1h": got("count_1h"),
        "payee_count_1d": got("count_1d"),
        "payee_cards_1d": got("cards_1d"),
        "payee_cards_7d": got("cards_7d"),
        "payee_new_share_7d": _share(got("new_payers_7d"), got("count_7d")),
        "payee_small_1h": got("small_1h"),
        "amount_to_payee_mean": _to_others(amount, got("count_30d"), got("amount_30d")),
        "payee_risk_30d": _share(got("chargebacks_30d"), got("count_30d")),
    }
    for window in ("1d", "7d", "30d"):
        columns[f"payer_count_{window}"] = paid(f"count_{window}")
        columns[f"payer_mean_{window}"] = _share(paid(f"amount_{window}"), paid(f"count_{window}"))
        columns[f"payee_count_{window}_delayed"] = got(f"count_{window}_delayed")
        columns[f"payee_risk_{window}_delayed"] = _share(
            got(f"chargebacks_{window}_delayed"), got(f"count_{window}_delayed")
        )
    made = np.empty((len(amount), len(MODEL)), dtype=np.float32)
    for at, name in enumerate(MODEL_FEATURES):
        made[:, at] = columns[name]
    return made


def _floats(rows: Sequence[Sequence[int]] | NDArray[np.int64], width: int) -> NDArray[np.float64]:
    if native_windows is None or isinstance(rows, np.ndarray):
        return np.asarray(rows, dtype=np.float64).reshape(-1, width)
    return np.frombuffer(native_windows.doubles(rows, width), dtype=np.float64).reshape(-1, width)


def _share(part: Any, whole: Any) -> Any:
    """``part / whole``, 0 of nothing."""
    return part / np.maximum(whole, 1.0)


def _to_others(amount: Any, count: Any, total: Any) -> Any:
    """``amount`` against the mean of the others, the payment itself being one of ``count``; 1 without any."""
    others, rest = count - 1.0, total - amount
    known = (others > 0) & (rest > 0)
    return np.where(known, amount * others / np.where(known, rest, 1.0), 1.0)
