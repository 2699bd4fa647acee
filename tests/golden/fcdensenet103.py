"""fcdensenet103, compiled by archdsl 0.2.0 from fcdensenet.arch (sha256 171eeba2722b).

image [3, H, W] -> [11, H, W]; H, W: any from 32.
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
    """Raises ValueError unless a size of the input is at least 32."""
    if size >= 32:
        return
    raise ValueError(
        f"fcdensenet103: {name} must be at least 32, got {size}; the nearest is 32"
    )


def dynamic_shapes() -> tuple[dict[int, Any], ...]:
    """The sizes that torch.export may leave free: the batch, H, W."""
    from torch.export import Dim  # slow to import, and needed here alone

    batch = Dim("batch")
    h = Dim("h", min=64)
    w = Dim("w", min=64)
    return ({0: batch, 2: h, 3: w},)


class DenseLayer(nn.Sequential):
    def __init__(self, in_channels: int, **kw: Unpack[Factory]) -> None:
        super().__init__(
            nn.BatchNorm2d(in_channels, **kw),
            nn.ReLU(inplace=True),
            nn.Conv2d(in_channels, 16, 3, padding=1, **kw),
            nn.Dropout(0.2),
        )


class DenseBlock(nn.ModuleDict):
    """Layers that each see the channels of all before them."""

    def __init__(self, in_channels: int, count: int, **kw: Unpack[Factory]) -> None:
        super().__init__()
        for i in range(count):
            self[f"layer{i + 1}"] = DenseLayer(in_channels + 16 * i, **kw)

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.children():
            x = torch.cat([x, layer(x)], 1)
        return x


class TransitionDown(nn.Sequential):
    """The same channels at half the resolution."""

    def __init__(self, in_channels: int, **kw: Unpack[Factory]) -> None:
        super().__init__(
            nn.BatchNorm2d(in_channels, **kw),
            nn.ReLU(inplace=True),
            nn.Conv2d(in_channels, in_channels, 1, **kw),
            nn.Dropout(0.2),
            nn.MaxPool2d(2),
        )


class Level(nn.Module):
    """One resolution: a dense block, the way down and up again, and a second dense
    block.
    """

    def __init__(
        self,
        in_channels: int,
        counts: tuple[int, ...],
        depth: int,
        **kw: Unpack[Factory],
    ) -> None:
        super().__init__()
        self.with_encode = depth + 1 < len(counts)
        self.depth = depth
        channels = in_channels
        if self.with_encode:
            self.encode = DenseBlock(in_channels, counts[depth], **kw)
            self.down = TransitionDown(in_channels + 16 * counts[depth], **kw)
            self.inner = Level(
                in_channels + 16 * counts[depth], counts, depth + 1, **kw
            )
            self.up = nn.ConvTranspose2d(
                16 * counts[depth + 1], 16 * counts[depth + 1], 3, stride=2, **kw
            )
            channels = in_channels + 16 * counts[depth] + 16 * counts[depth + 1]
        self.decode = DenseBlock(channels, counts[depth], **kw)
        self.channels = channels

    def forward(self, x: Tensor) -> Tensor:
        if self.with_encode:
            encode = self.encode(x)
            y = self.down(encode)
            y = self.inner(y)
            y, z = crop_to_smallest(encode, self.up(y))
            x = torch.cat([y, z], 1)
        x = self.decode(x)
        if self.depth > 0:
            x = x[:, self.channels :]
        return x


class Fcdensenet103(nn.Sequential):
    """A U of dense blocks; `counts` are their layers, from the full resolution to the
    coarsest.
    """

    def __init__(
        self, device: torch.device | str | None = None, dtype: torch.dtype | None = None
    ) -> None:
        super().__init__()
        kw: Factory = {"device": device, "dtype": dtype}
        self.conv0 = nn.Conv2d(3, 48, 3, padding=1, **kw)
        self.add_module("1", Level(48, (4, 5, 7, 10, 12, 15), 0, **kw))
        self.head = nn.Conv2d(256, 11, 1, **kw)

    def forward(self, input: Tensor) -> Tensor:
        check_size("H", input.shape[2])
        check_size("W", input.shape[3])
        for layer in self:
            input = layer(input)
        return input
