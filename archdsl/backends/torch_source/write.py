"""The text of a class of the generated module."""

from __future__ import annotations

from collections.abc import Iterable

from archdsl.backends.torch_source import layout
from archdsl.backends.torch_source.constructor import Constructor
from archdsl.backends.torch_source.expressions import literal
from archdsl.backends.torch_source.forward import Forward
from archdsl.backends.torch_source.plan import Parameter, Plan
from archdsl.backends.torch_source.text import recomputing, type_text
from archdsl.backends.torch_source.writer import File
from archdsl.graph import Graph, Scope


def write_class(file: File, plan: Plan, is_model: bool) -> list[str]:
    """A class, as lines."""
    made = Constructor(file, plan, is_model)
    made.name_parameters()
    made.collect_labels(plan.entries)
    made.factory = file.factories[plan] = is_model or made.needs_factory()
    made.run()
    forward = Forward(made).run()
    made.store()
    if plan.cells[0].recomputed:
        file.helper(recomputing(counts(file.graph, file.recompute.scopes)))
    if is_model and file.overwriting.inference and counts(file.graph, [file.graph.root]):
        made.line("self.eval()")
    lines = [f"class {file.names[plan]}({'nn.Sequential' if plan.flow is None else 'nn.Module'}):"]
    if plan.doc:
        lines += layout.docstring(plan.doc, 4)
        lines += [""] if len(lines) > 1 else []
    if made.lines == ["        super().__init__()"] and not plan.parameters and not made.factory:
        return lines + forward
    return [*lines, *signature(made), *made.lines, *([""] if forward else []), *forward]


def counts(graph: Graph, scopes: Iterable[Scope]) -> bool:
    """Whether something in these scopes keeps statistics of what it has seen in training."""
    nodes = [node for scope in scopes for node in scope.nodes()]
    return any(w.buffer for node in nodes for w in graph.weights_of(node))


def signature(made: Constructor) -> list[str]:
    parameters = ["self"]
    for p in made.plan.parameters:
        default = f" = {literal(p.default.value)}" if p.default is not None else ""
        parameters.append(f"{made.names[p.name]}: {type_of(p)}{default}")
    if made.is_model:
        parameters += ["device: torch.device | str | None = None", "dtype: torch.dtype | None = None"]
        made.file.imports.add("torch")
    elif made.factory:
        parameters.append("**kw: Unpack[Factory]")
        made.file.imports |= {"Unpack", "Factory"}
    return layout.header(f"def __init__({', '.join(parameters)}) -> None:", 4)


def type_of(parameter: Parameter) -> str:
    values = [*parameter.values, *([parameter.default.value] if parameter.default is not None else [])]
    return " | ".join(dict.fromkeys(type_text(v) for v in values))
