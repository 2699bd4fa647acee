"""Which activations a training step recomputes instead of storing (activation checkpointing).

Chen et al., Training deep nets with sublinear memory cost, 2016; Pleiss et al., Memory-efficient implementation of
DenseNets, 2017 (arXiv:1707.06990).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial

from archdsl.analysis.simulation import Simulation
from archdsl.analysis.training import step
from archdsl.common.choices import Recomputing
from archdsl.diagnostics import Diagnostic, Mark, SpecError
from archdsl.dims import free_sizes
from archdsl.graph import Graph, Node, Scope, Tensor
from archdsl.graph.rewriting import Rewriting
from archdsl.graph.series import Part, Series
from archdsl.syntax import tree


@dataclass(frozen=True, slots=True)
class Recompute:
    """The scopes and series that store only their inputs and run again in the backward pass; none is inside another.

    `grown` are the concats of dense connections around such scopes, or around scopes that begin with such series: their
    outputs are not stored either, but concatenated again wherever they are read.
    """

    scopes: frozenset[Scope] = frozenset()
    grown: frozenset[Node] = frozenset()
    series: frozenset[Series] = frozenset()

    @property
    def parts(self) -> frozenset[Part]:
        """All that runs again."""
        return self.scopes | self.series

    @property
    def bodies(self) -> frozenset[Scope]:
        """The bodies of dense connections, which take `grown` part by part."""
        added = {node.inputs[1] for node in self.grown}
        around = self.scopes.union(s.scope for s in self.series)
        return frozenset(s for s in around if not added.isdisjoint(s.outputs))

    def is_apart(self, concat: Node, scope: Scope | None) -> bool:
        """Whether what is in a scope takes a concat part by part. What leaves the scope is put together."""
        return concat in self.grown and concat.scope is scope

    def features(self, graph: Graph, tensor: Tensor, scope: Scope | None) -> list[Tensor]:
        """The parts of a tensor that a body in a scope takes one by one, or the tensor itself."""
        node = graph.node(tensor)
        if not self.is_apart(node, scope):
            return [tensor]
        return [*self.features(graph, node.inputs[0], scope), node.inputs[1]]


NOTHING = Recompute()


def recompute(graph: Graph, how: Recomputing, units: Collection[Scope] = ()) -> Recompute:
    """The choice of what is recomputed: the bodies of dense connections, calls of blocks, or what a budget needs.

    Chooses the blocks whose calls reduce the training peak most. `units` are scopes whose layers no module around may
    call. Raises SpecError if a network has nothing to recompute, or does not fit into the budget.
    """
    match how:
        case "none":
            return NOTHING
        case "dense":
            return _dense(graph)
        case "blocks":
            return _blocks(graph)
        case _:
            from archdsl.transform.fitting import fitted  # which searches among these

            return fitted(graph, how, units).again


def _dense(graph: Graph) -> Recompute:
    chains = dense_chains(graph)
    if chains:
        scopes = frozenset(outermost([s for chain in chains for s in chain.scopes]))
        return Recompute(scopes, frozenset(n for chain in chains if chain.scopes <= scopes for n in chain.grown))
    in_place = [n for n in _stacking(graph) if isinstance(n.origin, tree.Dense) and _body(graph, n) is None]
    if in_place:
        marks = tuple(Mark(n.span, "its layers are not in a block" if i == 0 else "") for i, n in enumerate(in_place))
        raise SpecError(
            [
                Diagnostic(
                    "E0601",
                    f"{graph.name} has no dense connection whose body can be recomputed",
                    marks[:1],
                    help="write the body as a block and call it: `dense { layer(growth) }`",
                )
            ]
        )
    raise _nothing(graph, "no dense connections", "`blocks` recomputes calls of blocks")


def dense_chains(graph: Graph) -> list[Recompute]:
    """The dense connections whose bodies can be recomputed, for each scope that has some."""
    readers: Counter[Tensor] = Counter(t for node in graph.nodes() for t in node.inputs)
    chains: dict[Scope, list[tuple[Scope, Node]]] = {}
    for node in _stacking(graph):
        whole, new = node.inputs
        body = _body(graph, node)
        if body is None or body.use is not None:
            continue  # the calls of what is shared would have to be alike
        if readers[new] == 1 and body.outputs == (new,) and _needs_alone(graph, body, whole):
            chains.setdefault(node.scope, []).append((body, node))
    return [
        Recompute(frozenset(body for body, _ in chain), frozenset(node for _, node in chain))
        for chain in chains.values()
    ]


def _stacking(graph: Graph) -> list[Node]:
    """The concats of two tensors along the channels."""
    return [n for n in graph.nodes() if n.operation.stacks() == 0 and len(n.inputs) == 2]


def _body(graph: Graph, node: Node) -> Scope | None:
    """The scope beside a concat whose result it adds."""
    return next((s for s in graph.node(node.inputs[1]).scope.calls() if s.parent is node.scope), None)


def _needs_alone(graph: Graph, body: Scope, whole: Tensor) -> bool:
    """Whether a body takes one tensor and reads no size of another."""
    sizes = [n.operation.sized(graph.shapes(n.inputs), n.shapes) for n in body.nodes()]
    own = graph.shape(whole)[1:]
    return body.inflow() == [whole] and all(size == own for size in sizes if free_sizes(*size))


def _blocks(graph: Graph) -> Recompute:
    calls: dict[int, list[Scope]] = {}
    for scope in graph.root.scopes():
        if scope.kind == "block" and scope.definition is not None:
            calls.setdefault(id(scope.definition.syntax), []).append(scope)
    if not calls:
        raise _nothing(graph, "no calls of blocks", "make the repeated layers a block: `block NAME(…) { … }`")
    chosen: list[Scope] = []
    run = Simulation.of(graph, cpu=False)
    lowest = _peak(run, ())
    rest = list(calls.values())
    while True:
        # Among equal peaks the first: the outer block.
        sets = [outermost([*chosen, *scopes]) for scopes in rest]
        trials = [(_peak(run, s), number) for number, s in enumerate(sets) if set(s) != set(chosen)]
        peak, number = min(trials, default=(lowest, 0))
        if peak >= lowest:
            break
        lowest = peak
        chosen = outermost([*chosen, *rest.pop(number)])
    if not chosen:
        raise _nothing(graph, "no block whose recomputation reduces the memory of a training step", None)
    return Recompute(frozenset(chosen))


def _nothing(graph: Graph, lack: str, help: str | None) -> SpecError:
    return SpecError([Diagnostic("E0601", f"{graph.name} has {lack}: there is nothing to recompute", help=help)])


def _peak(run: Simulation, scopes: Collection[Scope]) -> int:
    """Bytes per sample at the peak of a training step."""
    run.recompute = scopes
    peak, _ = step(run)
    return max(m.sample for m in peak.moments)


def outermost(scopes: Sequence[Scope]) -> list[Scope]:
    """The scopes that are in no other."""
    given = set(scopes)
    return [s for s in dict.fromkeys(scopes) if given.isdisjoint(list(s.calls())[1:])]


# ---------------------------------------------------------------- the graph that runs


def as_run(graph: Graph, again: Recompute) -> tuple[Graph, frozenset[Part]]:
    """The graph with the concats of dense connections at their readers, and its recomputed parts.

    Layers in series across the borders of blocks are in the scope around these. Its nodes have the paths of the
    original ones.
    """
    as_it_is = not again.grown and not any(series.crosses for series in again.series)
    return (graph, again.parts) if as_it_is else _Apart(graph, again).run()


@dataclass(slots=True, eq=False)
class _Apart:
    graph: Graph
    again: Recompute
    new: Rewriting = field(default_factory=Rewriting)
    parts: dict[Tensor, tuple[Tensor, ...]] = field(default_factory=dict)
    """The parts of a dense connection's result, as tensors of the new graph."""
    whole: dict[tuple[Scope | None, Tensor], Tensor] = field(default_factory=dict)
    """A tensor of the old graph in the new one; in a recomputed scope, as concatenated there."""

    def run(self) -> tuple[Graph, frozenset[Part]]:
        old = self.graph
        bodies = self.again.bodies
        region = {node.id: scope for scope in bodies for node in scope.nodes()}
        read = {o.tensor for o in old.outputs}
        for node in old.nodes():
            read.update(t for t in node.inputs if not self.takes_parts(node, t, region.get(node.id)))
        crossing = {next(s.nodes()): s for s in self.again.series if s.crosses}
        for member in old.root.walk():
            if isinstance(member, Scope):
                self.put_together(member.inflow() if member.parent in bodies else (), member.parent)
                if member not in self.new.scopes:
                    self.new.open(member)
            elif member in crossing:
                self.lend(crossing[member])
            elif (None, Tensor(member.id)) in self.whole:
                pass  # placed with the series that it is in
            elif member in self.again.grown:
                self.grow(member, Tensor(member.id) in read)
            else:
                self.copy(member, region.get(member.id))
        # A connection that is put together in several places has one path in all of them.
        outputs = [replace(o, tensor=self.whole[None, o.tensor]) for o in old.outputs]
        graph = self.new.finish(old, self.resolve, outputs, paths=False)
        for series in crossing.values():
            self.trim(series)
        copies = map(partial(self.copied_series, graph), self.again.series)
        return graph, frozenset((*(self.new.scopes[s] for s in self.again.scopes), *copies))

    def copied_series(self, graph: Graph, series: Series) -> Series:
        """Layers of the new graph, with the concat before them that was moved there."""
        members = [self.copied(graph, member) for member in series.members]
        moved = [self.whole[key] for t in series.inflow() if (key := (series.scope, t)) in self.whole]
        return Series((*(graph.node(t) for t in moved), *members))

    def copied(self, graph: Graph, member: Node | Scope) -> Node | Scope:
        """A member of the old graph in the new one."""
        if isinstance(member, Scope):
            return self.new.scopes[member]
        return graph.node(self.whole[None, Tensor(member.id)])

    def grow(self, node: Node, read: bool) -> None:
        """The concat of a dense connection: parts, put together here only if something here reads it."""
        first, added = node.inputs
        result = Tensor(node.id)
        parts = self.parts[first] if self.takes_parts(node, first, None) else (self.whole[None, first],)
        self.parts[result] = (*parts, self.whole[None, added])
        if read:
            self.whole[None, result] = Tensor(self.new.place(node, self.parts[result]).id)

    def copy(self, node: Node, within: Scope | None, scope: Scope | None = None) -> None:
        """A node as it is, behind what it reads of dense connections put together in its recomputed scope `within`."""
        self.put_together(node.inputs, within)
        inputs = [self.whole.get((within, t)) or self.whole[None, t] for t in node.inputs]
        placed = self.new.place(node, inputs, scope)
        for i in range(len(node.shapes)):
            self.whole[None, Tensor(node.id, i)] = Tensor(placed.id, i)

    def put_together(self, tensors: Iterable[Tensor], within: Scope | None) -> None:
        """Places the concats that a recomputed scope puts together, once, before what reads them there."""
        for tensor in tensors:
            if (within, tensor) not in self.whole and self.reads_parts(tensor, within):
                placed = self.new.place(self.graph.node(tensor), self.parts[tensor], within)
                self.whole[within, tensor] = Tensor(placed.id)

    def reads_parts(self, tensor: Tensor, within: Scope | None) -> bool:
        """Whether a recomputed scope puts a tensor together that it reads."""
        return within is not None and self.again.is_apart(self.graph.node(tensor), within.parent)

    def takes_parts(self, node: Node, tensor: Tensor, within: Scope | None) -> bool:
        """Whether a node needs the parts of a tensor alone: its recomputed scope puts them together, or it adds one."""
        adds = node in self.again.grown and tensor == node.inputs[0]
        return self.reads_parts(tensor, within) or (adds and self.again.is_apart(self.graph.node(tensor), node.scope))

    def lend(self, series: Series) -> None:
        """Places members of several scopes in the scope around these, which runs them."""
        for member in series.members:
            if isinstance(member, Node):
                self.copy(member, None, series.scope)
                continue
            for inner in member.walk():
                if isinstance(inner, Node):
                    self.copy(inner, None)
                else:
                    self.new.open(inner, series.scope if inner is member else None)

    def trim(self, series: Series) -> None:
        """Lets the scopes of which the scope around runs the last or the first layers give and take what is left."""
        for scope in series.ends:
            self.new.scopes[scope].outputs = (self.whole[None, series.flow],)
        for scope in series.begins:
            self.new.scopes[scope].inputs = (self.whole[None, series.outflow],)

    def resolve(self, tensor: Tensor) -> tuple[Tensor, ...]:
        """A tensor, or its parts where it is put together in recomputed scopes alone."""
        return (self.whole[None, tensor],) if (None, tensor) in self.whole else self.parts[tensor]
