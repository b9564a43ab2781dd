"""Events in an audit database, as the sink writes them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager

from connectors.sinks.database import Batch, Database, open_database
from connectors.sinks.rows import Columns, Mapper, state_of
from pipeline import topics
from schemas.codec import Codec
from schemas.records import (
    ChargebackReceived,
    DeadLetter,
    InvoiceChanged,
    PaymentAnswered,
    PaymentCompleted,
    PaymentQueued,
    PaymentScored,
    PaymentUpdated,
    Record,
    ReviewAnswered,
    StockMoved,
)

CODEC = Codec()
TOPICS = {
    PaymentScored: topics.SCORED.name,
    ReviewAnswered: topics.REVIEWS_ANSWERED.name,
    PaymentAnswered: topics.ANSWERED.name,
    ChargebackReceived: topics.CHARGEBACKS.name,
    PaymentCompleted: topics.COMPLETED.name,
    PaymentUpdated: topics.UPDATED.name,
    StockMoved: topics.INVENTORY.name,
    InvoiceChanged: topics.INVOICES.name,
    DeadLetter: topics.DEAD_LETTERS.name,
}


def topic_of(event: Record) -> str:
    """Where ``event`` is published."""
    return topics.queue(event.pic).name if isinstance(event, PaymentQueued) else TOPICS[type(event)]


@contextmanager
def a_database(url: str) -> Iterator[Database]:
    """A new audit database, up to date and locked as its sink does."""
    with closing(open_database(url, create=True)) as opened:
        opened.lock()
        opened.migrate()
        yield opened


def write(
    database: Database, events: Sequence[Record], first_offset: int = 0, *, recorded_at_ms: Callable[[Record], int]
) -> None:
    """All of ``events`` in one transaction, with offsets from ``first_offset`` on."""
    batch, mapper = Batch(), Mapper(CODEC)
    by_payment: dict[tuple[str, str], list[Columns]] = defaultdict(list)
    for offset, event in enumerate(events, first_offset):
        row = mapper.columns(topic_of(event), 0, offset, recorded_at_ms(event), CODEC.encode(event))
        batch.events.append(row)
        by_payment[row[:2]].append(row)
    states = (state_of(told, mapper.record_of) for told in by_payment.values())
    batch.states = [state for state in states if state is not None]
    database.write(batch)
