"""What an audit row costs: ``python -m tests.benchmark.bench_sink [--payments N] [--broker HOST:PORT]``.

Seven records a payment, as the pipeline writes them for one that is paid. Prints, per row, the processor time of this
process, that of PostgreSQL's server, and the time passed: mapping alone, sealing alone, writing alone, and
``whole_chain_rows_per_s``: the sink as `ptr audit-sink` runs it, with a master key and a key that signs heads, so with cutting,
sealing, hashing, trees, heads and leaves, and one batch ahead where there is a server. Its records come from memory; with
``--broker`` also from Kafka (own topics with a random prefix, deleted afterwards). The chain is measured with every payer new,
and with payers that have a key. ``--chain`` measures nothing else. PostgreSQL is a throwaway one on this host.
"""

from __future__ import annotations

import argparse
import os
import random
import secrets
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, suppress
from functools import partial
from itertools import islice
from pathlib import Path
from threading import Event
from types import SimpleNamespace
from typing import Any

import psycopg

from connectors.privacy.masters import MasterKeys
from connectors.privacy.sealing import Sealer
from connectors.privacy.vault import Vault
from connectors.proofs.heads import HeadsFile
from connectors.proofs.keys import Signer
from connectors.proofs.leaf_log import LeafLog
from connectors.sinks.database import Batch, Database, Partition, open_database
from connectors.sinks.rows import Columns, Mapper, record_of_topic, state_of
from connectors.sinks.signing import HeadSigner
from connectors.sinks.sink import BATCH_ROWS_MAX, AuditSink
from connectors.sinks.writing import tune_process
from pipeline import topics
from schemas.codec import Codec, encode_request
from schemas.records import (
    Instrument,
    Locality,
    Party,
    PaymentAnswered,
    PaymentCompleted,
    PaymentLocalized,
    PaymentProfiled,
    PaymentQueued,
    PaymentRequested,
    PaymentScored,
    PaymentScreened,
    Record,
)
from tests.integration.postgres import available, postgres

Message = tuple[str, int, int, int, bytes, bytes]
PARTITIONS = 4
ROUNDS = 3
#: So few payers that nearly every one has a key.
KNOWN_PAYERS = 300
SIGNER = Signer("bench.example.com", bytes(32))
#: As PTR_AUDIT_HEADS_EVERY_S.
EVERY_S = 5.0
#: First processes of the PostgreSQL that is measured.
SERVERS = set[int]()
QUEUE = topics.queue("simulator").name


def records_of(number: int, rng: random.Random, payers: int = 9000) -> list[tuple[str, Record]]:
    """Topic and record of every event of one paid payment, by one of ``payers``."""
    tenant, payment_id = f"shop-{number % 5}", f"{rng.getrandbits(64):016x}"
    request = PaymentRequested(
        tenant=tenant,
        payment_id=payment_id,
        amount_minor=rng.randrange(100, 100_000),
        currency="EUR",
        debtor=Party(id=f"payer-{number % payers}", name="Somebody of Somewhere", country="DE"),
        creditor=Party(id=f"shop-{number % 300}", name="A Shop in a Street", country="FR"),
        terminal_id=f"till-{number % 900}",
        channel="pos",
        instrument=Instrument(kind="card", token=f"tok_{number:024x}"),
        locality=Locality(country="DE", region="BY", postcode="80331", locale="de-DE"),
        order_reference=f"order-{number}",
        metadata={"basket": "12 items"},
        requested_at_ms=1_764_000_000_000 + number,
    )
    base: dict[str, Any] = {
        "sender_partition": 1,
        "sender_offset": number,
        "rule_version": 3,
        "requested_at_ms": request.requested_at_ms,
        "amount_minor": request.amount_minor,
        "tenant": tenant,
        "payment_id": payment_id,
        "creditor_id": request.creditor.id,
        "terminal_id": request.terminal_id,
        "currency": "EUR",
        "debtor_id": request.debtor.id,
        "country": "DE",
        "method": "card",
        "token": "tok_1",
        "received_at_ms": request.requested_at_ms + 5,
        "trace_id": f"{rng.getrandbits(128):032x}",
        "request": encode_request(request),
    }
    fee = base | {"fee_minor": 30, "pic": "simulator"}
    payer = fee | {"payer_features": [3, 41, 120, 2, 900, 1, 4, 7]}
    ids = {"tenant": tenant, "payment_id": payment_id, "trace_id": base["trace_id"]}
    return [
        (topics.SCREENED.name, PaymentScreened(outcome="clear", list_version="ofac:2026-11-20", **base)),
        (topics.LOCALIZED.name, PaymentLocalized(outcome="accepted", **fee)),
        (topics.PROFILED.name, PaymentProfiled(outcome="profiled", **payer)),
        (
            topics.SCORED.name,
            PaymentScored(
                outcome="approved", payee_features=[9, 8, 7, 6, 5, 4, 3, 2], score=0.1, score_reasons=[], **payer
            ),
        ),
        (QUEUE, PaymentQueued(attempt=1, ask=0, not_before_ms=0, **fee)),
        (
            topics.ANSWERED.name,
            PaymentAnswered(
                attempt=1,
                ask=0,
                outcome="paid",
                pic="simulator",
                pic_reference=f"sim-{number}",
                answered_at_ms=request.requested_at_ms + 40,
                called=True,
                **ids,
            ),
        ),
        (
            topics.COMPLETED.name,
            PaymentCompleted(
                event_id="completed",
                outcome="paid",
                stage="plugin",
                rule_version=3,
                requested_at_ms=request.requested_at_ms,
                received_at_ms=request.requested_at_ms + 5,
                amount_minor=request.amount_minor,
                currency="EUR",
                fee_minor=30,
                score=0.1,
                pic="simulator",
                pic_reference=f"sim-{number}",
                attempts=1,
                **ids,
            ),
        ),
    ]


def messages(payments: int, codec: Codec, payers: int = 9000) -> list[Message]:
    """Records as Kafka gives them to a sink that catches up: pieces of one partition after the other."""
    rng = random.Random(1)
    pieces: dict[Partition, list[Message]] = {}
    for number in range(payments):
        for topic, record in records_of(number, rng, payers):
            partition = (topic, number % PARTITIONS)
            piece = pieces.setdefault(partition, [])
            key = f"{number}".encode()
            piece.append((topic, partition[1], len(piece), 1_764_000_000_000 + number, key, codec.encode(record)))
    every = BATCH_ROWS_MAX // (7 * PARTITIONS)
    return [
        message
        for start in range(0, payments, every)
        for piece in pieces.values()
        for message in piece[start : start + every]
    ]


def batches(all_messages: list[Message], codec: Codec, *, cutting: bool = False) -> Iterator[Batch]:
    """What the sink makes of the messages."""
    mapper, stored = Mapper(codec, cutting=cutting), dict[Partition, int]()
    for start in range(0, len(all_messages), BATCH_ROWS_MAX):
        batch, payments = Batch(), dict[tuple[str, str], list[Columns]]()
        for topic, partition, offset, timestamp_ms, _, value in all_messages[start : start + BATCH_ROWS_MAX]:
            row = mapper.columns(topic, partition, offset, timestamp_ms, value)
            assert row[14] is not None
            batch.events.append(row)
            payments.setdefault(row[:2], []).append(row)
            batch.offsets[topic, partition] = (stored.get((topic, partition)), offset + 1)
        batch.states = [state for events in payments.values() if (state := state_of(events, mapper.record_of))]
        stored |= {partition: next_offset for partition, (_, next_offset) in batch.offsets.items()}
        yield batch


def seal(sealer: Sealer, ready: list[Batch]) -> list[Batch]:
    """Every batch as the sink writes it with a master key."""
    return [Batch(sealer.sealed(batch.events), batch.states, offsets=batch.offsets) for batch in ready]


def seal_next(databases: Iterator[Database], ready: list[Batch], sealed: dict[Database, list[Batch]]) -> None:
    """Seal every batch with new keys, for the next of ``databases``."""
    database = next(databases)
    sealed[database] = seal(Sealer(Vault(database, MasterKeys([bytes(32)]), create=True)), ready)


def measure(name: str, rows: int, run: Callable[[], object], rounds: int = ROUNDS) -> None:
    """Run ``rounds`` times and print the least and the median."""
    measure_in_turns({name: run}, rows, rounds)


def measure_in_turns(runs: dict[str, Callable[[], object]], rows: int, rounds: int = ROUNDS) -> None:
    """The same for several, one after the other in each round, so that what else the machine does meets all of them."""
    found: dict[str, list[tuple[float, float, float]]] = {name: [] for name in runs}
    for _ in range(rounds):
        for name, run in runs.items():
            cpu, server, passed = sink_cpu_s(), server_cpu_s(), time.perf_counter()
            run()
            passed, cpu, server = time.perf_counter() - passed, sink_cpu_s() - cpu, server_cpu_s() - server
            found[name].append((cpu / rows * 1e6, server / rows * 1e6, passed / rows * 1e6))
    for name, times in found.items():
        columns = [sorted(column) for column in zip(*times, strict=True)]
        middle = rounds // 2
        cpu_us, server_us, wall_us = [f"{column[0]:5.1f} {column[middle]:5.1f}" for column in columns]
        print(f"{name:52s} {cpu_us:>12s} {server_us:>14s} {wall_us:>14s} {1e6 / columns[2][middle]:12,.0f}", flush=True)


def sink_cpu_s() -> float:
    """Processor time of this process, and of those that it started and that ended."""
    ended = os.times()
    return time.process_time() + ended.children_user + ended.children_system


def server_cpu_s() -> float:
    """Processor time of PostgreSQL's server, of sessions that ended too (Linux)."""
    ticks = 0
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            number, rest = stat.read_text().split(" (", 1)
            fields = rest.rsplit(")", 1)[1].split()
            if SERVERS & {int(number), int(fields[1])}:
                ticks += sum(int(field) for field in fields[11:15])
    return ticks / os.sysconf("SC_CLK_TCK")


def write(database: Database, ready: list[Batch]) -> None:
    """Write every batch."""
    for batch in ready:
        database.write(batch)


def write_next(databases: Iterator[Database], ready: list[Batch]) -> None:
    """Write every batch to the next of ``databases``."""
    write(next(databases), ready)


def write_sealed(sealed: Iterator[tuple[Database, list[Batch]]]) -> None:
    """Write the batches of the next database."""
    write(*next(sealed))


def write_signed(
    next_url: Callable[[], str], ready: list[Batch], folder: Path, *, after_each: bool, leaves: bool
) -> None:
    """Write every batch to a new database, with heads as the sink signs them, ``after_each`` batch or every few seconds."""
    with closing(new_database(next_url())) as database:
        log = LeafLog(folder / f"{secrets.token_hex(4)}.leaves") if leaves else None
        signer = HeadSigner(SIGNER, EVERY_S, HeadsFile(folder / f"{secrets.token_hex(4)}.txt"), None, log)
        due_at = time.monotonic()
        for batch in ready:
            database.write(batch)
            if after_each or time.monotonic() >= due_at:
                due_at = time.monotonic() + EVERY_S
                signer.sign(database)
        signer.sign(database, now=True)
        signer.close()


class Feed:
    """A Kafka of records in memory, for the two consumers of one sink, and so quick that only the sink is measured."""

    def __init__(self, all_messages: list[Message]) -> None:
        outcomes, others = list[Fed](), list[Fed]()
        self._records = {True: outcomes, False: others}
        self._ends: dict[Partition, int] = {}
        for message in all_messages:
            topic, partition, offset = message[:3]
            self._records[topic == topics.COMPLETED.name].append(Fed(*message))
            self._ends[topic, partition] = offset + 1

    def consumer(self, config: dict[str, Any]) -> FeedConsumer:
        """A client, in the place of the real one."""
        return FeedConsumer(self._records, self._ends)


class FeedConsumer:
    """What a sink asks of a consumer."""

    def __init__(self, records: dict[bool, list[Fed]], ends: dict[Partition, int]) -> None:
        self._records, self._ends = records, ends
        self._left: Iterator[Fed] = iter(())

    def list_topics(self, timeout: float) -> Any:
        """Every topic with its partitions."""
        found = {topic: SimpleNamespace(error=None, partitions=range(PARTITIONS)) for topic, _ in self._ends}
        return SimpleNamespace(topics=found)

    def get_watermark_offsets(self, at: Any, **options: Any) -> tuple[int, int]:
        """From the first record to after the last one."""
        return 0, self._ends[at.topic, at.partition]

    def incremental_assign(self, partitions: list[Any]) -> None:
        """All from the first record on: outcomes, or all others."""
        self._left = iter(self._records[partitions[0].topic == topics.COMPLETED.name])

    def consume(self, records_max: int, timeout_s: float) -> list[Fed]:
        """The next of them; it never waits."""
        return list(islice(self._left, records_max))

    def close(self) -> None:
        """Nothing is open."""


class Fed:
    """A message as the client gives it."""

    __slots__ = ("_at", "_value")

    def __init__(self, topic: str, partition: int, offset: int, timestamp_ms: int, key: bytes, value: bytes) -> None:
        self._at, self._value = (topic, partition, offset, timestamp_ms), value

    def error(self) -> None:
        """None."""

    def topic(self) -> str:
        """Its topic."""
        return self._at[0]

    def partition(self) -> int:
        """Its partition's number."""
        return self._at[1]

    def offset(self) -> int:
        """Its place there."""
        return self._at[2]

    def timestamp(self) -> tuple[int, int]:
        """The kind of its time, and the time."""
        return 1, self._at[3]

    def value(self) -> bytes:
        """Its value."""
        return self._value


def run_chain(urls: Iterator[str], feed: Feed, names: list[str], rows: int, codec: Codec, folder: Path) -> None:
    """Everything that `ptr audit-sink` does to rows, into the next of the databases."""
    heads = folder / f"{secrets.token_hex(4)}.txt"
    signer = HeadSigner(SIGNER, EVERY_S, HeadsFile(heads), None, LeafLog(heads.with_suffix(".leaves")))
    masters = MasterKeys([bytes(32)])
    sink = AuditSink(
        next(urls),
        "",
        names,
        codec,
        once=True,
        signer=signer,
        masters=masters,
        say=print,
        apart=True,
        consumer=feed.consumer,
    )
    sink.run(Event())
    signer.close()
    assert sink.status.events == rows and sink.status.repeated == sink.status.unsealed == 0, sink.status


def whole_chain(name: str, next_url: Callable[[], str], payments: int, rounds: int, codec: Codec) -> None:
    """Rows a second of the whole chain; of known payers nearly all have a key after the first batch."""
    all_messages = messages(payments, codec, payers=payments)
    names, rows = sorted({message[0] for message in all_messages}), len(all_messages)
    feeds = {
        "every payer new": Feed(all_messages),
        "known payers": Feed(messages(payments, codec, payers=KNOWN_PAYERS)),
    }
    with tempfile.TemporaryDirectory() as kept:
        runs: dict[str, Callable[[], object]] = {}
        for payers, feed in feeds.items():
            urls = [next_url() for _ in range(rounds)]
            for url in urls:
                new_database(url).close()
            runs[f"{name}: whole_chain_rows_per_s, {payers}"] = partial(
                run_chain, iter(urls), feed, names, rows, codec, Path(kept)
            )
        measure_in_turns(runs, rows, rounds)


def new_database(url: str) -> Database:
    """A new database at ``url`` with its tables."""
    database = open_database(url, create=True)
    database.migrate()
    return database


def throwaway_url(stack: ExitStack, *, on_postgres: bool) -> str:
    """Of a server, or a file in a folder, that is removed with ``stack``."""
    if on_postgres:
        return stack.enter_context(postgres()).url
    return f"sqlite:///{stack.enter_context(tempfile.TemporaryDirectory())}/audit.db"


def whole_sink(name: str, next_url: Callable[[], str], broker: str, all_messages: list[Message], codec: Codec) -> None:
    """The sink as it runs, reading from Kafka."""
    from confluent_kafka import Producer
    from confluent_kafka.admin import AdminClient, NewTopic

    prefix = f"bench-{secrets.token_hex(3)}-"
    names = sorted({message[0] for message in all_messages})
    admin = AdminClient({"bootstrap.servers": broker})
    for future in admin.create_topics([NewTopic(prefix + topic, PARTITIONS, 1) for topic in names]).values():
        future.result()
    try:
        producer = Producer({"bootstrap.servers": broker, "linger.ms": 20, "compression.type": "lz4"})
        for at, (topic, partition, _, _, key, value) in enumerate(all_messages):
            producer.produce(prefix + topic, value, key, partition)
            if at % 10_000 == 0:
                producer.flush()
        producer.flush()

        def run() -> None:
            sink = AuditSink(
                next_url(), broker, [prefix + topic for topic in names], codec, once=True, say=print, apart=True
            )
            sink.run(Event())
            assert sink.status.events == len(all_messages), sink.status

        measure(name, len(all_messages), run)
    finally:
        for future in admin.delete_topics([prefix + topic for topic in names]).values():
            future.result()


class Pieces:
    """What the chain consists of, each by itself."""

    def __init__(self, arguments: argparse.Namespace, codec: Codec) -> None:
        self._arguments, self._codec = arguments, codec
        self._messages = all_messages = messages(arguments.payments, codec)
        self._rows = rows = len(all_messages)
        print(f"{rows} rows, {sum(len(message[5]) for message in all_messages) / rows:.0f} bytes a value")
        known = {topic: record_of_topic(topic) for topic in {message[0] for message in all_messages}}
        decoders = {topic: codec.decoder(record) for topic, record in known.items() if record is not None}
        mapper = Mapper(codec)
        measure("decoding", rows, lambda: [decoders[m[0]](m[5]) for m in all_messages])
        measure("rows, with decoding and JSON", rows, lambda: [mapper.columns(*m[:4], m[5]) for m in all_messages])
        measure("batches: rows, and states of payments", rows, lambda: [None for _ in batches(all_messages, codec)])
        cutter = Mapper(codec, cutting=True)
        measure("rows, what is personal cut out", rows, lambda: [cutter.columns(*m[:4], m[5]) for m in all_messages])
        self._ready, self._cut = list(batches(all_messages, codec)), list(batches(all_messages, codec, cutting=True))
        # Topic after topic, as from a broker that gives a whole topic first: no two events of a payment in one batch.
        self._apart = list(batches(sorted(all_messages, key=lambda message: message[0]), codec))

    def bench(self, name: str, url: Callable[[], str]) -> None:
        """Measure what a database has to do with."""
        arguments, rows, ready = self._arguments, self._rows, self._ready
        for how, these in (("writing", ready), ("writing, topic after topic", self._apart)):
            open_ones = [new_database(url()) for _ in range(ROUNDS)]
            left = iter(open_ones)
            measure(f"{name}: {how}", rows, partial(write_next, left, these))
            for database in open_ones:
                database.close()
        open_ones = [new_database(url()) for _ in range(ROUNDS)]
        sealed: dict[Database, list[Batch]] = {}
        measure(f"{name}: sealing", rows, partial(seal_next, iter(open_ones), self._cut, sealed))
        measure(f"{name}: writing what is sealed", rows, partial(write_sealed, iter(sealed.items())))
        for database in open_ones:
            database.close()
        with tempfile.TemporaryDirectory(dir=arguments.sqlite_folder) as kept:
            ways = {
                "heads every 5 s": partial(write_signed, url, ready, Path(kept), after_each=False, leaves=False),
                "heads after each batch": partial(write_signed, url, ready, Path(kept), after_each=True, leaves=False),
                "the same, leaves": partial(write_signed, url, ready, Path(kept), after_each=True, leaves=True),
            }
            measure_in_turns({f"{name}: {how}": run for how, run in ways.items()}, rows, arguments.rounds)
        if arguments.broker:
            whole_sink(f"{name}: whole sink from Kafka", url, arguments.broker, self._messages, self._codec)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--payments", type=int, default=30_000)
    parser.add_argument("--rounds", type=int, default=ROUNDS, help="of what is measured in turns")
    parser.add_argument("--broker", default="", help="a real broker, for the whole sink")
    parser.add_argument(
        "--sqlite-folder", default=None, help="where the SQLite file is made (default: the temporary folder)"
    )
    parser.add_argument("--chain", action="store_true", help="the whole chain only")
    arguments = parser.parse_args()
    tune_process()
    codec = Codec()
    print(f"{'us a row: least and median':52s} {'CPU':>12s} {'server CPU':>14s} {'wall':>14s} {'rows/s':>12s}")
    pieces = None if arguments.chain else Pieces(arguments, codec)

    def bench(name: str, url: Callable[[], str]) -> None:
        if pieces is not None:
            pieces.bench(name, url)
        whole_chain(name, url, arguments.payments, arguments.rounds, codec)

    with tempfile.TemporaryDirectory(dir=arguments.sqlite_folder) as folder:
        bench("SQLite", lambda: f"sqlite:///{Path(folder) / secrets.token_hex(4)}.db")
    if why_not := available():
        print(f"PostgreSQL: {why_not}")
        return
    with postgres() as server:
        SERVERS.add(server.process_id)

        def url() -> str:
            name = f"d{secrets.token_hex(4)}"
            with psycopg.connect(server.url, autocommit=True) as connection:
                connection.execute(f"CREATE DATABASE {name}".encode())
            return server.url.removesuffix("postgres") + name

        bench("PostgreSQL", url)


if __name__ == "__main__":
    main()
