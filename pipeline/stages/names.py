"""Names of people, organisations and vessels: one spelling for all that are the same.

Pure. A :class:`Name` is what is compared: its *tokens* are lower case, in Latin letters, without accents, punctuation,
titles and legal forms, in the order they were written; ``key`` is the same in alphabetical order and in its own script,
so that ``Hussein, Saddam`` has the key of ``saddam hussein``. How alike two names are is :mod:`pipeline.stages.likeness`.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from pipeline.stages.name_words import EXPANDED, LEGAL_FORMS, LEGAL_PHRASES, NUMBERS, SERVANT, SMALL_WORDS, TENS, TITLES
from pipeline.stages.transliteration import fold, romanize, script_of

#: Characters of a name that are looked at; no name of a person or company is longer, and a text that is costs time.
NAME_CHARS_MAX: Final = 400
#: Words of a name that are looked at: the longest names on the lists have some thirty.
NAME_WORDS_MAX: Final = 40

_INITIALS: Final = re.compile(r"\b(?:\w\.){2,}(?:\w\b)?")
_APOSTROPHES: Final = re.compile("['`´‘’ʻʼʽʾʿ′]")
_SHIP: Final = re.compile(r"\bm/([vt])\b")
_UNKNOWN: Final = re.compile(r"(?<=\w)\?(?=\w)")
_TOKEN: Final = re.compile(r"[^\W_]+")
_PHRASES: Final = re.compile(r"\b(?:" + "|".join(sorted(map(re.escape, LEGAL_PHRASES), key=len, reverse=True)) + r")\b")
_NOT_KEPT: Final = frozenset(LEGAL_FORMS) | TITLES | SMALL_WORDS
_NUMBERED: Final = frozenset(NUMBERS) | frozenset(TENS) | frozenset(EXPANDED)
_PHRASE_SIGNS: Final = frozenset(phrase.split()[0] for phrase in LEGAL_PHRASES)
#: Beginnings of Arabic names that belong to what follows, article or not: ``Abd al-Rahman``, ``Abdurrahman``.
_SERVANTS: Final = frozenset({"abd", "abdul", "abdel", "abdal", "abdur", "abdus", "abdoul", "abdool"})
_SERVANT_AND_NAME: Final = re.compile(r"^abd(?:[uae](?:[lsnzdt]|r(?![aeiou]))|u(?=r))(?!lah)(?=\w{3})")
_ARTICLES: Final = frozenset({"al", "el", "ul", "ar", "er", "ur", "as", "us", "az", "ad", "ed", "ud", "an", "ash"})
#: The servant and the article in Arabic letters.
_ABD: Final = "عبد"
_AL: Final = "ال"
#: Endings of Arabic names that are one word with what stands before, whatever article is between: ``Saif al-Din``.
_FAITH: Final = frozenset({"din", "deen", "eddin", "eddine", "uddin", "dine", "aldin", "eldin"})


@dataclass(frozen=True, slots=True)
class Name:
    """A name as it is compared. Two names with one ``key`` are the same name but for their legal ``forms``."""

    tokens: tuple[str, ...]
    key: str
    #: Classes of legal forms in it (:data:`~pipeline.stages.name_words.LEGAL_FORMS`).
    forms: frozenset[str] = frozenset()
    #: The script of its letters, empty for Latin, and its words in it.
    script: str = ""
    own: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.key)


NOBODY: Final = Name((), "")


def parse(name: str) -> Name:
    """What is compared of ``name``; :data:`NOBODY` when there is no letter or digit in it.

    A name of nothing but titles, legal forms and small words keeps them.
    """
    text = fold(name[:NAME_CHARS_MAX])
    if "," in text:  # "Rahman, Abdul" is "Abdul Rahman": what belongs together is side by side.
        last, _, first = text.partition(",")
        text = f"{first} {last}"
    if "." in text:
        text = _INITIALS.sub(lambda found: found[0].replace(".", "") + " ", text)
    if "/" in text:
        text = _SHIP.sub(r"m\1", text)
    if "?" in text:  # A letter that some system on the way did not know, mostly an apostrophe.
        text = _UNKNOWN.sub("", text)
    if text.isascii():
        words = _TOKEN.findall(text.replace("'", "").replace("`", ""))[:NAME_WORDS_MAX]
    else:
        text = _APOSTROPHES.sub("", text)
        if not text.replace(" ", "").isalnum():
            text = "".join([sign if _is_in_word(sign) else " " for sign in text])
        words = text.split()[:NAME_WORDS_MAX]
    if not _PHRASE_SIGNS.isdisjoint(words):
        words = _PHRASES.sub(lambda found: LEGAL_PHRASES[found[0]], " ".join(words)).split()
    kept: list[str] = []
    forms: set[str] = set()
    if _NOT_KEPT.isdisjoint(words):
        kept = words
    else:
        for word in words:
            if word in LEGAL_FORMS:
                forms.add(LEGAL_FORMS[word])
            elif word not in _NOT_KEPT:
                kept.append(word)
    if not kept:
        kept, forms = words, set()
    if not kept:
        return NOBODY
    own = _joined(_numbered(kept))
    script = script_of(text)
    if not script:
        return Name(tuple(own), " ".join(sorted(own)), frozenset(forms))
    spelt = (_from_arabic(word) if script == "ARABIC" else (romanize(word),) for word in own)
    latin = _joined(word for words in spelt for word in words if word)
    return Name(tuple(latin) or tuple(own), " ".join(sorted(own)), frozenset(forms), script, tuple(own))


def _from_arabic(word: str) -> Iterator[str]:
    """``word`` in Latin letters, its article and a servant's ``Abd`` apart, as they are mostly written there."""
    if word.startswith(_ABD) and (len(word) == len(_ABD) or word.startswith(_AL, len(_ABD))):
        yield SERVANT
        word = word[len(_ABD) :]
    if word.startswith(_AL) and len(word) > len(_AL) + 1:
        word = word[len(_AL) :]
    yield romanize(word)


def _is_in_word(sign: str) -> bool:
    """Letters, digits and the marks that are vowels in the scripts of India and South East Asia."""
    return sign.isalnum() or unicodedata.category(sign)[0] == "M"


def _numbered(words: Sequence[str]) -> list[str]:
    """Numbers in words as digits, short forms in full."""
    if _NUMBERED.isdisjoint(words):
        return list(words)
    found: list[str] = []
    tens = 0
    for word in words:
        digits = NUMBERS.get(word)
        if tens:
            if digits is not None and 0 < int(digits) < 10:
                found.append(str(tens + int(digits)))
                tens = 0
                continue
            found.append(str(tens))
            tens = 0
        if word in TENS:
            tens = TENS[word]
        elif word in EXPANDED:
            found += EXPANDED[word].split()
        else:
            found.append(word if digits is None else digits)
    if tens:
        found.append(str(tens))
    return found


def _joined(words: Iterable[str]) -> list[str]:
    """Arabic names in one form: ``abd al rahman`` and ``abdurrahman`` are ``abdul rahman``, ``saif al din`` ``saifuddin``."""
    words = list(words)
    if _FAITH.isdisjoint(words) and "abd" not in " ".join(words):  # As all servants begin.
        return words
    found: list[str] = []
    for word in words:
        if word in _SERVANTS:
            found.append(SERVANT)
        elif found and found[-1] == SERVANT and word in _ARTICLES:
            continue
        elif word in _FAITH and found and found[-1] != SERVANT:
            if len(found) > 1 and found[-1] in _ARTICLES:
                found.pop()
            found[-1] += "uddin"
        elif servant := _SERVANT_AND_NAME.match(word):
            found += [SERVANT, word[servant.end() :]]
        else:
            found.append(word)
    return found
