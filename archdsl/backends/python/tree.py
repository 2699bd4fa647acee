"""A small tree of Python: the expressions and statements that generated code consists of.

Expressions are values: equal ones are equal, and none is changed. Statements are places: lists of them are filled while
code is made, so that a statement can be put before one that is already there.
"""

from __future__ import annotations

import io
import tokenize
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import pairwise
from typing import ClassVar, Protocol


class Node:
    """An expression or a statement."""

    __slots__ = ()
    __match_args__: ClassVar[tuple[str, ...]] = ()


class Expr(Node):
    __slots__ = ()


class Statement(Node):
    __slots__ = ()


# ---------------------------------------------------------------- expressions


@dataclass(frozen=True, slots=True)
class Const(Expr):
    """An int, float, bool, string, None, a Layer, or a tuple or list of them."""

    value: object


@dataclass(frozen=True, slots=True)
class Layer:
    """A value: a class of modules, with arguments that are given already.

    `made` is the class of the file that it is, whose name is not known before all classes are.
    """

    constructor: str
    arguments: tuple[tuple[str | None, object], ...] = ()
    made: Named | None = None


class Named(Protocol):
    """An expression that gets its name once all is planned."""

    name: str


@dataclass(frozen=True, slots=True)
class Var(Expr):
    name: str


@dataclass(frozen=True, slots=True)
class Attribute(Expr):
    base: Expr
    name: str


@dataclass(frozen=True, slots=True)
class Binary(Expr):
    operator: str
    left: Expr
    right: Expr


@dataclass(frozen=True, slots=True)
class Compare(Expr):
    """A chain of comparisons: `1 <= n <= 5`."""

    operands: tuple[Expr, ...]
    signs: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Not(Expr):
    operand: Expr


@dataclass(frozen=True, slots=True)
class Negative(Expr):
    operand: Expr


@dataclass(frozen=True, slots=True)
class If(Expr):
    """`then if condition else otherwise`."""

    condition: Expr
    then: Expr
    otherwise: Expr


@dataclass(frozen=True, slots=True)
class Item(Expr):
    """A subscript; an index of several parts is a Row."""

    base: Expr
    index: Expr


@dataclass(frozen=True, slots=True)
class Slice(Expr):
    start: Expr | None = None
    stop: Expr | None = None
    step: Expr | None = None


@dataclass(frozen=True, slots=True)
class Apply(Expr):
    """A call of a builtin function, which can be worked out."""

    function: str
    arguments: tuple[Expr, ...]


@dataclass(frozen=True, slots=True)
class Call(Expr):
    function: Expr
    arguments: tuple[Expr, ...] = ()


@dataclass(frozen=True, slots=True)
class Keyword(Expr):
    """`name=value` among arguments; without a name, `**value`."""

    name: str
    value: Expr


@dataclass(frozen=True, slots=True)
class Star(Expr):
    """`*value`."""

    value: Expr


@dataclass(frozen=True, slots=True)
class Tuple(Expr):
    items: tuple[Expr, ...]


@dataclass(frozen=True, slots=True)
class Row(Expr):
    """A tuple without parentheses: targets, what they are set to, an index."""

    items: tuple[Expr, ...]


@dataclass(frozen=True, slots=True)
class List(Expr):
    items: tuple[Expr, ...]


@dataclass(frozen=True, slots=True)
class Dict(Expr):
    items: tuple[Pair, ...]


@dataclass(frozen=True, slots=True)
class Pair(Expr):
    """`key: value` in a dictionary."""

    key: Expr
    value: Expr


@dataclass(frozen=True, slots=True)
class Comprehension(Expr):
    element: Expr
    target: Expr
    source: Expr
    condition: Expr | None = None
    brackets: str = "()"


@dataclass(frozen=True, slots=True)
class Format(Expr):
    """An f-string of text and expressions."""

    parts: tuple[str | Expr, ...]


@dataclass(frozen=True, slots=True)
class Parens(Expr):
    """Parentheses that a reader wants, though Python may not need them."""

    inner: Expr


@dataclass(frozen=True, slots=True)
class Parameter(Expr):
    """A parameter of a function; `name` holds the stars of `*features`."""

    name: str
    annotation: Expr | None = None
    default: Expr | None = None


# ---------------------------------------------------------------- statements


@dataclass(slots=True, eq=False)
class Assign(Statement):
    """`target = value`, `target: annotation = value`, `target += value`; without a value a declaration."""

    target: Expr
    value: Expr | None
    sign: str = "="
    annotation: Expr | None = None
    comment: str = ""


@dataclass(slots=True, eq=False)
class Do(Statement):
    """An expression on its own, or what `return` or `raise` takes."""

    value: Expr | None
    keyword: str = ""
    comment: str = ""


@dataclass(slots=True, eq=False)
class For(Statement):
    target: Expr
    source: Expr
    body: list[Statement] = field(default_factory=list)


@dataclass(slots=True, eq=False)
class Branches(Statement):
    """`if`, `elif` and `else`, which has no test."""

    branches: list[tuple[Expr | None, list[Statement]]]


@dataclass(slots=True, eq=False)
class Function(Statement):
    name: str
    parameters: list[Parameter]
    result: Expr
    body: list[Statement]
    decorator: Expr | None = None


@dataclass(slots=True, eq=False)
class Class(Statement):
    name: str
    base: Expr
    body: list[Statement]


@dataclass(slots=True, eq=False)
class Doc(Statement):
    """A documentation string: of the file, a class or a function, or of the constant before it."""

    text: str


@dataclass(slots=True, eq=False)
class Import(Statement):
    text: str
    comment: str = ""


@dataclass(slots=True, eq=False)
class Source(Statement):
    """Python that is written out already: a helper that goes into a file as it is declared."""

    text: str


# ---------------------------------------------------------------- making and reading trees


def name(dotted: str) -> Expr:
    """`nn.init.zeros_` as a tree."""
    first, *rest = dotted.split(".")
    found: Expr = Var(first)
    for part in rest:
        found = Attribute(found, part)
    return found


def call(function: str | Expr, *arguments: Expr, **named: Expr) -> Call:
    callee = name(function) if isinstance(function, str) else function
    return Call(callee, (*arguments, *(Keyword(key, value) for key, value in named.items())))


def joined(operator: str, operands: Iterable[Expr]) -> Expr:
    """`a or b or c`."""
    found, *rest = operands
    for operand in rest:
        found = Binary(operator, found, operand)
    return found


def spelt(value: object) -> Expr:
    """A value that holds others as the expression that makes it."""
    match value:
        case tuple():
            return Tuple(tuple(map(Const, value)))
        case list():
            return List(tuple(map(Const, value)))
        case Layer(made=made) if made is not None:
            return Var(made.name)
        case Layer(constructor, ()):
            return name(constructor)
        case Layer(constructor, arguments):
            given = [Const(v) if key is None else Keyword(key, Const(v)) for key, v in arguments]
            return call("partial", name(constructor), *given)
        case _:
            return Const(value)


def children(node: Node) -> Iterator[Node]:
    """The nodes right below one."""
    pending: list[object] = [getattr(node, name) for name in reversed(node.__match_args__)]
    while pending:
        value = pending.pop()
        if isinstance(value, Node):
            yield value
        elif isinstance(value, list | tuple):
            pending += reversed(value)


def walk(nodes: Iterable[Node]) -> Iterator[Node]:
    """The nodes with all below them, in the order of the text."""
    pending = list(nodes)[::-1]
    while pending:
        node = pending.pop()
        yield node
        pending += list(children(node))[::-1]


def names_in(nodes: Iterable[Node]) -> set[str]:
    """The variables, functions and classes that code speaks of."""
    found: set[str] = set()
    for node in walk(nodes):
        if isinstance(node, Var):
            found.add(node.name)
        elif isinstance(node, Const) and isinstance(node.value, tuple | list | Layer):
            found |= names_in([spelt(node.value)])
        elif isinstance(node, Source):
            found |= words(node.text)
    return found


@lru_cache(maxsize=256)
def words(source: str) -> frozenset[str]:
    """The names in Python that is written out, but for attributes."""
    tokens = list(tokenize.generate_tokens(io.StringIO(source).readline))
    return frozenset(t.string for before, t in pairwise([tokens[0], *tokens]) if _is_name(before, t))


def _is_name(before: tokenize.TokenInfo, token: tokenize.TokenInfo) -> bool:
    return token.type == tokenize.NAME and before.string != "."


def over(expr: Expr, change: Callable[[Expr], Expr]) -> Expr:
    """The expression with each of the parts right below it changed."""

    def inner(value: object) -> object:
        if isinstance(value, Expr):
            return change(value)
        return tuple(map(inner, value)) if isinstance(value, tuple) else value

    if isinstance(expr, Const | Var):
        return expr
    made: Expr = type(expr)(*[inner(getattr(expr, name)) for name in expr.__match_args__])
    return made


def mapped(expr: Expr, change: Callable[[Expr], Expr | None]) -> Expr:
    """The expression with those parts replaced for which there is a change."""
    found = change(expr)
    return over(expr, lambda part: mapped(part, change)) if found is None else found
