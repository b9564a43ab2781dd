"""Of which payments spans are made: decided when the outcome is known, so that what went wrong is always among them. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

from connectors.sinks.journey import Part
from connectors.sinks.rows import REVIEWS, PaymentState
from schemas.reasons import REVIEWED, Outcome, Reason

#: Why; "" when not. In order of precedence.
Why = Literal["error", "referred", "slow", "share", ""]

#: Reasons that are somebody's fault, not an answer.
_FAULTS: Final = frozenset(
    {Reason.RULE_FAILED, Reason.FRAUD_MODEL_UNAVAILABLE, Reason.UNKNOWN_PIC, Reason.PIC_ANSWER_UNKNOWN}
)
_OF_REVIEWS: Final = REVIEWED | {Reason.REVIEW_REJECTED}


@dataclass(frozen=True, slots=True, kw_only=True)
class Sampling:
    """The rule."""

    #: Of payments that are not remarkable, 0 to 1.
    share: float
    #: From when on a payment is slow: from its receipt to its outcome.
    slow_ms: int

    def of_outcome(self, state: PaymentState, trace_id: str, *, was_referred: bool) -> Why:
        """Why spans are made of a payment that ended as ``state``."""
        if (state.attempts or 0) > 1 or state.reason in _FAULTS:
            return "error"
        if was_referred or state.outcome == Outcome.REFERRED or state.stage == REVIEWS or state.reason in _OF_REVIEWS:
            return "referred"
        if (state.completed_at_ms or 0) - (state.received_at_ms or 0) >= self.slow_ms:
            return "slow"
        return "share" if self.in_share(trace_id) else ""

    def of_operation(self, part: Part, why: Why) -> Why:
        """Why spans are made of an operation; ``why``: what was known before its events were looked at."""
        if why == "error" or any(step.failed for step in part.steps):
            return "error"
        return "slow" if part.ended_ms - part.began_ms >= self.slow_ms else why

    def in_share(self, trace_id: str) -> bool:
        """By the last half of the trace id (32 hex digits), as OpenTelemetry's ratio sampler does it: whoever samples so,
        with the same ratio, samples the same traces."""
        return int(trace_id[16:], 16) < self.share * 2**64
