"""Shells around the table ``attempts``, one cycle: dispatch (``payments.scored.v1`` -> the PIC's queue, or the reviews),
settlement (``payments.ended.v1``, ``payments.answered.v1``, ``payments.notified.v1`` -> ``payments.completed.v1``, a retry, or
the next PIC's queue) and operations (``operations.requested.v1``, ``operations.expired.v1`` -> the PIC's queue, or
``operations.delayed.v1`` where the payment is not known). They alone write outcomes, steps
(``payments.updated.v1``) and what needs a person (``payments.parked.v1``). Settlement tells the payer stage what is paid to
accounts (``payments.credited.v1``), for tenants that want it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, assert_never

import msgspec

from agents.context import Context
from agents.outside import bounded
from pipeline import topics
from pipeline.engine.stage import Group, RawRecord, Stage, Work
from pipeline.stages.asking import Ask, Means, Park, Reconsider, Step, Tell, news_mistake
from pipeline.stages.dispatch import (
    ROUTE_READS,
    AnswerAgain,
    AskAgain,
    End,
    Ignore,
    Queue,
    RefuseConflict,
    Review,
    Steps,
    end,
    expire,
    notified,
    operate,
    route,
    settle,
)
from pipeline.stages.fraud_library import needs_credits
from pipeline.stages.life import PAYMENT_WAIT_MS, has_valid_id, waits_for_payment
from schemas.codec import UndecodableError
from schemas.identity import ID_PATTERN, TENANT_PATTERN, partition_of, payer_key, payment_key
from schemas.reasons import Error, Outcome
from schemas.records import (
    OperationRequested,
    PaymentAnswered,
    PaymentCompleted,
    PaymentCredited,
    PaymentEnded,
    PaymentNotified,
    PaymentParked,
    PaymentQueued,
    PaymentScored,
    PaymentUpdated,
)
from schemas.trace_context import of_headers

NAME = "dispatch"
ENDING = "ending"
SETTLEMENT = "settlement"
NOTIFIED = "notified"
OPERATIONS = "operations"
EXPIRY = "expiry"
DELAY = "delay"
#: What is due is posted this much later: with a clock that is ahead of the broker's by less nothing comes too early.
CLOCKS_APART_MAX_MS = 60 * 60 * 1000

_Decision = Queue | AskAgain | End | Steps | AnswerAgain | RefuseConflict | Review | Ignore


class _Publisher:
    """Carries a decision out: saves the row if it changed, then publishes."""

    def __init__(self, context: Context) -> None:
        codec = context.codec
        self._write_queued = codec.carrying_writer(PaymentQueued, "sca", PaymentScored)
        self._codec, self._carried_as = codec, codec.carried_as(PaymentQueued)
        self._read_carried = codec.carried_reader(PaymentQueued, "sca", until="terminal_id")
        self._encode_credited = codec.encoder(PaymentCredited)
        self._tenants = context.tenants
        self._encode_completed = codec.encoder(PaymentCompleted)
        self._encode_queued = codec.encoder(PaymentQueued)
        self._encode_updated, self._encode_parked = codec.encoder(PaymentUpdated), codec.encoder(PaymentParked)
        self._carried_with = codec.carried_with(PaymentQueued, "sca")
        self._queue_of = {pic: topics.queue(pic).name for pic in context.pics}
        self._retries_of = {pic: [topic.name for topic in topics.retries(pic)] for pic in context.pics}
        self._completed, self._credits = topics.COMPLETED.name, topics.CREDITED.name
        self._referred = topics.REFERRED.name

    def carry_out(self, decision: _Decision, before: Any, record: RawRecord, key: bytes, work: Work) -> None:
        credited = self._credited(decision) if isinstance(decision, End) else None
        if decision.row is not None and decision.row is not before:
            work.rows.save(key, decision.row)
        match decision:
            case Queue() | AskAgain():
                head = decision.head()
                head["sender_partition"], head["sender_offset"] = record.partition, record.offset
                head["taken_at_ms"] = work.taken_at_ms
                pic = decision.row.pic
                topic = self._queue_of[pic] if isinstance(decision, Queue) else self._retries_of[pic][decision.tier]
                carried = self._today(decision.carried, decision.row.queued_as)
                work.emit(topic, self._write_queued(head, carried), key)
                if isinstance(decision, AskAgain) and decision.also:
                    self._steps(decision.also, record, key, work)
            case End() | AnswerAgain() | RefuseConflict():
                completed = msgspec.structs.replace(decision.completed, taken_at_ms=work.taken_at_ms)
                work.emit(self._completed, self._encode_completed(completed), key)
                if credited is not None:
                    receiver = payer_key(credited.tenant, credited.creditor_id)
                    work.emit(self._credits, self._encode_credited(credited), receiver)
                if isinstance(decision, End) and decision.also:
                    self._steps(decision.also, record, key, work)
            case Steps():
                self._steps(decision.also, record, key, work)
            case Review():
                assert record.value is not None
                work.emit(self._referred, record.value, key)
            case Ignore():
                pass
            case _:
                assert_never(decision)

    def _steps(self, steps: Sequence[Step], record: RawRecord, key: bytes, work: Work) -> None:
        for step in steps:
            match step:
                case Ask(queued=queued, tier=tier):
                    topic = self._queue_of[queued.pic] if tier is None else self._retries_of[queued.pic][tier]
                    sent = msgspec.structs.replace(
                        queued,
                        sender_partition=record.partition,
                        sender_offset=record.offset,
                        taken_at_ms=work.taken_at_ms,
                    )
                    work.emit(topic, self._encode_queued(sent), key)
                case Tell(updated=updated):
                    work.emit(topics.UPDATED.name, self._encode_updated(updated), key)
                case Park(parked=parked):
                    work.emit(topics.PARKED.name, self._encode_parked(parked), key)
                case Reconsider():
                    assert record.value is not None
                    work.emit(topics.OPERATIONS_EXPIRED.name, record.value, key)
                case _:
                    assert_never(step)

    def with_pic(self, carried: bytes, carried_as: str, pic: str) -> bytes:
        """Carried fields as today's schema has them, to be carried by ``pic``."""
        return self._carried_with(self._today(carried, carried_as), {"pic": pic})

    def _credited(self, ended: End) -> PaymentCredited | None:
        """What came in for a party that may pay itself, where the tenant wants that looked at."""
        completed = ended.completed
        if completed.outcome != Outcome.PAID:
            return None
        known = self._tenants.rules(completed.tenant, completed.received_at_ms)
        if known is None or not needs_credits(known[1].fraud):
            return None
        payment = self._read_carried(self._today(ended.carried, ended.carried_as))
        if payment["terminal_id"]:
            return None  # A shop: what pays has no terminal.
        return PaymentCredited(
            tenant=completed.tenant,
            payment_id=completed.payment_id,
            creditor_id=payment["creditor_id"],
            amount_minor=completed.amount_minor,
            currency=completed.currency,
            requested_at_ms=completed.requested_at_ms,
        )

    def _today(self, carried: bytes, carried_as: str) -> bytes:
        """Carried fields as today's schema has them."""
        if carried_as == self._carried_as:
            return carried
        # Queued before the program was updated.
        return self._codec.carried_again(PaymentQueued, "rule_version", carried, carried_as)


def make(context: Context) -> tuple[Stage, ...]:
    """The stages of the table, in flow order."""
    codec, pics = context.codec, context.pics
    read = codec.carrying_reader(PaymentScored, "sca", ROUTE_READS)
    decode_ended, decode_answered = codec.decoder(PaymentEnded), codec.decoder(PaymentAnswered)
    decode_notified, decode_operation = codec.decoder(PaymentNotified), codec.decoder(OperationRequested)
    publisher = _Publisher(context)
    means = Means(
        pics=frozenset(pics),
        several_captures=frozenset(name for name, pic in pics.items() if pic.abilities.several_captures),
        delays_s=topics.RETRY_DELAYS_S,
        carried_as=codec.carried_as(PaymentQueued),
        with_pic=publisher.with_pic,
    )

    def checked(record: RawRecord) -> tuple[bytes, bytes]:
        if record.value is None or record.key is None:
            raise UndecodableError(Error.EMPTY_VALUE, "an event is expected")
        return record.key, record.value

    def from_outside(record: RawRecord, tenant: str, payment_id: str, work: Work) -> bytes | None:
        """The key; None for a record that came under another one, and is posted again."""
        if not TENANT_PATTERN.match(tenant) or not ID_PATTERN.match(payment_id):
            raise UndecodableError(Error.NO_PAYMENT_ID, "tenant or payment_id is not a valid id")
        key = payment_key(tenant, payment_id)
        if record.key == key and partition_of(key, work.partitions) == record.partition:
            return key
        work.repost(record, key)
        return None

    def dispatch(record: RawRecord, work: Work) -> None:
        key, value = checked(record)
        scored, carried = read(value)
        row = work.rows.get(key)
        publisher.carry_out(route(row, scored, carried, means=means), row, record, key, work)

    def ending(record: RawRecord, work: Work) -> None:
        key, value = checked(record)
        row = work.rows.get(key)
        publisher.carry_out(end(row, decode_ended(value), means=means), row, record, key, work)

    def settlement(record: RawRecord, work: Work) -> None:
        key, value = checked(record)
        row = work.rows.get(key)
        publisher.carry_out(settle(row, decode_answered(value), means=means), row, record, key, work)

    def news(record: RawRecord, work: Work) -> None:
        told = decode_notified(bounded(record.value, "an event"))
        if mistake := news_mistake(told):
            raise UndecodableError(Error.INVALID_NEWS, mistake)
        key = from_outside(record, told.tenant, told.payment_id, work)
        if key is not None:
            row = work.rows.get(key)
            publisher.carry_out(notified(row, told, means=means), row, record, key, work)

    def operations(record: RawRecord, work: Work) -> None:
        operation = decode_operation(bounded(record.value, "an event"))
        key = from_outside(record, operation.tenant, operation.payment_id, work)
        if key is None:
            return
        if not has_valid_id(operation):
            raise UndecodableError(Error.NO_OPERATION_ID, "operation_id is not a valid id, or holds a card number")
        row = work.rows.get(key)
        trace = of_headers(record.headers)
        decision = operate(row, operation, received_at_ms=record.timestamp, means=means, trace=trace)
        publisher.carry_out(decision, row, record, key, work)
        if decision.row is not row and not decision.also and waits_for_payment(decision.row):
            assert record.value is not None
            work.emit(topics.OPERATIONS_DELAYED.name, record.value, key)

    def expiry(record: RawRecord, work: Work) -> None:
        key, value = checked(record)
        row, is_durable = work.rows.get(key), work.rows.is_stored(key)
        decision = expire(row, decode_operation(value), at_ms=record.timestamp, means=means, is_durable=is_durable)
        publisher.carry_out(decision, row, record, key, work)

    return (
        Stage(name=NAME, source=topics.SCORED.name, handle=dispatch),
        Stage(name=ENDING, source=topics.ENDED.name, handle=ending),
        Stage(name=SETTLEMENT, source=topics.ANSWERED.name, handle=settlement),
        Stage(name=NOTIFIED, source=topics.NOTIFIED.name, handle=news),
        Stage(name=OPERATIONS, source=topics.OPERATIONS.name, handle=operations),
        Stage(name=EXPIRY, source=topics.OPERATIONS_EXPIRED.name, handle=expiry),
    )


def make_delay() -> Group:
    """``operations.delayed.v1`` -> ``operations.expired.v1``, when the time has come. A group of its own, for it waits.

    A worker's clock says when; whether it is time is decided by the broker's. What a clock that is ahead by more than
    :data:`CLOCKS_APART_MAX_MS` posts too early ends nothing, and the operation waits until its client asks again.
    """

    async def delay(records: Sequence[RawRecord], work: Work) -> None:
        for record in records:
            await work.until(record.timestamp + PAYMENT_WAIT_MS + CLOCKS_APART_MAX_MS)
            if record.value is not None and record.key is not None:
                work.emit(topics.OPERATIONS_EXPIRED.name, record.value, record.key)

    return Group(
        name=DELAY, stages=(Stage(name=DELAY, source=topics.OPERATIONS_DELAYED.name, handle_batch=delay),), waits=True
    )
