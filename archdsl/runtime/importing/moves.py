"""Functions that move numbers and compute none: reshapes, permutations, parts of axes; and means over positions."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TypeAlias

import torch

from archdsl.runtime.importing.functions import PerRun, argument, plain_name, shape_of
from archdsl.runtime.importing.layers import NoOperation
from archdsl.runtime.importing.layouts import Layouts, Repeated
from archdsl.runtime.importing.network import Item
from archdsl.runtime.importing.recorded import Call, Value, values_in
from archdsl.runtime.importing.settling import shapes_of
from archdsl.runtime.importing.views import (
    Atom,
    Axis,
    Order,
    View,
    axis_of,
    divided,
    is_one,
    merged,
    order_of,
    permuted,
    reshaped,
    sizes_of,
    whole,
)

Mover: TypeAlias = Callable[[Layouts, Call], None]
MOVERS: dict[str, Mover] = {}


def moves(*names: str) -> Callable[[Mover], Mover]:
    def add(mover: Mover) -> Mover:
        MOVERS.update(dict.fromkeys(names, mover))
        return mover

    return add


def emit(
    layouts: Layouts, operation: str, arguments: dict[str, object], inputs: Sequence[Value], outputs: Sequence[Value]
) -> None:
    """Adds an item, which is in the windows in which its inputs are."""
    layouts.add(Item(operation, arguments, [*inputs], [*outputs]))


@moves("contiguous", "clone", "detach", "to", "float", "type_as", "alias", "requires_grad", "data", "type")
def same_values(layouts: Layouts, call: Call) -> None:
    if call.results[0].dtype != call.inputs[0].dtype:
        raise NoOperation(f"`{call.name}` changes the type of a tensor to {call.results[0].dtype}")
    layouts.same(call.results[0], call.inputs[0])


@moves("flatten", "view", "reshape", "squeeze", "unsqueeze", "unflatten", "view_as", "reshape_as")
def reshape(layouts: Layouts, call: Call) -> None:
    tensor, result = call.inputs[0], call.results[0]
    sizes = sizes_of(result)
    found = reshaped(layouts.view(tensor), sizes)
    if found is None and (settled := layouts.settle(layouts.view(tensor))) is not None:
        found = reshaped(settled, sizes)
    if found is None:
        raise NoOperation(f"`{call.name}` mixes axes: {list(tensor.shapes[0])} to {list(result.shapes[0])}")
    layouts.set(result, found)


@moves("permute", "transpose", "movedim", "swapaxes", "moveaxis", "T", "mT", "t", "swapdims")
def permute(layouts: Layouts, call: Call) -> None:
    rank = len(call.inputs[0].shapes[0])
    example = torch.empty(*range(2, rank + 2), device="cpu")  # axes of distinct lengths show the order
    method = getattr(torch.Tensor, plain_name(call))
    turned = method(example, *call.arguments[1:], **dict(call.named)) if callable(method) else method.__get__(example)
    layouts.set(call.results[0], permuted(layouts.view(call.inputs[0]), [n - 2 for n in turned.shape]))


@moves("expand", "repeat", "expand_as", "broadcast_to", "tile")
def expand(layouts: Layouts, call: Call) -> None:
    """A tensor of one sample for each of them; other axes of size 1 are repeated, too. Raises NoOperation."""
    result = call.results[0]
    sizes = sizes_of(result)
    view = layouts.view(call.inputs[0])
    view = View(view.base, (*((),) * (len(sizes) - len(view.axes)), *view.axes))
    batch = axis_of(view.base, 0)
    longer = [at for at, (one, size) in enumerate(zip(view.sizes, sizes, strict=True)) if one != size]
    if any(view.axes[at] for at in longer):
        raise NoOperation(f"`{call.name}` of an axis that has more than one element")
    if longer and sizes[longer[0]] == batch[0].sizes and batch not in view.axes:
        at = longer.pop(0)
        view = View(view.base, (*view.axes[:at], batch, *view.axes[at + 1 :]))
    if not longer:
        return layouts.set(result, view)

    def made() -> View:
        if any(len(set(sizes[at])) > 1 for at in longer):
            raise NoOperation(f"`{call.name}` to a size that depends on that of the input")
        return repeated(layouts, view, {at: sizes[at][0] for at in longer})

    if view.axes == layouts.view(call.inputs[0]).axes:
        layouts.pending[result] = Repeated(call.inputs[0], made)
    else:
        layouts.set(result, made())


def repeated(layouts: Layouts, view: View, times: Mapping[int, int]) -> View:
    """A view whose axes of size 1 are repeated: positions that `upsample` copies. Raises NoOperation."""
    batch = axis_of(view.base, 0)
    left = [at for at, axis in enumerate(view.axes) if axis != batch]
    first = [at for at in left if at not in times and view.axes[at] == axis_of(view.base, 1)]
    last = [at for at in left if at not in times]
    if not last:
        raise NoOperation("a tensor of one number that is repeated")
    channel = (first or last[-1:])[0]
    order = [channel, *(at for at in left if at != channel)]
    settled = layouts.settle(View(view.base, (batch, *(view.axes[at] for at in order))))
    found = None if settled is None else order_of(settled)
    if settled is None or found is None:
        raise NoOperation("a tensor that is repeated along an axis that is a part of others")
    base = settled.base if found == (*range(len(found)),) else layouts.turned(settled.base, found)
    scale = tuple(times.get(at, 1) for at in order[1:])
    made = Value([(s[0], s[1], *(n * m for n, m in zip(s[2:], scale, strict=True))) for s in base.shapes], base.dtype)
    emit(layouts, "upsample", {"scale": one_of(scale)}, [base], [made])
    axes = [*view.axes]
    for number, at in enumerate(order, 1):
        axes[at] = axis_of(made, number)
    return View(made, tuple(axis_of(made, 0) if axis == batch else axis for axis in axes))


# ---------------------------------------------------------------- parts


@moves("chunk", "split", "tensor_split", "split_with_sizes", "unbind")
def parts(layouts: Layouts, call: Call) -> None:
    """Parts of an axis, in order; `unbind` leaves no axis of each."""
    tensor, results = call.inputs[0], call.results
    gone = plain_name(call) == "unbind"
    axis = argument(call, 1 if gone else 2, "dim", 0) % len(tensor.shapes[0])
    if len(results) == 1 and not gone:
        layouts.same(results[0], tensor)
        return
    lengths = [1] * len(results) if gone else [result.shapes[0][axis] for result in results]
    views = divide(layouts, layouts.view(tensor), axis, lengths)
    if views is None and (settled := layouts.settle(layouts.view(tensor))) is not None:
        views = divide(layouts, settled, axis, lengths)
    if views is None:
        raise NoOperation(f"`{call.name}` along an axis of {list(tensor.shapes[0])} that is a part of others")
    for result, view in zip(results, views, strict=True):
        layouts.set(result, View(view.base, tuple(a for i, a in enumerate(view.axes) if i != axis)) if gone else view)


def outermost(view: View, axis: int) -> tuple[int, int] | None:
    """The axis of the base whose outermost part an axis of a view is, and how many elements each of its indices has.

    None if it is no such part, or if free sizes decide that.
    """
    if len(view.axes[axis]) != 1:
        return None
    (atom,) = view.axes[axis]
    (full,) = axis_of(view.base, atom.axis)
    rest = divided(full.sizes, atom.sizes)
    if atom.axis == 0 or rest != atom.strides or len(set(atom.strides)) > 1:
        return None
    return atom.axis, atom.strides[0]


def part(view: View, axis: int, base: Value) -> View:
    """The same view of a part of its base, along an axis that is an outermost part there."""
    (atom,) = view.axes[axis]
    size = divided(sizes_of(base)[atom.axis], atom.strides)
    assert size is not None
    kept: Axis = () if is_one(size) else (Atom(atom.axis, size, atom.strides),)
    return View(base, tuple(kept if i == axis else merged(row) for i, row in enumerate(view.axes)))


def divide(layouts: Layouts, view: View, axis: int, lengths: Sequence[int]) -> list[View] | None:
    """The parts of a view along an axis, of these lengths."""
    if (found := outermost(view, axis)) is None:
        return None
    on, each = found
    key = (view.base, on, *(length * each for length in lengths))
    if key not in layouts.divided:
        sizes = sizes_of(view.base)
        equal = len(set(lengths)) == 1
        made = []
        for length in lengths:
            of_part = tuple(length * each for _ in view.base.shapes)
            if equal:
                of_part = tuple(n // len(lengths) for n in sizes[on])
            made.append(Value(shapes_of([*sizes[:on], of_part, *sizes[on + 1 :]]), view.base.dtype))
        given: dict[str, object] = {"n": len(lengths) if equal else tuple(length * each for length in lengths)}
        emit(layouts, "split", {**given, **({"axis": on - 1} if on > 1 else {})}, [view.base], made)
        layouts.divided[key] = made
    return [part(view, axis, base) for base in layouts.divided[key]]


@moves("getitem", "narrow", "select")
def item(layouts: Layouts, call: Call) -> None:
    tensor, rank = call.inputs[0], len(call.inputs[0].shapes[0])
    if all(0 in shape for shape in call.results[0].shapes):
        return layouts.empty.add(call.results[0])
    index = index_of(call)
    if any(values_in(index)) or not all(isinstance(p, slice | int) or p is None or p is Ellipsis for p in index):
        raise NoOperation("an index that is no slice and no number")
    if Ellipsis not in index:
        index = (*index, Ellipsis)
    at = index.index(Ellipsis)
    rest = rank - sum(p is not None and p is not Ellipsis for p in index)
    view, axis = layouts.view(tensor), 0
    again = None if not call.again else index_of(call, again=True)
    for number, one in enumerate((*index[:at], *[slice(None)] * rest, *index[at + 1 :])):
        if one is None:
            view = View(view.base, (*view.axes[:axis], (), *view.axes[axis:]))
        elif isinstance(one, int):
            view = taken(layouts, view, axis, one, call)
            view = View(view.base, (*view.axes[:axis], *view.axes[axis + 1 :]))
            continue
        elif isinstance(one, slice) and one != slice(None):
            later = again[number] if again is not None and number < len(again) else one
            view = sliced(layouts, view, axis, one, later if isinstance(later, slice) else one)
        axis += 1
    layouts.set(call.results[0], view)


def index_of(call: Call, *, again: bool = False) -> tuple[object, ...]:
    """The index of a call as one of `getitem`."""
    given = call.again if again else call.arguments
    if plain_name(call) == "getitem":
        return given[1] if isinstance(given[1], tuple) else (given[1],)
    values = [*given[1:], *(call.again_named if again else call.named).values()]
    axis = values[0] % len(call.inputs[0].shapes[0])
    one = values[1] if plain_name(call) == "select" else slice(values[1], values[1] + values[2])
    return (*[slice(None)] * axis, one)


FEW = 4
"""So many elements of a part that are taken one by one are split."""


def taken(layouts: Layouts, view: View, axis: int, number: int, call: Call) -> View:
    """One element of an axis, which stays with size 1."""
    sizes = view.sizes[axis]
    if is_one(sizes):
        return view
    on = outermost(view, axis)
    if on is not None and on[1] > 1 and len(set(sizes)) == 1 and sizes[0] <= FEW:
        found = divide(layouts, view, axis, [1] * sizes[0])
        assert found is not None
        return found[number]
    stop = number + 1 if number != -1 else None
    return sliced(layouts, view, axis, slice(number, stop), slice(number, stop))


def sliced(layouts: Layouts, view: View, axis: int, one: slice, later: slice) -> View:
    """A part of an axis; `later` is the slice of the second run."""
    sizes = view.sizes[axis]
    bounds = [cut.indices(size) for cut, size in zip((one, *[later] * (len(sizes) - 1)), sizes, strict=True)]
    if all(bound == (0, size, 1) for bound, size in zip(bounds, sizes, strict=True)):
        return view
    if outermost(view, axis) is None and (settled := layouts.settle(view)) is not None:
        view = settled
    if (found := outermost(view, axis)) is None:
        raise NoOperation("a slice of an axis that is a part of others")
    on, each = found
    starts, stops, steps = ({bound[i] for bound in bounds} for i in range(3))
    to_end = all(bound[1] == size for bound, size in zip(bounds, sizes, strict=True))
    if len(starts) > 1 or len(steps) > 1 or min(steps) < 1:
        raise NoOperation("a slice that depends on the size of the input")
    (start,), (step,) = starts, steps
    if step > 1 and each > 1:
        raise NoOperation("a slice of an axis that is a part of others, with steps")
    given: dict[str, object] = {"start": start * each}
    if not to_end:
        given["stop"] = min(stops) * each if len(stops) == 1 else PerRun(bound[1] for bound in bounds)
    if on > 1:
        given["axis"] = on - 1
    if step > 1:
        given["step"] = step
    lengths = tuple(len(range(*bound)) * each for bound in bounds)
    whole_sizes = sizes_of(view.base)
    made = Value(shapes_of([*whole_sizes[:on], lengths, *whole_sizes[on + 1 :]]), view.base.dtype)
    emit(layouts, "slice", given, [view.base], [made])
    return part(view, axis, made)


# ---------------------------------------------------------------- means and maxima


@moves("mean", "amax", "max")
def mean(layouts: Layouts, call: Call) -> None:
    """The mean, or the maximum, over all positions, or over the channels."""
    tensor, result = call.inputs[0], call.results[0]
    axes = argument(call, 1, "dim", call.named.get("axis"))
    if not isinstance(axes, int | tuple | None):
        raise NoOperation(f"`{call.name}` of two tensors")
    rank = len(tensor.shapes[0])
    chosen = {a % rank for a in ((axes,) if isinstance(axes, int) else axes or range(rank))}
    if (stacked := layouts.stacks.get(tensor)) is not None and plain_name(call) == "mean" and chosen == {0}:
        merged_stack(layouts, "mean", stacked, result)
        return
    order = layouts.order(tensor)
    if rank > 2 and order == (*range(rank - 1),) and chosen == {*range(1, rank - 1)}:  # the channels are last
        order = (*range(1, rank - 1), 0)
    base = layouts.ordered(tensor, order)
    positions = {i + 1 for i, axis in enumerate(order) if axis > 0}
    if positions and chosen == {order.index(0) + 1}:
        over_channels(layouts, call, base, order)
        return
    if chosen != positions and len(chosen) == 1 and tensor.shapes[0][min(chosen)] <= FEW:
        over_few(layouts, call, min(chosen), "mean" if plain_name(call) == "mean" else "maximum")
        return
    if chosen != positions or not positions:
        shown = ", ".join(map(str, sorted(chosen)))
        raise NoOperation(f"`{call.name}` over the axes {shown}; the language has that over all positions")
    channels = sizes_of(base)[:2]
    ones = [(1,) * len(base.shapes)] * len(positions)
    made = Value(shapes_of([*channels, *ones]), base.dtype)
    emit(layouts, "global_avgpool" if plain_name(call) == "mean" else "global_maxpool", {}, [base], [made])
    if len(result.shapes[0]) == rank:
        layouts.set(result, permuted(whole(made), [0, *(axis + 1 for axis in order)]))
    else:
        layouts.set(result, View(made, (axis_of(made, 0), axis_of(made, 1))))


def over_channels(layouts: Layouts, call: Call, base: Value, order: Order) -> None:
    """The mean, or the maximum, over the channels: a map of one channel."""
    result = call.results[0]
    made = Value([(shape[0], 1, *shape[2:]) for shape in base.shapes], base.dtype)
    emit(layouts, "channel_mean" if plain_name(call) == "mean" else "channel_max", {}, [base], [made])
    view = permuted(whole(made), (0, *(axis + 1 for axis in order)))
    kept = len(result.shapes[0]) == len(order) + 1
    axes = [axis for i, axis in enumerate(view.axes) if kept or i != 1 + order.index(0)]
    layouts.set(result, View(made, tuple(axes)))


def lowest(layouts: Layouts, call: Call) -> bool:
    """Whether a call is of a pooling behind a padding with -inf, which is a `maxpool` with padding; it is said then.

    Raises NoOperation for anything else that takes such a map.
    """
    found = next((layouts.lowered[value] for value in call.inputs if value in layouts.lowered), None)
    if found is None:
        return False
    base, pads = found
    names = ("input", "kernel_size", "stride", "padding", "dilation", "ceil_mode")
    given = {**dict(zip(names, call.arguments, strict=False)), **call.named}
    kernel, stride = each(given.get("kernel_size")), each(given.get("stride") or given.get("kernel_size"))
    plain = not any(each(given.get("padding", 0))) and not given.get("ceil_mode")
    if plain_name(call) != "max_pool2d" or not plain or {*each(given.get("dilation", 1))} != {1}:
        raise NoOperation("a padding with -inf that is not for a pooling")
    arguments: dict[str, object] = {"kernel": one_of(kernel)}
    if stride != kernel:
        arguments["stride"] = one_of(stride)
    if all(before == after for before, after in pads):
        arguments["pad"] = one_of(tuple(before for before, _ in pads))
    else:
        arguments["pad"] = "same_upper"
        for (n, s, k, (before, after)), size in zip(
            zip(base.shapes[0][2:], stride, kernel, pads, strict=True), call.results[0].shapes[0][2:], strict=True
        ):
            total = max((size - 1) * s + k - n, 0)
            if size != -(-n // s) or (before, after) != (total // 2, total - total // 2):
                raise NoOperation(f"a pooling behind a padding by {list(pads)}")
    layouts.add(Item("maxpool", arguments, [base], [call.results[0]]))
    return True


def each(value: object) -> tuple[int, ...]:
    assert isinstance(value, int | tuple)
    return value if isinstance(value, tuple) else (value, value)


def one_of(values: tuple[int, ...]) -> object:
    """One number if all are equal."""
    return values[0] if len(set(values)) == 1 else values


# ---------------------------------------------------------------- stacks and sums


@moves("stack")
def stack(layouts: Layouts, call: Call) -> None:
    """Tensors along a new axis: their channels one behind the other, counted by it."""
    tensors = argument(call, 0, "tensors")
    if not all(isinstance(part, Value) for part in tensors):
        raise NoOperation("`stack` with a tensor that is not computed from the input")
    result = call.results[0]
    axis = argument(call, 1, "dim", 0) % len(result.shapes[0])
    if axis == 0:
        layouts.stacks[result] = [*tensors]
        return
    order = layouts.order(tensors[0])
    bases = [layouts.ordered(part, order) for part in tensors]
    batch, channels, *rest = sizes_of(bases[0])
    runs, count = len(batch), len(bases)
    made = Value(shapes_of([batch, tuple(n * count for n in channels), *rest]), bases[0].dtype)
    emit(layouts, "concat", {}, bases, [made])
    one: list[Axis] = []
    for at in order:
        size = sizes_of(bases[0])[1 + at]
        one.append(() if is_one(size) else (Atom(1 + at, size, (1,) * runs),))
    new: Axis = (Atom(1, (count,) * runs, channels),)
    layouts.set(result, View(made, (axis_of(made, 0), *one[: axis - 1], new, *one[axis - 1 :])))


@moves("sum")
def added(layouts: Layouts, call: Call) -> None:
    """The sum over a short axis: of its elements."""
    axis = argument(call, 1, "dim")
    axis = axis[0] if isinstance(axis, tuple) and len(axis) == 1 else axis
    if not isinstance(axis, int) or call.named.get("keepdim"):
        raise NoOperation("`sum` over an axis")
    if axis == 0 and (stacked := layouts.stacks.get(call.inputs[0])) is not None:
        merged_stack(layouts, "add", stacked, call.results[0])
        return
    over_few(layouts, call, axis % len(call.inputs[0].shapes[0]), "add")


def over_few(layouts: Layouts, call: Call, axis: int, operation: str) -> None:
    """A merge of the elements of a short axis."""
    tensor, result = call.inputs[0], call.results[0]
    many = tensor.shapes[0][axis]
    if many > FEW:
        raise NoOperation(f"`{call.name}` over an axis of {many}; the language has that over all positions")
    views = divide(layouts, layouts.view(tensor), axis, [1] * many)
    if views is None and (settled := layouts.settle(layouts.view(tensor))) is not None:
        views = divide(layouts, settled, axis, [1] * many)
    if views is None:
        raise NoOperation(f"`{call.name}` over a part of an axis")
    first = views[0]
    made = Value([*first.base.shapes], first.base.dtype)
    emit(layouts, operation, {}, [view.base for view in views], [made])
    kept = len(result.shapes[0]) == len(tensor.shapes[0])
    axes = [() if i == axis else a for i, a in enumerate(first.axes) if kept or i != axis]
    layouts.set(result, View(made, tuple(axes)))


def merged_stack(layouts: Layouts, operation: str, tensors: Sequence[Value], result: Value) -> None:
    """The mean or the sum of tensors, element by element."""
    order = layouts.order(tensors[0])
    emit(layouts, operation, {}, [layouts.ordered(part, order) for part in tensors], [layouts.made(result, order)])


@moves("softmax")
def softmax(layouts: Layouts, call: Call) -> None:
    """A softmax over one axis."""
    tensor, result = call.inputs[0], call.results[0]
    module = call.module
    given = module.dim if isinstance(module, torch.nn.Softmax) else argument(call, 1, "dim")
    if given is None:
        raise NoOperation("`softmax` without an axis")
    axis = given % len(tensor.shapes[0])
    view = layouts.view(tensor)
    row = view.axes[axis]
    whole_axis = len(row) == 1 and row == axis_of(view.base, row[0].axis)
    if not whole_axis:
        found = layouts.settle(view)
        if found is None or order_of(found) is None:
            raise NoOperation("`softmax` over a part of an axis")
        view = found
        row = view.axes[axis]
    if not row or row[0].axis == 0:
        raise NoOperation("`softmax` over an axis of one element, or over the batch")
    at = row[0].axis - 1
    path = call.path if module is not None else ""
    made = layouts.made_like(result, view)
    layouts.add(Item("softmax", {"axis": at} if at else {}, [view.base], [made], path))


__all__ = ["MOVERS", "emit", "moves", "one_of", "order_of", "shape_of", "sliced"]
