"""Files that fix the batch become specs for every batch: their sizes as numbers are those of one batch."""

from __future__ import annotations

import warnings
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

import archdsl
from archdsl.common.source import Source
from archdsl.runtime.importing import ImportRefused
from archdsl.runtime.importing.files.batching import Batches, Place
from archdsl.runtime.opening import from_file


class Gate(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv, self.gate = nn.Conv2d(3, 16, 3, padding=1), nn.Linear(16, 16)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv(x)
        b, c = x.shape[:2]
        return x * self.gate(x.mean((2, 3))).view(b, c, 1, 1).expand_as(x)


class Shuffle(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv, self.last = nn.Conv2d(3, 16, 3, padding=1), nn.Conv2d(16, 4, 1)

    def forward(self, x: Tensor) -> Tensor:
        b, c, h, w = (x := self.conv(x)).shape
        return self.last(x.view(b, 4, c // 4, h, w).transpose(1, 2).reshape(b, c, h, w))


class ClassToken(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.patch, self.head = nn.Conv2d(3, 16, 4, 4), nn.Linear(16, 3)
        self.token = nn.Parameter(torch.randn(1, 1, 16))
        self.layer = nn.TransformerEncoderLayer(16, 2, 16, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        x = self.patch(x).flatten(2).transpose(1, 2)
        return self.head(self.layer(torch.cat([self.token.expand(len(x), -1, -1), x], 1))[:, 0])


class Repeated(ClassToken):
    def forward(self, x: Tensor) -> Tensor:
        x = self.patch(x).flatten(2).transpose(1, 2)
        return self.head(torch.cat([self.token.repeat(len(x), 1, 1), x], 1))


class PositionsFirst(nn.Module):
    """Attention with the batch behind the positions, and counted with the heads and with the positions."""

    def __init__(self) -> None:
        super().__init__()
        self.patch, self.qkv, self.out = nn.Conv2d(3, 16, 4, 4), nn.Linear(16, 48), nn.Linear(16, 16)

    def forward(self, x: Tensor) -> Tensor:
        x = self.patch(x).flatten(2).permute(2, 0, 1)
        n, b, c = x.shape
        q, k, v = (part.reshape(n, b * 2, c // 2).transpose(0, 1) for part in self.qkv(x).chunk(3, -1))
        x = torch.bmm((torch.bmm(q, k.transpose(1, 2)) * 8**-0.5).softmax(-1), v)
        return self.out(x.transpose(0, 1).reshape(n * b, c)).view(n, b, c).permute(1, 2, 0)


class Einsum(nn.Module):
    """Attention by torch.einsum."""

    def __init__(self) -> None:
        super().__init__()
        self.patch, self.qkv = nn.Conv2d(3, 16, 4, 4), nn.Linear(16, 48)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.qkv(self.patch(x).flatten(2).transpose(1, 2)).chunk(3, -1)
        scores = torch.einsum("bid,bjd->bij", q, k) * 0.25
        return torch.einsum("bij,bjd->bid", scores.softmax(-1), v)


class Sequence(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.patch, self.layer = nn.Conv2d(3, 16, 4, 4), nn.TransformerEncoderLayer(16, 2, 16)

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(self.patch(x).flatten(2).permute(2, 0, 1)).permute(1, 2, 0)


class Windows(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv, self.layer = nn.Conv2d(3, 8, 1), nn.Linear(8, 8)

    def forward(self, x: Tensor) -> Tensor:
        b, h, w, c = (x := self.conv(x).permute(0, 2, 3, 1)).shape
        x = x.view(b, h // 4, 4, w // 4, 4, c).permute(0, 1, 3, 2, 4, 5).reshape(-1, 16, c)
        x = (self.layer(x) @ x.transpose(1, 2)).softmax(-1) @ x
        return x.view(b, h // 4, w // 4, 4, 4, c).permute(0, 5, 1, 3, 2, 4).reshape(b, c, h, w)


def saved(module: nn.Module, batch: int, path: Path) -> Path:
    """A file of a module with a fixed batch and size."""
    x = torch.randn(batch, 3, 16, 16)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if path.suffix == ".pt2":
            torch.export.save(torch.export.export(module.eval(), (x,), strict=False), path)
        else:
            torch.onnx.export(module.eval(), (x,), str(path), dynamo=False)
    return path


MODULES = (Gate, Shuffle, ClassToken, Repeated, PositionsFirst, Einsum, Sequence, Windows)


@pytest.mark.parametrize("ending", [".pt2", ".onnx"])
@pytest.mark.parametrize("batch", [1, 2])
@pytest.mark.parametrize("kind", MODULES)
def test_a_fixed_batch_is_no_limit(kind: type[nn.Module], batch: int, ending: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    module = kind()
    found = from_file(saved(module, batch, tmp_path / f"net{ending}"))
    network = archdsl.load(Source("net.arch", found.text))
    network.load_state_dict(found.state)
    x = torch.randn(3, 3, 16, 16)
    torch.testing.assert_close(network.eval()(x), module(x), atol=1e-4, rtol=1e-4)


class Own(nn.Module):
    """A parameter with numbers of its own for each of the two samples."""

    def __init__(self) -> None:
        super().__init__()
        self.rows = nn.Parameter(torch.randn(2, 3, 16, 1))

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([x, self.rows.expand(2, 3, 16, 1)], 3)


def test_what_holds_for_one_batch_alone_is_said(tmp_path: Path) -> None:
    with pytest.raises(ImportRefused, match="with a batch of 2 alone, which the file fixes"):
        from_file(saved(Own(), 2, tmp_path / "net.pt2"))


@pytest.mark.parametrize(
    ("batch", "shape", "place", "sizes", "expected"),
    [
        (2, (2, 16), Place(0), (2, 16, 1, 1), Place(0)),
        (2, (16, 2, 32), Place(1), (16, 8, 8), Place(1)),
        (2, (16, 2, 32), Place(1), (32, -1), Place(0, 16)),
        (2, (32, 32), Place(0, 16), (16, 2, 32), Place(1)),
        (2, (8, 16, 8), Place(0), (2, 4, 16, 8), Place(0)),
        (1, (4, 16, 8), Place(0), (1, 4, 16, 8), Place(0)),
        (1, (16, 1, 32), Place(1), (16, 4, 8), Place(1)),
        (1, (16, 1, 32), Place(1), (16, 32), Place(0, 16)),
        (1, (16, 32), Place(0, 16), (16, 1, 32), Place(1)),
        (1, (16, 4, 8), Place(1), (16, 32), Place(0, 16)),
        (1, (1, 3, 8, 8), Place(0), (-1, 64), Place(0)),
        (3, (4, 3, 5), Place(1), (5, 12), None),
    ],
)
def test_where_the_batch_is_after_a_reshape(
    batch: int, shape: tuple[int, ...], place: Place, sizes: tuple[int, ...], expected: Place | None
) -> None:
    batches = Batches(batch, places={"x": place})
    fitted = batches.fitted("x", "y", shape, sizes)
    assert batches.places.get("y") == expected and (fitted is None) is (expected is None)
    if fitted is not None:
        other = [n * 7 if axis == place.axis else n for axis, n in enumerate(shape)]
        assert torch.empty(other).reshape(fitted(other, sizes)).numel() == 7 * torch.empty(shape).numel()
