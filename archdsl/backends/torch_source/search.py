"""The search for expressions.

A number that differs between the calls of a block is written as a function of the block's parameters. `Frame.find`
looks for one: the row of values that the number takes, one a call, must come out of the expression exactly.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from archdsl.backends.torch_source.expressions import (
    MISTAKES,
    Binary,
    Const,
    Env,
    Expr,
    Var,
    constant,
    evaluate,
    is_int,
    plain,
    same,
    simplify,
    size,
)


@dataclass(slots=True, eq=False)
class Frame:
    """Lanes: the calls of a block (or rounds of a loop within them) that one piece of code stands for.

    `values` has a row for each variable, one value a lane, in order of preference.
    """

    count: int
    values: dict[str, list[object]] = field(default_factory=dict)
    running: dict[str, list[object]] = field(default_factory=dict)
    """Variables that change on the way, which only stand for what flows."""

    def env(self, lane: int) -> Env:
        return lambda name: (self.values[name] if name in self.values else self.running[name])[lane]

    def row(self, expr: Expr) -> list[object] | None:
        """The values of an expression, one a lane; None where one has none."""
        try:
            return [evaluate(expr, self.env(i)) for i in range(self.count)]
        except MISTAKES:
            return None

    def known(self, expr: Expr) -> list[object]:
        """The values of an expression in the lanes in which it has one."""
        found: list[object] = []
        for lane in range(self.count):
            with suppress(*MISTAKES):
                found.append(evaluate(expr, self.env(lane)))
        return found

    def agrees(self, expr: Expr, row: Sequence[object]) -> bool:
        """Whether the expression has exactly these values."""
        try:
            return all(same(evaluate(expr, self.env(i)), v) for i, v in enumerate(row))
        except MISTAKES:
            return False

    def find(self, row: Sequence[object], hints: Sequence[Expr] = ()) -> Expr | None:
        """The expression that has these values: a constant, a hint, a variable, or a small function of variables."""
        if constant(row):
            return Const(row[0]) if plain(row[0]) else None
        for hint in hints:
            if self.agrees(hint, row):
                # The spec may compute at length what comes to a plain multiple here.
                plain_one = self._function(row) if size(hint) > 5 and all(map(is_int, row)) else None
                return plain_one if plain_one is not None and size(plain_one) <= 3 else hint
        for name, values in self.values.items():
            if all(map(same, values, row)):
                return Var(name)
        if all(map(is_int, row)):
            return self._function(row)
        return None

    def _function(self, row: Sequence[Any]) -> Expr | None:
        """A variable times, over, plus or minus a constant, or two variables combined."""
        ints = [(Var(n), v) for n, v in self.values.items() if all(map(is_int, v)) and not constant(v)]
        guesses: list[Expr] = []
        first = row[0]
        for variable, values in ints:
            value: Any = values[0]
            if value and first % value == 0:
                guesses.append(Binary("*", Const(first // value), variable))
            if first and value % first == 0:
                guesses.append(Binary("//", variable, Const(value // first)))
            guesses.append(simplify(Binary("+", variable, Const(first - value))))
        for i, (a, a_values) in enumerate(ints):
            for b, b_values in ints[i + 1 :]:
                guesses += [Binary("+", a, b), Binary("*", a, b), Binary("-", a, b), Binary("-", b, a)]
                guesses += [Binary("//", a, b), Binary("//", b, a)]
                for one, other, ones, others in ((a, b, a_values, b_values), (b, a, b_values, a_values)):
                    rest: Any = first - ones[0]
                    if rest and others[0] and rest % others[0] == 0:
                        guesses.append(Binary("+", one, Binary("*", Const(rest // others[0]), other)))
        for guess in guesses:
            if self.agrees(guess, row):
                return guess
        return self._affine(row, ints)

    def _affine(self, row: Sequence[Any], ints: Sequence[tuple[Var, list[Any]]]) -> Expr | None:
        """c * variable + d, where three values or more bear it out."""
        for variable, values in ints:
            points = dict(zip(values, row, strict=True))
            if len(points) < 3:
                continue
            (v0, r0), (v1, r1), *_ = points.items()
            slope, rest = divmod(r1 - r0, v1 - v0)
            if rest == 0 and all(r == r0 + slope * (v - v0) for v, r in zip(values, row, strict=True)):
                return simplify(Binary("+", Binary("*", Const(slope), variable), Const(r0 - slope * v0)))
        return None
