"""Known parties: what is kept of them, and whom of them a new list names.  Pure: a test needs no Kafka and no clock."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from pipeline.stages.exceptions import Exceptions, applying, entry_hash
from pipeline.stages.support import Support
from pipeline.stages.watchlist import Match, Watchlists
from schemas.records import Party, PartySeen
from schemas.tenant_rules import ScreeningRules

#: Parties known lately, so that one that pays every day is told of once; some 5 MB when full.
SIGHTINGS_MAX: Final = 50_000


@dataclass(frozen=True, slots=True)
class Known:
    """What is kept of a party."""

    name: str
    country: str
    birth_date: str
    seen_at_ms: int


class Sightings:
    """Which parties were told of lately. In memory: after a restart they are told of once more, which changes nothing."""

    def __init__(self) -> None:
        #: Hashes only, of whom and of what was told: no names are kept, and no sender can choose two that are equal.
        self._told: dict[int, int] = {}

    def is_news(self, tenant: str, party: Party) -> bool:
        """Whether ``party`` is new or differs from what was told of it last; from now on it is known."""
        who, what = hash((tenant, party.id)), hash((party.name, party.country, party.birth_date))
        told = self._told.get(who)
        if told == what:
            return False
        if told is None and len(self._told) >= SIGHTINGS_MAX:
            del self._told[next(iter(self._told))]
        self._told[who] = what
        return True


def learn(known: Known, seen: PartySeen) -> Known | None:
    """What is kept from now on; None when ``seen`` is no news: earlier, or the same.

    It depends on the set of what was seen, not on the order: of two at one time the greater counts.
    """
    news = Known(seen.name, seen.country, seen.birth_date or "", seen.seen_at_ms)
    ours = (known.seen_at_ms, known.name, known.country, known.birth_date)
    return news if (news.seen_at_ms, news.name, news.country, news.birth_date) > ours else None


def flag(
    tenant: str,
    party_id: str,
    party: Known,
    flagged: Sequence[str],
    *,
    lists: Watchlists,
    versions: Mapping[str, str],
    rules: ScreeningRules,
    exceptions: Exceptions,
    at_ms: int,
) -> tuple[list[tuple[str, Match]], list[str]]:
    """Whom of ``lists`` a party is like, as screening sees it: each as its mark and match, without those in ``flagged`` and
    those that the tenant made an exception for; and the marks to keep: those of ``versions`` (by list), the new ones last.
    """
    support = Support(party.birth_date, (party.country,) if party.country else ())
    kept = [mark for mark in flagged if _is_of(mark, versions)]
    hits = []
    for match, entry in lists.matches(party.name, support):
        if match.score < rules.refer_at:
            break
        mark = f"{match.list}:{versions.get(match.list, lists.version)}:{match.entry_id}"
        if mark in flagged or applying(exceptions, tenant, party_id, match, entry_hash(entry), at_ms) is not None:
            continue
        hits.append((mark, match))
    return hits, kept + [mark for mark, _ in hits]


def version_in(mark: str) -> str:
    """The version of the list in a mark."""
    return mark.split(":", 2)[1]


def _is_of(mark: str, versions: Mapping[str, str]) -> bool:
    list_id, version, _ = mark.split(":", 2)
    return versions.get(list_id, version) == version
