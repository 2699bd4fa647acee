"""From syntax to graph: blocks unrolled, names resolved, every node's size inferred as it is placed.

Tensors flow along arrows and down lines: a `Flow` is the tensors that flow at a point, one in most places, several
after a parallel. What failed flows on as the tensor `LOST`, which agrees with everything, so that one mistake gives one
error.
"""

from collections.abc import Mapping
from contextlib import suppress

from archdsl.common.limits import Exceeded, deep_calls, ongoing
from archdsl.diagnostics import Diagnostics
from archdsl.elaborate.core import Stop, call_notes, same_at
from archdsl.elaborate.estimate import estimate
from archdsl.elaborate.statements import Elaborator
from archdsl.graph import Definition, Demand, Graph, Scope
from archdsl.values import BlockValue

__all__ = ["call_notes", "elaborate", "same_at"]


def elaborate(
    name: str, block: BlockValue, arguments: Mapping[str, object], diagnostics: Diagnostics
) -> tuple[Graph, list[Demand]]:
    """The graph of a model with values for all of its parameters, and the demands that its sizes must meet.

    Mistakes go to `diagnostics`; the graph is whole only where there are none.
    """
    definition = Definition(block.name, block.syntax, block.module.constants)
    root = Scope("model", name, "", True, None, block.syntax.name.span, definition, dict(arguments))
    with ongoing() as budget:
        elaborator = Elaborator(diagnostics, Graph(name, root), budget, lambda: estimate(name, block, arguments))
        try:
            with deep_calls(), suppress(Stop):
                elaborator.model(block, arguments)
        except Exceeded as error:
            elaborator.exceeded(error, block.syntax.name.span, root)
        elaborator.finish()
    return elaborator.graph, elaborator.demands
