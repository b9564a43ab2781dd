"""Records for readers: the whole as JSON, and some fields as values, in one pass over the bytes.

Like the bodies (:mod:`schemas.bodies`) in two forms that give the same: compiled, and from the record itself. The second
is the reference, and what reads records of earlier schemas and where nothing is compiled.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec

from schemas.bodies import CLASSES, COMPILED
from schemas.codec import Codec, UndecodableError, decode_request, schema_of
from schemas.reasons import Error
from schemas.records import PaymentRequested, Record

#: The field of the PTR's bytes, the last one of the records that carry it.
_REQUEST = "request"
_REQUEST_FIELD = f',"{_REQUEST}":'.encode()

_encode = msgspec.json.Encoder().encode

#: JSON, and the picked fields in their order.
Transcript = tuple[Any, ...]


def transcriber(
    codec: Codec, record: type[Record], picked: tuple[str, ...], *, with_request: bool = False
) -> Callable[[bytes], Transcript]:
    """A function from the value of a ``record`` to its JSON, as msgspec writes the record, and the fields ``picked``.

    The bytes of a carried PTR are left out; ``with_request`` shows the PTR there. The function raises what
    :meth:`~schemas.codec.Codec.decoder` raises, for a damaged PTR that is shown too.
    """
    header, decode = codec.own_header(record), codec.decoder(record)
    start, read = len(header), _compiled(record, picked, with_request=with_request)

    def transcribe(value: bytes) -> Transcript:
        try:
            if read is not None and value.startswith(header):
                return read(value, start)
            return of_record(decode(value), picked, with_request=with_request)
        except (UndecodableError, ConnectionError):
            raise  # A registry that is away is not the record's fault.
        except Exception as error:  # whatever the bytes provoke, those of the PTR too
            raise UndecodableError(Error.UNREADABLE_VALUE, type(error).__name__) from None

    return transcribe


def _compiled(
    record: type[Record], picked: tuple[str, ...], *, with_request: bool
) -> Callable[[bytes, int], Transcript] | None:
    if not COMPILED:
        return None
    from schemas.native import Transcript, UnsupportedSchemaError

    inside = schema_of(PaymentRequested) if with_request else None
    try:
        return Transcript(schema_of(record), CLASSES, picked, _REQUEST if _carries(record) else "", inside).read
    except UnsupportedSchemaError:
        return None


def of_record(record: Record, picked: tuple[str, ...], *, with_request: bool = False) -> Transcript:
    """The reference. Raises whatever the bytes of a damaged PTR provoke."""
    payload = _encode(record)
    if _carries(type(record)):
        # Base64 holds no quote, so the last place of the field's name is the field's.
        payload = payload[: payload.rindex(_REQUEST_FIELD)]
        if with_request:
            payload += _REQUEST_FIELD + _encode(decode_request(record.request))  # type: ignore[attr-defined]
        payload += b"}"
    return (payload.decode(), *(getattr(record, name) for name in picked))


def _carries(record: type[Record]) -> bool:
    return record.__struct_fields__[-1] == _REQUEST
