"""Sanctions lists, ready to be asked who a name is.

Pure: a test needs no Kafka, no clock and no list file. A question costs two steps: *candidates* are listed names with words
that sound like those asked for, found in an index; then each is compared (:func:`pipeline.stages.likeness.compare`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields, replace
from functools import lru_cache
from hashlib import blake2b
from itertools import chain, pairwise
from typing import Final
from weakref import proxy

import msgspec
from rapidfuzz import process
from rapidfuzz.distance import OSA

from pipeline.stages.likeness import ALGORITHM, compare
from pipeline.stages.name_words import FAMILIES, PARTICLES
from pipeline.stages.names import Name, parse
from pipeline.stages.spelling import skeleton, sound
from pipeline.stages.support import Support, weigh

#: Kinds of what is on a list.
KINDS: Final = frozenset({"person", "organisation", "vessel", "aircraft", "unknown"})
#: Names seen before, kept with what they matched; about 30 MB when full.
CACHED_NAMES_MAX: Final = 100_000
#: Words seen before, kept with the listed names they may stand for; the commonest have a thousand.
CACHED_WORDS_MAX: Final = 2_048
#: More of them, kept with the listed words they may stand for.
CACHED_SPELLINGS_MAX: Final = 4_096
#: Below this score nothing is a match, so a lower ``refer_at`` refers no more than this one.
SCORE_MIN: Final = 0.8
#: Entries that are looked at when a birth date or country is known: the best by name alone may not be the one.
MATCHES_MAX: Final = 10
#: What an alias costs that the source itself calls weak.
WEAK_COST: Final = 0.025
#: Candidates share two words with the name, or one word that no more than this many listed names have.
RARE_NAMES_MAX: Final = 12
#: Listed names that are compared at most, those with the most words in common first; bounds the time of a question.
COMPARED_MAX: Final = 40
#: Words with fewer consonants than this are found by all of them, others also with one wrong.
_CONSONANTS_MIN: Final = 3


@dataclass(frozen=True, slots=True)
class ListEntry:
    """One person or thing on a list, under all its names.

    ``weak_names`` are aliases that the source itself calls weak or of low quality. ``birth_dates`` are ``YYYY``, ``YYYY-MM``,
    ``YYYY-MM-DD`` or a range of years ``YYYY/YYYY``; ``countries`` (of nationality, citizenship, address or flag) ISO
    3166-1 alpha-2. Empty means: the list does not say.
    """

    list: str
    entry_id: str
    kind: str
    names: tuple[str, ...]
    weak_names: tuple[str, ...] = ()
    birth_dates: tuple[str, ...] = ()
    countries: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Match:
    """The listed entry that a name is most like. ``score`` is 1 for the same name, and below 1 for any other.

    ``party_name`` is the name as it was compared, ``listed_name`` as the list has it. ``evidence`` are stable words for what
    lowered or raised the score, the most important first (:mod:`~pipeline.stages.likeness`, :mod:`~pipeline.stages.support`).
    """

    score: float
    list: str
    entry_id: str
    party_name: str = ""
    listed_name: str = ""
    evidence: tuple[str, ...] = ()
    algorithm: str = ALGORITHM


@dataclass(frozen=True, slots=True)
class _ListedName:
    name: Name
    text: str
    entry: ListEntry
    weak: bool


class Watchlists:
    """Sanctions lists, ready to be asked. Immutable but for bounded caches; some 30 MB for OFAC's 23,300 names, 60 MB with
    10,000 different names asked for.

    The answer to a name depends on the entries and their order only, so all workers with the same ``version`` agree.
    """

    def __init__(self, entries: Iterable[ListEntry], *, version: str = "") -> None:
        """``version`` names the content; when it is empty, a hash of the content does."""
        entries = tuple(entries)
        unknown = {entry.kind for entry in entries} - KINDS
        if unknown:
            raise ValueError(f"unknown kinds of list entries: {', '.join(sorted(unknown))}")
        self.version: Final = version or _version_of(entries)
        self.entries_count: Final = len(entries)
        self._listed: list[_ListedName] = []
        #: How many telling words each of them has.
        self._sizes: list[int] = []
        #: Positions of listed names by key, by the consonants of the whole name, and by word.
        self._by_key: dict[str, list[int]] = {}
        self._by_whole: dict[str, list[int]] = {}
        self._by_word: dict[str, list[int]] = {}
        #: How listed words sound, by consonants; listed words by how they sound, and by the families of their forms.
        self._by_consonants: dict[str, list[str]] = {}
        self._by_sound: dict[str, list[str]] = {}
        self._by_family: dict[int, list[str]] = {}
        for entry in entries:
            for name in entry.names:
                self._add(name, entry, weak=False)
            for name in entry.weak_names:
                self._add(name, entry, weak=True)
        for word in self._by_word:
            heard = sound(word)
            if same := self._by_sound.get(heard):
                same.append(word)  # What sounds the same has the same consonants.
            else:
                self._by_sound[heard] = [word]
                for block in _blocks_of(word):
                    self._by_consonants.setdefault(block, []).append(heard)
            for family in FAMILIES.get(word, ()):
                self._by_family.setdefault(family, []).append(word)
        # Weakly, so that lists that were replaced are freed at once: no cycle waits for a collection.
        me: Watchlists = proxy(self)
        self._spellings_of: Final = lru_cache(CACHED_SPELLINGS_MAX)(lambda word: me._find_spellings_of(word))
        self._names_with: Final = lru_cache(CACHED_WORDS_MAX)(lambda word: me._find_names_with(word))
        self._cached_matches: Final = lru_cache(CACHED_NAMES_MAX)(lambda text: me._find_matches(text))

    def _add(self, text: str, entry: ListEntry, *, weak: bool) -> None:
        name = parse(text)
        if not name:
            return
        position = len(self._listed)
        same = self._by_key.setdefault(name.key, [])
        if any(self._listed[at].entry is entry for at in same):
            return
        same.append(position)
        self._listed.append(_ListedName(name, text, entry, weak))
        self._by_whole.setdefault(_whole(name), []).append(position)
        telling = _telling(name)
        self._sizes.append(len(telling))
        for word in set(telling):
            self._by_word.setdefault(word, []).append(position)

    def __len__(self) -> int:
        """How many different names are listed."""
        return len(self._by_key)

    def best_match(self, name: str, support: Support | None = None) -> Match | None:
        """The entry that ``name`` is most like, the first of equals; None when it is like none (:data:`SCORE_MIN`).

        What is known of the party beside its name may lower or raise the score (:func:`~pipeline.stages.support.weigh`). A
        name without a letter or digit matches nothing.
        """
        found = self._cached_matches(name)
        if not found:
            return None
        if support is None:
            return found[0][0]
        best: Match | None = None
        for match, entry in found:
            score, evidence = weigh(match.score, support, birth_dates=entry.birth_dates, countries=entry.countries)
            if score >= SCORE_MIN and (best is None or score > best.score):
                best = replace(match, score=score, evidence=match.evidence + evidence)
        return best

    def matches(self, name: str, support: Support) -> list[tuple[Match, ListEntry]]:
        """Every entry that ``name`` is like, weighed as :meth:`best_match` does, the best first; no more than ten."""
        weighed = []
        for match, entry in self._cached_matches(name):
            score, evidence = weigh(match.score, support, birth_dates=entry.birth_dates, countries=entry.countries)
            if score >= SCORE_MIN:
                weighed.append((replace(match, score=score, evidence=match.evidence + evidence), entry))
        return sorted(weighed, key=lambda found: -found[0].score)

    def _find_matches(self, text: str) -> tuple[tuple[Match, ListEntry], ...]:
        """The best name of each entry, best first, with the entry."""
        name = parse(text)
        if not name:
            return ()
        best: dict[int, tuple[float, int, _ListedName, tuple[str, ...]]] = {}
        for position in self._candidates(name):
            listed = self._listed[position]
            likeness = compare(name, listed.name, listed.entry.kind, SCORE_MIN)
            score, evidence = likeness.score, likeness.evidence
            if listed.weak:
                score, evidence = round(score - WEAK_COST, 4), (*evidence, "weak_alias")
            if score < SCORE_MIN:
                continue
            known = best.get(id(listed.entry))
            if known is None or (score, -position) > (known[0], -known[1]):
                best[id(listed.entry)] = (score, position, listed, evidence)
        ranked = sorted(best.values(), key=lambda found: (-found[0], found[1]))[:MATCHES_MAX]
        compared = " ".join(name.own or name.tokens)
        return tuple(
            (Match(score, found.entry.list, found.entry.entry_id, compared, found.text, evidence), found.entry)
            for score, _, found, evidence in ranked
        )

    def _candidates(self, name: Name) -> Iterable[int]:
        """Positions of the listed names that are worth comparing."""
        found = {*self._by_key.get(name.key, ()), *self._by_whole.get(_whole(name), ())}
        words = _telling(name)
        hits = [self._names_with(word) for word in dict.fromkeys(words)]
        hits += [self._by_word[both] for both in map("".join, pairwise(words)) if both in self._by_word]
        hits.sort(key=len)
        sizes, size = self._sizes, len(words)
        if size > 1:
            # One word of the shorter name may be missed here: misspelt beyond the index, or an initial. So a name is
            # found by the rarer words, and the commonest is only looked for in what they found.
            common = hits.pop()
            rare = set(chain.from_iterable(names for names in hits if len(names) <= RARE_NAMES_MAX))
            if len(common) <= RARE_NAMES_MAX:
                rare.update(common)
                hits.append(common)
                common = ()
            counts = Counter(chain.from_iterable(map(set, hits)))
            in_common = counts.keys() & common if len(common) < len(counts) else set(counts).intersection(common)
            least = size - 1
            several = [
                at
                for at, found_by in counts.items()
                if ((count := found_by + (at in in_common)) > 1 or at in rare)
                and (count >= least or count >= sizes[at] - 1)
            ]
        else:
            counts = Counter(chain.from_iterable(map(set, hits)))
            several = list(counts)
        if len(several) > COMPARED_MAX:
            several.sort(key=lambda at: (-counts[at], abs(sizes[at] - size), at))
            del several[COMPARED_MAX:]
        found.update(several)
        return found

    def _find_names_with(self, word: str) -> Sequence[int]:
        """Positions of listed names with a word that may be ``word``; more than once where several words of theirs may be."""
        return tuple(chain.from_iterable(map(self._by_word.__getitem__, self._spellings_of(word))))

    def _find_spellings_of(self, word: str) -> tuple[str, ...]:
        """Listed words that may be ``word``, misspelt or in another form."""
        heard = sound(word)
        # One letter in three may be wrong, two at most, beside what sounds the same.
        wrong_max = max(1, min(2, (len(word) + 1) // 3))
        sounds = set[str]()
        for block in _blocks_of(word):
            if block in self._by_consonants:
                near = process.extract(
                    heard, self._by_consonants[block], scorer=OSA.distance, score_cutoff=wrong_max, limit=None
                )
                sounds.update([found for found, _, _ in near])
        families = [self._by_family.get(family, ()) for family in FAMILIES.get(word, ())]
        return tuple({*chain(*map(self._by_sound.__getitem__, sounds), *families)})


def _telling(name: Name) -> list[str]:
    """The words by which a name is found: neither particles nor single letters, unless there is nothing else."""
    return [word for word in name.tokens if len(word) > 1 and word not in PARTICLES] or list(name.tokens)


#: Letters that come and go between spellings.
_SOFT: Final = dict.fromkeys(map(ord, "aeiouhwy"))


def _whole(name: Name) -> str:
    """The consonants of the whole name as one word: names that are split or joined otherwise have the same."""
    return "".join(name.tokens).translate(_SOFT)


def _blocks_of(word: str) -> list[str]:
    """The consonants of ``word``, and them with each one left out: words with one wrong consonant share a block."""
    consonants = skeleton(word)
    if len(consonants) < _CONSONANTS_MIN:
        return [consonants]
    return [consonants, *{consonants[:at] + consonants[at + 1 :] for at in range(len(consonants))}]


_FIELDS: Final = tuple(field.name for field in fields(ListEntry))


def _version_of(entries: tuple[ListEntry, ...]) -> str:
    """Twelve hexadecimal digits that change with any entry and with their order."""
    content = msgspec.msgpack.encode([tuple(getattr(entry, field) for field in _FIELDS) for entry in entries])
    return blake2b(content, digest_size=6).hexdigest()
