"""Notifications of the simulated PIC: JSON, signed with HMAC-SHA-256 over time and body, in the way of Stripe's."""

from __future__ import annotations

import hmac
import re
from typing import Final

import msgspec

from connectors.pic.base import Answer, Notice, NotificationError, Notified

HEADER: Final = "simulator-signature"
_SIGNATURE: Final = re.compile(r"t=(\d{1,12}),v1=([0-9a-f]{64})\Z")


class Event(msgspec.Struct, frozen=True, kw_only=True):
    """What a notification's body holds."""

    id: str
    attempt_id: str
    occurred_at_ms: int
    answer: Answer


def signed(body: bytes, secret: str, now_s: int) -> Notice:
    """``body`` as the PIC sends it at ``now_s``."""
    headers = {HEADER: f"t={now_s},v1={_signature(body, secret, str(now_s))}"}
    return Notice(headers=headers, body=body, received_at_s=float(now_s))


def parse(notice: Notice, secret: str) -> list[Notified]:
    """What the PIC says in it. Raises :class:`NotificationError`."""
    found = _SIGNATURE.match(notice.headers.get(HEADER, ""))
    if not secret or found is None or not hmac.compare_digest(_signature(notice.body, secret, found[1]), found[2]):
        raise NotificationError("bad_signature")
    notice.check_time(float(found[1]))
    try:
        event = msgspec.json.decode(notice.body, type=Event)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        raise NotificationError("malformed") from None
    return [
        Notified(
            event_id=event.id, attempt_id=event.attempt_id, answer=event.answer, occurred_at_ms=event.occurred_at_ms
        )
    ]


def _signature(body: bytes, secret: str, signed_at: str) -> str:
    return hmac.new(secret.encode(), signed_at.encode() + b"." + body, "sha256").hexdigest()
