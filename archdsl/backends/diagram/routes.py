"""The routes of arrows: straight, else with right angles, clear of boxes, frames and texts.

`dot` places the boxes. Its own curves touch what they go around; these routes keep their distance.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import pairwise
from typing import NamedTuple

from archdsl.backends.diagram.layout import ARROW, Box, Layout, Point, meet
from archdsl.backends.diagram.picture import Edge, Part

CLEAR = 9.0
"""Points between an arrow and what it goes around."""

TURN = 8.0
"""Points under a box from which several arrows leave, in which they part."""

LANDING = 13.0
"""Points straight down to the tip of an arrow that comes from aside."""

SLANT = 24.0
"""Points aside within which an arrow may lean from its tail to its head."""

FARTHEST = 260.0
"""Points from the ends of an arrow within which it runs."""

CORNER, CROSSING, ON_ANOTHER = 20.0, 60.0, 400.0
"""The costs of a corner, of a crossing or of parting from an arrow of another kind right under their box, and of
running on another arrow, in points of length."""

BESIDE = 6.0
"""Points beside its place at which one of several arrows may arrive."""

TALL = 24.0
"""Points of a side above which skips arrive and leave apart."""

STEP = 64.0
"""The height of a bucket of the index, and the width of a column, in points."""


class Segment(NamedTuple):
    """A straight segment of an arrow."""

    a: Point
    b: Point
    edge: Edge
    box: Box


class Router:
    """Finds routes for the arrows of a layout, one after the other: each goes around those before it.

    All arrows are routed as if running down; a network that runs to the right is turned for it, and turned back.
    """

    def __init__(
        self,
        layout: Layout,
        frames: Mapping[Part, Sequence[Part]],
        forks: Iterable[Part] = (),
        headings: Mapping[Part, float] | None = None,
        landings: Mapping[Edge, float] | None = None,
        *,
        down: bool,
    ) -> None:
        """`frames` are those around each box, `forks` the boxes with room below in which arrows part, `headings` the
        heights of the frames' headings, `landings` how far beside the middle of its head an arrow arrives."""
        self.layout = layout
        self.frames = frames
        self.forks = set(forks)
        self.landings = landings or {}
        self.down = down
        self._obstacles: dict[int, list[tuple[Box, Part | None]]] = {}
        self._headings: dict[Part, Box] = {}
        self._upright: dict[int, list[Segment]] = {}
        self._level: dict[int, list[Segment]] = {}
        self.asides: set[Edge] = set()
        """Arrows that would run on others, and may begin at the side of any box, or below the middle of a small one."""
        self.overlaid: dict[Edge, None] = {}
        """Arrows on which a later one had to run; they may get another route."""
        rooms: list[tuple[Box, Part | None]] = [(layout.box(p), None) for p in layout.places]
        rooms += [(frame, part) for part, frame in layout.frames.items()]
        for label in (*layout.labels.values(), *layout.notes.values()):
            left, bottom, right, top = label.box
            rooms.append(((left + 1, bottom + 1, right - 1, top - 1), None))
        unders = {edge.tail: self._below(edge) for edge in layout.labels}
        self._under = {part: under for part, under in unders.items() if under is not None}
        for room, part in rooms:
            turned = self._turned(room)
            for bucket in buckets(turned):
                self._obstacles.setdefault(bucket, []).append((turned, part))
        for part, height in (headings or {}).items():
            left, _, right, top = layout.frames[part]
            self._headings[part] = self._turned((left, top - height, right, top))
        for edge, corners in layout.corners.items():
            self._take(edge, [self._point(c) for c in corners])

    def find(self, edge: Edge) -> list[Point] | None:
        """The corners of an arrow's route, None where there is no clear one."""
        best = self._best(edge)
        if best is not None and self._followed(best, edge) and edge not in self.asides:
            self.asides.add(edge)
            best = self._best(edge)
        if best is None:
            return None
        self.overlaid |= self._followed(best, edge)
        self._take(edge, best[1])
        return [self._point(c) for c in best[1]]

    def _best(self, edge: Edge) -> tuple[float, list[Point]] | None:
        """The cheapest clear route, with its cost."""
        one, other = set(self.frames[edge.tail]), set(self.frames[edge.head])
        inside = one | other
        best: tuple[float, list[Point]] | None = None
        for route in self._candidates(edge, inside):
            if not self._clear(route, inside, one ^ other):
                continue
            if len(route) == 2 and route[0][0] == route[1][0]:
                return 0, route
            cost = self._cost(route, edge)
            if best is None or cost < best[0]:
                best = (cost, route)
        return best

    def again(self, edge: Edge) -> list[Point] | None:
        """The corners of a route for an arrow that has one already, beside those that came later."""
        for index in (self._upright, self._level):
            for place, segments in index.items():
                index[place] = [segment for segment in segments if segment.edge is not edge]
        return self.find(edge)

    # ------------------------------------------------------------ turning

    def _turned(self, box: Box) -> Box:
        left, bottom, right, top = box
        return box if self.down else (-top, -right, -bottom, -left)

    def _point(self, at: Point) -> Point:
        return at if self.down else (-at[1], -at[0])

    def _room(self, part: Part) -> Box:
        return self._turned(self.layout.box(part))

    def _below(self, edge: Edge) -> float | None:
        """The lower side of the text under a box, from which its arrows begin; None if it is elsewhere."""
        left, bottom, right, _ = self._room(edge.tail)
        x1, y1, x2, y2 = self._turned(self.layout.labels[edge].box)
        return y1 if x1 + 1 < (left + right) / 2 < x2 - 1 and y1 < bottom <= y2 + 1 else None

    # ------------------------------------------------------------ candidates

    def _candidates(self, edge: Edge, inside: set[Part]) -> Iterator[list[Point]]:
        """Routes, clear or not, the straight ones first."""
        tail, head = self._room(edge.tail), self._room(edge.head)
        if edge.is_skip:
            (x1, y1), (x2, y2) = middle(tail), middle(head)
            if self.down:
                y1, y2 = y1 - aside(tail, 0 if edge in self.asides else TALL), y2 + aside(head)
            for lane in self._lanes(tail, head, tail[3], inside):
                out, into = edge_of(tail, 1 if lane > x1 else -1), edge_of(head, 1 if lane > x2 else -1)
                yield [(out, y1), (lane, y1), (lane, y2), (into, y2)]
            return
        under, top = self._under.get(edge.tail, tail[1]), head[3]
        entered = set(self.frames[edge.head]) - set(self.frames[edge.tail])
        above = [self._turned(self.layout.frames[part])[3] + CLEAR for part in entered if part in self.layout.frames]
        left = set(self.frames[edge.tail]) - set(self.frames[edge.head])
        beyond = [self._turned(self.layout.frames[part])[1] - CLEAR for part in left if part in self.layout.frames]
        levels = [under - TURN, top + LANDING, (under + top) / 2, top + ARROW + 2.5, *above, *beyond]
        levels = [level for level in levels if top + ARROW + 2 < level < under]
        if (shift := self.landings.get(edge, 0.0)) and not edge.is_skip:  # as if its head were there
            x = middle(head)[0] + shift
            head = (x - BESIDE, head[1], x + BESIDE, head[3])
        yield from self._straight(tail, head, under, BESIDE if shift else 0.0)
        yield from self._bent(edge, tail, head, under, levels)
        for lane in self._lanes(tail, head, under, inside):
            yield from self._along(lane, edge, tail, head, under, levels)

    def _bent(self, edge: Edge, tail: Box, head: Box, under: float, levels: Sequence[float]) -> Iterator[list[Point]]:
        """Routes with one or two corners, and one that leans."""
        (x1, y1), (x2, y2), top = middle(tail), middle(head), head[3]
        if abs(x1 - x2) < 1:
            return
        side = 1 if x2 > x1 else -1
        if self._leaves_aside(edge) and side * (x2 - edge_of(tail, side)) > 2:
            yield [(edge_of(tail, side), y1), (x2, y1), (x2, top)]
        if edge.head.kind == "merge" and side * (edge_of(head, -side) - x1) > ARROW:
            yield [(x1, under), (x1, y2), (edge_of(head, -side), y2)]
        for level in levels:
            yield [(x1, under), (x1, level), (x2, level), (x2, top)]
        if abs(x1 - x2) < SLANT and under > top:
            yield [(x1, under), (x2, top)]

    def _along(
        self, lane: float, edge: Edge, tail: Box, head: Box, under: float, levels: Sequence[float]
    ) -> Iterator[list[Point]]:
        """Routes that run down in a lane."""
        (x1, y1), (x2, y2), top = middle(tail), middle(head), head[3]
        into, low = edge_of(head, 1 if lane > x2 else -1), top + LANDING
        for level in levels[:1]:
            if edge.head.kind == "merge":
                yield [(x1, under), (x1, level), (lane, level), (lane, y2), (into, y2)]
            elif level - top > 2 * LANDING:
                yield [(x1, under), (x1, level), (lane, level), (lane, low), (x2, low), (x2, top)]
        if self._leaves_aside(edge):
            out = edge_of(tail, 1 if lane > x1 else -1)
            if edge.head.kind == "merge":
                yield [(out, y1), (lane, y1), (lane, y2), (into, y2)]
            yield [(out, y1), (lane, y1), (lane, low), (x2, low), (x2, top)]

    def _leaves_aside(self, edge: Edge) -> bool:
        """Whether an arrow may begin at the side of its tail."""
        return edge.tail.kind in ("entry", "merge") or edge.tail in self.forks or edge in self.asides

    def _straight(self, tail: Box, head: Box, under: float, slack: float) -> Iterator[list[Point]]:
        """A straight way; it may arrive so far from where it should."""
        (x1, _), (x2, _), top = middle(tail), middle(head), head[3]
        if under <= top:
            return
        if abs(x1 - x2) < 0.5:
            yield [(x1, under), (x1, top)]
            return
        # One end may be a little beside the middle of its box.
        reach = [min((b[2] - b[0]) / 4, 30.0) if b[2] - b[0] > 30 else 0.0 for b in (tail, head)]
        if abs(x1 - x2) <= slack:
            yield [(x1, under), (x1, top)]
        if abs(x1 - x2) <= max(reach):
            x = x2 if reach[0] >= reach[1] else x1
            yield [(x, under), (x, top)]

    def _lanes(self, tail: Box, head: Box, under: float, inside: set[Part]) -> list[float]:
        """Where an arrow may run down between the heights of its ends: beside the obstacles."""
        low, high = head[1], max(under, tail[3])
        ends = (tail[0], tail[2], head[0], head[2])
        first, last = min(ends) - FARTHEST, max(ends) + FARTHEST
        span = (first, low, last, high)
        found = {tail[0] - CLEAR, tail[2] + CLEAR, head[0] - CLEAR, head[2] + CLEAR}
        for room, part in self._near(span):
            if part not in inside:
                found |= {room[0] - CLEAR, room[2] + CLEAR}
        for segment in self._segments(span):
            if segment.a[0] == segment.b[0]:
                found |= {segment.a[0] - CLEAR, segment.a[0] + CLEAR}
        lanes = {round(x, 1): x for x in found if first < x < last}
        return [lanes[key] for key in sorted(lanes)]

    # ------------------------------------------------------------ judging

    def _near(self, span: Box) -> Iterator[tuple[Box, Part | None]]:
        """The obstacles that meet a box."""
        seen: set[Box] = set()
        for bucket in buckets(span):
            for found in self._obstacles.get(bucket, ()):
                room = found[0]
                if meet(room, span) and room not in seen:
                    seen.add(room)
                    yield found

    def _segments(self, span: Box) -> Iterator[Segment]:
        """The segments of other arrows that meet a box."""
        seen: set[int] = set()
        for index, places in ((self._upright, columns(span)), (self._level, buckets(span))):
            for place in places:
                for segment in index.get(place, ()):
                    left, bottom, right, top = segment.box
                    apart = left > span[2] or span[0] > right or bottom > span[3] or span[1] > top
                    if not apart and id(segment) not in seen:
                        seen.add(id(segment))
                        yield segment

    def _clear(self, route: Sequence[Point], inside: set[Part], crossed: set[Part]) -> bool:
        """Whether a route keeps clear of boxes and texts, and of the frames that hold neither end; those that hold both
        grow by it."""
        for number, (a, b) in enumerate(pairwise(route)):
            left, bottom, right, top = box(a, b)
            # From a box that it only passes an arrow keeps further away.
            wide = 4.0 if 0 < number < len(route) - 2 else 1.0
            across = (
                (left - wide, bottom, right + wide, top) if left == right else (left, bottom - wide, right, top + wide)
            )
            if any(part not in inside for _, part in self._near(across)):
                return False
            if (a[1] == b[1]) is self.down and self._beheads((left, bottom, right, top), crossed):
                return False
        return True

    def _beheads(self, segment: Box, crossed: set[Part]) -> bool:
        """Whether a segment runs along the heading of a frame that it crosses, and leaves the heading no room."""
        rooms = (self._headings[part] for part in crossed if part in self._headings)
        return any(meet(room, (segment[0] - 1, segment[1] - 1, segment[2] + 1, segment[3] + 1)) for room in rooms)

    def _cost(self, route: Sequence[Point], edge: Edge) -> float:
        cost = CORNER * (len(route) - 2) if len(route) > 2 else 2 * CORNER
        for a, b in pairwise(route):
            left, bottom, right, top = box(a, b)
            cost += right - left + top - bottom
            upright = left == right
            beside = (left - 4, bottom, right + 4, top) if upright else (left, bottom - 4, right, top + 4)
            for segment in self._segments(beside):
                x1, y1, x2, y2 = segment.box
                if (x1 == x2) is not upright:
                    cost += CROSSING if x1 < right + 3 and left < x2 + 3 and y1 < top - 1 and bottom < y2 - 1 else 0
                elif self._runs_on(segment, (left, bottom, right, top), edge):
                    parts = segment.edge.tail is edge.tail and shared(segment, (left, bottom, right, top)) <= TURN
                    cost += CROSSING if parts else ON_ANOTHER
        # The right side, unless the left one is clearly nearer.
        return cost - (CLEAR if max(x for x, _ in route) > max(route[0][0], route[-1][0]) + 1 else 0)

    @staticmethod
    def _runs_on(segment: Segment, room: Box, edge: Edge) -> bool:
        """Whether a piece of an arrow, in the direction of a segment, runs on it, and may not: not if they part or
        join there."""
        other = segment.edge
        joined = other.kind == edge.kind and (other.tail is edge.tail or other.head is edge.head)
        return shared(segment, room) > 2 and not joined

    def _followed(self, best: tuple[float, list[Point]], edge: Edge) -> dict[Edge, None]:
        """The arrows of other tensors on which a route with its cost runs."""
        cost, route = best
        found: dict[Edge, None] = {}
        for a, b in pairwise(route) if cost >= ON_ANOTHER else ():
            left, bottom, right, top = room = box(a, b)
            upright = left == right
            beside = (left - 4, bottom, right + 4, top) if upright else (left, bottom - 4, right, top + 4)
            along = [s for s in self._segments(beside) if (s.box[0] == s.box[2]) is upright]
            found |= {s.edge: None for s in along if self._runs_on(s, room, edge) and s.edge.tail is not edge.tail}
        return found

    def _take(self, edge: Edge, route: Sequence[Point]) -> None:
        for a, b in pairwise(route):
            segment = Segment(a, b, edge, box(a, b))
            # Vertical segments are long and in one column; in an index by rows they would be in many.
            upright = a[0] == b[0]
            for place in columns(segment.box) if upright else buckets(segment.box):
                (self._upright if upright else self._level).setdefault(place, []).append(segment)


def shared(segment: Segment, room: Box) -> float:
    """How many points a piece of an arrow, in the direction of a segment, runs beside it."""
    (x1, y1, x2, y2), (left, bottom, right, top) = segment.box, room
    return min(top, y2) - max(bottom, y1) if x1 == x2 else min(right, x2) - max(left, x1)


def box(a: Point, b: Point) -> Box:
    return min(a[0], b[0]), min(a[1], b[1]), max(a[0], b[0]), max(a[1], b[1])


def middle(box: Box) -> Point:
    return (box[0] + box[2]) / 2, (box[1] + box[3]) / 2


def aside(box: Box, least: float = TALL) -> float:
    """How far from the middle of a side a skip arrives above it, and leaves below it, where the side is longer than
    `least`: two may meet at one side."""
    height = box[3] - box[1]
    return height / 6 if height > least else 0.0


def edge_of(box: Box, side: int) -> float:
    """The right side of a box for 1, the left one for -1."""
    return box[2] if side > 0 else box[0]


def buckets(box: Box) -> range:
    return range(int(box[1] // STEP), int(box[3] // STEP) + 1)


def columns(box: Box) -> range:
    return range(int(box[0] // STEP), int(box[2] // STEP) + 1)
