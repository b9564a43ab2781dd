"""A simulated PIC, scripted by token (:mod:`connectors.pic.scripts` says how), for the demo, tests and benchmarks.

``PTR_PIC_<NAME>_CAN`` takes abilities away from it: ``deduplicates``, ``looks_up``, both (as it is without), or ``none``.
With one of the settings of :mod:`connectors.pic.distant` it is asked one call at a time, over a line that takes its time.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

import msgspec

from connectors.pic import simulator_notices
from connectors.pic.base import KINDS, UNKNOWN, Abilities, Answer, Call, Notice, Notified, Plugin
from connectors.pic.breaker import State
from connectors.pic.distant import DistantSimulator, line_of
from connectors.pic.ledger import Entry, Ledger, MemoryLedger, SqliteLedger
from connectors.pic.options import PicOptions, PicSettingError
from connectors.pic.scripts import SLOW

__all__ = ["Entry", "MemoryLedger", "Simulator", "SqliteLedger"]

#: How long a ``tok_slow`` payment takes.
SLOW_S: Final = 0.3
ABILITIES: Final = Abilities(
    kinds=frozenset(KINDS),
    deduplicates=True,
    looks_up=True,
    partial_captures=True,
    several_captures=True,
    partial_refunds=True,
    challenges=True,
)


class Simulator:
    """A PIC that answers from ``ledger``. It keeps to the promises of :class:`connectors.pic.calls.Pic`.

    ``allowed`` (the engine's lease) is asked before anything is recorded: when it says no, nothing was called and
    :class:`connectors.pic.calls.LeaseLostError` is raised. A batch with a slow payment is slow as a whole. Notifications are
    believed when they are signed with ``notification_secret``; without one there are none.
    """

    def __init__(
        self,
        name: str,
        ledger: Ledger,
        *,
        allowed: Callable[[], bool] | None = None,
        slow_s: float = SLOW_S,
        notification_secret: str = "",
        abilities: Abilities = ABILITIES,
    ) -> None:
        self.name = name
        self.ledger = ledger
        self._allowed = allowed
        self._slow_s = slow_s
        self._secret = notification_secret
        self.abilities = _with_notifications(abilities, notification_secret)
        # A file may make us wait for its lock: not in the event loop.
        self._in_thread = not isinstance(ledger, MemoryLedger)

    def next_call(self) -> State:
        """It always answers."""
        return "closed"

    async def perform(self, calls: Sequence[Call]) -> list[Answer]:
        """Do what is asked; the PIC has it before a slow answer is waited for."""
        if self._in_thread:
            answers = await asyncio.to_thread(self.ledger.perform, calls, self._allowed)
        else:
            answers = self.ledger.perform(calls, self._allowed)
        if any(call.token.startswith(SLOW) for call in calls):
            await asyncio.sleep(self._slow_s)
        return answers

    async def look_up(self, calls: Sequence[Call]) -> list[Answer | None]:
        """What became of them; a look-up is never slow. Not known where the PIC cannot be asked."""
        if not self.abilities.looks_up:
            return [UNKNOWN] * len(calls)
        attempt_ids = [call.attempt_id for call in calls]
        if self._in_thread:
            return await asyncio.to_thread(self.ledger.look_up, attempt_ids, self._allowed)
        return self.ledger.look_up(attempt_ids, self._allowed)

    def parse_notification(self, notice: Notice) -> list[Notified]:
        """See :class:`connectors.pic.calls.Pic`."""
        return simulator_notices.parse(notice, self._secret)

    async def close(self) -> None:
        """Close the ledger."""
        await asyncio.to_thread(self.ledger.close)


def make(name: str, options: PicOptions) -> Simulator | Plugin:
    """A simulated PIC. Those of one ledger file (``PTR_PIC_<NAME>_LEDGER``, else ``PTR_SIMULATOR_LEDGER``) share it.

    Raises :class:`~connectors.pic.options.PicSettingError`.
    """
    secret = options.secret("notification_secret") if options.has_secret("notification_secret") else ""
    abilities, line = _abilities(options), line_of(options)
    ledger = _ledger(options.setting("ledger", options.simulator_ledger), abilities)
    if line is not None:
        return DistantSimulator(ledger, _with_notifications(abilities, secret), line, notification_secret=secret)
    return Simulator(name, ledger, allowed=options.allowed, notification_secret=secret, abilities=abilities)


def _abilities(options: PicOptions) -> Abilities:
    can = set(options.setting("can", "deduplicates,looks_up").split(","))
    if not (can == {"none"} or can <= {"deduplicates", "looks_up"}):
        raise PicSettingError(
            f"PIC {options.name}: {options.variable('can')} takes deduplicates, looks_up, both with a comma, or none"
        )
    return msgspec.structs.replace(ABILITIES, deduplicates="deduplicates" in can, looks_up="looks_up" in can)


def _with_notifications(abilities: Abilities, secret: str) -> Abilities:
    return msgspec.structs.replace(abilities, notifications="signed" if secret else "none")


def _ledger(file: str, abilities: Abilities) -> Ledger:
    if not file:
        return MemoryLedger(deduplicates=abilities.deduplicates)
    path = Path(file)
    path.parent.mkdir(parents=True, exist_ok=True)
    return SqliteLedger(path, deduplicates=abilities.deduplicates)
