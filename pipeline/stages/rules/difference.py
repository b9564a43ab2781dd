"""What differs between two decisions of one payment. Pure."""

from __future__ import annotations

from typing import Any

import msgspec

from pipeline.stages.localization import Accepted, Rejected
from schemas.records import PayerChecks, PaymentTerms, ShadowDecision

_NO_TERMS = PaymentTerms(payable_minor=0)
_NO_CHECKS = PayerChecks()
#: Which rules applied is told, but is no difference of its own.
_NOT_COMPARED = frozenset(["rules"])


def shadow_difference(current: Accepted | Rejected, shadow: Accepted | Rejected) -> ShadowDecision | None:
    """The decision ``shadow``, with the names of all that it has otherwise than ``current``; None when that is nothing."""
    ours, theirs = _fields(current), _fields(shadow)
    differs = [name for name, value in theirs.items() if value != ours[name]]
    if not differs:
        return None
    accepted = isinstance(shadow, Accepted)
    return ShadowDecision(
        differs=differs,
        outcome=theirs["outcome"],
        reason=theirs["reason"],
        detail="" if accepted else shadow.detail,
        fee_minor=theirs["fee_minor"],
        pic=theirs["pic"],
        tax_minor=theirs["tax_minor"],
        payable_minor=theirs["payable_minor"],
        value_date=theirs["value_date"],
        sca=theirs["sca"],
    )


def _fields(decision: Accepted | Rejected) -> dict[str, Any]:
    """All that two decisions are compared by."""
    if isinstance(decision, Rejected):
        outcome = {"outcome": "rejected", "reason": decision.reason.value, "fee_minor": 0, "pic": ""}
        terms, checks = _NO_TERMS, _NO_CHECKS
    else:
        outcome = {"outcome": "accepted", "reason": "", "fee_minor": decision.fee_minor, "pic": decision.pic}
        terms, checks = decision.terms or _NO_TERMS, decision.checks or _NO_CHECKS
    of_terms = {name: value for name, value in msgspec.structs.asdict(terms).items() if name not in _NOT_COMPARED}
    return outcome | of_terms | msgspec.structs.asdict(checks)
