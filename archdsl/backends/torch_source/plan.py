"""One class of the generated module: which calls it stands for, its parameters, and what its members become."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from archdsl.backends.torch_source.cells import Cell, Step
from archdsl.backends.torch_source.expressions import Binary, Const, Expr, Layer, Var, simplify, variables
from archdsl.backends.torch_source.flow import Flow
from archdsl.backends.torch_source.fold import Choice, Entry, Leaf, Loop, choices, leaves, loops
from archdsl.ops.forms import FunctionForm, ModuleForm, ParameterForm, TorchForm


@dataclass(slots=True, eq=False)
class Parameter:
    """An argument of the class's constructor, with its value in each call."""

    name: str
    values: list[object]
    default: Const | None = None
    free: set[int] = field(default_factory=set)
    """The calls in which any value will do."""

    @property
    def is_option(self) -> bool:
        """Whether it follows the others and is passed by name: a switch, or a class of modules."""
        return all(isinstance(v, bool | Layer) for v in self.values)


@dataclass(slots=True, eq=False)
class Made:
    """The code of a leaf: a constructor or template, and its arguments."""

    head: str
    arguments: list[tuple[str | None, Expr]]
    name: list[str | Expr]
    form: TorchForm | None = None
    plan: Plan | None = None
    std: Expr | None = None
    """The standard deviation that the weight is drawn with, where the spec says it."""
    layer: Expr | None = None
    """The expression for the module's class, if that is an argument."""

    def values(self) -> list[Expr]:
        """All values that it takes."""
        return [e for e in (*[e for _, e in self.arguments], self.std, self.layer) if e is not None]


@dataclass(slots=True, eq=False)
class Heading:
    """The head of a loop: how many rounds, the spec's own variables with what they go over, and further columns."""

    count: Expr
    index: Var
    names: list[Var] = field(default_factory=list)
    over: Expr | None = None
    columns: list[tuple[Var, Expr]] = field(default_factory=list)
    running: Running | None = None
    start: int = 0
    """The first value of the index."""

    @property
    def variables(self) -> list[Var]:
        """The variables that it sets."""
        return [self.index, *self.names, *(variable for variable, _ in self.columns)]

    def values(self) -> list[Expr]:
        """All values that it takes."""
        return [e for e in (self.count, self.over, *(e for _, e in self.columns)) if e is not None]

    def bounds(self) -> list[Expr]:
        """The arguments of `range`."""
        if not self.start:
            return [self.count]
        return [Const(self.start), simplify(Binary("+", self.count, Const(self.start)))]


@dataclass(slots=True, eq=False)
class Running:
    """A number that changes on the way, as the channels do: a variable of the constructor.

    It is `first` before the loop or condition, and the one of `after` at the end of a round or branch.
    """

    variable: Var
    first: Expr | None
    after: list[Expr | None]
    used: bool = False


@dataclass(slots=True, eq=False)
class Plan:
    """A class: the entries of its body, what flows between them (None for an nn.Sequential), and what each becomes."""

    cells: list[Cell]
    entries: list[Entry]
    flow: Flow | None
    name: str = ""
    parameters: list[Parameter] = field(default_factory=list)
    made: dict[Leaf, Made] = field(default_factory=dict)
    conditions: dict[Choice, list[Expr]] = field(default_factory=dict)
    headings: dict[Loop, Heading] = field(default_factory=dict)
    running: dict[Choice, list[Running]] = field(default_factory=dict)
    lets: dict[str, Expr] = field(default_factory=dict)
    """Values that the spec gives a name."""
    complete: bool = False
    """Whether it takes all parameters of its block, used or not: a class that is an argument of another."""
    output: Expr | None = None
    """The channels that come out, where they are a function of the parameters."""

    @property
    def doc(self) -> str | None:
        definition = self.cells[0].scope.definition
        return definition.syntax.doc if definition is not None else None


def is_labelled(step: Step) -> bool:
    return step.member.scope.labelled if isinstance(step.member, Cell) else step.member.labelled


def heads_within(plan: Plan, loop: Loop) -> Iterator[Expr]:
    """The values that loops and conditions in the body of a loop take."""
    for choice in choices(loop.body):
        yield from plan.conditions[choice]
    for inner in loops(loop.body):
        yield from plan.headings[inner].values()


def has_weights(made: Made) -> bool:
    """Whether the keys of the state_dict may depend on a member's name."""
    return not isinstance(made.form, ModuleForm) or made.form.factory


def is_shared(plan: Plan, leaf: Leaf) -> bool:
    """Whether a member may have any name, and be one with others like it."""
    made = plan.made[leaf]
    if not made.name:
        return True
    if plan.flow is None and leaf.group.in_loop:
        return False
    of_round = any("@" in name for e in made.values() for name in variables(e))
    return not (is_labelled(leaf.steps[0]) or has_weights(made) or of_round)


def is_needed(leaf: Leaf) -> bool:
    """Whether the keys of the state_dict depend on the member's name, or the spec labels it."""
    form = leaf.steps[0].form
    if isinstance(form, FunctionForm):
        return False
    return not isinstance(form, ModuleForm) or form.factory or is_labelled(leaf.steps[0])


def inner_cells(leaf: Leaf) -> list[Cell]:
    return [s.member for s in leaf.steps if isinstance(s.member, Cell)]


def helper_names(plans: Iterable[Plan]) -> set[str]:
    """The names of the classes and functions that the operations of these classes bring along."""
    steps = [step for plan in plans for leaf in leaves(plan.entries, inside=True) for step in leaf.steps]
    helpers = {s.form.helper for s in steps if s.form is not None} - {None}
    helpers |= {s.form.making for s in steps if isinstance(s.form, ParameterForm)}
    return {name for text in helpers for name in re.findall(r"^(?:class|def) (\w+)", text or "", re.MULTILINE)}
