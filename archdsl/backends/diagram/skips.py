"""Skips beside the trunk: a way out to one side, straight along all that it goes around, and back in.

`dot` leads an arrow around boxes in one swing that leans where they do; this one keeps its distance.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from archdsl.backends.diagram.layout import ARROW, Box, Layout, Point, around, samples, straight
from archdsl.backends.diagram.picture import Edge, Part

CLEAR = 9.0
"""Points between a skip and what it goes around."""

FARTHEST = 260.0
"""Points from the ends of a skip within which it runs, else `dot`'s way is kept."""

BEND = 12.0
"""The radius of a skip's corners, in points."""

ROUND = 0.55
"""Where the control points of a quarter of a circle stand, as a share of its radius."""


def route(layout: Layout, edge: Edge, inside: Sequence[Part], *, down: bool) -> list[Point] | None:
    """The way of a skip, None where there is no clear one. `inside` are the frames around its ends."""
    turn = _same if down else _swapped
    boxes = [around(at, layout.sizes[p]) for p, at in layout.places.items() if p not in (edge.tail, edge.head)]
    boxes += [box for part, box in layout.frames.items() if part not in inside]
    boxes += [around(label.at, label.size) for label in layout.labels.values()]
    boxes = [turn(box) for box in boxes]
    tail, head = (turn(around(layout.places[p], layout.sizes[p])) for p in (edge.tail, edge.head))
    others = [samples(way) for other, way in layout.routes.items() if other is not edge and other.kind != "flow"]
    taken = [(x, y) if down else (-y, -x) for way in others for x, y in way]
    found = [way for side in (1, -1) if (way := _around(tail, head, boxes, taken, side)) is not None]
    if not found:
        return None
    # The right side, unless the left one is clearly nearer.
    best = min(found, key=lambda way: abs(way[9][0] - way[0][0]) - (CLEAR if way[9][0] > way[0][0] else 0))
    return best if down else [(-y, -x) for x, y in best]


def _same(box: Box) -> Box:
    return box


def _swapped(box: Box) -> Box:
    """A box of a network that runs to the right, as if it ran down."""
    left, bottom, right, top = box
    return -top, -right, -bottom, -left


def _around(tail: Box, head: Box, boxes: Sequence[Box], taken: Sequence[Point], side: int) -> list[Point] | None:
    """The way on one side: 1 is the right one."""
    edge = 2 if side > 0 else 0
    start = (tail[edge], (tail[1] + tail[3]) / 2)
    end = (head[edge], (head[1] + head[3]) / 2)
    if start[1] <= end[1]:
        return None
    bend = min(BEND, (start[1] - end[1]) / 2)
    between = [box for box in boxes if box[1] < start[1] and box[3] > end[1]]
    out = max([side * start[0], side * end[0], *(side * box[edge] for box in between)]) + CLEAR
    out = max([out, *(side * x + CLEAR for x, y in taken if end[1] <= y <= start[1] and side * x > out - CLEAR)])
    if out - min(side * start[0], side * end[0]) > FARTHEST:
        return None
    x, bend = side * out, min(bend, abs(side * out - start[0]), abs(side * out - end[0]) - ARROW)
    if bend <= 0:
        return None
    (_, y1), (x2, y2) = start, end
    base = (x2 + side * ARROW, y2)
    way = [
        start,
        *straight(start, (x - side * bend, y1)),
        (x - side * (1 - ROUND) * bend, y1),
        (x, y1 - (1 - ROUND) * bend),
        (x, y1 - bend),
        *straight((x, y1 - bend), (x, y2 + bend)),
        (x, y2 + (1 - ROUND) * bend),
        (x - side * (1 - ROUND) * bend, y2),
        (x - side * bend, y2),
        *straight((x - side * bend, y2), base),
        end,
    ]
    points = samples(way, 16)
    hit = any(_between(a, b, box) for a, b in pairwise(points) for box in boxes)
    return None if hit else way


def _between(a: Point, b: Point, box: Box) -> bool:
    """Whether a short piece runs into a box."""
    x, y = (a[0] + b[0]) / 2, (a[1] + b[1]) / 2
    return box[0] - 1 < x < box[2] + 1 and box[1] - 1 < y < box[3] + 1
