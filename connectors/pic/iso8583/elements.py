"""Data elements of ISO 8583:1987: what may stand in which field, and how long it is.

The notation is the standard's own: ``n 6`` is six digits, ``an..25`` up to 25 letters and digits after a length of two digits,
``ans...999`` after a length of three. ``n 4; MMDD`` is a date. The length of ``x+n`` counts its sign.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

_NOTATION: Final = re.compile(r"(x\+n|ans|an|as|ns|a|n|s|b|z)\s*(\.{0,3})\s*([1-9]\d{0,2})\s*(?:;\s*(\w+)\s*)?")
_CONTENTS: Final = {
    "a": re.compile(r"[A-Za-z ]*"),
    "n": re.compile(r"[0-9]*"),
    "s": re.compile(r"[ -/:-@\[-`{-~]*"),
    "an": re.compile(r"[A-Za-z0-9 ]*"),
    "as": re.compile(r"[ -/:-~]*"),
    "ns": re.compile(r"[ -@\[-`{-~]*"),
    "ans": re.compile(r"[ -~]*"),
    "b": re.compile(r"(?:[0-9A-F]{2})*"),
    # Tracks 2 and 3 (ISO/IEC 7813): digits and, printed or as the half bytes that they are, six separators.
    "z": re.compile(r"[0-9:-?A-F]*"),
    "x+n": re.compile(r"[CD][0-9]*"),
}
_MM: Final = "(?:0[1-9]|1[0-2])"
_MMDD: Final = f"(?:{_MM}(?:0[1-9]|1[0-9]|2[0-9])|(?!02){_MM}30|(?:0[13578]|1[02])31)"
_TIME: Final = "(?:[01][0-9]|2[0-3])[0-5][0-9][0-5][0-9]"
#: Without a year every 29 February is a date.
_DATES: Final = {
    "MMDDhhmmss": re.compile(_MMDD + _TIME),
    "MMDD": re.compile(_MMDD),
    "hhmmss": re.compile(_TIME),
    "YYMM": re.compile(f"[0-9][0-9]{_MM}"),
    "YYMMDD": re.compile(f"(?:[0-9][0-9](?!0229){_MMDD}|(?:[02468][048]|[13579][26])0229)"),
}


@dataclass(frozen=True, slots=True)
class Element:
    """One field. ``length`` is in characters, of ``b`` in bits; ``digits``: of the length before it, 0 where it is fixed."""

    kind: str
    length: int
    digits: int = 0
    date: str = ""

    @classmethod
    def parse(cls, notation: str) -> Element:
        """From the standard's notation. Raises ValueError."""
        found = _NOTATION.fullmatch(notation.strip())
        if found is None or (found[4] and found[4] not in _DATES) or len(found[2]) == 1:
            raise ValueError(
                f"{notation!r} is not the notation of an element: a kind and a length, as 'n 6' or 'ans...999'"
            )
        return cls(found[1], int(found[3]), len(found[2]), found[4] or "")

    def takes(self, value: str) -> bool:
        """Whether ``value`` has the characters of this kind. An empty variable field is one."""
        return (not value and bool(self.digits)) or _CONTENTS[self.kind].fullmatch(value) is not None

    def is_date(self, value: str) -> bool:
        """Whether ``value`` is a date or time, where the element is one."""
        return not self.date or _DATES[self.date].fullmatch(value) is not None


def parse_elements(notations: Mapping[int, str]) -> Mapping[int, Element]:
    """Elements by field. Raises ValueError, with the field."""
    elements = {}
    for field, notation in notations.items():
        try:
            elements[field] = Element.parse(notation)
        except ValueError as error:
            raise ValueError(f"field {field}: {error}") from None
    return MappingProxyType(elements)


_1987: Final = """
    1 b 64              2 n..19            3 n 6              4 n 12             5 n 12             6 n 12
    7 n 10; MMDDhhmmss  8 n 8              9 n 8              10 n 8             11 n 6             12 n 6; hhmmss
    13 n 4; MMDD        14 n 4; YYMM       15 n 4; MMDD       16 n 4; MMDD       17 n 4; MMDD       18 n 4
    19 n 3              20 n 3             21 n 3             22 n 3             23 n 3             24 n 3
    25 n 2              26 n 2             27 n 1             28 x+n 9           29 x+n 9           30 x+n 9
    31 x+n 9            32 n..11           33 n..11           34 ns..28          35 z..37           36 n...104
    37 an 12            38 an 6            39 an 2            40 an 3            41 ans 8           42 ans 15
    43 ans 40           44 an..25          45 an..76          46 an...999        47 an...999        48 an...999
    49 n 3              50 n 3             51 n 3             52 b 64            53 n 16            54 an...120
    55 ans...999        56 ans...999       57 ans...999       58 ans...999       59 ans...999       60 ans...999
    61 ans...999        62 ans...999       63 ans...999       64 b 64            65 b 1             66 n 1
    67 n 2              68 n 3             69 n 3             70 n 3             71 n 4             72 n 4
    73 n 6; YYMMDD      74 n 10            75 n 10            76 n 10            77 n 10            78 n 10
    79 n 10             80 n 10            81 n 10            82 n 12            83 n 12            84 n 12
    85 n 12             86 n 16            87 n 16            88 n 16            89 n 16            90 n 42
    91 an 1             92 an 2            93 an 5            94 an 7            95 an 42           96 b 64
    97 x+n 17           98 ans 25          99 n..11           100 n..11          101 ans..17        102 ans..28
    103 ans..28         104 ans...100      105 ans...999      106 ans...999      107 ans...999      108 ans...999
    109 ans...999       110 ans...999      111 ans...999      112 ans...999      113 ans...999      114 ans...999
    115 ans...999       116 ans...999      117 ans...999      118 ans...999      119 ans...999      120 ans...999
    121 ans...999       122 ans...999      123 ans...999      124 ans...999      125 ans...999      126 ans...999
    127 ans...999       128 b 64
"""
#: The fields of the 1987 edition; switches differ in some of them.
ISO_8583_1987: Final = parse_elements(
    {int(cell.split(None, 1)[0]): cell.split(None, 1)[1] for cell in re.split(r"\s{2,}", _1987.strip())}
)
