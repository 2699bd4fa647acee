"""Networks of tests/hostile_forms.py and hostile_calls.py, where forms meet: every built form, stages, exports."""

from __future__ import annotations

import re
from pathlib import Path
from random import Random

import pytest
import torch

from archdsl.compiler import prove_build
from archdsl.planning.stages import Splitter
from archdsl.runtime.export import TESTED, proved_export
from archdsl.runtime.loading import instantiate
from archdsl.runtime.outside import allowing
from archdsl.runtime.weights import state_shapes
from tests import hostile_calls, hostile_forms
from tests.helpers import graph_of
from tests.modules import inputs
from tests.planning.test_stages import compare, modules_of
from tests.random_checks import READABLE, drawn_alike, holds

NETWORKS = {**hostile_forms.NETWORKS, **hostile_calls.NETWORKS}
ONCE_WRONG = [
    "partials of partials",
    "levels that are read twice, in a loop of blocks",
    "queries look at a pyramid",
    "outputs of a block and of training",
    "models of many inputs, one of which trains alone",
    "fixed kernels that are standardised",
    "a block that takes a tensor for an output of training",
]
ALLOWED = ["tests.outside", "tests.outside:bend", "tests.outside:blend"]
PLAINER = {"an output of a block that one call needs in training alone"}
"""Networks whose readable form computes too much in evaluation, so that they have a class for each call."""
OUTSIDE = """
extern outside_conv(out, kernel) = "torch.nn:Conv2d" {
    input x[C, H, W]
    call (C, out, kernel, padding = kernel // 2)
    weight weight[out, C, kernel, kernel], bias[out]
    macs C * kernel * kernel
    field (kernel, pad = kernel // 2)
    output [out, H, W]
}
extern outside_relu = "torch.nn:ReLU" {
    input x[C, H, W]
    call ()
    macs 0
    field (1)
    output [C, H, W]
}
"""
OTHER_AXES = {
    "a signal in windows, a volume in grids",
    "causal attention of a signal behind causal convolutions",
    "three dimensions and back",
}
"""Networks that are not of maps alone, which these layers take."""
OLDER = [*map(int, torch.__version__.split(".")[:2])] < [*map(int, TESTED.split("."))]


@pytest.mark.parametrize("name", ONCE_WRONG)
def test_what_was_built_wrong_or_not_at_all_is_right(name: str) -> None:
    assert not holds(graph_of(NETWORKS[name]))["plainer"]


@pytest.mark.long
@pytest.mark.parametrize("name", NETWORKS)
def test_every_form_is_right(name: str) -> None:
    graph = graph_of(NETWORKS[name])
    assert bool(holds(graph)["plainer"]) == (name in PLAINER)
    if name not in PLAINER:
        holds(graph, READABLE)
    with allowing(ALLOWED):
        state = instantiate(graph).state_dict()
    assert {key: tuple(x.shape) for key, x in state.items()} == state_shapes(graph)


@pytest.mark.long
@pytest.mark.parametrize("name", [name for name in hostile_forms.NETWORKS if name not in OTHER_AXES])
def test_layers_from_outside_are_right(name: str) -> None:
    """With convolutions and activations from PyTorch the network is the same, and is built in every form."""
    text = re.sub(r"\bconv\((\w+), ([13])\)", r"outside_conv(\1, \2)", NETWORKS[name])
    if "act" not in text:  # the name of a parameter
        text = re.sub(r"-> relu\b", "-> outside_relu", text)
    own, other = graph_of(NETWORKS[name]), graph_of(OUTSIDE + text)
    with allowing("torch"):
        for training in (True, False):
            made = [instantiate(graph).double().train(training) for graph in (own, other)]
            made[0].load_state_dict(made[1].state_dict())
            results = []
            for model in made:
                torch.manual_seed(0)
                results.append(model(*inputs(own)))
            torch.testing.assert_close(results[0], results[1])
        prove_build(other, inference=True)
        splitter = Splitter(other, other.examples, "float32")
        if splitter.places:
            parts = splitter.at([splitter.places[len(splitter.places) // 2]])
            compare(other, modules_of(parts), dict(other.examples))


@pytest.mark.long
@pytest.mark.parametrize("name", NETWORKS)
def test_stages_are_right(name: str) -> None:
    graph = graph_of(NETWORKS[name])
    splitter = Splitter(graph, graph.examples, "float32")
    random = Random(0)
    for count in range(1, min(3, len(splitter.places)) + 1):
        parts = splitter.at(sorted(random.sample(splitter.places, count)))
        with allowing(ALLOWED), drawn_alike():  # a dropout draws in the order of the memory, which a stage may change
            compare(graph, modules_of(parts), dict(graph.examples))


@pytest.mark.long
@pytest.mark.skipif(OLDER, reason=f"exports are tested with PyTorch {TESTED} and newer")
@pytest.mark.parametrize("ending", [".onnx", ".pt2"])
@pytest.mark.parametrize("name", NETWORKS)
def test_exports_are_right(name: str, ending: str, tmp_path: Path) -> None:
    """An export is compared with the network before it is written, at several sizes: none is refused."""
    graph = graph_of(NETWORKS[name])
    proved_export(graph, tmp_path / f"net{ending}", allow_extern=ALLOWED)
