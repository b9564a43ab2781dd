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

from dataclasses import dataclass
from typing import Final

#: Of facts: raised when one is appended. Events of set 1 hold the first 9 payer's and 10 payee's facts.
FEATURE_SET: Final = 2


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
