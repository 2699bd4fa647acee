"""The costs of a network without running it: parameters, multiply-accumulates, output sizes, per node and scope."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from math import prod

from archdsl.analysis.formulas import Formula, total
from archdsl.dims import evaluate, substitute
from archdsl.graph import Graph, Node, Scope, Tensor
from archdsl.ops.base import Shape

IntShape = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Cost:
    """The cost of a node or scope for one sample. Costs add.

    `trainable` and `frozen` are numbers of parameters, `buffers` of the other numbers in the state_dict. `macs` are the
    multiply-accumulates of convolutions and matrix products, without biases, normalisation, activations and merges.
    """

    trainable: int = 0
    frozen: int = 0
    buffers: int = 0
    macs: int = 0

    @property
    def parameters(self) -> int:
        return self.trainable + self.frozen

    def __add__(self, other: Cost) -> Cost:
        return Cost(
            self.trainable + other.trainable,
            self.frozen + other.frozen,
            self.buffers + other.buffers,
            self.macs + other.macs,
        )


@dataclass(frozen=True, slots=True, eq=False)
class Analysis:
    """The costs of a graph with its free sizes at `sizes`: `analysis[node]`, `analysis[scope]`, `analysis.total`."""

    graph: Graph
    sizes: Mapping[str, int]
    shapes: tuple[tuple[IntShape, ...], ...]
    """The sizes of each node's outputs, by node id, without the batch."""
    _nodes: tuple[Cost, ...]
    _scopes: Mapping[Scope, Cost]

    def __getitem__(self, part: Node | Scope) -> Cost:
        return self._nodes[part.id] if isinstance(part, Node) else self._scopes[part]

    def shape(self, tensor: Tensor) -> IntShape:
        """The size of a tensor, without the batch."""
        return self.shapes[tensor.node][tensor.index]

    def uncounted(self, part: Node | Scope | None = None) -> list[Node]:
        """The nodes of a part, or of the network, whose multiply-accumulates are not known: they count as 0."""
        nodes = [part] if isinstance(part, Node) else (part or self.graph.root).nodes()
        return [n for n in nodes if not n.operation.is_counted(self.graph.shapes(n.inputs))]

    @property
    def total(self) -> Cost:
        return self._scopes[self.graph.root]


def costs(graph: Graph, sizes: Mapping[str, int] | None = None) -> Analysis:
    """The costs of a checked graph. Free sizes missing in `sizes` have their values in `graph.examples`."""
    values = {**graph.examples, **(sizes or {})}
    shapes = sized_shapes(graph, values)
    nodes = [
        Cost(macs=node.operation.macs(tuple(shapes[t.node][t.index] for t in node.inputs), shapes[node.id]) * count)
        for node, count in zip(graph.nodes(), sample_counts(graph, values), strict=True)
    ]
    for node, weight in graph.weights():
        numbers = prod(weight.shape)
        kind = "buffers" if weight.buffer else "trainable" if weight.trainable else "frozen"
        nodes[node.id] += Cost(**{kind: numbers})
    scopes: dict[Scope, Cost] = {scope: Cost() for scope in graph.root.scopes()}
    for node in graph.nodes():
        scopes[node.scope] += nodes[node.id]
    # Inner scopes come after outer ones, so in reverse each is complete before it is added to its parent.
    for scope in reversed(list(graph.root.scopes())):
        if scope.parent is not None:
            scopes[scope.parent] += scopes[scope]
    return Analysis(graph, values, shapes, tuple(nodes), scopes)


def sized_shapes(graph: Graph, values: Mapping[str, int]) -> tuple[tuple[IntShape, ...], ...]:
    """The sizes of each node's outputs, by node id, without the batch, for these values of the free sizes."""
    return tuple(
        tuple(tuple(evaluate(d, values) for d in graph.shape(Tensor(node.id, i))) for i in range(len(node.shapes)))
        for node in graph.nodes()
    )


def sample_counts(graph: Graph, values: Mapping[str, int]) -> tuple[int, ...]:
    """How many results each node gives for a sample, by node id: 1, or one for each window of a map."""
    return tuple(prod(evaluate(d, values) for d in node.samples) for node in graph.nodes())


@dataclass(frozen=True, slots=True)
class Amounts:
    """Amounts for one sample that depend on the sizes, as formulas of the free sizes. Amounts add.

    `macs` as in Cost. `flops` are twice those plus the element-wise operations: one for each bias, activation, element
    of a pooling's window and merged tensor beyond the first, two for a batchnorm, six for the other normalisations, two
    for each neighbour in an interpolation. `elements` are the numbers in outputs, except views.
    """

    macs: Formula
    flops: Formula
    elements: Formula


@dataclass(frozen=True, slots=True, eq=False)
class Formulas:
    """The amounts of a graph: `formulas[node]`, `formulas[scope]`."""

    _nodes: tuple[Amounts, ...]
    _scopes: Mapping[Scope, Amounts]

    def __getitem__(self, part: Node | Scope) -> Amounts:
        return self._nodes[part.id] if isinstance(part, Node) else self._scopes[part]


def amounts(graph: Graph, sizes: Mapping[str, int] | None = None) -> Formulas:
    """The amounts of a checked graph, with the free sizes in `sizes` substituted."""
    values = sizes or {}

    def sized(shape: Shape) -> Shape:
        return tuple(substitute(d, values) for d in shape) if values else shape

    shapes = [tuple(sized(graph.shape(Tensor(n.id, i))) for i in range(len(n.shapes))) for n in graph.nodes()]
    nodes = [
        _amounts(node, tuple(shapes[t.node][t.index] for t in node.inputs), shapes[node.id], sized(node.samples), graph)
        for node in graph.nodes()
    ]
    parts: dict[Scope, list[Amounts]] = {scope: [] for scope in graph.root.scopes()}
    for node in graph.nodes():
        parts[node.scope].append(nodes[node.id])
    scopes: dict[Scope, Amounts] = {}
    for scope in reversed(list(graph.root.scopes())):
        scopes[scope] = Amounts(*(total(getattr(p, f.name) for p in parts[scope]) for f in fields(Amounts)))
        if scope.parent is not None:
            parts[scope.parent].append(scopes[scope])
    return Formulas(tuple(nodes), scopes)


def _amounts(
    node: Node, incoming: tuple[Shape, ...], outputs: tuple[Shape, ...], samples: Shape, graph: Graph
) -> Amounts:
    def formula(factor: int, shape: Shape) -> Formula:
        return Formula.product(factor, (*shape, *samples), graph.sizes)

    operation = node.operation
    macs = total(formula(*product) for product in operation.products(incoming, outputs))
    flops = total([macs * 2, *(formula(*part) for part in operation.elementwise(incoming, outputs))])
    own = [shape for i, shape in enumerate(outputs) if operation.shares(i) is None and not operation.is_learned]
    return Amounts(macs, flops, total(formula(1, shape) for shape in own))
