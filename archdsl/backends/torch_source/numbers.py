"""Numbers that differ between the calls of a block, written as functions of its parameters.

The spec says what a number is: its expression there is taken where it gives exactly the number in every lane. What the
spec does not say (the channels that flow in, the rounds of a loop that is found again) is a constant, a variable of
the same values, or a multiple of one; else the class gets a parameter.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from archdsl.backends.torch_source import expressions as ex
from archdsl.backends.torch_source.expressions import Binary, Const, Env, Expr, Var
from archdsl.backends.torch_source.fold import CannotMerge, CannotReroll, Group, refuse
from archdsl.backends.torch_source.plan import Parameter, Plan, Running

LONG = 5
"""An expression of more parts is worth a look for a plain multiple of the same value."""


@dataclass(slots=True, eq=False)
class Frame:
    """Lanes: the calls of a block (or rounds of a loop within them) that one piece of code stands for.

    `values` has a row for each variable, one value per lane, in order of preference.
    """

    count: int
    values: dict[str, list[object]] = field(default_factory=dict)
    running: dict[str, list[object]] = field(default_factory=dict)
    """Variables that change on the way, which only stand for what flows."""

    def env(self, lane: int) -> Env:
        return lambda name: (self.values[name] if name in self.values else self.running[name])[lane]

    def row(self, expr: Expr) -> list[object] | None:
        """The values of an expression, one per lane; None where one has none."""
        found = self.known(expr)
        return found if len(found) == self.count else None

    def known(self, expr: Expr) -> list[object]:
        """The values of an expression in the lanes in which it has one."""
        found: list[object] = []
        for lane in range(self.count):
            with suppress(*ex.MISTAKES):
                found.append(ex.evaluate(expr, self.env(lane)))
        return found

    def agrees(self, expr: Expr, row: Sequence[object]) -> bool:
        """Whether the expression has exactly these values."""
        try:
            return all(ex.same(ex.evaluate(expr, self.env(i)), v) for i, v in enumerate(row))
        except ex.MISTAKES:
            return False

    def find(self, row: Sequence[object], hints: Sequence[Expr] = ()) -> Expr | None:
        """The expression that has these values: a constant, a hint, a variable, or a multiple of one."""
        if ex.constant(row):
            return Const(row[0]) if ex.plain(row[0]) else None
        for hint in hints:
            if self.agrees(hint, row):
                hint = whole if self.agrees(whole := ex.undivided(hint), row) else hint
                # The spec may compute at length what comes to a plain multiple here.
                plain = self.multiple(row) if ex.size(hint) > LONG else None
                return plain if plain is not None and ex.size(plain) <= 3 else hint
        for name, values in self.values.items():
            if all(map(ex.same, values, row)):
                return Var(name)
        return self.multiple(row)

    def multiple(self, row: Sequence[object]) -> Expr | None:
        """A multiple or part of a variable, or what is at a distance from one."""
        if not all(map(ex.is_int, row)):
            return None
        for name, values in self.values.items():
            if all(map(ex.is_int, values)) and not ex.constant(values):
                for guess in _guesses(Var(name), values, row):
                    if self.agrees(guess, row):
                        return guess
        return None


def _guesses(variable: Var, values: Sequence[Any], row: Sequence[Any]) -> Iterator[Expr]:
    value, first = values[0], row[0]
    if value and first % value == 0:
        yield ex.simplify(Binary("*", Const(first // value), variable))
    if first and value % first == 0:
        yield Binary("//", variable, Const(value // first))
    yield ex.simplify(Binary("+", variable, Const(first - value)))
    points = dict(zip(values, row, strict=True))
    if len(points) > 2:  # a line, which three values bear out
        (v0, r0), (v1, r1), *_ = points.items()
        slope = Const((r1 - r0) // (v1 - v0))
        yield ex.simplify(Binary("+", Binary("*", slope, variable), Const(r0 - slope.value * v0)))


@dataclass(slots=True, eq=False)
class Numbers:
    """Finds the expression for each number of a class. `group` are its calls."""

    plan: Plan
    group: Group
    frames: dict[Group, Frame] = field(default_factory=dict)
    parameters: dict[str, Parameter] = field(default_factory=dict)
    used: dict[str, None] = field(default_factory=dict)
    """Parameters and variables of loops that some number takes."""
    recent: list[Expr] = field(default_factory=list)
    """The latest results, which often fit the next numbers, too."""
    running: dict[str, Running] = field(default_factory=dict)
    owner: str = ""
    """The member that is being settled, for the names of parameters that the spec does not have."""
    sources: dict[str, Expr] = field(default_factory=dict)
    """The iterables of the loops' variables."""

    def frame(self, group: Group) -> Frame:
        if group not in self.frames:
            assert group.around is not None
            outer = self.frame(group.around)
            values = {n: [v[a] for a in group.above] for n, v in outer.values.items()}
            running = {n: [v[a] for a in group.above] for n, v in outer.running.items()}
            self.frames[group] = Frame(group.count, values, running)
        return self.frames[group]

    def keep(self, expr: Expr) -> Expr:
        names = list(ex.variables(expr))
        for name in names:
            self.used[name] = None
            if name in self.sources:
                self.keep(self.sources.pop(name))
            if name in self.running and not self.running[name].used:
                self.running[name].used = True
                for part in (self.running[name].first, *self.running[name].after):
                    if part is not None:
                        self.keep(part)
        if any("@" in name for name in names):
            return expr
        if not isinstance(expr, Const | Var) and expr not in self.recent:
            self.recent = [expr, *self.recent[:15]]
        return expr

    def resolve(
        self,
        row: Sequence[object],
        group: Group,
        hints: Sequence[Expr],
        name: str,
        stated: Expr | None = None,
        free: Collection[int] = (),
    ) -> Expr:
        """The expression for a number with these values, one per lane; a new parameter where there is no other way.

        `stated` is what the spec says for it, the hints are what else it may be. Any value will do in `free` lanes.
        """
        if stated is not None and self.is_pick(stated):
            return self.picked(row, group, name, free)
        hints = [h for h in hints if not self.is_pick(h)]
        if stated is not None and any(isinstance(value, float) for value in row):
            agrees = self.frame(group).agrees
            stated = next((e for e in (stated, *ex.divided(stated)) if agrees(e, row)), stated)
        if stated is not None:
            firm = self.plan.complete or self.is_element(stated, group)
            if firm and self.frame(group).agrees(stated, row):
                return self.keep(stated)
            hints = [stated, *hints]
        still = [h for h in hints if not self.is_running(h)]
        found = self.stated_here(row, group, stated) or self.frame(group).find(row, still)
        if found is None and group.loop is not None:
            found = self.progression(row, group, 3)
        if found is None:
            found = next((h for h in hints if self.frame(group).agrees(h, row)), None)
        if found is not None:
            return self.keep(found)
        if group.around is None:
            return self.parameter(name, list(row), free)
        return self.resolve_outside(row, group, hints, name)

    def is_element(self, expr: Expr, group: Group) -> bool:
        """Whether it is an element of a list that differs between the calls."""
        lists = [e.base.name for e in ex.parts(expr) if isinstance(e, ex.Item) and isinstance(e.base, Var)]
        values = self.frame(group).values
        return any(name in values and not ex.constant(values[name]) for name in lists)

    def is_pick(self, expr: Expr) -> bool:
        """Whether it picks, by a number of the call, from a list that all calls of a body share.

        The class takes what is picked instead of both.
        """
        known = self.parameters
        picks = any(
            isinstance(e, ex.Item)
            and isinstance(e.base, Var)
            and (e.base.name in known and ex.constant(known[e.base.name].values))
            and any(n in known and not ex.constant(known[n].values) for n in ex.variables(e.index))
            for e in ex.parts(expr)
        )
        return picks and self.plan.cells[0].scope.definition is None and self.group.count > 1

    def picked(self, row: Sequence[object], group: Group, name: str, free: Collection[int]) -> Expr:
        """What was picked from a list: a parameter of these values. A formula would fit them by chance."""
        lanes = [i for i in range(len(row)) if i not in free]
        for known, values in self.frame(group).values.items():
            if known in self.parameters and all(ex.same(values[i], row[i]) for i in lanes):
                return self.keep(Var(known))
        if group.around is None:
            return self.parameter(name, list(row), free)
        found = self.calls(row, group)
        if found is None:
            return self.column(row, group, name)
        return self.picked(found[0], group.around, name, found[1])

    def is_running(self, expr: Expr) -> bool:
        return any(name in self.running for name in ex.variables(expr))

    def stated_here(self, row: Sequence[object], group: Group, stated: Expr | None) -> Expr | None:
        """The spec's expression for a number that is equal in the calls that have it, but would differ in others."""
        if stated is None or group.around is None or not ex.constant(row):
            return None
        if self.is_running(stated) or not self.frame(group).agrees(stated, row):
            return None
        return stated if any(not ex.same(v, row[0]) for v in self.frame(group.around).known(stated)) else None

    def resolve_outside(self, row: Sequence[object], group: Group, hints: Sequence[Expr], name: str) -> Expr:
        """A number that depends on the call alone, or on the round of a loop by a table."""
        found = self.calls(row, group)
        if found is None:
            return self.column(row, group, name)
        assert group.around is not None
        return self.resolve(found[0], group.around, hints, name, free=found[1])

    def calls(self, row: Sequence[object], group: Group) -> tuple[list[object], set[int]] | None:
        """The value for each lane outside, and the lanes that have none; None where one has several."""
        by_lane: dict[int, object] = {}
        for lane, value in enumerate(row):
            if not ex.same(by_lane.setdefault(group.above[lane], value), value):
                return None
        assert group.around is not None
        fill = next(iter(by_lane.values()))
        lanes = range(group.around.count)
        return [by_lane.get(i, fill) for i in lanes], {i for i in lanes if i not in by_lane}

    def progression(self, row: Sequence[object], group: Group, least: int) -> Expr | None:
        """a + b * index, where a and b depend on what is outside of the loop, and `least` rounds bear it out."""
        loop = group.loop
        assert loop is not None and group.around is not None
        if not all(map(ex.is_int, row)) or max(loop.counts) < least:
            return None
        values: list[int] = [v for v in row if isinstance(v, int)]
        starts: list[int] = []
        slopes: list[int | None] = []
        lane = 0
        for count in loop.counts:
            part = values[lane : lane + count]
            lane += count
            starts.append(part[0] if part else 0)
            slopes.append(part[1] - part[0] if len(part) > 1 else None)
            if any(v != part[0] + k * (slopes[-1] or 0) for k, v in enumerate(part)):
                return None
        known = [s for s in slopes if s is not None]
        filled = [known[0] if s is None else s for s in slopes]
        frame = self.frame(group.around)
        start, slope = frame.find(starts, self.recent), frame.find(filled, self.recent)
        if start is None or slope is None:
            return None
        found = ex.simplify(Binary("+", start, ex.simplify(Binary("*", self.plan.headings[loop].index, slope))))
        return found if self.frame(group).agrees(found, row) else None

    def column(self, row: Sequence[object], group: Group, name: str) -> Expr:
        """A number that each round of a loop takes from a list. Raises CannotReroll if separate lines are plainer."""
        loop = group.loop
        assert group.around is not None
        if loop is None:
            refuse(group)
        if min(loop.counts) == max(loop.counts) and (loop.counts[0] < 6 or len(self.plan.headings[loop].columns) > 1):
            raise CannotReroll(loop)
        heading = self.plan.headings[loop]
        tuples: list[tuple[object, ...]] = []
        lane = 0
        for count in loop.counts:
            tuples.append(tuple(row[lane : lane + count]))
            lane += count
        if loop.group.around is None and loop.group.count == 1 and len(heading.names) > 0:
            raise CannotReroll(loop)
        over = self.resolve(tuples, group.around, [heading.over] if heading.over is not None else [], name + "s")
        variable = Var(f"{name}@{id(loop)}.{len(heading.columns)}")
        heading.columns.append((variable, over))
        self.frame(group).values[variable.name] = list(row)
        return self.keep(variable)

    def parameter(self, name: str, values: list[object], free: Collection[int] = ()) -> Expr:
        """A parameter that the spec does not have: a new one, or one that agrees where neither is free."""
        if not all(map(ex.plain, values)):
            raise CannotMerge
        for found in self.parameters.values():
            both = [i for i in range(len(values)) if i not in free and i not in found.free]
            if (free or found.free) and both and all(ex.same(values[i], found.values[i]) for i in both):
                for lane in found.free.difference(free):
                    found.values[lane] = values[lane]
                found.free.intersection_update(free)
                self.spread(found)
                return self.keep(Var(found.name))
        if name in self.parameters and self.owner:
            name = f"{self.owner}_{name}"
        base, number = name, 1
        while name in self.parameters:
            number += 1
            name = f"{base}{number}"
        if all(map(ex.is_int, values)):
            values = [0 if lane in free else v for lane, v in enumerate(values)]
        self.parameters[name] = Parameter(name, values, free=set(free))
        self.spread(self.parameters[name])
        return self.keep(Var(name))

    def bound(self, name: str, row: Sequence[object], group: Group) -> Expr | None:
        """A value that the spec has a name for: a constant, or a parameter of that name, which is kept where used."""
        if ex.constant(row):
            return Const(row[0]) if ex.plain(row[0]) else None
        frame = self.frame(group)
        variables = [Var(known) for known in (*frame.values, *frame.running)]
        found = next((e for e in (*variables, *self.recent) if frame.agrees(e, row)), None)
        if found is not None:
            return found
        values: dict[int, object] = {}
        for lane, value in enumerate(row):
            if not ex.plain(value) or not ex.same(values.setdefault(group.out(lane), value), value):
                return None
        calls = [values.get(i, row[0]) for i in range(self.group.count)]
        while name in self.parameters and self.parameters[name].values != calls:
            name += "_"
        if name not in self.parameters:
            self.parameters[name] = Parameter(name, calls)
            self.spread(self.parameters[name], stated=True)
        return Var(name)

    def spread(self, parameter: Parameter, stated: bool = False) -> None:
        """Gives the values of a parameter to all lanes; one that only expressions of the spec may take is `stated`."""
        for group, frame in self.frames.items():
            values = frame.running if stated else frame.values
            values[parameter.name] = [parameter.values[group.out(i)] for i in range(group.count)]
