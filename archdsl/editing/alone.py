"""Sizes in a file of blocks alone: a block that says the sizes of what it takes is checked as a model of its own."""

from __future__ import annotations

from collections.abc import Iterator

from archdsl.syntax import tree

ENDING = "_alone"
"""What the name of such a model ends with."""


def as_models(file: tree.File) -> str:
    """The models, in the language, to write behind a file that has none; empty if no block can be checked so."""
    return "".join(_models(file))


def _models(file: tree.File) -> Iterator[str]:
    for declaration in file.declarations:
        if isinstance(declaration, tree.Block) and (inputs := why_not(declaration)[1]):
            name = declaration.name.name
            lets = "".join(
                f"    let {p.name.name} = {p.default.span.text}\n" for p in declaration.parameters if p.default
            )
            labels = [name for name, _ in inputs]
            taken = labels[0] if len(labels) == 1 else f"({', '.join(labels)})"
            declared = ", ".join(f"{label}[{dims}]" for label, dims in inputs)
            # A block whose results nothing takes would be wrong: they are the outputs.
            yield f"\nmodel {name}{ENDING} {{\n{lets}    input {declared}\n    {taken} -> {name}\n}}\n"


def why_not(block: tree.Block) -> tuple[str, list[tuple[str, str]]]:
    """Why a block cannot be checked alone, else the inputs to do so: their names and sizes."""
    needed = [p.name.name for p in block.parameters if p.default is None]
    if needed:
        return f"`{needed[0]}` has no default", []
    declared = [t for s in block.body.statements if isinstance(s, tree.Input) for t in s.tensors]
    if not declared:
        return "it says no size of what it takes, as `input x[64, H, W]` would", []
    found: list[tuple[str, str]] = []
    free = 0
    for tensor in declared:
        dims = []
        for number, dim in enumerate(tensor.dimensions):
            is_open = isinstance(dim.value, tree.Name) and dim.value.name == "_"
            if number == 0 and (is_open or _names_size(dim, block)):
                return f"`{tensor.name.name}` has no number of channels, as `{tensor.name.name}[64, …]` would", []
            free += is_open
            dims.append(f"size_{free}" if is_open else dim.span.text)
        found.append((tensor.name.name, ", ".join(dims)))
    return "", found


def _names_size(dim: tree.Dimension, block: tree.Block) -> bool:
    """Whether a size is a new name, not a parameter of the block."""
    return isinstance(dim.value, tree.Name) and all(p.name.name != dim.value.name for p in block.parameters)
