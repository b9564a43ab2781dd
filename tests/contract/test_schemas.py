"""The schemas are the contract: bytes that were once written stay readable, and nothing changes by accident."""

from __future__ import annotations

import json
from io import BytesIO
from pathlib import Path
from typing import Any, get_type_hints

import avro.io
import avro.schema
import fastavro
import msgspec
import pytest
from avro.compatibility import ReaderWriterCompatibilityChecker, SchemaCompatibilityType

from schemas.codec import (
    SINGLE_OBJECT,
    Codec,
    UndecodableError,
    earlier_schemas,
    fingerprint_of,
    schema_file_name,
    schema_of,
)
from schemas.personal import personal_fields
from schemas.reasons import Error
from schemas.records import RECORDS, PaymentRequested, Record
from tests.contract.samples import SAMPLES

GOLDEN = Path(__file__).parent / "golden"
SCHEMAS = Path(__file__).parents[2] / "schemas"
CODEC = Codec()
by_record = pytest.mark.parametrize("record", RECORDS, ids=lambda record: record.__name__)
by_sample = pytest.mark.parametrize("sample", SAMPLES, ids=lambda sample: type(sample).__name__)


def golden_files(record: type[Record]) -> list[Path]:
    """``payment_requested.1.hex`` and, for later versions of the schema, ``.2.hex`` and so on."""
    return sorted(GOLDEN.glob(f"{schema_file_name(record)}.*.hex"))


# -- golden bytes -----------------------------------------------------------------------------------------------------


def test_there_is_a_sample_of_every_record() -> None:
    """A record without a sample would have no golden bytes."""
    assert tuple(type(sample) for sample in SAMPLES) == RECORDS


@by_sample
def test_a_record_is_written_as_it_was_the_first_time(sample: Record) -> None:
    """The newest golden file holds exactly the bytes that today's code writes, header included."""
    written = golden_files(type(sample))
    assert written, f"tests/contract/golden has no {schema_file_name(type(sample))}.1.hex"
    assert CODEC.encode(sample).hex() == "".join(written[-1].read_text().split())


@by_sample
def test_bytes_that_were_ever_written_are_still_read(sample: Record) -> None:
    """Every golden file, also those of earlier schemas, decodes to the record it was made of."""
    for path in golden_files(type(sample)):
        assert CODEC.decode(bytes.fromhex(path.read_text()), type(sample)) == sample, path.name


@by_sample
def test_apaches_reader_reads_what_is_written(sample: Record) -> None:
    """Somebody else's Avro reads the body, byte for byte to its end, as the same values."""
    body = BytesIO(CODEC.encode(sample)[10:])
    schema = avro.schema.parse(json.dumps(schema_of(type(sample))))
    data = avro.io.DatumReader(schema).read(avro.io.BinaryDecoder(body))
    assert data == msgspec.to_builtins(sample, builtin_types=(bytes,))
    assert body.read() == b""


# -- schemas and records ----------------------------------------------------------------------------------------------


def shape_of_schema(schema: Any) -> Any:
    """An Avro type as a comparable shape."""
    if isinstance(schema, list):
        return ("union", tuple(shape_of_schema(part) for part in schema))
    if isinstance(schema, dict):
        match schema["type"]:
            case "record":
                fields = tuple(
                    (f["name"], shape_of_schema(f["type"]), f.get("default", "none")) for f in schema["fields"]
                )
                return ("record", schema["name"], fields)
            case "array":
                return ("array", shape_of_schema(schema["items"]))
            case "map":
                return ("map", shape_of_schema(schema["values"]))
            case other:
                return shape_of_schema(other)
    return {"int": "integer", "long": "integer", "double": "double"}.get(schema, schema)


def shape_of_record(record: type[Record], seen: set[type[Record]]) -> Any:
    """The same of a typed record; a named type that was seen is given by its name, as Avro does."""
    if record in seen:
        return f"payments.v1.{record.__name__}"
    seen.add(record)
    hints = get_type_hints(record)
    fields = []
    for field in msgspec.structs.fields(record):
        default = field.default if field.default_factory is msgspec.NODEFAULT else field.default_factory()
        fields.append(
            (field.name, _shape(hints[field.name], seen), "none" if default is msgspec.NODEFAULT else default)
        )
    return ("record", record.__name__, tuple(fields))


def _shape(hint: Any, seen: set[type[Record]]) -> Any:
    simple = {str: "string", int: "integer", float: "double", bytes: "bytes", bool: "boolean"}
    if hint in simple:
        return simple[hint]
    if isinstance(hint, type) and issubclass(hint, Record):
        return shape_of_record(hint, seen)
    arguments = hint.__args__
    if type(None) in arguments:
        (other,) = (a for a in arguments if a is not type(None))
        return ("union", ("null", _shape(other, seen)))
    if hint.__origin__ is dict:
        return ("map", _shape(arguments[1], seen))
    return ("array", _shape(arguments[0], seen))


@by_record
def test_the_typed_record_is_what_the_schema_says(record: type[Record]) -> None:
    """Names, order, types, nested records and defaults are the same on both sides."""
    assert _named(shape_of_schema(schema_of(record))) == _named(shape_of_record(record, set()))


def _named(shape: Any) -> Any:
    """References to named types without their namespace."""
    if isinstance(shape, tuple):
        return tuple(_named(part) for part in shape)
    return shape.removeprefix("payments.v1.") if isinstance(shape, str) else shape


def test_every_schema_file_belongs_to_a_record() -> None:
    """No schema without a record, no history without a schema."""
    names = {schema_file_name(record) for record in RECORDS}
    assert {path.stem for path in (SCHEMAS / "avro").glob("*.avsc")} == names
    assert {path.name for path in (SCHEMAS / "history").iterdir() if path.is_dir()} == names


@by_record
def test_every_field_is_explained(record: type[Record]) -> None:
    """Record and fields have a doc: the files are the reference."""
    schema = schema_of(record)
    assert schema["doc"]
    assert [field["name"] for field in schema["fields"] if not field.get("doc")] == []


@by_record
def test_every_text_says_whether_it_is_personal(record: type[Record]) -> None:
    """In every record, nested ones too, in the newest kept version as in the current one."""
    assert personal_fields(schema_of(record)) == personal_fields(earlier_schemas(record)[-1])


def test_a_new_text_that_does_not_say_is_found() -> None:
    """At the top, in a record inside, in an array and in a map; and a word that is none."""
    texts: list[Any] = [
        "string",
        "bytes",
        ["null", "string"],
        {"type": "array", "items": "string"},
        {"type": "map", "values": "string"},
        {"type": "array", "items": {"type": "record", "name": "Inner", "fields": [{"name": "x", "type": "string"}]}},
    ]
    schema = schema_of(PaymentRequested)
    for avro_type in texts:
        new = {"name": "new", "type": avro_type}
        with pytest.raises(ValueError, match=r"PaymentRequested\.new"):
            personal_fields(schema | {"fields": [*schema["fields"], new]})
    with pytest.raises(ValueError, match="is one of no, subject"):
        personal_fields(
            schema | {"fields": [*schema["fields"], {"name": "new", "type": "string", "personal": "maybe"}]}
        )
    assert personal_fields(schema | {"fields": [*schema["fields"], {"name": "new", "type": "long"}]})


def test_the_person_in_a_request_is_marked() -> None:
    """What a payment says of its parties, by hand: nobody may mark a name as none of anybody's."""
    marked = personal_fields(schema_of(PaymentRequested))
    for party in ("debtor", "creditor"):
        assert {path.split(".")[1]: word for path, word in marked.items() if path.startswith(f"{party}.")} == {
            "id": "subject",
            "name": "name",
            "country": "place",
            "birth_date": "birth",
            "registration": "name",
        }
    assert marked["instrument.token"] == "instrument"
    assert (marked["metadata"], marked["order_reference"], marked["locality.postcode"]) == ("text", "text", "place")
    for record in RECORDS:
        for path, word in personal_fields(schema_of(record)).items():
            if path.rsplit(".", 1)[-1] in ("debtor_id", "creditor_id", "party_id"):
                assert word == "subject", f"{record.__name__}.{path}"


# -- compatibility ----------------------------------------------------------------------------------------------------


def incompatibilities(reader: Any, writer: Any) -> str:
    """What Apache Avro's own checker says; empty when ``reader`` reads what ``writer`` wrote."""
    result = ReaderWriterCompatibilityChecker().get_compatibility(
        avro.schema.parse(json.dumps(reader)), avro.schema.parse(json.dumps(writer))
    )
    return "" if result.compatibility is SchemaCompatibilityType.compatible else "; ".join(sorted(result.messages))


@by_record
def test_each_version_reads_every_other(record: type[Record]) -> None:
    """Full and transitive: each kept version, and the current one, reads what each of them wrote."""
    versions = [*earlier_schemas(record), schema_of(record)]
    for reader in versions:
        for writer in versions:
            assert incompatibilities(reader, writer) == ""


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"name": "added", "type": "string"}, "added"),
        ({"name": "tenant", "type": "long"}, "reader type: long"),
    ],
)
def test_the_check_sees_a_change_that_breaks(changed: dict[str, Any], words: str) -> None:
    """A field without default, or with another type, is not compatible: the check above is a check."""
    schema = json.loads(json.dumps(schema_of(RECORDS[0])))
    fields = [field for field in schema["fields"] if field["name"] != changed["name"]]
    assert words in incompatibilities(schema | {"fields": [*fields, changed]}, schema_of(RECORDS[0])).lower()


@by_record
def test_the_current_schema_is_the_newest_kept_version(record: type[Record]) -> None:
    """A changed schema is a new file in schemas/history, numbered without holes."""
    versions = earlier_schemas(record)
    assert versions[-1] == schema_of(record)
    kept = sorted(int(path.stem) for path in (SCHEMAS / "history" / schema_file_name(record)).glob("*.avsc"))
    assert kept == list(range(1, len(versions) + 1))


# -- framing ----------------------------------------------------------------------------------------------------------


def crc64_avro(data: bytes) -> bytes:
    """CRC-64-AVRO as the Avro specification defines it (1.12.0, "Schema Fingerprints"), bit by bit, little endian."""
    empty = fp = 0xC15D213AA4D7A795
    for byte in data:
        fp ^= byte
        for _ in range(8):
            fp = (fp >> 1) ^ (empty if fp & 1 else 0)
    return fp.to_bytes(8, "little")


def canonical(schema: Any) -> str:
    """Parsing Canonical Form by the specification's steps, for the kinds of schema that are used here."""

    def strip(part: Any, namespace: str) -> Any:
        if isinstance(part, list):
            return [strip(item, namespace) for item in part]
        if not isinstance(part, dict):
            primitive = {"null", "boolean", "int", "long", "float", "double", "bytes", "string"}
            return part if part in primitive or "." in part else f"{namespace}.{part}"
        if part["type"] == "record":
            namespace = part.get("namespace", namespace)
            fields = [{"name": f["name"], "type": strip(f["type"], namespace)} for f in part["fields"]]
            return {"name": f"{namespace}.{part['name']}", "type": "record", "fields": fields}
        if part["type"] == "array":
            return {"type": "array", "items": strip(part["items"], namespace)}
        if part["type"] == "map":
            return {"type": "map", "values": strip(part["values"], namespace)}
        return strip(part["type"], namespace)

    return json.dumps(strip(schema, ""), separators=(",", ":"), ensure_ascii=False)


def test_the_specifications_fingerprints() -> None:
    """Apache Avro's own table (share/test/data/schema-tests.txt): "int" is 8247732601305521295 as a signed number."""
    assert int.from_bytes(crc64_avro(b'"int"'), "little", signed=True) == 8247732601305521295
    assert int.from_bytes(crc64_avro(b'"null"'), "little", signed=True) == 7195948357588979594


@by_record
def test_the_header_is_the_fingerprint_of_the_specification(record: type[Record]) -> None:
    """Two bytes C3 01, then the CRC-64-AVRO of the canonical form, by two implementations that are not ours."""
    schema = schema_of(record)
    by_the_specification = crc64_avro(canonical(schema).encode())
    assert fingerprint_of(schema) == by_the_specification
    assert CODEC.header(record) == SINGLE_OBJECT + by_the_specification
    assert avro.schema.parse(json.dumps(schema)).fingerprint("CRC-64-AVRO") == by_the_specification


class Registered:
    """A registry that knows schemas by number, as the codec sees one."""

    def __init__(self, schemas: dict[int, str]) -> None:
        self.schemas = schemas

    def id_of(self, subject: str, schema: str) -> int:
        number = len(self.schemas) + 1
        self.schemas[number] = schema
        return number

    def schema_of(self, schema_id: int) -> str:
        return self.schemas[schema_id]


@by_sample
def test_both_framings_are_read(sample: Record) -> None:
    """The same body behind C3 01 + fingerprint and behind 00 + schema id is the same record; the latter is written with a
    registry."""
    codec = Codec(Registered({}))
    framed = codec.encode(sample)
    assert framed[:5] == b"\x00\x00\x00\x00\x01"
    assert framed[5:] == CODEC.encode(sample)[10:]
    assert codec.decode(framed, type(sample)) == sample
    assert codec.decode(CODEC.encode(sample), type(sample)) == sample
    assert codec.record_of(framed) is type(sample)


@by_sample
def test_another_record_is_not_taken_for_this_one(sample: Record) -> None:
    """A value says in its header what it is; nothing is guessed from the body."""
    for other in RECORDS:
        if other is not type(sample):
            with pytest.raises(UndecodableError) as caught:
                CODEC.decode(CODEC.encode(sample), other)
            assert caught.value.error == Error.WRONG_SCHEMA


def test_fastavro_reads_single_object_files_of_ours() -> None:
    """The body is plain Avro: any client with the .avsc file writes and reads it (README's ten lines)."""
    sample = SAMPLES[0]
    out = BytesIO()
    schema = fastavro.parse_schema(json.loads((SCHEMAS / "avro" / "payment_requested.avsc").read_text()))
    fastavro.schemaless_writer(out, schema, msgspec.to_builtins(sample))
    assert CODEC.decode(CODEC.header(type(sample)) + out.getvalue(), type(sample)) == sample
