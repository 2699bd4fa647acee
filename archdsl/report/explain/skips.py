"""The skips of encoder-decoders: joins that bring back a map from before its resolution was lowered."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from archdsl.graph import Graph, Node, Tensor
from archdsl.report.layers import Layers
from archdsl.report.stages import Resolution, resolutions


@dataclass(frozen=True, slots=True)
class Skip:
    """A map that a join brings back. `coarsest` is a tensor of the lowest resolution on the long way around."""

    source: Tensor
    join: Node
    brought: Tensor
    """The map as the join gets it: possibly cropped or padded."""
    coarsest: Tensor


def skips(layers: Layers) -> Iterator[Skip]:
    """The skips of a network, in the order of their joins."""
    graph, pace = layers.graph, resolutions(layers)
    for node in graph.nodes():
        if not node.operation.is_join or len(node.inputs) != 2 or len(node.shapes) != 1:
            continue
        brought, other = sorted(node.inputs, key=lambda t: origin(graph, t).node)
        source = origin(graph, brought)
        coarsest = _coarsest(graph, pace, source, origin(graph, other))
        if coarsest is not None:
            yield Skip(source, node, brought, coarsest)


def origin(graph: Graph, tensor: Tensor) -> Tensor:
    """The tensor before crops, and before what brings several maps to one size."""
    while True:
        node = graph.node(tensor)
        if node.operation.is_join and len(node.shapes) == len(node.inputs):
            tensor = node.inputs[tensor.index]
        elif node.operation.keeps_channels() and len(node.inputs) == len(node.shapes) == 1:
            tensor = node.inputs[0]
        else:
            return tensor


def _coarsest(graph: Graph, pace: Mapping[Tensor, Resolution], source: Tensor, other: Tensor) -> Tensor | None:
    """A tensor of the lowest resolution between two, if it is lower than that of both."""
    inside = {source.node}
    best: Tensor | None = None
    needed = graph.ancestors([other])
    for number in sorted(n for n in needed if n > source.node):
        node = graph.node(Tensor(number))
        if not any(t.node in inside for t in node.inputs):
            continue
        inside.add(number)
        here = pace[Tensor(number)]
        if len(here) == len(pace[source]) and here and here > pace[best or source]:
            best = Tensor(number)
    return best if best is not None and other.node in inside and pace[best] > pace[other] else None
