"""Faust's Kafka consumer, batched: one Faust event per fetched partition batch (``broker="payk://HOST:PORT"``).

Faust delivers one event per record and keeps an interval tree of gaps; at payment volumes both cost more than the work
itself. Here a batch of up to ``BATCH_RECORDS_MAX`` raw records of one partition is one message: its value is the list of
records, its offset the last one's, and it is acknowledged whole (docs/decisions/0001-micro-batches.md).
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Iterable, Mapping
from typing import Any

import faust
from aiokafka.consumer.fetcher import READ_COMMITTED
from aiokafka.consumer.group_coordinator import OffsetCommitRequest
from aiokafka.errors import IllegalStateError, UnknownMemberIdError
from aiokafka.protocol.group import HeartbeatRequest
from faust.transport.consumer import RecordMap
from faust.transport.drivers import TRANSPORTS
from faust.transport.drivers import aiokafka as driver
from faust.types import TP
from faust.types.tuples import ConsumerMessage

from pipeline.engine import fetches as _fetches  # noqa: F401  replaces what aiokafka's fetcher sends and reads
from pipeline.engine import lanes as _lanes  # noqa: F401  replaces how aiokafka's fetcher asks
from pipeline.engine import records as _records  # noqa: F401  replaces parts of aiokafka's fetcher
from pipeline.engine.lease import Lease

BATCH_RECORDS_MAX = 1_000
#: A fetch that is waiting at the broker covers only the partitions that were empty when it was sent; those few whose records
#: nobody took in time (pipeline.engine.lanes) wait until it returns.
FETCH_WAIT_MS = 100
IDLE_FETCH_WAIT_MS = 500
#: How often what was read is compared with what was yielded.
READ_AGAIN_INTERVAL_S = 1.0
#: How long a fetch may wait with the partitions that were active when it began.
FETCH_TIMEOUT_S = 0.2


def _member_errors(request: Any, response: Any) -> set[int]:
    """What the coordinator says of our membership: to heartbeats, and to commits, which may come first."""
    if isinstance(request, HeartbeatRequest):
        return {response.error_code}
    if isinstance(request, OffsetCommitRequest):
        return {code for _, partitions in response.topics for _, code in partitions}
    return set()


class ConsumerThread(driver.AIOKafkaConsumerThread):
    """aiokafka in its own thread: renews the lease, and fetches with short waits while there is work."""

    async def on_start(self) -> None:
        await super().on_start()
        lease: Lease = self.app.lease
        coordinator = self._consumer._coordinator
        heartbeat = coordinator._do_heartbeat

        async def heartbeat_and_renew() -> bool:
            sent_at = time.monotonic()
            answered: bool = await heartbeat()
            if answered:
                lease.renew(sent_at)
            return answered

        coordinator._do_heartbeat = heartbeat_and_renew
        send = coordinator._send_req

        async def send_and_look(request: Any) -> Any:
            response = await send(request)
            if UnknownMemberIdError.errno in _member_errors(request, response):
                self._membership_lost(lease)
            return response

        coordinator._send_req = send_and_look
        coordinator._coordination_task.add_done_callback(self._coordination_ended)
        self.app.assignor.rejoin = coordinator.request_rejoin
        # What a producer's transaction took back was never asked for.
        self._consumer._fetcher._isolation_level = READ_COMMITTED
        self.fetch_wait(FETCH_WAIT_MS)

    def _membership_lost(self, lease: Lease) -> None:
        # Long before our session was over: Kafka gave our place to another process that goes by our name.
        if not lease.lost():
            settings = self.app.settings
            self.app.end_process(
                f"another worker of group {settings.worker_group} goes by the same name, {settings.worker_instance}: "
                "give each its own PTR_INSTANCE (or a PTR_DATADIR with another name)"
            )

    def _coordination_ended(self, task: asyncio.Task[None]) -> None:
        # Without it there are no heartbeats and no assignments, and nothing else would tell.
        if not task.cancelled() and (error := task.exception()) is not None and not self.should_stop:
            self.app.end_process(f"group membership failed: {error}")

    def fetch_wait(self, milliseconds: int) -> None:
        """How long the broker may hold a fetch that finds nothing."""
        self._consumer._fetcher._fetch_max_wait_ms = milliseconds


class Consumer(driver.Consumer):
    """Yields one message per partition batch for the app's batched topics, and stock messages for others."""

    _thread: ConsumerThread
    _last_records_at = 0.0
    _waiting_long = False
    _read_again_at = 0.0

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        #: Next offset to yield, per source partition; what is read beyond it is read again from there.
        self._next: dict[TP, int] = {}
        #: Gaps that were read twice: the log itself has nothing there (retention, transaction markers).
        self._gap_confirmed: dict[TP, int] = {}
        #: Last offset yielded per partition since its position was set, for the runner's own check.
        self._yielded: dict[TP, int] = {}
        #: Source partitions that may be read again once the flow is resumed.
        self._held: set[TP] = set()

    # Faust lets source partitions be read while it still sets their positions, and then clears the queues: batches that were
    # read in between are lost, and with a commit of what follows, lost for good. So they are held back until it is done.

    def resume_partitions(self, tps: Iterable[TP]) -> None:
        sources = {tp for tp in tps if tp.topic in self.app.sources}
        self._held |= sources
        super().resume_partitions(set(tps) - sources)

    def pause_partitions(self, tps: Iterable[TP]) -> None:
        paused = set(tps)
        self._held -= paused
        super().pause_partitions(paused)

    def resume_flow(self) -> None:
        held, self._held = self._held, set()
        super().resume_partitions(held & self.assignment())
        super().resume_flow()

    async def _getmany(self, active_partitions: set[TP] | None, timeout: float) -> RecordMap:
        # A copy: Faust empties this set while a fetch waits with it, and an empty set means "from every partition".
        return await super()._getmany(active_partitions and set(active_partitions), min(timeout, FETCH_TIMEOUT_S))

    async def perform_seek(self) -> None:
        """Set every partition to its committed offset; a source partition without one to its beginning."""
        self._yielded.clear()
        self._next.clear()
        self._gap_confirmed.clear()
        try:
            await super().perform_seek()
        except IllegalStateError:
            return  # Partitions were taken away meanwhile: nothing is yielded until the new assignment sets positions.
        for tp in self.assignment():
            if tp.topic in self.app.sources:
                committed = self._read_offset[tp] or 0
                self._next[tp] = committed
                if not committed:
                    await self._seek(tp, 0)  # aiokafka leaves the position where it is.

    async def seek_wait(self, partitions: Mapping[TP, int]) -> None:
        """Set positions for recovery; what is read before the partition is active is read again from there."""
        self._next.update(partitions)
        await super().seek_wait(partitions)

    async def _seek(self, partition: TP, offset: int) -> None:
        # In aiokafka's thread: from ours it may come between its taking records and its writing the position, and be lost.
        # It refuses for a partition that was taken away meanwhile; whoever owns it now sets its position.
        with contextlib.suppress(IllegalStateError):
            await self._thread.call_thread(self._thread._ensure_consumer().seek, partition, offset)

    def _position(self, tp: TP) -> int | None:
        """The offset from which aiokafka fetches next; None for a partition that is not assigned or not positioned."""
        subscription = self._thread._consumer._subscription.subscription
        if subscription is None or subscription.assignment is None or tp not in subscription.assignment.tps:
            return None
        state = subscription.assignment.state_value(tp)
        return state.position if state.has_valid_position else None

    async def _read_again(self) -> None:
        """Set back, once, what was read beyond what was yielded: nothing more may come to show that records are missing.

        Between two fetches there is nothing in between but a transaction's markers, unless a batch was dropped.
        """
        for tp, expected in list(self._next.items()):
            if tp.topic not in self.app.sources or self._gap_confirmed.get(tp) == expected:
                continue
            position = self._position(tp)
            if position is not None and position > expected:
                self._gap_confirmed[tp] = expected
                await self._seek(tp, expected)

    async def _contiguous(self, tp: TP, batch: list[Any]) -> list[Any]:
        """The part of ``batch`` that comes next; nothing when records before it were read and not yielded."""
        expected = self._next.get(tp)
        if expected is None:
            return []  # Not positioned yet.
        first = batch[0].offset
        if first < expected:
            return [record for record in batch if record.offset >= expected]
        if first > expected and self._gap_confirmed.get(tp) != expected:
            self._gap_confirmed[tp] = expected
            await self._seek(tp, expected)
            return []
        return batch

    def _new_consumer_thread(self) -> ConsumerThread:
        return ConsumerThread(self, loop=self.loop, beacon=self.beacon)

    def _adapt_fetch_wait(self, found: bool) -> None:
        now = time.monotonic()
        if found:
            self._last_records_at = now
        idle = now - self._last_records_at > 1.0
        if idle != self._waiting_long:
            self._waiting_long = idle
            self._thread.fetch_wait(IDLE_FETCH_WAIT_MS if idle else FETCH_WAIT_MS)

    async def getmany(self, timeout: float) -> AsyncIterator[tuple[TP, ConsumerMessage]]:
        if self.flow_active and (now := time.monotonic()) >= self._read_again_at:
            self._read_again_at = now + READ_AGAIN_INTERVAL_S
            await self._read_again()
        records, active = await self._wait_next_records(timeout)
        generation = self.app.consumer_generation_id
        if records is None or self.should_stop:
            return
        self._adapt_fetch_wait(bool(records))
        if not self.flow_active:
            await self.perform_seek()
            return
        batched, sources = self.app.batched_topics, self.app.sources
        singles = {}
        for tp, batch in records.items():
            if tp.topic not in batched:
                singles[tp] = batch
                continue
            if active is not None and tp not in active and tp not in self._buffered_partitions:
                if (expected := self._next.get(tp)) is not None:
                    await self._seek(tp, expected)  # Read too early: it is read again once the partition is active.
                continue
            if tp.topic in sources:
                batch = await self._contiguous(tp, batch)
            for start in range(0, len(batch), BATCH_RECORDS_MAX):
                if not self.flow_active or self.app.consumer_generation_id != generation:
                    return
                part = batch[start : start + BATCH_RECORDS_MAX]
                last = part[-1]
                previous = self._yielded.get(tp)
                self._yielded[tp] = last.offset
                self._next[tp] = last.offset + 1
                message = ConsumerMessage(
                    tp.topic,
                    tp.partition,
                    last.offset,
                    last.timestamp / 1000,
                    last.timestamp_type,
                    (),
                    None,
                    part,
                    previous,  # in place of a checksum: the runner sees when a batch is missing
                    0,
                    0,
                    tp,
                    generation_id=generation,
                )
                if tp.topic in sources and self.app.flow_control.is_active():
                    # Faust's own loop races each message against a pause with two tasks; this one does not wait for a pause.
                    await self.callback(message)
                    self._read_offset[tp] = last.offset
                else:
                    yield tp, message
        for tp, record in self.scheduler.iterate(singles):
            if not self.flow_active or self.app.consumer_generation_id != generation:
                break
            if active is None or tp in active or tp in self._buffered_partitions:
                yield tp, self._to_message(tp, record)

    async def _add_gap(self, tp: TP, offset_from: int, offset_to: int) -> None:
        # A batch is acknowledged by its last offset: the offsets before it are not a gap.
        if tp.topic not in self.app.batched_topics:
            await super()._add_gap(tp, offset_from, offset_to)

    def _new_offset(self, tp: TP) -> int | None:
        if tp.topic not in self.app.batched_topics:
            return super()._new_offset(tp)  # type: ignore[no-any-return]
        # The runner acknowledges the batches of a partition in their order, so the highest is contiguous.
        acked = self._acked[tp]
        if not acked:
            return None
        last: int = max(acked)
        acked.clear()
        self._acked_index[tp].clear()
        return last + 1

    def is_read(self, tp: TP, end: int) -> bool:
        """Whether all up to ``end`` was read, and what there was committed; a transaction's markers are no records."""
        position, last = self._position(tp), self._yielded.get(tp)
        read = position is not None and position >= end
        return read and (last is None or (self._committed_offset.get(tp) or 0) > last)

    def handed_over(self, topic: str, partition: int) -> tuple[int, int | None]:
        """The next offset that the streams get of a source partition, and the last one they got since its position was set."""
        tp = TP(topic, partition)
        return self._next.get(tp, 0), self._yielded.get(tp)

    def forget_buffered(self) -> None:
        """No partition counts as read no further for what was held of it before it was given away: what comes of such a one
        too early, while its table is recovered, would be taken for what was asked for."""
        self._buffered_partitions.clear()

    def forget_acknowledgements(self) -> None:
        """Drop what was acknowledged and not committed; only right when every partition is assigned anew."""
        self._acked.clear()
        self._acked_index.clear()


class Producer(driver.Producer):
    """Faust's producer, which publishes nothing of ours: Faust need not look before each batch how full it is."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.buffer.wait_until_ebb = _at_once


async def _at_once() -> None:
    """Nothing to wait for."""


class Transport(driver.Transport):
    """The driver behind ``payk://``."""

    Consumer = Consumer
    Producer = Producer


TRANSPORTS.aliases["payk"] = f"{__name__}:Transport"


class RawBatches(faust.Schema):
    """Passes a batch through undecoded."""

    def compile(
        self,
        app: Any,
        *,
        on_key_decode_error: Any,
        on_value_decode_error: Any,
        default_propagate: bool = False,
    ) -> Any:
        create_event = app.create_event

        async def decode(message: Any, *, propagate: bool = default_propagate) -> Any:
            return create_event(message.key, message.value, message.headers, message)

        return decode
