"""The checks of the input's size that a generated model makes, where not every size is valid.

Where fewer sizes are valid while the network trains than in evaluation, each mode has its own checks.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from typing import Literal, TypeAlias

from archdsl import dims
from archdsl.backends.torch_source import layout
from archdsl.backends.torch_source.expressions import quoted
from archdsl.backends.torch_source.names import identifier, unique
from archdsl.dims import Choice, DimError, Expr, Region, SizeSet
from archdsl.dims.sets import literal, number
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

    def call(self, names: Sequence[str]) -> str:
        """The call, where the inputs have these names."""
        sizes = [f"{names[position]}.shape[{axis}]" for position, axis in self.places]
        return f"{self.function}({', '.join([*([quoted(self.size)] if self.size else []), *sizes])})"


def check_lines(checks: Iterable[SizeCheck], names: Sequence[str]) -> list[str]:
    """The calls in `forward`, where the inputs have these names."""
    by_mode = {mode: [c.call(names) for c in alike] for mode, alike in groupby(checks, key=lambda c: c.mode)}
    lines = [line for call in by_mode.get("", []) for line in layout.statement(call, 8)]
    training, evaluation = by_mode.get("training", []), by_mode.get("evaluation", [])
    if training:
        lines += ["        if self.training:", *(line for call in training for line in layout.statement(call, 12))]
    if evaluation:
        head = "        else:" if training else "        if not self.training:"
        lines += [head, *(line for call in evaluation for line in layout.statement(call, 12))]
    return lines


def size_checks(graph: Graph) -> tuple[list[list[str]], list[SizeCheck]]:
    """The functions that check sizes, as lines, and their calls: of both modes, of training, of evaluation."""
    made = _Checks(graph)
    axes = [
        (size.variable, (position, axis))
        for position, node in enumerate(graph.input_nodes)
        for axis, size in enumerate(graph.shape(Tensor(node.id)), 1)
        if isinstance(size, Expr) and size == dims.free(size.variable)
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
    return made.sources, made.calls


@dataclass(slots=True, eq=False)
class _Checks:
    """Makes the functions, one for each set and mode, and their calls."""

    graph: Graph
    functions: dict[tuple[object, ...], str | None] = field(default_factory=dict)
    sources: list[list[str]] = field(default_factory=list)
    calls: list[SizeCheck] = field(default_factory=list)

    def of_size(self, size: str, place: Place, valid: SizeSet, mode: Mode) -> None:
        if valid == SizeSet.everything():
            return
        key = valid, mode
        if key not in self.functions:
            self.add(key, check_function(self.next_name, self.graph.name, valid, mode))
        self.call(key, size, (place,), mode)

    def of_choice(self, choice: Choice, places: Sequence[Place], mode: Mode) -> None:
        key = tuple(choice.sets.items()), mode
        if key not in self.functions:
            self.add(key, check_of_choice(self.next_name, self.graph.name, choice, mode))
        self.call(key, "", tuple(places), mode)

    @property
    def next_name(self) -> str:
        return f"check_size{len(self.sources) + 1 if self.sources else ''}"

    def add(self, key: tuple[object, ...], lines: list[str] | None) -> None:
        self.functions[key] = None if lines is None else self.next_name
        self.sources += [] if lines is None else [lines]

    def call(self, key: tuple[object, ...], size: str, places: tuple[Place, ...], mode: Mode) -> None:
        function = self.functions[key]
        if function is not None:
            self.calls.append(SizeCheck(function, size, places, mode))


def check_function(name: str, model: str, valid: SizeSet, mode: Mode = "") -> list[str] | None:
    """The function for one set of sizes; None for a set that cannot be written down."""
    try:
        body, nearest = _of_progression(valid) or _of_any(valid)
    except DimError:
        return None
    words, during = valid.condition(), f" in {mode}" if mode else ""
    message = quoted(f"{model}: {{name}} must be {words}{during}, got {{size}}{nearest}")
    return [
        f"def {name}(name: str, size: int) -> None:",
        *layout.docstring(f"Raises ValueError unless a size of the input is {words}{during}.", 4),
        *body,
        *layout.statement(f"raise ValueError(f{message})", 4),
    ]


def check_of_choice(name: str, model: str, choice: Choice, mode: Mode) -> list[str] | None:
    """The function for sizes of which one at least has to be in its set; None where a set cannot be written down."""
    variables: dict[str, str] = {}
    for size in choice.sets:
        variables[size] = unique(identifier(size.lower()), variables.values())
    try:
        tests = [sizes.python(variables[size]) for size, sizes in choice.sets.items()]
    except DimError:
        return None
    during = f" in {mode}" if mode else ""
    got = ", ".join(f"{size} = {{{variable}}}" for size, variable in variables.items())
    message = quoted(f"{model}: {choice.describe(' must be')}{during}, got {got}")
    return [
        *layout.header(f"def {name}({', '.join(f'{v}: int' for v in variables.values())}) -> None:", 0),
        *layout.docstring(f"Raises ValueError unless {choice.describe(' is')}{during}.", 4),
        *layout.header(f"if {' or '.join(tests)}:", 4),
        "        return",
        *layout.statement(f"raise ValueError(f{message})", 4),
    ]


def _of_progression(valid: SizeSet) -> tuple[list[str], str] | None:
    """The test of one residue from a minimum on, and what tells the nearest sizes; None for other sets."""
    if valid.progression is None:
        return None
    modulus, residue, minimum = valid.progression
    least, step = number(minimum), literal(modulus)
    lines = [*layout.header(f"if {valid.python('size')}:", 4), "        return"]
    if modulus == 1:
        return lines, f"; the nearest is {least}"
    near, other = f'f"are {{below}} and {{below + {step}}}"', f'"is {least}"'
    lines += [
        f"    below = size - {f'(size - {literal(residue)})' if residue else 'size'} % {step}",
        *layout.statement(f"nearest = {near} if size > {literal(minimum)} else {other}", 4),
    ]
    return lines, "; the nearest {nearest}"


def _of_any(valid: SizeSet) -> tuple[list[str], str]:
    """The test of any set, and what tells the nearest sizes, which are looked for one by one where none is far."""
    threshold, pattern, _ = valid.form
    lines = [
        "",
        "    def fits(n: int) -> bool:",
        *layout.statement(f"return {valid.python('n')}", 8),
        "",
        "    if fits(size):",
        "        return",
    ]
    largest = valid.maximum or 0
    if max(threshold, pattern.modulus if pattern else largest) > SEARCH:
        return lines, ""
    start = "size - 1" if pattern else f"min(size - 1, {largest})"
    end = f"max(size, {threshold}) + {pattern.modulus + 1}" if pattern else str(largest + 1)
    lines += [
        f"    below = next(filter(fits, range({start}, 0, -1)), None)",
        *layout.statement(f"above = next(filter(fits, range(size + 1, {end})), None)", 4),
        "    near = [str(n) for n in (below, above) if n is not None]",
        '    nearest = ("are " if len(near) > 1 else "is ") + " and ".join(near)',
    ]
    return lines, "; the nearest {nearest}"
