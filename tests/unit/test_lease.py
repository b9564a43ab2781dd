"""The lease: who may publish, and when not any more."""

from __future__ import annotations

import asyncio

import pytest

from pipeline.engine.lease import DELIVERY_SHARE, LEASE_SHARE, Lease, LeaseLostError


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def a_lease() -> tuple[Lease, Clock]:
    """With a session of 10 s: fresh for less than 4 s."""
    clock = Clock()
    return Lease(10.0, clock), clock


def test_a_former_owner_is_silent_before_the_next_begins() -> None:
    """The lease and the time that a record may be under way are shorter than the session together."""
    assert LEASE_SHARE + DELIVERY_SHARE < 1


def test_it_is_fresh_for_its_share_of_the_session() -> None:
    """4 s of 10, counted from when the answered heartbeat was sent."""
    lease, clock = a_lease()
    clock.now = 103.99
    assert lease.fresh()
    clock.now = 104.0
    assert not lease.fresh()
    lease.renew(sent_at=102.0)
    assert lease.fresh()
    clock.now = 106.0
    assert not lease.fresh()
    assert not lease.lost()


def test_an_answer_that_comes_late_does_not_take_time_back() -> None:
    """An older heartbeat's answer after a newer one's changes nothing."""
    lease, clock = a_lease()
    clock.now = 103.0
    lease.renew(sent_at=103.0)
    lease.renew(sent_at=101.0)
    clock.now = 106.9
    assert lease.fresh()


def test_it_is_broken_after_a_missed_session_for_good() -> None:
    """A heartbeat that is answered after a whole session belongs to a new membership: work of the old one must not go on."""
    lease, clock = a_lease()
    clock.now = 110.1
    assert lease.lost()
    lease.renew(sent_at=110.1)
    assert not lease.fresh()
    assert lease.lost()
    lease.renew(sent_at=110.2)
    assert not lease.fresh()


def test_begin_mends_it() -> None:
    """Partitions assigned anew, and nobody holds work of before."""
    lease, clock = a_lease()
    clock.now = 150.0
    lease.renew(sent_at=150.0)
    lease.begin()
    assert lease.fresh()
    assert not lease.lost()


def test_hold_returns_when_fresh_and_raises_when_lost() -> None:
    """It waits while a heartbeat is late, and no longer than the session."""
    lease, clock = a_lease()
    asyncio.run(lease.hold())
    clock.now = 105.0

    async def late() -> None:
        waiting = asyncio.ensure_future(lease.hold())
        await asyncio.sleep(0.01)
        assert not waiting.done()
        lease.renew(sent_at=105.0)
        await asyncio.wait_for(waiting, 10)

    asyncio.run(late())
    clock.now = 200.0
    with pytest.raises(LeaseLostError, match="a whole session \\(10 s\\)"):
        asyncio.run(lease.hold())
