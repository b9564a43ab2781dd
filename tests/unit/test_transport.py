"""The commit rule: what is committed is the offset after the last acknowledged batch, never more and never twice."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from types import SimpleNamespace

import pytest
from aiokafka.errors import IllegalStateError
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


class Revoked:
    """Stands for aiokafka's consumer when the partitions were taken away a moment ago: it refuses every position."""

    async def seek_to_committed(self) -> None:
        raise IllegalStateError(f"No current assignment for partition {AT}")

    def seek(self, partition: TP, offset: int) -> None:
        raise IllegalStateError(f"No current assignment for partition {partition}")


def test_positions_set_while_partitions_are_taken_away_end_nothing(consumer: Consumer) -> None:
    """A rebalance may come between; the new assignment sets positions, and until then nothing is yielded."""
    consumer._thread = Revoked()
    consumer._next, consumer._yielded, consumer._gap_confirmed = {AT: 7}, {AT: 6}, {}
    consumer._read_offset = {}
    record = SimpleNamespace(offset=7)

    async def yielded() -> list[object]:
        assert await consumer._contiguous(AT, [record]) == [record]
        await consumer.perform_seek()
        await consumer._seek(AT, 7)
        return await consumer._contiguous(AT, [record])

    assert asyncio.run(yielded()) == []
