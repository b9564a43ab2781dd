"""Records to rows that are ready to be written: mapped, sealed, hashed as leaves. In this process, or in one of its own, for
which there is another core (docs/decisions/0047-one-batch-ahead.md).

That process is asked one thing at a time, by its standard input, and answers by its standard output: eight bytes of length, and
MessagePack. It writes nothing to the database but the key that subjects are hashed with, so it may be killed at any time; when
the input ends, it ends.
"""

from __future__ import annotations

import os
import pickle
import signal
import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress
from itertools import islice
from operator import itemgetter
from typing import IO, Any, Final

import msgspec

from connectors.privacy.masters import MasterKeyError, MasterKeys
from connectors.privacy.sealing import Sealer
from connectors.privacy.vault import Vault
from connectors.proofs.appending import leaf_of
from connectors.proofs.verifier import SHARD, TENANT
from connectors.sinks.copying import PackedRows
from connectors.sinks.database import (
    Database,
    DatabaseAwayError,
    DatabaseBusyError,
    DatabaseError,
    kind_of,
    open_database,
)
from connectors.sinks.rows import Columns, Mapper, PaymentState, RegistryAwayError, state_of
from schemas.codec import Codec

#: Payments whose outcome was met lately (about 250 bytes each).
ENDED_MAX = 200_000
#: Of the pipes: a batch is some megabytes, and each piece of one is a change of processes.
PIPE_BYTES = 1 << 20
#: How long the process is waited for when it is told to end.
END_S = 5.0
_LENGTH_BYTES = 8

_tree = itemgetter(TENANT, SHARD)

#: Topic, partition, offset, Kafka's time and value of a record.
Raw = tuple[str, int, int, int, bytes | None]


class PreparingError(Exception):
    """The process that makes rows is gone."""


class Prepared(msgspec.Struct):
    """What records became."""

    #: Columns of :class:`~connectors.sinks.rows.EventRow`, as they are stored.
    events: list[tuple[Any, ...]] | PackedRows
    states: list[PaymentState]
    #: The hash of each event's leaf.
    leaves: list[bytes]
    #: Rows of ``privacy_keys`` that are to be written with the events.
    keys: list[tuple[Any, ...]]
    unreadable: int


class Preparer:
    """Makes rows of records, batch after batch. ``masters``: what is personal is sealed."""

    def __init__(self, codec: Codec, masters: MasterKeys | None) -> None:
        self._mapper = Mapper(codec, cutting=masters is not None)
        self._masters = masters
        #: Whether rows are packed for the database.
        self._packs = False
        self._database: Database | None = None
        self._sealer: Sealer | None = None
        #: Keys that were made for the batch.
        self._keys: list[tuple[object, ...]] = []
        #: Payments whose outcome is in the database, or will be before what is prepared next; the oldest first.
        self._ended: dict[tuple[str, str], None] = {}

    def open(self, database_url: str) -> None:
        """Begin, or begin anew with what the database holds: what was prepared and is not there counts no more.

        Raises what the database and the vault raise.
        """
        self.close()
        self._ended.clear()
        self._keys = []
        self._packs = kind_of(database_url).takes_packed
        if self._masters is not None:
            self._database = open_database(database_url, create=True)
            self._sealer = Sealer(Vault(self._database, self._masters, create=True, add=self._add_keys))

    def _add_keys(self, rows: Sequence[tuple[object, ...]]) -> int:
        self._keys += rows
        return len(rows)

    def prepared(self, records: Sequence[Raw]) -> Prepared:
        """Rows of ``records``, and of what else is to be told with them.

        Raises :class:`RegistryAwayError` (the same records can be tried again), and what the vault raises (then :meth:`open`).
        """
        make_row, ended = self._mapper.columns, self._ended
        events: list[Columns] = []
        payments: dict[tuple[str, str], list[Columns]] = {}
        unreadable = 0
        for record in records:
            row = make_row(*record)
            events.append(row)
            if row[1]:
                payment = row[:2]
                if payment not in ended:
                    payments.setdefault(payment, []).append(row)
            elif row[-1] is None:  # no payload
                unreadable += 1
        record_of = self._mapper.record_of
        states = [state for rows in payments.values() if (state := state_of(rows, record_of)) is not None]
        if self._sealer is not None:
            events = self._sealer.sealed(events)
        # Tree by tree, each in the order of its records: leaves that are neighbours meet in the pages of their index.
        events.sort(key=_tree)
        keys, self._keys = self._keys, []
        self._remember_ended(states)
        leaves = [leaf_of(row) for row in events]
        return Prepared(PackedRows.of(events) if self._packs else events, states, leaves, keys, unreadable)

    def _remember_ended(self, states: list[PaymentState]) -> None:
        ended = self._ended
        ended.update(((state.tenant, state.payment_id), None) for state in states if state.outcome is not None)
        for payment in list(islice(ended, max(len(ended) - ENDED_MAX, 0))):
            del ended[payment]

    def close(self) -> None:
        """Close the connection."""
        if self._database is not None:
            self._database.close()
        self._database = self._sealer = None


class Here:
    """Rows are made in this process, when they are asked for."""

    def __init__(self, codec: Codec, masters: MasterKeys | None) -> None:
        self._preparer = Preparer(codec, masters)
        self._records: Sequence[Raw] = ()

    def open(self, database_url: str) -> None:
        """See :meth:`Preparer.open`."""
        self._preparer.open(database_url)

    def begin(self, records: Sequence[Raw]) -> None:
        """Take ``records``."""
        self._records = records

    def ended(self) -> Prepared:
        """What became of the records that were taken; see :meth:`Preparer.prepared`."""
        return self._preparer.prepared(self._records)

    def close(self) -> None:
        """Close the connection."""
        self._preparer.close()


_ERRORS: Final[dict[str, type[Exception]]] = {
    each.__name__: each
    for each in (DatabaseAwayError, DatabaseBusyError, DatabaseError, MasterKeyError, RegistryAwayError)
}
_OPEN, _MAKE = b"o", b"m"
_encode = msgspec.msgpack.Encoder().encode
_decode_prepared = msgspec.msgpack.Decoder(Prepared).decode
_decode_records = msgspec.msgpack.Decoder(list[Raw]).decode


class Apart:
    """Rows are made in another process, while this one does something else. Raises also :class:`PreparingError`."""

    def __init__(self, codec: Codec, masters: MasterKeys | None) -> None:
        # Modules are found where this process finds them, and nowhere else.
        path = os.pathsep.join(each or os.getcwd() for each in sys.path)
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-m", "connectors.sinks.preparing"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            pipesize=PIPE_BYTES,
            env=os.environ | {"PYTHONPATH": path},
        )
        self._is_busy = False
        self._ask(pickle.dumps((codec, masters)))

    @property
    def process_id(self) -> int:
        """Of the process."""
        return self._process.pid

    def open(self, database_url: str) -> None:
        """See :meth:`Preparer.open`."""
        if self._is_busy:
            self._answer()
        self._ask(_OPEN + database_url.encode())
        _raise_told(self._answer())

    def begin(self, records: Sequence[Raw]) -> None:
        """Send ``records``."""
        self._ask(_MAKE + _encode(records))
        self._is_busy = True

    def ended(self) -> Prepared:
        """Wait for what becomes of the records that were sent; see :meth:`Preparer.prepared`."""
        return _decode_prepared(_raise_told(self._answer()))

    def close(self) -> None:
        """End the process."""
        assert self._process.stdin is not None and self._process.stdout is not None
        with suppress(BrokenPipeError):
            self._process.stdin.close()
        self._process.stdout.close()
        try:
            self._process.wait(END_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def _ask(self, data: bytes) -> None:
        try:
            _send(self._process.stdin, data)
        except BrokenPipeError:
            raise self._gone() from None

    def _answer(self) -> bytes:
        self._is_busy = False
        found = _receive(self._process.stdout)
        if found is None:
            raise self._gone()
        return found

    def _gone(self) -> PreparingError:
        return PreparingError(f"the sink's process that makes rows ended with {self._process.wait()}")


def _raise_told(answer: bytes) -> memoryview:
    if answer[:1] == b"!":
        name, text = msgspec.msgpack.decode(memoryview(answer)[1:], type=tuple[str, str])
        raise _ERRORS[name](text)
    return memoryview(answer)[1:]


def _send(file: IO[bytes] | None, data: bytes) -> None:
    assert file is not None
    file.write(len(data).to_bytes(_LENGTH_BYTES, "big"))
    file.write(data)
    file.flush()


def _receive(file: IO[bytes] | None) -> bytes | None:
    """None at the end."""
    assert file is not None
    length = file.read(_LENGTH_BYTES)
    if len(length) < _LENGTH_BYTES:
        return None
    size = int.from_bytes(length, "big")
    data = file.read(size)
    return data if len(data) == size else None


def _serve(asked: IO[bytes], answers: IO[bytes]) -> None:
    first = _receive(asked)
    if first is None:
        return
    codec, masters = pickle.loads(first)  # noqa: S301  of the process that started this one
    preparer = Preparer(codec, masters)
    while (request := _receive(asked)) is not None:
        try:
            if request[:1] == _OPEN:
                preparer.open(request[1:].decode())
                answer = b"."
            else:
                answer = b"." + _encode(preparer.prepared(_decode_records(memoryview(request)[1:])))
        except tuple(_ERRORS.values()) as error:
            answer = b"!" + _encode((type(error).__name__, str(error)))
        try:
            _send(answers, answer)
        except BrokenPipeError:
            break
    preparer.close()


def main() -> None:
    """Answer the process that started this one, until it ends."""
    from connectors.sinks.writing import tune_process

    # Signals of the terminal or a supervisor are for that process, which ends this one when it is done.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    answers = os.fdopen(os.dup(1), "wb", PIPE_BYTES)
    os.dup2(2, 1)  # Whatever is printed is no answer.
    tune_process()
    _serve(sys.stdin.buffer, answers)


if __name__ == "__main__":
    main()
