"""What the audit tables tell: one payment's story, the outcomes, and whether the rows add up."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from connectors.privacy.reading import RowReader
from connectors.sinks.archives import checked_rows, files_of, in_files
from connectors.sinks.database import STATE_COLUMNS, Database
from connectors.sinks.proving import place_in_story, rows_here
from connectors.sinks.rows import EventRow, PaymentState
from pipeline.stages import inventory, invoices
from pipeline.stages.fraud_library import LIBRARY
from pipeline.stages.fraud_rules import describe

#: Examples that a check names of each kind.
EXAMPLES_MAX = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class StoryEvent:
    """One event of a payment, in the order of the story."""

    event_id: str
    sequence: int
    stage: str
    outcome: str
    reason: str
    rule_version: int | None
    #: Ids of the business rules that decided, in localization's event: those that applied, or the one that rejected.
    rules: list[str]
    trace_id: str | None
    #: What else is worth a glance; no personal data.
    detail: str
    topic: str
    partition: int
    offset: int
    recorded_at_ms: int
    #: Since the event before; None for the first. Negative when Kafka's clocks disagree.
    since_previous_ms: int | None
    #: The record, without the PTR's bytes; None when it is not readable.
    payload: dict[str, Any] | None
    #: Whose data in it was erased, and whose is sealed because there is no master key here; empty in the record.
    erased: list[str]
    sealed: list[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Story:
    """All that the audit tables hold of one payment."""

    tenant: str
    payment_id: str
    #: Where it stands; None when no event said anything about it.
    payment: PaymentState | None
    events: list[StoryEvent]
    #: How many of its events are not among these but in which file of the archive.
    archived: dict[str, int] = field(default_factory=dict)

    @property
    def found(self) -> bool:
        """Whether anything is known."""
        return bool(self.events or self.archived)


@dataclass(frozen=True, slots=True, kw_only=True)
class Anomaly:
    """Rows that do not add up: how many payments, and some of them as (tenant, payment id)."""

    what: str
    count: int
    examples: list[tuple[str, str]]


@dataclass(frozen=True, slots=True, kw_only=True)
class CountCheck:
    """Counts of the audit tables, and what is wrong with them; nothing, when the sink has caught up and all is well."""

    payments: int
    events: int
    without_outcome: int
    #: Of them, those that wait for a person to decide.
    in_review: int
    unreadable: int
    #: Gaps in Kafka's log that expired before they were read.
    gaps: int
    anomalies: list[Anomaly]


def story(
    database: Database,
    tenant: str,
    payment_id: str,
    reader: RowReader | None = None,
    archive: Path | None = None,
) -> Story:
    """Everything about one payment, in order; ``found`` is False when there is nothing. ``reader`` opens what is sealed.

    Events in files are read from the folder ``archive``: raises :class:`~connectors.sinks.archives.ArchiveFileError` then.
    """
    read = (reader or RowReader(database)).read
    rows, elsewhere = rows_here(database, tenant, payment_id)
    files = files_of(database, tenant, elsewhere)
    if archive is not None and elsewhere:
        with checked_rows(database, archive, tenant, in_files(files)) as archived:
            rows += [archived.row((tenant, shard), leaf) for shard, leaf in elsewhere]
        files = {}
    events: list[StoryEvent] = []
    for *columns, _ in sorted(rows, key=place_in_story):
        row = EventRow._make(columns)
        told = read((row.tenant, row.topic, row.partition, row.offset, row.avro, row.payload))
        payload = told.data
        events.append(
            StoryEvent(
                event_id=row.event_id,
                sequence=row.sequence,
                stage=row.stage,
                outcome=row.outcome,
                reason=row.reason,
                rule_version=row.rule_version,
                rules=_rules_of(payload or {}) if row.stage == "localization" else [],
                trace_id=row.trace_id,
                detail=detail_of(row.outcome if row.outcome == "dead_letter" else row.stage, payload or {}),
                topic=row.topic,
                partition=row.partition,
                offset=row.offset,
                recorded_at_ms=row.recorded_at_ms,
                since_previous_ms=row.recorded_at_ms - events[-1].recorded_at_ms if events else None,
                payload=payload,
                erased=told.erased,
                sealed=told.sealed,
            )
        )
    found = database.query(
        f"SELECT {STATE_COLUMNS} FROM payments WHERE tenant = ? AND payment_id = ?",  # noqa: S608
        (tenant, payment_id),
    )
    payment = PaymentState(*found[0]) if found else None
    return Story(tenant=tenant, payment_id=payment_id, payment=payment, events=events, archived=files)


def iso(at_ms: int) -> str:
    """A time as people read it, to the second, UTC."""
    return datetime.fromtimestamp(at_ms / 1000, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def detail_of(stage: str, payload: dict[str, Any]) -> str:
    """A few words about an event: numbers, ids and reasons, never a name."""
    match stage:
        case "screening":
            evidence = payload.get("evidence")
            found = (
                f"{evidence['party']} ~ {evidence['list']} {evidence['entry_id']} {evidence['score']:.2f}"
                if evidence
                else ""
            )
            if evidence and evidence.get("exception_id"):
                found += " excepted"
            parts = [found, f"list {payload['list_version']}" if payload.get("list_version") else ""]
        case "reviews" if "due_at_ms" in payload:
            parts = [
                f"{payload['stage']}: {payload['detail']}",
                f"due {iso(payload['due_at_ms'])}",
                f"then {payload['at_expiry']}",
            ]
        case "reviews":
            given = f"{payload.get('decision')} by {payload['by']}" if payload.get("by") else ""
            parts = [str(payload.get("stage", "")), given, payload.get("reason", "")]
        case "localization":
            word = "rejected by rule" if payload.get("rejected_by") else "rules"
            rules = ", ".join(_rules_of(payload))
            parts = [f"fee {payload.get('fee_minor')}", f"pic {payload.get('pic')}", rules and f"{word} {rules}"]
        case "payee":
            hits = payload.get("rule_hits") or []
            said = [_said(hit, payload.get("currency", "")) for hit in hits] or payload.get("score_reasons", [])
            parts = [f"score {payload.get('score', 0):.2f}", *said, *_model_words(payload)]
        case "dispatch" | "plugin":
            asked = [
                *_operation_words(payload),
                f"attempt {payload.get('attempt')}",
                f"ask {payload.get('ask')}",
                f"pic {payload.get('pic')}",
            ]
            looked_up = "looked up" if payload.get("called") is False else ""
            parts = [*asked, looked_up, payload.get("pic_reference", "")]
        case "updated":
            amounts = [f"{word} {payload.get(f'{word}_minor')}" for word in ("authorized", "captured", "refunded")]
            parts = [*_operation_words(payload), f"then {payload.get('status')}", *amounts, payload.get("detail", "")]
        case "notified" | "parked":
            said_by = f"{payload['source']} {payload.get('who', '')}".strip() if payload.get("source") else ""
            parts = [
                *_operation_words(payload),
                f"attempt {payload.get('attempt')}",
                said_by,
                payload.get("detail", ""),
            ]
        case inventory.NAME:
            place = payload.get("location")
            parts = [f"{payload.get('quantity')} of {payload.get('sku')}", f"at {place}" if place else ""]
        case invoices.NAME:
            parts = [f"{payload.get('kind')} {payload.get('invoice_id')}", f"amount {payload.get('amount_minor')}"]
        case "settlement":
            parts = [f"decided by {payload.get('stage')}", payload.get("detail", "")]
        case _:
            parts = [str(payload.get("detail", ""))]
    return ", ".join(part for part in parts if part)


def _operation_words(payload: dict[str, Any]) -> list[str]:
    """Which capture, void or refund an event is about, and its amount; nothing of the payment itself."""
    operation_id = payload.get("operation_id")
    if not operation_id:
        return []
    amount = f" of {payload['amount_minor']}" if payload.get("amount_minor") else ""
    return [f"{payload.get('kind', 'operation')} {operation_id}{amount}"]


def _rules_of(localized: dict[str, Any]) -> list[str]:
    """Ids of the business rules that decided."""
    rejected_by = localized.get("rejected_by")
    return [rejected_by] if rejected_by else list((localized.get("terms") or {}).get("rules", []))


def _model_words(payload: dict[str, Any]) -> list[str]:
    """What the fraud model said, and which features moved it: what they were, what is usual, by how much."""
    if not payload.get("model"):
        return []
    failure = payload.get("model_failure")
    said = f"gave no score ({failure})" if failure else f"{payload.get('model_score', 0):.2f}"
    moved = [
        f"{each['feature']} {each['value']:g} (usual {each['usual']:g}) {each['effect']:+.2f}"
        for each in payload.get("effects", [])
    ]
    return [f"model {payload['model']} {said}", *moved]


def _said(hit: dict[str, Any], currency: str) -> str:
    """A rule that fired, as a person reads it."""
    rule = LIBRARY.get(hit["rule"])
    said = describe(rule, hit["value"], hit["limit"], currency) if rule else ""
    return f"{hit['rule']}{': ' if said else ''}{said}{' (snoozed)' if hit['snoozed'] else ''}"


def outcome_counts(database: Database) -> list[tuple[str, str, str, int]]:
    """Payments per tenant, outcome and reason, in this order; only those with an outcome."""
    rows = database.query(
        "SELECT tenant, outcome, reason, COUNT(*) FROM payments WHERE outcome IS NOT NULL"
        " GROUP BY tenant, outcome, reason ORDER BY tenant, outcome, reason"
    )
    return [(tenant, outcome, reason, count) for tenant, outcome, reason, count in rows]


#: Settlement's own words about a payment; refusals of other requests under its id are none.
_IS_OUTCOME = "e.stage = 'settlement' AND e.outcome <> 'dead_letter' AND e.reason <> 'conflicting_request'"
_OUTCOMES = f"SELECT e.tenant, e.payment_id FROM payment_events e WHERE {_IS_OUTCOME}"  # noqa: S608
_STAGES_OF_PAID = ("screening", "localization", "payer", "payee", "dispatch", "plugin")


def _checks(database: Database) -> dict[str, str]:
    """What may be wrong, and a SELECT of tenant and payment id of each case."""

    def without(payments: str, events: str) -> str:
        return (
            f"SELECT p.tenant, p.payment_id FROM payments p WHERE {payments} AND NOT EXISTS"  # noqa: S608
            f" (SELECT 1 FROM payment_events e WHERE {database.tells_of('e', 'p')} AND {events})"
            f" AND NOT {database.is_archived('p')}"
        )

    return {
        "payments with more than one outcome": f"{_OUTCOMES} GROUP BY e.tenant, e.payment_id HAVING COUNT(*) > 1",
        "outcomes that the payment's row does not show": (
            f"SELECT o.tenant, o.payment_id FROM ({_OUTCOMES}) o LEFT JOIN payments p"  # noqa: S608
            " ON p.tenant = o.tenant AND p.payment_id = o.payment_id WHERE p.outcome IS NULL AND o.payment_id <> ''"
        ),
        "events under coordinates that another event has": (
            "SELECT MIN(tenant) AS tenant, MIN(payment_id) AS payment_id FROM payment_events WHERE outcome <> 'expired'"
            ' GROUP BY topic, "partition", "offset" HAVING COUNT(*) > 1'
        ),
        "payments with an outcome that no event gave": without("p.outcome IS NOT NULL", _IS_OUTCOME),
        **{
            f"paid without an event of {stage}": without("p.outcome IN ('paid', 'authorized')", f"e.stage = '{stage}'")
            for stage in _STAGES_OF_PAID
        },
        **database.own_checks,
    }


def count_check(database: Database) -> CountCheck:
    """Count, and look for rows that do not add up. Reads every row; a sink that is behind makes anomalies that pass."""

    def count(sql: str) -> int:
        return int(database.query(sql)[0][0])

    anomalies = []
    for what, sql in _checks(database).items():
        found = count(f"SELECT COUNT(*) FROM ({sql}) anomalies")  # noqa: S608
        if found:
            examples = database.query(f"{sql} LIMIT {EXAMPLES_MAX}")
            anomalies.append(
                Anomaly(what=what, count=found, examples=[(tenant, payment) for tenant, payment in examples])
            )
    return CountCheck(
        payments=count("SELECT COUNT(*) FROM payments"),
        events=count("SELECT COUNT(*) FROM payment_events"),
        without_outcome=count("SELECT COUNT(*) FROM payments WHERE outcome IS NULL"),
        in_review=count(
            "SELECT COUNT(*) FROM payments WHERE outcome IS NULL AND stage = 'reviews' AND status = 'referred'"
        ),
        unreadable=count("SELECT COUNT(*) FROM payment_events WHERE stage = 'audit' AND outcome = 'unreadable'"),
        gaps=count("SELECT COUNT(*) FROM payment_events WHERE stage = 'audit' AND outcome = 'expired'"),
        anomalies=anomalies,
    )
