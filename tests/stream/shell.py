"""One shell alone: its real runner between in-memory logs, nothing before it and nothing after it."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import msgspec

from agents.context import Context
from connectors.exceptions.book import ExceptionBook
from connectors.lists.book import ListBook
from connectors.models.book import ModelBook
from connectors.models.scorer import Scorer
from connectors.pic.ledger import MemoryLedger
from connectors.pic.simulator import Simulator
from connectors.snoozes.book import SnoozeBook
from connectors.tenants.book import TenantBook
from connectors.tenants.document import document_hash, document_of
from pipeline import topics
from pipeline.app import flow
from pipeline.stages.watchlist import ListEntry, Watchlists
from schemas.codec import Codec
from schemas.identity import payment_key
from schemas.records import DeadLetter, PaymentRequested, Record, TenantConfigured
from schemas.tenant_rules import FraudRules, TenantRules
from tests.simulation.world import NOW_MS, PARTITIONS, World
from tests.simulation.world import Record as Kept

CODEC = Codec()
LISTED = "Igor Sanctioned"
RULES = TenantRules(tenant="t1", pic="simulator", currencies=["EUR"], fraud=FraudRules(refer_at=1.0, decline_at=1.0))


class Shell:
    """The group that runs ``stage``; give it records, see what comes out."""

    def __init__(
        self,
        stage: str,
        rules: TenantRules = RULES,
        codec: Codec = CODEC,
        *,
        model_timeout_s: float = 10.0,
        **watched: Any,
    ) -> None:
        self.ledger = MemoryLedger()
        self.pic = Simulator("simulator", self.ledger)
        self.lists = ListBook(Watchlists([ListEntry("test", "1", "person", (LISTED,))], version="test"))
        self.exceptions = ExceptionBook()
        book = TenantBook()
        document = document_of(rules)
        book.apply(
            TenantConfigured(tenant="t1", version=1, document=document, document_hash=document_hash(document)),
            NOW_MS - 1,
        )
        self.snoozes = SnoozeBook()
        self.models = ModelBook()
        context = Context(
            codec=codec,
            tenants=book,
            snoozes=self.snoozes,
            lists=self.lists,
            models=self.models,
            scorer=Scorer(model_timeout_s),
            exceptions=self.exceptions,
            pics={"simulator": self.pic},
            **watched,
        )
        self.world = World(lambda: flow(context)[stage], codec)

    def give(self, topic: str, event: Record | bytes | None, key: bytes | None, partition: int = -1) -> Kept:
        """Append one record; where it is."""
        value = CODEC.encode(event) if isinstance(event, Record) else event
        return self.world.broker.append(topic, value, key, partition)

    def ask(self, request: PaymentRequested, partition: int = -1, key: bytes | None = None) -> Kept:
        """Append a PTR, by default as a client should."""
        right = payment_key(request.tenant, request.payment_id)
        return self.give(topics.REQUESTED.name, request, right if key is None else key, partition)

    def run(self) -> None:
        """Until nothing waits."""
        asyncio.run(self.world.settle())

    def again(self) -> None:
        """The process dies before anything was committed, and everything is read a second time."""
        self.world.committed.clear()
        for name in self.world.processes:
            self.world.kill(name)
        self.run()

    def out(self, topic: str, record: type[Any], codec: Codec = CODEC) -> list[tuple[bytes | None, Any]]:
        """Key and event of every record of ``topic``."""
        return [(kept.key, codec.decode(kept.value or b"", record)) for kept in self.world.broker.all(topic)]

    def letters(self) -> list[DeadLetter]:
        """Dead letters."""
        return [letter for _, letter in self.out(topics.DEAD_LETTERS.name, DeadLetter)]

    def rows(self, table: str, row_type: type[Any]) -> dict[bytes, Any]:
        """Stored rows by key."""
        return {
            key: msgspec.msgpack.decode(row, type=row_type, strict=False)
            for partition in range(PARTITIONS)
            for key, row in self.world.disks[table, partition].rows.items()
        }

    def reposted(self, stage: str) -> float:
        """How many records ``stage`` posted again under the right key."""
        return float(self.world.metrics.reposted.labels(stage)._value.get())


def written_to(shell: Shell, but: Sequence[str] = ()) -> set[str]:
    """Topics that hold anything, changelogs left out."""
    return {
        topic
        for (topic, _), log in shell.world.broker.logs.items()
        if log and topic not in but and ".table." not in topic
    }
