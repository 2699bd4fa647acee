"""One class of the generated module: which calls it stands for, its parameters, every number as their function."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from archdsl.backends.torch_source import expressions as ex
from archdsl.backends.torch_source.cells import Cell, Step, Syntax
from archdsl.backends.torch_source.expressions import Binary, Const, Expr, Frame, Var
from archdsl.backends.torch_source.flow import Call, Decision, Flow, Rounds, Value
from archdsl.backends.torch_source.fold import Branch, Choice, Entry, Group, Irregular, Leaf, Loop, Unlike, leaves
from archdsl.graph import Graph, Node, Tensor
from archdsl.ops.base import FunctionForm, ModuleForm, ParameterForm, TorchForm
from archdsl.syntax import tree

PYTORCH_DEFAULTS: Mapping[str, object] = {
    "stride": 1,
    "padding": 0,
    "output_padding": 0,
    "dilation": 1,
    "groups": 1,
    "bias": True,
    "padding_mode": "zeros",
    "ceil_mode": False,
    "count_include_pad": True,
    "eps": 1e-5,
    "momentum": 0.1,
    "affine": True,
    "track_running_stats": False,
    "mode": "nearest",
}
"""What an argument is where an operation leaves it out, by its name in PyTorch."""

ARGUMENT_NAMES: Mapping[str, Sequence[str]] = {
    "Conv": ("in_channels", "out_channels", "kernel_size"),
    "Linear": ("in_features", "out_features"),
    "Pool": ("kernel_size",),
    "Norm": ("num_features",),
    "Dropout": ("p",),
    "DropPath": ("p",),
}
"""What PyTorch calls the arguments that are given by position, by a part of the constructor's name."""

SELF = object()


@dataclass(slots=True, eq=False)
class Parameter:
    """An argument of the class's constructor, with its value in each call."""

    name: str
    values: list[object]
    default: Const | None = None


@dataclass(slots=True, eq=False)
class Made:
    """What stands for a leaf: a constructor or template, and its arguments."""

    head: str
    arguments: list[tuple[str | None, Expr]]
    name: list[str | Expr]
    form: TorchForm | None = None
    plan: Plan | None = None


@dataclass(slots=True, eq=False)
class Heading:
    """The head of a loop: how many rounds, the spec's own variables with what they go over, and further columns."""

    count: Expr
    index: Var
    names: list[Var] = field(default_factory=list)
    over: Expr | None = None
    columns: list[tuple[Var, Expr]] = field(default_factory=list)
    running: Running | None = None


@dataclass(slots=True, eq=False)
class Running:
    """A number that changes on the way, as the channels do: a variable of the constructor.

    It is `first` before the loop or condition, and the one of `after` at the end of a round or branch.
    """

    variable: Var
    first: Expr | None
    after: list[Expr | None]
    used: bool = False


@dataclass(slots=True, eq=False)
class Plan:
    """A class: the entries of its body, what flows between them (None for an nn.Sequential), and what each becomes."""

    cells: list[Cell]
    entries: list[Entry]
    flow: Flow | None
    name: str = ""
    parameters: list[Parameter] = field(default_factory=list)
    made: dict[Leaf, Made] = field(default_factory=dict)
    conditions: dict[Choice, list[Expr]] = field(default_factory=dict)
    headings: dict[Loop, Heading] = field(default_factory=dict)
    running: dict[Choice, list[Running]] = field(default_factory=dict)
    lets: dict[str, Expr] = field(default_factory=dict)
    """Values that the spec gives a name."""
    output: Expr | None = None
    """The channels that come out, where they are a function of the parameters."""

    @property
    def doc(self) -> str | None:
        definition = self.cells[0].scope.definition
        return definition.syntax.doc if definition is not None else None


@dataclass(slots=True, eq=False)
class Names:
    """What the names of a spec stand for in a class, at a place of it."""

    known: dict[str, Expr]
    syntax: Syntax

    def with_lets(self) -> Names:
        for let in self.syntax.lets:
            if let.name.name not in self.known:
                found = ex.translate(let.value, self.known)
                if found is not None:
                    self.known[let.name.name] = found
        return self


@dataclass(slots=True, eq=False)
class Planner:
    """Writes every number of a class as a function of its parameters. Raises Unlike or Irregular where it cannot."""

    graph: Graph
    plan: Plan
    plans: Mapping[Cell, Plan]
    group: Group
    frames: dict[Group, Frame] = field(default_factory=dict)
    parameters: dict[str, Parameter] = field(default_factory=dict)
    used: dict[str, None] = field(default_factory=dict)
    recent: list[Expr] = field(default_factory=list)
    running: dict[str, Running] = field(default_factory=dict)
    sources: dict[str, Expr] = field(default_factory=dict)
    """What the variables of loops go over."""
    recursive: list[tuple[Leaf, list[Expr | None], Names]] = field(default_factory=list)
    channels: dict[Value, Expr] = field(default_factory=dict)
    by_position: bool = False
    flowed: list[Expr] = field(default_factory=list)
    """The channels of what flowed lately."""
    own_hints: int = 0
    """How many of the hints for a leaf stand in its call itself."""

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
        for cell, number in zip(cells, range(len(cells)), strict=True):
            cell.arguments = {p.name: p.values[number] for p in plan.parameters}
        return plan

    # ------------------------------------------------------------ the frame of the class

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
        names = Names(known, cell.syntax).with_lets()
        above = cell
        while above.scope is not owner and above.parent is not None:
            above = above.parent
            names = Names(names.known, above.syntax).with_lets()
        self.plan.lets = {n: e for n, e in names.known.items() if n not in self.parameters and n != "it.channels"}
        return Names(names.known, cell.syntax)

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

    # ------------------------------------------------------------ through the body

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
        elif isinstance(form, ModuleForm):
            self.module(leaf, label, hints)
        elif isinstance(form, FunctionForm):
            self.function(leaf, label, hints)
        else:
            assert isinstance(form, ParameterForm)
            self.weight(leaf, label, hints)
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
        own = [e for e in [*found, *flowing] if e is not None]
        self.own_hints = len(own)
        self.flowed = [*flowing[:1], *[f for f in self.flowed if f not in flowing][:5]]
        return [*own, *known.values(), *self.recent, *self.flowed]

    @staticmethod
    def arguments(step: Step, names: Names) -> Sequence[tree.Argument]:
        item = names.syntax.items.get((step.site[0], step.site[1]))
        return item.arguments or () if isinstance(item, tree.Call) else ()

    def inline_names(self, leaf: Leaf, flows: Sequence[Expr | None], names: Names) -> Names:
        """The names in a scope that is written in place: those of a block are what the call gives for them."""
        cells = [s.member for s in leaf.steps if isinstance(s.member, Cell)]
        definition = cells[0].scope.definition
        known = dict(names.known)
        if definition is not None:
            known = {}
            for parameter in definition.syntax.parameters:
                name = parameter.name.name
                row = [c.scope.arguments.get(name) for c in cells]
                expr = (
                    self.frame(leaf.group).find(row, self.hints(leaf, flows, names))
                    if all(map(ex.plain, row))
                    else None
                )
                if expr is not None:
                    known[name] = expr
        if flows and flows[0] is not None:
            known["it.channels"] = flows[0]
        return Names(known, cells[0].syntax).with_lets()

    # ------------------------------------------------------------ what a leaf becomes

    def label(self, leaf: Leaf, names: Names) -> list[str | Expr]:
        """The member's name: text, with expressions where the rounds of a loop or the calls number it.

        Empty where nothing depends on it: nn.Sequential numbers its members, and what has no weights has no keys.
        """
        row = [s.name for s in leaf.steps]
        if self.by_position or not (is_needed(leaf) or leaf.group.loop is not None):
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
        if not is_needed(leaf):
            return []
        self.unlike(leaf.group)
        raise Unlike

    def number_name(self, numbers: list[int], group: Group, names: Names) -> Expr | None:
        found = self.frame(group).find(numbers, list(names.known.values()))
        return self.progression(numbers, group, 2) if found is None and group.loop is not None else found

    @staticmethod
    def unlike(group: Group) -> None:
        while group.loop is None and group.around is not None:
            group = group.around
        if group.loop is not None:
            raise Irregular(group.loop)
        raise Unlike

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
        given = self.given(leaf, plan, flows, names)
        arguments: list[tuple[str | None, Expr]] = []
        for parameter in plan.parameters:
            row = [c.arguments[parameter.name] for c in cells]
            arguments.append((parameter.name, self.resolve(row, leaf.group, given(parameter.name), parameter.name)))
        self.plan.made[leaf] = Made("", arguments, label, plan=plan)

    def given(self, leaf: Leaf, plan: Plan, flows: Sequence[Expr | None], names: Names):  # type: ignore[no-untyped-def]
        """For a parameter of a class, the expressions that the call in the spec suggests, the likeliest first."""
        arguments = self.arguments(leaf.steps[0], names)
        definition = plan.cells[0].scope.definition
        parameters = [p.name.name for p in definition.syntax.parameters] if definition is not None else []
        hints = self.hints(leaf, flows, names)
        known = dict(names.known)
        flowing = [f for f in flows if f is not None]
        if flowing:
            known["it.channels"] = flowing[0]

        def of(name: str) -> list[Expr]:
            if name.startswith("in_"):
                return [*flowing, *hints]
            for position, argument in enumerate(arguments):
                at = argument.name or (parameters[position] if position < len(parameters) else None)
                found = ex.translate(argument.value, known) if at == name else None
                if found is not None:
                    return [found, *hints]
            return hints

        return of

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
                    hints = self.given(leaf, plan, flows, names)(name)
                    expr = Var(name) if same else self.resolve(row, leaf.group, hints, name)
                    plan.made[leaf].arguments.append((name, expr))
                    if len(self.parameters) > frozen:
                        raise Unlike
        for leaf, _, _ in self.recursive:
            order = list(self.parameters)
            plan.made[leaf].arguments.sort(key=lambda a: order.index(a[0] or ""))

    def module(self, leaf: Leaf, label: list[str | Expr], hints: list[Expr]) -> None:
        forms = [s.form for s in leaf.steps]
        first = forms[0]
        assert isinstance(first, ModuleForm)
        rows = self.rows(leaf)
        names = argument_names(first.constructor)
        resolved: dict[str | int, Expr] = {}
        for key, row in rows.items():
            name = key if isinstance(key, str) else (names[key] if key < len(names) else f"value{key + 1}")
            more = hints
            if key == "padding" and 2 in resolved:
                more = [Binary("//", resolved[2], Const(2)), *hints]
                if "dilation" in resolved:
                    more = [resolved["dilation"], *more]
            resolved[key] = self.resolve(row, leaf.group, more, name)
        arguments: list[tuple[str | None, Expr]] = []
        for key, expr in resolved.items():
            if (
                isinstance(key, str)
                and isinstance(expr, Const)
                and self.is_default(key, expr, resolved, first.constructor)
            ):
                continue
            arguments.append((key if isinstance(key, str) else None, expr))
        self.plan.made[leaf] = Made(first.constructor, arguments, label, first)

    @staticmethod
    def is_default(key: str, expr: Const, resolved: Mapping[str | int, Expr], constructor: str) -> bool:
        if key == "stride" and "Pool" in constructor:
            return expr == resolved.get(0)
        return key in PYTORCH_DEFAULTS and ex.same(PYTORCH_DEFAULTS[key], expr.value)

    def rows(self, leaf: Leaf) -> dict[str | int, list[object]]:
        """The arguments of a leaf's forms by position or name, one value a lane. Raises Unlike where forms differ."""
        forms = [s.form for s in leaf.steps]
        first = forms[0]
        for form in forms:
            if form is first:
                continue
            if type(form) is not type(first) or _kind(form) != _kind(first):
                self.unlike(leaf.group)
        assert not isinstance(first, ParameterForm | None)
        tables: list[dict[str | int, object]] = []
        for form in forms:
            assert isinstance(form, ModuleForm | FunctionForm)
            tables.append({i if a.name is None else a.name: a.value for i, a in enumerate(form.arguments)})
        keys = list(dict.fromkeys(k for t in tables for k in t))
        if any(t.keys() != tables[0].keys() for t in tables):
            order = list(PYTORCH_DEFAULTS)
            keys.sort(key=lambda k: order.index(k) if k in order else -1)
        found: dict[str | int, list[object]] = {}
        for key in keys:
            row = [t[key] if key in t else self.default(key, t, first) for t in tables]
            found[key] = row
        return found

    def default(self, key: str | int, table: Mapping[str | int, object], form: TorchForm) -> object:
        if isinstance(form, ModuleForm) and isinstance(key, str):
            if key == "stride" and "Pool" in form.constructor:
                return table[0]
            if key in PYTORCH_DEFAULTS:
                return PYTORCH_DEFAULTS[key]
        raise Unlike

    def function(self, leaf: Leaf, label: list[str | Expr], hints: list[Expr]) -> None:
        first = leaf.steps[0].form
        assert isinstance(first, FunctionForm)
        arguments: list[tuple[str | None, Expr]] = []
        for key, row in self.rows(leaf).items():
            if leaf.steps[0].sized and key == "size":
                continue
            arguments.append((str(key), self.resolve(row, leaf.group, hints, str(key))))
        self.plan.made[leaf] = Made(first.template, arguments, label, first)

    def weight(self, leaf: Leaf, label: list[str | Expr], hints: list[Expr]) -> None:
        forms = [s.form for s in leaf.steps]
        first = forms[0]
        assert isinstance(first, ParameterForm)
        if any(not isinstance(f, ParameterForm) or f.template != first.template for f in forms):
            self.unlike(leaf.group)
        shapes = [f.shape for f in forms if isinstance(f, ParameterForm)]
        size = self.resolve([s[0] for s in shapes], leaf.group, hints, "width")
        fill = self.resolve([f.fill for f in forms if isinstance(f, ParameterForm)], leaf.group, hints, "init")
        self.plan.made[leaf] = Made(first.template, [("size", size), ("fill", fill)], label, first)

    # ------------------------------------------------------------ numbers

    def resolve(self, row: Sequence[object], group: Group, hints: Sequence[Expr], name: str) -> Expr:
        """The expression for a number with these values, one a lane; a new parameter where there is no other way."""
        still = [h for h in hints if not self.is_running(h)]
        found = self.stated_here(row, group, still) or self.frame(group).find(row, still)
        if found is None and group.loop is not None:
            found = self.progression(row, group, 3)
        if found is None:
            found = next((h for h in hints if self.frame(group).agrees(h, row)), None)
        if found is not None:
            return self.keep(found)
        if group.around is None:
            return self.parameter(name, list(row))
        return self.resolve_outside(row, group, hints, name)

    def is_running(self, expr: Expr) -> bool:
        return any(name in self.running for name in ex.variables(expr))

    def stated_here(self, row: Sequence[object], group: Group, hints: Sequence[Expr]) -> Expr | None:
        """What the spec says for a number that is the same in the calls that have it, but would not be in others."""
        if group.around is None or group.loop is not None or not ex.constant(row) or Const(row[0]) in hints:
            return None
        varying = {n for n, v in self.frames[self.group].values.items() if not ex.constant(v)}
        for hint in hints[: self.own_hints]:
            if varying.intersection(ex.variables(hint)) and self.frame(group).agrees(hint, row):
                return hint
        return None

    def resolve_outside(self, row: Sequence[object], group: Group, hints: Sequence[Expr], name: str) -> Expr:
        """A number that depends on the call alone, or on the round of a loop by a table."""
        by_lane: dict[int, object] = {}
        for lane, value in enumerate(row):
            if not ex.same(by_lane.setdefault(group.above[lane], value), value):
                return self.column(row, group, name)
        assert group.around is not None
        fill = next(iter(by_lane.values()))
        return self.resolve([by_lane.get(i, fill) for i in range(group.around.count)], group.around, hints, name)

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
        """A number that each round of a loop takes from a list. Raises Irregular where writing them out is plainer."""
        loop = group.loop
        assert group.around is not None
        if loop is None:
            self.unlike(group)
            raise Unlike
        if min(loop.counts) == max(loop.counts) and (loop.counts[0] < 6 or len(self.plan.headings[loop].columns) > 1):
            raise Irregular(loop)
        heading = self.plan.headings[loop]
        tuples: list[tuple[object, ...]] = []
        lane = 0
        for count in loop.counts:
            tuples.append(tuple(row[lane : lane + count]))
            lane += count
        if loop.group.around is None and loop.group.count == 1 and len(heading.names) > 0:
            raise Irregular(loop)
        over = self.resolve(tuples, group.around, [heading.over] if heading.over is not None else [], name + "s")
        variable = Var(f"{name}@{id(loop)}.{len(heading.columns)}")
        heading.columns.append((variable, over))
        self.frame(group).values[variable.name] = list(row)
        return self.keep(variable)

    def parameter(self, name: str, values: list[object]) -> Expr:
        """A parameter that the spec does not have."""
        if not all(map(ex.plain, values)):
            raise Unlike
        base, number = name, 1
        while name in self.parameters:
            number += 1
            name = f"{base}{number}"
        self.parameters[name] = Parameter(name, values)
        for group, frame in self.frames.items():
            frame.values[name] = [values[group.out(i)] for i in range(group.count)]
        return self.keep(Var(name))

    # ------------------------------------------------------------ loops and conditions

    def heading(self, loop: Loop, names: Names) -> Names:
        """The head of a loop, and the names in its body."""
        frame = self.frame(loop.group)
        inner = self.frame(loop.inner)
        statement = loop.region.statement
        index = Var(f"index@{id(loop)}")
        hints: list[Expr] = []
        known = dict(names.known)
        if isinstance(statement, tree.Repeat):
            count = ex.translate(statement.count, names.known)
            hints = [count] if count is not None else []
        over: Expr | None = None
        variables: list[Var] = []
        if isinstance(statement, tree.For):
            over = self.numbered(statement, ex.translate(statement.values, names.known), index, known)
            rounds = frame.row(over) if over is not None else None
            if over is None or rounds is None or [len(r) for r in rounds if isinstance(r, tuple)] != loop.counts:
                over = None
            else:
                flat = [value for r in rounds if isinstance(r, tuple) for value in r]
                variables = self.bind(statement, flat, loop, known)
                self.sources.update((v.name, over) for v in variables)
                hints = [length(over)]
        known = {n: e for n, e in known.items() if e is not None}
        inner.values[index.name] = list(loop.inner.rounds)
        count_expr = self.resolve(list(loop.counts), loop.group, hints, "count")
        self.plan.headings[loop] = Heading(count_expr, index, variables, over if variables else None)
        return Names(known, names.syntax)

    @staticmethod
    def numbered(statement: tree.For, over: Expr | None, index: Var, known: dict[str, Expr]) -> Expr | None:
        """Lets the variable of a `for` over a range be the index plus where it starts."""
        match over:
            case ex.Apply("range", (_,)) if len(statement.names) == 1:
                known[statement.names[0].name] = index
            case ex.Apply("range", (start, _)) if len(statement.names) == 1:
                known[statement.names[0].name] = ex.simplify(Binary("+", index, start))
        return over

    def bind(self, statement: tree.For, flat: list[object], loop: Loop, known: dict[str, Expr]) -> list[Var]:
        """The variables of a `for`, with their values in all rounds."""
        inner = self.frame(loop.inner)
        count = len(statement.names)
        if not all(map(ex.plain, flat)):
            return []
        if count > 1 and not all(isinstance(v, tuple) and len(v) == count for v in flat):
            return []
        variables: list[Var] = []
        if (
            count == 1
            and statement.names[0].name in known
            and any("index@" in n for n in ex.variables(known[statement.names[0].name]))
        ):
            return []
        for i, name in enumerate(statement.names):
            variable = Var(f"{name.name}@{id(loop)}")
            row = flat if count == 1 else [v[i] for v in flat if isinstance(v, tuple)]
            inner.values[variable.name] = list(row)
            known[name.name] = variable
            variables.append(variable)
        return variables

    def condition(self, choice: Choice, names: Names) -> None:
        """For each branch of a choice, the condition on which it is taken."""
        found: list[Expr] = []
        frame = self.frame(choice.group)
        before: set[int] = set()
        for number, branch in enumerate(choice.branches):
            taken = set(branch.inner.above)
            rest = [i for i in range(choice.group.count) if i not in before]
            if number and len(taken) == len(rest):
                found.append(Const(True))
                continue
            row = [i in taken for i in range(choice.group.count)]
            expr = self.condition_of(choice, branch, row, before, names, frame)
            if expr is None:
                expr = self.resolve(row, choice.group, [], self.condition_name(choice))
            found.append(self.keep(expr))
            before |= taken
        self.plan.conditions[choice] = found

    def condition_of(
        self, choice: Choice, branch: Branch, row: list[bool], before: set[int], names: Names, frame: Frame
    ) -> Expr | None:
        hints = [*self.stated(choice, branch, names)]
        for hint in hints:
            if all(i in before or self.holds(hint, frame, i) is wanted for i, wanted in enumerate(row)):
                return hint
        return None

    @staticmethod
    def holds(hint: Expr, frame: Frame, lane: int) -> object:
        try:
            return ex.evaluate(hint, frame.env(lane))
        except ex.MISTAKES:
            return None

    def stated(self, choice: Choice, branch: Branch, names: Names) -> Iterable[Expr]:
        """The conditions of the spec that may decide a branch."""
        values: list[tuple[tree.Value, Mapping[str, Expr]]] = []
        if branch.condition is not None:
            values.append((branch.condition, names.known))
        for leaf in leaves(branch.body):
            step = leaf.steps[0]
            item = names.syntax.items.get((step.site[0], step.site[1]))
            if isinstance(item, tree.Residual) and item.condition is not None:
                values.append((item.condition, names.known))
            if isinstance(step.member, Cell) and step.member.scope.definition is not None:
                inner = {**self.substituted(leaf, step.member, names)}
                if "it.channels" in names.known:
                    inner["it.channels"] = names.known["it.channels"]
                values += [(c, inner) for r in step.member.syntax.regions for c, _, _ in r.branches if c is not None]
            break
        for loop_count in _counts(branch.body, names.syntax):
            values.append((loop_count, names.known))
        frame = self.frame(choice.group)
        ints = [Var(n) for n, v in frame.values.items() if all(map(ex.is_int, v))]
        for value, known in values:
            for flowing in [known.get("it.channels"), *ints]:
                more = dict(known) if flowing is None else {**known, "it.channels": flowing}
                found = ex.translate(value, more)
                if found is not None:
                    yield found
                    yield Binary(">", found, Const(0))

    def substituted(self, leaf: Leaf, cell: Cell, names: Names) -> Mapping[str, Expr]:
        """The parameters of a called block as the call gives them."""
        assert cell.scope.definition is not None
        parameters = cell.scope.definition.syntax.parameters
        known: dict[str, Expr] = {}
        for parameter in parameters:
            default = ex.translate(parameter.default, {}) if parameter.default is not None else None
            if default is not None:
                known[parameter.name.name] = default
        for position, argument in enumerate(self.arguments(leaf.steps[0], names)):
            name = argument.name or (parameters[position].name.name if position < len(parameters) else "")
            found = ex.translate(argument.value, names.known)
            if found is not None:
                known[name] = found
        return known

    @staticmethod
    def condition_name(choice: Choice) -> str:
        leaf = next(leaves(choice.branches[0].body))
        member = leaf.steps[0].member
        if isinstance(member, Cell):
            return (
                f"with_{member.scope.name}" if member.scope.labelled and member.scope.name.isidentifier() else "whole"
            )
        return f"with_{member.operation.name}"


# ---------------------------------------------------------------- helpers


def length(over: Expr) -> Expr:
    """How many values a `for` goes over."""
    match over:
        case ex.Apply("range", (stop,)):
            return stop
        case ex.Apply("range", (start, stop)):
            return ex.simplify(Binary("-", stop, start))
    return ex.Apply("len", (over,))


def argument_names(constructor: str) -> Sequence[str]:
    return next((names for part, names in ARGUMENT_NAMES.items() if part in constructor), ())


def _owner(cell: Cell):  # type: ignore[no-untyped-def]
    """The call of a block, or the model, whose parameters are in sight in a cell."""
    scope = cell.scope
    while scope.definition is None and scope.parent is not None:
        scope = scope.parent
    return scope


def _kind(form: TorchForm | None) -> object:
    match form:
        case ModuleForm():
            return (form.constructor, form.helper, form.factory, form.frozen, repr(form.fill))
        case FunctionForm():
            return (form.template, form.helper, form.results)
    return None


def merged(texts: Sequence[str | Expr]) -> list[str | Expr]:
    """With pieces of text that stand together made one."""
    found: list[str | Expr] = []
    for text in texts:
        if isinstance(text, str) and found and isinstance(found[-1], str):
            found[-1] += text
        elif text != "":
            found.append(text)
    return found


def is_labelled(step: Step) -> bool:
    return step.member.labelled if isinstance(step.member, Node) else step.member.scope.labelled


def is_needed(leaf: Leaf) -> bool:
    """Whether the keys of the state_dict depend on the member's name, or the spec labels it."""
    form = leaf.steps[0].form
    if isinstance(form, FunctionForm):
        return False
    return not isinstance(form, ModuleForm) or form.factory or is_labelled(leaf.steps[0])


def inner_cells(leaf: Leaf) -> list[Cell]:
    return [s.member for s in leaf.steps if isinstance(s.member, Cell)]


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


def _counts(body: Sequence[Entry], syntax: Syntax) -> Iterable[tree.Value]:
    """The counts of the loops of a body that hold these entries: a loop of one round or none is a condition."""
    first = body[0]
    if isinstance(first, Leaf):
        site = first.steps[0].site
        for region in syntax.regions:
            inside = region.span.start <= site[0] and site[1] <= region.span.end
            if inside and isinstance(region.statement, tree.Repeat):
                yield region.statement.count
