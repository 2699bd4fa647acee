"""What a generated model says to torch.export of its sizes: which are free, and from which value on."""

from __future__ import annotations

from collections.abc import Iterator

from archdsl import dims
from archdsl.backends.torch_source import layout
from archdsl.backends.torch_source.expressions import quoted
from archdsl.dims import Dim, DimError, Expr
from archdsl.graph import Graph, Tensor


def dynamic_shapes(graph: Graph) -> list[str]:
    """The function `dynamic_shapes` of a generated file, as lines."""
    symbols: dict[str, str] = {}
    made = ['batch = Dim("batch")']
    for free in graph.free:
        symbol = _symbol(graph, free.name)
        if symbol is not None:
            name = free.name.lower() if free.name.lower() not in ("batch", *symbols) else f"size_{len(symbols)}"
            least, text = symbol
            made.append(f"{name} = Dim({quoted(name)}, min={least})")
            symbols[free.name] = text.format(name)
    shapes = [_axes(graph.shape(Tensor(node.id)), symbols) for node in graph.input_nodes]
    pinned = [free.name for free in graph.free if free.name not in symbols]
    doc = "The sizes that torch.export may leave free: the batch" + "".join(f", {name}" for name in symbols)
    doc += f"; pinned: {', '.join(pinned)}" if pinned else ""
    return [
        "def dynamic_shapes() -> tuple[dict[int, Any], ...]:",
        *layout.docstring(f"{doc}.", 4),
        "    from torch.export import Dim  # slow to import, and needed here alone",
        "",
        *[line for text in made for line in layout.statement(text, 4)],
        *layout.statement(f"return ({', '.join(shapes)}{',' * (len(shapes) == 1)})", 4),
    ]


def _axes(shape: tuple[Dim, ...], symbols: dict[str, str]) -> str:
    entries = ["0: batch"]
    for axis, size in enumerate(shape, 1):
        if isinstance(size, Expr) and size == dims.free(size.variable) and size.variable in symbols:
            entries.append(f"{axis}: {symbols[size.variable]}")
    return "{" + ", ".join(entries) + "}"


def _symbol(graph: Graph, name: str) -> tuple[int, str] | None:
    """The least value of a symbol and the size as a function of it (`16 * {}`); None where no progression says it.

    torch.export takes a size of 1 for a constant, so that every size within the network has to be 2 or more.
    """
    try:
        valid = graph.sizes[name]
        for size in _sizes(graph, name):
            demand = dims.at_least(size, 2)
            if not isinstance(demand, bool):
                narrowed = demand.narrow(valid)
                valid = valid if narrowed.is_empty else narrowed
        progression = valid.progression
    except DimError:
        return None
    if progression is None:
        return None
    modulus, residue, minimum = progression
    text = "{}" if modulus == 1 else f"{modulus} * {{}}"
    return (minimum - residue) // modulus, f"{text} + {residue}" if residue else text


def _sizes(graph: Graph, name: str) -> Iterator[Expr]:
    """The different sizes within a network that follow from a free one."""
    seen: set[Expr] = set()
    for node in graph.nodes():
        for index in range(len(node.shapes)):
            for size in graph.shape(Tensor(node.id, index)):
                if isinstance(size, Expr) and size.variable == name and size not in seen:
                    seen.add(size)
                    yield size
