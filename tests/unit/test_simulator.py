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
from typing import Any

import pytest

from connectors.pic.base import UNKNOWN, Answer, Call, Kind, NotificationError
from connectors.pic.calls import LeaseLostError
from connectors.pic.simulator import MemoryLedger, Simulator, SqliteLedger
from connectors.pic.simulator_notices import signed

ROOT = Path(__file__).parents[2]
#: From coreutils: printf 'aurora|p1|1' | b2sum -l 96
REFERENCE_OF_P1 = "sim_5b14d289e452ccc4babb8086"


def call(payment_id: str = "p1", token: str = "tok_p1", challenge: bool = False, **named: Any) -> Call:
    fields: dict[str, Any] = {"amount_minor": 1_250, "currency": "EUR", "method": "card", "tenant": "aurora"} | named
    return Call(attempt_id=f"aurora|{payment_id}|1", payment_id=payment_id, token=token, challenge=challenge, **fields)


def capture(payment_id: str, amount_minor: int, token: str = "tok_1", kind: Kind = "capture") -> Call:
    """Of what was authorized as p1."""
    return call(payment_id, token, kind=kind, amount_minor=amount_minor, original_reference=REFERENCE_OF_P1)


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
        ("tok_late_1", "pending", "succeeded", "succeeded"),
        ("tok_garbage_1", "pending", "succeeded", "succeeded"),
        ("tok_reset_1", "pending", None, "succeeded"),
        ("tok_throttled_1", "unsent", None, "succeeded"),
        ("tok_refused_1", "unsent", None, "succeeded"),
        ("tok_processing_1", "pending", "succeeded", "succeeded"),
        ("tok_unfindable_1", "succeeded", "pending", "succeeded"),
        ("tok_challenge_1", "requires_action", "requires_action", "requires_action"),
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


# -- captures, voids, refunds -----------------------------------------------------------------------------------------


def outcomes(ledger: MemoryLedger | SqliteLedger, *calls: Call) -> list[tuple[str, str]]:
    """Outcome and reason of calls that are made one after the other."""
    return [(answer.outcome, answer.reason) for each in calls for answer in ledger.perform([each])]


def test_a_decline_by_any_code(ledger: MemoryLedger | SqliteLedger) -> None:
    """``tok_decline_<code>``; what is no code is insufficient_funds."""
    tokens = ("tok_decline_stolen_card_1", "tok_decline_do_not_honor", "tok_decline_1", "tok_decline_nonsense")
    assert outcomes(ledger, *(call(f"p{n}", token) for n, token in enumerate(tokens))) == [
        ("declined", "stolen_card"),
        ("declined", "do_not_honor"),
        ("declined", "insufficient_funds"),
        ("declined", "insufficient_funds"),
    ]


def test_what_is_left_to_capture_and_to_refund(ledger: MemoryLedger | SqliteLedger) -> None:
    """By hand, of 1250: captured 1000 and 250, no more; refunded 1250, no more; no void then."""
    assert outcomes(
        ledger,
        call(kind="authorize"),
        capture("c1", 1_000),
        capture("c2", 251),
        capture("c3", 250),
        capture("v1", 1_250, kind="void"),
        capture("r1", 1_249, kind="refund"),
        capture("r2", 2, kind="refund"),
        capture("r3", 1, kind="refund"),
    ) == [
        ("succeeded", ""),
        ("succeeded", ""),
        ("declined", "invalid_amount"),
        ("succeeded", ""),
        ("declined", "not_permitted"),
        ("succeeded", ""),
        ("declined", "invalid_amount"),
        ("succeeded", ""),
    ]


def test_all_of_it_in_one_batch(ledger: MemoryLedger | SqliteLedger) -> None:
    """Calls of one batch see each other."""
    batch = [call(kind="authorize"), capture("c1", 1_000), capture("c2", 251), capture("c1", 1_000)]
    assert [answer.outcome for answer in ledger.perform(batch)] == ["succeeded", "succeeded", "declined", "succeeded"]
    assert ledger.entries()["aurora|c1|1"].calls == 2


def test_what_is_made_again_can_be_followed_at_once(ledger: MemoryLedger | SqliteLedger) -> None:
    """An authorization that failed and is sent again is there for its capture in the same batch."""
    again = call(token="tok_error", kind="authorize")
    ledger.perform([again])
    assert [answer.outcome for answer in ledger.perform([again, capture("c1", 1)])] == ["succeeded", "succeeded"]


def test_what_failed_before_is_weighed_again(ledger: MemoryLedger | SqliteLedger) -> None:
    """A capture that was not done takes nothing; sent again when another took it all, it is declined."""
    first = capture("c1", 1_000, "tok_error")
    assert outcomes(ledger, call(kind="authorize"), first, capture("c2", 1_250), first) == [
        ("succeeded", ""),
        ("pending", "pic_answer_unknown"),
        ("succeeded", ""),
        ("declined", "invalid_amount"),
    ]


def test_what_is_not_decided_keeps_its_amount(ledger: MemoryLedger | SqliteLedger) -> None:
    """It may still be done: nobody else may take it."""
    asked = [call(kind="authorize"), capture("c1", 1_000, "tok_processing"), capture("c2", 251)]
    assert [outcome for outcome, _ in outcomes(ledger, *asked)] == ["succeeded", "pending", "declined"]


def test_another_content_under_a_key_is_a_duplicate(ledger: MemoryLedger | SqliteLedger) -> None:
    """Amount, currency, kind and what it follows are the content; what was done stays, and the call is counted."""
    ledger.perform([call()])
    others = [call(amount_minor=1), call(currency="USD"), call(kind="authorize"), call(original_reference="x")]
    assert outcomes(ledger, *others) == [("declined", "duplicate")] * 4
    entry = ledger.entries()["aurora|p1|1"]
    assert (entry.calls, entry.amount_minor, entry.currency, entry.kind) == (5, 1_250, "EUR", "payment")


def test_a_challenge_is_finished_once(ledger: MemoryLedger | SqliteLedger) -> None:
    """Passed: done. Failed: declined. What is over, or was none, stays as it is."""
    ledger.perform([call("p1", "tok_challenge"), call("p2", "tok_challenge"), call("p3")])
    for passed in (True, False):
        ledger.finish_challenge("aurora|p1|1", passed=passed)
        ledger.finish_challenge("aurora|p2|1", passed=not passed)
        ledger.finish_challenge("aurora|p3|1", passed=False)
        ledger.finish_challenge("aurora|p4|1", passed=passed)
    found = ledger.look_up([f"aurora|p{n}|1" for n in (1, 2, 3, 4)])
    assert [answer and (answer.outcome, answer.reason) for answer in found] == [
        ("succeeded", ""),
        ("declined", "authentication_failed"),
        ("succeeded", ""),
        None,
    ]


def test_what_is_forgotten_takes_its_followers_with_it() -> None:
    """A ledger in memory holds no more of what followed than of what began."""
    ledger = MemoryLedger(entries_max=2)
    ledger.perform([call(kind="authorize")])
    for number in range(10):
        ledger.perform([capture(f"c{number}", 1), call(f"q{number}")])
    assert outcomes(ledger, capture("c99", 1)) == [("declined", "invalid_request")]
    assert not ledger._book.followers
    assert len(ledger._book.originals or ()) <= 2


def test_without_a_secret_the_simulator_believes_nobody() -> None:
    """It says that there are no notifications, and means it."""
    simulator = Simulator("simulator", MemoryLedger())
    assert simulator.abilities.notifications == "none"
    with pytest.raises(NotificationError, match="bad_signature"):
        simulator.parse_notification(signed(b"{}", "", 1))
