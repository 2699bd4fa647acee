"""mobilenet_v2, compiled by archdsl 0.2.0 from mobilenet.arch (sha256 1ca94f045bd7).

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


class ConvBn(nn.Sequential):
    """Convolution, normalisation, and an activation that saturates at 6."""

    def __init__(
        self,
        in_channels: int,
        width: int,
        kernel: int = 3,
        stride: int = 1,
        groups: int = 1,
        **kw: Unpack[Factory],
    ) -> None:
        super().__init__(
            nn.Conv2d(
                in_channels,
                width,
                kernel,
                stride=stride,
                padding=kernel // 2,
                groups=groups,
                bias=False,
                **kw,
            ),
            nn.BatchNorm2d(width, **kw),
            nn.ReLU6(inplace=True),
        )


class InvertedResidual(nn.Module):
    """A 1x1 convolution that widens, a depthwise 3x3 one, and a linear one that
    narrows; a skip where the sizes agree.
    """

    def __init__(
        self,
        in_channels: int,
        width: int,
        stride: int,
        expand: int,
        **kw: Unpack[Factory],
    ) -> None:
        super().__init__()
        hidden = expand * in_channels
        self.with_skip = stride == 1 and in_channels == width
        layers: list[nn.Module] = []
        if expand != 1:
            layers.append(ConvBn(in_channels, hidden, kernel=1, **kw))
        layers += [
            ConvBn(hidden, hidden, stride=stride, groups=hidden, **kw),
            nn.Conv2d(hidden, width, 1, bias=False, **kw),
            nn.BatchNorm2d(width, **kw),
        ]
        self.conv = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.conv(x)
        if self.with_skip:
            y += x
        return y


class MobilenetV2(nn.Module):
    """Inverted residuals with linear bottlenecks; `multiplier` scales every width."""

    def __init__(
        self, device: torch.device | str | None = None, dtype: torch.dtype | None = None
    ) -> None:
        super().__init__()
        kw: Factory = {"device": device, "dtype": dtype}
        layers: list[nn.Module] = [ConvBn(3, 32, stride=2, **kw)]
        in_channels = 32
        for expand, width, count, stride in (
            (1, 16, 1, 1),
            (6, 24, 2, 2),
            (6, 32, 3, 2),
            (6, 64, 4, 2),
            (6, 96, 3, 1),
            (6, 160, 3, 2),
            (6, 320, 1, 1),
        ):
            layers += [
                InvertedResidual(in_channels, width, stride, expand, **kw),
                *(
                    InvertedResidual(width, width, 1, expand, **kw)
                    for _ in range(count - 1)
                ),
            ]
            in_channels = width
        layers.append(ConvBn(320, 1280, kernel=1, **kw))
        self.features = nn.Sequential(*layers)
        self.global_avgpool = nn.AdaptiveAvgPool2d(1)
        self.classifier = nn.Sequential(nn.Dropout(0.2), nn.Linear(1280, 1000, **kw))

    def forward(self, x: Tensor) -> Tensor:
        x = self.features(x)  # [1280, ⌈H/32⌉, ⌈W/32⌉]
        x = self.global_avgpool(x).flatten(1)  # [1280]
        x = self.classifier(x)  # [1000]
        return x
