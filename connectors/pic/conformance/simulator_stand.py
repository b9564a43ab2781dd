"""What stands behind the simulated PIC: its ledger file, read and written by the stand as by the PIC's own staff."""

from __future__ import annotations

import secrets
import tempfile
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final, cast

import msgspec

from connectors.pic import simulator_notices
from connectors.pic.base import Answer, Kind, Notice
from connectors.pic.conformance.stand import Behaviour, Effect, Stand
from connectors.pic.declines import DeclineCode
from connectors.pic.ledger import SqliteLedger
from connectors.pic.simulator_notices import Event

_TOKENS: Final[Mapping[Behaviour, str]] = {
    Behaviour.APPROVE: "tok_good",
    Behaviour.CHALLENGE: "tok_challenge",
    Behaviour.SLOW: "tok_slow",
    Behaviour.LATE: "tok_late",
    Behaviour.LOST: "tok_lost",
    Behaviour.RESET: "tok_reset",
    Behaviour.GARBAGE: "tok_garbage",
    Behaviour.BROKEN: "tok_error",
    Behaviour.THROTTLED: "tok_throttled",
    Behaviour.PROCESSING: "tok_processing",
    Behaviour.LOOK_UP_FAILS: "tok_unfindable",
    Behaviour.REFUSED: "tok_refused",
}


class SimulatorStand(Stand):
    """Everything is offered: the simulator does all that the kit asks for."""

    offers = frozenset(_TOKENS) | frozenset(DeclineCode)

    def __init__(self) -> None:
        self._secret = secrets.token_hex(16)
        #: When an attempt was first told of: the same event has the same time.
        self._began_at_ms: dict[str, int] = {}

    @property
    def settings(self) -> Mapping[str, str]:
        """A ledger of its own, and what notifications are signed with."""
        return {"ledger": str(self._file), "notification_secret": self._secret}

    async def start(self) -> None:
        """Make the ledger."""
        self._folder = tempfile.TemporaryDirectory()
        self._file = Path(self._folder.name) / "ledger.db"
        self._ledger = SqliteLedger(self._file)

    async def stop(self) -> None:
        """Remove the ledger."""
        self._ledger.close()
        self._folder.cleanup()

    def token(self, wanted: Behaviour | DeclineCode) -> str:
        """The simulator's words are tokens."""
        return f"tok_decline_{wanted}" if isinstance(wanted, DeclineCode) else _TOKENS[wanted]

    def effects(self, attempt_id: str) -> Sequence[Effect]:
        """What the ledger says is done."""
        entry = self._ledger.entries().get(attempt_id)
        if entry is None or not entry.done:
            return []
        return [Effect(cast(Kind, entry.kind), entry.amount_minor, entry.currency)]

    def requests(self) -> int:
        """Calls and look-ups."""
        return sum(entry.calls + entry.lookups for entry in self._ledger.entries().values())

    def script(self, attempt_id: str, wanted: Behaviour | DeclineCode) -> bool:
        """The token of a capture, void or refund holds too."""
        return True

    @asynccontextmanager
    async def refusing(self) -> AsyncIterator[str]:
        """The simulator has no port that could be closed: a token says so."""
        yield _TOKENS[Behaviour.REFUSED]

    async def finish_challenge(self, attempt_id: str, *, passed: bool) -> None:
        """In the ledger."""
        self._ledger.finish_challenge(attempt_id, passed=passed)

    def notices(self, attempt_id: str) -> Sequence[Notice]:
        """That it was taken, and what became of it."""
        entry = self._ledger.entries()[attempt_id]
        began_at_ms = self._began_at_ms.setdefault(attempt_id, int(time.time() * 1000))
        answers = [Answer("pending", "processing", entry.reference)]
        if entry.done:
            answers.append(Answer("succeeded", "", entry.reference))
        elif entry.reason:
            answers.append(Answer("declined", entry.reason, entry.reference))
        return [
            self.signed(
                msgspec.json.encode(
                    Event(
                        id=f"evt_{entry.reference}_{number}",
                        attempt_id=attempt_id,
                        occurred_at_ms=began_at_ms + number,
                        answer=answer,
                    )
                )
            )
            for number, answer in enumerate(answers)
        ]

    def signed(self, body: bytes) -> Notice:
        """With the secret that the plugin has."""
        return simulator_notices.signed(body, self._secret, int(time.time()))
