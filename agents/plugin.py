"""Shells of the plugins, one group per PIC: ``payments.queue.<pic>.v1`` -> ``payments.answered.v1``; and one group for each of
its retry topics -> ``payments.answered.v1``, or back to the queue.

The queue is the write-ahead intent: it was durable before this stage sees it. Only the queue's group ever calls, one cycle at a
time, and each intent once (:mod:`tables.intents`). An intent that an earlier owner of the partition may have served is never
called: its answer may be out already, and another PIC be paying. It is looked up, and whatever is not known of it is asked for
anew by dispatch, which alone knows whether it still wants to know.

An ask after the first is looked up before it is called; only what the PIC never got is sent, under the attempt's id as
idempotency key. A PIC that deduplicates and cannot be asked is sent it again instead; one that does neither is never sent
anything twice: what became of it is unknowable here, and a person's to find out.

A retry topic's group only asks, when the time has come. What is surely not at the PIC goes back to the queue.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from functools import partial
from typing import Final, cast

from agents.context import Context
from connectors.pic.base import UNKNOWN, Answer, Call, CallTimes, Kind
from connectors.pic.calls import Pic
from pipeline import topics
from pipeline.engine.fence import repeated
from pipeline.engine.stage import Group, RawRecord, Stage, Table, Work
from pipeline.stages.asking import UNKNOWABLE
from schemas.codec import UndecodableError
from schemas.identity import attempt_id, payment_key
from schemas.records import PaymentAnswered, PaymentQueued
from tables import intents

NAME = "plugin"
#: Look-ups of one retry topic that are asked for together.
RETRY_BATCH_MAX = 200
#: For so long what is due waits while the PIC is left alone: answers that are not asked for do not make the next delay longer.
#: No longer: in an outage of days a person is to be told after the asks that are meant for that.
LEFT_ALONE_MAX_S = 600.0
#: Between two that find out whether the PIC answers again, where that happens behind its queue.
PROBE_PAUSE_S = 1.0
#: Intents that are served between two looks whether the PIC is paused: a few seconds of a slow PIC.
SERVED_BATCH_MAX = 256
#: The same where it cannot be found out what became of a call: whatever was begun before a crash is a person's to find out,
#: called or not, so no more is begun than is called at once (64 calls, and often four partitions side by side).
BEGUN_BATCH_MAX = 16
#: The words of ``payments.answered.v1`` for those of plugins.
WORDS: Final = {
    "succeeded": "paid",
    "declined": "declined",
    "pending": "pending",
    "requires_action": "requires_action",
    "unsent": "unsent",
}
#: What a crash leaves unknown; ``here``: it is no reason to go to another PIC.
_INTERRUPTED: Final = Answer("pending", "interrupted", retry="here")
#: Of what was answered without asking anybody.
_NO_TIMES: Final = CallTimes()


def groups(context: Context) -> list[Group]:
    """One group for each PIC's queue, and one for each of its retry topics: a slow one stalls nobody else."""
    made = []
    for name, pic in sorted(context.pics.items()):
        plugin = _Plugin(context, pic, name)
        queue = Stage(name=f"{NAME}-{name}", source=topics.queue(name).name, handle_batch=plugin.serve_queue)
        table = Table(name=intents.name(name), changelog=intents.changelog(name), row_type=intents.IntentsRow)
        group = Group(name=queue.name, stages=(queue,), table=table, waits=True, side_by_side=True)
        made.append(group)
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
        self._queue = topics.queue(name).name

    async def serve_queue(self, records: Sequence[RawRecord], work: Work) -> None:
        """Calls: each intent once; none while the PIC is paused."""
        batch_max = SERVED_BATCH_MAX if self._can_find_out() else BEGUN_BATCH_MAX
        for start in range(0, len(records), batch_max):
            # Before any row says that an intent is handled: those that are abandoned here were not.
            await work.wait_while(self._paused)
            await self._serve(records[start : start + batch_max], work)

    async def _serve(self, records: Sequence[RawRecord], work: Work) -> None:
        begun = await self._begin(records, work)
        row: intents.IntentsRow = work.rows.get(intents.KEY)
        fresh: list[PaymentQueued] = []
        again: list[PaymentQueued] = []
        perhaps: list[PaymentQueued] = []
        for record in records:
            queued = self._read(record, work)
            if queued is None or _is_repeat(queued, row, work):
                continue
            if work.maybe_called(record) and record.offset <= begun:
                perhaps.append(queued)
            else:
                (fresh if queued.ask == 0 or queued.unsent else again).append(queued)
        if perhaps:
            await self._find_out(perhaps, work)
        if again:
            fresh += await self._sort_out(again, work)
        if fresh:
            await self._call(fresh, work, unsent="unsent")
        work.rows.save(intents.KEY, row)

    async def _begin(self, records: Sequence[RawRecord], work: Work) -> int:
        """The offset up to which an earlier owner may have served; ours is durable before anything of ``records`` is served.

        Only where it cannot be found out what became of a call: what waits behind those need not be a person's work, and a
        publication for each batch is less than that. Elsewhere, and after an older program, it may have served all.
        """
        if self._can_find_out():
            return records[-1].offset
        row: intents.IntentsRow = work.rows.get(intents.BEGUN)
        served: intents.IntentsRow = work.rows.get(intents.KEY)
        last, unknown = records[-1].offset, bool(served.seen) and not row.seen
        if unknown and work.maybe_called(records[-1]):
            return last
        begun = row.seen.get(0, -1)
        if begun < last:
            row.seen[0] = last
            work.rows.save(intents.BEGUN, row)
            await work.record()
        return last if unknown else begun

    def _can_find_out(self) -> bool:
        """Whether the PIC can tell what became of a call, in one way or the other."""
        return self._pic.abilities.looks_up or self._pic.abilities.deduplicates

    async def _find_out(self, perhaps: list[PaymentQueued], work: Work) -> None:
        """Answer what an earlier owner may have served, without a call."""
        abilities = self._pic.abilities
        left = await self._look_up(perhaps, work) if abilities.looks_up else perhaps
        word = "unsent" if abilities.looks_up else "pending" if abilities.deduplicates else UNKNOWABLE
        for queued in left:
            self._answer(queued, _INTERRUPTED, work, called=False, word=word)

    async def _sort_out(self, again: list[PaymentQueued], work: Work) -> list[PaymentQueued]:
        """Those of further asks that are to be called; the rest is answered."""
        # After a crash two asks of one attempt may be here: the first one finds out, the other one is asked about again.
        first: dict[str, PaymentQueued] = {}
        for queued in again:
            if first.setdefault(_id_of(queued), queued) is not queued:
                self._answer(queued, UNKNOWN, work, called=False)
        abilities = self._pic.abilities
        if abilities.looks_up:
            return await self._look_up(list(first.values()), work)
        if abilities.deduplicates:
            # The same key is the same payment: the repeat tells what became of it. That this one did not leave says nothing.
            await self._call(list(first.values()), work, unsent="pending")
            return []
        for queued in first.values():
            self._answer(queued, UNKNOWN, work, called=False, word=UNKNOWABLE)
        return []

    async def serve_retries(self, records: Sequence[RawRecord], work: Work) -> None:
        """Asks, when their time has come. A topic has one delay, so the records are in order of time."""
        due: list[tuple[PaymentQueued, RawRecord]] = []
        for record in records:
            queued = self._read(record, work)
            if queued is None:
                continue
            if due and (queued.not_before_ms > time.time() * 1000 or len(due) >= RETRY_BATCH_MAX):
                await self._ask_when_it_answers(due, work)
                due = []
            await work.until(queued.not_before_ms)
            due.append((queued, record))
        await self._ask_when_it_answers(due, work)

    async def _ask_when_it_answers(self, due: Sequence[tuple[PaymentQueued, RawRecord]], work: Work) -> None:
        """All at once; of a PIC that is left alone, one by one until it answers again."""
        while due:
            until_ms = due[0][0].not_before_ms + LEFT_ALONE_MAX_S * 1000
            await work.wait_while(lambda until_ms=until_ms: self._is_left_alone(until_ms))  # type: ignore[misc]
            answers = self._pic.next_call() != "half_open" or time.time() * 1000 >= until_ms
            now, due = (due, ()) if answers else (due[:1], due[1:])
            await self._ask(now, work)
            if due:
                await work.until(int((time.time() + PROBE_PAUSE_S) * 1000))

    def _is_left_alone(self, until_ms: float) -> bool:
        return self._pic.next_call() == "open" and time.time() * 1000 < until_ms

    async def _ask(self, due: Sequence[tuple[PaymentQueued, RawRecord]], work: Work) -> None:
        """Look up where that is possible and needed; what is to be called goes to the queue as it is."""
        not_there = [queued for queued, _ in due]
        if self._pic.abilities.looks_up:
            found_out = await self._look_up([queued for queued in not_there if not queued.unsent], work)
            left = {id(queued) for queued in found_out}
            not_there = [queued for queued in not_there if queued.unsent or id(queued) in left]
        calls = {id(queued) for queued in not_there}
        for queued, record in due:
            if id(queued) in calls:
                assert record.value is not None
                work.emit(self._queue, record.value, payment_key(queued.tenant, queued.payment_id))

    def _read(self, record: RawRecord, work: Work) -> PaymentQueued | None:
        try:
            return self._decode(record.value or b"")
        except UndecodableError as error:
            work.dead_letter(record, error.error, error.detail)
            return None

    async def _look_up(self, perhaps: Sequence[PaymentQueued], work: Work) -> list[PaymentQueued]:
        """Ask what became of them, and answer; those that the PIC never got."""
        if not perhaps:
            return []
        await work.hold()
        asked, began_s = [_call_of(queued) for queued in perhaps], time.time()
        found = await self._pic.look_up(asked)
        batch = _times_since(began_s)
        for queued, call, answer in zip(perhaps, asked, found, strict=True):
            if answer is not None:
                self._answer(queued, answer, work, called=False, times=_times_of(call, batch))
        return [queued for queued, answer in zip(perhaps, found, strict=True) if answer is None]

    async def _call(self, fresh: Sequence[PaymentQueued], work: Work, *, unsent: str) -> None:
        # Nothing outside can be fenced: ask only while this worker surely owns the partition.
        await work.hold()
        calls, began_s = [_call_of(queued) for queued in fresh], time.time()
        answers = await self._pic.perform(calls)
        batch = _times_since(began_s)
        pending = "pending" if self._can_find_out() else UNKNOWABLE
        words = {**WORDS, "unsent": unsent, "pending": pending}
        for queued, call, answer in zip(fresh, calls, answers, strict=True):
            times = _times_of(call, batch)
            self._answer(queued, answer, work, called=True, times=times, word=words[answer.outcome])

    def _answer(
        self,
        queued: PaymentQueued,
        answer: Answer,
        work: Work,
        *,
        called: bool,
        times: CallTimes = _NO_TIMES,
        word: str = "",
    ) -> None:
        event = {
            "attempt": queued.attempt,
            "ask": queued.ask,
            "outcome": word or WORDS[answer.outcome],
            "reason": answer.reason,
            "pic_reference": answer.pic_reference,
            "answered_at_ms": int(time.time() * 1000),
            "called": called,
            "pic": self._name,
            "tenant": queued.tenant,
            "payment_id": queued.payment_id,
            "trace_id": queued.trace_id,
            "operation_id": queued.operation_id,
            # Of what is no decline only a crash says something of what may be tried.
            "retry": answer.retry if answer.outcome == "declined" or answer is _INTERRUPTED else "never",
            "retry_after_ms": int(answer.retry_after_s * 1000),
            "action_url": answer.action_url,
            "called_at_ms": times.called_at_ms,
            "call_ms": times.call_ms,
        }
        work.emit(topics.ANSWERED.name, self._encode(event), payment_key(queued.tenant, queued.payment_id))


def _is_repeat(queued: PaymentQueued, row: intents.IntentsRow, work: Work) -> bool:
    """Whether this intent was handled; if not, note it as handled."""
    if queued.attempt == 1 and queued.ask == 0 and not queued.operation_id:
        # From dispatch in the order of its records: one row for the partition is enough.
        return repeated(row.seen, queued.sender_partition, queued.sender_offset)
    key = intents.key_of(_id_of(queued))
    served: intents.IntentsRow = work.rows.get(key)
    if served.seen.get(0, -1) >= queued.ask:
        return True
    served.seen[0] = queued.ask
    work.rows.save(key, served)
    return False


def _id_of(queued: PaymentQueued) -> str:
    return attempt_id(queued.tenant, queued.payment_id, queued.attempt, queued.operation_id)


def _call_of(queued: PaymentQueued) -> Call:
    return Call(
        attempt_id=_id_of(queued),
        tenant=queued.tenant,
        payment_id=queued.payment_id,
        amount_minor=queued.amount_minor,
        currency=queued.currency,
        token=queued.token,
        method=queued.method,
        kind=cast(Kind, queued.kind),
        original_reference=queued.original_reference,
        challenge=queued.challenge,
        terms=queued.terms,
        sca=queued.sca,
        sca_basis=queued.sca_basis,
        ask=queued.ask,
        trace_id=queued.trace_id,
        trace_context=queued.trace_context,
        times=CallTimes(),
        request=queued.request,
    )


def _times_since(began_s: float) -> CallTimes:
    ended_s = time.time()
    return CallTimes(int(began_s * 1000), max(int((ended_s - began_s) * 1000), 0))


def _times_of(call: Call, batch: CallTimes) -> CallTimes:
    """The call's own times, or those of its batch where the PIC takes whole batches."""
    return call.times if call.times is not None and call.times.called_at_ms else batch
