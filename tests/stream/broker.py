"""What tests of a topic share: waiting, a reader that follows an embedded broker, and records as somebody else writes them.

The broker itself is the fixture ``broker`` (tests/stream/conftest.py).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Protocol, TypeVar

from confluent_kafka import Producer

WAIT_S = 30.0


class Reader(Protocol):
    """A :class:`connectors.broker.follow.TopicFollower`."""

    failure: BaseException | None

    def start(self) -> None: ...

    def wait_caught_up(self, timeout_s: float) -> None: ...

    def stop(self) -> None: ...


R = TypeVar("R", bound=Reader)


@contextmanager
def following(reader: R) -> Iterator[R]:
    """``reader``, caught up; stopped at the end, and nothing must have failed in it."""
    reader.start()
    try:
        reader.wait_caught_up(WAIT_S)
        yield reader
    finally:
        reader.stop()
    assert reader.failure is None


def wait_until(what: Callable[[], bool]) -> None:
    """Wait until ``what`` holds, up to 30 s."""
    deadline_s = time.monotonic() + WAIT_S
    while not what():
        assert time.monotonic() < deadline_s, "it did not happen within 30 s"
        time.sleep(0.01)


def put(broker: str, topic: str, *records: tuple[bytes, bytes | None], partition: int = -1) -> None:
    """Keys and values as somebody else would write them."""
    producer = Producer({"bootstrap.servers": broker, "log_level": 0})
    for key, value in records:
        producer.produce(topic, value, key, partition)
    assert producer.flush(WAIT_S) == 0
