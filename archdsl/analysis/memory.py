"""The memory of a network: weights, and the peaks of inference and of a training step.

Every moment of a run needs a constant number of bytes plus a number per sample; a peak is the largest of them for a
batch. Counted are the tensors of PyTorch's eager mode with the built module: outputs live as long as its variables and
callers reference them, activations and additions run in place where nothing else needs their input, and a training step
keeps what autograd saves. On a CPU this includes the copies that oneDNN's convolutions make while they run (on one
thread PyTorch computes 1×1 ones without it, and without copies, for batches below 16), but not the workspaces of other
kernels or the overhead of an allocator.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from archdsl.analysis.ledger import Moment, Peak
from archdsl.analysis.simulation import Simulation
from archdsl.analysis.training import step
from archdsl.common.choices import OPTIMIZERS
from archdsl.graph import Graph
from archdsl.graph.series import Part


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
    recompute: Collection[Part] = (),
    evaluates: bool = False,
) -> Memory:
    """The memory of a checked graph, for `dtype`, one of BYTES; `cpu` includes the copies of convolutions on a CPU.

    The parts in `recompute`, none inside another, store only their inputs in a training step, and are recomputed
    (activation checkpointing). `evaluates`: it is the form for inference, whose peak of a training step means nothing.
    Free sizes missing in `sizes` have their values in `graph.examples`.
    """
    run = Simulation.of(graph, sizes, dtype, cpu=cpu, recompute=recompute)
    run.evaluates = evaluates
    inference = run.inference()
    peak, saved = step(run)
    return Memory(run.weights, run.trainable, saved, inference, peak)
