"""Stable reasons: snake_case, safe to show, never renamed. A reason says why, and no person."""

from __future__ import annotations

import re
from enum import StrEnum
from typing import Final

_WORD: Final = re.compile(r"[a-z0-9][a-z0-9_.-]{0,63}")
#: What stands for a text that may say anything.
NOT_SHOWN: Final = "(not shown)"


def shown(word: str) -> str:
    """``word`` if it is one of the kind that this project's reasons and outcomes are; others come from outside and may say
    anything, of persons too: :data:`NOT_SHOWN`."""
    return word if not word or _WORD.fullmatch(word) else NOT_SHOWN


class Outcome(StrEnum):
    """The one outcome of a payment, in ``payments.completed.v1``."""

    PAID = "paid"
    AUTHORIZED = "authorized"
    DECLINED = "declined"
    BLOCKED = "blocked"
    REJECTED = "rejected"
    REFERRED = "referred"
    REFUSED = "refused"


#: Outcomes of payments that whoever carries them took: the payer's money moved, or is held.
WENT_THROUGH = frozenset({Outcome.PAID, Outcome.AUTHORIZED})


class Reason(StrEnum):
    """Why a payment ended as it did."""

    # The request itself (refused).
    UNKNOWN_TENANT = "unknown_tenant"
    UNKNOWN_CURRENCY = "unknown_currency"
    AMOUNT_NOT_POSITIVE = "amount_not_positive"
    AMOUNT_ABOVE_LIMIT = "amount_above_limit"
    REQUESTED_IN_FUTURE = "requested_in_future"
    UNSUPPORTED_KIND = "unsupported_kind"
    INVALID_FIELD = "invalid_field"
    FIELD_TOO_LONG = "field_too_long"
    TOO_MANY_METADATA = "too_many_metadata"
    CARD_NUMBER = "card_number"
    CONFLICTING_REQUEST = "conflicting_request"
    # Screening (blocked, referred).
    PARTY_ON_SANCTIONS_LIST = "party_on_sanctions_list"
    PARTY_RESEMBLES_LISTED = "party_resembles_listed"
    # Screening cleared what a tenant's exception is about.
    EXCEPTION_APPLIED = "exception_applied"
    # Localization (rejected).
    CURRENCY_NOT_ALLOWED = "currency_not_allowed"
    COUNTRY_NOT_ALLOWED = "country_not_allowed"
    METHOD_NOT_ALLOWED = "method_not_allowed"
    AMOUNT_ABOVE_METHOD_LIMIT = "amount_above_method_limit"
    AMOUNT_BELOW_METHOD_LIMIT = "amount_below_method_limit"
    FEE_ABOVE_AMOUNT = "fee_above_amount"
    DENIED_BY_RULE = "denied_by_rule"
    AMOUNT_BELOW_RULE_LIMIT = "amount_below_rule_limit"
    AMOUNT_ABOVE_RULE_LIMIT = "amount_above_rule_limit"
    SURCHARGE_NOT_ALLOWED = "surcharge_not_allowed"
    ROUTE_NOT_ALLOWED = "route_not_allowed"
    RULE_FAILED = "rule_failed"
    # The payer stage (rejected).
    PAYER_LIMIT_REACHED = "payer_limit_reached"
    # Fraud (declined, referred, challenged).
    FRAUD_SCORE_HIGH = "fraud_score_high"
    FRAUD_SCORE_RAISED = "fraud_score_raised"
    FRAUD_SCORE_NOTABLE = "fraud_score_notable"
    FRAUD_MODEL_UNAVAILABLE = "fraud_model_unavailable"
    # Reviews (blocked, declined; and why a payment that was referred goes on).
    REVIEW_APPROVED = "review_approved"
    REVIEW_REJECTED = "review_rejected"
    REVIEW_EXPIRED = "review_expired"
    # Dispatch and the PIC (refused, declined).
    UNKNOWN_PIC = "unknown_pic"
    PIC_DECLINED = "pic_declined"
    PIC_ANSWER_UNKNOWN = "pic_answer_unknown"
    # Operations (refused).
    CURRENCY_DIFFERS = "currency_differs"
    NOTHING_TO_CAPTURE = "nothing_to_capture"
    NOTHING_TO_VOID = "nothing_to_void"
    NOTHING_TO_REFUND = "nothing_to_refund"
    AMOUNT_ABOVE_AUTHORIZED = "amount_above_authorized"
    AMOUNT_ABOVE_CAPTURED = "amount_above_captured"
    VOID_IN_PART = "void_in_part"
    TOO_MANY_OPERATIONS = "too_many_operations"
    PAYMENT_NOT_KNOWN = "payment_not_known"


#: Reasons of a stage's ``clear`` or ``approved`` that a review gave, or the end of its time.
REVIEWED = frozenset({Reason.REVIEW_APPROVED, Reason.REVIEW_EXPIRED})


class Error(StrEnum):
    """Why a record is a dead letter."""

    EMPTY_VALUE = "empty_value"
    NO_KEY = "no_key"
    VALUE_TOO_LARGE = "value_too_large"
    NOT_AVRO = "not_avro"
    UNKNOWN_SCHEMA = "unknown_schema"
    WRONG_SCHEMA = "wrong_schema"
    UNREADABLE_VALUE = "unreadable_value"
    NO_PAYMENT_ID = "no_payment_id"
    NO_OPERATION_ID = "no_operation_id"
    WRONG_PARTITION_TWICE = "wrong_partition_twice"
    CARD_NUMBER_IN_ID = "card_number_in_id"
    CARD_NUMBER_IN_TEXT = "card_number_in_text"
    INVALID_NEWS = "invalid_news"
    INVALID_DECISION = "invalid_decision"
    INVALID_ERASURE = "invalid_erasure"
    INVALID_EXCEPTION = "invalid_exception"
    STAGE_FAILED = "stage_failed"
