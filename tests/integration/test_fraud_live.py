"""A fraud rule is snoozed for a payer while the pipeline runs, and the report tells what became of the payments."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from confluent_kafka import Producer

from connectors.broker.local import LocalKafka
from connectors.sinks.database import open_database
from connectors.snoozes.topic import snooze_key
from pipeline import topics
from pipeline.bench.recount import read_all
from pipeline.rig import Rig
from schemas.codec import Codec
from schemas.identity import payee_key, payment_key
from schemas.records import ChargebackReceived, PaymentScored, RuleSnoozed
from tests.builders import a_request
from tests.integration.live import TIMEOUT_S, TOKEN, a_load, completed, until, working

pytestmark = pytest.mark.kafka

CODEC = Codec()
TENANT = "bench0"
#: Declines everything.
STRICT = f"""
tenant: {TENANT}
pic: simulator
currencies: [EUR]
fraud:
  rules:
    payee_burst_1h: {{weight: 1, thresholds: {{count_max: 0}}}}
"""
#: What comes in for payers is looked at.
WATCHED = f"""
tenant: {TENANT}
pic: simulator
currencies: [EUR]
fraud:
  rules:
    fast_in_out_1d: {{thresholds: {{amount_minor_max: 1000, share_bp_min: 0}}}}
"""
WHOM = ("--tenant", TENANT, "--payer", "regular", "--rule", "payee_burst_1h", "--by", "mo", "--reason", "a fair")


def ptr(rig: Rig, *arguments: str, broker: bool = True) -> str:
    """``ptr ARGUMENTS`` as a user runs it."""
    done = subprocess.run(
        [sys.executable, "-m", "pipeline.cli", *arguments, *(("--broker", rig.broker) if broker else ())],
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
        env=dict(os.environ),
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def put(rig: Rig, topic: str, value: bytes, key: bytes) -> None:
    """Post a record."""
    producer = Producer({"bootstrap.servers": rig.broker, "linger.ms": 0})
    producer.produce(topic, value, key)
    assert producer.flush(30) == 0


def pay(rig: Rig, name: str, debtor_id: str, **named: str) -> None:
    """Post a payment of 12.50 EUR."""
    now_ms = int(time.time() * 1000)
    request = a_request(tenant=TENANT, payment_id=name, debtor_id=debtor_id, requested_at_ms=now_ms, **named)
    put(rig, topics.REQUESTED.name, CODEC.encode(request), payment_key(TENANT, name))


def scored(rig: Rig) -> dict[str, PaymentScored]:
    """What fraud said of each payment."""
    decode = CODEC.decoder(PaymentScored)
    return {(e := decode(message.value())).payment_id: e for message in read_all(rig.broker, topics.SCORED.name)}


def test_a_snooze_is_in_force_on_running_workers_and_told_by_the_report(kafka: LocalKafka, tmp_path: Path) -> None:
    """Declined, snoozed, paid, ended, declined again; others are declined throughout; audit tables and report say it all."""
    with working(kafka.address, tmp_path, a_load(1), "all") as (rig, _):
        file = tmp_path / "strict.yaml"
        file.write_text(STRICT)
        ptr(rig, "tenants", "apply", str(file))
        posted = 0

        def paying(outcome: str) -> bool:
            nonlocal posted
            posted += 1
            pay(rig, f"p{posted}", "regular")
            until("it has its outcome", lambda: completed(rig) >= posted)
            return scored(rig)[f"p{posted}"].outcome == outcome

        until("the strict rules are in force", lambda: paying("declined"), pause_s=0.3)
        ptr(rig, "fraud", "snooze", "add", *WHOM, "--until", "1d")
        took_s = until("the snooze is in force", lambda: paying("approved"), pause_s=0.3)
        print(f"in force {took_s:.1f} s after 'ptr fraud snooze add' returned")
        ((hit,),) = [scored(rig)[f"p{posted}"].rule_hits]
        assert (hit.rule, hit.weight, hit.snoozed) == ("payee_burst_1h", 0.0, True)
        pay(rig, "other", "stranger")
        posted += 1
        until("it has its outcome", lambda: completed(rig) >= posted)
        assert scored(rig)["other"].outcome == "declined"
        ptr(rig, "fraud", "snooze", "remove", *WHOM)
        until("the snooze has ended", lambda: paying("declined"), pause_s=0.3)

        chargeback = ChargebackReceived(
            tenant=TENANT,
            payment_id="other",
            creditor_id="c1",
            terminal_id="term-1",
            amount_minor=1250,
            currency="EUR",
            paid_at_ms=int(time.time() * 1000) - 1_000,
            charged_back_at_ms=int(time.time() * 1000),
        )
        put(rig, topics.CHARGEBACKS.name, CODEC.encode(chargeback), payee_key(TENANT, "c1", "term-1"))
        database = open_database(rig.database)
        try:
            until(
                "everything is in the audit tables",
                lambda: (
                    database.query("SELECT COUNT(*) FROM payment_events WHERE stage = 'chargeback'")[0][0] == 1
                    and database.query("SELECT COUNT(*) FROM payments WHERE outcome IS NOT NULL")[0][0] == posted
                ),
            )
            told = database.query(
                "SELECT tenant, outcome, reason FROM payment_events WHERE stage = 'fraud' ORDER BY event_id"
            )
        finally:
            database.close()
        assert told == [(TENANT, "snoozed", "payee_burst_1h"), (TENANT, "snooze_ended", "payee_burst_1h")]
        arguments = (
            "fraud",
            "report",
            "--tenant",
            TENANT,
            "--database",
            rig.database,
            "--no-drift",
            "--format",
            "json",
        )
        report = json.loads(ptr(rig, *arguments, broker=False))
        events = scored(rig).values()
        assert report["total"]["payments"] == posted == len(events)
        assert report["total"]["alerts"]["declined"] == sum(e.outcome == "declined" for e in events)
        assert (report["total"]["frauds"], report["total"]["caught"]) == (1, 1)
        (rule,) = [each for each in report["rules"] if each["rule"] == "payee_burst_1h"]
        assert rule["snoozed"] == sum(hit.snoozed for e in events for hit in e.rule_hits) > 0


def test_money_that_comes_in_and_goes_on_is_seen_and_a_snooze_in_vain_is_counted(
    kafka: LocalKafka, tmp_path: Path
) -> None:
    """Paid to an account, paid on by it: its payment says so once settlement has told; the worker's metric says that a snoozed
    rule is none."""
    with working(kafka.address, tmp_path, a_load(1), "all") as (rig, (worker,)):
        file = tmp_path / "watched.yaml"
        file.write_text(WATCHED)
        ptr(rig, "tenants", "apply", str(file))
        posted = 0

        def seen() -> bool:
            nonlocal posted
            posted += 2
            pay(rig, f"in{posted}", "victim", creditor_id="mule", terminal_id="")
            pay(rig, f"out{posted}", "mule", creditor_id="behind", terminal_id="")
            until("they have their outcomes", lambda: completed(rig) >= posted)
            return [hit.rule for hit in scored(rig)[f"out{posted}"].rule_hits] == ["fast_in_out_1d"]

        until("what comes in is seen to go on", seen, pause_s=0.3)
        assert "fast_in_out_1d" not in [
            hit.rule for e in scored(rig).values() for hit in e.rule_hits if e.debtor_id == "victim"
        ]

        gone = RuleSnoozed(
            tenant=TENANT, debtor_id="mule", rule="gone", until_ms=2**41, by="mo", reason="a fair", decided_at_ms=2**40
        )
        put(rig, topics.SNOOZES.name, CODEC.encode(gone), snooze_key(TENANT, "mule", "gone"))
        ignored = b'ptr_fraud_snoozes_ignored_total{why="unknown_rule"} 1.0'
        until("it is counted", lambda: ignored in worker.get("/metrics", TOKEN)[1])
