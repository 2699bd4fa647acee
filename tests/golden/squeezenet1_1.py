"""squeezenet1_1, compiled by archdsl 0.2.0 from squeezenet.arch (sha256 18ebd0e05e73).

image [3, H, W] -> [1000]; H, W: any from 17.
"""

from typing import Any, TypedDict, Unpack

import torch
from torch import Tensor, nn


class Factory(TypedDict, total=False):
    """Where the parameters of a module are made, and of which type."""

    device: torch.device | str | None
    dtype: torch.dtype | None


def check_size(name: str, size: int) -> None:
    """Raises ValueError unless a size of the input is at least 17."""
    if size >= 17:
        return
    raise ValueError(
        f"squeezenet1_1: {name} must be at least 17, got {size}; the nearest is 17"
    )


def dynamic_shapes() -> tuple[dict[int, Any], ...]:
    """The sizes that torch.export may leave free: the batch, H, W."""
    from torch.export import Dim  # slow to import, and needed here alone

    batch = Dim("batch")
    h = Dim.DYNAMIC(min=33)
    w = Dim.DYNAMIC(min=33)
    return ({0: batch, 2: h, 3: w},)


class Fire(nn.Module):
    """A 1x1 convolution that squeezes, then 1x1 and 3x3 ones side by side."""

    def __init__(
        self,
        in_channels: int,
        squeeze_width: int,
        expand_width: int,
        **kw: Unpack[Factory],
    ) -> None:
        super().__init__()
        self.squeeze = nn.Conv2d(in_channels, squeeze_width, 1, **kw)
        self.squeeze_activation = nn.ReLU(inplace=True)
        self.expand1x1 = nn.Conv2d(squeeze_width, expand_width, 1, **kw)
        self.expand1x1_activation = nn.ReLU(inplace=True)
        self.expand3x3 = nn.Conv2d(squeeze_width, expand_width, 3, padding=1, **kw)
        self.expand3x3_activation = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        x = self.squeeze_activation(self.squeeze(x))
        y = self.expand1x1_activation(self.expand1x1(x))
        x = self.expand3x3_activation(self.expand3x3(x))
        return torch.cat([y, x], 1)


class Squeezenet11(nn.Module):
    """SqueezeNet 1.1: the same accuracy for 2.4 times less work."""

    def __init__(
        self, device: torch.device | str | None = None, dtype: torch.dtype | None = None
    ) -> None:
        super().__init__()
        kw: Factory = {"device": device, "dtype": dtype}
        self.features = nn.Sequential(
            nn.Conv2d(3, 64, 3, stride=2, **kw),
            nn.ReLU(inplace=True),
            nn.MaxPool2d(3, stride=2, ceil_mode=True),
            Fire(64, 16, 64, **kw),
            Fire(128, 16, 64, **kw),
            nn.MaxPool2d(3, stride=2, ceil_mode=True),
            Fire(128, 32, 128, **kw),
            Fire(256, 32, 128, **kw),
            nn.MaxPool2d(3, stride=2, ceil_mode=True),
            Fire(256, 48, 192, **kw),
            Fire(384, 48, 192, **kw),
            Fire(384, 64, 256, **kw),
            Fire(512, 64, 256, **kw),
        )
        self.classifier = nn.Sequential(
            nn.Dropout(0.5),
            nn.Conv2d(512, 1000, 1, **kw),
            nn.ReLU(inplace=True),
            nn.AdaptiveAvgPool2d(1),
        )

    def forward(self, x: Tensor) -> Tensor:
        check_size("H", x.shape[2])
        check_size("W", x.shape[3])
        x = self.features(x)  # [512, ⌈H/16⌉ - 1, ⌈W/16⌉ - 1]
        x = self.classifier(x)  # [1000, 1, 1]
        x = x.flatten(1)  # [1000]
        return x
