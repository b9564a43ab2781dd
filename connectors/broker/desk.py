"""A desk: posts a record and waits for the answer to it, as an operator's command does."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Generic, TypeVar

from confluent_kafka import Consumer, KafkaException, TopicPartition

from connectors.broker.follow import consumer_config, partitions_of
from connectors.broker.one import CONNECT_TIMEOUT_S, post_one
from connectors.broker.trouble import Trouble
from pipeline.settings import BrokerAccess
from schemas.codec import Codec, UndecodableError
from schemas.identity import partition_of
from schemas.records import Record

#: A running worker answers within a second; one that is being restarted takes as long as a session.
ANSWER_TIMEOUT_S = 15.0

R = TypeVar("R", bound=Record)


class DeskError(RuntimeError):
    """The broker does not answer or has not the topics; the text says what to do."""


class Desk(Generic[R]):
    """Where records are handed in that are answered in the topic ``answers``. Leave the context to close
    its connections."""

    def __init__(self, broker: BrokerAccess | str, codec: Codec, answers: str, record: type[R]) -> None:
        self._broker = broker
        self._answers = answers
        self._decode = codec.decoder(record)
        self._trouble = Trouble()
        self._consumer = Consumer(consumer_config(broker, log_level=0, error_cb=self._trouble))

    def __enter__(self) -> Desk[R]:
        return self

    def __exit__(self, *_: object) -> None:
        self._consumer.close()

    def hand_in(
        self,
        topic: str,
        value: bytes,
        key: bytes,
        is_answer: Callable[[R], bool],
        timeout_s: float = ANSWER_TIMEOUT_S,
        *,
        answer_key: bytes | None = None,
    ) -> R | None:
        """Post and give the answer; None when none came in time: then what was posted counts all the same.

        ``answer_key`` is the key of the answer where it has one of its own.

        Raises :class:`DeskError` when nobody answers, :class:`~connectors.broker.one.PostError` when it could not be posted.
        """
        try:
            self._begin_to_listen(key if answer_key is None else answer_key)
        except KafkaException:
            raise DeskError(self._trouble.unanswered(self._broker, CONNECT_TIMEOUT_S)) from None
        post_one(self._broker, topic, value, key)
        deadline = time.monotonic() + timeout_s
        while (left_s := deadline - time.monotonic()) > 0:
            message = self._consumer.poll(min(left_s, 0.5))
            if message is None or message.error() is not None:
                continue
            try:
                answer = self._decode(message.value() or b"")
            except UndecodableError:
                continue
            if is_answer(answer):
                return answer
        return None

    def _begin_to_listen(self, key: bytes) -> None:
        partitions = partitions_of(self._consumer, self._answers, CONNECT_TIMEOUT_S)
        if not partitions:
            raise DeskError(
                f"the broker at {self._broker} has no topic {self._answers}: make it with `ptr topics apply`"
            )
        at = TopicPartition(self._answers, partition_of(key, len(partitions)))
        at.offset = self._consumer.get_watermark_offsets(at, timeout=CONNECT_TIMEOUT_S)[1]
        self._consumer.assign([at])
