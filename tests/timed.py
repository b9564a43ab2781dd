"""Payments as the audit tables have them: records with the times at which they were written, in an SQLite file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from connectors.sinks.database import Batch, Database, open_database
from connectors.sinks.rows import EventRow, Mapper, state_of
from pipeline import topics
from schemas.codec import Codec, encode_request
from schemas.records import (
    PaymentAnswered,
    PaymentCompleted,
    PaymentLocalized,
    PaymentProfiled,
    PaymentQueued,
    PaymentScored,
    PaymentScreened,
    Record,
    ReviewAnswered,
    ReviewOpened,
)
from tests.builders import a_request

CODEC = Codec()
TRACE = "0af7651916cd43dd8448eb211c80319c"
CONTEXT = "b7ad6b7169203331-01;rojo=1"
#: When the PTR was received.
RECEIVED_MS = 1_760_000_000_000
_TOPICS: dict[type[Record], str] = {
    PaymentScreened: topics.SCREENED.name,
    PaymentLocalized: topics.LOCALIZED.name,
    PaymentProfiled: topics.PROFILED.name,
    PaymentScored: topics.SCORED.name,
    PaymentQueued: topics.queue("simulator").name,
    PaymentAnswered: topics.ANSWERED.name,
    PaymentCompleted: topics.COMPLETED.name,
    ReviewOpened: topics.REVIEWS_OPENED.name,
    ReviewAnswered: topics.REVIEWS_ANSWERED.name,
}
_OUTCOMES: dict[type[Record], str] = {
    PaymentScreened: "clear",
    PaymentLocalized: "accepted",
    PaymentProfiled: "profiled",
    PaymentScored: "approved",
    PaymentCompleted: "paid",
    PaymentAnswered: "paid",
}

#: Milliseconds after the PTR was received, and what was written then.
Timed = tuple[int, Record]


def said(record: type[Record], **named: Any) -> Any:
    """A record about the payment ``pay_1`` of ``aurora``, as its stage writes it."""
    fields: dict[str, Any] = {
        "event_id": "aurora|pay_1|completed",
        "sender_partition": 0,
        "sender_offset": 0,
        "rule_version": 1,
        "outcome": _OUTCOMES.get(record, ""),
        "fee_minor": 7,
        "pic": "simulator",
        "payer_features": [],
        "payee_features": [],
        "score": 0.0,
        "score_reasons": [],
        "attempt": 1,
        "ask": 0,
        "not_before_ms": 0,
        "requested_at_ms": RECEIVED_MS,
        "amount_minor": 1250,
        "tenant": "aurora",
        "payment_id": "pay_1",
        "creditor_id": "c1",
        "currency": "EUR",
        "debtor_id": "d1",
        "country": "DE",
        "method": "card",
        "token": "tok_1",
        "received_at_ms": RECEIVED_MS,
        "trace_id": TRACE,
        "trace_context": CONTEXT,
        "stage": "plugin",
        "called": True,
        "answered_at_ms": RECEIVED_MS,
        "request": encode_request(a_request()),
    }
    return record(**{name: value for name, value in (fields | named).items() if name in record.__struct_fields__})


def called(at_ms: int, took_ms: int, **named: Any) -> PaymentAnswered:
    """An answer to a call made ``at_ms`` after the PTR was received."""
    times = {"called_at_ms": RECEIVED_MS + at_ms, "call_ms": took_ms}
    answer: PaymentAnswered = said(PaymentAnswered, **times, **named)
    return answer


def paid_after_a_retry() -> list[Timed]:
    """10 ms a stage; waits 20 ms in the queue; the first call is lost after 500 ms, the look-up 1 s later takes 30 ms."""
    asked = {"ask": 1, "not_before_ms": RECEIVED_MS + 1585}
    return [
        (10, said(PaymentScreened)),
        (20, said(PaymentLocalized)),
        (30, said(PaymentProfiled)),
        (40, said(PaymentScored)),
        (50, said(PaymentQueued)),
        (575, called(70, 500, outcome="pending", reason="pic_answer_unknown")),
        (585, said(PaymentQueued, **asked)),
        (1625, called(1590, 30, ask=1, called=False)),
        (1640, said(PaymentCompleted)),
    ]


def write(database: Database, events: list[Timed], *, offset: int = 0) -> list[EventRow]:
    """Write ``events`` in one transaction, at the next offsets of one partition."""
    mapper = Mapper(CODEC)
    rows = [
        mapper.columns(_TOPICS.get(type(record), "t"), 0, offset + place, RECEIVED_MS + at_ms, CODEC.encode(record))
        for place, (at_ms, record) in enumerate(events)
    ]
    payments: dict[Any, list[Any]] = {}
    for row in rows:
        payments.setdefault(row[:2], []).append(row)
    states = [state for told in payments.values() if (state := state_of(told, mapper.record_of)) is not None]
    database.write(Batch(rows, states, {("t", 0): (offset or None, offset + len(rows))}))
    return [EventRow._make(row) for row in rows]


def new_database(folder: Path, *events: Timed) -> Database:
    """A new database with ``events``; close it."""
    folder.mkdir(parents=True, exist_ok=True)
    database = open_database(f"sqlite:///{folder}/audit.db", create=True)
    database.migrate()
    if events:
        write(database, list(events))
    return database
