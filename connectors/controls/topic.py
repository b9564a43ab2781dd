"""``pics.controlled.v1``: which PICs are paused. Followed by workers that call PICs, read whole and written by people.

One record a PIC: the latest counts, and going on is a record too, so that it says who and why.
"""

from __future__ import annotations

from typing import Any, Final

from connectors.broker.books import BookReader, place_of
from connectors.broker.follow import read_to_end
from connectors.broker.one import post_one
from connectors.controls.book import ControlBook, fault
from pipeline.settings import BrokerAccess
from pipeline.topics import CONTROLS
from schemas.codec import Codec, UndecodableError
from schemas.records import PicControlled

READ_TIMEOUT_S: Final = 15.0


class ControlError(ValueError):
    """What was asked for cannot be said, or would change nothing."""


def control_key(pic: str) -> bytes:
    """Key of a record: the latest of a PIC counts."""
    return pic.encode()


class ControlReader(BookReader[ControlBook]):
    """Keeps a book of paused PICs up to date."""

    def take(self, message: Any) -> None:
        """Put what ``message`` holds into the book; what is no word on a PIC is refused there."""
        take(self.book, self.codec, message)


def take(book: ControlBook, codec: Codec, message: Any) -> None:
    """Put what ``message`` holds into ``book``; what is no word on a PIC is refused there."""
    key = message.key() or b""
    if message.value() is None:
        book.forget(key.decode(errors="replace"))
        return
    try:
        record = codec.decode(message.value(), PicControlled)
    except UndecodableError as error:
        book.refuse(place_of(message), str(error))
        return
    if key != control_key(record.pic):
        # Compaction goes by keys: under another one it would hide or outlive what it replaces.
        book.refuse(place_of(message), "a record under another key than its own")
    else:
        book.take(record)


def read_all(brokers: BrokerAccess | str, codec: Codec) -> ControlBook:
    """The latest word on each PIC; an empty book when there is no topic. Raises :class:`TopicReadError`."""
    book = ControlBook()
    read_to_end(brokers, CONTROLS.name, lambda message: take(book, codec, message), READ_TIMEOUT_S)
    return book


def publish(brokers: BrokerAccess | str, codec: Codec, record: PicControlled) -> None:
    """Pause a PIC or have it go on; returns when the broker has it.

    Raises :class:`ControlError` for what workers would refuse and for going on where nothing is paused,
    :class:`TopicReadError` and :class:`PostError` when the broker does not answer.
    """
    if why := fault(record):
        raise ControlError(why)
    if not record.paused and not read_all(brokers, codec).paused(record.pic):
        raise ControlError(f"{record.pic} is not paused")
    post_one(brokers, CONTROLS.name, codec.encode(record), control_key(record.pic))
