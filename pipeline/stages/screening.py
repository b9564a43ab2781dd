"""Screening: may the parties of this payment be paid?  Pure: a test needs no Kafka, no clock and no list file."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import msgspec

from pipeline.stages.exceptions import Exceptions, NoExceptions, applying, entry_hash, exception_id
from pipeline.stages.support import Support
from pipeline.stages.watchlist import Match, Watchlists
from schemas.reasons import Reason
from schemas.records import ListEvidence, Party
from schemas.tenant_rules import ScreeningRules


@dataclass(frozen=True, slots=True)
class Clear:
    """No party is like anybody listed, or who is was excepted by the tenant: then ``evidence`` says which match."""

    evidence: ListEvidence | None = None


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
_NOBODY: Final = NoExceptions()


def screen(
    debtor: Party,
    creditor: Party,
    *,
    lists: Watchlists,
    rules: ScreeningRules,
    tenant: str = "",
    received_at_ms: int = 0,
    exceptions: Exceptions = _NOBODY,
) -> Clear | Referred | Blocked:
    """Decide whether a payment between these two may go on. The strictest party decides, of equals the debtor.

    A match that an exception of ``tenant`` is about, in force at ``received_at_ms``, does not count; others of the same
    party do.
    """
    strongest: ListEvidence | None = None
    excepted: ListEvidence | None = None
    for role, party in (("debtor", debtor), ("creditor", creditor)):
        # Nearly everybody's name is like none, and what is known beside a name adds no match.
        if lists.best_match(party.name) is None:
            continue
        for match, entry in lists.matches(party.name, _support(party)):
            if match.score < rules.refer_at:
                break
            evidence = _evidence(role, match, entry_hash(entry))
            found = applying(exceptions, tenant, party.id, match, evidence.entry_hash, received_at_ms)
            if found is not None:
                excepted = excepted or msgspec.structs.replace(evidence, exception_id=exception_id(found))
                continue
            if strongest is None or match.score > strongest.score:
                strongest = evidence
            break
    if strongest is None:
        return _CLEAR if excepted is None else Clear(excepted)
    if strongest.score >= rules.block_at:
        return Blocked(Reason.PARTY_ON_SANCTIONS_LIST, strongest)
    return Referred(Reason.PARTY_RESEMBLES_LISTED, strongest)


def _support(party: Party) -> Support:
    return Support(party.birth_date or "", (party.country,) if party.country else ())


def _evidence(role: str, match: Match, content: str) -> ListEvidence:
    return ListEvidence(
        party=role,
        list=match.list,
        entry_id=match.entry_id,
        score=match.score,
        algorithm=match.algorithm,
        party_name=match.party_name,
        listed_name=match.listed_name,
        support=list(match.evidence),
        entry_hash=content,
    )
