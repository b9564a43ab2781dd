"""Kills in the middle of a rescreening, drawn by hypothesis, against the real runners, shells and decisions."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Sequence

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import agents.parties
from agents.context import Context
from connectors.lists.book import EFFECTIVE_DELAY_MS, ListBook
from connectors.lists.version import pack
from connectors.pic.ledger import MemoryLedger
from connectors.pic.simulator import Simulator
from connectors.tenants.book import TenantBook
from connectors.tenants.document import document_hash, document_of
from pipeline import topics
from pipeline.app import flow
from pipeline.engine.stage import Group
from pipeline.stages.watchlist import ListEntry, Watchlists
from schemas.codec import Codec
from schemas.identity import party_key, payment_key
from schemas.records import PartyFlagged, PartySeen, TenantConfigured
from tables import parties
from tests.builders import a_request
from tests.simulation.test_exactness import POINTS, RULES, rows_of
from tests.simulation.world import NOW_MS, World

CODEC = Codec()
#: Names of parties: of those that the second version lists, of one that both list, and of others.
NAMES = ("Zebulon Quillfeather", "Tobias Bramble", "Ada Lovelace", "Grace Hopper")
OLD = (ListEntry("ofac", "1", "person", ("Tobias Bramble",)), ListEntry("ofac", "9", "person", ("Somebody Else",)))
NEW = (*OLD, ListEntry("ofac", "2", "person", ("Zebulon Quillfeather",)))
#: (payer, payee, name of the payer, name of the payee, screened before the list changes)
posts = st.lists(
    st.tuples(st.integers(0, 4), st.integers(5, 8), st.integers(0, 3), st.integers(0, 3), st.booleans()),
    min_size=1,
    max_size=16,
)
moves = st.lists(
    st.tuples(
        st.sampled_from(("parties", "parties", "screening")),
        st.integers(1, 3),
        st.sampled_from((None, None, *POINTS)),
        st.floats(0, 0.99),
        st.booleans(),
        st.booleans(),
    ),
    max_size=50,
)
Move = tuple[str, int, str | None, float, bool, bool]


def put_in_force(book: ListBook, entries: Sequence[ListEntry]) -> str:
    """The next version, and what it is called."""
    version = pack("ofac", entries, source_at_ms=NOW_MS, imported_at_ms=NOW_MS)
    for part in version.parts():
        book.take_part(part)
    book.take_head(version.head, NOW_MS - EFFECTIVE_DELAY_MS)
    assert book.take_up(NOW_MS)
    return version.head.version


def a_world() -> tuple[World, ListBook]:
    tenants = TenantBook()
    document = document_of(RULES)
    tenants.apply(
        TenantConfigured(tenant="t1", version=1, document=document, document_hash=document_hash(document)), NOW_MS - 1
    )
    book = ListBook(Watchlists(()))
    context = Context(
        codec=CODEC,
        tenants=tenants,
        lists=book,
        pics={"simulator": Simulator("simulator", MemoryLedger())},
        now_ms=lambda: NOW_MS,
    )

    def groups() -> list[Group]:
        named = flow(context)
        return [*named["screening"], *named["parties"]]

    return World(groups, CODEC), book


def post(world: World, number: int, drawn: tuple[int, int, int, int, bool]) -> None:
    payer, payee, payer_name, payee_name, _ = drawn
    request = a_request(
        tenant="t1",
        payment_id=f"p{number}",
        debtor_id=f"party{payer}",
        debtor_name=NAMES[payer_name],
        creditor_id=f"party{payee}",
        creditor_name=NAMES[payee_name],
        requested_at_ms=NOW_MS,
    )
    world.broker.append(topics.REQUESTED.name, CODEC.encode(request), payment_key("t1", request.payment_id))


async def run(drawn: list[tuple[int, int, int, int, bool]], walk: list[Move]) -> tuple[World, str]:
    """Payments before the list changes, some of them not read by ``parties`` yet; then the change, and the others."""
    world, book = a_world()
    put_in_force(book, OLD)
    await world.settle()
    early = [(number, each) for number, each in enumerate(drawn) if each[4]]
    for number, each in early:
        post(world, number, each)
        await world.step("screening")
        if number % 2:
            await world.step("parties")
    version = put_in_force(book, NEW)
    for number, each in enumerate(drawn):
        if not each[4]:
            post(world, number, each)
    for name, take, point, share, checkpoint, record in walk:
        await world.step(name, take, None if point is None else (point, share), checkpoint, record)
    await world.settle()
    return world, version


def check(world: World, version: str) -> Counter[tuple[str, str, str, str]]:
    """Each party's last name decides; who was screened by the old list and is on the new one was flagged, nobody else."""
    seen = [CODEC.decode(record.value or b"", PartySeen) for record in world.broker.all(topics.PARTIES_SEEN.name)]
    last: dict[str, tuple[int, str]] = {}
    for each in seen:
        last[each.party_id] = max(last.get(each.party_id, (0, "")), (each.seen_at_ms, each.name))
    rows = rows_of(world, parties.NAME, parties.PartyRow)
    progress = rows.pop(parties.PROGRESS).progress
    assert (progress.done, progress.target) == (f"ofac:{version}", "")
    assert {key: row.name for key, row in rows.items()} == {
        party_key("t1", party_id): name for party_id, (_, name) in last.items()
    }
    events = [
        CODEC.decode(record.value or b"", PartyFlagged) for record in world.broker.all(topics.PARTIES_FLAGGED.name)
    ]
    said: dict[tuple[str, str, str, str], set[str]] = {}
    for event in events:
        said.setdefault((event.party_id, event.list, event.version, event.entry_id), set()).add(repr(event))
    assert all(len(texts) == 1 for texts in said.values())
    for party_id, _, of_version, entry_id in said:
        # Bramble is on the old list too: of that nothing is new, but who was told of under no list is held against all.
        names = {each.name for each in seen if each.party_id == party_id}
        assert NAMES[0] in names if entry_id == "2" else NAMES[1] in names
        assert of_version == version
    flagged = {(party_id, entry_id) for party_id, _, _, entry_id in said}
    old_only = {each.party_id for each in seen if each.list_version != f"ofac:{version}"}
    must = {
        (party_id, "2") for party_id in old_only if last[party_id][1] == NAMES[0] and _old_name(seen, party_id, version)
    }
    marks = {(key.decode().split("|")[1], mark.split(":")[2]) for key, row in rows.items() for mark in row.flagged}
    # An event that a killed process published is true still where its repeat found the party screened already.
    assert must <= marks <= flagged
    assert not world.broker.all(topics.DEAD_LETTERS.name)
    return Counter((event.party_id, event.list, event.version, event.entry_id) for event in events)


def _old_name(seen: list[PartySeen], party_id: str, version: str) -> bool:
    return any(
        each.party_id == party_id and each.name == NAMES[0] and each.list_version != f"ofac:{version}" for each in seen
    )


@pytest.fixture(autouse=True)
def one_party_a_step(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that there is a middle to be killed in."""
    monkeypatch.setattr(agents.parties, "STEP_S", -1.0)


@settings(
    max_examples=60,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
    print_blob=True,
)
@given(drawn=posts, walk=moves)
def test_whatever_dies_who_is_newly_listed_is_flagged(
    drawn: list[tuple[int, int, int, int, bool]], walk: list[Move]
) -> None:
    """Kills at any step leave one event, whatever was repeated, for each party that the new list names, and no other."""
    world, version = asyncio.run(run(drawn, walk))
    check(world, version)


def test_without_a_kill_each_is_flagged_once() -> None:
    """Five parties on the new list, screened before; each in one event, and a list that comes back flags nobody again."""
    drawn = [(number, 5 + number % 4, 0, 2, True) for number in range(5)]
    world, version = asyncio.run(run(drawn, []))
    assert check(world, version) == {(f"party{number}", "ofac", version, "2"): 1 for number in range(5)}


def test_a_rescreening_dies_at_every_point() -> None:
    """A fixed walk: killed at each point of the cycle in turn, over and over, it still comes to its end."""
    drawn = [(number % 5, 5 + number % 4, 0, 0, number < 12) for number in range(16)]
    walk: list[Move] = [
        ("parties", 2, point, 0.5, again % 2 == 0, again != 1) for again in range(4) for point in POINTS
    ]
    world, version = asyncio.run(run(drawn, walk))
    assert world.kills > 10
    counted = check(world, version)
    assert {party for party, *_ in counted} == {f"party{number}" for number in range(9)}
