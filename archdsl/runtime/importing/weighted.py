"""Functions that are called with weights, `F.conv2d(x, self.weight, self.bias)`, as the layers of these weights."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from math import gcd
from typing import Any

import torch
from torch import nn

from archdsl.runtime.importing.layers import NoOperation
from archdsl.runtime.importing.origins import JOINS, Span, owned_with_zeros
from archdsl.runtime.importing.recorded import Call, Constant, Derived, Owned

Arguments = Mapping[str, Any]


def _convolution(given: Arguments) -> nn.Module:
    weight = given["weight"].shape
    cls = (nn.Conv1d, nn.Conv2d, nn.Conv3d)[len(weight) - 3]
    groups = given.get("groups", 1)
    options = {name: given[name] for name in ("stride", "padding", "dilation") if name in given}
    return cls(weight[1] * groups, weight[0], weight[2:], groups=groups, bias=given.get("bias") is not None, **options)


def _linear(given: Arguments) -> nn.Module:
    weight = given["weight"].shape
    return nn.Linear(weight[1], weight[0], given.get("bias") is not None)


def _layer_norm(given: Arguments) -> nn.Module:
    affine = {"elementwise_affine": given.get("weight") is not None, "bias": given.get("bias") is not None}
    return nn.LayerNorm(given["normalized_shape"], given.get("eps", 1e-5), **affine)


def _rms_norm(given: Arguments) -> nn.Module:
    return nn.RMSNorm(given["normalized_shape"], given.get("eps"), given.get("weight") is not None)


def _group_norm(given: Arguments) -> nn.Module:
    if (given.get("weight") is None) is not (given.get("bias") is None):
        raise NoOperation("`group_norm` without a weight or a bias")
    channels, affine = given["input"].shapes[0][1], given.get("weight") is not None
    return nn.GroupNorm(given["num_groups"], channels, given.get("eps", 1e-5), affine)


def _batch_norm(given: Arguments) -> nn.Module:
    if given.get("running_mean") is None:
        raise NoOperation("`batch_norm` without running statistics")
    features, affine = given["running_mean"].shape[0], given.get("weight") is not None
    return nn.BatchNorm2d(features, given.get("eps", 1e-5), given.get("momentum", 0.1), affine)


FUNCTIONS: Mapping[str, tuple[tuple[str, ...], Callable[[Arguments], nn.Module]]] = {
    **dict.fromkeys(
        ("conv1d", "conv2d", "conv3d"),
        (("input", "weight", "bias", "stride", "padding", "dilation", "groups"), _convolution),
    ),
    "linear": (("input", "weight", "bias"), _linear),
    "layer_norm": (("input", "normalized_shape", "weight", "bias", "eps"), _layer_norm),
    "rms_norm": (("input", "normalized_shape", "weight", "eps"), _rms_norm),
    "group_norm": (("input", "num_groups", "weight", "bias", "eps"), _group_norm),
    "batch_norm": (
        ("input", "running_mean", "running_var", "weight", "bias", "training", "momentum", "eps"),
        _batch_norm,
    ),
}
"""The functions with weights, the names of their arguments, and the layer that calls each."""


def with_its_layer(call: Call, root: nn.Module) -> Call:
    """A call of a function with a module's own weights as the call of a layer that has them; others as they are.

    Raises NoOperation for weights that are no one module's, or that have other names than the layer's.
    """
    if call.module is not None or call.name not in FUNCTIONS:
        return call
    names, maker = FUNCTIONS[call.name]
    given = {**dict(zip(names, call.arguments, strict=False)), **call.named}
    more: dict[str, object] = {}
    if (partly := owned_with_zeros(given.get("bias"))) is not None:
        given["bias"], zeros = partly
        more = {"bias": biased(call, partly[0].shape[0], zeros)} if zeros else {}
    owned = {name: value for name, value in given.items() if isinstance(value, Owned)}
    if not owned and not any(isinstance(value, Derived) for value in given.values()):
        return without_weights(call, given, maker)
    if any(isinstance(value, Derived | Constant) for value in given.values()):
        raise NoOperation(f"`{call.name}` with a weight that is computed from parameters")
    paths = set()
    for name, value in owned.items():
        path, _, last = value.key.rpartition(".")
        if last != name or not value.is_plain:
            raise NoOperation(f"`{call.name}` is called with `{value.key}` as its {name}")
        paths.add(path)
    if len(paths) > 1:
        raise NoOperation(f"`{call.name}` is called with weights of several modules: {', '.join(sorted(paths))}")
    try:
        with torch.device("meta"):
            layer = maker(given)
    except (TypeError, ValueError, AttributeError) as error:
        raise NoOperation(f"`{call.name}`: {error}") from None
    (path,) = paths
    if isinstance(own := root.get_submodule(path), nn.BatchNorm1d | nn.BatchNorm2d | nn.BatchNorm3d):
        layer = _like(own)
    taken = tuple(value for value in (given["input"],) if not isinstance(value, Owned))
    again = call.again[:1] if call.again else (call.again_named["input"],) if "input" in call.again_named else ()
    return Call(type(layer).__name__, path, taken, {}, call.results, call.line, layer, again, more=more)


def without_weights(call: Call, given: Arguments, maker: Callable[[Arguments], nn.Module]) -> Call:
    """A normalisation without weights as the call of a layer that has none; others as they are."""
    if given.get("weight") is not None or given.get("bias") is not None or not call.name.endswith("_norm"):
        return call
    try:
        layer = maker(given)
    except (TypeError, ValueError, AttributeError) as error:
        raise NoOperation(f"`{call.name}`: {error}") from None
    again = call.again[:1] if call.again else ()
    return Call(type(layer).__name__, "", (given["input"],), {}, call.results, call.line, layer, again)


def parted_bias(call: Call) -> list[Owned] | None:
    """The parts of the bias of a linear layer that is put together of several."""
    bias = call.arguments[2] if len(call.arguments) > 2 else call.named.get("bias")
    if call.name != "linear" or call.module is not None or not isinstance(bias, Derived):
        return None
    parts = bias.arguments[0] if bias.name in JOINS and bias.arguments else ()
    plain = isinstance(parts, tuple) and all(isinstance(p, Owned) and p.is_plain and len(p.stored) == 1 for p in parts)
    return [*parts] if parts and plain else None


def biased(call: Call, count: int, zeros: Sequence[Span]) -> tuple[bool, ...]:
    """For equal parts of the outputs, whether they have a bias; it is 0 in `zeros`. Raises NoOperation."""
    each = gcd(count, *(end for span in zeros for end in span))
    if call.name != "linear" or zeros == [(0, count)]:
        raise NoOperation(f"`{call.name}` with a bias of which a part is 0")
    return tuple(not any(start <= i * each < stop for start, stop in zeros) for i in range(count // each))


def _like(own: nn.Module) -> nn.Module:
    """A batch normalisation with the momentum that the module has, which it may not pass on in evaluation."""
    cls = next(c for c in type(own).__mro__ if c.__module__.startswith("torch.nn."))
    with torch.device("meta"):
        return cls(own.num_features, own.eps, own.momentum, own.affine, own.track_running_stats)
