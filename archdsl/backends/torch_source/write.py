"""A class of the generated module."""

from __future__ import annotations

from collections.abc import Iterable

from archdsl.backends.python import tree as py
from archdsl.backends.python.templates import code
from archdsl.backends.python.tree import joined, name
from archdsl.backends.torch_source.constructor import SUPER, Constructor
from archdsl.backends.torch_source.file import File
from archdsl.backends.torch_source.forward import forward
from archdsl.backends.torch_source.helpers import recomputing
from archdsl.backends.torch_source.plan import Plan
from archdsl.graph import Graph
from archdsl.graph.series import Part

SPATIAL = (2, 3)
"""How many sizes a kernel has, in images and in volumes."""


def write_class(file: File, plan: Plan, is_model: bool) -> py.Class:
    """A class with its constructor and, where nn.Sequential's own will not do, its `forward`."""
    made = Constructor.of(file, plan, is_model)
    made.run()
    if plan.cells[0].recomputed or any(cell.recomputes for cell in plan.cells):
        recompute(file)
    file.attributes[plan] = made.members.attributes
    method = forward(made)
    body = made.finish()
    if is_model and file.overwriting.inference and counts(file.graph, [file.graph.root]):
        body.append(py.Do(code("self.eval()")))
    parts: list[py.Statement] = [py.Doc(plan.doc)] if plan.doc else []
    if body != [SUPER] or plan.parameters or file.factories[plan]:
        parts.append(py.Function("__init__", parameters(made), py.Const(None), body))
    parts += [method] if method is not None else []
    base = "nn.Sequential" if plan.flow is None else "nn.ModuleDict" if made.members.is_dict else "nn.Module"
    return py.Class(file.names[plan], name(base), parts)


def recompute(file: File) -> None:
    """Gives a file the function by which parts of a class are recomputed."""
    parts = file.recompute.parts
    outside = file.beside.outside or any(node.operation.outside() for part in parts for node in part.nodes())
    file.helper(recomputing(file.beside.counts or counts(file.graph, parts), outside))


def counts(graph: Graph, parts: Iterable[Part]) -> bool:
    """Whether something in these parts keeps statistics of what it has seen in training, or may do so."""
    return any(graph.keeps_statistics(node) for part in parts for node in part.nodes())


def parameters(made: Constructor) -> list[py.Parameter]:
    found = [py.Parameter("self")]
    for p in made.plan.parameters:
        kinds = union([*p.values, *([p.default.value] if p.default is not None else [])])
        found.append(py.Parameter(made.scope.names[p.name], kinds, p.default))
    if made.is_model:
        found.append(py.Parameter("device", code("torch.device | str | None"), py.Const(None)))
        found.append(py.Parameter("dtype", code("torch.dtype | None"), py.Const(None)))
    elif made.file.factories[made.plan]:
        found.append(py.Parameter("**kw", code("Unpack[Factory]")))
    return found


def union(values: Iterable[object]) -> py.Expr:
    """The type of an argument that has these values."""
    given = list(values)
    lengths = {len(v) for v in given if isinstance(v, tuple)}
    return joined("|", dict.fromkeys(type_of(v, fixed=len(lengths) == 1) for v in given))


def type_of(value: object, *, fixed: bool = False) -> py.Expr:
    """The type of a value. `fixed`: a tuple of few ints always has as many, such as a kernel's sizes."""
    match value:
        case tuple() if fixed and len(value) in SPATIAL and all(type(n) is int for n in value):
            return py.Item(py.Var("tuple"), py.Row(tuple(py.Var("int") for _ in value)))
        case tuple():
            return py.Item(py.Var("tuple"), py.Row((union(value) if value else py.Var("int"), py.Const(...))))
        case py.Layer():
            return code("Callable[..., nn.Module]")
        case None:
            return py.Const(None)
        case _:
            return py.Var(type(value).__name__)
