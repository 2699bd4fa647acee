"""vgg16_bn, compiled by archdsl 0.2.0 from vgg.arch (sha256 703bbfc52b8c).

image [3, H, W] -> [1000]; H, W: any from 32.
"""

from typing import Any, TypedDict

import torch
from torch import Tensor, nn


class Factory(TypedDict, total=False):
    """Where the parameters of a module are made, and of which type."""

    device: torch.device | str | None
    dtype: torch.dtype | None


def check_size(name: str, size: int) -> None:
    """Raises ValueError unless a size of the input is at least 32."""
    if size >= 32:
        return
    raise ValueError(
        f"vgg16_bn: {name} must be at least 32, got {size}; the nearest is 32"
    )


def dynamic_shapes() -> tuple[dict[int, Any], ...]:
    """The sizes that torch.export may leave free: the batch, H, W."""
    from torch.export import Dim  # slow to import, and needed here alone

    batch = Dim("batch")
    h = Dim("h", min=64)
    w = Dim("w", min=64)
    return ({0: batch, 2: h, 3: w},)


class Vgg16Bn(nn.Module):
    """Stacks of 3x3 convolutions: `counts` of them at each of five resolutions."""

    def __init__(
        self, device: torch.device | str | None = None, dtype: torch.dtype | None = None
    ) -> None:
        super().__init__()
        kw: Factory = {"device": device, "dtype": dtype}
        layers: list[nn.Module] = []
        in_channels = 3
        for width, count in zip((64, 128, 256, 512, 512), (2, 2, 3, 3, 3)):
            for _ in range(count):
                layers += [
                    nn.Conv2d(in_channels, width, 3, padding=1, **kw),
                    nn.BatchNorm2d(width, **kw),
                    nn.ReLU(inplace=True),
                ]
                in_channels = width
            layers.append(nn.MaxPool2d(2))
        self.features = nn.Sequential(*layers)
        self.avgpool = nn.AdaptiveAvgPool2d(7)
        self.classifier = nn.Sequential(
            nn.Linear(25088, 4096, **kw),
            nn.ReLU(inplace=True),
            nn.Dropout(0.5),
            nn.Linear(4096, 4096, **kw),
            nn.ReLU(inplace=True),
            nn.Dropout(0.5),
            nn.Linear(4096, 1000, **kw),
        )

    def forward(self, x: Tensor) -> Tensor:
        check_size("H", x.shape[2])
        check_size("W", x.shape[3])
        x = self.features(x)  # [512, ⌊H/32⌋, ⌊W/32⌋]
        x = self.avgpool(x)  # [512, 7, 7]
        x = x.flatten(1)  # [25088]
        x = self.classifier(x)  # [1000]
        return x
