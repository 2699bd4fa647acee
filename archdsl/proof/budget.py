"""Limits the cost of running a text: its steps, and the size of its values."""

from __future__ import annotations

import ast
import operator
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, TypeAlias

from archdsl.proof.errors import Unproved

LARGEST = 1_000_000
"""The maximum length of a list, tuple or string that a file creates, and of a number in bits."""


class Budget:
    """Counts the steps of a run: function calls and loop iterations."""

    def __init__(self, steps: int) -> None:
        self.left = steps

    def step(self) -> None:
        self.left -= 1
        if self.left < 0:
            raise Unproved("takes more steps than its network can need")

    def each(self, items: Iterable[Any]) -> Iterable[Any]:
        """The items, counting a step for each: at once if their number is known."""
        return self.some(items) if type(items) in COLLECTIONS else self.counted(items)

    def some(self, items: Any) -> Any:
        """Items added to a list or passed as arguments, counting a step for each."""
        if type(items) in COLLECTIONS:
            self.left -= len(items)
            self.step()
        return items

    def counted(self, items: Iterable[Any]) -> Iterator[Any]:
        for item in items:
            self.step()
            yield item

    def range(self, *ends: int) -> Range:
        return Range(self, range(*ends))

    def join(self, separator: str, parts: Iterable[str]) -> str:
        words = list(self.each(parts))
        _bound(sum(map(len, words)) + len(separator) * len(words))
        return separator.join(words)

    def words(self) -> Mapping[str, object]:
        """The function that `counted` code calls."""
        return {
            "STEP__": self.step,
            "EACH__": self.each,
            "SOME__": self.some,
            "RANGE__": self.range,
            "JOIN__": self.join,
            "TEXT__": _text,
            **{name: _bounded(function) for name, function in OPERATORS.values()},
            **{name: _bounded(function) for name, function in IN_PLACE.values()},
        }


COLLECTIONS = frozenset({list, tuple, dict, set})


class Range:
    """Python's range, counting its numbers as they are used."""

    def __init__(self, budget: Budget, numbers: range) -> None:
        self.budget, self.numbers = budget, numbers

    def __iter__(self) -> Iterator[int]:
        return self.budget.counted(self.numbers)

    def __reversed__(self) -> Iterator[int]:
        return self.budget.counted(reversed(self.numbers))


def _bound(size: int) -> None:
    if size >= LARGEST:
        raise Unproved("makes something larger than its network can need")


def _text(*parts: object) -> str:
    """An f-string, or `str`. No part is too large by itself."""
    if not SCALARS.issuperset(map(type, parts)) or len(parts) > MOST_PARTS:
        raise Unproved("writes into a text what built files do not")
    text = "".join(map(str, parts))
    _bound(len(text))
    return text


SCALARS = frozenset({str, int, float, bool, type(None)})
MOST_PARTS = 100
"""A part of an f-string."""


def _bounded(function: Callable[[Any, Any], Any]) -> Callable[[Any, Any], Any]:
    is_power = function is operator.pow

    def compute(a: Any, b: Any) -> Any:
        if type(a) is int and type(b) is int and not is_power and -SMALL < a < SMALL and -SMALL < b < SMALL:
            return function(a, b)
        for value, other in ((a, b), (b, a)):
            if isinstance(value, str | list | tuple):
                if isinstance(other, str | list | tuple):
                    _bound(len(value) + len(other) if function in (operator.add, operator.iadd) else LARGEST)
                else:
                    _bound(len(value) * other if isinstance(other, int) and "mul" in function.__name__ else LARGEST)
            elif isinstance(value, int) and value.bit_length() > LONGEST:
                raise Unproved("computes a number larger than its network can need")
        if is_power and isinstance(a, int) and isinstance(b, int) and a.bit_length() * b > LONGEST:
            raise Unproved("computes a number larger than its network can need")
        return function(a, b)

    return compute


LONGEST = 10_000
"""The most bits of an int."""

SMALL = 2**64
"""Below it, ints need no closer look."""

OPERATORS: Mapping[type[ast.operator], tuple[str, Callable[[Any, Any], Any]]] = {
    ast.Add: ("ADD__", operator.add),
    ast.Mult: ("MUL__", operator.mul),
    ast.Mod: ("MOD__", operator.mod),
    ast.Pow: ("POW__", operator.pow),
}
IN_PLACE: Mapping[type[ast.operator], tuple[str, Callable[[Any, Any], Any]]] = {
    ast.Add: ("IADD__", operator.iadd),
    ast.Mult: ("IMUL__", operator.imul),
}


def count(nodes: Kinds) -> None:
    """Changes code in place: its steps are counted, and the size of its values is limited."""
    passing: set[int] = set()
    for node in nodes[ast.Call]:
        match node.func:
            case ast.Name(id="str"):
                node.func.id = "TEXT__"
            case ast.Attribute(attr="join", value=text):
                _become(node, ast.Call, func=_name("JOIN__", node), args=[text, *node.args])
            case ast.Attribute(attr="extend"):
                node.args = [_call("SOME__", arg) for arg in node.args]
            case ast.Attribute(attr=attr) if attr in COMPARING:
                passing.update(map(id, (node.func.value, *node.args)))
    for node in nodes[ast.Name]:
        if node.id == "range":
            node.id = "RANGE__"
    for node in (*nodes[ast.For], *nodes[ast.comprehension]):
        node.iter = _call("EACH__", node.iter)
    for node in nodes[ast.Starred]:
        if isinstance(node.ctx, ast.Load):
            node.value = _call("SOME__", node.value)
    for node in nodes[ast.JoinedStr]:
        if id(node) not in passing:
            _call_instead(node, "TEXT__", *[v.value if isinstance(v, ast.FormattedValue) else v for v in node.values])
    for node in nodes[ast.BinOp]:
        if type(node.op) in OPERATORS:
            _call_instead(node, OPERATORS[type(node.op)][0], node.left, node.right)
    for node in nodes[ast.AugAssign]:
        if isinstance(node.target, ast.Name) and type(node.op) in IN_PLACE:
            changed = _call(IN_PLACE[type(node.op)][0], _name(node.target.id, node), node.value)
            _become(node, ast.Assign, targets=[node.target], value=changed)
    for node in nodes[ast.Assign]:
        match node.targets:
            case [ast.Subscript(slice=ast.Slice())]:
                node.value = _call("SOME__", node.value)
            case [ast.Attribute(value=ast.Attribute() as owner, attr=name)]:  # only for modules
                named = ast.copy_location(ast.Constant(name), node)
                _become(node, ast.Expr, value=_call("setattr", owner, named, node.value))
    for node in nodes[ast.FunctionDef]:
        if node.name == "forward":
            node.decorator_list.append(_name("FORWARD__", node))
        node.body.insert(0, ast.copy_location(ast.Expr(_call_at(node, "STEP__")), node))


COMPARING = frozenset({"startswith", "endswith"})
"""Methods whose strings are discarded."""

Kinds: TypeAlias = Mapping[type[ast.AST], Sequence[Any]]
"""Syntax nodes by their type, outer before inner; a type without nodes gives none."""


def by_kind(nodes: Iterable[ast.AST]) -> Kinds:
    found: Kinds = defaultdict(list)
    for node in nodes:
        found[type(node)].append(node)  # type: ignore[attr-defined]
    return found


def walked(tree: ast.AST) -> Iterator[ast.AST]:
    """The nodes of a tree without contexts, outer before inner, faster than ast.walk; nodes may be changed."""
    stack = [tree]
    while stack:
        node = stack.pop()
        yield node
        known = node.__dict__
        for name in FIELDS[type(node)]:
            value = known.get(name)
            if type(value) is list:
                stack += [v for v in value if v is not None]  # a `**` in a dict has the key None
            elif value is not None:
                stack.append(value)


_TEXTS = "arg asname attr conversion ctx id is_async kind level module name simple type_comment"
TEXTS = frozenset(_TEXTS.split())
"""Fields of syntax nodes that hold no nodes, except contexts."""


FIELDS: Mapping[type, tuple[str, ...]] = {
    kind: tuple(name for name in kind._fields if name not in TEXTS and kind is not ast.Constant)
    for kind in vars(ast).values()
    if isinstance(kind, type) and issubclass(kind, ast.AST)
}
"""The fields of each kind of syntax node that may hold nodes."""


def _name(name: str, at: ast.stmt | ast.expr) -> ast.expr:
    return ast.copy_location(ast.Name(name, ast.Load()), at)


def _call_at(at: ast.stmt | ast.expr, name: str, *args: ast.expr) -> ast.expr:
    return ast.copy_location(ast.Call(_name(name, at), list(args), []), at)


def _call(name: str, first: ast.expr, *more: ast.expr) -> ast.expr:
    return _call_at(first, name, first, *more)


def _call_instead(node: ast.expr, name: str, *args: ast.expr) -> None:
    """Makes an expression a call."""
    _become(node, ast.Call, func=_name(name, node), args=list(args), keywords=[])


def _become(node: Any, kind: type[ast.AST], **fields: object) -> None:
    """Makes a node another one, at its place."""
    node.__class__ = kind
    node.__dict__.update(fields)
