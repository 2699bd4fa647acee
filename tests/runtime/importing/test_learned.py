"""Tensors that modules compute from their parameters alone: positions, queries, factors."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from archdsl.runtime.importing import ImportRefused, from_module


class Stem(nn.Module):
    """A picture of 32 by 32 as 8 by 8 patches of 16 channels."""

    def __init__(self) -> None:
        super().__init__()
        self.patch = nn.Conv2d(3, 16, 4, 4)

    def rows(self, x: Tensor) -> Tensor:
        return self.patch(x).flatten(2).transpose(1, 2)


class Pooled(Stem):
    """Queries that look at each other before they look at the picture."""

    def __init__(self) -> None:
        super().__init__()
        self.queries, self.norm = nn.Parameter(torch.randn(5, 16)), nn.LayerNorm(16)
        self.own, self.cross = (nn.MultiheadAttention(16, 2, batch_first=True) for _ in range(2))

    def forward(self, x: Tensor) -> Tensor:
        x = self.rows(x)
        q = self.queries.unsqueeze(0).repeat(x.shape[0], 1, 1)
        q = self.norm(q + self.own(q, q, q)[0])
        return self.cross(q, x, x)[0]


class DecoderLayer(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.own, self.cross = (nn.MultiheadAttention(16, 2, batch_first=True) for _ in range(2))
        self.norm1, self.norm2 = nn.LayerNorm(16), nn.LayerNorm(16)

    def forward(self, x: Tensor, queries: Tensor, memory: Tensor, positions: Tensor) -> Tensor:
        placed = x + queries
        x = self.norm1(x + self.own(placed, placed, x)[0])
        return self.norm2(x + self.cross(x + queries, memory + positions, memory)[0])


class Detector(Stem):
    """The first layer of the decoder begins with zeros, and computes on queries alone."""

    def __init__(self) -> None:
        super().__init__()
        self.queries, self.positions = nn.Embedding(5, 16), nn.Parameter(torch.randn(64, 16))
        self.layers = nn.ModuleList(DecoderLayer() for _ in range(3))
        self.boxes = nn.Linear(16, 4)

    def forward(self, image: Tensor) -> Tensor:
        memory = self.rows(image)
        positions = self.positions.unsqueeze(0).expand(len(memory), -1, -1)
        queries = self.queries.weight.unsqueeze(0).expand(len(memory), -1, -1)
        x = torch.zeros_like(queries)
        for layer in self.layers:
            x = layer(x, queries, memory, positions)
        return self.boxes(x)


class Sequence(Stem):
    """Positions first, the batch behind them, as nn.Transformer has them; positions are learned by row and column."""

    def __init__(self) -> None:
        super().__init__()
        self.row, self.column = nn.Parameter(torch.rand(8, 8)), nn.Parameter(torch.rand(8, 8))
        self.queries = nn.Parameter(torch.rand(5, 16))
        self.transformer = nn.Transformer(16, 2, 1, 2, 32)

    def forward(self, x: Tensor) -> Tensor:
        x = self.patch(x)
        batch, _, height, width = x.shape
        columns = self.column[:width].unsqueeze(0).repeat(height, 1, 1)
        rows = self.row[:height].unsqueeze(1).repeat(1, width, 1)
        positions = torch.cat([columns, rows], -1).flatten(0, 1).unsqueeze(1)
        found = self.transformer(
            x.flatten(2).permute(2, 0, 1) + positions, self.queries.unsqueeze(1).repeat(1, batch, 1)
        )
        return found.transpose(0, 1)


class Resized(Stem):
    def __init__(self) -> None:
        super().__init__()
        self.positions = nn.Parameter(torch.randn(1, 16, 6, 6))

    def forward(self, x: Tensor) -> Tensor:
        x = self.patch(x)
        return x + F.interpolate(self.positions, size=x.shape[-2:], mode="bilinear")


class Numbered(Stem):
    """Positions that a table gives by their numbers, of which the last are not used."""

    def __init__(self) -> None:
        super().__init__()
        self.positions = nn.Embedding(70, 16)

    def forward(self, x: Tensor) -> Tensor:
        x = self.rows(x)
        return x + self.positions(torch.arange(x.shape[1], device=x.device))


class Parts(Stem):
    """Factors and offsets of channels, computed from rows of a table."""

    def __init__(self) -> None:
        super().__init__()
        self.table, self.bias = nn.Parameter(torch.randn(2, 16)), nn.Parameter(torch.randn(16))

    def forward(self, x: Tensor) -> Tensor:
        factors, offsets = self.table.unbind(0)
        return self.patch(x) * torch.exp(factors)[None, :, None, None] + (offsets + self.bias).view(1, -1, 1, 1)


class Gates(Stem):
    """As of EfficientViM: as many rows as positions in a window of the map's square root."""

    def __init__(self) -> None:
        super().__init__()
        self.gates = nn.Parameter(torch.randn(4, 16))

    def forward(self, x: Tensor) -> Tensor:
        gates = torch.sigmoid(self.gates).view(4, -1, 1, 1)
        x = self.patch(x)
        return x * gates[1] + x * gates[3]


class Positions(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Parameter(torch.rand(1, 64, 8))
        self.mlp = nn.Sequential(nn.Linear(8, 16), nn.GELU(), nn.Linear(16, 16))

    def forward(self) -> Tensor:
        return self.mlp(self.table)


class Placed(Stem):
    """A module that takes nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.positions = Positions()

    def forward(self, x: Tensor) -> Tensor:
        return self.rows(x) + self.positions()


class Tokens(Stem):
    """A class token and registers with a position each, in front of those of the picture."""

    def __init__(self) -> None:
        super().__init__()
        self.cls, self.registers = nn.Parameter(torch.rand(1, 1, 16)), nn.Parameter(torch.rand(1, 2, 16))
        self.positions = nn.Parameter(torch.rand(67, 16))

    def forward(self, x: Tensor) -> Tensor:
        x = self.rows(x) + self.positions[None, 3:]
        first = torch.cat([self.cls, self.registers], 1) + self.positions[:3]
        return torch.cat([first.expand(len(x), -1, -1), x], 1)


class Biased(Stem):
    """Attention with a learned bias of scores, one for each pair of positions, and one for each head."""

    def __init__(self) -> None:
        super().__init__()
        self.qkv = nn.Linear(16, 48)
        self.pairs, self.heads = nn.Parameter(torch.randn(2, 64, 64)), nn.Parameter(torch.randn(2, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        x = self.rows(x)
        q, k, v = self.qkv(x).reshape(len(x), 64, 3, 2, 8).permute(2, 0, 3, 1, 4).unbind(0)
        found = F.scaled_dot_product_attention(q, k, v, attn_mask=(self.pairs + self.heads).unsqueeze(0))
        return found.transpose(1, 2).flatten(2)


class Weighted(Stem):
    """A sum of results with learned weights."""

    def __init__(self) -> None:
        super().__init__()
        self.weights, self.other = nn.Parameter(torch.ones(2)), nn.Conv2d(3, 16, 4, 4)

    def forward(self, x: Tensor) -> Tensor:
        weights = self.weights.softmax(-1)
        return torch.stack([weights[0] * self.patch(x), weights[1] * self.other(x)]).sum(0)


LINES = {
    Biased: ["(pairs: parameter([2, 64, 64]), heads: parameter([2, 1, 1])) -> add(stretch = true)", "-> attend(2)"],
    Weighted: ["weights: parameter([2]) -> after_softmax: softmax", "-> slice(1) -> reshape([1, 1, 1]), it) -> mul"],
    Pooled: ["((queries, queries -> own: attention(2)) -> add -> norm: layernorm, it) -> cross: attention(2)"],
    Detector: ['"queries.weight": parameter([16, 5], stored = rows)', "-> rescale(0)", "block decoder_layer {"],
    Sequence: ["(it, x2) -> multihead_attn: attention(2)", "upsample(8x1)"],
    Resized: ["(it, positions: parameter([16, 6, 6], stored = maps) -> resize(patch.size)) -> add"],
    Numbered: ['(it, "positions.weight": parameter([16, 70], stored = rows) -> slice(0, 64, axis = 1)) -> add'],
    Parts: ["exp -> reshape([16, 1, 1])) -> mul", "bias: parameter([16])) -> add"],
    Gates: ["slice(1, 2, axis = 1) -> reshape([16, 1, 1])"],
    Placed: ['"positions.table": parameter([8, 64], stored = tokens) -> "positions.mlp.0": linear(16)'],
    Tokens: ["positions -> slice(3, axis = 1)", "cls: parameter([16, 1], stored = tokens)"],
}


@pytest.mark.filterwarnings("ignore:enable_nested_tensor")
@pytest.mark.parametrize("module", LINES, ids=lambda cls: cls.__name__)
def test_what_parameters_alone_give_is_written(module: type[nn.Module]) -> None:
    """Importing proves keys and numbers."""
    torch.manual_seed(0)
    text = from_module(module(), (3, 32, 32), extern=False).text
    for line in LINES[module]:  # type: ignore[index]
        assert line in text, text


class Sorted(Stem):
    def __init__(self) -> None:
        super().__init__()
        self.factors = nn.Parameter(torch.randn(16))

    def forward(self, x: Tensor) -> Tensor:
        return self.patch(x) + self.factors.sort()[0][:, None, None]


class Kept(Stem):
    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("offsets", torch.randn(16, 1, 1), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.patch(x) + self.offsets.exp()


@pytest.mark.parametrize(
    ("module", "reason"), [(Sorted, "`sort`"), (Kept, "the buffer `offsets`")], ids=["function", "buffer"]
)
def test_what_cannot_be_said_of_parameters_is_refused(module: type[nn.Module], reason: str) -> None:
    with pytest.raises(ImportRefused, match=reason):
        from_module(module(), (3, 32, 32))
