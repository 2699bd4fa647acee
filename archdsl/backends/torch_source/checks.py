"""The checks of the input's size that a generated model makes, where not every size is valid.

Where fewer sizes are valid while the network trains than in evaluation, each mode has its own checks.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from typing import Literal, TypeAlias

from archdsl import dims
from archdsl.backends.python import tree as py
from archdsl.backends.python.templates import code
from archdsl.backends.python.tree import call, joined
from archdsl.backends.torch_source.names import identifier, unique
from archdsl.dims import Choice, DimError, Region, SizeSet
from archdsl.dims.sets import number
from archdsl.graph import Graph, Tensor

SEARCH = 1 << 16
"""The longest way to a valid size on which a generated module looks for it."""


Mode: TypeAlias = Literal["", "training", "evaluation"]
"""The mode of which a check is; none for one that both modes have."""

InputAxis: TypeAlias = tuple[int, int]
"""Which input, and which of its axes, the batch counted."""


@dataclass(frozen=True, slots=True)
class SizeCheck:
    """A call of a checking function: `check_size("H", x.shape[2])`, or `check_size2(x.shape[2], x.shape[3])`.

    `size` is empty for one that looks at several sizes together.
    """

    function: str
    size: str
    places: tuple[InputAxis, ...]
    mode: Mode = ""

    def call(self, names: Sequence[str]) -> py.Statement:
        """The call, where the inputs have these names."""
        sizes = [code(f"{names[position]}.shape[{axis}]") for position, axis in self.places]
        return py.Do(call(self.function, *([py.Const(self.size)] if self.size else []), *sizes))


def check_calls(checks: Iterable[SizeCheck], names: Sequence[str]) -> list[py.Statement]:
    """The calls in `forward`, where the inputs have these names."""
    by_mode = {mode: [c.call(names) for c in alike] for mode, alike in groupby(checks, key=lambda c: c.mode)}
    training, evaluation = by_mode.get("training"), by_mode.get("evaluation")
    mode = code("self.training")
    branches: list[tuple[py.Expr | None, list[py.Statement]]] = [(mode, training)] if training else []
    if evaluation:
        branches.append((None if training else py.Not(mode), evaluation))
    return [*by_mode.get("", []), *([py.Branches(branches)] if branches else [])]


def size_checks(graph: Graph) -> tuple[list[py.Function], list[SizeCheck]]:
    """The functions that check sizes, and their calls: of both modes, of training, of evaluation."""
    made = _Checks(graph)
    axes = [
        (name, (position, axis))
        for position, node in enumerate(graph.input_nodes)
        for axis, size in enumerate(graph.shape(Tensor(node.id)), 1)
        if (name := dims.name_of(size))
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
    functions: list[py.Function] = field(default_factory=list)
    calls: list[SizeCheck] = field(default_factory=list)

    def of_size(self, size: str, place: InputAxis, valid: SizeSet, mode: Mode) -> None:
        if valid == SizeSet.everything():
            return
        key = valid, mode
        if key not in self.by_set:
            self.add(key, check_function(self.next_name, self.graph.name, valid, mode))
        self.call(key, size, (place,), mode)

    def of_choice(self, choice: Choice, places: Sequence[InputAxis], mode: Mode) -> None:
        key = tuple(choice.sets.items()), mode
        if key not in self.by_set:
            self.add(key, check_of_choice(self.next_name, self.graph.name, choice, mode))
        self.call(key, "", tuple(places), mode)

    @property
    def next_name(self) -> str:
        return f"check_size{len(self.functions) + 1 if self.functions else ''}"

    def add(self, key: tuple[object, ...], function: py.Function | None) -> None:
        self.by_set[key] = None if function is None else function.name
        self.functions += [] if function is None else [function]

    def call(self, key: tuple[object, ...], size: str, places: tuple[InputAxis, ...], mode: Mode) -> None:
        function = self.by_set[key]
        if function is not None:
            self.calls.append(SizeCheck(function, size, places, mode))


def check_function(name: str, model: str, valid: SizeSet, mode: Mode = "") -> py.Function | None:
    """The function for one set of sizes; None for a set that cannot be written down."""
    try:
        body, nearest = _of_progression(valid) or _of_any(valid)
    except DimError:
        return None
    words, during = valid.condition(), f" in {mode}" if mode else ""
    message = (f"{model}: ", py.Var("name"), f" must be {words}{during}, got ", py.Var("size"), *nearest)
    return py.Function(
        name,
        [py.Parameter("name", py.Var("str")), py.Parameter("size", py.Var("int"))],
        py.Const(None),
        [py.Doc(f"Raises ValueError unless a size of the input is {words}{during}."), *body, refusal(*message)],
    )


def refusal(*message: str | py.Expr) -> py.Statement:
    return py.Do(call("ValueError", py.Format(message)), "raise")


def returns_if(test: py.Expr) -> py.Statement:
    return py.Branches([(test, [py.Do(None, "return")])])


def check_of_choice(name: str, model: str, choice: Choice, mode: Mode) -> py.Function | None:
    """The function for sizes of which one at least has to be in its set; None where a set cannot be written down."""
    variables: dict[str, str] = {}
    for size in choice.sets:
        variables[size] = unique(identifier(size.lower()), variables.values())
    try:
        tests = [code(sizes.python(variables[size])) for size, sizes in choice.sets.items()]
    except DimError:
        return None
    during = f" in {mode}" if mode else ""
    got = [part for size, variable in variables.items() for part in (f", {size} = ", py.Var(variable))]
    got[0] = f"{model}: {choice.describe(' must be')}{during}, got {next(iter(variables))} = "
    return py.Function(
        name,
        [py.Parameter(variable, py.Var("int")) for variable in variables.values()],
        py.Const(None),
        [
            py.Doc(f"Raises ValueError unless {choice.describe(' is')}{during}."),
            returns_if(joined("or", tests)),
            refusal(*got),
        ],
    )


def _of_progression(valid: SizeSet) -> tuple[list[py.Statement], list[str | py.Expr]] | None:
    """The test of one residue from a minimum on, and the code for the nearest sizes; None for other sets."""
    if valid.progression is None:
        return None
    modulus, residue, minimum = valid.progression
    least, step = number(minimum), py.Const(modulus)
    size, below = py.Var("size"), py.Var("below")
    body = [returns_if(code(valid.python("size")))]
    if modulus == 1:
        return body, [f"; the nearest is {least}"]
    past = py.Binary("%", py.Binary("-", size, py.Const(residue)) if residue else size, step)
    near = py.Format(("are ", below, " and ", py.Binary("+", below, step)))
    body += [
        py.Assign(below, py.Binary("-", size, past)),
        py.Assign(py.Var("nearest"), py.If(py.Binary(">", size, py.Const(minimum)), near, py.Const(f"is {least}"))),
    ]
    return body, ["; the nearest ", py.Var("nearest")]


def _of_any(valid: SizeSet) -> tuple[list[py.Statement], list[str | py.Expr]]:
    """The test of any set, and the code for the nearest sizes, which are looked for one by one where none is far."""
    threshold, pattern, _ = valid.form
    fits = py.Function(
        "fits", [py.Parameter("n", py.Var("int"))], py.Var("bool"), [py.Do(code(valid.python("n")), "return")]
    )
    body: list[py.Statement] = [fits, returns_if(code("fits(size)"))]
    largest = valid.maximum or 0
    if max(threshold, pattern.modulus if pattern else largest) > SEARCH:
        return body, []
    start = code("size - 1") if pattern else code(f"min(size - 1, {largest})")
    end = code(f"max(size, {threshold}) + {pattern.modulus + 1}" if pattern else str(largest + 1))
    body += [
        py.Assign(py.Var("below"), code("next(filter(fits, range({start}, 0, -1)), None)", start=start)),
        py.Assign(py.Var("above"), code("next(filter(fits, range(size + 1, {end})), None)", end=end)),
        py.Assign(py.Var("near"), code("[str(n) for n in (below, above) if n is not None]")),
        py.Assign(py.Var("nearest"), code('("are " if len(near) > 1 else "is ") + " and ".join(near)')),
    ]
    return body, ["; the nearest ", py.Var("nearest")]
