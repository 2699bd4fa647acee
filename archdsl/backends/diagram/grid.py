"""Networks that keep several resolutions at once, such as pyramids and parallel streams, on a grid: a row for each
resolution, from left to right in the order of the network."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import pairwise
from math import log2, prod

from archdsl.analysis.costs import Analysis
from archdsl.backends.diagram.labels import Line
from archdsl.backends.diagram.layout import Box, Label, Layout, Point, Size, label_size, meet
from archdsl.backends.diagram.picture import Edge, Part, Picture
from archdsl.graph import Tensor

SIDE_GAP, ROW_GAP = 26.0, 30.0
"""Points between boxes of a row, and from one row to the next besides its lanes."""

LANE = 8.0
"""Points between arrows that run beside each other."""

STREAMS, MOST_MIXED = 3, 1
"""So many resolutions at once make a grid, but no more boxes than that may give several of them."""


def rows_of(picture: Picture, analysis: Analysis) -> dict[Part, int] | None:
    """The row of each box, 0 for the finest resolution; None for a network that keeps fewer resolutions at once."""
    if any(part.children for part in picture.parts):
        return None
    before, _ = picture.neighbours()
    sides: dict[Part, float | None] = {}
    given: dict[Part, list[Tensor]] = {}
    for edge in picture.edges:
        given.setdefault(edge.tail, []).extend(edge.tensors)
    for part in picture.boxes():
        own = [part.output.tensor] if part.output is not None else given.get(part, [Tensor(part.nodes[-1].id)])
        sides[part] = _side(analysis, own)
    known = [side for side in sides.values() if side is not None]
    if not known:
        return None
    rows: dict[Part, int] = {}
    for part in picture.boxes():  # a box without a resolution gets that of its inputs
        side = sides[part]
        found = [rows[p] for p in before.get(part, ()) if p in rows]
        rows[part] = round(max(known) - side) if side is not None else max(found, default=0)
    numbers = {row: i for i, row in enumerate(sorted(set(rows.values())))}
    rows = {part: numbers[row] for part, row in rows.items()}
    order = {part: i for i, part in enumerate(picture.boxes())}
    alive = 0
    for at in range(len(order)):
        crossing = [e for e in picture.edges if order[e.tail] <= at < order[e.head]]
        sizes = {_side(analysis, [t]) for e in crossing for t in e.tensors} - {None}
        alive = max(alive, len(sizes))
    rising = sum(rows[e.head] < rows[e.tail] for e in picture.edges)
    mixed = sum(len({analysis.shape(t)[1:] for t in tensors}) > 1 for tensors in given.values())
    return rows if alive >= STREAMS and rising + mixed >= 2 and mixed <= MOST_MIXED else None


def _side(analysis: Analysis, tensors: Iterable[Tensor]) -> float | None:
    """The logarithm of the mean side of the finest of some tensors, None where they have no sides."""
    found = [s for t in tensors if (s := analysis.shape(t)[1:]) and all(s)]
    return max((log2(prod(s)) / len(s) for s in found), default=None)


def on_grid(
    picture: Picture,
    rows: Mapping[Part, int],
    measure: Callable[[Part], Size],
    texts: Mapping[Edge, Sequence[Line]],
    notes: Mapping[Part, Size],
) -> Layout | None:
    """Places boxes of measured sizes, and leads arrows between their rows; None if some arrow has no clear way.

    `texts` are under the box they begin at, and the notes of merges, whose sizes are known, below them.
    """
    grid = _Grid(picture, rows, measure, texts, notes)
    return grid.layout if all(grid.lead(edge) for edge in sorted(picture.edges, key=grid.length)) else None


class _Grid:
    def __init__(
        self,
        picture: Picture,
        rows: Mapping[Part, int],
        measure: Callable[[Part], Size],
        texts: Mapping[Edge, Sequence[Line]],
        notes: Mapping[Part, Size],
    ) -> None:
        self.picture = picture
        self.notes = notes
        self.rows = rows
        self.layout = Layout(sizes={part: measure(part) for part in picture.boxes()}, notes_below=True)
        self.texts = {edge.tail: (edge, lines, label_size(lines)) for edge, lines in texts.items()}
        self.lanes: dict[tuple[int, int], list[tuple[float, float]]] = {}
        """The stretches of arrows in each lane, by the number of the row above and of the lane."""
        self._place()

    # ------------------------------------------------------------ places

    def room(self, part: Part) -> Size:
        """Width and height of a box with its text below."""
        width, height = self.layout.sizes[part]
        for size in filter(None, [self.texts[part][2] if part in self.texts else None, self.notes.get(part)]):
            width, height = max(width, size[0]), height + 2 * size[1]
        return width, height

    def _place(self) -> None:
        before, after = self.picture.neighbours()
        along: dict[Part, float] = {}
        last: dict[int, Part] = {}
        for part in _in_order(self.picture):
            row, width = self.rows[part], self.room(part)[0]
            least = [0.0]
            for tail in before.get(part, ()):
                half = (self.room(tail)[0] + width) / 2 + SIDE_GAP
                beneath = self.rows[tail] != row and (abs(self.rows[tail] - row) == 1 or len(after[tail]) == 1)
                least.append(along[tail] + (0.0 if beneath else half))
            if row in last:
                least.append(along[last[row]] + (self.room(last[row])[0] + width) / 2 + SIDE_GAP)
            along[part] = max(least)
            last[row] = part
        y = 0.0
        lanes = self._expected()
        for row in range(max(self.rows.values()) + 1):
            members = [part for part in along if self.rows[part] == row]
            height = max((self.room(part)[1] for part in members), default=0.0)
            for part in members:
                self.layout.places[part] = (along[part], y - height / 2)
            y -= height + ROW_GAP + LANE * lanes.get(row, 0)
        for part, (edge, lines, size) in self.texts.items():
            x, at = self.layout.places[part]
            self.layout.labels[edge] = Label(lines, size, (x, at - self.layout.sizes[part][1] / 2 - size[1] / 2))

    def _expected(self) -> dict[int, int]:
        """About how many lanes the arrows need below each row."""
        found: dict[int, int] = {}
        for edge in self.picture.edges:
            one, other = self.rows[edge.tail], self.rows[edge.head]
            if one != other or edge.is_skip:
                between = min(one, other) if one != other else one - 1
                found[between] = found.get(between, 0) + 1
        return {row: min(count, 12) for row, count in found.items()}

    # ------------------------------------------------------------ arrows

    def length(self, edge: Edge) -> tuple[int, float]:
        (x1, _), (x2, _) = self.layout.places[edge.tail], self.layout.places[edge.head]
        return abs(self.rows[edge.tail] - self.rows[edge.head]), abs(x1 - x2)

    def lead(self, edge: Edge) -> bool:
        """Leads an arrow the first clear way; whether there is one."""
        tail, head = self._box(edge.tail), self._box(edge.head)
        (x1, y1), (x2, y2) = self.layout.places[edge.tail], self.layout.places[edge.head]
        for route in self._routes(edge, (x1, y1), (x2, y2), tail, head):
            if self._clear(route, edge):
                self._take(route)
                self.layout.lead(edge, route)
                return True
        return False

    def _routes(self, edge: Edge, one: Point, other: Point, tail: Box, head: Box) -> Iterator[list[Point]]:
        """Routes of an arrow, the plain ones first."""
        (x1, y1), (x2, y2) = one, other
        into, bottom = self._landing(edge.head, x1)
        if abs(y1 - y2) < 1:
            yield [(tail[2], y1), (head[0], y2)]
        elif y2 < y1:
            if abs(x1 - x2) < 1:
                yield [(x1, self._under(edge.tail)), (x2, head[3])]
            yield [(tail[2], y1), (x2, y1), (x2, head[3])]
        elif tail[0] + 8 < into < tail[2] - 8:
            yield [(into, tail[3]), (into, bottom)]
        elif into > tail[2]:
            yield [(tail[2], y1), (into, y1), (into, bottom)]
        ends = self.rows[edge.tail], self.rows[edge.head]
        for lane in range(14):
            for above in dict.fromkeys((ends[1] - 1, ends[1], ends[0], ends[0] - 1)):
                level = self._level(above, lane)
                if not self._free(above, lane, (min(x1, x2), max(x1, x2))):
                    continue
                start = self._under(edge.tail) if level < y1 else tail[3]
                tip = (x2, head[3]) if level > y2 else (into, bottom)
                yield [(x1, start), (x1, level), (tip[0], level), tip]
                for aside in (tail[2] + SIDE_GAP / 2 - 3 * (lane % 3), head[0] - SIDE_GAP / 2 + 3 * (lane % 3)):
                    if aside < head[0]:
                        yield [(x1, start), (x1, level), (aside, level), (aside, y2), (head[0], y2)]
                    if aside > tail[2]:
                        yield [(tail[2], y1), (aside, y1), (aside, level), (tip[0], level), tip]

    def _landing(self, part: Part, begin: float) -> Point:
        """Where an arrow from below, which begins at x, ends: beside the text below a box, if there is room."""
        x = self.layout.places[part][0]
        left, bottom, right, _ = self._box(part)
        if self._under(part) == bottom:
            return x, bottom
        widths = [self.texts[part][2][0]] if part in self.texts else []
        widths += [self.notes[part][0]] if part in self.notes else []
        for side in (right - 10, left + 10) if begin >= x else (left + 10, right - 10):
            if abs(side - x) > max(widths) / 2 + 4:
                return side, bottom
        return x, self._under(part)

    def _box(self, part: Part) -> Box:
        return self.layout.box(part)

    def _under(self, part: Part) -> float:
        """The lower side of a box with its text."""
        below = self.texts[part][2][1] if part in self.texts else 0.0
        if part in self.notes:
            below += self.notes[part][1]
        return self._box(part)[1] - below

    def _level(self, above: int, lane: int) -> float:
        """The height of a lane below a row; -1 is above all rows."""
        members = [part for part, row in self.rows.items() if row == above]
        if not members:
            top = max(self._box(part)[3] for part in self.rows)
            return top + ROW_GAP / 2 + LANE * lane
        return min(self._under(part) for part in members) - ROW_GAP / 3 - LANE * lane

    def _free(self, above: int, lane: int, span: tuple[float, float]) -> bool:
        taken = self.lanes.get((above, round(self._level(above, lane))), [])
        return all(span[1] < low - LANE or span[0] > high + LANE for low, high in taken)

    def _clear(self, route: Sequence[Point], edge: Edge) -> bool:
        """Whether a route keeps clear of boxes and texts, and of other arrows that run along it."""
        for number, ((x1, y1), (x2, y2)) in enumerate(pairwise(route)):
            wide = 1.5
            across = (min(x1, x2) - wide, min(y1, y2) - wide, max(x1, x2) + wide, max(y1, y2) + wide)
            for part in self.layout.places:
                left, _, right, top = self._box(part)
                bottom = self._box(part)[1]
                room = (left, self._under(part), right, top)
                own = (part is edge.tail and number == 0) or (part is edge.head and number == len(route) - 2)
                if not own and meet(across, room):
                    return False
                if own and part is edge.head and y2 <= bottom + 0.1 and self._covers(part, x2):
                    return False
                if own and part is edge.tail and part in self.texts and y1 == y2 and meet(across, self._text(part)):
                    return False
            low, high = min(y1, y2), max(y1, y2)
            words = self._text(edge.head) if edge.head in self.texts else None
            if words is not None and meet((across[0], low, across[2], high), words):
                return False
            if any(self._along(across, edge, a, b) for a, b in self._others(edge)):
                return False
        return True

    def _covers(self, part: Part, x: float) -> bool:
        """Whether the text below a box is in the way of an arrow from below."""
        return part in self.texts and abs(x - self.layout.places[part][0]) < self.texts[part][2][0] / 2

    def _text(self, part: Part) -> Box:
        return self.layout.labels[self.texts[part][0]].box

    def _others(self, edge: Edge) -> Iterator[tuple[Point, Point]]:
        """The pieces of arrows of other boxes that have their route."""
        for other, corners in self.layout.corners.items():
            if other.tail is not edge.tail and other.head is not edge.head:
                yield from pairwise(corners)

    @staticmethod
    def _along(room: Box, edge: Edge, a: Point, b: Point) -> bool:
        """Whether a piece of an arrow runs within a room, in its direction."""
        low, high = (min(a[0], b[0]), min(a[1], b[1])), (max(a[0], b[0]), max(a[1], b[1]))
        upright = room[2] - room[0] < room[3] - room[1]
        if upright != (abs(a[0] - b[0]) < 0.1):
            return False
        return meet(room, (low[0] - 2, low[1] - 2, high[0] + 2, high[1] + 2))

    def _take(self, route: Sequence[Point]) -> None:
        for (x1, y1), (x2, y2) in pairwise(route):
            if y1 == y2:
                for above in range(-1, max(self.rows.values()) + 1):
                    self.lanes.setdefault((above, round(y1)), []).append((min(x1, x2), max(x1, x2)))


def _in_order(picture: Picture) -> list[Part]:
    """The boxes, each after all that flow into it."""
    before, after = picture.neighbours()
    waiting = {part: len(before.get(part, ())) for part in picture.boxes()}
    ready = [part for part in picture.boxes() if not waiting[part]]
    found: list[Part] = []
    while ready:
        part = ready.pop(0)
        found.append(part)
        for head in after.get(part, ()):
            waiting[head] -= 1
            if not waiting[head]:
                ready.append(head)
    return found
