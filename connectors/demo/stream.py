"""The stream of posts in the making: what everyday posts and scenes are made with."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from random import Random
from typing import Final, Literal

import msgspec

from connectors.demo.world import Payee, Payer, World
from schemas.codec import Codec
from schemas.identity import payment_key
from schemas.records import Instrument, PaymentRequested

Kind = Literal["first", "repeat", "conflict", "garbage"]

#: Repeats are of one of so many posts before.
REPEAT_WITHIN: Final = 1_000
#: What the simulated PIC does by token (connectors/pic/scripts.py), the commonest first.
BEHAVIOURS: Final = ("decline", "decline", "decline", "lost", "lost", "error", "error", "slow")


@dataclass(frozen=True, slots=True)
class Post:
    """One record for ``payments.requested.v1``.

    ``kind`` says what it is to its payment; ``garbage`` never becomes one. ``about`` names the scene. ``payment`` is
    tenant and payment id, None for garbage; ``request`` is None where ``value`` holds no PTR.
    """

    topic_key: bytes | None
    value: bytes
    about: str
    payment: tuple[str, str] | None
    request: PaymentRequested | None
    kind: Kind


class Stream:
    """What scenes have to work with: the worlds, the clock of the stream, the everyday posts so far."""

    def __init__(
        self, count: int, rng: Random, worlds: Sequence[World], *, run: str, start_ms: int, span_ms: int, codec: Codec
    ) -> None:
        self.count, self.rng, self.worlds = count, rng, worlds
        self.start_ms = start_ms
        self._span_ms = span_ms
        self._run = run
        self._made = 0
        self.at = 0
        self._encode = codec.encoder(PaymentRequested)
        #: Everyday firsts, the last ones, for repeats and conflicts; never empty once one was made.
        self.recent: list[Post] = []

    def now_ms(self) -> int:
        """When the post at this place of the stream was asked for: evenly over the span."""
        return self.start_ms - self._span_ms + self._span_ms * self.at // self.count

    def request(
        self, world: World, payer: Payer, payee: Payee, terminal: str, amount_minor: int, token: str = ""
    ) -> PaymentRequested:
        """A PTR as everyday ones look; the next payment id of the run."""
        self._made += 1
        instrument = payer.instrument
        return PaymentRequested(
            tenant=world.tenant,
            payment_id=f"{self._run}{self._made}",
            amount_minor=amount_minor,
            currency=payee.place.currency,
            debtor=payer.party,
            creditor=payee.party,
            terminal_id=terminal,
            channel="pos" if terminal else "ecommerce",
            instrument=Instrument(kind=instrument.kind, token=token) if token else instrument,
            locality=payee.locality,
            order_reference=f"order-{self._made}",
            requested_at_ms=self.now_ms(),
        )

    def everyday(self, behaviour_share: float) -> Post:
        """The first request of an everyday payment, now and then with a token that makes the PIC difficult."""
        rng = self.rng
        world = self.worlds[self._made % len(self.worlds)]
        payer, payee, terminal, amount_minor = world.everyday(rng)
        token, about = "", "everyday"
        if behaviour_share and rng.random() < behaviour_share:
            behaviour = rng.choice(BEHAVIOURS)
            token, about = f"tok_{behaviour}_{self._made + 1}", f"pic_{behaviour}"
        post = self.post(self.request(world, payer, payee, terminal, amount_minor, token), about)
        if len(self.recent) < REPEAT_WITHIN:
            self.recent.append(post)
        else:
            self.recent[self._made % REPEAT_WITHIN] = post
        return post

    def earlier(self) -> Post:
        """One of the recent everyday posts."""
        return self.recent[int(self.rng.random() * len(self.recent))]

    def post(self, request: PaymentRequested, about: str, kind: Kind = "first") -> Post:
        """``request`` as a client posts it, under its payment's key."""
        tenant, payment_id = request.tenant, request.payment_id
        key = payment_key(tenant, payment_id)
        return Post(key, self._encode(request), about, (tenant, payment_id), request, kind)

    def new_request(self) -> PaymentRequested:
        """The PTR of an everyday payment, for a scene to change; of a tenant that is chosen at random."""
        world = self.rng.choice(self.worlds)
        payer, payee, terminal, amount_minor = world.everyday(self.rng)
        return self.request(world, payer, payee, terminal, amount_minor)

    def changed(self, **fields: object) -> PaymentRequested:
        """:meth:`new_request` with some fields changed."""
        return msgspec.structs.replace(self.new_request(), **fields)


#: Something that happens once: it makes the post at its place.
Scene = Callable[[Stream], Post]
