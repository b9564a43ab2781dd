"""Fetch requests and responses: the bytes and values of aiokafka, which are Kafka's."""

from __future__ import annotations

import struct
from io import BytesIO
from typing import Any

import pytest
from aiokafka.protocol.fetch import FetchRequest, FetchRequest_v11, FetchResponse_v11
from aiokafka.protocol.struct import Struct
from hypothesis import given
from hypothesis import strategies as st

from pipeline.engine import fetches

names = st.text("abcxyz.-é", min_size=1, max_size=12)
numbers = st.integers(-(2**31), 2**31 - 1)
offsets = st.integers(-(2**63), 2**63 - 1)
errors = st.integers(-(2**15), 2**15 - 1)
asked = st.tuples(numbers, numbers, offsets, offsets, numbers)
answered = st.tuples(
    *(numbers, errors, offsets, offsets, offsets),
    st.none() | st.lists(st.tuples(offsets, offsets), max_size=2),
    numbers,
    st.none() | st.binary(max_size=20),
)


def of(partitions: st.SearchStrategy[Any]) -> st.SearchStrategy[list[Any]]:
    return st.lists(st.tuples(names, st.lists(partitions, max_size=4)), max_size=4)


def test_the_worker_uses_these() -> None:
    """Both are in place of aiokafka's."""
    assert FetchRequest_v11.encode is fetches.encode
    assert FetchResponse_v11.decode.__func__ is fetches.decode  # type: ignore[attr-defined]


@given(
    head=st.tuples(*[numbers] * 4, st.integers(0, 1), numbers, numbers),
    topics=of(asked),
    forgotten=st.lists(st.tuples(names, st.lists(numbers, max_size=2)), max_size=1),
    rack=names | st.just(""),
)
def test_requests_are_aiokafkas(head: tuple[int, ...], topics: Any, forgotten: Any, rack: str) -> None:
    """Byte for byte."""
    request = FetchRequest_v11(*head, topics, forgotten, rack)
    assert fetches.encode(request) == Struct.encode(request)


def test_a_request_as_the_fetcher_builds_it() -> None:
    """From the same builder."""
    topics = [("payments.scored.v1", [(0, 17, 2 << 20), (3, 0, 2 << 20)])]
    built = FetchRequest(10, 1, 50 << 20, 1, topics, rack_id="").build(FetchRequest_v11)
    assert built.encode() == Struct.encode(built)


@given(throttle=numbers, error=errors, session=numbers, topics=of(answered))
def test_responses_are_aiokafkas(throttle: int, error: int, session: int, topics: Any) -> None:
    """Every value, from bytes and from a stream that stands behind a header."""
    written = Struct.encode(FetchResponse_v11(throttle, error, session, topics))
    stream = BytesIO(b"header" + written)
    stream.seek(6)
    reference = Struct.decode.__func__(FetchResponse_v11, written)  # type: ignore[attr-defined]
    assert FetchResponse_v11.decode(written) == FetchResponse_v11.decode(stream) == reference


@given(topics=of(answered), cut=st.integers(1, 30))
def test_a_response_that_ends_early_raises(topics: Any, cut: int) -> None:
    """It is never taken for a shorter one."""
    written = Struct.encode(FetchResponse_v11(0, 0, 0, topics))
    with pytest.raises((ValueError, struct.error)):
        FetchResponse_v11.decode(written[:-cut])
