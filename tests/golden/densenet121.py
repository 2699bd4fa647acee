"""densenet121, compiled by archdsl 0.2.0 from densenet.arch (sha256 007447907e2c).

image [3, H, W] -> [1000]; H, W: any from 29.
"""

from collections import OrderedDict
from typing import Any, TypedDict, Unpack

import torch
from torch import Tensor, nn


class Factory(TypedDict, total=False):
    """Where the parameters of a module are made, and of which type."""

    device: torch.device | str | None
    dtype: torch.dtype | None


def check_size(name: str, size: int) -> None:
    """Raises ValueError unless a size of the input is at least 29."""
    if size >= 29:
        return
    raise ValueError(
        f"densenet121: {name} must be at least 29, got {size}; the nearest is 29"
    )


def dynamic_shapes() -> tuple[dict[int, Any], ...]:
    """The sizes that torch.export may leave free: the batch, H, W."""
    from torch.export import Dim  # slow to import, and needed here alone

    batch = Dim("batch")
    h = Dim("h", min=61)
    w = Dim("w", min=61)
    return ({0: batch, 2: h, 3: w},)


class DenseLayer(nn.Sequential):
    """A 1x1 convolution that narrows, then a 3x3 one that gives `growth` new
    channels.
    """

    def __init__(self, in_channels: int, **kw: Unpack[Factory]) -> None:
        super().__init__()
        self.norm1 = nn.BatchNorm2d(in_channels, **kw)
        self.relu1 = nn.ReLU(inplace=True)
        self.conv1 = nn.Conv2d(in_channels, 128, 1, bias=False, **kw)
        self.norm2 = nn.BatchNorm2d(128, **kw)
        self.relu2 = nn.ReLU(inplace=True)
        self.conv2 = nn.Conv2d(128, 32, 3, padding=1, bias=False, **kw)


class DenseBlock(nn.ModuleDict):
    """Layers that each see the channels of all before them."""

    def __init__(self, in_channels: int, count: int, **kw: Unpack[Factory]) -> None:
        super().__init__()
        for i in range(count):
            self[f"denselayer{i + 1}"] = DenseLayer(in_channels + 32 * i, **kw)

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.children():
            x = torch.cat([x, layer(x)], 1)
        return x


class Transition(nn.Sequential):
    """Half the channels at half the resolution."""

    def __init__(self, in_channels: int, **kw: Unpack[Factory]) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(in_channels, **kw)
        self.relu = nn.ReLU(inplace=True)
        self.conv = nn.Conv2d(in_channels, in_channels // 2, 1, bias=False, **kw)
        self.pool = nn.AvgPool2d(2)


class Densenet121(nn.Module):
    """Dense blocks with transitions between them."""

    def __init__(
        self, device: torch.device | str | None = None, dtype: torch.dtype | None = None
    ) -> None:
        super().__init__()
        kw: Factory = {"device": device, "dtype": dtype}
        self.features = nn.Sequential(
            OrderedDict(
                conv0=nn.Conv2d(3, 64, 7, stride=2, padding=3, bias=False, **kw),
                norm0=nn.BatchNorm2d(64, **kw),
                relu0=nn.ReLU(inplace=True),
                pool0=nn.MaxPool2d(3, stride=2, padding=1),
                denseblock1=DenseBlock(64, 6, **kw),
                transition1=Transition(256, **kw),
                denseblock2=DenseBlock(128, 12, **kw),
                transition2=Transition(512, **kw),
                denseblock3=DenseBlock(256, 24, **kw),
                transition3=Transition(1024, **kw),
                denseblock4=DenseBlock(512, 16, **kw),
                norm5=nn.BatchNorm2d(1024, **kw),
            ),
        )
        self.relu = nn.ReLU(inplace=True)
        self.global_avgpool = nn.AdaptiveAvgPool2d(1)
        self.classifier = nn.Linear(1024, 1000, **kw)

    def forward(self, x: Tensor) -> Tensor:
        check_size("H", x.shape[2])
        check_size("W", x.shape[3])
        x = self.features(x)  # [1024, ⌊(H + 3)/32⌋, ⌊(W + 3)/32⌋]
        x = self.global_avgpool(self.relu(x)).flatten(1)  # [1024]
        x = self.classifier(x)  # [1000]
        return x
