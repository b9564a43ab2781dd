"""Every setting: read once from the environment (``PTR_*``), checked, and given to the rest as one object.

Secrets can be given as files: ``PTR_WEB_TOKEN_FILE`` instead of ``PTR_WEB_TOKEN``, and so on. The password for Kafka can only
be: it is read when a client is made and kept nowhere.
docs/operations.md lists them with their meaning for operators.
"""

from __future__ import annotations

import os
import socket
import ssl
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, ClassVar

STAGES: tuple[str, ...] = ("screening", "localization", "payer", "payee", "reviews", "dispatch", "plugin", "parties")

LOG_LEVELS: tuple[str, ...] = ("debug", "info", "warning", "error")

BROKER_SECURITIES: tuple[str, ...] = ("plaintext", "ssl", "sasl_plaintext", "sasl_ssl")
SASL_MECHANISMS: tuple[str, ...] = ("PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512")


class SettingsError(ValueError):
    """A setting is missing or wrong; the message names it, what is wrong with it, and what it takes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BrokerAccess:
    """How to reach Kafka and be let in. As text it is the addresses alone, so it may stand in messages."""

    addresses: str
    security: str = "plaintext"
    #: PEM files; an empty ``ca`` means the system's certificate authorities.
    ca: str = ""
    cert: str = ""
    key: str = ""
    sasl_mechanism: str = "SCRAM-SHA-512"
    user: str = ""
    password_file: str = ""

    def __str__(self) -> str:
        return self.addresses

    @property
    def tls(self) -> bool:
        """Whether connections are encrypted."""
        return self.security in ("ssl", "sasl_ssl")

    @property
    def sasl(self) -> bool:
        """Whether clients say who they are by user and password."""
        return self.security.startswith("sasl_")

    def client_config(self) -> dict[str, Any]:
        """What every confluent-kafka client begins with. It holds the password: never log it."""
        config = {"bootstrap.servers": self.addresses, "security.protocol": self.security}
        if self.tls:
            files = {"ssl.ca.location": self.ca, "ssl.certificate.location": self.cert, "ssl.key.location": self.key}
            config |= {name: file for name, file in files.items() if file}
        if self.sasl:
            config |= {
                "sasl.mechanism": self.sasl_mechanism,
                "sasl.username": self.user,
                "sasl.password": self._password(),
            }
        return config

    def faust_credentials(self) -> Any:
        """The same for ``faust.App(broker_credentials=...)``; None for plain connections."""
        if not self.tls and not self.sasl:
            return None
        from faust import SASLCredentials, SSLCredentials

        context = self._ssl_context() if self.tls else None
        if not self.sasl:
            return SSLCredentials(context)
        return SASLCredentials(
            username=self.user, password=self._password(), ssl_context=context, mechanism=self.sasl_mechanism
        )

    def environment(self) -> dict[str, str]:
        """The variables that give a child process this access; those that it must not inherit are empty."""
        return {
            "PTR_BROKER": self.addresses,
            "PTR_BROKER_SECURITY": self.security,
            "PTR_BROKER_CA": self.ca,
            "PTR_BROKER_CERT": self.cert,
            "PTR_BROKER_KEY": self.key,
            "PTR_BROKER_SASL_MECHANISM": self.sasl_mechanism,
            "PTR_BROKER_USER": self.user,
            "PTR_BROKER_PASSWORD_FILE": self.password_file,
        }

    def check(self) -> None:
        """Raise :class:`SettingsError`, naming the variable, when something is missing, unreadable, or without effect."""
        given = {name: value for name, value in self.environment().items() if value}
        tls_only = [name for name in ("PTR_BROKER_CA", "PTR_BROKER_CERT", "PTR_BROKER_KEY") if name in given]
        sasl_only = [name for name in ("PTR_BROKER_USER", "PTR_BROKER_PASSWORD_FILE") if name in given]
        # A setting that is not heeded would leave somebody believing that connections are safe.
        if tls_only and not self.tls:
            raise SettingsError(f"{tls_only[0]}: PTR_BROKER_SECURITY={self.security} uses no TLS; take ssl or sasl_ssl")
        if sasl_only and not self.sasl:
            raise SettingsError(
                f"{sasl_only[0]}: PTR_BROKER_SECURITY={self.security} uses no user; take sasl_ssl or sasl_plaintext"
            )
        if self.sasl and len(sasl_only) < 2:
            lacking = {"PTR_BROKER_USER", "PTR_BROKER_PASSWORD_FILE"} - set(sasl_only)
            raise SettingsError(f"{max(lacking)}: missing; PTR_BROKER_SECURITY={self.security} needs user and password")
        if bool(self.cert) != bool(self.key):
            raise SettingsError("PTR_BROKER_CERT and PTR_BROKER_KEY are given together: a certificate and its key")
        if self.sasl:
            self._password()
        if self.tls:
            self._ssl_context()

    def _password(self) -> str:
        try:
            password = Path(self.password_file).read_text().strip()
        except (OSError, UnicodeDecodeError) as error:
            why = error.strerror if isinstance(error, OSError) else "not text"
            raise SettingsError(f"PTR_BROKER_PASSWORD_FILE: cannot read {self.password_file}: {why}") from None
        if not password:
            raise SettingsError(f"PTR_BROKER_PASSWORD_FILE: {self.password_file} is empty")
        return password

    def _ssl_context(self) -> ssl.SSLContext:
        try:
            context = ssl.create_default_context(cafile=self.ca or None)
        except OSError as error:  # also what is no certificate
            raise SettingsError(f"PTR_BROKER_CA: {self.ca} is no file of certificates in PEM: {_why(error)}") from None
        if self.cert:
            try:
                # With an empty passphrase a key that needs one is refused, and nobody is asked on a terminal.
                context.load_cert_chain(self.cert, self.key, password="")
            except OSError as error:
                raise SettingsError(
                    f"PTR_BROKER_CERT, PTR_BROKER_KEY: {self.cert} and {self.key} are not a certificate and its key "
                    f"without a passphrase, in PEM: {_why(error)}"
                ) from None
        return context


def _why(error: OSError) -> str:
    return (error.reason if isinstance(error, ssl.SSLError) else error.strerror) or type(error).__name__


def client_config(broker: BrokerAccess | str, more: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Configuration of a confluent-kafka client of ``broker``; plain addresses are reached without TLS and user."""
    access = broker if isinstance(broker, BrokerAccess) else BrokerAccess(addresses=broker)
    return access.client_config() | dict(more or {})


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """All settings, with their defaults. Times in seconds, sizes in bytes."""

    #: Kafka bootstrap servers, HOST:PORT[,HOST:PORT].
    broker: str = "127.0.0.1:9092"
    #: How connections to Kafka are protected: plaintext, ssl, sasl_plaintext or sasl_ssl.
    broker_security: str = "plaintext"
    #: PEM files: who signed the brokers' certificates (empty: whom the system trusts); our own certificate and its key.
    broker_ca: str = ""
    broker_cert: str = ""
    broker_key: str = ""
    broker_sasl_mechanism: str = "SCRAM-SHA-512"
    broker_user: str = ""
    #: File that holds the password; there is no variable for the password itself.
    broker_password_file: str = ""
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
    #: File of the key that signs heads of the audit tables' trees (ptr audit keygen); empty: they are not signed.
    audit_key_file: str = ""
    #: File that signed heads are appended to; empty: none.
    audit_heads_file: str = ""
    #: Folder of the leaves under them; empty: beside the file of heads, ``none``: they are not kept.
    audit_leaves_dir: str = ""
    #: Heads are signed at least so often, where trees grew, and after a batch where that is cheap; 0: after each batch.
    audit_heads_every_s: float = 5.0
    #: `ptr audit archive` keeps so many whole months before this one in the database.
    audit_keep_months: int = 12
    #: The master keys that wrap persons' keys (ptr privacy keygen), a line each, the one in use first; empty: rows are not
    #: sealed.
    privacy_master_key: str = ""
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
    #: Longest time the fraud model may take for one batch; after it the tenant's ``model_failure`` applies.
    fraud_model_timeout_s: float = 1.0
    #: Spans, where a collector is configured: of which share of the payments they are made, and from when on one is slow, of
    #: which they are always made.
    trace_share: float = 0.01
    trace_slow_s: float = 1.0
    log_level: str = "warning"

    SECRETS: ClassVar[frozenset[str]] = frozenset(
        {"web_token", "database", "schema_registry_url", "privacy_master_key"}
    )

    @property
    def access(self) -> BrokerAccess:
        """How to reach Kafka: what every client of it is made from."""
        return BrokerAccess(
            addresses=self.broker,
            security=self.broker_security,
            ca=self.broker_ca,
            cert=self.broker_cert,
            key=self.broker_key,
            sasl_mechanism=self.broker_sasl_mechanism,
            user=self.broker_user,
            password_file=self.broker_password_file,
        )

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


def _one_of(choices: tuple[str, ...]) -> Callable[[str], str]:
    def read(text: str) -> str:
        found = next((choice for choice in choices if choice.lower() == text.lower()), None)
        if found is None:
            raise ValueError(f"choose from {', '.join(choices)}")
        return found

    return read


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
    "broker_security": _one_of(BROKER_SECURITIES),
    "broker_sasl_mechanism": _one_of(SASL_MECHANISMS),
    "log_level": _one_of(LOG_LEVELS),
    "datadir": Path,
    "pics": _words,
    "lists": _pairs,
    "web_port": lambda text: int(_between(-1, 65535)(text)),  # type: ignore[operator]
    "web_peers": _words,
    # Kafka brokers refuse session time-outs below 6 s by default.
    "session_timeout_s": _between(6, 40),
    "watchdog_s": _between(5, 3600),
    "audit_heads_every_s": _between(0, 3600),
    "audit_keep_months": lambda text: int(_between(0, 1200)(text)),  # type: ignore[operator]
    "pic_timeout_s": _between(0.01, 300),
    "fraud_model_timeout_s": _between(0.01, 60),
    "trace_share": _between(0, 1),
    "trace_slow_s": _between(0.001, 86_400),
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
    if environment.get("PTR_BROKER_PASSWORD"):
        raise SettingsError(
            "PTR_BROKER_PASSWORD: a password does not belong into the environment; write it into a file that only this "
            "user can read, and name the file in PTR_BROKER_PASSWORD_FILE"
        )
    settings = Settings(**values)  # type: ignore[arg-type]
    settings.access.check()
    return settings
