"""Means, maxima, sums and lengths over axes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import prod

from archdsl.runtime.importing.functions import argument, plain_name
from archdsl.runtime.importing.layers import NoOperation
from archdsl.runtime.importing.layouts import Layouts
from archdsl.runtime.importing.moves import FEW, Mover, divide, emit
from archdsl.runtime.importing.positions import batch_first, is_second
from archdsl.runtime.importing.recorded import Call, Value
from archdsl.runtime.importing.settling import shapes_of
from archdsl.runtime.importing.views import View, axis_of, permuted, sizes_of, whole


@dataclass(frozen=True, slots=True)
class Reduction:
    """The operations that reduce one axis, all positions, the channels, and the parts of an axis; None where there is
    none."""

    axis: str
    positions: str | None
    channels: str | None
    parts: str


MEAN = Reduction("reduce_mean", "global_avgpool", "channel_mean", "mean")
MAXIMUM = Reduction("reduce_max", "global_maxpool", "channel_max", "maximum")
SUM = Reduction("reduce_sum", None, None, "add")
REDUCTIONS = {"mean": MEAN, "amax": MAXIMUM, "max": MAXIMUM, "sum": SUM}


def reduced(layouts: Layouts, call: Call) -> None:
    """A mean, maximum or sum over positions, over the channels, or over one axis."""
    tensor, result = call.inputs[0], call.results[0]
    axes = argument(call, 1, "dim", call.named.get("axis"))
    if not isinstance(axes, int | tuple | None) or len(call.inputs) > 1:
        raise NoOperation(f"`{call.name}` of two tensors")
    if axes == 0 and not call.named.get("keepdim") and is_second(layouts.view(tensor)):
        reduced(layouts, replace(call, arguments=(batch_first(layouts, tensor), 1), named={}))
        return
    reduction, rank = REDUCTIONS[plain_name(call)], len(tensor.shapes[0])
    chosen = {a % rank for a in ((axes,) if isinstance(axes, int) else axes or range(rank))}
    if (stacked := layouts.stacks.get(tensor)) is not None and chosen == {0}:
        merged(layouts, reduction.parts, stacked, result)
    elif 0 in chosen:
        raise NoOperation(f"`{call.name}` over the batch: each sample is computed by itself")
    elif len(chosen) == 1 and is_part(layouts.view(tensor), min(chosen)) and tensor.shapes[0][min(chosen)] <= FEW:
        over_few(layouts, call, min(chosen), reduction.parts)
    else:
        over_axes(layouts, call, chosen, reduction)


def is_part(view: View, axis: int) -> bool:
    """Whether an axis of a view is not a whole axis of its base."""
    row = view.axes[axis]
    return bool(row) and row != axis_of(view.base, row[0].axis)


def over_axes(layouts: Layouts, call: Call, chosen: set[int], reduction: Reduction) -> None:
    """A reduction of axes, each of which keeps one position in the network's tensor."""
    tensor, result, rank = call.inputs[0], call.results[0], len(call.inputs[0].shapes[0])
    order = layouts.order(tensor)
    if rank > 2 and order == (*range(rank - 1),) and chosen == {*range(1, rank - 1)} and reduction.positions:
        order = (*range(1, rank - 1), 0)  # the channels are last
    base = layouts.ordered(tensor, order)
    made = over(layouts, reduction, base, sorted(order[axis - 1] for axis in chosen))
    kept(layouts, result, made, order, chosen, len(result.shapes[0]) == rank)


def over(layouts: Layouts, reduction: Reduction, base: Value, along: list[int]) -> Value:
    """A tensor of the network, reduced along some of its axes, of which the channels are number 0."""
    positions = [*range(1, len(base.shapes[0]) - 1)]
    if positions and along == [0] and reduction.channels:
        return one(layouts, reduction.channels, {}, base, along)
    if positions and along == positions and reduction.positions:
        return one(layouts, reduction.positions, {}, base, along)
    for axis in along:
        base = one(layouts, reduction.axis, {} if axis == 1 else {"axis": axis}, base, [axis])
    return base


def one(layouts: Layouts, operation: str, arguments: dict[str, object], base: Value, along: Sequence[int]) -> Value:
    """The result of a reduction that leaves one position on some axes."""
    sizes = [(1,) * len(n) if i - 1 in along else n for i, n in enumerate(sizes_of(base))]
    made = Value(shapes_of(sizes), base.dtype)
    emit(layouts, operation, arguments, [base], [made])
    return made


def kept(layouts: Layouts, result: Value, made: Value, order: Sequence[int], chosen: set[int], keeps: bool) -> None:
    """Says which view of what was made a result is: with the axes of one position, or without."""
    view = permuted(whole(made), (0, *(axis + 1 for axis in order)))
    axes = [axis for i, axis in enumerate(view.axes) if keeps or i not in chosen]
    layouts.set(result, View(made, tuple(axes)))


def length(layouts: Layouts, call: Call) -> None:
    """The length of the vectors along an axis: the root of the sum of squares."""
    linear = "linalg" in call.name or plain_name(call) == "vector_norm"
    power = argument(call, 1, "ord" if linear else "p", 2)
    axes = argument(call, 2, "dim")
    if power not in (2, "fro", None) or not isinstance(axes, int | tuple) or len(call.inputs) > 1:
        raise NoOperation(f"`{call.name}` other than the length of vectors along axes, the root of their squares' sum")
    tensor, result, rank = call.inputs[0], call.results[0], len(call.inputs[0].shapes[0])
    chosen = {a % rank for a in ((axes,) if isinstance(axes, int) else axes)}
    if 0 in chosen:
        raise NoOperation(f"`{call.name}` over the batch: each sample is computed by itself")
    base, order = layouts.place(tensor)
    squares = like(layouts, "square", {}, base)
    made = like(layouts, "sqrt", {}, over(layouts, SUM, squares, sorted(order[axis - 1] for axis in chosen)))
    kept(layouts, result, made, order, chosen, len(result.shapes[0]) == rank)


def like(layouts: Layouts, operation: str, arguments: dict[str, object], *inputs: Value) -> Value:
    """The result of an operation that keeps the size of the first tensor."""
    made = Value([*inputs[0].shapes], inputs[0].dtype)
    emit(layouts, operation, arguments, inputs, [made])
    return made


def spread(layouts: Layouts, call: Call) -> None:
    """The variance over axes, or its root: the mean of the squares of differences from the mean."""
    tensor, result, rank = call.inputs[0], call.results[0], len(call.inputs[0].shapes[0])
    axes = argument(call, 1, "dim")
    given = call.named.get("unbiased", call.arguments[2] if len(call.arguments) > 2 else True)
    less = int(call.named.get("correction", given))
    chosen = {a % rank for a in ((axes,) if isinstance(axes, int) else axes or range(rank))}
    if 0 in chosen or isinstance(axes, bool):
        raise NoOperation(f"`{call.name}` over the batch: each sample is computed by itself")
    base, order = layouts.place(tensor)
    along = sorted(order[axis - 1] for axis in chosen)
    counts = {prod(shape[1 + axis] for axis in along) for shape in base.shapes}
    if less and len(counts) > 1:
        raise NoOperation(f"`{call.name}` without `unbiased = False`, over a number of positions that is free")
    mean = like(layouts, "rescale", {"scale": -1}, over(layouts, MEAN, base, along))
    differences = like(layouts, "add", {"stretch": True}, base, mean)
    made = over(layouts, MEAN, like(layouts, "square", {}, differences), along)
    if less:
        count = counts.pop()
        made = like(layouts, "rescale", {"scale": count / (count - less)}, made)
    if plain_name(call) == "std":
        made = like(layouts, "sqrt", {}, made)
    kept(layouts, result, made, order, chosen, len(result.shapes[0]) == rank)


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


def merged(layouts: Layouts, operation: str, tensors: Sequence[Value], result: Value) -> None:
    """The mean, the maximum or the sum of tensors, element by element."""
    order = layouts.order(tensors[0])
    emit(layouts, operation, {}, [layouts.ordered(part, order) for part in tensors], [layouts.made(result, order)])


REDUCERS: dict[str, Mover] = {
    **dict.fromkeys(REDUCTIONS, reduced),
    **dict.fromkeys(("norm", "vector_norm"), length),
    **dict.fromkeys(("var", "std"), spread),
}
