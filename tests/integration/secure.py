"""A real Kafka that wants TLS and a password, with certificates that are made for it and thrown away."""

from __future__ import annotations

import secrets
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from confluent_kafka.admin import (
    AdminClient,
    ScramCredentialInfo,
    ScramMechanism,
    UserScramCredentialUpsertion,
)

from connectors.broker.local import LocalKafka, _free_port
from pipeline.settings import BrokerAccess
from tests.integration.kafka import require_kafka

USER = "pipeline"
_JAAS = "org.apache.kafka.common.security"
_MAP = "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT,SASL_SSL:SASL_SSL,SSL:SSL"


def _openssl(folder: Path, *words: str) -> None:
    done = subprocess.run(["openssl", *words], cwd=folder, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr


def make_certificates(folder: Path) -> None:
    """A throwaway authority (``ca.pem``), and of it a server (``server.pem``: key and chain) and a client."""
    curve = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")
    _openssl(
        folder,
        "req",
        "-x509",
        *curve,
        "-keyout",
        "ca.key",
        "-out",
        "ca.pem",
        "-days",
        "2",
        "-subj",
        "/CN=Test authority",
    )
    for name, extension in (("server", "subjectAltName=IP:127.0.0.1"), ("client", "extendedKeyUsage=clientAuth")):
        _openssl(folder, "req", *curve, "-keyout", f"{name}.key", "-out", f"{name}.csr", "-subj", f"/CN={name}")
        (folder / f"{name}.ext").write_text(extension + "\n")
        signing = ("-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial", "-days", "2", "-extfile", f"{name}.ext")
        _openssl(folder, "x509", "-req", "-in", f"{name}.csr", "-out", f"{name}.crt", *signing)
    pair = (folder / "server.key").read_text() + (folder / "server.crt").read_text() + (folder / "ca.pem").read_text()
    (folder / "server.pem").write_text(pair)


@dataclass(frozen=True)
class SecureKafka:
    """``sasl_ssl`` lets in by TLS and password, ``ssl`` by a client's certificate; ``plain`` is the test's own way in."""

    plain: str
    sasl_ssl: BrokerAccess
    ssl: BrokerAccess
    folder: Path
    password: str


@contextmanager
def secure_kafka(folder: Path) -> Iterator[SecureKafka]:
    """Started on free ports, ended by its id. Its user may come with PLAIN, SCRAM-SHA-256 and SCRAM-SHA-512."""
    require_kafka()
    make_certificates(folder)
    password = secrets.token_urlsafe(16)
    (folder / "password").write_text(password + "\n")
    sasl_port, ssl_port = _free_port(), _free_port()
    scram = f"{_JAAS}.scram.ScramLoginModule required;"
    properties = {
        "listener.security.protocol.map": _MAP,
        "ssl.keystore.type": "PEM",
        "ssl.keystore.location": str(folder / "server.pem"),
        "ssl.truststore.type": "PEM",
        "ssl.truststore.location": str(folder / "ca.pem"),
        "listener.name.ssl.ssl.client.auth": "required",
        "sasl.enabled.mechanisms": "PLAIN,SCRAM-SHA-256,SCRAM-SHA-512",
        "listener.name.sasl_ssl.plain.sasl.jaas.config": (
            f'{_JAAS}.plain.PlainLoginModule required user_{USER}="{password}";'
        ),
        "listener.name.sasl_ssl.scram-sha-256.sasl.jaas.config": scram,
        "listener.name.sasl_ssl.scram-sha-512.sasl.jaas.config": scram,
    }
    listeners = [f"SASL_SSL://127.0.0.1:{sasl_port}", f"SSL://127.0.0.1:{ssl_port}"]
    kafka = LocalKafka(folder / "kafka", listeners=listeners, properties=properties)
    try:
        kafka.start()
        admin = AdminClient({"bootstrap.servers": kafka.address, "log_level": 0})
        for mechanism in (ScramMechanism.SCRAM_SHA_256, ScramMechanism.SCRAM_SHA_512):
            secret = UserScramCredentialUpsertion(USER, ScramCredentialInfo(mechanism, 4096), password.encode())
            admin.alter_user_scram_credentials([secret])[USER].result()
        ca = str(folder / "ca.pem")
        yield SecureKafka(
            plain=kafka.address,
            sasl_ssl=BrokerAccess(
                addresses=f"127.0.0.1:{sasl_port}",
                security="sasl_ssl",
                ca=ca,
                user=USER,
                password_file=str(folder / "password"),
            ),
            ssl=BrokerAccess(
                addresses=f"127.0.0.1:{ssl_port}",
                security="ssl",
                ca=ca,
                cert=str(folder / "client.crt"),
                key=str(folder / "client.key"),
            ),
            folder=folder,
            password=password,
        )
    finally:
        kafka.kill()
