"""Values in generated code as expressions: what they mean, how they are written, and how a spec says them."""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias, assert_never

from archdsl.syntax import tree

# ---------------------------------------------------------------- expressions


@dataclass(frozen=True, slots=True)
class Const:
    """An int, float, bool, string, None, or a tuple of them."""

    value: object


@dataclass(frozen=True, slots=True)
class Var:
    name: str


@dataclass(frozen=True, slots=True)
class Binary:
    operator: str
    left: Expr
    right: Expr


@dataclass(frozen=True, slots=True)
class Not:
    operand: Expr


@dataclass(frozen=True, slots=True)
class If:
    """`then if condition else otherwise`."""

    condition: Expr
    then: Expr
    otherwise: Expr


@dataclass(frozen=True, slots=True)
class Item:
    base: Expr
    index: Expr


@dataclass(frozen=True, slots=True)
class Apply:
    function: str
    arguments: tuple[Expr, ...]


@dataclass(frozen=True, slots=True)
class Tuple:
    items: tuple[Expr, ...]


@dataclass(frozen=True, slots=True)
class Layer:
    """A value: a class of modules, with arguments that are given already."""

    constructor: str
    arguments: tuple[tuple[str | None, object], ...] = ()


Expr: TypeAlias = Const | Var | Binary | Not | If | Item | Apply | Tuple
Env: TypeAlias = Callable[[str], object]

OPERATORS: Mapping[str, Callable[[Any, Any], object]] = {
    "+": operator.add,
    "-": operator.sub,
    "*": operator.mul,
    "//": operator.floordiv,
    "%": operator.mod,
    "==": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}
PRECEDENCE = {"if": 0, "or": 1, "and": 2, "not": 3, "+": 5, "-": 5, "*": 6, "//": 6, "%": 6}
COMPARISON = 4
ATOM = 9
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
"""What an expression may raise where it does not apply."""


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


def variables(expr: Expr) -> Iterator[str]:
    """The names of the variables of an expression, from left to right."""
    return (part.name for part in parts(expr) if isinstance(part, Var))


def write(expr: Expr, names: Mapping[str, str], aliases: Mapping[Expr, str] = {}) -> str:
    """The expression as Python. `names` says what a variable is called there, `aliases` what has a name of its own."""
    return _write(expr, names, aliases)[0]


def _write(expr: Expr, names: Mapping[str, str], aliases: Mapping[Expr, str]) -> tuple[str, int]:
    if expr in aliases:
        return aliases[expr], ATOM

    def part(inner: Expr, least: int) -> str:
        text, precedence = _write(inner, names, aliases)
        return text if precedence >= least else f"({text})"

    match expr:
        case Const(value):
            negative = isinstance(value, int | float) and not isinstance(value, bool) and value < 0
            return literal(value), 7 if negative else ATOM
        case Var(name):
            return names.get(name, name), ATOM
        case Binary(sign, left, right):
            level = PRECEDENCE.get(sign, COMPARISON)
            tight = 0 if sign in ("and", "or", "+", "*") else 1
            return f"{part(left, level + (level == COMPARISON))} {sign} {part(right, level + tight)}", level
        case Not(operand):
            return f"not {part(operand, 3)}", 3
        case If(condition, then, otherwise):
            return f"{part(then, 1)} if {part(condition, 1)} else {part(otherwise, 0)}", 0
        case Item(base, index):
            return f"{part(base, ATOM)}[{part(index, 0)}]", ATOM
        case Apply(function, arguments):
            return f"{function}({', '.join(part(a, 0) for a in arguments)})", ATOM
        case Tuple(items):
            inner = ", ".join(part(i, 0) for i in items)
            return f"({inner},)" if len(items) == 1 else f"({inner})", ATOM


def literal(value: object) -> str:
    """A value as a Python literal, in the form that formatters leave alone."""
    match value:
        case None | bool() | int():
            return str(value)
        case float():
            return repr(value) if value == value and abs(value) != float("inf") else f'float("{value}")'
        case str():
            return quoted(value)
        case tuple():
            inner = ", ".join(map(literal, value))
            return f"({inner},)" if len(value) == 1 else f"({inner})"
        case list():
            return f"[{', '.join(map(literal, value))}]"
        case Layer(constructor, ()):
            return constructor
        case Layer(constructor, arguments):
            given = [literal(v) if name is None else f"{name}={literal(v)}" for name, v in arguments]
            return f"partial({', '.join([constructor, *given])})"
        case _:
            raise TypeError(type(value).__name__)


def quoted(text: str) -> str:
    """A string literal in double quotes, in single ones where that saves escapes; nothing in it can end it."""
    mark = "'" if '"' in text and "'" not in text else '"'
    return mark + escaped(text).replace(mark, "\\" + mark) + mark


def escaped(text: str, keep: str = "") -> str:
    """Text with backslashes and whatever does not print as escapes; the characters of `keep` stay."""
    return "".join(_escape(c) if c not in keep else c for c in text)


def _escape(char: str) -> str:
    if char == "\\":
        return "\\\\"
    return char if char.isprintable() else char.encode("unicode_escape", "surrogatepass").decode("ascii")


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
    yield expr
    match expr:
        case Binary(_, left, right):
            yield from parts(left)
            yield from parts(right)
        case Not(operand):
            yield from parts(operand)
        case If(condition, then, otherwise):
            for part in (condition, then, otherwise):
                yield from parts(part)
        case Item(base, index):
            yield from parts(base)
            yield from parts(index)
        case Apply(_, inner) | Tuple(inner):
            for part in inner:
                yield from parts(part)
        case Const() | Var():
            pass


def substitute(expr: Expr, given: Mapping[str, Expr]) -> Expr:
    """The expression with variables replaced."""
    return rebuilt(expr, lambda part: given.get(part.name) if isinstance(part, Var) else None)


def replaced(expr: Expr, old: Expr, new: Expr) -> Expr:
    """The expression with one part of it replaced wherever it stands."""
    return rebuilt(expr, lambda part: new if part == old else None)


def rebuilt(expr: Expr, change: Callable[[Expr], Expr | None]) -> Expr:
    """The expression with those parts replaced for which there is a change, simplified."""
    found = change(expr)
    if found is not None:
        return found
    match expr:
        case Binary(sign, left, right):
            return simplify(Binary(sign, rebuilt(left, change), rebuilt(right, change)))
        case Not(operand):
            return Not(rebuilt(operand, change))
        case If(condition, then, otherwise):
            return simplify(If(rebuilt(condition, change), rebuilt(then, change), rebuilt(otherwise, change)))
        case Item(base, index):
            return Item(rebuilt(base, change), rebuilt(index, change))
        case Apply(function, inner):
            return Apply(function, tuple(rebuilt(p, change) for p in inner))
        case Tuple(inner):
            return Tuple(tuple(rebuilt(p, change) for p in inner))
        case Const() | Var():
            return expr


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
            # The spec's exact division of ints is Python's //; a fraction is found out when the values are compared.
            return (
                None if found is None else simplify(Binary("//" if value.operator == "/" else value.operator, *found))
            )
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
