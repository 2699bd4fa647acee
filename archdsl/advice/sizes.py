"""Explains size errors: the tensors involved, how each got its size, and a fix."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain

from archdsl import dims
from archdsl.advice.mending import argument_span, branch_of, meeting, mend_call, mend_merge, short
from archdsl.common.source import Span
from archdsl.diagnostics import Mark, Proposal
from archdsl.dims import Dim
from archdsl.graph import Graph, Node, Tensor
from archdsl.ops.declaration import OperationError
from archdsl.ops.fields import shape_text
from archdsl.syntax import tree

STEPS = 3
"""The maximum number of steps shown of a tensor's history; the most recent size changes matter most."""


@dataclass(frozen=True, slots=True)
class Advice:
    """The additions to the message of a size error."""

    marks: tuple[Mark, ...]
    notes: tuple[str, ...]
    help: str | None
    proposals: tuple[Proposal, ...]


def advise(graph: Graph, node: Node, error: OperationError, size: str | None = None) -> Advice:
    """Marks, history and fix for a node that cannot take its inputs; `size` is the free size at fault, if any.

    The node may not be in the graph yet.
    """
    cause = argument_span(node, error.parameter) or node.span
    marks = [Mark(cause)]
    for position in error.inputs:
        tensor = node.inputs[position]
        where = party_span(graph, meeting(graph, node), position)
        if where != cause:
            marks.append(Mark(where, f"gives {shape_text(graph.shape(tensor))}"))
    notes = tuple(history(graph, node, error.inputs, size)) if len(error.inputs) > 1 else ()
    proposals = chain(mend_call(graph, node, error), mend_merge(graph, node, error) if len(error.inputs) > 1 else ())
    return Advice(tuple(marks), notes, error.help, tuple(proposals))


def party_span(graph: Graph, node: Node, position: int) -> Span:
    """The text that gives an incoming tensor: its item, or the branch of the parallel if that is a reference."""
    source = graph.node(node.inputs[position])
    branch = branch_of(node, position)
    if branch is not None and len(branch.items) == 1 and source.span.source is branch.span.source:
        inside = branch.span.start <= source.span.start and source.span.end <= branch.span.end
        return source.span if inside else branch.span
    return source.span


# ---------------------------------------------------------------- history


def history(graph: Graph, node: Node, positions: tuple[int, ...], size: str | None = None) -> list[str]:
    """How two tensors with a common ancestor got different sizes: one line each, with the last steps of its history.

    Shows the channels and one spatial size, that of the free size `size` if there is one.
    """
    first, second = (node.inputs[p] for p in (positions[0], positions[-1]))
    shapes = graph.shape(first), graph.shape(second)
    if len(shapes[0]) != len(shapes[1]):
        return []
    unlike = [i for i, (a, b) in enumerate(zip(*shapes, strict=True)) if a != b]
    unlike = [i for i in unlike if i != node.operation.stacks()]
    spatial = [i for i in unlike if i > 0]
    of_size = [i for i in spatial if size in dims.free_sizes(*(s[i] for s in shapes))]
    axes = [i for i in unlike if i == 0] + (of_size or spatial)[:1]
    at = meeting(graph, node)
    first, second = (at.inputs[p] for p in (positions[0], positions[-1]))
    common = graph.ancestors([first]) & graph.ancestors([second])
    lines = []
    for name, tensor in zip(party_names(at, positions), (first, second), strict=True):
        steps = size_history(graph, tensor, axes, common)
        if steps:
            shown = ["…"] * (len(steps) > STEPS) + steps[-STEPS:]
            lines.append(f"{name}: " + "; ".join(shown))
    return lines


def party_names(node: Node, positions: tuple[int, ...]) -> tuple[str, str]:
    if isinstance(node.origin, tree.Residual | tree.Dense):
        return "the skip", "the body"
    first, second = (branch_of(node, p) for p in (positions[0], positions[-1]))
    if first is None or second is None:
        return "one side", "the other"
    return f"`{short(first.span.text)}`", f"`{short(second.span.text)}`"


def size_history(graph: Graph, tensor: Tensor, axes: Sequence[int], common: set[int]) -> list[str]:
    """The nodes that changed these axes of a tensor after the common ancestors, oldest first."""
    steps: list[str] = []
    seen: object = None
    while tensor.node not in common:
        node = graph.node(tensor)
        sizes = _sizes(graph, tensor, axes)
        if not node.inputs or sizes is None:
            break
        before = next((t for t in node.inputs if _sizes(graph, t, axes) == sizes), node.inputs[0])
        if len(node.inputs) == len(node.shapes) > 1:
            before = node.inputs[tensor.index]
        were = _sizes(graph, before, axes)
        if node.operation.reorders:
            axes = [node.operation.axis_from(axis) for axis in axes]
            were = sizes
        if were is None:
            break
        if were != sizes and (node.span, sizes) != seen:
            seen = (node.span, sizes)
            steps.append(step_text(graph, node, axes, were, sizes))
        tensor = before
    return steps[::-1]


def _sizes(graph: Graph, tensor: Tensor, axes: Sequence[int]) -> list[Dim] | None:
    """The sizes of some axes; None if a tensor lacks one of them."""
    shape = graph.shape(tensor)
    return [shape[axis] for axis in axes] if all(axis < len(shape) for axis in axes) else None


def step_text(graph: Graph, node: Node, axes: Sequence[int], were: Sequence[Dim], sizes: Sequence[Dim]) -> str:
    line = f"`{node.path}`, line {node.span.line}" if node.labelled else f"line {node.span.line}"
    changes = [
        f"{'the size' if axis else 'the channels'} from {_shown(graph, was)} to {_shown(graph, size)}"
        for axis, was, size in zip(axes, were, sizes, strict=True)
        if was != size
    ]
    return f"{node.operation.caption()} ({line}) changes {' and '.join(changes)}"


def _shown(graph: Graph, size: Dim) -> str:
    """`⌊H/2⌋ = 56`: a size, and its value at the example size."""
    examples = {s.name: s.example for s in graph.free if s.example is not None}
    if isinstance(size, int) or not size.variables <= examples.keys():
        return dims.text(size)
    return f"{dims.text(size)} = {dims.evaluate(size, examples)}"
