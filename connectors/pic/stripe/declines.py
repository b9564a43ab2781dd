"""Stripe's codes (``decline_code`` and ``code`` of an error, ``failure_reason`` of a refund) in the words of the standard set.

Source: Stripe's documents on decline codes, error codes and refunds, 2026.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from connectors.pic.base import Retry
from connectors.pic.declines import STANDARD, DeclineCode, Meaning

_NO = DeclineCode
_STANDARD: Final = {
    _NO.INSUFFICIENT_FUNDS: "insufficient_funds",
    _NO.DO_NOT_HONOR: "call_issuer card_declined do_not_honor generic_decline no_action_taken security_violation"
    " payment_intent_payment_attempt_failed",
    _NO.EXPIRED_CARD: "expired_card expired_or_canceled_card",
    _NO.LOST_CARD: "lost_card",
    _NO.STOLEN_CARD: "pickup_card stolen_card lost_or_stolen_card",
    _NO.INVALID_ACCOUNT: "incorrect_address incorrect_cvc incorrect_number incorrect_zip invalid_account invalid_cvc"
    " invalid_expiry_month invalid_expiry_year invalid_number new_account_information_available",
    _NO.INVALID_AMOUNT: "amount_too_large amount_too_small charge_already_refunded invalid_amount invalid_charge_amount",
    _NO.LIMIT_EXCEEDED: "card_decline_rate_limit_exceeded card_velocity_exceeded pin_try_exceeded"
    " withdrawal_count_limit_exceeded",
    _NO.AUTHENTICATION_FAILED: "incorrect_pin invalid_pin payment_intent_authentication_failure",
    _NO.AUTHENTICATION_REQUIRED: "authentication_not_handled authentication_required mobile_device_authentication_required"
    " offline_pin_required online_or_offline_pin_required",
    _NO.SUSPECTED_FRAUD: "fraudulent merchant_blacklist",
    _NO.DUPLICATE: "duplicate_transaction",
    _NO.NOT_PERMITTED: "country_unsupported service_not_allowed transaction_not_allowed",
    _NO.CURRENCY_NOT_SUPPORTED: "currency_not_supported payment_method_currency_mismatch",
    _NO.ISSUER_UNAVAILABLE: "issuer_not_available",
    _NO.TRY_AGAIN_LATER: "approve_with_id balance_insufficient processing_error reenter_transaction try_again_later",
    _NO.INVALID_REQUEST: "parameter_invalid_empty parameter_invalid_integer parameter_missing parameter_unknown"
    " resource_missing",
    _NO.UNSUPPORTED: "card_not_supported payment_intent_incompatible_payment_method",
}  # fmt: skip
#: What allows less than its standard code does: whose word it is, it is the last; and what a payment's state forbids is
#: forbidden wherever it is asked for.
_NEVER: Final = {
    _NO.DO_NOT_HONOR: "do_not_try_again declined",
    _NO.NOT_PERMITTED: "restricted_card revocation_of_all_authorizations revocation_of_authorization stop_payment_order"
    " charge_already_captured charge_disputed charge_expired_for_capture charge_for_pending_refund_disputed"
    " payment_intent_payment_attempt_expired payment_intent_unexpected_state refund_disputed_payment",
}


def _table() -> dict[str, Meaning]:
    def meanings(codes: Mapping[DeclineCode, str], retry: Retry | None = None) -> dict[str, Meaning]:
        return {
            word: Meaning(code, retry or STANDARD[code].retry)
            for code, words in codes.items()
            for word in words.split()
        }

    return meanings(_STANDARD) | meanings(_NEVER, "never")


#: By Stripe's code. One that is not here is surely a no, of a kind that nobody has told us of: ``other``.
DECLINES: Final[Mapping[str, Meaning]] = MappingProxyType(_table())
OTHER: Final = STANDARD[DeclineCode.OTHER]
