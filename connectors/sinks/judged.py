"""Scored payments with what became known of them, out of the audit tables: the one reader of labels.

Read in pages of payments, in the order of their ids, so memory does not grow with the tables.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import groupby
from typing import Any, Final

import msgspec

from connectors.privacy.reading import READ_COLUMNS, Read, RowReader
from connectors.sinks.database import Database
from pipeline.stages.labels import Evidence, Label, Source, is_fraud, label_of, of_dispute, of_review
from schemas.reasons import WENT_THROUGH

#: Payments whose events are asked for at once.
PAGE_PAYMENTS: Final = 500

#: The first decision of fraud has this event id; one that a review gave has another.
_SCORED_ID: Final = "payee"
_PAGE = (
    "SELECT tenant, payment_id FROM payments WHERE (tenant, payment_id) > (?, ?) AND tenant <= ?"
    " AND requested_at_ms >= ? AND requested_at_ms < ? ORDER BY tenant, payment_id LIMIT ?"
)
#: Sorts after every tenant.
_LAST_TENANT: Final = "~"


class Hit(msgspec.Struct, frozen=True):
    """A rule that fired, as the event has it."""

    rule: str
    value: float
    limit: float
    weight: float
    snoozed: bool = False


class Scored(msgspec.Struct, frozen=True):
    """What ``payments.scored.v1`` said of a payment."""

    requested_at_ms: int
    amount_minor: int
    currency: str
    score: float
    payer_features: list[int]
    payee_features: list[int]
    token: str
    rule_hits: list[Hit] = []
    rule_score: float = 0.0
    model: str = ""
    model_score: float = 0.0
    challenger: str = ""
    challenger_score: float = 0.0


class Judged(msgspec.Struct, frozen=True):
    """A scored payment and its label. ``outcome`` is fraud's own decision, before any review."""

    tenant: str
    payment_id: str
    outcome: str
    scored: Scored
    label: Label


class _Dispute(msgspec.Struct, frozen=True):
    charged_back_at_ms: int
    reason: str = "fraud"
    kind: str = Source.CHARGEBACK.value


class _Review(msgspec.Struct, frozen=True):
    stage: str
    decision: str
    result: str
    decided_at_ms: int
    ignored: str = ""


_scored = msgspec.json.Decoder(Scored)
_dispute = msgspec.json.Decoder(_Dispute)
_review = msgspec.json.Decoder(_Review)


def judged_payments(
    database: Database,
    *,
    tenant: str = "",
    from_ms: int,
    until_ms: int,
    as_of_ms: int,
    reader: RowReader | None = None,
) -> Iterator[Judged]:
    """Scored payments that were requested in [from_ms, until_ms), of one tenant or of all, with what was known of them at
    ``as_of_ms``; in the order of their ids. A token that is sealed, for ``reader`` too, has a stand-in, the same for all
    payments of a payer. Raises ``DatabaseError`` and what ``reader`` raises.
    """
    read = (reader or RowReader(database)).read
    rows = _rows(database, tenant, from_ms, until_ms)
    for (owner, payment_id), events in groupby(rows, key=lambda row: row[:2]):
        judged = _judged(owner, payment_id, events, as_of_ms, read)
        if judged is not None:
            yield judged


def _events_sql(database: Database) -> str:
    """What is told of a page of payments, from one tenant and payment to another, requested from one time until another."""
    return (
        "SELECT e.tenant, e.payment_id, e.event_id, e.stage, e.outcome, e.reason, e.recorded_at_ms,"  # noqa: S608
        f" {READ_COLUMNS.format('e')}"
        f" FROM payments p JOIN payment_events e ON {database.is_about('e', 'p')}"
        " WHERE (p.tenant, p.payment_id) >= (?, ?) AND (p.tenant, p.payment_id) <= (?, ?)"
        " AND p.requested_at_ms >= ? AND p.requested_at_ms < ?"
        " AND e.stage IN ('payee', 'settlement', 'chargeback', 'reviews') AND e.outcome <> 'dead_letter'"
        " ORDER BY p.tenant, p.payment_id, e.event_id"
    )


def _rows(database: Database, tenant: str, from_ms: int, until_ms: int) -> Iterator[tuple[Any, ...]]:
    after, events_sql = (tenant, ""), _events_sql(database)
    while True:
        page = database.query(_PAGE, (*after, tenant or _LAST_TENANT, from_ms, until_ms, PAGE_PAYMENTS))
        if page:
            # Of one payment there may be any number of events.
            yield from database.stream(events_sql, (*page[0], *page[-1], from_ms, until_ms))
        if len(page) < PAGE_PAYMENTS:
            return
        after = page[-1]


def _judged(
    tenant: str,
    payment_id: str,
    events: Iterator[tuple[Any, ...]],
    as_of_ms: int,
    read: Callable[[tuple[Any, ...]], Read],
) -> Judged | None:
    scored: Scored | None = None
    decided, went_through = "", False
    evidence: dict[tuple[Source, bool], Evidence] = {}
    for _, _, event_id, stage, outcome, _, _, *stored in events:
        payload = stored[-1]
        if not payload:
            continue
        if event_id == _SCORED_ID:
            event = read(tuple(stored))
            scored, decided = _scored.decode(event.payload or payload), outcome
            if event.stand_in and not scored.token:
                scored = msgspec.structs.replace(scored, token=event.stand_in)
        elif stage == "settlement":
            went_through = went_through or outcome in WENT_THROUGH
        else:
            found = _disputed(payload) if stage == "chargeback" else _reviewed(payload)
            if found is not None:
                # The earliest of each kind is enough, and there may be any number of them.
                kind = found.source, is_fraud(found.reason)
                if kind not in evidence or found.at_ms < evidence[kind].at_ms:
                    evidence[kind] = found
    if scored is None:
        return None
    label = label_of(evidence.values(), paid_at_ms=scored.requested_at_ms, went_through=went_through, as_of_ms=as_of_ms)
    return Judged(tenant, payment_id, decided, scored, label)


def _disputed(payload: str) -> Evidence | None:
    read = _dispute.decode(payload)
    return of_dispute(read.kind, read.reason, read.charged_back_at_ms)


def _reviewed(payload: str) -> Evidence | None:
    try:
        read = _review.decode(payload)
    except msgspec.ValidationError:  # another event of reviews
        return None
    return of_review(read.stage, read.decision, read.result, read.ignored, read.decided_at_ms)
