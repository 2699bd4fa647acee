"""edges, compiled by archdsl 0.2.0 from edges.arch (sha256 824fb4db8d82).

image [1, H, W] -> [2, H - 1, W - 1]; H, W: any from 2.
"""

from typing import Any, TypedDict

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Factory(TypedDict, total=False):
    """Where the parameters of a module are made, and of which type."""

    device: torch.device | str | None
    dtype: torch.dtype | None


class FlippedConv2d(nn.Conv2d):
    """The kernel is flipped, as signal processing defines a convolution."""

    def forward(self, input: Tensor) -> Tensor:
        weight = self.weight.flip(2, 3)
        input = self._conv_forward(input, weight, self.bias)
        return input


def filled(module: nn.Module, frozen: bool = False, **numbers: list[Any]) -> nn.Module:
    """The module with parameters that start from given numbers, frozen ones for good."""
    for name, parameter in module.named_parameters():
        if name in numbers:
            parameter.data.copy_(torch.tensor(numbers[name]))
        parameter.requires_grad_(not (frozen and (name in numbers or not numbers)))
    return module


def crop_to_smallest(*tensors: Tensor) -> list[Tensor]:
    """The tensors, each cropped around its centre to the smallest of their sizes."""
    sizes = list(tensors[0].shape[2:])
    for x in tensors[1:]:
        sizes = [min(a, b) for a, b in zip(sizes, x.shape[2:])]
    cropped = list(tensors)
    for axis, size in enumerate(sizes, 2):
        over = [x.shape[axis] - size for x in tensors]
        if torch.compiler.is_exporting():  # it cannot prove that slices stay inside
            edges = [[0, 0] * (x.dim() - 1 - axis) for x in tensors]
            cropped = [
                F.pad(x, [*edge, -(n // 2), n // 2 - n])
                for x, edge, n in zip(cropped, edges, over)
            ]
        else:
            cropped = [x.narrow(axis, n // 2, size) for x, n in zip(cropped, over)]
    return cropped


def check_size(name: str, size: int) -> None:
    """Raises ValueError unless a size of the input is at least 2."""
    if size >= 2:
        return
    raise ValueError(f"edges: {name} must be at least 2, got {size}; the nearest is 2")


def dynamic_shapes() -> tuple[dict[int, Any], ...]:
    """The sizes that torch.export may leave free: the batch, H, W."""
    from torch.export import Dim  # slow to import, and needed here alone

    batch = Dim("batch")
    h = Dim("h", min=3)
    w = Dim("w", min=3)
    return ({0: batch, 2: h, 3: w},)


class Edges(nn.Module):
    """The differences along each axis of an image: how steep it is to the right, and
    downwards.
    """

    def __init__(
        self, device: torch.device | str | None = None, dtype: torch.dtype | None = None
    ) -> None:
        super().__init__()
        kw: Factory = {"device": device, "dtype": dtype}
        self.across = filled(
            FlippedConv2d(1, 1, (1, 2), bias=False, **kw), frozen=True, weight=[[1, -1]]
        )
        self.down = filled(
            FlippedConv2d(1, 1, (2, 1), bias=False, **kw),
            frozen=True,
            weight=[[1], [-1]],
        )

    def forward(self, x: Tensor) -> Tensor:
        check_size("H", x.shape[2])
        check_size("W", x.shape[3])
        x, y = crop_to_smallest(self.across(x), self.down(x))
        return torch.cat([x, y], 1)  # [2, H - 1, W - 1]
