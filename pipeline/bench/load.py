"""Plain traffic for bench and chaos: valid payments of many payers and payees, drawn from a seed, with repeats."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from confluent_kafka import Producer

from pipeline import topics
from pipeline.settings import BrokerAccess, client_config
from schemas.codec import Codec
from schemas.identity import payment_key
from schemas.records import Instrument, Locality, Party, PaymentRequested
from schemas.tenant_rules import FraudRules, ReviewRules, TenantRules

TENANTS = tuple(f"bench{n}" for n in range(5))
#: What applies to a referred payment of an even, an odd tenant when nobody decides in time.
AT_EXPIRY = ("reject", "approve")
#: A name of the invented sample list (connectors/lists/sample.csv) with two letters swapped: referred, not blocked.
RESEMBLING = "BLACKWOOD, Ingatius Thorne"
PAYERS = 5_000
PAYEES = 2_000
#: What was posted is waited for this long: longer than the outages that tests make.
FLUSH_S = 180.0
DAY_MS = 24 * 60 * 60 * 1000
_GIVEN = ("Ada", "Alan", "Grace", "Edsger", "Barbara", "Donald", "Frances", "Niklaus")
_FAMILY = ("Winter", "Sommer", "Herbst", "Lenz", "Morgen", "Abend", "Berg", "Tal", "Fluss", "Wald")


@dataclass(frozen=True, slots=True)
class Load:
    """``payments`` different payments, ``repeat_share`` of them posted a second time later."""

    payments: int
    seed: int = 1
    repeat_share: float = 0.0
    #: requested_at_ms of the newest payment; the others are up to a day older.
    now_ms: int = 0
    #: Number of the first payment.
    first: int = 0
    #: Every so many payments one is referred by screening, for its payer's name; 0: none.
    referred_every: int = 0
    #: Seconds that a referred payment waits for a decision.
    review_s: float = 0.0

    def tenants(self) -> list[TenantRules]:
        """Their tenants. Fraud ends nothing, so that what is counted follows from the input alone."""
        calm = FraudRules(refer_at=1.0, decline_at=1.0)
        hours = self.review_s / 3600 or ReviewRules().hours
        return [
            TenantRules(
                tenant=name,
                pic="simulator",
                currencies=["EUR"],
                fraud=calm,
                review=ReviewRules(hours=hours, at_expiry=AT_EXPIRY[number % 2]),
            )
            for number, name in enumerate(TENANTS)
        ]

    def is_referred(self, number: int) -> bool:
        """Whether screening refers this payment, by the sample list."""
        return bool(self.referred_every) and number % self.referred_every == self.referred_every - 1

    def payment(self, number: int) -> PaymentRequested:
        """The ``number``-th payment; the same whenever it is asked for."""
        mixed = random.Random(f"{self.seed}:{number}") if self.payments <= 100_000 else _Mixed(self.seed, number)
        payer, payee = mixed.randrange(PAYERS), mixed.randrange(PAYEES)
        return PaymentRequested(
            tenant=TENANTS[number % len(TENANTS)],
            payment_id=f"pay_{number:09d}",
            amount_minor=mixed.randrange(100, 50_000),
            currency="EUR",
            debtor=Party(
                id=f"payer-{payer}",
                name=RESEMBLING
                if self.is_referred(number)
                else f"{_GIVEN[payer % 8]} {_FAMILY[payer // 8 % 10]}-{payer}",
                country="DE",
            ),
            creditor=Party(id=f"payee-{payee}", name=f"Laden {payee} {_FAMILY[payee % 10]} GmbH", country="DE"),
            terminal_id=f"terminal-{payee}",
            channel="pos",
            instrument=Instrument(kind="card", token=f"tok_{payer}"),
            locality=Locality(country="DE", region="BE", postcode="10115", locale="de-DE"),
            order_reference=f"order-{number}",
            metadata={"cart": "7"},
            requested_at_ms=self.now_ms - mixed.randrange(DAY_MS),
        )

    def posts(self) -> Iterator[int]:
        """Numbers of payments in the order in which they are posted, repeats among them."""
        again = random.Random(f"{self.seed}:repeats")
        waiting: list[int] = []
        for number in range(self.first, self.first + self.payments):
            yield number
            if again.random() < self.repeat_share:
                waiting.append(number)
            if waiting and again.random() < self.repeat_share:
                yield waiting.pop(again.randrange(len(waiting)))
        yield from waiting


def number_of(payment_id: str) -> int:
    """Which payment of a load has this id."""
    return int(payment_id.removeprefix("pay_"))


class _Mixed:
    """A cheap stand-in for a seeded generator per payment."""

    def __init__(self, seed: int, number: int) -> None:
        self._state = (number * 0x9E3779B97F4A7C15 + seed) & 0xFFFFFFFFFFFFFFFF

    def randrange(self, start: int, stop: int | None = None) -> int:
        low, high = (0, start) if stop is None else (start, stop)
        self._state = (self._state * 6364136223846793005 + 1442695040888963407) & 0xFFFFFFFFFFFFFFFF
        return low + (self._state >> 33) % (high - low)


def poster(broker: BrokerAccess | str, *, linger_ms: int = 25) -> Producer:
    """A producer that posts a load."""
    return Producer(
        client_config(
            broker,
            {
                "enable.idempotence": True,
                "acks": "all",
                "linger.ms": linger_ms,
                "compression.type": "lz4",
                "queue.buffering.max.messages": 2_000_000,
                "log_level": 3,
            },
        )
    )


def post(
    broker: BrokerAccess | str, load: Load, *, rate: float = 0.0, tick: Callable[[int], None] = lambda posted: None
) -> int:
    """Post the load, at ``rate`` per second (0: as fast as it goes); returns how many records were posted."""
    producer = poster(broker, linger_ms=1 if rate else 25)
    encode = Codec().encoder(PaymentRequested)
    topic, posted, started = topics.REQUESTED.name, 0, time.monotonic()
    for number in load.posts():
        if rate and (ahead_s := started + posted / rate - time.monotonic()) > 0:
            producer.poll(0)
            tick(posted)
            time.sleep(ahead_s)
        request = load.payment(number)
        producer.produce(topic, encode(request), payment_key(request.tenant, request.payment_id))
        posted += 1
        if posted % 1000 == 0:
            producer.poll(0)
            tick(posted)
    if producer.flush(FLUSH_S):
        raise RuntimeError(f"the broker did not take the whole load within {FLUSH_S:g} s")
    return posted
