"""Grants and withdraws exceptions: reads what was said, publishes one word more."""

from __future__ import annotations

import time

from connectors.broker.follow import TopicReadError, read_to_end
from connectors.broker.one import post_one
from connectors.exceptions.book import ExceptionBook
from connectors.exceptions.reader import take
from pipeline import topics
from pipeline.settings import BrokerAccess
from pipeline.stages.exceptions import exception_key, mistake_in
from schemas.codec import Codec
from schemas.records import ExceptionGranted

READ_TIMEOUT_S = 15.0


class ExceptionError(ValueError):
    """What was asked for cannot be an exception, or is none that is there."""


def read(broker: BrokerAccess | str, codec: Codec) -> ExceptionBook:
    """Every exception that was ever said and is not replaced. Raises :class:`TopicReadError`."""
    book = ExceptionBook()
    found = read_to_end(broker, topics.EXCEPTIONS.name, lambda message: take(book, codec, message), READ_TIMEOUT_S)
    if not found:
        raise TopicReadError(f"{broker} has no topic {topics.EXCEPTIONS.name}: make the topics with `ptr topics apply`")
    return book


def publish(broker: BrokerAccess | str, codec: Codec, granted: ExceptionGranted) -> None:
    """Publish one word. Raises :class:`ExceptionError` for one that cannot be, :class:`PostError` when it is not posted."""
    if mistake := mistake_in(granted):
        raise ExceptionError(f"{mistake[1]} ({mistake[0]})")
    post_one(broker, topics.EXCEPTIONS.name, codec.encode(granted), exception_key(granted))


def now_ms() -> int:
    """The clock of who grants."""
    return int(time.time() * 1000)
