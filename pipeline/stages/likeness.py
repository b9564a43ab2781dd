"""How alike two names are: a score, and what made it.

Pure. Each word of one name is set against at most one of the other. What is wrong between two words counts by the number of
wrong letters (:mod:`pipeline.stages.spelling`), because people who write one name make one or two mistakes, while two people
have a name that differs in more; what only one of the names has counts little, because payers leave out middle names.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from typing import Final

from rapidfuzz.distance import OSA

from pipeline.stages.name_words import GENERIC, PARTICLES, SERVANT
from pipeline.stages.names import Name
from pipeline.stages.spelling import PAIRS_MAX, mistakes
from pipeline.stages.transliteration import SYLLABIC

#: Name of :func:`compare` in evidence; another way to score takes another name.
ALGORITHM: Final = "mistakes-2"
#: The highest score of names that are not equal.
DIFFERENT_MAX: Final = 0.9999

#: What one wrong letter takes from the score ...
MISTAKE_COST: Final = 0.0425
#: ... in a word of this many letters; the shorter the word, the more.
USUAL_CHARS: Final = 6
SHORT_POWER: Final = 0.5
#: What each wrong letter costs more than the one before it in the same word.
GROWTH: Final = 1.3
#: Words in which this share of letters is wrong are different words.
DIFFERENT_SHARE: Final = 0.7
#: What two different words in the same place cost.
CONFLICT_COST: Final = 0.25
#: What a word costs that only one name has ...
EXTRA_COST: Final = 0.03
#: ... in the name of an organisation or vessel.
EXTRA_COST_ORGANISATION: Final = 0.065
#: ... and when only one word is common to both, this once more: a first name is not a person.
ALONE_COST: Final = 0.1
#: One word means that no more than this weight is in pairs, and that this much is not.
ALONE_WEIGHT_MAX: Final = 1.5
ALONE_MISSING_MIN: Final = 0.5
#: Weight of a particle (``al``, ``bin``, ``von``), of ``Abdul``, and of a word that thousands of organisations share.
PARTICLE_WEIGHT: Final = 0.15
SERVANT_WEIGHT: Final = 0.4
GENERIC_WEIGHT: Final = 0.8
#: What it costs to read one letter as the beginning of a word.
INITIAL_COST: Final = 0.05
#: What different classes of legal forms cost.
FORM_COST: Final = 0.015
#: A wrong character of Chinese, Japanese or Korean counts as so many letters, and a wrong letter where one of the names was
#: in such a script and the other in Latin as so many: their syllables are few and short, so that many names sound alike.
SYLLABLE_LETTERS: Final = 3
ROMAN_SYLLABLE_COST: Final = 2
#: What a space in the wrong place costs.
SPACE_COST: Final = 0.04
#: Names that differ in no more letters than this when spaces are left out differ in their spaces only.
SPACE_MISTAKES_MAX: Final = 1
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
    aligned = _align(left, right, letters, lost_max)
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


def _weight(word: str) -> float:
    if word in PARTICLES:
        return PARTICLE_WEIGHT
    if word == SERVANT:
        return SERVANT_WEIGHT
    return GENERIC_WEIGHT if word in GENERIC else 1.0


_Aligned = tuple[list[tuple[float, float, str]], list[str], list[str]]
#: What a pair of words costs, what is preferred of equals, the places of its words, and why.
_Option = tuple[float, int, tuple[int, ...], tuple[int, ...], str]


def _lose(lost: dict[str, float], aligned: _Aligned, left: tuple[str, ...], right: tuple[str, ...], kind: str) -> float:
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
    fewer, more = sorted((sum(map(_weight, ours)), sum(map(_weight, theirs))))
    if fewer:
        lost["word_differs"] = CONFLICT_COST * fewer
    if more > fewer:
        extra = EXTRA_COST_ORGANISATION if kind in _ORGANISED else EXTRA_COST
        lost["word_left_out"] = extra * (more - fewer)
    if certain < ALONE_WEIGHT_MAX and fewer + more >= ALONE_MISSING_MIN:
        lost["one_word_in_common"] = ALONE_COST
    return certain


def _align(left: tuple[str, ...], right: tuple[str, ...], letters: int, lost_max: float) -> _Aligned | None:
    """Pairs of words as (cost, weight, reason), the cheapest first taken, and the words that are in no pair.

    None when so many words can be in no pair that more than ``lost_max`` is lost.
    """
    ours, theirs = list(left), list(right)
    pairs: list[tuple[float, float, str]] = []
    for word in left:
        if word in theirs:
            ours.remove(word)
            theirs.remove(word)
            pairs.append((0.0, _weight(word), "spelling_differs"))
    if not ours or not theirs:
        return pairs, ours, theirs
    options = _joins(ours, theirs, letters)
    if not _pair(options, ours, theirs, letters, lost_max):
        return None
    options.sort()
    used_left, used_right = set[int](), set[int]()
    for cost, _, left_at, right_at, reason in options:
        if used_left.isdisjoint(left_at) and used_right.isdisjoint(right_at):
            used_left.update(left_at)
            used_right.update(right_at)
            weight = max(_weight(ours[i]) for i in left_at) + max(_weight(theirs[j]) for j in right_at)
            pairs.append((cost, weight / 2, reason))
    return (
        pairs,
        [word for i, word in enumerate(ours) if i not in used_left],
        [word for j, word in enumerate(theirs) if j not in used_right],
    )


def _pair(options: list[_Option], ours: list[str], theirs: list[str], letters: int, lost_max: float) -> bool:
    """Add to ``options`` the pairs of one word with one; False when more than ``lost_max`` is lost whatever is chosen.

    Most names that are compared have a word without a counterpart, and stop at that word: when ``alone`` words of the
    shorter name are in no pair, at least as many of the longer one are not, less those that it has more.
    """
    shorter, longer = (ours, theirs) if len(ours) <= len(theirs) else (theirs, ours)
    swapped = shorter is theirs
    alone, alone_weight = 0, 0.0
    alone_max = -1 if options else None
    for at in range(len(shorter) - 1, -1, -1):  # Last names are the likelier to differ.
        word, found_before = shorter[at], len(options)
        for other_at, other in enumerate(longer):
            found = _word_cost(other, word, letters) if swapped else _word_cost(word, other, letters)
            if found is None:
                continue
            i, j = (other_at, at) if swapped else (at, other_at)
            options.append((found[0], -max(len(word), len(other)), (i,), (j,), found[1]))
        if len(options) == found_before and alone_max != -1:
            alone, alone_weight = alone + 1, max(alone_weight, _weight(word))
            if alone_max is None:
                alone_max = len(shorter) - len(longer) + sum(_weight(other) < 1 for other in longer)
            if alone > alone_max and CONFLICT_COST * alone_weight > lost_max:
                return False
    return True


def _joins(ours: list[str], theirs: list[str], letters: int) -> list[_Option]:
    """The pairs of two neighbours of one name with one word of the other."""
    options: list[_Option] = []
    for i, (first, second) in enumerate(pairwise(ours)):
        chars = len(first) + len(second)
        for j, their in enumerate(theirs):
            if -SPACE_MISTAKES_MAX <= chars - len(their) <= SPACE_MISTAKES_MAX:
                cost = _joined_cost(first + second, their, letters)
                options += (
                    [(cost, -max(chars, len(their)), (i, i + 1), (j,), "spaces_differ")] if cost is not None else []
                )
    for j, (first, second) in enumerate(pairwise(theirs)):
        chars = len(first) + len(second)
        for i, our in enumerate(ours):
            if -SPACE_MISTAKES_MAX <= chars - len(our) <= SPACE_MISTAKES_MAX:
                cost = _joined_cost(first + second, our, letters)
                options += (
                    [(cost, -max(chars, len(our)), (i,), (j, j + 1), "spaces_differ")] if cost is not None else []
                )
    return options


@lru_cache(PAIRS_MAX)
def _word_cost(our: str, their: str, letters: int) -> tuple[float, str] | None:
    """What it costs to take two words for one, and why; None when they are different words."""
    if (len(our) == 1 or len(their) == 1) and letters != SYLLABLE_LETTERS:
        if our[0] == their[0] and our.isalpha() and their.isalpha():
            return INITIAL_COST, "initial"
        return None
    chars = max(len(our), len(their)) * (letters if letters == SYLLABLE_LETTERS else 1)
    wrong = mistakes(our, their, enough=_enough(chars, letters)) * letters
    if wrong >= DIFFERENT_SHARE * chars:
        return None
    cost = _cost_of(wrong, chars)
    return (cost, "spelling_differs") if cost < CONFLICT_COST else None


@lru_cache
def _enough(chars: int, letters: int) -> int:
    """How many whole mistakes make two words of ``chars`` different words."""
    wrong = 1
    while wrong * letters < DIFFERENT_SHARE * chars and _cost_of(wrong * letters, chars) < CONFLICT_COST:
        wrong += 1
    return wrong


def _joined_cost(joined: str, whole: str, letters: int) -> float | None:
    """What it costs to take two words for one that is written together; the letters must be the same but for one."""
    wrong = int(OSA.distance(joined, whole, score_cutoff=SPACE_MISTAKES_MAX))
    return _cost_of(wrong * letters, len(whole)) if wrong <= SPACE_MISTAKES_MAX else None


def _cost_of(wrong: float, chars: int) -> float:
    """What ``wrong`` letters cost in a word of ``chars``."""
    return MISTAKE_COST * math.pow(wrong, GROWTH) * math.pow(USUAL_CHARS / chars, SHORT_POWER)
