"""The layout of most pictures: in layers, as Graphviz's `dot` places boxes of the sizes that are computed here.

The size of a box's result is written next to it, where its arrows begin, and takes no layer of its own.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from math import ceil
from typing import Any

import graphviz

from archdsl.backends.diagram.dot import HEADING, NOTE, Writer
from archdsl.backends.diagram.labels import LINE_HEIGHT, Line, extent, table
from archdsl.backends.diagram.layout import (
    TEXT_GAP,
    Box,
    Label,
    Layout,
    Point,
    Size,
    label_size,
    samples,
    squeezed,
    straight,
    union,
)
from archdsl.backends.diagram.picture import Edge, Part, Picture, frames_around
from archdsl.backends.diagram.render import layouts
from archdsl.backends.diagram.routes import TURN, Router

NODE_GAP, SMALL_GAP, RANK_GAP = 18.0, 11.0, 13.0
"""Points between boxes beside each other, in a small figure too, and from one layer to the next."""

TEXT_ROOM = LINE_HEIGHT * NOTE + TEXT_GAP
"""Points that a text under a box takes."""

FEW_CURVES = 60
"""The most arrows for which `dot` is asked for curves before it is known whether some are needed."""

SOLID = ("layers", "block", "input", "output")
"""Kinds of parts whose arrows begin and end in the middle of a side."""

SPREAD, APART = 0.6, 16.0
"""The share of a side over which several arrows arrive, and the points between two of them where there is room."""

MARGIN = 8.0
"""Points between a frame and what it holds."""

BULGE = 22.0
"""The margin, while `dot` works, of a frame in which a skip runs."""


def lay_out(pictures: Sequence[Picture], writer: Writer) -> list[Layout]:
    """The layouts of pictures, independent of each other. Raises DrawingError."""
    questions = [_Question(picture, writer) for picture in pictures]
    found = layouts([question.text(curves=question.is_small) for question in questions])
    read = [question.read(layout) for question, layout in zip(questions, found, strict=True)]
    again = layouts([q.text(curves=True) for q, layout in zip(questions, read, strict=True) if layout is None])
    return [layout or question.read(again.pop(0)) for question, layout in zip(questions, read, strict=True)]  # type: ignore[misc]


def headings(layout: Layout, writer: Writer) -> dict[Part, float]:
    """The heights of the headings of frames."""
    return {part: LINE_HEIGHT * HEADING - 2 for part in layout.frames if writer.captions.frame(part)}


class _Question:
    """The text that `dot` gets for one picture, and how its layout is read.

    Each arrow belongs to the innermost frame around both its ends, so that it stays inside.
    """

    def __init__(self, picture: Picture, writer: Writer) -> None:
        self.picture = picture
        self.writer = writer
        self.down = writer.style.direction == "down"
        self.trunk = set(picture.trunk())
        self.frames = frames_around(picture.parts)
        self.kept: dict[Part, tuple[float, float]] = {}
        self.home = {part: frames[-1] if frames else None for part, frames in self.frames.items()}
        self.arriving: dict[Part, list[Edge]] = {}
        self.leaving: dict[Part, list[Edge]] = {}
        self.edges: dict[Part | None, list[Edge]] = {}
        for edge in picture.edges:
            self.arriving.setdefault(edge.head, []).append(edge)
            self.leaving.setdefault(edge.tail, []).append(edge)
            common = self._common(edge)
            self.edges.setdefault(common[-1] if common else None, []).append(edge)
        self.texts: dict[Part, tuple[Edge, list[Line], Size]] = {
            edge.tail: (edge, lines, label_size(lines)) for edge, lines in writer.sizes(picture).items()
        }

        boxes = [part for part in picture.boxes() if part.kind == "merge"]
        self.notes = {part: (lines, extent(lines)) for part in boxes if (lines := writer.notes(part))}

        # Branches begin at one height, whether or not there is a text below their first box.
        rows = [row for frame in [None, *self.frames] for row in self._branches(frame)]
        self.spaced = {p for row in rows if any(p in self.texts for p in row) for p in row} if self.down else set()
        self.forks = {part for part in self.leaving if self._forks(part)}

    def _forks(self, part: Part) -> bool:
        """Whether several arrows leave a box through one side, and need room to part."""
        flows = [e for e in self.leaving[part] if not e.is_skip]
        return len(flows) > 1 and (part.kind in SOLID or (part.kind == "merge" and part in self.texts))

    def _common(self, edge: Edge) -> list[Part]:
        """The frames around both ends of an arrow, outer ones first."""
        return [a for a, b in zip(self.frames[edge.tail], self.frames[edge.head], strict=False) if a is b]

    # ------------------------------------------------------------ the question

    @property
    def is_small(self) -> bool:
        """Whether `dot` finds the curves of all arrows in no time."""
        return len(self.picture.edges) <= FEW_CURVES

    def text(self, *, curves: bool) -> str:
        """The question; without `curves`, which are only for arrows that find no way at right angles."""
        dot = graphviz.Digraph(name="network")
        node_gap = SMALL_GAP if self.writer.captions.detail.small else NODE_GAP
        gaps = {"nodesep": f"{node_gap / 72:.4f}", "ranksep": f"{RANK_GAP / 72:.4f}"}
        dot.attr(rankdir="TB" if self.down else "LR", splines="true" if curves else "none", **gaps)
        dot.attr("node", label="", shape="box", fixedsize="true")
        dot.attr("edge", arrowsize="0.6")
        self._write(dot, self.picture.parts, None)
        return str(dot.source)

    def _write(self, dot: graphviz.Digraph, parts: Iterable[Part], frame: Part | None) -> None:
        for part in parts:
            if part.children:
                with dot.subgraph(name=f"cluster_{part.id}") as inner:
                    skips = any(edge.is_skip for edge in self.edges.get(part, ()))
                    width, height = self._heading(part)
                    inner.attr(label=_space(width, height) if width else "", margin=f"{BULGE if skips else MARGIN:g}")
                    self._write(inner, part.children, part)
            else:
                width, height = self._room(part)
                size = {"width": f"{width / 72:.4f}", "height": f"{height / 72:.4f}"}
                dot.node(part.id, **size, group=self._group(part))
        for edge in self.edges.get(frame, ()):
            dot.edge(edge.tail.id, edge.head.id, **self._looks(edge))
        for heads in self._branches(frame):
            with dot.subgraph() as row:
                row.attr(rank="same")
                for head in heads:
                    row.node(head.id)

    def _group(self, part: Part) -> str:
        """The name of the line to which a box belongs: the trunk, or its branch."""
        if self._is_parallel(part):
            return part.id
        if part in self.trunk:
            return "trunk"
        before = self.arriving.get(part, [])
        while len(before) == 1 and len(self.leaving[before[0].tail]) == 1 and before[0].tail not in self.trunk:
            part = before[0].tail
            before = self.arriving.get(part, [])
        return part.id

    def _is_parallel(self, part: Part) -> bool:
        """Whether a box is one of several that lead from one place to one layer, as to queries, keys and values."""
        heads = [edge.head for edge in self.leaving.get(part, ())]
        if len(heads) != 1 or heads[0].kind not in SOLID:
            return False
        tails = [edge.tail for edge in self.arriving[heads[0]]]
        sources = [self.arriving.get(tail, []) for tail in tails]
        return len(tails) > 2 and all(len(s) == 1 and s[0].tail is sources[0][0].tail for s in sources)

    def _looks(self, edge: Edge) -> dict[str, str]:
        """The attributes of an arrow for `dot`."""
        looks = {"weight": "0" if edge.is_skip else "2" if edge.kind == "projection" else "10"}
        if edge.tail.kind == "merge" and edge.tail in self.texts:
            # Layers for the text.
            looks["minlen"] = f"{1 + ceil(self.texts[edge.tail][2][1 if self.down else 0] / RANK_GAP)}"
        if not edge.is_skip:
            if len(self.leaving[edge.tail]) > 1:
                looks["weight"] = "30"  # branches begin where they fork, and wait where they meet
            if edge.head.kind in SOLID:
                looks["headport"] = "n" if self.down else "w"
            begins = edge.tail.kind in SOLID or (edge.tail.kind == "merge" and edge.tail in self.texts)
            if begins and not self._branches_off(edge):
                looks["tailport"] = "s" if self.down else "e"  # from under the text
        if edge.head.kind == "entry":
            looks["arrowhead"] = "none"
        return looks

    def _branches_off(self, edge: Edge) -> bool:
        """Whether an arrow leaves the path that others from its tail continue."""
        others = [e for e in self.leaving[edge.tail] if not e.is_skip]
        return len(others) > 1 and edge.head not in self.trunk

    def _heading(self, part: Part) -> Size:
        """Room for the heading of a frame, beside the arrow that comes in through the middle of its upper side."""
        words = self.writer.title(self.writer.captions.frame(part), bold=part.count > 1)
        return (words.width * (2 if self.down else 1) + 4 * MARGIN if words.text else 0), LINE_HEIGHT * HEADING - 2

    def _branches(self, frame: Part | None) -> list[list[Part]]:
        """The boxes with which branches begin that fork in one place: they are placed side by side."""
        forks: dict[Part, list[Part]] = {}
        for edge in self.edges.get(frame, ()):
            alone = len(self.arriving[edge.head]) == 1 and edge.head.kind in ("layers", "block")
            if alone and self.home[edge.head] is frame:
                forks.setdefault(edge.tail, []).append(edge.head)
        return [heads for heads in forks.values() if len(heads) > 1]

    def _room(self, part: Part) -> Size:
        """The size of a box, with the text beside it, and the room in which its arrows part."""
        width, height = self.writer.measure(part)
        if part in self.notes:  # on the left; boxes are as wide to the right, so that their arrows run in the middle
            width, height = 2 * self._aside(part)[1], height + 2 * max(self.notes[part][1][1] - RANK_GAP, 0)
        if part in self.texts and part.kind == "entry":  # several beside each other
            _, _, (text_width, text_height) = self.texts[part]
            return (max(width, text_width), height) if self.down else (width, max(height, text_height))
        if part in self.texts and part.kind != "merge":
            _, _, (text_width, text_height) = self.texts[part]
            width, height = max(width, text_width), height + text_height * (1 if self.down else 2)
        elif part in self.spaced:
            height += TEXT_ROOM
        turn = TURN if part in self.forks and part.kind != "merge" else 0.0
        return (width, height + turn) if self.down else (width + turn, height)

    def _aside(self, part: Part) -> tuple[float, float]:
        """How far from the middle of a merge its note ends and begins: beside its sign, and the text below it."""
        width = self.writer.measure(part)[0]
        if part in self.texts and self.down:
            width = max(width, self.texts[part][2][0])
        return width / 2 + 4, width / 2 + 4 + self.notes[part][1][0]

    # ------------------------------------------------------------ the answer

    def read(self, found: dict[str, Any]) -> Layout | None:
        """The layout that Graphviz gave as JSON; None if it lacks a curve that is needed."""
        layout = Layout()
        objects = found.get("objects", [])
        parts = {part.id: part for top in self.picture.parts for part in top.walk()}
        for thing in objects:
            part = parts.get(thing["name"].removeprefix("cluster_"))
            if part is None:
                continue
            if part.children:
                left, _, right, _ = map(float, thing["bb"].split(","))
                self.kept[part] = (left, right)
                continue
            x, y = map(float, thing["pos"].split(","))
            layout.sizes[part] = self.writer.measure(part)
            if part in self.forks and part.kind != "merge":
                x, y = (x, y + TURN / 2) if self.down else (x - TURN / 2, y)
            layout.places[part] = (x, y)
            if part in self.texts:
                edge, lines, size = self.texts[part]
                at, layout.places[part] = self._beside(part, (x, y), size)
                layout.labels[edge] = Label(lines, size, at)
            elif part in self.spaced:
                layout.places[part] = (x, y + TEXT_ROOM / 2)
            if part in self.notes:
                lines, (width, height) = self.notes[part]
                (x, y), middle = layout.places[part], layout.sizes[part][1] / 2
                at = (x - self._aside(part)[0] - width / 2, y - middle - height / 2 + 2)
                layout.notes[part] = Label(lines, (width, height), at)
        ends = {(edge.tail.id, edge.head.id): edge for edge in self.picture.edges}
        swings = {
            ends[objects[thing["tail"]]["name"], objects[thing["head"]]["name"]]: thing["pos"]
            for thing in found.get("edges", [])
            if "pos" in thing
        }
        return self._squeezed(layout) if self._lead(layout, swings) else None

    def _lead(self, layout: Layout, swings: Mapping[Edge, str]) -> bool:
        """Finds the routes of all arrows: inner ones first, since frames grow by what runs in them.

        Gives whether all have one.
        """
        self._frame(layout, self.picture.parts)

        def order(edge: Edge) -> tuple[object, ...]:
            (x1, y1), (x2, y2) = layout.places[edge.tail], layout.places[edge.head]
            across, far = (x1 - x2, y1 - y2) if self.down else (y1 - y2, x1 - x2)
            return edge.is_skip, abs(across) > 1, abs(far), edge.tail.id, edge.head.id

        depths: dict[int, list[Edge]] = {}
        for edge in self.picture.edges:
            depths.setdefault(len(self._common(edge)), []).append(edge)
        for depth in sorted(depths, reverse=True):
            headings = {part: size[1] for part in layout.frames if (size := self._heading(part))[0]}
            landings = self._landings(layout)
            router = Router(layout, self.frames, self.forks, headings, landings, down=self.down)
            for edge in sorted(depths[depth], key=order):
                corners = router.find(edge)
                if corners is not None:
                    layout.lead(edge, corners)
                elif edge in swings:
                    layout.routes[edge] = self._swing(layout, edge, swings[edge])
                else:
                    return False
            for edge in tuple(router.overlaid):
                if edge in depths[depth] and (corners := router.again(edge)) is not None:
                    layout.lead(edge, corners)
            self._frame(layout, self.picture.parts)
        return True

    def _landings(self, layout: Layout) -> dict[Edge, float]:
        """How far beside the middle of a layer or block each of several arrows arrives, in the order of their tails.

        One that comes straight keeps its way.
        """
        axis = 0 if self.down else 1
        found: dict[Edge, float] = {}
        for head, edges in self.arriving.items():
            several = [edge for edge in edges if not edge.is_skip]
            if not all(self._leaves_room(edge, layout.sizes[head][axis]) for edge in several):
                continue
            if len(several) < 2 or head.kind not in SOLID:
                continue
            at, sign = layout.places[head][axis], 1 if self.down else -1
            wanted = {edge: sign * (layout.places[edge.tail][axis] - at) for edge in several}
            several.sort(key=lambda edge: wanted[edge])
            places = spread([wanted[edge] for edge in several], SPREAD * layout.sizes[head][axis] / 2)
            found |= zip(several, places, strict=True)
        return found

    def _leaves_room(self, edge: Edge, side: float) -> bool:
        """Whether the headings of the frames that an arrow enters have room beside several arrows."""
        entered = self.frames[edge.head][len(self._common(edge)) :]
        widths = [(self._heading(frame)[0], *self.kept[frame]) for frame in entered if frame in self.kept]
        return all(not width or high - low >= width + SPREAD * side for width, low, high in widths)

    def _squeezed(self, layout: Layout) -> Layout:
        """Without the room between layers that `dot` leaves for the sides of frames."""
        low, high = (1, 3) if self.down else (0, 2)
        rooms = list(map(layout.box, layout.places))
        rooms += [label.box for label in (*layout.labels.values(), *layout.notes.values())]
        intervals = [(room[low], room[high]) for room in rooms]
        for part in self.forks:
            x, y = layout.places[part]
            width, height = layout.sizes[part]
            under = y - height / 2 - (self.texts[part][2][1] if part in self.texts else 0.0)
            intervals.append((under - TURN, under) if self.down else (x + width / 2, x + width / 2 + TURN))
        for part, box in layout.frames.items():
            width, height = self._heading(part)
            intervals += [(box[low], box[low]), (box[high], box[high])]
            intervals.append((box[3] - height - 4, box[3]) if self.down else (box[0], box[0] + width))
        to = squeezed(intervals, RANK_GAP)
        return layout.mapped((lambda p: (p[0], to(p[1]))) if self.down else (lambda p: (to(p[0]), p[1])))

    def _frame(self, layout: Layout, parts: Iterable[Part]) -> list[Box]:
        """Draws frames around what they hold; gives the rooms of these parts and of the arrows between them."""
        rooms: list[Box] = []
        for part in parts:
            if not part.children:
                rooms.append(layout.box(part))
                if part in layout.notes:
                    rooms.append(layout.notes[part].box)
                if part in self.texts:
                    label = layout.labels[self.texts[part][0]]
                    rooms.append(label.box)
                continue
            inside = self._frame(layout, part.children)
            routes = [samples(layout.routes[edge]) for edge in self.edges.get(part, ()) if edge in layout.routes]
            inside += [(x, y, x, y) for route in routes for x, y in route]
            left, bottom, right, top = union(inside)
            heading, height = self._heading(part)
            width = max(heading, right - left + 2 * MARGIN)
            middle = (left + right) / 2
            # Room for the heading on both sides, within what `dot` kept free.
            low, high = self.kept.get(part, (middle - width / 2, middle + width / 2))
            left = min(left - MARGIN, max(min(middle - width / 2, high - width), low))
            top += height if heading else 0
            frame = (left, bottom - MARGIN, max(left + width, right + MARGIN), top + MARGIN)
            layout.frames[part] = frame
            rooms.append(frame)
        return rooms

    def _beside(self, part: Part, at: Point, text: Size) -> tuple[Point, Point]:
        """The middles of the text and of the box, in a room with its middle at a point."""
        x, y = at
        (width, height), (text_width, text_height) = self.writer.measure(part), text
        if part.kind == "entry":
            return ((x, y + height / 2 + text_height / 2) if self.down else (x - width - text_width / 2, y)), at
        if part.kind == "merge":
            if self.down:
                return (x, y - height / 2 - text_height / 2), at
            return (x + width / 2 + text_width / 2, y - text_height / 2), at
        if self.down:
            return (x, y - height / 2), (x, y + text_height / 2)
        return (x, y - height / 2 - text_height / 2), at

    def _swing(self, layout: Layout, edge: Edge, pos: str) -> list[Point]:
        """The route that `dot` found, from the side of the box on."""
        pieces = [piece.removeprefix("e,").split(",") for piece in pos.split()]
        points = [(float(x), float(y)) for x, y in pieces]
        if pos.startswith("e,"):
            points = [*points[1:], points[0]]
        left, bottom, right, top = layout.box(edge.tail)
        x1, y1 = points[0]
        start = (min(max(x1, left), right), min(max(y1, bottom), top))
        return [start, *straight(start, points[0]), *points[1:]]


def spread(wanted: Sequence[float], limit: float) -> list[float]:
    """Places on a side, from -limit to limit, for arrows that come from `wanted`, in order: as near to these as leaves
    them apart. One that comes straight, from about 0, keeps its way."""
    straight = next((n for n, at in enumerate(wanted) if abs(at) < 1), None)
    last = len(wanted) - 1
    steps = max(straight, last - straight, 1) if straight is not None else max(last, 1) / 2
    gap = min(APART, limit / steps)
    found = [max(-limit, min(limit, at)) for at in wanted]
    if straight is not None:
        found[straight] = 0.0
    for n in range(1, last + 1):
        found[n] = max(found[n], found[n - 1] + gap) if n != straight else found[n]
    for n in range(last, -1, -1):
        highest = limit if n == last else found[n + 1] - gap
        found[n] = min(found[n], highest)
    return found


def _space(width: float, height: float) -> str:
    """A label that takes room alone."""
    size = f' FIXEDSIZE="TRUE" WIDTH="{width:.0f}" HEIGHT="{height:.0f}"'
    return f"<{table('<TR><TD></TD></TR>', size)}>"
