"""Normalisations that are written out within a module: a tensor divided by the root of the mean of its squares."""

from __future__ import annotations

from dataclasses import dataclass

from archdsl.runtime.importing.functions import argument, plain_name, shape_of
from archdsl.runtime.importing.layers import NoOperation
from archdsl.runtime.importing.layouts import Layouts, Pending
from archdsl.runtime.importing.network import Item
from archdsl.runtime.importing.recorded import Call, Owned, Value
from archdsl.runtime.importing.views import View

EPS = 1e-6
"""What `rmsnorm` adds by default."""


@dataclass(frozen=True, slots=True)
class InverseRoot(Pending):
    """1 / sqrt(mean of the squares of `tensor` + eps), over its channels."""

    tensor: Value
    eps: float
    says = "the inverse of a root, which is no factor of the tensor that it is computed from"


def inverse_root(layouts: Layouts, call: Call) -> None:
    """Notes the inverse root of a mean of squares. Raises NoOperation for one of anything else."""
    no = NoOperation(f"the language has no operation for the function `{call.name}`")
    added = layouts.makers.get(call.inputs[0])
    if added is None or plain_name(added) != "add" or len(added.inputs) != 1 or len(added.arguments) != 2:
        raise no
    (eps,) = (part for part in added.arguments if not isinstance(part, Value))
    mean = layouts.makers.get(added.inputs[0])
    if mean is None or plain_name(mean) != "mean" or not isinstance(eps, int | float):
        raise no
    square = layouts.makers.get(mean.inputs[0])
    if square is None or not is_square(square) or not over_channels(layouts, mean):
        raise no
    layouts.pending[call.results[0]] = InverseRoot(square.inputs[0], float(eps))


def is_square(call: Call) -> bool:
    if plain_name(call) == "pow":
        return bool(argument(call, 1, "exponent") == 2)
    twice = len(call.inputs) == 2 and call.inputs[0] is call.inputs[1]
    return plain_name(call) == "square" or (plain_name(call) in ("mul", "multiply") and twice)


def over_channels(layouts: Layouts, mean: Call) -> bool:
    """Whether a mean is over the channels alone, of which one stays."""
    tensor = mean.inputs[0]
    axes = argument(mean, 1, "dim")
    axes = (axes,) if isinstance(axes, int) else axes
    if not isinstance(axes, tuple) or len(axes) != 1 or len(mean.results[0].shapes[0]) != len(tensor.shapes[0]):
        return False
    axis = axes[0] % len(tensor.shapes[0])
    return axis > 0 and layouts.order(tensor).index(0) == axis - 1


def normalised(layouts: Layouts, result: Value, one: Value, two: Value) -> bool:
    """Whether a product is of a tensor and the inverse root of its own squares; it is said then."""
    for tensor, other in ((one, two), (two, one)):
        found = layouts.pending.get(other)
        if isinstance(found, InverseRoot) and found.tensor is tensor:
            base, order = layouts.place(tensor)
            made = layouts.made(result, order)
            given = {**({} if found.eps == EPS else {"eps": found.eps}), "affine": False}
            layouts.add(Item("rmsnorm", given, [base], [made]))
            layouts.normal[made] = layouts.moved[-1]
            return True
    return False


def with_weight(layouts: Layouts, call: Call, tensor: Value, owned: Owned) -> bool:
    """Whether a call multiplies what has just been normalised by the weight of that; it is said then."""
    view = layouts.view(tensor)
    before = layouts.normal.get(view.base)
    path, _, name = owned.key.rpartition(".")
    if before is None or name != "weight" or owned.stored != shape_of(view.base)[:1]:
        return False
    if not layouts.is_kept(owned.key) or not along_channels(view, owned):
        return False
    given = {name: value for name, value in before.arguments.items() if name != "affine"}
    made = layouts.made_like(call.results[0], view)
    layouts.add(Item("rmsnorm", given, [*before.inputs], [made], path, True, call.line))
    return True


def along_channels(view: View, owned: Owned) -> bool:
    """Whether the axis of a factor that is no 1 is that of a tensor's channels."""
    sizes = (1,) * (len(view.axes) - len(owned.shape)) + owned.shape
    at = [axis for axis, size in enumerate(sizes) if size != 1]
    return len(at) == 1 and [atom.axis for atom in view.axes[at[0]]] == [1]
