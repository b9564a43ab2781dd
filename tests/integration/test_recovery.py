"""A worker's table after a restart and after the loss of its disk, from a changelog that the test wrote itself."""

from __future__ import annotations

import shutil
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
from confluent_kafka import Producer

from connectors.broker.local import LocalKafka
from pipeline import topics
from pipeline.rig import Rig, Worker
from pipeline.stages.profiles import HOUR_MS, Profile
from schemas.identity import partition_of, payer_key
from tests.integration.live import TOKEN, a_load, pipeline

pytestmark = pytest.mark.kafka

PARTITIONS = 4
NOON_HOUR = 1_760_000_000_000 // HOUR_MS


def a_profile(number: int, version: int = 3) -> Profile:
    """A payer's row as the payer stage leaves it after ``version`` payments in three hours."""
    hours = [NOON_HOUR - 20, NOON_HOUR - 3, NOON_HOUR]
    counts = [version, 1, 2]
    return Profile(
        version=version,
        seen={0: number, 1: number + 7},
        hours=hours,
        counts=counts,
        amounts=[number + 100, 250, 1200],
        chargebacks=[0, 0, 0],
        terminals={f"terminal-{number % 50}": hours[-1]},
    )


def key_of(number: int) -> bytes:
    """The key of payer ``number``."""
    return payer_key("bench0", f"payer-{number}")


def write_changelog(address: str, rows: Iterator[tuple[bytes, bytes]], partitions: int = PARTITIONS) -> None:
    """Produce rows straight into the changelog, as a payer worker would."""
    producer = Producer(
        {
            "bootstrap.servers": address,
            "enable.idempotence": True,
            "linger.ms": 25,
            "batch.size": 262_144,
            "compression.type": "lz4",
            "queue.buffering.max.messages": 1_000_000,
            "log_level": 3,
        }
    )
    topic = topics.TABLE_PAYER_PROFILES.name
    for count, (key, row) in enumerate(rows):
        producer.produce(topic, row, key, partition_of(key, partitions))
        if count % 10_000 == 0:
            producer.poll(0)
            while len(producer) > 500_000:
                producer.poll(0.1)
    assert producer.flush(120) == 0


def shown(worker: Worker, number: int) -> dict[str, object]:
    """A payer's row as the worker's web view gives it."""
    status, body = worker.get(f"/tables/payer_profiles/bench0/payer-{number}", TOKEN)
    assert status == 200, (status, body)
    return dict(msgspec.json.decode(body))


def start(rig: Rig, worker: Worker) -> float:
    """Start a worker that was ended; seconds until it is ready."""
    started = time.monotonic()
    worker.start()
    rig.wait_ready(300)
    return time.monotonic() - started


def test_rows_are_equal_after_a_restart_and_after_the_loss_of_the_disk(kafka: LocalKafka, tmp_path: Path) -> None:
    """20,000 rows come back from the changelog alone and from the disk; a zombie's older row loses, a newer one wins."""
    rows = 20_000
    encode = msgspec.msgpack.encode
    with pipeline(kafka.address, tmp_path, a_load(1)) as rig:
        write_changelog(kafka.address, ((key_of(n), encode(a_profile(n))) for n in range(rows)))
        # A former owner woke up late: its row has seen less, yet stands later in the log.
        write_changelog(kafka.address, ((key_of(n), encode(a_profile(n, version=2))) for n in range(0, rows, 100)))
        write_changelog(kafka.address, ((key_of(n), encode(a_profile(n, version=9))) for n in range(1, rows, 100)))
        worker = rig.worker("payer", ("payer",))
        started = time.monotonic()
        rig.wait_ready()
        print(f"{rows} rows from the changelog: ready after {time.monotonic() - started:.1f} s")
        first = check(worker, rows)
        worker.kill(signal.SIGTERM)
        assert worker.process is not None and worker.process.returncode == 0, worker.log_tail()
        print(f"on its own disk: ready after {start(rig, worker):.1f} s")
        assert check(worker, rows) == first
        worker.kill(signal.SIGTERM)
        shutil.rmtree(worker.datadir)
        print(f"disk lost: ready after {start(rig, worker):.1f} s")
        assert check(worker, rows) == first
    assert stored(worker.datadir) == {
        key_of(n): encode(a_profile(n, version=9 if n % 100 == 1 else 3)) for n in range(rows)
    }


def check(worker: Worker, rows: int) -> list[object]:
    """Some rows by the web view, with the counts that follow from how they were written."""
    found = []
    for number in (0, 1, 2, 100, 101, rows - 1):
        view = shown(worker, number)
        version = 9 if number % 100 == 1 else 3
        assert view["version"] == version
        assert view["features_at_newest_hour"]["count_1d"] == version + 3  # type: ignore[index]
        assert view["features_at_newest_hour"]["amount_1d"] == number + 100 + 250 + 1200  # type: ignore[index]
        found.append(view)
    return found


def stored(datadir: Path) -> dict[bytes, bytes]:
    """Every row of the payer table on the disk of a worker that has ended."""
    import rocksdict

    rows: dict[bytes, bytes] = {}
    for path in sorted(datadir.rglob("payer_profiles-*.db")):
        options = rocksdict.Options(raw_mode=True)
        database = rocksdict.Rdict(str(path), options=options, access_type=rocksdict.AccessType.read_only())
        try:
            for key, row in database.items():
                if not key.startswith(b"__"):
                    rows[bytes(key)] = bytes(row)
        finally:
            database.close()
    return rows
