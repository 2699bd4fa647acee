"""A pipeline of stages: the bytes that each rank holds, and how long a step takes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from archdsl.analysis.simulation import Simulation
from archdsl.analysis.works import node_works, works_again
from archdsl.common.choices import OPTIMIZERS, Recomputing, Schedule
from archdsl.diagnostics import SpecError
from archdsl.graph import Graph
from archdsl.graph.series import Part
from archdsl.planning.held import Held, held
from archdsl.planning.schedules import Action, Run, orders, simulate
from archdsl.planning.stages import Split
from archdsl.transform.recompute import as_run
from archdsl.transform.recompute import recompute as choose

BACKWARD = 2
"""A backward pass takes about this many times as long as the forward pass."""


@dataclass(frozen=True, slots=True, eq=False)
class Pipeline:
    """A network in stages, on as many ranks as it says, with micro-batches of so many samples.

    `peaks` are the bytes of each rank, `run` is a step in units of the forward pass of one sample through the network.
    """

    split: Split
    schedule: Schedule
    ranks: int
    microbatches: int
    microbatch: int
    peaks: tuple[int, ...]
    run: Run


def pipeline(
    parts: Split,
    schedule: Schedule,
    ranks: int,
    microbatches: int,
    microbatch: int,
    optimizer: str = "adam",
    *,
    cpu: bool = False,
    recompute: Recomputing = "none",
) -> Pipeline:
    """What a pipeline holds, and how long a step takes if sending takes no time."""
    order = orders(schedule, len(parts.parts), ranks, microbatches)
    last = len(parts.parts) - 1
    helds, backward = [], []
    forward = [part.work * microbatch for part in parts.parts]
    for number, stage in enumerate(parts.stages):
        graph, again = as_recomputed(stage.graph, recompute)
        several, received = microbatches > 1, number < last
        found = held(graph, parts.sizes, parts.dtype, cpu=cpu, recompute=again, accumulates=several, received=received)
        helds.append(found)
        run = Simulation.of(graph, parts.sizes, parts.dtype)
        works = node_works(graph, parts.sizes, parts.dtype, run)
        backward.append(forward[number] * (BACKWARD + works_again(run, works, again) / (sum(works) or 1)))
    peaks = tuple(peak(parts, helds, actions, microbatches, microbatch, OPTIMIZERS[optimizer]) for actions in order)
    return Pipeline(
        parts,
        schedule,
        ranks,
        microbatches,
        microbatch,
        peaks,
        simulate(order, forward, backward, [0.0] * len(forward)),
    )


def as_recomputed(graph: Graph, how: Recomputing) -> tuple[Graph, frozenset[Part]]:
    """The graph as it runs, and the parts that run again: none where there is nothing to recompute."""
    try:
        return as_run(graph, choose(graph, how))
    except SpecError:
        return graph, frozenset()


def peak(
    parts: Split, helds: Sequence[Held], actions: Sequence[Action], microbatches: int, microbatch: int, state: int
) -> int:
    """The bytes that a rank holds at most.

    PyTorch makes the buffers for what is received once for all micro-batches: inputs, and gradients of outputs.
    """
    batch, last = microbatches * microbatch, len(helds) - 1
    fixed = 0
    for stage in {stage for _, stage, _ in actions}:
        part, own = parts.parts[stage], helds[stage]
        fixed += own.weights + own.gradients * (1 + state)
        fixed += batch * (part.takes + (part.gives if stage < last else 0))
    alone = {s: helds[s].between.at(microbatch) - microbatch * parts.parts[s].takes for _, s, _ in actions}
    steps = {
        s: helds[s].peak.at(microbatch) - helds[s].weights - helds[s].gradients - microbatch * parts.parts[s].takes
        for s in alone
    }
    now = most = 0
    for kind, stage, _ in actions:
        if kind == "F":
            now += alone[stage]
            most = max(most, now)
        else:
            most = max(most, now - alone[stage] + steps[stage])
            now -= alone[stage]
    return fixed + most
