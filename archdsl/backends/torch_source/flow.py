"""The flow of values between entries: the variables of a `forward`, loops and conditions included.

Each value has a row: the tensor of the graph that it is, one per lane. A step that takes other tensors in other lanes
takes a value whose row is just these; where none is, one is made that joins the ways of a condition, or that a loop
carries from round to round. So the code that comes out does in every lane what the graph does.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain
from typing import TypeAlias

from archdsl.backends.torch_source.cells import Borrowed, Cell, Step
from archdsl.backends.torch_source.fold import CannotMerge, CannotReroll, Choice, Entry, Group, Leaf, Loop
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
    segment: Segment | None = None


@dataclass(slots=True, eq=False)
class Call:
    """A leaf at work, or leaves in series. An optional one is an identity in lanes that do not have it."""

    leaf: Leaf
    inputs: list[Value]
    outputs: list[Value]
    optional: Choice | None = None
    behind: list[Leaf] = field(default_factory=list)
    """The leaves that are called on its result, and recomputed with it."""
    flow: int = -1
    """Which of its inputs flows through these; one of them is a concat with the others, perhaps behind an align."""

    @property
    def leaves(self) -> list[Leaf]:
        return [self.leaf, *self.behind]


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
    segments: list[Segment]
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
    segment: Segment
    carried: list[Carried]


Action: TypeAlias = Call | Decision | Rounds


@dataclass(slots=True, eq=False)
class Flow:
    """The whole of a `forward`."""

    inputs: list[Value]
    actions: list[Action]
    outputs: list[Value]


@dataclass(slots=True, eq=False)
class Segment:
    """A stretch of code that a group of lanes runs through, and the values made in it."""

    group: Group
    around: Segment | None
    start: int
    values: list[Value] = field(default_factory=list)
    actions: list[Action] = field(default_factory=list)
    carried: list[Carried] = field(default_factory=list)
    _index: dict[int, dict[Tensor, list[Value]]] = field(default_factory=dict)

    def add(self, value: Value) -> Value:
        self.values.append(value)
        value.segment = self
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
        """The flow of calls with these entries. Raises CannotMerge where their tensors flow on different ways."""
        first = cells[0]
        if any(len(c.inputs) != len(first.inputs) or len(c.outputs) != len(first.outputs) for c in cells):
            raise CannotMerge
        self.members = [{step.name for step in c.steps} for c in cells]
        segment = Segment(group, None, 0)
        inputs = [segment.add(Value([c.inputs[i] for c in cells], 0)) for i in range(len(first.inputs))]
        self.run(entries, segment)
        outputs = [
            self.take(segment, {lane: c.outputs[i] for lane, c in enumerate(cells)}) for i in range(len(first.outputs))
        ]
        fused(segment.actions)  # refuses what is not
        return Flow(inputs, segment.actions, outputs)

    def run(self, entries: Sequence[Entry], segment: Segment) -> None:
        for entry in entries:
            self.clock += 1
            match entry:
                case Leaf():
                    self.call(entry, segment)
                case Loop():
                    self.loop(entry, segment)
                case Choice():
                    self.choose(entry, segment)

    def call(self, leaf: Leaf, segment: Segment) -> None:
        steps = leaf.steps
        if any(len(s.inputs) != len(steps[0].inputs) or len(s.outputs) != len(steps[0].outputs) for s in steps):
            raise CannotMerge
        if len({(s.series, s.given, path_of(s)) for s in steps}) > 1:
            raise CannotMerge
        inputs = [
            self.take(segment, {lane: s.inputs[i] for lane, s in enumerate(steps)}) for i in range(len(steps[0].inputs))
        ]
        outputs = [segment.add(Value([s.outputs[i] for s in steps], self.clock)) for i in range(len(steps[0].outputs))]
        segment.actions.append(Call(leaf, inputs, outputs))

    def loop(self, loop: Loop, segment: Segment) -> None:
        inner = Segment(loop.inner, segment, self.clock)
        try:
            self.run(loop.body, inner)
            for carried in inner.carried:
                self.close(carried, inner)
        except CannotMerge:
            raise CannotReroll(loop) from None
        segment.actions.append(Rounds(loop, inner.actions, inner, inner.carried))
        for carried in inner.carried:
            carried.final = segment.add(Value(self.final_row(carried, loop, inner, segment), self.clock))

    def close(self, carried: Carried, inner: Segment) -> None:
        """Finds what a carried value becomes at the end of a round."""
        group = inner.group
        wanted: Wanted = {}
        for lane, k in enumerate(group.rounds):
            tensor = carried.value.row[lane]
            if k and tensor is not None:
                wanted[lane - 1] = tensor
        after = self.find(inner, wanted)
        if after is None:
            raise CannotMerge
        carried.after = after
        after.uses += 1
        for lane, k in enumerate(group.rounds):
            if k and carried.value.row[lane] is None:
                carried.value.row[lane] = self.seen(after, inner, lane - 1)

    def final_row(self, carried: Carried, loop: Loop, inner: Segment, outer: Segment) -> list[Tensor | None]:
        assert carried.after is not None
        row: list[Tensor | None] = []
        lane = 0
        for i, count in enumerate(loop.counts):
            lane += count
            row.append(self.seen(carried.after, inner, lane - 1) if count else self.seen(carried.first, outer, i))
        return row

    def choose(self, choice: Choice, segment: Segment) -> None:
        if not self.plain and self.optional(choice, segment):
            return
        segments: list[Segment] = []
        for branch in choice.branches:
            inner = Segment(branch.inner, segment, self.clock)
            self.run(branch.body, inner)
            segments.append(inner)
        segment.actions.append(Decision(choice, [p.actions for p in segments], segments))

    def optional(self, choice: Choice, segment: Segment) -> bool:
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
        value = self.find(segment, {branch.inner.above[i]: s.inputs[0] for i, s in enumerate(leaf.steps)})
        if value is None:
            return False
        value.uses += 1
        row = [self.seen(value, segment, lane) for lane in range(segment.group.count)]
        for i, step in enumerate(leaf.steps):
            row[branch.inner.above[i]] = step.outputs[0]
        segment.actions.append(Call(leaf, [value], [segment.add(Value(row, self.clock))], choice))
        return True

    # ------------------------------------------------------------ which value

    def take(self, segment: Segment, wanted: Wanted) -> Value:
        value = self.find(segment, wanted)
        if value is None:
            raise CannotMerge
        value.uses += 1
        return value

    def find(self, segment: Segment, wanted: Wanted) -> Value | None:
        """The value with this row, made if need be; None if there is none."""
        return self.existing(segment, wanted, None) or self.made(segment, wanted, None)

    def existing(self, segment: Segment, wanted: Wanted, limit: int | None) -> Value | None:
        lane, tensor = next(iter(wanted.items()))
        for value in reversed(segment.at(lane, tensor)):
            if (limit is None or value.time < limit) and all(value.row[i] == t for i, t in wanted.items()):
                return value
        outer = self.outer(segment, wanted)
        return None if outer is None or segment.around is None else self.existing(segment.around, outer, segment.start)

    @staticmethod
    def outer(segment: Segment, wanted: Wanted) -> Wanted | None:
        """The wanted tensors in the lanes of the outer segment; None if rounds of a loop want different tensors."""
        if segment.around is None:
            return None
        above = segment.group.above
        found: Wanted = {}
        for lane, tensor in wanted.items():
            if found.setdefault(above[lane], tensor) != tensor:
                return None
        return found

    def made(self, segment: Segment, wanted: Wanted, limit: int | None) -> Value | None:
        for action in reversed(segment.actions):
            if isinstance(action, Decision) and (limit is None or action.segments[0].start < limit):
                value = self.join(action, segment, wanted)
                if value is not None:
                    return value
        if segment.group.loop is not None:
            value = self.carry(segment, wanted)
            if value is not None:
                return value
        outer = self.outer(segment, wanted)
        return None if outer is None or segment.around is None else self.made(segment.around, outer, segment.start)

    def join(self, decision: Decision, segment: Segment, wanted: Wanted) -> Value | None:
        start = decision.segments[0].start
        rest = dict(wanted)
        branches: list[Value | None] = []
        own = False
        for inner in decision.segments:
            part = {i: rest.pop(lane) for i, lane in enumerate(inner.group.above) if lane in rest}
            value: Value | None = None
            if part:
                value = self.within(inner, part)
                if value is not None:
                    own = True
                else:
                    value = self.existing(inner, part, None)
                if value is None:
                    return None
            branches.append(value)
        if not own:
            return None
        passed: Value | None = None
        if rest:
            passed = self.existing(segment, rest, start) or self.made(segment, rest, start)
            if passed is None:
                return None
        row: list[Tensor | None] = [None] * segment.group.count
        for inner, value in zip(decision.segments, branches, strict=True):
            if value is not None:
                for i, lane in enumerate(inner.group.above):
                    row[lane] = self.seen(value, inner, i)
        if passed is not None:
            taken = {lane for inner in decision.segments for lane in inner.group.above}
            for lane in range(segment.group.count):
                if lane not in taken:
                    row[lane] = self.seen(passed, segment, lane)
        for value in (*branches, passed):
            if value is not None:
                value.uses += 1
        joined = segment.add(Value(row, start))
        decision.joins.append(Join(joined, branches, passed))
        return joined

    def within(self, inner: Segment, wanted: Wanted) -> Value | None:
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
    def seen(value: Value, segment: Segment, lane: int) -> Tensor | None:
        """A value's tensor in a lane of a segment that lies within the segment where the value was made."""
        while segment is not value.segment:
            assert segment.around is not None
            lane = segment.group.above[lane]
            segment = segment.around
        return value.row[lane]

    def carry(self, segment: Segment, wanted: Wanted) -> Value | None:
        """A value that the loop carries: one from outside in the first round, one of the round before in others."""
        assert segment.around is not None
        group = segment.group
        first = {group.above[lane]: t for lane, t in wanted.items() if group.rounds[lane] == 0}
        if not first or not any(group.rounds[lane] for lane in wanted):
            return None
        start = self.existing(segment.around, first, segment.start) or self.made(segment.around, first, segment.start)
        if start is None:
            return None
        row: list[Tensor | None] = [wanted.get(lane) for lane in range(group.count)]
        for lane, k in enumerate(group.rounds):
            if k == 0:
                row[lane] = self.seen(start, segment.around, group.above[lane])
        value = segment.add(Value(row, segment.start))
        start.uses += 1
        segment.carried.append(Carried(value, start))
        return value


def path_of(step: Step) -> str | None:
    """The path of a layer that is borrowed from a cell within."""
    return step.member.path if isinstance(step.member, Borrowed) else None


def _is_module(form: object) -> bool:
    return form is None or isinstance(form, ModuleForm)


def declares(action: Action) -> bool:
    """Whether it only declares something shared."""
    return isinstance(action, Call) and action.leaf.steps[0].declares


def fused(actions: Iterable[Action]) -> list[Action]:
    """The actions, with one call for leaves that are recomputed in series. Raises CannotMerge where they are not."""
    found: list[Action] = []
    for action in actions:
        match action:
            case Call():
                series = action.leaf.steps[0].series
                if series is None or series[0] == 0:
                    found.append(action)
                    continue
                before = [i for i, other in enumerate(found) if not declares(other)]
                last = found.pop(before[-1]) if before else None
                if not isinstance(last, Call) or len(last.leaves) != series[0]:
                    raise CannotMerge
                found.append(_fused(last, action))
            case Decision():
                branches = [fused(branch) for branch in action.branches]
                found.append(replace(action, branches=branches))
            case Rounds():
                found.append(replace(action, body=fused(action.body)))
    return found


def _fused(last: Call, action: Call) -> Call:
    """One call for two, of which the second takes what the first gives. Raises CannotMerge if something else does."""
    step = last.leaves[-1].steps[0]
    skips, flowing = last.outputs[: -len(step.outputs)], last.outputs[-len(step.outputs) :]
    at = action.inputs.index(flowing[0]) if flowing[0] in action.inputs else 0
    end = at + len(flowing)
    if action.inputs[at:end] != flowing or any(value.uses != 1 and not step.given for value in flowing):
        raise CannotMerge
    inputs = [*action.inputs[:at], *last.inputs, *action.inputs[end:]]
    flow = at if len(action.inputs) > len(flowing) else last.flow
    outputs = [*skips, *(flowing if step.given else []), *action.outputs]
    return Call(last.leaf, inputs, outputs, behind=[*last.behind, action.leaf], flow=flow)


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


def calls_in(action: Action) -> Iterator[Call]:
    """The calls of an action, those within it, too."""
    match action:
        case Call():
            yield action
        case Decision():
            for inner in chain.from_iterable(action.branches):
                yield from calls_in(inner)
        case Rounds():
            for inner in action.body:
                yield from calls_in(inner)


def made_by(action: Action) -> list[Value]:
    """The values that an action makes for those behind it."""
    match action:
        case Call():
            return action.outputs
        case Decision():
            return [join.value for join in action.joins]
        case Rounds():
            return [c.final for c in action.carried if c.final is not None]


def taken_by(action: Action) -> Iterator[Value]:
    """The values that an action needs, those made within it, too."""
    match action:
        case Call():
            yield from action.inputs
        case Decision():
            for join in action.joins:
                yield from (v for v in (*join.branches, join.passed) if v is not None)
            for branch in action.branches:
                for inner in branch:
                    yield from taken_by(inner)
        case Rounds():
            for carried in action.carried:
                yield carried.first
            for inner in action.body:
                yield from taken_by(inner)
