"""The inference form of a network: batchnorms are folded into the convolutions before them, dropout is removed.

In evaluation a batchnorm is a factor and a shift per channel (Ioffe and Szegedy, 2015), which the convolution that
produces these channels absorbs into its weight and bias. That is exact if nothing else reads them, also through concats
and splits.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from archdsl.common.threads import cached_property
from archdsl.graph import Graph, Node, Scope, Tensor
from archdsl.graph.rewriting import Rewriting
from archdsl.ops.base import Operation


@dataclass(frozen=True, slots=True)
class ChannelRun:
    """A run of channels: from `start` in the output of `convolution`, from `at` in the input of a batchnorm."""

    convolution: Node
    start: int
    at: int
    count: int


@dataclass(frozen=True, slots=True)
class Folding:
    """The conversion of weights, by their paths in the training form.

    `folded` are the folded batchnorms, in order. `renamed` has the members that were renumbered because others were
    removed, `dropped` those that only training outputs need.
    """

    training: Graph
    folded: Mapping[Node, tuple[ChannelRun, ...]]
    renamed: Mapping[str, str]
    dropped: tuple[str, ...]

    @property
    def changes(self) -> bool:
        """Whether a state_dict of the training form needs any change."""
        return bool(self.folded or self.renamed or self.dropped)


def for_inference(graph: Graph) -> tuple[Graph, Folding]:
    """A checked network in evaluation, and the conversion of its weights from the given network's."""
    fold = _Fold(graph)
    fold.run()
    rebuild = _Rebuild(graph, fold)
    built = rebuild.run()
    return built, Folding(graph, fold.folded, rebuild.renamed, tuple(rebuild.dropped()))


@dataclass(slots=True, eq=False)
class _Fold:
    """Finds the nodes to remove, and the convolutions that absorb batchnorms."""

    graph: Graph
    live: set[int] = field(default_factory=set)
    gone: dict[Tensor, Tensor] = field(default_factory=dict)
    """Results of removed operations, with the tensors that replace them."""
    readers: Counter[Tensor] = field(default_factory=Counter)
    folded: dict[Node, tuple[ChannelRun, ...]] = field(default_factory=dict)
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
                self.readers.update(map(self.resolve, node.inputs))
        self.readers.update(map(self.resolve, outputs))
        calls: dict[str, list[Node]] = {}
        for node in nodes:
            calls.setdefault(node.path, []).append(node)
        for norms in calls.values():
            if norms[0].operation.channel_factor() is not None:
                self.fold(norms, calls)

    def resolve(self, tensor: Tensor) -> Tensor:
        while tensor in self.gone:
            tensor = self.gone[tensor]
        return tensor

    def fold(self, norms: Sequence[Node], calls: Mapping[str, Sequence[Node]]) -> None:
        """Folds a batchnorm, in all its calls: in each of them the same convolutions must produce what it takes."""
        found: list[list[ChannelRun]] = []
        for norm in norms:
            source = self.resolve(norm.inputs[0])
            count = self.graph.shape(source)[0]
            assert isinstance(count, int)
            found.append(list(self.parts(source, 0, 0, count)))
            convolutions = {p.convolution.id: p.convolution.path for p in found[-1]}
            if sum(p.count for p in found[-1]) != count or len({*convolutions.values()}) < len(convolutions):
                return  # calls of one convolution would take different factors
        ways = {tuple((p.convolution.path, p.start, p.at, p.count) for p in parts) for parts in found}
        absorbing = {p.convolution.id for parts in found for p in parts}
        if len(ways) > 1 or any(n.id not in absorbing for path, *_ in ways.pop() for n in calls[path]):
            return
        self.biased |= absorbing
        for norm, parts in zip(norms, found, strict=True):
            result, source = Tensor(norm.id), self.resolve(norm.inputs[0])
            self.folded[norm] = tuple(parts)
            self.readers[source] = self.readers[result]
            self.gone[result] = source

    def parts(self, tensor: Tensor, start: int, at: int, count: int) -> Iterator[ChannelRun]:
        """The convolutions that produce the channels of a tensor, as far as nothing else reads them."""
        tensor = self.resolve(tensor)
        node = self.graph.node(tensor)
        if self.readers[tensor] != 1:
            return
        if node.operation.absorbs():
            yield ChannelRun(node, start, at, count)
        elif node.operation.keeps_channels():
            outputs = tuple(self.graph.shape(Tensor(node.id, i)) for i in range(len(node.shapes)))
            for channel_map in node.operation.channel_maps(tensor.index, self.graph.shapes(node.inputs), outputs):
                begin, end = max(start, channel_map.channels.start), min(start + count, channel_map.channels.stop)
                if begin < end:
                    first = channel_map.read.start + begin - channel_map.channels.start
                    yield from self.parts(node.inputs[channel_map.position], first, at + begin - start, end - begin)


@dataclass(eq=False)
class _Rebuild:
    """Rebuilds the graph without the removed nodes. A member without a label is named by its new position."""

    old: Graph
    fold: _Fold
    new: Rewriting = field(default_factory=Rewriting)
    filled: set[Scope] = field(default_factory=set)
    """The scopes that are not empty."""
    calls: dict[str, list[Scope]] = field(default_factory=dict)
    """The scopes of each path: several where it is shared."""
    operations: dict[tuple[object, ...], Operation] = field(default_factory=dict)
    ids: dict[int, int] = field(default_factory=dict)
    """The new ids of the remaining nodes, by old id."""
    renamed: dict[str, str] = field(default_factory=dict)

    def run(self) -> Graph:
        scopes = list(self.old.root.scopes())
        for scope in scopes:
            self.calls.setdefault(scope.path, []).append(scope)
        for scope in reversed(scopes):
            if any(map(self.stays, scope.members)):
                self.filled.add(scope)
        self.filled.add(self.old.root)
        placed_as: dict[Node | Scope, dict[str, Any]] = {}
        for member in self.old.root.walk():
            if not self.stays(member):
                continue
            change = placed_as.get(member, {})
            if isinstance(member, Scope):
                prefix = self.new.open(member, **change).path
                for inner, name in self.names(member):
                    path = f"{prefix}.{name}" if prefix else name
                    placed_as[inner] = {"name": name, "path": path}
                    if name != inner.name and _has_weights(self.old, inner):
                        self.renamed[inner.path] = path
            else:
                inputs = [here for t in self.inputs(member) for here in self.here(t)]
                placed = self.new.place(member, inputs, operation=self.operation(member), **change)
                self.ids[member.id] = placed.id
        outputs = [replace(o, tensor=t) for o in self.old.outputs if not o.training for t in self.here(o.tensor)]
        plain = replace(self.old, training=None, narrowings=(), warnings=(), augment=None)
        return self.new.finish(plain, self.here, outputs)

    def inputs(self, node: Node) -> Iterator[Tensor]:
        """What a node takes; a size alone from a tensor that stays anyway, rather than from one kept for that."""
        for position, tensor in enumerate(node.inputs):
            found = tensor
            while position in node.operation.sized_by and (before := self.same_size(found)) is not None:
                found = before
                if self.last_use.get(found, 0) > node.id:
                    tensor = found
            yield tensor

    def same_size(self, tensor: Tensor) -> Tensor | None:
        """A tensor of the same size that one is made from."""
        node, shape = self.old.node(tensor), self.old.shape(tensor)
        alike = (t for t in node.sources if self.old.shape(t) == shape)
        return next((t for t in alike if self.old.node(t).windows is node.windows and node.batched), None)

    @cached_property
    def last_use(self) -> dict[Tensor, int]:
        """The last node that computes from each tensor."""
        return {t: node.id for node in self.old.nodes() if self.stays(node) for t in node.sources}

    def stays(self, member: Node | Scope) -> bool:
        if isinstance(member, Scope):
            return member in self.filled
        return member.id in self.fold.live and Tensor(member.id) not in self.fold.gone

    def here(self, tensor: Tensor) -> tuple[Tensor, ...]:
        """The replacement of a tensor in the new graph; empty if its node was removed."""
        found = self.fold.resolve(tensor)
        return (Tensor(self.ids[found.node], found.index),) if found.node in self.ids else ()

    def names(self, scope: Scope) -> Iterator[tuple[Node | Scope, str]]:
        """The remaining members of a scope, and their names; those without a label are renumbered.

        Alike in all calls of what is shared.
        """
        calls = self.calls[scope.path]
        remaining = {m.name for call in calls for m in call.members if self.stays(m)}
        stay = [m for m in calls[0].declared() if m.name in remaining]
        names: list[str] = []
        inputs = 0
        for member in stay:
            is_input = isinstance(member, Node) and member.operation.is_input
            inputs += is_input
            names.append(member.name if member.labelled or is_input else str(len(names) - inputs))
        if len({n.split(".")[0] for n in names}) < len({m.name.split(".")[0] for m in stay}):
            names = [m.name for m in stay]  # a label took one of the new names
        found = dict(zip([m.name for m in stay], names, strict=True))
        return ((m, found[m.name]) for m in scope.members if m.name in found)

    def operation(self, node: Node) -> Operation:
        """The operation of a node: with a bias if it absorbs a batchnorm, with default initialisation."""
        change: dict[str, object] = {"bias": True} if node.id in self.fold.biased else {}
        change |= {k: v for k, v in node.operation.in_evaluation().items() if vars(node.operation)[k] != v}
        start = type(node.operation).fields.get("init")
        if start is not None and vars(node.operation)["init"] != start.default:
            change["init"] = start.default
        if not change:
            return node.operation
        key = (id(node.operation), *change)
        if key not in self.operations:
            self.operations[key] = node.operation.changed(**change)
        return self.operations[key]

    def dropped(self) -> Iterator[str]:
        """The outermost members with weights of which nothing remains."""
        kept = {self.old.node(i).path for i in self.ids} | {norm.path for norm in self.fold.folded}
        stack: list[Node | Scope] = [self.old.root]
        while stack:
            member = stack.pop()
            if isinstance(member, Scope):
                if any(n.path in kept for n in member.nodes()):
                    stack.extend(reversed(member.members))
                    continue
            elif member.path in kept:
                continue
            if not member.again and _has_weights(self.old, member):
                yield member.path


def _has_weights(graph: Graph, member: Node | Scope) -> bool:
    """Whether a member contains weights."""
    nodes = [member] if isinstance(member, Node) else member.nodes()
    return any(node.operation.weights(graph.shapes(node.inputs)) for node in nodes)
