"""Modules that drop whole samples while they train, recognised by what they do."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, nn

SAMPLES = 4096
FAR = 0.05
"""The largest difference between the part of samples that are dropped and the probability: six standard deviations."""


def drop_probability(module: nn.Module, rank: int | None = None) -> float | None:
    """The probability with which a module drops samples in training, dividing what it keeps; None if it does not.

    It does so for tensors with so many axes beside the batch, or for some if none are given. The probability is one of
    its attributes, as it is: 0.2, not what 32 bits make of it.
    """
    if any(module.children()) or any(True for _ in (*module.parameters(), *module.buffers())):
        return None
    if type(module).__module__.startswith("torch.nn."):
        return None
    rates = {value for value in vars(module).values() if type(value) is float and 0 < value < 1}
    if not rates:
        return None
    mode = module.training
    try:
        with torch.random.fork_rng(devices=[]), torch.device("cpu"), torch.enable_grad():
            torch.manual_seed(0)
            ranks = (3, 2, 1) if rank is None else (rank,)
            return next((p for axes in ranks for p in probabilities(rates) if drops(module, p, axes)), None)
    finally:
        module.training = mode


def probabilities(rates: set[float]) -> Iterator[float]:
    """Attributes are probabilities of dropping, or of keeping."""
    yield from sorted(rates)
    yield from sorted(float(f"{1 - rate:.12g}") for rate in rates)


def drops(module: nn.Module, p: float, rank: int) -> bool:
    """Whether a module drops samples of tensors with so many axes beside the batch, with this probability."""
    x = torch.randn(SAMPLES, 2, *[1] * (rank - 1)).requires_grad_()
    try:
        module.training = False
        same = called(module, x)
        module.training = True
        found = called(module, x)
    except Exception:  # whatever a module of others raises
        return False
    if not torch.equal(same, x) or found.shape != x.shape:
        return False
    factors = (found / x).flatten(1)
    (gradient,) = torch.autograd.grad(found.sum(), x)
    wanted = torch.where(factors[:, :1] == 0, 0, 1 / (1 - p))
    if not torch.allclose(factors, wanted.expand_as(factors), 1e-5) or not torch.allclose(gradient.flatten(1), factors):
        return False
    return abs(float((factors[:, 0] == 0).float().mean()) - p) < FAR


def called(module: nn.Module, x: Tensor) -> Tensor:
    """What `forward` alone gives: hooks may belong to a run that is recorded."""
    found = module.forward(x.view_as(x))
    if not isinstance(found, Tensor):
        raise TypeError("no tensor")
    return found
