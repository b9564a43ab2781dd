"""Which word of one name stands for which of another, and what is wrong between them.

Pure. Compiled, the same is :mod:`pipeline.stages.native_names` (docs/decisions/0040); this is the reference.
"""

from __future__ import annotations

import math
from functools import lru_cache
from itertools import pairwise
from typing import Final

from rapidfuzz.distance import OSA

from pipeline.stages.name_words import GENERIC, PARTICLES, SERVANT
from pipeline.stages.spelling import PAIRS_MAX, mistakes

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
#: Weight of a particle (``al``, ``bin``, ``von``), of ``Abdul``, and of a word that thousands of organisations share.
PARTICLE_WEIGHT: Final = 0.15
SERVANT_WEIGHT: Final = 0.4
GENERIC_WEIGHT: Final = 0.8
#: What it costs to read one letter as the beginning of a word.
INITIAL_COST: Final = 0.05
#: A wrong character of Chinese, Japanese or Korean counts as so many letters, and a wrong letter where one of the names was
#: in such a script and the other in Latin as so many: their syllables are few and short, so that many names sound alike.
SYLLABLE_LETTERS: Final = 3
ROMAN_SYLLABLE_COST: Final = 2
#: Names that differ in no more letters than this when spaces are left out differ in their spaces only.
SPACE_MISTAKES_MAX: Final = 1

Aligned = tuple[list[tuple[float, float, str]], list[str], list[str]]
#: What a pair of words costs, what is preferred of equals, the places of its words, and why.
_Option = tuple[float, int, tuple[int, ...], tuple[int, ...], str]


def weight_of(word: str) -> float:
    """How much ``word`` says of who it is; 1 for most."""
    if word in PARTICLES:
        return PARTICLE_WEIGHT
    if word == SERVANT:
        return SERVANT_WEIGHT
    return GENERIC_WEIGHT if word in GENERIC else 1.0


def align(left: tuple[str, ...], right: tuple[str, ...], letters: int, lost_max: float) -> Aligned | None:
    """Pairs of words as (cost, weight, reason), the cheapest first taken, and the words that are in no pair.

    None when so many words can be in no pair that more than ``lost_max`` is lost.
    """
    ours, theirs = list(left), list(right)
    pairs: list[tuple[float, float, str]] = []
    for word in left:
        if word in theirs:
            ours.remove(word)
            theirs.remove(word)
            pairs.append((0.0, weight_of(word), "spelling_differs"))
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
            weight = max(weight_of(ours[i]) for i in left_at) + max(weight_of(theirs[j]) for j in right_at)
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
    alone, alone_weight, may_stop = 0, 0.0, not options
    alone_max = len(shorter) - len(longer) + sum(weight_of(word) < 1 for word in longer) if may_stop else 0
    for at in range(len(shorter) - 1, -1, -1):  # Last names are the likelier to differ.
        word, found_before = shorter[at], len(options)
        for other_at, other in enumerate(longer):
            found = _word_cost(other, word, letters) if swapped else _word_cost(word, other, letters)
            if found is None:
                continue
            i, j = (other_at, at) if swapped else (at, other_at)
            options.append((found[0], -max(len(word), len(other)), (i,), (j,), found[1]))
        if len(options) == found_before and may_stop:
            alone, alone_weight = alone + 1, max(alone_weight, weight_of(word))
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
