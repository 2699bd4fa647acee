"""Operators on computed values: numbers, lists, strings, and sizes that depend on the input."""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

from archdsl import dims
from archdsl.common.limits import Exceeded, budget
from archdsl.common.source import Span
from archdsl.dims import DimError, Expr
from archdsl.values.kinds import NAMED, Failure, Namespace, OperationValue, describe, is_int, is_number, literal

_ARITHMETIC: dict[str, Callable[[Any, Any], object]] = {
    "+": operator.add,
    "-": operator.sub,
    "*": operator.mul,
    "//": operator.floordiv,
    "%": operator.mod,
}
COMPARISON: dict[str, Callable[[Any, Any], bool]] = {
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}


def equal(left: object, right: object, span: Span) -> bool:
    if isinstance(left, OperationValue) and isinstance(right, OperationValue):
        return left.operation is right.operation and left.given == right.given
    if isinstance(left, Expr) or isinstance(right, Expr):
        try:
            decided = dims.equal(left, right)  # type: ignore[arg-type]
        except (DimError, TypeError):
            decided = None
        if isinstance(decided, bool):
            return decided
        raise Failure(
            "E0304",
            f"whether {literal(left)} equals {literal(right)} depends on a free input size",
            span,
            "a network's layers cannot depend on it: fix the size in `input`, or use `expect`",
        )
    for value, text in ((left, right), (right, left)):
        # A parameter that is given by name in Python is what it names, which no string equals.
        if isinstance(text, str) and isinstance(value, NAMED) and value.name == text:
            help = f"write `{text}` without quotes; for a string from Python, give the parameter a string by default"
            raise Failure("E0211", f'{describe(value)} is compared with the string "{text}"', span, help)
    if isinstance(left, bool) != isinstance(right, bool):
        return False
    return bool(left == right)


def compare(sign: str, left: object, right: object, span: Span) -> bool:
    if isinstance(left, Expr) or isinstance(right, Expr):
        raise Failure(
            "E0304",
            f"whether {literal(left)} {sign} {literal(right)} depends on a free input size",
            span,
            "a network's layers cannot depend on it: fix the size in `input`",
        )
    if not (is_number(left) and is_number(right)) and not (isinstance(left, str) and isinstance(right, str)):
        raise Failure("E0211", f"`{sign}` compares numbers, not {describe(left)} and {describe(right)}", span)
    return COMPARISON[sign](left, right)


def arithmetic(sign: str, left: object, right: object, span: Span, names: Namespace) -> object:
    if sign == "+" and isinstance(left, tuple) and isinstance(right, tuple):
        budget().nested((*left, *right), span)
        return left + right
    if sign == "+" and isinstance(left, str) and isinstance(right, str):
        return checked(left + right, span)
    if sign == "*" and isinstance(left, tuple) and is_int(right):
        return _repeat(left, right, span)
    if sign == "*" and isinstance(right, tuple) and is_int(left):
        return _repeat(right, left, span)
    for side in (left, right):
        if not (is_number(side) or isinstance(side, Expr)):
            raise Failure("E0211", f"`{sign}` takes numbers, not {describe(left)} and {describe(right)}", span)
    if sign == "/":
        return _divide(left, right, span, names)
    if sign == "**":
        return _power(left, right, span)
    symbolic = isinstance(left, Expr) or isinstance(right, Expr)
    if symbolic and (isinstance(left, float) or isinstance(right, float)):
        raise Failure("E0305", "a size is an integer, so it cannot be computed with fractions", span)
    return checked(_ARITHMETIC[sign](left, right), span)


def checked(result: object, span: Span) -> object:
    """Returns a computed number or string, after checking that it is not too large."""
    limits = budget().limits
    if isinstance(result, int) and result.bit_length() > limits.bits:
        raise Exceeded("bits", f"the number is too large: it has more than {limits.bits:,} bits", span)
    if isinstance(result, str) and len(result) > limits.string_size:
        raise Exceeded("string_size", f"the string is longer than {limits.string_size:,} characters", span)
    return result


def _power(base: Any, exponent: Any, span: Span) -> object:
    """`base ** exponent`; an int if both are and the exponent is not negative."""
    if isinstance(base, Expr) or isinstance(exponent, Expr):
        help = "write it out as a product"
        raise Failure("E0305", "`**` takes numbers, not a size that depends on the input", span, help)
    if is_int(base) and is_int(exponent) and abs(base) > 1:  # checked first: computing it would take all memory
        bits = budget().limits.bits
        if (abs(base).bit_length() - 1) * exponent > bits:
            raise Exceeded("bits", f"the number is too large: it has more than {bits:,} bits", span)
    result = base**exponent
    if isinstance(result, complex):
        message = f"`{span.text}` is not a real number"
        raise Failure("E0211", message, span, "raise a negative number to a whole power")
    return checked(result, span)


def _divide(left: Any, right: Any, span: Span, names: Namespace) -> object:
    if not isinstance(left, Expr) and not isinstance(right, Expr):
        if isinstance(left, int) and isinstance(right, int) and left % right == 0:
            return left // right
        return left / right
    if not is_int(right) or right <= 0:
        raise Failure("E0305", f"a free size can be divided by a positive integer, not by {describe(right)}", span)
    quotient, demand = dims.exact_div(left, right)
    if demand is False:
        raise Failure("E0306", f"{right} never divides {dims.text(left)}", span, "use `//` to round down")
    if demand is not True:
        _demand(names)(demand, f"`{span.text}` must be exact", span)
    return quotient


def _demand(names: Namespace) -> Callable[[dims.Demanded, str, Span], None]:
    """Collects constraints of exact divisions; owned by the outermost namespace of an elaboration."""
    space: Namespace | None = names
    while space is not None:
        demand = space.values.get(DEMAND)
        if demand is not None:
            return demand  # type: ignore[return-value]
        space = space.outer
    return lambda constraint, message, span: None


DEMAND = " demand"
"""The key of the constraint sink in a namespace; no spec can contain this name."""


def _repeat(items: tuple[object, ...], count: int, span: Span) -> tuple[object, ...]:
    budget().list(len(items) * max(count, 0), span)
    repeated = items * count
    if any(type(i) is tuple for i in items):
        budget().nested(repeated, span)
    return repeated


def checked_range(numbers: range, span: Span) -> tuple[int, ...]:
    # A range may be longer than len() supports.
    count = max(0, (numbers.stop - numbers.start + numbers.step - (1 if numbers.step > 0 else -1)) // numbers.step)
    budget().list(count, span, "range")
    return tuple(numbers)
