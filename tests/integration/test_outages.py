"""The broker away, and disks full under RocksDB and SQLite: it waits or ends with a message, and nothing is lost or doubled."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from confluent_kafka import KafkaException

from connectors.broker.local import LocalKafka
from pipeline.bench.load import post
from pipeline.rig import FRAUD, FRONT, Child, Rig
from tests.integration.kafka import a_kafka_of_its_own
from tests.integration.live import (
    TIMEOUT_S,
    a_load,
    audited,
    completed,
    exact,
    no_traceback,
    pipeline,
    posting,
    settle,
    supervisor,
    until,
)

pytestmark = pytest.mark.kafka

AWAY_S = 60.0


def test_the_broker_away_for_a_minute(tmp_path: Path) -> None:
    """Killed under load and back on the same data: what a worker says when it gives up is one line, a supervisor starts
    it again, and everything is exact."""
    load = a_load(900)
    with a_kafka_of_its_own(tmp_path / "kafka") as kafka:
        kafka.start()
        with pipeline(kafka.address, tmp_path / "rig", load) as rig:
            workers = [rig.worker("front", FRONT), rig.worker("fraud", FRAUD)]
            rig.audit_sink()
            rig.wait_ready()
            tend = supervisor(rig)
            with posting(kafka.address, load, rate=100):
                until("150 outcomes", lambda: completed(rig) >= 150)
                seen = completed(rig)
                kafka.kill()
                back_at = time.monotonic() + AWAY_S
                while time.monotonic() < back_at:
                    tend()
                    time.sleep(0.1)
                kafka.start()
                returned = time.monotonic()
                while not more_than(rig, seen):
                    assert time.monotonic() - returned < TIMEOUT_S, [w.log_tail() for w in workers]
                    tend()
                    time.sleep(0.1)
                print(f"first new outcome {time.monotonic() - returned:.1f} s after the broker was back")
            settle(rig, load, tend)
            starts = {child.name: child.starts for child in rig.children}
            print(f"starts: {starts}")
            for child in rig.children:
                log = child.log.read_text()
                if child.starts > 1:
                    assert "ends:" in log or "broker" in log.lower(), child.log_tail(30)
                assert no_traceback(log), (child.name, child.log_tail(60))
            assert exact(rig, load) == []


def more_than(rig: Rig, seen: int) -> bool:
    """Whether there are more outcomes than ``seen``; a partition of a broker that starts has no leader for a moment."""
    try:
        return completed(rig) > seen
    except KafkaException:
        return False


@contextmanager
def a_small_disk(folder: Path, megabytes: int) -> Iterator[Path]:
    """A file system of that size; unmounted afterwards."""
    folder.mkdir(parents=True)
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={megabytes}m", "tmpfs", str(folder)],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        reason = f"a small disk cannot be mounted here ({done.stderr.strip()}); run as root"
        if os.environ.get("CI"):
            pytest.fail(reason)
        pytest.skip(reason)
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def fill(folder: Path, leave_bytes: int) -> Path:
    """Take all room but ``leave_bytes``."""
    ballast = folder / "ballast"
    with ballast.open("wb") as file:
        file.truncate(0)
        left = shutil.disk_usage(folder).free - leave_bytes
        while left > 0:
            left -= file.write(b"\1" * min(left, 1 << 20))
    return ballast


def ended_by_itself(child: Child) -> str:
    """Wait until it ended; the end of what it said."""
    assert child.process is not None
    code = child.process.wait(TIMEOUT_S)
    assert code not in (0, -signal.SIGKILL, -signal.SIGABRT, -signal.SIGSEGV), (code, child.log_tail())
    return child.log_tail(40)


def test_a_full_disk_under_rocksdb(kafka: LocalKafka, tmp_path: Path) -> None:
    """The worker ends with a message that tells what is full; with room again it goes on, exact."""
    load = a_load(2500)
    with a_small_disk(tmp_path / "small", 96) as disk, pipeline(kafka.address, tmp_path / "rig", load) as rig:
        worker = rig.worker("one", PTR_DATADIR=str(disk / "one"))
        worker.datadir = disk / "one"
        rig.audit_sink()
        rig.wait_ready()
        ballast = fill(disk, 128 << 10)
        with posting(kafka.address, load, rate=0):
            said = ended_by_itself(worker)
        assert "no space left" in said.lower() or "disk" in said.lower(), said
        assert no_traceback(said), said
        ballast.unlink()
        worker.start()
        settle(rig, load)
        assert exact(rig, load) == []


def test_a_full_disk_under_the_audit_tables(kafka: LocalKafka, tmp_path: Path) -> None:
    """The audit sink waits or ends with a message, and writes what is missing when there is room again, each row once."""
    load = a_load(1500)
    with a_small_disk(tmp_path / "small", 64) as disk:
        with pipeline(kafka.address, tmp_path / "rig", load, PTR_DATABASE=f"sqlite:///{disk}/audit.db") as rig:
            rig.database = f"sqlite:///{disk}/audit.db"
            rig.worker("one")
            sink = rig.audit_sink()
            rig.wait_ready()
            until(
                "the sink has made its tables", lambda: (disk / "audit.db").exists() and "error" not in sink.log_tail()
            )
            until("it has begun", lambda: sink.log_tail() != "")
            ballast = fill(disk, 256 << 10)
            post(kafka.address, load)
            until("all outcomes", lambda: completed(rig) >= load.payments)
            until("it says so", lambda: "full" in sink.log_tail(30).lower() or "space" in sink.log_tail(30).lower())
            assert audited(rig) < load.payments
            assert no_traceback(sink.log.read_text()), sink.log_tail(40)
            ballast.unlink()
            settle(rig, load, supervisor(rig))
            assert exact(rig, load) == []
