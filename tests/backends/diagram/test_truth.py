"""Pictures say nothing false: their arrows, sizes and repetitions, read off the scene, are those of the graph."""

from importlib import import_module
from random import Random

import pytest

from archdsl.backends.diagram.detail import Detail
from archdsl.backends.diagram.drawing import draw
from archdsl.checker.spec import models
from archdsl.compiler import check
from archdsl.graph import Graph
from tests import random_blocks, random_networks, random_specs
from tests.backends.diagram.test_diagram import HELVETICA, faults
from tests.backends.diagram.truth import falsehoods, overlaid
from tests.helpers import ROOT, graph_of, random_graph
from tests.published import library

FOUND = {path.stem: path for path in sorted((ROOT / "tests" / "data" / "figures").glob("*.arch"))}
"""Specs of which pictures once said something false."""


def found_specs() -> list[str]:
    return [f"{path}:{m.name}" for path in FOUND.values() for m in models(str(path))]


@pytest.mark.parametrize("spec", found_specs(), ids=lambda spec: spec.rsplit("/")[-1])
def test_specs_that_were_once_drawn_wrong(spec: str) -> None:
    assert list(falsehoods(draw(check(spec)))) == []


PYRAMID = """
model net {
    input x[4, 32, 32]
    c2: conv(8, 3)
    c3: conv(8, 3, stride = 2)
    (c3 -> upsample(2), c2 -> conv(8, 1)) -> n2: add
    n2 -> n3: conv(8, 3)
    output n2, n3
}
"""
"""A result that could leave a merge where another tensor arrives, and would seem to come from its box."""


def test_no_arrow_runs_on_one_of_another_tensor(monkeypatch: pytest.MonkeyPatch) -> None:
    graph, plain = graph_of(PYRAMID), Detail(sizes=False)
    assert list(overlaid(draw(graph, detail=plain))) == []
    monkeypatch.setattr("archdsl.backends.diagram.routes.ON_ANOTHER", 0.0)
    assert list(overlaid(draw(graph, detail=plain))) != []


PROJECTIONS = """
model net {
    input x[64, 32, 32]
    residual via %s { conv(32, 3, 2) -> relu -> conv(32, 3) }
    residual via conv(32, 1, 2) { conv(32, 3, 2) -> relu -> conv(32, 3) }
    residual via conv(64, 1) { conv(64, 3) -> batchnorm -> relu -> conv(64, 3) }
    residual { conv(64, 3) -> relu -> conv(64, 3) }
}
"""
"""Sums at which a projection arrives, and the next one leaves."""


@pytest.mark.parametrize("options", [{}, {"direction": "right"}, {"style": "volumes"}, {"width": 3.3 * 72}], ids=str)
@pytest.mark.parametrize("own", ["conv(32, 1, 2)", "{ maxpool(2) -> conv(32, 1) }"])
def test_projections_in_a_row_keep_apart(own: str, options: dict[str, object]) -> None:
    diagram = draw(graph_of(PROJECTIONS % own), **options)  # type: ignore[arg-type]
    assert [*overlaid(diagram), *falsehoods(diagram)] == []


@pytest.mark.long
@pytest.mark.parametrize("spec", library()[::3])
def test_arrows_keep_apart_in_the_library(spec: str) -> None:
    assert list(overlaid(draw(check(spec)))) == []
    assert list(overlaid(draw(check(spec), width=3.3 * 72))) == []


NO_ROOM = pytest.mark.xfail(strict=True, reason="branches part and meet between the same two layers: no room for both")


@pytest.mark.parametrize(
    "number",
    [
        *range(4),
        *(pytest.param(n, marks=[pytest.mark.long, *([NO_ROOM] if n == 59 else [])]) for n in range(4, 150)),
    ],
)
def test_arrows_keep_apart_in_random_networks(number: int) -> None:
    text, graph = random_network(number)
    assert list(overlaid(draw(graph))) == [], text


LARGE = [
    "unet:unet_padded",
    "fcdensenet:fcdensenet103",
    "hrnet:hrnet_w18",
    "resnet:resnet50",
    "vit:vit_b_16",
    "googlenet:googlenet",
    "swin:swin_t",
    "densenet:densenet121",
]


@pytest.mark.parametrize(
    "spec",
    [*found_specs()[:4], "unet:unet", *(pytest.param(spec, marks=pytest.mark.long) for spec in LARGE)],
    ids=lambda spec: spec.rsplit("/")[-1],
)
def test_volumes(spec: str) -> None:
    assert list(falsehoods(draw(check(spec), style="volumes"))) == []


@pytest.mark.long
@pytest.mark.parametrize("spec", library())
@pytest.mark.parametrize("options", [{}, {"depth": 2}], ids=str)
def test_library(spec: str, options: dict[str, object]) -> None:
    assert list(falsehoods(draw(check(spec), **options))) == []  # type: ignore[arg-type]


@pytest.mark.long
@HELVETICA
@pytest.mark.parametrize("spec", library())
def test_nothing_overlaps_in_the_library(spec: str) -> None:
    assert faults(draw(check(spec))) == []


def random_network(number: int) -> tuple[str, Graph]:
    """Of plain chains, of blocks that call each other, and of the whole language."""
    if number % 4 == 3:
        return next(found for seed in range(1000 * number, 1000 * number + 1000) if (found := random_specs.spec(seed)))
    write = [random_networks.network, random_blocks.network, random_blocks.network][number % 4]
    return random_graph(write, Random(number), 300)


@pytest.mark.parametrize("number", [*range(8), *(pytest.param(n, marks=pytest.mark.long) for n in range(8, 400))])
def test_random_networks(number: int) -> None:
    text, graph = random_network(number)
    for options in ({}, {"depth": 1}, {"depth": 9}):
        assert list(falsehoods(draw(graph, **options))) == [], text  # type: ignore[arg-type]


MIXED = """
block mix(width) {
    input a[_, H, W], b[_, _, _]
    (a, b -> conv(width, 1) -> resize(a.size)) -> one: add
    (b, a -> conv(2 * width, 3, stride = 2)) -> two: add
    output one, two
}
block last(width) {
    input a[_, H, W], b[_, _, _]
    (a, b -> conv(width, 1) -> resize(a.size)) -> add
}
block layer(width) { input x[C, H, W]
 (x, x -> conv(width, 3) -> relu) -> concat }
model net {
    input x[8, 32, 32]
    y: conv(16, 3, stride = 2)
    (x, y) -> (u, v): mix(8)
    (u, v) -> last(8)
    repeat 3 { layer(4) }
    split(2) -> concat
    (it, it) -> add
}
"""
"""Two tensors from one block to another, a repetition whose sizes grow, several results, and one tensor taken twice."""


TAKEN_TWICE = """
model net {
    input x[4, 8, 8]
    one: conv(4, 3) -> relu -> two: conv(4, 3) -> relu -> three: conv(4, 3) -> relu
    (one, it) -> add
    y: conv(4, 1)
    (y, y) -> concat -> a: it
    (a, y) -> concat -> b: it
    (b, y) -> concat
}
"""
"""Equal layers, of which the first one's result is taken again later, and concatenations that repeat."""


@pytest.mark.parametrize("text", [TAKEN_TWICE, TAKEN_TWICE.replace("(b, y)", "(b, a, y)")])
def test_a_result_that_is_taken_again_is_no_part_of_a_repetition(text: str) -> None:
    assert list(falsehoods(draw(graph_of(text)))) == []


@pytest.mark.parametrize("depth", [0, 1, 9])
def test_several_tensors_and_repetitions(depth: int) -> None:
    assert list(falsehoods(draw(graph_of(MIXED), depth=depth))) == []


@pytest.mark.parametrize(
    ("depth", "name", "false"),
    [
        (0, "dot.strokes", lambda edge: 1),
        (0, "captions.times", lambda part: f"× {part.count - 1}"),
        (0, "captions.in_streams", lambda rounds: [[t] for t in rounds[-1]]),
        (0, "captions.in_streams", lambda rounds: [list(stream) for stream in zip(*rounds, strict=True)][:1]),
        (1, "captions.times", lambda part: ""),
    ],
)
def test_a_false_picture_is_found(depth: int, name: str, false: object, monkeypatch: pytest.MonkeyPatch) -> None:
    function = name.partition(".")[2]
    for user in ("captions", "dot", "arrows"):
        full = f"archdsl.backends.diagram.{user}.{function}"
        if hasattr(import_module(f"archdsl.backends.diagram.{user}"), function):
            monkeypatch.setattr(full, false)
    assert list(falsehoods(draw(graph_of(MIXED), depth=depth))) != []


@pytest.mark.parametrize("name", ["_step_corners", "_row_corners"])
def test_a_false_u_of_volumes_is_found(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """An arrow of the trunk that begins elsewhere, and skips that are led to no end."""
    false = {"_step_corners": lambda *_: [(0.0, 0.0), (9.0, 0.0)], "_row_corners": lambda *_: [(0.0, 0.0)] * 2}
    monkeypatch.setattr(f"archdsl.backends.diagram.ulayout.{name}", false[name])
    assert list(falsehoods(draw(check("unet:unet"), style="volumes"))) != []
