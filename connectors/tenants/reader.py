"""Reads ``tenants.configured.v1`` whole at start and follows it, in a thread of its own."""

from __future__ import annotations

from typing import Any

from connectors.broker.books import BookReader, place_of, timestamp_ms_of
from connectors.tenants.book import TenantBook
from schemas.codec import Codec, UndecodableError
from schemas.records import TenantConfigured


def take(book: TenantBook, codec: Codec, message: Any) -> None:
    """Put the version that ``message`` holds into ``book``; what holds none is refused there."""
    where = f"({place_of(message)})"
    if message.value() is None:
        book.refuse(where, 0, "a record without a value")
        return
    try:
        record = codec.decode(message.value(), TenantConfigured)
    except UndecodableError as error:
        book.refuse(where, 0, str(error))
        return
    if (timestamp_ms := timestamp_ms_of(message)) is None:
        book.refuse(record.tenant, record.version, "a record without a timestamp")
    else:
        book.apply(record, timestamp_ms)


class TenantReader(BookReader[TenantBook]):
    """Keeps a book of configurations up to date."""

    def take(self, message: Any) -> None:
        """Put the version that ``message`` holds into the book."""
        take(self.book, self.codec, message)
