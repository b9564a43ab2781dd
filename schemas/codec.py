"""Avro bytes to typed records and back.

Written: Avro single-object encoding (``C3 01``, the CRC-64-AVRO fingerprint of the writer's schema, the body), or, with a
schema registry, Confluent framing (``00``, the schema's id as four bytes, the body). Both are always read. A record written
with an older schema that this repository knows is read through schema resolution, which is fastavro's; what comes with today's
schema is read and written by :mod:`schemas.bodies`.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Mapping
from functools import cache
from importlib import resources
from io import BytesIO
from typing import Any, Protocol, TypeVar

import fastavro
import msgspec
from fastavro.schema import fingerprint, to_parsing_canonical_form

from schemas import bodies
from schemas.bodies import COMPILED as COMPILED
from schemas.reasons import Error
from schemas.records import RECORDS, PaymentRequested, Record

T = TypeVar("T", bound=Record)
SINGLE_OBJECT = b"\xc3\x01"
CONFLUENT = b"\x00"


class UndecodableError(ValueError):
    """Bytes that are not the record that was expected; ``error`` is a stable code, the text holds no content."""

    def __init__(self, error: Error, detail: str) -> None:
        super().__init__(f"{error}: {detail}")
        self.error = error
        self.detail = detail


class Registry(Protocol):
    """What the codec needs of a schema registry."""

    def id_of(self, subject: str, schema: str) -> int:
        """Register ``schema`` under ``subject`` and give its id."""

    def schema_of(self, schema_id: int) -> str:
        """The schema with this id, JSON; raises LookupError when there is none."""


def schema_file_name(record: type[Record]) -> str:
    """``PaymentRequested`` is kept in ``payment_requested.avsc``."""
    return "".join("_" + c.lower() if c.isupper() else c for c in record.__name__)[1:]


@cache
def schema_of(record: type[Record]) -> dict[str, Any]:
    """The current Avro schema of ``record``, as JSON data."""
    text = resources.files("schemas").joinpath("avro", f"{schema_file_name(record)}.avsc").read_text()
    return json.loads(text)  # type: ignore[no-any-return]


@cache
def earlier_schemas(record: type[Record]) -> list[dict[str, Any]]:
    """Every version kept in ``schemas/history``, oldest first; the last one is the current schema."""
    folder = resources.files("schemas").joinpath("history", schema_file_name(record))
    names = sorted((entry.name for entry in folder.iterdir()), key=lambda name: int(name.split(".")[0]))
    return [json.loads(folder.joinpath(name).read_text()) for name in names]


def fingerprint_of(schema: dict[str, Any]) -> bytes:
    """CRC-64-AVRO of the schema's parsing canonical form, eight bytes, little endian, as the Avro specification says."""
    text = fingerprint(to_parsing_canonical_form(schema), "CRC-64-AVRO")
    return bytes.fromhex(text)


class _Format:
    """One record type: its schemas, headers and body."""

    def __init__(self, record: type[Record]) -> None:
        self.record = record
        self.schema = fastavro.parse_schema(schema_of(record))
        self.body = bodies.typed(schema_of(record))
        self.header = SINGLE_OBJECT + fingerprint_of(schema_of(record))
        #: Parsed writer's schemas by header, for everything but the current one.
        self.others: dict[bytes, Any] = {}
        for earlier in earlier_schemas(record):
            header = SINGLE_OBJECT + fingerprint_of(earlier)
            if header != self.header:
                self.others[header] = fastavro.parse_schema(earlier)


_FORMATS = {record: _Format(record) for record in RECORDS}
_KNOWN_HEADERS = {header: f.record for f in _FORMATS.values() for header in (f.header, *f.others)}


class Codec:
    """Encodes and decodes; with a registry it writes Confluent framing. Stateless but for the registry's cache."""

    def __init__(self, registry: Registry | None = None) -> None:
        self._registry = registry
        self._headers: dict[type[Record], bytes] = {}
        self._by_id: dict[bytes, Any] = {}

    def __reduce__(self) -> tuple[type[Codec], tuple[Registry | None]]:
        """For another process: the registry goes along, what was asked of it does not."""
        return Codec, (self._registry,)

    def header(self, record: type[Record], topic: str = "") -> bytes:
        """What comes before the body of ``record``."""
        if self._registry is None:
            return _FORMATS[record].header
        if record not in self._headers:
            schema = json.dumps(schema_of(record))
            schema_id = self._registry.id_of(f"payments.v1.{record.__name__}", schema)
            self._headers[record] = CONFLUENT + schema_id.to_bytes(4, "big")
        return self._headers[record]

    @staticmethod
    def own_header(record: type[Record]) -> bytes:
        """The header of ``record`` in single-object encoding, today's schema: what stands before a body of this project's."""
        return _FORMATS[record].header

    def encoder(self, record: type[T]) -> Callable[[T], bytes]:
        """A function that encodes ``record``s: the fast way for a stage that writes one kind."""
        return self._writer(record)

    def carrying_reader(
        self, record: type[T], carry_from: str, reads: Collection[str] | None = None
    ) -> Callable[[bytes], tuple[dict[str, Any], bytes]]:
        """A decoder for a stage that passes most of what it reads on.

        It gives the fields that the stage ``reads`` (None: all) as a dict, and the bytes from field ``carry_from`` to the
        end. Avro has no framing inside a record, so whoever writes the same fields in the same order appends these bytes
        instead of encoding the fields again (:meth:`carrying_writer`). Raises :class:`ValueError` for a field that the
        record does not have.
        """
        fields = schema_of(record)["fields"]
        names = [field["name"] for field in fields]
        wanted = names if reads is None else [name for name in names if name in reads]
        if reads is not None and len(wanted) < len(set(reads)):
            raise ValueError(f"{record.__name__} has no {', '.join(sorted(set(reads) - set(names)))}")
        at, end = names.index(carry_from), 1 + max(map(names.index, wanted), default=0)
        header, decode = _FORMATS[record].header, self.decoder(record)
        start, split = len(header), bodies.plain(_part(record, fields[: max(at, end)]), at, wanted).split
        write_tail = bodies.plain(_part(record, fields[at:])).write

        def read(value: bytes) -> tuple[dict[str, Any], bytes]:
            if not value.startswith(header):
                data = msgspec.structs.asdict(decode(value))
                return {name: data[name] for name in wanted}, write_tail(b"", data)
            try:
                return split(value, start)
            except Exception as error:  # whatever the bytes provoke
                raise UndecodableError(Error.UNREADABLE_VALUE, type(error).__name__) from None

        return read

    def carrying_writer(
        self, record: type[Record], carry_from: str, reads: type[Record]
    ) -> Callable[[dict[str, Any], bytes], bytes]:
        """An encoder of the fields before ``carry_from``, given as a dict, followed by bytes carried from a ``reads``.

        Raises :class:`ValueError` when the carried fields of the two records differ.
        """
        fields, theirs = schema_of(record)["fields"], schema_of(reads)["fields"]
        at = [field["name"] for field in fields].index(carry_from)
        there = [field["name"] for field in theirs].index(carry_from)
        if [(f["name"], f["type"]) for f in fields[at:]] != [(f["name"], f["type"]) for f in theirs[there:]]:
            raise ValueError(f"{record.__name__} and {reads.__name__} differ from field {carry_from} on")
        header, write = self.header(record), bodies.plain(_part(record, fields[:at])).write
        return lambda values, carried: write(header, values, carried)

    def carried_reader(self, record: type[Record], carry_from: str, until: str) -> Callable[[bytes], dict[str, Any]]:
        """A decoder of bytes carried from field ``carry_from`` on, of today's schema: the fields up to and with ``until``."""
        fields = schema_of(record)["fields"]
        names = [field["name"] for field in fields]
        body = bodies.plain(_part(record, fields[names.index(carry_from) : names.index(until) + 1]))

        def read(carried: bytes) -> dict[str, Any]:
            try:
                return body.read(carried, 0)  # type: ignore[no-any-return]
            except Exception as error:  # whatever the bytes provoke
                raise UndecodableError(Error.UNREADABLE_VALUE, type(error).__name__) from None

        return read

    def carried_as(self, record: type[Record]) -> str:
        """A name of today's schema of ``record``, to keep beside bytes that are carried for longer than a program runs."""
        return fingerprint_of(schema_of(record)).hex()

    def carried_again(self, record: type[Record], after: str, carried: bytes, carried_as: str) -> bytes:
        """Bytes of the fields that follow ``after`` in a ``record`` of the schema ``carried_as`` (empty: the first one), as
        today's schema has them. Raises :class:`UndecodableError` for a schema that is not known, and for other bytes."""
        history = earlier_schemas(record)
        known = [schema for schema in history if fingerprint_of(schema).hex() == carried_as] if carried_as else history
        if not known:
            raise UndecodableError(
                Error.UNKNOWN_SCHEMA, f"carried fields of a {record.__name__} of a schema that is not known"
            )
        then, now = _after(record, known[0], after), _after(record, schema_of(record), after)
        try:
            data = fastavro.schemaless_reader(BytesIO(carried), fastavro.parse_schema(then), fastavro.parse_schema(now))
        except Exception as error:  # whatever the bytes provoke
            raise UndecodableError(Error.UNREADABLE_VALUE, type(error).__name__) from None
        return bodies.plain(now).write(b"", data)

    def carried_with(self, record: type[Record], carry_from: str) -> Callable[[bytes, Mapping[str, Any]], bytes]:
        """A function that changes fields of bytes carried from field ``carry_from`` on, of today's schema."""
        fields = schema_of(record)["fields"]
        body = bodies.plain(_part(record, fields[[field["name"] for field in fields].index(carry_from) :]))
        return lambda carried, changes: body.write(b"", body.read(carried, 0) | changes)

    def dict_encoder(self, record: type[Record]) -> Callable[[dict[str, Any]], bytes]:
        """A function that encodes a record given as a dict of all its fields: no record has to be built first."""
        return self._writer(record)

    def _writer(self, record: type[Record]) -> Callable[[Any], bytes]:
        header, write = self.header(record), _FORMATS[record].body.write
        return lambda value: write(header, value)

    def encode(self, value: Record) -> bytes:
        """Encode one record."""
        return self.encoder(type(value))(value)

    def decoder(self, record: type[T]) -> Callable[[bytes], T]:
        """A function that decodes ``record``s. It raises :class:`UndecodableError`."""
        fmt = _FORMATS[record]
        header, start, read = fmt.header, len(fmt.header), fmt.body.read

        def decode(value: bytes) -> T:
            try:
                if value.startswith(header):
                    return read(value, start)  # type: ignore[no-any-return]
                return self._decode_other(fmt, value)  # type: ignore[no-any-return]
            except (UndecodableError, ConnectionError):
                raise  # A registry that is away is not the record's fault.
            except Exception as error:  # whatever the bytes provoke
                raise UndecodableError(Error.UNREADABLE_VALUE, type(error).__name__) from None

        return decode

    def decode(self, value: bytes, record: type[T]) -> T:
        """Decode one record of a known type."""
        return self.decoder(record)(value)

    def record_of(self, value: bytes) -> type[Record]:
        """Which record ``value`` holds, from its header; raises :class:`UndecodableError`."""
        if value[:2] == SINGLE_OBJECT:
            record = _KNOWN_HEADERS.get(value[:10])
            if record is None:
                raise UndecodableError(Error.UNKNOWN_SCHEMA, "fingerprint not known")
            return record
        if value[:1] == CONFLUENT and len(value) >= 5:
            name = self._registered(value[:5])["name"].rsplit(".", 1)[-1]
            for candidate in RECORDS:
                if candidate.__name__ == name:
                    return candidate
            raise UndecodableError(Error.UNKNOWN_SCHEMA, "schema id names no record of this pipeline")
        raise UndecodableError(Error.NOT_AVRO, "no single-object or Confluent header")

    def _decode_other(self, fmt: _Format, value: bytes) -> Any:
        if value[:2] == SINGLE_OBJECT:
            writer, start = fmt.others.get(value[:10]), 10
            if writer is None:
                if value[:10] in _KNOWN_HEADERS:
                    raise UndecodableError(Error.WRONG_SCHEMA, f"not a {fmt.record.__name__}")
                raise UndecodableError(Error.UNKNOWN_SCHEMA, "fingerprint not known")
        elif value[:1] == CONFLUENT and len(value) >= 5:
            writer, start = self._registered(value[:5]), 5
            if writer["name"].rsplit(".", 1)[-1] != fmt.record.__name__:
                raise UndecodableError(Error.WRONG_SCHEMA, f"not a {fmt.record.__name__}")
        else:
            raise UndecodableError(Error.NOT_AVRO, "no single-object or Confluent header")
        stream = BytesIO(value)
        stream.seek(start)
        return msgspec.convert(fastavro.schemaless_reader(stream, writer, fmt.schema), fmt.record)

    def registered_schema(self, header: bytes) -> dict[str, Any]:
        """The schema that a Confluent header names. Raises :class:`UndecodableError`."""
        return self._registered(header)  # type: ignore[no-any-return]

    def _registered(self, header: bytes) -> Any:
        schema = self._by_id.get(header)
        if schema is None:
            if self._registry is None:
                raise UndecodableError(Error.UNKNOWN_SCHEMA, "Confluent framing, and no schema registry is set")
            try:
                text = self._registry.schema_of(int.from_bytes(header[1:], "big"))
            except LookupError:
                raise UndecodableError(Error.UNKNOWN_SCHEMA, "schema id not in the registry") from None
            schema = self._by_id[header] = fastavro.parse_schema(json.loads(text))
        return schema


#: Bodies of PTRs travel inside events without a header; these read and write them.
_REQUEST = _FORMATS[PaymentRequested].body


def decode_request(body: bytes) -> PaymentRequested:
    """The PTR inside an event's ``request`` field."""
    return _REQUEST.read(body, 0)  # type: ignore[no-any-return]


def encode_request(request: PaymentRequested) -> bytes:
    """A PTR for an event's ``request`` field."""
    return _REQUEST.write(b"", request)


def _part(record: type[Record], fields: list[dict[str, Any]]) -> dict[str, Any]:
    """A schema of consecutive fields of ``record``: Avro writes a record as its fields, one after the other."""
    return {"type": "record", "name": f"{record.__name__}Part", "fields": fields}


def _after(record: type[Record], schema: dict[str, Any], name: str) -> dict[str, Any]:
    """A schema of the fields that follow ``name``."""
    fields = schema["fields"]
    return _part(record, fields[[field["name"] for field in fields].index(name) + 1 :])
