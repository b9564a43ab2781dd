"""Reads ``lists.updated.v1`` whole at start and follows it, in a thread of its own; makes lists ready in that thread."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import Any

from confluent_kafka import TIMESTAMP_NOT_AVAILABLE

from connectors.broker.follow import TopicFollower, TopicReadError
from connectors.lists.book import EFFECTIVE_DELAY_MS, ListBook
from pipeline.settings import BrokerAccess
from schemas.codec import Codec, UndecodableError
from schemas.records import ListPart, ListUpdated

log = logging.getLogger(__name__)

#: How often a reader looks for lists that nobody needs any more.
TIDY_S = 60.0


class ListReadError(TopicReadError):
    """Sanctions lists cannot be read; the message says why and what to do."""


def take(book: ListBook, codec: Codec, message: Any) -> None:
    """Put what ``message`` holds into ``book``; what is neither part nor head is refused there."""
    key = (message.key() or b"").decode(errors="replace").split("|")
    if message.value() is None:
        if len(key) == 2:
            book.forget(key[0], key[1], None)
        elif len(key) == 3 and key[2].isdecimal():
            book.forget(key[0], key[1], int(key[2]))
        return
    where = f"record {message.topic()}[{message.partition()}]@{message.offset()}"
    try:
        if codec.record_of(message.value()) is ListPart:
            book.take_part(codec.decode(message.value(), ListPart))
            return
        head = codec.decode(message.value(), ListUpdated)
    except UndecodableError as error:
        book.refuse("(unknown)", where, str(error))
        return
    kind, timestamp_ms = message.timestamp()
    if kind == TIMESTAMP_NOT_AVAILABLE:
        book.refuse(head.list, where, "a record without a timestamp")
        return
    book.take_head(head, timestamp_ms)


class ListReader(TopicFollower):
    """Keeps ``book`` up to date; started and stopped as :class:`TopicFollower` says.

    A worker that has just started does not go on without a list that the topic names and that cannot be used.
    """

    error = ListReadError

    def __init__(
        self,
        brokers: BrokerAccess | str,
        topic: str,
        codec: Codec,
        book: ListBook,
        on_failure: Callable[[BaseException], None] | None = None,
    ) -> None:
        super().__init__(
            brokers,
            topic,
            lambda message: take(book, codec, message),
            at_end=self._take_up,
            idle=self._tidy,
            on_failure=on_failure,
        )
        self._book = book
        self._tidied_s = time.monotonic()

    def _take_up(self) -> None:
        started_ms = time.time() * 1000
        if self._book.take_up(int(started_ms)):
            took_ms = time.time() * 1000 - started_ms
            versions = ", ".join(f"{head.list}:{head.version}" for head in self._book.heads())
            log.info("sanctions lists %s are ready after %.1f s", versions, took_ms / 1000)
            if took_ms > EFFECTIVE_DELAY_MS and self._caught_up.is_set():
                log.warning(
                    "sanctions lists took %.1f s to make ready, longer than the %.0f s after which they are in force: "
                    "payments meanwhile were decided by the ones before",
                    took_ms / 1000,
                    EFFECTIVE_DELAY_MS / 1000,
                )
        unusable = self._book.unusable()
        if unusable and not self._caught_up.is_set():
            raise ListReadError(
                f"no version of the sanctions list {', '.join(unusable)} in {self._topic} can be used: import it again "
                "with 'ptr lists import'"
            )

    def _tidy(self) -> None:
        """Let go of lists that were replaced long ago."""
        if time.monotonic() - self._tidied_s > TIDY_S:
            self._tidied_s = time.monotonic()
            self._book.take_up(int(time.time() * 1000))
