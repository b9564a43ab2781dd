"""How alike two names are: a score, and what made it.

Pure. Each word of one name is set against at most one of the other. What is wrong between two words counts by the number of
wrong letters (:mod:`pipeline.stages.spelling`), because people who write one name make one or two mistakes, while two people
have a name that differs in more; what only one of the names has counts little, because payers leave out middle names.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from rapidfuzz.distance import OSA

from pipeline.stages.alignment import (
    CONFLICT_COST,
    MISTAKE_COST,
    ROMAN_SYLLABLE_COST,
    SPACE_MISTAKES_MAX,
    SYLLABLE_LETTERS,
    Aligned,
    weight_of,
)
from pipeline.stages.names import Name
from pipeline.stages.transliteration import SYLLABIC

try:
    from pipeline.stages import native_names
    from pipeline.stages.native_names import align
except ImportError:
    from pipeline.stages.alignment import align

    native_names = None  # type: ignore[assignment]

#: Whether names are compared by compiled code.
COMPILED: Final = native_names is not None

#: Name of :func:`compare` in evidence; another way to score takes another name.
ALGORITHM: Final = "mistakes-2"
#: The highest score of names that are not equal.
DIFFERENT_MAX: Final = 0.9999

#: What a word costs that only one name has ...
EXTRA_COST: Final = 0.03
#: ... in the name of an organisation or vessel.
EXTRA_COST_ORGANISATION: Final = 0.065
#: ... and when only one word is common to both, this once more: a first name is not a person.
ALONE_COST: Final = 0.1
#: One word means that no more than this weight is in pairs, and that this much is not.
ALONE_WEIGHT_MAX: Final = 1.5
ALONE_MISSING_MIN: Final = 0.5
#: What different classes of legal forms cost.
FORM_COST: Final = 0.015
#: What a space in the wrong place costs.
SPACE_COST: Final = 0.04
#: Scores are rounded to four digits.
ROUNDING: Final = 0.0001

#: Kinds whose names are told apart by single words (``Bank of X (London)``); people just leave names out.
_ORGANISED: Final = frozenset({"organisation", "vessel", "aircraft"})


@dataclass(frozen=True, slots=True)
class Likeness:
    """``score`` is 1 for the same name and below 1 for any other; ``evidence`` what lowered it, most important first."""

    score: float
    evidence: tuple[str, ...] = ()


SAME: Final = Likeness(1.0)
UNLIKE: Final = Likeness(0.0)


def compare(party: Name, listed: Name, kind: str = "person", score_min: float = 0.0) -> Likeness:
    """How alike a party's name and a listed name of that ``kind`` are. Symmetric; between 0 and 1.

    A score below ``score_min`` may be given as 0: most names that are compared are no match, and soon known to be none.
    """
    if not party or not listed:
        return UNLIKE
    form = FORM_COST if party.forms and listed.forms and party.forms.isdisjoint(listed.forms) else 0.0
    if party.key == listed.key:
        return Likeness(1 - form, ("legal_form_differs",)) if form else SAME
    same_script = party.script == listed.script
    left, right = (party.own, listed.own) if same_script and party.script else (party.tokens, listed.tokens)
    letters = 1
    if party.script in SYLLABIC or listed.script in SYLLABIC:
        letters = SYLLABLE_LETTERS if same_script else ROMAN_SYLLABLE_COST
    lost_max = 1 - score_min + ROUNDING
    lost = {"legal_form_differs": form} if form else {}
    aligned = align(left, right, letters, lost_max)
    total, certain = lost_max, 0.0
    if aligned is not None:
        certain = _lose(lost, aligned, left, right, kind)
        total = sum(lost.values())
    if total > SPACE_COST:
        wrong = OSA.distance("".join(left), "".join(right), score_cutoff=SPACE_MISTAKES_MAX)
        if (
            wrong * letters <= SPACE_MISTAKES_MAX
            and (spaced := SPACE_COST + MISTAKE_COST * wrong * letters + form) < total
        ):
            total, lost, certain = spaced, {"spaces_differ": spaced}, 1.0
    if not certain or total >= lost_max:
        return UNLIKE
    reasons = sorted(lost, key=lambda reason: -lost[reason])
    if not same_script:
        reasons.append("transliterated")
    return Likeness(max(0.0, min(round(1 - total, 4), DIFFERENT_MAX)), tuple(reasons))


def _lose(lost: dict[str, float], aligned: Aligned, left: tuple[str, ...], right: tuple[str, ...], kind: str) -> float:
    """Add to ``lost`` what the words of two names lose, and why; gives the weight of the pairs that are more than initials."""
    pairs, ours, theirs = aligned
    certain = 0.0
    for cost, weight, reason in pairs:
        certain += weight if reason != "initial" else 0.0
        if cost:
            lost[reason] = lost.get(reason, 0.0) + cost * weight
    if not ours or not theirs:  # A word said twice is no other word.
        known = set(left) & set(right)
        ours, theirs = [word for word in ours if word not in known], [word for word in theirs if word not in known]
    fewer, more = sorted((sum(map(weight_of, ours)), sum(map(weight_of, theirs))))
    if fewer:
        lost["word_differs"] = CONFLICT_COST * fewer
    if more > fewer:
        extra = EXTRA_COST_ORGANISATION if kind in _ORGANISED else EXTRA_COST
        lost["word_left_out"] = extra * (more - fewer)
    if certain < ALONE_WEIGHT_MAX and fewer + more >= ALONE_MISSING_MIN:
        lost["one_word_in_common"] = ALONE_COST
    return certain
