"""Connections to one switch: signed on, kept alive, made again; requests out, and each answer to whoever waits for it."""

from __future__ import annotations

import asyncio
import logging
import random
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from connectors.pic.base import NotSentError
from connectors.pic.iso8583.answers import match_key
from connectors.pic.iso8583.codec import CodecError, Message
from connectors.pic.iso8583.framing import Deframer, frame
from connectors.pic.iso8583.profile import Profile
from connectors.pic.iso8583.requests import ECHO, SIGN_OFF, SIGN_ON, managed, management

#: A connection that failed is made again after this, then after twice that, and so on; half of it is chance, so that the
#: connections of many workers do not come all at once.
BACKOFF_MIN_S: Final = 0.1
BACKOFF_MAX_S: Final = 15.0
READ_BYTES: Final = 65_536

_log = logging.getLogger(__name__)


def utc_now() -> datetime:
    """The time that messages carry."""
    return datetime.now(UTC)


@dataclass(eq=False, slots=True)
class Connection:
    """One connection. ``heard``: something that could be read came since the last look."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    in_flight: int = 0
    heard: bool = False


class Link:
    """A pool of ``profile.connections``, made at the first use. Answers may come in any order and on any of them.

    ``counts`` tells how often what happened: ``unmatched`` (an answer that nobody waits for: late, repeated, or to no request),
    ``malformed``, ``unsigned``, ``requests`` (of the switch, but for network management), ``lost`` connections.
    """

    def __init__(self, profile: Profile, now: Callable[[], datetime] = utc_now) -> None:
        self.counts: Counter[str] = Counter()
        self._profile = profile
        self._now = now
        self._trace = random.randrange(10**6)
        self._up: list[Connection] = []
        self._made = asyncio.Event()
        self._waiting: dict[tuple[str, ...], tuple[asyncio.Future[Message], Connection]] = {}
        self._slots: list[asyncio.Task[None]] = []
        self._closed = False

    async def connection(self) -> Connection:
        """The least busy connection. Raises :class:`~connectors.pic.base.NotSentError` when there is none.

        It waits for one to be made, ``profile.connect_s`` at most.
        """
        if not self._slots:
            self._slots = [asyncio.create_task(self._keep()) for _ in range(self._profile.connections)]
        with suppress(TimeoutError):
            async with asyncio.timeout(self._profile.connect_s):
                while not self._up:
                    self._made.clear()
                    await self._made.wait()
        if not self._up:
            raise NotSentError("no connection to the switch")
        return min(self._up, key=lambda connection: connection.in_flight)

    def written(self, message: Message) -> bytes:
        """``message`` as it is sent: signed, and with its length. Raises CodecError."""
        profile = self._profile
        if profile.mac_key:
            message = profile.format.signed(message, profile.mac_key)
        return frame(profile.format.write(message), profile.header)

    async def ask(self, connection: Connection, message: Message, timeout_s: float, raw: bytes = b"") -> Message:
        """Send ``message`` (``raw``, where it was :meth:`written` already) and wait for its answer.

        Raises :class:`~connectors.pic.base.NotSentError` and :class:`~connectors.pic.iso8583.codec.CodecError` when nothing was
        sent, TimeoutError and ConnectionError when it may have been.
        """
        raw = raw or self.written(message)
        key = match_key(message)
        if key in self._waiting:
            raise ConnectionError("the same request waits for its answer already")
        if connection.writer.is_closing():
            raise NotSentError("the connection to the switch is gone")
        future: asyncio.Future[Message] = asyncio.get_running_loop().create_future()
        self._waiting[key] = future, connection
        connection.in_flight += 1
        try:
            async with asyncio.timeout(timeout_s):
                connection.writer.write(raw)
                await connection.writer.drain()
                return await future
        finally:
            connection.in_flight -= 1
            del self._waiting[key]

    async def close(self) -> None:
        """Sign off and close. Who still waits for an answer is told that the connection is lost."""
        self._closed = True
        for slot in self._slots:
            slot.cancel()
        await asyncio.gather(*self._slots, return_exceptions=True)

    async def _keep(self) -> None:
        """One slot of the pool: a connection, over and over."""
        delay_s = BACKOFF_MIN_S
        clock_s = asyncio.get_running_loop().time
        while not self._closed:
            began_s = clock_s()
            try:
                async with asyncio.timeout(self._profile.connect_s):
                    connection = Connection(*await asyncio.open_connection(self._profile.host, self._profile.port))
                try:
                    async with asyncio.TaskGroup() as group:
                        group.create_task(self._listen(connection))
                        await self._manage(connection, SIGN_ON, self._profile.connect_s)
                        self._up.append(connection)
                        self._made.set()
                        await self._echo(connection)
                finally:
                    await self._drop(connection)
            except* Exception as errors:
                self.counts["lost"] += 1
                _log.warning("the connection to the switch is lost: %s", "; ".join(_told(errors)))
            if clock_s() - began_s > BACKOFF_MAX_S:  # it was a good one
                delay_s = BACKOFF_MIN_S
            await asyncio.sleep(delay_s * random.uniform(0.5, 1.0))
            delay_s = min(delay_s * 2, BACKOFF_MAX_S)

    async def _drop(self, connection: Connection) -> None:
        writer = connection.writer
        if connection in self._up:
            self._up.remove(connection)
            writer.write(self.written(management(SIGN_OFF, self._next(), self._now())))
        for future, of in self._waiting.values():
            if of is connection and not future.done():
                future.set_exception(ConnectionResetError("the connection was lost before the answer came"))
        writer.close()
        try:
            async with asyncio.timeout(self._profile.connect_s):
                await writer.wait_closed()
        except OSError:
            writer.transport.abort()

    async def _echo(self, connection: Connection) -> None:
        """Ask whether the switch is there when it said nothing for a while; no answer ends the connection."""
        while not self._closed:
            connection.heard = False
            await asyncio.sleep(self._profile.echo_s)
            if not connection.heard:
                await self._manage(connection, ECHO, self._profile.answer_s)

    async def _manage(self, connection: Connection, code: str, timeout_s: float) -> None:
        answer = await self.ask(connection, management(code, self._next(), self._now()), timeout_s)
        if answer.get(39) != "00":
            raise ConnectionError(f"the switch refused network management {code}")

    def _next(self) -> int:
        self._trace += 1
        return self._trace

    async def _listen(self, connection: Connection) -> None:
        frames = Deframer(self._profile.header)
        while data := await connection.reader.read(READ_BYTES):
            for payload in frames.feed(data):
                self._take(connection, payload)
            # Who does not read what we answer is not read from either.
            await connection.writer.drain()
        raise ConnectionResetError("the switch closed the connection")

    def _take(self, connection: Connection, payload: bytes) -> None:
        """One message of the switch: an answer that is waited for, network management, or nothing to us."""
        profile = self._profile
        try:
            message = profile.format.read(payload)
            if profile.mac_key:
                profile.format.check_signature(message, profile.mac_key)
        except CodecError as error:
            kind = "unsigned" if error.reason == "bad_mac" else "malformed"
            self.counts[kind] += 1
            if self.counts[kind].bit_count() == 1:  # the 1st, 2nd, 4th, 8th ...: a flood must not fill the log
                _log.warning(
                    "a message of the switch is not taken, the %d. that is %s: %s", self.counts[kind], kind, error
                )
            return
        connection.heard = True
        if message.mti == "0800":
            connection.writer.write(self.written(managed(message)))
        elif message.mti[2] not in "13":
            self.counts["requests"] += 1
        else:
            future, _ = self._waiting.get(match_key(message), (None, None))
            if future is None or future.done():
                self.counts["unmatched"] += 1
            else:
                future.set_result(message)


def _told(errors: BaseExceptionGroup[Exception]) -> list[str]:
    """What may be shown of them: nothing that may hold a message."""
    return [
        str(error) or type(error).__name__ if isinstance(error, OSError) else type(error).__name__
        for error in errors.exceptions
    ]
