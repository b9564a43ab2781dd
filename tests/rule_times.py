"""Instants for tests of rules."""

from __future__ import annotations

from datetime import UTC, datetime


def noon_ms(day: str) -> int:
    """12:00 UTC of a day ``YYYY-MM-DD``, in epoch milliseconds."""
    return round(datetime.fromisoformat(f"{day}T12:00").replace(tzinfo=UTC).timestamp() * 1000)
