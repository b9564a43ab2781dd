"""The commit rule: what is committed is the offset after the last acknowledged batch, never more and never twice."""

from __future__ import annotations

from collections import defaultdict
from types import SimpleNamespace

import pytest
from faust.types import TP

from pipeline.engine.transport import Consumer

AT = TP("payments.requested.v1", 0)


@pytest.fixture
def consumer() -> Consumer:
    """A consumer that reads nothing: only its book of acknowledgements."""
    made = Consumer.__new__(Consumer)
    made.app = SimpleNamespace(batched_topics=frozenset({AT.topic}))
    made._acked = defaultdict(list)
    made._acked_index = defaultdict(set)
    return made


def acknowledge(consumer: Consumer, *offsets: int) -> None:
    for offset in offsets:
        consumer._acked[AT].append(offset)
        consumer._acked_index[AT].add(offset)


def test_the_offset_after_the_last_acknowledged_batch(consumer: Consumer) -> None:
    """Kafka's committed offset is the next one to read: one too far loses a record, one too few repeats a batch."""
    acknowledge(consumer, 999)
    assert consumer._new_offset(AT) == 1000


def test_several_batches_are_one_commit(consumer: Consumer) -> None:
    """A batch is acknowledged by its last offset, and batches in their order: the highest is contiguous."""
    acknowledge(consumer, 9, 41, 50)
    assert consumer._new_offset(AT) == 51
    assert consumer._new_offset(AT) is None


def test_nothing_acknowledged_is_nothing_committed(consumer: Consumer) -> None:
    """However often it is asked, and for a partition that was never heard of."""
    assert consumer._new_offset(AT) is None
    assert consumer._new_offset(TP(AT.topic, 3)) is None


def test_what_was_acknowledged_under_another_assignment_is_forgotten(consumer: Consumer) -> None:
    """It was committed before the partitions were given away, or it is repeated."""
    acknowledge(consumer, 9)
    consumer.forget_acknowledgements()
    assert consumer._new_offset(AT) is None
