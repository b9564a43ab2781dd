"""A simulated PIC, scripted by token (connectors/pic/ledger.py says how), for the demo, tests and benchmarks."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Final

from connectors.pic.base import Answer, Call
from connectors.pic.ledger import Entry, Ledger, MemoryLedger, SqliteLedger

__all__ = ["Entry", "MemoryLedger", "Simulator", "SqliteLedger"]

#: How long a ``tok_slow`` payment takes.
SLOW_S: Final = 0.3


class Simulator:
    """A plugin that answers from ``ledger``. It keeps to the promises of :class:`connectors.pic.base.Pic`.

    ``allowed`` (the engine's lease) is asked before anything is recorded: when it says no, nothing was called and
    :class:`connectors.pic.base.LeaseLostError` is raised. A batch with a slow payment is slow as a whole.
    """

    def __init__(
        self, name: str, ledger: Ledger, *, allowed: Callable[[], bool] | None = None, slow_s: float = SLOW_S
    ) -> None:
        self.name = name
        self.ledger = ledger
        self._allowed = allowed
        self._slow_s = slow_s
        # A file may make us wait for its lock: not in the event loop.
        self._in_thread = not isinstance(ledger, MemoryLedger)

    async def authorize(self, calls: Sequence[Call]) -> list[Answer]:
        """Make the payments; the PIC has them before a slow answer is waited for."""
        if self._in_thread:
            answers = await asyncio.to_thread(self.ledger.authorize, calls, self._allowed)
        else:
            answers = self.ledger.authorize(calls, self._allowed)
        if any(call.token.startswith("tok_slow") for call in calls):
            await asyncio.sleep(self._slow_s)
        return answers

    async def look_up(self, attempt_ids: Sequence[str]) -> list[Answer | None]:
        """What became of them; a look-up is never slow."""
        if self._in_thread:
            return await asyncio.to_thread(self.ledger.look_up, attempt_ids, self._allowed)
        return self.ledger.look_up(attempt_ids, self._allowed)

    async def close(self) -> None:
        """Close the ledger."""
        await asyncio.to_thread(self.ledger.close)
