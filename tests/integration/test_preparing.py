"""Rows made in a process of their own: the same rows, and keys that are stored with them or not at all."""

from __future__ import annotations

import fcntl
import os
import random
import signal
import struct
import termios
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from connectors.privacy.masters import MasterKeyError, MasterKeys
from connectors.proofs.appending import leaf_of
from connectors.sinks.database import Batch, Database, DatabaseAwayError, open_database
from connectors.sinks.preparing import PIPE_BYTES, Apart, Here, Prepared, PreparingError, Raw
from schemas.codec import Codec
from tests.benchmark.bench_sink import records_of

CODEC = Codec()
MASTERS = MasterKeys([bytes(32)])


#: Then whoever answers waits for the reader: the last page of a pipe need not be full.
PIPE_FULL_BYTES = PIPE_BYTES - 64 * 1024


def waits_in_pipe(maker: Apart) -> int:
    """Bytes of the answer that are in the pipe and were not read."""
    assert maker._process.stdout is not None
    found: int = struct.unpack("i", fcntl.ioctl(maker._process.stdout, termios.FIONREAD, bytes(4)))[0]
    return found


def raw(payments: int) -> list[Raw]:
    """The records of some payments, and two that are none."""
    rng = random.Random(3)
    values = [
        (topic, number % 2, CODEC.encode(record))
        for number in range(payments)
        for topic, record in records_of(number, rng)
    ]
    return [
        *((topic, partition, at, 1_764_000_000_000 + at, value) for at, (topic, partition, value) in enumerate(values)),
        ("payments.screened.v1", 0, 9_000, 5, b"junk"),
        ("payments.screened.v1", 0, 9_001, 5, None),
    ]


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    """A new one."""
    with closing(open_database(f"sqlite:///{tmp_path}/a.db", create=True)) as opened:
        opened.migrate()
        yield opened


def batch_of(made: Prepared) -> Batch:
    return Batch(made.events, made.states, {("t", 0): (None, 1)}, made.leaves, made.keys)


def test_rows_made_apart_are_the_same(database: Database) -> None:
    """Events, states and what is unreadable, batch after batch; the state of a payment that ended is told once."""
    found = []
    for maker in (Here(CODEC, None), Apart(CODEC, None)):
        with closing(maker):
            maker.open(database.shown)
            batches = []
            for _ in range(2):
                maker.begin(raw(3))
                batches.append(maker.ended())
            found.append(batches)
    here, apart = found
    assert here == apart
    assert [(len(made.events), len(made.states), made.unreadable) for made in apart] == [(23, 3, 2), (23, 0, 2)]
    assert apart[0].leaves == [leaf_of(row) for row in apart[0].events]


def test_keys_are_stored_with_the_rows_or_not_at_all(database: Database) -> None:
    """What is made and not written leaves no key; made again after opening, it brings them again, known ones not."""
    keys = "SELECT COUNT(*) FROM privacy_keys WHERE key_id <> 0"
    with closing(Apart(CODEC, MASTERS)) as maker:
        for _ in range(2):
            maker.open(database.shown)
            maker.begin(raw(3))
            made = maker.ended()
            assert len(made.keys) == 7  # three payers, three shops, and nobody, whose the junk is
            assert database.query(keys) == [(0,)]
        assert database.write(batch_of(made)) == 23
        assert database.query(keys) == [(7,)]
        maker.begin(raw(3))
        assert maker.ended().keys == []


def test_a_key_that_is_taken_takes_the_batch_back(database: Database) -> None:
    """Another key under the same subject: nothing of the batch is written, and the sink may try again."""
    with closing(Here(CODEC, MASTERS)) as maker:
        maker.open(database.shown)
        maker.begin(raw(1))
        batch = batch_of(maker.ended())
    database.add_keys([batch.keys[0]])
    with pytest.raises(DatabaseAwayError, match="a new key has the id or the subject of another"):
        database.write(batch)
    assert database.query("SELECT COUNT(*) FROM payment_events") == [(0,)]
    assert database.write(replace(batch, keys=batch.keys[1:])) == 9


def test_what_goes_wrong_apart_is_raised_here(database: Database) -> None:
    """Another master key as it is said; a process that was killed as one that is gone."""
    with closing(Here(CODEC, MASTERS)) as maker:
        maker.open(database.shown)
    with closing(Apart(CODEC, MasterKeys([bytes(31) + b"\x01"]))) as other:
        with pytest.raises(MasterKeyError, match="wrapped by master key"):
            other.open(database.shown)
        os.kill(other.process_id, signal.SIGKILL)
        with pytest.raises(PreparingError, match="that makes rows ended with -9"):
            other.open(database.shown)


def test_half_an_answer_is_none(database: Database) -> None:
    """The process is killed while it waits to write the rest of an answer; what came of it is thrown away."""
    with closing(Apart(CODEC, MASTERS)) as maker:
        maker.open(database.shown)
        maker.begin(raw(400))
        deadline_s = time.monotonic() + 60
        while waits_in_pipe(maker) <= PIPE_FULL_BYTES:
            assert time.monotonic() < deadline_s, "the answer does not fill the pipe"
            time.sleep(0.01)
        os.kill(maker.process_id, signal.SIGKILL)
        with pytest.raises(PreparingError, match="that makes rows ended with -9"):
            maker.ended()
    assert database.query("SELECT COUNT(*) FROM privacy_keys WHERE key_id <> 0") == [(0,)]
