"""How many calls a second one plugin process makes at a PIC that takes its time, and what its memory does meanwhile."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from pipeline import topics
from pipeline.bench.load import FLUSH_S, Load, poster
from pipeline.bench.recount import read_all
from pipeline.rig import Rig, RigError
from pipeline.settings import BrokerAccess
from schemas.codec import Codec
from schemas.identity import partition_of, payment_key
from schemas.records import PaymentAnswered, PaymentQueued, PaymentRequested

PIC: Final = "simulator"
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
    """One worker with the stage plugin alone, and ``payments`` intents that come into its queue at once.

    Times are those at which the worker had the answers; memory is resident, with an empty queue and while it is served.
    """
    trace = folder / "trace"
    environment = {
        # What it was called for is counted in its trace: a ledger in a file costs ten times what the worker does for a call.
        "PTR_PIC_SIMULATOR_TAKES_S": str(takes_s),
        "PTR_PIC_SIMULATOR_TRACE": str(trace),
    }
    with Rig(broker, folder, environment, partitions=partitions) as rig:
        rig.prepare([])
        worker = rig.worker("plugin", ("plugin",))
        rig.wait_ready()
        time.sleep(2.0)
        empty_mb, began_cpu_s = _memory_mb(worker.pid), worker.cpu_s()
        say(f"{payments} intents, {takes_s * 1000:g} ms a call")
        _queue(rig, payments)
        memory_mb = _served(rig, payments, lambda: _memory_mb(worker.pid))
        cpu_us = round((worker.cpu_s() - began_cpu_s) / payments * 1e6)
        rig.stop()
        times_ms = _answers(rig)
    done = Counter(line for line in trace.read_text().splitlines() if line.startswith("done "))
    return {
        "calls": done.total(),
        "called_more_than_once": sum(count > 1 for count in done.values()),
        "calls_per_s": _rate(times_ms),
        "cpu_us_per_call": cpu_us,
        "memory_mb": {
            "queue_empty": empty_mb,
            "a_tenth_served": memory_mb[len(memory_mb) // 10],
            "half_served": memory_mb[len(memory_mb) // 2],
            "all_served": memory_mb[-1],
            "most": max(memory_mb),
        },
    }


def _queue(rig: Rig, payments: int) -> None:
    """Intents as dispatch writes them."""
    load, codec, producer = Load(0), Codec(), poster(rig.access)
    encode_request, encode = codec.encoder(PaymentRequested), codec.encoder(PaymentQueued)
    topic, now_ms = topics.queue(PIC).name, int(time.time() * 1000)
    for number in range(payments):
        payment = load.payment(number)
        key = payment_key(payment.tenant, payment.payment_id)
        queued = PaymentQueued(
            sender_partition=partition_of(key, rig.partitions),
            sender_offset=number,
            attempt=1,
            ask=0,
            not_before_ms=0,
            rule_version=1,
            fee_minor=0,
            pic=PIC,
            requested_at_ms=now_ms,
            amount_minor=payment.amount_minor,
            tenant=payment.tenant,
            payment_id=payment.payment_id,
            creditor_id=payment.creditor.id,
            currency=payment.currency,
            debtor_id=payment.debtor.id,
            country="DE",
            method=payment.instrument.kind,
            token=payment.instrument.token,
            received_at_ms=now_ms,
            request=encode_request(payment),
        )
        producer.produce(topic, encode(queued), key)
        if number % 1000 == 0:
            producer.poll(0)
    if producer.flush(FLUSH_S):
        raise RigError(f"the broker did not take the intents within {FLUSH_S:g} s")


def _served(rig: Rig, answers: int, measure: Callable[[], int]) -> list[int]:
    """Wait for so many answers in all; what was measured meanwhile, every half second."""
    deadline, found = time.monotonic() + CALLS_TIMEOUT_S, []
    while rig.count(topics.ANSWERED.name) < answers:
        rig.check()
        found.append(measure())
        if time.monotonic() > deadline:
            raise RigError(f"{rig.count(topics.ANSWERED.name)} of {answers} answers after {CALLS_TIMEOUT_S:g} s")
        time.sleep(0.5)
    return [*found, measure()]


def _answers(rig: Rig) -> list[int]:
    decode = Codec().decoder(PaymentAnswered)
    return sorted(decode(message.value()).answered_at_ms for message in read_all(rig.access, topics.ANSWERED.name))


def _rate(times_ms: list[int]) -> int:
    edge = int(len(times_ms) * EDGE)
    counted = times_ms[edge : len(times_ms) - edge]
    return round(len(counted) / max((counted[-1] - counted[0]) / 1000, 0.001))


def _memory_mb(pid: int) -> int:
    """Resident memory now."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next((int(line.split()[1]) // 1024 for line in lines if line.startswith("VmRSS")), 0)
