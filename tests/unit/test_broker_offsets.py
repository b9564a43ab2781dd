"""Offsets of partitions that have no leader yet are waited for; anything else is said at once."""

from __future__ import annotations

from concurrent.futures import Future
from types import SimpleNamespace
from typing import Any

import pytest
from confluent_kafka import KafkaError, KafkaException
from confluent_kafka.admin import OffsetSpec

from connectors.broker import admin

TOPIC = "payments.completed.v1"


class Electing:
    """An administration client whose partition has its leader after some refusals."""

    def __init__(self, code: int, refusals: int) -> None:
        self.code, self.refusals, self.asked = code, refusals, 0

    def list_offsets(self, wanted: dict[Any, OffsetSpec], **_: object) -> dict[Any, Future[Any]]:
        self.asked += 1
        futures: dict[Any, Future[Any]] = {}
        for at in wanted:
            futures[at] = Future()
            if self.asked <= self.refusals:
                futures[at].set_exception(KafkaException(KafkaError(self.code)))
            else:
                futures[at].set_result(SimpleNamespace(offset=7))
        return futures


@pytest.fixture(autouse=True)
def _no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(admin, "LEADER_PAUSE_S", 0.0)


def ask(client: Electing) -> dict[tuple[str, int], int]:
    return admin.offsets(client, [(TOPIC, 0), (TOPIC, 1)], OffsetSpec.latest())  # type: ignore[arg-type]


@pytest.mark.parametrize("code", [KafkaError.NOT_LEADER_FOR_PARTITION, KafkaError.LEADER_NOT_AVAILABLE])
def test_a_partition_without_a_leader_is_waited_for(code: int) -> None:
    client = Electing(code, refusals=3)
    assert ask(client) == {(TOPIC, 0): 7, (TOPIC, 1): 7}
    assert client.asked == 4


def test_one_that_never_has_one_is_told() -> None:
    client = Electing(KafkaError.NOT_LEADER_FOR_PARTITION, refusals=1000)
    with pytest.raises(KafkaException):
        ask(client)
    assert client.asked == admin.LEADER_TRIES_MAX


def test_another_error_is_told_at_once() -> None:
    client = Electing(KafkaError._TIMED_OUT, refusals=1000)
    with pytest.raises(KafkaException):
        ask(client)
    assert client.asked == 1


def test_nothing_is_asked_for_nothing() -> None:
    assert admin.offsets(Electing(0, 0), [], OffsetSpec.latest()) == {}  # type: ignore[arg-type]
