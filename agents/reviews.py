"""Shells of the reviews, with the table ``reviews``: ``payments.referred.v1`` and ``reviews.decided.v1`` ->
``reviews.opened.v1``, ``reviews.answered.v1``, and on with the payment: to the topic it came from, or ``payments.ended.v1``."""

from __future__ import annotations

from typing import assert_never

from agents.context import Context
from agents.outside import bounded
from pipeline import topics
from pipeline.engine.alarms import Alarms, Posting
from pipeline.engine.stage import Group, RawRecord, Stage, Table, Work
from pipeline.stages.reviews import (
    EXPIRED,
    Answer,
    Approved,
    Known,
    Open,
    Referred,
    Rejected,
    answered_event,
    decide,
    due_of,
    ended_event,
    ignored_event,
    mistake_in,
    open_reviews,
    opened_event,
    refer,
    resumed_event,
    stage_of,
)
from schemas.codec import UndecodableError
from schemas.identity import SEPARATOR, partition_of, payment_key
from schemas.reasons import Error
from schemas.records import (
    PaymentEnded,
    PaymentScored,
    PaymentScreened,
    ReviewAnswered,
    ReviewDecided,
    ReviewOpened,
)
from tables import reviews

NAME = "reviews"
DECIDING = "deciding"


def make(context: Context) -> Group:
    """The group: both stages, their table, and its due times."""
    codec, tenants = context.codec, context.tenants
    decode_decided, encode_decided = codec.decoder(ReviewDecided), codec.encoder(ReviewDecided)
    encode_opened, encode_answered = codec.encoder(ReviewOpened), codec.encoder(ReviewAnswered)
    encode_ended = codec.encoder(PaymentEnded)
    opened_topic, answered_topic, ended_topic = (
        topics.REVIEWS_OPENED.name,
        topics.REVIEWS_ANSWERED.name,
        topics.ENDED.name,
    )

    def post_expired(key: bytes, now_ms: int) -> Posting:
        tenant, payment_id = key.decode().split(SEPARATOR)
        decided = ReviewDecided(tenant=tenant, payment_id=payment_id, stage="", decision=EXPIRED, decided_at_ms=now_ms)
        return topics.REVIEWS_DECIDED.name, encode_decided(decided), key

    alarms = Alarms(due_of=due_of, post=post_expired)

    def event_of(value: bytes) -> Referred:
        record: type[Referred] = PaymentScreened if codec.record_of(value) is PaymentScreened else PaymentScored
        return codec.decode(value, record)

    def referred(record: RawRecord, work: Work) -> None:
        key, value = record.key, record.value
        if value is None or key is None:
            raise UndecodableError(Error.EMPTY_VALUE, "an event is expected")
        row = work.rows.get(key)
        if codec.record_of(value) is PaymentEnded:
            for review in open_reviews(row):  # A repeat of its request: it is told again that it waits.
                work.emit(opened_topic, encode_opened(opened_event(review, event_of(review.event), repeat=True)), key)
            return
        event = event_of(value)
        known = tenants.rules(event.tenant, event.received_at_ms)
        if known is None:
            raise LookupError("a tenant that screening knew")
        match refer(row, stage_of(event), value, at_ms=record.timestamp, rules=known[1].review):
            case Open(row=changed, review=review):
                work.rows.save(key, changed)
                alarms.set(key, changed.due_at_ms)
                work.emit(opened_topic, encode_opened(opened_event(review, event)), key)
            case Known():
                pass
            case other:
                assert_never(other)

    def deciding(record: RawRecord, work: Work) -> None:
        decided = checked(record)
        key = payment_key(decided.tenant, decided.payment_id)
        if record.key != key or partition_of(key, work.partitions) != record.partition:
            work.repost(record, key)
            return
        row = work.rows.get(key)
        answer = decide(row, decided, at_ms=record.timestamp, offset=record.offset)
        carry_out(answer, decided, record, key, work)
        if answer.row is not row:
            work.rows.save(key, answer.row)
            alarms.set(key, answer.row.due_at_ms)

    def carry_out(answer: Answer, decided: ReviewDecided, record: RawRecord, key: bytes, work: Work) -> None:
        sender = {"partition": record.partition, "offset": record.offset}
        at_ms = record.timestamp
        for ended in answer.ended:
            event = event_of(ended.review.event)
            told = answered_event(decided, ended, at_ms=at_ms, trace_id=event.trace_id)
            work.emit(answered_topic, encode_answered(told), key)
            match ended:
                case Approved(reason=reason):
                    resumed = resumed_event(event, reason, **sender)
                    topic = topics.SCREENED.name if isinstance(event, PaymentScreened) else topics.SCORED.name
                    work.emit(topic, codec.encode(resumed), key)
                case Rejected(reason=reason):
                    work.emit(ended_topic, encode_ended(ended_event(event, reason, **sender)), key)
                case other:
                    assert_never(other)
        if answer.ignored:
            ignored = ignored_event(decided, answer.ignored, at_ms=at_ms, **sender)
            work.emit(answered_topic, encode_answered(ignored), key)

    def checked(record: RawRecord) -> ReviewDecided:
        decided = decode_decided(bounded(record.value, "a ReviewDecided"))
        if mistake := mistake_in(decided):
            raise UndecodableError(*mistake)
        return decided

    return Group(
        name=NAME,
        stages=(
            Stage(name=NAME, source=topics.REFERRED.name, handle=referred),
            Stage(name=DECIDING, source=topics.REVIEWS_DECIDED.name, handle=deciding),
        ),
        table=Table(name=reviews.NAME, changelog=reviews.CHANGELOG, row_type=reviews.ROW),
        # Who decides has seen that a review is open. After a crash its row may be older, so what opened it is read first.
        first=topics.REFERRED.name,
        alarms=alarms,
    )
