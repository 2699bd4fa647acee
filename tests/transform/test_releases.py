"""The memory of the inference form: as predicted, and never more than that of the plain form."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from archdsl import check, load
from archdsl.analysis.costs import sized_shapes
from archdsl.analysis.memory import memory
from archdsl.common.source import Source
from archdsl.graph import Graph
from archdsl.transform.inference import for_inference
from benchmarks.inference_memory import followed
from tests import published
from tests.helpers import net_text, source_of

OWN = ("convnextv2", "regnet", "resnet:resnext101", "swin", "vit", "maxvit")
"""Not predicted: tensors of operations of several steps, and skips that run after the body."""

SMALL = {
    "flat U": """
        a: { conv(8, 3) -> relu -> conv(8, 3) -> relu }
        b: { maxpool(2) -> conv(16, 3) -> relu -> conv(16, 3) -> relu }
        c: { maxpool(2) -> conv(32, 3) -> relu }
        upconv(16, 2)
        (b, it) -> concat -> d: { conv(16, 3) -> relu -> conv(16, 3) -> relu }
        upconv(8, 2)
        (a, it) -> concat -> e: { conv(8, 3) -> relu -> conv(8, 3) }""",
    "branches": """
        a: conv(4, 3) -> relu
        ({ conv(16, 1) }, { conv(32, 3) -> relu -> conv(4, 3) }, a) -> concat
        conv(8, 1)""",
    "dense in a loop": "conv(8, 3)\n repeat 4 { dense { conv(8, 3) -> relu } }",
    "a condition": """
        for i in 0..4 {
            if i > 1 { (conv(32, 3), it) -> concat -> conv(8, 1) } else { conv(8, 3) -> relu }
        }""",
}


def images(graph: Graph) -> list[torch.Tensor]:
    shapes = sized_shapes(graph, graph.examples)
    return [torch.empty(1, *shapes[n.id][0], device="meta") for n in graph.input_nodes]


def peaks(spec: str | Source) -> tuple[int, int, int]:
    """The predicted and the true peak of the inference form, without weights, and that of the plain form."""
    graph = check(spec)
    form, _ = for_inference(graph)
    told = memory(form, cpu=False, evaluates=True)
    given = images(graph)

    def peak(model: nn.Module) -> int:
        return followed(model.eval(), given) + sum(t.nbytes for t in given)

    ours, plain = (peak(load(spec, inference=i, device="meta")) for i in (True, False))
    return told.inference.at(1) - told.weights, ours, plain


@pytest.mark.parametrize("name", SMALL)
def test_small(name: str) -> None:
    told, ours, plain = peaks(source_of(net_text(SMALL[name], "x[3, H = 32, W = 32]")))
    assert ours <= plain
    assert ours == pytest.approx(told, rel=0.01)


def test_a_unet_needs_less() -> None:
    told, ours, plain = peaks("unet:unet_padded")
    assert ours == told
    assert ours < 0.81 * plain


def test_variables_are_deleted_where_it_matters_only() -> None:
    from archdsl import build

    assert "del x\n" in build("unet:unet_padded", inference=True)
    assert "del " not in build("unet:unet_padded")
    assert "del " not in build("resnet:resnet50", inference=True)


@pytest.mark.long
@pytest.mark.parametrize("spec", published.one_of_each())
def test_library(spec: Any) -> None:
    told, ours, plain = peaks(spec)
    assert ours <= plain
    if not spec.startswith(OWN):
        assert ours == pytest.approx(told, rel=0.08)
