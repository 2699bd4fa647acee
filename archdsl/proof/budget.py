"""Bounds what running a text may cost: its steps, and the size of what it makes."""

from __future__ import annotations

import ast
import operator
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from archdsl.proof.errors import Unproved

LARGEST = 1_000_000
"""No list, tuple or text that a file makes may be longer, and no number have so many bits."""


class Budget:
    """Counts the steps of a run: calls of functions, and rounds of loops."""

    def __init__(self, steps: int) -> None:
        self.left = steps

    def step(self) -> None:
        self.left -= 1
        if self.left < 0:
            raise Unproved("takes more steps than its network can need")

    def each(self, items: Iterable[Any]) -> Iterable[Any]:
        """The items, with a step counted for each: at once where their number is known."""
        if type(items) not in (list, tuple, dict, set):
            return self.counted(items)
        self.left -= len(items)  # type: ignore[arg-type]
        self.step()
        return items

    def counted(self, items: Iterable[Any]) -> Iterator[Any]:
        for item in items:
            self.step()
            yield item

    def range(self, *ends: int) -> Range:
        return Range(self, range(*ends))

    def words(self) -> Mapping[str, object]:
        """What `counted` code calls."""
        return {
            "STEP__": self.step,
            "EACH__": self.each,
            "RANGE__": self.range,
            **{f"{name}__": _bounded(function) for name, (function, _) in OPERATORS.items()},
        }


class Range:
    """Python's range, whose numbers are counted as they are taken."""

    def __init__(self, budget: Budget, numbers: range) -> None:
        self.budget, self.numbers = budget, numbers

    def __iter__(self) -> Iterator[int]:
        return self.budget.counted(self.numbers)

    def __reversed__(self) -> Iterator[int]:
        return self.budget.counted(reversed(self.numbers))


def _bounded(function: Callable[[Any, Any], Any]) -> Callable[[Any, Any], Any]:
    def compute(a: Any, b: Any) -> Any:
        for value, other in ((a, b), (b, a)):
            if isinstance(value, str | list | tuple):
                if isinstance(other, str | list | tuple):
                    size = len(value) + len(other) if function in (operator.add, operator.iadd) else LARGEST
                else:
                    size = len(value) * other if isinstance(other, int) and "mul" in function.__name__ else LARGEST
                if size >= LARGEST:
                    raise Unproved("makes something larger than its network can need")
            elif isinstance(value, int) and value.bit_length() > 10_000:
                raise Unproved("computes a number larger than its network can need")
        return function(a, b)

    return compute


OPERATORS: Mapping[str, tuple[Callable[[Any, Any], Any], type[ast.operator]]] = {
    "ADD": (operator.add, ast.Add),
    "MUL": (operator.mul, ast.Mult),
    "MOD": (operator.mod, ast.Mod),
    "IADD": (operator.iadd, ast.Add),
    "IMUL": (operator.imul, ast.Mult),
}


def counted(tree: ast.Module) -> ast.Module:
    """The code with its steps counted, and its sums and products bounded."""
    return _Counting().visit(tree)  # type: ignore[no-any-return]


class _Counting(ast.NodeTransformer):
    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.AST:
        self.generic_visit(node)
        node.body.insert(0, ast.copy_location(ast.Expr(_call(node, "STEP__")), node))
        return node

    def visit_For(self, node: ast.For) -> ast.AST:
        self.generic_visit(node)
        node.iter = _call(node.iter, "EACH__", node.iter)
        return node

    def visit_comprehension(self, node: ast.comprehension) -> ast.AST:
        self.generic_visit(node)
        node.iter = _call(node.iter, "EACH__", node.iter)
        return node

    def visit_Name(self, node: ast.Name) -> ast.AST:
        return ast.copy_location(ast.Name("RANGE__", node.ctx), node) if node.id == "range" else node

    def visit_BinOp(self, node: ast.BinOp) -> ast.AST:
        self.generic_visit(node)
        name = _NAMES.get(type(node.op))
        return node if name is None else _call(node, name, node.left, node.right)

    def visit_AugAssign(self, node: ast.AugAssign) -> ast.AST:
        self.generic_visit(node)
        name = _NAMES.get(type(node.op))
        if name is None or f"I{name}" not in _IN_PLACE or not isinstance(node.target, ast.Name):
            return node
        read = ast.copy_location(ast.Name(node.target.id, ast.Load()), node)
        return ast.copy_location(ast.Assign([node.target], _call(node, f"I{name}", read, node.value)), node)


def _call(at: ast.stmt | ast.expr, name: str, *args: ast.expr) -> ast.expr:
    function = ast.copy_location(ast.Name(name, ast.Load()), at)
    return ast.copy_location(ast.Call(function, list(args), []), at)


_NAMES = {kind: f"{name}__" for name, (_, kind) in OPERATORS.items() if not name.startswith("I")}
_IN_PLACE = {f"{name}__" for name in OPERATORS}
