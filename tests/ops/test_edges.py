"""Sides of maps and signals, and the channels as one: against plain PyTorch, at every small size."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from archdsl import check
from archdsl.compiler import draw, prove_build
from archdsl.diagnostics import SpecError
from archdsl.report.explain import explain
from tests.helpers import graph_of, net_text
from tests.modules import class_of


def module(text: str) -> nn.Module:
    torch.manual_seed(0)
    return class_of(graph_of(text))(dtype=torch.double)


MERGING = """
(for i in 0..4 { slice(i % 2, axis = 1, step = 2) -> slice(i // 2, axis = 2, step = 2) }) -> concat
layernorm -> linear(6, bias = false)
"""


def test_patches_of_odd_maps_are_merged_as_torchvision_does() -> None:
    model = module(net_text(f"pad_to_multiple(2)\n{MERGING}", "x[3, H, W]"))
    norm, reduction = (m for m in model.modules() if isinstance(m, nn.LayerNorm | nn.Linear))
    for height in range(1, 6):
        for width in range(1, 6):
            x = torch.randn(2, 3, height, width, dtype=torch.double)
            y = F.pad(x.permute(0, 2, 3, 1), (0, 0, 0, width % 2, 0, height % 2))
            y = torch.cat([y[:, i % 2 :: 2, i // 2 :: 2] for i in range(4)], -1)
            torch.testing.assert_close(model(x), reduction(norm(y)).permute(0, 3, 1, 2))


def test_swin_takes_every_size_from_a_patch_on() -> None:
    assert check("swin:swin_t").valid == "H, W: any from 4"


@pytest.mark.parametrize(("kernel", "stride", "dilation"), [(2, 1, 1), (3, 2, 1), (3, 1, 4), (4, 3, 2), (1, 2, 1)])
def test_a_causal_convolution_sees_nothing_that_comes_later(kernel: int, stride: int, dilation: int) -> None:
    call = f"conv(4, {kernel}, stride = {stride}, dilation = {dilation}, pad = causal)"
    graph = graph_of(net_text(f"{call} -> batchnorm -> relu", "x[3, T]"))
    model = class_of(graph)(dtype=torch.double).eval()
    conv = next(m for m in model.modules() if isinstance(m, nn.Conv1d))
    for length in range(1, 12):
        x = torch.randn(1, 3, length, dtype=torch.double)
        padded = F.pad(x, (dilation * (kernel - 1), 0))
        y = F.conv1d(padded, conv.weight, conv.bias, stride, 0, dilation)
        torch.testing.assert_close(model(x), model[1](y).relu())
        assert y.shape[2] == -(-length // stride)
        for t in range(y.shape[2]):
            later = x.clone()
            later[:, :, t * stride + 1 :] += 1
            torch.testing.assert_close(model(later)[:, :, t], model(x)[:, :, t], rtol=0, atol=0)
    assert "BatchNorm" not in prove_build(graph, inference=True).text


def test_causal_is_for_signals() -> None:
    with pytest.raises(SpecError, match="is for a signal"):
        graph_of(net_text("conv(4, 3, pad = causal)", "x[3, 8, 8]"))


def test_spatial_attention() -> None:
    text = net_text("(it, (channel_mean, channel_max) -> concat -> conv(1, 7) -> sigmoid) -> mul", "x[5, H, W]")
    model = module(text)
    conv = next(m for m in model.modules() if isinstance(m, nn.Conv2d))
    x = torch.randn(2, 5, 9, 8, dtype=torch.double)
    pooled = torch.cat([x.mean(1, keepdim=True), x.max(1, keepdim=True)[0]], 1)
    torch.testing.assert_close(model(x), x * conv(pooled).sigmoid())


WORDS = ("exp", "squeeze", "pad_to_multiple", "channel_mean", "channel_max")
EVERY = {
    "exp": "conv(4, 1) -> exp",
    "squeeze": "adaptive_avgpool([1, 8]) -> squeeze(1) -> conv(4, 3, pad = causal)",
    "pad": "conv(4, 3, stride = 2) -> pad_to_multiple(3) -> conv(4, 1)",
    "channels": "(channel_mean, channel_max) -> sub -> conv(4, 3)",
}


@pytest.mark.parametrize("name", EVERY)
def test_reports_and_pictures_know_them(name: str) -> None:
    graph = graph_of(net_text(EVERY[name], "x[3, H = 10, W = 9]"))
    named = [node for node in graph.nodes() if node.operation.name in (*WORDS, "conv")]
    assert {n.operation.name for n in named} & set(WORDS)
    assert all("formula" in explain(graph, node.path) for node in named)
    assert "svg" in draw(graph)._repr_svg_()


def test_squeeze_needs_a_single_position() -> None:
    with pytest.raises(SpecError, match="`squeeze` of axis 1 needs a size of 1"):
        graph_of(net_text("squeeze(1)", "x[3, 8, 8]"))
    with pytest.raises(SpecError, match="has axes 0 to 2"):
        graph_of(net_text("squeeze(3)", "x[3, 8, 8]"))


@pytest.mark.parametrize("axis", [1, 2, 3])
def test_squeeze_removes_its_axis_alone(axis: int) -> None:
    sizes = [1 if a == axis else 2 + a for a in range(1, 4)]
    size = ", ".join(map(str, sizes))
    model = module(net_text(f"conv(4, 1) -> layernorm -> squeeze({axis}) -> conv(2, 1)", f"x[3, {size}]"))
    x = torch.randn(2, 3, *sizes, dtype=torch.double)
    conv, norm, last = (m for m in model.modules() if isinstance(m, nn.Conv3d | nn.Conv2d | nn.LayerNorm))
    y = F.layer_norm(conv(x).movedim(1, -1), (4,), norm.weight, norm.bias, norm.eps).movedim(-1, 1)
    torch.testing.assert_close(model(x), last(y.squeeze(1 + axis)))
