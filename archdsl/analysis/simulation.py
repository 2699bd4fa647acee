"""Simulates runs of a network's built module in PyTorch's eager mode: which tensors are in memory when.

Outputs live as long as its variables and callers reference them, activations and additions run in place where nothing
else needs their input. `training` continues it to the backward pass.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace
from math import prod

from archdsl.analysis.carried import Carried
from archdsl.analysis.costs import IntShape, sample_counts, sized_shapes
from archdsl.analysis.layout import Layout
from archdsl.analysis.ledger import Ledger, Peak
from archdsl.analysis.overwriting import Overwriting
from archdsl.common.choices import BYTES
from archdsl.common.threads import cached_property
from archdsl.graph import Graph, Node, Scope, Tensor
from archdsl.graph.series import Part
from archdsl.ops.base import Kept, Saves
from archdsl.ops.sizes import ints


@dataclass(eq=False)
class Simulation:
    """Simulates runs of a graph, in the order of its nodes. `recompute` may change between runs."""

    graph: Graph
    shapes: tuple[tuple[IntShape, ...], ...]
    samples: tuple[int, ...]
    """The number of windows of a sample that each node gives a result of, 1 outside of windows."""
    width: int
    cpu: bool
    recompute: Collection[Part]
    evaluates: bool = False
    """Whether the graph is the form for inference: it overwrites more, and lets go of what nothing reads any more."""
    weights: int = 0
    trainable: int = 0
    """Bytes of parameters and buffers, and of the parameters with gradients."""
    gradients: dict[int, int] = field(default_factory=dict)
    """Bytes of the gradients of each node's weights."""
    pieces: set[Tensor] = field(default_factory=set)
    """Views that are not contiguous."""
    turned: set[int] = field(default_factory=set)
    """The ids of the nodes whose inputs lie in memory in another order of the axes than they read them in."""
    _bytes: dict[Tensor, int] = field(default_factory=dict)
    _saves: dict[tuple[int, bool], Saves] = field(default_factory=dict)

    @staticmethod
    def of(
        graph: Graph,
        sizes: Mapping[str, int] | None = None,
        dtype: str = "float32",
        *,
        cpu: bool = True,
        recompute: Collection[Part] = (),
    ) -> Simulation:
        """Takes what `memory` does."""
        values = {**graph.examples, **(sizes or {})}
        shapes, samples = sized_shapes(graph, values), sample_counts(graph, values)
        run = Simulation(graph, shapes, samples, BYTES[dtype], cpu, recompute)
        for node, weight in graph.weights():
            size = weight.bytes(run.width)
            run.weights += size
            run.gradients[node.id] = run.gradients.get(node.id, 0) + (size if weight.trainable else 0)
            run.trainable += size if weight.trainable else 0
        for path, nodes in graph.called_again().items():
            own = next(node for node in graph.nodes() if node.path == path)
            run.gradients.update({node.id: run.gradients[own.id] for node in nodes if own.id in run.gradients})
        return run

    @cached_property
    def layout(self) -> Layout:
        found = Layout.of(self.graph)
        self.find_turned(found)
        return found

    @cached_property
    def carried(self) -> Carried:
        return Carried(self.graph)

    def incoming(self, node: Node) -> tuple[IntShape, ...]:
        return tuple(self.shapes[t.node][t.index] for t in node.inputs)

    def bytes(self, tensor: Tensor) -> int:
        """The bytes of a tensor's own memory; one that is a weight has none besides."""
        found = self._bytes.get(tensor)
        if found is None:
            learned = self.graph.node(tensor).operation.is_learned
            size = prod(self.shapes[tensor.node][tensor.index]) * self.samples[tensor.node] * self.width
            found = self._bytes[tensor] = 0 if learned else size
        return found

    def room(self, tensor: Tensor) -> tuple[int, int]:
        """The bytes of a tensor for each sample, and those that are the same for every batch."""
        size = self.bytes(tensor)
        return (size, 0) if self.graph.node(tensor).batched else (0, size)

    def saves(self, node: Node, inplace: bool, differentiable: Collection[Tensor] = ()) -> Saves:
        """The tensors that a node saves, with contiguous copies of inputs that it reads in another axis order."""
        operation, shapes = node.operation, self.incoming(node)
        found = self._saves.get((node.id, inplace))
        if found is None:
            found = self._saves[node.id, inplace] = operation.saves(shapes, self.shapes[node.id], inplace)
        if found.unlearned is not None and node.inputs[operation.bias_at or 0] not in differentiable:
            found = found.unlearned
        copied = operation.projected(len(shapes))
        if found.inputs and copied and node.id in self.turned:
            moved = [*(shapes[i] for i in copied), *(self.shapes[node.id] if found.outputs else ())]
            more = (Kept(shape, always=not operation.own) for shape in moved)
            return replace(found, inputs=False, outputs=False, more=(*found.more, *more))
        return found

    def copies(self, node: Node, ledger: Ledger, made: int = 0, *, backward: bool = False) -> None:
        """Records the moments in which a CPU convolution holds copies of its tensors in oneDNN's layout.

        `made` are additional bytes of the operation.
        """
        copies = node.operation.copies(self.incoming(node)) if self.cpu else None
        if copies is None:
            return
        coming, going = made or self.bytes(node.inputs[0]), self.bytes(Tensor(node.id))
        kernel = self.width * max(prod(w.shape) for w in node.operation.weights(self.graph.shapes(node.inputs)))
        if node.inputs[0] in self.pieces:
            made += coming  # made contiguous first

        def note(of_sample: int = 0, fixed: int = 0) -> None:
            ledger.note(node, *((of_sample, fixed) if node.batched else (0, of_sample + fixed)))

        if backward:
            note(coming + going)
            note(fixed=kernel)
            if copies.strided:
                note(2 * coming)
        elif copies.transposed:
            note(made + 2 * going)
        else:
            note(made + coming, kernel)
            note(made + going)

    def size(self, kept: Kept, node: Node) -> int:
        samples = self.samples[node.id] if kept.batched else 1
        return prod(ints(kept.shape)) * samples * (self.width if kept.dtype == "float" else 8)

    def buffers(self, *, training: bool) -> dict[Tensor, Tensor]:
        """The tensor whose memory each tensor uses: itself, its base if it is a view, or the one that it overwrote."""
        graph = self.graph
        overwriting = Overwriting.of(graph, self.recompute, inference=self.evaluates, moved=self.layout.moved)
        found: dict[Tensor, Tensor] = {}
        whole: dict[Tensor, bool] = {}
        for node in graph.nodes():
            for i in range(len(node.shapes)):
                result = Tensor(node.id, i)
                source: int | None = node.operation.shares(i)
                if node.operation.needs_whole and (not whole[node.inputs[0]] or node.id in self.turned):
                    source = None  # a non-contiguous tensor is copied
                if node.operation.training_only and not training:
                    source = 0
                if overwriting.activates(node):
                    source = 0
                if source is None:
                    source = next(iter(overwriting.grows(node)), None)
                found[result] = result if source is None else found[node.inputs[source]]
                whole[result] = source is None or (
                    whole[node.inputs[source]] and self.bytes(result) == self.bytes(node.inputs[source])
                )
                if node.operation.reorders:
                    whole[result] = False
        self.pieces = {t for t, one in whole.items() if not one}
        return found

    def find_turned(self, layout: Layout) -> None:
        """Finds out in which order of the axes tensors lie in memory: layers keep that of what flows in, mostly."""
        lasts: set[Tensor] = set()
        for node in self.graph.nodes():
            wants_last = node.operation.layout == "last"
            reads_last = wants_last or node.id in layout.last
            shape = self.incoming(node)[0] if node.inputs else ()
            comes_last = bool(node.inputs) and node.inputs[0] in lasts
            if prod(shape[1:]) > 1 and comes_last is not reads_last:
                self.turned.add(node.id)
            # A layer of PyTorch for a signal has no channels-last memory.
            keeps = comes_last and (len(shape) > 2 or node.operation.layout != "first")
            new = node.operation.needs_whole or node.operation.cuts or node.operation.joins
            if wants_last or (reads_last if new else keeps):
                lasts.update(Tensor(node.id, i) for i in range(len(node.shapes)))

    def last_uses(self, buffers: Mapping[Tensor, Tensor], outputs: Iterable[Tensor]) -> dict[int, list[Tensor]]:
        """The buffers that are freed after each node.

        A block's caller references the block's input until it returns, as does a result with which a nested call of the
        same block ends: it is in the variable that is returned. The form for inference keeps nothing else longer than
        it is read: see `releases`. Inputs and outputs belong to the user.
        """
        last: dict[Tensor, int] = {}
        for node in self.graph.nodes():
            for i in range(len(node.shapes)):
                buffer = buffers[Tensor(node.id, i)]
                last[buffer] = max(last.get(buffer, 0), node.id)
            for tensor in node.inputs:
                last[buffers[tensor]] = node.id
        ends: dict[Scope, int] = {}
        for scope in reversed(list(self.graph.root.scopes())):
            ends[scope] = max((m.id if isinstance(m, Node) else ends[m] for m in scope.members), default=-1)
            for tensor in (*scope.inputs, *(() if self.evaluates else self.carried.by(scope))):
                last[buffers[tensor]] = max(last[buffers[tensor]], ends[scope])
            if self.evaluates:
                continue
            # The results of an align stay in variables until the next align, or until the block returns.
            aligns = [m for m in scope.members if isinstance(m, Node) and len(m.shapes) == len(m.inputs) > 1]
            until = [*(m.id for m in aligns[1:]), ends[scope]]
            for node, end in zip(aligns, until, strict=False):
                for i in range(len(node.shapes)):
                    last[buffers[Tensor(node.id, i)]] = max(last[buffers[Tensor(node.id, i)]], end)
        held = {buffers[t] for t in outputs} | {Tensor(n.id) for n in self.graph.input_nodes}
        found: dict[int, list[Tensor]] = {}
        for buffer, node_id in last.items():
            if buffer not in held:
                found.setdefault(node_id, []).append(buffer)
        return found

    def inference(self) -> Peak:
        """The peak of a forward pass without gradients."""
        ledger = Ledger(self.weights)
        self.infer(ledger)
        return ledger.peak()

    def infer(self, ledger: Ledger) -> None:
        """Records a forward pass without gradients."""
        outputs = [o.tensor for o in self.graph.outputs if not o.training]
        live = self.graph.ancestors(outputs)
        buffers = self.buffers(training=False)
        freed = self.last_uses(buffers, outputs)
        for node in self.graph.nodes():
            if node.id not in live:
                continue
            for i in range(len(node.shapes)):
                buffer = buffers[Tensor(node.id, i)]
                if not ledger.holders[buffer]:
                    ledger.hold(buffer, *self.room(buffer))
            made = self.made(node)
            ledger.note(node, made)
            self.copies(node, ledger, made)
            for buffer in freed.get(node.id, ()):
                if ledger.holders[buffer]:
                    ledger.release(buffer)

    def made(self, node: Node) -> int:
        """Temporary bytes of an operation: a padded copy, the indices of maxima, the terms of an lrn."""
        return sum(self.size(kept, node) for kept in self.saves(node, False).more if kept.always)

    def entering(self, scope: Scope, buffers: Mapping[Tensor, Tensor]) -> dict[object, None]:
        """The buffers from outside that a scope reads."""
        return dict.fromkeys(buffers[t] for t in scope.inflow())

    def keep(
        self, node: Node, buffers: Mapping[Tensor, object], ledger: Ledger, differentiable: set[Tensor]
    ) -> list[object]:
        """Adds references to what autograd saves of a node."""
        weights = self.gradients.get(node.id)
        inplace = any(buffers[Tensor(node.id, i)] == buffers[t] for i in range(len(node.shapes)) for t in node.inputs)
        saves = self.saves(node, inplace, differentiable)
        bias_at = node.operation.bias_at
        held: list[object] = []
        # A convolution that keeps a padded copy needs its input only for the gradient of the padding.
        if saves.inputs and (not saves.more or not weights or node.inputs[0] in differentiable):
            held += dict.fromkeys(buffers[t] for t in node.inputs[:bias_at])
        if bias_at is not None and any(t not in differentiable for t in node.inputs[bias_at:]):
            held += (buffers[t] for t in node.inputs[bias_at:])
        if saves.outputs:
            held += (buffers[Tensor(node.id, i)] for i in range(len(node.shapes)))
        for buffer in held:
            ledger.hold(buffer)
        for number, more in enumerate(saves.more):
            key = "kept", node.id, number
            size = self.size(more, node)
            ledger.hold(key, *((size, 0) if more.batched and node.batched else (0, size)))
            held.append(key)
        return held
