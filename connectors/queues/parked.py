"""What needs a person: payments and operations that are parked, and what was said about them since."""

from __future__ import annotations

import time
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final

from connectors.broker.follow import TopicReadError, read_to_end
from connectors.broker.one import post_one
from pipeline.settings import BrokerAccess
from pipeline.topics import NOTIFIED, PARKED
from schemas.card_numbers import holds_card_number
from schemas.codec import Codec, UndecodableError
from schemas.identity import attempt_id, payment_key
from schemas.limits import BY_CHARS_MAX, TEXT_CHARS_MAX
from schemas.records import PaymentNotified, PaymentParked

#: Both topics are read, the news from the oldest parked payment on: 30 days of them at most.
READ_TIMEOUT_S: Final = 60.0
#: Clocks of workers and brokers differ.
CLOCKS_MS: Final = 60_000
#: The words of a person, and those of ``payments.notified.v1``.
OUTCOMES: Final = {"succeeded": "paid", "failed": "declined", "unsent": "unsent"}

_Subject = tuple[str, str, str, int]


class DecisionError(ValueError):
    """What was decided cannot be said, or is about nothing that is parked."""


@dataclass(slots=True)
class Case:
    """Something that is parked, since when by the topic's clock, and the first answer to it since then."""

    parked: PaymentParked
    since_ms: int
    answer: PaymentNotified | None = None


def read_cases(broker: BrokerAccess | str, codec: Codec) -> list[Case]:
    """Everything that was parked in the last 30 days, the oldest first; of an attempt the latest word. Raises
    :class:`TopicReadError`."""
    cases: dict[_Subject, Case] = {}

    def take_parked(message: Any) -> None:
        with suppress(UndecodableError):
            parked = codec.decode(message.value() or b"", PaymentParked)
            subject = (parked.tenant, parked.payment_id, parked.operation_id, parked.attempt)
            known = cases.get(subject)
            if known is None or known.parked.event_id != parked.event_id:
                cases[subject] = Case(parked, message.timestamp()[1])

    def take_news(message: Any) -> None:
        if message.key() not in keys:
            return
        with suppress(UndecodableError):
            news = codec.decode(message.value() or b"", PaymentNotified)
            case = cases.get((news.tenant, news.payment_id, news.operation_id, news.attempt))
            if case is not None and case.answer is None and _answers(news, message.timestamp()[1], case):
                case.answer = news

    if not read_to_end(broker, PARKED.name, take_parked, READ_TIMEOUT_S):
        raise TopicReadError(f"{broker} has no topic {PARKED.name}: make the topics with `ptr topics apply`")
    keys = {payment_key(tenant, payment_id) for tenant, payment_id, _, _ in cases}
    if cases:
        since_ms = min(case.since_ms for case in cases.values()) - CLOCKS_MS
        read_to_end(broker, NOTIFIED.name, take_news, READ_TIMEOUT_S, since_ms=max(since_ms, 1))
    return sorted(cases.values(), key=lambda case: case.since_ms)


def _answers(news: PaymentNotified, written_ms: int, case: Case) -> bool:
    """Whether ``news`` ends what a person is waited for; earlier ones are what led to it."""
    return news.outcome != "requires_action" and written_ms >= case.since_ms


def decided(
    case: Case, outcome: str, *, who: str, why: str, reference: str = "", at_ms: int | None = None
) -> PaymentNotified:
    """A person's word on ``case``; ``outcome`` is one of :data:`OUTCOMES`. Raises :class:`DecisionError`."""
    parked = case.parked
    for name, text, longest in (
        ("--by", who, BY_CHARS_MAX),
        ("--why", why, TEXT_CHARS_MAX),
        ("--reference", reference or "-", TEXT_CHARS_MAX),
    ):
        if not text.strip() or len(text) > longest or not text.isprintable():
            raise DecisionError(f"{name} must be 1 to {longest} printable characters")
        if holds_card_number(text):
            raise DecisionError(f"{name} holds what looks like a card number")
    now_ms = int(time.time() * 1000) if at_ms is None else at_ms
    subject = attempt_id(parked.tenant, parked.payment_id, parked.attempt, parked.operation_id)
    return PaymentNotified(
        event_id=f"{subject}|person|{now_ms}",
        source="person",
        who=who,
        why=why,
        pic=parked.pic,
        tenant=parked.tenant,
        payment_id=parked.payment_id,
        operation_id=parked.operation_id,
        attempt=parked.attempt,
        outcome=OUTCOMES[outcome],
        pic_reference=reference or parked.pic_reference,
        occurred_at_ms=now_ms,
    )


def find_case(cases: list[Case], tenant: str, payment_id: str, operation_id: str) -> Case:
    """The case that waits for a word on this payment, or on this operation of it. Raises :class:`DecisionError`."""
    mine = [case for case in cases if (case.parked.tenant, case.parked.payment_id) == (tenant, payment_id)]
    open_ = [case for case in mine if case.answer is None]
    found = [case for case in open_ if case.parked.operation_id == operation_id]
    if found:
        return found[-1]
    what = f"operation {operation_id} of {payment_id}" if operation_id else f"payment {payment_id}"
    operations = sorted({case.parked.operation_id or "the payment itself" for case in open_})
    if operations:
        raise DecisionError(f"{what} of {tenant} is not parked; of that payment there is: {', '.join(operations)}")
    if mine:
        raise DecisionError(f"{what} of {tenant} was answered already: `ptr queues parked --all` shows by whom")
    raise DecisionError(f"nothing of payment {payment_id} of {tenant} is parked: `ptr queues parked` lists what is")


def publish(broker: BrokerAccess | str, codec: Codec, news: PaymentNotified) -> None:
    """Post it; returns when the broker has it. Raises :class:`PostError`."""
    post_one(broker, NOTIFIED.name, codec.encode(news), payment_key(news.tenant, news.payment_id))
