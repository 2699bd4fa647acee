"""The bytes that one rank holds during a training step, for any micro-batch.

The simulation of a single step (`analysis.memory`) runs on a ledger of its own: it says what a micro-batch holds
between its passes, so that a pipeline can hold several, and may start with gradients of micro-batches before it.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from archdsl.analysis.ledger import Ledger, Moment, Peak
from archdsl.analysis.simulation import Simulation
from archdsl.analysis.training import train
from archdsl.graph import Graph, Node
from archdsl.graph.series import Part
from archdsl.transform.stages import differentiable


@dataclass(frozen=True, slots=True, eq=False)
class Held:
    """The bytes of a training step on one micro-batch: its peak, and what it holds between its passes.

    `between` counts the micro-batch alone, with its inputs and outputs, without weights. `weights` are parameters and
    buffers, `gradients` those of the parameters.
    """

    peak: Peak
    between: Moment
    weights: int
    gradients: int


@dataclass(slots=True)
class Recorder(Ledger):
    """A ledger that remembers what was held between the passes.

    `received`: the gradients of the outputs come from elsewhere, and are counted there.
    """

    between: Moment | None = None
    received: bool = False

    def hold(self, buffer: object, sample: int = 0, fixed: int = 0) -> None:
        of_output = self.between is None and isinstance(buffer, tuple) and buffer[0] == "gradient"
        if self.received and of_output:
            sample = fixed = 0
        Ledger.hold(self, buffer, sample, fixed)

    def note(self, node: Node | None, sample: int = 0, fixed: int = 0) -> None:
        Ledger.note(self, node, sample, fixed)
        if node is None:
            self.between = Moment(self.fixed, self.sample)


def held(
    graph: Graph,
    sizes: Mapping[str, int],
    dtype: str,
    *,
    cpu: bool = False,
    recompute: Collection[Part] = (),
    accumulates: bool = False,
    received: bool = False,
) -> Held:
    """What a step of a graph holds.

    `accumulates`: gradients of a micro-batch before it are there, and are added to. `received`: the gradients of the
    outputs come from another rank, and are not counted.
    """
    run = Simulation.of(graph, sizes, dtype, cpu=cpu, recompute=recompute)
    ledger = Recorder(run.weights, received=received)
    if accumulates:
        for node in graph.nodes():
            if run.gradients.get(node.id) and not node.again:
                ledger.hold(("weights", node.path), fixed=run.gradients[node.id])
    before = ledger.fixed
    train(run, ledger)
    assert ledger.between is not None
    learned = set() if received else differentiable(graph)
    rooms = [run.room(t) for t in dict.fromkeys(o.tensor for o in graph.outputs) if t in learned]
    between = Moment(
        ledger.between.fixed - before - sum(fixed for _, fixed in rooms),
        ledger.between.sample - sum(sample for sample, _ in rooms),
    )
    return Held(ledger.peak(), between, run.weights, run.trainable)
