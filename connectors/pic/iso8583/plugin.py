"""The plugin: each call one exchange with the switch, and its reversal where no answer came.

A request whose answer does not come in time is reversed (0400), again and again (0401) until the switch says that it is: until
then the answer is unknown, and a late approval changes nothing. A switch that can be asked what became of a request is asked
instead, by :meth:`Iso8583.look_up`: then a lost answer is no lost sale. An exchange ends by itself, whether its caller still
waits or not.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable
from datetime import datetime
from typing import Final

from connectors.pic.base import UNKNOWN, Abilities, Answer, Call, NotSentError, Plugin, UnsupportedError
from connectors.pic.declines import STANDARD, DeclineCode
from connectors.pic.iso8583.answers import REVERSED, UNWANTED, decided, found, undone
from connectors.pic.iso8583.codec import CodecError, Message
from connectors.pic.iso8583.link import Connection, Link, utc_now
from connectors.pic.iso8583.profile import Profile, profile_of
from connectors.pic.iso8583.requests import Original, RefusedError, advice, inquiry, repeat, request, reversal, void
from connectors.pic.options import PicOptions

#: How often an advice or a void is repeated while its caller waits; the caller may ask again.
REPEATS_MAX: Final = 2
#: A reversal is sent until it is answered, every minute in the end: for an hour and a half, longer than switches are down.
REVERSALS_MAX: Final = 100
REVERSAL_WAIT_MAX_S: Final = 60.0
#: While so many exchanges are not over, the switch is asked for nothing new.
OPEN_MAX: Final = 1_000
#: How long the end of the process waits for exchanges that are under way.
CLOSE_S: Final = 2.0

_log = logging.getLogger(__name__)


def make(name: str, options: PicOptions) -> Plugin:
    """The plugin of one switch. Raises :class:`~connectors.pic.options.PicSettingError`."""
    return Iso8583(profile_of(options))


class Iso8583(Plugin):
    """A card switch. It has no notifications and no challenges, and tells of the past only where that was agreed."""

    def __init__(self, profile: Profile, now: Callable[[], datetime] = utc_now) -> None:
        self.link = Link(profile, now)
        self._profile = profile
        self._now = now
        self._open: dict[str, asyncio.Task[Answer]] = {}
        #: Attempts that were to be reversed, and the switch never said that they are.
        self._unreversed: set[str] = set()
        self._abilities = Abilities(
            kinds=frozenset({"payment", "authorize", "capture", "void", "refund"}),
            deduplicates=profile.deduplicates,
            looks_up=profile.inquiries,
            partial_captures=True,
            several_captures=profile.several_captures,
            partial_refunds=True,
            methods=frozenset({"card"}),
        )

    @property
    def abilities(self) -> Abilities:
        """See :class:`Plugin`."""
        return self._abilities

    async def authorize(self, call: Call) -> Answer:
        """0200 or 0100."""
        return await self._exchange(call, request, self._reverse)

    async def refund(self, call: Call) -> Answer:
        """0200 with processing code 20."""
        return await self._exchange(call, request, self._reverse)

    async def capture(self, call: Call) -> Answer:
        """0220 and its repeats."""
        return await self._exchange(call, advice, self._insist)

    async def void(self, call: Call) -> Answer:
        """0400 and its repeats."""
        return await self._exchange(call, void, self._insist)

    async def look_up(self, call: Call) -> Answer | None:
        """0600, where the switch has it. What this process has still to reverse is unknown, whatever the switch says of it."""
        if not self._profile.inquiries:
            raise UnsupportedError("look up")
        if self._is_open(call):
            return UNKNOWN
        asked = inquiry(call, self._profile, self._now())
        return found(call, asked, await self.link.ask(await self.link.connection(), asked, self._profile.answer_s))

    async def close(self) -> None:
        """Exchanges under way have two seconds to end."""
        tasks = list(self._open.values())
        if tasks:
            await asyncio.wait(tasks, timeout=CLOSE_S)
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        await self.link.close()

    def _is_open(self, call: Call) -> bool:
        return call.attempt_id in self._open or call.attempt_id in self._unreversed

    async def _exchange(
        self,
        call: Call,
        write: Callable[[Call, Profile, datetime], Message],
        otherwise: Callable[[Call, Message, str], Coroutine[None, None, Answer]],
    ) -> Answer:
        """What can be refused or not sent comes first; from its first byte on an exchange is a task of its own.

        ``otherwise`` is told the code of an answer that cannot be used, empty without one.
        """
        if len(self._open.keys() | self._unreversed) >= OPEN_MAX:
            raise NotSentError("too many exchanges with the switch are not over")
        try:
            message = write(call, self._profile, self._now())
            raw = self.link.written(message)
        except RefusedError as refused:
            return refused.answer
        except CodecError:
            return STANDARD[DeclineCode.INVALID_REQUEST].answer()
        connection = await self.link.connection()
        if self._is_open(call):
            return UNKNOWN
        task = self._open[call.attempt_id] = asyncio.create_task(self._carry(call, connection, message, raw, otherwise))
        task.add_done_callback(lambda done: self._over(call.attempt_id, done))
        return await asyncio.shield(task)

    def _over(self, attempt_id: str, task: asyncio.Task[Answer]) -> None:
        del self._open[attempt_id]
        # Retrieved, for the caller may be gone.
        if not task.cancelled() and (error := task.exception()) and not isinstance(error, NotSentError):
            _log.error("an exchange with the switch failed: %s", type(error).__name__)

    async def _carry(
        self,
        call: Call,
        connection: Connection,
        message: Message,
        raw: bytes,
        otherwise: Callable[[Call, Message, str], Coroutine[None, None, Answer]],
    ) -> Answer:
        try:
            answered = await self.link.ask(connection, message, self._profile.answer_s, raw)
        except OSError:  # a time-out or a lost connection
            return await otherwise(call, message, "")
        answer = decided(call, message, answered)
        return answer if answer is not None else await otherwise(call, message, answered.get(39))

    async def _reverse(self, call: Call, message: Message, code: str) -> Answer:
        """The end of a request. Where the switch can be asked what became of it, that is left to a look-up."""
        if self._profile.inquiries and code not in UNWANTED:
            return UNKNOWN
        self._unreversed.add(call.attempt_id)
        undoing = reversal(call, Original.of(message), self._profile, self._now())
        waits_s = (min(self._profile.reversal_s * 2**tries, REVERSAL_WAIT_MAX_S) for tries in range(REVERSALS_MAX))
        async for asked, answered in self._answers(undoing, waits_s):
            if undone(asked, answered):
                self._unreversed.remove(call.attempt_id)
                return REVERSED.answer()
        _log.error("a reversal was never answered: attempt %s", call.attempt_id)
        return UNKNOWN

    async def _insist(self, call: Call, message: Message, code: str) -> Answer:
        """An advice or a void: sent again, for to reverse it would do harm."""
        if self._profile.inquiries:
            return UNKNOWN
        async for asked, answered in self._answers(repeat(message), [self._profile.reversal_s] * REPEATS_MAX):
            if (answer := decided(call, asked, answered)) is not None:
                return answer
        return UNKNOWN

    async def _answers(self, message: Message, waits_s: Iterable[float]) -> AsyncIterator[tuple[Message, Message]]:
        """The answers to ``message``, sent once for each of ``waits_s``, that far apart, after the first time as a repeat."""
        clock_s = asyncio.get_running_loop().time
        for wait_s in waits_s:
            next_s = clock_s() + wait_s
            try:
                answer = await self.link.ask(await self.link.connection(), message, wait_s)
            except NotSentError:
                pass
            except OSError:
                message = repeat(message)
            else:
                yield message, answer
                message = repeat(message)
            await asyncio.sleep(next_s - clock_s())
