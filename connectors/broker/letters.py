"""Dead letters, read from their topic and posted back to where they came from.

What is read is fixed when the log is opened: letters that are written meanwhile, by a retry that fails again for one, are
not seen.
"""

from __future__ import annotations

import re
import time
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import Any

import msgspec
from confluent_kafka import Consumer, KafkaError, KafkaException, Message, Producer, TopicPartition

from connectors.broker.trouble import Trouble
from pipeline import topics
from pipeline.settings import BrokerAccess, client_config
from schemas.codec import Codec, UndecodableError
from schemas.records import DeadLetter

TIMEOUT_S = 15.0
DELIVERY_TIMEOUT_S = 60.0
#: What waits in memory of the producer; a letter is up to 64 KiB.
QUEUE_KBYTES_MAX = 32 * 1024
#: Letters keep this much of a key (pipeline.engine.dead_letters).
KEY_BYTES_MAX = 1024
#: Thirteen digits at least were masked, with the separators of schemas.card_numbers (three bytes at most) left in place.
_MASKED = re.compile(rb"(?:\*[^*0-9A-Za-z]{0,3}){13}")
#: Topics whose events are fenced by the coordinates of their sender, here or at the next table; see :func:`fenced_anew`.
_FENCED = (topics.SCREENED.name, topics.LOCALIZED.name, topics.PROFILED.name)
_PARTITIONS_MAX = 1024
_OFFSETS = 1 << 20


class LettersError(RuntimeError):
    """The broker does not answer, or has no dead letters topic; the text says what to do."""


@dataclass(frozen=True, slots=True)
class Letter:
    """One letter and where it is: ``partition:offset`` names it."""

    partition: int
    offset: int
    written_at_ms: int
    letter: DeadLetter

    @property
    def name(self) -> str:
        return f"{self.partition}:{self.offset}"


class LetterLog:
    """The letters that are there now. Leave the context to close its connection."""

    def __init__(self, broker: BrokerAccess | str, codec: Codec, topic: str = topics.DEAD_LETTERS.name) -> None:
        self._broker, self._topic = broker, topic
        self._decode = codec.decoder(DeadLetter)
        #: Records of the topic that are no letters; counted by the last :meth:`read`.
        self.unreadable = 0
        self._trouble = Trouble()
        config = {
            "group.id": "dead-letters-reader",
            "enable.auto.commit": False,
            "enable.auto.offset.store": False,
            "enable.partition.eof": True,
            "auto.offset.reset": "earliest",
            "error_cb": self._trouble,
            "log_level": 0,
        }
        self._consumer = Consumer(client_config(broker, config))
        try:
            self._ranges = self._asked()
        except BaseException:
            self._consumer.close()
            raise

    def __enter__(self) -> LetterLog:
        return self

    def __exit__(self, *_: object) -> None:
        self._consumer.close()

    def _asked(self) -> dict[int, tuple[int, int]]:
        try:
            there = self._consumer.list_topics(timeout=TIMEOUT_S).topics.get(self._topic)
            if there is None:
                raise LettersError(
                    f"the broker at {self._broker} has no topic {self._topic}: make the topics with `ptr topics apply`"
                )
            return {
                number: self._consumer.get_watermark_offsets(TopicPartition(self._topic, number), timeout=TIMEOUT_S)
                for number in there.partitions
            }
        except KafkaException:
            self._consumer.poll(0)
            raise LettersError(self._trouble.unanswered(self._broker, TIMEOUT_S)) from None

    def read(self, only: Collection[tuple[int, int]] | None = None, since_ms: int | None = None) -> Iterator[Letter]:
        """Each letter, by partition in order; ``only`` those at these coordinates, or written at or after ``since_ms``.

        Raises :class:`LettersError` when the broker stops answering.
        """
        self.unreadable = 0
        ranges = dict(self._ranges) if only is None else self._around(only)
        wanted = {p: span for p, span in ranges.items() if span[0] < span[1]}
        self._consumer.assign([TopicPartition(self._topic, p, low) for p, (low, _) in wanted.items()])
        quiet_since = time.monotonic()
        while wanted:
            for message in self._consumer.consume(200, timeout=0.5):
                quiet_since = time.monotonic()
                end = wanted.get(message.partition(), (0, 0))[1]
                if message.error() is not None:
                    if message.error().code() != KafkaError._PARTITION_EOF:
                        raise LettersError(f"reading {self._topic} failed: {message.error().str()}")
                    wanted.pop(message.partition(), None)
                    continue
                if message.offset() + 1 >= end:
                    wanted.pop(message.partition(), None)
                if message.offset() < end and (found := self._letter(message, only, since_ms)) is not None:
                    yield found
            if time.monotonic() - quiet_since > TIMEOUT_S:
                raise LettersError(f"the broker at {self._broker} gave nothing for {TIMEOUT_S:g} s: try again")

    def _around(self, only: Collection[tuple[int, int]]) -> dict[int, tuple[int, int]]:
        ranges = {}
        for partition, (low, end) in self._ranges.items():
            offsets = [offset for p, offset in only if p == partition and low <= offset < end]
            if offsets:
                ranges[partition] = (min(offsets), max(offsets) + 1)
        return ranges

    def _letter(
        self, message: Message, only: Collection[tuple[int, int]] | None, since_ms: int | None
    ) -> Letter | None:
        at = (message.partition(), message.offset())
        written_at_ms = message.timestamp()[1]
        if (only is not None and at not in only) or (since_ms is not None and written_at_ms < since_ms):
            return None
        try:
            return Letter(*at, written_at_ms, self._decode(message.value() or b""))
        except UndecodableError:
            self.unreadable += 1
            return None


def refusal(letter: DeadLetter, known_topics: Collection[str]) -> str:
    """Why ``letter`` cannot be posted back as it came, in words for the operator; empty when it can."""
    value, key = letter.value, letter.key
    if letter.topic not in known_topics:
        return "it did not come from a topic of this pipeline"
    if value is not None and len(value) < letter.value_length:
        return f"its value was cut: {len(value)} of {letter.value_length} bytes are kept"
    if key is not None and len(key) >= KEY_BYTES_MAX:
        return f"its key was cut at {KEY_BYTES_MAX} bytes"
    if (value is not None and _MASKED.search(value)) or (key is not None and _MASKED.search(key)):
        return "a card number in it was masked: the client must post it again, with a token"
    return ""


def fenced_anew(letter: DeadLetter, codec: Codec) -> bytes | None:
    """The value to post back.

    Between stages a record is fenced by the coordinates of its sender, and rows have seen later ones of that sender
    since: as it came it would be dropped as a repeat. So it gets coordinates of its own, derived from where it was:
    negative, which no partition is, and always the same, so that a letter that is posted back twice counts once.
    """
    if letter.topic not in _FENCED or letter.value is None:
        return letter.value
    try:
        event: Any = codec.decode(letter.value, codec.record_of(letter.value))
    except UndecodableError:
        return letter.value
    if getattr(event, "sender_partition", -1) < 0:
        return letter.value
    place = (
        _FENCED.index(letter.topic) % 2
    )  # localization passes screened's on to the table of localized, so they differ
    slot = (letter.offset % _OFFSETS * 2 + place) * _PARTITIONS_MAX + letter.partition % _PARTITIONS_MAX
    return codec.encode(msgspec.structs.replace(event, sender_partition=-1 - slot, sender_offset=letter.offset))


class LetterPoster:
    """Posts letters back and counts; :meth:`finish` says how it went."""

    def __init__(self, broker: BrokerAccess | str, codec: Codec) -> None:
        self._codec = codec
        self.posted = 0
        self.failed = 0
        #: Kafka's text for the first failure.
        self.failure = ""
        config = {
            "enable.idempotence": True,
            "acks": "all",
            "queue.buffering.max.kbytes": QUEUE_KBYTES_MAX,
            "message.timeout.ms": int(DELIVERY_TIMEOUT_S * 1000),
            "delivery.report.only.error": True,
            "on_delivery": self._delivered,
            "log_level": 0,
        }
        self._producer = Producer(client_config(broker, config))

    def _delivered(self, error: KafkaError | None, _: Message) -> None:
        if error is not None:
            self.failed += 1
            self.failure = self.failure or error.str()

    def post(self, letter: DeadLetter) -> None:
        """Queue ``letter`` for the topic it came from, under its key; waits while too many are under way."""
        value = fenced_anew(letter, self._codec)
        deadline = time.monotonic() + DELIVERY_TIMEOUT_S
        while True:
            try:
                self._producer.produce(letter.topic, value, letter.key)
                break
            except BufferError:
                if time.monotonic() > deadline:
                    raise LettersError("the broker takes nothing: try again when it answers") from None
                self._producer.poll(0.1)
        self.posted += 1
        self._producer.poll(0)

    def finish(self) -> int:
        """Wait for the broker; how many letters it has."""
        self.failed += self._producer.flush(DELIVERY_TIMEOUT_S + 1)
        return self.posted - self.failed
