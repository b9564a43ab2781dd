"""The notifications' endpoint: what PICs tell by themselves -> ``payments.notified.v1``. POST /notifications/PIC.

A PIC is served when its plugin can prove where a notification comes from, so with its secret; others are not there. The answer
is 200 once Kafka has the news on all replicas in sync: whoever does not hear that sends it again, and the same news twice
changes nothing. So a crash at any point loses nothing.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Mapping
from hashlib import blake2b
from typing import Any, Final, Protocol

from aiohttp import web

from agents.pages import HEADERS, guarded_metrics, problem
from agents.plugin import WORDS
from connectors.broker.one import PostError
from connectors.pic.base import Notice, NotificationError, Notified
from connectors.pic.calls import Pic
from pipeline.engine.metrics import Metrics
from schemas.codec import Codec
from schemas.identity import parse_attempt_id, payment_key
from schemas.records import PaymentNotified

log = logging.getLogger("ptr.notifications")

#: What a notification may hold: more than any PIC sends.
BODY_BYTES_MAX: Final = 1 << 20
#: Notifications that are read, checked and on their way to Kafka at a time; each may hold a whole body.
IN_FLIGHT_MAX: Final = 64
#: How long a body may take to come.
BODY_TIMEOUT_S: Final = 10.0
#: When a sender that was turned away may come again.
RETRY_AFTER_S: Final = 2
#: Event ids are part of audit rows, which take 300 characters.
EVENT_ID_CHARS_MAX: Final = 160
#: Outcomes that are news; the others leave open what the pipeline asks about anyway.
NEWS: Final = ("succeeded", "declined", "requires_action")

#: Status and text of what is not believed: no word of it says how far a forger came.
_REFUSED: Final = {
    "bad_signature": (
        401,
        "the signature is not right: is the secret in PTR_PIC_<NAME>_..._FILE the one of this endpoint?",
    ),
    "replayed": (401, "the signed time is too far from now: an old notification, or a clock that is wrong"),
    "malformed": (400, "not a notification of this PIC"),
}


class Poster(Protocol):
    """Where news go: :class:`connectors.broker.awaited.AwaitedPoster`."""

    async def post(self, value: bytes, key: bytes) -> None:
        """Return when the broker has it. Raises :class:`PostError`."""

    def trouble(self, timeout_s: float) -> str:
        """Why nothing could be posted now; empty when it could."""


def served(pics: Mapping[str, Pic]) -> dict[str, Pic]:
    """Those whose notifications prove where they come from.

    An unsigned one is not served at all: anybody's word would be a reason to ask the PIC, and the pipeline asks anyway.
    """
    return {name: pic for name, pic in pics.items() if pic.abilities.notifications == "signed"}


def news_of(pic: str, told: Notified) -> PaymentNotified | None:
    """What is published of one thing that a notification tells; None for what is about none of our attempts, or no news."""
    if told.answer.outcome not in NEWS:
        return None
    try:
        name = parse_attempt_id(told.attempt_id)
    except ValueError:
        return None
    # One event may tell of several attempts.
    event_id = f"{pic}/{told.event_id}/{name.operation_id or 'payment'}/{name.attempt}"
    if len(event_id) > EVENT_ID_CHARS_MAX or not event_id.isprintable():
        event_id = f"{pic}/{blake2b(event_id.encode(errors='surrogatepass'), digest_size=20).hexdigest()}"
    return PaymentNotified(
        event_id=event_id,
        source="pic",
        pic=pic,
        tenant=name.tenant,
        payment_id=name.payment_id,
        operation_id=name.operation_id,
        attempt=name.attempt,
        outcome=WORDS[told.answer.outcome],
        reason=told.answer.reason,
        retry=told.answer.retry,
        pic_reference=told.answer.pic_reference,
        action_url=told.answer.action_url,
        occurred_at_ms=told.occurred_at_ms,
    )


class NotificationServer:
    """Serves :func:`served` PICs."""

    def __init__(
        self,
        pics: Mapping[str, Pic],
        poster: Poster,
        codec: Codec,
        *,
        metrics: Metrics,
        token: str = "",
        body_timeout_s: float = BODY_TIMEOUT_S,
        clock_s: Callable[[], float] = time.time,
    ) -> None:
        self._pics = served(pics)
        self._poster = poster
        self._encode = codec.encoder(PaymentNotified)
        self._metrics = metrics
        self._token = token
        self._body_timeout_s = body_timeout_s
        self._clock_s = clock_s
        self._in_flight = 0
        self._runner: web.AppRunner | None = None

    async def start(self, host: str, port: int) -> int:
        """Listen; gives the port. Raises :class:`OSError`."""
        server = web.Application(middlewares=[self._guard], client_max_size=BODY_BYTES_MAX)
        server.router.add_post("/notifications/{pic}", self._notified)
        server.router.add_get("/live", self._live)
        server.router.add_get("/ready", self._ready)
        server.router.add_get("/metrics", self._show_metrics)
        # The signature is of the bytes as they came; and what is compressed may be of any size.
        self._runner = web.AppRunner(
            server, access_log=None, shutdown_timeout=15.0, keepalive_timeout=15.0, auto_decompress=False
        )
        await self._runner.setup()
        await web.TCPSite(self._runner, host, port).start()
        taken: int = self._runner.addresses[0][1]
        return taken

    async def stop(self) -> None:
        """Take no more, and answer those that are here."""
        if self._runner is not None:
            await self._runner.cleanup()

    @web.middleware
    async def _guard(self, request: web.Request, handler: Any) -> web.StreamResponse:
        response: web.StreamResponse
        try:
            response = await handler(request)
        except web.HTTPMethodNotAllowed as error:
            response = problem(405, f"only {', '.join(sorted(error.allowed_methods))} here")
            response.headers["Allow"] = ", ".join(sorted(error.allowed_methods))
        except web.HTTPNotFound:
            response = problem(404, "there is no such page: POST /notifications/PIC, GET /live, /ready, /metrics")
        response.headers.update(HEADERS)
        return response

    async def _notified(self, request: web.Request) -> web.Response:
        name = request.match_info["pic"]
        pic = self._pics.get(name)
        if pic is None:
            self._count("", "unknown_pic")
            return problem(
                404, "no PIC of that name is served here: it is not in PTR_PICS, or its plugin has no secret"
            )
        if self._in_flight >= IN_FLIGHT_MAX:
            self._count(name, "busy")
            return _later("too many notifications at a time: send it again")
        self._in_flight += 1
        started = time.perf_counter()
        try:
            result, response = await self._take(name, pic, request)
        finally:
            self._in_flight -= 1
        self._count(name, result)
        if result == "published":
            self._metrics.notification_seconds.observe(time.perf_counter() - started)
        return response

    async def _take(self, name: str, pic: Pic, request: web.Request) -> tuple[str, web.Response]:
        received_at_s = self._clock_s()
        try:
            async with asyncio.timeout(self._body_timeout_s):
                body = await request.read()
        except web.HTTPRequestEntityTooLarge:
            return "too_large", problem(413, f"a notification has at most {BODY_BYTES_MAX} bytes")
        except TimeoutError:
            return "slow", problem(408, f"the body did not come within {self._body_timeout_s:g} s")
        headers = {key.lower(): value for key, value in request.headers.items()}
        try:
            told = pic.parse_notification(Notice(headers=headers, body=body, received_at_s=received_at_s))
            records = [self._record(each) for each in (news_of(name, one) for one in told) if each is not None]
        except NotificationError as error:
            return error.reason, problem(*_REFUSED[error.reason])
        except Exception as error:
            log.error("a notification of %s: its plugin failed: %s", name, type(error).__name__)
            return "failed", problem(500, "this PIC's plugin cannot read it")
        if not records:
            # It is the PIC's, and about nothing that waits for it: sent again it would be no other.
            return "no_news", web.json_response({"published": 0})
        try:
            await asyncio.gather(*(self._poster.post(value, key) for value, key in records))
        except PostError as error:
            self._metrics.ready.set(0)
            log.error("a notification of %s was not published: %s", name, error)
            return "not_delivered", _later("Kafka did not take it: send it again")
        self._metrics.ready.set(1)
        return "published", web.json_response({"published": len(records)})

    def _record(self, news: PaymentNotified) -> tuple[bytes, bytes]:
        return self._encode(news), payment_key(news.tenant, news.payment_id)

    async def _live(self, request: web.Request) -> web.Response:
        return web.json_response({"live": True})

    async def _ready(self, request: web.Request) -> web.Response:
        why = await asyncio.to_thread(self._poster.trouble, 2.0)
        self._metrics.ready.set(0 if why else 1)
        body = {"ready": not why, "pics": sorted(self._pics)}
        return web.json_response(body, status=503 if why else 200)

    async def _show_metrics(self, request: web.Request) -> web.Response:
        return guarded_metrics(request, self._token)

    def _count(self, pic: str, result: str) -> None:
        self._metrics.notifications.labels(pic, result).inc()


def _later(why: str) -> web.Response:
    response = problem(503, why)
    response.headers["Retry-After"] = str(RETRY_AFTER_S)
    return response
