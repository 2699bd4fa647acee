"""Templates of code, as operations declare them: `{0} + {1}`, `F.interpolate({0}, size={size})`; each is read once."""

from __future__ import annotations

import ast
import string
from collections.abc import Mapping, Sequence
from functools import lru_cache

from archdsl.backends.python.printer import ATOM, precedence
from archdsl.backends.python.tree import (
    Attribute,
    Binary,
    Call,
    Compare,
    Comprehension,
    Const,
    Expr,
    If,
    Item,
    Keyword,
    List,
    Negative,
    Not,
    Parens,
    Row,
    Slice,
    Tuple,
    Var,
    joined,
    mapped,
)

HOLE = "hole_"
"""Begins the names that stand for holes while a template is read."""

ALL = HOLE + "all"

OPERATORS: Mapping[type, str] = {
    **{ast.Add: "+", ast.Sub: "-", ast.Mult: "*", ast.Div: "/", ast.FloorDiv: "//", ast.Mod: "%"},
    **{ast.BitOr: "|", ast.BitAnd: "&", ast.And: "and", ast.Or: "or", ast.In: "in", ast.NotIn: "not in"},
    **{ast.Is: "is", ast.IsNot: "is not", ast.Eq: "==", ast.NotEq: "!="},
    **{ast.Lt: "<", ast.LtE: "<=", ast.Gt: ">", ast.GtE: ">="},
}


def code(template: str, *operands: Expr, **values: Expr | None) -> Expr:
    """A template with its holes filled: `{0}`, `{1}`, … and `{all}` with operands, `{name}` with values.

    An operand beside an operator stands in parentheses unless it is an atom. A bound of a slice may be None.
    """
    found = template_tree(template)
    return filled(found, operands, values) if operands or values else found


@lru_cache(maxsize=1024)
def template_tree(template: str) -> Expr:
    """The tree of a template, with variables for its holes."""
    pieces = string.Formatter().parse(template)
    text = "".join(before + (HOLE + name if name is not None else "") for before, name, _, _ in pieces)
    for _ in range(20):
        try:
            return converted(ast.parse(text, mode="eval").body)
        except SystemError:  # CPython 3.11 counts the depth of trees for all threads at once (gh-106905)
            continue
    return converted(ast.parse(text, mode="eval").body)


def converted(node: ast.expr) -> Expr:
    """Python's own tree of an expression as ours."""
    match node:
        case ast.Constant(value):
            return Const(value)
        case ast.Name(name):
            return Var(name)
        case ast.Attribute(base, attribute):
            return Attribute(converted(base), attribute)
        case ast.BinOp(left, operator, right):
            return Binary(OPERATORS[type(operator)], converted(left), converted(right))
        case ast.BoolOp(operator, operands):
            return joined(OPERATORS[type(operator)], [converted(o) for o in operands])
        case ast.Compare(left, [operator], [right]):
            return Binary(OPERATORS[type(operator)], converted(left), converted(right))
        case ast.Compare(left, operators, rights):
            return Compare(_all([left, *rights]), tuple(OPERATORS[type(o)] for o in operators))
        case ast.UnaryOp(ast.Not(), operand):
            return Not(converted(operand))
        case ast.UnaryOp(ast.USub(), operand):
            return negative(converted(operand))
        case ast.IfExp(test, body, orelse):
            return If(converted(test), converted(body), converted(orelse))
        case ast.Call(function, arguments, keywords):
            named = tuple(Keyword(k.arg or "", converted(k.value)) for k in keywords)
            return Call(converted(function), (*_all(arguments), *named))
        case ast.Subscript(base, ast.Tuple(items)):
            return Item(converted(base), Row(_all(items)))
        case ast.Subscript(base, index):
            return Item(converted(base), converted(index))
        case ast.Slice(lower, upper):
            return Slice(*(None if bound is None else converted(bound) for bound in (lower, upper)))
        case ast.Tuple(items):
            return Tuple(_all(items))
        case ast.List(items):
            return List(_all(items))
        case ast.ListComp(element, [ast.comprehension(target, source, [condition])]):
            made, variable, over, only = _all([element, target, source, condition])
            return Comprehension(made, variable, over, only, "[]")
    raise TypeError(ast.dump(node))


def _all(nodes: Sequence[ast.expr]) -> tuple[Expr, ...]:
    return tuple(map(converted, nodes))


def negative(operand: Expr) -> Expr:
    match operand:
        case Const(int() | float() as value):
            return Const(-value)
    return Negative(operand)


def filled(template: Expr, operands: Sequence[Expr], values: Mapping[str, Expr | None]) -> Expr:
    """A template's tree with its holes filled."""

    def bound(part: Expr | None) -> Expr | None:
        return values.get(part.name.removeprefix(HOLE), part) if isinstance(part, Var) else part and inner(part)

    def beside(part: Expr) -> Expr:
        found = inner(part)
        return Parens(found) if isinstance(part, Var) and precedence(found) < ATOM else found

    def several(parts: Sequence[Expr]) -> tuple[Expr, ...]:
        return tuple(found for part in parts for found in (operands if part == Var(ALL) else (inner(part),)))

    def change(part: Expr) -> Expr | None:
        match part:
            case Var(name) if name.startswith(HOLE):
                hole = name.removeprefix(HOLE)
                return operands[int(hole)] if hole.isdigit() else values[hole]
            case Binary(sign, left, right):
                return Binary(sign, beside(left), beside(right))
            case Negative(operand):
                return negative(inner(operand))
            case Slice(start, stop):
                return Slice(bound(start), bound(stop))
            case Call(function, arguments):
                return Call(inner(function), several(arguments))
            case List(items):
                return List(several(items))
        return None

    def inner(part: Expr) -> Expr:
        return mapped(part, change)

    return inner(template)
