"""Kills around calls, drawn by hypothesis, on PICs of each kind: one that deduplicates, one that only looks up, one that does
both and one that does neither. Nothing is done twice, and nothing is lost: what cannot be known is for a person."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Sequence
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from agents.context import Context
from connectors.lists.book import ListBook
from connectors.pic.base import KINDS, UNKNOWN, Abilities, Answer, Call, Notice, Notified
from connectors.pic.breaker import State
from connectors.tenants.book import TenantBook
from pipeline import topics
from pipeline.app import flow
from pipeline.engine.stage import Group
from pipeline.stages.attempts import ENDED, PARKED, Attempts
from pipeline.stages.life import standing
from pipeline.stages.watchlist import Watchlists
from schemas.codec import Codec
from schemas.identity import payment_key
from schemas.records import (
    OperationRequested,
    PaymentCompleted,
    PaymentParked,
    PaymentScored,
    PaymentTerms,
    PaymentUpdated,
)
from tables import attempts
from tests.simulation.world import PARTITIONS, Crash, World
from tests.stream.events import a_fact

CODEC = Codec()
PAYMENTS = 4
AMOUNT = 100
#: What becomes of a call, in the order in which calls arrive; when they are used up every call is done.
WILLS = ("done", "done", "lost", "lost", "unsent", "declined", "not_now", "killed_before", "killed_after")


class Bank:
    """Two PICs of one kind, and what was done at each under each key."""

    def __init__(self, abilities: Abilities, wills: Sequence[str]) -> None:
        self.effects: Counter[str] = Counter()
        self.wills = list(wills)
        self.pics = {name: CountingPic(name, abilities, self) for name in ("a", "b")}


class CountingPic:
    """Does what its bank's script says, and once more whatever it is asked once more, unless it deduplicates."""

    def __init__(self, name: str, abilities: Abilities, bank: Bank) -> None:
        self.name, self.abilities, self.bank = name, abilities, bank
        self.said: dict[str, Answer] = {}

    def next_call(self) -> State:
        return "closed"

    async def perform(self, calls: Sequence[Call]) -> list[Answer]:
        return [self._do(call) for call in calls]

    def _do(self, call: Call) -> Answer:
        if self.abilities.deduplicates and call.attempt_id in self.said:
            return self.said[call.attempt_id]
        will = self.bank.wills.pop(0) if self.bank.wills else "done"
        if will == "killed_before":
            raise Crash
        if will == "unsent":
            return Answer("unsent", "not_sent")
        if will in ("declined", "not_now"):
            self.said[call.attempt_id] = Answer(
                "declined", "do_not_honor", retry="here" if will == "not_now" else "never"
            )
            return self.said[call.attempt_id]
        self.bank.effects[call.attempt_id] += 1
        self.said[call.attempt_id] = Answer("succeeded", "", f"ref-{call.attempt_id}")
        if will == "killed_after":
            raise Crash
        return UNKNOWN if will == "lost" else self.said[call.attempt_id]

    async def look_up(self, calls: Sequence[Call]) -> list[Answer | None]:
        if not self.abilities.looks_up:
            return [UNKNOWN] * len(calls)
        return [self.said.get(call.attempt_id) for call in calls]

    def parse_notification(self, notice: Notice) -> list[Notified]:
        return []

    async def close(self) -> None: ...


def world_of(bank: Bank) -> World:
    context = Context(codec=CODEC, tenants=TenantBook(), lists=ListBook(Watchlists([])), pics=bank.pics)

    def groups() -> list[Group]:
        flowing = flow(context)
        return [*flowing["dispatch"], *flowing["plugin"]]

    return World(groups, CODEC)


def post(world: World, authorize: bool) -> None:
    for number in range(PAYMENTS):
        scored: PaymentScored = a_fact(
            PaymentScored,
            sender_offset=number,
            payment_id=f"p{number}",
            outcome="approved",
            pic="a",
            amount_minor=AMOUNT,
            kind="authorize" if authorize else "payment",
            # Half of them may go elsewhere.
            terms=PaymentTerms(payable_minor=AMOUNT, routes=["a", "b"]) if number % 2 else None,
        )
        key = payment_key(scored.tenant, scored.payment_id)
        world.broker.append(topics.SCORED.name, CODEC.encode(scored), key)
        for name, kind, amount in (("cap", "capture", 60), ("cap2", "capture", 40), ("ref", "refund", 30)):
            if kind == "capture" and not authorize:
                continue
            asked = OperationRequested(
                tenant=scored.tenant,
                payment_id=scored.payment_id,
                operation_id=name,
                kind=kind,
                amount_minor=amount,
                currency=scored.currency,
                requested_at_ms=1,
            )
            world.broker.append(topics.OPERATIONS.name, CODEC.encode(asked), key)


def check(world: World, bank: Bank) -> None:
    assert not world.broker.all(topics.DEAD_LETTERS.name)
    # Nothing was done twice: not under one key, and not by two attempts of one step.
    assert max(bank.effects.values(), default=0) <= 1, bank.effects
    steps = Counter(key.rsplit("|", 1)[0] for key in bank.effects.elements())
    assert max(steps.values(), default=0) <= 1, steps
    rows: dict[bytes, Attempts] = {
        key: msgspec.msgpack.decode(row, type=Attempts, strict=False)
        for partition in range(PARTITIONS)
        for key, row in world.disks[attempts.NAME, partition].rows.items()
    }
    parked = {
        (event.payment_id, event.operation_id): event.reason
        for event in (CODEC.decode(kept.value or b"", PaymentParked) for kept in world.broker.all(topics.PARKED.name))
    }
    knows = next(iter(bank.pics.values())).abilities
    if knows.looks_up or knows.deduplicates:
        assert parked == {}
    assert set(parked.values()) <= {"unknowable"}
    completed = {
        event.payment_id: event
        for event in (
            CODEC.decode(kept.value or b"", PaymentCompleted) for kept in world.broker.all(topics.COMPLETED.name)
        )
    }
    updated = {
        (event.payment_id, event.operation_id): event
        for event in (CODEC.decode(kept.value or b"", PaymentUpdated) for kept in world.broker.all(topics.UPDATED.name))
    }
    assert len(rows) == PAYMENTS
    for key, row in rows.items():
        tenant, payment = key.decode().split("|")
        if row.state == PARKED:
            assert (payment, "") in parked
            continue
        # Nothing is lost: whatever is not parked has its end, and says of money what the PIC counted.
        assert row.state == ENDED
        done = steps[f"{tenant}|{payment}"] == 1
        assert (completed[payment].outcome in ("paid", "authorized")) == done
        assert row.life is not None
        for operation in row.life.operations:
            told = (payment, operation.operation_id)
            if operation.state == PARKED:
                assert told in parked
                break  # Those behind it wait for the person, too.
            assert operation.state == ENDED
            assert updated[told].outcome == operation.outcome
            counted = steps[f"{tenant}|{payment}|{operation.operation_id}"]
            assert (operation.outcome == "succeeded") == (counted == 1), operation
        life = standing(row)
        counted_amounts = sum(
            amount
            for name, amount in (("cap", 60), ("cap2", 40))
            if steps[f"{tenant}|{payment}|{name}"] and (payment, name) not in parked
        )
        if row.outcome == "authorized":
            assert life.captured_minor == counted_amounts


async def run(
    abilities: Abilities,
    wills: Sequence[str],
    drawn: Sequence[tuple[int, int, str | None, float, bool]],
    authorize: bool,
) -> tuple[World, Bank]:
    bank = Bank(abilities, wills)
    world = world_of(bank)
    post(world, authorize)
    names = list(world.processes)
    for number, take, point, share, record in drawn:
        crash_at = None if point is None else (point, share)
        await world.step(names[number % len(names)], take, crash_at, False, record)
    await world.settle()
    return world, bank


moves = st.lists(
    st.tuples(
        st.sampled_from([0, 0, 0, 1, 1, 1, 2, 3, 4, 5]),
        st.integers(1, 6),
        st.sampled_from((None, None, "deliver", "delivered", "store", "ack", "end")),
        st.floats(0, 0.99),
        st.booleans(),
    ),
    max_size=50,
)
KINDS_OF_PIC: dict[str, Any] = {
    "deduplicates": {"deduplicates": True},
    "looks up": {"looks_up": True},
    "both": {"deduplicates": True, "looks_up": True},
    "neither": {},
}


@pytest.mark.parametrize("kind", list(KINDS_OF_PIC))
@settings(max_examples=100, deadline=None, suppress_health_check=list(HealthCheck), print_blob=True)
@given(wills=st.lists(st.sampled_from(WILLS), max_size=25), drawn=moves, authorize=st.booleans())
def test_whatever_dies_around_calls_nothing_is_done_twice_or_lost(
    kind: str, wills: list[str], drawn: list[tuple[int, int, str | None, float, bool]], authorize: bool
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(topics, "RETRY_DELAYS_S", (0,))
        abilities = Abilities(
            kinds=frozenset(KINDS),
            several_captures=True,
            partial_captures=True,
            partial_refunds=True,
            **KINDS_OF_PIC[kind],
        )
        world, bank = asyncio.run(run(abilities, wills, drawn, authorize))
        check(world, bank)
