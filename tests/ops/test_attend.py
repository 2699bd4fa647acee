"""Attention without weights and its biases, compared with the formulas of Swin, Swin V2 and MaxViT."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from archdsl.compiler import build
from archdsl.diagnostics import SpecError
from archdsl.ops import OPERATIONS
from archdsl.ops.base import Rules
from archdsl.ops.declaration import OperationError
from archdsl.proof import Unproved, prove
from archdsl.transform.inference import for_inference
from tests.helpers import graph_of, net_text
from tests.modules import class_of

SWIN = """
qkv: linear(18) -> (q, k, v): split(3)
table: parameter([3, 15], init = normal(0.5), stored = rows)
index: relative(2x3) -> bias: it
(q, k, v, bias) -> attend(3) -> proj: linear(6)
"""
SWIN2 = """
qkv: linear(18) -> (q, k, v): split(3)
coords: coordinates(2x3)
cpb_mlp: { "0": linear(8) -> relu -> "2": linear(3, bias = false) }
index: relative(2x3) -> bias: it
(q, k, v, bias) -> logit_scale: attend(3, scale = cosine) -> proj: linear(6)
"""
INPUT = "x[6, 2, 3]"


def heads(x: Tensor) -> Tensor:
    """[N, C, H, W] as [N, heads, T, C / heads]."""
    return x.flatten(2).transpose(1, 2).unflatten(-1, (3, 2)).transpose(1, 2)


def mixed(model: torch.nn.Module, x: Tensor, scores: Tensor, v: Tensor) -> Tensor:
    found = (scores.softmax(-1) @ v).transpose(1, 2).flatten(2)
    return F.linear(found, model.proj.weight, model.proj.bias).transpose(1, 2).reshape(x.shape)


def parts(model: torch.nn.Module, x: Tensor) -> tuple[Tensor, ...]:
    rows = F.linear(x.flatten(2).transpose(1, 2), model.qkv.weight, model.qkv.bias)
    return tuple(heads(part.transpose(1, 2).reshape(x.shape)) for part in rows.chunk(3, -1))


def test_a_table_of_relative_positions_as_in_swin() -> None:
    model = class_of(graph_of(net_text(SWIN, INPUT)))().double()
    x = torch.randn(4, 6, 2, 3, dtype=torch.double)
    q, k, v = parts(model, x)
    places = [(i, j) for i in range(2) for j in range(3)]
    bias = torch.empty(3, 6, 6, dtype=torch.double)
    for a, (i, j) in enumerate(places):
        for b, (m, n) in enumerate(places):
            bias[:, a, b] = model.table[(i - m + 1) * 5 + j - n + 2]
    torch.testing.assert_close(model(x), mixed(model, x, q @ k.transpose(-1, -2) / math.sqrt(2) + bias, v))
    assert model.state_dict()["index"].dtype == torch.int64 and model.state_dict()["index"].shape == (36,)


def test_cosines_and_a_continuous_bias_as_in_swin_v2() -> None:
    model = class_of(graph_of(net_text(SWIN2, INPUT)))().double()
    x = torch.randn(4, 6, 2, 3, dtype=torch.double)
    q, k, v = parts(model, x)
    down = torch.tensor([-1.0, 0, 1], dtype=torch.double)
    right = torch.tensor([-1.0, -0.5, 0, 0.5, 1], dtype=torch.double)
    table = torch.stack(torch.meshgrid(down, right, indexing="ij"), -1) * 8
    table = torch.sign(table) * torch.log2(table.abs() + 1) / 3
    torch.testing.assert_close(model.state_dict()["coords"], table[None])
    first, _, last = model.cpb_mlp
    numbers = F.linear(F.linear(table, first.weight, first.bias).relu(), last.weight).flatten(0, 1)
    bias = numbers[model.state_dict()["index"]].view(6, 6, 3).permute(2, 0, 1)
    scores = F.normalize(q, dim=-1) @ F.normalize(k, dim=-1).transpose(-1, -2)
    scores = scores * model.logit_scale.clamp(max=math.log(100)).exp() + bias
    torch.testing.assert_close(model(x), mixed(model, x, scores, v))
    torch.testing.assert_close(model.logit_scale, torch.full((3, 1, 1), math.log(10), dtype=torch.double))


def test_the_index_of_maxvit_is_a_matrix() -> None:
    model = class_of(graph_of(net_text(SWIN.replace("2x3", "2x3, stored = matrix"), INPUT)))()
    assert model.state_dict()["index"].shape == (6, 6)
    assert model.state_dict()["index"].tolist()[0] == [7, 6, 5, 2, 1, 0]


def test_its_buffers_stay_in_the_form_for_inference_and_are_no_statistics() -> None:
    graph = graph_of(net_text(f"conv(6, 3) -> batchnorm -> {SWIN2.strip()}", INPUT))
    inference, folding = for_inference(graph)
    kept = {w.key(n.path) for n, w in inference.weights() if w.buffer}
    assert kept == {"coords", "index"}
    text = build(graph, inference=True)
    assert "self.eval()" not in text
    prove(text, inference, folding=folding)
    assert "self.eval()" not in build(graph_of(net_text(SWIN2, INPUT)), inference=True)


@pytest.mark.parametrize(
    ("arguments", "shapes", "message"),
    [
        ({"heads": 2}, [(4, 6)] * 2, "2 tensors flow in"),
        ({"heads": 2}, [(4, 6), (6, 6), (4, 6)], "as many channels of queries as of keys; 4 and 6"),
        ({"heads": 4}, [(4, 6), (4, 6), (6, 6)], "channels of the values: 6 is not a multiple of 4"),
        ({"heads": 2}, [(4, 6), (4, 6), (4, 5)], "keys and values at the same positions"),
        ({"heads": 2}, [(4, 6), (4, 6), (4, 6), (2, 6, 5)], "[2, queries, keys]; it is [2, 6, 5]"),
        ({"heads": 2}, [(4, 6), (4, 6), (4, 6), (3, 6, 6)], "[2, queries, keys]; it is [3, 6, 6]"),
        ({"heads": 2, "causal": True}, [(4, 6), (4, 6), (4, 6), (2, 6, 6)], "cannot be `causal` with a bias"),
        ({"heads": 2, "causal": True, "scale": "cosine"}, [(4, 6)] * 3, "or with cosines"),
    ],
)
def test_what_attend_refuses(arguments: dict[str, object], shapes: list[tuple[int, ...]], message: str) -> None:
    with pytest.raises(OperationError) as caught:
        OPERATIONS["attend"].parse(arguments).infer(tuple(shapes), Rules())
    assert message in caught.value.message


def test_another_number_of_differences_is_refused() -> None:
    with pytest.raises(SpecError, match="a window of 7×7 needs"):
        graph_of(net_text("parameter([3, 168]) -> relative(7)", "x[3, 49]"))


@pytest.mark.parametrize(
    ("body", "old", "new"),
    [
        (SWIN, "relative_position_index(2, 3, 1", "relative_position_index(3, 2, 1"),
        (SWIN, "relative_position_index(2, 3, 1, **kw)", "relative_position_index(2, 3, 1)"),
        (SWIN, "heads=3", "heads=2"),
        (SWIN, ", heads=3", ", heads=3, scale=1.0"),
        (SWIN, "down * (2 * width - 1)", "down * (2 * height - 1)"),
        (SWIN2, "relative_coordinates(2, 3", "relative_coordinates(2, 4"),
        (SWIN2, "logit_scale=self.logit_scale", "logit_scale=self.logit_scale + 1"),
        (SWIN2, '"coords",', '"coordinates",'),
    ],
)
def test_a_wrong_text_is_not_proved(body: str, old: str, new: str) -> None:
    graph = graph_of(net_text(body, INPUT))
    text = build(graph)
    assert old in text
    with pytest.raises(Unproved):
        prove(text.replace(old, new), graph)
