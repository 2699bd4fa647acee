"""Which sizes a spec takes, where the calls of a module depend on them: shifted windows, and paddings."""

from __future__ import annotations

import pytest
import torch.nn.functional as F
from torch import Tensor, nn

from archdsl.runtime.importing import from_module
from archdsl.runtime.importing.regions import least_multiple
from tests.runtime.importing.test_origins import becomes_itself

WINDOWS = """
block attention(shift) {
    residual {
        layernorm -> windows(4, shift = shift, pad) {
            qkv: linear(36) -> split(3) -> attend(2) -> proj: linear(12)
        }
    }
}

block merging {
    pad_to_multiple(2)
    (slice(0, axis = 1, step = 2), slice(1, axis = 1, step = 2)) -> concat
    down: conv(12, 2, stride = 1x2, pad = same_upper)
}

model net {
    input image[3, H = 16, W = 16]
    patch: conv(12, 2, stride = 2, pad = valid)
    first: attention(0)
    second: attention(2)
    merging: merging
    third: attention(2)
}
"""


def test_windows_that_one_covers_at_the_given_size_have_free_sizes() -> None:
    """At 16 the last map is 4×4, and not shifted; the runs at 16 and at 32 call different things."""
    becomes_itself(WINDOWS, (3, 16, 16))


class Halved(nn.Module):
    """As of torchvision's Swin: zeros complete a map of odd size, in one call at any size."""

    def __init__(self, times: int) -> None:
        super().__init__()
        self.times = times
        self.convs = nn.ModuleList(nn.Conv2d(3, 3, 2, 2) for _ in range(times))

    def forward(self, x: Tensor) -> Tensor:
        for conv in self.convs:
            height, width = x.shape[2:]
            x = conv(F.pad(x, (0, width % 2, 0, height % 2)))
        return x


@pytest.mark.parametrize("size", [16, 17, 113, 452])
def test_a_padding_up_to_a_multiple_is_found(size: int) -> None:
    found = from_module(Halved(1), (3, size, size), extern=False)
    assert "pad_to_multiple(2)" in found.text and f"H = {size}, W = {size}" in found.text
    assert {free.name for free in found.graph.free} == {"H", "W"}


class Behind(nn.Module):
    """A padding of one row and one column, before a layer as TensorFlow pads it."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 3, 3, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(F.pad(x, (0, 1, 0, 1)))


@pytest.mark.parametrize("size", [16, 17])
def test_a_padding_that_stays_is_none_up_to_a_multiple(size: int) -> None:
    """At 17 it gives 18 × 18, an even map."""
    text = from_module(Behind(), (3, size, size), extern=False).text
    assert "pad(0, after = 1)" in text and "pad_to_multiple" not in text


class Odd(nn.Module):
    """Does something else with a map of an odd size."""

    def forward(self, x: Tensor) -> Tensor:
        return F.avg_pool2d(x, 2, ceil_mode=bool(x.shape[-1] % 2 and x.shape[-1] < 30))


def test_what_differs_at_odd_sizes_has_a_fixed_one() -> None:
    found = from_module(Odd(), (3, 32, 32), extern=False)
    assert "image[3, 32, 32]" in found.text and "fixed" in found.notes[-1]


@pytest.mark.parametrize(
    ("pairs", "multiple"),
    [
        ([(7, 8), (8, 8)], 2),
        ([(7, 8), (5, 8)], 4),
        ([(7, 9), (9, 9)], 3),
        ([(7, 8), (7, 9)], None),
        ([(6, 6)], 1),
    ],
)
def test_the_least_multiple(pairs: list[tuple[int, int]], multiple: int | None) -> None:
    assert least_multiple(pairs) == multiple
