"""The names in a constructor: its parameters, the variables of its loops, the numbers that change on the way."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from archdsl.backends.python import tree as py
from archdsl.backends.python.tree import call
from archdsl.backends.torch_source import expressions as ex
from archdsl.backends.torch_source.emitter import Emitter
from archdsl.backends.torch_source.fold import Leaf, Loop, leaves, loops
from archdsl.backends.torch_source.names import identifier, unique
from archdsl.backends.torch_source.plan import Heading, Plan, Running, heads_within, is_shared
from archdsl.ops.forms import FunctionForm


@dataclass(slots=True, eq=False)
class Scope:
    """Names variables, and writes expressions with those names."""

    plan: Plan
    code: Emitter
    globals: frozenset[str]
    """Names that no variable may have."""
    names: dict[str, str] = field(default_factory=dict)
    """The names of parameters and of loop variables."""
    locals: set[str] = field(default_factory=set)
    """All names of variables."""
    aliases: dict[py.Expr, str] = field(default_factory=dict)
    """Expressions that have a variable of their own."""
    late: set[str] = field(default_factory=set)
    """Variables that change on the way."""
    late_names: set[str] = field(default_factory=set)
    enclosing: set[str] = field(default_factory=set)
    """The variables of the comprehensions around."""

    def value(self, expr: py.Expr) -> py.Expr:
        """An expression of the plan as the constructor has it."""
        return ex.named(expr, self.names, self.aliases)

    def variable(self, name: str, value: py.Expr) -> str:
        """A new variable."""
        found = unique(name, self.locals)
        self.locals.add(found)
        self.code.add(py.Assign(py.Var(found), value))
        return found

    def set_running(self, running: Running, value: py.Expr) -> None:
        """Gives a number that changes on the way its next value."""
        self.code.add(py.Assign(py.Var(self.names[running.variable.name]), self.value(value)))

    # ------------------------------------------------------------ loops

    @contextmanager
    def loop(self, loop: Loop) -> Iterator[None]:
        """A loop of the constructor, with the number that runs through it; none where nothing is done in it."""
        running = self.plan.headings[loop].running
        running = running if running is not None and running.used else None
        outside, start = self.code.body, len(self.code.body)
        if running is not None:
            assert running.first is not None
            first = running.first
            if isinstance(first, py.Var) and (first.name in self.late_names or self.is_spent(first.name, loop)):
                self.names[running.variable.name] = self.names[first.name]
            else:
                self.name_running(running, "in_channels" if "in_channels" not in self.locals else "channels")
                self.set_running(running, first)
            self.late_names.add(running.variable.name)
        number = outside[start:]
        statement = py.For(*self.loop_head(loop))
        self.code.add(statement)
        after = running.after[0] if running is not None else None
        with self.code.within(statement.body) as body:
            named = self.name_result(loop, after) if after is not None else False
            empty = len(body)
            yield
            if len(body) == empty:
                outside[:] = [s for s in outside if s is not statement and s not in number]
            elif running is not None and not self.counted_within(loop, running):
                assert after is not None
                self.set_running(running, after)
            if named:
                assert after is not None
                self.locals.discard(self.aliases.pop(after))

    def is_spent(self, parameter: str, loop: Loop) -> bool:
        """Whether nothing from a loop on needs a parameter: the number that runs through it can bear its name then."""
        inside = list(leaves(loop.body, inside=True))
        everything = list(leaves(self.plan.entries, inside=True))
        later = everything[everything.index(inside[0]) :]
        needed = [e for leaf in later for e in self.plan.made[leaf].values()]
        needed += [e for leaf in everything for e in self.plan.made[leaf].values() if self.is_function(leaf)]
        needed += [e for found in self.plan.conditions.values() for e in found]
        for heading in self.plan.headings.values():
            needed += heading.values()
        mine = self.plan.headings[loop].running
        numbers = [*self.running.values()]
        needed += [e for r in numbers for e in (*([r.first] if r is not mine else []), *r.after) if e is not None]
        return not any(parameter in ex.variables(e) for e in needed)

    def is_function(self, leaf: Leaf) -> bool:
        """Whether it takes its numbers in `forward`."""
        return isinstance(self.plan.made[leaf].form, FunctionForm)

    @property
    def running(self) -> dict[str, Running]:
        """The numbers that change on the way, by their variables."""
        found = [h.running for h in self.plan.headings.values() if h.running is not None]
        found += [r for numbers in self.plan.running.values() for r in numbers]
        return {r.variable.name: r for r in found}

    def name_result(self, loop: Loop, after: py.Expr) -> bool:
        """A variable for the channels that come out of a round, where they take long to say."""
        values = [e for leaf in leaves(loop.body, inside=True) for e in self.plan.made[leaf].values()]
        if ex.size(after) > 3 and sum(e == after for e in values) > 1 and after not in self.aliases:
            self.aliases[after] = self.variable("out_channels", self.value(after))
            return True
        return False

    @contextmanager
    def comprehension(self, loop: Loop) -> Iterator[tuple[py.Expr, py.Expr]]:
        """The target and source of a comprehension; its variables have their names within it alone."""
        heading = self.plan.headings[loop]
        own = {v.name for v in heading.variables}
        outside, around = self.locals, self.enclosing
        needed = {self.names[n] for n in self.used_in(loop) - own if n in self.names}
        self.locals = {*needed, *around, *self.aliases.values(), *self.globals}
        before = set(self.locals)
        head = self.loop_head(loop)
        self.enclosing = around | (self.locals - before)
        yield head
        self.locals, self.enclosing = outside, around
        for name in own:
            self.names.pop(name, None)

    def counted_within(self, loop: Loop, running: Running) -> bool:
        """Whether a loop inside leaves the number as it is to be."""
        for inner in loops(loop.body):
            other = self.plan.headings[inner].running
            if other is not None and other.used and other.after == running.after and min(inner.counts) > 0:
                return self.names[other.variable.name] == self.names[running.variable.name]
        return False

    def loop_head(self, loop: Loop) -> tuple[py.Expr, py.Expr]:
        """The target and source of a loop; its variables get names."""
        heading = self.plan.headings[loop]
        used = self.used_in(loop)
        own = heading.variables
        for variable in own:
            if variable.name in used:
                self.name_variable(variable, "i" if variable is heading.index else variable.name.split("@")[0])
        return loop_head(heading, {v.name: self.names[v.name] for v in own if v.name in used}, self.value)

    def used_in(self, loop: Loop) -> set[str]:
        """The variables that the members in a loop take, and the numbers that run through it."""
        found = [*heads_within(self.plan, loop)]
        for inner in [loop, *loops(loop.body)]:
            running = self.plan.headings[inner].running
            if running is not None and running.used:
                numbers = [*running.after, running.first if inner is not loop else None]
                found += [e for e in numbers if e is not None]
        for leaf in leaves(loop.body, inside=True):
            found += self.plan.made[leaf].values()
            if not is_shared(self.plan, leaf):
                found += [piece for piece in self.plan.made[leaf].name if not isinstance(piece, str)]
        return {name for expr in found for name in ex.variables(expr)}

    def name_variable(self, variable: py.Var, base: str) -> None:
        if variable.name in self.names:
            return
        if base == "i":
            name = next((n for n in "ijklmn" if n not in self.locals), None) or unique("i", self.locals)
        else:
            name = unique(identifier(base), self.locals)
        self.names[variable.name] = name
        self.locals.add(name)

    def name_running(self, running: Running, name: str) -> None:
        found = unique(name, self.locals)
        self.locals.add(found)
        self.late.add(found)
        self.names[running.variable.name] = found

    def is_of_loop(self, name: str) -> bool:
        """Whether a variable is that of a loop, and no number that runs through the class."""
        return "@" in name and name not in {r.variable.name for found in self.plan.running.values() for r in found}

    def is_of_round(self, expr: py.Expr) -> bool:
        """Whether it differs from round to round of a loop, so that `forward` asks it anew."""
        return any(map(self.is_of_loop, ex.variables(expr)))

    def label(self, label: Sequence[str | py.Expr]) -> py.Expr:
        return label_of(label, self.names)


def as_text(number: py.Expr) -> py.Expr:
    """A number that hangs on conditions, as text."""
    match number:
        case py.If(condition, then, otherwise):
            return py.If(condition, as_text(then), as_text(otherwise))
        case py.Const(value):
            return py.Const(str(value))
        case _:
            return call("str", number)


def label_of(label: Sequence[str | py.Expr], names: Mapping[str, str | py.Expr]) -> py.Expr:
    """A path as a string, or an f-string where a loop or a parameter numbers it."""
    if all(isinstance(p, str) for p in label):
        return py.Const("".join(p for p in label if isinstance(p, str)))
    if len(label) == 1 and not isinstance(label[0], str):
        return ex.named(as_text(label[0]), names)
    return py.Format(tuple(p if isinstance(p, str) else ex.named(p, names) for p in label))


def loop_head(
    heading: Heading, names: Mapping[str, str], value: Callable[[py.Expr], py.Expr]
) -> tuple[py.Expr, py.Expr]:
    """The target and source of a loop: `i` and `range(3)`. `names` has the variables that the loop's body uses."""
    columns = [(py.Var(names[v.name]), value(over)) for v, over in heading.columns if v.name in names]
    own = [py.Var(names.get(v.name, "_")) for v in heading.names]
    index = py.Var(names[heading.index.name]) if heading.index.name in names else None
    match heading.over:
        case py.Apply("enumerate", (over,)) if columns and len(own) == 2 and heading.names[0].name in names:
            target = py.Row((own[0], py.Tuple((own[1], *(variable for variable, _ in columns)))))
            return target, call("enumerate", call("zip", value(over), *(source for _, source in columns)))
    targets: list[py.Expr] = [variable for variable, _ in columns]
    sources = [source for _, source in columns]
    if any(v.name in names for v in heading.names):
        assert heading.over is not None
        alone = index is None and not columns
        first = own[0] if len(own) == 1 else py.Row(tuple(own)) if alone else py.Tuple(tuple(own))
        targets, sources = [first, *targets], [value(heading.over), *sources]
    if not targets:
        bounds = heading.bounds() if index is not None else [heading.count]
        return index or py.Var("_"), call("range", *map(value, bounds))
    source = sources[0] if len(sources) == 1 else call("zip", *sources)
    if index is None:
        return targets[0] if len(targets) == 1 else py.Row(tuple(targets)), source
    start = [py.Const(heading.start)] if heading.start else []
    item = targets[0] if len(targets) == 1 else py.Tuple(tuple(targets))
    return py.Row((index, item)), call("enumerate", source, *start)
