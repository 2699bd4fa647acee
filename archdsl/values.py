"""The values of a spec: numbers, lists, blocks, functions; and how an expression comes to its value."""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any, NoReturn, TypeAlias

from archdsl import dims
from archdsl.diagnostics import Fix, Mark, did_you_mean
from archdsl.dims import DimError, Expr
from archdsl.limits import Exceeded, budget
from archdsl.ops import OPERATIONS
from archdsl.ops.base import Operation, Shape
from archdsl.ops.fields import shown
from archdsl.ops.init import Drawn
from archdsl.source import Span
from archdsl.syntax import tree


class Failure(Exception):
    """A mistake in a spec, with where it stands. Caught by the elaborator, which reports it and goes on."""

    def __init__(
        self, code: str, message: str, span: Span, help: str | None = None, *others: Mark, fix: Fix | None = None
    ) -> None:
        super().__init__(message)
        self.fix = fix
        self.others = others
        self.code = code
        self.message = message
        self.span = span
        self.help = help


class Poisoned(Exception):
    """A value hangs on something that failed before, and was reported then."""


@dataclass(frozen=True, slots=True, eq=False)
class OperationValue:
    """An operation as a value: an argument `unit = conv`."""

    operation: type[Operation]

    @property
    def name(self) -> str:
        return self.operation.name


@dataclass(frozen=True, slots=True, eq=False)
class BlockValue:
    """A block or model with the file that it stands in, and the `default`s in force where it is written."""

    syntax: tree.Block | tree.Model
    module: Namespace
    defaults: Defaults

    @property
    def name(self) -> str:
        return self.syntax.name.name


@dataclass(frozen=True, slots=True, eq=False)
class MemberValue:
    """`model NAME = FAMILY(args)`."""

    syntax: tree.Member
    module: Namespace

    @property
    def name(self) -> str:
        return self.syntax.name.name


@dataclass(frozen=True, slots=True, eq=False)
class FunctionValue:
    """`fn NAME(params) = value`."""

    syntax: tree.Function
    module: Namespace

    @property
    def name(self) -> str:
        return self.syntax.name.name


@dataclass(frozen=True, slots=True, eq=False)
class AugmentValue:
    """`augment NAME { … }`."""

    syntax: tree.Augment
    module: Namespace

    @property
    def name(self) -> str:
        return self.syntax.name.name


@dataclass(frozen=True, slots=True)
class TensorValue:
    """A tensor as a value: `it`, a label, an input. It has sizes only; `shape` is None where several flow."""

    shape: Shape | None


class Failed:
    """Stands for a value that could not be computed."""


FAILED = Failed()

Defaults: TypeAlias = Mapping[str, Mapping[str, object]]
"""What `default` says: the name of an operation → the name of a parameter → its value."""


class Namespace:
    """Names and their values, within an outer namespace: a file's, a body's."""

    __slots__ = ("it", "labels", "outer", "poisoned", "values")

    def __init__(self, outer: Namespace | None = None) -> None:
        self.outer = outer
        self.values: dict[str, object] = {}
        self.labels: dict[str, Any] = {}
        self.it: object = outer.it if outer is not None else None
        self.poisoned = False

    def find(self, name: str) -> object | None:
        """The value of a name here or further out; a Thunk is computed first. None (Python's) where there is none."""
        space: Namespace | None = self
        while space is not None:
            if name in space.values:
                value = space.values[name]
                if isinstance(value, Thunk):
                    value = value.force()
                return NONE if value is None else value
            space = space.outer
        return None

    def declares_block(self, name: str) -> bool:
        """Whether a name is that of a block or model of the file, and of nothing nearer."""
        space = self
        while name not in space.values and space.outer is not None:
            space = space.outer
        return space.outer is None and isinstance(space.values.get(name), BlockValue | MemberValue)

    def find_label(self, name: str) -> Any | None:
        space: Namespace | None = self
        while space is not None:
            if name in space.labels:
                return space.labels[name]
            space = space.outer
        return None

    def names(self) -> set[str]:
        space: Namespace | None = self
        found: set[str] = set()
        while space is not None:
            found.update(space.values)
            found.update(space.labels)
            space = space.outer
        return found

    def is_poisoned(self) -> bool:
        space: Namespace | None = self
        while space is not None:
            if space.poisoned:
                return True
            space = space.outer
        return False


class _None:
    """The spec's `none`, told apart from "no such name"."""


NONE = _None()


@dataclass(slots=True, eq=False)
class Thunk:
    """A `let` of a file, computed when it is first asked for."""

    syntax: tree.Let
    module: Namespace
    busy: bool = False
    done: object = field(default=None)
    finished: bool = False

    def force(self) -> object:
        if self.finished:
            return self.done
        if self.busy:
            name = self.syntax.name
            raise Failure("E0210", f"`{name.name}` is defined by itself", name.span)
        self.busy = True
        try:
            with budget().deeper(self.syntax.name.span, "values need each other"):
                self.done = evaluate(self.syntax.value, self.module)
        except (Failure, Exceeded):
            self.done = FAILED
            self.finished = True
            raise
        finally:
            self.busy = False
        self.finished = True
        return self.done


# ---------------------------------------------------------------- evaluation


def evaluate(value: tree.Value, names: Namespace) -> object:
    """The value of an expression. Raises Failure for a mistake, Poisoned where an earlier one is the cause."""
    return _EVALUATE[type(value)](value, names)


def _literal(value: tree.Literal, names: Namespace) -> object:
    return value.value


def _size(value: tree.SizeLiteral, names: Namespace) -> object:
    return value.values


def _list(value: tree.ListValue, names: Namespace) -> object:
    # A list comprehension, as a generator would nest on the stack of C.
    items = tuple([evaluate(v, names) for v in value.items])
    if any([type(i) is tuple for i in items]):
        budget().nested(items, value.span)
    else:
        budget().list(len(items), value.span)
    return items


def _name(value: tree.Name, names: Namespace) -> object:
    name = value.name
    if name == "it":
        if names.it is None:
            raise Failure("E0203", "nothing flows in here, so there is no `it`", value.span)
        if names.it is FAILED:
            raise Poisoned
        return names.it
    found = names.find(name)
    if found is NONE:
        return None
    if found is FAILED:
        raise Poisoned
    if found is not None:
        return found
    label = names.find_label(name)
    if label is not None:
        if label is FAILED:
            raise Poisoned
        return label.value()
    if name in OPERATIONS:
        return OperationValue(OPERATIONS[name])
    if name in words():
        return name
    if names.is_poisoned():
        raise Poisoned
    if name in ("True", "False", "None"):
        raise Failure("E0201", f"there is no value named `{name}` here", value.span, f"write `{name.lower()}`")
    if name in BUILTINS:
        raise Failure("E0201", f"`{name}` is a function, not a value", value.span, f"call it: `{name}(…)`")
    known = names.names() | OPERATIONS.keys()
    raise Failure("E0201", f"there is no value named `{name}` here", value.span, did_you_mean(name, known))


def _unary(value: tree.Unary, names: Namespace) -> object:
    operand = evaluate(value.operand, names)
    if value.operator == "not":
        return not truth(operand, value.operand.span)
    if isinstance(operand, bool) or not isinstance(operand, int | float | Expr):
        raise Failure("E0211", f"`{value.operator}` takes a number, not {describe(operand)}", value.span)
    return -operand if value.operator == "-" else operand


_ARITHMETIC: dict[str, Callable[[Any, Any], object]] = {
    "+": operator.add,
    "-": operator.sub,
    "*": operator.mul,
    "//": operator.floordiv,
    "%": operator.mod,
}
_COMPARISON: dict[str, Callable[[Any, Any], bool]] = {
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}


def _binary(value: tree.Binary, names: Namespace) -> object:
    sign = value.operator
    budget().step(1, value.span)
    left = evaluate(value.left, names)
    if sign == "and":
        return truth(left, value.left.span) and truth(evaluate(value.right, names), value.right.span)
    if sign == "or":
        return truth(left, value.left.span) or truth(evaluate(value.right, names), value.right.span)
    right = evaluate(value.right, names)
    if sign in ("==", "!="):
        return _equal(left, right, value.span) == (sign == "==")
    try:
        if sign in _COMPARISON:
            return _compare(sign, left, right, value.span)
        return _arithmetic(sign, left, right, value.span, names)
    except DimError as error:
        raise Failure("E0305", str(error), value.span) from None
    except ZeroDivisionError:
        raise Failure("E0211", "division by zero", value.span) from None
    except OverflowError:
        raise Failure("E0211", "the number is too large", value.span) from None


def _equal(left: object, right: object, span: Span) -> bool:
    if isinstance(left, OperationValue) and isinstance(right, OperationValue):
        return left.operation is right.operation
    if isinstance(left, Expr) or isinstance(right, Expr):
        try:
            decided = dims.equal(left, right)  # type: ignore[arg-type]
        except (DimError, TypeError):
            decided = None
        if isinstance(decided, bool):
            return decided
        raise Failure(
            "E0304",
            f"whether {describe(left)} equals {describe(right)} depends on the input's free size",
            span,
            "the shape of a network cannot depend on it: pin the size, or use `expect`",
        )
    if isinstance(left, bool) != isinstance(right, bool):
        return False
    return bool(left == right)


def _compare(sign: str, left: object, right: object, span: Span) -> bool:
    if isinstance(left, Expr) or isinstance(right, Expr):
        raise Failure(
            "E0304",
            f"whether {describe(left)} {sign} {describe(right)} depends on the input's free size",
            span,
            "the shape of a network cannot depend on it: pin the size in `input`",
        )
    if not (_is_number(left) and _is_number(right)) and not (isinstance(left, str) and isinstance(right, str)):
        raise Failure("E0211", f"`{sign}` compares numbers, not {describe(left)} and {describe(right)}", span)
    return _COMPARISON[sign](left, right)


def _arithmetic(sign: str, left: object, right: object, span: Span, names: Namespace) -> object:
    if sign == "+" and isinstance(left, tuple) and isinstance(right, tuple):
        budget().nested((*left, *right), span)
        return left + right
    if sign == "+" and isinstance(left, str) and isinstance(right, str):
        return _checked(left + right, span)
    if sign == "*" and isinstance(left, tuple) and _is_int(right):
        return _repeat(left, right, span)  # type: ignore[arg-type]
    if sign == "*" and isinstance(right, tuple) and _is_int(left):
        return _repeat(right, left, span)  # type: ignore[arg-type]
    for side in (left, right):
        if not (_is_number(side) or isinstance(side, Expr)):
            raise Failure("E0211", f"`{sign}` takes numbers, not {describe(left)} and {describe(right)}", span)
    if sign == "/":
        return _divide(left, right, span, names)
    symbolic = isinstance(left, Expr) or isinstance(right, Expr)
    if symbolic and (isinstance(left, float) or isinstance(right, float)):
        raise Failure("E0305", "a size is an integer: it cannot be computed with a fraction", span)
    return _checked(_ARITHMETIC[sign](left, right), span)


def _checked(result: object, span: Span) -> object:
    """A computed number or string, once it is known not to be too large."""
    limits = budget().limits
    if isinstance(result, int) and result.bit_length() > limits.bits:
        raise Exceeded("bits", f"the number is too large: it has more than {limits.bits:,} bits", span)
    if isinstance(result, str) and len(result) > limits.string_size:
        raise Exceeded("string_size", f"the string is longer than {limits.string_size:,} characters", span)
    return result


def _divide(left: Any, right: Any, span: Span, names: Namespace) -> object:
    if not isinstance(left, Expr) and not isinstance(right, Expr):
        if isinstance(left, int) and isinstance(right, int) and left % right == 0:
            return left // right
        return left / right
    if not _is_int(right) or right <= 0:
        raise Failure("E0305", f"a free size can be divided by a positive integer, not by {describe(right)}", span)
    quotient, demand = dims.exact_div(left, right)
    if demand is False:
        raise Failure("E0306", f"{right} never divides {dims.text(left)}", span, "use `//` to round down")
    if demand is not True:
        _demand(names)(demand, f"`{span.text}` must be exact", span)
    return quotient


def _demand(names: Namespace) -> Callable[[dims.Constraint, str, Span], None]:
    """Where constraints of exact divisions go: kept by the outermost namespace of an elaboration."""
    space: Namespace | None = names
    while space is not None:
        demand = space.values.get(DEMAND)
        if demand is not None:
            return demand  # type: ignore[return-value]
        space = space.outer
    return lambda constraint, message, span: None


DEMAND = " demand"
"""Under this name, which no spec can write, a namespace holds the sink of constraints."""


def _repeat(items: tuple[object, ...], count: int, span: Span) -> tuple[object, ...]:
    budget().list(len(items) * max(count, 0), span)
    repeated = items * count
    if any(type(i) is tuple for i in items):
        budget().nested(repeated, span)
    return repeated


def _conditional(value: tree.Conditional, names: Namespace) -> object:
    budget().step(1, value.span)
    condition = truth(evaluate(value.condition, names), value.condition.span)
    return evaluate(value.then if condition else value.otherwise, names)


def _index(value: tree.Index, names: Namespace) -> object:
    base = evaluate(value.base, names)
    index = evaluate(value.index, names)
    if not isinstance(base, tuple | str):
        raise Failure("E0211", f"{describe(base)} has no elements", value.span)
    try:
        return base[integer(index, value.index.span, "an index")]
    except IndexError:
        raise Failure(
            "E0212", f"there is no element {index}: the list has {len(base)}, counted from 0", value.index.span
        ) from None


def _attribute(value: tree.Attribute, names: Namespace) -> object:
    base = evaluate(value.base, names)
    if not isinstance(base, TensorValue):
        raise Failure("E0211", f"{describe(base)} has no `.{value.name}`", value.span)
    if base.shape is None:
        raise Failure(
            "E0211", f"several tensors flow here: name one of them to ask for its `.{value.name}`", value.span
        )
    match value.name:
        case "channels":
            return base.shape[0]
        case "size":
            return base.shape[1:]
        case "shape":
            return base.shape
    raise Failure(
        "E0211",
        f"a tensor has no `.{value.name}`",
        value.span,
        did_you_mean(value.name, ("channels", "size", "shape")) or "a tensor has `.channels`, `.size`, `.shape`",
    )


def _range(value: tree.Range, names: Namespace) -> object:
    start = integer(evaluate(value.start, names), value.start.span, "the start of a range")
    stop = integer(evaluate(value.stop, names), value.stop.span, "the end of a range")
    return _checked_range(range(start, stop + value.inclusive), value.span)


def _checked_range(numbers: range, span: Span) -> tuple[int, ...]:
    # The length of a range may be more than len() takes.
    count = max(0, (numbers.stop - numbers.start + numbers.step - (1 if numbers.step > 0 else -1)) // numbers.step)
    budget().list(count, span, "range")
    return tuple(numbers)


def _apply(value: tree.Apply, names: Namespace) -> object:
    name = value.function.name
    budget().step(20, value.span)
    found = names.find(name)
    if isinstance(found, FunctionValue):
        return _call_function(found, value, names)
    if found is FAILED:
        raise Poisoned
    if found is None and name in BUILTINS:
        return _call_builtin(name, value, names)
    if found is not None:
        raise Failure("E0211", f"`{name}` is {describe(found)}, not a function of values", value.function.span)
    if name in OPERATIONS:
        raise Failure("E0211", f"`{name}` is an operation: it stands in a chain, not in a value", value.function.span)
    functions = {n for n in names.names() if isinstance(names.find(n), FunctionValue)} | BUILTINS.keys()
    raise Failure("E0201", f"there is no function named `{name}`", value.function.span, did_you_mean(name, functions))


def _call_function(function: FunctionValue, value: tree.Apply, names: Namespace) -> object:
    arguments = bind(function.name, function.syntax.parameters, value.arguments, value.span, names, function.module)
    space = Namespace(function.module)
    space.values.update(arguments)
    with budget().deeper(value.span, f"`{function.name}` calls functions"):
        return evaluate(function.syntax.value, space)


def bind(
    name: str,
    parameters: Sequence[tree.Parameter],
    arguments: Iterable[tree.Argument],
    span: Span,
    names: Namespace,
    home: Namespace,
    given: Mapping[str, object] | None = None,
) -> dict[str, object]:
    """The values of the parameters of a block or function for a call, defaults included (they see the earlier ones).

    `given` are values by name that were computed elsewhere; the arguments of the call win over them.
    """
    known = [p.name.name for p in parameters]
    found: dict[str, object] = {}
    for position, argument in enumerate(arguments):
        if argument.name is None:
            if position >= len(known):
                takes = f"{len(known)} argument{'s' if len(known) != 1 else ''}" if known else "no arguments"
                raise Failure("E0206", f"`{name}` takes {takes}; this is one too many", argument.span)
            target = known[position]
        else:
            target = argument.name
            if target not in known:
                takes = "it has: " + ", ".join(f"`{k}`" for k in known) if known else "it has none"
                raise Failure(
                    "E0205",
                    f"`{name}` has no parameter `{target}`",
                    argument.span,
                    did_you_mean(target, known) or takes,
                )
        if target in found:
            raise Failure("E0206", f"`{target}` is given twice in this call of `{name}`", argument.span)
        found[target] = evaluate(argument.value, names)
    for key, value in (given or {}).items():
        found.setdefault(key, value)
    space = Namespace(home)
    for parameter in parameters:
        key = parameter.name.name
        if key not in found:
            if parameter.default is None:
                raise Failure("E0207", f"`{name}` needs a value for `{key}`", span, f"write `{name}({key} = …)`")
            found[key] = evaluate(parameter.default, space)
        space.values[key] = found[key]
    return {k: found[k] for k in known}


# ---------------------------------------------------------------- built-in functions


def _call_builtin(name: str, value: tree.Apply, names: Namespace) -> object:
    if any(a.name is not None for a in value.arguments):
        raise Failure("E0205", f"`{name}` takes its arguments by position", value.span)
    arguments = [evaluate(a.value, names) for a in value.arguments]
    try:
        return _checked(BUILTINS[name](arguments, value.span), value.span)
    except DimError as error:
        raise Failure("E0305", str(error), value.span) from None
    except (TypeError, ValueError, OverflowError):
        got = ", ".join(describe(a) for a in arguments) or "nothing"
        raise Failure("E0211", f"`{name}` cannot take {got}", value.span) from None


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
    if any(not _is_int(d) or abs(d) > 1000 for d in digits):
        raise ValueError("Python would compute 10 to this power")
    return round(number, *digits)


def _listed(pairs: Iterable[object], length: int, span: Span) -> tuple[object, ...]:
    """A list of pairs, which is three elements for each."""
    budget().list(3 * length, span)
    items = tuple(pairs)
    budget().nested(items, span)
    return items


def _drawn(rule: str) -> Callable[[list[Any], Span], object]:
    def draw(arguments: list[Any], span: Span) -> object:
        (std,) = arguments
        if not _is_number(std) or not 0 < std < math.inf:
            message = f"`{rule}` takes a standard deviation, a number above 0; this is {describe(std)}"
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
    "range": lambda a, span: _checked_range(range(*a), span),
    "enumerate": lambda a, span: _listed(enumerate(*a), len(a[0]), span),
    "zip": lambda a, span: _listed(zip(*a, strict=False), min(map(len, a), default=0), span),
    "normal": _drawn("normal"),
    "truncated_normal": _drawn("truncated_normal"),
}


@cache
def words() -> frozenset[str]:
    """The bare words that some operation takes as an argument (`same`, `crop`, `bilinear`)."""
    return frozenset(w for cls in OPERATIONS.values() for p in cls.model_fields for w in cls.words(p))


# ---------------------------------------------------------------- what a value is


def truth(value: object, span: Span) -> bool:
    if isinstance(value, bool):
        return value
    raise Failure(
        "E0211",
        f"a condition is true or false; this is {describe(value)}",
        span,
        "compare it, as in `n > 0`" if _is_number(value) else None,
    )


def integer(value: object, span: Span, what: str) -> int:
    """The value as an int. Raises Failure that says `what` must be one."""
    if _is_int(value):
        return value  # type: ignore[return-value]
    if isinstance(value, Expr):
        raise Failure("E0304", f"{what} cannot depend on a free input size", span)
    raise Failure("E0211", f"{what} is an int; this is {describe(value)}", span)


def sequence(value: object, span: Span, what: str) -> tuple[object, ...]:
    if isinstance(value, tuple):
        return value
    raise Failure("E0211", f"{what} goes over a list or a range; this is {describe(value)}", span)


def describe(value: object) -> str:
    """A value in the user's words: `the int 3`, `the list [1, 2]`, `the block basic`."""
    match value:
        case None:
            return "none"
        case bool():
            return "true" if value else "false"
        case int():
            return f"the int {value}" if value.bit_length() < 200 else "a very large int"
        case float():
            return f"the number {value}"
        case str():
            return f'the string "{value[:40]}"'
        case tuple():
            return f"the list {literal(value)}"
        case Expr():
            return f"the size {dims.text(value)}"
        case OperationValue():
            return f"the operation `{value.name}`"
        case BlockValue():
            return f"the block `{value.name}`"
        case MemberValue():
            return f"the model `{value.name}`"
        case FunctionValue():
            return f"the function `{value.name}`"
        case AugmentValue():
            return f"the augmentation `{value.name}`"
        case TensorValue():
            return "a tensor"
        case Drawn():
            return f"the distribution `{shown(value)}`"
    return "this"


def literal(value: object) -> str:
    """A value as it is written in a spec."""
    match value:
        case None:
            return "none"
        case bool():
            return "true" if value else "false"
        case str():
            return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'
        case tuple():
            items = [literal(v) for v in value[:8]]
            return "[" + ", ".join(items + ["…"] * (len(value) > 8)) + "]"
        case Expr():
            return dims.text(value)
        case OperationValue() | BlockValue() | MemberValue() | FunctionValue() | AugmentValue():
            return value.name
        case Drawn():
            return shown(value)
    return str(value)


def _is_int(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _unreachable(value: object, names: Namespace) -> NoReturn:  # pragma: no cover
    raise AssertionError(type(value))


_EVALUATE: dict[type, Callable[[Any, Namespace], object]] = {
    tree.Literal: _literal,
    tree.SizeLiteral: _size,
    tree.Name: _name,
    tree.ListValue: _list,
    tree.Unary: _unary,
    tree.Binary: _binary,
    tree.Conditional: _conditional,
    tree.Index: _index,
    tree.Attribute: _attribute,
    tree.Apply: _apply,
    tree.Range: _range,
}
