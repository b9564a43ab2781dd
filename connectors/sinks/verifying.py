"""Checks the rows of a whole audit database against signed heads that were kept elsewhere.

Rows are hashed as they are stored, in the order of their leaves, and three things are compared: the leaf that the tree
tables hold, the subtrees that they hold, and the roots that were signed. Only the last cannot be changed by whoever owns the
database, so only it decides whether rows are right; the others tell which row is not, and where they were rewritten too,
leaves that were kept elsewhere do, if they give the signed root.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from connectors.proofs.appending import leaf_of
from connectors.proofs.keys import is_signature
from connectors.proofs.leaf_log import LeafLogError
from connectors.proofs.trees import TILE_WIDTH, Tree, TreeDamagedError, TreeId, hashes_of, subtree_root
from connectors.proofs.verifier import COLUMNS, EVENT_ID, PAYMENT_ID, TENANT, Head, ProofError, PublicKey, tree_of
from connectors.sinks.database import Database
from connectors.sinks.leaves import TILES, TREE
from connectors.sinks.proving import UnprovenError, prover_of
from connectors.sinks.rows import tells_state

if TYPE_CHECKING:
    from connectors.sinks.archive_files import ArchivedRows, DamagedRowsError

#: Rows that are read at a time: the leaves of one whole tile of level 1.
PAGE_ROWS = TILE_WIDTH * TILE_WIDTH
_LEAST = -(1 << 63)
#: Gives leaves of a tree from one to before another that were kept elsewhere, some at a time, as far as there are any.
KeptLeaves = Callable[[TreeId, int, int], Iterable[list[bytes]]]
_OFFSET, _TOPIC, _PARTITION = COLUMNS.index("offset"), COLUMNS.index("topic"), COLUMNS.index("partition")
_OUTSIDE = (
    "SELECT {} FROM payment_events e WHERE leaf_index IS NULL OR NOT EXISTS"
    ' (SELECT * FROM audit_trees t WHERE t.tenant = e.tenant AND t.shard = e."partition") LIMIT 10'
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """Something that is not as it was. The first wrong row is one of the leaves from ``first`` to ``last``.

    They differ where the tree tables were rewritten too and no leaves were kept: then it is known between which two signed
    heads the row is.
    """

    tenant: str
    shard: int
    first: int
    last: int
    #: In words.
    what: str
    #: The row on leaf ``first``, or the last one before it: payment, event, place in Kafka. None where there is none.
    row: str | None
    #: Whether rows are wrong; else only the tree tables are, and the signed heads prove the rows right.
    is_row: bool = True


@dataclass(slots=True)
class State:
    """How far a check is: it can be stored, and gone on with."""

    rows: int = 0
    #: Rows that no head covers yet.
    unsigned: int = 0
    trees: int = 0
    #: Trees that are done, as text.
    done: set[str] = field(default_factory=set)
    findings: list[Finding] = field(default_factory=list)
    #: Of the tree that is under way: which, and what was read of it.
    tree_id: str = ""
    tree: Tree = field(default_factory=Tree)
    #: What a signed head has confirmed of it.
    confirmed: Tree = field(default_factory=Tree)


def trees_in(database: Database, heads: Iterable[Head], archived: ArchivedRows | None = None) -> list[TreeId]:
    """Every tree that the tree tables, ``heads`` or the archive speak of."""
    stored = database.query("SELECT tenant, shard FROM audit_trees")
    found = {(tenant, shard) for tenant, shard in stored if _is_text(tenant) and isinstance(shard, int)}
    return sorted(found | {tree_of(head.origin) for head in heads} | set(archived.trees() if archived else ()))


def _is_text(value: object) -> bool:
    return isinstance(value, str) and value.isprintable()


def verify_database(
    database: Database,
    heads: list[Head],
    state: State | None = None,
    *,
    archived: ArchivedRows | None = None,
    kept_leaves: KeptLeaves | None = None,
    said: Callable[[State], None] = lambda _: None,
) -> State:
    """Check every row, ``archived`` ones too, against ``heads``, which must be signed, in the order of sizes; ``said`` comes
    after each page and tree.

    ``kept_leaves`` are asked only where a head says that something is wrong. ``state`` goes on from where an earlier check of
    the same database and heads was.
    """
    state = state or State()
    if not state.done and not state.tree_id:
        for row in database.query(_OUTSIDE.format(database.stored_columns)):
            what = "a row is in no tree: it was inserted, or changed"
            state.findings.append(
                Finding(tenant=_shown(row[TENANT]), shard=row[_PARTITION], first=0, last=0, what=what, row=name_of(row))
            )
    of_tree: dict[TreeId, list[Head]] = {}
    for head in heads:
        of_tree.setdefault(tree_of(head.origin), []).append(head)
    for tree_id in trees_in(database, heads, archived):
        key = repr(tree_id)
        if key in state.done:
            continue
        if state.tree_id != key:
            state.tree_id, state.tree, state.confirmed = key, Tree(), Tree()
        check = _TreeCheck(database, tree_id, of_tree.get(tree_id, []), state, archived, kept_leaves)
        for _ in check.pages():
            said(state)
        state.findings += check.beside + check.findings
        state.unsigned += max(state.tree.size - state.confirmed.size, 0) if not check.findings else 0
        state.trees += 1
        state.done.add(key)
        state.tree_id = ""
        said(state)
    return state


def name_of(row: tuple[Any, ...]) -> str:
    """How a row is called in a report."""
    payment = f"payment {_shown(row[PAYMENT_ID])}" if row[PAYMENT_ID] else "no payment"
    place = f"{_shown(row[_TOPIC])}/{_shown(row[_PARTITION])} at {_shown(row[_OFFSET])}"
    return f"{payment}, event {_shown(row[EVENT_ID])}, from {place}"


def _shown(value: object) -> str:
    """As it is, or escaped: whoever changed a row may have written anything."""
    text = str(value)
    return text if text.isprintable() else ascii(text)


def _leaf_of(row: tuple[Any, ...]) -> int:
    """The leaf that ``row`` is on; what is no number comes after all."""
    leaf = row[len(COLUMNS)]
    return leaf if isinstance(leaf, int) else 1 << 63


class _TreeCheck:
    """Checks one tree, up to its first wrong row."""

    def __init__(
        self,
        database: Database,
        tree_id: TreeId,
        heads: list[Head],
        state: State,
        archived: ArchivedRows | None,
        kept_leaves: KeptLeaves | None,
    ) -> None:
        self._database = database
        self._archived = archived
        self._tree_id = tree_id
        self._state = state
        self._kept_leaves = kept_leaves
        self._heads = [head for head in heads if head.size > state.confirmed.size]
        #: The first wrong row.
        self.findings: list[Finding] = []
        #: What is wrong with the tree tables, where heads prove the rows right.
        self.beside: list[Finding] = []
        #: What the tree tables say otherwise than the rows, since the last confirmed leaf; and the tree that they say.
        self._suspect: Finding | None = None
        self._as_stored: Tree | None = None
        self._first_unconfirmed: str | None = None
        #: Why leaves that were kept do not tell the row.
        self._doubt = ""
        self._stored = Tree()

    def pages(self) -> Iterator[None]:
        """Check; one step a page."""
        if not self._load():
            return
        while not self.findings:
            rows, damaged, has_more = self._read(self._state.tree.size)
            self._page(rows)
            if damaged is not None and not self.findings:
                self._wrong(self._finding(damaged.first, damaged.last, str(damaged), self._row_before(damaged.first)))
            if not has_more:
                break
            if not self.findings:
                yield
        if not self.findings:
            self._end()

    def _read(self, start: int) -> tuple[list[tuple[Any, ...]], DamagedRowsError | None, bool]:
        """Rows from leaf ``start`` on, in the order of leaves, as far as they can be read, and whether there are more."""
        sql = (
            f"SELECT {self._database.stored_columns}, leaf_index, {self._database.number_check} FROM payment_events"  # noqa: S608
            ' WHERE tenant = ? AND "partition" = ? AND leaf_index >= ? ORDER BY leaf_index LIMIT ?'
        )
        rows = self._database.query(sql, (*self._tree_id, start or _LEAST, PAGE_ROWS))
        has_more = len(rows) == PAGE_ROWS
        if self._archived is None or self._archived.first_from(self._tree_id, start) is None:
            return rows, None, has_more
        end = start + PAGE_ROWS
        archived, damaged = self._archived.page(self._tree_id, start, end)
        if damaged is not None:
            end = damaged.first
        of_both = [row for row in rows if _leaf_of(row) < end]
        # Rows that are in a file and not removed yet are here twice.
        here = {row[: len(COLUMNS) + 1] for row in of_both}
        of_both += [(*row, None) for row in archived if row not in here]
        beyond = self._archived.first_from(self._tree_id, end)
        if not of_both and damaged is None and beyond is not None:
            # A gap of more than a page: what comes after it tells that rows are missing.
            of_both = [(*row, None) for row in self._archived.page(self._tree_id, beyond, beyond + PAGE_ROWS)[0][:1]]
        of_both.sort(key=_leaf_of)
        if damaged is not None:
            return of_both, damaged, False
        return of_both or rows, None, has_more or beyond is not None or any(_leaf_of(row) >= end for row in rows[-1:])

    def _row_before(self, leaf: int) -> str | None:
        """The name of the row on the leaf before ``leaf``."""
        rows = self._read(leaf - 1)[0] if leaf else []
        return name_of(rows[0]) if rows and rows[0][len(COLUMNS)] == leaf - 1 else None

    def _load(self) -> bool:
        found = self._database.query(TREE, self._tree_id)
        try:
            self._stored = Tree.load(*found[0]) if found else Tree()
        except (TreeDamagedError, TypeError) as error:
            self._found(0, 0, f"the row of the tree is damaged: {error}", None, is_row=False)
            return False
        return True

    def _page(self, rows: list[tuple[Any, ...]]) -> None:
        start = self._state.tree.size
        leaves, trouble = self._leaves(rows, start)
        tiles = self._tiles(0, start // TILE_WIDTH, -(-(start + len(leaves)) // TILE_WIDTH))
        subtrees = self._tiles(1, start // PAGE_ROWS, -(-(start + len(leaves)) // PAGE_ROWS))
        for at in range(0, len(leaves), TILE_WIDTH):
            part = leaves[at : at + TILE_WIDTH]
            self._tile(start + at, part, rows[at : at + len(part)], tiles, subtrees)
            if self.findings:
                return
        if trouble is not None:
            self._wrong(trouble)

    def _leaves(self, rows: list[tuple[Any, ...]], start: int) -> tuple[list[bytes], Finding | None]:
        """The hashes of ``rows``, up to the first that is not on the next leaf, or cannot be a row at all."""
        width, leaves = len(COLUMNS), list[bytes]()
        for row in rows:
            columns, leaf, expected = row[:width], row[width], start + len(leaves)
            if leaf != expected:
                if isinstance(leaf, int) and leaf < expected:
                    return leaves, self._finding(leaf, leaf, "two rows are on one leaf", name_of(row))
                what = "a row is missing: it was removed, or put on another leaf"
                return leaves, self._finding(expected, expected, what, self._row_before(expected))
            try:
                hashed = leaf_of(columns)
            except (TypeError, ValueError, OverflowError):
                return leaves, self._finding(leaf, leaf, "the row holds what no row holds", name_of(row))
            number = row[width + 1]
            if number is not None and (number == 0 or (number > 0) is not tells_state(columns)):
                what = "the row is under the number of another payment, or has none"
                return leaves, self._finding(leaf, leaf, what, name_of(row))
            leaves.append(hashed)
        return leaves, None

    def _tile(
        self,
        start: int,
        part: list[bytes],
        rows: list[tuple[Any, ...]],
        tiles: dict[int, list[bytes]],
        subtrees: dict[int, list[bytes]],
    ) -> None:
        """The leaves of one tile, or the first of it: against the tree tables, and the heads that end in it."""
        state, number = self._state, start // TILE_WIDTH
        stored = self._hashes(0, number, tiles)
        if self._first_unconfirmed is None:
            self._first_unconfirmed = name_of(rows[0])
        if self._suspect is None and not self.beside:
            if part != stored[: len(part)]:
                at = next((i for i, leaf in enumerate(part) if stored[i : i + 1] != [leaf]), 0)
                what = "the row is not the one that was hashed"
                if at >= len(stored):
                    what = "the row is not in the tree"
                self._suspect = self._finding(start + at, start + at, what, name_of(rows[at]))
            elif len(part) == TILE_WIDTH:
                above = self._hashes(1, number // TILE_WIDTH, subtrees)
                at = number % TILE_WIDTH
                if above[at : at + 1] != [subtree_root(part)]:
                    what = "the rows are not those that were hashed, and their hashes were made anew"
                    first = max(start, state.confirmed.size)
                    self._suspect = self._finding(first, start + len(part) - 1, what, name_of(rows[first - start]))
            if self._suspect is not None:
                self._as_stored = state.tree.copy()
        while self._heads and self._heads[0].size <= start + len(part):
            head = self._heads.pop(0)
            covered = head.size - start
            tree = state.tree.copy()
            tree.append(part[:covered])
            if tree.root() != head.root:
                self._contradicted(head, stored[:covered])
                return
            state.confirmed = tree
            self._first_unconfirmed = name_of(rows[covered]) if covered < len(part) else None
            self._acquitted(head, self._first_unconfirmed)
        state.tree.append(part)
        if self._as_stored is not None:
            self._as_stored.append(stored[: len(part)])
        state.rows += len(part)

    def _contradicted(self, head: Head, stored: list[bytes]) -> None:
        """The rows do not give the signed root: one from the last confirmed leaf on is wrong."""
        if (located := self._located(head)) is not None:
            self.findings.append(located)
            return
        suspect, confirmed = self._suspect, self._state.confirmed.size
        if suspect is not None and suspect.first < head.size:
            last = min(suspect.last, head.size - 1)
            # Where the stored leaves give the signed root, they are what was signed, and the row that differs is wrong.
            exact = self._as_stored is not None and self._as_stored.root(stored) == head.root
            if exact or suspect.first < suspect.last:
                self._found(suspect.first, last, suspect.what, suspect.row)
            else:
                self._found(confirmed, last, suspect.what, self._first_unconfirmed)
            return
        what = (
            f"rows and tree were rewritten together: the head signed at {head.size} has another root. All rows before the"
            f" first one named are as they were signed{self._doubt}"
        )
        self._found(confirmed, head.size - 1, what, self._first_unconfirmed)

    def _acquitted(self, head: Head, next_row: str | None) -> None:
        """A signed head proves the rows before it right; what the tree tables say otherwise there is wrong of them."""
        suspect = self._suspect
        if suspect is None or suspect.first >= head.size:
            return
        if suspect.last >= head.size:
            self._suspect = replace(suspect, first=head.size, row=next_row)
            return
        what = "the tree tables were changed: the signed heads prove the rows right"
        self.beside.append(replace(suspect, what=what, is_row=False))
        self._suspect = self._as_stored = None

    def _wrong(self, trouble: Finding) -> None:
        """What is wrong by itself, whatever any head says; something before it may have been found earlier."""
        confirmed = self._state.confirmed.size
        if self._heads and (located := self._located(self._heads[0])) is not None:
            trouble = located
        elif self._suspect is not None:
            trouble = self._suspect
        elif confirmed < trouble.first and self._heads and not self._is_stored_as_signed(self._heads[0]):
            # The rows before it are those of the tree tables, but these are not those that were signed.
            what = f"rows and tree were rewritten together, and at leaf {trouble.first}: {trouble.what}"
            row = self._first_unconfirmed
            trouble = replace(trouble, first=confirmed, last=trouble.first, what=what + self._doubt, row=row)
        self.findings.append(trouble)

    def _located(self, head: Head) -> Finding | None:
        """The first row after the confirmed ones that is not on the leaf that was kept; None where the leaves that were kept do
        not give the root of ``head``: they are not all there, or not those that were signed.
        """
        if self._kept_leaves is None:
            return None
        tree, located = self._state.confirmed.copy(), None
        try:
            for kept in _in_pages(self._kept_leaves(self._tree_id, tree.size, head.size)):
                if located is None:
                    located = self._compared(tree.size, kept)
                tree.append(kept)
        except LeafLogError as error:
            self._doubt = f". Of the leaves that were kept: {error}"
            return None
        if tree.size < head.size:
            self._doubt = f". Of the leaves that were kept those from {tree.size} on are missing"
        elif tree.root() != head.root:
            self._doubt = (
                ". The leaves that were kept are not those that were signed: they were changed, or are of another log"
            )
        else:
            return located
        return None

    def _compared(self, start: int, kept: list[bytes]) -> Finding | None:
        """The first of the rows from leaf ``start`` on whose hash is not the one that was kept."""
        rows, damaged, _ = self._read(start)
        hashes, trouble = self._leaves(rows, start)
        at = next((i for i, (one, other) in enumerate(zip(hashes, kept, strict=False)) if one != other), None)
        if at is None:
            if trouble is not None and trouble.first < start + len(kept):
                return trouble
            if len(hashes) >= len(kept):
                return None
            if damaged is not None:
                return self._finding(damaged.first, damaged.last, str(damaged), self._row_before(damaged.first))
            at = start + len(hashes)
            return self._finding(at, at, self._cut_off(at), self._row_before(at))
        if hashes[at] in kept[at + 1 :]:
            if hashes[at] == kept[at + 1]:
                what = "a row was removed before this one, which was put on its leaf"
            else:
                what = f"another row was put here: it was signed on leaf {start + kept.index(hashes[at], at + 1)}"
        elif kept[at] in hashes[at + 1 :]:
            what = "a row was inserted here, and those after it were put on other leaves"
        else:
            what = "the row is not the one that was signed on this leaf: it was changed, or replaced"
        return self._finding(start + at, start + at, what, name_of(rows[at]))

    def _is_stored_as_signed(self, head: Head) -> bool:
        if self._stored.size < head.size:
            return False
        try:
            return prover_of(self._database, self._tree_id).root(0, head.size) == head.root
        except (UnprovenError, TreeDamagedError):
            return False

    def _end(self) -> None:
        """After the last row."""
        state, size = self._state, self._state.tree.size
        if self._heads or self._stored.size > size:
            end = self._heads[-1].size if self._heads else self._stored.size
            self._wrong(self._finding(size, end - 1, self._cut_off(size), self._row_before(size)))
        elif self._suspect is not None:
            self.findings.append(self._suspect)
        elif not self.beside and (self._stored.size < size or self._stored.root() != state.tree.root()):
            self._found(0, size - 1, "the tree tables are not those of the rows", None, is_row=False)

    def _cut_off(self, size: int) -> str:
        """What is wrong where there are ``size`` rows and no more."""
        covered = (
            f"{self._heads[-1].size} that a signed head covers"
            if self._heads
            else f"{self._stored.size} that the tree holds"
        )
        return (
            f"rows are missing at the end: there are {size} of {covered}. They were cut off, or this database is older than the"
            " head (a backup)"
        )

    def _tiles(self, level: int, first: int, end: int) -> dict[int, list[bytes]]:
        found: dict[int, list[bytes]] = {}
        if first >= self._stored.size // TILE_WIDTH ** (level + 1):
            return found  # None of them is whole yet.
        for number, hashes in self._database.query(TILES, (*self._tree_id, level, first, end)):
            try:
                found[number] = hashes_of(hashes)
            except (TreeDamagedError, TypeError):
                found[number] = []
        return found

    def _hashes(self, level: int, number: int, tiles: dict[int, list[bytes]]) -> list[bytes]:
        """A tile as it is stored, whole or open; empty when there is none."""
        if number in tiles:
            return tiles[number]
        whole = self._stored.size // TILE_WIDTH ** (level + 1)
        return self._stored.open[level] if number == whole and level < len(self._stored.open) else []

    def _finding(self, first: int, last: int, what: str, row: str | None, *, is_row: bool = True) -> Finding:
        tenant, shard = self._tree_id
        return Finding(tenant=tenant, shard=shard, first=first, last=last, what=what, row=row, is_row=is_row)

    def _found(self, first: int, last: int, what: str, row: str | None, *, is_row: bool = True) -> None:
        self.findings.append(self._finding(first, last, what, row, is_row=is_row))


def _in_pages(parts: Iterable[list[bytes]]) -> Iterator[list[bytes]]:
    """The same, :data:`PAGE_ROWS` at a time."""
    page: list[bytes] = []
    for part in parts:
        page += part
        while len(page) > PAGE_ROWS:
            yield page[:PAGE_ROWS]
            del page[:PAGE_ROWS]
    if page:
        yield page


def kept_in(database: Database, key: PublicKey) -> list[Head]:
    """The last heads of the log of ``key`` in the database itself. Raises :class:`ProofError` for one that was changed."""
    heads = []
    for tenant, shard, note in database.query("SELECT tenant, shard, note FROM audit_heads"):
        if not note.startswith(f"{key.name}/"):
            continue  # Signed before the key was replaced.
        head = key.open(note, is_signature)
        if tree_of(head.origin) != (tenant, shard):
            raise ProofError(f"audit_heads was changed: the head of {head.origin} is under another tree")
        heads.append(head)
    return heads
