"""What readers of statements share: what a file gives, and what is said of one that is refused."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from pipeline.stages.reconciliation import Line, Span

#: What is read of a file at a time.
CHUNK_BYTES: Final = 64 * 1024
#: A line of a CSV file, and what an XML file may have between two transfers: far above what one takes.
LINE_BYTES_MAX: Final = 1024 * 1024
#: Avro's long.
AMOUNT_MINOR_MAX: Final = 2**63 - 1
_DAY_MS: Final = 24 * 60 * 60 * 1000


class StatementError(ValueError):
    """The file is refused as a whole: ``where`` and why, and nothing of what it holds."""

    def __init__(self, where: str, why: str) -> None:
        super().__init__(f"{where}: {why}" if where else why)


@dataclass(frozen=True, slots=True)
class Other:
    """A line that is about no attempt: a fee, a payout, money that comes in."""

    row: int
    at: Span | None = None


#: Lines in the order of the file.
Lines = Iterator[Line | Other]


def span_of(text: str) -> Span | None:
    """A day or a time, ISO 8601 (or with a space for the T); without an offset it is UTC. None for anything else.

    What is written without seconds, or as a day, may be anything within it.
    """
    text = text.strip()
    try:
        at = datetime.fromisoformat(text)
        from_ms = int(at.replace(tzinfo=at.tzinfo or UTC).timestamp()) * 1000
    except (ValueError, OverflowError):
        return None
    if len(text) <= 10:
        return Span(from_ms, from_ms + _DAY_MS)
    return Span(from_ms, from_ms + (60_000 if text.count(":") == 1 and len(text) <= 16 else 1_000))
