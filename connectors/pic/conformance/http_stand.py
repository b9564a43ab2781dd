"""The part that stands for PICs with an HTTP interface share: a server on loopback, and how it misbehaves."""

from __future__ import annotations

import asyncio
import socket
from abc import abstractmethod
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from typing import Final

from aiohttp import web

from connectors.pic.conformance.stand import LATE_S, RETRY_AFTER_S, SLOW_S, Behaviour, Stand
from connectors.pic.declines import DeclineCode

#: What :meth:`HttpStand.before` and :meth:`HttpStand.after` do, and what needs nothing else.
TRANSPORT: Final = frozenset(
    {
        Behaviour.APPROVE,
        Behaviour.SLOW,
        Behaviour.LATE,
        Behaviour.LOST,
        Behaviour.RESET,
        Behaviour.GARBAGE,
        Behaviour.BROKEN,
        Behaviour.THROTTLED,
        Behaviour.REFUSED,
    }
)


class HttpStand(Stand):
    """A stand with routes. A handler that makes something awaits :meth:`before` first and :meth:`after` last."""

    def __init__(self) -> None:
        self._port = 0
        self._requests = 0
        self._met: set[str] = set()

    @abstractmethod
    def routes(self) -> Iterable[web.AbstractRouteDef]:
        """The PIC's interface."""

    @property
    def url(self) -> str:
        """Where it listens, once started."""
        return f"http://127.0.0.1:{self._port}"

    async def start(self) -> None:
        """Listen on loopback."""
        app = web.Application(middlewares=[self._counted])
        app.add_routes(self.routes())
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await self._runner.setup()
        await self._listen()

    async def stop(self) -> None:
        """End the server and what it still answers."""
        await self._runner.cleanup()

    def requests(self) -> int:
        """All that came."""
        return self._requests

    @asynccontextmanager
    async def refusing(self) -> AsyncIterator[str]:
        """The port is closed meanwhile. Connections that are open stay so."""
        await self._site.stop()
        try:
            yield self.token(Behaviour.APPROVE)
        finally:
            await self._listen()

    def first(self, key: str) -> bool:
        """Whether this is asked for the first time about ``key``."""
        if key in self._met:
            return False
        self._met.add(key)
        return True

    async def before(self, request: web.Request, key: str, wanted: str) -> web.Response | None:
        """What goes wrong before anything is done, the first time that ``key`` is met; None to go on."""
        if not self.first(key):
            return None
        match wanted:
            case Behaviour.RESET:
                return _drop(request)
            case Behaviour.BROKEN:
                return web.Response(status=500, text="Internal Server Error")
            case Behaviour.THROTTLED:
                return web.Response(status=429, headers={"Retry-After": f"{RETRY_AFTER_S:.0f}"})
        return None

    async def after(self, request: web.Request, response: web.Response, wanted: str) -> web.Response:
        """What becomes of the answer to what was just done for the first time."""
        match wanted:
            case Behaviour.LOST:
                return _drop(request)
            case Behaviour.GARBAGE:
                return web.Response(text='<html>{"status": "succeeded"', content_type="application/json")
            case Behaviour.SLOW:
                await asyncio.sleep(SLOW_S)
            case Behaviour.LATE:
                await asyncio.sleep(LATE_S)
        return response

    @web.middleware
    async def _counted(self, request: web.Request, handler: object) -> web.StreamResponse:
        self._requests += 1
        response: web.StreamResponse = await handler(request)  # type: ignore[operator]
        return response

    async def _listen(self) -> None:
        self._site = web.TCPSite(self._runner, "127.0.0.1", self._port or _free_port())
        await self._site.start()
        self._port = int(self._site.name.rpartition(":")[2])


def wanted_of(token: str, prefix: str = "tok_") -> Behaviour | DeclineCode:
    """The word behind a token of the form ``tok_<word>``; what is none is approved."""
    word = token.removeprefix(prefix)
    for words in (Behaviour, DeclineCode):
        if word in list(words):
            return words(word)
    return Behaviour.APPROVE


def _drop(request: web.Request) -> web.Response:
    """Close the connection without an answer."""
    if request.transport is not None:
        request.transport.abort()
    return web.Response()


def _free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
        return port
