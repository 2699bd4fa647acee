"""Arithmetic: of tensors, which merges them; with numbers; and with parameters."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from math import prod
from typing import TypeAlias

from archdsl.runtime.importing.biases import affine, computed
from archdsl.runtime.importing.fixed import with_positions
from archdsl.runtime.importing.functions import OPERATIONS_OF, argument, plain_name, shape_of
from archdsl.runtime.importing.layers import NoOperation
from archdsl.runtime.importing.layouts import Layouts, Repeated, stored_factor
from archdsl.runtime.importing.moves import emit
from archdsl.runtime.importing.network import Item
from archdsl.runtime.importing.normalising import normalised, with_weight
from archdsl.runtime.importing.recorded import Call, Constant, Derived, Owned, Value
from archdsl.runtime.importing.settling import shapes_of
from archdsl.runtime.importing.views import Order, View, axis_of, order_of, sizes_of

Number: TypeAlias = int | float
Merger: TypeAlias = Callable[[Layouts, Call], None]
MERGERS: dict[str, Merger] = {}


def arithmetic(layouts: Layouts, call: Call) -> None:
    """A merge, or arithmetic with a number or parameter."""
    operation = OPERATIONS_OF[plain_name(call)]
    more = {k: v for k, v in call.named.items() if k not in ("input", "other", "out") and v is not None}
    if more and more != {"alpha": 1}:
        raise NoOperation(f"`{call.name}` with {', '.join(f'`{k}`' for k in more)}")
    parts = [*call.arguments, *(call.named[k] for k in ("input", "other") if k in call.named)][:2]
    if plain_name(call) == "rsub":
        parts.reverse()
    tensors = [part for part in parts if isinstance(part, Value)]
    if len(tensors) == 2 and operation != "div":
        merge(layouts, call, operation, tensors[0], tensors[1])
        return
    others = [part for part in parts if not isinstance(part, Value)]
    if len(tensors) == 1 and all(type(other) in (int, float) for other in others):
        number(layouts, call, operation, parts)
    elif len(tensors) == 1 and operation == "add" and with_positions(layouts, call, tensors[0], others[0]):
        return
    elif len(tensors) == 1 and isinstance(others[0], Owned | Derived) and operation in ("add", "mul"):
        with_parameter(layouts, call, operation, tensors[0], others[0])
    else:
        raise NoOperation(f"`{operation}` of {' and '.join(map(described, parts))}")


MERGERS.update(dict.fromkeys(OPERATIONS_OF, arithmetic))


def power(layouts: Layouts, call: Call) -> None:
    """The square of a tensor: its product with itself."""
    tensor = call.inputs[0]
    if plain_name(call) == "pow" and argument(call, 1, "exponent") != 2:
        raise NoOperation(f"`{call.name}` with another exponent than 2")
    view = layouts.view(tensor)
    emit(layouts, "mul", {}, [view.base, view.base], [layouts.made_like(call.results[0], view)])


MERGERS.update(dict.fromkeys(("pow", "square"), power))


def described(part: object) -> str:
    if isinstance(part, Owned):
        return f"the parameter or buffer `{part.key}`"
    if isinstance(part, Constant):
        return "a tensor that is not computed from the input"
    if isinstance(part, Derived):
        return "a tensor that is computed from parameters alone"
    return "a tensor" if isinstance(part, Value) else repr(part)


def merge(layouts: Layouts, call: Call, operation: str, one: Value, two: Value) -> None:
    """Two tensors, element by element; sizes of 1 are repeated."""
    result = call.results[0]
    if operation == "mul" and normalised(layouts, result, one, two):
        return
    one, two = (unrepeated(layouts, part, other, result) for part, other in ((one, two), (two, one)))
    first, second = layouts.view(one), layouts.view(two)
    if order_of(first) is None and first.axes == second.axes and first.base.shapes == second.base.shapes:
        emit(layouts, operation, {}, [first.base, second.base], [layouts.made_like(result, first)])
        return
    if len(one.shapes[0]) != len(two.shapes[0]):
        raise NoOperation(f"`{operation}` of tensors with other numbers of axes")
    orders = [layouts.order(value) for value in (one, two)]
    larger = max((0, 1), key=lambda i: (prod((one, two)[i].shapes[0]), i == 0))
    order = orders[larger]
    bases = [layouts.ordered(value, order) for value in (one, two)]
    same = len({shape_of(base) for base in bases}) == 1
    if not same and operation not in ("mul", "add"):
        raise NoOperation(f"`{operation}` of tensors of different sizes")
    arguments: dict[str, object] = {"stretch": True} if operation == "add" and not same else {}
    emit(layouts, operation, arguments, bases, [layouts.made(result, order)])


def unrepeated(layouts: Layouts, part: Value, other: Value, result: Value) -> Value:
    """What a tensor repeats, if the other one of a merge has the size of the result."""
    found = layouts.pending.get(part)
    repeats = isinstance(found, Repeated) and other.shapes == result.shapes and other not in layouts.pending
    return found.tensor if isinstance(found, Repeated) and repeats else part


def number(layouts: Layouts, call: Call, operation: str, parts: Sequence[object]) -> None:
    """A tensor times a number, plus one."""
    (tensor,) = (part for part in parts if isinstance(part, Value))
    if layouts.is_scores(tensor):
        raise NoOperation("arithmetic with scores")
    values = [float(part) for part in parts if isinstance(part, int | float)]
    try:
        arguments = affine(operation, values[0] if values else 0.0, isinstance(parts[0], Value))
    except NoOperation:
        raise NoOperation(f"`{operation}` of {' and '.join(map(described, parts))}") from None
    rescale(layouts, call, tensor, arguments)


def rescale(layouts: Layouts, call: Call, tensor: Value, arguments: Mapping[str, Number]) -> None:
    """A tensor times a number, plus one; nothing, if that is the tensor itself."""
    given = {name: whole_number(value) for name, value in arguments.items()}
    if given == {"scale": 1}:
        layouts.same(call.results[0], tensor)
        return
    view = layouts.view(tensor)
    emit(layouts, "rescale", {**given}, [view.base], [layouts.made_like(call.results[0], view)])


def whole_number(value: Number) -> Number:
    return int(value) if float(value).is_integer() else value


def with_parameter(layouts: Layouts, call: Call, operation: str, tensor: Value, owned: Owned | Derived) -> None:
    """A learned factor of each channel, or a learned tensor that is added or multiplied."""
    if operation == "mul" and isinstance(owned, Owned) and with_weight(layouts, call, tensor, owned):
        return
    base, order = layouts.place(tensor)
    result = call.results[0]
    if result.shapes != tensor.shapes:
        raise NoOperation(f"`{operation}` repeats a tensor for {described(owned)}")
    if operation == "mul" and isinstance(owned, Owned) and owned.key in layouts.parameters:
        stored = stored_factor(owned, len(order), shape_of(base)[0], 1 + order.index(0))
        if stored is not None:
            stored |= layouts.start(owned.key)
            item = Item("scale", stored, [base], [layouts.made(result, order)], owned.key, True, call.line)
            layouts.add(item)
            return
    learned = computed(layouts, owned, order, base, call)
    same = shape_of(learned) == shape_of(base)
    arguments: dict[str, object] = {"stretch": True} if operation == "add" and not same else {}
    emit(layouts, operation, arguments, [base, learned], [layouts.made(result, order)])


def concat(layouts: Layouts, call: Call) -> None:
    """Tensors and parameters one behind the other, along an axis."""
    rank = len(call.results[0].shapes[0])
    parts = tuple(part for part in argument(call, 0, "tensors") if part not in layouts.empty)
    axis = argument(call, 1, "dim", call.named.get("axis", 0)) % rank
    tensors = [part for part in parts if isinstance(part, Value)]
    if not all(isinstance(part, Value | Owned) for part in parts):
        raise NoOperation("`concat` with a tensor that is not computed from the input")
    if axis == 0:
        raise NoOperation("`concat` along the batch")
    if len(parts) == 1:
        layouts.same(call.results[0], tensors[0])
        return
    if len(tensors) == len(parts) and behind_each_other(layouts, call, tensors, axis):
        return
    order = common(layouts, tensors)
    batches = [shape[0] for shape in call.results[0].shapes]
    bases = [
        layouts.ordered(part, order) if isinstance(part, Value) else layouts.learned(part, order, batches, call.line)
        for part in parts
    ]
    along = order[axis - 1]
    emit(layouts, "concat", {"axis": along} if along else {}, bases, [layouts.made(call.results[0], order)])


def behind_each_other(layouts: Layouts, call: Call, tensors: Sequence[Value], axis: int) -> bool:
    """Whether tensors are alike views, with heads say, of which a whole axis is put together; it is said then."""
    views = [layouts.view(part) for part in tensors]
    largest = max(views, key=lambda view: prod(view.base.shapes[0]))
    row = largest.axes[axis]
    if order_of(largest) is not None or len(row) != 1 or row != axis_of(largest.base, row[0].axis) or not row[0].axis:
        return False
    along = row[0].axis
    others = (*largest.axes[:axis], *largest.axes[axis + 1 :])
    for view in views:
        shape = view.base.shapes[0]
        if (*view.axes[:axis], *view.axes[axis + 1 :]) != others or len(shape) != len(largest.base.shapes[0]):
            return False
        if view.axes[axis] != axis_of(view.base, along):
            return False
    sizes = sizes_of(largest.base)
    sizes[along] = tuple(sum(n) for n in zip(*(sizes_of(view.base)[along] for view in views), strict=True))
    made = Value(shapes_of(sizes), largest.base.dtype)
    bases = [view.base for view in views]
    emit(layouts, "concat", {"axis": along - 1} if along > 1 else {}, bases, [made])
    axes = (*largest.axes[:axis], axis_of(made, along), *largest.axes[axis + 1 :])
    layouts.views[call.results[0]] = View(made, axes)
    return True


MERGERS.update(dict.fromkeys(("cat", "concat", "concatenate"), concat))


def common(layouts: Layouts, tensors: Sequence[Value]) -> Order:
    """The order of axes of the largest tensor, since that need not be moved."""
    return layouts.order(max(tensors, key=lambda value: prod(value.shapes[0])))
