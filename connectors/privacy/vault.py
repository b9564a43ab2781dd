"""The keys of persons, in the audit database: made, found, destroyed, and wrapped anew by another master key.

A row of ``privacy_keys`` is found by its subject, a keyed hash of tenant and party. Events name a key by its id alone, which is
random: when a person is erased, key and subject are removed, so nothing tells any more whose these events were, and what
comes later of the same party gets a new key.
"""

from __future__ import annotations

import hmac
import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Final

from connectors.privacy.envelope import KEY_ID_BYTES, SubjectKey
from connectors.privacy.masters import KEY_BYTES, MasterKeys
from connectors.sinks.database import Database

#: What subjects are hashed with has this id.
INDEX_ID: Final = 0
#: Keys that are kept in memory (about 1 KB each), the latest.
KEYS_MAX: Final = 50_000
#: Of one query, and of one transaction of a rotation.
PAGE_KEYS: Final = 500
_INDEX_SUBJECT: Final = b"index"

#: Whom a key is for: tenant, kind and name.
Subject = tuple[str, str, str]
#: Kinds: PAYMENT for texts of a payment by records that do not name its parties; NOBODY for bytes that are no record.
PARTY, PAYMENT, NOBODY = "party", "payment", "nobody"

_BY_SUBJECT: Final = "SELECT subject, key_id, wrapped, master, tenant FROM privacy_keys WHERE subject IN ({})"
_BY_ID: Final = "SELECT subject, key_id, wrapped, master, tenant FROM privacy_keys WHERE key_id = ?"
_ERASED: Final = "SELECT COUNT(*) FROM privacy_keys WHERE erased_at_ms IS NOT NULL"
_UNTOLD: Final = (
    "SELECT k.tenant, k.key_id, k.kind, k.erased_by, k.erased_at_ms FROM privacy_keys k WHERE k.erased_at_ms IS NOT NULL"
    " AND NOT EXISTS (SELECT * FROM payment_events e WHERE e.tenant = k.tenant AND e.payment_id = ''"
    " AND e.event_id = 'erased/' || CAST(k.key_id AS TEXT)) ORDER BY k.erased_at_ms, k.key_id"
)
_ERASE: Final = (
    "UPDATE privacy_keys SET subject = NULL, wrapped = NULL, master = NULL, erased_at_ms = ?, erased_by = ?"
    " WHERE key_id = ? AND erased_at_ms IS NULL"
)
_UNDER_OTHERS: Final = (
    "SELECT subject, key_id, wrapped, master, tenant FROM privacy_keys"
    " WHERE key_id > ? AND erased_at_ms IS NULL AND master <> ? ORDER BY key_id LIMIT ?"
)
_REWRAP: Final = "UPDATE privacy_keys SET wrapped = ?, master = ? WHERE key_id = ? AND wrapped = ?"


def is_in_use(database: Database) -> bool:
    """Whether this database's rows are sealed."""
    return bool(database.query("SELECT EXISTS (SELECT * FROM privacy_keys)")[0][0])


def masters_in_use(database: Database) -> tuple[dict[str, int], int]:
    """How many keys each master key wraps, and how many were erased."""
    rows = database.query(
        "SELECT master, COUNT(*) FROM privacy_keys WHERE key_id <> ? GROUP BY master ORDER BY master", (INDEX_ID,)
    )
    counts = {master: int(count) for master, count in rows}
    return {master: count for master, count in counts.items() if master is not None}, counts.get(None, 0)


class Vault:
    """The keys of one database. Raises what :class:`Database` raises, and :class:`MasterKeyError` for a wrong master key.

    ``add`` takes rows of new keys in the place of :meth:`Database.add_keys`, to write them with the events that they seal.
    """

    def __init__(
        self,
        database: Database,
        masters: MasterKeys,
        *,
        create: bool = False,
        add: Callable[[Sequence[tuple[object, ...]]], int] | None = None,
    ) -> None:
        self._database, self._masters = database, masters
        self._add = database.add_keys if add is None else add
        self._keys: dict[Subject, SubjectKey] = {}
        self._by_id: dict[bytes, SubjectKey | None] = {}
        self._erased = -1
        found = database.query(_BY_ID, (INDEX_ID,))
        if not found and create:
            row = (
                INDEX_ID,
                "",
                "index",
                _INDEX_SUBJECT,
                *self._wrapped(os.urandom(KEY_BYTES), INDEX_ID, "", _INDEX_SUBJECT),
            )
            database.add_keys([(*row, _now_ms())])
            found = database.query(_BY_ID, (INDEX_ID,))
        #: Hashes subjects, a copy each: in a third of the time of ``hmac.digest``. None: nothing was ever sealed here.
        self._index = hmac.new(self._unwrapped(found[0]), digestmod="sha256") if found else None

    # What a sink needs

    def refresh(self) -> bool:
        """Forget what was erased meanwhile, and say whether anything was, as far as is known; once a batch. An erasure after it
        counts as one after the batch."""
        erased = int(self._database.query(_ERASED)[0][0])
        changed = erased != self._erased
        if changed:
            self._keys.clear()
            self._erased = erased
        for subject in list(islice(self._keys, max(len(self._keys) - KEYS_MAX, 0))):
            del self._keys[subject]
        return changed

    def untold(self) -> list[tuple[str, int, str, str, int]]:
        """Erasures without an event: tenant, id and kind of the key, by whom and when."""
        return self._database.query(_UNTOLD)

    def keys_of(self, subjects: Iterable[Subject]) -> dict[Subject, SubjectKey]:
        """Keys that hold ``subjects`` at least; those that are new were given to ``add`` when this returns."""
        keys = self._keys
        missing = {self.hash_of(subject): subject for subject in subjects if subject not in keys}
        while missing:
            self._look_up(missing)
            missing = {hashed: subject for hashed, subject in missing.items() if subject not in keys}
            if missing:
                made = [self._made(subject, hashed) for hashed, subject in missing.items()]
                rows = [row for _, row in made]
                if self._add(rows) == len(rows):
                    keys.update(zip(missing.values(), [key for key, _ in made], strict=True))
                    break
                # Somebody else made one, or an id is taken: what is stored counts.
        return keys

    def _look_up(self, hashed: Mapping[bytes, Subject]) -> None:
        """Take those that are stored, of subjects by their hashes."""
        for page in _pages(list(hashed)):
            for row in self._database.query(_BY_SUBJECT.format(", ".join("?" * len(page))), page):
                self._keys[hashed[bytes(row[0])]] = SubjectKey(_id_bytes(row[1]), self._unwrapped(row))

    def _made(self, subject: Subject, hashed: bytes) -> tuple[SubjectKey, tuple[object, ...]]:
        random = os.urandom(KEY_BYTES + KEY_ID_BYTES)  # One call: each takes as long as a cipher.
        secret, key_id = random[:KEY_BYTES], int.from_bytes(random[KEY_BYTES:], "big") >> 1 or 1
        tenant, kind, _ = subject
        row = (key_id, tenant, kind, hashed, *self._wrapped(secret, key_id, tenant, hashed))
        return SubjectKey(_id_bytes(key_id), secret), (*row, _now_ms())

    # What a reader needs

    def hash_of(self, subject: Subject) -> bytes:
        """What a subject is found by."""
        assert self._index is not None
        hasher = self._index.copy()
        hasher.update("\x00".join(subject).encode())
        return hasher.digest()

    def key_of(self, subject: Subject) -> SubjectKey | None:
        """The key that is in use for ``subject``; None: there is none, or it was erased."""
        if self._index is None:
            return None
        self._look_up({self.hash_of(subject): subject})
        return self._keys.get(subject)

    def key(self, key_id: bytes) -> SubjectKey | None:
        """The key of this id, None when it was erased."""
        if key_id not in self._by_id:
            found = self._database.query(_BY_ID, (int.from_bytes(key_id, "big"),))
            erased = not found or found[0][2] is None
            if len(self._by_id) >= KEYS_MAX:
                self._by_id.clear()
            self._by_id[key_id] = None if erased else SubjectKey(key_id, self._unwrapped(found[0]))
        return self._by_id[key_id]

    # What an operator needs

    def erase(self, keys: Iterable[bytes], by: str) -> int:
        """Destroy the keys of these ids; gives how many there were."""
        rows = [(_now_ms(), by, int.from_bytes(key_id, "big")) for key_id in keys]
        return self._database.change_keys(_ERASE, rows)

    def rotate(self, said: Callable[[int], None] = lambda done: None) -> int:
        """Wrap every key by the master key in use; gives how many were not. It may be ended at any time, and goes on."""
        done, after = 0, -1
        while rows := self._database.query(_UNDER_OTHERS, (after, self._masters.current, PAGE_KEYS)):
            changes = []
            for row in rows:
                subject, key_id, wrapped, _, tenant = row
                again, master = self._wrapped(self._unwrapped(row), key_id, tenant, bytes(subject))
                changes.append((again, master, key_id, wrapped))
            done += self._database.change_keys(_REWRAP, changes)
            after = rows[-1][1]
            said(done)
        return done

    def _wrapped(self, secret: bytes, key_id: int, tenant: str, subject: bytes) -> tuple[bytes, str]:
        return self._masters.wrap(secret, _about(key_id, tenant, subject)), self._masters.current

    def _unwrapped(self, row: tuple[object, ...]) -> bytes:
        subject, key_id, wrapped, master, tenant = row
        return self._masters.unwrap(bytes(wrapped), str(master), _about(key_id, tenant, bytes(subject)))  # type: ignore[call-overload, arg-type]


def _about(key_id: int, tenant: str, subject: bytes) -> bytes:
    """A wrapped key opens under this id, tenant and subject only: rows of the table cannot be swapped."""
    return _id_bytes(key_id) + subject + tenant.encode()


def _id_bytes(key_id: int) -> bytes:
    return key_id.to_bytes(KEY_ID_BYTES, "big")


def _pages(values: list[bytes]) -> Iterator[list[bytes]]:
    for start in range(0, len(values), PAGE_KEYS):
        yield values[start : start + PAGE_KEYS]


def _now_ms() -> int:
    return int(time.time() * 1000)
