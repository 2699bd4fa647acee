"""Fixed tensors, which modules keep as buffers or compute from sizes, recognised by their numbers."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import product
from math import comb, prod

import torch
from torch import Tensor

from archdsl.ops import OPERATIONS
from archdsl.ops.base import Rules
from archdsl.ops.forms import FunctionForm
from archdsl.runtime.importing.functions import SizeOf, argument, plain, shape_of
from archdsl.runtime.importing.generated import defined
from archdsl.runtime.importing.layers import NoOperation, said
from archdsl.runtime.importing.layouts import Layouts
from archdsl.runtime.importing.network import Item
from archdsl.runtime.importing.recorded import Call, Constant, Derived, Owned, Value

TEMPERATURES = (10000.0, 20.0, 100.0)
"""The temperatures of published networks."""
MOVED = frozenset({"view", "reshape", "permute", "contiguous", "flatten", "transpose", "expand", "repeat", "to"})
"""Methods that only move the numbers of positions; whether they move them rightly the proof finds."""


def computed_by(operation: str, arguments: Mapping[str, object], x: Tensor) -> Tensor:
    """What an operation without weights gives for a batch."""
    made = OPERATIONS[operation].parse(arguments)
    shapes = (tuple(x.shape[1:]),)
    form = made.torch(shapes, made.infer(shapes, Rules()))
    assert isinstance(form, FunctionForm) and form.helper is not None
    given = {str(argument.name): repr(argument.value) for argument in form.arguments}
    compute = f"def compute(x: Tensor) -> Tensor:\n    return {form.template.format('x', **given)}\n"
    found = defined("compute", f"{form.helper}\n\n{compute}")(x)
    assert isinstance(found, Tensor)
    return found


def is_like(one: Tensor, two: Tensor) -> bool:
    return one.shape == two.shape and bool(torch.allclose(one.float(), two.float(), 1e-4, 1e-5))


# ---------------------------------------------------------------- positions


def with_positions(layouts: Layouts, call: Call, tensor: Value, given: object) -> bool:
    """Whether a call adds sines of positions, or what layers make of them; it is said then."""
    chain, numbers = computed_from(given)
    others = [
        computed_from(part)[1] for part in (*call.again, *call.again_named.values()) if not isinstance(part, Value)
    ]
    view = layouts.view(tensor)
    base = view.base
    if numbers is None or (found := sines(numbers)) is None:
        return False
    runs = [numbers, *(other for other in others if other is not None)][: len(base.shapes)]
    sizes = [tuple(run.shape[2:]) for run in runs]
    if len(sizes) < len(base.shapes) or any(
        prod(shape[2:]) != prod(n) for shape, n in zip(base.shapes, sizes, strict=True)
    ):
        return False
    batches = [shape[0] for shape in base.shapes]
    positions = base
    if len(base.shapes[0]) == 3:
        to: object = sizes[0] if len(set(sizes)) == 1 else SizeOf(sizes)
        positions = Value([(*shape[:2], *n) for shape, n in zip(base.shapes, sizes, strict=True)])
        layouts.add(Item("maps", {"to": to}, [base], [positions]))
    made = Value([(batch, numbers.shape[1], *n) for batch, n in zip(batches, sizes, strict=True)])
    layouts.moved.append(Item("sine_positions", found, [positions], [made], line=call.line))
    for layer in reversed(chain):
        made = through(layouts, layer, made, call)
    if len(base.shapes[0]) == 3:
        row = Value([(*shape[:2], prod(shape[2:])) for shape in made.shapes])
        layouts.moved.append(Item("tokens", {}, [made], [row]))
        made = row
    if shape_of(made) != shape_of(base):
        raise NoOperation("sines of positions with other channels than those of the map")
    layouts.add(Item("add", {}, [base, made], [layouts.made_like(call.results[0], view)]))
    return True


def computed_from(given: object) -> tuple[list[Derived], Tensor | None]:
    """The layers that make a tensor of fixed numbers, the last one first, and these numbers; None for others."""
    chain: list[Derived] = []
    while isinstance(given, Derived):
        if given.module is not None:
            chain.append(given)
        elif plain(given.name) not in MOVED:
            return chain, None
        given = given.arguments[0] if given.arguments else None
    return chain, given.numbers if isinstance(given, Constant) else None


def through(layouts: Layouts, layer: Derived, inner: Value, call: Call) -> Value:
    """What a layer gives for sines of positions."""
    assert layer.module is not None
    size = shape_of(inner)
    out = (getattr(layer.module, "out_channels", size[0]), *size[1:])
    found = said(layer.module, (size,), (out,))
    if found is None:
        return inner
    made = Value([(shape[0], out[0], *shape[2:]) for shape in inner.shapes])
    owns = bool(layer.module.state_dict())
    layouts.moved.append(Item(found.operation, dict(found.arguments), [inner], [made], layer.path, owns, call.line))
    return made


def sines(numbers: Tensor) -> dict[str, object] | None:
    """The arguments of `sine_positions` that gives these numbers; None if it does not."""
    if numbers.ndim != 4 or numbers.shape[1] % 4 or not numbers.shape[1]:
        return None
    count, example = numbers.shape[1], torch.empty(1, 1, *numbers.shape[2:])
    for temperature, normalized in product(TEMPERATURES, (True, False)):
        more = {} if temperature == TEMPERATURES[0] else {"temperature": temperature}
        given = {"channels": count, **more, **({} if normalized else {"normalized": False})}
        if is_like(numbers[:1], computed_by("sine_positions", given, example)):
            return given
    return None


def difference_scale(numbers: Tensor, sides: tuple[int, ...]) -> str | None:
    """The scale of `differences` of a window that has these numbers, one for each difference or each pair."""
    height, width = sides
    rows, columns = (torch.arange(n) for n in sides)
    down = (rows[:, None] - rows + height - 1)[:, None, :, None].expand(height, width, height, width)
    right = (columns[:, None] - columns + width - 1)[None, :, None, :].expand(height, width, height, width)
    for scale in ("relative", "positions"):
        table = computed_by("differences", {"scale": scale}, torch.empty(1, 1, *sides))[0].movedim(0, -1)
        pairs = table[down.flatten(), right.flatten()]
        if any(is_like(numbers.reshape(-1, 2), one.reshape(-1, 2)) for one in (table, pairs)):
            return scale
    return None


# ---------------------------------------------------------------- kernels


def blurred(layouts: Layouts, call: Call) -> bool:
    """Whether a call blurs each channel by a fixed kernel; it is said then."""
    weight = argument(call, 1, "weight")
    if call.name not in ("conv1d", "conv2d", "conv3d") or not isinstance(weight, Owned) or layouts.is_kept(weight.key):
        return False
    tensor = argument(call, 0, "input")
    numbers = layouts.numbers(weight.key)
    if not isinstance(tensor, Value) or argument(call, 2, "bias") is not None:
        return False
    count, many = tensor.shapes[0][1], numbers.shape[-1]
    row = torch.tensor([comb(many - 1, i) / 2 ** (many - 1) for i in range(many)])
    wanted = row
    for _ in numbers.shape[3:]:
        wanted = wanted[..., None] * row
    if argument(call, 6, "groups", 1) != count or not all(is_like(kernel[0], wanted) for kernel in numbers):
        return False
    if argument(call, 4, "padding", 0) not in (0, (0,) * wanted.ndim) or argument(call, 5, "dilation", 1) not in (
        1,
        (1,) * wanted.ndim,
    ):
        return False
    stride = argument(call, 3, "stride", 1)
    same = stride[0] if isinstance(stride, tuple) and len(set(stride)) == 1 else stride
    given = {**({"kernel": many} if many != 3 else {}), **({"stride": same} if same != 1 else {})}
    layouts.add(Item("blur", given, [layouts.ordered(tensor)], [call.results[0]]))
    return True


def weighted_groups(layouts: Layouts, call: Call) -> bool:
    """Whether a call is of a normalisation of groups with a weight, but no bias; it is said then."""
    weight = argument(call, 2, "weight")
    if call.name != "group_norm" or call.module is not None or not isinstance(weight, Owned):
        return False
    tensor = argument(call, 0, "input")
    if argument(call, 3, "bias") is not None or not isinstance(tensor, Value) or not weight.is_plain:
        return False
    base = layouts.ordered(tensor)
    eps = argument(call, 4, "eps", 1e-5)
    given = {"groups": argument(call, 1, "num_groups"), **({"eps": eps} if eps != 1e-5 else {}), "affine": False}
    made = Value([*base.shapes], base.dtype)
    layouts.add(Item("groupnorm", given, [base], [made]))
    start = layouts.start(weight.key)
    layouts.add(Item("scale", start, [made], [call.results[0]], weight.key, True, call.line))
    return True
