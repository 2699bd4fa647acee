"""Exact tiles: random networks, tile by tile against the whole image, and refusals."""

from __future__ import annotations

from collections import Counter
from random import Random

import pytest
import torch

from archdsl.analysis.tiling import Tiling, tiling
from archdsl.diagnostics import SpecError
from archdsl.dims import evaluate
from archdsl.graph import Graph
from archdsl.graph import Tensor as Result
from archdsl.runtime.loading import instantiate
from archdsl.runtime.tiled import tiled
from tests.helpers import random_graph
from tests.random_networks import network

LENGTHS = {1: 300, 2: 75, 3: 30}
"""About how long the axes of an image are, by their number."""


def plan_of(graph: Graph, sizes: dict[str, int], random: Random) -> Tiling | str:
    """The first plan of several tiles, for tiles that become larger; or why there is none."""
    why = ""
    longest = max(sizes.values())
    for tile in sorted({random.randint(longest // 5, longest - 1) for _ in range(3)} | {longest - 1}):
        try:
            plan = tiling(graph, sizes, tile=tile)
        except SpecError as error:
            marks = error.diagnostics[0].marks
            why = marks[0].text if marks else "too small"
            if marks:
                break
            continue
        if plan.count > 1:
            return plan
    return why or "one tile"


def compare(graph: Graph, plan: Tiling) -> None:
    """Demands that the tiles give the numbers of the whole image, of which each is large."""
    torch.manual_seed(len(graph))
    model = instantiate(graph, dtype=torch.float64).eval()
    shape = [evaluate(d, plan.sizes) for d in graph.shape(Result(graph.input_nodes[0].id))]
    image = torch.randn(1, *shape, dtype=torch.float64)
    with torch.inference_mode():
        whole = model(image)
    found = tiled(model, image, tile=[axis.tile for axis in plan.axes])
    whole = [whole] if isinstance(whole, torch.Tensor) else whole
    found = [found] if isinstance(found, torch.Tensor) else found.values()
    for one, other in zip(whole, found, strict=True):
        assert (one - other).abs().max() <= 1e-9 * max(1.0, float(one.abs().max()))


def trial(seed: int) -> str:
    """Tiles a random network: `tiled`, or why it is refused."""
    random = Random(seed)
    text, graph = random_graph(lambda r: network(r, free=True, parts=seed % 2 == 1), random, 250, 300_000)
    base = LENGTHS[len(graph.free)]
    sizes = graph.sizes.near({size.name: base + random.randint(0, base // 4) for size in graph.free})
    plan = plan_of(graph, sizes, random)
    if isinstance(plan, str):
        return plan
    try:
        compare(graph, plan)
    except AssertionError as error:
        raise AssertionError(f"{text}\n{sizes} in tiles of {plan.tile}") from error
    return "tiled"


def test_random_networks() -> None:
    counts = Counter(trial(seed) for seed in range(30))
    assert counts["tiled"] >= 12, counts


@pytest.mark.long
def test_many_random_networks() -> None:
    counts = Counter(trial(seed) for seed in range(30, 500))
    assert counts["tiled"] >= 200, counts
