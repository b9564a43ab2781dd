"""The standard set of decline codes. Each plugin has one table from its PIC's own codes to a :class:`Meaning`.

A code says why, in words that are the same for every PIC, so that routing, reports and rules need to know none of them.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from types import MappingProxyType
from typing import Final

import msgspec

from connectors.pic.base import Answer, Retry


class DeclineCode(StrEnum):
    """Why a PIC, or who is behind it, said no."""

    #: The account has less than the amount.
    INSUFFICIENT_FUNDS = "insufficient_funds"
    #: The issuer says no and does not say why.
    DO_NOT_HONOR = "do_not_honor"
    EXPIRED_CARD = "expired_card"
    #: Reported as lost.
    LOST_CARD = "lost_card"
    #: Reported as stolen, or to be kept.
    STOLEN_CARD = "stolen_card"
    #: No such card or account, or its number or code is wrong.
    INVALID_ACCOUNT = "invalid_account"
    #: Not an amount that can be paid, captured or refunded: above what is left, below the least, not a number of the currency.
    INVALID_AMOUNT = "invalid_amount"
    #: A limit of the account, in amount or in number.
    LIMIT_EXCEEDED = "limit_exceeded"
    #: What was authorized is no longer held.
    AUTHORIZATION_EXPIRED = "authorization_expired"
    #: The payer did not do in time what was required.
    ACTION_EXPIRED = "action_expired"
    #: The payer was asked to prove who they are, and did not.
    AUTHENTICATION_FAILED = "authentication_failed"
    #: The payer has to prove who they are first: ask again with a challenge.
    AUTHENTICATION_REQUIRED = "authentication_required"
    SUSPECTED_FRAUD = "suspected_fraud"
    #: The PIC has this already, under this key with other content, or under another key.
    DUPLICATE = "duplicate"
    CLOSED_ACCOUNT = "closed_account"
    #: This account, merchant or payment may not do this: a kind of transaction, a country, a state.
    NOT_PERMITTED = "not_permitted"
    CURRENCY_NOT_SUPPORTED = "currency_not_supported"
    #: Who decides could not be reached; surely not done.
    ISSUER_UNAVAILABLE = "issuer_unavailable"
    #: The PIC says that it is not possible now; surely not done.
    TRY_AGAIN_LATER = "try_again_later"
    #: The PIC does not take what was asked: a format, a missing field, an unknown reference. Usually ours to correct.
    INVALID_REQUEST = "invalid_request"
    #: The PIC cannot do this kind of thing, or not with this kind of instrument.
    UNSUPPORTED = "unsupported"
    #: A code that the plugin's table does not have, but surely a no.
    OTHER = "other"


class Meaning(msgspec.Struct, frozen=True):
    """What one code of a PIC means, and what it allows to try next."""

    code: DeclineCode
    retry: Retry

    def answer(self, pic_reference: str = "", retry_after_s: float = 0.0) -> Answer:
        """The decline, with the PIC's reference when it gave one."""
        return Answer("declined", self.code.value, pic_reference, retry=self.retry, retry_after_s=retry_after_s)


_HERE: Final = (DeclineCode.ISSUER_UNAVAILABLE, DeclineCode.TRY_AGAIN_LATER)
_ELSEWHERE: Final = (
    DeclineCode.DO_NOT_HONOR,
    DeclineCode.CURRENCY_NOT_SUPPORTED,
    DeclineCode.NOT_PERMITTED,
    DeclineCode.INVALID_REQUEST,
    DeclineCode.UNSUPPORTED,
)
#: What a code means where a PIC gives no reason to think otherwise. The account's own state is the same everywhere; what this
#: PIC or its merchant may not do, another may.
STANDARD: Final[Mapping[DeclineCode, Meaning]] = MappingProxyType(
    {
        code: Meaning(code, "here" if code in _HERE else "elsewhere" if code in _ELSEWHERE else "never")
        for code in DeclineCode
    }
)
