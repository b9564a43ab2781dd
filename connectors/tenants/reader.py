"""Reads ``tenants.configured.v1`` whole at start and follows it, in a thread of its own."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from confluent_kafka import TIMESTAMP_NOT_AVAILABLE

from connectors.broker.follow import TopicFollower, TopicReadError
from connectors.tenants.book import TenantBook
from pipeline.settings import BrokerAccess
from schemas.codec import Codec, UndecodableError
from schemas.records import TenantConfigured


class TenantReadError(TopicReadError):
    """Tenants' configurations cannot be read; the message says why and what to do."""


def take(book: TenantBook, codec: Codec, message: Any) -> bool:
    """Put the version that ``message`` holds into ``book``; what holds none is refused there."""
    where = f"(record {message.topic()}[{message.partition()}]@{message.offset()})"
    if message.value() is None:
        book.refuse(where, 0, "a record without a value")
        return False
    try:
        record = codec.decode(message.value(), TenantConfigured)
    except UndecodableError as error:
        book.refuse(where, 0, str(error))
        return False
    kind, timestamp_ms = message.timestamp()
    if kind == TIMESTAMP_NOT_AVAILABLE:
        book.refuse(record.tenant, record.version, "a record without a timestamp")
        return False
    return book.apply(record, timestamp_ms)


class TenantReader(TopicFollower):
    """Keeps ``book`` up to date; started and stopped as :class:`TopicFollower` says."""

    error = TenantReadError

    def __init__(
        self,
        brokers: BrokerAccess | str,
        topic: str,
        codec: Codec,
        book: TenantBook,
        on_failure: Callable[[BaseException], None] | None = None,
    ) -> None:
        super().__init__(brokers, topic, lambda message: take(book, codec, message), on_failure=on_failure)
