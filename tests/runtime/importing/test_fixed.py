"""Fixed tensors and kernels, and layers that modules write out, become operations."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from archdsl.runtime.importing import ImportRefused, from_module


class Blurred(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3, padding=1)
        row = torch.tensor([1.0, 2.0, 1.0]) / 4
        self.register_buffer("kernel", (row[:, None] * row).expand(4, 1, 3, 3).clone(), persistent=False)

    def forward(self, x):
        x = F.pad(F.relu(self.conv(x)), [1, 1, 1, 1], mode="reflect")
        return F.conv2d(x, self.kernel, stride=2, groups=4)


class Placed(nn.Module):
    """Sines and cosines of positions, computed for the size of the input, go through a layer."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.project = nn.Conv2d(3, 6, 4, 4), nn.Conv2d(16, 6, 1)

    def forward(self, x):
        x = self.stem(x)
        n, _, h, w = x.shape
        waves = 10000 ** (2 * torch.div(torch.arange(8, device=x.device), 2, rounding_mode="floor") / 8)
        parts = []
        for size, axis in ((h, 0), (w, 1)):
            along = torch.arange(1, size + 1, device=x.device) / (size + 1e-6) * 2 * math.pi
            angle = (along[:, None] if axis == 0 else along).expand(h, w)[..., None] / waves
            parts.append(torch.stack([angle[..., 0::2].sin(), angle[..., 1::2].cos()], -1).flatten(2))
        positions = torch.cat(parts, -1).permute(2, 0, 1)[None]
        return x + self.project(positions).repeat(n, 1, 1, 1)


class Standardised(nn.Conv2d):
    factor = 1.71395885944

    def __init__(self, *args, **kwargs) -> None:
        super().__init__(*args, **kwargs)
        self.gain = nn.Parameter(torch.rand(self.out_channels, 1, 1, 1))

    def forward(self, x):
        variance, mean = torch.var_mean(self.weight, (1, 2, 3), unbiased=False, keepdim=True)
        weight = (
            (self.weight - mean) / (variance + 1e-6).sqrt() * self.gain * self.factor * self.weight[0].numel() ** -0.5
        )
        return F.conv2d(x, weight, self.bias, self.stride, self.padding, self.dilation, self.groups)


class Grouped(nn.Module):
    """Normalisations with a weight, but no bias, and with neither."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.weight = nn.Conv2d(3, 4, 3), nn.Parameter(torch.rand(4))
        self.norm, self.head = nn.LayerNorm(4, elementwise_affine=False), nn.Linear(4, 2)

    def forward(self, x):
        x = F.group_norm(self.conv(x), 2, self.weight, None, 1e-3).mean((2, 3))
        return self.head(F.layer_norm(self.norm(x), (4,)))


def test_a_fixed_kernel_of_binomials_blurs() -> None:
    text = from_module(Blurred(), (3, 16, 16)).text
    assert "pad(1, mode = reflect)" in text and "blur(stride = 2)" in text and "H = 16" in text


def test_sines_of_positions_follow_the_size() -> None:
    text = from_module(Placed(), (3, 32, 32)).text
    assert "sine_positions(16) -> project: conv(6, 1)" in text and "H = 32" in text


def test_a_convolution_with_standardised_kernels_is_recognised() -> None:
    text = from_module(nn.Sequential(Standardised(3, 8, 3, stride=2, padding=1), nn.ReLU()), (3, 16, 16)).text
    assert "stdconv(8, 3, stride = 2, gamma = 1.71395885944)" in text


def test_normalisations_without_a_weight_or_a_bias() -> None:
    text = from_module(Grouped(), (3, 16, 16)).text
    assert "groupnorm(2, eps = 0.001, affine = false) -> weight: scale" in text
    assert text.count("layernorm(affine = false)") == 2


class Told(nn.Module):
    """A module that is called with a tensor that no other module computes."""

    def forward(self, x, table):
        return x * table.abs()


class Telling(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.told, self.conv = Told(), nn.Conv2d(3, 3, 1)

    def forward(self, x):
        return self.told(self.conv(x), torch.linspace(0, 1, x.shape[-1], device=x.device))


def test_no_extern_is_called_without_its_tensors() -> None:
    with pytest.raises(ImportRefused, match="it is called with a tensor that is not computed from the input"):
        from_module(Telling(), (3, 8, 8))
