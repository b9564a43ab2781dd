"""What differs between two decisions of one payment. Pure."""

from __future__ import annotations

from typing import Any

import msgspec

from pipeline.stages.localization import Accepted, Rejected
from schemas.reasons import Outcome
from schemas.records import PayerChecks, PaymentTerms, ShadowDecision

_NO_TERMS = PaymentTerms(payable_minor=0)
_NO_CHECKS = PayerChecks()
#: Which rules applied is told, but is no difference of its own.
_NOT_COMPARED = frozenset(["rules"])


def decided_fields(decision: Accepted | Rejected, shadow: Accepted | Rejected | None, pic: str) -> dict[str, Any]:
    """The fields of a ``PaymentLocalized`` that a decision fills; ``pic`` is the tenant's, for a rejected payment."""
    told = None if shadow is None else shadow_difference(decision, shadow)
    if isinstance(decision, Rejected):
        return {
            "outcome": Outcome.REJECTED.value,
            "reason": decision.reason.value,
            "checks": None,
            "shadow": told,
            "failed": list(decision.failed),
            "rejected_by": decision.rule,
            "fee_minor": 0,
            "pic": pic,
            "terms": None,
        }
    return {
        "outcome": "accepted",
        "reason": "",
        "checks": decision.checks,
        "shadow": told,
        "failed": list(decision.failed),
        "rejected_by": "",
        "fee_minor": decision.fee_minor,
        "pic": decision.pic,
        "terms": decision.terms,
    }


def shadow_difference(current: Accepted | Rejected, shadow: Accepted | Rejected) -> ShadowDecision | None:
    """The decision ``shadow``, with the names of all that it has otherwise than ``current``; None when that is nothing."""
    ours, theirs = _fields(current), _fields(shadow)
    differs = [name for name, value in theirs.items() if value != ours[name]]
    if not differs:
        return None
    return ShadowDecision(
        differs=differs,
        outcome=theirs["outcome"],
        reason=theirs["reason"],
        detail=shadow.detail if isinstance(shadow, Rejected) else "",
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
