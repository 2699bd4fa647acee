"""The constructor of a generated class."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from archdsl.backends.torch_source import expressions as ex
from archdsl.backends.torch_source import layout
from archdsl.backends.torch_source.expressions import Binary, Const, Expr, Var
from archdsl.backends.torch_source.flow import Call, Decision, calls
from archdsl.backends.torch_source.fold import Choice, Entry, Leaf, Loop, leaves
from archdsl.backends.torch_source.members import Members
from archdsl.backends.torch_source.names import MODULE_ATTRIBUTES, identifier, unique
from archdsl.backends.torch_source.plan import Made, is_labelled
from archdsl.backends.torch_source.starts import is_biased, is_typed, model_loop
from archdsl.common.source import Span
from archdsl.graph import Node
from archdsl.ops.base import ModuleForm, ParameterForm
from archdsl.syntax import tree


@dataclass(slots=True, eq=False)
class Constructor(Members):
    """Writes the statements of a constructor."""

    stored: dict[str, str] = field(default_factory=dict)
    """Attributes that hold a number, with what they are set to."""
    flags: dict[Choice, list[str]] = field(default_factory=dict)
    """The attribute that each branch of a condition hangs on."""
    optional: set[Choice] = field(default_factory=set)
    """Conditions that an nn.Identity stands for."""
    start: int = 0
    """Where in the lines the members begin."""

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
        self.construct(self.in_reading_order(self.plan.entries))

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
        self.construct(self.plan.entries)

    def store(self) -> None:
        """The statements that set what `forward` needs of the parameters."""
        late = {n: t for n, t in self.stored.items() if self.late.intersection(re.findall(r"\w+", t))}
        early = [f"self.{name} = {text}" for name, text in self.stored.items() if name not in late]
        self.lines[self.start : self.start] = [line for text in early for line in layout.statement(text, 8)]
        for name, text in late.items():
            self.line(f"self.{name} = {text}")
        if self.is_model and self.file.alike:
            self.start_alike()

    def start_alike(self) -> None:
        """The model's loop over all modules, for types of which all start alike."""
        members = [(plan.made[leaf].form, leaf) for plan in self.file.names for leaf in leaves(plan.entries, True)]
        modules = [(form.kind, leaf) for form, leaf in members if isinstance(form, ModuleForm)]
        biased = {kind for kind, leaf in modules if is_biased(leaf)}
        typed = biased - {kind for kind, leaf in modules if not is_typed(leaf)}
        for depth, text in model_loop(self.file.alike, biased, typed, unique("module", self.locals)):
            write = layout.header if text.endswith(":") else layout.statement
            self.lines += write(text, 8 + 4 * depth)

    # ------------------------------------------------------------ the class

    def name_parameters(self) -> None:
        for parameter in self.plan.parameters:
            name = unique(identifier(parameter.name), self.locals | self.file.globals)
            self.names[parameter.name] = name
            self.locals.add(name)

    def collect_labels(self, entries: Sequence[Entry]) -> None:
        """Takes the attribute names that the members' paths demand, before any other attribute is named."""
        for entry in entries:
            match entry:
                case Leaf():
                    if self.plan.made[entry].name:
                        self.taken.update(step.name.split(".")[0] for step in entry.steps)
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

    # ------------------------------------------------------------ statements

    def name_lets(self) -> None:
        """A variable for each value that the spec names and the class needs more than once."""
        plan = self.plan
        used = [e for m in plan.made.values() for e in m.values()]
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

    def construct(self, entries: Sequence[Entry], in_loop: bool = False) -> None:
        """The members of a class with a `forward`, or of an nn.Sequential whose members have names."""
        for entry in entries:
            if not in_loop:
                self.make_holders(entry)
            match entry:
                case Leaf():
                    self.member(entry, None)
                case Loop():
                    if any(self.has_member(leaf) for leaf in leaves(entry.body)):
                        moved, start = self.moved, len(self.lines)
                        self.enter(entry)
                        head = len(self.lines) + moved
                        self.construct(entry.body, True)
                        if len(self.lines) == head + self.moved - 2 * moved:
                            del self.lines[start + self.moved - moved :]
                            self.depth -= 4
                        else:
                            self.leave(entry)
                    else:
                        self.construct(entry.body, True)
                case Choice():
                    self.construct_choice(entry, in_loop)

    def in_reading_order(self, entries: Sequence[Entry]) -> list[Entry]:
        """The entries of a body with what a skip goes through behind what it goes around."""
        found = list(entries)
        items = self.plan.cells[0].syntax.items.values()
        for item in [i for i in items if isinstance(i, tree.Residual) and i.via is not None]:
            start = 0
            while start < len(found):  # once for each round of a loop that is written out
                assert item.via is not None
                body = self.run_of(found, start, item.via.span)
                end = self.run_of(found, body, item.body.span)
                via = found[start:body]
                if body < end and not any(isinstance(e, Choice) and self.plan.running.get(e) for e in via):
                    found[start:end] = found[body:end] + via
                start = max(end, start + 1)
        return found

    @staticmethod
    def run_of(entries: Sequence[Entry], start: int, span: Span) -> int:
        """Where the entries end that stand in a part of the spec, from one on."""
        end = start
        while end < len(entries) and stands_in(entries[end], span):
            end += 1
        return end

    def construct_choice(self, choice: Choice, in_loop: bool) -> None:
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
            is_late = self.late.intersection(re.findall(r"\w+", test))
            if flags is not None and flags[place] and not is_late and self.test(condition) is None:
                test = flags[place]
            blocks.append((len(self.lines), self.moved))
            self.head("else:" if condition == Const(True) and place else f"{'elif' if place else 'if'} {test}:")
            start, moved = len(self.lines), self.moved
            self.construct(branch.body, in_loop)
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
            if isinstance(condition, Const) or self.is_of_round(condition):
                flags.append("")
                continue
            flags.append(self.test(condition) or f"self.{self.store_text(flag_name(choice, number), condition)}")
        self.flags[choice] = flags

    def is_of_round(self, condition: Expr) -> bool:
        """Whether it differs from round to round of a loop, so that `forward` asks it anew."""
        return any("@" in name and name not in self.running_names for name in ex.variables(condition))

    def test(self, condition: Expr) -> str | None:
        """A condition on one parameter as `forward` asks it: `self.stride > 1`."""
        match condition:
            case Var(name) | Binary("==" | "!=" | "<" | "<=" | ">" | ">=", Var(name), Const()):
                if name in {p.name for p in self.plan.parameters}:
                    return ex.write(condition, {name: f"self.{self.store_parameter(name)}"})
            case _:
                pass
        return None

    def store_parameter(self, parameter: str) -> str:
        """The attribute that holds a parameter."""
        return self.store_text(self.names[parameter], Var(parameter))

    def store_text(self, name: str, expr: Expr) -> str:
        """The attribute that holds a value; one for each value."""
        text = self.text(expr)
        for found, stored in self.stored.items():
            if stored == text:
                return found
        # An attribute must not hide one that every module has: `apply`, `_modules`.
        found = unique(name.lstrip("_") or "value", self.taken | MODULE_ATTRIBUTES)
        self.taken.add(found)
        self.stored[found] = text
        return found


def stands_in(entry: Entry, span: Span) -> bool:
    """Whether all of an entry was written within a stretch of the spec."""
    sites = [leaf.steps[0].site for leaf in leaves([entry])]
    return all(span.start <= start and end <= span.end for start, end, _ in sites)


def flag_name(choice: Choice, number: int) -> str:
    leaf = next(iter(leaves(choice.branches[number].body)))
    step = leaf.steps[0]
    if isinstance(step.member, Node) and step.member.call is None:
        return "with_skip"
    named = next((a.steps[0].name for a in leaves(choice.branches[number].body) if is_labelled(a.steps[0])), None)
    if named is None or not named.isidentifier():
        named = step.member.operation.name if isinstance(step.member, Node) else "more"
    return f"with_{identifier(named).strip('_')}"
