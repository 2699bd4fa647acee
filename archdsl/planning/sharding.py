"""The bytes that a rank holds where weights are sharded (FSDP2), and those that it sends.

Every weight is cut along its first axis into equal parts, the last ones padded. A unit is gathered before it runs: into
a buffer, and from there into weights. In the backward pass the next unit is gathered while one runs, and the gradients
of a unit are copied into a buffer before they are reduced. Zhao et al., PyTorch FSDP, 2023 (arXiv:2304.11277).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from math import prod

from archdsl.analysis.ledger import Peak
from archdsl.analysis.simulation import Simulation
from archdsl.analysis.training import train
from archdsl.common.choices import BYTES
from archdsl.graph import Graph, Node
from archdsl.graph.series import Part
from archdsl.planning.held import Recorder
from archdsl.transform.parallel import parallel

ROOT = -1
"""The unit of all that is in no other one: it is gathered for the whole step."""


@dataclass(frozen=True, slots=True, eq=False)
class Units:
    """What is gathered together: for each unit, and for ROOT, the bytes that are gathered, with their padding.

    `of` is the unit of each node, `part` are the bytes of a rank's part of all weights, `rest` those of the buffers,
    which every rank has.
    """

    of: Mapping[int, int]
    gathered: Mapping[int, int]
    shards: int
    rest: int

    @property
    def part(self) -> int:
        return sum(self.gathered.values()) // self.shards

    @property
    def sent(self) -> int:
        """The bytes that are gathered for a step: every unit for each of its passes, ROOT once."""
        return 2 * sum(self.gathered.values()) - self.gathered[ROOT]


def units(graph: Graph, shards: int, dtype: str) -> Units:
    """The units of a network, as `archdsl.parallelize` makes them, for so many shards."""
    paths = {path: number for number, path in enumerate(parallel(graph).units)}
    of = {}
    for node in graph.nodes():
        of[node.id] = next((paths[s.path] for s in node.scope.calls() if s.path in paths), ROOT)
    gathered: dict[int, int] = dict.fromkeys([ROOT, *paths.values()], 0)
    rest = 0
    for node, weight in graph.weights():
        if weight.buffer:
            rest += weight.bytes(BYTES[dtype])
            continue
        first, *others = weight.shape or (1,)
        gathered[of[node.id]] += shards * -(-first // shards) * prod(others) * BYTES[dtype]
    return Units(of, gathered, shards, rest)


@dataclass(slots=True)
class _Ledger(Recorder):
    """Adds what is gathered and reduced to each moment of a step."""

    units: Units = field(default_factory=lambda: Units({}, {ROOT: 0}, 1, 0))
    running: int = ROOT
    accumulates: bool = False
    gradients: dict[int, int] = field(default_factory=dict)
    """The gradients of each unit that are not reduced yet."""
    owners: Mapping[str, int] = field(default_factory=dict)

    def hold(self, buffer: object, sample: int = 0, fixed: int = 0) -> None:
        if isinstance(buffer, tuple) and buffer[0] == "weights" and not self.holders[buffer]:
            unit = self.owners[buffer[1]]
            self.gradients[unit] = self.gradients.get(unit, 0) + fixed
            fixed = 0
        Recorder.hold(self, buffer, sample, fixed)

    def note(self, node: Node | None, sample: int = 0, fixed: int = 0) -> None:
        backward = self.between is not None
        unit = ROOT if node is None else self.units.of.get(node.id, ROOT)
        if node is not None and unit != self.running:
            self.change(node, unit, backward)
        root = self.units.gathered[ROOT] + self.gradients.get(ROOT, 0)
        own = self.units.gathered[unit] + self.gradients.get(unit, 0) if unit != ROOT else 0
        ahead = self.units.gathered[unit - 1] if backward and unit > 0 else 0
        Recorder.note(self, node, sample, fixed + root + own + ahead)

    def change(self, node: Node, unit: int, backward: bool) -> None:
        """Another unit is gathered; in the backward pass, the gradients of the one before are reduced."""
        gathered, before = self.units.gathered, self.running
        root = gathered[ROOT] + self.gradients.get(ROOT, 0)
        if backward and before != ROOT:
            reduced = self.gradients.pop(before, 0) + gathered[before]
            ahead = gathered[before - 1] if before > 0 else 0
            Recorder.note(self, node, 0, root + reduced + ahead)
            self.fixed += 0 if self.accumulates else gathered[before] // self.units.shards
        if unit != ROOT:
            Recorder.note(self, node, 0, root + 2 * gathered[unit])
        self.running = unit


def sharded_peak(
    graph: Graph,
    sizes: Mapping[str, int],
    dtype: str,
    found: Units,
    state: int,
    *,
    cpu: bool = False,
    recompute: Collection[Part] = (),
    accumulates: bool = False,
) -> Peak:
    """The peak of a step. `state` is how many numbers the optimizer keeps for a weight.

    `accumulates`: gradients of a micro-batch before it are there.
    """
    run = Simulation.of(graph, sizes, dtype, cpu=cpu, recompute=recompute)
    owners = {node.path: found.of[node.id] for node in graph.nodes() if not node.again}
    resident = found.rest + found.part * (1 + accumulates + state)
    ledger = _Ledger(resident, units=found, owners=owners, accumulates=accumulates)
    train(run, ledger)
    return ledger.peak()
