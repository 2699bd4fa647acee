"""Limits the cost of running a text: its steps, and the size of its values."""

from __future__ import annotations

import ast
import operator
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

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


def counted(tree: ast.Module) -> ast.Module:
    """Changes the code in place: its steps are counted, and the size of its values is limited."""
    passing: set[int] = set()
    for node in walked(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in COMPARING:
            passing.update(map(id, (node.func.value, *node.args)))
        for name in FIELDS[type(node)]:
            value: Any = getattr(node, name, None)
            if type(value) is list:
                value[:] = [_changed(v) if type(v) in CHANGED and id(v) not in passing else v for v in value]
            elif type(value) in CHANGED and id(value) not in passing:
                setattr(node, name, _changed(value))
        if isinstance(node, ast.FunctionDef):
            node.body.insert(0, ast.copy_location(ast.Expr(_call(node, "STEP__")), node))
    return tree


COMPARING = frozenset({"startswith", "endswith"})
"""Methods whose strings are discarded."""

CHANGED = frozenset(
    (
        *(ast.For, ast.comprehension, ast.Starred, ast.Assign, ast.AugAssign),
        *(ast.Name, ast.Call, ast.JoinedStr, ast.BinOp),
    )
)
"""The node types that `_changed` may change."""


def walked(tree: ast.AST) -> Iterator[ast.AST]:
    """The nodes of a tree without contexts, outer before inner, twice as fast as ast.walk; nodes may be changed."""
    stack = [tree]
    while stack:
        node = stack.pop()
        yield node
        known = node.__dict__
        for name in FIELDS[type(node)]:
            value = known.get(name)
            if type(value) is list:
                stack += [v for v in value if isinstance(v, ast.AST)]
            elif isinstance(value, ast.AST):
                stack.append(value)


TEXTS = frozenset(
    {"arg", "asname", "attr", "conversion", "ctx", "id", "kind", "level", "module", "name", "simple", "type_comment"}
)
"""Fields of syntax nodes that hold no nodes, except contexts."""


FIELDS: Mapping[type, tuple[str, ...]] = {
    kind: tuple(name for name in kind._fields if name not in TEXTS and kind is not ast.Constant)
    for kind in vars(ast).values()
    if isinstance(kind, type) and issubclass(kind, ast.AST)
}
"""The fields of each kind of syntax node that may hold nodes."""


def _changed(node: ast.AST) -> ast.AST:
    """The replacement of a node, or the node itself."""
    if isinstance(node, ast.Name):  # most nodes are unchanged
        node.id = "RANGE__" if node.id == "range" else node.id
        return node
    match node:
        case ast.For() | ast.comprehension():
            node.iter = _call(node.iter, "EACH__", node.iter)
        case ast.Starred(ctx=ast.Load()):
            node.value = _call(node.value, "SOME__", node.value)
        case ast.Assign(targets=[ast.Subscript(slice=ast.Slice())]):
            node.value = _call(node.value, "SOME__", node.value)
        case ast.Assign(targets=[ast.Attribute(value=ast.Attribute() as owner, attr=name)]):  # only for modules
            made = _call(node, "setattr", owner, ast.copy_location(ast.Constant(name), node), node.value)
            return ast.copy_location(ast.Expr(made), node)
        case ast.Call(func=ast.Name(id="str") as function):
            function.id = "TEXT__"
        case ast.Call(func=ast.Attribute(attr="join", value=text)):
            return _call(node, "JOIN__", text, *node.args)
        case ast.Call(func=ast.Attribute(attr="extend")):
            node.args = [_call(arg, "SOME__", arg) for arg in node.args]
        case ast.JoinedStr():
            return _call(node, "TEXT__", *[v.value if isinstance(v, ast.FormattedValue) else v for v in node.values])
        case ast.BinOp() if type(node.op) in OPERATORS:
            return _call(node, OPERATORS[type(node.op)][0], node.left, node.right)
        case ast.AugAssign(target=ast.Name(id=name)) if type(node.op) in IN_PLACE:
            read = ast.copy_location(ast.Name(name, ast.Load()), node)
            changed = _call(node, IN_PLACE[type(node.op)][0], read, node.value)
            return ast.copy_location(ast.Assign([node.target], changed), node)
    return node


def _call(at: ast.stmt | ast.expr, name: str, *args: ast.expr) -> ast.expr:
    function = ast.copy_location(ast.Name(name, ast.Load()), at)
    return ast.copy_location(ast.Call(function, list(args), []), at)
