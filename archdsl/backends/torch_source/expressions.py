"""Values in generated code as expressions: what they mean, how they are simplified, and how a spec says them."""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, TypeAlias, assert_never

from archdsl.backends.python.tree import (
    Apply,
    Binary,
    Const,
    Expr,
    If,
    Item,
    Layer,
    Not,
    Tuple,
    Var,
    mapped,
    over,
    walk,
)
from archdsl.syntax import tree

__all__ = ["Apply", "Binary", "Const", "Expr", "If", "Item", "Layer", "Not", "Tuple", "Var"]

Env: TypeAlias = Callable[[str], object]

LONGEST = 100_000
"""The most bits of an int."""


def _power(base: Any, exponent: Any) -> object:
    """A power. Raises OverflowError where it is so large that a spec cannot have it: a branch that nobody takes."""
    if isinstance(base, int) and isinstance(exponent, int) and base.bit_length() * exponent > LONGEST:
        raise OverflowError
    return base**exponent


OPERATORS: Mapping[str, Callable[[Any, Any], object]] = {
    "+": operator.add,
    "-": operator.sub,
    "*": operator.mul,
    "/": operator.truediv,
    "//": operator.floordiv,
    "%": operator.mod,
    "**": _power,
    "==": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}
FUNCTIONS: Mapping[str, Callable[..., object]] = {
    "min": min,
    "max": max,
    "len": len,
    "abs": abs,
    "sum": sum,
    "range": lambda *a: tuple(range(*a)),
    "zip": lambda *a: tuple(zip(*a, strict=False)),
    "enumerate": lambda *a: tuple(enumerate(*a)),
}
MISTAKES = (ArithmeticError, LookupError, TypeError, ValueError)
"""The exceptions of an expression that does not apply."""


def evaluate(expr: Expr, env: Env) -> object:
    """The value of an expression. Raises one of MISTAKES where it has none."""
    match expr:
        case Const(value):
            return value
        case Var(name):
            return env(name)
        case Binary("and", left, right):
            return evaluate(left, env) and evaluate(right, env)
        case Binary("or", left, right):
            return evaluate(left, env) or evaluate(right, env)
        case Binary(sign, left, right):
            return OPERATORS[sign](evaluate(left, env), evaluate(right, env))
        case Not(operand):
            return not evaluate(operand, env)
        case If(condition, then, otherwise):
            return evaluate(then if evaluate(condition, env) else otherwise, env)
        case Item(base, index):
            return evaluate(base, env)[evaluate(index, env)]  # type: ignore[index]
        case Apply(function, arguments):
            return FUNCTIONS[function](*[evaluate(a, env) for a in arguments])
        case Tuple(items):
            return tuple(evaluate(i, env) for i in items)
        case _:
            raise TypeError(type(expr).__name__)


def variables(expr: Expr) -> Iterator[str]:
    """The names of the variables of an expression, from left to right."""
    return (part.name for part in parts(expr) if isinstance(part, Var))


def named(expr: Expr, names: Mapping[str, str | Expr], aliases: Mapping[Expr, str] = {}) -> Expr:
    """The expression as code has it: `names` says what a variable is there, `aliases` what has a name of its own."""

    def change(part: Expr) -> Expr | None:
        if part in aliases:
            return Var(aliases[part])
        found = names.get(part.name, part) if isinstance(part, Var) else None
        return Var(found) if isinstance(found, str) else found

    return mapped(expr, change)


def plain(value: object) -> bool:
    """Whether generated code can hold the value as a literal."""
    if isinstance(value, tuple):
        return all(map(plain, value))
    return value is None or isinstance(value, bool | int | float | str | Layer)


def same(a: object, b: object) -> bool:
    """Equal, and of one type: 1, 1.0 and True are three values."""
    if isinstance(a, tuple) and isinstance(b, tuple):
        return len(a) == len(b) and all(map(same, a, b))
    return type(a) is type(b) and a == b


def constant(row: Sequence[object]) -> bool:
    first = row[0]
    return all(v is first or same(v, first) for v in row)


def is_int(value: object) -> bool:
    return type(value) is int


def parts(expr: Expr) -> Iterator[Expr]:
    """The expression and all within it."""
    return (part for part in walk([expr]) if isinstance(part, Expr))


def substitute(expr: Expr, given: Mapping[str, Expr]) -> Expr:
    """The expression with variables replaced."""
    return rebuilt(expr, lambda part: given.get(part.name) if isinstance(part, Var) else None)


def replaced(expr: Expr, old: Expr, new: Expr) -> Expr:
    """The expression with one part of it replaced wherever it occurs."""
    return rebuilt(expr, lambda part: new if part == old else None)


def rebuilt(expr: Expr, change: Callable[[Expr], Expr | None]) -> Expr:
    """The expression with those parts replaced for which there is a change, simplified."""
    found = change(expr)
    return simplify(over(expr, lambda part: rebuilt(part, change))) if found is None else found


def simplify(expr: Expr) -> Expr:
    """Without additions of 0, multiplications by 1 and the like, and with constants worked out."""
    match expr:
        case Binary("and" | "or" as sign, left, right):
            return _logic(sign, simplify(left), simplify(right))
        case Binary(sign, left, right):
            left, right = simplify(left), simplify(right)
            if isinstance(left, Const) and isinstance(right, Const):
                try:
                    return Const(OPERATORS[sign](left.value, right.value))
                except MISTAKES:
                    return Binary(sign, left, right)
            if left == right and sign in ("==", "<=", ">=", "!=", "<", ">"):
                return Const(sign in ("==", "<=", ">="))
            return _arithmetic(sign, left, right)
        case If(Const(value), then, otherwise):
            return simplify(then if value else otherwise)
        case _:
            return expr


def undivided(expr: Expr) -> Expr:
    """`2 * (n // 2)` as `n`, which it is where the division is exact."""

    def change(part: Expr) -> Expr | None:
        match part:
            case Binary("*", Const(factor), Binary("//", whole, Const(divisor))) if factor == divisor:
                return undivided(whole)
            case If(_, then, otherwise) if (found := undivided(then)) == undivided(otherwise):
                return found
        return None

    return mapped(expr, change)


def divided(expr: Expr) -> Iterator[Expr]:
    """The expression with fractions: with `/` for each outermost `//`, and for all of them.

    `translate` writes every division of the spec as that of ints.
    """

    def fraction(part: Expr) -> Expr | None:
        return Binary("/", part.left, part.right) if isinstance(part, Binary) and part.operator == "//" else None

    def everywhere(part: Expr) -> Expr:
        inner = over(part, everywhere)
        return fraction(inner) or inner

    yield mapped(expr, fraction)
    yield everywhere(expr)


def _logic(sign: str, left: Expr, right: Expr) -> Expr:
    neutral = sign == "and"
    for one, other in ((left, right), (right, left)):
        if one == Const(neutral):
            return other
        if one == Const(not neutral):
            return one
    return Binary(sign, left, right)


def _arithmetic(sign: str, left: Expr, right: Expr) -> Expr:
    match sign, left, right:
        case "+", Const(0), other:
            return other
        case (("+" | "-"), other, Const(0)):
            return other
        case "-", Binary("+", a, Const(int(n))), Const(int(m)):
            return simplify(Binary("+", a, Const(n - m)))
        case "+", Binary("+", a, Const(int(n))), Const(int(m)):
            return simplify(Binary("+", a, Const(n + m)))
        case "+", Binary("-", a, Const(int(n))), Const(int(m)):
            return simplify(Binary("+", a, Const(m - n)))
        case "+", Const(int()), Binary("*", Const(int()), Binary("+", _, Const(int()))):
            return _arithmetic("+", right, left)
        case "+", Binary("*", Const(int(k)) as factor, Binary("+", a, Const(int(n)))), Const(int(m)):
            return simplify(Binary("+", Binary("*", factor, a), Const(k * n + m)))
        case "+", a, Const(int(n)) if n < 0:
            return Binary("-", a, Const(-n))
        case "+", a, b if a == b:
            return simplify(Binary("*", Const(2), a))
        case ("*", Const(1), other) | ("*", other, Const(1)) | ("//", other, Const(1)):
            return other
        case ("*", Const(0), _) | ("*", _, Const(0)):
            return Const(0)
        case "*", factor, Const():
            return Binary("*", right, factor)
        case ("//", Binary("*", factor, Const(int(n))), Const(int(m))) | (
            "//",
            Binary("*", Const(int(n)), factor),
            Const(int(m)),
        ) if m > 0 and n % m == 0:
            return simplify(Binary("*", Const(n // m), factor))
    return Binary(sign, left, right)


def size(expr: Expr) -> int:
    """How much there is to read."""
    return sum(1 for _ in parts(expr))


# ---------------------------------------------------------------- from a spec


def translate(value: tree.Value, names: Mapping[str, Expr]) -> Expr | None:
    """A value of the spec as an expression over what `names` holds; None where it asks for anything else.

    `it.channels` is the name `it.channels`.
    """

    def all_of(*values: tree.Value) -> list[Expr] | None:
        every = [translate(v, names) for v in values]
        return None if None in every else [e for e in every if e is not None]

    match value:
        case tree.Literal():
            return Const(value.value)
        case tree.SizeLiteral():
            return Const(value.values)
        case tree.Name():
            return names.get(value.name)
        case tree.Attribute(base=tree.Name(name="it"), name="channels"):
            return names.get("it.channels")
        case tree.ListValue():
            found = all_of(*value.items)
            return None if found is None else Tuple(tuple(found))
        case tree.Unary():
            operand = translate(value.operand, names)
            if operand is None or value.operator == "+":
                return operand
            return Not(operand) if value.operator == "not" else simplify(Binary("-", Const(0), operand))
        case tree.Binary():
            found = all_of(value.left, value.right)
            if found is None:
                return None
            if value.operator != "/":
                return simplify(Binary(value.operator, *found))
            numbers: list[Any] = [part.value for part in found if isinstance(part, Const)]
            if len(numbers) == 2 and (not all(map(is_int, numbers)) or (numbers[1] and numbers[0] % numbers[1])):
                return simplify(Binary("/", *found))
            # The spec's exact division of ints is Python's //; `divided` has that of other numbers.
            return simplify(Binary("//", *found))
        case tree.Conditional():
            found = all_of(value.condition, value.then, value.otherwise)
            return None if found is None else simplify(If(*found))
        case tree.Index():
            found = all_of(value.base, value.index)
            return None if found is None else Item(*found)
        case tree.Range():
            found = all_of(value.start, value.stop)
            if found is None:
                return None
            start, stop = found[0], simplify(Binary("+", found[1], Const(1))) if value.inclusive else found[1]
            return Apply("range", (stop,) if start == Const(0) else (start, stop))
        case tree.Apply():
            found = all_of(*[a.value for a in value.arguments])
            if found is None or value.function.name not in FUNCTIONS:
                return None
            return Apply(value.function.name, tuple(found))
        case tree.Attribute():
            return None
        case _:
            assert_never(value)
