"""What stands for Stripe: payment intents, captures, cancels and refunds as its API reference has them, with its idempotency
keys and its search that is behind.

Written from Stripe's documents. The test servers that others wrote know no keys: they are asked in
``tests/integration/test_stripe_servers.py``.
"""

from __future__ import annotations

import asyncio
import hmac
import itertools
import json
import re
import secrets
import time
from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from hashlib import sha256
from typing import Any, Final

from aiohttp import web

from connectors.pic.base import Kind, Notice
from connectors.pic.conformance.http_stand import TRANSPORT, HttpStand, wanted_of
from connectors.pic.conformance.stand import Behaviour, Effect
from connectors.pic.declines import DeclineCode
from schemas.money import minor_units

#: Stripe's own words, not the plugin's table: ``code`` and ``decline_code``.
CODES: Final[Mapping[DeclineCode, tuple[str, str]]] = {
    DeclineCode.INSUFFICIENT_FUNDS: ("card_declined", "insufficient_funds"),
    DeclineCode.DO_NOT_HONOR: ("card_declined", "generic_decline"),
    DeclineCode.EXPIRED_CARD: ("expired_card", "expired_card"),
    DeclineCode.LOST_CARD: ("card_declined", "lost_card"),
    DeclineCode.STOLEN_CARD: ("card_declined", "stolen_card"),
    DeclineCode.INVALID_ACCOUNT: ("card_declined", "invalid_account"),
    DeclineCode.LIMIT_EXCEEDED: ("card_declined", "card_velocity_exceeded"),
    DeclineCode.AUTHENTICATION_REQUIRED: ("authentication_required", "authentication_required"),
    DeclineCode.SUSPECTED_FRAUD: ("card_declined", "fraudulent"),
    DeclineCode.NOT_PERMITTED: ("card_declined", "transaction_not_allowed"),
    DeclineCode.ISSUER_UNAVAILABLE: ("card_declined", "issuer_not_available"),
    DeclineCode.TRY_AGAIN_LATER: ("processing_error", "processing_error"),
    DeclineCode.CURRENCY_NOT_SUPPORTED: ("card_declined", "currency_not_supported"),
    DeclineCode.UNSUPPORTED: ("card_declined", "card_not_supported"),
    DeclineCode.OTHER: ("card_declined", "a_code_of_next_year"),
}
#: docs.stripe.com/currencies.
_NO_DECIMALS: Final = "BIF CLP DJF GNF JPY KMF KRW MGA PYG RWF VND VUV XAF XOF XPF"
_THREE_DECIMALS: Final = "BHD JOD KWD OMR TND"
#: So long a request is under way at least: another with its key meanwhile gets a 409.
UNDER_WAY_S: Final = 0.005

Handler = Callable[[web.Request, dict[str, str]], tuple[int, dict[str, Any]]]


class StripeStand(HttpStand):
    """One account. ``searchable``: whether search already knows what was made a moment ago."""

    offers = TRANSPORT | {Behaviour.CHALLENGE, Behaviour.PROCESSING, Behaviour.LOOK_UP_FAILS} | frozenset(CODES)

    def __init__(self, *, searchable: bool = False) -> None:
        super().__init__()
        self.searchable = searchable
        #: Headers of every request.
        self.heard: list[Mapping[str, str]] = []
        self._api_key, self._webhook_secret = f"sk_test_{secrets.token_hex(12)}", f"whsec_{secrets.token_hex(16)}"
        self._numbers = itertools.count(1)
        self._intents: dict[str, dict[str, Any]] = {}
        self._refunds: dict[str, dict[str, Any]] = {}
        self._saved: dict[str, tuple[object, int, dict[str, Any]]] = {}
        self._under_way: set[str] = set()
        self._scripts: dict[str, Behaviour | DeclineCode] = {}
        self._effects: dict[str, list[Effect]] = defaultdict(list)
        self._events: dict[str, list[dict[str, Any]]] = defaultdict(list)

    @property
    def settings(self) -> Mapping[str, str]:
        """The second secret of the webhooks is the one in use, as while one is replaced."""
        return {
            "base_url": self.url,
            "api_key": self._api_key,
            "webhook_secret": f"whsec_of_last_year\n{self._webhook_secret}\n",
            "return_url": "https://shop.example/paid",
        }

    def token(self, wanted: Behaviour | DeclineCode) -> str:
        """A payment method."""
        return f"pm_{wanted}"

    def script(self, attempt_id: str, wanted: Behaviour | DeclineCode) -> bool:
        """By the attempt id, which is the key."""
        self._scripts[attempt_id] = wanted
        return wanted in TRANSPORT

    def effects(self, attempt_id: str) -> Sequence[Effect]:
        """See :class:`Stand`."""
        return self._effects[attempt_id]

    async def settle(self) -> None:
        """What is processing succeeds."""
        for intent in self._intents.values():
            if intent["status"] == "processing":
                self._pay(intent)

    async def finish_challenge(self, attempt_id: str, *, passed: bool) -> None:
        """See :class:`Stand`."""
        (intent,) = (each for each in self._intents.values() if each["metadata"].get("attempt_id") == attempt_id)
        intent["next_action"] = None
        if passed:
            self._pay(intent)
        else:
            self._decline(intent, "payment_intent_authentication_failure", None)

    def notices(self, attempt_id: str) -> Sequence[Notice]:
        """All events of the payment; those of one second have one time."""
        return [self.signed(json.dumps(event).encode()) for event in self._events[attempt_id]]

    def signed(self, body: bytes) -> Notice:
        """With a signature of an older scheme and one of a secret that is nobody's beside the right one."""
        now_s = int(time.time())
        right = hmac.new(self._webhook_secret.encode(), b"%d.%s" % (now_s, body), sha256).hexdigest()
        header = f"t={now_s},v1={'0' * 64},v1={right},v0={'1' * 64}"
        return Notice(headers={"stripe-signature": header}, body=body, received_at_s=float(now_s))

    # -- the API --

    def routes(self) -> Iterable[web.AbstractRouteDef]:
        """See :class:`HttpStand`."""
        intents = "/v1/payment_intents"
        return [
            web.post(intents, self._keyed(self._create)),
            web.get(f"{intents}/search", self._search),
            web.get(intents, self._list_intents),
            web.get(f"{intents}/{{id}}", self._show),
            web.post(f"{intents}/{{id}}/capture", self._keyed(self._capture)),
            web.post(f"{intents}/{{id}}/cancel", self._keyed(self._cancel)),
            web.post("/v1/refunds", self._keyed(self._refund)),
            web.get("/v1/refunds", self._list_refunds),
        ]

    def _keyed(self, handle: Handler) -> Callable[[web.Request], Awaitable[web.Response]]:
        """What Stripe does with keys: the first answer is kept, errors of the request's form are not."""

        async def handler(request: web.Request) -> web.Response:
            if (refused := self._refused(request)) is not None:
                return refused
            fields = {name: str(value) for name, value in (await request.post()).items()}
            key, asked = request.headers["Idempotency-Key"], (request.path, fields)
            if key in self._under_way:
                return _json(*_error(409, "invalid_request_error", "idempotency_key_in_use"))
            if key in self._saved:
                before, status, body = self._saved[key]
                return _json(status, body) if before == asked else _json(*_error(400, "idempotency_error"))
            wanted = self._scripts.get(key) or wanted_of(fields.get("payment_method", ""), "pm_")
            if (fault := await self.before(request, key, str(wanted))) is not None:
                return fault
            self._under_way.add(key)
            try:
                await asyncio.sleep(UNDER_WAY_S)
                status, body = handle(request, fields)
                body = json.loads(json.dumps(body))
                self._saved[key] = (asked, status, body)
            finally:
                self._under_way.discard(key)
            return await self.after(request, _json(status, body), str(wanted))

        return handler

    def _refused(self, request: web.Request) -> web.Response | None:
        self.heard.append(request.headers)
        if request.headers.get("Authorization") != f"Bearer {self._api_key}":
            return _json(*_error(401, "invalid_request_error"))
        return None

    def _create(self, request: web.Request, fields: dict[str, str]) -> tuple[int, dict[str, Any]]:
        wanted = wanted_of(fields["payment_method"], "pm_")
        intent: dict[str, Any] = {
            "id": f"pi_{next(self._numbers):024}",
            "object": "payment_intent",
            "status": "requires_confirmation",
            "amount": int(fields["amount"]),
            "amount_received": 0,
            "currency": fields["currency"],
            "capture_method": fields["capture_method"],
            "created": int(time.time()),
            "last_payment_error": None,
            "latest_charge": None,
            "livemode": False,
            "metadata": _metadata(fields),
            "next_action": None,
            "payment_method": fields["payment_method"],
        }
        self._intents[intent["id"]] = intent
        self._tell(intent, "created")
        if isinstance(wanted, DeclineCode):
            self._decline(intent, *CODES[wanted])
            return 402, {"error": intent["last_payment_error"] | {"payment_intent": intent}}
        if wanted is Behaviour.CHALLENGE:
            redirect = {"url": f"https://hooks.stripe.example/3ds/{intent['id']}", "return_url": fields["return_url"]}
            intent |= {
                "status": "requires_action",
                "next_action": {"type": "redirect_to_url", "redirect_to_url": redirect},
            }
            self._tell(intent, "requires_action")
        elif wanted is Behaviour.PROCESSING:
            intent["status"] = "processing"
            self._tell(intent, "processing")
        else:
            self._pay(intent)
        return 200, intent

    def _capture(self, request: web.Request, fields: dict[str, str]) -> tuple[int, dict[str, Any]]:
        intent = self._intents.get(request.match_info["id"])
        if intent is None:
            return _error(404, "invalid_request_error", "resource_missing", "intent")
        if intent["status"] != "requires_capture":
            return _error(400, "invalid_request_error", "payment_intent_unexpected_state")
        amount = int(fields["amount_to_capture"])
        if amount > intent["amount"]:
            return _error(400, "invalid_request_error", "amount_too_large", "amount_to_capture")
        intent |= {"status": "succeeded", "amount_received": amount, "metadata": intent["metadata"] | _metadata(fields)}
        self._did(intent["metadata"]["capture_attempt_id"], "capture", amount, intent)
        self._tell(intent, "succeeded")
        return 200, intent

    def _cancel(self, request: web.Request, fields: dict[str, str]) -> tuple[int, dict[str, Any]]:
        intent = self._intents.get(request.match_info["id"])
        if intent is None:
            return _error(404, "invalid_request_error", "resource_missing", "intent")
        if intent["status"] in ("succeeded", "canceled", "processing"):
            return _error(400, "invalid_request_error", "payment_intent_unexpected_state")
        intent["status"] = "canceled"
        self._did(request.headers["Idempotency-Key"], "void", intent["amount"], intent)
        self._tell(intent, "canceled")
        return 200, intent

    def _refund(self, request: web.Request, fields: dict[str, str]) -> tuple[int, dict[str, Any]]:
        intent = self._intents.get(fields["payment_intent"])
        if intent is None:
            return _error(404, "invalid_request_error", "resource_missing", "payment_intent")
        if intent["status"] != "succeeded":
            return _error(400, "invalid_request_error")
        made = [each["amount"] for each in self._refunds.values() if each["payment_intent"] == intent["id"]]
        amount = int(fields["amount"])
        if sum(made) == intent["amount_received"]:
            return _error(400, "invalid_request_error", "charge_already_refunded")
        if sum(made) + amount > intent["amount_received"]:
            return _error(400, "invalid_request_error", None, "amount")
        refund = {
            "id": f"re_{next(self._numbers):024}",
            "object": "refund",
            "status": "succeeded",
            "amount": amount,
            "currency": intent["currency"],
            "payment_intent": intent["id"],
            "metadata": _metadata(fields),
            "created": int(time.time()),
        }
        self._refunds[str(refund["id"])] = refund
        self._did(_metadata(fields)["attempt_id"], "refund", amount, intent)
        return 200, refund

    async def _show(self, request: web.Request) -> web.Response:
        if (refused := self._refused(request)) is not None:
            return refused
        intent = self._intents.get(request.match_info["id"])
        return _json(200, intent) if intent else _json(*_error(404, "invalid_request_error", "resource_missing"))

    async def _search(self, request: web.Request) -> web.Response:
        if (refused := self._refused(request)) is not None:
            return refused
        asked = re.fullmatch(r"metadata\['attempt_id'\]:'(.*)'", request.query["query"])
        attempt_id = asked[1] if asked else ""
        found = [each for each in self._intents.values() if each["metadata"].get("attempt_id") == attempt_id]
        if any(each["payment_method"] == "pm_look_up_fails" for each in found) and self.first(f"search {attempt_id}"):
            return web.Response(status=503)
        return _json(200, {"object": "search_result", "data": found if self.searchable else [], "has_more": False})

    async def _list_intents(self, request: web.Request) -> web.Response:
        since_s = int(request.query["created[gte]"])
        return self._page(request, [each for each in self._intents.values() if each["created"] >= since_s])

    async def _list_refunds(self, request: web.Request) -> web.Response:
        named = request.query["payment_intent"]
        return self._page(request, [each for each in self._refunds.values() if each["payment_intent"] == named])

    def _page(self, request: web.Request, of: list[dict[str, Any]]) -> web.Response:
        if (refused := self._refused(request)) is not None:
            return refused
        newest_first, limit = of[::-1], int(request.query["limit"])
        after = request.query.get("starting_after")
        start = [each["id"] for each in newest_first].index(after) + 1 if after else 0
        rest = newest_first[start:]
        return _json(200, {"object": "list", "data": rest[:limit], "has_more": len(rest) > limit})

    # -- what becomes of payments --

    def _pay(self, intent: dict[str, Any]) -> None:
        if intent["capture_method"] == "manual":
            intent["status"] = "requires_capture"
            self._did(intent["metadata"]["attempt_id"], "authorize", intent["amount"], intent)
            self._tell(intent, "amount_capturable_updated")
        else:
            intent |= {"status": "succeeded", "amount_received": intent["amount"]}
            self._did(intent["metadata"]["attempt_id"], "payment", intent["amount"], intent)
            self._tell(intent, "succeeded")

    def _decline(self, intent: dict[str, Any], code: str, decline_code: str | None) -> None:
        error = {"type": "card_error", "code": code, "message": "Your card was declined, Ms Lovelace."}
        if decline_code:
            error["decline_code"] = decline_code
        intent |= {"status": "requires_payment_method", "last_payment_error": error}
        self._tell(intent, "payment_failed")

    def _did(self, attempt_id: str, kind: Kind, amount: int, intent: Mapping[str, Any]) -> None:
        currency = str(intent["currency"]).upper()
        decimals = 0 if currency in _NO_DECIMALS else 3 if currency in _THREE_DECIMALS else 2
        minor = amount * 10 ** minor_units(currency) // 10**decimals
        self._effects[attempt_id].append(Effect(kind, minor, currency))

    def _tell(self, intent: dict[str, Any], word: str) -> None:
        event = {
            "id": f"evt_{next(self._numbers):024}",
            "object": "event",
            "type": f"payment_intent.{word}",
            "created": int(time.time()),
            "data": {"object": json.loads(json.dumps(intent))},
        }
        for key in ("attempt_id", "capture_attempt_id"):
            if key in intent["metadata"]:
                self._events[intent["metadata"][key]].append(event)


def _metadata(fields: Mapping[str, str]) -> dict[str, str]:
    return {name[9:-1]: value for name, value in fields.items() if name.startswith("metadata[")}


def _json(status: int, body: Mapping[str, Any]) -> web.Response:
    return web.json_response(body, status=status)


def _error(status: int, kind: str, code: str | None = None, param: str | None = None) -> tuple[int, dict[str, Any]]:
    error = {"type": kind, "message": "No such thing, Ms Lovelace."} | ({"code": code} if code else {})
    return status, {"error": error | ({"param": param} if param else {})}
