"""Known parties are screened again when a list changes, and a worker is killed in the middle of it."""

from __future__ import annotations

import json
import signal
import time
from collections import Counter
from pathlib import Path

import msgspec
import pytest
from confluent_kafka import Consumer, Producer, TopicPartition

from connectors.broker.follow import consumer_config
from connectors.broker.local import LocalKafka
from connectors.sinks.database import open_database
from pipeline import topics
from pipeline.bench.recount import read_all
from schemas.codec import Codec
from schemas.identity import payment_key
from schemas.records import PartyFlagged
from tests.builders import a_request
from tests.integration.live import TOKEN, a_load, until, working
from tests.integration.test_lists_live import CLEAN, END, LISTING, PAYER, Live

pytestmark = pytest.mark.kafka

CODEC = Codec()
#: Payers, all with the name that the second list has; as many that a kill comes in the middle.
PARTIES = 3000


def post(broker: str, first: int, count: int) -> None:
    """Payments by payers of their own to one payee."""
    producer = Producer({"bootstrap.servers": broker, "linger.ms": 20})
    for number in range(first, first + count):
        request = a_request(
            tenant="bench0",
            payment_id=f"pay-{number}",
            debtor_id=f"party-{number}",
            debtor_name=f"{PAYER}",
            requested_at_ms=int(time.time() * 1000),
        )
        producer.produce(topics.REQUESTED.name, CODEC.encode(request), payment_key("bench0", request.payment_id))
        producer.poll(0)
    assert producer.flush(30) == 0


def wait_for_the_first_flag(broker: str) -> None:
    """Return at once when anybody is flagged."""
    consumer = Consumer(consumer_config(broker) | {"fetch.wait.max.ms": 5})
    try:
        partitions = consumer.list_topics(topics.PARTIES_FLAGGED.name, timeout=10).topics[topics.PARTIES_FLAGGED.name]
        consumer.assign([TopicPartition(topics.PARTIES_FLAGGED.name, each, 0) for each in partitions.partitions])
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            message = consumer.poll(0.5)
            if message is not None and message.error() is None:
                return
    finally:
        consumer.close()
    raise AssertionError("nobody was flagged within a minute")


def flagged(broker: str) -> list[PartyFlagged]:
    return [CODEC.decode(message.value(), PartyFlagged) for message in read_all(broker, topics.PARTIES_FLAGGED.name)]


def test_a_worker_killed_in_the_middle_flags_each_party_once(kafka: LocalKafka, tmp_path: Path) -> None:
    """Every known payer that the new list names has one hit by id, with one content, in the topic, in the audit table and in
    `ptr lists hits`, whatever the kill made happen twice; those who pay later are blocked and not flagged."""
    with working(kafka.address, tmp_path, a_load(1), "all") as (rig, (worker,)):
        live = Live(rig, tmp_path, worker)
        live.take(CLEAN + END)
        until("the first list is in force", lambda: live.metric("ptr_list_entries") != [], pause_s=0.2)
        time.sleep(10.5)
        post(rig.broker, 0, PARTIES)
        until("all payments are screened", lambda: len(live.screened()) >= PARTIES, pause_s=0.5)
        assert {event.outcome for event in live.screened()} == {"clear"}
        rescreened = sum(float(line.split()[1]) for line in live.metric("ptr_parties_rescreened_total"))
        assert flagged(rig.broker) == []

        version = live.take(LISTING + END)
        wait_for_the_first_flag(rig.broker)
        worker.kill(signal.SIGKILL)
        early = len(flagged(rig.broker))
        assert 0 < early < PARTIES, "the kill was to come in the middle"
        print(f"killed after {early} of {PARTIES} hits; {rescreened:.0f} parties were screened again before")
        worker.start()
        rig.wait_ready()
        post(rig.broker, PARTIES, 20)

        def unique() -> Counter[str]:
            return Counter({event.party_id: 1 for event in flagged(rig.broker)})

        until("every payer is flagged", lambda: len(unique()) >= PARTIES, pause_s=0.5)
        until("the later ones are screened", lambda: len(live.screened()) >= PARTIES + 20, pause_s=0.2)
        until(
            "rescreening has ended",
            lambda: live.metric("ptr_rescreening_partitions") == ["ptr_rescreening_partitions 0.0"],
        )
        events = flagged(rig.broker)
        assert {event.party_id for event in events} == {f"party-{number}" for number in range(PARTIES)}
        assert {(event.list, event.version, event.entry_id) for event in events} == {("ofac", version, "12")}
        assert len({msgspec.json.encode(event) for event in events}) == PARTIES, "a repeat says what the first one said"
        repeats = len(events) - PARTIES
        assert repeats < PARTIES - early, "what was recorded before the kill is not done again"
        print(f"{repeats} hits are in the topic twice")

        database = open_database(rig.database)
        try:

            def audited() -> int:
                query = "SELECT count(*) FROM payment_events WHERE stage = 'parties'"
                return int(database.query(query)[0][0])

            until("every hit is audited", lambda: audited() >= PARTIES, pause_s=0.2)
            time.sleep(1.0)
            assert audited() == PARTIES
        finally:
            database.close()
        shown = live.ptr("hits", "--tenant", "bench0", "--json", "--limit", "100000")
        assert shown.returncode == 0, shown.stderr
        assert len(json.loads(shown.stdout)) == PARTIES
        assert PAYER not in shown.stdout
        short = live.ptr("hits", "--list", "ofac", "--limit", "3")
        assert short.stdout.splitlines()[-1] == f"{PARTIES} hits, the newest 3 are shown"
        assert live.ptr("hits", "--tenant", "nobody").stdout == "0 hits\n"
        status, _ = worker.get("/tables/parties/bench0/party-1", TOKEN)
        assert status == 200
