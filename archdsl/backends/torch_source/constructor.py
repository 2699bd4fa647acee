"""The constructor of a generated class."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from archdsl.backends.python import tree as py
from archdsl.backends.python.templates import code
from archdsl.backends.python.tree import call, names_in
from archdsl.backends.torch_source import expressions as ex
from archdsl.backends.torch_source.attributes import Attributes
from archdsl.backends.torch_source.emitter import Emitter
from archdsl.backends.torch_source.file import File
from archdsl.backends.torch_source.flow import Call, Decision, calls
from archdsl.backends.torch_source.fold import Choice, Entry, Leaf, Loop, leaves
from archdsl.backends.torch_source.layers import Layers
from archdsl.backends.torch_source.members import Members
from archdsl.backends.torch_source.names import identifier, unique
from archdsl.backends.torch_source.plan import Made, Plan, is_labelled
from archdsl.backends.torch_source.scope import Scope
from archdsl.backends.torch_source.starts import is_biased, is_typed, model_loop
from archdsl.common.source import Span
from archdsl.graph import Node
from archdsl.ops.forms import ModuleForm, ParameterForm
from archdsl.syntax import tree


@dataclass(slots=True, eq=False)
class Constructor:
    """Makes the statements of a constructor."""

    file: File
    plan: Plan
    is_model: bool
    code: Emitter
    scope: Scope
    layers: Layers
    members: Members
    attributes: Attributes
    flags: dict[Choice, list[py.Expr | None]] = field(default_factory=dict)
    """The attribute that `forward` tests for each branch of a condition; None if there is none, or one per round."""
    optional: set[Choice] = field(default_factory=set)
    """Conditions that an nn.Identity stands for."""
    start: int = 0
    """Where in the statements the members begin."""

    @staticmethod
    def of(file: File, plan: Plan, is_model: bool) -> Constructor:
        """The constructor of a class, with the names of its parameters and attributes."""
        emitter = Emitter()
        scope = Scope(plan, emitter, file.globals)
        file.factories[plan] = is_model or plan.complete or needs_factory(file, plan)
        layers = Layers(file, plan, scope)
        members = Members(file, plan, scope, layers)
        made = Constructor(file, plan, is_model, emitter, scope, layers, members, Attributes(scope, members.taken))
        for parameter in plan.parameters:
            name = unique(identifier(parameter.name), scope.locals | file.globals)
            scope.names[parameter.name] = name
            scope.locals.add(name)
        # What the members' paths demand comes before any other attribute.
        for leaf in leaves(plan.entries):
            if plan.made[leaf].name:
                members.taken.update(step.name.split(".")[0] for step in leaf.steps)
        return made

    def run(self) -> None:
        """The statements, but for what `forward` has stored."""
        flow = self.plan.flow
        if flow is None and all(c.positional for c in self.plan.cells):
            self.model_factory()
            self.name_lets()
            self.code.add(py.Do(call(code("super().__init__"), *self.layers.items(self.plan.entries))))
            return
        for action in calls(flow.actions) if flow is not None else ():
            if isinstance(action, Call) and action.optional is not None:
                self.optional.add(action.optional)
            elif isinstance(action, Decision):
                self.flag(action.choice)
        self.code.add(SUPER)
        self.model_factory()
        self.name_lets()
        self.start = len(self.code.top)
        entries = self.plan.entries if flow is None else self.in_reading_order(self.plan.entries)
        self.members.find_rows(entries)
        self.construct(entries)

    def finish(self) -> list[py.Statement]:
        """The statements, with those that set what `forward` needs of the parameters, and how weights start."""
        late: list[py.Statement] = []
        early: list[py.Statement] = []
        for attribute, value in self.attributes.stored.values():
            of = late if self.scope.late & names_in([value]) else early
            of.append(py.Assign(code(f"self.{attribute}"), value))
        self.code.top[self.start : self.start] = early
        self.code.add(*late)
        if self.is_model and self.file.alike:
            self.start_alike()
        return self.code.top

    def start_alike(self) -> None:
        """The model's loop over all modules, for types of which all start alike."""
        members = [(plan.made[leaf].form, leaf) for plan in self.file.names for leaf in leaves(plan.entries, True)]
        modules = [(form.kind, leaf) for form, leaf in members if isinstance(form, ModuleForm)]
        biased = {kind for kind, leaf in modules if is_biased(leaf)}
        typed = biased - {kind for kind, leaf in modules if not is_typed(leaf)}
        module = py.Var(unique("module", self.scope.locals))
        self.code.add(model_loop(self.file.alike, biased, typed, module))

    # ------------------------------------------------------------ statements

    def model_factory(self) -> None:
        if self.is_model and needs_factory(self.file, self.plan):
            self.code.add(FACTORY)

    def name_lets(self) -> None:
        """A variable for each value that the spec names and the class needs more than once."""
        plan = self.plan
        used = [e for m in plan.made.values() for e in m.values()]
        used += [e for found in plan.conditions.values() for e in found]
        used += [
            e for found in plan.running.values() for r in found if r.used for e in (r.first, *r.after) if e is not None
        ]
        counts: Counter[ex.Expr] = Counter(
            part for expr in used for part in ex.parts(expr) if not isinstance(part, py.Const | py.Var)
        )
        for name, expr in plan.lets.items():
            known = expr not in self.scope.aliases and all(v in self.scope.names for v in ex.variables(expr))
            if counts[expr] > 1 and known:
                self.scope.aliases[expr] = self.scope.variable(identifier(name), self.scope.value(expr))

    def construct(self, entries: Sequence[Entry], in_loop: bool = False) -> None:
        """The members of a class with a `forward`, or of an nn.Sequential whose members have names."""
        for entry in entries:
            if not in_loop:
                self.members.make_holders(entry)
            match entry:
                case Leaf():
                    self.members.member(entry)
                case Loop() if any(self.members.has_member(leaf) for leaf in leaves(entry.body)):
                    with self.scope.loop(entry):
                        self.construct(entry.body, True)
                case Loop():
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
        """The end of the entries, from one on, that belong to a part of the spec."""
        end = start
        while end < len(entries) and stands_in(entries[end], span):
            end += 1
        return end

    def construct_choice(self, choice: Choice, in_loop: bool) -> None:
        conditions = self.plan.conditions[choice]
        if choice in self.optional:
            leaf = choice.branches[0].body[0]
            assert isinstance(leaf, Leaf)
            self.members.member(leaf, self.scope.value(conditions[0]))
            return
        running = [r for r in self.plan.running.get(choice, ()) if r.used]
        for number in running:
            self.scope.name_running(number, "channels")
            if number.first is not None:
                self.scope.set_running(number, number.first)
        branches: list[tuple[py.Expr | None, list[py.Statement]]] = []
        statement = py.Branches(branches)
        self.code.add(statement)
        for place, branch in enumerate(choice.branches):
            otherwise = conditions[place] == py.Const(True) and place > 0
            branches.append((None if otherwise else self.condition(choice, place), []))
            with self.code.within(branches[-1][1]):
                self.construct(branch.body, in_loop)
                for number in running:
                    after = number.after[place]
                    if after is not None:
                        self.scope.set_running(number, after)
        while branches and not branches[-1][1]:
            branches.pop()
        if not branches:
            self.code.body.remove(statement)

    def condition(self, choice: Choice, place: int) -> py.Expr:
        """The test of a branch: the attribute that holds it, where there is one and it is set by then."""
        condition = self.plan.conditions[choice][place]
        test = self.scope.value(condition)
        flag = self.flags[choice][place] if choice in self.flags else None
        is_late = not self.scope.late.isdisjoint(names_in([test]))
        return flag if flag is not None and not is_late and self.attributes.test(condition) is None else test

    def flag(self, choice: Choice) -> None:
        self.flags[choice] = [
            None
            if isinstance(condition, py.Const) or self.scope.is_of_round(condition)
            else self.attributes.test(condition) or self.attributes.store(flag_name(choice, number), condition)
            for number, condition in enumerate(self.plan.conditions[choice])
        ]


SUPER = py.Do(code("super().__init__()"))
FACTORY = py.Assign(
    py.Var("kw"),
    py.Dict((py.Pair(py.Const("device"), py.Var("device")), py.Pair(py.Const("dtype"), py.Var("dtype")))),
    annotation=py.Var("Factory"),
)


def needs_factory(file: File, plan: Plan) -> bool:
    """Whether a class makes parameters, or modules that take device= and dtype=."""
    return any(takes_factory(file, plan, made) for made in plan.made.values())


def takes_factory(file: File, plan: Plan, made: Made) -> bool:
    if made.plan is not None:
        return made.plan is not plan and file.factories[made.plan]
    if made.layer is not None and made.form is None:
        return True
    return isinstance(made.form, ParameterForm) or (isinstance(made.form, ModuleForm) and made.form.factory)


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
