"""Crashes, repeats and reorderings, drawn by hypothesis, against the real runners, shells and decisions.

Only the broker, the disks and the PIC are stand-ins (tests/simulation/world.py); they keep what the real ones keep.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from agents.context import Context
from connectors.lists.book import ListBook
from connectors.pic.ledger import MemoryLedger
from connectors.pic.simulator import Simulator
from connectors.tenants.book import TenantBook
from connectors.tenants.document import document_hash, document_of
from pipeline import topics
from pipeline.app import flow
from pipeline.engine.stage import Group
from pipeline.stages.attempts import Attempts
from pipeline.stages.fraud_library import FAST_IN_OUT
from pipeline.stages.profiles import HOUR_MS, Profile
from pipeline.stages.watchlist import ListEntry, Watchlists
from schemas.codec import Codec
from schemas.identity import attempt_id, payee_key, payer_key, payment_key
from schemas.records import PaymentCompleted, PaymentRequested, TenantConfigured
from schemas.tenant_rules import FraudRules, RuleTuning, TenantRules
from tables import attempts, profiles
from tests.builders import a_request
from tests.simulation.world import NOW_MS, PARTITIONS, World

CODEC = Codec()
#: Nothing is referred or declined by fraud, so that what must be counted can be told from the input alone.
#: What comes in for payers is looked at.
RULES = TenantRules(
    tenant="t1",
    pic="simulator",
    currencies=["EUR"],
    fraud=FraudRules(refer_at=1.0, decline_at=1.0, rules={FAST_IN_OUT: RuleTuning()}),
)
LISTED = "Igor Sanctioned"

#: (payment, payer, payee, amount, kind): kind bends the request so that a stage ends it; an account is a payer who is paid.
posts = st.lists(
    st.tuples(
        st.integers(0, 7),
        st.integers(0, 2),
        st.integers(0, 1),
        st.integers(1, 3),
        st.sampled_from(["plain", "plain", "account", "account", "listed", "currency", "decline", "refused"]),
    ),
    min_size=1,
    max_size=24,
)
POINTS = ("deliver", "delivered", "store", "ack", "end")
#: (which group, how many records it takes, where it is killed, how much the broker has by then, checkpoint, whether earlier
#: cycles are recorded)
moves = st.lists(
    st.tuples(
        st.integers(0, 9),
        st.integers(1, 5),
        st.sampled_from((None, None, *POINTS)),
        st.floats(0, 0.99),
        st.booleans(),
        st.booleans(),
    ),
    max_size=60,
)


def request_of(post: tuple[int, int, int, int, str]) -> PaymentRequested:
    payment, payer, payee, amount, kind = post
    return a_request(
        tenant="t1",
        payment_id=f"p{payment}",
        amount_minor=100 * amount if kind != "refused" else 0,
        currency="USD" if kind == "currency" else "EUR",
        debtor_id=f"d{payer}",
        debtor_name=LISTED if kind == "listed" else "Ada Lovelace",
        creditor_id=f"d{payee}" if kind == "account" else f"c{payee}",
        terminal_id="" if kind == "account" else "term-1",
        token="tok_decline" if kind == "decline" else "tok_1",
        requested_at_ms=NOW_MS - HOUR_MS * amount,
    )


def world_and_ledger() -> tuple[World, MemoryLedger]:
    ledger = MemoryLedger()
    book = TenantBook()
    document = document_of(RULES)
    book.apply(
        TenantConfigured(tenant="t1", version=1, document=document, document_hash=document_hash(document)), NOW_MS - 1
    )
    context = Context(
        codec=CODEC,
        tenants=book,
        lists=ListBook(Watchlists([ListEntry("test", "1", "person", (LISTED,))])),
        pics={"simulator": Simulator("simulator", ledger)},
    )

    def groups() -> list[Group]:
        return [group for named in flow(context).values() for group in named]

    return World(groups, CODEC), ledger


async def run(
    requests: list[tuple[int, int, int, int, str]], drawn: list[tuple[int, int, str | None, float, bool, bool]]
) -> tuple[World, MemoryLedger]:
    world, ledger = world_and_ledger()
    for post in requests:
        request = request_of(post)
        world.broker.append(
            topics.REQUESTED.name, CODEC.encode(request), payment_key(request.tenant, request.payment_id)
        )
    names = list(world.processes)
    for number, take, point, share, checkpoint, record in drawn:
        crash_at = None if point is None else (point, share)
        await world.step(names[number % len(names)], take, crash_at, checkpoint, record)
    await world.settle()
    return world, ledger


def rows_of(world: World, table: str, row_type: type[Any]) -> dict[bytes, Any]:
    return {
        key: msgspec.msgpack.decode(row, type=row_type, strict=False)
        for partition in range(PARTITIONS)
        for key, row in world.disks[table, partition].rows.items()
    }


#: What a PIC is asked for.
ASKED = ("plain", "account", "decline")
EXPECTED = {
    "plain": ("paid", ""),
    "account": ("paid", ""),
    "listed": ("blocked", "party_on_sanctions_list"),
    "currency": ("rejected", "currency_not_allowed"),
    "decline": ("declined", "pic_declined"),
    "refused": ("refused", "amount_not_positive"),
}


def check(world: World, ledger: MemoryLedger, requests: list[tuple[int, int, int, int, str]]) -> None:
    """Recount everything from the input alone."""
    first: dict[int, tuple[int, int, int, int, str]] = {}
    conflicts: set[tuple[int, tuple[int, int, int, int, str]]] = set()
    for post in requests:
        if post[0] not in first:
            first[post[0]] = post
        elif post != first[post[0]]:
            conflicts.add((post[0], post))

    # One outcome per payment: the second event with an id says the same as the first, or repeats it on request.
    completed = [CODEC.decode(r.value or b"", PaymentCompleted) for r in world.broker.all(topics.COMPLETED.name)]
    outcomes: dict[str, set[tuple[str, str]]] = {}
    for event in completed:
        outcomes.setdefault(event.event_id, set()).add((event.outcome, event.reason))
    assert {event_id: said for event_id, said in outcomes.items() if event_id.endswith("|completed")} == {
        f"t1|p{n}|completed": {EXPECTED[post[4]]} for n, post in first.items()
    }
    refusals = [event_id for event_id in outcomes if "|refused|" in event_id]
    assert len(refusals) == len(conflicts)

    # Each window exact.
    payer: Counter[tuple[bytes, int]] = Counter()
    payee: Counter[tuple[bytes, int]] = Counter()
    credited: Counter[tuple[bytes, int, int]] = Counter()
    for _, who, at, amount, kind in first.values():
        if kind in ASKED:
            hour = NOW_MS // HOUR_MS - amount
            payer[payer_key("t1", f"d{who}"), hour] += 1
            shop = payee_key("t1", f"c{at}", "term-1")
            payee[payer_key("t1", f"d{at}") if kind == "account" else shop, hour] += 1
        if kind == "account":
            credited[payer_key("t1", f"d{at}"), hour, 100 * amount] += 1
    for table, expected in ((profiles.PAYERS, payer), (profiles.PAYEES, payee)):
        counted = Counter(
            {
                (key, hour): count
                for key, row in rows_of(world, table, Profile).items()
                for hour, count in zip(row.hours, row.counts, strict=True)
            }
        )
        assert counted == expected

    # What was paid to an account came in there, once.
    assert credited == Counter(
        (key, *each)
        for key, row in rows_of(world, profiles.PAYERS, profiles.PAYER_ROW).items()
        for each in row.credits.values()
    )

    # One call per attempt, and none for what was ended before.
    called = {attempt: entry.calls for attempt, entry in ledger.entries().items()}
    assert called == {attempt_id("t1", f"p{n}", 1): 1 for n, post in first.items() if post[4] in ASKED}
    states = {key: row.state for key, row in rows_of(world, attempts.NAME, Attempts).items()}
    assert states == {payment_key("t1", f"p{n}"): "ended" for n in first}
    assert not world.broker.all(topics.DEAD_LETTERS.name)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow], print_blob=True)
@given(requests=posts, drawn=moves)
def test_whatever_dies_each_payment_has_one_outcome_and_each_count_is_exact(
    requests: list[tuple[int, int, int, int, str]], drawn: list[tuple[int, int, str | None, float, bool, bool]]
) -> None:
    """Kills at any step of any cycle of any stage leave outcomes, windows and calls as if nothing had died."""
    world, ledger = asyncio.run(run(requests, drawn))
    check(world, ledger, requests)


def test_every_stage_dies_at_every_point() -> None:
    """A fixed walk: each group is killed once at each point of the cycle while it holds work."""
    requests = [(n % 12, n % 3, n % 2, 1 + n % 3, "account" if n % 2 else "plain") for n in range(30)]
    drawn = [
        (group, 3, point, 0.5, group % 2 == 0, again != 1)
        for point in POINTS
        for again in range(3)
        for group in range(10)
    ]
    world, ledger = asyncio.run(run(requests, drawn))
    assert world.kills > 20
    check(world, ledger, requests)


@pytest.mark.parametrize("recorded", [True, False])
@pytest.mark.parametrize("point", POINTS)
def test_money_comes_in_once_wherever_settlement_dies(point: str, recorded: bool) -> None:
    """Killed with answers in hand, also while the rows of what it queued wait: what it told of before it tells again, and
    by other records; each payment comes in once."""
    requests = [(n, n % 3, n % 2, 1 + n % 3, "account") for n in range(8)]

    async def walk() -> None:
        world, ledger = world_and_ledger()
        for post in requests:
            request = request_of(post)
            key = payment_key(request.tenant, request.payment_id)
            world.broker.append(topics.REQUESTED.name, CODEC.encode(request), key)
        for name in world.processes:
            if name != "parties":
                await world.step(name, record=recorded)
        assert len(world.broker.all(topics.ANSWERED.name)) == len(requests)
        await world.step("dispatch", crash_at=(point, 0.9), record=recorded)
        told = len(world.broker.all(topics.CREDITED.name))
        await world.settle()
        check(world, ledger, requests)
        if point in ("deliver", "delivered"):
            assert len(world.broker.all(topics.CREDITED.name)) == len(requests) + told > len(requests)

    asyncio.run(walk())
