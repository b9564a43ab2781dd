"""The notifications' endpoint as PICs, proxies and forgers ask it: agents/notifications.py over an embedded broker."""

from __future__ import annotations

import asyncio
import json
import socket
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from click.testing import CliRunner
from confluent_kafka import Consumer, TopicPartition

from agents import notifications as module
from agents.notifications import BODY_BYTES_MAX, IN_FLIGHT_MAX, news_of, served
from connectors.broker.awaited import AwaitedPoster
from connectors.broker.embedded import EmbeddedBroker
from connectors.broker.one import PostError
from connectors.pic.base import Answer, Notified
from connectors.pic.calls import Pic
from connectors.pic.ledger import MemoryLedger
from connectors.pic.registry import make_pic
from connectors.pic.simulator import Simulator
from pipeline import topics
from pipeline.commands.notifications import notifications
from schemas.codec import Codec
from schemas.identity import partition_of
from schemas.records import PaymentNotified
from tests.notices import SECRET, Endpoint, endpoint, simulator_notice, stripe_notice
from tests.stripe_objects import INTENT

TOPICS = (topics.NOTIFIED.name,)
CODEC = Codec()


def pics() -> dict[str, Pic]:
    key = {"api_key": "sk_test_1", "webhook_secret": SECRET}
    return {
        "simulator": Simulator("simulator", MemoryLedger(), notification_secret=SECRET),
        "mute": Simulator("mute", MemoryLedger()),
        "stripe": make_pic("stripe", settings=key),
    }


@dataclass
class Kept:
    """A poster that keeps what is posted; it may be away, and it may take its time."""

    posted: list[tuple[bytes, bytes]] = field(default_factory=list)
    why: str = ""
    gate: threading.Event | None = None

    async def post(self, value: bytes, key: bytes) -> None:
        if self.gate is not None:
            await asyncio.to_thread(self.gate.wait, 30)
        if self.why:
            raise PostError(self.why)
        self.posted.append((value, key))

    def trouble(self, timeout_s: float) -> str:
        return self.why

    def records(self) -> list[PaymentNotified]:
        return [CODEC.decode(value, PaymentNotified) for value, _ in self.posted]


@pytest.fixture
def kept() -> Kept:
    return Kept()


@pytest.fixture
def there(kept: Kept) -> Iterator[Endpoint]:
    with endpoint(pics(), kept) as running:
        yield running


def now_s() -> int:
    return int(time.time())


def test_what_a_pic_tells_is_in_kafka_when_it_is_answered(broker: str) -> None:
    """The simulator's and Stripe's, signed; under the payment's key, in its partition."""
    poster = AwaitedPoster(broker, topics.NOTIFIED.name)
    poster.start()
    try:
        with endpoint(pics(), poster) as running:
            body, headers = simulator_notice("acme|p1|1", "succeeded", now_s(), pic_reference="sim-1")
            assert running.post("/notifications/simulator", body, headers) == (200, {"published": 1})
            (first,) = read(broker, 1)
            body, headers = stripe_notice(INTENT, "payment_intent.succeeded", now_s())
            assert running.post("/notifications/stripe", body, headers) == (200, {"published": 1})
            assert running.ask("/ready", method="GET")[:2] == (200, {"ready": True, "pics": ["simulator", "stripe"]})
        told = {record.pic: record for record in read(broker, 2)}
    finally:
        poster.close()
    assert first == told["simulator"]
    for pic, reference in (("simulator", "sim-1"), ("stripe", "pi_1")):
        record = told[pic]
        assert (record.source, record.who, record.outcome, record.reason) == ("pic", "", "paid", "")
        assert (record.tenant, record.operation_id, record.attempt, record.pic_reference) == ("acme", "", 1, reference)


def read(broker: str, number: int) -> list[PaymentNotified]:
    consumer = Consumer({"bootstrap.servers": broker, "group.id": "g"})
    try:
        consumer.assign([TopicPartition(topics.NOTIFIED.name, partition, 0) for partition in range(4)])
        found = []
        deadline = time.monotonic() + 30
        while len(found) < number:
            assert time.monotonic() < deadline
            for message in consumer.consume(10, timeout=0.2):
                record = CODEC.decode(message.value(), PaymentNotified)
                assert message.key() == f"{record.tenant}|{record.payment_id}".encode()
                assert message.partition() == partition_of(message.key(), 4)
                found.append(record)
        return found
    finally:
        consumer.close()


def test_a_broker_that_goes_away_is_503_and_nothing_is_claimed() -> None:
    """The sender keeps it, and sends it again."""
    with EmbeddedBroker() as broker:
        poster = AwaitedPoster(broker.address, topics.NOTIFIED.name, delivery_timeout_s=1.0)
        poster.start()
        try:
            with endpoint(pics(), poster) as running:
                body, headers = simulator_notice("acme|p1|1", "succeeded", now_s())
                assert running.post("/notifications/simulator", body, headers)[0] == 200
                broker.stop()
                status, answer, more = running.ask("/notifications/simulator", body, headers)
                assert (status, answer) == (503, {"error": "Kafka did not take it: send it again"})
                assert more["Retry-After"] == "2"
                assert running.ask("/ready", method="GET")[0] == 503
                assert running.ask("/live", method="GET")[0] == 200
                assert running.registry.get_sample_value("ptr_ready") == 0
        finally:
            poster.close()


@pytest.mark.parametrize(
    ("change", "expected", "result"),
    [
        ({"secret": "another"}, 401, "bad_signature"),
        ({"now_s": -301}, 401, "replayed"),
        ({"now_s": 301}, 401, "replayed"),
        ({"header": ""}, 401, "bad_signature"),
        ({"body": b"{}"}, 401, "bad_signature"),
    ],
)
def test_what_proves_nothing_is_refused(
    change: dict[str, object], expected: int, result: str, there: Endpoint, kept: Kept
) -> None:
    """By the simulator's plugin and by Stripe's, with the same words; nothing is published."""
    at_s = now_s() + int(change.get("now_s", 0))  # type: ignore[call-overload]
    secret = str(change.get("secret", SECRET))
    for pic, (body, headers) in (
        ("simulator", simulator_notice("acme|p1|1", "succeeded", at_s, secret=secret)),
        ("stripe", stripe_notice(INTENT, "payment_intent.succeeded", at_s, secret)),
    ):
        given = {} if "header" in change else headers
        status, answer = there.post(f"/notifications/{pic}", change.get("body", body), given)  # type: ignore[arg-type]
        assert (status, there.counted(pic, result)) == (expected, 1)
        assert SECRET not in str(answer) and "acme" not in str(answer) and len(answer["error"]) > 20
    assert kept.posted == []


def test_what_is_signed_and_rubbish_is_400(there: Endpoint, kept: Kept) -> None:
    """It is the PIC's, and cannot be read."""
    from connectors.pic.simulator_notices import signed

    body = b'{"not": "an event"}'
    assert there.post("/notifications/simulator", body, signed(body, SECRET, now_s()).headers)[0] == 400
    assert there.counted("simulator", "malformed") == 1 and kept.posted == []


@pytest.mark.parametrize(
    "path", ["/notifications/nobody", "/notifications/mute", "/notifications/", "/", "/notifications/a%7Cb"]
)
def test_who_is_not_served_is_not_there(path: str, there: Endpoint, kept: Kept) -> None:
    """A PIC without a secret is no other than one that is not there."""
    body, headers = simulator_notice("acme|p1|1", "succeeded", now_s(), secret="")
    status, answer = there.post(path, body, headers)
    assert status == 404 and "error" in answer and kept.posted == []


def test_only_posts_notify(there: Endpoint) -> None:
    """In words, and with what is allowed."""
    status, answer, headers = there.ask("/notifications/simulator", method="GET")
    assert (status, headers["Allow"]) == (405, "POST") and "error" in answer
    assert headers["Cache-Control"] == "no-store" and headers["X-Content-Type-Options"] == "nosniff"


def test_a_body_has_an_end(there: Endpoint, kept: Kept) -> None:
    """Said or sent, plain or to be inflated: it is not read."""
    assert there.post("/notifications/simulator", b" " * (BODY_BYTES_MAX + 1))[0] == 413
    assert there.counted("simulator", "too_large") == 1
    import gzip

    body, headers = simulator_notice("acme|p1|1", "succeeded", now_s())
    packed = gzip.compress(body)
    assert there.post("/notifications/simulator", packed, headers | {"Content-Encoding": "gzip"})[0] == 401
    assert kept.posted == []


def test_a_body_that_does_not_come_is_not_waited_for(kept: Kept) -> None:
    """Who sends a byte a minute holds a place for a moment only."""
    with (
        endpoint(pics(), kept, body_timeout_s=0.2) as there,
        socket.create_connection(("127.0.0.1", there.port)) as slow,
    ):
        slow.settimeout(10)
        slow.sendall(b"POST /notifications/simulator HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{")
        assert b" 408 " in slow.recv(4096).split(b"\r\n")[0]
        assert there.counted("simulator", "slow") == 1


def test_what_is_in_hand_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """One more is told to come again; afterwards there is room."""
    monkeypatch.setattr(module, "IN_FLIGHT_MAX", 3)
    assert IN_FLIGHT_MAX * BODY_BYTES_MAX <= 64 << 20
    kept = Kept(gate=threading.Event())
    assert kept.gate is not None
    with endpoint(pics(), kept) as there:
        answers: list[int] = []

        def send(number: int) -> None:
            body, headers = simulator_notice(f"acme|p{number}|1", "succeeded", now_s())
            answers.append(there.post("/notifications/simulator", body, headers)[0])

        threads = [threading.Thread(target=send, args=(number,)) for number in range(8)]
        for thread in threads:
            thread.start()
        deadline = time.monotonic() + 20
        while len(answers) < 5:
            assert time.monotonic() < deadline
            time.sleep(0.01)
        assert answers == [503] * 5 and there.counted("simulator", "busy") == 5
        kept.gate.set()
        for thread in threads:
            thread.join(20)
        assert sorted(answers) == [200] * 3 + [503] * 5
        send(9)
        assert answers[-1] == 200


def test_a_repeat_is_the_same_event(there: Endpoint, kept: Kept) -> None:
    """It may be published twice: readers know it by its id. Another attempt in one event is another one."""
    for _ in range(2):
        body, headers = simulator_notice("acme|p1|1", "succeeded", now_s())
        assert there.post("/notifications/simulator", body, headers)[0] == 200
    first, again = kept.records()
    assert first.event_id == again.event_id
    told = Notified(event_id="evt-1", attempt_id="acme|p1|2", answer=Answer("succeeded"), occurred_at_ms=1)
    other = news_of("simulator", told)
    assert other is not None and other.event_id != first.event_id


@pytest.mark.parametrize(
    ("attempt_id", "outcome"),
    [
        ("acme|p1|1", "pending"),
        ("acme|p1|1", "unsent"),
        ("somebody else's", "succeeded"),
        ("acme|p1|0", "succeeded"),
        ("", "succeeded"),
    ],
)
def test_what_is_no_news_is_taken_and_dropped(attempt_id: str, outcome: str, there: Endpoint, kept: Kept) -> None:
    """It is rightly signed, so sending it again would change nothing. That nothing was sent is a person's word only."""
    body, headers = simulator_notice(attempt_id, outcome, now_s())
    assert there.post("/notifications/simulator", body, headers) == (200, {"published": 0})
    assert there.counted("simulator", "no_news") == 1 and kept.posted == []


def test_news_hold_what_was_told() -> None:
    """Of an operation's attempt, with decline and action; an event id of any length fits into an audit row."""
    answer = Answer("declined", "expired_card", "re_1", retry="elsewhere")
    told = Notified(event_id="e" * 500, attempt_id="acme|p1|r1|2", answer=answer, occurred_at_ms=7)
    news = news_of("stripe", told)
    assert news is not None
    assert (news.operation_id, news.attempt, news.outcome, news.reason) == ("r1", 2, "declined", "expired_card")
    assert (news.retry, news.pic_reference, news.occurred_at_ms) == ("elsewhere", "re_1", 7)
    assert len(news.event_id) < 100
    act = Notified(
        event_id="e",
        attempt_id="acme|p1|1",
        answer=Answer("requires_action", action_url="https://acs.example/1"),
        occurred_at_ms=7,
    )
    news = news_of("stripe", act)
    assert news is not None and (news.outcome, news.action_url) == ("requires_action", "https://acs.example/1")


def test_unsigned_notifications_are_served_by_nobody() -> None:
    """Not even as a hint."""
    import msgspec

    every = pics()
    unsigned = Simulator("open", MemoryLedger(), notification_secret=SECRET)
    unsigned.abilities = msgspec.structs.replace(unsigned.abilities, notifications="unsigned")
    assert sorted(served(every | {"open": unsigned})) == ["simulator", "stripe"]


def test_a_plugin_that_fails_is_500_and_says_nothing(kept: Kept) -> None:
    """Its exception may hold anything."""

    class Broken(Simulator):
        def parse_notification(self, notice: object) -> list[Notified]:
            raise RuntimeError(SECRET)

    with endpoint({"simulator": Broken("simulator", MemoryLedger(), notification_secret=SECRET)}, kept) as there:
        status, answer = there.post("/notifications/simulator", b"{}")
        assert (status, there.counted("simulator", "failed")) == (500, 1)
        assert SECRET not in str(answer)


def test_metrics_need_the_token(kept: Kept) -> None:
    """Without one set there are none."""
    with endpoint(pics(), kept) as there:
        assert there.ask("/metrics", method="GET")[0] == 403
    with endpoint(pics(), kept, token="right") as there:
        assert there.ask("/metrics", method="GET")[0] == 401
        assert there.ask("/metrics", method="GET", headers={"Authorization": "Bearer wrong"})[0] == 401
        assert there.ask("/metrics", method="GET", headers={"Authorization": "Bearer right"})[0] == 200


@pytest.mark.parametrize(
    ("environment", "options", "why"),
    [
        ({"PTR_PICS": "simulator"}, [], "has signed notifications"),
        ({"PTR_PICS": "nobody"}, [], "no plugin for PIC"),
        ({"PTR_PICS": "stripe"}, [], "PTR_PIC_STRIPE_API_KEY_FILE is missing"),
        (
            {"PTR_PICS": "simulator", "PTR_PIC_SIMULATOR_NOTIFICATION_SECRET": SECRET},
            ["--broker", "127.0.0.1:9"],
            "no Kafka broker answers",
        ),
    ],
)
def test_the_command_says_what_is_missing(
    environment: dict[str, str], options: list[str], why: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Closed by default: without a secret it does not even start."""
    monkeypatch.setattr("connectors.broker.awaited.CONNECT_TIMEOUT_S", 1.0)
    monkeypatch.setattr("pipeline.commands.notifications.REGISTRY", module_registry())
    result = CliRunner().invoke(notifications, [*options, "--port", "0"], env=environment)
    assert result.exit_code == 1 and why in result.stderr, result.output
    assert SECRET not in json.dumps(result.output)


def module_registry() -> object:
    from prometheus_client import CollectorRegistry

    return CollectorRegistry()
