"""Workers start, stop, die and change their number under load, on a real Kafka."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from confluent_kafka import Producer

from connectors.broker.local import LocalKafka
from pipeline import topics
from pipeline.engine.app import WATCHDOG_INTERVAL_S
from schemas.codec import Codec
from schemas.identity import payment_key
from tests.integration.live import (
    TIMEOUT_S,
    a_load,
    completed,
    end,
    exact,
    no_traceback,
    owners,
    posting,
    refused,
    settle,
    told_once,
    until,
    working,
)

pytestmark = pytest.mark.kafka

CODEC = Codec()


def test_sigterm_and_ctrl_c_finish_the_cycle_commit_and_exit_0(kafka: LocalKafka, tmp_path: Path) -> None:
    """A worker that is stopped under load publishes nothing twice after its restart, and nothing is lost."""
    load = a_load(2400)
    with working(kafka.address, tmp_path, load, "one") as (rig, [worker]):
        with posting(kafka.address, load, rate=200):
            for how, after in ((signal.SIGTERM, 150), (signal.SIGINT, 600)):
                until(f"{after} outcomes", lambda after=after: completed(rig) >= after)  # type: ignore[misc]
                code, seconds = end(worker, how)
                print(f"{how.name}: exit {code} after {seconds:.1f} s")
                assert code == 0, worker.log_tail()
                worker.start()
                rig.wait_ready()
        settle(rig, load)
        told_once(rig, load)
        assert exact(rig, load) == []
        assert no_traceback(worker.log.read_text()), worker.log_tail(40)


def test_a_killed_worker_works_again_with_its_datadir(kafka: LocalKafka, tmp_path: Path) -> None:
    """kill -9 in mid-stream, the same datadir again: it is ready soon and everything is exact."""
    load = a_load(1500)
    with working(kafka.address, tmp_path, load, "one") as (rig, [worker]):
        with posting(kafka.address, load, rate=200):
            until("300 outcomes", lambda: completed(rig) >= 300)
            worker.kill(signal.SIGKILL)
            before, started = completed(rig), time.monotonic()
            worker.start()
            rig.wait_ready()
            ready_s = time.monotonic() - started
            until("a new outcome", lambda: completed(rig) > before)
            print(f"after kill -9: ready {ready_s:.1f} s, first outcome {time.monotonic() - started:.1f} s")
        settle(rig, load)
        assert exact(rig, load) == []


def test_another_worker_takes_over_from_one_that_stays_dead(kafka: LocalKafka, tmp_path: Path) -> None:
    """Partitions of a worker that was killed and is not restarted are served by the other one of its group."""
    load = a_load(400)
    with working(kafka.address, tmp_path, load, "one", "two") as (rig, [dead, survivor]):
        until("both in one group", lambda: owners(rig) == 2)
        with posting(kafka.address, load, rate=200):
            until("100 outcomes", lambda: completed(rig) >= 100)
            dead.kill(signal.SIGKILL)
            killed = time.monotonic()
            rig.children.remove(dead)
        settle(rig, load)
        print(f"takeover: last outcome {time.monotonic() - killed - 1.5:.1f} s after the kill -9 of the other worker")
        assert survivor.running()
        assert exact(rig, load) == []


def test_a_rebalance_under_load_loses_and_doubles_nothing(kafka: LocalKafka, tmp_path: Path) -> None:
    """A third worker joins and one leaves while payments flow."""
    load = a_load(2400, repeat_share=0.05)
    with working(kafka.address, tmp_path, load, "one", "two") as (rig, [first, _]):
        joined, leaving = threading.Event(), threading.Event()
        with posting(kafka.address, load, rate=200, gates={1000: joined, 1800: leaving}):
            until("200 outcomes", lambda: completed(rig) >= 200)
            third = rig.worker("three")
            until("the third is ready", third.ready)
            until("it has partitions", lambda: owners(rig) == 3)
            joined.set()
            seen = completed(rig)
            until("more outcomes", lambda: completed(rig) >= seen + 100)
            leaving.set()
            assert end(first, signal.SIGTERM)[0] == 0, first.log_tail()
            rig.children.remove(first)
            rig.children.append(first)
            rig.children.pop()
        settle(rig, load)
        assert exact(rig, load) == []
        for worker in (first, third):
            assert no_traceback(worker.log.read_text()), worker.log_tail(40)


def test_two_workers_with_one_datadir_do_no_damage(kafka: LocalKafka, tmp_path: Path) -> None:
    """The second worker on a datadir in use says so and ends; the first one goes on."""
    load = a_load(600)
    with working(kafka.address, tmp_path, load, "one") as (rig, [first]):
        with posting(kafka.address, load, rate=200):
            until("50 outcomes", lambda: completed(rig) >= 50)
            second = rig.worker("second", PTR_DATADIR=str(first.datadir))
            assert str(first.datadir) in refused(rig, second), second.log_tail(40)
        settle(rig, load)
        assert first.running()
        assert first.starts == 1
        assert exact(rig, load) == []


def test_two_workers_with_one_instance_name_do_no_damage(kafka: LocalKafka, tmp_path: Path) -> None:
    """Kafka gives the partitions to the newer one; the older one ends with a message that names the setting."""
    load = a_load(600)
    with working(kafka.address, tmp_path, load, "one", PTR_INSTANCE="same") as (rig, [first]):
        with posting(kafka.address, load, rate=100):
            until("50 outcomes", lambda: completed(rig) >= 50)
            rig.worker("two")
            assert "PTR_INSTANCE" in refused(rig, first), first.log_tail(40)
        settle(rig, load)
        assert exact(rig, load) == []


def test_a_stuck_handler_ends_the_worker_with_a_message(kafka: LocalKafka, tmp_path: Path) -> None:
    """The watchdog names topic and partition; after the cause is gone, a restart goes on and nothing is doubled."""
    load = a_load(200)
    with working(kafka.address, tmp_path, load, "one", PTR_WATCHDOG_S="5") as (rig, [worker]):
        lock = sqlite3.connect(tmp_path / "pic.db", isolation_level=None)
        try:
            lock.execute("BEGIN IMMEDIATE")
            with posting(kafka.address, load, rate=0):
                assert worker.process is not None
                started = time.monotonic()
                code = worker.process.wait(TIMEOUT_S)
                print(f"watchdog (5 s): ended after {time.monotonic() - started:.1f} s")
        finally:
            lock.close()
        said = worker.log_tail(3)
        assert code == 70, said
        assert "payments.queue.simulator.v1 partition " in said and "PTR_WATCHDOG_S=5" in said, said
        worker.start()
        settle(rig, load)
        assert exact(rig, load) == []


def test_the_end_of_a_transaction_is_no_stall(kafka: LocalKafka, tmp_path: Path) -> None:
    """Its marker takes an offset behind the last record, which nobody can commit: the watchdog lets the worker live."""
    load = a_load(20)
    with working(kafka.address, tmp_path, load, "one", PTR_WATCHDOG_S="5") as (rig, [worker]):
        producer = Producer(
            {"bootstrap.servers": kafka.address, "transactional.id": tmp_path.name, "partitioner": "consistent"}
        )
        producer.init_transactions(TIMEOUT_S)
        producer.begin_transaction()
        for number in range(load.payments):
            request = load.payment(number)
            producer.produce(
                topics.REQUESTED.name, CODEC.encode(request), payment_key(request.tenant, request.payment_id)
            )
        producer.commit_transaction(TIMEOUT_S)
        settle(rig, load)
        time.sleep(5 + 3 * WATCHDOG_INTERVAL_S)
        assert worker.running(), worker.log_tail(3)


@pytest.mark.parametrize(
    ("variable", "value", "named"),
    [
        ("PTR_STAGES", "screening,nothing", "PTR_STAGES"),
        ("PTR_SESSION_TIMEOUT_S", "3", "PTR_SESSION_TIMEOUT_S"),
        ("PTR_PARTITIONS", "many", "PTR_PARTITIONS"),
        ("PTR_PICS", "unheard-of", "unheard-of"),
        ("PTR_LISTS", "ofac=/nowhere", "/nowhere"),
        ("PTR_DATADIR", "/dev/null/state", "/dev/null/state"),
        ("PTR_WEB_PORT", "70000", "PTR_WEB_PORT"),
        ("PTR_LOG_LEVEL", "loud", "PTR_LOG_LEVEL"),
        ("PTR_BROKER", "nonsense", "PTR_BROKER"),
        ("PTR_WEB_TOKEN_FILE", "/nowhere/token", "PTR_WEB_TOKEN_FILE"),
    ],
)
def test_a_wrong_setting_is_one_clear_line(variable: str, value: str, named: str, tmp_path: Path) -> None:
    """A worker with a wrong setting ends at once with a code that is not 0 and a line that names it; no traceback."""
    settings = {"PTR_BROKER": "127.0.0.1:1", "PTR_DATADIR": str(tmp_path / "state")} | {variable: value}
    done = subprocess.run(
        [sys.executable, "-m", "pipeline.cli", "worker"],
        env=os.environ | settings,
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
    )
    assert done.returncode not in (0, -signal.SIGKILL)
    assert named in done.stderr.strip().splitlines()[-1], done.stderr
    assert no_traceback(done.stderr), done.stderr
