"""The layers in series that can be recomputed together: from behind a costly one, up to another one.

What a costly layer takes is recomputed then, and what it gives is stored: a recomputation stops before it computes that
again. So the tensors between the costly layers need no memory, and cost little time.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from archdsl.analysis.layout import FIRST, Layout
from archdsl.dims import Dim, free_sizes
from archdsl.graph import Graph, Node, Scope, Tensor
from archdsl.graph.series import Series, flows_into, flows_out_of, made_by, scope_of
from archdsl.ops.forms import ModuleForm
from archdsl.transform.recompute import Recompute

COSTLY = 3
"""The most costly layers that are recomputed together."""


def series(graph: Graph, layout: Layout) -> Iterator[Series]:
    """All series that are worth a try. `layout` says where the built module moves axes, which no series does."""
    found = Finder(graph, layout)
    for scope in graph.root.scopes():
        if scope.is_shared:
            continue  # the calls of what is shared would have to be alike
        for row in found.longest(scope):
            # All of a block is a part by itself.
            yield from (s for s in cuts(row) if len(s.members) < len(scope.members))


def lighter(graph: Graph, dense: Recompute) -> Iterator[Recompute]:
    """Dense connections of which the bodies run again without what is costly, all of each or what takes the features.

    The network has no tensors with the channels last.

    Pleiss et al., Memory-efficient implementation of DenseNets, 2017 (arXiv:1707.06990).
    """
    found = Finder(graph, FIRST)
    pieces = {body: [s for row in found.longest(body) for s in between(row)] for body in dense.scopes}
    if any(not own or own[0].members[0] is not body.members[0] for body, own in pieces.items()):
        return
    for body, own in pieces.items():
        (whole,), first = body.inflow(), {node.id for node in own[0].nodes()}
        reading = {node.id for node in body.nodes() if whole in node.inputs}
        if not first.issuperset(reading) or any(map(found.is_bound, body.nodes())):
            return  # they are put together within the series alone
    yield Recompute(grown=dense.grown, series=frozenset(own[0] for own in pieces.values()))
    yield Recompute(grown=dense.grown, series=frozenset(s for own in pieces.values() for s in own))


def between(row: Sequence[Node | Scope]) -> Iterator[Series]:
    """A longest series cut behind every costly member."""
    start = 0
    for i, member in enumerate(row):
        if _is_costly(member) or i + 1 == len(row):
            if i > start or not _is_costly(member):
                yield Series(tuple(row[start : i + 1]))
            start = i + 1


def cuts(row: Sequence[Node | Scope]) -> Iterator[Series]:
    """The parts of a longest series that begin behind a costly member, and end with or before one."""
    costly = [i for i, member in enumerate(row) if _is_costly(member)]
    starts = sorted({0, *(i + 1 for i in costly)} - {len(row)})
    ends = sorted({len(row), *(i + 1 for i in costly), *(i for i in costly if isinstance(row[i], Scope))})
    for start in starts:
        for end in ends:
            inside = sum(start <= i < end for i in costly)
            if start < end and inside <= COSTLY and inside < end - start:
                yield Series(tuple(row[start:end]))


def _is_costly(member: Node | Scope) -> bool:
    return isinstance(member, Scope) or (member.operation.is_weighted and member.operation.saves_first)


@dataclass(slots=True, eq=False)
class Finder:
    """Finds the longest series of scopes."""

    graph: Graph
    layout: Layout
    readers: dict[Tensor, list[int]] = field(default_factory=dict)
    """The ids of the nodes that read a tensor; -1 for an output."""
    sizes: set[tuple[Dim, ...]] = field(default_factory=set)
    """The sizes that the built module looks up in any tensor that has them."""
    of_training: set[int] = field(default_factory=set)

    def __post_init__(self) -> None:
        for node in self.graph.nodes():
            for tensor in node.inputs:
                self.readers.setdefault(tensor, []).append(node.id)
            self.sizes.update([wanted] if (wanted := self.wanted(node)) else [])
        for output in self.graph.outputs:
            self.readers.setdefault(output.tensor, []).append(-1)
        self.of_training = {node.id for node in self.graph.of_training()}

    def wanted(self, node: Node) -> tuple[Dim, ...]:
        """The size that a node looks up, if it does."""
        found = node.operation.sized(self.graph.shapes(node.inputs), node.shapes)
        return tuple(found) if free_sizes(*found) else ()

    def longest(self, scope: Scope) -> Iterator[list[Node | Scope]]:
        """The longest series of a scope's members."""
        row: list[Node | Scope] = []
        for member in scope.members:
            if not self.fits(member):
                yield from [row] if row else []
                row = []
            elif row and not self.feeds(row[-1], member):
                yield row
                row = [member]
            else:
                row.append(member)
        yield from [row] if row else []

    def fits(self, member: Node | Scope) -> bool:
        """Whether the built module can call a member with one tensor, and gets one."""
        if member.use is not None or member.again or "." in member.name:
            return False
        if isinstance(member, Scope):
            nodes = list(member.nodes())
            return len(member.inflow()) == len(member.outputs) == 1 and not any(map(self.is_bound, nodes))
        if member.operation.is_input or self.is_bound(member) or len(member.inputs) != 1 or len(member.shapes) != 1:
            return False
        form = member.operation.torch(self.graph.shapes(member.inputs), member.shapes)
        return isinstance(form, ModuleForm) and form.method is None

    def takes_alone(self, first: Node | Scope, scope: Scope) -> bool:
        """Whether a member of a scope takes what flows into this, and nothing else in it does."""
        inside = {first.id} if isinstance(first, Node) else {node.id for node in first.nodes()}
        reading = {node.id for t in scope.inflow() for node in scope.nodes() if t in node.inputs}
        return flows_into(first) == scope.inflow() and reading <= inside

    def join(self, then: Node | Scope) -> list[Node]:
        """The concat beside a member of a scope that this one takes, and nothing else, with the align before it."""
        taken = flows_into(then)
        concat = self.graph.node(taken[0]) if len(taken) == 1 else None
        if concat is None or not self.is_concat(concat) or not self.is_beside(concat, then):
            return []
        if not self.feeds(concat, then):
            return []
        align = self.graph.node(concat.inputs[0])
        aligned = align.operation.aligns and self.is_beside(align, concat)
        return [*([align] if aligned and self.feeds_all(align, concat) else []), concat]

    def is_beside(self, node: Node, other: Node | Scope) -> bool:
        """Whether a node is called in the scope of another member, with tensors alone."""
        return node.scope is scope_of(other) and not self.is_bound(node)

    def feeds_all(self, align: Node, concat: Node) -> bool:
        """Whether a concat takes all that an align of different tensors gives, and nothing else does."""
        given = made_by(align)
        alone = list(concat.inputs) == given and all(self.readers[tensor] == [concat.id] for tensor in given)
        return alone and len(set(align.inputs)) == len(given) and self.graph.shape(given[0])[1:] not in self.sizes

    def flows_only(self, first: Node | Scope, join: Node) -> bool:
        """Whether an align or concat takes what a member gives, and nothing else does, which moves no axes."""
        tensor = flows_out_of(first)
        alone = tensor in join.inputs and self.readers.get(tensor) == [join.id]
        return alone and not self.moves(first, join) and self.graph.shape(tensor)[1:] not in self.sizes

    def is_read(self, first: Node | Scope, then: Node | Scope) -> bool:
        """Whether a member takes what another one gives, whatever else does, which moves no axes."""
        return flows_into(then) == [flows_out_of(first)] and not self.moves(first, then)

    def moves(self, first: Node | Scope, then: Node | Scope) -> bool:
        """Whether the built module moves axes between a member and one that takes what it gives."""
        scope, tensor = scope_of(first), flows_out_of(first)
        return (scope, first, tensor) in self.layout.after or (scope, then, tensor) in self.layout.before

    @staticmethod
    def is_concat(node: Node) -> bool:
        """Whether a node concatenates several tensors along the channels."""
        return node.operation.stacks() == 0 and 1 < len(node.inputs) == len(set(node.inputs))

    def is_bound(self, node: Node) -> bool:
        """Whether a node needs more than its module: a size from elsewhere, or that the network trains."""
        return node.id in self.of_training or bool(self.wanted(node))

    def feeds(self, first: Node | Scope, then: Node | Scope) -> bool:
        """Whether a member takes what another one gives, and nothing else does, which moves no axes."""
        tensor = flows_out_of(first)
        inside = {then.id} if isinstance(then, Node) else {node.id for node in then.nodes()}
        if flows_into(then) != [tensor] or not inside.issuperset(self.readers.get(tensor, ())):
            return False
        return not self.moves(first, then) and self.graph.shape(tensor)[1:] not in self.sizes
