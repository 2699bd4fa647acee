"""Layers in series that are recomputed together: which there are, how they are written, what they compute."""

from __future__ import annotations

from collections.abc import Iterator
from random import Random

import pytest
import torch

from archdsl import build
from archdsl.analysis.layout import Layout
from archdsl.backends.torch_source import write_module
from archdsl.built import execute
from archdsl.common.choices import Budget
from archdsl.diagnostics import SpecError
from archdsl.graph import Graph
from archdsl.graph.series import Series
from archdsl.proof import prove
from archdsl.transform.crossing import crossing
from archdsl.transform.fitting import Search
from archdsl.transform.recompute import NOTHING, Recompute, as_run, recompute
from archdsl.transform.series import lighter, series
from tests import random_dense
from tests.helpers import graph_of, net_text, random_graph
from tests.modules import inputs
from tests.ops.test_recomputed import Kernels
from tests.transform.test_recompute import agrees, module

BOTTLENECK = """
    block bottleneck(width) {
        residual {
            conv1: conv(width / 4, 1) -> bn1: batchnorm -> relu
            conv2: conv(width / 4, 3) -> bn2: batchnorm -> relu
            conv3: conv(width, 1) -> bn3: batchnorm
        } -> relu
    }
"""


def paths(graph: Graph) -> list[str]:
    return [s.path for s in series(graph, Layout.of(graph))]


def taken(graph: Graph, *wanted: str) -> Recompute:
    found = {s.path: s for s in series(graph, Layout.of(graph))}
    return Recompute(series=frozenset(found[path] for path in wanted))


def text_of(graph: Graph, again: Recompute) -> str:
    """The file of a form, proved."""
    text = write_module(graph, recompute=again)
    prove(text, graph, recompute=again)
    return text


def test_begin_behind_what_is_costly_and_end_with_it() -> None:
    assert paths(graph_of(net_text("block: bottleneck(4)", before=BOTTLENECK))) == [
        "block.conv1…conv2",
        "block.conv1…conv3",
        "block.conv1…bn3",
        "block.bn1…conv2",
        "block.bn1…conv3",
        "block.bn1…bn3",
        "block.bn2…conv3",
        "block.bn2…bn3",
        "block.bn3",
        "block.9",
    ]


@pytest.mark.parametrize(
    "body",
    [
        "a: relu\n (a, tanh) -> add",  # read twice
        "share c: relu\n c -> c -> flatten",  # shared
        "flatten",  # a function, not a module
    ],
)
def test_no_series(body: str) -> None:
    found = {path for path in paths(graph_of(net_text(body))) if "…" in path}
    assert not found


def test_no_series_has_a_tensor_whose_size_another_layer_takes() -> None:
    """The built module reads the size of a tensor, which would be inside a series otherwise."""
    body = "conv(4, 3, stride = 2) -> a: batchnorm -> relu -> conv(4, 3, stride = 2)\n resize({}) -> relu"
    fixed, free = (graph_of(net_text(body.format(size), "x[4, H = 16, W = 16]")) for size in ("[8, 8]", "a.size"))
    assert "0…3" in paths(fixed) and "0…3" not in paths(free)


def test_is_written_with_the_layers_of_a_block() -> None:
    graph = graph_of(net_text("block: bottleneck(4)", before=BOTTLENECK))
    text = text_of(graph, taken(graph, "block.bn1…conv2", "block.bn2…conv3"))
    assert "y = recomputed_layers(self.conv1(x), self.bn1, self.relu, self.conv2)" in text
    assert "y = recomputed_layers(y, self.bn2, self.relu, self.conv3)" in text


def test_is_written_with_the_layers_of_a_sequence() -> None:
    graph = graph_of(net_text("a: { conv(4, 3) -> batchnorm -> relu -> conv(4, 3) -> silu -> tanh -> gelu }"))
    text = text_of(graph, taken(graph, "a.1…3"))
    assert "input = layers[0](input)\n        input = recomputed_layers(input, *layers[1:4])" in text
    assert "        for layer in layers[4:7]:\n            input = layer(input)" in text
    text = text_of(graph, taken(graph, "a.0…3", "a.4…6"))
    assert "*layers[:4])\n        input = recomputed_layers(input, *layers[4:7])\n        return input" in text


MIXED = """
    block pair(width) { conv(width, 3) -> batchnorm -> relu -> conv(width, 3) -> batchnorm -> dropout(0.3) -> relu }
    block down(width, count) {
        conv(width, 1) -> maxpool(2)
        repeat count { pair(width) }
        if count > 1 { layernorm }
    }
"""


@pytest.mark.parametrize(
    ("body", "before"),
    [
        ("bottleneck(4) -> bottleneck(4)", BOTTLENECK),
        ("down(6, 2) -> down(6, 1) -> linear(3) -> gelu -> linear(2)", MIXED),
        ("conv(4, 3) -> relu -> conv(4, 3) -> silu -> dropout(0.5) -> conv(4, 3) -> batchnorm", ""),
        ("linear(8) -> layernorm -> gelu -> linear(4) -> layernorm", ""),
        ("repeat 3 { conv(4, 3) -> batchnorm -> relu }", ""),
    ],
)
def test_computes_the_same(body: str, before: str) -> None:
    """Every series by itself, and as many as do not overlap."""
    graph = graph_of(net_text(body, before=before))
    every = list(series(graph, Layout.of(graph)))
    together: list[Series] = []
    for row in every:
        inside = {node.id for node in row.nodes()}
        if all(inside.isdisjoint(node.id for node in other.nodes()) for other in together):
            together.append(row)
    assert len(together) > 1
    for chosen in (together, *([row] for row in every)):
        again = Recompute(series=frozenset(chosen))
        text_of(graph, again)
        agrees(graph, again)


def test_what_a_share_declares_is_in_no_ones_way() -> None:
    graph = graph_of(net_text("conv(4, 3) -> relu\n share c: batchnorm\n tanh -> conv(4, 3)\n c -> c"))
    again = taken(graph, "1…4")
    assert "recomputed_layers(" in text_of(graph, again)
    agrees(graph, again)


DENSE = """
    block layer(width) {
        batchnorm -> relu -> conv(2 * width, 1)
        batchnorm -> relu -> conv(width, 3) -> dropout(0.2)
    }
    block stage(count) { for i in 1..=count { dense { "layer{i}": layer(3) } } }
"""


def test_features_of_dense_connections_are_put_together_again() -> None:
    graph = graph_of(net_text("stage(3) -> conv(4, 1) -> stage(2) -> relu", before=DENSE))
    first, every = lighter(graph, recompute(graph, "dense"))
    text = text_of(graph, first)
    assert "def forward(self, *features: Tensor) -> Tensor:" in text
    assert "x = recomputed_features(features, *layers[:3])" in text
    assert "recomputed_layers(x, *layers[3:6])" in text_of(graph, every)
    for again in (first, every):
        agrees(graph, again)


ACROSS = """
    block layer { batchnorm -> relu -> conv(2, 1) -> dropout(0.2) }
    block stage { dense { layer } }
    block steps(n) {
        if n > 0 { dense { layer } }
        dense { layer }
    }
    block rounds(n) {
        if n > 0 { dense { layer } }
        else { relu }
        repeat n { dense { layer } }
        dense { layer }
    }
"""


@pytest.mark.parametrize(
    ("body", "file"),
    [
        ("a: stage -> b: stage", "x = self.b(self.a(x))"),
        ("stage -> dense { a: layer }", "features = [x, self.a(x)]"),
        ("dense { a: layer } -> b: stage", "x = self.b(torch.cat([x, self.a(x)], 1))"),
        ("a: dense { layer } -> b: dense { layer }", "x = self.b(self.a(x))"),
        ("steps(1) -> relu -> steps(0)", "        features = [x]\n        if self.n > 0:"),
        ("rounds(2) -> relu -> rounds(0)", "features.append("),
    ],
)
def test_features_leave_the_scope_of_their_connection_put_together(body: str, file: str) -> None:
    """Conditions and loops are no scopes: behind them each feature still goes on by itself."""
    graph = graph_of(net_text(body, before=ACROSS))
    dense = recompute(graph, "dense")
    first, every = lighter(graph, dense)
    for again in (dense, first, every):
        assert file in text_of(graph, again)
        agrees(graph, again)


def dense_forms(graph: Graph, random: Random) -> Iterator[Recompute]:
    """Its dense connections recomputed in each way, series across borders of blocks, and both together."""
    try:
        dense = recompute(graph, "dense")
        forms = [dense, *lighter(graph, dense)]
    except SpecError:  # it has none
        forms = []
    yield from forms
    layout = Layout.of(graph)
    every = list(crossing(graph, layout)) if not layout.last else []
    for across in random.sample(every, min(3, len(every))):
        yield Recompute(series=frozenset((across,)))
        taken = {node.id for node in across.nodes()}
        for form in forms:
            nodes = [*form.grown, *(node for part in form.parts for node in part.nodes())]
            if taken.isdisjoint(node.id for node in nodes):
                yield Recompute(form.scopes, form.grown, form.series | {across})


@pytest.mark.parametrize("seed", [*range(12), *(pytest.param(s, marks=pytest.mark.long) for s in range(12, 400))])
def test_random_dense_connections(seed: int) -> None:
    """The readable text is proved, and one form computes the same."""
    random = Random(seed)
    _, graph = random_graph(random_dense.network, random, nodes=300)
    forms = list(dense_forms(graph, random))
    for again in forms:
        text_of(graph, again)
        as_run(graph, again)  # verifies what it gives
    agrees(graph, random.choice([NOTHING, *forms]))


def test_features_that_a_body_reads_twice_are_not_put_together_in_series() -> None:
    """As where a body scales what flows in by what is squeezed and excited from it."""
    body = "block layer { (it, global_avgpool -> conv(it.channels, 1) -> sigmoid) -> mul -> conv(3, 3) }"
    graph = graph_of(net_text("repeat 2 { dense { layer } }", before=body))
    dense = recompute(graph, "dense")
    assert not list(lighter(graph, dense))
    agrees(graph, dense)


@pytest.mark.parametrize("body", ["conv(3, 3) -> relu", "{ tanh } -> conv(3, 3)"])
def test_bodies_that_begin_with_what_is_costly_run_again_as_a_whole(body: str) -> None:
    graph = graph_of(net_text("repeat 2 { dense { layer } }", before=f"block layer {{ {body} }}"))
    found = list(lighter(graph, recompute(graph, "dense")))
    for again in found:
        agrees(graph, again)
    assert bool(found) is not body.startswith("conv")


def test_does_not_compute_convolutions_again() -> None:
    graph = graph_of(net_text("bottleneck(4) -> bottleneck(4)", before=BOTTLENECK))
    again = taken(graph, "0.bn1…conv2", "0.bn2…conv3", "1.bn1…conv2")
    counts = []
    for form in (NOTHING, again):
        model = module(graph, form)
        result = model(*inputs(graph, dtype=torch.float32))
        with Kernels() as kernels:
            result.sum().backward()
        counts.append(kernels.found)
    assert "aten::convolution" not in counts[1]
    assert len(counts[1]) > len(counts[0])


def test_compiles_as_one_graph_and_exports() -> None:
    graph = graph_of(net_text("bottleneck(4) -> conv(2, 1)", before=BOTTLENECK))
    again = taken(graph, "0.bn1…conv2", "0.bn2…bn3")
    given = inputs(graph, dtype=torch.float32)
    made = execute(text_of(graph, again), "net")
    model = made.Net()
    seen = torch.compile(model, backend="aot_eager", fullgraph=True)(*given)
    seen.sum().backward()
    assert all(p.grad is not None for p in model.parameters())
    exported = torch.export.export(model.eval(), tuple(given)).module()
    torch.testing.assert_close(exported(*given), model(*given))


def test_is_chosen_for_a_budget() -> None:
    graph = graph_of(net_text("bottleneck(4) -> bottleneck(4)", "x[4, 64, 64]", BOTTLENECK))
    half = Search(graph, Budget(0, 4, optimizer="sgd")).plain.peak * 3 // 4
    assert "recomputed_layers(" in build(graph, memory=Budget(half, 4, optimizer="sgd"))
