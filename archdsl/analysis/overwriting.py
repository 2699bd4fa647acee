"""Which tensors the built module may overwrite: nothing else reads them, and no gradient needs them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

from archdsl.graph import Graph, Node, Tensor
from archdsl.graph.series import Part


@dataclass(slots=True, eq=False)
class Overwriting:
    """The in-place operations of the built module. `inference`: there is no backward pass."""

    graph: Graph
    inference: bool
    readers: Counter[Tensor]
    last_reader: dict[Tensor, int]
    """The id of the last node that reads a tensor, or the number of nodes for an output."""
    shared: Mapping[str, Sequence[Node]]
    """All calls of what is shared, by path: one module does in all of them what it does in each."""
    allowed: bool = True
    """False: the built module has no in-place operations."""
    moved: Collection[Tensor] = frozenset()
    """The tensors of which it takes a view with the axes in another order, whose gradient an overwriting would copy."""

    @staticmethod
    def of(
        graph: Graph,
        recomputed: Iterable[Part] = (),
        *,
        kept: Iterable[Tensor] = (),
        inference: bool = False,
        allowed: bool = True,
        moved: Collection[Tensor] = frozenset(),
    ) -> Overwriting:
        """`recomputed` are parts that run again in the backward pass, `kept` tensors that something else needs."""
        readers: Counter[Tensor] = Counter(t for node in graph.nodes() for t in node.inputs)
        readers.update(o.tensor for o in graph.outputs)
        for part in recomputed:
            readers.update(part.inflow())
        readers.update(kept)
        last_reader = {t: node.id for node in graph.nodes() for t in node.inputs}
        last_reader.update((o.tensor, len(graph)) for o in graph.outputs)
        again = graph.called_again()
        firsts = [node for node in graph.nodes() if node.path in again and not node.again] if again else []
        shared = {node.path: [node, *again[node.path]] for node in firsts}
        return Overwriting(graph, inference, readers, last_reader, shared, allowed, moved)

    def is_free(self, tensor: Tensor) -> bool:
        """Whether the only reader of a tensor may overwrite it."""
        if not self.allowed or self.readers[tensor] != 1 or tensor in self.moved:
            return False
        node = self.graph.node(tensor)
        if node.operation.own_in_training:
            return self.is_free(node.inputs[0])
        return node.operation.own or (self.inference and node.operation.own_in_inference)

    def is_as_large(self, tensor: Tensor, node: Node) -> bool:
        """Whether a tensor has the size of a node's result, with the batch."""
        return self.graph.shape(tensor) == node.shapes[0] and self.graph.node(tensor).batched == node.batched

    def activates(self, node: Node) -> bool:
        """Whether an activation runs in place."""
        return all(map(self._activates, self.calls(node)))

    def calls(self, node: Node) -> Sequence[Node]:
        """The node, or all the calls that share its module."""
        return self.shared.get(node.path, (node,))

    def _activates(self, node: Node) -> bool:
        if not node.operation.inplace or not self.is_free(node.inputs[0]):
            return False
        return node.operation.overwrites(self.graph.shapes(node.inputs), self.inference)

    def grows(self, node: Node) -> tuple[int, ...]:
        """The positions of the tensors that an addition or subtraction may accumulate into, the best one first."""
        first, *others = map(self._grows, self.calls(node))
        return tuple(p for p in first if all(p in other for other in others))

    def _grows(self, node: Node) -> tuple[int, ...]:
        if len(node.inputs) != 2 or node.inputs[0] == node.inputs[1]:
            return ()
        same = [p for p in node.operation.accumulates if self.is_as_large(node.inputs[p], node)]
        return tuple(p for p in same if self.is_free(node.inputs[p]) and (p == 0 or not self._count_alike(node)))

    def _count_alike(self, node: Node) -> bool:
        """Whether both operands need calls of one module that counts running statistics.

        To add to the second operand the first one is computed after it, and their order would change the statistics.
        """
        counting = [calls for calls in self.shared.values() if any(w.buffer for w in self.graph.weights_of(calls[0]))]
        if not counting or self.inference:
            return False
        first, second = (self.graph.ancestors([t]) for t in node.inputs)
        return any(
            any(n.id in first - second for n in calls) and any(n.id in second - first for n in calls)
            for calls in counting
        )
