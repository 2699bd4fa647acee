"""The checks of the input's size that a generated model makes, where not every size is valid.

Where fewer sizes are valid while the network trains than in evaluation, each mode has its own checks.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from typing import Literal, TypeAlias

from archdsl import dims
from archdsl.backends.python.templates import code
from archdsl.backends.python.tree import (
    Assign,
    Binary,
    Branches,
    Const,
    Do,
    Doc,
    Expr,
    Format,
    Function,
    If,
    Not,
    Parameter,
    Statement,
    Var,
    call,
    joined,
)
from archdsl.backends.torch_source.names import identifier, unique
from archdsl.dims import Choice, DimError, Region, SizeSet
from archdsl.dims.sets import number
from archdsl.graph import Graph, Tensor

SEARCH = 1 << 16
"""The longest way to a valid size on which a generated module looks for it."""


Mode: TypeAlias = Literal["", "training", "evaluation"]
"""The mode of which a check is; none for one that both modes have."""

Place: TypeAlias = tuple[int, int]
"""Which input, and which of its axes, the batch counted."""


@dataclass(frozen=True, slots=True)
class SizeCheck:
    """A call of a checking function: `check_size("H", x.shape[2])`, or `check_size2(x.shape[2], x.shape[3])`.

    `size` is empty for one that looks at several sizes together.
    """

    function: str
    size: str
    places: tuple[Place, ...]
    mode: Mode = ""

    def call(self, names: Sequence[str]) -> Statement:
        """The call, where the inputs have these names."""
        sizes = [code(f"{names[position]}.shape[{axis}]") for position, axis in self.places]
        return Do(call(self.function, *([Const(self.size)] if self.size else []), *sizes))


def check_calls(checks: Iterable[SizeCheck], names: Sequence[str]) -> list[Statement]:
    """The calls in `forward`, where the inputs have these names."""
    by_mode = {mode: [c.call(names) for c in alike] for mode, alike in groupby(checks, key=lambda c: c.mode)}
    training, evaluation = by_mode.get("training"), by_mode.get("evaluation")
    mode = code("self.training")
    branches: list[tuple[Expr | None, list[Statement]]] = [(mode, training)] if training else []
    if evaluation:
        branches.append((None if training else Not(mode), evaluation))
    return [*by_mode.get("", []), *([Branches(branches)] if branches else [])]


def size_checks(graph: Graph) -> tuple[list[Function], list[SizeCheck]]:
    """The functions that check sizes, and their calls: of both modes, of training, of evaluation."""
    made = _Checks(graph)
    axes = [
        (size.variable, (position, axis))
        for position, node in enumerate(graph.input_nodes)
        for axis, size in enumerate(graph.shape(Tensor(node.id)), 1)
        if isinstance(size, dims.Expr) and size == dims.free(size.variable)
    ]
    first = dict(reversed(axes))
    training, evaluation = graph.always, graph.sizes
    modes: tuple[tuple[Mode, Region], ...] = (("", evaluation), ("training", training), ("evaluation", evaluation))
    for mode, region in modes:
        # What both modes ask alike is asked once.
        for size, place in axes:
            if (training[size] == evaluation[size]) == (not mode):
                made.of_size(size, place, region[size], mode)
        for choice in region.choices:
            if (choice in training.choices and choice in evaluation.choices) == (not mode):
                made.of_choice(choice, [first[name] for name in choice.sets], mode)
    return made.functions, made.calls


@dataclass(slots=True, eq=False)
class _Checks:
    """Makes the functions, one for each set and mode, and their calls."""

    graph: Graph
    by_set: dict[tuple[object, ...], str | None] = field(default_factory=dict)
    functions: list[Function] = field(default_factory=list)
    calls: list[SizeCheck] = field(default_factory=list)

    def of_size(self, size: str, place: Place, valid: SizeSet, mode: Mode) -> None:
        if valid == SizeSet.everything():
            return
        key = valid, mode
        if key not in self.by_set:
            self.add(key, check_function(self.next_name, self.graph.name, valid, mode))
        self.call(key, size, (place,), mode)

    def of_choice(self, choice: Choice, places: Sequence[Place], mode: Mode) -> None:
        key = tuple(choice.sets.items()), mode
        if key not in self.by_set:
            self.add(key, check_of_choice(self.next_name, self.graph.name, choice, mode))
        self.call(key, "", tuple(places), mode)

    @property
    def next_name(self) -> str:
        return f"check_size{len(self.functions) + 1 if self.functions else ''}"

    def add(self, key: tuple[object, ...], function: Function | None) -> None:
        self.by_set[key] = None if function is None else function.name
        self.functions += [] if function is None else [function]

    def call(self, key: tuple[object, ...], size: str, places: tuple[Place, ...], mode: Mode) -> None:
        function = self.by_set[key]
        if function is not None:
            self.calls.append(SizeCheck(function, size, places, mode))


def check_function(name: str, model: str, valid: SizeSet, mode: Mode = "") -> Function | None:
    """The function for one set of sizes; None for a set that cannot be written down."""
    try:
        body, nearest = _of_progression(valid) or _of_any(valid)
    except DimError:
        return None
    words, during = valid.condition(), f" in {mode}" if mode else ""
    message = (f"{model}: ", Var("name"), f" must be {words}{during}, got ", Var("size"), *nearest)
    return Function(
        name,
        [Parameter("name", Var("str")), Parameter("size", Var("int"))],
        Const(None),
        [Doc(f"Raises ValueError unless a size of the input is {words}{during}."), *body, refusal(*message)],
    )


def refusal(*message: str | Expr) -> Statement:
    return Do(call("ValueError", Format(message)), "raise")


def returns_if(test: Expr) -> Statement:
    return Branches([(test, [Do(None, "return")])])


def check_of_choice(name: str, model: str, choice: Choice, mode: Mode) -> Function | None:
    """The function for sizes of which one at least has to be in its set; None where a set cannot be written down."""
    variables: dict[str, str] = {}
    for size in choice.sets:
        variables[size] = unique(identifier(size.lower()), variables.values())
    try:
        tests = [code(sizes.python(variables[size])) for size, sizes in choice.sets.items()]
    except DimError:
        return None
    during = f" in {mode}" if mode else ""
    got = [part for size, variable in variables.items() for part in (f", {size} = ", Var(variable))]
    got[0] = f"{model}: {choice.describe(' must be')}{during}, got {next(iter(variables))} = "
    return Function(
        name,
        [Parameter(variable, Var("int")) for variable in variables.values()],
        Const(None),
        [
            Doc(f"Raises ValueError unless {choice.describe(' is')}{during}."),
            returns_if(joined("or", tests)),
            refusal(*got),
        ],
    )


def _of_progression(valid: SizeSet) -> tuple[list[Statement], list[str | Expr]] | None:
    """The test of one residue from a minimum on, and what tells the nearest sizes; None for other sets."""
    if valid.progression is None:
        return None
    modulus, residue, minimum = valid.progression
    least, step = number(minimum), Const(modulus)
    size, below = Var("size"), Var("below")
    body = [returns_if(code(valid.python("size")))]
    if modulus == 1:
        return body, [f"; the nearest is {least}"]
    past = Binary("%", Binary("-", size, Const(residue)) if residue else size, step)
    near = Format(("are ", below, " and ", Binary("+", below, step)))
    body += [
        Assign(below, Binary("-", size, past)),
        Assign(Var("nearest"), If(Binary(">", size, Const(minimum)), near, Const(f"is {least}"))),
    ]
    return body, ["; the nearest ", Var("nearest")]


def _of_any(valid: SizeSet) -> tuple[list[Statement], list[str | Expr]]:
    """The test of any set, and what tells the nearest sizes, which are looked for one by one where none is far."""
    threshold, pattern, _ = valid.form
    fits = Function("fits", [Parameter("n", Var("int"))], Var("bool"), [Do(code(valid.python("n")), "return")])
    body: list[Statement] = [fits, returns_if(code("fits(size)"))]
    largest = valid.maximum or 0
    if max(threshold, pattern.modulus if pattern else largest) > SEARCH:
        return body, []
    start = code("size - 1") if pattern else code(f"min(size - 1, {largest})")
    end = code(f"max(size, {threshold}) + {pattern.modulus + 1}" if pattern else str(largest + 1))
    body += [
        Assign(Var("below"), code("next(filter(fits, range({start}, 0, -1)), None)", start=start)),
        Assign(Var("above"), code("next(filter(fits, range(size + 1, {end})), None)", end=end)),
        Assign(Var("near"), code("[str(n) for n in (below, above) if n is not None]")),
        Assign(Var("nearest"), code('("are " if len(near) > 1 else "is ") + " and ".join(near)')),
    ]
    return body, ["; the nearest ", Var("nearest")]
