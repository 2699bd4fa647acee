"""Paddings up to the size of another tensor become `align(pad)`, at sizes where they pad nothing, too."""

from __future__ import annotations

import warnings
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from archdsl.runtime.importing import from_module
from archdsl.runtime.opening import from_file


class Up(nn.Module):
    """An upsampled map that is padded to the size of the skip, as many U-Nets do."""

    def __init__(self, transposed: bool) -> None:
        super().__init__()
        plain = nn.Upsample(scale_factor=2, mode="bilinear", align_corners=True)
        self.up = nn.ConvTranspose2d(8, 8, 2, 2) if transposed else plain
        self.conv = nn.Conv2d(16, 8, 3, padding=1)

    def forward(self, x1: Tensor, x2: Tensor) -> Tensor:
        x1 = self.up(x1)
        down, right = x2.size()[2] - x1.size()[2], x2.size()[3] - x1.size()[3]
        x1 = F.pad(x1, [right // 2, right - right // 2, down // 2, down - down // 2])
        return self.conv(torch.cat([x2, x1], dim=1))


class Net(nn.Module):
    def __init__(self, transposed: bool = False) -> None:
        super().__init__()
        self.first, self.second, self.third = (nn.Conv2d(n, 8, 3, padding=1) for n in (3, 8, 8))
        self.up1, self.up2 = Up(transposed), Up(transposed)

    def forward(self, x: Tensor) -> Tensor:
        a = self.first(x)
        b = self.second(F.max_pool2d(a, 2))
        return self.up2(self.up1(self.third(F.max_pool2d(b, 2)), b), a)


@pytest.mark.parametrize("size", [(64, 64), (67, 71), (33, 35)])
@pytest.mark.parametrize("transposed", [False, True])
def test_a_u_net_takes_every_size(size: tuple[int, int], transposed: bool) -> None:
    found = from_module(Net(transposed), (3, *size))
    assert "-> align(pad) -> concat" in found.text and found.text.count("pad") == 1
    assert f"input image[3, H = {size[0]}, W = {size[1]}]" in found.text and not found.notes


def test_an_exported_u_net_takes_every_size(tmp_path: Path) -> None:
    free = ({axis: torch.export.Dim.AUTO for axis in (0, 2, 3)},)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        program = torch.export.export(Net().eval(), (torch.randn(2, 3, 32, 32),), strict=False, dynamic_shapes=free)
        torch.export.save(program, tmp_path / "net.pt2")
    found = from_file(tmp_path / "net.pt2")
    assert "-> align(pad) -> concat" in found.text and "3x17x" in found.notes[-1]


class Skip(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv, self.low = nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(4, 4, 3, padding=1)

    def both(self, x: Tensor) -> tuple[Tensor, Tensor]:
        a = self.conv(x)
        return a, F.interpolate(self.low(F.max_pool2d(a, 4)), scale_factor=4)

    def padded(self, a: Tensor, b: Tensor) -> Tensor:
        down, right = a.shape[-2] - b.shape[-2], a.shape[-1] - b.shape[-1]
        return F.pad(b, (right // 2, right - right // 2, down // 2, down - down // 2))

    def forward(self, x: Tensor) -> Tensor:
        a, b = self.both(x)
        return a + self.padded(a, b)


class Twice(Skip):
    """What is padded goes into a sum, and further."""

    def forward(self, x: Tensor) -> Tensor:
        a, b = self.both(x)
        b = self.padded(a, b)
        return torch.cat([a + b, b], 1)


class Alone(Skip):
    """What is padded is used without the other tensor."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([self.low(self.padded(*self.both(x))), self.conv(x)], 1)


@pytest.mark.parametrize("kind", [Skip, Twice, Alone])
def test_what_is_padded_goes_anywhere(kind: type[Skip]) -> None:
    found = from_module(kind(), (3, 32, 34))
    assert "align(pad)" in found.text and "H = 32, W = 34]" in found.text


class Behind(Skip):
    """All of the difference is behind: no `align`."""

    def padded(self, a: Tensor, b: Tensor) -> Tensor:
        return F.pad(b, (0, a.size(3) - b.size(3), 0, a.size(2) - b.size(2)))


class Cut(Skip):
    """At odd sizes the map is larger than the skip, and is cut."""

    def both(self, x: Tensor) -> tuple[Tensor, Tensor]:
        a = self.conv(x)
        return a, F.interpolate(F.max_pool2d(self.low(a), 3, 2, 1), scale_factor=2)


@pytest.mark.parametrize(("kind", "size"), [(Behind, (33, 35)), (Cut, (32, 32))])
def test_other_amounts_fix_the_size(kind: type[Skip], size: tuple[int, int]) -> None:
    found = from_module(kind(), (3, *size))
    assert f"input image[3, {size[0]}, {size[1]}]" in found.text
    assert found.notes[-1].startswith("the size of the input is fixed")
