"""The simulated PIC's own ledger: what it was asked, what it made of it. A file outlives our crashes, as a PIC would.

What a token makes the PIC do is scripted, in the manner of a payment provider's test cards:

    tok_decline...  declined, insufficient_funds
    tok_slow...     done, but late (the delay is the simulator's, not the ledger's)
    tok_lost...     done, but the first answer is lost; a look-up finds it
    tok_error...    an error before anything is done; a look-up finds nothing; the next call with the same key is done
    tok_unproved... declined, authentication_failed, where the payer is challenged; otherwise done
    tok_never...    no answer for 3 look-ups, then declined
    anything else   done
"""

from __future__ import annotations

import json
import sqlite3
import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence
from hashlib import blake2b
from pathlib import Path
from typing import Final, Protocol, TypeVar

import msgspec

from connectors.pic.base import UNKNOWN, Answer, Call
from connectors.pic.calls import LeaseLostError

T = TypeVar("T")

#: Look-ups of a ``tok_never`` payment that find no answer yet.
NEVER_LOOK_UPS: Final = 3
#: Several worker processes share the file, each transaction takes milliseconds.
BUSY_TIMEOUT_S: Final = 60.0

#: Attempts that a ledger in memory keeps: some 30 MB, and minutes of ordinary traffic.
MEMORY_ENTRIES_MAX: Final = 100_000

_SCRIPTED: Final = ("tok_decline", "tok_unproved", "tok_lost", "tok_error", "tok_never")
_ERROR: Final = "error"
_UNPROVED: Final = "unproved"
_PROCESSING: Final = "processing"


class Entry(msgspec.Struct, gc=False):
    """What the PIC knows of one attempt. ``outcome``: succeeded, declined, unproved, processing, or error: nothing was done."""

    outcome: str
    reference: str
    calls: int
    lookups: int


class Ledger(Protocol):
    """What the simulator needs. ``allowed`` False means that nothing is done and :class:`LeaseLostError` raised."""

    def perform(self, calls: Sequence[Call], allowed: Callable[[], bool] | None = None) -> list[Answer]:
        """Make the payments, each counted, all or none of them recorded."""

    def look_up(self, attempt_ids: Sequence[str], allowed: Callable[[], bool] | None = None) -> list[Answer | None]:
        """What became of them, each counted; None where the PIC has no such payment."""

    def entries(self) -> dict[str, Entry]:
        """Everything, by attempt id: for tests and reports."""

    def close(self) -> None:
        """Let go of the file, if there is one."""


class MemoryLedger:
    """A ledger that ends with its process and keeps the newest ``entries_max`` attempts.

    An attempt that it forgot is a new one to it: called again it is made again, looked up it is not there. No money is
    lost by that, it is a simulation; what must remember takes a :class:`SqliteLedger`.
    """

    def __init__(self, entries_max: int = MEMORY_ENTRIES_MAX) -> None:
        self._entries: OrderedDict[str, Entry] = OrderedDict()
        self._entries_max = entries_max

    def perform(self, calls: Sequence[Call], allowed: Callable[[], bool] | None = None) -> list[Answer]:
        """See :class:`Ledger`."""
        _check(allowed)
        answers = [_perform(self._entries, call) for call in calls]
        while len(self._entries) > self._entries_max:
            self._entries.popitem(last=False)
        return answers

    def look_up(self, attempt_ids: Sequence[str], allowed: Callable[[], bool] | None = None) -> list[Answer | None]:
        """See :class:`Ledger`."""
        _check(allowed)
        return [_look_up(self._entries, attempt_id) for attempt_id in attempt_ids]

    def entries(self) -> dict[str, Entry]:
        """See :class:`Ledger`."""
        return dict(self._entries)

    def close(self) -> None:
        """Nothing to let go of."""


class SqliteLedger:
    """A ledger in a file that several processes share and that survives ``kill -9`` (not a power cut: no fsync).

    Each batch is one ``BEGIN IMMEDIATE`` transaction; ``allowed`` is asked once the lock is held, so a process that was
    stopped while it waited finds out before it does anything. Usable from any thread, one at a time. Raises
    :class:`sqlite3.OperationalError` when the lock is not to be had for 60 s or the file cannot be written.
    """

    def __init__(self, path: str | Path) -> None:
        self._turn = threading.Lock()
        self._db = sqlite3.connect(path, timeout=BUSY_TIMEOUT_S, isolation_level=None, check_same_thread=False)
        self._db.execute("PRAGMA synchronous=OFF")
        self._db.execute(
            "CREATE TABLE IF NOT EXISTS calls (attempt_id TEXT PRIMARY KEY, outcome TEXT NOT NULL,"
            " reference TEXT NOT NULL, calls INTEGER NOT NULL, lookups INTEGER NOT NULL) WITHOUT ROWID"
        )

    def perform(self, calls: Sequence[Call], allowed: Callable[[], bool] | None = None) -> list[Answer]:
        """See :class:`Ledger`."""
        return self._batch(
            [call.attempt_id for call in calls], lambda held: [_perform(held, c) for c in calls], allowed
        )

    def look_up(self, attempt_ids: Sequence[str], allowed: Callable[[], bool] | None = None) -> list[Answer | None]:
        """See :class:`Ledger`."""
        return self._batch(attempt_ids, lambda held: [_look_up(held, a) for a in attempt_ids], allowed)

    def entries(self) -> dict[str, Entry]:
        """See :class:`Ledger`."""
        with self._turn:
            rows = self._db.execute("SELECT attempt_id, outcome, reference, calls, lookups FROM calls").fetchall()
        return {row[0]: Entry(*row[1:]) for row in rows}

    def close(self) -> None:
        """Close the file."""
        with self._turn:
            self._db.close()

    def _batch(
        self, ids: Sequence[str], act: Callable[[dict[str, Entry]], list[T]], allowed: Callable[[], bool] | None
    ) -> list[T]:
        with self._turn:
            self._db.execute("BEGIN IMMEDIATE")
            try:
                _check(allowed)
                held = self._held(ids)
                answers = act(held)
                self._db.executemany(
                    "INSERT OR REPLACE INTO calls VALUES (?, ?, ?, ?, ?)",
                    [(key, e.outcome, e.reference, e.calls, e.lookups) for key, e in held.items()],
                )
                self._db.execute("COMMIT")
            except BaseException:
                if self._db.in_transaction:
                    self._db.execute("ROLLBACK")
                raise
            return answers

    def _held(self, ids: Sequence[str]) -> dict[str, Entry]:
        rows = self._db.execute(
            "SELECT attempt_id, outcome, reference, calls, lookups FROM calls"
            " WHERE attempt_id IN (SELECT value FROM json_each(?))",
            (json.dumps(list(ids)),),
        )
        return {row[0]: Entry(*row[1:]) for row in rows}


def _perform(held: dict[str, Entry], call: Call) -> Answer:
    """Count the call and, once per attempt, do what the token says."""
    key = call.attempt_id
    entry = held.get(key)
    if entry is not None:
        entry.calls += 1
        if entry.outcome == _ERROR:
            entry.outcome = "succeeded"
        return _told(entry)
    reference = "sim_" + blake2b(key.encode(), digest_size=12).hexdigest()
    token = call.token
    if not token.startswith(_SCRIPTED):
        held[key] = Entry("succeeded", reference, 1, 0)
        return Answer("succeeded", "", reference)
    if token.startswith("tok_decline"):
        entry = held[key] = Entry("declined", reference, 1, 0)
        return _told(entry)
    if token.startswith("tok_unproved"):
        entry = held[key] = Entry(_UNPROVED if call.challenge else "succeeded", reference, 1, 0)
        return _told(entry)
    outcome = "succeeded" if token.startswith("tok_lost") else _ERROR if token.startswith("tok_error") else _PROCESSING
    held[key] = Entry(outcome, reference, 1, 0)
    return UNKNOWN


def _look_up(held: dict[str, Entry], key: str) -> Answer | None:
    """Count the look-up. An attempt that failed before anything was done is one that the PIC does not have."""
    entry = held.get(key)
    if entry is None:
        return None
    entry.lookups += 1
    if entry.outcome == _ERROR:
        return None
    if entry.outcome == _PROCESSING and entry.lookups > NEVER_LOOK_UPS:
        entry.outcome = "declined"
    return _told(entry)


def _told(entry: Entry) -> Answer:
    """What the PIC says of a payment that it has."""
    match entry.outcome:
        case "succeeded":
            return Answer("succeeded", "", entry.reference)
        case "declined":
            return Answer("declined", "insufficient_funds", entry.reference)
        case "unproved":
            return Answer("declined", "authentication_failed", entry.reference)
        case _:
            return UNKNOWN


def _check(allowed: Callable[[], bool] | None) -> None:
    if allowed is not None and not allowed():
        raise LeaseLostError("the lease is lost, the PIC was not called")
