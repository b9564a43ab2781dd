"""What stands for a PIC while its plugin is checked: a server on loopback that does what it is told, and counts.

A stand belongs to a plugin as its tests do. It speaks the PIC's own protocol, so that everything but the PIC is real; it does
on demand what a real PIC does once a year. It is found through an entry point of the group
``payment_pipeline.pic_stands``, under the plugin's name: a class or function that gives a :class:`Stand` and takes nothing.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from enum import StrEnum
from importlib.metadata import EntryPoint, entry_points
from typing import Final, Self

import msgspec

from connectors.pic.base import Call, Kind, Notice
from connectors.pic.declines import DeclineCode

GROUP: Final = "payment_pipeline.pic_stands"

#: A call of the kit is given up after this.
TIMEOUT_S: Final = 2.0
#: How long a slow answer takes, and one that comes too late.
SLOW_S: Final = 0.3
LATE_S: Final = 3.0
#: How long a stand wants to be left alone.
RETRY_AFTER_S: Final = 7.0


class Behaviour(StrEnum):
    """What a stand does with the one call that has the token. *Once*: with its first request only, the next is approved."""

    APPROVE = "approve"
    #: The payer has to act: :meth:`Stand.finish_challenge`.
    CHALLENGE = "challenge"
    #: Done, and said :data:`SLOW_S` later.
    SLOW = "slow"
    #: Done, and said :data:`LATE_S` later, when nobody waits any more.
    LATE = "late"
    #: Done, and the connection is closed without an answer. Once.
    LOST = "lost"
    #: The connection is closed before anything is done, but the request was read. Once.
    RESET = "reset"
    #: Done, and the answer is rubbish. Once.
    GARBAGE = "garbage"
    #: An internal error (HTTP 500, or what the protocol has), and nothing done. Once.
    BROKEN = "broken"
    #: Too many requests (HTTP 429), nothing done; :data:`RETRY_AFTER_S` is said where it can be. Once.
    THROTTLED = "throttled"
    #: Taken, but not decided yet; decided by the first look-up, or by :meth:`Stand.settle`.
    PROCESSING = "processing"
    #: Done and said; the first look-up is an error.
    LOOK_UP_FAILS = "look_up_fails"
    #: Nothing listens: :meth:`Stand.refusing`.
    REFUSED = "refused"


class Effect(msgspec.Struct, frozen=True):
    """Something that the PIC did: money was held, moved, let go of or given back."""

    kind: Kind
    amount_minor: int
    currency: str


class Stand(ABC):
    """The PIC's side. Used as ``async with``; one stand serves all scenarios of a run, each with attempt ids of its own.

    A stand offers what it can; a scenario that needs more is reported as not offered, so nothing here is for nothing.
    """

    @property
    @abstractmethod
    def offers(self) -> frozenset[Behaviour | DeclineCode]:
        """What :meth:`token` may be asked for. Of decline codes: those that the protocol can express."""

    @property
    @abstractmethod
    def settings(self) -> Mapping[str, str]:
        """The plugin's settings (:class:`connectors.pic.options.PicOptions`): addresses, made-up secrets. Once started."""

    @abstractmethod
    async def start(self) -> None:
        """Listen on loopback, on a free port."""

    @abstractmethod
    async def stop(self) -> None:
        """End everything that was started."""

    @abstractmethod
    def token(self, wanted: Behaviour | DeclineCode) -> str:
        """A token that makes a payment or authorization go so. May be a new one each time."""

    @abstractmethod
    def effects(self, attempt_id: str) -> Sequence[Effect]:
        """What was done under this key, once for each time: two equal ones are a double charge. Amounts in minor units as the
        PIC understands them, not as the plugin meant them."""

    @abstractmethod
    def requests(self) -> int:
        """How many requests have come until now, whatever became of them."""

    @property
    def retry_after_s(self) -> float:
        """How long a throttled caller is told to wait; 0 where the protocol cannot say it."""
        return RETRY_AFTER_S

    def prepare(self, call: Call) -> Call:
        """The call with what this plugin needs beside the common fields (``request``, ``terms``)."""
        return call

    def script(self, attempt_id: str, wanted: Behaviour | DeclineCode) -> bool:
        """Let a capture, void or refund go so, whose request holds no token. False: this stand can't."""
        return False

    async def settle(self) -> None:  # noqa: B027 (most PICs do everything at once)
        """Let the PIC do what it does only later: read files, close a batch."""

    @asynccontextmanager
    async def refusing(self) -> AsyncIterator[str]:
        """While inside nothing listens; gives the token to use. Offered with :attr:`Behaviour.REFUSED`."""
        raise NotImplementedError
        yield ""

    async def finish_challenge(self, attempt_id: str, *, passed: bool) -> None:
        """The payer has acted, and proved who they are or not. Offered with :attr:`Behaviour.CHALLENGE`."""
        raise NotImplementedError

    def notices(self, attempt_id: str) -> Sequence[Notice]:
        """What the PIC sends about an attempt, the oldest first, signed now. The same event has the same id each time.

        For plugins that say that there are notifications.
        """
        raise NotImplementedError

    def signed(self, body: bytes) -> Notice:
        """Any body as a notification that is rightly signed now."""
        raise NotImplementedError

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *exception: object) -> None:
        await self.stop()


def stands() -> dict[str, EntryPoint]:
    """Every installed stand by the name of its plugin."""
    return {point.name: point for point in entry_points(group=GROUP)}


def find_stand(plugin: str) -> Stand | None:
    """The stand of a plugin, by the name of its entry point; None without one. Raises what its module raises."""
    point = stands().get(plugin)
    if point is None:
        return None
    made: Stand = point.load()()
    return made
