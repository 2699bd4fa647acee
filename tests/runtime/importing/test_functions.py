"""Functions of tensors as public repositories call them: what each becomes, and what is refused with advice."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import archdsl
from archdsl.runtime.importing import ImportRefused, from_module


class Net(nn.Module):
    """A convolution, and a function of its maps."""

    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.conv, self.function = nn.Conv2d(3, 8, 3, padding=1), function

    def forward(self, image: Tensor) -> Tensor:
        return self.function(self.conv(image))


def said(function: Callable[[Tensor], Tensor]) -> str:
    """What follows the convolution in the spec of such a net, in one line."""
    found = from_module(Net(function), (3, 12, 12), extern=False)
    assert "H = 12, W = 12" in found.text
    return (
        " ".join(found.text.partition("conv: conv(8, 3)")[2].removesuffix("}\n").split())
        .removeprefix("-> ")
        .removeprefix("function: ")
    )


@pytest.mark.parametrize(
    ("function", "spec"),
    [
        (lambda x: F.log_softmax(x, dim=1), "log_softmax"),
        (nn.LogSoftmax(dim=1), "log_softmax"),
        (nn.LogSoftmax(dim=2), "log_softmax(axis = 1)"),
        (
            lambda x: torch.log_softmax(x.flatten(2).transpose(1, 2), 1),
            "tokens -> log_softmax(axis = 1) -> permute([1, 0])",
        ),
        (nn.Hardtanh(-2, 2), "hardtanh(min = -2, max = 2)"),
        (F.hardtanh, "hardtanh"),
        (lambda x: torch.clamp(x, -1, 1), "clamp(min = -1, max = 1)"),
        (lambda x: x.clamp_(min=0.25), "clamp(min = 0.25)"),
        (lambda x: x.clamp_max(0.5), "clamp(max = 0.5)"),
        (lambda x: x.clip(0, 6), "relu6"),
        (lambda x: torch.log(x.abs() + 1), "abs -> rescale(1, offset = 1) -> log"),
        (lambda x: x.permute(0, 2, 3, 1).abs().permute(0, 3, 1, 2), "abs"),
        (lambda x: torch.sin(30 * x) * x.cos(), "(rescale(30) -> sin, cos) -> mul"),
        (lambda x: x**2, "square"),
        (lambda x: x.pow(3), "(it, it, it) -> mul"),
        (lambda x: (x.square() + 1) ** 0.5, "square -> rescale(1, offset = 1) -> sqrt"),
        (lambda x: 1 / (x.abs() + 1), "abs -> rescale(1, offset = 1) (rescale(0, offset = 1), it) -> div"),
        (lambda x: x / x.sum(1, keepdim=True), "(it, reduce_sum(axis = 0)) -> div"),
        (lambda x: x / x.norm(dim=1, keepdim=True), "(it, square -> reduce_sum(axis = 0) -> sqrt) -> div"),
        (
            lambda x: x.var((2, 3), keepdim=True, unbiased=False),
            "(it, global_avgpool -> rescale(-1)) -> add(stretch = true) -> square global_avgpool",
        ),
        (
            lambda x: x.std(1, keepdim=True),
            "(it, channel_mean -> rescale(-1)) -> add(stretch = true) -> square "
            "channel_mean -> rescale(1.14285714286) -> sqrt",
        ),
        (lambda x: x.mean(2), "reduce_mean -> squeeze(1)"),
        (lambda x: x.mean(-1, keepdim=True), "reduce_mean(axis = 2)"),
        (lambda x: torch.max(x, 2)[0], "reduce_max -> squeeze(1)"),
        (lambda x: x.amax(1, keepdim=True), "channel_max"),
        (lambda x: x.sum((2, 3)), "reduce_sum reduce_sum(axis = 2) -> flatten"),
        (lambda x: x + x.sum(2, keepdim=True), "(it, reduce_sum) -> add(stretch = true)"),
    ],
)
def test_a_function_is_the_operation_of_its_name(function: Callable[[Tensor], Tensor], spec: str) -> None:
    assert said(function) == spec


@pytest.mark.parametrize(
    ("function", "reason"),
    [
        (lambda x: torch.tan(x), "the function `tan`: the functions of tensors are activations"),
        (lambda x: x.pow(1.7), "`pow` of a tensor and 1.7: `square`, `sqrt`"),
        (lambda x: x * (x > 0), "the function `gt`: nothing is chosen by the numbers of a tensor"),
        (lambda x: torch.fft.rfft2(x).abs(), "the function `fft_rfft2`: compute it outside"),
        (lambda x: x.cumsum(1), "the function `cumsum`: nothing is chosen"),
        (nn.RReLU(), "the layer RReLU: `relu`, `elu` and `leaky_relu` are near"),
        (lambda x: x.mean(0, keepdim=True) + x, "`mean` over the batch"),
        (lambda x: x.norm(p=1, dim=1), "`norm` other than the length of vectors along axes"),
        (lambda x: torch.log(x - 1000), "are nan or infinite"),
    ],
)
def test_a_refusal_says_what_to_do(function: Callable[[Tensor], Tensor], reason: str) -> None:
    with pytest.raises(ImportRefused) as refused:
        said(function)
    assert reason in str(refused.value)


class Many(nn.Module):
    """Most functions at once, of an exported file."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.cut, self.last = nn.Conv2d(3, 8, 3, padding=1), nn.Hardtanh(-2, 2), nn.LogSoftmax(1)

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        x = self.cut(self.conv(image))
        x = (
            x.clamp(-1, 1)
            + torch.abs(x)
            + torch.log(x.abs() + 1)
            + torch.sqrt(x * x + 1)
            + x.pow(2)
            + x.sin()
            + torch.cos(x)
        )
        x = x / (x.norm(dim=1, keepdim=True) + 1) + 1 / (x.abs() + 1) + x.clamp(min=0.1) * x.sum(1, keepdim=True)
        return self.last(x.mean((2, 3))), F.log_softmax(x, 1), x.mean(2), x.amax(3, keepdim=True)


OPERATIONS = [
    "abs",
    "sin",
    "cos",
    "log",
    "sqrt",
    "square",
    "div",
    "reduce_sum",
    "reduce_mean",
    "reduce_max",
    "log_softmax",
    "clamp(",
]


def test_an_exported_program_says_the_same(tmp_path: Path) -> None:
    program = torch.export.export(Many().eval(), (torch.randn(2, 3, 8, 8),))
    torch.export.save(program, tmp_path / "many.pt2")
    text = archdsl.from_file(tmp_path / "many.pt2").text
    assert all(name in text for name in [*OPERATIONS, "hardtanh(min = -2, max = 2)"])


def test_an_onnx_file_says_the_same(tmp_path: Path) -> None:
    pytest.importorskip("onnx", reason="the extra `onnx` is not installed")
    image = torch.randn(1, 3, 8, 8)
    axes = {"image": {0: "n", 2: "h", 3: "w"}}
    torch.onnx.export(
        Many().eval(), (image,), tmp_path / "many.onnx", dynamo=False, input_names=["image"], dynamic_axes=axes
    )
    text = archdsl.from_file(tmp_path / "many.onnx", [(3, 8, 8)]).text
    assert all(name in text for name in OPERATIONS)
