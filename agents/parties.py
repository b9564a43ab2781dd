"""Shells of known parties: ``parties.seen.v1`` -> the table ``parties``, and ``parties.flagged.v1`` when lists change;
``erasures.requested.v1`` -> ``parties.erased.v1``, and the row is gone.

A new version of a list is held against every party of a partition, in steps between the cycles. A party that comes meanwhile
is screened at once where its payment was screened by other lists, so that nobody slips through between the two.

The two topics are read in any order: what a row holds depends on the times of payments and erasures, not on that.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Iterable, Sequence
from typing import Final

from agents.context import Context
from agents.outside import bounded
from connectors.lists.book import versions_of
from pipeline import topics
from pipeline.engine.stage import RawRecord, Stage, Work
from pipeline.stages.parties import ERASED_KEPT_MS, ERASURE_DELAY_MS, Known, flag, learn, mistake_in, version_in
from pipeline.stages.watchlist import Watchlists
from schemas.codec import UndecodableError
from schemas.identity import SEPARATOR, erasure_key, partition_of, party_key
from schemas.reasons import Error
from schemas.records import ErasureRequested, PartyErased, PartyFlagged, PartySeen
from schemas.tenant_rules import ScreeningRules
from tables.parties import PROGRESS, Erased, PartyRow, Progress, erased_key

log = logging.getLogger(__name__)

NAME = "parties"
ERASING = "erasing"
#: A step ends after this long; the row under way is finished, which takes a few milliseconds at most.
STEP_S: Final = 0.005
#: Keys looked up for a step.
STEP_KEYS: Final = 256


class Rescreening:
    """Holds changed lists against the parties of each partition (:class:`pipeline.engine.stage.Background`)."""

    def __init__(self, context: Context) -> None:
        self._lists = context.lists
        self._tenants = context.tenants
        self._exceptions = context.exceptions
        self._now_ms = context.now_ms
        self._watch = context.rescreening
        self._encode = context.codec.encoder(PartyFlagged)
        #: What is looked for, and since which version and in which it is new.
        self._against: tuple[str, str, Watchlists] | None = None

    def in_force(self) -> Watchlists:
        """The lists that known parties are to be screened by."""
        return self._lists.in_force(self._now_ms())

    async def step(self, work: Work) -> bool:
        """Look at the next parties of a partition; False when all are screened by what is in force."""
        row: PartyRow = work.rows.get(PROGRESS)
        progress = row.progress or Progress()
        lists = self.in_force()
        if progress.done == lists.version and not progress.target:
            return False
        if progress.target != lists.version:
            progress = Progress(done=progress.done, target=lists.version)
        against = await self._changes(progress.done, lists)
        started_s = time.perf_counter()
        finished, looked_at = False, 0
        keys, last = work.rows.keys_after(progress.reached, STEP_KEYS)
        for key in keys:
            if not key.startswith(PROGRESS):
                self._look_at(work, key, against)
                looked_at += 1
            elif key != PROGRESS:
                self._let_go(work, key)
            progress.reached = key
            if time.perf_counter() - started_s > STEP_S:
                finished = last and key == keys[-1]
                break
        else:
            finished = last
        if finished:
            progress = Progress(done=lists.version)
        row.progress = progress
        work.rows.save(PROGRESS, row)
        self._watch.stepped(work.rows.partition, looked_at, time.perf_counter() - started_s, finished=finished)
        return True

    async def _changes(self, since: str, lists: Watchlists) -> Watchlists:
        if self._against is None or self._against[:2] != (since, lists.version):
            # In a thread: it takes a second, in which payments go on.
            changes = await asyncio.to_thread(self._lists.changes, since, lists)
            self._against = since, lists.version, changes
        return self._against[2]

    def _look_at(self, work: Work, key: bytes, lists: Watchlists) -> None:
        row: PartyRow | None = work.rows.peek(key)
        if row is None or not row.name:
            return
        try:
            hits, marks = self.hits(
                key, Known(row.name, row.country, row.birth_date, row.seen_at_ms), row.flagged, lists
            )
        except Exception as error:  # One party must not keep the others from being screened.
            log.exception("a party could not be screened again")
            self._watch.failed(type(error).__name__)
            return
        if hits:
            self.tell(work, key, hits)
            row.flagged = marks
            work.rows.save(key, row)

    def _let_go(self, work: Work, key: bytes) -> None:
        """Of an erasure that nobody needs to know of any more."""
        row: PartyRow | None = work.rows.peek(key)
        if row is not None and row.erased is not None and row.erased.until_ms + ERASED_KEPT_MS < self._now_ms():
            work.rows.remove(key)

    def hits(
        self, key: bytes, known: Known, flagged: Sequence[str], lists: Watchlists
    ) -> tuple[list[PartyFlagged], list[str]]:
        """Events for whom of ``lists`` the party of ``key`` is like and was not flagged for, and its marks from then on."""
        tenant, _, party_id = key.decode().partition(SEPARATOR)
        now_ms = self._now_ms()
        version, rules = self._tenants.rules(tenant, now_ms) or (0, None)
        hits, marks = flag(
            tenant,
            party_id,
            known,
            flagged,
            lists=lists,
            versions=versions_of(lists.version),
            rules=rules.screening if rules is not None else ScreeningRules(),
            exceptions=self._exceptions,
            at_ms=now_ms,
        )
        events = [
            PartyFlagged(
                tenant=tenant,
                party_id=party_id,
                list=match.list,
                version=version_in(mark),
                entry_id=match.entry_id,
                score=match.score,
                evidence=list(match.evidence),
                algorithm=match.algorithm,
                rule_version=version,
            )
            for mark, match in hits
        ]
        return events, marks

    def tell(self, work: Work, key: bytes, hits: Iterable[PartyFlagged]) -> None:
        """Publish them; durable before the row that has their marks."""
        for event in hits:
            work.emit(topics.PARTIES_FLAGGED.name, self._encode(event), key)
            self._watch.flagged(event.list)


def make(context: Context, rescreening: Rescreening) -> Stage:
    """The stage, bound to its topic and table."""
    decode = context.codec.decoder(PartySeen)

    def handle(record: RawRecord, work: Work) -> None:
        if record.value is None or record.key is None:
            raise UndecodableError(Error.EMPTY_VALUE, "a PartySeen is expected")
        seen, key = decode(record.value), record.key
        row: PartyRow = work.rows.get(key)
        before, version = Known(row.name, row.country, row.birth_date, row.seen_at_ms), row.version
        if not version and (gone := work.rows.peek(erased_key(key))) is not None and gone.erased is not None:
            before, version = Known("", "", "", gone.erased.until_ms), gone.version
        known = learn(before, seen)
        if known is None:
            return
        lists = rescreening.in_force()
        hits, marks = list[PartyFlagged](), row.flagged
        if lists.version != seen.list_version:
            hits, marks = rescreening.hits(key, known, row.flagged, lists)
        rescreening.tell(work, key, hits)
        row.name, row.country, row.birth_date = known.name, known.country, known.birth_date
        row.seen_at_ms, row.flagged, row.version = known.seen_at_ms, marks, version
        work.rows.save(key, row)

    return Stage(name=NAME, source=topics.PARTIES_SEEN.name, handle=handle)


def make_erasing(context: Context) -> Stage:
    """The stage that forgets parties, bound to its topic."""
    decode, encode = context.codec.decoder(ErasureRequested), context.codec.encoder(PartyErased)

    def checked(value: bytes | None) -> ErasureRequested:
        requested = decode(bounded(value, "an ErasureRequested"))
        if mistake := mistake_in(requested):
            raise UndecodableError(*mistake)
        return requested

    def handle(record: RawRecord, work: Work) -> None:
        requested = checked(record.value)
        key = party_key(requested.tenant, requested.party_id)
        if record.key != key or partition_of(key, work.partitions) != record.partition:
            work.repost(record, key)
            return
        place = erased_key(key)
        gone: PartyRow = work.rows.get(place)
        last = gone.erased or Erased()
        if record.offset <= last.offset:
            return  # A repeat after a crash: what it led to is durable.
        row: PartyRow | None = work.rows.peek(key)
        until_ms = max(record.timestamp + ERASURE_DELAY_MS, last.until_ms)
        found = row is not None and row.seen_at_ms < until_ms
        answer = PartyErased(
            tenant=requested.tenant,
            erasure_id=requested.erasure_id,
            by=requested.by,
            found=found,
            erased_at_ms=record.timestamp,
        )
        work.emit(topics.PARTIES_ERASED.name, encode(answer), erasure_key(requested.tenant, requested.erasure_id))
        # Before the row is removed: whoever comes back begins with a version above it.
        gone.erased, gone.version = Erased(until_ms, record.offset), max(gone.version, row.version if row else 0)
        work.rows.save(place, gone)
        if found:
            work.rows.remove(key)

    return Stage(name=ERASING, source=topics.ERASURES.name, handle=handle)
