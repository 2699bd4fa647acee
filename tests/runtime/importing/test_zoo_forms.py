"""What models of the zoo do that other modules rarely do: each is said, and proved, without an extern."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from archdsl.runtime.importing import from_module


class Mlp(nn.Module):
    def __init__(self, width: int, ratio: int = 3) -> None:
        super().__init__()
        self.fc1, self.fc2 = nn.Linear(width, ratio * width), nn.Linear(ratio * width, width)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(torch.relu(self.fc1(x)))


class MapsAndTokens(nn.Module):
    """One class of block works on maps with the channels last, and on rows of tokens."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.down = nn.Conv2d(3, 8, 4, 4), nn.Conv2d(8, 16, 1)
        self.small, self.wide, self.tokens = Mlp(8), Mlp(16), Mlp(16)

    def forward(self, x: Tensor) -> Tensor:
        x = self.small(self.stem(x).permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
        x = self.wide(self.down(x).permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
        return self.tokens(x.flatten(2).transpose(1, 2)).mean(1)


def test_blocks_that_declare_their_input_are_one_for_each_number_of_axes() -> None:
    found = from_module(MapsAndTokens(), (3, 32, 32), extern=False)
    assert "input x[C, _, _]" in found.text and found.text.count("fc1: linear") == 2


def test_a_module_called_by_a_number_has_a_name() -> None:
    assert "model model_0 {" in from_module(MapsAndTokens(), (3, 32, 32), name="layers.0").text
