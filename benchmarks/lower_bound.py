"""A time below which no training step within a memory budget can get, whatever it computes again.

It holds in the model of `archdsl.analysis.training` and `works`: a backward pass of the nodes in reverse, whose
gradients and temporary tensors are those of the plain step. At each of its moments, whatever the gradients to come need
is held, or it is computed again behind the moment, from tensors for which the same is true; and what is held fits
beside what the running node and the gradients need. This is a linear program, and the largest of their values is the
bound.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import dataclass, field
from typing import TypeAlias

import numpy as np
from scipy.optimize import linprog
from scipy.sparse import csr_array

from archdsl.analysis.ledger import Ledger
from archdsl.analysis.simulation import Simulation
from archdsl.analysis.training import train
from archdsl.graph import Graph, Node, Tensor
from archdsl.transform.fitting import Search
from archdsl.transform.recompute import Recompute, as_run, dense_chains

GRADIENTS = ("gradient", "weights", "more")
"""What the keys of gradients in a ledger begin with."""


@dataclass(slots=True)
class Gradients(Ledger):
    """The most bytes of gradients and temporary tensors at each node of the backward pass; None is its beginning."""

    batch: int = 1
    most: dict[int | None, int] = field(default_factory=dict)

    def note(self, node: Node | None, sample: int = 0, fixed: int = 0) -> None:
        if node is not None and not self.most:
            return  # in the forward pass
        sizes = [size for key, size in self.sizes.items() if isinstance(key, tuple) and key[0] in GRADIENTS]
        held = sum(f + self.batch * s for f, s in sizes) + fixed + self.batch * sample
        at = None if node is None else node.id
        self.most[at] = max(held, self.most.get(at, 0))


def gradients(search: Search, again: Recompute) -> dict[int | None, int]:
    """What a backward pass holds besides the saved tensors, by the nodes of the network; not at concats put off."""
    graph, run = search.graph, search.run
    run.recompute = ()
    if again.grown:
        graph, _ = as_run(search.graph, again)
        run = Simulation.of(graph, dict(search.budget.sizes), search.budget.dtype)
    ledger = Gradients(0, batch=search.budget.batch)
    train(run, ledger)
    put_off = {n.path for n in again.grown}
    numbers, others = ([n.id for n in g.nodes() if n.path not in put_off] for g in (graph, search.graph))
    as_before: dict[int | None, int | None] = dict(zip(numbers, others, strict=True))
    return {as_before.get(i): held for i, held in ledger.most.items() if i is None or i in as_before}


def values(graph: Graph, run: Simulation) -> dict[Tensor, Tensor]:
    """The tensor whose memory each tensor uses, if no operation runs in place: where parts begin, it does not."""
    buffers = run.buffers(training=True)
    found: dict[Tensor, Tensor] = {}
    for node in graph.nodes():
        for i in range(len(node.shapes)):
            result, source = Tensor(node.id, i), node.operation.shares(i)
            found[result] = result
            if source is not None:
                base = node.inputs[source]
                # What is copied because the plain step has overwritten its base may be a view elsewhere.
                if buffers[result] == buffers[base] or found[base] != buffers[base]:
                    found[result] = found[base]
    return found


Choice: TypeAlias = tuple[object, ...]
"""Values of which one is needed."""


@dataclass(eq=False)
class LowerBound:
    """The values of a step: tensors, and what else nodes save. Values have bytes for the batch, and a node's number."""

    search: Search
    held: dict[int | None, int] = field(init=False)
    """Gradients and temporary tensors at each moment."""
    saved: dict[int, list[Choice]] = field(default_factory=dict)
    """What the backward pass of each node needs."""
    sizes: dict[object, int] = field(default_factory=dict)
    made: dict[object, int] = field(default_factory=dict)
    """The node that makes each value; `~node` for what it saves before it runs."""
    sources: dict[int, list[Choice]] = field(default_factory=dict)
    """What each node computes from."""
    always: frozenset[object] = field(init=False)
    """The inputs and outputs, which the caller holds."""

    def __post_init__(self) -> None:
        search, graph = self.search, self.search.graph
        self.held = gradients(search, Recompute())
        if chains := dense_chains(graph):
            grown = Recompute(
                frozenset(s for c in chains for s in c.scopes), frozenset(n for c in chains for n in c.grown)
            )
            apart = gradients(search, grown)
            self.held = {i: min(held, apart[i]) for i, held in self.held.items() if i in apart}
        search.run.recompute = ()
        found = values(graph, search.run)
        self.always = frozenset(
            {found[o.tensor] for o in graph.outputs} | {found[Tensor(n.id)] for n in graph.input_nodes}
        )
        self.find_saved(found)
        self.find_sources(found)

    def find_saved(self, found: Mapping[Tensor, Tensor]) -> None:
        graph, run, batch = self.search.graph, self.search.run, self.search.budget.batch
        ledger = Ledger(0)
        differentiable: set[Tensor] = set()
        for value in found.values():
            sample, fixed = run.room(value)
            self.sizes[value], self.made[value] = fixed + batch * sample, value.node
        for node in graph.nodes():
            if not run.gradients.get(node.id) and not any(t in differentiable for t in node.sources):
                continue
            held = run.keep(node, found, ledger, differentiable)
            differentiable.update(Tensor(node.id, i) for i in range(len(node.shapes)))
            # Some activations save their result instead of their input where they run in place.
            inside, apart = run.saves(node, True), run.saves(node, False)
            either = apart.inputs and inside.outputs and not inside.inputs
            self.saved[node.id] = [(value, found[Tensor(node.id)]) if either else (value,) for value in held]
            for key in held:
                if key not in self.sizes:
                    fixed, sample = ledger.sizes[key]
                    self.sizes[key] = fixed + batch * sample
                    self.made[key] = ~node.id if node.operation.saves_first else node.id

    def find_sources(self, found: Mapping[Tensor, Tensor]) -> None:
        """A value may also be read from a concat that holds it."""
        graph = self.search.graph
        parts: dict[Tensor, list[Tensor]] = {}
        concats: dict[Tensor, list[Tensor]] = {}
        for node in graph.nodes():
            own, read = found[Tensor(node.id)], [found[t] for t in node.inputs]
            if node.operation.stacks() == 0:
                read = parts[own] = [part for value in read for part in parts.get(value, [value])]
                for part in read:
                    concats.setdefault(part, []).append(own)
            self.sources[node.id] = self.sources[~node.id] = [
                (value, *(whole for whole in concats.get(value, ()) if whole.node < node.id))
                for value in dict.fromkeys(read)
                if value != own and value not in self.always and not graph.node(value).operation.is_learned
            ]

    def within(self, limit: float) -> tuple[float, str]:
        """The time as a multiple of the plain one, and the node whose moment asks for it; infinite if nothing fits."""
        time, moment = max(((self.time(limit, m), m) for m in self.held), key=lambda found: found[0])
        return time, "between the passes" if moment is None else self.search.graph.node(moment).path

    def time(self, limit: float, moment: int | None) -> float:
        """The least time of a step that holds at most `limit` bytes at a moment."""
        own = self.saved[moment] if moment is not None else []
        forced = self.always | {choice[0] for choice in own if len(choice) == 1}
        later = (saved for i, saved in self.saved.items() if i in self.held and (moment is None or i < moment))
        needed = {choice: None for saved in later for choice in saved if forced.isdisjoint(choice)}
        room = limit - self.search.run.weights - self.search.state - self.held[moment] - self.bytes(forced)
        if room < 0:
            return float("inf")
        if self.bytes({value for choice in needed for value in choice}) <= room:
            return 1.0
        return 1 + self.work_again(needed, forced, room) / (3 * sum(self.search.works))

    def bytes(self, values: Iterable[object]) -> int:
        return sum(self.sizes[value] for value in values)

    def work_again(self, needed: Iterable[Choice], forced: Set[object], room: float) -> float:
        """The least work that makes all of `needed` again that is not held in `room` bytes beside `forced`."""
        program = Program()
        waiting: list[tuple[Choice, int | None]] = [(choice, None) for choice in needed]
        while waiting:
            choice, by = waiting.pop()
            program.demand(choice, [self.made[value] for value in choice], by)
            for value in choice:
                program.may_hold(value, self.sizes[value])
                if program.may_run(node := self.made[value], self.search.works[node] if node >= 0 else 0.0):
                    waiting += [(source, node) for source in self.sources[node] if forced.isdisjoint(source)]
        return program.least(room)


@dataclass(slots=True, eq=False)
class Program:
    """The linear program of a moment. Variables: a value is held, a node runs again."""

    columns: dict[tuple[str, object], int] = field(default_factory=dict)
    sizes: dict[int, int] = field(default_factory=dict)
    works: dict[int, float] = field(default_factory=dict)
    rows: list[tuple[Sequence[tuple[str, object]], int | None]] = field(default_factory=list)

    def column(self, kind: str, what: object) -> int:
        return self.columns.setdefault((kind, what), len(self.columns))

    def may_hold(self, value: object, size: int) -> None:
        self.sizes[self.column("hold", value)] = size

    def may_run(self, node: int, work: float) -> bool:
        """Whether this is new."""
        new = ("run", node) not in self.columns
        self.works[self.column("run", node)] = work
        return new

    def demand(self, values: Sequence[object], nodes: Sequence[int], by: int | None = None) -> None:
        """One of the values is held, or one of the nodes runs again; if this is needed `by` a node, then if it does."""
        self.rows.append(([*(("hold", v) for v in values), *(("run", n) for n in nodes)], by))

    def least(self, room: float) -> float:
        cells: list[tuple[int, int, float]] = []
        for row, (terms, by) in enumerate(self.rows):
            cells += [(row, self.columns[term], -1.0) for term in dict.fromkeys(terms)]
            if by is not None:
                cells.append((row, self.columns["run", by], 1.0))
        # In units near 1, for the solver's tolerances.
        scale, total = max(self.sizes.values()) or 1, sum(self.works.values()) or 1
        cells += [(len(self.rows), column, size / scale) for column, size in self.sizes.items()]
        at, columns, factors = zip(*cells, strict=True)
        matrix = csr_array((factors, (at, columns)), shape=(len(self.rows) + 1, len(self.columns)))
        cost = np.zeros(len(self.columns))
        for column, work in self.works.items():
            cost[column] = work / total
        bounds = [*(0.0 if by is not None else -1.0 for _, by in self.rows), room / scale]
        found = linprog(cost, A_ub=matrix, b_ub=bounds, bounds=(0, 1), method="highs")
        assert found.status == 0, found.message  # to run everything again is a solution
        return float(found.fun) * total
