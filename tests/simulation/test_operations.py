"""Authorizations, captures, voids and refunds under any order of commands, answers, repeats, time-outs and crashes, against a
reference of ten lines and the counts of the PIC."""

from __future__ import annotations

from collections import Counter
from typing import Any

import msgspec
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from pipeline.stages.asking import ASKS_MAX, Ask, Means, Park, Tell
from pipeline.stages.attempts import ENDED, Attempts
from pipeline.stages.dispatch import AskAgain, End, Queue, Steps, notified, operate, route, settle
from pipeline.stages.life import MOVES, Status, standing
from schemas.identity import attempt_id
from schemas.records import OperationRequested, PaymentAnswered, PaymentNotified, PaymentUpdated

AMOUNT = 10
MEANS = Means(pics=("a", "b"), several_captures=("a", "b"), delays_s=(1, 5))


class Reference:
    """What may follow a payment: all that there is to know."""

    def __init__(self, authorized: int, captured: int) -> None:
        self.authorized, self.captured, self.refunded = authorized, captured, 0

    def takes(self, kind: str, amount: int) -> bool:
        left = self.captured - self.refunded if kind == "refund" else self.authorized - self.captured
        return left > 0 and (amount or left) <= left and (kind != "void" or amount in (0, left))

    def done(self, kind: str, amount: int) -> None:
        left = self.captured - self.refunded if kind == "refund" else self.authorized - self.captured
        self.captured += (amount or left) * (kind == "capture")
        self.refunded += (amount or left) * (kind == "refund")
        self.authorized = self.captured if kind == "void" else self.authorized


class Pic:
    """Counts what is done under each key, and serves each intent as the plugin's shell does (agents/plugin.py)."""

    def __init__(self) -> None:
        self.effects: Counter[str] = Counter()
        #: Its word, and what a decline allows: the same in an answer and in a notification.
        self.said: dict[str, tuple[str, str]] = {}
        self.served: dict[str, int] = {}

    def serve(self, intent: dict[str, Any], will: str) -> tuple[str, str] | None:
        """The answer's word, and what it allows; None for an intent that was served."""
        key = attempt_id("t", "p", intent["attempt"], intent["operation_id"])
        if self.served.get(key, -1) >= intent["ask"]:
            return None
        self.served[key] = intent["ask"]
        if intent["ask"] and not intent["unsent"] and key in self.said:
            return self.said[key]
        if will == "unsent":
            return "unsent", "never"
        word = "declined" if will.startswith("declined") else "paid"
        self.said[key] = word, "here" if will == "declined_here" else "never"
        self.effects[key] += word == "paid"
        return ("pending", "never") if will == "lost" else self.said[key]


class Operations(RuleBasedStateMachine):
    """One payment. ``inputs`` are what the shell read since the row was stored, per topic in order."""

    @initialize(kind=st.sampled_from(["payment", "authorize", "authorize"]), routes=st.booleans())
    def begin(self, kind: str, routes: bool) -> None:
        self.kind = kind
        self.row: Attempts | None = None
        self.stored: bytes | None = None
        self.inputs: list[tuple[str, Any]] = []
        #: Intents that no plugin has served, and answers that no settlement has read.
        self.intents: list[dict[str, Any]] = []
        self.answers: list[PaymentAnswered] = []
        self.pic = Pic()
        self.updates: dict[str, PaymentUpdated] = {}
        self.completed: dict[str, str] = {}
        self.parked: list[str] = []
        #: Operations in the order in which they were taken.
        self.asked: dict[str, tuple[str, int]] = {}
        self.now_ms = 1000
        terms = msgspec.defstruct("Terms", [("routes", list[str])])(["a", "b"]) if routes else None
        self.scored: dict[str, Any] = {
            "outcome": "approved",
            "reason": "",
            "rule_version": 1,
            "requested_at_ms": 1,
            "received_at_ms": 2,
            "amount_minor": AMOUNT,
            "currency": "EUR",
            "fee_minor": 0,
            "score": 0.1,
            "score_reasons": [],
            "effects": [],
            "pic": "a",
            "trace_id": "",
            "trace_context": "",
            "kind": kind,
            "method": "card",
            "token": "tok",
            "terms": terms,
            "tenant": "t",
            "payment_id": "p",
        }

    # What can happen.

    @rule()
    def scored_again(self) -> None:
        self._read("scored", self.scored)

    @rule(
        name=st.sampled_from("ABCDEF"),
        kind=st.sampled_from(["capture", "capture", "void", "refund", "refund"]),
        amount=st.integers(0, 12),
    )
    def asked_for(self, name: str, kind: str, amount: int) -> None:
        self.asked.setdefault(name, (kind, amount))
        if self.asked[name] != (kind, amount):
            return  # see test_another_operation_under_one_id_is_refused
        self._ask(name)

    @precondition(lambda self: getattr(self, "asked", None))
    @rule(data=st.data())
    def asked_for_again(self, data: st.DataObject) -> None:
        self._ask(data.draw(st.sampled_from(sorted(self.asked))))

    @precondition(lambda self: getattr(self, "intents", None))
    @rule(data=st.data(), will=st.sampled_from(["paid", "paid", "lost", "unsent", "declined", "declined_here"]))
    def served(self, data: st.DataObject, will: str) -> None:
        self._serve(data.draw(st.integers(0, len(self.intents) - 1)), will)

    @precondition(lambda self: getattr(self, "answers", None))
    @rule()
    def answered(self) -> None:
        self._read("answered", self.answers.pop(0))

    @precondition(lambda self: getattr(self, "pic", None) and self.pic.said)
    @rule(data=st.data())
    def notified(self, data: st.DataObject) -> None:
        """The PIC tells by itself what it did, before or after its answer."""
        key = data.draw(st.sampled_from(sorted(self.pic.said)))
        parts = key.split("|")
        news = PaymentNotified(
            event_id=f"evt-{key}",
            source="pic",
            pic="a",
            tenant="t",
            payment_id="p",
            operation_id=parts[2] if len(parts) == 4 else "",
            attempt=int(parts[-1]),
            outcome=self.pic.said[key][0],
            retry=self.pic.said[key][1],
            occurred_at_ms=self.now_ms,
        )
        self._read("notified", news)

    @rule()
    def row_is_stored(self) -> None:
        self.stored = msgspec.msgpack.encode(self.row)
        self.inputs = []

    @rule(data=st.data())
    def crashed(self, data: st.DataObject) -> None:
        """All that was read since the row was stored is read again: in order within a topic, in any order between them."""
        self.row = msgspec.msgpack.decode(self.stored, type=Attempts | None) if self.stored is not None else None
        again, self.inputs = self.inputs, []
        topics = {kind: [value for other, value in again if other == kind] for kind, _ in again}
        while topics:
            kind = data.draw(st.sampled_from(sorted(topics)))
            self._read(kind, topics[kind].pop(0))
            topics = {each: left for each, left in topics.items() if left}

    # What must hold, always.

    @invariant()
    def nothing_is_done_twice(self) -> None:
        if not hasattr(self, "pic"):
            return
        assert max(self.pic.effects.values(), default=0) <= 1
        per_step = Counter(key.split("|")[2] if key.count("|") == 3 else "" for key in self.pic.effects.elements())
        assert max(per_step.values(), default=0) <= 1, "two attempts of one step were done"

    @invariant()
    def limits_hold_at_the_pic(self) -> None:
        if not hasattr(self, "pic") or not self.row:
            return
        life = standing(self.row)
        assert 0 <= life.refunded_minor <= life.captured_minor <= life.authorized_minor <= AMOUNT
        assert not self.parked, "the PIC never contradicts itself here"

    def teardown(self) -> None:
        """Everything comes to its end: row, reference and PIC agree."""
        if not hasattr(self, "pic"):
            return
        self._read("scored", self.scored)
        for name in self.asked:
            self._ask(name)
        for _ in range(200):
            while self.answers:
                self._read("answered", self.answers.pop(0))
            if not self.intents:
                break
            self._serve(0, "paid")
        assert self.row is not None
        assert self.row.state == ENDED
        assert set(self.completed.values()) == {self.row.outcome}
        paid = self.row.outcome in ("paid", "authorized")
        assert paid == any(self.pic.effects[attempt_id("t", "p", n)] for n in range(1, 4))
        reference = Reference(AMOUNT * paid, AMOUNT * (self.row.outcome == "paid"))
        assert self.row.life is not None or not self.asked
        for operation in self.row.life.operations if self.row.life is not None else ():
            kind, amount = self.asked[operation.operation_id]
            done = any(self.pic.effects[attempt_id("t", "p", n, operation.operation_id)] for n in range(1, 4))
            takes = reference.takes(kind, amount)
            assert operation.state == ENDED
            assert operation.outcome == ("succeeded" if done else "declined" if takes else "refused"), operation
            assert takes or not done
            if done:
                reference.done(kind, amount)
            assert self.updates[operation.operation_id].outcome == operation.outcome
        life = standing(self.row)
        assert (life.authorized_minor, life.captured_minor, life.refunded_minor) == (
            reference.authorized,
            reference.captured,
            reference.refunded,
        )

    # The machine under test.

    def _ask(self, name: str) -> None:
        kind, amount = self.asked[name]
        self._read(
            "operations",
            OperationRequested(
                tenant="t",
                payment_id="p",
                operation_id=name,
                kind=kind,
                amount_minor=amount,
                currency="EUR",
                requested_at_ms=1,
            ),
        )

    def _serve(self, at: int, will: str) -> None:
        intent = self.intents.pop(at)
        answer = self.pic.serve(intent, will)
        if answer is None:
            return
        word, retry = answer
        self.now_ms += 10
        self.answers.append(
            PaymentAnswered(
                attempt=intent["attempt"],
                ask=intent["ask"],
                outcome=word,
                pic_reference="ref",
                answered_at_ms=self.now_ms,
                called=True,
                pic="a",
                tenant="t",
                payment_id="p",
                operation_id=intent["operation_id"],
                retry=retry,
            )
        )

    def _read(self, kind: str, value: Any) -> None:
        self.inputs.append((kind, value))
        before, was = self.row, standing(self.row) if self.row else None
        decision: Any
        match kind:
            case "scored":
                decision = route(self.row, value, b"carried", means=MEANS)
            case "answered":
                decision = settle(self.row, value, means=MEANS)
            case "notified":
                decision = notified(self.row, value, means=MEANS)
            case _:
                decision = operate(self.row, value, received_at_ms=self.now_ms, means=MEANS)
        self.row = decision.row
        if isinstance(decision, Queue | AskAgain):
            self.intents.append(decision.head())
        if isinstance(decision, End):
            self.completed[decision.completed.event_id] = decision.completed.outcome
        for step in getattr(decision, "also", ()):
            match step:
                case Ask(queued=queued):
                    self.intents.append(msgspec.structs.asdict(queued))
                case Tell(updated=updated):
                    known = self.updates.setdefault(updated.operation_id, updated)
                    assert known.outcome == updated.outcome, "an operation ends once"
                case Park(parked=parked):
                    self.parked.append(parked.reason)
        if was is not None and self.row is not None and before is not None:
            now = Status(standing(self.row).status)
            moves = {Status(was.status)}
            for _ in Status:  # one record may take several steps
                moves |= {to for start in moves for to in MOVES[start]}
            assert now in moves, f"{was.status} to {now}"
        assert isinstance(decision, Queue | AskAgain | End | Steps) or decision.row is not None or before is None


Operations.TestCase.settings = settings(max_examples=300, stateful_step_count=50, deadline=None, print_blob=True)
TestOperations = Operations.TestCase
assert ASKS_MAX > 50, "no run of this machine parks a payment for being asked about for too long"
