"""The memory of a network: weights, and the peaks of inference and of a training step.

Every moment of a run needs a constant number of bytes plus a number per sample; a peak is the largest of them for a
batch. Counted are the tensors of PyTorch's eager mode with the built module: outputs live as long as its variables and
callers reference them, activations and additions run in place where nothing else needs their input, and a training step
keeps what autograd saves. On a CPU this includes the copies that oneDNN's convolutions make while they run (on one
thread PyTorch computes 1×1 ones without it, and without copies, for batches below 16), but not the workspaces of other
kernels or the overhead of an allocator.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import prod

from archdsl.analysis.carried import Carried
from archdsl.analysis.costs import IntShape, sample_counts, sized_shapes
from archdsl.analysis.layout import Layout
from archdsl.analysis.ledger import Ledger, Moment, Peak
from archdsl.analysis.overwriting import Overwriting
from archdsl.common.choices import BYTES, OPTIMIZERS
from archdsl.common.threads import cached_property
from archdsl.graph import Graph, Node, Scope, Tensor
from archdsl.ops.base import Kept, Saves
from archdsl.ops.sizes import ints


@dataclass(frozen=True, slots=True, eq=False)
class Memory:
    """The memory of a network in bytes.

    `weights` are its parameters and buffers, `trainable` those with gradients. `saved` is what autograd keeps between
    the forward and the backward pass, except weights.
    """

    weights: int
    trainable: int
    saved: Moment
    inference: Peak
    _step: Peak

    def state(self, optimizer: str) -> int:
        """The state of an optimiser, one of OPTIMIZERS."""
        return OPTIMIZERS[optimizer] * self.trainable

    def training(self, optimizer: str) -> Peak:
        """The peak of a training step: weights, optimiser state, gradients, and saved tensors."""
        state = self.state(optimizer)
        return Peak.of(Moment(m.fixed + state, m.sample, m.node) for m in self._step.moments)


def memory(
    graph: Graph,
    sizes: Mapping[str, int] | None = None,
    dtype: str = "float32",
    *,
    cpu: bool = True,
    recompute: Collection[Scope] = (),
    evaluates: bool = False,
) -> Memory:
    """The memory of a checked graph, for `dtype`, one of BYTES; `cpu` includes the copies of convolutions on a CPU.

    The scopes in `recompute`, none inside another, store only their inputs in a training step, and are recomputed
    (activation checkpointing). `evaluates`: it is the form for inference, whose peak of a training step means nothing.
    Free sizes missing in `sizes` have their values in `graph.examples`.
    """
    run = Simulation.of(graph, sizes, dtype, cpu=cpu, recompute=recompute)
    run.evaluates = evaluates
    inference = run.inference()
    step, saved = run.step()
    return Memory(run.weights, run.trainable, saved, inference, step)


@dataclass(eq=False)
class Simulation:
    """Simulates runs of a graph, in the order of its nodes. `recompute` may change between runs."""

    graph: Graph
    shapes: tuple[tuple[IntShape, ...], ...]
    samples: tuple[int, ...]
    """The number of windows of a sample that each node gives a result of, 1 outside of windows."""
    width: int
    cpu: bool
    recompute: Collection[Scope]
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
        recompute: Collection[Scope] = (),
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

    def step(self) -> tuple[Peak, Moment]:
        """A training step, and the tensors saved between its passes."""
        ledger = Ledger(self.weights)
        saved = self.train(ledger)
        return ledger.peak(), saved

    def train(self, ledger: Ledger) -> Moment:
        """Records a training step; returns the tensors saved between its passes."""
        graph = self.graph
        buffers = self.buffers(training=True)
        outputs = [o.tensor for o in graph.outputs]
        freed = self.last_uses(buffers, outputs)
        differentiable: set[Tensor] = set()
        kept: dict[int, list[object]] = {}
        again = {node.id: scope for scope in self.recompute for node in scope.nodes()}
        for node in graph.nodes():
            results = [Tensor(node.id, i) for i in range(len(node.shapes))]
            for result in results:
                if not ledger.holders[buffers[result]]:
                    ledger.hold(buffers[result], *self.room(buffers[result]))
            if self.gradients.get(node.id) or any(t in differentiable for t in node.sources):
                if node.id not in again:
                    kept[node.id] = self.keep(node, buffers, ledger, differentiable)
                differentiable.update(results)
            if (scope := again.get(node.id)) is not None and next(scope.nodes()) is node:
                kept[node.id] = list(self.entering(scope, buffers))
                for buffer in kept[node.id]:
                    ledger.hold(buffer)
            ledger.note(node)
            self.copies(node, ledger)
            for buffer in freed.get(node.id, ()):
                ledger.release(buffer)
        saved = self.saved(kept, ledger)
        Backward(self, ledger, differentiable, kept, buffers, again).run(outputs)
        return saved

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

    def saved(self, kept: Mapping[int, Sequence[object]], ledger: Ledger) -> Moment:
        found = {b: ledger.sizes[b] for held in kept.values() for b in held}
        return Moment(sum(f for f, _ in found.values()), sum(s for _, s in found.values()))


@dataclass(slots=True, eq=False)
class Backward:
    """The backward pass: gradients of outputs, from the last node to the first, and of weights, which stay."""

    run_: Simulation
    ledger: Ledger
    differentiable: set[Tensor]
    kept: dict[int, list[object]]
    buffers: Mapping[Tensor, Tensor]
    again: Mapping[int, Scope]
    gradients: dict[Tensor, object] = field(default_factory=dict)
    made: int = 0

    def run(self, outputs: Sequence[Tensor]) -> None:
        for tensor in dict.fromkeys(outputs):
            if tensor in self.differentiable:
                self.gradients[tensor] = self.new(tensor)
        self.ledger.note(None)
        redone: set[Scope] = set()
        for node in reversed(list(self.run_.graph.nodes())):
            scope = self.again.get(node.id)
            if scope is not None and scope not in redone:
                redone.add(scope)
                self.redo(scope)
            results = [Tensor(node.id, i) for i in range(len(node.shapes))]
            own = {r: self.gradients.pop(r) for r in results if r in self.gradients}
            if own:
                self.pass_back(node, own)
            for buffer in (*own.values(), *self.kept.get(node.id, ())):
                self.ledger.release(buffer)

    def redo(self, scope: Scope) -> None:
        """Runs the forward pass of a scope again, now saving its tensors."""
        nodes = list(scope.nodes())
        inside = {node.id for node in nodes}
        local: dict[Tensor, object] = {}
        last: dict[object, int] = {}
        for node in nodes:
            for tensor in (*node.inputs, *(Tensor(node.id, i) for i in range(len(node.shapes)))):
                buffer = self.buffers[tensor]
                local[tensor] = ("again", buffer) if buffer.node in inside else buffer
                if buffer.node in inside:
                    last[local[tensor]] = node.id
        freed: dict[int, list[object]] = {}
        for mine, node_id in last.items():
            freed.setdefault(node_id, []).append(mine)
        for node in nodes:
            for i in range(len(node.shapes)):
                result = Tensor(node.id, i)
                if not self.ledger.holders[local[result]]:
                    self.ledger.hold(local[result], *self.run_.room(self.buffers[result]))
            if Tensor(node.id) in self.differentiable:
                held = self.run_.keep(node, local, self.ledger, self.differentiable)
                self.kept[node.id] = [*self.kept.get(node.id, ()), *held]
            self.ledger.note(node)
            self.run_.copies(node, self.ledger)
            for mine in freed.get(node.id, ()):
                self.ledger.release(mine)

    def new(self, tensor: Tensor) -> object:
        """The gradient of a tensor."""
        self.made += 1
        key = "gradient", self.made
        self.ledger.hold(key, *self.run_.room(tensor))
        return key

    def pass_back(self, node: Node, own: Mapping[Tensor, object]) -> None:
        """The gradients of a node's weights and inputs."""
        weights = self.run_.gradients.get(node.id, 0)
        more: object = None
        if weights and self.ledger.holders[("weights", node.path)]:
            more = "more", node.id  # another call of it has left a gradient, to which this one is added
            self.ledger.hold(more, fixed=weights)
        elif weights:
            self.ledger.hold(("weights", node.path), fixed=weights)
        arrived: list[tuple[Tensor, object]] = []
        for position, tensor in enumerate(node.inputs):
            if tensor not in self.differentiable or position in node.operation.sized_by:
                continue
            through = self.same(node, position, own)
            if through is None:
                arrived.append((tensor, self.new(tensor)))
            else:
                self.ledger.hold(through)
                arrived.append((tensor, through))
        within = sum(self.run_.size(kept, node) for kept in self.run_.saves(node, False, self.differentiable).within)
        outside = sum(self.run_.bytes(t) for t in (*own, *(tensor for tensor, _ in arrived)))
        self.ledger.note(node, max(0, within - outside))
        self.run_.copies(node, self.ledger, backward=True)
        if more is not None:
            self.ledger.release(more)
        for tensor, gradient in arrived:
            self.add(tensor, gradient, node)

    def same(self, node: Node, position: int, own: Mapping[Tensor, object]) -> object | None:
        """The gradient of an output that is also an input's gradient, or contains it."""
        (first, *others) = own.values()
        repeated = node.batched and not self.run_.graph.node(node.inputs[position]).batched  # then it is a sum
        return first if not others and not repeated and node.operation.passes_gradient(position) else None

    def add(self, tensor: Tensor, gradient: object, node: Node) -> None:
        """Adds a gradient to those that arrived before: in place, if nothing else references one of the two."""
        before = self.gradients.get(tensor)
        if before is None:
            self.gradients[tensor] = gradient
            return
        holders, (sample, fixed) = self.ledger.holders, self.run_.room(tensor)
        for target, other in ((before, gradient), (gradient, before)):
            if holders[target] == 1 and self.ledger.sizes[target] == (fixed, sample):
                self.gradients[tensor] = target
                self.ledger.release(other)
                return
        self.gradients[tensor] = self.new(tensor)
        self.ledger.note(node)
        self.ledger.release(before)
        self.ledger.release(gradient)
