"""A class of the generated module."""

from __future__ import annotations

from collections.abc import Iterable

from archdsl.backends.python.templates import code
from archdsl.backends.python.tree import (
    Class,
    Const,
    Do,
    Doc,
    Expr,
    Function,
    Item,
    Parameter,
    Row,
    Statement,
    Var,
    joined,
    name,
)
from archdsl.backends.torch_source.constructor import SUPER, Constructor
from archdsl.backends.torch_source.expressions import Layer
from archdsl.backends.torch_source.file import File
from archdsl.backends.torch_source.forward import forward
from archdsl.backends.torch_source.helpers import recomputing
from archdsl.backends.torch_source.plan import Plan
from archdsl.graph import Graph, Scope


def write_class(file: File, plan: Plan, is_model: bool) -> Class:
    """A class with its constructor and, where nn.Sequential's own will not do, its `forward`."""
    made = Constructor.of(file, plan, is_model)
    made.run()
    method = forward(made)
    body = made.finish()
    if plan.cells[0].recomputed:
        file.helper(recomputing(counts(file.graph, file.recompute.scopes)))
    if is_model and file.overwriting.inference and counts(file.graph, [file.graph.root]):
        body.append(Do(code("self.eval()")))
    parts: list[Statement] = [Doc(plan.doc)] if plan.doc else []
    if body != [SUPER] or plan.parameters or file.factories[plan]:
        parts.append(Function("__init__", parameters(made), Const(None), body))
    parts += [method] if method is not None else []
    base = "nn.Sequential" if plan.flow is None else "nn.ModuleDict" if made.members.is_dict else "nn.Module"
    return Class(file.names[plan], name(base), parts)


def counts(graph: Graph, scopes: Iterable[Scope]) -> bool:
    """Whether something in these scopes keeps statistics of what it has seen in training."""
    nodes = [node for scope in scopes for node in scope.nodes()]
    return any(w.buffer for node in nodes for w in node.operation.weights(graph.shapes(node.inputs)))


def parameters(made: Constructor) -> list[Parameter]:
    found = [Parameter("self")]
    for p in made.plan.parameters:
        kinds = union([*p.values, *([p.default.value] if p.default is not None else [])])
        found.append(Parameter(made.scope.names[p.name], kinds, p.default))
    if made.is_model:
        found.append(Parameter("device", code("torch.device | str | None"), Const(None)))
        found.append(Parameter("dtype", code("torch.dtype | None"), Const(None)))
    elif made.file.factories[made.plan]:
        found.append(Parameter("**kw", code("Unpack[Factory]")))
    return found


def union(values: Iterable[object]) -> Expr:
    """The type of an argument that has these values."""
    return joined("|", dict.fromkeys(map(type_of, values)))


def type_of(value: object) -> Expr:
    match value:
        case tuple():
            return Item(Var("tuple"), Row((union(value) if value else Var("int"), Const(...))))
        case Layer():
            return code("Callable[..., nn.Module]")
        case None:
            return Const(None)
    return Var(type(value).__name__)
