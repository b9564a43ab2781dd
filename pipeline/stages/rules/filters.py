"""Filters of a rule: region, postcode and dates. Pure."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from datetime import date, datetime, timedelta
from functools import lru_cache
from typing import Final
from zoneinfo import ZoneInfo

#: Before and after every time that there is.
ALWAYS_MS: Final = -(2**63)
NEVER_MS: Final = 2**63 - 1

_LEFT_OUT = str.maketrans("", "", " -")
_PATTERN = re.compile(r"[0-9A-Z?]{1,12}\*?\Z|\*\Z")
_RANGE = re.compile(r"([0-9A-Z]{1,12})\.\.([0-9A-Z]{1,12})\Z")
_REGION_PREFIX = re.compile(r"[A-Z]{2}-")
#: ``D-27498``, ``AT-6691``: the country before the code, as people write it.
_COUNTRY_PREFIX = re.compile(r"[A-Za-z]{1,2}-(?=[0-9?])")


class FilterError(ValueError):
    """A filter that is not taken; the text says why."""


def plain_postcode(postcode: str) -> str:
    """A postcode as it is compared: capitals, without spaces, hyphens, and the country in ``D-27498``."""
    if "-" in postcode[1:3]:
        postcode = _COUNTRY_PREFIX.sub("", postcode, count=1)
    return postcode.translate(_LEFT_OUT).upper()


def plain_region(region: str) -> str:
    """A region as it is compared: ``es-cn`` (ISO 3166-2) and ``CN`` are the same."""
    capitals = region.strip().upper()
    return capitals[3:] if _REGION_PREFIX.match(capitals) else capitals


def postcode_filter(patterns: Sequence[str]) -> Callable[[str], bool]:
    """Whether a plain postcode fits one of ``patterns``. Raises :class:`FilterError`."""
    return _postcode_filter(tuple(patterns))


@lru_cache(maxsize=5000)
def _postcode_filter(patterns: tuple[str, ...]) -> Callable[[str], bool]:
    whole: set[str] = set()
    prefixes: list[str] = []
    masks: list[re.Pattern[str]] = []
    ranges: list[tuple[str, str]] = []
    for written in patterns:
        pattern = plain_postcode(written)
        if (between := _RANGE.match(pattern)) is not None:
            first, last = between[1], between[2]
            if len(first) != len(last) or first > last:
                raise FilterError("the ends of a range have the same length, and the first is not above the last")
            ranges.append((first, last))
        elif not _PATTERN.match(pattern):
            raise FilterError("a postcode pattern is letters, digits, ?, and * at its end; or a range A..B")
        elif "?" in pattern:
            # One character after the other, without repetition: time is the pattern's length.
            masks.append(
                re.compile(pattern.removesuffix("*").replace("?", ".") + ("" if pattern[-1] == "*" else r"\Z"))
            )
        elif pattern.endswith("*"):
            prefixes.append(pattern[:-1])
        else:
            whole.add(pattern)
    starts = tuple(prefixes)

    def fits(postcode: str) -> bool:
        if postcode in whole or (starts and postcode.startswith(starts)):
            return True
        for first, last in ranges:
            if len(postcode) == len(first) and first <= postcode <= last:
                return True
        return any(mask.match(postcode) for mask in masks)

    return fits


@lru_cache(maxsize=5000)
def in_force_ms(since: str, until: str, zone: str) -> tuple[int, int]:
    """From which instant, and until before which, a rule is in force: both days whole, in ``zone``. Raises
    :class:`FilterError`."""
    try:
        place = ZoneInfo(zone)
    except (ValueError, OSError, KeyError):
        raise FilterError("is not the name of a time zone, such as Europe/Vienna") from None
    first, last = _day(since), _day(until)
    if first is not None and last is not None and last < first:
        raise FilterError("until is before from")
    return (
        ALWAYS_MS if first is None else _midnight_ms(first, place),
        NEVER_MS if last is None else _midnight_ms(last + timedelta(days=1), place),
    )


def _day(text: str) -> date | None:
    if not text:
        return None
    try:
        if len(text) != 10 or not "1970" <= text[:4] <= "2200":
            raise ValueError
        return date.fromisoformat(text)
    except ValueError:
        raise FilterError("a day is written YYYY-MM-DD, from 1970 to 2200") from None


def _midnight_ms(day: date, zone: ZoneInfo) -> int:
    return round(datetime(day.year, day.month, day.day, tzinfo=zone).timestamp() * 1000)
