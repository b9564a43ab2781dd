"""Decisions as the audit database recorded them: one to explain, all of a tenant for a backtest."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import msgspec

from connectors.privacy.reading import READ_COLUMNS, RowReader
from connectors.sinks.database import Database
from pipeline.stages.localization import Accepted, Rejected
from pipeline.stages.rules.difference import decided_fields
from schemas.codec import Codec
from schemas.records import PaymentLocalized, PaymentRequested
from schemas.tenant_rules import TenantRules

_IN_ORDER = ' ORDER BY l.recorded_at_ms, l."partition", l."offset"'
_CONFIGURATIONS = """
SELECT CAST(payload AS TEXT) FROM payment_events
WHERE tenant = ? AND payment_id = '' AND stage = 'tenants' AND rule_version = ?
ORDER BY "partition", "offset" LIMIT 1"""


def _decisions(database: Database, where: str) -> str:
    """A SELECT of localization's decisions ``l``, each with what screening saw and what the payer's profile said."""
    return (
        f"SELECT CAST(p.payload AS TEXT), {READ_COLUMNS.format('l')}, {READ_COLUMNS.format('s')} FROM payment_events l"  # noqa: S608
        f" JOIN payment_events s ON {database.same_payment('s', 'l')} AND s.event_id = 'screening'"
        f" LEFT JOIN payment_events p ON {database.same_payment('p', 'l')} AND p.event_id = 'payer'"
        f" WHERE l.event_id = 'localization' AND {where}"
    )


class NotRecordedError(LookupError):
    """The audit database does not hold what is needed; the text says what."""


class RecordedDecision(msgspec.Struct, frozen=True, kw_only=True):
    """What was decided of one payment, and from what."""

    request: PaymentRequested
    received_at_ms: int
    version: int
    #: ``PaymentLocalized`` and ``PaymentProfiled`` as JSON data without the PTR; the latter None when localization ended it.
    localized: dict[str, Any]
    profiled: dict[str, Any] | None
    #: The event of localization as it came; None when it was withheld.
    avro: bytes | None
    #: Whose data is erased or sealed: empty in the request.
    hidden: list[str] = []


def recorded_decision(
    database: Database, tenant: str, payment_id: str, reader: RowReader | None = None
) -> RecordedDecision:
    """What was decided of a payment; ``reader`` opens what is sealed. Raises :class:`NotRecordedError`."""
    rows = database.query(_decisions(database, database.events_of("l")), (tenant, payment_id))
    if not rows:
        raise NotRecordedError(f"localization has decided no payment {payment_id} of {tenant} that is recorded")
    return _decision(rows[0], reader or RowReader(database))


def recorded_decisions(
    database: Database, tenant: str, since_ms: int = 0, reader: RowReader | None = None
) -> Iterator[RecordedDecision]:
    """All decisions of a tenant from ``since_ms`` on (the time at which they were recorded), in their order; ``reader`` opens
    what is sealed."""
    reader = reader or RowReader(database)
    sql = _decisions(database, "l.tenant = ? AND l.recorded_at_ms >= ?") + _IN_ORDER
    for row in database.stream(sql, (tenant, since_ms)):
        yield _decision(row, reader)


def recorded_rules(database: Database, tenant: str, version: int) -> TenantRules:
    """A version of a tenant's configuration. Raises :class:`NotRecordedError`."""
    rows = database.query(_CONFIGURATIONS, (tenant, version))
    if not rows or not rows[0][0]:
        raise NotRecordedError(f"version {version} of {tenant}'s configuration is not recorded")
    return msgspec.json.decode(json.loads(rows[0][0])["document"], type=TenantRules)


def repeats(
    recorded: RecordedDecision, decision: Accepted | Rejected, shadow: Accepted | Rejected | None, codec: Codec
) -> bool:
    """Whether ``decision`` leads to the very event that was recorded, byte for byte where its bytes are there."""
    again = decided_fields(decision, shadow, recorded.localized["pic"])
    # A version ago the same decision was written by another schema, and with a registry it has another header.
    same_header = recorded.avro is not None and recorded.avro.startswith(codec.header(PaymentLocalized))
    if not same_header and not recorded.localized.get("rejected_by"):
        del again["rejected_by"]  # The first schemas did not have it.
    if recorded.avro is None:
        return all(recorded.localized.get(name) == value for name, value in msgspec.to_builtins(again).items())
    event = codec.decode(recorded.avro, PaymentLocalized)
    repeated = msgspec.structs.replace(event, **again)
    return codec.encode(repeated) == recorded.avro if same_header else repeated == event


def _decision(row: tuple[Any, ...], reader: RowReader) -> RecordedDecision:
    localized_event, screened_event = reader.read(row[1:7]), reader.read(row[7:])
    localized, screened = localized_event.data, screened_event.data
    assert localized is not None
    assert screened is not None
    return RecordedDecision(
        request=msgspec.convert(screened["request"], PaymentRequested),
        received_at_ms=localized["received_at_ms"],
        version=localized["rule_version"],
        localized=localized,
        profiled=json.loads(row[0]) if row[0] else None,
        avro=localized_event.value,
        hidden=sorted({*screened_event.erased, *screened_event.sealed}),
    )
