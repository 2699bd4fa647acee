"""Dot text of pictures with a layout: Graphviz only draws it (`neato -n2`). Names in dot are ours (`p3`), never a
spec's."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

import graphviz

from archdsl.backends.diagram.dot import HEADING, Writer
from archdsl.backends.diagram.labels import LINE_HEIGHT, Legend, extent, label
from archdsl.backends.diagram.layout import Box, Layout, Point, around, meet, samples, union
from archdsl.backends.diagram.picture import Part, Picture

GAP, LEGEND_GAP = 22.0, 12.0
"""Points between pictures beside each other, and to the legend."""

MARGIN = 10.0
"""Points between the frame of an inset and its picture."""

INDENT = 8.0
"""Points from the corner of a frame to its heading."""


@dataclass(frozen=True, slots=True)
class Drawn:
    """A picture with its layout; an inset has a heading, and a frame around it."""

    picture: Picture
    layout: Layout
    heading: str = ""
    width: float = 0.0
    """The least width of its frame, in points."""
    cuttable: bool = True
    """Whether it may be cut into columns where it is long."""

    def moved(self, dx: float, dy: float) -> Drawn:
        return replace(self, layout=self.layout.moved(dx, dy))

    def box(self, writer: Writer) -> Box:
        """The room of all of it."""
        notes = [room for part in self.layout.places if (room := note_room(self.layout, part, writer))]
        left, bottom, right, top = union([self.layout.bounds(), *notes])
        if not self.heading:
            return left, bottom, right, top
        width = max(max(right - left, writer.title(self.heading).width) + 2 * MARGIN, self.width)
        x = (left + right - width) / 2
        return x, bottom - MARGIN, x + width, top + MARGIN + LINE_HEIGHT * HEADING


def note_room(layout: Layout, part: Part, writer: Writer) -> Box | None:
    """The room of the lines beside the sign of a merge, left of where its arrow leaves, or below it."""
    if part in layout.notes:
        return layout.notes[part].box
    if not (notes := writer.notes(part)):
        return None
    if layout.notes_below:
        x, low = layout.places[part][0], layout.box(part)[1]
        low -= sum(label.size[1] for edge, label in layout.labels.items() if edge.tail is part)
        width, height = extent(notes)
        return around((x, low - height / 2), (width, height))
    left, bottom, *_ = layout.box(part)
    width, height = extent(notes)
    return around((left - width / 2 - 4, bottom - height / 2 + 2), (width, height))


def _sheet(drawn: Sequence[Drawn], writer: Writer, width: float) -> tuple[Box, Legend]:
    """The room of the pictures, and the legend below them, which may be as wide as they are, or as a given width."""
    room = union(one.box(writer) for one in drawn) if drawn else (0.0, 0.0, 0.0, 0.0)
    entries = writer.legend([one.picture for one in drawn])
    return room, Legend.within(max(width - 2 * writer.pad, room[2] - room[0]), writer.heading(), entries)


def page_size(drawn: Sequence[Drawn], writer: Writer, width: float = 0.0) -> tuple[float, float]:
    """Width and height of the whole, with its margin; a `width` is given to the legend."""
    (left, bottom, right, top), legend = _sheet(drawn, writer, width)
    across, height = legend.size if legend.heading or legend.rows else (0.0, 0.0)
    below = height + LEGEND_GAP if height else 0.0
    return max(right - left, across) + 2 * writer.pad, top - bottom + below + 2 * writer.pad


def write_fixed(drawn: Sequence[Drawn], writer: Writer, width: float = 0.0) -> str:
    """Dot text of the pictures, at their places, and the legend below them, which may have a width."""
    (left, bottom, right, top), legend = _sheet(drawn, writer, width)
    across, height = legend.size if legend.heading or legend.rows else (0.0, 0.0)
    middle, floor = (left + right) / 2, bottom - LEGEND_GAP - height if height else bottom
    left, right = min(left, middle - across / 2), max(right, middle + across / 2)
    place_of_legend = place((middle, floor + height / 2))
    words = {"label": legend.label, "lp": place_of_legend} if height else {}
    dot = writer.new(bb=bounds((left, floor, right, top)), splines="true", **words)
    for number, one in enumerate(drawn):
        _Page(one, writer, f"i{number}_" if number else "").write(dot)
    return str(dot.source)


class _Page:
    """Writes one picture."""

    def __init__(self, drawn: Drawn, writer: Writer, prefix: str) -> None:
        self.drawn = drawn
        self.layout = drawn.layout
        self.writer = writer
        self.prefix = prefix
        self.routes = [samples(route, 24) for route in self.layout.routes.values()]

    def write(self, dot: graphviz.Digraph) -> None:
        parts = self.drawn.picture.parts
        if self.drawn.heading:
            box = self.drawn.box(self.writer)
            with dot.subgraph(name=f"cluster_{self.prefix}inset") as frame:
                frame.attr(**self.writer.frame(0), **self._heading(self.drawn.heading, box, bold=False))
                self._parts(frame, parts, 1)
        else:
            self._parts(dot, parts, 0)
        for edge in self.drawn.picture.edges:
            looks, route = self.writer.arrow(edge), self.layout.routes[edge]
            if edge in self.layout.labels:
                text = self.layout.labels[edge]
                # On its arrow a text has a patch of the page's colour under it.
                inner = around(text.at, (text.size[0] - 2, text.size[1] - 4))
                on_it = any(meet((x, y, x, y), inner) for x, y in samples(route, 24))
                ground = self.writer.theme.background if on_it else ""
                looks |= {"label": label(text.lines, background=ground), "lp": place(text.at)}
            ends = (self.prefix + edge.tail.id, self.prefix + edge.head.id)
            dot.edge(*ends, pos=spline(route), **looks)

    def _parts(self, dot: graphviz.Digraph, parts: Iterable[Part], level: int, around: Box | None = None) -> None:
        """Writes parts, only those within a piece of a frame if there is one `around`."""
        writer = self.writer
        for part in parts:
            if part.children:
                for number, box in enumerate([self.layout.frames[part], *self.layout.continued.get(part, ())]):
                    if around is None or meet(around, box):
                        name = f"cluster_{self.prefix}{part.id}" + (f"_{number}" if number else "")
                        with dot.subgraph(name=name) as frame:
                            frame.attr(**writer.frame(level, part))
                            frame.attr(**self._heading(writer.captions.frame(part), box, bold=part.count > 1))
                            self._parts(frame, part.children, level + 1, box)
                continue
            if around is not None and not meet(around, self.layout.box(part)):
                continue
            dot.node(
                self.prefix + part.id, pos=place(self.layout.places[part]), **writer.box(part, self.layout.sizes[part])
            )
            if room := note_room(self.layout, part, writer):
                looks = {"label": label(writer.notes(part)), "shape": "plain", "style": "", "tooltip": " "}
                at = place(((room[0] + room[2]) / 2, (room[1] + room[3]) / 2))
                dot.node(f"{self.prefix}{part.id}_note", pos=at, **looks)

    def _heading(self, text: str, box: Box, *, bold: bool) -> dict[str, str]:
        """The attributes that place a frame and its heading, which is where no arrow runs through it."""
        looks = {"bb": bounds(box)}
        if not text:
            return looks | {"label": ""}
        words = self.writer.title(text, bold=bold)
        height = LINE_HEIGHT * HEADING
        left, _, right, top = box
        first, last = left + INDENT + words.width / 2, right - INDENT - words.width / 2
        steps = max(int((last - first) / INDENT), 0)
        middles = [first, last, *(first + INDENT * step for step in range(1, steps))]
        places = [(x, top - 3 - height / 2) for x in middles]
        free = (at for at in places if not any(self._through(at, (words.width + 4, height))))
        return looks | {"label": label([[words]]), "lp": place(next(free, places[0]))}

    def _through(self, at: Point, size: tuple[float, float]) -> Iterator[bool]:
        room = around(at, size)
        return (meet((x, y, x, y), room) for route in self.routes for x, y in route)


def bounds(box: Box) -> str:
    return ",".join(f"{value:.2f}" for value in box)


def place(point: Point) -> str:
    return f"{point[0]:.2f},{point[1]:.2f}"


def spline(route: Sequence[Point]) -> str:
    """A route as Graphviz's spline."""
    head = [f"e,{place(route[-1])}"] if len(route) % 3 == 2 else []
    return " ".join([*head, *map(place, route[: len(route) - len(head)])])
