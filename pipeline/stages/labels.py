"""Labels: what became known of a payment, by when. The one home of "was it fraud?", for training and reports. Pure.

Three kinds of evidence arrive late: chargebacks, refunds that a payee makes because of fraud, and what a person decided
about a referred payment. A dispute is stronger than a review: a payment that a person let pass and that is charged back
as fraud was fraud. A payment that went through and of which nothing was heard for :data:`LABEL_DELAY_MS` counts as
genuine; of one that did not go through nobody hears, so without a review nothing is known of it.
"""

from __future__ import annotations

from collections.abc import Iterable
from enum import StrEnum
from typing import Final, NamedTuple

from pipeline.stages.profiles import HOUR_MS
from pipeline.stages.windows import DAY_HOURS

#: After this long most chargebacks have come; the delay of the Fraud Detection Handbook, and of the delayed windows.
LABEL_DELAY_MS: Final = 7 * DAY_HOURS * HOUR_MS

#: What schemes and banks call fraud, in capitals: Visa dispute conditions of category 10 (fraud), Mastercard reason codes
#: 4837, 4840, 4863, 4870 and 4871, American Express chargeback codes F10 to F31, ISO 20022 ExternalCancellationReason1Code
#: FRAD and ExternalReturnReason1Code FR01.
_FRAUD_CODES: Final = frozenset(
    [
        *("FRAUD", "FRAD", "FR01"),
        *("10.1", "10.2", "10.3", "10.4", "10.5"),
        *("4837", "4840", "4863", "4870", "4871"),
        *("F10", "F14", "F24", "F29", "F30", "F31"),
    ]
)


class Truth(StrEnum):
    """Whether a payment was fraud."""

    FRAUD = "fraud"
    GENUINE = "genuine"
    UNKNOWN = "unknown"


class Source(StrEnum):
    """How that became known."""

    CHARGEBACK = "chargeback"
    REFUND = "refund"
    REVIEW_REJECTED = "review_rejected"
    REVIEW_APPROVED = "review_approved"
    SILENCE = "silence"
    NOTHING = "nothing"


#: What speaks for fraud, the strongest first.
_AGAINST: Final = (Source.CHARGEBACK, Source.REFUND, Source.REVIEW_REJECTED)
#: Kinds of disputes, and results of reviews.
_DISPUTES: Final = {source.value: source for source in (Source.CHARGEBACK, Source.REFUND)}
_REVIEWS: Final = {"approved": Source.REVIEW_APPROVED, "rejected": Source.REVIEW_REJECTED}
#: What is not a word on who paid: a time that ran out, and a review of another stage.
_EXPIRED: Final = "expired"
_SCREENING: Final = "screening"


class Evidence(NamedTuple):
    """Something that was heard of a payment at ``at_ms``; ``reason`` is a dispute's, as it came."""

    source: Source
    at_ms: int
    reason: str = ""


class Label(NamedTuple):
    """What is known of a payment, how, and since when (0: it is not known)."""

    truth: Truth
    source: Source
    known_at_ms: int


UNKNOWN: Final = Label(Truth.UNKNOWN, Source.NOTHING, 0)


def is_fraud(reason: str) -> bool:
    """Whether a dispute's reason says fraud: "fraud", anything that begins with "fraud_", or a code of a scheme.

    "Not received", "duplicate" and the like are disputes about goods and say nothing about who paid.
    """
    name = reason.strip().upper()
    return name in _FRAUD_CODES or name.startswith("FRAUD_")


def of_dispute(kind: str, reason: str, at_ms: int) -> Evidence | None:
    """What a ``ChargebackReceived`` of ``at_ms`` says; None for a kind that there is not."""
    source = _DISPUTES.get(kind)
    return Evidence(source, at_ms, reason) if source else None


def of_review(stage: str, decision: str, result: str, ignored: str, at_ms: int) -> Evidence | None:
    """What a ``ReviewAnswered`` of ``at_ms`` says: a person's word on a payment that fraud had referred.

    None for screening's reviews, which are about sanctions, for a decision that was ignored, and for a time that ran out.
    """
    if ignored or decision == _EXPIRED or stage == _SCREENING:
        return None
    source = _REVIEWS.get(result)
    return Evidence(source, at_ms) if source else None


def label_of(evidence: Iterable[Evidence], *, paid_at_ms: int, went_through: bool, as_of_ms: int) -> Label:
    """What is known of a payment at ``as_of_ms``; later evidence is not looked at.

    ``paid_at_ms`` is when it was asked for, ``went_through`` whether it was paid. The order of ``evidence`` does not matter.
    """
    heard: dict[Source, int] = {}
    for each in evidence:
        disputed = each.source in (Source.CHARGEBACK, Source.REFUND)
        if each.at_ms <= as_of_ms and (not disputed or is_fraud(each.reason)):
            heard[each.source] = min(each.at_ms, heard.get(each.source, each.at_ms))
    for source in _AGAINST:
        if source in heard:
            return Label(Truth.FRAUD, source, min(heard[each] for each in _AGAINST if each in heard))
    if Source.REVIEW_APPROVED in heard:
        return Label(Truth.GENUINE, Source.REVIEW_APPROVED, heard[Source.REVIEW_APPROVED])
    if went_through and as_of_ms - paid_at_ms >= LABEL_DELAY_MS:
        return Label(Truth.GENUINE, Source.SILENCE, paid_at_ms + LABEL_DELAY_MS)
    return UNKNOWN
