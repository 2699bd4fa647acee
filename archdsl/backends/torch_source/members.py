"""The members of a generated class, one way or another under the names that the state_dict has."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from archdsl.backends.torch_source import layout
from archdsl.backends.torch_source.calls import Calls, attribute_base
from archdsl.backends.torch_source.expressions import Expr, quoted
from archdsl.backends.torch_source.fold import Choice, Entry, Leaf, Loop
from archdsl.backends.torch_source.names import identifier, is_attribute, is_owned, unique
from archdsl.backends.torch_source.plainness import Plainness
from archdsl.backends.torch_source.plan import Made, is_labelled
from archdsl.backends.torch_source.starts import call, is_biased, is_statement, way
from archdsl.backends.torch_source.text import HOLDER_OF, MEMBER, joined, split_dots, type_name
from archdsl.ops.base import FunctionForm, ModuleForm, ParameterForm


@dataclass(frozen=True, slots=True)
class Holder:
    """A module that members stand in: what it is called, within which loops and branches."""

    text: str
    blocks: list[int]


@dataclass(slots=True, eq=False)
class Members(Calls):
    """Gives members to a class."""

    taken: set[str] = field(default_factory=set)
    """Attributes of the class."""
    attributes: dict[Leaf, str] = field(default_factory=dict)
    assigned: dict[str, str] = field(default_factory=dict)
    """The class of what an attribute was set to."""
    shared: dict[str, str] = field(default_factory=dict)
    """Attributes of modules without weights, by what they are."""
    by_path: set[Leaf] = field(default_factory=set)
    """Members that are no attributes."""
    holders: dict[str, list[Holder]] = field(default_factory=dict)
    """Modules that members with dots in their names stand in, by their path as it is written."""
    held: set[tuple[int, str]] = field(default_factory=set)
    """The paths of the holders that are made already, each with the call that has it."""
    branches: dict[str, set[int]] = field(default_factory=dict)
    """See `branches_of`."""

    def has_member(self, leaf: Leaf) -> bool:
        made = self.plan.made[leaf]
        return not isinstance(made.form, FunctionForm) and self.functional(leaf) is None

    def functional(self, leaf: Leaf) -> str | None:
        """The method of a tensor that stands for a module in `forward`, where that is the custom."""
        made = self.plan.made[leaf]
        method = made.form.method if isinstance(made.form, ModuleForm) else None
        return method if self.plan.flow is not None and not is_labelled(leaf.steps[0]) else None

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
            self.fill(leaf, made)
        else:
            self.child(leaf, label, text)

    def fill(self, leaf: Leaf, made: Made) -> None:
        """The statements that fill the weight of an attribute, where the spec says how."""
        start = way(made)
        if start is None or not isinstance(made.form, ModuleForm):
            return
        if made.form.kind not in self.file.alike and is_statement(self.plan, leaf):
            self.line(call(start, f"{self.attributes[leaf]}.weight", self.names))
            if is_biased(leaf):
                self.line(f"nn.init.zeros_({self.attributes[leaf]}.bias)")

    def share(self, leaf: Leaf, text: str) -> None:
        """A member under any name: one for all that are alike, but in an nn.Sequential, which has an order."""
        if self.plan.flow is None or text not in self.shared or self.file.plainness >= Plainness.STRAIGHT:
            self.shared[text] = unique(attribute_base(leaf, self.plan.made[leaf]), self.taken)
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

    def child(self, leaf: Leaf, label: list[str | Expr], text: str) -> None:
        pieces = split_dots(label)
        self.by_path.add(leaf)
        self.add_child(self.holder(pieces[:-1], holder_paths(leaf)), pieces[-1], text)
        self.attributes[leaf] = self.access(label, self.names)

    def holder(self, pieces: Sequence[Sequence[str | Expr]], paths: Sequence[Sequence[tuple[int, str]]]) -> str:
        """The module that a member with dots in its name stands in; made where it is not there yet.

        `paths` are those that the holders have where the code runs, each with the call that has it.
        """
        owner = "self"
        for i, piece in enumerate(pieces, 1):
            path = self.label_text(joined(pieces[:i]))
            known = [h for h in self.holders.get(path, ()) if h.blocks == self.open_blocks[: len(h.blocks)]]
            if known:
                owner = known[0].text
                continue
            made = paths[i - 1]
            again = len(set(made)) < len(made) or not self.held.isdisjoint(made)
            self.held.update(made)
            owner = self.new_holder(owner, list(piece), again)
            self.holders.setdefault(path, []).append(Holder(owner, self.open_blocks))
        return owner

    def new_holder(self, owner: str, piece: list[str | Expr], again: bool) -> str:
        """Makes a holder; `again`: another round or branch may have made it."""
        name = piece[0] if len(piece) == 1 else None
        if not again and owner.startswith("self") and isinstance(name, str) and is_attribute(name):
            self.line(f"{owner}.{name} = nn.Module()")
            return f"{owner}.{name}"
        text = unique(identifier("holder"), self.locals)
        self.locals.add(text)
        if again:
            self.file.helper(HOLDER_OF)
            self.line(f"{text} = holder_of({owner}, {self.label_text(piece)})")
        else:
            self.line(f"{text} = nn.Module()")
            self.add_child(owner, piece, text)
        return text

    def make_holders(self, entry: Entry) -> None:
        """Makes the holders of a loop, condition or member whose names are the same everywhere before it.

        One of a single branch is made in that branch.
        """
        for branch, leaf in homes([entry]):
            for i, path in self.steady_holders(leaf):
                if not isinstance(entry, Choice) or self.branches_of(path) != {branch}:
                    pieces = split_dots(self.plan.made[leaf].name)
                    calls = range(len(self.plan.cells))
                    paths = [[(call, ".".join(path.split(".")[:end])) for call in calls] for end in range(1, i + 1)]
                    self.holder(pieces[:i], paths)

    def steady_holders(self, leaf: Leaf) -> Iterator[tuple[int, str]]:
        """The holders of a member that are called the same in every call: how many pieces they are, and their path."""
        made = self.plan.made.get(leaf)
        pieces = split_dots(made.name) if made is not None else []
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
        owner = self.holder(pieces[:-1], holder_paths(leaf))
        self.by_path.add(leaf)
        name = pieces[-1]
        if len(name) == 1 and isinstance(name[0], str) and is_owned(name[0]):
            self.line(f"{owner}._parameters[{quoted(name[0])}] = {value}")
        else:
            self.line(f"{owner}.register_parameter({self.label_text(name)}, {value})")
        self.attributes[leaf] = self.access(label, self.names, True)


def holder_paths(leaf: Leaf) -> list[list[tuple[int, str]]]:
    """The paths of the modules that a member stands in, the outermost first: one for each time that it is made."""
    rows = [(leaf.group.out(lane), step.name.split(".")) for lane, step in enumerate(leaf.steps)]
    return [[(call, ".".join(names[:i])) for call, names in rows] for i in range(1, len(rows[0][1]))]


def homes(entries: Sequence[Entry], branch: int = 0) -> Iterator[tuple[int, Leaf]]:
    """The leaves in order, each with the innermost branch of a condition that it stands in, 0 for none."""
    for entry in entries:
        match entry:
            case Leaf():
                yield branch, entry
            case Loop():
                yield from homes(entry.body, branch)
            case Choice():
                for inner in entry.branches:
                    yield from homes(inner.body, id(inner))
