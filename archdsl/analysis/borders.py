"""The tensors that cross the borders of scopes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TypeAlias

from archdsl.graph import Graph, Node, Scope, Tensor

Crossings: TypeAlias = dict[Scope, dict[Tensor, None]]
"""The tensors that cross the border of each scope, in order."""


def borders(graph: Graph, more: Mapping[Node, Iterable[Tensor]] | None = None) -> tuple[Crossings, Crossings]:
    """The tensors that flow into each scope from outside, and those that flow out of it and are used there.

    `more` are tensors that nodes take besides their inputs.
    """
    depth: dict[Scope, int] = {}
    for scope in graph.root.scopes():
        depth[scope] = 0 if scope.parent is None else depth[scope.parent] + 1
    inflow: Crossings = {s: {} for s in depth}
    outflow: Crossings = {s: {} for s in depth}

    def cross(tensor: Tensor, user: Scope) -> None:
        maker: Scope = graph.node(tensor).scope
        while maker is not user:
            if depth[maker] >= depth[user]:
                outflow[maker][tensor] = None
                assert maker.parent is not None
                maker = maker.parent
            else:
                inflow[user][tensor] = None
                assert user.parent is not None
                user = user.parent

    for node in graph.nodes():
        for tensor in (*node.inputs, *(more or {}).get(node, ())):
            cross(tensor, node.scope)
    for output in graph.outputs:
        cross(output.tensor, graph.root)
        outflow[graph.root][output.tensor] = None
    return inflow, outflow
