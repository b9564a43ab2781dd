"""What the audit tables tell of reviews: which are open, and one payment's with what led to them."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from connectors.privacy.reading import READ_COLUMNS, RowReader
from connectors.sinks.database import Database

#: No review is open for longer: the longest that a tenant may configure is 30 days, and two for clocks and delays.
OPEN_MS_MAX = 32 * 24 * 60 * 60 * 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenReview:
    """A payment that waits for a decision."""

    tenant: str
    payment_id: str
    stage: str
    reason: str
    detail: str
    amount_minor: int
    currency: str
    opened_at_ms: int
    due_at_ms: int
    at_expiry: str


def open_reviews(
    database: Database, *, now_ms: int, tenant: str = "", payment_id: str = "", stage: str = "", limit: int = 1_000
) -> list[OpenReview]:
    """Reviews without an end, the one that is due first first; of one tenant, payment and stage where these are given."""
    wanted = {"tenant": tenant, "payment_id": payment_id}
    named = {column: value for column, value in wanted.items() if value}
    conditions = "".join(f" AND o.{column} = ?" for column in named)
    rows = database.query(
        "SELECT CAST(o.payload AS TEXT) FROM payment_events o WHERE o.stage = 'reviews' AND o.outcome = 'referred'"  # noqa: S608
        f" AND o.recorded_at_ms > ?{conditions} AND NOT EXISTS (SELECT 1 FROM payment_events e"
        f" WHERE {database.same_payment('e', 'o')} AND e.event_id = o.event_id || '|ended')",
        (now_ms - OPEN_MS_MAX, *named.values()),
    )
    found = [_open_review(json.loads(text)) for (text,) in rows]
    chosen = [review for review in found if stage in ("", review.stage)]
    return sorted(chosen, key=lambda review: (review.due_at_ms, review.tenant, review.payment_id))[:limit]


def _open_review(payload: dict[str, Any]) -> OpenReview:
    return OpenReview(**{name: payload[name] for name in OpenReview.__slots__})


def screened_of(
    database: Database, tenant: str, payment_id: str, reader: RowReader | None = None
) -> dict[str, Any] | None:
    """Screening's first event about a payment, as JSON data with the PTR: personal data, as far as ``reader`` opens it and it
    was not erased. None when there is no such event."""
    rows = database.query(
        f"SELECT {READ_COLUMNS.format('e')} FROM payment_events e"  # noqa: S608
        f" WHERE {database.events_of('e')} AND e.event_id = 'screening'",
        (tenant, payment_id),
    )
    return (reader or RowReader(database)).read(rows[0]).data if rows else None


def evidence_of(
    database: Database, tenant: str, payment_id: str, reader: RowReader | None = None
) -> dict[str, Any] | None:
    """Screening's evidence about a payment, with both names: personal data, for who decides. As :func:`screened_of`."""
    evidence: dict[str, Any] | None = (screened_of(database, tenant, payment_id, reader) or {}).get("evidence")
    return evidence
