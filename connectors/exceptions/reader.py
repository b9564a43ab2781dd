"""Reads ``exceptions.granted.v1`` whole at start and follows it, in a thread of its own."""

from __future__ import annotations

from typing import Any

from connectors.broker.books import BookReader, place_of, timestamp_ms_of
from connectors.exceptions.book import ExceptionBook
from schemas.codec import Codec, UndecodableError
from schemas.records import ExceptionGranted


def take(book: ExceptionBook, codec: Codec, message: Any) -> None:
    """Put the word that ``message`` holds into ``book``; what holds none is refused there."""
    where = f"({place_of(message)})"
    timestamp_ms = timestamp_ms_of(message)
    if message.value() is None or timestamp_ms is None:
        book.refuse(where, "a record without a value or a timestamp")
        return
    try:
        book.apply(codec.decode(message.value(), ExceptionGranted), timestamp_ms)
    except UndecodableError as error:
        book.refuse(where, str(error))


class ExceptionReader(BookReader[ExceptionBook]):
    """Keeps a book of exceptions up to date."""

    def take(self, message: Any) -> None:
        """Put the word that ``message`` holds into the book."""
        take(self.book, self.codec, message)
