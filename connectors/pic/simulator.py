"""A simulated PIC, scripted by token (connectors/pic/ledger.py says how), for the demo, tests and benchmarks."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

from connectors.pic.base import Abilities, Answer, Call, Notice, NotificationError, Notified
from connectors.pic.ledger import Entry, Ledger, MemoryLedger, SqliteLedger
from connectors.pic.options import PicOptions

__all__ = ["Entry", "MemoryLedger", "Simulator", "SqliteLedger"]

#: How long a ``tok_slow`` payment takes.
SLOW_S: Final = 0.3


class Simulator:
    """A plugin that answers from ``ledger``. It keeps to the promises of :class:`connectors.pic.calls.Pic`.

    ``allowed`` (the engine's lease) is asked before anything is recorded: when it says no, nothing was called and
    :class:`connectors.pic.calls.LeaseLostError` is raised. A batch with a slow payment is slow as a whole.
    """

    abilities = Abilities(deduplicates=True, looks_up=True)

    def __init__(
        self, name: str, ledger: Ledger, *, allowed: Callable[[], bool] | None = None, slow_s: float = SLOW_S
    ) -> None:
        self.name = name
        self.ledger = ledger
        self._allowed = allowed
        self._slow_s = slow_s
        # A file may make us wait for its lock: not in the event loop.
        self._in_thread = not isinstance(ledger, MemoryLedger)

    async def perform(self, calls: Sequence[Call]) -> list[Answer]:
        """Make the payments; the PIC has them before a slow answer is waited for."""
        if self._in_thread:
            answers = await asyncio.to_thread(self.ledger.perform, calls, self._allowed)
        else:
            answers = self.ledger.perform(calls, self._allowed)
        if any(call.token.startswith("tok_slow") for call in calls):
            await asyncio.sleep(self._slow_s)
        return answers

    async def look_up(self, calls: Sequence[Call]) -> list[Answer | None]:
        """What became of them; a look-up is never slow."""
        attempt_ids = [call.attempt_id for call in calls]
        if self._in_thread:
            return await asyncio.to_thread(self.ledger.look_up, attempt_ids, self._allowed)
        return self.ledger.look_up(attempt_ids, self._allowed)

    def parse_notification(self, notice: Notice) -> list[Notified]:
        """It sends none."""
        raise NotificationError("malformed")

    async def close(self) -> None:
        """Close the ledger."""
        await asyncio.to_thread(self.ledger.close)


def make(name: str, options: PicOptions) -> Simulator:
    """A simulated PIC; those of one ``PTR_SIMULATOR_LEDGER`` share it."""
    if not options.simulator_ledger:
        return Simulator(name, MemoryLedger(), allowed=options.allowed)
    path = Path(options.simulator_ledger)
    path.parent.mkdir(parents=True, exist_ok=True)
    return Simulator(name, SqliteLedger(path), allowed=options.allowed)
