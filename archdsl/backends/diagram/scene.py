"""A finished drawing as shapes with coordinates: what TikZ is written from, and how our own figures reach Graphviz."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Literal

import graphviz

from archdsl.backends.diagram.theme import FONT
from archdsl.common.escaping import xdot

Point = tuple[float, float]
Dash = Literal["solid", "dashed", "dotted"]


@dataclass(frozen=True, slots=True)
class Pen:
    """The looks of a line and of what it surrounds: colours as `#rrggbb` or empty for none, the width in points."""

    stroke: str = ""
    fill: str = ""
    width: float = 1.0
    dash: Dash = "solid"


@dataclass(frozen=True, slots=True)
class Polygon:
    """A closed shape, or, where not `closed`, a line along its corners."""

    points: tuple[Point, ...]
    pen: Pen
    closed: bool = True


@dataclass(frozen=True, slots=True)
class Curve:
    """Cubic Bézier pieces: a start, then two control points and an end for each. Filled where its pen has a fill."""

    points: tuple[Point, ...]
    pen: Pen


@dataclass(frozen=True, slots=True)
class Ellipse:
    """`radii` along x and y."""

    centre: Point
    radii: Point
    pen: Pen


@dataclass(frozen=True, slots=True)
class Text:
    """A line of text, centred on x, its baseline at y; `width` is the room that it was given, in points."""

    at: Point
    text: str
    size: float
    color: str
    bold: bool = False
    width: float = 0.0


Shape = Polygon | Curve | Ellipse | Text


@dataclass(frozen=True, slots=True)
class Thing:
    """The meaning of a group of shapes: a box or a frame by its name, an arrow by the names of its ends.

    The names are those of the parts of a picture, with a prefix in an inset; the legend has none.
    """

    shapes: tuple[Shape, ...]
    name: str = ""
    ends: tuple[str, str] | None = None
    frame: bool = False


@dataclass(frozen=True, slots=True)
class Scene:
    """Things in the order of painting, within `bounds` (left, bottom, right, top, in points); y grows upwards."""

    things: tuple[Thing, ...]
    bounds: tuple[float, float, float, float]

    @property
    def shapes(self) -> tuple[Shape, ...]:
        return tuple(shape for thing in self.things for shape in thing.shapes)

    def texts(self, *names: str) -> list[str]:
        """The lines of text of a box or frame, or of the arrow between two boxes."""
        found = [t for t in self.things if (t.ends == names if len(names) == 2 else (t.name,) == names)]
        return [s.text for thing in found for s in thing.shapes if isinstance(s, Text)]

    def strokes(self, tail: str, head: str) -> int:
        """The number of parallel strokes of an arrow, 0 if there is none."""
        arrow = next((thing for thing in self.things if thing.ends == (tail, head)), None)
        return sum(isinstance(s, Curve) and not s.pen.fill for s in arrow.shapes) if arrow else 0


# ---------------------------------------------------------------- from a layout of Graphviz


def from_layout(text: str | bytes) -> Scene:
    """The scene of a drawing that Graphviz gave as JSON."""
    layout = json.loads(text)
    left, bottom, right, top = map(float, layout["bb"].split(","))
    objects, edges = layout.get("objects", []), layout.get("edges", [])
    frames = [o for o in objects if "nodes" in o or "subgraphs" in o or o["name"].startswith("cluster")]
    boxes = [o for o in objects if o not in frames]
    names = {o["_gvid"]: o["name"] for o in objects}
    things: list[Thing] = []
    for thing in [layout, *frames, *edges, *boxes]:
        shapes = [s for part in ("_draw_", "_hdraw_", "_ldraw_") for s in _shapes(thing.get(part, ()))]
        ends = (names[thing["tail"]], names[thing["head"]]) if "tail" in thing else None
        name = "" if ends or thing is layout else thing["name"].removeprefix("cluster_").removesuffix("_note")
        things.append(Thing(tuple(shapes), name, ends, thing in frames))
    return Scene(tuple(things), (left, bottom, right, top))


def _shapes(operations: Iterable[dict[str, Any]]) -> Iterator[Shape]:
    """The shapes of a list of xdot operations, which set a state and paint with it."""
    stroke, fill, width, size, bold = "", "", 1.0, 9.0, False
    dash: Dash = "solid"
    for op in operations:
        match op["op"]:
            case "c":
                stroke = _color(op["color"])
            case "C":
                fill = _color(op["color"])
            case "S":
                style = op["style"]
                if style.startswith("setlinewidth("):
                    width = float(style[13:-1])
                elif style in ("solid", "dashed", "dotted"):
                    dash = style
            case "F":
                size = op["size"]
            case "t":
                bold = bool(op["fontchar"] & 1)
            case "T":
                x, y = op["pt"]
                middle = x + {"l": 0.5, "c": 0.0, "r": -0.5}[op["align"]] * op["width"]
                yield Text((middle, y), op["text"], size, stroke, bold, op["width"])
            case "P" | "p" | "L" | "B" | "b" as kind:
                # In Graphviz's JSON `B` is the filled one; in xdot's text it is `b`.
                pen = Pen(stroke, fill if kind in "PB" else "", width, dash)
                points = tuple((x, y) for x, y in op["points"])
                yield Curve(points, pen) if kind in "Bb" else Polygon(points, pen, kind != "L")
            case "E" | "e" as kind:
                x, y, w, h = op["rect"]
                yield Ellipse((x, y), (w, h), Pen(stroke, fill if kind == "E" else "", width, dash))
            case _:
                pass


def _color(text: str) -> str:
    """`#rrggbb`, empty for a transparent colour."""
    if not text.startswith("#"):
        return {"black": "#000000", "white": "#ffffff"}.get(text, "")
    return "" if len(text) == 9 and text.endswith("00") else text[:7]


# ---------------------------------------------------------------- to Graphviz


def as_dot(scene: Scene, background: str) -> str:
    """Dot text of a graph that shows the scene as its background, above a colour: Graphviz writes it in all its
    formats."""
    left, bottom, right, top = scene.bounds
    dot = graphviz.Digraph(name="network")
    dot.attr(pad="0", margin="0", bgcolor=background, bb=f"{left:g},{bottom:g},{right:g},{top:g}")
    for name, x, y in (("a", left, bottom), ("b", right, top)):
        dot.node(name, label="", shape="point", style="invis", width="0.01", pos=f"{x:.2f},{y:.2f}")
    # Graphviz takes no string of more than 16 K, but the sum of several. `xdot` leaves nothing in it to quote.
    text = " ".join(piece for shape in scene.shapes for piece in _xdot(shape))
    parts = " +\n\t\t".join(f'"{text[i : i + 8000]}"' for i in range(0, len(text), 8000))
    return str(dot.source).replace("{\n", f"{{\n\t_background={parts}\n", 1)


def _xdot(shape: Shape) -> Iterator[str]:
    match shape:
        case Text():
            yield f"F {shape.size:g} {xdot(FONT)}"
            yield f"t {1 if shape.bold else 0} c {xdot(shape.color)}"
            x, y = shape.at
            yield f"T {x:.2f} {y:.2f} 0 {shape.width:.2f} {xdot(shape.text)}"
        case Ellipse():
            yield _pen(shape.pen)
            (x, y), (w, h) = shape.centre, shape.radii
            yield f"{'E' if shape.pen.fill else 'e'} {x:.2f} {y:.2f} {w:.2f} {h:.2f}"
        case Polygon() | Curve():
            yield _pen(shape.pen)
            if isinstance(shape, Curve):
                letter = "b" if shape.pen.fill else "B"
            else:
                letter = "L" if not shape.closed else "P" if shape.pen.fill else "p"
            points = " ".join(f"{x:.2f} {y:.2f}" for x, y in shape.points)
            yield f"{letter} {len(shape.points)} {points}"


def _pen(pen: Pen) -> str:
    fill = f" C {xdot(pen.fill)}" if pen.fill else ""
    return f"S {xdot(f'setlinewidth({pen.width:g})')} S {xdot(pen.dash)} c {xdot(pen.stroke or '#ffffff00')}{fill}"
