"""The author's statements about costs (`expect parameters == …`), checked against the graph."""

from __future__ import annotations

from operator import eq, ne

from archdsl.analysis.costs import costs
from archdsl.analysis.receptive import receptive_fields
from archdsl.diagnostics import Diagnostics, Mark
from archdsl.graph import MEASURES, Expectation, Graph, Tensor
from archdsl.values.arithmetic import COMPARISON

HOLDS = {**COMPARISON, "==": eq, "!=": ne}


def check_expectations(graph: Graph, diagnostics: Diagnostics) -> None:
    """Reports each expectation that does not hold. Free sizes have their example values. Raises SpecError if one fails.

    `field` is the receptive field of the last map, through windows only: every axis must meet the bound.
    """
    measured = {measure: MEASURED[measure](graph) for measure in {e.measure for e in graph.expectations}}
    for expected in graph.expectations:
        values = measured[expected.measure]
        if not all(HOLDS[expected.comparison](value, expected.bound) for value in values):
            _report(expected, values, diagnostics)
    diagnostics.stop_on_errors()


def last_extents(graph: Graph) -> list[int]:
    """The receptive fields of an element of the last map, through windows only: the smallest and largest of each axis.

    [0] if no map has a field.
    """
    fields = receptive_fields(graph, windows=True)
    for node in reversed(list(graph.nodes())):
        axes = [axis for found in (fields[Tensor(node.id)] or {}).values() for axis in found]
        extents = [extent for axis in axes for extent in axis.extents()]
        if any(extents) and not all(axis.sees_all for axis in axes):
            return extents
    return [0]


MEASURED = {
    "parameters": lambda graph: [costs(graph).total.parameters],
    "macs": lambda graph: [costs(graph).total.macs],
    "field": last_extents,
}
assert tuple(MEASURED) == MEASURES


def _report(expected: Expectation, values: list[int], diagnostics: Diagnostics) -> None:
    # A field has a smallest and a largest extent along each axis; other costs are one number.
    pairs = [values[i : i + 2] for i in range(0, len(values), 2)]
    axes = ["–".join(f"{value:,}" for value in dict.fromkeys(pair)) for pair in pairs]
    shown = axes[0] if len(set(axes)) == 1 else " × ".join(axes)
    what = {"parameters": "parameters", "macs": "MACs", "field": "elements in the receptive field of the last map"}
    message = f"the model has {shown} {what[expected.measure]}"
    bound = f"{expected.bound:,}" if isinstance(expected.bound, int) else f"{expected.bound:g}"
    notes = []
    if expected.comparison == "==" and isinstance(expected.bound, int) and len(values) == 1:
        difference = values[0] - expected.bound
        notes = [f"{abs(difference):,} {'more' if difference > 0 else 'fewer'} than expected"]
    mark = Mark(expected.span, f"expects {expected.comparison} {bound}")
    diagnostics.error("E0311", message, mark, notes=notes, help="`archdsl show` lists the costs by layer")
