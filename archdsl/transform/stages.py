"""A network as stages, one behind the other, each a checked graph of its own.

A stage has the nodes of a stretch of the order of placement. Its inputs are all tensors that are alive at its start:
those that it reads, and those that only a later stage reads, which it passes on. So each stage speaks to its neighbours
alone, as schedules of torch.distributed.pipelining require.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise

from archdsl.dims import Region
from archdsl.graph import Graph, Node, Output, Scope, Tensor
from archdsl.graph.rewriting import Rewriting
from archdsl.graph.verifying import BrokenGraph
from archdsl.ops import Input


@dataclass(frozen=True, slots=True, eq=False)
class Stage:
    """A stage: its graph, and the tensors of the whole network that are its inputs and outputs."""

    graph: Graph
    takes: tuple[Tensor, ...]
    gives: tuple[Tensor, ...]
    start: int
    """The id of its first node in the whole network."""
    end: int

    @property
    def relayed(self) -> tuple[Tensor, ...]:
        """The tensors that it passes on as they are."""
        return tuple(t for t in self.gives if t in self.takes)


def alive(graph: Graph) -> list[tuple[Tensor, ...]]:
    """For each position, from before the first node to behind the last, the tensors that cross it, in order."""
    until = {t: node.id for node in graph.nodes() for t in node.inputs}
    until.update((output.tensor, len(graph)) for output in graph.outputs)
    born: dict[int, list[Tensor]] = {}
    for tensor in sorted(until, key=lambda t: (t.node, t.index)):
        is_input = graph.node(tensor).operation.is_input
        born.setdefault(-1 if is_input else tensor.node, []).append(tensor)
    found: list[tuple[Tensor, ...]] = []
    here: list[Tensor] = []
    for position in range(len(graph) + 1):
        here = [t for t in [*here, *born.get(position - 1, ())] if until[t] >= position]
        found.append(tuple(here))
    return found


def cut(graph: Graph, positions: Sequence[int]) -> list[Stage]:
    """The stages between these positions, in order: the ids of the nodes with which all but the first stage begin."""
    crossing = alive(graph)
    inputs = tuple(Tensor(node.id) for node in graph.input_nodes)
    outputs = tuple(output.tensor for output in graph.outputs)
    edges = [0, *positions, len(graph)]
    borders = [inputs, *(crossing[p] for p in positions), outputs]
    names = _Names(graph)
    found = []
    for number, (start, end) in enumerate(pairwise(edges)):
        takes, gives = borders[number], borders[number + 1]
        found.append(Stage(_Stretch(graph, number, start, end, takes, gives, names).run(), takes, gives, start, end))
    check_stages(graph, found)
    return found


def differentiable(graph: Graph) -> set[Tensor]:
    """The tensors that depend on a trainable weight, so that a training step has a gradient for them."""
    found: set[Tensor] = set()
    for node in graph.nodes():
        weights = node.operation.weights(graph.shapes(node.inputs))
        if any(w.trainable and not w.buffer for w in weights) or any(t in found for t in node.sources):
            found.update(Tensor(node.id, i) for i in range(len(node.shapes)))
    return found


@dataclass(slots=True, eq=False)
class _Names:
    """The names of tensors that cross borders: of the largest block that gives them, or of their node."""

    graph: Graph
    known: dict[Tensor, str] = field(default_factory=dict)
    ends: dict[Tensor, str] = field(init=False)

    def __post_init__(self) -> None:
        self.ends = {}
        for scope in self.graph.root.scopes():
            if len(scope.outputs) == 1 and scope.path:
                self.ends.setdefault(scope.outputs[0], scope.path)

    def __getitem__(self, tensor: Tensor) -> str:
        if tensor not in self.known:
            path = self.ends.get(tensor, self.graph.node(tensor).path)
            words = re.sub(r"\W", "_", path, flags=re.ASCII).strip("_").lower()
            words = words if words[:1].isalpha() else f"x{words}"
            name, number = words, 1
            while name in self.known.values():
                number += 1
                name = f"{words}_{number}"
            self.known[tensor] = name
        return self.known[tensor]


@dataclass(slots=True, eq=False)
class _Stretch:
    """Makes the graph of one stage."""

    graph: Graph
    number: int
    start: int
    end: int
    takes: tuple[Tensor, ...]
    gives: tuple[Tensor, ...]
    names: _Names
    new: Rewriting = field(default_factory=Rewriting)
    here: dict[Tensor, Tensor] = field(default_factory=dict)

    def run(self) -> Graph:
        old = self.graph
        filled = self.filled()
        self.new.open(old.root)
        for tensor in self.takes:
            self.take(tensor)
        for member in old.root.walk():
            if isinstance(member, Scope):
                if member in filled and member is not old.root:
                    self.new.open(member)
            elif self.start <= member.id < self.end and not member.operation.is_input:
                placed = self.new.place(member, [self.here[t] for t in member.inputs])
                self.here.update((Tensor(member.id, i), Tensor(placed.id, i)) for i in range(len(member.shapes)))
        anything = Region.everything([size.name for size in old.free])
        plain = replace(
            old,
            name=f"{old.name}_stage{self.number}",
            narrowings=(),
            warnings=(),
            augment=None,
            expectations=[],
            sizes=old.sizes if self.start == 0 else anything,
            training=old.training if self.start == 0 else None,
        )
        return self.new.finish(plain, self.resolve, self.outputs())

    def filled(self) -> set[Scope]:
        """The scopes that have nodes in the stage."""
        nodes = (self.graph.node(i) for i in range(self.start, self.end))
        return {scope for node in nodes if not node.operation.is_input for scope in node.scope.calls()}

    def take(self, tensor: Tensor) -> None:
        """Places an input for a tensor."""
        maker = self.graph.node(tensor)
        if maker.operation.is_input:
            placed = self.new.place(maker, ())
        else:
            name, shape = self.names[tensor], self.graph.shape(tensor)
            source = Node(
                0, Input(shape=shape), (), (shape,), name, name, True, self.graph.root, maker.span, bound=maker.bound
            )
            placed = self.new.place(source, ())
        self.here[tensor] = Tensor(placed.id)

    def resolve(self, tensor: Tensor) -> tuple[Tensor, ...]:
        return (self.here[tensor],) if tensor in self.here else ()

    def outputs(self) -> Iterator[Output]:
        if self.end == len(self.graph):
            yield from (replace(output, tensor=self.here[output.tensor]) for output in self.graph.outputs)
            return
        single = len(self.gives) == 1
        yield from (Output(None if single else self.name(t), self.here[t]) for t in self.gives)

    def name(self, tensor: Tensor) -> str:
        maker = self.graph.node(tensor)
        return maker.name if maker.operation.is_input else self.names[tensor]


def check_stages(graph: Graph, stages: Sequence[Stage]) -> None:
    """Follows the stages one behind the other. Raises BrokenGraph unless together they are the network.

    Every node of the network must be in one stage, in order, with its operation, its path and its inputs; each stage
    must take what the one before it gives, and the last one give the outputs.
    """
    given: tuple[Tensor, ...] = tuple(Tensor(node.id) for node in graph.input_nodes)
    expected = (node for node in graph.nodes() if not node.operation.is_input)
    owners: set[str] = set()
    for stage in stages:
        inputs = [Tensor(node.id) for node in stage.graph.input_nodes]
        if stage.takes != given or len(inputs) != len(given):
            raise BrokenGraph(f"{stage.graph.name} takes something else than the stage before it gives")
        means = dict(zip(inputs, given, strict=True))
        for node in stage.graph.nodes():
            if node.operation.is_input:
                continue
            one = next(expected, None)
            if one is None or not _same(one, node) or [means[t] for t in node.inputs] != list(one.inputs):
                raise BrokenGraph(f"{stage.graph.name} has {node} where the network has {one}")
            means.update((Tensor(node.id, i), Tensor(one.id, i)) for i in range(len(node.shapes)))
        paths = {node.path for node, _ in stage.graph.weights()}
        if not owners.isdisjoint(paths):
            raise BrokenGraph(f"{stage.graph.name} has weights of a stage before it")
        owners |= paths
        given = tuple(means[output.tensor] for output in stage.graph.outputs)
        if given != stage.gives:
            raise BrokenGraph(f"{stage.graph.name} gives other tensors than it should")
    if next(expected, None) is not None or given != tuple(output.tensor for output in graph.outputs):
        raise BrokenGraph(f"the stages of {graph.name} leave out a part of it")


def _same(one: Node, other: Node) -> bool:
    return one.operation is other.operation and one.path == other.path and one.shapes == other.shapes
