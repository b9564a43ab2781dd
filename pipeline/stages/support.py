"""What speaks for or against a match beside the name: birth date and country.

Pure. A name alone is weak evidence: thousands of people are called like somebody listed. A known birth date that differs
lowers the score below what blocks, and one that agrees raises it; nothing known changes nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from pipeline.stages.likeness import DIFFERENT_MAX

#: Birth years this far apart may be one person's: sources often know a year only roughly.
YEARS_NEAR: Final = 1
#: What the birth date does: the same day, the same year, a year apart, other years.
SAME_DAY: Final = 0.03
SAME_YEAR: Final = 0.015
NEAR_YEAR: Final = 0.0
OTHER_DAY: Final = -0.015
OTHER_YEAR: Final = -0.08
#: What the country does; little, since people move and lists name countries of many kinds.
SAME_COUNTRY: Final = 0.005
OTHER_COUNTRY: Final = -0.015


@dataclass(frozen=True, slots=True)
class Support:
    """What is known of a party beside its name; empty is unknown.

    ``birth_date`` is ``YYYY``, ``YYYY-MM`` or ``YYYY-MM-DD``; ``countries`` are ISO 3166-1 alpha-2 codes.
    """

    birth_date: str = ""
    countries: tuple[str, ...] = ()


def weigh(
    score: float, support: Support, *, birth_dates: Sequence[str] = (), countries: Sequence[str] = ()
) -> tuple[float, tuple[str, ...]]:
    """``score`` of a name with what speaks for or against it, within 0 and 1, and the reasons in words.

    Only the same name scores 1: what agrees raises no other name to it. Of several listed dates the best counts.
    """
    change, reasons = 0.0, list[str]()
    if support.birth_date and birth_dates:
        found, reason = max(_date(support.birth_date, listed) for listed in birth_dates)
        if reason:
            change += found
            reasons.append(reason)
    if support.countries and countries:
        same = not {code.upper() for code in support.countries}.isdisjoint(code.upper() for code in countries)
        change += SAME_COUNTRY if same else OTHER_COUNTRY
        reasons.append("country_agrees" if same else "country_differs")
    if change > 0:
        return (score if score >= 1 else min(round(score + change, 4), DIFFERENT_MAX)), tuple(reasons)
    return max(0.0, round(score + change, 4)), tuple(reasons)


def _date(ours: str, listed: str) -> tuple[float, str]:
    """What one listed date does to the score, and why."""
    first, _, last = listed.partition("/")
    year, low = _year(ours), _year(first)
    high = _year(last) if last else low
    if year is None or low is None or high is None:
        return 0.0, ""
    if not low - YEARS_NEAR <= year <= high + YEARS_NEAR:
        return OTHER_YEAR, "birth_date_differs"
    if not low <= year <= high:
        return NEAR_YEAR, "birth_year_near"
    if last or len(ours) == 4 or len(first) == 4:
        return SAME_YEAR, "birth_year_agrees"
    shared = min(len(ours), len(first))
    if ours[:shared] != first[:shared]:
        return OTHER_DAY, "birth_day_differs"
    return (SAME_DAY, "birth_date_agrees") if shared == 10 else (SAME_YEAR, "birth_year_agrees")


def _year(date: str) -> int | None:
    return int(date[:4]) if date[:4].isdecimal() and len(date) >= 4 else None
