"""Costs: parameters and multiply-accumulates compared with published and reference numbers, and their totals."""

import json
from math import prod

import pytest

from archdsl.analysis.costs import Analysis, Cost, costs
from archdsl.compiler import check
from archdsl.graph import Node, Tensor
from tests.helpers import ROOT, graph_of

REFERENCE = {p.stem: json.loads(p.read_text()) for p in (ROOT / "tests" / "data" / "models").glob("*.json")}


def analysed(text: str, **sizes: int) -> Analysis:
    return costs(graph_of(text), sizes)


@pytest.mark.parametrize(
    "name", ["resnet18", "resnext50_32x4d", "densenet121", "vgg16_bn", "squeezenet1_0", "mobilenet_v2"]
)
def test_macs_and_parameters_are_those_of_the_reference(name: str) -> None:
    families = {"resnext50_32x4d": "resnet", "vgg16_bn": "vgg", "mobilenet_v2": "mobilenet"}
    spec = f"{families.get(name, name.rstrip('0123456789_'))}:{name}"
    total = costs(check(spec)).total
    assert (total.macs, total.parameters) == (REFERENCE[name]["macs"], REFERENCE[name]["parameters"])


@pytest.mark.parametrize(
    ("spec", "sizes", "gmacs"),
    [
        ("unet:unet", {}, 150.4),
        ("fcdensenet:fcdensenet56", {"H": 224, "W": 224}, 8.92),
        ("fcdensenet:fcdensenet67", {"H": 224, "W": 224}, 20.90),
        ("fcdensenet:fcdensenet103", {"H": 224, "W": 224}, 20.07),
        ("densenet:densenet264", {}, 5.752),
    ],
)
def test_macs_are_the_published_ones(spec: str, sizes: dict[str, int], gmacs: float) -> None:
    digits = len(str(gmacs).partition(".")[2])
    assert round(costs(check(spec), sizes).total.macs / 1e9, digits) == gmacs


def test_resnet_152_has_less_than_half_the_parameters_of_vgg_19() -> None:
    resnet, vgg = (costs(check(s)).total.parameters for s in ("resnet:resnet152", "vgg:vgg19"))
    assert 2 * resnet < vgg


def test_scopes_hold_the_sum_of_what_stands_in_them() -> None:
    graph = check("resnet:resnet50")
    found = costs(graph)
    for scope in graph.root.scopes():
        assert found[scope] == sum((found[m] for m in scope.members), Cost())
    assert found.total == sum((found[n] for n in graph.nodes()), Cost())


def test_trainable_frozen_and_buffers_are_told_apart() -> None:
    found = analysed(
        "model m() {\n input x[2, H = 8, W = 8]\n"
        " edge: conv(2, weight = [[1, -1]], groups = 2, pad = valid, bias = false, trainable = false)\n"
        " bn: batchnorm\n conv(4, 3)\n}"
    )
    edge, bn, conv = (found[n] for n in found.graph.nodes() if n.operation.name != "input")
    assert edge == Cost(frozen=4, macs=2 * 2 * 8 * 7)
    assert bn == Cost(trainable=4, buffers=5)
    assert conv == Cost(trainable=4 * 2 * 9 + 4, macs=4 * 2 * 9 * 8 * 7)
    assert found.total.parameters == 4 + 4 + 76


def test_free_sizes_take_the_values_given_else_those_that_the_spec_shows() -> None:
    text = "model m() {\n input x[1, H = 10, W]\n conv(1, 3)\n}"
    graph = graph_of(text)
    for sizes, expected in (
        (None, (1, 10, graph.examples["W"])),
        ({"W": 7}, (1, 10, 7)),
        ({"H": 5, "W": 6}, (1, 5, 6)),
    ):
        found = costs(graph, sizes)
        [output] = graph.outputs
        assert found.shape(output.tensor) == expected
        assert found.total.macs == 9 * prod(expected)


def test_results_of_a_split_have_their_sizes() -> None:
    found = analysed("model m() {\n input x[6, 4, 4]\n (a, b): split(2)\n (a, b) -> concat\n}")
    split = next(n for n in found.graph.nodes() if isinstance(n, Node) and n.operation.name == "split")
    assert found.shape(Tensor(split.id, 1)) == (3, 4, 4)
