"""Habits of public repositories: each becomes what its author would have written, with free sizes where it has them."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from archdsl.runtime.importing import from_module


class Net(nn.Module):
    """A convolution, and a function of its maps and of this module."""

    def __init__(self, function: Callable[[nn.Module, Tensor], Tensor], **parts: nn.Module) -> None:
        super().__init__()
        self.conv, self.function = nn.Conv2d(3, 8, 3, padding=1), function
        for name, part in parts.items():
            self.add_module(name, part)

    def forward(self, image: Tensor) -> Tensor:
        return self.function(self, self.conv(image))


def body(text: str, after: str = "conv: conv(8, 3)") -> str:
    """What follows the convolution in a spec, in one line."""
    return " ".join(text.partition(after)[2].removesuffix("}\n").split()).removeprefix("-> ")


def channels_zero(net: nn.Module, x: Tensor) -> Tensor:
    return F.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, 4, 4), "constant", 0)


@pytest.mark.parametrize(
    ("function", "spec"),
    [
        (lambda net, x: x * x.mean((2, 3)).view(x.size(0), -1, 1, 1).expand_as(x), "(it, global_avgpool) -> mul"),
        (
            lambda net, x: x - x.mean(1, keepdim=True).expand(x.size()),
            "(it, channel_mean -> rescale(-1)) -> add(stretch = true)",
        ),
        (
            lambda net, x: torch.cat([x, x.mean((2, 3), keepdim=True).repeat(1, 1, x.size(2), x.size(3))], 1),
            "dense { global_avgpool -> resize(image.size) }",
        ),
        (lambda net, x: x[:, :1].repeat(1, 3, 1, 1), "slice(0, 1) (it, it, it) -> concat"),
        (
            channels_zero,
            "slice(0, axis = 1, step = 2) -> slice(0, axis = 2, step = 2) "
            "(slice(0, 4) -> rescale(0), it, slice(0, 4) -> rescale(0)) -> concat",
        ),
        (lambda net, x: F.avg_pool2d(x, x.size()[2:]), "global_avgpool"),
        (lambda net, x: F.max_pool2d(x, kernel_size=x.shape[2:]), "global_maxpool"),
        (lambda net, x: F.adaptive_avg_pool2d(x, (None, 1)), "reduce_mean(axis = 2)"),
        (lambda net, x: F.glu(x, dim=1), "(split0, split1): split(2) (split0, split1 -> sigmoid) -> mul"),
        (lambda net, x: torch.max(*x.chunk(2, 1)), "split(2) -> maximum"),
        (lambda net, x: x[:, :, 1:-2, 1:-2], "crop(1x0, after = 2x0) -> crop(0x1, after = 0x2)"),
        (lambda net, x: x.flatten(2)[:, :, -1], "tokens -> slice(-1, axis = 1) -> flatten"),
        (
            lambda net, x: F.interpolate(F.max_pool2d(x, 2), size=x.shape[2:], mode="bilinear", align_corners=True),
            "maxpool(2) resize(image.size, align_corners = true)",
        ),
    ],
)
def test_a_habit_is_said(function: Callable[[nn.Module, Tensor], Tensor], spec: str) -> None:
    found = from_module(Net(function), (3, 12, 16), extern=False)
    assert body(found.text) == spec and "H = 12, W = 16" in found.text


@pytest.mark.parametrize(
    ("layer", "spec"),
    [
        (nn.ReflectionPad2d(1), "pad(1, mode = reflect)"),
        (nn.ReplicationPad2d((1, 2, 1, 2)), "pad(1, mode = replicate, after = 2)"),
        (nn.CircularPad2d(2), "pad(2, mode = circular)"),
        (nn.ConstantPad2d(1, 0.0), "pad(1)"),
        (
            nn.Upsample(scale_factor=2, mode="bilinear", align_corners=True),
            "upsample(2, mode = bilinear, align_corners = true)",
        ),
        (nn.AdaptiveMaxPool2d((1, None)), "reduce_max"),
        (nn.GLU(dim=1), "(split0, split1): split(2) (split0, split1 -> sigmoid) -> mul"),
    ],
    ids=lambda given: type(given).__name__,
)
def test_a_layer_is_said(layer: nn.Module, spec: str) -> None:
    found = from_module(Net(lambda net, x: net.W(x), W=layer), (3, 12, 16), extern=False)
    assert body(found.text).removeprefix('"W": ').removeprefix("W: ") == spec and "H = 12" in found.text


class Normalised(nn.Module):
    """Pictures less their mean, by their deviation."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3)
        self.register_buffer("mean", torch.rand(1, 3, 1, 1))
        self.register_buffer("std", torch.rand(1, 3, 1, 1) + 0.5)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv((x - self.mean) / self.std)


def test_buffers_are_parameters_to_be_frozen() -> None:
    found = from_module(Normalised(), (3, 12, 12))
    assert {*found.state} == {"mean", "std", "conv.weight", "conv.bias"}
    assert found.notes == ["`mean` and 1 more did not require gradients: freeze what is to stay after loading weights"]


class Joined(nn.Module):
    """The second input is used first; the name of its class is that of an input."""

    def __init__(self) -> None:
        super().__init__()
        self.W = nn.Conv2d(8, 4, 3)

    def forward(self, x: Tensor, joined: Tensor) -> Tensor:
        return self.W(torch.cat([x, torch.relu(joined).tanh()], 1))


def test_inputs_have_their_own_names() -> None:
    found = from_module(Joined(), [(3, 8, 8), (5, 8, 8)])
    assert "(x, joined -> relu -> tanh) -> concat" in found.text and "H = 8" in found.text


class Temporal(nn.Module):
    """As in temporal convolutional networks: layers by their own names, and again in a sequence."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.conv2 = nn.Conv1d(3, 8, 3, padding=2), nn.Conv1d(8, 8, 3, padding=2)
        self.net = nn.Sequential(self.conv1, nn.ReLU(), self.conv2, nn.ReLU())
        self.unused = nn.Conv1d(8, 8, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.net(x)[:, :, :-4]
        self.unused(x)
        return x


def test_layers_under_two_names_go_by_that_of_their_caller() -> None:
    found = from_module(Temporal(), (3, 32))
    assert "net: {" in found.text and "crop(0, after = 4)" in found.text
    assert {key.partition(".")[0] for key in found.state} == {"net"}
    assert "`conv1.weight` and 3 more is the weight `net.0.weight` under a second key" in found.notes[0]
    assert "it does not use `unused.weight` and 1 more" in found.notes[1]


class PositionsFirst(nn.Module):
    """A transformer's encoder as PyTorch has it by default, with the batch behind the positions."""

    def __init__(self) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, 32, 4, 4)
        self.encoder = nn.TransformerEncoder(nn.TransformerEncoderLayer(32, 4, 64), 2, enable_nested_tensor=False)
        self.attention = nn.MultiheadAttention(32, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = self.encoder(self.patches(x).flatten(2).permute(2, 0, 1))
        return (x + self.attention(x, x, x)[0]).mean(0)


def test_attention_with_the_positions_first() -> None:
    found = from_module(PositionsFirst(), (3, 16, 16), extern=False)
    assert '"encoder.layers.{i}"' not in found.text and "transformer_encoder_layer }" in found.text
    assert "H = 16" in found.text
    assert "residual { attention: attention(4) }" in found.text


def test_one_number_for_each_sample_is_one_channel() -> None:
    net = Net(lambda net, x: net.last(x).mean((2, 3)).squeeze(1), last=nn.Conv2d(8, 1, 3))
    found = from_module(net, (3, 12, 12))
    assert "its output 0 is one number for each sample, which the spec gives an axis of size 1" in found.notes


def test_a_squeeze_that_drops_a_batch_of_one_is_noted() -> None:
    found = from_module(Net(lambda net, x: F.adaptive_avg_pool2d(x, 1).squeeze()), (3, 12, 12))
    assert found.notes == ["its output 0 loses its first axis for a batch of 1, the spec's does not"]


class Positions(nn.Module):
    """A transformer without a class token, whose positions were learned with one."""

    def __init__(self) -> None:
        super().__init__()
        self.patches, self.positions = nn.Conv2d(3, 8, 4, 4), nn.Parameter(torch.rand(1, 17, 8))

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.patches(x).flatten(2).transpose(1, 2) + self.positions[:, 1:]).mean(1)


def test_a_part_of_a_parameter() -> None:
    found = from_module(Positions(), (3, 16, 16))
    assert "positions: parameter([8, 17], stored = tokens) -> slice(1, axis = 1)" in found.text
