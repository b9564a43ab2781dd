"""Reads ``exceptions.granted.v1`` whole at start and follows it, in a thread of its own."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from confluent_kafka import TIMESTAMP_NOT_AVAILABLE

from connectors.broker.follow import TopicFollower, TopicReadError
from connectors.exceptions.book import ExceptionBook
from pipeline.settings import BrokerAccess
from schemas.codec import Codec, UndecodableError
from schemas.records import ExceptionGranted


class ExceptionReadError(TopicReadError):
    """Exceptions cannot be read; the message says why and what to do."""


def take(book: ExceptionBook, codec: Codec, message: Any) -> None:
    """Put the word that ``message`` holds into ``book``; what holds none is refused there."""
    where = f"(record {message.topic()}[{message.partition()}]@{message.offset()})"
    kind, timestamp_ms = message.timestamp()
    if message.value() is None or kind == TIMESTAMP_NOT_AVAILABLE:
        book.refuse(where, "a record without a value or a timestamp")
        return
    try:
        book.apply(codec.decode(message.value(), ExceptionGranted), timestamp_ms)
    except UndecodableError as error:
        book.refuse(where, str(error))


class ExceptionReader(TopicFollower):
    """Keeps ``book`` up to date; started and stopped as :class:`TopicFollower` says."""

    error = ExceptionReadError

    def __init__(
        self,
        brokers: BrokerAccess | str,
        topic: str,
        codec: Codec,
        book: ExceptionBook,
        on_failure: Callable[[BaseException], None] | None = None,
    ) -> None:
        super().__init__(brokers, topic, lambda message: take(book, codec, message), on_failure=on_failure)
