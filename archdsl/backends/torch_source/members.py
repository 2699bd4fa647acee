"""The members of a generated class, one way or another under the names that the state_dict has."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from archdsl.backends.python import tree as py
from archdsl.backends.python.printer import text
from archdsl.backends.python.templates import code
from archdsl.backends.python.tree import call
from archdsl.backends.torch_source.file import File
from archdsl.backends.torch_source.fold import Choice, Entry, Leaf, Loop
from archdsl.backends.torch_source.helpers import HOLDER_OF, MEMBER
from archdsl.backends.torch_source.layers import Layers, attribute_base, attribute_name
from archdsl.backends.torch_source.names import is_owned, unique
from archdsl.backends.torch_source.plainness import Plainness
from archdsl.backends.torch_source.plan import Made, Plan, has_weights, is_labelled, is_shared
from archdsl.backends.torch_source.rows import Parts, Row, alone, find_rows, is_list
from archdsl.backends.torch_source.scope import Scope, label_of
from archdsl.backends.torch_source.starts import filling, init_of, is_biased, is_statement, without
from archdsl.ops.forms import FunctionForm, ModuleForm, ParameterForm
from archdsl.ops.init import RULES

SELF = py.Var("self")


@dataclass(frozen=True, slots=True)
class Holder:
    """A module that holds members."""

    owner: py.Expr
    body: list[py.Statement]
    """The statements among which it is made."""


@dataclass(slots=True, eq=False)
class Members:
    """Gives members to a class."""

    file: File
    plan: Plan
    scope: Scope
    layers: Layers
    taken: set[str] = field(default_factory=set)
    """Attributes of the class."""
    attributes: dict[Leaf, py.Expr] = field(default_factory=dict)
    assigned: dict[str, str] = field(default_factory=dict)
    """The class of what an attribute was set to."""
    shared: dict[str, str] = field(default_factory=dict)
    """Attributes of modules without weights, by what they are."""
    by_path: set[Leaf] = field(default_factory=set)
    """Members that are no attributes."""
    holders: dict[py.Expr, list[Holder]] = field(default_factory=dict)
    """The modules that hold members with dots in their names, by their paths as written."""
    held: set[tuple[int, str]] = field(default_factory=set)
    """The paths of the holders that are made already, each with the call that has it."""
    is_dict: bool = False
    """Whether the class is an nn.ModuleDict: some member has a name that no attribute can have."""
    branches: dict[str, set[int]] = field(default_factory=dict)
    """See `branches_of`."""
    rows: Mapping[Leaf, Row] = field(default_factory=dict)
    """The members of lists, each with its list."""

    def has_member(self, leaf: Leaf) -> bool:
        made = self.plan.made[leaf]
        return not isinstance(made.form, FunctionForm) and self.functional(leaf) is None

    def has_weights(self, leaf: Leaf) -> bool:
        return self.has_member(leaf) and has_weights(self.plan.made[leaf])

    def functional(self, leaf: Leaf) -> str | None:
        """The method of a tensor that stands for a module in `forward`, where that is the custom."""
        made = self.plan.made[leaf]
        method = made.form.method if isinstance(made.form, ModuleForm) else None
        return method if self.plan.flow is not None and not is_labelled(leaf.steps[0]) else None

    def add(self, target: py.Expr, value: py.Expr) -> None:
        self.scope.code.add(py.Assign(target, value))

    def do(self, function: py.Expr, *arguments: py.Expr) -> None:
        self.scope.code.add(py.Do(py.Call(function, arguments)))

    def member(self, leaf: Leaf, condition: py.Expr | None = None) -> None:
        """One member: an attribute, or, where its name is none, a child of that name."""
        made = self.plan.made[leaf]
        if not self.has_member(leaf):
            return
        if isinstance(made.form, ParameterForm):
            self.weight(leaf, made)
            return
        if leaf in self.rows:
            if leaf is self.rows[leaf].leaves[0]:
                self.row(self.rows[leaf])
            return
        module = self.layers.module(leaf)
        kind = text(module.function) if isinstance(module, py.Call) else ""
        if condition is not None:
            module = py.If(condition, module, call("nn.Identity"))
        name = attribute_name(made.name)
        if is_shared(self.plan, leaf):
            self.share(leaf, module)
        elif name is None:
            self.child(leaf, made.name, module)
        else:
            self.attributes[leaf] = py.Attribute(SELF, name)
            if self.assigned.setdefault(name, kind) == kind:
                self.add(self.attributes[leaf], module)
            else:  # type checkers take an attribute for what it is set to first
                self.do(py.Attribute(SELF, "add_module"), py.Const(name), module)
            self.fill(leaf, made)

    def find_rows(self, entries: Sequence[Entry]) -> None:
        """Finds the lists of members among the entries of a class."""
        if self.file.plainness < Plainness.STRAIGHT:
            self.rows = find_rows(self.plan, entries, self.has_member)

    def row(self, row: Row) -> None:
        """Makes a list or a table of members, all at once."""
        attribute = py.Attribute(SELF, row.name)
        numbered = is_list(row.parts)
        for number, (name, part) in enumerate(row.parts.items()):
            leaf = part if isinstance(part, Leaf) else alone(part)
            if leaf is not None:
                self.attributes[leaf] = py.Item(attribute, py.Const(number if numbered else name))
        for leaf in row.leaves:
            if leaf not in self.attributes:  # type checkers take a list's element for any module, not for a list
                self.attributes[leaf] = self.access(self.plan.made[leaf].name, self.scope.names)
        value = self.parts(row.parts)
        assert isinstance(value, py.Call)
        self.assigned[row.name] = text(value.function)
        self.add(attribute, value)

    def parts(self, parts: Parts) -> py.Expr:
        """An nn.ModuleList or nn.ModuleDict of modules."""
        modules = {name: self.part(part) for name, part in parts.items()}
        if is_list(parts):
            return call("nn.ModuleList", py.List(tuple(modules.values())))
        return call("nn.ModuleDict", py.Dict(tuple(py.Pair(py.Const(n), module) for n, module in modules.items())))

    def part(self, part: Leaf | Parts) -> py.Expr:
        if isinstance(part, Leaf):
            return self.layers.module(part)
        only = alone(part)
        return self.parts(part) if only is None else call("nn.Sequential", self.layers.module(only))

    def fill(self, leaf: Leaf, made: Made) -> None:
        """The statements that fill the weight of an attribute, where the spec says how."""
        start = init_of(made)
        if start is None or not isinstance(made.form, ModuleForm):
            return
        if made.form.kind not in self.file.alike and is_statement(self.plan, leaf):
            member = self.attributes[leaf]
            self.scope.code.add(filling(start, py.Attribute(member, "weight"), self.scope.names))
            if is_biased(leaf):
                self.scope.code.add(without(py.Attribute(member, "bias")))

    def share(self, leaf: Leaf, module: py.Expr) -> None:
        """A member under any name: one for all that are alike, but in an nn.Sequential, which has an order."""
        written = text(module)
        if self.plan.flow is None or written not in self.shared or self.file.plainness >= Plainness.STRAIGHT:
            self.shared[written] = unique(attribute_base(leaf, self.plan.made[leaf]), self.taken)
            self.taken.add(self.shared[written])
            statement = py.Assign(py.Attribute(SELF, self.shared[written]), module)
            if self.plan.flow is None:
                self.scope.code.add(statement)
            else:
                self.scope.code.put_before(statement)
        self.attributes[leaf] = py.Attribute(SELF, self.shared[written])

    def child(self, leaf: Leaf, label: list[str | py.Expr], module: py.Expr) -> None:
        pieces = split_dots(label)
        self.by_path.add(leaf)
        self.add_child(self.holder(pieces[:-1], holder_paths(leaf)), pieces[-1], module)
        self.attributes[leaf] = self.access(label, self.scope.names)

    def holder(self, pieces: Sequence[Sequence[str | py.Expr]], paths: Sequence[Sequence[tuple[int, str]]]) -> py.Expr:
        """The module that holds a member with dots in its name; made if it does not exist yet.

        `paths` are those that the holders have where the code runs, each with the call that has it.
        """
        owner: py.Expr = SELF
        for i, piece in enumerate(pieces, 1):
            path = self.scope.label(joined(pieces[:i]))
            known = [h for h in self.holders.get(path, ()) if self.scope.code.is_open(h.body)]
            if known:
                owner = known[0].owner
                continue
            made = paths[i - 1]
            again = len(set(made)) < len(made) or not self.held.isdisjoint(made)
            self.held.update(made)
            owner = self.new_holder(owner, piece, again)
            self.holders.setdefault(path, []).append(Holder(owner, self.scope.code.body))
        return owner

    def new_holder(self, owner: py.Expr, piece: Sequence[str | py.Expr], again: bool) -> py.Expr:
        """Makes a holder; `again`: another round or branch may have made it."""
        name = attribute_name(piece)
        if not again and name is not None and is_own(owner):
            self.add(py.Attribute(owner, name), call("nn.Module"))
            return py.Attribute(owner, name)
        if again:
            self.file.helper(HOLDER_OF)
            return py.Var(self.scope.variable("holder", call("holder_of", owner, self.scope.label(piece))))
        holder = py.Var(self.scope.variable("holder", call("nn.Module")))
        self.add_child(owner, piece, holder)
        return holder

    def make_holders(self, entry: Entry) -> None:
        """Makes the holders of a loop, condition or member whose names are the same everywhere before it.

        One of a single branch is made in that branch.
        """
        passed: list[list[str]] = []
        weights = [name_of(leaf) for _, leaf in homes([entry]) if self.has_weights(leaf)]
        if entry in self.rows:
            return
        for branch, leaf in homes([entry]):
            for i, path in self.steady_holders(leaf):
                in_branch = isinstance(entry, Choice) and self.branches_of(path) == {branch}
                holder = name_of(leaf)[:i]
                has_weights = any(name[:i] == holder for name in weights)
                if not in_branch and not (has_weights and any(self.overtakes(holder, name) for name in passed)):
                    pieces = split_dots(self.plan.made[leaf].name)
                    calls = range(len(self.plan.cells))
                    paths = [[(call, ".".join(path.split(".")[:end])) for call in calls] for end in range(1, i + 1)]
                    self.holder(pieces[:i], paths)
            passed += [name_of(leaf)] if self.has_weights(leaf) else []

    def overtakes(self, holder: list[str], member: list[str]) -> bool:
        """Whether a holder made now would come before a member that precedes it in the state_dict."""
        shared = next((i for i, (a, b) in enumerate(zip(holder, member, strict=False)) if a != b), len(holder))
        return shared < len(holder) and (0, ".".join(holder[: shared + 1])) not in self.held

    def steady_holders(self, leaf: Leaf) -> Iterator[tuple[int, str]]:
        """The holders of a member that are called the same in every call: how many pieces they are, and their path."""
        made = self.plan.made.get(leaf)
        pieces = split_dots(made.name) if made is not None and self.has_member(leaf) else []
        for i in range(1, len(pieces)):
            texts = [p for p in joined(pieces[:i]) if isinstance(p, str)]
            if len(texts) == len(joined(pieces[:i])):
                yield i, "".join(texts)

    def branches_of(self, path: str) -> set[int]:
        """The branches of conditions in which the members of a holder are made, 0 for none."""
        if not self.branches:
            for branch, leaf in homes(self.plan.entries):
                for _, found in self.steady_holders(leaf):
                    self.branches.setdefault(found, set()).add(branch)
        return self.branches[path]

    def add_child(self, owner: py.Expr, name: Sequence[str | py.Expr], module: py.Expr) -> None:
        if is_hidden(name):
            self.add(py.Item(py.Attribute(owner, "_modules"), self.scope.label(name)), module)
        elif owner == SELF and self.plan.flow is not None:
            self.is_dict = True
            self.add(py.Item(SELF, self.scope.label(name)), module)
        else:
            self.do(py.Attribute(owner, "add_module"), self.scope.label(name), module)

    def access(
        self, label: Sequence[str | py.Expr], names: Mapping[str, str | py.Expr], is_parameter: bool = False
    ) -> py.Expr:
        """A member whose name is no attribute."""
        pieces = split_dots(label)
        if len(pieces) == 1 and self.plan.flow is not None and not (is_parameter or is_hidden(pieces[0])):
            return py.Item(SELF, label_of(label, names))
        if not any(map(is_hidden, pieces)):
            getter = "get_parameter" if is_parameter else "get_submodule"
            return call(py.Attribute(SELF, getter), label_of(label, names))
        path = pieces[:-1] if is_parameter else pieces
        owner: py.Expr = SELF
        if path:
            self.file.helper(MEMBER)
            owner = call("member", SELF, *(label_of(piece, names) for piece in path))
        if not is_parameter:
            return owner
        return code("dict({0}.named_parameters(recurse=False))[{1}]", owner, label_of(pieces[-1], names))

    def buffer(self, leaf: Leaf, made: Made, form: ParameterForm) -> None:
        """A member that is a buffer of fixed numbers."""
        self.file.helper(form.making)
        numbers = [self.scope.value(expr) for name, expr in made.arguments if name == "number"]
        parts = ", ".join(f"{{{i}}}" for i in range(len(numbers)))
        value = code(f"{form.made}({parts}, **kw)", *numbers)
        pieces = split_dots(made.name)
        owner = self.holder(pieces[:-1], holder_paths(leaf))
        self.by_path.add(leaf)
        self.do(py.Attribute(owner, "register_buffer"), self.scope.label(pieces[-1]), value)
        self.attributes[leaf] = self.access_buffer(made.name, self.scope.names)

    @staticmethod
    def access_buffer(label: Sequence[str | py.Expr], names: Mapping[str, str | py.Expr]) -> py.Expr:
        """A buffer, by a method: type checkers take the attribute for a module or a tensor."""
        return call(py.Attribute(SELF, "get_buffer"), label_of(label, names))

    def beginning(self, made: Made) -> py.Expr:
        """The tensor that a bare parameter starts from."""
        sizes = [self.scope.value(expr) for name, expr in made.arguments if name == "size"]
        fill = next((self.scope.value(expr) for name, expr in made.arguments if name == "fill"), None)
        parts = ", ".join(f"{{{i}}}" for i in range(len(sizes))) or "()"
        if fill is None:
            assert isinstance(made.form, ParameterForm) and made.form.start is not None
            std = self.scope.value(made.std) if made.std is not None else None
            return code(RULES[made.form.start.rule].call, code(f"torch.empty({parts}, **kw)", *sizes), std=std)
        function = {"1.0": f"torch.ones({parts}, **kw)", "0.0": f"torch.zeros({parts}, **kw)"}
        whole = parts if not sizes else f"({parts},)" if len(sizes) == 1 else f"({parts})"
        return code(function.get(text(fill), f"torch.full({whole}, {{fill}}, **kw)"), *sizes, fill=fill)

    def weight(self, leaf: Leaf, made: Made) -> None:
        """A member that is a bare parameter."""
        assert isinstance(made.form, ParameterForm)
        if made.form.made:
            self.buffer(leaf, made, made.form)
            return
        parameter = call("nn.Parameter", self.beginning(made))
        name = attribute_name(made.name)
        if name is not None:
            self.attributes[leaf] = py.Attribute(SELF, name)
            self.add(self.attributes[leaf], parameter)
            return
        pieces = split_dots(made.name)
        owner = self.holder(pieces[:-1], holder_paths(leaf))
        self.by_path.add(leaf)
        if is_hidden(pieces[-1]):
            self.add(py.Item(py.Attribute(owner, "_parameters"), self.scope.label(pieces[-1])), parameter)
        else:
            self.do(py.Attribute(owner, "register_parameter"), self.scope.label(pieces[-1]), parameter)
        self.attributes[leaf] = self.access(made.name, self.scope.names, True)


def is_hidden(name: Sequence[str | py.Expr]) -> bool:
    """Whether every module has an attribute of a member's name, so that the member is no attribute itself."""
    return len(name) == 1 and isinstance(name[0], str) and is_owned(name[0])


def is_own(owner: py.Expr) -> bool:
    """Whether it is the module itself, or an attribute of it."""
    while isinstance(owner, py.Attribute):
        owner = owner.base
    return owner == SELF


def holder_paths(leaf: Leaf) -> list[list[tuple[int, str]]]:
    """The paths of the modules that a member is in, the outermost first: one for each time that it is made."""
    rows = [(leaf.group.out(lane), step.name.split(".")) for lane, step in enumerate(leaf.steps)]
    return [[(call, ".".join(names[:i])) for call, names in rows] for i in range(1, len(rows[0][1]))]


def name_of(leaf: Leaf) -> list[str]:
    """The pieces of a member's path in its class, in the first call and round."""
    return leaf.steps[0].name.split(".")


def homes(entries: Sequence[Entry], branch: int = 0) -> Iterator[tuple[int, Leaf]]:
    """The leaves in order, each with the innermost branch of a condition that it is in, 0 for none."""
    for entry in entries:
        match entry:
            case Leaf():
                yield branch, entry
            case Loop():
                yield from homes(entry.body, branch)
            case Choice():
                for inner in entry.branches:
                    yield from homes(inner.body, id(inner))


def split_dots(label: Sequence[str | py.Expr]) -> list[list[str | py.Expr]]:
    """A path's pieces between its dots."""
    pieces: list[list[str | py.Expr]] = [[]]
    for part in label:
        if not isinstance(part, str):
            pieces[-1].append(part)
            continue
        first, *rest = part.split(".")
        if first:
            pieces[-1].append(first)
        pieces += [[text] if text else [] for text in rest]
    return pieces


def joined(pieces: Sequence[Sequence[str | py.Expr]]) -> list[str | py.Expr]:
    found: list[str | py.Expr] = []
    for piece in pieces:
        found += ["."] if found else []
        found += piece
    return found
