"""Measures the pipeline on a real Kafka: throughput, CPU by stage, latency at given rates, memory, and a control beside it."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Generator, Sequence
from pathlib import Path
from typing import Any

from connectors.broker import admin
from connectors.broker.local import LocalKafka
from connectors.sinks.database import DatabaseError, open_database
from pipeline import topics
from pipeline.bench import toy_stages
from pipeline.bench.load import Load, number_of, post, poster
from pipeline.bench.recount import read_all
from pipeline.rig import FRAUD, FRONT, Child, Rig, RigError, Worker, cpu_seconds, peak_memory_mb, stage_metrics
from schemas.codec import Codec
from schemas.records import PaymentCompleted

TOKEN = "bench"  # noqa: S105
PHASE_TIMEOUT_S = 300.0
#: Latency: seconds that are counted at each rate, seconds before them, and the warm-up of the broker before all.
LATENCY_S = 15.0
SETTLE_S = 5.0
WARM_UP_PAYMENTS = 50_000
WARM_UP_RATE = 200.0
WARM_UP_S = 20.0

Say = Callable[[str], None]


def _wait(what: str, done: Callable[[], bool], rig: Rig) -> None:
    deadline = time.monotonic() + PHASE_TIMEOUT_S
    while not done():
        rig.check()
        if time.monotonic() > deadline:
            raise RigError(f"{what}: not done after {PHASE_TIMEOUT_S:g} s")
        time.sleep(0.05)


def _times(broker: str, topic: str, *, first: bool) -> float:
    """Broker or producer time of the first or last record, seconds."""
    stamps: list[int] = [message.timestamp()[1] for message in read_all(broker, topic)]
    return (min(stamps) if first else max(stamps)) / 1000


def throughput(
    kafka: LocalKafka, folder: Path, payments: int, *, sink: bool, database: str, partitions: int, say: Say
) -> dict[str, Any]:
    """Post ``payments`` first, then start two workers (and the audit sink) and take the time from the first answer of
    screening to the last outcome (and the last audit row)."""
    found: dict[str, Any] = {}
    load = Load(payments, now_ms=int(time.time() * 1000))
    with Rig(kafka.address, folder, database=database, partitions=partitions, PTR_WEB_TOKEN=TOKEN) as rig:
        rig.prepare(load.tenants())
        say(f"posting {payments} PTRs")
        post(kafka.address, load)
        children: list[Child] = [rig.worker("front", FRONT), rig.worker("fraud", FRAUD)]
        workers = [child for child in children if isinstance(child, Worker)]
        broker_before = cpu_seconds(kafka.pid)
        if sink:
            children.append(rig.audit_sink())
        say("the pipeline works on them" + (", with the audit sink" if sink else ""))
        _wait("completed", lambda: rig.count(topics.COMPLETED.name) >= payments, rig)
        broker_us = (cpu_seconds(kafka.pid) - broker_before) / payments * 1e6
        cpu_us = {child.name: child.cpu_s() / payments * 1e6 for child in children}
        began = _times(kafka.address, topics.SCREENED.name, first=True)
        ended = _times(kafka.address, topics.COMPLETED.name, first=False)
        if sink:
            _wait("audited", lambda: _audited(rig, payments), rig)
            found["audited_ptr_per_s"] = round(payments / (time.time() - began))
            cpu_us["audit-sink"] = children[-1].cpu_s() / payments * 1e6
        found["completed_ptr_per_s"] = round(payments / (ended - began))
        found["cpu_us_per_ptr"] = {name: round(us, 1) for name, us in cpu_us.items()} | {"broker": round(broker_us, 1)}
        found["stage_cpu_us_per_ptr"] = {
            stage: round(metric["cpu_s"] / metric["records"] * 1e6, 1)
            for worker in workers
            for stage, metric in stage_metrics(worker, TOKEN).items()
            if metric.get("records")
        }
        found["peak_memory_mb"] = {child.name: peak_memory_mb(child.pid) for child in children}
    return found


def _audited(rig: Rig, payments: int) -> bool:
    try:
        database = open_database(rig.database)
    except DatabaseError:
        return False
    try:
        rows = database.query("SELECT topic, SUM(next_offset) FROM sink_offsets GROUP BY topic")
    finally:
        database.close()
    read = {topic: int(offset) for topic, offset in rows}
    wanted = (topics.SCREENED, topics.LOCALIZED, topics.PROFILED, topics.SCORED, topics.ANSWERED, topics.COMPLETED)
    return all(read.get(topic.name, 0) >= payments for topic in (*wanted, topics.queue("simulator")))


def latencies(
    kafka: LocalKafka, folder: Path, rates: Sequence[float], partitions: int, say: Say
) -> Generator[dict[str, Any]]:
    """For each of ``rates`` (PTR/s) p50 and p99 from the broker's time of the request to that of the outcome.

    All on one broker and two workers, after a burst and a trickle that are not counted: a fresh JVM compiles for its first
    minute, on the cores that it shares with what is measured. Ends the workers when closed.
    """
    now_ms = int(time.time() * 1000)
    with Rig(kafka.address, folder, partitions=partitions, PTR_WEB_TOKEN=TOKEN) as rig:
        rig.prepare(Load(0).tenants())
        rig.worker("front", FRONT)
        rig.worker("fraud", FRAUD)
        rig.wait_ready()
        posted = 0

        def through(payments: int, rate: float) -> int:
            """Post and wait for the outcomes; the number of the first."""
            nonlocal posted
            first, posted = posted, posted + payments
            post(kafka.address, Load(payments, now_ms=now_ms, first=first), rate=rate)
            _wait("completed", lambda: rig.count(topics.COMPLETED.name) >= posted, rig)
            return first

        say("warming up")
        through(WARM_UP_PAYMENTS, 0.0)
        through(int(WARM_UP_RATE * WARM_UP_S), WARM_UP_RATE)
        for rate in rates:
            say(f"posting {rate:g} PTR/s for {SETTLE_S + LATENCY_S:g} s")
            first = through(int(rate * (SETTLE_S + LATENCY_S)), rate) + int(rate * SETTLE_S)
            yield _spread_of(kafka.address, first)


def _spread_of(broker: str, first: int) -> dict[str, Any]:
    """Of the outcomes of payments from number ``first`` on."""
    decode = Codec().decoder(PaymentCompleted)
    waits = []
    for message in read_all(broker, topics.COMPLETED.name):
        event = decode(message.value())
        if number_of(event.payment_id) >= first:
            waits.append(message.timestamp()[1] - event.received_at_ms)
    waits.sort()
    return {
        "p50_ms": waits[len(waits) // 2],
        "p99_ms": waits[int(len(waits) * 0.99)],
        "max_ms": waits[-1],
        "counted": len(waits),
    }


def idle(kafka: LocalKafka, folder: Path, partitions: int, say: Say) -> dict[str, float]:
    """CPU of workers that have nothing to do, percent of a core."""
    with Rig(kafka.address, folder, partitions=partitions) as rig:
        rig.prepare(Load(0).tenants())
        workers = [rig.worker("front", FRONT), rig.worker("fraud", FRAUD)]
        rig.wait_ready()
        time.sleep(5)
        say("idle for 10 s")
        before = [worker.cpu_s() for worker in workers]
        time.sleep(10)
        return {w.name: round((w.cpu_s() - b) * 10, 1) for w, b in zip(workers, before, strict=True)}


def plain_faust(kafka: LocalKafka, folder: Path, payments: int, partitions: int, say: Say) -> int | None:
    """PTR/s of the control; None where the tests are not at hand (an installed package)."""
    root = Path(__file__).resolve().parents[2]
    if not (root / "tests" / "benchmark" / "plain_faust.py").exists():
        return None
    load = Load(payments, now_ms=int(time.time() * 1000))
    with Rig(kafka.address, folder, partitions=partitions) as rig:
        rig.prepare(load.tenants())
        post(kafka.address, load)
        say(f"the control (plain Faust agents) works on {payments} PTRs")
        child = Child(
            "plain-faust",
            [sys.executable, "-m", "tests.benchmark.plain_faust"],
            {"PTR_BROKER": kafka.address, "PTR_DATADIR": str(folder / "plain"), "PYTHONPATH": str(root)},
            folder,
        )
        rig.children.append(child)
        child.start()
        _wait("control", lambda: rig.count(topics.COMPLETED.name) >= payments, rig)
        began = _times(kafka.address, topics.SCREENED.name, first=True)
        ended = _times(kafka.address, topics.COMPLETED.name, first=False)
    return round(payments / (ended - began))


def engine(kafka: LocalKafka, folder: Path, payments: int, say: Say) -> dict[str, Any]:
    """The five toy stages: PTR/s from the first record of the second topic to the last outcome."""
    prefix = f"toy{int(time.time() * 1000) % 10**9}"
    admin.apply(admin.client(kafka.address), toy_stages.topics(prefix), 4, 1)
    say(f"posting {payments} toy PTRs")
    producer = poster(kafka.address)
    for number in range(payments):
        key, value = toy_stages.ptr(number, int(time.time() * 1000))
        producer.produce(f"{prefix}-requested", value, key)
        if number % 5000 == 0:
            producer.poll(0)
    producer.flush(60)
    with Rig(kafka.address, folder) as rig:
        rig.folder.mkdir(parents=True, exist_ok=True)
        broker_before = cpu_seconds(kafka.pid)
        children = []
        for stages in ("screening,localization,dispatch", "payer,payee"):
            name = f"toy-{stages[:5]}"
            child = Child(
                name,
                [sys.executable, "-m", "pipeline.bench.toy_worker", prefix, stages],
                {"PTR_BROKER": kafka.address, "PTR_DATADIR": str(folder / name)},
                folder,
            )
            rig.children.append(child)
            children.append(child)
            child.start()
        say("the engine works on them")
        _wait("completed", lambda: rig.count(f"{prefix}-completed") >= payments, rig)
        broker_us = (cpu_seconds(kafka.pid) - broker_before) / payments * 1e6
        cpu_us = {child.name: round(child.cpu_s() / payments * 1e6, 1) for child in children}
        memory = {child.name: peak_memory_mb(child.pid) for child in children}
        began = _times(kafka.address, f"{prefix}-screened", first=True)
        ended = _times(kafka.address, f"{prefix}-completed", first=False)
    return {
        "engine_ptr_per_s": round(payments / (ended - began)),
        "cpu_us_per_ptr": cpu_us | {"broker": round(broker_us, 1)},
        "peak_memory_mb": memory,
    }
