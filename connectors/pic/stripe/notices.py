"""Stripe's webhooks: who signed them, and what they tell. Pure.

``Stripe-Signature: t=<seconds>,v1=<hex>[,v1=<hex>]``: HMAC-SHA256 of ``<seconds>.<body>`` under the endpoint's secret. While a
secret is replaced Stripe signs with both, and we believe each of ours.
"""

from __future__ import annotations

import hmac
from collections.abc import Sequence
from hashlib import sha256
from typing import Annotated, Any, Final, Literal

import msgspec

from connectors.pic.base import UNKNOWN, Answer, Notice, NotificationError, Notified
from connectors.pic.stripe.mapping import Intent, Refund, state_of, state_of_refund

#: Far more than an event has.
NOTICE_BYTES_MAX: Final = 1 << 20
#: A header has one signature for each secret.
SIGNATURES_MAX: Final = 16
#: Stripe's times are whole seconds: of one second, what is further on is the later one.
_FURTHER: Final = {"pending": 0, "requires_action": 1, "declined": 2, "succeeded": 3}


class _Data(msgspec.Struct, frozen=True):
    object: dict[str, Any]


class _Event(msgspec.Struct, frozen=True):
    id: Annotated[str, msgspec.Meta(min_length=1)]
    object: Literal["event"]
    type: str
    created: int
    data: _Data


def told(notice: Notice, secrets: Sequence[str]) -> list[Notified]:
    """What a webhook tells of what we made. Raises :class:`NotificationError`."""
    _believe(notice, secrets)
    try:
        event = msgspec.json.decode(notice.body, type=_Event)
        if event.type.startswith("payment_intent."):
            intent = msgspec.convert(event.data.object, type=Intent)
            # Of one that was let go of it is not said by whom: a look-up tells.
            answer = UNKNOWN if intent.status == "canceled" else state_of(intent)
            attempts = {intent.attempt_id, intent.captured_by if intent.status == "succeeded" else ""}
        elif event.type.startswith(("refund.", "charge.refund.")):
            refund = msgspec.convert(event.data.object, type=Refund)
            answer, attempts = state_of_refund(refund), {refund.attempt_id}
        else:
            return []
    except (msgspec.DecodeError, UnicodeDecodeError):
        raise NotificationError("malformed") from None
    return [_notified(event, attempt, answer) for attempt in sorted(attempts) if attempt and answer != UNKNOWN]


def _notified(event: _Event, attempt_id: str, answer: Answer) -> Notified:
    return Notified(
        event_id=event.id,
        attempt_id=attempt_id,
        answer=answer,
        occurred_at_ms=event.created * 1_000 + _FURTHER[answer.outcome],
    )


def _believe(notice: Notice, secrets: Sequence[str]) -> None:
    items = [item.partition("=") for item in notice.headers.get("stripe-signature", "").split(",")]
    times = [value for name, _, value in items if name.strip() == "t"]
    signatures = [value.strip() for name, _, value in items if name.strip() == "v1"][:SIGNATURES_MAX]
    if len(times) != 1 or not (times[0].isascii() and times[0].isdigit()) or len(times[0]) > 12:
        raise NotificationError("bad_signature")
    if len(notice.body) > NOTICE_BYTES_MAX:
        raise NotificationError("malformed")
    signed = times[0].encode() + b"." + notice.body
    right = [hmac.new(secret.encode(), signed, sha256).hexdigest() for secret in secrets]
    if not any(hmac.compare_digest(ours.encode(), theirs.encode()) for ours in right for theirs in signatures):
        raise NotificationError("bad_signature")
    notice.check_time(float(times[0]))
