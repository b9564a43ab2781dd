"""Posts a person's decision to ``reviews.decided.v1`` and waits for what the reviews say to it."""

from __future__ import annotations

import time

from confluent_kafka import Consumer, KafkaException, TopicPartition

from connectors.broker.follow import consumer_config, partitions_of
from connectors.broker.one import CONNECT_TIMEOUT_S, post_one
from connectors.broker.trouble import Trouble
from pipeline import topics
from pipeline.settings import BrokerAccess
from schemas.codec import Codec, UndecodableError
from schemas.identity import partition_of, payment_key
from schemas.records import ReviewAnswered, ReviewDecided

#: A running worker answers within a second; one that is being restarted takes as long as a session.
ANSWER_TIMEOUT_S = 15.0


class ReviewDeskError(RuntimeError):
    """The broker does not answer or has not the reviews' topics; the text says what to do."""


class ReviewDesk:
    """Where decisions are handed in. Leave the context to close its connections."""

    def __init__(self, broker: BrokerAccess | str, codec: Codec) -> None:
        self._broker = broker
        self._encode = codec.encoder(ReviewDecided)
        self._decode = codec.decoder(ReviewAnswered)
        self._trouble = Trouble()
        self._consumer = Consumer(consumer_config(broker, log_level=0, error_cb=self._trouble))

    def __enter__(self) -> ReviewDesk:
        return self

    def __exit__(self, *_: object) -> None:
        self._consumer.close()

    def decide(self, decided: ReviewDecided, answer_timeout_s: float = ANSWER_TIMEOUT_S) -> ReviewAnswered | None:
        """Post ``decided`` and give the answer; None when none came in time: then it counts all the same once a worker runs.

        Raises :class:`ReviewDeskError` when nobody answers, :class:`PostError` when it could not be posted.
        """
        key = payment_key(decided.tenant, decided.payment_id)
        try:
            self._begin_to_listen(key)
        except KafkaException:
            raise ReviewDeskError(self._trouble.unanswered(self._broker, CONNECT_TIMEOUT_S)) from None
        post_one(self._broker, topics.REVIEWS_DECIDED.name, self._encode(decided), key)
        return self._answer_to(decided, answer_timeout_s)

    def _begin_to_listen(self, key: bytes) -> None:
        topic = topics.REVIEWS_ANSWERED.name
        partitions = partitions_of(self._consumer, topic, CONNECT_TIMEOUT_S)
        if not partitions:
            raise ReviewDeskError(
                f"the broker at {self._broker} has no topics of reviews: make them with `ptr topics apply`"
            )
        at = TopicPartition(topic, partition_of(key, len(partitions)))
        at.offset = self._consumer.get_watermark_offsets(at, timeout=CONNECT_TIMEOUT_S)[1]
        self._consumer.assign([at])

    def _answer_to(self, decided: ReviewDecided, timeout_s: float) -> ReviewAnswered | None:
        ours = (decided.tenant, decided.payment_id, decided.stage, decided.decision, decided.by)
        deadline = time.monotonic() + timeout_s
        while (left_s := deadline - time.monotonic()) > 0:
            message = self._consumer.poll(min(left_s, 0.5))
            if message is None or message.error() is not None:
                continue
            try:
                answer = self._decode(message.value() or b"")
            except UndecodableError:
                continue
            if (answer.tenant, answer.payment_id, answer.stage, answer.decision, answer.by) == ours:
                return answer
        return None
