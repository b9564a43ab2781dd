"""``ptr dead-letters`` on a real Kafka: what is shown, what goes back to where it came from, and what is refused."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest
from click.testing import CliRunner, Result
from confluent_kafka import Message, Producer
from confluent_kafka.admin import AdminClient

from connectors.broker import admin
from connectors.broker.letters import fenced_anew, refusal
from connectors.broker.local import LocalKafka
from pipeline import topics
from pipeline.commands.dead_letters import dead_letters
from pipeline.engine.dead_letters import dead_letter
from pipeline.engine.fence import repeated
from schemas.codec import Codec
from schemas.identity import partition_of, payment_key
from schemas.records import DeadLetter, PaymentLocalized, PaymentScreened
from tests.builders import a_request
from tests.contract.samples import SAMPLES
from tests.integration.kafka import ends, records
from tests.integration.live import empty
from tests.simulation.world import Record

CODEC = Codec()
REQUESTED = topics.REQUESTED.name
KNOWN = {topic.name for topic in topics.all_topics(["simulator"])}
CARD = b"4111111111111111"


@pytest.fixture
def broker(kafka: LocalKafka) -> str:
    """The session's Kafka with the pipeline's topics, empty."""
    empty(kafka.address)
    admin.apply(
        AdminClient({"bootstrap.servers": kafka.address, "log_level": 3}), topics.all_topics(["simulator"]), 4, 1
    )
    return kafka.address


def a_letter(value: bytes | None, key: bytes | None = b"t1|p1", error: str = "stage_failed", **named: Any) -> Record:
    """A record that some stage gives up."""
    where = {"topic": REQUESTED, "partition": 1, "offset": 5, "timestamp": 0} | named
    return Record(key=key, value=value, **where), error  # type: ignore[return-value, arg-type]


def write(broker: str, *letters: tuple[Record, str]) -> list[str]:
    """Write letters as the engine does; their names."""
    names: list[str] = []

    def delivered(_: object, message: Message) -> None:
        names.append(f"{message.partition()}:{message.offset()}")

    producer = Producer({"bootstrap.servers": broker, "partitioner": "consistent"})
    for record, error in letters:
        value, key = dead_letter(record, "screening", error, "what exactly", CODEC)
        producer.produce(topics.DEAD_LETTERS.name, value, key, on_delivery=delivered)
        assert producer.flush(15) == 0
    return names


def ptr(broker: str, *arguments: str, answer: str | None = None) -> Result:
    return CliRunner().invoke(dead_letters, [*arguments, "--broker", broker], input=answer)


def test_list_shows_where_and_why_and_nothing_of_the_content(broker: str) -> None:
    """Newest last; --error, --since and --limit choose; the record's bytes stay out of it."""
    write(broker, a_letter(b"secret one"), a_letter(None, None, "empty_value", offset=6))
    first = ptr(broker, "list", "--json")
    assert first.exit_code == 0, first.output
    rows = json.loads(first.stdout)
    assert [(row["topic"], row["partition"], row["offset"]) for row in rows] == [(REQUESTED, 1, 5), (REQUESTED, 1, 6)]
    assert [(row["error"], row["value_bytes"]) for row in rows] == [("stage_failed", 10), ("empty_value", 0)]
    assert "secret" not in first.output
    table = ptr(broker, "list").stdout
    assert rows[0]["letter"] in table
    assert "what exactly" in table.replace("\n", " ") or "exactly" in table
    assert "secret" not in table
    assert len(json.loads(ptr(broker, "list", "--json", "--error", "empty_value").stdout)) == 1
    assert [row["offset"] for row in json.loads(ptr(broker, "list", "--json", "--limit", "1").stdout)] == [6]
    time.sleep(1.1)
    assert json.loads(ptr(broker, "list", "--json", "--since", "1s").stdout) == []
    assert len(json.loads(ptr(broker, "list", "--json", "--since", "1h").stdout)) == 2


def test_retry_posts_the_same_bytes_under_the_same_key(broker: str) -> None:
    """To the topic it came from, in the key's own partition; --yes asks nothing."""
    value, key = CODEC.encode(a_request()), payment_key("t1", "p1")
    (name,) = write(broker, a_letter(value, key))
    result = ptr(broker, "retry", name, "--yes", "--json")
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout) == {"found": 1, "posted": 1, "failed": 0, "refused": {}}
    (posted,) = records(broker, REQUESTED)
    assert (posted.key(), posted.value(), posted.partition()) == (key, value, partition_of(key, 4))


def test_retry_asks_first(broker: str) -> None:
    """No is no: nothing is posted."""
    (name,) = write(broker, a_letter(b"x"))
    result = ptr(broker, "retry", name, answer="n\n")
    assert result.exit_code == 0
    assert "Post 1 letters back?" in result.output
    assert sum(ends(broker, REQUESTED).values()) == 0
    assert "1 posted" in ptr(broker, "retry", name, answer="y\n").output
    assert sum(ends(broker, REQUESTED).values()) == 1


def test_all_with_an_error_takes_only_those(broker: str) -> None:
    """A hundred of one error go back, the other stays."""
    write(broker, *[a_letter(b"%d" % n, b"k%d" % n) for n in range(20)], a_letter(b"no", b"k", "not_avro"))
    result = ptr(broker, "retry", "--all", "--error", "stage_failed", "--yes")
    assert result.exit_code == 0, result.output
    assert sorted(message.value() for message in records(broker, REQUESTED)) == sorted(b"%d" % n for n in range(20))


def test_what_is_not_as_it_came_is_refused(broker: str) -> None:
    """A masked card number, a cut value, a letter that is not there: refused in words, code 1, the rest is posted."""
    names = write(
        broker,
        a_letter(b"number " + CARD),
        a_letter(b"fine", CARD),
        a_letter(b"x" * 70_000),
        a_letter(b"fine", b"t1|p9"),
    )
    result = ptr(broker, "retry", *names, "3:999", "--yes")
    assert result.exit_code == 1
    assert "1 posted back, 4 refused, 0 failed" in result.output
    assert result.output.count("a card number in it was masked") >= 2
    assert "its value was cut: 1024 of 70000 bytes are kept" in result.output
    assert "3:999 is refused: there is no such letter" in result.output
    assert [message.value() for message in records(broker, REQUESTED)] == [b"fine"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("retry",), "name letters"),
        (("retry", "0:1", "--all"), "name letters"),
        (("retry", "17"), "is not PARTITION:OFFSET"),
        (("list", "--since", "yesterday"), "30m, 2h or 7d"),
        (("list", "--error", "oops"), "'oops' is not one of"),
    ],
)
def test_wrong_use_says_what_to_do(arguments: tuple[str, ...], words: str) -> None:
    """Code 2 and a sentence; no broker is asked."""
    result = ptr("127.0.0.1:1", *arguments)
    assert result.exit_code == 2
    assert words in result.output


def test_without_topics_it_says_how_to_make_them(kafka: LocalKafka) -> None:
    """An error in words and code 1."""
    empty(kafka.address)
    result = ptr(kafka.address, "list")
    assert result.exit_code == 1
    assert "ptr topics apply" in result.output
    assert "Traceback" not in result.output


# -- without a broker -------------------------------------------------------------------------------------------------


def letter_of(value: bytes | None, key: bytes | None = b"k", topic: str = REQUESTED, **where: int) -> DeadLetter:
    at = {"partition": 1, "offset": 5} | where
    record, error = a_letter(value, key, topic=topic, **at)  # type: ignore[misc]
    return CODEC.decode(dead_letter(record, "payer", error, "", CODEC)[0], DeadLetter)


@pytest.mark.parametrize(
    "text",
    [
        "4111111111111111",
        "4111 1111 1111 1111",
        "5555-5555-5555-4444",
        "3782 822463 10005",
        "4111\u00a01111\u00a01111\u00a01111",
        "４１１１１１１１１１１１１１１１",
    ],
)
def test_every_way_to_write_a_card_number_is_seen_as_masked(text: str) -> None:
    """Whatever the mask looks like, grouped or in another script's digits."""
    assert "masked" in refusal(letter_of(b"before " + text.encode() + b" after"), KNOWN)


@pytest.mark.parametrize("text", [b"************1111", b"**** **** 1111", b"2 * 3 * 4", b"*" * 12, b""])
def test_other_asterisks_are_not(text: bytes) -> None:
    """Twelve asterisks and four digits are how clients mask; nothing of ours was done to it."""
    assert refusal(letter_of(text), KNOWN) == ""


def test_a_letter_of_another_topic_is_refused() -> None:
    """Whoever can write letters must not post through us where we may and they may not."""
    assert "topic" in refusal(letter_of(b"x", topic="payroll.orders"), KNOWN)


def test_between_stages_a_letter_gets_coordinates_of_its_own() -> None:
    """As it came, the next row's fence would drop it, for that row has seen later events of the same sender. With its own
    coordinates it counts once, however often it is posted back and in whatever order."""
    screened = next(sample for sample in SAMPLES if isinstance(sample, PaymentScreened))
    localized = next(sample for sample in SAMPLES if isinstance(sample, PaymentLocalized))
    later = letter_of(CODEC.encode(localized), topic=topics.LOCALIZED.name, offset=9)
    earlier = letter_of(CODEC.encode(localized), topic=topics.LOCALIZED.name, offset=8)
    seen = {localized.sender_partition: localized.sender_offset + 100}
    assert repeated(dict(seen), localized.sender_partition, localized.sender_offset)
    fresh = []
    for letter in (later, earlier, later, earlier):
        event = CODEC.decode(fenced_anew(letter, CODEC) or b"", PaymentLocalized)
        assert event.payment_id == localized.payment_id
        fresh.append(not repeated(seen, event.sender_partition, event.sender_offset))
    assert fresh == [True, True, False, False]
    # What localization passes on comes to the same table: not the same coordinates.
    passed_on = letter_of(CODEC.encode(screened), topic=topics.SCREENED.name, offset=9)
    other = CODEC.decode(fenced_anew(passed_on, CODEC) or b"", PaymentScreened)
    assert not repeated(seen, other.sender_partition, other.sender_offset)


def test_a_letter_of_a_retried_record_keeps_its_coordinates() -> None:
    """It failed again, perhaps twice: both of its letters stand for the one event."""
    localized = next(sample for sample in SAMPLES if isinstance(sample, PaymentLocalized))
    once = fenced_anew(letter_of(CODEC.encode(localized), topic=topics.LOCALIZED.name), CODEC)
    again = fenced_anew(letter_of(once, topic=topics.LOCALIZED.name, offset=77), CODEC)
    assert again == once


def test_the_largest_coordinates_fit_the_schema() -> None:
    """sender_partition is an Avro int: 32 bits."""
    localized = next(sample for sample in SAMPLES if isinstance(sample, PaymentLocalized))
    at = {"partition": 1023, "offset": 2**40 - 1}
    value = fenced_anew(letter_of(CODEC.encode(localized), topic=topics.LOCALIZED.name, **at), CODEC)
    event = CODEC.decode(value or b"", PaymentLocalized)
    assert event.sender_partition == -(2**31)
    assert event.sender_offset == 2**40 - 1


def test_requests_go_back_as_they_came() -> None:
    """Nothing of a client's bytes is changed."""
    value = CODEC.encode(a_request())
    assert fenced_anew(letter_of(value), CODEC) == value
    assert fenced_anew(letter_of(b"garbage", topic=topics.LOCALIZED.name), CODEC) == b"garbage"
    assert fenced_anew(letter_of(None), CODEC) is None
