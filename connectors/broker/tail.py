"""Topics as they grow: the records of all their partitions from now or a time on, without a group and without committing."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import suppress
from typing import Any, Final

from confluent_kafka import OFFSET_END, Consumer, KafkaException, Message, TopicPartition

from connectors.broker.trouble import Trouble
from pipeline.settings import BrokerAccess, client_config

TIMEOUT_S: Final = 15.0
#: What waits in the client's memory, all partitions together.
QUEUED_KIB_MAX: Final = 16 * 1024
#: Of one partition at a time.
FETCH_BYTES: Final = 256 * 1024
#: Records that are handed over together.
BATCH_MAX: Final = 500
#: How often topics and partitions that are new are looked for; they are read from their beginning.
LOOK_S: Final = 30.0
#: A look holds up what was read already.
LOOK_TIMEOUT_S: Final = 2.0


class TailError(RuntimeError):
    """The broker does not answer, or has none of the topics; the text says what to do."""


class Tail:
    """``topics`` of ``broker`` as they grow, committed records only. Leave the context to close its connection.

    From ``since_ms`` (epoch milliseconds, by the records' timestamps) on, else from now on. Raises :class:`TailError`.
    """

    def __init__(self, broker: BrokerAccess | str, topics: Sequence[str], *, since_ms: int | None = None) -> None:
        self._broker, self._topics = broker, frozenset(topics)
        self._trouble = Trouble()
        config = {
            "group.id": "ptr-events-tail",  # required by the client, not used
            "enable.auto.commit": False,
            "enable.auto.offset.store": False,
            "auto.offset.reset": "earliest",
            "isolation.level": "read_committed",
            "allow.auto.create.topics": False,
            "queued.max.messages.kbytes": QUEUED_KIB_MAX,
            "fetch.message.max.bytes": FETCH_BYTES,
            "fetch.wait.max.ms": 100,
            "error_cb": self._trouble,
            "log_level": 0,
        }
        self._consumer = Consumer(client_config(broker, config))
        self._followed: set[tuple[str, int]] = set()
        try:
            found = self._new_partitions(TIMEOUT_S)
            if not found:
                raise TailError(
                    f"the broker at {broker} has none of the pipeline's topics: make them with `ptr topics apply`"
                )
            self._follow(self._starts(found, since_ms))
        except KafkaException:
            self._consumer.poll(0)
            self._consumer.close()
            raise TailError(self._trouble.unanswered(broker, TIMEOUT_S)) from None
        except BaseException:
            self._consumer.close()
            raise
        self._look_at_s = time.monotonic() + LOOK_S

    def __enter__(self) -> Tail:
        return self

    def __exit__(self, *_: object) -> None:
        self._consumer.close()

    @property
    def topics(self) -> int:
        """How many topics are followed."""
        return len({topic for topic, _ in self._followed})

    @property
    def trouble(self) -> str:
        """What is wrong with the connection, as far as is known; it is tried on and on."""
        return self._trouble.why()

    def read(self, wait_s: float) -> list[Message]:
        """What came, at most :data:`BATCH_MAX` records; empty when nothing came within ``wait_s``."""
        if time.monotonic() >= self._look_at_s:
            self._look_at_s = time.monotonic() + LOOK_S
            with suppress(
                KafkaException
            ):  # Away: what is followed goes on when it is back, the rest is looked for again.
                self._follow([TopicPartition(*each, 0) for each in self._new_partitions(LOOK_TIMEOUT_S)])
        messages: list[Message] = self._consumer.consume(BATCH_MAX, wait_s)
        return [message for message in messages if message.error() is None]

    def _new_partitions(self, timeout_s: float) -> list[tuple[str, int]]:
        known = self._consumer.list_topics(timeout=timeout_s).topics
        there = [(topic, number) for topic in sorted(self._topics & set(known)) for number in known[topic].partitions]
        return [each for each in there if each not in self._followed]

    def _starts(self, partitions: Sequence[tuple[str, int]], since_ms: int | None) -> list[Any]:
        if since_ms is None:
            # The ends as they are now, not as they are when the client comes to it.
            ends = [self._consumer.get_watermark_offsets(TopicPartition(*at), timeout=TIMEOUT_S) for at in partitions]
            return [TopicPartition(*at, high) for at, (_, high) in zip(partitions, ends, strict=True)]
        asked = [TopicPartition(*at, max(since_ms, 0)) for at in partitions]
        found = self._consumer.offsets_for_times(asked, timeout=TIMEOUT_S)
        return [TopicPartition(at.topic, at.partition, at.offset if at.offset >= 0 else OFFSET_END) for at in found]

    def _follow(self, starts: Sequence[Any]) -> None:
        if starts:
            self._consumer.incremental_assign(list(starts))
            self._followed.update((at.topic, at.partition) for at in starts)
