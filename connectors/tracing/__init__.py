"""Spans of payments for a collector, made from the audit tables (docs/decisions/0043-spans-from-events.md)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

#: Variables that name a collector; without both there are no spans, and nothing more of this package is imported.
ENDPOINTS: Final = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")


def is_configured(environment: Mapping[str, str]) -> bool:
    """Whether the environment names a collector, and does not switch OpenTelemetry off."""
    named = any(environment.get(name) for name in ENDPOINTS)
    return named and environment.get("OTEL_SDK_DISABLED", "").lower() != "true"
