"""Learned tensors that take nothing: keys, shapes, the batch, and what is refused."""

from __future__ import annotations

import re

import pytest
import torch

from archdsl.analysis.memory import memory
from archdsl.compiler import build
from archdsl.diagnostics import SpecError
from archdsl.graph import Graph
from archdsl.proof import Unproved, prove
from tests.helpers import graph_of, net_text
from tests.modules import class_of

NET = """
model net {
    input x[6, 4, 4]
    encoder: { (it, pos: parameter(it.shape, init = normal(0.02), stored = tokens)) -> add -> relu }
    token: parameter([6, 1, 4], init = ones, stored = maps)
    (token, encoder) -> mul -> gain: scale(0.1, stored = maps)
    queries: parameter([6, 3], init = truncated_normal(0.5), stored = rows)
    (queries, gain) -> mix: attention(2)
    (it, plain: parameter([2, 3])) -> concat
    flatten -> head: linear(2)
}
"""


def shapes(graph: Graph) -> dict[str, tuple[int, ...]]:
    return {w.key(node.path): w.shape for node, w in graph.weights() if not w.name}


def test_keys_and_shapes_are_those_told() -> None:
    graph = graph_of(NET)
    assert shapes(graph) == {
        "encoder.pos": (1, 4, 4, 6),
        "token": (1, 6, 1, 4),
        "gain": (6, 1, 1),
        "queries": (3, 6),
        "plain": (2, 3),
    }
    model = class_of(graph)()
    state = {k: tuple(v.shape) for k, v in model.state_dict().items()}
    assert shapes(graph).items() <= state.items()
    assert torch.equal(model.token, torch.ones(1, 6, 1, 4)) and torch.equal(model.plain, torch.zeros(2, 3))
    assert 0.005 < float(model.encoder.pos.std()) < 0.05 and float(model.queries.abs().max()) <= 2


def test_it_is_the_same_for_every_sample_and_repeated_only_where_needed() -> None:
    graph = graph_of(NET)
    batched = {node.path: node.batched for node in graph.nodes()}
    learned = {"encoder.pos", "token", "queries", "plain"}
    assert {path for path, has in batched.items() if not has} == learned
    repeated = [graph.node(n.inputs[0]).path for n in graph.nodes() if n.operation.name == "expand"]
    assert repeated == ["queries", "plain"]
    assert build(graph).count(".expand(") == 2
    model = class_of(graph)().double()
    x = torch.randn(3, 6, 4, 4, dtype=torch.double)
    torch.testing.assert_close(model(x), torch.cat([model(one[None]) for one in x]))
    sum(model(x).flatten()).backward()
    assert all(p.grad is not None for p in model.parameters())


@pytest.mark.parametrize("mode", ["crop", "pad", "resize"])
def test_it_is_repeated_where_sizes_are_aligned(mode: str) -> None:
    text = f"(sine_positions(8), maxpool(2), parameter([2, 5, 5])) -> it -> align({mode}) -> concat"
    model = class_of(graph_of(net_text(text, "x[3, 4, 4]")))()
    assert len(model(torch.ones(3, 3, 4, 4))) == 3


def test_a_tensor_of_one_sample_takes_no_sum_over_the_batch_in_place() -> None:
    graph = graph_of(net_text("p: parameter([4, 8]) -> tanh -> conv(4, 1)\n (it, x) -> add -> relu", "x[4, 8]"))
    text = build(graph)
    model = class_of(graph)()
    assert model(torch.randn(3, 4, 8)).shape == (3, 4, 8)
    line = next(line for line in text.splitlines() if re.search(r" [+]=? ", line))
    wrong = text.replace(line, line.split(" = ")[0].split(" +")[0] + " += x")
    assert wrong != text
    with pytest.raises(Unproved):
        prove(wrong, graph)


def test_its_memory_is_that_of_the_weights() -> None:
    plain = memory(graph_of(net_text("conv(4, 1) -> relu", "x[4, 8]")))
    learned = memory(graph_of(net_text("conv(4, 1)\n (it, parameter(it.shape)) -> add -> relu", "x[4, 8]")))
    assert learned.weights == plain.weights + 4 * 8 * 4
    assert learned.inference.at(8) - learned.weights <= plain.inference.at(8) - plain.weights + 8 * 4 * 8 * 4
    assert learned.saved.at(8) == plain.saved.at(8)


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("parameter([4, 8])", "what the model gives depends on no input"),
        ("relu -> a: it\n p: parameter([4, 8])\n output a, p", "the output `p` depends on no input"),
        ("relu -> parameter([4, 8])", "`parameter` takes no tensor, but one flows in"),
        ("(it, parameter(it.shape)) -> add", "cannot depend on a free input size"),
        ("(it, parameter([4, 0])) -> add", "a list of ints of at least 1"),
        ("(it, parameter([4, 8], init = he)) -> add", "`zeros`, `ones`, `normal"),
        ("(it, parameter([4, 8], stored = token)) -> add", "there is no value named `token`"),
        ("(it, parameter([4, 7])) -> add", "needs equal sizes"),
    ],
)
def test_what_is_refused(body: str, message: str) -> None:
    inputs = "x[4, T]" if "free" in message else "x[4, 8]"
    with pytest.raises(SpecError) as caught:
        graph_of(net_text(body, inputs))
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("std=0.02", "std=0.03"),
        ("nn.init.normal_(torch.empty(1, 4, 4, 6, **kw), std=0.02)", "torch.empty(1, 4, 4, 6, **kw)"),
        ("torch.ones(1, 6, 1, 4, **kw)", "torch.zeros(1, 6, 1, 4, **kw)"),
        ("torch.ones(1, 6, 1, 4, **kw)", "torch.ones(1, 6, 1, 4)"),
        ("torch.ones(1, 6, 1, 4, **kw)", "torch.ones(1, 6, 4, 1, **kw)"),
        (".expand(x.shape[0], -1, -1)", ""),
        (".permute(0, 3, 1, 2)", ".permute(0, 3, 2, 1)"),
        ("self.gain[None]", "self.gain"),
    ],
)
def test_a_wrong_text_is_not_proved(old: str, new: str) -> None:
    graph = graph_of(NET)
    text = build(graph)
    assert old in text
    with pytest.raises(Unproved):
        prove(text.replace(old, new), graph)
