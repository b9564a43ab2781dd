"""From a switch's messages to answers. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from connectors.pic.base import UNKNOWN, Answer, Call
from connectors.pic.declines import STANDARD, DeclineCode, Meaning
from connectors.pic.iso8583.codec import CodecError, Message, check_fields
from connectors.pic.iso8583.requests import Original

#: Field 39 of an approval.
APPROVED: Final = frozenset({"00", "11", "16"})
#: Approvals that we cannot use: of a payer whose papers are to be seen, and of a part. They are undone.
UNWANTED: Final = frozenset({"08", "10"})
#: In progress; and the switch has this message already: what became of it, it does not say.
NOT_DECIDED: Final = frozenset({"09", "94"})
#: To a reversal or an inquiry: no action was taken, or the switch has no such request.
NOT_FOUND: Final = frozenset({"21", "25"})


_NO = DeclineCode
#: Field 39 of a decline (ISO 8583:1987, and what card schemes added). What is in no table here is no answer.
DECLINES: Final[Mapping[str, Meaning]] = MappingProxyType(
    {code: STANDARD[meaning] for meaning, codes in {
        _NO.DO_NOT_HONOR: "01 02 05 07 R0 R1",
        _NO.NOT_PERMITTED: "03 31 36 57 58 62 93",
        _NO.STOLEN_CARD: "04 43",
        _NO.LOST_CARD: "41",
        _NO.INVALID_REQUEST: "12 21 25 30 63",
        _NO.INVALID_AMOUNT: "13 64",
        _NO.INVALID_ACCOUNT: "14 15 39 52 53 78",
        _NO.TRY_AGAIN_LATER: "19 22 90",
        _NO.EXPIRED_CARD: "33 54",
        _NO.SUSPECTED_FRAUD: "34 59",
        _NO.UNSUPPORTED: "40",
        _NO.CLOSED_ACCOUNT: "46",
        _NO.INSUFFICIENT_FUNDS: "51",
        _NO.AUTHENTICATION_FAILED: "55 75",
        _NO.LIMIT_EXCEEDED: "61 65",
        _NO.AUTHENTICATION_REQUIRED: "1A",
        _NO.ISSUER_UNAVAILABLE: "91 92",
    }.items() for code in codes.split()}
)  # fmt: skip
#: Nothing of the request stands any more: it was reversed, and the switch said so.
REVERSED: Final = STANDARD[DeclineCode.ISSUER_UNAVAILABLE]

#: What every answer must have, beside what it is matched by.
_ANSWER_FIELDS: Final = frozenset({4, 39, 49})


def match_key(message: Message) -> tuple[str, ...]:
    """What an answer and its request have in common: kind, trace number, time; about money also terminal and reference."""
    kind = message.mti[:2] + str(int(message.mti[2]) // 2 * 2)
    return kind, *(message.get(at) for at in ((11, 7) if message.mti[1] == "8" else (11, 7, 41, 37)))


def decided(call: Call, asked: Message, answer: Message) -> Answer | None:
    """What ``answer`` says of ``asked``. None: nothing that may be relied on, so that a request must be undone.

    A clear word about another amount is pending: to undo that other thing is not ours.
    """
    try:
        check_fields(answer, _ANSWER_FIELDS)
    except CodecError:
        return None
    code = answer.fields[39]
    if code in NOT_DECIDED:
        return UNKNOWN
    if code not in APPROVED and code not in DECLINES:
        return None
    if not _same(asked, answer):
        return UNKNOWN
    if code in DECLINES:
        return DECLINES[code].answer()
    if call.kind in ("capture", "void"):
        return Answer("succeeded", pic_reference=call.original_reference)
    return Answer("succeeded", pic_reference=Original.of(asked, answer.get(38)).text)


def undone(asked: Message, answer: Message) -> bool:
    """Whether ``answer`` to the reversal ``asked`` says that nothing stands.

    That the switch has no such request counts from the second time on: at the first it may still have been on its way.
    """
    code = answer.get(39)
    return (code in APPROVED and _same(asked, answer)) or (code in NOT_FOUND and asked.mti.endswith("1"))


def found(call: Call, asked: Message, answer: Message) -> Answer | None:
    """What the answer to an :func:`inquiry` says: 25 is None, the switch never got it; 21, it was reversed."""
    code = answer.get(39)
    if code in NOT_FOUND:
        return None if code == "25" else REVERSED.answer()
    original = answer.fields.get(90, "")
    if original[:10] != asked.fields[90][:10]:
        return UNKNOWN
    told = Message(original[:4], {**asked.fields, 7: original[10:20], 11: original[4:10]})
    return decided(call, told, answer) or UNKNOWN


def _same(asked: Message, answer: Message) -> bool:
    """Whether the answer is about the amount and currency that were asked, as far as it names them."""
    return all(answer.fields.get(at, asked.fields[at]) == asked.fields[at] for at in (4, 49))
