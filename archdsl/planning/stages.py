"""Where a network is cut into stages: the work is balanced, and few bytes cross the borders.

A cut is a position in the order of the nodes. What is alive there is sent on, so a skip around several stages is sent
from each to the next. The largest stage decides how fast a pipeline is: first the smallest possible largest stage is
found, then, among the cuts whose largest stage is at most SLACK larger, those over which the fewest bytes are sent, and
among these those that cut the fewest blocks.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate, chain, pairwise
from math import prod
from typing import TypeAlias

from archdsl import dims
from archdsl.analysis.costs import Cost, costs, sized_shapes
from archdsl.analysis.works import node_works
from archdsl.common.choices import BYTES
from archdsl.diagnostics import Diagnostic, Mark, SpecError
from archdsl.dims import free_sizes
from archdsl.graph import Graph, Node, Tensor
from archdsl.ops.base import Shape
from archdsl.syntax import tree
from archdsl.transform.stages import Stage, alive, cut

SLACK = 0.1
"""How much more work than necessary the largest stage may have where that saves bytes."""

Key: TypeAlias = tuple[int, int]
"""The bytes that cross a position, and the number of blocks that it cuts."""


@dataclass(frozen=True, slots=True, eq=False)
class Part:
    """A stage with what it costs; amounts for one sample.

    `work` is its share of the network's, in `cost.macs` are its multiply-accumulates. `takes` and `gives` are the bytes
    of its inputs and outputs, `relayed` those of them that it only passes on.
    """

    stage: Stage
    work: float
    cost: Cost
    takes: int
    gives: int
    relayed: int


@dataclass(frozen=True, slots=True, eq=False)
class Split:
    """A network in stages. `sizes` are the free sizes and `dtype` the number type that its costs are for."""

    graph: Graph
    sizes: Mapping[str, int]
    dtype: str
    parts: tuple[Part, ...]

    @property
    def stages(self) -> tuple[Stage, ...]:
        return tuple(part.stage for part in self.parts)

    @property
    def sent(self) -> int:
        """The bytes that cross borders in a forward pass of a sample; the gradients are as large."""
        return sum(part.gives for part in self.parts[:-1])


def split(graph: Graph, count: int, sizes: Mapping[str, int] | None = None, dtype: str = "float32") -> Split:
    """The network in `count` stages. Raises SpecError if it has too few places to cut it."""
    values = {**graph.examples, **(sizes or {})}
    return Splitter(graph, values, dtype).split(count)


class Splitter:
    """Cuts one network, for some sizes, into any number of stages."""

    def __init__(self, graph: Graph, sizes: Mapping[str, int], dtype: str) -> None:
        self.graph, self.sizes, self.dtype = graph, sizes, dtype
        self.works = node_works(graph, sizes, dtype)
        self.crossing = alive(graph)
        self.shapes = sized_shapes(graph, sizes)
        blocked = self.blocked = dict(obstacles(graph, self.crossing))
        first = next((n.id for n in graph.nodes() if not n.operation.is_input), 0)
        inputs = {n.id for n in graph.input_nodes}
        self.places = [
            p for p in range(first + 1, len(graph)) if p not in blocked and p - 1 not in inputs and self.crossing[p]
        ]
        """The positions at which it may be cut."""
        before = [0.0, *accumulate(self.works)]
        edges = [0, *self.places, len(graph)]
        self.before = [before[p] for p in edges]
        """The work before each edge, which are the places, the start and the end."""
        self.keys: list[Key] = [(0, 0), *((self.bytes(self.crossing[p]), self.depth(p)) for p in self.places), (0, 0)]

    def bytes(self, tensors: Sequence[Tensor]) -> int:
        return sum(prod(self.shapes[t.node][t.index]) for t in tensors) * BYTES[self.dtype]

    def depth(self, position: int) -> int:
        """The number of blocks that a position is inside of."""
        before, behind = self.graph.node(position - 1), self.graph.node(position)
        return len({*before.scope.calls()} & {*behind.scope.calls()})

    def split(self, count: int) -> Split:
        return self.at(self.positions(count))

    def at(self, positions: Sequence[int]) -> Split:
        """The network cut at these positions."""
        stages = cut(self.graph, positions)
        total = sum(self.works) or 1.0
        parts = []
        for stage in stages:
            work = sum(self.works[stage.start : stage.end]) / total
            cost = costs(stage.graph, self.sizes).total
            takes, gives, relayed = map(self.bytes, (stage.takes, stage.gives, stage.relayed))
            parts.append(Part(stage, work, cost, takes, gives, relayed))
        return Split(self.graph, self.sizes, self.dtype, tuple(parts))

    def positions(self, count: int) -> list[int]:
        """Where to cut for `count` stages. Raises SpecError if there are too few places."""
        if count < 1 or count > len(self.places) + 1:
            raise self.too_many(count)
        if count == 1:
            return []
        limit = self.least(count) * (1 + SLACK)
        chosen = self.fewest_bytes(count, limit)
        return [self.places[i - 1] for i in chosen]

    def least(self, count: int) -> float:
        """The work of the largest stage if it is as small as possible."""
        low, high = self.before[-1] / count, self.before[-1]
        if self.fits(count, low):
            return low
        for _ in range(50):
            middle = (low + high) / 2
            low, high = (low, middle) if self.fits(count, middle) else (middle, high)
        return high

    def fits(self, count: int, limit: float) -> bool:
        """Whether `count` stages or fewer can have at most that work each; fewer could be cut further."""
        start, used = 0.0, 1
        for before, here in pairwise(self.before):
            if here - start > limit:
                if here - before > limit:
                    return False
                start, used = before, used + 1
        return used <= count

    def fewest_bytes(self, count: int, limit: float) -> list[int]:
        """The edges between `count` stages of at most that work, over which the fewest bytes are sent."""
        before, keys = self.before, self.keys
        last = len(before) - 1
        best: list[Key | None] = [(0, 0), *[None] * last]
        paths: list[list[int]] = []
        for number in range(1, count + 1):
            found: list[Key | None] = [None] * (last + 1)
            path = [0] * (last + 1)
            window: deque[int] = deque()  # of the edges that a stage may begin at, those no later one beats
            for edge in range(number, last + 1):
                if best[edge - 1] is not None:
                    while window and best[window[-1]] >= best[edge - 1]:  # type: ignore[operator]
                        window.pop()
                    window.append(edge - 1)
                while window and before[edge] - before[window[0]] > limit * (1 + 1e-12):
                    window.popleft()
                if window and (number < count or edge == last):
                    so_far = best[window[0]]
                    assert so_far is not None
                    found[edge] = (so_far[0] + keys[edge][0], so_far[1] + keys[edge][1])
                    path[edge] = window[0]
            best = found
            paths.append(path)
        edge, chosen = last, []
        for path in reversed(paths[1:]):
            edge = path[edge]
            chosen.append(edge)
        return chosen[::-1]

    def too_many(self, count: int) -> SpecError:
        most = len(self.places) + 1
        message = f"`{self.graph.name}` cannot be cut into {count} stages: it has places for {most} at most"
        marks = [Mark(node.span, why) for node, why in dict(self.blocked.values()).items()][:1]
        help = f"--stages {most}, or fewer, of equal work" if most > 1 else None
        return SpecError([Diagnostic("E0620", message, tuple(marks), help=help)])


def obstacles(graph: Graph, crossing: Sequence[Sequence[Tensor]]) -> Iterator[tuple[int, tuple[Node, str]]]:
    """The positions at which a network cannot be cut, with the node that is in the way, and why."""
    for position, tensors in enumerate(crossing):
        for tensor in tensors:
            node = graph.node(tensor)
            if node.windows is not None:
                yield position, (node, "the windows of a map stay in one stage")
            elif not node.batched:
                yield position, (node, "this is the same for every sample, and is not sent")
    for node in graph.nodes():
        if isinstance(node.origin, tree.Residual) and node.origin.via is not None:
            for position in range(_branches(node, node.origin) + 1, node.id + 1):
                yield position, (node, "both branches around a layer of a skip stay in one stage")
    firsts = {node.path: node.id for node in reversed(list(graph.nodes()))}
    for path, calls in graph.called_again().items():
        for position in range(firsts[path] + 1, calls[-1].id + 1):
            yield position, (graph.node(firsts[path]), "all calls that share its weights stay in one stage")
    latest: dict[Shape, int] = {}
    for node in graph.nodes():
        wanted = node.operation.sized(graph.shapes(node.inputs), node.shapes)
        if free := free_sizes(*wanted):
            for position in range(node.id, latest.get(wanted, -1), -1):
                axes = [graph.shape(t)[1:] for t in crossing[position]]
                if wanted in axes or all(dims.free(name) in chain(*axes) for name in free):
                    continue
                yield position, (node, "a tensor whose size it takes must be in its stage")
        latest.update((shape[1:], node.id) for shape in node.shapes)


def _branches(add: Node, origin: tree.Residual) -> int:
    """The id of the first node of the branches that an add joins."""
    first = add.id
    members = add.scope.members
    for member in reversed(members[: members.index(add)]):
        inside = origin.span.start <= member.span.start and member.span.end <= origin.span.end
        if not inside or (isinstance(member, Node) and member.origin is origin):
            break
        first = member.id if isinstance(member, Node) else next((n.id for n in member.nodes()), first)
    return first
