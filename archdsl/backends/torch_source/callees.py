"""Calls of other classes, of the class itself, and of a class that is an argument."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from archdsl.backends.torch_source import expressions as ex
from archdsl.backends.torch_source.cells import Cell
from archdsl.backends.torch_source.environment import Names, parameters_of
from archdsl.backends.torch_source.expressions import Expr, Layer, Var
from archdsl.backends.torch_source.fold import CannotMerge, Leaf, refuse
from archdsl.backends.torch_source.numbers import Numbers
from archdsl.backends.torch_source.plan import Made, Plan, inner_cells
from archdsl.graph import Graph
from archdsl.syntax import tree


@dataclass(slots=True, eq=False)
class Calling:
    """A call: its name, the channels that flow in, the names in sight, and what else its numbers may be."""

    leaf: Leaf
    label: list[str | Expr]
    flows: Sequence[Expr | None]
    names: Names
    hints: list[Expr]


@dataclass(slots=True, eq=False)
class Callees:
    """Settles the calls of classes. `plans` are the classes of the scopes within."""

    graph: Graph
    plans: Mapping[Cell, Plan]
    numbers: Numbers
    recursive: list[Calling] = field(default_factory=list)
    """Calls of the class by itself, which wait until its parameters are known."""

    def call(self, calling: Calling) -> None:
        leaf, own = calling.leaf, self.numbers.plan
        cells = inner_cells(leaf)
        if len(cells) != len(leaf.steps):
            refuse(leaf.group)
        if all(c in own.cells for c in cells):
            self.recursive.append(calling)
            own.made[leaf] = Made("", [], calling.label, plan=own)
            return
        item = calling.names.item(leaf.steps[0])
        if (
            isinstance(item, tree.Call)
            and len({id(c.scope.definition.syntax) for c in cells if c.scope.definition}) > 1
        ):
            self.argument(calling, cells, item)
            return
        plan = self.plans.get(cells[0])
        if plan is None or any(self.plans.get(c) is not plan for c in cells):
            refuse(leaf.group)
        arguments: list[tuple[str | None, Expr]] = []
        for parameter in plan.parameters:
            row = [c.arguments[parameter.name] for c in cells]
            stated, hints = self.given(parameter.name, calling, plan)
            arguments.append((parameter.name, self.numbers.resolve(row, leaf.group, hints, parameter.name, stated)))
        own.made[leaf] = Made("", arguments, calling.label, plan=plan)

    def argument(self, calling: Calling, cells: Sequence[Cell], item: tree.Call) -> None:
        """A call of a class that is an argument: all that may stand for it take the same parameters."""
        leaf, flows, hints = calling.leaf, calling.flows, calling.hints
        if any(c not in self.plans for c in cells):  # one of them is the class that calls it
            refuse(leaf.group)
        plans = [self.plans[c] for c in cells]
        inputs = [[p.name for p in plan.parameters if p.name.startswith("in_")] for plan in plans]
        if not all(p.complete for p in plans) or any(len(i) != len(inputs[0]) for i in inputs):
            refuse(leaf.group)
        arguments: list[tuple[str | None, Expr]] = []
        for number, wanted in enumerate(zip(*inputs, strict=True)):
            row = [c.arguments[n] for c, n in zip(cells, wanted, strict=True)]
            arguments.append((None, self.numbers.resolve(row, leaf.group, hints, wanted[0], flows[number])))
        given = [set(names) for names in inputs]
        known = calling.names.known | ({} if flows[0] is None else {"it.channels": flows[0]})
        for position, argument in enumerate(item.arguments or ()):
            targets = [argument.name or parameters_of(c)[position] for c in cells]
            if any(name not in c.arguments for c, name in zip(cells, targets, strict=True)):
                refuse(leaf.group)
            row = [c.arguments[name] for c, name in zip(cells, targets, strict=True)]
            stated = ex.translate(argument.value, known)
            arguments.append((argument.name, self.numbers.resolve(row, leaf.group, hints, targets[0], stated)))
            for names, name in zip(given, targets, strict=True):
                names.add(name)
        for name in self.given_before(cells, plans, given):
            if any(name not in c.arguments for c in cells):
                refuse(leaf.group)
            row = [c.arguments[name] for c in cells]
            arguments.append((name, self.numbers.resolve(row, leaf.group, hints, name)))
            for names in given:
                names.add(name)
        needed = [{p.name for p in plan.parameters if p.default is None} for plan in plans]
        if any(names - passed for names, passed in zip(needed, given, strict=True)):
            refuse(leaf.group)
        layers = [Layer("", made=plan) for plan in plans]
        layer = self.numbers.resolve(layers, leaf.group, [], item.name.name)
        self.numbers.plan.made[leaf] = Made(item.name.name, arguments, calling.label, layer=layer)

    @staticmethod
    def given_before(cells: Sequence[Cell], plans: Sequence[Plan], given: Sequence[set[str]]) -> dict[str, None]:
        """The parameters that a call leaves out, but whose value is not their default: the value called has them."""
        return {
            p.name: None
            for cell, plan, names in zip(cells, plans, given, strict=True)
            for p in plan.parameters
            if p.default is not None and p.name not in names and not ex.same(cell.arguments[p.name], p.default.value)
        }

    def given(self, name: str, calling: Calling, plan: Plan) -> tuple[Expr | None, list[Expr]]:
        """For a parameter of a class, what the call in the spec says, and what else it may be, the likeliest first."""
        flowing = [f for f in calling.flows if f is not None]
        if name.startswith("in_"):
            return (flowing[0] if len(flowing) == 1 else None), [*flowing, *calling.hints]
        flow = calling.flows[0] if calling.flows else None
        stated = calling.names.stated(calling.leaf.steps[0], parameters_of(plan.cells[0]), flow)
        return stated.get(name), calling.hints

    def output(self, calling: Calling) -> list[Expr]:
        """The channels that may come out of a call: those of the class, for what is passed."""
        made, own = self.numbers.plan.made[calling.leaf], self.numbers.plan
        if made.plan is None:
            return []
        if made.plan is not own:
            passed = {name or "": expr for name, expr in made.arguments}
            return [] if made.plan.output is None else [ex.substitute(made.plan.output, passed)]
        row = [self.graph.shape(c.outputs[0])[0] for c in own.cells]
        flow = calling.flows[0]
        passed = calling.names.stated(calling.leaf.steps[0], parameters_of(own.cells[0]), flow)
        passed |= {} if flow is None else {"in_channels": flow, "in_features": flow}
        frame = self.numbers.frame(self.numbers.group)
        return [ex.substitute(e, passed) for e in self.numbers.recent if frame.agrees(e, row)]

    def close_recursion(self) -> None:
        """The arguments of calls of the class by itself: they may use parameters that nothing else did."""
        plan, parameters = self.numbers.plan, self.numbers.parameters
        position = {c: i for i, c in enumerate(plan.cells)}
        done: set[str] = set()
        frozen = len(parameters)
        while self.recursive and done != set(self.numbers.used) & parameters.keys():
            for name in [n for n in parameters if n in self.numbers.used and n not in done]:
                done.add(name)
                for calling in self.recursive:
                    leaf, values = calling.leaf, parameters[name].values
                    row = [values[position[c]] for c in inner_cells(leaf)]
                    same = ex.constant(values) and ex.constant(row)
                    stated, hints = self.given(name, calling, plan)
                    expr = Var(name) if same else self.numbers.resolve(row, leaf.group, hints, name, stated)
                    plan.made[leaf].arguments.append((name, expr))
                    if len(parameters) > frozen:
                        raise CannotMerge
        for calling in self.recursive:
            order = list(parameters)
            plan.made[calling.leaf].arguments.sort(key=lambda a: order.index(a[0] or ""))
