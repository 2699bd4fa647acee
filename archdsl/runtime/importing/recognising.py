"""Modules that are written out in another way than the language's layers, recognised by what they compute.

A guess by the names and shapes of their weights is compared with the module on random numbers and weights.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call

from archdsl.dims import DimError
from archdsl.ops import OPERATIONS
from archdsl.ops.base import Rules
from archdsl.ops.declaration import OperationError
from archdsl.ops.forms import ModuleForm
from archdsl.runtime.importing.generated import defined
from archdsl.runtime.importing.layers import Wording
from archdsl.runtime.importing.recorded import ScopeCall

EPSILONS = ("eps", "epsilon", "variance_epsilon", "norm_eps")
"""The names that normalisations give to the number that keeps them from dividing by 0."""
DIGITS = 12
"""The digits of a factor that is found by computing."""


def normalisation(call: ScopeCall) -> tuple[Wording, bool] | None:
    """The normalisation over the channels that a module is, and whether these are last; None if it is none."""
    module, state = call.module, call.module.state_dict()
    if {*state} not in ({"weight", "bias"}, {"weight"}) or any(module.children()):
        return None
    if len(call.taken) != 1 or len(call.given) != 1 or call.taken[0].shapes != call.given[0].shapes:
        return None
    shape = call.taken[0].shapes[0]
    count = state["weight"].numel()
    if any(tensor.shape != (count,) for tensor in state.values()):
        return None
    generator = torch.Generator().manual_seed(0)
    weights = {key: torch.randn(count, generator=generator) for key in state}
    for is_last in (False, True):
        if shape[-1 if is_last else 1] != count:
            continue
        sizes = [2, *(3 + i for i in range(len(shape) - 2))]
        sizes.insert(len(sizes) if is_last else 1, count)
        x = torch.randn(sizes, generator=generator) + 0.5
        for found, wanted in candidates(module, x if is_last else x.movedim(1, -1), weights):
            if is_like(module, weights, x, wanted if is_last else wanted.movedim(-1, 1)):
                return found, is_last
    return None


def candidates(module: nn.Module, x: Tensor, weights: dict[str, Tensor]) -> Iterator[tuple[Wording, Tensor]]:
    """Operations with what they compute of a tensor with the channels last."""
    eps = next((float(v) for name in EPSILONS if isinstance(v := getattr(module, name, None), int | float)), 1e-6)
    weight, bias = weights["weight"], weights.get("bias")
    given = {} if bias is not None else {"bias": False}
    known = {} if eps == 1e-5 else {"eps": eps}
    yield Wording("layernorm", {**known, **given}), F.layer_norm(x, weight.shape, weight, bias, eps)
    known = {} if eps == 1e-6 else {"eps": eps}
    if bias is None:
        yield Wording("rmsnorm", known), F.rms_norm(x, [*weight.shape], weight, eps)
    elif x.ndim > 2:
        norms = x.norm(dim=tuple(range(1, x.ndim - 1)), keepdim=True)
        yield Wording("grn", known), x + weight * x * norms / (norms.mean(-1, keepdim=True) + eps) + bias


def is_like(module: nn.Module, weights: dict[str, Tensor], x: Tensor, wanted: Tensor) -> bool:
    """Whether a module gives these numbers with these weights."""
    try:
        with torch.no_grad():
            found = functional_call(module, weights, (x,))
    except (RuntimeError, TypeError, ValueError):  # it cannot take a tensor of these sizes
        return False
    return isinstance(found, Tensor) and found.shape == wanted.shape and torch.allclose(found, wanted, 1e-4, 1e-5)


# ---------------------------------------------------------------- convolutions with standardised kernels


def standardised(call: ScopeCall) -> tuple[Wording, bool] | None:
    """The convolution with standardised kernels that a module is, the channels first; None if it is none."""
    module = call.module
    if not isinstance(module, nn.Conv1d | nn.Conv2d | nn.Conv3d) or any(module.children()):
        return None
    if len(call.taken) != 1 or len(call.given) != 1 or not {*module.state_dict()} <= {"weight", "bias", "gain"}:
        return None
    shapes, outputs = (call.taken[0].shapes[0][1:],), (call.given[0].shapes[0][1:],)
    generator, options = torch.Generator().manual_seed(0), {"dtype": torch.float64}  # so that `gamma` is exact
    weights = {key: torch.randn(t.shape, generator=generator, **options) for key, t in module.state_dict().items()}
    x = torch.randn(2, *shapes[0], generator=generator, **options)
    try:
        with torch.no_grad():
            wanted = functional_call(module, weights, (x,))
    except (RuntimeError, TypeError, ValueError):  # it cannot take a tensor of these sizes, or of these numbers
        return None
    for arguments in spellings(module, "gain" in weights):
        found = given_by(arguments, shapes, outputs, weights, x)
        if found is not None and "gain" in weights:
            ratio = _ratio(wanted, found, weights.get("bias"))
            arguments = {**arguments, "gamma": ratio}
            found = given_by(arguments, shapes, outputs, weights, x)
        if found is not None and found.shape == wanted.shape and torch.allclose(found, wanted, 1e-3, 1e-4):
            return Wording("stdconv", arguments), False
    return None


def _ratio(wanted: Tensor, found: Tensor, bias: Tensor | None) -> float:
    """The factor between two results, without their biases."""
    if bias is not None:
        wanted, found = (x - bias.view(-1, *[1] * (x.ndim - 2)) for x in (wanted, found))
    return float(f"{float((wanted * found).sum() / found.square().sum()):.{DIGITS}g}")


def spellings(module: nn.Conv1d | nn.Conv2d | nn.Conv3d, gain: bool) -> Iterator[dict[str, object]]:
    """Calls of `stdconv` that may be a module, with one padding or another."""
    given: dict[str, object] = {"out": module.out_channels, "kernel": _one(module.kernel_size)}
    numbers = {"stride": _one(module.stride), "dilation": _one(module.dilation), "groups": module.groups}
    given |= {name: value for name, value in numbers.items() if value != 1}
    given |= {} if module.bias is not None else {"bias": False}
    eps = next((float(v) for name in EPSILONS if isinstance(v := getattr(module, name, None), int | float)), 1e-6)
    given |= {} if eps == 1e-6 else {"eps": eps}
    given |= {"gamma": 1.0} if gain else {}
    for pad in (
        {},
        {"pad": "same_upper"},
        {"pad": module.padding if isinstance(module.padding, str) else _one(module.padding)},
    ):
        yield {**given, **pad}


def _one(values: tuple[int, ...]) -> object:
    return values[0] if len(set(values)) == 1 else values


def given_by(
    arguments: dict[str, object],
    shapes: tuple[tuple[int, ...], ...],
    outputs: tuple[tuple[int, ...], ...],
    weights: dict[str, Tensor],
    x: Tensor,
) -> Tensor | None:
    """What `stdconv` gives; None where it gives other sizes, or takes no such arguments."""
    try:
        operation = OPERATIONS["stdconv"].parse(arguments)
        if operation.infer(shapes, Rules()) != outputs:
            return None
        form = operation.torch(shapes, outputs)
    except (OperationError, DimError):
        return None
    assert isinstance(form, ModuleForm) and form.helper is not None
    positional = [a.value for a in form.arguments if a.name is None]
    layer = defined(form.constructor, form.helper)(
        *positional, **{a.name: a.value for a in form.arguments if a.name is not None}
    )
    with torch.no_grad():
        found = functional_call(layer, weights, (x,))
    return found if isinstance(found, Tensor) else None
