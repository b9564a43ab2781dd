"""A PIC that is left alone, because it does not answer: what is due to be asked waits, and its delays do not grow meanwhile."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from typing import Any

import pytest

from agents.plugin import LEFT_ALONE_MAX_S
from connectors.pic.breaker import State
from connectors.pic.simulator import Simulator
from pipeline.topics import ANSWERED, queue, retries
from schemas.identity import payment_key
from schemas.records import PaymentAnswered, PaymentQueued
from tests.stream.events import a_fact
from tests.stream.shell import Shell

FIRST = retries("simulator")[0].name


class Quiet(Simulator):
    """Says what would become of a call as a test wants it, and keeps how many look-ups came at once."""

    now: State = "open"

    def __init__(self, *given: Any, **options: Any) -> None:
        super().__init__(*given, **options)
        self.now: State = "open"
        self.looked_up: list[int] = []

    def next_call(self) -> State:
        return self.now

    async def look_up(self, calls: Sequence[Any]) -> Any:
        self.looked_up.append(len(calls))
        self.now = "closed"  # It answers again.
        return await super().look_up(calls)


@pytest.fixture
def shell(monkeypatch: pytest.MonkeyPatch) -> Shell:
    """Three payments that were called are due to be asked about."""
    monkeypatch.setattr("tests.stream.shell.Simulator", Quiet)
    monkeypatch.setattr("agents.plugin.PROBE_PAUSE_S", 0.1)
    shell = Shell("plugin")
    for number in range(3):
        payment_id = f"p{number}"
        intent = a_fact(PaymentQueued, sender_offset=number, payment_id=payment_id)
        shell.give(queue("simulator").name, intent, payment_key("t1", payment_id), 0)
    shell.run()
    return shell


def ask(shell: Shell, not_before_ms: int) -> None:
    for number in range(3):
        payment_id = f"p{number}"
        due = a_fact(PaymentQueued, payment_id=payment_id, ask=1, not_before_ms=not_before_ms)
        shell.give(FIRST, due, payment_key("t1", payment_id), 0)


def answered(shell: Shell) -> list[tuple[int, str]]:
    """Asks and their answers, after the first ones."""
    events = [event for _, event in shell.out(ANSWERED.name, PaymentAnswered)]
    return [(event.ask, event.outcome) for event in events if event.ask]


def test_nothing_is_asked_until_it_may_answer_and_then_one_finds_out(shell: Shell) -> None:
    """One look-up alone, the others together once it was answered; each with the ask that it had."""

    async def run() -> None:
        ask(shell, int(time.time() * 1000))
        task = asyncio.ensure_future(shell.world.step("plugin-simulator-retry-1s"))
        await asyncio.sleep(0.5)
        assert not task.done()
        assert (shell.pic.looked_up, answered(shell)) == ([], [])  # type: ignore[attr-defined]
        shell.pic.now = "half_open"  # type: ignore[attr-defined]
        await asyncio.wait_for(task, 10.0)

    asyncio.run(run())
    assert shell.pic.looked_up == [1, 2]  # type: ignore[attr-defined]
    assert answered(shell) == [(1, "paid")] * 3


def test_an_outage_of_days_does_not_hold_them_for_ever(shell: Shell) -> None:
    """What has waited long enough is asked, whatever the breaker says: in the end a person is told."""

    async def run() -> None:
        ask(shell, int((time.time() - LEFT_ALONE_MAX_S) * 1000))
        await asyncio.wait_for(shell.world.step("plugin-simulator-retry-1s"), 10.0)

    asyncio.run(run())
    assert shell.pic.looked_up == [3]  # type: ignore[attr-defined]
