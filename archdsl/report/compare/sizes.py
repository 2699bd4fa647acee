"""The input size at which two networks are compared."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import zip_longest

from archdsl import dims
from archdsl.analysis.costs import Analysis
from archdsl.graph import Graph
from archdsl.ops.base import Shape
from archdsl.report.summary import input_shapes

Sizes = Mapping[str, int]


def common_sizes(before: Graph, after: Graph) -> tuple[Sizes, Sizes]:
    """Free sizes that give the inputs of both networks one size, channels apart; empty if nothing need or can be done.

    The example sizes of the one or the other come first, then valid ones near them.
    """
    if _extents(before, before.examples) == _extents(after, after.examples):
        return {}, {}
    for wanted in _candidates(before, after):
        found = [_matched(graph, wanted) for graph in (before, after)]
        if found[0] is not None and found[1] is not None:
            return found[0], found[1]
    return {}, {}


def alike(old: Analysis, new: Analysis) -> bool:
    """Whether two networks are measured at one size of their inputs."""
    return _extents(old.graph, old.sizes) == _extents(new.graph, new.sizes)


def _shapes(graph: Graph) -> list[Shape]:
    return [shape for _, shape in input_shapes(graph)]


def _extents(graph: Graph, sizes: Sizes) -> list[list[int]]:
    """The numbers of each input's size, without the channels."""
    return [[dims.evaluate(d, {**graph.examples, **sizes}) for d in shape[1:]] for shape in _shapes(graph)]


def _candidates(before: Graph, after: Graph) -> Iterator[list[list[int]]]:
    yield _extents(before, before.examples)
    yield _extents(after, after.examples)
    for first, second in ((before, after), (after, before)):
        near = dict(first.examples)
        for ours, theirs in zip(_shapes(first), _shapes(second), strict=False):
            for a, b in zip(ours[1:], theirs[1:], strict=False):
                if (name := dims.name_of(a)) and (other := dims.name_of(b)):
                    nearest = first.sizes[name].intersect(second.sizes[other]).nearest(near[name])
                    near[name] = next((n for n in reversed(nearest) if n is not None), near[name])
        yield _extents(first, near)


def _matched(graph: Graph, wanted: Sequence[Sequence[int]]) -> dict[str, int] | None:
    """The free sizes for inputs of these sizes; None if they do not fit."""
    values: dict[str, int] = {}
    rest: list[tuple[dims.Dim, int]] = []
    for shape, sizes in zip_longest(_shapes(graph), wanted):
        if shape is None or sizes is None or len(shape) - 1 != len(sizes):
            return None
        for dim, size in zip(shape[1:], sizes, strict=True):
            if name := dims.name_of(dim):
                values.setdefault(name, size)
            rest.append((dim, size))
    whole = {**graph.examples, **values}
    fits = graph.always.holds(whole) and all(dims.evaluate(dim, whole) == size for dim, size in rest)
    return values if fits else None
