"""Where the channels of each tensor are in the built module, and where it moves axes.

A convolution takes (N, C, H, W), a layer normalisation (N, H, W, C), an activation either. The fewest moves between
them are a minimum cut (Ford and Fulkerson, Maximal flow through a network, 1956): of the places of the spec that keep
the channels first on one side, of those that keep them last on the other. All calls of a block have one class in the
built module, so a place has one answer for all of them. Where several answers cost the same, the channels come first.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Hashable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, TypeAlias

from archdsl.analysis.borders import Crossings, borders
from archdsl.analysis.overwriting import Overwriting
from archdsl.graph import Graph, Node, Scope, Tensor
from archdsl.ops.base import Shape
from archdsl.ops.forms import ModuleForm, TorchForm

if TYPE_CHECKING:  # importing it takes longer than a check, and few networks need it
    import networkx as nx

Member: TypeAlias = Node | Scope
Place: TypeAlias = Hashable
"""A place of the spec: an operation, or what flows into or out of a body."""

MOVE = 1000
"""The cost of moving axes once; much less than that decides between places that are as good."""


KEPT = 10
"""The cost of moving a tensor that would else be overwritten: that of a view would copy its gradient."""


@dataclass(frozen=True, slots=True)
class Layout:
    """The order of the axes of every tensor that has several."""

    last: frozenset[int] = frozenset()
    """The ids of the nodes that take and give tensors with the channels last."""
    entering: Mapping[tuple[Scope, Tensor], bool] = field(default_factory=dict)
    """Whether what flows into a scope has the channels last."""
    leaving: Mapping[tuple[Scope, Tensor], bool] = field(default_factory=dict)
    """Whether what flows out of a scope has the channels last."""
    after: frozenset[tuple[Scope, Member, Tensor]] = frozenset()
    """Tensors that a scope permutes after the member that makes them, or at its start if they are its inputs."""
    before: frozenset[tuple[Scope, Member, Tensor]] = frozenset()
    """Tensors that a scope permutes before the member that takes them, or at its end if they are its outputs."""

    @property
    def moved(self) -> frozenset[Tensor]:
        """The tensors that are moved anywhere."""
        return frozenset(tensor for _, _, tensor in (*self.after, *self.before))

    @staticmethod
    def of(graph: Graph, first: Collection[Member] = ()) -> Layout:
        """The best layout. `first` are nodes, and scopes whose inputs come, with the channels first."""
        if any(n.operation.layout == "last" and _has_positions(graph, n) for n in graph.nodes()):
            return _Decision(graph, first, *borders(graph)).run()
        return FIRST


FIRST = Layout()
"""The layout with the channels first everywhere."""


@dataclass(frozen=True, slots=True)
class _Link:
    """A tensor that flows in a scope, from the member that gives it to one that takes it.

    Either may be the scope itself: for what flows in from outside, and out. `port` is the place that gives it and which
    of its results it is, `slot` the place that takes it and which of its inputs it is.
    """

    scope: Scope
    tensor: Tensor
    giver: Member
    taker: Member
    port: tuple[Place, int]
    slot: tuple[Place, int]


@dataclass(eq=False)
class _Decision:
    """Finds the layout of a graph."""

    graph: Graph
    first: Collection[Member]
    inflow: Crossings
    outflow: Crossings
    links: list[_Link] = field(default_factory=list)
    ports: dict[tuple[Place, int], list[_Link]] = field(default_factory=dict)
    slots: dict[tuple[Place, int], list[_Link]] = field(default_factory=dict)
    rows: dict[Scope, bool] = field(default_factory=dict)
    """Whether a scope is a row: see `is_row`."""
    lasts: frozenset[Place] = frozenset()
    """The places that keep the channels last."""

    def run(self) -> Layout:
        for scope in self.graph.root.scopes():
            self.links += self.links_in(scope)
        for link in self.links:
            self.ports.setdefault(link.port, []).append(link)
            self.slots.setdefault(link.slot, []).append(link)
        self.lasts = self.cut()
        nodes = [n for n in self.graph.nodes() if _has_positions(self.graph, n) and self.place(n) in self.lasts]
        if not nodes:
            return FIRST
        return Layout(
            frozenset(n.id for n in nodes),
            self.crossing(self.inflow, "in"),
            self.crossing(self.outflow, "out"),
            frozenset(self.after()),
            frozenset(self.before()),
        )

    # ------------------------------------------------------------ what flows where

    def links_in(self, scope: Scope) -> Iterator[_Link]:
        """The links of a scope, of tensors that have positions."""
        givers: dict[Tensor, tuple[Member, tuple[Place, int]]] = {}
        for tensor in self.inflow[scope]:
            givers[tensor] = scope, (self.border("in", scope, tensor), 0)
        takers: list[tuple[Tensor, Member, tuple[Place, int]]] = []
        for member in scope.members:
            if isinstance(member, Scope):
                takers += [(t, member, (self.border("in", member, t), 0)) for t in self.inflow[member]]
                givers |= {t: (member, (self.border("out", member, t), 0)) for t in self.outflow[member]}
                continue
            place = self.place(member)
            takers += [(t, member, (place, member.inputs.index(t))) for t in dict.fromkeys(member.inputs)]
            giver = scope if member.operation.is_input else member
            givers |= {Tensor(member.id, i): (giver, (place, i)) for i in range(len(member.shapes))}
        takers += [(t, scope, (self.border("out", scope, t), 0)) for t in self.outflow[scope]]
        for tensor, taker, slot in takers:
            if len(self.graph.shape(tensor)) > 1:
                giver, port = givers[tensor]
                yield _Link(scope, tensor, giver, taker, port, slot)

    def place(self, node: Node) -> Place:
        """The place of an operation."""
        implied = f"{node.operation.name} {node.name if node.operation.is_input else ''}" if node.call is None else ""
        return _body(node.scope), node.span.start, node.span.end, implied

    def border(self, kind: str, scope: Scope, tensor: Tensor) -> Place:
        """The place of what flows into a body, or out of it."""
        own, found = (scope.inputs, self.inflow) if kind == "in" else (scope.outputs, self.outflow)
        order = dict.fromkeys((*(t for t in own if t in found[scope]), *found[scope]))
        return kind, _body(scope), list(order).index(tensor)

    def crossing(self, found: Crossings, kind: str) -> dict[tuple[Scope, Tensor], bool]:
        """Whether what crosses borders has the channels last."""
        return {(s, t): self.border(kind, s, t) in self.lasts for s, tensors in found.items() for t in tensors}

    # ------------------------------------------------------------ the cut

    def cut(self) -> frozenset[Place]:
        """The places that keep the channels last, as few of them as cost no more."""
        import networkx as nx

        net = nx.DiGraph()
        net.add_nodes_from((FIRSTS, LASTS))
        self.add_operations(net)
        self.add_moves(net)
        _, (_, lasts) = nx.minimum_cut(net, FIRSTS, LASTS)
        return frozenset(lasts)

    def add_operations(self, net: nx.DiGraph) -> None:
        """The nodes that keep the channels first, and the costs of operations that permute axes inside."""
        known: dict[object, tuple[int, int | None]] = {}
        for node in self.graph.nodes():
            place, shapes = self.place(node), self.graph.shapes(node.inputs)
            if node.operation.is_input or node in self.first:
                net.add_edge(FIRSTS, place)
            if node.operation.is_input or not _has_positions(self.graph, node):
                continue
            key = (id(node.operation), shapes)
            if key not in known:
                known[key] = _moves_within(node, shapes)
            first, last = known[key]
            if last is None:
                net.add_edge(FIRSTS, place)
            elif first > last:
                _add(net, place, LASTS, (first - last) * MOVE)
            elif first < last:
                _add(net, FIRSTS, place, (last - first) * MOVE)
        for link in self.links:
            is_output = link.taker is self.graph.root
            if is_output or (isinstance(link.taker, Scope) and link.taker in self.first):
                net.add_edge(FIRSTS, link.slot[0])

    def add_moves(self, net: nx.DiGraph) -> None:
        """The costs of moves: one for all that take a tensor in the other order.

        Where several places feed one, as in a loop, their tensors come to it in one order: that of a node of its own.
        """
        for slot, links in self.slots.items():
            if self.is_joint(slot):
                _add(net, slot, slot[0], MOVE * len(links))
                _add(net, slot[0], slot, MOVE * len(links))
        for port, links in self.ports.items():
            if any(self.may_be_none(link.giver) for link in links):  # taken as it is given, which costs no move
                for place in {p for link in links for p in (self.target(link), link.slot[0])}:
                    net.add_edge(port[0], place)
                    net.add_edge(place, port[0])
                continue
            givers = {(link.scope, link.tensor): link.giver for link in links}
            overwritten = sum(tensor in self.overwritten for _, tensor in givers)
            cost = sum(MOVE + self.fit(scope, giver) for (scope, _), giver in givers.items()) + KEPT * overwritten
            targets = dict.fromkeys(self.target(link) for link in links)
            to_last, to_first = ("to last", port), ("to first", port)
            _add(net, port[0], to_last, cost)
            _add(net, to_first, port[0], cost)
            for target in targets:
                net.add_edge(to_last, target)
                net.add_edge(target, to_first)

    def may_be_none(self, giver: Member) -> bool:
        return isinstance(giver, Node) and giver.operation.may_be_none(self.graph.shapes(giver.inputs))

    @cached_property
    def overwritten(self) -> frozenset[Tensor]:
        """The tensors that are overwritten where they are not moved."""
        overwriting = Overwriting.of(self.graph)
        found: set[Tensor] = set()
        for node in self.graph.nodes():
            places = (0,) if overwriting.activates(node) else overwriting.grows(node)[:1]
            found.update(node.inputs[place] for place in places)
        return frozenset(found)

    def fit(self, scope: Scope, giver: Member) -> int:
        """How badly a move behind a member fits into a row of members, which becomes an nn.Sequential.

        It fits where the numbers of the members leave a gap, or end; elsewhere it takes a name among numbers.
        """
        if scope not in self.rows:
            self.rows[scope] = scope.kind != "model" and self.is_row(scope)
        if not self.rows[scope]:
            return 1
        names = [m.name for m in scope.members]
        if not all(name.isdecimal() for name in names):
            return 2
        numbers = [-1, *map(int, names)]
        place = 0 if giver is scope else scope.members.index(giver) + 1
        return 0 if place == len(names) or numbers[place + 1] - numbers[place] == 2 else 4

    def is_row(self, scope: Scope) -> bool:
        """Whether a scope is a row of modules, each of which takes what the one before it gives."""
        flow = tuple(self.inflow[scope])
        for member in scope.members:
            if isinstance(member, Scope):
                taken, given = tuple(self.inflow[member]), tuple(self.outflow[member])
            else:
                form = member.operation.torch(self.graph.shapes(member.inputs), member.shapes)
                taken, given = member.inputs, tuple(Tensor(member.id, i) for i in range(len(member.shapes)))
                if not isinstance(form, ModuleForm):
                    return False
            if len(taken) != 1 or taken != flow:
                return False
            flow = given
        return flow == tuple(self.outflow[scope])

    def is_joint(self, slot: tuple[Place, int]) -> bool:
        """Whether several places feed a place."""
        return len({link.port for link in self.slots[slot]}) > 1

    def target(self, link: _Link) -> Place:
        """The facts that decide in which axis order a tensor is taken."""
        return link.slot if self.is_joint(link.slot) else link.slot[0]

    # ------------------------------------------------------------ the moves

    def is_moved(self, link: _Link) -> bool:
        """Whether a tensor is taken in another order than it is made in."""
        return (link.port[0] in self.lasts) is not (self.target(link) in self.lasts)

    @cached_property
    def moving(self) -> frozenset[tuple[Place, int]]:
        """The ports whose tensors are moved where they are made.

        That is where every call needs it, or several members do, or what takes them is also fed from elsewhere.
        """
        found: set[tuple[Place, int]] = set()
        for port, links in self.ports.items():
            moved = Counter((link.scope, link.tensor) for link in links if self.is_moved(link))
            everywhere = moved.keys() == {(link.scope, link.tensor) for link in links}
            joint = any(self.is_moved(link) and self.is_joint(link.slot) for link in links)
            if moved and (everywhere or joint or max(moved.values()) > 1):
                found.add(port)
        return frozenset(found)

    def after(self) -> Iterator[tuple[Scope, Member, Tensor]]:
        """The tensors that are permuted where they are made."""
        return ((link.scope, link.giver, link.tensor) for link in self.links if link.port in self.moving)

    def before(self) -> Iterator[tuple[Scope, Member, Tensor]]:
        """The tensors that are permuted where they are taken."""
        for link in self.links:
            at_taker = self.is_moved(link) and link.port not in self.moving
            in_between = self.is_joint(link.slot) and (link.slot in self.lasts) is not (link.slot[0] in self.lasts)
            if at_taker or in_between:
                yield link.scope, link.taker, link.tensor


FIRSTS, LASTS = "first", "last"
"""The ends of the cut."""


def _add(net: nx.DiGraph, tail: Place, head: Place, cost: int) -> None:
    """Adds a cost to an edge."""
    known = net.get_edge_data(tail, head, {"capacity": 0})
    if "capacity" in known:  # an edge without a capacity is never cut
        net.add_edge(tail, head, capacity=known["capacity"] + cost)


def _moves_within(node: Node, shapes: tuple[Shape, ...]) -> tuple[int, int | None]:
    """How often an operation moves axes itself, with the channels first and last; None where it cannot have them last.

    One that prefers them last does so before and after its work; others say so in their forms, as a learned tensor that
    is stored in one of the orders.
    """
    operation, outputs = node.operation, node.shapes
    last = operation.torch_last(shapes, outputs)
    if last is None:
        return 0, None
    if operation.layout == "last":
        return 2, 0
    return _permutes(operation.torch(shapes, outputs)), _permutes(last)


def _permutes(form: TorchForm) -> int:
    """How many moves of axes there are in a form."""
    return 0 if isinstance(form, ModuleForm) else form.template.count(".permute(")


def _has_positions(graph: Graph, node: Node) -> bool:
    """Whether a node takes or gives a tensor of several axes."""
    return any(len(s) > 1 for s in (*graph.shapes(node.inputs), *node.shapes))


def _body(scope: Scope) -> Place:
    """The key of the body of a scope."""
    if scope.definition is not None:
        return scope.kind == "model", id(scope.definition.syntax)
    return id(scope.span.source), scope.span.start, scope.span.end
