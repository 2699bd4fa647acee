"""The `forward` of a generated class."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from archdsl.backends.torch_source import expressions as ex
from archdsl.backends.torch_source import layout
from archdsl.backends.torch_source.cells import Cell, Step
from archdsl.backends.torch_source.checks import check_lines
from archdsl.backends.torch_source.constructor import Constructor
from archdsl.backends.torch_source.expressions import Expr, Var
from archdsl.backends.torch_source.flow import Call, Value
from archdsl.backends.torch_source.fold import Leaf, Loop, choices, leaves, loops
from archdsl.backends.torch_source.names import identifier, unique
from archdsl.backends.torch_source.plainness import Plainness
from archdsl.backends.torch_source.plan import is_labelled
from archdsl.backends.torch_source.statements import Assign, Copy, Each, Statement, Training, When
from archdsl.backends.torch_source.text import atom, fill, loop_header
from archdsl.backends.torch_source.variables import Composer, Layout
from archdsl.graph import Node
from archdsl.ops.base import FunctionForm, ParameterForm


@dataclass(slots=True, eq=False)
class Forward:
    """Writes a `forward`, once the constructor has named the members."""

    constructor: Constructor
    loop_names: dict[str, str] = field(default_factory=dict)
    """What variables of loops are called."""
    loop_members: dict[Leaf, str] = field(default_factory=dict)
    """Members that a loop goes over."""
    composed: Layout = field(default_factory=lambda: Layout([], {}))
    lines: list[str] = field(default_factory=list)
    depth: int = 8

    def run(self) -> list[str]:
        """The method, as lines."""
        made = self.constructor
        if made.plan.flow is None:
            return self.of_sequence()
        names = self.input_names()
        self.composed = Composer(
            made.plan.flow,
            line_of,
            self.call_length,
            self.grown,
            self.variable_label,
            made.file.globals,
            names,
            self.appends,
            self.training_values(),
            self.output_names(),
            straight=made.file.plainness >= Plainness.STRAIGHT,
        ).run()
        parts = self.features_line(names[0])
        signature = ", ".join(["self", *[f"{n}: Tensor" for n in (["*features"] if parts else names)]])
        head = layout.header(f"def forward({signature}) -> {self.result_type()}:", 4)
        return [*self.decorator(), *head, *self.check_lines(names), *parts, *self.body(set(names))]

    def decorator(self) -> list[str]:
        return ["    @recomputed"] if self.recomputed else []

    @property
    def recomputed(self) -> bool:
        return self.constructor.plan.cells[0].recomputed

    def features_line(self, name: str) -> list[str]:
        """Where the body of a dense connection puts the features together that flow in one by one."""
        grows = self.recomputed and self.constructor.file.recompute.grown
        return [f"        {name} = torch.cat(features, 1)"] if grows else []

    def grown(self, call: Call) -> Sequence[Value]:
        """The operands that an addition or subtraction may add to, in all calls, the best one first."""
        nodes = [s.member for s in call.leaf.steps]
        rows = [self.constructor.file.overwriting.grows(n) for n in nodes if isinstance(n, Node)]
        places = [p for p in rows[0] if all(p in row for row in rows)] if len(rows) == len(nodes) else []
        if not places or call.inputs[0] is call.inputs[1]:
            return []
        return [call.inputs[p] for p in places]

    def appends(self, call: Call) -> bool | None:
        """Whether a concat adds to a list of features that nothing reads any more behind it; None for other calls."""
        file = self.constructor.file
        nodes = [s.member for s in call.leaf.steps]
        if not all(n in file.recompute.grown for n in nodes):
            return None
        last = file.overwriting.last_reader
        return file.overwriting.allowed and all(isinstance(n, Node) and last[n.inputs[0]] == n.id for n in nodes)

    def of_sequence(self) -> list[str]:
        """That of a model that is an nn.Sequential, where it has to check its input."""
        checks = self.check_lines(["input"])
        parts = self.features_line("x")
        if not (checks or self.recomputed):
            return []
        name = "x" if parts else "input"
        signature = "*features" if parts else name
        lines = [*self.decorator(), f"    def forward(self, {signature}: Tensor) -> Tensor:", *checks, *parts]
        # nn.Sequential's own forward has no types, so that strict type checkers refuse a call of it.
        return [*lines, "        for layer in self:", f"            {name} = layer({name})", f"        return {name}"]

    def check_lines(self, names: Sequence[str]) -> list[str]:
        """The calls that check the sizes of the model's input."""
        if not self.constructor.is_model:
            return []
        return check_lines(self.constructor.file.checks, names)

    def output_names(self) -> list[str | None]:
        """The names of the model's outputs, one for each value that flows out."""
        if not self.constructor.is_model or len(self.constructor.file.graph.outputs) < 2:
            return []
        by_tensor = {o.tensor: o.name for o in reversed(self.constructor.file.graph.outputs)}
        found: list[str | None] = []
        for tensor in self.constructor.plan.cells[0].outputs:
            name = by_tensor[tensor]
            wanted = identifier(name.strip("_")) if name is not None and name.strip("_") else None
            found.append(wanted if wanted not in self.constructor.file.globals else None)
        return found

    def training_values(self) -> list[Value]:
        flow = self.constructor.plan.flow
        assert flow is not None
        if not self.constructor.is_model:
            return []
        always = {o.tensor for o in self.constructor.file.graph.outputs if not o.training}
        pairs = zip(self.constructor.plan.cells[0].outputs, flow.outputs, strict=True)
        return [value for tensor, value in pairs if tensor not in always]

    def result_type(self) -> str:
        flow = self.constructor.plan.flow
        assert flow is not None
        count = len(flow.outputs)
        if self.constructor.is_model and (count > 1 or len(self.constructor.file.graph.outputs) > 1):
            return self.constructor.file.output_class
        return "Tensor" if count == 1 else f"tuple[{', '.join(['Tensor'] * count)}]"

    def input_names(self) -> list[str]:
        cell = self.constructor.plan.cells[0]
        found: list[str] = []
        reserved = self.constructor.file.globals
        for name in cell.input_names:
            base = identifier(name) if name and (len(cell.input_names) > 1) else "x"
            found.append(unique(base, {*found, *reserved}))
        return found

    def variable_label(self, call: Call) -> str | None:
        step = call.leaf.steps[0]
        if not is_labelled(step) or any(s.name != step.name for s in call.leaf.steps):
            return None
        name = step.name
        free = name.isidentifier() and name.isascii() and not name.startswith("_")
        return name if free and name not in self.constructor.file.globals else None

    # ------------------------------------------------------------ calls

    def call_length(self, call: Call) -> int:
        return len(self.call_parts(call, [("x", "atom")] * len(call.inputs))[0])

    def call_parts(self, call: Call, operands: Sequence[tuple[str, str]]) -> tuple[str, str]:
        """The call of a member or function, with the precedence of its text."""
        made = self.constructor.plan.made[call.leaf]
        form = made.form
        functional = self.constructor.functional(call.leaf)
        if functional is not None:
            return functional.format(atom(operands[0])), "atom"
        if isinstance(form, FunctionForm):
            if form.helper is not None:
                self.constructor.file.helper(form.helper)
            values = {name or "": self.forward_text(e, name or "value") for name, e in made.arguments}
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
        text = self.constructor.text(expr)
        for attribute, stored in self.constructor.stored.items():
            if stored == text:
                return f"self.{attribute}"
        attribute = unique(name, self.constructor.taken)
        self.constructor.taken.add(attribute)
        self.constructor.stored[attribute] = text
        return f"self.{attribute}"

    def is_of_loop(self, name: str) -> bool:
        return "@" in name and name not in self.constructor.running_names

    def forward_names(self, expr: Expr) -> dict[str, str]:
        names: dict[str, str] = {}
        for name in ex.variables(expr):
            if "@" in name and name not in self.constructor.running_names:
                names[name] = self.loop_names.get(name, "i")
            else:
                names[name] = f"self.{self.constructor.store_parameter(name)}"
        return names

    def forward_access(self, leaf: Leaf) -> str:
        if leaf in self.loop_members:
            return self.loop_members[leaf]
        label = self.constructor.plan.made[leaf].name
        if leaf in self.constructor.by_path and any(not isinstance(p, str) for p in label):
            names: dict[str, str] = {}
            for piece in label:
                if not isinstance(piece, str):
                    names.update(self.forward_names(piece))
            is_parameter = isinstance(self.constructor.plan.made[leaf].form, ParameterForm)
            return self.constructor.access(label, names, is_parameter)
        return self.constructor.attributes.get(leaf, "self.x")

    # ------------------------------------------------------------ statements

    def body(self, typed: set[str]) -> list[str]:
        flow = self.constructor.plan.flow
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
        if len(returned) == 1 and returned[0] not in typed:
            self.annotate(returned[0])
        result = ", ".join(returned)
        if self.constructor.is_model and len(self.constructor.file.graph.outputs) > 1:
            result = f"{self.result_type()}({result})"
        self.lines += layout.statement(f"return {result}", self.depth)
        return self.lines

    def returned(self) -> list[str]:
        """What is given back: variables, those of training None where the module does not train."""
        flow = self.constructor.plan.flow
        assert flow is not None
        names = self.composed.names
        if not self.constructor.is_model or len(self.constructor.file.graph.outputs) < 2:
            return [self.whole(v, names[v]) for v in flow.outputs]
        values = dict(zip(self.constructor.plan.cells[0].outputs, flow.outputs, strict=True))
        guarded = {v for s in self.composed.statements if isinstance(s, Training) for v in s.values}
        found: list[str] = []
        for output in self.constructor.file.graph.outputs:
            value = values[output.tensor]
            alone = output.training and value not in guarded
            text = self.whole(value, names[value])
            found.append(f"{text} if self.training else None" if alone else text)
        return found

    def whole(self, value: Value, text: str) -> str:
        """A tensor, put together where it is a list of features."""
        return f"torch.cat({text}, 1)" if value in self.composed.lists else text

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
        flow = self.constructor.plan.flow
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
                pairs = zip(statement.targets, statement.sources, strict=True)
                self.line(f"{targets} = {', '.join(self.copied(a, b) for a, b in pairs)}", statement)
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
        if not self.constructor.is_model or not isinstance(statement, Assign) or len(statement.call.outputs) != 1:
            return ""
        return self.constructor.file.sizes(statement.call.outputs[0])

    def expression(self, statement: Assign) -> tuple[str, str]:
        names = self.composed.names
        appends = self.appends(statement.call)
        operands: list[tuple[str, str]] = []
        for position, value in enumerate(statement.call.inputs):
            nested = statement.nested.get(value)
            operand = (names[value], "atom") if nested is None else self.expression(nested)
            if value in self.composed.lists and (appends is None or position):
                text = operand[0]
                operand = (f"*{text}" if self.takes_features(statement.call) else self.whole(value, text), "atom")
            operands.append(operand)
        if appends is not None:
            (features, _), (new, _) = operands
            if statement.grows is not None:
                return f"{features}.append({new})", "atom"
            return f"[{'*' if statement.call.inputs[0] in self.composed.lists else ''}{features}, {new}]", "atom"
        if statement.grows is not None:
            at = statement.call.inputs.index(statement.grows)
            form = self.constructor.plan.made[statement.call.leaf].form
            assert isinstance(form, FunctionForm)
            sign = "-=" if " - " in form.template else "+="
            other = operands[1 - at]
            return f"{operands[at][0]} {sign} {other[0]}", "sum"
        return self.call_parts(statement.call, operands)

    def copied(self, target: Value, source: Value) -> str:
        name = self.composed.names[source]
        if target in self.composed.lists:
            return f"[{'*' if source in self.composed.lists else ''}{name}]"
        return self.whole(source, name)

    def takes_features(self, call: Call) -> bool:
        """Whether a member takes the features that a dense connection has gathered one by one."""
        member = call.leaf.steps[0].member
        return isinstance(member, Cell) and member.recomputed and bool(self.constructor.file.recompute.grown)

    def condition(self, statement: When) -> None:
        choice = statement.decision.choice
        flags = self.constructor.flags[choice]
        first = True
        for number, branch in enumerate(statement.branches):
            condition = self.constructor.plan.conditions[choice][number]
            in_loop = any(map(self.is_of_loop, ex.variables(condition)))
            test = self.forward_text(condition) if in_loop else flags[number]
            if not (branch or statement.otherwise) and number + 1 == len(statement.branches):
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
        if statement.otherwise:
            self.lines.append(" " * self.depth + "else:")
            self.depth += 4
            self.statements(statement.otherwise)
            self.depth -= 4

    def loop(self, statement: Each) -> None:
        loop = statement.rounds.loop
        heading = self.constructor.plan.headings[loop]
        children = self.children(loop)
        if children is not None:
            self.loop_members[children] = "layer"
            self.lines += layout.header("for layer in self.children():", self.depth)
        else:
            used = self.used(loop)
            names: dict[str, str] = {}
            for variable in (heading.index, *heading.names, *[v for v, _ in heading.columns]):
                if variable.name in used:
                    base = "i" if variable is heading.index else variable.name.split("@")[0]
                    taken = {*self.composed.names.values(), *self.loop_names.values()}
                    own = self.constructor.names.get(variable.name, identifier(base))
                    names[variable.name] = own if own not in taken else unique(identifier(base), taken)
            self.loop_names.update(names)
            self.lines += layout.header(f"for {loop_header(heading, names, self.forward_text)}:", self.depth)
        self.depth += 4
        self.statements(statement.body)
        self.depth -= 4

    def used(self, loop: Loop) -> set[str]:
        """The variables of loops that names of members and arguments of functions need in `forward`."""
        found: set[str] = set()
        for leaf in leaves(loop.body):
            made = self.constructor.plan.made[leaf]
            for piece in made.name:
                if (
                    not isinstance(piece, str)
                    and self.constructor.has_member(leaf)
                    and not self.constructor.is_shared(leaf)
                ):
                    found.update(ex.variables(piece))
            if isinstance(made.form, FunctionForm):
                for _, expr in made.arguments:
                    found.update(ex.variables(expr))
        for inner in loops(loop.body):
            heading = self.constructor.plan.headings[inner]
            for over in (heading.count, heading.over, *[e for _, e in heading.columns]):
                found.update(ex.variables(over) if over is not None else ())
        for choice in choices(loop.body):
            found.update(n for condition in self.constructor.plan.conditions[choice] for n in ex.variables(condition))
        return found

    def children(self, loop: Loop) -> Leaf | None:
        """The one member of a loop's body, where the class has no others: its children are what the loop goes over."""
        if loop not in self.constructor.plan.entries or self.constructor.holders:
            return None
        inside = [leaf for leaf in leaves(loop.body) if self.constructor.has_member(leaf)]
        everything = [leaf for leaf in leaves(self.constructor.plan.entries) if self.constructor.has_member(leaf)]
        if len(inside) != 1 or everything != inside or inside[0] not in [e for e in loop.body if isinstance(e, Leaf)]:
            return None
        made = self.constructor.plan.made[inside[0]]
        if isinstance(made.form, ParameterForm) or all(isinstance(p, str) for p in made.name):
            return None
        if self.constructor.is_shared(inside[0]):  # one child for all rounds
            return None
        functions = [
            leaf for leaf in leaves(loop.body) if isinstance(self.constructor.plan.made[leaf].form, FunctionForm)
        ]
        return inside[0] if not any(self.constructor.plan.made[f].arguments for f in functions) else None


def line_of(call: Call) -> int:
    step: Step = call.leaf.steps[0]
    member = step.member
    return member.span.line if isinstance(member, Node) else member.scope.span.line
