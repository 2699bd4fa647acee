"""Modules that recompute activations: the same outputs, gradients and statistics as those that store them."""

from __future__ import annotations

from collections.abc import Iterator
from random import Random

import pytest
import torch
from torch import Tensor, nn

from archdsl.common.choices import MODES, Mode
from archdsl.compiler import check
from archdsl.diagnostics import SpecError
from archdsl.graph import Graph
from archdsl.transform.recompute import NOTHING, Recompute, recompute
from tests import random_blocks
from tests.helpers import graph_of, random_graph
from tests.modules import class_of, inputs

SMALL = [
    "resnet:resnet18",
    "densenet:densenet121",
    "mobilenet:mobilenet_v2",
    "squeezenet:squeezenet1_1",
    "unet:unet_padded",
    "fcdensenet:fcdensenet56",
]


def module(graph: Graph, again: Recompute) -> nn.Module:
    return class_of(graph, recompute=again)()


def trained(model: nn.Module, tensors: list[Tensor]) -> list[Tensor]:
    """Outputs, gradients and statistics of two training steps with the same random numbers."""
    torch.manual_seed(3)
    found: list[Tensor] = []
    for _ in range(2):
        given = model(*tensors)
        outputs = [given] if isinstance(given, Tensor) else list(given)
        loss = torch.stack([x.square().mean() for x in outputs]).sum()
        weights = [weight for _, weight in sorted(model.named_parameters())]
        found += [*outputs, *torch.autograd.grad(loss, [*tensors, *weights], materialize_grads=True)]
    return [*found, *(buffer for _, buffer in sorted(model.named_buffers()))]


def agrees(graph: Graph, again: Recompute) -> None:
    plain, other = module(graph, NOTHING).double(), module(graph, again).double()
    other.load_state_dict(plain.state_dict())
    tensors = [x.requires_grad_() for x in inputs(graph)]
    for ours, theirs in zip(trained(other, tensors), trained(plain, tensors), strict=True):
        torch.testing.assert_close(ours, theirs)


def modes(graph: Graph) -> Iterator[Recompute]:
    for mode in MODES[1:]:
        try:
            yield recompute(graph, mode)
        except SpecError:
            continue


@pytest.mark.parametrize("spec", SMALL)
def test_gradients_and_statistics_are_those_of_the_plain_form(spec: str) -> None:
    graph = check(spec)
    size = {name: found.nearest(40)[1] or 40 for name, found in graph.sizes.items()}
    for again in modes(graph):
        plain, other = module(graph, NOTHING), module(graph, again)
        other.load_state_dict(plain.state_dict())
        image = torch.randn(2, 3, size["H"], size["W"], requires_grad=True)
        for ours, theirs in zip(trained(other, [image]), trained(plain, [image]), strict=True):
            torch.testing.assert_close(ours, theirs)


# The network of seed 0 takes longer than the others together.
@pytest.mark.parametrize("seed", [*range(1, 5), *(pytest.param(s, marks=pytest.mark.long) for s in (0, *range(5, 40)))])
def test_random_blocks(seed: int) -> None:
    random = Random(seed)
    _, graph = random_graph(random_blocks.network, random, nodes=600, weights=200_000)
    blocks = [s for s in graph.root.scopes() if s.kind == "block" and random.random() < 0.5]
    outer = frozenset(s for s in blocks if not any(o in blocks for o in list(s.calls())[1:]))
    agrees(graph, Recompute(outer))
    for again in modes(graph):
        agrees(graph, again)


HAND = """
    block layer { batchnorm -> relu -> conv(4, 3) -> dropout(0.3) }
    model net {
        input x[3, 8, 8]
        a: conv(6, 3)
        dense { layer }
        early: dense { layer }
        dense { layer }
        (it, early) -> concat -> conv(8, 1)
        if true { dense { layer } }
        deep: dense { layer }
        output deep, early
    }
"""


def test_dense_connections_that_are_read_on_the_way() -> None:
    graph = graph_of(HAND)
    again = recompute(graph, "dense")
    assert len(again.scopes) == 5
    agrees(graph, again)


def test_compiled_it_counts_statistics_once() -> None:
    graph = graph_of(HAND.replace("dropout(0.3)", "relu"))
    model = module(graph, recompute(graph, "dense")).double()
    eager = module(graph, NOTHING).double()
    eager.load_state_dict(model.state_dict())
    tensors = [x.requires_grad_() for x in inputs(graph)]
    compiled = torch.compile(model, backend="aot_eager", fullgraph=True)
    for network in (compiled, eager):
        torch.stack([x.square().sum() for x in network(*tensors)]).sum().backward()
    for ours, theirs in zip(model.buffers(), eager.buffers(), strict=True):
        torch.testing.assert_close(ours, theirs)


def test_only_what_flows_into_dense_layers_is_kept() -> None:
    """Feature maps grow linearly with depth, not quadratically (Pleiss et al., 2017)."""
    text = """
        block layer { batchnorm -> relu -> conv(48, 1) -> batchnorm -> relu -> conv(12, 3) }
        block dense_block(count) { repeat count { dense { layer } } }
        model net(count) { input x[12, 16, 16]
            conv(12, 3) -> dense_block(count) -> conv(1, 1) }
    """
    saved = {}
    for count in (8, 16):
        graph = graph_of(text, count=count)
        for again in (NOTHING, recompute(graph, "dense")):
            model, kept = module(graph, again), {}

            def keep(x: Tensor, kept: dict[int, int] = kept) -> Tensor:
                kept[x.untyped_storage().data_ptr()] = x.untyped_storage().nbytes()
                return x

            weights = sum(p.untyped_storage().nbytes() for p in [*model.parameters(), *model.buffers()])
            with torch.autograd.graph.saved_tensors_hooks(keep, lambda x: x):
                model(torch.zeros(64, 12, 16, 16))
            saved[count, again is NOTHING] = sum(kept.values()) - weights
    assert saved[16, True] / saved[8, True] > 2.5
    assert saved[16, False] / saved[8, False] < 2.1
    assert saved[16, False] / saved[16, True] < 0.3


@pytest.mark.parametrize(
    ("text", "mode", "message"),
    [
        ("input x[3, 8, 8]\n conv(4, 3)", "dense", "net has no dense connections"),
        ("input x[3, 8, 8]\n conv(4, 3)", "blocks", "net has no calls of blocks"),
        ("input x[3, 8, 8]\n dense { conv(4, 3) }", "dense", "whose body can be recomputed"),
    ],
)
def test_nothing_to_recompute(text: str, mode: Mode, message: str) -> None:
    with pytest.raises(SpecError, match=message):
        recompute(graph_of(f"model net {{\n {text}\n}}"), mode)
