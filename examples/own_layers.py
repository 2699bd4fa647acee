"""A layer of one's own, which outside.arch declares as an `extern`."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Blur(nn.Module):
    """A fixed low-pass filter with a stride of 2, for each channel: binomial weights (Zhang, 2019)."""

    filter: Tensor

    def __init__(self, channels: int, taps: int) -> None:
        super().__init__()
        row = torch.ones(1, dtype=torch.double)
        for _ in range(taps - 1):
            row = F.pad(row, (1, 0)) + F.pad(row, (0, 1))
        weights = torch.outer(row, row) / row.sum() ** 2
        self.register_buffer("filter", weights.to(torch.get_default_dtype()).repeat(channels, 1, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        channels, _, taps, _ = self.filter.shape
        edges = [taps // 2] * 4
        return F.conv2d(F.pad(x, edges, mode="replicate"), self.filter, stride=2, groups=channels)
