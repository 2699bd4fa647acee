"""The `forward` of a generated class."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, field, replace

from archdsl.backends.python import tree as py
from archdsl.backends.python.printer import text
from archdsl.backends.python.templates import code, template_tree
from archdsl.backends.python.tree import call, walk
from archdsl.backends.torch_source import expressions as ex
from archdsl.backends.torch_source import flow as flows
from archdsl.backends.torch_source import recomputing
from archdsl.backends.torch_source import statements as drafts
from archdsl.backends.torch_source.cells import Borrowed, Cell, Reference
from archdsl.backends.torch_source.checks import check_calls
from archdsl.backends.torch_source.constructor import Constructor
from archdsl.backends.torch_source.emitter import Emitter
from archdsl.backends.torch_source.file import File
from archdsl.backends.torch_source.flow import Value
from archdsl.backends.torch_source.fold import CannotMerge, Leaf, Loop, leaves
from archdsl.backends.torch_source.names import identifier, unique
from archdsl.backends.torch_source.plainness import Plainness
from archdsl.backends.torch_source.plan import Plan, heads_within, is_labelled, is_shared
from archdsl.backends.torch_source.scope import loop_head
from archdsl.backends.torch_source.sequences import (
    TENSOR,
    features_line,
    lends,
    method,
    of_sequence,
    recomputes_features,
)
from archdsl.backends.torch_source.statements import Copy, Each, Release, Training, When
from archdsl.backends.torch_source.variables import Composer, Layout
from archdsl.graph import Node, Tensor
from archdsl.ops.forms import FunctionForm, ParameterForm


def forward(made: Constructor) -> py.Function | None:
    """The `forward` of a class whose constructor has named the members; None where nn.Sequential has it."""
    if made.plan.flow is None:
        return of_sequence(made)
    flow = replace(made.plan.flow, actions=flows.fused(made.plan.flow.actions))
    return Forward(made.file, made.plan, made.is_model, made, flow).run()


@dataclass(slots=True, eq=False)
class Forward:
    """Writes a `forward` of statements."""

    file: File
    plan: Plan
    is_model: bool
    made: Constructor
    flow: flows.Flow
    loop_names: dict[str, str] = field(default_factory=dict)
    """The names of loop variables."""
    loop_members: dict[Leaf, py.Expr] = field(default_factory=dict)
    """Members that a loop goes over."""
    composed: Layout = field(default_factory=lambda: Layout([], {}))
    code: Emitter = field(default_factory=Emitter)

    def run(self) -> py.Function:
        names = self.input_names()
        self.composed = Composer(
            self.flow,
            line_of,
            lambda call: len(text(self.call(call, [py.Var("x")] * len(call.inputs)))),
            self.grown,
            self.variable_label,
            self.file.globals,
            names,
            self.appends,
            self.training_values(),
            self.alone,
            self.updates,
            self.output_names(),
            self.pressing(self.file.releases.variables),
            self.pressing(self.file.releases.operands),
            straight=self.file.plainness >= Plainness.STRAIGHT,
            takes_features=self.takes_features,
        ).run()
        parts = features_line(self.plan, names[0]) if names else []
        checks = check_calls(self.file.checks, names) if self.is_model else []
        self.body(set(names))
        taken = ["*features"] if self.plan.cells[0].grows else names
        body = [*lends(self.plan.cells[0]), *checks, *parts, *self.code.top]
        return method(self.plan, taken, self.result_type(), body)

    def grown(self, call: flows.Call) -> Sequence[Value]:
        """The operands that an addition or subtraction may add to, in all calls, the best one first."""
        nodes = [s.member for s in call.leaf.steps]
        rows = [self.file.overwriting.grows(n) for n in nodes if isinstance(n, Node)]
        places = [p for p in rows[0] if all(p in row for row in rows)] if len(rows) == len(nodes) else []
        if not places or call.inputs[0] is call.inputs[1]:
            return []
        return [call.inputs[p] for p in places]

    def updates(self, call: flows.Call) -> frozenset[str]:
        """The shared members whose statistics a call updates."""
        graph = self.file.graph
        steps = [step for leaf in leaves(call.leaves, inside=True) for step in leaf.steps]
        calls = [(step.name, step.member.call) for step in steps if isinstance(step.member, Reference)]
        nodes = ((name, [shared] if isinstance(shared, Node) else [*shared.nodes()]) for name, shared in calls)
        return frozenset(name for name, inside in nodes if any(map(graph.keeps_statistics, inside)))

    def pressing(self, tensors: Collection[Tensor]) -> Callable[[Value], bool]:
        """Whether a value is one of these in a call; inputs stay with the caller anyway."""
        return lambda value: value not in self.flow.inputs and any(t in tensors for t in value.row)

    def appends(self, call: flows.Call) -> bool | None:
        """Whether a concat adds to a list of features that nothing reads any more behind it; None for other calls."""
        file = self.file
        nodes = [s.member for s in call.leaf.steps]
        if not all(n in file.recompute.grown for n in nodes):
            return None
        last = file.overwriting.last_reader
        return file.overwriting.allowed and all(isinstance(n, Node) and last[n.inputs[0]] == n.id for n in nodes)

    def output_names(self) -> list[str | None]:
        """The names of the model's outputs, one for each value that flows out."""
        if not self.is_model or len(self.file.graph.outputs) < 2:
            return []
        by_tensor = {o.tensor: o.name for o in reversed(self.file.graph.outputs)}
        found: list[str | None] = []
        for tensor in self.plan.cells[0].outputs:
            name = by_tensor[tensor]
            wanted = identifier(name.strip("_")) if name is not None and name.strip("_") else None
            found.append(wanted if wanted not in self.file.globals else None)
        return found

    def alone(self, value: Value) -> bool:
        """Whether only a module in training needs a value, in all calls of the class."""
        return bool(value.row) and all(t is not None and t.node in self.file.of_training for t in value.row)

    def training_values(self) -> list[Value]:
        """The results that only a module in training needs, in all calls of the class."""
        alone = self.file.of_training
        rows = zip(self.flow.outputs, *(cell.outputs for cell in self.plan.cells), strict=True)
        found = [value for value, *tensors in rows if all(t.node in alone for t in tensors)]
        # What is called in training alone needs no condition.
        return found if self.is_model or len(found) < len(self.flow.outputs) else []

    def result_type(self) -> py.Expr:
        count = len(self.flow.outputs)
        if self.is_model and (count > 1 or len(self.file.graph.outputs) > 1):
            return py.Var(self.file.output_class)
        if count == 1:
            return TENSOR
        alone = self.training_values()
        return code(f"tuple[{', '.join('Tensor | None' if v in alone else 'Tensor' for v in self.flow.outputs)}]")

    def input_names(self) -> list[str]:
        cell = self.plan.cells[0]
        found: list[str] = []
        reserved = self.file.globals
        for name in cell.input_names:
            base = identifier(name) if name and (len(cell.input_names) > 1) else "x"
            found.append(unique(base, {*found, *reserved}))
        return found

    def variable_label(self, call: flows.Call) -> str | None:
        steps = call.leaves[-1].steps
        step = steps[0]
        if not is_labelled(step) or any(s.name != step.name for s in steps):
            return None
        name = step.name
        free = name.isidentifier() and name.isascii() and not name.startswith("_")
        return name if free and name not in self.file.globals else None

    # ------------------------------------------------------------ calls

    def call(self, call: flows.Call, operands: Sequence[py.Expr]) -> py.Expr:
        """The call of a member or function."""
        if call.leaf.steps[0].series is not None:
            return self.recomputed(call, operands)
        leaf = self.declared(call.leaf) if call.leaf.steps[0].calls else call.leaf
        planned = self.plan.made[leaf]
        form = planned.form
        functional = self.made.members.functional(leaf)
        if functional is not None:
            return code(functional, *operands)
        if isinstance(form, FunctionForm):
            if form.helper is not None:
                self.file.helper(form.helper)
            values = {name or "": self.value(e, name or "value") for name, e in planned.arguments}
            return code(form.template, *operands, **BOUNDS | values)
        if isinstance(form, ParameterForm):
            if form.helper is not None:
                self.file.helper(form.helper)
            own = {a.name for a in form.arguments}
            values = {name or "": self.value(e, name or "") for name, e in planned.arguments if name in own}
            return code(form.template, *operands, parameter=self.access(leaf), **values)
        return py.Call(self.access(leaf), tuple(operands))

    def recomputed(self, call: flows.Call, operands: Sequence[py.Expr]) -> py.Expr:
        """The call of layers that are recomputed together."""
        if recomputes_features(self.plan) and call.inputs[0] is self.flow.inputs[0]:
            return recomputing.of_features(self.file, list(map(self.access, call.leaves)))
        layers = [layer for leaf in call.leaves for layer in recomputing.layer(leaf, self.access)]
        return recomputing.recomputed(self.file, call, operands, layers)

    def declared(self, called: Leaf) -> Leaf:
        """The leaf that declares what another one calls."""
        names = [s.name for s in called.steps]
        for leaf in leaves(self.plan.entries):
            own = [s.name for s in leaf.steps]
            if leaf.steps[0].declares and (own == names if leaf.group is called.group else {*own} == {*names}):
                return leaf
        raise CannotMerge

    def value(self, expr: py.Expr, name: str = "") -> py.Expr:
        """An expression in `forward`: parameters are attributes there, and what is made of them is one itself."""
        used = set(ex.variables(expr))
        if not used or isinstance(expr, py.Var) or not name or any(map(self.made.scope.is_of_loop, used)):
            return ex.named(expr, self.names(expr))
        return self.made.attributes.store(name, expr)

    def names(self, expr: py.Expr) -> dict[str, str | py.Expr]:
        """The Python expressions of an expression's variables."""
        return {
            name: self.loop_names.get(name, "i")
            if self.made.scope.is_of_loop(name)
            else self.made.attributes.store_parameter(name)
            for name in ex.variables(expr)
        }

    def access(self, leaf: Leaf) -> py.Expr:
        """A member."""
        if leaf in self.loop_members:
            return self.loop_members[leaf]
        members, label = self.made.members, self.plan.made[leaf].name
        if leaf in members.by_path and any(not isinstance(p, str) for p in label):
            names: dict[str, str | py.Expr] = {}
            for piece in label:
                names |= self.names(piece) if not isinstance(piece, str) else {}
            form = self.plan.made[leaf].form
            if isinstance(form, ParameterForm) and form.made:
                return members.access_buffer(label, names)
            return members.access(label, names, isinstance(form, ParameterForm))
        return members.attributes[leaf]

    # ------------------------------------------------------------ statements

    def body(self, typed: set[str]) -> None:
        """The statements, in the end `return`; `typed` are variables that are known to be tensors."""
        found = self.composed.statements
        returned = self.returned()
        last = found[-1] if found else None
        self.statements(found[:-1])
        direct = self.returned_call(last) if last is not None and len(returned) == 1 else None
        if direct is not None and last is not None:
            self.code.add(py.Do(direct, "return", self.comment(last)))
            return
        self.statements(found[-1:])
        if len(returned) == 1 and isinstance(returned[0], py.Var) and returned[0].name not in typed:
            self.annotate(returned[0])
        result = returned[0] if len(returned) == 1 else py.Row(tuple(returned))
        if self.is_model and len(self.file.graph.outputs) > 1:
            result = call(self.result_type(), *returned)
        self.code.add(py.Do(result, "return"))

    def returned(self) -> list[py.Expr]:
        """The returned variables; outputs of training are None if the module does not train."""
        names = self.composed.names
        if not self.is_model or len(self.file.graph.outputs) < 2:
            return [self.whole(v, py.Var(names[v])) for v in self.flow.outputs]
        values = dict(zip(self.plan.cells[0].outputs, self.flow.outputs, strict=True))
        guarded = {v for s in self.composed.statements if isinstance(s, Training) for v in s.values}
        found: list[py.Expr] = []
        for output in self.file.graph.outputs:
            value = values[output.tensor]
            alone = output.training and value not in guarded
            result = self.whole(value, py.Var(names[value]))
            found.append(py.If(TRAINING, result, py.Const(None)) if alone else result)
        return found

    def whole(self, value: Value, expr: py.Expr) -> py.Expr:
        """A tensor, put together where it is a list of features."""
        return code("torch.cat({0}, 1)", expr) if value in self.composed.lists else expr

    def annotate(self, variable: py.Var) -> None:
        """Says the type of a variable where it is first set, for type checkers: modules return Any."""
        for found in walk(self.code.top):
            if isinstance(found, py.Assign) and (found.target, found.sign) == (variable, "="):
                found.annotation = found.annotation or TENSOR
                return

    def returned_call(self, statement: drafts.Statement) -> py.Expr | None:
        """The expression of a last statement, if it is known to be a tensor."""
        if not isinstance(statement, drafts.Assign) or statement.grows is not None:
            return None
        if statement.call.outputs != self.flow.outputs:
            return None
        found = self.expression(statement)
        return found if leftmost(found) in (py.Var("torch"), py.Var("F")) else None

    def statements(self, found: Iterable[drafts.Statement]) -> None:
        for statement in found:
            self.statement(statement)

    def statement(self, statement: drafts.Statement) -> None:
        names = self.composed.names
        match statement:
            case drafts.Assign():
                self.assign(statement)
            case Copy():
                targets = [py.Var(names[v]) for v in statement.targets]
                pairs = zip(statement.targets, statement.sources, strict=True)
                sources = [self.copied(a, b) for a, b in pairs]
                self.code.add(py.Assign(row(targets), row(sources)))
            case When():
                self.condition(statement)
            case Training():
                for value in statement.values:
                    self.code.add(py.Assign(py.Var(names[value]), py.Const(None), annotation=code("Tensor | None")))
                self.code.add(py.Branches([(TRAINING, self.block(statement.body))]))
            case Each():
                self.loop(statement)
            case Release():
                self.code.add(py.Do(row([py.Var(name) for name in statement.names]), "del"))

    def block(self, found: Iterable[drafts.Statement]) -> list[py.Statement]:
        """The statements of a block."""
        outside, self.code = self.code, Emitter()
        self.statements(found)
        inside, self.code = self.code, outside
        return inside.top

    def assign(self, statement: drafts.Assign) -> None:
        outputs = statement.call.outputs
        if not any(v.uses for v in outputs):
            self.expression(statement)  # its helper is in the file, and its numbers are attributes, all the same
            return
        comment = self.comment(statement)
        if statement.grows is not None:
            self.code.add(self.growth(statement, comment))
            return
        targets = [py.Var(self.composed.names[v] if v.uses else "_") for v in outputs]
        self.code.add(py.Assign(row(targets), self.expression(statement), comment=comment))

    def comment(self, statement: drafts.Statement) -> str:
        if not self.is_model or not isinstance(statement, drafts.Assign) or len(statement.call.outputs) != 1:
            return ""
        return self.file.sizes(statement.call.outputs[0])

    def operands(self, statement: drafts.Assign) -> list[py.Expr]:
        found: list[py.Expr] = []
        appends = self.appends(statement.call)
        for position, value in enumerate(statement.call.inputs):
            nested = statement.nested.get(value)
            operand = py.Var(self.composed.names[value]) if nested is None else self.expression(nested)
            if value in self.composed.lists and (appends is None or position):
                operand = py.Star(operand) if self.takes_features(statement.call) else self.whole(value, operand)
            found.append(operand)
        return found

    def expression(self, statement: drafts.Assign) -> py.Expr:
        operands = self.operands(statement)
        if self.appends(statement.call) is None:
            return self.call(statement.call, operands)
        features, new = operands
        return py.List((py.Star(features) if statement.call.inputs[0] in self.composed.lists else features, new))

    def growth(self, statement: drafts.Assign, comment: str) -> py.Statement:
        """A statement that adds to a tensor or list of features in place."""
        operands = self.operands(statement)
        if self.appends(statement.call) is not None:
            return py.Do(code("{0}.append({1})", *operands), comment=comment)
        form = self.plan.made[statement.call.leaf].form
        assert isinstance(form, FunctionForm) and statement.grows is not None
        merged = template_tree(form.template)
        assert isinstance(merged, py.Binary)
        at = statement.call.inputs.index(statement.grows)
        return py.Assign(operands[at], operands[1 - at], f"{merged.operator}=", comment=comment)

    def copied(self, target: Value, source: Value) -> py.Expr:
        variable = py.Var(self.composed.names[source])
        if target in self.composed.lists:
            return py.List((py.Star(variable) if source in self.composed.lists else variable,))
        return self.whole(source, variable)

    def takes_features(self, call: flows.Call) -> bool:
        """Whether a member takes the features that a dense connection has gathered one by one."""
        member = call.leaf.steps[0].member
        return isinstance(member, Cell) and member.grows

    def condition(self, statement: When) -> None:
        choice = statement.decision.choice
        branches: list[tuple[py.Expr | None, list[py.Statement]]] = []
        for number, branch in enumerate(statement.branches):
            condition = self.plan.conditions[choice][number]
            anew = self.made.scope.is_of_round(condition)
            test = self.value(condition) if anew else self.made.flags[choice][number]
            if branch or statement.otherwise or number + 1 < len(statement.branches):
                branches.append((test or (None if branches else py.Const(True)), self.block(branch)))
        if statement.otherwise:
            branches.append((None, self.block(statement.otherwise)))
        self.code.add(*([py.Branches(branches)] if branches else []))

    def loop(self, statement: Each) -> None:
        loop = statement.rounds.loop
        heading = self.plan.headings[loop]
        children = self.children(loop)
        if children is not None:
            self.loop_members[children] = py.Var("layer")
            target, source = self.loop_members[children], code("self.children()")
        else:
            used = self.used(loop)
            names: dict[str, str] = {}
            for variable in heading.variables:
                if variable.name in used:
                    base = "i" if variable is heading.index else variable.name.split("@")[0]
                    taken = {*self.composed.names.values(), *self.loop_names.values()}
                    own = self.made.scope.names.get(variable.name, identifier(base))
                    names[variable.name] = own if own not in taken else unique(identifier(base), taken)
            self.loop_names.update(names)
            target, source = loop_head(heading, names, self.value)
        self.code.add(py.For(target, source, self.block(statement.body)))

    def used(self, loop: Loop) -> set[str]:
        """The variables of loops that names of members and arguments of functions need in `forward`."""
        found = [*heads_within(self.plan, loop)]
        for leaf in leaves(loop.body):
            made = self.plan.made[leaf]
            if isinstance(made.form, FunctionForm | ParameterForm):
                found += made.values()
            if self.made.members.has_member(leaf) and not is_shared(self.plan, leaf):
                found += [piece for piece in made.name if not isinstance(piece, str)]
        return {name for expr in found for name in ex.variables(expr)}

    def children(self, loop: Loop) -> Leaf | None:
        """The one member of a loop's body, where the class has no others: its children are what the loop goes over."""
        if loop not in self.plan.entries or self.made.members.holders:
            return None
        inside = [leaf for leaf in leaves(loop.body) if self.made.members.has_member(leaf)]
        everything = [leaf for leaf in leaves(self.plan.entries) if self.made.members.has_member(leaf)]
        if len(inside) != 1 or everything != inside or inside[0] not in [e for e in loop.body if isinstance(e, Leaf)]:
            return None
        made = self.plan.made[inside[0]]
        if isinstance(made.form, ParameterForm) or all(isinstance(p, str) for p in made.name):
            return None
        if is_shared(self.plan, inside[0]):  # one child for all rounds
            return None
        functions = [leaf for leaf in leaves(loop.body) if isinstance(self.plan.made[leaf].form, FunctionForm)]
        return inside[0] if not any(self.plan.made[f].arguments for f in functions) else None


TRAINING = code("self.training")
BOUNDS: dict[str, py.Expr | None] = {"start": None, "stop": None}
"""Arguments that a template does without."""


def row(items: Sequence[py.Expr]) -> py.Expr:
    return items[0] if len(items) == 1 else py.Row(tuple(items))


def leftmost(expr: py.Expr) -> py.Expr:
    """The part of an expression that its text begins with."""
    while True:
        match expr:
            case ex.Item(base) | py.Attribute(base):
                expr = base
            case py.Binary(_, left):
                expr = left
            case py.Call(function):
                expr = function
            case _:
                return expr


def line_of(call: flows.Call) -> int:
    step = call.leaf.steps[0]
    member = step.member.way[0][1].member if isinstance(step.member, Borrowed) else step.member
    if isinstance(member, Reference):
        return member.use.span.line
    assert not isinstance(member, Borrowed)
    return member.span.line if isinstance(member, Node) else member.scope.span.line
