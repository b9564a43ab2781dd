"""The embedded broker: librdkafka's mock cluster in a child process, for the demo and quick tests.

It is in memory, has four partitions per topic, and makes a topic when somebody first asks for it. **It keeps about 5 MB
a partition and then silently forgets the oldest records**, without an error to anybody, also when they have not been
read: never measure with it, and never keep anything in it. It knows no topic creation and no topic settings.

Run as a program, this file is the child: it prints the broker's address and lives until its standard input closes.
"""

from __future__ import annotations

import os
import select
import subprocess
import sys
import time
from collections.abc import Iterable
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

from confluent_kafka import KafkaException, Producer
from confluent_kafka.admin import AdminClient

if TYPE_CHECKING:
    from pipeline.settings import BrokerAccess

#: Partitions of every topic: librdkafka's fixed default.
PARTITIONS = 4
START_TIMEOUT_S = 15.0
STOP_TIMEOUT_S = 5.0
TOUCH_TIMEOUT_S = 10.0


class EmbeddedBrokerError(RuntimeError):
    """The embedded broker did not start, or does not answer; the text says why."""


def is_embedded(cluster_id: str | None) -> bool:
    """Whether a cluster of this id (from its metadata) is librdkafka's mock cluster."""
    return (cluster_id or "").startswith("mockCluster")


def touch_topics(address: BrokerAccess | str, topics: Iterable[str]) -> None:
    """Ask the embedded broker at ``address`` for each topic, which makes those that are not there.

    Raises :class:`EmbeddedBrokerError` when it does not answer within 10 s.
    """
    # Here, because the child below finds nothing of the project where it is not installed.
    from pipeline.settings import client_config

    client = AdminClient(client_config(address, {"log_level": 0}))
    deadline = time.monotonic() + TOUCH_TIMEOUT_S
    for topic in topics:
        while True:
            left = deadline - time.monotonic()
            if left <= 0:
                raise EmbeddedBrokerError(f"the embedded broker at {address} did not make {topic} within 10 s")
            try:
                found = client.list_topics(topic, timeout=left).topics[topic]
            except KafkaException as error:
                raise EmbeddedBrokerError(
                    f"the embedded broker at {address} does not answer: {error.args[0].str()}"
                ) from None
            if found.error is None and found.partitions:
                break
            time.sleep(0.05)


class EmbeddedBroker:
    """A running embedded broker::

        with EmbeddedBroker() as broker:
            touch_topics(broker.address, ["payments.requested.v1"])

    The child dies with this process, also when it is killed: it waits for the end of a pipe that only this process
    holds. (A child that this process *forks* without an exec would hold it too; start others with subprocess.)
    """

    def __init__(self) -> None:
        # -P and the file's own path: importable from any working directory, and nothing next to it shadows a module.
        self._process = subprocess.Popen(
            [sys.executable, "-P", str(Path(__file__).resolve())],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            start_new_session=True,
        )
        try:
            self.address = self._read_address()
        except BaseException:
            self.stop()
            raise

    def _read_address(self) -> str:
        assert self._process.stdout is not None
        ready, _, _ = select.select([self._process.stdout], [], [], START_TIMEOUT_S)
        address = self._process.stdout.readline().decode().strip() if ready else ""
        if not address:
            raise EmbeddedBrokerError(f"the embedded broker gave no address within {START_TIMEOUT_S:g} s")
        return address

    @property
    def pid(self) -> int:
        """Process id of the child."""
        return self._process.pid

    def stop(self) -> None:
        """End the child; everything in the broker is gone. A second call does nothing."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        try:
            self._process.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process.stdout.close()

    def __enter__(self) -> EmbeddedBroker:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()


def main() -> None:
    """Be the broker until standard input ends."""
    producer = Producer({"test.mock.num.brokers": 1, "log_level": 0})
    brokers = producer.list_topics(timeout=START_TIMEOUT_S).brokers.values()
    print(",".join(f"{broker.host}:{broker.port}" for broker in brokers), flush=True)
    while os.read(0, 4096):
        pass
    # The client's own shutdown waits for nothing that matters: all is in memory.
    os._exit(0)


if __name__ == "__main__":
    main()
