"""The text of the generated module: its classes with their constructors and `forward`."""

from __future__ import annotations

import re
import string
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from archdsl.backends.torch_source import expressions as ex
from archdsl.backends.torch_source import layout
from archdsl.backends.torch_source.cells import Cell, Step
from archdsl.backends.torch_source.checks import SizeCheck
from archdsl.backends.torch_source.expressions import Const, Expr, Var, literal, quoted
from archdsl.backends.torch_source.flow import Call, Decision, Rounds, Value
from archdsl.backends.torch_source.fold import Choice, Entry, Leaf, Loop
from archdsl.backends.torch_source.inplace import InPlace
from archdsl.backends.torch_source.names import RESERVED, camel, identifier, is_attribute, is_owned, unique
from archdsl.backends.torch_source.plan import Made, Parameter, Plan, Running, is_labelled
from archdsl.backends.torch_source.variables import Assign, Composer, Copy, Each, Layout, Statement, Training, When
from archdsl.graph import Graph, Node
from archdsl.ops.base import FunctionForm, ModuleForm, ParameterForm

FACTORY = '''class Factory(TypedDict, total=False):
    """Where the parameters of a module are made, and of which type."""

    device: torch.device | str | None
    dtype: torch.dtype | None'''

FILLED = '''def filled(module: nn.Module, frozen: bool = False, **numbers: list[Any]) -> nn.Module:
    """The module with parameters that start from given numbers, frozen ones for good."""
    for name, parameter in module.named_parameters():
        if name in numbers:
            parameter.data.copy_(torch.tensor(numbers[name]))
        parameter.requires_grad_(not (frozen and (name in numbers or not numbers)))
    return module'''


MEMBER = '''def member(module: nn.Module, *path: str) -> nn.Module:
    """A member whose name is also that of an attribute of every module."""
    for name in path:
        module = dict(module.named_children())[name]
    return module'''


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
class ClassWriter:
    """Writes one class."""

    file: File
    plan: Plan
    is_model: bool
    names: dict[str, str] = field(default_factory=dict)
    """What a parameter or loop variable is called in the constructor."""
    taken: set[str] = field(default_factory=set)
    """Attributes of the class."""
    locals: set[str] = field(default_factory=set)
    """Variables of the constructor."""
    shared: dict[str, str] = field(default_factory=dict)
    """Attributes of modules without weights, by what they are."""
    attributes: dict[Leaf, str] = field(default_factory=dict)
    stored: dict[str, str] = field(default_factory=dict)
    flags: dict[Choice, list[str]] = field(default_factory=dict)
    holders: dict[str, str] = field(default_factory=dict)
    factory: bool = False
    lines: list[str] = field(default_factory=list)
    depth: int = 8
    moved: int = 0
    """How many lines were put before an open block."""
    before_block: int = 0
    """Where in the lines the outermost block of the constructor begins."""
    by_path: set[Leaf] = field(default_factory=set)
    """Members that are no attributes."""
    aliases: dict[Expr, str] = field(default_factory=dict)
    """Expressions that have a variable of their own in the constructor."""
    late_names: set[str] = field(default_factory=set)
    late: set[str] = field(default_factory=set)
    """Variables of the constructor that change on the way."""

    # ------------------------------------------------------------ the class

    def run(self) -> list[str]:
        plan = self.plan
        self.name_parameters()
        self.collect_labels(plan.entries)
        base = "nn.Module" if plan.flow is not None else "nn.Sequential"
        self.factory = self.is_model or self.needs_factory()
        self.file.factories[plan] = self.factory
        if plan.flow is not None:
            forward = self.prepare_forward()
            self.line("super().__init__()")
            self.model_factory()
            self.name_lets()
            at = len(self.lines)
            self.make_holders()
            self.construct(plan.entries)
            body = forward()
            late = {n: t for n, t in self.stored.items() if self.late.intersection(re.findall(r"\w+", t))}
            early = [f"self.{name} = {text}" for name, text in self.stored.items() if name not in late]
            self.lines[at:at] = [line for text in early for line in layout.statement(text, 8)]
            for name, text in late.items():
                self.line(f"self.{name} = {text}")
        else:
            body = self.sequence_forward()
            self.sequence()
        lines = [f"class {self.file.names[plan]}({base}):"]
        if plan.doc:
            lines += layout.docstring(plan.doc, 4)
            lines += [""] if len(lines) > 1 else []
        plain = self.lines == ["        super().__init__()"] and not plan.parameters and not self.factory
        if not plain:
            lines += self.signature()
            lines += self.lines
        if body:
            lines += ([] if plain else [""]) + body
        return lines

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

    def signature(self) -> list[str]:
        parameters = ["self"]
        for p in sorted(self.plan.parameters, key=lambda p: p.default is not None):
            default = f" = {literal(p.default.value)}" if p.default is not None else ""
            parameters.append(f"{self.names[p.name]}: {self.type_of(p)}{default}")
        if self.is_model:
            parameters += ["device: torch.device | str | None = None", "dtype: torch.dtype | None = None"]
            self.file.imports.add("torch")
        elif self.factory:
            parameters.append("**kw: Unpack[Factory]")
            self.file.imports |= {"Unpack", "Factory"}
        return layout.header(f"def __init__({', '.join(parameters)}) -> None:", 4)

    def model_factory(self) -> None:
        if self.is_model and self.needs_factory():
            self.file.imports.add("Factory")
            self.line('kw: Factory = {"device": device, "dtype": dtype}')

    @staticmethod
    def type_of(parameter: Parameter) -> str:
        values = [*parameter.values, *([parameter.default.value] if parameter.default is not None else [])]
        return " | ".join(dict.fromkeys(type_text(v) for v in values))

    # ------------------------------------------------------------ statements of the constructor

    def line(self, text: str) -> None:
        self.lines += layout.statement(text, self.depth)

    def head(self, text: str) -> None:
        if self.depth == 8 and not text.startswith("el"):
            self.before_block = len(self.lines)
        self.lines += layout.header(text, self.depth)
        self.depth += 4

    def text(self, expr: Expr) -> str:
        return ex.write(expr, self.names, self.aliases)

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
                    if any(self.has_member(leaf) for leaf in _leaves(entry.body)):
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
        for inner in _loops(loop.body):
            other = self.plan.headings[inner].running
            if other is not None and other.used and other.after == running.after and min(inner.counts) > 0:
                return self.names[other.variable.name] == self.names[running.variable.name]
        return False

    def name_running(self, running: Running, name: str) -> None:
        found = unique(name, self.locals)
        self.locals.add(found)
        self.late.add(found)
        self.names[running.variable.name] = found

    def has_member(self, leaf: Leaf) -> bool:
        made = self.plan.made[leaf]
        return not isinstance(made.form, FunctionForm) and self.functional(leaf) is None

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

    optional: set[Choice] = field(default_factory=set)

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
            base = _attribute_base(leaf)
            if text not in self.shared or self.plan.flow is None:
                self.shared[text] = unique(base, self.taken)
                self.taken.add(self.shared[text])
                added = layout.statement(f"self.{self.shared[text]} = {text}", 8)
                at = len(self.lines) if self.depth == 8 else self.before_block  # others may share it
                self.lines[at:at] = added
                self.before_block += len(added)
                self.moved += len(added) if self.depth > 8 else 0
            self.attributes[leaf] = f"self.{self.shared[text]}"
            return
        if len(label) == 1 and isinstance(label[0], str) and is_attribute(label[0]):
            if label[0] in self.assigned and self.assigned[label[0]] != _type_name(text):
                self.line(f"self.add_module({quoted(label[0])}, {text})")
            else:
                self.assigned[label[0]] = _type_name(text)
                self.line(f"self.{label[0]} = {text}")
            self.attributes[leaf] = f"self.{label[0]}"
        else:
            self.child(leaf, label, text)

    def is_shared(self, leaf: Leaf) -> bool:
        """Whether the member may have any name, and be one with others like it."""
        made = self.plan.made[leaf]
        return not made.name or not (is_labelled(leaf.steps[0]) or _weighty(made) or self.in_round(leaf))

    def in_round(self, leaf: Leaf) -> bool:
        """Whether a member differs from round to round of a loop."""
        used = {n for _, e in self.plan.made[leaf].arguments for n in ex.variables(e)}
        return any("@" in name for name in used)

    assigned: dict[str, str] = field(default_factory=dict)

    def child(self, leaf: Leaf, label: list[str | Expr], text: str) -> None:
        pieces = split_dots(label)
        self.by_path.add(leaf)
        self.add_child(self.holder(pieces[:-1]), pieces[-1], text)
        self.attributes[leaf] = self.access(label, self.names)

    def holder(self, pieces: Sequence[Sequence[str | Expr]]) -> str:
        """The module that members with dots in their names stand in; made where it is not there yet."""
        owner = "self"
        for i, piece in enumerate(pieces, 1):
            path = self.label_text(_joined(pieces[:i]))
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

    def access(self, label: Sequence[str | Expr], names: Mapping[str, str]) -> str:
        """A member whose name is no attribute."""
        pieces = split_dots(label)
        if any(len(p) == 1 and isinstance(p[0], str) and is_owned(p[0]) for p in pieces):
            self.file.helper(MEMBER)
            return f"member(self, {', '.join(self.label_text(p, names) for p in pieces)})"
        return f"self.get_submodule({self.label_text(label, names)})"

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
            self.attributes[leaf] = f"dict(self.named_parameters())[{self.label_text(label)}]"
        else:
            self.line(f"{owner}.register_parameter({self.label_text(name)}, {value})")
            self.attributes[leaf] = f"self.get_parameter({self.label_text(label)})"

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
            numbers = [f"{name}={literal(_lists(value))}" for name, value in form.fill.items()]
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
            if not is_labelled(entry.steps[0]) and not _weighty(made):
                name = unique(_attribute_base(entry), taken)
            taken.add(name)
            pairs.append((name, self.module(entry)))
        if all(is_attribute(name) for name, _ in pairs):
            inner = ", ".join(f"{name}={text}" for name, text in pairs)
            return f"nn.Sequential(OrderedDict({inner}))"
        inner = ", ".join(f"({quoted(name)}, {text})" for name, text in pairs)
        return f"nn.Sequential(OrderedDict([{inner}]))"

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

    def sequence_forward(self) -> list[str]:
        """The `forward` of a model that is an nn.Sequential, where it has to check its input."""
        checks = self.check_lines(["input"])
        if not checks:
            return []
        lines = ["    def forward(self, input: Tensor) -> Tensor:", *checks]
        return [*lines, "        for layer in self:", "            input = layer(input)", "        return input"]

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

    # ------------------------------------------------------------ loops

    def loop_head(self, loop: Loop) -> str:
        """`i in range(3)`: what stands behind `for`; its variables get names."""
        heading = self.plan.headings[loop]
        used = self.used_in(loop)
        names = [v for v in heading.names if v.name in used]
        columns = [(v, e) for v, e in heading.columns if v.name in used]
        indexed = heading.index.name in used
        if indexed:
            self.name_variable(heading.index, "i")
        for variable in names:
            self.name_variable(variable, variable.name.split("@")[0])
        for variable, _ in columns:
            self.name_variable(variable, variable.name.split("@")[0])
        if names and not columns:
            assert heading.over is not None
            targets = [self.names[v.name] if v in names else "_" for v in heading.names]
            over = self.text(heading.over)
            target = ", ".join(targets)
            if indexed:
                inner = f"({target})" if len(targets) > 1 else target
                return f"{self.names[heading.index.name]}, {inner} in enumerate({over})"
            return f"{target} in {over}"
        if names or columns:
            return self.table_head(loop, names, columns, indexed)
        index = self.names[heading.index.name] if indexed else "_"
        return f"{index} in range({self.text(heading.count)})"

    def table_head(self, loop: Loop, names: Sequence[Var], columns: Sequence[tuple[Var, Expr]], indexed: bool) -> str:
        heading = self.plan.headings[loop]
        targets: list[str] = []
        overs: list[str] = []
        if names:
            assert heading.over is not None
            inner = [self.names[v.name] if v in names else "_" for v in heading.names]
            targets.append(f"({', '.join(inner)})" if len(inner) > 1 else inner[0])
            overs.append(self.text(heading.over))
        for variable, over in columns:
            targets.append(self.names[variable.name])
            overs.append(self.text(over))
        target = targets[0] if len(targets) == 1 else ", ".join(targets)
        columns_text = overs[0] if len(overs) == 1 else f"zip({', '.join(overs)})"
        if indexed:
            inner_target = f"({target})" if len(targets) > 1 else target
            return f"{self.names[heading.index.name]}, {inner_target} in enumerate({columns_text})"
        return f"{target} in {columns_text}"

    def used_in(self, loop: Loop) -> set[str]:
        """The variables that the members in a loop take."""
        found: set[str] = set()
        for leaf in _leaves(loop.body, inside=True):
            made = self.plan.made[leaf]
            for _, expr in made.arguments:
                found.update(ex.variables(expr))
            for piece in made.name:
                if not isinstance(piece, str) and not self.is_shared(leaf):
                    found.update(ex.variables(piece))
        for choice in _choices(loop.body):
            for condition in self.plan.conditions[choice]:
                found.update(ex.variables(condition))
        for inner in _loops(loop.body):
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

    # ------------------------------------------------------------ forward

    def prepare_forward(self) -> Callable[[], list[str]]:
        """Names the flags that the constructor stores; the result writes `forward` once the members have names."""
        flow = self.plan.flow
        assert flow is not None
        for action in _calls(flow.actions):
            if isinstance(action, Call) and action.optional is not None:
                self.optional.add(action.optional)
            elif isinstance(action, Decision):
                self.flag(action.choice)
        return self.forward

    def flag(self, choice: Choice) -> None:
        flags: list[str] = []
        for number, condition in enumerate(self.plan.conditions[choice]):
            if isinstance(condition, Const):
                flags.append("")
                continue
            name = unique(_flag_name(choice, number), self.taken)
            self.taken.add(name)
            self.stored[name] = self.text(condition)
            flags.append(f"self.{name}")
        self.flags[choice] = flags

    def forward(self) -> list[str]:
        flow = self.plan.flow
        assert flow is not None
        names = self.input_names()
        reserved = frozenset({*RESERVED, *self.file.names.values()})
        composer = Composer(
            flow,
            _line,
            self.call_length,
            self.grown,
            self.variable_label,
            reserved,
            names,
            self.training_values(),
            self.output_names(),
        )
        composed = composer.run()
        signature = ", ".join(["self", *[f"{n}: Tensor" for n in names]])
        self.file.imports.add("Tensor")
        lines = layout.header(f"def forward({signature}) -> {self.result_type()}:", 4)
        return lines + self.check_lines(names) + ForwardWriter(self, composed, set(names)).run()

    def check_lines(self, names: Sequence[str]) -> list[str]:
        """The calls that check the sizes of the model's input."""
        if not self.is_model:
            return []
        calls = [f"{c.function}({quoted(c.size)}, {names[c.input]}.shape[{c.axis + 0}])" for c in self.file.checks]
        return [line for call in calls for line in layout.statement(call, 8)]

    def output_names(self) -> list[str | None]:
        """The names of the model's outputs, one for each value that flows out."""
        if not self.is_model or len(self.file.graph.outputs) < 2:
            return []
        by_tensor = {o.tensor: o.name for o in reversed(self.file.graph.outputs)}
        found: list[str | None] = []
        for tensor in self.plan.cells[0].outputs:
            name = by_tensor[tensor]
            found.append(identifier(name.strip("_")) if name is not None and name.strip("_") else None)
        return found

    def training_values(self) -> list[Value]:
        flow = self.plan.flow
        assert flow is not None
        if not self.is_model:
            return []
        always = {o.tensor for o in self.file.graph.outputs if not o.training}
        pairs = zip(self.plan.cells[0].outputs, flow.outputs, strict=True)
        return [value for tensor, value in pairs if tensor not in always]

    def result_type(self) -> str:
        flow = self.plan.flow
        assert flow is not None
        count = len(flow.outputs)
        if self.is_model and (count > 1 or len(self.file.graph.outputs) > 1):
            return self.file.output_class
        return "Tensor" if count == 1 else f"tuple[{', '.join(['Tensor'] * count)}]"

    def input_names(self) -> list[str]:
        cell = self.plan.cells[0]
        found: list[str] = []
        reserved = {*RESERVED, *self.file.names.values()}
        for name in cell.input_names:
            base = identifier(name) if name and (len(cell.input_names) > 1) else "x"
            found.append(unique(base, {*found, *reserved}))
        return found

    def variable_label(self, call: Call) -> str | None:
        step = call.leaf.steps[0]
        label = self.plan.made[call.leaf].name
        if not is_labelled(step) or len(label) != 1 or not isinstance(label[0], str):
            return None
        name = label[0]
        free = name.isidentifier() and name.isascii() and name not in RESERVED and not name.startswith("_")
        return name if free and name not in self.file.names.values() else None

    def functional(self, leaf: Leaf) -> str | None:
        """The method of a tensor that stands for a module in `forward`, where that is the custom."""
        made = self.plan.made[leaf]
        plain = isinstance(made.form, ModuleForm) and made.form.constructor == "nn.Flatten" and not made.arguments
        return "{0}.flatten(1)" if plain and self.plan.flow is not None and not is_labelled(leaf.steps[0]) else None

    def grown(self, call: Call) -> Value | None:
        return self.file.inplace.grown(call)

    def call_length(self, call: Call) -> int:
        return len(self.call_text(call, ["x"] * len(call.inputs)))

    def call_text(self, call: Call, operands: Sequence[str]) -> str:
        return self.call_parts(call, [(o, "atom") for o in operands])[0]

    def call_parts(self, call: Call, operands: Sequence[tuple[str, str]]) -> tuple[str, str]:
        """The call of a member or function, with the precedence of its text."""
        made = self.plan.made[call.leaf]
        form = made.form
        functional = self.functional(call.leaf)
        if functional is not None:
            return functional.format(_atom(operands[0])), "atom"
        if isinstance(form, FunctionForm):
            if form.helper is not None:
                self.file.helper(form.helper)
            values = {name or "": self.forward_text(e, name or "value") for name, e in made.arguments}
            if call.leaf.steps[0].sized:
                *operands, (sized, _) = operands
                values["size"] = f"{sized}.shape[2:]"
            return fill(form.template, operands, values), form.precedence
        if isinstance(form, ParameterForm):
            values = {"parameter": self.forward_access(call.leaf)}
            return fill(form.template, operands, values), form.precedence
        inside = ", ".join(text for text, _ in operands)
        return f"{self.forward_access(call.leaf)}({inside})", "atom"

    def forward_text(self, expr: Expr, name: str = "") -> str:
        """An expression in `forward`: parameters are attributes there, and what is made of them is one itself."""
        used = set(ex.variables(expr))
        if not used or isinstance(expr, Var) or not name or any(self.is_of_loop(v) for v in used):
            return ex.write(expr, self.forward_names(expr))
        text = self.text(expr)
        for attribute, stored in self.stored.items():
            if stored == text:
                return f"self.{attribute}"
        attribute = unique(name, self.taken)
        self.taken.add(attribute)
        self.stored[attribute] = text
        return f"self.{attribute}"

    def is_of_loop(self, name: str) -> bool:
        return "@" in name and name not in self.running_names

    def forward_names(self, expr: Expr) -> dict[str, str]:
        names: dict[str, str] = {}
        for name in ex.variables(expr):
            if "@" in name and name not in self.running_names:
                names[name] = self.loop_names.get(name, "i")
            else:
                names[name] = f"self.{self.store(name)}"
        return names

    loop_names: dict[str, str] = field(default_factory=dict)

    def store(self, parameter: str) -> str:
        text = self.names[parameter]
        for name, stored in self.stored.items():
            if stored == text:
                return name
        name = unique(text, self.taken)
        self.taken.add(name)
        self.stored[name] = text
        return name

    @property
    def running_names(self) -> set[str]:
        return {r.variable.name for found in self.plan.running.values() for r in found}

    def forward_access(self, leaf: Leaf) -> str:
        if leaf in self.loop_members:
            return self.loop_members[leaf]
        label = self.plan.made[leaf].name
        if leaf in self.by_path and any(not isinstance(p, str) for p in label):
            names: dict[str, str] = {}
            for piece in label:
                if not isinstance(piece, str):
                    names.update(self.forward_names(piece))
            if isinstance(self.plan.made[leaf].form, ParameterForm):
                return f"self.get_parameter({self.label_text(label, names)})"
            return self.access(label, names)
        return self.attributes.get(leaf, "self.x")

    loop_members: dict[Leaf, str] = field(default_factory=dict)


@dataclass(slots=True, eq=False)
class ForwardWriter:
    """Writes the statements of a `forward`."""

    owner: ClassWriter
    composed: Layout
    typed: set[str]
    lines: list[str] = field(default_factory=list)
    depth: int = 8

    def run(self) -> list[str]:
        owner = self.owner
        flow = owner.plan.flow
        assert flow is not None
        statements = self.composed.statements
        returned = self.returned()
        last = statements[-1] if statements else None
        self.statements(statements[:-1] if last is not None else [])
        if last is not None:
            direct = self.returned_text(last) if len(returned) == 1 else None
            if direct is not None:
                return [*self.lines, *layout.statement(f"return {direct}", self.depth, self.comment(last))]
            self.statement(last)
        if len(returned) == 1 and returned[0] not in self.typed:
            self.annotate(returned[0])
        result = ", ".join(returned)
        if owner.is_model and len(owner.file.graph.outputs) > 1:
            result = f"{owner.result_type()}({result})"
        self.lines += layout.statement(f"return {result}", self.depth)
        return self.lines

    def returned(self) -> list[str]:
        """What is given back: variables, those of training None where the module does not train."""
        owner = self.owner
        flow = owner.plan.flow
        assert flow is not None
        names = self.composed.names
        if not owner.is_model or len(owner.file.graph.outputs) < 2:
            return [names[v] for v in flow.outputs]
        values = dict(zip(owner.plan.cells[0].outputs, flow.outputs, strict=True))
        guarded = {v for s in self.composed.statements if isinstance(s, Training) for v in s.values}
        found: list[str] = []
        for output in owner.file.graph.outputs:
            value = values[output.tensor]
            alone = output.training and value not in guarded
            found.append(f"{names[value]} if self.training else None" if alone else names[value])
        return found

    def annotate(self, name: str) -> None:
        """Says the type of a variable where it is first set, for type checkers: modules return Any."""
        for i, line in enumerate(self.lines):
            stripped = line.lstrip()
            if stripped.startswith(f"{name} = "):
                pad = line[: len(line) - len(stripped)]
                code, mark, comment = stripped.partition("  # ")
                text = f"{name}: Tensor = {code[len(name) + 3 :]}"
                if code[-1] in "([{" or len(pad) + len(text) > layout.WIDTH:
                    self.lines[i] = pad + text
                else:
                    self.lines[i : i + 1] = layout.statement(text, len(pad), comment if mark else "")
                return

    def returned_text(self, statement: Statement) -> str | None:
        """What a last statement computes, where its type is known to be a tensor."""
        flow = self.owner.plan.flow
        assert flow is not None
        if not isinstance(statement, Assign) or statement.grows is not None:
            return None
        if statement.call.outputs != flow.outputs:
            return None
        text, _ = self.expression(statement)
        return text if text.startswith(("torch.", "F.")) else None

    def statements(self, statements: Iterable[Statement]) -> None:
        for statement in statements:
            self.statement(statement)

    def statement(self, statement: Statement) -> None:
        names = self.composed.names
        match statement:
            case Assign():
                used = [v for v in statement.call.outputs if v.uses]
                text, _ = self.expression(statement)
                if not used and not statement.call.leaf.steps[0].outputs:
                    return
                if not any(v.uses for v in statement.call.outputs):
                    return
                if statement.grows is not None:
                    self.line(text, statement)
                    return
                targets = ", ".join(names[v] if v.uses else "_" for v in statement.call.outputs)
                self.line(f"{targets} = {text}", statement)
            case Copy():
                targets = ", ".join(names[v] for v in statement.targets)
                self.line(f"{targets} = {', '.join(names[v] for v in statement.sources)}", statement)
            case When():
                self.condition(statement)
            case Training():
                for value in statement.values:
                    self.lines += layout.statement(f"{names[value]}: Tensor | None = None", self.depth)
                self.lines += layout.header("if self.training:", self.depth)
                self.depth += 4
                self.statements(statement.body)
                self.depth -= 4
            case Each():
                self.loop(statement)

    def line(self, text: str, statement: Statement) -> None:
        self.lines += layout.statement(text, self.depth, self.comment(statement))

    def comment(self, statement: Statement) -> str:
        if not self.owner.is_model or not isinstance(statement, Assign) or len(statement.call.outputs) != 1:
            return ""
        return self.owner.file.sizes(statement.call.outputs[0])

    def expression(self, statement: Assign) -> tuple[str, str]:
        names = self.composed.names
        operands: list[tuple[str, str]] = []
        for value in statement.call.inputs:
            if value in statement.nested:
                operands.append(self.expression(statement.nested[value]))
            else:
                operands.append((names[value], "atom"))
        if statement.grows is not None:
            at = statement.call.inputs.index(statement.grows)
            form = self.owner.plan.made[statement.call.leaf].form
            assert isinstance(form, FunctionForm)
            sign = "-=" if " - " in form.template else "+="
            other = operands[1 - at]
            return f"{operands[at][0]} {sign} {other[0]}", "sum"
        return self.owner.call_parts(statement.call, operands)

    def condition(self, statement: When) -> None:
        choice = statement.decision.choice
        flags = self.owner.flags[choice]
        first = True
        for number, branch in enumerate(statement.branches):
            test = flags[number]
            if not branch and number + 1 == len(statement.branches):
                continue
            if not test and not first:
                self.lines.append(" " * self.depth + "else:")
            else:
                self.lines += layout.header(f"{'if' if first else 'elif'} {test or 'True'}:", self.depth)
            first = False
            self.depth += 4
            before = len(self.lines)
            self.statements(branch)
            if len(self.lines) == before:
                self.lines.append(" " * self.depth + "pass")
            self.depth -= 4

    def loop(self, statement: Each) -> None:
        owner = self.owner
        loop = statement.rounds.loop
        heading = owner.plan.headings[loop]
        children = self.children(loop)
        if children is not None:
            owner.loop_members[children] = "layer"
            self.lines += layout.header("for layer in self.children():", self.depth)
        else:
            used = self.used(loop)
            names: dict[str, str] = {}
            for variable in (heading.index, *heading.names, *[v for v, _ in heading.columns]):
                if variable.name in used:
                    base = "i" if variable is heading.index else variable.name.split("@")[0]
                    taken = {*self.composed.names.values(), *owner.loop_names.values()}
                    names[variable.name] = unique(identifier(base), taken)
            owner.loop_names.update(names)
            self.lines += layout.header(f"for {self.head(loop, names)}:", self.depth)
        self.depth += 4
        self.statements(statement.body)
        self.depth -= 4

    def head(self, loop: Loop, names: Mapping[str, str]) -> str:
        owner = self.owner
        heading = owner.plan.headings[loop]
        targets: list[str] = []
        overs: list[str] = []
        if any(v.name in names for v in heading.names):
            assert heading.over is not None
            inner = [names.get(v.name, "_") for v in heading.names]
            targets.append(f"({', '.join(inner)})" if len(inner) > 1 else inner[0])
            overs.append(owner.forward_text(heading.over))
        for variable, over in heading.columns:
            if variable.name in names:
                targets.append(names[variable.name])
                overs.append(owner.forward_text(over))
        index = names.get(heading.index.name)
        if not targets:
            return f"{index or '_'} in range({owner.forward_text(heading.count)})"
        target = targets[0].strip("()") if len(targets) == 1 and index is None else ", ".join(targets)
        columns_text = overs[0] if len(overs) == 1 else f"zip({', '.join(overs)})"
        if index is not None:
            return f"{index}, {targets[0] if len(targets) == 1 else f'({target})'} in enumerate({columns_text})"
        return f"{target} in {columns_text}"

    def used(self, loop: Loop) -> set[str]:
        """The variables of loops that names of members and arguments of functions need in `forward`."""
        owner = self.owner
        found: set[str] = set()
        for leaf in _leaves(loop.body):
            made = owner.plan.made[leaf]
            for piece in made.name:
                if not isinstance(piece, str) and owner.has_member(leaf) and not owner.is_shared(leaf):
                    found.update(ex.variables(piece))
            if isinstance(made.form, FunctionForm):
                for _, expr in made.arguments:
                    found.update(ex.variables(expr))
        for inner in _loops(loop.body):
            found.update(ex.variables(owner.plan.headings[inner].count))
        return found

    def children(self, loop: Loop) -> Leaf | None:
        """The one member of a loop's body, where the class has no others: its children are what the loop goes over."""
        owner = self.owner
        if loop not in owner.plan.entries or owner.holders:
            return None
        leaves = [leaf for leaf in _leaves(loop.body) if owner.has_member(leaf)]
        everything = [leaf for leaf in _leaves(owner.plan.entries) if owner.has_member(leaf)]
        if len(leaves) != 1 or everything != leaves or leaves[0] not in [e for e in loop.body if isinstance(e, Leaf)]:
            return None
        made = owner.plan.made[leaves[0]]
        if isinstance(made.form, ParameterForm) or all(isinstance(p, str) for p in made.name):
            return None
        functions = [leaf for leaf in _leaves(loop.body) if isinstance(owner.plan.made[leaf].form, FunctionForm)]
        return leaves[0] if not any(owner.plan.made[f].arguments for f in functions) else None


# ---------------------------------------------------------------- helpers


def fill(template: str, operands: Sequence[tuple[str, str]], values: Mapping[str, str]) -> str:
    """A function's template with its tensors and arguments put in."""
    found: list[str] = []
    for text, name, _, _ in string.Formatter().parse(template):
        found.append(text)
        if name is None:
            continue
        if name == "all":
            found.append(", ".join(operand for operand, _ in operands))
        elif name.isdigit():
            operand = operands[int(name)]
            enclosed = (text.endswith("(") and template.endswith(")")) or template.startswith(("torch.", "F."))
            found.append(operand[0] if enclosed else _atom(operand))
        else:
            found.append(values[name])
    if ":" in found and not all(found[i + d].replace("-", "").isalnum() for i in _where(found, ":") for d in (-1, 1)):
        found = [" : " if part == ":" else part for part in found]
    return "".join(found)


def _where(parts: Sequence[str], wanted: str) -> list[int]:
    return [i for i, part in enumerate(parts) if part == wanted]


def _atom(operand: tuple[str, str]) -> str:
    return operand[0] if operand[1] == "atom" else f"({operand[0]})"


def type_text(value: object) -> str:
    match value:
        case bool():
            return "bool"
        case int():
            return "int"
        case float():
            return "float"
        case str():
            return "str"
        case tuple():
            kinds = list(dict.fromkeys(type_text(v) for v in value))
            return f"tuple[{' | '.join(kinds) or 'int'}, ...]"
    return "None"


def split_dots(label: Sequence[str | Expr]) -> list[list[str | Expr]]:
    """A path's pieces between its dots."""
    pieces: list[list[str | Expr]] = [[]]
    for part in label:
        if not isinstance(part, str):
            pieces[-1].append(part)
            continue
        first, *rest = part.split(".")
        if first:
            pieces[-1].append(first)
        pieces += [[text] if text else [] for text in rest]
    return pieces


def _joined(pieces: Sequence[Sequence[str | Expr]]) -> list[str | Expr]:
    found: list[str | Expr] = []
    for piece in pieces:
        found += ["."] if found else []
        found += piece
    return found


def _lists(value: object) -> object:
    return [_lists(v) for v in value] if isinstance(value, tuple | list) else value


def _type_name(text: str) -> str:
    return text.partition("(")[0]


def _weighty(made: Made) -> bool:
    form = made.form
    return not isinstance(form, ModuleForm) or form.factory


def _attribute_base(leaf: Leaf) -> str:
    member = leaf.steps[0].member
    name = member.operation.name if isinstance(member, Node) else member.scope.name
    return name if is_attribute(name) else f"{identifier(name, 'part').strip('_')}_part"


def _line(call: Call) -> int:
    step: Step = call.leaf.steps[0]
    member = step.member
    return member.span.line if isinstance(member, Node) else member.scope.span.line


def _flag_name(choice: Choice, number: int) -> str:
    leaf = next(iter(_leaves(choice.branches[number].body)))
    step = leaf.steps[0]
    if isinstance(step.member, Node) and step.member.call is None:
        return "with_skip"
    named = next((a.steps[0].name for a in _leaves(choice.branches[number].body) if is_labelled(a.steps[0])), None)
    if named is None or not named.isidentifier():
        named = step.member.operation.name if isinstance(step.member, Node) else "more"
    return f"with_{identifier(named).strip('_')}"


def _leaves(entries: Sequence[Entry], inside: bool = False) -> Iterable[Leaf]:
    """The leaves in order, with `inside` those of scopes written in place, too."""
    for entry in entries:
        match entry:
            case Leaf():
                yield entry
                if inside and entry.inner is not None:
                    yield from _leaves(entry.inner, True)
            case Loop():
                yield from _leaves(entry.body, inside)
            case Choice():
                for branch in entry.branches:
                    yield from _leaves(branch.body, inside)


def _choices(entries: Sequence[Entry]) -> Iterable[Choice]:
    for entry in entries:
        match entry:
            case Leaf():
                yield from _choices(entry.inner or [])
            case Loop():
                yield from _choices(entry.body)
            case Choice():
                yield entry
                for branch in entry.branches:
                    yield from _choices(branch.body)


def _loops(entries: Sequence[Entry]) -> Iterable[Loop]:
    for entry in entries:
        match entry:
            case Leaf():
                yield from _loops(entry.inner or [])
            case Loop():
                yield entry
                yield from _loops(entry.body)
            case Choice():
                for branch in entry.branches:
                    yield from _loops(branch.body)


def _calls(actions: Iterable[Call | Decision | Rounds]) -> Iterable[Call | Decision]:
    for action in actions:
        match action:
            case Call():
                yield action
            case Decision():
                yield action
                for branch in action.branches:
                    yield from _calls(branch)
            case Rounds():
                yield from _calls(action.body)


__all__ = ["FACTORY", "FILLED", "ClassWriter", "File", "camel"]
