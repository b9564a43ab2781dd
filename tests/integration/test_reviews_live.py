"""Reviews and exceptions on a real Kafka, decided by the commands that a user types."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
import pytest
from confluent_kafka import Producer

from connectors.broker.local import LocalKafka
from connectors.exceptions.book import EFFECTIVE_DELAY_MS
from connectors.sinks.database import DatabaseError, open_database
from connectors.sinks.reviews import open_reviews
from connectors.tenants.publish import publish
from pipeline import topics
from pipeline.bench.load import RESEMBLING
from pipeline.bench.recount import read_all
from pipeline.rig import Rig, Worker
from schemas.codec import Codec
from schemas.identity import payment_key
from schemas.records import PaymentCompleted, PaymentRequested, PaymentScreened, ReviewOpened
from schemas.tenant_rules import ReviewRules, TenantRules
from tests.builders import a_request
from tests.integration.live import TIMEOUT_S, TOKEN, a_load, pipeline, until

pytestmark = pytest.mark.kafka

CODEC = Codec()
#: Seconds that the hasty tenant's payments wait.
HASTY_S = 2.0


@dataclass
class Live:
    """A running pipeline with one worker and an audit sink."""

    rig: Rig
    worker: Worker
    requests: dict[tuple[str, str], PaymentRequested] = field(default_factory=dict)

    def pay(self, payment_id: str, *, tenant: str = "patient", name: str = RESEMBLING, again: bool = False) -> None:
        """Post a payment by somebody who resembles somebody listed, or the same once more."""
        request = self.requests.get((tenant, payment_id))
        if request is None or not again:
            made = a_request(tenant=tenant, payment_id=payment_id, requested_at_ms=int(time.time() * 1000))
            request = msgspec.structs.replace(made, debtor=msgspec.structs.replace(made.debtor, name=name))
            self.requests[tenant, payment_id] = request
        producer = Producer({"bootstrap.servers": self.rig.broker, "linger.ms": 0})
        producer.produce(topics.REQUESTED.name, CODEC.encode(request), payment_key(tenant, payment_id))
        assert producer.flush(30) == 0

    def refer(self, payment_id: str, **named: Any) -> None:
        """Post one and wait until the audit tables show that it waits."""
        self.pay(payment_id, **named)
        until(f"{payment_id} waits", lambda: payment_id in self.waiting())

    def waiting(self) -> set[str]:
        try:
            database = open_database(self.rig.database)
        except DatabaseError:
            return set()
        try:
            return {review.payment_id for review in open_reviews(database, now_ms=int(time.time() * 1000))}
        except DatabaseError:
            return set()
        finally:
            database.close()

    def outcomes(self, payment_id: str) -> list[tuple[str, str, bool]]:
        decode = CODEC.decoder(PaymentCompleted)
        events = [decode(message.value()) for message in read_all(self.rig.broker, topics.COMPLETED.name)]
        return [(e.outcome, e.reason, e.repeat) for e in events if e.payment_id == payment_id]

    def outcome(self, payment_id: str) -> tuple[str, str, bool]:
        until(f"{payment_id} has an outcome", lambda: bool(self.outcomes(payment_id)), pause_s=0.1)
        return self.outcomes(payment_id)[0]

    def ptr(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """``ptr ...`` as a user runs it."""
        return subprocess.run(
            [sys.executable, "-m", "pipeline.cli", *arguments],
            capture_output=True,
            text=True,
            timeout=TIMEOUT_S,
            check=False,
            env=os.environ | {"PTR_BROKER": self.rig.broker, "PTR_DATABASE": self.rig.database},
        )

    def decide(
        self, word: str, payment_id: str, *more: str, tenant: str = "patient"
    ) -> subprocess.CompletedProcess[str]:
        return self.ptr("reviews", word, tenant, payment_id, "--by", "rita", "--reason", "looked at it", *more)


@pytest.fixture
def live(kafka: LocalKafka, tmp_path: Path) -> Iterator[Live]:
    """Two tenants: one gives its people days, one seconds."""
    with pipeline(kafka.address, tmp_path, a_load(1)) as rig:
        hasty = ReviewRules(hours=HASTY_S / 3600, at_expiry="approve")
        publish(
            rig.access,
            CODEC,
            [
                TenantRules(tenant="patient", pic="simulator", currencies=["EUR"]),
                TenantRules(tenant="hasty", pic="simulator", currencies=["EUR"], review=hasty),
            ],
        )
        worker = rig.worker("all")
        rig.audit_sink()
        rig.wait_ready()
        yield Live(rig, worker)


def test_a_person_approves_one_and_rejects_another(live: Live) -> None:
    """No outcome until the word; then the payment is paid, or blocked; a second word is told to come too late."""
    live.refer("good")
    live.refer("bad")
    listed = json.loads(live.ptr("reviews", "list", "--tenant", "patient", "--json").stdout)
    assert {review["payment_id"] for review in listed} == {"good", "bad"}
    assert live.ptr("reviews", "list", "--tenant", "hasty").stdout == "no payment waits for a review\n"
    assert live.outcomes("good") == live.outcomes("bad") == []
    approved = live.decide("approve", "good")
    assert (approved.returncode, "goes on" in approved.stdout) == (0, True), approved.stdout + approved.stderr
    assert live.decide("reject", "bad").returncode == 0
    assert live.outcome("good") == ("paid", "", False)
    assert live.outcome("bad") == ("blocked", "review_rejected", False)
    again = live.decide("reject", "good", "--stage", "screening")
    assert (again.returncode, "first decision counts" in again.stdout) == (1, True), again.stdout + again.stderr
    theirs = live.decide("approve", "good", "--stage", "screening", tenant="hasty")
    assert (theirs.returncode, "no review" in theirs.stdout) == (1, True)
    until("nobody waits", lambda: not live.waiting())
    status, body = live.worker.get("/tables/reviews/patient/good", TOKEN)
    assert status == 200
    (review,) = json.loads(body)["reviews"]
    assert (review["state"], review["by"]) == ("approved", "rita")
    assert "lackwood" not in body.decode().lower()
    told = json.loads(live.ptr("show", "patient", "good", "--json").stdout)
    steps = [(e["stage"], e["outcome"]) for e in told["events"] if e["outcome"] != "ignored"][:4]
    assert steps == [
        ("screening", "referred"),
        ("reviews", "referred"),
        ("reviews", "approved"),
        ("screening", "clear"),
    ]


def test_a_repeat_of_a_waiting_request_is_told_that_it_waits(live: Live) -> None:
    """The same ReviewOpened, marked; and the outcome, once, when there is one."""
    live.refer("twice")
    live.pay("twice", again=True)
    decode = CODEC.decoder(ReviewOpened)

    def told() -> list[ReviewOpened]:
        return [decode(message.value()) for message in read_all(live.rig.broker, topics.REVIEWS_OPENED.name)]

    until("the repeat is answered", lambda: len(told()) == 2)
    assert [event.repeat for event in told()] == [False, True]
    assert told()[0] == msgspec.structs.replace(told()[1], repeat=False)
    assert live.decide("approve", "twice").returncode == 0
    assert live.outcome("twice") == ("paid", "", False)


def test_time_decides_when_nobody_does_also_over_a_kill(live: Live) -> None:
    """The worker that owns the review dies while it waits; another one, that has its rows, ends it."""
    live.refer("forgotten", tenant="hasty")
    live.worker.kill()
    time.sleep(HASTY_S)
    assert live.outcomes("forgotten") == []
    live.worker.start()
    assert live.outcome("forgotten") == ("paid", "", False)
    late = live.decide("reject", "forgotten", "--stage", "screening", tenant="hasty")
    assert (late.returncode, "first decision counts" in late.stdout) == (1, True), late.stdout + late.stderr


def test_an_exception_spares_the_next_payment_and_nobody_else(live: Live) -> None:
    """Remembered with the approval; under another name, of another tenant, or withdrawn, the party is referred again."""
    live.refer("first")
    remembered = live.decide("approve", "first", "--remember", "30")
    assert remembered.returncode == 0, remembered.stderr
    (granted,) = json.loads(live.ptr("exceptions", "list", "--tenant", "patient", "--json").stdout)
    assert (granted["by"], granted["party_id"], granted["entry_id"]) == ("rita", "d1", "sample-1")
    assert "ingatius" not in json.dumps(granted).lower()
    time.sleep(EFFECTIVE_DELAY_MS / 1000 + 0.5)
    live.pay("second")
    assert live.outcome("second") == ("paid", "", False)
    decode = CODEC.decoder(PaymentScreened)
    events = [decode(message.value()) for message in read_all(live.rig.broker, topics.SCREENED.name)]
    (second,) = [event for event in events if event.payment_id == "second"]
    assert second.evidence is not None
    assert (second.outcome, second.reason) == ("clear", "exception_applied")
    assert second.evidence.exception_id.startswith("sample|sample-1|d1|")
    live.refer("other-name", name="BLACKWOOD, Ignatius Thorn")
    live.refer("other-tenant", tenant="hasty")
    removed = live.ptr(
        "exceptions", "remove", "patient", "sample", "sample-1", "d1", "--by", "rita", "--reason", "in error"
    )
    assert removed.returncode == 0, removed.stderr
    assert live.ptr("exceptions", "list", "--tenant", "patient").stdout == "no exception holds\n"
    time.sleep(EFFECTIVE_DELAY_MS / 1000 + 0.5)
    live.refer("third")
