"""What models of the zoo do that other modules rarely do: each is said, and proved, without an extern."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from archdsl.runtime.importing import ImportRefused, from_module
from archdsl.runtime.importing.turning import said


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


class Unit(nn.Module):
    def __init__(self, width: int, act: nn.Module) -> None:
        super().__init__()
        self.conv1, self.act, self.conv2 = nn.Conv2d(width, width, 3, padding=1), act, nn.Conv2d(width, width, 1)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.conv2(self.act(self.conv1(x)))


def test_activations_with_arguments_are_no_parameter() -> None:
    acts = [nn.ReLU(), nn.LeakyReLU(0.1), nn.ReLU(), nn.LeakyReLU(0.1), nn.LeakyReLU()]
    found = from_module(nn.Sequential(nn.Conv2d(3, 8, 1), *(Unit(8, act) for act in acts)), (3, 8, 8), extern=False)
    assert "leaky_relu(0.1)" in found.text.replace("slope = ", "")


class Repeated(nn.Module):
    """As efficient channel attention: the factors are repeated for each position before they are multiplied."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.conv = nn.Conv2d(3, 8, 3, padding=1), nn.Conv1d(1, 1, 3, padding=1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        y = self.conv(x.mean((2, 3)).view(x.shape[0], 1, -1))
        return x * y.sigmoid().view(x.shape[0], -1, 1, 1).expand_as(x)


def test_a_factor_that_is_repeated_is_one_of_each_channel() -> None:
    assert "-> mul" in from_module(Repeated(), (3, 16, 16), extern=False).text


class OnlyRepeated(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.mean((2, 3), keepdim=True).expand_as(x)


def test_a_tensor_that_is_only_repeated_is_copied() -> None:
    found = from_module(OnlyRepeated(), (3, 16, 16))
    assert "resize(image.size)" in found.text


class RootMeanSquares(nn.Module):
    """A normalisation that is written out beside an activation, with its weight."""

    def __init__(self) -> None:
        super().__init__()
        self.weight, self.act, self.eps = nn.Parameter(torch.rand(8)), nn.GELU(), 1e-5

    def forward(self, x: Tensor) -> Tensor:
        x = x * torch.rsqrt(x.pow(2).mean(dim=1, keepdim=True) + self.eps)
        return self.act(x * self.weight.reshape(1, -1, 1, 1))


class Padded(nn.Sequential):
    def __init__(self, value: float) -> None:
        super().__init__(nn.Conv2d(3, 8, 1), nn.ConstantPad2d(1, value), RootMeanSquares(), nn.Conv2d(8, 4, 3))


def test_a_normalisation_beside_an_activation_is_the_layer() -> None:
    found = from_module(Padded(0.0), (3, 16, 16), extern=False)
    assert "rmsnorm(eps = 1e-5)" in found.text and "affine" not in found.text


def test_a_padding_with_another_number_is_refused() -> None:
    with pytest.raises(ImportRefused, match="`pad` by"):
        from_module(Padded(0.5), (3, 16, 16), extern=False)


class OtherRoot(RootMeanSquares):
    """The root of squares of another tensor."""

    def forward(self, x: Tensor) -> Tensor:
        return self.act(x + 1) * torch.rsqrt(x.pow(2).mean(dim=1, keepdim=True) + self.eps)


def test_the_root_of_another_tensor_is_no_normalisation() -> None:
    found = from_module(nn.Sequential(nn.Conv2d(3, 8, 1), OtherRoot()), (3, 16, 16), extern=False)
    assert "rmsnorm" not in found.text and "div" in found.text


class MultiQuery(nn.Module):
    """All heads of the queries share the keys and values."""

    def __init__(self) -> None:
        super().__init__()
        self.q, self.k, self.v = nn.Conv2d(8, 16, 1), nn.Conv2d(8, 4, 2, 2), nn.Conv2d(8, 6, 2, 2)
        self.out = nn.Conv2d(24, 8, 1)

    def forward(self, x: Tensor) -> Tensor:
        n, _, h, w = x.shape
        q = self.q(x).reshape(n, 4, 4, -1).transpose(-1, -2)
        k, v = (part.flatten(2).transpose(1, 2).unsqueeze(1) for part in (self.k(x), self.v(x)))
        x = F.scaled_dot_product_attention(q, k, v)
        return self.out(x.transpose(1, 2).reshape(n, h, w, -1).permute(0, 3, 1, 2))


def test_keys_that_heads_share_are_repeated() -> None:
    module = nn.Sequential(nn.Conv2d(3, 8, 1), MultiQuery())
    found = from_module(module, (3, 16, 16), extern=False)
    assert "attend(4)" in found.text and "H = 16" in found.text


CENTRED = [((torch.arange(n) + 0.5) / n * 2 - 1) * 2 * math.pi for n in (3, 5)]
FITTED = [torch.arange(n) * 16 / n for n in (3, 5)]


@pytest.mark.parametrize(("at", "positions"), [(CENTRED, "centred"), (FITTED, 16)], ids=["centred", "fitted"])
def test_angles_of_other_positions_are_recognised(at: list[Tensor], positions: object) -> None:
    waves = 100 ** (torch.arange(4) / 4)
    angles = torch.cat([part[..., None] / waves for part in torch.meshgrid(*at, indexing="ij")], -1).flatten(0, 1)
    numbers = torch.cat([angles.repeat(1, 2).sin(), angles.repeat(1, 2).cos()], -1)
    assert said(numbers, (15,), halves=True) == ((3, 5), 100.0, positions)


class Affine(nn.Module):
    """As ResMLP's: a factor and a summand of each channel, in one call."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.alpha, self.beta = nn.Parameter(torch.rand(1, 1, width)), nn.Parameter(torch.rand(1, 1, width))

    def forward(self, x: Tensor) -> Tensor:
        return torch.addcmul(self.beta, self.alpha, x)


class AffineTokens(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem, self.norm, self.fc = nn.Conv2d(3, 8, 4, 4), Affine(8), nn.Linear(8, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.norm(self.stem(x).flatten(2).transpose(1, 2)).mean(1))


def test_a_product_and_a_sum_in_one_call_are_two_operations() -> None:
    found = from_module(AffineTokens(), (3, 16, 16), extern=False)
    assert "norm.alpha" in found.state and found.text.count("parameter(") + found.text.count("scale") == 2


class PaddedChannels(nn.Module):
    """A shortcut that pads the channels with zeros, and a column of ones behind tokens."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.fc = nn.Conv2d(8, 16, 3, 2, 1), nn.Linear(17, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.conv(x) + F.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, 4, 4)))
        return self.fc(F.pad(x.flatten(2).transpose(1, 2), (0, 1), value=1.0))


def test_channels_are_padded_by_what_is_put_beside_them() -> None:
    found = from_module(nn.Sequential(nn.Conv2d(3, 8, 1), PaddedChannels()), (3, 16, 16), extern=False)
    assert "rescale(0, 1)" in found.text.replace("offset = ", "") and "H = 16" in found.text


class Squeeze(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.fc1, self.act, self.fc2 = nn.Conv2d(8, 4, 1), nn.ReLU(), nn.Conv2d(4, 8, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(self.act(self.fc1(x)))


class GlobalContext(nn.Module):
    """The mean of positions by weights of their own, a product of matrices, goes through a module."""

    def __init__(self) -> None:
        super().__init__()
        self.conv_attn, self.mlp = nn.Conv2d(8, 1, 1), Squeeze()

    def forward(self, x: Tensor) -> Tensor:
        n, c, h, w = x.shape
        weights = self.conv_attn(x).reshape(n, 1, h * w).softmax(-1).unsqueeze(3)
        context = (x.reshape(n, c, h * w).unsqueeze(1) @ weights).view(n, c, 1, 1)
        return x * self.mlp(context).sigmoid()


def test_a_product_of_matrices_goes_through_a_module() -> None:
    found = from_module(nn.Sequential(nn.Conv2d(3, 8, 1), GlobalContext()), (3, 8, 8), extern=False)
    assert "matmul" in found.text


class GlobalResponseNorm(nn.Module):
    """By the name of a class of built files, with the channels last."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight, self.bias = nn.Parameter(torch.zeros(width)), nn.Parameter(torch.zeros(width))

    def forward(self, x: Tensor) -> Tensor:
        norms = x.norm(dim=(1, 2), keepdim=True)
        return x + self.bias + self.weight * x * norms / (norms.mean(-1, keepdim=True) + 1e-4)


class ChannelsLast(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem, self.fc1, self.grn, self.fc2 = (
            nn.Conv2d(3, 12, 1),
            nn.Linear(12, 20),
            GlobalResponseNorm(20),
            nn.Linear(20, 4),
        )
        self.grn.eps = 1e-4

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(self.grn(self.fc1(self.stem(x).permute(0, 2, 3, 1)))).permute(0, 3, 1, 2)


@pytest.mark.parametrize("side", [12, 20])
def test_a_class_by_the_name_of_one_of_built_files(side: int) -> None:
    """The sides of the map are numbers of channels, too: only numbers tell the channels."""
    text = from_module(ChannelsLast(), (3, side, side), extern=False).text
    assert "grn: grn(1e-4)" in text.replace("eps = ", "").replace("0.0001", "1e-4") and "permute" not in text
