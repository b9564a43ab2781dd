"""Names in other scripts as Latin letters: so that a name is found however the payer's keyboard writes it.

Pure. Letters are replaced one by one (anyascii); what a script leaves out, as Arabic does with most vowels, is not
guessed: :mod:`pipeline.stages.spelling` compares such words by their consonants.
"""

from __future__ import annotations

import unicodedata
from typing import Final

from anyascii import anyascii

#: Scripts that are written together in one name.
_WRITTEN_TOGETHER: Final = {"HIRAGANA": "CJK", "KATAKANA": "CJK", "KATAKANA-HIRAGANA": "CJK"}
#: Scripts in which one character is a syllable or a word, and many sound alike.
SYLLABIC: Final = frozenset({"CJK", "HANGUL"})
#: Letters that have no decomposition but a plain Latin counterpart, as payers and passports write it.
_PLAIN: Final = str.maketrans(
    {"ø": "o", "ł": "l", "đ": "d", "ð": "d", "þ": "th", "æ": "ae", "œ": "oe", "ı": "i", "ħ": "h", "ŋ": "n", "ŧ": "t"}
)


def fold(name: str) -> str:
    """Case and accents away, compatibility forms (full width, ligatures) as their plain ones, in the same script."""
    if name.isascii():
        return name.lower()
    decomposed = unicodedata.normalize("NFKD", name)
    bare = decomposed
    if any(map(unicodedata.combining, decomposed)):
        bare = "".join([character for character in decomposed if not unicodedata.combining(character)])
    return unicodedata.normalize("NFC", bare.casefold().translate(_PLAIN))


def romanize(word: str) -> str:
    """``word``, folded, in the letters a to z and digits; empty when nothing in it has a counterpart there."""
    if word.isascii():
        return word
    latin = anyascii(word).lower()
    return latin if latin.isalnum() else "".join([character for character in latin if character.isalnum()])


def script_of(text: str) -> str:
    """The script of the first letter in ``text`` that is not Latin, as Unicode names it (``CYRILLIC``); empty for none."""
    if text.isascii():
        return ""
    for character in text:
        if not character.isascii() and character.isalpha():
            script = unicodedata.name(character, "").partition(" ")[0]
            if script != "LATIN":
                return _WRITTEN_TOGETHER.get(script, script)
    return ""
