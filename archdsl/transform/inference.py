"""The form of a network for inference: batchnorms are part of the convolutions before them, dropouts are gone.

In evaluation a batchnorm is a factor and a shift for each channel (Ioffe and Szegedy, 2015), which the convolution that
gives these channels takes into its weight and bias. That is exact where nothing else reads them, through concats and
splits too.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace

from archdsl.graph import Graph, Node, Scope, Tensor
from archdsl.ops.base import Operation


@dataclass(frozen=True, slots=True)
class Part:
    """So many channels: from `start` on of what `convolution` gives, from `at` on of what a batchnorm takes."""

    convolution: Node
    start: int
    at: int
    count: int


@dataclass(frozen=True, slots=True)
class Folding:
    """What becomes of the weights, by their paths in the training form.

    `folded` are the batchnorms that became part of convolutions, in their order. `renamed` has the members that moved
    up where others went, `dropped` those that are no more, since only outputs of training need them.
    """

    training: Graph
    folded: Mapping[Node, tuple[Part, ...]]
    renamed: Mapping[str, str]
    dropped: tuple[str, ...]

    @property
    def changes(self) -> bool:
        """Whether a state_dict of the training form has to be changed at all."""
        return bool(self.folded or self.renamed or self.dropped)


def for_inference(graph: Graph) -> tuple[Graph, Folding]:
    """A checked network as it is in evaluation, and how its weights come from those of the network given."""
    fold = _Fold(graph)
    fold.run()
    built = _Rebuild(graph, fold).run()
    return built.graph, Folding(graph, fold.folded, built.renamed, built.dropped)


@dataclass(slots=True, eq=False)
class _Fold:
    """Finds what goes, and the convolutions that take batchnorms in."""

    graph: Graph
    live: set[int] = field(default_factory=set)
    gone: dict[Tensor, Tensor] = field(default_factory=dict)
    """Results of operations that go, with the tensors that stand for them."""
    readers: Counter[Tensor] = field(default_factory=Counter)
    folded: dict[Node, tuple[Part, ...]] = field(default_factory=dict)
    biased: set[int] = field(default_factory=set)
    """Convolutions that get a bias."""

    def run(self) -> None:
        graph = self.graph
        outputs = [o.tensor for o in graph.outputs if not o.training]
        self.live = {node.id for node in graph.input_nodes}
        stack = [t.node for t in outputs]
        while stack:
            node = graph.node(stack.pop())
            if node.id not in self.live:
                self.live.add(node.id)
                stack.extend(t.node for t in node.inputs)
        nodes = [node for node in graph.nodes() if node.id in self.live]
        for node in nodes:
            if node.operation.training_only:
                self.gone[Tensor(node.id)] = node.inputs[0]
            else:
                self.readers.update(map(self.stands, node.inputs))
        self.readers.update(map(self.stands, outputs))
        for node in nodes:
            if node.operation.channel_factor() is not None:
                self.fold(node)

    def stands(self, tensor: Tensor) -> Tensor:
        while tensor in self.gone:
            tensor = self.gone[tensor]
        return tensor

    def fold(self, norm: Node) -> None:
        result, source = Tensor(norm.id), self.stands(norm.inputs[0])
        count = self.graph.shape(source)[0]
        assert isinstance(count, int)
        parts = list(self.parts(source, 0, 0, count))
        if sum(p.count for p in parts) != count:
            return
        self.folded[norm] = tuple(parts)
        self.biased.update(p.convolution.id for p in parts)
        self.readers[source] = self.readers[result]
        self.gone[result] = source

    def parts(self, tensor: Tensor, start: int, at: int, count: int) -> Iterator[Part]:
        """Where channels of a tensor come from, as far as they are those of convolutions that nothing else reads."""
        tensor = self.stands(tensor)
        node = self.graph.node(tensor)
        if self.readers[tensor] != 1:
            return
        if node.operation.is_weighted:
            yield Part(node, start, at, count)
        elif node.operation.keeps_channels:
            outputs = tuple(self.graph.shape(Tensor(node.id, i)) for i in range(len(node.shapes)))
            for lane in node.operation.lanes(tensor.index, self.graph.shapes(node.inputs), outputs):
                begin, end = max(start, lane.channels.start), min(start + count, lane.channels.stop)
                if begin < end:
                    first = lane.read.start + begin - lane.channels.start
                    yield from self.parts(node.inputs[lane.position], first, at + begin - start, end - begin)


@dataclass(slots=True, eq=False)
class _Rebuild:
    """Makes the graph anew without what goes. A member without a label is named by its new position."""

    old: Graph
    fold: _Fold
    ids: dict[int, int] = field(default_factory=dict)
    scopes: dict[Scope, Scope] = field(default_factory=dict)
    nodes: list[Node] = field(default_factory=list)
    operations: dict[tuple[object, ...], Operation] = field(default_factory=dict)
    renamed: dict[str, str] = field(default_factory=dict)

    def run(self) -> _Built:
        kept = [n for n in self.old.nodes() if n.id in self.fold.live and Tensor(n.id) not in self.fold.gone]
        self.ids = {node.id: i for i, node in enumerate(kept)}
        scopes = list(self.old.root.scopes())
        filled: set[Scope] = set()
        for scope in reversed(scopes):
            if any(m.id in self.ids if isinstance(m, Node) else m in filled for m in scope.members):
                filled.add(scope)
        root = self.copy(self.old.root, None, "", "")
        for scope in scopes:
            if scope in filled:
                self.fill(scope, filled)
        graph = replace(
            self.old,
            root=root,
            outputs=tuple(replace(o, tensor=self.map(o.tensor)) for o in self.old.outputs if not o.training),
            training=None,
            narrowings=(),
            warnings=(),
            augment=None,
            _nodes=[],
            _net=None,
        )
        for node in sorted(self.nodes, key=lambda n: n.id):
            graph.add(node)
        return _Built(graph, self.renamed, tuple(self.dropped(filled)))

    def map(self, tensor: Tensor) -> Tensor:
        stands = self.fold.stands(tensor)
        return Tensor(self.ids[stands.node], stands.index)

    def maps(self, tensors: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        return tuple(self.map(t) for t in tensors if self.fold.stands(t).node in self.ids)

    def copy(self, scope: Scope, parent: Scope | None, name: str, path: str) -> Scope:
        new = replace(
            scope,
            name=name or scope.name,
            path=path,
            parent=parent,
            members=[],
            inputs=self.maps(scope.inputs),
            input_names=tuple(
                n for t, n in zip(scope.inputs, scope.input_names, strict=False) if self.fold.stands(t).node in self.ids
            ),
            outputs=self.maps(scope.outputs),
        )
        self.scopes[scope] = new
        return new

    def fill(self, scope: Scope, filled: set[Scope]) -> None:
        """The members of a scope that stay, those that hold weights under names that are free."""
        new = self.scopes[scope]
        stay = [m for m in scope.members if (m.id in self.ids if isinstance(m, Node) else m in filled)]
        names: list[str] = []
        inputs = 0
        for member in stay:
            is_input = isinstance(member, Node) and member.operation.is_input
            inputs += is_input
            names.append(member.name if member.labelled or is_input else str(len(names) - inputs))
        if len({n.split(".")[0] for n in names}) < len({m.name.split(".")[0] for m in stay}):
            names = [m.name for m in stay]  # a label took one of the new names
        for member, name in zip(stay, names, strict=True):
            path = f"{new.path}.{name}" if new.path else name
            if name != member.name and _weighty(self.old, member):
                self.renamed[member.path] = path
            if isinstance(member, Scope):
                new.members.append(self.copy(member, new, name, path))
            else:
                node = replace(
                    member,
                    id=self.ids[member.id],
                    operation=self.operation(member),
                    inputs=self.maps(member.inputs),
                    name=name,
                    path=path,
                    scope=new,
                )
                new.members.append(node)
                self.nodes.append(node)

    def operation(self, node: Node) -> Operation:
        """That of a node: with a bias where it takes a batchnorm in, its weights drawn from nowhere."""
        change: dict[str, object] = {"bias": True} if node.id in self.fold.biased else {}
        start = type(node.operation).model_fields.get("init")
        if start is not None and dict(node.operation)["init"] != start.default:
            change["init"] = start.default
        if not change:
            return node.operation
        key = (id(node.operation), *change)
        if key not in self.operations:
            self.operations[key] = node.operation.model_copy(update=change)
        return self.operations[key]

    def dropped(self, filled: set[Scope]) -> Iterator[str]:
        """The outermost members with weights of which nothing is left."""
        stack: list[Node | Scope] = [self.old.root]
        while stack:
            member = stack.pop()
            if isinstance(member, Scope):
                left = member in filled or any(n in self.fold.folded for n in member.nodes())
                if left:
                    stack.extend(reversed(member.members))
                    continue
            elif member.id in self.ids or member in self.fold.folded:
                continue
            if _weighty(self.old, member):
                yield member.path


@dataclass(frozen=True, slots=True)
class _Built:
    graph: Graph
    renamed: dict[str, str]
    dropped: tuple[str, ...]


def _weighty(graph: Graph, member: Node | Scope) -> bool:
    """Whether something in it has weights."""
    nodes = [member] if isinstance(member, Node) else member.nodes()
    return any(n.operation.weights(graph.shapes(n.inputs)) for n in nodes)
