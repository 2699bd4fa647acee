"""The operators of torch.export as layers and functions of PyTorch: only those named here are called."""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

NOTHING = frozenset({"_assert_scalar", "sym_constrain_range_for_size", "_assert_tensor_metadata", "_assert_async"})
"""Operators that only check."""

VIEWS = frozenset(
    {
        *("select", "slice", "view", "transpose", "permute", "expand", "squeeze", "unsqueeze", "chunk", "split"),
        *("split_with_sizes", "unflatten", "unbind", "alias", "detach", "narrow", "getitem"),
    }
)
"""Operators whose results share their numbers with what they take."""

NUMBERS: Mapping[str, Callable[..., Any]] = {
    "sym_size": lambda x, axis: x.shape[axis],
    "mul": operator.mul,
    "add": operator.add,
    "sub": operator.sub,
    "floordiv": operator.floordiv,
    "mod": operator.mod,
    "truediv": operator.truediv,
    "neg": operator.neg,
    "sym_max": max,
    "sym_min": min,
}
"""Operators on sizes."""


def _slice(x: Any, axis: int = 0, start: int | None = None, end: int | None = None, step: int = 1) -> Any:
    rank = x.ndim
    index = [slice(None)] * rank
    index[axis % rank] = slice(start or 0, None if end is None or end > 2**62 else end, step)
    return x[tuple(index)]


def _select(x: Any, axis: int, index: int) -> Any:
    return x[(slice(None),) * (axis % x.ndim) + (index,)]


def _nearest(x: Any, size: Any, scales: Any = None) -> Any:
    return F.interpolate(x, size=size) if size is not None else F.interpolate(x, scale_factor=whole(scales))


def _hardtanh(x: Any, low: float = -1.0, high: float = 1.0) -> Any:
    return F.relu6(x) if (low, high) == (0, 6) else F.hardtanh(x, low, high)


def _linear(mode: str) -> Callable[..., Any]:
    def resize(x: Any, size: Any, corners: bool, scales: Any = None) -> Any:
        given: dict[str, Any] = {"size": size} if size is not None else {"scale_factor": whole(scales)}
        return F.interpolate(x, **given, mode=mode, align_corners=corners)

    return resize


def whole(scales: Any) -> Any:
    """Factors as ints where they are whole, and as one if they are equal."""
    found = tuple(int(s) if float(s).is_integer() else s for s in scales)
    return found[0] if len(set(found)) == 1 else found


def _of_torch(*names: str) -> dict[str, Callable[..., Any]]:
    return {name: getattr(torch, name) for name in names}


def _of_functional(*names: str) -> dict[str, Callable[..., Any]]:
    return {name: getattr(F, name) for name in names}


def _of_tensor(*names: str) -> dict[str, Callable[..., Any]]:
    return {name: partial(_method, name) for name in names}


def _method(name: str, x: Any, *given: Any, **named: Any) -> Any:
    return getattr(x, name)(*given, **named)


FUNCTIONS: Mapping[str, Callable[..., Any]] = {
    **_of_functional(
        *("relu", "relu6", "gelu", "silu", "hardswish", "hardsigmoid", "softplus", "mish", "selu", "elu", "celu"),
        *("leaky_relu", "max_pool1d", "max_pool2d", "max_pool3d", "avg_pool1d"),
        *("avg_pool2d", "avg_pool3d", "adaptive_avg_pool1d", "adaptive_avg_pool2d", "adaptive_avg_pool3d"),
        *("adaptive_max_pool1d", "adaptive_max_pool2d", "pixel_shuffle", "pixel_unshuffle", "dropout", "pad", "glu"),
        *("scaled_dot_product_attention", "normalize", "softsign"),
    ),
    **_of_torch(
        *(
            "add",
            "mul",
            "sub",
            "div",
            "cat",
            "flatten",
            "chunk",
            "split",
            "mean",
            "matmul",
            "bmm",
            "maximum",
            "minimum",
        ),
        *("amax", "sum", "roll", "stack", "sigmoid", "tanh", "channel_shuffle", "pow", "exp", "sqrt", "rsqrt", "erf"),
        *("square", "abs", "neg", "log", "reciprocal", "amin", "sin", "cos"),
    ),
    **_of_tensor(
        *(
            "permute",
            "transpose",
            "reshape",
            "view",
            "unsqueeze",
            "squeeze",
            "unflatten",
            "expand",
            "contiguous",
            "repeat",
        ),
        *("clone", "detach", "unbind", "type_as", "expand_as", "t", "clamp", "clamp_min", "clamp_max"),
    ),
    "hardtanh": _hardtanh,
    "softmax": lambda x, axis, kind=None: F.softmax(x, dim=axis),
    "log_softmax": lambda x, axis, kind=None: F.log_softmax(x, dim=axis),
    "linalg_vector_norm": lambda x, order=2, axes=None, keep=False: torch.norm(x, order, axes, keep),
    "split_with_sizes": lambda x, sizes, axis=0: x.split(list(sizes), axis),
    "einsum": lambda text, parts, path=None: torch.einsum(text, *parts),
    "select": _select,
    "slice": _slice,
    "alias": lambda x: x,
    "lift_fresh_copy": lambda x: x,
    "feature_dropout": lambda x, p, training: F.dropout2d(x, p, training),
    "upsample_nearest2d": _nearest,
    "upsample_nearest1d": _nearest,
    "upsample_nearest3d": _nearest,
    "upsample_linear1d": _linear("linear"),
    "upsample_bilinear2d": _linear("bilinear"),
    "upsample_bicubic2d": _linear("bicubic"),
    "upsample_trilinear3d": _linear("trilinear"),
}
"""Functions by the name of their operator, with its arguments."""

Weights = dict[str, Any]
"""The arguments of an operator that are the layer's tensors, by the name of the tensor in the layer."""


def tensors(node: Any, **names: str) -> Weights:
    return {name: found for name, argument in names.items() if (found := node.get(argument)) is not None}


def conv(rank: int, node: Any, sizes: Any) -> tuple[Callable[[], nn.Module], Weights]:
    out, inputs, *kernel = sizes(node.get("weight"))
    groups = node.get("groups", 1)
    make = partial(
        getattr(nn, f"Conv{rank}d"),
        inputs * groups,
        out,
        tuple(kernel),
        stride=spread(node.get("stride", 1), rank),
        padding=node.get("padding", 0)
        if isinstance(node.get("padding", 0), str)
        else spread(node.get("padding", 0), rank),
        dilation=spread(node.get("dilation", 1), rank),
        groups=groups,
        bias=node.get("bias") is not None,
    )
    return make, tensors(node, weight="weight", bias="bias")


def conv_transpose(rank: int, node: Any, sizes: Any) -> tuple[Callable[[], nn.Module], Weights]:
    inputs, out, *kernel = sizes(node.get("weight"))
    groups = node.get("groups", 1)
    make = partial(
        getattr(nn, f"ConvTranspose{rank}d"),
        inputs,
        out * groups,
        tuple(kernel),
        stride=spread(node.get("stride", 1), rank),
        padding=spread(node.get("padding", 0), rank),
        output_padding=spread(node.get("output_padding", 0), rank),
        groups=groups,
        bias=node.get("bias") is not None,
        dilation=spread(node.get("dilation", 1), rank),
    )
    return make, tensors(node, weight="weight", bias="bias")


def spread(given: Any, rank: int) -> tuple[int, ...]:
    found = tuple(given) if isinstance(given, tuple | list) else (given,)
    return found * rank if len(found) == 1 else found


def linear(node: Any, sizes: Any) -> tuple[Callable[[], nn.Module], Weights]:
    out, inputs = sizes(node.get("weight"))
    make = partial(nn.Linear, inputs, out, bias=node.get("bias") is not None)
    return make, tensors(node, weight="weight", bias="bias")


def batch_norm(node: Any, sizes: Any) -> tuple[Callable[[], nn.Module], Weights]:
    (count,) = sizes(node.get("running_mean"))
    rank = max(len(sizes(node.get("input"))) - 2, 1)
    affine = node.get("weight") is not None
    make = partial(
        getattr(nn, f"BatchNorm{rank}d"), count, eps=node.get("eps", 1e-5), momentum=node.get("momentum"), affine=affine
    )
    names = {"weight": "weight", "bias": "bias", "running_mean": "running_mean", "running_var": "running_var"}
    return make, tensors(node, **names)


def layer_norm(node: Any, sizes: Any) -> tuple[Callable[[], nn.Module], Weights]:
    affine, bias = node.get("weight") is not None, node.get("bias") is not None
    shape = node.get("normalized_shape")
    make = partial(nn.LayerNorm, shape, eps=node.get("eps", 1e-5), elementwise_affine=affine, bias=bias)
    return make, tensors(node, weight="weight", bias="bias")


def group_norm(node: Any, sizes: Any) -> tuple[Callable[[], nn.Module], Weights]:
    affine = node.get("weight") is not None
    channels = sizes(node.get("input"))[1]
    make = partial(nn.GroupNorm, node.get("num_groups"), channels, eps=node.get("eps", 1e-5), affine=affine)
    return make, tensors(node, weight="weight", bias="bias")


def instance_norm(node: Any, sizes: Any) -> tuple[Callable[[], nn.Module], Weights]:
    affine, shape = node.get("weight") is not None, sizes(node.get("input"))
    make = partial(getattr(nn, f"InstanceNorm{len(shape) - 2}d"), shape[1], eps=node.get("eps", 1e-5), affine=affine)
    return make, tensors(node, weight="weight", bias="bias")


def prelu(node: Any, sizes: Any) -> tuple[Callable[[], nn.Module], Weights]:
    return partial(nn.PReLU, sizes(node.get("weight"))[0]), tensors(node, weight="weight")


LAYERS: Mapping[str, Callable[..., tuple[Callable[[], nn.Module], Weights]]] = {
    **{f"conv{rank}d": partial(conv, rank) for rank in (1, 2, 3)},
    **{f"conv_transpose{rank}d": partial(conv_transpose, rank) for rank in (1, 2, 3)},
    "conv_transpose2d": partial(conv_transpose, 2),
    "linear": linear,
    "batch_norm": batch_norm,
    "layer_norm": layer_norm,
    "group_norm": group_norm,
    "instance_norm": instance_norm,
    "prelu": prelu,
}
"""Operators with weights as layers; `sizes` gives the sizes of an argument."""
