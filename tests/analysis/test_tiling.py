"""Exact tiles: random networks, tile by tile against the whole image, and refusals."""

from __future__ import annotations

from collections import Counter
from random import Random

import pytest
import torch

from archdsl.analysis.matching import GRIDS, LENGTH, MOVES, ONE, RATIO, WHOLE, WRAPS
from archdsl.analysis.tiling import Tiling, tiling
from archdsl.diagnostics import SpecError
from archdsl.dims import evaluate
from archdsl.graph import Graph
from archdsl.graph import Tensor as Result
from archdsl.runtime.loading import instantiate
from archdsl.runtime.tiled import tiled
from tests.helpers import graph_of, net_text, random_graph
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
    shapes = [[evaluate(d, plan.sizes) for d in graph.shape(Result(node.id))] for node in graph.input_nodes]
    images = [torch.randn(1, *shape, dtype=torch.float64) for shape in shapes]
    with torch.inference_mode():
        whole = model(*images)
    found = tiled(model, *images, tile=[axis.tile for axis in plan.axes])
    whole = [whole] if isinstance(whole, torch.Tensor) else whole
    found = [found] if isinstance(found, torch.Tensor) else found.values()
    for one, other in zip(whole, found, strict=True):
        assert (one - other).abs().max() <= 1e-9 * max(1.0, float(one.abs().max()))


def tiled_alike(graph: Graph, sizes: dict[str, int], random: Random, text: str) -> str:
    """`tiled`, once tiles have given what the whole image does; or why it is refused."""
    plan = plan_of(graph, sizes, random)
    if isinstance(plan, str):
        return plan
    try:
        compare(graph, plan)
    except AssertionError as error:
        raise AssertionError(f"{text}\n{sizes} in tiles of {plan.tile}") from error
    return "tiled"


def trial(seed: int) -> str:
    """Tiles a random network: `tiled`, or why it is refused."""
    random = Random(seed)
    text, graph = random_graph(lambda r: network(r, free=True, parts=seed % 2 == 1), random, 250, 300_000)
    base = LENGTHS[len(graph.free)]
    sizes = graph.sizes.near({size.name: base + random.randint(0, base // 4) for size in graph.free})
    return tiled_alike(graph, sizes, random, text)


def test_random_networks() -> None:
    counts = Counter(trial(seed) for seed in range(30))
    assert counts["tiled"] >= 12, counts


# The inputs, the items, the sizes of an image, and the largest tile.
EXACT = {
    "two inputs": ("a[2, H, W], b[1, H, W]", "(a -> conv(2, 3), b -> conv(2, 5)) -> add", (60, 50), 24),
    "a side input": ("a[2, H, W], s[2, 1, 1]", "(a -> conv(2, 3), s) -> mul -> conv(1, 3)", (60, 50), 24),
    "squares": ("a[2, N, N]", "conv(2, 3) -> maxpool(2)", (60,), 24),
    "a fixed axis": ("a[2, 8, W]", "conv(2, 8x3, pad = 0x1) -> conv(2, 3)", (100,), 24),
    "reflect": (
        "a[4, H, W]",
        "conv(4, 7, pad_mode = reflect) -> conv(2, 7, pad_mode = reflect, stride = 2)",
        (61, 50),
        24,
    ),
    "replicate": (
        "a[4, H, W]",
        "conv(4, 7, pad_mode = replicate, stride = 3) -> upsample(3) -> pad(3, reflect) -> conv(3, 3)",
        (61, 50),
        24,
    ),
    "bicubic": ("a[4, H, W]", "conv(4, 3, stride = 3) -> upsample(3, bicubic) -> conv(3, 3)", (60, 51), 30),
    "back to the size": ("a[4, H, W]", "conv(4, 3, stride = 4) -> resize(a.size, nearest) -> conv(3, 3)", (64, 80), 32),
    "pad_to_multiple": ("a[4, H, W]", "pad_to_multiple(4) -> conv(4, 3) -> conv(4, 3)", (61, 51), 32),
    "transposed": ("a[4, T]", "conv(4, 3, stride = 2) -> upconv(3, 4, stride = 2, pad = 1) -> conv(2, 3)", (171,), 32),
    "the first are cut off": ("a[4, T]", "conv(4, 3) -> slice(1, axis = 1) -> conv(2, 3)", (170,), 32),
    "windows": ("a[4, H, W]", "conv(4, 3) -> windows(4) { attention(2) } -> conv(2, 3)", (60, 48), 32),
    "shifted windows": (
        "a[4, H, W]",
        "windows(4) { attention(2) } -> windows(4, 2) { attention(2) } -> conv(4, 2, stride = 2, pad = 0)"
        " -> windows(3, 1) { attention(2) }",
        (72, 48),
        48,
    ),
    "padded windows": ("a[4, H, W]", "windows(5, 2, pad) { attention(2) } -> conv(2, 3)", (63, 48), 32),
    "windows in windows": ("a[4, H, W]", "windows(8) { windows(4, 2) { attention(2) } -> conv(4, 3) }", (64, 48), 40),
    "grids in windows": ("a[4, H, W]", "windows(8) { grid(4) { attention(2) } } -> conv(2, 3)", (64, 48), 32),
    "tokens in windows": (
        "a[4, H, W]",
        "windows(4) { squeeze: global_avgpool -> upsample(4) } -> conv(2, 3)",
        (64, 48),
        32,
    ),
    "windows of a line": ("a[4, T]", "windows(4, shift = 1) { attention(2) } -> conv(2, 3, stride = 2)", (160,), 40),
    "windows of a volume": ("a[2, D, H, W]", "windows(2x4x4, 1, pad) { attention(1) }", (13, 16, 16), 12),
    "statistics of a position": ("a[4, T]", "conv(4, 3) -> layernorm -> conv(2, 3)", (170,), 32),
}
REFUSED = {
    "classes": (
        "a[4, H, W]",
        "conv(4, 3) -> global_avgpool -> flatten -> linear(3)",
        (60, 50),
        WHOLE,
        "global_avgpool",
    ),
    "gate": (
        "a[4, H, W]",
        "conv(4, 3) -> (it, global_avgpool -> conv(4, 1)) -> mul",
        (60, 50),
        WHOLE,
        "global_avgpool",
    ),
    "instancenorm": ("a[4, H, W]", "conv(4, 3) -> instancenorm", (60, 50), WHOLE, "instancenorm"),
    "grn": ("a[4, H, W]", "conv(4, 3) -> grn", (60, 50), WHOLE, "grn"),
    "attention": ("a[4, H, W]", "conv(4, 3) -> attention(2)", (60, 50), WHOLE, "attention(2)"),
    "grid": ("a[4, H, W]", "grid(4) { attention(2) }", (60, 48), GRIDS, "grid(4)"),
    "circular": ("a[4, T]", "conv(4, 3, pad_mode = circular) -> relu", (90,), WRAPS, "conv(4, 3, pad_mode = circular)"),
    "adaptive to few": ("a[4, T]", "adaptive_avgpool(3)", (71,), RATIO, "adaptive_avgpool(3)"),
    "adaptive": ("a[4, H, W]", "conv(4, 3) -> adaptive_avgpool(7)", (70, 70), RATIO, "adaptive_avgpool(7)"),
    "odd": ("a[4, T]", "conv(4, 3, stride = 4) -> resize(a.size, nearest)", (81,), RATIO, "resize(a.size, nearest)"),
    "tokens": ("a[4, H, W]", "conv(4, 3) -> tokens", (60, 50), MOVES, "tokens"),
    "only the first": ("a[4, T]", "slice(0, 10, axis = 1) -> conv(2, 3)", (70,), LENGTH, "slice(0, 10, axis = 1)"),
}


def case(inputs: str, body: str, lengths: tuple[int, ...]) -> tuple[Graph, dict[str, int]]:
    graph = graph_of(net_text(body, inputs))
    return graph, dict(zip([size.name for size in graph.free], lengths, strict=True))


@pytest.mark.parametrize("name", EXACT)
def test_exact(name: str) -> None:
    inputs, body, lengths, tile = EXACT[name]
    graph, sizes = case(inputs, body, lengths)
    plan = tiling(graph, sizes, tile=tile)
    assert plan.count > 1
    compare(graph, plan)


def test_a_number_for_all_of_the_image_grows_with_it() -> None:
    graph, sizes = case("a[4, H, W], s[4, 1, 1]", "(a, s -> resize(a.size)) -> add -> conv(3, 3)", (60, 50))
    compare(graph, tiling(graph, sizes, tile=24))


def test_approximate() -> None:
    """What needs the whole image is named; a network without such a thing stays exact."""
    inputs, body, lengths, *_ = REFUSED["gate"]
    graph, sizes = case(inputs, body, lengths)
    plan = tiling(graph, sizes, tile=24, approximate=True)
    assert [node.operation.name for node in plan.assumed] == ["global_avgpool"] and plan.count > 1
    inputs, body, lengths, tile = EXACT["bicubic"]
    graph, sizes = case(inputs, body, lengths)
    assert tiling(graph, sizes, tile=tile, approximate=True).assumed == ()
    graph, sizes = case(*REFUSED["classes"][:3])
    with pytest.raises(SpecError) as caught:
        tiling(graph, sizes, tile=24, approximate=True)
    assert caught.value.diagnostics[0].marks[0].text == ONE


@pytest.mark.parametrize("name", REFUSED)
def test_refused(name: str) -> None:
    """The refusal names the item that is in the way."""
    inputs, body, lengths, reason, item = REFUSED[name]
    graph, sizes = case(inputs, body, lengths)
    with pytest.raises(SpecError) as caught:
        tiling(graph, sizes, tile=32)
    (mark,) = caught.value.diagnostics[0].marks
    assert (mark.text, mark.span.text) == (reason, item)


def windows(random: Random) -> str:
    """Windows of a random size, with something in them."""
    size = random.choice([2, 3, 4, 6])
    shift = random.choice([0, random.randint(1, size - 1)])
    inner = ["attention(2)", "linear(4)", "attention(1) -> linear(4) -> relu"]
    if not shift:
        inner += ["conv(4, 3)", f"global_avgpool -> upsample({size})"]
        inner += ["windows(2, 1) { attention(2) } -> conv(4, 3)", "grid(2) { attention(2) }"] if size % 2 == 0 else []
    return f"windows({size}, {shift}, pad) {{ {random.choice(inner)} }}"


def trial_of_windows(seed: int) -> str:
    random = Random(seed)
    others = ["conv(4, 3)", "conv(4, 3, stride = 2)", "conv(4, 2, pad = valid)", "maxpool(2)", "upsample(2)", "relu"]
    items = [windows(random) if random.random() < 0.5 else random.choice(others) for _ in range(random.randint(1, 5))]
    graph = graph_of(net_text(" -> ".join([*items, windows(random)]), random.choice(["a[4, H, W]", "a[4, T]"])))
    length = 120 if len(graph.free) == 1 else 60
    sizes = graph.sizes.near({size.name: length + random.randint(0, 30) for size in graph.free})
    return tiled_alike(graph, sizes, random, str(items))


def test_random_windows() -> None:
    counts = Counter(trial_of_windows(seed) for seed in range(6))
    assert counts["tiled"] >= 3, counts


@pytest.mark.long
def test_many_random_windows() -> None:
    counts = Counter(trial_of_windows(seed) for seed in range(6, 400))
    assert counts["tiled"] >= 100, counts


@pytest.mark.long
def test_many_random_networks() -> None:
    counts = Counter(trial(seed) for seed in range(30, 500))
    assert counts["tiled"] >= 200, counts
