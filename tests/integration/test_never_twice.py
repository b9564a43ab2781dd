"""Never twice, never lost, with counts read at the simulated PICs: repeats without end, kills around calls, a silent PIC."""

from __future__ import annotations

import os
import random
import threading
from pathlib import Path

import msgspec
import pytest

from connectors.broker.local import LocalKafka
from connectors.pic.distant import STEPS
from connectors.pic.ledger import SqliteLedger
from pipeline import topics
from pipeline.bench import bulkhead, chaos_calls, plugin
from pipeline.bench.load import poster
from pipeline.bench.recount import read_all
from schemas.codec import Codec
from schemas.identity import payment_key
from schemas.records import PaymentCompleted, PaymentRequested
from tests.integration.live import a_load, completed, empty, pipeline, until

pytestmark = pytest.mark.kafka

POSTS, PRODUCERS = 10_000, 8


def post_again_and_again(address: str, request: PaymentRequested, posts: int) -> None:
    """One producer, one request, many times."""
    producer, value = poster(address, linger_ms=1), Codec().encoder(PaymentRequested)(request)
    for _ in range(posts):
        producer.produce(topics.REQUESTED.name, value, payment_key(request.tenant, request.payment_id))
        producer.poll(0)
    assert producer.flush(60) == 0


def test_one_payment_posted_ten_thousand_times(kafka: LocalKafka, tmp_path: Path) -> None:
    """By eight producers at once, before, while and after it is decided: one call, one charge, one outcome; whoever is told it
    again is told that it is a repeat."""
    load = a_load(1)
    with pipeline(kafka.address, tmp_path, load) as rig:
        rig.worker("one")
        rig.wait_ready()
        share = (kafka.address, load.payment(0), POSTS // PRODUCERS)
        producers = [threading.Thread(target=post_again_and_again, args=share) for _ in range(PRODUCERS)]
        for producer in producers:
            producer.start()
        for producer in producers:
            producer.join()
        assert rig.count(topics.REQUESTED.name) == POSTS
        until("every repeat is known as one", lambda: rig.count(topics.ENDED.name) >= POSTS - 1)
        until("it has its outcome", lambda: completed(rig) > 0)
        rig.stop()
        decode = Codec().decoder(PaymentCompleted)
        outcomes = [decode(message.value()) for message in read_all(kafka.address, topics.COMPLETED.name)]
        counts = [rig.count(topic.name) for topic in (topics.ENDED, topics.SCORED, topics.queue("simulator"))]
    print(f"{len(outcomes)} outcomes told, {sum(not told.repeat for told in outcomes)} of them the first")
    assert counts == [POSTS - 1, 1, 1]
    assert [told.outcome for told in outcomes if not told.repeat] == ["paid"]
    # The same answer each time; when a stage took what it answers is of this telling.
    told_same = {msgspec.structs.replace(told, repeat=False, taken_at_ms=0) for told in outcomes}
    assert told_same == {msgspec.structs.replace(outcomes[0], repeat=False, taken_at_ms=0)}
    ledger = SqliteLedger(tmp_path / "pic.db")
    entries = ledger.entries()
    ledger.close()
    assert {key: (entry.calls, entry.charges) for key, entry in entries.items()} == {"bench0|pay_000000000|1": (1, 1)}


@pytest.mark.chaos
def test_kills_around_calls_charge_nobody_twice(kafka: LocalKafka, tmp_path: Path) -> None:
    """At PICs that deduplicate, only look up, or do neither. PTR_CHAOS_SEED repeats a run; `ptr chaos --pic-calls 200` is the
    long one."""
    seed = int(os.environ.get("PTR_CHAOS_SEED") or random.SystemRandom().randrange(1_000_000))
    print(f"PTR_CHAOS_SEED={seed}")
    empty(kafka.address)
    report = chaos_calls.run(kafka.address, tmp_path, kills=9, seed=seed, patience_s=60.0, say=print)
    print("\n".join(report.words()))
    assert report.mistakes == [], f"PTR_CHAOS_SEED={seed}"
    assert sum(report.kills.values()) == 9
    assert sum(at.asked_later for at in report.pics.values()) <= 0.01 * report.payments, report
    repeats, asks, neither = (report.pics[pic] for pic in chaos_calls.CAN)
    # The kills did hit: every step, and each PIC in the way that it has to find out.
    for step in STEPS:
        assert sum(at.interrupted[step] for at in report.pics.values()) > 0, report
    assert repeats.called_again > 0 and repeats.lookups == 0
    assert asks.lookups > 0 and asks.called_again == 0
    assert (neither.called_again, neither.lookups) == (0, 0) and neither.waiting > 0


@pytest.mark.chaos
def test_a_silent_pic_holds_up_nobody_else(kafka: LocalKafka, tmp_path: Path) -> None:
    """Payments of another PIC get their outcomes meanwhile, those that may fail over do, and all are charged once in the end.
    Counts only: `ptr bench bulkhead` has the times."""
    empty(kafka.address)
    found = bulkhead.measure(
        kafka.address,
        tmp_path,
        silent_s=10.0,
        before_s=5.0,
        window_s=2.5,
        warm_up_s=5.0,
        rate=90.0,
        until_moved=200,
        patience_s=60.0,
        say=print,
    )
    print(found)
    assert (found["without_outcome"], found["not_paid"]) == (0, 0)
    assert (found["charged_more_than_once"], found["charged_not_at_all"]) == (0, 0)
    for arrangement in ("elsewhere", "onto"):
        assert found[arrangement]["during"]["counted"] > 100
        assert found[arrangement]["failed_over"] > 0
    assert found["failed_over"] >= 200
    assert found["asked_later"] <= 0.1 * found["payments"]


def test_a_long_queue_is_called_once_each(kafka: LocalKafka, tmp_path: Path) -> None:
    """3,000 intents for a PIC that takes its time: a call each. `ptr bench plugin` has the times."""
    empty(kafka.address)
    found = plugin.measure(kafka.address, tmp_path, payments=3_000, takes_s=0.02, say=print)
    print(found)
    assert (found["calls"], found["called_more_than_once"]) == (3_000, 0)
