"""When a file for the bank is closed, and what is in it. Pure: the time is an argument."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from connectors.pic.iso20022.ledger import Batch, Taken
from connectors.pic.iso20022.pain001 import Version, pain001, payment_ids
from pipeline.stages.localities.value_date import ValueDates

#: A file is made so long after the cut-off at the latest for what came before it; give the bank's own cut-off that much less.
CUT_OFF_LEEWAY_S: Final = 300


@dataclass(frozen=True, slots=True, kw_only=True)
class Batching:
    """How one bank wants it. ``dates`` are those of its calendar and cut-off."""

    initiator: str
    dates: ValueDates
    version: Version = "09"
    transfers_max: int = 1_000
    wait_s: float = 300.0

    def choose(self, waiting: Sequence[Taken], now_ms: int) -> Sequence[Taken]:
        """Those to send now, the oldest first: enough for a file, or one waits for long or since before the cut-off."""
        due = (
            len(waiting) >= self.transfers_max
            or any(now_ms - each.taken_at_ms >= self.wait_s * 1000 for each in waiting[:1])
            or any(self.dates.of(each.taken_at_ms) != self.dates.of(now_ms) for each in waiting[:1])
        )
        return waiting[: self.transfers_max] if due else ()

    def write(self, message_id: str, chosen: Sequence[Taken], now_ms: int) -> Batch:
        """The file."""
        dated = [(each.transfer, self.execution_date(each, now_ms)) for each in chosen]
        content = pain001(
            dated,
            message_id=message_id,
            created_at=datetime.fromtimestamp(now_ms / 1000, UTC),
            initiator=self.initiator,
            version=self.version,
        )
        return Batch(content, payment_ids(dated, message_id))

    def execution_date(self, taken: Taken, now_ms: int) -> str:
        """The business day that the bank is to execute it: never one whose cut-off is long over, nor before the value date."""
        earliest = self.dates.of(now_ms - CUT_OFF_LEEWAY_S * 1000)
        return max(earliest, self.dates.of(taken.taken_at_ms), taken.transfer.value_date)
