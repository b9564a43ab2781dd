"""Sanctions lists, ready to be asked who a name is.

Pure: a test needs no Kafka, no clock and no list file. A question costs two steps: *candidates* are listed names with words
that sound like those asked for (:mod:`~pipeline.stages.name_index`); then each is compared
(:func:`pipeline.stages.likeness.compare`).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, fields, replace
from functools import lru_cache
from hashlib import blake2b
from itertools import chain, repeat
from typing import Final
from weakref import proxy

import msgspec

from pipeline.stages.likeness import ALGORITHM, compare
from pipeline.stages.memory import no_collections
from pipeline.stages.name_index import NameIndex
from pipeline.stages.names import Name, parse
from pipeline.stages.support import Support, weigh

#: Kinds of what is on a list.
KINDS: Final = frozenset({"person", "organisation", "vessel", "aircraft", "unknown"})
#: Names seen before, kept with what they matched; about 30 MB when full.
CACHED_NAMES_MAX: Final = 100_000
#: Below this score nothing is a match, so a lower ``refer_at`` refers no more than this one.
SCORE_MIN: Final = 0.8
#: Entries that are looked at when a birth date or country is known: the best by name alone may not be the one.
MATCHES_MAX: Final = 10
#: What an alias costs that the source itself calls weak.
WEAK_COST: Final = 0.025


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
    """Sanctions lists, ready to be asked. Immutable but for bounded caches; some 46 MB for OFAC's 23,300 names, 56 MB with
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
        with no_collections():  # They would take a third of the time.
            self._listed: Final = tuple(_listed_in(entries))
            self._index: Final = NameIndex([listed.name for listed in self._listed])
        # Weakly, so that lists that were replaced are freed at once: no cycle waits for a collection.
        me: Watchlists = proxy(self)
        self._cached_matches: Final = lru_cache(CACHED_NAMES_MAX)(lambda text: me._find_matches(text))

    def __len__(self) -> int:
        """How many different names are listed."""
        return self._index.keys_count

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
        for position in self._index.candidates(name):
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


def _listed_in(entries: Iterable[ListEntry]) -> Iterator[_ListedName]:
    """The names of all entries in their order; of those of one entry with one key the first."""
    for entry in entries:
        keys = set[str]()
        for text, weak in chain(zip(entry.names, repeat(False)), zip(entry.weak_names, repeat(True))):
            name = parse(text)
            if name and name.key not in keys:
                keys.add(name.key)
                yield _ListedName(name, text, entry, weak)


_FIELDS: Final = tuple(field.name for field in fields(ListEntry))


def _version_of(entries: tuple[ListEntry, ...]) -> str:
    """Twelve hexadecimal digits that change with any entry and with their order."""
    content = msgspec.msgpack.encode([tuple(getattr(entry, field) for field in _FIELDS) for entry in entries])
    return blake2b(content, digest_size=6).hexdigest()
