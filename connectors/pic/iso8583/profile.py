"""What one switch is like, from its settings (docs/plugins-iso8583.md lists them)."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from connectors.pic.iso8583.codec import Format
from connectors.pic.iso8583.framing import HEADERS, Header
from connectors.pic.options import PicOptions, PicSettingError

#: Where a card's number, tracks, PIN or chip data stand: a token is none of these.
CARD_FIELDS: Final = frozenset({2, 34, 35, 36, 45, 52, 55})
#: Where a switch may want the token: additional and reserved data.
TOKEN_FIELDS: Final = frozenset({46, 47, 48, *range(56, 64), *range(104, 128), 102, 103})
#: Of ``PTR_PIC_TIMEOUT_S``: how long an answer is waited for, then each answer to a reversal at first; the rest is for repeats.
ANSWER_SHARE: Final = 0.5
REVERSAL_SHARE: Final = 0.2
CONNECT_SHARE: Final = 0.2


@dataclass(frozen=True, slots=True, kw_only=True)
class Profile:
    """One switch. ``format`` and ``header`` are what its bytes are like; ``mac_key`` is empty where messages carry no code."""

    host: str
    port: int
    #: Field 41, eight characters: who we are, and a part of what an answer is matched by.
    terminal: str
    #: Field 42, fifteen characters.
    merchant: str
    #: Field 32.
    acquirer: str
    #: Field 18, merchant category; 22, point of service entry mode (credentials on file); 25, condition (electronic commerce).
    category: str = "5999"
    entry_mode: str = "100"
    condition: str = "59"
    token_field: int = 63
    header: Header = "binary2"
    format: Format = field(default_factory=Format, repr=False)
    mac_key: bytes = field(default=b"", repr=False)
    connections: int = 2
    answer_s: float = 2.5
    reversal_s: float = 1.0
    connect_s: float = 1.0
    echo_s: float = 30.0
    #: What this switch was agreed to do; none of it is in the standard.
    deduplicates: bool = False
    inquiries: bool = False
    several_captures: bool = False


def profile_of(options: PicOptions) -> Profile:
    """Raises :class:`PicSettingError` for what is missing or cannot be, with the variable's name."""

    def number(key: str, default: float, low: float, high: float) -> float:
        try:
            value = float(options.setting(key, str(default)))
        except ValueError:
            value = low - 1
        if not low <= value <= high:
            raise PicSettingError(
                f"PIC {options.name}: {options.variable(key)} must be a number from {low:g} to {high:g}"
            )
        return value

    def text(key: str, pattern: str, default: str | None = None) -> str:
        value = options.setting(key, default)
        if re.fullmatch(pattern, value) is None:
            raise PicSettingError(f"PIC {options.name}: {options.variable(key)} must match {pattern}")
        return value

    def agreed(key: str) -> bool:
        return text(key, "yes|no", "no") == "yes"

    token_field = int(number("token_field", 63, 1, 128))
    if token_field not in TOKEN_FIELDS:
        raise PicSettingError(
            f"PIC {options.name}: {options.variable('token_field')} must name a field of additional or private data,"
            " not one for card data or for what the plugin itself writes"
        )
    return Profile(
        host=text("host", r"\S+"),
        port=int(number("port", 0, 1, 65_535)),
        terminal=text("terminal", r"[ -~]{1,8}").ljust(8),
        merchant=text("merchant", r"[ -~]{1,15}").ljust(15),
        acquirer=text("acquirer", r"\d{1,11}"),
        category=text("category", r"\d{4}", "5999"),
        entry_mode=text("entry_mode", r"\d{3}", "100"),
        condition=text("condition", r"\d{2}", "59"),
        token_field=token_field,
        header=_header(text("header", "|".join(HEADERS), HEADERS[0])),
        format=_format(options),
        mac_key=options.secret("mac_key").encode() if options.has_secret("mac_key") else b"",
        connections=int(number("connections", 2, 1, 64)),
        answer_s=number("answer_s", options.timeout_s * ANSWER_SHARE, 0.001, 600),
        reversal_s=number("reversal_s", options.timeout_s * REVERSAL_SHARE, 0.001, 600),
        connect_s=number("connect_s", options.timeout_s * CONNECT_SHARE, 0.001, 600),
        echo_s=number("echo_s", 30, 0.001, 3600),
        deduplicates=agreed("deduplicates"),
        inquiries=agreed("inquiries"),
        several_captures=agreed("several_captures"),
    )


def _header(word: str) -> Header:
    return "binary2" if word == "binary2" else "ascii4"


def _format(options: PicOptions) -> Format:
    path = options.setting("format", "")
    if not path:
        return Format()
    try:
        return Format.of_file(Path(path).read_bytes())
    except (OSError, ValueError) as error:
        raise PicSettingError(f"PIC {options.name}: {options.variable('format')} cannot be read: {error}") from None
