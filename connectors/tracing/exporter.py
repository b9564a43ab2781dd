"""Spans to a collector, by OTLP over HTTP. Imported only where an endpoint is configured: OpenTelemetry's packages take 0.4 s.

Where to and how is OpenTelemetry's to read from the environment: ``OTEL_EXPORTER_OTLP_ENDPOINT``, ``..._HEADERS``,
``..._TIMEOUT``, ``..._CERTIFICATE``, and the same with ``_TRACES_``; ``OTEL_SERVICE_NAME``, ``OTEL_RESOURCE_ATTRIBUTES``.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping, Sequence

from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExportResult
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import Link, SpanContext, SpanKind, Status, StatusCode, TraceFlags, TraceState

from connectors.tracing.spans import Span

_KINDS: Mapping[str, SpanKind] = {
    "consumer": SpanKind.CONSUMER,
    "client": SpanKind.CLIENT,
    "internal": SpanKind.INTERNAL,
}
_SAMPLED = TraceFlags(TraceFlags.SAMPLED)
_SCOPE = InstrumentationScope("payment-pipeline")


class OtlpExporter:
    """Sends spans to the collector that the environment names."""

    def __init__(self) -> None:
        # What cannot be sent is counted and said by the tracer; the packages would say it in words of their own.
        logging.getLogger("opentelemetry").setLevel(logging.CRITICAL + 1)
        name = os.environ.get("OTEL_SERVICE_NAME") or "payment-pipeline"
        self._resource = Resource.create({"service.name": name})
        self._exporter = OTLPSpanExporter()

    def export(self, spans: Sequence[Span]) -> bool:
        """Send ``spans`` in one request, tried again for up to ``OTEL_EXPORTER_OTLP_TIMEOUT`` (10 s); whether it was taken."""
        made = [self._readable(span) for span in spans]
        return bool(self._exporter.export(made) is SpanExportResult.SUCCESS)

    def close(self) -> None:
        """Close the connection."""
        self._exporter.shutdown()  # type: ignore[no-untyped-call]

    def _readable(self, span: Span) -> ReadableSpan:
        state = TraceState.from_header([span.tracestate]) if span.tracestate else None
        context = _context(span.trace_id, span.span_id, state)
        return ReadableSpan(
            name=span.name,
            context=context,
            parent=_context(span.trace_id, span.parent_id, None) if span.parent_id else None,
            resource=self._resource,
            attributes=span.attributes,
            links=[Link(_context(trace_id, span_id, None)) for trace_id, span_id in span.links],
            kind=_KINDS[span.kind],
            status=Status(StatusCode.UNSET) if span.error is None else Status(StatusCode.ERROR, span.error),
            start_time=span.began_ms * 1_000_000,
            end_time=span.ended_ms * 1_000_000,
            instrumentation_scope=_SCOPE,
        )


def _context(trace_id: str, span_id: str, state: TraceState | None) -> SpanContext:
    return SpanContext(int(trace_id, 16), int(span_id, 16), True, _SAMPLED, state)
