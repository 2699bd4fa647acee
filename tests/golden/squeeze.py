"""net, compiled by archdsl 0.2.0 from squeeze.arch (sha256 b0405ecfb01a).

image [3, H, W] -> [10]; any H, W.
"""

from typing import Any, TypedDict, Unpack

import torch
from torch import Tensor, nn


class Factory(TypedDict, total=False):
    """Where the parameters of a module are made, and of which type."""

    device: torch.device | str | None
    dtype: torch.dtype | None


def dynamic_shapes() -> tuple[dict[int, Any], ...]:
    """The sizes that torch.export may leave free: the batch, H, W."""
    from torch.export import Dim  # slow to import, and needed here alone

    batch = Dim("batch")
    h = Dim("h", min=9)
    w = Dim("w", min=9)
    return ({0: batch, 2: h, 3: w},)


class SqueezeExcite(nn.ModuleDict):
    def __init__(self, in_channels: int, **kw: Unpack[Factory]) -> None:
        super().__init__()
        self.in_channels = in_channels
        self.global_avgpool = nn.AdaptiveAvgPool2d(1)
        self["2"] = nn.Linear(in_channels, in_channels // 4, **kw)
        self.relu = nn.ReLU(inplace=True)
        self["4"] = nn.Linear(in_channels // 4, in_channels, **kw)
        self.sigmoid = nn.Sigmoid()

    def forward(self, x: Tensor) -> Tensor:
        y = self.relu(self["2"](self.global_avgpool(x).flatten(1)))
        y = self.sigmoid(self["4"](y))
        x = x * y.reshape(-1, self.in_channels, 1, 1)
        return x


class Unit(nn.ModuleDict):
    def __init__(
        self,
        in_channels: int,
        width: int,
        expand: int,
        stride: int = 1,
        attend: bool = True,
        **kw: Unpack[Factory],
    ) -> None:
        super().__init__()
        inner = in_channels * expand
        self.attend = attend
        self.with_skip = stride == 1 and in_channels == width
        self["0"] = nn.Conv2d(in_channels, inner, 1, **kw)
        self["1"] = nn.BatchNorm2d(inner, **kw)
        self.silu = nn.SiLU()
        self["3"] = nn.Conv2d(
            inner, inner, 3, stride=stride, padding=1, groups=inner, **kw
        )
        self["4"] = nn.BatchNorm2d(inner, **kw)
        if attend:
            self["6"] = SqueezeExcite(inner, **kw)
        self["7" if attend else "6"] = nn.Conv2d(inner, width, 1, **kw)
        self["8" if attend else "7"] = nn.BatchNorm2d(width, **kw)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.silu(self["1"](self["0"](x)))
        y = self.silu(self["4"](self["3"](y)))
        if self.attend:
            y = self["6"](y)
        y = self["8" if self.attend else "7"](self["7" if self.attend else "6"](y))
        if self.with_skip:
            y += x
        return y


class Net(nn.Sequential):
    def __init__(
        self, device: torch.device | str | None = None, dtype: torch.dtype | None = None
    ) -> None:
        super().__init__()
        kw: Factory = {"device": device, "dtype": dtype}
        self.stem = nn.Conv2d(3, 16, 3, stride=2, padding=1, **kw)
        self.add_module("1", Unit(16, 16, 1, **kw))
        self.add_module("2", Unit(16, 24, 4, stride=2, **kw))
        self.add_module("3", Unit(24, 24, 4, **kw))
        self.add_module("4", Unit(24, 40, 6, stride=2, attend=False, **kw))
        self.add_module("5", Unit(40, 40, 6, attend=False, **kw))
        self.global_avgpool = nn.AdaptiveAvgPool2d(1)
        self.flatten = nn.Flatten()
        self.add_module("8", nn.Linear(40, 10, **kw))
