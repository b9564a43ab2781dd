"""Every setting: read once from the environment (``PTR_*``), checked, and given to the rest as one object.

Secrets can be given as files: ``PTR_WEB_TOKEN_FILE`` instead of ``PTR_WEB_TOKEN``, and so on.
docs/operations.md lists them with their meaning for operators.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import ClassVar

STAGES: tuple[str, ...] = ("screening", "localization", "payer", "payee", "dispatch", "plugin")

LOG_LEVELS: tuple[str, ...] = ("debug", "info", "warning", "error")


class SettingsError(ValueError):
    """A setting is missing or wrong; the message names it, what is wrong with it, and what it takes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """All settings, with their defaults. Times in seconds, sizes in bytes."""

    #: Kafka bootstrap servers, HOST:PORT[,HOST:PORT].
    broker: str = "127.0.0.1:9092"
    #: Partitions of every co-partitioned topic; fixed once there is data.
    partitions: int = 4
    replication: int = 1
    #: Stages that this worker runs.
    stages: tuple[str, ...] = STAGES
    #: Name of the worker group; workers of one group share its stages. Empty: derived from the stages.
    group: str = ""
    #: Name of this worker within its group, stable over restarts (static membership). Empty: derived from datadir.
    instance: str = ""
    #: RocksDB and other local state.
    datadir: Path = Path("var/worker")
    #: Payment integration clients that have a plugin.
    pics: tuple[str, ...] = ("simulator",)
    #: SQLite file in which simulated PICs keep their ledger; empty keeps it in memory.
    simulator_ledger: str = ""
    #: Folders or files of sanctions lists: ofac=DIR,un=FILE. Empty: the tiny built-in sample.
    lists: tuple[tuple[str, str], ...] = ()
    #: Audit database: sqlite:///FILE or postgresql://USER@HOST/DB.
    database: str = "sqlite:///var/audit.db"
    #: Confluent-compatible schema registry; empty: single-object encoding.
    schema_registry_url: str = ""
    #: Health pages and, with a token, web views. Port 0 takes a free one; -1 switches it off.
    web_host: str = "127.0.0.1"
    web_port: int = 0
    web_token: str = ""
    #: Base addresses of workers of other groups, asked for tables that this group does not hold.
    web_peers: tuple[str, ...] = ()
    #: A member that is silent for this long loses its partitions.
    session_timeout_s: float = 10.0
    #: Lag and no commit for this long ends the process.
    watchdog_s: float = 60.0
    #: Longest time a PIC may take to answer; after it the answer is unknown.
    pic_timeout_s: float = 5.0
    log_level: str = "warning"

    SECRETS: ClassVar[frozenset[str]] = frozenset({"web_token", "database", "schema_registry_url"})

    @property
    def worker_group(self) -> str:
        """Kafka consumer group of this worker."""
        if self.group:
            return self.group
        return "ptr" if self.stages == STAGES else "ptr-" + "-".join(self.stages)

    @property
    def worker_instance(self) -> str:
        """Name of this member in its group, the same after a restart."""
        return self.instance or f"{socket.gethostname()}-{self.datadir.name}"


def _stages(text: str) -> tuple[str, ...]:
    wanted = {part.strip() for part in text.split(",") if part.strip()}
    unknown = wanted - set(STAGES)
    if unknown or not wanted:
        raise ValueError(f"unknown stages {sorted(unknown)}; choose from {', '.join(STAGES)}")
    return tuple(stage for stage in STAGES if stage in wanted)


def _words(text: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in text.split(",") if part.strip())


def _pairs(text: str) -> tuple[tuple[str, str], ...]:
    pairs = tuple(tuple(part.split("=", 1)) for part in _words(text))
    if any(len(pair) != 2 for pair in pairs):
        raise ValueError("takes NAME=PATH[,NAME=PATH]")
    return pairs  # type: ignore[return-value]


def _log_level(text: str) -> str:
    if text.lower() not in LOG_LEVELS:
        raise ValueError(f"choose from {', '.join(LOG_LEVELS)}")
    return text.lower()


def _brokers(text: str) -> str:
    for address in text.split(","):
        host, _, port = address.strip().rpartition(":")
        if not host or not port.isdecimal() or not 0 < int(port) < 65536:
            raise ValueError("takes HOST:PORT[,HOST:PORT]")
    return text


def _between(low: float, high: float) -> object:
    def read(text: str) -> float:
        value = float(text)
        if not low <= value <= high:
            raise ValueError(f"must be between {low:g} and {high:g}")
        return value

    return read


_READ = {
    "partitions": lambda text: int(_between(1, 1024)(text)),  # type: ignore[operator]
    "replication": lambda text: int(_between(1, 9)(text)),  # type: ignore[operator]
    "broker": _brokers,
    "stages": _stages,
    "log_level": _log_level,
    "datadir": Path,
    "pics": _words,
    "lists": _pairs,
    "web_port": lambda text: int(_between(-1, 65535)(text)),  # type: ignore[operator]
    "web_peers": _words,
    # Kafka brokers refuse session time-outs below 6 s by default.
    "session_timeout_s": _between(6, 40),
    "watchdog_s": _between(5, 3600),
    "pic_timeout_s": _between(0.01, 300),
}


def load(environment: Mapping[str, str] | None = None, **overrides: object) -> Settings:
    """Settings from ``PTR_*`` variables, with ``overrides`` (None counts as not given) on top.

    Raises :class:`SettingsError` naming the variable.
    """
    environment = os.environ if environment is None else environment
    known = {field.name for field in fields(Settings)}
    values: dict[str, object] = {}
    for name in sorted(known):
        variable = f"PTR_{name.upper()}"
        text = environment.get(variable)
        if text is None and name in Settings.SECRETS and (path := environment.get(f"{variable}_FILE")):
            try:
                text = Path(path).read_text().strip()
            except OSError as error:
                raise SettingsError(f"{variable}_FILE: cannot read {path}: {error.strerror}") from error
        if text is None or (text == "" and name not in {"web_token"}):
            continue
        try:
            values[name] = _READ.get(name, str)(text)  # type: ignore[operator]
        except ValueError as error:
            shown = "its value" if name in Settings.SECRETS else repr(text)
            raise SettingsError(f"{variable}: {shown} is wrong: {error}") from error
    for name, value in overrides.items():
        if value is not None:
            values[name] = value
    return Settings(**values)  # type: ignore[arg-type]
