"""Notifications as PICs send them, and an endpoint for them in a thread of its own."""

from __future__ import annotations

import asyncio
import hmac
import http.client
import json
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from hashlib import sha256
from typing import Any

import msgspec
from prometheus_client import CollectorRegistry

from agents.notifications import NotificationServer, Poster
from connectors.pic import simulator_notices
from connectors.pic.base import Answer
from connectors.pic.calls import Pic
from pipeline.engine.metrics import Metrics
from schemas.codec import Codec

SECRET = "whsec_of_the_tests"
WAIT_S = 30.0


def simulator_notice(
    attempt_id: str, outcome: str, now_s: int, *, event_id: str = "evt-1", secret: str = SECRET, **answer: Any
) -> tuple[bytes, dict[str, str]]:
    """Body and headers of what the simulated PIC tells."""
    said = Answer(outcome, **answer)  # type: ignore[arg-type]
    event = simulator_notices.Event(id=event_id, attempt_id=attempt_id, occurred_at_ms=now_s * 1000, answer=said)
    body = msgspec.json.encode(event)
    return body, dict(simulator_notices.signed(body, secret, now_s).headers)


def stripe_notice(
    about: Mapping[str, Any], word: str, now_s: int, secret: str = SECRET
) -> tuple[bytes, dict[str, str]]:
    """Body and headers of Stripe's webhook about an object."""
    event = {"id": "evt_1", "object": "event", "type": word, "created": now_s, "data": {"object": about}}
    body = json.dumps(event).encode()
    signature = hmac.new(secret.encode(), f"{now_s}.".encode() + body, sha256).hexdigest()
    return body, {"Stripe-Signature": f"t={now_s},v1={signature}"}


class Endpoint:
    """A running endpoint."""

    def __init__(self, port: int, registry: CollectorRegistry) -> None:
        self.port = port
        self.registry = registry

    def post(
        self, path: str, body: bytes, headers: Mapping[str, str] | None = None, method: str = "POST"
    ) -> tuple[int, dict[str, Any]]:
        """Status and answer."""
        status, answer, _ = self.ask(path, body, headers, method)
        return status, answer

    def ask(
        self, path: str, body: bytes = b"", headers: Mapping[str, str] | None = None, method: str = "POST"
    ) -> tuple[int, dict[str, Any], Mapping[str, str]]:
        """The same, with its headers."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=WAIT_S)
        try:
            connection.request(method, path, body, dict(headers or {}))
            reply = connection.getresponse()
            content = reply.read()
            return reply.status, json.loads(content) if content.startswith(b"{") else {}, dict(reply.getheaders())
        finally:
            connection.close()

    def counted(self, pic: str, result: str) -> float:
        """How many notifications were counted so."""
        return self.registry.get_sample_value("ptr_notifications_total", {"pic": pic, "result": result}) or 0.0


@contextmanager
def endpoint(pics: Mapping[str, Pic], poster: Poster, **named: Any) -> Iterator[Endpoint]:
    """An endpoint on a free port."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    registry = CollectorRegistry()

    def run(coroutine: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(coroutine, loop).result(WAIT_S)

    server = NotificationServer(pics, poster, Codec(), metrics=Metrics(registry), **named)
    try:
        yield Endpoint(run(server.start("127.0.0.1", 0)), registry)
    finally:
        run(server.stop())
        loop.call_soon_threadsafe(loop.stop)
        thread.join(WAIT_S)
        loop.close()
