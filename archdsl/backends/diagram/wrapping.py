"""Long pictures in columns beside each other, or in rows below each other: a finished layout is cut where nothing but
one straight arrow runs, which then leads on to the top of the next column.

`along` is measured in the direction of the network, `across` to the side on which the next column is.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

from archdsl.backends.diagram.layout import ARROW, Box, Label, Layout, Point
from archdsl.backends.diagram.picture import Edge, Part

GUTTER = 22.0
"""Points between columns, in which an arrow runs back to the top."""

TURN = 12.0
"""Points from the end of a column to where the arrow turns."""

LEAST_PIECE = 120.0
"""Points of the smallest piece of a frame that is cut."""

WORTH = 0.75
"""The share of its length that the longest column of a picture may have, if it is worth to cut it."""

MARGIN = 8.0
"""Points between a frame and what it holds."""


@dataclass(frozen=True, slots=True)
class Span:
    """A box in our own axes: where it begins and ends, along and across."""

    start: float
    end: float
    low: float
    high: float


@dataclass(slots=True)
class _Column:
    """A line of the picture, between two cuts; `frames` are those around its beginning, outer ones first."""

    start: float
    end: float
    frames: list[Part]
    closing: list[Part] = field(default_factory=list)
    """The frames that go on in the next column."""
    low: float = 0.0
    shift: float = 0.0
    """The offset of coordinates along."""
    aside: float = 0.0
    """The offset of coordinates across."""
    head: float = 0.0
    tail: float = 0.0
    """Where its frames begin and end, along, when it is in place."""


def wrapped(
    layout: Layout, length: float, headings: Mapping[Part, float], rooms: Sequence[Box], *, down: bool
) -> Layout:
    """The layout in columns of at most this length, as far as there are places to cut.

    `headings` are the heights of those of frames, `rooms` are boxes besides those of the layout that no cut may meet.
    """
    return _Wrapping(layout, headings, rooms, down).wrap(length)


class _Wrapping:
    def __init__(self, layout: Layout, headings: Mapping[Part, float], rooms: Sequence[Box], down: bool) -> None:
        self.layout = layout
        self.headings = headings
        self.down = down
        self.frames = {part: self.span(box) for part, box in layout.frames.items()}
        self.solid = [self.span(layout.box(part)) for part in layout.places]
        texts = [*layout.labels.values(), *layout.notes.values()]
        self.solid += [self.span(text.box) for text in texts] + [self.span(box) for box in rooms]
        for part, frame in self.frames.items():
            top = headings.get(part, 0.0) if down else 0.0
            self.solid.append(Span(frame.start, frame.start + top + MARGIN, frame.low, frame.high))
            self.solid.append(Span(frame.end - MARGIN, frame.end, frame.low, frame.high))
        self.routes = {edge: [self.at(p) for p in route] for edge, route in layout.routes.items()}

    # ------------------------------------------------------------ axes

    def at(self, point: Point) -> Point:
        """A point as along and across."""
        x, y = point
        return (-y, x) if self.down else (x, -y)

    def point(self, along: float, across: float) -> Point:
        return (across, -along) if self.down else (along, -across)

    def span(self, box: Box) -> Span:
        left, bottom, right, top = box
        return Span(-top, -bottom, left, right) if self.down else Span(left, right, -top, -bottom)

    # ------------------------------------------------------------ cuts

    def gaps(self) -> dict[float, Edge]:
        """Where the layout may be cut, and the arrow that runs there."""
        ends = sorted((s.start, s.end) for s in self.solid)
        found: dict[float, Edge] = {}
        reached = ends[0][1]
        ranges = {edge: (min(a for a, _ in r), max(a for a, _ in r)) for edge, r in self.routes.items()}
        for start, end in ends[1:]:
            if start - reached > 4:
                at = (reached + start) / 2
                through = [edge for edge, (low, high) in ranges.items() if low < at < high]
                if len(through) == 1 and self._straight(through[0], at) and self._cuttable(at):
                    found[at] = through[0]
            reached = max(reached, end)
        return found

    def _straight(self, edge: Edge, at: float) -> bool:
        corners = [self.at(c) for c in self.layout.corners.get(edge, ())]
        return any(a[0] < at < b[0] and abs(a[1] - b[1]) < 0.5 for a, b in pairwise(corners))

    def _cuttable(self, at: float) -> bool:
        """Whether all frames around a place only name what they hold, and both pieces have room for the name."""
        around = [(p, span) for p, span in self.frames.items() if span.start < at < span.end]
        long = all(min(at - span.start, span.end - at) >= LEAST_PIECE for _, span in around)
        return long and all(p.kind == "open" and p.count == 1 for p, _ in around)

    def cuts(self, length: float, gaps: Sequence[float], first: float, last: float) -> list[float]:
        """The cuts that make columns no longer than that where there is a gap, few and equally long."""

        def greedy(limit: float) -> list[float]:
            start, found = first, list[float]()
            while last - start > limit:
                fitting = [g for g in gaps if start < g <= start + limit] or [g for g in gaps if g > start][:1]
                if not fitting:
                    break
                start = fitting[-1]
                found.append(start)
            return found

        best = greedy(length)
        low, high = 0.0, length
        while high - low > 4:
            middle = (low + high) / 2
            if len(greedy(middle)) <= len(best):
                high = middle
            else:
                low = middle
        return greedy(high) if len(greedy(high)) <= len(best) else best

    # ------------------------------------------------------------ columns

    def wrap(self, length: float) -> Layout:
        everything = [*self.solid, *self.frames.values()]
        first, last = min(s.start for s in everything), max(s.end for s in everything)
        gaps = self.gaps()
        cuts = self.cuts(length, sorted(gaps), first, last) if last - first > length else []
        pieces = [b - a for a, b in pairwise([first, *cuts, last])]
        if not cuts or max(pieces) > WORTH * (last - first):
            return self.layout
        columns = self._columns([first, *cuts, last])
        found = Layout(sizes=self.layout.sizes, notes_below=self.layout.notes_below)

        def column(along: float) -> _Column:
            return columns[min(max(bisect_right(cuts, along), 0), len(columns) - 1)]

        def moved(point: Point, home: _Column) -> Point:
            along, across = self.at(point)
            return self.point(along + home.shift, across + home.aside)

        for part, place in self.layout.places.items():
            found.places[part] = moved(place, column(self.at(place)[0]))
        for edge, label in self.layout.labels.items():
            found.labels[edge] = Label(label.lines, label.size, moved(label.at, column(self.at(label.at)[0])))
        for part, note in self.layout.notes.items():
            home = column(self.at(self.layout.places[part])[0])
            found.notes[part] = Label(note.lines, note.size, moved(note.at, home))
        self._frame(found, columns)
        crossing = {edge: cut for cut, edge in gaps.items() if cut in cuts}
        for edge, route in self.layout.routes.items():
            if edge in crossing:
                found.lead(edge, self._link(edge, [c for c in cuts if gaps[c] is edge], columns, cuts, moved))
            elif edge in self.layout.corners:
                home = column(self.routes[edge][0][0])
                found.lead(edge, [moved(c, home) for c in self.layout.corners[edge]])
            else:
                home = column(self.routes[edge][0][0])
                found.routes[edge] = [moved(p, home) for p in route]
        return found

    def _columns(self, ends: Sequence[float]) -> list[_Column]:
        """The columns between the cuts, at their places."""
        found: list[_Column] = []
        aside = 0.0
        for start, end in pairwise(ends):
            inside = [s for s in self.solid if s.start >= start - 0.1 and s.end <= end + 0.1]
            inside += [Span(a, a, c, c) for r in self.routes.values() for a, c in r if start < a < end]
            inside += [s for s in self.frames.values() if s.start < end and s.end > start]
            low, high = min(s.low for s in inside), max(s.high for s in inside)
            around = [p for p, s in self.frames.items() if s.start < start < s.end]
            closing = [p for p, s in self.frames.items() if s.start < end < s.end]
            begun = min(s.start for s in self.solid if s.end > start)
            room = sum(self.headings.get(p, 0.0) + 2 * MARGIN for p in around)
            done = max(s.end for s in self.solid if s.start < end)
            column = _Column(start, end, sorted(around, key=self._depth), sorted(closing, key=self._depth))
            column.shift = ends[0] + room - (begun if found else ends[0])
            column.aside = aside - low if found else 0.0
            column.head = ends[0]
            column.tail = done + column.shift + len(closing) * MARGIN
            column.low = low + column.aside
            found.append(column)
            aside = high + column.aside + GUTTER
        return found

    def _depth(self, part: Part) -> float:
        return self.frames[part].start

    def _frame(self, found: Layout, columns: Sequence[_Column]) -> None:
        """The frames, in pieces where they are cut."""
        for part, span in self.frames.items():
            for column in columns:
                if not (span.start < column.end and span.end > column.start):
                    continue
                outer = column.frames.index(part) if part in column.frames else 0
                start = span.start + column.shift
                if part in column.frames:
                    start = column.head + sum(self.headings.get(p, 0.0) + 2 * MARGIN for p in column.frames[:outer])
                end = span.end + column.shift
                if part in column.closing:
                    end = column.tail - column.closing.index(part) * MARGIN
                low, high = span.low + column.aside, span.high + column.aside
                corners = [self.point(start, low), self.point(end, high)]
                (x1, y1), (x2, y2) = corners
                box = (min(x1, x2), min(y1, y2), max(x1, x2), max(y1, y2))
                if part in found.frames:
                    found.continued.setdefault(part, []).append(box)
                else:
                    found.frames[part] = box

    def _link(
        self,
        edge: Edge,
        cuts: Sequence[float],
        columns: Sequence[_Column],
        every: Sequence[float],
        moved: Callable[[Point, _Column], Point],
    ) -> list[Point]:
        """The route of an arrow that leads from column to column."""
        corners = list(self.layout.corners[edge])
        found: list[Point] = []
        at = 0
        for cut in cuts:
            column = columns[every.index(cut)]
            after = columns[every.index(cut) + 1]
            while self.at(corners[at])[0] < cut:
                found.append(moved(corners[at], column))
                at += 1
            across = self.at(corners[at - 1])[1]
            turn, back = column.tail + TURN, after.head - TURN
            gutter = after.low - GUTTER / 2
            found += [self.point(turn, across + column.aside), self.point(turn, gutter), self.point(back, gutter)]
            found.append(self.point(back, across + after.aside))
        rest = [moved(c, columns[every.index(cuts[-1]) + 1]) for c in corners[at:]]
        return [*found, *rest]


ROOM = TURN + ARROW
"""Points that the arrows between columns take at both ends."""
