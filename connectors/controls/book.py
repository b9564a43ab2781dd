"""Which PICs are paused: what the plugin stage asks before it calls one."""

from __future__ import annotations

import logging
from typing import Final

from schemas.card_numbers import holds_card_number
from schemas.identity import PIC_PATTERN
from schemas.limits import BY_CHARS_MAX, TEXT_CHARS_MAX
from schemas.records import PicControlled

log = logging.getLogger(__name__)

#: Bounds a worker's memory, whatever is in the topic.
PICS_MAX: Final = 1_000


def fault(record: PicControlled) -> str:
    """Why a record cannot be used; empty when it can."""
    if not PIC_PATTERN.match(record.pic):
        return "pic is not a valid name"
    for name, text, longest in (("who", record.who, BY_CHARS_MAX), ("why", record.why, TEXT_CHARS_MAX)):
        if not text.strip() or len(text) > longest or not text.isprintable():
            return f"{name} must be 1 to {longest} printable characters"
    if holds_card_number(record.who) or holds_card_number(record.why):
        return "a text holds what looks like a card number"
    return ""


class ControlBook:
    """The latest word on each PIC. One thread takes in, any thread asks; it counts as soon as it is taken in."""

    def __init__(self) -> None:
        self._latest: dict[str, PicControlled] = {}

    def paused(self, pic: str) -> bool:
        """Whether nothing may be called there."""
        latest = self._latest.get(pic)
        return latest is not None and latest.paused

    def latest(self, pic: str) -> PicControlled | None:
        """The latest word on ``pic``; None when nobody ever paused it."""
        return self._latest.get(pic)

    def take(self, record: PicControlled) -> bool:
        """Take in a record; False when it is refused: then what was before it stays."""
        why = fault(record)
        if not why and record.pic not in self._latest and len(self._latest) >= PICS_MAX:
            why = f"{PICS_MAX} PICs are known, more are not held"
        if why:
            self.refuse(record.pic if PIC_PATTERN.match(record.pic) else "?", why)
            return False
        self._latest[record.pic] = record
        return True

    def forget(self, pic: str) -> None:
        """Its record was removed: as if nobody had ever paused it."""
        self._latest.pop(pic, None)

    def refuse(self, where: str, why: str) -> None:
        """Log a record that is no word on a PIC."""
        log.error("a pause or its end is ignored (%s): %s", where, why)
