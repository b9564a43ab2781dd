"""Names in a tenant's configuration: countries, methods, and how a value is shown in a message. Pure."""

from __future__ import annotations

import re
from functools import cache

from babel import Locale

METHOD_PATTERN = re.compile(r"[a-z][a-z0-9_]{0,39}\Z")
#: A mistake repeats at most this much of a value.
SHOWN_CHARS_MAX = 40

#: Two letters that CLDR knows and ISO 3166-1 does not assign: groups of countries, private use, exceptional
#: reservations.
_NOT_COUNTRIES = frozenset(["AC", "CP", "CQ", "DG", "EA", "EU", "EZ", "IC", "QO", "TA", "UN", "XA", "XB", "ZZ"])


@cache
def countries() -> frozenset[str]:
    """ISO 3166-1 alpha-2 codes, from CLDR, and XK (Kosovo), which is user-assigned and in use for payments."""
    known = [str(code) for code in Locale("en").territories]
    return frozenset(code for code in known if re.fullmatch("[A-Z]{2}", code)) - _NOT_COUNTRIES


def shown(value: object) -> str:
    """A value for a message: short, text in quotes, and nothing that may be a card number."""
    text = str(value)
    if sum(character.isdigit() for character in text) >= 13:
        return "a value of 13 digits or more"
    short = text if len(text) <= SHOWN_CHARS_MAX else text[:SHOWN_CHARS_MAX] + "..."
    return repr(short) if isinstance(value, str) else short
