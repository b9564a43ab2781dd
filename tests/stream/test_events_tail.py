"""``ptr events tail`` on a broker: what is written is shown, what was asked for only, and no personal data."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from click.testing import CliRunner

from connectors.broker.tail import Tail
from connectors.sinks.rows import Mapper
from pipeline import topics
from pipeline.commands.events import tail, told_by
from schemas.codec import Codec
from schemas.identity import payment_key
from schemas.records import ChargebackReceived, ListEvidence, PaymentCompleted, PaymentScreened, Record
from tests.stream.broker import WAIT_S, put, wait_until
from tests.timed import CODEC, said

TOPICS = [topics.SCREENED.name, topics.COMPLETED.name]
EVIDENCE = ListEvidence(
    party="debtor", list="ofac", entry_id="7", score=0.9, algorithm="x", party_name="Ada Lovelace", listed_name="Ada L."
)


def post(broker: str, record: Record, topic: str) -> None:
    put(broker, topic, (payment_key(record.tenant, record.payment_id), CODEC.encode(record)))  # type: ignore[attr-defined]


@contextmanager
def tailing(broker: str, *options: str) -> Iterator[subprocess.Popen[str]]:
    """The command as a user starts it, following."""
    command = [sys.executable, "-m", "pipeline.cli", "events", "tail", "--broker", broker, *options]
    environment = {**os.environ, "PYTHONUNBUFFERED": "1"}
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
    ) as process:
        watch = threading.Timer(WAIT_S, process.kill)  # so that no line that never comes is waited for
        watch.start()
        try:
            assert process.stderr is not None
            assert "following 2 topics" in process.stderr.readline()
            yield process
        finally:
            watch.cancel()
            process.kill()


def test_events_are_shown_as_they_come_until_ctrl_c(broker: str) -> None:
    """What was there before is not shown; then a line for each wanted event, and at Ctrl-C a count and exit code 0."""
    post(broker, said(PaymentScreened, payment_id="before"), topics.SCREENED.name)
    with tailing(broker, "--tenant", "aurora") as process:
        assert process.stdout is not None and process.stderr is not None
        post(broker, said(PaymentScreened, tenant="other"), topics.SCREENED.name)
        post(
            broker,
            said(PaymentScreened, outcome="referred", reason="party_resembles_listed", evidence=EVIDENCE),
            topics.SCREENED.name,
        )
        line = process.stdout.readline()
        assert line.split()[1:] == ["aurora", "pay_1", "screening", "referred", "party_resembles_listed"]
        post(broker, said(PaymentCompleted), topics.COMPLETED.name)
        assert process.stdout.readline().split()[1:] == ["aurora", "pay_1", "settlement", "paid"]
        process.send_signal(signal.SIGINT)
        assert process.wait(20) == 0
        assert process.stdout.read() == ""
        assert "2 events shown, 3 read" in process.stderr.read()


def test_what_is_wanted_as_json(broker: str) -> None:
    """--stage and --reason choose; an object a line, with these fields and no other."""
    before_s = time.time()
    with tailing(broker, "--json", "--stage", "screening", "--reason", "exception_applied") as process:
        assert process.stdout is not None
        post(broker, said(PaymentScreened), topics.SCREENED.name)
        post(broker, said(PaymentCompleted, reason="exception_applied"), topics.COMPLETED.name)
        post(broker, said(PaymentScreened, reason="exception_applied", evidence=EVIDENCE), topics.SCREENED.name)
        told = json.loads(process.stdout.readline())
        process.terminate()
        assert process.wait(20) == 0
        assert process.stdout.read() == ""
    assert before_s - 1 < told.pop("at_ms") / 1000 < time.time() + 1
    assert told == {
        "tenant": "aurora",
        "payment_id": "pay_1",
        "stage": "screening",
        "outcome": "clear",
        "reason": "exception_applied",
    }


def test_texts_from_outside_are_not_shown() -> None:
    """A chargeback's reason is whatever somebody wrote: it is no word of ours, and may name a person."""
    dispute: dict[str, Any] = {"reason": "Ada Lovelace says so", "paid_at_ms": 1, "charged_back_at_ms": 2}
    record = said(ChargebackReceived, kind="chargeback", **dispute)
    row = Mapper(Codec()).columns(topics.CHARGEBACKS.name, 0, 0, 5, CODEC.encode(record))
    told = told_by(row)
    assert (told.stage, told.outcome, told.reason) == ("chargeback", "charged_back", "(not shown)")


def test_a_topic_that_is_made_later_is_found(broker: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """From its beginning."""
    monkeypatch.setattr("connectors.broker.tail.LOOK_S", 0.0)
    with Tail(broker, [topics.SCREENED.name, topics.PARKED.name]) as log:
        assert log.topics == 1
        put(broker, topics.PARKED.name, (b"k", b"v"))
        came: list[bytes] = []

        def has_come() -> bool:
            came.extend(message.value() for message in log.read(0.1))
            return bool(came)

        wait_until(has_come)
        assert came == [b"v"]


def test_a_broker_that_is_not_there_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """Code 1 and what to do, after a bounded wait."""
    monkeypatch.setattr("connectors.broker.tail.TIMEOUT_S", 0.5)
    shown = CliRunner().invoke(tail, ["--broker", "127.0.0.1:1"])
    assert shown.exit_code == 1
    assert "no Kafka broker answers at 127.0.0.1:1" in shown.output
