"""The codec: what a stage carries on undecoded, older schemas, and bytes that are not what they should be."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from io import BytesIO
from typing import Any

import fastavro
import msgspec
import pytest

from schemas import codec as codec_module
from schemas.codec import COMPILED, SINGLE_OBJECT, Codec, UndecodableError, fingerprint_of, schema_of
from schemas.reasons import Error
from schemas.records import PaymentAnswered, PaymentLocalized, PaymentProfiled, PaymentRequested, PaymentScored
from tests.contract.samples import SAMPLES

CODEC = Codec()
LOCALIZED = next(sample for sample in SAMPLES if isinstance(sample, PaymentLocalized))
SCORED = next(sample for sample in SAMPLES if isinstance(sample, PaymentScored))
REQUESTED = next(sample for sample in SAMPLES if isinstance(sample, PaymentRequested))


@pytest.mark.skipif(not os.environ.get("CI"), reason="the compiled codec is optional outside of CI")
def test_ci_has_the_compiled_codec() -> None:
    """CI does not pass without it: the tests of tests/unit/test_native_codec.py would be skipped."""
    assert COMPILED


def after(record: type[Any], field: str, until: str = "") -> list[str]:
    names = [f["name"] for f in schema_of(record)["fields"]]
    return names[names.index(field) : names.index(until) + 1 if until else None]


def test_a_carried_tail_is_written_as_if_it_had_been_encoded() -> None:
    """What a stage reads and passes on makes the very bytes that encoding the whole event makes."""
    read = CODEC.carrying_reader(PaymentLocalized, "fee_minor")
    write = CODEC.carrying_writer(PaymentProfiled, "fee_minor", PaymentLocalized)
    data, carried = read(CODEC.encode(LOCALIZED))
    assert data == msgspec.structs.asdict(LOCALIZED)
    own = {"outcome": "profiled", "payer_features": [1, 2], "sender_partition": 1, "sender_offset": 9}
    head = {name: data.get(name) for name in ("rule_version", "reason")} | own
    event = PaymentProfiled(**{n: data[n] for n in after(PaymentLocalized, "fee_minor")}, **head)
    assert write(head, carried) == CODEC.encode(event)


def test_only_what_a_stage_reads_is_read() -> None:
    """The stage sees what it named, in the record's order; the bytes hold everything."""
    read = CODEC.carrying_reader(PaymentLocalized, "fee_minor", {"terminal_id", "outcome", "fee_minor"})
    data, carried = read(CODEC.encode(LOCALIZED))
    assert list(data) == ["outcome", "fee_minor", "terminal_id"]
    assert all(data[name] == getattr(LOCALIZED, name) for name in data)
    assert carried == CODEC.carrying_reader(PaymentLocalized, "fee_minor")(CODEC.encode(LOCALIZED))[1]


def test_a_field_that_is_not_there_cannot_be_read() -> None:
    """Told when the reader is made, not on the first event."""
    with pytest.raises(ValueError, match="PaymentLocalized has no payer"):
        CODEC.carrying_reader(PaymentLocalized, "fee_minor", ["tenant", "payer"])


def test_records_that_differ_in_what_is_carried_are_refused_when_made() -> None:
    """At start-up, not on the first event."""
    with pytest.raises(ValueError, match="PaymentAnswered and PaymentLocalized differ from field tenant on"):
        CODEC.carrying_writer(PaymentAnswered, "tenant", PaymentLocalized)


@pytest.mark.parametrize(
    ("value", "error"),
    [
        (b"", Error.NOT_AVRO),
        (b"\xc3", Error.NOT_AVRO),
        (b"{}", Error.NOT_AVRO),
        (b"\x00\x00", Error.NOT_AVRO),
        (SINGLE_OBJECT + b"\x01" * 8, Error.UNKNOWN_SCHEMA),
        (b"\x00\x00\x00\x00\x07rest", Error.UNKNOWN_SCHEMA),
        (CODEC.encode(SCORED), Error.WRONG_SCHEMA),
        (CODEC.encode(LOCALIZED)[:-30], Error.UNREADABLE_VALUE),
        (CODEC.encode(LOCALIZED)[:10], Error.UNREADABLE_VALUE),
    ],
)
@pytest.mark.parametrize(
    "read",
    [CODEC.decoder(PaymentLocalized), CODEC.carrying_reader(PaymentLocalized, "fee_minor", ["trace_id"])],
    ids=["decoder", "carrying reader"],
)
def test_what_is_not_the_record_has_a_stable_error(read: Callable[[bytes], Any], value: bytes, error: Error) -> None:
    """One error type whatever the bytes provoke, without the content."""
    with pytest.raises(UndecodableError) as caught:
        read(value)
    assert caught.value.error == error


@pytest.fixture
def older(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """A version of PaymentLocalized before ``trace_id``, known as an earlier one."""
    schema = json.loads(json.dumps(schema_of(PaymentLocalized)))
    schema["fields"] = [field for field in schema["fields"] if field["name"] != "trace_id"]
    header = SINGLE_OBJECT + fingerprint_of(schema)
    monkeypatch.setitem(codec_module._FORMATS[PaymentLocalized].others, header, fastavro.parse_schema(schema))
    return schema


def written_with(schema: dict[str, Any], record: Any) -> bytes:
    out = BytesIO()
    out.write(SINGLE_OBJECT + fingerprint_of(schema))
    data = msgspec.structs.asdict(record)
    names = {field["name"] for field in schema["fields"]}
    fastavro.schemaless_writer(out, fastavro.parse_schema(schema), {k: v for k, v in data.items() if k in names})
    return out.getvalue()


def test_an_older_schema_is_resolved(older: dict[str, Any]) -> None:
    """A field that came later has its default."""
    expected = msgspec.structs.replace(LOCALIZED, trace_id="")
    assert CODEC.decode(written_with(older, LOCALIZED), PaymentLocalized) == expected


def test_an_older_schema_is_carried_in_the_new_one(older: dict[str, Any]) -> None:
    """What is appended to the next event are bytes of today's fields, not of the old ones."""
    read = CODEC.carrying_reader(PaymentLocalized, "fee_minor")
    data, carried = read(written_with(older, LOCALIZED))
    assert (data["trace_id"], data["fee_minor"]) == ("", 35)
    assert carried == read(CODEC.encode(msgspec.structs.replace(LOCALIZED, trace_id="")))[1]


class Registry:
    """One that has a schema under 1, or is away."""

    def __init__(self, schema: str = "") -> None:
        self.schema = schema
        self.asked = 0

    def id_of(self, subject: str, schema: str) -> int:
        return 1

    def schema_of(self, schema_id: int) -> str:
        self.asked += 1
        if not self.schema:
            raise ConnectionError("the registry does not answer")
        if schema_id != 1:
            raise LookupError(schema_id)
        return self.schema


@pytest.mark.parametrize("read", ["decoder", "carrying"])
def test_a_registry_that_is_away_is_not_the_records_fault(read: str) -> None:
    """ConnectionError goes through, so that nobody takes the record for garbage."""
    codec = Codec(Registry())
    decode: Any = (
        codec.decoder(PaymentLocalized) if read == "decoder" else codec.carrying_reader(PaymentLocalized, "fee_minor")
    )
    with pytest.raises(ConnectionError):
        decode(b"\x00\x00\x00\x00\x01" + CODEC.encode(LOCALIZED)[10:])


def test_a_registry_is_asked_once_per_schema() -> None:
    """Not per record."""
    registry = Registry(json.dumps(schema_of(PaymentRequested)))
    codec = Codec(registry)
    framed = b"\x00\x00\x00\x00\x01" + CODEC.encode(REQUESTED)[10:]
    for _ in range(3):
        assert codec.decode(framed, PaymentRequested) == REQUESTED
    assert registry.asked == 1
    with pytest.raises(UndecodableError) as caught:
        codec.decode(b"\x00\x00\x00\x00\x02" + framed[5:], PaymentRequested)
    assert caught.value.error == Error.UNKNOWN_SCHEMA


def test_a_registered_schema_of_another_record_is_another_record() -> None:
    """The name decides, not whether the bytes happen to fit."""
    codec = Codec(Registry(json.dumps(schema_of(PaymentScored))))
    with pytest.raises(UndecodableError) as caught:
        codec.decode(b"\x00\x00\x00\x00\x01" + CODEC.encode(SCORED)[10:], PaymentLocalized)
    assert caught.value.error == Error.WRONG_SCHEMA
