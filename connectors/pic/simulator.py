"""A simulated PIC, scripted by token (:mod:`connectors.pic.scripts` says how), for the demo, tests and benchmarks."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

import msgspec

from connectors.pic import simulator_notices
from connectors.pic.base import KINDS, Abilities, Answer, Call, Notice, Notified
from connectors.pic.ledger import Entry, Ledger, MemoryLedger, SqliteLedger
from connectors.pic.options import PicOptions
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
    ) -> None:
        self.name = name
        self.ledger = ledger
        self._allowed = allowed
        self._slow_s = slow_s
        self._secret = notification_secret
        self.abilities = msgspec.structs.replace(ABILITIES, notifications="signed" if notification_secret else "none")
        # A file may make us wait for its lock: not in the event loop.
        self._in_thread = not isinstance(ledger, MemoryLedger)

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
        """What became of them; a look-up is never slow."""
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


def make(name: str, options: PicOptions) -> Simulator:
    """A simulated PIC. Those of one ledger file (``PTR_PIC_<NAME>_LEDGER``, else ``PTR_SIMULATOR_LEDGER``) share it."""
    secret = options.secret("notification_secret") if options.has_secret("notification_secret") else ""
    file = options.setting("ledger", options.simulator_ledger)
    if not file:
        return Simulator(name, MemoryLedger(), allowed=options.allowed, notification_secret=secret)
    path = Path(file)
    path.parent.mkdir(parents=True, exist_ok=True)
    return Simulator(name, SqliteLedger(path), allowed=options.allowed, notification_secret=secret)
