"""Signs what the trees of an audit database have become, and hands the heads out: to a file and to a topic, and the leaves
under them to files beside that one.

A head is stored with a sync before it leaves: a power loss after it can take back nothing that it covers.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

from confluent_kafka import KafkaException, Producer

from connectors.proofs.heads import HeadsFile
from connectors.proofs.keys import Signer
from connectors.proofs.leaf_log import LeafLog, LeafLogError, Stretch
from connectors.proofs.trees import TILE_BYTES, TILE_WIDTH, Tree, TreeDamagedError, hashes_of
from connectors.proofs.verifier import HASH_BYTES, Head, origin_of
from connectors.sinks.database import Database, DatabaseError, StoredHead
from connectors.sinks.leaves import TILES
from pipeline.settings import BrokerAccess, client_config
from pipeline.topics import HEADS

#: Trees without a head of their size, or with one of a log of another name: the key was replaced.
_GROWN = (
    "SELECT t.tenant, t.shard, t.size, t.open_tiles FROM audit_trees t"
    " LEFT JOIN audit_heads h ON h.tenant = t.tenant AND h.shard = t.shard WHERE h.size IS NULL OR h.size < t.size"
    " OR substr(h.note, 1, ?) <> ?"
    " ORDER BY t.tenant, t.shard"
)
_LAST = "SELECT tenant, shard, size, note FROM audit_heads ORDER BY tenant, shard"
_ALL = "SELECT tenant, shard, size, open_tiles FROM audit_trees ORDER BY tenant, shard"
#: Signing at the end of a batch takes no more than this share of the time: what would take more waits for the next batch, or
#: until heads are due anyway. Syncs of a slow disk, or trees of a thousand tenants, would cost more than the rows.
BATCH_SHARE = 0.25
#: Tiles that are read at a time to append their leaves, and what waits to be appended: 1 MiB.
TILES_MAX = 512
WAITING_BYTES_MAX = TILES_MAX * TILE_BYTES
#: Trouble with the topic is said again after this time.
SAY_AGAIN_S = 10.0
#: How long the topic is waited for when the sink stops.
FLUSH_S = 5.0


class HeadSigner:
    """Signs at the end of each batch as far as :data:`BATCH_SHARE` allows, and at least every ``every_s`` seconds; 0: whenever
    it is asked. Use from one thread.
    """

    def __init__(
        self,
        signer: Signer,
        every_s: float,
        file: HeadsFile | None,
        topic: HeadsTopic | None,
        leaves: LeafLog | None = None,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._signer = signer
        self._every_s = every_s
        self._file = file
        self._topic = topic
        self._leaves = leaves
        self._clock = clock
        self._due_at: float | None = None

    def sign(self, database: Database, *, now: bool = False) -> int | None:
        """Sign the trees that grew, after a batch or ``now``; gives how many, None when it was put off.

        The first time the last heads are handed out again, and leaves that were not: a kill may have come between storing and
        handing out. Raises what :meth:`Database.write_heads`, :meth:`HeadsFile.append` and :meth:`LeafLog.append` raise, and
        :class:`LeafLogError` when the leaves that were handed out are not those of the database.
        """
        began, is_first = self._clock(), self._due_at is None
        if self._due_at is not None and began < self._due_at and not now:
            return None
        prefix = f"{self._signer.public.name}/"
        if is_first:
            last = [StoredHead._make(row) for row in database.query(_LAST)]
            self._hand_out([head for head in last if head.note.startswith(prefix)])
        grown = database.query(_GROWN, (len(prefix), prefix))
        if grown:
            heads = [self._head(database, *row) for row in grown]
            database.write_heads(heads)
            if self._leaves is not None and not is_first:
                _log(self._leaves, database, grown)
        if self._leaves is not None and is_first:
            _log(self._leaves, database, database.query(_ALL))
        if grown:
            self._hand_out(heads)
        ended = self._clock()
        self._due_at = min(began + self._every_s, ended + (ended - began) * (1 / BATCH_SHARE - 1))
        return len(grown)

    def close(self) -> None:
        """Wait a little for the topic, and close the file."""
        if self._topic is not None:
            self._topic.close()
        if self._file is not None:
            self._file.close()
        if self._leaves is not None:
            self._leaves.close()

    def _head(self, database: Database, tenant: str, shard: int, size: int, open_tiles: bytes) -> StoredHead:
        root = _tree(database, size, open_tiles).root()
        head = Head(origin_of(self._signer.public.name, tenant, shard), size, root)
        return StoredHead(tenant, shard, size, self._signer.sign(head))

    def _hand_out(self, heads: list[StoredHead]) -> None:
        if self._file is not None and heads:
            self._file.append([head.note for head in heads])
        if self._topic is not None:
            self._topic.publish([head.note for head in heads])


def _tree(database: Database, size: int, open_tiles: bytes) -> Tree:
    try:
        return Tree.load(size, open_tiles)
    except TreeDamagedError as error:
        raise _changed(database, error) from None


def _changed(database: Database, error: object) -> DatabaseError:
    return DatabaseError(f"{database.shown}: {error}: was it changed? See `ptr audit verify`")


def _log(log: LeafLog, database: Database, trees: list[tuple[str, int, int, bytes]]) -> None:
    """Append the leaves of ``trees`` that ``log`` has not, all of which outlast a loss of power."""
    stretches: list[Stretch] = []
    waiting_bytes = 0
    for tenant, shard, size, open_tiles in trees:
        known = log.size((tenant, shard))
        # From the last one on that is known, which must be the same.
        start = max(known - 1, 0)
        for hashes in _leaves(database, (tenant, shard, size, open_tiles), start) if size >= known else [b""]:
            if start < known:
                if hashes[:HASH_BYTES] != log.last((tenant, shard)):
                    raise LeafLogError(
                        f"{log.folder} holds other leaves of {tenant or 'no tenant'}, shard {shard} than {database.shown}: they"
                        " are of another database, or this one was changed, or is older (a backup). Keep them, and name"
                        " another folder in PTR_AUDIT_LEAVES_DIR"
                    )
                start, hashes = known, hashes[HASH_BYTES:]
            if hashes:
                stretches.append(Stretch((tenant, shard), start, hashes))
                start += len(hashes) // HASH_BYTES
                waiting_bytes += len(hashes)
            if waiting_bytes >= WAITING_BYTES_MAX:
                log.append(stretches)
                stretches, waiting_bytes = [], 0
    if stretches:
        log.append(stretches)


def _leaves(database: Database, tree: tuple[str, int, int, bytes], start: int) -> Iterator[bytes]:
    """The leaves of a stored tree from ``start`` on, some at a time: their hashes, one after the other."""
    tenant, shard, size, open_tiles = tree
    whole = size // TILE_WIDTH
    for first in range(start // TILE_WIDTH, whole, TILES_MAX):
        end = min(first + TILES_MAX, whole)
        stored = dict(database.query(TILES, (tenant, shard, 0, first, end)))
        try:
            tiles = b"".join(b"".join(hashes_of(stored[number])) for number in range(first, end))
        except (LookupError, TypeError, TreeDamagedError):
            raise _changed(database, f"a tile of {tenant or 'no tenant'}, shard {shard} is damaged") from None
        yield tiles[max(start - first * TILE_WIDTH, 0) * HASH_BYTES :]
    if whole * TILE_WIDTH < size:
        yield open_tiles[max(start - whole * TILE_WIDTH, 0) * HASH_BYTES : size % TILE_WIDTH * HASH_BYTES]


class HeadsTopic:
    """Publishes signed notes as they are, each under its origin. ``say`` takes what fails: the file holds it all the same."""

    def __init__(self, brokers: BrokerAccess | str, say: Callable[[str], None], topic: str = HEADS.name) -> None:
        self._topic = topic
        self._tell = say
        self._told_at = -SAY_AGAIN_S
        self._producer = Producer(
            client_config(brokers)
            | {"enable.idempotence": True, "acks": "all", "log_level": 0, "error_cb": lambda error: None}
        )

    def publish(self, notes: list[str]) -> None:
        """Hand ``notes`` to the client, which sends them."""
        for note in notes:
            try:
                self._producer.produce(
                    self._topic, note.encode(), note.partition("\n")[0].encode(), on_delivery=self._on_delivery
                )
            except (BufferError, KafkaException):
                self._say(f"a signed head could not be handed to Kafka for {self._topic}; the next one tells the same")
        self._producer.poll(0)

    def close(self) -> None:
        """Wait a little for what is under way."""
        if left := self._producer.flush(FLUSH_S):
            self._say(f"{left} signed heads did not reach {self._topic}")

    def _say(self, line: str) -> None:
        now = time.monotonic()
        if now - self._told_at >= SAY_AGAIN_S:
            self._told_at = now
            self._tell(line)

    def _on_delivery(self, error: Any, message: Any) -> None:
        if error is not None:
            self._say(f"a signed head did not reach {self._topic}: {error.str()}")
