"""The compiled codec beside its reference, fastavro: the same bytes, the same records, and no trust in what it reads."""

from __future__ import annotations

import gc
import os
import subprocess
import sys
import tracemalloc
from pathlib import Path
from typing import Any

import fastavro
import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from schemas.bodies import CLASSES, COMPILED, FastavroBody, plain, to_data, typed
from schemas.codec import schema_of
from schemas.records import (
    RECORDS,
    FeatureEffect,
    PaymentAnswered,
    PaymentRequested,
    PaymentScored,
    PaymentScreened,
    Record,
)
from tests.contract.samples import SAMPLES

if not COMPILED:
    pytest.skip("schemas.native is not compiled here", allow_module_level=True)

from schemas import native

ROOT = Path(__file__).parents[2]
by_record = pytest.mark.parametrize("record", RECORDS, ids=lambda record: record.__name__)
by_sample = pytest.mark.parametrize("sample", SAMPLES, ids=lambda sample: type(sample).__name__)
RUNS = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])

_SUB = {"type": "record", "name": "Sub", "fields": [{"name": "x", "type": "int"}, {"name": "y", "type": "string"}]}
_TYPES: dict[str, Any] = {
    "nothing": "null",
    "yes": "boolean",
    "small": "int",
    "big": "long",
    "single": "float",
    "exact": "double",
    "raw": "bytes",
    "text": {"type": "string"},
    "hash": {"type": "fixed", "name": "Hash", "size": 4},
    "suit": {"type": "enum", "name": "Suit", "symbols": ["CLUBS", "HEARTS"]},
    "list": {"type": "array", "items": {"type": "array", "items": "long"}},
    "by_name": {"type": "map", "values": ["null", _SUB]},
    "again": ["Sub", "null"],
    "named": "other.space.Sub",
}
#: One of everything that is compiled, named types referred to by short and by full name.
EVERYTHING: dict[str, Any] = {
    "type": "record",
    "name": "Everything",
    "namespace": "other.space",
    "fields": [{"name": name, "type": kind} for name, kind in _TYPES.items()],
}


def values(schema: Any) -> st.SearchStrategy[Any]:
    """Values of a schema, as fastavro takes them."""
    match schema:
        case [*members]:
            return st.one_of(*(values(member) for member in members))
        case "null":
            return st.none()
        case "boolean":
            return st.booleans()
        case "int":
            return st.integers(-(2**31), 2**31 - 1)
        case "long":
            return st.integers(-(2**63), 2**63 - 1)
        case "float":
            return st.floats(width=32, allow_nan=False)
        case "double":
            return st.floats(allow_nan=False)
        case "bytes":
            return st.binary(max_size=200)
        case "string" | {"type": "string"}:
            return st.text(max_size=100)
        case {"type": "fixed", "size": size}:
            return st.binary(min_size=size, max_size=size)
        case {"type": "enum", "symbols": symbols}:
            return st.sampled_from(symbols)
        case {"type": "array", "items": items}:
            return st.lists(values(items), max_size=5)
        case {"type": "map", "values": of}:
            return st.dictionaries(st.text(max_size=10), values(of), max_size=5)
        case {"type": "record", "fields": fields}:
            return st.fixed_dictionaries({field["name"]: values(field["type"]) for field in fields})
        case "Sub" | "other.space.Sub":
            return values(_SUB)
        case "Party":
            return values(schema_of(PaymentRequested)["fields"][5]["type"])
    raise NotImplementedError(schema)


def of(kind: Any) -> native.Body:
    """A record of one field, ``f``."""
    return native.Body({"type": "record", "name": "One", "fields": [{"name": "f", "type": kind}]}, {})


# -- the same as fastavro ---------------------------------------------------------------------------------------------


@by_record
def test_every_record_is_compiled(record: type[Record]) -> None:
    """Nobody falls back to fastavro without knowing, neither for records nor for parts of them."""
    assert type(typed(schema_of(record))) is native.Body
    assert type(plain(schema_of(record), 1)) is native.Body


@by_record
@RUNS
@given(data=st.data())
def test_records_are_those_of_the_reference(record: type[Record], data: st.DataObject) -> None:
    """Every record, from its class and from a dict, is the bytes that fastavro writes, and is read as what it was."""
    schema = schema_of(record)
    compiled, reference = native.Body(schema, CLASSES), FastavroBody(schema, CLASSES)
    given_data = data.draw(values(schema))
    value = msgspec.convert(given_data, record)
    written = compiled.write(b"head", value, b"tail")
    assert written == reference.write(b"head", given_data, b"tail")
    assert written == compiled.write(b"head", given_data, b"tail")
    assert type(compiled.read(written, 4)) is record
    assert compiled.read(written, 4) == reference.read(written, 4) == value


@by_record
@RUNS
@given(data=st.data())
def test_splits_are_those_of_the_reference(record: type[Record], data: st.DataObject) -> None:
    """The same dict, in the same order, and the same rest, wherever the split is."""
    schema = schema_of(record)
    at = data.draw(st.sampled_from([0, len(schema["fields"]) - 1, len(schema["fields"])]))
    if record is PaymentRequested:
        at = 0  # fastavro cannot split between a type and its second use.
    compiled, reference = native.Body(schema, {}, at), FastavroBody(schema, {}, at)
    written = compiled.write(b"head", data.draw(values(schema))) + b"behind"
    fields, rest = compiled.split(written, 4)
    assert (fields, rest) == reference.split(written, 4)
    assert list(fields) == [field["name"] for field in schema["fields"]]


@by_record
@RUNS
@given(data=st.data())
def test_splits_of_some_fields_are_those_of_the_reference(record: type[Record], data: st.DataObject) -> None:
    """What is not read is passed over, whatever it is."""
    schema = schema_of(record)
    names = [field["name"] for field in schema["fields"]]
    reads = data.draw(st.sets(st.sampled_from(names)))
    compiled, reference = native.Body(schema, {}, 0, reads), FastavroBody(schema, {}, 0, reads)
    written = compiled.write(b"head", data.draw(values(schema))) + b"behind"
    fields, rest = compiled.split(written, 4)
    assert (fields, rest) == reference.split(written, 4)
    assert list(fields) == [name for name in names if name in reads]


@RUNS
@given(value=values(EVERYTHING), data=st.data())
def test_passing_over_ends_where_reading_does(value: dict[str, Any], data: st.DataObject) -> None:
    """Of every type, and of bytes that are cut or changed: what cannot be read cannot be passed over either."""
    names = [field["name"] for field in EVERYTHING["fields"]]
    whole, none = native.Body(EVERYTHING, {}, len(names)), native.Body(EVERYTHING, {}, len(names), ())
    written = bytearray(whole.write(b"", value))
    if data.draw(st.booleans()) and written:
        written[data.draw(st.integers(0, len(written) - 1))] = data.draw(st.integers(0, 255))
    damaged = bytes(written[: data.draw(st.integers(0, len(written)))]) if data.draw(st.booleans()) else bytes(written)
    try:
        rest = whole.split(damaged, 0)[1]
    except (ValueError, OverflowError) as error:
        with pytest.raises(type(error)):
            none.split(damaged, 0)
    else:
        assert none.split(damaged, 0) == ({}, rest)


def test_a_split_reads_no_field_that_is_not_there() -> None:
    """Told when it is made."""
    with pytest.raises(ValueError, match="not there"):
        native.Body(EVERYTHING, {}, 0, ["absent"])


@RUNS
@given(value=values(EVERYTHING))
def test_every_type_is_that_of_the_reference(value: dict[str, Any]) -> None:
    """Also those that no record of today uses."""
    compiled, reference = native.Body(EVERYTHING, {}), FastavroBody(EVERYTHING, {})
    written = compiled.write(b"", value)
    assert written == reference.write(b"", value)
    assert compiled.read(written, 0) == reference.read(written, 0) == value


def test_a_parsed_schema_is_the_same_schema() -> None:
    """Full names, as fastavro.parse_schema leaves them."""
    parsed = fastavro.parse_schema(schema_of(PaymentRequested))
    sample = next(s for s in SAMPLES if isinstance(s, PaymentRequested))
    written = native.Body(parsed, CLASSES).write(b"", sample)
    assert written == native.Body(schema_of(PaymentRequested), CLASSES).write(b"", sample)
    assert native.Body(parsed, CLASSES).read(written, 0) == sample


def test_bytes_worked_out_by_hand() -> None:
    """Avro 1.12 "Binary Encoding": the specification's own examples."""
    assert [of("long").write(b"", {"f": n}).hex() for n in (0, -1, 1, -2, 2, -64, 64)] == [
        *("00", "01", "02", "03", "04", "7f", "8001"),
    ]
    assert of("string").write(b"", {"f": "foo"}).hex() == "06666f6f"
    assert of({"type": "array", "items": "long"}).write(b"", {"f": [3, 27]}).hex() == "04063600"
    assert of(["null", "string"]).write(b"", {"f": "a"}).hex() == "020261"
    assert of(["null", "string"]).write(b"", {"f": None}).hex() == "00"


def test_blocks_that_say_their_size_are_read() -> None:
    """A negative count is followed by the block's bytes; a list may come in several blocks (as Java writes them)."""
    longs, texts = {"type": "array", "items": "long"}, {"type": "map", "values": "string"}
    assert of(longs).read(bytes.fromhex("05 06 02 04 06 00"), 0) == {"f": [1, 2, 3]}
    assert of(longs).read(bytes.fromhex("02 02 01 02 04 00"), 0) == {"f": [1, 2]}
    assert of(texts).read(bytes.fromhex("01 08 02 61 02 62 00"), 0) == {"f": {"a": "b"}}


def test_a_missing_field_is_its_default() -> None:
    """Or null where that is possible; without either it is an error."""
    fields = [{"name": "a", "type": "long", "default": 7}, {"name": "b", "type": ["null", "string"]}]
    schema = {"type": "record", "name": "R", "fields": fields}
    assert native.Body(schema, {}).write(b"", {}) == FastavroBody(schema, {}).write(b"", {}) == b"\x0e\x00"
    with pytest.raises(ValueError, match="no value and no default for f"):
        of("long").write(b"", {})


# -- what is refused --------------------------------------------------------------------------------------------------


@by_sample
def test_bytes_that_end_early_are_refused(sample: Record) -> None:
    """Every prefix of a record, by every way to read."""
    schema = schema_of(type(sample))
    instances, split = native.Body(schema, CLASSES), native.Body(schema, {})
    whole = instances.write(b"", sample)
    for length in range(len(whole)):
        for read in (instances.read, split.read, split.split):
            with pytest.raises(native.TruncatedError):
                read(whole[:length], 0)


@by_sample
def test_no_flipped_byte_is_read_in_another_way(sample: Record) -> None:
    """What is read of damaged bytes is what the reference reads; what the reference refuses is refused."""
    schema = schema_of(type(sample))
    compiled, reference = native.Body(schema, {}), FastavroBody(schema, {})
    whole = native.Body(schema, CLASSES).write(b"", sample)
    refused = 0
    for at in range(len(whole)):
        for mask in (0x01, 0x02, 0x40, 0x80, 0xFF):
            damaged = whole[:at] + bytes([whole[at] ^ mask]) + whole[at + 1 :]
            try:
                value = compiled.read(damaged, 0)
            except ValueError:
                refused += 1
            else:
                assert msgspec.msgpack.encode(value) == msgspec.msgpack.encode(reference.read(damaged, 0))
    assert 0 < refused < 5 * len(whole)


@settings(max_examples=300, deadline=None)
@given(garbage=st.binary(max_size=80), schema=st.sampled_from([EVERYTHING, *map(schema_of, RECORDS)]))
def test_garbage_is_refused_or_is_what_the_reference_reads(garbage: bytes, schema: dict[str, Any]) -> None:
    """Nothing but ValueError comes out of it."""
    try:
        value = native.Body(schema, {}).read(garbage, 0)
    except ValueError:
        return
    assert msgspec.msgpack.encode(value) == msgspec.msgpack.encode(FastavroBody(schema, {}).read(garbage, 0))


HUGE = "feffffffffffffffff01"  # 2**63 - 1
LEAST = "ffffffffffffffffff01"  # -(2**63)
LONGS, NULLS, TEXTS = ({"type": "array", "items": of_} for of_ in ("long", "null", "string"))


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        ("long", "ff" * 10 + "01"),  # eleven bytes
        ("long", "ff" * 9 + "02"),  # 65 bits
        ("int", "8080808010"),  # 2**31
        ("string", "01"),  # -1 bytes
        ("string", HUGE),
        ("bytes", HUGE),
        ("bytes", LEAST),
        ("string", "04c328"),  # not UTF-8
        ("string", "06eda080"),  # a surrogate, which UTF-8 does not have
        (["null", "string"], "04"),
        (["null", "string"], "010261"),  # -1
        ({"type": "enum", "name": "E", "symbols": ["A"]}, "02"),
        ({"type": "enum", "name": "E", "symbols": ["A"]}, "01"),
        ({"type": "fixed", "name": "F", "size": 4}, "000000"),
        (LONGS, HUGE),
        (LONGS, HUGE + "02" * 100_000),  # nothing is read of it
        (LONGS, LEAST + "00"),
        (LONGS, "01" + "01" + "0200"),  # a block of -1 bytes
        (LONGS, "01" + HUGE + "0200"),  # a block of 2**63 - 1 bytes
        (LONGS, "01" + "04" + "0200"),  # a block of one byte that says two
        (TEXTS, HUGE),
        (NULLS, "80" * 8 + "20" + "00"),  # 2**60 items of no bytes
        (NULLS, "8010" * 100_000),  # 1024 items of no bytes, again and again
        ({"type": "map", "values": "null"}, HUGE),
    ],
    ids=lambda value: value[:24] if isinstance(value, str) else "",
)
def test_a_lie_about_length_or_number_costs_nothing(kind: Any, body: str) -> None:
    """It is refused before memory is taken for it."""
    reader, value = of(kind), bytes.fromhex(body)
    tracemalloc.start()
    try:
        with pytest.raises(ValueError):
            reader.read(value, 0)
        assert tracemalloc.get_traced_memory()[1] < 100_000
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("start", [-1, 2, 2**62])
def test_a_start_outside_of_the_bytes_is_refused(start: int) -> None:
    """Not read."""
    with pytest.raises(native.TruncatedError):
        of("null").read(b"\x00", start)


@pytest.mark.parametrize(
    ("kind", "value", "error"),
    [
        ("long", 2**63, OverflowError),
        ("long", -(2**63) - 1, OverflowError),
        ("int", 2**31, OverflowError),
        ("long", 1.0, TypeError),
        ("long", "1", TypeError),
        ("long", None, TypeError),
        ("boolean", 1, TypeError),
        ("double", "1.5", TypeError),
        ("double", 10**400, OverflowError),
        ("float", 1e300, OverflowError),
        ("string", b"a", TypeError),
        ("string", "\ud800", ValueError),
        ("bytes", "a", TypeError),
        ("null", 0, TypeError),
        (["null", "string"], 1, TypeError),
        (LONGS, {1: 2}, TypeError),
        (TEXTS, "ab", TypeError),
        ({"type": "map", "values": "long"}, {1: 1}, TypeError),
        ({"type": "map", "values": "long"}, [1], TypeError),
        ({"type": "fixed", "name": "F", "size": 4}, b"abc", ValueError),
        ({"type": "enum", "name": "E", "symbols": ["A"]}, "B", ValueError),
        (_SUB, 5, TypeError),
    ],
)
def test_a_value_of_another_type_is_not_written(kind: Any, value: Any, error: type[Exception]) -> None:
    """Nothing is coerced and nothing cut."""
    with pytest.raises(error):
        of(kind).write(b"head", {"f": value})


@pytest.mark.parametrize(
    "kind",
    [
        {"type": "long", "logicalType": "timestamp-millis"},
        ["null", "string", "long"],
        ["string", "long"],
        "Unknown",
        {"type": "array"},
        {"type": "record", "name": "One", "fields": [{"name": "f", "type": ["null", "One"]}]},
    ],
)
def test_what_is_not_compiled_is_refused_when_made(kind: Any) -> None:
    """So that fastavro takes the whole schema, not a part of it."""
    with pytest.raises(native.UnsupportedSchemaError):
        of(kind)


def test_fastavro_takes_what_is_not_compiled() -> None:
    """A union of three types, say."""
    schema = {"type": "record", "name": "R", "fields": [{"name": "f", "type": ["null", "string", "long"]}]}
    body = plain(schema)
    assert body.read(body.write(b"", {"f": 5}), 0) == {"f": 5}


def test_a_class_with_other_fields_than_its_schema_is_refused() -> None:
    """When it is made, not by records with values in the wrong places."""
    with pytest.raises(native.UnsupportedSchemaError, match="PaymentAnswered has other fields"):
        native.Body(schema_of(PaymentAnswered), {"PaymentAnswered": PaymentRequested})


# -- memory -----------------------------------------------------------------------------------------------------------


def test_nothing_is_kept_of_what_was_read_and_written() -> None:
    """100,000 records read, written, and refused in the middle leave the number of objects as it was."""
    sample = next(s for s in SAMPLES if isinstance(s, PaymentScreened))
    instances = native.Body(schema_of(PaymentScreened), CLASSES)
    dicts = native.Body(schema_of(PaymentScreened), {}, 7)
    whole = instances.write(b"", sample)
    wrong = dicts.read(whole, 0) | {"request": "text"}

    def use(times: int) -> int:
        for _ in range(times):
            instances.write(b"", instances.read(whole, 0))
            dicts.write(b"", dicts.split(whole, 0)[0])
            for refused, arguments in ((instances.read, (whole[:-1], 0)), (dicts.write, (b"", wrong))):
                try:
                    refused(*arguments)  # type: ignore[operator]
                except (ValueError, TypeError):
                    continue
                raise AssertionError
        gc.collect()
        return sys.getallocatedblocks()

    before = use(1_000)
    assert use(100_000) - before < 200


def test_large_records_give_their_memory_back() -> None:
    """What does not fit on the stack is freed, also when the record cannot be written to its end."""
    body = native.Body(schema_of(PaymentScreened), CLASSES)
    sample = to_data(next(s for s in SAMPLES if isinstance(s, PaymentScreened)))
    large = sample | {"token": "t" * 100_000}
    wrong = large | {"request": None}
    assert body.read(body.write(b"", large), 0).token == large["token"]
    tracemalloc.start()
    try:
        for _ in range(100):
            body.write(b"", large)
            with pytest.raises(TypeError):
                body.write(b"", wrong)
        assert tracemalloc.get_traced_memory()[0] < 1_000_000
    finally:
        tracemalloc.stop()


# -- without it -------------------------------------------------------------------------------------------------------


def test_the_codec_is_the_same_without_it() -> None:
    """All tests of the codec, the schemas and the audit rows pass in a process that cannot import the compiled module."""
    hide = "import sys; sys.modules['schemas.native'] = None; from schemas.codec import COMPILED; assert not COMPILED; "
    tests = ["tests/unit/test_codec.py", "tests/contract/test_schemas.py", "tests/unit/test_audit_rows.py"]
    run = f"import pytest; sys.exit(pytest.main(['-q', '-p', 'no:cacheprovider', *{tests!r}]))"
    environment = {name: value for name, value in os.environ.items() if name != "CI"}
    ended = subprocess.run(
        [sys.executable, "-c", hide + run], cwd=ROOT, env=environment, capture_output=True, text=True, timeout=120
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr


def test_records_in_lists_of_a_split_record_are_of_their_classes() -> None:
    """Both ways alike: a stage that passes most of a record on reads their fields by name."""
    schema = {
        "type": "record",
        "name": "ptr.Split",
        "fields": [
            next(field for field in schema_of(PaymentScored)["fields"] if field["name"] == "effects"),
            {"name": "rest", "type": "string"},
        ],
    }
    effect = FeatureEffect(feature="amount", value=9.0, usual=4.0, effect=0.5)
    written = FastavroBody(schema, CLASSES).write(b"head", {"effects": [effect], "rest": "x"})
    for body in (native.Body(schema, CLASSES, 1), FastavroBody(schema, CLASSES, 1)):
        assert body.split(written, 4) == ({"effects": [effect], "rest": "x"}, b"\x02x")
