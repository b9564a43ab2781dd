"""Whoever owns the database changes it, in every way and at random places: it is found every time, and the row is named.

Each trial is rolled back. The heads are those that were signed when the rows were written, kept elsewhere, with the leaves
under them or without.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from connectors.proofs.appending import leaf_of
from connectors.proofs.keys import Signer
from connectors.proofs.leaf_log import LeafLog, kept_leaves
from connectors.proofs.trees import TILE_WIDTH, Tree
from connectors.proofs.verifier import COLUMNS, Head
from connectors.sinks import verifying
from connectors.sinks.database import Batch, Database, open_database
from connectors.sinks.rows import Columns, Mapper
from connectors.sinks.signing import HeadSigner
from connectors.sinks.verifying import Finding, KeptLeaves, verify_database
from schemas.codec import Codec
from tests.benchmark.bench_sink import records_of
from tests.integration import postgres as pg
from tests.integration.test_sqlite_audit import states

TRIALS, PARTS = 2_000, 4
SIGNER = Signer("audit.example.com", bytes(range(32)))
CODEC = Codec()
MAPPER = Mapper(CODEC)
#: Payments in each of two shards of each tenant; seven rows each. The first tree has more than a tile.
PAYMENTS = {("shop-0", 0): 11, ("shop-0", 1): 2, ("shop-1", 0): 2}
#: Rows of one transaction, and with it between two heads.
HEAD_EVERY = 7


class Place(NamedTuple):
    tenant: str
    shard: int
    leaf: int


class Owner:
    """Has all rights in the database, and no key."""

    def __init__(self, database: Database, rng: random.Random) -> None:
        self._connection: Any = database._connection  # type: ignore[attr-defined]
        self._is_sqlite = database.shown.startswith("sqlite")
        self._database = database
        self.rng = rng
        self.columns = [*COLUMNS, "leaf_index"] + (["payment_number"] if self._is_sqlite else [])

    def run(self, sql: str, values: Sequence[object] = ()) -> Any:
        return self._connection.execute(sql if self._is_sqlite else sql.replace("?", "%s"), values)

    def disarm(self) -> None:
        """Without triggers and keys nothing refuses."""
        if self._is_sqlite:
            names = self.run("SELECT name FROM sqlite_schema WHERE type = 'trigger'").fetchall()
            for (name,) in names:
                self.run(f"DROP TRIGGER {name}")
            self.run("CREATE TABLE unguarded AS SELECT * FROM payment_events")
            self.run("DROP TABLE payment_events")
            self.run("ALTER TABLE unguarded RENAME TO payment_events")
        else:
            for table in ("payment_events", "audit_tiles", "audit_trees"):
                self.run(f"ALTER TABLE {table} DISABLE TRIGGER USER")

    def tidy(self) -> None:
        """What was rolled back takes room in PostgreSQL, and time."""
        if not self._is_sqlite:
            self.run("VACUUM payment_events, payments, audit_trees, audit_tiles, audit_heads")

    def any_place(self) -> Place:
        tree = self.rng.choice(list(PAYMENTS))
        return Place(*tree, self.rng.randrange(self.size(*tree)))

    @staticmethod
    def size(tenant: str, shard: int) -> int:
        return 7 * PAYMENTS[tenant, shard]

    def cell(self, place: Place, column: str) -> Any:
        shown = '"payload"::text' if column == "payload" and not self._is_sqlite else f'"{column}"'
        sql = f'SELECT {shown} FROM payment_events WHERE tenant = ? AND "partition" = ? AND leaf_index = ?'
        return self.run(sql, place).fetchone()[0]

    def set(self, place: Place, column: str, value: object) -> None:
        cast = "CAST(? AS TEXT)" if self._is_sqlite and isinstance(value, bytes) and column != "avro" else "?"
        self.run(
            f'UPDATE payment_events SET "{column}" = {cast} WHERE tenant = ? AND "partition" = ? AND leaf_index = ?',
            (value, *place),
        )

    def insert_like(self, place: Place, leaf: int | None) -> None:
        """Another event of the payment on ``place``, on ``leaf``."""
        names = ", ".join(f'"{name}"' for name in self.columns)
        values = ", ".join({"event_id": "'forged'", "leaf_index": "?"}.get(name, f'"{name}"') for name in self.columns)
        self.run(
            f"INSERT INTO payment_events ({names}) SELECT {values} FROM payment_events"
            ' WHERE tenant = ? AND "partition" = ? AND leaf_index = ?',
            (leaf, *place),
        )

    def remove(self, place: Place) -> None:
        self.run('DELETE FROM payment_events WHERE tenant = ? AND "partition" = ? AND leaf_index = ?', place)

    def shift(self, place: Place, by: int) -> None:
        """Put the rows from ``place`` on ``by`` leaves further."""
        self.run(
            'UPDATE payment_events SET leaf_index = leaf_index + ? WHERE tenant = ? AND "partition" = ? AND leaf_index >= ?',
            (by, *place),
        )

    def swap(self, one: Place, other: Place) -> None:
        self.run(
            'UPDATE payment_events SET leaf_index = ? - leaf_index WHERE tenant = ? AND "partition" = ?'
            " AND leaf_index IN (?, ?)",
            (one.leaf + other.leaf, one.tenant, one.shard, one.leaf, other.leaf),
        )

    def tree(self, place: Place) -> tuple[int, bytes]:
        sql = "SELECT size, open_tiles FROM audit_trees WHERE tenant = ? AND shard = ?"
        size, stored = self.run(sql, place[:2]).fetchone()
        return size, stored

    def rehash(self, place: Place) -> None:
        """Write the tree tables anew from the rows, from the leaves to the root."""
        rows = self._database.query(
            f'SELECT {self._database.stored_columns} FROM payment_events WHERE tenant = ? AND "partition" = ?'
            " ORDER BY leaf_index",
            place[:2],
        )
        tree = Tree()
        tiles = tree.append([leaf_of(row) for row in rows])
        self.run("DELETE FROM audit_tiles WHERE tenant = ? AND shard = ?", place[:2])
        for tile in tiles:
            self.run("INSERT INTO audit_tiles VALUES (?, ?, ?, ?, ?)", (*place[:2], *tile))
        self.run(
            "UPDATE audit_trees SET size = ?, open_tiles = ? WHERE tenant = ? AND shard = ?",
            (tree.size, tree.stored(), *place[:2]),
        )

    def rehash_leaves(self, places: Sequence[Place]) -> None:
        """Write only the hashes of these leaves anew, not the subtrees above them."""
        size, stored = self.tree(places[0])
        tree = Tree.load(size, stored)
        for place in places:
            (row,) = self._database.query(
                f"SELECT {self._database.stored_columns} FROM payment_events"
                ' WHERE tenant = ? AND "partition" = ? AND leaf_index = ?',
                place,
            )
            number, at = divmod(place.leaf, TILE_WIDTH)
            if number == size // TILE_WIDTH:
                tree.open[0][at] = leaf_of(row)
                continue
            which = (*place[:2], 0, number)
            where = "WHERE tenant = ? AND shard = ? AND level = ? AND number = ?"
            (hashes,) = self.run(f"SELECT hashes FROM audit_tiles {where}", which).fetchone()
            changed = hashes[: 32 * at] + leaf_of(row) + hashes[32 * at + 32 :]
            self.run(f"UPDATE audit_tiles SET hashes = ? {where}", (changed, *which))
        self.run(
            "UPDATE audit_trees SET open_tiles = ? WHERE tenant = ? AND shard = ?", (tree.stored(), *places[0][:2])
        )

    def other_value(self, column: str, value: Any, *, as_text: bool = False) -> Any:
        """``value`` with one byte changed, or something where nothing was."""
        rng = self.rng
        if value is None:
            return b"\x00" if column == "avro" else 1 if column in ("rule_version", "payment_number") else "{}"
        if isinstance(value, int):
            return value ^ 1 << rng.randrange(3 if column == "payment_number" else 16)
        if isinstance(value, bytes):
            at = rng.randrange(len(value))
            return value[:at] + bytes([value[at] ^ 1 << rng.randrange(8)]) + value[at + 1 :]
        if not value:
            return "x"
        if self._is_sqlite and not as_text:
            data = value.encode()
            at = rng.randrange(len(data))
            return data[:at] + bytes([data[at] ^ 1 << rng.randrange(8)]) + data[at + 1 :]
        while True:
            at = rng.randrange(len(value))
            changed = value[:at] + chr(rng.randrange(32, 127)) + value[at + 1 :]
            if changed != value and (column != "payload" or _is_json(changed)):
                return changed


def _is_json(text: str) -> bool:
    try:
        json.loads(text)
    except ValueError:
        return False
    return True


#: What was done: the first wrong leaf, and whether it must be named alone even if no leaves were kept.
Done = tuple[Place, bool]


def a_byte(owner: Owner) -> Done:
    place, column = owner.any_place(), owner.rng.choice(owner.columns)
    value = owner.cell(place, column)
    changed = owner.other_value(column, value)
    owner.set(place, column, changed)
    if column == "leaf_index":
        return place._replace(leaf=min(place.leaf, changed)), True
    return place, True


def a_row_removed(owner: Owner) -> Done:
    place = owner.any_place()
    owner.remove(place)
    if owner.rng.random() < 0.5:
        owner.shift(place, -1)
    return place, place.leaf < owner.size(*place[:2]) - 1


def a_row_inserted(owner: Owner) -> Done:
    place, how = owner.any_place(), owner.rng.randrange(4)
    size = owner.size(*place[:2])
    if how == 0:  # on the same leaf
        owner.insert_like(place, place.leaf)
        return place, True
    if how == 1:  # at the end
        owner.insert_like(place, size)
        return place._replace(leaf=size), True
    if how == 2:  # on no leaf
        owner.insert_like(place, None)
        return place._replace(leaf=0), True
    owner.shift(place, 1)
    owner.insert_like(place._replace(leaf=place.leaf + 1), place.leaf)
    return place, True


def _two(owner: Owner) -> tuple[Place, Place]:
    place = owner.any_place()
    other = owner.rng.choice([leaf for leaf in range(owner.size(*place[:2])) if leaf != place.leaf])
    return place, place._replace(leaf=other)


def reordered(owner: Owner) -> Done:
    one, other = _two(owner)
    owner.swap(one, other)
    return min(one, other), True


def swapped_with_hashes(owner: Owner) -> Done:
    one, other = _two(owner)
    owner.swap(one, other)
    owner.rehash_leaves([one, other])
    return min(one, other), False


def tail_cut(owner: Owner) -> Done:
    place = owner.any_place()
    for leaf in range(place.leaf, owner.size(*place[:2])):
        owner.remove(place._replace(leaf=leaf))
    if owner.rng.random() < 0.5:
        owner.rehash(place)
        owner.run("DELETE FROM audit_heads")
    return place, False


def rewritten_consistently(owner: Owner) -> Done:
    """Another column, row or order, and every hash made anew: only the heads that were kept tell."""
    how = owner.rng.randrange(4)
    if how == 0:
        place = owner.any_place()
        column = owner.rng.choice(["reason", "outcome", "payload", "avro"])
        owner.set(place, column, owner.other_value(column, owner.cell(place, column), as_text=True))
    elif how == 1:
        place = owner.any_place()
        owner.remove(place)
        owner.shift(place, -1)
    elif how == 2:
        one, other = _two(owner)
        owner.swap(one, other)
        place = min(one, other)
    else:
        place = owner.any_place()
        owner.shift(place, 1)
        owner.insert_like(place._replace(leaf=place.leaf + 1), place.leaf)
    owner.rehash(place)
    return place, False


KINDS: list[Callable[[Owner], Done]] = [
    a_byte,
    a_byte,
    a_row_removed,
    a_row_inserted,
    reordered,
    swapped_with_hashes,
    tail_cut,
    rewritten_consistently,
]


class Victim(NamedTuple):
    """A database without any guard, and what somebody kept."""

    database: Database
    heads: list[Head]
    leaves: KeptLeaves


def filled(database: Database, leaves: LeafLog) -> list[Head]:
    """Write the rows; gives the heads that were signed after each transaction."""
    heads: list[Head] = []

    class Kept:
        def append(self, notes: list[str]) -> None:
            heads.extend(SIGNER.public.open(note) for note in notes)

        def close(self) -> None: ...

    signing = HeadSigner(SIGNER, 0, Kept(), None, leaves)  # type: ignore[arg-type]
    offset = 0
    for (tenant, shard), payments in PAYMENTS.items():
        for number in range(payments):
            rows: list[Columns] = []
            # records_of gives each fifth number to one tenant
            wanted = 5 * (100 * shard + number) + int(tenant[-1])
            for topic, record in records_of(wanted, random.Random(f"{tenant}{shard}{number}")):
                rows.append(MAPPER.columns(topic, shard, offset, 1000 + offset, CODEC.encode(record)))
                offset += 1
            assert len(rows) == HEAD_EVERY
            database.write(Batch(rows, states(rows), {("t", 0): (offset - 7 or None, offset)}))
            assert signing.sign(database) == 1
    signing.close()
    return sorted(heads)


@pytest.fixture(scope="module")
def server() -> Iterator[pg.Postgres]:
    if why_not := pg.available():
        pytest.skip(why_not)
    with pg.postgres() as running:
        yield running


@pytest.fixture(
    scope="module",
    params=["sqlite", pytest.param("postgresql", marks=pytest.mark.postgres)],
    ids=["SQLite", "PostgreSQL"],
)
def victim(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Victim]:
    folder: Path = tmp_path_factory.mktemp("audit")
    url = f"sqlite:///{folder}/audit.db" if request.param == "sqlite" else request.getfixturevalue("server").url
    with closing(open_database(url, create=True)) as database:
        database.migrate()
        heads = filled(database, LeafLog(folder / "leaves"))
        Owner(database, random.Random(0)).disarm()
        yield Victim(database, heads, partial(kept_leaves, folder / "leaves"))


def first_of(findings: list[Finding], place: Place) -> Finding | None:
    return next((found for found in findings if (found.tenant, found.shard) == (place.tenant, place.shard)), None)


def test_what_nobody_touched_is_found_right(victim: Victim) -> None:
    state = verify_database(victim.database, victim.heads, kept_leaves=victim.leaves)
    assert state.findings == []
    assert (state.rows, state.unsigned, state.trees) == (7 * 15, 0, 3)


@pytest.mark.parametrize("part", range(PARTS))
def test_every_change_is_found_and_its_row_named(victim: Victim, part: int) -> None:
    """The first wrong leaf is named alone, with the leaves that were kept. In each fifth trial none were: then it is among
    those named, alone where the tree tables were not rewritten, else between two heads.
    """
    database, heads, leaves = victim
    rng = random.Random(part)
    owner = Owner(database, rng)
    for trial in range(TRIALS // PARTS):
        if trial % 50 == 0:
            owner.tidy()
        kind = KINDS[trial % len(KINDS)]
        are_kept = trial % 5 != 0
        owner.run("BEGIN")
        try:
            place, is_exact = kind(owner)
            findings = verify_database(database, heads, kept_leaves=leaves if are_kept else None).findings
        finally:
            owner.run("ROLLBACK")
        what = f"part {part}, trial {trial}: {kind.__name__} at {place}, leaves kept {are_kept}: {findings}"
        found = first_of(findings, place)
        assert found is not None, what
        assert found.is_row, what
        assert found.first <= place.leaf <= found.last, what
        if is_exact or are_kept:
            assert found.first == found.last, what
        elif kind is not tail_cut:
            assert found.last - found.first < HEAD_EVERY, what
        else:
            assert place.leaf in (found.first, found.last), what
    assert verify_database(database, heads).findings == []


def test_leaves_that_were_changed_too_are_not_believed(victim: Victim) -> None:
    """They do not give the signed root: the row is between two heads again, and the words say why."""
    database, heads, leaves = victim
    owner = Owner(database, random.Random(7))

    def forged(tree_id: tuple[str, int], start: int, end: int) -> Iterator[list[bytes]]:
        for kept in leaves(tree_id, start, end):
            yield [*kept[:-1], bytes(32)]

    def cut(tree_id: tuple[str, int], start: int, end: int) -> Iterator[list[bytes]]:
        yield from leaves(tree_id, start, end - 1)

    for kept, words in ((forged, "are not those that were signed"), (cut, "from 6 on are missing")):
        owner.run("BEGIN")
        try:
            place = Place("shop-0", 0, 3)
            owner.set(place, "reason", "x")
            owner.rehash(place)
            (found,) = verify_database(database, heads, kept_leaves=kept).findings
        finally:
            owner.run("ROLLBACK")
        assert (found.first, found.last) == (0, 6)
        assert words in found.what


@pytest.mark.parametrize(
    ("leaf", "other", "events", "page_rows"),
    [
        (40, 60, ["plugin/1.0", "completed", "forged", "dispatch/1.0", "dispatch/1.0"], 4096),
        (70, 75, ["screening", "localization", "forged", "plugin/1.0", "completed"], 64),
    ],
    ids=["the first page", "another page"],
)
def test_what_was_done_to_the_row_is_said(
    victim: Victim, leaf: int, other: int, events: list[str], page_rows: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Everything in the database is made anew, and one head was kept, of the whole tree, with the leaves under it."""
    monkeypatch.setattr(verifying, "PAGE_ROWS", page_rows)
    database, heads, leaves = victim
    owner, place, size = Owner(database, random.Random(8)), Place("shop-0", 0, leaf), Owner.size("shop-0", 0)
    (last,) = [head for head in heads if head.origin.endswith("/shop-0/0") and head.size == size]

    def changed() -> None:
        owner.set(place, "reason", "x")

    def removed() -> None:
        owner.remove(place)
        owner.shift(place, -1)

    def inserted() -> None:
        owner.shift(place, 1)
        owner.insert_like(place._replace(leaf=leaf + 1), leaf)

    def swapped() -> None:
        owner.swap(place, place._replace(leaf=other))

    def cut() -> None:
        for each in range(leaf, size):
            owner.remove(place._replace(leaf=each))

    changes = {
        changed: "not the one that was signed on this leaf: it was changed",
        removed: "a row was removed before this one",
        inserted: "a row was inserted here",
        swapped: f"another row was put here: it was signed on leaf {other}",
        cut: f"rows are missing at the end: there are {leaf} of 77 that",
    }
    for (change, words), event in zip(changes.items(), events, strict=True):
        owner.run("BEGIN")
        try:
            change()
            owner.rehash(place)
            (found,) = verify_database(database, [last], kept_leaves=leaves).findings
        finally:
            owner.run("ROLLBACK")
        assert (found.tenant, found.shard, found.first, found.last) == ("shop-0", 0, leaf, leaf), change
        assert words in found.what, change
        assert found.row is not None
        assert f"event {event}, " in found.row, (change, found.row)
