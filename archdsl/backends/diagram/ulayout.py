"""Where everything of a U is placed: boxes in two columns, one down and one up, or feature maps in a row for each
resolution. Skips run straight across, and a gate is placed in the middle of its skip."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import pairwise
from typing import NamedTuple

from archdsl.backends.diagram.labels import Line
from archdsl.backends.diagram.layout import Label, Layout, Point, Size, label_size
from archdsl.backends.diagram.picture import Edge, Part, Picture
from archdsl.backends.diagram.ushape import U

# ---------------------------------------------------------------- boxes in columns

ROW_GAP, TIGHT_ROW, TEXT_ROOM = 13.0, 10.5, 12.0
"""Points between two boxes of a column, the least in a narrow figure, and what a line of text on the arrow adds."""

SKIP_GAP, TIGHT_GAP = 120.0, 36.0
"""Points between the columns, for the text on the skips, and the least of a narrow figure."""

BOTTOM_GAP = 80.0
"""Points between boxes in the row of the coarsest resolution, for the text on the arrows."""

SIDE_GAP = 20.0
"""Points between boxes beside each other."""

Texts = Mapping[Edge, Sequence[Line]]
"""The lines on arrows."""


def in_columns(u: U, picture: Picture, measure: Callable[[Part], Size], texts: Texts, *, tight: bool = False) -> Layout:
    """Places boxes of measured sizes: the path down at the left, the path up at the right, the bottom between."""
    skip_gap = TIGHT_GAP if tight else SKIP_GAP
    layout = Layout(sizes={part: measure(part) for part in picture.boxes()})
    sizes, places = layout.sizes, layout.places
    bottom_gap = TIGHT_GAP if tight else BOTTOM_GAP
    bottom_width = sum(sizes[p][0] + bottom_gap for p in u.bottom) - bottom_gap
    right = max(_distance(u, picture, sizes, texts, skip_gap), bottom_width + 2 * SIDE_GAP)
    row_gap = TIGHT_ROW if tight else ROW_GAP
    y = _place_columns(u, layout, right, row_gap, {edge.tail for edge in texts if edge.kind == "flow"})
    if u.bottom:
        y -= 2 * row_gap + max(sizes[p][1] for p in u.bottom) / 2
        x = (right - bottom_width) / 2
        for part in u.bottom:
            places[part] = (x + sizes[part][0] / 2, y)
            x += sizes[part][0] + bottom_gap
    _place_gates(u, places)
    for part, tail in u.aside.items():
        x, y = places[tail]
        places[part] = (x + sizes[tail][0] / 2 + SIDE_GAP + sizes[part][0] / 2, y)
    lanes = _lanes(picture.edges, {part: places[part] for part in u.bottom})
    for edge in picture.edges:
        lane = lanes.get(edge)
        corners = _column_corners(layout, edge, u) if lane is None else _around(edge, lane, places, sizes, -1)
        if edge in texts:
            size = label_size(texts[edge])
            if lane is None:
                corners, at = _beside(corners, size)
            else:
                at = ((corners[1][0] + corners[2][0]) / 2, corners[1][1])
            layout.labels[edge] = Label(texts[edge], size, at)
        layout.lead(edge, corners)
    return layout


def _distance(u: U, picture: Picture, sizes: Mapping[Part, Size], texts: Texts, skip_gap: float) -> float:
    """The distance between the columns that skips need, with their gates and texts."""
    width = max(size[0] for size in sizes.values())
    room = {edge: label_size(lines)[0] + 2 * SIDE_GAP for edge, lines in texts.items()}
    found = width + skip_gap
    found = max([found, *(width + room[edge] for edge in u.skips if edge in room)])
    for part in u.gates:
        ends = [room.get(edge, 2 * SIDE_GAP) for edge in picture.edges if part is edge.tail or part is edge.head]
        found = max(found, width + sizes[part][0] + 2 * max(ends))
    return found


def _place_columns(u: U, layout: Layout, right: float, row_gap: float, with_text: set[Part]) -> float:
    """Places the rows above the bottom, and gives the y below them. `with_text` are tails of arrows with a text."""
    y = 0.0
    above: list[Part] = []
    for left_parts, right_parts in u.rows():
        # A text is placed behind its box: below it on the way down, above it on the way up.
        y -= TEXT_ROOM if with_text.intersection(above) or with_text.intersection(right_parts) else 0
        above = left_parts
        height = max(layout.sizes[p][1] for p in (*left_parts, *right_parts))
        for parts, x in ((left_parts, 0.0), (right_parts, right)):
            for part in parts:
                layout.places[part] = (x, y - height / 2)
        y -= height + row_gap
    return y


def _place_gates(u: U, places: dict[Part, Point]) -> None:
    for part, (tail, head) in u.gates.items():
        places[part] = ((places[tail][0] + places[head][0]) / 2, places[tail][1])


def _column_corners(layout: Layout, edge: Edge, u: U) -> list[Point]:
    """The route of an arrow: straight within a column or across, else around a corner."""
    (x1, y1), (x2, y2) = layout.places[edge.tail], layout.places[edge.head]
    (w1, h1), (w2, h2) = layout.sizes[edge.tail], layout.sizes[edge.head]
    if abs(x1 - x2) < 1:
        between = [
            p for p, (x, y) in layout.places.items() if abs(x - x1) < 1 and min(y1, y2) + 1 < y < max(y1, y2) - 1
        ]
        if between:  # alongside the column, on its outer side
            side = -1 if x1 < 1 else 1
            out = x1 + side * (max(layout.sizes[p][0] for p in [*between, edge.tail, edge.head]) / 2 + SIDE_GAP)
            return [(x1 + side * w1 / 2, y1), (out, y1), (out, y2), (x2 + side * w2 / 2, y2)]
        up = 1 if y2 > y1 else -1
        return [(x1, y1 + up * h1 / 2), (x2, y2 - up * h2 / 2)]
    if edge.head in u.gates and y2 > y1 + 1:  # from below into a gate
        if edge.tail in u.bottom and abs(x1 - x2) < w1 / 2 - 10:
            return [(x2, y1 + h1 / 2), (x2, y2 - h2 / 2)]
        return [(x1 - w1 / 2 if x1 > x2 else x1 + w1 / 2, y1), (x2, y1), (x2, y2 - h2 / 2)]
    right = 1 if x2 > x1 else -1
    start, end = (x1 + right * w1 / 2, y1), (x2 - right * w2 / 2, y2)
    if abs(y1 - y2) < 1 or not {edge.tail, edge.head} & set(u.bottom):
        return [start, end]
    if y2 < y1:
        return [(x1, y1 - h1 / 2), (x1, y2), end]
    return [start, (x2, y1), (x2, y2 - h2 / 2)]


def _beside(corners: list[Point], text: Size) -> tuple[list[Point], Point]:
    """An arrow, and the middle of its text: before its start if it begins vertically, else on the middle of its longest
    piece, vertical ones first."""
    (x1, y1), (x2, y2) = corners[:2]
    if x1 == x2:
        step = text[1] if y2 > y1 else -text[1]
        return [(x1, y1 + step), *corners[1:]], (x1, y1 + step / 2)
    a, b = max(pairwise(corners), key=lambda s: (abs(s[0][1] - s[1][1]), abs(s[0][0] - s[1][0])))
    # Past a column the text is on the far side of the arrow.
    aside = 0.0 if len(corners) < 4 else (text[0] / 2 + 4) * (1 if b[0] > corners[0][0] else -1)
    return corners, ((a[0] + b[0]) / 2 + aside, (a[1] + b[1]) / 2)


# ---------------------------------------------------------------- arrows around others of their row

LANE = 12.0
"""Points from a row to the nearest lane of the arrows that lead around boxes in it, and from one lane to the next."""


class Lane(NamedTuple):
    """The way of an arrow around the parts that are `between` its ends; the `number` counts from the row outwards."""

    number: int
    between: list[Part]


def _lanes(edges: Iterable[Edge], places: Mapping[Part, Point]) -> dict[Edge, Lane]:
    """The arrows in a row that lead around others of it. Where lanes lie over each other, the shorter one is inside."""
    spans: dict[Edge, tuple[float, float, float]] = {}
    found: dict[Edge, Lane] = {}
    for edge in edges:
        if edge.tail in places and edge.head in places and abs(places[edge.tail][1] - places[edge.head][1]) < 1:
            low, high = sorted((places[edge.tail][0], places[edge.head][0]))
            spans[edge] = (high - low, low, high)
    for edge in sorted(spans, key=lambda e: spans[e]):
        _, low, high = spans[edge]
        y = places[edge.tail][1]
        if between := [p for p, (x, at) in places.items() if low + 1 < x < high - 1 and abs(at - y) < 1]:
            inner = [
                lane.number
                for e, lane in found.items()
                if spans[e][1] < high - 1 and low + 1 < spans[e][2] and abs(places[e.tail][1] - y) < 1
            ]
            found[edge] = Lane(max(inner, default=0) + 1, between)
    return found


def _around(edge: Edge, lane: Lane, places: Mapping[Part, Point], sizes: Mapping[Part, Size], side: int) -> list[Point]:
    """The way of an arrow in a lane above the row (`side` 1) or below it (-1)."""
    (x1, y1), (x2, y2) = places[edge.tail], places[edge.head]
    (w1, h1), (w2, h2) = sizes[edge.tail], sizes[edge.head]
    out = y1 + side * (max(sizes[p][1] / 2 for p in (*lane.between, edge.tail, edge.head)) + lane.number * LANE)
    # Beside the middle, so that what ends at a box and what begins there are two arrows.
    x1, x2 = x1 + min(w1 / 4, 6), x2 - min(w2 / 4, 6)
    return [(x1, y1 + side * h1 / 2), (x1, out), (x2, out), (x2, y2 + side * h2 / 2)]


# ---------------------------------------------------------------- feature maps in rows

MAP_GAP, LEVEL_GAP, SKIP = 12.0, 30.0, 40.0
"""Points between feature maps, between rows, and the least length of a skip."""


class Room(NamedTuple):
    """The room of a feature map: its size, the width with its words, and the height of the words below it."""

    size: Size
    width: float
    below: float


def in_rows(u: U, picture: Picture, rooms: Mapping[Part, Room], hidden: Sequence[Part]) -> Layout:
    """Places feature maps, a row for each resolution; an arrow to another row is vertical.

    `hidden` parts of the trunk get no place: the arrow from the part before them continues. Arrows have
    corners only, those of the trunk first.
    """
    layout = Layout(sizes={part: room.size for part, room in rooms.items()})
    before = dict(zip(u.trunk[1:], u.trunk, strict=False))
    shown = [part for part in u.trunk if part not in hidden]
    places = layout.places
    rows = _place_rows(u, places, shown, rooms, [p for p in shown if before.get(p) in hidden])
    _widen(u, places, shown, rooms, first=len(rows) - 1 - rows[::-1].index(max(rows)))
    y = 0.0
    for row in range(max(rows) + 1):
        members = [part for part, at in zip(shown, rows, strict=True) if at == row]
        y -= max(rooms[p].size[1] / 2 for p in members)
        places.update({part: (places[part][0], y) for part in members})
        y -= max(rooms[p].size[1] / 2 + rooms[p].below for p in members) + LEVEL_GAP
    _place_gates(u, places)
    for part, tail in u.aside.items():
        x, y = places[tail]
        places[part] = (x, y + rooms[tail].size[1] / 2 + rooms[part].size[1] / 2 + rooms[part].below + MAP_GAP)
    edges = {(e.tail, e.head): e for e in picture.edges}
    for head in shown[1:]:
        tail = before[head]
        corners = _step_corners(places, rooms, before[tail] if tail in hidden else tail, head)
        layout.corners[edges.pop((tail, head))] = corners
    lanes = _lanes(edges.values(), places)
    for edge in edges.values():
        if edge in lanes:
            layout.corners[edge] = _around(edge, lanes[edge], places, layout.sizes, 1)
        elif edge.tail in places and edge.head in places:
            layout.corners[edge] = _row_corners(places, rooms, edge, u)
    return layout


def _place_rows(
    u: U, places: dict[Part, Point], shown: Sequence[Part], rooms: Mapping[Part, Room], raised: Iterable[Part]
) -> list[int]:
    """Places the trunk from left to right, still at one height; gives the row of each part. `raised` begin a row above
    though they are no step."""
    down = {part for parts in u.steps_down.values() for part in parts}
    up = {*raised, *(part for parts in u.steps_up.values() for part in parts)}
    places[shown[0]] = (0.0, 0.0)
    rows = [0]
    for before, part in pairwise(shown):
        step = (part in down) - (part in up)
        gap = 0.0 if step else (rooms[before].width + rooms[part].width) / 2 + MAP_GAP
        places[part] = (places[before][0] + gap, 0.0)
        rows.append(rows[-1] + step)
    return rows


def _widen(u: U, places: dict[Part, Point], shown: Sequence[Part], rooms: Mapping[Part, Room], first: int) -> None:
    """Moves the parts from the `first` on to the right until all skips have room."""
    needs = [(e.tail, e.head, SKIP) for e in u.skips if e.tail in places and e.head in places]
    needs += [(tail, head, 2 * SKIP + rooms[part].width) for part, (tail, head) in u.gates.items()]
    lengths = [places[b][0] - places[a][0] - rooms[a].size[0] / 2 - rooms[b].size[0] / 2 for a, b, _ in needs]
    lacking = max([need - length for (*_, need), length in zip(needs, lengths, strict=True)], default=0.0)
    if lacking > 0:
        places.update({part: (places[part][0] + lacking, 0.0) for part in shown[first:]})


def _step_corners(places: Mapping[Part, Point], rooms: Mapping[Part, Room], tail: Part, head: Part) -> list[Point]:
    """The arrow between neighbours of the trunk."""
    (x1, y1), (x2, y2) = places[tail], places[head]
    if abs(y1 - y2) < 1:
        return [(x1, y1), (x2 - rooms[head].size[0] / 2, y2)]
    above = [rooms[part].size[1] / 2 + 1 for part in (tail, head)]
    below = [rooms[part].size[1] / 2 + rooms[part].below + 1 for part in (tail, head)]
    return [(x1, y1 - below[0]), (x2, y2 + above[1])] if y2 < y1 else [(x1, y1 + above[0]), (x2, y2 - below[1])]


def _row_corners(places: Mapping[Part, Point], rooms: Mapping[Part, Room], edge: Edge, u: U) -> list[Point]:
    """An arrow beside the trunk."""
    (x1, y1), (x2, y2) = places[edge.tail], places[edge.head]
    head = rooms[edge.head]
    if edge.head in u.gates and y2 > y1 + 1:  # from below into a gate, on its way between the rows
        top = y1 + rooms[edge.tail].size[1] / 2
        between = top + LEVEL_GAP / 3
        return [(x1 - 6, top), (x1 - 6, between), (x2, between), (x2, y2 - head.size[1] / 2 - head.below - 1)]
    return [(x1, y1), (x2 - head.size[0] / 2, y2)]
