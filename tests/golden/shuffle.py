"""net, compiled by archdsl 0.2.0 from shuffle.arch (sha256 1d08e5f2f676).

image [3, 32, 48] -> [10].
"""

from typing import Any, TypedDict, Unpack

import torch
from torch import Tensor, nn


class Factory(TypedDict, total=False):
    """Where the parameters of a module are made, and of which type."""

    device: torch.device | str | None
    dtype: torch.dtype | None


def dynamic_shapes() -> tuple[dict[int, Any], ...]:
    """The sizes that torch.export may leave free: the batch."""
    from torch.export import Dim  # slow to import, and needed here alone

    batch = Dim("batch")
    return ({0: batch},)


class Shuffle(nn.Module):
    def __init__(self, in_channels: int, groups: int, H: int, W: int) -> None:
        super().__init__()
        self.groups = groups
        self.size2 = in_channels // groups
        self.size3 = H * W
        self.in_channels = in_channels
        self.H = H
        self.W = W

    def forward(self, x: Tensor) -> Tensor:
        x = x.reshape(-1, self.groups, self.size2, self.size3).permute(0, 2, 1, 3)
        x = x.reshape(-1, self.in_channels, self.H, self.W)
        return x


class Unit(nn.Sequential):
    def __init__(
        self,
        in_channels: int,
        width: int,
        groups: int,
        stride: int,
        H: int,
        W: int,
        **kw: Unpack[Factory],
    ) -> None:
        super().__init__(
            nn.Conv2d(in_channels, width, 1, groups=groups, **kw),
            nn.BatchNorm2d(width, **kw),
            nn.ReLU(inplace=True),
            Shuffle(width, groups, H, W),
            nn.Conv2d(width, width, 3, stride=stride, padding=1, groups=width, **kw),
            nn.BatchNorm2d(width, **kw),
        )


class Net(nn.ModuleDict):
    def __init__(
        self, device: torch.device | str | None = None, dtype: torch.dtype | None = None
    ) -> None:
        super().__init__()
        kw: Factory = {"device": device, "dtype": dtype}
        self["0"] = nn.Conv2d(3, 24, 3, padding=1, **kw)
        self["1"] = Unit(24, 48, 2, 2, 32, 48, **kw)
        self["2"] = Unit(48, 48, 3, 1, 16, 24, **kw)
        self["3"] = Unit(48, 96, 4, 2, 16, 24, **kw)
        self.global_avgpool = nn.AdaptiveAvgPool2d(1)
        self["7"] = nn.Linear(96, 10, **kw)

    def forward(self, x: Tensor) -> Tensor:
        x = self["0"](x)  # [24, 32, 48]
        x = self["3"](self["2"](self["1"](x)))  # [96, 8, 12]
        x = x[:, :96]  # [96, 8, 12]
        x = self["7"](self.global_avgpool(x).flatten(1))  # [10]
        return x
