"""The calls of one block laid side by side: steps of a site become one entry, loops and conditions come back.

The entries are found from what was placed, never by running the spec a second time: an entry stands for exactly the
steps that it holds, one per lane.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import NoReturn, TypeAlias

from archdsl.backends.torch_source.cells import Cell, Region, Step
from archdsl.common.source import Span
from archdsl.syntax import tree

Unrolled: TypeAlias = tuple[tuple[int, int], ...]
"""The unrolled loops around an entry: (identity of the region, round)."""


class CannotMerge(Exception):
    """These calls cannot be one class."""


class CannotReroll(Exception):
    """A loop that cannot be written as one: its rounds are to be written out."""

    def __init__(self, loop: Loop) -> None:
        self.loop = loop


@dataclass(slots=True, eq=False)
class Group:
    """Lanes that run through the same code: the calls of a block, or the rounds of a loop in them, or a part of these.

    `above` gives each lane's place in the group around it.
    """

    count: int
    around: Group | None = None
    above: list[int] = field(default_factory=list)
    loop: Loop | None = None
    rounds: list[int] = field(default_factory=list)

    @property
    def in_loop(self) -> bool:
        """Whether the code is in a loop."""
        group: Group | None = self
        while group is not None and group.loop is None:
            group = group.around
        return group is not None

    def out(self, lane: int) -> int:
        """The call (a lane of the outermost group) that a lane belongs to."""
        group: Group = self
        while group.around is not None:
            lane = group.above[lane]
            group = group.around
        return lane


@dataclass(slots=True, eq=False)
class Leaf:
    """One operation or scope, in every lane of its group. `inner`: the entries of a scope that is written in place."""

    group: Group
    steps: list[Step]
    inner: list[Entry] | None = None


@dataclass(slots=True, eq=False)
class Loop:
    """The body of a `for` or `repeat`: `counts` rounds of it, one number per lane of `group`."""

    group: Group
    inner: Group
    counts: list[int]
    region: Region
    rounds_above: Unrolled
    body: list[Entry] = field(default_factory=list)


@dataclass(slots=True, eq=False)
class Branch:
    """One of several ways on: the lanes that take it, and what of the spec decides it."""

    inner: Group
    body: list[Entry]
    condition: tree.Value | None = None


@dataclass(slots=True, eq=False)
class Choice:
    """Entries that only some lanes have. Lanes that take no branch pass by."""

    group: Group
    branches: list[Branch]


Entry: TypeAlias = Leaf | Loop | Choice


@dataclass(slots=True, eq=False)
class Folder:
    """Folds calls into entries. `unrolled`: the loops to be written out, `inline`: which scopes are in place."""

    inline: frozenset[object]
    unrolled: set[tuple[int, Unrolled]] = field(default_factory=set)
    flat: set[object] = field(default_factory=set)
    """Scopes whose loops are written out always."""
    is_flat: bool = False
    by_position: bool = False
    """Whether sites count for nothing: the steps of all lanes are alike already, one by one."""
    branches: bool = True
    """Whether there may be conditions; where there may not, a loop that needs one is written out."""

    def fold_cells(self, cells: Sequence[Cell], group: Group, rounds_above: Unrolled = ()) -> list[Entry]:
        """The entries of calls of one body. Raises CannotMerge where their steps do not fit together."""
        regions = [] if self.by_position else cells[0].syntax.regions
        around, self.is_flat = self.is_flat, cells[0].key in self.flat
        entries = self.fold(regions, group, [c.steps for c in cells], rounds_above)
        self.is_flat = around
        return entries

    def fold(
        self, regions: Sequence[Region], group: Group, lanes: Sequence[Sequence[Step]], rounds_above: Unrolled
    ) -> list[Entry]:
        found: dict[tuple[int, object], dict[int, list[Step]]] = {}
        for lane, steps in enumerate(lanes):
            last: tuple[int, object] | None = None
            for number, step in enumerate(steps):
                key = (number, 0) if self.by_position else self._key(regions, step)
                if key != last and last is not None and not self.by_position and self._place(key) < self._place(last):
                    raise CannotMerge
                last = key
                found.setdefault(key, {}).setdefault(lane, []).append(step)
        entries: list[Entry] = []
        for key in sorted(found, key=self._place):
            kind = key[1]
            if isinstance(kind, Region):
                if isinstance(kind.statement, tree.If):
                    entries += self._choice(kind, group, found[key], rounds_above)
                else:
                    entries += self._loop(kind, group, found[key], rounds_above)
            else:
                entries += self._leaf(group, found[key], rounds_above)
        return entries

    @staticmethod
    def _place(key: tuple[int, object]) -> tuple[int, int]:
        return (key[0], 0 if isinstance(key[1], Region) else 1)

    @staticmethod
    def _key(regions: Sequence[Region], step: Step) -> tuple[int, object]:
        region = _region_of(regions, step)
        return (step.position, step.site) if region is None else (region.span.start, region)

    def _leaf(self, group: Group, found: dict[int, list[Step]], rounds_above: Unrolled) -> list[Entry]:
        if any(len(steps) != 1 for steps in found.values()):
            raise CannotMerge
        if len(found) == group.count:
            return [self._one(group, [found[i][0] for i in range(group.count)], rounds_above)]
        lanes = list(found)
        inner = Group(len(lanes), group, lanes)
        return self._branch(group, [Branch(inner, [self._one(inner, [found[i][0] for i in lanes], rounds_above)])])

    def _branch(self, group: Group, branches: list[Branch]) -> list[Entry]:
        if not self.branches:
            raise CannotMerge
        return [Choice(group, branches)]

    def _one(self, group: Group, steps: list[Step], rounds_above: Unrolled) -> Leaf:
        cells = [s.member for s in steps if isinstance(s.member, Cell)]
        if not cells or cells[0].key not in self.inline:
            return Leaf(group, steps)
        if len(cells) != len(steps) or any(c.key != cells[0].key for c in cells):
            raise CannotMerge
        return Leaf(group, steps, self.fold_cells(cells, group, rounds_above))

    def _choice(
        self, region: Region, group: Group, found: dict[int, list[Step]], rounds_above: Unrolled
    ) -> list[Entry]:
        taken: dict[int, list[int]] = {}
        for lane, steps in found.items():
            branches = {_branch_of(region, s) for s in steps}
            if len(branches) != 1:
                raise CannotMerge
            taken.setdefault(branches.pop(), []).append(lane)
        if len(taken) == 1 and len(found) == group.count:
            (number,) = taken
            return self.fold(region.branches[number][2], group, [found[i] for i in range(group.count)], rounds_above)
        branches_found: list[Branch] = []
        for number in sorted(taken):
            lanes = taken[number]
            condition, _, regions = region.branches[number]
            inner = Group(len(lanes), group, lanes)
            body = self.fold(regions, inner, [found[i] for i in lanes], rounds_above)
            branches_found.append(Branch(inner, body, condition))
        return self._branch(group, branches_found)

    def _loop(self, region: Region, group: Group, found: dict[int, list[Step]], rounds_above: Unrolled) -> list[Entry]:
        regions = region.branches[0][2]
        rounds = {lane: _rounds(region, steps) for lane, steps in found.items()}
        counts = [len(rounds.get(i, ())) for i in range(group.count)]
        if max(counts) == 1:
            if min(counts) == 1:
                return self.fold(regions, group, [rounds[i][0] for i in range(group.count)], rounds_above)
            lanes = [i for i, n in enumerate(counts) if n]
            inner = Group(len(lanes), group, lanes)
            body = self.fold(regions, inner, [rounds[i][0] for i in lanes], rounds_above)
            return self._branch(group, [Branch(inner, body)])
        if self.is_flat or (id(region), rounds_above) in self.unrolled or self._short(counts, rounds):
            if min(counts) != max(counts):
                raise CannotMerge
            entries: list[Entry] = []
            for k in range(counts[0]):
                steps = [rounds[i][k] for i in range(group.count)]
                entries += self.fold(regions, group, steps, (*rounds_above, (id(region), k)))
            return entries
        lanes = [i for i in range(group.count) for _ in range(counts[i])]
        inner = Group(len(lanes), group, lanes, rounds=[k for n in counts for k in range(n)])
        loop = Loop(group, inner, counts, region, rounds_above)
        inner.loop = loop
        steps_of = [steps for i in range(group.count) for steps in rounds.get(i, ())]
        try:
            loop.body = self.fold(regions, inner, steps_of, rounds_above)
        except CannotMerge:
            raise CannotReroll(loop) from None
        return [loop]

    @staticmethod
    def _short(counts: Sequence[int], rounds: dict[int, list[list[Step]]]) -> bool:
        """Whether the rounds written out take no more room than a loop."""
        if min(counts) != max(counts):
            return False
        steps = max(len(r) for found in rounds.values() for r in found)
        return (counts[0] - 1) * steps < 3 or (counts[0] == 2 and steps == 3)


def refuse(group: Group) -> NoReturn:
    """Says that these lanes cannot be one: the loop around them is to be written out, or the calls are unlike."""
    while group.loop is None and group.around is not None:
        group = group.around
    if group.loop is not None:
        raise CannotReroll(group.loop)
    raise CannotMerge


def _inside(span: Span, start: int, end: int) -> bool:
    return span.start <= start and end <= span.end


def _region_of(regions: Sequence[Region], step: Step) -> Region | None:
    return next((r for r in regions if _inside(r.span, step.site[0], step.site[1])), None)


def _branch_of(region: Region, step: Step) -> int:
    for number, (_, span, _) in enumerate(region.branches):
        if _inside(span, step.site[0], step.site[1]):
            return number
    raise CannotMerge


def _rounds(region: Region, steps: Sequence[Step]) -> list[list[Step]]:
    """The steps of a loop, a list for each round that has any."""
    found: dict[int, list[Step]] = {}
    for step in steps:
        number = next(number for start, number in reversed(step.rounds) if start == region.span.start)
        found.setdefault(number, []).append(step)
    return list(found.values())


def leaves(entries: Sequence[Entry], inside: bool = False) -> Iterator[Leaf]:
    """The leaves in order, with `inside` those of scopes written in place, too."""
    for entry in entries:
        match entry:
            case Leaf():
                yield entry
                if inside and entry.inner is not None:
                    yield from leaves(entry.inner, True)
            case Loop():
                yield from leaves(entry.body, inside)
            case Choice():
                for branch in entry.branches:
                    yield from leaves(branch.body, inside)


def choices(entries: Sequence[Entry]) -> Iterator[Choice]:
    for entry in entries:
        match entry:
            case Leaf():
                yield from choices(entry.inner or [])
            case Loop():
                yield from choices(entry.body)
            case Choice():
                yield entry
                for branch in entry.branches:
                    yield from choices(branch.body)


def loops(entries: Sequence[Entry]) -> Iterator[Loop]:
    for entry in entries:
        match entry:
            case Leaf():
                yield from loops(entry.inner or [])
            case Loop():
                yield entry
                yield from loops(entry.body)
            case Choice():
                for branch in entry.branches:
                    yield from loops(branch.body)
