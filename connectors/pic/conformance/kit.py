"""Runs the scenarios against a plugin and its stand."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal

from connectors.pic.base import NotificationError
from connectors.pic.breaker import Breaker
from connectors.pic.calls import OneByOne, Pic
from connectors.pic.conformance.scenario import NotOfferedError, Scenario
from connectors.pic.conformance.scenarios import ALL
from connectors.pic.conformance.stand import TIMEOUT_S, Stand
from connectors.pic.options import PicOptions
from connectors.pic.registry import Maker, made_by, make_pic

#: The longest that a scenario may take: a few time-outs of calls.
SCENARIO_S_MAX: Final = 30.0
#: A scenario's own failures are not an outage.
_UNKNOWN_MAX: Final = 1_000

PicMaker = Callable[[Mapping[str, str]], Pic]


@dataclass(frozen=True, slots=True)
class Result:
    """What became of one scenario. ``why``: of a failure what was wrong, of one that was not offered what is missing."""

    scenario: Scenario
    verdict: Literal["pass", "fail", "not_offered"]
    why: str = ""
    seconds: float = 0.0


async def check(
    make: PicMaker,
    stand: Stand,
    scenarios: Sequence[Scenario] = ALL,
    on_result: Callable[[Result], None] = lambda result: None,
) -> list[Result]:
    """Run the scenarios one after the other, each with a PIC of its own that ``make`` makes with the stand's settings.

    ``on_result`` is told of each as it ends. Raises what the stand raises when it cannot start.
    """
    results = []
    async with stand:
        for each in scenarios:
            result = await _check_one(make, stand, each)
            results.append(result)
            on_result(result)
    return results


def installed(name: str) -> PicMaker:
    """Makes the installed PIC ``name`` as a worker does, with the time-out of the kit."""
    return lambda settings: make_pic(name, timeout_s=TIMEOUT_S, settings=settings)


def of(name: str, maker: Maker) -> PicMaker:
    """The same of a plugin that need not be installed."""
    return lambda settings: made_by(maker, PicOptions(name=name, settings=settings, timeout_s=TIMEOUT_S))


async def _check_one(make: PicMaker, stand: Stand, scenario: Scenario) -> Result:
    started_s = time.monotonic()

    def ended(verdict: Literal["pass", "fail", "not_offered"], why: str = "") -> Result:
        return Result(scenario, verdict, why, time.monotonic() - started_s)

    try:
        # In a thread, for a worker too makes its plugins before its event loop runs.
        pic = await asyncio.to_thread(make, stand.settings)
        if isinstance(pic, OneByOne):
            pic.breaker = Breaker(_UNKNOWN_MAX)
        try:
            missing = scenario.missing(pic.abilities, stand)
            if missing:
                return ended("not_offered", missing)
            async with asyncio.timeout(SCENARIO_S_MAX):
                await scenario.check(pic, stand)
        finally:
            await pic.close()
    except NotOfferedError as reason:
        return ended("not_offered", str(reason))
    except TimeoutError:
        return ended("fail", f"not over after {time.monotonic() - started_s:.0f} s")
    except NotificationError as error:
        return ended("fail", f"the notification was refused: {error.reason}")
    except Exception as error:
        return ended("fail", str(error) if isinstance(error, AssertionError) else f"{type(error).__name__}: {error}")
    return ended("pass")
