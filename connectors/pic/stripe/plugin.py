"""The plugin: each call one POST under its idempotency key, over a pool of connections that are kept.

Stripe keeps the answer to a key for at least 24 hours, so a repeat within them is answered and not done again. What became of a
call is looked up by its attempt id in the metadata; a repeat is no look-up.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Final, TypeVar
from urllib.parse import urlencode, urlsplit

import aiohttp
import msgspec

from connectors.pic.base import (
    UNKNOWN,
    Abilities,
    Answer,
    Call,
    Notice,
    Notified,
    NotSentError,
    Plugin,
    UnsupportedError,
)
from connectors.pic.calls import CALLS_IN_FLIGHT_MAX
from connectors.pic.options import PicOptions, PicSettingError
from connectors.pic.stripe.mapping import (
    API_VERSION,
    Intent,
    Page,
    Refund,
    RefusedError,
    decided,
    idempotency_key,
    never_done,
    never_got,
    of_intent,
    of_refund,
    reference,
    request_of,
    search_query,
)
from connectors.pic.stripe.notices import told

#: More than a page of a hundred payments has; a longer body is not read.
ANSWER_BYTES_MAX: Final = 4 << 20
PAGE: Final = 100
#: So many pages are read of one list; where it has more, what is not in them is unknown.
PAGES_MAX: Final = 20
#: Stripe's search may be an hour behind; its lists never are. What is younger than this is looked for in the list.
SEARCH_LAG_S: Final = 7_200

T = TypeVar("T", Intent, Refund)


class AnswerTooLongError(Exception):
    """A body of more than :data:`ANSWER_BYTES_MAX`."""


def make(name: str, options: PicOptions) -> Plugin:
    """The plugin of one account. Raises :class:`~connectors.pic.options.PicSettingError`."""
    base_url = options.setting("base_url", "https://api.stripe.com").rstrip("/")
    parts = urlsplit(base_url)
    if parts.scheme != "https" and (parts.scheme, parts.hostname) != ("http", "127.0.0.1"):
        raise PicSettingError(f"PIC {name}: {options.variable('base_url')} has to begin with https://")
    api_key = options.secret("api_key")
    if not (api_key.isascii() and api_key.isprintable()):
        raise PicSettingError(
            f"PIC {name}: {options.variable('api_key')} is no key: it has more than one line, or no ASCII"
        )
    return Stripe(
        base_url,
        api_key,
        webhook_secrets=options.secret("webhook_secret").split() if options.has_secret("webhook_secret") else (),
        return_url=options.setting("return_url", ""),
        timeout_s=options.timeout_s,
    )


class Stripe(Plugin):
    """An account at Stripe, or at whoever speaks its API."""

    def __init__(
        self,
        base_url: str,
        api_key: str,
        *,
        webhook_secrets: Sequence[str] = (),
        return_url: str = "",
        timeout_s: float = 5.0,
        clock_s: Callable[[], float] = time.time,
    ) -> None:
        self._url = f"{base_url}/v1/"
        self._headers = {
            "Authorization": f"Bearer {api_key}",
            "Stripe-Version": API_VERSION,
            "Accept-Encoding": "identity",
        }
        self._secrets = tuple(webhook_secrets)
        self._return_url = return_url
        self._timeout_s = timeout_s
        self._clock_s = clock_s
        self._session: aiohttp.ClientSession | None = None
        self._abilities = Abilities(
            kinds=frozenset({"payment", "authorize", "capture", "void", "refund"}),
            deduplicates=True,
            looks_up=True,
            partial_captures=True,
            partial_refunds=True,
            challenges=bool(return_url),
            notifications="signed" if self._secrets else "none",
            methods=frozenset({"card"}),
        )

    @property
    def abilities(self) -> Abilities:
        """See :class:`Plugin`."""
        return self._abilities

    async def authorize(self, call: Call) -> Answer:
        """Create and confirm a payment."""
        return await self._post(call)

    async def capture(self, call: Call) -> Answer:
        """Once; what is not captured is let go of."""
        return await self._post(call)

    async def void(self, call: Call) -> Answer:
        """Cancel the payment."""
        return await self._post(call)

    async def refund(self, call: Call) -> Answer:
        """Of the payment, whole or a part."""
        return await self._post(call)

    async def look_up(self, call: Call) -> Answer | None:
        """By the attempt id: search finds the old payments, the list the young ones, so None is sure."""
        try:
            request_of(call, return_url=self._url)
        except RefusedError:
            return None  # it was never sent
        match call.kind:
            case "payment" | "authorize":
                return await self._find_payment(call)
            case "refund":
                found = await self._listed("refunds", {"payment_intent": call.original_reference}, Refund, call)
                return of_refund(call, found) if isinstance(found, Refund) else found
        status, body = await self._get(f"payment_intents/{call.original_reference}")
        if status != 200:
            return None if never_got(status, body) else UNKNOWN
        intent = msgspec.json.decode(body, type=Intent)
        return None if never_done(call, intent) else of_intent(call, intent)

    def parse_notification(self, notice: Notice) -> list[Notified]:
        """See :func:`connectors.pic.stripe.notices.told`."""
        if not self._secrets:
            raise UnsupportedError("notifications")
        return told(notice, self._secrets)

    async def close(self) -> None:
        """Close the connections."""
        if self._session is not None:
            await self._session.close()

    async def _post(self, call: Call) -> Answer:
        try:
            request = request_of(call, self._return_url)
        except RefusedError as refused:
            return refused.answer
        headers = {
            "Idempotency-Key": idempotency_key(call.attempt_id),
            "Content-Type": "application/x-www-form-urlencoded",
            **call.trace_headers(),
        }
        return decided(call, *await self._ask("POST", request.path, urlencode(request.fields).encode(), headers))

    async def _find_payment(self, call: Call) -> Answer | None:
        status, body = await self._get("payment_intents/search", query=search_query(call.attempt_id))
        if status != 200:
            return UNKNOWN
        for old in msgspec.json.decode(body, type=Page[Intent]).data:
            if old.attempt_id == call.attempt_id:
                # In what it says of a payment search may be behind, too.
                status, body = await self._get(f"payment_intents/{reference(old.id)}")
                return of_intent(call, msgspec.json.decode(body, type=Intent)) if status == 200 else UNKNOWN
        since_s = int(self._clock_s()) - SEARCH_LAG_S
        found = await self._listed("payment_intents", {"created[gte]": str(since_s)}, Intent, call)
        return of_intent(call, found) if isinstance(found, Intent) else found

    async def _listed(self, path: str, only: Mapping[str, str], kind: type[T], call: Call) -> T | Answer | None:
        """What names the attempt. None: nothing in the whole list does; :data:`UNKNOWN`: it was not read to its end."""
        after: dict[str, str] = {}
        for _ in range(PAGES_MAX):
            status, body = await self._get(path, **only, limit=str(PAGE), **after)
            if status != 200:
                return None if not after and never_got(status, body) else UNKNOWN
            page: Page[T] = msgspec.json.decode(body, type=Page[kind])  # type: ignore[valid-type]
            for each in page.data:
                if each.attempt_id == call.attempt_id:
                    return each
            if not page.has_more:
                return None
            after = {"starting_after": page.data[-1].id}
        return UNKNOWN

    async def _get(self, path: str, **fields: str) -> tuple[int, bytes]:
        status, _, body = await self._ask("GET", f"{path}?{urlencode(fields)}" if fields else path)
        return status, body

    async def _ask(
        self, method: str, path: str, form: bytes | None = None, headers: Mapping[str, str] | None = None
    ) -> tuple[int, Mapping[str, str], bytes]:
        """Status, headers and body. Raises :class:`NotSentError` where there was no connection."""
        try:
            async with self._open().request(
                method, self._url + path, data=form, headers=headers, allow_redirects=False
            ) as got:
                try:
                    await got.content.readexactly(ANSWER_BYTES_MAX + 1)
                except asyncio.IncompleteReadError as whole:
                    return got.status, got.headers, whole.partial
                got.close()
                raise AnswerTooLongError
        except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError) as error:
            raise NotSentError from error

    def _open(self) -> aiohttp.ClientSession:
        # With the first call: a plugin is made before the event loop runs.
        if self._session is None:
            self._session = aiohttp.ClientSession(
                headers=self._headers,
                connector=aiohttp.TCPConnector(limit=CALLS_IN_FLIGHT_MAX),
                timeout=aiohttp.ClientTimeout(total=self._timeout_s, connect=self._timeout_s / 2),
                cookie_jar=aiohttp.DummyCookieJar(),
                auto_decompress=False,
            )
        return self._session
