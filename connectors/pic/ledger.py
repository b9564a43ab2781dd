"""The simulated PIC's own ledger: what it was asked, what it made of it. A file outlives our crashes, as a PIC would.

What a token makes the PIC do is in :mod:`connectors.pic.scripts`. What is captured, voided or refunded keeps to the rules of
card payments: never captured above what was authorized, never refunded above what was captured, nothing after a void.
"""

from __future__ import annotations

import json
import sqlite3
import threading
from collections import OrderedDict
from collections.abc import Callable, Collection, Sequence
from hashlib import blake2b
from pathlib import Path
from sys import intern
from typing import Final, Protocol, TypeVar

import msgspec

from connectors.pic.base import UNKNOWN, Answer, Call
from connectors.pic.calls import LeaseLostError
from connectors.pic.declines import STANDARD, DeclineCode
from connectors.pic.scripts import (
    CHALLENGED,
    DECLINED,
    HIDDEN,
    NEVER_LOOK_UPS,
    NOTHING,
    PREFIXES,
    SUCCEEDED,
    Script,
    script_of,
)

T = TypeVar("T")

#: Several worker processes share the file, each transaction takes milliseconds.
BUSY_TIMEOUT_S: Final = 60.0

#: Attempts that a ledger in memory keeps: some 20 MB, and a minute of heavy traffic. It counts in the worker's memory.
MEMORY_ENTRIES_MAX: Final = 50_000

#: Where a challenged payer is sent: a name that is never resolved (RFC 2606).
CHALLENGE_URL: Final = "https://challenge.simulator.invalid/"


class Entry(msgspec.Struct, gc=False):
    """What the PIC knows of one attempt. ``outcome``: a word of :mod:`connectors.pic.scripts`."""

    outcome: str
    reference: str
    calls: int
    lookups: int
    kind: str
    amount_minor: int
    currency: str
    #: Reference of what is captured, voided or refunded; empty for what begins a payment.
    original: str = ""
    #: Of what is declined, and of a challenge that is over.
    reason: str = ""
    #: How often it was done once more: by further calls with its key, at a PIC that does not deduplicate.
    again: int = 0

    @property
    def done(self) -> bool:
        """Whether money was held, moved, let go of or given back."""
        return self.outcome in (SUCCEEDED, HIDDEN)

    @property
    def charges(self) -> int:
        """How often that was; more than once is what must never be."""
        return self.done + self.again

    @property
    def counts(self) -> bool:
        """Whether its amount is taken from what is left: done, or perhaps about to be."""
        return self.outcome not in (DECLINED, NOTHING)


class Book:
    """Entries by attempt id; and, once something follows one of them, by reference, with what followed."""

    __slots__ = ("entries", "followers", "originals")

    def __init__(self) -> None:
        self.entries: OrderedDict[str, Entry] = OrderedDict()
        #: None until it is asked for: plain payments, which are most, do not pay for it.
        self.originals: dict[str, Entry] | None = None
        self.followers: dict[str, list[Entry]] = {}

    def original(self, reference: str) -> Entry | None:
        """What is captured, voided or refunded under this reference."""
        if self.originals is None:
            self.originals = {entry.reference: entry for entry in self.entries.values() if not entry.original}
        return self.originals.get(reference)

    def add(self, attempt_id: str, entry: Entry) -> None:
        """A new entry."""
        self.entries[attempt_id] = entry
        if self.originals is None:
            return
        if not entry.original:
            self.originals[entry.reference] = entry
        elif entry.original in self.originals:
            self.followers.setdefault(entry.original, []).append(entry)

    def forget_oldest(self) -> None:
        """Without the entry that is there for longest; what follows a payment goes when the payment does."""
        _, entry = self.entries.popitem(last=False)
        if self.originals is not None:
            self.originals.pop(entry.reference, None)
            self.followers.pop(entry.reference, None)


#: What is made of a call whose key has an entry.
Repeat = Callable[[Book, Entry, Call], Answer]


class Ledger(Protocol):
    """What the simulator needs. ``allowed`` False means that nothing is done and :class:`LeaseLostError` raised."""

    def perform(self, calls: Sequence[Call], allowed: Callable[[], bool] | None = None) -> list[Answer]:
        """Do what is asked, each call counted, all or none of them recorded."""

    def look_up(self, attempt_ids: Sequence[str], allowed: Callable[[], bool] | None = None) -> list[Answer | None]:
        """What became of them, each counted; None where the PIC has no such attempt."""

    def finish_challenge(self, attempt_id: str, *, passed: bool) -> None:
        """The payer acted. Nothing happens where nobody was challenged."""

    def entries(self) -> dict[str, Entry]:
        """Everything, by attempt id: for tests and reports."""

    def close(self) -> None:
        """Let go of the file, if there is one."""


class MemoryLedger:
    """A ledger that ends with its process and keeps the newest ``entries_max`` attempts.

    An attempt that it forgot is a new one to it: called again it is made again, looked up it is not there. No money is
    lost by that, it is a simulation; what must remember takes a :class:`SqliteLedger`.
    """

    def __init__(self, entries_max: int = MEMORY_ENTRIES_MAX, *, deduplicates: bool = True) -> None:
        """``deduplicates`` False: a further call with the same key is done once more, and counted (:attr:`Entry.again`)."""
        self._book = Book()
        self._entries_max = entries_max
        self._repeat = _repeated if deduplicates else _done_again

    def perform(self, calls: Sequence[Call], allowed: Callable[[], bool] | None = None) -> list[Answer]:
        """See :class:`Ledger`."""
        _check(allowed)
        answers = [_perform(self._book, call, self._repeat) for call in calls]
        while len(self._book.entries) > self._entries_max:
            self._book.forget_oldest()
        return answers

    def look_up(self, attempt_ids: Sequence[str], allowed: Callable[[], bool] | None = None) -> list[Answer | None]:
        """See :class:`Ledger`."""
        _check(allowed)
        return [_look_up(self._book, attempt_id) for attempt_id in attempt_ids]

    def finish_challenge(self, attempt_id: str, *, passed: bool) -> None:
        """See :class:`Ledger`."""
        _finish_challenge(self._book, attempt_id, passed=passed)

    def entries(self) -> dict[str, Entry]:
        """See :class:`Ledger`."""
        return dict(self._book.entries)

    def close(self) -> None:
        """Nothing to let go of."""


_COLUMNS: Final = (
    "attempt_id, outcome, reference, calls, lookups, kind, amount_minor, currency, original, reason, again"
)
_SELECT: Final = f"SELECT {_COLUMNS} FROM attempts"  # noqa: S608 (a constant)


class SqliteLedger:
    """A ledger in a file that several processes share and that survives ``kill -9`` (not a power cut: no fsync).

    Each batch is one ``BEGIN IMMEDIATE`` transaction; ``allowed`` is asked once the lock is held, so a process that was
    stopped while it waited finds out before it does anything. Usable from any thread, one at a time. Raises
    :class:`sqlite3.OperationalError` when the lock is not to be had for 60 s or the file cannot be written.
    """

    def __init__(self, path: str | Path, *, deduplicates: bool = True) -> None:
        """``deduplicates`` as of :class:`MemoryLedger`."""
        self._repeat = _repeated if deduplicates else _done_again
        self._turn = threading.Lock()
        self._db = sqlite3.connect(path, timeout=BUSY_TIMEOUT_S, isolation_level=None, check_same_thread=False)
        self._db.execute("PRAGMA synchronous=OFF")
        self._db.execute(
            "CREATE TABLE IF NOT EXISTS attempts (attempt_id TEXT PRIMARY KEY, outcome TEXT NOT NULL,"
            " reference TEXT NOT NULL, calls INTEGER NOT NULL, lookups INTEGER NOT NULL, kind TEXT NOT NULL,"
            " amount_minor INTEGER NOT NULL, currency TEXT NOT NULL, original TEXT NOT NULL, reason TEXT NOT NULL,"
            " again INTEGER NOT NULL) WITHOUT ROWID"
        )

    def perform(self, calls: Sequence[Call], allowed: Callable[[], bool] | None = None) -> list[Answer]:
        """See :class:`Ledger`."""
        originals = {call.original_reference for call in calls if call.original_reference}
        return self._batch(
            [call.attempt_id for call in calls],
            lambda book: [_perform(book, call, self._repeat) for call in calls],
            allowed,
            originals,
        )

    def look_up(self, attempt_ids: Sequence[str], allowed: Callable[[], bool] | None = None) -> list[Answer | None]:
        """See :class:`Ledger`."""
        return self._batch(attempt_ids, lambda book: [_look_up(book, a) for a in attempt_ids], allowed)

    def finish_challenge(self, attempt_id: str, *, passed: bool) -> None:
        """See :class:`Ledger`."""

        def finish(book: Book) -> list[None]:
            _finish_challenge(book, attempt_id, passed=passed)
            return []

        self._batch([attempt_id], finish, None)

    def entries(self) -> dict[str, Entry]:
        """See :class:`Ledger`."""
        with self._turn:
            rows = self._db.execute(_SELECT).fetchall()
        return {row[0]: Entry(*row[1:]) for row in rows}

    def close(self) -> None:
        """Close the file."""
        with self._turn:
            self._db.close()

    def _batch(
        self,
        ids: Sequence[str],
        act: Callable[[Book], list[T]],
        allowed: Callable[[], bool] | None,
        originals: Collection[str] = (),
    ) -> list[T]:
        with self._turn:
            self._db.execute("BEGIN IMMEDIATE")
            try:
                _check(allowed)
                book = Book()
                self._read(book, ids)
                if originals:
                    self._read_originals(book, originals)
                answers = act(book)
                self._db.executemany(
                    "INSERT OR REPLACE INTO attempts VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                    [
                        (
                            key,
                            e.outcome,
                            e.reference,
                            e.calls,
                            e.lookups,
                            e.kind,
                            e.amount_minor,
                            e.currency,
                            e.original,
                            e.reason,
                            e.again,
                        )
                        for key, e in book.entries.items()
                    ],
                )
                self._db.execute("COMMIT")
            except BaseException:
                if self._db.in_transaction:
                    self._db.execute("ROLLBACK")
                raise
            return answers

    def _read(self, book: Book, ids: Sequence[str]) -> None:
        rows = self._db.execute(
            f"{_SELECT} WHERE attempt_id IN (SELECT value FROM json_each(?))",  # noqa: S608 (a constant)
            (json.dumps(list(ids)),),
        )
        for key, *fields in rows:
            book.entries[key] = Entry(*fields)

    def _read_originals(self, book: Book, references: Collection[str]) -> None:
        # Made when they are first needed, as in Book.
        self._db.execute("CREATE INDEX IF NOT EXISTS by_reference ON attempts (reference)")
        self._db.execute("CREATE INDEX IF NOT EXISTS by_original ON attempts (original) WHERE original <> ''")
        originals = book.originals = {}
        wanted = (json.dumps(list(references)),)
        among = "IN (SELECT value FROM json_each(?))"
        for key, *fields in self._db.execute(f"{_SELECT} WHERE reference {among} AND original = ''", wanted):
            entry = book.entries.get(key) or Entry(*fields)
            originals[entry.reference] = entry
        for key, *fields in self._db.execute(f"{_SELECT} WHERE original {among} AND original <> ''", wanted):
            entry = book.entries.get(key) or Entry(*fields)
            book.followers.setdefault(entry.original, []).append(entry)


def _perform(book: Book, call: Call, repeat: Repeat) -> Answer:
    """Count the call and do what the token says and the rules allow; ``repeat`` is for a key that was there before."""
    key = call.attempt_id
    entry = book.entries.get(key)
    if entry is not None:
        return repeat(book, entry, call)
    reference = "sim_" + blake2b(key.encode(), digest_size=12).hexdigest()
    if call.kind == "payment" and not call.token.startswith(PREFIXES):
        entry = book.entries[key] = Entry(
            SUCCEEDED, reference, 1, 0, "payment", call.amount_minor, intern(call.currency)
        )
        if book.originals is not None:
            book.originals[reference] = entry
        return Answer("succeeded", "", reference)
    refused = _refused(book, call)
    script = Script(DECLINED, refused.value) if refused is not None else script_of(call)
    book.add(
        key,
        Entry(
            script.outcome,
            reference,
            1,
            0,
            call.kind,
            call.amount_minor,
            intern(call.currency),
            call.original_reference,
            script.reason,
        ),
    )
    return script.first or _told(book.entries[key])


def _repeated(book: Book, entry: Entry, call: Call) -> Answer:
    """The same key again: the same answer, or none of our business."""
    entry.calls += 1
    asked = (call.kind, call.amount_minor, call.currency, call.original_reference)
    if asked != (entry.kind, entry.amount_minor, entry.currency, entry.original):
        return STANDARD[DeclineCode.DUPLICATE].answer(entry.reference)
    if entry.outcome == NOTHING:
        refused = _refused(book, call)
        entry.outcome, entry.reason = (SUCCEEDED, "") if refused is None else (DECLINED, refused.value)
    return _told(entry)


def _done_again(book: Book, entry: Entry, call: Call) -> Answer:
    """The same key again, and a PIC that does not look at it: as if it were new."""
    if entry.outcome == NOTHING:
        return _repeated(book, entry, call)
    entry.calls += 1
    if _refused(book, call) is None and script_of(call).outcome not in (DECLINED, NOTHING):
        entry.again += 1
    return _told(entry)


def _refused(book: Book, call: Call) -> DeclineCode | None:
    """Why what follows a payment may not be done; None when it may. What begins one always may."""
    if call.kind in ("payment", "authorize"):
        return None
    original = book.original(call.original_reference)
    if original is None or original.currency != call.currency:
        return DeclineCode.INVALID_REQUEST
    followers = [entry for entry in book.followers.get(call.original_reference, ()) if entry.counts]
    captured_minor = sum(entry.amount_minor for entry in followers if entry.kind == "capture")
    voided = any(entry.kind == "void" for entry in followers)
    if not original.done or voided:
        return DeclineCode.NOT_PERMITTED
    if call.kind == "refund":
        if original.kind == "payment":
            captured_minor = original.amount_minor
        elif not captured_minor:
            return DeclineCode.NOT_PERMITTED
        left_minor = captured_minor - sum(entry.amount_minor for entry in followers if entry.kind == "refund")
    elif original.kind != "authorize" or (call.kind == "void" and captured_minor):
        return DeclineCode.NOT_PERMITTED
    else:
        left_minor = original.amount_minor - captured_minor
    return None if 0 < call.amount_minor <= left_minor else DeclineCode.INVALID_AMOUNT


def _look_up(book: Book, key: str) -> Answer | None:
    """Count the look-up. An attempt that failed before anything was done is one that the PIC does not have."""
    entry = book.entries.get(key)
    if entry is None:
        return None
    entry.lookups += 1
    match entry.outcome:
        case "nothing":
            return None
        case "hidden":
            entry.outcome = SUCCEEDED
            return UNKNOWN
        case "processing":
            entry.outcome = SUCCEEDED
        case "never" if entry.lookups > NEVER_LOOK_UPS:
            entry.outcome, entry.reason = DECLINED, DeclineCode.INSUFFICIENT_FUNDS.value
    return _told(entry)


def _finish_challenge(book: Book, key: str, *, passed: bool) -> None:
    entry = book.entries.get(key)
    if entry is not None and entry.outcome == CHALLENGED:
        entry.outcome = SUCCEEDED if passed else DECLINED
        entry.reason = "" if passed else DeclineCode.AUTHENTICATION_FAILED.value


def _told(entry: Entry) -> Answer:
    """What the PIC says of an attempt that it has."""
    match entry.outcome:
        case "succeeded" | "hidden":
            return Answer("succeeded", "", entry.reference)
        case "declined":
            return STANDARD[DeclineCode(entry.reason)].answer(entry.reference)
        case "challenged":
            return Answer("requires_action", "challenge", entry.reference, action_url=CHALLENGE_URL + entry.reference)
        case "processing":
            return Answer("pending", "processing", entry.reference)
        case _:
            return UNKNOWN


def _check(allowed: Callable[[], bool] | None) -> None:
    if allowed is not None and not allowed():
        raise LeaseLostError("the lease is lost, the PIC was not called")
