"""A PIC is paused while the pipeline runs: nothing is called there, its queue waits in Kafka, and all are paid afterwards."""

from __future__ import annotations

import json
import signal
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from connectors.broker.local import LocalKafka
from connectors.broker.one import post_one
from pipeline import topics
from pipeline.cli import main
from pipeline.rig import Rig, Worker
from schemas.codec import Codec
from schemas.identity import payment_key
from schemas.records import PaymentCompleted, PaymentNotified, PaymentParked
from tests.integration.kafka import records
from tests.integration.live import (
    TOKEN,
    a_load,
    calls,
    completed,
    end,
    pipeline,
    posting,
    settle,
    until,
    working,
)

pytestmark = pytest.mark.kafka

PIC = "simulator"
COMPLETED = topics.COMPLETED.name
CODEC = Codec()


def ptr(rig: Rig, *arguments: str, **environment: str) -> str:
    """What a command of a user prints."""
    result = CliRunner().invoke(main, ["queues", *arguments], env={"PTR_BROKER": rig.broker, **environment})
    assert result.exit_code == 0, result.output
    return result.stdout


def seen(rig: Rig, *workers: Worker) -> Any:
    """`ptr queues --json` of the one PIC, and what it says of workers that did not tell."""
    named = [part for worker in workers for part in ("--worker", worker.url())]
    found = json.loads(ptr(rig, *named, "--json", PTR_WEB_TOKEN=TOKEN))
    (pic,) = found["pics"]
    assert pic["pic"] == PIC
    return pic, found["troubles"]


def test_a_paused_pic_is_not_called_across_a_kill_and_all_are_paid_once_afterwards(
    kafka: LocalKafka, tmp_path: Path
) -> None:
    """Pause, post, kill and stop workers, look, resume: the PIC's own ledger counts one call for each payment."""
    load = a_load(600)
    with working(kafka.address, tmp_path, load, "one", "two") as (rig, [one, two]):
        with posting(kafka.address, load, rate=100):
            until("100 outcomes", lambda: completed(rig) >= 100)
            assert "is paused by mo" in ptr(rig, "pause", PIC, "--why", "a test", "--by", "mo")
            until("both workers heed it", lambda: all(_metric(w, "ptr_pic_paused") == 1 for w in (one, two)))
            # What was begun is finished: then the ledger stands still.
            until(
                "nothing is in flight",
                lambda: _metric(one, "ptr_pic_in_flight") + _metric(two, "ptr_pic_in_flight") == 0,
            )
        queued = until_queued(rig, load.payments)
        called = len(calls(rig))
        assert called < load.payments
        pic, troubles = seen(rig, one, two)
        assert troubles == []
        assert queued - called <= pic["depth"] <= queued
        assert 0 < pic["oldest_age_s"] < 120
        assert (pic["in_flight"], pic["breaker"]) == (0, {"closed": 2})
        assert (pic["paused"]["who"], pic["paused"]["why"]) == ("mo", "a test")

        one.kill(signal.SIGKILL)
        assert end(two)[0] == 0, two.log_tail()  # a stop does not wait for the PIC
        one.start()
        two.start()
        rig.wait_ready()
        pic, _ = seen(rig)
        assert (pic["in_flight"], pic["breaker"]) == (None, None)
        assert pic["depth"] >= queued - called
        assert len(calls(rig)) == called, "a paused PIC was called"

        assert "is called again" in ptr(rig, "resume", PIC, "--why", "the test goes on", "--by", "mo")
        settle(rig, load)
        until("nothing waits", lambda: seen(rig)[0]["depth"] == 0)
        # What an earlier owner may have called was asked for twice, and called once.
        assert list(calls(rig).values()) == [1] * load.payments
        ended = [CODEC.decode(record.value(), PaymentCompleted) for record in records(kafka.address, COMPLETED)]
        assert [event.outcome for event in ended] == ["paid"] * load.payments
        assert len({(event.tenant, event.payment_id) for event in ended}) == load.payments


def test_what_is_parked_is_read_and_decided(kafka: LocalKafka, tmp_path: Path) -> None:
    """From Kafka's own times on: what was said before something was parked is no answer to it."""
    load = a_load(1)
    with pipeline(kafka.address, tmp_path, load) as rig:
        parked = PaymentParked(
            event_id="t1|p1||2|unknowable",
            tenant="t1",
            payment_id="p1",
            kind="payment",
            attempt=2,
            pic=PIC,
            reason="unknowable",
            amount_minor=1250,
            currency="EUR",
            parked_at_ms=1,
        )
        post_one(kafka.address, topics.PARKED.name, CODEC.encode(parked), payment_key("t1", "p1"))
        (listed,) = json.loads(ptr(rig, "parked", "--json"))
        assert (listed["payment"], listed["attempt"], listed["answer"]) == ("p1", 2, None)
        ptr(rig, "decide", "t1", "p1", "unsent", "--why", "not in the portal", "--by", "mo")
        assert json.loads(ptr(rig, "parked", "--json")) == []
        (record,) = records(kafka.address, topics.NOTIFIED.name)
        news = CODEC.decode(record.value(), PaymentNotified)
        assert record.key() == payment_key("t1", "p1")
        assert (news.source, news.who, news.attempt, news.outcome, news.pic) == ("person", "mo", 2, "unsent", PIC)


def until_queued(rig: Rig, payments: int) -> int:
    """Wait until everything that was posted has its intent or its outcome; gives the number of intents."""

    def done() -> bool:
        return rig.count(topics.SCORED.name) + rig.count(topics.ENDED.name) >= payments

    until("all are scored", done)
    counts = [-1]

    def still() -> bool:
        counts.append(rig.count(topics.queue(PIC).name))
        return counts[-1] == counts[-2]

    until("intents stand still", still, pause_s=1.0)
    return counts[-1]


def _metric(worker: Worker, name: str) -> float:
    status, body = worker.get("/metrics", TOKEN)
    assert status == 200
    lines = [line for line in body.decode().splitlines() if line.startswith(f'{name}{{pic="{PIC}"}}')]
    return float(lines[0].rpartition(" ")[2])
