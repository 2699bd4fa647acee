"""The constructor's expression for a member: the call of its class, or an nn.Sequential with its members."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from archdsl.backends.python import tree as py
from archdsl.backends.python.templates import code
from archdsl.backends.python.tree import call
from archdsl.backends.torch_source import expressions as ex
from archdsl.backends.torch_source.cells import Cell
from archdsl.backends.torch_source.file import File
from archdsl.backends.torch_source.fold import Choice, Entry, Leaf, Loop
from archdsl.backends.torch_source.helpers import FILLED
from archdsl.backends.torch_source.names import identifier, is_attribute, unique
from archdsl.backends.torch_source.plan import Made, Plan, has_weights, is_labelled
from archdsl.backends.torch_source.scope import Scope
from archdsl.backends.torch_source.starts import helper, init_of, is_statement
from archdsl.graph import Node
from archdsl.ops.forms import ModuleForm

KW = py.Keyword("", py.Var("kw"))


@dataclass(slots=True, eq=False)
class Layers:
    """Makes the expressions that stand for members; `scope` has the names in them."""

    file: File
    plan: Plan
    scope: Scope

    def module(self, leaf: Leaf) -> py.Expr:
        """The constructor call of a member."""
        made = self.plan.made[leaf]
        if leaf.inner is not None:
            return self.sequential(leaf)
        if made.plan is not None:
            return self.call_class(made)
        form = made.form
        for step in leaf.steps if made.layer is not None else leaf.steps[:1]:
            if isinstance(step.form, ModuleForm) and step.form.helper is not None:
                self.file.helper(step.form.helper)
        value = self.scope.value
        arguments = [value(e) if name is None else py.Keyword(name, value(e)) for name, e in made.arguments]
        if made.layer is not None:
            return call(value(made.layer), *arguments, *[KW] * (not isinstance(form, ModuleForm) or form.factory))
        assert isinstance(form, ModuleForm)
        nodes = [s.member for s in leaf.steps]
        if all(isinstance(n, Node) and self.file.overwriting.activates(n) for n in nodes):
            arguments.append(py.Keyword("inplace", py.Const(True)))
        found = call(form.constructor, *arguments, *[KW] * form.factory)
        if form.fill or form.frozen:
            self.file.helper(FILLED)
            numbers = [py.Keyword(name, py.Const(lists(numbers))) for name, numbers in form.fill.items()]
            found = call("filled", found, *[py.Keyword("frozen", py.Const(True))] * bool(form.frozen), *numbers)
        start = init_of(made)
        if start is not None and form.kind not in self.file.alike and not is_statement(self.plan, leaf):
            function = helper(start)
            self.file.helper(function)
            std = [py.Keyword("std", value(made.std))] if made.std is not None else []
            found = call(function.name, found, *std)
        return found

    def call_class(self, made: Made) -> py.Expr:
        assert made.plan is not None
        callee: dict[str, str] = {}
        for parameter in made.plan.parameters:
            callee[parameter.name] = unique(identifier(parameter.name), self.file.globals.union(callee.values()))
        positional: list[py.Expr] = []
        named: list[py.Expr] = []
        given = {name or "": expr for name, expr in made.arguments}
        for parameter in made.plan.parameters:
            expr, default = given[parameter.name], parameter.default
            if default is None and not parameter.is_option:
                positional.append(self.scope.value(expr))
            elif default is None or not (isinstance(expr, py.Const) and ex.same(expr.value, default.value)):
                named.append(py.Keyword(callee[parameter.name], self.scope.value(expr)))
        factory = self.file.factories[made.plan]
        return call(self.file.names[made.plan], *positional, *named, *[KW] * factory)

    # ------------------------------------------------------------ sequences

    def sequential(self, leaf: Leaf) -> py.Expr:
        assert leaf.inner is not None
        cells = [s.member for s in leaf.steps if isinstance(s.member, Cell)]
        if all(c.positional for c in cells):
            return call("nn.Sequential", *self.items(leaf.inner))
        if isinstance(loop := leaf.inner[0], Loop):
            return call("nn.Sequential", call("OrderedDict", self.named_rounds(loop)))
        pairs: list[tuple[list[str | py.Expr], py.Expr]] = []
        taken = {s.name for c in cells for s in c.steps if is_labelled(s)}
        for entry in leaf.inner:
            assert isinstance(entry, Leaf)
            made = self.plan.made[entry]
            label = made.name
            if not is_labelled(entry.steps[0]) and not has_weights(made):
                name = unique(attribute_base(entry, made), taken)
                taken.add(name)
                label = [name]
            pairs.append((label, self.module(entry)))
        named = [py.Keyword(n, e) for label, e in pairs if (n := attribute_name(label)) is not None]
        if len(named) < len(pairs):
            listed = py.List(tuple(py.Tuple((self.scope.label(label), e)) for label, e in pairs))
            return call("nn.Sequential", call("OrderedDict", listed))
        return call("nn.Sequential", call("OrderedDict", *named))

    def named_rounds(self, loop: Loop) -> py.Expr:
        """The members of a loop, each with its name."""
        (leaf,) = loop.body
        assert isinstance(leaf, Leaf)
        with self.scope.comprehension(loop) as (target, source):
            pair = py.Tuple((self.scope.label(self.plan.made[leaf].name), self.module(leaf)))
            return py.Comprehension(pair, target, source, brackets="[]")

    def items(self, entries: Sequence[Entry]) -> list[py.Expr]:
        """The arguments of nn.Sequential. What is no expression is gathered in a list by statements before."""
        if not all(map(self.is_item, entries)):
            return [py.Star(py.Var(self.gathered(entries)))]
        found: list[py.Expr] = []
        for entry in entries:
            if isinstance(entry, Leaf):
                found.append(self.module(entry))
            else:
                assert isinstance(entry, Loop) and isinstance(entry.body[0], Leaf)
                with self.scope.comprehension(entry) as (target, source):
                    found.append(py.Star(py.Comprehension(self.module(entry.body[0]), target, source)))
        return found

    def is_item(self, entry: Entry) -> bool:
        """Whether it is an expression among the arguments of nn.Sequential."""
        if isinstance(entry, Loop):
            running = self.plan.headings[entry].running
            plain = running is None or not running.used
            return plain and len(entry.body) == 1 and isinstance(entry.body[0], Leaf)
        return isinstance(entry, Leaf)

    def gathered(self, entries: Sequence[Entry]) -> str:
        """The name of a list of modules that statements make."""
        name = unique("layers", self.scope.locals)
        self.scope.locals.add(name)
        start, rest = self.items_before(entries)
        self.scope.code.add(py.Assign(py.Var(name), py.List(tuple(start)), annotation=code("list[nn.Module]")))
        self.gather(rest, py.Var(name))
        return name

    def items_before(self, entries: Sequence[Entry]) -> tuple[list[py.Expr], Sequence[Entry]]:
        """The arguments up to the first entry that is no expression, and the entries from there on."""
        count = next((i for i, entry in enumerate(entries) if not self.is_item(entry)), len(entries))
        return self.items(entries[:count]), entries[count:]

    def gather(self, entries: Sequence[Entry], layers: py.Var) -> None:
        """Adds members to a list."""
        add = self.scope.code.add
        while entries:
            items, entries = self.items_before(entries)
            if len(items) == 1 and not isinstance(items[0], py.Star):
                add(py.Do(code("{0}.append({1})", layers, items[0])))
            elif items:
                add(py.Assign(layers, py.List(tuple(items)), "+="))
            entry, entries = (entries[0], entries[1:]) if entries else (None, entries)
            if isinstance(entry, Loop):
                with self.scope.loop(entry):
                    self.gather(entry.body, layers)
            elif isinstance(entry, Choice):
                self.gather_choice(entry, layers)

    def gather_choice(self, choice: Choice, layers: py.Var) -> None:
        branches: list[tuple[py.Expr | None, list[py.Statement]]] = []
        self.scope.code.add(py.Branches(branches))
        for branch, condition in zip(choice.branches, self.plan.conditions[choice], strict=True):
            otherwise = condition == py.Const(True) and bool(branches)
            branches.append((None if otherwise else self.scope.value(condition), []))
            with self.scope.code.within(branches[-1][1]):
                self.gather(branch.body, layers)


def attribute_name(label: Sequence[str | py.Expr]) -> str | None:
    """The attribute that a member's name can be; None where it can be none."""
    plain = len(label) == 1 and isinstance(label[0], str) and is_attribute(label[0])
    return str(label[0]) if plain else None


def attribute_base(leaf: Leaf, made: Made) -> str:
    if made.layer is not None:
        return made.head if is_attribute(made.head) else "layer"
    member = leaf.steps[0].member
    if isinstance(member, Node):
        name = member.operation.name
    else:
        name = member.scope.name if isinstance(member, Cell) else leaf.steps[0].name
    return name if is_attribute(name) else f"{identifier(name, 'part').strip('_')}_part"


def lists(value: object) -> object:
    return [lists(v) for v in value] if isinstance(value, tuple | list) else value
