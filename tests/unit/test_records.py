"""What a fetch may become: lean records, a bounded number of bytes a poll, and no batch that inflates without end."""

from __future__ import annotations

from typing import Any

import cramjam
import pytest
from aiokafka import TopicPartition
from aiokafka.consumer import fetcher
from aiokafka.record.default_records import DefaultRecordBatchBuilder
from aiokafka.record.memory_records import MemoryRecords

from pipeline.engine import records
from pipeline.engine.records import POLL_BYTES_MAX, UNREADABLE_BATCH, Record

TP = TopicPartition("in", 2)
GZIP, SNAPPY, LZ4, ZSTD = 1, 2, 3, 4


def a_batch(values: list[bytes], *, compression: int = LZ4, first: int = 0) -> bytes:
    builder = DefaultRecordBatchBuilder(2, compression, 0, -1, -1, -1, 1 << 30)
    for number, value in enumerate(values):
        builder.append(number, 1_000 + number, b"k%d" % number, value, [("h", b"1")])
    data = bytearray(builder.build())
    data[0:8] = first.to_bytes(8, "big")  # The base offset is not part of the checksum.
    return bytes(data)


def unpacked(data: bytes) -> list[Record]:
    parts = fetcher.PartitionRecords(TP, MemoryRecords(data), None, 0, None, None, True, 0)
    return [record for part in parts for record in part]


@pytest.mark.parametrize("compression", [0, GZIP, SNAPPY, LZ4, ZSTD])
def test_records_are_what_was_produced(compression: int) -> None:
    """Of every compression: coordinates, times, keys, values, headers, in order."""
    got = unpacked(a_batch([b"a", b"b" * 5_000], compression=compression, first=7))
    assert [(r.topic, r.partition, r.offset, r.timestamp, r.key, r.value) for r in got] == [
        ("in", 2, 7, 1_000, b"k0", b"a"),
        ("in", 2, 8, 1_001, b"k1", b"b" * 5_000),
    ]
    assert list(got[0].headers) == [("h", b"1")]


@pytest.mark.parametrize("compression", [GZIP, LZ4, ZSTD])
def test_a_batch_that_inflates_without_end_is_one_empty_record(compression: int) -> None:
    """40 MiB, at its last offset, so that reading goes on behind it; what is beside it is read."""
    bomb = a_batch([bytes(8 << 20)] * 5, compression=compression, first=1)
    assert len(bomb) < 1 << 20
    data = a_batch([b"before"]) + bomb + a_batch([b"after"], first=6)
    got = unpacked(data)
    assert [(r.offset, r.value) for r in got] == [(0, b"before"), (5, None), (6, b"after")]
    assert [name for name, _ in got[1].headers] == [UNREADABLE_BATCH]


@pytest.mark.parametrize("compression", [GZIP, LZ4, ZSTD])
def test_damaged_bytes_are_an_unreadable_batch(compression: int) -> None:
    """Not the end of the worker."""
    decode = {
        GZIP: records.default_records.gzip_decode,
        LZ4: records.default_records.lz4_decode,
        ZSTD: records.default_records.zstd_decode,
    }[compression]
    with pytest.raises(records.UnreadableBatchError):
        decode(b"\x00\x01 neither of them")
    whole: Any = {GZIP: cramjam.gzip, LZ4: cramjam.lz4, ZSTD: cramjam.zstd}[compression]
    assert decode(bytes(whole.compress(bytes(3 << 20)))) == bytes(3 << 20)


class _Assignment:
    """As much of aiokafka's as a fetch result asks."""

    active = True

    def __init__(self) -> None:
        self.position = 0
        self.paused = False

    def state_value(self, tp: Any) -> _Assignment:
        return self

    def consumed_to(self, position: int) -> None:
        self.position = position


def test_a_poll_takes_a_bounded_number_of_bytes() -> None:
    """However well they were compressed; the rest comes with the next polls, nothing twice and nothing lost."""
    values = [bytes([n]) * (POLL_BYTES_MAX // 3) for n in range(10)]
    data = b"".join(a_batch([value], first=n) for n, value in enumerate(values))
    result = fetcher.FetchResult(
        TP,
        assignment=_Assignment(),
        partition_records=fetcher.PartitionRecords(TP, MemoryRecords(data), None, 0, None, None, True, 0),
        backoff=0,
    )
    polls = []
    while result.has_more():
        polls.append([r.offset for r in result.getall(4_000)])
    assert [poll for poll in polls if poll] == [[0, 1, 2], [3, 4, 5], [6, 7, 8], [9]]


def test_a_poll_takes_a_bounded_number_of_records() -> None:
    """As it was told."""
    result = fetcher.FetchResult(
        TP,
        assignment=_Assignment(),
        partition_records=fetcher.PartitionRecords(
            TP, MemoryRecords(a_batch([b"v"] * 10)), None, 0, None, None, True, 0
        ),
        backoff=0,
    )
    assert [[r.offset for r in result.getall(4)] for _ in range(3)] == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]]


@pytest.mark.parametrize("compression", [0, LZ4])
@pytest.mark.parametrize("begin", [0, 1, 7, 499, 500, 501, 1_203])
@pytest.mark.parametrize("at_most", [1_000, 700, 501, 1])
def test_polls_give_each_record_once_from_where_it_was_asked(compression: int, begin: int, at_most: int) -> None:
    """A batch may begin before the position, and is made in parts; the position is behind what was taken, always."""
    data = a_batch([b"a"] * 1_203, compression=compression) + a_batch([b"b"] * 7, compression=compression, first=1_203)
    assignment = _Assignment()
    assignment.position = begin
    result = fetcher.FetchResult(
        TP,
        assignment=assignment,
        partition_records=fetcher.PartitionRecords(TP, MemoryRecords(data), None, begin, None, None, True, 1),
        backoff=0,
    )
    got: list[int] = []
    while result.has_more():
        poll = result.getall(at_most)
        assert len(poll) <= at_most
        got += [record.offset for record in poll]
        assert assignment.position == begin + len(got)
    assert got == list(range(begin, 1_210))


def test_a_position_that_moved_gives_nothing() -> None:
    """Whoever set it back reads from there; what was fetched before is dropped, the rest of a part too."""
    assignment = _Assignment()
    result = fetcher.FetchResult(
        TP,
        assignment=assignment,
        partition_records=fetcher.PartitionRecords(
            TP, MemoryRecords(a_batch([b"v"] * 10)), None, 0, None, None, True, 0
        ),
        backoff=0,
    )
    assert len(result.getall(4)) == 4
    assignment.position = 2
    assert result.getall(4) == []
    assert not result.has_more()
