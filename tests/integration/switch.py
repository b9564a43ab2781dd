"""A card switch that does what a test says, message by message, and a plugin that is connected to it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

from connectors.pic.base import Call
from connectors.pic.iso8583.codec import Format, Message
from connectors.pic.iso8583.framing import Deframer, Header, frame
from connectors.pic.iso8583.plugin import Iso8583
from connectors.pic.iso8583.profile import Profile

#: Waits of the plugin in these tests: long against a loopback connection, short for who runs them.
ANSWER_S = 0.15
REVERSAL_S = 0.05


def told(asked: Message, code: str = "00", **changed: str) -> Message:
    """The answer to a request: its own fields but for the token, and a code. ``f4`` changes field 4."""
    fields = {at: value for at, value in asked.fields.items() if at not in (63, 64, 128)}
    mti = asked.mti[:2] + str(int(asked.mti[2]) + 1) + "0"
    return Message(mti, fields | {39: code} | {int(name[1:]): value for name, value in changed.items()})


class Line:
    """The switch's end of one connection."""

    def __init__(self, switch: Switch, writer: asyncio.StreamWriter) -> None:
        self.switch = switch
        self.writer = writer

    def send(self, message: Message) -> None:
        """A message, signed where the switch signs."""
        if self.switch.mac_key:
            message = self.switch.format.signed(message, self.switch.mac_key)
        self.raw(frame(self.switch.format.write(message), self.switch.header))

    def raw(self, data: bytes) -> None:
        """Any bytes."""
        self.writer.write(data)

    def reset(self) -> None:
        """End the connection at once."""
        self.writer.transport.abort()


Script = Callable[[Message, Line], Awaitable[None]]


async def approve(asked: Message, line: Line) -> None:
    """Yes to everything."""
    line.send(told(asked))


class Switch:
    """Answers by ``script``; network management by itself unless ``manage`` is False."""

    def __init__(self, script: Script = approve, *, header: Header = "binary2", manage: bool = True) -> None:
        self.script = script
        self.header: Header = header
        self.manage = manage
        self.format = Format()
        self.mac_key = b""
        self.port = 0
        #: What came, in order, and what of it is about money.
        self.heard: list[Message] = []
        self.lines: list[Line] = []
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def money(self) -> list[Message]:
        """Without network management."""
        return [message for message in self.heard if message.mti[1] != "8"]

    def types(self) -> list[str]:
        """Types of the messages about money, in order."""
        return [message.mti for message in self.money]

    async def start(self) -> None:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        if self._server is not None:
            self._server.close()
        for line in self.lines:
            line.reset()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self.lines = []

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        line = Line(self, writer)
        self.lines.append(line)
        frames = Deframer(self.header)
        try:
            while data := await reader.read(65_536):
                for payload in frames.feed(data):
                    message = self.format.read(payload)
                    self.heard.append(message)
                    script = approve if self.manage and message.mti[1] == "8" else self.script
                    task = asyncio.create_task(script(message, line))  # type: ignore[arg-type]
                    self._tasks.add(task)
                    task.add_done_callback(self._tasks.discard)
        except OSError:
            pass
        finally:
            writer.close()


@asynccontextmanager
async def connected(switch: Switch, **named: Any) -> AsyncIterator[Iso8583]:
    """A plugin on that switch, with one connection unless the test says otherwise."""
    await switch.start()
    fields: dict[str, Any] = {
        "host": "127.0.0.1",
        "port": switch.port,
        "terminal": "TERM0001",
        "merchant": "MERCHANT0000001",
        "acquirer": "12345",
        "connections": 1,
        "answer_s": ANSWER_S,
        "reversal_s": REVERSAL_S,
        "connect_s": 1.0,
        "header": switch.header,
    }
    plugin = Iso8583(Profile(**(fields | named)))
    try:
        yield plugin
    finally:
        await plugin.close()
        await switch.stop()


def a_call(payment_id: str = "p1", **named: Any) -> Call:
    """A payment of 12.34 EUR."""
    fields: dict[str, Any] = {
        "attempt_id": f"aurora|{payment_id}|1",
        "tenant": "aurora",
        "payment_id": payment_id,
        "amount_minor": 1_234,
        "currency": "EUR",
        "token": "tok_p1",
        "method": "card",
    }
    return Call(**(fields | named))


async def until(holds: Callable[[], bool], timeout_s: float = 5.0) -> None:
    """Wait for it. Raises TimeoutError."""
    async with asyncio.timeout(timeout_s):
        while not holds():
            await asyncio.sleep(0.005)
