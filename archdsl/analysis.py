"""What a network costs: parameters and multiply-accumulates, of each node and of each scope, without running it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from math import prod

from archdsl.dims import evaluate
from archdsl.graph import Graph, Node, Scope, Tensor

IntShape = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Cost:
    """What a node or a scope costs for one sample. Costs add.

    `trainable` and `frozen` are numbers of parameters, `buffers` of the state_dict's other numbers. `macs` are the
    multiply-accumulates
    of convolutions and matrix products; biases, normalisation, activations and merges are not counted.
    """

    trainable: int = 0
    frozen: int = 0
    buffers: int = 0
    macs: int = 0

    @property
    def parameters(self) -> int:
        return self.trainable + self.frozen

    def __add__(self, other: Cost) -> Cost:
        return Cost(*(getattr(self, f.name) + getattr(other, f.name) for f in fields(Cost)))


@dataclass(frozen=True, slots=True, eq=False)
class Analysis:
    """The costs of a graph with its free sizes at `sizes`: `analysis[node]`, `analysis[scope]`, `analysis.total`."""

    graph: Graph
    sizes: Mapping[str, int]
    shapes: tuple[tuple[IntShape, ...], ...]
    """The sizes of each node's results, by node id, without the batch."""
    _nodes: tuple[Cost, ...]
    _scopes: Mapping[Scope, Cost]

    def __getitem__(self, part: Node | Scope) -> Cost:
        return self._nodes[part.id] if isinstance(part, Node) else self._scopes[part]

    def shape(self, tensor: Tensor) -> IntShape:
        """The size of a tensor, without the batch."""
        return self.shapes[tensor.node][tensor.index]

    @property
    def total(self) -> Cost:
        return self._scopes[self.graph.root]


def costs(graph: Graph, sizes: Mapping[str, int] | None = None) -> Analysis:
    """The costs of a checked graph. A free size that `sizes` does not name takes the value that `graph.examples` shows.

    Parameters of one path count once, at the first node that bears it.
    """
    values = {**graph.examples, **(sizes or {})}
    shapes = sized_shapes(graph, values)
    nodes: list[Cost] = []
    scopes: dict[Scope, Cost] = {scope: Cost() for scope in graph.root.scopes()}
    owned: set[str] = set()
    for node in graph.nodes():
        incoming = tuple(shapes[t.node][t.index] for t in node.inputs)
        cost = Cost(macs=node.operation.macs(incoming, shapes[node.id])) + _weights(node, incoming, owned)
        nodes.append(cost)
        scopes[node.scope] += cost
    # Inner scopes stand behind outer ones, so each is whole before it is added to its parent.
    for scope in reversed(list(graph.root.scopes())):
        if scope.parent is not None:
            scopes[scope.parent] += scopes[scope]
    return Analysis(graph, values, shapes, tuple(nodes), scopes)


def sized_shapes(graph: Graph, values: Mapping[str, int]) -> tuple[tuple[IntShape, ...], ...]:
    """The sizes of each node's results, by node id, without the batch, for these values of the free sizes."""
    return tuple(
        tuple(tuple(evaluate(d, values) for d in graph.shape(Tensor(node.id, i))) for i in range(len(node.shapes)))
        for node in graph.nodes()
    )


def _weights(node: Node, incoming: tuple[IntShape, ...], owned: set[str]) -> Cost:
    weights = node.operation.weights(incoming)
    if not weights or node.path in owned:
        return Cost()
    owned.add(node.path)
    buffers = sum(prod(w.shape) for w in weights if w.buffer)
    frozen = sum(prod(w.shape) for w in weights if not w.buffer and not w.trainable)
    trainable = sum(prod(w.shape) for w in weights if not w.buffer and w.trainable)
    return Cost(trainable, frozen, buffers)
