"""What fits on a cluster, and what a step costs there: copies, shards, stages, micro-batches, recomputation.

The bytes are those of the memory model. Times are estimates: the computation at a given speed, then what is sent at a
given bandwidth. How much of this is hidden behind the computation depends on the machine: none of it is here. Latencies
are left out.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property

from archdsl.analysis.ledger import Peak
from archdsl.analysis.simulation import Simulation
from archdsl.analysis.works import works_again
from archdsl.common.choices import OPTIMIZERS, Recomputing
from archdsl.common.units import bytes_text
from archdsl.diagnostics import Diagnostic, SpecError
from archdsl.graph import Graph
from archdsl.graph.series import Part
from archdsl.planning.held import Held, held
from archdsl.planning.pipelines import BACKWARD, as_recomputed, peak
from archdsl.planning.schedules import orders, simulate
from archdsl.planning.sharding import Units, sharded_peak, units
from archdsl.planning.stages import Split, Splitter

LARGEST = 64
"""The most stages that are tried."""


@dataclass(frozen=True, slots=True)
class Cluster:
    """GPUs, `node` of them in a machine. Amounts are of one GPU: bytes, bytes a second, operations a second."""

    gpus: int
    memory: int
    node: int
    bandwidth: float
    """Between machines."""
    near: float
    """Within a machine."""
    speed: float


@dataclass(frozen=True, slots=True)
class Training:
    batch: int
    dtype: str = "float32"
    optimizer: str = "adam"
    sizes: tuple[tuple[str, int], ...] = ()


@dataclass(frozen=True, slots=True)
class Layout:
    """A way to place a training, with what a GPU holds at most, and what it sends in a step.

    `replicas` copies of the weights, each in `shards` parts or in `stages`. A GPU computes `microbatches` of
    `microbatch` samples. `compute` and `sending` are seconds of a step, `idle` is the share of the time of
    computing in which a GPU waits for others.
    """

    replicas: int
    shards: int
    stages: int
    microbatches: int
    microbatch: int
    recompute: str
    peak: int
    sent: int
    compute: float
    idle: float
    sending: float

    @property
    def time(self) -> float:
        return self.compute / (1 - self.idle) + self.sending

    @property
    def share(self) -> float:
        """The share of the step in which it sends."""
        return self.sending / self.time if self.time else 0.0

    @property
    def parts(self) -> int:
        """How many things differ from a single GPU: the fewer, the simpler."""
        flags = (self.replicas > 1, self.shards > 1, self.stages > 1, self.recompute != "none", self.microbatches > 1)
        return sum(flags)


@dataclass(frozen=True, slots=True, eq=False)
class Layouts:
    """The layouts that fit, the fastest first; `tried` is how many there were."""

    graph: Graph
    cluster: Cluster
    training: Training
    found: tuple[Layout, ...]
    tried: int


def layouts(graph: Graph, cluster: Cluster, training: Training) -> Layouts:
    """What fits. Raises SpecError if nothing does, with what is nearest."""
    search = _Search(graph, cluster, training)
    every = list(search.every())
    if not every:
        raise _no_batch(cluster, training)
    fits = [layout for layout in every if layout.peak <= cluster.memory]
    if not fits:
        raise _too_large(graph, cluster, training, min(every, key=lambda layout: layout.peak))
    best: dict[tuple[int, int, int, str], Layout] = {}
    for layout in sorted(fits, key=lambda layout: (layout.time, layout.parts, layout.microbatches)):
        best.setdefault((layout.replicas, layout.shards, layout.stages, layout.recompute), layout)
    order = sorted(best.values(), key=lambda layout: (float(f"{layout.time:.2g}"), layout.parts, layout.time))
    return Layouts(graph, cluster, training, tuple(order), len(every))


def _no_batch(cluster: Cluster, training: Training) -> SpecError:
    message = f"a batch of {training.batch} cannot be spread evenly over {cluster.gpus} GPUs"
    more = -(-training.batch // cluster.gpus) * cluster.gpus
    return SpecError([Diagnostic("E0621", message, help=f"the next batch that can is {more}")])


def _too_large(graph: Graph, cluster: Cluster, training: Training, least: Layout) -> SpecError:
    where = f"{cluster.gpus} GPU{'s' if cluster.gpus > 1 else ''} of {bytes_text(cluster.memory)}"
    message = f"no layout of {graph.name} fits on {where}, for a batch of {training.batch}"
    help = (
        f"the smallest takes {bytes_text(least.peak)} a GPU: {in_words(least)}. Take a smaller batch, input or number "
        "type, an optimizer with less state, or more GPUs"
    )
    return SpecError([Diagnostic("E0621", message, help=help)])


def in_words(layout: Layout) -> str:
    """`8 replicas of 4 shards, 2 micro-batches of 16, blocks recomputed`."""
    found = [f"{layout.replicas} {'replicas' if layout.replicas > 1 else 'replica'}"]
    found[0] += f" of {layout.shards} shards" if layout.shards > 1 else ""
    found[0] += f" of {layout.stages} stages" if layout.stages > 1 else ""
    found.append(f"{layout.microbatches} micro-batches of {layout.microbatch}")
    return ", ".join([*found, *([f"{layout.recompute} recomputed"] if layout.recompute != "none" else [])])


@dataclass(slots=True, eq=False)
class _Form:
    """The network with some activations recomputed: as it runs, and how often the work of a plain step it does."""

    name: Recomputing
    graph: Graph
    parts: frozenset[Part]
    times: float


@dataclass(eq=False)
class _Search:
    graph: Graph
    cluster: Cluster
    training: Training
    steps: dict[tuple[object, ...], Held] = field(default_factory=dict)
    sharded: dict[tuple[object, ...], Peak] = field(default_factory=dict)

    @cached_property
    def sizes(self) -> Mapping[str, int]:
        return {**self.graph.examples, **dict(self.training.sizes)}

    @cached_property
    def splitter(self) -> Splitter:
        return Splitter(self.graph, self.sizes, self.training.dtype)

    @property
    def state(self) -> int:
        return OPTIMIZERS[self.training.optimizer]

    @cached_property
    def forms(self) -> list[_Form]:
        plain = _Form("none", self.graph, frozenset(), 1.0)
        graph, scopes = as_recomputed(self.graph, "blocks")
        if not scopes:
            return [plain]
        works, run = self.splitter.works, Simulation.of(graph, self.sizes, self.training.dtype)
        again = works_again(run, works, scopes) / (sum(works) or 1)
        return [plain, _Form("blocks", graph, scopes, 1 + again / (1 + BACKWARD))]

    def seconds(self, samples: int) -> float:
        """The computation of a step on so many samples, all of them on one GPU."""
        return (1 + BACKWARD) * sum(self.splitter.works) * samples / self.cluster.speed

    def link(self, ranks: int, apart: int = 1) -> float:
        """The bandwidth of a ring over ranks of which neighbours are so many GPUs apart.

        If it leaves a machine, the connections of all its ranks in a machine share what is sent.
        """
        cluster = self.cluster
        if ranks * apart <= cluster.node:
            return cluster.near
        return min(cluster.near, max(1, cluster.node // apart) * cluster.bandwidth)

    def every(self) -> Iterator[Layout]:
        gpus, batch = self.cluster.gpus, self.training.batch
        most = min(LARGEST, len(self.splitter.places) + 1)
        for stages in (n for n in _powers(gpus) if n <= most):
            copies = gpus // stages
            if batch % copies:
                continue
            for form in self.forms:
                if stages > 1:
                    yield from self.staged(stages, copies, batch // copies, form)
                else:
                    for shards in dict.fromkeys((1, min(self.cluster.node, gpus), gpus)):
                        if gpus % shards == 0:
                            yield from self.whole(shards, batch // gpus, form)

    # ------------------------------------------------------------ copies and shards

    def whole(self, shards: int, local: int, form: _Form) -> Iterator[Layout]:
        replicas = self.cluster.gpus // shards
        for microbatches in _powers(local):
            several, microbatch = microbatches > 1, local // microbatches
            if shards == 1:
                peak_bytes, sent, sending = self.copied(replicas, microbatch, several, form)
            else:
                peak_bytes, sent, sending = self.parted(shards, replicas, microbatch, microbatches, form)
            compute = self.seconds(local) * form.times
            yield Layout(
                replicas, shards, 1, microbatches, microbatch, str(form.name), peak_bytes, sent, compute, 0.0, sending
            )

    def copied(self, replicas: int, microbatch: int, several: bool, form: _Form) -> tuple[int, int, float]:
        """DDP, which copies gradients into buckets and reduces these once a step."""
        key = form.name, several
        if key not in self.steps:
            self.steps[key] = held(
                form.graph, self.sizes, self.training.dtype, recompute=form.parts, accumulates=several
            )
        found = self.steps[key]
        buckets = found.gradients if replicas > 1 else 0
        sent = _ring(2 * found.gradients, replicas)
        return found.peak.at(microbatch) + self.state * found.gradients + buckets, sent, sent / self.link(replicas)

    def parted(
        self, shards: int, replicas: int, microbatch: int, microbatches: int, form: _Form
    ) -> tuple[int, int, float]:
        """FSDP, which gathers and reduces for every micro-batch; with replicas, the parts are reduced over these."""
        several = microbatches > 1
        parts = self.units(shards)
        key = form.name, shards, several
        if key not in self.sharded:
            self.sharded[key] = sharded_peak(
                form.graph,
                self.sizes,
                self.training.dtype,
                parts,
                self.state,
                recompute=form.parts,
                accumulates=several,
            )
        total = sum(parts.gathered.values())
        within = microbatches * _ring(parts.sent + total, shards)
        across = microbatches * _ring(2 * parts.part, replicas)
        sending = within / self.link(shards) + across / self.link(replicas, shards)
        return self.sharded[key].at(microbatch), within + across, sending

    def units(self, shards: int) -> Units:
        return units(self.graph, shards, self.training.dtype)

    # ------------------------------------------------------------ stages

    def staged(self, stages: int, copies: int, local: int, form: _Form) -> Iterator[Layout]:
        """Pipelines under 1F1B, whose stages are replicated by DDP."""
        parts = self.split(stages)
        helds = self.stage_steps(parts, form)
        for microbatches in (n for n in _powers(local) if stages <= n <= 8 * stages):
            microbatch = local // microbatches
            order = orders("1f1b", stages, stages, microbatches)
            peaks = [peak(parts, helds, actions, microbatches, microbatch, self.state) for actions in order]
            buckets = [found.gradients if copies > 1 else 0 for found in helds]
            forward = [self.seconds(microbatch) * part.work / (1 + BACKWARD) for part in parts.parts]
            more = BACKWARD + (1 + BACKWARD) * (form.times - 1)
            run = simulate(order, forward, [more * time for time in forward], [0.0] * stages)
            compute = sum(forward) * (1 + more) * microbatches / stages
            flows = [
                local * (part.takes * (number > 0) + part.gives * (number < stages - 1))
                for number, part in enumerate(parts.parts)
            ]
            reduced = [_ring(2 * found.gradients, copies) for found in helds]
            between = self.cluster.near if stages <= self.cluster.node else self.cluster.bandwidth
            sending = max(flows) / between + max(reduced) / self.link(copies, stages)
            sent = max(a + b for a, b in zip(flows, reduced, strict=True))
            most = max(a + b for a, b in zip(peaks, buckets, strict=True))
            yield Layout(
                copies, 1, stages, microbatches, microbatch, str(form.name), most, sent, compute, run.idle, sending
            )

    def split(self, stages: int) -> Split:
        return self.splitter.split(stages)

    def stage_steps(self, parts: Split, form: _Form) -> list[Held]:
        """What a micro-batch takes in each stage."""
        last = len(parts.parts) - 1
        found = []
        for number, stage in enumerate(parts.stages):
            graph, again = as_recomputed(stage.graph, form.name)
            several, received = True, number < last
            step = held(graph, self.sizes, self.training.dtype, recompute=again, accumulates=several, received=received)
            found.append(step)
        return found


def _powers(number: int) -> Iterator[int]:
    """The powers of two that divide a number, from 1 on."""
    power = 1
    while number % power == 0:
        yield power
        power *= 2


def _ring(size: int, ranks: int) -> int:
    """What a rank sends to gather or to reduce and scatter `size` bytes over a ring."""
    return size * (ranks - 1) // ranks
