"""Which intents may have been called before a crash, at a PIC that can neither deduplicate nor look up."""

from __future__ import annotations

from collections import Counter
from typing import Any

import msgspec
import pytest

from agents.plugin import BEGUN_BATCH_MAX
from connectors.pic.simulator import Simulator
from pipeline import topics
from schemas.identity import payment_key
from schemas.records import PaymentAnswered, PaymentQueued
from tests.stream.events import a_fact
from tests.stream.shell import Shell

QUEUE = topics.queue("simulator").name


class Neither(Simulator):
    """Can do neither."""

    def __init__(self, *given: Any, **options: Any) -> None:
        super().__init__(*given, **options)
        self.abilities = msgspec.structs.replace(self.abilities, looks_up=False, deduplicates=False)


@pytest.fixture
def shell(monkeypatch: pytest.MonkeyPatch) -> Shell:
    """The plugin of such a PIC."""
    monkeypatch.setattr("tests.stream.shell.Simulator", Neither)
    return Shell("plugin")


def give(shell: Shell, payment_id: str, sender_offset: int) -> None:
    """An intent, in the partition of all of them."""
    intent = a_fact(PaymentQueued, payment_id=payment_id, sender_offset=sender_offset)
    shell.give(QUEUE, intent, payment_key("t1", payment_id), 0)


def outcomes(shell: Shell) -> list[tuple[str, str]]:
    """What was answered, in order."""
    return [(event.payment_id, event.outcome) for _, event in shell.out(topics.ANSWERED.name, PaymentAnswered)]


def test_what_waited_behind_the_calls_is_called_after_a_crash(shell: Shell) -> None:
    """The first was called and is not called again; those that came while nobody served were never called."""
    give(shell, "p1", 1)
    shell.run()
    give(shell, "p2", 2)
    give(shell, "p3", 3)
    shell.again()
    assert [each for each in outcomes(shell) if each[0] != "p1"] == [("p2", "paid"), ("p3", "paid")]
    assert {key: entry.charges for key, entry in shell.ledger.entries().items()} == {
        "t1|p1|1": 1,
        "t1|p2|1": 1,
        "t1|p3|1": 1,
    }


def test_it_is_written_down_before_the_call(shell: Shell) -> None:
    """When the PIC is called, the changelog says so already: a crash in the call leaves its intent to a person."""
    changelog = topics.table_intents("simulator").name
    known: list[int] = []
    perform = Neither.perform

    async def seen(self: Simulator, calls: Any) -> Any:
        known.append(len(shell.world.broker.all(changelog)))
        return await perform(self, calls)

    Neither.perform = seen  # type: ignore[method-assign]
    try:
        give(shell, "p1", 1)
        shell.run()
    finally:
        Neither.perform = perform  # type: ignore[method-assign]
    assert known == [1]


def test_no_more_is_written_down_than_is_called_next(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    """What stands behind that in one batch was surely not called by whoever dies in the call."""
    called: list[int] = []

    async def perform(self: Simulator, calls: Any) -> Any:
        called.append(len(calls))
        if len(called) == 1:
            return await Simulator.perform(self, calls)
        raise ConnectionAbortedError

    monkeypatch.setattr(Neither, "perform", perform)
    for number in range(3 * BEGUN_BATCH_MAX):
        give(shell, f"p{number}", number)
    with pytest.raises(ConnectionAbortedError):
        shell.run()
    monkeypatch.setattr(Neither, "perform", Simulator.perform)
    shell.again()
    assert called == [BEGUN_BATCH_MAX] * 2
    told = Counter(outcome for _, outcome in outcomes(shell))
    assert told["unknowable"] <= 2 * BEGUN_BATCH_MAX
    assert told["paid"] >= BEGUN_BATCH_MAX
    assert sum(told.values()) == 3 * BEGUN_BATCH_MAX
