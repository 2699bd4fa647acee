"""Products of matrices that are no attention, as `matmul`."""

from __future__ import annotations

from collections.abc import Sequence

from archdsl.runtime.importing.functions import shape_of
from archdsl.runtime.importing.layers import NoOperation
from archdsl.runtime.importing.layouts import Layouts
from archdsl.runtime.importing.moves import emit
from archdsl.runtime.importing.recorded import Call, Owned, Value
from archdsl.runtime.importing.settling import shapes_of
from archdsl.runtime.importing.views import (
    View,
    axis_of,
    merged,
    order_of,
    permuted,
    reshaped,
    sizes_of,
    whole,
)


def matrix_product(layouts: Layouts, call: Call) -> None:
    """A product of matrices, of which there is one, or one for each head. Raises NoOperation.

    Of more axes, those between the batch and the matrices count heads.
    """
    parts = call.arguments[1] if isinstance(call.arguments[1], tuple) else call.arguments[-2:]
    if call.name == "einsum":
        one, two = (layouts.view(part) for part in parts)
        inputs = str(call.arguments[0]).partition("->")[0].replace(" ", "").split(",")
        if inputs[0][-1] == inputs[1][-1]:
            two = turned(two)
    elif isinstance(parts[0], Value) and isinstance(parts[1], Owned):
        by_parameter(layouts, call, parts[0], parts[1])
        return
    elif all(isinstance(part, Value) for part in parts):
        one, two = (layouts.view(part) for part in parts)
    else:
        raise NoOperation(f"`{call.name}` with a tensor that is not computed from the input")
    if len(one.axes) < 3 or len(one.axes) != len(two.axes) or one.sizes[:-2] != two.sizes[:-2]:
        raise NoOperation(f"`{call.name}` of tensors with other numbers of matrices")
    bases = [as_matrices(layouts, view) for view in (one, two)]
    rows, columns = sizes_of(bases[0])[-2], sizes_of(bases[1])[-1]
    made = Value(shapes_of([*sizes_of(bases[0])[:-2], rows, columns]), bases[0].dtype)
    emit(layouts, "matmul", {}, bases, [made])
    found = reshaped(whole(made), sizes_of(call.results[0]))
    assert found is not None
    layouts.set(call.results[0], found)


def turned(view: View) -> View:
    return View(view.base, (*view.axes[:-2], view.axes[-1], view.axes[-2]))


def as_matrices(layouts: Layouts, view: View) -> Value:
    """The tensor of the network that has the axes between the batch and the matrices as one, if there are any."""
    batch, *ahead, rows, columns = view.axes
    if batch != axis_of(view.base, 0):
        raise NoOperation("a product of matrices that are counted before the batch")
    heads = [merged([atom for axis in ahead for atom in axis])] if ahead else []
    settled = layouts.settle(View(view.base, (batch, *heads, rows, columns)))
    order = None if settled is None else order_of(settled)
    if settled is None or order is None:
        raise NoOperation("a product of matrices whose axes are parts of others")
    axes = tuple(order)
    return settled.base if axes == (*range(len(axes)),) else layouts.turned(settled.base, axes)


def by_parameter(layouts: Layouts, call: Call, tensor: Value, owned: Owned) -> None:
    """Rows times a learned matrix."""
    if len(owned.shape) != 2 or len(tensor.shapes[0]) != 3:
        raise NoOperation(f"`{call.name}` with the parameter `{owned.key}` of size {list(owned.shape)}")
    base, order = layouts.place(tensor)
    batches: Sequence[int] = [shape[0] for shape in base.shapes]
    learned = layouts.learned(owned, order, batches, call.line)
    first, second = (learned, base) if order == (1, 0) else (base, learned)
    made = Value([(n, shape_of(first)[0], second.shapes[run][-1]) for run, n in enumerate(batches)], base.dtype)
    emit(layouts, "matmul", {}, [first, second], [made])
    layouts.set(call.results[0], permuted(whole(made), (0, *(axis + 1 for axis in order))))
