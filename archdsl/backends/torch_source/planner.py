"""Goes through the body of a class in the order of the flow, and settles what each member becomes."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from archdsl.backends.torch_source import expressions as ex
from archdsl.backends.torch_source.cells import Cell, Step
from archdsl.backends.torch_source.control import Names
from archdsl.backends.torch_source.counting import count_from_start
from archdsl.backends.torch_source.expressions import Binary, Const, Expr, Var
from archdsl.backends.torch_source.flow import Call, Decision, Rounds, Value
from archdsl.backends.torch_source.fold import Choice, Entry, Group, Irregular, Leaf, Loop, Unlike
from archdsl.backends.torch_source.forms import Forms, alike
from archdsl.backends.torch_source.plan import Made, Parameter, Plan, Running, inner_cells, is_labelled, is_needed
from archdsl.backends.torch_source.search import Frame
from archdsl.graph import Graph, Node, Scope, Tensor
from archdsl.ops import aliases
from archdsl.ops.base import FunctionForm, ModuleForm, Operation, ParameterForm
from archdsl.syntax import tree


@dataclass(slots=True, eq=False, kw_only=True)
class Planner(Forms):
    """Settles a class. Raises Unlike or Irregular where the calls cannot be one."""

    graph: Graph
    plans: Mapping[Cell, Plan]
    """The classes of the scopes within."""
    recursive: list[tuple[Leaf, list[Expr | None], Names]] = field(default_factory=list)
    """Calls of the class by itself, which wait until its parameters are known."""
    channels: dict[Value, Expr] = field(default_factory=dict)
    flowed: list[Expr] = field(default_factory=list)
    """The channels of what flowed lately."""
    by_position: bool = False
    """Whether nn.Sequential numbers the members that are being settled."""

    def run(self) -> Plan:
        plan = self.plan
        cells = plan.cells
        self.start()
        first = [self.input_channels(i) for i in range(len(cells[0].inputs))]
        names = self.names_of(cells[0])
        self.by_position = plan.flow is None and all(c.positional for c in cells)
        if plan.flow is None:
            plan.output = self.chain(plan.entries, names, first[0])
        else:
            for value, expr in zip(plan.flow.inputs, first, strict=True):
                if expr is not None:
                    self.channels[value] = expr
            self.actions(plan.flow.actions, names)
            if len(plan.flow.outputs) == 1:
                plan.output = self.value_channels(plan.flow.outputs[0])
        self.close_recursion()
        plan.parameters = [p for n, p in self.parameters.items() if n in self.used]
        plan.parameters.sort(key=lambda p: (p.default is not None, p.is_option))
        for cell, number in zip(cells, range(len(cells)), strict=True):
            cell.arguments = {p.name: p.values[number] for p in plan.parameters}
        count_from_start(plan)
        return plan

    def start(self) -> None:
        """The variables that the numbers may be functions of: channels that come in, and the block's own parameters."""
        cells = self.plan.cells
        count = len(cells[0].inputs)
        for i in range(count):
            shapes = [self.graph.shape(c.inputs[i]) for c in cells]
            if all(isinstance(s[0], int) for s in shapes):
                kind = "features" if all(len(s) == 1 for s in shapes) else "channels"
                name = cells[0].input_names[i] or ("in" if i == 0 else f"in{i + 1}")
                self.parameters[f"{'in' if count == 1 else name}_{kind}"] = Parameter("", [s[0] for s in shapes])
        owners = [_owner(c) for c in cells]
        definition = owners[0].definition
        if definition is not None and len({id(o.definition.syntax) for o in owners if o.definition}) == 1:
            for parameter in definition.syntax.parameters:
                name = parameter.name.name
                values = [o.arguments.get(name) for o in owners]
                if not all(ex.plain(v) for v in values):
                    continue
                default = ex.translate(parameter.default, {}) if parameter.default is not None else None
                own = owners[0] is cells[0].scope
                while name in self.parameters:
                    name += "_"
                self.parameters[name] = Parameter(name, values, default if own and isinstance(default, Const) else None)
        for name, found in self.parameters.items():
            found.name = name
        ordered = {n: p for n, p in self.parameters.items() if not n.startswith("in_")} | self.parameters
        self.frames[self.group] = Frame(len(cells), {n: p.values for n, p in ordered.items()})

    def input_channels(self, position: int) -> Expr | None:
        cells = self.plan.cells
        row = [self.graph.shape(c.inputs[position])[0] for c in cells]
        if not all(isinstance(v, int) for v in row):
            return None
        if ex.constant(row):
            return Const(row[0])
        for name, parameter in self.parameters.items():
            if name.endswith(("_channels", "_features")) and parameter.values == row:
                return Var(name)
        return None

    def names_of(self, cell: Cell) -> Names:
        """The names in sight in a cell: its block's parameters, and the `let`s of the bodies around it."""
        owner = _owner(cell)
        known: dict[str, Expr] = {}
        if owner.definition is not None:
            for parameter in owner.definition.syntax.parameters:
                name = parameter.name.name
                if name in self.parameters:
                    values = self.parameters[name].values
                    same = ex.constant(values) and (len(values) == 1 or not isinstance(values[0], tuple))
                    known[name] = Const(values[0]) if same else Var(name)
        inflow = self.input_channels(0) if cell.inputs else None
        if inflow is not None:
            known["it.channels"] = inflow
        given: dict[str, Expr] = {}
        if owner.definition is not None:
            own = {p.name.name for p in owner.definition.syntax.parameters}
            constants = owner.definition.constants().items()
            given = {name: Const(value) for name, value in constants if ex.plain(value) and name not in own}
        names = Names(known, cell.syntax, given).with_lets()
        above = cell
        while above.scope is not owner and above.parent is not None:
            above = above.parent
            names = Names(names.known, above.syntax, given).with_lets()
        self.plan.lets = {n: e for n, e in names.known.items() if n not in self.parameters and n != "it.channels"}
        return Names(names.known, cell.syntax, given)

    def chain(self, entries: Sequence[Entry], names: Names, flow: Expr | None) -> Expr | None:
        """Resolves the entries of a sequence; gives the channels that come out."""
        for entry in entries:
            match entry:
                case Leaf():
                    flow = self.leaf(entry, [flow], names)
                case Loop():
                    flow = self.chain_loop(entry, names, flow)
                case Choice():
                    self.condition(entry, names)
                    for branch in entry.branches:
                        self.chain(branch.body, names, flow)
                    flow = None
        return flow

    def chain_loop(self, loop: Loop, names: Names, flow: Expr | None) -> Expr | None:
        """A loop in a sequence. Where nothing else says how many channels flow into a round, a variable counts them."""
        inner_names = self.heading(loop, names)
        steps = rounds_of(loop)
        inner = self.frame(loop.inner)
        row = [self.graph.shape(r[0].inputs[0])[0] for r in steps]
        ends = [self.graph.shape(r[-1].outputs[0])[0] for r in steps]
        running: Running | None = None
        if all(isinstance(v, int) for v in row) and not ex.constant(row):
            running = Running(Var(f"in_channels@{id(loop)}"), flow, [None])
            inner.running[running.variable.name] = list(row)
            self.running[running.variable.name] = running
            self.plan.headings[loop].running = running
        out = self.chain(loop.body, inner_names, running.variable if running is not None else flow)
        if running is not None and running.used:
            if out is None or not inner.agrees(out, ends):
                out = inner.find(ends, [*inner_names.known.values(), *self.recent])
            if out is None or flow is None:
                raise Irregular(loop)
            running.after[0] = out
            self.keep(out)
        if not min(loop.counts):
            return None
        places = [sum(loop.counts[: i + 1]) - 1 for i in range(loop.group.count)]
        return self.frame(loop.group).find([ends[i] for i in places], self.recent)

    def actions(self, actions: Iterable[Call | Decision | Rounds], names: Names) -> None:
        for action in actions:
            match action:
                case Call():
                    if action.optional is not None:
                        self.condition(action.optional, names)
                    flows = [self.value_channels(v) for v in action.inputs]
                    out = self.leaf(action.leaf, flows, names)
                    if action.optional is not None and out is not None and flows[0] is not None:
                        out = ex.If(self.plan.conditions[action.optional][0], out, flows[0])
                    if out is not None and len(action.outputs) == 1 and self.is_right(action.outputs[0], out):
                        self.channels[action.outputs[0]] = out
                case Decision():
                    self.condition(action.choice, names)
                    for inner in action.branches:
                        self.actions(inner, names)
                    self.join_channels(action)
                case Rounds():
                    self.actions(action.body, self.heading(action.loop, names))

    def join_channels(self, decision: Decision) -> None:
        """The channels of what a condition joins: a variable of the constructor where no one expression says them."""
        group = decision.places[0].group.around
        assert group is not None
        for join in decision.joins:
            if self.value_channels(join.value) is not None:
                continue
            row = self.channel_row(join.value)
            after = [self.value_channels(v) if v is not None else None for v in join.branches]
            first = self.value_channels(join.passed) if join.passed is not None else None
            known = all(e is not None for e, v in zip(after, join.branches, strict=True) if v is not None)
            if None in row or not known or (join.passed is not None and first is None):
                continue
            variable = Var(f"channels@{id(join)}")
            self.frame(group).running[variable.name] = list(row)
            running = Running(variable, first, after)
            self.running[variable.name] = running
            self.plan.running.setdefault(decision.choice, []).append(running)
            self.channels[join.value] = variable

    def channel_row(self, value: Value) -> list[object]:
        return [self.graph.shape(t)[0] if t is not None else None for t in value.row]

    def is_right(self, value: Value, expr: Expr) -> bool:
        assert value.place is not None
        return self.frame(value.place.group).agrees(expr, self.channel_row(value))

    def value_channels(self, value: Value) -> Expr | None:
        if value not in self.channels and value.place is not None:
            row = self.channel_row(value)
            found = None if None in row else self.frame(value.place.group).find(row, self.recent)
            if found is not None:
                self.channels[value] = found
        return self.channels.get(value)

    def leaf(self, leaf: Leaf, flows: Sequence[Expr | None], names: Names) -> Expr | None:
        """Resolves an operation or scope; gives the channels that come out, where one tensor does."""
        steps = leaf.steps
        self.owner = owner_name(steps[0])
        hints = self.hints(leaf, flows, names)
        label = self.label(leaf, names)
        form = steps[0].form
        if leaf.inner is not None:
            self.plan.made[leaf] = Made("nn.Sequential", [], label)
            around, self.by_position = self.by_position, all(c.positional for c in inner_cells(leaf))
            out = self.chain(leaf.inner, self.inline_names(leaf, flows, names), flows[0])
            self.by_position = around
            return out
        if any(isinstance(s.member, Cell) for s in steps):
            self.call(leaf, label, flows, names)
        elif isinstance(form, ModuleForm) and (called := self.called(leaf, names)) is not None:
            self.layer(leaf, label, hints, called)
        elif isinstance(form, ModuleForm):
            self.module(leaf, label, hints, self.stated_of_module(leaf, flows, names))
        elif isinstance(form, FunctionForm):
            self.function(leaf, label, hints, self.stated_of_module(leaf, flows, names))
        else:
            assert isinstance(form, ParameterForm)
            self.weight(leaf, label, hints)
        if isinstance(form, ModuleForm) and not (label or self.by_position):
            self.check_is_one(leaf)
        if len(steps[0].outputs) != 1:
            return None
        made = self.plan.made.get(leaf)
        more = [a for _, a in made.arguments] if made is not None else []
        known = [f for f in flows if f is not None]
        total = known[:1]
        for flow in known[1:]:
            total = [ex.simplify(Binary("+", total[0], flow))]
        if made is not None and made.plan is not None and made.plan.output is not None:
            passed = {n: a for n, a in zip([p.name for p in made.plan.parameters], more, strict=False)}
            more.insert(0, ex.substitute(made.plan.output, passed))
        return self.result(leaf.group, [s.outputs[0] for s in steps], [*more, *total, *known, *hints])

    def result(self, group: Group, tensors: Sequence[Tensor], hints: Sequence[Expr] = ()) -> Expr | None:
        row = [self.graph.shape(t)[0] for t in tensors]
        if len(row) != group.count or not all(isinstance(v, int) for v in row):
            return None
        right = [h for h in dict.fromkeys([*hints, *self.recent]) if self.frame(group).agrees(h, row)]
        return self.frame(group).find(row, [min(right, key=ex.size)] if right else [])

    def hints(self, leaf: Leaf, flows: Sequence[Expr | None], names: Names) -> list[Expr]:
        """What the spec says at the call, and the channels that flow in."""
        known = dict(names.known)
        flowing = [f for f in flows if f is not None]
        if flowing:
            known["it.channels"] = flowing[0]
        found = [ex.translate(a.value, known) for a in self.arguments(leaf.steps[0], names)]
        self.flowed = [*flowing[:1], *[f for f in self.flowed if f not in flowing][:5]]
        return [*[e for e in found if e is not None], *flowing, *known.values(), *self.recent, *self.flowed]

    def stated_arguments(
        self, leaf: Leaf, parameters: Sequence[str], flows: Sequence[Expr | None], names: Names
    ) -> dict[str, Expr]:
        """What the spec says in a call for each of the parameters of the operation or block."""
        known = dict(names.known)
        if flows and flows[0] is not None:
            known["it.channels"] = flows[0]
        found: dict[str, Expr] = {}
        for position, argument in enumerate(self.arguments(leaf.steps[0], names)):
            name = argument.name or (parameters[position] if position < len(parameters) else "")
            expr = ex.translate(argument.value, known)
            if expr is not None:
                found[name] = expr
        return found

    def called(self, leaf: Leaf, names: Names) -> str | None:
        """The parameter by whose name the spec calls an operation, where it is another one in other calls."""
        step = leaf.steps[0]
        item = names.syntax.items.get((step.site[0], step.site[1]))
        if alike([s.form for s in leaf.steps]) or not isinstance(item, tree.Call):
            return None
        operations = {s.member.operation.name for s in leaf.steps if isinstance(s.member, Node)}
        return item.name.name if operations != {item.name.name} else None

    def stated_of_module(self, leaf: Leaf, flows: Sequence[Expr | None], names: Names) -> dict[str, Expr]:
        """What the spec says for the arguments of an operation's module, by their names in PyTorch."""
        member = leaf.steps[0].member
        operation = type(member.operation) if isinstance(member, Node) else Operation
        found = self.stated_arguments(leaf, list(operation.model_fields), flows, names)
        stated = {operation.pytorch_names.get(name, name): expr for name, expr in found.items()}
        if flows and flows[0] is not None:
            stated |= dict.fromkeys(aliases.INFERRED, flows[0])
        return stated

    def inline_names(self, leaf: Leaf, flows: Sequence[Expr | None], names: Names) -> Names:
        """The names in a scope that is written in place: those of a block are what the call gives for them."""
        cells = [s.member for s in leaf.steps if isinstance(s.member, Cell)]
        definition = cells[0].scope.definition
        known = dict(names.known)
        if definition is not None:
            known = {}
            parameters = [p.name.name for p in definition.syntax.parameters]
            stated = self.stated_arguments(leaf, parameters, flows, names)
            for name in parameters:
                row = [c.scope.arguments.get(name) for c in cells]
                expr = self.stated_here(row, leaf.group, stated.get(name))
                if expr is None and all(map(ex.plain, row)):
                    expr = self.frame(leaf.group).find(row, self.hints(leaf, flows, names))
                if expr is not None:
                    known[name] = expr
        if flows and flows[0] is not None:
            known["it.channels"] = flows[0]
        return Names(known, cells[0].syntax).with_lets()

    def check_is_one(self, leaf: Leaf) -> None:
        """Raises Irregular where a member without a name, which all rounds of a loop share, is not the same in all."""
        if leaf.group.in_loop and any("@" in v for e in self.plan.made[leaf].values() for v in ex.variables(e)):
            self.unlike(leaf.group)

    def label(self, leaf: Leaf, names: Names) -> list[str | Expr]:
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
            numbers = [
                self.number_name([int(s[i]) for s in split], leaf.group, names) for i in range(1, len(split[0]), 2)
            ]
            if all(n is not None for n in numbers):
                texts: list[str | Expr] = [*split[0]]
                texts[1::2] = [str(n.value) if isinstance(n, Const) else self.keep(n) for n in numbers if n is not None]
                return merged(texts)
        if not is_needed(leaf) and self.plan.flow is not None:
            return []
        self.unlike(leaf.group)
        raise Unlike

    def number_name(self, numbers: list[int], group: Group, names: Names) -> Expr | None:
        found = self.frame(group).find(numbers, list(names.known.values()))
        return self.progression(numbers, group, 2) if found is None and group.loop is not None else found

    def call(self, leaf: Leaf, label: list[str | Expr], flows: Sequence[Expr | None], names: Names) -> None:
        cells = [s.member for s in leaf.steps if isinstance(s.member, Cell)]
        own = set(self.plan.cells)
        if len(cells) != len(leaf.steps):
            self.unlike(leaf.group)
        if all(c in own for c in cells):
            self.recursive.append((leaf, list(flows), names))
            self.plan.made[leaf] = Made("", [], label, plan=self.plan)
            return
        plan = self.plans.get(cells[0])
        if plan is None or any(self.plans.get(c) is not plan for c in cells):
            self.unlike(leaf.group)
            return
        arguments: list[tuple[str | None, Expr]] = []
        for parameter in plan.parameters:
            row = [c.arguments[parameter.name] for c in cells]
            stated, hints = self.given(parameter.name, leaf, plan, flows, names)
            arguments.append((parameter.name, self.resolve(row, leaf.group, hints, parameter.name, stated)))
        self.plan.made[leaf] = Made("", arguments, label, plan=plan)

    def given(
        self, name: str, leaf: Leaf, plan: Plan, flows: Sequence[Expr | None], names: Names
    ) -> tuple[Expr | None, list[Expr]]:
        """For a parameter of a class, what the call in the spec says, and what else it may be, the likeliest first."""
        definition = plan.cells[0].scope.definition
        parameters = [p.name.name for p in definition.syntax.parameters] if definition is not None else []
        hints = self.hints(leaf, flows, names)
        if name.startswith("in_"):
            flowing = [f for f in flows if f is not None]
            return (flowing[0] if len(flowing) == 1 else None), [*flowing, *hints]
        return self.stated_arguments(leaf, parameters, flows, names).get(name), hints

    def close_recursion(self) -> None:
        """The arguments of calls of the class by itself: they may use parameters that nothing else did."""
        plan = self.plan
        position = {c: i for i, c in enumerate(plan.cells)}
        done: set[str] = set()
        frozen = len(self.parameters)
        while self.recursive and done != set(self.used) & self.parameters.keys():
            for name in [n for n in self.parameters if n in self.used and n not in done]:
                done.add(name)
                for leaf, flows, names in self.recursive:
                    values = self.parameters[name].values
                    row = [values[position[s.member]] for s in leaf.steps if isinstance(s.member, Cell)]
                    same = ex.constant(values) and ex.constant(row)
                    stated, hints = self.given(name, leaf, plan, flows, names)
                    expr = Var(name) if same else self.resolve(row, leaf.group, hints, name, stated)
                    plan.made[leaf].arguments.append((name, expr))
                    if len(self.parameters) > frozen:
                        raise Unlike
        for leaf, _, _ in self.recursive:
            order = list(self.parameters)
            plan.made[leaf].arguments.sort(key=lambda a: order.index(a[0] or ""))


def _owner(cell: Cell) -> Scope:
    """The call of a block, or the model, whose parameters are in sight in a cell."""
    scope = cell.scope
    while scope.definition is None and scope.parent is not None:
        scope = scope.parent
    return scope


def owner_name(step: Step) -> str:
    """What the parameters that only this member takes are called after."""
    scope = step.member.scope
    named = scope.definition.name if isinstance(step.member, Cell) and scope.definition is not None else ""
    return step.name if is_labelled(step) and step.name.isidentifier() else named


def merged(texts: Sequence[str | Expr]) -> list[str | Expr]:
    """With pieces of text that stand together made one."""
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
