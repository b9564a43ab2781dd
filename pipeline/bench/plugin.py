"""How many calls a second one plugin process makes at a PIC that takes its time, and what its memory does meanwhile."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from connectors.pic.ledger import SqliteLedger
from pipeline import topics
from pipeline.bench.load import Load, post
from pipeline.bench.recount import read_all
from pipeline.rig import Rig, RigError
from pipeline.settings import STAGES, BrokerAccess
from schemas.codec import Codec
from schemas.records import PaymentAnswered

PIC: Final = "simulator"
QUEUE_TIMEOUT_S: Final = 300.0
CALLS_TIMEOUT_S: Final = 900.0
#: Share of the answers at either end that is not counted: the first calls, and a queue that runs dry partition by partition.
EDGE: Final = 0.1


def measure(
    broker: BrokerAccess | str,
    folder: Path,
    *,
    payments: int,
    takes_s: float,
    partitions: int = 4,
    say: Callable[[str], None] = lambda line: None,
) -> dict[str, Any]:
    """Fill the queue with ``payments`` intents, then start one worker with the stage plugin alone, and count its calls.

    Times are those at which the worker had the answers; memory is resident, at the start and while the queue is served.
    """
    ledger = folder / "pic.db"
    environment = {
        "PTR_PIC_SIMULATOR_TAKES_S": str(takes_s),
        "PTR_PIC_SIMULATOR_LEDGER": str(ledger),
        "PTR_WEB_TOKEN": "bench",
    }
    load = Load(payments, now_ms=int(time.time() * 1000))
    queue = topics.queue(PIC).name
    with Rig(broker, folder, environment, partitions=partitions) as rig:
        rig.prepare(load.tenants())
        worker = rig.worker("plugin", ("plugin",))
        rig.wait_ready()
        time.sleep(2.0)
        empty_mb = _memory_mb(worker.pid)
        worker.kill()
        rig.children.remove(worker)
        say(f"queueing {payments} intents")
        others = rig.worker("others", [stage for stage in STAGES if stage != "plugin"])
        post(broker, load)
        _wait(rig, "queued", lambda: rig.count(queue) >= payments, QUEUE_TIMEOUT_S)
        others.kill()
        rig.children.remove(others)
        say(f"one plugin process, {takes_s * 1000:g} ms a call")
        rig.children.append(worker)
        worker.start()
        memory_mb: list[int] = []
        before_cpu_s = worker.cpu_s()

        def answered() -> bool:
            memory_mb.append(_memory_mb(worker.pid))
            return rig.count(topics.ANSWERED.name) >= payments

        _wait(rig, "answered", answered, CALLS_TIMEOUT_S)
        cpu_s = worker.cpu_s() - before_cpu_s
        rig.stop()
        times_ms = _answers(rig)
    opened = SqliteLedger(ledger)
    entries = opened.entries()
    opened.close()
    edge = int(len(times_ms) * EDGE)
    counted = times_ms[edge : len(times_ms) - edge]
    steady_mb = memory_mb[len(memory_mb) // 10 :]
    return {
        "calls": sum(entry.calls for entry in entries.values()),
        "called_more_than_once": sum(entry.calls > 1 for entry in entries.values()),
        "calls_per_s": round(len(counted) / ((counted[-1] - counted[0]) / 1000)),
        "cpu_us_per_call": round(cpu_s / payments * 1e6),
        "memory_mb": {
            "queue_empty": empty_mb,
            "when_it_has_begun": steady_mb[0],
            "half_way": steady_mb[len(steady_mb) // 2],
            "at_the_end": steady_mb[-1],
            "most": max(memory_mb),
        },
    }


def _answers(rig: Rig) -> list[int]:
    decode = Codec().decoder(PaymentAnswered)
    return sorted(decode(message.value()).answered_at_ms for message in read_all(rig.access, topics.ANSWERED.name))


def _wait(rig: Rig, what: str, done: Callable[[], bool], timeout_s: float) -> None:
    deadline = time.monotonic() + timeout_s
    while not done():
        rig.check()
        if time.monotonic() > deadline:
            raise RigError(f"not all are {what} after {timeout_s:g} s")
        time.sleep(0.5)


def _memory_mb(pid: int) -> int:
    """Resident memory now."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next((int(line.split()[1]) // 1024 for line in lines if line.startswith("VmRSS")), 0)
