"""Conditions of rules: CEL, checked by Google's library, then made into a Python function. Pure.

The library parses and type-checks; what it accepts is narrowed to operations whose time is known and whose meaning is the same
in Python, and the tree is translated. A call of the library costs tens of microseconds, one of the function a tenth of one; a
test draws conditions and payments, and compares both. Language: https://github.com/google/cel-spec.

A condition fails (:data:`FAILURES`) where CEL has an error: a missing key, a division by zero, a number beyond 64 bits. As in
CEL, ``&&`` and ``||`` do not fail when the other side decides.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Mapping
from functools import lru_cache
from types import CodeType
from typing import Any, Final

import re2
from cel_expr_python import cel

from pipeline.stages.rules.checked_cel import Node, UnsupportedError, tree_of
from pipeline.stages.rules.facts import VARIABLES, Facts

#: A condition; it raises one of :data:`FAILURES`.
Condition = Callable[[Facts], bool]
#: What a failing condition raises.
FAILURES: Final = (KeyError, ArithmeticError)

#: No rule that people can review is longer; bounds what the parser is given.
CHARS_MAX: Final = 2000
#: What one evaluation may cost, in nodes of the tree: some 50 ns each. What costs more counts as more nodes, as measured by
#: ``ptr bench rules`` with texts of 512 characters.
COST_MAX: Final = 3000
#: A search in a text of 512 characters costs as much as this many nodes.
CONTAINS_COST: Final = 40
#: What is searched for is a literal of at most this many characters: the worst search is their product.
CONTAINS_CHARS_MAX: Final = 64
#: A call of RE2, and each instruction of the regular expression's program: its time is text times program, at worst.
REGEX_COST: Final = 150
INSTRUCTION_COST: Final = 35
#: What may fail, and an operator that goes on when its left side failed: both take an exception.
FAILURE_COST: Final = 40
_REGEX_MEMORY_BYTES: Final = 1 << 16

_INT64_MIN, _INT64_MAX = -(2**63), 2**63 - 1
_ERROR = re.compile(r"^(?:\w+: )?ERROR: <input>:(-?\d+):(-?\d+): (.*)$", re.MULTILINE)
_GROUP = re.compile(r"[A-Z][A-Z0-9_]{1,29}\Z")


class ConditionError(ValueError):
    """A condition that is not taken; ``offset`` is the place of the mistake in it, in characters from 0."""

    def __init__(self, text: str, offset: int = 0) -> None:
        super().__init__(text)
        self.text = text
        self.offset = offset


class Compiled:
    """A condition: ``test`` evaluates it, ``cost`` bounds what that takes, ``names`` are the variables it reads."""

    __slots__ = ("cost", "names", "test")

    def __init__(self, test: Condition, cost: int, names: frozenset[str]) -> None:
        self.test = test
        self.cost = cost
        self.names = names


def is_group_name(name: str) -> bool:
    """Whether a group of countries may be called so: capitals, so that it cannot be mistaken for a variable."""
    return _GROUP.match(name) is not None


def compile_condition(text: str, groups: Mapping[str, tuple[str, ...]]) -> Compiled:
    """The condition ``text``, with ``groups`` as lists of countries by name. Raises :class:`ConditionError`."""
    return _compiled(text, tuple(sorted((name, tuple(countries)) for name, countries in groups.items())))


@lru_cache(maxsize=5_000)
def _compiled(text: str, groups: tuple[tuple[str, tuple[str, ...]], ...]) -> Compiled:
    if len(text) > CHARS_MAX:
        raise ConditionError(f"has {len(text)} characters, at most {CHARS_MAX} are taken", CHARS_MAX)
    try:
        expression = environment(tuple(name for name, _ in groups)).compile(text)
    except RuntimeError as error:
        raise _mistake(text, str(error)) from None
    if expression.return_type() != cel.Type.BOOL:
        raise ConditionError(f"gives {expression.return_type().name()}, not a truth value")
    try:
        translation = _Translation(dict(groups))
        body, kind, _ = translation.node(tree_of(expression.serialize()))
    except UnsupportedError as error:
        raise ConditionError(error.text, error.offset) from None
    if kind != "bool":
        raise ConditionError(f"gives {kind}, not a truth value")
    if translation.cost > COST_MAX:
        raise ConditionError(f"costs {translation.cost}, at most {COST_MAX} is taken: make it several rules")
    return Compiled(_function(body, translation.constants), translation.cost, frozenset(translation.names))


@lru_cache(maxsize=100)
def environment(groups: tuple[str, ...]) -> Any:
    """The library's environment: the variables of conditions, ``meta``, and ``groups``. Also the reference for tests."""
    types = {name: cel.Type(signature) for name, signature in _signatures().items()}
    variables = types | {name: cel.Type.List(cel.Type.STRING) for name in groups}
    overload = cel.Overload("meta_string", cel.Type.STRING, [cel.Type.STRING])
    return cel.NewEnv(variables=variables, functions=[cel.FunctionDecl("meta", [overload])])


def _signatures() -> dict[str, str]:
    return {name: {"map(string, string)": "map<string, string>"}.get(kind, kind) for name, kind in VARIABLES.items()}


def _mistake(text: str, error: str) -> ConditionError:
    """The first mistake that the library told, in its words."""
    found = _ERROR.search(error)
    if found is None:
        why = "is nested too deep" if "recursion" in error else "cannot be read"
        return ConditionError(why)
    line, column, what = int(found[1]), int(found[2]), found[3].removesuffix(" [INVALID_ARGUMENT]")
    if line < 1 or column < 1:
        return ConditionError("is nested too deep" if "recursion" in what else what)
    starts = [0] + [at + 1 for at, character in enumerate(text) if character == "\n"]
    return ConditionError(re.sub(r" \(in container '.*?'\)$", "", what), min(starts[line - 1] + column - 1, len(text)))


# -- What conditions are made of --------------------------------------------------------------------------------------


def _in_range(value: int) -> int:
    if _INT64_MIN <= value <= _INT64_MAX:
        return value
    raise OverflowError("beyond 64 bits")


def _add(a: int, b: int) -> int:
    return _in_range(a + b)


def _subtract(a: int, b: int) -> int:
    return _in_range(a - b)


def _multiply(a: int, b: int) -> int:
    return _in_range(a * b)


def _divide(a: int, b: int) -> int:
    """Towards zero, as CEL does."""
    quotient = abs(a) // abs(b)
    return _in_range(quotient if (a < 0) == (b < 0) else -quotient)


def _remainder(a: int, b: int) -> int:
    """With the sign of ``a``, as CEL does."""
    if b == -1 and a == _INT64_MIN:
        raise OverflowError("beyond 64 bits")
    left = abs(a) % abs(b)
    return left if a >= 0 else -left


def _negate(a: int) -> int:
    return _in_range(-a)


def _and(left: Callable[[], bool], right: Callable[[], bool]) -> bool:
    try:
        decided = left()
    except FAILURES:
        if right():
            raise
        return False
    return decided and right()


def _or(left: Callable[[], bool], right: Callable[[], bool]) -> bool:
    try:
        decided = left()
    except FAILURES:
        if not right():
            raise
        return True
    return decided or right()


_HELPERS: Final[dict[str, Any]] = {
    "__builtins__": {},
    "len": len,
    "_and": _and,
    "_or": _or,
    "_add": _add,
    "_subtract": _subtract,
    "_multiply": _multiply,
    "_divide": _divide,
    "_remainder": _remainder,
    "_negate": _negate,
}
_COMPARISONS: Final[dict[str, type[ast.cmpop]]] = {
    "equals": ast.Eq,
    "not_equals": ast.NotEq,
    **{f"less_{kind}": ast.Lt for kind in ("int64", "string")},
    **{f"less_equals_{kind}": ast.LtE for kind in ("int64", "string")},
    **{f"greater_{kind}": ast.Gt for kind in ("int64", "string")},
    **{f"greater_equals_{kind}": ast.GtE for kind in ("int64", "string")},
}
_ARITHMETIC: Final = {
    "add_int64": "_add",
    "subtract_int64": "_subtract",
    "multiply_int64": "_multiply",
    "divide_int64": "_divide",
    "modulo_int64": "_remainder",
    "negate_int64": "_negate",
}
_SIZES: Final = frozenset(
    f"{first}_{second}" for kind in ("string", "list", "map") for first, second in (("size", kind), (kind, "size"))
)
_TEXT_TESTS: Final = {
    "starts_with_string": "startswith",
    "ends_with_string": "endswith",
    "contains_string": "__contains__",
}
_MATCHES: Final = frozenset(["matches", "matches_string"])

#: An expression, its type, and whether evaluating it may fail.
_Part = tuple[ast.expr, str, bool]


class _Translation:
    """From the checked tree to Python's. Collects what the function needs, and its cost."""

    def __init__(self, groups: Mapping[str, tuple[str, ...]]) -> None:
        self.groups = groups
        self.constants: dict[str, Any] = {}
        self.names: set[str] = set()
        self.cost = 0

    def node(self, node: Node) -> _Part:
        self.cost += 1
        match node.kind:
            case "const":
                return ast.Constant(node.value), _type_of(node.value), False
            case "ident":
                return self._variable(node)
            case "list":
                return self._list(node)
            case "select" | "has":
                return self._field(node)
            case _:
                return self._call(node)

    def _variable(self, node: Node) -> _Part:
        if node.name in self.groups:
            countries = self.groups[node.name]
            self.cost += len(countries)
            return ast.Tuple([ast.Constant(country) for country in countries], ast.Load()), "list(string)", False
        if node.name not in VARIABLES:
            raise UnsupportedError(f"{node.name} is not taken", node.offset)
        self.names.add(node.name)
        return _attribute(node.name), VARIABLES[node.name], False

    def _list(self, node: Node) -> _Part:
        parts = [self.node(child) for child in node.children]
        kinds = sorted({kind for _, kind, _ in parts})
        if len(kinds) > 1:
            raise UnsupportedError(f"a list of {' and '.join(kinds)}: items must be of one type", node.offset)
        elements = [part for part, _, _ in parts]
        return ast.Tuple(elements, ast.Load()), f"list({''.join(kinds)})", any(fails for _, _, fails in parts)

    def _field(self, node: Node) -> _Part:
        """``metadata.key``, and ``has(metadata.key)``."""
        of, _, _ = self.node(node.children[0])
        key = ast.Constant(node.name)
        if node.kind == "has":
            return ast.Compare(key, [ast.In()], [of]), "bool", False
        self.cost += FAILURE_COST
        return ast.Subscript(of, key, ast.Load()), "string", True

    def _call(self, node: Node) -> _Part:
        overload, children = node.overload, node.children
        if overload in _MATCHES:
            return self._matches(node)
        if overload in ("in_list", "in_map"):
            return self._in(node)
        parts = [self.node(child) for child in children]
        values = [part for part, _, _ in parts]
        fails = any(may_fail for _, _, may_fail in parts)
        if overload in ("logical_and", "logical_or"):
            return self._logical(overload, parts), "bool", fails
        if overload == "logical_not":
            return ast.UnaryOp(ast.Not(), values[0]), "bool", fails
        if overload == "conditional":
            return ast.IfExp(*values), parts[1][1], fails
        if overload in _COMPARISONS:
            return ast.Compare(values[0], [_COMPARISONS[overload]()], [values[1]]), "bool", fails
        if overload in _ARITHMETIC:
            self.cost += FAILURE_COST if overload in ("divide_int64", "modulo_int64") else 2
            return _called(_ARITHMETIC[overload], values), "int", True
        if overload in _SIZES:
            return _called("len", values), "int", fails
        if overload in _TEXT_TESTS:
            self._searched(overload, children[1])
            method = ast.Attribute(values[0], _TEXT_TESTS[overload], ast.Load())
            return ast.Call(method, values[1:], []), "bool", fails
        if overload == "meta_string":
            self.names.add("metadata")
            get = ast.Attribute(_attribute("metadata"), "get", ast.Load())
            return ast.Call(get, [values[0], ast.Constant("")], []), "string", fails
        if overload == "index_map":
            self.cost += FAILURE_COST
            return ast.Subscript(values[0], values[1], ast.Load()), "string", True
        raise UnsupportedError(f"{_spoken(node)} is not taken", node.offset)

    def _logical(self, overload: str, parts: list[_Part]) -> ast.expr:
        (left, _, left_fails), (right, _, _) = parts
        if left_fails:  # Then the right side may decide it; otherwise Python's operator does the same.
            self.cost += FAILURE_COST
            helper = "_and" if overload == "logical_and" else "_or"
            return _called(helper, [_thunk(left), _thunk(right)])
        return ast.BoolOp(ast.And() if overload == "logical_and" else ast.Or(), [left, right])

    def _in(self, node: Node) -> _Part:
        item, _, item_fails = self.node(node.children[0])
        where, _, where_fails = self.node(node.children[1])
        if isinstance(where, ast.Tuple):
            values = [element.value for element in where.elts if isinstance(element, ast.Constant)]
            if len(values) == len(where.elts):
                where = ast.Constant(frozenset(values))  # type: ignore[arg-type]
        return ast.Compare(item, [ast.In()], [where]), "bool", item_fails or where_fails

    def _searched(self, overload: str, what: Node) -> None:
        if overload != "contains_string":
            return
        self.cost += CONTAINS_COST
        if what.kind != "const" or len(str(what.value)) > CONTAINS_CHARS_MAX:
            text = f"contains() takes a literal text of at most {CONTAINS_CHARS_MAX} characters"
            raise UnsupportedError(text, what.offset)

    def _matches(self, node: Node) -> _Part:
        text, pattern = node.children
        if pattern.kind != "const":
            raise UnsupportedError("matches() takes a literal pattern", pattern.offset)
        value, _, fails = self.node(text)
        options = re2.Options()
        options.log_errors, options.max_mem = False, _REGEX_MEMORY_BYTES
        try:
            compiled = re2.compile(str(pattern.value), options)
        except re2.error as error:
            why = error.args[0].decode() if error.args and isinstance(error.args[0], bytes) else str(error)
            raise UnsupportedError(f"not a regular expression of RE2: {why}", pattern.offset) from None
        self.cost += REGEX_COST + INSTRUCTION_COST * compiled.programsize
        name = f"_search{len(self.constants)}"
        self.constants[name] = compiled.search
        found = ast.Compare(_called(name, [value]), [ast.IsNot()], [ast.Constant(None)])
        return found, "bool", fails


def _type_of(value: object) -> str:
    return {bool: "bool", int: "int", str: "string"}[type(value)]


def _attribute(name: str) -> ast.expr:
    return ast.Attribute(ast.Name("p", ast.Load()), name, ast.Load())


def _called(name: str, arguments: list[ast.expr]) -> ast.expr:
    return ast.Call(ast.Name(name, ast.Load()), arguments, [])


def _thunk(body: ast.expr) -> ast.expr:
    return ast.Lambda(_arguments(), body)


def _arguments(*names: str) -> ast.arguments:
    return ast.arguments([], [ast.arg(name) for name in names], None, [], [], None, [])


def _spoken(node: Node) -> str:
    """A function or operator as it is written, without the checker's marks."""
    return f"{node.name.strip('@_').replace('_', '')} ({node.overload.replace('_', ' ')})"


def _function(body: ast.expr, constants: Mapping[str, Any]) -> Condition:
    module = ast.Expression(ast.Lambda(_arguments("p"), body))
    code: CodeType = compile(ast.fix_missing_locations(module), "<condition>", "eval")
    made: Condition = eval(code, {**_HELPERS, **constants})  # noqa: S307 - of our own tree, nothing of it is text
    return made
