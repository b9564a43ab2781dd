"""How a switch writes its messages, as ``pyiso8583`` wants to be told it. Pure."""

from __future__ import annotations

import codecs
import re
from collections.abc import Mapping
from typing import Any, Final, Literal

import msgspec

from connectors.pic.iso8583.elements import Element


class Encoding(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How a switch writes message type, bitmaps, lengths, digits, other characters, binary fields and tracks.

    ``BCD`` has an odd digit's filler behind it, ``RBCD`` before it; ``HEX`` are hexadecimal digits in ASCII, ``BIN`` bytes.
    """

    mti_enc: Literal["CHAR", "EBCDIC", "BCD"] = "CHAR"
    bmp_enc: Literal["HEX", "BIN"] = "HEX"
    len_enc: Literal["CHAR", "EBCDIC", "HEX", "BCD", "RBCD"] = "CHAR"
    num_enc: Literal["CHAR", "EBCDIC", "BCD", "RBCD"] = "CHAR"
    chr_enc: Literal["ASCII", "EBCDIC"] = "ASCII"
    bin_enc: Literal["HEX", "BIN"] = "HEX"
    trk_enc: Literal["ASCII", "EBCDIC"] = "ASCII"


_TEXT: Final = {"CHAR": "ascii", "ASCII": "ascii", "EBCDIC": "cp037", "HEX": "ascii", "BIN": "b", "BCD": "b"}


def specification(elements: Mapping[int, Element], encoding: Encoding) -> dict[str, dict[str, Any]]:
    """What the library calls a specification."""
    bitmap = {"data_enc": _TEXT[encoding.bmp_enc], "len_enc": "ascii", "len_type": 0, "max_len": 0, "desc": ""}
    made = {"h": bitmap, "t": {**bitmap, "data_enc": _TEXT[encoding.mti_enc]}, "p": bitmap, "1": bitmap}
    for at, element in elements.items():
        if at > 1:
            made[str(at)] = {**_data(element, encoding), **_length(element, encoding), "desc": ""}
    return made


def _data(element: Element, encoding: Encoding) -> dict[str, Any]:
    if element.kind == "b":
        return {
            "data_enc": _TEXT[encoding.bin_enc],
            "max_len": -(-element.length // (8 if encoding.bin_enc == "BIN" else 4)),
        }
    if element.kind != "n":
        return {
            "data_enc": _TEXT[encoding.trk_enc if element.kind == "z" else encoding.chr_enc],
            "max_len": element.length,
        }
    if encoding.num_enc in ("CHAR", "EBCDIC"):
        return {"data_enc": _TEXT[encoding.num_enc], "max_len": element.length}
    filler = "right_pad" if encoding.num_enc == "BCD" else "left_pad"
    return {"data_enc": "b", "max_len": element.length, "len_count": "nibbles", filler: "0"}


def _length(element: Element, encoding: Encoding) -> dict[str, Any]:
    digits = element.digits
    if not digits or encoding.len_enc in ("CHAR", "EBCDIC"):
        return {"len_enc": _TEXT.get(encoding.len_enc, "ascii"), "len_type": digits}
    if encoding.len_enc == "HEX":
        digits = len(f"{element.length:X}")
        return {"len_enc": f"iso8583_hex_{digits}", "len_type": digits}
    behind = encoding.len_enc == "BCD" and digits % 2
    return {"len_enc": f"iso8583_bcd_{digits}" if behind else "bcd", "len_type": (digits + 1) // 2}


def _length_codec(name: str) -> codecs.CodecInfo | None:
    """The library takes any text encoding of Python's for the digits of a length: these are two more."""
    found = re.fullmatch(r"iso8583_(hex|bcd)_(\d)", name)
    if found is None:
        return None
    width = int(found[2])

    def encode(text: str, errors: str = "strict") -> tuple[bytes, int]:
        number = int(text)
        if found[1] == "hex":
            return b"%0*X" % (width, number), len(text)
        return bytes.fromhex(f"{number:0{width}d}0"), len(text)

    def decode(data: Any, errors: str = "strict") -> tuple[str, int]:
        raw = bytes(data)
        return str(int(raw, 16)) if found[1] == "hex" else raw.hex()[:width], len(raw)

    return codecs.CodecInfo(encode, decode, name=name)


codecs.register(_length_codec)
