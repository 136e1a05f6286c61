"""Conditions on literals: where code decides by a particular string or number, read from its syntax tree.

A comparison by size (`level < 95`) is a threshold, which holds for rows that nobody has seen; `== 95` is not.
"""

from __future__ import annotations

import ast
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from itera_nb.arms.manifest import Manifest
from itera_nb.diagnosis.literals import code

REPORTING = {"print", "log", "logger", "logging", "warnings"}
CONTAINERS = {"set", "frozenset", "tuple", "list", "dict", "sorted"}
TEXT_METHODS = {"lower", "upper", "casefold", "strip", "split"}
SEARCHES = {"startswith", "endswith", "find", "rfind", "index", "count", "__contains__"}
SET_METHODS = {"isdisjoint", "intersection", "issubset", "issuperset"}
LOOKUPS = {"get", "pop"}
PATTERNS = {"match", "search", "fullmatch", "findall", "finditer"}
COMMON_NUMBERS = (0, 1, -1)
_SYNTAX = re.compile(r"\\.|\[[^\]]*\]|\(\?P?[<=!:]+\w*>?|\{[\d,]*\}")
_WORD = re.compile(r"\w{3,}")
_COMPOUND = (ast.Tuple, ast.List, ast.Set, ast.Dict, ast.Call, ast.BinOp)


@dataclass(frozen=True, slots=True, order=True)
class Condition:
    """One literal (of a regular expression a word in it) by which code decides, and where.

    `form` is "equals", "is one of", "contains", "case", "looked up" or "pattern"; lines count from 1.
    """

    literal: str
    form: str
    file: str
    line: int

    def __str__(self) -> str:
        """Where it stands and what it asks for."""
        return f"{self.file}:{self.line} {self.form} {self.literal!r}"


@dataclass(slots=True)
class _Names:
    """What a file's names stand for: literals, and which of them are dictionaries."""

    literals: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))
    tables: set[str] = field(default_factory=set)


def added_conditions(manifest: Manifest, parent: Manifest) -> list[Condition]:
    """Conditions on literals that an arm's code has and its parent's has not, one a literal and form."""
    new, old = (
        {(c.literal, c.form): c for path, source in code(m).items() for c in literal_conditions(source, path)}
        for m in (manifest, parent)
    )
    added = (condition for key, condition in new.items() if key not in old)
    return sorted(added, key=lambda c: (c.file, c.line, c.literal))


def literal_conditions(source: str, file: str = "") -> list[Condition]:
    """Every condition on a literal in Python source; documentation and what is only reported do not count."""
    tree = ast.parse(source)
    names = _bound(tree, _bound(tree, _Names()))
    return [
        Condition(literal, form, file, getattr(node, "lineno", 0))
        for node in _walk(tree)
        for form, literal in _decides(node, names)
    ]


def _walk(node: ast.AST) -> Iterator[ast.AST]:
    """Every node below one, but for the arguments of calls that only report."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Call) and _root(child.func) in REPORTING:
            continue
        yield child
        yield from _walk(child)


def _root(node: ast.expr) -> str:
    while isinstance(node, ast.Attribute):
        node = node.value
    return node.id if isinstance(node, ast.Name) else ""


def _decides(node: ast.AST, names: _Names) -> Iterator[tuple[str, str]]:
    """(form, literal) of what a node decides by."""
    if isinstance(node, ast.Compare):
        yield from _compared(node, names)
    elif isinstance(node, ast.match_case):
        values = [n.value for n in ast.walk(node.pattern) if isinstance(n, ast.MatchValue)]
        keys = [k for n in ast.walk(node.pattern) if isinstance(n, ast.MatchMapping) for k in n.keys]
        yield from _as("case", values + keys, names)
    elif isinstance(node, ast.Subscript) and isinstance(node.ctx, ast.Load) and _is_table(node.value, names):
        yield from _as("looked up", [node.value], names)
    elif isinstance(node, ast.BinOp) and isinstance(node.op, ast.BitAnd):
        yield from _as("contains", [node.left, node.right], names)
    elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
        yield from _called(node.func, node.args, names)


def _compared(node: ast.Compare, names: _Names) -> Iterator[tuple[str, str]]:
    sides = [node.left, *node.comparators]
    if any(isinstance(side, ast.Name) and side.id == "__name__" for side in sides):
        return
    for left, op, right in zip(sides, node.ops, sides[1:], strict=False):
        if isinstance(op, ast.Eq | ast.NotEq):
            yield from _as("equals", [left, right], names)
        elif isinstance(op, ast.In | ast.NotIn):
            yield from _as("contains", [left], names)
            yield from _as("is one of", [right], names)


def _called(function: ast.Attribute, arguments: list[ast.expr], names: _Names) -> Iterator[tuple[str, str]]:
    method, owner = function.attr, function.value
    if method in SEARCHES:
        yield from _as("contains", arguments, names)
    elif method in SET_METHODS:
        yield from _as("contains", [owner, *arguments], names)
    elif method in LOOKUPS and _is_table(owner, names):
        yield from _as("looked up", [owner], names)
    elif method in PATTERNS:
        pattern = arguments[:1] if isinstance(owner, ast.Name) and owner.id in {"re", "regex"} else [owner]
        for _, text in _as("pattern", pattern, names):
            yield from (("pattern", word) for word in _WORD.findall(_SYNTAX.sub(" ", text)))


def _as(form: str, nodes: Iterable[ast.expr], names: _Names) -> Iterator[tuple[str, str]]:
    return ((form, literal) for node in nodes for literal in _literals(node, names))


def _is_table(node: ast.expr, names: _Names) -> bool:
    return isinstance(node, ast.Dict) or _name(node) in names.tables


def _name(node: ast.AST) -> str:
    if isinstance(node, ast.Name):
        return node.id
    return node.attr if isinstance(node, ast.Attribute) else ""


def _literals(node: ast.AST | None, names: _Names) -> Iterator[str]:
    """The literals that an expression is made of, where it is made of nothing else."""
    match node:
        case ast.Constant(value=value):
            if _is_particular(value):
                yield str(value)
        case ast.Tuple(elts=parts) | ast.List(elts=parts) | ast.Set(elts=parts):
            yield from (literal for part in parts for literal in _literals(part, names))
        case ast.Dict(keys=keys):
            yield from (literal for key in keys for literal in _literals(key, names))
        case ast.Starred(value=part) | ast.NamedExpr(value=part):
            yield from _literals(part, names)
        case ast.Name() | ast.Attribute():
            yield from names.literals.get(_name(node), ())
        case ast.BinOp(left=ast.Constant(value=str(one)), op=ast.Add(), right=ast.Constant(value=str(two))):
            yield one + two
        case ast.BinOp(left=left, op=ast.Add() | ast.BitOr(), right=right):
            yield from _literals(left, names)
            yield from _literals(right, names)
        case ast.Call():
            yield from _made(node, names)


def _made(call: ast.Call, names: _Names) -> Iterator[str]:
    """The literals of `frozenset(...)`, `re.compile(...)`, `"a b".split()` and the like."""
    function = call.func
    if isinstance(function, ast.Name) and function.id in CONTAINERS:
        yield from (literal for part in call.args for literal in _literals(part, names))
        yield from (keyword.arg for keyword in call.keywords if keyword.arg and function.id == "dict")
    elif isinstance(function, ast.Attribute) and function.attr == "compile":
        yield from _literals(call.args[0] if call.args else None, names)
    elif isinstance(function, ast.Attribute) and function.attr in TEXT_METHODS:
        for literal in _literals(function.value, names):
            yield from literal.split() if function.attr == "split" else [literal]


def _is_particular(value: object) -> bool:
    if isinstance(value, str):
        return len(value.strip()) > 1
    return isinstance(value, int | float) and not isinstance(value, bool) and value not in COMMON_NUMBERS


def _bound(tree: ast.AST, known: _Names) -> _Names:
    """What the names of a file are bound to; a name that holds one value, then another, holds neither."""
    found, times = _Names(), defaultdict[str, int](int)
    bindings = [(name, value) for node in ast.walk(tree) for name, value in _bindings(node)]
    for name, _ in bindings:
        times[name] += 1
    for name, value in bindings:
        if times[name] == 1 or isinstance(value, _COMPOUND):
            found.literals[name] += _literals(value, known)
        made = isinstance(value, ast.Call) and _name(value.func) == "dict"
        if isinstance(value, ast.Dict) or made or _name(value) in known.tables:
            found.tables.add(name)
    return found


def _bindings(node: ast.AST) -> Iterator[tuple[str, ast.expr]]:
    """(name, expression) of what a node assigns, iterates over or gives as a default."""
    match node:
        case ast.Assign(targets=targets, value=value):
            yield from ((_name(target), value) for target in targets if _name(target))
        case (
            ast.AnnAssign(target=target, value=ast.expr() as value)
            | ast.NamedExpr(target=target, value=value)
        ):
            yield _name(target), value
        case ast.AugAssign(target=target, value=value) if isinstance(value, _COMPOUND):
            yield _name(target), value
        case ast.For(target=target, iter=value) | ast.comprehension(target=target, iter=value):
            yield from ((n.id, value) for n in ast.walk(target) if isinstance(n, ast.Name))
        case ast.arguments(args=arguments, defaults=defaults) if defaults:
            yield from zip((a.arg for a in arguments[-len(defaults) :]), defaults, strict=True)
