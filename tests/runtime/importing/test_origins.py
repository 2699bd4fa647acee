"""What is computed of parameters alone: biases of which parts are 0, and changes in place."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import archdsl
from archdsl.common.source import Source
from archdsl.runtime.importing import ImportRefused, from_module
from archdsl.runtime.importing.proving import prove


class Partly(nn.Module):
    """A layer whose bias is 0 in the second third of its outputs, written in the ways of public repositories."""

    def __init__(self, bias: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.qkv = nn.Linear(4, 6)
        self.partly = bias

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, self.qkv.weight, self.partly(self.qkv.bias))


def zeroed(bias: Tensor) -> Tensor:
    """As of torchvision's Swin V2."""
    bias = bias.clone()
    bias[2:4].zero_()
    return bias


def assigned(bias: Tensor) -> Tensor:
    bias = bias.clone()
    bias[2:4] = 0
    return bias


def filled(bias: Tensor) -> Tensor:
    bias = bias.clone()
    bias[2:3].fill_(0.0)
    bias[3:4].fill_(0.0)
    return bias


def put_together(bias: Tensor) -> Tensor:
    q, k, v = bias.chunk(3)
    return torch.cat([q, torch.zeros_like(k), v])


def sliced(bias: Tensor) -> Tensor:
    return torch.cat((bias[:2], torch.zeros(2, device=bias.device), bias[4:]))


@pytest.mark.parametrize(
    ("bias", "parts"),
    [
        *((way, "[true, false, true]") for way in (zeroed, assigned, put_together, sliced)),
        (filled, "[true, true, false, false, true, true]"),
    ],
)
def test_a_bias_of_which_a_part_is_0(bias: Callable[[Tensor], Tensor], parts: str) -> None:
    found = from_module(Partly(bias), (4,), extern=False)
    assert f"qkv: linear(6, bias = {parts})" in found.text


def swapped(bias: Tensor) -> Tensor:
    q, k, v = bias.chunk(3)
    return torch.cat([k, torch.zeros_like(q), v])


def doubled(bias: Tensor) -> Tensor:
    return bias.clone().mul_(2)


def part_doubled(bias: Tensor) -> Tensor:
    bias = bias.clone()
    bias[2:4].mul_(2)
    return bias


def replaced(bias: Tensor) -> Tensor:
    found = torch.zeros(6, device=bias.device)
    found[:6] = bias
    return found


@pytest.mark.parametrize("bias", [swapped, doubled, part_doubled, replaced])
def test_a_bias_that_is_changed_is_refused(bias: Callable[[Tensor], Tensor]) -> None:
    """Also where it is 0, as when training starts, so that no number tells."""
    module = Partly(bias)
    nn.init.zeros_(module.qkv.bias)
    with pytest.raises(ImportRefused, match="with a weight that is computed from parameters"):
        from_module(module, (4,), extern=False)


SIZES = {"12": (12,), "12, T = 5": (12, 5), "12, H = 5, W = 6": (12, 5, 6)}
PARTLY = "linear(6, bias = [true, false, true])"
LAYERS = (PARTLY, "linear(6, bias = [false, true])", "linear(8, bias = [true, true, false, false])")


@pytest.mark.parametrize("layer", [*LAYERS, f"{PARTLY} -> batchnorm", f"layernorm -> {PARTLY}"])
@pytest.mark.parametrize("size", SIZES)
def test_a_built_layer_with_a_bias_in_parts_is_read_back(layer: str, size: str) -> None:
    becomes_itself(f"model net {{\n    input x[{size}]\n    {layer}\n}}\n", SIZES[size])


@pytest.mark.parametrize("size", [*SIZES][1:])
def test_built_attention_by_cosines_is_read_back(size: str) -> None:
    text = f"model net {{\n    input x[{size}]\n    split(3) -> factor: attend(2, scale = cosine)\n}}\n"
    becomes_itself(text, SIZES[size])


def becomes_itself(text: str, size: tuple[int, ...]) -> None:
    source = Source("net.arch", text)
    found = from_module(archdsl.load(source), size, extern=False)
    changes = archdsl.diff(archdsl.check(source), found.graph).changes
    assert not [change for change in changes if change.kind != "renamed"], found.text


class Cosines(nn.Module):
    """Queries and keys of length 1, by PyTorch's own function."""

    def __init__(self, scale: float | None) -> None:
        super().__init__()
        self.qkv, self.scale = nn.Linear(12, 36), scale

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.qkv(x).unflatten(-1, (3, 2, 6)).permute(2, 0, 3, 1, 4)
        q, k = F.normalize(q, dim=-1), F.normalize(k, dim=-1)
        return F.scaled_dot_product_attention(q, k, v, scale=self.scale).transpose(1, 2).flatten(2)


@pytest.mark.parametrize("scale", [None, 1.0])
def test_cosines_without_a_factor_are_products_of_unit_vectors(scale: float | None) -> None:
    text = from_module(Cosines(scale), (5, 12), extern=False).text
    assert "normalize" in text and "attend(" in text and "scale = cosine" not in text


HIDDEN = "model net {{\n    input x[4]\n    qkv: linear(6{})\n}}\n"


def test_weights_of_one_number_hide_nothing() -> None:
    """The proof tries others, too."""
    module = Partly(zeroed)
    nn.init.zeros_(module.qkv.bias)
    right, wrong = (HIDDEN.format(more) for more in (", bias = [true, false, true]", ""))
    prove("net", right, [], module, [(4,)], [(4,)])
    with pytest.raises(ImportRefused, match="with other weights than its own"):
        prove("net", wrong, [], module, [(4,)], [(4,)])


class Cached(Partly):
    """Keeps what it has computed of its weights."""

    def __init__(self) -> None:
        super().__init__(zeroed)
        nn.init.zeros_(self.qkv.bias)
        self.kept: dict[str, Tensor] = {}

    def forward(self, x: Tensor) -> Tensor:
        if "bias" not in self.kept:
            self.kept["bias"] = self.partly(self.qkv.bias)
        return F.linear(x, self.qkv.weight, self.kept["bias"])


@pytest.mark.parametrize("ran", [False, True])
def test_what_a_module_keeps_is_of_its_own_weights(ran: bool) -> None:
    module = Cached()
    if ran:
        module(torch.randn(1, 4))
    before = dict(module.kept)
    prove("net", HIDDEN.format(", bias = [true, false, true]"), [], module, [(4,)], [(4,)])
    assert module.kept == before
