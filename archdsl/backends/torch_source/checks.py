"""The check of the input's size that a generated model makes, where not every size is valid."""

from __future__ import annotations

from dataclasses import dataclass

from archdsl import dims
from archdsl.backends.torch_source import layout
from archdsl.backends.torch_source.expressions import quoted
from archdsl.dims import DimError, SizeSet
from archdsl.graph import Graph, Tensor


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
                    lines = _function(name, graph.name, valid)
                    if lines is None:
                        continue
                    functions[valid] = name
                    sources.append(lines)
                calls.append(SizeCheck(functions[valid], free.name, position, axis))
    return sources, calls


def _function(name: str, model: str, valid: SizeSet) -> list[str] | None:
    """The function for one set of sizes; None for a set that cannot be written down."""
    try:
        test = valid.python("n")
        threshold, pattern, _ = valid.form
    except DimError:
        return None
    words = condition(valid)
    reach = f"max(size, {threshold}) + {pattern.modulus + 1}" if pattern is not None else f"{(valid.maximum or 0) + 1}"
    message = quoted(f"{model}: {{name}} must be {words}, got {{size}}; the nearest {{nearest}}")
    return [
        f"def {name}(name: str, size: int) -> None:",
        *layout.docstring(f"Raises ValueError unless a size of the input is {words}.", 4),
        "",
        "    def fits(n: int) -> bool:",
        *layout.statement(f"return {test}", 8),
        "",
        "    if torch.compiler.is_compiling() or fits(size):",
        "        return",
        "    near = [n for n in range(1, size) if fits(n)][-1:]",
        *layout.statement(f"near += [n for n in range(size + 1, {reach}) if fits(n)][:1]", 4),
        '    nearest = ("are " if len(near) > 1 else "is ") + " and ".join(map(str, near))',
        *layout.statement(f"raise ValueError(f{message})", 4),
    ]


def condition(valid: SizeSet) -> str:
    """What a size must be: `a multiple of 16`, `at least 33`."""
    text = valid.describe()
    if text.startswith("multiples of "):
        return "a multiple of " + text.removeprefix("multiples of ")
    if text.startswith("any from "):
        return "at least " + text.removeprefix("any from ")
    if text.startswith("only "):
        sizes = text.removeprefix("only ")
        return f"one of {sizes}" if "," in sizes else sizes
    return text
