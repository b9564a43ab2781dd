"""Screening: may the parties of this payment be paid?  Pure: a test needs no Kafka, no clock and no list file."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from pipeline.stages.support import Support
from pipeline.stages.watchlist import KINDS, ListEntry, Match, Watchlists
from schemas.reasons import Reason
from schemas.records import ListEvidence, Party
from schemas.tenant_rules import ScreeningRules

__all__ = ["KINDS", "Blocked", "Clear", "ListEntry", "Match", "Referred", "Support", "Watchlists", "screen"]


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


def screen(debtor: Party, creditor: Party, *, lists: Watchlists, rules: ScreeningRules) -> Clear | Referred | Blocked:
    """Decide whether a payment between these two may go on. The strictest party decides, of equals the debtor."""
    paying, paid = _match(debtor, lists), _match(creditor, lists)
    party, match = "debtor", paying
    if paid is not None and (paying is None or paid.score > paying.score):
        party, match = "creditor", paid
    if match is None:
        return _CLEAR
    if match.score >= rules.block_at:
        return Blocked(Reason.PARTY_ON_SANCTIONS_LIST, _evidence(party, match))
    if match.score >= rules.refer_at:
        return Referred(Reason.PARTY_RESEMBLES_LISTED, _evidence(party, match))
    return _CLEAR


def _match(party: Party, lists: Watchlists) -> Match | None:
    # Nearly everybody's name is like none, and what is known beside a name adds no match.
    if lists.best_match(party.name) is None:
        return None
    countries = (party.country,) if party.country else ()
    return lists.best_match(party.name, Support(party.birth_date or "", countries))


def _evidence(party: str, match: Match) -> ListEvidence:
    return ListEvidence(
        party=party,
        list=match.list,
        entry_id=match.entry_id,
        score=match.score,
        algorithm=match.algorithm,
        party_name=match.party_name,
        listed_name=match.listed_name,
        support=list(match.evidence),
    )
