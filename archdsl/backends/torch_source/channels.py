"""How many channels each value of a class has, as an expression of its parameters."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from archdsl.backends.torch_source import expressions as ex
from archdsl.backends.torch_source.expressions import Const, Expr, Var
from archdsl.backends.torch_source.flow import Decision, Rounds, Value
from archdsl.backends.torch_source.fold import Group
from archdsl.backends.torch_source.numbers import Numbers
from archdsl.backends.torch_source.plan import Parameter, Running
from archdsl.graph import Graph, Tensor


@dataclass(slots=True, eq=False)
class Channels:
    """Knows the channels that flow."""

    graph: Graph
    numbers: Numbers
    values: dict[Value, Expr] = field(default_factory=dict)

    def count(self, tensor: Tensor) -> object:
        return self.graph.shape(tensor)[0]

    def declare(self) -> dict[str, Parameter]:
        """Lets the channels that come in be parameters of the class: one for inputs that have the same in all calls."""
        plan, declared = self.numbers.plan, dict[str, Parameter]()
        cells = plan.cells
        total = len(cells[0].inputs)
        for i in range(total):
            shapes = [self.graph.shape(c.inputs[i]) for c in cells]
            if all(isinstance(s[0], int) for s in shapes):
                kind = "features" if all(len(s) == 1 for s in shapes) else "channels"
                name = cells[0].input_names[i] or ("in" if i == 0 else f"in{i + 1}")
                name = f"{'in' if total == 1 else name}_{kind}"
                values: list[object] = [s[0] for s in shapes]
                if plan.complete or all(p.values != values for p in declared.values()):
                    declared[name] = Parameter(name, values)
                    self.numbers.used |= {name: None} if plan.complete else {}
        self.numbers.parameters |= declared
        return declared

    def of_input(self, position: int) -> Expr | None:
        """The channels of what flows into the class."""
        row = [self.count(c.inputs[position]) for c in self.numbers.plan.cells]
        if not all(isinstance(v, int) for v in row):
            return None
        if ex.constant(row) and not self.numbers.plan.complete:
            return Const(row[0])
        for name, parameter in self.numbers.parameters.items():
            if name.endswith(("_channels", "_features")) and parameter.values == row:
                return Var(name)
        return None

    def row(self, value: Value) -> list[object]:
        return [self.count(t) if t is not None else None for t in value.row]

    def of(self, value: Value) -> Expr | None:
        if value not in self.values and value.segment is not None:
            row = self.row(value)
            frame = self.numbers.frame(value.segment.group)
            found = None if None in row else frame.find(row, self.numbers.recent)
            if found is not None:
                self.values[value] = found
        return self.values.get(value)

    def settle(self, value: Value, expr: Expr | None) -> None:
        """Takes the channels of a value, where these are right in every lane."""
        if expr is None or value.segment is None:
            return
        if self.numbers.frame(value.segment.group).agrees(expr, self.row(value)):
            self.values[value] = expr

    def result(
        self, group: Group, tensors: Sequence[Tensor], sure: Sequence[Expr], hints: Sequence[Expr]
    ) -> Expr | None:
        """The channels that come out of a step: what is said of them, else the shortest hint that is right."""
        row = [self.count(t) for t in tensors]
        if len(row) != group.count or not all(isinstance(v, int) for v in row):
            return None
        frame = self.numbers.frame(group)
        said = next((e for e in sure if frame.agrees(e, row)), None)
        if said is not None and (self.numbers.plan.complete or not ex.constant(row)):
            return said
        right = [h for h in dict.fromkeys(hints) if frame.agrees(h, row)]
        if self.numbers.plan.complete and (varying := [e for e in right if any(ex.variables(e))]):
            return varying[0]
        return frame.find(row, [min(right, key=ex.size)] if right else [])

    def join(self, decision: Decision) -> None:
        """The channels of what a condition joins: a variable of the constructor where no one expression says them."""
        group = decision.segments[0].group.around
        assert group is not None
        for join in decision.joins:
            if self.of(join.value) is not None:
                continue
            row = self.row(join.value)
            after = [self.of(v) if v is not None else None for v in join.branches]
            first = self.of(join.passed) if join.passed is not None else None
            known = all(e is not None for e, v in zip(after, join.branches, strict=True) if v is not None)
            if None in row or not known or (join.passed is not None and first is None):
                continue
            variable = Var(f"channels@{id(join)}")
            self.numbers.frame(group).running[variable.name] = list(row)
            running = Running(variable, first, after)
            self.numbers.running[variable.name] = running
            self.numbers.plan.running.setdefault(decision.choice, []).append(running)
            self.values[join.value] = variable

    def carry(self, rounds: Rounds) -> None:
        """The channels of what a loop carries out of it, where they grow by a step: those of one more round."""
        heading = self.numbers.plan.headings[rounds.loop]
        for carried in rounds.carried:
            row = self.row(carried.value)
            inside = None if None in row else self.numbers.progression(row, rounds.segment.group, 2)
            if carried.final is not None and inside is not None:
                self.settle(carried.final, ex.substitute(inside, {heading.index.name: heading.count}))
