"""The expressions of an `extern` as expressions of Python, made as syntax trees: no text of a spec becomes code."""

from __future__ import annotations

import ast
from collections.abc import Mapping
from dataclasses import dataclass, field

from archdsl.common.source import Span
from archdsl.syntax import tree
from archdsl.values import BUILTINS, Failure, FunctionValue, Namespace, evaluate

DEEP, NESTED, LONG = 20, 100, 2_000
"""How deep functions of a spec may call each other in an extern, how deep an expression of Python may be nested, and
how many parts it may have."""

_OPERATORS: Mapping[str, type[ast.operator]] = {
    "+": ast.Add,
    "-": ast.Sub,
    "*": ast.Mult,
    "//": ast.FloorDiv,
    "%": ast.Mod,
    "**": ast.Pow,
}
_COMPARISONS: Mapping[str, type[ast.cmpop]] = {
    "==": ast.Eq,
    "!=": ast.NotEq,
    "<": ast.Lt,
    "<=": ast.LtE,
    ">": ast.Gt,
    ">=": ast.GtE,
}


@dataclass(slots=True)
class Translation:
    """Translates expressions of an extern to Python's; `names` are the variables there."""

    module: Namespace
    names: Mapping[str, str]
    inside: Mapping[str, ast.expr] = field(default_factory=dict)
    """The arguments of a function of the spec whose value is translated."""
    depth: int = 0
    spent: list[tree.Value] = field(default_factory=list)
    """The values that were translated for one expression."""

    def text(self, value: tree.Value, exact: bool = False) -> str:
        """The expression as Python's text; `exact` as for `expression`. Raises Failure."""
        self.spent.clear()
        made = self.expression(value, exact)
        if not _is_short(made):
            raise self.too_long(value.span)
        return ast.unparse(ast.fix_missing_locations(ast.Expression(made)))

    @staticmethod
    def too_long(span: Span) -> Failure:
        return Failure("E0235", "this is too long for a built file, with what its functions compute", span)

    def expression(self, value: tree.Value, exact: bool = False) -> ast.expr:
        """The expression; `exact`: it is a size, so that `/` divides without a rest. Raises Failure."""
        self.spent.append(value)
        if len(self.spent) > LONG:
            raise self.too_long(self.spent[0].span)
        match value:
            case tree.Literal():
                return ast.Constant(value.value)
            case tree.SizeLiteral():
                return _tuple([ast.Constant(n) for n in value.values])
            case tree.Name():
                return self.name(value)
            case tree.ListValue():
                return _tuple([self.expression(v) for v in value.items])
            case tree.Unary():
                operators = {"-": ast.USub, "+": ast.UAdd, "not": ast.Not}
                return ast.UnaryOp(operators[value.operator](), self.expression(value.operand, exact))
            case tree.Binary():
                return self.binary(value, exact)
            case tree.Conditional():
                then, otherwise = self.expression(value.then, exact), self.expression(value.otherwise, exact)
                return ast.IfExp(self.expression(value.condition), then, otherwise)
            case tree.Index():
                return self.index(value)
            case tree.Apply():
                return self.apply(value, exact)
            case tree.Range():
                return _call("tuple", _call("range", *self.bounds(value)))
            case _:
                raise self.cannot(value.span)

    @staticmethod
    def cannot(span: Span) -> Failure:
        help = "use its parameters, the sizes that its `input` names, numbers, strings, lists and functions of them"
        return Failure("E0235", f"an extern cannot use `{span.text}`", span, help)

    def name(self, value: tree.Name) -> ast.expr:
        if value.name in self.inside:
            return self.inside[value.name]
        if not self.depth and value.name in self.names:
            return ast.Name(self.names[value.name])
        return _constant(evaluate(value, self.module), value.span)

    def binary(self, value: tree.Binary, exact: bool) -> ast.expr:
        sign = value.operator
        left, right = self.expression(value.left, exact), self.expression(value.right, exact)
        if sign in ("and", "or"):
            return ast.BoolOp(ast.And() if sign == "and" else ast.Or(), [left, right])
        if sign in _COMPARISONS:
            return ast.Compare(left, [_COMPARISONS[sign]()], [right])
        if sign != "/":
            return ast.BinOp(left, _OPERATORS[sign](), right)
        whole = ast.BinOp(left, ast.FloorDiv(), right)
        if exact:
            return whole
        rest = ast.BinOp(left, ast.Mod(), right)
        return ast.IfExp(rest, ast.BinOp(left, ast.Div(), right), whole)

    def index(self, value: tree.Index) -> ast.expr:
        base = self.expression(value.base)
        if isinstance(value.index, tree.Range):
            return ast.Subscript(base, ast.Slice(*self.bounds(value.index)))
        return ast.Subscript(base, self.expression(value.index))

    def bounds(self, value: tree.Range) -> tuple[ast.expr, ast.expr]:
        stop = self.expression(value.stop)
        if value.inclusive:
            stop = ast.BinOp(stop, ast.Add(), ast.Constant(1))
        return self.expression(value.start), stop

    def apply(self, value: tree.Apply, exact: bool) -> ast.expr:
        name = value.function.name
        found = None if name in self.inside or (not self.depth and name in self.names) else self.module.find(name)
        if isinstance(found, FunctionValue):
            return self.function(found, value, exact)
        if found is not None or name not in BUILTINS:
            raise self.cannot(value.span)
        arguments = [self.expression(a.value, exact) for a in value.arguments]
        match name:
            case "min" | "max" | "sum" | "len" | "abs" | "int" | "round":
                return _call(name, *arguments)
            case "range" | "zip" | "enumerate":
                return _call("tuple", _call(name, *arguments))
            case "floor":
                return _call("int", ast.BinOp(arguments[0], ast.FloorDiv(), ast.Constant(1)))
            case "ceil":
                below = ast.BinOp(ast.UnaryOp(ast.USub(), arguments[0]), ast.FloorDiv(), ast.Constant(1))
                return _call("int", ast.UnaryOp(ast.USub(), below))
            case _:
                raise self.cannot(value.span)

    def function(self, found: FunctionValue, value: tree.Apply, exact: bool) -> ast.expr:
        """The value of a function of the spec, with its arguments in it."""
        if self.depth >= DEEP:
            raise self.cannot(value.span)
        parameters = [p.name.name for p in found.syntax.parameters]
        given: dict[str, ast.expr] = {}
        for i, argument in enumerate(value.arguments):
            name = argument.name or (parameters[i] if i < len(parameters) else "")
            given[name] = self.expression(argument.value, exact)
        for p in found.syntax.parameters:
            if p.name.name not in given and p.default is not None:
                inner = Translation(found.module, {}, dict(given), self.depth + 1, self.spent)
                given[p.name.name] = inner.expression(p.default, exact)
        if set(given) != set(parameters):
            raise self.cannot(value.span)
        inner = Translation(found.module, {}, given, self.depth + 1, self.spent)
        return inner.expression(found.syntax.value, exact)


def _is_short(made: ast.expr) -> bool:
    """Whether an expression, some parts of which occur several times, is neither too long nor nested too deep."""
    sizes: dict[int, tuple[int, int]] = {}
    stack: list[tuple[ast.AST, bool]] = [(made, False)]
    while stack:
        node, seen = stack.pop()
        if id(node) in sizes:
            continue
        parts = list(ast.iter_child_nodes(node))
        if not seen:
            stack += [(node, True), *((part, False) for part in parts)]
            continue
        found = [sizes[id(part)] for part in parts]
        sizes[id(node)] = 1 + sum(n for n, _ in found), 1 + max((d for _, d in found), default=0)
    length, depth = sizes[id(made)]
    return length <= LONG and depth <= NESTED


def _call(name: str, *arguments: ast.expr) -> ast.expr:
    return ast.Call(ast.Name(name), list(arguments), [])


def _tuple(items: list[ast.expr]) -> ast.expr:
    return ast.Tuple(items, ast.Load())


def _constant(value: object, span: Span) -> ast.expr:
    if isinstance(value, tuple):
        return _tuple([_constant(v, span) for v in value])
    if value is None or isinstance(value, bool | int | float | str):
        return ast.Constant(value)
    raise Translation.cannot(span)
