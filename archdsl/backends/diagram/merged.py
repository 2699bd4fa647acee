"""One graph of two networks: the one after, with the nodes that were removed from the one before, and a mark on every
change."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace

from archdsl.analysis.costs import Analysis, Cost, IntShape
from archdsl.dims import Region
from archdsl.graph import Graph, Node, Scope, Tensor
from archdsl.graph.rewriting import Rewriting
from archdsl.report.compare import Comparison, Detail, Member


@dataclass(frozen=True, slots=True)
class Mark:
    """The change of a node: `added`, `removed` or `changed`, and notes that say how."""

    kind: str
    notes: tuple[str, ...] = ()


@dataclass(slots=True, eq=False)
class Merged:
    """Both networks as one graph. `ends` are the arrows out of removed nodes, which the graph does not have."""

    graph: Graph
    analysis: Analysis
    marks: dict[int, Mark] = field(default_factory=dict)
    ends: list[tuple[Tensor, int]] = field(default_factory=list)
    differences: dict[int, tuple[int, int]] = field(default_factory=dict)
    """Parameters and MACs that a node has more than before."""


def merge(comparison: Comparison) -> Merged:
    """The network after, with copies of the removed nodes where they were."""
    before, after = comparison.before, comparison.after
    new = Rewriting()
    copies: dict[Node, Node] = {}
    costs: list[Cost] = []
    shapes: list[tuple[IntShape, ...]] = []

    def copied(tensor: Tensor, ghost: bool) -> Tensor | None:
        """A tensor of the network after, or before, if its node is placed."""
        if ghost and tensor.node in comparison.pairs:
            tensor, ghost = Tensor(comparison.pairs[tensor.node], tensor.index), False
        found = copies.get((before if ghost else after).node(tensor))
        return Tensor(found.id, tensor.index) if found else None

    for member, home in _in_order(comparison):
        ghost = home is not None
        if isinstance(member, Scope):
            new.open(member, home, **({"inputs": (), "outputs": (), "input_names": ()} if ghost else {}))
            continue
        inputs = [t for t in (copied(t, ghost) for t in member.inputs) if t is not None]
        copies[member] = new.place(member, inputs, home)
        side = comparison.costs[0 if ghost else 1]
        costs.append(side[member])
        shapes.append(side.shapes[member.id])

    def kept(tensor: Tensor) -> list[Tensor]:
        return [t for t in [copied(tensor, False)] if t is not None]

    # Two nodes may have one path, before and after; and nothing flows into a node whose source was removed.
    names = {f.name for f in after.free}
    free = (*after.free, *(f for f in before.free if f.name not in names))
    outputs = [replace(o, tensor=t) for o in after.outputs for t in kept(o.tensor)]
    both = Graph(after.name, after.root, free, sizes=Region({**before.sizes, **after.sizes}))
    graph = new.finish(both, kept, outputs, paths=False, sizes=False)
    sums = {scope: Cost() for scope in graph.root.scopes()}
    found = Merged(graph, Analysis(graph, comparison.costs[1].sizes, tuple(shapes), tuple(costs), sums))
    _mark(found, comparison, copies)
    _count(found, comparison, copies)
    for node in before.nodes():
        for tensor in node.inputs:
            tail = copied(tensor, True)
            if node.id in comparison.pairs and tensor.node not in comparison.pairs and tail is not None:
                head = copies[after.node(comparison.pairs[node.id])].id
                if tail.node < head:
                    found.ends.append((tail, head))
    return found


def _in_order(comparison: Comparison) -> Iterator[tuple[Member, Scope | None]]:
    """The members of the network after, outer before inner, and among them the removed ones, each with its new home."""
    ghosts: dict[tuple[Scope, Member | None], list[Member]] = {}
    for member, scope, anchor in comparison.placed:
        at = anchor if anchor in scope.members else None
        ghosts.setdefault((scope, at), []).append(member)
    stack: list[tuple[Member, Scope | None]] = [(comparison.after.root, None)]
    while stack:
        member, home = stack.pop()
        yield member, home
        if not isinstance(member, Scope):
            continue
        if home is not None:
            stack.extend((inner, member) for inner in reversed(member.members))
            continue
        inside: list[tuple[Member, Scope | None]] = []
        for inner in (*member.members, None):
            inside += [(ghost, member) for ghost in ghosts.get((member, inner), ())]
            inside += [(inner, None)] if inner is not None else []
        stack.extend(reversed(inside))


def _nodes(member: Member) -> list[Node]:
    return list(member.nodes()) if isinstance(member, Scope) else [member]


def _mark(found: Merged, comparison: Comparison, copies: Mapping[Node, Node]) -> None:
    for change in comparison.changes:
        if change.kind in ("added", "removed"):
            for node in (n for m in (change.before or change.after) for n in _nodes(m)):
                found.marks[copies[node].id] = Mark(change.kind)
        else:
            member = change.after[0]
            for node in _nodes(member) if member is not comparison.after.root else ():
                at = copies[node].id
                old = found.marks.get(at)
                notes = tuple(map(_note, change.details)) if isinstance(member, Node) or old is None else ()
                found.marks[at] = Mark("changed", (*(old.notes if old else ()), *notes))


def _count(found: Merged, comparison: Comparison, copies: Mapping[Node, Node]) -> None:
    """The parameters and MACs that each node has more than before."""
    for old_id, new_id in comparison.pairs.items():
        was = comparison.costs[0][comparison.before.node(old_id)]
        now = comparison.costs[1][comparison.after.node(new_id)]
        at = copies[comparison.after.node(new_id)].id
        found.differences[at] = (now.parameters - was.parameters, now.macs - was.macs)
    for at, mark in found.marks.items():
        cost = found.analysis[found.graph.node(at)]
        if sign := {"added": 1, "removed": -1}.get(mark.kind, 0):
            found.differences[at] = (sign * cost.parameters, sign * cost.macs)


def _note(detail: Detail) -> str:
    return f"{detail.before} → {detail.after}" if detail.name == "operation" else str(detail)
