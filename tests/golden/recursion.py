"""unet, compiled by archdsl 0.2.0 from recursion.arch (sha256 d46553a761dd).

image [3, H, W] -> [2, H, W]; H, W: multiples of 8.
"""

from typing import Any, TypedDict, Unpack

import torch
from torch import Tensor, nn


class Factory(TypedDict, total=False):
    """Where the parameters of a module are made, and of which type."""

    device: torch.device | str | None
    dtype: torch.dtype | None


def check_size(name: str, size: int) -> None:
    """Raises ValueError unless a size of the input is a multiple of 8."""
    if size % 8 == 0:
        return
    below = size - size % 8
    nearest = f"are {below} and {below + 8}" if size > 8 else "is 8"
    raise ValueError(
        f"unet: {name} must be a multiple of 8, got {size}; the nearest {nearest}"
    )


def dynamic_shapes() -> tuple[dict[int, Any], ...]:
    """The sizes that torch.export may leave free: the batch, H, W."""
    from torch.export import Dim  # slow to import, and needed here alone

    batch = Dim("batch")
    h = Dim("h", min=2)
    w = Dim("w", min=2)
    return ({0: batch, 2: 8 * h, 3: 8 * w},)


class Double(nn.Sequential):
    def __init__(self, in_channels: int, width: int, **kw: Unpack[Factory]) -> None:
        super().__init__(
            nn.Conv2d(in_channels, width, 3, padding=1, **kw),
            nn.BatchNorm2d(width, **kw),
            nn.ReLU(inplace=True),
            nn.Conv2d(width, width, 3, padding=1, **kw),
            nn.BatchNorm2d(width, **kw),
            nn.ReLU(inplace=True),
        )


class Level(nn.ModuleDict):
    """One level of the U: encode, go down, come up, decode."""

    def __init__(
        self, in_channels: int, widths: tuple[int, ...], i: int, **kw: Unpack[Factory]
    ) -> None:
        super().__init__()
        self.with_decode = i + 1 < len(widths)
        self.skip = Double(in_channels, widths[i], **kw)
        self.maxpool = nn.MaxPool2d(2)
        if self.with_decode:
            self["2"] = Level(widths[i], widths, i + 1, **kw)
            self["3"] = nn.ConvTranspose2d(widths[i + 1], widths[i], 2, stride=2, **kw)
            self.decode = Double(2 * widths[i], widths[i], **kw)

    def forward(self, x: Tensor) -> Tensor:
        x = self.skip(x)
        if self.with_decode:
            y = self["3"](self["2"](self.maxpool(x)))
            y = torch.cat([x, y], 1)
            x = self.decode(y)
        return x


class Unet(nn.Sequential):
    def __init__(
        self, device: torch.device | str | None = None, dtype: torch.dtype | None = None
    ) -> None:
        super().__init__()
        kw: Factory = {"device": device, "dtype": dtype}
        self.add_module("0", Level(3, (8, 16, 32, 64), 0, **kw))
        self.head = nn.Conv2d(8, 2, 1, **kw)

    def forward(self, input: Tensor) -> Tensor:
        check_size("H", input.shape[2])
        check_size("W", input.shape[3])
        for layer in self:
            input = layer(input)
        return input
