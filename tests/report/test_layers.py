"""The numbers of a network compared with PyTorch's flop counter, published figures, and each other."""

from __future__ import annotations

import json
from random import Random

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from archdsl import check, cli
from archdsl.analysis.costs import amounts, costs
from archdsl.analysis.formulas import Formula
from archdsl.common.units import bytes_from, bytes_text
from archdsl.graph import Tensor
from tests import published
from tests.helpers import graph_of, random_graph
from tests.ops.forms import Built
from tests.random_networks import network


@pytest.mark.parametrize("name", published.NAMES)
def test_formulas_are_the_published_macs_at_their_size(name: str) -> None:
    graph, fact = check(published.spec(name)), published.facts(name)
    found, sizes = amounts(graph), published.sizes(graph, fact)
    aside = sum(found[node].macs.at(sizes) for node in graph.of_training())
    assert found[graph.root].macs.at(sizes) - aside == fact["macs"] + published.NOT_COUNTED.get(name, 0)


@pytest.mark.parametrize(
    ("spec", "size", "macs"),
    [("unet:unet", 572, 150_428_424_448), ("fcdensenet:fcdensenet103", 224, 20_072_570_112)],
)
def test_macs(spec: str, size: int, macs: int) -> None:
    graph = check(spec)
    assert costs(graph, {"H": size, "W": size}).total.macs == macs
    assert amounts(graph)[graph.root].macs.at({"H": size, "W": size}) == macs


@pytest.mark.parametrize("networks", [10, pytest.param(80, marks=pytest.mark.long)])
def test_flop_counter_agrees_on_random_networks(networks: int) -> None:
    random = Random(5)
    compared = 0
    for _ in range(networks):
        text, graph = random_graph(lambda random: network(random, free=True), random)
        formulas = amounts(graph)
        # At the example sizes, and at others for which the formulas were not made.
        for sizes in (graph.examples, {n: found.nearest(33)[1] or 33 for n, found in graph.sizes.items()}):
            if any(n not in graph.sizes[name] for name, n in sizes.items()):
                continue
            analysis = costs(graph, sizes)
            with torch.device("meta"), FlopCounterMode(display=False) as counter:
                for node in graph.nodes():
                    incoming = tuple(analysis.shape(t) for t in node.inputs)
                    if incoming:
                        Built(node.operation, incoming).to("meta").eval()(*(torch.empty(1, *s) for s in incoming))
            assert counter.get_total_flops() == 2 * analysis.total.macs, text
            for part in (*graph.nodes(), *graph.root.scopes()):
                assert formulas[part].macs.at(sizes) == analysis[part].macs, text
            elements = sum(
                torch.Size(analysis.shape(Tensor(n.id, i))).numel()
                for n in graph.nodes()
                for i in range(len(n.shapes))
                if n.operation.shares(i) is None
            )
            assert formulas[graph.root].elements.at(sizes) == elements
            compared += 1
    assert compared > 1.5 * networks


@pytest.mark.parametrize(
    ("body", "macs"),
    [
        ("input x[3, H, W]\n conv(2, 3)", "54·H·W"),
        ("input x[3, H, W]\n conv(2, 3, stride = 2)", "54·⌈H/2⌉·⌈W/2⌉"),
        ("input x[3, N, N]\n conv(2, 1, bias = false)", "6·N²"),
        ("input x[1, T]\n conv(1, 3, pad = valid)", "3·T - 6"),
        ("input x[2, H, W]\n pixel_unshuffle(2)\n conv(1, 1)\n global_avgpool -> flatten -> linear(3)", "2·H·W + 3"),
        ("input x[1, T]\n relu", "0"),
    ],
)
def test_formulas_in_words(body: str, macs: str) -> None:
    graph = graph_of(f"model net {{\n {body}\n}}")
    assert amounts(graph)[graph.root].macs.text(graph.sizes) == macs


def test_formulas_add() -> None:
    graph = graph_of("model net {\n input x[1, T]\n conv(1, 3, stride = 2) -> conv(1, 1)\n}")
    found = amounts(graph)
    assert sum((found[n].macs for n in graph.nodes()), Formula()) == found[graph.root].macs
    assert (found[graph.root].macs * 3).at({"T": 9}) == 3 * 4 * 5


@pytest.mark.parametrize(
    ("text", "count"),
    [("16GiB", 2**34), ("16G", 2**34), ("1GB", 10**9), ("1.5 MiB", 3 * 2**19), ("77 b", 77), ("12B", 12)],
)
def test_amounts_of_memory(text: str, count: int) -> None:
    assert bytes_from(text) == count


@pytest.mark.parametrize("text", ["", "GiB", "-1G", "1 GiB of", "1e9", "0x10", "16", " 1.5 "])
def test_what_is_no_amount_of_memory(text: str) -> None:
    assert bytes_from(text) is None


@pytest.mark.parametrize(
    ("count", "text"), [(0, "0 B"), (1023, "1023 B"), (1024, "1.00 KiB"), (10**8, "95.4 MiB"), (2**30 - 1, "1.00 GiB")]
)
def test_amounts_in_words(count: int, text: str) -> None:
    assert bytes_text(count) == text


def shown(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    assert cli.run(["show", *arguments]) == 0
    return capsys.readouterr().out


def test_show_in_free_sizes_and_at_a_size(capsys: pytest.CaptureFixture[str]) -> None:
    free = shown(capsys, "resnet:resnet18", "--depth", "0")
    assert "9,408·⌈H/2⌉·⌈W/2⌉" in free and "1,814,073,344 at H = 224, W = 224" in free
    pinned = shown(capsys, "resnet:resnet18", "--depth", "0", "--size", "3x224x224", "--batch", "2")
    assert "2 samples" in pinned and f"{2 * 1_814_073_344:,}" in pinned and "⌈" not in pinned


def test_show_json_has_the_totals(capsys: pytest.CaptureFixture[str]) -> None:
    found = json.loads(shown(capsys, "resnet:resnet18", "--json", "--gpu-memory", "4GiB", "--batch", "8", "--flops"))
    total = found["total"]
    assert total["macs"] == 8 * 1_814_073_344 and total["flops"] > 2 * total["macs"]
    assert total["parameters"] == total["trainable"] == 11_689_512
    assert total["weight_bytes"]["float32"] == 4 * (11_689_512 + 9_600) + 8 * 20
    assert total["saved_activations"] < total["training_peak"]
    assert total["largest_batch"]["training"] < total["largest_batch"]["inference"]
    (last,) = [layer for layer in found["layers"] if layer["path"] == "layer4.1.conv2"]
    assert (last["field"], last["stride"], last["offset"]) == ("435", "32", "0")


@pytest.mark.parametrize("form", ["markdown", "latex", "csv"])
def test_show_in_other_forms(form: str, capsys: pytest.CaptureFixture[str]) -> None:
    lines = shown(capsys, "lenet:lenet", f"--{form}").splitlines()
    first = {"markdown": "| path |", "latex": r"\begin{tabular}{lllrrrrr}", "csv": "path,operation,"}[form]
    assert lines[0].startswith(first)
    assert len({line.count("|") for line in lines}) == 1


def test_frozen_weights_are_told_apart(capsys: pytest.CaptureFixture[str]) -> None:
    out = shown(capsys, "edges:edges", "--json")
    total = json.loads(out)["total"]
    assert total["frozen"] > 0 and total["parameters"] == total["trainable"] + total["frozen"]
