"""From calls to requests of Stripe's API, and from what it answers to ours. Pure.

========== =========================================== =====================================================
kind       request                                     done when
========== =========================================== =====================================================
payment    POST payment_intents, confirmed             ``succeeded``
authorize  the same, captured by hand                  ``requires_capture``, or captured since
capture    POST payment_intents/PI/capture             ``succeeded``; one for each payment, the rest is let go
void       POST payment_intents/PI/cancel              ``canceled``
refund     POST refunds                                ``succeeded``
========== =========================================== =====================================================

Each carries its attempt id as metadata (a cancel can't), and a success counts only when it names that, the amount and the
currency.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import blake2b
from types import MappingProxyType
from typing import Any, Final, Generic, Literal, TypeVar
from urllib.parse import urlsplit

import msgspec

from connectors.pic.base import UNKNOWN, Answer, Call
from connectors.pic.declines import STANDARD, DeclineCode, Meaning
from connectors.pic.stripe.declines import DECLINES, OTHER
from schemas.money import UnknownCurrencyError, minor_units

#: The version that requests and answers here are written for.
API_VERSION: Final = "2024-06-20"
#: Where Stripe's decimals are not those of ISO 4217 (docs.stripe.com/currencies): two for compatibility, or none.
DECIMALS: Final[Mapping[str, int]] = MappingProxyType({"ISK": 2, "UGX": 2, "MGA": 0})
#: A key may have 255 characters, and a header holds ASCII.
KEY_MAX: Final = 255
#: The longest wait that is believed.
RETRY_AFTER_MAX_S: Final = 3_600.0
ACTION_URL_MAX: Final = 2_048
#: Statuses with which Stripe says no, in a body that is an error of its own. 409 is none: somebody else is at it.
REFUSALS: Final = frozenset({400, 401, 402, 403, 404})
#: Metadata of a payment: who made it, and who captured it.
MADE_BY, CAPTURED_BY = "attempt_id", "capture_attempt_id"

_REFERENCE: Final = re.compile(r"[a-z]{1,8}_[A-Za-z0-9_]{1,246}\Z")


class RefusedError(Exception):
    """The call cannot be a request: nothing is sent. ``answer`` is what to say."""

    def __init__(self, code: DeclineCode) -> None:
        super().__init__(code.value)
        self.answer = STANDARD[code].answer()


@dataclass(frozen=True, slots=True)
class Request:
    """A POST: ``path`` below ``/v1/``, the fields of its form."""

    path: str
    fields: Mapping[str, str]


class Failure(msgspec.Struct, frozen=True):
    """An error, or the last one of a payment."""

    type: str = ""
    code: str | None = None
    decline_code: str | None = None
    param: str | None = None
    payment_intent: Any = None


class Redirect(msgspec.Struct, frozen=True):
    """Where the payer is to go."""

    url: str | None = None


class NextAction(msgspec.Struct, frozen=True):
    """What the payer is to do."""

    redirect_to_url: Redirect | None = None


class Intent(msgspec.Struct, frozen=True):
    """A payment, as much of it as counts here."""

    id: str
    object: Literal["payment_intent"]
    status: str
    amount: int
    currency: str
    capture_method: str = ""
    amount_received: int | None = None
    metadata: dict[str, str] | None = None
    next_action: NextAction | None = None
    last_payment_error: Failure | None = None

    @property
    def attempt_id(self) -> str:
        """Who made it; empty when it was not made here."""
        return (self.metadata or {}).get(MADE_BY, "")

    @property
    def captured_by(self) -> str:
        """The attempt that captured it."""
        return (self.metadata or {}).get(CAPTURED_BY, "")


class Refund(msgspec.Struct, frozen=True):
    """A refund."""

    id: str
    object: Literal["refund"]
    status: str
    amount: int
    currency: str
    payment_intent: str | None = None
    failure_reason: str | None = None
    metadata: dict[str, str] | None = None

    @property
    def attempt_id(self) -> str:
        """Who made it; empty when it was not made here."""
        return (self.metadata or {}).get(MADE_BY, "")


T = TypeVar("T", Intent, Refund)


class Page(msgspec.Struct, Generic[T], frozen=True):
    """A part of a list, the newest first."""

    data: list[T]
    has_more: bool


class _Error(msgspec.Struct, frozen=True):
    error: Failure


def request_of(call: Call, return_url: str = "") -> Request:
    """What to send. Raises :class:`RefusedError` for what Stripe can't be asked."""
    amount = str(stripe_amount(call.amount_minor, call.currency))
    match call.kind:
        case "payment" | "authorize":
            fields = {
                "amount": amount,
                "currency": call.currency.lower(),
                "payment_method": call.token,
                "payment_method_types[]": "card",
                "capture_method": "manual" if call.kind == "authorize" else "automatic",
                "confirm": "true",
                f"metadata[{MADE_BY}]": call.attempt_id,
            }
            if return_url:
                fields["return_url"] = return_url
            if call.challenge:
                if not return_url:
                    raise RefusedError(DeclineCode.UNSUPPORTED)
                fields["payment_method_options[card][request_three_d_secure]"] = "any"
            return Request("payment_intents", fields)
        case "capture":
            fields = {"amount_to_capture": amount, f"metadata[{CAPTURED_BY}]": call.attempt_id}
            return Request(f"payment_intents/{original(call)}/capture", fields)
        case "void":
            return Request(f"payment_intents/{original(call)}/cancel", {})
        case "refund":
            fields = {"payment_intent": original(call), "amount": amount, f"metadata[{MADE_BY}]": call.attempt_id}
            return Request("refunds", fields)


def original(call: Call) -> str:
    """The payment that a call is about, safe in a path. Raises :class:`RefusedError`."""
    if not call.original_reference.startswith("pi_"):
        raise RefusedError(DeclineCode.INVALID_REQUEST)
    return reference(call.original_reference)


def reference(text: str) -> str:
    """Stripe's id of something, safe in a path. Raises :class:`RefusedError` when it is none."""
    if not _REFERENCE.match(text):
        raise RefusedError(DeclineCode.INVALID_REQUEST)
    return text


def idempotency_key(attempt_id: str) -> str:
    """The attempt id, or a hash of one that a header cannot hold."""
    if attempt_id.isascii() and attempt_id.isprintable() and len(attempt_id) <= KEY_MAX:
        return attempt_id
    return blake2b(attempt_id.encode(), digest_size=32).hexdigest()


def search_query(attempt_id: str) -> str:
    """What finds a payment by its attempt id, in Stripe's search language."""
    value = attempt_id.replace("\\", "\\\\").replace("'", "\\'")
    return f"metadata['{MADE_BY}']:'{value}'"


def stripe_amount(amount_minor: int, currency: str) -> int:
    """``amount_minor`` as Stripe counts: 500 for 5 ISK. Raises :class:`RefusedError`, also for what Stripe would round."""
    try:
        units = minor_units(currency)
    except UnknownCurrencyError:
        raise RefusedError(DeclineCode.CURRENCY_NOT_SUPPORTED) from None
    ours, theirs = int(10**units), int(10 ** DECIMALS.get(currency, units))
    amount, left = divmod(amount_minor * theirs, ours)
    # Three decimals: the last one has to be 0.
    if left or (units == 3 and amount % 10):
        raise RefusedError(DeclineCode.INVALID_AMOUNT)
    return amount


def decided(call: Call, status: int, headers: Mapping[str, str], body: bytes) -> Answer:
    """What an answer to :func:`request_of` says. Whatever is not Stripe's plain word is unknown."""
    if status == 429:
        return Answer("unsent", DeclineCode.TRY_AGAIN_LATER.value, retry_after_s=_retry_after_s(headers))
    try:
        if status == 200:
            if call.kind == "refund":
                return of_refund(call, msgspec.json.decode(body, type=Refund))
            return of_intent(call, msgspec.json.decode(body, type=Intent))
        if status in REFUSALS:
            return _refused(msgspec.json.decode(body, type=_Error).error)
    except (msgspec.DecodeError, UnicodeDecodeError):
        pass
    return UNKNOWN


def of_intent(call: Call, intent: Intent) -> Answer:
    """What a payment says of a call of any kind but a refund."""
    amount = stripe_amount(call.amount_minor, call.currency)
    if not _REFERENCE.match(intent.id) or intent.currency != call.currency.lower():
        return UNKNOWN
    done = Answer("succeeded", "", intent.id)
    if call.kind in ("capture", "void"):
        if intent.id != call.original_reference:
            return UNKNOWN
        if call.kind == "void":
            return done if intent.status == "canceled" else UNKNOWN
        by_it = intent.captured_by == call.attempt_id and intent.amount_received in (amount, None)
        return done if by_it and intent.status == "succeeded" else UNKNOWN
    by_hand = intent.capture_method == "manual"
    if (intent.attempt_id, intent.amount, by_hand) != (call.attempt_id, amount, call.kind == "authorize"):
        return UNKNOWN
    return state_of(intent)


def state_of(intent: Intent) -> Answer:
    """How far a payment or an authorization is."""
    if not _REFERENCE.match(intent.id):
        return UNKNOWN
    match intent.status:
        case "succeeded":
            return Answer("succeeded", "", intent.id)
        case "requires_capture" if intent.capture_method == "manual":
            return Answer("succeeded", "", intent.id)
        case "processing":
            return Answer("pending", "processing", intent.id)
        case "requires_action":
            url = _action_url(intent.next_action)
            return Answer("requires_action" if url else "pending", "authentication_required", intent.id, action_url=url)
        case "requires_payment_method" if intent.last_payment_error is not None:
            return meaning_of(intent.last_payment_error).answer(intent.id)
        case "canceled":
            return OTHER.answer(intent.id)
    return UNKNOWN


def of_refund(call: Call, refund: Refund) -> Answer:
    """What a refund says of a call."""
    amount = stripe_amount(call.amount_minor, call.currency)
    asked = (call.original_reference, call.attempt_id, amount, call.currency.lower())
    if (refund.payment_intent, refund.attempt_id, refund.amount, refund.currency) != asked:
        return UNKNOWN
    return state_of_refund(refund)


def state_of_refund(refund: Refund) -> Answer:
    """How far a refund is."""
    if not _REFERENCE.match(refund.id):
        return UNKNOWN
    match refund.status:
        case "succeeded":
            return Answer("succeeded", "", refund.id)
        case "failed" | "canceled":
            return DECLINES.get(refund.failure_reason or "", OTHER).answer(refund.id)
        case "pending" | "requires_action":
            return Answer("pending", "processing", refund.id)
    return UNKNOWN


def meaning_of(failure: Failure) -> Meaning:
    """A decline. A ``decline_code`` is the issuer's own word: one that we do not know is not guessed from the rest."""
    if failure.type == "idempotency_error":
        return STANDARD[DeclineCode.DUPLICATE]
    known = DECLINES.get(failure.decline_code or failure.code or "")
    if known is not None or failure.decline_code:
        return known or OTHER
    if failure.param in ("amount", "amount_to_capture"):
        return STANDARD[DeclineCode.INVALID_AMOUNT]
    if failure.param == "currency":
        return STANDARD[DeclineCode.CURRENCY_NOT_SUPPORTED]
    return STANDARD[DeclineCode.INVALID_REQUEST] if failure.type == "invalid_request_error" else OTHER


def never_got(status: int, body: bytes) -> bool:
    """Whether Stripe itself says that there is no such thing; a 404 of a proxy says nothing."""
    try:
        return status == 404 and msgspec.json.decode(body, type=_Error).error.code == "resource_missing"
    except (msgspec.DecodeError, UnicodeDecodeError):
        return False


def never_done(call: Call, intent: Intent) -> bool:
    """Whether the payment itself shows that it was never captured, or voided, by this call."""
    if intent.id != call.original_reference:
        return False
    if call.kind == "capture":
        return intent.captured_by != call.attempt_id
    return intent.status not in ("canceled", "processing")


def _refused(failure: Failure) -> Answer:
    if failure.type in ("authentication_error", "invalid_grant"):
        return STANDARD[DeclineCode.NOT_PERMITTED].answer()
    if failure.type not in ("card_error", "invalid_request_error", "idempotency_error"):
        return UNKNOWN
    named = failure.payment_intent.get("id") if isinstance(failure.payment_intent, dict) else None
    return meaning_of(failure).answer(named if isinstance(named, str) and _REFERENCE.match(named) else "")


def _action_url(action: NextAction | None) -> str:
    url = (action.redirect_to_url.url if action is not None and action.redirect_to_url is not None else None) or ""
    if len(url) > ACTION_URL_MAX or not url.isascii() or not url.isprintable() or " " in url:
        return ""
    try:
        parts = urlsplit(url)
    except ValueError:
        return ""
    return url if parts.scheme == "https" and parts.hostname else ""


def _retry_after_s(headers: Mapping[str, str]) -> float:
    said = headers.get("Retry-After", "")
    return min(float(said), RETRY_AFTER_MAX_S) if said.isascii() and said.isdigit() else 0.0
