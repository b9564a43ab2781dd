"""Fetch requests and responses on the wire, in one pass; to the same bytes and values as aiokafka's.

A worker asks for every partition that it reads in every fetch, some hundred times a second when payments trickle, and aiokafka
makes each number of each partition by several calls. What is not usual is left to aiokafka.
"""

from __future__ import annotations

from functools import lru_cache
from io import BytesIO
from struct import Struct
from typing import Any, Final

from aiokafka.protocol.fetch import FetchRequest_v11, FetchResponse_v11

#: Replica, longest wait, least and most bytes, isolation level, session, its epoch, number of topics.
_REQUEST_HEAD: Final = Struct(">iiiibiii").pack
#: Partition, its leader's epoch, offset to fetch from, the replica's log start, most bytes.
_ASKED: Final = Struct(">iiqqi").pack
#: Throttle time, error, session, number of topics.
_RESPONSE_HEAD: Final = Struct(">ihii")
_COUNT: Final = Struct(">i")
_LENGTH: Final = Struct(">h")
#: Partition, error, high watermark, last stable offset, log start, number of aborted transactions.
_PARTITION: Final = Struct(">ihqqqi")
#: Producer, first offset.
_ABORTED: Final = Struct(">qq")
#: Preferred replica, length of the records.
_RECORDS: Final = Struct(">ii")

_encode_as_aiokafka = FetchRequest_v11.encode


@lru_cache(4_096)
def _topic(name: str, partitions: int) -> bytes:
    encoded = name.encode()
    return _LENGTH.pack(len(encoded)) + encoded + _COUNT.pack(partitions)


def encode(request: FetchRequest_v11) -> bytes:
    """What :meth:`FetchRequest_v11.encode` gives."""
    given = vars(request)
    if given["forgotten_topics_data"]:
        usual: bytes = _encode_as_aiokafka(request)
        return usual
    topics = given["topics"]
    parts = [
        _REQUEST_HEAD(
            given["replica_id"],
            given["max_wait_time"],
            given["min_bytes"],
            given["max_bytes"],
            given["isolation_level"],
            given["session_id"],
            given["session_epoch"],
            len(topics),
        )
    ]
    for name, partitions in topics:
        parts.append(_topic(name, len(partitions)))
        parts += [_ASKED(*partition) for partition in partitions]
    rack = given["rack_id"].encode()
    return b"".join([*parts, _COUNT.pack(0), _LENGTH.pack(len(rack)), rack])


def decode(cls: type[FetchResponse_v11], data: BytesIO | bytes) -> FetchResponse_v11:
    """What :meth:`FetchResponse_v11.decode` gives. Raises :class:`ValueError` or :class:`struct.error` for bytes that end
    early."""
    view = data if isinstance(data, bytes) else data.read()
    throttle_ms, error, session, topics_count = _RESPONSE_HEAD.unpack_from(view)
    at = _RESPONSE_HEAD.size
    topics = []
    for _ in range(topics_count):
        (length,) = _LENGTH.unpack_from(view, at)
        name = view[at + 2 : at + 2 + length].decode()
        (count,) = _COUNT.unpack_from(view, at + 2 + length)
        at += 6 + length
        partitions = []
        for _ in range(count):
            partition, failed, highwater, stable, start, aborted_count = _PARTITION.unpack_from(view, at)
            at += _PARTITION.size
            aborted: Any = None if aborted_count < 0 else []
            for _ in range(aborted_count):
                aborted.append(_ABORTED.unpack_from(view, at))
                at += _ABORTED.size
            replica, size = _RECORDS.unpack_from(view, at)
            at += _RECORDS.size
            records = None if size < 0 else view[at : at + size]
            if size > 0:
                at += size
                if at > len(view):
                    raise ValueError("a fetch response ends within records")
            partitions.append((partition, failed, highwater, stable, start, aborted, replica, records))
        topics.append((name, partitions))
    return cls(throttle_ms, error, session, topics)


FetchRequest_v11.encode = encode
FetchResponse_v11.decode = classmethod(decode)
