"""What the audit tables tell of attempts at one PIC: what was asked, and the last word on it.

Read in pages of payments, in the order of their ids, so memory does not grow with the tables. Everything is in events'
payloads, so reconciliation needs no column of its own; operations have an index, for they change no row of ``payments``.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain, groupby
from typing import Any, Final

import msgspec

from connectors.sinks.database import Database, wanted
from connectors.sinks.rows import OPERATIONS
from pipeline import topics
from pipeline.stages.reconciliation import MOVEMENTS, Attempt
from schemas.limits import REQUESTED_AHEAD_MS_MAX

#: Payments whose events are asked for at once.
PAGE_PAYMENTS: Final = 500
_PAGE: Final = (
    "SELECT tenant, payment_id FROM payments WHERE (tenant, payment_id) > (?, ?) AND updated_at_ms >= ?"
    " AND COALESCE(requested_at_ms, 0) < ? ORDER BY tenant, payment_id LIMIT ?"
)
#: Words of ``payments.completed.v1`` and ``payments.updated.v1`` that end an attempt, as an attempt's.
_ENDS: Final = {"paid": "paid", "succeeded": "paid", "declined": "declined"}


class _Told(msgspec.Struct, frozen=True):
    """The fields of any of the events that are read here; what one does not have keeps its default."""

    attempt: int = 0
    attempts: int = 0
    operation_id: str = ""
    kind: str = "payment"
    amount_minor: int = 0
    currency: str = ""
    pic: str = ""
    outcome: str = ""
    reason: str = ""
    pic_reference: str = ""


class _Attempt:
    """An attempt while its events are read."""

    __slots__ = ("asked", "first_ms", "last_ms", "outcome", "pic_reference", "said")

    def __init__(self) -> None:
        self.asked: _Told | None = None
        self.first_ms = self.last_ms = 0
        self.outcome = "queued"
        self.pic_reference = ""
        #: How sure the outcome is: 1 an answer that leaves it open, 2 one that ends it, 3 settlement's.
        self.said = 0

    def seen(self, at_ms: int) -> None:
        self.first_ms = min(self.first_ms or at_ms, at_ms)
        self.last_ms = max(self.last_ms, at_ms)

    def say(self, outcome: str, said: int, reference: str) -> None:
        """The later of two that are equally sure counts."""
        if said >= self.said:
            self.outcome, self.said = outcome, said
            self.pic_reference = reference or self.pic_reference


_told = msgspec.json.Decoder(_Told)


def attempts_at(database: Database, pic: str, *, from_ms: int, until_ms: int) -> Iterator[Attempt]:
    """Attempts that may have moved money at ``pic``: of payments that were asked for before ``until_ms`` and of which
    something was recorded at ``from_ms`` or later, in the order of their ids; then those of operations that began at
    ``from_ms`` or later. Raises ``DatabaseError``.
    """
    asked = [topic.name for topic in (topics.queue(pic), *topics.retries(pic))]
    told = (topics.ANSWERED.name, topics.NOTIFIED.name, topics.COMPLETED.name, topics.UPDATED.name)
    names = (*asked, *told)
    rows = chain(
        _of_payments(database, names, from_ms, until_ms + REQUESTED_AHEAD_MS_MAX),
        database.stream(_operations_sql(len(names)), (from_ms, *names)),
    )
    for (tenant, payment_id), events in groupby(rows, key=lambda row: row[:2]):
        yield from _attempts(tenant, payment_id, events, pic, frozenset(asked))


def _of_payments(database: Database, names: tuple[str, ...], from_ms: int, until_ms: int) -> Iterator[tuple[Any, ...]]:
    """Events of payments' own attempts."""
    after = ("", "")
    while True:
        page = database.query(_PAGE, (*after, from_ms, until_ms, PAGE_PAYMENTS))
        if page:
            ids = chain.from_iterable(page)
            yield from database.stream(_payments_sql(database, len(page), len(names)), (*ids, *names))
        if len(page) < PAGE_PAYMENTS:
            return
        after = page[-1]


def _payments_sql(database: Database, payments: int, names: int) -> str:
    return (
        f"{wanted(payments)} SELECT e.tenant, e.payment_id, e.topic, e.recorded_at_ms, CAST(e.payload AS TEXT)"  # noqa: S608
        " FROM wanted w JOIN payments p ON p.tenant = w.tenant AND p.payment_id = w.payment_id"
        f" JOIN payment_events e ON {database.is_about('e', 'p')}"
        f" WHERE e.topic IN ({', '.join('?' * names)}) AND e.sequence < {OPERATIONS} AND e.payload IS NOT NULL"
        " ORDER BY p.tenant, p.payment_id, e.sequence, e.recorded_at_ms, e.event_id"
    )


def _operations_sql(names: int) -> str:
    """Captures, voids and refunds, which change no row of ``payments``: by an index of their own."""
    return (
        "SELECT e.tenant, e.payment_id, e.topic, e.recorded_at_ms, CAST(e.payload AS TEXT) FROM payment_events e"  # noqa: S608
        f" WHERE e.sequence = {OPERATIONS} AND e.recorded_at_ms >= ?"
        f" AND e.topic IN ({', '.join('?' * names)}) AND e.payload IS NOT NULL"
        " ORDER BY e.tenant, e.payment_id, e.recorded_at_ms, e.event_id"
    )


def _attempts(
    tenant: str, payment_id: str, events: Iterator[tuple[Any, ...]], pic: str, queues: frozenset[str]
) -> Iterator[Attempt]:
    found: dict[tuple[str, int], _Attempt] = {}

    def of(operation_id: str, attempt: int) -> _Attempt:
        return found.setdefault((operation_id, attempt), _Attempt())

    for _, _, topic, at_ms, payload in events:
        event = _told.decode(payload)
        if event.pic != pic:
            continue
        if topic in queues:
            one = of(event.operation_id, event.attempt)
            one.asked = one.asked or event
        elif topic in (topics.ANSWERED.name, topics.NOTIFIED.name):
            one = of(event.operation_id, event.attempt)
            one.say(event.outcome, 2 if event.outcome in _ENDS else 1, event.pic_reference)
        elif event.outcome in _ENDS:
            one = of(event.operation_id, event.attempts)
            one.say(_ENDS[event.outcome], 3, event.pic_reference)
        else:
            continue
        one.seen(at_ms)
    for (operation_id, number), one in found.items():
        # Without its intent (it expired before it was audited) an attempt's amount is not known.
        if one.asked is not None and (movement := MOVEMENTS.get(one.asked.kind)) is not None:
            yield Attempt(
                tenant=tenant,
                payment_id=payment_id,
                operation_id=operation_id,
                attempt=number,
                movement=movement,
                outcome=one.outcome,
                amount_minor=one.asked.amount_minor,
                currency=one.asked.currency,
                pic_reference=one.pic_reference,
                first_ms=one.first_ms,
                last_ms=one.last_ms,
            )
