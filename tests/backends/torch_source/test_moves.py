"""Where the channels of tensors stand in a built module: moves of axes at the fewest places, and the same numbers."""

from __future__ import annotations

import re
from random import Random

import pytest
import torch

from archdsl.analysis.layout import Layout
from archdsl.backends.torch_source import Plainness, write_module
from archdsl.compiler import build, check, prove_build
from archdsl.graph import Graph
from tests import random_checks
from tests.helpers import ROOT, graph_of, net_text, random_graph
from tests.modules import inputs, module_of
from tests.random_layouts import network

CONVNEXT = """
block block(rate) {
    let width = it.channels
    residual {
        block: {
            "0": conv(width, 7, groups = width) -> "2": layernorm(eps = 1e-6) -> "3": linear(4 * width) -> "4": gelu
            "5": linear(width)
        }
        layer_scale: scale(1e-6)
        droppath(rate)
    }
}
model net(depths = [1, 4], width = 8) {
    input x[3, H = 32, W = 32]
    features: {
        "0": { conv(width, 4, stride = 4, pad = valid) -> layernorm }
        for i in 0..2 {
            "{2 * i + 1}": { for j in 0..depths[i] { block(0.1 * j) } }
            if i == 0 { "2": { layernorm -> conv(2 * width, 2, stride = 2, pad = valid) } }
        }
    }
    global_avgpool -> classifier: { layernorm -> flatten -> linear(5) }
}
"""

SWIN = """
block block(heads, rate) {
    residual { norm1: layernorm -> attn: attention(heads) -> droppath(rate) }
    residual {
        norm2: layernorm
        mlp: { linear(2 * it.channels) -> gelu -> dropout(0.0) -> linear(it.channels // 2) -> dropout(0.0) }
        droppath(rate)
    }
}
model net(depths = [1, 4], width = 8) {
    input x[3, H = 16, W = 16]
    features: {
        "0": { "0": conv(width, 4, stride = 4, pad = valid) -> "2": layernorm }
        for i in 0..2 {
            "{2 * i + 1}": { for j in 0..depths[i] { block(2, 0.1 * j) } }
            if i == 0 { "2": { norm: layernorm -> reduction: linear(2 * width, bias = false) } }
        }
    }
    norm: layernorm
    avgpool: global_avgpool
    flatten -> head: linear(5)
}
"""

VIT = """
block encoder_layer(heads, mlp_width) {
    let width = it.channels
    residual { ln_1: layernorm(eps = 1e-6) -> self_attention: attention(heads) -> dropout(0.1) }
    residual {
        ln_2: layernorm(eps = 1e-6)
        mlp: { linear(mlp_width) -> gelu -> dropout(0.0) -> linear(width) -> dropout(0.0) }
    }
}
model net(depth = 5, width = 8) {
    input x[3, 16, 16]
    conv_proj: conv(width, 4, stride = 4, pad = valid)
    tokens
    encoder: {
        layers: { for i in 0..depth { "encoder_layer_{i}": encoder_layer(2, 16) } }
        ln: layernorm(eps = 1e-6)
    }
    head: linear(5)
}
"""


def moves(text: str) -> int:
    """The places where a built file moves axes."""
    return len(re.findall(r"\.permute\(0|(?<!class )Permute\(\(", text))


@pytest.mark.parametrize(
    ("spec", "at_most"),
    # torchvision's: CNBlock, and the LayerNorm2d of its classifier; Swin's stem and head; VisionTransformer's tokens.
    [(CONVNEXT, 3), (SWIN, 2), (VIT, 2)],
    ids=["convnext", "swin", "vit"],
)
def test_moves_axes_at_no_more_places_than_torchvision(spec: str, at_most: int) -> None:
    text = build(graph_of(spec))
    assert moves(text) == at_most
    assert "Linear(nn.Linear)" not in text  # no helper
    assert "Attention(nn.MultiheadAttention)" not in text.replace("class SelfAttention", "")


@pytest.mark.parametrize("spec", [CONVNEXT, SWIN, VIT], ids=["convnext", "swin", "vit"])
def test_computes_what_it_computes_without_moves(spec: str) -> None:
    graph = graph_of(spec)
    moved, plain = (
        module_of(write_module(graph, plainness=level))[1](dtype=torch.double).eval()
        for level in (Plainness.READABLE, Plainness.STRAIGHT)
    )
    plain.load_state_dict(moved.state_dict())
    assert moves(write_module(graph, plainness=Plainness.STRAIGHT)) == 0
    x = inputs(graph)[0]
    for memory_format in (torch.contiguous_format, torch.channels_last):
        torch.testing.assert_close(moved(x.to(memory_format=memory_format)), plain(x))
    random_checks.holds(graph)


def test_reads_like_a_file_of_torchvision() -> None:
    text = build(graph_of(CONVNEXT))
    assert (
        """        self.block = nn.Sequential(
            nn.Conv2d(in_channels, in_channels, 7, padding=3, groups=in_channels, **kw),
            Permute((0, 2, 3, 1)),
            nn.LayerNorm(in_channels, eps=1e-06, **kw),
            nn.Linear(in_channels, 4 * in_channels, **kw),
            nn.GELU(),
            nn.Linear(4 * in_channels, in_channels, **kw),
            Permute((0, 3, 1, 2)),
        )
"""
        in text
    )


def layout(body: str, size: str = "4, 5") -> tuple[Graph, Layout]:
    graph = graph_of(net_text(body, f"x[8, {size}]"))
    return graph, Layout.of(graph)


def names(graph: Graph, found: Layout) -> list[str]:
    return [n.operation.name for n in graph.nodes() if n.id in found.last]


def test_learned_tensors_stay_in_the_order_that_they_are_stored_in() -> None:
    found = prove_build(check(f"{ROOT / 'specs' / 'vit.arch'}:vit", width=8, depth=2, heads=2, mlp_width=12, patch=16))
    assert found.plainness is Plainness.READABLE, found.refused
    assert found.text.count(".permute(") == 1
    for line in (
        "x = self.conv_proj(x).flatten(2).permute(0, 2, 1)",
        "x = torch.cat([self.class_token.expand(x.shape[0], -1, -1), x], 1)",
        "x += self.pos_embedding\n",
    ):
        assert line in found.text


def test_without_an_operation_that_prefers_the_channels_last_nothing_is_moved() -> None:
    assert layout("conv(8, 3) -> softmax -> residual { relu -> conv(8, 1) }")[1] == Layout()


def test_a_layer_alone_between_convolutions_moves_axes_itself() -> None:
    assert layout("conv(8, 3) -> layernorm -> conv(8, 3)")[1] == Layout()


def test_what_is_neutral_follows_its_neighbours() -> None:
    graph, found = layout("conv(8, 3) -> relu -> layernorm -> gelu -> linear(8) -> tanh -> conv(8, 3)")
    assert names(graph, found) == ["layernorm", "gelu", "linear"]


def test_a_tensor_that_several_take_is_moved_once() -> None:
    graph, found = layout("conv(8, 3) -> (linear(8), layernorm, linear(8) -> gelu) -> add -> conv(8, 3)")
    assert moves(build(graph)) == 2
    assert len(found.moved) == 2


def test_an_output_has_the_channels_first() -> None:
    text = build(graph_of(net_text("layernorm -> linear(8) -> linear(5)", "x[8, 4, 5]")))
    assert text.count("(0, 3, 1, 2)") == 1
    assert moves(text) == 2


def test_a_loop_carries_tensors_in_one_order() -> None:
    text = build(
        graph_of(net_text("conv(8, 3)\nfor i in 0..5 { layernorm -> linear(8) -> gelu }\nconv(8, 1)", "x[8, 4, 5]"))
    )
    assert moves(text) == 2
    assert "for" in text


def test_a_permute_of_the_spec_is_one_of_the_text() -> None:
    row = "layernorm -> permute([1, 0]) -> linear(9) -> gelu -> linear(7) -> permute([1, 0]) -> linear(8)"
    text = build(graph_of(net_text(f"conv(8, 1) -> linear(8) -> {row} -> conv(8, 1)", "x[8, 7]")))
    assert text.count(".permute(0, 2, 1)") == 4  # in, out, and the two of the spec
    assert ".permute(0, 2, 1).permute(0, 2, 1)" not in text


def test_keys_do_not_hang_on_moves() -> None:
    graph = graph_of(net_text("a: { conv(8, 3) -> layernorm -> linear(8) -> conv(8, 1) }", "x[8, 4, 5]"))
    module = module_of(build(graph))[1]()
    assert {key.split(".")[1] for key in module.state_dict()} == {"0", "1", "2", "3"}
    assert '("permute", Permute((0, 2, 3, 1)))' in build(graph)


def test_a_size_is_read_from_a_tensor_as_it_stands() -> None:
    body = "conv(8, 3, stride = 2) -> layernorm -> linear(8) -> big: gelu"
    end = "linear(8) -> tokens -> linear(8) -> maps(big.size) -> linear(3)"
    graph = graph_of(net_text(f"{body}\n{end}", "x[8, H = 4, W = 5]"))
    assert ".shape[1:-1]" in build(graph)
    random_checks.holds(graph)


UNSHIFTED = (
    "batchnorm -> attention(2) -> layernorm",
    "batchnorm -> linear(24) -> split(3) -> attend(2) -> linear(8)",
    "conv(8, 1) -> linear(8) -> residual { attention(2) } -> layernorm -> conv(8, 1)",
)


@pytest.mark.parametrize("body", UNSHIFTED)
def test_the_mask_of_unshifted_windows_which_is_none_is_not_moved(body: str) -> None:
    graph = graph_of(net_text(f"windows(3, 0) {{ {body} }}", "x[8, 6, 6]"))
    assert moves(build(graph)) and "mask_strangers" in build(graph)
    random_checks.holds(graph)


def test_random_networks_compute_the_same_in_every_form() -> None:
    random = Random(0)
    counts = sum(
        (random_checks.holds(random_graph(network, random)[1]) for _ in range(5)), start=random_checks.Counter()
    )
    assert counts["plain"] == 5
    assert not counts["plainer"]


@pytest.mark.long
@pytest.mark.parametrize("seed", range(1, 21))
def test_more_random_networks_compute_the_same_in_every_form(seed: int) -> None:
    random = Random(seed)
    counts = sum(
        (random_checks.holds(random_graph(network, random)[1]) for _ in range(50)), start=random_checks.Counter()
    )
    assert counts["plainer"] <= 1
