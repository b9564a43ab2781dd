"""A whole pipeline on this machine: topics, tenants, workers and audit sink as child processes, for demo, bench and chaos.

Every child is ended by its id when the rig is left, however it is left; a rig that is killed takes its children with it.
"""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import TypeVar

from confluent_kafka import KafkaException
from confluent_kafka.admin import OffsetSpec

from connectors.broker import admin, embedded
from connectors.tenants.publish import publish
from pipeline import topics
from pipeline.settings import STAGES, BrokerAccess
from schemas.codec import Codec
from schemas.tenant_rules import TenantRules

#: Two worker groups of about the same work, so that two cores are busy.
FRONT = ("screening", "localization", "reviews", "dispatch", "plugin")
FRAUD = ("payer", "payee")
START_TIMEOUT_S = 60.0
STOP_TIMEOUT_S = 15.0
CLOCK_TICKS_PER_S = os.sysconf("SC_CLK_TCK")
_PR_SET_PDEATHSIG = 1


C = TypeVar("C", bound="Child")


class RigError(RuntimeError):
    """A part did not start or died; the text says which and shows the end of its log."""


def _die_with_parent() -> None:
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


@dataclass
class Child:
    """One process of the rig; the same child may be started again after it was killed."""

    name: str
    command: list[str]
    environment: dict[str, str]
    folder: Path
    process: subprocess.Popen[bytes] | None = None
    #: CPU seconds and peak memory of runs that ended.
    spent_s: float = 0.0
    peak_mb: int = 0
    starts: int = 0

    @property
    def log(self) -> Path:
        return self.folder / f"{self.name}.log"

    def start(self) -> None:
        """Start it, its output appended to the log."""
        self.folder.mkdir(parents=True, exist_ok=True)
        self.starts += 1
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                self.command,
                env=os.environ | self.environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                preexec_fn=_die_with_parent,
            )

    @property
    def pid(self) -> int:
        assert self.process is not None
        return self.process.pid

    def running(self) -> bool:
        return self.process is not None and self.process.poll() is None

    def measure(self) -> None:
        """Remember peak memory so far."""
        if self.running():
            self.peak_mb = max(self.peak_mb, peak_memory_mb(self.pid))

    def cpu_s(self) -> float:
        """CPU seconds of this run and the ones before."""
        return self.spent_s + (cpu_seconds(self.pid) if self.running() else 0.0)

    def kill(self, how: signal.Signals = signal.SIGKILL, timeout_s: float = STOP_TIMEOUT_S) -> int | None:
        """End it; returns its exit code."""
        if self.process is None:
            return None
        if self.running():
            self.measure()
            self.spent_s += cpu_seconds(self.pid)
            self.process.send_signal(how)
            if how == signal.SIGKILL:
                self.process.send_signal(signal.SIGCONT)
        try:
            return self.process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            self.process.kill()
            return self.process.wait()

    def log_tail(self, lines: int = 15) -> str:
        """The end of its log."""
        try:
            return "\n".join(self.log.read_text(errors="replace").splitlines()[-lines:])
        except OSError:
            return ""


@dataclass
class Worker(Child):
    """A ``ptr worker``."""

    stages: Sequence[str] = STAGES
    datadir: Path = field(default_factory=Path)

    def get(self, path: str, token: str = "", accept: str = "application/json") -> tuple[int, bytes]:
        """Ask its web server; status 0 while it does not listen."""
        try:
            port = int((self.datadir / "web-port").read_text())
            request = urllib.request.Request(f"http://127.0.0.1:{port}{path}", headers={"Accept": accept})
            if token:
                request.add_header("Authorization", f"Bearer {token}")
            with urllib.request.urlopen(request, timeout=5) as reply:  # noqa: S310
                return reply.status, reply.read()
        except urllib.error.HTTPError as error:
            return error.code, error.read()
        except (OSError, ValueError):
            return 0, b""

    def ready(self) -> bool:
        """Whether it has its partitions and its state."""
        return self.get("/ready")[0] == 200

    def url(self) -> str:
        """Base address of its web pages."""
        return f"http://127.0.0.1:{(self.datadir / 'web-port').read_text().strip()}"


class Rig:
    """Start with :meth:`prepare`, then workers and sink; leave the context to end everything."""

    def __init__(
        self,
        broker: BrokerAccess | str,
        folder: Path,
        environment: Mapping[str, str] | None = None,
        *,
        database: str = "",
        partitions: int = 4,
        **more: str,
    ) -> None:
        environment = dict(environment or {}) | more
        self.access = broker if isinstance(broker, BrokerAccess) else BrokerAccess(addresses=broker)
        self.broker = self.access.addresses
        self.folder = folder
        self.database = database or f"sqlite:///{folder}/audit.db"
        self.partitions = partitions
        self.children: list[Child] = []
        self.pics = tuple(environment.get("PTR_PICS", "simulator").split(","))
        self._environment = {
            **self.access.environment(),
            "PTR_PARTITIONS": str(partitions),
            "PTR_DATABASE": self.database,
            "PTR_WEB_PORT": "0",
            "PYTHONUNBUFFERED": "1",
        } | environment
        self._admin = admin.client(self.access)

    def __enter__(self) -> Rig:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def prepare(self, tenants: Sequence[TenantRules]) -> None:
        """Topics and tenants."""
        self.folder.mkdir(parents=True, exist_ok=True)
        wanted = topics.all_topics(self.pics)
        if embedded.is_embedded(self._admin.list_topics(timeout=10).cluster_id):
            embedded.touch_topics(self.access, [topic.name for topic in wanted])
        else:
            admin.apply(self._admin, wanted, self.partitions, 1)
        publish(self.access, Codec(), list(tenants))

    def worker(self, name: str, stages: Sequence[str] = STAGES, **environment: str) -> Worker:
        """Start a worker."""
        datadir = self.folder / name
        child = Worker(
            name,
            [sys.executable, "-m", "pipeline.cli", "worker"],
            self._environment | {"PTR_STAGES": ",".join(stages), "PTR_DATADIR": str(datadir)} | environment,
            self.folder,
            stages=stages,
            datadir=datadir,
        )
        return self._started(child)

    def audit_sink(self, name: str = "audit-sink") -> Child:
        """Start the audit sink."""
        return self._started(
            Child(name, [sys.executable, "-m", "pipeline.cli", "audit-sink"], dict(self._environment), self.folder)
        )

    def _started(self, child: C) -> C:
        self.children.append(child)
        child.start()
        return child

    def wait_ready(self, timeout_s: float = START_TIMEOUT_S, tick: Callable[[], None] = lambda: None) -> None:
        """Return when every worker is ready."""
        deadline = time.monotonic() + timeout_s
        waiting = [child for child in self.children if isinstance(child, Worker)]
        while waiting:
            tick()
            self.check()
            waiting = [worker for worker in waiting if not worker.ready()]
            if waiting and time.monotonic() > deadline:
                names = ", ".join(worker.name for worker in waiting)
                raise RigError(f"not ready after {timeout_s:g} s: {names}\n{waiting[0].log_tail()}")
            time.sleep(0.05)

    def check(self) -> None:
        """Raise when a child died."""
        for child in self.children:
            if not child.running():
                code = child.process.returncode if child.process is not None else None
                raise RigError(f"{child.name} ended with {code}:\n{child.log_tail()}")

    def ends(self, topic: str) -> dict[int, int]:
        """End offset of each partition."""
        partitions = [(topic, p) for p in range(self.partitions)]
        try:
            found = admin.offsets(self._admin, partitions, OffsetSpec.latest())
            return {partition: offset for (_, partition), offset in found.items()}
        except KafkaException:
            # A client that lived through an outage may keep saying that partitions have no leader.
            self._admin = admin.client(self.access)
            raise

    def count(self, topic: str) -> int:
        """Records that were ever written to ``topic``."""
        return sum(self.ends(topic).values())

    def stop(self) -> list[tuple[str, int | None]]:
        """End everything: first politely, all at once, then by force."""
        for child in self.children:
            if child.running() and child.process is not None:
                child.measure()
                child.process.send_signal(signal.SIGCONT)
                child.process.send_signal(signal.SIGTERM)
        return [(child.name, child.kill(signal.SIGTERM)) for child in reversed(self.children)]


def cpu_seconds(pid: int) -> float:
    """User and system time of a process so far."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    except OSError:
        return 0.0
    return (int(fields[11]) + int(fields[12])) / CLOCK_TICKS_PER_S


def peak_memory_mb(pid: int) -> int:
    """Peak resident memory of a process."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) // 1024 for line in lines if line.startswith("VmHWM")), 0)


def stage_metrics(worker: Worker, token: str) -> dict[str, dict[str, float]]:
    """Per stage: records, CPU seconds, from the worker's metrics page."""
    status, body = worker.get("/metrics", token)
    found: dict[str, dict[str, float]] = {}
    if status != 200:
        return found
    for line in body.decode().splitlines():
        for metric, name in (("ptr_records_total{", "records"), ("ptr_stage_cpu_seconds_total{", "cpu_s")):
            if line.startswith(metric):
                labels, _, value = line.rpartition(" ")
                stage = labels.split('stage="', 1)[1].split('"', 1)[0]
                found.setdefault(stage, {})[name] = float(value)
    return found
