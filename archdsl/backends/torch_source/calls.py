"""What a constructor makes for a member: the call of its class, or an nn.Sequential with what stands in it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from archdsl.backends.torch_source import expressions as ex
from archdsl.backends.torch_source.cells import Cell
from archdsl.backends.torch_source.expressions import Const, Expr, literal
from archdsl.backends.torch_source.fold import Choice, Entry, Leaf, Loop
from archdsl.backends.torch_source.names import identifier, is_attribute, unique
from archdsl.backends.torch_source.plan import Made, Plan, is_labelled
from archdsl.backends.torch_source.starts import helper, is_statement, way
from archdsl.backends.torch_source.text import FILLED, lists
from archdsl.backends.torch_source.writer import Writer, weighty
from archdsl.graph import Node
from archdsl.ops.base import ModuleForm


@dataclass(slots=True, eq=False)
class Calls(Writer):
    """Writes what stands for a member."""

    def module(self, leaf: Leaf) -> str:
        """The constructor call of a member."""
        made = self.plan.made[leaf]
        if leaf.inner is not None:
            return self.sequential(leaf)
        if made.plan is not None:
            return self.call_class(made)
        form = made.form
        assert isinstance(form, ModuleForm)
        for step in leaf.steps if made.layer is not None else leaf.steps[:1]:
            if isinstance(step.form, ModuleForm) and step.form.helper is not None:
                self.file.helper(step.form.helper)
        arguments = [self.text(e) if name is None else f"{name}={self.text(e)}" for name, e in made.arguments]
        if made.layer is not None:
            return f"{self.text(made.layer)}({', '.join([*arguments, *['**kw'] * form.factory])})"
        nodes = [s.member for s in leaf.steps]
        if all(isinstance(n, Node) and self.file.overwriting.activates(n) for n in nodes):
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
        start = way(made)
        if start is not None and form.kind not in self.file.alike and not is_statement(self.plan, leaf):
            name, source = helper(start)
            self.file.helper(source)
            std = [f"std={self.text(made.std)}"] if made.std is not None else []
            text = f"{name}({', '.join([text, *std])})"
        return text

    def call_class(self, made: Made) -> str:
        assert made.plan is not None
        parameters = {p.name: p for p in made.plan.parameters}
        callee = {p.name: identifier(p.name) for p in made.plan.parameters} | self.file_names(made.plan)
        positional: list[str] = []
        named: list[str] = []
        given = {name or "": expr for name, expr in made.arguments}
        for name, parameter in parameters.items():
            expr, default = given[name], parameter.default
            if default is None and not parameter.is_option:
                positional.append(self.text(expr))
            elif default is None or not (isinstance(expr, Const) and ex.same(expr.value, default.value)):
                named.append(f"{callee[name]}={self.text(expr)}")
        if self.file.factories.get(made.plan, self.factory):
            named.append("**kw")
        return f"{self.file.names[made.plan]}({', '.join([*positional, *named])})"

    def file_names(self, plan: Plan) -> dict[str, str]:
        """What the parameters of a class are called in its constructor."""
        found: dict[str, str] = {}
        for parameter in plan.parameters:
            found[parameter.name] = unique(identifier(parameter.name), self.file.globals.union(found.values()))
        return found

    # ------------------------------------------------------------ sequences

    def sequential(self, leaf: Leaf) -> str:
        assert leaf.inner is not None
        cells = [s.member for s in leaf.steps if isinstance(s.member, Cell)]
        if all(c.positional for c in cells):
            return f"nn.Sequential({', '.join(self.items(leaf.inner))})"
        self.file.imports.add("OrderedDict")
        pairs: list[tuple[list[str | Expr], str]] = []
        taken = {s.name for c in cells for s in c.steps}
        for entry in leaf.inner:
            assert isinstance(entry, Leaf)
            made = self.plan.made[entry]
            label = made.name
            if not is_labelled(entry.steps[0]) and not weighty(made):
                name = unique(attribute_base(entry, made), taken)
                taken.add(name)
                label = [name]
            pairs.append((label, self.module(entry)))
        if all(len(label) == 1 and isinstance(label[0], str) and is_attribute(label[0]) for label, _ in pairs):
            inner = ", ".join(f"{label[0]}={text}" for label, text in pairs)
            return f"nn.Sequential(OrderedDict({inner}))"
        inner = ", ".join(f"({self.label_text(label)}, {text})" for label, text in pairs)
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
                with self.comprehension(entry) as head:
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


def attribute_base(leaf: Leaf, made: Made) -> str:
    if made.layer is not None:
        return made.head if is_attribute(made.head) else "layer"
    member = leaf.steps[0].member
    name = member.operation.name if isinstance(member, Node) else member.scope.name
    return name if is_attribute(name) else f"{identifier(name, 'part').strip('_')}_part"
