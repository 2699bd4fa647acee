"""The constructor of a generated class: its members, one way or another under the names that the state_dict has."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from archdsl.backends.torch_source import expressions as ex
from archdsl.backends.torch_source import layout
from archdsl.backends.torch_source.cells import Cell
from archdsl.backends.torch_source.checks import SizeCheck
from archdsl.backends.torch_source.expressions import Const, Expr, Var, literal, quoted
from archdsl.backends.torch_source.flow import Call, Decision, Value, calls
from archdsl.backends.torch_source.fold import Choice, Entry, Leaf, Loop, choices, leaves, loops
from archdsl.backends.torch_source.inplace import InPlace
from archdsl.backends.torch_source.names import identifier, is_attribute, is_owned, unique
from archdsl.backends.torch_source.plan import Made, Plan, Running, is_labelled
from archdsl.backends.torch_source.text import FILLED, MEMBER, joined, lists, loop_header, split_dots, type_name
from archdsl.graph import Graph, Node
from archdsl.ops.base import FunctionForm, ModuleForm, ParameterForm


@dataclass(slots=True, eq=False)
class File:
    """What the whole file shares: its imports, helpers, and the names of its classes."""

    graph: Graph
    inplace: InPlace
    sizes: Callable[[Value], str]
    checks: list[SizeCheck]
    imports: set[str] = field(default_factory=set)
    helpers: dict[str, str] = field(default_factory=dict)
    names: dict[Plan, str] = field(default_factory=dict)
    output_class: str = ""
    factories: dict[Plan, bool] = field(default_factory=dict)
    """Whether a class takes device= and dtype=."""

    def helper(self, source: str) -> None:
        """Takes the definitions of a helper, each once for the file."""
        for definition in source.strip("\n").split("\n\n\n"):
            self.helpers[definition] = definition


@dataclass(slots=True, eq=False)
class Constructor:
    """Writes the statements of a constructor."""

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
    taken: set[str] = field(default_factory=set)
    """Attributes of the class."""
    attributes: dict[Leaf, str] = field(default_factory=dict)
    assigned: dict[str, str] = field(default_factory=dict)
    """The class of what an attribute was set to."""
    shared: dict[str, str] = field(default_factory=dict)
    """Attributes of modules without weights, by what they are."""
    by_path: set[Leaf] = field(default_factory=set)
    """Members that are no attributes."""
    holders: dict[str, str] = field(default_factory=dict)
    """Modules that members with dots in their names stand in, by their path."""
    stored: dict[str, str] = field(default_factory=dict)
    """Attributes that hold a number, with what they are set to."""
    flags: dict[Choice, list[str]] = field(default_factory=dict)
    """The attribute that each branch of a condition hangs on."""
    optional: set[Choice] = field(default_factory=set)
    """Conditions that an nn.Identity stands for."""
    lines: list[str] = field(default_factory=list)
    depth: int = 8
    before_block: int = 0
    """Where in the lines the outermost open block begins."""
    moved: int = 0
    """How many lines were put before an open block."""

    def run(self) -> None:
        """The statements, but for what `forward` has stored."""
        flow = self.plan.flow
        if flow is None:
            self.sequence()
            return
        for action in calls(flow.actions):
            if isinstance(action, Call) and action.optional is not None:
                self.optional.add(action.optional)
            elif isinstance(action, Decision):
                self.flag(action.choice)
        self.line("super().__init__()")
        self.model_factory()
        self.name_lets()
        self.start = len(self.lines)
        self.make_holders()
        self.construct(self.plan.entries)

    start: int = 0
    """Where in the lines the members begin."""

    def store(self) -> None:
        """The statements that set what `forward` needs of the parameters."""
        late = {n: t for n, t in self.stored.items() if self.late.intersection(re.findall(r"\w+", t))}
        early = [f"self.{name} = {text}" for name, text in self.stored.items() if name not in late]
        self.lines[self.start : self.start] = [line for text in early for line in layout.statement(text, 8)]
        for name, text in late.items():
            self.line(f"self.{name} = {text}")

    # ------------------------------------------------------------ the class

    def name_parameters(self) -> None:
        classes = set(self.file.names.values())
        for parameter in self.plan.parameters:
            name = unique(identifier(parameter.name), self.locals | classes)
            self.names[parameter.name] = name
            self.locals.add(name)

    def collect_labels(self, entries: Sequence[Entry]) -> None:
        """Takes the attribute names that the members' paths demand, before any other attribute is named."""
        for entry in entries:
            match entry:
                case Leaf():
                    label = self.plan.made[entry].name
                    if label and isinstance(label[0], str):
                        self.taken.add(label[0].split(".")[0])
                case Loop():
                    self.collect_labels(entry.body)
                case Choice():
                    for branch in entry.branches:
                        self.collect_labels(branch.body)

    def needs_factory(self) -> bool:
        return any(self.takes_factory(made) for made in self.plan.made.values())

    def takes_factory(self, made: Made) -> bool:
        if made.plan is not None:
            return made.plan is not self.plan and self.file.factories[made.plan]
        return isinstance(made.form, ParameterForm) or (isinstance(made.form, ModuleForm) and made.form.factory)

    def model_factory(self) -> None:
        if self.is_model and self.needs_factory():
            self.file.imports.add("Factory")
            self.line('kw: Factory = {"device": device, "dtype": dtype}')

    # ------------------------------------------------------------ lines

    def line(self, text: str) -> None:
        self.lines += layout.statement(text, self.depth)

    def head(self, text: str) -> None:
        if self.depth == 8 and not text.startswith("el"):
            self.before_block = len(self.lines)
        self.lines += layout.header(text, self.depth)
        self.depth += 4

    def text(self, expr: Expr) -> str:
        return ex.write(expr, self.names, self.aliases)

    # ------------------------------------------------------------ statements

    def name_lets(self) -> None:
        """A variable for each value that the spec names and the class needs more than once."""
        plan = self.plan
        used = [e for m in plan.made.values() for _, e in m.arguments]
        used += [e for found in plan.conditions.values() for e in found]
        used += [
            e for found in plan.running.values() for r in found if r.used for e in (r.first, *r.after) if e is not None
        ]
        counts: Counter[ex.Expr] = Counter(
            part for expr in used for part in ex.parts(expr) if not isinstance(part, Const | Var)
        )
        for name, expr in plan.lets.items():
            if counts[expr] > 1 and expr not in self.aliases and all(v in self.names for v in ex.variables(expr)):
                variable = unique(identifier(name), self.locals)
                self.line(f"{variable} = {self.text(expr)}")
                self.locals.add(variable)
                self.aliases[expr] = variable

    def construct(self, entries: Sequence[Entry]) -> None:
        """The members of a class with a `forward`, or of an nn.Sequential whose members have names."""
        for entry in entries:
            match entry:
                case Leaf():
                    self.member(entry, None)
                case Loop():
                    if any(self.has_member(leaf) for leaf in leaves(entry.body)):
                        moved, start = self.moved, len(self.lines)
                        self.enter(entry)
                        head = len(self.lines) + moved
                        self.construct(entry.body)
                        if len(self.lines) == head + self.moved - 2 * moved:
                            del self.lines[start + self.moved - moved :]
                            self.depth -= 4
                        else:
                            self.leave(entry)
                    else:
                        self.construct(entry.body)
                case Choice():
                    self.construct_choice(entry)

    def enter(self, loop: Loop) -> None:
        """The head of a loop of the constructor, and before it the number that runs through it."""
        running = self.plan.headings[loop].running
        if running is not None and running.used:
            assert running.first is not None
            first = running.first
            if isinstance(first, Var) and first.name in self.late_names:
                self.names[running.variable.name] = self.names[first.name]
            else:
                self.name_running(running, "in_channels")
                self.line(f"{self.names[running.variable.name]} = {self.text(first)}")
            self.late_names.add(running.variable.name)
        self.head(f"for {self.loop_head(loop)}:")

    def leave(self, loop: Loop) -> None:
        running = self.plan.headings[loop].running
        if running is not None and running.used and not self.counted_within(loop, running):
            assert running.after[0] is not None
            self.line(f"{self.names[running.variable.name]} = {self.text(running.after[0])}")
        self.depth -= 4

    def counted_within(self, loop: Loop, running: Running) -> bool:
        """Whether a loop inside leaves the number as it is to be."""
        for inner in loops(loop.body):
            other = self.plan.headings[inner].running
            if other is not None and other.used and other.after == running.after and min(inner.counts) > 0:
                return self.names[other.variable.name] == self.names[running.variable.name]
        return False

    def name_running(self, running: Running, name: str) -> None:
        found = unique(name, self.locals)
        self.locals.add(found)
        self.late.add(found)
        self.names[running.variable.name] = found

    def construct_choice(self, choice: Choice) -> None:
        optional = choice in self.optional
        if optional:
            leaf = choice.branches[0].body[0]
            assert isinstance(leaf, Leaf)
            self.member(leaf, self.text(self.plan.conditions[choice][0]))
            return
        conditions = self.plan.conditions[choice]
        flags = self.flags.get(choice)
        running = [r for r in self.plan.running.get(choice, ()) if r.used]
        for number in running:
            self.name_running(number, "channels")
            if number.first is not None:
                self.line(f"{self.names[number.variable.name]} = {self.text(number.first)}")
        filled = 0
        blocks: list[tuple[int, int]] = []
        for place, (branch, condition) in enumerate(zip(choice.branches, conditions, strict=True)):
            test = self.text(condition)
            if flags is not None and flags[place] and not self.late.intersection(re.findall(r"\w+", test)):
                test = flags[place]
            blocks.append((len(self.lines), self.moved))
            self.head("else:" if condition == Const(True) and place else f"{'elif' if place else 'if'} {test}:")
            start, moved = len(self.lines), self.moved
            self.construct(branch.body)
            for number in running:
                after = number.after[place]
                if after is not None:
                    self.line(f"{self.names[number.variable.name]} = {self.text(after)}")
            if len(self.lines) == start + self.moved - moved:
                self.line("pass")
            else:
                filled = place + 1
            self.depth -= 4
        if filled < len(blocks):
            start, moved = blocks[filled]
            del self.lines[start + self.moved - moved :]

    def flag(self, choice: Choice) -> None:
        flags: list[str] = []
        for number, condition in enumerate(self.plan.conditions[choice]):
            if isinstance(condition, Const):
                flags.append("")
                continue
            name = unique(flag_name(choice, number), self.taken)
            self.taken.add(name)
            self.stored[name] = self.text(condition)
            flags.append(f"self.{name}")
        self.flags[choice] = flags

    # ------------------------------------------------------------ members

    def has_member(self, leaf: Leaf) -> bool:
        made = self.plan.made[leaf]
        return not isinstance(made.form, FunctionForm) and self.functional(leaf) is None

    def functional(self, leaf: Leaf) -> str | None:
        """The method of a tensor that stands for a module in `forward`, where that is the custom."""
        made = self.plan.made[leaf]
        plain = isinstance(made.form, ModuleForm) and made.form.constructor == "nn.Flatten" and not made.arguments
        return "{0}.flatten(1)" if plain and self.plan.flow is not None and not is_labelled(leaf.steps[0]) else None

    def member(self, leaf: Leaf, condition: str | None) -> None:
        """One member: an attribute, or, where its name is none, a child of that name."""
        made = self.plan.made[leaf]
        if not self.has_member(leaf):
            return
        if isinstance(made.form, ParameterForm):
            self.weight(leaf, made)
            return
        text = self.module(leaf)
        if condition is not None:
            text = f"{text} if {condition} else nn.Identity()"
        label = made.name
        if self.is_shared(leaf):
            self.share(leaf, text)
            return
        if len(label) == 1 and isinstance(label[0], str) and is_attribute(label[0]):
            if label[0] in self.assigned and self.assigned[label[0]] != type_name(text):
                self.line(f"self.add_module({quoted(label[0])}, {text})")
            else:
                self.assigned[label[0]] = type_name(text)
                self.line(f"self.{label[0]} = {text}")
            self.attributes[leaf] = f"self.{label[0]}"
        else:
            self.child(leaf, label, text)

    def share(self, leaf: Leaf, text: str) -> None:
        """A member under any name: one for all that are alike, but in an nn.Sequential, which has an order."""
        if self.plan.flow is None or text not in self.shared:
            self.shared[text] = unique(attribute_base(leaf), self.taken)
            self.taken.add(self.shared[text])
            statement = f"self.{self.shared[text]} = {text}"
            if self.plan.flow is None or self.depth == 8:
                self.line(statement)
            else:
                added = layout.statement(statement, 8)
                self.lines[self.before_block : self.before_block] = added
                self.before_block += len(added)
                self.moved += len(added)
        self.attributes[leaf] = f"self.{self.shared[text]}"

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
        used = {n for _, e in self.plan.made[leaf].arguments for n in ex.variables(e)}
        return any("@" in name for name in used)

    def child(self, leaf: Leaf, label: list[str | Expr], text: str) -> None:
        pieces = split_dots(label)
        self.by_path.add(leaf)
        self.add_child(self.holder(pieces[:-1]), pieces[-1], text)
        self.attributes[leaf] = self.access(label, self.names)

    def holder(self, pieces: Sequence[Sequence[str | Expr]]) -> str:
        """The module that members with dots in their names stand in; made where it is not there yet."""
        owner = "self"
        for i, piece in enumerate(pieces, 1):
            path = self.label_text(joined(pieces[:i]))
            if path not in self.holders:
                name = piece[0] if len(piece) == 1 else None
                if owner.startswith("self") and isinstance(name, str) and is_attribute(name):
                    self.holders[path] = f"{owner}.{name}"
                    self.line(f"{owner}.{name} = nn.Module()")
                else:
                    self.holders[path] = unique(identifier("holder"), self.locals)
                    self.locals.add(self.holders[path])
                    self.line(f"{self.holders[path]} = nn.Module()")
                    self.add_child(owner, list(piece), self.holders[path])
            owner = self.holders[path]
        return owner

    def make_holders(self) -> None:
        """Makes the holders that all rounds of a loop share before it."""
        for made in self.plan.made.values():
            pieces = split_dots(made.name)
            for i in range(1, len(pieces)):
                if all(isinstance(p, str) for piece in pieces[:i] for p in piece):
                    self.holder(pieces[:i])

    def add_child(self, owner: str, name: list[str | Expr], text: str) -> None:
        if len(name) == 1 and isinstance(name[0], str) and is_owned(name[0]):
            self.line(f"{owner}._modules[{quoted(name[0])}] = {text}")
        else:
            self.line(f"{owner}.add_module({self.label_text(name)}, {text})")

    def access(self, label: Sequence[str | Expr], names: Mapping[str, str], is_parameter: bool = False) -> str:
        """A member whose name is no attribute."""
        pieces = split_dots(label)
        if not any(len(p) == 1 and isinstance(p[0], str) and is_owned(p[0]) for p in pieces):
            return f"self.get_{'parameter' if is_parameter else 'submodule'}({self.label_text(label, names)})"
        path = pieces[:-1] if is_parameter else pieces
        owner = "self"
        if path:
            self.file.helper(MEMBER)
            owner = f"member(self, {', '.join(self.label_text(p, names) for p in path)})"
        if not is_parameter:
            return owner
        return f"dict({owner}.named_parameters(recurse=False))[{self.label_text(pieces[-1], names)}]"

    def label_text(self, label: Sequence[str | Expr], names: Mapping[str, str] | None = None) -> str:
        """A path as a string, or an f-string where a loop or a parameter numbers it."""
        if all(isinstance(p, str) for p in label):
            return quoted("".join(p for p in label if isinstance(p, str)))
        write = self.names if names is None else names
        if len(label) == 1 and not isinstance(label[0], str):
            return f"str({ex.write(label[0], write)})"
        parts = [p if isinstance(p, str) else "{" + ex.write(p, write) + "}" for p in label]
        return f'f"{"".join(parts)}"'

    def weight(self, leaf: Leaf, made: Made) -> None:
        assert isinstance(made.form, ParameterForm)
        given = dict(made.arguments)
        size, fill = self.text(given["size"]), self.text(given["fill"])
        self.file.imports.add("torch")
        made_of = {"1.0": f"torch.ones({size}, **kw)", "0.0": f"torch.zeros({size}, **kw)"}
        value = f"nn.Parameter({made_of.get(fill, f'torch.full(({size},), {fill}, **kw)')})"
        label = made.name
        if len(label) == 1 and isinstance(label[0], str) and is_attribute(label[0]):
            self.line(f"self.{label[0]} = {value}")
            self.attributes[leaf] = f"self.{label[0]}"
            return
        pieces = split_dots(label)
        owner = self.holder(pieces[:-1])
        self.by_path.add(leaf)
        name = pieces[-1]
        if len(name) == 1 and isinstance(name[0], str) and is_owned(name[0]):
            self.line(f"{owner}._parameters[{quoted(name[0])}] = {value}")
        else:
            self.line(f"{owner}.register_parameter({self.label_text(name)}, {value})")
        self.attributes[leaf] = self.access(label, self.names, True)

    # ------------------------------------------------------------ what stands for a member

    def module(self, leaf: Leaf) -> str:
        """The constructor call of a member."""
        made = self.plan.made[leaf]
        if leaf.inner is not None:
            return self.sequential(leaf)
        if made.plan is not None:
            return self.call_class(made)
        form = made.form
        assert isinstance(form, ModuleForm)
        if form.helper is not None:
            self.file.helper(form.helper)
        arguments = [self.text(e) if name is None else f"{name}={self.text(e)}" for name, e in made.arguments]
        if self.file.inplace.activation(leaf):
            arguments.append("inplace=True")
        if form.factory:
            arguments.append("**kw")
        text = f"{form.constructor}({', '.join(arguments)})"
        if form.fill or form.frozen:
            self.file.imports |= {"torch", "Any"}
            self.file.helper(FILLED)
            numbers = [f"{name}={literal(lists(value))}" for name, value in form.fill.items()]
            frozen = ["frozen=True"] if form.frozen else []
            text = f"filled({', '.join([text, *frozen, *numbers])})"
        return text

    def call_class(self, made: Made) -> str:
        assert made.plan is not None
        defaults = {p.name: p.default for p in made.plan.parameters}
        callee = {p.name: identifier(p.name) for p in made.plan.parameters} | self.file_names(made.plan)
        positional: list[str] = []
        named: list[str] = []
        for name, expr in made.arguments:
            default = defaults[name or ""]
            if default is None:
                positional.append(self.text(expr))
            elif not (isinstance(expr, Const) and ex.same(expr.value, default.value)):
                named.append(f"{callee[name or '']}={self.text(expr)}")
        if self.file.factories.get(made.plan, self.factory):
            named.append("**kw")
        return f"{self.file.names[made.plan]}({', '.join([*positional, *named])})"

    def file_names(self, plan: Plan) -> dict[str, str]:
        """What the parameters of a class are called in its constructor."""
        classes = set(self.file.names.values())
        found: dict[str, str] = {}
        for parameter in plan.parameters:
            found[parameter.name] = unique(identifier(parameter.name), {*found.values(), *classes})
        return found

    # ------------------------------------------------------------ sequences

    def sequential(self, leaf: Leaf) -> str:
        assert leaf.inner is not None
        cells = [s.member for s in leaf.steps if isinstance(s.member, Cell)]
        if all(c.positional for c in cells):
            return f"nn.Sequential({', '.join(self.items(leaf.inner))})"
        self.file.imports.add("OrderedDict")
        pairs: list[tuple[str, str]] = []
        taken = {s.name for s in cells[0].steps}
        for entry in leaf.inner:
            assert isinstance(entry, Leaf)
            made = self.plan.made[entry]
            name = "".join(p for p in made.name if isinstance(p, str))
            if not is_labelled(entry.steps[0]) and not weighty(made):
                name = unique(attribute_base(entry), taken)
            taken.add(name)
            pairs.append((name, self.module(entry)))
        if all(is_attribute(name) for name, _ in pairs):
            inner = ", ".join(f"{name}={text}" for name, text in pairs)
            return f"nn.Sequential(OrderedDict({inner}))"
        inner = ", ".join(f"({quoted(name)}, {text})" for name, text in pairs)
        return f"nn.Sequential(OrderedDict([{inner}]))"

    def sequence(self) -> None:
        """The constructor of a class that is an nn.Sequential."""
        if all(c.positional for c in self.plan.cells):
            self.model_factory()
            self.name_lets()
            items = self.items(self.plan.entries)
            self.line(f"super().__init__({', '.join(items)})")
            return
        self.line("super().__init__()")
        self.model_factory()
        self.name_lets()
        self.make_holders()
        self.construct(self.plan.entries)

    def items(self, entries: Sequence[Entry]) -> list[str]:
        """The arguments of nn.Sequential. What is no expression is gathered in a list by statements before."""
        if not all(map(self.is_item, entries)):
            return [f"*{self.gathered(entries)}"]
        found: list[str] = []
        for entry in entries:
            if isinstance(entry, Leaf):
                found.append(self.module(entry))
            else:
                assert isinstance(entry, Loop) and isinstance(entry.body[0], Leaf)
                head = self.loop_head(entry)
                found.append(f"*({self.module(entry.body[0])} for {head})")
        return found

    def is_item(self, entry: Entry) -> bool:
        """Whether it is an expression among the arguments of nn.Sequential."""
        if isinstance(entry, Loop):
            running = self.plan.headings[entry].running
            plain = running is None or not running.used
            return plain and len(entry.body) == 1 and isinstance(entry.body[0], Leaf)
        return isinstance(entry, Leaf)

    def gathered(self, entries: Sequence[Entry]) -> str:
        name = unique("layers", self.locals)
        self.locals.add(name)
        self.gather(entries, name, True)
        return name

    def gather(self, entries: Sequence[Entry], name: str, start: bool) -> None:
        run: list[Entry] = []
        for entry in [*entries, None]:
            if entry is not None and self.is_item(entry):
                run.append(entry)
                continue
            if run or start:
                items = self.items(run)
                if start:
                    self.line(f"{name}: list[nn.Module] = [{', '.join(items)}]")
                elif len(items) == 1 and not items[0].startswith("*"):
                    self.line(f"{name}.append({items[0]})")
                else:
                    self.line(f"{name} += [{', '.join(items)}]")
                start = False
                run = []
            if isinstance(entry, Loop):
                self.enter(entry)
                self.gather(entry.body, name, False)
                self.leave(entry)
            elif isinstance(entry, Choice):
                for number, (branch, condition) in enumerate(
                    zip(entry.branches, self.plan.conditions[entry], strict=True)
                ):
                    otherwise = condition == Const(True) and number > 0
                    self.head("else:" if otherwise else f"{'elif' if number else 'if'} {self.text(condition)}:")
                    self.gather(branch.body, name, False)
                    self.depth -= 4

    # ------------------------------------------------------------ loops

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
        """The variables that the members in a loop take."""
        found: set[str] = set()
        for leaf in leaves(loop.body, inside=True):
            made = self.plan.made[leaf]
            for _, expr in made.arguments:
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

    @property
    def running_names(self) -> set[str]:
        return {r.variable.name for found in self.plan.running.values() for r in found}


def weighty(made: Made) -> bool:
    form = made.form
    return not isinstance(form, ModuleForm) or form.factory


def attribute_base(leaf: Leaf) -> str:
    member = leaf.steps[0].member
    name = member.operation.name if isinstance(member, Node) else member.scope.name
    return name if is_attribute(name) else f"{identifier(name, 'part').strip('_')}_part"


def flag_name(choice: Choice, number: int) -> str:
    leaf = next(iter(leaves(choice.branches[number].body)))
    step = leaf.steps[0]
    if isinstance(step.member, Node) and step.member.call is None:
        return "with_skip"
    named = next((a.steps[0].name for a in leaves(choice.branches[number].body) if is_labelled(a.steps[0])), None)
    if named is None or not named.isidentifier():
        named = step.member.operation.name if isinstance(step.member, Node) else "more"
    return f"with_{identifier(named).strip('_')}"
