"""Modules that are written out in another way than the language's layers, recognised by what they compute.

A guess by the names and shapes of their weights is compared with the module on random numbers and weights.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call

from archdsl.runtime.importing.layers import Wording
from archdsl.runtime.importing.recording import ScopeCall

EPSILONS = ("eps", "epsilon", "variance_epsilon", "norm_eps")
"""The names that normalisations give to the number that keeps them from dividing by 0."""


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
    if bias is None:
        known = {} if eps == 1e-6 else {"eps": eps}
        yield Wording("rmsnorm", known), F.rms_norm(x, [*weight.shape], weight, eps)


def is_like(module: nn.Module, weights: dict[str, Tensor], x: Tensor, wanted: Tensor) -> bool:
    """Whether a module gives these numbers with these weights."""
    try:
        with torch.no_grad():
            found = functional_call(module, weights, (x,))
    except (RuntimeError, TypeError, ValueError):  # it cannot take a tensor of these sizes
        return False
    return isinstance(found, Tensor) and found.shape == wanted.shape and torch.allclose(found, wanted, 1e-4, 1e-5)
