"""Tenants' configurations as people write them: YAML to :class:`TenantRules`, refused whole if anything is wrong. Pure.

One mapping configures one tenant; several come as a list or as several documents (``---``). Types are those of
schemas/tenant_rules.py, and nothing is coerced but ``NO`` and the like: where text is expected, a word that YAML takes
for a truth value is the text that was written. Anchors, aliases, merge keys and tags are refused: a file says what it
says.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from functools import cache
from hashlib import blake2b
from types import UnionType
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

import msgspec
import yaml

from connectors.pic.base import Abilities
from connectors.tenants.checks import mistakes, suggestion
from connectors.tenants.names import shown
from connectors.tenants.route_checks import route_mistakes
from connectors.tenants.rule_checks import RuleMistake, edition_mistakes, tenant_rule_mistakes
from schemas.business_rules import Edition, Sparse
from schemas.tenant_rules import MOVED_THRESHOLDS, TenantRules

#: A tenant takes about 1 KiB, so this is some hundred tenants; it bounds the time that reading takes (2 s).
FILE_CHARS_MAX = 256 * 1024
#: The deepest field (a list of tenants, then shadow.rules[0].fee.tiers.EUR[0].above_minor) is at 9.
DEPTH_MAX = 10
#: No field, method or currency has a longer name.
NAME_CHARS_MAX = 40
#: No number in a configuration is longer.
NUMBER_CHARS_MAX = 20

_INT = re.compile(r"-?(0|[1-9][0-9]*(_[0-9]+)*)\Z")
_FLOAT = re.compile(r"-?(0|[1-9][0-9]*(_[0-9]+)*)(\.[0-9]+)?([eE][-+]?[0-9]{1,2})?\Z")
_STR_TAG, _BOOL_TAG, _NULL_TAG = "tag:yaml.org,2002:str", "tag:yaml.org,2002:bool", "tag:yaml.org,2002:null"
#: What YAML may take a text for: ``NO`` is a truth value to it, and 2026-01-01 a time. Here it is the text that was written.
_TEXT_TAGS = frozenset([_STR_TAG, _BOOL_TAG, "tag:yaml.org,2002:timestamp"])
_MAP_TAG, _SEQ_TAG = "tag:yaml.org,2002:map", "tag:yaml.org,2002:seq"
#: libyaml's parser where PyYAML has it; it makes the same nodes.
_FAST_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
#: In double quotes: what stands for white space or nothing, and the digits after other escapes.
_ESCAPED_SPACES = frozenset(["\\n", "\\r", "\\t", "\\ ", "\\\n", "\\v", "\\f", "\\_", "\\N", "\\L", "\\P"])
_ESCAPED_DIGITS = {"x": 2, "u": 4, "U": 8}
T = TypeVar("T", bound=msgspec.Struct)
#: Stands for a value that could not be read.
_UNREAD: Any = object()
#: Stands for required fields that could not be read, so that the rest can be judged.
_REQUIRED = {"tenant": "unread", "pic": "unread", "currencies": ["EUR"]}

#: What must have been read for routes to be judged.
_OF_ROUTES = frozenset(["pic", "failover", "pics", "currencies", "methods", "routes", "rules", "shadow"])

#: Line and column in a file, from 1; column 0 where only the line is known.
Place = tuple[int, int]


class TenantFileError(ValueError):
    """The file is refused; ``mistakes`` holds every one, as ``SOURCE:LINE: FIELD: what is wrong``, with the column
    after the line for a mistake within a condition."""

    def __init__(self, mistakes: list[str]) -> None:
        super().__init__("\n".join(mistakes))
        self.mistakes = tuple(mistakes)

    @property
    def count(self) -> str:
        """How many there are, in words."""
        return "a mistake" if len(self.mistakes) == 1 else f"{len(self.mistakes)} mistakes"


def parse_tenants(
    text: str, source: str, *, pics: Collection[str], abilities: Mapping[str, Abilities] | None = None
) -> list[TenantRules]:
    """The tenants in ``text``, in their order. ``source`` is the file's name, for messages; ``abilities`` are what PICs can do,
    as far as that is known.

    Raises :class:`TenantFileError` with every mistake when there is one.
    """
    if len(text) > FILE_CHARS_MAX:
        raise TenantFileError([f"{source}:1: the file has {len(text)} characters, at most {FILE_CHARS_MAX} are read"])
    nodes = nodes_of(text, source)
    if not nodes:
        raise TenantFileError([f"{source}:1: the file holds no tenant"])
    tenants: list[TenantRules] = []
    lines_of: dict[str, int] = {}
    found: list[tuple[Place, str]] = []
    for node in nodes:
        reading = _Reading(text)
        rules = reading.tenant(node, pics, abilities or {})
        found += reading.found
        if rules is not None:
            line = reading.lines.get("tenant", reading.lines[""])
            if rules.tenant in lines_of:
                found.append(
                    ((line, 0), f"tenant: {rules.tenant} is configured already, at line {lines_of[rules.tenant]}")
                )
            lines_of.setdefault(rules.tenant, line)
            tenants.append(rules)
    _refuse(found, source)
    return tenants


def is_edition(text: str) -> bool:
    """Whether ``text`` means to be a base rule set, and no tenants."""
    return re.search(r"^edition:", text, re.MULTILINE) is not None


def check_edition(text: str, source: str) -> Edition:
    """The base rule set in ``text``. Raises :class:`TenantFileError` with every mistake when there is one."""
    nodes = nodes_of(text, source)
    if len(nodes) != 1:
        raise TenantFileError([f"{source}:1: a base rule set is one mapping, here are {len(nodes)}"])
    return _edition(nodes[0], text, source, checked=True)


def read_edition(text: str, source: str) -> Edition:
    """The same of a file that :func:`check_edition` has taken before: ours, and unchanged. Ten times faster."""
    node = yaml.compose(text, Loader=_FAST_LOADER)
    if node is None:
        raise TenantFileError([f"{source}:1: the file is empty"])
    return _edition(node, text, source, checked=False)


def _edition(node: yaml.Node, text: str, source: str, *, checked: bool) -> Edition:
    reading = _Reading(text)
    edition: Edition | None = reading.record(node, Edition)
    if edition is not None and checked:
        reading.rule_mistakes(edition_mistakes(edition))
    _refuse(reading.found, source)
    if edition is None:
        raise TenantFileError([f"{source}:1: not a base rule set"])
    return edition


def read_records(text: str, source: str, cls: type[T]) -> list[tuple[int, T]]:
    """Records of ``cls``, each with its line: of every document, or of every item of a document that is a list. Raises
    :class:`TenantFileError` with every mistake when there is one."""
    if len(text) > FILE_CHARS_MAX:
        raise TenantFileError([f"{source}:1: the file has {len(text)} characters, at most {FILE_CHARS_MAX} are read"])
    records: list[tuple[int, T]] = []
    found: list[tuple[Place, str]] = []
    for node in nodes_of(text, source):
        reading = _Reading(text)
        record = reading.record(node, cls)
        found += reading.found
        if record is not None:
            records.append((_line_of(node), record))
    _refuse(found, source)
    return records


def _refuse(found: list[tuple[Place, str]], source: str) -> None:
    if found:
        raise TenantFileError([f"{source}:{_spoken(place)}: {text}" for place, text in sorted(found, key=_by_place)])


def _by_place(found: tuple[Place, str]) -> Place:
    return found[0]


def _spoken(place: Place) -> str:
    line, column = place
    return f"{line}:{column}" if column else str(line)


def document_of(rules: TenantRules) -> str:
    """The configuration as a record carries it: JSON, all fields, keys sorted. The same rules give the same text."""
    return msgspec.json.encode(data_of(rules), order="sorted").decode()


def data_of(value: Any) -> Any:
    """A configuration, or a part of it, as JSON data; of business rules what has its default is left out."""
    if isinstance(value, msgspec.Struct):
        sparse = isinstance(value, Sparse)
        fields = _fields_of(type(value))[0].items()
        items = ((name, declared, getattr(value, declared.name)) for name, declared in fields)
        return {name: data_of(item) for name, declared, item in items if not sparse or item != _default_of(declared)}
    if isinstance(value, dict):
        return {key: data_of(item) for key, item in value.items()}
    return [data_of(item) for item in value] if isinstance(value, list) else value


def _default_of(declared: msgspec.structs.FieldInfo) -> Any:
    factory = declared.default_factory
    return declared.default if factory is msgspec.NODEFAULT else factory()


def document_hash(document: str) -> str:
    """blake2b-128 of the document, hex."""
    return blake2b(document.encode(), digest_size=16).hexdigest()


def nodes_of(text: str, source: str) -> list[yaml.Node]:
    """A node per document, or per item of a document that is a list. Raises :class:`TenantFileError` for what is not YAML, or
    more of it than is needed."""
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

    #: The whole file.
    text: str
    found: list[tuple[Place, str]] = field(default_factory=list)
    lines: dict[str, int] = field(default_factory=dict)
    nodes: dict[str, yaml.Node] = field(default_factory=dict)
    unread: set[str] = field(default_factory=set)

    def tenant(self, node: yaml.Node, pics: Collection[str], abilities: Mapping[str, Abilities]) -> TenantRules | None:
        """The rules in ``node``; they are of no use when there are mistakes. None when the tenant has no name."""
        values = self._struct(node, TenantRules, "")
        if values is _UNREAD:
            return None
        named = "tenant" in values
        rules = _build(TenantRules, _REQUIRED | values)
        for path, text in mistakes(rules, pics=pics, unread=self.unread):
            if path not in self.unread:
                self.found.append(((self._line(path), 0), f"{path}: {text}"))
        if not self.unread & {"inherits", "groups", "rules", "shadow", "routes"}:
            self.rule_mistakes(tenant_rule_mistakes(rules))
        if not {re.split(r"[.\[]", path, maxsplit=1)[0] for path in self.unread} & _OF_ROUTES:
            self.rule_mistakes(route_mistakes(rules, pics=pics, abilities=abilities))
        return rules if named else None

    def record(self, node: yaml.Node, cls: type[msgspec.Struct]) -> Any:
        """A record of ``cls``, None when it could not be read whole."""
        values = self._struct(node, cls, "")
        return None if values is _UNREAD or self.found else _build(cls, values)

    def rule_mistakes(self, mistakes: Iterable[RuleMistake]) -> None:
        """Note mistakes in rules at their places."""
        for mistake in mistakes:
            place = (self._line(mistake.path), 0)
            if mistake.offset is not None and mistake.path in self.nodes:
                place = place_in(self.text, self.nodes[mistake.path], mistake.offset)
            self.found.append((place, f"{mistake.path}: {mistake.text}"))

    def _line(self, path: str) -> int:
        """The line of ``path``, or of the nearest field around it that is written."""
        while path and path not in self.lines:
            # "rules[3].when" is in "rules[3]", and that in "rules".
            path = path[: max(path.rfind("."), path.rfind("["), 0)]
        return self.lines[path]

    def _wrong(self, node: yaml.Node, path: str, text: str) -> Any:
        self.unread.add(path)
        # Whoever needs the whole list must not judge what is left of it.
        self.unread.add(path.partition("[")[0].partition(".")[0] if "[" in path else path)
        self.found.append(((_line_of(node), 0), f"{path}: {text}" if path else text))
        return _UNREAD

    def _struct(self, node: yaml.Node, cls: type[msgspec.Struct], path: str) -> Any:
        """Values of the fields that are written and could be read, by name."""
        fields, hints = _fields_of(cls)
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
                values[fields[key].name] = value
        written = {key for key, _, _ in pairs}
        for name, declared in fields.items():
            if declared.required and name not in written:
                self._wrong(node, _join(path, name), "is missing")
        return values

    def _value(self, node: yaml.Node, hint: Any, path: str) -> Any:
        self.lines[path] = _line_of(node)
        self.nodes[path] = node
        if hint is str:
            return self._text(node, path)
        if hint is bool:
            return self._truth(node, path)
        if hint is int:
            return self._number(node, path, _INT, "a whole number")
        if hint is float:
            return self._number(node, path, _FLOAT, "a number")
        origin, arguments = get_origin(hint), get_args(hint)
        if origin in (UnionType, Union):  # A field that may be left out; null leaves it out too.
            return None if node.tag == _NULL_TAG else self._value(node, arguments[0], path)
        if origin is Literal:
            return self._choice(node, arguments, path)
        if origin is list:
            return self._list(node, arguments[0], path)
        if origin is dict:
            return self._dict(node, arguments[1], path)
        values = self._struct(node, hint, path)
        if values is _UNREAD or any(
            field.required and field.name not in values for field in _fields_of(hint)[0].values()
        ):
            return _UNREAD
        return _build(hint, values)

    def _text(self, node: yaml.Node, path: str) -> Any:
        if isinstance(node, yaml.ScalarNode) and node.tag in _TEXT_TAGS:
            return node.value
        hint = "; put it in quotes" if isinstance(node, yaml.ScalarNode) and node.value else ""
        return self._wrong(node, path, f"must be text, is {_shown(node)}{hint}")

    def _number(self, node: yaml.Node, path: str, pattern: re.Pattern[str], what: str) -> Any:
        plain = isinstance(node, yaml.ScalarNode) and not node.style and len(node.value) <= NUMBER_CHARS_MAX
        if plain and pattern.match(node.value):
            return int(node.value) if pattern is _INT else float(node.value)
        return self._wrong(node, path, f"must be {what}, is {_shown(node)}")

    def _truth(self, node: yaml.Node, path: str) -> Any:
        if isinstance(node, yaml.ScalarNode) and not node.style and node.value in ("true", "false"):
            return node.value == "true"
        return self._wrong(node, path, f"must be true or false, is {_shown(node)}")

    def _choice(self, node: yaml.Node, choices: tuple[str, ...], path: str) -> Any:
        value = self._text(node, path)
        if value is _UNREAD or value in choices:
            return value
        return self._wrong(node, path, f"must be one of {', '.join(choices)}, is {_shown(node)}")

    def _list(self, node: yaml.Node, hint: Any, path: str) -> Any:
        if not isinstance(node, yaml.SequenceNode):
            return self._wrong(node, path, f"must be a list, is {_shown(node)}")
        values = []
        for at, item in enumerate(node.value):
            value = self._value(item, hint, f"{path}[{at}]")
            if value is _UNREAD and hint is not str:
                continue
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
            if key is None or key_node.tag not in _TEXT_TAGS:
                self.found.append(((_line_of(key_node), 0), f"{_join(path, _shown(key_node))}: a name must be text"))
            elif len(key) > NAME_CHARS_MAX:
                self.found.append(((_line_of(key_node), 0), f"{path or 'tenant'}: the name {shown(key)} is too long"))
            elif key in pairs:
                first = _line_of(pairs[key][1])
                self.found.append(((_line_of(key_node), 0), f"{_join(path, key)}: is written already, at line {first}"))
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


def place_in(text: str, node: yaml.Node, offset: int) -> Place:
    """Where in the file ``text`` the character at ``offset`` of a scalar is.

    YAML folds lines, indents them and escapes characters, but it keeps all that is not white space in its order: so those
    characters are counted.
    """
    at, end = node.start_mark.index, node.end_mark.index
    style = node.style if isinstance(node, yaml.ScalarNode) else None
    if style in ("|", ">"):
        at = text.find("\n", at) + 1
    elif style:
        at, end = at + 1, end - 1
    left = sum(not character.isspace() for character in node.value[:offset])
    last = at
    while at < end:
        length = 1
        if style == "'" and text[at] == "'":
            length = 2
        elif style == '"' and text[at] == "\\":
            length = 2 + _ESCAPED_DIGITS.get(text[at + 1], 0)
        if not text[at].isspace() and text[at : at + length] not in _ESCAPED_SPACES:
            if left == 0:
                break
            left -= 1
            last = at + length
        at += length
    at = at if at < end else last  # At the end of the text: right after its last character.
    return text.count("\n", 0, at) + 1, at - text.rfind("\n", 0, at)


@cache
def _fields_of(cls: type[msgspec.Struct]) -> tuple[dict[str, msgspec.structs.FieldInfo], dict[str, Any]]:
    """Fields and their types, both by the name that is written."""
    fields = {field.encode_name: field for field in msgspec.structs.fields(cls)}
    types = get_type_hints(cls)
    return fields, {name: types[field.name] for name, field in fields.items()}


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
