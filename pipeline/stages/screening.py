"""Screening: may the parties of this payment be paid?  Pure: a test needs no Kafka, no clock and no list file."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import astuple, dataclass
from functools import lru_cache
from hashlib import blake2b
from typing import Final

import msgspec
from rapidfuzz import fuzz, process

from pipeline.stages.names import ALGORITHM, EXACT_CHARS_MAX, likeness, tokens_of
from schemas.reasons import Reason
from schemas.records import ListEvidence
from schemas.tenant_rules import ScreeningRules

#: Kinds of what is on a list.
KINDS: Final = frozenset({"person", "organisation", "vessel", "aircraft", "unknown"})
#: Names seen before, kept with what they matched; about 20 MB when full.
CACHED_NAMES_MAX: Final = 100_000
#: Below this score nothing is a match, so a lower ``refer_at`` refers no more than this one.
SCORE_MIN: Final = 0.7
#: Candidates are listed names whose sorted tokens, as one text, are this alike (percent, normalized indel similarity).
CANDIDATE_RATIO_MIN: Final = 60
_BLOCK_CHARS: Final = 3


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
    """The listed entry that a name is most like. ``score`` is 1 for the same name, and below 1 for any other."""

    score: float
    list: str
    entry_id: str
    algorithm: str = ALGORITHM


@dataclass(frozen=True, slots=True)
class _ListedName:
    position: int
    tokens: tuple[str, ...]
    entry: ListEntry


class Watchlists:
    """Sanctions lists, ready to be asked. Immutable but for a bounded cache; some 15 MB for 21,700 names.

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
        #: By sorted tokens as one text. Of entries with the same name the first stands for all.
        self._listed: dict[str, _ListedName] = {}
        #: Those texts by the beginnings and endings of their tokens.
        self._blocks: dict[str, list[str]] = {}
        for entry in entries:
            for name in (*entry.names, *entry.weak_names):
                self._add(name, entry)
        self._cached_match: Final = lru_cache(CACHED_NAMES_MAX)(self._find_match)

    def _add(self, name: str, entry: ListEntry) -> None:
        tokens = tokens_of(name)
        text = " ".join(tokens)
        if not tokens or text in self._listed:
            return
        self._listed[text] = _ListedName(len(self._listed), tokens, entry)
        for block in set(_blocks_of(tokens)):
            self._blocks.setdefault(block, []).append(text)

    def __len__(self) -> int:
        """How many different names are listed."""
        return len(self._listed)

    def best_match(self, name: str) -> Match | None:
        """The entry that ``name`` is most like, the first of equals; None when it is like none (:data:`SCORE_MIN`).

        A name without a letter or digit matches nothing.
        """
        return self._cached_match(name)

    def _find_match(self, name: str) -> Match | None:
        tokens = tokens_of(name)
        text = " ".join(tokens)
        same = self._listed.get(text)
        if same is not None:
            return Match(1.0, same.entry.list, same.entry.entry_id)
        # Short words ("al", "bin", "abu") begin thousands of names; they find candidates only where there is no other.
        telling = [token for token in tokens if len(token) > EXACT_CHARS_MAX] or tokens
        candidates = set[str]().union(*(self._blocks.get(block, ()) for block in _blocks_of(telling)))
        best: tuple[float, int] = (SCORE_MIN, 1)
        found: _ListedName | None = None
        for candidate, _, _ in process.extract(
            text, candidates, scorer=fuzz.ratio, score_cutoff=CANDIDATE_RATIO_MIN, limit=None
        ):
            listed = self._listed[candidate]
            score = (likeness(tokens, listed.tokens), -listed.position)
            if score >= best:
                best, found = score, listed
        return Match(best[0], found.entry.list, found.entry.entry_id) if found else None


def _blocks_of(tokens: Iterable[str]) -> Iterator[str]:
    """Where to look for names with a token like one of these: a misspelling seldom changes both ends of a word."""
    for token in tokens:
        yield token[:_BLOCK_CHARS] + "-"
        yield "-" + token[-_BLOCK_CHARS:]


def _version_of(entries: tuple[ListEntry, ...]) -> str:
    """Twelve hexadecimal digits that change with any entry and with their order."""
    content = msgspec.msgpack.encode([astuple(entry) for entry in entries])
    return blake2b(content, digest_size=6).hexdigest()


@dataclass(frozen=True, slots=True)
class Clear:
    """No party is like anybody listed."""


@dataclass(frozen=True, slots=True)
class Referred:
    """A party is like somebody listed; a person decides. ``reason`` is safe to show."""

    reason: Reason
    evidence: ListEvidence


@dataclass(frozen=True, slots=True)
class Blocked:
    """A party is on a list. ``reason`` is safe to show."""

    reason: Reason
    evidence: ListEvidence


_CLEAR: Final = Clear()


def screen(
    debtor_name: str, creditor_name: str, *, lists: Watchlists, rules: ScreeningRules
) -> Clear | Referred | Blocked:
    """Decide whether a payment between these two may go on. The strictest party decides, of equals the debtor."""
    debtor, creditor = lists.best_match(debtor_name), lists.best_match(creditor_name)
    party, match = "debtor", debtor
    if creditor is not None and (debtor is None or creditor.score > debtor.score):
        party, match = "creditor", creditor
    if match is None:
        return _CLEAR
    if match.score >= rules.block_at:
        return Blocked(Reason.PARTY_ON_SANCTIONS_LIST, _evidence(party, match))
    if match.score >= rules.refer_at:
        return Referred(Reason.PARTY_RESEMBLES_LISTED, _evidence(party, match))
    return _CLEAR


def _evidence(party: str, match: Match) -> ListEvidence:
    return ListEvidence(
        party=party, list=match.list, entry_id=match.entry_id, score=match.score, algorithm=match.algorithm
    )
