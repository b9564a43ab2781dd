"""Where a payment's time went: steps with a beginning and an end, made of the events in the audit tables. Pure.

An event's time is when it was written, and each event follows from the one before it in its payment's story. An event says
when its stage took the batch that it came of: until then the payment waited, in its topic, and before that for the stage
before to hand its own batch to the broker; from then on the stage worked, on it and on the others of the batch. What says
nothing of this (events of earlier versions, reviews, the end of an operation) is one step, wait and work together. What a PIC
took and when it was called is in its answer, and what waits on purpose says until when; so waiting in a PIC's queue, calling
it, and waiting to ask again are steps of their own.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Literal

from connectors.sinks.rows import COMPLETED, DEAD_LETTER, NOTIFIED, OPERATIONS, PARKED, REVIEWS, UPDATED
from connectors.sinks.story import Story, StoryEvent
from pipeline.stages.asking import UNKNOWABLE, UNSENT
from pipeline.stages.reviews import IGNORED
from schemas.reasons import Reason
from schemas.trace_context import call_step

#: ``wait``: in a topic, until the stage took it; ``stage``: its work;
#: ``queue``: waits for its turn at a PIC; ``delay``: until it is asked about again; ``review``: for a person.
Kind = Literal["wait", "stage", "queue", "call", "delay", "review", "mark"]

#: Step ids of what whole payments and operations begin with.
PAYMENT: Final = "payment"
OPERATION: Final = "operation"

#: Answers with which nobody knows yet what became of a call.
_UNANSWERED: Final = frozenset({"pending", UNSENT, UNKNOWABLE})
_ORDER_OF_OPERATION: Final = {"dispatch": 0, "plugin": 1, PARKED: 2, UPDATED: 3}


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One step. A mark has no length: something that was told beside the way."""

    #: Unique in the payment, the same whenever it is made.
    step_id: str
    #: The step that it follows from, or the part's own id.
    parent_id: str
    kind: Kind
    #: The stage, or the PIC.
    name: str
    began_ms: int
    ended_ms: int
    outcome: str = ""
    reason: str = ""
    #: Which attempt at which PIC, and the how-manieth ask about it (from 0); 0 where it is about none.
    attempt: int = 0
    ask: int = 0
    #: It went wrong, or nobody knows: a dead letter, a call without an answer, a payment that needs a person.
    failed: bool = False
    #: The event that ended it.
    event: StoryEvent

    @property
    def took_ms(self) -> int:
        """Never negative."""
        return self.ended_ms - self.began_ms


@dataclass(slots=True, kw_only=True)
class Part:
    """A payment on its way to its outcome, or one of its operations."""

    #: ``payment``, or ``operation/ID``.
    part_id: str
    #: ``payment``, or the operation's kind: capture, void, refund.
    name: str
    #: As its events have them; both empty without a caller's.
    trace_id: str = ""
    trace_context: str = ""
    began_ms: int = 0
    ended_ms: int = 0
    #: The outcome; empty while there is none.
    outcome: str = ""
    reason: str = ""
    steps: list[Step] = field(default_factory=list)


def journey(story: Story) -> list[Part]:
    """The payment, then its operations in the order in which they began; each only if there are events of it."""
    way: list[StoryEvent] = []
    beside: list[StoryEvent] = []
    operations: dict[str, list[StoryEvent]] = {}
    for event in story.events:
        operation_id = (event.payload or {}).get("operation_id", "")
        if operation_id and event.stage in _ORDER_OF_OPERATION:
            operations.setdefault(operation_id, []).append(event)
        else:
            (way if _is_of_the_way(event) else beside).append(event)
    parts = [_payment(way, beside)] if way or beside else []
    made = [_operation(operation_id, events) for operation_id, events in operations.items()]
    return parts + sorted(made, key=lambda part: (part.began_ms, part.part_id))


def _is_of_the_way(event: StoryEvent) -> bool:
    """Whether the payment was carried on by it, on the way to its outcome."""
    if event.outcome == "dead_letter" or event.stage in (NOTIFIED, UPDATED, PARKED):
        return False
    if event.sequence == COMPLETED:
        return event.reason != Reason.CONFLICTING_REQUEST
    return event.sequence < OPERATIONS and not (event.stage == REVIEWS and event.outcome == IGNORED)


def _payment(way: Sequence[StoryEvent], beside: Iterable[StoryEvent]) -> Part:
    part = Part(part_id=PAYMENT, name="payment")
    _note_context(part, way)
    received = [event.payload["received_at_ms"] for event in way if event.payload and "received_at_ms" in event.payload]
    first = (way or list(beside))[0]
    walk = _Walk(part, received[0] if received else first.recorded_at_ms)
    for event in way:
        walk.follow(event)
    if way and way[-1].sequence == COMPLETED:
        part.outcome, part.reason = way[-1].outcome, way[-1].reason
    part.ended_ms = walk.at_ms
    for event in beside:
        walk.mark(event)
    part.steps.sort(key=lambda step: step.began_ms)
    return part


def _operation(operation_id: str, events: list[StoryEvent]) -> Part:
    def place(event: StoryEvent) -> tuple[int, int, int, int]:
        told = event.payload or {}
        return (
            event.recorded_at_ms,
            told.get("attempt", 0),
            told.get("ask", 0),
            _ORDER_OF_OPERATION[event.stage],
        )

    events = sorted(events, key=place)
    kind = next((told["kind"] for event in events if (told := event.payload or {}).get("kind")), OPERATION)
    part = Part(part_id=f"{OPERATION}/{operation_id}", name=kind)
    _note_context(part, events)
    first = events[0].payload or {}
    walk = _Walk(part, first.get("received_at_ms") or first.get("occurred_at_ms") or events[0].recorded_at_ms)
    for event in events:
        if event.stage == PARKED:
            walk.mark(event)
        else:
            walk.follow(event)
        if event.stage == UPDATED:
            part.outcome, part.reason = event.outcome, event.reason
    part.ended_ms = walk.at_ms
    return part


def _note_context(part: Part, events: Iterable[StoryEvent]) -> None:
    for event in events:
        if event.trace_id:
            part.trace_id = event.trace_id
            part.trace_context = (event.payload or {}).get("trace_context", "")
            if part.trace_context:
                return


class _Walk:
    """Goes from event to event; a clock that is behind makes a step of no length, never one backwards."""

    def __init__(self, part: Part, began_ms: int) -> None:
        self._part = part
        self.at_ms = part.began_ms = began_ms
        self._last_id = part.part_id
        #: Of the intent that was queued last.
        self._not_before_ms = 0
        self._review_opened = False
        self._asked = False

    def follow(self, event: StoryEvent) -> None:
        """The next event of the way."""
        told = event.payload or {}
        match event.stage:
            case "dispatch":
                first = told.get("attempt", 1) == 1 and told.get("ask", 0) == 0
                name = "operations" if first and told.get("operation_id") else "dispatch" if first else "settlement"
                self._step("stage", name, event, event.event_id, event.recorded_at_ms)
                self._not_before_ms = told.get("not_before_ms", 0)
            case "plugin":
                self._answered(event, told)
            case "reviews" if "due_at_ms" in told:
                self._step("stage", REVIEWS, event, event.event_id, event.recorded_at_ms)
            case "reviews":
                self._step("review", "a person", event, event.event_id, event.recorded_at_ms)
            case "screening" | "payee" if event.event_id.endswith("/reviewed"):
                self._step("stage", REVIEWS, event, event.event_id, event.recorded_at_ms)
            case "updated":
                self._step(
                    "stage", "settlement" if self._asked else "operations", event, event.event_id, event.recorded_at_ms
                )
            case stage:
                self._step("stage", stage, event, event.event_id, event.recorded_at_ms)

    def _answered(self, event: StoryEvent, told: dict[str, Any]) -> None:
        operation_id, attempt, ask = told.get("operation_id", ""), told.get("attempt", 0), told.get("ask", 0)
        call_id, pic = call_step(operation_id, attempt, ask), told.get("pic", "")
        name = call_id.removeprefix("call/")
        called_at_ms = told.get("called_at_ms", 0)
        reached_ms = called_at_ms or event.recorded_at_ms
        self._asked = True
        if self._not_before_ms > self.at_ms:
            self._step("delay", pic, event, f"delay/{name}", min(self._not_before_ms, reached_ms), said=False)
        if called_at_ms:
            self._step("queue", pic, event, f"queue/{name}", called_at_ms, said=False)
            self._step("call", pic, event, call_id, called_at_ms + told.get("call_ms", 0))
        self._step("stage", "plugin", event, event.event_id, event.recorded_at_ms, said=not called_at_ms)

    def _step(
        self, kind: Kind, name: str, event: StoryEvent, step_id: str, ended_ms: int, *, said: bool = True
    ) -> None:
        told = event.payload or {}
        failed = said and event.stage == "plugin" and event.outcome in _UNANSWERED
        if kind == "stage" and (taken_at_ms := told.get("taken_at_ms", 0)) > self.at_ms:
            self._step("wait", name, event, f"wait/{step_id}", min(taken_at_ms, ended_ms), said=False)
        began_ms, self.at_ms = self.at_ms, max(self.at_ms, ended_ms)
        self._part.steps.append(
            Step(
                step_id=step_id,
                parent_id=self._last_id,
                kind=kind,
                name=name,
                began_ms=began_ms,
                ended_ms=self.at_ms,
                outcome=event.outcome if said else "",
                reason=event.reason if said else "",
                attempt=told.get("attempt", 0),
                ask=told.get("ask", 0),
                failed=failed,
                event=event,
            )
        )
        self._last_id = step_id

    def mark(self, event: StoryEvent) -> None:
        """Something told beside the way: it follows from the step that had ended by then."""
        before = [step for step in self._part.steps if step.kind != "mark" and step.ended_ms <= event.recorded_at_ms]
        self._part.steps.append(
            Step(
                step_id=event.event_id,
                parent_id=before[-1].step_id if before else self._part.part_id,
                kind="mark",
                name=event.stage,
                began_ms=event.recorded_at_ms,
                ended_ms=event.recorded_at_ms,
                outcome=event.outcome,
                reason=event.reason,
                attempt=(event.payload or {}).get("attempt", 0),
                failed=event.sequence == DEAD_LETTER or event.stage == PARKED,
                event=event,
            )
        )


def totals(steps: Iterable[Step]) -> list[tuple[Kind, str, int, int]]:
    """Where the time went: kind, name, milliseconds, number of steps; the longest first. Marks have none."""
    found: dict[tuple[Kind, str], list[int]] = {}
    for step in steps:
        if step.kind != "mark":
            found.setdefault((step.kind, step.name), []).append(step.took_ms)
    made = [(kind, name, sum(took), len(took)) for (kind, name), took in found.items()]
    return sorted(made, key=lambda each: -each[2])


def waited_ms(steps: Iterable[Step]) -> int:
    """How much of it nobody worked on the payment and nobody was asked: in topics and queues, and until it is asked again."""
    return sum(step.took_ms for step in steps if step.kind in ("wait", "queue", "delay"))
