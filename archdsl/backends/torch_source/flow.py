"""What flows between entries: the variables of a `forward`, loops and conditions included.

Each value has a row: the tensor of the graph that it is, one a lane. A step that takes other tensors in other lanes
takes a value whose row is just these; where none is, one is made that joins the ways of a condition, or that a loop
carries from round to round. So the code that comes out does in every lane what the graph does.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

from archdsl.backends.torch_source.cells import Cell
from archdsl.backends.torch_source.fold import Choice, Entry, Group, Irregular, Leaf, Loop, Unlike
from archdsl.graph import Tensor
from archdsl.ops.forms import ModuleForm

Wanted: TypeAlias = dict[int, Tensor]
"""The tensor that a step takes in each lane of a group; lanes that do not matter are left out."""


@dataclass(slots=True, eq=False)
class Value:
    """A variable. `row` has None in lanes where it does not matter."""

    row: list[Tensor | None]
    time: int
    uses: int = 0
    place: Place | None = None


@dataclass(slots=True, eq=False)
class Call:
    """A leaf at work. An optional one is an identity in lanes that do not have it."""

    leaf: Leaf
    inputs: list[Value]
    outputs: list[Value]
    optional: Choice | None = None


@dataclass(slots=True, eq=False)
class Join:
    """A value that is another one on each way through a condition; `passed` where no branch is taken."""

    value: Value
    branches: list[Value | None]
    passed: Value | None


@dataclass(slots=True, eq=False)
class Decision:
    choice: Choice
    branches: list[list[Action]]
    places: list[Place]
    joins: list[Join] = field(default_factory=list)


@dataclass(slots=True, eq=False)
class Carried:
    """A value that a loop carries on: `first` before it, `after` at the end of each round, `final` behind it."""

    value: Value
    first: Value
    after: Value | None = None
    final: Value | None = None


@dataclass(slots=True, eq=False)
class Rounds:
    loop: Loop
    body: list[Action]
    place: Place
    carried: list[Carried]


Action: TypeAlias = Call | Decision | Rounds


@dataclass(slots=True, eq=False)
class Flow:
    """The whole of a `forward`."""

    inputs: list[Value]
    actions: list[Action]
    outputs: list[Value]


@dataclass(slots=True, eq=False)
class Place:
    """A stretch of code that a group of lanes runs through, and the values made in it."""

    group: Group
    around: Place | None
    start: int
    values: list[Value] = field(default_factory=list)
    actions: list[Action] = field(default_factory=list)
    carried: list[Carried] = field(default_factory=list)
    _index: dict[int, dict[Tensor, list[Value]]] = field(default_factory=dict)

    def add(self, value: Value) -> Value:
        self.values.append(value)
        value.place = self
        for lane, by_tensor in self._index.items():
            tensor = value.row[lane]
            if tensor is not None:
                by_tensor.setdefault(tensor, []).append(value)
        return value

    def at(self, lane: int, tensor: Tensor) -> Sequence[Value]:
        """The values that are this tensor in this lane."""
        if lane not in self._index:
            self._index[lane] = {}
            for value in self.values:
                found = value.row[lane]
                if found is not None:
                    self._index[lane].setdefault(found, []).append(value)
        return self._index[lane].get(tensor, ())


@dataclass(slots=True, eq=False)
class Router:
    """Finds the value for each input of each step. `plain` keeps every condition a condition, never an nn.Identity."""

    plain: bool = False
    clock: int = 0
    members: list[set[str]] = field(default_factory=list)
    """The names of the members of each call."""

    def flow(self, cells: Sequence[Cell], group: Group, entries: Sequence[Entry]) -> Flow:
        """The flow of calls with these entries. Raises Unlike where their tensors flow on different ways."""
        first = cells[0]
        if any(len(c.inputs) != len(first.inputs) or len(c.outputs) != len(first.outputs) for c in cells):
            raise Unlike
        self.members = [{step.name for step in c.steps} for c in cells]
        place = Place(group, None, 0)
        inputs = [place.add(Value([c.inputs[i] for c in cells], 0)) for i in range(len(first.inputs))]
        self.run(entries, place)
        outputs = [
            self.take(place, {lane: c.outputs[i] for lane, c in enumerate(cells)}) for i in range(len(first.outputs))
        ]
        return Flow(inputs, place.actions, outputs)

    def run(self, entries: Sequence[Entry], place: Place) -> None:
        for entry in entries:
            self.clock += 1
            match entry:
                case Leaf():
                    self.call(entry, place)
                case Loop():
                    self.loop(entry, place)
                case Choice():
                    self.choose(entry, place)

    def call(self, leaf: Leaf, place: Place) -> None:
        steps = leaf.steps
        if any(len(s.inputs) != len(steps[0].inputs) or len(s.outputs) != len(steps[0].outputs) for s in steps):
            raise Unlike
        inputs = [
            self.take(place, {lane: s.inputs[i] for lane, s in enumerate(steps)}) for i in range(len(steps[0].inputs))
        ]
        outputs = [place.add(Value([s.outputs[i] for s in steps], self.clock)) for i in range(len(steps[0].outputs))]
        place.actions.append(Call(leaf, inputs, outputs))

    def loop(self, loop: Loop, place: Place) -> None:
        inner = Place(loop.inner, place, self.clock)
        try:
            self.run(loop.body, inner)
            for carried in inner.carried:
                self.close(carried, inner)
        except Unlike:
            raise Irregular(loop) from None
        place.actions.append(Rounds(loop, inner.actions, inner, inner.carried))
        for carried in inner.carried:
            carried.final = place.add(Value(self.final_row(carried, loop, inner, place), self.clock))

    def close(self, carried: Carried, inner: Place) -> None:
        """Finds what a carried value becomes at the end of a round."""
        group = inner.group
        wanted: Wanted = {}
        for lane, k in enumerate(group.rounds):
            tensor = carried.value.row[lane]
            if k and tensor is not None:
                wanted[lane - 1] = tensor
        after = self.find(inner, wanted)
        if after is None:
            raise Unlike
        carried.after = after
        after.uses += 1
        for lane, k in enumerate(group.rounds):
            if k and carried.value.row[lane] is None:
                carried.value.row[lane] = self.seen(after, inner, lane - 1)

    def final_row(self, carried: Carried, loop: Loop, inner: Place, outer: Place) -> list[Tensor | None]:
        assert carried.after is not None
        row: list[Tensor | None] = []
        lane = 0
        for i, count in enumerate(loop.counts):
            lane += count
            row.append(self.seen(carried.after, inner, lane - 1) if count else self.seen(carried.first, outer, i))
        return row

    def choose(self, choice: Choice, place: Place) -> None:
        if not self.plain and self.optional(choice, place):
            return
        places: list[Place] = []
        for branch in choice.branches:
            inner = Place(branch.inner, place, self.clock)
            self.run(branch.body, inner)
            places.append(inner)
        place.actions.append(Decision(choice, [p.actions for p in places], places))

    def optional(self, choice: Choice, place: Place) -> bool:
        """Whether a condition is one module more or less, so that an nn.Identity can stand for it where it is not."""
        if len(choice.branches) != 1 or len(choice.branches[0].body) != 1:
            return False
        (branch,) = choice.branches
        leaf = branch.body[0]
        if not isinstance(leaf, Leaf) or not all(_is_module(s.form) for s in leaf.steps):
            return False
        if any(len(s.inputs) != 1 or len(s.outputs) != 1 for s in leaf.steps):
            return False
        without = {choice.group.out(i) for i in set(range(choice.group.count)).difference(branch.inner.above)}
        names = {s.name for s in leaf.steps}
        if not choice.group.in_loop and any(names & self.members[call] for call in without):
            return False  # where it is not, something else has its name
        value = self.find(place, {branch.inner.above[i]: s.inputs[0] for i, s in enumerate(leaf.steps)})
        if value is None:
            return False
        value.uses += 1
        row = [self.seen(value, place, lane) for lane in range(place.group.count)]
        for i, step in enumerate(leaf.steps):
            row[branch.inner.above[i]] = step.outputs[0]
        place.actions.append(Call(leaf, [value], [place.add(Value(row, self.clock))], choice))
        return True

    # ------------------------------------------------------------ which value

    def take(self, place: Place, wanted: Wanted) -> Value:
        value = self.find(place, wanted)
        if value is None:
            raise Unlike
        value.uses += 1
        return value

    def find(self, place: Place, wanted: Wanted) -> Value | None:
        """The value with this row that stands already or can be made, None where there is no such."""
        return self.standing(place, wanted, None) or self.made(place, wanted, None)

    def standing(self, place: Place, wanted: Wanted, limit: int | None) -> Value | None:
        lane, tensor = next(iter(wanted.items()))
        for value in reversed(place.at(lane, tensor)):
            if (limit is None or value.time < limit) and all(value.row[i] == t for i, t in wanted.items()):
                return value
        outer = self.outer(place, wanted)
        return None if outer is None or place.around is None else self.standing(place.around, outer, place.start)

    @staticmethod
    def outer(place: Place, wanted: Wanted) -> Wanted | None:
        """What is wanted, in the lanes of the place around; None where rounds of a loop want different tensors."""
        if place.around is None:
            return None
        above = place.group.above
        found: Wanted = {}
        for lane, tensor in wanted.items():
            if found.setdefault(above[lane], tensor) != tensor:
                return None
        return found

    def made(self, place: Place, wanted: Wanted, limit: int | None) -> Value | None:
        for action in reversed(place.actions):
            if isinstance(action, Decision) and (limit is None or action.places[0].start < limit):
                value = self.join(action, place, wanted)
                if value is not None:
                    return value
        if place.group.loop is not None:
            value = self.carry(place, wanted)
            if value is not None:
                return value
        outer = self.outer(place, wanted)
        return None if outer is None or place.around is None else self.made(place.around, outer, place.start)

    def join(self, decision: Decision, place: Place, wanted: Wanted) -> Value | None:
        start = decision.places[0].start
        rest = dict(wanted)
        branches: list[Value | None] = []
        own = False
        for inner in decision.places:
            part = {i: rest.pop(lane) for i, lane in enumerate(inner.group.above) if lane in rest}
            value: Value | None = None
            if part:
                value = self.within(inner, part)
                if value is not None:
                    own = True
                else:
                    value = self.standing(inner, part, None)
                if value is None:
                    return None
            branches.append(value)
        if not own:
            return None
        passed: Value | None = None
        if rest:
            passed = self.standing(place, rest, start) or self.made(place, rest, start)
            if passed is None:
                return None
        row: list[Tensor | None] = [None] * place.group.count
        for inner, value in zip(decision.places, branches, strict=True):
            if value is not None:
                for i, lane in enumerate(inner.group.above):
                    row[lane] = self.seen(value, inner, i)
        if passed is not None:
            taken = {lane for inner in decision.places for lane in inner.group.above}
            for lane in range(place.group.count):
                if lane not in taken:
                    row[lane] = self.seen(passed, place, lane)
        for value in (*branches, passed):
            if value is not None:
                value.uses += 1
        joined = place.add(Value(row, start))
        decision.joins.append(Join(joined, branches, passed))
        return joined

    def within(self, inner: Place, wanted: Wanted) -> Value | None:
        """A value made in a branch itself, or by a condition in it."""
        lane, tensor = next(iter(wanted.items()))
        for value in reversed(inner.at(lane, tensor)):
            if all(value.row[i] == t for i, t in wanted.items()):
                return value
        for action in reversed(inner.actions):
            if isinstance(action, Decision):
                value_made = self.join(action, inner, wanted)
                if value_made is not None:
                    return value_made
        return None

    @staticmethod
    def seen(value: Value, place: Place, lane: int) -> Tensor | None:
        """A value's tensor in a lane of a place that lies within the place where the value was made."""
        while place is not value.place:
            assert place.around is not None
            lane = place.group.above[lane]
            place = place.around
        return value.row[lane]

    def carry(self, place: Place, wanted: Wanted) -> Value | None:
        """A value that the loop carries: one from outside in the first round, one of the round before in others."""
        assert place.around is not None
        group = place.group
        first = {group.above[lane]: t for lane, t in wanted.items() if group.rounds[lane] == 0}
        if not first or not any(group.rounds[lane] for lane in wanted):
            return None
        start = self.standing(place.around, first, place.start) or self.made(place.around, first, place.start)
        if start is None:
            return None
        row: list[Tensor | None] = [wanted.get(lane) for lane in range(group.count)]
        for lane, k in enumerate(group.rounds):
            if k == 0:
                row[lane] = self.seen(start, place.around, group.above[lane])
        value = place.add(Value(row, place.start))
        start.uses += 1
        place.carried.append(Carried(value, start))
        return value


def _is_module(form: object) -> bool:
    return form is None or isinstance(form, ModuleForm)


def calls(actions: Iterable[Action]) -> Iterator[Call | Decision]:
    """The calls and decisions, those within others, too."""
    for action in actions:
        match action:
            case Call():
                yield action
            case Decision():
                yield action
                for branch in action.branches:
                    yield from calls(branch)
            case Rounds():
                yield from calls(action.body)
