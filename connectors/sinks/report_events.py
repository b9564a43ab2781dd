"""What reports are made of, out of the audit tables and the files that rows were moved to: each event once, streamed, so memory
does not grow with them.

What is read together must be read in one :meth:`~connectors.sinks.database.Database.snapshot`: else rows that are moved
meanwhile are read twice, or not at all.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final

from connectors.sinks.archives import checked_rows, in_months
from connectors.sinks.database import Database
from pipeline.reports.events import Event

_COLUMNS: Final = ("tenant", "payment_id", "event_id", "stage", "outcome", "reason", "recorded_at_ms", "payload")
_OUTCOME: Final = _COLUMNS.index("outcome")
_ROWS: Final = (
    "SELECT tenant, payment_id, event_id, stage, outcome, reason, recorded_at_ms, {payload} FROM payment_events"
    " WHERE recorded_at_ms >= ? AND recorded_at_ms < ? AND outcome <> 'dead_letter' AND stage IN ({stages})"
)
_PAYLOAD: Final = "CAST(payload AS TEXT)"


def events(
    database: Database,
    stages: Sequence[str],
    *,
    tenant: str,
    from_ms: int,
    until_ms: int,
    archive: Path | None = None,
) -> Iterator[Event]:
    """Events of ``stages`` that were recorded in [from_ms, until_ms), of one tenant or (empty) of all, in no order; with
    ``archive``, a folder, those too that are in files and no longer in the database.

    Raises :class:`~connectors.sinks.database.DatabaseError` and :class:`~connectors.sinks.archives.ArchiveFileError`.
    """
    between = (from_ms, until_ms)
    for row in rows_of_stages(database, stages, tenant=tenant, between=between, archive=archive):
        if row[-1]:
            yield Event(*row[:2], *row[3:])


def rows_of_stages(
    database: Database,
    stages: Sequence[str],
    *,
    tenant: str,
    between: tuple[int, int],
    archive: Path | None,
    payload: str = _PAYLOAD,
) -> Iterator[tuple[Any, ...]]:
    """Tenant, payment id, event id, stage, outcome, reason, time and payload of the events that :func:`events` gives, and of
    those without payload; ``payload``: what is selected as that from the database.
    """
    if archive is not None:
        with checked_rows(database, archive, tenant or None, in_months(*between)) as archived:
            for row in archived.chosen(_COLUMNS, {"stage": stages}, from_ms=between[0], until_ms=between[1]):
                if row[_OUTCOME] != "dead_letter":
                    yield row
    sql = _ROWS.format(payload=payload, stages=", ".join("?" for _ in stages))
    if tenant:
        yield from database.stream(f"{sql} AND tenant = ?", (*between, *stages, tenant))
    else:
        yield from database.stream(sql, (*between, *stages))
