"""The simulated PIC and its ledgers."""

from __future__ import annotations

import asyncio
import os
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from connectors.pic.base import UNKNOWN, Answer, Call
from connectors.pic.calls import LeaseLostError
from connectors.pic.simulator import MemoryLedger, Simulator, SqliteLedger

ROOT = Path(__file__).parents[2]
#: From coreutils: printf 'aurora|p1|1' | b2sum -l 96
REFERENCE_OF_P1 = "sim_5b14d289e452ccc4babb8086"


def call(payment_id: str = "p1", token: str = "tok_p1", challenge: bool = False) -> Call:
    return Call(
        attempt_id=f"aurora|{payment_id}|1",
        tenant="aurora",
        payment_id=payment_id,
        amount_minor=1_250,
        currency="EUR",
        token=token,
        method="card",
        challenge=challenge,
    )


@pytest.fixture(params=["memory", "sqlite"])
def ledger(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[MemoryLedger | SqliteLedger]:
    made = MemoryLedger() if request.param == "memory" else SqliteLedger(tmp_path / "ledger.db")
    yield made
    made.close()


@pytest.mark.parametrize(("challenge", "outcome"), [(False, "succeeded"), (True, "declined")])
def test_a_payer_who_cannot_prove_who_they_are(
    ledger: MemoryLedger | SqliteLedger, challenge: bool, outcome: str
) -> None:
    """Declined where they are challenged, and a look-up says the same; otherwise nobody asks."""
    simulator = Simulator("simulator", ledger)
    asked = [call(token="tok_unproved_1", challenge=challenge)]
    answers = asyncio.run(simulator.perform(asked)) + asyncio.run(simulator.look_up([call()]))
    reason = "authentication_failed" if challenge else ""
    assert [(answer.outcome, answer.reason) for answer in answers if answer] == [(outcome, reason)] * 2


@pytest.mark.parametrize(
    ("token", "first", "looked_up", "again"),
    [
        ("tok_1", "succeeded", "succeeded", "succeeded"),
        ("tok_slow_1", "succeeded", "succeeded", "succeeded"),
        ("tok_decline_1", "declined", "declined", "declined"),
        ("tok_lost_1", "pending", "succeeded", "succeeded"),
        ("tok_error_1", "pending", None, "succeeded"),
        ("tok_never_1", "pending", "pending", "pending"),
    ],
)
def test_the_token_scripts_the_pic(
    ledger: MemoryLedger | SqliteLedger, token: str, first: str, looked_up: str | None, again: str
) -> None:
    """The first call, a look-up, the same call again; every call is counted, and so is the look-up."""
    simulator = Simulator("simulator", ledger, slow_s=0)

    async def ask() -> tuple[list[Answer], list[Answer | None], list[Answer]]:
        return (
            await simulator.perform([call(token=token)]),
            await simulator.look_up([call()]),
            await simulator.perform([call(token=token)]),
        )

    firsts, looks, agains = asyncio.run(ask())
    assert [answer.outcome for answer in firsts] == [first]
    assert [answer.outcome if answer else None for answer in looks] == [looked_up]
    assert [answer.outcome for answer in agains] == [again]
    entry = ledger.entries()["aurora|p1|1"]
    assert (entry.calls, entry.lookups) == (2, 1)


def test_a_decline_has_a_reason_and_an_answer_a_reference(ledger: MemoryLedger | SqliteLedger) -> None:
    """The reference is derived from the attempt, so that a repeat has the same; an unknown answer has none."""
    paid, declined, unknown = ledger.perform(
        [call(), call("p2", "tok_decline"), call("p3", "tok_lost")],
    )
    assert paid == Answer("succeeded", "", REFERENCE_OF_P1)
    assert (declined.outcome, declined.reason) == ("declined", "insufficient_funds")
    assert unknown == UNKNOWN
    assert ledger.perform([call()]) == [paid]


def test_never_answers_after_three_look_ups(ledger: MemoryLedger | SqliteLedger) -> None:
    """The fourth look-up finds it declined, and so it stays."""
    ledger.perform([call(token="tok_never")])
    outcomes = [answer.outcome for _ in range(5) for answer in ledger.look_up(["aurora|p1|1"]) if answer]
    assert outcomes == ["pending", "pending", "pending", "declined", "declined"]


def test_a_look_up_of_what_never_came_finds_nothing(ledger: MemoryLedger | SqliteLedger) -> None:
    """None, in its place among the others, and no trace in the ledger."""
    ledger.perform([call("p2")])
    found = ledger.look_up(["aurora|p1|1", "aurora|p2|1"])
    assert [answer and answer.outcome for answer in found] == [None, "succeeded"]
    assert list(ledger.entries()) == ["aurora|p2|1"]


def test_the_same_attempt_twice_in_a_batch_is_one_payment(ledger: MemoryLedger | SqliteLedger) -> None:
    """Both get the same answer, two calls are counted; an error is over by the second call."""
    assert ledger.perform([call(), call()])[0] == ledger.perform([call()])[0]
    assert ledger.entries()["aurora|p1|1"].calls == 3
    first, second = ledger.perform([call("p2", "tok_error"), call("p2", "tok_error")])
    assert (first.outcome, second.outcome) == ("pending", "succeeded")


def test_without_the_lease_nothing_is_done(ledger: MemoryLedger | SqliteLedger) -> None:
    """Neither a payment nor a look-up, and nothing is recorded; with it again, all works."""
    simulator = Simulator("simulator", ledger, allowed=lambda: False)
    with pytest.raises(LeaseLostError):
        asyncio.run(simulator.perform([call()]))
    assert ledger.entries() == {}
    ledger.perform([call()])
    with pytest.raises(LeaseLostError):
        asyncio.run(simulator.look_up([call()]))
    assert ledger.entries()["aurora|p1|1"].lookups == 0
    assert ledger.perform([call("p2")])[0].outcome == "succeeded"


def test_the_lease_is_asked_for_once_the_lock_is_held(tmp_path: Path) -> None:
    """While it is asked nobody else can write: a process stopped while it waited for the lock is found out after."""
    path = tmp_path / "ledger.db"
    ledger = SqliteLedger(path)
    held: list[bool] = []

    def allowed() -> bool:
        other = sqlite3.connect(path, timeout=0, isolation_level=None)
        try:
            other.execute("BEGIN IMMEDIATE")
            held.append(False)
        except sqlite3.OperationalError:
            held.append(True)
        finally:
            other.close()
        return True

    ledger.perform([call()], allowed)
    ledger.look_up(["aurora|p1|1"], allowed)
    ledger.close()
    assert held == [True, True]


WORKER = """
import sys
from connectors.pic.base import Call
from connectors.pic.simulator import SqliteLedger

path, prefix, batches, size = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
ledger = SqliteLedger(path)
print("ready", flush=True)
sys.stdin.readline()
for batch in range(batches):
    ids = [f"{prefix}{batch * size + n}" for n in range(size)]
    calls = [Call(attempt_id=i, tenant="t", payment_id=i, amount_minor=1, currency="EUR", token="tok_1", method="card")
             for i in ids]
    ledger.perform(calls)
    print(batch, flush=True)
"""


def start_worker(path: Path, prefix: str, batches: int, size: int) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", WORKER, str(path), prefix, str(batches), str(size)],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def end_workers(workers: Sequence[subprocess.Popen[str]]) -> None:
    for worker in workers:
        if worker.poll() is None:
            worker.kill()
        worker.communicate(timeout=30)


def test_processes_share_a_ledger(tmp_path: Path) -> None:
    """Four processes make the file together and call the same 1,000 attempts: each attempt once, four calls counted."""
    path = tmp_path / "ledger.db"
    workers = [start_worker(path, "a|", 5, 200) for _ in range(4)]
    try:
        for worker in workers:
            assert worker.stdin is not None
            worker.stdin.write("go\n")
            worker.stdin.flush()
        for worker in workers:
            assert worker.wait(timeout=120) == 0
    finally:
        end_workers(workers)
    ledger = SqliteLedger(path)
    entries = ledger.entries()
    ledger.close()
    assert len(entries) == 1_000
    assert {entry.calls for entry in entries.values()} == {4}


def test_what_the_pic_did_survives_kill_9(tmp_path: Path) -> None:
    """Killed in mid-stream, three times: every batch that was answered is there, every batch is there whole."""
    path = tmp_path / "ledger.db"
    for round_ in range(3):
        worker = start_worker(path, f"{round_}|", 100_000, 50)
        try:
            assert worker.stdin is not None
            assert worker.stdout is not None
            worker.stdin.write("go\n")
            worker.stdin.flush()
            answered = -1
            for line in worker.stdout:
                answered = int(line) if line.strip().isdigit() else answered
                if answered >= 20:
                    break
            os.kill(worker.pid, signal.SIGKILL)
            worker.wait(timeout=30)
        finally:
            end_workers([worker])
        ledger = SqliteLedger(path)
        mine = [key for key in ledger.entries() if key.startswith(f"{round_}|")]
        ledger.close()
        assert len(mine) >= 21 * 50
        assert len(mine) % 50 == 0


def test_a_ledger_in_memory_forgets_the_oldest() -> None:
    """It holds as many attempts as it is told to, whatever comes; the newest keep their answers, the oldest are new again."""
    ledger = MemoryLedger(entries_max=3)
    for number in range(10):
        ledger.perform([call(f"p{number}"), call(f"p{number}")])
        assert len(ledger.entries()) <= 3
    assert list(ledger.entries()) == [f"aurora|p{number}|1" for number in (7, 8, 9)]
    ledger.perform([call("p7"), call("p0")])
    assert ledger.entries()["aurora|p0|1"].calls == 1
    assert ledger.look_up(["aurora|p7|1"]) == [None]
