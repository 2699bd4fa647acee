"""What the calls of a run take and give."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from archdsl.runtime.importing import from_module


class Dropped(nn.Module):
    """A dropout gives the very tensor that it takes in evaluation, but another one while the network trains."""

    def __init__(self, layer: bool) -> None:
        super().__init__()
        self.conv, self.drop = nn.Conv2d(3, 4, 1), nn.Dropout() if layer else None

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv(x)
        y = self.drop(x) if self.drop is not None else F.dropout(x, 0.5, self.training)
        return torch.cat([x, y], 1)


@pytest.mark.parametrize("layer", [True, False])
def test_what_a_dropout_takes_is_not_what_it_gives(layer: bool) -> None:
    assert "dense { drop" in from_module(Dropped(layer), (3, 8, 8)).text
