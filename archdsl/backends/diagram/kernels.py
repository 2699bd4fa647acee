"""The windows that layers move over their maps, drawn on the feature maps that they read, in a figure of volumes."""

from __future__ import annotations

from collections.abc import Iterator
from math import sqrt
from typing import TYPE_CHECKING

from archdsl.backends.diagram.layout import Layout
from archdsl.backends.diagram.picture import Edge
from archdsl.backends.diagram.scene import Pen, Point, Polygon, Shape, Thing
from archdsl.graph import Node

if TYPE_CHECKING:
    from archdsl.backends.diagram.volumes import Figure

SMALLEST = 3.0
"""Points of the smallest side of a window."""


def kernels(figure: Figure, layout: Layout) -> Iterator[Thing]:
    """A window on each map that a layer reads through one, with lines to the point that it gives."""
    for edge in figure.picture.edges:
        shown = all(part in figure.volumes and part in layout.places for part in (edge.tail, edge.head))
        if shown and edge.head.kind == "layers":
            reach = _reach(figure, edge)
            if reach is not None:
                yield Thing(tuple(_drawn(figure, layout, edge, reach)))


def _reach(figure: Figure, edge: Edge) -> list[int] | None:
    """How far the first window of the head reaches along each axis of a map; None if it has none, or sees all."""
    for node in edge.head.nodes:
        sizes = tuple(figure.analysis.shape(t) for t in node.inputs)
        window = node.operation.window(sizes[:1]) if sizes and _follows(edge, node) else None
        if window is not None and not window.whole and len(sizes[0]) > 1:
            found = [d * (k - 1) + 1 for k, d in zip(window.kernel, window.dilation, strict=True)]
            if node.operation.has_filters or max(found) > 1:  # padding sees single places
                return found
    return None


def _follows(edge: Edge, node: Node) -> bool:
    """Whether a layer reads what an arrow brings, or what the layers before it in its box made of that."""
    inside = {n.id for n in edge.head.nodes}
    return any(t in edge.tensors or t.node in inside for t in node.inputs)


def _drawn(figure: Figure, layout: Layout, edge: Edge, reach: list[int]) -> Iterator[Shape]:
    volume, oblique = figure.volumes[edge.tail], figure.oblique
    (x, y), (width, height) = layout.places[edge.tail], volume.extent
    right, bottom = x - width / 2 + volume.thickness, y - height / 2
    high = min(max(figure.per_side * sqrt(reach[-2] if len(reach) > 1 else reach[-1]), SMALLEST), volume.height)
    deep = min(max(figure.per_side * sqrt(reach[-1]), SMALLEST), volume.depth) if volume.depth else 0.0
    # In the upper half of the side that faces what reads it: the arrow leaves from the middle.
    back, low = oblique * (volume.depth - deep) / 2, bottom + 0.75 * (volume.height - high)
    near, far = (right + back, low + back), (right + back + oblique * deep, low + back + oblique * deep)
    corners: list[Point] = [near, far, (far[0], far[1] + high), (near[0], near[1] + high)]
    if not volume.depth:  # a sequence has a front alone
        thick = min(volume.thickness, SMALLEST)
        corners = [(right - thick, low), (right, low), (right, low + high), (right - thick, low + high)]
    fill, border = figure.writer.colours(edge.head)
    head, (head_width, _) = layout.places[edge.head], figure.volumes[edge.head].extent
    tip = (head[0] - head_width / 2, head[1] + figure.volumes[edge.head].height / 6)
    lines = Pen(border, width=0.5, dash="dotted")
    yield from (Polygon((corner, tip), lines, closed=False) for corner in corners[1:3])
    yield Polygon(tuple(corners), Pen(border, fill, 0.9))
