"""A payment's life under any order of events: duplicates, stale answers, repeats, conflicts, replays after a crash."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from agents.plugin import WORDS
from connectors.pic.base import Call
from connectors.pic.simulator import MemoryLedger
from pipeline.stages.asking import Means, Park
from pipeline.stages.attempts import Attempts
from pipeline.stages.dispatch import (
    AnswerAgain,
    AskAgain,
    End,
    Ignore,
    Queue,
    RefuseConflict,
    Review,
    Steps,
    end,
    route,
    settle,
)
from schemas.identity import attempt_id
from schemas.reasons import REVIEWED
from schemas.records import PaymentAnswered, PaymentCompleted, PaymentEnded

MEANS = Means(pics=("simulator",), delays_s=(1, 5, 30))
CARRIED = b"carried"

scored_outcomes = st.sampled_from(["approved", "approved", "challenged", "declined", "referred"])
ended_outcomes = st.sampled_from(["blocked", "rejected", "refused"])
answers = st.sampled_from(["paid", "declined", "pending", "pending", "not_found"])


class PaymentLife(RuleBasedStateMachine):
    """One payment. The model beside it knows only which event was the first that decides something."""

    def __init__(self) -> None:
        super().__init__()
        self.row: Attempts | None = None
        self.completions: list[PaymentCompleted] = []
        self.refusals: list[PaymentCompleted] = []
        #: Every ask that was queued, as (attempt, ask, not_before_ms).
        self.queued: list[tuple[int, int, int]] = []
        #: The model: the outcome that the first deciding event had, and the ask whose answer decides.
        self.first: str | None = None
        self.waits_for: int | None = None
        #: Answers to asks that the payment has not come to, by attempt and ask; the first one counts.
        self.early: dict[tuple[int, int], str] = {}
        #: Fraud referred it, and no review has spoken yet.
        self.waits_for_review = False
        self.told_reviews = 0
        self.repeats_after_end = 0
        self.inputs: list[tuple[str, Any]] = []
        self.now_ms = 1_000_000

    # What can arrive.

    @rule(outcome=scored_outcomes, pic=st.sampled_from(["simulator", "simulator", "gone"]))
    def scored(self, outcome: str, pic: str) -> None:
        self._feed("scored", {"outcome": outcome, "pic": pic})

    @rule(pic=st.sampled_from(["simulator", "simulator", "gone"]), reason=st.sampled_from(sorted(REVIEWED)))
    def approved_by_review(self, pic: str, reason: str) -> None:
        self._feed("scored", {"outcome": "approved", "pic": pic, "reason": reason})

    @rule(outcome=st.sampled_from(["blocked", "declined"]))
    def rejected_by_review(self, outcome: str) -> None:
        self._feed("ended", {"outcome": outcome, "request_kind": "first", "stage": "reviews"})

    @rule(outcome=ended_outcomes)
    def ended_first(self, outcome: str) -> None:
        self._feed("ended", {"outcome": outcome, "request_kind": "first"})

    @rule(outcome=st.sampled_from(["refused", "referred"]))
    def repeated(self, outcome: str) -> None:
        self._feed("ended", {"outcome": outcome, "request_kind": "repeat"})

    @rule(request=st.integers(0, 3))
    def contradicted(self, request: int) -> None:
        self._feed("ended", {"outcome": "refused", "request_kind": "conflict", "request_id": f"other-{request}"})

    @precondition(lambda self: self.waits_for is not None)
    @rule(outcome=answers)
    def answered(self, outcome: str) -> None:
        self._feed("answered", {"attempt": 1, "ask": self.waits_for, "outcome": outcome})

    @precondition(lambda self: self.waits_for_review)
    @rule(outcome=answers)
    def answered_before_the_review_is_read_again(self, outcome: str) -> None:
        """The intent of an approved payment was queued, and a crash lost the row that says so."""
        self._feed("answered", {"attempt": 1, "ask": 0, "outcome": outcome})

    @rule(attempt=st.integers(0, 2), ask=st.integers(0, 6), outcome=answers)
    def answered_anything(self, attempt: int, ask: int, outcome: str) -> None:
        self._feed("answered", {"attempt": attempt, "ask": ask, "outcome": outcome})

    @precondition(lambda self: self.inputs)
    @rule(data=st.data())
    def replayed(self, data: st.DataObject) -> None:
        """A crash before the offset was committed: the last inputs come again."""
        count = data.draw(st.integers(1, min(6, len(self.inputs))))
        for kind, fields in self.inputs[-count:]:
            self._feed(kind, fields, again=True)

    @rule()
    def stored_and_read(self) -> None:
        """The worker restarts: the row is what the table kept."""
        if self.row is not None:
            self.row = msgspec.msgpack.decode(msgspec.msgpack.encode(self.row), type=Attempts)

    # What must hold, always.

    @invariant()
    def one_outcome_and_it_is_the_first_decided(self) -> None:
        firsts = [event for event in self.completions if not event.repeat]
        assert [event.outcome for event in firsts] == ([self.first] if self.first else [])

    @invariant()
    def repeats_get_the_same_answer(self) -> None:
        repeats = [event for event in self.completions if event.repeat]
        assert len(repeats) == self.repeats_after_end
        for event in repeats:
            assert msgspec.structs.replace(event, repeat=False) == self.completions[0]

    @invariant()
    def every_ask_is_queued_once_and_in_order(self) -> None:
        asks = [(attempt, ask) for attempt, ask, _ in self.queued]
        assert asks == sorted(set(asks))
        if self.waits_for is not None:
            assert asks[-1] == (1, self.waits_for)
        for _, ask, not_before_ms in self.queued:
            assert (not_before_ms == 0) == (ask == 0), "only the first ask is served at once"

    @invariant()
    def who_waits_is_told_of_and_nothing_else_of_it_happens(self) -> None:
        assert (self.row is not None and self.row.state == "referred") == self.waits_for_review
        assert not (self.waits_for_review and self.first), "a payment that waits has no outcome"

    @invariant()
    def refusals_are_not_completions(self) -> None:
        for event in self.refusals:
            assert (event.outcome, event.reason, event.repeat) == ("refused", "conflicting_request", False)
            assert event.event_id.startswith("aurora|p1|refused|other-")
        assert {event.event_id for event in self.completions} <= {"aurora|p1|completed"}

    @invariant()
    def what_is_needed_to_ask_again_is_kept_as_long_as_needed(self) -> None:
        if self.row is not None:
            assert self.row.queued == (CARRIED if self.waits_for is not None else b"")

    def teardown(self) -> None:
        """Whatever happened, a review and an explicit word of the PIC end it: then there is exactly one outcome."""
        if self.waits_for_review:
            self._feed("scored", {"outcome": "approved", "pic": "simulator", "reason": "review_approved"})
        if self.waits_for is not None:
            self._feed("answered", {"attempt": 1, "ask": self.waits_for, "outcome": "paid"})
        self.one_outcome_and_it_is_the_first_decided()
        assert bool(self.first) == any(kind == "scored" or f.get("request_kind") == "first" for kind, f in self.inputs)

    # The machine under test, and the model.

    def _feed(self, kind: str, fields: dict[str, Any], *, again: bool = False) -> None:
        self.now_ms += 10
        if not again:
            self.inputs.append((kind, fields))
        before = msgspec.msgpack.encode(self.row) if self.row is not None else None
        given = self.row
        self._model(kind, fields)
        decision = self._decide(kind, fields)
        assert (msgspec.msgpack.encode(given) if given is not None else None) == before, (
            "the input was changed in place"
        )
        match decision:
            case Queue() | AskAgain():
                head = decision.head()
                assert decision.carried == CARRIED
                self.queued.append((head["attempt"], head["ask"], head["not_before_ms"]))
            case Steps():
                # The PIC takes back its word: a person is told, and nothing changes.
                assert [step.parked.reason for step in decision.also if isinstance(step, Park)] == ["contradiction"]
                assert decision.row == given
            case End() | AnswerAgain():
                self.completions.append(decision.completed)
            case Review():
                self.told_reviews += 1
                assert self.waits_for_review or (kind == "ended" and fields["outcome"] == "referred")
            case RefuseConflict():
                assert decision.row is given
                self.refusals.append(decision.completed)
            case Ignore():
                pass
        self.row = decision.row

    def _model(self, kind: str, fields: dict[str, Any]) -> None:
        decided = self.first is not None
        begun = decided or self.waits_for is not None
        reviewed = fields.get("reason") in REVIEWED or fields.get("stage") == "reviews"
        begun = begun or (self.waits_for_review and not reviewed)
        if kind in ("scored", "ended") and not begun and fields.get("request_kind", "first") == "first":
            self.waits_for_review = kind == "scored" and fields["outcome"] == "referred"
        if kind == "scored" and not begun:
            if fields["outcome"] == "referred":
                pass
            elif fields["outcome"] not in ("approved", "challenged"):
                self.first = fields["outcome"]
            elif fields["pic"] != "simulator":
                self.first = "refused"
            else:
                self.waits_for = 0
                self._take_early()
        elif kind == "ended" and fields["request_kind"] == "first" and not begun:
            self.first = fields["outcome"]
        elif kind == "ended" and fields["request_kind"] == "repeat" and decided:
            self.repeats_after_end += 1
        elif kind == "answered" and not decided:
            at, now_at = (
                (fields["attempt"], fields["ask"]),
                (1, self.waits_for) if self.waits_for is not None else (0, 0),
            )
            if at > now_at:
                self.early.setdefault(at, fields["outcome"])
            elif at == now_at and self.waits_for is not None:
                self.early[at] = fields["outcome"]
                self._take_early()

    def _take_early(self) -> None:
        """Settle with what was said to the ask that is waited for, and to those after it."""
        while self.waits_for is not None and (1, self.waits_for) in self.early:
            outcome = self.early[1, self.waits_for]
            if outcome in ("paid", "declined"):
                self.first, self.waits_for = outcome, None
            else:
                self.waits_for += 1

    def _decide(
        self, kind: str, fields: dict[str, Any]
    ) -> Queue | AskAgain | End | Steps | AnswerAgain | RefuseConflict | Review | Ignore:
        common: dict[str, Any] = {"tenant": "aurora", "payment_id": "p1", "trace_id": ""}
        facts: dict[str, Any] = {
            "rule_version": 1,
            "requested_at_ms": 1,
            "received_at_ms": 2,
            "amount_minor": 3,
            "currency": "EUR",
            "trace_context": "",
        }
        instrument: dict[str, Any] = {"terms": None, "kind": "payment", "method": "card", "token": "tok_1"}
        if kind == "scored":
            scored = (
                common
                | facts
                | instrument
                | {"reason": "", "score": 0.5, "score_reasons": [], "effects": [], "fee_minor": 0}
                | fields
            )
            return route(self.row, scored, CARRIED, means=MEANS)
        if kind == "ended":
            sender: dict[str, Any] = {"sender_partition": 0, "sender_offset": 1, "stage": "screening"}
            return end(self.row, PaymentEnded(**(common | facts | sender | fields)), means=MEANS)
        told: dict[str, Any] = {"answered_at_ms": self.now_ms, "called": True, "pic": "simulator"}
        return settle(self.row, PaymentAnswered(**(common | told | fields)), means=MEANS)


PaymentLife.TestCase.settings = settings(max_examples=300, stateful_step_count=40, deadline=None, print_blob=True)
TestPaymentLife = PaymentLife.TestCase


@pytest.mark.parametrize(
    ("token", "outcome", "asks", "calls", "lookups"),
    [
        ("tok_1", "paid", 1, 1, 0),
        ("tok_decline_1", "declined", 1, 1, 0),
        ("tok_lost_1", "paid", 2, 1, 1),
        ("tok_error_1", "paid", 2, 2, 1),
        ("tok_never_1", "declined", 5, 1, 4),
    ],
)
def test_the_plugins_rule_and_the_machine_bring_every_payment_to_its_end(
    token: str, outcome: str, asks: int, calls: int, lookups: int
) -> None:
    """Ask 0 calls; later asks look up first and call, under the same key, only what the PIC does not have."""
    ledger = MemoryLedger()
    call = Call(
        attempt_id=attempt_id("aurora", "p1", 1),
        tenant="aurora",
        payment_id="p1",
        amount_minor=3,
        currency="EUR",
        token=token,
        method="card",
    )
    row = Attempts(state="queued", attempt=1, ask=0, queued=CARRIED)
    for asked in range(1, 10):
        found = ledger.look_up([call.attempt_id])[0] if row.ask else None
        answer = found or ledger.perform([call])[0]
        told = PaymentAnswered(
            attempt=row.attempt,
            ask=row.ask,
            outcome=WORDS[answer.outcome],
            reason=answer.reason,
            answered_at_ms=asked,
            called=found is None,
            pic="simulator",
            tenant="aurora",
            payment_id="p1",
        )
        decision = settle(row, told, means=MEANS)
        assert decision.row is not None
        row = decision.row
        if isinstance(decision, End):
            break
    assert (row.state, row.outcome, asked) == ("ended", outcome, asks)
    entry = ledger.entries()[call.attempt_id]
    assert (entry.calls, entry.lookups) == (calls, lookups)
