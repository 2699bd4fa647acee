"""Goes through the body of a class in the order of the flow, and settles what each member becomes."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from archdsl.backends.torch_source import expressions as ex
from archdsl.backends.torch_source.callees import Callees, Calling
from archdsl.backends.torch_source.cells import Cell, Step
from archdsl.backends.torch_source.channels import Channels
from archdsl.backends.torch_source.control import Control
from archdsl.backends.torch_source.counting import count_from_start
from archdsl.backends.torch_source.environment import Names, names_of, owner, parameters_of
from archdsl.backends.torch_source.expressions import Binary, Const, Expr, Var
from archdsl.backends.torch_source.flow import Call, Decision, Rounds
from archdsl.backends.torch_source.fold import CannotReroll, Choice, Entry, Group, Leaf, Loop, refuse
from archdsl.backends.torch_source.forms import Forms, alike
from archdsl.backends.torch_source.numbers import Frame, Numbers
from archdsl.backends.torch_source.plan import Made, Parameter, Plan, Running, inner_cells, is_labelled, is_needed
from archdsl.graph import Graph, Node
from archdsl.ops import aliases
from archdsl.ops.forms import FunctionForm, ModuleForm, ParameterForm
from archdsl.syntax import tree

SHORT = 3
"""The parts of a condition that a name may hang on: `stride > 1`."""

LONGEST = 7
"""The most parts of a number in a name that hangs on conditions."""


@dataclass(slots=True, eq=False)
class Planner:
    """Settles a class. Raises CannotMerge or CannotReroll where the calls cannot be one."""

    graph: Graph
    numbers: Numbers
    channels: Channels
    control: Control
    forms: Forms
    callees: Callees
    by_position: bool = False
    """Whether nn.Sequential numbers the members that are being settled."""

    @staticmethod
    def of(graph: Graph, plans: Mapping[Cell, Plan], numbers: Numbers, overwrites: Callable[[Node], bool]) -> Planner:
        """One for a class; `plans` are the classes of the scopes within, `overwrites` says so of a node's module."""
        channels, callees = Channels(graph, numbers), Callees(graph, plans, numbers)
        return Planner(graph, numbers, channels, Control(numbers), Forms(numbers, overwrites), callees)

    def run(self) -> Plan:
        plan, numbers = self.numbers.plan, self.numbers
        cells = plan.cells
        self.declare()
        first = [self.channels.of_input(i) for i in range(len(cells[0].inputs))]
        names = names_of(cells[0], numbers, first[0] if first else None)
        self.by_position = plan.flow is None and all(c.positional for c in cells)
        if plan.flow is None:
            plan.output = self.chain(plan.entries, names, first[0])
        else:
            for value, expr in zip(plan.flow.inputs, first, strict=True):
                if expr is not None:
                    self.channels.values[value] = expr
            self.actions(plan.flow.actions, names)
            if len(plan.flow.outputs) == 1:
                plan.output = self.channels.of(plan.flow.outputs[0])
        self.callees.close_recursion()
        plan.parameters = [p for n, p in numbers.parameters.items() if n in numbers.used]
        plan.parameters.sort(key=lambda p: (p.default is not None, p.is_option))
        for number, cell in enumerate(cells):
            cell.arguments = {p.name: p.values[number] for p in plan.parameters}
        count_from_start(plan)
        return plan

    def declare(self) -> None:
        """The variables that numbers may be functions of: channels that come in, and the block's own parameters."""
        numbers, cells = self.numbers, self.numbers.plan.cells
        inflow = self.channels.declare()
        owners = [owner(c) for c in cells]
        definition = owners[0].definition
        if definition is not None and len({id(o.definition.syntax) for o in owners if o.definition}) == 1:
            for parameter in definition.syntax.parameters:
                name = parameter.name.name
                values = [o.arguments.get(name) for o in owners]
                if not all(ex.plain(v) for v in values):
                    continue
                default = ex.translate(parameter.default, {}) if parameter.default is not None else None
                own = owners[0] is cells[0].scope
                while name in numbers.parameters:
                    name += "_"
                given = default if own and isinstance(default, Const) else None
                numbers.parameters[name] = Parameter(name, values, given)
                numbers.used |= {name: None} if numbers.plan.complete else {}
        ordered = {n: p for n, p in numbers.parameters.items() if n not in inflow} | inflow
        numbers.frames[numbers.group] = Frame(len(cells), {n: p.values for n, p in ordered.items()})

    # ------------------------------------------------------------ bodies

    def chain(self, entries: Sequence[Entry], names: Names, flow: Expr | None) -> Expr | None:
        """Resolves the entries of a sequence; gives the channels that come out."""
        for entry in entries:
            match entry:
                case Leaf():
                    flow = self.leaf(entry, [flow], names)
                case Loop():
                    flow = self.chain_loop(entry, names, flow)
                case Choice():
                    self.control.condition(entry, names)
                    for branch in entry.branches:
                        self.chain(branch.body, names, flow)
                    flow = None
        return flow

    def chain_loop(self, loop: Loop, names: Names, flow: Expr | None) -> Expr | None:
        """A loop in a sequence. Where nothing else says how many channels flow into a round, a variable counts them."""
        numbers = self.numbers
        inner_names = self.control.heading(loop, names)
        steps = rounds_of(loop)
        inner = numbers.frame(loop.inner)
        row = [self.channels.count(r[0].inputs[0]) for r in steps]
        ends = [self.channels.count(r[-1].outputs[0]) for r in steps]
        running: Running | None = None
        if all(isinstance(v, int) for v in row) and not ex.constant(row):
            running = Running(Var(f"@in_channels@{id(loop)}"), flow, [None])
            inner.running[running.variable.name] = list(row)
            numbers.running[running.variable.name] = running
            numbers.plan.headings[loop].running = running
        out = self.chain(loop.body, inner_names, running.variable if running is not None else flow)
        if running is not None and running.used:
            if out is None or not inner.agrees(out, ends):
                out = inner.find(ends)
            if out is None or flow is None:
                raise CannotReroll(loop)
            running.after[0] = out
            numbers.keep(out)
        if not min(loop.counts):
            return None
        places = [sum(loop.counts[: i + 1]) - 1 for i in range(loop.group.count)]
        return numbers.frame(loop.group).find([ends[i] for i in places])

    def actions(self, actions: Iterable[Call | Decision | Rounds], names: Names) -> None:
        for action in actions:
            match action:
                case Call():
                    if action.optional is not None:
                        self.control.condition(action.optional, names)
                    flows = [self.channels.of(v) for v in action.inputs] or self.taken(action.leaf)
                    out = self.leaf(action.leaf, flows, names)
                    if action.optional is not None and out is not None and flows[0] is not None:
                        out = ex.If(self.numbers.plan.conditions[action.optional][0], out, flows[0])
                    if not action.outputs:
                        continue
                    if len(action.outputs) == 1:
                        self.channels.settle(action.outputs[0], out)
                    elif len(action.outputs) == len(flows):  # each of several tensors for itself
                        for value, flow in zip(action.outputs, flows, strict=True):
                            self.channels.settle(value, flow)
                case Decision():
                    self.control.condition(action.choice, names)
                    for inner in action.branches:
                        self.actions(inner, names)
                    self.channels.join(action)
                case Rounds():
                    self.actions(action.body, self.control.heading(action.loop, names))
                    self.channels.carry(action)

    def taken(self, leaf: Leaf) -> list[Expr | None]:
        """The channels that flow into the first call of what a leaf declares."""
        rows = zip(*[s.takes or () for s in leaf.steps], strict=True)
        frame = self.numbers.frame(leaf.group)
        return [frame.find([self.channels.count(t) for t in row]) for row in rows]

    # ------------------------------------------------------------ members

    def leaf(self, leaf: Leaf, flows: Sequence[Expr | None], names: Names) -> Expr | None:
        """Resolves an operation or scope; gives the channels that come out, where one tensor does."""
        steps, made = leaf.steps, self.numbers.plan.made
        self.numbers.owner = owner_name(steps[0])
        names = names.at(leaf, self.numbers)
        calling = Calling(leaf, [], flows, names, self.hints(leaf, flows, names))
        calling.label = self.label(leaf)
        if leaf.inner is not None:
            made[leaf] = Made("nn.Sequential", [], calling.label)
            around, self.by_position = self.by_position, all(c.positional for c in inner_cells(leaf))
            out = self.chain(leaf.inner, self.inline_names(calling), flows[0])
            if not self.by_position:
                self.check_names_rounds(leaf.inner)
            self.by_position = around
            return out
        if any(isinstance(s.member, Cell) for s in steps):
            self.callees.call(calling)
        else:
            self.operation(calling)
        if isinstance(steps[0].form, ModuleForm) and not (calling.label or self.by_position):
            self.check_is_one(leaf)
        if len(steps[0].outputs) != 1:
            return None
        form = steps[0].form
        own = isinstance(form, ModuleForm) and any(a.called.startswith("out_") for a in form.accepted[1:2])
        sure = [made[leaf].arguments[1][1]] if own else self.callees.output(calling)
        known = [f for f in flows if f is not None]
        total = known[:1]
        for flow in known[1:]:
            total = [ex.simplify(Binary("+", total[0], flow))]
        tensors = [s.outputs[0] for s in steps]
        return self.channels.result(leaf.group, tensors, sure, [*total, *known])

    def operation(self, calling: Calling) -> None:
        leaf, label, hints, names = calling.leaf, calling.label, calling.hints, calling.names
        form = leaf.steps[0].form
        if isinstance(form, ModuleForm) and (called := self.called(leaf, names)) is not None:
            self.forms.layer(leaf, label, hints, called)
        elif isinstance(form, ModuleForm):
            self.forms.module(leaf, label, hints, self.stated_of_module(calling))
        elif isinstance(form, FunctionForm):
            self.forms.function(leaf, label, hints, self.stated_of_module(calling))
        else:
            assert isinstance(form, ParameterForm)
            self.forms.weight(leaf, label, hints)

    def hints(self, leaf: Leaf, flows: Sequence[Expr | None], names: Names) -> list[Expr]:
        """The spec's arguments at the call, and the input's channels."""
        flowing = [f for f in flows if f is not None]
        known = {**names.known, "it.channels": flowing[0]} if flowing else names.known
        said = [ex.translate(a.value, known) for a in names.arguments(leaf.steps[0])]
        return [*[e for e in said if e is not None], *flowing]

    def called(self, leaf: Leaf, names: Names) -> str | None:
        """The parameter by whose name the spec calls an operation, where it is another one in other calls."""
        item = names.item(leaf.steps[0])
        if alike([s.form for s in leaf.steps]) or not isinstance(item, tree.Call):
            return None
        operations = {s.member.operation.name for s in leaf.steps if isinstance(s.member, Node)}
        return item.name.name if operations != {item.name.name} else None

    def stated_of_module(self, calling: Calling) -> dict[str, Expr]:
        """The spec's expressions for the arguments of an operation's module, by their names in PyTorch."""
        step = calling.leaf.steps[0]
        flow = calling.flows[0] if calling.flows else None
        if not isinstance(step.member, Node):  # a call of what is shared, which takes no numbers
            return {}
        operation = step.member.operation
        found = calling.names.stated(step, list(operation.parameters()), flow)
        stated = {operation.pytorch_names.get(name, name): expr for name, expr in found.items()}
        if flow is not None:
            stated |= dict.fromkeys(aliases.INFERRED, flow)
        return stated

    def inline_names(self, calling: Calling) -> Names:
        """The names in a scope that is written in place: those of a block are what the call gives for them."""
        leaf, names = calling.leaf, calling.names
        cells = inner_cells(leaf)
        known = dict(names.known)
        flow = calling.flows[0] if calling.flows else None
        if cells[0].scope.definition is not None:
            known = {}
            parameters = parameters_of(cells[0])
            stated = names.stated(leaf.steps[0], parameters, flow)
            for name in parameters:
                row = [c.scope.arguments.get(name) for c in cells]
                expr = self.numbers.stated_here(row, leaf.group, stated.get(name))
                if expr is None and all(map(ex.plain, row)):
                    expr = self.numbers.frame(leaf.group).find(row, calling.hints)
                if expr is not None:
                    known[name] = expr
        if flow is not None:
            known["it.channels"] = flow
        return Names(known, cells[0].syntax).with_lets()

    def check_names_rounds(self, entries: Sequence[Entry]) -> None:
        """Raises CannotReroll where a loop of members with names counts the channels, for which a list has no place."""
        for entry in entries:
            running = self.numbers.plan.headings[entry].running if isinstance(entry, Loop) else None
            if running is not None and running.used:
                assert isinstance(entry, Loop)
                raise CannotReroll(entry)

    def check_is_one(self, leaf: Leaf) -> None:
        """Raises CannotReroll where a member without a name, which the rounds of a loop share, differs between them."""
        values = self.numbers.plan.made[leaf].values()
        if leaf.group.in_loop and any("@" in name for e in values for name in ex.variables(e)):
            refuse(leaf.group)

    # ------------------------------------------------------------ names of members

    def label(self, leaf: Leaf) -> list[str | Expr]:
        """The member's name: text, with expressions where the rounds of a loop or the calls number it.

        Empty where nothing depends on it: nn.Sequential numbers its members, and what has no weights has no keys.
        """
        row = [s.name for s in leaf.steps]
        if self.by_position or not (is_needed(leaf) or leaf.group.in_loop):
            return []
        if len(set(row)) == 1:
            return [row[0]]
        split = [re.split(r"(0|[1-9]\d*)", name) for name in row]
        if all(s[::2] == split[0][::2] for s in split):
            numbers = [self.number_name([int(s[i]) for s in split], leaf.group) for i in range(1, len(split[0]), 2)]
            if all(n is not None for n in numbers):
                texts: list[str | Expr] = [*split[0]]
                texts[1::2] = [
                    str(n.value) if isinstance(n, Const) else self.numbers.keep(n) for n in numbers if n is not None
                ]
                return merged(texts)
        if not is_needed(leaf) and self.numbers.plan.flow is not None:
            return []
        refuse(leaf.group)

    def number_name(self, row: list[int], group: Group) -> Expr | None:
        found = self.numbers.frame(group).find(row)
        if found is None and group.loop is not None:
            found = self.numbers.progression(row, group, 2)
        return found if found is not None else self.position(row, group)

    def position(self, row: list[int], group: Group) -> Expr | None:
        """The number of a member behind others that only some calls have: one for each way that it comes to."""
        frame = self.numbers.frame(group)
        switches = [c for found in self.numbers.plan.conditions.values() for c in found if 0 < ex.size(c) <= SHORT]
        tests = [(c, values) for c in dict.fromkeys(switches) if (values := frame.row(c)) is not None]

        def chosen(lanes: list[int]) -> Expr | None:
            if len({row[i] for i in lanes}) == 1:
                return Const(row[lanes[0]])
            for condition, values in tests:
                ways = [[i for i in lanes if bool(values[i]) is taken] for taken in (True, False)]
                if all(ways):
                    then, otherwise = map(chosen, ways)
                    return ex.If(condition, then, otherwise) if then is not None and otherwise is not None else None
            return None

        found = chosen(list(range(len(row))))
        return found if found is not None and ex.size(found) <= LONGEST else None


def owner_name(step: Step) -> str:
    """The stem for names of parameters that only this member takes."""
    definition = step.member.scope.definition if isinstance(step.member, Cell) else None
    named = definition.name if definition is not None else ""
    return step.name if is_labelled(step) and step.name.isidentifier() else named


def merged(texts: Sequence[str | Expr]) -> list[str | Expr]:
    """Joins adjacent pieces of text."""
    found: list[str | Expr] = []
    for text in texts:
        if isinstance(text, str) and found and isinstance(found[-1], str):
            found[-1] += text
        elif text != "":
            found.append(text)
    return found


def rounds_of(loop: Loop) -> list[list[Step]]:
    """The first and last step of each round of a loop whose body is a sequence."""
    found: list[list[Step]] = [[] for _ in range(loop.inner.count)]

    def visit(entries: Sequence[Entry], lanes: Sequence[Sequence[int]]) -> None:
        """`lanes` are the rounds that each lane of the entries' group belongs to."""
        for entry in entries:
            match entry:
                case Leaf():
                    for lane, step in enumerate(entry.steps):
                        for place in lanes[lane]:
                            found[place].append(step)
                case Loop():
                    visit(entry.body, [lanes[a] for a in entry.inner.above])
                case Choice():
                    for branch in entry.branches:
                        visit(branch.body, [lanes[a] for a in branch.inner.above])

    visit(loop.body, [[i] for i in range(loop.inner.count)])
    return found
