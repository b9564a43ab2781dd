"""What was asked of the bank and what became of it, in an SQLite file: it alone says what may be written to the bank.

A transfer is in it once, by its attempt id, before anybody is answered; and in one file once, for a file and the transfers in
it are one transaction. Several processes of one host may share it.
"""

from __future__ import annotations

import logging
import secrets
import sqlite3
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import msgspec

from connectors.pic.base import Answer
from connectors.pic.iso20022.reasons import DUPLICATES, meaning
from connectors.pic.iso20022.reports import Said
from connectors.pic.iso20022.transfers import Transfer

_log = logging.getLogger(__name__)

#: What a waiting transfer is called, and one whose report does not fit what was sent.
WAITING: Final = "processing"
DIFFERS: Final = "report_differs"

_SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS files (
    number INTEGER PRIMARY KEY, message_id TEXT NOT NULL UNIQUE, name TEXT NOT NULL,
    content BLOB, state TEXT NOT NULL CHECK (state IN ('closed', 'staged', 'sent')));
CREATE TABLE IF NOT EXISTS transfers (
    attempt_id TEXT PRIMARY KEY, end_to_end_id TEXT NOT NULL UNIQUE, asked TEXT NOT NULL, taken_at_ms INTEGER NOT NULL,
    transfer BLOB NOT NULL, file INTEGER REFERENCES files, payment_id TEXT NOT NULL DEFAULT '',
    outcome TEXT NOT NULL DEFAULT 'pending', reason TEXT NOT NULL DEFAULT 'processing', retry TEXT NOT NULL DEFAULT 'never');
CREATE INDEX IF NOT EXISTS waiting ON transfers (taken_at_ms) WHERE file IS NULL;
CREATE INDEX IF NOT EXISTS by_file ON transfers (file);
CREATE INDEX IF NOT EXISTS by_payment ON transfers (payment_id);
"""


_SENT: Final = "SELECT end_to_end_id, outcome, transfer, message_id FROM transfers t JOIN files f ON f.number = t.file"


class Taken(msgspec.Struct, frozen=True):
    """A transfer that waits for its file."""

    attempt_id: str
    taken_at_ms: int
    transfer: Transfer


class Batch(msgspec.Struct, frozen=True):
    """A file to be: its content, and the PmtInfId of each transfer in it."""

    content: bytes
    payment_ids: Sequence[str]


class Ledger:
    """Its methods block, and may be called from several threads. Raise ``sqlite3.Error``."""

    def __init__(self, path: Path) -> None:
        self._lock = threading.Lock()
        self._connection = sqlite3.connect(path, timeout=60.0, isolation_level=None, check_same_thread=False)
        path.chmod(0o600)
        self._connection.execute("PRAGMA journal_mode = WAL")
        # An answer may be given only of what outlives a power cut.
        self._connection.execute("PRAGMA synchronous = FULL")
        self._connection.executescript(_SCHEMA)

    def find(self, attempt_id: str) -> tuple[str, Answer] | None:
        """Of an attempt: the hash of what was asked, and its answer now. None when it never came."""
        with self._lock:
            row = self._connection.execute(
                "SELECT asked, outcome, reason, end_to_end_id, retry FROM transfers WHERE attempt_id = ?", (attempt_id,)
            ).fetchone()
        return None if row is None else (row[0], Answer(row[1], row[2], row[3], retry=row[4]))

    def add(self, attempt_id: str, asked: str, transfer: Transfer, taken_at_ms: int) -> None:
        """Take a transfer; nothing happens when the attempt is there already."""
        with self._lock:
            self._connection.execute(
                "INSERT INTO transfers (attempt_id, end_to_end_id, asked, taken_at_ms, transfer) VALUES (?, ?, ?, ?, ?)"
                " ON CONFLICT (attempt_id) DO NOTHING",
                (attempt_id, transfer.end_to_end_id, asked, taken_at_ms, msgspec.json.encode(transfer)),
            )

    def close_batch(
        self,
        choose: Callable[[Sequence[Taken]], Sequence[Taken]],
        write: Callable[[str, Sequence[Taken]], Batch],
        at: str,
    ) -> bool:
        """Make a file of those that ``choose`` picks from what waits; False when it picks none. ``write`` is told the MsgId."""
        with self._lock, self._transaction():
            rows = self._connection.execute(
                "SELECT attempt_id, taken_at_ms, transfer FROM transfers WHERE file IS NULL ORDER BY taken_at_ms, rowid"
                " LIMIT 10000"
            ).fetchall()
            chosen = choose([Taken(row[0], row[1], msgspec.json.decode(row[2], type=Transfer)) for row in rows])
            if not chosen:
                return False
            (number,) = self._connection.execute("SELECT coalesce(max(number), 0) + 1 FROM files").fetchone()
            # Banks know a message by its id for months, and another ledger may count, too.
            message_id = f"{at}-{number:08d}-{secrets.token_hex(3)}"
            batch = write(message_id, chosen)
            self._connection.execute(
                "INSERT INTO files VALUES (?, ?, ?, ?, 'closed')",
                (number, message_id, f"pain001-{number:08d}-{at}.xml", batch.content),
            )
            self._connection.executemany(
                "UPDATE transfers SET file = ?, payment_id = ? WHERE attempt_id = ? AND file IS NULL",
                [
                    (number, payment_id, each.attempt_id)
                    for payment_id, each in zip(batch.payment_ids, chosen, strict=True)
                ],
            )
        return True

    def unsent(self) -> list[tuple[int, str, bytes, str]]:
        """Files that are not surely in the bank's folder, in order: number, name, content, state."""
        with self._lock:
            return self._connection.execute(
                "SELECT number, name, content, state FROM files WHERE state != 'sent' ORDER BY number"
            ).fetchall()

    def mark(self, number: int, state: str) -> None:
        """A file went on; the content of one that is sent is the bank's."""
        with self._lock:
            self._connection.execute(
                "UPDATE files SET state = ?, content = CASE ? WHEN 'sent' THEN NULL ELSE content END WHERE number = ?",
                (state, state, number),
            )

    def apply(self, said: Iterable[Said]) -> None:
        """Take what one file tells, all of it or nothing. Told again it changes nothing."""
        named = set()
        with self._lock, self._transaction():
            for each in said:
                if each.end_to_end_id:
                    named.add(each.end_to_end_id)
                    where, key = "end_to_end_id = ?", each.end_to_end_id
                elif each.payment_id:
                    where, key = "t.payment_id = ?", each.payment_id
                else:
                    where, key = "message_id = ?", each.message_id
                rows = self._connection.execute(
                    f"{_SENT} WHERE {where}",
                    (key,),
                ).fetchall()
                for end_to_end_id, outcome, transfer, message_id in rows:
                    if each.end_to_end_id or end_to_end_id not in named:
                        self._apply(each, outcome, msgspec.json.decode(transfer, type=Transfer), message_id)

    def _apply(self, said: Said, outcome: str, transfer: Transfer, message_id: str) -> None:
        answer = judged(said, transfer, message_id)
        if outcome != "pending":
            if answer.outcome not in ("pending", outcome):
                _log.error(
                    "the bank says of %s that it %s, after it %s", transfer.end_to_end_id, answer.outcome, outcome
                )
            return
        if answer.reason == DIFFERS:
            _log.error("the bank's report of %s does not fit what was sent: it stays pending", transfer.end_to_end_id)
        self._connection.execute(
            "UPDATE transfers SET outcome = ?, reason = ?, retry = ? WHERE end_to_end_id = ?",
            (answer.outcome, answer.reason, answer.retry, transfer.end_to_end_id),
        )

    def close(self) -> None:
        """Let go of the file."""
        with self._lock:
            self._connection.close()

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        """All or nothing, and nobody writes in between."""
        self._connection.execute("BEGIN IMMEDIATE")
        try:
            yield
            self._connection.execute("COMMIT")
        finally:
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")


def judged(said: Said, transfer: Transfer, message_id: str) -> Answer:
    """What a report makes of a transfer that was sent in the file ``message_id``. Pure.

    What differs from what was sent, in file, account, amount or currency, is about something else.
    """
    fits = (
        said.message_id in ("", message_id)
        and said.iban.replace(" ", "") in ("", transfer.debtor.iban)
        and (
            said.amount_minor is None
            or (said.amount_minor, said.currency) == (transfer.amount_minor, transfer.currency)
        )
    )
    if not fits:
        return Answer("pending", DIFFERS)
    if said.outcome == "succeeded":
        return Answer("succeeded", "")
    if said.outcome == "declined" and said.code not in DUPLICATES:
        return meaning(said.code).answer()
    return Answer("pending", WAITING)
