"""The form for training that fits a memory budget at the least extra time.

What is stored and what is computed again is chosen over the whole network. A candidate is a call of a block, a labelled
body, layers in series, a chain of dense connections, or a concat with what reads it. A simulation of the plain form
shows how much memory each saves behind it, and how much a step holds while it runs again. The peak is a maximum over
moments, and at a moment counts what the candidates before it save. So a dynamic program over the order of the nodes
keeps, at each place, the best work for each amount saved so far; candidates nest, and it takes one of them or goes
inside. What it finds is simulated as a whole; where candidates act on each other, the budget of the program is moved
until the simulated peak fits.

Compare Jain et al., Checkmate, 2019 (arXiv:1910.02653), and Zhao et al., Rockmate, 2023 (arXiv:2307.01236).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field, replace

from archdsl.analysis.layout import Layout
from archdsl.analysis.ledger import Ledger, Profile
from archdsl.analysis.simulation import Simulation
from archdsl.analysis.training import Step, train
from archdsl.analysis.works import node_works, works_again
from archdsl.common.choices import OPTIMIZERS, Budget
from archdsl.common.units import bytes_text
from archdsl.diagnostics import Diagnostic, SpecError
from archdsl.graph import Graph, Scope, Tensor
from archdsl.graph.series import Part, Series
from archdsl.transform.crossing import crossing
from archdsl.transform.recompute import NOTHING, Recompute, as_run, dense_chains
from archdsl.transform.series import lighter, series

STEPS = 500
"""Amounts of memory that the dynamic program distinguishes, between none saved and all."""
PRUNED = 100
"""How many parts are tried to do without, each by a simulation."""
LITTLE = 10_000
"""A part that saves no more than the whole divided by this is no candidate: the statistics of a batchnorm, say."""
TRIES = 6
"""How often the budget of the dynamic program is moved."""
SKIPS = 12
"""How many skips may be computed again; the others are held."""
ALIKE = 0.005
"""The part of a step's time that it may cost to recompute the same layers in all calls of a block."""


@dataclass(frozen=True, slots=True)
class Plan:
    """A form for training: its peak in bytes, and its work as a multiple of that of the plain form."""

    again: Recompute
    peak: int
    time: float


@dataclass(frozen=True, slots=True, eq=False)
class Candidate:
    """A part that may run again: the nodes `start` to before `end`.

    `saved` are the bytes that it saves between the passes, `most` those held at most while it runs, `work` is its own.
    `given` is the skip that it computes again, `taken` those that it takes, with their bytes.
    """

    again: Recompute
    start: int
    end: int
    saved: int
    most: int
    work: float
    given: Tensor | None = None
    taken: tuple[tuple[Tensor, int], ...] = ()

    def without(self, skips: frozenset[Tensor]) -> tuple[int, int]:
        """What it saves, and what is held while it runs, where nothing else holds these skips."""
        more = sum(size for tensor, size in self.taken if tensor in skips)
        return self.saved - more, self.most + more


State = tuple[int, float, tuple[Candidate, object] | None]
"""The bytes saved so far, the work for them, and the candidates chosen, the last one first."""


def fitted(graph: Graph, budget: Budget, units: Collection[Scope] = ()) -> Plan:
    """The form that fits into the budget at the least work. Raises SpecError if none does.

    `units` are scopes whose layers no module around may call, as where their weights are sharded together.
    """
    search = Search(graph, budget, frozenset(units))
    found = search.within(budget.limit)
    if found is None:
        raise _too_large(graph, budget, search)
    return found


def front(graph: Graph, budget: Budget, count: int = 12) -> list[Plan]:
    """Forms of falling memory and growing time, from the plain one to the smallest, each a percent smaller or more.

    The limit of the budget does not matter.
    """
    search = Search(graph, budget)
    high, low = search.plain.peak, search.least().peak
    found = [search.plain, search.least()]
    for number in range(1, count):
        plan = search.within(low + (high - low) * number // count)
        found += [plan] if plan is not None else []
    kept: list[Plan] = []
    for plan in sorted(found, key=lambda p: (p.time, p.peak)):
        if not kept or plan.peak < 0.99 * kept[-1].peak:
            kept.append(plan)
    return kept


def _too_large(graph: Graph, budget: Budget, search: Search) -> SpecError:
    least = search.least().peak
    message = f"a training step of {graph.name} does not fit into {bytes_text(budget.limit)}"
    where = f"a batch of {budget.batch} in {budget.dtype} with {budget.optimizer}"
    held = search.run.weights + search.run.trainable + search.state
    needs = f"for {where} it needs {bytes_text(search.plain.peak)}"
    if least < search.plain.peak:
        needs += f", and at least {bytes_text(least)} ({least:,} bytes) with everything recomputed that reduces this"
    else:
        needs += f" ({least:,} bytes), and recomputing parts of it does not reduce this"
    help = f"{needs}; {bytes_text(held)} are weights, their gradients and the optimizer's state"
    return SpecError([Diagnostic("E0607", message, help=help)])


@dataclass(frozen=True, slots=True)
class Between:
    """What the plain form holds between its passes."""

    simulation: Simulation
    batch: int
    step: Step

    @staticmethod
    def of(simulation: Simulation, batch: int) -> Between:
        simulation.recompute = ()
        made = Step(simulation, Ledger(simulation.weights), simulation.buffers(training=True))
        made.forward()
        return Between(simulation, batch, made)

    def bytes(self, tensor: Tensor) -> int:
        """The bytes of a tensor for the whole batch."""
        sample, fixed = self.simulation.room(tensor)
        return fixed + self.batch * sample

    def changed(self, part: Part) -> tuple[int, int]:
        """The bytes that are not held any more if a part runs again, and those held besides: of its inputs."""
        kept = Counter(b for node in part.nodes() for b in self.step.kept.get(node.id, ()))
        holders, sizes = self.step.ledger.holders, self.step.ledger.sizes
        entering = {self.step.buffers[tensor] for tensor in part.inflow()}
        gone = [sizes[b] for b, count in kept.items() if count == holders[b] and b not in entering]
        new = sum(self.bytes(b) for b in entering if not holders[b])
        return sum(fixed + self.batch * sample for fixed, sample in gone), new


@dataclass(eq=False)
class Search:
    """Finds forms of a network for one batch, number type and optimizer."""

    graph: Graph
    budget: Budget
    units: frozenset[Scope] = frozenset()
    run: Simulation = field(init=False)
    works: list[float] = field(init=False)
    plain: Plan = field(init=False)
    base: dict[int | None, int] = field(init=False)
    candidates: list[Candidate] = field(init=False)
    known: dict[Recompute, Plan] = field(default_factory=dict)
    smallest: Plan | None = None
    skips: list[Tensor] = field(default_factory=list)
    """The tensors between layers in series that are read elsewhere, too, the largest first."""

    def __post_init__(self) -> None:
        unknown = dict(self.budget.sizes).keys() - {size.name for size in self.graph.free}
        if unknown:
            raise ValueError(f"{self.graph.name} has no free size {', '.join(sorted(unknown))}")
        self.run = Simulation.of(self.graph, dict(self.budget.sizes), self.budget.dtype)
        self.works = node_works(self.graph, dict(self.budget.sizes), self.budget.dtype, self.run)
        self.base = self.profile(NOTHING)
        self.plain = self.plan(NOTHING)
        self.candidates = sorted(self.found(), key=lambda c: (c.start, -c.end))
        given = {c.given for c in self.candidates if c.given is not None}
        self.skips = sorted(given, key=lambda t: (-sum(self.run.room(t)), t.node))[:SKIPS]

    @property
    def state(self) -> int:
        """Bytes of the optimizer's state."""
        return OPTIMIZERS[self.budget.optimizer] * self.run.trainable

    # ------------------------------------------------------------ forms as a whole

    def profile(self, again: Recompute) -> dict[int | None, int]:
        """The most bytes held while each node runs, by its number in the graph that runs."""
        run, parts = self.run, again.parts
        graph, parts = as_run(self.graph, again)
        if graph is not self.graph:
            run = Simulation.of(graph, dict(self.budget.sizes), self.budget.dtype)
        run.recompute = parts
        ledger = Profile(run.weights + self.state, batch=self.budget.batch)
        train(run, ledger)
        return ledger.most

    def plan(self, again: Recompute) -> Plan:
        if again not in self.known:
            peak = max(self.profile(again).values())
            # A backward pass takes about twice as long as a forward pass.
            self.known[again] = Plan(again, peak, 1 + self.work(again) / (3 * sum(self.works) or 1))
        return self.known[again]

    def work(self, again: Recompute) -> float:
        """The work that is done a second time. Dense bodies redo the concat that they put off, twice."""
        return works_again(self.run, self.works, again.parts) + sum(self.works[n.id] for n in again.grown)

    def least(self) -> Plan:
        """The form of the smallest peak that is found."""
        if self.smallest is None:
            self.smallest = self.plain
            for skips in self.ways():
                low, high = 0, self.plain.peak
                for _ in range(12):
                    middle = (low + high) // 2
                    again = self.solve(middle, skips)
                    if again is None:
                        low = middle
                        continue
                    self.smallest = min(self.smallest, self.plan(again), key=lambda p: (p.peak, p.time))
                    high = middle
        return self.smallest

    def ways(self) -> list[frozenset[Tensor]]:
        """Which skips may be computed again: none, more and more of the largest ones, all."""
        return [frozenset(self.skips[:count]) for count in range(len(self.skips) + 1)]

    def within(self, limit: int) -> Plan | None:
        """The fastest form that is found with a peak of at most `limit`; None if there is none."""
        if self.plain.peak <= limit:
            return self.plain
        for skips in self.ways():
            self.aim(limit, skips)
        fits = [p for p in self.known.values() if p.peak <= limit]
        fits += [self.least()] if not fits and self.least().peak <= limit else []
        best = min(fits, key=lambda p: p.time, default=None)
        return self.alike(self.pruned(best, limit), limit) if best is not None else None

    def aim(self, limit: int, skips: frozenset[Tensor]) -> None:
        """Tries forms with a peak around a limit, for the budgets of the dynamic program that come near to it."""
        aim = limit
        for _ in range(TRIES):
            again = self.solve(aim, skips)
            if again is None:
                return
            peak = self.plan(again).peak
            if peak <= limit and limit - peak < limit // 200:
                return
            aim += limit - peak if peak > limit else max(1, (limit - peak) // 2)

    def pruned(self, plan: Plan, limit: int) -> Plan:
        """The form without parts that it does not need, of the slowest ones."""
        work = {part: works_again(self.run, self.works, [part]) for part in plan.again.parts - needed(plan.again)}
        for part in sorted(work, key=lambda p: -work[p])[:PRUNED]:
            again = plan.again
            without = self.plan(replace(again, scopes=again.scopes - {part}, series=again.series - {part}))
            if without.peak <= limit:
                plan = without
        return plan

    def alike(self, plan: Plan, limit: int) -> Plan:
        """The form in which calls of a block recompute the same layers, as far as that takes hardly any time.

        Each choice of layers is a class of the built module.
        """
        most = plan.time + ALIKE
        places: dict[object, list[Series]] = {}
        needs = needed(plan.again)
        for candidate in self.candidates:
            for found in candidate.again.series - needs if not candidate.again.grown else ():
                places.setdefault(place(found), []).append(found)
        chosen = {key: plan.again.series.intersection(found) for key, found in places.items()}
        for key in sorted((k for k in chosen if chosen[k]), key=lambda k: -len(chosen[k])):
            taken = {node.id for part in plan.again.parts for node in part.nodes()}
            more: set[Series] = set()
            for found in places[key]:
                nodes = {node.id for node in found.nodes()}
                more |= {found} if taken.isdisjoint(nodes) else set()
                taken |= nodes if found in more else set()
            other = self.plan(replace(plan.again, series=plan.again.series | more))
            if other.peak <= limit and other.time <= most:
                plan = other
        for key in sorted(chosen, key=lambda k: len(chosen[k])):
            rest = plan.again.series.difference(places[key])
            if rest != plan.again.series:
                other = self.plan(replace(plan.again, series=rest))
                if other.peak <= limit:
                    plan = other
        return plan

    # ------------------------------------------------------------ candidates

    def found(self) -> Iterator[Candidate]:
        held = Between.of(self.run, self.budget.batch)
        for scope in self.graph.root.scopes():
            if scope.kind != "model" and not scope.is_shared and any(True for _ in scope.nodes()):
                yield from self.candidate(Recompute(frozenset((scope,))), held)
        layout, chains = Layout.of(self.graph), dense_chains(self.graph)
        for again in chains:
            yield from self.apart(again)
        if layout.last and chains:
            return  # features have the channels first, so axes may be moved elsewhere, even within series
        across = crossing(self.graph, layout) if not layout.last else ()
        for part in (*series(self.graph, layout), *(s for s in across if self.units.isdisjoint((*s.ends, *s.begins)))):
            yield from self.candidate(Recompute(series=frozenset((part,))), held)
        forms = [form for again in chains for form in lighter(self.graph, again)]
        for form in forms if not layout.last else ():
            yield from self.apart(form)

    def candidate(self, again: Recompute, held: Between) -> Iterator[Candidate]:
        """A part as a candidate, if it saves enough. While it runs, what the plain form holds is there."""
        (part,) = again.parts
        gone, new = held.changed(part)
        saved = gone - new
        nodes = [*part.nodes()]
        start, end = nodes[0].id, nodes[-1].id + 1
        if saved > self.base[None] // LITTLE:
            most = new + max(self.base.get(i, 0) for i in range(start, end))
            taken = tuple((t, held.bytes(t)) for t in part.inflow())
            given = part.given if isinstance(part, Series) else None
            yield Candidate(again, start, end, saved, most, self.work(again), given, taken)

    def apart(self, again: Recompute) -> Iterator[Candidate]:
        """A form that puts concats together again as a candidate, simulated since it runs as another graph."""
        nodes = [*again.grown, *(n for s in again.bodies for n in s.nodes())]
        start, end = min(n.id for n in nodes), max(n.id for n in nodes) + 1
        profile = self.profile(again)
        saved = self.base[None] - profile[None]
        if saved > 0:
            graph, _ = as_run(self.graph, again)
            paths = {n.path for n in nodes}
            most = max(profile.get(n.id, 0) for n in graph.nodes() if n.path in paths)
            yield Candidate(again, start, end, saved, most, self.work(again))

    # ------------------------------------------------------------ the dynamic program

    def solve(self, limit: int, skips: frozenset[Tensor] = frozenset()) -> Recompute | None:
        """The candidates that make each moment fit at the least work, as if they were independent.

        `skips` may be computed again, and are held for nothing but what takes them.
        """
        count = len(self.graph)
        starts: dict[int, list[Candidate]] = {}
        for candidate in self.candidates:
            if candidate.given is None or candidate.given in skips:
                starts.setdefault(candidate.start, []).append(candidate)
        places = sorted({0, count, *starts, *(c.end for c in self.candidates)})
        states: dict[int, list[State]] = {place: [] for place in places}
        states[0] = [(0, 0.0, None)]
        width = max(1, self.base[None] // STEPS)
        for place, following in zip(places, [*places[1:], count], strict=True):
            here = states[place] = thinned(states[place], width)
            if place == count:
                break
            need = max(self.base.get(i, 0) for i in range(place, following)) - limit
            states[following] += [state for state in here if state[0] >= need]
            for c in starts.get(place, ()):
                saved, most = c.without(skips)
                states[c.end] += [(s + saved, w + c.work, (c, path)) for s, w, path in here if s >= most - limit]
        fits = [state for state in states[count] if state[0] >= self.base[None] - limit]
        if not fits:
            return None
        taken = min(fits, key=lambda state: state[1])[2]
        chosen: list[Recompute] = []
        while taken is not None:
            candidate, taken = taken  # type: ignore[assignment]
            chosen.append(candidate.again)
        return Recompute(
            frozenset(s for again in chosen for s in again.scopes),
            frozenset(n for again in chosen for n in again.grown),
            frozenset(s for again in chosen for s in again.series),
        )


def needed(again: Recompute) -> frozenset[Part]:
    """The parts in the bodies of dense connections that take the features one by one."""
    bodies = again.bodies
    return frozenset(p for p in again.parts if (p if isinstance(p, Scope) else p.scope) in bodies)


def place(series: Series) -> object:
    """The place of the spec that layers in series have."""
    first, last = series.members[0], series.members[-1]
    return first.span, last.span, len(series.members)


def thinned(states: Sequence[State], width: int) -> list[State]:
    """The states that no other beats in both memory and work, and of each `width` bytes of memory the fastest."""
    best: dict[int, State] = {}
    for state in states:
        bucket = state[0] // width
        if bucket not in best or (state[1], -state[0]) < (best[bucket][1], -best[bucket][0]):
            best[bucket] = state
    kept: list[State] = []
    least = float("inf")
    for bucket in sorted(best, reverse=True):
        if best[bucket][1] < least:
            kept.append(best[bucket])
            least = best[bucket][1]
    return kept
