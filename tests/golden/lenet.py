"""lenet, compiled by archdsl 0.2.0 from lenet.arch (sha256 a4036c454424).

image [1, 32, 32] -> [10].
"""

from typing import Any, TypedDict

import torch
from torch import Tensor, nn


class Factory(TypedDict, total=False):
    """Where the parameters of a module are made, and of which type."""

    device: torch.device | str | None
    dtype: torch.dtype | None


def dynamic_shapes() -> tuple[dict[int, Any], ...]:
    """The sizes that torch.export may leave free: the batch."""
    from torch.export import Dim  # slow to import, and needed here alone

    batch = Dim("batch")
    return ({0: batch},)


class Lenet(nn.Module):
    """Two convolutions with pooling, then three fully connected layers, for digits."""

    def __init__(
        self, device: torch.device | str | None = None, dtype: torch.dtype | None = None
    ) -> None:
        super().__init__()
        kw: Factory = {"device": device, "dtype": dtype}
        self.conv1 = nn.Conv2d(1, 6, 5, **kw)
        self.tanh = nn.Tanh()
        self.avgpool = nn.AvgPool2d(2)
        self.conv2 = nn.Conv2d(6, 16, 5, **kw)
        self.fc1 = nn.Linear(400, 120, **kw)
        self.fc2 = nn.Linear(120, 84, **kw)
        self.fc3 = nn.Linear(84, 10, **kw)

    def forward(self, x: Tensor) -> Tensor:
        x = self.avgpool(self.tanh(self.conv1(x)))  # [6, 14, 14]
        x = self.avgpool(self.tanh(self.conv2(x)))  # [16, 5, 5]
        x = x.flatten(1)  # [400]
        x = self.tanh(self.fc1(x))  # [120]
        x = self.tanh(self.fc2(x))  # [84]
        x = self.fc3(x)  # [10]
        return x
