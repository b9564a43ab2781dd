"""Whatever clients post: a dead letter or a refusal with a stable reason, and everybody else's payments go on.

One real worker and one audit sink on a real Kafka serve the whole file; each test uses payment ids of its own.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
import pytest
from confluent_kafka import Consumer, KafkaError, KafkaException, Message, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, AlterConfigOpType, ConfigEntry, ConfigResource, ResourceType

from connectors.broker.local import LocalKafka
from connectors.sinks.database import open_database
from pipeline import topics
from pipeline.rig import Rig, Worker, peak_memory_mb
from schemas.codec import Codec
from schemas.identity import attempt_id, partition_of, payment_key
from schemas.limits import REQUESTED_AHEAD_MS_MAX, VALUE_BYTES_MAX
from schemas.records import (
    DeadLetter,
    Instrument,
    Locality,
    Party,
    PaymentAnswered,
    PaymentCompleted,
    PaymentRequested,
)
from schemas.tenant_rules import FraudRules, TenantRules
from tests.builders import a_request
from tests.integration.kafka import records, unique
from tests.integration.live import TOKEN, calls, empty, no_traceback, until

pytestmark = pytest.mark.kafka

CODEC = Codec()
HEADER = CODEC.header(PaymentRequested)
RULES = TenantRules(tenant="t1", pic="simulator", currencies=["EUR"], fraud=FraudRules(refer_at=1.0, decline_at=1.0))
#: Visa's and Mastercard's published test numbers.
CARD = "4111111111111111"
GROUPED = "5555-5555-5555-4444"
REQUESTED = topics.REQUESTED.name
TIMEOUT_S = 30.0


@dataclass
class World:
    """The running pipeline, a client that posts anything, and what came out so far."""

    address: str
    rig: Rig
    worker: Worker
    consumer: Consumer
    outcomes: dict[tuple[str, str], list[PaymentCompleted]] = field(default_factory=dict)
    letters: dict[tuple[int, int], DeadLetter] = field(default_factory=dict)

    def post(self, value: bytes | None, key: bytes | None, partition: int = -1, **named: Any) -> tuple[int, int]:
        """Post one record as it is; where it is then."""
        return self.post_all([(value, key)], partition, **named)[0]

    def post_all(
        self, values: list[tuple[bytes | None, bytes | None]], partition: int = -1, headers: Any = None, **config: Any
    ) -> list[tuple[int, int]]:
        at: list[tuple[int, int]] = []

        def delivered(error: KafkaError | None, message: Message) -> None:
            if error is not None:
                raise KafkaException(error)
            at.append((message.partition(), message.offset()))

        producer = Producer(
            {"bootstrap.servers": self.address, "linger.ms": 0, "message.max.bytes": 4 << 20, "log_level": 3} | config
        )
        for value, key in values:
            producer.produce(REQUESTED, value, key, partition, on_delivery=delivered, headers=headers)
            producer.poll(0)
        assert producer.flush(TIMEOUT_S) == 0
        return at

    def ask(self, request: PaymentRequested, **named: Any) -> tuple[int, int]:
        """Post a PTR as a client should."""
        return self.post(CODEC.encode(request), payment_key(request.tenant, request.payment_id), **named)

    def look(self) -> None:
        """Take in what came out since."""
        for message in self.consumer.consume(500, timeout=0.05):
            if message.error() is not None:
                continue
            if message.topic() == topics.COMPLETED.name:
                event = CODEC.decode(message.value(), PaymentCompleted)
                self.outcomes.setdefault((event.tenant, event.payment_id), []).append(event)
            else:
                letter = CODEC.decode(message.value(), DeadLetter)
                if letter.topic == REQUESTED:
                    self.letters[letter.partition, letter.offset] = letter

    def wait(self, what: str, done: Callable[[], bool]) -> None:
        def looked() -> bool:
            self.look()
            return done()

        until(what, looked, TIMEOUT_S, pause_s=0.0)

    def outcome(self, payment_id: str, tenant: str = "t1", number: int = 1) -> PaymentCompleted:
        """The payment's ``number``-th event, once it is there."""
        at = (tenant, payment_id)
        self.wait(f"event {number} of {at}", lambda: len(self.outcomes.get(at, ())) >= number)
        return self.outcomes[at][number - 1]

    def letter(self, at: tuple[int, int]) -> DeadLetter:
        """The dead letter of the record at ``at``, once it is there."""
        self.wait(f"dead letter of {REQUESTED} {at}", lambda: at in self.letters)
        return self.letters[at]

    def goes_on(self) -> None:
        """A plain payment, posted now, is paid: nothing has stopped."""
        request = a_request(payment_id=unique("fine"), debtor_id=unique("d"))
        self.ask(request)
        assert self.outcome(request.payment_id).outcome == "paid"
        self.rig.check()

    def metric(self, name: str) -> float:
        """Sum of a metric over its labels."""
        status, body = self.worker.get("/metrics", TOKEN)
        assert status == 200, status
        lines = [line for line in body.decode().splitlines() if re.match(rf"{name}(\{{| )", line)]
        return sum(float(line.rsplit(" ", 1)[1]) for line in lines)

    def set_topic(self, **settings: str) -> None:
        """Change settings of the requests' topic."""
        entries = [
            ConfigEntry(name.replace("_", "."), value, incremental_operation=AlterConfigOpType.SET)
            for name, value in settings.items()
        ]
        resource = ConfigResource(ResourceType.TOPIC, REQUESTED, incremental_configs=entries)
        admin = AdminClient({"bootstrap.servers": self.address, "log_level": 3})
        for future in admin.incremental_alter_configs([resource]).values():
            future.result()


@pytest.fixture(scope="module")
def world(kafka: LocalKafka, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """One worker with all stages and one audit sink on SQLite."""
    folder = tmp_path_factory.mktemp("bad-input")
    empty(kafka.address)
    named = {"PTR_SIMULATOR_LEDGER": str(folder / "pic.db"), "PTR_WEB_TOKEN": TOKEN, "PTR_LOG_LEVEL": "info"}
    with Rig(kafka.address, folder, **named) as rig:
        rig.prepare([RULES])
        worker = rig.worker("w1")
        rig.audit_sink()
        rig.wait_ready()
        consumer = Consumer({"bootstrap.servers": kafka.address, "group.id": unique("looks"), "log_level": 0})
        try:
            consumer.assign(
                [
                    TopicPartition(topic, partition, 0)
                    for topic in (topics.COMPLETED.name, topics.DEAD_LETTERS.name)
                    for partition in range(rig.partitions)
                ]
            )
            yield World(kafka.address, rig, worker, consumer)
        finally:
            consumer.close()


def encoded(**named: Any) -> bytes:
    return CODEC.encode(a_request(**named))


def long_of(number: int) -> bytes:
    """An Avro long: zigzag, then seven bits a byte, low ones first (Avro 1.12 specification, "Binary Encoding")."""
    rest, out = (number << 1) ^ (number >> 63), bytearray()
    while rest > 0x7F:
        out.append(rest & 0x7F | 0x80)
        rest >>= 7
    return bytes([*out, rest])


def text(content: bytes) -> bytes:
    return long_of(len(content)) + content


#: A PTR's body up to its metadata, by hand from the schema's field order.
UP_TO_METADATA = b"".join(
    [
        *(text(part) for part in (b"t1", b"bomb", b"payment")),
        long_of(100),
        text(b"EUR"),
        *(text(b"d1") + text(b"Ada") + text(b"DE") + b"\x00\x00" for _ in range(2)),
        text(b""),
        text(b""),
        text(b"card") + text(b"tok_1"),
        text(b"DE") + text(b"") * 3,
        text(b""),
    ]
)
BOMBS = {
    "a map that says it has 2^62 entries": UP_TO_METADATA + long_of(2**62),
    "a map block of 2^60 bytes": UP_TO_METADATA + long_of(-(2**40)) + long_of(2**60),
    "a text that says it has 2^40 bytes": long_of(2**40) + b"t1",
    "a text of a negative length": long_of(-7) + b"t1",
    "a number that does not end": b"\xff" * 4000,
    "nothing but empty map blocks, claimed": UP_TO_METADATA + long_of(1) * 30_000,
}


# -- dead letters -----------------------------------------------------------------------------------------------------

KEY = payment_key("t1", "p1")


@pytest.mark.parametrize(
    ("value", "key", "error"),
    [
        pytest.param(b'{"tenant": "t1"}', KEY, "not_avro", id="JSON"),
        pytest.param(os.urandom(200).replace(b"\x00", b"").replace(b"\xc3", b"x"), KEY, "not_avro", id="random bytes"),
        pytest.param(b"\xc3\x01" + b"\x01" * 8 + b"body", KEY, "unknown_schema", id="unknown fingerprint"),
        pytest.param(b"\x00\x00\x00\x00\x2a" + encoded()[10:], KEY, "unknown_schema", id="unknown schema id"),
        pytest.param(b"\xc3\x01", KEY, "unknown_schema", id="header only"),
        pytest.param(b"", KEY, "empty_value", id="empty value"),
        pytest.param(None, KEY, "empty_value", id="no value"),
        pytest.param(encoded(payment_id="p-no-key"), None, "no_key", id="no key"),
        pytest.param(encoded()[:-20], KEY, "unreadable_value", id="cut"),
        pytest.param(
            HEADER + encoded()[10:].replace(b"Ada", b"\xff\xfe\xfd"), KEY, "unreadable_value", id="invalid UTF-8"
        ),
        pytest.param(
            CODEC.encode(
                PaymentAnswered(
                    attempt=1,
                    ask=0,
                    outcome="paid",
                    answered_at_ms=1,
                    called=True,
                    pic="x",
                    tenant="t1",
                    payment_id="p1",
                )
            ),
            KEY,
            "wrong_schema",
            id="another record",
        ),
        pytest.param(encoded(payment_id="a|b"), KEY, "no_payment_id", id="no readable payment id"),
        pytest.param(encoded(tenant="No Tenant"), KEY, "no_payment_id", id="no readable tenant"),
        *[pytest.param(HEADER + body, KEY, "unreadable_value", id=name) for name, body in BOMBS.items()],
    ],
)
def test_what_is_no_request_is_a_dead_letter(world: World, value: bytes | None, key: bytes | None, error: str) -> None:
    """With its coordinates, the stage, a stable error, and the raw bytes."""
    letter = world.letter(world.post(value, key))
    assert (letter.stage, letter.error) == ("screening", error)
    assert (letter.key, letter.value) == (key, value)
    assert letter.value_length == len(value or b"")


def test_after_all_of_them_payments_go_on(world: World) -> None:
    """Nothing else stops, and no traceback is written for what clients do."""
    world.goes_on()
    assert no_traceback(world.worker.log.read_text())


def test_a_value_over_a_megabyte(world: World) -> None:
    """Where the operator's broker takes it at all (the default does not), it is a dead letter of its first kilobyte."""
    request = a_request(payment_id="p-large", metadata={"k": "x" * 2_000_000})
    with pytest.raises(KafkaException) as caught:
        world.ask(request)
    assert caught.value.args[0].code() == KafkaError.MSG_SIZE_TOO_LARGE
    world.set_topic(max_message_bytes=str(3 << 20))
    try:
        for size in (2_000_000, 1_000_000, VALUE_BYTES_MAX):
            value = CODEC.encode(a_request(payment_id="p-large", metadata={"k": "x" * size}))
            letter = world.letter(world.post(value, payment_key("t1", "p-large")))
            assert (letter.error, letter.value_length) == ("value_too_large", len(value))
            assert letter.value == value[:1024]
    finally:
        world.set_topic(max_message_bytes=str(1 << 20))
    world.goes_on()


# -- refusals ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("named", "reason", "detail"),
    [
        pytest.param({"tenant": "nobody"}, "unknown_tenant", "", id="unknown tenant"),
        pytest.param({"currency": "XQQ"}, "unknown_currency", "currency: XQQ", id="unknown currency"),
        pytest.param({"currency": "eur"}, "unknown_currency", "currency: eur", id="currency in small letters"),
        pytest.param({"amount_minor": 0}, "amount_not_positive", "amount_minor", id="amount zero"),
        pytest.param({"amount_minor": -1}, "amount_not_positive", "amount_minor", id="amount negative"),
        pytest.param({"amount_minor": -(2**63)}, "amount_not_positive", "amount_minor", id="smallest long"),
        pytest.param(
            {"amount_minor": 10_000_000_000_001},
            "amount_above_limit",
            "amount_minor above 10000000000000",
            id="too much",
        ),
        pytest.param(
            {"amount_minor": 2**63 - 1}, "amount_above_limit", "amount_minor above 10000000000000", id="largest"
        ),
        pytest.param({"kind": "refund"}, "unsupported_kind", "kind", id="a kind reserved for later"),
        pytest.param({"debtor_country": "Germany"}, "invalid_field", "debtor.country", id="no country code"),
        pytest.param({"order_reference": "[" * 201}, "field_too_long", "order_reference", id="long"),
        pytest.param(
            {"metadata": {"deep": "[" * 20_000 + "]" * 20_000}}, "field_too_long", "metadata value", id="deeply nested"
        ),
        pytest.param(
            {"metadata": {str(n): "" for n in range(10_000)}},
            "too_many_metadata",
            "more than 32 entries",
            id="a map with 10,000 entries",
        ),
    ],
)
def test_what_cannot_be_paid_is_refused(world: World, named: dict[str, Any], reason: str, detail: str) -> None:
    """One outcome, ``refused`` by screening, with a stable reason that names the field; no dead letter."""
    request = a_request(payment_id=unique("bad"), **named)
    at = world.ask(request)
    event = world.outcome(request.payment_id, request.tenant)
    assert (event.outcome, event.reason, event.detail, event.stage) == ("refused", reason, detail, "screening")
    assert at not in world.letters


@pytest.mark.parametrize(
    ("ahead_ms", "outcome", "reason"),
    [
        (REQUESTED_AHEAD_MS_MAX + 60_000, "refused", "requested_in_future"),
        (REQUESTED_AHEAD_MS_MAX - 60_000, "paid", ""),
    ],
)
def test_requested_at_may_be_five_minutes_ahead(world: World, ahead_ms: int, outcome: str, reason: str) -> None:
    """Measured at the broker's clock; a minute to spare on both sides, so that the test does not hang on time."""
    at_ms = int(time.time() * 1000) + ahead_ms
    request = a_request(payment_id=unique("ahead"), debtor_id=unique("d"), requested_at_ms=at_ms)
    world.ask(request)
    event = world.outcome(request.payment_id)
    assert (event.outcome, event.reason) == (outcome, reason)


# -- the same id again ------------------------------------------------------------------------------------------------


def test_the_same_again_is_the_same_answer(world: World) -> None:
    """A repeat is answered under the same event id, marked as one; the PIC is not called a second time."""
    request = a_request(payment_id=unique("again"), debtor_id=unique("d"))
    world.ask(request)
    first = world.outcome(request.payment_id)
    assert (first.outcome, first.repeat) == ("paid", False)
    world.ask(request)
    second = world.outcome(request.payment_id, number=2)
    assert second == msgspec.structs.replace(first, repeat=True, taken_at_ms=second.taken_at_ms)
    assert calls(world.rig)[attempt_id("t1", request.payment_id, 1)] == 1


@pytest.mark.parametrize(
    ("changed", "fields"),
    [
        ({"amount_minor": 1251}, "amount"),
        ({"creditor_name": "Other Shop", "currency": "USD"}, "amount, creditor"),
        (
            {"metadata": {"a": "b"}, "order_reference": "order-2", "token": "tok_2"},
            "instrument, order_reference, metadata",
        ),
    ],
)
def test_other_content_under_the_same_id_is_a_conflict(world: World, changed: dict[str, Any], fields: str) -> None:
    """Refused, naming the groups of fields that differ; the first payment keeps its outcome and its amount."""
    payment_id, debtor_id = unique("conflict"), unique("d")
    world.ask(a_request(payment_id=payment_id, debtor_id=debtor_id))
    first = world.outcome(payment_id)
    world.ask(a_request(payment_id=payment_id, debtor_id=debtor_id, **changed))
    refused = world.outcome(payment_id, number=2)
    assert (refused.outcome, refused.reason) == ("refused", "conflicting_request")
    assert refused.detail == f"differs in {fields}"
    assert refused.event_id != first.event_id
    world.ask(a_request(payment_id=payment_id, debtor_id=debtor_id))
    again = world.outcome(payment_id, number=3)
    assert again == msgspec.structs.replace(first, repeat=True, taken_at_ms=again.taken_at_ms)
    assert calls(world.rig)[attempt_id("t1", payment_id, 1)] == 1


# -- card numbers -----------------------------------------------------------------------------------------------------


def with_text(field_name: str, content: str) -> PaymentRequested:
    """A good request with ``content`` in one text field, named as in the schema."""
    request = a_request(payment_id=unique("card"))
    if field_name == "metadata key":
        return msgspec.structs.replace(request, metadata={content: "v"})
    if field_name == "metadata value":
        return msgspec.structs.replace(request, metadata={"k": content})
    name, _, inner = field_name.partition(".")
    if not inner:
        return msgspec.structs.replace(request, **{name: content})
    nested = msgspec.structs.replace(getattr(request, name), **{inner: content})
    return msgspec.structs.replace(request, **{name: nested})


def text_fields() -> list[str]:
    """Every text field of a PTR, from the typed record."""
    nested: dict[str, type[Any]] = {"debtor": Party, "creditor": Party, "instrument": Instrument, "locality": Locality}
    names = [f.name for f in msgspec.structs.fields(PaymentRequested) if f.type is str]
    inner = [f"{outer}.{f.name}" for outer, record in nested.items() for f in msgspec.structs.fields(record)]
    return [*names, *inner, "metadata key", "metadata value"]


def test_a_card_number_gets_nowhere(world: World) -> None:
    """In whatever text field: refused (or a dead letter where it is the id), and the number is in no topic but the one it
    was posted to, no log, no dead letter, no audit row."""
    assert len(text_fields()) == 25
    posted = []
    for content in (CARD, GROUPED):
        for name in text_fields():
            request = with_text(name, content)
            posted.append((name, request, world.ask(request)))
    # Under a wrong key that is a card number, and as a conflict with a payment that was good.
    good = a_request(payment_id=unique("then-card"), debtor_id=unique("d"))
    world.ask(good)
    assert world.outcome(good.payment_id).outcome == "paid"
    world.ask(msgspec.structs.replace(good, order_reference=CARD))
    assert world.outcome(good.payment_id, number=2).reason == "conflicting_request"
    under_card = a_request(payment_id=unique("under-card"), debtor_id=unique("d"))
    world.post(CODEC.encode(under_card), CARD.encode())
    assert world.outcome(under_card.payment_id).outcome == "paid"
    garbage = world.post(b"\xc3\x01garbage " + CARD.encode() + b" and " + GROUPED.encode(), CARD.encode())
    letter = world.letter(garbage)
    assert letter.value == b"\xc3\x01garbage " + b"*" * 16 + b" and ****-****-****-****"
    assert letter.key == b"*" * 16

    for name, request, at in posted:
        if name == "payment_id":
            assert world.letter(at).error in ("card_number_in_id", "no_payment_id")
        elif name == "tenant":
            assert world.letter(at).error in ("card_number_in_id", "no_payment_id"), name
        else:
            event = world.outcome(request.payment_id)
            assert event.outcome == "refused", name
            if name != "kind":  # which other kind it is says nobody
                assert (event.reason, event.detail) in {
                    ("card_number", name),
                    ("unknown_currency", "currency"),
                    ("invalid_field", name),
                }
    world.goes_on()
    audited_to_the_end(world)
    hidden = re.compile(rb"4111[ -]?1111[ -]?1111[ -]?1111|5555[ -]?5555[ -]?5555[ -]?4444")
    for topic in topics.all_topics(["simulator"]):
        if topic in (topics.REQUESTED, topics.TENANTS):  # where it was posted, and where no request gets
            continue
        for message in records(world.address, topic.name):
            for part in (message.key(), message.value(), *(value for _, value in message.headers() or ())):
                assert hidden.search(part or b"") is None, f"{topic.name} {message.partition()} {message.offset()}"
    files = [path for path in world.rig.folder.rglob("*") if path.is_file() and path.suffix != ".sst"]
    assert {"audit.db", "w1.log", "audit-sink.log"} <= {path.name for path in files}
    assert [str(path.relative_to(world.rig.folder)) for path in files if hidden.search(path.read_bytes())] == []


def audited_to_the_end(world: World) -> None:
    """Return when the sink has every outcome and every dead letter there is now."""
    world.look()
    payments = sum(1 for key in world.outcomes)
    letters = len(records(world.address, topics.DEAD_LETTERS.name))

    def done() -> bool:
        database = open_database(world.rig.database)
        try:
            audited = database.query("SELECT count(*) FROM payments WHERE outcome <> ''")[0][0]
            kept = database.query("SELECT count(*) FROM payment_events WHERE topic = ?", (topics.DEAD_LETTERS.name,))[
                0
            ][0]
            return bool(audited >= payments and kept >= letters)
        finally:
            database.close()

    until(f"{payments} outcomes and {letters} dead letters are audited", done, TIMEOUT_S)


# -- key and partition ------------------------------------------------------------------------------------------------


def other_partition(key: bytes) -> int:
    return (partition_of(key, 4) + 1) % 4


def test_a_wrong_key_or_partition_is_put_right_and_counted(world: World) -> None:
    """Posted again under the payment's key, once; the payment is paid, and the metric says how many there were."""
    before = world.metric("ptr_reposted_total")
    by_key = a_request(payment_id=unique("key"), debtor_id=unique("d"))
    by_partition = a_request(payment_id=unique("partition"), debtor_id=unique("d"))
    world.post(CODEC.encode(by_key), b"customer 17")
    key = payment_key("t1", by_partition.payment_id)
    world.post(CODEC.encode(by_partition), key, other_partition(key))
    assert world.outcome(by_key.payment_id).outcome == "paid"
    assert world.outcome(by_partition.payment_id).outcome == "paid"
    assert world.metric("ptr_reposted_total") == before + 2


def test_a_repeat_under_a_wrong_key_is_still_a_repeat(world: World) -> None:
    """However often and wherever it is posted, there is one payment."""
    request = a_request(payment_id=unique("twice"), debtor_id=unique("d"))
    world.ask(request)
    world.outcome(request.payment_id)
    world.post(CODEC.encode(request), b"customer 17")
    assert [world.outcome(request.payment_id, number=n).repeat for n in (1, 2)] == [False, True]


def test_what_cannot_be_put_right_is_not_posted_for_ever(world: World) -> None:
    """A record that was posted again and is wrong still (somebody imitates the header) is a dead letter."""
    value = encoded(payment_id=unique("loop"))
    letter = world.letter(world.post(value, b"customer 17", headers=[("ptr-reposted", b"0:1")]))
    assert (letter.error, letter.value) == ("wrong_partition_twice", value)


# -- compression ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("codec", ["gzip", "snappy", "lz4", "zstd"])
@pytest.mark.parametrize("by", ["the producer", "the topic"])
def test_compressed_requests_just_work(world: World, codec: str, by: str) -> None:
    """Whoever compresses them: a client, or the broker because the topic says so."""
    requests = [a_request(payment_id=unique(codec), debtor_id=unique("d")) for _ in range(10)]
    values: list[tuple[bytes | None, bytes | None]] = [
        (CODEC.encode(request), payment_key("t1", request.payment_id)) for request in requests
    ]
    if by == "the producer":
        world.post_all(values, **{"compression.type": codec, "linger.ms": 50})
    else:
        world.set_topic(compression_type=codec)
        try:
            world.post_all(values, **{"linger.ms": 50})
        finally:
            world.set_topic(compression_type="producer")
    assert {world.outcome(request.payment_id).outcome for request in requests} == {"paid"}


# -- transactions -----------------------------------------------------------------------------------------------------


def test_what_a_transaction_took_back_was_never_asked_for(world: World) -> None:
    """An aborted PTR is neither paid nor a dead letter; a committed one is paid, and so is what others post between them to
    the same partition. All are of one payer and one partition, so outcomes come in the order of the PTRs."""
    partition, debtor_id = 1, unique("d")

    def request(prefix: str) -> PaymentRequested:
        names = (unique(prefix) for _ in range(1000))
        name = next(name for name in names if partition_of(payment_key("t1", name), world.rig.partitions) == partition)
        return a_request(payment_id=name, debtor_id=debtor_id)

    def post(producer: Producer, asked: PaymentRequested) -> None:
        producer.produce(
            REQUESTED, CODEC.encode(asked), payment_key("t1", asked.payment_id), on_delivery=lambda _, m: at.append(m)
        )
        assert producer.flush(TIMEOUT_S) == 0

    at: list[Message] = []
    config = {"bootstrap.servers": world.address, "transactional.id": unique("client"), "log_level": 3}
    producer = Producer(config)
    producer.init_transactions(TIMEOUT_S)
    aborted, beside, committed, last = (request(name) for name in ("aborted", "beside", "committed", "last"))
    producer.begin_transaction()
    post(producer, aborted)
    assert world.ask(beside)[0] == partition
    producer.abort_transaction(TIMEOUT_S)
    assert world.outcome(beside.payment_id).outcome == "paid"
    producer.begin_transaction()
    post(producer, committed)
    producer.commit_transaction(TIMEOUT_S)
    assert world.outcome(committed.payment_id).outcome == "paid"
    world.ask(last)
    assert world.outcome(last.payment_id).outcome == "paid"
    assert [(m.error(), m.partition()) for m in at] == [(None, partition)] * 2
    assert ("t1", aborted.payment_id) not in world.outcomes
    assert (partition, at[0].offset()) not in world.letters
    world.goes_on()


# -- memory -----------------------------------------------------------------------------------------------------------

#: Well below the flood's 330 MB: what was handled is not kept. What the worker holds at once are fetches of 2 MiB of each of
#: its four partitions, the values taken out of them, and the next fetches (85 MB alone, 153 MB once after all other tests).
GROWTH_MB_MAX = 200
FLOOD = 300


def test_memory_stays_flat_under_a_flood_of_hostile_values(world: World) -> None:
    """300 values of just under a megabyte, 300 maps with 10,000 entries and 600 bombs: the worker's peak memory grows by no
    more than what it fetches at once, and it goes on."""
    world.goes_on()
    before_mb = peak_memory_mb(world.worker.pid)
    large = HEADER + UP_TO_METADATA + os.urandom(1_000_000)
    entries = {str(n): "" for n in range(10_000)}
    bombs = [HEADER + body for body in list(BOMBS.values())[:2]]
    seen = len(world.letters)
    flood: list[tuple[bytes | None, bytes | None]] = []
    for number in range(FLOOD):
        payment_id = unique("p-map")
        flood += [(value, b"%d" % number) for value in (large, *bombs)]
        flood.append((encoded(payment_id=payment_id, metadata=entries), payment_key("t1", payment_id)))
    world.post_all(flood)
    world.goes_on()
    world.wait("dead letters of the flood", lambda: len(world.letters) >= seen + 3 * FLOOD)
    grown_mb = peak_memory_mb(world.worker.pid) - before_mb
    print(f"flood: {grown_mb} MB")
    assert grown_mb < GROWTH_MB_MAX
    assert no_traceback(world.worker.log.read_text())


#: A PTR may not be that large, and a batch of them compresses to a few kilobytes.
ZEROS = bytes(990_000)


def test_a_batch_that_inflates_without_end_is_one_dead_letter(world: World) -> None:
    """200 MB of zeros in one zstd batch of less than a megabyte: given up unread, at its last offset; the next payment of the
    partition is paid, and the worker's peak memory does not tell how large it would have been."""
    world.goes_on()
    request = a_request(payment_id=unique("behind"), debtor_id=unique("d"))
    key = payment_key("t1", request.payment_id)
    partition = partition_of(key, world.rig.partitions)
    before_mb = peak_since_now_mb(world.worker.pid)
    at = world.post_all(
        [(ZEROS, key)] * 200,
        partition,
        **{
            "compression.type": "zstd",
            "message.max.bytes": 400 << 20,
            "batch.size": 400 << 20,
            "linger.ms": 3000,
        },
    )
    world.ask(request)
    assert world.outcome(request.payment_id).outcome == "paid"
    letter = world.letter(at[-1])
    assert (letter.stage, letter.error) == ("screening", "empty_value")
    assert "compressed batch" in letter.detail
    assert (letter.key, letter.value, letter.value_length) == (None, None, 0)
    assert [each for each in at if each in world.letters] == [at[-1]]
    grown_mb = peak_memory_mb(world.worker.pid) - before_mb
    print(f"zstd bomb: {grown_mb} MB")
    assert grown_mb < GROWTH_MB_MAX
    world.goes_on()


def test_values_that_compress_well_are_not_inflated_all_at_once(world: World) -> None:
    """300 values of 990,000 zeros in lz4 batches of a few: in one fetch they are some kilobytes, inflated 297 MB. Each is a
    dead letter, and the worker's peak memory grows by a part of that."""
    world.goes_on()
    before_mb = peak_since_now_mb(world.worker.pid)
    at = world.post_all(
        [(ZEROS, b"%d" % number) for number in range(FLOOD)],
        **{"compression.type": "lz4", "linger.ms": 100, "batch.size": 4 << 20},
    )
    assert len(at) == FLOOD
    world.wait("dead letters of the zeros", lambda: set(at) <= set(world.letters))
    assert {world.letters[each].error for each in at} == {"value_too_large"}
    grown_mb = peak_memory_mb(world.worker.pid) - before_mb
    print(f"lz4 zeros: {grown_mb} MB")
    assert grown_mb < GROWTH_MB_MAX
    world.goes_on()


def peak_since_now_mb(pid: int) -> int:
    """Let a process's peak begin anew, so that no earlier test hides this one's; what it has now."""
    Path(f"/proc/{pid}/clear_refs").write_text("5")
    return peak_memory_mb(pid)
