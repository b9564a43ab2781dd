"""Shells of the plugins, one group per PIC: ``payments.queue.<pic>.v1`` and its retry topics -> ``payments.answered.v1``.

The queue is the write-ahead intent: it was durable before this stage sees it. What an earlier owner of the partition may have
called already is looked up first; only what the PIC never got is sent, under the payment's attempt id as idempotency key. A PIC
that deduplicates and cannot be asked is sent it again instead; one that does neither is never sent anything twice, and such a
payment stays pending.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from functools import partial
from typing import Final

from agents.context import Context
from connectors.pic.base import Answer, Call
from connectors.pic.calls import Pic
from pipeline import topics
from pipeline.engine.fence import repeated
from pipeline.engine.stage import Group, RawRecord, Stage, Table, Work
from schemas.codec import UndecodableError
from schemas.identity import attempt_id, payment_key
from schemas.records import PaymentAnswered, PaymentQueued
from tables import intents

NAME = "plugin"
#: Look-ups of one retry topic that are asked for together.
RETRY_BATCH_MAX = 200
#: Calls between two looks whether the PIC is paused: several times what a plugin has in flight, some seconds of a slow PIC.
CALLS_BATCH_MAX = 256
#: The words of ``payments.answered.v1`` for those of plugins: what is not done for sure is asked about again.
WORDS: Final = {
    "succeeded": "paid",
    "declined": "declined",
    "pending": "pending",
    "requires_action": "pending",
    "unsent": "pending",
}


def groups(context: Context) -> list[Group]:
    """One group for each PIC's queue, and one for each of its retry topics: a slow one stalls nobody else."""
    made = []
    for name, pic in sorted(context.pics.items()):
        plugin = _Plugin(context, pic, name)
        queue = Stage(name=f"{NAME}-{name}", source=topics.queue(name).name, handle_batch=plugin.serve_queue)
        table = Table(name=intents.name(name), changelog=intents.changelog(name), row_type=intents.IntentsRow)
        made.append(Group(name=queue.name, stages=(queue,), table=table, waits=True))
        for delay_s, topic in zip(topics.RETRY_DELAYS_S, topics.retries(name), strict=True):
            retry = Stage(name=f"{NAME}-{name}-retry-{delay_s}s", source=topic.name, handle_batch=plugin.serve_retries)
            made.append(Group(name=retry.name, stages=(retry,), waits=True))
    return made


class _Plugin:
    """Serves the topics of one PIC."""

    def __init__(self, context: Context, pic: Pic, name: str) -> None:
        self._pic = pic
        self._name = name
        self._paused = partial(context.controls.paused, name)
        self._decode = context.codec.decoder(PaymentQueued)
        self._encode = context.codec.dict_encoder(PaymentAnswered)

    async def serve_queue(self, records: Sequence[RawRecord], work: Work) -> None:
        """First asks: each intent once."""
        row: intents.IntentsRow = work.rows.get(intents.KEY)
        seen = dict(row.seen)  # What is abandoned while it waits must not be in the row.
        fresh: list[PaymentQueued] = []
        uncertain: list[PaymentQueued] = []
        for record in records:
            queued = self._read(record, work)
            if queued is None or repeated(
                seen, {"sender_partition": queued.sender_partition, "sender_offset": queued.sender_offset}
            ):
                continue
            (uncertain if work.maybe_called(record) else fresh).append(queued)
        await self._ask(fresh, uncertain, work)
        row.seen = seen
        work.rows.save(intents.KEY, row)

    async def serve_retries(self, records: Sequence[RawRecord], work: Work) -> None:
        """Unknown answers, when their time has come. A topic has one delay, so the records are in order of time."""
        due: list[PaymentQueued] = []
        for record in records:
            queued = self._read(record, work)
            if queued is None:
                continue
            if due and (queued.not_before_ms > time.time() * 1000 or len(due) >= RETRY_BATCH_MAX):
                await self._ask([], due, work)
                due = []
            await work.until(queued.not_before_ms)
            due.append(queued)
        await self._ask([], due, work)

    def _read(self, record: RawRecord, work: Work) -> PaymentQueued | None:
        try:
            return self._decode(record.value or b"")
        except UndecodableError as error:
            work.dead_letter(record, error.error, error.detail)
            return None

    async def _ask(self, fresh: list[PaymentQueued], uncertain: list[PaymentQueued], work: Work) -> None:
        abilities = self._pic.abilities
        if not abilities.looks_up and abilities.deduplicates:
            # The same key is the same payment: the repeat tells what became of it.
            fresh, uncertain = [*fresh, *uncertain], []
        if uncertain:
            await work.hold()
            found = await self._pic.look_up([_call_of(queued) for queued in uncertain])
            for queued, answer in zip(uncertain, found, strict=True):
                if answer is None:
                    fresh.append(queued)
                else:
                    self._answer(queued, answer, work, called=False)
        for start in range(0, len(fresh), CALLS_BATCH_MAX):
            part = fresh[start : start + CALLS_BATCH_MAX]
            await work.wait_while(self._paused)
            # Nothing outside can be fenced: ask only while this worker surely owns the partition.
            await work.hold()
            answers = await self._pic.perform([_call_of(queued) for queued in part])
            for queued, answer in zip(part, answers, strict=True):
                self._answer(queued, answer, work, called=True)

    def _answer(self, queued: PaymentQueued, answer: Answer, work: Work, *, called: bool) -> None:
        event = {
            "attempt": queued.attempt,
            "ask": queued.ask,
            "outcome": WORDS[answer.outcome],
            "reason": answer.reason,
            "pic_reference": answer.pic_reference,
            "answered_at_ms": int(time.time() * 1000),
            "called": called,
            "pic": self._name,
            "tenant": queued.tenant,
            "payment_id": queued.payment_id,
            "trace_id": queued.trace_id,
        }
        work.emit(topics.ANSWERED.name, self._encode(event), payment_key(queued.tenant, queued.payment_id))


def _call_of(queued: PaymentQueued) -> Call:
    return Call(
        attempt_id=attempt_id(queued.tenant, queued.payment_id, queued.attempt),
        tenant=queued.tenant,
        payment_id=queued.payment_id,
        amount_minor=queued.amount_minor,
        currency=queued.currency,
        token=queued.token,
        method=queued.method,
        challenge=queued.challenge,
        terms=queued.terms,
        sca=queued.sca,
        sca_basis=queued.sca_basis,
        request=queued.request,
    )
