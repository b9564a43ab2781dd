"""The library of fraud rules, as data; what a rule is stands in :mod:`pipeline.stages.fraud_rules`.

docs/fraud.md is made of it (docs/render_fraud.py). Amounts are minor units of the payment's own currency: with many
currencies of different worth, set the amounts per tenant. Weights are such that, with the default ``refer_at``, no rule
refers alone at its limit, and two of different families may; a rule that can be an honest person's day never does.
"""

from __future__ import annotations

from typing import Final

from pipeline.stages.fraud_rules import (
    ABOUT,
    AT,
    MEAN_PAYMENTS_MIN,
    SECONDS_OF_DAY,
    SECONDS_OF_HOUR,
    Condition,
    Family,
    Measure,
    Rule,
    Threshold,
    Thresholds,
    Values,
)
from schemas.limits import AMOUNT_MINOR_MAX
from schemas.tenant_rules import FraudRules

#: Raised with every change of a rule, a default or a weight; each scored payment records it.
LIBRARY_VERSION: Final = 2

#: Above any count of payments that a payee has in a window; catches a time or an amount in the wrong field.
COUNT_MAX: Final = 1_000_000_000.0
WHOLE_BP: Final = 10_000.0
HOURS_MAX: Final = 24.0 * 37
DAYS_MAX: Final = 366.0 * 10
RATIO_MAX: Final = 1_000_000.0
#: Amounts that end in so many minor units are round: 100.00.
ROUND_MINOR: Final = 10_000
#: The rule that needs to know what came in for a payer (:func:`needs_credits`).
FAST_IN_OUT: Final = "fast_in_out_1d"

_AMOUNT = AT["amount_minor"]
_PAYER_COUNT_1D, _PAYER_COUNT_7D, _PAYER_COUNT_30D = (AT[f"payer_count_{window}"] for window in ("1d", "7d", "30d"))
_PAYER_AMOUNT_1D, _PAYER_AMOUNT_7D = AT["payer_amount_1d"], AT["payer_amount_7d"]
_PAYEE_COUNT_1D, _PAYEE_COUNT_7D, _PAYEE_COUNT_30D = (AT[f"payee_count_{window}"] for window in ("1d", "7d", "30d"))
_PAYEE_AMOUNT_1D, _PAYEE_AMOUNT_30D = AT["payee_amount_1d"], AT["payee_amount_30d"]


def _count(default: float, about: str, name: str = "count_max") -> Threshold:
    return Threshold(name, default, COUNT_MAX, about)


def _amount(default: float, about: str, name: str = "amount_minor_max") -> Threshold:
    return Threshold(name, default, float(AMOUNT_MINOR_MAX), about)


def _ratio(default: float, about: str, name: str = "ratio_max") -> Threshold:
    return Threshold(name, default, RATIO_MAX, about)


def _share(default: float, about: str, name: str = "share_bp_max") -> Threshold:
    return Threshold(name, default, WHOLE_BP, about)


def _at_least(value: str, default: float, name: str = "count_min", scale: float = 1.0) -> Condition:
    high = float(AMOUNT_MINOR_MAX) if "_minor_" in name else COUNT_MAX
    return Condition(value, Threshold(name, default, high, f"at least; {ABOUT[value]}"), scale=scale)


# -- values that are made of others -----------------------------------------------------------------------------------


def _payer_mean_1d_small(values: Values, thresholds: Thresholds) -> float:
    """Payments in a day, while their mean is small; the payment itself is one of them."""
    count = values[_PAYER_COUNT_1D]
    return count if values[_PAYER_AMOUNT_1D] <= thresholds["mean_minor_max"] * count else 0.0


def _payee_mean_1d_small(values: Values, thresholds: Thresholds) -> float:
    """Different cards in a day, while the mean amount is small."""
    small = values[_PAYEE_AMOUNT_1D] <= thresholds["mean_minor_max"] * values[_PAYEE_COUNT_1D]
    return values[AT["payee_cards_1d"]] if small else 0.0


def _rise(count_1d: int, count_7d: int, count_30d: int) -> Measure:
    """Today's payments against the mean of the 23 days before the last week; nothing while there were too few then."""

    def rise(values: Values, thresholds: Thresholds) -> float:
        past = values[count_30d] - values[count_7d]
        return values[count_1d] * 23 / past if past >= max(thresholds["past_count_min"], 1) else 0.0

    return rise


def _payee_amount_rise(values: Values, thresholds: Thresholds) -> float:
    """Today's turnover against the mean of the 29 days before, once there were enough payments before the last week."""
    before = values[_PAYEE_AMOUNT_30D] - values[_PAYEE_AMOUNT_1D]
    enough = values[_PAYEE_COUNT_30D] - values[_PAYEE_COUNT_7D] >= thresholds["past_count_min"]
    return values[_PAYEE_AMOUNT_1D] * 29 / before if enough and before > 0 else 0.0


def _payee_without_past(values: Values, thresholds: Thresholds) -> float:
    """Today's payments of a payee that had none in the 29 days before."""
    return values[_PAYEE_COUNT_1D] if values[_PAYEE_COUNT_30D] <= values[_PAYEE_COUNT_1D] else 0.0


def _round(values: Values, thresholds: Thresholds) -> float:
    return values[_AMOUNT] if values[_AMOUNT] % ROUND_MINOR == 0 else 0.0


def _below_limit(values: Values, thresholds: Thresholds) -> float:
    """What was paid in 7 days, when this payment is just below the limit that somebody may be avoiding."""
    limit = thresholds["amount_minor_max"]
    near = limit * (1 - thresholds["near_bp_max"] / WHOLE_BP) <= values[_AMOUNT] <= limit
    return values[_PAYER_AMOUNT_7D] if near else 0.0


def _first_payment(values: Values, thresholds: Thresholds) -> float:
    return values[_AMOUNT] if values[_PAYER_COUNT_30D] <= 1 else 0.0


def _turnover_of_new_payers(values: Values, thresholds: Thresholds) -> float:
    """The payee's turnover of a day, when most of its payments come from payers who are new there."""
    mostly = values[AT["payee_new_payers_1d"]] * WHOLE_BP >= thresholds["share_bp_min"] * values[_PAYEE_COUNT_1D]
    return values[_PAYEE_AMOUNT_1D] if mostly else 0.0


def _passed_on(values: Values, thresholds: Thresholds) -> float:
    """What came in within a day and was paid on, when that is most of it."""
    passed_on = values[AT["payer_passed_on_1d"]]
    mostly = passed_on * WHOLE_BP >= thresholds["share_bp_min"] * values[AT["payer_credited_1d"]]
    return passed_on if mostly else 0.0


def _share_of(part: str, whole: str) -> Measure:
    """Basis points that one value is of another."""
    at_part, at_whole = AT[part], AT[whole]

    def share(values: Values, thresholds: Thresholds) -> float:
        return values[at_part] * WHOLE_BP / values[at_whole] if values[at_whole] > 0 else 0.0

    return share


def _chargebacks_rise(values: Values, thresholds: Thresholds) -> float:
    """The share of chargebacks of the last 7 days against that of the 30 days that ended 7 days ago."""
    before = values[AT["payee_chargebacks_30d_delayed"]] * values[AT["payee_count_7d"]]
    now = values[AT["payee_chargebacks_7d"]] * values[AT["payee_count_30d_delayed"]]
    return now / before if before > 0 else 0.0


# -- the rules --------------------------------------------------------------------------------------------------------

_MEAN = f"Needs {MEAN_PAYMENTS_MIN} earlier payments in 30 days."
_RULES: Final[tuple[Rule, ...]] = (
    Rule(
        name="payer_velocity_1h",
        family=Family.PAYER_VELOCITY,
        about="A payer pays more often in an hour than a person does.",
        says="{value} payments of this payer in one hour, usual limit {limit}",
        value="payer_count_1h",
        limit=_count(6, "payments in this and the previous clock hour"),
        weight=0.4,
        ceiling=1.0,
    ),
    Rule(
        name="payer_velocity_1d",
        family=Family.PAYER_VELOCITY,
        about="A payer pays more often in a day than a person does.",
        says="{value} payments of this payer in a day, usual limit {limit}",
        value="payer_count_1d",
        limit=_count(20, "payments in a day"),
        weight=0.4,
        ceiling=1.0,
    ),
    Rule(
        name="payer_velocity_7d",
        family=Family.PAYER_VELOCITY,
        about="A payer pays more often in a week than a person does.",
        says="{value} payments of this payer in 7 days, usual limit {limit}",
        value="payer_count_7d",
        limit=_count(80, "payments in 7 days"),
        weight=0.4,
        ceiling=0.8,
    ),
    Rule(
        name="payer_amount_1d",
        family=Family.PAYER_VELOCITY,
        about="A payer spends more in a day than is usual for anybody.",
        says="{value} of this payer in a day, usual limit {limit}",
        value="payer_amount_1d",
        limit=_amount(1_000_000, "minor units in a day"),
        weight=0.3,
        ceiling=0.55,
    ),
    Rule(
        name="payer_rise_1d",
        family=Family.PAYER_VELOCITY,
        about="A payer suddenly pays much more often than in the month before.",
        says="{value} times as many payments as this payer has a day, usual limit {limit}",
        measure=_rise(_PAYER_COUNT_1D, _PAYER_COUNT_7D, _PAYER_COUNT_30D),
        limit=_ratio(10, "times the mean of the 23 days before the last week"),
        settings=(_count(5, "payments in those 23 days, at least", "past_count_min"),),
        conditions=(_at_least("payer_count_1d", 8),),
        weight=0.3,
        ceiling=0.55,
    ),
    Rule(
        name="payee_burst_1h",
        family=Family.PAYEE_VELOCITY,
        about="More payments come to a payee in an hour than it can serve.",
        says="{value} payments at this payee in one hour, usual limit {limit}",
        value="payee_count_1h",
        limit=_count(200, "payments in this and the previous clock hour"),
        weight=0.4,
        ceiling=1.0,
    ),
    Rule(
        name="payee_velocity_1d",
        family=Family.PAYEE_VELOCITY,
        about="More payments come to a payee in a day than it can serve.",
        says="{value} payments at this payee in a day, usual limit {limit}",
        value="payee_count_1d",
        limit=_count(2_000, "payments in a day"),
        weight=0.3,
        ceiling=0.8,
    ),
    Rule(
        name="payee_rise_1d",
        family=Family.PAYEE_VELOCITY,
        about="A payee suddenly has many times the payments of the month before.",
        says="{value} times as many payments as this payee has a day, usual limit {limit}",
        measure=_rise(_PAYEE_COUNT_1D, _PAYEE_COUNT_7D, _PAYEE_COUNT_30D),
        limit=_ratio(8, "times the mean of the 23 days before the last week"),
        settings=(_count(20, "payments in those 23 days, at least", "past_count_min"),),
        conditions=(_at_least("payee_count_1d", 30),),
        weight=0.3,
        ceiling=0.55,
    ),
    Rule(
        name="payee_amount_rise_1d",
        family=Family.PAYEE_VELOCITY,
        about="A payee's turnover suddenly is many times that of the month before.",
        says="{value} times the turnover that this payee has a day, usual limit {limit}",
        measure=_payee_amount_rise,
        limit=_ratio(10, "times the mean of the 29 days before"),
        settings=(_count(20, "payments in the 23 days before the last week, at least", "past_count_min"),),
        conditions=(_at_least("payee_count_1d", 10),),
        weight=0.3,
        ceiling=0.55,
    ),
    Rule(
        name="card_testing_1d",
        family=Family.CARD_TESTING,
        about="A payer makes many payments of very small amounts in a day: somebody tries which cards work.",
        says="{value} payments of this payer in a day that are very small on average, usual limit {limit}",
        value="payer_count_1d",
        measure=_payer_mean_1d_small,
        limit=_count(8, "payments in a day"),
        settings=(_amount(200, "their mean amount, minor units", "mean_minor_max"),),
        weight=0.5,
        ceiling=1.0,
    ),
    Rule(
        name="small_amounts_1h",
        family=Family.CARD_TESTING,
        about="A burst of small amounts of one payer.",
        says="{value} small payments of this payer in one hour, usual limit {limit}",
        value="payer_small_1h",
        limit=_count(4, "small payments in this and the previous clock hour"),
        weight=0.4,
        ceiling=0.9,
    ),
    Rule(
        name="probe_then_purchase_1h",
        family=Family.CARD_TESTING,
        about="After small payments of the same hour, one of many times the usual: a card was tried and found to work.",
        says="{value} times the usual amount after small payments of the same hour, usual limit {limit}",
        value="amount_to_mean",
        limit=_ratio(3, "times the payer's mean of 30 days. " + _MEAN),
        conditions=(_at_least("payer_small_1h", 2),),
        weight=0.5,
        ceiling=0.9,
    ),
    Rule(
        name="many_cards_small_1d",
        family=Family.CARD_TESTING,
        about="Many different cards at one payee in a day, with very small amounts: a list of cards is being tried there.",
        says="{value} different cards at this payee in a day with very small amounts, usual limit {limit}",
        value="payee_cards_1d",
        measure=_payee_mean_1d_small,
        limit=_count(30, "different cards in a day", "cards_max"),
        settings=(_amount(200, "the mean amount of the day, minor units", "mean_minor_max"),),
        weight=0.5,
        ceiling=0.9,
    ),
    Rule(
        name="payee_small_amounts_1h",
        family=Family.CARD_TESTING,
        about="A burst of small amounts at one payee.",
        says="{value} small payments at this payee in one hour, usual limit {limit}",
        value="payee_small_1h",
        limit=_count(60, "small payments in this and the previous clock hour"),
        weight=0.4,
        ceiling=0.8,
    ),
    Rule(
        name="amount_unusual_30d",
        family=Family.AMOUNT,
        about="The amount is many times what this payer pays on average.",
        says="{value} times this payer's mean amount of 30 days, usual limit {limit}",
        value="amount_to_mean",
        limit=_ratio(10, "times the payer's mean of 30 days. " + _MEAN),
        weight=0.4,
        ceiling=1.0,
    ),
    Rule(
        name="amount_outlier_30d",
        family=Family.AMOUNT,
        about="The amount is far outside the spread of this payer's amounts, on a logarithmic scale.",
        says="{value} standard deviations above this payer's amounts of 30 days, usual limit {limit}",
        value="payer_amount_z_milli",
        scale=1000.0,
        limit=Threshold("deviations_max", 4.0, 1000.0, "standard deviations of the amount's logarithm"),
        conditions=(_at_least("payer_count_30d", 10),),
        weight=0.35,
        ceiling=0.8,
    ),
    Rule(
        name="amount_high",
        family=Family.AMOUNT,
        about="The amount is high for anybody.",
        says="an amount of {value}, usual limit {limit}",
        value="amount_minor",
        limit=_amount(1_000_000, "minor units of one payment"),
        weight=0.25,
        ceiling=0.55,
    ),
    Rule(
        name="amount_round",
        family=Family.AMOUNT,
        about="A high round amount, in whole hundreds: people buy goods at odd prices, and thieves choose round ones.",
        says="a round amount of {value}, usual limit {limit}",
        value="amount_minor",
        measure=_round,
        limit=_amount(50_000, "minor units of a payment in whole hundreds (10,000 minor units)"),
        weight=0.1,
        ceiling=0.1,
    ),
    Rule(
        name="structuring_7d",
        family=Family.AMOUNT,
        about="Amounts just below a limit that together are above it: somebody splits a sum to stay below a threshold.",
        says="{value} of this payer in 7 days and an amount just below {limit}",
        value="payer_amount_7d",
        measure=_below_limit,
        limit=_amount(1_000_000, "the limit that is avoided, minor units"),
        settings=(_share(1_000, "how near below the limit is suspicious, basis points of it", "near_bp_max"),),
        weight=0.35,
        ceiling=0.59,
    ),
    Rule(
        name="night_high_amount",
        family=Family.AMOUNT,
        about="Several times the usual amount between 0:00 and 6:59 UTC.",
        says="{value} times this payer's mean amount at night, usual limit {limit}",
        value="amount_to_mean",
        flags=("night",),
        limit=_ratio(4, "times the payer's mean of 30 days. " + _MEAN),
        weight=0.3,
        ceiling=0.55,
    ),
    Rule(
        name="first_payee_high_amount",
        family=Family.AMOUNT,
        about="Several times the usual amount at a payee where this payer never paid in 30 days.",
        says="{value} times this payer's mean amount at a payee that is new to them, usual limit {limit}",
        value="amount_to_mean",
        flags=("payer_payee_new",),
        limit=_ratio(4, "times the payer's mean of 30 days. " + _MEAN),
        weight=0.35,
        ceiling=0.59,
    ),
    Rule(
        name="new_payer_high_amount",
        family=Family.AMOUNT,
        about="A high amount as the first payment of a payer in 30 days.",
        says="{value} as this payer's first payment in 30 days, usual limit {limit}",
        value="amount_minor",
        measure=_first_payment,
        limit=_amount(200_000, "minor units of the first payment"),
        weight=0.25,
        ceiling=0.5,
    ),
    Rule(
        name="payer_wakes_high_amount",
        family=Family.AMOUNT,
        about="A payer who did not pay for long wakes up with a high amount.",
        says="{value} days after this payer's last payment, usual limit {limit}",
        value="payer_since_last_s",
        scale=SECONDS_OF_DAY,
        limit=Threshold("days_max", 30.0, DAYS_MAX, "days since the payment before"),
        conditions=(_at_least("amount_minor", 50_000, "amount_minor_min"),),
        weight=0.3,
        ceiling=0.5,
    ),
    Rule(
        name="country_mismatch",
        family=Family.GEOGRAPHY,
        about="The payment takes place in another country than the payer's own. Weak alone: people travel.",
        says="not in the payer's own country",
        flags=("payer_country_mismatch",),
        weight=0.1,
        ceiling=0.1,
    ),
    Rule(
        name="country_new_high_amount",
        family=Family.GEOGRAPHY,
        about="Several times the usual amount in a country where this payer did not pay in 30 days.",
        says="{value} times this payer's mean amount in a country that is new to them, usual limit {limit}",
        value="amount_to_mean",
        flags=("payer_country_new",),
        limit=_ratio(3, "times the payer's mean of 30 days. " + _MEAN),
        weight=0.4,
        ceiling=0.7,
    ),
    Rule(
        name="country_changed_soon",
        family=Family.GEOGRAPHY,
        about="Another country than the payment before, sooner than people travel.",
        says="another country than the payment shortly before",
        flags=("payer_country_changed",),
        conditions=(
            Condition(
                "payer_since_last_s",
                Threshold("hours_max", 1.0, HOURS_MAX, "hours since the payment before"),
                at_most=True,
                scale=SECONDS_OF_HOUR,
            ),
        ),
        weight=0.4,
        ceiling=0.4,
    ),
    Rule(
        name="payee_chargebacks_7d",
        family=Family.TERMINAL,
        about="Many payments of the last 7 days at this payee are charged back already.",
        says="{value} of this payee's payments of 7 days are charged back, usual limit {limit}",
        measure=_share_of("payee_chargebacks_7d", "payee_count_7d"),
        limit=_share(500, "share of charged-back payments, basis points"),
        conditions=(_at_least("payee_chargebacks_7d", 2, "chargebacks_min"), _at_least("payee_count_7d", 20)),
        weight=0.5,
        ceiling=0.95,
    ),
    Rule(
        name="payee_chargebacks_30d",
        family=Family.TERMINAL,
        about="Many payments of the last 30 days at this payee are charged back already.",
        says="{value} of this payee's payments of 30 days are charged back, usual limit {limit}",
        measure=_share_of("payee_chargebacks_30d", "payee_count_30d"),
        limit=_share(500, "share of charged-back payments, basis points"),
        conditions=(_at_least("payee_chargebacks_30d", 1, "chargebacks_min"), _at_least("payee_count_30d", 20)),
        weight=0.5,
        ceiling=0.79,
    ),
    Rule(
        name="payee_chargebacks_delayed",
        family=Family.TERMINAL,
        about="Many of the payments of the 30 days that ended a week ago, when most labels have come, are charged back.",
        says="{value} of this payee's payments of the month to a week ago are charged back, usual limit {limit}",
        measure=_share_of("payee_chargebacks_30d_delayed", "payee_count_30d_delayed"),
        limit=_share(1_000, "share of charged-back payments, basis points"),
        conditions=(
            _at_least("payee_chargebacks_30d_delayed", 2, "chargebacks_min"),
            _at_least("payee_count_30d_delayed", 20),
        ),
        weight=0.4,
        ceiling=0.79,
    ),
    Rule(
        name="payee_chargebacks_rise",
        family=Family.TERMINAL,
        about="The share of chargebacks at this payee suddenly is many times what it was: a terminal was taken over.",
        says="{value} times the share of chargebacks that this payee had, usual limit {limit}",
        measure=_chargebacks_rise,
        limit=_ratio(3, "times the share of the 30 days that ended a week ago"),
        conditions=(_at_least("payee_chargebacks_7d", 3, "chargebacks_min"),),
        weight=0.4,
        ceiling=0.8,
    ),
    Rule(
        name="payee_cards_1d",
        family=Family.TERMINAL,
        about="More different cards at one terminal in a day than it can serve.",
        says="{value} different cards at this payee in a day, usual limit {limit}",
        value="payee_cards_1d",
        limit=_count(400, "different cards in a day", "cards_max"),
        weight=0.3,
        ceiling=0.55,
    ),
    Rule(
        name="payer_terminals_1d",
        family=Family.SPREAD,
        about="A payer is at more terminals in a day than a person is: a copied card.",
        says="{value} different terminals of this payer in a day, usual limit {limit}",
        value="payer_terminals_1d",
        limit=_count(10, "different terminals in a day", "terminals_max"),
        weight=0.4,
        ceiling=1.0,
    ),
    Rule(
        name="payer_terminals_7d",
        family=Family.SPREAD,
        about="A payer is at more terminals in a week than a person is.",
        says="{value} different terminals of this payer in 7 days, usual limit {limit}",
        value="payer_terminals_7d",
        limit=_count(40, "different terminals in 7 days", "terminals_max"),
        weight=0.3,
        ceiling=0.7,
    ),
    Rule(
        name="payer_cards_1d",
        family=Family.SPREAD,
        about="A payer uses many different cards in a day: a list of stolen ones.",
        says="{value} different cards of this payer in a day, usual limit {limit}",
        value="payer_cards_1d",
        limit=_count(3, "different instruments in a day", "cards_max"),
        weight=0.4,
        ceiling=0.9,
    ),
    Rule(
        name="payer_cards_7d",
        family=Family.SPREAD,
        about="A payer uses many different cards in a week.",
        says="{value} different cards of this payer in 7 days, usual limit {limit}",
        value="payer_cards_7d",
        limit=_count(5, "different instruments in 7 days", "cards_max"),
        weight=0.3,
        ceiling=0.7,
    ),
    Rule(
        name="payee_new_payers_1d",
        family=Family.MULE,
        about="Nearly all payments at this payee in a day come from payers who never paid there: an account that collects.",
        says="{value} of this payee's payments in a day come from new payers, usual limit {limit}",
        measure=_share_of("payee_new_payers_1d", "payee_count_1d"),
        limit=_share(9_000, "share of new payers, basis points"),
        conditions=(
            _at_least("payee_new_payers_1d", 20),
            _at_least("payee_count_30d_delayed", 20, "past_count_min"),
        ),
        weight=0.2,
        ceiling=0.2,
    ),
    Rule(
        name="payee_new_payers_amount_1d",
        family=Family.MULE,
        about="New payers bring a payee a high turnover in a day.",
        says="{value} in a day at a payee, mostly from new payers, usual limit {limit}",
        value="payee_amount_1d",
        measure=_turnover_of_new_payers,
        limit=_amount(2_000_000, "the payee's turnover of the day, minor units"),
        settings=(_share(8_000, "share of new payers from which it counts, basis points", "share_bp_min"),),
        conditions=(_at_least("payee_new_payers_1d", 10),),
        weight=0.35,
        ceiling=0.59,
    ),
    Rule(
        name="payee_without_past_1d",
        family=Family.MULE,
        about="A payee that had no payment in the month before takes many in a day: a new or a woken account.",
        says="{value} payments in a day at a payee that had none in the month before, usual limit {limit}",
        value="payee_count_1d",
        measure=_payee_without_past,
        limit=_count(40, "payments in a day"),
        weight=0.25,
        ceiling=0.5,
    ),
    Rule(
        name=FAST_IN_OUT,
        family=Family.MULE,
        about="Money that came in within a day is paid on: an account that only passes it on.",
        says="{value} that came in for this payer within a day is paid on, usual limit {limit}",
        value="payer_passed_on_1d",
        measure=_passed_on,
        limit=_amount(100_000, "minor units that came in within a day and are paid on"),
        settings=(
            _share(
                8_000, "the part of what came in that is paid on, basis points, from which it counts", "share_bp_min"
            ),
        ),
        weight=0.4,
        ceiling=0.59,
        opt_in=True,
    ),
)

#: Every rule by its name, in the order of docs/fraud.md.
LIBRARY: Final[dict[str, Rule]] = {rule.name: rule for rule in _RULES}


def needs_credits(rules: FraudRules) -> bool:
    """Whether the payer stage must be told what its payers are paid."""
    return LIBRARY[FAST_IN_OUT].is_on(rules.rules)
