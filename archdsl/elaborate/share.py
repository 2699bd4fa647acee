"""Shared layers and blocks: placed once by `share`, and called by name any number of times."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

from archdsl.common.source import Span
from archdsl.diagnostics import Fix, Mark, Proposal
from archdsl.elaborate.builder import Builder
from archdsl.elaborate.paths import Paths
from archdsl.elaborate.place import POISONED_TENSOR, Flow, Place, check_label, copy_defaults
from archdsl.elaborate.reports import Reports
from archdsl.graph import Node, Rounds, Scope, Tensor, Use
from archdsl.ops.fields import shape_text
from archdsl.syntax import tree
from archdsl.values import Failure, Namespace, SharedValue


@dataclass(slots=True, eq=False)
class Shared:
    """A `share` statement that was read: its item, and all that it sees there. `calls` are those so far."""

    statement: tree.Share
    item: tree.Item
    place: Place
    path: str
    declared: tuple[int, int]
    rounds: Rounds
    bound: Mapping[str, object]
    calls: list[Called] = field(default_factory=list)


@dataclass(slots=True, eq=False)
class Called:
    """A call of something shared: the reference, what flowed in, and what was placed."""

    span: Span
    flow: Flow
    nodes: list[Node]
    results: Flow


@dataclass(slots=True, eq=False)
class Shares:
    """The shared parts of one network. `place_item` places an item; `compares` says that calls must agree."""

    reports: Reports
    build: Builder
    place_item: Callable[[tree.Item, Place, Flow], Flow]
    compares: bool = True
    declared: list[Shared] = field(default_factory=list)

    def declare(self, statement: tree.Share, place: Place) -> None:
        """Reads a `share` statement: reserves the path, and gives the name its meaning."""
        name, item = statement.name, statement.item
        known = place.names.values.get(name.name)
        again = isinstance(known, SharedValue) and isinstance(known.part, Shared) and known.part.statement is statement
        if not again:  # the next round of a loop
            check_label(name.name, name.span, place)
        if place.names.find_label(name.name) is not None:
            raise Failure("E0209", f"`{name.name}` is already a label here", name.span, "choose another name")
        if isinstance(item, tree.Element) or (isinstance(item, tree.Call) and item.name.name == "it"):
            raise Failure("E0236", "`share` places layers, and a tensor has none", item.span, "name it: `it -> x: it`")
        if item.label is not None and not (isinstance(item.label, tree.Label) and item.label.quoted):
            help = f"write `share {name.name}: …`; a quoted label behind it says another path"
            raise Failure("E0236", "what is shared has one name", item.label.span, help)
        label = item.label or tree.Label(name.span, (name.name,), True)
        path, _ = self.build.item_name(label, place)
        seen = Place(place.scope, _copied(place.names), copy_defaults(place.defaults), (), started=True)
        try:
            reserved = self.build.paths.claim(path, True, place.scope, label.span)
        except Failure as failure:
            if again:
                failure.help = f'give each a computed path: `share {name.name}: "{name.name}{{i}}": …`'
            raise
        shared = Shared(
            statement,
            replace(item, label=tree.Label(label.span, (path,), True)),
            seen,
            reserved,
            (len(self.build.graph), len(self.declared)),
            self.build.rounds_around,
            self.build.bound,
        )
        self.declared.append(shared)
        place.scope.shift += 1
        place.names.values[name.name] = SharedValue(name.name, shared)

    def call(self, value: SharedValue, item: tree.Call, place: Place, flow: Flow) -> Flow:
        """Calls it with what flows here. Raises Failure where that cannot be."""
        shared = value.part
        assert isinstance(shared, Shared)
        scope, build = shared.place.scope, self.build
        if item.arguments:
            help = "give them where it is shared, or share another one"
            raise Failure("E0236", f"`{value.name}` is shared, so it has its arguments already", item.span, help)
        if place.scope is not scope:
            raise _elsewhere(value.name, scope, place.scope, item.span)
        # One call may receive a learned tensor where another receives that of a sample: the layers are the same.
        flow = build.repeated(flow, len(flow), place.scope, item.span)
        inner = replace(shared.place, names=_copied(shared.place.names), flow=flow, inflow=flow)
        inner.names.it = build.it(flow)
        first = shared.calls[0] if shared.calls else None
        around = (build.paths, build.rounds_around, build.bound, build.again)
        use = Use(item.span, build.rounds_around, shared.declared, (shared.statement.span, shared.rounds))
        build.rounds_around, build.bound, build.use = shared.rounds, shared.bound, use
        if first is None:
            build.paths.release(shared.path)
        else:  # the same items once more, which get the same paths
            build.paths, build.again = Paths(build.graph, build.budget), True
        members, start = len(scope.members) + scope.lost, len(build.graph)
        try:
            results = self.place_item(shared.item, inner, flow)
        finally:
            around[0].moved |= build.paths.moved
            build.paths, build.rounds_around, build.bound, build.again = around
            build.use = None
            scope.shift -= len(scope.members) + scope.lost - members
            if first is None:
                build.paths.taken.setdefault(shared.path, shared.statement.name.span)
        if POISONED_TENSOR not in results and POISONED_TENSOR not in flow:
            called = Called(item.span, flow, [build.graph.node(i) for i in range(start, len(build.graph))], results)
            if first is not None and self.compares:
                self.compare(value.name, first, called, scope, item)
            shared.calls.append(called)
        return results

    def compare(self, name: str, first: Called, called: Called, scope: Scope, item: tree.Call) -> None:
        """Reports a call that is not the same computation, with the same weights, as the first one."""
        difference = self.difference(first, called)
        if difference is None:
            return
        shapes = [[self.build.graph.shape(t) for t in c.flow] for c in (called, first)]
        takes = [", ".join(map(shape_text, row)) for row in shapes]
        proposals = []
        if len(called.flow) == 1 and shapes[0][0][0] != (channels := shapes[1][0][0]) and len(shapes[0][0]) > 1:
            start = (item.label or item).span.start
            layer = f"conv({channels}, 1) -> "
            fix = Fix(Span(item.span.source, start, start), layer)
            proposals.append(Proposal(f"bring the channels to {channels} first: `{layer}{name}`", fix))
        self.reports.report(
            "E0310",
            f"`{name}` is shared, and this call needs {difference}",
            scope,
            Mark(called.span, f"receives {takes[0]}"),
            Mark(first.span, f"the first call receives {takes[1]}"),
            help="bring what flows in to the same size before the call, or place a second one",
            proposals=proposals,
        )

    def difference(self, first: Called, called: Called) -> str | None:
        """The difference between two calls, in words."""
        graph = self.build.graph
        if len(first.nodes) != len(called.nodes):
            return f"{len(called.nodes)} operations where the first one needs {len(first.nodes)}"
        wires = [_wires(c) for c in (first, called)]
        for number, (one, other) in enumerate(zip(first.nodes, called.nodes, strict=True)):
            if one.path != other.path or type(one.operation) is not type(other.operation):
                return f"a `{other.operation.name}` where the first one needs a `{one.operation.name}`"
            shapes = [graph.shapes(n.inputs) for n in (one, other)]
            own = [n.operation.weights(s) for n, s in zip((one, other), shapes, strict=True)]
            if own[0] != own[1]:
                there, here = next((a, b) for a, b in zip(*own, strict=False) if a != b)
                what = f"`{other.operation.name}` (`{other.path}`) has {here.name} {list(here.shape)} here"
                return f"other weights: {what}, and {list(there.shape)} there"
            forms = [n.operation.torch(s, n.shapes) for n, s in zip((one, other), shapes, strict=True)]
            if forms[0] != forms[1]:
                return f"another `{other.operation.name}` (`{other.path}`): its numbers depend on what flows in"
            if wires[0][number] != wires[1][number]:
                return f"other connections at `{other.operation.name}` (`{other.path}`)"
        return "other connections of its results" if wires[0][-1] != wires[1][-1] else None


def _wires(called: Called) -> list[tuple[object, ...]]:
    """Where the tensors of each operation in a call come from, and at the end the results."""
    places: dict[Tensor, object] = {}
    for position, tensor in enumerate(called.flow):
        places.setdefault(tensor, position)
    for number, node in enumerate(called.nodes):
        places.update({Tensor(node.id, i): (number, i) for i in range(len(node.shapes))})
    return [tuple(places.get(t, t) for t in row) for row in (*(n.inputs for n in called.nodes), called.results)]


def _elsewhere(name: str, home: Scope, here: Scope, span: Span) -> Failure:
    """A call in another module than the one that holds what is shared."""
    holder = f"`{home.path}`" if home.path else "the model"
    message = f"`{name}` is held by {holder}, and the module of `{here.path}` cannot call it"
    help = f"call it outside, and pass the result: `(it, it -> {name}) -> …`; or share it in there"
    if here.kind == "body" and here.parent is home and here.labelled:
        help = f"leave out the label `{here.name}`, since a body without one can call it; or {help}"
    return Failure("E0236", message, span, help)


def _copied(names: Namespace) -> Namespace:
    """The names as they are now; those of a file never change."""
    if names.outer is None:
        return names
    copy = Namespace(_copied(names.outer))
    copy.values, copy.labels = dict(names.values), dict(names.labels)
    copy.it, copy.poisoned = names.it, names.poisoned
    return copy
