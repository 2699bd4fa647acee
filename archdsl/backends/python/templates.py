"""Templates of code, as operations declare them: `{0} + {1}`, `F.interpolate({0}, size={size})`; each is read once."""

from __future__ import annotations

import ast
import string
from collections.abc import Mapping, Sequence
from functools import lru_cache

from archdsl.backends.python import tree as py
from archdsl.backends.python.printer import ATOM, precedence
from archdsl.backends.python.tree import joined, mapped

HOLE = "hole_"
"""Begins the names that stand for holes while a template is read."""

ALL = HOLE + "all"

OPERATORS: Mapping[type, str] = {
    **{ast.Add: "+", ast.Sub: "-", ast.Mult: "*", ast.Div: "/", ast.FloorDiv: "//", ast.Mod: "%", ast.Pow: "**"},
    **{ast.BitOr: "|", ast.BitAnd: "&", ast.And: "and", ast.Or: "or", ast.In: "in", ast.NotIn: "not in"},
    **{ast.Is: "is", ast.IsNot: "is not", ast.Eq: "==", ast.NotEq: "!="},
    **{ast.Lt: "<", ast.LtE: "<=", ast.Gt: ">", ast.GtE: ">="},
}


def code(template: str, *operands: py.Expr, **values: py.Expr | None) -> py.Expr:
    """A template with its holes filled: `{0}`, `{1}`, … and `{all}` with operands, `{name}` with values.

    An operand beside an operator stands in parentheses unless it is an atom. A bound of a slice may be None. A call
    goes without the arguments that have no value.
    """
    found = template_tree(template)
    return filled(found, operands, values) if operands or values else found


@lru_cache(maxsize=1024)
def template_tree(template: str) -> py.Expr:
    """The tree of a template, with variables for its holes."""
    pieces = string.Formatter().parse(template)
    text = "".join(before + (HOLE + name if name is not None else "") for before, name, _, _ in pieces)
    for _ in range(20):
        try:
            return converted(ast.parse(text, mode="eval").body)
        except SystemError:  # CPython 3.11 counts the depth of trees for all threads at once (gh-106905)
            continue
    return converted(ast.parse(text, mode="eval").body)


def converted(node: ast.expr) -> py.Expr:
    """Python's own tree of an expression as ours."""
    match node:
        case ast.Constant(value):
            return py.Const(value)
        case ast.Name(name):
            return py.Var(name)
        case ast.Attribute(base, attribute):
            return py.Attribute(converted(base), attribute)
        case ast.BinOp(left, operator, right):
            return py.Binary(OPERATORS[type(operator)], converted(left), converted(right))
        case ast.BoolOp(operator, operands):
            return joined(OPERATORS[type(operator)], [converted(o) for o in operands])
        case ast.Compare(left, [operator], [right]):
            return py.Binary(OPERATORS[type(operator)], converted(left), converted(right))
        case ast.Compare(left, operators, rights):
            return py.Compare(_all([left, *rights]), tuple(OPERATORS[type(o)] for o in operators))
        case ast.UnaryOp(ast.Not(), operand):
            return py.Not(converted(operand))
        case ast.UnaryOp(ast.USub(), operand):
            return negative(converted(operand))
        case ast.IfExp(test, body, orelse):
            return py.If(converted(test), converted(body), converted(orelse))
        case ast.Call(function, arguments, keywords):
            named = tuple(py.Keyword(k.arg or "", converted(k.value)) for k in keywords)
            return py.Call(converted(function), (*_all(arguments), *named))
        case ast.Subscript(base, ast.Tuple(items)):
            return py.Item(converted(base), py.Row(_all(items)))
        case ast.Subscript(base, index):
            return py.Item(converted(base), converted(index))
        case ast.Slice(lower, upper, step):
            return py.Slice(*(None if bound is None else converted(bound) for bound in (lower, upper, step)))
        case ast.Tuple(items):
            return py.Tuple(_all(items))
        case ast.List(items):
            return py.List(_all(items))
        case ast.ListComp(element, [ast.comprehension(target, source, [condition])]):
            made, variable, over, only = _all([element, target, source, condition])
            return py.Comprehension(made, variable, over, only, "[]")
        case _:
            raise TypeError(ast.dump(node))


def _all(nodes: Sequence[ast.expr]) -> tuple[py.Expr, ...]:
    return tuple(map(converted, nodes))


def negative(operand: py.Expr) -> py.Expr:
    match operand:
        case py.Const(int() | float() as value):
            return py.Const(-value)
        case _:
            return py.Negative(operand)


def filled(template: py.Expr, operands: Sequence[py.Expr], values: Mapping[str, py.Expr | None]) -> py.Expr:
    """A template's tree with its holes filled."""

    def bound(part: py.Expr | None) -> py.Expr | None:
        return values.get(part.name.removeprefix(HOLE), part) if isinstance(part, py.Var) else part and inner(part)

    def beside(part: py.Expr) -> py.Expr:
        found = inner(part)
        return py.Parens(found) if isinstance(part, py.Var) and precedence(found) < ATOM else found

    def several(parts: Sequence[py.Expr]) -> tuple[py.Expr, ...]:
        given = [part for part in parts if not is_left_out(part)]
        return tuple(found for part in given for found in (operands if part == py.Var(ALL) else (inner(part),)))

    def is_left_out(part: py.Expr) -> bool:
        name = part.name if isinstance(part, py.Var) else ""
        return (
            name.startswith(HOLE)
            and name != ALL
            and not (hole := name.removeprefix(HOLE)).isdigit()
            and hole not in values
        )

    def change(part: py.Expr) -> py.Expr | None:
        match part:
            case py.Var(name) if name.startswith(HOLE):
                hole = name.removeprefix(HOLE)
                return operands[int(hole)] if hole.isdigit() else values[hole]
            case py.Binary(sign, left, right):
                return py.Binary(sign, beside(left), beside(right))
            case py.Negative(operand):
                return negative(inner(operand))
            case py.Slice(start, stop, step):
                return py.Slice(bound(start), bound(stop), bound(step))
            case py.Call(function, arguments):
                return py.Call(inner(function), several(arguments))
            case py.List(items):
                return py.List(several(items))
            case _:
                return None

    def inner(part: py.Expr) -> py.Expr:
        return mapped(part, change)

    return inner(template)
