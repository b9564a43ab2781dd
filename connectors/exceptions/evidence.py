"""An exception from what the audit tables tell of a payment: the match as screening saw it, and the party as it was."""

from __future__ import annotations

from typing import Any

from connectors.exceptions.publish import ExceptionError
from pipeline.stages.exceptions import DAY_MS, name_hash
from schemas.records import ExceptionGranted


def granted_from(
    screened: dict[str, Any] | None, *, tenant: str, days: int, by: str, reason: str, at_ms: int
) -> ExceptionGranted:
    """The exception of this payment's match; ``screened`` is the JSON of its first ``PaymentScreened``.

    Raises :class:`ExceptionError` when screening found nobody, found somebody before exceptions existed, or the party is sealed
    or erased.
    """
    evidence = (screened or {}).get("evidence")
    if screened is None or not evidence:
        raise ExceptionError("screening found nobody on a list for this payment, as far as the audit tables tell")
    if not evidence.get("entry_hash"):
        raise ExceptionError("this payment was screened by an earlier version: wait for one that is screened now")
    party_id = screened["request"][evidence["party"]]["id"]
    if not party_id:
        raise ExceptionError(
            "what was said of this party is sealed (PTR_PRIVACY_MASTER_KEY_FILE opens it), or was erased: nothing tells whom"
            " to except"
        )
    return ExceptionGranted(
        tenant=tenant,
        list=evidence["list"],
        entry_id=evidence["entry_id"],
        entry_hash=evidence["entry_hash"],
        party_id=party_id,
        name_hash=name_hash(tenant, party_id, evidence["party_name"]),
        by=by,
        reason=reason,
        granted_at_ms=at_ms,
        until_ms=at_ms + days * DAY_MS,
    )
