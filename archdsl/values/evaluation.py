"""Evaluation of expressions."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import replace
from functools import cache
from typing import assert_never

from archdsl.common.limits import budget
from archdsl.common.source import Span
from archdsl.diagnostics import Fix, Proposal, renamed
from archdsl.dims import DimError, Expr
from archdsl.ops import OPERATIONS, aliases
from archdsl.ops.base import Operation
from archdsl.ops.fields import one_of
from archdsl.syntax import tree
from archdsl.values.arithmetic import COMPARISON, arithmetic, checked_range, compare, equal
from archdsl.values.binding import Bound, Misbound, Signature, bind, complete
from archdsl.values.builtins import BUILTINS, call_builtin
from archdsl.values.kinds import (
    FAILED,
    NONE,
    BlockValue,
    ExternValue,
    Failure,
    FunctionValue,
    MemberValue,
    Namespace,
    OperationValue,
    Poisoned,
    TensorValue,
    Unknown,
    describe,
    integer,
    truth,
)


def evaluate(value: tree.Value, names: Namespace) -> object:
    """The value of an expression. Raises Failure for an error, Poisoned if an earlier error is the cause."""
    match value:
        case tree.Literal():
            return value.value
        case tree.Name():
            return _name(value, names)
        case tree.Binary():
            return _binary(value, names)
        case tree.ListValue():
            return _list(value, names)
        case tree.SizeLiteral():
            return value.values
        case tree.Index():
            return _index(value, names)
        case tree.Attribute():
            return _attribute(value, names)
        case tree.Apply():
            return _apply(value, names)
        case tree.Conditional():
            return _conditional(value, names)
        case tree.Unary():
            return _unary(value, names)
        case tree.Range():
            return _range(value, names)
        case _:
            assert_never(value)


def _list(value: tree.ListValue, names: Namespace) -> object:
    # A list comprehension, since a generator would use the C stack.
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
            raise Failure("E0203", "there is no incoming tensor here, so `it` is undefined", value.span)
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
    if name == "training":
        help = "`dropout` and `batchnorm` follow the module's mode by themselves; an output may be `if training`"
        raise Failure("E0201", "there is no value named `training` here", value.span, help)
    if name in ("True", "False", "None"):
        proposals = [Proposal(f"write `{name.lower()}`", Fix(value.span, name.lower()))]
        raise Failure("E0201", f"there is no value named `{name}` here", value.span, proposals=proposals)
    if name in BUILTINS:
        raise Failure("E0201", f"`{name}` is a function, not a value", value.span, f"call it: `{name}(…)`")
    known = names.names() | OPERATIONS.keys()
    message = f"there is no value named `{name}` here"
    raise Unknown(name, message, value.span, proposals=renamed(value.span, name, known))


def _unary(value: tree.Unary, names: Namespace) -> object:
    operand = evaluate(value.operand, names)
    if value.operator == "not":
        return not truth(operand, value.operand.span)
    if isinstance(operand, bool) or not isinstance(operand, int | float | Expr):
        raise Failure("E0211", f"`{value.operator}` takes a number, not {describe(operand)}", value.span)
    return -operand if value.operator == "-" else operand


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
        return equal(left, right, value.span) == (sign == "==")
    try:
        if sign in COMPARISON:
            return compare(sign, left, right, value.span)
        return arithmetic(sign, left, right, value.span, names)
    except DimError as error:
        raise Failure("E0305", str(error), value.span) from None
    except ZeroDivisionError:
        raise Failure("E0233", "division by zero", value.span) from None
    except OverflowError:
        raise Failure("E0233", "the number is too large", value.span) from None


def _conditional(value: tree.Conditional, names: Namespace) -> object:
    budget().step(1, value.span)
    condition = truth(evaluate(value.condition, names), value.condition.span)
    return evaluate(value.then if condition else value.otherwise, names)


def _index(value: tree.Index, names: Namespace) -> object:
    base = evaluate(value.base, names)
    if isinstance(base, TensorValue):
        return _tensor(base, value, names)
    if not isinstance(base, tuple | str):
        raise Failure("E0211", f"{describe(base)} has no elements", value.span)
    if isinstance(value.index, tree.Range):
        return _part(base, value.index, names)
    index = evaluate(value.index, names)
    try:
        return base[integer(index, value.index.span, "an index")]
    except IndexError:
        raise Failure(
            "E0212", f"there is no element {index}: the list has {len(base)}, counted from 0", value.index.span
        ) from None


def _tensor(base: TensorValue, value: tree.Index, names: Namespace) -> TensorValue:
    """`xs[i]`, `xs[a..b]`: tensors of a list."""
    if isinstance(value.index, tree.Range):
        bounds = _bounds(len(base.elements), value.index, names)
        if not base.elements[bounds]:
            raise Failure("E0212", f"`{value.span.text}` has no tensor", value.index.span)
        return base.part(bounds)
    index = integer(evaluate(value.index, names), value.index.span, "an index")
    try:
        return base.elements[index]
    except IndexError:
        count = len(base.elements)
        has = f"the list has {count}, counted from 0" if count > 1 else f"`{value.base.span.text}` is a single tensor"
        raise Failure("E0212", f"there is no tensor {index}: {has}", value.index.span) from None


def _bounds(count: int, bounds: tree.Range, names: Namespace) -> slice:
    """`a..b` as indices of a list of so many elements."""
    first = integer(evaluate(bounds.start, names), bounds.start.span, "the start of a range")
    stop = integer(evaluate(bounds.stop, names), bounds.stop.span, "the end of a range") + bounds.inclusive
    if first < 0 or stop > count or stop < 0:
        has = f"the list has {count} elements, counted from 0"
        raise Failure("E0212", f"`{bounds.span.text}` is out of range: {has}", bounds.span)
    return slice(first, max(first, stop))


def _part(base: tuple[object, ...] | str, bounds: tree.Range, names: Namespace) -> object:
    """`list[a..b]`: the elements at these indices."""
    part = base[_bounds(len(base), bounds, names)]
    budget().list(len(part), bounds.span)
    return part


def _attribute(value: tree.Attribute, names: Namespace) -> object:
    base = evaluate(value.base, names)
    if not isinstance(base, TensorValue):
        raise Failure("E0211", f"{describe(base)} has no `.{value.name}`", value.span)
    if base.shape is None:
        raise Failure(
            "E0221", f"there are several tensors here: label one of them to read its `.{value.name}`", value.span
        )
    match value.name:
        case "channels":
            return base.shape[0]
        case "size":
            return base.shape[1:]
        case "shape":
            return base.shape
        case _:
            at = Span(value.span.source, value.span.end - len(value.name), value.span.end)
            raise Failure(
                "E0201",
                f"a tensor has no `.{value.name}`",
                value.span,
                "a tensor has `.channels`, `.size`, `.shape`",
                proposals=renamed(at, value.name, ("channels", "size", "shape")),
            )


def _range(value: tree.Range, names: Namespace) -> object:
    start = integer(evaluate(value.start, names), value.start.span, "the start of a range")
    stop = integer(evaluate(value.stop, names), value.stop.span, "the end of a range")
    return checked_range(range(start, stop + value.inclusive), value.span)


def _apply(value: tree.Apply, names: Namespace) -> object:
    name = value.function.name
    budget().step(20, value.span)
    found = names.find(name)
    if isinstance(found, FunctionValue):
        return _call_function(found, value, names)
    if found is FAILED:
        raise Poisoned
    if found is None and name in BUILTINS:
        if any(a.name is not None for a in value.arguments):
            raise Failure("E0205", f"`{name}` takes its arguments by position", value.span)
        return call_builtin(name, [evaluate(a.value, names) for a in value.arguments], value.span)
    target = OperationValue(OPERATIONS[name]) if found is None and name in OPERATIONS else found
    if (partial := _partial(target, value, names)) is not None:
        return partial
    if target is not None:
        by_arrow = f"a tensor flows in along an arrow: `… -> {name}`; as a value, `{name}` takes values"
        by_name = f"pass only its name, or a block that contains the call: `block part {{ {name}(…) }}`"
        takes_some = isinstance(target, OperationValue) or (
            isinstance(target, BlockValue) and isinstance(target.syntax, tree.Block)
        )
        help = (
            by_arrow if takes_some else by_name if isinstance(target, BlockValue | MemberValue | ExternValue) else None
        )
        message = f"`{name}` is {describe(target)}, not a function of values"
        raise Failure("E0211", message, value.function.span, help)
    functions = {n for n in names.names() if isinstance(names.find(n), FunctionValue)} | BUILTINS.keys()
    span = value.function.span
    raise Failure("E0201", f"there is no function named `{name}`", span, proposals=renamed(span, name, functions))


def _partial(target: object, value: tree.Apply, names: Namespace) -> BlockValue | OperationValue | None:
    """A block or operation with some of its arguments: `bottleneck(groups = 32)`. None for what is no such call."""
    if isinstance(target, BlockValue) and isinstance(target.syntax, tree.Block):
        signature = Signature(target.name, [p.name.name for p in target.syntax.parameters])
        bound = bind(signature, value.arguments, values_in(names))
    elif isinstance(target, OperationValue):
        bound = bind_operation(target.operation, value.arguments, names)
    else:
        return None
    if any(isinstance(found, TensorValue) for found in bound.values.values()):
        return None
    return replace(target, given={**target.given, **bound.values})


def _call_function(function: FunctionValue, value: tree.Apply, names: Namespace) -> object:
    space = Namespace(function.module)
    space.values.update(arguments_of(function, value.arguments, value.span, names))
    with budget().deeper(value.span, f"`{function.name}` calls functions"):
        return evaluate(function.syntax.value, space)


def arguments_of(
    target: FunctionValue | BlockValue | ExternValue,
    arguments: Iterable[tree.Argument],
    span: Span,
    names: Namespace,
    given: Mapping[str, object] | None = None,
    name: str | None = None,
) -> dict[str, object]:
    """The values of the parameters of a block or function for a call, defaults included.

    `given` are values by name that were computed elsewhere; the arguments of the call win over them. `name` is that in
    the call, where it is another one.
    """
    name, parameters = name or target.name, target.syntax.parameters

    def missing(parameter: tree.Parameter) -> None:
        key = parameter.name.name
        raise Failure("E0207", f"`{name}` needs a value for `{key}`", span, f"write `{name}({key} = …)`")

    mended = isinstance(target.syntax, tree.Block | tree.Model) and target.syntax.mended

    def default(value: tree.Value, space: Namespace) -> object:
        try:
            return evaluate(value, space)
        except Poisoned:
            if mended:
                return FAILED
            raise

    signature = Signature(name, [p.name.name for p in parameters])
    try:
        bound = bind(signature, arguments, values_in(names))
        earlier = {**(target.given if isinstance(target, BlockValue) else {}), **(given or {})}
        return complete(parameters, {**earlier, **bound.values}, target.module, default, missing)
    except Failure:
        if mended:
            raise Poisoned from None  # the mistake in its head is the cause
        raise


def values_in(names: Namespace) -> Callable[[tree.Argument, str], object]:
    """Reads arguments as expressions, with these names in sight."""
    return lambda argument, parameter: evaluate(argument.value, names)


def bind_operation(
    cls: type[Operation],
    arguments: Iterable[tree.Argument],
    names: Namespace,
    advise: Callable[[Misbound], None] = lambda error: None,
) -> Bound:
    """The arguments of an operation by name. Raises Misbound."""

    def switched(argument: tree.Argument) -> str | None:
        match argument:
            case tree.Argument(name=None, value=tree.Name(name=name)) if name in cls.switches():
                return name if names.find(name) is None and names.find_label(name) is None else None
        return None

    signature = Signature(cls.name, list(cls.fields), aliases.parameter, advise, switched)
    return bind(signature, arguments, lambda argument, key: word_or_value(argument, cls.words(key), names))


def word_or_value(argument: tree.Argument, words: Collection[str], names: Namespace) -> object:
    """The value of an argument of an operation: one of its words taken bare, or an expression.

    A word that is the name of an operation, too, as `crop`, is a word here, also where a parameter brings it.
    """
    value = argument.value
    if isinstance(value, tree.Name) and words:
        if value.name in words:
            return value.name
        try:
            found = evaluate(value, names)
        except Failure as failure:
            if failure.code == "E0201" and value.name not in BUILTINS:
                listed = f"`{argument.name}` takes " if argument.name else "it takes "
                failure.help = failure.help or listed + one_of(list(words))
                failure.proposals = (*renamed(value.span, value.name, words), *failure.proposals)
            raise
    else:
        found = evaluate(value, names)
    return found.name if isinstance(found, OperationValue) and not found.given and found.name in words else found


@cache
def words() -> frozenset[str]:
    """The keywords that operations take as arguments (`same`, `crop`, `bilinear`)."""
    return frozenset(w for cls in OPERATIONS.values() for p in cls.fields for w in cls.words(p))
