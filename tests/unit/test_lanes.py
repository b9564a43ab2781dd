"""Which partitions a worker asks a broker for together, against a broker that answers when the test says so."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable
from contextlib import asynccontextmanager
from functools import wraps
from types import SimpleNamespace
from typing import Any

import pytest
from aiokafka import TopicPartition, errors
from aiokafka.consumer.subscription_state import SubscriptionState
from aiokafka.protocol.fetch import FetchResponse_v11

from pipeline.engine import lanes
from pipeline.engine.lanes import Fetcher, Lane
from tests.unit.test_records import a_batch

A, B, C = (TopicPartition("in", number) for number in range(3))
OUT_OF_RANGE, NOT_LEADER, NOT_ALLOWED = 1, 6, 29


def in_a_loop(test: Callable[..., Coroutine[Any, Any, None]]) -> Callable[..., None]:
    """Run an asynchronous test."""

    @wraps(test)
    def run(*arguments: Any, **named: Any) -> None:
        asyncio.run(test(*arguments, **named))

    return run


class Fetch:
    """One fetch that the broker holds."""

    def __init__(self, node: int, lane: Lane, request: Any) -> None:
        self.node, self.lane = node, lane
        self.wait_ms = request._max_wait_ms
        self.asked = {TopicPartition(t, p[0]): p[1] for t, partitions in request.topics for p in partitions}
        self._answer: asyncio.Future[Any] = asyncio.get_running_loop().create_future()

    def __await__(self) -> Any:
        return self._answer.__await__()

    @property
    def is_held(self) -> bool:
        return not self._answer.done()

    def answer(
        self, records: dict[TopicPartition, bytes] | None = None, error: dict[TopicPartition, int] | None = None
    ) -> None:
        """Every partition's answer: its records, its error, or nothing."""
        topics = [
            (
                tp.topic,
                [(tp.partition, (error or {}).get(tp, 0), 9, 9, 0, None, -1, (records or {}).get(tp, b""))],
            )
            for tp in self.asked
        ]
        self._answer.set_result(FetchResponse_v11(0, 0, 0, topics))


class Broker:
    """In place of aiokafka's client."""

    _metadata_max_age_ms = 300_000

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self.fetches: list[Fetch] = []
        self.metadata_updates = 0
        self.cluster = SimpleNamespace(leader_for_partition=lambda tp: 1)

    async def send(self, node: int, request: Any, *, group: Lane) -> Any:
        fetch = Fetch(node, group, request)
        for held in self.held():
            assert (held.node, held.lane) != (fetch.node, fetch.lane)
            assert not held.asked.keys() & fetch.asked.keys(), "a partition is asked for twice at once"
        self.fetches.append(fetch)
        return await fetch

    def force_metadata_update(self) -> asyncio.Future[bool]:
        self.metadata_updates += 1
        return self._loop.create_future()

    def held(self) -> list[Fetch]:
        return [fetch for fetch in self.fetches if fetch.is_held]

    async def both(self) -> list[Fetch]:
        """The two fetches that are held, when there are two, by broker."""
        for _ in range(2_000):
            if len(held := self.held()) == 2:
                return sorted(held, key=lambda fetch: fetch.node)
            await asyncio.sleep(0.001)
        raise AssertionError(f"{len(self.held())} fetches are held")

    async def next(self, lane: Lane) -> Fetch:
        """The fetch that is held in ``lane``, when there is one."""
        for _ in range(2_000):
            for fetch in self.held():
                if fetch.lane is lane:
                    return fetch
            await asyncio.sleep(0.001)
        raise AssertionError(f"nothing is asked for in {lane.name}")


@asynccontextmanager
async def a_fetcher(
    tps: Iterable[TopicPartition] = (A, B, C),
) -> AsyncIterator[tuple[Fetcher, Broker, SubscriptionState]]:
    broker = Broker()
    subscriptions = SubscriptionState()
    fetcher = Fetcher(broker, subscriptions, fetch_max_wait_ms=100, fetcher_timeout=0.01, auto_offset_reset="earliest")
    subscriptions.subscribe({"in"})
    subscriptions.assign_from_subscribed(set(tps))
    for tp in tps:
        subscriptions.seek(tp, 0)
    try:
        yield fetcher, broker, subscriptions
    finally:
        await fetcher.close()


@pytest.fixture
def quiet_soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lanes, "QUIET_AFTER_S", 0.0)


@pytest.fixture
def never_quiet(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lanes, "QUIET_AFTER_S", 3_600.0)


def test_the_worker_uses_it() -> None:
    """In place of aiokafka's."""
    from aiokafka.consumer import consumer

    assert consumer.Fetcher is Fetcher


@pytest.mark.usefixtures("never_quiet")
@in_a_loop
async def test_at_first_all_are_asked_for_together() -> None:
    """In one fetch, from their positions, with the short wait."""
    async with a_fetcher() as (_, broker, subscriptions):
        subscriptions.seek(B, 7)
        first = await broker.next(Lane.BUSY)
        assert (first.asked, first.wait_ms) == ({A: 0, B: 7, C: 0}, 100)
        assert broker.fetches == [first]


@pytest.mark.usefixtures("quiet_soon")
@in_a_loop
async def test_quiet_partitions_are_asked_for_in_a_long_fetch_of_their_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """On another connection than the busy ones, and they are busy again when one brings something, at once."""
    async with a_fetcher() as (fetcher, broker, _):
        quiet = await broker.next(Lane.QUIET)
        assert (quiet.asked, quiet.wait_ms) == ({A: 0, B: 0, C: 0}, lanes.QUIET_WAIT_MS)
        monkeypatch.setattr(lanes, "QUIET_AFTER_S", 3_600.0)
        quiet.answer({B: a_batch([b"one", b"two"])})
        taken = await fetcher.fetched_records([A, B, C], timeout=2.0)
        assert [record.value for record in taken[B]] == [b"one", b"two"]
        busy = await broker.next(Lane.BUSY)
        assert busy.asked == {B: 2}
        assert (await broker.next(Lane.QUIET)).asked == {A: 0, C: 0}
        busy.answer({B: a_batch([b"three"], first=2)})
        assert [record.offset for record in (await fetcher.fetched_records([B], timeout=2.0))[B]] == [2]
        assert (await broker.next(Lane.BUSY)).asked == {B: 3}


@pytest.mark.usefixtures("quiet_soon")
@in_a_loop
async def test_the_lane_to_one_broker_does_not_wait_for_another_broker() -> None:
    """A broker that brought something is asked again for what is quiet there, however long the other one holds its fetch."""
    async with a_fetcher([A, B]) as (_, broker, _):
        broker.cluster.leader_for_partition = lambda tp: 1 if tp == A else 2
        first, other = await broker.both()
        assert (first.lane, first.asked, other.lane, other.asked) == (Lane.QUIET, {A: 0}, Lane.QUIET, {B: 0})
        first.answer()
        again, still = await broker.both()
        assert (again.node, again.asked, still) == (1, {A: 0}, other)


@pytest.mark.usefixtures("never_quiet")
@in_a_loop
async def test_what_is_not_taken_yet_is_not_asked_for_again() -> None:
    """It is waited for a little; then the others are asked for without it."""
    async with a_fetcher() as (fetcher, broker, _):
        (await broker.next(Lane.BUSY)).answer({A: a_batch([b"one"])})
        second = await broker.next(Lane.BUSY)
        assert second.asked == {B: 0, C: 0}
        assert [record.value for record in (await fetcher.fetched_records([A], timeout=2.0))[A]] == [b"one"]
        second.answer()
        assert (await broker.next(Lane.BUSY)).asked == {A: 1, B: 0, C: 0}


@pytest.mark.usefixtures("quiet_soon")
@in_a_loop
async def test_a_position_that_is_set_meanwhile_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    """What comes from the old one is dropped; the partition is asked for again from the new one, with the busy ones."""
    async with a_fetcher() as (fetcher, broker, _):
        quiet = await broker.next(Lane.QUIET)
        monkeypatch.setattr(lanes, "QUIET_AFTER_S", 3_600.0)
        fetcher.seek_to(A, 5)
        for _ in range(50):
            await asyncio.sleep(0)  # The fetcher looks.
        assert broker.held() == [quiet]
        quiet.answer({A: a_batch([b"old"])})
        busy = await broker.next(Lane.BUSY)
        assert busy.asked == {A: 5}
        busy.answer({A: a_batch([b"new"], first=5)})
        assert [record.value for record in (await fetcher.fetched_records([A], timeout=2.0))[A]] == [b"new"]


@pytest.mark.usefixtures("never_quiet")
@in_a_loop
async def test_paused_partitions_are_not_asked_for_until_they_are_read_on() -> None:
    """Pausing waits for the fetch under way, reading on for the next look."""
    async with a_fetcher() as (_, broker, subscriptions):
        first = await broker.next(Lane.BUSY)
        subscriptions.pause(A)
        first.answer()
        second = await broker.next(Lane.BUSY)
        assert second.asked == {B: 0, C: 0}
        subscriptions.resume(A)
        second.answer()
        assert (await broker.next(Lane.BUSY)).asked == {A: 0, B: 0, C: 0}


@pytest.mark.usefixtures("never_quiet")
@in_a_loop
async def test_a_new_assignment_is_asked_for_anew() -> None:
    """Whatever was under way for the one before."""
    async with a_fetcher() as (_, broker, subscriptions):
        await broker.next(Lane.BUSY)
        broker.fetches.clear()  # It is cancelled.
        subscriptions.begin_reassignment()
        subscriptions.assign_from_subscribed({B})
        subscriptions.seek(B, 3)
        assert (await broker.next(Lane.BUSY)).asked == {B: 3}


@pytest.mark.usefixtures("never_quiet")
@in_a_loop
async def test_errors_are_those_of_one_partition() -> None:
    """A leader that moved is looked for, what may not be read is raised, and the others go on."""
    async with a_fetcher() as (fetcher, broker, _):
        (await broker.next(Lane.BUSY)).answer({C: a_batch([b"one"])}, {A: NOT_LEADER, B: NOT_ALLOWED})
        assert [record.value for record in (await fetcher.fetched_records([C], timeout=2.0))[C]] == [b"one"]
        assert broker.metadata_updates == 1
        with pytest.raises(errors.TopicAuthorizationFailedError):
            await fetcher.fetched_records([B], timeout=2.0)


@pytest.mark.usefixtures("never_quiet")
@in_a_loop
async def test_an_offset_that_is_gone_is_looked_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """The partition goes on at its first offset that is left."""
    offsets = itertools.repeat({A: (40, None)})

    async def first_offsets(node: int, asked: Any) -> Any:
        return next(offsets)

    async with a_fetcher([A]) as (fetcher, broker, _):
        monkeypatch.setattr(fetcher, "_proc_offset_request", first_offsets)
        (await broker.next(Lane.BUSY)).answer(error={A: OUT_OF_RANGE})
        assert (await broker.next(Lane.BUSY)).asked == {A: 40}


@pytest.mark.usefixtures("never_quiet")
@in_a_loop
async def test_a_broker_that_is_away_is_asked_again() -> None:
    """After a pause, in the same lane."""
    async with a_fetcher([A]) as (_, broker, _):
        first = await broker.next(Lane.BUSY)
        first._answer.set_exception(errors.KafkaConnectionError())
        assert (await broker.next(Lane.BUSY)).asked == {A: 0}
