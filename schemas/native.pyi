"""Types of the compiled module, ``native.pyx``."""

from collections.abc import Collection, Mapping
from typing import Any

class UnsupportedSchemaError(ValueError): ...
class MalformedError(ValueError): ...
class TruncatedError(MalformedError): ...

class Body:
    """What :class:`schemas.bodies.Body` promises, compiled.

    ``schema`` is JSON data or what ``fastavro.parse_schema`` made of it. Raises :class:`UnsupportedSchemaError` for a schema
    with more than null, boolean, int, long, float, double, bytes, string, fixed, enum, array, map, record and unions of null
    and one other type, and when a class in ``classes`` has other fields than its record.
    """

    def __new__(
        cls,
        schema: Mapping[str, Any],
        classes: Mapping[str, type],
        at: int = 0,
        reads: Collection[str] | None = None,
    ) -> Body: ...
    def read(self, value: bytes, start: int) -> Any: ...
    def split(self, value: bytes, start: int) -> tuple[dict[str, Any], bytes]: ...
    def write(self, header: bytes, value: Any, carried: bytes = b"") -> bytes: ...

class Transcript:
    """One kind of record as JSON, as msgspec writes it, and some of its fields; raises what :class:`Body` raises.

    ``read`` gives the JSON as text, then the fields ``picked``, in that order. ``body``, the last field, of bytes, is left
    out, or shown as the record of schema ``of`` that its bytes begin with. Raises :class:`ValueError` for fields that are
    not there or not of that kind.
    """

    def __new__(
        cls,
        schema: Mapping[str, Any],
        classes: Mapping[str, type],
        picked: tuple[str, ...],
        body: str = "",
        of: Mapping[str, Any] | None = None,
    ) -> Transcript: ...
    def read(self, value: bytes, start: int) -> tuple[Any, ...]: ...

class Cutter:
    """One kind of record, cut as :mod:`schemas.cutting` says; raises what :class:`Body` raises.

    ``owned`` gives the owner's place by path, ``ids`` the place of the id that a path gives. ``body``, the last field, of
    bytes, holds a record of schema ``of`` with owners ``of_owned``.
    """

    def __new__(
        cls,
        schema: Mapping[str, Any],
        owned: Mapping[str, int],
        ids: Mapping[str, int],
        body: str = "",
        of: Mapping[str, Any] | None = None,
        of_owned: Mapping[str, int] | None = None,
    ) -> Cutter: ...
    def cut(self, value: bytes, start: int) -> tuple[Any, ...] | None: ...
