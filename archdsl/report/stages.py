"""The stages of a network: consecutive layers and blocks at one resolution."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import TypeAlias

from archdsl.analysis.costs import IntShape
from archdsl.graph import Node, Scope, Tensor
from archdsl.ops.index_maps import TooFine
from archdsl.report.layers import Layers

Part: TypeAlias = Node | Scope

Resolution: TypeAlias = tuple[Fraction, ...]
"""Input elements per element of a tensor, along each axis; empty if it is flat or pooled to one element."""


@dataclass(frozen=True, slots=True, eq=False)
class Stage:
    """Layers, and blocks that join branches, in order. Costs are for the batch.

    `name` is a short range of paths; `sizes` are the spatial sizes of the outputs, without consecutive repeats. `macs`
    are multiply-accumulates, `memory` bytes of outputs, `weighted` the layers with learned weights.
    """

    parts: tuple[Part, ...]
    name: str
    sizes: tuple[IntShape, ...]
    weighted: int
    parameters: int
    macs: int
    memory: int


def stages(model: Layers) -> list[Stage]:
    """The stages of a network, which together cover all of it."""
    pace = resolutions(model)
    runs: list[list[Part]] = []
    here: Resolution | None = None
    for part in units(model.graph.root):
        given = isinstance(part, Node) and part.operation.is_input
        mine = pace[outputs(part)[0]]
        # An input belongs to its first reader.
        if not runs or (mine != here and here is not None and not given):
            runs.append([])
        if not given:
            here = mine
        runs[-1].append(part)
    return [_stage(model, run) for run in runs]


def _stage(model: Layers, parts: Sequence[Part]) -> Stage:
    nodes = [n for part in parts for n in nodes_of(part)]
    tensors = [t for part in parts for t in outputs(part) if not model.graph.node(t).operation.is_input]
    sizes = dict.fromkeys(model.costs.shape(t)[1:] for t in tensors or outputs(parts[-1]))
    return Stage(
        tuple(parts),
        _name(nodes),
        tuple(sizes),
        weighted(nodes),
        sum(model.costs[p].parameters for p in parts),
        sum(model.costs[p].macs for p in parts) * model.options.batch,
        sum(model.bytes(p) for p in parts),
    )


def _name(nodes: Sequence[Node]) -> str:
    """The scope that contains exactly these parts, or the first and last part of one."""
    inside = {node.id for node in nodes}
    computing = [n for n in nodes if n.operation.is_weighted] or [n for n in nodes if not n.operation.is_input] or nodes
    around: list[list[Part]] = [[*list(n.scope.calls())[::-1], n] for n in computing]
    depth = sum(all(s is scopes[0] for s in scopes) for scopes in zip(*(a[:-1] for a in around), strict=False))

    def whole(chain: Sequence[Part]) -> Part:
        """The outermost of a node and its enclosing scopes that is a whole unit here."""
        return next(p for p in chain if isinstance(p, Node) or all(n.id in inside for n in p.nodes()))

    # The model itself is not a useful name for one of its parts.
    common = whole(around[0][1:])
    if common in around[0][1:depth]:
        return common.path
    first, last = whole(around[0][depth:]), whole(around[-1][depth:])
    prefix = f"{around[0][depth - 1].path}."
    return first.path if first is last else f"{first.path} … {last.path.removeprefix(prefix)}"


def resolutions(model: Layers) -> Mapping[Tensor, Resolution]:
    """The resolution of every tensor, relative to the first input that is not resized."""
    found: dict[Tensor, Resolution] = {}
    shapes = model.costs.shapes
    for node in model.graph.nodes():
        incoming = tuple(shapes[t.node][t.index] for t in node.inputs)
        for result, shape in enumerate(shapes[node.id]):
            pace: Resolution = (Fraction(1),) * (len(shape) - 1)
            if node.inputs:
                alike = [i for i, s in enumerate(incoming) if s[1:] == shape[1:]]
                at = alike[0] if alike else min(result, len(incoming) - 1)
                pace = found[node.inputs[at]]
                if not alike:
                    pace = _moved(node, result, at, incoming, shapes[node.id], pace)
            found[Tensor(node.id, result)] = pace
    return found


def _moved(
    node: Node, result: int, at: int, incoming: tuple[IntShape, ...], given: tuple[IntShape, ...], pace: Resolution
) -> Resolution:
    """The resolution of a result whose size differs from that of the input at a position."""
    before, after = incoming[at][1:], given[result][1:]
    if len(before) != len(after) or not pace:
        return ()
    try:
        maps = node.operation.index_maps(result, incoming, given).get(at)
    except TooFine:
        return tuple(p * Fraction(n, m) for p, n, m in zip(pace, before, after, strict=True))
    if maps is None:  # it takes only the size of that input, like a mask of its positions
        return pace
    moved = {by.out: p * Fraction(by.step, by.period) for p, by in zip(pace, maps, strict=True) if by.out is not None}
    return tuple(moved[a] for a in range(len(after))) if len(moved) == len(after) else ()


def units(scope: Scope) -> Iterator[Part]:
    """The nodes inside, with blocks that add a skip, or multiply by a gate, as one unit."""
    stack: list[Part] = [scope]
    while stack:
        part = stack.pop()
        if isinstance(part, Node) or (part is not scope and _joins(part)):
            yield part
        else:
            stack.extend(reversed(part.members))


def _joins(scope: Scope) -> bool:
    return any(isinstance(m, Node) and m.operation.joins_skip for m in scope.members)


def outputs(part: Part) -> list[Tensor]:
    """The output tensors of a layer or block."""
    return [Tensor(part.id)] if isinstance(part, Node) else list(part.outputs)


def nodes_of(part: Part) -> Iterator[Node]:
    return iter([part]) if isinstance(part, Node) else part.nodes()


def weighted(nodes: Sequence[Node]) -> int:
    """How many of some layers have learned weights."""
    return sum(node.operation.is_weighted and not node.again for node in nodes)
