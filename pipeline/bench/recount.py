"""Recounts what must be true from the input alone, and compares it with topics, tables, audit rows and the PIC's ledger."""

from __future__ import annotations

import re
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import msgspec
from confluent_kafka import Consumer, TopicPartition

from connectors.pic.ledger import SqliteLedger
from connectors.sinks.database import open_database
from pipeline import topics
from pipeline.bench.load import Load
from pipeline.engine.rows import version_of
from pipeline.settings import BrokerAccess, client_config
from pipeline.stages.profiles import HOUR_MS, Profile
from schemas.codec import Codec
from schemas.identity import attempt_id, payee_key, payer_key
from schemas.records import PaymentCompleted, PaymentQueued, PaymentScreened, ReviewDecided

Buckets = Counter[tuple[bytes, int]]


def read_all(broker: BrokerAccess | str, topic: str) -> Iterator[Any]:
    """Every message of ``topic`` up to its end now."""
    consumer = Consumer(client_config(broker, {"group.id": "ptr-recount", "enable.auto.commit": False, "log_level": 3}))
    try:
        partitions = consumer.list_topics(topic, timeout=10).topics[topic].partitions
        ends = {p: consumer.get_watermark_offsets(TopicPartition(topic, p), timeout=10)[1] for p in partitions}
        consumer.assign([TopicPartition(topic, p, 0) for p in ends])
        while any(position.offset < ends[position.partition] for position in _positions(consumer, ends, topic)):
            for message in consumer.consume(5000, 1.0):
                if message.error() is None and message.offset() < ends[message.partition()]:
                    yield message
    finally:
        consumer.close()


def _positions(consumer: Any, ends: dict[int, int], topic: str) -> list[TopicPartition]:
    wanted = [TopicPartition(topic, partition) for partition in ends]
    return [TopicPartition(topic, p.partition, max(p.offset, 0)) for p in consumer.position(wanted)]


def asked_later(broker: BrokerAccess | str, pics: Iterable[str], beyond_s: float) -> set[str]:
    """Payments (``TENANT|PAYMENT``) that wait at one of ``pics`` for an ask whose time has not come, with a delay of more than
    ``beyond_s``: no news of them is expected before."""
    decode, now_ms, found = Codec().decoder(PaymentQueued), time.time() * 1000, set[str]()
    for pic in pics:
        for delay_s, topic in zip(topics.RETRY_DELAYS_S, topics.retries(pic), strict=True):
            if delay_s <= beyond_s:
                continue
            for message in read_all(broker, topic.name):
                queued = decode(message.value())
                if queued.not_before_ms > now_ms:
                    found.add(f"{queued.tenant}|{queued.payment_id}")
    return found


def newest_rows(broker: BrokerAccess | str, changelog: str) -> dict[bytes, bytes]:
    """What recovery would make of a changelog."""
    rows: dict[bytes, bytes] = {}
    for message in read_all(broker, changelog):
        key, value = message.key(), message.value()
        if key not in rows or version_of(value) >= version_of(rows[key]):
            rows[key] = value
    return rows


def mistakes(broker: BrokerAccess | str, database_url: str, ledger: str, load: Load) -> list[str]:
    """Everything that is not as it must be; empty when the run was exact."""
    payments = [load.payment(number) for number in range(load.payments)]
    reviews = _reviews(broker, load)
    referred = {(p.tenant, p.payment_id) for number, p in enumerate(payments) if load.is_referred(number)}
    found = []
    if reviews.keys() != referred:
        which = few(reviews.keys() ^ referred)
        found.append(f"{len(reviews)} payments were reviewed to an end, {len(referred)} are to be: {which}")
    passed = [p for p in payments if reviews.get((p.tenant, p.payment_id), _PASSED).approved]
    found += _outcomes(broker, payments, reviews)
    found += _buckets(broker, passed)
    found += _calls(ledger, passed)
    found += _audit(database_url, payments, reviews)
    return found


@dataclass(frozen=True, slots=True)
class _Review:
    """How a review must have ended, from the referral, the decisions and the broker's times alone."""

    approved: bool
    reason: str
    #: Event ids of what was said to people whose words changed nothing.
    ignored: tuple[str, ...] = ()


_PASSED = _Review(True, "")


def _reviews(broker: BrokerAccess | str, load: Load) -> dict[tuple[str, str], _Review]:
    at_expiry = {rules.tenant: rules.review for rules in load.tenants()}
    codec = Codec()
    decode = codec.decoder(ReviewDecided)
    opened: dict[bytes, int] = {}
    for message in read_all(broker, topics.REFERRED.name):
        if codec.record_of(message.value()) is PaymentScreened:
            opened.setdefault(message.key(), message.timestamp()[1])
    words: dict[bytes, list[tuple[int, int, int, ReviewDecided]]] = {}
    for message in read_all(broker, topics.REVIEWS_DECIDED.name):
        at = (message.partition(), message.offset(), message.timestamp()[1])
        words.setdefault(message.key(), []).append((*at, decode(message.value())))
    found = {}
    for key, opened_at_ms in opened.items():
        tenant, payment_id = key.decode().split("|")
        rules = at_expiry[tenant]
        due_at_ms = opened_at_ms + round(rules.hours * HOUR_MS)
        result: tuple[bool, str] | None = None
        ignored = []
        for partition, offset, at_ms, decided in sorted(words.get(key, []), key=lambda word: word[:2]):
            late = at_ms >= due_at_ms
            if (result is not None or late) and decided.decision != "expired":
                ignored.append(f"{tenant}|{payment_id}|review|ignored|{partition}|{offset}")
            if result is None and late:
                result = rules.at_expiry == "approve", "review_expired"
            elif result is None and decided.decision != "expired":
                approved = decided.decision == "approve"
                result = approved, "review_approved" if approved else "review_rejected"
        if result is not None:
            found[tenant, payment_id] = _Review(*result, tuple(ignored))
    return found


def few(items: Any) -> str:
    """The first of ``items`` by name, and how many more there are."""
    listed = sorted(str(item) for item in items)
    return ", ".join(listed[:5]) + (f" and {len(listed) - 5} more" if len(listed) > 5 else "")


def _outcomes(broker: BrokerAccess | str, payments: list[Any], reviews: dict[tuple[str, str], _Review]) -> list[str]:
    decode = Codec().decoder(PaymentCompleted)
    said: dict[tuple[str, str], set[tuple[str, str, str, int]]] = {}
    for message in read_all(broker, topics.COMPLETED.name):
        event = decode(message.value())
        outcome = (event.outcome, event.reason, event.currency, event.amount_minor)
        said.setdefault((event.tenant, event.payment_id), set()).add(outcome)
    expected: dict[tuple[str, str], set[tuple[str, str, str, int]]] = {}
    for p in payments:
        review = reviews.get((p.tenant, p.payment_id), _PASSED)
        end, reason = ("paid", "") if review.approved else ("blocked", review.reason)
        expected[p.tenant, p.payment_id] = {(end, reason, p.currency, p.amount_minor)}
    missing, other = expected.keys() - said.keys(), [k for k in said if said[k] != expected.get(k)]
    found = [f"{len(missing)} payments without an outcome: {few(missing)}"] if missing else []
    return found + ([f"{len(other)} payments with a wrong or second outcome: {few(other)}"] if other else [])


def _buckets(broker: BrokerAccess | str, payments: list[Any]) -> list[str]:
    payer: dict[tuple[bytes, int], list[int]] = {}
    payee: dict[tuple[bytes, int], list[int]] = {}
    for p in payments:
        hour = p.requested_at_ms // HOUR_MS
        for table, key in (
            (payer, payer_key(p.tenant, p.debtor.id)),
            (payee, payee_key(p.tenant, p.creditor.id, p.terminal_id)),
        ):
            bucket = table.setdefault((key, hour), [0, 0])
            bucket[0] += 1
            bucket[1] += p.amount_minor
    found = []
    for topic, expected in ((topics.TABLE_PAYER_PROFILES, payer), (topics.TABLE_PAYEE_PROFILES, payee)):
        counted = {}
        for key, row in newest_rows(broker, topic.name).items():
            profile = msgspec.msgpack.decode(row, type=Profile, strict=False)
            for hour, count, amount in zip(profile.hours, profile.counts, profile.amounts, strict=True):
                counted[key, hour] = [count, amount]
        wrong = [key for key in expected.keys() | counted.keys() if expected.get(key) != counted.get(key)]
        if wrong:
            found.append(f"{topic.name}: {len(wrong)} of {len(expected)} buckets are wrong: {few(wrong)}")
    return found


def _calls(ledger: str, payments: list[Any]) -> list[str]:
    entries = SqliteLedger(ledger).entries()
    expected = {attempt_id(p.tenant, p.payment_id, 1) for p in payments}
    calls = {attempt: entry.calls for attempt, entry in entries.items()}
    twice = [attempt for attempt, count in calls.items() if count != 1]
    found = [f"the PIC was called more than once for {len(twice)} attempts: {few(twice)}"] if twice else []
    return found + ([] if calls.keys() == expected else [f"the PIC knows {len(calls)} attempts, not {len(expected)}"])


EVENTS = ("screening", "localization", "payer", "payee", "dispatch/1.0", "plugin/1.0")


def _events_of(name: str, review: _Review | None) -> Iterator[str]:
    """Ids of the audited events of one payment."""
    yield f"{name}|completed"
    if review is None or review.approved:
        yield from EVENTS
    else:
        yield "screening"
    if review is not None:
        yield f"{name}|review|screening"
        yield f"{name}|review|screening|ended"
        yield from review.ignored
        if review.approved:
            yield "screening/reviewed"


_ASK = re.compile(r"(dispatch|plugin)/1\.([1-9][0-9]*)\Z")


def _asked_again(rows: set[tuple[str, str, str]]) -> set[tuple[str, str, str]]:
    """Of rows that are not expected those of asks after the first: a crash leaves them, each queued and answered, in order
    (docs/decisions/0039-asks.md)."""
    asks = {row: match for row in rows if (match := _ASK.match(row[2]))}
    return {
        (tenant, payment, event)
        for (tenant, payment, event), match in asks.items()
        if all(
            (tenant, payment, f"{stage}/1.{ask}") in rows
            for stage in ("dispatch", "plugin")
            for ask in range(1, int(match[2]) + 1)
        )
    }


def _audit(database_url: str, payments: list[Any], reviews: dict[tuple[str, str], _Review]) -> list[str]:
    database = open_database(database_url)
    try:
        rows = database.query("SELECT tenant, payment_id, event_id FROM payment_events WHERE payment_id <> ''")
        states = database.query("SELECT tenant, payment_id, outcome FROM payments")
    finally:
        database.close()
    expected = {
        (p.tenant, p.payment_id, event)
        for p in payments
        for event in _events_of(f"{p.tenant}|{p.payment_id}", reviews.get((p.tenant, p.payment_id)))
    }
    found = []
    if len(rows) != len(set(rows)):
        found.append(f"audit: {len(rows) - len(set(rows))} rows stand twice")
    asked_again = _asked_again(set(rows) - expected)
    if set(rows) != expected | asked_again:
        missing, extra = expected - set(rows), set(rows) - expected - asked_again
        found.append(f"audit: {len(missing)} rows missing ({few(missing)}), {len(extra)} too many ({few(extra)})")
    wrong = {
        (t, p)
        for t, p, outcome in states
        if (outcome == "paid") != reviews.get((t, p), _PASSED).approved or not outcome
    }
    if wrong or len(states) != len(payments):
        found.append(f"audit: payments has {len(states)} rows for {len(payments)}, {len(wrong)} of them wrong")
    return found
