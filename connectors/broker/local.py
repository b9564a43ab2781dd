"""A real Apache Kafka without Docker, for development, integration tests and benchmarks.

The jars come from Maven Central (``pom.xml`` next to this file), once, into a cache. The broker is a single KRaft node
that listens on loopback only and has replication factors of 1: **not for production**.
"""

from __future__ import annotations

import base64
import contextlib
import fcntl
import json
import os
import random
import re
import shlex
import shutil
import signal
import socket
import subprocess
import tempfile
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib import resources
from pathlib import Path
from types import TracebackType

from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient

from pipeline.settings import client_config

KAFKA_VERSION = "4.3.1"
#: Kafka 4's broker runs on Java 17 or newer.
JAVA_VERSION_MIN = 17
FETCH_TIMEOUT_S = 600.0
START_TIMEOUT_S = 60.0
#: A clean stop takes a second or two; after this it is killed, which Kafka survives.
STOP_TIMEOUT_S = 20.0
HEAP = "-Xms256m -Xmx1g"
#: Only the quick compiler: a broker that lives for minutes on the cores of what it serves spends more on the thorough one
#: than that ever gives back (docs/decisions/0041-speed.md).
COMPILER = "-XX:TieredStopAtLevel=1"
LOG_LINES_SHOWN = 8
#: Below the range from which Linux takes ports for outgoing connections, so that a port is still free after a restart.
PORTS = range(20_000, 32_000)
PORT_TRIES = 50


class LocalKafkaError(RuntimeError):
    """Kafka could not be fetched, started or stopped; the text says why and what to do."""


def cache_folder() -> Path:
    """Where the jars are kept: ``payment-pipeline/kafka-VERSION`` in the user's cache."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "payment-pipeline" / f"kafka-{KAFKA_VERSION}"


def available() -> str:
    """Empty when a local Kafka can run here, else the reason in one line."""
    if shutil.which("java") is None:
        return f"java is not installed (Kafka {KAFKA_VERSION} needs Java {JAVA_VERSION_MIN} or newer)"
    found = subprocess.run(["java", "-version"], capture_output=True, text=True, check=False).stderr
    version = re.search(r'version "(\d+)', found)
    if version is None or int(version[1]) < JAVA_VERSION_MIN:
        return (
            f"Kafka {KAFKA_VERSION} needs Java {JAVA_VERSION_MIN} or newer, found {version[1] if version else 'none'}"
        )
    if not is_fetched() and shutil.which("mvn") is None:
        return f"mvn (Maven) is not installed, and Kafka {KAFKA_VERSION} is not yet in {cache_folder()}"
    return ""


def is_fetched() -> bool:
    """Whether the jars are in the cache already."""
    return _is_complete(cache_folder())


def _is_complete(folder: Path) -> bool:
    return (folder / f"kafka_2.13-{KAFKA_VERSION}.jar").is_file()


def fetch(folder: Path | None = None) -> Path:
    """The folder of Kafka's jars (default :func:`cache_folder`), fetched with Maven when they are not there (40 MB).

    The folder appears whole or not at all, also when two processes fetch at once. Raises :class:`LocalKafkaError`.
    """
    folder = folder or cache_folder()
    if _is_complete(folder):
        return folder
    if shutil.which("mvn") is None:
        raise LocalKafkaError(f"cannot fetch Kafka {KAFKA_VERSION}: mvn is not installed; install Maven")
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        partial = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    except OSError as error:
        raise LocalKafkaError(f"cannot write to {folder.parent}: {error.strerror}") from None
    try:
        pom = partial / "pom.xml"
        pom.write_text(resources.files("connectors.broker").joinpath("pom.xml").read_text())
        jars = partial / "jars"
        # -C: a jar whose checksum is wrong fails the run.
        command = ["mvn", "-q", "-B", "-C", "-f", str(pom), "dependency:copy-dependencies"]
        command += ["-DincludeScope=runtime", f"-DoutputDirectory={jars}"]
        try:
            done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=FETCH_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            raise LocalKafkaError(f"Maven did not fetch Kafka within {FETCH_TIMEOUT_S:g} s") from None
        if done.returncode or not _is_complete(jars):
            raise LocalKafkaError(f"Maven could not fetch Kafka {KAFKA_VERSION}:\n{_tail(done.stdout + done.stderr)}")
        try:
            jars.rename(folder)
        except OSError:
            if not _is_complete(folder):
                raise LocalKafkaError(f"{folder} is there but not complete: remove it and try again") from None
        return folder
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _tail(text: str) -> str:
    lines = [line for line in text.splitlines() if line.strip()]
    return "\n".join(lines[-LOG_LINES_SHOWN:])


@dataclass(frozen=True, slots=True)
class _State:
    """What another process needs to find a broker again: ``kafka.json`` in its folder. ``pid`` 0: it was stopped."""

    pid: int
    port: int
    controller_port: int
    cluster_id: str


class LocalKafka:
    """One broker, kept in ``datadir``::

        with LocalKafka(tmp_path) as kafka:
            client = Producer({"bootstrap.servers": kafka.address})

    ``port`` 0 takes the port it had before in this folder, or a free one. The object may be made in another process
    than the one that started the broker, and the broker outlives the process unless it is stopped.
    ``listeners`` are further ones (``SASL_SSL://127.0.0.1:PORT``), beside the plain one; ``properties`` are lines of
    ``server.properties``, which win. ``KAFKA_HEAP`` in the environment overrides the heap (``-Xms256m -Xmx1g``). Other options
    of the JVM may stand there too: ``-XX:TieredStopAtLevel=4``, the thorough compiler, for a broker that runs for hours.
    """

    def __init__(
        self,
        datadir: Path | str,
        port: int = 0,
        *,
        listeners: Sequence[str] = (),
        properties: Mapping[str, str] | None = None,
    ) -> None:
        self.datadir = Path(datadir).resolve()
        self._wanted_port = port
        self._listeners = tuple(listeners)
        self._more_properties = dict(properties or {})
        self._child: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        """Process id of the running broker, 0 when it does not run."""
        state = self._state()
        return state.pid if state and self._is_ours(state.pid) else 0

    @property
    def port(self) -> int:
        """The port that it listens on, or would; 0 when none was chosen yet."""
        state = self._state()
        return self._wanted_port or (state.port if state else 0)

    @property
    def address(self) -> str:
        """What clients take as bootstrap servers."""
        return f"127.0.0.1:{self.port}"

    @property
    def log(self) -> Path:
        """Kafka's own output: warnings and errors."""
        return self.datadir / "kafka.log"

    def start(self) -> LocalKafka:
        """Start it, on the data and port that it had before, and wait until it answers (at most 60 s).

        Does nothing when it runs. Raises :class:`LocalKafkaError` with the last lines of its log.
        """
        if reason := available():
            raise LocalKafkaError(reason)
        jars = fetch()
        self._make_datadir()
        with self._locked():
            if self.pid:
                state = self._state()
                if state and self._wanted_port not in (0, state.port):
                    raise LocalKafkaError(
                        f"the Kafka in {self.datadir} runs already, on port {state.port}: stop it first"
                    )
                return self
            state = self._next_state()
            self._write_properties(state)
            if not (self.datadir / "data" / "meta.properties").exists():
                self._format(jars, state)
            self._launch(jars, state)
        return self

    def stop(self) -> None:
        """End it cleanly (SIGTERM, and SIGKILL after 20 s). Does nothing when it does not run."""
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        """End it at once (SIGKILL), as a crash would."""
        self._end(signal.SIGKILL)

    def __enter__(self) -> LocalKafka:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()

    # -- files

    @property
    def _properties(self) -> Path:
        return self.datadir / "server.properties"

    def _make_datadir(self) -> None:
        try:
            self.datadir.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise LocalKafkaError(f"cannot make {self.datadir}: {error.strerror}") from None

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        with (self.datadir / "kafka.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    def _state(self) -> _State | None:
        try:
            return _State(**json.loads((self.datadir / "kafka.json").read_text()))
        except FileNotFoundError:
            return None
        except (ValueError, TypeError):
            raise LocalKafkaError(f"{self.datadir / 'kafka.json'} is damaged: remove it") from None

    def _write_state(self, state: _State) -> None:
        partial = self.datadir / "kafka.json.partial"
        partial.write_text(json.dumps(asdict(state)))
        partial.replace(self.datadir / "kafka.json")

    def _next_state(self) -> _State:
        before = self._state()
        # The controller's port is part of the formatted data; the broker's may change.
        controller_port = before.controller_port if before else _free_port()
        port = self._wanted_port or (before.port if before else _free_port())
        for taken in (port, controller_port):
            if not _is_free(taken):
                raise LocalKafkaError(f"port {taken} is taken by another program: stop it or choose another port")
        cluster_id = before.cluster_id if before else _new_cluster_id()
        return _State(pid=0, port=port, controller_port=controller_port, cluster_id=cluster_id)

    def _write_properties(self, state: _State) -> None:
        plain = f"PLAINTEXT://127.0.0.1:{state.port}"
        settings = {
            "process.roles": "broker,controller",
            "node.id": 1,
            "listeners": ",".join((plain, f"CONTROLLER://127.0.0.1:{state.controller_port}", *self._listeners)),
            "advertised.listeners": ",".join((plain, *self._listeners)),
            "controller.listener.names": "CONTROLLER",
            "controller.quorum.bootstrap.servers": f"127.0.0.1:{state.controller_port}",
            "log.dirs": self.datadir / "data",
            "auto.create.topics.enable": "false",
            "offsets.topic.num.partitions": 5,
            "offsets.topic.replication.factor": 1,
            "transaction.state.log.num.partitions": 5,
            "transaction.state.log.replication.factor": 1,
            "transaction.state.log.min.isr": 1,
            "share.coordinator.state.topic.num.partitions": 1,
            "share.coordinator.state.topic.replication.factor": 1,
            "share.coordinator.state.topic.min.isr": 1,
            "group.initial.rebalance.delay.ms": 0,
            # After a crash the controller waits this long for the broker that it knew before it takes the new one.
            "broker.heartbeat.interval.ms": 1000,
            "broker.session.timeout.ms": 4000,
            **self._more_properties,
        }
        text = "".join(f"{name}={str(value).replace(chr(92), chr(92) * 2)}\n" for name, value in settings.items())
        self._properties.write_text(text)

    # -- processes

    def _java(self, jars: Path, main: str, *arguments: str) -> list[str]:
        heap = shlex.split(os.environ.get("KAFKA_HEAP") or HEAP)
        logger = "-Dorg.slf4j.simpleLogger"
        logs = [f"{logger}.defaultLogLevel=warn", f"{logger}.showDateTime=true"]
        logs += [f"{logger}.dateTimeFormat=yyyy-MM-dd'T'HH:mm:ss.SSSZ"]
        return ["java", COMPILER, *heap, *logs, "-cp", f"{jars}/*", main, *arguments]

    def _format(self, jars: Path, state: _State) -> None:
        command = self._java(jars, "kafka.tools.StorageTool", "format", "--standalone")
        command += ["-t", state.cluster_id, "-c", str(self._properties)]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=START_TIMEOUT_S)
        if done.returncode:
            raise LocalKafkaError(f"cannot format {self.datadir / 'data'}:\n{_tail(done.stdout + done.stderr)}")

    def _launch(self, jars: Path, state: _State) -> None:
        if self._child is not None:
            self._child.poll()
        with self.log.open("ab") as log:
            log_start = log.tell()
            # A session of its own: Ctrl-C in the terminal is for the program, not for its broker.
            child = subprocess.Popen(
                self._java(jars, "kafka.Kafka", str(self._properties)),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        self._child = child
        try:
            # Recorded before it answers, so that `stop` finds it even if this process is killed now.
            self._write_state(_State(child.pid, state.port, state.controller_port, state.cluster_id))
            self._wait_until_it_answers(child, state, log_start)
        except BaseException:
            child.kill()
            child.wait()
            self._write_state(state)
            raise

    def _wait_until_it_answers(self, child: subprocess.Popen[bytes], state: _State, log_start: int) -> None:
        address = f"127.0.0.1:{state.port}"
        deadline = time.monotonic() + START_TIMEOUT_S
        client: AdminClient | None = None
        while time.monotonic() < deadline:
            if child.poll() is not None:
                raise LocalKafkaError(
                    f"Kafka ended with code {child.returncode} instead of starting; {self._log_tail(log_start)}"
                )
            # Asked only once something listens: a client that was refused backs off.
            if client is None and not _is_free(state.port):
                client = AdminClient(client_config(address, {"log_level": 0}))
            if client is not None:
                with contextlib.suppress(KafkaException):
                    if client.list_topics(timeout=1).cluster_id == state.cluster_id:
                        return
            time.sleep(0.1)
        raise LocalKafkaError(f"Kafka did not answer within {START_TIMEOUT_S:g} s; {self._log_tail(log_start)}")

    def _log_tail(self, start: int) -> str:
        with self.log.open("rb") as log:
            log.seek(start)
            text = _tail(log.read()[-64_000:].decode(errors="replace"))
        return f"its log, {self.log}, ends with:\n{text or '(nothing)'}"

    def _is_ours(self, pid: int) -> bool:
        """Whether this process is the broker of this folder, and not one that got the number of a dead one."""
        if pid <= 0:
            return False
        try:
            command = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
        except OSError:
            return False
        return b"kafka.Kafka" in command and os.fsencode(self._properties) in command

    def _end(self, how: signal.Signals) -> None:
        if not self.datadir.is_dir():
            return
        with self._locked():
            state = self._state()
            if state is None or not state.pid:
                return
            if self._is_ours(state.pid):
                self._signal(state.pid, how)
                if not self._wait_until_gone(state.pid, STOP_TIMEOUT_S):
                    self._signal(state.pid, signal.SIGKILL)
                    if not self._wait_until_gone(state.pid, STOP_TIMEOUT_S):
                        raise LocalKafkaError(f"Kafka, process {state.pid}, does not end")
            if self._child is not None:
                # Ended above, or it crashed earlier: only its entry in the process table is left.
                self._child.wait()
                self._child = None
            self._write_state(_State(0, state.port, state.controller_port, state.cluster_id))

    def _signal(self, pid: int, how: signal.Signals) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, how)

    def _wait_until_gone(self, pid: int, timeout_s: float) -> bool:
        deadline = time.monotonic() + timeout_s
        while time.monotonic() < deadline:
            # A child that ended has an empty command line until it is waited for: it counts as gone.
            if not self._is_ours(pid):
                return True
            time.sleep(0.05)
        return False


def _is_free(port: int) -> bool:
    """Whether a server could listen there now; ports of connections that just ended are free, as they are for Java."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def _free_port() -> int:
    for port in random.sample(PORTS, PORT_TRIES):
        if _is_free(port):
            return port
    raise LocalKafkaError(f"no free port found between {PORTS.start} and {PORTS.stop}")


def _new_cluster_id() -> str:
    """A random id as Kafka writes them: 16 bytes in URL-safe base 64; a leading dash would read as an option."""
    text = base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")
    return "K" + text[1:] if text.startswith("-") else text
