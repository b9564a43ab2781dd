"""The syntax tree of a checked CEL expression, as the CEL library serializes it. Pure.

The library has no other way to its tree than ``Expression.serialize()``: a ``google.protobuf.Any`` that holds a
``cel.expr.CheckedExpr`` (https://github.com/google/cel-spec/blob/master/proto/cel/expr/checked.proto and syntax.proto). Only
what conditions may hold is read here; anything else is a :class:`UnsupportedError` with its place.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

_INT64_SIGN = 1 << 63
_UINT64 = 1 << 64
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5

# Numbers of fields in the two .proto files.
_ANY_VALUE = 2
_REFERENCES, _TYPES, _EXPR, _SOURCE = 2, 3, 4, 5
_POSITIONS = 4
_CONST, _IDENT, _SELECT, _CALL, _LIST = 3, 4, 5, 6, 7
_REFERENCE_OVERLOAD, _REFERENCE_NAME = 3, 1
_BOOL, _INT, _STRING = 2, 3, 6


class UnsupportedError(ValueError):
    """The expression holds something that conditions may not; ``offset`` is its place, in characters."""

    def __init__(self, text: str, offset: int) -> None:
        super().__init__(text)
        self.text = text
        self.offset = offset


@dataclass(slots=True)
class Node:
    """One node: ``kind`` is const, ident, select, has, call or list."""

    kind: str
    offset: int
    #: Of a constant.
    value: bool | int | str = False
    #: Of an identifier or a selected field.
    name: str = ""
    #: Of a call: the overload that the checker chose, such as ``add_int64``.
    overload: str = ""
    children: list[Node] = field(default_factory=list)

    def walk(self) -> Iterator[Node]:
        """This node and all below it."""
        yield self
        for child in self.children:
            yield from child.walk()


def tree_of(serialized: bytes) -> Node:
    """The tree of a serialized, checked expression. Raises :class:`UnsupportedError`."""
    (checked,) = (value for number, value in _fields(serialized) if number == _ANY_VALUE)
    references: dict[int, bytes] = {}
    positions: dict[int, int] = {}
    root = b""
    for number, value in _fields(checked):
        if number == _REFERENCES:
            key, entry = _entry(value)
            references[key] = entry if isinstance(entry, bytes) else b""
        elif number == _SOURCE:
            for inner, position in _fields(value):
                if inner == _POSITIONS:
                    key, place = _entry(position)
                    positions[key] = place if isinstance(place, int) else 0
        elif number == _EXPR:
            root = value
    return _Reader(references, positions).node(root)


@dataclass(frozen=True, slots=True)
class _Reader:
    references: dict[int, bytes]
    positions: dict[int, int]

    def node(self, expr: bytes) -> Node:
        node_id, kind, body = 0, 0, b""
        for number, value in _fields(expr):
            if number == 2:
                node_id = value
            else:
                kind, body = number, value
        offset = self.positions.get(node_id, 0)
        if kind == _CONST:
            return Node("const", offset, value=_constant(body, offset))
        if kind == _IDENT:
            name = self._reference(node_id, _REFERENCE_NAME) or _text(body, 1)
            return Node("ident", offset, name=name)
        if kind == _SELECT:
            parts = dict(_fields(body))
            what = "has" if parts.get(3) else "select"
            return Node(what, offset, name=parts[2].decode(), children=[self.node(parts[1])])
        if kind == _CALL:
            pairs = list(_fields(body))
            children = [self.node(value) for number, value in pairs if number == 1]
            children += [self.node(value) for number, value in pairs if number == 3]
            overloads = self._overloads(node_id)
            name = next(value.decode() for number, value in pairs if number == 2)
            if len(overloads) != 1:
                raise UnsupportedError(f"the types that {name} is used with are not known", offset)
            return Node("call", offset, name=name, overload=overloads[0], children=children)
        if kind == _LIST:
            return Node("list", offset, children=[self.node(value) for number, value in _fields(body) if number == 1])
        raise UnsupportedError("macros, structures and maps are not taken", offset)

    def _reference(self, node_id: int, number: int) -> str:
        return _text(self.references.get(node_id, b""), number)

    def _overloads(self, node_id: int) -> list[str]:
        pairs = _fields(self.references.get(node_id, b""))
        return [value.decode() for number, value in pairs if number == _REFERENCE_OVERLOAD]


def _constant(body: bytes, offset: int) -> bool | int | str:
    for number, value in _fields(body):
        if number == _BOOL:
            return bool(value)
        if number == _INT:
            return value - _UINT64 if value & _INT64_SIGN else int(value)
        if number == _STRING:
            return str(value, "utf-8")
    raise UnsupportedError("only truth values, whole numbers, text and lists of them are taken", offset)


def _text(message: bytes, number: int) -> str:
    return next((value.decode() for found, value in _fields(message) if found == number), "")


def _entry(message: bytes) -> tuple[int, bytes | int]:
    parts = dict(_fields(message))
    return parts.get(1, 0), parts.get(2, 0)


def _fields(message: bytes) -> Iterator[tuple[int, Any]]:
    """Numbers and values of a protocol buffer's fields: varints as int, everything with a length as bytes."""
    at, end = 0, len(message)
    while at < end:
        tag, at = _varint(message, at)
        number, wire = tag >> 3, tag & 7
        if wire == _VARINT:
            value, at = _varint(message, at)
            yield number, value
        elif wire == _BYTES:
            length, at = _varint(message, at)
            yield number, message[at : at + length]
            at += length
        else:  # Doubles, in constants only.
            size = 8 if wire == _FIXED64 else 4
            yield number, message[at : at + size]
            at += size


def _varint(message: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = message[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
        shift += 7
