"""What reports are made of, out of the audit tables: each event once, streamed, so memory does not grow with them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

from connectors.sinks.database import Database
from pipeline.reports.events import Asked, Event

_EVENTS: Final = (
    "SELECT tenant, payment_id, stage, outcome, reason, recorded_at_ms, CAST(payload AS TEXT) FROM payment_events"
    " WHERE recorded_at_ms >= ? AND recorded_at_ms < ? AND outcome <> 'dead_letter' AND stage IN ({stages})"
)
#: An answer, and the intent that it answers: "plugin/1.0" and "dispatch/1.0".
_ASKS: Final = (
    "SELECT a.tenant, q.recorded_at_ms, a.recorded_at_ms, a.outcome, CAST(a.payload AS TEXT)"
    " FROM payment_events a JOIN payment_events q ON {same} AND q.event_id = 'dispatch/' || substr(a.event_id, 8)"
    " WHERE a.recorded_at_ms >= ? AND a.recorded_at_ms < ? AND a.stage = 'plugin' AND a.outcome <> 'dead_letter'"
)


def events(database: Database, stages: Sequence[str], *, tenant: str, from_ms: int, until_ms: int) -> Iterator[Event]:
    """Events of ``stages`` that were recorded in [from_ms, until_ms), of one tenant or (empty) of all, in no order.

    Raises :class:`~connectors.sinks.database.DatabaseError`.
    """
    sql = _EVENTS.format(stages=", ".join("?" for _ in stages))
    for row in database.stream(*_of_tenant(sql, "tenant", (from_ms, until_ms, *stages), tenant)):
        if row[6]:
            yield Event(*row)


def asks(database: Database, *, tenant: str, from_ms: int, until_ms: int) -> Iterator[Asked]:
    """Intents whose answer was recorded in [from_ms, until_ms), in no order. Raises as :func:`events`."""
    sql = _ASKS.format(same=database.same_payment("a", "q"))
    for row in database.stream(*_of_tenant(sql, "a.tenant", (from_ms, until_ms), tenant)):
        if row[4]:
            yield Asked(*row)


def _of_tenant(sql: str, column: str, parameters: Sequence[object], tenant: str) -> tuple[str, tuple[object, ...]]:
    if not tenant:
        return sql, tuple(parameters)
    return f"{sql} AND {column} = ?", (*parameters, tenant)
