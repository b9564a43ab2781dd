"""The machine that the other figures were measured on: how fast Python runs, and what the smallest publication costs.

A payment passes seven topics before it has its outcome, and each step is published before the next begins. So seven times
``publish_ms`` is the least that a payment takes, and a broker whose requests cost ``broker_cpu_ms_per_publish`` serves no more
steps a second than its cores have time for, unless payments wait for each other: figures of two machines compare by these.
"""

from __future__ import annotations

import asyncio
import statistics
import time

from connectors.broker import admin
from connectors.broker.local import LocalKafka
from pipeline.engine.output import KafkaOutput
from pipeline.rig import RigError, cpu_seconds
from pipeline.topics import Topic

LOOP_STEPS = 1_000_000
LOOPS = 7
#: Publications that are not counted, for the JVM compiles meanwhile; then those that are.
WARM_UP = 500
PUBLISHED = 500
#: Between two of them, so that none waits for the one before.
PAUSE_S = 0.005
TOPIC = Topic("machine", "records that measure the machine", partitions=1)
#: About what a step of a payment takes, compressed.
VALUE = bytes(range(256)) * 3


def measure(kafka: LocalKafka) -> dict[str, float]:
    """``python_step_ns``: a step of an empty counting loop, the best of some; ``publish_ms``: one record, from its handing
    over until the broker has it, median; ``broker_cpu_ms_per_publish``: processor time of the broker for it."""
    admin.apply(admin.client(kafka.address), [TOPIC], 1, 1)
    publish_ms, broker_ms = asyncio.run(_publish(kafka))
    return {
        "python_step_ns": round(min(_loop_ns() for _ in range(LOOPS)), 1),
        "publish_ms": round(publish_ms, 2),
        "broker_cpu_ms_per_publish": round(broker_ms, 2),
    }


def _loop_ns() -> float:
    began, total = time.process_time_ns(), 0
    for step in range(LOOP_STEPS):
        total += step
    return (time.process_time_ns() - began) / LOOP_STEPS


async def _publish(kafka: LocalKafka) -> tuple[float, float]:
    failures: list[str] = []
    output = KafkaOutput(kafka.address, 10.0, failures.append)
    took_ms: list[float] = []
    try:
        for number in range(WARM_UP + PUBLISHED):
            if number == WARM_UP:
                took_ms.clear()
                broker_began = cpu_seconds(kafka.pid)
            began = time.perf_counter()
            output.produce(TOPIC.name, VALUE, b"machine")
            await output.delivered()
            took_ms.append((time.perf_counter() - began) * 1000)
            await asyncio.sleep(PAUSE_S)
        broker_s = cpu_seconds(kafka.pid) - broker_began
    finally:
        output.close()
    if failures:
        raise RigError(failures[0])
    return statistics.median(took_ms), broker_s / PUBLISHED * 1000
