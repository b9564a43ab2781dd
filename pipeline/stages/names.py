"""Names of people and organisations: one spelling for all that are the same, and how alike two are.

Pure. A name becomes its *tokens*: lower case, without accents, punctuation, titles and legal forms, in alphabetical
order, so that ``Hussein, Saddam`` is ``saddam hussein``. Names are compared in the script they are written in.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from typing import Final

from rapidfuzz.distance import JaroWinkler

#: Name of :func:`likeness` in evidence; another way to score takes another name.
ALGORITHM: Final = "token-jw-1"
#: Tokens up to this many characters are alike only when they are equal: one letter is a third of them.
EXACT_CHARS_MAX: Final = 3
#: Tokens below this Jaro-Winkler similarity are different words.
TOKEN_LIKENESS_MIN: Final = 0.84
#: What a character that only the list has counts, against one of the party's: payers leave out middle names.
LISTED_WEIGHT: Final = 0.3
#: The highest score of names that are not equal.
DIFFERENT_MAX: Final = 0.9999

#: Letters that have no decomposition but a plain Latin counterpart.
_PLAIN: Final = str.maketrans(
    {"ø": "o", "ł": "l", "đ": "d", "ð": "d", "þ": "th", "æ": "ae", "œ": "oe", "ı": "i", "ħ": "h", "ŋ": "n", "ŧ": "t"}
)
_INITIALS: Final = re.compile(r"\b(?:\w\.){2,}(?:\w\b)?")
_APOSTROPHES: Final = re.compile("['`´‘’ʻʼʽʾʿ′]")
_BETWEEN_TOKENS: Final = re.compile(r"[\W_]+")
_TITLES: Final = "mr mrs ms miss mister dr prof professor sir madam"
_LEGAL_FORMS: Final = (
    "ltd limited llc llp lp plc inc incorporated corp corporation co company gmbh ag kg mbh sa sas sarl spa srl sl cv "
    "bv nv ab as asa oy oyj aps pty pte pvt bhd sdn jsc ojsc cjsc pjsc ooo oao zao pao kft sro doo dd fze fzco fzc"
)
_SMALL_WORDS: Final = "de the and of"
_DROPPED: Final = frozenset(f"{_TITLES} {_LEGAL_FORMS} {_SMALL_WORDS}".split())


def tokens_of(name: str) -> tuple[str, ...]:
    """The tokens of ``name``, sorted, repeats kept; empty when there is no letter or digit in it.

    A name of nothing but titles, legal forms and small words keeps them.
    """
    text = name.lower() if name.isascii() else _fold(name)
    if "." in text:
        text = _INITIALS.sub(lambda found: found[0].replace(".", ""), text)
    words = _BETWEEN_TOKENS.sub(" ", _APOSTROPHES.sub("", text)).split()
    return tuple(sorted([word for word in words if word not in _DROPPED] or words))


def _fold(name: str) -> str:
    """Case and accents away, compatibility forms (full width, ligatures) as their plain ones."""
    decomposed = unicodedata.normalize("NFKD", name)
    bare = "".join(character for character in decomposed if not unicodedata.combining(character))
    return unicodedata.normalize("NFC", bare.casefold().translate(_PLAIN))


def likeness(party: Sequence[str], listed: Sequence[str]) -> float:
    """How alike the tokens of a party's name and of a listed name are: 1 when equal, below 1 otherwise, never below 0.

    Each token is paired with at most one of the other name, the most alike first (Jaro-Winkler). The score is the share
    of characters that are in a pair, each counted by how alike its pair is; a character of the listed name counts
    :data:`LISTED_WEIGHT` of one of the party's. So a party without the listed middle name loses little, and a party of
    whom only one name of several is listed loses much.
    """
    if not party or not listed:
        return 0.0
    whole = sum(map(len, party)) + LISTED_WEIGHT * sum(map(len, listed))
    left, right, alike_chars = list(party), list(listed), 0.0
    for token in party:
        if token in right:
            left.remove(token)
            right.remove(token)
            alike_chars += len(token) * (1 + LISTED_WEIGHT)
    pairs = [
        (-similarity, i, j)
        for i, ours in enumerate(left)
        for j, theirs in enumerate(right)
        if (similarity := _token_likeness(ours, theirs))
    ]
    paired_left, paired_right = set[int](), set[int]()
    for negative, i, j in sorted(pairs):
        if i not in paired_left and j not in paired_right:
            paired_left.add(i)
            paired_right.add(j)
            alike_chars -= negative * (len(left[i]) + LISTED_WEIGHT * len(right[j]))
    if not left and not right:
        return 1.0
    # Rounded for evidence, but never up to 1.
    return min(round(alike_chars / whole, 4), DIFFERENT_MAX)


def _token_likeness(ours: str, theirs: str) -> float:
    if len(ours) <= EXACT_CHARS_MAX or len(theirs) <= EXACT_CHARS_MAX:
        return 0.0
    return JaroWinkler.similarity(ours, theirs, score_cutoff=TOKEN_LIKENESS_MIN)
