"""The control: the same decisions, topics, tables and records as plain Faust agents, one event at a time.

``python -m tests.benchmark.plain_faust`` with ``PTR_*`` settings. Nothing of the engine is used: stock consumer, stock
tables, stock producer. It loses and doubles under kills; it is here for its speed.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from typing import Any

import faust
import mode.loop
import msgspec

from agents.context import Context
from connectors.lists.book import ListBook
from connectors.lists.load import load_watchlists
from connectors.pic.registry import make_pic
from connectors.tenants.book import TenantBook
from connectors.tenants.reader import TenantReader
from pipeline import topics
from pipeline.app import flow
from pipeline.engine import stage as stages
from pipeline.engine.stage import Group, Stage
from pipeline.settings import load
from schemas.codec import Codec

OPTIONS = {"block_cache_size": 16 << 20, "write_buffer_size": 8 << 20, "max_write_buffer_number": 2}
settings = load()
codec = Codec()
book = TenantBook()
context = Context(
    codec=codec,
    tenants=book,
    lists=ListBook(load_watchlists(settings.lists)),
    pics={"simulator": make_pic("simulator")},
)
mode.loop.use("uvloop")
app = faust.App(
    "plain-faust",
    broker=f"kafka://{settings.broker}",
    store="rocksdb://",
    datadir=settings.datadir,
    topic_partitions=settings.partitions,
    topic_allow_declare=True,
    topic_disable_leader=True,
    table_standby_replicas=0,
    key_serializer="raw",
    value_serializer="raw",
    cython_optimizations=True,
    consumer_auto_offset_reset="earliest",
    web_enabled=False,
)


class Rows:
    """The shells' view of a Faust table."""

    def __init__(self, table: Any, row_type: type[Any]) -> None:
        self.table, self.row_type = table, row_type

    def get(self, key: bytes) -> Any:
        stored = self.table.get(key)
        return self.row_type() if stored is None else msgspec.msgpack.decode(stored, type=self.row_type, strict=False)

    def save(self, key: bytes, row: Any) -> None:
        row.version += 1
        self.table[key] = msgspec.msgpack.encode(row)


class Work:
    """The shells' view of Faust: what they emit is sent after the handler."""

    partitions = settings.partitions

    def __init__(self, rows: Rows | None) -> None:
        self.rows: Any = rows
        self.taken_at_ms = int(time.time() * 1000)
        self.sent: list[tuple[str, bytes, bytes]] = []

    def emit(self, topic: str, value: bytes, key: bytes) -> None:
        self.sent.append((topic, value, key))

    def attempt(self, handle: Any, record: Any) -> Any:
        return handle(record, self)

    def dead_letter(self, record: Any, error: str, detail: str) -> None:
        raise AssertionError(error)

    def repost(self, record: Any, key: bytes) -> None:
        raise AssertionError("wrong key")

    def maybe_called(self, record: Any) -> bool:
        return False

    def holds(self) -> bool:
        return True

    async def hold(self) -> None:
        return

    async def until(self, at_ms: int) -> None:
        return

    async def wait_while(self, held: Callable[[], bool]) -> None:
        return

    async def record(self) -> None:
        return


class Record:
    """What the shells read of a record."""

    __slots__ = ("headers", "key", "offset", "partition", "timestamp", "topic", "value")

    def __init__(self, event: Any) -> None:
        message = event.message
        self.topic, self.partition, self.offset = message.topic, message.partition, message.offset
        self.timestamp, self.key, self.value, self.headers = (
            int(message.timestamp * 1000),
            message.key,
            message.value,
            (),
        )


outputs: dict[str, Any] = {}


def topic_named(name: str) -> Any:
    if name not in outputs:
        outputs[name] = app.topic(name, key_type=bytes, value_type=bytes, key_serializer="raw", value_serializer="raw")
    return outputs[name]


def agent(group: Group) -> None:
    rows = None
    if group.table is not None:
        table = app.Table(
            f"plain_{group.table.name}",
            partitions=settings.partitions,
            key_type=bytes,
            value_type=bytes,
            options=dict(OPTIONS),
        )
        table.key_serializer = table.value_serializer = "raw"
        rows = Rows(table, group.table.row_type)
    work = Work(rows)
    complete: stages.Work = work  # Type-checked: what shells may ask for is here.
    for stage in group.stages:

        async def run(stream: Any, stage: Stage = stage) -> None:
            async for event in stream.events():
                record = Record(event)
                if stage.handle is not None:
                    stage.handle(record, complete)
                else:
                    assert stage.handle_batch is not None
                    await stage.handle_batch([record], complete)
                sent, work.sent = work.sent, []
                for topic, value, key in sent:
                    await topic_named(topic).send(key=key, value=value)

        app.agent(topic_named(stage.source), name=f"plain-{stage.name}")(run)


groups = flow(context)
for name in ("screening", "localization", "payer", "payee", "dispatch", "plugin"):
    agent(groups[name][0])  # Of the plugin the queue alone: no answer of the benchmark's is unknown.


if __name__ == "__main__":
    reader = TenantReader(settings.broker, topics.TENANTS.name, codec, book)
    reader.start()
    reader.wait_caught_up(30)
    worker = faust.Worker(app, loglevel="error", logfile=sys.stderr, redirect_stdouts=False, quiet=True)
    worker.spinner = None
    worker.execute_from_commandline()
