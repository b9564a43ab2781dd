"""Known parties: what is kept of them, until when, and whom of them a new list names.  Pure: a test needs no Kafka and no
clock."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

from pipeline.stages.exceptions import Exceptions, applying, entry_hash
from pipeline.stages.support import Support
from pipeline.stages.watchlist import Match, Watchlists
from schemas.card_numbers import holds_card_number
from schemas.identity import ID_PATTERN, TENANT_PATTERN
from schemas.limits import BY_CHARS_MAX
from schemas.reasons import Error
from schemas.records import ErasureRequested, Party, PartySeen
from schemas.tenant_rules import ScreeningRules

#: Parties known lately, so that one that pays every day is told of once; some 5 MB when full.
SIGHTINGS_MAX: Final = 50_000
#: What was received until so long after an erasure counts as before it: by then every worker that screens has heard of it.
ERASURE_DELAY_MS: Final = 3_000
#: How long it is kept that a party was erased: longer than payments wait in their topic, and than a disk that was not used may
#: be used again (``delete.retention.ms`` of the changelog).
ERASED_KEPT_MS: Final = 31 * 24 * 60 * 60 * 1000


@dataclass(frozen=True, slots=True)
class Known:
    """What is kept of a party."""

    name: str
    country: str
    birth_date: str
    seen_at_ms: int


class Erasures(Protocol):
    """What screening asks (connectors/erasures/book.py)."""

    def until_ms(self, tenant: str, party_id: str) -> int:
        """Payments received before it are of before the party's last erasure; 0: it was not erased."""


class Sightings:
    """Which parties were told of lately. In memory: after a restart they are told of once more, which changes nothing."""

    def __init__(self, erasures: Erasures) -> None:
        self._erasures = erasures
        #: Hashes only, of whom and of what was told: no names are kept, and no sender can choose two that are equal.
        self._told: dict[int, int] = {}
        #: Of those that were erased: after which erasure they were told of.
        self._told_after: dict[int, int] = {}

    def is_news(self, tenant: str, party: Party, received_at_ms: int) -> bool:
        """Whether ``party``, of a payment received then, is new, was erased, or differs from what was told of it last; from now
        on it is known."""
        who, what = hash((tenant, party.id)), hash((party.name, party.country, party.birth_date))
        told = self._told.get(who)
        erased_ms = self._erasures.until_ms(tenant, party.id)
        if erased_ms and received_at_ms >= erased_ms > self._told_after.get(who, 0):
            # The table has forgotten what was told before.
            self._told_after[who], told = erased_ms, None
        if told == what:
            return False
        if who not in self._told and len(self._told) >= SIGHTINGS_MAX:
            oldest = next(iter(self._told))
            del self._told[oldest]
            self._told_after.pop(oldest, None)
        self._told[who] = what
        return True


def mistake_in(requested: ErasureRequested) -> tuple[Error, str] | None:
    """Why an erasure cannot be one; None when it can. Erasures come from outside."""
    if not TENANT_PATTERN.match(requested.tenant):
        return Error.INVALID_ERASURE, "tenant is not a valid id"
    for field in ("party_id", "erasure_id"):
        if not ID_PATTERN.match(getattr(requested, field)):
            return Error.INVALID_ERASURE, f"{field} is not a valid id"
    if not requested.by.strip() or len(requested.by) > BY_CHARS_MAX or not requested.by.isprintable():
        return Error.INVALID_ERASURE, f"by must be 1 to {BY_CHARS_MAX} printable characters"
    if any(holds_card_number(text) for text in (requested.tenant, requested.erasure_id, requested.by)):
        return Error.CARD_NUMBER_IN_TEXT, "tenant, erasure_id or by"
    return None


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
