"""One graph of two networks: the one after, with the nodes that were removed from the one before, and a mark on every
change."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from archdsl.analysis.costs import Analysis, Cost
from archdsl.dims import Region
from archdsl.graph import Graph, Node, Scope, Tensor
from archdsl.report.compare import Comparison, Detail, Member


@dataclass(frozen=True, slots=True)
class Mark:
    """What happened to a node: `added`, `removed` or `changed`, and notes that say how."""

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
    """The merged graph of a comparison."""
    return _Merger(comparison).run()


class _Merger:
    """Copies the nodes of both networks. Removed nodes are `ghosts`: a key is whether a node is one, and its id in its
    own network."""

    def __init__(self, comparison: Comparison) -> None:
        self.comparison = comparison
        self.before, self.after = comparison.before, comparison.after
        self.order = self._order()
        self.ids = {(ghost, node.id): number for number, (ghost, node) in enumerate(self.order)}
        self.scopes: dict[Scope, Scope] = {}
        """The copy of each scope; that of a removed node's scope is the one where the node is placed."""
        self.copied: dict[Scope, bool] = {}
        """The scopes that are copied with their members, and whether those are ghosts."""
        self.copies: dict[tuple[bool, int], Node] = {}

    def run(self) -> Merged:
        self._copy_scopes()
        analysis = self._copy_nodes()
        self._fill_scopes()
        found = Merged(analysis.graph, analysis, ends=self._ends())
        self._mark(found)
        self._count(found)
        return found

    def _order(self) -> list[tuple[bool, Node]]:
        """All nodes; removed ones come before the member in front of which they were."""
        last = len(self.after)
        keys = [((n.id, 1, 0), (False, n)) for n in self.after.nodes()]
        for member, scope, anchor in self.comparison.placed:
            if anchor is not None:
                at = min((n.id for n in _nodes(anchor)), default=last)
            else:
                at = max((n.id + 1 for n in scope.nodes()), default=last)
            keys += [((at, 0, n.id), (True, n)) for n in _nodes(member)]
        return [key for _, key in sorted(keys, key=lambda k: k[0])]

    def _copy_scopes(self) -> None:
        """Makes an empty copy of each scope of the network after, and of each that was removed whole."""
        for scope in self.after.root.scopes():
            self._copy_scope(scope, self.scopes[scope.parent] if scope.parent else None, ghost=False)
        for member, home, _ in self.comparison.placed:
            if isinstance(member, Node):
                self.scopes.setdefault(member.scope, self.scopes[home])
                continue
            for scope in member.scopes():
                parent = home if scope is member else scope.parent
                self._copy_scope(scope, self.scopes[parent] if parent else None, ghost=True)

    def _copy_scope(self, scope: Scope, parent: Scope | None, *, ghost: bool) -> None:
        self.scopes[scope] = replace(scope, members=[], parent=parent)
        self.copied[scope] = ghost

    def _copy_nodes(self) -> Analysis:
        """Makes the graph, and what each of its nodes costs."""
        root = self.scopes[self.after.root]
        graph = Graph(self.after.name, root, sizes=Region({**self.before.sizes, **self.after.sizes}))
        names = {f.name for f in self.after.free}
        graph.free = (*self.after.free, *(f for f in self.before.free if f.name not in names))
        costs: list[Cost] = []
        shapes = []
        for number, (ghost, node) in enumerate(self.order):
            inputs = [t for t in (self._tensor(t, ghost) for t in node.inputs) if t is not None and t.node < number]
            copy = replace(node, id=number, inputs=tuple(inputs), scope=self.scopes[node.scope])
            self.copies[ghost, node.id] = copy
            graph.add(copy)
            side = self.comparison.costs[0 if ghost else 1]
            costs.append(side[node])
            shapes.append(side.shapes[node.id])
        graph.outputs = tuple(
            replace(o, tensor=Tensor(self.ids[False, o.tensor.node], o.tensor.index)) for o in self.after.outputs
        )
        sums = {scope: Cost() for scope in root.scopes()}
        return Analysis(graph, self.comparison.costs[1].sizes, tuple(shapes), tuple(costs), sums)

    def _tensor(self, tensor: Tensor, ghost: bool) -> Tensor | None:
        """The copy of a tensor that a node takes."""
        if ghost and tensor.node in self.comparison.pairs:
            return Tensor(self.ids[False, self.comparison.pairs[tensor.node]], tensor.index)
        found = self.ids.get((ghost, tensor.node))
        return Tensor(found, tensor.index) if found is not None else None

    def _copy_of(self, member: Member, ghost: bool) -> Member:
        return self.copies[ghost, member.id] if isinstance(member, Node) else self.scopes[member]

    def _fill_scopes(self) -> None:
        for scope, ghost in self.copied.items():
            self.scopes[scope].members.extend(self._copy_of(m, ghost) for m in scope.members)
        for member, scope, anchor in self.comparison.placed:
            members = self.scopes[scope].members
            following = self._copy_of(anchor, False) if anchor is not None else None
            at = members.index(following) if following in members else len(members)
            members.insert(at, self._copy_of(member, True))

    def _ends(self) -> list[tuple[Tensor, int]]:
        """The arrows from removed nodes to nodes that are still there."""
        removed = {n.id for member, _, _ in self.comparison.placed for n in _nodes(member)}
        found = []
        for node in self.before.nodes():
            for tensor in node.inputs:
                if tensor.node in removed and node.id in self.comparison.pairs:
                    head = self.ids[False, self.comparison.pairs[node.id]]
                    tail = self._tensor(tensor, True)
                    if tail is not None and tail.node < head:
                        found.append((tail, head))
        return found

    def _mark(self, found: Merged) -> None:
        for change in self.comparison.changes:
            if change.kind in ("added", "removed"):
                for node in (n for m in (change.before or change.after) for n in _nodes(m)):
                    found.marks[self.ids[change.kind == "removed", node.id]] = Mark(change.kind)
                continue
            member = change.after[0]
            for node in _nodes(member) if member is not self.after.root else ():
                at = self.ids[False, node.id]
                old = found.marks.get(at)
                notes = tuple(map(_note, change.details)) if isinstance(member, Node) or old is None else ()
                found.marks[at] = Mark("changed", (*(old.notes if old else ()), *notes))

    def _count(self, found: Merged) -> None:
        """The parameters and MACs that each node has more than before."""
        for old_id, new_id in self.comparison.pairs.items():
            was = self.comparison.costs[0][self.before.node(old_id)]
            now = self.comparison.costs[1][self.after.node(new_id)]
            found.differences[self.ids[False, new_id]] = (now.parameters - was.parameters, now.macs - was.macs)
        for at, mark in found.marks.items():
            cost = found.analysis[found.graph.node(at)]
            if sign := {"added": 1, "removed": -1}.get(mark.kind, 0):
                found.differences[at] = (sign * cost.parameters, sign * cost.macs)


def _nodes(member: Member) -> list[Node]:
    return list(member.nodes()) if isinstance(member, Scope) else [member]


def _note(detail: Detail) -> str:
    return f"{detail.before} → {detail.after}" if detail.name == "operation" else str(detail)
