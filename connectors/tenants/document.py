"""Tenants' configurations as people write them: YAML to :class:`TenantRules`, refused whole if anything is wrong. Pure.

One mapping configures one tenant; several come as a list or as several documents (``---``). Types are those of
schemas/tenant_rules.py, and nothing is coerced but ``NO`` and the like: where text is expected, a word that YAML takes
for a truth value is the text that was written. Anchors, aliases, merge keys and tags are refused: a file says what it
says.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass, field
from hashlib import blake2b
from types import NoneType, UnionType
from typing import Any, get_args, get_origin, get_type_hints

import msgspec
import yaml

from connectors.tenants.checks import mistakes, shown, suggestion
from schemas.tenant_rules import MOVED_THRESHOLDS, TenantRules

#: A tenant takes about 1 KiB, so this is some hundred tenants; it bounds the time that reading takes (2 s).
FILE_CHARS_MAX = 256 * 1024
#: The deepest field (a list of tenants, then fraud.rules.NAME.thresholds.NAME) is at 6.
DEPTH_MAX = 8
#: No field, method or currency has a longer name.
NAME_CHARS_MAX = 40
#: No number in a configuration is longer.
NUMBER_CHARS_MAX = 20

_INT = re.compile(r"-?(0|[1-9][0-9]*(_[0-9]+)*)\Z")
_FLOAT = re.compile(r"-?(0|[1-9][0-9]*(_[0-9]+)*)(\.[0-9]+)?([eE][-+]?[0-9]{1,2})?\Z")
_STR_TAG, _BOOL_TAG, _NULL_TAG = "tag:yaml.org,2002:str", "tag:yaml.org,2002:bool", "tag:yaml.org,2002:null"
_MAP_TAG, _SEQ_TAG = "tag:yaml.org,2002:map", "tag:yaml.org,2002:seq"
#: Stands for a value that could not be read.
_UNREAD: Any = object()
#: Stands for required fields that could not be read, so that the rest can be judged.
_REQUIRED = {"tenant": "unread", "pic": "unread", "currencies": ["EUR"]}


class TenantFileError(ValueError):
    """The file is refused; ``mistakes`` holds every one, as ``SOURCE:LINE: FIELD: what is wrong``."""

    def __init__(self, mistakes: list[str]) -> None:
        super().__init__("\n".join(mistakes))
        self.mistakes = tuple(mistakes)


def parse_tenants(text: str, source: str, *, pics: Collection[str]) -> list[TenantRules]:
    """The tenants in ``text``, in their order. ``source`` is the file's name, for messages.

    Raises :class:`TenantFileError` with every mistake when there is one.
    """
    if len(text) > FILE_CHARS_MAX:
        raise TenantFileError([f"{source}:1: the file has {len(text)} characters, at most {FILE_CHARS_MAX} are read"])
    nodes = _tenant_nodes(text, source)
    if not nodes:
        raise TenantFileError([f"{source}:1: the file holds no tenant"])
    tenants: list[TenantRules] = []
    lines_of: dict[str, int] = {}
    found: list[tuple[int, str]] = []
    for node in nodes:
        reading = _Reading()
        rules = reading.tenant(node, pics)
        found += reading.found
        if rules is not None:
            line = reading.lines.get("tenant", reading.lines[""])
            if rules.tenant in lines_of:
                found.append((line, f"tenant: {rules.tenant} is configured already, at line {lines_of[rules.tenant]}"))
            lines_of.setdefault(rules.tenant, line)
            tenants.append(rules)
    if found:
        raise TenantFileError([f"{source}:{line}: {text}" for line, text in sorted(found, key=lambda at: at[0])])
    return tenants


def document_of(rules: TenantRules) -> str:
    """The configuration as a record carries it: JSON, all fields, keys sorted. The same rules give the same text."""
    return msgspec.json.encode(rules, order="sorted").decode()


def document_hash(document: str) -> str:
    """blake2b-128 of the document, hex."""
    return blake2b(document.encode(), digest_size=16).hexdigest()


def _tenant_nodes(text: str, source: str) -> list[yaml.Node]:
    """A node per tenant. Raises :class:`TenantFileError` for what is not YAML, or more of it than is needed."""
    try:
        _refuse_tricks(text, source)
        documents = list(yaml.compose_all(text, Loader=yaml.SafeLoader))
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        raise TenantFileError([f"{source}:{line}: not YAML: a character that YAML does not take"]) from None
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        raise TenantFileError([f"{source}:{line}: not YAML: {error.problem or error.context}"]) from None
    nodes: list[yaml.Node] = []
    for document in documents:
        if isinstance(document, yaml.SequenceNode):
            nodes += document.value
        elif document is not None and document.tag != _NULL_TAG:
            nodes.append(document)
    return nodes


def _refuse_tricks(text: str, source: str) -> None:
    """Before anything is built: no anchors, aliases or tags, nothing deeper than a configuration is."""
    depth = 0
    for event in yaml.parse(text, Loader=yaml.SafeLoader):
        line = _line_of(event)
        if isinstance(event, yaml.AliasEvent) or getattr(event, "anchor", None) is not None:
            raise TenantFileError([f"{source}:{line}: anchors and aliases are not taken: write the value out"])
        if getattr(event, "tag", None) is not None:
            raise TenantFileError([f"{source}:{line}: tags are not taken: write the plain value"])
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
            if depth > DEPTH_MAX:
                raise TenantFileError([f"{source}:{line}: more than {DEPTH_MAX} levels deep"])
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1


@dataclass
class _Reading:
    """One tenant being read: its mistakes with their lines, and the line of each path."""

    found: list[tuple[int, str]] = field(default_factory=list)
    lines: dict[str, int] = field(default_factory=dict)
    unread: set[str] = field(default_factory=set)

    def tenant(self, node: yaml.Node, pics: Collection[str]) -> TenantRules | None:
        """The rules in ``node``; they are of no use when there are mistakes. None when the tenant has no name."""
        values = self._struct(node, TenantRules, "")
        if values is _UNREAD:
            return None
        named = "tenant" in values
        rules = _build(TenantRules, _REQUIRED | values)
        for path, text in mistakes(rules, pics=pics, unread=self.unread):
            if path not in self.unread:
                self.found.append((self._line(path), f"{path}: {text}"))
        return rules if named else None

    def _line(self, path: str) -> int:
        """The line of ``path``, or of the nearest field around it that is written."""
        while path and path not in self.lines:
            path = path.rpartition(".")[0]
        return self.lines[path]

    def _wrong(self, node: yaml.Node, path: str, text: str) -> Any:
        self.unread.add(path)
        # Whoever needs the whole list must not judge what is left of it.
        self.unread.add(path.partition("[")[0])
        self.found.append((_line_of(node), f"{path}: {text}" if path else text))
        return _UNREAD

    def _struct(self, node: yaml.Node, cls: type[msgspec.Struct], path: str) -> Any:
        """Values of the fields that are written and could be read, by name."""
        hints = get_type_hints(cls)
        values: dict[str, Any] = {}
        pairs = self._pairs(node, path, f"a mapping with {', '.join(list(hints)[:3])}, ...")
        if pairs is _UNREAD:
            return _UNREAD
        for key, key_node, value_node in pairs:
            at = _join(path, key)
            if key not in hints:
                self._wrong(key_node, at, _moved_to(at) or f"unknown field; {suggestion(key, hints)}")
                continue
            value = self._value(value_node, hints[key], at)
            if value is not _UNREAD:
                values[key] = value
        required = [f.name for f in msgspec.structs.fields(cls) if f.required]
        written = {key for key, _, _ in pairs}
        for name in required:
            if name not in written:
                self._wrong(node, _join(path, name), "is missing")
        return values

    def _value(self, node: yaml.Node, hint: Any, path: str) -> Any:
        self.lines[path] = _line_of(node)
        hint = _without_none(hint)
        if hint is str:
            return self._text(node, path)
        if hint is bool:
            return self._truth(node, path)
        if hint is int:
            return self._number(node, path, _INT, "a whole number")
        if hint is float:
            return self._number(node, path, _FLOAT, "a number")
        if get_origin(hint) is list:
            return self._list(node, path)
        if get_origin(hint) is dict:
            return self._dict(node, get_args(hint)[1], path)
        values = self._struct(node, hint, path)
        return values if values is _UNREAD else _build(hint, values)

    def _truth(self, node: yaml.Node, path: str) -> Any:
        if isinstance(node, yaml.ScalarNode) and node.value in ("true", "false") and node.style is None:
            return node.value == "true"
        return self._wrong(node, path, f"must be true or false, is {_shown(node)}")

    def _text(self, node: yaml.Node, path: str) -> Any:
        if isinstance(node, yaml.ScalarNode) and node.tag in (_STR_TAG, _BOOL_TAG):
            return node.value
        hint = "; put it in quotes" if isinstance(node, yaml.ScalarNode) and node.value else ""
        return self._wrong(node, path, f"must be text, is {_shown(node)}{hint}")

    def _number(self, node: yaml.Node, path: str, pattern: re.Pattern[str], what: str) -> Any:
        plain = isinstance(node, yaml.ScalarNode) and node.style is None and len(node.value) <= NUMBER_CHARS_MAX
        if plain and pattern.match(node.value):
            return int(node.value) if pattern is _INT else float(node.value)
        return self._wrong(node, path, f"must be {what}, is {_shown(node)}")

    def _list(self, node: yaml.Node, path: str) -> Any:
        if not isinstance(node, yaml.SequenceNode):
            return self._wrong(node, path, f"must be a list, is {_shown(node)}")
        values = []
        for at, item in enumerate(node.value):
            self.lines[f"{path}[{at}]"] = _line_of(item)
            value = self._text(item, f"{path}[{at}]")
            # An item that could not be read keeps its place, so that the others keep their index.
            values.append("" if value is _UNREAD else value)
        return values

    def _dict(self, node: yaml.Node, hint: Any, path: str) -> Any:
        pairs = self._pairs(node, path, "a mapping")
        if pairs is _UNREAD:
            return _UNREAD
        values = {}
        for key, key_node, value_node in pairs:
            values[key] = self._value(value_node, hint, _join(path, key))
            # A mistake in a name that the tenant chose is where the name is.
            self.lines[_join(path, key)] = _line_of(key_node)
        return {key: value for key, value in values.items() if value is not _UNREAD}

    def _pairs(self, node: yaml.Node, path: str, what: str) -> Any:
        """(key, its node, the value's node) of a mapping; a repeated or unreadable key is a mistake and left out."""
        self.lines.setdefault(path, _line_of(node))
        if not isinstance(node, yaml.MappingNode):
            return self._wrong(node, path, f"must be {what}, is {_shown(node)}")
        pairs: dict[str, tuple[str, yaml.Node, yaml.Node]] = {}
        for key_node, value_node in node.value:
            key = key_node.value if isinstance(key_node, yaml.ScalarNode) else None
            if key is None or key_node.tag not in (_STR_TAG, _BOOL_TAG):
                self.found.append((_line_of(key_node), f"{_join(path, _shown(key_node))}: a name must be text"))
            elif len(key) > NAME_CHARS_MAX:
                self.found.append((_line_of(key_node), f"{path or 'tenant'}: the name {shown(key)} is too long"))
            elif key in pairs:
                first = _line_of(pairs[key][1])
                self.found.append((_line_of(key_node), f"{_join(path, key)}: is written already, at line {first}"))
            else:
                pairs[key] = (key, key_node, value_node)
        return list(pairs.values())


def _moved_to(path: str) -> str:
    """Where a field of earlier versions is now; empty when it never was one."""
    group, _, name = path.partition(".")
    if group != "fraud" or name not in MOVED_THRESHOLDS:
        return ""
    rule, threshold = MOVED_THRESHOLDS[name]
    return f"is now fraud.rules.{rule}.thresholds.{threshold}"


def _without_none(hint: Any) -> Any:
    """``float`` of ``float | None``: None stands for a field that is left out, and cannot be written."""
    if isinstance(hint, UnionType):
        (hint,) = (each for each in get_args(hint) if each is not NoneType)
    return hint


def _build(cls: type[msgspec.Struct], values: dict[str, Any]) -> Any:
    return cls(**values)


def _line_of(what: Any) -> int:
    """The line, from 1, on which a node or event of YAML begins."""
    return int(what.start_mark.line) + 1


def _join(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name


def _shown(node: Any) -> str:
    """A value for a message."""
    if isinstance(node, yaml.SequenceNode):
        return "a list"
    if isinstance(node, yaml.MappingNode):
        return "a mapping"
    if not node.value:
        return "empty"
    return shown(node.value) if node.style or node.tag == _STR_TAG else shown(node.value).strip("'")
