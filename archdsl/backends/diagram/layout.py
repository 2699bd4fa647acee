"""Layouts: the places of everything in a picture."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from math import hypot

from archdsl.backends.diagram.labels import Line, extent
from archdsl.backends.diagram.picture import Edge, Part

Point = tuple[float, float]
Size = tuple[float, float]
Box = tuple[float, float, float, float]
"""Left, bottom, right, top."""

ARROW = 6.0
"""Length of an arrow's head, in points."""

BEND = 10.0
"""The radius of an arrow's corners, in points."""

ROUND = 0.55
"""The distance of the control points of a quarter of a circle, as a share of its radius."""

TEXT_GAP = 2.0
"""Points that the text beside a box keeps from it and from the arrow, together."""


@dataclass(frozen=True, slots=True)
class Label:
    """The text on an arrow: its lines, their size, and their middle."""

    lines: Sequence[Line]
    size: Size
    at: Point

    @property
    def box(self) -> Box:
        return around(self.at, self.size)


@dataclass(slots=True)
class Layout:
    """Middles and sizes of boxes, frames, routes of arrows and their texts, in points; y grows upwards.

    A route is made of Bézier pieces: a start, then two control points and an end for each; the tip of the arrow's head,
    if it has one, comes last. `corners` are those of the routes that turn at right angles.
    """

    places: dict[Part, Point] = field(default_factory=dict)
    sizes: dict[Part, Size] = field(default_factory=dict)
    frames: dict[Part, Box] = field(default_factory=dict)
    routes: dict[Edge, list[Point]] = field(default_factory=dict)
    labels: dict[Edge, Label] = field(default_factory=dict)
    notes: dict[Part, Label] = field(default_factory=dict)
    """The texts beside the signs of merges that have a place of their own."""
    corners: dict[Edge, list[Point]] = field(default_factory=dict)
    continued: dict[Part, list[Box]] = field(default_factory=dict)
    """The further pieces of frames that are cut."""
    notes_below: bool = False
    """Whether the notes of merges are below their signs and texts, instead of left of where their arrows leave."""

    def lead(self, edge: Edge, corners: list[Point]) -> None:
        """Gives an arrow its route along corners."""
        self.corners[edge] = corners
        self.routes[edge] = rounded(corners, head=edge.head.kind != "entry")

    def box(self, part: Part) -> Box:
        """The room of a box."""
        return around(self.places[part], self.sizes[part])

    def boxes(self) -> Iterator[Box]:
        """The rooms of all that has one: boxes, frames, texts."""
        yield from map(self.box, self.places)
        yield from self.frames.values()
        yield from (box for boxes in self.continued.values() for box in boxes)
        yield from (label.box for label in (*self.labels.values(), *self.notes.values()))

    def bounds(self) -> Box:
        return union([*self.boxes(), *((x, y, x, y) for route in self.routes.values() for x, y in route)])

    def moved(self, dx: float, dy: float) -> Layout:
        return self.mapped(lambda point: (point[0] + dx, point[1] + dy))

    def mapped(self, to: Callable[[Point], Point]) -> Layout:
        """With everything where `to` puts it; boxes and texts keep their sizes."""
        layout = Layout(
            {part: to(at) for part, at in self.places.items()},
            self.sizes,
            {part: (*to(box[:2]), *to(box[2:])) for part, box in self.frames.items()},
            {edge: [to(point) for point in route] for edge, route in self.routes.items() if edge not in self.corners},
            {edge: Label(label.lines, label.size, to(label.at)) for edge, label in self.labels.items()},
        )
        for edge, corners in self.corners.items():
            layout.lead(edge, [to(corner) for corner in corners])
        layout.notes = {part: Label(note.lines, note.size, to(note.at)) for part, note in self.notes.items()}
        layout.notes_below = self.notes_below
        layout.continued = {p: [(*to(b[:2]), *to(b[2:])) for b in boxes] for p, boxes in self.continued.items()}
        return layout


def around(at: Point, size: Size) -> Box:
    """The box whose middle is there."""
    (x, y), (w, h) = at, size
    return x - w / 2, y - h / 2, x + w / 2, y + h / 2


def label_size(lines: Sequence[Line]) -> Size:
    """The room of the text on an arrow."""
    width, height = extent(lines)
    return width, height + TEXT_GAP


def union(boxes: Iterable[Box]) -> Box:
    lefts, bottoms, rights, tops = zip(*boxes, strict=True)
    return min(lefts), min(bottoms), max(rights), max(tops)


def meet(a: Box, b: Box) -> bool:
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]


def rounded(corners: Sequence[Point], *, head: bool = True) -> list[Point]:
    """A route along corners, which it rounds off; with the head of an arrow at its end."""
    lengths = [hypot(x2 - x1, y2 - y1) for (x1, y1), (x2, y2) in pairwise(corners)]
    free = [length / 2 for length in lengths]
    free[0], free[-1] = lengths[0], lengths[-1] - (ARROW if head else 0)
    points, at = [corners[0]], corners[0]
    for number, corner in enumerate(corners[1:-1]):
        bend = max(min(BEND, free[number], free[number + 1]), 0.0)
        a, b = toward(corner, corners[number], bend), toward(corner, corners[number + 2], bend)
        inner = [toward(corner, end, bend * (1 - ROUND)) for end in (a, b)]
        points += [*straight(at, a), *inner, b]
        at = b
    if not head:
        return points + straight(at, corners[-1])
    return [*points, *straight(at, toward(corners[-1], corners[-2], ARROW)), corners[-1]]


def toward(a: Point, b: Point, far: float) -> Point:
    """The point that far from a towards b."""
    length = max(hypot(b[0] - a[0], b[1] - a[1]), 1e-6)
    return a[0] + far * (b[0] - a[0]) / length, a[1] + far * (b[1] - a[1]) / length


def straight(a: Point, b: Point) -> list[Point]:
    """A straight piece of a route, without its start."""
    (ax, ay), (bx, by) = a, b
    return [(ax + (bx - ax) / 3, ay + (by - ay) / 3), (ax + 2 * (bx - ax) / 3, ay + 2 * (by - ay) / 3), (bx, by)]


def samples(route: Sequence[Point], steps: int = 8) -> list[Point]:
    """Points on a route, from its start to its end."""
    found = [route[0]]
    for i in range(0, len(route) - 3, 3):
        for step in range(1, steps + 1):
            t = step / steps
            weights = ((1 - t) ** 3, 3 * t * (1 - t) ** 2, 3 * t * t * (1 - t), t**3)
            x, y = (sum(w * p[axis] for w, p in zip(weights, route[i : i + 4], strict=True)) for axis in (0, 1))
            found.append((x, y))
    return found if len(route) % 3 == 1 else [*found, route[-1]]


def squeezed(intervals: Iterable[tuple[float, float]], gap: float) -> Callable[[float], float]:
    """A map of coordinates that leaves intervals as long as they are, and makes what is free between them no longer
    than `gap`."""
    taken: list[list[float]] = []
    for low, high in sorted(intervals):
        if taken and low <= taken[-1][1]:
            taken[-1][1] = max(taken[-1][1], high)
        else:
            taken.append([low, high])
    starts, ends, offsets = [taken[0][0]], [taken[0][1]], [0.0]
    for low, high in taken[1:]:
        offsets.append(offsets[-1] + min(gap - (low - ends[-1]), 0))
        starts.append(low)
        ends.append(high)

    def to(value: float) -> float:
        at = bisect_right(starts, value) - 1
        if at < 0:
            return value
        if value <= ends[at] or at + 1 == len(starts):
            return value + offsets[at]
        free = starts[at + 1] - ends[at]
        return ends[at] + offsets[at] + (value - ends[at]) * min(gap / free, 1)

    return to
