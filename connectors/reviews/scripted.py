"""A scripted reviewer for demo and chaos: hears of reviews that open and posts decisions, as people would."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

from confluent_kafka import Producer

from connectors.broker.follow import TopicFollower
from pipeline import topics
from pipeline.settings import BrokerAccess, client_config
from schemas.codec import Codec
from schemas.identity import payment_key
from schemas.records import ReviewDecided, ReviewOpened

NAME = "scripted-reviewer"


class ScriptedReviewer:
    """``choose`` gives the decisions to post for a review, in their order; none leaves it to its time limit."""

    def __init__(
        self, brokers: BrokerAccess | str, choose: Callable[[ReviewOpened], Sequence[str]], codec: Codec | None = None
    ) -> None:
        codec = codec or Codec()
        self._choose = choose
        self._decode, self._encode = codec.decoder(ReviewOpened), codec.encoder(ReviewDecided)
        self._producer = Producer(
            client_config(
                brokers, {"enable.idempotence": True, "partitioner": "consistent", "linger.ms": 2, "log_level": 0}
            )
        )
        self._follower = TopicFollower(brokers, topics.REVIEWS_OPENED.name, self._take)
        #: Reviews seen, as (tenant, payment, stage): those that were decided, and those left to their time limit.
        self.decided: set[tuple[str, str, str]] = set()
        self.left: set[tuple[str, str, str]] = set()

    def __enter__(self) -> ScriptedReviewer:
        self._follower.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._follower.stop()
        self._producer.flush(10)

    def _take(self, message: Any) -> None:
        review = self._decode(message.value())
        name = (review.tenant, review.payment_id, review.stage)
        if name in self.decided or name in self.left:
            return
        decisions = self._choose(review)
        (self.decided if decisions else self.left).add(name)
        for decision in decisions:
            decided = ReviewDecided(
                tenant=review.tenant,
                payment_id=review.payment_id,
                stage=review.stage,
                decision=decision,
                by=NAME,
                reason="drawn",
                decided_at_ms=int(time.time() * 1000),
            )
            key = payment_key(review.tenant, review.payment_id)
            self._producer.produce(topics.REVIEWS_DECIDED.name, self._encode(decided), key)
        self._producer.poll(0)
