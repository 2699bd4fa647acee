"""net, compiled by archdsl 0.2.0 from argument.arch (sha256 5b7ae878997a).

image [3, H, W] -> [10]; any H, W.
"""

from collections.abc import Callable
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
    h = Dim("h", min=17)
    w = Dim("w", min=17)
    return ({0: batch, 2: h, 3: w},)


class Unit(nn.ModuleDict):
    def __init__(
        self, in_channels: int, width: int, stride: int = 1, **kw: Unpack[Factory]
    ) -> None:
        super().__init__()
        self["1"] = nn.Conv2d(in_channels, width, 3, stride=stride, padding=1, **kw)
        self["2"] = nn.BatchNorm2d(width, **kw)
        self.relu = nn.ReLU(inplace=True)
        self["4"] = nn.Conv2d(width, width, 3, padding=1, **kw)
        self["5"] = nn.BatchNorm2d(width, **kw)
        self["0"] = nn.Conv2d(in_channels, width, 1, stride=stride, **kw)

    def forward(self, x: Tensor) -> Tensor:
        y = self.relu(self["2"](self["1"](x)))
        y = self["5"](self["4"](y))
        y += self["0"](x)
        x = self.relu(y)
        return x


class Plain(nn.Sequential):
    def __init__(
        self, in_channels: int, width: int, stride: int = 1, **kw: Unpack[Factory]
    ) -> None:
        super().__init__(
            nn.Conv2d(in_channels, width, 3, stride=stride, padding=1, **kw),
            nn.BatchNorm2d(width, **kw),
            nn.ReLU(inplace=True),
        )


class Stage(nn.Sequential):
    def __init__(
        self,
        in_channels: int,
        width: int,
        count: int,
        block_of: Callable[..., nn.Module],
        **kw: Unpack[Factory],
    ) -> None:
        super().__init__(
            block_of(in_channels, width, stride=2, **kw),
            *(block_of(width, width, **kw) for _ in range(count - 1)),
        )


class Body(nn.Sequential):
    def __init__(
        self,
        in_channels: int,
        widths: tuple[int, int],
        counts: tuple[int, int],
        block_of: Callable[..., nn.Module],
        **kw: Unpack[Factory],
    ) -> None:
        super().__init__(
            Stage(in_channels, widths[0], counts[0], block_of=block_of, **kw),
            Stage(widths[0], widths[1], counts[1], block_of=block_of, **kw),
        )


class Net(nn.Sequential):
    def __init__(
        self, device: torch.device | str | None = None, dtype: torch.dtype | None = None
    ) -> None:
        kw: Factory = {"device": device, "dtype": dtype}
        super().__init__(
            nn.Conv2d(3, 8, 3, padding=1, **kw),
            Body(8, (8, 16), (2, 4), block_of=Plain, **kw),
            Body(16, (32, 64), (3, 4), block_of=Unit, **kw),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            nn.Linear(64, 10, **kw),
        )
