"""The operators of ONNX as layers and functions of PyTorch."""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from archdsl.ops import helpers
from archdsl.runtime.importing.files.batching import joined
from archdsl.runtime.importing.files.onnx_file import Node, OnnxGraph
from archdsl.runtime.importing.files.program import Program, Ref, Scope
from archdsl.runtime.importing.generated import defined
from archdsl.runtime.refusal import ImportRefused


class Call:
    """A node while it is added to a program: its inputs by position, and how its layer is called."""

    def __init__(self, node: Node, graph: OnnxGraph, program: Program, scopes: Sequence[Scope], path: str) -> None:
        self.node, self.graph, self.program, self.scopes, self.path = node, graph, program, scopes, path
        self.attributes = node.attributes

    def has(self, at: int) -> bool:
        return len(self.node.inputs) > at and self.node.inputs[at] != ""

    def constant(self, at: int) -> Any:
        """An input that is known before the run, as an array; None if it is not there or not known."""
        return self.graph.constants.get(self.node.inputs[at]) if self.has(at) else None

    def value(self, at: int) -> object:
        """An input for a step: a reference, or the array itself."""
        found = self.constant(at)
        return Ref(self.node.inputs[at]) if found is None else found

    def example(self, at: int) -> Any:
        """The value of an input in the example."""
        found = self.constant(at)
        return self.program.values[self.node.inputs[at]] if found is None else found

    def is_fixed(self, at: int) -> bool:
        """Whether sizes are the same for every batch, in a file that fixes it."""
        batches, name = self.program.batches, self.node.inputs[at]
        if batches is None or self.constant(at) is not None:
            return batches is not None
        return bool(np.array_equal(self.program.values[name], batches.values[name]))

    def tensor(self, at: int, *, of_samples: bool = False) -> object:
        """An input that flows, or a constant as a parameter; a single number as a number.

        `of_samples`: one that exporters have repeated for each sample of the batch that the file fixes is one for all.
        """
        found = self.constant(at)
        many = self.program.batches.batch if self.program.batches is not None else 0
        if of_samples and found is not None and found.shape[:1] == (many,) and (found == found[:1]).all():
            found = found[:1]
        if found is None:
            return Ref(self.node.inputs[at])
        if found.size == 1:
            return found.item()
        name = self.node.inputs[at]
        key, around = parameter_name(name), self.scopes[-1].path if self.scopes else ""
        if around and not key.startswith(f"{around}."):  # it is written once for several parameters with equal numbers
            key = f"{around}.{key.rpartition('.')[2]}"
        return self.program.parameter(key, real(found, name))

    def shape(self, at: int = 0) -> tuple[int, ...]:
        """The sizes of an input in the example."""
        found = self.program.values.get(self.node.inputs[at], self.constant(at))
        return tuple(found.shape)

    @property
    def rank(self) -> int:
        """The number of positions' axes of the first input."""
        return len(self.shape()) - 2

    def function(self, run: Callable[..., Any], *takes: object) -> None:
        self.program.add(run, takes, self.node.outputs, self.scopes, self.place)

    def layer(self, make: Callable[[], nn.Module], weights: Mapping[str, Any]) -> None:
        tensors = {name: real(array, name) for name, array in weights.items() if array is not None}
        takes = [Ref(self.node.inputs[0])]
        self.program.layer(self.path, make, tensors, takes, self.node.outputs[:1], self.scopes, self.place)

    def weight(self, at: int) -> Any:
        found = self.constant(at)
        if found is None:
            raise self.refused("takes weights that are computed")
        return found

    def get(self, name: str, default: Any = None) -> Any:
        return self.attributes.get(name, default)

    @property
    def place(self) -> str:
        return f"{self.graph.file}, {self.node}"

    def refused(self, reason: str) -> ImportRefused:
        return ImportRefused(f"{self.node} {reason}", self.path, self.graph.file)


def real(array: Any, name: str) -> torch.Tensor:
    """An array as a tensor of float32. Raises ImportRefused for other numbers."""
    if array.dtype != np.float32:
        raise ImportRefused(f"the tensor `{name}` is of {array.dtype}; only float32 is read")
    return torch.from_numpy(np.ascontiguousarray(array).copy())


def parameter_name(name: str) -> str:
    """The key of a constant that is a parameter."""
    parts = ["".join(c if c.isascii() and (c.isalnum() or c == "_") else "_" for c in p) for p in name.split(".")]
    return ".".join(part or "_" for part in parts)


Handler = Callable[[Call], None]
HANDLERS: dict[str, Handler] = {}


def handles(*names: str) -> Callable[[Handler], Handler]:
    def add(handler: Handler) -> Handler:
        HANDLERS.update(dict.fromkeys(names, handler))
        return handler

    return add


# ---------------------------------------------------------------- windows


def window(call: Call, kernel: Sequence[int]) -> dict[str, Any]:
    """The numbers of a window: kernel, stride, dilation. Raises ImportRefused."""
    rank = len(kernel)
    return {
        "kernel_size": tuple(kernel),
        "stride": tuple(call.get("strides", (1,) * rank)),
        "dilation": tuple(call.get("dilations", (1,) * rank)),
    }


def padding(call: Call, numbers: Mapping[str, Any]) -> tuple[int, ...] | str:
    """The padding at both ends of each axis, or `same_upper`. Raises ImportRefused where the ends differ."""
    mode, rank = call.get("auto_pad", "NOTSET"), len(numbers["kernel_size"])
    if mode == "VALID":
        return (0,) * rank
    if mode == "SAME_UPPER":
        odd = [d * (k - 1) for k, d in zip(numbers["kernel_size"], numbers["dilation"], strict=True)]
        if all(s == 1 for s in numbers["stride"]) and all(n % 2 == 0 for n in odd):
            return tuple(n // 2 for n in odd)
        return "same_upper"
    if mode == "SAME_LOWER":
        raise call.refused("has auto_pad = SAME_LOWER")
    pads = tuple(call.get("pads", (0,) * 2 * rank))
    if pads[:rank] != pads[rank:]:
        raise call.refused(f"pads by {list(pads)}, not by as much at both ends")
    return pads[:rank]


def padded(call: Call, numbers: Mapping[str, Any]) -> tuple[int, ...] | str:
    """The padding; where the two ends differ, a step before pads with zeros."""
    rank = len(numbers["kernel_size"])
    pads = tuple(call.get("pads", ()))
    if call.get("auto_pad", "NOTSET") != "NOTSET" or pads[:rank] == pads[rank:]:
        return padding(call, numbers)
    name = f"{call.node.outputs[0]}/padded"
    amounts = [n for axis in reversed(range(rank)) for n in (pads[axis], pads[rank + axis])]
    takes = [Ref(call.node.inputs[0])]
    call.program.add(partial(F.pad, pad=amounts), takes, [name], call.scopes, call.place)
    call.node.inputs[0] = name
    return (0,) * rank


@handles("Conv")
def conv(call: Call) -> None:
    weight = call.weight(1)
    rank = weight.ndim - 2
    if rank not in (1, 2, 3):
        raise call.refused(f"convolves over {rank} axes")
    numbers = window(call, weight.shape[2:])
    pad = padded(call, numbers)
    groups = call.get("group", 1)
    cls: Any = getattr(nn, f"Conv{rank}d")
    if pad == "same_upper":
        helper = helpers.conv(f"{rank}d", flip=False, same_upper=True, causal=False)
        assert helper is not None
        cls, pad = defined(helper.name, helper.source), (0,) * rank
    bias = call.constant(2)
    make = partial(cls, weight.shape[1] * groups, weight.shape[0], **numbers, padding=pad, groups=groups)
    call.layer(partial(make, bias=bias is not None), {"weight": weight, "bias": bias})


@handles("ConvTranspose")
def conv_transpose(call: Call) -> None:
    weight = call.weight(1)
    rank, groups = weight.ndim - 2, call.get("group", 1)
    numbers = window(call, weight.shape[2:])
    pad = padding(call, numbers)
    if pad == "same_upper" or "output_shape" in call.attributes:
        raise call.refused("says the size of its result")
    bias = call.constant(2)
    make = partial(
        getattr(nn, f"ConvTranspose{rank}d"),
        weight.shape[0],
        weight.shape[1] * groups,
        **numbers,
        padding=pad,
        output_padding=tuple(call.get("output_padding", (0,) * rank)),
        groups=groups,
        bias=bias is not None,
    )
    call.layer(make, {"weight": weight, "bias": bias})


@handles("MaxPool")
def max_pool(call: Call) -> None:
    numbers = window(call, call.attributes["kernel_shape"])
    rank = len(numbers["kernel_size"])
    pad, ceil = padding(call, numbers), bool(call.get("ceil_mode", 0))
    if pad == "same_upper":
        raise call.refused("pads by auto_pad = SAME_UPPER")
    function = getattr(F, f"max_pool{rank}d")
    call.node.outputs = call.node.outputs[:1]
    call.function(partial(function, **numbers, padding=pad, ceil_mode=ceil), Ref(call.node.inputs[0]))


@handles("AveragePool")
def average_pool(call: Call) -> None:
    numbers = window(call, call.attributes["kernel_shape"])
    rank = len(numbers["kernel_size"])
    pad = padding(call, numbers)
    if pad == "same_upper" or any(n != 1 for n in numbers.pop("dilation")):
        raise call.refused("pads by auto_pad = SAME_UPPER, or is dilated")
    counted = bool(call.get("count_include_pad", 0)) or not any(pad)
    function = getattr(F, f"avg_pool{rank}d")
    more = {"padding": pad, "ceil_mode": bool(call.get("ceil_mode", 0)), "count_include_pad": counted}
    call.function(partial(function, **numbers, **more), Ref(call.node.inputs[0]))


@handles("GlobalAveragePool", "GlobalMaxPool")
def global_pool(call: Call) -> None:
    kind = "avg" if call.node.operator == "GlobalAveragePool" else "max"
    function = getattr(F, f"adaptive_{kind}_pool{call.rank}d")
    call.function(partial(function, output_size=1), Ref(call.node.inputs[0]))


# ---------------------------------------------------------------- products


def linear(call: Call, weight: Any, bias: Any) -> None:
    make = partial(nn.Linear, weight.shape[1], weight.shape[0], bias=bias is not None)
    call.layer(make, {"weight": weight, "bias": bias})


@handles("Gemm")
def gemm(call: Call) -> None:
    weight = call.weight(1)
    bias = call.constant(2)
    if (
        call.get("alpha", 1.0) != 1
        or call.get("beta", 1.0) != 1
        or call.get("transA", 0)
        or (call.has(2) and bias is None)
    ):
        raise call.refused("is more than a product with weights and a bias")
    weight = weight if call.get("transB", 0) else weight.T
    linear(call, weight, None if bias is None else np.broadcast_to(bias, weight.shape[:1]))


@handles("MatMul")
def matmul(call: Call) -> None:
    weight = call.constant(1)
    if weight is not None and weight.ndim == 2 and call.constant(0) is None:
        linear(call, weight.T, call.constant(2))
    else:
        call.function(torch.matmul, call.tensor(0), call.tensor(1))


# ---------------------------------------------------------------- normalisations


@handles("BatchNormalization")
def batch_norm(call: Call) -> None:
    weight, bias, mean, variance = (call.weight(at) for at in range(1, 5))
    if call.get("training_mode", 0):
        raise call.refused("is in training mode; export the network in evaluation mode")
    cls = getattr(nn, f"BatchNorm{max(call.rank, 1)}d")
    make = partial(cls, weight.shape[0], eps=short(call.get("epsilon", 1e-5)))
    call.layer(make, {"weight": weight, "bias": bias, "running_mean": mean, "running_var": variance})


@handles("LayerNormalization")
def layer_norm(call: Call) -> None:
    weight, bias = call.weight(1), call.constant(2)
    rank = len(call.shape())
    axes = call.get("axes", (call.get("axis", -1),))
    first = min(axis % rank for axis in axes)
    if "axes" in call.attributes and sorted(axis % rank for axis in axes) != [*range(first, rank)]:
        raise call.refused(f"normalises over the axes {list(axes)}")
    make = partial(nn.LayerNorm, weight.shape, eps=short(call.get("epsilon", 1e-5)), bias=bias is not None)
    call.node.outputs = call.node.outputs[:1]
    call.layer(make, {"weight": weight, "bias": bias})


@handles("GroupNormalization")
def group_norm(call: Call) -> None:
    weight, bias, groups = call.weight(1), call.weight(2), call.attributes["num_groups"]
    if len(weight) == groups != call.shape()[1]:
        weight, bias = (np.repeat(part, call.shape()[1] // groups) for part in (weight, bias))
    make = partial(nn.GroupNorm, groups, len(weight), eps=short(call.get("epsilon", 1e-5)))
    call.layer(make, {"weight": weight, "bias": bias})


@handles("InstanceNormalization")
def instance_norm(call: Call) -> None:
    weight, bias = call.weight(1), call.weight(2)
    cls, eps = getattr(nn, f"InstanceNorm{call.rank}d"), short(call.get("epsilon", 1e-5))
    if (weight == 1).all() and (bias == 0).all():
        call.function(partial(F.instance_norm, eps=eps), Ref(call.node.inputs[0]))
    else:
        call.layer(partial(cls, len(weight), eps=eps, affine=True), {"weight": weight, "bias": bias})


def short(number: float) -> float:
    """A float32 as its shortest number: 1e-5, not 9.99999974e-6."""
    return float(f"{number:.7g}")


@handles("LRN")
def local_response(call: Call) -> None:
    size = call.attributes["size"]
    alpha, beta, k = (short(call.get(n, d)) for n, d in (("alpha", 1e-4), ("beta", 0.75), ("bias", 1.0)))
    call.function(partial(F.local_response_norm, size=size, alpha=alpha, beta=beta, k=k), Ref(call.node.inputs[0]))


# ---------------------------------------------------------------- activations


def activation(name: str, function: Callable[..., Any]) -> None:
    @handles(name)
    def add(call: Call) -> None:
        call.function(function, Ref(call.node.inputs[0]))


for _name, _function in (
    ("Relu", F.relu),
    ("Sigmoid", F.sigmoid),
    ("Tanh", F.tanh),
    ("Softplus", F.softplus),
    ("Mish", F.mish),
    ("HardSwish", F.hardswish),
    ("Selu", F.selu),
    ("Swish", F.silu),
    ("Softsign", F.softsign),
    ("Erf", torch.erf),
    ("Exp", torch.exp),
    ("Log", torch.log),
    ("Reciprocal", torch.reciprocal),
    ("Sqrt", torch.sqrt),
    ("Abs", torch.abs),
    ("Neg", torch.neg),
    ("Sin", torch.sin),
    ("Cos", torch.cos),
):
    activation(_name, _function)


@handles("Gelu")
def gelu(call: Call) -> None:
    call.function(partial(F.gelu, approximate=call.get("approximate", "none")), Ref(call.node.inputs[0]))


@handles("LeakyRelu")
def leaky_relu(call: Call) -> None:
    call.function(partial(F.leaky_relu, negative_slope=short(call.get("alpha", 0.01))), Ref(call.node.inputs[0]))


@handles("Elu")
def elu(call: Call) -> None:
    call.function(partial(F.elu, alpha=short(call.get("alpha", 1.0))), Ref(call.node.inputs[0]))


@handles("PRelu")
def prelu(call: Call) -> None:
    slope = call.weight(1).reshape(-1)
    call.layer(partial(nn.PReLU, len(slope)), {"weight": slope})


@handles("HardSigmoid")
def hard_sigmoid(call: Call) -> None:
    alpha, beta = call.get("alpha", 0.2), call.get("beta", 0.5)
    if not (math.isclose(alpha, 1 / 6, rel_tol=1e-5) and beta == 0.5):
        raise call.refused(f"has alpha = {alpha:.4g} and beta = {beta:.4g}; `hardsigmoid` has 1/6 and 0.5")
    call.function(F.hardsigmoid, Ref(call.node.inputs[0]))


@handles("Clip")
def clip(call: Call) -> None:
    low, high = (
        call.constant(at).item() if call.constant(at) is not None else call.get(name)
        for at, name in ((1, "min"), (2, "max"))
    )
    limits = {name: short(limit) for name, limit in (("min", low), ("max", high)) if limit is not None}
    if limits == {"min": 0, "max": 6}:
        call.function(F.relu6, Ref(call.node.inputs[0]))
    elif limits:
        call.function(partial(torch.clamp, **limits), Ref(call.node.inputs[0]))
    else:
        call.function(torch.clone, Ref(call.node.inputs[0]))


@handles("Softmax", "LogSoftmax")
def softmax(call: Call) -> None:
    rank = len(call.shape())
    axis = call.get("axis", -1 if call.graph.opset >= 13 else 1)
    if call.graph.opset < 13 and axis % rank != rank - 1:
        raise call.refused("is over several axes")
    function = F.softmax if call.node.operator == "Softmax" else F.log_softmax
    call.function(partial(function, dim=axis), Ref(call.node.inputs[0]))


# ---------------------------------------------------------------- merges


def merge(name: str, function: Callable[[Any, Any], Any]) -> None:
    @handles(name)
    def add(call: Call) -> None:
        if len(call.node.inputs) != 2:
            raise call.refused(f"takes {len(call.node.inputs)} tensors")
        call.function(lambda a, b: function(number(a), number(b)), call.tensor(0), call.tensor(1))


def number(given: Any) -> Any:
    """A number that was computed as one of Python; else as it is."""
    return given.item() if isinstance(given, np.ndarray | np.generic) and given.size == 1 else given


for _name, _function in (
    ("Add", operator.add),
    ("Mul", operator.mul),
    ("Sub", operator.sub),
    ("Div", operator.truediv),
    ("Max", torch.maximum),
    ("Min", torch.minimum),
    ("Pow", operator.pow),
):
    merge(_name, _function)


@handles("Sum")
def total(call: Call) -> None:
    if len(call.node.inputs) != 2:
        raise call.refused(f"adds {len(call.node.inputs)} tensors")
    call.function(torch.add, call.tensor(0), call.tensor(1))


@handles("Concat")
def concat(call: Call) -> None:
    parts = [call.tensor(at, of_samples=call.attributes["axis"] != 0) for at in range(len(call.node.inputs))]
    join = torch.cat if call.program.batches is None else partial(joined, torch.cat)
    call.function(lambda parts: join(parts, call.attributes["axis"]), parts)


@handles("Einsum")
def einsum(call: Call) -> None:
    text = call.attributes["equation"]
    text = text.decode() if isinstance(text, bytes) else text
    call.function(lambda *parts: torch.einsum(text, *parts), *(call.tensor(at) for at in range(len(call.node.inputs))))
