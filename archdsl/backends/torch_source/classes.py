"""Which classes the generated module has: the calls of each block as few classes as their structure allows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import networkx as nx

from archdsl.analysis.overwriting import Overwriting
from archdsl.backends.torch_source.cells import Borrowed, Cell, Step, walk
from archdsl.backends.torch_source.flow import Router
from archdsl.backends.torch_source.fold import CannotMerge, CannotReroll, Entry, Folder, Group, Leaf, Loop
from archdsl.backends.torch_source.forms import kind as kind_of
from archdsl.backends.torch_source.lending import lay_out
from archdsl.backends.torch_source.names import is_attribute
from archdsl.backends.torch_source.numbers import Numbers
from archdsl.backends.torch_source.plainness import Plainness
from archdsl.backends.torch_source.plan import Plan
from archdsl.backends.torch_source.planner import Planner
from archdsl.graph import Graph, Node, Tensor
from archdsl.ops.forms import FunctionForm, ModuleForm
from archdsl.syntax import tree

SHORT = 4
"""A block of so many modules in a row that is called at one place is written in place."""


ARGUMENT = "argument"
"""Stands for an operation that a spec calls by the name of a parameter: it may be another one in another call."""

FLAT = 20
"""So many named modules of a scope are written out one by one, loops or not."""


DEEP = 8
"""The most sequences that are written within each other: Python takes 200 parentheses, and readers fewer."""


@dataclass(slots=True, eq=False)
class Classifier:
    """Finds the plans of a graph's classes, inner ones before those that use them; the model's comes last."""

    graph: Graph
    cells: Sequence[Cell]
    """The cells of all scopes, inner before outer."""
    overwriting: Overwriting
    plainness: Plainness = Plainness.READABLE
    groups: dict[object, list[Cell]] = field(default_factory=dict)
    inline: set[object] = field(default_factory=set)
    passed: set[object] = field(default_factory=set)
    """The blocks that are arguments of others: one place calls several of them."""
    flat: set[object] = field(default_factory=set)
    chains: dict[object, bool] = field(default_factory=dict)
    plans: dict[Cell, Plan] = field(default_factory=dict)
    found: list[Plan] = field(default_factory=list)

    def run(self) -> list[Plan]:
        inner_first = self.cells
        for number, cell in enumerate(inner_first):
            if self.plainness >= Plainness.UNFOLDED:
                cell.key = (number, cell.key)
            self.groups.setdefault(cell.key, []).append(cell)
        uses = nx.DiGraph()
        uses.add_nodes_from(self.groups)
        for cell in inner_first:
            uses.add_edges_from((cell.key, inner.key) for inner in walk(cell))
        parents = _parents(inner_first)
        if self.plainness < Plainness.UNFOLDED:
            self.passed = _passed(inner_first)
        heights: dict[object, int] = {}
        for keys in _inner_first(uses, list(self.groups)):
            recursive = len(keys) > 1 or uses.has_edge(keys[0], keys[0])
            height = 1 + max((heights.get(key, 0) for key in uses.successors(keys[0])), default=0)
            if not recursive and height <= DEEP and self.is_inline(self.groups[keys[0]], parents):
                self.inline.add(keys[0])
                heights[keys[0]] = height
            elif not recursive:
                self.solve(self.groups[keys[0]])
            else:
                self.solve_recursive(keys)
        return self.found

    # ------------------------------------------------------------ written in place

    def is_inline(self, calls: Sequence[Cell], parents: Mapping[Cell, tuple[Cell, Step]]) -> bool:
        """Whether a scope becomes an nn.Sequential in the class around it, without a class of its own."""
        first = calls[0]
        if self.plainness >= Plainness.STRAIGHT:
            return False
        if (
            first.scope.kind == "model"
            or first.recomputed
            or first.grows
            or any(c.recomputes or c.lent for c in calls)
            or first.key in self.passed
            or not all(c.chain for c in calls)
        ):
            return False
        above = [parents[c] for c in calls]
        if first.scope.kind == "block":
            at_one_place = len({(p.key, s.site) for p, s in above}) == 1 and len({p for p, _ in above}) == len(above)
            if not at_one_place or max(len(c.steps) for c in calls) > SHORT:
                return False
        positional = all(c.positional for c in calls)
        if not positional and not all(is_attribute(s.name) or s.name.isdigit() for c in calls for s in c.steps):
            return False
        try:
            entries = Folder(frozenset(self.inline), flat=self.flat).fold_cells(calls, Group(len(calls)))
            if all(isinstance(e, Leaf) for e in entries):
                return True
            if first.scope.kind == "block":
                return False
            if not positional and len(entries) == 1 and _simple(entries[0]):
                return True  # one loop, which an OrderedDict takes
            if not positional:
                self.flat.add(first.key)
                entries = Folder(frozenset(self.inline), flat=self.flat).fold_cells(calls, Group(len(calls)))
                if len(entries) <= FLAT and all(isinstance(e, Leaf) for e in entries):
                    return True
                self.flat.discard(first.key)
                return False
        except (CannotMerge, CannotReroll):
            return False
        return all(map(_simple, entries)) or not any(self.is_sequence(p) for p, _ in above)

    def is_sequence(self, cell: Cell) -> bool:
        """Whether a cell is an nn.Sequential: not a model whose members have names, so that it shows its flow."""
        if self.plainness >= Plainness.STRAIGHT:
            return False
        if cell.key not in self.chains:
            self.chains[cell.key] = all(c.chain for c in self.groups[cell.key])
        if not self.chains[cell.key]:
            return False
        return cell.scope.kind != "model" or any(_weighty(s) and s.name.isdigit() for s in cell.steps)

    # ------------------------------------------------------------ classes

    def solve(self, calls: Sequence[Cell]) -> None:
        """Makes one class of these calls, or as few as it can."""
        try:
            self.attempt(calls, False)
            return
        except CannotMerge:
            pass
        for key in (self.kinds, self.skeleton):
            parts: dict[object, list[Cell]] = {}
            for cell in calls:
                parts.setdefault(key(cell), []).append(cell)
            if len(parts) > 1:
                for part in parts.values():
                    self.solve(part)
                return
        try:
            self.attempt(calls, True)
        except CannotMerge:
            if len(calls) == 1:
                raise
            for cell in calls:
                self.solve([cell])

    def solve_recursive(self, keys: Sequence[object]) -> None:
        """Blocks that call themselves: one class that does so too, or else a class for each depth."""
        if len(keys) == 1:
            try:
                self.attempt(self.groups[keys[0]], False)
                return
            except CannotMerge:
                pass
        levels: dict[tuple[int, int], list[Cell]] = {}
        for number, key in enumerate(keys):
            for cell in self.groups[key]:
                levels.setdefault((cell.height, number), []).append(cell)
        for level in sorted(levels):
            self.solve(levels[level])

    def attempt(self, calls: Sequence[Cell], by_position: bool) -> None:
        """One class for these calls. Raises CannotMerge where they do not fit in one."""
        folder = Folder(
            frozenset(self.inline),
            by_position=by_position or self.plainness >= Plainness.STRAIGHT,
            flat=self.flat,
            branches=self.plainness < Plainness.UNFOLDED,
        )
        sequence = self.is_sequence(calls[0])
        for cell in calls if not sequence else ():
            lay_out(cell)
        if sequence and len({(frozenset(in_series(cell)), borrowed(cell)) for cell in calls}) > 1:
            raise CannotMerge
        plain = by_position
        while True:
            group = Group(len(calls))
            try:
                entries = folder.fold_cells(calls, group)
                flow = None if sequence else Router(plain).flow(calls, group, entries)
                plan = Plan(list(calls), entries, flow, complete=calls[0].key in self.passed)
                Planner.of(self.graph, self.plans, Numbers(plan, group), self.overwriting.activates).run()
                break
            except CannotReroll as refused:
                key = (id(refused.loop.region), refused.loop.rounds_above)
                if key in folder.unrolled:
                    raise CannotMerge from None
                folder.unrolled.add(key)
            except CannotMerge:
                if plain or sequence:
                    raise
                plain = True
        self.found.append(plan)
        for cell in calls:
            self.plans[cell] = plan

    def kinds(self, cell: Cell) -> object:
        """The structure of a call, without its numbers of rounds."""
        return frozenset((s.site, s.series, s.given, self.kind(cell, s)) for s in cell.steps), borrowed(cell)

    def kind(self, cell: Cell, step: Step) -> object:
        """The kind of a step; a placeholder if the spec calls an operation by the name of a parameter."""
        item = cell.syntax.items.get((step.site[0], step.site[1]))
        form, member = step.form, step.member
        if isinstance(member, Node) and isinstance(form, ModuleForm) and isinstance(item, tree.Call):
            own = form.frozen or form.fill or form.start
            return kind_of(form) if own or item.name.name == member.operation.name else ARGUMENT
        if isinstance(member, Cell):
            return ARGUMENT if member.key in self.passed else id(self.plans.get(member))
        return kind_of(step.form)

    def skeleton(self, cell: Cell) -> object:
        """The exact structure of a call: its steps, their names, and how they are wired."""
        places: dict[Tensor, tuple[int, int]] = {t: (-1, i) for i, t in enumerate(cell.inputs)}
        rows: list[object] = []
        for number, step in enumerate(cell.steps):
            kind = self.kind(cell, step)
            if kind == ARGUMENT:
                form: object = ARGUMENT
            elif isinstance(step.form, ModuleForm | FunctionForm) and step.form.arguments:
                form = tuple(a.name for a in step.form.arguments)
            else:
                form = repr(step.form)
            name = "" if cell.chain and cell.positional else step.name
            inner = (
                self.skeleton(step.member) if isinstance(step.member, Cell) and step.member.key in self.inline else None
            )
            if step.calls:
                form = step.name
            elif isinstance(step.member, Borrowed):
                form = step.member.path
            rows.append(
                (
                    name,
                    (step.series, step.given),
                    kind,
                    form,
                    tuple(places[t] for t in step.inputs),
                    inner,
                )
            )
            places.update({t: (number, i) for i, t in enumerate(step.outputs)})
        return tuple(rows), borrowed(cell), tuple(places[t] for t in cell.outputs), len(cell.inputs)


def _inner_first(uses: nx.DiGraph, keys: Sequence[object]) -> list[list[object]]:
    """The keys, those that use each other together, users behind what they use; else in the order given."""
    place = {key: i for i, key in enumerate(keys)}
    knots = nx.condensation(uses)
    members = {knot: sorted(found, key=place.__getitem__) for knot, found in knots.nodes(data="members")}
    ordered = nx.lexicographical_topological_sort(knots.reverse(copy=False), key=lambda knot: place[members[knot][0]])
    return [members[knot] for knot in ordered]


def in_series(cell: Cell) -> list[tuple[int, int]]:
    """Where the layers of a cell that are recomputed in series begin, and where the ones behind them do."""
    places = [(i, step.series) for i, step in enumerate(cell.steps) if step.series is not None]
    return [(i, i + count) for i, (place, count) in places if place == 0]


def borrowed(cell: Cell) -> frozenset[tuple[object, ...]]:
    """The layers that an nn.Sequential recomputes across the borders of its members, by their paths."""
    return frozenset(
        tuple(s.member.path if isinstance(s.member, Borrowed) else s.name for s in c.steps) for c in cell.crossing
    )


def _parents(inner_first: Sequence[Cell]) -> dict[Cell, tuple[Cell, Step]]:
    return {s.member: (cell, s) for cell in inner_first for s in cell.steps if isinstance(s.member, Cell)}


def _passed(inner_first: Sequence[Cell]) -> set[object]:
    """The bodies of blocks that are called at one place of the spec, one in one call and one in another."""
    called: dict[object, dict[object, set[object]]] = {}
    for cell in inner_first:
        for step in cell.steps:
            if isinstance(step.member, Cell) and (definition := step.member.scope.definition) is not None:
                blocks = called.setdefault((cell.key, step.site), {})
                blocks.setdefault(id(definition.syntax), set()).add(step.member.key)
    return {key for blocks in called.values() if len(blocks) > 1 for keys in blocks.values() for key in keys}


def _simple(entry: Entry) -> bool:
    """Whether it is an expression in nn.Sequential's parentheses."""
    return isinstance(entry, Leaf) or (
        isinstance(entry, Loop) and len(entry.body) == 1 and isinstance(entry.body[0], Leaf)
    )


def _weighty(step: Step) -> bool:
    """Whether it may have weights."""
    return isinstance(step.member, Cell) or (isinstance(step.form, ModuleForm) and step.form.factory)
