"""Heads of loops and conditions of a class, found again in the spec or made up from its parameters."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from archdsl.backends.torch_source import expressions as ex
from archdsl.backends.torch_source.cells import Borrowed, Cell, Reference, Syntax
from archdsl.backends.torch_source.environment import Names
from archdsl.backends.torch_source.expressions import Binary, Const, Expr, Var
from archdsl.backends.torch_source.fold import Branch, Choice, Entry, Leaf, Loop, leaves
from archdsl.backends.torch_source.names import identifier
from archdsl.backends.torch_source.numbers import Frame, Numbers
from archdsl.backends.torch_source.plan import Heading
from archdsl.syntax import tree


@dataclass(slots=True, eq=False)
class Control:
    """Finds how often a loop runs, what its variables are, and when a branch is taken."""

    numbers: Numbers

    def heading(self, loop: Loop, names: Names) -> Names:
        """The head of a loop, and the names in its body."""
        frame = self.numbers.frame(loop.group)
        inner = self.numbers.frame(loop.inner)
        statement = loop.region.statement
        index = Var(f"@index@{id(loop)}")  # no variable of a spec begins so
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
                self.numbers.sources.update((v.name, over) for v in variables)
                hints = [length(over)]
        known = {n: e for n, e in known.items() if e is not None}
        inner.values[index.name] = list(loop.inner.rounds)
        count_expr = self.numbers.resolve(list(loop.counts), loop.group, hints, "count")
        self.numbers.plan.headings[loop] = Heading(count_expr, index, variables, over if variables else None)
        return names.within(known)

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
        inner = self.numbers.frame(loop.inner)
        count = len(statement.names)
        if not all(map(ex.plain, flat)):
            return []
        if count > 1 and not all(isinstance(v, tuple) and len(v) == count for v in flat):
            return []
        variables: list[Var] = []
        if (
            count == 1
            and statement.names[0].name in known
            and any(n.startswith("@index@") for n in ex.variables(known[statement.names[0].name]))
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
        frame = self.numbers.frame(choice.group)
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
                expr = self.numbers.resolve(row, choice.group, [], self.condition_name(choice))
            found.append(self.numbers.keep(expr))
            before |= taken
        self.numbers.plan.conditions[choice] = found

    def condition_of(
        self, choice: Choice, branch: Branch, row: list[bool], before: set[int], names: Names, frame: Frame
    ) -> Expr | None:
        # In a loop of `forward`, the channels that flow are nowhere to ask for.
        unknown = self.numbers.plan.flow is not None and choice.group.in_loop
        for hint in self.stated(choice, branch, names):
            if unknown and self.numbers.is_running(hint):
                continue
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
            item = names.item(step)
            if isinstance(item, tree.Residual) and item.condition is not None:
                values.append((item.condition, names.known))
            if isinstance(step.member, Cell) and step.member.scope.definition is None:
                values += [
                    (c, names.known) for r in step.member.syntax.regions for c, _, _ in r.branches if c is not None
                ]
            elif isinstance(step.member, Cell):
                inner = {**self.substituted(leaf, step.member, names)}
                if "it.channels" in names.known:
                    inner["it.channels"] = names.known["it.channels"]
                values += [(c, inner) for r in step.member.syntax.regions for c, _, _ in r.branches if c is not None]
            break
        for loop_count in _counts(branch.body, names.syntax):
            values.append((loop_count, names.known))
        for value, known in values:
            found = ex.translate(value, known)
            if found is not None:
                yield found
                yield Binary(">", found, Const(0))

    @staticmethod
    def substituted(leaf: Leaf, cell: Cell, names: Names) -> Mapping[str, Expr]:
        """The parameters of a called block as the call gives them."""
        assert cell.scope.definition is not None
        parameters = cell.scope.definition.syntax.parameters
        defaults = {p.name.name: ex.translate(p.default, {}) for p in parameters if p.default is not None}
        known = {name: default for name, default in defaults.items() if default is not None}
        return known | names.stated(leaf.steps[0], [p.name.name for p in parameters])

    @staticmethod
    def condition_name(choice: Choice) -> str:
        leaf = next(leaves(choice.branches[0].body))
        member = leaf.steps[0].member
        if isinstance(member, Reference | Borrowed):
            return f"with_{identifier(leaf.steps[0].name)}"
        if isinstance(member, Cell):
            return (
                f"with_{member.scope.name}" if member.scope.labelled and member.scope.name.isidentifier() else "whole"
            )
        return f"with_{member.operation.name}"


def length(over: Expr) -> Expr:
    """How many values a `for` goes over."""
    match over:
        case ex.Apply("range", (stop,)):
            return stop
        case ex.Apply("range", (start, stop)):
            return ex.simplify(Binary("-", stop, start))
        case ex.Apply("enumerate", (inner, *_)):
            return length(inner)
        case ex.Apply("zip", (first, *others)):
            shortest = length(first)
            for other in map(length, others):
                shortest = shortest if other == shortest else ex.Apply("min", (shortest, other))
            return shortest
        case Const(tuple() as values):
            return Const(len(values))
        case _:
            return ex.Apply("len", (over,))


def _counts(body: Sequence[Entry], syntax: Syntax) -> Iterable[tree.Value]:
    """The counts of the loops of a body that hold these entries: a loop of one round or none is a condition."""
    first = body[0]
    if isinstance(first, Leaf):
        site = first.steps[0].site
        for region in syntax.regions:
            inside = region.span.start <= site[0] and site[1] <= region.span.end
            if inside and isinstance(region.statement, tree.Repeat):
                yield region.statement.count
