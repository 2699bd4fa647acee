"""Finds the layer whose padding makes two sizes diverge, by inferring the sizes after it again."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence

from archdsl import dims
from archdsl.common.source import Span
from archdsl.diagnostics import Fix, Proposal
from archdsl.graph import Graph, Node, Tensor
from archdsl.ops.base import Operation, Rules, Shape
from archdsl.ops.declaration import OperationError
from archdsl.ops.fields import shown
from archdsl.syntax import tree

LARGE = 2_000
"""Larger networks are not inferred again."""

LAYERS = 12
"""The maximum number of layers examined, nearest first."""

Wanted = Callable[[Sequence[Shape]], bool]


def remedies(graph: Graph, tensors: Sequence[Tensor], wanted: Wanted) -> Iterator[Proposal]:
    """Changes of one layer's padding that give these tensors the required sizes."""
    if len(graph) > LARGE:
        return
    for node in padded(graph, tensors):
        for settings, fix, what in variants(node):
            found = inferred(graph, node, settings, tensors)
            if found is not None and wanted(found):
                yield Proposal(f"the sizes diverge at line {node.span.line}: {what}", fix)


def widths(graph: Graph, tensors: Sequence[Tensor], wanted: Wanted) -> Iterator[Proposal]:
    """Changes of one layer's number of channels that give these tensors the required sizes."""
    numbers = dict.fromkeys(d for t in tensors for d in graph.shape(t) if isinstance(d, int))
    for node in padded(graph, tensors) if len(graph) <= LARGE else ():
        first = next(iter(node.call.arguments or ()), None) if node.call is not None else None
        for number in numbers if first is not None and first.name is None and hasattr(node.operation, "out") else ():
            found = inferred(graph, node, {"out": number}, tensors)
            if first is not None and found is not None and wanted(found):
                help = (
                    f"the sizes diverge at line {node.span.line}: give this `{node.operation.name}` {number} channels"
                )
                yield Proposal(help, Fix(first.value.span, str(number)))


def padded(graph: Graph, tensors: Sequence[Tensor]) -> list[Node]:
    """The layers with a sliding window before some tensors, one for each place in the text, nearest first."""
    found: dict[tree.Call, Node] = {}
    for node_id in sorted(graph.ancestors(tensors), reverse=True):
        node = graph.node(node_id)
        if node.call is not None and hasattr(node.operation, "kernel") and len(found) < LAYERS:
            found.setdefault(node.call, node)
    return list(found.values())


def variants(node: Node) -> Iterator[tuple[Mapping[str, object], Fix, str]]:
    """Other paddings of a layer: the setting, the text change, and its explanation."""
    call, operation = node.call, node.operation
    assert call is not None
    name = operation.name
    given = {a.name: a for a in call.arguments or ()}
    plain = operation.fields["pad"].default if "pad" in operation.fields else None
    settings: dict[str, object] = {
        a: getattr(operation, a) for a in ("pad", "ceil", "output_pad") if hasattr(operation, a)
    }
    if "pad" in given and settings["pad"] != plain:
        text = given["pad"].span.text
        yield {"pad": plain}, without(call, given["pad"]), f"remove `{text}` from this `{name}`"
    elif plain is not None and settings["pad"] != plain and "pad" not in given:
        yield {"pad": plain}, more(call, f"pad = {shown(plain)}"), f"set `pad = {shown(plain)}` in this `{name}`"
    if settings.get("output_pad") == 0 and "output_pad" not in given:
        yield {"output_pad": 1}, more(call, "output_pad = 1"), f"set `output_pad = 1` in this `{name}`"
    if "ceil" in given:
        text = given["ceil"].span.text
        yield {"ceil": False}, without(call, given["ceil"]), f"remove `{text}` from this `{name}`"
    elif settings.get("ceil") is False:
        yield {"ceil": True}, more(call, "ceil = true"), f"set `ceil = true` in this `{name}`"


def without(call: tree.Call, argument: tree.Argument) -> Fix:
    """The call without one of its arguments and its comma."""
    arguments = call.arguments or ()
    at = arguments.index(argument)
    start, end = argument.span.start, argument.span.end
    if at:
        start = arguments[at - 1].span.end
    elif len(arguments) > 1:
        end = arguments[1].span.start
    return Fix(Span(call.span.source, start, end), "")


def more(call: tree.Call, argument: str) -> Fix:
    """The call with an additional argument."""
    end = Span(call.span.source, call.span.end, call.span.end)
    if call.arguments is None:
        return Fix(end, f"({argument})")
    return Fix(Span(end.source, end.start - 1, end.end - 1), f"{', ' if call.arguments else ''}{argument}")


def inferred(graph: Graph, node: Node, settings: Mapping[str, object], tensors: Sequence[Tensor]) -> list[Shape] | None:
    """The sizes of some tensors if all nodes of a call have other settings; None if one of them is invalid."""
    try:
        changed: Operation = node.operation.changed(**settings)
        shapes: dict[int, tuple[Shape, ...]] = {}
        first = next(n.id for n in graph.nodes() if n.call is node.call)
        for number in range(first, max(t.node for t in tensors) + 1):
            here = graph.node(number)
            mine = here.call is node.call
            if not mine and not any(t.node in shapes for t in here.inputs):
                continue
            incoming = tuple(shapes[t.node][t.index] if t.node in shapes else graph.shape(t) for t in here.inputs)
            operation = here.operation
            if mine:
                same = operation == node.operation
                operation = changed if same else operation.changed(**settings)
            result = operation.infer(incoming, Rules())
            if result != here.shapes:
                shapes[number] = result
    except (OperationError, dims.DimError):
        return None
    return [shapes[t.node][t.index] if t.node in shapes else graph.shape(t) for t in tensors]


def agree(first: Shape, second: Shape) -> bool:
    try:
        return len(first) == len(second) and all(dims.equal(a, b) is True for a, b in zip(first, second, strict=True))
    except dims.DimError:
        return False
