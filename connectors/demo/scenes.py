"""What happens in the demo besides the everyday: mistakes, fraud, sanctions, and what is no PTR at all."""

from __future__ import annotations

import math
from typing import Final

import msgspec

from connectors.demo.names import person
from connectors.demo.stream import Post, Scene, Stream
from connectors.demo.world import Payee, Payer, World, usual_amount
from schemas.limits import VALUE_BYTES_MAX
from schemas.records import Instrument, Locality, Party, PaymentRequested

#: Below this many posts there is no room for scenes to be rare: as many as fit are made.
SCENES_SHARE_MAX: Final = 0.4
#: The first posts are everyday: scenes have something to go back to.
QUIET: Final = 5
#: Numbers that card schemes publish for tests.
TEST_CARDS: Final = ("4111111111111111", "5555 5555 5555 4444", "3782-822463-10005")
#: Far enough that no delay of the demo makes it the past.
FUTURE_MS: Final = 365 * 24 * 60 * 60 * 1000

BURST_PAYERS: Final = 3
BURST_MAX: Final = 120
#: Every so many posts, while it goes on.
BURST_EVERY: Final = 2
#: Amounts of card testing, minor units of a currency worth a euro.
TESTING_CENTS: Final = (60, 180)

REGULARS: Final = 8
#: Posts at the terminal that is compromised, at most: fraud must know the habits of its regulars (five payments), and
#: neither they nor the terminal may be busy enough to be suspicious for that.
REGULARS_POSTS_MAX: Final = 64
REGULARS_EVERY_MIN: Final = 20
#: From this part of the stream on the terminal's amounts jump, so many times.
JUMP_AT: Final = 0.7
JUMP_TIMES: Final = (20.0, 60.0)


def schedule(stream: Stream) -> dict[int, Scene]:
    """Which scene is at which place of the stream. Large streams have all; tiny ones as many singles as fit."""
    rng, count = stream.rng, stream.count
    scenes: dict[int, Scene] = {}
    room = int(count * SCENES_SHARE_MAX)
    if count > 2 * QUIET:
        singles = _singles()[: max(room, 1)]
        for scene, at in zip(singles, rng.sample(range(QUIET, count), min(len(singles), count - QUIET)), strict=False):
            scenes[at] = scene
    if count < 4 * len(_singles()):
        return scenes
    burst = min(BURST_MAX, count // 10)
    testing = _card_testing(stream)
    first = int(rng.uniform(0.3, 0.6) * count)
    for at in range(first, min(first + burst * BURST_EVERY, count), BURST_EVERY):
        scenes.setdefault(at, testing)
    regulars = _Compromised(stream)
    for at in range(QUIET, count, max(REGULARS_EVERY_MIN, math.ceil(count / REGULARS_POSTS_MAX))):
        scenes.setdefault(at, regulars.scene)
    return scenes


def _singles() -> list[Scene]:
    """Every scene that is one post, the most telling first."""
    return [
        _conflict,
        _sanctioned,
        _card_number(0),
        _unknown_tenant,
        _garbage,
        _not_allowed_currency,
        _not_allowed_country,
        _not_allowed_method,
        _unknown_currency,
        _amount_zero,
        _future,
        _empty,
        _no_key,
        _oversize,
        _wrong_key,
        _cut_off,
        _sanctioned,
        _resembling,
        _resembling,
        _resembling,
        _card_number(1),
        _card_number(2),
        _conflict,
        _conflicting_payee,
        _conflict,
        *[_behaviour(name) for name in ("decline", "lost", "error", "slow")],
    ]


def _conflict(stream: Stream) -> Post:
    """Another amount under an id that is taken."""
    first = stream.earlier().request
    assert first is not None
    return stream.post(
        msgspec.structs.replace(first, amount_minor=first.amount_minor + stream.rng.randint(1, 500)),
        "conflict",
        "conflict",
    )


def _conflicting_payee(stream: Stream) -> Post:
    """Another payee under an id that is taken."""
    first = stream.earlier().request
    assert first is not None
    other = Party(id="shop-elsewhere", name="Elsewhere Trading Ltd", country="GB")
    return stream.post(msgspec.structs.replace(first, creditor=other), "conflict", "conflict")


def _sanctioned(stream: Stream) -> Post:
    """Somebody of the built-in, invented, sanctions list pays or is paid."""
    request, name = stream.new_request(), _listed_name(stream)
    if stream.rng.random() < 0.5:
        return stream.post(msgspec.structs.replace(request, debtor=_renamed(request.debtor, name)), "sanctioned")
    return stream.post(msgspec.structs.replace(request, creditor=_renamed(request.creditor, name)), "sanctioned")


def _resembling(stream: Stream) -> Post:
    """Somebody whose name is a listed one with two letters swapped."""
    request, name = stream.new_request(), _listed_name(stream)
    at = next(at for at in range(len(name) // 2, len(name)) if name[at - 1 : at + 1].isalpha())
    swapped = name[: at - 1] + name[at] + name[at - 1] + name[at + 1 :]
    return stream.post(msgspec.structs.replace(request, debtor=_renamed(request.debtor, swapped)), "resembling")


def _listed_name(stream: Stream) -> str:
    # Read here and not above: a plain stream needs no list.
    from connectors.lists import sample

    return stream.rng.choice(stream.rng.choice(sample.load()).names)


def _renamed(party: Party, name: str) -> Party:
    # An id of its own: nobody's habits are spoilt.
    return Party(id=f"{party.id}-x", name=name, country=party.country)


def _card_number(which: int) -> Scene:
    """A test card's number in a text field: nothing that looks like one may enter."""

    def scene(stream: Stream) -> Post:
        number = TEST_CARDS[which]
        request = stream.new_request()
        match which:
            case 0:
                request = msgspec.structs.replace(request, order_reference=f"order {number}")
            case 1:
                request = msgspec.structs.replace(request, metadata={"note": f"card {number}, thanks"})
            case _:
                request = msgspec.structs.replace(request, debtor=_renamed(request.debtor, f"Holder {number}"))
        return stream.post(request, "card_number")

    return scene


def _unknown_tenant(stream: Stream) -> Post:
    return stream.post(stream.changed(tenant="nobody"), "unknown_tenant")


def _unknown_currency(stream: Stream) -> Post:
    return stream.post(stream.changed(currency="QQQ"), "unknown_currency")


def _amount_zero(stream: Stream) -> Post:
    return stream.post(stream.changed(amount_minor=0), "amount_zero")


def _future(stream: Stream) -> Post:
    return stream.post(stream.changed(requested_at_ms=stream.start_ms + FUTURE_MS), "requested_in_future")


def _not_allowed_currency(stream: Stream) -> Post:
    return stream.post(stream.changed(currency="CHF"), "currency_not_allowed")


def _not_allowed_country(stream: Stream) -> Post:
    return stream.post(stream.changed(locality=Locality(country="BR", locale="pt-BR")), "country_not_allowed")


def _not_allowed_method(stream: Stream) -> Post:
    request = stream.new_request()
    cash = Instrument(kind="cash", token=request.instrument.token)
    return stream.post(msgspec.structs.replace(request, instrument=cash), "method_not_allowed")


def _wrong_key(stream: Stream) -> Post:
    """A valid PTR under a key that is not its payment's: it is corrected, not lost."""
    post = stream.post(stream.new_request(), "wrong_key")
    return Post(b"somebody|else", post.value, post.about, post.payment, post.request, post.kind)


def _no_key(stream: Stream) -> Post:
    post = stream.post(stream.new_request(), "no_key")
    return Post(None, post.value, post.about, None, post.request, "garbage")


def _garbage(stream: Stream) -> Post:
    return Post(b"aurora|garbage", stream.rng.randbytes(200), "garbage", None, None, "garbage")


def _empty(stream: Stream) -> Post:
    return Post(b"aurora|empty", b"", "empty", None, None, "garbage")


def _cut_off(stream: Stream) -> Post:
    """The first half of a PTR."""
    post = stream.post(stream.new_request(), "cut_off")
    return Post(post.topic_key, post.value[: len(post.value) // 2], post.about, None, None, "garbage")


def _oversize(stream: Stream) -> Post:
    post = stream.post(stream.changed(metadata={"note": "x" * VALUE_BYTES_MAX}), "oversize")
    return Post(post.topic_key, post.value, post.about, None, None, "garbage")


def _behaviour(name: str) -> Scene:
    """At least one payment for each way in which the simulated PIC can be difficult."""

    def scene(stream: Stream) -> Post:
        request = stream.new_request()
        token = f"tok_{name}_{request.payment_id}"
        instrument = Instrument(kind=request.instrument.kind, token=token)
        return stream.post(msgspec.structs.replace(request, instrument=instrument), f"pic_{name}")

    return scene


def _card_testing(stream: Stream) -> Scene:
    """A few strangers try stolen cards at one online shop, small amounts, one after the other."""
    world = stream.worlds[0]
    payee = world.payees[0]
    strangers = [
        Payer(
            Party(id=f"stranger-{n}", name=person(payee.place.style, stream.rng), country=payee.place.country),
            payee.place,
            Instrument(kind="card", token=""),
            (),
            0.0,
        )
        for n in range(BURST_PAYERS)
    ]

    def scene(stream: Stream) -> Post:
        cents = stream.rng.randint(*TESTING_CENTS)
        amount_minor = round(cents * payee.place.minor_per_cent)
        token = f"tok_stolen_{stream.at}"
        return stream.post(
            stream.request(world, stream.rng.choice(strangers), payee, "", amount_minor, token), "card_testing"
        )

    return scene


class _Compromised:
    """A terminal with regular customers; from a moment on somebody else enters the amounts."""

    def __init__(self, stream: Stream) -> None:
        self._world: World = stream.worlds[-1]
        self._payee: Payee = next((p for p in self._world.payees if p.terminals), self._world.payees[0])
        self._terminal = self._payee.terminals[0] if self._payee.terminals else "t0-0"
        currency = self._payee.place.currency
        near = [payer for payer in self._world.payers if payer.place.currency == currency]
        self._regulars = (near or self._world.payers)[:REGULARS]

    def scene(self, stream: Stream) -> Post:
        payer = stream.rng.choice(self._regulars)
        jumped = stream.at >= JUMP_AT * stream.count
        times = stream.rng.uniform(*JUMP_TIMES) if jumped else 1.0
        amount_minor = usual_amount(payer, self._payee.place, stream.rng, times)
        request: PaymentRequested = stream.request(self._world, payer, self._payee, self._terminal, amount_minor)
        return stream.post(request, "compromised_terminal" if jumped else "regular")
