"""Spans of a payment, from its events: one for the whole, one for each step. Pure.

They hold ids, words and numbers: the tenant, the payment, stages, PICs, outcomes and reasons; no party, no amount, no text.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, Literal

from connectors.sinks.journey import PAYMENT, Kind, Part, Step
from connectors.sinks.story import Story
from connectors.tracing.sampling import Why
from schemas.reasons import shown
from schemas.trace_context import caller_of, span_id, trace_id_of

Value = str | int | bool

_NAMES: Final[Mapping[Kind, str]] = {
    "wait": "wait for {}",
    "stage": "{}",
    "queue": "queue {}",
    "call": "call {}",
    "delay": "wait to ask {}",
    "review": "review",
    "mark": "{}",
}
#: The stages' event that ends a story's way, and what must be there before it.
_BEFORE: Final[Mapping[str, tuple[str, ...]]] = {
    "localization": ("screening",),
    "payer": ("screening", "localization"),
    "payee": ("screening", "localization", "payer"),
}
_BEFORE_A_CALL: Final = ("screening", "localization", "payer", "payee", "dispatch")


@dataclass(frozen=True, slots=True, kw_only=True)
class Span:
    """A span as OpenTelemetry has it; ids are hex digits, times epoch milliseconds."""

    trace_id: str
    span_id: str
    #: Empty for the first of a trace.
    parent_id: str
    name: str
    kind: Literal["consumer", "client", "internal"]
    began_ms: int
    ended_ms: int
    attributes: Mapping[str, Value]
    #: The reason of what failed; None when nothing did.
    error: str | None = None
    #: The caller's.
    tracestate: str = ""
    #: Trace and span ids.
    links: Sequence[tuple[str, str]] = field(default=())


def is_whole(story: Story, part: Part) -> bool:
    """Whether every event that the payment's outcome rests on is there: the sink reads outcomes first."""
    ending = next(
        (event for event in story.events if part.outcome and event.stage == "settlement" and event.payload), None
    )
    if part.part_id != PAYMENT or ending is None or ending.payload is None:
        return True
    stages = {event.stage for event in story.events}
    attempts = {step.attempt for step in part.steps if step.name == "plugin"}
    asked = ending.payload.get("attempts", 0)
    if asked:
        return stages.issuperset(_BEFORE_A_CALL) and len(attempts) >= asked
    return stages.issuperset(_BEFORE.get(ending.payload.get("stage", ""), ()))


def spans_of(story: Story, part: Part, *, why: Why, whole: bool = True) -> list[Span]:
    """The span of ``part`` and those of its steps; ``why`` it was sampled."""
    tenant, payment_id = story.tenant, story.payment_id
    trace_id, caller = trace_id_of(tenant, payment_id, part.trace_id), caller_of(part.trace_context)
    parent_id = caller.parent_id
    if not parent_id and part.part_id != PAYMENT:
        parent_id = span_id(tenant, payment_id, PAYMENT)
    ids: dict[str, Value] = {"ptr.tenant": tenant, "ptr.payment_id": payment_id}
    if part.part_id != PAYMENT:
        ids["ptr.operation_id"] = part.part_id.partition("/")[2]
    about: dict[str, Value] = {**ids, "ptr.outcome": shown(part.outcome), "ptr.reason": shown(part.reason)}
    about["ptr.sampled"] = why
    if not whole:
        about["ptr.incomplete"] = True
    failed = next((step for step in reversed(part.steps) if step.failed), None)
    spans = [
        Span(
            trace_id=trace_id,
            span_id=span_id(tenant, payment_id, part.part_id),
            parent_id=parent_id,
            name=part.name,
            kind="consumer",
            began_ms=part.began_ms,
            ended_ms=part.ended_ms,
            attributes=about,
            error=shown(failed.reason) if why == "error" and failed is not None else None,
            tracestate=caller.state,
        )
    ]
    for step in part.steps:
        spans.append(
            Span(
                trace_id=trace_id,
                span_id=span_id(tenant, payment_id, step.step_id),
                parent_id=span_id(tenant, payment_id, step.parent_id),
                name=_NAMES[step.kind].format(step.name),
                kind="client" if step.kind == "call" else "consumer" if step.kind == "stage" else "internal",
                began_ms=step.began_ms,
                ended_ms=step.ended_ms,
                attributes=ids | _attributes(step),
                error=shown(step.reason) if step.failed else None,
                tracestate=caller.state,
            )
        )
    return spans


def _attributes(step: Step) -> dict[str, Value]:
    found: dict[str, Value] = {"ptr.step": step.kind}
    if step.outcome:
        found["ptr.outcome"] = shown(step.outcome)
    if step.reason:
        found["ptr.reason"] = shown(step.reason)
    if step.attempt:
        found |= {"ptr.attempt": step.attempt, "ptr.ask": step.ask}
    if step.kind in ("call", "queue", "delay"):
        found["ptr.pic"] = step.name
    if step.kind == "stage":
        event = step.event
        found |= {
            "messaging.system": "kafka",
            "messaging.destination.name": event.topic,
            "messaging.destination.partition.id": str(event.partition),
            "messaging.kafka.offset": event.offset,
        }
    return found
