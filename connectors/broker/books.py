"""Books: what a topic says to every worker, held in memory. Each is kept up to date by a reader."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Generic, TypeVar

from confluent_kafka import TIMESTAMP_NOT_AVAILABLE

from connectors.broker.follow import TopicFollower
from pipeline.settings import BrokerAccess
from schemas.codec import Codec

B = TypeVar("B")


class BookReader(TopicFollower, Generic[B]):
    """Keeps ``book`` up to date with its topic; started and stopped as :class:`TopicFollower` says. A class of each book's own
    says how a record is taken in, and what is done at the end of the topic and once a minute when nothing comes."""

    def __init__(
        self,
        brokers: BrokerAccess | str,
        topic: str,
        codec: Codec,
        book: B,
        on_failure: Callable[[BaseException], None] | None = None,
    ) -> None:
        super().__init__(brokers, topic, self.take, at_end=self.at_end, tidy=self.tidy, on_failure=on_failure)
        self.codec = codec
        self.book = book

    def take(self, message: Any) -> None:
        """Put what ``message`` holds into the book; what cannot be used is refused there."""
        raise NotImplementedError

    def at_end(self) -> None:
        """Everything that was in the topic is taken in."""

    def tidy(self, now_ms: int) -> None:
        """Let go of what nobody needs any more."""


def place_of(message: Any) -> str:
    """Where a record is, for logs: ``record topic[partition]@offset``."""
    return f"record {message.topic()}[{message.partition()}]@{message.offset()}"


def timestamp_ms_of(message: Any) -> int | None:
    """Kafka's timestamp of a record; None when it has none."""
    kind, timestamp_ms = message.timestamp()
    return None if kind == TIMESTAMP_NOT_AVAILABLE else timestamp_ms
