"""From syntax to graph: blocks are unrolled, names resolved, and every node's size inferred as it is placed.

A `Flow` is the tensors that flow at a point: usually one, several after a parallel. A failed item gives the tensor
`POISONED_TENSOR`, which is compatible with everything, so that one mistake gives one error.
"""

from collections.abc import Mapping
from contextlib import suppress

from archdsl.common.limits import Exceeded, deep_calls, ongoing
from archdsl.diagnostics import Diagnostics
from archdsl.elaborate.reports import Stop, call_notes, same_at
from archdsl.elaborate.statements import Elaborator
from archdsl.graph import Definition, Demand, Graph, Scope
from archdsl.values import BlockValue

__all__ = ["call_notes", "elaborate", "same_at"]


def elaborate(
    name: str, block: BlockValue, arguments: Mapping[str, object], diagnostics: Diagnostics
) -> tuple[Graph, list[Demand]]:
    """The graph of a model with values for all its parameters, and the demands on its sizes.

    Errors go to `diagnostics`; the graph is complete only if there are none.
    """

    def estimated() -> int | None:
        from archdsl.elaborate.estimate import estimate  # only for networks that grow large

        return estimate(name, block, arguments)

    definition = Definition(block.name, block.syntax, block.module.constants)
    root = Scope("model", name, "", True, None, block.syntax.name.span, definition, dict(arguments))
    with ongoing() as budget:
        elaborator = Elaborator.of(diagnostics, Graph(name, root), budget, estimated)
        try:
            with deep_calls(), suppress(Stop):
                elaborator.model(block, arguments)
        except Exceeded as error:
            elaborator.reports.exceeded(error, block.syntax.name.span, root)
        elaborator.build.finish()
        if elaborator.items.operations.kinds and not diagnostics.errors and not root.lost:
            elaborator.items.operations.name_kinds(elaborator.build.graph)
        elaborator.reports.finish()
    return elaborator.build.graph, elaborator.build.demands
