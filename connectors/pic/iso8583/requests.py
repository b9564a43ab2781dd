"""From calls to a switch's messages. Pure: the time is an argument.

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
from dataclasses import dataclass
from datetime import datetime
from hashlib import blake2b
from typing import Final

from connectors.pic.base import Call, UnsupportedError
from connectors.pic.declines import STANDARD, DeclineCode
from connectors.pic.iso8583.codec import Message
from connectors.pic.iso8583.profile import Profile
from schemas.card_numbers import holds_card_number
from schemas.money import UnknownCurrencyError, numeric_code

#: Field 4 has twelve digits.
AMOUNT_MINOR_MAX: Final = 10**12 - 1
SIGN_ON, SIGN_OFF, ECHO = "001", "002", "301"
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
