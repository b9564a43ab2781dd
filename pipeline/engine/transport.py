"""Faust's Kafka consumer, batched: one Faust event per fetched partition batch (``broker="payk://HOST:PORT"``).

Faust delivers one event per record and keeps an interval tree of gaps; at payment volumes both cost more than the work
itself. Here a batch of up to ``BATCH_RECORDS_MAX`` raw records of one partition is one message: its value is the list of
records, its offset the last one's, and it is acknowledged whole (docs/decisions/0001-micro-batches.md).
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Iterable
from typing import Any

import faust
from faust.transport.drivers import TRANSPORTS
from faust.transport.drivers import aiokafka as driver
from faust.types import TP
from faust.types.tuples import ConsumerMessage

from pipeline.engine.lease import Lease

BATCH_RECORDS_MAX = 1_000
#: A fetch that is waiting at the broker covers only the partitions that were empty when it was sent; records for the others
#: wait until it returns. Short waits keep latency low, and an idle worker at a few dozen requests a second.
FETCH_WAIT_MS = 25
IDLE_FETCH_WAIT_MS = 250


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
        self.fetch_wait(FETCH_WAIT_MS)

    def fetch_wait(self, milliseconds: int) -> None:
        """How long the broker may hold a fetch that finds nothing."""
        self._consumer._fetcher._fetch_max_wait_ms = milliseconds


class Consumer(driver.Consumer):
    """Yields one message per partition batch for the app's batched topics, and stock messages for others."""

    _thread: ConsumerThread
    _last_records_at = 0.0
    _waiting_long = False

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        #: Last offset yielded per partition since its position was set.
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

    async def perform_seek(self) -> None:
        await super().perform_seek()
        self._yielded.clear()

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
        records, active = await self._wait_next_records(timeout)
        generation = self.app.consumer_generation_id
        if records is None or self.should_stop:
            return
        self._adapt_fetch_wait(bool(records))
        if not self.flow_active:
            await self.perform_seek()
            return
        batched = self.app.batched_topics
        singles = {}
        for tp, batch in records.items():
            if tp.topic not in batched:
                singles[tp] = batch
                continue
            if active is not None and tp not in active and tp not in self._buffered_partitions:
                continue
            for start in range(0, len(batch), BATCH_RECORDS_MAX):
                if not self.flow_active or self.app.consumer_generation_id != generation:
                    return
                part = batch[start : start + BATCH_RECORDS_MAX]
                last = part[-1]
                previous = self._yielded.get(tp)
                self._yielded[tp] = last.offset
                yield (
                    tp,
                    ConsumerMessage(
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
                    ),
                )
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

    def forget_acknowledgements(self) -> None:
        """Drop what was acknowledged and not committed; only right when every partition is assigned anew."""
        self._acked.clear()
        self._acked_index.clear()


class Transport(driver.Transport):
    """The driver behind ``payk://``."""

    Consumer = Consumer


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
