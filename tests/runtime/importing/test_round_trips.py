"""Every model of the library: built, and imported, it is the same network again, in a spec that is not much longer."""

from __future__ import annotations

import math
import re

import pytest

import archdsl
from archdsl import dims
from archdsl.graph import Graph
from archdsl.report.compare.changes import Change
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
LONGER = frozenset({"attention_unet:attention_unet"})
"""Models whose own specs are recursive, or take blocks from other files."""


def is_known(change: Change) -> bool:
    """Whether docs/import.md names such a difference: names without keys, initial values, digits of fractions."""
    if change.kind == "renamed":
        return True
    nodes = (*change.before, *change.after)
    if change.kind in ("removed", "added"):
        return all(node.operation.is_input for node in nodes)
    return all(detail.name in ("init", "inputs") or is_near(detail.before, detail.after) for detail in change.details)


def is_near(one: str, two: str) -> bool:
    try:
        return math.isclose(float(one), float(two), rel_tol=1e-11)
    except ValueError:
        return False


def sizes_of(graph: Graph) -> list[tuple[int, ...]]:
    """Valid sizes of the inputs, near to 64."""
    values = graph.always.near({size.name: SIZE for size in graph.free})
    shapes = [node.shapes[0] for node in graph.input_nodes]
    return [tuple(dims.evaluate(size, values) for size in shape) for shape in shapes]


@pytest.mark.long
@pytest.mark.parametrize("spec", MODELS)
def test_a_built_model_becomes_its_network_again(spec: str) -> None:
    graph = archdsl.check(spec)
    found = from_module(archdsl.load(spec), sizes_of(graph), extern=False)
    assert not [change for change in archdsl.diff(graph, found.graph).changes if not is_known(change)]
    lines, own = (len(text.splitlines()) for text in (found.text, FAMILIES[spec.partition(":")[0]]))
    assert lines <= 1.5 * own or spec in LONGER
