"""resnet50, compiled by archdsl 0.2.0 from resnet.arch (sha256 b4696e318bec).

image [3, H, W] -> [1000]; any H, W.
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
    h = Dim("h", min=33)
    w = Dim("w", min=33)
    return ({0: batch, 2: h, 3: w},)


class Bottleneck(nn.Module):
    """Three convolutions that narrow, look and widen, around a skip."""

    def __init__(
        self, in_channels: int, width: int, stride: int = 1, **kw: Unpack[Factory]
    ) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, width, 1, bias=False, **kw)
        self.bn1 = nn.BatchNorm2d(width, **kw)
        self.relu = nn.ReLU(inplace=True)
        self.conv2 = nn.Conv2d(
            width, width, 3, stride=stride, padding=1, bias=False, **kw
        )
        self.bn2 = nn.BatchNorm2d(width, **kw)
        self.conv3 = nn.Conv2d(width, 4 * width, 1, bias=False, **kw)
        self.bn3 = nn.BatchNorm2d(4 * width, **kw)
        self.downsample = (
            nn.Sequential(
                nn.Conv2d(in_channels, 4 * width, 1, stride=stride, bias=False, **kw),
                nn.BatchNorm2d(4 * width, **kw),
            )
            if stride != 1 or in_channels != 4 * width
            else nn.Identity()
        )

    def forward(self, x: Tensor) -> Tensor:
        y = self.relu(self.bn1(self.conv1(x)))
        y = self.relu(self.bn2(self.conv2(y)))
        y = self.bn3(self.conv3(y))
        y += self.downsample(x)
        x = self.relu(y)
        return x


class Stage(nn.Sequential):
    """Blocks at one resolution; the first one may halve it."""

    def __init__(
        self,
        in_channels: int,
        width: int,
        count: int,
        stride: int,
        **kw: Unpack[Factory],
    ) -> None:
        super().__init__(
            Bottleneck(in_channels, width, stride=stride, **kw),
            *(Bottleneck(4 * width, width, **kw) for _ in range(count - 1)),
        )


class Resnet50(nn.Module):
    """A deep residual network."""

    def __init__(
        self, device: torch.device | str | None = None, dtype: torch.dtype | None = None
    ) -> None:
        super().__init__()
        kw: Factory = {"device": device, "dtype": dtype}
        self.conv1 = nn.Conv2d(3, 64, 7, stride=2, padding=3, bias=False, **kw)
        self.bn1 = nn.BatchNorm2d(64, **kw)
        self.relu = nn.ReLU(inplace=True)
        self.maxpool = nn.MaxPool2d(3, stride=2, padding=1)
        self.layer1 = Stage(64, 64, 3, 1, **kw)
        self.layer2 = Stage(256, 128, 4, 2, **kw)
        self.layer3 = Stage(512, 256, 6, 2, **kw)
        self.layer4 = Stage(1024, 512, 3, 2, **kw)
        self.global_avgpool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(2048, 1000, **kw)

    def forward(self, x: Tensor) -> Tensor:
        x = self.relu(self.bn1(self.conv1(x)))  # [64, ⌈H/2⌉, ⌈W/2⌉]
        x = self.maxpool(x)  # [64, ⌈H/4⌉, ⌈W/4⌉]
        x = self.layer1(x)  # [256, ⌈H/4⌉, ⌈W/4⌉]
        x = self.layer2(x)  # [512, ⌈H/8⌉, ⌈W/8⌉]
        x = self.layer3(x)  # [1024, ⌈H/16⌉, ⌈W/16⌉]
        x = self.layer4(x)  # [2048, ⌈H/32⌉, ⌈W/32⌉]
        x = self.global_avgpool(x).flatten(1)  # [2048]
        x = self.fc(x)  # [1000]
        return x
