"""Reads ``lists.updated.v1`` whole at start and follows it, in a thread of its own; makes lists ready in that thread."""

from __future__ import annotations

import logging
import time
from typing import Any

from connectors.broker.books import BookReader, place_of, timestamp_ms_of
from connectors.broker.follow import TopicReadError
from connectors.lists.book import EFFECTIVE_DELAY_MS, ListBook
from schemas.codec import UndecodableError
from schemas.records import ListPart, ListUpdated

log = logging.getLogger(__name__)


class ListReader(BookReader[ListBook]):
    """Keeps a book of lists up to date.

    A worker that has just started does not go on without a list that the topic names and that cannot be used.
    """

    def take(self, message: Any) -> None:
        """Put what ``message`` holds into the book; what is neither part nor head is refused there."""
        book, codec = self.book, self.codec
        key = (message.key() or b"").decode(errors="replace").split("|")
        if message.value() is None:
            if len(key) == 2:
                book.forget(key[0], key[1], None)
            elif len(key) == 3 and key[2].isdecimal():
                book.forget(key[0], key[1], int(key[2]))
            return
        where = place_of(message)
        try:
            if codec.record_of(message.value()) is ListPart:
                book.take_part(codec.decode(message.value(), ListPart))
                return
            head = codec.decode(message.value(), ListUpdated)
        except UndecodableError as error:
            book.refuse("(unknown)", where, str(error))
            return
        if (timestamp_ms := timestamp_ms_of(message)) is None:
            book.refuse(head.list, where, "a record without a timestamp")
        else:
            book.take_head(head, timestamp_ms)

    def at_end(self) -> None:
        """Make ready what has come. Raises :class:`TopicReadError` at the start, when nothing of a list can be used."""
        started_ms = time.time() * 1000
        if self.book.take_up(int(started_ms)):
            took_ms = time.time() * 1000 - started_ms
            versions = ", ".join(f"{head.list}:{head.version}" for head in self.book.heads())
            log.info("sanctions lists %s are ready after %.1f s", versions, took_ms / 1000)
            if took_ms > EFFECTIVE_DELAY_MS and self.caught_up:
                log.warning(
                    "sanctions lists took %.1f s to make ready, longer than the %.0f s after which they are in force: "
                    "payments meanwhile were decided by the ones before",
                    took_ms / 1000,
                    EFFECTIVE_DELAY_MS / 1000,
                )
        unusable = self.book.unusable()
        if unusable and not self.caught_up:
            raise TopicReadError(
                f"no version of the sanctions list {', '.join(unusable)} in {self.topic} can be used: import it again "
                "with 'ptr lists import'"
            )

    def tidy(self, now_ms: int) -> None:
        """Let go of lists that were replaced long ago."""
        self.book.take_up(now_ms)
