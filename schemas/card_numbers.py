"""Card numbers must not enter: how one is recognised, masked, and cheaply ruled out.

A card number is 13 to 19 digits (ISO/IEC 7812-1) whose last one is the Luhn check digit, written together or grouped
as cards print them (4-4-4-4 and up to three more, 4-6-5, 4-6-4) with a single space or dash between groups. Digits,
spaces and dashes of any script count. Further digits directly before or after make it another number. Digits inside a
UUID or a hexadecimal word that has a letter in it (a hash) are no card number.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

DIGITS_MIN: Final = 13
DIGITS_MAX: Final = 19

#: Twice a digit, with the digits of that added.
_DOUBLED: Final = (0, 2, 4, 6, 8, 1, 3, 5, 7, 9)
#: Space, no-break, figure, thin, narrow and ideographic space; hyphens and dashes; minus; full-width hyphen.
_SEPARATORS: Final = " \u00a0\u2007\u2009\u202f\u3000-\u2010\u2011\u2012\u2013\u2014\u2015\u2212\uff0d"
_S = f"[{re.escape(_SEPARATORS)}]"
_GROUPED: Final = (
    rf"\d{{4}}{_S}\d{{4}}{_S}\d{{4}}{_S}\d{{4}}",
    rf"\d{{4}}{_S}\d{{4}}{_S}\d{{4}}{_S}\d{{4}}{_S}\d{{1,3}}",
    rf"\d{{4}}{_S}\d{{6}}{_S}\d{{5}}",
    rf"\d{{4}}{_S}\d{{6}}{_S}\d{{4}}",
)
# Look-aheads, so that candidates may overlap: the first group of one can be the second of another.
_IN_TEXT: Final = tuple(
    re.compile(rf"(?<!\d)(?=({form})(?!\d))") for form in (rf"\d{{{DIGITS_MIN},{DIGITS_MAX}}}", *_GROUPED)
)
# Between fields of raw Avro stand length bytes, and the byte of a length 24 to 28 is a digit: one more on each side.
_IN_BYTES: Final = (
    re.compile(rf"(?<!\d)(?=(\d{{{DIGITS_MIN},{DIGITS_MAX + 2}}})(?!\d))"),
    *(re.compile(f"(?=({form}))") for form in _GROUPED),
)
_GROUPS: Final = re.compile(rf"\d{{4}}{_S}\d{{4}}")
_MANY_DIGITS: Final = re.compile(rf"(?:\d{_S}?){{{DIGITS_MIN}}}")
#: For the quick look: ASCII digits, and the first UTF-8 bytes of all others, become "0", anything else a dot ...
_TO_DIGIT: Final = bytes(0x30 if byte in b"0123456789\xd9\xdb\xdf\xe0\xe1\xea\xef\xf0" else 0x2E for byte in range(256))
#: ... once the separators are gone: those in ASCII, and the first bytes of the others with all continuation bytes.
_BETWEEN_DIGITS: Final = b" -\xc2\xe2\xe3" + bytes(range(0x80, 0xC0))
_DIGIT_RUN: Final = b"0" * DIGITS_MIN
_UUID: Final = re.compile(r"[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{12}")
_HEX_LETTER: Final = re.compile(r"[a-fA-F]")
_WORD: Final = re.compile(r"[^\W_]+")
_HEX_WORD: Final = re.compile(r"[0-9a-fA-F]+")


def passes_luhn(digits: str) -> bool:
    """Whether the last of ``digits`` (decimal digits of any script) is the Luhn check digit of the others."""
    backwards = [int(digit) for digit in reversed(digits)]
    return (sum(backwards[0::2]) + sum(_DOUBLED[digit] for digit in backwards[1::2])) % 10 == 0


def holds_card_number(text: str) -> bool:
    """Whether a card number stands anywhere in ``text``."""
    if _MANY_DIGITS.search(text) is None:
        return False
    return any(_spans_in_text(text))


def mask_card_numbers(data: bytes) -> bytes:
    """``data`` with each digit of every card number in it replaced by ``*``, length unchanged.

    ``data`` may be anything (Avro, JSON, not even UTF-8). Where fields end is not known, so one more digit directly
    before or after does not save a card number from being masked: rather mask a few other numbers too than keep one.
    """
    text = data.decode("utf-8", "surrogateescape")
    if _MANY_DIGITS.search(text) is None:
        return data
    masked = list(text)
    for start, end in _spans_in_bytes(text):
        for at in range(start, end):
            if text[at].isdecimal():
                masked[at] = "*" * len(text[at].encode())
    return "".join(masked).encode("utf-8", "surrogateescape")


def may_hold_card_number(raw: bytes) -> bool:
    """False only when no text inside ``raw`` (an Avro body, JSON) can hold a card number; about half a microsecond.

    True says little: ask :func:`holds_card_number` of each field.
    """
    return _DIGIT_RUN in raw.translate(_TO_DIGIT, _BETWEEN_DIGITS)


def _spans_in_text(text: str) -> Iterator[tuple[int, int]]:
    for pattern in _IN_TEXT if _GROUPS.search(text) else _IN_TEXT[:1]:
        for found in pattern.finditer(text):
            start, end = found.span(1)
            if passes_luhn(_digits(found[1])) and not _is_hexadecimal(text, start, end, edge=0):
                yield start, end


def _spans_in_bytes(text: str) -> Iterator[tuple[int, int]]:
    for pattern in _IN_BYTES:
        for found in pattern.finditer(text):
            if _is_hexadecimal(text, *found.span(1), edge=1):
                continue
            start, end = found.span(1)
            # A run of digits may have one too many at either end; a grouped number is found as it is.
            cuts = ((0, 0), (1, 0), (0, 1), (1, 1)) if found[1].isdecimal() else ((0, 0),)
            for before, after in cuts:
                digits = _digits(text[start + before : end - after])
                if DIGITS_MIN <= len(digits) <= DIGITS_MAX and passes_luhn(digits):
                    yield start + before, end - after


def _digits(text: str) -> str:
    return "".join(character for character in text if character.isdecimal())


def _is_hexadecimal(text: str, start: int, end: int, *, edge: int) -> bool:
    """Whether ``text[start:end]`` lies in a UUID or in a word of hexadecimal digits that has a letter.

    A letter among the ``edge`` first or last characters of the word does not count.
    """
    for uuid in _UUID.finditer(text, max(0, start - 36), min(len(text), end + 36)):
        if uuid.start() <= start and end <= uuid.end() and _HEX_LETTER.search(uuid[0]):
            return True
    left = start
    while left > 0 and _WORD.match(text[left - 1]):
        left -= 1
    right = end
    while right < len(text) and _WORD.match(text[right]):
        right += 1
    word = text[left:right]
    return _HEX_WORD.fullmatch(word) is not None and _HEX_LETTER.search(word[edge : len(word) - edge]) is not None
