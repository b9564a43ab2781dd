"""The simulated PIC with fewer abilities, and at the end of a line."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from connectors.pic.base import UNKNOWN, Answer
from connectors.pic.calls import OneByOne, Pic
from connectors.pic.distant import DistantSimulator
from connectors.pic.ledger import MemoryLedger, SqliteLedger
from connectors.pic.options import PicSettingError
from connectors.pic.registry import make_pic
from connectors.pic.simulator import Simulator
from tests.unit.test_simulator import call

KEY = "aurora|p1|1"


def made(timeout_s: float = 5.0, **settings: str) -> Pic:
    """A simulated PIC by settings."""
    return make_pic("simulator-2", timeout_s=timeout_s, settings=settings)


def ledger_of(pic: Pic) -> MemoryLedger | SqliteLedger:
    """What it was asked."""
    simulator = pic.plugin if isinstance(pic, OneByOne) else pic
    assert isinstance(simulator, Simulator | DistantSimulator)
    ledger = simulator.ledger
    assert isinstance(ledger, MemoryLedger | SqliteLedger)
    return ledger


@pytest.mark.parametrize(
    ("can", "deduplicates", "looks_up"),
    [
        ("deduplicates", True, False),
        ("looks_up", False, True),
        ("deduplicates,looks_up", True, True),
        ("none", False, False),
    ],
)
@pytest.mark.parametrize("more", [{}, {"takes_s": "0.01"}], ids=["plain", "distant"])
def test_what_it_can_is_a_setting(can: str, deduplicates: bool, looks_up: bool, more: Mapping[str, str]) -> None:
    """It is said, and it is so: the same key again is one charge or two, and a look-up finds it or knows nothing."""
    pic = made(can=can, **more)
    assert (pic.abilities.deduplicates, pic.abilities.looks_up) == (deduplicates, looks_up)

    async def ask() -> list[Answer | None]:
        await pic.perform([call()])
        await pic.perform([call()])
        return await pic.look_up([call()])

    [found] = asyncio.run(ask())
    assert (found is not None and found.outcome == "succeeded") == looks_up
    assert looks_up or found == UNKNOWN
    entry = ledger_of(pic).entries()[KEY]
    assert (entry.calls, entry.charges) == (2, 1 if deduplicates else 2)


@pytest.mark.parametrize(
    "settings",
    [
        {"can": "deduplicate"},
        {"can": "none,looks_up"},
        {"takes_s": "soon"},
        {"takes_s": "-1"},
        {"loses": "1.5"},
        {"loses": "nan"},
    ],
)
def test_a_wrong_setting_is_named(settings: dict[str, str]) -> None:
    """With its variable."""
    [key] = settings
    with pytest.raises(PicSettingError, match=f"PTR_PIC_SIMULATOR_2_{key.upper()}"):
        made(**settings)


@pytest.mark.parametrize("make", [MemoryLedger, SqliteLedger])
def test_charges_are_counted_by_attempt(make: Callable[..., MemoryLedger | SqliteLedger], tmp_path: Path) -> None:
    """Three calls of a PIC that does not look at keys are three charges; a decline is none, however often; what failed
    before anything was done is one when it is sent again."""
    named = {"path": tmp_path / "ledger.db"} if make is SqliteLedger else {}
    ledger = make(**named, deduplicates=False)
    for _ in range(3):
        ledger.perform([call(), call("p2", "tok_decline")])
    for _ in range(2):
        ledger.perform([call("p3", "tok_error")])
    entries = ledger.entries()
    ledger.close()
    assert [entries[f"aurora|{p}|1"].charges for p in ("p1", "p2", "p3")] == [3, 0, 1]
    assert [entries[f"aurora|{p}|1"].calls for p in ("p1", "p2", "p3")] == [3, 3, 2]


def test_calls_take_their_time_side_by_side() -> None:
    """64 at once, 128 calls of 0.1 s: two rounds, not 128."""
    pic = made(takes_s="0.1")
    started = time.monotonic()
    answers = asyncio.run(pic.perform([call(f"p{n}") for n in range(128)]))
    assert {answer.outcome for answer in answers} == {"succeeded"}
    assert 0.2 <= time.monotonic() - started < 2.0


def test_a_share_of_the_answers_is_lost() -> None:
    """Drawn by seed and attempt id, so the same in every run; what is lost was done, and the second answer is not lost."""

    def lost(seed: str) -> set[str]:
        pic = made(loses="0.2", seed=seed)
        calls = [call(f"p{n}") for n in range(500)]

        async def ask() -> tuple[list[Answer], list[Answer]]:
            return await pic.perform(calls), await pic.perform(calls)

        first, second = asyncio.run(ask())
        assert {answer.outcome for answer in second} == {"succeeded"}
        assert {entry.charges for entry in ledger_of(pic).entries().values()} == {1}
        return {each.attempt_id for each, answer in zip(calls, first, strict=True) if answer == UNKNOWN}

    assert lost("1") == lost("1") != lost("2")
    assert 60 <= len(lost("1")) <= 140  # of 500 by 0.2: 100, give or take four and a half standard deviations


def test_silence_is_an_unknown_answer_and_nothing_done(tmp_path: Path) -> None:
    """While the file is there: calls and look-ups end by the time-out of whoever asks; afterwards all is as before."""
    silent = tmp_path / "silent"
    pic = made(timeout_s=0.1, silent_while=str(silent))
    silent.touch()
    assert asyncio.run(pic.perform([call()])) == [UNKNOWN]
    assert asyncio.run(pic.look_up([call()])) == [UNKNOWN]
    assert ledger_of(pic).entries() == {}
    silent.unlink()
    assert asyncio.run(pic.look_up([call()])) == [None]
    assert [answer.outcome for answer in asyncio.run(pic.perform([call()]))] == ["succeeded"]


def test_the_trace_tells_how_far_a_call_is(tmp_path: Path) -> None:
    """A call that is given up on its way is done nowhere, one on its way back is done; and each says where it was."""
    trace = tmp_path / "trace"
    pic = made(takes_s="0.2", trace=str(trace))

    async def give_up(payment: str, after_s: float) -> None:
        task = asyncio.ensure_future(pic.perform([call(payment)]))
        await asyncio.sleep(after_s)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    async def ask() -> None:
        await asyncio.gather(give_up("p1", 0.05), give_up("p2", 0.15), pic.perform([call("p3")]))

    asyncio.run(ask())
    steps: dict[str, list[str]] = {}
    for line in trace.read_text().splitlines():
        step, attempt = line.split(" ")
        steps.setdefault(attempt, []).append(step)
    assert steps == {
        "aurora|p1|1": ["leaving"],
        "aurora|p2|1": ["leaving", "done"],
        "aurora|p3|1": ["leaving", "done", "answered"],
    }
    assert set(ledger_of(pic).entries()) == {"aurora|p2|1", "aurora|p3|1"}
