"""How many mistakes lie between two words of names: the ones that transliteration makes cost less than wrong letters.

Pure. Words are compared as they are written and as they sound (:func:`sound`), since most spellings of a name differ in
vowels, doubled letters and the letters that stand for one sound: ``Qaddafi``, ``Gadhafi``.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Final

from rapidfuzz import process
from rapidfuzz.distance import OSA

from pipeline.stages.name_words import FAMILIES

#: What a letter counts that is written otherwise but sounds the same.
SAME_SOUND_COST: Final = 0.25
#: What it costs when two words are forms of one name (``John``, ``Juan``).
FAMILY_COST: Final = 0.75
#: What it costs to guess the vowels of a word from a script that leaves them out.
VOWELS_COST: Final = 0.75
#: What a wrong consonant counts where nothing but consonants is compared.
CONSONANT_COST: Final = 2.0
#: A word with no vowel in it and at least this many letters comes from such a script.
CONSONANTS_MIN: Final = 3
#: Words with more wrong letters than this are different words, however long.
MISTAKES_MAX: Final = 5
#: Words kept with their sounds, and pairs of words with their cost; a few MB each when full.
SOUNDS_MAX: Final = 32_768
PAIRS_MAX: Final = 16_384

_VOWELS: Final = frozenset("aeiou")
#: Letters that sound alike, one spelling each, applied in this order: several letters, then single ones, then vowels.
_SAME_LETTERS: Final = (
    *(("ph", "f"), ("tsch", "ch"), ("tch", "ch"), ("tsh", "ch"), ("cz", "ch"), ("sch", "sh"), ("sj", "sh")),
    *(("dzh", "j"), ("dsh", "j"), ("dj", "j"), ("zh", "j"), ("ts", "s"), ("tz", "s"), ("dz", "s")),
    *(("ck", "k"), ("kh", "k"), ("gh", "g"), ("dh", "d"), ("th", "t"), ("bh", "b")),
)
#: Those of them that change a word in which no h is and none comes: no other can.
_SAME_LETTERS_WITHOUT_H: Final = tuple(
    (letters, same) for letters, same in _SAME_LETTERS if "h" not in letters and "h" not in same
)
_SAME_LETTER: Final = str.maketrans({"q": "k", "z": "s", "w": "v"})
_SOFT_C: Final = re.compile(r"c(?=[ei])")
_HARD_C: Final = re.compile(r"c(?!h)")
_U: Final = re.compile(r"[aeo]?u|oo|ou|o")
_I: Final = re.compile(r"(?:[yj]?e[yji]?|i[ye]|ij|y|i)+")
_SILENT_H: Final = re.compile(r"(?<=[aiu])h(?![aiu])")
_REPEATED: Final = re.compile(r"(.)\1+")
_SILENT: Final = re.compile(r"[aiu]")


@lru_cache(SOUNDS_MAX)
def sound(word: str) -> str:
    """How ``word`` (lower case, Latin) sounds, roughly, in any language; itself when it has digits."""
    if not word.isalpha():
        return word
    text = word
    for letters, same in _SAME_LETTERS if "h" in text or "cz" in text or "sj" in text else _SAME_LETTERS_WITHOUT_H:
        text = text.replace(letters, same)
    if "c" in text:
        text = _HARD_C.sub("k", _SOFT_C.sub("s", text))
    if "x" in text:
        text = text.replace("x", "ks") if text[0] != "x" else "sh" + text[1:].replace("x", "ks")
    if text.startswith(("hsi", "hsu", "hse")):  # Wade-Giles
        text = "sh" + text[2:]
    text = _I.sub("i", _U.sub("u", text.translate(_SAME_LETTER)))
    return _REPEATED.sub(r"\1", _SILENT_H.sub("", text) if "h" in text else text)


@lru_cache(SOUNDS_MAX)
def skeleton(word: str) -> str:
    """The consonants of what ``word`` sounds like; all of it when there are none."""
    heard = sound(word)
    return _SILENT.sub("", heard) or heard


def sounds_near(heard: str, blocks: list[tuple[str, bytes]], wrong_max: int) -> set[int]:
    """Places of the sounds in ``blocks`` with no more than ``wrong_max`` other letters than ``heard``.

    A block is a text of sounds, a space between them, and their places, each as four bytes in the order of this machine.
    Compiled, the same is :func:`pipeline.stages.native_names.sounds_near`.
    """
    sounds = " ".join([texts for texts, _ in blocks]).split(" ")
    near = process.extract(heard, sounds, scorer=OSA.distance, score_cutoff=wrong_max, limit=None)
    places = memoryview(b"".join([places for _, places in blocks])).cast("i")
    return {places[at] for _, _, at in near}


def mistakes(ours: str, theirs: str, *, enough: int = MISTAKES_MAX + 1) -> float:
    """How many letters are wrong between two words: 0 when they are equal, symmetric, fractions for likely ones.

    A letter more, less, other or swapped with its neighbour is one (optimal string alignment); where the words sound the
    same it is :data:`SAME_SOUND_COST`. From ``enough`` on any number from there on may be given: most words that are
    compared are different ones, and soon known to be.
    """
    if ours == theirs:
        return 0.0
    our_sound, our_consonants, our_families = heard_of(ours)
    their_sound, their_consonants, their_families = heard_of(theirs)
    heard = OSA.distance(our_sound, their_sound, score_cutoff=MISTAKES_MAX)
    cost = float(MISTAKES_MAX + 1)
    if heard <= MISTAKES_MAX:
        written = OSA.distance(ours, theirs, score_cutoff=enough) if heard >= enough else OSA.distance(ours, theirs)
        if heard < enough or written < enough:
            cost = min(float(written), heard + SAME_SOUND_COST * max(written - heard, 1))
    if cost > FAMILY_COST and our_families and not our_families.isdisjoint(their_families):
        cost = FAMILY_COST
    if cost > VOWELS_COST and bool(our_consonants) != bool(their_consonants):
        left, right = our_consonants or consonants_of(our_sound), their_consonants or consonants_of(their_sound)
        breath = left.replace("h", "") if left != right else ""  # heard or not: rhmn, rahman
        if left == right or (len(breath) >= CONSONANTS_MIN and breath == right.replace("h", "")):
            cost = min(cost, VOWELS_COST * (1 if len(left) >= CONSONANTS_MIN else 2))
        elif min(len(left), len(right)) >= CONSONANTS_MIN:
            cost = min(cost, VOWELS_COST + CONSONANT_COST * OSA.distance(left, right))
    return cost


_NONE: Final[frozenset[int]] = frozenset()


@lru_cache(SOUNDS_MAX)
def heard_of(word: str) -> tuple[str, str, frozenset[int]]:
    """What two words are compared by: the sound, the consonants when there is nothing else in it, and the families."""
    bare = len(word) >= CONSONANTS_MIN and _VOWELS.isdisjoint(word) and word.isalpha()
    heard = sound(word)
    return heard, consonants_of(heard) if bare else "", FAMILIES.get(word, _NONE)


#: Vowels, and the consonant that stands for a long vowel in Arabic.
_SOFT: Final = dict.fromkeys(map(ord, "aiuv"))


def consonants_of(heard: str) -> str:
    """The consonants of a sound as Arabic writes them; all of it when there are none."""
    return heard.translate(_SOFT).removesuffix("h") or heard
