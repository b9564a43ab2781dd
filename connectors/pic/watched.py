"""A PIC whose calls are counted, batch by batch, for metrics."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Final, Protocol, TypeVar

from connectors.pic.base import Abilities, Answer, Call, Notice, Notified
from connectors.pic.breaker import State
from connectors.pic.calls import OneByOne, Pic

#: What a look-up is counted as when the PIC never got the call.
ABSENT: Final = "absent"

A = TypeVar("A")


class CallsWatch(Protocol):
    """Who wants to know how calls go: metrics."""

    def follow(self, in_flight: Callable[[], int], breaker: Callable[[], State]) -> None:
        """Where to ask how many calls are in flight, and what the breaker does."""

    def answered(self, call: str, outcomes: Mapping[str, int]) -> None:
        """A batch ended: ``call`` is ``perform`` or ``look_up``; how many had each outcome."""

    def took(self, seconds: float) -> None:
        """A call was made and took so long; of a PIC that takes whole batches, the batch."""


class WatchedPic:
    """``pic``, as :class:`connectors.pic.calls.Pic` says; tells ``watch`` what becomes of its calls."""

    def __init__(self, pic: Pic, watch: CallsWatch) -> None:
        self.name = pic.name
        self._pic = pic
        self._watch = watch
        self._given = 0
        if isinstance(pic, OneByOne):
            watch.follow(lambda: pic.in_flight, pic.breaker_state)
        else:
            watch.follow(lambda: self._given, lambda: "closed")
        self._times_batches = not isinstance(pic, OneByOne)

    @property
    def abilities(self) -> Abilities:
        """The PIC's."""
        return self._pic.abilities

    def next_call(self) -> State:
        """The PIC's."""
        return self._pic.next_call()

    async def perform(self, calls: Sequence[Call]) -> list[Answer]:
        """The PIC's."""
        answers = await self._timed(self._pic.perform, calls)
        self._watch.answered("perform", Counter([answer.outcome for answer in answers]))
        return answers

    async def look_up(self, calls: Sequence[Call]) -> list[Answer | None]:
        """The PIC's."""
        answers = await self._timed(self._pic.look_up, calls)
        self._watch.answered("look_up", Counter([ABSENT if each is None else each.outcome for each in answers]))
        return answers

    def parse_notification(self, notice: Notice) -> list[Notified]:
        """The PIC's."""
        return self._pic.parse_notification(notice)

    async def close(self) -> None:
        """Close the PIC."""
        await self._pic.close()

    async def _timed(self, ask: Callable[[Sequence[Call]], Awaitable[list[A]]], calls: Sequence[Call]) -> list[A]:
        self._given += len(calls)
        began_s = time.perf_counter()
        try:
            return await ask(calls)
        finally:
            self._given -= len(calls)
            if self._times_batches:
                self._watch.took(time.perf_counter() - began_s)
