"""A simulated training step: the forward pass with what autograd saves, and the backward pass with what runs again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from archdsl.analysis.ledger import Ledger, Moment, Peak
from archdsl.analysis.simulation import Simulation
from archdsl.graph import Node, Tensor
from archdsl.graph.series import Part


def step(simulation: Simulation) -> tuple[Peak, Moment]:
    """The peak of a training step, and the tensors saved between its passes."""
    ledger = Ledger(simulation.weights)
    saved = train(simulation, ledger)
    return ledger.peak(), saved


def train(simulation: Simulation, ledger: Ledger) -> Moment:
    """Records a training step; returns the tensors saved between its passes."""
    made = Step(simulation, ledger, simulation.buffers(training=True))
    made.forward()
    saved = made.saved()
    made.backward()
    return saved


def rerun(simulation: Simulation, nodes: Sequence[Node]) -> Sequence[Node]:
    """Those of some nodes that run when these are recomputed: all until what autograd saves of them is there.

    This is what `torch.utils.checkpoint` does (`early_stop`).
    """
    for count in range(len(nodes), 0, -1):
        node = nodes[count - 1]
        saves = simulation.saves(node, False)
        if saves.outputs or saves.inputs or saves.more:
            return nodes[: count - (node.operation.saves_first and not saves.outputs)]
    return nodes


@dataclass(slots=True, eq=False)
class Step:
    """A training step as it goes on."""

    simulation: Simulation
    ledger: Ledger
    buffers: Mapping[Tensor, Tensor]
    differentiable: set[Tensor] = field(default_factory=set)
    kept: dict[int, list[object]] = field(default_factory=dict)
    """The buffers that are kept for the backward pass of each node."""
    again: dict[int, Part] = field(default_factory=dict)
    """The recomputed part that a node is in."""
    gradients: dict[Tensor, object] = field(default_factory=dict)
    made: int = 0

    @property
    def outputs(self) -> list[Tensor]:
        return [o.tensor for o in self.simulation.graph.outputs]

    def forward(self) -> None:
        """Runs all nodes, saving what autograd saves."""
        run, ledger, buffers = self.simulation, self.ledger, self.buffers
        freed = run.last_uses(buffers, self.outputs)
        self.again = {node.id: part for part in run.recompute for node in part.nodes()}
        for node in run.graph.nodes():
            results = [Tensor(node.id, i) for i in range(len(node.shapes))]
            for result in results:
                if not ledger.holders[buffers[result]]:
                    ledger.hold(buffers[result], *run.room(buffers[result]))
            if run.gradients.get(node.id) or any(t in self.differentiable for t in node.sources):
                if node.id not in self.again:
                    self.kept[node.id] = run.keep(node, buffers, ledger, self.differentiable)
                self.differentiable.update(results)
            if (part := self.again.get(node.id)) is not None and next(part.nodes()) is node:
                self.kept[node.id] = [*dict.fromkeys(buffers[t] for t in part.inflow())]
                for buffer in self.kept[node.id]:
                    ledger.hold(buffer)
            ledger.note(node)
            run.copies(node, ledger)
            for buffer in freed.get(node.id, ()):
                ledger.release(buffer)

    def saved(self) -> Moment:
        """The bytes of what is kept for the backward pass."""
        found = {b: self.ledger.sizes[b] for held in self.kept.values() for b in held}
        return Moment(sum(f for f, _ in found.values()), sum(s for _, s in found.values()))

    def backward(self) -> None:
        """The gradients of outputs, from the last node to the first, and of weights, which stay."""
        for tensor in dict.fromkeys(self.outputs):
            if tensor in self.differentiable:
                self.gradients[tensor] = self.new(tensor)
        self.ledger.note(None)
        redone: set[Part] = set()
        for node in reversed(list(self.simulation.graph.nodes())):
            part = self.again.get(node.id)
            if part is not None and part not in redone:
                redone.add(part)
                self.redo(part)
            results = [Tensor(node.id, i) for i in range(len(node.shapes))]
            own = {r: self.gradients.pop(r) for r in results if r in self.gradients}
            if own:
                self.pass_back(node, own)
            for buffer in (*own.values(), *self.kept.get(node.id, ())):
                self.ledger.release(buffer)

    def redo(self, part: Part) -> None:
        """Runs the forward pass of a part again, now saving its tensors."""
        run, ledger = self.simulation, self.ledger
        nodes = list(part.nodes())
        running = {node.id for node in rerun(run, nodes)}
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
            for i in range(len(node.shapes) if node.id in running else 0):
                result = Tensor(node.id, i)
                if not ledger.holders[local[result]]:
                    ledger.hold(local[result], *run.room(self.buffers[result]))
            if Tensor(node.id) in self.differentiable:
                held = run.keep(node, local, ledger, self.differentiable)
                self.kept[node.id] = [*self.kept.get(node.id, ()), *held]
            ledger.note(node)
            if node.id in running:
                run.copies(node, ledger)
            for mine in freed.get(node.id, ()):
                if ledger.holders[mine]:  # the results of what does not run are never there
                    ledger.release(mine)

    def new(self, tensor: Tensor) -> object:
        """The gradient of a tensor."""
        self.made += 1
        key = "gradient", self.made
        self.ledger.hold(key, *self.simulation.room(tensor))
        return key

    def pass_back(self, node: Node, own: Mapping[Tensor, object]) -> None:
        """The gradients of a node's weights and inputs."""
        weights = self.simulation.gradients.get(node.id, 0)
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
        within = sum(
            self.simulation.size(kept, node) for kept in self.simulation.saves(node, False, self.differentiable).within
        )
        outside = sum(self.simulation.bytes(t) for t in (*own, *(tensor for tensor, _ in arrived)))
        self.ledger.note(node, max(0, within - outside))
        self.simulation.copies(node, self.ledger, backward=True)
        if more is not None:
            self.ledger.release(more)
        for tensor, gradient in arrived:
            self.add(tensor, gradient, node)

    def same(self, node: Node, position: int, own: Mapping[Tensor, object]) -> object | None:
        """The gradient of an output that is also an input's gradient, or contains it."""
        (first, *others) = own.values()
        repeated = node.batched and not self.simulation.graph.node(node.inputs[position]).batched  # then it is a sum
        return first if not others and not repeated and node.operation.passes_gradient(position) else None

    def add(self, tensor: Tensor, gradient: object, node: Node) -> None:
        """Adds a gradient to those that arrived before: in place, if nothing else references one of the two."""
        before = self.gradients.get(tensor)
        if before is None:
            self.gradients[tensor] = gradient
            return
        holders, (sample, fixed) = self.ledger.holders, self.simulation.room(tensor)
        for target, other in ((before, gradient), (gradient, before)):
            if holders[target] == 1 and self.ledger.sizes[target] == (fixed, sample):
                self.gradients[tensor] = target
                self.ledger.release(other)
                return
        self.gradients[tensor] = self.new(tensor)
        self.ledger.note(node)
        self.ledger.release(before)
        self.ledger.release(gradient)
