"""The built-in functions of specs."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from archdsl import dims
from archdsl.common.limits import budget
from archdsl.common.source import Span
from archdsl.dims import DimError, Expr
from archdsl.ops.init import Drawn
from archdsl.values.arithmetic import checked, checked_range
from archdsl.values.kinds import Failure, TensorValue, describe, is_int, is_number


def _extreme(pick: Callable[..., object], symbolic: Callable[..., object]) -> Callable[[list[Any], Span], object]:
    def choose(arguments: list[Any], span: Span) -> object:
        items = arguments[0] if len(arguments) == 1 and isinstance(arguments[0], tuple) else arguments
        if any(isinstance(i, Expr) for i in items):
            return symbolic(*items)
        return pick(items)

    return choose


def _sum(arguments: list[Any], span: Span) -> object:
    (items,) = arguments
    total: Any = 0
    for item in items:
        total = total + item
    return total


def _one(function: Callable[[Any], object]) -> Callable[[list[Any], Span], object]:
    def apply(arguments: list[Any], span: Span) -> object:
        (argument,) = arguments
        if isinstance(argument, Expr):
            raise DimError("this function takes a number, not a size that depends on the input")
        return function(argument)

    return apply


def _round(arguments: list[Any], span: Span) -> object:
    number, *digits = arguments
    if any(not is_int(d) or abs(d) > 1000 for d in digits):
        raise ValueError("Python would compute 10 to this power")
    return round(number, *digits)


def _listed(pairs: Iterable[object], length: int, span: Span) -> tuple[object, ...]:
    """Spends a list of pairs, three elements per pair."""
    budget().list(3 * length, span)
    items = tuple(pairs)
    budget().nested(items, span)
    return items


def _drawn(rule: str) -> Callable[[list[Any], Span], object]:
    def draw(arguments: list[Any], span: Span) -> object:
        (std,) = arguments
        if not is_number(std) or not 0 < std < math.inf:
            message = f"`{rule}` takes a standard deviation greater than 0; this is {describe(std)}"
            raise Failure("E0211", message, span)
        return Drawn(rule, float(std))

    return draw


BUILTINS: Mapping[str, Callable[[list[Any], Span], object]] = {
    "min": _extreme(min, dims.minimum),
    "max": _extreme(max, dims.maximum),
    "sum": _sum,
    "len": _one(len),
    "abs": _one(abs),
    "int": _one(int),
    "round": _round,
    "floor": _one(math.floor),
    "ceil": _one(math.ceil),
    "range": lambda a, span: checked_range(range(*a), span),
    "enumerate": lambda a, span: _listed(enumerate(*a), len(a[0]), span),
    "zip": lambda a, span: _listed(zip(*a, strict=False), min(map(len, a), default=0), span),
    "normal": _drawn("normal"),
    "truncated_normal": _drawn("truncated_normal"),
}


OF_LISTS = frozenset({"len", "enumerate", "zip"})
"""The functions that take lists of tensors, too."""


def call_builtin(name: str, arguments: list[object], span: Span) -> object:
    """The result of a built-in function. Raises Failure for invalid arguments."""
    if name in OF_LISTS:
        arguments = [a.elements if isinstance(a, TensorValue) else a for a in arguments]
    try:
        return checked(BUILTINS[name](arguments, span), span)
    except DimError as error:
        raise Failure("E0305", str(error), span) from None
    except (TypeError, ValueError, OverflowError):
        got = ", ".join(describe(a) for a in arguments) or "nothing"
        raise Failure("E0211", f"`{name}` cannot take {got}", span) from None
