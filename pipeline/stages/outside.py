"""What a record that others post must hold: ids, codes, amounts, no card number. Pure.

What is wrong is named by field, and never repeats what the field holds.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from typing import Final, NamedTuple

import msgspec

from schemas.card_numbers import holds_card_number
from schemas.identity import ID_PATTERN, TENANT_PATTERN
from schemas.limits import AMOUNT_MINOR_MAX, TEXT_CHARS_MAX
from schemas.money import is_currency
from schemas.records import Record

_GS1: Final = re.compile(r"(?:[0-9]{13}|[0-24-9][0-9]{13})\Z")
#: Fields that may hold a number of GS1's.
_OF_GS1: Final = frozenset({"sku", "location"})
_TRACE_ID: Final = re.compile(r"[0-9a-f]{32}\Z")
#: 1973-03-03. Epoch seconds are below it until the year 5138, and would be taken for 1970.
TIME_MS_MIN: Final = 10**11
#: The end of the year 9999.
TIME_MS_MAX: Final = 253_402_300_799_999


class Mistake(NamedTuple):
    """The field that is wrong, and why, in words that are safe to show."""

    field: str
    why: str

    def __str__(self) -> str:
        return f"{self.field} {self.why}"


def first_mistake(*found: Mistake | None) -> Mistake | None:
    """The first that is one."""
    return next((mistake for mistake in found if mistake is not None), None)


def card_number_in(record: Record) -> Mistake | None:
    """A text that holds a card number. Texts in records inside are not looked at.

    One in ten of GS1's numbers would pass for one: they are let through in fields that are made for them.
    """
    for field, value in zip(record.__struct_fields__, msgspec.structs.astuple(record), strict=True):
        if isinstance(value, str) and holds_card_number(value) and not (field in _OF_GS1 and is_gs1_number(value)):
            return Mistake(field, "holds a card number")
    return None


def is_gs1_number(text: str) -> bool:
    """Whether ``text`` is a GTIN-13, GTIN-14 or GLN with its check digit (GS1 General Specifications, 7.9), and no card's.

    Numbers of 14 digits that begin with 3 may be Diners Club's. Cards of 13 digits are no longer issued.
    """
    if not _GS1.match(text):
        return False
    digits = [int(digit) for digit in reversed(text)]
    return (sum(digits[0::2]) + 3 * sum(digits[1::2])) % 10 == 0


def tenant_mistake(tenant: str) -> Mistake | None:
    """Of the field ``tenant``."""
    if TENANT_PATTERN.match(tenant):
        return None
    return Mistake("tenant", "is not a tenant's id: small letters, digits, - and _, at most 40, the first no sign")


def id_mistake(field: str, value: str, *, may_be_empty: bool = False) -> Mistake | None:
    """Of an id."""
    if (may_be_empty and not value) or ID_PATTERN.match(value):
        return None
    return Mistake(field, "is not an id: printable, no spaces, no |, 1 to 80 characters")


def text_mistake(field: str, value: str) -> Mistake | None:
    """Of a free text."""
    return None if len(value) <= TEXT_CHARS_MAX else Mistake(field, f"is longer than {TEXT_CHARS_MAX} characters")


def word_mistake(field: str, value: str, known: Collection[str]) -> Mistake | None:
    """Of a word of a closed set."""
    return None if value in known else Mistake(field, f"is none of {', '.join(known)}")


def currency_mistake(field: str, value: str) -> Mistake | None:
    """Of a currency."""
    return None if is_currency(value) else Mistake(field, "is not an active ISO 4217 code, in capitals")


def amount_mistake(field: str, value: int, *, least: int = 0) -> Mistake | None:
    """Of an amount in minor units that is at least ``least``."""
    if value < least:
        return Mistake(field, "is below zero" if least == 0 else f"is below {least}")
    return None if value <= AMOUNT_MINOR_MAX else Mistake(field, f"is above {AMOUNT_MINOR_MAX}")


def time_mistake(field: str, value: int) -> Mistake | None:
    """Of a time in epoch milliseconds."""
    return None if TIME_MS_MIN <= value <= TIME_MS_MAX else Mistake(field, "is not a time in epoch milliseconds")


def trace_mistake(value: str) -> Mistake | None:
    """Of the field ``trace_id``."""
    return None if not value or _TRACE_ID.match(value) else Mistake("trace_id", "is not 32 hexadecimal digits")
