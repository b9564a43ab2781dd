"""What a plugin for a payment integration client (PIC) is, and a base for PICs that take one call at a time.

A plugin answers; it decides nothing. Three answers exist: ``paid`` and ``declined`` are the PIC's explicit words,
``pending`` is everything else: a time-out, an error, a broken connection, an answer that nobody understands. Whoever
called may have been heard, so a pending answer is looked up later, never guessed.

The plugin stage serves an intent so: for ask 0 of a fresh intent it calls :meth:`Pic.authorize`; for any other, and for
intents that may have been called before a crash, it calls :meth:`Pic.look_up` first, and authorizes, under the same
idempotency key, only what the PIC never got.
"""

from __future__ import annotations

import asyncio
import time
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Sequence
from typing import Final, Literal, Protocol, TypeVar

import msgspec

from connectors.pic.breaker import Breaker
from schemas.codec import decode_request
from schemas.reasons import Reason
from schemas.records import PaymentRequested, PaymentTerms

#: Calls in flight to one PIC from one worker: what a PIC takes from one client without throttling it.
CALLS_IN_FLIGHT_MAX: Final = 64

T = TypeVar("T")
A = TypeVar("A")


class LeaseLostError(RuntimeError):
    """This process was silent for so long that another may serve its partitions: it must not call any more."""


class Call(msgspec.Struct, frozen=True, kw_only=True):
    """One payment to make. ``attempt_id`` is the idempotency key: the same key is the same payment."""

    attempt_id: str
    tenant: str
    payment_id: str
    amount_minor: int
    currency: str
    #: The vault's token of the instrument, never a card number.
    token: str
    #: Kind of the instrument: card, bank_account, wallet ...
    method: str
    #: Whether the payer is to prove who they are before money moves (3-D Secure, or what the method has).
    challenge: bool = False
    #: Terms of the tenant's business rules: what is to be paid (``payable_minor``), tax, value date, locale; None without.
    terms: PaymentTerms | None = None
    #: Strong customer authentication: ``required``, ``exempt`` (``sca_basis`` names the article), ``out_of_scope``, or empty.
    sca: str = ""
    sca_basis: str = ""
    #: The whole PTR, for a plugin that needs more of it: :meth:`ptr`. Most need nothing more, so it is not decoded.
    request: bytes = b""

    def ptr(self) -> PaymentRequested:
        """The PTR as it was accepted."""
        return decode_request(self.request)


class Answer(msgspec.Struct, frozen=True):
    """What the PIC said. ``reason`` is the plugin's snake_case word for it, safe to show; no text of the PIC."""

    outcome: Literal["paid", "declined", "pending"]
    reason: str = ""
    pic_reference: str = ""


#: The answer when there is none.
UNKNOWN: Final = Answer("pending", Reason.PIC_ANSWER_UNKNOWN.value)


class Pic(Protocol):
    """A plugin. Answers come in the order of what was asked, one for each."""

    name: str

    async def authorize(self, calls: Sequence[Call]) -> list[Answer]:
        """Make these payments. Idempotent by ``attempt_id``. Raises only :class:`LeaseLostError`."""

    async def look_up(self, attempt_ids: Sequence[str]) -> list[Answer | None]:
        """What became of these attempts; None says for sure that the PIC never got it, so that it may be sent again.

        Raises only :class:`LeaseLostError`.
        """

    async def close(self) -> None:
        """Let go of connections. Nothing is called afterwards."""


class OneByOne(ABC):
    """Base of plugins for PICs that take one call at a time: batches, bounded concurrency, time-outs, circuit breaker.

    A subclass gives :meth:`authorize_one` and :meth:`look_up_one`, which may raise whatever they like: every exception
    and every time-out is the unknown answer. While the breaker is open no call is made and the answer is unknown too.
    ``allowed`` is asked right before each call; when it says no, :class:`LeaseLostError` ends the batch.
    """

    def __init__(
        self,
        name: str,
        *,
        timeout_s: float,
        in_flight_max: int = CALLS_IN_FLIGHT_MAX,
        breaker: Breaker | None = None,
        allowed: Callable[[], bool] | None = None,
        clock_s: Callable[[], float] = time.monotonic,
    ) -> None:
        self.name = name
        self.breaker = breaker or Breaker()
        self._timeout_s = timeout_s
        self._slots = asyncio.Semaphore(in_flight_max)
        self._allowed = allowed
        self._clock_s = clock_s

    @abstractmethod
    async def authorize_one(self, call: Call) -> Answer:
        """Make one payment, with ``call.attempt_id`` as idempotency key."""

    @abstractmethod
    async def look_up_one(self, attempt_id: str) -> Answer | None:
        """What became of one attempt; None only when the PIC says that it has no such attempt."""

    async def close(self) -> None:  # noqa: B027 (not abstract: most plugins hold nothing)
        """Nothing is held here."""

    async def authorize(self, calls: Sequence[Call]) -> list[Answer]:
        """See :class:`Pic`."""
        return await self._all(self.authorize_one, calls)

    async def look_up(self, attempt_ids: Sequence[str]) -> list[Answer | None]:
        """See :class:`Pic`. A look-up that fails is unknown, never None."""
        return await self._all(self.look_up_one, attempt_ids)

    async def _all(self, ask: Callable[[T], Awaitable[A]], items: Sequence[T]) -> list[A | Answer]:
        tasks = [asyncio.ensure_future(self._one(ask, item)) for item in items]
        try:
            return list(await asyncio.gather(*tasks))
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _one(self, ask: Callable[[T], Awaitable[A]], item: T) -> A | Answer:
        async with self._slots:
            if self._allowed is not None and not self._allowed():
                raise LeaseLostError(f"{self.name}: the lease is lost, no call was made")
            if not self.breaker.allows(self._clock_s()):
                return UNKNOWN
            answer: A | Answer
            try:
                # The wait for a slot is not the PIC's time.
                async with asyncio.timeout(self._timeout_s):
                    answer = await ask(item)
            except Exception:  # whatever a PIC or its client library does, the answer is unknown
                answer = UNKNOWN
            failed = isinstance(answer, Answer) and answer == UNKNOWN
            self.breaker.record(self._clock_s(), known=not failed)
            return answer
