"""What to say of sizes that do not fit: the parties, how each came to its size, and a change that mends it."""

from __future__ import annotations

from dataclasses import dataclass

from archdsl import dims
from archdsl.diagnostics import Fix, Mark
from archdsl.dims import Dim
from archdsl.graph import Graph, Node, Tensor
from archdsl.ops import OPERATIONS
from archdsl.ops.base import OperationError, Rules, Shape
from archdsl.source import Span
from archdsl.syntax import tree

STEPS = 3
"""The most steps of a tensor's way that are told; what changed the size last matters most."""


@dataclass(frozen=True, slots=True)
class Advice:
    """What goes with the message of a size error."""

    marks: tuple[Mark, ...]
    notes: tuple[str, ...]
    help: str | None
    fix: Fix | None


def show_shape(shape: Shape) -> str:
    """A size as messages write it: `[64, ⌊H/2⌋, ⌊W/2⌋]`."""
    return "[" + ", ".join(dims.text(d) for d in shape) + "]"


def advise(graph: Graph, node: Node, error: OperationError) -> Advice:
    """Marks, history and fix for a node that cannot take what flows in. The node may stand outside of the graph."""
    cause = argument_span(node, error.parameter) or node.span
    marks = [Mark(cause)]
    for position in error.inputs:
        tensor = node.inputs[position]
        where = party_span(graph, node, position)
        if where != cause:
            marks.append(Mark(where, f"gives {show_shape(graph.shape(tensor))}"))
    notes = tuple(history(graph, node, error.inputs)) if len(error.inputs) > 1 else ()
    change = mend_merge(graph, node, error) if len(error.inputs) > 1 else mend_call(node, error)
    if change is None:
        return Advice(tuple(marks), notes, error.help, None)
    help, fix = change
    return Advice(tuple(marks), notes, help or error.help, fix)


def argument_span(node: Node, parameter: str | None) -> Span | None:
    """Where the call of a node gives a parameter."""
    if node.call is None or parameter is None:
        return None
    names = list(type(node.operation).model_fields)
    for position, argument in enumerate(node.call.arguments or ()):
        if argument.name == parameter or (argument.name is None and names[position] == parameter):
            return argument.span
    return None


def party_span(graph: Graph, node: Node, position: int) -> Span:
    """The text that gives an incoming tensor: what made it, or the branch of the parallel where that is a reference."""
    source = graph.node(node.inputs[position])
    branch = branch_of(node, position)
    if branch is not None and len(branch.items) == 1 and source.span.source is branch.span.source:
        inside = branch.span.start <= source.span.start and source.span.end <= branch.span.end
        return source.span if inside else branch.span
    return source.span


def branch_of(node: Node, position: int) -> tree.Chain | None:
    """The branch of the parallel before a merge that gives its input number `position`."""
    origin = node.origin
    if isinstance(origin, tree.Parallel) and len(origin.branches) == len(node.inputs):
        return origin.branches[position]
    return None


# ---------------------------------------------------------------- history


def history(graph: Graph, node: Node, positions: tuple[int, ...]) -> list[str]:
    """How two parties came to sizes that differ, since they were one tensor: a line each, the last steps of its way."""
    first, second = (node.inputs[p] for p in (positions[0], positions[-1]))
    shapes = graph.shape(first), graph.shape(second)
    if len(shapes[0]) != len(shapes[1]):
        return []
    axis = next((i for i, (a, b) in enumerate(zip(*shapes, strict=True)) if a != b), None)
    if axis is None:
        return []
    common = ancestors(graph, first) & ancestors(graph, second)
    lines = []
    for name, tensor in zip(party_names(node, positions), (first, second), strict=True):
        steps = way(graph, tensor, axis, common)
        if steps:
            told = ["…"] * (len(steps) > STEPS) + steps[-STEPS:]
            lines.append(f"{name}: " + "; ".join(told))
    return lines


def party_names(node: Node, positions: tuple[int, ...]) -> tuple[str, str]:
    if isinstance(node.origin, tree.Residual | tree.Dense):
        return "the skip", "the body"
    first, second = (branch_of(node, p) for p in (positions[0], positions[-1]))
    if first is None or second is None:
        return "one side", "the other"
    return f"`{_short(first.span.text)}`", f"`{_short(second.span.text)}`"


def _short(text: str) -> str:
    text = " ".join(text.split())
    return text if len(text) <= 40 else text[:39] + "…"


def ancestors(graph: Graph, tensor: Tensor) -> set[int]:
    found = {tensor.node}
    stack = [tensor.node]
    while stack:
        for before in graph.node(stack.pop()).inputs:
            if before.node not in found:
                found.add(before.node)
                stack.append(before.node)
    return found


def way(graph: Graph, tensor: Tensor, axis: int, common: set[int]) -> list[str]:
    """The nodes that changed an axis of a tensor on its way from what is common to both parties, oldest first."""
    steps: list[str] = []
    seen: tuple[Span, Dim] | None = None
    while tensor.node not in common:
        node = graph.node(tensor)
        size = graph.shape(tensor)[axis]
        if not node.inputs or len(graph.shape(node.inputs[0])) <= axis:
            break
        before = next((t for t in node.inputs if graph.shape(t)[axis] == size), node.inputs[0])
        was = graph.shape(before)[axis]
        if was != size and (node.span, size) != seen:
            seen = (node.span, size)
            steps.append(step_text(graph, node, axis, was, size))
        tensor = before
    return steps[::-1]


def step_text(graph: Graph, node: Node, axis: int, was: Dim, size: Dim) -> str:
    what = "the channels" if axis == 0 else "the size"
    line = f"`{node.path}`, line {node.span.line}" if node.labelled else f"line {node.span.line}"
    return f"{node.operation.caption()} ({line}) brings {what} from {_shown(graph, was)} to {_shown(graph, size)}"


def _shown(graph: Graph, size: Dim) -> str:
    """`⌊H/2⌋ = 56`: a size, and what it is for the size to show."""
    examples = {s.name: s.example for s in graph.free if s.example is not None}
    if isinstance(size, int) or size.variable not in examples:
        return dims.text(size)
    return f"{dims.text(size)} = {dims.evaluate(size, examples)}"


# ---------------------------------------------------------------- fixes


def mend_call(node: Node, error: OperationError) -> tuple[str | None, Fix] | None:
    """The change of a call that an operation proposes: other arguments, or an item before it."""
    call = node.call
    if call is None:
        return None
    start = call.name.span
    if error.before is not None:
        where = Span(start.source, start.start, start.start)
        return None if not error.before else (error.help, Fix(where, error.before + " -> "))
    if not error.arguments:
        return None
    ((parameter, value),) = error.arguments.items()
    given = argument_span(node, parameter)
    if given is not None:
        argument = next(a for a in call.arguments or () if a.span == given)
        return error.help, Fix(argument.value.span, value)
    close = Span(call.span.source, call.span.end - 1, call.span.end)
    if call.arguments is None:
        return error.help, Fix(call.span, f"{call.span.text}({parameter} = {value})")
    return error.help, Fix(close, f"{', ' if call.arguments else ''}{parameter} = {value})")


def mend_merge(graph: Graph, node: Node, error: OperationError) -> tuple[str, Fix] | None:
    """A change that lets two tensors meet: a projection of one of them, or an `align` before the merge."""
    positions = (error.inputs[0], error.inputs[-1])
    shapes = graph.shape(node.inputs[positions[0]]), graph.shape(node.inputs[positions[1]])
    if len(shapes[0]) != len(shapes[1]) or len(shapes[0]) < 2:
        return None
    if isinstance(node.origin, tree.Residual):
        return mend_residual(graph, node.inputs[positions[0]], node.origin, *shapes)
    if node.operation.name != "concat" and not agree(shapes[0][:1], shapes[1][:1]):
        return mend_channels(node, positions, shapes)
    if node.call is None:
        return None
    name = node.operation.name
    mode = "resize" if far_apart(graph, *shapes) else "crop"
    where = Span(node.call.span.source, node.call.name.span.start, node.call.name.span.start)
    verb = {"crop": "crop the larger one", "resize": "resize the second to the first"}[mode]
    return f"{verb}: `align({mode}) -> {name}`", Fix(where, f"align({mode}) -> ")


def mend_residual(
    graph: Graph, tensor: Tensor, origin: tree.Residual, skip: Shape, body: Shape
) -> tuple[str, Fix] | None:
    """A projection of the skip, whose end is `tensor`; or another one, where `via` names a single operation."""
    if origin.via is not None:
        node = graph.node(tensor)
        if node.call is not origin.via or len(node.inputs) != 1:
            return None
        projection = projected(graph.shape(node.inputs[0]), body)
        if projection is None:
            return None
        help = f"let `via` bring the skip to {show_shape(body)}: `residual via {projection} {{ … }}`"
        return help, Fix(origin.via.span, projection)
    projection = projected(skip, body)
    if projection is None:
        return None
    word = Span(origin.body.span.source, origin.body.span.start, origin.body.span.start)
    help = f"send the skip through what brings it to {show_shape(body)}: `residual via {projection} {{ … }}`"
    return help, Fix(word, f"via {projection} ")


def projected(skip: Shape, body: Shape) -> str | None:
    """The call that brings one size to another: a projection with a stride, or a crop."""
    channels = body[0]
    if not isinstance(channels, int) or not isinstance(skip[0], int):
        return None
    for stride in (1, 2, 3, 4, 8):
        text = f"conv({channels}, 1)" if stride == 1 else f"conv({channels}, 1, stride = {stride})"
        if _gives("conv", {"out": channels, "kernel": 1, "stride": stride}, skip, body):
            return text
    if skip[0] == channels:
        for border in range(1, 9):
            if _gives("crop", {"n": border}, skip, body):
                return f"crop({border})"
    return None


def _gives(name: str, arguments: dict[str, object], shape: Shape, wanted: Shape) -> bool:
    try:
        (result,) = OPERATIONS[name].parse(arguments).infer((shape,), Rules())
        return agree(result, wanted)
    except (OperationError, dims.DimError):
        return False


def mend_channels(node: Node, positions: tuple[int, int], shapes: tuple[Shape, Shape]) -> tuple[str, Fix] | None:
    """A 1x1 convolution at the end of the second branch, to the channels of the first."""
    channels = shapes[0][0]
    branch = branch_of(node, positions[1])
    if branch is None or not isinstance(channels, int):
        return None
    end = Span(branch.span.source, branch.span.end, branch.span.end)
    text = f" -> conv({channels}, 1)"
    return f"map it to {channels} channels: `{_short(branch.span.text)}{text}`", Fix(end, text)


def agree(first: Shape, second: Shape) -> bool:
    try:
        return len(first) == len(second) and all(dims.equal(a, b) is True for a, b in zip(first, second, strict=True))
    except dims.DimError:
        return False


def far_apart(graph: Graph, first: Shape, second: Shape) -> bool:
    """Whether two sizes differ by a stride, rather than by a border or a rounding."""
    examples = {size.name: size.example for size in graph.free}
    values = {d.variable: examples.get(d.variable) or 64 for d in (*first, *second) if not isinstance(d, int)}
    for a, b in zip(first[1:], second[1:], strict=True):
        x, y = sorted((dims.evaluate(a, values), dims.evaluate(b, values)))
        if y >= 1.5 * x + 1:
            return True
    return False
