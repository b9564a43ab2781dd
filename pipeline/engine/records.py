"""Records as the engine sees them, and how much memory they may take before anybody looks at them.

aiokafka builds a frozen dataclass per record, inflates a given number of records at once, however large they are, and a
compressed batch to whatever size it claims: a megabyte of zstd to gigabytes. All three are replaced here, where it looks for
them. A batch that cannot be inflated within the limit becomes one empty record, which is a dead letter.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator, Sequence
from types import SimpleNamespace
from typing import Any

import cramjam
import msgspec
from aiokafka.consumer import fetcher
from aiokafka.record._crecords import default_records

#: A batch that inflates to more is not read. Kafka's clients make batches of up to 1 MB; snappy cannot pass 21 times its size.
INFLATED_BYTES_MAX = 32 << 20
#: Bytes of keys and values that one poll takes of one partition, give or take a record; the rest waits, compressed.
POLL_BYTES_MAX = 2 << 20
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
    """aiokafka's batch; an unreadable one holds a single empty record at its last offset."""

    def __init__(self, batch: Any) -> None:
        self._batch = batch

    def __getattr__(self, name: str) -> Any:
        return getattr(self._batch, name)

    def __next__(self) -> Any:
        return next(self._batch)

    def __iter__(self) -> Iterator[Any]:
        try:
            return iter(self._batch)
        except UnreadableBatchError as error:
            batch = self._batch
            empty = SimpleNamespace(
                offset=batch.next_offset - 1,
                timestamp=batch.max_timestamp,
                timestamp_type=batch.timestamp_type,
                key=None,
                value=None,
                headers=[(UNREADABLE_BATCH, str(error).encode())],
            )
            return iter([empty])


class _Batches:
    """The batches of one partition of a fetch."""

    def __init__(self, records: Any) -> None:
        self.has_next = records.has_next
        self._next_batch = records.next_batch

    def next_batch(self) -> _Batch:
        return _Batch(self._next_batch())


class PartitionRecords(fetcher.PartitionRecords):
    """aiokafka's, with lean records."""

    def __init__(self, tp: Any, records: Any, *arguments: Any) -> None:
        super().__init__(tp, _Batches(records), *arguments)

    def _consumer_record(self, tp: Any, record: Any) -> Record:
        return Record(
            tp.topic,
            tp.partition,
            record.offset,
            record.timestamp,
            record.key,
            record.value,
            record.headers,
            record.timestamp_type,
        )


class FetchResult(fetcher.FetchResult):
    """aiokafka's, taking a bounded number of bytes at a time."""

    _partition_records: Any

    def getall(self, max_records: int | None = None) -> list[Record]:
        """The next records; call again while :meth:`has_more`."""
        if not self.check_assignment(self._topic_partition) or not self.has_more():
            return []
        taken: list[Record] = []
        room = POLL_BYTES_MAX
        for record in self._partition_records:
            taken.append(record)
            room -= len(record.value or b"") + len(record.key or b"")
            if room <= 0 or len(taken) == max_records:
                self._update_position()
                return taken
        self._update_position()
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
