"""Records as JSON and picked fields: the compiled way beside its reference, which is msgspec on the decoded record."""

from __future__ import annotations

import json
from contextlib import suppress
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from schemas.codec import COMPILED, Codec, UndecodableError, schema_of
from schemas.records import (
    ChargebackReceived,
    DeadLetter,
    ExceptionGranted,
    PaymentAnswered,
    PaymentCompleted,
    PaymentQueued,
    PaymentRequested,
    PaymentScored,
    PaymentScreened,
    Record,
    ReviewAnswered,
    ReviewOpened,
    TenantConfigured,
)
from schemas.transcripts import of_record, transcriber
from tests.contract.samples import SAMPLES

if not COMPILED:
    pytest.skip("schemas.native is not compiled here", allow_module_level=True)

from schemas import native
from tests.unit.test_native_codec import EVERYTHING, values

CODEC = Codec()
RUNS = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
AUDITED: list[type[Record]] = [
    PaymentScreened,
    PaymentScored,
    PaymentQueued,
    PaymentAnswered,
    PaymentCompleted,
    ChargebackReceived,
]
AUDITED += [DeadLetter, TenantConfigured, ReviewOpened, ReviewAnswered, ExceptionGranted]
PTR = schema_of(PaymentRequested)


def names(record: type[Record]) -> tuple[str, ...]:
    """Fields that may be picked, last first, so that their order is not that of the record."""
    return tuple(name for name in reversed(record.__struct_fields__) if name != "request")


def both(record: type[Record], value: bytes, **options: Any) -> list[Any]:
    """What the compiled way and the reference make of ``value``: the transcript, or that it is unreadable."""
    found: list[Any] = ["unreadable", "unreadable"]
    with suppress(UndecodableError):
        found[0] = transcriber(CODEC, record, names(record), **options)(value)
    with suppress(Exception):
        found[1] = of_record(CODEC.decode(value, record), names(record), **options)
    return found


@pytest.mark.parametrize("record", AUDITED, ids=lambda record: record.__name__)
@RUNS
@given(data=st.data())
def test_the_compiled_way_is_the_reference(record: type[Record], data: st.DataObject) -> None:
    """Byte for byte the JSON that msgspec writes of the record, and the values that the record holds."""
    drawn = data.draw(values(schema_of(record)))
    compiled, reference = both(record, CODEC.dict_encoder(record)(drawn))
    assert compiled == reference
    assert compiled[0] == reference[0] != "unreadable"
    assert [type(value) for value in compiled] == [type(value) for value in reference]


@RUNS
@given(data=st.data())
def test_screening_shows_the_ptr(data: st.DataObject) -> None:
    """Its event shows the PTR instead of its bytes; damaged bytes of a PTR are unreadable for both."""
    fields = data.draw(values(schema_of(PaymentScreened)))
    ptr = native.Body(PTR, {}).write(b"", data.draw(values(PTR)))
    cut = data.draw(st.integers(0, len(ptr)))
    for body in (ptr, ptr[:cut], ptr + b"more", fields["request"]):
        value = CODEC.dict_encoder(PaymentScreened)(fields | {"request": body})
        compiled, reference = both(PaymentScreened, value, with_request=True)
        assert compiled == reference
    whole = CODEC.dict_encoder(PaymentScreened)(fields | {"request": ptr})
    shown = transcriber(CODEC, PaymentScreened, (), with_request=True)(whole)[0]
    assert msgspec.json.decode(shown)["request"] == msgspec.to_builtins(native.Body(PTR, {}).read(ptr, 0))


@pytest.mark.parametrize("record", [PaymentScored, PaymentAnswered, DeadLetter], ids=lambda record: record.__name__)
@RUNS
@given(data=st.data())
def test_damaged_bytes_are_refused_by_both(record: type[Record], data: st.DataObject) -> None:
    """Cut off, or with some byte changed: one and the same answer, never a crash."""
    value = bytearray(CODEC.dict_encoder(record)(data.draw(values(schema_of(record)))))
    cut = data.draw(st.integers(10, len(value) - 1))
    compiled, reference = both(record, bytes(value[:cut]))
    assert compiled == reference == "unreadable"
    value[data.draw(st.integers(10, len(value) - 1))] = data.draw(st.integers(0, 255))
    compiled, reference = both(record, bytes(value))
    assert compiled == reference


@RUNS
@given(data=st.data())
def test_every_type_is_written_as_msgspec_writes_it(data: st.DataObject) -> None:
    """All that is compiled: numbers, texts, bytes, lists in lists, maps, enumerations, unions, records in records."""
    drawn = data.draw(values(EVERYTHING))
    body = native.Body(EVERYTHING, {})
    value = body.write(b"head", drawn)
    read, exact = native.Transcript(EVERYTHING, {}, ("text", "exact")).read(value, 4), body.read(value, 4)
    assert read == (msgspec.json.encode(exact).decode(), drawn["text"], drawn["exact"])


_TEXTS: dict[str, Any] = {"type": "record", "name": "T", "fields": [{"name": "t", "type": "string"}]}


@settings(max_examples=500, deadline=None)
@given(st.one_of(st.text(max_size=40), st.text(st.characters(max_codepoint=0xFF), min_size=7, max_size=20)))
@example("")
@example("\x00")
@example("seven..\x1f")
@example("1234567\x7f")
@example('1234567"')
@example("12345678\\")
@example("\u2028\U0001f600 é")
def test_texts_are_escaped_as_msgspec_escapes_them(text: str) -> None:
    """Wherever in a word of eight bytes the character stands that JSON or UTF-8 treats apart."""
    value = native.Body(_TEXTS, {}).write(b"", {"t": text})
    assert native.Transcript(_TEXTS, {}, ()).read(value, 0) == (msgspec.json.encode({"t": text}).decode(),)


@pytest.mark.parametrize("junk", [b"\xff", b"\xc0\xaf", b"\xed\xa0\x80", b"12345678\xf4\x90\x80\x80"])
def test_texts_that_are_no_utf_8_are_refused(junk: bytes) -> None:
    """Stray bytes, overlong forms, surrogates, beyond the last character."""
    with pytest.raises(UnicodeDecodeError):
        native.Transcript(_TEXTS, {}, ()).read(bytes([2 * len(junk)]) + junk, 0)


@pytest.mark.parametrize("number", [0, 9, 10, -1, 2**31 - 1, -(2**31), 2**63 - 1, -(2**63), 10**18])
def test_numbers_at_their_limits(number: int) -> None:
    """Every digit, the least number too, which has no positive counterpart."""
    schema = {"type": "record", "name": "N", "fields": [{"name": "n", "type": "long"}]}
    value = native.Body(schema, {}).write(b"", {"n": number})
    assert native.Transcript(schema, {}, ("n",)).read(value, 0) == (f'{{"n":{number}}}', number)


class _Registry:
    """A registry that knows one schema."""

    def __init__(self, schema: dict[str, Any]) -> None:
        self._schema = json.dumps(schema)

    def id_of(self, subject: str, schema: str) -> int:
        return 1

    def schema_of(self, schema_id: int) -> str:
        return self._schema


def test_records_of_other_schemas_are_read_through_the_reference() -> None:
    """A record that was written before a field was added is shown with that field's default."""
    sample = next(sample for sample in SAMPLES if isinstance(sample, PaymentAnswered))
    schema = schema_of(PaymentAnswered)
    before = schema | {"fields": [field for field in schema["fields"] if field["name"] != "trace_id"]}
    value = b"\x00\x00\x00\x00\x01" + native.Body(before, {}).write(b"", msgspec.to_builtins(sample))
    payload, trace_id, pic = transcriber(Codec(_Registry(before)), PaymentAnswered, ("trace_id", "pic"))(value)
    assert (trace_id, pic) == ("", sample.pic)
    assert json.loads(payload) == msgspec.to_builtins(sample) | {"trace_id": ""}


def test_the_bytes_of_the_ptr_are_left_out() -> None:
    """What an event carries for later stages is not shown."""
    sample = next(sample for sample in SAMPLES if isinstance(sample, PaymentQueued))
    value = CODEC.encode(msgspec.structs.replace(sample, request=b"\x00" * 50))
    payload, token = transcriber(CODEC, PaymentQueued, ("token",))(value)
    assert "request" not in json.loads(payload)
    assert token == sample.token


@pytest.mark.parametrize("picked", [("nothing",), ("tenant", "tenant"), ("request",)])
def test_fields_that_cannot_be_picked_are_refused(picked: tuple[str, ...]) -> None:
    """Unknown, twice, or the bytes that are not read: told when the transcript is made, not for each record."""
    with pytest.raises(ValueError, match="field"):
        native.Transcript(schema_of(PaymentQueued), {}, picked, "request")


def test_what_is_shown_inside_must_be_bytes_at_the_end() -> None:
    """Any other field would be read as something that it is not."""
    for body in ("tenant", "trace_id"):
        with pytest.raises(ValueError, match="must be the last field"):
            native.Transcript(schema_of(PaymentQueued), {}, (), body)
