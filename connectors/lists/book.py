"""All versions of all sanctions lists that were read, and which of them are in force at a time."""

from __future__ import annotations

import logging
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

from connectors.lists.difference import compare
from connectors.lists.version import UnusableListError, content_of, entries_of, is_retired
from connectors.timeline import Timeline, in_force
from pipeline.stages.watchlist import ListEntry, Watchlists
from schemas.records import ListPart, ListUpdated

log = logging.getLogger(__name__)

#: A version is in force this long after its head's timestamp. By then every worker has read it and made it ready to be
#: asked, so that all of them, and a repeat after a crash, decide a payment by the same version.
EFFECTIVE_DELAY_MS: Final = 10_000
#: Lists that were replaced are kept this long, for payments that were received before: as long as a worker may take to
#: come back after a crash and still repeat its decisions. Later ones are decided by what is in force then.
KEPT_MS: Final = 10 * 60 * 1000
#: Of them, the one in force included; each takes some 18 MB.
KEPT_MAX: Final = 3
#: Versions whose parts are held without a head: what imports left behind that were killed.
HEADLESS_MAX: Final = 4

#: Version by list: what is in force together.
_Together = tuple[tuple[str, str], ...]


class ListWatch(Protocol):
    """Who wants to know what becomes of lists: metrics. Called in the thread that reads."""

    def in_force(self, heads: Sequence[ListUpdated]) -> None:
        """These are the newest usable versions now."""

    def refused(self, list_id: str) -> None:
        """A version of this list cannot be used."""


class _Nobody:
    def in_force(self, heads: Sequence[ListUpdated]) -> None:
        pass

    def refused(self, list_id: str) -> None:
        pass


@dataclass(frozen=True, slots=True)
class _Usable:
    """A version that was found whole; kept compressed, a quarter of its size."""

    head: ListUpdated
    in_force_at_ms: int
    compressed: bytes


class ListBook:
    """What screening asks. One thread takes in and takes up, any thread asks: what they see is replaced, never changed.

    A version is taken up whole or not at all. While no list was ever taken up, ``fallback`` is in force.
    """

    def __init__(self, fallback: Watchlists, watch: ListWatch | None = None) -> None:
        self._watch = watch or _Nobody()
        #: The first one is also in force before.
        self._in_force: Timeline[Watchlists] = ((0, fallback),)
        self._ready: dict[_Together, Watchlists] = {}
        self._parts: dict[tuple[str, str], dict[int, bytes]] = {}
        self._waiting: dict[tuple[str, str], tuple[ListUpdated, int]] = {}
        #: By list, then by version, the newest last.
        self._usable: dict[str, dict[str, _Usable]] = {}
        self._broken: set[str] = set()
        #: Versions and records that cannot be used, and were ignored.
        self.refused_count = 0

    # -- asked by screening -------------------------------------------------------------------------------------------

    def in_force(self, at_ms: int) -> Watchlists:
        """The lists in force at event time ``at_ms``."""
        timeline = self._in_force
        return in_force(timeline, at_ms, before=timeline[0][1])

    # -- asked by rescreening -----------------------------------------------------------------------------------------

    def changes(self, since: str, lists: Watchlists) -> Watchlists:
        """What of ``lists`` is new or changed against those of version ``since``; all of it when those are not known here.

        Takes up to some seconds, in the thread that asks.
        """
        before, changed, known = versions_of(since), list[ListEntry](), False
        for list_id, version in versions_of(lists.version).items():
            new = self._usable.get(list_id, {}).get(version)
            if new is None:
                return lists  # The sample, or files.
            old = self._usable.get(list_id, {}).get(before.get(list_id, ""))
            known = known or old is not None
            if old is new:
                continue
            after = _entries(new)
            difference = compare(_entries(old) if old is not None else (), after)
            changed += [*difference.added, *(change.after for change in difference.changed)]
        return Watchlists(changed, version=lists.version) if known else lists

    # -- fed by the reader --------------------------------------------------------------------------------------------

    def take_part(self, part: ListPart) -> None:
        """Take in a part; nothing comes of it before its head."""
        key = part.list, part.version
        if key not in self._parts:
            headless = [each for each in self._parts if each not in self._waiting]
            if len(headless) >= HEADLESS_MAX:
                del self._parts[headless[0]]
        self._parts.setdefault(key, {})[part.part] = part.content

    def take_head(self, head: ListUpdated, timestamp_ms: int) -> None:
        """Take in a head; :meth:`take_up` looks whether its version is whole."""
        key = head.list, head.version
        self._waiting.pop(key, None)
        self._waiting[key] = head, timestamp_ms

    def forget(self, list_id: str, version: str, part: int | None) -> None:
        """A head (``part`` None) or a part was removed."""
        if part is not None:
            self._parts.get((list_id, version), {}).pop(part, None)
            return
        self._waiting.pop((list_id, version), None)
        if len(self._usable.get(list_id, {})) > 1:  # The last one stays: no list is ever emptied by removing records.
            self._usable[list_id].pop(version, None)

    def refuse(self, list_id: str, what: str, why: str) -> None:
        """Count, log and report what cannot be used."""
        self.refused_count += 1
        log.error("sanctions list %s: %s is not taken up, the one before stays in force: %s", list_id, what, why)
        self._watch.refused(list_id)

    def take_up(self, now_ms: int) -> bool:
        """Put in force what has come whole since; takes half a second when there is something. False: nothing new.

        A version that is incomplete or damaged is refused: logged as an error, counted, and never looked at again.
        """
        for key, (head, timestamp_ms) in list(self._waiting.items()):
            del self._waiting[key]
            self._judge(head, timestamp_ms)
        planned = self._planned(now_ms)
        if not planned or [each for _, each in planned] == list(self._ready):
            return False
        self._ready = {
            together: self._ready[together] if together in self._ready else self._made_of(together)
            for _, together in planned
        }
        self._in_force = tuple((at_ms, self._ready[together]) for at_ms, together in planned)
        self._watch.in_force(self.heads())
        return True

    def heads(self) -> list[ListUpdated]:
        """The newest usable version of each list, by list."""
        return [list(versions.values())[-1].head for _, versions in sorted(self._usable.items()) if versions]

    def unusable(self) -> list[str]:
        """Lists of which versions came and none could be used: without them payments would pass unscreened."""
        return sorted(self._broken - {list_id for list_id, versions in self._usable.items() if versions})

    # -- inside -------------------------------------------------------------------------------------------------------

    def _judge(self, head: ListUpdated, timestamp_ms: int) -> None:
        versions = self._usable.setdefault(head.list, {})
        parts = self._parts.pop((head.list, head.version), {})
        known = versions.get(head.version)
        in_force_at_ms = timestamp_ms + EFFECTIVE_DELAY_MS
        if known is not None:
            if known is list(versions.values())[-1]:
                # The same list again, of a later day: it stays in force, from when it was.
                versions[head.version] = _Usable(head, known.in_force_at_ms, known.compressed)
                self._watch.in_force(self.heads())
                return
            del versions[head.version]
            versions[head.version] = _Usable(head, in_force_at_ms, known.compressed)
            return
        try:
            content = content_of(head, parts)
            entries_of(head, content)
        except UnusableListError as error:
            self._broken.add(head.list)
            self.refuse(head.list, f"version {head.version}", str(error))
            return
        if is_retired(head):
            log.warning("sanctions list %s is taken out of use: nobody is screened against it any more", head.list)
        # Never before the version that it replaces, even if clocks of brokers differ.
        before = [each.in_force_at_ms for each in versions.values()]
        versions[head.version] = _Usable(head, max([in_force_at_ms, *before]), zlib.compress(content, 1))

    def _planned(self, now_ms: int) -> list[tuple[int, _Together]]:
        """What is in force together from when on, oldest first; without what nobody needs any more."""
        moments = sorted({each.in_force_at_ms for versions in self._usable.values() for each in versions.values()})
        planned = [(at_ms, tuple(self._together(at_ms))) for at_ms in moments]
        while len(planned) > 1 and (planned[1][0] < now_ms - KEPT_MS or len(planned) > KEPT_MAX):
            planned.pop(0)
        return planned

    def _together(self, at_ms: int) -> Iterator[tuple[str, str]]:
        for list_id, versions in sorted(self._usable.items()):
            begun = [version for version, each in versions.items() if each.in_force_at_ms <= at_ms]
            if begun:
                yield list_id, begun[-1]

    def _made_of(self, together: _Together) -> Watchlists:
        usable = [self._usable[list_id][version] for list_id, version in together]
        entries = [entry for each in usable for entry in _entries(each)]
        return Watchlists(entries, version=",".join(f"{list_id}:{version}" for list_id, version in together))


def versions_of(version: str) -> dict[str, str]:
    """The version of each list in ``Watchlists.version`` as a book makes it; empty for the sample and for files."""
    return dict(each.split(":", 1) for each in version.split(",") if ":" in each)


def _entries(usable: _Usable) -> tuple[ListEntry, ...]:
    return entries_of(usable.head, zlib.decompress(usable.compressed))
