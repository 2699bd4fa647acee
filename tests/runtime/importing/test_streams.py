"""Modules of several tensors side by side, which exchange what they found."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from archdsl.runtime.importing import from_module


class Exchange(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.branches = nn.ModuleList(nn.Sequential(nn.Conv2d(4, 4, 3, padding=1), nn.ReLU()) for _ in range(3))
        self.mix = nn.Conv2d(12, 4, 1)

    def forward(self, streams: list[Tensor]) -> list[Tensor]:
        found = [branch(x) for branch, x in zip(self.branches, streams, strict=True)]
        mixed = self.mix(torch.cat(found, 1))
        return [x + mixed for x in found]


class Streams(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.starts = nn.ModuleList(nn.Conv2d(3, 4, 1) for _ in range(3))
        self.stage = nn.Sequential(Exchange(), Exchange())
        self.ends = nn.ModuleList(nn.Conv2d(4, 2, 1) for _ in range(3))

    def forward(self, x: Tensor) -> Tensor:
        found = self.stage([start(x) for start in self.starts])
        y = self.ends[0](found[0])
        for end, stream in zip(self.ends[1:], found[1:], strict=True):
            y = (y + end(stream)).relu()
        return y


def test_streams_flow_on_without_names_and_rows_of_layers_are_loops() -> None:
    text = from_module(Streams(), (3, 8, 8), extern=False).text
    assert '(for i, x in enumerate(it) { x -> "branches.{i}": ' in text
    assert "stage: { repeat 2 { exchange } }" in text
    assert "input x1" not in text


class Wide(nn.Module):
    """Branches that differ in more than their number."""

    def __init__(self) -> None:
        super().__init__()
        self.branches = nn.ModuleList([nn.Conv2d(4, 4, 1), nn.Conv2d(4, 4, 3, padding=1)])

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        return self.branches[0](x) * self.branches[1](y)


class Pair(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.one, self.two, self.wide = nn.Conv2d(3, 4, 1), nn.Conv2d(3, 4, 3, padding=1), Wide()

    def forward(self, x: Tensor) -> Tensor:
        return self.wide(self.one(x), self.two(x))


def test_rows_of_unlike_layers_are_written_one_by_one() -> None:
    text = from_module(Pair(), (3, 8, 8), extern=False).text
    assert "enumerate" not in text and '"branches.0": conv(4, 1)' in text
