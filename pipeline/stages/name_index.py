"""Which listed names are worth comparing with a name: those with words that sound like its own.

Pure. Words that may be one another have the same consonants but for one, and sound the same but for a letter or two. What is
looked at together lies together, as text and as numbers of four bytes in the order of this machine: reading a list all over
the memory takes longer than comparing it.
"""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from functools import lru_cache
from itertools import pairwise
from typing import Final
from weakref import proxy

from pipeline.stages.name_words import FAMILIES, PARTICLES
from pipeline.stages.names import Name
from pipeline.stages.spelling import skeleton, sound

try:
    from pipeline.stages.native_names import select, sounds_near
except ImportError:
    from pipeline.stages.selection import select
    from pipeline.stages.spelling import sounds_near

#: Words seen before, kept with the listed names they may stand for, half a KB each; the commonest have two thousand.
CACHED_WORDS_MAX: Final = 16_384
#: Words with fewer consonants than this are found by all of them, others also with one wrong.
_CONSONANTS_MIN: Final = 3
#: A name of more words counts as one of so many; the longest on the lists have some thirty.
_SIZE_MAX: Final = 255
#: Bytes of a number.
_BYTES: Final = 4


class NameIndex:
    """Positions of listed names by key, by the consonants of the whole name, and by word. Immutable but for a bounded cache."""

    def __init__(self, names: Sequence[Name]) -> None:
        self._by_key: Final = dict[str, tuple[int, ...]]()
        self._by_whole: Final = dict[str, tuple[int, ...]]()
        by_word: dict[str, list[int]] = {}
        sizes = bytearray()
        for at, name in enumerate(names):
            self._by_key[name.key] = (*self._by_key.get(name.key, ()), at)
            whole = _whole(name)
            self._by_whole[whole] = (*self._by_whole.get(whole, ()), at)
            telling = _telling(name)
            sizes.append(min(len(telling), _SIZE_MAX))
            for word in set(telling):
                by_word.setdefault(word, []).append(at)
        #: How many telling words each name has.
        self._sizes: Final = bytes(sizes)
        #: The names of all words one after the other, and where those of each word and of each sound are among them.
        self._positions = b""
        self._of_word: Final = dict[str, slice]()
        self._of_sound: Final = list[slice]()
        #: The sounds of each block, one text, and their places in the list above.
        self._by_block: Final = dict[str, tuple[str, bytes]]()
        #: Words by the family of their forms, each with the place of its sound.
        self._by_family: Final = dict[int, list[tuple[int, str]]]()
        self._lay_out(by_word)
        # Weakly, so that lists that were replaced are freed at once: no cycle waits for a collection.
        me: NameIndex = proxy(self)
        self._names_with: Final = lru_cache(CACHED_WORDS_MAX)(lambda word: me._find_names_with(word))

    def _lay_out(self, by_word: dict[str, list[int]]) -> None:
        """Put words in the order of their skeletons and sounds."""
        positions = array("i")
        before = None
        blocks: dict[str, list[int]] = {}
        sounds: list[str] = []
        for consonants, heard, word in sorted([(skeleton(word), sound(word), word) for word in by_word]):
            begins = _BYTES * len(positions)
            positions.extend(by_word[word])
            at = self._of_word[word] = slice(begins, _BYTES * len(positions))
            if heard == before:
                self._of_sound[-1] = slice(self._of_sound[-1].start, at.stop)
            else:
                before = heard
                for block in _blocks_of(consonants):
                    blocks.setdefault(block, []).append(len(sounds))
                sounds.append(heard)
                self._of_sound.append(at)
            for family in FAMILIES.get(word, ()):
                self._by_family.setdefault(family, []).append((len(sounds) - 1, word))
        self._positions = positions.tobytes()
        for block, places in blocks.items():
            self._by_block[block] = " ".join([sounds[i] for i in places]), array("i", places).tobytes()

    @property
    def keys_count(self) -> int:
        """How many different names there are."""
        return len(self._by_key)

    def candidates(self, name: Name) -> set[int]:
        """Positions of the names that are worth comparing with ``name``."""
        found = {*self._by_key.get(name.key, ()), *self._by_whole.get(_whole(name), ())}
        words = _telling(name)
        hits = [self._names_with(word) for word in dict.fromkeys(words)]
        hits += [
            self._positions[self._of_word[both]] for both in map("".join, pairwise(words)) if both in self._of_word
        ]
        hits.sort(key=len)
        found.update(select(hits, self._sizes, len(words)))
        return found

    def _find_names_with(self, word: str) -> bytes:
        """Positions of names with a word that may be ``word``; more than once where several words of theirs may be."""
        heard = sound(word)
        # One letter in three may be wrong, two at most, beside what sounds the same.
        wrong_max = max(1, min(2, (len(word) + 1) // 3))
        blocks = [block for block in map(self._by_block.get, _blocks_of(skeleton(word))) if block is not None]
        sounds = sounds_near(heard, blocks, wrong_max) if blocks else set[int]()
        parts = [self._positions[self._of_sound[i]] for i in sounds]
        relatives = {each for family in FAMILIES.get(word, ()) for each in self._by_family.get(family, ())}
        parts += [self._positions[self._of_word[other]] for i, other in relatives if i not in sounds]
        return b"".join(parts)


def _telling(name: Name) -> list[str]:
    """The words by which a name is found: neither particles nor single letters, unless there is nothing else."""
    return [word for word in name.tokens if len(word) > 1 and word not in PARTICLES] or list(name.tokens)


#: Letters that come and go between spellings.
_SOFT: Final = dict.fromkeys(map(ord, "aeiouhwy"))


def _whole(name: Name) -> str:
    """The consonants of the whole name as one word: names that are split or joined otherwise have the same."""
    return "".join(name.tokens).translate(_SOFT)


def _blocks_of(consonants: str) -> list[str]:
    """``consonants`` of a word, and them with each one left out: words with one wrong consonant share a block."""
    if len(consonants) < _CONSONANTS_MIN:
        return [consonants]
    return [consonants, *{consonants[:at] + consonants[at + 1 :] for at in range(len(consonants))}]
