"""How long nodes take, in operations: a measure to compare parts of a network by, not a prediction for a machine."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from archdsl.analysis.costs import costs
from archdsl.analysis.simulation import Simulation
from archdsl.analysis.training import rerun
from archdsl.common.choices import BYTES
from archdsl.graph import Graph, Tensor
from archdsl.graph.series import Part

BALANCE = 16
"""The operations that a machine does while it moves one byte; CPUs and GPUs are between 5 and 40."""


def node_works(graph: Graph, sizes: Mapping[str, int], dtype: str, run: Simulation | None = None) -> list[float]:
    """The work of each node in the forward pass of a sample: its operations, and those in the time its bytes take.

    `run` is a simulation with these sizes and number type, if there is one.
    """
    run = run or Simulation.of(graph, sizes, dtype)
    macs = costs(graph, sizes)
    found = []
    for node in graph.nodes():
        moved = sum(run.bytes(t) for t in (*node.inputs, *(Tensor(node.id, i) for i in range(len(node.shapes)))))
        moved += sum(run.bytes(t) for t in node.inputs) if node.operation.reads_twice else 0
        views = bool(node.inputs) and node.operation.shares(0) is not None
        found.append(2.0 * macs[node].macs + (0 if views else BALANCE * moved * 4 / BYTES[dtype]))
    return found


def works_again(run: Simulation, works: Sequence[float], parts: Collection[Part]) -> float:
    """The work of recomputing parts of a network, whose nodes take `works`."""
    return sum(works[node.id] for part in parts for node in rerun(run, [*part.nodes()]))
