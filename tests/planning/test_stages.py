"""Networks in stages: random networks cut anywhere against the whole ones, where they are cut, and refusals."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import combinations, pairwise
from random import Random

import pytest
import torch
from torch import Tensor, nn

from archdsl import build, check
from archdsl.backends.torch_source.joining import NotJoined, definitions, join
from archdsl.built import execute
from archdsl.common.choices import Mode
from archdsl.diagnostics import SpecError
from archdsl.dims import evaluate
from archdsl.graph import Graph
from archdsl.graph import Tensor as Edge
from archdsl.graph.verifying import BrokenGraph
from archdsl.planning.stages import SLACK, Split, Splitter, split
from archdsl.runtime.loading import instantiate
from archdsl.transform.stages import check_stages, cut, differentiable
from tests.helpers import graph_of, net_text, random_graph
from tests.random_networks import network


def values(given: object) -> tuple[Tensor, ...]:
    return given if isinstance(given, tuple) else (given,)  # type: ignore[return-value]


def modules_of(parts: Split, recompute: Mode = "none") -> list[nn.Module]:
    """The stages, as the built file has them."""
    made = execute(build(parts.graph, stages=parts, recompute=recompute), f"{parts.graph.name}_stages")
    return [stage(dtype=torch.float64) for stage in made.STAGES]


def compare(graph: Graph, stages: list[nn.Module], sizes: dict[str, int], recompute: Mode = "none") -> None:
    """Demands the outputs, gradients, statistics and keys of the whole network, in training."""
    torch.manual_seed(len(graph))
    whole = instantiate(graph, dtype=torch.float64, recompute=recompute)
    state = {key: value.clone() for key, value in whole.state_dict().items()}
    assert sorted(key for stage in stages for key in stage.state_dict()) == sorted(state)
    for stage in stages:
        stage.load_state_dict({key: state[key] for key in stage.state_dict()})
    shapes = [[evaluate(d, sizes) for d in graph.shape(Edge(n.id))] for n in graph.input_nodes]
    images = tuple(torch.randn(2, *shape, dtype=torch.float64) for shape in shapes)
    torch.manual_seed(1)
    wanted = values(whole(*images))
    torch.manual_seed(1)
    flow = images
    for stage in stages:
        flow = values(stage(*flow))
    for one, other in zip(wanted, flow, strict=True):
        torch.testing.assert_close(other, one, rtol=1e-12, atol=1e-12)
    if not any(p.requires_grad for p in whole.parameters()):
        return
    for results in (wanted, flow):
        sum(y.square().mean() for y in results if y.requires_grad).backward()  # type: ignore[union-attr]
    gradients = {name: p.grad for stage in stages for name, p in stage.named_parameters()}
    for name, p in whole.named_parameters():
        torch.testing.assert_close(gradients[name], p.grad, rtol=1e-10, atol=1e-12, equal_nan=True)
    kept = {name: b for stage in stages for name, b in stage.named_buffers()}
    for name, b in whole.named_buffers():
        torch.testing.assert_close(kept[name], b, rtol=1e-12, atol=1e-12, equal_nan=True)


def trial(seed: int) -> bool:
    """Cuts a random network at random places; whether it has such."""
    random = Random(seed)
    text, graph = random_graph(lambda r: network(r, free=True, parts=seed % 2 == 1), random, 120, 200_000)
    sizes = graph.always.near({size.name: 24 for size in graph.free})
    splitter = Splitter(graph, sizes, "float32")
    count = random.randint(1, min(3, len(splitter.places))) if splitter.places else 0
    parts = splitter.at(sorted(random.sample(splitter.places, count)))
    try:
        compare(graph, modules_of(parts), sizes)
    except Exception as error:
        raise AssertionError(f"{text}\n{sizes} cut at {[part.stage.start for part in parts.parts]}") from error
    return count > 0


def test_random_networks() -> None:
    assert sum(trial(seed) for seed in range(5)) >= 3


@pytest.mark.long
@pytest.mark.parametrize("start", range(5, 205, 20))
def test_many_random_networks(start: int) -> None:
    assert sum(trial(seed) for seed in range(start, start + 20)) >= 10


@pytest.mark.long
@pytest.mark.parametrize(
    ("spec", "count", "size"),
    [
        ("unet:unet_padded", 5, 32),
        ("densenet:densenet121", 4, 64),
        ("inception:inception_v3", 3, 299),
        ("googlenet:googlenet", 4, 224),
        ("vit:vit_b_16", 3, 224),
        ("swin:swin_t", 4, 64),
        ("mobilenet:mobilenet_v3_small", 6, 64),
    ],
)
def test_library(spec: str, count: int, size: int) -> None:
    graph = check(spec)
    sizes = {free.name: size for free in graph.free}
    compare(graph, modules_of(split(graph, count, sizes)), sizes)


@pytest.mark.long
@pytest.mark.parametrize("how", ["dense", "blocks"])
def test_recomputed_stages(how: Mode) -> None:
    graph = check("densenet:densenet121")
    sizes = {"H": 64, "W": 64}
    compare(graph, modules_of(split(graph, 4, sizes), how), sizes, how)


MIXED = """
block normal(width) { conv(width, 3) -> batchnorm -> relu -> conv(width, 3) -> batchnorm -> relu }
block plain(width) { conv(width, 3) -> silu -> conv(width, 3) -> silu -> conv(width, 3) }
model mixed {
    input x[3, 16, 16]
    normal(8) -> normal(8) -> plain(8) -> plain(8)
}
"""


def test_only_some_stages_keep_statistics() -> None:
    """The helper of recomputed parts is one for the file."""
    parts = split(graph_of(MIXED), 2)
    compare(parts.graph, modules_of(parts, "blocks"), {}, "blocks")


def test_relays() -> None:
    """A skip around stages passes through them, and the image, which has no gradient, does too."""
    graph = graph_of(net_text("a: conv(4, 3) -> conv(4, 3) -> conv(4, 3)\n (it, a, x) -> concat -> conv(2, 3)"))
    parts = Splitter(graph, {}, "float32").at([2, 3, 4])
    relayed = [[graph.node(t).path for t in stage.relayed] for stage in parts.stages]
    assert relayed == [["x"], ["x", "a"], ["x", "a"], []]
    inputs = {Edge(node.id) for node in graph.input_nodes}
    assert {Edge(node.id) for node in graph.nodes()} - differentiable(graph) == inputs
    compare(graph, modules_of(parts), {})


def test_outputs_of_early_stages() -> None:
    body = """conv(4, 3) -> relu
    middle: conv(4, 3)
    middle -> global_avgpool -> flatten -> early: linear(3)
    middle -> conv(4, 3) -> late: conv(2, 3)
    output late, early if training"""
    parts = split(graph_of(net_text(body)), 3)
    assert [o.name for o in parts.stages[-1].graph.outputs] == ["late", "early"]
    compare(parts.graph, modules_of(parts), {})


# ---------------------------------------------------------------- where it is cut


def all_cuts(splitter: Splitter, count: int) -> Iterator[list[int]]:
    yield from (list(chosen) for chosen in combinations(range(1, len(splitter.places) + 1), count - 1))


@pytest.mark.parametrize("seed", range(12))
def test_the_best_cut_is_found(seed: int) -> None:
    """Against all cuts of a small network: balanced within SLACK of the best, and of these with the fewest bytes."""
    random = Random(seed)
    _, graph = random_graph(lambda r: network(r, free=False, parts=False), random, 24)
    splitter = Splitter(graph, graph.examples, "float32")
    for count in range(2, min(5, len(splitter.places) + 1)):

        def largest(chosen: list[int]) -> float:
            edges = [0, *chosen, len(splitter.before) - 1]
            return max(splitter.before[b] - splitter.before[a] for a, b in pairwise(edges))

        def key(chosen: list[int]) -> tuple[int, int]:
            return sum(splitter.keys[i][0] for i in chosen), sum(splitter.keys[i][1] for i in chosen)

        every = list(all_cuts(splitter, count))
        least = min(map(largest, every))
        found = [splitter.places.index(p) + 1 for p in splitter.positions(count)]
        assert splitter.least(count) == pytest.approx(least, rel=1e-6)
        assert largest(found) <= least * (1 + SLACK) * (1 + 1e-6)
        assert key(found) == min(key(c) for c in every if largest(c) <= least * (1 + SLACK))


@pytest.mark.parametrize(
    ("spec", "count", "most"),
    [("unet:unet_padded", 4, 1.20), ("densenet:densenet121", 4, 1.12), ("resnet:resnet50", 8, 1.35)],
)
def test_work_is_balanced(spec: str, count: int, most: float) -> None:
    parts = split(check(spec), count, {"H": 128, "W": 128})
    assert max(part.work for part in parts.parts) * count <= most
    assert sum(part.work for part in parts.parts) == pytest.approx(1)
    total = sum(part.cost.parameters for part in parts.parts)
    assert total == Splitter(parts.graph, parts.sizes, "float32").at([]).parts[0].cost.parameters


@pytest.mark.parametrize(
    ("body", "count", "words"),
    [
        ("conv(4, 3) -> relu", 9, "has places for 2 at most"),
        ("share unit: conv(4, 3)\n unit -> relu -> unit -> relu -> unit", 3, "share its weights stay in one stage"),
        ("conv(4, 3)\n windows(4) { conv(4, 3) -> relu -> conv(4, 3) }", 5, "windows of a map stay in one stage"),
    ],
)
def test_too_few_places(body: str, count: int, words: str) -> None:
    with pytest.raises(SpecError) as error:
        split(graph_of(net_text(body)), count)
    assert words in str(error.value) and error.value.diagnostics[0].code == "E0620"


# ---------------------------------------------------------------- what is wrong is found


def test_wrong_stages_are_refused() -> None:
    graph = graph_of(net_text("conv(4, 3) -> relu -> conv(4, 3) -> relu"))
    stages = cut(graph, [2])
    check_stages(graph, stages)
    for wrong in ([stages[0]], [stages[1]], [stages[0], stages[0]], [*stages, stages[1]], stages[::-1]):
        with pytest.raises(BrokenGraph):
            check_stages(graph, wrong)
    other = cut(graph_of(net_text("conv(4, 3) -> relu -> conv(4, 5) -> relu")), [2])
    with pytest.raises(BrokenGraph, match="where the network has"):
        check_stages(graph, [stages[0], other[1]])


def test_files_that_clash_are_not_joined() -> None:
    one, other = "class A:\n    x = 1\n", "class A:\n    x = 2\n"
    assert definitions(join([one, one], "Twice."))["A"] == "class A:\n    x = 1"
    with pytest.raises(NotJoined, match="A"):
        join([one, other], "Both.")
