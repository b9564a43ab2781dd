"""The simulated PIC at the end of a line: calls take their time side by side, answers get lost, and it may fall silent.

======================================= =================================================================================
``PTR_PIC_<NAME>_TAKES_S``               seconds that a call takes, half of them before the PIC has it
``PTR_PIC_<NAME>_LOSES``                 share of the calls, 0 to 1, that are done and whose answer is lost
``PTR_PIC_<NAME>_SEED``                  draws them, by attempt id
``PTR_PIC_<NAME>_SILENT_WHILE``          a file: while it is there the PIC takes nothing and answers nothing
``PTR_PIC_<NAME>_TRACE``                 a file: how far each call is, a line at a time (:data:`STEPS`)
======================================= =================================================================================
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from typing import Final, TypeVar

from connectors.pic import simulator_notices
from connectors.pic.base import UNKNOWN, Abilities, Answer, Call, Notice, Notified, Plugin
from connectors.pic.ledger import Ledger, MemoryLedger
from connectors.pic.options import PicOptions, PicSettingError

Asked = TypeVar("Asked")
Told = TypeVar("Told")

#: Steps of a call in the trace: on its way to the PIC; done there, the answer on its way; answered. ``STEP ATTEMPT_ID``.
STEPS: Final = ("leaving", "done", "answered")
_SETTINGS: Final = ("takes_s", "loses", "seed", "silent_while", "trace")


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """What lies between us and the PIC."""

    takes_s: float = 0.0
    loses: float = 0.0
    seed: str = ""
    silent_while: Path | None = None
    trace: Path | None = None


def line_of(options: PicOptions) -> Line | None:
    """The line that the settings describe; None without any. Raises :class:`~connectors.pic.options.PicSettingError`."""
    if not any(options.setting(key, "") for key in _SETTINGS):
        return None

    def number(key: str, most: float) -> float:
        try:
            value = float(options.setting(key, "0"))
        except ValueError:
            value = -1
        if not 0 <= value <= most:
            raise PicSettingError(f"PIC {options.name}: {options.variable(key)} must be a number from 0 to {most:g}")
        return value

    def file(key: str) -> Path | None:
        name = options.setting(key, "")
        return Path(name) if name else None

    return Line(
        takes_s=number("takes_s", 300),
        loses=number("loses", 1),
        seed=options.setting("seed", ""),
        silent_while=file("silent_while"),
        trace=file("trace"),
    )


class DistantSimulator(Plugin):
    """Answers from ``ledger``, as the plain simulator does. The answer to one attempt is lost at most once a process."""

    def __init__(self, ledger: Ledger, abilities: Abilities, line: Line, *, notification_secret: str = "") -> None:
        self.ledger = ledger
        self._abilities = abilities
        self._line = line
        self._secret = notification_secret
        self._lost: set[str] = set()
        # A file may make us wait for its lock: not in the event loop.
        self._in_thread = not isinstance(ledger, MemoryLedger)
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT
        self._trace = os.open(line.trace, flags, 0o600) if line.trace is not None else None

    @property
    def abilities(self) -> Abilities:
        """See :class:`Plugin`."""
        return self._abilities

    async def authorize(self, call: Call) -> Answer:
        """There and back; a call that is given up on its way there is not done."""
        self._note("leaving", call)
        await self._travel()
        [answer] = await self._there(self.ledger.perform, [call])
        self._note("done", call)
        await self._travel()
        if self._loses(call.attempt_id):
            return UNKNOWN
        self._note("answered", call)
        return answer

    async def capture(self, call: Call) -> Answer:
        """As all calls."""
        return await self.authorize(call)

    async def void(self, call: Call) -> Answer:
        """As all calls."""
        return await self.authorize(call)

    async def refund(self, call: Call) -> Answer:
        """As all calls."""
        return await self.authorize(call)

    async def look_up(self, call: Call) -> Answer | None:
        """There and back, too; never lost."""
        await self._travel()
        [found] = await self._there(self.ledger.look_up, [call.attempt_id])
        await self._travel()
        return found

    def parse_notification(self, notice: Notice) -> list[Notified]:
        """See :class:`Plugin`."""
        return simulator_notices.parse(notice, self._secret)

    async def close(self) -> None:
        """Close the ledger and the trace."""
        await asyncio.to_thread(self.ledger.close)
        if self._trace is not None:
            os.close(self._trace)

    async def _there(self, ask: Callable[[list[Asked]], list[Told]], asked: list[Asked]) -> list[Told]:
        return await asyncio.to_thread(ask, asked) if self._in_thread else ask(asked)

    async def _travel(self) -> None:
        silent = self._line.silent_while
        if silent is not None and silent.exists():
            await asyncio.get_running_loop().create_future()  # Whoever called has a time-out.
        if self._line.takes_s:
            await asyncio.sleep(self._line.takes_s / 2)

    def _loses(self, attempt_id: str) -> bool:
        if not self._line.loses or attempt_id in self._lost:
            return False
        drawn = blake2b(f"{self._line.seed}|{attempt_id}".encode(), digest_size=4).digest()
        if int.from_bytes(drawn) >= self._line.loses * 2**32:
            return False
        self._lost.add(attempt_id)
        return True

    def _note(self, step: str, call: Call) -> None:
        if self._trace is not None:
            os.write(self._trace, f"{step} {call.attempt_id}\n".encode())
