"""A generated model's sizes for torch.export: which are free, and their smallest values."""

from __future__ import annotations

from collections.abc import Iterator

from archdsl import dims
from archdsl.backends.python import tree as py
from archdsl.backends.python.templates import code
from archdsl.backends.python.tree import call
from archdsl.backends.torch_source.names import identifier
from archdsl.dims import Dim, DimError, SizeSet
from archdsl.graph import Graph, Node, Tensor


def dynamic_shapes(graph: Graph) -> py.Function:
    """The function `dynamic_shapes` of a generated file."""
    sizes: dict[str, py.Expr] = {}
    made: list[py.Statement] = [py.Assign(py.Var("batch"), call("Dim", py.Const("batch")))]
    taken = {"batch"}
    for free in graph.free:
        name = identifier(free.name.lower())
        name = name if name not in taken else f"size_{len(sizes)}"
        taken.add(name)
        symbol = _symbol(graph, free.name, name)
        if symbol is not None:
            made.append(py.Assign(py.Var(name), symbol[0]))
            sizes[free.name] = symbol[1]
    shapes = tuple(_axes(graph.shape(Tensor(node.id)), sizes) for node in graph.input_nodes)
    pinned = [free.name for free in graph.free if free.name not in sizes]
    doc = "The sizes that torch.export may leave free: the batch" + "".join(f", {name}" for name in sizes)
    doc += f"; pinned: {', '.join(pinned)}" if pinned else ""
    local = py.Import("from torch.export import Dim", "slow to import, and needed here alone")
    body: list[py.Statement] = [py.Doc(f"{doc}."), local, *made, py.Do(py.Tuple(shapes), "return")]
    return py.Function("dynamic_shapes", [], code("tuple[dict[int, Any], ...]"), body)


def _axes(shape: tuple[Dim, ...], sizes: dict[str, py.Expr]) -> py.Dict:
    entries = [py.Pair(py.Const(0), py.Var("batch"))]
    for axis, size in enumerate(shape, 1):
        if (name := dims.name_of(size)) in sizes:
            entries.append(py.Pair(py.Const(axis), sizes[name]))
    return py.Dict(tuple(entries))


def _symbol(graph: Graph, size: str, name: str) -> tuple[py.Expr, py.Expr] | None:
    """The symbol for a free size, and the size as a function of it (`16 * h`); None if it has to be pinned.

    A named `Dim` has to be proven for all its values before the program runs. What PyTorch cannot prove, or no
    progression says, is `Dim.DYNAMIC`: the program then checks its input when it runs, by the same rule as `forward`.
    """
    valid = exportable(graph, size)
    if valid is None:
        return None
    if valid.progression is None or any(node.operation.decides_size() for node in _readers(graph, size)):
        return call("Dim.DYNAMIC", min=py.Const(valid.minimum)), py.Var(name)
    modulus, residue, minimum = valid.progression
    found: py.Expr = py.Var(name) if modulus == 1 else py.Binary("*", py.Const(modulus), py.Var(name))
    found = py.Binary("+", found, py.Const(residue)) if residue else found
    return call("Dim", py.Const(name), min=py.Const((minimum - residue) // modulus)), found


def exportable(graph: Graph, size: str) -> SizeSet | None:
    """The valid sizes that one exported program can take; None where a program takes one size alone.

    torch.export takes a size of 1 within the network for a constant, and what PyTorch does by cases for one of them.
    """
    valid = graph.sizes[size]
    try:
        for inner in _sizes(graph, size):
            demand = dims.at_least(inner, 2)
            if isinstance(demand, dims.Constraint):
                narrowed = demand.narrow(valid)
                valid = valid if narrowed.is_empty else narrowed
        threshold, pattern, _ = valid.form
        if pattern is None or any(_goes_by_cases(graph, node, size) for node in _readers(graph, size)):
            return None
        return valid if valid.gaps else valid.intersect(SizeSet.progression_from(threshold))
    except DimError:
        return None


def pinned_by(graph: Graph, size: str) -> Node | None:
    """The operation for which a size has to be pinned; None where its valid sizes are the reason."""
    return next((node for node in _readers(graph, size) if _goes_by_cases(graph, node, size)), None)


def _sizes(graph: Graph, name: str) -> Iterator[dims.Expr]:
    """The different sizes within a network that follow from a free one alone."""
    seen: set[dims.Expr] = set()
    for node in _evaluated(graph):
        shapes = [graph.shape(Tensor(node.id, index)) for index in range(len(node.shapes))]
        for size in (*node.samples, *(size for shape in shapes for size in shape)):
            if isinstance(size, dims.Single) and size.variable == name and size not in seen:
                seen.add(size)
                yield size


def _evaluated(graph: Graph) -> list[Node]:
    """The nodes that run in evaluation, which is what is exported."""
    live = graph.ancestors(output.tensor for output in graph.outputs if not output.training)
    return [node for node in graph.nodes() if node.id in live]


def _readers(graph: Graph, name: str) -> list[Node]:
    """The nodes into which a size flows that follows from a free one."""
    return [
        node
        for node in _evaluated(graph)
        if any(name in dims.free_sizes(*shape) for shape in graph.shapes(node.inputs))
    ]


def _goes_by_cases(graph: Graph, node: Node, name: str) -> bool:
    """Whether PyTorch behaves differently at some sizes."""
    cases = node.operation.sizes_by_cases(graph.shapes(node.inputs))
    return name in dims.free_sizes(*cases)
