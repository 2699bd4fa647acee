"""What the classes of a generated file share, and the lines of a constructor: statements, loops and their variables."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import count

from archdsl.analysis.overwriting import Overwriting
from archdsl.backends.torch_source import expressions as ex
from archdsl.backends.torch_source import layout
from archdsl.backends.torch_source.checks import SizeCheck
from archdsl.backends.torch_source.expressions import Expr, Var, quoted
from archdsl.backends.torch_source.flow import Value
from archdsl.backends.torch_source.fold import Leaf, Loop, choices, leaves, loops
from archdsl.backends.torch_source.names import RESERVED, identifier, unique
from archdsl.backends.torch_source.plainness import Plainness
from archdsl.backends.torch_source.plan import Made, Plan, Running, is_labelled
from archdsl.backends.torch_source.starts import Way
from archdsl.backends.torch_source.text import Written, formatted, loop_header
from archdsl.graph import Graph
from archdsl.ops.base import FunctionForm, ModuleForm
from archdsl.transform.recompute import Recompute


@dataclass(slots=True, eq=False)
class File:
    """What the whole file shares: its imports, helpers, and the names of its classes."""

    graph: Graph
    overwriting: Overwriting
    recompute: Recompute
    sizes: Callable[[Value], str]
    checks: list[SizeCheck]
    plainness: Plainness
    imports: set[str] = field(default_factory=set)
    helpers: dict[str, str] = field(default_factory=dict)
    names: dict[Plan, str] = field(default_factory=dict)
    output_class: str = ""
    globals: frozenset[str] = RESERVED
    """What no variable may be called: the classes and helpers of the file."""
    factories: dict[Plan, bool] = field(default_factory=dict)
    """Whether a class takes device= and dtype=."""
    alike: dict[str, Way] = field(default_factory=dict)
    """The types of which all modules start alike, with how: the model sees to it."""

    def helper(self, source: str) -> None:
        """Takes the definitions of a helper, each once for the file."""
        for definition in source.strip("\n").split("\n\n\n"):
            self.helpers[definition] = definition


@dataclass(slots=True, eq=False)
class Writer:
    """Writes statements of a constructor, and names its variables."""

    file: File
    plan: Plan
    is_model: bool
    factory: bool = False
    """Whether the class takes device= and dtype=."""
    names: dict[str, str] = field(default_factory=dict)
    """What a parameter or a variable of a loop is called."""
    locals: set[str] = field(default_factory=set)
    """All names of variables."""
    aliases: dict[Expr, str] = field(default_factory=dict)
    """Expressions that have a variable of their own."""
    late: set[str] = field(default_factory=set)
    """Variables that change on the way."""
    late_names: set[str] = field(default_factory=set)
    lines: list[str] = field(default_factory=list)
    depth: int = 8
    before_block: int = 0
    """Where in the lines the outermost open block begins."""
    blocks: list[int] = field(default_factory=list)
    numbers: Iterator[int] = field(default_factory=count)
    moved: int = 0
    """How many lines were put before an open block."""
    of_round: dict[Loop, Expr] = field(default_factory=dict)
    """Expressions that have a variable within a loop."""
    enclosing: set[str] = field(default_factory=set)
    """The variables of the comprehensions around."""

    def line(self, text: str) -> None:
        self.lines += layout.statement(text, self.depth)

    def head(self, text: str) -> None:
        if self.depth == 8 and not text.startswith("el"):
            self.before_block = len(self.lines)
        self.blocks = [*self.open_blocks, next(self.numbers)]
        self.lines += layout.header(text, self.depth)
        self.depth += 4

    @property
    def open_blocks(self) -> list[int]:
        """The loops and branches around the next line, each by a number of its own."""
        return self.blocks[: (self.depth - 8) // 4]

    def text(self, expr: Expr) -> str:
        return ex.write(expr, self.names, self.aliases)

    def label_text(self, label: Sequence[str | Expr], names: Mapping[str, str] | None = None) -> str:
        """A path as a string, or an f-string where a loop or a parameter numbers it."""
        if all(isinstance(p, str) for p in label):
            return quoted("".join(p for p in label if isinstance(p, str)))
        write = self.names if names is None else names
        if len(label) == 1 and not isinstance(label[0], str):
            return f"str({ex.write(label[0], write)})"
        parts = [p if isinstance(p, str) else Written(ex.write(p, write)) for p in label]
        return formatted(parts)

    # ------------------------------------------------------------ loops

    def enter(self, loop: Loop) -> None:
        """The head of a loop of the constructor, and before it the number that runs through it."""
        running = self.plan.headings[loop].running
        if running is not None and running.used:
            assert running.first is not None
            first = running.first
            if isinstance(first, Var) and (first.name in self.late_names or self.is_spent(first.name, loop)):
                self.names[running.variable.name] = self.names[first.name]
            else:
                self.name_running(running, "in_channels" if "in_channels" not in self.locals else "channels")
                self.line(f"{self.names[running.variable.name]} = {self.text(first)}")
            self.late_names.add(running.variable.name)
        self.head(f"for {self.loop_head(loop)}:")
        if running is not None and running.used and running.after[0] is not None:
            self.name_result(loop, running.after[0])

    def is_spent(self, parameter: str, loop: Loop) -> bool:
        """Whether nothing from a loop on needs a parameter: the number that runs through it can bear its name then."""
        inside = list(leaves(loop.body, inside=True))
        everything = list(leaves(self.plan.entries, inside=True))
        later = everything[everything.index(inside[0]) :]
        needed = [e for leaf in later for e in self.plan.made[leaf].values()]
        needed += [e for leaf in everything for e in self.plan.made[leaf].values() if self.is_function(leaf)]
        needed += [e for found in self.plan.conditions.values() for e in found]
        for heading in self.plan.headings.values():
            needed += [e for e in (heading.count, heading.over, *[e for _, e in heading.columns]) if e is not None]
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

    def name_result(self, loop: Loop, after: Expr) -> None:
        """A variable for the channels that come out of a round, where they take long to say."""
        values = [e for leaf in leaves(loop.body, inside=True) for e in self.plan.made[leaf].values()]
        if ex.size(after) > 3 and sum(e == after for e in values) > 1 and after not in self.aliases:
            name = unique("out_channels", self.locals)
            self.locals.add(name)
            self.line(f"{name} = {self.text(after)}")
            self.aliases[after] = name
            self.of_round[loop] = after

    def leave(self, loop: Loop) -> None:
        running = self.plan.headings[loop].running
        if running is not None and running.used and not self.counted_within(loop, running):
            assert running.after[0] is not None
            self.line(f"{self.names[running.variable.name]} = {self.text(running.after[0])}")
        if loop in self.of_round:
            self.locals.discard(self.aliases.pop(self.of_round[loop]))
        self.depth -= 4

    @contextmanager
    def comprehension(self, loop: Loop) -> Iterator[str]:
        """What stands behind `for` in a comprehension; its variables have their names within it alone."""
        heading = self.plan.headings[loop]
        own = {v.name for v in (heading.index, *heading.names, *[v for v, _ in heading.columns])}
        outside, around = self.locals, self.enclosing
        needed = {self.names[n] for n in self.used_in(loop) - own if n in self.names}
        self.locals = {*needed, *around, *self.aliases.values(), *self.file.globals}
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

    def loop_head(self, loop: Loop) -> str:
        """What stands behind `for`; the loop's variables get names."""
        heading = self.plan.headings[loop]
        used = self.used_in(loop)
        own = [heading.index, *heading.names, *[v for v, _ in heading.columns]]
        for variable in own:
            if variable.name in used:
                self.name_variable(variable, "i" if variable is heading.index else variable.name.split("@")[0])
        return loop_header(heading, {v.name: self.names[v.name] for v in own if v.name in used}, self.text)

    def used_in(self, loop: Loop) -> set[str]:
        """The variables that the members in a loop take, and the numbers that run through it."""
        found: set[str] = set()
        for inner in [loop, *loops(loop.body)]:
            running = self.plan.headings[inner].running
            if running is not None and running.used:
                numbers = [*running.after, running.first if inner is not loop else None]
                found.update(n for e in numbers if e is not None for n in ex.variables(e))
        for leaf in leaves(loop.body, inside=True):
            made = self.plan.made[leaf]
            for expr in made.values():
                found.update(ex.variables(expr))
            for piece in made.name:
                if not isinstance(piece, str) and not self.is_shared(leaf):
                    found.update(ex.variables(piece))
        for choice in choices(loop.body):
            for condition in self.plan.conditions[choice]:
                found.update(ex.variables(condition))
        for inner in loops(loop.body):
            heading = self.plan.headings[inner]
            for expr in (
                heading.count,
                *([heading.over] if heading.over is not None else []),
                *[e for _, e in heading.columns],
            ):
                found.update(ex.variables(expr))
        return found

    def name_variable(self, variable: Var, base: str) -> None:
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

    @property
    def running_names(self) -> set[str]:
        return {r.variable.name for found in self.plan.running.values() for r in found}

    def is_shared(self, leaf: Leaf) -> bool:
        """Whether the member may have any name, and be one with others like it."""
        made = self.plan.made[leaf]
        if not made.name:
            return True
        if self.plan.flow is None and leaf.group.in_loop:
            return False
        return not (is_labelled(leaf.steps[0]) or weighty(made) or self.in_round(leaf))

    def in_round(self, leaf: Leaf) -> bool:
        """Whether a member differs from round to round of a loop."""
        used = {n for e in self.plan.made[leaf].values() for n in ex.variables(e)}
        return any("@" in name for name in used)


def weighty(made: Made) -> bool:
    form = made.form
    return not isinstance(form, ModuleForm) or form.factory
