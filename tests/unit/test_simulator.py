"""PIC plugins: the simulator and its ledgers, the base of one-by-one plugins, the circuit breaker, the registry."""

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

from connectors.pic.base import UNKNOWN, Answer, Call, LeaseLostError, OneByOne
from connectors.pic.breaker import Breaker
from connectors.pic.registry import UnknownPicError, make_pic
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


@pytest.mark.parametrize(("challenge", "outcome"), [(False, "paid"), (True, "declined")])
def test_a_payer_who_cannot_prove_who_they_are(
    ledger: MemoryLedger | SqliteLedger, challenge: bool, outcome: str
) -> None:
    """Declined where they are challenged, and a look-up says the same; otherwise nobody asks."""
    simulator = Simulator("simulator", ledger)
    asked = [call(token="tok_unproved_1", challenge=challenge)]
    answers = asyncio.run(simulator.authorize(asked)) + asyncio.run(simulator.look_up(["aurora|p1|1"]))
    reason = "authentication_failed" if challenge else ""
    assert [(answer.outcome, answer.reason) for answer in answers if answer] == [(outcome, reason)] * 2


@pytest.mark.parametrize(
    ("token", "first", "looked_up", "again"),
    [
        ("tok_1", "paid", "paid", "paid"),
        ("tok_slow_1", "paid", "paid", "paid"),
        ("tok_decline_1", "declined", "declined", "declined"),
        ("tok_lost_1", "pending", "paid", "paid"),
        ("tok_error_1", "pending", None, "paid"),
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
            await simulator.authorize([call(token=token)]),
            await simulator.look_up(["aurora|p1|1"]),
            await simulator.authorize([call(token=token)]),
        )

    firsts, looks, agains = asyncio.run(ask())
    assert [answer.outcome for answer in firsts] == [first]
    assert [answer.outcome if answer else None for answer in looks] == [looked_up]
    assert [answer.outcome for answer in agains] == [again]
    entry = ledger.entries()["aurora|p1|1"]
    assert (entry.calls, entry.lookups) == (2, 1)


def test_a_decline_has_a_reason_and_an_answer_a_reference(ledger: MemoryLedger | SqliteLedger) -> None:
    """The reference is derived from the attempt, so that a repeat has the same; an unknown answer has none."""
    paid, declined, unknown = ledger.authorize(
        [call(), call("p2", "tok_decline"), call("p3", "tok_lost")],
    )
    assert paid == Answer("paid", "", REFERENCE_OF_P1)
    assert (declined.outcome, declined.reason) == ("declined", "insufficient_funds")
    assert unknown == UNKNOWN
    assert ledger.authorize([call()]) == [paid]


def test_never_answers_after_three_look_ups(ledger: MemoryLedger | SqliteLedger) -> None:
    """The fourth look-up finds it declined, and so it stays."""
    ledger.authorize([call(token="tok_never")])
    outcomes = [answer.outcome for _ in range(5) for answer in ledger.look_up(["aurora|p1|1"]) if answer]
    assert outcomes == ["pending", "pending", "pending", "declined", "declined"]


def test_a_look_up_of_what_never_came_finds_nothing(ledger: MemoryLedger | SqliteLedger) -> None:
    """None, in its place among the others, and no trace in the ledger."""
    ledger.authorize([call("p2")])
    found = ledger.look_up(["aurora|p1|1", "aurora|p2|1"])
    assert [answer and answer.outcome for answer in found] == [None, "paid"]
    assert list(ledger.entries()) == ["aurora|p2|1"]


def test_the_same_attempt_twice_in_a_batch_is_one_payment(ledger: MemoryLedger | SqliteLedger) -> None:
    """Both get the same answer, two calls are counted; an error is over by the second call."""
    assert ledger.authorize([call(), call()])[0] == ledger.authorize([call()])[0]
    assert ledger.entries()["aurora|p1|1"].calls == 3
    first, second = ledger.authorize([call("p2", "tok_error"), call("p2", "tok_error")])
    assert (first.outcome, second.outcome) == ("pending", "paid")


def test_without_the_lease_nothing_is_done(ledger: MemoryLedger | SqliteLedger) -> None:
    """Neither a payment nor a look-up, and nothing is recorded; with it again, all works."""
    simulator = Simulator("simulator", ledger, allowed=lambda: False)
    with pytest.raises(LeaseLostError):
        asyncio.run(simulator.authorize([call()]))
    assert ledger.entries() == {}
    ledger.authorize([call()])
    with pytest.raises(LeaseLostError):
        asyncio.run(simulator.look_up(["aurora|p1|1"]))
    assert ledger.entries()["aurora|p1|1"].lookups == 0
    assert ledger.authorize([call("p2")])[0].outcome == "paid"


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

    ledger.authorize([call()], allowed)
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
    ledger.authorize(calls)
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


class Scripted(OneByOne):
    """A plugin whose payments end as their token says; it notes what it was asked."""

    def __init__(self, **options: object) -> None:
        super().__init__("scripted", **({"timeout_s": 30.0} | options))  # type: ignore[arg-type]
        self.asked: list[str] = []
        self.in_flight = 0
        self.in_flight_max = 0

    async def authorize_one(self, call: Call) -> Answer:
        self.asked.append(call.payment_id)
        self.in_flight += 1
        self.in_flight_max = max(self.in_flight_max, self.in_flight)
        try:
            await asyncio.sleep(0)
            match call.token:
                case "raise":
                    raise ConnectionError("broken")
                case "hang":
                    await asyncio.Event().wait()
            return Answer("paid", "", f"ref-{call.payment_id}")
        finally:
            self.in_flight -= 1

    async def look_up_one(self, attempt_id: str) -> Answer | None:
        self.asked.append(attempt_id)
        if attempt_id == "broken":
            raise ConnectionError("broken")
        return None if attempt_id == "absent" else Answer("declined", "do_not_honour")


def test_a_batch_is_answered_in_order_with_bounded_concurrency() -> None:
    """200 payments through 7 slots: never more than 7 at once, each its own answer."""

    async def run() -> None:
        plugin = Scripted(in_flight_max=7)
        answers = await plugin.authorize([call(f"p{n}", "ok") for n in range(200)])
        assert [answer.pic_reference for answer in answers] == [f"ref-p{n}" for n in range(200)]
        assert plugin.in_flight_max == 7

    asyncio.run(run())


def test_an_exception_is_an_unknown_answer() -> None:
    """Pending, in its place; the others are not touched."""
    answers = asyncio.run(Scripted().authorize([call("p1", "raise"), call("p2", "ok")]))
    assert answers == [UNKNOWN, Answer("paid", "", "ref-p2")]


def test_no_answer_in_time_is_an_unknown_answer() -> None:
    """A PIC that never answers holds nobody, and the call to it is given up, not left behind."""

    async def run() -> None:
        plugin = Scripted(timeout_s=0.05)
        assert await plugin.authorize([call("p1", "hang"), call("p2", "hang")]) == [UNKNOWN, UNKNOWN]
        assert plugin.in_flight == 0

    asyncio.run(run())


def test_a_look_up_that_fails_is_not_a_look_up_that_finds_nothing() -> None:
    """None would let the payment be sent again; a failure is the unknown answer."""
    found = asyncio.run(Scripted().look_up(["broken", "absent", "there"]))
    assert found == [UNKNOWN, None, Answer("declined", "do_not_honour")]


def test_a_lost_lease_ends_the_batch() -> None:
    """Two calls are allowed, the third is not made, nor any after it, and what is in flight is not left behind."""
    left = [2]

    def allowed() -> bool:
        left[0] -= 1
        return left[0] >= 0

    async def run() -> None:
        plugin = Scripted(in_flight_max=2, allowed=allowed, timeout_s=3600)
        with pytest.raises(LeaseLostError):
            async with asyncio.timeout(60):  # only so that a batch that waits for what is in flight fails here
                await plugin.authorize([call("p1", "ok"), call("p2", "hang"), call("p3", "ok"), call("p4", "ok")])
        assert plugin.asked == ["p1", "p2"]
        assert plugin.in_flight == 0

    asyncio.run(run())


def test_a_pic_that_does_not_answer_is_left_alone() -> None:
    """Three failures open the breaker: the rest of the batch is not called; after 10 s one probe is, and it closes."""
    now_s = [100.0]

    async def run() -> None:
        plugin = Scripted(breaker=Breaker(3, 10.0), in_flight_max=1, clock_s=lambda: now_s[0])
        assert await plugin.authorize([call(f"p{n}", "raise") for n in range(6)]) == [UNKNOWN] * 6
        assert plugin.asked == ["p0", "p1", "p2"]
        assert await plugin.look_up(["there"]) == [UNKNOWN]
        assert len(plugin.asked) == 3
        now_s[0] += 10.0
        answers = await plugin.authorize([call("p7", "ok"), call("p8", "ok")])
        assert [answer.outcome for answer in answers] == ["paid", "paid"]

    asyncio.run(run())


def test_the_breaker_opens_probes_and_closes() -> None:
    """By hand: two unknown open it at 1 s for 5 s; the probe at 6 s fails; the one at 11 s closes it."""
    breaker = Breaker(2, 5.0)
    breaker.record(0.0, known=False)
    assert breaker.allows(0.5)
    breaker.record(1.0, known=False)
    assert [breaker.allows(t) for t in (1.0, 5.9)] == [False, False]
    assert [breaker.allows(t) for t in (6.0, 6.0)] == [True, False]
    breaker.record(6.0, known=False)
    assert [breaker.allows(t) for t in (10.9, 11.0, 11.0)] == [False, True, False]
    breaker.record(11.5, known=True)
    assert [breaker.allows(t) for t in (11.5, 11.5)] == [True, True]
    assert not breaker.is_open


def test_only_unknown_answers_in_a_row_open_the_breaker() -> None:
    """A known answer in between starts the count again."""
    breaker = Breaker(2, 5.0)
    for now_s in range(10):
        breaker.record(float(now_s), known=now_s % 2 == 0)
    assert breaker.allows(10.0)


def test_a_lost_probe_does_not_keep_the_breaker_open_for_ever() -> None:
    """A probe whose task was cancelled is never recorded: the next may go 5 s after it."""
    breaker = Breaker(1, 5.0)
    breaker.record(0.0, known=False)
    assert [breaker.allows(t) for t in (5.0, 9.9, 10.0)] == [True, False, True]


@pytest.mark.parametrize("name", ["simulator", "simulator-2"])
def test_the_registry_makes_simulators(name: str, tmp_path: Path) -> None:
    """In memory, or in a file whose folder it makes."""
    for path in ("", str(tmp_path / "deep" / "ledger.db")):
        pic = make_pic(name, simulator_ledger=path)
        assert pic.name == name
        assert [answer.outcome for answer in asyncio.run(pic.authorize([call()]))] == ["paid"]
        asyncio.run(pic.close())
    assert (tmp_path / "deep" / "ledger.db").exists()


@pytest.mark.parametrize("name", ["acme", "", "simulator two", "Simulator"])
def test_an_unknown_pic_is_an_error_that_helps(name: str) -> None:
    """It names the PIC, what there is, and the setting."""
    with pytest.raises(UnknownPicError, match=r"begin with one of simulator.*PTR_PICS"):
        make_pic(name)


def test_a_ledger_in_memory_forgets_the_oldest() -> None:
    """It holds as many attempts as it is told to, whatever comes; the newest keep their answers, the oldest are new again."""
    ledger = MemoryLedger(entries_max=3)
    for number in range(10):
        ledger.authorize([call(f"p{number}"), call(f"p{number}")])
        assert len(ledger.entries()) <= 3
    assert list(ledger.entries()) == [f"aurora|p{number}|1" for number in (7, 8, 9)]
    ledger.authorize([call("p7"), call("p0")])
    assert ledger.entries()["aurora|p0|1"].calls == 1
    assert ledger.look_up(["aurora|p7|1"]) == [None]
