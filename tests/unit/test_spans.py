"""Spans from the audit tables: of which payments, what is in them, and that what waits is bounded."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from connectors.sinks.database import Batch
from connectors.sinks.journey import journey
from connectors.sinks.rows import EventRow, PaymentState, payment_state
from connectors.sinks.story import story
from connectors.tracing import is_configured
from connectors.tracing import tracer as tracer_module
from connectors.tracing.sampling import Sampling
from connectors.tracing.spans import Span, is_whole, spans_of
from connectors.tracing.tracer import Tracer
from schemas.records import (
    ChargebackReceived,
    PaymentCompleted,
    PaymentParked,
    PaymentQueued,
    PaymentScreened,
    PaymentUpdated,
    ReviewOpened,
)
from schemas.trace_context import span_id, trace_id_of
from tests.timed import (
    RECEIVED_MS,
    TRACE,
    Timed,
    called,
    new_database,
    paid_after_a_retry,
    said,
    write,
)

EVERY = Sampling(share=1.0, slow_ms=10**9)
NONE = Sampling(share=0.0, slow_ms=10**9)
NEVER_SLOW_TRACE = "f" * 32


def ended(**fields: Any) -> PaymentState:
    """A state of a payment that was paid within 50 ms, unless told."""
    state = payment_state(
        EventRow(
            "aurora", "pay_1", "e", 10**9, "settlement", "paid", "", 1, None, "t", 0, 0, RECEIVED_MS + 50, b"", "{}"
        ),
        said(PaymentCompleted, attempts=1),
    )
    assert state is not None
    return state._replace(**fields)


@pytest.mark.parametrize(
    ("fields", "was_referred", "why"),
    [
        ({}, False, ""),
        ({"attempts": 2}, False, "error"),
        ({"reason": "rule_failed"}, False, "error"),
        ({"reason": "fraud_score_high", "outcome": "declined"}, False, ""),
        ({"outcome": "referred"}, False, "referred"),
        ({"stage": "reviews"}, False, "referred"),
        ({}, True, "referred"),
        ({"attempts": 2}, True, "error"),
        ({"completed_at_ms": RECEIVED_MS + 999}, False, ""),
        ({"completed_at_ms": RECEIVED_MS + 1000}, False, "slow"),
    ],
)
def test_errors_referred_and_slow_ones_are_always_sampled(fields: dict[str, Any], was_referred: bool, why: str) -> None:
    """Whatever the share is; an answer that is no fault is not an error."""
    rule = Sampling(share=0.0, slow_ms=1000)
    assert rule.of_outcome(ended(**fields), NEVER_SLOW_TRACE, was_referred=was_referred) == why


@pytest.mark.parametrize(
    ("share", "last_half", "taken"),
    [
        (0.25, "3fffffffffffffff", True),
        (0.25, "4000000000000000", False),
        (0.0, "0" * 16, False),
        (1.0, "f" * 16, True),
    ],
)
def test_the_share_is_by_the_trace_id(share: float, last_half: str, taken: bool) -> None:
    """A quarter is what lies below a quarter of 2**64, as in OpenTelemetry's TraceIdRatioBased."""
    from opentelemetry.sdk.trace.sampling import Decision, TraceIdRatioBased

    trace_id = "f" * 16 + last_half
    assert Sampling(share=share, slow_ms=1).in_share(trace_id) is taken
    theirs = TraceIdRatioBased(share).should_sample(None, int(trace_id, 16), "x").decision
    assert (theirs is Decision.RECORD_AND_SAMPLE) is taken


def spans_in(folder: Path, *events: Timed, why: Any = "share") -> list[Span]:
    with closing(new_database(folder, *events)) as database:
        told = story(database, "aurora", "pay_1")
    return [span for part in journey(told) for span in spans_of(told, part, why=why)]


def test_a_payments_spans_link_from_its_caller_to_its_outcome(tmp_path: Path) -> None:
    """The caller's span, the payment, then each step under the one before it; one trace, the caller's state."""
    spans = spans_in(tmp_path, *paid_after_a_retry())
    assert {span.trace_id for span in spans} == {TRACE}
    assert {span.tracestate for span in spans} == {"rojo=1"}
    assert spans[0].parent_id == "b7ad6b7169203331"
    assert [span.parent_id for span in spans[1:]] == [span.span_id for span in spans[:-1]]
    assert len({span.span_id for span in spans}) == len(spans) == 15
    call = next(span for span in spans if span.kind == "client")
    assert (call.name, call.began_ms, call.ended_ms) == ("call simulator", RECEIVED_MS + 70, RECEIVED_MS + 570)
    assert call.span_id == span_id("aurora", "pay_1", "call/1.0")
    assert call.error == "pic_answer_unknown"
    assert call.attributes["ptr.pic"] == "simulator"


def test_spans_hold_no_personal_data(tmp_path: Path) -> None:
    """Of everything that the events say only ids, words and numbers; a text from outside is not shown."""
    words: dict[str, Any] = {"reason": "Ada Lovelace says so", "paid_at_ms": 1, "charged_back_at_ms": 2}
    told = repr(spans_in(tmp_path, *paid_after_a_retry(), (2000, said(ChargebackReceived, kind="chargeback", **words))))
    assert "(not shown)" in told and "chargeback" in told
    for secret in ("Lovelace", "tok_1", "1250", "d1", "c1'"):
        assert secret not in told


def test_an_operation_is_a_span_under_its_payment(tmp_path: Path) -> None:
    """Under the payment's span, when nobody said who asked; under the asker's in the asker's trace, when somebody did."""
    ids: dict[str, Any] = {"operation_id": "ref-1", "kind": "refund", "trace_id": "", "trace_context": ""}
    update = {"event_id": "u1", "status": "refunded", "occurred_at_ms": 1, "outcome": "done"}
    asked = {"trace_id": "1" * 32, "trace_context": "2" * 16 + "-00"}
    for place, (named, parent, trace) in enumerate(
        [
            (ids, span_id("aurora", "pay_1", "payment"), trace_id_of("aurora", "pay_1")),
            (ids | asked, "2" * 16, "1" * 32),
        ]
    ):
        (folder := tmp_path / str(place)).mkdir()
        spans = spans_in(folder, (5, said(PaymentQueued, **named)), (9, said(PaymentUpdated, **update, **named)))
        refund = next(span for span in spans if span.name == "refund")
        assert (refund.parent_id, refund.trace_id) == (parent, trace)
        assert refund.attributes["ptr.operation_id"] == "ref-1"


def test_a_story_without_all_its_events_is_not_whole(tmp_path: Path) -> None:
    """The sink reads outcomes first: what an outcome rests on may come later."""
    events = paid_after_a_retry()
    outcome = (1640, said(PaymentCompleted, attempts=1))
    for kept, whole in (
        (events[:-1], True),
        ([outcome], False),
        ([*events[1:-1], outcome], False),
        ([*events[:-1], outcome], True),
    ):
        (folder := tmp_path / str(len(kept)) / str(whole)).mkdir(parents=True)
        with closing(new_database(folder, *kept)) as database:
            told = story(database, "aurora", "pay_1")
        assert is_whole(told, journey(told)[0]) is whole


class Kept:
    """An exporter that keeps what it is given."""

    def __init__(self, *, takes: bool = True) -> None:
        self.spans: list[Span] = []
        self.takes = takes

    def export(self, spans: list[Span]) -> bool:
        self.spans += spans
        return self.takes

    def close(self) -> None:
        pass


def traced(
    folder: Path, sampling: Sampling, *events: Timed, takes: bool = True, says: list[str] | None = None
) -> tuple[Tracer, Kept]:
    """What a tracer makes of ``events``, written in one batch."""
    kept = Kept(takes=takes)
    with closing(new_database(folder)) as database:
        rows = write(database, list(events))
        say = says.append if says is not None else lambda line: None
        tracer = Tracer(f"sqlite:///{folder}/audit.db", kept, sampling, say=say, settle_s=0.0)
        states = [state for row, (_, record) in zip(rows, events, strict=True) if (state := payment_state(row, record))]
        tracer.written(Batch(list(rows), [state for state in states if state.outcome]), 0.0)
        tracer.close()
    return tracer, kept


def test_a_tracer_makes_spans_of_what_is_chosen(tmp_path: Path) -> None:
    """The payment's fifteen, and one of the batch that links to it; of a payment that is not chosen none at all."""
    tracer, kept = traced(tmp_path / "a", EVERY, *paid_after_a_retry()[:-1], (1640, said(PaymentCompleted, attempts=1)))
    payment = [span for span in kept.spans if span.trace_id == TRACE]
    [batch] = [span for span in kept.spans if span.trace_id != TRACE]
    assert (len(payment), payment[0].name, payment[0].attributes["ptr.sampled"]) == (15, "payment", "share")
    assert (batch.name, list(batch.links)) == ("audit sink batch", [(TRACE, payment[0].span_id)])
    assert (tracer.counts.sampled, tracer.counts.spans, tracer.counts.skipped) == (1, 16, 0)
    tracer, kept = traced(tmp_path / "b", NONE, *paid_after_a_retry())
    assert (kept.spans, tracer.counts.sampled) == ([], 0)


def test_what_was_referred_or_parked_is_chosen_whatever_the_share(tmp_path: Path) -> None:
    """A review that opened is remembered until the outcome; what needs a person is an error at once."""
    review = {"stage": "screening", "opened_at_ms": 0, "due_at_ms": 9, "at_expiry": "reject", "reason": "x"}
    _, kept = traced(
        tmp_path / "a", NONE, (5, said(ReviewOpened, **review)), (9, said(PaymentCompleted, stage="screening"))
    )
    assert [span.attributes["ptr.sampled"] for span in kept.spans if span.name == "payment"] == ["referred"]
    parked = said(PaymentParked, kind="payment", reason="pic_answer_unknown", parked_at_ms=1)
    _, kept = traced(tmp_path / "b", NONE, (5, said(PaymentScreened)), (9, parked))
    errors = [span for span in kept.spans if span.error]
    assert [(span.name, span.error) for span in errors] == [
        ("payment", "pic_answer_unknown"),
        ("parked", "pic_answer_unknown"),
    ]


def test_a_story_that_cannot_be_understood_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And the tracer goes on: spans are beside the work."""

    def fails(of: object) -> None:
        raise KeyError("x")

    monkeypatch.setattr(tracer_module, "journey", fails)
    says: list[str] = []
    _, kept = traced(tmp_path, EVERY, *paid_after_a_retry(), says=says)
    assert says == ["payment pay_1 of aurora cannot be traced: KeyError"]
    assert [span.name for span in kept.spans] == ["audit sink batch"]


def test_a_slow_operation_is_chosen_by_its_events(tmp_path: Path) -> None:
    """Its ``updated`` does not say how long it took; one that was quick is not chosen."""
    ids: dict[str, Any] = {"operation_id": "ref-1", "kind": "refund"}
    update = {"event_id": "u1", "status": "refunded", "occurred_at_ms": 1, "outcome": "done"}
    rule = Sampling(share=0.0, slow_ms=500)
    for name, took_ms, why in (("slow", 500, "slow"), ("quick", 499, None)):
        events = [
            (5, said(PaymentQueued, **ids)),
            (took_ms - 1, called(6, 1, **ids)),
            (took_ms, said(PaymentUpdated, **update, **ids)),
        ]
        _, kept = traced(tmp_path / name, rule, *events)
        assert [span.attributes.get("ptr.sampled") for span in kept.spans if span.name == "refund"] == (
            [why] if why else []
        )


def test_in_an_overload_slow_payments_are_held_back_and_errors_are_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Everything is slow then: some a second, the rest is counted. What waits has a limit too."""
    monkeypatch.setattr(tracer_module, "REMARKABLE_PER_S_MAX", 3)
    kept = Kept()
    new_database(tmp_path, (1, said(PaymentScreened))).close()
    tracer = Tracer(f"sqlite:///{tmp_path}/audit.db", kept, Sampling(share=0.0, slow_ms=10), settle_s=60.0)
    slow = [ended(payment_id=f"s{number}") for number in range(10)]
    tracer.written(Batch([], slow), 0.0)
    assert (tracer.counts.sampled, tracer.counts.skipped) == (3, 7)
    tracer.written(Batch([], [ended(payment_id=f"e{number}", attempts=2) for number in range(10)]), 0.0)
    assert tracer.counts.sampled == 13
    monkeypatch.setattr(tracer_module, "WAITING_MAX", 14)
    tracer.written(Batch([], [ended(payment_id=f"f{number}", attempts=2) for number in range(10)]), 0.0)
    assert (tracer.counts.sampled, tracer.counts.skipped) == (14, 16)
    tracer.close()


def test_what_no_collector_takes_is_counted_and_said_once(tmp_path: Path) -> None:
    """Spans are lost then, and nothing else happens."""
    says: list[str] = []
    tracer, _ = traced(tmp_path, EVERY, *paid_after_a_retry(), takes=False, says=says)
    assert tracer.counts.lost == 16
    assert says == ["the collector of spans did not take them: they are lost, the events are not"]


def test_a_collector_is_named_by_the_environment() -> None:
    """By OpenTelemetry's own variables."""
    assert not is_configured({})
    assert is_configured({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://c:4318"})
    assert is_configured({"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://c:4318/v1/traces"})
    assert not is_configured({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://c:4318", "OTEL_SDK_DISABLED": "true"})
