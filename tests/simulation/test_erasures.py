"""Kills while parties are erased and pay again, drawn by hypothesis, against the real runners, shells and decisions."""

from __future__ import annotations

import asyncio
import copy
from collections.abc import Sequence

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import agents.parties
from agents.context import Context
from connectors.erasures.book import ErasureBook
from connectors.lists.book import ListBook
from connectors.pic.ledger import MemoryLedger
from connectors.pic.simulator import Simulator
from connectors.tenants.book import TenantBook
from connectors.tenants.document import document_hash, document_of
from pipeline import topics
from pipeline.app import flow
from pipeline.engine.rows import newest
from pipeline.engine.stage import Group
from pipeline.stages.parties import ERASED_KEPT_MS, ERASURE_DELAY_MS
from pipeline.stages.watchlist import Watchlists
from schemas.codec import Codec
from schemas.identity import party_key, payment_key
from schemas.records import ErasureRequested, PartyErased, PartyFlagged, PartySeen, TenantConfigured
from tables import parties
from tests.builders import a_request
from tests.simulation.test_exactness import POINTS, RULES, rows_of
from tests.simulation.test_rescreening import NEW, OLD, put_in_force
from tests.simulation.world import NOW_MS, PARTITIONS, Disk, World

CODEC = Codec()
PARTIES = 3
#: Each party always pays under its own name; that of the last one is on the second list.
NAMES = ("Ada Lovelace", "Grace Hopper", "Zebulon Quillfeather")
#: What happens, to whom, and how long after what happened before. "disk": what a worker that goes away now has on its disk.
Happening = tuple[str, int, int]
happenings = st.tuples(
    st.sampled_from(("pay", "pay", "erase", "list", "disk")),
    st.integers(0, PARTIES - 1),
    st.sampled_from((0, 1, ERASURE_DELAY_MS - 1, ERASURE_DELAY_MS, 60_000)),
)
Move = tuple[str, int, str | None, float, bool, bool]
moves = st.tuples(
    st.sampled_from(("parties", "parties", "screening")),
    st.integers(1, 3),
    st.sampled_from((None, None, *POINTS)),
    st.floats(0, 0.99),
    st.booleans(),
    st.booleans(),
)


class Run:
    """A world that screens and knows parties, and what happened in it."""

    def __init__(self) -> None:
        tenants = TenantBook()
        document = document_of(RULES)
        configured = TenantConfigured(tenant="t1", version=1, document=document, document_hash=document_hash(document))
        tenants.apply(configured, NOW_MS - 1)
        self.lists, self.erasures = ListBook(Watchlists(())), ErasureBook()
        context = Context(
            codec=CODEC,
            tenants=tenants,
            lists=self.lists,
            erasures=self.erasures,
            pics={"simulator": Simulator("simulator", MemoryLedger())},
            now_ms=lambda: self.world.broker.now_ms,
        )

        def groups() -> list[Group]:
            named = flow(context)
            return [*named["screening"], *named["parties"]]

        self.world = World(groups, CODEC)
        self.listed = OLD
        put_in_force(self.lists, self.listed)
        #: Times of each party's payments and erasures.
        self.paid: list[list[int]] = [[] for _ in range(PARTIES)]
        self.erased: list[list[int]] = [[] for _ in range(PARTIES)]
        #: Of each partition, as a worker had them that went away.
        self.disks: list[Disk] = [Disk() for _ in range(PARTITIONS)]

    def happen(self, what: str, who: int, after_ms: int) -> None:
        broker, key = self.world.broker, party_key("t1", f"party{who}")
        broker.now_ms += after_ms
        match what:
            case "pay":
                number = sum(map(len, self.paid))
                request = a_request(
                    tenant="t1",
                    payment_id=f"p{number}",
                    debtor_id=f"party{who}",
                    debtor_name=NAMES[who],
                    creditor_id="shop",
                    creditor_name="Corner Shop",
                    requested_at_ms=broker.now_ms,
                )
                broker.append(topics.REQUESTED.name, CODEC.encode(request), payment_key("t1", request.payment_id))
                self.paid[who].append(broker.now_ms)
            case "erase":
                erasure_id = f"e{sum(map(len, self.erased))}"
                requested = ErasureRequested(
                    tenant="t1", party_id=f"party{who}", erasure_id=erasure_id, by="dpo", requested_at_ms=0
                )
                broker.append(topics.ERASURES.name, CODEC.encode(requested), key)
                self.erasures.take("t1", f"party{who}", broker.now_ms)
                self.erased[who].append(broker.now_ms)
            case "list":
                self.listed = OLD if self.listed is NEW else NEW
                put_in_force(self.lists, self.listed)
            case "disk":
                self.disks = [copy.deepcopy(self.world.disks[parties.NAME, each]) for each in range(PARTITIONS)]

    def until_ms(self, who: int) -> int:
        return max((at_ms + ERASURE_DELAY_MS for at_ms in self.erased[who]), default=0)

    def check(self) -> None:
        """Known is who paid after its last erasure; nobody else is, on any disk, whatever died."""
        known = {
            party_key("t1", f"party{who}")
            for who in range(PARTIES)
            if any(at_ms >= self.until_ms(who) for at_ms in self.paid[who])
        }
        if any(self.paid):
            known.add(party_key("t1", "shop"))
        rows = rows_of(self.world, parties.NAME, parties.PartyRow)
        assert {key for key in rows if not key.startswith(parties.PROGRESS)} == known
        for who in range(PARTIES):
            key = party_key("t1", f"party{who}")
            if key in rows:
                assert (rows[key].name, rows[key].seen_at_ms >= self.until_ms(who)) == (NAMES[who], True)
            assert (parties.erased_key(key) in rows) == bool(self.erased[who])
        said = {
            CODEC.decode(record.value or b"", PartyErased).erasure_id
            for record in self.world.broker.all(topics.PARTIES_ERASED.name)
        }
        assert said == {f"e{number}" for number in range(sum(map(len, self.erased)))}
        assert not self.world.broker.all(topics.DEAD_LETTERS.name)
        self.check_changelog()

    def check_changelog(self) -> None:
        """Compacted, it gives these rows, on an empty disk and on one that was away meanwhile."""
        for partition in range(PARTITIONS):
            log = self.world.broker.logs[parties.CHANGELOG, partition]
            compacted = {record.key: record for record in log}
            here = self.world.disks[parties.NAME, partition].rows
            for disk in (Disk(), self.disks[partition]):
                later = [record for record in compacted.values() if record.offset > disk.offset]
                later.sort(key=lambda record: record.offset)
                changes = ((record.key, record.value) for record in later if record.key is not None)
                disk.write(newest(changes, {record.key: disk.get(record.key) for record in later if record.key}))
                assert disk.rows == here
            for record in compacted.values():
                assert record.value is None or record.value == here[record.key or b""]


async def run(walk: Sequence[Happening | Move]) -> Run:
    found = Run()
    for each in walk:
        if len(each) == 3:
            found.happen(*each)
        else:
            name, take, point, share, checkpoint, record = each
            await found.world.step(name, take, None if point is None else (point, share), checkpoint, record)
    await found.world.settle()
    return found


@pytest.fixture(autouse=True)
def one_party_a_step(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that there is a middle to be killed in."""
    monkeypatch.setattr(agents.parties, "STEP_S", -1.0)


@settings(
    max_examples=120,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
    print_blob=True,
)
@given(walk=st.lists(st.one_of(happenings, happenings, moves), max_size=60))
def test_whatever_dies_an_erased_party_is_known_by_later_payments_only(walk: list[Happening | Move]) -> None:
    """Kills at any step, payments and erasures in any order, read in any order, lists that change in the middle."""
    asyncio.run(run(walk)).check()


@pytest.mark.parametrize(
    ("deciding", "recording"),
    [(point, None) for point in ("deliver", "delivered", "end")] + [(None, point) for point in POINTS],
)
def test_an_erasure_dies_at_every_point(deciding: str | None, recording: str | None) -> None:
    """Killed in the cycle that takes the erasures, or in the one that records it; both times that they are erased."""
    walk: list[Happening | Move] = [("list", 0, 0)]
    for _ in range(2):
        walk += [("pay", who, 60_000) for who in range(PARTIES)]
        walk += [("screening", 9, None, 0, False, True), ("parties", 9, None, 0, False, True)] * 3 + [("disk", 0, 0)]
        walk += [("erase", who, 1) for who in range(PARTIES)]
        walk += [("parties", 9, deciding, 0.9, True, True), ("parties", 9, recording, 0.9, True, True)]
    found = asyncio.run(run(walk))
    assert found.world.kills == 2
    found.check()
    assert not set(rows_of(found.world, parties.NAME, parties.PartyRow)) & {
        party_key("t1", f"party{who}") for who in range(PARTIES)
    }


def test_an_erased_party_that_pays_again_is_flagged_again() -> None:
    """By the next list; and that it was erased is let go after a month, when a list changes."""
    settled: list[Happening | Move] = [
        move
        for _ in range(4)
        for move in (("screening", 9, None, 0.0, False, True), ("parties", 9, None, 0.0, False, True))
    ]
    walk = [("pay", 2, 0), *settled, ("erase", 2, 0), *settled, ("pay", 2, ERASURE_DELAY_MS), *settled, ("list", 0, 0)]
    found = asyncio.run(run(walk))
    found.check()
    flagged = [
        CODEC.decode(record.value or b"", PartyFlagged).party_id
        for record in found.world.broker.all(topics.PARTIES_FLAGGED.name)
    ]
    assert flagged == ["party2"]
    place = parties.erased_key(party_key("t1", "party2"))

    async def another_list() -> bool:
        put_in_force(found.lists, NEW[:-1])
        await found.world.settle()
        return place in rows_of(found.world, parties.NAME, parties.PartyRow)

    found.world.broker.now_ms += ERASED_KEPT_MS
    assert asyncio.run(another_list())
    found.world.broker.now_ms += 1
    put_in_force(found.lists, NEW)
    asyncio.run(found.world.settle())
    assert place not in rows_of(found.world, parties.NAME, parties.PartyRow)


@pytest.mark.parametrize("killed", [False, True])
def test_a_disk_that_was_away_has_no_erased_row_that_wins(killed: bool) -> None:
    """It has the party's row of before, changed more often than the one that came back; the tombstone was compacted away. Also
    when the worker is killed with half of what it publishes of the erasure in the changelog."""
    key = party_key("t1", "party2")

    async def walk() -> Run:
        found = Run()
        world, broker = found.world, found.world.broker
        found.happen("pay", 2, 0)
        await world.settle()
        for number in range(4):
            seen = PartySeen(
                tenant="t1",
                party_id="party2",
                name=f"Name {number}",
                country="DE",
                list_version=found.lists.in_force(broker.now_ms).version,
                seen_at_ms=broker.now_ms + 1 + number,
            )
            broker.append(topics.PARTIES_SEEN.name, CODEC.encode(seen), key)
            await world.settle()
        found.happen("disk", 0, 0)
        found.happen("erase", 2, 10)
        await world.step("parties")
        if killed:
            await world.step("parties", crash_at=("deliver", 0.5))
        await world.settle()
        found.happen("pay", 2, ERASURE_DELAY_MS)
        await world.settle()
        return found

    found = asyncio.run(walk())
    assert found.world.kills == killed
    (before,) = (disk.rows[key] for disk in found.disks if key in disk.rows)
    assert msgspec.msgpack.decode(before, type=parties.PartyRow).version > 3
    found.check()


def test_a_row_of_an_earlier_program_is_read() -> None:
    """It has no field that says of an erasure."""
    old = msgspec.msgpack.encode([3, "Ada", "DE", "", 5, [], None])
    row = msgspec.msgpack.decode(old, type=parties.PartyRow)
    assert (row.version, row.name, row.erased) == (3, "Ada", None)
