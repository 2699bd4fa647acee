"""Statements of a `forward`, and which variable each value lives in.

Calls whose result is taken once, on the same line of the spec, are nested. Values share a variable where a hand would
write `x = layer(x)`: the one that a loop carries, those that a condition joins, and an operand that is used up.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain, count, takewhile
from typing import assert_never

from archdsl.backends.torch_source.assigned import unassigned
from archdsl.backends.torch_source.flow import Action, Call, Decision, Flow, Rounds, Value, calls_in, made_by, taken_by
from archdsl.backends.torch_source.gathered import Gathered
from archdsl.backends.torch_source.liveness import Lives, Stretch, joined, meet
from archdsl.backends.torch_source.names import unique
from archdsl.backends.torch_source.releasing import Releasing
from archdsl.backends.torch_source.statements import Assign, Copy, Each, Release, Statement, Training, When
from archdsl.ops.forms import FunctionForm

LETTERS = ("x", "y", "z", "u", "v", "w")
INDENTED = 20
"""How much longer the operands of a merge may be if each is on its own line."""
LONG, SHORT = 3, 10
"""A value that lives for more statements gets its label; others do if it is short and no operand's name is free."""
DEEPEST = 4
"""How many calls are nested in one statement."""


@dataclass(slots=True, eq=False)
class Layout:
    """The statements of a `forward` and the name of each value's variable."""

    statements: list[Statement]
    names: dict[Value, str]
    lists: set[Value] = field(default_factory=set)
    """Values that are lists of features."""


@dataclass(slots=True, eq=False)
class Composer:
    """Makes statements of a flow. `length` is how long a call is when written, `grows` which operands it may add to."""

    flow: Flow
    line: Callable[[Call], int]
    length: Callable[[Call], int]
    grows: Callable[[Call], Sequence[Value]]
    label: Callable[[Call], str | None]
    reserved: frozenset[str]
    input_names: Sequence[str]
    appends: Callable[[Call], bool | None] = lambda call: None
    """Whether a call adds a part to a list of features: in place, or in a new list; None for any other call."""
    training: Sequence[Value] = ()
    """Outputs that only a module in training gives."""
    alone: Callable[[Value], bool] = lambda value: False
    """Whether only a module in training needs a value."""
    updates: Callable[[Call], frozenset[str]] = lambda call: frozenset()
    """The shared members whose statistics a call updates."""
    output_names: Sequence[str | None] = ()
    must_go: Callable[[Value], bool] = lambda value: False
    """Whether a value must not stay in a variable behind its last use."""
    stands_alone: Callable[[Value], bool] = lambda value: False
    """Whether what takes a value must not be nested: the value would stay until the whole statement is done."""
    straight: bool = False
    """Whether every call is a statement, and every value a variable of its own."""
    width: int = 72
    lives: Lives = field(default_factory=Lives)
    roots: dict[Value, Value] = field(default_factory=dict)
    spans: dict[Value, tuple[int, int]] = field(default_factory=dict)
    joined: dict[Value, list[Value]] = field(default_factory=dict)
    preferred: dict[Value, list[Value]] = field(default_factory=dict)
    labels: dict[Value, str] = field(default_factory=dict)
    takes_features: Callable[[Call], bool] = lambda call: False
    """Whether a call takes the features that a dense connection has gathered one by one."""
    lists: set[Value] = field(default_factory=set)
    """Values that are lists of features, put together where they are read."""
    loops: list[dict[Value, None]] = field(default_factory=list)
    clock: int = 0

    def run(self) -> Layout:
        self.lists = Gathered(lambda call: self.appends(call) is not None, self.takes_features).run(self.flow)
        statements = self.compose_all()
        self.lives = Lives.of(self.flow, statements)
        self.measure_flow(statements)
        self.share(statements)
        statements = self.with_copies(statements)
        self.measure_flow(statements)
        names = self.allocate()
        unset = dict.fromkeys(unassigned(statements, names, {names[v] for v in self.flow.inputs}))
        # Any tensor will do for these.
        starts = [Copy([value], [self.flow.inputs[0]]) for value in unset if self.flow.inputs]
        if not self.straight:
            statements = Releasing(self.lives.lasts, self.must_go, self.life, names).over(statements)
        return Layout([*starts, *statements], names, self.lists)

    # ------------------------------------------------------------ statements

    def compose_all(self) -> list[Statement]:
        """The statements, with what only training outputs need at the end, under a condition of its own.

        There are several such conditions where a shared member keeps statistics, since its calls stay in order, and
        where a block takes a value that it needs in training alone: it is None in evaluation.
        """
        if not self.training:
            return self.compose(self.flow.actions)
        needed = {v for v in self.flow.outputs if v not in self.training}
        rest: set[Action] = set()
        for action in reversed(self.flow.actions):
            made = list(made_by(action))
            if needed.isdisjoint(made) or all(map(self.alone, made)):
                rest.add(action)
            else:
                needed.update(taken_by(action))
        own = {v: None for action in self.flow.actions if action in rest for v in made_by(action)}
        given = [v for v in self.training if v in own]
        self.training = [*given, *(v for v in own if v in needed and v not in given)]
        found: list[Statement] = []
        always: list[Action] = []
        waiting: list[Action] = []
        updated: set[str] = set()
        for action in self.flow.actions:
            updates = {name for call in calls_in(action) for name in self.updates(call)}
            if action in rest:
                waiting.append(action)
                updated |= updates
                continue
            taken = {v for other in waiting for v in made_by(other)}.intersection(taken_by(action))
            if taken or updated & updates:
                found += [*self.compose(always), *self.in_training(waiting)]
                always, waiting, updated = [], [], set()
            always.append(action)
        return [*found, *self.compose(always), *self.in_training(waiting)]

    def in_training(self, actions: Sequence[Action]) -> list[Statement]:
        """Statements that only a module in training runs."""
        made = {v for action in actions for v in made_by(action)}
        body = self.compose(actions)
        return [Training([v for v in self.training if v in made], body)] if body else []

    def compose(self, actions: Sequence[Action]) -> list[Statement]:
        found: list[Statement] = []
        makers: dict[Value, Assign] = {}
        for action in actions:
            match action:
                case Call() if action.leaf.steps[0].declares:
                    pass
                case Call():
                    assign = self.assign(action, found, makers)
                    found.append(assign)
                    if len(action.outputs) == 1:
                        makers[action.outputs[0]] = assign
                case Decision():
                    found.append(When(action, [self.compose(b) for b in action.branches]))
                case Rounds():
                    found.append(Each(action, self.compose(action.body)))
        return [s for s in found if not (isinstance(s, Assign) and s.is_nested)]

    def assign(self, call: Call, found: list[Statement], makers: dict[Value, Assign]) -> Assign:
        """A statement for a call, with those before it that it alone needs nested in it, as far as it stays short."""
        if self.appends(call) is not None:
            grows = call.inputs[0] if self.appends(call) and call.inputs[0] in self.lists else None
        else:
            grows = next((v for v in self.grows(call) if v not in self.lists), None)
        assign = Assign(call, length=self.length(call), line=self.line(call), grows=grows)
        if self.straight:
            return assign
        merges = len(call.inputs) > 1 and isinstance(call.leaf.steps[0].form, FunctionForm)
        if len(call.inputs) > 2 and merges and not self.fits(call, makers):
            return assign
        width = self.width + (INDENTED if len(call.inputs) > 2 and merges else 0)
        for value in reversed(call.inputs):
            inner = makers.get(value)
            if inner is None or inner.grows is not None or value is assign.grows or value.uses != 1:
                continue
            if any(map(self.stands_alone, inner.operands())):
                continue
            follows = inner.line == assign.line and found[-1] is inner
            operand = merges and inner.depth == 1
            if not (follows or operand) or assign.length + inner.length > width or inner.depth >= DEEPEST:
                continue
            if not self.may_wait(inner, found):
                continue
            if found[-1] is inner:
                found.pop()
            else:
                inner.is_nested = True
            assign.nested[value] = inner
            assign.length += inner.length
            assign.depth = max(assign.depth, inner.depth + 1)
        return assign

    def may_wait(self, inner: Assign, found: Sequence[Statement]) -> bool:
        """Whether a statement may run after those behind it: not if both update the statistics of a shared member."""
        behind = takewhile(lambda s: s is not inner, reversed(found))
        if found[-1] is inner or not (updates := self.updated(inner)):
            return True
        return all(isinstance(s, Assign) and updates.isdisjoint(self.updated(s)) for s in behind)

    def updated(self, assign: Assign) -> set[str]:
        """The shared members whose statistics a statement updates."""
        return {*self.updates(assign.call), *(name for s in assign.nested.values() for name in self.updated(s))}

    def fits(self, call: Call, makers: Mapping[Value, Assign]) -> bool:
        """Whether all calls among many operands of a merge can be in its parentheses: all are, or none."""
        inner = [makers[v] for v in call.inputs if v in makers and v.uses == 1]
        return self.length(call) + sum(i.length for i in inner) <= self.width + INDENTED

    # ------------------------------------------------------------ lifetimes

    def measure_flow(self, statements: Sequence[Statement]) -> None:
        """For each value the first and last statement that needs its variable."""
        self.spans = {v: (0, 0) for v in self.flow.inputs}
        self.clock = 0
        self.measure(statements)
        self.clock += 1
        for value in self.flow.outputs:
            self.use(value, self.clock)

    def suggest(self, statement: Assign) -> None:
        """The names that a result may bear: that of an operand, the label of what made it."""
        operands = list(statement.operands())
        for value in statement.call.outputs:
            self.preferred[value] = operands
        label = self.label(statement.call)
        if label is not None and len(statement.call.outputs) == 1:
            self.labels[statement.call.outputs[0]] = label

    def use(self, value: Value, time: int) -> None:
        start, end = self.spans.get(value, (time, time))
        self.spans[value] = (start, max(end, time))
        for used in self.loops:
            used[value] = None

    def define(self, value: Value, time: int) -> None:
        self.spans.setdefault(value, (time, time))

    def measure(self, statements: Sequence[Statement]) -> None:
        for statement in statements:
            self.clock += 1
            match statement:
                case Assign():
                    for value in statement.operands():
                        self.use(value, self.clock)
                    for value in statement.call.outputs:
                        self.define(value, self.clock)
                    self.suggest(statement)
                case Copy():
                    for value in statement.sources:
                        self.use(value, self.clock)
                    for value in statement.targets:
                        self.define(value, self.clock)
                        self.use(value, self.clock)
                case When():
                    self.measure_condition(statement)
                case Training():
                    for value in statement.values:
                        self.define(value, self.clock)
                    self.measure(statement.body)
                case Each():
                    self.measure_loop(statement)
                case Release():
                    raise AssertionError("these come later")

    def measure_condition(self, statement: When) -> None:
        joins = statement.decision.joins
        for join in joins:
            if join.passed is not None:
                self.use(join.passed, self.clock)
        for number, branch in enumerate(statement.branches):
            self.measure(branch)
            self.clock += 1
            for join in joins:
                value = join.branches[number]
                if value is not None:
                    self.use(value, self.clock)
                    made = value.segment is statement.decision.segments[number]
                    self.define(join.value, self.spans[value][0] if made else self.clock)
        for join in joins:
            self.use(join.value, self.clock)

    def measure_loop(self, statement: Each) -> None:
        start = self.clock
        for carried in statement.rounds.carried:
            self.use(carried.first, start)
            self.define(carried.value, start)
        self.loops.append({})
        self.measure(statement.body)
        self.clock += 1
        for value in self.loops.pop():
            if self.spans[value][0] < start:
                self.use(value, self.clock)
        for carried in statement.rounds.carried:
            assert carried.after is not None
            self.use(carried.after, self.clock)
            if carried.final is not None:
                self.define(carried.final, self.clock)

    # ------------------------------------------------------------ values that share a variable

    def root(self, value: Value) -> Value:
        while value in self.roots:
            value = self.roots[value]
        return value

    def unite(self, a: Value, b: Value) -> bool:
        """Lets two values share a variable, unless both are needed at once; whether they do."""
        a, b = self.root(a), self.root(b)
        if a is b:
            return True
        if (a in self.lists) is not (b in self.lists) or meet(self.life(a), self.life(b)):
            return False
        self.merge(a, b)
        return True

    def merge(self, a: Value, b: Value) -> None:
        """Makes two variables one."""
        a, b = self.root(a), self.root(b)
        self.lives.stretches[a] = joined([*self.life(a), *self.life(b)])
        self.roots[b] = a
        self.joined.setdefault(a, [a]).extend(self.joined.pop(b, [b]))

    def life(self, value: Value) -> list[Stretch]:
        """Where a variable holds what is needed."""
        return self.lives.stretches.get(self.root(value), [])

    def span(self, value: Value) -> tuple[int, int]:
        members = self.joined.get(self.root(value), [value])
        spans = [self.spans[m] for m in members if m in self.spans]
        return min(s for s, _ in spans), max(e for _, e in spans)

    def share(self, statements: Sequence[Statement]) -> None:
        for statement in statements:
            match statement:
                case Assign():
                    if statement.grows is not None and not self.unite(statement.grows, statement.call.outputs[0]):
                        statement.grows = None
                case When():
                    for branch in statement.branches:
                        self.share(branch)
                    if not self.straight:
                        self.share_joins(statement)
                case Training():
                    self.share(statement.body)
                case Each():
                    for carried in statement.rounds.carried:
                        if carried.final is not None:
                            self.merge(carried.value, carried.final)
                    self.share(statement.body)
                    segment = statement.rounds.segment
                    for carried in statement.rounds.carried:
                        if carried.after is not None and carried.after.segment is segment:
                            self.unite(carried.value, carried.after)
                        if carried.first.segment is segment.around:
                            self.unite(carried.value, carried.first)
                case Copy() | Release():
                    pass
                case _:
                    assert_never(statement)

    def share_joins(self, statement: When) -> None:
        decision = statement.decision
        taken: set[Value] = set()
        for join in decision.joins:
            for value, segment in zip(join.branches, decision.segments, strict=True):
                if value is not None and value.segment is segment and self.root(value) not in taken:
                    taken.add(self.root(value))
                    self.unite(join.value, value)
                    taken.add(self.root(value))
            if join.passed is not None and join.passed.segment is decision.segments[0].around:
                self.unite(join.value, join.passed)

    # ------------------------------------------------------------ copies

    def with_copies(self, statements: Sequence[Statement]) -> list[Statement]:
        found: list[Statement] = []
        for statement in statements:
            match statement:
                case When():
                    before, otherwise = self.passed(statement.decision)
                    branches: list[list[Statement]] = []
                    for number, branch in enumerate(statement.branches):
                        pairs = [
                            (j.value, v) for j in statement.decision.joins if (v := j.branches[number]) is not None
                        ]
                        branches.append([*self.with_copies(branch), *self.copies(pairs)])
                    found += [*self.copies(before), When(statement.decision, branches, self.copies(otherwise))]
                case Training():
                    found.append(Training(statement.values, self.with_copies(statement.body)))
                case Each():
                    firsts = [(c.value, c.first) for c in statement.rounds.carried]
                    afters = [(c.value, c.after) for c in statement.rounds.carried if c.after is not None]
                    body = [*self.with_copies(statement.body), *self.copies(afters)]
                    found += [*self.copies(firsts), Each(statement.rounds, body)]
                case _:
                    found.append(statement)
        return found

    def passed(self, decision: Decision) -> tuple[list[tuple[Value, Value]], list[tuple[Value, Value]]]:
        """Assignments for the case that no branch is taken: before the condition, or in its `else`."""
        before: list[tuple[Value, Value]] = []
        otherwise: list[tuple[Value, Value]] = []
        point = (self.lives.heads[decision],) * 2
        for join in decision.joins:
            if join.passed is None or self.root(join.passed) is self.root(join.value):
                continue
            if meet(self.life(join.value), [point]):
                otherwise.append((join.value, join.passed))
            else:
                before.append((join.value, join.passed))
                self.lives.stretches[self.root(join.value)] = joined([*self.life(join.value), point])
        return before, otherwise

    def copies(self, pairs: Sequence[tuple[Value, Value]]) -> list[Statement]:
        needed = [(a, b) for a, b in pairs if self.root(a) is not self.root(b)]
        return [Copy([a for a, _ in needed], [b for _, b in needed])] if needed else []

    # ------------------------------------------------------------ names

    def allocate(self) -> dict[Value, str]:
        """A name for each variable; two that live at once have different ones."""
        variables: dict[Value, tuple[int, int]] = {}
        for value in self.spans:
            root = self.root(value)
            if root not in variables:
                variables[root] = self.span(root)
        busy: dict[str, int] = {}
        lives: dict[str, list[Stretch]] = {}
        names: dict[Value, str] = {}

        def is_free(name: str, root: Value) -> bool:
            return busy.get(name, 0) <= variables[root][0] and not meet(lives.get(name, ()), self.life(root))

        def take(root: Value, name: str) -> None:
            names[root] = name
            busy[name] = max(busy.get(name, 0), variables[root][1])
            lives[name] = joined([*lives.get(name, ()), *self.life(root)])

        for value, name in zip(self.flow.inputs, self.input_names, strict=True):
            take(self.root(value), name)
        fresh = (n for n in map("y{}".format, count(1)) if n not in self.reserved and n not in busy)
        outputs = {self.root(v) for v in self.flow.outputs}
        named = {self.root(v): n for v, n in zip(self.flow.outputs, self.output_names, strict=False)}
        for root in sorted(variables, key=lambda v: variables[v]):
            if root in names:
                continue
            span = variables[root]
            if root in self.lists:
                take(root, unique("features", {*busy, *self.reserved}))
                continue
            if self.straight:
                take(root, next(fresh))
                continue
            wishes: list[str] = []
            output_name = named.get(root)
            if output_name is not None:
                wishes.append(output_name)
            own = self.input_names if len(self.input_names) == 1 else []
            if root in outputs and len(outputs) == 1:
                wishes += own
            members = self.joined.get(root, [root])
            label = next((self.labels[m] for m in members if m in self.labels), None)
            life = span[1] - span[0] if root not in outputs else 0
            if len(members) > 1:  # it becomes another one on its way
                label = None
            if label is not None and life > LONG:
                wishes.append(label)
            operands = [self.root(v) for m in members for v in self.preferred.get(m, ())]
            wishes += [names[r] for r in operands if names.get(r) in (*LETTERS, *own)]
            if label is not None and life > 1 and len(label) <= SHORT:
                wishes.append(label)
            wishes += [n for n in LETTERS if n not in self.reserved]
            further = (n for n in map("t{}".format, count(1)) if n not in self.reserved)
            take(root, next(n for n in chain(wishes, further) if is_free(n, root)))
        return {value: names[self.root(value)] for value in self.spans}
