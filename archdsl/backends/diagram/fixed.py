"""Dot text of a picture whose layout is our own: Graphviz only draws it (`neato -n2`)."""

from __future__ import annotations

from itertools import pairwise
from math import hypot

from archdsl.backends.diagram.dot import Writer
from archdsl.backends.diagram.labels import Words, extent, label, legend_extent, legend_label
from archdsl.backends.diagram.picture import Part, Picture
from archdsl.backends.diagram.ushape import Layout, Point, Size

ARROW = 6.0
"""Length of an arrow's head, in points."""

OUTLINE = 8.0
"""What a second outline adds to a box, in points."""


def measure(writer: Writer, part: Part) -> Size:
    """Width and height of a box, in points, with room to spare."""
    if part.kind == "merge":
        return (22.0, 22.0)
    width, height = extent(writer.lines(part))
    outline = OUTLINE if part.count > 1 else 0
    return (max(width + 20, 40) + outline, height + 12 + outline)


def write_fixed(picture: Picture, layout: Layout, writer: Writer) -> str:
    """The picture with its boxes and arrows where the layout has them, and the legend under it."""
    heading, entries = writer.heading(), writer.legend([picture])
    left, bottom, right, top = layout.bounds()
    width, height = legend_extent(heading, entries)
    middle, floor = (left + right) / 2, bottom - 24 - height
    dot = writer.new(
        bb=f"{min(left, middle - width / 2):g},{floor:g},{max(right, middle + width / 2):g},{top:g}", splines="true"
    )
    for part in picture.boxes():
        looks = writer.box(part)
        notes = looks.pop("xlabel", "")
        w, h = layout.sizes[part]
        if part.count > 1:
            w, h = w - OUTLINE, h - OUTLINE
        size = {"width": f"{w / 72:.4g}", "height": f"{h / 72:.4g}", "fixedsize": "true"}
        x, y = layout.places[part]
        dot.node(part.id, **looks | size, pos=place((x, y)))
        if notes:
            lines = [[Words(note, 8, writer.theme.muted)] for note in writer.captions.box(part).notes]
            note_width, note_height = extent(lines)
            at = (x - w / 2 - note_width / 2 - 8, y - note_height / 2 - 3)
            dot.node(f"{part.id}_note", label=notes, shape="plain", style="", pos=place(at), tooltip=" ")
    sized = writer.sizes(picture, skips=True)
    for edge in picture.edges:
        dot.edge(edge.tail.id, edge.head.id, pos=spline(layout.routes[edge]), **writer.arrow(edge))
    for edge, words in sized.items():
        # A patch of the page's colour under the text, so that the arrow stops at it.
        text = label(words, padding=2, background=writer.theme.background)
        name = f"{edge.tail.id}_{edge.head.id}_size"
        dot.node(name, label=text, shape="plain", style="", pos=place(layout.labels[edge]), tooltip=" ")
    dot.node(
        "legend",
        label=legend_label(heading, entries),
        shape="plain",
        style="",
        pos=place((middle, floor + height / 2)),
        tooltip=" ",
    )
    return str(dot.source)


def place(point: Point) -> str:
    return f"{point[0]:.2f},{point[1]:.2f}"


def spline(corners: list[Point]) -> str:
    """A way along corners as Graphviz's spline, its arrowhead at the end."""
    (x1, y1), (x2, y2) = corners[-2:]
    length = max(hypot(x2 - x1, y2 - y1), 1e-6)
    base = (x2 - ARROW * (x2 - x1) / length, y2 - ARROW * (y2 - y1) / length)
    points = [corners[0]]
    for (ax, ay), (bx, by) in pairwise([*corners[:-1], base]):
        points += [(ax + (bx - ax) / 3, ay + (by - ay) / 3), (ax + 2 * (bx - ax) / 3, ay + 2 * (by - ay) / 3), (bx, by)]
    return " ".join([f"e,{place(corners[-1])}", *map(place, points)])
