"""What to say of sizes that do not fit: the parties, how each came to its size, and a change that mends it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from archdsl import dims
from archdsl.diagnostics import Fix, Mark
from archdsl.dims import Dim, Expr
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


def advise(graph: Graph, node: Node, error: OperationError, size: str | None = None) -> Advice:
    """Marks, history and fix for a node that cannot take what flows in; `size` is the free size at fault, if one is.

    The node may stand outside of the graph.
    """
    cause = argument_span(node, error.parameter) or node.span
    marks = [Mark(cause)]
    for position in error.inputs:
        tensor = node.inputs[position]
        where = party_span(graph, meeting(graph, node), position)
        if where != cause:
            marks.append(Mark(where, f"gives {show_shape(graph.shape(tensor))}"))
    notes = tuple(history(graph, node, error.inputs, size)) if len(error.inputs) > 1 else ()
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


def meeting(graph: Graph, node: Node) -> Node:
    """Where the branches of a merge come together: at itself, or at the `align` before it."""
    first = node.inputs[0]
    before = graph.node(first)
    if before.operation.name == "align" and list(node.inputs) == [
        Tensor(first.node, i) for i in range(len(node.inputs))
    ]:
        return before
    return node


def branch_of(node: Node, position: int) -> tree.Chain | None:
    """The branch of the parallel before a merge that gives its input number `position`."""
    origin = node.origin
    if isinstance(origin, tree.Parallel) and len(origin.branches) == len(node.inputs):
        return origin.branches[position]
    return None


# ---------------------------------------------------------------- history


def history(graph: Graph, node: Node, positions: tuple[int, ...], size: str | None = None) -> list[str]:
    """How two parties came to sizes that differ, since they were one tensor: a line each, the last steps of its way.

    Told are the channels and one of the spatial sizes, that of the free size `size` where there is one.
    """
    first, second = (node.inputs[p] for p in (positions[0], positions[-1]))
    shapes = graph.shape(first), graph.shape(second)
    if len(shapes[0]) != len(shapes[1]):
        return []
    unlike = [i for i, (a, b) in enumerate(zip(*shapes, strict=True)) if a != b]
    if node.operation.name == "concat":
        unlike = [i for i in unlike if i > 0]
    spatial = [i for i in unlike if i > 0]
    of_size = [i for i in spatial if any(isinstance(d, Expr) and d.variable == size for d in (s[i] for s in shapes))]
    axes = [i for i in unlike if i == 0] + (of_size or spatial)[:1]
    at = meeting(graph, node)
    first, second = (at.inputs[p] for p in (positions[0], positions[-1]))
    common = graph.ancestors([first]) & graph.ancestors([second])
    lines = []
    for name, tensor in zip(party_names(at, positions), (first, second), strict=True):
        steps = way(graph, tensor, axes, common)
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


def way(graph: Graph, tensor: Tensor, axes: Sequence[int], common: set[int]) -> list[str]:
    """The nodes that changed these axes of a tensor on its way from what is common to both parties, oldest first."""
    steps: list[str] = []
    seen: object = None
    while tensor.node not in common:
        node = graph.node(tensor)
        sizes = _sizes(graph, tensor, axes)
        if not node.inputs or sizes is None:
            break
        before = next((t for t in node.inputs if _sizes(graph, t, axes) == sizes), node.inputs[0])
        if node.operation.name == "align":
            before = node.inputs[tensor.index]
        were = _sizes(graph, before, axes)
        if were is None:
            break
        if were != sizes and (node.span, sizes) != seen:
            seen = (node.span, sizes)
            steps.append(step_text(graph, node, axes, were, sizes))
        tensor = before
    return steps[::-1]


def _sizes(graph: Graph, tensor: Tensor, axes: Sequence[int]) -> list[Dim] | None:
    """The sizes of some axes; None where a tensor has not all of them."""
    shape = graph.shape(tensor)
    return [shape[axis] for axis in axes] if all(axis < len(shape) for axis in axes) else None


def step_text(graph: Graph, node: Node, axes: Sequence[int], were: Sequence[Dim], sizes: Sequence[Dim]) -> str:
    line = f"`{node.path}`, line {node.span.line}" if node.labelled else f"line {node.span.line}"
    changes = [
        f"{'the size' if axis else 'the channels'} from {_shown(graph, was)} to {_shown(graph, size)}"
        for axis, was, size in zip(axes, were, sizes, strict=True)
        if was != size
    ]
    return f"{node.operation.caption()} ({line}) brings {' and '.join(changes)}"


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
    if error.before is not None:
        return None if not error.before else (error.help, Fix(before_item(call), error.before + " -> "))
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
    if isinstance(node.origin, tree.Dense):
        return written_out(graph, node.origin, "concat", *shapes)
    # The merge takes all its branches, so all that differ from the first party are brought to it at once.
    all_shapes = [graph.shape(tensor) for tensor in node.inputs]
    name = node.operation.name
    channels = shapes[0][0]
    edits: list[tuple[Span, str]] = []
    told: list[str] = []
    if name != "concat" and isinstance(channels, int):
        for position, shape in enumerate(all_shapes):
            branch = branch_of(meeting(graph, node), position)
            if not meet(name, shape[:1], (channels,)):
                if branch is None:
                    return None
                edits.append((_after(branch.span), f" -> conv({channels}, 1)"))
                told.append(f"map it to {channels} channels: `{_short(branch.span.text)} -> conv({channels}, 1)`")
    if any(not meet(name, shape[1:], shapes[0][1:]) for shape in all_shapes):
        if node.call is None:
            return None
        mode = "resize" if far_apart(graph, *shapes) else "crop"
        edits.append((before_item(node.call), f"align({mode}) -> "))
        verb = {"crop": "crop the larger one", "resize": "resize the second to the first"}[mode]
        told.append(f"{verb}: `align({mode}) -> {name}`")
    fix = combined(edits)
    return ("; ".join(told[:1] + told[-1:] if len(told) > 1 else told), fix) if fix else None


def combined(edits: Sequence[tuple[Span, str]]) -> Fix | None:
    """Several insertions of one file as one change."""
    if not edits or len({id(span.source) for span, _ in edits}) > 1:
        return None
    edits = sorted(edits, key=lambda edit: edit[0].start)
    source, start, end = edits[0][0].source, edits[0][0].start, edits[-1][0].start
    text, at = "", start
    for span, inserted in edits:
        text += source.text[at : span.start] + inserted
        at = span.start
    return Fix(Span(source, start, end), text)


def before_item(call: tree.Call) -> Span:
    """Where an item that is put before a call stands: before its label, too."""
    return _before(call.name.span if call.label is None else call.label.span)


def _before(span: Span) -> Span:
    return Span(span.source, span.start, span.start)


def _after(span: Span) -> Span:
    return Span(span.source, span.end, span.end)


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
        return None if origin.condition is not None else written_out(graph, origin, "add", skip, body)
    help = f"send the skip through what brings it to {show_shape(body)}: `residual via {projection} {{ … }}`"
    return help, Fix(_before(origin.body.span), f"via {projection} ")


def written_out(
    graph: Graph, origin: tree.Residual | tree.Dense, merge: str, skip: Shape, body: Shape
) -> tuple[str, Fix] | None:
    """The parallel that a `residual` or `dense` stands for, with an `align` before its merge."""
    if origin.label is not None:
        return None
    first = "it"
    if merge == "add" and not agree(skip[:1], body[:1]):
        first = f"it -> conv({body[0]}, 1)"
    rest = f" -> align({'resize' if far_apart(graph, skip, body) else 'crop'}) -> {merge}"
    if agree(skip[1:], body[1:]):
        rest = f" -> {merge}"
    start, inside = origin.span, origin.body.span
    text = f"({first}, {inside.source.text[inside.start : inside.end]}){rest}"
    word = "residual" if isinstance(origin, tree.Residual) else "dense"
    help = f"write out what `{word}` stands for, and bring the two together: `({first}, {{ … }}){rest}`"
    return help, Fix(Span(start.source, start.start, inside.end), text)


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


def meet(name: str, first: Shape, second: Shape) -> bool:
    """Whether a merge takes these sizes together: `mul` stretches those of 1."""
    pairs = [(a, b) for a, b in zip(first, second, strict=True) if name != "mul" or (a != 1 and b != 1)]
    return agree(tuple(a for a, _ in pairs), tuple(b for _, b in pairs))


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
