"""Bodies of records: what stands behind the header on the wire. Two codecs for them, of the same bytes.

:mod:`schemas.native` is compiled when the project is installed and a C compiler is there; fastavro does the same, some times
slower, everywhere (docs/decisions/0013-compiled-codec.md).
"""

from __future__ import annotations

from collections.abc import Collection
from io import BytesIO
from typing import Any, Protocol

import fastavro
import msgspec

from schemas.records import Record

try:
    from schemas import native
except ImportError:  # Not compiled here.
    native = None  # type: ignore[assignment]

#: Whether bodies are read and written by compiled code.
COMPILED = native is not None

#: The class of each record of a schema, by the schema's name for it.
CLASSES: dict[str, type[Record]] = {record.__name__: record for record in Record.__subclasses__()}

_read = fastavro.schemaless_reader
_write = fastavro.schemaless_writer


class Body(Protocol):
    """Reads and writes one kind of record. What it cannot read or write raises some exception, and nothing is written."""

    def read(self, value: bytes, start: int) -> Any:
        """The record that starts at ``start``: of its class when it was made with classes, otherwise a dict."""

    def split(self, value: bytes, start: int) -> tuple[dict[str, Any], bytes]:
        """The record that starts at ``start`` as a dict of the fields that it ``reads``, and all bytes from its field number
        ``at`` to the end. What it does not read must be well formed too."""

    def write(self, header: bytes, value: Any, carried: bytes = b"") -> bytes:
        """``header``, the record, given as a dict or of its class, and ``carried``."""


class FastavroBody:
    """The reference."""

    def __init__(
        self,
        schema: dict[str, Any],
        classes: dict[str, type[Record]],
        at: int = 0,
        reads: Collection[str] | None = None,
    ) -> None:
        name, fields = schema["name"], schema["fields"]
        self._schema = fastavro.parse_schema(schema)
        self._head = fastavro.parse_schema(schema | {"name": f"{name}Head", "fields": fields[:at]})
        self._tail = fastavro.parse_schema(schema | {"name": f"{name}Tail", "fields": fields[at:]})
        self._class = classes.get(name.rpartition(".")[2])
        self._reads = [field["name"] for field in fields if reads is None or field["name"] in reads]
        #: Of a record that is read as a dict: its fields that hold records of a class.
        self._records: dict[str, Any] = {}
        for field in fields:
            inner, listed = _record_in(field)
            if inner in classes:
                record: Any = classes[inner]
                self._records[field["name"]] = list[record] if listed else record

    def read(self, value: bytes, start: int) -> Any:
        stream = BytesIO(value)
        stream.seek(start)
        data = _read(stream, self._schema, None)
        return self._with_records(data) if self._class is None else msgspec.convert(data, self._class)

    def split(self, value: bytes, start: int) -> tuple[dict[str, Any], bytes]:
        stream = BytesIO(value)
        stream.seek(start)
        data = _read(stream, self._head, None)
        carried = value[stream.tell() :]
        data = self._with_records(data | _read(stream, self._tail, None))
        return {name: data[name] for name in self._reads}, carried

    def _with_records(self, data: dict[str, Any]) -> dict[str, Any]:
        for name, record in self._records.items():
            if data[name] is not None:
                data[name] = msgspec.convert(data[name], record)
        return data

    def write(self, header: bytes, value: Any, carried: bytes = b"") -> bytes:
        out = BytesIO()
        out.write(header)
        _write(out, self._schema, to_data(value))
        out.write(carried)
        return out.getvalue()


def to_data(value: Record | dict[str, Any]) -> dict[str, Any]:
    """A record, or a dict that may hold some, to nested dicts; bytes stay bytes."""
    return msgspec.to_builtins(value, builtin_types=(bytes,))  # type: ignore[no-any-return]


def typed(schema: dict[str, Any]) -> Body:
    """Whole records of their classes."""
    return _body(schema, CLASSES)


def plain(schema: dict[str, Any], at: int = 0, reads: Collection[str] | None = None) -> Body:
    """Parts of records, as dicts; records in them are of their classes. ``reads``: what a split gives, None for all."""
    return _body(schema, CLASSES, at, reads)


def _record_in(field: dict[str, Any]) -> tuple[str, bool]:
    """Name of the record that ``field`` holds, null or not, empty when it holds something else; and whether it is a list."""
    kind = field["type"]
    for member in kind if isinstance(kind, list) else [kind]:
        if isinstance(member, dict):
            listed = member["type"] == "array"
            inner = member["items"] if listed else member
            if isinstance(inner, dict) and inner["type"] == "record":
                return str(inner["name"]).rpartition(".")[2], listed
    return "", False


def _body(
    schema: dict[str, Any], classes: dict[str, type[Record]], at: int = 0, reads: Collection[str] | None = None
) -> Body:
    if not COMPILED:
        return FastavroBody(schema, classes, at, reads)
    try:
        return native.Body(schema, classes, at, reads)
    except native.UnsupportedSchemaError:
        return FastavroBody(schema, classes, at, reads)
