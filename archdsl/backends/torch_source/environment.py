"""The meaning of a spec's names at a place of a class: parameters, `let`s, the variables of loops."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from archdsl.backends.torch_source import expressions as ex
from archdsl.backends.torch_source.cells import Cell, Step, Syntax
from archdsl.backends.torch_source.expressions import Const, Expr, Var
from archdsl.backends.torch_source.fold import Leaf
from archdsl.backends.torch_source.numbers import Numbers
from archdsl.graph import Scope
from archdsl.syntax import tree
from archdsl.syntax.walk import names as names_in


@dataclass(slots=True, eq=False)
class Names:
    """The names in sight in a body, with their expressions; `it.channels` is one of them."""

    known: dict[str, Expr]
    syntax: Syntax
    constants: Mapping[str, Expr] = field(default_factory=dict)
    """The file's own names, which inner ones hide."""

    def __post_init__(self) -> None:
        self.known = {**self.constants, **self.known}

    def with_lets(self) -> Names:
        for let in self.syntax.lets:
            name = let.name.name
            if name not in self.known or self.known[name] is self.constants.get(name):
                found = ex.translate(let.value, self.known)
                if found is not None:
                    self.known[name] = found
                else:
                    self.known.pop(name, None)
        return self

    def within(self, known: dict[str, Expr]) -> Names:
        """The same body with other names in sight."""
        return Names(known, self.syntax, self.constants)

    def at(self, leaf: Leaf, numbers: Numbers) -> Names:
        """The names in sight at a leaf, whose arguments may take what `let`s, loops and an `input` bound there.

        Of a bound value that no expression gives here, the class has a parameter.
        """
        known = dict(self.known)
        bound = [s.bound for s in leaf.steps]
        said = [n for a in self.arguments(leaf.steps[0]) for n in names_in(a.value) if n.name in bound[0]]
        for name in dict.fromkeys(n.name for n in sorted(said, key=lambda n: n.span.start)):
            row = [values.get(name) for values in bound]
            if name in known and numbers.frame(leaf.group).agrees(known[name], row):
                continue
            expr = self.written_out(name, leaf)
            if expr is None or not numbers.frame(leaf.group).agrees(expr, row):
                expr = numbers.bound(name, row, leaf.group)
            if expr is not None:
                known[name] = expr
            else:
                known.pop(name, None)
        return self.within(known)

    def written_out(self, name: str, leaf: Leaf) -> Expr | None:
        """The variable of a loop that is written out, as what it is in the round that a leaf belongs to."""
        rounds = [s.rounds for s in leaf.steps]
        for start, number in reversed(rounds[0]):
            statement = self.syntax.loop(start)
            if not isinstance(statement, tree.For) or name not in [n.name for n in statement.names]:
                continue
            over = ex.translate(statement.values, self.known)
            if over is None or any((start, number) not in r for r in rounds):
                return None
            part = [n.name for n in statement.names].index(name) if len(statement.names) > 1 else None
            return element(over, number, part)
        return None

    def item(self, step: Step) -> tree.Item | None:
        """The syntax that made a step."""
        return self.syntax.items.get((step.site[0], step.site[1]))

    def arguments(self, step: Step) -> Sequence[tree.Argument]:
        """The arguments of the spec's call that made a step."""
        item = self.item(step)
        return item.arguments or () if isinstance(item, tree.Call) else ()

    def stated(self, step: Step, parameters: Sequence[str], flow: Expr | None = None) -> dict[str, Expr]:
        """The spec's expression for each parameter of a call; `flow` are the input's channels."""
        known = self.known if flow is None else {**self.known, "it.channels": flow}
        found: dict[str, Expr] = {}
        for position, argument in enumerate(self.arguments(step)):
            name = argument.name or (parameters[position] if position < len(parameters) else "")
            expr = ex.translate(argument.value, known)
            if expr is not None:
                found[name] = expr
        return found


def element(over: Expr, number: int, part: int | None) -> Expr:
    """An element of a list, or a part of it where it is a tuple."""
    match over:
        case ex.Apply("range", (_,)):
            return Const(number)
        case ex.Apply("range", (start, _)):
            return ex.simplify(ex.Binary("+", start, Const(number)))
        case ex.Apply("zip", lists) if part is not None:
            return element(lists[part], number, None)
        case ex.Apply("enumerate", (inner,)) if part is not None:
            return element(inner, number, None) if part else Const(number)
    found = ex.Item(over, Const(number))
    return found if part is None else ex.Item(found, Const(part))


def owner(cell: Cell) -> Scope:
    """The call of a block, or the model, whose parameters are in sight in a cell."""
    scope = cell.scope
    while scope.definition is None and scope.parent is not None:
        scope = scope.parent
    return scope


def parameters_of(cell: Cell) -> list[str]:
    """The names of the parameters of the block that a cell is a call of."""
    definition = cell.scope.definition
    return [p.name.name for p in definition.syntax.parameters] if definition is not None else []


def names_of(cell: Cell, numbers: Numbers, inflow: Expr | None) -> Names:
    """The names in sight in the cells of a class: its block's parameters, and the `let`s of the bodies around it."""
    around = owner(cell)
    known: dict[str, Expr] = {} if inflow is None else {"it.channels": inflow}
    given: dict[str, Expr] = {}
    if around.definition is not None:
        own = [p.name.name for p in around.definition.syntax.parameters]
        for name in own:
            if name in numbers.parameters:
                values = numbers.parameters[name].values
                listed = len(values) > 1 and isinstance(values[0], tuple)
                same = not numbers.plan.complete and ex.constant(values) and not listed
                known[name] = Const(values[0]) if same else Var(name)
        constants = around.definition.constants().items()
        given = {name: Const(value) for name, value in constants if ex.plain(value) and name not in own}
    names = Names(known, cell.syntax, given).with_lets()
    above = cell
    while above.scope is not around and above.parent is not None:
        above = above.parent
        names = Names(names.known, above.syntax, given).with_lets()
    numbers.plan.lets = {n: e for n, e in names.known.items() if n not in numbers.parameters and n != "it.channels"}
    return Names(names.known, cell.syntax, given)
