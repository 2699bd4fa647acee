"""The costs of a network without running it: parameters, multiply-accumulates, output sizes, per node and scope."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
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
        known: dict[object, bool] = {}
        found = []
        for node in nodes:
            key = _key(self.graph, node)
            if key not in known:
                known[key] = node.operation.is_counted(self.graph.shapes(node.inputs))
            if not known[key]:
                found.append(node)
        return found

    @property
    def total(self) -> Cost:
        return self._scopes[self.graph.root]


def costs(graph: Graph, sizes: Mapping[str, int] | None = None) -> Analysis:
    """The costs of a checked graph. Free sizes missing in `sizes` have their values in `graph.examples`."""
    values = {**graph.examples, **(sizes or {})}
    shapes = sized_shapes(graph, values)
    known: dict[object, Cost] = {}
    nodes: list[Cost] = []
    for node, count in zip(graph.nodes(), sample_counts(graph, values), strict=True):
        key = (*_key(graph, node), node.again, count)
        if key not in known:
            known[key] = _cost(graph, node, shapes, count)
        nodes.append(known[key])
    scopes: dict[Scope, Cost] = {scope: Cost() for scope in graph.root.scopes()}
    for node in graph.nodes():
        scopes[node.scope] += nodes[node.id]
    # Inner scopes come after outer ones, so in reverse each is complete before it is added to its parent.
    for scope in reversed(list(graph.root.scopes())):
        if scope.parent is not None:
            scopes[scope.parent] += scopes[scope]
    return Analysis(graph, values, shapes, tuple(nodes), scopes)


def _key(graph: Graph, node: Node) -> tuple[int, ...]:
    """Equal for nodes of one operation on the same sizes, such as those of equal calls, which share both objects."""
    found = [id(node.operation), id(node.shapes)]
    for tensor in node.inputs:
        found += [id(graph.node(tensor).shapes), tensor.index]
    return tuple(found)


def _cost(graph: Graph, node: Node, shapes: Sequence[tuple[IntShape, ...]], count: int) -> Cost:
    """The cost of a node that gives `count` results for a sample."""
    macs = node.operation.macs(tuple(shapes[t.node][t.index] for t in node.inputs), shapes[node.id]) * count
    found = Cost(macs=macs)
    for weight in graph.weights_of(node):
        kind = "buffers" if weight.buffer else "trainable" if weight.trainable else "frozen"
        found += Cost(**{kind: prod(weight.shape)})
    return found


def sized_shapes(graph: Graph, values: Mapping[str, int]) -> tuple[tuple[IntShape, ...], ...]:
    """The sizes of each node's outputs, by node id, without the batch, for these values of the free sizes."""
    known: dict[int, tuple[IntShape, ...]] = {}  # by identity: equal calls share their sizes
    for node in graph.nodes():
        if id(node.shapes) not in known:
            known[id(node.shapes)] = tuple(tuple(evaluate(d, values) for d in shape) for shape in node.shapes)
    return tuple(known[id(node.shapes)] for node in graph.nodes())


def sample_counts(graph: Graph, values: Mapping[str, int]) -> tuple[int, ...]:
    """How many results each node gives for a sample, by node id: 1, or one for each window of a map."""
    return tuple(
        1 if node.windows is None else prod(evaluate(d, values) for d in node.samples) for node in graph.nodes()
    )


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
