"""What `--memory` chooses, compared with the exact optimum, on networks small enough to solve.

`parts` compares with the best of all sets of parts that the built module can recompute, each simulated as a whole. The
column is the worst ratio of predicted times over several budgets between the smallest peak and the plain one.

`nodes` asks how much a choice by node would gain: the integer program of Checkmate (Jain et al., 2019,
arXiv:1910.02653), solved by HiGHS, against the best choice of parts in the same model. In this model a step consists of
tensors and their gradients, each computed in one piece, and memory is that of these alone.

`bound` gives a time below which no choice can get at half of the plain peak, on networks of any size, on a CPU and on a
GPU, where oneDNN makes no copies: see `lower_bound.py`.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from unittest.mock import patch

import numpy as np
from scipy.optimize import Bounds, LinearConstraint, milp
from scipy.sparse import csr_array

import archdsl
from archdsl.analysis.layout import Layout
from archdsl.analysis.simulation import Simulation
from archdsl.analysis.training import rerun
from archdsl.analysis.works import node_works
from archdsl.common.choices import Budget
from archdsl.common.source import Source
from archdsl.graph import Graph, Tensor
from archdsl.graph.series import Part
from archdsl.transform.crossing import crossing
from archdsl.transform.fitting import Plan, Search
from archdsl.transform.recompute import Recompute
from archdsl.transform.series import series
from benchmarks.lower_bound import LowerBound

UNIT = "block unit(width) { residual { conv(width, 3) -> batchnorm -> relu -> conv(width, 3) -> batchnorm } -> relu }"
NETWORKS = {
    "residual stages": f"""
        {UNIT}
        block stage(width, count) {{
            conv(width, 3, stride = 2)
            repeat count {{ unit(width) }}
        }}
        model net {{
            input x[3, 64, 64]
            conv(16, 3)
            stage(16, 2)
            (stage(16, 2), side: {{ conv(16, 1, stride = 2) -> silu }}) -> add
            stage(32, 1)
        }}""",
    "dense and residual": f"""
        block layer {{ batchnorm -> relu -> conv(4, 3) -> dropout(0.3) }}
        {UNIT}
        model net {{
            input x[3, 32, 32]
            first: {{ conv(8, 3) -> batchnorm -> relu }}
            repeat 4 {{ dense {{ layer }} }}
            conv(8, 3)
            repeat 3 {{ unit(8) }}
        }}""",
    "branches": """
        block cell(width) {
            (
                { conv(width, 1) -> relu },
                { conv(width, 1) -> relu -> conv(width, 3) -> relu },
                { maxpool(3, stride = 1, pad = 1) -> conv(width, 1) -> relu }
            ) -> concat
        }
        block stack(width) { cell(width) -> cell(width) -> maxpool(2) }
        model net {
            input x[3, 64, 64]
            stem: { conv(16, 3) -> batchnorm -> relu }
            stack(16)
            cell(32)
        }""",
    "plain": """
        block two(width) { conv(width, 3) -> batchnorm -> relu -> conv(width, 3) -> batchnorm -> relu }
        model net {
            input x[3, 64, 64]
            a: { two(16) } -> maxpool(2)
            b: { two(32) -> two(32) } -> maxpool(2)
            c: { two(64) -> two(64) } -> maxpool(2)
            d: { two(64) }
        }""",
}
LARGE = ("resnet:resnet50", "densenet:densenet121", "swin:swin_t", "unet:unet_padded")
TINY = {
    "two residual units": f"""
        {UNIT}
        model net {{
            input x[8, 32, 32]
            conv(8, 3)
            unit(8)
            unit(8)
        }}""",
    "three dense layers": """
        block layer { batchnorm -> relu -> conv(8, 3) }
        model net {
            input x[3, 32, 32]
            conv(8, 3)
            repeat 3 { dense { layer } }
        }""",
    "plain": """
        block two(width) { conv(width, 3) -> batchnorm -> relu -> conv(width, 3) -> batchnorm -> relu }
        model net {
            input x[3, 32, 32]
            two(8) -> maxpool(2) -> two(16) -> two(16)
        }""",
    "a small U": """
        block level(width) { conv(width, 3) -> relu -> conv(width, 3) -> relu }
        model net {
            input x[3, 32, 32]
            left: level(8)
            maxpool(2) -> level(16)
            (upsample(2), left) -> concat
            level(8)
        }""",
}
BUDGETS, BATCH, SECONDS = 9, 32, 60
"""Budgets for each network, images in a batch, and the most seconds for an integer program."""


# ---------------------------------------------------------------- all sets of parts


def antichains(parts: Sequence[tuple[object, frozenset[int]]]) -> Iterator[list[object]]:
    """All sets of parts of which no two have a node in common."""
    if not parts:
        yield []
        return
    (part, nodes), *rest = parts
    yield from antichains(rest)
    for others in antichains([(p, n) for p, n in rest if nodes.isdisjoint(n)]):
        yield [part, *others]


def choices(search: Search) -> list[tuple[object, frozenset[int]]]:
    """What can be recomputed, with the nodes."""
    return [(c.again, frozenset(range(c.start, c.end))) for c in search.candidates]


def joined(parts: Collection[Recompute]) -> Recompute:
    return Recompute(
        frozenset(s for part in parts for s in part.scopes),
        frozenset(n for part in parts for n in part.grown),
        frozenset(s for part in parts for s in part.series),
    )


def compare_parts(name: str, graph: Graph) -> None:
    """The worst ratio of our time to the best one, over budgets."""
    start = time.process_time()
    search = Search(graph, Budget(0, BATCH, optimizer="sgd"))
    every: list[Plan] = [search.plan(joined(parts)) for parts in antichains(choices(search))]
    low, high = min(p.peak for p in every), search.plain.peak
    ratios, lost = [], 0
    for number in range(BUDGETS):
        limit = low + (high - low) * number // BUDGETS
        best = min((p for p in every if p.peak <= limit), key=lambda p: p.time)
        ours = Search(graph, Budget(0, BATCH, optimizer="sgd")).within(limit)
        if ours is None:
            lost += 1
        else:
            ratios.append(ours.time / best.time)
    took = time.process_time() - start
    missed = f", {lost} budgets not met" if lost else ""
    print(f"{name:24} {len(every):7} sets {max(ratios):8.3f}   in {took:.0f} s{missed}", flush=True)


# ---------------------------------------------------------------- choices by node


@dataclass(frozen=True, slots=True)
class Value:
    """A tensor or a gradient: what it is computed from, its bytes, its work."""

    needs: frozenset[int]
    size: int
    work: float


@dataclass(frozen=True, slots=True, eq=False)
class Steps:
    """A training step: the values of the forward pass, then their gradients in reverse."""

    values: tuple[Value, ...]
    forward: int
    parts: tuple[frozenset[int], ...]
    """The values that each part of the network computes."""

    @staticmethod
    def of(graph: Graph) -> Steps:
        run, works = Simulation.of(graph, {}, "float32"), node_works(graph, {}, "float32")
        buffers = run.buffers(training=True)
        inputs = {Tensor(n.id) for n in graph.input_nodes}
        order = [b for b in dict.fromkeys(buffers.values()) if b not in inputs]
        number = {buffer: i for i, buffer in enumerate(order)}
        count = len(order)
        needs: list[set[int]] = [set() for _ in order]
        back: dict[int, set[int]] = {i: set() for i in range(-1, count)}  # -1 are the network's inputs
        work, extra = [0.0] * count, [0.0] * (count + 1)
        members: dict[int, set[int]] = {}
        for node in graph.nodes():
            if Tensor(node.id) in inputs:
                continue
            own = number[buffers[Tensor(node.id)]]
            members.setdefault(own, set()).add(node.id)
            read = [number.get(buffers[t], -1) for t in node.inputs]
            needs[own].update(i for i in read if i not in (-1, own))
            work[own] += works[node.id]
            saves = run.saves(node, own in read)
            kept = {i for i in read if i >= 0} if saves.inputs else set()
            kept |= {own} if saves.outputs else set()
            for i in set(read):
                # Within a value, what is saved is needed for the gradient of what the value is computed from.
                targets = needs[own] or {-1} if i == own else {i}
                for target in targets:
                    back[target] |= kept | {2 * count - 1 - own}
                    extra[target] += 2 * works[node.id] / len(set(read)) / len(targets)
        values = [Value(frozenset(needs[i]), run.bytes(order[i]), work[i]) for i in range(count)]
        for i in range(count - 1, -2, -1):
            last = {count - 1} if i == count - 1 else set()
            deps = frozenset((back[i] | last) - {2 * count - 1 - i})
            values.append(Value(deps, values[i].size if i >= 0 else 0, extra[i]))
        every: list[Part] = [s for s in graph.root.scopes() if s.kind != "model"]
        every += [*series(graph, Layout.of(graph)), *crossing(graph, Layout.of(graph))]
        parts = [{n.id for n in rerun(run, [*p.nodes()])} for p in every]
        inside = [frozenset(i for i, nodes in members.items() if nodes <= part) for part in parts]
        return Steps(tuple(values), count, tuple(dict.fromkeys(p for p in inside if p)))

    def schedule(self, again: Sequence[frozenset[int]]) -> list[int]:
        """The values in the order in which they are computed, the parts again before their gradients."""
        order = list(range(self.forward))
        for i in range(self.forward, len(self.values)):
            for part in again:
                if not part.isdisjoint(self.values[i].needs) and not part & set(order[self.forward :]):
                    order += sorted(part)
            order.append(i)
        return order

    def peak(self, order: Sequence[int]) -> int:
        """The most bytes held, when each value is let go of after its last use before it is computed again."""
        uses: dict[int, int] = {}
        last = [0] * len(order)
        for place, i in enumerate(order):
            uses[i] = last[place] = place
            for need in self.values[i].needs:
                last[uses[need]] = place
        ends: dict[int, int] = {}
        held = most = 0
        for place, i in enumerate(order):
            held += self.values[i].size
            most = max(most, held)
            ends[last[place]] = ends.get(last[place], 0) + self.values[i].size
            held -= ends.get(place, 0)
        return most

    def time(self, order: Sequence[int]) -> float:
        return sum(self.values[i].work for i in order) / sum(value.work for value in self.values)


class Program:
    """Checkmate's integer program: in stage t, value t is computed for the first time, others again.

    Variables: R[t, i] computes i in stage t, S[t, i] keeps i for stage t, F[t, i, k] lets go of i after k was computed.
    """

    def __init__(self, steps: Steps, limit: int) -> None:
        self.values, self.count = steps.values, len(steps.values)
        n = self.count
        self.total = sum(value.work for value in self.values)
        self.scale = max(value.size for value in self.values)
        self.readers = [[j for j, v in enumerate(self.values) if i in v.needs] for i in range(n)]
        self.names: dict[tuple[object, ...], int] = {}
        self.rows: list[tuple[Mapping[int, float], float]] = []
        self.fixed: list[int] = []
        for t in range(n):
            for i in range(t + 1):
                self.name("R", t, i)
            self.fixed.append(self.name("R", t, t))
            for i in range(t):
                self.name("S", t, i)
        for t in range(n):
            self.stage(t, limit / self.scale)

    def name(self, *key: object) -> int:
        return self.names.setdefault(key, len(self.names))

    def at_most(self, bound: float, *terms: tuple[float, int]) -> None:
        row: dict[int, float] = {}
        for factor, variable in terms:
            row[variable] = row.get(variable, 0) + factor
        self.rows.append((row, bound))

    def stage(self, t: int, limit: float) -> None:
        """What may be computed and kept in a stage, and that it fits after each value."""
        for i in range(t):
            before = [(-1.0, self.name("R", t - 1, i)), *([(-1.0, self.name("S", t - 1, i))] if i < t - 1 else [])]
            self.at_most(0, (1, self.name("S", t, i)), *before)
        held = [(self.values[i].size / self.scale, self.name("S", t, i)) for i in range(t)]
        for k in range(t + 1):
            for i in self.values[k].needs:
                self.at_most(0, (1, self.name("R", t, k)), (-1, self.name("R", t, i)), (-1, self.name("S", t, i)))
            held.append((self.values[k].size / self.scale, self.name("R", t, k)))
            self.at_most(limit, *held)
            for i in (*self.values[k].needs, k):
                held.append((-self.values[i].size / self.scale, self.freed(t, i, k)))

    def freed(self, t: int, i: int, k: int) -> int:
        free, computed = self.name("F", t, i, k), self.name("R", t, k)
        self.at_most(0, (1, free), (-1, computed))
        if t + 1 < self.count:
            self.at_most(1, (1, free), (1, self.name("S", t + 1, i)))
        for j in self.readers[i]:
            if k < j <= t:
                self.at_most(1, (1, free), (1, self.name("R", t, j)))
        return free

    def solve(self) -> tuple[float, float] | None:
        """The time as a multiple of the plain one, and a lower bound of it; None if nothing was found."""
        count = len(self.names)
        cost, whole = np.zeros(count), np.zeros(count)
        for key, variable in self.names.items():
            whole[variable] = key[0] != "F"
            if key[0] == "R":
                cost[variable] = self.values[key[2]].work / self.total  # type: ignore[index]
        cells = [(r, v, f) for r, (row, _) in enumerate(self.rows) for v, f in row.items()]
        at, columns, factors = zip(*cells, strict=True)
        matrix = csr_array((factors, (at, columns)), shape=(len(self.rows), count))
        lower = np.zeros(count)
        lower[self.fixed] = 1
        found = milp(
            cost,
            constraints=LinearConstraint(matrix, ub=[bound for _, bound in self.rows]),
            bounds=Bounds(lower, 1),
            integrality=whole,
            options={"time_limit": SECONDS, "mip_rel_gap": 0.002},
        )
        return (found.fun, found.mip_dual_bound) if found.x is not None else None


def compare_nodes(name: str, graph: Graph) -> None:
    """The best choice of parts against the best choice of nodes, at the memory that parts need."""
    steps = Steps.of(graph)
    sets = [steps.schedule(chosen) for chosen in antichains([(part, part) for part in steps.parts])]  # type: ignore[arg-type]
    every = sorted((steps.peak(order), steps.time(order)) for order in sets)
    plain = steps.peak(steps.schedule(()))
    kept: list[tuple[int, float]] = []
    for peak, took in every:
        if peak < plain and (not kept or took < kept[-1][1]):
            kept.append((peak, took))
    for peak, took in kept:
        found = Program(steps, peak).solve()
        best = f"{found[0]:8.3f} {found[1]:8.3f} {took / found[0]:8.3f}" if found else "not solved in time"
        print(f"{name:24} {len(steps.values):4} {peak / plain:8.2f} {took:8.3f} {best}", flush=True)


# ---------------------------------------------------------------- a lower bound


def bound(spec: str, cpu: bool) -> None:
    """Our time at half of the plain peak, or at the least one, and the bound of all others there."""
    graph = archdsl.check(spec)
    with patch.object(Simulation, "of", partial(Simulation.of, cpu=cpu)):
        search = Search(graph, Budget(0, BATCH, optimizer="sgd"))
        half = search.plain.peak // 2
        lower = LowerBound(search)
        for limit in sorted({half, max(half, search.least().peak)}):
            ours = search.within(limit)
            time, node = lower.within(limit)
            took = f"{ours.time:8.3f}" if ours is not None else f"{'-':>8}"
            where = "CPU" if cpu else "GPU"
            print(f"{spec:24} {where} {limit / search.plain.peak:8.2f} {took} {time:8.3f}  {node}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("what", choices=("parts", "nodes", "bound"))
    given = parser.parse_args()
    if given.what == "parts":
        for name, text in NETWORKS.items():
            compare_parts(name, archdsl.check(Source("net.arch", text)))
    elif given.what == "bound":
        print(f"{'':28} {'memory':>8} {'ours':>8} {'at least':>8}  because of")
        for cpu in (True, False):
            for spec in LARGE:
                bound(spec, cpu)
    else:
        print(f"{'':24} {'size':>4} {'memory':>8} {'parts':>8} {'nodes':>8} {'at least':>8} {'ratio':>8}")
        for name, text in TINY.items():
            compare_nodes(name, archdsl.check(Source("net.arch", text)))


if __name__ == "__main__":
    main()
