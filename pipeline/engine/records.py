"""Records as the engine sees them, and how much memory they may take before anybody looks at them.

aiokafka builds a frozen dataclass per record, inflates a given number of records at once, however large they are, and a
compressed batch to whatever size it claims: a megabyte of zstd to gigabytes. All three are replaced here, where it looks for
them. A batch that cannot be inflated within the limit becomes one empty record, which is a dead letter.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from typing import Any

import cramjam
import msgspec
from aiokafka.consumer import fetcher
from aiokafka.record._crecords import default_records

#: A batch that inflates to more is not read. Kafka's clients make batches of up to 1 MB; snappy cannot pass 21 times its size.
INFLATED_BYTES_MAX = 32 << 20
#: Bytes of keys and values that one poll takes of one partition, give or take a record; the rest waits, compressed.
POLL_BYTES_MAX = 2 << 20
#: Records of a batch that are made at once: a batch may hold millions that take no bytes.
PART_RECORDS = 500
#: Header of the empty record that stands for an unreadable batch.
UNREADABLE_BATCH = "ptr-unreadable-batch"


class Record(msgspec.Struct, gc=False):
    """A consumed record; the last four fields are what Faust asks of records that are not batched."""

    topic: str
    partition: int
    offset: int
    timestamp: int
    key: bytes | None
    value: bytes | None
    headers: Sequence[tuple[str, bytes]]
    timestamp_type: int
    checksum: None = None
    serialized_key_size: int = -1
    serialized_value_size: int = -1


class UnreadableBatchError(ValueError):
    """A compressed batch that is damaged or inflates to more than :data:`INFLATED_BYTES_MAX`."""


class _Batch:
    """aiokafka's batch, its records in parts; an unreadable one holds a single empty record at its last offset."""

    def __init__(self, batch: Any, tp: Any) -> None:
        self._batch = batch
        self._tp = tp

    def __getattr__(self, name: str) -> Any:
        return getattr(self._batch, name)

    def __next__(self) -> Any:
        return next(self._batch)

    def __iter__(self) -> Iterator[_Part]:
        topic, partition = self._tp.topic, self._tp.partition
        try:
            records = islice(self._batch, None)  # aiokafka's iterator begins but once.
        except UnreadableBatchError as error:
            batch = self._batch
            headers = [(UNREADABLE_BATCH, str(error).encode())]
            empty = Record(
                topic,
                partition,
                batch.next_offset - 1,
                batch.max_timestamp,
                None,
                None,
                headers,
                batch.timestamp_type,
            )
            yield _Part([empty])
            return
        more = True
        while more:
            part = [
                Record(topic, partition, r.offset, r.timestamp, r.key, r.value, r.headers, r.timestamp_type)
                for r in islice(records, PART_RECORDS)
            ]
            more = len(part) == PART_RECORDS  # After its end aiokafka's iterator is not to be asked.
            if part:
                yield _Part(part)


class _Part:
    """Consecutive records of a batch; to aiokafka one record, the last of them."""

    __slots__ = ("offset", "records")

    def __init__(self, records: list[Record]) -> None:
        self.records = records
        self.offset = records[-1].offset


class _Batches:
    """The batches of one partition of a fetch."""

    def __init__(self, tp: Any, records: Any) -> None:
        self.has_next = records.has_next
        self._tp = tp
        self._next_batch = records.next_batch

    def next_batch(self) -> _Batch:
        return _Batch(self._next_batch(), self._tp)


class PartitionRecords(fetcher.PartitionRecords):
    """aiokafka's, giving lists of lean records: its four calls for each record cost more than the record."""

    next_fetch_offset: int

    def __init__(self, tp: Any, records: Any, *arguments: Any) -> None:
        super().__init__(tp, _Batches(tp, records), *arguments)
        self._left: list[Record] = []

    def _consumer_record(self, tp: Any, record: _Part) -> list[Record]:
        # A batch may begin before what was asked for.
        records, wanted = record.records, self.next_fetch_offset
        return records if records[0].offset >= wanted else [each for each in records if each.offset >= wanted]

    def take(self, records_max: int | None, bytes_max: int) -> tuple[list[Record], bool]:
        """The next records, as many as fit, give or take a record; and whether those are all."""
        taken: list[Record] = []
        room = bytes_max
        while True:
            part: list[Record] | None = self._left or next(iter(self), None)
            if part is None:
                return taken, True
            self._left = []
            count = len(part) if records_max is None else min(len(part), records_max - len(taken))
            for at in range(count):
                record = part[at]
                room -= len(record.value or b"") + len(record.key or b"")
                if room <= 0:
                    count = at + 1
                    break
            taken += part if count == len(part) else part[:count]
            self._left = part[count:]
            self.next_fetch_offset = taken[-1].offset + 1
            if room <= 0 or len(taken) == records_max:
                return taken, False


class FetchResult(fetcher.FetchResult):
    """aiokafka's, taking a bounded number of bytes at a time."""

    _partition_records: PartitionRecords | None

    def getall(self, max_records: int | None = None) -> list[Record]:
        """The next records; call again while :meth:`has_more`."""
        if not self.check_assignment(self._topic_partition) or self._partition_records is None:
            return []
        taken, all_of_them = self._partition_records.take(max_records, POLL_BYTES_MAX)
        self._update_position()
        if all_of_them:
            self._partition_records = None
        return taken


def _bounded(inflate_into: Callable[[Any, bytearray], int]) -> Callable[[Any], bytes]:
    usual = bytearray(1 << 20)  # Kept: only the consumer's thread inflates.

    def inflate(payload: Any) -> bytes:
        try:
            return bytes(memoryview(usual)[: inflate_into(payload, usual)])
        except cramjam.DecompressionError:
            large = bytearray(INFLATED_BYTES_MAX)
        try:
            return bytes(memoryview(large)[: inflate_into(payload, large)])
        except cramjam.DecompressionError:
            raise UnreadableBatchError(f"damaged, or more than {INFLATED_BYTES_MAX} bytes") from None

    return inflate


def _gunzip(payload: Any) -> bytes:
    stream = zlib.decompressobj(wbits=31)
    try:
        inflated = stream.decompress(payload, INFLATED_BYTES_MAX)
    except zlib.error:
        raise UnreadableBatchError("damaged") from None
    if not stream.eof:
        raise UnreadableBatchError(f"damaged, or more than {INFLATED_BYTES_MAX} bytes")
    return inflated


default_records.gzip_decode = _gunzip
default_records.lz4_decode = _bounded(cramjam.lz4.decompress_into)
default_records.zstd_decode = _bounded(cramjam.zstd.decompress_into)
fetcher.PartitionRecords = PartitionRecords
fetcher.FetchResult = FetchResult
