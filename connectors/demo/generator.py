"""The demo's traffic: PTRs as clients would post them, the everyday and the rest. The same seed, the same bytes.

Everyday payments come from people with habits (connectors/demo/world.py). Unless ``plain``, scenes are woven in: see
connectors/demo/scenes.py. What must be true afterwards is recounted by connectors/demo/recount.py.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Sequence
from random import Random
from typing import Final

from connectors.demo.recount import expected
from connectors.demo.scenes import schedule
from connectors.demo.stream import Post, Scene, Stream
from connectors.demo.tenants import tenants_yaml
from connectors.demo.world import MARKETS, World
from schemas.codec import Codec

__all__ = ["Post", "expected", "generate", "tenants_yaml"]

TENANTS: Final = ("aurora", "borealis")
HOUR_MS: Final = 60 * 60 * 1000
#: A payer makes about so many everyday payments, a payee receives about so many: far from any fraud rule.
PAYMENTS_PER_PAYER: Final = 8
PAYMENTS_PER_PAYEE: Final = 30
PAYERS_MIN, PAYERS_MAX = 30, 50_000
PAYEES_MIN, PAYEES_MAX = 12, 5_000
#: Shares of everyday posts that are repeats, and that have such a token.
REPEAT_SHARE: Final = 0.02
BEHAVIOUR_SHARE: Final = 0.02


def generate(
    count: int,
    *,
    seed: int,
    start_ms: int,
    tenants: Sequence[str] = TENANTS,
    span_ms: int = HOUR_MS,
    plain: bool = False,
    repeat_share: float = REPEAT_SHARE,
    behaviour_share: float | None = None,
    payers: int | None = None,
    payees: int | None = None,
    run: str = "",
    codec: Codec | None = None,
) -> Iterator[Post]:
    """``count`` posts, in order, asked for evenly over the ``span_ms`` milliseconds up to ``start_ms`` and never after
    (but for one scene whose point that is).

    ``plain`` leaves only valid everyday firsts and repeats of them. ``behaviour_share`` of them have a token that makes
    the simulated PIC decline, be slow, or lose its answer; by default none when ``plain``. ``payers`` and ``payees``
    are per tenant, by default enough that everyday traffic looks innocent. Payment ids begin with ``run``, by default
    derived from the seed; a run again with the same ids, seed and times is nothing but repeats. Raises
    :class:`ValueError` when there is nothing to generate from.
    """
    if count < 0 or span_ms < 1 or not tenants or not 0 <= repeat_share < 1:
        raise ValueError(
            f"count={count} must be at least 0, span_ms={span_ms} at least 1, repeat_share={repeat_share} from 0 up to"
            f" 1, and tenants ({len(tenants)}) at least one"
        )
    rng = Random(seed)
    share = count // len(tenants)
    payers = payers or min(max(share // PAYMENTS_PER_PAYER, PAYERS_MIN), PAYERS_MAX)
    payees = payees or min(max(share // PAYMENTS_PER_PAYEE, PAYEES_MIN), PAYEES_MAX)
    worlds = [
        World(tenant, MARKETS[n % len(MARKETS)], rng, payers=payers, payees=payees) for n, tenant in enumerate(tenants)
    ]
    # Ids hold few digits in a row: nothing in them can be taken for a card number.
    run = run or f"{zlib.crc32(str(seed).encode()):08x}-p"
    stream = Stream(count, rng, worlds, run=run, start_ms=start_ms, span_ms=span_ms, codec=codec or Codec())
    behaviour_share = (0.0 if plain else BEHAVIOUR_SHARE) if behaviour_share is None else behaviour_share
    scenes: dict[int, Scene] = {} if plain else schedule(stream)
    for at in range(count):
        stream.at = at
        if at in scenes:
            yield scenes[at](stream)
        elif stream.recent and rng.random() < repeat_share:
            first = stream.earlier()
            yield Post(first.topic_key, first.value, "repeat", first.payment, first.request, "repeat")
        else:
            yield stream.everyday(behaviour_share)
