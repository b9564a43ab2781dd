"""A card switch on loopback: what stands for the PIC of :mod:`connectors.pic.iso8583`.

It keeps a ledger as a switch does, by retrieval reference (37) and trace number (11). It was agreed with it that the same
request again gets the same answer and that it can be asked what became of one (0600); with ``agreed`` False it does neither.
"""

from __future__ import annotations

import asyncio
import itertools
import re
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Final

from connectors.pic.base import Call, Kind
from connectors.pic.conformance.stand import LATE_S, SLOW_S, Behaviour, Effect, Stand
from connectors.pic.declines import DeclineCode
from connectors.pic.iso8583.codec import CodecError, Format, Message
from connectors.pic.iso8583.framing import Deframer, frame
from connectors.pic.iso8583.requests import reference_number, trace_number
from schemas.money import MINOR_UNITS, numeric_code

TOKEN_FIELD: Final = 63
#: Field 39 for each decline that the protocol can express.
CODES: Final[Mapping[DeclineCode, str]] = {
    DeclineCode.DO_NOT_HONOR: "05",
    DeclineCode.NOT_PERMITTED: "57",
    DeclineCode.STOLEN_CARD: "43",
    DeclineCode.LOST_CARD: "41",
    DeclineCode.INVALID_REQUEST: "12",
    DeclineCode.INVALID_AMOUNT: "13",
    DeclineCode.INVALID_ACCOUNT: "14",
    DeclineCode.TRY_AGAIN_LATER: "19",
    DeclineCode.EXPIRED_CARD: "54",
    DeclineCode.SUSPECTED_FRAUD: "59",
    DeclineCode.UNSUPPORTED: "40",
    DeclineCode.CLOSED_ACCOUNT: "46",
    DeclineCode.INSUFFICIENT_FUNDS: "51",
    DeclineCode.AUTHENTICATION_FAILED: "55",
    DeclineCode.LIMIT_EXCEEDED: "61",
    DeclineCode.AUTHENTICATION_REQUIRED: "1A",
    DeclineCode.ISSUER_UNAVAILABLE: "91",
}
_ONCE: Final = frozenset({Behaviour.LOST, Behaviour.RESET, Behaviour.GARBAGE, Behaviour.BROKEN})
_CURRENCIES: Final = {numeric_code(currency): currency for currency in MINOR_UNITS}
APPROVED, IN_PROGRESS, INVALID, TOO_MUCH, NOTHING_DONE, NO_SUCH, DUPLICATE, BROKEN = [
    "00",
    "09",
    "12",
    "13",
    "21",
    "25",
    "94",
    "96",
]


@dataclass(slots=True)
class Entry:
    """What the switch did for one request, and how much of that was captured and given back since."""

    asked: Message
    kind: Kind
    code: str
    amount_minor: int
    captured_minor: int = 0
    refunded_minor: int = 0
    #: Trace numbers of the reversals that ended it.
    ended_by: set[str] = field(default_factory=set)
    times: int = 1

    @property
    def effect(self) -> Effect:
        """What moved."""
        return Effect(self.kind, self.amount_minor, _CURRENCIES[self.asked.fields[49]])


class Iso8583Stand(Stand):
    """The switch. What it does with a request is in the request's token."""

    def __init__(self, *, agreed: bool = True) -> None:
        self.agreed = agreed
        self.format = Format()
        #: Everything that came, as it came.
        self.heard: list[Message] = []
        self.port = 0
        self._entries: dict[tuple[str, str], Entry] = {}
        #: References that were reversed before they came.
        self._unknown: set[str] = set()
        self._scripts: dict[str, Behaviour | DeclineCode] = {}
        self._once: set[str] = set()
        self._voids: set[str] = set()
        self._numbers = itertools.count(1)
        self._server: asyncio.Server | None = None
        self._writers: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()

    # -- the kit's side --

    @property
    def offers(self) -> frozenset[Behaviour | DeclineCode]:
        """See :class:`Stand`. A switch has no challenge, and no word for too many requests."""
        offered: set[Behaviour | DeclineCode] = {
            Behaviour.APPROVE,
            Behaviour.SLOW,
            Behaviour.LATE,
            Behaviour.REFUSED,
            *_ONCE,
            *CODES,
        }
        if self.agreed:
            offered |= {Behaviour.PROCESSING, Behaviour.LOOK_UP_FAILS}
        return frozenset(offered)

    @property
    def settings(self) -> Mapping[str, str]:
        """See :class:`Stand`."""
        agreed = "yes" if self.agreed else "no"
        return {
            "host": "127.0.0.1",
            "port": str(self.port),
            "terminal": "TERM0001",
            "merchant": "MERCHANT0000001",
            "acquirer": "12345",
            "deduplicates": agreed,
            "inquiries": agreed,
            "several_captures": agreed,
        }

    async def start(self) -> None:
        """See :class:`Stand`."""
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        """See :class:`Stand`."""
        if self._server is not None:
            self._server.close()
        for writer in list(self._writers):
            writer.transport.abort()
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def token(self, wanted: Behaviour | DeclineCode) -> str:
        """See :class:`Stand`."""
        return f"tok-{wanted}-{next(self._numbers)}"

    def prepare(self, call: Call) -> Call:
        """A switch cannot tell a void from the reversal of what was not answered; the counting here can."""
        if call.kind == "void":
            self._voids.add(trace_number(call.attempt_id))
        return call

    def script(self, attempt_id: str, wanted: Behaviour | DeclineCode) -> bool:
        """See :class:`Stand`."""
        self._scripts[trace_number(attempt_id)] = wanted
        return True

    def effects(self, attempt_id: str) -> Sequence[Effect]:
        """See :class:`Stand`. What was reversed because nobody heard its answer does not count, what was voided does."""
        trace, reference = trace_number(attempt_id), reference_number(attempt_id)
        found = []
        for (of, number), entry in self._entries.items():
            mine = number == trace and (of == reference or entry.kind in ("capture", "void"))
            if mine and entry.code == APPROVED and entry.ended_by <= self._voids:
                found += [entry.effect] * entry.times
        return found

    def requests(self) -> int:
        """See :class:`Stand`. Network management is none."""
        return sum(message.mti[1] != "8" for message in self.heard)

    async def settle(self) -> None:
        """See :class:`Stand`. What was in progress is done."""
        for entry in self._entries.values():
            if entry.code == IN_PROGRESS:
                entry.code = APPROVED

    @asynccontextmanager
    async def refusing(self) -> AsyncIterator[str]:
        """See :class:`Stand`."""
        await self.stop()
        try:
            yield self.token(Behaviour.REFUSED)
        finally:
            await self.start()

    # -- the switch --

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.add(writer)
        frames = Deframer("binary2")
        try:
            while data := await reader.read(65_536):
                for payload in frames.feed(data):
                    message = self.format.read(payload)
                    self.heard.append(message)
                    task = asyncio.create_task(self._answer(message, writer))
                    self._tasks.add(task)
                    task.add_done_callback(self._tasks.discard)
        except (OSError, CodecError):
            pass
        finally:
            self._writers.discard(writer)
            writer.close()

    async def _answer(self, asked: Message, writer: asyncio.StreamWriter) -> None:
        behaviour = self._behaviour(asked)
        if behaviour is Behaviour.RESET:
            writer.transport.abort()
            return
        decided = BROKEN if behaviour is Behaviour.BROKEN else self._decide(asked, behaviour)
        answer = self._told(asked, decided) if isinstance(decided, str) else decided
        if behaviour is Behaviour.LOST:
            writer.transport.abort()
            return
        if behaviour in (Behaviour.SLOW, Behaviour.LATE):
            await asyncio.sleep(SLOW_S if behaviour is Behaviour.SLOW else LATE_S)
        payload = b"\xff not a message \x00" if behaviour is Behaviour.GARBAGE else self.format.write(answer)
        if not writer.is_closing():
            writer.write(frame(payload, "binary2"))

    def _behaviour(self, asked: Message) -> Behaviour | DeclineCode:
        """What is to happen with this very request; a reversal of what was not answered is never part of the play."""
        trace, token = asked.get(11), asked.get(TOKEN_FIELD)
        if asked.mti[1] == "8" or (asked.mti[1] == "4" and trace not in self._voids):
            return Behaviour.APPROVE
        found = re.fullmatch(r"tok-(.*)-\d+", token)
        word = found[1] if found else Behaviour.APPROVE.value
        wanted = self._scripts.get(trace) or (Behaviour(word) if word in list(Behaviour) else DeclineCode(word))
        request = asked.mti[1] + trace
        if asked.mti[1] == "6":
            wanted = Behaviour.BROKEN if wanted is Behaviour.LOOK_UP_FAILS else Behaviour.APPROVE
            request = asked.mti[1] + asked.get(37)
        if wanted in _ONCE:
            if request in self._once:
                return Behaviour.APPROVE
            self._once.add(request)
        return wanted

    def _told(self, asked: Message, code: str, more: Mapping[int, str] | None = None) -> Message:
        fields = {at: value for at, value in asked.fields.items() if at != TOKEN_FIELD}
        mti = asked.mti[:2] + str(int(asked.mti[2]) + 1) + "0"
        approval = {38: f"{int(asked.fields[11]):06}"} if code == APPROVED and asked.mti[1] in "12" else {}
        return Message(mti, fields | approval | {39: code} | dict(more or {}))

    def _decide(self, asked: Message, wanted: Behaviour | DeclineCode) -> Message | str:
        match asked.mti[:3]:
            case "080":
                return APPROVED
            case "060":
                return self._inquire(asked)
            case "040":
                return self._reverse(asked, wanted)
            case _:
                return self._do(asked, wanted)

    def _do(self, asked: Message, wanted: Behaviour | DeclineCode) -> str:
        """Payments, authorizations, refunds and captures."""
        key = asked.fields[37], asked.fields[11]
        amount_minor = int(asked.fields[4])
        entry = self._entries.get(key)
        if entry is not None and (self.agreed or asked.mti[3] == "1"):
            if (entry.amount_minor, entry.asked.fields[49]) != (amount_minor, asked.fields[49]) or entry.ended_by:
                return DUPLICATE
            return entry.code
        if entry is not None:
            entry.times += 1
            return entry.code
        if asked.fields[37] in self._unknown:
            return NOTHING_DONE
        kind: Kind = "capture" if asked.mti[:3] == "022" else "authorize" if asked.mti[1] == "1" else "payment"
        if asked.fields[3].startswith("20"):
            kind = "refund"
        if isinstance(wanted, DeclineCode):
            code = CODES[wanted]
        elif wanted is Behaviour.PROCESSING:
            code = IN_PROGRESS
        else:
            code = self._follow(asked, kind, amount_minor) if kind in ("capture", "refund") else APPROVED
        captured_minor = amount_minor if kind == "payment" else 0
        self._entries[key] = Entry(asked, kind, code, amount_minor, captured_minor)
        return code

    def _original(self, asked: Message) -> Entry | None:
        """What field 90 names."""
        data = asked.get(90)
        for (_, trace), entry in self._entries.items():
            if data[:20] == entry.asked.mti + trace + entry.asked.fields[7]:
                return entry
        return None

    def _follow(self, asked: Message, kind: Kind, amount_minor: int) -> str:
        original = self._original(asked)
        if original is None:
            return NO_SUCH
        approval = asked.get(38)
        if approval and approval != original.asked.fields[11]:
            return NO_SUCH
        if original.code != APPROVED or original.ended_by or original.asked.fields[49] != asked.fields[49]:
            return INVALID
        if kind == "refund":
            if original.refunded_minor + amount_minor > original.captured_minor:
                return TOO_MUCH
            original.refunded_minor += amount_minor
            return APPROVED
        if original.kind != "authorize" or (original.captured_minor and not self.agreed):
            return INVALID
        if original.captured_minor + amount_minor > original.amount_minor:
            return TOO_MUCH
        original.captured_minor += amount_minor
        return APPROVED

    def _reverse(self, asked: Message, wanted: Behaviour | DeclineCode) -> str:
        """A void, or the end of what was not answered. A repeat gets the answer of the first."""
        key = asked.fields[37], asked.fields[11]
        if key in self._entries:
            return self._entries[key].code
        original = self._original(asked)
        if isinstance(wanted, DeclineCode):
            return CODES[wanted]
        if original is None:
            self._unknown.add(asked.fields[37])
            return NO_SUCH
        is_void = asked.fields[11] in self._voids
        if original.code not in (APPROVED, IN_PROGRESS) or original.ended_by:
            return NOTHING_DONE
        if is_void and (original.refunded_minor or (original.kind == "authorize" and original.captured_minor)):
            return INVALID
        original.ended_by.add(asked.fields[11])
        if original.kind == "refund" and (refunded := self._original(original.asked)) is not None:
            refunded.refunded_minor -= original.amount_minor
        self._entries[key] = Entry(asked, "void", APPROVED, int(asked.fields[4]))
        return APPROVED

    def _inquire(self, asked: Message) -> Message | str:
        """What became of a request: its own code, and in field 90 what it was."""
        if not self.agreed:
            return INVALID
        entry = self._entries.get((asked.fields[37], asked.fields[90][4:10]))
        if entry is None:
            return NO_SUCH
        if entry.code == IN_PROGRESS:
            entry.code = APPROVED
        if entry.ended_by:
            return NOTHING_DONE
        data = entry.asked.mti[:3] + "0" + entry.asked.fields[11] + entry.asked.fields[7] + "0" * 22
        approval = {38: entry.asked.fields[11]} if entry.code == APPROVED else {}
        return self._told(
            asked, entry.code, {4: entry.asked.fields[4], 49: entry.asked.fields[49], 90: data, **approval}
        )
