"""Spans over OTLP: what a collector gets, decoded by OpenTelemetry's own schema; and nothing is imported without one."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from connectors.tracing.exporter import OtlpExporter
from connectors.tracing.spans import Span
from schemas.trace_context import span_id
from tests.collector import a_collector, attributes_of
from tests.timed import RECEIVED_MS, TRACE, paid_after_a_retry
from tests.unit.test_spans import spans_in

#: Numbers of OpenTelemetry's protocol (trace.proto): SpanKind and StatusCode.
INTERNAL, CLIENT, CONSUMER = 1, 3, 5
UNSET, ERROR = 0, 2


def sent(monkeypatch: pytest.MonkeyPatch, url: str, spans: list[Span]) -> bool:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", url)
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TIMEOUT", "1")
    exporter = OtlpExporter()
    try:
        return exporter.export(spans)
    finally:
        exporter.close()


def test_a_collector_gets_the_payments_spans(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ids, parents from the caller's span to the last step, times in nanoseconds, kinds, status, state; no personal data."""
    monkeypatch.setenv("OTEL_RESOURCE_ATTRIBUTES", "deployment.environment=test")
    with a_collector() as collector:
        assert sent(monkeypatch, collector.url, spans_in(tmp_path, *paid_after_a_retry(), why="error"))
    assert collector.paths == ["/v1/traces"]
    assert collector.resource["service.name"] == "payment-pipeline"
    assert collector.resource["deployment.environment"] == "test"
    spans = collector.spans
    assert [span.parent_span_id.hex() for span in spans] == ["b7ad6b7169203331", *[s.span_id.hex() for s in spans[:-1]]]
    assert {span.trace_id.hex() for span in spans} == {TRACE}
    assert {span.trace_state for span in spans} == {"rojo=1"}
    payment, call = spans[0], spans[7]
    assert (payment.name, payment.kind, payment.status.code) == ("payment", CONSUMER, ERROR)
    assert payment.start_time_unix_nano == RECEIVED_MS * 1_000_000
    assert payment.end_time_unix_nano == (RECEIVED_MS + 1640) * 1_000_000
    assert (call.name, call.kind, call.span_id.hex()) == (
        "call simulator",
        CLIENT,
        span_id("aurora", "pay_1", "call/1.0"),
    )
    assert (call.status.code, call.status.message) == (ERROR, "pic_answer_unknown")
    assert attributes_of(call) == {
        "ptr.tenant": "aurora",
        "ptr.payment_id": "pay_1",
        "ptr.step": "call",
        "ptr.outcome": "pending",
        "ptr.reason": "pic_answer_unknown",
        "ptr.attempt": 1,
        "ptr.ask": 0,
        "ptr.pic": "simulator",
    }
    for secret in (b"Lovelace", b"tok_1", b"1250"):
        assert secret not in collector.raw


def test_links_are_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    """A batch's span links to the payments in it."""
    batch = Span(
        trace_id="1" * 32,
        span_id="2" * 16,
        parent_id="",
        name="audit sink batch",
        kind="internal",
        began_ms=1,
        ended_ms=2,
        attributes={},
        links=[(TRACE, "3" * 16)],
    )
    with a_collector() as collector:
        assert sent(monkeypatch, collector.url, [batch])
    [span] = collector.spans
    assert (span.kind, span.status.code, span.parent_span_id) == (INTERNAL, UNSET, b"")
    assert [(link.trace_id.hex(), link.span_id.hex()) for link in span.links] == [(TRACE, "3" * 16)]


@pytest.mark.parametrize("status", [400, 503])
def test_what_a_collector_refuses_is_not_taken(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, status: int) -> None:
    """At once, or after a bounded time; no exception, no word in the log."""
    with a_collector() as collector:
        collector.status = status
        assert not sent(monkeypatch, collector.url, spans_in(tmp_path, *paid_after_a_retry()))


def test_nothing_is_imported_where_no_collector_is_named(tmp_path: Path) -> None:
    """The audit sink's command, worker and tail: none of OpenTelemetry, of its HTTP client, of what makes spans."""
    program = (
        "import sys, os\n"
        "import pipeline.app, pipeline.commands.worker, pipeline.commands.trace, pipeline.commands.events\n"
        "from click.testing import CliRunner\n"
        "from pipeline.commands.audit import audit_sink\n"
        "import connectors.sinks.sink\n"
        "connectors.sinks.sink.BROKER_TIMEOUT_S = connectors.sinks.sink.METADATA_MISSING_S = 0.1\n"
        "done = CliRunner().invoke(audit_sink, ['--once', '--give-up-after', '0.2', '--broker', '127.0.0.1:1'])\n"
        "assert 'does not answer' in done.output, done.output\n"
        "heavy = ('opentelemetry', 'requests', 'urllib3', 'connectors.tracing.')\n"
        "print([name for name in sys.modules if name.startswith(heavy)])\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={"PTR_DATABASE": f"sqlite:///{tmp_path}/audit.db", "PYTHONPATH": ":".join(sys.path)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.stdout.strip() == "[]", done.stderr
