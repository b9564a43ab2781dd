"""Personal data cut out of a record's bytes: what is left is still the record, with empty fields in these places.

Avro writes a record as its fields, so a field's bytes can be taken out and put back: the very same bytes come back, whatever
wrote them. The PTR that events carry as bytes is cut too. Like the bodies (:mod:`schemas.bodies`) in two forms that give the
same: compiled, and a reference that also cuts records of earlier schemas.

Pieces are numbers and bytes, one after the other: ``4 * offset + 2 * inside + taken``, the length, the bytes. ``offset`` is
where they belong in what is left, ``inside``: in the carried PTR, counted from its beginning; ``taken`` is the length of what
stands there instead, 0 or 1. Numbers are of seven bits a byte, the lowest first.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import lru_cache
from typing import Any, Final, NamedTuple

from schemas.bodies import COMPILED
from schemas.codec import CONFLUENT, SINGLE_OBJECT, Codec, UndecodableError, earlier_schemas, fingerprint_of, schema_of
from schemas.personal import Owner, owners, text_paths
from schemas.reasons import Error
from schemas.records import PaymentRequested, Record

#: The field of the PTR's bytes, the last one of the records that carry it.
REQUEST: Final = "request"
#: The owners in the order of :class:`Cut`'s pieces.
OWNERS: Final = (Owner.DEBTOR, Owner.CREDITOR, Owner.PARTY, Owner.EVIDENCE, Owner.PAYMENT, Owner.ALL)
#: Paths that name a subject, and who that is.
_IDS: Final = {"debtor_id": 0, "debtor.id": 0, "creditor_id": 1, "creditor.id": 1, "party_id": 2}


class Cut(NamedTuple):
    """A record's bytes without what is personal."""

    #: Header and body, every personal field empty.
    rest: bytes
    #: Where in ``rest`` the length of the carried PTR stands; 0: none was cut.
    carried_at: int
    #: Ids of who is named, empty where nobody is.
    debtor_id: str
    creditor_id: str
    party_id: str
    #: Pieces by their owner, empty where there is none.
    debtor: bytes
    creditor: bytes
    party: bytes
    evidence: bytes
    payment: bytes
    all: bytes


#: What ``Cut._make`` does, in a third of the time.
_new: Final = tuple.__new__
#: None: nothing personal is in these bytes.
Cutter = Callable[[bytes], Cut | None]


def whole(value: bytes) -> Cut:
    """All of ``value`` as one piece of nobody in particular: bytes that are no record."""
    return Cut(b"", 0, "", "", "", b"", b"", b"", b"", b"", _piece(0, 0, 0, value))


def cutter(codec: Codec, record: type[Record]) -> Cutter:
    """A function that cuts values of ``record``. It raises :class:`UndecodableError` for what is none."""
    header = codec.own_header(record)
    start, compiled = len(header), _compiled(record)
    reference = _Reference(record)

    def cut(value: bytes) -> Cut | None:
        try:
            if compiled is not None and value.startswith(header):
                found = compiled(value, start)
                return None if found is None else _new(Cut, found)
            body_at, schema = _writer(codec, record, value)
            return reference.cut(value, body_at, schema)
        except (UndecodableError, ConnectionError):
            raise
        except Exception as error:  # whatever the bytes provoke
            raise UndecodableError(Error.UNREADABLE_VALUE, type(error).__name__) from None

    return cut


def join(rest: bytes, carried_at: int, pieces: Iterable[bytes]) -> bytes:
    """``rest`` with ``pieces`` back in their places: of all the owners' the bytes that were cut, of some a record with these
    fields. Raises ValueError or IndexError for what was not cut so."""
    outer: list[tuple[int, int, bytes]] = []
    inner: list[tuple[int, int, bytes]] = []
    for data in pieces:
        at = 0
        while at < len(data):
            head, at = _number(data, at)
            size, at = _number(data, at)
            if size > len(data) - at:
                raise ValueError("a piece ends early")
            (inner if head & 2 else outer).append((head >> 2, head & 1, data[at : at + size]))
            at += size
    if inner:
        length, body_at = _number(rest, carried_at)
        end = body_at + (length >> 1)
        body = _spliced(rest[body_at:end], inner)
        outer.append((carried_at, end - carried_at, _written(2 * len(body)) + body))
    return _spliced(rest, outer)


def _spliced(data: bytes, changes: list[tuple[int, int, bytes]]) -> bytes:
    parts, at = [], 0
    for offset, taken, piece in sorted(changes):
        if not at <= offset <= len(data) - taken:
            raise ValueError("a piece beyond the end")
        parts += [data[at:offset], piece]
        at = offset + taken
    return b"".join((*parts, data[at:]))


def _number(data: bytes, at: int) -> tuple[int, int]:
    """The number at ``at``, and where it ends."""
    number = shift = 0
    while True:
        byte = data[at]
        at += 1
        number |= (byte & 0x7F) << shift
        if byte < 0x80:
            return number, at
        shift += 7
        if shift > 63:
            raise ValueError("a number of more than 64 bits")


def _written(number: int) -> bytes:
    found = bytearray()
    while number >= 0x80:
        found.append(number & 0x7F | 0x80)
        number >>= 7
    found.append(number)
    return bytes(found)


def _piece(offset: int, inside: int, taken: int, data: bytes) -> bytes:
    return _written(4 * offset + 2 * inside + taken) + _written(len(data)) + data


def _writer(codec: Codec, record: type[Record], value: bytes) -> tuple[int, dict[str, Any]]:
    """Where the body of ``value`` starts, and the schema that wrote it."""
    if codec.record_of(value) is not record:
        raise UndecodableError(Error.WRONG_SCHEMA, f"not a {record.__name__}")
    if value[:2] == SINGLE_OBJECT:
        return 10, _known(record)[value[2:10]]
    assert value[:1] == CONFLUENT
    return 5, codec.registered_schema(value[:5])


@lru_cache(maxsize=64)
def _known(record: type[Record]) -> dict[bytes, dict[str, Any]]:
    return {fingerprint_of(schema): schema for schema in (*earlier_schemas(record), schema_of(record))}


def _carries(record: type[Record]) -> bool:
    return record.__struct_fields__[-1] == REQUEST


def _compiled(record: type[Record]) -> Callable[[bytes, int], tuple[Any, ...] | None] | None:
    if not COMPILED:
        return None
    from schemas.native import Cutter, UnsupportedSchemaError

    try:
        inside = (schema_of(PaymentRequested), _numbered(PaymentRequested)) if _carries(record) else (None, {})
        return Cutter(schema_of(record), _numbered(record), _IDS, REQUEST if _carries(record) else "", *inside).cut
    except UnsupportedSchemaError:
        return None


def _numbered(record: type[Record]) -> dict[str, int]:
    """Owners by path, as places in :data:`OWNERS`."""
    return {path: OWNERS.index(owner) for path, owner in owners(schema_of(record)).items()}


class _Reference:
    """The reference. A field of an earlier schema is whose it is today; a text that is not in today's is everybody's."""

    def __init__(self, record: type[Record]) -> None:
        self._owned = _numbered(record)
        self._texts = set(text_paths(schema_of(record)))
        self._ptr_owned = _numbered(PaymentRequested) if _carries(record) else {}

    def cut(self, value: bytes, start: int, schema: dict[str, Any]) -> Cut | None:
        walk = _Walk(value, start)
        walk.rest += value[:start]
        owned = dict(self._owned)
        for path in text_paths(schema):
            if path not in self._texts:
                owned[path] = OWNERS.index(Owner.ALL)
        walk.record(schema, "", owned, self._carried if self._ptr_owned else None)
        if walk.at < len(value):
            walk.pieces[-1] += _piece(len(walk.rest), 0, 0, value[walk.at :])
        return walk.made()

    def _carried(self, walk: _Walk) -> None:
        """The PTR in its bytes; one that is damaged is cut as a whole."""
        began = walk.at
        length = walk.long()
        body_at, end = walk.at, walk.at + length
        if length < 0 or end > len(walk.value):
            raise ValueError("a length beyond the end")
        inner = _Walk(walk.value[:end], body_at)
        inner.inside, inner.ids = 1, list(walk.ids)
        try:
            if _written(2 * length) != walk.value[began:body_at]:
                raise ValueError("a length that is written longer than it need be")
            inner.record(schema_of(PaymentRequested), "", self._ptr_owned, None)
            if inner.at != end:
                raise ValueError("more than the PTR")
        except Exception:  # whatever the bytes provoke
            if length:
                walk.pieces[-1] += _piece(len(walk.rest), 0, 1, walk.value[began:end])
            walk.rest += b"\x00"
        else:
            if any(inner.pieces):
                walk.carried_at = len(walk.rest)
            walk.rest += _written(2 * len(inner.rest)) + inner.rest
            walk.ids = inner.ids
            for mine, theirs in zip(walk.pieces, inner.pieces, strict=True):
                mine += theirs
        walk.at = end


class _Walk:
    """Goes through a record, field by field."""

    def __init__(self, value: bytes, at: int) -> None:
        self.value, self.at = value, at
        self.rest = bytearray()
        self.pieces = [bytearray() for _ in OWNERS]
        self.ids = ["", "", ""]
        self.carried_at = self.inside = 0
        self._named: dict[str, Any] = {}

    def made(self) -> Cut | None:
        if not any(self.pieces):
            return None
        debtor_id, creditor_id, party_id = self.ids
        return Cut(bytes(self.rest), self.carried_at, debtor_id, creditor_id, party_id, *map(bytes, self.pieces))

    def record(
        self, schema: dict[str, Any], before: str, owned: dict[str, int], carried: Callable[[_Walk], None] | None
    ) -> None:
        self._named[schema["name"].rpartition(".")[2]] = schema
        for field in schema["fields"]:
            path, avro = before + field["name"], field["type"]
            owner = owned.get(path)
            if carried is not None and field["name"] == REQUEST:
                carried(self)
            elif owner is not None:
                self._cut(path, avro, owner)
            elif any(each.startswith(f"{path}.") for each in owned):
                self._descend(path, avro, owned)
            else:
                began = self.at
                self._skip(avro)
                self.rest += self.value[began : self.at]

    def _cut(self, path: str, avro: Any, owner: int) -> None:
        began = self.at
        self._skip(avro)
        taken = self.value[began : self.at]
        if path in _IDS and not self.ids[_IDS[path]] and avro == "string":
            self.ids[_IDS[path]] = taken[_number(taken, 0)[1] :].decode()
        empty = b"\x02" if isinstance(avro, list) and avro[1] == "null" else b"\x00"
        if taken != empty:
            self.pieces[owner] += _piece(len(self.rest), self.inside, 1, taken)
        self.rest += empty

    def _descend(self, path: str, avro: Any, owned: dict[str, int]) -> None:
        if isinstance(avro, list):
            began = self.at
            branch = avro[self._branch(avro)]
            self.rest += self.value[began : self.at]
            if branch != "null":
                self._descend(path, branch, owned)
            return
        schema = avro if isinstance(avro, dict) else self._named[avro.rpartition(".")[2]]
        if schema["type"] != "record":
            raise ValueError(f"personal data in a list: {path}")
        self.record(schema, f"{path}.", owned, None)

    def _branch(self, avro: list[Any]) -> int:
        at = self.long()
        if not 0 <= at < len(avro):
            raise ValueError("no such member of the union")
        return at

    def long(self) -> int:
        number, self.at = _number(self.value, self.at)
        return (number >> 1) ^ -(number & 1)

    def _pass(self, size: int) -> None:
        if not 0 <= size <= len(self.value) - self.at:
            raise ValueError("a length beyond the end")
        self.at += size

    def _skip(self, avro: Any) -> None:
        if isinstance(avro, list):
            self._skip(avro[self._branch(avro)])
            return
        kind = avro["type"] if isinstance(avro, dict) else avro
        if kind in ("string", "bytes"):
            began = self.long()
            self._pass(began)
            if kind == "string":
                self.value[self.at - began : self.at].decode()
        elif kind in ("int", "long", "enum"):
            self.long()
        elif kind in ("float", "double", "boolean", "fixed"):
            self._pass(avro["size"] if kind == "fixed" else {"float": 4, "double": 8, "boolean": 1}[kind])
        elif kind in ("array", "map"):
            while count := self.long():
                if count < 0:
                    self._pass(self.long())
                    continue
                for _ in range(count):
                    if self.at >= len(self.value):
                        raise ValueError("more items than bytes")
                    if kind == "map":
                        self._skip("string")
                    self._skip(avro.get("items", avro.get("values")))
        elif kind == "record":
            self._named[avro["name"].rpartition(".")[2]] = avro
            for field in avro["fields"]:
                self._skip(field["type"])
        elif kind != "null":
            self._skip(self._named[kind.rpartition(".")[2]])
