"""Signs what the trees of an audit database have become, and hands the heads out: to a file and to a topic.

A head is stored with a sync before it leaves: a power loss after it can take back nothing that it covers.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from confluent_kafka import KafkaException, Producer

from connectors.proofs.heads import HeadsFile
from connectors.proofs.keys import Signer
from connectors.proofs.trees import Tree
from connectors.proofs.verifier import Head, origin_of
from connectors.sinks.database import Database, StoredHead
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
#: Trouble with the topic is said again after this time.
SAY_AGAIN_S = 10.0
#: How long the topic is waited for when the sink stops.
FLUSH_S = 5.0


class HeadSigner:
    """Signs at most every ``every_s`` seconds, 0: whenever it is asked. Use from one thread."""

    def __init__(self, signer: Signer, every_s: float, file: HeadsFile | None, topic: HeadsTopic | None) -> None:
        self._signer = signer
        self._every_s = every_s
        self._file = file
        self._topic = topic
        self._due_at: float | None = None

    def sign(self, database: Database, *, now: bool = False) -> int:
        """Sign the trees that grew, when it is time or ``now``; gives how many.

        The first time the last heads are handed out again: a kill may have come between storing and handing out.
        Raises what :meth:`Database.write_heads` and :meth:`HeadsFile.append` raise.
        """
        at, prefix = time.monotonic(), f"{self._signer.public.name}/"
        if self._due_at is None:
            last = [StoredHead._make(row) for row in database.query(_LAST)]
            self._hand_out([head for head in last if head.note.startswith(prefix)])
        elif at < self._due_at and not now:
            return 0
        self._due_at = at + self._every_s
        heads = [self._head(*row) for row in database.query(_GROWN, (len(prefix), prefix))]
        if heads:
            database.write_heads(heads)
            self._hand_out(heads)
        return len(heads)

    def close(self) -> None:
        """Wait a little for the topic, and close the file."""
        if self._topic is not None:
            self._topic.close()
        if self._file is not None:
            self._file.close()

    def _head(self, tenant: str, shard: int, size: int, open_tiles: bytes) -> StoredHead:
        head = Head(origin_of(self._signer.public.name, tenant, shard), size, Tree.load(size, open_tiles).root())
        return StoredHead(tenant, shard, size, self._signer.sign(head))

    def _hand_out(self, heads: list[StoredHead]) -> None:
        if self._file is not None and heads:
            self._file.append([head.note for head in heads])
        if self._topic is not None:
            self._topic.publish([head.note for head in heads])


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
