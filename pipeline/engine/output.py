"""The output of one runner: an idempotent producer of its own, flushed once per cycle."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from confluent_kafka import KafkaError, Message, Producer
from confluent_kafka.admin import AdminClient, OffsetSpec

from connectors.broker import admin
from pipeline.engine.lease import DELIVERY_SHARE
from pipeline.settings import BrokerAccess, client_config


class DeliveryError(RuntimeError):
    """The broker did not take a record in time; nothing was acknowledged, so a restart begins before it."""


def asker(brokers: BrokerAccess | str) -> AdminClient:
    """Who asks for offsets: one of a process is enough, whatever its outputs."""
    return AdminClient(client_config(brokers, {"log_level": 3}))


class KafkaOutput:
    """Queues records and waits until the broker has them all.

    No callback per message: ``delivery.report.only.error`` reports failures only, and the first one is fatal
    (``on_failure`` ends the process; its supervisor restarts it).
    """

    def __init__(
        self,
        brokers: BrokerAccess | str,
        session_timeout_s: float,
        on_failure: Callable[[str], None],
        asks: AdminClient | None = None,
    ) -> None:
        """``asks`` is who asks for offsets, shared with other outputs; None makes one for this output alone."""
        self._on_failure = on_failure
        self._producer = Producer(
            client_config(brokers)
            | {
                "enable.idempotence": True,
                "acks": "all",
                "linger.ms": 25,
                "batch.size": 262_144,
                "compression.type": "lz4",
                "queue.buffering.max.messages": 1_000_000,
                # CRC-32, as schemas.identity.partition_of.
                "partitioner": "consistent",
                # With the lease below the session time-out: a former owner's records are dropped before a new one begins.
                "message.timeout.ms": int(session_timeout_s * DELIVERY_SHARE * 1000),
                "delivery.report.only.error": True,
                "on_delivery": self._delivered,
                "error_cb": self._failed,
                "log_level": 3,
            }
        )
        self._admin = asks or asker(brokers)
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="flush")
        #: ``produce(topic, value, key, partition=-1)``: the C function itself, called for every event.
        self.produce = self._producer.produce

    def _delivered(self, error: KafkaError | None, message: Message) -> None:
        if error is not None:
            self._on_failure(f"a record for {message.topic()} was not delivered: {error.str()}")

    def _failed(self, error: KafkaError) -> None:
        if error.fatal():
            self._on_failure(f"the producer failed for good: {error.str()}")

    async def delivered(self) -> None:
        """Return when the broker has everything that was produced. Raises :class:`DeliveryError`."""
        if len(self._producer):
            await self._in_thread(self._flush)

    def _flush(self) -> None:
        remaining = self._producer.flush(60)
        if remaining:
            raise DeliveryError(f"{remaining} records were not delivered within 60 s")

    async def ends(self, partitions: Iterable[tuple[str, int]]) -> dict[tuple[str, int], int]:
        """The end offset of each (topic, partition): up to where records can be read."""
        return await self._offsets(partitions, OffsetSpec.latest())

    async def begins(self, partitions: Iterable[tuple[str, int]]) -> dict[tuple[str, int], int]:
        """The first offset that each (topic, partition) still has."""
        return await self._offsets(partitions, OffsetSpec.earliest())

    async def _offsets(self, partitions: Iterable[tuple[str, int]], which: OffsetSpec) -> dict[tuple[str, int], int]:
        wanted = list(partitions)

        def ask() -> dict[tuple[str, int], int]:
            # Committed: behind a producer's open transaction nothing waits for us.
            return admin.offsets(self._admin, wanted, which, committed=True)

        found: dict[tuple[str, int], int] = await self._in_thread(ask)
        return found

    async def _in_thread(self, call: Callable[[], Any]) -> Any:
        return await asyncio.get_running_loop().run_in_executor(self._thread, call)

    def close(self) -> None:
        """Release the flush thread; what is not delivered by now is not acknowledged either."""
        self._thread.shutdown(wait=False)
