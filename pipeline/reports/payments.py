"""Reports of payments: why they ended badly, how long they took, and what PICs said. Pure."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Final

import msgspec

from pipeline.reports.events import Asked, Days, Event
from pipeline.reports.money import SETTLEMENT
from pipeline.reports.sheet import Chart, Column, Row, Sheet
from pipeline.reports.spread import Spread
from schemas.reasons import WENT_THROUGH


class _Completed(msgspec.Struct, frozen=True):
    amount_minor: int
    currency: str
    received_at_ms: int
    stage: str = ""
    pic: str = ""


_completed = msgspec.json.Decoder(_Completed).decode


@dataclass(slots=True)
class _Ended:
    payments: int = 0
    amount_minor: int = 0


class Declines:
    """Payments that did not go through, by tenant, outcome, stage, reason, PIC and currency, those with most payments first."""

    stages: Final = (SETTLEMENT,)
    columns: Final = (
        Column("tenant"),
        Column("outcome"),
        Column("stage"),
        Column("reason"),
        Column("pic", heading="PIC"),
        Column("currency"),
        Column("payments", "count"),
        Column("amount_minor", "minor"),
        Column("share", "share", "of all payments"),
    )

    def __init__(self, days: Days) -> None:
        self._found: dict[tuple[str, ...], _Ended] = {}
        #: All payments, by tenant.
        self._payments: Counter[str] = Counter()

    def add(self, event: Event) -> None:
        """Count one event."""
        self._payments[event.tenant] += 1
        if event.outcome in WENT_THROUGH:
            return
        completed = _completed(event.payload)
        key = (event.tenant, event.outcome, completed.stage, event.reason, completed.pic, completed.currency)
        ended = self._found.setdefault(key, _Ended())
        ended.payments += 1
        ended.amount_minor += completed.amount_minor

    def sheet(self) -> Sheet:
        """What was found, a row for each key."""
        most_first = sorted(self._found, key=lambda key: (key[0], -self._found[key].payments, key))
        by_currency: dict[str, _Ended] = {}
        for key, ended in self._found.items():
            total = by_currency.setdefault(key[5], _Ended())
            total.payments += ended.payments
            total.amount_minor += ended.amount_minor
        every = self._payments.total()
        return Sheet(
            "declines",
            "Declines",
            self.columns,
            [self._row(key, self._found[key], self._payments[key[0]]) for key in most_first],
            [
                self._row(("total", None, None, None, None, currency), by_currency[currency], every)
                for currency in sorted(by_currency)
            ],
            [Chart("By reason", ("payments",), kind="bars", names=("outcome", "reason"))],
            "Every payment that did not end as paid or authorized, by the stage that said so.",
        )

    @staticmethod
    def _row(key: tuple[str | None, ...], ended: _Ended, of: int) -> Row:
        return (*key, ended.payments, ended.amount_minor, ended.payments / of if of else None)


_PERCENTILES: Final = (0.5, 0.9, 0.99)


def _spread_columns() -> tuple[Column, ...]:
    return (*(Column(f"p{share * 100:g}_ms", "ms") for share in _PERCENTILES), Column("max_ms", "ms", "longest"))


def _spread_row(spread: Spread) -> Row:
    return (*(spread.at(share) for share in _PERCENTILES), spread.max_ms if spread.count else None)


class Latency:
    """From the moment when a request was in Kafka to its outcome, by tenant, day and PIC."""

    stages: Final = (SETTLEMENT,)
    columns: Final = (
        Column("tenant"),
        Column("day"),
        Column("pic", heading="PIC"),
        Column("payments", "count"),
        *_spread_columns(),
    )

    def __init__(self, days: Days) -> None:
        self._days = days
        self._found: dict[tuple[str, str, str], Spread] = {}

    def add(self, event: Event) -> None:
        """Count one event."""
        completed = _completed(event.payload)
        key = (event.tenant, self._days.of(event.recorded_at_ms), completed.pic)
        self._found.setdefault(key, Spread()).add(event.recorded_at_ms - completed.received_at_ms)

    def sheet(self) -> Sheet:
        """What was found, a row for each key."""
        total = Spread()
        for spread in self._found.values():
            total.merge(spread)
        return Sheet(
            "latency",
            "Latency",
            self.columns,
            [(*key, self._found[key].count, *_spread_row(self._found[key])) for key in sorted(self._found)],
            [("total", None, None, total.count, *_spread_row(total))] if total.count else [],
            [Chart("99 % of payments took less (ms), by day", ("p99_ms",), together="max")],
            "By the broker's clock, from the request's record to the outcome's. A payment without PIC ended before it was "
            "sent to one. Percentiles are within 1 %.",
        )


#: What a PIC, or what stands for it, says to an ask.
ANSWERS: Final = ("paid", "declined", "pending", "requires_action", "unsent", "unknowable")


@dataclass(slots=True)
class _Queue:
    further: int = 0
    answers: Counter[str] = field(default_factory=Counter)
    waited: Spread = field(default_factory=Spread)

    def merge(self, other: _Queue) -> None:
        self.further += other.further
        self.answers += other.answers
        self.waited.merge(other.waited)


class Queues:
    """What PICs were asked and said, by PIC and day, and how long an ask waited for its answer."""

    columns: Final = (
        Column("pic", heading="PIC"),
        Column("day"),
        Column("asks", "count"),
        Column("further_asks", "count"),
        *(Column(answer, "count") for answer in ANSWERS),
        *_spread_columns(),
    )

    def __init__(self, days: Days) -> None:
        self._days = days
        self._found: dict[tuple[str, str], _Queue] = {}

    def add(self, asked: Asked) -> None:
        """Count one ask."""
        queue = self._found.setdefault((asked.pic, self._days.of(asked.answered_at_ms)), _Queue())
        queue.further += asked.ask > 0
        queue.answers[asked.outcome] += 1
        queue.waited.add(asked.answered_at_ms - asked.queued_at_ms)

    def sheet(self) -> Sheet:
        """What was found, a row for each key."""
        total = _Queue()
        for queue in self._found.values():
            total.merge(queue)
        return Sheet(
            "queues",
            "Queues",
            self.columns,
            [(*key, *self._row(self._found[key])) for key in sorted(self._found)],
            [("total", None, *self._row(total))] if self._found else [],
            [Chart("Answers by day", ANSWERS)],
            "An ask is a call or a look-up at a PIC, also after a time in a retry topic; further asks follow an answer that "
            "left the outcome open. Times are from the intent's record to its answer's, delays of retries included.",
        )

    @staticmethod
    def _row(queue: _Queue) -> Row:
        return (
            queue.waited.count,
            queue.further,
            *(queue.answers[answer] for answer in ANSWERS),
            *_spread_row(queue.waited),
        )
