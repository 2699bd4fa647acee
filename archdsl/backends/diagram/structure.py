"""Compares pieces of a graph by what they compute."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from itertools import pairwise

from archdsl.graph import Graph, Node, Scope, Tensor


class Structure:
    """Operations and wiring of a graph's pieces as keys: equal for pieces that do the same to what flows in.

    Names play no part, nor do incoming channels, which are inferred: six dense layers are equal though each sees more.
    """

    def __init__(self, graph: Graph, marks: Mapping[int, Hashable] | None = None) -> None:
        """`marks`, by node id, set operations apart that are equal otherwise."""
        self.graph = graph
        self._marks = marks or {}
        self._operations: dict[Hashable, int] = {}
        self._by_operation: dict[tuple[int, Hashable], int] = {}
        self._pieces: dict[Hashable, int] = {}
        self._by_piece: dict[tuple[Node, ...], int] = {}
        self._by_part: dict[tuple[Node, ...], tuple[Hashable, ...]] = {}
        self._consumers: list[list[int]] = [[] for _ in range(len(graph))]
        self._takers: dict[Tensor, set[int]] = {}
        """The nodes that take each result of a node that has several; -1 is an output of the model."""
        for node in graph.nodes():
            for tensor in node.sources:
                self._take(tensor, node.id)
        for output in graph.outputs:
            self._take(output.tensor, -1)
        self._calls: dict[str, list[Node | Scope]] = {}
        for member in graph.root.walk():
            if member.use is not None:
                self._calls.setdefault(member.path, []).append(member)

    def _take(self, tensor: Tensor, taker: int) -> None:
        takers = self._consumers[tensor.node]
        if not takers or takers[-1] != taker:
            takers.append(taker)
        if len(self.graph.node(tensor).shapes) > 1:
            self._takers.setdefault(tensor, set()).add(taker)

    def _takers_of(self, node: Node) -> Iterator[tuple[Tensor, Iterable[int]]]:
        """The results of a node, and who takes each."""
        if len(node.shapes) == 1:
            yield Tensor(node.id), self._consumers[node.id]
            return
        for index in range(len(node.shapes)):
            tensor = Tensor(node.id, index)
            yield tensor, self._takers.get(tensor, ())

    def shared(self, nodes: Sequence[Node]) -> Node | Scope | None:
        """The call of something shared that these nodes lie in, the innermost one that holds them all."""
        if not (self._calls and nodes):
            return None
        around: list[Node | Scope] = [*nodes[:1], *nodes[0].scope.calls()]
        call = next((m for m in around if len(self._calls.get(m.path, ())) > 1 and m.use is not None), None)
        inside = {call} if isinstance(call, Node) else {*call.nodes()} if call is not None else set()
        return call if inside.issuperset(nodes) else None

    @property
    def reused(self) -> list[Node | Scope]:
        """The first call of each thing that is called several times, in order."""
        return [calls[0] for calls in self._calls.values() if len(calls) > 1]

    def calls(self, shared: Node | Scope) -> list[Node | Scope]:
        """All calls of what is shared."""
        return self._calls[shared.path]

    def consumers(self, node: int) -> list[int]:
        """The nodes that take a result of `node`; -1 is an output of the model."""
        return self._consumers[node]

    def operation(self, node: Node) -> int:
        """A number that equal operations share."""
        known = (id(node.operation), self._marks.get(node.id))
        if known not in self._by_operation:
            operation = node.operation
            try:
                kept = {f: getattr(operation, f) for f in operation.fields if f not in operation.varies}
                what = (type(operation), *kept.items()) if operation.varies else operation
                key: Hashable = (what, self._marks.get(node.id))
                hash(key)
            except TypeError:  # a fixed kernel is a list of numbers
                key = (type(node.operation), repr(node.operation), self._marks.get(node.id))
            self._by_operation[known] = self._operations.setdefault(key, len(self._operations))
        return self._by_operation[known]

    def key(self, nodes: Sequence[Node]) -> int:
        """A number that pieces share whose operations and wiring are equal."""
        nodes = tuple(nodes)
        if nodes not in self._by_piece:
            first, inside, outside = nodes[0].id, {n.id for n in nodes}, dict[Tensor, int]()

            def source(tensor: Tensor) -> Hashable:
                if tensor.node in inside:
                    return (tensor.node - first, tensor.index)
                return outside.setdefault(tensor, len(outside))

            wiring = tuple((n.id - first, self.operation(n), tuple(source(t) for t in n.inputs)) for n in nodes)
            self._by_piece[nodes] = self._pieces.setdefault(wiring, len(self._pieces))
        return self._by_piece[nodes]

    def part_key(self, nodes: Sequence[Node]) -> tuple[Hashable, ...]:
        """Operations, wiring, and the spatial sizes that flow in: layers at two resolutions are not one box."""
        if not nodes:
            return (None, None)
        nodes = tuple(nodes)
        if nodes not in self._by_part:
            sizes = frozenset(self.graph.shape(t)[1:] for t in self.entries(nodes))
            shared = self.shared(nodes)
            self._by_part[nodes] = (self.key(nodes), sizes, shared and shared.path)
        return self._by_part[nodes]

    def entries(self, nodes: Sequence[Node]) -> list[Tensor]:
        """The tensors that flow in from outside, once each, in the order in which they are taken."""
        inside = {n.id for n in nodes}
        return list(dict.fromkeys(t for n in nodes for t in n.sources if t.node not in inside))

    def exits(self, nodes: Sequence[Node]) -> list[Node]:
        """The nodes whose results are used outside."""
        inside = {n.id for n in nodes}
        return [n for n in nodes if any(c not in inside for c in self.consumers(n.id))]

    def results(self, nodes: Sequence[Node]) -> list[Tensor]:
        """The tensors that are used outside, once each, in order."""
        inside = {n.id for n in nodes}
        return [t for n in nodes for t, takers in self._takers_of(n) if any(c not in inside for c in takers)]

    def chained(self, units: Sequence[Sequence[Node]]) -> int:
        """How many of the units, from the first on, are equal and each fed by the one before.

        Besides what the one before gives, they may all take the same tensors from outside. What any but the last one
        gives, only the next one takes.
        """
        key, first = self.key(units[0]), self.entries(units[0])
        count, places = 1, None
        for before, unit in pairwise(units):
            inside, entries = {n.id for n in before}, self.entries(unit)
            found = [(t.node - before[0].id, t.index) if t.node in inside else t for t in entries]
            carried = {t.node for t in entries if t.node in inside}
            if (
                not carried
                or {n.id for n in self.exits(before)} != carried
                or self._leave(before, unit)
                or len(entries) != len(first)
                or any(isinstance(t, Tensor) and t != first[i] for i, t in enumerate(found))
                or places not in (None, found)
                or self.key(unit) != key
            ):
                break
            places, count = found, count + 1
        return count

    def _leave(self, before: Sequence[Node], unit: Sequence[Node]) -> bool:
        """Whether a result of a unit is also taken by others than the next one."""
        known = {n.id for n in before} | {n.id for n in unit}
        return any(c not in known for n in before for c in self.consumers(n.id))
