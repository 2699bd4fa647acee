"""Networks that keep several resolutions at once, such as pyramids and parallel streams, on a grid: a row for each
resolution, from left to right in the order of the network. A box that gives several resolutions is as high as their
rows, so that each stream leaves it in its own row.

A grid may be turned, with a column for each resolution, for a page that is narrow.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from math import log2, prod

from archdsl.analysis.costs import Analysis
from archdsl.backends.diagram.labels import Line
from archdsl.backends.diagram.layout import Box, Label, Layout, Point, Size, label_size, meet
from archdsl.backends.diagram.picture import Edge, Part, Picture
from archdsl.graph import Tensor

SIDE_GAP, ROW_GAP, TRACK_GAP = 26.0, 30.0, 12.0
"""Points between boxes of a row, from one row to the next besides its lanes, and between the tracks of a row."""

TIGHT_SIDE, TIGHT_ROW = 14.0, 5.0
"""The first two for a narrow page."""

LANE, TIGHT_LANE = 8.0, 3.0
"""Points between arrows that run beside each other, and what a narrow page keeps for each that may need a lane."""

STREAMS = 3
"""So many resolutions at once make a grid."""

BESIDE = 6.0
"""Points between an arrow from below and the notes beside it."""

MOST_LANES = 14


@dataclass(frozen=True, slots=True)
class Rows:
    """The row of each box, 0 for the finest resolution, and its last one where it has several.

    `of` has the row of each tensor that such a box gives; the arrows of the picture have one tensor each there.
    """

    picture: Picture
    first: Mapping[Part, int]
    last: Mapping[Part, int]
    of: Mapping[Tensor, int]


def rows_of(picture: Picture, analysis: Analysis, *, few: bool = False) -> Rows | None:
    """The rows of a picture; None for a network that keeps fewer resolutions at once.

    With `few`, resolutions that are finer than all those that are there at once have no row of their own.
    """
    if any(part.children for part in picture.parts):
        return None
    given: dict[Part, list[Tensor]] = {}
    for edge in picture.edges:
        given.setdefault(edge.tail, []).extend(edge.tensors)
    for part in picture.boxes():
        if part.output is not None:
            given[part] = [part.output.tensor]
        given.setdefault(part, [Tensor(part.nodes[-1].id)] if part.nodes else [])
    sides = {tensor: _side(analysis, tensor) for tensors in given.values() for tensor in tensors}
    known = [side for side in sides.values() if side is not None]
    together = _streams(picture, sides)
    if not known or together is None:
        return None
    finest = together if few else max(known)
    rows = {tensor: max(level, 0) for tensor, level in _levels(picture, given, sides, finest).items()}
    before, _ = picture.neighbours()
    first: dict[Part, int] = {}
    last: dict[Part, int] = {}
    for part in picture.boxes():  # a box without a resolution gets that of its inputs
        found = [rows[t] for t in given[part] if t in rows] or [last[p] for p in before.get(part, ()) if p in last]
        first[part], last[part] = (min(found), max(found)) if found else (0, 0)
        if not any(t in rows for t in given[part]):
            first[part] = last[part]
    numbers = {row: i for i, row in enumerate(sorted({*rows.values(), *first.values(), *last.values()}))}
    several = {part for part in first if first[part] < last[part]}
    parted = replace(picture, edges=tuple(e for edge in picture.edges for e in _parted(edge, several)))
    return Rows(
        parted,
        {part: numbers[row] for part, row in first.items()},
        {part: numbers[row] for part, row in last.items()},
        {tensor: numbers[row] for tensor, row in rows.items()},
    )


def _levels(
    picture: Picture, given: Mapping[Part, list[Tensor]], sides: Mapping[Tensor, float | None], finest: float
) -> dict[Tensor, int]:
    """How many times each tensor is coarser than the finest by half: from box to box, so that what layers without
    padding take off makes no level, however much it comes to."""
    arriving: dict[Part, list[Tensor]] = {}
    for edge in picture.edges:
        arriving.setdefault(edge.head, []).extend(edge.tensors)
    found: dict[Tensor, int] = {}
    for part in picture.boxes():
        known = [(found[t], side) for t in arriving.get(part, ()) if t in found and (side := sides[t]) is not None]
        for tensor in given[part]:
            side = sides[tensor]
            if side is None or tensor in found:
                continue
            level, near = min(known, key=lambda k: abs(k[1] - side), default=(0, finest))
            found[tensor] = level + round(near - side)
    return found


def _streams(picture: Picture, sides: Mapping[Tensor, float | None]) -> float | None:
    """The finest of the resolutions that are there at once; None where those are few, or never meet."""
    order = {part: i for i, part in enumerate(picture.boxes())}
    alive: set[float] = set()
    for at in range(len(order)):
        crossing = [e for e in picture.edges if order[e.tail] <= at < order[e.head]]
        found = {side for e in crossing for t in e.tensors if (side := sides.get(t)) is not None}
        alive = max(alive, found, key=len)
    finest: dict[Part, float] = {}
    mixed: dict[Part, set[float]] = {}
    for edge in picture.edges:
        for side in (sides.get(t) for t in edge.tensors):
            if side is not None:
                mixed.setdefault(edge.tail, set()).add(side)
                finest[edge.tail] = max(finest.get(edge.tail, side), side)
    rising = sum(finest[e.head] > finest[e.tail] for e in picture.edges if e.head in finest and e.tail in finest)
    meeting = rising + sum(len(found) > 1 for found in mixed.values())
    return max(alive) if len(alive) >= STREAMS and meeting >= 2 else None


def _parted(edge: Edge, several: set[Part]) -> Iterator[Edge]:
    """An arrow for each tensor where an end is in several rows."""
    if edge.tail in several or edge.head in several:
        yield from (replace(edge, streams=(stream,)) for stream in edge.streams)
    else:
        yield edge


def _side(analysis: Analysis, tensor: Tensor) -> float | None:
    """The logarithm of the mean side of a tensor, None where it has no sides, or is a mean over all places."""
    sides = analysis.shape(tensor)[1:]
    return log2(prod(sides)) / len(sides) if sides and prod(sides) > 1 else None


@dataclass(frozen=True, slots=True)
class Words:
    """The texts under the boxes at which they begin, and below them the notes of merges, of which we have the sizes."""

    texts: Mapping[Edge, Sequence[Line]]
    notes: Mapping[Part, Size]


def on_grid(
    rows: Rows, measure: Callable[[Part], Size], words: Words, *, tight: bool = False, turned: bool = False
) -> Layout | None:
    """Places boxes of measured sizes, and leads arrows between their rows; None if some arrow has no clear way.

    A `turned` grid has a column for each resolution, and runs down.
    """
    grid = _Grid(rows, measure, words, tight=tight, turned=turned)
    if not all(grid.lead(edge) for edge in sorted(rows.picture.edges, key=grid.length)):
        return None
    return grid.upright() if turned else grid.layout


class _Grid:
    """Works as if the network ran to the right; for a turned grid, widths and heights are exchanged meanwhile."""

    def __init__(self, rows: Rows, measure: Callable[[Part], Size], words: Words, *, tight: bool, turned: bool) -> None:
        self.rows = rows
        self.picture = rows.picture
        self.turned = turned
        self.side_gap, self.row_gap = (TIGHT_SIDE, TIGHT_ROW) if tight else (SIDE_GAP, ROW_GAP)
        self.lane = TIGHT_LANE if tight else LANE
        turn: Callable[[Size], Size] = (lambda size: (size[1], size[0])) if turned else (lambda size: size)
        self.notes = {part: turn(size) for part, size in words.notes.items()}
        self.layout = Layout(sizes={p: turn(measure(p)) for p in self.picture.boxes()}, notes_below=not turned)
        self.texts = {e.tail: (e, lines, turn(label_size(lines))) for e, lines in words.texts.items()}
        self.centres: dict[int, float] = {}
        """The height at which the streams of each row run."""
        self.track: dict[Part, int] = {}
        self.lanes: dict[tuple[int, int], list[tuple[float, float]]] = {}
        """The stretches of arrows in each lane, by the number of the row above and of the lane."""
        self._place()

    def upright(self) -> Layout:
        """The layout of a turned grid, as it is on paper."""
        found = self.layout.mapped(lambda p: (-p[1], -p[0]))
        found.sizes = {part: (height, width) for part, (width, height) in self.layout.sizes.items()}
        found.labels = {
            edge: Label(label.lines, label_size(label.lines), (-label.at[1], -label.at[0]))
            for edge, label in self.layout.labels.items()
        }
        return found

    # ------------------------------------------------------------ places

    def room(self, part: Part) -> Size:
        """Width and height of a box with its text below."""
        width, height = self.layout.sizes[part]
        for size in filter(None, [self.texts[part][2] if part in self.texts else None, self.notes.get(part)]):
            width, height = max(width, size[0]), height + 2 * size[1]
        return width, height

    def spans(self, part: Part) -> bool:
        """Whether a box is in several rows."""
        return self.rows.first[part] < self.rows.last[part]

    def of_rows(self, part: Part) -> range:
        return range(self.rows.first[part], self.rows.last[part] + 1)

    def row(self, part: Part, edge: Edge) -> int:
        """The row in which an arrow meets a box."""
        found = self.rows.of.get(edge.tensors[0], self.rows.first[part])
        return min(max(found, self.rows.first[part]), self.rows.last[part])

    def _place(self) -> None:
        along = self._along()
        lanes = self._expected()
        y = 0.0
        bottoms: dict[int, float] = {}
        for row in range(max(self.rows.last.values()) + 1):
            single = [p for p in along if self.rows.first[p] == row == self.rows.last[p]]
            top = y
            for track in range(max((self.track[p] for p in single), default=0) + 1):
                members = [p for p in single if self.track[p] == track]
                height = max((self.room(p)[1] for p in members), default=2 * LANE)
                for part in members:
                    self.layout.places[part] = (along[part], y - height / 2)
                if not track:
                    self.centres[row] = y - height / 2
                y -= height + TRACK_GAP
            bottoms[row] = y = self._stretched(row, y + TRACK_GAP, bottoms)
            bottoms[row] = min(bottoms[row], top)
            y -= self.row_gap + self.lane * lanes.get(row, 0)
        for part in filter(self.spans, along):
            high = self.centres[self.rows.first[part]] + LANE
            low = min(self.centres[self.rows.last[part]] - LANE, high - self.room(part)[1])
            self.layout.sizes[part] = (self.layout.sizes[part][0], high - low)
            self.layout.places[part] = (along[part], (high + low) / 2)
        for part, (edge, lines, size) in self.texts.items():
            x, at = self.layout.places[part]
            self.layout.labels[edge] = Label(lines, size, (x, at - self.layout.sizes[part][1] / 2 - size[1] / 2))

    def _stretched(self, row: int, y: float, bottoms: Mapping[int, float]) -> float:
        """The lower end of a row, below all boxes that end in it."""
        for part in self.rows.first:
            if self.spans(part) and self.rows.last[part] == row:
                y = min(y, self.centres[self.rows.first[part]] + LANE - self.room(part)[1])
        return y

    def _along(self) -> dict[Part, float]:
        """How far along the network each box is; sets their tracks."""
        before, after = self.picture.neighbours()
        found: dict[Part, float] = {}
        ends: dict[tuple[int, int], Part] = {}
        """The last box so far in each track of each row."""
        around: dict[Part, set[Part]] = {}
        """The boxes before each one, however far."""
        for part in _in_order(self.picture):
            tails, width = before.get(part, []), self.room(part)[0]
            around[part] = {p for tail in tails for p in (tail, *around[tail])}
            self.track[part] = self._free_track(part, ends, around, before)
            least = [0.0]
            for tail in tails:
                half = (self.room(tail)[0] + width) / 2 + self.side_gap
                least.append(found[tail] + (0.0 if self._beneath(tail, part, after) else half))
            for row in self.of_rows(part):
                for track in range(2 if self.spans(part) else 1):
                    place = (row, track if self.spans(part) else self.track[part])
                    if place in ends:
                        end = ends[place]
                        least.append(found[end] + (self.room(end)[0] + width) / 2 + self.side_gap)
                    ends[place] = part
            found[part] = max(least)
        return found

    def _beneath(self, tail: Part, part: Part, after: Mapping[Part, Sequence[Part]]) -> bool:
        """Whether a box may be below the one before it."""
        if self.spans(tail):
            return False
        apart = self.rows.first[part] - self.rows.first[tail]
        near = abs(apart) == 1 or len(set(after[tail])) == 1
        return near and apart != 0 if not self.spans(part) else near and apart > 0

    def _free_track(
        self,
        part: Part,
        ends: Mapping[tuple[int, int], Part],
        around: Mapping[Part, set[Part]],
        before: Mapping[Part, Sequence[Part]],
    ) -> int:
        """The track of a box within its row: another one than that of a box that forks off where it does."""
        row, tails = self.rows.first[part], set(before.get(part, ()))
        if self.spans(part) or (row, 0) not in ends:
            return 0
        tracks = [track for (found, track) in ends if found == row]
        for track in tracks:
            if ends[row, track] in tails and not self.spans(ends[row, track]):
                return track
        for track in tracks[:1] if self.turned else tracks:  # side by side they would make its column wide
            if ends[row, track] in around[part]:
                return track
        forked = tails & set(before.get(ends[row, 0], ()))
        return len(tracks) if forked else 0

    def _expected(self) -> dict[int, int]:
        """About how many lanes the arrows need below each row."""
        found: dict[int, int] = {}
        for edge in self.picture.edges:
            one, other = self.row(edge.tail, edge), self.row(edge.head, edge)
            if one != other or edge.is_skip:
                between = min(one, other) if one != other else one - 1
                found[between] = found.get(between, 0) + 1
        return {row: min(count, 12) for row, count in found.items()}

    # ------------------------------------------------------------ arrows

    def length(self, edge: Edge) -> tuple[int, float]:
        (x1, _), (x2, _) = self.layout.places[edge.tail], self.layout.places[edge.head]
        return abs(self.row(edge.tail, edge) - self.row(edge.head, edge)), abs(x1 - x2)

    def lead(self, edge: Edge) -> bool:
        """Leads an arrow the first clear way; whether there is one."""
        for route in self._routes(edge, self._end(edge.tail, edge), self._end(edge.head, edge)):
            if self._clear(route, edge):
                self._take(route)
                self.layout.lead(edge, route)
                self._give_way(edge.head, route[-1])
                return True
        return False

    def _give_way(self, part: Part, tip: Point) -> None:
        """Puts the notes below a sign beside an arrow that arrives there."""
        x, bottom = self.layout.places[part][0], self._box(part)[1]
        if part in self.notes and part not in self.texts and not self.turned and tip == (x, bottom):
            width, height = self.notes[part]
            self.layout.notes[part] = Label((), (width, height), (x - width / 2 - BESIDE, bottom - height / 2))

    def _end(self, part: Part, edge: Edge) -> Point:
        """Where an arrow would meet the middle of a box."""
        x, y = self.layout.places[part]
        return (x, self.centres[self.row(part, edge)]) if self.spans(part) else (x, y)

    def _routes(self, edge: Edge, one: Point, other: Point) -> Iterator[list[Point]]:
        """Routes of an arrow, the plain ones first."""
        (x1, y1), (x2, y2) = one, other
        tail, head = self._box(edge.tail), self._box(edge.head)
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
        if tail[2] < head[0]:
            for turn in (head[0] - self.side_gap / 2, tail[2] + self.side_gap / 2):
                yield [(tail[2], y1), (turn, y1), (turn, y2), (head[0], y2)]
        yield from self._in_lanes(edge, one, other, (into, bottom))

    def _in_lanes(self, edge: Edge, one: Point, other: Point, landing: Point) -> Iterator[list[Point]]:
        """Routes that run in a lane between two rows."""
        (x1, y1), (x2, y2) = one, other
        tail, head = self._box(edge.tail), self._box(edge.head)
        ends = self.row(edge.tail, edge), self.row(edge.head, edge)
        for lane in range(MOST_LANES):
            for above in dict.fromkeys((ends[1] - 1, ends[1], ends[0], ends[0] - 1)):
                level = self._level(above, lane)
                if not self._free(above, lane, (min(x1, x2), max(x1, x2))):
                    continue
                start = self._under(edge.tail) if level < y1 else tail[3]
                tip = (x2, head[3]) if level > y2 else landing
                asides = (
                    tail[2] + self.side_gap / 2 - 3 * (lane % 3),
                    head[0] - self.side_gap / 2 + 3 * (lane % 3),
                )
                if not self.spans(edge.tail) and not self.spans(edge.head):
                    yield [(x1, start), (x1, level), (tip[0], level), tip]
                for aside in asides:
                    if aside < head[0] and not self.spans(edge.tail):
                        yield [(x1, start), (x1, level), (aside, level), (aside, y2), (head[0], y2)]
                    if aside > tail[2] and not self.spans(edge.head):
                        yield [(tail[2], y1), (aside, y1), (aside, level), (tip[0], level), tip]
                out, back = asides
                if tail[2] < out < back < head[0]:
                    yield [(tail[2], y1), (out, y1), (out, level), (back, level), (back, y2), (head[0], y2)]

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
        return x, bottom if part not in self.texts else self._under(part)  # notes alone give way

    def _box(self, part: Part) -> Box:
        return self.layout.box(part)

    def _under(self, part: Part) -> float:
        """The lower side of a box with its text, and with its notes, which stand elsewhere if the grid is turned."""
        below = self.texts[part][2][1] if part in self.texts else 0.0
        if part in self.notes and not self.turned:
            below += self.notes[part][1]
        return self._box(part)[1] - below

    def _level(self, above: int, lane: int) -> float:
        """The height of a lane below a row; -1 is above all rows."""
        members = [part for part, row in self.rows.last.items() if row == above]
        if not members:
            top = max(self._box(part)[3] for part in self.rows.first)
            return top + self.row_gap / 2 + LANE * lane
        return min(self._under(part) for part in members) - self.row_gap / 3 - LANE * lane

    def _free(self, above: int, lane: int, span: tuple[float, float]) -> bool:
        taken = self.lanes.get((above, round(self._level(above, lane))), [])
        return all(span[1] < low - LANE or span[0] > high + LANE for low, high in taken)

    def _clear(self, route: Sequence[Point], edge: Edge) -> bool:
        """Whether a route keeps clear of boxes and texts, and of other arrows that run along it."""
        for number, ((x1, y1), (x2, y2)) in enumerate(pairwise(route)):
            wide = 1.5
            across = (min(x1, x2) - wide, min(y1, y2) - wide, max(x1, x2) + wide, max(y1, y2) + wide)
            for part in self.layout.places:
                left, bottom, right, top = self._box(part)
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
            if any(self._overlay(across, a, b) for a, b in self._others(edge)):
                return False
        return True

    def _covers(self, part: Part, x: float) -> bool:
        """Whether the text below a box is in the way of an arrow from below."""
        return part in self.texts and abs(x - self.layout.places[part][0]) < self.texts[part][2][0] / 2

    def _text(self, part: Part) -> Box:
        edge, _, size = self.texts[part]
        x, y = self.layout.labels[edge].at
        return x - size[0] / 2, y - size[1] / 2, x + size[0] / 2, y + size[1] / 2

    def _others(self, edge: Edge) -> Iterator[tuple[Point, Point]]:
        """The pieces of arrows of other boxes that have their route, but for those that may join it."""
        for other, corners in self.layout.corners.items():
            one_tensor = set(other.tensors) == set(edge.tensors)
            together = other.tail is edge.tail and (one_tensor or not self.spans(edge.tail))
            together = together or (other.head is edge.head and (one_tensor or not self.spans(edge.head)))
            if not together:
                yield from pairwise(corners)

    @staticmethod
    def _overlay(room: Box, a: Point, b: Point) -> bool:
        """Whether a piece of an arrow runs within a room, in its direction."""
        low, high = (min(a[0], b[0]), min(a[1], b[1])), (max(a[0], b[0]), max(a[1], b[1]))
        upright = room[2] - room[0] < room[3] - room[1]
        if upright != (abs(a[0] - b[0]) < 0.1):
            return False
        return meet(room, (low[0] - 2, low[1] - 2, high[0] + 2, high[1] + 2))

    def _take(self, route: Sequence[Point]) -> None:
        for (x1, y1), (x2, y2) in pairwise(route):
            if y1 == y2:
                for above in range(-1, max(self.rows.last.values()) + 1):
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
