"""Text changes that may fix mismatched sizes: proposals, most likely first, to be tried."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import islice

from archdsl import dims
from archdsl.advice.habits import rewritten
from archdsl.advice.remedies import agree, remedies, widths
from archdsl.common.source import Span
from archdsl.diagnostics import Fix, Proposal
from archdsl.dims import Dim
from archdsl.graph import Graph, Node, Scope, Tensor
from archdsl.ops import OPERATIONS
from archdsl.ops.base import Operation, Rules, Shape
from archdsl.ops.declaration import OperationError
from archdsl.ops.fields import shape_text
from archdsl.syntax import tree

MOST = 3
"""The maximum number of proposed expressions for one number, and of proposed replacement labels."""


def argument_span(node: Node, parameter: str | None) -> Span | None:
    """The place where a node's call gives a parameter."""
    if node.call is None or parameter is None:
        return None
    names = list(type(node.operation).fields)
    for position, argument in enumerate(node.call.arguments or ()):
        if argument.name == parameter or (argument.name is None and names[position] == parameter):
            return argument.span
    return None


def meeting(graph: Graph, node: Node) -> Node:
    """The place where a merge joins its branches: itself, or the `align` before it."""
    first = node.inputs[0]
    before = graph.node(first)
    whole = node.inputs == tuple(Tensor(first.node, i) for i in range(len(before.shapes)))
    return before if whole and before.operation.inputs == "many" and len(before.shapes) > 1 else node


def branch_of(node: Node, position: int) -> tree.Chain | None:
    """The branch of the parallel before a merge that gives its input number `position`."""
    origin = node.origin
    if isinstance(origin, tree.Parallel) and len(origin.branches) == len(node.inputs):
        branch = origin.branches[position]
        return branch if isinstance(branch, tree.Chain) else None
    return None


# ---------------------------------------------------------------- edits


def change(edits: Sequence[tuple[Span, str]]) -> Fix | None:
    """Several edits of one file, combined into one change."""
    if not edits or len({id(span.source) for span, _ in edits}) > 1:
        return None
    edits = sorted(edits, key=lambda edit: edit[0].start)
    source, start, end = edits[0][0].source, edits[0][0].start, edits[-1][0].end
    text, at = "", start
    for span, inserted in edits:
        text += source.text[at : span.start] + inserted
        at = span.end
    return Fix(Span(source, start, end), text)


def before_item(call: tree.Call) -> Span:
    """The position for an item inserted before a call: before its label, too."""
    return _before(call.name.span if call.label is None else call.label.span)


def _before(span: Span) -> Span:
    return Span(span.source, span.start, span.start)


def _after(span: Span) -> Span:
    return Span(span.source, span.end, span.end)


def short(text: str) -> str:
    text = " ".join(text.split())
    return text if len(text) <= 40 else text[:39] + "…"


# ---------------------------------------------------------------- one call


def mend_call(graph: Graph, node: Node, error: OperationError) -> Iterator[Proposal]:
    """The changes of a call that an operation proposes: other arguments, an item before it or instead of it."""
    if node.call is None:
        return
    yield from in_order_of_pytorch(graph, node)
    for mend in error.mends:
        if mend.before:
            yield Proposal(mend.help, Fix(before_item(node.call), mend.before + " -> "))
        elif mend.instead:
            yield Proposal(mend.help, Fix(bare_call(node.call), mend.instead))
        else:
            edits = [given(node, name, value) for name, value in mend.arguments.items()]
            if (fix := change(edits)) is not None:
                yield Proposal(mend.help, fix)


def in_order_of_pytorch(graph: Graph, node: Node) -> Iterator[Proposal]:
    """The call without the number of input channels, if it looks like a PyTorch call."""
    operation, call = node.operation, node.call
    if call is None or operation.channels_at is None or not node.inputs:
        return
    positional = [a for a in call.arguments or () if a.name is None]
    values = [getattr(operation, name) for name, _ in zip(operation.fields, positional, strict=False)]
    channels = graph.shape(node.inputs[0])[0]
    odd = len(values) > 2 and values[0] == channels and values[2] not in (1, 2)
    if odd or operation.is_in_pytorchs_order(values, channels):
        yield from islice(rewritten(type(operation), call, values, channels), 1)


def given(node: Node, parameter: str, value: str) -> tuple[Span, str]:
    """The edit that gives a parameter of a call another value, in the style in which it is written."""
    call = node.call
    assert call is not None
    span = argument_span(node, parameter)
    if span is None:
        return add_argument(call, f"{parameter} = {value}")
    argument = next(a for a in call.arguments or () if a.span == span)
    if isinstance(argument.value, tree.ListValue) and "x" in value:
        value = f"[{value.replace('x', ', ')}]"
    return argument.value.span, value


def add_argument(call: tree.Call, argument: str) -> tuple[Span, str]:
    """The edit that adds an argument to a call."""
    if call.arguments is None:
        return _after(call.span), f"({argument})"
    close = Span(call.span.source, call.span.end - 1, call.span.end - 1)
    return close, f"{', ' if call.arguments else ''}{argument}"


def bare_call(call: tree.Call) -> Span:
    """A call without its label."""
    return Span(call.span.source, call.name.span.start, call.span.end)


# ---------------------------------------------------------------- merges


def mend_merge(graph: Graph, node: Node, error: OperationError) -> Iterator[Proposal]:
    """Changes that make tensors match: another label, other padding, a projection, an `align` before the merge."""
    positions = (error.inputs[0], error.inputs[-1])
    first, second = node.inputs[positions[0]], node.inputs[positions[1]]
    shapes = graph.shape(first), graph.shape(second)
    if len(shapes[0]) != len(shapes[1]) or len(shapes[0]) < 2:
        return
    yield from other_labels(graph, node)
    merge = node.operation
    sizes = [graph.shape(t)[1:] for t in node.inputs]
    if not all(mergeable(merge, s, sizes[0]) for s in sizes):
        all_of = list(meeting(graph, node).inputs)
        yield from remedies(graph, all_of, lambda found: all(mergeable(merge, s[1:], found[0][1:]) for s in found))
    origin = node.origin
    if any(graph.node(n).operation.reorders for n in between(graph, first, second)):
        yield from widths(graph, [first, second], lambda found: mergeable(merge, *found))
    if isinstance(origin, tree.Residual):
        yield from mend_residual(graph, node, first, origin, *shapes)
    elif isinstance(origin, tree.Dense):
        yield from written_out(graph, origin, "concat", *shapes)
    else:
        for mode in ("resize", "crop") if far_apart(graph, *shapes) else ("crop", "resize"):
            yield from brought_together(graph, node, mode)


def between(graph: Graph, first: Tensor, second: Tensor) -> set[int]:
    """The nodes on which exactly one of two tensors depends."""
    return graph.ancestors([first]) ^ graph.ancestors([second])


def brought_together(graph: Graph, node: Node, mode: str) -> Iterator[Proposal]:
    """All branches of a parallel mapped to the first one at once, since the merge needs all of them."""
    shapes = [graph.shape(tensor) for tensor in node.inputs]
    merge = node.operation
    channels = shapes[0][0]
    unlike = [i for i, s in enumerate(shapes) if merge.stacks() != 0 and not mergeable(merge, s[:1], shapes[0][:1])]
    found = [branch_of(meeting(graph, node), i) for i in unlike]
    branches = [branch for branch in found if branch is not None]
    if len(branches) < len(found) or (unlike and not isinstance(channels, int)):
        return
    aligned: list[tuple[Span, str]] = []
    said: list[str] = []
    if any(not mergeable(merge, shape[1:], shapes[0][1:]) for shape in shapes):
        if node.call is None:
            return
        aligned = [(before_item(node.call), f"align({mode}) -> ")]
        verb = {"crop": "crop the larger one", "resize": "resize the second to the first"}[mode]
        said = [f"{verb}: `align({mode}) -> {merge.name}`"]
    if not unlike:
        if aligned and (fix := change(aligned)):
            yield Proposal(said[0], fix)
        return
    whose = branch_of(meeting(graph, node), 0)
    for number in spellings(graph, node.scope, channels, branches[0].span, whose):
        edits = [(_after(b.span), f" -> conv({number}, 1)") for b in branches]
        advice = f"map it to {number} channels: `{short(branches[0].span.text)} -> conv({number}, 1)`"
        if fix := change([*edits, *aligned]):
            yield Proposal("; ".join([advice, *said]), fix)


def other_labels(graph: Graph, node: Node) -> Iterator[Proposal]:
    """Replacements of a label in a parallel by other labels of the same block whose tensors fit."""
    at = meeting(graph, node)
    merge = node.operation
    for position in range(len(at.inputs)):
        branch = branch_of(at, position)
        if branch is None or len(branch.items) != 1 or not isinstance(branch.items[0], tree.Call):
            continue
        item = branch.items[0]
        if item.arguments is not None or item.label is not None or item.name.name == "it":
            continue
        rest = [graph.shape(t) for i, t in enumerate(at.inputs) if i != position]
        axes = slice(1 if merge.stacks() == 0 else 0, None)
        fitting = (
            (label, shape)
            for label, tensor in labels(graph, node.scope)
            if label != item.name.name and tensor not in at.inputs
            for shape in [graph.shape(tensor)]
            if all(len(shape) == len(r) and mergeable(merge, shape[axes], r[axes]) for r in rest)
        )
        for label, shape in islice(fitting, MOST):
            yield Proposal(f"`{label}` fits: it gives {shape_text(shape)}", Fix(item.name.span, label))


def labels(graph: Graph, scope: Scope) -> Iterator[tuple[str, Tensor]]:
    """The labels of a block so far that name one tensor, latest first."""
    call = next(s for s in scope.calls() if s.definition is not None)
    waiting: list[Node | Scope] = [call]
    while waiting:
        member = waiting.pop()
        if isinstance(member, Scope) and (member is call or member.kind == "body"):
            waiting.extend(member.members)
        if member is call or not member.labelled or not member.name.isidentifier():
            continue
        tensors = member.outputs if isinstance(member, Scope) else (Tensor(member.id),)
        if len(tensors) == 1 and tensors[0].node >= 0:
            yield member.name, tensors[0]


def spellings(graph: Graph, scope: Scope, number: Dim, at: Span, whose: tree.Chain | None = None) -> list[str]:
    """Ways to write a tensor's channels at a place in the text; in a block, ways that also hold for its other calls.

    They are names of the block with this value, and the channels of the label that gives the tensor.
    """
    call = next(s for s in scope.calls() if s.definition is not None)
    assert call.definition is not None
    span = call.definition.syntax.span
    if call.kind != "block" or at.source is not span.source or not span.start <= at.start < span.end:
        return [str(number)]
    known = {**bound_sizes(graph, call), **call.arguments}
    names = [name for name, value in known.items() if type(value) is int and value == number][:MOST]
    if whose is not None and len(whose.items) == 1 and isinstance(whose.items[0], tree.Call):
        item = whose.items[0]
        if item.arguments is None and item.label is None and item.name.name != "it":
            names.append(f"{item.name.name}.channels")
    return [*names, str(number)]


def bound_sizes(graph: Graph, call: Scope) -> dict[str, object]:
    """The size names in the `input` of a called block, with their values in this call."""
    assert call.definition is not None
    found: dict[str, object] = {}
    statements = call.definition.syntax.body.statements
    declared = next((s.tensors for s in statements if isinstance(s, tree.Input)), ())
    for tensor, given in zip(declared, call.inputs, strict=False):
        shape = graph.shape(given) if given.node >= 0 else ()
        for dimension, size in zip(tensor.dimensions, shape, strict=False):
            if isinstance(dimension.value, tree.Name) and dimension.value.name != "_":
                found.setdefault(dimension.value.name, size)
    return found


# ---------------------------------------------------------------- written sizes


SIMPLE = 12
"""The maximum length of a size that is proposed instead of the expected one; longer ones do not help."""


def mend_expected(
    graph: Graph, tensor: Tensor, wanted: Mapping[int, Dim], wrong: Sequence[tuple[Span, int]]
) -> Iterator[Proposal]:
    """Changes that give a tensor the sizes that an `expect` or `input` requires, else changes of the requirement."""
    shape = graph.shape(tensor)
    yield from remedies(
        graph, [tensor], lambda found: all(agree((found[0][axis],), (size,)) for axis, size in wanted.items())
    )
    sizes = [dims.python(shape[axis]) for _, axis in wrong]
    fix = change([(span, size) for (span, _), size in zip(wrong, sizes, strict=True)])
    if fix is not None and all(len(size) <= SIMPLE for size in sizes):
        listed = " and ".join(dict.fromkeys(f"`{size}`" for size in sizes))
        yield Proposal(f"if this is intended, write {listed}", fix)


# ---------------------------------------------------------------- residual and dense


def mend_residual(
    graph: Graph, node: Node, tensor: Tensor, origin: tree.Residual, skip: Shape, body: Shape
) -> Iterator[Proposal]:
    """A projection of the skip, whose end is `tensor`, or a replacement if `via` names a single operation."""
    if origin.via is not None:
        via = graph.node(tensor)
        if via.call is not origin.via or len(via.inputs) != 1:
            return
        for projection in projections(graph, node, origin, graph.shape(via.inputs[0]), body):
            help = f"change `via` to map the skip to {shape_text(body)}: `residual via {projection} {{ … }}`"
            yield Proposal(help, Fix(origin.via.span, projection))
        return
    for projection in projections(graph, node, origin, skip, body):
        help = f"route the skip through a projection to {shape_text(body)}: `residual via {projection} {{ … }}`"
        yield Proposal(help, Fix(_before(origin.body.span), f"via {projection} "))
    if origin.condition is None:
        yield from written_out(graph, origin, "add", skip, body)


def written_out(
    graph: Graph, origin: tree.Residual | tree.Dense, merge: str, skip: Shape, body: Shape
) -> Iterator[Proposal]:
    """The parallel equivalent to a `residual` or `dense`, with an `align` before its merge."""
    if origin.label is not None:
        return
    first = "it"
    if OPERATIONS[merge]().stacks() != 0 and not agree(skip[:1], body[:1]):
        first = f"it -> conv({body[0]}, 1)"
    rest = f" -> align({'resize' if far_apart(graph, skip, body) else 'crop'}) -> {merge}"
    if agree(skip[1:], body[1:]):
        rest = f" -> {merge}"
    start, inside = origin.span, origin.body.span
    text = f"({first}, {inside.source.text[inside.start : inside.end]}){rest}"
    word = "residual" if isinstance(origin, tree.Residual) else "dense"
    help = f"expand `{word}` and make the sizes equal: `({first}, {{ … }}){rest}`"
    yield Proposal(help, Fix(Span(start.source, start.start, inside.end), text))


def projections(graph: Graph, node: Node, origin: tree.Residual, skip: Shape, body: Shape) -> Iterator[str]:
    """The calls that map one size to another: a projection with a stride, or a crop."""
    channels = body[0]
    if not isinstance(channels, int) or not isinstance(skip[0], int):
        return
    for stride in (1, 2, 3, 4, 8):
        if not _gives("conv", {"out": channels, "kernel": 1, "stride": stride}, skip, body):
            continue
        strides = [s for s in spellings(graph, node.scope, stride, origin.span) if "stride" in s]
        for number in spellings(graph, node.scope, channels, origin.span):
            for by in [*strides, "" if stride == 1 else str(stride)]:
                if "stride" not in number:
                    yield f"conv({number}, 1, stride = {by})" if by else f"conv({number}, 1)"
        return
    if skip[0] == channels:
        for border in range(1, 9):
            if _gives("crop", {"n": border}, skip, body):
                yield f"crop({border})"
                return


def _gives(name: str, arguments: dict[str, object], shape: Shape, wanted: Shape) -> bool:
    try:
        (result,) = OPERATIONS[name].parse(arguments).infer((shape,), Rules())
        return agree(result, wanted)
    except (OperationError, dims.DimError):
        return False


def mergeable(merge: Operation, first: Shape, second: Shape) -> bool:
    """Whether a merge accepts these sizes together: some broadcast sizes of 1."""
    pairs = [(a, b) for a, b in zip(first, second, strict=True) if not merge.stretches() or (a != 1 and b != 1)]
    return agree(tuple(a for a, _ in pairs), tuple(b for _, b in pairs))


def far_apart(graph: Graph, first: Shape, second: Shape) -> bool:
    """Whether two sizes differ by a stride, rather than by a border or by rounding."""
    examples = {size.name: size.example for size in graph.free}
    values = {name: examples.get(name) or 64 for name in dims.free_sizes(*first, *second)}
    for a, b in zip(first[1:], second[1:], strict=True):
        x, y = sorted((dims.evaluate(a, values), dims.evaluate(b, values)))
        if y >= 1.5 * x + 1:
            return True
    return False
