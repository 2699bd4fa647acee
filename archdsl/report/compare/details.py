"""Compares two matched nodes: their own differences, and mere consequences of changes elsewhere."""

from __future__ import annotations

from archdsl.graph import Graph, Node, Tensor
from archdsl.ops import Operation
from archdsl.report.compare.changes import (
    Change,
    Comparison,
    Detail,
    Kind,
    found_shape,
    rank,
    results,
    size_text,
    value_text,
)


class Details:
    """Lists the differences and consequences of the pairs of nodes."""

    def __init__(self, found: Comparison) -> None:
        self.found = found
        self.back = {new: old for old, new in found.pairs.items()}
        self._sources: dict[tuple[bool, Tensor], frozenset[Tensor]] = {}

    def run(self) -> None:
        found = self.found
        for old_id, new_id in sorted(found.pairs.items(), key=lambda pair: pair[1]):
            old, new = found.before.node(old_id), found.after.node(new_id)
            details = self.details(old, new)
            if details:
                kind: Kind = "rewired" if all(d.name == "inputs" for d in details) else "changed"
                found.changes.append(Change(kind, (old,), (new,), tuple(details)))
            elif self.consequence(old, new):
                found.follows.append((old, new))
        self._outputs()

    def details(self, old: Node, new: Node) -> list[Detail]:
        if old.operation.is_input and new.operation.is_input:
            sizes = (
                size_text(found_shape(self.found.before, old), self.found.before),
                size_text(found_shape(self.found.after, new), self.found.after),
            )
            return [Detail("size", *sizes)] if sizes[0] != sizes[1] else []
        if type(old.operation) is not type(new.operation):
            captions = [n.operation.caption(rank(g, n)) for g, n in self.sides(old, new)]
            return [Detail("operation", *captions), *self.inputs(old, new)]
        kinds = [repr(n.operation.outside() or "") for n in (old, new)]
        if kinds[0] != kinds[1]:
            return [Detail("extern", *kinds), *self.inputs(old, new)]
        changed = self.parameters(old, new)
        if old.again is not new.again:
            changed.append(Detail("weights", *(f"those of {n.path}" if n.again else "its own" for n in (old, new))))
        return changed + self.inputs(old, new)

    def sides(self, old: Node, new: Node) -> tuple[tuple[Graph, Node], tuple[Graph, Node]]:
        return (self.found.before, old), (self.found.after, new)

    def parameters(self, old: Node, new: Node) -> list[Detail]:
        """The parameters of which both what is written and what it means differ, words as they are written."""
        written = [node.operation.values() for node in (old, new)]
        meant = [
            {**values, **n.operation.meant(g.shapes(n.inputs))}
            for values, (g, n) in zip(written, self.sides(old, new), strict=True)
        ]
        found = []
        for name in {**meant[0], **meant[1]}:
            a, b = (values.get(name) for values in meant)
            words = [values.get(name) for values in written]
            one, two = (word if isinstance(word, str) else m for word, m in zip(words, (a, b), strict=True))
            if a != b and one != two and not isinstance(a, Operation):
                size = new.operation.takes_size(name)
                found.append(Detail(name, value_text(one, size), value_text(two, size)))
        return found

    def inputs(self, old: Node, new: Node) -> list[Detail]:
        """Whether a node takes its inputs from elsewhere, not counting added or removed nodes in between."""
        was = [self.sources(t, before=True) for t in old.inputs]
        now = [self.sources(t, before=False) for t in new.inputs]
        old_all, new_all = frozenset[Tensor]().union(*was), frozenset[Tensor]().union(*now)
        if all(s & new_all for s in was) and all(s & old_all for s in now):
            return []
        texts = [
            ", ".join(g.node(t).path or g.node(t).name for t in n.inputs) or "none" for g, n in self.sides(old, new)
        ]
        return [Detail("inputs", *texts)] if texts[0] != texts[1] else []

    def sources(self, tensor: Tensor, *, before: bool) -> frozenset[Tensor]:
        """The tensors that correspond to a tensor; for one that exists on one side only, those of its inputs."""
        graph = self.found.before if before else self.found.after
        stack, seen, result = [tensor], set[int](), set[Tensor]()
        key = (before, tensor)
        if key in self._sources:
            return self._sources[key]
        while stack:
            t = stack.pop()
            if before and t.node in self.found.pairs:
                result.add(Tensor(self.found.pairs[t.node], t.index))
            elif not before and t.node in self.back:
                result.add(t)
            elif t.node not in seen:
                seen.add(t.node)
                stack.extend(graph.node(t).inputs)
        return self._sources.setdefault(key, frozenset(result))

    def consequence(self, old: Node, new: Node) -> bool:
        sizes = [[size_text(s, g) for s in g.shapes(results(n))] for g, n in self.sides(old, new)]
        return sizes[0] != sizes[1] or old.path != new.path or self.found.costs[0][old] != self.found.costs[1][new]

    def _outputs(self) -> None:
        texts = [
            ", ".join((o.name or "output") + (" if training" if o.training else "") for o in g.outputs)
            for g in (self.found.before, self.found.after)
        ]
        if texts[0] != texts[1]:
            roots = ((self.found.before.root,), (self.found.after.root,))
            self.found.changes.append(Change("changed", *roots, (Detail("outputs", *texts),)))
