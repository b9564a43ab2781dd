"""Steady traffic of some tenants, posted by a thread until it is told to end: for benches and chaos that wait for moments."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from types import TracebackType

import msgspec

from pipeline import topics
from pipeline.bench.load import FLUSH_S, Load, poster
from pipeline.settings import BrokerAccess
from schemas.codec import Codec
from schemas.identity import payment_key
from schemas.records import PaymentRequested
from schemas.tenant_rules import FraudRules, TenantRules

#: Fraud ends nothing, so that what is counted follows from the input alone.
CALM = FraudRules(refer_at=1.0, decline_at=1.0)


def no_token(number: int) -> str:
    """What a plain payment of the simulator has."""
    return f"tok_{number}"


class Traffic:
    """Posts payment 0, 1, 2 ... in turn for each of ``tenants`` at ``rate`` PTRs a second while the context is open.

    Payment ``n`` has the id ``pay_<n>`` (:func:`pipeline.bench.load.number_of`) and the token ``token_of(n)``; every
    ``repeat_every``-th is posted twice (0: none). Leaving it waits until the broker has all, and raises what the thread raised.
    """

    def __init__(
        self,
        broker: BrokerAccess | str,
        tenants: Sequence[TenantRules],
        rate: float,
        *,
        seed: int = 1,
        token_of: Callable[[int], str] = no_token,
        repeat_every: int = 0,
    ) -> None:
        self._tenants = [rules.tenant for rules in tenants]
        self._rate = rate
        self._token_of = token_of
        self._repeat_every = repeat_every
        self._load = Load(0, seed=seed, now_ms=int(time.time() * 1000))
        self._producer = poster(broker, linger_ms=1)
        self._encode = Codec().encoder(PaymentRequested)
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._error: BaseException | None = None
        #: Payments that were posted, repeats not counted.
        self.payments = 0

    def payment(self, number: int) -> PaymentRequested:
        """The ``number``-th payment; the same whenever it is asked for."""
        tenants = self._tenants
        return msgspec.structs.replace(
            plain := self._load.payment(number),
            tenant=tenants[number % len(tenants)],
            instrument=msgspec.structs.replace(plain.instrument, token=self._token_of(number)),
        )

    def turn_to(self, tenants: Sequence[TenantRules]) -> None:
        """From the next payment on these are in turn; what :meth:`payment` gives changes with it."""
        self._tenants = [rules.tenant for rules in tenants]

    def __enter__(self) -> Traffic:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end.set()
        self._thread.join(FLUSH_S)
        if kind is None and self._error is not None:
            raise self._error
        if kind is None and self._producer.flush(FLUSH_S):
            raise RuntimeError(f"the broker did not take everything within {FLUSH_S:g} s")

    def _run(self) -> None:
        try:
            started, posts = time.monotonic(), 0
            while not self._end.wait(max(started + posts / self._rate - time.monotonic(), 0.0)):
                request = self.payment(self.payments)
                again = self._repeat_every and self.payments % self._repeat_every == self._repeat_every - 1
                for _ in range(2 if again else 1):
                    key = payment_key(request.tenant, request.payment_id)
                    self._producer.produce(topics.REQUESTED.name, self._encode(request), key)
                self._producer.poll(0)
                self.payments += 1
                posts += 1
        except BaseException as error:
            self._error = error
