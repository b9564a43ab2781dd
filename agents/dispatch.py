"""Shells around the table ``attempts``, one cycle: dispatch (``payments.scored.v1`` -> the PIC's queue, or the reviews)
and settlement (``payments.ended.v1``, ``payments.answered.v1`` -> ``payments.completed.v1`` or a retry). They alone write
outcomes. Settlement tells the payer stage what is paid to accounts (``payments.credited.v1``), for tenants that want it."""

from __future__ import annotations

from typing import Any, assert_never

from agents.context import Context
from pipeline import topics
from pipeline.engine.stage import RawRecord, Stage, Work
from pipeline.stages.dispatch import (
    AnswerAgain,
    AskAgain,
    End,
    Ignore,
    Queue,
    RefuseConflict,
    Review,
    end,
    route,
    settle,
)
from pipeline.stages.fraud_library import needs_credits
from schemas.codec import UndecodableError
from schemas.identity import payer_key
from schemas.reasons import Error, Outcome
from schemas.records import (
    PaymentAnswered,
    PaymentCompleted,
    PaymentCredited,
    PaymentEnded,
    PaymentQueued,
    PaymentScored,
)

NAME = "dispatch"
ENDING = "ending"
SETTLEMENT = "settlement"

_Decision = Queue | AskAgain | End | AnswerAgain | RefuseConflict | Review | Ignore


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
                pic = decision.row.pic
                topic = self._queue_of[pic] if isinstance(decision, Queue) else self._retries_of[pic][decision.tier]
                carried = self._today(decision.carried, decision.row.queued_as)
                work.emit(topic, self._write_queued(head, carried), key)
            case End() | AnswerAgain() | RefuseConflict():
                work.emit(self._completed, self._encode_completed(decision.completed), key)
                if credited is not None:
                    receiver = payer_key(credited.tenant, credited.creditor_id)
                    work.emit(self._credits, self._encode_credited(credited), receiver)
            case Review():
                assert record.value is not None
                work.emit(self._referred, record.value, key)
            case Ignore():
                pass
            case _:
                assert_never(decision)

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
    """The three stages of the table, in flow order."""
    codec, pics = context.codec, context.pics
    read = codec.carrying_reader(PaymentScored, "sca", until="trace_id")
    decode_ended, decode_answered = codec.decoder(PaymentEnded), codec.decoder(PaymentAnswered)
    delays_s, carried_as = topics.RETRY_DELAYS_S, codec.carried_as(PaymentQueued)
    publisher = _Publisher(context)

    def checked(record: RawRecord) -> tuple[bytes, bytes]:
        if record.value is None or record.key is None:
            raise UndecodableError(Error.EMPTY_VALUE, "an event is expected")
        return record.key, record.value

    def dispatch(record: RawRecord, work: Work) -> None:
        key, value = checked(record)
        scored, carried = read(value)
        row = work.rows.get(key)
        decision = route(row, scored, carried, pics=pics, delays_s=delays_s, carried_as=carried_as)
        publisher.carry_out(decision, row, record, key, work)

    def ending(record: RawRecord, work: Work) -> None:
        key, value = checked(record)
        row = work.rows.get(key)
        publisher.carry_out(end(row, decode_ended(value)), row, record, key, work)

    def settlement(record: RawRecord, work: Work) -> None:
        key, value = checked(record)
        row = work.rows.get(key)
        publisher.carry_out(settle(row, decode_answered(value), delays_s=delays_s), row, record, key, work)

    return (
        Stage(name=NAME, source=topics.SCORED.name, handle=dispatch),
        Stage(name=ENDING, source=topics.ENDED.name, handle=ending),
        Stage(name=SETTLEMENT, source=topics.ANSWERED.name, handle=settlement),
    )
