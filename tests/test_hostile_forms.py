"""Networks of tests/hostile_forms.py and hostile_calls.py, where forms meet: every built form, stages, exports."""

from __future__ import annotations

from pathlib import Path
from random import Random

import pytest
import torch

from archdsl.planning.stages import Splitter
from archdsl.runtime.export import TESTED, proved_export
from archdsl.runtime.loading import instantiate
from archdsl.runtime.outside import allowing
from archdsl.runtime.weights import state_shapes
from tests import hostile_calls, hostile_forms
from tests.helpers import graph_of
from tests.planning.test_stages import compare, modules_of
from tests.random_checks import READABLE, holds

NETWORKS = {**hostile_forms.NETWORKS, **hostile_calls.NETWORKS}
ONCE_WRONG = [
    "partials of partials",
    "levels that are read twice, in a loop of blocks",
    "queries look at a pyramid",
    "outputs of a block and of training",
    "models of many inputs, one of which trains alone",
    "fixed kernels that are standardised",
]
ALLOWED = ["tests.outside", "tests.outside:bend", "tests.outside:blend"]
PLAINER = {"an output of a block that one call needs in training alone"}
"""Networks whose readable form computes too much in evaluation, so that they have a class for each call."""
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
@pytest.mark.parametrize("name", NETWORKS)
def test_stages_are_right(name: str) -> None:
    graph = graph_of(NETWORKS[name])
    splitter = Splitter(graph, graph.examples, "float32")
    random = Random(0)
    for count in range(1, min(3, len(splitter.places)) + 1):
        parts = splitter.at(sorted(random.sample(splitter.places, count)))
        with allowing(ALLOWED):
            compare(graph, modules_of(parts), dict(graph.examples))


@pytest.mark.long
@pytest.mark.skipif(OLDER, reason=f"exports are tested with PyTorch {TESTED} and newer")
@pytest.mark.parametrize("ending", [".onnx", ".pt2"])
@pytest.mark.parametrize("name", NETWORKS)
def test_exports_are_right(name: str, ending: str, tmp_path: Path) -> None:
    """An export is compared with the network before it is written, at several sizes: none is refused."""
    graph = graph_of(NETWORKS[name])
    proved_export(graph, tmp_path / f"net{ending}", allow_extern=ALLOWED)
