"""unet, compiled by archdsl 0.2.0 from unet.arch (sha256 a344b146395e).

image [1, H, W] -> [2, H - 184, W - 184]; H, W ≡ 12 (mod 16), at least 188.
"""

from typing import Any, TypedDict, Unpack

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Factory(TypedDict, total=False):
    """Where the parameters of a module are made, and of which type."""

    device: torch.device | str | None
    dtype: torch.dtype | None


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
    """Raises ValueError unless a size of the input is ≡ 12 (mod 16), at least 188."""
    if size % 16 == 12 and size >= 188:
        return
    below = size - (size - 12) % 16
    nearest = f"are {below} and {below + 16}" if size > 188 else "is 188"
    raise ValueError(
        f"unet: {name} must be ≡ 12 (mod 16), at least 188, got {size}; the nearest {nearest}",
    )


def dynamic_shapes() -> tuple[dict[int, Any], ...]:
    """The sizes that torch.export may leave free: the batch, H, W."""
    from torch.export import Dim  # slow to import, and needed here alone

    batch = Dim("batch")
    h = Dim("h", min=11)
    w = Dim("w", min=11)
    return ({0: batch, 2: 16 * h + 12, 3: 16 * w + 12},)


class DoubleConv(nn.Sequential):
    """Two 3x3 convolutions."""

    def __init__(self, in_channels: int, width: int, **kw: Unpack[Factory]) -> None:
        super().__init__(
            nn.Conv2d(in_channels, width, 3, **kw),
            nn.ReLU(inplace=True),
            nn.Conv2d(width, width, 3, **kw),
            nn.ReLU(inplace=True),
        )


class Level(nn.Module):
    """The U is a recursion: encode, go down to the next level and up again, join with
    what was encoded, decode.
    """

    def __init__(
        self, in_channels: int, width: int, depth: int, **kw: Unpack[Factory]
    ) -> None:
        super().__init__()
        self.depth = depth
        self.encode = DoubleConv(in_channels, width, **kw)
        self.maxpool = nn.MaxPool2d(2)
        if depth > 0:
            self.inner = Level(width, 2 * width, depth - 1, **kw)
            self.up = nn.ConvTranspose2d(2 * width, width, 2, stride=2, **kw)
            self.decode = DoubleConv(2 * width, width, **kw)

    def forward(self, x: Tensor) -> Tensor:
        x = self.encode(x)
        if self.depth > 0:
            y = self.maxpool(x)
            y = self.inner(y)
            y, z = crop_to_smallest(x, self.up(y))
            y = torch.cat([y, z], 1)
            x = self.decode(y)
        return x


class Unet(nn.Sequential):
    """The U-Net of the paper: unpadded, so that each output saw nothing but image."""

    def __init__(
        self, device: torch.device | str | None = None, dtype: torch.dtype | None = None
    ) -> None:
        super().__init__()
        kw: Factory = {"device": device, "dtype": dtype}
        self.add_module("0", Level(1, 64, 4, **kw))
        self.head = nn.Conv2d(64, 2, 1, **kw)

    def forward(self, input: Tensor) -> Tensor:
        check_size("H", input.shape[2])
        check_size("W", input.shape[3])
        for layer in self:
            input = layer(input)
        return input
