"""Tenants' configurations change while the pipeline runs."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from confluent_kafka import Producer

from connectors.broker.local import LocalKafka
from pipeline import topics
from pipeline.bench.recount import read_all
from pipeline.rig import FRAUD, FRONT, Rig
from schemas.codec import Codec
from schemas.identity import payment_key
from schemas.records import PaymentCompleted, PaymentLocalized, PaymentScored, PaymentScreened
from tests.builders import a_request
from tests.integration.live import TIMEOUT_S, a_load, completed, pipeline, until

pytestmark = pytest.mark.kafka

WIDE = "tenant: bench0\npic: simulator\ncurrencies: [EUR]\n"
NARROW = "tenant: bench0\npic: simulator\ncurrencies: [USD]\n"


@dataclass
class Live:
    """A running pipeline with two worker groups."""

    rig: Rig
    folder: Path
    posted: int = 0
    at_ms: dict[str, int] = field(default_factory=dict)

    def pay(self, name: str) -> None:
        """Post a payment of 12.50 EUR."""
        request = a_request(
            tenant="bench0", payment_id=name, requested_at_ms=self.at_ms.setdefault(name, int(time.time() * 1000))
        )
        producer = Producer({"bootstrap.servers": self.rig.broker, "linger.ms": 0})
        producer.produce(topics.REQUESTED.name, Codec().encode(request), payment_key("bench0", name))
        assert producer.flush(30) == 0
        self.posted += 1

    def outcome(self, name: str) -> PaymentCompleted:
        """Wait for its outcome."""
        until(f"{name} has its outcome", lambda: completed(self.rig) >= self.posted, pause_s=0.01)
        return next(event for event in self.events(topics.COMPLETED.name, PaymentCompleted) if event.payment_id == name)

    def events(self, topic: str, kind: type) -> list:  # type: ignore[type-arg]
        """Every event of a topic."""
        decode = Codec().decoder(kind)
        return [decode(message.value()) for message in read_all(self.rig.broker, topic)]

    def apply(self, text: str) -> subprocess.CompletedProcess[str]:
        """``ptr tenants apply`` as a user runs it."""
        file = self.folder / "tenants.yaml"
        file.write_text(text)
        return subprocess.run(
            [sys.executable, "-m", "pipeline.cli", "tenants", "apply", str(file), "--broker", self.rig.broker],
            capture_output=True,
            text=True,
            timeout=TIMEOUT_S,
            check=False,
            env=dict(os.environ),
        )


@pytest.fixture
def live(kafka: LocalKafka, tmp_path: Path) -> Iterator[Live]:
    """A pipeline whose tenants take EUR."""
    with pipeline(kafka.address, tmp_path, a_load(1)) as rig:
        rig.worker("front", FRONT)
        rig.worker("fraud", FRAUD)
        rig.wait_ready()
        yield Live(rig, tmp_path)


def test_a_new_configuration_decides_soon_and_earlier_decisions_keep_their_version(live: Live) -> None:
    """EUR is taken, then not; the change is in force on running workers, and every event says which version decided."""
    live.pay("before")
    before = live.outcome("before")
    assert (before.outcome, before.rule_version) == ("paid", 1)
    applied = live.apply(NARROW)
    assert applied.returncode == 0, applied.stderr
    returned_ms = time.time() * 1000
    number = 0

    def changed() -> bool:
        nonlocal number
        number += 1
        live.pay(f"poll-{number}")
        return any(e.rule_version == 2 for e in live.events(topics.COMPLETED.name, PaymentCompleted))

    until("a payment is decided by version 2", changed, pause_s=0.1)
    until("all have their outcome", lambda: completed(live.rig) >= live.posted)
    seen = live.outcome(f"poll-{number}")
    screened = live.events(topics.SCREENED.name, PaymentScreened)
    by_version = {v: [e.received_at_ms for e in screened if e.rule_version == v] for v in (1, 2)}
    # By the time of receipt, and on both sides of one moment: no payment after it is decided by the old version.
    assert max(by_version[1]) <= min(by_version[2])
    print(f"in force {(min(by_version[2]) - returned_ms) / 1000:.2f} s after 'ptr tenants apply' returned")
    # Version and decision change together, never one without the other.
    for event in live.events(topics.COMPLETED.name, PaymentCompleted):
        assert (event.outcome, event.rule_version) in {("paid", 1), ("rejected", 2)}, event
    assert (seen.outcome, seen.reason, seen.rule_version) == ("rejected", "currency_not_allowed", 2)
    for topic, kind in (
        (topics.SCREENED.name, PaymentScreened),
        (topics.LOCALIZED.name, PaymentLocalized),
        (topics.SCORED.name, PaymentScored),
    ):
        versions = {event.payment_id: event.rule_version for event in live.events(topic, kind)}
        assert versions["before"] == 1, topic
    assert {e.payment_id: e.rule_version for e in live.events(topics.LOCALIZED.name, PaymentLocalized)}[
        f"poll-{number}"
    ] == 2
    # The same payment again: its first answer, by the version of then.
    live.pay("before")
    until("the repeat is answered", lambda: completed(live.rig) >= live.posted)
    answers = [e for e in live.events(topics.COMPLETED.name, PaymentCompleted) if e.payment_id == "before"]
    assert {(e.outcome, e.rule_version) for e in answers} == {("paid", 1)}


@pytest.mark.parametrize(
    ("mistake", "named"),
    [
        ("tenant: bench1\npic: simulator\ncurrencies: [EUR, XXZ]\n", "currencies"),
        ("tenant: bench1\npic: simulator\ncurrencies: [EUR]\ncolour: red\n", "colour"),
        ("tenant: bench1\npic: nobody\ncurrencies: [EUR]\n", "pic"),
        ("tenant: bench1\npic: [\n", "tenants.yaml"),
    ],
)
def test_a_file_with_a_mistake_is_refused_whole(live: Live, mistake: str, named: str) -> None:
    """The good tenant before the bad one is not published either; line and field are named; decisions stay."""
    ends = tenants_end(live.rig)
    refused = live.apply(f"{NARROW}---\n{mistake}")
    assert refused.returncode != 0
    assert named in refused.stderr and "Traceback" not in refused.stderr, refused.stderr
    assert any(char.isdigit() for char in refused.stderr.split("tenants.yaml", 1)[-1]), refused.stderr
    assert tenants_end(live.rig) == ends
    live.pay("after")
    assert (live.outcome("after").outcome, live.outcome("after").rule_version) == ("paid", 1)


def tenants_end(rig: Rig) -> int:
    """Records in the tenants topic, and transaction markers."""
    from tests.integration.kafka import ends

    return sum(ends(rig.broker, topics.TENANTS.name).values())
