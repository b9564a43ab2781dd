"""From calls to messages, and from messages to answers. Pure: the time is an argument.

========== ===================== ==========================================================================
kind       message               named by
========== ===================== ==========================================================================
payment    0200                  trace number (11) and reference (37), both made of the attempt id
authorize  0100                  the same
capture    0220, repeats 0221    reference (37) and data (90) of the original
void       0400, repeats 0401    reference (37) and data (90) of the original
refund     0200, processing 20   its own reference; data (90) of the original
========== ===================== ==========================================================================
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from hashlib import blake2b
from types import MappingProxyType
from typing import Final

from connectors.pic.base import UNKNOWN, Answer, Call, UnsupportedError
from connectors.pic.declines import STANDARD, DeclineCode, Meaning
from connectors.pic.iso8583.codec import CodecError, Message, check_fields
from connectors.pic.iso8583.profile import Profile
from schemas.card_numbers import holds_card_number
from schemas.money import UnknownCurrencyError, numeric_code

#: Field 4 has twelve digits.
AMOUNT_MINOR_MAX: Final = 10**12 - 1
SIGN_ON, SIGN_OFF, ECHO = "001", "002", "301"
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
_REFERENCE: Final = re.compile(r"(0[12]00)\.(\d{6})\.(\d{10})\.([0-9A-Z]{12})\.([0-9A-Za-z ]{0,6})")
#: Field 3: goods and services, a credit to the payer.
_DEBIT, _CREDIT = "000000", "200000"
_TYPES: Final = {"payment": "0200", "authorize": "0100", "capture": "0220", "void": "0400", "refund": "0200"}
_BASE_36: Final = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ"


class RefusedError(Exception):
    """The call cannot be a message of this switch: nothing is sent. ``answer`` is what to say."""

    def __init__(self, code: DeclineCode) -> None:
        super().__init__(code.value)
        self.answer = STANDARD[code].answer()


@dataclass(frozen=True, slots=True)
class Original:
    """What names a request to the switch; its :attr:`text` is our reference of a payment."""

    mti: str
    trace: str
    sent: str
    reference: str
    approval: str = ""

    @classmethod
    def parse(cls, text: str) -> Original:
        """From :attr:`text`. Raises :class:`RefusedError`."""
        found = _REFERENCE.fullmatch(text)
        if found is None:
            raise RefusedError(DeclineCode.INVALID_REQUEST)
        return cls(*found.groups())

    @classmethod
    def of(cls, request: Message, approval: str = "") -> Original:
        """Of a request, and what the answer to it said in field 38."""
        fields = request.fields
        return cls(request.mti, fields[11], fields[7], fields[37], approval if approval.isalnum() else "")

    @property
    def text(self) -> str:
        """Message type, trace number, time, reference, approval code: all that is needed to name it again after a restart."""
        return ".".join((self.mti, self.trace, self.sent, self.reference, self.approval))

    def data(self, acquirer: str) -> str:
        """Field 90."""
        return self.mti + self.trace + self.sent + acquirer.rjust(11, "0") + "0" * 11


def trace_number(seed: str) -> str:
    """Field 11 of an attempt id: six digits, not all of them 0. Two ids may share one."""
    return f"{int.from_bytes(blake2b(seed.encode(), digest_size=8).digest(), 'big') % 999_999 + 1:06}"


def reference_number(seed: str) -> str:
    """Field 37 of an attempt id: twelve digits and capitals, 62 bits."""
    number = int.from_bytes(blake2b(f"{seed}|reference".encode(), digest_size=16).digest(), "big")
    return "".join(_BASE_36[number // 36**place % 36] for place in range(12))


def request(call: Call, profile: Profile, at: datetime) -> Message:
    """0100 or 0200 of a payment, an authorization or a refund, sent at ``at`` (UTC).

    Raises :class:`RefusedError`, and :class:`~connectors.pic.base.UnsupportedError` for a challenge.
    """
    if call.challenge:
        raise UnsupportedError("challenge")
    fields = _fields(call, profile, at, call.attempt_id) | {37: reference_number(call.attempt_id)}
    if call.kind == "refund":
        fields |= {3: _CREDIT, 90: Original.parse(call.original_reference).data(profile.acquirer)}
    return Message(_TYPES[call.kind], fields)


def advice(call: Call, profile: Profile, at: datetime) -> Message:
    """0220 of a capture: the money of an authorization is taken. Raises :class:`RefusedError`."""
    original = Original.parse(call.original_reference)
    return Message("0220", _fields(call, profile, at, call.attempt_id) | _named(original, profile))


def void(call: Call, profile: Profile, at: datetime) -> Message:
    """0400 of what was authorized or paid. Raises :class:`RefusedError`."""
    return reversal(call, Original.parse(call.original_reference), profile, at)


def reversal(call: Call, original: Original, profile: Profile, at: datetime) -> Message:
    """0400 of ``original``: a void, or the end of a request whose answer did not come. Raises :class:`RefusedError`."""
    seed = call.attempt_id if call.kind == "void" else f"{call.attempt_id}|reversal"
    fields = _fields(call, profile, at, seed) | _named(original, profile)
    if call.kind == "refund":
        fields[3] = _CREDIT
    return Message("0400", fields)


def repeat(message: Message) -> Message:
    """An advice or a reversal once more: the same, but that it says so."""
    return Message(message.mti[:3] + "1", message.fields)


def inquiry(call: Call, profile: Profile, at: datetime) -> Message:
    """0600: what became of ``call``? Its answer tells it with the request's own response code. Raises :class:`RefusedError`."""
    if call.kind in ("capture", "void"):
        named = Original.parse(call.original_reference).reference
    else:
        named = reference_number(call.attempt_id)
    asked = {37: named, 90: _TYPES[call.kind] + trace_number(call.attempt_id) + "0" * 32}
    return Message("0600", _fields(call, profile, at, f"{call.attempt_id}|inquiry|{at.isoformat()}") | asked)


def management(code: str, trace: int, at: datetime) -> Message:
    """0800: sign-on, sign-off or echo."""
    return Message("0800", {7: f"{at:%m%d%H%M%S}", 11: f"{trace % 999_999 + 1:06}", 70: code})


def managed(asked: Message) -> Message:
    """0810: the answer to the switch's own 0800."""
    return Message("0810", {at: asked.fields[at] for at in (7, 11, 70) if at in asked.fields} | {39: "00"})


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


def _fields(call: Call, profile: Profile, at: datetime, seed: str) -> dict[int, str]:
    """What every message about money has."""
    amount_minor = call.amount_minor
    if call.terms is not None and call.kind in ("payment", "authorize"):
        amount_minor = call.terms.payable_minor or amount_minor
    if not 0 < amount_minor <= AMOUNT_MINOR_MAX:
        raise RefusedError(DeclineCode.INVALID_AMOUNT)
    if holds_card_number(call.token):
        raise RefusedError(DeclineCode.INVALID_REQUEST)
    try:
        currency = numeric_code(call.currency)
    except UnknownCurrencyError:
        raise RefusedError(DeclineCode.CURRENCY_NOT_SUPPORTED) from None
    return {
        3: _DEBIT,
        4: f"{amount_minor:012}",
        7: f"{at:%m%d%H%M%S}",
        11: trace_number(seed),
        12: f"{at:%H%M%S}",
        13: f"{at:%m%d}",
        18: profile.category,
        22: profile.entry_mode,
        25: profile.condition,
        32: profile.acquirer,
        41: profile.terminal,
        42: profile.merchant,
        49: currency,
        profile.token_field: call.token,
    }


def _named(original: Original, profile: Profile) -> dict[int, str]:
    approval = {38: original.approval.ljust(6)} if original.approval else {}
    return {37: original.reference, 90: original.data(profile.acquirer), **approval}
