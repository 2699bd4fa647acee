"""Layers from outside, as the tests' specs name them: `extern NAME(…) = "tests.outside:Name" { … }`."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch import relu as passed_on  # noqa: F401  # what the module only passes on


class Outside(nn.Module):
    """A linear layer at each position that counts its steps of training in what it adds."""

    def __init__(self, channels: int, width: int, bias: bool = True) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(width, channels))
        self.inner = nn.Module()
        if bias:
            self.inner.bias = nn.Parameter(torch.zeros(width))
        self.register_buffer("shift", torch.zeros(width))

    def forward(self, x: Tensor) -> Tensor:
        shift = self.shift.clone()
        if self.training:
            self.shift.add_(1)
        shift = shift + self.inner.bias if hasattr(self.inner, "bias") else shift
        product = torch.einsum("nc...,oc->no...", x, self.weight)
        return product + shift.reshape(-1, *[1] * (x.ndim - 2))


class Halves(nn.Module):
    """Two results: the first half of the channels and, at every second position, the other one."""

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        a, b = x.chunk(2, 1)
        return a, b[:, :, ::2]


class Overwriting(nn.Module):
    """Overwrites what it is given."""

    def forward(self, x: Tensor) -> Tensor:
        return x.mul_(2)


class Plain:
    """A class that is no module."""

    def __init__(self, *arguments: object) -> None:
        raise AssertionError("made, though it is no nn.Module")


def bend(x: Tensor, factor: float, name: str = "tanh") -> Tensor:
    """A function with an argument that is text."""
    assert name in ("tanh", "sin"), name
    return getattr(torch, name)(x * factor)


def blend(a: Tensor, b: Tensor, share: float) -> Tensor:
    """A function of two tensors."""
    return share * a + (1 - share) * b


def untrue(x: Tensor) -> Tensor:
    """Not the size that specs declare."""
    return x[:, :, 1:]


value = 3
"""Neither a class nor a function."""


class Echo(nn.Module):
    """Keeps the text that it is given."""

    def __init__(self, text: str, *, note: object = None) -> None:
        super().__init__()
        self.text, self.note = text, note

    def forward(self, x: Tensor) -> Tensor:
        return x
