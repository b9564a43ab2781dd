"""How the engine asks PICs: in batches. :class:`OneByOne` makes that of a plugin that takes one call at a time.

The plugin stage serves an intent so: for ask 0 of a fresh intent it calls :meth:`Pic.perform`; for any other, and for
intents that may have been called before a crash, it calls :meth:`Pic.look_up` first, and performs, under the same
idempotency key, only what the PIC never got.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Final, Protocol, TypeVar, get_args, runtime_checkable

from connectors.pic.base import (
    NOT_SENT,
    UNKNOWN,
    Abilities,
    Answer,
    Call,
    Notice,
    NotificationError,
    Notified,
    NotSentError,
    Outcome,
    Plugin,
    UnsupportedError,
)
from connectors.pic.breaker import Breaker, State
from connectors.pic.declines import STANDARD, DeclineCode

#: Calls in flight to one PIC from one worker: what a PIC takes from one client without throttling it.
CALLS_IN_FLIGHT_MAX: Final = 64

UNSUPPORTED: Final = STANDARD[DeclineCode.UNSUPPORTED].answer()
CURRENCY_NOT_SUPPORTED: Final = STANDARD[DeclineCode.CURRENCY_NOT_SUPPORTED].answer()

A = TypeVar("A", bound=Answer | None)
_OUTCOMES: Final = frozenset(get_args(Outcome))


class LeaseLostError(RuntimeError):
    """This process was silent for so long that another may serve its partitions: it must not call any more."""


@runtime_checkable
class Pic(Protocol):
    """A PIC as the engine sees it. Answers come in the order of what was asked, one for each."""

    name: str

    @property
    def abilities(self) -> Abilities:
        """What it can do."""

    async def perform(self, calls: Sequence[Call]) -> list[Answer]:
        """Do this. Where the PIC deduplicates, once per ``attempt_id``. Raises only :class:`LeaseLostError`."""

    async def look_up(self, calls: Sequence[Call]) -> list[Answer | None]:
        """What became of these calls; None says for sure that the PIC never got it, so that it may be sent again.

        An answer is never ``unsent``. Raises only :class:`LeaseLostError`.
        """

    def next_call(self) -> State:
        """What would become of a call made now (:meth:`connectors.pic.breaker.Breaker.next_call`)."""

    def parse_notification(self, notice: Notice) -> list[Notified]:
        """What a notification tells. Raises only :class:`connectors.pic.base.NotificationError`."""

    async def close(self) -> None:
        """Let go of connections. Nothing is called afterwards."""


class OneByOne:
    """A plugin in batches: bounded concurrency, time-outs, circuit breaker; and nothing that it did not say it can do.

    Every exception and every time-out of the plugin is the unknown answer, but for :class:`NotSentError`: ``unsent``. So is
    what is no answer. While the breaker is open no call is made: ``unsent`` too. A look-up that fails in any way is unknown,
    never None. ``allowed`` is asked right before each call; when it says no, :class:`LeaseLostError` ends the batch.
    """

    def __init__(
        self,
        name: str,
        plugin: Plugin,
        *,
        timeout_s: float,
        in_flight_max: int = CALLS_IN_FLIGHT_MAX,
        breaker: Breaker | None = None,
        allowed: Callable[[], bool] | None = None,
        clock_s: Callable[[], float] = time.monotonic,
        took: Callable[[float], object] | None = None,
    ) -> None:
        """``took`` is told how long each call took that was made."""
        self.name = name
        self.plugin = plugin
        self.breaker = breaker or Breaker()
        self._timeout_s = timeout_s
        self._slots = asyncio.Semaphore(in_flight_max)
        self._allowed = allowed
        self._clock_s = clock_s
        self._took = took
        #: Calls that the PIC has not answered yet.
        self.in_flight = 0
        self._methods = {
            "payment": plugin.authorize,
            "authorize": plugin.authorize,
            "capture": plugin.capture,
            "void": plugin.void,
            "refund": plugin.refund,
        }

    @property
    def abilities(self) -> Abilities:
        """The plugin's."""
        return self.plugin.abilities

    def breaker_state(self) -> State:
        """What the breaker does now."""
        return self.breaker.state(self._clock_s())

    def next_call(self) -> State:
        """See :class:`Pic`."""
        return self.breaker.next_call(self._clock_s())

    async def perform(self, calls: Sequence[Call]) -> list[Answer]:
        """See :class:`Pic`."""
        return await _all([self._perform(call) for call in calls])

    async def look_up(self, calls: Sequence[Call]) -> list[Answer | None]:
        """See :class:`Pic`."""
        return await _all([self._look_up(call) for call in calls])

    def parse_notification(self, notice: Notice) -> list[Notified]:
        """See :class:`Pic`. Whatever a plugin stumbles over is malformed."""
        try:
            return self.plugin.parse_notification(notice)
        except NotificationError:
            raise
        except Exception:
            raise NotificationError("malformed") from None

    async def close(self) -> None:
        """Close the plugin."""
        await self.plugin.close()

    async def _perform(self, call: Call) -> Answer:
        refused = unable(self.plugin.abilities, call)
        if refused is not None:
            return refused
        method = self._methods[call.kind]

        async def ask(call: Call) -> Answer:
            return await method(call) or UNKNOWN  # None, though no plugin may say so

        return await self._one(ask, call, NOT_SENT)

    async def _look_up(self, call: Call) -> Answer | None:
        if not self.plugin.abilities.looks_up:
            return UNKNOWN
        answer = await self._one(self.plugin.look_up, call, UNKNOWN)
        # That nothing was asked now says nothing of what was done before.
        return UNKNOWN if answer is not None and answer.outcome == "unsent" else answer

    async def _one(self, ask: Callable[[Call], Awaitable[A]], call: Call, not_sent: Answer) -> A | Answer:
        async with self._slots:
            if self._allowed is not None and not self._allowed():
                raise LeaseLostError(f"{self.name}: the lease is lost, no call was made")
            if not self.breaker.allows(self._clock_s()):
                return not_sent
            answer: A | Answer = UNKNOWN
            known = False
            began_s = self._clock_s()
            self.in_flight += 1
            try:
                # The wait for a slot is not the PIC's time.
                async with asyncio.timeout(self._timeout_s):
                    said = await ask(call)
                if said is None or (isinstance(said, Answer) and said.outcome in _OUTCOMES):
                    answer, known = said, said != UNKNOWN
            except NotSentError:
                answer = not_sent
            except UnsupportedError:
                answer, known = UNSUPPORTED, True
            except Exception:  # noqa: S110 (whatever a PIC or its client library does, the answer is unknown)
                pass
            finally:
                self.in_flight -= 1
            ended_s = self._clock_s()
            if call.times is not None:
                call.times.call_ms = int((ended_s - began_s) * 1000)
                call.times.called_at_ms = int(time.time() * 1000) - call.times.call_ms
            if self._took is not None:
                self._took(ended_s - began_s)
            self.breaker.record(ended_s, known=known)
            return answer


def unable(abilities: Abilities, call: Call) -> Answer | None:
    """The decline of a call that the PIC cannot take by its own description; None when it may be made."""
    if call.kind not in abilities.kinds or (abilities.methods and call.method not in abilities.methods):
        return UNSUPPORTED
    if abilities.currencies and call.currency not in abilities.currencies:
        return CURRENCY_NOT_SUPPORTED
    return None


async def _all(asked: Sequence[Awaitable[A]]) -> list[A]:
    tasks = [asyncio.ensure_future(each) for each in asked]
    try:
        return list(await asyncio.gather(*tasks))
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
