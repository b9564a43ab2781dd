"""What must be true after the pipeline has handled posts, recounted from their bytes alone: no rule, no outcome."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from connectors.demo.stream import Post
from schemas.codec import Codec, UndecodableError
from schemas.limits import VALUE_BYTES_MAX
from schemas.records import PaymentRequested


def expected(posts: Iterable[Post], codec: Codec | None = None) -> dict[str, Any]:
    """Recount ``posts``, in the order in which they were posted. JSON data:

    ``posts``; ``payments``, how many different (tenant, payment id) must each have one outcome; ``repeats``, posts that
    ask the same again; ``conflicts``, the sorted [tenant, payment id] that another request contradicts;
    ``conflicting_requests``, how many different requests must be refused for it; ``dead_letters``, posts that are none
    of these. ``payments_of`` gives the number of payments by tenant.
    """
    decode = (codec or Codec()).decoder(PaymentRequested)
    first: dict[tuple[str, str], bytes] = {}
    contradicting: set[tuple[tuple[str, str], bytes]] = set()
    total = repeats = dead_letters = 0
    payments_of: dict[str, int] = {}
    for post in posts:
        total += 1
        if post.topic_key is None or not post.value or len(post.value) > VALUE_BYTES_MAX:
            dead_letters += 1
            continue
        try:
            request = decode(post.value)
        except UndecodableError:
            dead_letters += 1
            continue
        payment = (request.tenant, request.payment_id)
        if payment not in first:
            first[payment] = post.value
            payments_of[request.tenant] = payments_of.get(request.tenant, 0) + 1
        elif first[payment] == post.value:
            repeats += 1
        else:
            contradicting.add((payment, post.value))
    return {
        "posts": total,
        "payments": len(first),
        "payments_of": dict(sorted(payments_of.items())),
        "repeats": repeats,
        "conflicts": sorted([list(payment) for payment in {payment for payment, _ in contradicting}]),
        "conflicting_requests": len(contradicting),
        "dead_letters": dead_letters,
    }
