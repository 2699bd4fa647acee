"""Every model of the library: built, and imported, it is the same network again, in a spec that is not much longer."""

from __future__ import annotations

import re

import pytest

import archdsl
from archdsl import dims
from archdsl.graph import Graph
from archdsl.runtime.importing import from_module
from tests.helpers import ROOT

FAMILIES = {path.stem: path.read_text("utf-8") for path in sorted((ROOT / "specs").glob("*.arch"))}
MODELS = [
    f"{family}:{name}"
    for family, text in FAMILIES.items()
    for name, parameters in re.findall(r"^model (\w+)(\([^)]*\))?", text, re.MULTILINE)
    if all("=" in one for one in re.sub(r"\[[^\]]*\]", "", parameters[1:-1]).split(",") if one.strip())
]
"""The models that need no arguments."""

SIZE = 64
DIFFERENT: dict[str, str] = {}
"""Models that become another graph, or a longer spec, and why."""


def sizes_of(graph: Graph) -> list[tuple[int, ...]]:
    """Valid sizes of the inputs, near to 64."""
    values = graph.always.near({size.name: SIZE for size in graph.free})
    shapes = [node.outputs[0].shape for node in graph.input_nodes]
    return [tuple(dims.evaluate(size, values) for size in shape) for shape in shapes]


@pytest.mark.long
@pytest.mark.parametrize("spec", MODELS)
def test_a_built_model_becomes_its_network_again(spec: str) -> None:
    graph = archdsl.check(spec)
    found = from_module(archdsl.load(spec), sizes_of(graph), extern=False)
    lines, own = (len(text.splitlines()) for text in (found.text, FAMILIES[spec.partition(":")[0]]))
    same = not archdsl.diff(graph, found.graph).changes and lines <= 1.5 * own
    assert same == (spec not in DIFFERENT)
