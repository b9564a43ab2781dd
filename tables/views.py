"""How rows look to a person and to a program: plain data from a row, and a readable page from plain data. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from html import escape
from typing import Any

import msgspec

from pipeline.stages.attempts import Attempts
from pipeline.stages.features import PAYEE_FEATURES, PAYER_FEATURES
from pipeline.stages.life import standing
from pipeline.stages.profiles import (
    HOUR_MS,
    PAYER_WINDOWS,
    PayeeProfile,
    PayerProfile,
    payee_features,
    payer_windows,
)
from pipeline.stages.reviews import Reviews
from schemas.identity import party_key, payee_key, payer_key, payment_key
from tables import attempts, parties, payments, profiles, reviews
from tables.parties import PartyRow
from tables.payments import PaymentRow

#: Buckets shown, newest first.
BUCKETS_SHOWN_MAX = 72


def _iso(at_ms: int) -> str:
    return datetime.fromtimestamp(at_ms / 1000, UTC).isoformat(timespec="milliseconds") if at_ms else ""


def payment_view(row: PaymentRow) -> dict[str, Any]:
    """What screening keeps of a payment."""
    return {"outcome": row.outcome, "reason": row.reason, "content_hash": row.content.hex(), "version": row.version}


def attempts_view(row: Attempts) -> dict[str, Any]:
    """Where a payment stands, and its captures, voids and refunds. Not the instrument's token: nobody needs it here."""
    hidden = ("queued", "early", "earlier", "token", "life")
    shown = {
        name: _iso(value) if name.endswith("_at_ms") else value
        for name in row.__struct_fields__
        if name not in hidden and (value := getattr(row, name)) is not None
    }
    life = standing(row)
    amounts = {name: getattr(life, name) for name in ("authorized_minor", "captured_minor", "refunded_minor")}
    operations = [
        {
            "operation": one.operation_id,
            "kind": one.kind,
            "amount_minor": one.asked_minor or one.amount_minor,
            "state": one.state or "waiting",
            "outcome": one.outcome,
            "reason": one.reason,
            "detail": one.detail,
            "attempt": one.attempt,
            "ask": one.ask,
            "requested_at": _iso(one.requested_at_ms),
            "ended_at": _iso(one.ended_at_ms),
        }
        for one in life.operations
    ]
    return shown | {"status": str(life.status), **amounts, "operations": operations}


def reviews_view(row: Reviews) -> dict[str, Any]:
    """What waits for a person and until when, and how earlier reviews ended. Not the event: it holds names."""
    return {
        "version": row.version,
        "due_at": _iso(row.due_at_ms),
        "reviews": [
            {
                "stage": review.stage,
                "state": review.result or "open",
                "opened_at": _iso(review.opened_at_ms),
                "due_at": _iso(review.due_at_ms),
                "at_expiry": review.at_expiry,
                "decision": review.decision,
                "by": review.by,
                "decided_at": _iso(review.decided_at_ms),
            }
            for review in row.reviews
        ],
    }


def _profile_view(
    row: PayerProfile | PayeeProfile, names: tuple[str, ...], facts: list[int], **columns: list[int]
) -> dict[str, Any]:
    columns = {"count": row.counts, "amount_minor": row.amounts, "small": row.smalls} | columns
    # Newest first; a row of an earlier version lacks the newer columns.
    buckets = [
        {"hour": _iso(row.hours[at] * HOUR_MS)}
        | {name: column[at] if len(column) == len(row.hours) else 0 for name, column in columns.items()}
        for at in range(len(row.hours) - 1, max(len(row.hours) - 1 - BUCKETS_SHOWN_MAX, -1), -1)
    ]
    return {
        "version": row.version,
        "newest_hour": _iso(_newest_ms(row)),
        "features_at_newest_hour": dict(zip(names, facts, strict=True)),
        "buckets_total": len(row.hours),
        "buckets": buckets,
    }


def _newest_ms(row: PayerProfile | PayeeProfile) -> int:
    return row.hours[-1] * HOUR_MS if row.hours else 0


def payer_view(row: PayerProfile) -> dict[str, Any]:
    """A payer's buckets and facts, but for those that are about one payment."""
    return _profile_view(row, PAYER_FEATURES[:PAYER_WINDOWS], payer_windows(row, _newest_ms(row)))


def payee_view(row: PayeeProfile) -> dict[str, Any]:
    """A payee's buckets and facts."""
    facts = payee_features(row, _newest_ms(row))
    return _profile_view(row, PAYEE_FEATURES, facts, chargebacks=row.chargebacks, new_payers=row.new_payers)


def party_view(row: PartyRow) -> dict[str, Any]:
    """What is known of a party, but for its name and birth date: nobody needs them here."""
    flagged = [dict(zip(("list", "version", "entry"), mark.split(":", 2), strict=True)) for mark in row.flagged]
    return {"version": row.version, "country": row.country, "seen_at": _iso(row.seen_at_ms), "flagged": flagged}


class View(msgspec.Struct, frozen=True):
    """One table as the web shows it."""

    about: str
    changelog: str
    #: Names of the parts of the path that make the key.
    parts: tuple[str, ...]
    key_of: Callable[..., bytes]
    show: Callable[[Any], dict[str, Any]]


def _payee_key(tenant: str, creditor_id: str, terminal_id: str = "") -> bytes:
    return payee_key(tenant, creditor_id, terminal_id)


VIEWS: Mapping[str, View] = {
    payments.NAME: View(
        "what was asked under a payment id", payments.CHANGELOG, ("tenant", "payment"), payment_key, payment_view
    ),
    attempts.NAME: View(
        "where a payment stands", attempts.CHANGELOG, ("tenant", "payment"), payment_key, attempts_view
    ),
    reviews.NAME: View(
        "a payment's reviews: waiting, or how they ended",
        reviews.CHANGELOG,
        ("tenant", "payment"),
        payment_key,
        reviews_view,
    ),
    profiles.PAYERS: View(
        "a payer's hourly buckets", profiles.PAYERS_CHANGELOG, ("tenant", "debtor"), payer_key, payer_view
    ),
    profiles.PAYEES: View(
        "a payee's hourly buckets",
        profiles.PAYEES_CHANGELOG,
        ("tenant", "creditor", "[terminal]"),
        _payee_key,
        payee_view,
    ),
    parties.NAME: View(
        "a known party, and which list entries it was flagged for",
        parties.CHANGELOG,
        ("tenant", "party"),
        party_key,
        party_view,
    ),
}

_STYLE = (
    "body{font:15px/1.5 system-ui,sans-serif;margin:2rem auto;max-width:60rem;padding:0 1rem;color:#222;background:#fff}"
    "table{border-collapse:collapse;margin:.3rem 0}td,th{border:1px solid #ccc;padding:.2rem .6rem;text-align:left;"
    "vertical-align:top}th{background:#f4f4f4;font-weight:600}h1{font-size:1.3rem}code{background:#f4f4f4}"
)


def page(title: str, data: Any) -> str:
    """A plain page: every value escaped, no script."""
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(title)}</title><style>{_STYLE}</style></head>"
        f"<body><main><h1>{escape(title)}</h1>{_render(data)}</main></body></html>"
    )


def _render(data: Any) -> str:
    if isinstance(data, Mapping):
        rows = "".join(f'<tr><th scope="row">{escape(str(k))}</th><td>{_render(v)}</td></tr>' for k, v in data.items())
        return f"<table>{rows}</table>"
    if isinstance(data, list | tuple):
        if data and all(isinstance(item, Mapping) for item in data):
            columns = list(data[0])
            head = "".join(f'<th scope="col">{escape(str(column))}</th>' for column in columns)
            body = "".join(
                "<tr>" + "".join(f"<td>{_render(item.get(column, ''))}</td>" for column in columns) + "</tr>"
                for item in data
            )
            return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"
        return escape(", ".join(str(item) for item in data)) or "&mdash;"
    return escape(str(data)) if data not in (None, "") else "&mdash;"


def style_source() -> str:
    """The page's style, for a Content-Security-Policy hash."""
    return _STYLE
