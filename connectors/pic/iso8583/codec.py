"""Messages of ISO 8583 from and to bytes, in whatever encodings a switch has. Pure.

``pyiso8583`` does the work. Four things it has not, and they are here: a length in hexadecimal digits, a length of three digits
in binary coded decimal with its filler behind it, a second bitmap that is sent though it is empty, and whether a value has the
characters of its field.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from typing import Final, Literal

import iso8583
import msgspec

from connectors.pic.iso8583.elements import ISO_8583_1987, Element, parse_elements
from connectors.pic.iso8583.encoding import Encoding, specification

#: Message authentication code (ISO/IEC 9797-2, algorithm 2): HMAC with SHA-256, cut to the 64 bits that the field has.
MAC_BYTES: Final = 8

Fault = Literal[
    "truncated",
    "trailing_data",
    "undecodable",
    "unknown_field",
    "bad_content",
    "bad_date",
    "not_canonical",
    "missing_field",
    "unexpected_field",
    "bad_mac",
]


class CodecError(ValueError):
    """A message that cannot be read or written: ``reason``, and ``at``, the field (0: none). No value is in it."""

    def __init__(self, reason: Fault, at: int = 0) -> None:
        super().__init__(f"{reason}: field {at}" if at else reason)
        self.reason = reason
        self.at = at


@dataclass(frozen=True, slots=True)
class Message:
    """A message: its type, and values by field; binary ones are hexadecimal. Its ``repr`` shows no value."""

    mti: str
    fields: Mapping[int, str] = field(repr=False)
    #: The second bitmap is there although no field of 65 to 128 is.
    second_bitmap: bool = False

    def get(self, at: int) -> str:
        """The value of a field, without the spaces that fill it; empty without the field."""
        return self.fields.get(at, "").rstrip(" ")


class Format:
    """Elements and encoding of one switch. :meth:`read` and :meth:`write` are each other's inverse, to the byte."""

    def __init__(self, elements: Mapping[int, Element] = ISO_8583_1987, encoding: Encoding | None = None) -> None:
        self.elements = elements
        self._spec = specification(elements, encoding or Encoding())

    @classmethod
    def of_file(cls, raw: bytes) -> Format:
        """From JSON: ``{"elements": {"3": {"Describe": "n 6"}}, "encoding": {"num_enc": "BCD"}}``. Raises ValueError."""
        # Descriptions of fields are for people, in any encoding; nothing of them is kept.
        file = msgspec.json.decode(raw.decode("utf-8", "replace"), type=_File)
        return cls(parse_elements({at: element.notation for at, element in file.elements.items()}), file.encoding)

    def read(self, raw: bytes) -> Message:
        """The message in ``raw``. Raises :class:`CodecError`, also when it is not the only way to write that message."""
        try:
            values, _ = iso8583.decode(raw, self._spec)
        except iso8583.DecodeError as error:
            at = int(error.field) if error.field.isdigit() else 0
            raise CodecError(_fault(error.msg), at) from None
        except KeyError as error:
            raise CodecError("unknown_field", int(error.args[0])) from None
        if not re.fullmatch("[0-9]{4}", values["t"]):
            raise CodecError("undecodable")
        fields = {int(at): value for at, value in values.items() if at.isdigit() and at != "1"}
        message = Message(values["t"], fields, second_bitmap="1" in values and max(fields, default=0) <= 64)
        if self.write(message) != raw:
            raise CodecError("not_canonical")
        return message

    def write(self, message: Message) -> bytes:
        """The bytes of ``message``. Raises :class:`CodecError`."""
        for at, value in message.fields.items():
            element = self.elements.get(at)
            if element is None or at in (1, 65):
                raise CodecError("unknown_field", at)
            if not element.takes(value):
                raise CodecError("bad_content", at)
            if not element.is_date(value):
                raise CodecError("bad_date", at)
        values = {"t": message.mti, **{str(at): value for at, value in message.fields.items()}}
        try:
            raw, parts = iso8583.encode(values, self._spec)
        except iso8583.EncodeError as error:
            raise CodecError("bad_content", int(error.field) if error.field.isdigit() else 0) from None
        if not message.second_bitmap or "1" in parts:
            return bytes(raw)
        bitmaps = f"{int(values['p'], 16) | 1 << 63:016X}" + "0" * 16
        encoding = self._spec["p"]["data_enc"]
        written = bytes.fromhex(bitmaps) if encoding == "b" else bitmaps.encode(encoding)
        mti, primary = len(parts["t"]["data"]), len(parts["p"]["data"])
        return bytes(raw[:mti]) + written + bytes(raw[mti + primary :])

    def signed(self, message: Message, key: bytes) -> Message:
        """``message`` with its authentication code, in the last field of its last bitmap: 64 or 128."""
        at = 128 if message.second_bitmap or max(message.fields, default=0) > 64 else 64
        unsigned = replace(message, fields={**message.fields, at: "00" * MAC_BYTES})
        width = MAC_BYTES if self._spec[str(at)]["data_enc"] == "b" else 2 * MAC_BYTES
        code = hmac.new(key, self.write(unsigned)[:-width], hashlib.sha256).digest()[:MAC_BYTES]
        return replace(message, fields={**message.fields, at: code.hex().upper()})

    def check_signature(self, message: Message, key: bytes) -> None:
        """Raise :class:`CodecError` ``bad_mac`` when the authentication code is not there or not that of ``key``."""
        at = 128 if 128 in message.fields or message.second_bitmap or max(message.fields, default=0) > 64 else 64
        bare = replace(message, fields={other: value for other, value in message.fields.items() if other != at})
        again = self.signed(replace(bare, second_bitmap=at == 128), key)
        if not hmac.compare_digest(message.fields.get(at, ""), again.fields[at]):
            raise CodecError("bad_mac", at)


def check_fields(message: Message, required: Collection[int], optional: Collection[int] | None = None) -> None:
    """Raise :class:`CodecError` for a required field that is missing and, unless ``optional`` is None, for one in neither."""
    for at in sorted(required):
        if at not in message.fields:
            raise CodecError("missing_field", at)
    if optional is not None:
        for at in sorted(message.fields):
            if at not in required and at not in optional:
                raise CodecError("unexpected_field", at)


class _Element(msgspec.Struct, frozen=True):
    notation: str = msgspec.field(name="Describe")


class _File(msgspec.Struct, frozen=True):
    elements: dict[int, _Element]
    encoding: Encoding = Encoding()


def _fault(told: str) -> Fault:
    """The library tells its errors apart by their text alone."""
    if told.startswith("Extra data"):
        return "trailing_data"
    if told.startswith(("Field data is", "Field length is")) and "expecting" in told:
        return "truncated"
    return "undecodable"
