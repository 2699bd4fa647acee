"""The operators of ONNX that move, cut and reshape: their sizes may be computed while the network runs."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F

from archdsl.runtime.importing.files.batching import Fitted
from archdsl.runtime.importing.files.onnx_operators import Call, handles
from archdsl.runtime.importing.files.program import Ref


def ints(found: Any) -> tuple[int, ...]:
    """Sizes that were computed."""
    return tuple(int(n) for n in found.reshape(-1))


def axes_of(call: Call, at: int = 1) -> tuple[int, ...]:
    """The axes of an operator, in an attribute or a constant."""
    found = call.constant(at) if call.has(at) else call.get("axes")
    if found is None:
        if call.has(at):
            raise call.refused("computes its axes")
        return ()
    return tuple(int(axis) for axis in (found.reshape(-1) if hasattr(found, "reshape") else found))


@handles("Identity", "Dropout")
def identity(call: Call) -> None:
    call.node.outputs = call.node.outputs[:1]
    call.function(lambda x: x, Ref(call.node.inputs[0]))


@handles("Cast")
def cast(call: Call) -> None:
    if call.attributes["to"] != 1:
        raise call.refused("casts to another type than float32")
    call.function(lambda x: x, Ref(call.node.inputs[0]))


@handles("Transpose")
def transpose(call: Call) -> None:
    order = call.get("perm", tuple(reversed(range(len(call.shape())))))
    call.function(lambda x: x.permute(order), Ref(call.node.inputs[0]))


@handles("Flatten")
def flatten(call: Call) -> None:
    axis = call.get("axis", 1)
    if axis not in (1, 1 - len(call.shape())):
        raise call.refused(f"flattens from axis {axis} on")
    call.function(lambda x: x.flatten(1), Ref(call.node.inputs[0]))


def copied(shape: Sequence[int], sizes: Any, copies: bool) -> list[int]:
    """Sizes to which a tensor is reshaped; `copies`: 0 means the size as it is."""
    return [shape[i] if n == 0 and copies else n for i, n in enumerate(ints(sizes))]


@handles("Reshape")
def reshape(call: Call) -> None:
    copies, name = not call.get("allowzero", 0), call.node.inputs[0]
    fitted: Fitted | None = None
    if (batches := call.program.batches) is not None and call.is_fixed(1):
        wanted = copied(call.shape(), call.example(1), copies)
        fitted = batches.fitted(name, call.node.outputs[0], call.shape(), wanted)

    def run(x: torch.Tensor, sizes: Any) -> torch.Tensor:
        wanted = copied(x.shape, sizes, copies)
        return x.reshape(wanted if fitted is None else fitted(x.shape, wanted))

    call.function(run, Ref(name), call.value(1))


@handles("Squeeze")
def squeeze(call: Call) -> None:
    rank = len(call.shape())
    axes = axes_of(call) or tuple(i for i, n in enumerate(call.shape()) if n == 1)
    call.function(lambda x: x.squeeze(tuple(axis % rank for axis in axes)), Ref(call.node.inputs[0]))


@handles("Unsqueeze")
def unsqueeze(call: Call) -> None:
    axes = axes_of(call)
    rank = len(call.shape()) + len(axes)

    def run(x: torch.Tensor) -> torch.Tensor:
        for axis in sorted(axis % rank for axis in axes):
            x = x.unsqueeze(axis)
        return x

    call.function(run, Ref(call.node.inputs[0]))


@handles("Expand")
def expand(call: Call) -> None:
    batches = call.program.batches if call.is_fixed(1) else None

    def run(x: torch.Tensor, sizes: Any, *first: torch.Tensor) -> torch.Tensor:
        wanted = [*ints(sizes)]
        if len(wanted) == x.ndim:
            wanted = [have if want == 1 else want for have, want in zip(x.shape, wanted, strict=True)]
        return x.expand(wanted if batches is None else batches.expanded(place, x.shape, wanted, first))

    place = None if batches is None else batches.places.get(call.node.inputs[0])
    first = [] if batches is None or place is not None else [Ref(next(iter(call.program.inputs)))]
    call.function(run, call.tensor(0), call.value(1), *first)


def summed_squares(x: Any, dim: Any, keepdim: bool) -> Any:
    return torch.sum(torch.square(x), dim=dim, keepdim=keepdim)


def vector_length(x: Any, dim: Any, keepdim: bool) -> Any:
    return torch.norm(x, 2, dim, keepdim)


REDUCTIONS = {
    "ReduceMean": torch.mean,
    "ReduceMax": torch.amax,
    "ReduceMin": torch.amin,
    "ReduceSum": torch.sum,
    "ReduceSumSquare": summed_squares,
    "ReduceL2": vector_length,
}


@handles(*REDUCTIONS)
def reduce(call: Call) -> None:
    axes, keep = axes_of(call), bool(call.get("keepdims", 1))
    if not axes:
        axes = tuple(range(len(call.shape())))
    call.function(partial(REDUCTIONS[call.node.operator], dim=axes, keepdim=keep), Ref(call.node.inputs[0]))


@handles("Split")
def split(call: Call) -> None:
    axis = call.get("axis", 0)
    sizes = call.constant(1) if call.has(1) else call.get("split")
    count = len([name for name in call.node.outputs if name])
    if sizes is None:
        call.function(lambda x: x.chunk(count, axis), Ref(call.node.inputs[0]))
    else:
        parts = [int(n) for n in sizes]
        call.function(lambda x: x.split(parts, axis), Ref(call.node.inputs[0]))


@handles("Slice")
def slices(call: Call) -> None:
    rank = len(call.shape())
    if "starts" in call.attributes:
        starts: Any = torch.tensor(call.attributes["starts"]).numpy()
        ends: Any = torch.tensor(call.attributes["ends"]).numpy()
        given = call.get("axes")
    else:
        starts, ends = call.value(1), call.value(2)
        given = axes_of(call, 3) or None
    steps = ints(call.constant(4)) if call.constant(4) is not None else None

    def run(x: torch.Tensor, starts: Any, ends: Any) -> torch.Tensor:
        firsts, lasts = ints(starts), ints(ends)
        index = [slice(None)] * rank
        where: Sequence[int] = given or range(len(firsts))
        for axis, first, last, step in zip(where, firsts, lasts, steps or (1,) * len(firsts), strict=True):
            index[axis] = slice(first, min(last, x.shape[axis]), step)
        return x[tuple(index)]

    call.function(run, Ref(call.node.inputs[0]), starts, ends)


@handles("Gather")
def gather(call: Call) -> None:
    index, axis = call.constant(1), call.get("axis", 0)
    if index is None or index.ndim:
        raise call.refused("gathers more than one part")
    at = (slice(None),) * (axis % len(call.shape())) + (int(index),)
    call.function(lambda x: x[at], Ref(call.node.inputs[0]))


@handles("Pad")
def pad(call: Call) -> None:
    pads = call.constant(1) if call.has(1) else call.get("pads")
    value = call.constant(2) if call.has(2) else call.get("value", 0)
    mode = {"edge": "replicate", "wrap": "circular"}.get(call.get("mode", "constant"), call.get("mode", "constant"))
    if pads is None or call.has(3):
        raise call.refused("computes how much it pads; a .pt2, or a file of a fixed size, says it")
    if (0 if value is None else float(value)) != 0:
        raise call.refused(f"pads with {float(value)}")
    rank = len(pads) // 2
    pairs = [(int(pads[axis]), int(pads[rank + axis])) for axis in range(rank)]
    while pairs and pairs[0] == (0, 0):
        pairs.pop(0)
    amounts = [n for pair in reversed(pairs) for n in pair]
    call.function(partial(F.pad, pad=amounts, mode=mode), Ref(call.node.inputs[0]))


@handles("Resize", "Upsample")
def resize(call: Call) -> None:
    rank = len(call.shape())
    mode = {"nearest": "nearest", "linear": {3: "linear", 4: "bilinear", 5: "trilinear"}.get(rank), "cubic": "bicubic"}[
        call.get("mode", "nearest")
    ]
    kind = call.get("coordinate_transformation_mode", "half_pixel" if call.node.operator == "Resize" else "asymmetric")
    corners = kind == "align_corners"
    rounds = call.get("nearest_mode", "round_prefer_floor" if call.node.operator == "Resize" else "floor")
    if mode == "nearest" and (kind == "asymmetric", rounds) not in (
        (True, "floor"),
        (False, "round_prefer_floor"),
        (False, "round_prefer_ceil"),
    ):
        raise call.refused(f"takes the nearest value by {kind} and {rounds}; PyTorch has asymmetric and floor")
    if mode != "nearest" and kind not in ("half_pixel", "pytorch_half_pixel", "align_corners"):
        raise call.refused(f"resizes with coordinate_transformation_mode = {kind}")
    more: dict[str, Any] = {"mode": mode} if mode == "nearest" else {"mode": mode, "align_corners": corners}
    at = 2 if call.node.operator == "Resize" and call.graph.opset >= 11 else 1
    if call.has(3):
        call.function(
            lambda x, sizes: F.interpolate(x, size=ints(sizes)[2:], **more), Ref(call.node.inputs[0]), call.value(3)
        )
        return
    scales = call.constant(at) if call.has(at) else call.get("scales")
    if scales is None:
        raise call.refused("computes its scale")
    numbers = [float(n) for n in scales]
    if numbers[:2] != [1, 1]:
        raise call.refused("resizes other axes than the positions")
    factors = tuple(int(n) if n.is_integer() else n for n in numbers[2:])
    factor = factors[0] if len(set(factors)) == 1 else factors
    call.function(lambda x: F.interpolate(x, scale_factor=factor, **more), Ref(call.node.inputs[0]))


@handles("DepthToSpace")
def depth_to_space(call: Call) -> None:
    if call.get("mode", "DCR") != "CRD":
        raise call.refused("moves channels in the order DCR; `pixel_shuffle` has CRD")
    call.function(partial(F.pixel_shuffle, upscale_factor=call.attributes["blocksize"]), Ref(call.node.inputs[0]))
