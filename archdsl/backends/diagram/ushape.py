"""Encoder-decoder networks: recognised by their resolutions, and laid out as a U whose skips run straight across."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import log2, prod

from archdsl.analysis.costs import Analysis
from archdsl.backends.diagram.labels import Line
from archdsl.backends.diagram.layout import Label, Layout, Point, Size, roomy
from archdsl.backends.diagram.picture import Edge, Part, Picture

ROW_GAP, TEXT_ROOM = 13.0, 12.0
"""Points between two boxes of a column, and what a line of text on the arrow adds."""

SKIP_GAP = 120.0
"""Points between the columns, for the text on the skips."""

BOTTOM_GAP = 80.0
"""Points between boxes in the row of the coarsest resolution, for the text on the arrows."""

SIDE_GAP = 20.0
"""Points between boxes beside each other."""


@dataclass(frozen=True, slots=True)
class U:
    """The way of a network down to its coarsest resolution and up again.

    `down` and `up` are the boxes of the `trunk` at each level of resolution, in the order of the network, `steps`
    those that lead from
    one level to the next (into the lower one, or out of it), `bottom` those of the coarsest. `across` are boxes on
    the way of a skip, such as gates, which what comes up steers; `aside` outputs beside the trunk.
    """

    trunk: list[Part]
    down: dict[int, list[Part]]
    up: dict[int, list[Part]]
    steps_down: dict[int, list[Part]]
    steps_up: dict[int, list[Part]]
    bottom: list[Part]
    skips: list[Edge]
    across: dict[Part, tuple[Part, Part]]
    aside: dict[Part, Part]


def recognise(picture: Picture, analysis: Analysis) -> U | None:
    """The U of a picture without frames, None where it has another form."""
    trunk = _trunk(picture)
    edges = {(e.tail, e.head): e for e in picture.edges}
    areas = [_area(analysis, edges[pair]) for pair in pairwise(trunk)]
    if len(trunk) < 5 or any(a is None for a in areas):
        return None
    place = {part: i for i, part in enumerate(trunk)}
    # A level for each part: that of what flows out of it.
    levels = [0]
    for before, after in pairwise([areas[0], *areas]):
        assert before is not None and after is not None
        levels.append(levels[-1] + round(before - after))
    levels = [*levels[1:], levels[-1]]
    coarsest = max(levels)
    first, last = levels.index(coarsest), len(levels) - 1 - levels[::-1].index(coarsest)
    falling = all(a <= b for a, b in pairwise(levels[: first + 1]))
    rising = all(a >= b for a, b in pairwise(levels[last:]))
    if not (falling and rising and set(levels[first : last + 1]) == {coarsest}):
        return None
    if coarsest < 2 or levels[0] != 0 or levels[-1] > coarsest - 2:
        return None
    u = U(trunk, {}, {}, {}, {}, [], [], {}, {})
    for i, part in enumerate(trunk):
        into = levels[i - 1] if i else 0
        if levels[i] > into:
            u.steps_down.setdefault(into, []).append(part)
        elif levels[i] < into:
            u.steps_up.setdefault(levels[i], []).append(part)
        elif levels[i] == coarsest:
            u.bottom.append(part)
        else:
            (u.down if i < first else u.up).setdefault(levels[i], []).append(part)
    return _with_skips(u, picture, place, levels, (first, last))


def _trunk(picture: Picture) -> list[Part]:
    """The longest way through the picture; of two of one length the one that does not lead through the gate of a
    skip."""
    trunk = picture.trunk()
    before: dict[Part, list[Part]] = {}
    after: dict[Part, list[Part]] = {}
    for edge in picture.edges:
        before.setdefault(edge.head, []).append(edge.tail)
        after.setdefault(edge.tail, []).append(edge.head)
    for i in range(1, len(trunk) - 1):
        tail, gate, head = trunk[i - 1 : i + 2]
        if len(before[gate]) == 2 and after[gate] == [head]:
            others = (p for p in after[tail] if p is not gate and before[p] == [tail] and after.get(p) == [head])
            trunk[i] = next(others, gate)
    return trunk


def _area(analysis: Analysis, edge: Edge) -> float | None:
    """The logarithm of the mean side of what flows along an arrow, None for what has no sides."""
    sides = analysis.shape(edge.tensors[-1])[1:]
    return log2(prod(sides)) / len(sides) if sides and all(sides) else None


def _with_skips(
    u: U, picture: Picture, place: dict[Part, int], levels: Sequence[int], bottom: tuple[int, int]
) -> U | None:
    """Adds what does not stand on the trunk; None where that is more than skips."""
    before: dict[Part, list[Part]] = {}
    after: dict[Part, list[Part]] = {}
    for edge in picture.edges:
        before.setdefault(edge.head, []).append(edge.tail)
        after.setdefault(edge.tail, []).append(edge.head)
    ways = [(e.tail, e.head) for e in picture.edges if e.tail in place and e.head in place]
    for part in picture.boxes():
        if part in place:
            continue
        tails, heads = before.get(part, []), after.get(part, [])
        if part.kind == "output" and all(t in place and place[t] > bottom[1] for t in tails):
            u.aside[part] = tails[0]
        elif len(heads) == 1 and heads[0] in place and (tail := _skipping(tails, place, bottom)) is not None:
            u.across[part] = (tail, heads[0])
            ways.append(u.across[part])
        else:
            return None

    def spans(tail: Part, head: Part) -> bool:
        return place[tail] < bottom[0] and place[head] > bottom[1]

    if any(not spans(*u.across[part]) for part in u.across):
        return None
    u.skips.extend(e for e in picture.edges if e.tail in place and e.head in place and spans(e.tail, e.head))
    joined = {levels[place[t]] for t, h in ways if spans(t, h) and levels[place[t]] == levels[place[h]]}
    return u if len(joined) >= max(2, max(levels) - 1) else None


def _skipping(tails: Sequence[Part], place: Mapping[Part, int], bottom: tuple[int, int]) -> Part | None:
    """Where the skip comes from that leads through a box: the only one of its tails, or the one on the way down of a
    gate; None for other boxes."""
    if any(tail not in place for tail in tails):
        return None
    down = [tail for tail in tails if place[tail] < bottom[0]]
    return down[0] if len(down) == 1 and len(tails) <= 2 else None


# ---------------------------------------------------------------- places


def lay_out(u: U, picture: Picture, measure: Callable[[Part], Size], texts: Mapping[Edge, Sequence[Line]]) -> Layout:
    """Places the parts of a U. The rows of a level are counted from the one in which its skip runs.

    `texts` are the lines on arrows.
    """
    layout = Layout(sizes={part: measure(part) for part in picture.boxes()})
    width = max(size[0] for size in layout.sizes.values())
    bottom_width = sum(layout.sizes[p][0] + BOTTOM_GAP for p in u.bottom) - BOTTOM_GAP
    right = max(width + SKIP_GAP, bottom_width + 2 * SIDE_GAP)
    room = {edge: roomy(lines)[0] + 2 * SIDE_GAP for edge, lines in texts.items()}
    for part in u.across:  # with its texts between the columns
        ends = [room.get(edge, 2 * SIDE_GAP) for edge in picture.edges if part is edge.tail or part is edge.head]
        right = max(right, width + layout.sizes[part][0] + 2 * max(ends))
    rows: list[tuple[list[Part], list[Part]]] = []
    levels = sorted(set(u.down) | set(u.up) | set(u.steps_down) | set(u.steps_up))
    for level in levels:
        rows += _rows(u, level)
        left, up = u.steps_down.get(level, []), u.steps_up.get(level, [])[::-1]
        rows += [(left[i : i + 1], up[i : i + 1]) for i in range(max(len(left), len(up)))]
    y = 0.0
    telling = {edge.tail for edge in texts if edge.kind == "flow"}
    above: list[Part] = []
    for left_parts, right_parts in rows:
        # A text stands behind its box: under it on the way down, above it on the way up.
        y -= TEXT_ROOM if telling.intersection(above) or telling.intersection(right_parts) else 0
        above = left_parts
        height = max(layout.sizes[p][1] for p in (*left_parts, *right_parts))
        for parts, x in ((left_parts, 0.0), (right_parts, right)):
            for part in parts:
                layout.places[part] = (x, y - height / 2)
        y -= height + ROW_GAP
    if u.bottom:
        y -= 2 * ROW_GAP
        height = max(layout.sizes[p][1] for p in u.bottom)
        x = (right - bottom_width) / 2
        for part in u.bottom:
            layout.places[part] = (x + layout.sizes[part][0] / 2, y - height / 2)
            x += layout.sizes[part][0] + BOTTOM_GAP
    for part, (tail, head) in u.across.items():
        layout.places[part] = ((layout.places[tail][0] + layout.places[head][0]) / 2, layout.places[tail][1])
    for part, tail in u.aside.items():
        x, row = layout.places[tail]
        layout.places[part] = (x + layout.sizes[tail][0] / 2 + SIDE_GAP + layout.sizes[part][0] / 2, row)
    for edge in picture.edges:
        corners = _corners(layout, edge, u)
        if edge in texts:
            size = roomy(texts[edge])
            corners, at = _beside(corners, size)
            layout.labels[edge] = Label(texts[edge], size, at)
        layout.lead(edge, corners)
    return layout


def height(u: U) -> int:
    """How many rows a U has."""
    levels = set(u.down) | set(u.up) | set(u.steps_down) | set(u.steps_up)
    steps = (max(len(u.steps_down.get(level, ())), len(u.steps_up.get(level, ()))) for level in levels)
    return sum(len(_rows(u, level)) for level in levels) + sum(steps) + 1


def _rows(u: U, level: int) -> list[tuple[list[Part], list[Part]]]:
    """The rows of a level, from the top: the left column is read downwards, the right one upwards."""
    down, up = u.down.get(level, []), u.up.get(level, [])
    ways = [(e.tail, e.head) for e in u.skips] + list(u.across.values())
    tail, head = next(((t, h) for t, h in ways if t in down and h in up), (None, None))
    at_left = down.index(tail) if tail is not None else len(down) - 1
    at_right = up.index(head) if head is not None else 0
    above = max(at_left, len(up) - 1 - at_right, 0)
    below = max(len(down) - 1 - at_left, at_right)
    found = []
    for row in range(-above, below + 1):
        left, right = at_left + row, at_right - row
        pair = (down[left : left + 1] if left >= 0 else [], up[right : right + 1] if right >= 0 else [])
        if any(pair):
            found.append(pair)
    return found


def _corners(layout: Layout, edge: Edge, u: U) -> list[Point]:
    """The way of an arrow: straight within a column or across, else around a corner."""
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
    if edge.head in u.across and y2 > y1 + 1:  # what comes up steers a gate
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
    """An arrow with its text: before its start where it begins upright, else on the middle of its longest piece, an
    upright one before others."""
    (x1, y1), (x2, y2) = corners[:2]
    if x1 == x2:
        step = text[1] if y2 > y1 else -text[1]
        return [(x1, y1 + step), *corners[1:]], (x1, y1 + step / 2)
    a, b = max(pairwise(corners), key=lambda s: (abs(s[0][1] - s[1][1]), abs(s[0][0] - s[1][0])))
    # Past a column the text stands on the far side of the arrow.
    aside = 0.0 if len(corners) < 4 else (text[0] / 2 + 4) * (1 if b[0] > corners[0][0] else -1)
    return corners, ((a[0] + b[0]) / 2 + aside, (a[1] + b[1]) / 2)
