"""The check of the input's size that a generated model makes, where not every size is valid."""

from __future__ import annotations

from dataclasses import dataclass

from archdsl import dims
from archdsl.backends.torch_source import layout
from archdsl.backends.torch_source.expressions import quoted
from archdsl.dims import DimError, SizeSet
from archdsl.dims.sets import literal, number
from archdsl.graph import Graph, Tensor

SEARCH = 1 << 16
"""The longest way to a valid size on which a generated module looks for it."""


@dataclass(frozen=True, slots=True)
class SizeCheck:
    """A call of a checking function: `check_size("H", x.shape[2])`. `axis` counts the batch."""

    function: str
    size: str
    input: int
    axis: int


def size_checks(graph: Graph) -> tuple[list[list[str]], list[SizeCheck]]:
    """The functions that check sizes, as lines, and their calls."""
    functions: dict[SizeSet, str] = {}
    calls: list[SizeCheck] = []
    sources: list[list[str]] = []
    for position, node in enumerate(graph.input_nodes):
        for axis, size in enumerate(graph.shape(Tensor(node.id)), 1):
            for free in graph.free:
                valid = graph.sizes[free.name]
                if size != dims.free(free.name) or valid == SizeSet.everything():
                    continue
                if valid not in functions:
                    name = f"check_size{len(functions) + 1 if functions else ''}"
                    lines = check_function(name, graph.name, valid)
                    if lines is None:
                        continue
                    functions[valid] = name
                    sources.append(lines)
                calls.append(SizeCheck(functions[valid], free.name, position, axis))
    return sources, calls


def check_function(name: str, model: str, valid: SizeSet) -> list[str] | None:
    """The function for one set of sizes; None for a set that cannot be written down."""
    try:
        body, nearest = _of_progression(valid) or _of_any(valid)
    except DimError:
        return None
    words = valid.condition()
    message = quoted(f"{model}: {{name}} must be {words}, got {{size}}{nearest}")
    return [
        f"def {name}(name: str, size: int) -> None:",
        *layout.docstring(f"Raises ValueError unless a size of the input is {words}.", 4),
        *body,
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
