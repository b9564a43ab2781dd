"""A Kafka that wants TLS and a password: every part of the pipeline gets in, and says in words when it does not."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import msgspec
import pytest

from pipeline import topics
from pipeline.rig import Rig
from pipeline.settings import BrokerAccess
from schemas.codec import Codec
from schemas.records import PaymentCompleted
from tests.integration.kafka import records
from tests.integration.live import TIMEOUT_S, TOKEN, a_load, audited, completed, no_traceback, until
from tests.integration.secure import SecureKafka, secure_kafka

pytestmark = pytest.mark.kafka

WRONG = "not-the-password"


@pytest.fixture(scope="module")
def secure(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SecureKafka]:
    """One broker for the module."""
    with secure_kafka(tmp_path_factory.mktemp("secure")) as kafka:
        yield kafka


def ptr(access: BrokerAccess, *words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run ``ptr`` as a user would."""
    return subprocess.run(
        [sys.executable, "-m", "pipeline.cli", *words],
        env=os.environ | access.environment() | environment,
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
    )


def one_payment(folder: Path) -> Path:
    """A file with one PTR of the load's first tenant."""
    file = folder / "payment.jsonl"
    file.write_bytes(msgspec.json.encode(a_load(1).payment(0)) + b"\n")
    return file


@pytest.mark.parametrize("mechanism", ["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"])
def test_commands_get_in_by_password(secure: SecureKafka, mechanism: str) -> None:
    """``ptr topics apply`` over TLS, with each mechanism."""
    done = ptr(replace(secure.sasl_ssl, sasl_mechanism=mechanism), "topics", "apply")
    assert done.returncode == 0, done.stderr


def test_commands_get_in_by_certificate(secure: SecureKafka) -> None:
    """TLS on both sides, no password."""
    done = ptr(secure.ssl, "topics", "apply")
    assert done.returncode == 0, done.stderr


def test_a_payment_goes_from_submit_to_its_outcome(secure: SecureKafka, tmp_path: Path) -> None:
    """``ptr submit``, all stages of a worker and the audit sink over SASL_SSL with SCRAM: one payment, one outcome,
    one row; the password is in no log."""
    load = a_load(1)
    with Rig(secure.sasl_ssl, tmp_path, PTR_WEB_TOKEN=TOKEN) as rig:
        rig.prepare(load.tenants())
        worker = rig.worker("secure")
        rig.audit_sink()
        rig.wait_ready()
        done = ptr(secure.sasl_ssl, "submit", str(one_payment(tmp_path)))
        assert done.returncode == 0, done.stderr
        until("the outcome", lambda: completed(rig) == 1 or rig.check() is not None)
        until("the audit row", lambda: audited(rig) == 1 or rig.check() is not None)
        logs = [child.log.read_text() for child in rig.children]
    (message,) = records(secure.plain, topics.COMPLETED.name)
    event = Codec().decode(message.value(), PaymentCompleted)
    assert (event.payment_id, event.outcome) == (load.payment(0).payment_id, "paid")
    assert all(secure.password not in log for log in [*logs, done.stdout, done.stderr])
    assert no_traceback(worker.log.read_text())


@pytest.mark.parametrize(
    "words",
    [
        ("submit", "FILE"),
        ("topics", "list"),
        ("tenants", "list"),
        ("dead-letters", "list"),
        ("demo", "--broker", "BROKER"),
        ("worker",),
    ],
    ids=lambda words: words[0],
)
def test_a_wrong_password_is_a_clear_message(secure: SecureKafka, tmp_path: Path, words: tuple[str, ...]) -> None:
    """It names what to check and shows neither password."""
    (tmp_path / "wrong").write_text(WRONG)
    access = replace(secure.sasl_ssl, password_file=str(tmp_path / "wrong"))
    given = {"FILE": str(one_payment(tmp_path)), "BROKER": access.addresses}
    done = ptr(access, *(given.get(word, word) for word in words), PTR_DATADIR=str(tmp_path / "state"))
    said = done.stdout + done.stderr
    assert done.returncode == (75 if words == ("worker",) else 1), said
    assert "does not let us in" in said and "PTR_BROKER_PASSWORD_FILE" in said, said
    assert WRONG not in said and secure.password not in said
    assert no_traceback(said), said


def test_a_broker_of_another_authority_is_not_trusted(secure: SecureKafka, tmp_path: Path) -> None:
    """Its certificate is not of the authority that we know: no TLS connection, and what to check."""
    from tests.integration.secure import make_certificates

    make_certificates(tmp_path)
    access = replace(secure.sasl_ssl, ca=str(tmp_path / "ca.pem"))
    done = ptr(access, "submit", str(one_payment(tmp_path)))
    assert done.returncode == 1
    assert "no TLS connection" in done.stderr and "PTR_BROKER_CA" in done.stderr, done.stderr


def test_plain_words_to_a_tls_listener_name_the_setting(secure: SecureKafka, tmp_path: Path) -> None:
    """PTR_BROKER_SECURITY was forgotten."""
    done = ptr(BrokerAccess(addresses=secure.sasl_ssl.addresses), "submit", str(one_payment(tmp_path)))
    assert done.returncode == 1
    assert "PTR_BROKER_SECURITY" in done.stderr, done.stderr
